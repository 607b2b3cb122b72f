from __future__ import annotations

import pytest

from skex.base import codes, limits
from skex.base.errors import PeerFault
from skex.base.ids import Direction, LinkId
from skex.pad.kinds import PadKind
from skex.protocol.flow import ReceiveFlow, SendFlow, Waiting, WaitingRecords, units_for
from skex.wire.record import RecordHeader
from tests.unit.protocol.link_support import derived_material, table_material, wiped

UNIT = limits.TABLE_UNIT_BYTES
TAIL = limits.GRANT_TAIL_BYTES
USABLE = UNIT - 16
"""Bytes of a one-unit grant that records can use."""
LARGEST = USABLE - TAIL - 16
"""The largest body that fits a lone one-unit grant."""


def header(grant: int, offset: int, length: int) -> RecordHeader:
    return RecordHeader(Direction.TO_HUB, length, LinkId(bytes(8)), grant, offset)


# ── sending ─────────────────────────────────────────────────────────────────────────────────────
def test_last_grant_keeps_its_tail_for_a_grant_message() -> None:
    flow = SendFlow(PadKind.TABLE, table_material())
    assert flow.fits(LARGEST, control=False)
    assert not flow.fits(LARGEST + 1, control=False)
    assert flow.fits(LARGEST + TAIL, control=True)
    assert not flow.fits(LARGEST + TAIL + 1, control=True)


def test_grant_that_is_not_the_last_is_used_to_its_end() -> None:
    flow = SendFlow(PadKind.TABLE, table_material())
    flow.add(table_material(start=1))
    assert flow.fits(LARGEST + TAIL, control=False)
    assert flow.current.start == 0


def test_too_large_a_record_moves_to_the_later_grant_and_wipes_the_abandoned_one() -> None:
    first = table_material()
    flow = SendFlow(PadKind.TABLE, first)
    flow.add(table_material(start=1, count=32))
    assert flow.make_room(UNIT, control=False)
    assert flow.current.start == 1
    assert flow.ahead == 1
    assert first.wiped


def test_too_large_a_record_without_a_later_grant_leaves_the_grant_as_it_is() -> None:
    flow = SendFlow(PadKind.TABLE, table_material())
    assert not flow.make_room(UNIT, control=False)
    assert not flow.current.wiped


def test_derived_chain_moves_as_soon_as_a_later_grant_is_there() -> None:
    first = derived_material()
    flow = SendFlow(PadKind.DERIVED, first)
    flow.add(derived_material(start=1))
    assert flow.current.start == 1
    assert first.wiped


def test_first_unit_of_a_table_is_never_called_low() -> None:
    flow = SendFlow(PadKind.TABLE, table_material())
    flow.current.take(16, USABLE - 1)
    assert not flow.runs_low


def test_larger_grant_is_low_below_a_quarter_unless_the_next_one_is_there() -> None:
    flow = SendFlow(PadKind.TABLE, table_material(count=4))
    flow.current.take(16, 3 * UNIT - 16)
    low = [flow.runs_low]
    flow.current.take(3 * UNIT, 1)
    low.append(flow.runs_low)
    flow.add(table_material(start=4))
    assert [*low, flow.runs_low] == [False, True, False]


def test_wiping_forgets_every_grant_that_is_held() -> None:
    materials = [table_material(), table_material(start=1)]
    flow = SendFlow(PadKind.TABLE, materials[0])
    flow.add(materials[1])
    flow.wipe()
    assert all(material.wiped for material in materials)


# ── receiving ───────────────────────────────────────────────────────────────────────────────────
def test_record_is_found_in_either_grant_that_is_held() -> None:
    flow = ReceiveFlow(table_material())
    flow.add(table_material(start=5))
    assert flow.ahead == 2
    assert flow.check(header(0, 16, 10)).start == 0
    assert flow.check(header(5, 16, 10)).start == 5


@pytest.mark.parametrize(
    ("grant", "offset", "length", "code"),
    [
        (1, 16, 1, codes.RECORD_POSITION),
        (0, 0, 1, codes.RECORD_POSITION),
        (0, 15, 1, codes.RECORD_POSITION),
        (0, 17, 1, codes.RECORD_POSITION),
        (0, 2**32 - 1, 1, codes.RECORD_POSITION),
        (0, 16, USABLE - 15, codes.RECORD_LENGTH),
    ],
)
def test_record_elsewhere_than_at_the_next_place_of_a_grant_is_refused(
    grant: int, offset: int, length: int, code: object
) -> None:
    flow = ReceiveFlow(table_material())
    with pytest.raises(PeerFault) as fault:
        flow.check(header(grant, offset, length))
    assert fault.value.code is code
    assert flow.check(header(0, 16, USABLE - 16)).position == 16


def test_moving_on_wipes_what_is_left_behind_and_nothing_else() -> None:
    first, second = table_material(), table_material(start=1)
    flow = ReceiveFlow(first)
    flow.add(second)
    flow.move_to(first)
    assert wiped(first, second) == [False, False]
    flow.move_to(second)
    assert wiped(first, second) == [True, False]
    with pytest.raises(PeerFault):
        flow.check(header(0, 16, 1))
    flow.wipe()
    assert wiped(second) == [True]


def test_direction_is_exhausted_where_a_want_might_not_fit_and_the_latest_grant_counts() -> None:
    flow = ReceiveFlow(table_material())
    grant = flow.check(header(0, 16, 1))
    grant.take(16, USABLE - limits.GRANT_EXHAUSTED_BYTES)
    exhausted = [flow.exhausted]
    grant.take(grant.position, 1)
    exhausted.append(flow.exhausted)
    flow.add(table_material(start=1))
    assert [*exhausted, flow.exhausted] == [False, True, False]


def test_sender_that_is_not_exhausted_has_room_for_the_longest_want() -> None:
    longest_want = 1 + 1 + 5
    sender = SendFlow(PadKind.TABLE, table_material())
    sender.current.take(16, USABLE - limits.GRANT_EXHAUSTED_BYTES)
    assert sender.fits(longest_want, control=False)


# ── waiting ─────────────────────────────────────────────────────────────────────────────────────
def test_what_waits_keeps_its_order_but_a_grant_goes_first() -> None:
    waiting = WaitingRecords()
    for body in (b"one", b"two"):
        waiting.add(Waiting(body))
    waiting.add(Waiting(b"grant", control=True))
    assert waiting.pad_bytes == 3 * 16 + 3 + 3 + 5
    assert waiting.first.body == b"grant"
    assert [waiting.pop().body for _ in range(len(waiting))] == [b"grant", b"one", b"two"]
    assert waiting.pad_bytes == 0


def test_number_and_bytes_of_what_waits_are_both_bounded() -> None:
    waiting = WaitingRecords()
    full = []
    for _ in range(limits.LINK_QUEUE_MESSAGES):
        full.append(waiting.full)
        waiting.add(Waiting(b"x"))
    assert not any(full)
    full = [waiting.full]
    waiting.clear()
    full.append(waiting.full)
    waiting.add(Waiting(bytes(limits.LINK_QUEUE_BYTES)))
    assert [*full, waiting.full] == [True, False, True]


def test_body_that_waits_is_not_shown() -> None:
    assert "share" not in repr(Waiting(b"a share"))


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("wanted", "available", "units"),
    [
        (0, 1000, 32),
        (32 * UNIT - 272, 1000, 32),
        (32 * UNIT - 271, 1000, 33),
        (2**32 - 1, 1000, 256),
        (0, 31, 31),
        (2**32 - 1, 0, 0),
    ],
)
def test_later_table_grants_are_as_large_as_wanted_within_their_bounds(
    wanted: int, available: int, units: int
) -> None:
    assert units_for(wanted, available) == units
