"""Deadlines of many things at once: the earliest is cheap to know, a moved one costs no search.

A machine that keeps thousands of batches must name its next deadline after every event. Times are
whatever clock the machine is given; nothing here reads one.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SLACK: Final = 64
"""Superseded entries that may wait in the heap besides as many as there are live ones."""


class Timers(Generic[K]):
    """One deadline per key."""

    __slots__ = ("_heap", "_sequence", "_when")

    def __init__(self) -> None:
        self._when: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0

    def __contains__(self, key: K) -> bool:
        return key in self._when

    def set(self, key: K, when: float) -> None:
        """Give ``key`` the deadline ``when``, instead of any that it had."""
        self._sequence += 1
        self._when[key] = (when, self._sequence)
        heapq.heappush(self._heap, (when, self._sequence, key))
        if len(self._heap) > 2 * len(self._when) + _SLACK:
            self._heap = [(at, sequence, key) for key, (at, sequence) in self._when.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Take the deadline of ``key`` away, if it has one."""
        self._when.pop(key, None)

    @property
    def next(self) -> float | None:
        """The earliest deadline, if there is any."""
        while self._heap and not self._is_live(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[K]:
        """Take out and return the keys whose deadline is at or before ``now``, earliest first."""
        keys = []
        while (when := self.next) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._when[key]
            keys.append(key)
        return keys

    def _is_live(self, entry: tuple[float, int, K]) -> bool:
        when, sequence, key = entry
        return self._when.get(key) == (when, sequence)
