"""Power lost after every single call of the file port, for every kind of pad: exhaustively, not by luck."""

from __future__ import annotations

import pytest

from simulation.disk import PowerFailure
from simulation.pads import PATH, PadEnd
from skex.base import codes
from skex.base.errors import ErrorCode, StoreFault
from skex.pad.erasing import destroy
from skex.pad.kinds import PadKind

KINDS = [PadKind.TABLE, PadKind.DERIVED]
SEEDS = range(6)


def enrolled(kind: PadKind, seed: int) -> PadEnd:
    end = PadEnd(kind, seed)
    end.create()
    # One whole take first, so that the files are in no special state.
    end.take(end.open(), 0, 2 if kind is PadKind.TABLE else 1)
    return end


def calls_of_a_take(kind: PadKind) -> tuple[int, int]:
    """How many port calls ``prepare`` and ``finish`` make."""
    end = enrolled(kind, 0)
    pad = end.open()
    before = end.disk.calls
    prepared = end.prepare(pad, pad.mark + 1)
    between = end.disk.calls
    end.commit(prepared)
    pad.finish(prepared)
    return between - before, end.disk.calls - between


def calls_of_an_open(kind: PadKind) -> int:
    end = enrolled(kind, 0)
    before = end.disk.calls
    end.open()
    return end.disk.calls - before


def require_intact(end: PadEnd, taken: int) -> None:
    """Opening works, whatever was taken or cut off stays taken, and is gone from the medium."""
    pad = end.open()
    assert pad.mark >= max(taken, end.store_mark)
    assert not pad.contradiction
    assert not end.traces_below(pad.mark)
    material = end.take(pad, pad.mark)
    assert material.start >= taken
    if end.kind is PadKind.TABLE:
        assert material.r + material.take(16, material.remaining) == end.unit(material.start)
    assert not end.traces_below(pad.mark)


@pytest.mark.parametrize("kind", KINDS)
def test_a_take_makes_the_calls_that_are_enumerated_below(kind: PadKind) -> None:
    assert calls_of_a_take(kind) == {PadKind.TABLE: (1, 6), PadKind.DERIVED: (1, 5)}[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_power_cut_after_each_call_of_a_take_never_gives_its_positions_out_again(
    kind: PadKind, seed: int
) -> None:
    for call in range(1, sum(calls_of_a_take(kind)) + 1):
        end = enrolled(kind, seed)
        pad = end.open()
        start = pad.mark + 1
        end.disk.cut_power_after(call)
        with pytest.raises(PowerFailure):
            end.take(pad, start)
        committed = end.store_mark > start
        end.disk.crash()
        require_intact(end, start + 1 if committed else 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_power_cut_between_the_commit_and_the_first_write_loses_the_grant_only(
    kind: PadKind, seed: int
) -> None:
    end = enrolled(kind, seed)
    pad = end.open()
    prepared = end.prepare(pad, pad.mark)
    end.commit(prepared)
    end.disk.crash()
    reopened = end.open()
    assert (reopened.mark, reopened.lag) == (prepared.new_mark, 1)
    reopened.close()
    require_intact(end, prepared.new_mark)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_power_cut_after_each_call_of_a_take_and_again_of_the_next_open_is_survived(
    kind: PadKind, seed: int
) -> None:
    for call in range(1, sum(calls_of_a_take(kind)) + 1):
        for call_of_open in range(1, calls_of_an_open(kind) + 1):
            end = enrolled(kind, seed)
            pad = end.open()
            start = pad.mark
            end.disk.cut_power_after(call)
            with pytest.raises(PowerFailure):
                end.take(pad, start)
            end.disk.crash()
            end.disk.cut_power_after(call_of_open)
            with pytest.raises(PowerFailure):
                end.open()
            end.disk.crash()
            require_intact(end, end.store_mark)


@pytest.mark.parametrize("kind", KINDS)
def test_disk_error_at_each_call_of_finish_loses_the_grant_and_stops_the_pad(kind: PadKind) -> None:
    calls_before, calls_of_finish = calls_of_a_take(kind)
    for call in range(calls_of_finish):
        end = enrolled(kind, 1)
        pad = end.open()
        start = pad.mark
        end.disk.fail_after(calls_before + call)
        with pytest.raises(StoreFault) as refusal:
            end.take(pad, start)
        assert refusal.value.code is codes.PAD_IO
        with pytest.raises(StoreFault, match="opened anew"):
            pad.prepare(pad.mark, 1, bytes(32), bytes(32))
        with pytest.raises(StoreFault, match="opened anew"):
            pad.erase_below_mark()
        pad.close()
        require_intact(end, start + 1)


@pytest.mark.parametrize(("kind", "syncs"), [(PadKind.TABLE, 3), (PadKind.DERIVED, 2)])
def test_sync_that_fails_once_and_lies_afterwards_still_ends_in_an_erased_grant(
    kind: PadKind, syncs: int
) -> None:
    for failing in range(syncs):
        end = enrolled(kind, failing)
        pad = end.open()
        prepared = end.prepare(pad, pad.mark)
        end.commit(prepared)
        end.disk.fail_sync_after(failing)
        with pytest.raises(StoreFault):
            pad.finish(prepared)
        pad.close()
        end.open().close()
        end.disk.crash()
        require_intact(end, prepared.new_mark)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_power_cut_after_each_call_of_an_enrolment_leaves_a_whole_pad_or_none(
    kind: PadKind, seed: int
) -> None:
    complete = PadEnd(kind, seed)
    complete.create()
    outcomes: set[ErrorCode | None] = set()
    for call in range(1, complete.disk.calls + 1):
        end = PadEnd(kind, seed)
        end.disk.cut_power_after(call)
        with pytest.raises(PowerFailure):
            end.create()
        end.disk.crash()
        outcomes.add(outcome := outcome_of_opening(end))
        if outcome is not None:
            assert outcome in {codes.PAD_IO, codes.PAD_CORRUPT, codes.PAD_SHORT_READ}
            if end.disk.exists(PATH):
                destroy(end.disk, PATH)
            end.create()
        take_everything(end)
    assert {None, codes.PAD_CORRUPT} <= outcomes


def outcome_of_opening(end: PadEnd) -> ErrorCode | None:
    try:
        end.open().close()
    except StoreFault as refusal:
        return refusal.code
    return None


def take_everything(end: PadEnd) -> None:
    """Every position is there once, with the bytes that were enrolled."""
    pad = end.open()
    for position in range(end.units):
        material = end.take(pad, position)
        if end.kind is PadKind.TABLE:
            assert material.r + material.take(16, material.remaining) == end.unit(position)
    assert not end.traces_below(pad.mark)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_power_cut_after_each_call_of_destroying_leaves_it_repeatable_and_nothing_behind(
    kind: PadKind, seed: int
) -> None:
    whole = enrolled(kind, seed)
    before = whole.disk.calls
    destroy(whole.disk, PATH)
    for call in range(1, whole.disk.calls - before + 1):
        end = enrolled(kind, seed)
        end.disk.cut_power_after(call)
        with pytest.raises(PowerFailure):
            destroy(end.disk, PATH)
        end.disk.crash()
        if end.disk.exists(PATH):
            destroy(end.disk, PATH)
        assert not end.traces_below(end.units)
