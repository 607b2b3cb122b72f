"""Kits as hostile media bring them: total, canonical, and found out whatever is done to them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skex.base.errors import PeerFault, Refused
from skex.enrol.chunks import KitReader
from skex.enrol.kit import KitHeader
from skex.pad.kinds import PadKind
from tests.unit.enrol import kit_support as support
from tests.unit.enrol.kit_support import End

CLEAR = support.create(support.order())
TABLE = support.create(support.order(kind=PadKind.TABLE, units=(20, 1)))
SEALED = support.create(support.order(passphrase=support.PASSPHRASE))
KITS = (CLEAR, TABLE, SEALED)


def accepted(data: bytes) -> bool:
    try:
        KitReader(io.BytesIO(data)).examine()
    except Refused:
        return False
    return True


@given(st.binary(max_size=2048))
def test_any_bytes_are_a_kit_or_refused(data: bytes) -> None:
    accepted(data)
    accepted(CLEAR[:16] + data)


@given(st.binary(max_size=512))
def test_any_bytes_are_a_canonical_header_or_refused(data: bytes) -> None:
    try:
        header = KitHeader.from_bytes(data)
    except (Refused, PeerFault):
        return
    assert header.to_bytes() == data


@given(st.sampled_from(KITS), st.data())
def test_any_other_bytes_in_any_place_are_found(kit: bytes, data: st.DataObject) -> None:
    """Not in the place that shows whether a passphrase is right: that needs the passphrase."""
    at = data.draw(st.integers(0, len(kit) - 1))
    piece = data.draw(st.binary(min_size=1, max_size=80))
    altered = kit[:at] + piece + kit[at + len(piece) :]
    if altered == kit:
        return
    end = End()
    with pytest.raises(Refused):
        support.import_kit(altered, end)
    assert (end.registry.links, end.pads()) == ({}, [])


@given(st.sampled_from((CLEAR, TABLE)), st.data())
def test_any_cut_or_repeated_stretch_is_found(kit: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(kit) - 1))
    end = data.draw(st.integers(start + 1, len(kit)))
    assert not accepted(kit[:start] + kit[end:])
    assert not accepted(kit[:end] + kit[start:])


@given(
    kind=st.sampled_from(PadKind),
    to_hub=st.integers(1, 40),
    to_kme=st.integers(1, 40),
    has_passphrase=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_every_kit_that_is_made_is_imported_as_it_was_made(
    *, kind: PadKind, to_hub: int, to_kme: int, has_passphrase: bool, seed: int
) -> None:
    hub, kme = End(), End()
    passphrase = support.PASSPHRASE if has_passphrase else None
    wanted = support.order(kind=kind, units=(to_hub, to_kme), passphrase=passphrase)
    data, made = support.created(wanted, hub, seed=seed)
    imported = support.import_kit(data, kme)
    assert imported.fingerprint == made.fingerprint
    assert kme.registry.links == hub.registry.links
    for name in kme.pads():
        assert kme.disk.durable(name) == hub.disk.durable(name)
