from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from simulation.clockwork import run
from skex.base import codes
from skex.base.errors import Refused
from skex.keys.handover import Wanted, abandon, fail, hand_over


class Watch:
    """Whoever watches the background."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.orphans: list[str] = []

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work, name=name))

    def start(self, work: Callable[[Wanted], Awaitable[str]]) -> asyncio.Task[str]:
        waiting = hand_over(self.spawn, "work", work, self.orphans.append)
        return asyncio.get_running_loop().create_task(waiting)


async def slow(wanted: Wanted) -> str:
    await asyncio.sleep(1)
    return "wanted" if wanted() else "not wanted"


def test_the_result_goes_to_who_waits() -> None:
    async def scene() -> None:
        watch = Watch()
        assert await watch.start(slow) == "wanted"
        assert watch.orphans == []

    run(scene())


def test_work_whose_waiter_went_away_ends_and_its_result_is_not_lost_silently() -> None:
    async def scene() -> None:
        watch = Watch()
        waiting = watch.start(slow)
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.sleep(1)
        assert waiting.cancelled()
        assert watch.orphans == ["not wanted"]

    run(scene())


def test_a_waiter_cancelled_in_the_moment_the_result_came_loses_nothing() -> None:
    async def scene() -> None:
        watch = Watch()

        async def work(_: Wanted) -> str:
            await asyncio.sleep(1)
            asyncio.get_running_loop().call_soon(waiting.cancel)  # before the waiter wakes
            return "result"

        waiting = watch.start(work)
        await asyncio.sleep(2)
        assert waiting.cancelled()
        assert watch.orphans == ["result"]

    run(scene())


def test_a_refusal_goes_to_who_waits_only() -> None:
    async def scene() -> None:
        watch = Watch()

        async def work(_: Wanted) -> str:
            raise Refused(codes.BUSY)

        with pytest.raises(Refused):
            await watch.start(work)
        await watch.tasks[0]

    run(scene())


def test_a_refusal_that_nobody_waits_for_is_no_error() -> None:
    async def scene() -> None:
        watch = Watch()

        async def work(wanted: Wanted) -> str:
            await slow(wanted)
            raise Refused(codes.BUSY)

        waiting = watch.start(work)
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.sleep(1)
        await watch.tasks[0]
        assert watch.orphans == []

    run(scene())


def test_a_waiter_cancelled_in_the_moment_a_refusal_came_hears_of_its_cancellation() -> None:
    async def scene() -> None:
        watch = Watch()

        async def work(_: Wanted) -> str:
            await asyncio.sleep(1)
            asyncio.get_running_loop().call_soon(waiting.cancel)
            raise Refused(codes.BUSY)

        waiting = watch.start(work)
        await asyncio.sleep(2)
        assert waiting.cancelled()
        assert watch.orphans == []

    run(scene())


def test_a_bug_goes_to_who_waits_and_to_who_watches() -> None:
    async def scene() -> None:
        watch = Watch()

        async def work(_: Wanted) -> str:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await watch.start(work)
        with pytest.raises(ZeroDivisionError):
            await watch.tasks[0]

    run(scene())


def test_a_stopped_background_leaves_nobody_waiting() -> None:
    async def scene() -> None:
        watch = Watch()
        waiting = watch.start(slow)
        await asyncio.sleep(0.5)
        watch.tasks[0].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.cancelled()
        assert watch.orphans == []

    run(scene())


def test_a_wait_that_ended_is_not_ended_again() -> None:
    async def scene() -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        fail(done, Refused(codes.BUSY))
        fail(None, Refused(codes.BUSY))
        assert done.exception() is None

    run(scene())


def test_an_abandoned_failure_is_not_reported_as_unheard() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        failed: asyncio.Future[None] = loop.create_future()
        failed.set_exception(Refused(codes.BUSY))
        abandon(failed)
        pending: asyncio.Future[None] = loop.create_future()
        abandon(pending)
        abandon(pending)
        assert pending.cancelled()

    run(scene())
