"""Whether a reserve keeps up: starved after a minute below its low mark, told once each way."""

from __future__ import annotations

import asyncio

import pytest

from skex.base import limits
from skex.keys.filling import ReserveMarks
from skex.keys.health import Health, Turn, Watch
from tests.unit.keys.keys_support import SOUTH, World, play

LONG = limits.RESERVE_STARVED_SECONDS


def test_reserve_below_its_low_mark_for_long_is_starved_and_that_is_told_once_each_way() -> None:
    watch = Watch(low=100, taken=0, now=0)
    looks = [
        (50, 1, None, Health.FILLING),
        (50, LONG, None, Health.FILLING),
        (50, LONG + 1, Turn(starved=True, keys=50), Health.STARVED),
        (0, LONG + 2, None, Health.EMPTY),
        (100, LONG + 3, Turn(starved=False, keys=100), Health.FULL),
    ]
    for depth, at, turn, health in looks:
        assert (watch.look(depth, 0, at, filled=True), watch.health) == (turn, health)


def test_moments_below_the_mark_do_not_add_up() -> None:
    watch = Watch(low=100, taken=0, now=0)
    for minute in range(10):
        assert watch.look(99, 0, minute * LONG, filled=True) is None
        assert watch.look(100, 0, minute * LONG + LONG / 2, filled=True) is None


def test_reserve_that_nobody_is_to_fill_is_no_alarm() -> None:
    watch = Watch(low=100, taken=0, now=0)
    assert [watch.look(0, 0, at * LONG, filled=False) for at in range(1, 4)] == [None] * 3
    assert watch.health is Health.OFF


def test_pace_of_taking_says_how_long_the_reserve_lasts() -> None:
    watch = Watch(low=100, taken=7, now=0)
    assert (watch.taken_per_second, watch.seconds_left) == (0, None)
    for second in range(1, 601):
        watch.look(500, 7 + 5 * second, second, filled=True)
    assert watch.taken_per_second == pytest.approx(5)
    assert watch.seconds_left == pytest.approx(100)


def test_filling_tells_of_a_reserve_that_no_hub_helps_to_fill_and_of_its_recovery() -> None:
    marks = ReserveMarks(SOUTH, 32, 100, 300)

    async def scene(world: World) -> None:
        filling = world.north.service.filling
        filling.add(marks)
        world.run_background(filling=True)
        await world.until(lambda: world.depth() == 300)
        await world.take(5)
        await filling.switch_off()
        for _ in range(2):
            await world.take(128)
        await asyncio.sleep(2 * LONG)
        assert world.north.heard_here.turns == []
        assert filling.watch(marks).health is Health.OFF
        world.net.take_down(1, 2, 3)
        filling.switch_on()
        await asyncio.sleep(2 * LONG)
        assert world.north.heard_here.turns == [(marks, Turn(starved=True, keys=39))]
        world.net.bring_up(1)
        await world.until(lambda: world.depth() == 300)
        await asyncio.sleep(2 * limits.FILL_LOOK_SECONDS)
        assert world.north.heard_here.turns[1:] == [(marks, Turn(starved=False, keys=300))]

    play(scene)
