from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skex.base import limits
from skex.keys.api import Requirements
from skex.protocol import sender
from tests.unit.keys.keys_support import (
    SOUTH,
    World,
    make_batch,
    play,
    refusal,
    replace_method,
    same,
    settings,
)


def batches(world: World) -> list[int]:
    """How many keys each batch had that the north made."""
    return [
        notice.batch.context.keys
        for notice in world.north.heard_here.notices
        if isinstance(notice, sender.Established) and notice.batch.context.purpose
    ]


def test_a_lone_request_waits_for_nobody_and_makes_what_it_needs() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        await world.take(3)
        assert batches(world) == [3]
        assert world.depth() == 0

    play(scene, slowness=0.1)


def test_those_who_come_while_a_batch_is_under_way_share_the_next() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        first = world.task(world.take(2))
        await asyncio.sleep(0.01)
        others = [world.task(world.take(number)) for number in (1, 3, 5)]
        found = [key for keys in await asyncio.gather(first, *others) for key in keys]
        assert batches(world) == [2, 9]
        assert same(found, await world.fetch(found))

    play(scene, slowness=0.1)


def test_many_requests_are_served_by_batches_of_bounded_size() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        await asyncio.gather(*(world.take(100) for _ in range(30)))
        assert batches(world) == [1024, 1024, 952]

    play(scene, slowness=0.1)


def test_who_came_first_is_served_first_even_if_he_needs_more() -> None:
    async def scene(world: World) -> None:
        await world.stock(2)
        served: list[int] = []
        offer = world.north.engine.offer

        def watched(pair: Any, taken: Any) -> Any:
            served.append(taken.count)
            return offer(pair, taken)

        replace_method(world.north.engine, "offer", watched)
        big = world.task(world.take(100))
        await asyncio.sleep(0.001)
        small = world.task(world.take(1))
        await asyncio.sleep(0.001)
        assert world.depth() == 2
        await asyncio.gather(big, small)
        assert served == [100, 1]

    play(scene, slowness=0.01)


def test_keys_that_the_background_brings_serve_those_who_wait() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        hanging = world.task(refusal(world.take(2)))
        world.south.deaf = True
        await asyncio.sleep(0.1)
        waiting = world.task(world.take(5))
        await asyncio.sleep(0.1)
        world.south.deaf = False
        await world.stock(20)
        mine = await waiting
        assert same(mine, await world.fetch(mine))
        hanging.cancel()

    play(scene)


def test_requests_for_other_kinds_do_not_wait_for_each_other() -> None:
    async def scene(world: World) -> None:
        await world.take()
        world.south.deaf = True
        hanging = world.task(refusal(world.take(2)))
        await asyncio.sleep(0.1)
        world.south.deaf = False
        others = [
            world.take(1, key_bytes=64),
            world.take(1, asked=Requirements(minimum_threshold=2)),
        ]
        async with asyncio.timeout(1):
            await asyncio.gather(*others)
        hanging.cancel()

    play(scene)


def test_a_refused_batch_ends_those_it_was_made_for_only() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        first = world.task(refusal(world.take()))
        await asyncio.sleep(0.02)
        second = world.task(world.take())
        world.net.take_down(1, 2, 3)
        world.net.bring_up(1, 2, 3)
        await asyncio.sleep(0.001)
        assert await first == "not-enough-hubs"
        mine = await second
        assert same(mine, await world.fetch(mine))

    play(scene, slowness=0.1)


def test_more_waiting_requests_than_allowed_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITING_REQUESTS", 2)

    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        waiting = [world.task(world.take()) for _ in range(2)]
        await asyncio.sleep(0.001)
        assert await refusal(world.take()) == "queue-full"
        await asyncio.gather(*waiting)

    play(scene, slowness=0.1)


def test_a_request_that_goes_away_leaves_the_keys_to_others() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        waiting = world.task(world.take(7))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await world.until(lambda: world.depth() == 7)

    play(scene, slowness=0.1)


def test_a_served_request_that_goes_away_before_it_notices_gives_its_keys_up() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        offer = world.north.engine.offer

        def offer_and_go(*arguments: Any) -> Any:
            world.net.loop.call_soon(waiting.cancel)  # before who waits wakes
            return offer(*arguments)

        replace_method(world.north.engine, "offer", offer_and_go)
        waiting = world.task(world.take(7))
        await world.until(waiting.done)
        replace_method(world.north.engine, "offer", offer)
        assert waiting.cancelled()
        assert world.depth() == 0
        await asyncio.sleep(1)
        assert not world.north.engine._assignments
        assert world.south.held.count(world.north.name) == 0

    play(scene, slowness=0.1)


def test_who_went_away_but_is_still_in_the_queue_is_not_served() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        world.south.deaf = True
        waiting = world.task(world.take(2))
        supply = world.north.service._supply
        await world.until(lambda: supply._queues)
        (queue,) = supply._queues.values()
        (waiter,) = queue.waiting
        waiter.served.cancel()
        world.north.engine.reserve.add(make_batch(1, keys=5), world.net.now() + 10)
        supply._serve(next(iter(supply._queues)), queue)
        assert world.depth() == 5
        await asyncio.gather(waiting, return_exceptions=True)
        assert not queue.waiting

    play(scene)


def test_a_stopped_kme_leaves_nobody_waiting() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        waiting = world.task(world.take(2))
        await asyncio.sleep(0.01)
        world.north.stop()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()

    play(scene, slowness=0.1)


def test_what_is_torn_is_made_anew_rather_than_waited_for() -> None:
    async def scene(world: World) -> None:
        size = 600
        await world.stock(size, key_bytes=16)
        (whole,) = world.north.engine.reserve.free(SOUTH)
        ranges = [type(whole)(whole.batch, index, 1) for index in range(1, size, 2)]
        world.north.engine.reserve.drop(SOUTH, ranges)
        mine = await world.take(300, key_bytes=16)
        assert same(mine, await world.fetch(mine))
        assert batches(world) == [600, 300]

    play(scene, settings=settings(per_request_max=300))
