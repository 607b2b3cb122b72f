from __future__ import annotations

import errno
import io

import pytest

from skex.base import codes, limits
from skex.base.errors import LocalBug, Refused, StoreFault
from skex.base.ids import Direction
from skex.base.secret import Secret
from skex.enrol.chunks import KitReader
from skex.enrol.creating import KitOrder, create_kit, write_kit
from skex.enrol.importing import Importer
from skex.enrol.kit import UnderPassphrase
from skex.pad.kinds import PadKind
from skex.wire.claim import Enrolment
from tests.unit.enrol import kit_support as support
from tests.unit.enrol.kit_support import End

KINDS = [PadKind.TABLE, PadKind.DERIVED]


@pytest.mark.parametrize("kind", KINDS)
def test_hub_and_kit_hold_the_same_link(kind: PadKind) -> None:
    end = End()
    data = support.create(support.order(kind=kind), end)
    header = support.header_of(data)
    (link,) = end.registry.links.values()
    key = KitReader(io.BytesIO(data)).take(limits.LINK_KEY_BYTES, None)
    assert (link.key, link.link_id, link.hub, link.kme) == (key, header.link_id, "hub-1", "site-a")
    assert (link.kind, link.realm, link.created) == (kind, "example", support.NOW)
    assert link.enrolment is Enrolment.CARRIED_IN_CLEAR
    assert (link.capacity_to_hub, link.capacity_to_kme) == (header.capacity_to_hub, header.capacity_to_kme)


def test_directions_and_kits_share_no_material() -> None:
    end = End()
    seen = set()
    for number, hub in enumerate(("hub-1", "hub-2")):
        header = support.header_of(support.create(support.order(hub=hub), end, seed=number))
        seen |= {end.first_bytes(PadKind.DERIVED, header.link_id, way) for way in Direction}
    assert len(seen) == 4


def test_second_link_with_one_kme_is_refused_before_anything_is_written() -> None:
    end = End()
    support.create(support.order(), end)
    before, sink = end.pads(), io.BytesIO()
    with pytest.raises(Refused, match="link-exists"):
        create_kit(support.order(), sink, end.site, support.chance(1), durable=lambda: None)
    assert (sink.getvalue(), end.pads()) == (b"", before)


def test_replacing_ends_the_old_link() -> None:
    end = End()
    old = support.header_of(support.create(support.order(), end)).link_id
    new = support.header_of(support.create(support.order(), end, seed=1, replace=True)).link_id
    assert set(end.registry.links) == {new}
    assert old in end.registry.known


def test_link_id_that_is_known_is_drawn_again() -> None:
    end = End()
    first = support.header_of(support.create(support.order(), End())).link_id
    end.registry.known.add(first)
    assert support.header_of(support.create(support.order(), end)).link_id != first


@pytest.mark.parametrize(
    "wrong",
    [
        support.order(kind=PadKind.TABLE, units=(0, 1)),
        support.order(kind=PadKind.TABLE, units=(1, limits.PAD_POSITION_MAX + 1)),
        KitOrder(support.make_realm(), support.order().hub, support.KME, PadKind.DERIVED, 0, units_to_hub=1),
    ],
    ids=["no units", "too many units", "units of a derived pad"],
)
def test_units_that_do_not_fit_the_kind_are_a_bug(wrong: KitOrder) -> None:
    with pytest.raises(LocalBug, match="bug-argument"):
        support.create(wrong)


def test_hub_that_the_realm_does_not_list_is_refused() -> None:
    with pytest.raises(Refused, match="hub-not-in-realm"):
        support.create(support.order(hub="hub-9"))


@pytest.mark.parametrize("valid", [0, -1, limits.KIT_SECONDS_MAX + 1])
def test_kit_that_never_or_too_late_expires_is_refused(valid: int) -> None:
    with pytest.raises(Refused, match="kit-malformed"):
        support.create(support.order(valid=valid))


def test_full_disk_leaves_no_link_and_no_pad() -> None:
    end = End()
    end.disk.fail_after(5)
    with pytest.raises(StoreFault, match="pad-io"):
        support.create(support.order(kind=PadKind.TABLE), end)
    assert (end.registry.links, end.pads()) == ({}, [])


def test_medium_that_fails_at_the_last_sync_leaves_no_link_and_no_pad() -> None:
    end = End()

    def pulled_out() -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(StoreFault, match="kit-io"):
        create_kit(support.order(), io.BytesIO(), end.site, support.chance(0), durable=pulled_out)
    assert (end.registry.links, end.pads()) == ({}, [])


def test_link_exists_only_after_the_kit_is_durable() -> None:
    end = End()
    links: list[int] = []
    create_kit(
        support.order(),
        io.BytesIO(),
        end.site,
        support.chance(0),
        durable=lambda: links.append(len(end.registry.links)),
    )
    assert links == [0]
    assert len(end.registry.links) == 1


def test_registry_that_refuses_leaves_no_pads() -> None:
    """Two operators at once: the other one was faster."""
    end = End()
    end.registry.fail_on_add = Refused(codes.LINK_EXISTS)
    with pytest.raises(Refused, match="link-exists"):
        support.create(support.order(), end)
    assert end.pads() == []


def test_store_that_fails_in_doubt_keeps_the_pads() -> None:
    """The row may be durable although the commit said otherwise: a link without pads would be lost."""
    end = End()
    end.registry.fail_on_add = StoreFault(codes.STORE_IO)
    with pytest.raises(StoreFault, match="store-io"):
        support.create(support.order(), end)
    assert len(end.pads()) == 2


# ── beside a hub that runs ──────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("passphrase", [None, support.PASSPHRASE])
def test_kit_that_is_written_first_makes_the_same_link_at_both_ends(
    kind: PadKind, passphrase: str | None
) -> None:
    sink, synced = io.BytesIO(), list[int]()
    written = write_kit(
        support.order(kind=kind, passphrase=passphrase),
        sink,
        support.chance(1),
        durable=lambda: synced.append(len(sink.getvalue())),
    )
    data = sink.getvalue()
    assert synced == [len(data)]
    hub, kme = End(), End()

    def stretched(_: UnderPassphrase) -> Secret:
        assert written.stretched is not None
        return Secret(written.stretched.expose())

    importer = Importer(support.KME, support.NOW, hub.site, support.KitRealms(hub.registry), stretched)
    taken = importer.run(io.BytesIO(data))
    imported = support.import_kit(data, kme)
    assert taken.header == imported.header == written.made.header
    assert taken.fingerprint == imported.fingerprint == written.made.fingerprint
    link_id = taken.header.link_id
    for direction in Direction:
        assert hub.first_bytes(kind, link_id, direction) == kme.first_bytes(kind, link_id, direction)


def test_kit_that_cannot_be_made_durable_is_a_fault_of_its_medium() -> None:
    def pulled_out() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(StoreFault, match="kit-io"):
        write_kit(support.order(), io.BytesIO(), support.chance(1), durable=pulled_out)
