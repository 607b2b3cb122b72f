"""Group commit: sets of changes that come while one transaction runs share the next one.

Sets become durable in the order in which they came, and each one's continuation runs, on the event
loop, after its transaction and in the same order. A commit that fails ends the committer for good:
machines' memories are then ahead of the disk, so the daemon must start anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

ChangeT = TypeVar("ChangeT", contravariant=True)
ResultT = TypeVar("ResultT")


class Store(Protocol[ChangeT]):
    """What the committer needs of a store; called on one thread of its own."""

    def commit(self, sets: Sequence[Sequence[ChangeT]]) -> None:
        """Apply all sets in one transaction and return once it is durable."""


class Committer(Generic[ChangeT]):
    """Owns the store's thread; everything that touches the store runs there."""

    def __init__(self, store: Store[ChangeT]) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._waiting: list[tuple[Sequence[ChangeT], Callable[[], None]]] = []
        self._wake = asyncio.Event()
        self._committing = False

    def submit(self, changes: Sequence[ChangeT], then: Callable[[], None]) -> None:
        """Make ``changes`` durable, then call ``then``; an empty set only keeps its place in the order."""
        if not changes and not self._waiting and not self._committing:
            then()
            return
        self._waiting.append((changes, then))
        self._wake.set()

    async def durable(self, changes: Sequence[ChangeT]) -> None:
        """Return once ``changes`` are durable."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def finish() -> None:
            if not done.done():
                done.set_result(None)

        self.submit(changes, finish)
        await done

    async def call(self, work: Callable[[], ResultT]) -> ResultT:
        """Run ``work`` on the store's thread, between transactions."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def run(self) -> None:
        """Commit until cancelled. Raises what the store raises, and then commits nothing more."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._commit(batch)

    async def _commit(self, batch: list[tuple[Sequence[ChangeT], Callable[[], None]]]) -> None:
        sets = [changes for changes, _ in batch if changes]
        self._committing = True  # until the last continuation ran: what they submit comes behind them
        try:
            if sets:
                await self.call(lambda: self._store.commit(sets))
            for _, then in batch:
                then()
        finally:
            self._committing = False

    def close(self) -> None:
        """End the store's thread once what it does is done."""
        self._thread.shutdown(wait=True)
