from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from skex.base import limits
from skex.base.ids import BatchId, RequestId
from skex.keys.api import Requirements
from skex.keys.engine import Engine, most_keys
from skex.keys.orders import Kind
from skex.keys.reserve import Reserve
from skex.protocol import assign, kme, peer, receiver, sender
from skex.protocol.changes import BatchDropped, Role
from skex.protocol.effects import Effects
from skex.protocol.traffic import Tick
from skex.wire.context import Purpose
from skex.wire.peer import RevokeReason
from tests.unit.keys.keys_support import (
    ALICE,
    BOB,
    CLAIMS,
    NORTH,
    SOUTH,
    World,
    play,
    refusal,
    replace_method,
    same,
)


def heard(world: World, kind: type) -> list[Any]:
    return [one for one in world.north.heard_here.notices if isinstance(one, kind)]


def test_everybody_who_wants_a_root_waits_for_the_same() -> None:
    async def scene(world: World) -> None:
        await asyncio.gather(*(world.north.engine.root(SOUTH) for _ in range(5)))
        assert len(heard(world, sender.Established)) == 1
        await world.north.engine.root(SOUTH)
        assert len(heard(world, sender.Established)) == 1

    play(scene, slowness=0.1)


def test_a_root_that_cannot_be_made_is_a_refusal_to_all_who_wait() -> None:
    async def scene(world: World) -> None:
        world.net.take_down(1, 2, 3)
        found = await asyncio.gather(*(refusal(world.north.engine.root(SOUTH)) for _ in range(3)))
        assert found == ["not-enough-hubs"] * 3

    play(scene)


def test_who_stops_waiting_for_a_root_takes_it_from_nobody() -> None:
    async def scene(world: World) -> None:
        impatient, patient = (world.task(world.north.engine.root(SOUTH)) for _ in range(2))
        await asyncio.sleep(0.01)
        impatient.cancel()
        await patient
        assert impatient.cancelled()

    play(scene, slowness=0.1)


def test_a_root_from_before_a_start_is_renewed_in_the_background_once() -> None:
    async def scene(world: World) -> None:
        await world.take()
        world.north.heard_here.notices.clear()
        world.north.restart()
        await asyncio.sleep(5)
        made = [one.batch.context.purpose for one in heard(world, sender.Established)]
        assert made == [Purpose.CONTROL]
        mine = await world.take()
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_a_stop_leaves_nobody_waiting_for_a_root() -> None:
    async def scene(world: World) -> None:
        waiting = world.task(world.north.engine.root(SOUTH))
        await asyncio.sleep(0.01)
        world.north.stop()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()

    play(scene, slowness=0.1)


def test_keys_of_a_batch_are_wiped_from_memory_at_both_ends() -> None:
    async def scene(world: World) -> None:
        await world.stock(5)
        await asyncio.sleep(1)
        mine = [one.batch for one in heard(world, sender.Established)]
        theirs = [
            one.batch for one in world.south.heard_here.notices if isinstance(one, receiver.BatchAccepted)
        ]
        assert len(mine) == len(theirs) == 2
        assert all(batch.keys.wiped for batch in (*mine, *theirs))

    play(scene)


def test_a_revocation_takes_keys_out_of_the_reserve_before_it_is_durable() -> None:
    async def scene(world: World) -> None:
        await world.stock(5)
        replace_method(world.net, "commit_time", lambda: 1.0)
        world.north.engine.handle(revocation(world))
        assert world.depth() == 0
        mine = await world.take()
        assert same(mine, await world.fetch(mine))

    play(scene)


def revocation(world: World, role: Role = Role.SENDER) -> peer.RevokeKeys:
    request = RequestId(world.net.chance.randbytes(16))
    name = SOUTH if role is Role.SENDER else NORTH
    return peer.RevokeKeys(role, name, request, RevokeReason.KEY_COMPROMISE, None)


def test_a_revocation_by_the_slaves_kme_reaches_the_reserve() -> None:
    async def scene(world: World) -> None:
        await world.stock(5)
        mine = await world.take(2)
        world.south.engine.handle(revocation(world, Role.RECEIVER))
        await world.until(lambda: world.depth() == 0)
        assert await refusal(world.fetch(mine)) == "key-not-held"

    play(scene)


def test_a_rollback_found_revokes_every_undelivered_key_at_both_ends() -> None:
    async def scene(world: World) -> None:
        await world.stock(5)
        await world.stock(5, key_bytes=64)
        await world.south.service.take_new(BOB, [ALICE], 3, 32, Requirements())
        world.south.deaf = True
        waiting = world.task(refusal(world.take(2)))
        await asyncio.sleep(0.5)
        for hub in list(world.net.hubs)[:3]:
            world.north.engine.handle(
                kme.LinkProved(hub, rolled_back=True, epoch=1, realm_digest=world.net.realm.digest())
            )
        world.south.deaf = False
        assert await waiting in {"not-ready", "deadline-passed"}
        assert (world.depth(), world.depth(64), world.north.held.count(SOUTH)) == (0, 0, 0)
        await world.until(lambda: world.south.held.count(NORTH) == 0)
        reasons = {one.reason for one in heard(world, peer.Revoked)}
        assert reasons == {RevokeReason.ROLLBACK}
        assert await refusal(world.take()) == "not-ready"
        world.north.restart()
        assert await refusal(world.take()) == "not-ready"

    play(scene)


def test_expired_batches_are_erased_from_memory_and_store() -> None:
    async def scene(world: World) -> None:
        world.run_background()
        await world.stock(5, lifetime=100)
        await world.stock(5, lifetime=1000)
        await asyncio.sleep(102)
        assert world.depth() == 5
        kept = world.north.store.kept(world.net.now())
        assert [one.batch.context.lifetime for one in kept] == [1000]
        await asyncio.sleep(900)
        assert world.north.store.kept(world.net.now()) == ()

    play(scene)


def test_batches_that_expired_while_this_kme_was_down_are_erased_at_its_start() -> None:
    async def scene(world: World) -> None:
        await world.stock(5, lifetime=100)
        world.north.stop()
        await asyncio.sleep(200)
        world.north.start()
        world.run_background()
        assert world.north.engine.reserve.take(Kind(SOUTH, 32), 1, world.net.now()) is None
        await asyncio.sleep(2)
        assert world.north.store.kept(world.net.now()) == ()

    play(scene)


def test_rows_without_keys_are_dropped_now_and_then() -> None:
    async def scene(world: World) -> None:
        world.run_background()
        await world.stock(2, lifetime=100)
        await world.take(2)
        committed: list[object] = []
        commit = world.north.store.commit

        def watched(sets: Any) -> None:
            committed.extend(change for one in sets for change in one)
            commit(sets)

        replace_method(world.north.store, "commit", watched)
        emptied = world.north.life.emptied
        looked: list[float] = []

        async def looking() -> Any:
            looked.append(world.net.now())
            return await emptied()

        replace_method(world.north.life, "emptied", looking)
        await asyncio.sleep(2 * limits.TIDY_SECONDS - 5)
        assert len(looked) == 1
        assert any(isinstance(one, BatchDropped) for one in committed)
        committed.clear()
        await asyncio.sleep(limits.TIDY_SECONDS + 2)
        assert not any(isinstance(one, BatchDropped) for one in committed)

    play(scene)


def test_a_batch_that_the_peer_voids_is_not_held_there() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        await asyncio.sleep(1)
        lost = world.task(world.north.engine.establish(SOUTH, keys=3, key_bytes=32, lifetime=60))
        await world.until(lambda: world.south.held.count(NORTH) == 3)
        assert not lost.done()
        world.north.restart()  # before it was confirmed: nothing of it is left here
        lost.cancel()
        await world.until(lambda: world.south.held.count(NORTH) == 0)

    play(scene, slowness=0.2)


def test_a_peer_that_restarts_while_it_is_asked_answers_for_its_new_start() -> None:
    async def scene(world: World) -> None:
        await world.stock(4)
        world.south.deaf = True
        waiting = world.task(world.take(2))
        await asyncio.sleep(0.5)
        world.south.deaf = False
        world.south.restart()
        mine = await waiting
        assert same(mine, await world.fetch(mine))
        ended = [one.code.name for one in heard(world, assign.AssignmentEnded)]
        assert ended == ["incarnation-changed"]
        assert world.depth() == 0

    play(scene)


@pytest.mark.parametrize(("key_bytes", "most"), [(16, 1024), (32, 1024), (64, 894), (1024, 55)])
def test_one_batch_holds_as_many_keys_as_the_protocol_allows(key_bytes: int, most: int) -> None:
    assert most_keys(key_bytes) == most


def test_a_timer_that_did_not_move_is_not_set_again() -> None:
    async def scene(world: World) -> None:
        await world.take()
        calls = []
        call_at = world.north.call_at

        def watched(when: float, callback: Any) -> Any:
            calls.append(when)
            return call_at(when, callback)

        replace_method(world.north, "call_at", watched)
        await asyncio.sleep(5)
        calls.clear()
        world.north.engine.release(SOUTH, RequestId(bytes(16)))
        for _ in range(5):
            world.north.engine.handle(Tick())
        assert calls == []

    play(scene)


def test_machines_that_wait_for_nothing_have_no_timer() -> None:
    class Idle:
        """Machines with one deadline, which passes."""

        next_deadline: float | None = 5.0

        def start(self, now: float) -> kme.KmeEffects:
            return Effects()

        def handle(self, event: kme.KmeEvent, now: float) -> kme.KmeEffects:
            self.next_deadline = None
            return Effects()

    async def scene(world: World) -> None:
        timers: list[float] = []

        def call_at(when: float, callback: Any) -> Any:
            timers.append(when)
            return world.net.loop.call_at(when + world.net.now(), callback)

        ports: Any = SimpleNamespace(now=world.net.now, call_at=call_at)
        core: Any = Idle()
        engine = Engine(core, Reserve(CLAIMS), world.north.held, ports)
        engine.start()
        engine.handle(Tick())
        assert timers == [5.0]
        assert engine._timer is None
        await asyncio.sleep(10)
        assert timers == [5.0]

    play(scene)


def test_batch_ids_are_never_made_twice() -> None:
    async def scene(world: World) -> None:
        seen: list[BatchId] = []
        for _ in range(3):
            await world.stock(1)
            world.north.restart()
        seen += [one.batch.batch for one in heard(world, sender.Established)]
        assert len(set(seen)) == len(seen)

    play(scene)
