from __future__ import annotations

import asyncio
import gc

import pytest

from skex.runtime import clock, timers
from skex.runtime.tasks import Tasks
from skex.runtime.timers import Alarm, Timer


def test_a_failure_in_the_background_is_heard_and_a_cancellation_is_not() -> None:
    async def run() -> None:
        failures: list[BaseException] = []
        tasks = Tasks(failures.append)

        async def fail() -> None:
            raise ZeroDivisionError

        tasks.start(fail(), "fails")
        tasks.start(asyncio.sleep(60), "sleeps")
        await asyncio.sleep(0.01)
        await tasks.stop()
        assert [type(one) for one in failures] == [ZeroDivisionError]

    asyncio.run(run())


def test_stopping_waits_for_what_cleaning_up_takes_and_nothing_starts_afterwards() -> None:
    async def run() -> None:
        heard: list[str] = []
        tasks = Tasks(lambda error: None)

        async def slow() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.02)
                tasks.start(late(), "late")
                heard.append("cleaned up")

        async def late() -> None:
            heard.append("late")

        tasks.start(slow(), "slow")
        await asyncio.sleep(0)
        await tasks.stop()
        gc.collect()  # a coroutine that was never awaited would warn here
        assert heard == ["cleaned up"]

    asyncio.run(run())


def test_settling_cancels_nothing() -> None:
    async def run() -> None:
        heard: list[str] = []
        tasks = Tasks(lambda error: None)

        async def work() -> None:
            await asyncio.sleep(0.01)
            heard.append("done")

        tasks.start(work(), "work")
        await tasks.settled()
        assert heard == ["done"]

    asyncio.run(run())


def test_an_alarm_looks_at_the_boot_clock_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(timers, "PIECE_SECONDS", 0.01)
        now = 1000.0
        monkeypatch.setattr(clock, "now", lambda: now)
        rung = asyncio.Event()
        Alarm(1500.0, rung.set)
        await asyncio.sleep(0.03)
        assert not rung.is_set()
        now = 1500.0  # the machine slept: the event loop's own clock did not see it
        await asyncio.wait_for(rung.wait(), 1)

    asyncio.run(run())


def test_a_timer_that_is_set_anew_rings_for_the_last_time_only() -> None:
    async def run() -> None:
        rung: list[float] = []
        timer = Timer(lambda: rung.append(clock.now()))
        timer.set(clock.now())
        last = clock.now() + 0.03
        timer.set(last)
        await asyncio.sleep(0.1)
        assert len(rung) == 1
        assert rung[0] >= last
        timer.set(clock.now())
        timer.set(None)
        await asyncio.sleep(0.02)
        assert len(rung) == 1

    asyncio.run(run())
