"""Keeps one link connected: dials, waits for the end, backs off, dials again.

Backing off is what keeps an attacker who cuts connections from burning a table pad: each connection
costs it a few units. A cheap wait must be earned by a connection that stands: so whatever the pattern of
the cuts, there is no more than one connection for each ``STEADY_SECONDS`` in the long run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from skex.runtime import entropy

FIRST_SECONDS: Final = 0.5
LAST_SECONDS: Final = 60.0
STEADY_SECONDS: Final = 30.0
"""Each time that a connection lasts so long takes back one doubling of the waits."""
DIAL_SECONDS: Final = 10.0
"""How long a TCP connection may take to open."""
_STEPS: Final = 16
"""More doublings than there are between the first wait and the last."""
_CANNOT_DIAL: Final = (OSError, ValueError, OverflowError)
"""Nobody listens, the name means nothing, or it cannot even be a name: none of it may end a daemon."""


class Backoff:
    """Waits that double up to a bound, spread so that many KMEs do not come back at once."""

    def __init__(self) -> None:
        self._seconds = FIRST_SECONDS

    def next(self) -> float:
        """The next wait: between half of it and all of it."""
        seconds, self._seconds = self._seconds, min(2 * self._seconds, LAST_SECONDS)
        return seconds * (1 + entropy.random_bytes(1)[0] / 255) / 2

    def lasted(self, seconds: float) -> None:
        """A connection stood for so long: the waits become shorter step by step, as they became longer."""
        steps = int(min(seconds / STEADY_SECONDS, _STEPS))
        self._seconds = max(FIRST_SECONDS, self._seconds / 2**steps)


async def keep_connected(
    connect: Callable[[], Awaitable[asyncio.Event]],
    wanted: Callable[[], bool],
    now: Callable[[], float],
) -> None:
    """Dial while ``wanted``; ``connect`` opens one connection and returns the event of its end.

    ``connect`` leaves nothing open when it raises or is cancelled.
    """
    backoff = Backoff()
    while wanted():
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                ended = await connect()
        except _CANNOT_DIAL:
            pass
        else:
            opened = now()
            await ended.wait()
            backoff.lasted(now() - opened)
        await asyncio.sleep(backoff.next())
