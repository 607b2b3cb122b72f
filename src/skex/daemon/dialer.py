"""Keeps one link connected: dials, waits for the end, backs off, dials again.

Backing off is what keeps an attacker who cuts connections from burning a table pad: each connection
costs it a few units. A cheap wait must be earned by a connection that stands: so whatever the pattern of
the cuts, there is no more than one connection for each ``STEADY_SECONDS`` in the long run. A dial that
finds nobody costs nothing, nor does a chain's connection that both ends proved: there a hub that comes
back is found within seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from skex.runtime import entropy

FIRST_SECONDS: Final = 0.5
LAST_SECONDS: Final = 60.0
"""The longest wait behind a connection that cost pad, or whose preface failed."""
LAST_CHEAP_SECONDS: Final = 5.0
"""The longest wait behind what cost nothing; a thousand KMEs then dial a dead hub 270 times a second."""
STEADY_SECONDS: Final = 30.0
"""Each time that a connection lasts so long takes back one doubling of the waits."""
DIAL_SECONDS: Final = 10.0
"""How long a TCP connection may take to open."""
_STEPS: Final = 16
"""More doublings than there are between the first wait and the last."""
_CANNOT_DIAL: Final = (OSError, ValueError, OverflowError)
"""Nobody listens, the name means nothing, or it cannot even be a name: none of it may end a daemon."""


@dataclass(slots=True)
class Dialled:
    """A connection that was opened. ``is_cheap`` once it turns out to have cost no pad worth sparing."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_cheap: bool = False


class Backoff:
    """Waits that double up to a bound, spread so that many KMEs do not come back at once."""

    def __init__(self, last: float = LAST_SECONDS) -> None:
        self._last = last
        self._seconds = FIRST_SECONDS

    def next(self, most: float = LAST_SECONDS) -> float:
        """The next wait: between half of it and all of it, and at most ``most``."""
        seconds, self._seconds = min(self._seconds, most), min(2 * self._seconds, self._last)
        return seconds * (1 + entropy.random_bytes(1)[0] / 255) / 2

    def lasted(self, seconds: float) -> None:
        """A connection stood for so long: the waits become shorter step by step, as they became longer."""
        steps = int(min(seconds / STEADY_SECONDS, _STEPS))
        self._seconds = max(FIRST_SECONDS, self._seconds / 2**steps)


async def keep_connected(
    connect: Callable[[], Awaitable[Dialled]],
    wanted: Callable[[], bool],
    now: Callable[[], float],
) -> None:
    """Dial while ``wanted``; ``connect`` opens one connection.

    ``connect`` leaves nothing open when it raises or is cancelled.
    """
    unreached, lost = Backoff(LAST_CHEAP_SECONDS), Backoff()
    while wanted():
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                dialled = await connect()
        except _CANNOT_DIAL:
            wait = unreached.next()
        else:
            unreached = Backoff(LAST_CHEAP_SECONDS)
            opened = now()
            await dialled.ended.wait()
            lost.lasted(now() - opened)
            wait = lost.next(LAST_CHEAP_SECONDS if dialled.is_cheap else LAST_SECONDS)
        await asyncio.sleep(wait)
