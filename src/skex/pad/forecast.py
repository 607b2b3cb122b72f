"""How fast a table pad is used up, and when it will be: from looks at what is left.

One pad and direction costs a handful of numbers, whatever its size. Times are seconds: of looks on the
boot-time clock, of age on the wall clock. It must not know where a pad lies or who uses it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
SPIKE_SECONDS: Final = HOUR / 4
"""So long the pace of the last hour is watched before it may raise an alarm: a start is no pace."""
_SLACK: Final = 1.25
"""What was low is low until there is a quarter more: an alarm must not come and go."""


class Flow:
    """How much goes by in a second; what lies ``memory`` seconds back counts 1/e of what is now."""

    __slots__ = ("_memory", "_observed", "_weighted")

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._observed = 0.0
        self._weighted = 0.0

    def add(self, amount: float, seconds: float) -> None:
        """So much went by in the ``seconds`` since the last call; nothing is learnt in no time."""
        if seconds <= 0:
            return
        kept = math.exp(-seconds / self._memory)
        self._weighted = self._weighted * kept + amount / seconds * (1 - kept)
        self._observed += seconds

    @property
    def observed(self) -> float:
        """For how many seconds it was watched."""
        return self._observed

    @property
    def per_second(self) -> float | None:
        """The mean, weighted; None before anything was seen."""
        if not self._observed:
            return None
        # What came before the first look is not nothing, it is unknown: the weights seen count as all.
        return self._weighted / -math.expm1(-self._observed / self._memory)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a pad is low: less than so many percent of it are left, or it will last fewer days."""

    percent: int = 10
    days: int = 14


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is left of one pad, and for how long. Bytes, bytes a day, days.

    ``burn`` is the pace that ``days`` is reckoned with: of the last day, or since enrolment where it was
    not watched for an hour yet; None for a link too young to tell. ``days`` is None where nothing is used.
    """

    capacity: int
    left: int
    burn: float | None
    days: float | None
    low: bool

    @property
    def percent(self) -> float:
        """What is left, of all there was."""
        return 100 * self.left / self.capacity


class PadGauge:
    """One pad in one direction: look at it now and then, and ask.

    ``capacity`` and ``left`` are bytes; ``left`` is what is neither granted nor used.
    """

    __slots__ = ("_at", "_day", "_hour", "_left", "_low", "_thresholds", "capacity")

    def __init__(self, capacity: int, left: int, thresholds: Thresholds, now: float) -> None:
        self.capacity = capacity
        self._left = left
        self._at = now
        self._thresholds = thresholds
        self._hour = Flow(HOUR)
        self._day = Flow(DAY)
        self._low = False

    def look(self, left: int, age: float, now: float) -> bool:
        """Note what is left, ``age`` seconds after enrolment; whether the pad became low just now."""
        used = max(0, self._left - left)
        for flow in (self._hour, self._day):
            flow.add(used, now - self._at)
        self._left, self._at = left, now
        was_low, self._low = self._low, self._is_low(age)
        return self._low and not was_low

    def forecast(self, age: float) -> Forecast:
        """What the looks so far come to."""
        burn = self._burn(age)
        days = self._left / burn / DAY if burn else None
        return Forecast(self.capacity, self._left, None if burn is None else burn * DAY, days, self._low)

    def _burn(self, age: float) -> float | None:
        """Bytes a second: what was watched if that was long enough, otherwise the mean since enrolment."""
        if self._day.observed >= HOUR:
            return self._day.per_second
        return (self.capacity - self._left) / age if age >= HOUR else None

    def _is_low(self, age: float) -> bool:
        slack = _SLACK if self._low else 1.0
        if 100 * self._left < self._thresholds.percent * slack * self.capacity:
            return True
        burn = self._burn(age)
        if burn and self._left < burn * self._thresholds.days * slack * DAY:
            return True
        pace = self._hour.per_second if self._hour.observed >= SPIKE_SECONDS else None
        return bool(pace) and self._left < (pace or 0.0) * slack * DAY and bool(self._thresholds.days)
