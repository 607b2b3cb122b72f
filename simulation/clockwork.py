"""An event loop whose time passes only when nothing is left to do: hours of waiting take no time at all.

For tests of asynchronous code without sockets or threads. Everything is decided by the code and the
seed, so a run can be repeated exactly; a wait that nothing would ever end is an error, not a hang.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")
_START = 1000.0


class NothingWillHappenError(AssertionError):
    """Everybody waits, and no timer is set."""


class _Selector(selectors.SelectSelector):
    """Waits by moving the clock."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise NothingWillHappenError
        if not ready and timeout:
            self._advance(timeout)
        return ready


class ClockworkLoop(asyncio.SelectorEventLoop):
    """Runs everything that is ready, then jumps to the next timer."""

    def __init__(self) -> None:
        self._now = _START
        super().__init__(_Selector(self._pass))

    def time(self) -> float:
        """Seconds on the loop's own clock."""
        return self._now

    def _pass(self, seconds: float) -> None:
        self._now += seconds


def run(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run ``main`` on a clockwork loop of its own; whatever is unhandled in it fails the caller."""
    unhandled: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=ClockworkLoop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        try:
            result = runner.run(main)
        except Exception:
            _check(unhandled)  # first: it may be why
            raise
        gc.collect()  # futures whose failure nobody heard say so when they go
    _check(unhandled)
    return result


def _check(unhandled: list[dict[str, Any]]) -> None:
    for context in unhandled:
        raise AssertionError(context["message"]) from context.get("exception")
