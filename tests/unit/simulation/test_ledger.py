"""The ledger is what other tests trust: it must see every kind of reuse, and only reuse."""

from __future__ import annotations

import pytest

from simulation.cable import Cable
from simulation.ledger import PadLedger, PadReusedError
from skex.base import limits
from skex.base.ids import Direction, LinkId
from skex.crypto.keystream import Keystream
from skex.pad.kinds import PadKind
from skex.pad.material import DerivedMaterial
from skex.wire.record import RecordHeader

LINK = LinkId(bytes(8))


def record(
    offset: int, length: int, grant: int = 0, direction: Direction = Direction.TO_HUB, link_id: LinkId = LINK
) -> bytes:
    return RecordHeader(direction, length, link_id, grant, offset).pack() + bytes(length + 16)


def ledger(kind: PadKind, connection: bytes = b"first") -> PadLedger:
    """One that saw the bytes 100 to 150 of grant 0."""
    seen = PadLedger()
    seen.sealed(kind, record(100, 34), connection)
    return seen


@pytest.mark.parametrize("kind", list(PadKind))
@pytest.mark.parametrize(("offset", "length"), [(100, 34), (149, 10), (90, 1), (110, 1), (50, 100)])
def test_overlapping_records_are_seen(kind: PadKind, offset: int, length: int) -> None:
    with pytest.raises(PadReusedError):
        ledger(kind).sealed(kind, record(offset, length), b"first")


@pytest.mark.parametrize("kind", list(PadKind))
@pytest.mark.parametrize(("offset", "length"), [(150, 10), (16, 68), (16, 1)])
def test_records_that_only_touch_are_none(kind: PadKind, offset: int, length: int) -> None:
    seen = ledger(kind)
    seen.sealed(kind, record(offset, length), b"first")
    assert seen.records == 2


def test_same_place_of_the_other_direction_or_of_another_link_is_another_place() -> None:
    seen = ledger(PadKind.TABLE)
    seen.sealed(PadKind.TABLE, record(100, 34, direction=Direction.TO_KME), b"first")
    seen.sealed(PadKind.TABLE, record(100, 34, link_id=LinkId(b"another!")), b"first")
    assert seen.records == 3


def test_table_bytes_are_the_same_on_every_connection_and_in_every_grant() -> None:
    with pytest.raises(PadReusedError):
        ledger(PadKind.TABLE).sealed(PadKind.TABLE, record(100, 34), b"second")
    seen = PadLedger()
    seen.sealed(PadKind.TABLE, record(limits.TABLE_UNIT_BYTES + 16, 34, grant=4), b"first")
    with pytest.raises(PadReusedError):
        seen.sealed(PadKind.TABLE, record(16, 34, grant=5), b"second")


def test_derived_bytes_are_other_ones_on_every_connection() -> None:
    seen = ledger(PadKind.DERIVED)
    seen.sealed(PadKind.DERIVED, record(100, 34), b"second")
    assert seen.records == 2


def test_equal_keystream_under_other_nonces_is_seen() -> None:
    """Fault: nonces that do not reach the key."""
    seen = PadLedger()
    for connection, key in ((b"first", bytes(32)), (b"first", bytes(32)), (b"second", b"k" * 32)):
        seen.granted(PadKind.DERIVED, LINK, DerivedMaterial(Direction.TO_HUB, 0, Keystream(key)), connection)
    with pytest.raises(PadReusedError):
        seen.granted(
            PadKind.DERIVED, LINK, DerivedMaterial(Direction.TO_HUB, 0, Keystream(bytes(32))), b"second"
        )


def test_cable_delivers_loses_changes_and_inserts_bytes_where_it_is_told() -> None:
    cable = Cable()
    cable.put(Direction.TO_HUB, b"abcdef")
    cable.corrupt(Direction.TO_HUB, 1, mask=ord("b") ^ ord("B"))
    cable.insert(Direction.TO_HUB, b"--", at=3)
    assert cable.take(Direction.TO_HUB, 4) == b"aBc-"
    assert cable.waiting(Direction.TO_HUB) == 4
    assert cable.sent[Direction.TO_HUB] == [b"abcdef"]
    assert cable.take(Direction.TO_KME) == b""
    cable.disconnect()
    cable.put(Direction.TO_HUB, b"late")
    assert cable.take(Direction.TO_HUB) == b""
