from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest

from skex.base import codes
from skex.base.errors import StoreFault
from skex.runtime.commit import Committer
from skex.runtime.tasks import Tasks


class Memory:
    """A store that keeps transactions, blocks while ``gate`` is closed, and fails when told to."""

    def __init__(self) -> None:
        self.transactions: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failure: StoreFault | None = None

    def commit(self, sets: Sequence[Sequence[int]]) -> None:
        assert self.gate.wait(10)
        if self.failure is not None:
            raise self.failure
        self.transactions.append([change for one in sets for change in one])


def play(scene: Callable[[Memory, Committer[int], list[BaseException]], Awaitable[None]]) -> Memory:
    """Run a scene with a running committer; the list gets what ended it."""
    store = Memory()

    async def run() -> None:
        committer: Committer[int] = Committer(store)
        failures: list[BaseException] = []
        tasks = Tasks(failures.append)
        tasks.start(committer.run(), "commit")
        try:
            await asyncio.wait_for(scene(store, committer, failures), 10)
        finally:
            store.gate.set()
            await tasks.stop()
            committer.close()

    asyncio.run(run())
    return store


def test_sets_that_come_during_a_transaction_share_the_next_and_keep_their_order() -> None:
    heard: list[int] = []

    async def scene(store: Memory, committer: Committer[int], _: list[BaseException]) -> None:
        store.gate.clear()
        for number in range(4):
            committer.submit((number,), partial(heard.append, number))
            await asyncio.sleep(0.01)
        assert heard == []
        store.gate.set()
        await committer.drain()

    assert play(scene).transactions == [[0], [1, 2, 3]]
    assert heard == [0, 1, 2, 3]


def test_an_empty_set_keeps_its_place_and_is_told_at_once_only_where_nothing_waits() -> None:
    heard: list[str] = []

    async def scene(_: Memory, committer: Committer[int], __: list[BaseException]) -> None:
        committer.submit((), lambda: heard.append("first"))
        assert heard == ["first"]
        committer.submit((1,), lambda: heard.append("second"))
        committer.submit((), lambda: heard.append("third"))
        assert heard == ["first"]
        await committer.drain()

    play(scene)
    assert heard == ["first", "second", "third"]


def test_what_a_continuation_submits_comes_behind_its_whole_transaction() -> None:
    heard: list[str] = []

    async def scene(store: Memory, committer: Committer[int], _: list[BaseException]) -> None:
        store.gate.clear()
        committer.submit((0,), lambda: None)
        await asyncio.sleep(0.01)
        committer.submit((1,), lambda: committer.submit((), lambda: heard.append("nested")))
        committer.submit((2,), lambda: heard.append("beside"))
        store.gate.set()
        await committer.drain()

    play(scene)
    assert heard == ["beside", "nested"]


def test_a_failed_store_ends_every_wait_and_nothing_is_taken_behind_it() -> None:
    fault = StoreFault(codes.STORE_FULL, "FullError")
    heard: list[str] = []

    async def scene(store: Memory, committer: Committer[int], failures: list[BaseException]) -> None:
        store.failure = fault
        store.gate.clear()
        first = asyncio.ensure_future(committer.durable((1,)))  # noqa: TID251  # a test's own task
        await asyncio.sleep(0.01)
        second = asyncio.ensure_future(committer.durable((2,)))  # noqa: TID251  # a test's own task
        committer.submit((3,), lambda: heard.append("never"))
        await asyncio.sleep(0)
        store.gate.set()
        ends: Sequence[object] = await asyncio.gather(first, second, return_exceptions=True)
        assert list(ends) == [fault, fault]
        with pytest.raises(StoreFault):
            await committer.durable(())
        committer.submit((), lambda: heard.append("never"))
        await committer.drain()
        await asyncio.sleep(0)
        assert failures == [fault]

    assert play(scene).transactions == []
    assert heard == []


def test_a_continuation_with_a_bug_ends_the_committer_and_the_waits_behind_it() -> None:
    bug = ZeroDivisionError()

    def broken() -> None:
        raise bug

    async def scene(store: Memory, committer: Committer[int], failures: list[BaseException]) -> None:
        store.gate.clear()
        committer.submit((1,), broken)
        await asyncio.sleep(0.01)
        store.gate.set()
        with pytest.raises(ZeroDivisionError):
            await committer.durable((2,))
        await asyncio.sleep(0)
        assert failures == [bug]

    play(scene)


def test_who_waits_is_cancelled_when_the_committer_is() -> None:
    async def run() -> None:
        store = Memory()
        committer: Committer[int] = Committer(store)
        tasks = Tasks(lambda error: None)
        tasks.start(committer.run(), "commit")
        store.gate.clear()
        waiting = asyncio.ensure_future(committer.durable((1,)))  # noqa: TID251  # a test's own task
        await asyncio.sleep(0.01)
        await tasks.stop()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        store.gate.set()
        committer.close()
        assert store.transactions == [[1]]  # a transaction under way is never torn

    asyncio.run(run())


def test_a_caller_that_gave_up_disturbs_nobody_and_its_set_still_becomes_durable() -> None:
    async def scene(store: Memory, committer: Committer[int], failures: list[BaseException]) -> None:
        store.gate.clear()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(committer.durable((1,)), 0.01)
        assert committer.backlog == 0
        store.gate.set()
        await committer.durable((2,))
        assert failures == []

    assert play(scene).transactions == [[1], [2]]


def test_work_on_the_stores_thread_never_meets_a_transaction() -> None:
    async def scene(store: Memory, committer: Committer[int], _: list[BaseException]) -> None:
        committer.submit((1,), lambda: None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await committer.call(lambda: list(store.transactions)) == [[1]]

    play(scene)
