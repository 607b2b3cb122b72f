"""Calls at an instant of the boot-time clock, also behind a suspend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from skex.runtime import clock

PIECE_SECONDS: Final = 5.0
"""Event loops' own clocks stand still while the machine sleeps: a long wait is made of short ones, so
that after a sleep nothing comes later than this."""


class Alarm:
    """One call that waits for its time."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self._when = when
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._wait()

    def cancel(self) -> None:
        """Do not make the call. Idempotent."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _wait(self) -> None:
        delay = min(max(0.0, self._when - clock.now()), PIECE_SECONDS)
        self._handle = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        if clock.now() < self._when:
            self._wait()
        else:
            self._handle = None
            self._callback()


class Timer:
    """One alarm that is set again and again."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._alarm: Alarm | None = None

    def set(self, when: float | None) -> None:
        """Call at ``when`` and not at any time that was set before; None: not at all."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None if when is None else Alarm(when, self._callback)
