from __future__ import annotations

import io
import json
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skex.base import codes
from skex.base.errors import ErrorCode, Refused, SkexError, StoreFault
from skex.base.ids import Direction, HubName, KmeName, LinkId
from skex.base.secret import Secret
from skex.daemon import evidence
from skex.daemon.config import load_hub, load_kme
from skex.daemon.enrolment import KmeHome, open_hub, open_kme
from skex.daemon.homes import init_hub, init_kme
from skex.enrol.creating import KitOrder
from skex.enrol.importing import ImportedKit
from skex.enrol.links import pad_name
from skex.enrol.passphrase import parse_passphrase
from skex.enrol.realm import Changes, next_epoch
from skex.pad.kinds import PadKind
from skex.runtime import clock
from skex.wire.realm import Realm
from tests.unit.enrol.kit_support import CHEAP, PASSPHRASE, make_realm

KME = KmeName("site-a")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    realm = make_realm().to_bytes()
    for number in (1, 2, 3):
        init_hub(tmp_path / f"hub-{number}", HubName(f"hub-{number}"), realm, {})
    init_kme(tmp_path / KME, KME, {})
    return tmp_path


def kit(root: Path, number: int = 1, *, kind: PadKind = PadKind.DERIVED, replace: bool = False) -> bytes:
    sink = io.BytesIO()
    with open_hub(load_hub(root / f"hub-{number}")) as home:
        units = 40 if kind is PadKind.TABLE else 0
        order = KitOrder(
            realm=home.realm,
            hub=home.name,
            kme=KME,
            kind=kind,
            created=clock.unix_seconds(),
            units_to_hub=units,
            units_to_kme=units,
            passphrase=parse_passphrase(PASSPHRASE),
            cost=CHEAP,
        )
        home.create_kit(order, sink, lambda: None, replace=replace, progress=lambda _: None)
    return sink.getvalue()


def bring(home: KmeHome, data: bytes, *, replace: bool = False) -> ImportedKit:
    return home.import_kit(
        io.BytesIO(data), lambda: parse_passphrase(PASSPHRASE), replace=replace, progress=lambda _: None
    )


def import_kit(root: Path, data: bytes, *, replace: bool = False) -> ImportedKit:
    with open_kme(load_kme(root / KME)) as home:
        return bring(home, data, replace=replace)


def records(home: Path) -> Iterator[dict[str, object]]:
    for segment in sorted((home / "audit").iterdir()):
        for line in segment.read_text().splitlines():
            yield json.loads(line)


def told(home: Path) -> list[tuple[object, object, object]]:
    return [(one["event"], one["verdict"], one["cause"]) for one in records(home)][1:]


def test_three_kits_make_a_kme_whose_realm_is_in_force(root: Path) -> None:
    kinds = (PadKind.DERIVED, PadKind.TABLE, PadKind.DERIVED)
    states = [import_kit(root, kit(root, number, kind=kinds[number - 1])).verdict for number in (1, 2, 3)]
    assert [(one.kits, one.needed, one.is_in_force) for one in states] == [
        (1, 2, False),
        (2, 2, True),
        (2, 2, True),
    ]
    with open_kme(load_kme(root / KME)) as home:
        held = home.realms.held()
        assert held is not None
        assert held.data == make_realm().to_bytes()
        assert home.realms.collected() is None
        links = {one.link.hub: one.link for one in home.links()}
    for number in (1, 2, 3):
        with open_hub(load_hub(root / f"hub-{number}")) as at_hub:
            (stored,) = at_hub.links()
            assert stored.link == links[stored.link.hub]
            assert stored.link.kind is kinds[number - 1]


def test_collection_outlives_a_restart_and_refuses_another_realm(root: Path) -> None:
    import_kit(root, kit(root, 1))
    later = next_epoch(make_realm(), Changes(threshold=3), issued=1)
    with open_hub(load_hub(root / "hub-2")) as home:
        home.update_realm(later)
    with pytest.raises(Refused, match="realm-mismatch"):
        import_kit(root, kit(root, 2))


def test_damaged_collection_is_a_fault_of_the_store(root: Path) -> None:
    with open_kme(load_kme(root / KME)) as home:
        home.realms._store.set_meta("collected", '{"realm": 5}')
        with pytest.raises(StoreFault, match="store-corrupt"):
            home.realms.collected()


def test_pads_of_a_replaced_link_are_erased_at_both_ends(root: Path) -> None:
    old = import_kit(root, kit(root)).header.link_id
    new = import_kit(root, kit(root, replace=True), replace=True).header.link_id
    for name in (KME, "hub-1"):
        present = {path.name for path in (root / name / "pads").iterdir()}
        assert not any(pad.startswith(old.hex()) for pad in present)
        assert len([pad for pad in present if pad.startswith(new.hex())]) == 2


def test_pads_that_a_crash_left_are_swept_by_the_next_command(root: Path) -> None:
    stray = root / KME / "pads" / pad_name(LinkId(b"leftover"), Direction.TO_HUB)
    stray.write_bytes(b"\1" * 5000)
    (root / KME / "pads" / "readme").write_text("kept")
    import_kit(root, kit(root))
    assert not stray.exists()
    assert (root / KME / "pads" / "readme").exists()


def test_pads_at_rest_are_sealed(root: Path) -> None:
    data = kit(root, kind=PadKind.TABLE)
    imported = import_kit(root, data)
    name = f"{imported.header.link_id.hex()}-to-hub.pad"
    at_hub, at_kme = ((root / home / "pads" / name).read_bytes() for home in ("hub-1", KME))
    assert len(at_hub) == len(at_kme) == (3 + 40) * 4096
    assert at_hub[3 * 4096 :] != at_kme[3 * 4096 :]


def test_home_in_use_is_refused(root: Path) -> None:
    with open_kme(load_kme(root / KME)), pytest.raises(StoreFault, match="home-in-use"):
        import_kit(root, b"")


def test_wrong_master_key_is_refused_and_changes_nothing(root: Path) -> None:
    right = (root / KME / "master.key").read_bytes()
    (root / KME / "master.key").write_bytes(bytes(32))
    with pytest.raises(StoreFault, match="store-wrong-key"):
        import_kit(root, kit(root))
    (root / KME / "master.key").write_bytes(right)
    import_kit(root, kit(root, replace=True))


@pytest.mark.parametrize(
    ("spoil", "said"), [(lambda key: key.chmod(0o644), "readable by others"), (Path.unlink, "cannot be read")]
)
def test_master_key_that_others_can_read_or_that_is_gone_is_refused(
    root: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(root / KME / "master.key")
    with pytest.raises(StoreFault, match="master-key-invalid") as error:
        import_kit(root, b"")
    assert said in error.value.detail


# ── realm files at hubs ─────────────────────────────────────────────────────────────────────────
def test_hub_serves_and_hands_out_the_later_epoch(root: Path) -> None:
    later = next_epoch(make_realm(), Changes(threshold=3), issued=1)
    with open_hub(load_hub(root / "hub-1")) as home:
        home.update_realm(later)
        assert home.realm == later
    with open_hub(load_hub(root / "hub-1")) as home:
        assert home.realm == later


def epoch(name: str, number: int) -> Realm:
    return make_realm(name=name, epoch=number)


@pytest.mark.parametrize(
    ("later", "code"),
    [
        (epoch("other", 2), codes.REALM_MISMATCH),
        (make_realm(3, 3), codes.REALM_MISMATCH),
        (make_realm(2, 2, epoch=2), codes.REALM_HUB_DROPPED),
    ],
)
def test_file_that_does_not_follow_is_refused(root: Path, later: Realm, code: ErrorCode) -> None:
    with open_hub(load_hub(root / "hub-1")) as home:
        with pytest.raises(Refused) as error:
            home.update_realm(later)
        assert error.value.code is code
        assert home.realm == make_realm()


def test_store_without_a_realm_reads_the_file_that_the_configuration_names(root: Path) -> None:
    with open_hub(load_hub(root / "hub-1")) as home:
        home._hub_store._database.execute("DELETE FROM realm")
    with open_hub(load_hub(root / "hub-1")) as home:
        assert home.realm == make_realm()
        home._hub_store._database.execute("DELETE FROM realm")
    (root / "hub-1" / "realm.cbor").unlink()
    with pytest.raises(StoreFault, match="file-io"), open_hub(load_hub(root / "hub-1")):
        raise AssertionError


# ── evidence ────────────────────────────────────────────────────────────────────────────────────
def test_both_homes_record_who_did_what_with_which_kit(root: Path) -> None:
    first, second = kit(root, 1), kit(root, 2)
    imported = import_kit(root, first)
    import_kit(root, second)
    assert told(root / "hub-1") == [("enrolment-generated", "allowed", "")]
    assert told(root / KME) == [
        ("enrolment-imported", "allowed", ""),
        ("enrolment-imported", "allowed", ""),
        ("enrolment-activated", "", ""),
    ]
    at_hub, at_kme = ([*records(root / name)][1]["subjects"] for name in ("hub-1", KME))
    assert at_hub == at_kme
    assert isinstance(at_hub, dict)
    assert at_hub["kit"] == [imported.fingerprint.hex()]
    assert [*records(root / KME)][1]["actor"] == str(evidence.operator())


def test_refusals_are_recorded_at_both_ends(root: Path) -> None:
    data = kit(root)
    with pytest.raises(Refused, match="link-exists"):
        kit(root)
    with pytest.raises(SkexError):
        import_kit(root, data[:-1])
    assert told(root / "hub-1")[1:] == [("enrolment-generated", "refused", "link-exists")]
    assert told(root / KME) == [("enrolment-imported", "refused", "kit-truncated")]


def test_passphrase_and_key_are_nowhere_in_the_audit_log(root: Path) -> None:
    import_kit(root, kit(root))
    with open_kme(load_kme(root / KME)) as home:
        (stored,) = home.links()
        key: Secret = stored.link.key
    for name in ("hub-1", KME):
        text = "".join(path.read_text() for path in (root / name / "audit").iterdir())
        assert PASSPHRASE not in text
        assert key.expose().hex() not in text


def test_user_whose_name_no_record_can_hold_is_known_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    class User:
        pw_name = "Jörg Müller"

    monkeypatch.setattr(pwd, "getpwuid", lambda _number: User)
    assert evidence.operator().name.startswith("uid-")

    def unknown(_number: int) -> object:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert evidence.operator().name.startswith("uid-")
