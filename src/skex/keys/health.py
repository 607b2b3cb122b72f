"""Whether a reserve keeps up with what is taken from it. Counts are keys, times seconds (boot clock)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from skex.base import limits
from skex.pad.forecast import Flow

_MEMORY: Final = 300.0
"""Over so many seconds the pace of taking is averaged."""


class Health(Enum):
    """How a reserve stands."""

    FULL = "full"
    """It holds its low mark or more."""
    FILLING = "filling"
    """It was below its low mark for a short while."""
    STARVED = "starved"
    """It was below its low mark for long: keys are taken faster than made, or none can be made."""
    EMPTY = "empty"
    """It is starved, and nothing is in it."""
    OFF = "off"
    """It is below its low mark because nobody is to fill it: filling is off, or policy forbids the peer."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A reserve became starved, or is so no more."""

    starved: bool
    keys: int


class Watch:
    """One reserve. ``low`` is its low mark in keys."""

    __slots__ = ("_at", "_below_since", "_depth", "_filled", "_low", "_starved", "_taken", "_taking")

    def __init__(self, low: int, taken: int, now: float) -> None:
        self._low = low
        self._taken = taken
        self._at = now
        self._taking = Flow(_MEMORY)
        self._depth = 0
        self._filled = True
        self._below_since: float | None = None
        self._starved = False

    def look(self, depth: int, taken: int, now: float, *, filled: bool) -> Turn | None:
        """Note how many keys there are, and how many were ever taken; tells of a turn once."""
        self._taking.add(max(0, taken - self._taken), now - self._at)
        self._depth, self._taken, self._at, self._filled = depth, taken, now, filled
        if depth >= self._low or not filled:
            self._below_since = None
        elif self._below_since is None:
            self._below_since = now
        was, self._starved = self._starved, self._is_starved(now)
        return None if was is self._starved else Turn(self._starved, depth)

    def _is_starved(self, now: float) -> bool:
        since = self._below_since
        return since is not None and now - since >= limits.RESERVE_STARVED_SECONDS

    @property
    def health(self) -> Health:
        """How the reserve stands."""
        if self._starved:
            return Health.STARVED if self._depth else Health.EMPTY
        if self._depth >= self._low:
            return Health.FULL
        return Health.FILLING if self._filled else Health.OFF

    @property
    def taken_per_second(self) -> float:
        """Keys a second that leave it, of late."""
        return self._taking.per_second or 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long it lasts if nothing more is made; None while nothing is taken."""
        pace = self.taken_per_second
        return self._depth / pace if pace else None
