from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from skex.base import limits
from skex.base.ids import SaeId
from skex.keys.api import Requirements
from skex.protocol import assign
from skex.wire import messages
from tests.unit.keys.keys_support import (
    ALICE,
    ANN,
    BOB,
    NORTH,
    SOUTH,
    World,
    play,
    refusal,
    replace_method,
    same,
)


def blocks(world: World) -> int:
    return len(world.north.service._blocks)


async def make_busy(world: World, *, times: int = 5, keys: int = 1000) -> None:
    """Let a pair ask until it has a block."""
    await world.stock(keys)
    for _ in range(times):
        await world.take()
    await asyncio.sleep(1)
    assert blocks(world)


def ended(world: World) -> list[str]:
    return [
        notice.code.name
        for notice in world.north.heard_here.notices
        if isinstance(notice, assign.AssignmentEnded)
    ]


def test_a_busy_pair_is_served_without_a_round_trip() -> None:
    async def scene(world: World) -> None:
        await make_busy(world)
        world.net.take_down(1, 2, 3, 4, 5)
        sent = len(world.north.heard_here.sent)
        mine = await world.take(2)
        assert len(world.north.heard_here.sent) == sent
        world.net.bring_up(1, 2, 3)
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_a_pair_that_asks_rarely_gets_no_block() -> None:
    async def scene(world: World) -> None:
        await world.stock(100)
        for _ in range(20):
            await world.take()
            await asyncio.sleep(limits.BLOCK_BUSY_SECONDS)
        assert blocks(world) == 0
        assert world.depth() == 80

    play(scene)


@pytest.mark.parametrize(
    "how",
    [
        {"caller": ANN},
        {"slaves": (SaeId("ben@south"),)},
        {"asked": Requirements(purpose="vpn")},
        {"asked": Requirements(lifetime=60)},
        {"asked": Requirements(minimum_threshold=2)},
    ],
)
def test_a_block_serves_nobody_but_its_pair(how: dict[str, object]) -> None:
    async def scene(world: World) -> None:
        await make_busy(world)
        world.net.take_down(1, 2, 3, 4, 5)
        assert await refusal(world.take(**how)) == "link-down"  # type: ignore[arg-type]  # mixed keywords

    play(scene)


def test_many_requests_at_once_never_share_a_key_of_a_block() -> None:
    async def scene(world: World) -> None:
        await make_busy(world, times=50)
        found = [key for keys in await asyncio.gather(*(world.take() for _ in range(60))) for key in keys]
        assert len({key.key_id for key in found}) == 60
        assert same(found, await world.fetch(found))
        delivered = [one for one in world.north.heard_here.notices if isinstance(one, assign.Delivered)]
        assert len({one.request for one in delivered}) < len(delivered)

    play(scene, slowness=0.02)


def test_the_next_block_is_begun_before_the_first_is_used_up() -> None:
    async def scene(world: World) -> None:
        await make_busy(world, times=30)
        before = len(world.north.heard_here.sent)
        for _ in range(200):
            await world.take()
            await asyncio.sleep(0.02)
        asked = sum(isinstance(one, messages.Peer) for one in world.north.heard_here.sent[before:])
        assert asked < 40

    play(scene, slowness=0.05)


def test_a_block_is_renewed_while_it_is_used_and_given_up_when_it_is_not() -> None:
    async def scene(world: World) -> None:
        world.run_background()
        await world.stock(1000)
        for _ in range(4):
            await world.take(20)
        await asyncio.sleep(1)
        until = {block.until for block in world.north.service._blocks._blocks.values()}
        for _ in range(20):
            await asyncio.sleep(limits.BLOCK_IDLE_SECONDS / 3)
            assert blocks(world)
            await world.take()
        later = {block.until for block in world.north.service._blocks._blocks.values()}
        assert not until & later
        await asyncio.sleep(limits.BLOCK_IDLE_SECONDS + 2)
        assert blocks(world) == 0
        assert "assign-released" in ended(world)
        await world.until(lambda: world.south.held.count(NORTH) == len(world.south.held) + world.depth())

    play(scene)


def test_a_block_that_is_used_up_is_forgotten() -> None:
    async def scene(world: World) -> None:
        await make_busy(world)
        (block,) = world.north.service._blocks._blocks.values()
        world.north.engine.reserve.drop(SOUTH, None)
        await world.take(block.left.count)
        assert blocks(world) == 0
        assert not world.north.engine._assignments

    play(scene)


def test_a_request_larger_than_the_block_takes_the_ordinary_way() -> None:
    async def scene(world: World) -> None:
        await make_busy(world)
        mine = await world.take(100)
        assert same(mine, await world.fetch(mine))
        assert blocks(world) >= 1

    play(scene)


def test_blocks_leave_half_of_the_reserve_to_others() -> None:
    async def scene(world: World) -> None:
        await world.stock(20)
        for _ in range(5):
            await world.take()
        assert blocks(world) == 1
        assert world.depth() >= 7
        world.north.engine.reserve.drop(SOUTH, None)
        for _ in range(10):
            await world.take(5)
        assert world.depth() == 0

    play(scene)


def test_a_small_reserve_is_not_spent_on_one_pair() -> None:
    async def scene(world: World) -> None:
        await world.stock(6)
        for _ in range(4):
            await world.take()
        assert (blocks(world), world.depth()) == (0, 2)

    play(scene)


def test_a_block_is_over_when_the_lifetime_that_was_asked_for_is() -> None:
    async def scene(world: World) -> None:
        await world.stock(1000)
        for _ in range(5):
            await world.take(asked=Requirements(lifetime=4))
        await asyncio.sleep(3)
        assert blocks(world) == 1
        await asyncio.sleep(2)
        assert blocks(world) == 0
        assert ended(world) == ["assign-hold-ended"]

    play(scene)


def test_a_peer_that_restarted_ends_blocks_and_nobody_notices() -> None:
    async def scene(world: World) -> None:
        await make_busy(world)
        world.south.restart()
        mine = await world.take()
        await world.until(lambda: "incarnation-changed" in ended(world) or same(mine, mine))
        assert same(mine, await world.fetch(mine))
        more = await world.take(50)
        assert same(more, await world.fetch(more))
        assert "incarnation-changed" in ended(world)

    play(scene)


def test_a_block_whose_hold_ended_unnoticed_is_not_delivered_from() -> None:
    async def scene(world: World) -> None:
        await make_busy(world)
        world.net.take_down(1, 2, 3, 4, 5)
        await asyncio.sleep(limits.ASSIGN_HOLD_SECONDS + 1)
        assert blocks(world) == 0
        assert ended(world) == ["assign-hold-ended"]
        world.net.bring_up(1, 2, 3)
        mine = await world.take()
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_a_block_that_ends_in_the_middle_of_a_delivery_is_replaced() -> None:
    async def scene(world: World) -> None:
        await make_busy(world)
        (request,) = world.north.service._blocks._blocks
        read = world.north.read_keys
        released: list[object] = []

        async def read_keys(*arguments: object) -> object:
            found = await read(*arguments)  # type: ignore[arg-type]  # mixed arguments
            if not released:
                released.append(request)
                world.north.engine.release(SOUTH, request)
            return found

        replace_method(world.north, "read_keys", read_keys)
        mine = await world.take()
        assert same(mine, await world.fetch(mine))
        assert released

    play(scene)


def test_keys_of_a_delivery_that_nobody_waited_for_go_back_to_the_block() -> None:
    async def scene(world: World) -> None:
        await make_busy(world)
        (block,) = world.north.service._blocks._blocks.values()
        before = block.left.count
        replace_method(world.net, "commit_time", lambda: 0.1)
        waiting = world.task(world.take(2))
        await asyncio.sleep(0.05)
        assert block.left.count == before - 2
        waiting.cancel()
        await asyncio.sleep(0.2)
        assert (block.left.count, block.out) == (before, 0)

    play(scene)


def test_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOCKS", 2)
    monkeypatch.setattr(limits, "BLOCK_PAIRS", 3)
    monkeypatch.setattr(limits, "BLOCK_KEYS", 6)

    async def scene(world: World) -> None:
        await world.stock(1000)
        for number in range(4):
            for _ in range(8):
                await world.take(caller=SaeId(f"a{number}@north"))
        found = world.north.service._blocks
        assert len(found) == 2
        assert len(found._uses) == 3
        assert all(block.left.count <= 6 for block in found._blocks.values())

    play(scene)


def test_one_pair_has_a_bounded_number_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOCKS_PER_PAIR", 1)

    async def scene(world: World) -> None:
        await make_busy(world)
        for _ in range(20):
            await world.take(2)
        assert blocks(world) == 1

    play(scene)


def refuse_blocks(world: World) -> None:
    """Let the peer refuse the next block, and everything after it."""
    offer_ahead = world.north.engine.offer_ahead

    def refused(*arguments: Any) -> Any:
        world.south.accepts = False
        replace_method(world.north.engine, "offer_ahead", offer_ahead)
        return offer_ahead(*arguments)

    replace_method(world.north.engine, "offer_ahead", refused)


def test_a_peer_that_refuses_a_block_is_left_in_peace() -> None:
    async def scene(world: World) -> None:
        await world.stock(1000)
        refuse_blocks(world)
        for _ in range(4):
            await world.take()
        await asyncio.sleep(1)
        assert blocks(world) == 0
        assert ended(world) == ["not-authorised"]
        world.south.accepts = True
        for _ in range(10):
            await world.take()
        assert blocks(world) == 0
        assert len(ended(world)) == 1
        await asyncio.sleep(limits.BLOCK_QUIET_SECONDS)
        for _ in range(10):
            await world.take()
        assert blocks(world) == 1

    play(scene)


def test_a_refused_block_of_a_pair_that_was_forgotten_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOCK_PAIRS", 1)

    async def scene(world: World) -> None:
        await world.stock(1000)
        refuse_blocks(world)
        for _ in range(5):
            await world.take()
        assert blocks(world) == 1
        (pair,) = world.north.service._blocks._uses
        world.north.service._blocks._note(replace(pair, purpose="vpn"), 1, world.net.now())
        await asyncio.sleep(1)
        assert blocks(world) == 0

    play(scene, slowness=0.01)


def test_a_block_that_could_not_leave_leaves_its_keys_in_the_reserve() -> None:
    async def scene(world: World) -> None:
        await world.stock(1000)
        for _ in range(3):
            await world.take()
        found = world.north.service._blocks
        assert blocks(world) == 0
        depth = world.depth()
        world.net.take_down(1, 2, 3, 4, 5)
        (pair,) = found._uses
        found._note(pair, 1, world.net.now())
        found._assign_ahead(pair, 1, world.net.now())
        assert blocks(world) == 0
        assert world.depth() == depth

    play(scene)


def test_status_counts_what_is_assigned_ahead() -> None:
    async def scene(world: World) -> None:
        await make_busy(world, keys=20)
        stored = world.depth() + sum(
            block.left.count for block in world.north.service._blocks._blocks.values()
        )
        assert stored > world.depth()
        assert (await world.north.service.status(ALICE, BOB)).stored == stored

    play(scene)


def test_draining_leaves_no_key_at_either_end() -> None:
    async def scene(world: World) -> None:
        await make_busy(world)
        depth = world.depth()
        assert world.north.service.drain(SOUTH) == depth
        assert (blocks(world), world.depth()) == (0, 0)
        await world.until(lambda: world.south.held.count(NORTH) == 5)
        world.net.take_down(1, 2, 3)
        assert await refusal(world.take()) == "not-enough-hubs"

    play(scene)


def test_draining_one_peer_leaves_the_blocks_of_others() -> None:
    async def scene(world: World) -> None:
        await make_busy(world)
        assert world.north.service.drain(NORTH) == 0
        assert blocks(world) == 1

    play(scene)
