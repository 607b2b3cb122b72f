"""Group commit: sets of changes that come while one transaction runs share the next one.

Sets become durable in the order in which they came, and each one's continuation runs, on the event
loop, after its transaction and in the same order. A commit that fails ends the committer for good:
machines' memories are then ahead of the disk, so the daemon must start anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

ChangeT = TypeVar("ChangeT", contravariant=True)
ResultT = TypeVar("ResultT")


class Store(Protocol[ChangeT]):
    """What the committer needs of a store; called on one thread of its own."""

    def commit(self, sets: Sequence[Sequence[ChangeT]]) -> None:
        """Apply all sets in one transaction and return once it is durable."""


def _nobody(_error: BaseException) -> None:
    """Nobody waits for a set."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[ResultT]):
    """One set, what follows it, and who hears that it never became durable."""

    changes: Sequence[ResultT]
    then: Callable[[], None]
    lost: Callable[[BaseException], None]


class Committer(Generic[ChangeT]):
    """Owns the store's thread; everything that touches the store runs there."""

    def __init__(self, store: Store[ChangeT]) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._waiting: list[_Waiting[ChangeT]] = []
        self._wake = asyncio.Event()
        self._committing = False
        self._failure: BaseException | None = None

    @property
    def backlog(self) -> int:
        """How many sets wait for a transaction; whoever brings sets rests while there are many."""
        return len(self._waiting)

    def submit(
        self,
        changes: Sequence[ChangeT],
        then: Callable[[], None],
        lost: Callable[[BaseException], None] = _nobody,
    ) -> None:
        """Make ``changes`` durable, then call ``then``; an empty set only keeps its place in the order.

        ``lost`` is called instead, with the reason, if they never become durable. Behind a failure
        nothing is taken any more: the daemon ends.
        """
        if self._failure is not None:
            lost(self._failure)
        elif not changes and not self._waiting and not self._committing:
            then()
        else:
            self._waiting.append(_Waiting(changes, then, lost))
            self._wake.set()

    async def durable(self, changes: Sequence[ChangeT]) -> None:
        """Return once ``changes`` are durable. Raises why they never will be."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def finish() -> None:
            if not done.done():
                done.set_result(None)

        def lose(error: BaseException) -> None:
            if done.done():
                return
            if isinstance(error, asyncio.CancelledError):
                done.cancel()
            else:
                done.set_exception(error)

        self.submit(changes, finish, lose)
        await done

    async def call(self, work: Callable[[], ResultT]) -> ResultT:
        """Run ``work`` on the store's thread, between transactions."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def call_from_thread(self, work: Callable[[], ResultT]) -> ResultT:
        """The same from another thread than the event loop's and the store's, which waits for it."""
        return self._thread.submit(work).result()

    async def run(self) -> None:
        """Commit until cancelled. Raises what the store raises, and then commits nothing more."""
        batch: list[_Waiting[ChangeT]] = []
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    batch, self._waiting = self._waiting, []
                    await self._commit(batch)
        except BaseException as error:
            self._failure = error
            waiting, self._waiting = [*batch, *self._waiting], []
            for one in waiting:
                one.lost(error)
            raise

    async def tend(self, work: Callable[[], None], seconds: float) -> None:
        """Run ``work`` on the store's thread every so often, until cancelled. Raises what it raises."""
        while True:
            await asyncio.sleep(seconds)
            await self.call(work)

    async def _commit(self, batch: list[_Waiting[ChangeT]]) -> None:
        """Commit a batch; what is left in it afterwards did not get its continuation."""
        sets = [one.changes for one in batch if one.changes]
        self._committing = True  # until the last continuation ran: what they submit comes behind them
        try:
            if sets:
                await self.call(lambda: self._store.commit(sets))
            batch.reverse()
            while batch:
                batch.pop().then()
        finally:
            self._committing = False

    async def drain(self) -> None:
        """Return once everything that was submitted is durable, or never will be."""
        if self._failure is None and (self._waiting or self._committing):
            done = asyncio.Event()
            self.submit((), done.set, lambda _: done.set())
            await done.wait()

    def close(self) -> None:
        """End the store's thread once what it does is done."""
        self._thread.shutdown(wait=True)
