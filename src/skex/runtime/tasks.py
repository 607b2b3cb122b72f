"""Background tasks that cannot vanish: each is referenced until it ends, and its failure is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Tasks:
    """The running tasks of one owner; ``on_failure`` hears of every exception but cancellation."""

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._on_failure = on_failure
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = False

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run ``work`` in the background; not at all once these tasks were stopped."""
        if self._stopped:
            work.close()
            return
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Cancel what runs and wait until it has ended; nothing starts any more."""
        self._stopped = True
        for task in self._running:
            task.cancel()
        await self.settled()

    async def settled(self) -> None:
        """Return once nothing runs any more, without cancelling anything."""
        while self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)
