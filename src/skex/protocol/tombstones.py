"""Batch ids that were accepted, so that none is accepted twice.

A tombstone stands for one batch until its lifetime and margin are over. Then a mark takes over: every
counter of that incarnation up to it is refused. A mark is dropped once its incarnation has no tombstone
left and the sender was seen in another one, so that restarts do not pile up marks for ever.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from skex.base.ids import BatchId, Incarnation, KmeName
from skex.protocol.changes import TombstonesDropped
from skex.protocol.gathering import BatchKey

_NO_MARK = -1


class _Line:
    """The counters of one incarnation of one sender."""

    __slots__ = ("_past", "_standing", "_waiting", "mark")

    def __init__(self, mark: int = _NO_MARK) -> None:
        self.mark = mark
        self._standing: set[int] = set()
        self._past: set[int] = set()
        self._waiting: list[int] = []

    def __len__(self) -> int:
        return len(self._standing)

    def __contains__(self, counter: int) -> bool:
        return counter <= self.mark or counter in self._standing

    def add(self, counter: int) -> None:
        self._standing.add(counter)
        heapq.heappush(self._waiting, counter)

    def expire(self, counter: int) -> None:
        """The mark rises over the lowest tombstones that are past; one that still counts holds it."""
        self._past.add(counter)
        while self._waiting and self._waiting[0] in self._past:
            self.mark = heapq.heappop(self._waiting)
            self._past.remove(self.mark)
            self._standing.remove(self.mark)


class Tombstones:
    """Every tombstone and mark of a receiver.

    ``marks`` is what the store holds at a start; tombstones are added one by one.
    """

    def __init__(self, marks: Mapping[tuple[KmeName, Incarnation], int]) -> None:
        self._lines: dict[KmeName, dict[Incarnation, _Line]] = {}
        self._newest: dict[KmeName, Incarnation] = {}
        for (sender, incarnation), mark in marks.items():
            self._lines.setdefault(sender, {})[incarnation] = _Line(mark)

    def __contains__(self, key: BatchKey) -> bool:
        """Whether a batch was accepted before, as far as that is still known."""
        line = self._lines.get(key.sender, {}).get(key.batch.incarnation)
        return line is not None and key.batch.counter in line

    def count(self, sender: KmeName) -> int:
        """How many tombstones a sender has."""
        return sum(len(line) for line in self._lines.get(sender, {}).values())

    def restore(self, key: BatchKey) -> None:
        """Add a tombstone that the store holds."""
        self._add(key.sender, key.batch)

    def accept(self, key: BatchKey) -> tuple[TombstonesDropped, ...]:
        """Add the tombstone of a batch accepted now; marks that this makes needless are dropped."""
        sender, newest = key.sender, key.batch.incarnation
        self._add(sender, key.batch)
        self._newest[sender] = newest
        lines = self._lines[sender]
        empty = [incarnation for incarnation, line in lines.items() if not len(line)]
        for incarnation in empty:
            del lines[incarnation]
        return tuple(TombstonesDropped(sender, incarnation, None) for incarnation in empty)

    def expire(self, keys: Iterable[BatchKey]) -> tuple[TombstonesDropped, ...]:
        """The lifetime and margin of these batches are over."""
        touched: dict[tuple[KmeName, Incarnation], int] = {}
        for key in keys:
            line = self._lines[key.sender][key.batch.incarnation]
            touched.setdefault((key.sender, key.batch.incarnation), line.mark)
            line.expire(key.batch.counter)
        changes: list[TombstonesDropped] = []
        for (sender, incarnation), before in touched.items():
            line = self._lines[sender][incarnation]
            if line.mark != before:
                changes.append(TombstonesDropped(sender, incarnation, line.mark))
            if not len(line) and self._newest.get(sender, incarnation) != incarnation:
                del self._lines[sender][incarnation]
                changes.append(TombstonesDropped(sender, incarnation, None))
        return tuple(changes)

    def _add(self, sender: KmeName, batch: BatchId) -> None:
        self._lines.setdefault(sender, {}).setdefault(batch.incarnation, _Line()).add(batch.counter)
