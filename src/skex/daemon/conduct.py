"""How often an enrolled KME may do what costs others something and brings it nothing.

A KME that is refused again and again, or that connects again and again, is not cut off: it is read
more slowly, so that it costs no more than the allowance and harms nobody but itself. It must not know
what was asked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from skex.base.ids import KmeName
from skex.protocol.quota import Rate

REFUSALS: Final = Rate(per_second=100.0, burst=1000.0)
"""Refused requests of one KME: more than an honest one has when its peer is gone, less than one core
notices."""
CONNECTIONS: Final = Rate(per_second=0.5, burst=30.0)
"""Proved connections of one link: each costs the hub several syncs. A KME that is cut off and backs off
stays far below; one that starts again and again for two minutes too."""

WAIT_SECONDS: Final = 5.0
"""The longest anybody is made to wait: half of what a preface may take, so that it still succeeds."""


class Allowance:
    """A rate, and what was used of it. Nobody waits longer than ``WAIT_SECONDS``: more debt is forgiven."""

    __slots__ = ("_at", "_rate", "_used")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._used = 0.0
        self._at = 0.0

    def use(self, now: float) -> float:
        """Use one; how many seconds to wait until that is within the rate, 0 if it is."""
        rate = self._rate
        used = max(0.0, self._used - (now - self._at) * rate.per_second) + 1
        self._used = min(used, rate.burst + rate.per_second * WAIT_SECONDS)
        self._at = now
        return max(0.0, self._used - rate.burst) / rate.per_second


class Seldom:
    """Passes so many a minute; of the rest it is only known that they were."""

    def __init__(self, a_minute: int) -> None:
        self._a_minute = a_minute
        self._began = 0.0
        self._passed = 0

    def passes(self, now: float) -> bool:
        """Whether one more is among the first of its minute."""
        if now >= self._began + 60:
            self._began, self._passed = now, 0
        self._passed += 1
        return self._passed <= self._a_minute


@dataclass(slots=True)
class Conduct:
    """What one KME did of late, for the operator, and what it may still do."""

    refused: Counter[str] = field(default_factory=Counter)
    slowed: int = 0
    connected: int = 0
    refusals: Allowance = field(default_factory=lambda: Allowance(REFUSALS))
    connections: Allowance = field(default_factory=lambda: Allowance(CONNECTIONS))


class Conducts:
    """The conduct of every enrolled KME; as many as there are links."""

    def __init__(self) -> None:
        self._of: dict[KmeName, Conduct] = {}

    def of(self, name: KmeName) -> Conduct:
        """One KME's, which begins with nothing."""
        return self._of.setdefault(name, Conduct())
