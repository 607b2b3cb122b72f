"""Random lives of a pad: takes, crashes, failing disks, restores; no position is ever given out twice."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from simulation.disk import DiskImage, PowerFailure
from simulation.pads import PadEnd
from skex.base.errors import LocalBug, Refused, StoreFault
from skex.pad.kinds import Pad, PadKind
from skex.pad.material import GrantMaterial

GAPS = st.integers(0, 2)
COUNTS = st.integers(1, 3)
CALLS = st.integers(1, 16)
STREAM_BYTES = 64


class PadLife(RuleBasedStateMachine):
    """One end with its disk and store; ``handed`` is the model: what this history has given out."""

    kind: PadKind

    @initialize(seed=st.integers(0, 2**32))
    def enrol(self, seed: int) -> None:
        self.end = PadEnd(self.kind, seed, units=24)
        self.end.create()
        self.handed: set[int] = set()
        self.streams: set[bytes] = set()
        self.snapshots: list[tuple[DiskImage, int, frozenset[int]]] = []
        self.pad: Pad = self.end.open()

    # ── taking ──────────────────────────────────────────────────────────────────────────────────
    @rule(gap=GAPS, count=COUNTS)
    def take(self, gap: int, count: int) -> None:
        start, count = self.pad.mark + gap, self.allowed(count)
        try:
            self.receive(self.end.take(self.pad, start, count))
        except Refused:
            assert start + count > self.pad.capacity

    @rule(gap=GAPS, count=COUNTS, committed=st.booleans())
    def prepare_and_forget(self, gap: int, count: int, committed: bool) -> None:
        start, count = self.pad.mark + gap, self.allowed(count)
        if start + count <= self.pad.capacity:
            prepared = self.end.prepare(self.pad, start, count)
            if committed:
                self.end.commit(prepared)

    @rule(back=st.integers(1, 24))
    def take_again(self, back: int) -> None:
        if self.pad.mark - back >= 0:
            with pytest.raises(LocalBug):
                self.end.prepare(self.pad, self.pad.mark - back)

    # ── faults ──────────────────────────────────────────────────────────────────────────────────
    @rule(gap=GAPS, count=COUNTS, calls=CALLS)
    def lose_power_while_taking(self, gap: int, count: int, calls: int) -> None:
        self.end.disk.cut_power_after(calls)
        with suppress(PowerFailure):
            self.take(gap, count)
        self.lose_power()

    @rule(gap=GAPS, count=COUNTS, calls=CALLS)
    def fail_while_taking(self, gap: int, count: int, calls: int) -> None:
        self.end.disk.fail_after(calls)
        self.take_from_a_failing_disk(gap, count)

    @rule(gap=GAPS, count=COUNTS, syncs=st.integers(0, 2))
    def fail_a_sync_while_taking(self, gap: int, count: int, syncs: int) -> None:
        self.end.disk.fail_sync_after(syncs)
        self.take_from_a_failing_disk(gap, count)

    @rule()
    def restart(self) -> None:
        self.pad.close()
        self.reopen()

    @rule()
    def lose_power(self) -> None:
        self.end.disk.crash()
        self.reopen()

    @rule(calls=CALLS)
    def lose_power_while_starting(self, calls: int) -> None:
        self.pad.close()
        self.end.disk.cut_power_after(calls)
        with suppress(PowerFailure):
            self.end.open()
        self.lose_power()

    # ── restores ────────────────────────────────────────────────────────────────────────────────
    @rule()
    def snapshot(self) -> None:
        self.snapshots.append((self.end.disk.image(), self.end.store_mark, frozenset(self.handed)))

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def restore_both(self, data: st.DataObject) -> None:
        """The rollback that this end cannot see. A new history: the other end's marks see to it."""
        image, mark, handed = data.draw(st.sampled_from(self.snapshots))
        self.end.disk.restore(image)
        self.end.store_mark, self.handed = mark, set(handed)
        self.reopen()

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def restore_the_store_only(self, data: st.DataObject) -> None:
        _, mark, _ = data.draw(st.sampled_from(self.snapshots))
        before = self.end.open().mark
        self.end.store_mark = mark
        pad = self.reopen()
        assert pad.contradiction == (before > mark)

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def restore_the_file_only(self, data: st.DataObject) -> None:
        image, _, _ = data.draw(st.sampled_from(self.snapshots))
        self.end.store_mark = max(self.end.store_mark, self.end.open().mark)
        self.end.disk.restore(image)
        self.reopen()

    # ── what must hold ──────────────────────────────────────────────────────────────────────────
    @invariant()
    def every_position_given_out_lies_below_the_mark(self) -> None:
        assert self.pad.mark > max(self.handed, default=-1)

    def take_from_a_failing_disk(self, gap: int, count: int) -> None:
        try:
            self.take(gap, count)
        except StoreFault:
            self.end.disk.heal()
            self.restart()
        self.end.disk.heal()

    def reopen(self) -> Pad:
        """Whatever happened: opening works, and what lies below the mark is gone from the medium."""
        self.pad = self.end.open()
        assert self.pad.mark >= self.end.store_mark
        assert not self.end.traces_below(self.pad.mark)
        return self.pad

    def receive(self, material: GrantMaterial) -> None:
        """A grant came out: new positions, right bytes, and none of them on the medium any more."""
        positions = set(range(material.start, material.start + material.count))
        assert not positions & self.handed
        self.handed |= positions
        assert self.end.store_mark >= material.start + material.count
        assert not self.end.traces_below(self.pad.mark)
        if self.kind is PadKind.TABLE:
            enrolled = b"".join(self.end.unit(at) for at in sorted(positions))
            assert material.r + material.take(16, material.remaining) == enrolled
        else:
            stream = material.r + material.take(16, STREAM_BYTES)
            assert stream not in self.streams, "unique over all histories: the nonces are"
            self.streams.add(stream)

    def allowed(self, count: int) -> int:
        return count if self.kind is PadKind.TABLE else 1


class TableLife(PadLife):
    kind = PadKind.TABLE


class DerivedLife(PadLife):
    kind = PadKind.DERIVED


TableLife.TestCase.settings = settings(settings.default, stateful_step_count=25)
DerivedLife.TestCase.settings = settings(settings.default, stateful_step_count=25)
TestTableLife = TableLife.TestCase
TestDerivedLife = DerivedLife.TestCase
