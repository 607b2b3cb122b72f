from __future__ import annotations

import asyncio

from skex.base import limits
from skex.base.ids import KmeName
from skex.keys.filling import ReserveMarks
from skex.keys.health import Health
from skex.protocol import sender
from skex.protocol.establishment import RootMade
from tests.unit.keys.keys_support import SOUTH, World, play, refusal, same, settings

MARKS = ReserveMarks(SOUTH, 32, 100, 300)


def tries(world: World, seconds: float = 0.0) -> int:
    """Batches that were refused."""
    return sum(isinstance(one, sender.NotEstablished) for one in world.north.heard_here.notices)


async def filled(world: World, marks: ReserveMarks = MARKS) -> None:
    world.north.service.filling.add(marks)
    world.run_background(filling=True)
    await world.until(lambda: world.depth(marks.key_bytes) == marks.high)


def test_a_reserve_is_filled_to_its_high_mark_and_no_further() -> None:
    async def scene(world: World) -> None:
        await filled(world)
        await asyncio.sleep(30)
        assert world.depth() == 300
        assert world.north.service.filling.failures(SOUTH, 32) == 0

    play(scene)


def test_configured_reserves_are_filled_from_the_start_on() -> None:
    async def scene(world: World) -> None:
        world.north.reserves = (MARKS,)
        world.north.restart()
        world.run_background(filling=True)
        await world.until(lambda: world.depth() == 300, 1)

    play(scene)


def test_a_reserve_is_filled_again_only_below_its_low_mark() -> None:
    async def scene(world: World) -> None:
        await filled(world)
        await world.take(100)
        await world.take(100)
        await asyncio.sleep(10)
        assert world.depth() == 100
        await world.take(1)
        await world.until(lambda: world.depth() == 300, 0.5)

    play(scene)


def test_batches_are_of_the_set_size_and_fit_the_protocol() -> None:
    async def scene(world: World) -> None:
        await filled(world, ReserveMarks(SOUTH, 1024, 10, 100))
        sizes = {
            one.batch.context.keys
            for one in world.north.heard_here.notices
            if isinstance(one, sender.Established)
        }
        assert max(sizes) == 55

    play(scene, settings=settings(batch_keys=64))


def test_a_reserve_that_nobody_configured_is_filled_once_keys_were_delivered_from_it() -> None:
    async def scene(world: World) -> None:
        world.run_background(filling=True)
        await asyncio.sleep(5)
        assert world.depth() == 0
        await world.take(key_bytes=64)
        await asyncio.sleep(5)
        assert world.depth() == 0
        await world.take()
        await world.until(lambda: world.depth() == 512, 5)
        assert world.north.service.filling.reserves == (ReserveMarks(SOUTH, 32, 128, 512),)

    play(scene)


def test_a_reserve_that_is_filled_keeps_its_marks() -> None:
    async def scene(world: World) -> None:
        filling = world.north.service.filling
        filling.add(MARKS)
        filling.add(ReserveMarks(SOUTH, 32, 1, 2))
        assert filling.reserves == (MARKS,)
        assert filling.failures(KmeName("west"), 32) == 0

    play(scene)


def test_nothing_is_tried_before_this_kme_may_deliver() -> None:
    async def scene(world: World) -> None:
        world.net.take_down(1, 2, 3)
        world.north.restart()
        world.north.service.filling.add(MARKS)
        world.run_background(filling=True)
        await asyncio.sleep(120)
        assert tries(world) == 0
        world.net.bring_up(1)
        await world.until(lambda: world.depth() == 300, limits.WITNESS_SECONDS + 2)

    play(scene)


def test_nothing_is_made_for_a_peer_that_policy_forbids_until_it_is_allowed_again() -> None:
    async def scene(world: World) -> None:
        world.north.shunned.add(SOUTH)
        world.north.service.filling.add(MARKS)
        world.run_background(filling=True)
        await asyncio.sleep(120)
        made = (sender.Established, sender.NotEstablished, RootMade)
        assert not any(isinstance(one, made) for one in world.north.heard_here.notices)
        assert world.north.service.filling.watch(MARKS).health is Health.OFF
        assert await refusal(world.stock(1)) == "not-authorised"
        world.north.shunned.clear()
        await world.until(lambda: world.depth() == 300, 2)

    play(scene)


def test_refusals_are_followed_by_longer_and_longer_waits() -> None:
    async def scene(world: World) -> None:
        world.net.take_down(1, 2, 3)
        world.north.service.filling.add(MARKS)
        world.run_background(filling=True)
        await asyncio.sleep(10)
        early = tries(world)
        assert 3 <= early <= 6
        await asyncio.sleep(600)
        assert tries(world) - early < 20
        assert world.north.service.filling.failures(SOUTH, 32) == tries(world)

    play(scene)


def test_a_hub_that_comes_ends_the_wait() -> None:
    async def scene(world: World) -> None:
        world.net.take_down(1, 2, 3)
        world.north.service.filling.add(MARKS)
        world.run_background(filling=True)
        await asyncio.sleep(600)
        world.net.bring_up(2)
        await world.until(lambda: world.depth() == 300, 2)
        assert world.north.service.filling.failures(SOUTH, 32) == 0

    play(scene)


def test_requests_are_served_while_filling_waits() -> None:
    async def scene(world: World) -> None:
        world.south.deaf = True
        world.north.service.filling.add(MARKS)
        world.run_background(filling=True)
        await asyncio.sleep(20)
        assert world.north.service.filling.failures(SOUTH, 32) > 0
        world.south.deaf = False
        mine = await world.take()
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_switched_off_it_leaves_a_drained_reserve_empty_and_requests_are_served_on_demand() -> None:
    async def scene(world: World) -> None:
        filling = world.north.service.filling
        filling.add(MARKS)
        world.run_background(filling=True)
        await world.until(lambda: world.depth() > 0)
        await filling.switch_off()
        assert not filling.is_on
        world.north.service.drain(SOUTH)
        await asyncio.sleep(30)
        assert world.depth() == 0
        mine = await world.take(2)
        assert same(mine, await world.fetch(mine))
        world.net.take_down(1, 2)
        assert len(await world.take()) == 1
        world.net.take_down(3)
        assert await refusal(world.take()) == "not-enough-hubs"
        world.net.bring_up(3)
        filling.switch_on()
        await world.until(lambda: world.depth() == 300)

    play(scene, slowness=0.05)


def test_two_reserves_do_not_wait_for_each_other() -> None:
    async def scene(world: World) -> None:
        filling = world.north.service.filling
        filling.add(ReserveMarks(KmeName("west"), 32, 10, 20))
        await filled(world)
        await asyncio.sleep(10)
        assert filling.failures(KmeName("west"), 32) > 0

    play(scene)
