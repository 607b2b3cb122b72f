"""The discipline that both kinds of pad share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulation.pads import LINK, PATH, PadEnd
from skex.base import codes
from skex.base.errors import ErrorCode, LocalBug, Refused, SkexError, StoreFault
from skex.base.ids import Direction, LinkId
from skex.pad.derived import DerivedPad
from skex.pad.kinds import Pad, PadKind, Prepared
from skex.pad.material import GrantMaterial
from skex.pad.table import TablePad

NONCES = (bytes(32), bytes(32))


def code_of(refusal: pytest.ExceptionInfo[SkexError]) -> ErrorCode:
    return refusal.value.code


def open_as(
    end: PadEnd, *, link_id: LinkId = LINK, direction: Direction = Direction.TO_HUB, mark: int = 0
) -> Pad:
    kind = TablePad if end.kind is PadKind.TABLE else DerivedPad
    return kind.open(end.disk, PATH, link_id, direction, mark)


def test_new_pad_states_who_it_is_and_that_nothing_was_granted(end: PadEnd) -> None:
    pad = end.open()
    assert (pad.kind, pad.link_id, pad.direction) == (end.kind, LINK, Direction.TO_HUB)
    assert (pad.mark, pad.lag, pad.contradiction) == (0, 0, False)
    expected = {PadKind.TABLE: (16, 16 * 4096), PadKind.DERIVED: (2**32 - 1, (2**32 - 1) * 2**24)}
    assert (pad.capacity, pad.remaining_bytes) == expected[end.kind]


def test_grant_is_handed_out_only_after_it_was_marked_and_erased_on_the_medium(end: PadEnd, pad: Pad) -> None:
    prepared = end.prepare(pad, 0)
    assert end.traces_below(prepared.new_mark), "prepare must not erase: nothing is committed yet"
    end.commit(prepared)
    pad.finish(prepared)
    assert not end.traces_below(1)
    end.store_mark = 0
    assert end.open().mark == 1, "the file's own mark is durable"


def test_preparing_writes_nothing(end: PadEnd, pad: Pad) -> None:
    before, calls = end.disk.image(), end.disk.calls
    end.prepare(pad, 0)
    assert set(end.disk.trace[calls:]) == {"read"}
    assert end.disk.image() == before
    assert pad.mark == 0


def test_ticket_of_a_prepared_grant_has_no_way_to_the_bytes(end: PadEnd, pad: Pad) -> None:
    prepared = end.prepare(pad, 3)
    assert {name for name in dir(prepared) if not name.startswith("_")} == {
        "count",
        "direction",
        "new_mark",
        "start",
    }
    assert (prepared.start, prepared.count, prepared.new_mark) == (3, 1, 4)
    assert "3" not in repr(prepared).partition(" at 0x")[0]


def test_grant_above_the_mark_erases_what_it_skips(end: PadEnd, pad: Pad) -> None:
    end.take(pad, 5)
    assert pad.mark == 6
    assert not end.traces_below(6)


def test_grants_follow_each_other(end: PadEnd, pad: Pad) -> None:
    starts = [end.take(pad, pad.mark).start for _ in range(4)]
    assert starts == [0, 1, 2, 3]
    assert pad.remaining_bytes == (pad.capacity - 4) * (4096 if end.kind is PadKind.TABLE else 2**24)


@pytest.mark.parametrize("start", [0, 2])
def test_position_below_the_mark_is_refused_and_changes_nothing(end: PadEnd, start: int) -> None:
    pad = end.open()
    end.take(pad, 2)
    before = end.disk.image()
    with pytest.raises(LocalBug) as refusal:
        end.prepare(pad, start)
    assert code_of(refusal) is codes.PAD_REUSE
    assert (end.disk.image(), pad.mark) == (before, 3)


def test_position_below_the_stores_mark_is_refused_after_opening(end: PadEnd) -> None:
    end.store_mark = 4
    pad = end.open()
    with pytest.raises(LocalBug) as refusal:
        end.prepare(pad, 3)
    assert code_of(refusal) is codes.PAD_REUSE


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (0, 0), (0, -1)])
def test_grant_of_nothing_is_a_bug(pad: Pad, start: int, count: int) -> None:
    with pytest.raises(LocalBug) as refusal:
        pad.prepare(start, count, *NONCES)
    assert code_of(refusal) is codes.BAD_ARGUMENT


def test_grant_beyond_the_end_is_refused_as_exhausted_and_changes_nothing(end: PadEnd, pad: Pad) -> None:
    before = end.disk.image()
    with pytest.raises(Refused) as refusal:
        end.prepare(pad, pad.capacity)
    assert code_of(refusal) is codes.PAD_EXHAUSTED
    assert (end.disk.image(), pad.mark) == (before, 0)


def test_ticket_is_good_once(end: PadEnd, pad: Pad) -> None:
    prepared = end.prepare(pad, 0)
    end.commit(prepared)
    pad.finish(prepared)
    with pytest.raises(LocalBug) as refusal:
        pad.finish(prepared)
    assert code_of(refusal) is codes.BAD_STATE


def test_ticket_that_was_made_up_is_a_bug_and_the_real_one_still_good(end: PadEnd, pad: Pad) -> None:
    prepared = end.prepare(pad, 0)
    with pytest.raises(LocalBug) as refusal:
        pad.finish(Prepared(prepared.direction, prepared.start, prepared.count))
    assert code_of(refusal) is codes.BAD_STATE
    end.commit(prepared)
    assert pad.finish(prepared).start == 0


def test_ticket_of_another_pad_is_a_bug(end: PadEnd, pad: Pad) -> None:
    other = PadEnd(end.kind, seed=2)
    other.create()
    with pytest.raises(LocalBug) as refusal:
        pad.finish(other.prepare(other.open(), 0))
    assert code_of(refusal) is codes.BAD_STATE


def test_second_preparation_makes_the_first_ticket_worthless(end: PadEnd, pad: Pad) -> None:
    first = end.prepare(pad, 0)
    second = end.prepare(pad, 1)
    with pytest.raises(LocalBug):
        pad.finish(first)
    end.commit(second)
    assert pad.finish(second).start == 1


def test_refused_preparation_leaves_the_one_before_it_alone(end: PadEnd, pad: Pad) -> None:
    first = end.prepare(pad, 0)
    with pytest.raises(Refused):
        end.prepare(pad, pad.capacity)
    end.commit(first)
    assert pad.finish(first).start == 0


def test_abandoned_grant_is_wiped_and_its_ticket_worthless(end: PadEnd, pad: Pad) -> None:
    prepared = end.prepare(pad, 0)
    material = pending(pad)
    pad.abandon(prepared)
    assert material.wiped
    with pytest.raises(LocalBug):
        pad.finish(prepared)
    pad.abandon(prepared)


def test_abandoning_an_old_ticket_leaves_the_new_one_alone(end: PadEnd, pad: Pad) -> None:
    old = end.prepare(pad, 0)
    new = end.prepare(pad, 0)
    pad.abandon(old)
    end.commit(new)
    assert pad.finish(new).start == 0


def test_superseded_and_closed_preparations_are_wiped(end: PadEnd, pad: Pad) -> None:
    end.prepare(pad, 0)
    first = pending(pad)
    end.prepare(pad, 0)
    second = pending(pad)
    assert (first.wiped, second.wiped) == (True, False)
    pad.close()
    assert second.wiped


def test_material_of_a_finish_that_fails_is_wiped(end: PadEnd, pad: Pad) -> None:
    prepared = end.prepare(pad, 0)
    material = pending(pad)
    end.commit(prepared)
    end.disk.fail_after(0)
    with pytest.raises(StoreFault):
        pad.finish(prepared)
    assert material.wiped
    assert pad.mark == 1


def test_finish_after_a_failed_erasure_hands_nothing_out(end: PadEnd, pad: Pad) -> None:
    prepared = end.prepare(pad, 0)
    end.disk.fail_sync_after(0)
    with pytest.raises(StoreFault):
        pad.erase_below_mark()
    end.commit(prepared)
    with pytest.raises(StoreFault, match="opened anew"):
        pad.finish(prepared)


def test_closed_pad_refuses_everything_but_closing(end: PadEnd, pad: Pad) -> None:
    prepared = end.prepare(pad, 0)
    pad.close()
    pad.close()
    uses: list[Callable[[], object]] = [
        lambda: pad.prepare(0, 1, *NONCES),
        lambda: pad.finish(prepared),
        pad.erase_below_mark,
    ]
    for use in uses:
        with pytest.raises(LocalBug) as refusal:
            use()
        assert code_of(refusal) is codes.BAD_STATE


def test_file_ahead_of_the_store_is_a_contradiction_and_the_higher_mark_counts(end: PadEnd) -> None:
    end.take(end.open(), 4)
    end.store_mark = 2
    pad = end.open()
    assert (pad.contradiction, pad.mark, pad.lag) == (True, 5, 0)
    assert end.take(pad, pad.mark).start == 5


def test_contradiction_is_over_once_the_store_has_caught_up(end: PadEnd) -> None:
    end.take(end.open(), 4)
    end.store_mark = 2
    end.store_mark = end.open().mark
    assert not end.open().contradiction


def test_store_ahead_of_the_file_is_brought_to_the_mark_and_erased_at_open(end: PadEnd) -> None:
    end.store_mark = 3
    pad = end.open()
    assert (pad.contradiction, pad.mark, pad.lag) == (False, 3, 3)
    assert not end.traces_below(3)
    end.store_mark = 0
    assert end.open().mark == 3, "the file's own mark is durable"


def test_pad_file_restored_from_an_older_image_is_erased_up_to_the_stores_mark(end: PadEnd) -> None:
    image = end.disk.image()
    pad = end.open()
    for position in range(6):
        end.take(pad, position)
    end.disk.restore(image)
    assert end.traces_below(6)
    pad = end.open()
    assert (pad.mark, pad.lag, pad.contradiction) == (6, 6, False)
    assert not end.traces_below(6)


def test_mark_of_the_store_beyond_the_end_is_refused_and_nothing_is_erased(end: PadEnd) -> None:
    end.store_mark = end.open().capacity + 1
    before = end.disk.image()
    with pytest.raises(StoreFault) as refusal:
        end.open()
    assert code_of(refusal) is codes.PAD_MARK_CONTRADICTS
    assert end.disk.image() == before


def test_pad_of_another_link_or_direction_or_kind_is_refused(end: PadEnd) -> None:
    before = end.disk.image()
    other_kind = DerivedPad if end.kind is PadKind.TABLE else TablePad
    uses: list[Callable[[], Pad]] = [
        lambda: open_as(end, link_id=LinkId(bytes(8))),
        lambda: open_as(end, direction=Direction.TO_KME),
        lambda: other_kind.open(end.disk, PATH, LINK, Direction.TO_HUB, 0),
    ]
    for use in uses:
        with pytest.raises(StoreFault, match="another link") as refusal:
            use()
        assert code_of(refusal) is codes.PAD_CORRUPT
    assert end.disk.image() == before


def test_missing_file_is_an_io_fault_with_its_errno(end: PadEnd) -> None:
    end.disk.remove(PATH)
    with pytest.raises(StoreFault, match="ENOENT") as refusal:
        end.open()
    assert code_of(refusal) is codes.PAD_IO


def test_rotten_identity_is_refused_at_every_byte(end: PadEnd) -> None:
    for offset in range(56):
        end.disk.rot(PATH, offset)
        with pytest.raises(StoreFault) as refusal:
            end.open()
        assert code_of(refusal) is codes.PAD_CORRUPT
        end.disk.rot(PATH, offset)
    end.open()


def test_one_rotten_slot_is_survived_and_two_are_refused(end: PadEnd) -> None:
    end.take(end.open(), 0)
    # Opening once more leaves a state in the other slot too (table) or moves the only one (derived).
    slots = [at for at in (4096, 8192) if any(end.disk.durable(PATH)[at : at + 512])]
    for at in slots[:-1]:
        end.disk.rot(PATH, at + 10)
        assert end.open().mark == 1
    for at in (4096, 8192):
        end.disk.overwrite(PATH, at, b"\xff" * 512)
    with pytest.raises(StoreFault, match="neither slot") as refusal:
        end.open()
    assert code_of(refusal) is codes.PAD_CORRUPT


@pytest.mark.parametrize("size", [0, 55, 4096, 8192 + 511, 12287])
def test_file_that_was_cut_off_is_refused(end: PadEnd, size: int) -> None:
    end.disk.cut_off(PATH, size)
    with pytest.raises(StoreFault) as refusal:
        end.open()
    assert code_of(refusal) is codes.PAD_SHORT_READ


def test_file_that_has_grown_is_refused(end: PadEnd) -> None:
    file = end.disk.open(PATH)
    file.write(file.size(), b"\0")
    with pytest.raises(StoreFault) as refusal:
        end.open()
    assert code_of(refusal) is codes.PAD_CORRUPT


def test_short_read_is_refused_and_nothing_is_marked(end: PadEnd, pad: Pad) -> None:
    before = end.disk.image()
    end.disk.shorten_next_read()
    with pytest.raises(StoreFault) as refusal:
        end.prepare(pad, 0)
    assert code_of(refusal) is codes.PAD_SHORT_READ
    assert (end.disk.image(), pad.mark) == (before, 0)
    assert end.take(pad, 0).start == 0


def test_disk_that_fails_to_read_is_an_io_fault_and_nothing_is_marked(end: PadEnd, pad: Pad) -> None:
    end.disk.fail_after(0)
    with pytest.raises(StoreFault, match="EIO") as refusal:
        end.prepare(pad, 0)
    assert code_of(refusal) is codes.PAD_IO
    assert end.take(pad, 0).start == 0


def test_disk_that_cannot_punch_still_erases(end: PadEnd) -> None:
    image = end.disk.image()
    end.disk = type(end.disk)(seed=1, punches=False)
    end.disk.restore(image)
    end.take(end.open(), 4)
    assert not end.traces_below(5)


def test_enrolment_over_an_existing_pad_is_refused_and_leaves_it_alone(end: PadEnd) -> None:
    before = end.disk.image()
    with pytest.raises(StoreFault, match="EEXIST") as refusal:
        end.create()
    assert code_of(refusal) is codes.PAD_IO
    assert end.disk.image() == before


def test_enrolment_that_fails_at_any_call_leaves_no_file_and_no_material(end: PadEnd) -> None:
    for call in range(end.disk.calls):
        fresh = PadEnd(end.kind, seed=1)
        fresh.disk.fail_after(call)
        with pytest.raises(StoreFault):
            fresh.create()
        assert not fresh.disk.exists(PATH)
        assert not fresh.traces_below(fresh.units)


def test_errors_and_representations_show_no_position_and_no_byte(end: PadEnd, pad: Pad) -> None:
    end.take(pad, 3)
    shown = [repr(pad), repr(end.prepare(pad, 4)), repr(pending(pad))]
    for start in (2, pad.capacity):
        with pytest.raises(SkexError) as refusal:
            end.prepare(pad, start)
        shown.append(str(refusal.value))
    assert not [text for text in shown if any(digit in text.partition(" at 0x")[0] for digit in "0123456789")]


def pending(pad: Pad) -> GrantMaterial:
    assert isinstance(pad, TablePad | DerivedPad)
    assert pad._pending is not None
    return pad._pending[1]
