"""Keys that rest: neither end hands them out, whatever was under way, also after a start."""

from __future__ import annotations

import asyncio

import pytest

from skex.base.ids import KmeName
from skex.keys.states import KeyState
from skex.keys.suspended import Suspensions
from skex.protocol.changes import KeysSuspended, Role, SuspendReason
from skex.wire.peer import KeyRange, RevokeReason
from tests.unit.keys.keys_support import (
    ALICE,
    BEN,
    BOB,
    NORTH,
    SOUTH,
    World,
    batch_id,
    play,
    refusal,
    same,
)

WHY = SuspendReason.INVESTIGATION


def free(world: World) -> tuple[KeyRange, ...]:
    return world.north.engine.reserve.free(SOUTH)


def test_keys_that_rest_are_not_handed_out_and_are_again_once_resumed() -> None:
    async def scene(world: World) -> None:
        await world.stock(4)
        first = KeyRange(free(world)[0].batch, 0, 3)
        await world.north.engine.suspend(Role.SENDER, SOUTH, WHY, (first,))
        assert (world.depth(), free(world)) == (1, (KeyRange(first.batch, 0, 4),))
        mine = await world.take(2)
        assert (world.depth(), free(world)) == (0, (first,))
        await world.north.engine.resume(Role.SENDER, SOUTH, (first,))
        assert world.depth() == 3
        more = await world.take(3)
        assert (world.depth(), free(world)) == (0, ())
        assert same([*mine, *more], await world.fetch([*mine, *more]))

    play(scene)


def test_suspension_outlives_a_start_and_ends_with_its_keys() -> None:
    async def scene(world: World) -> None:
        await world.stock(4)
        (keys,) = free(world)
        await world.north.engine.suspend(Role.SENDER, SOUTH, WHY, (keys,))
        world.north.restart()
        assert (world.depth(), free(world)) == (0, (keys,))
        world.north.engine.revoke(Role.SENDER, SOUTH, RevokeReason.SUPERSEDED, (keys,))
        assert free(world) == ()
        suspensions = world.north.engine.reserve.suspensions
        assert not suspensions.covers(Role.SENDER, SOUTH, keys.batch, 0)
        await asyncio.sleep(1)
        assert world.north.store.suspensions() == ()

    play(scene)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_pair_that_rests_makes_and_hands_out_nothing_until_it_is_resumed(restarted: bool) -> None:
    async def scene(world: World) -> None:
        await world.stock(4)
        await world.north.engine.suspend(Role.SENDER, SOUTH, WHY, None)
        if restarted:
            world.north.restart()
        assert world.depth() == 0
        assert await refusal(world.take()) == "keys-suspended"
        world.north.service.filling.wake()
        await world.north.engine.resume(Role.SENDER, SOUTH, None)
        mine = await world.take()
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_nothing_is_filled_for_a_pair_that_rests() -> None:
    async def scene(world: World) -> None:
        mine = await world.take()
        assert mine
        world.run_background(filling=True, upkeep=False)
        await world.until(lambda: world.depth() > 0)
        await world.north.engine.suspend(Role.SENDER, SOUTH, WHY, None)
        await world.until(
            lambda: all(one.idle.is_set() for one in world.north.service.filling._levels.values())
        )
        before = free(world)
        await asyncio.sleep(60)
        assert free(world) == before
        await world.north.engine.resume(Role.SENDER, SOUTH, None)
        assert world.depth() > 0

    play(scene)


def test_assigned_keys_that_rest_at_the_slaves_end_look_like_keys_that_are_not_there() -> None:
    async def scene(world: World) -> None:
        mine = await world.take(2)
        place = world.south.held.find(mine[0].key_id)
        assert place is not None
        sender, batch, index = place
        keys = (KeyRange(batch, index, 1),)
        await world.south.engine.suspend(Role.RECEIVER, sender, WHY, keys)
        assert await refusal(world.fetch(mine)) == "key-not-held"
        assert await refusal(world.fetch(mine[:1])) == "key-not-held"
        world.south.restart()
        assert await refusal(world.fetch(mine[:1])) == "key-not-held"
        (history,) = world.south.store.history(batch)
        assert history.state(index) is KeyState.ASSIGNED_SUSPENDED
        await world.south.engine.resume(Role.RECEIVER, sender, keys)
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_a_key_suspended_while_a_slave_is_taking_it_is_not_handed_out() -> None:
    async def scene(world: World) -> None:
        mine = await world.take()
        fetching = world.task(world.fetch(mine))
        await asyncio.sleep(0)
        await world.south.engine.suspend(Role.RECEIVER, NORTH, WHY, None)
        assert await refusal(fetching) == "key-not-held"
        await world.south.engine.resume(Role.RECEIVER, NORTH, None)
        assert same(mine, await world.fetch(mine))

    play(scene, slowness=0.1)


def test_what_some_slaves_took_rests_for_the_others() -> None:
    async def scene(world: World) -> None:
        mine = await world.take(slaves=(BOB, BEN))
        place = world.south.held.find(mine[0].key_id)
        assert place is not None
        _, batch, index = place
        await world.fetch(mine)
        await world.south.engine.suspend(Role.RECEIVER, NORTH, WHY, None)
        assert await refusal(world.fetch(mine, caller=BEN)) == "key-not-held"
        (history,) = world.south.store.history(batch)
        assert history.state(index) is KeyState.PARTLY_DELIVERED_SUSPENDED
        assert history.takers(index) == (BOB,)
        await world.south.engine.resume(Role.RECEIVER, NORTH, None)
        assert same(mine, await world.fetch(mine, caller=BEN))

    play(scene)


def test_keys_assigned_ahead_are_given_up_when_they_are_suspended() -> None:
    async def scene(world: World) -> None:
        await world.stock(64)
        for _ in range(20):
            await world.take()
        await world.until(lambda: len(world.north.service._blocks))
        block = next(iter(world.north.service._blocks._blocks.values()))
        keys = block.left.keys
        await world.north.engine.suspend(Role.SENDER, SOUTH, WHY, keys[:1])
        await world.until(lambda: block not in world.north.service._blocks._blocks.values())
        (history,) = world.north.store.history(keys[0].batch)
        assert history.state(keys[0].first) is KeyState.ERASED
        mine = await world.take()
        assert same(mine, await world.fetch(mine))

    play(scene)


# ── ageing ──────────────────────────────────────────────────────────────────────────────────────
def test_a_reserve_that_grew_too_old_is_not_handed_out_and_is_replaced_at_both_ends() -> None:
    async def scene(world: World) -> None:
        world.north.reserve_age = 600
        await world.stock(4)
        old = free(world)
        await asyncio.sleep(601)
        assert free(world) == old
        mine = await world.take()
        assert old[0].batch not in {one.batch for one in free(world)} or free(world)[0] == old[0]
        assert same(mine, await world.fetch(mine))
        world.run_background()
        await world.until(lambda: old[0].batch not in {one.batch for one in free(world)})
        await world.until(lambda: not world.north.store.load(0).peer_messages.queued)
        for end in (world.north, world.south):
            (history,) = end.store.history(old[0].batch)
            assert history.revoked == {RevokeReason.SUPERSEDED: 0b1111}
            assert {history.state(index) for index in range(4)} == {KeyState.ERASED}

    play(scene)


# ── the set itself ──────────────────────────────────────────────────────────────────────────────
def test_a_set_of_suspensions_is_what_was_put_in_less_what_ended() -> None:
    one, other = KeyRange(batch_id(1), 0, 4), KeyRange(batch_id(2), 1, 2)
    stored = (
        KeysSuspended(Role.SENDER, SOUTH, (one, other), WHY),
        KeysSuspended(Role.RECEIVER, NORTH, None, WHY),
    )
    suspensions = Suspensions(stored)
    assert suspensions.covers(Role.SENDER, SOUTH, one.batch, 3)
    assert not suspensions.covers(Role.SENDER, SOUTH, one.batch, 4)
    assert not suspensions.covers(Role.RECEIVER, SOUTH, one.batch, 3)
    assert suspensions.covers(Role.RECEIVER, NORTH, batch_id(9), 9)
    assert not suspensions.rests(Role.SENDER, KmeName("east"))
    suspensions.resume(Role.SENDER, SOUTH, (KeyRange(one.batch, 0, 3),))
    whole = (KeyRange(one.batch, 0, 8),)
    assert suspensions.without(Role.SENDER, SOUTH, one.batch, whole) == (
        KeyRange(one.batch, 0, 3),
        KeyRange(one.batch, 4, 4),
    )
    suspensions.gone(Role.SENDER, SOUTH, (KeyRange(one.batch, 3, 1), other))
    assert suspensions.without(Role.SENDER, SOUTH, one.batch, whole) is whole
    suspensions.resume(Role.RECEIVER, NORTH, None)
    assert not suspensions.rests(Role.RECEIVER, NORTH)
    assert ALICE  # one end's SAE never matters here
