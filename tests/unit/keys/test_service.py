from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any

import pytest

from simulation.keynet import NetKme
from skex.base import limits
from skex.base.ids import SaeId
from skex.base.secret import Secret
from skex.keys.api import Requirements
from skex.protocol import assign, kme, receiver
from skex.protocol.changes import KeysVoided, Role
from skex.wire import messages
from skex.wire.claim import ClaimClass
from skex.wire.peer import RevokeReason
from tests.unit.keys.keys_support import (
    ALICE,
    ANN,
    ANY,
    BEN,
    BOB,
    NORTH,
    SOUTH,
    World,
    play,
    refusal,
    replace_method,
    same,
    settings,
)

EVE = SaeId("eve@east")


# ── the ordinary way ────────────────────────────────────────────────────────────────────────────
def test_both_ends_get_equal_keys_once() -> None:
    async def scene(world: World) -> None:
        mine = await world.take(3)
        theirs = await world.fetch(mine)
        assert same(mine, theirs)
        assert len({key.key.expose() for key in mine}) == 3
        assert [key.claim for key in mine] == [key.claim for key in theirs]
        assert await refusal(world.fetch(mine)) == "key-not-held"
        ids = tuple(key.key_id for key in mine)
        assert world.north.heard_here.delivered == [(ALICE, SOUTH, ids, True)]
        assert world.south.heard_here.delivered == [(BOB, NORTH, ids, False)]
        batch = world.north.heard_here.notices[-1]
        assert isinstance(batch, assign.Delivered)
        assignee = world.south.engine.core.peer_messages.assignee
        assert assignee.assignment(NORTH, batch.keys[0].batch, 0) is None

    play(scene)


def test_keys_flow_both_ways_and_are_never_the_same() -> None:
    async def scene(world: World) -> None:
        mine = await world.take()
        back = await world.south.service.take_new(BOB, [ALICE], 1, 32, ANY)
        there = await world.north.service.take_by_id(ALICE, BOB, [back[0].key_id])
        assert same(back, there)
        assert mine[0].key != back[0].key

    play(scene)


def test_keys_of_several_batches_come_in_one_delivery() -> None:
    async def scene(world: World) -> None:
        await world.stock(2)
        await world.stock(2)
        mine = await world.take(4)
        assert same(mine[::-1], await world.fetch(mine[::-1]))

    play(scene)


@pytest.mark.parametrize(("key_bytes", "number"), [(16, 3), (1024, 128)])
def test_other_lengths_are_made_on_demand_even_if_one_batch_cannot_hold_them(
    key_bytes: int, number: int
) -> None:
    async def scene(world: World) -> None:
        mine = await world.take(number, key_bytes=key_bytes)
        assert {len(key.key) for key in mine} == {key_bytes}
        assert same(mine, await world.fetch(mine))
        assert world.depth(key_bytes) == 0

    play(scene)


def test_every_slave_of_one_kme_gets_the_key_once() -> None:
    async def scene(world: World) -> None:
        mine = await world.take(2, slaves=(BOB, BEN))
        assert same(mine, await world.fetch(mine, caller=BEN))
        assert await refusal(world.fetch(mine, caller=BEN)) == "key-not-held"
        assert same(mine[:1], await world.fetch(mine[:1]))
        world.south.restart()
        assert same(mine[1:], await world.fetch(mine[1:]))
        assert await refusal(world.fetch(mine[1:], caller=BEN)) == "key-not-held"
        assert len(world.south.held) == 0

    play(scene)


def test_two_slaves_at_once_both_get_the_key() -> None:
    async def scene(world: World) -> None:
        mine = await world.take(slaves=(BOB, BEN))
        found = await asyncio.gather(world.fetch(mine), world.fetch(mine, caller=BEN))
        assert all(same(mine, theirs) for theirs in found)

    play(scene, slowness=0.1)


def test_claims_say_what_the_key_rests_on() -> None:
    async def scene(world: World) -> None:
        world.net.derived = {1, 2}
        (key,) = await world.take()
        assert key.claim.claim_class is ClaimClass.INFORMATION_THEORETIC
        assert (key.claim.threshold, key.claim.margin, len(key.claim.hubs)) == (3, 1, 5)

    play(scene)


# ── what is refused ─────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"key_bytes": 15}, "size-unsupported"),
        ({"key_bytes": 1025}, "size-unsupported"),
        ({"number": 0}, "number-unsupported"),
        ({"number": 129}, "number-unsupported"),
        ({"slaves": ()}, "slaves-unsupported"),
        ({"slaves": (BOB, BOB)}, "slaves-unsupported"),
        ({"slaves": tuple(SaeId(f"s{n}@south") for n in range(65))}, "slaves-unsupported"),
        ({"slaves": (BOB, EVE)}, "slaves-unsupported"),
        ({"slaves": (ANN,)}, "slaves-unsupported"),
        ({"caller": EVE}, "not-authorised"),
        ({"asked": Requirements(purpose="")}, "requirements-unmet"),
        ({"asked": Requirements(purpose="x" * 33)}, "requirements-unmet"),
        ({"asked": Requirements(purpose="\u00e9")}, "requirements-unmet"),
        ({"asked": Requirements(purpose="a\n")}, "requirements-unmet"),
        ({"asked": Requirements(lifetime=0)}, "requirements-unmet"),
    ],
)
def test_a_request_out_of_bounds_is_refused_and_recorded(how: dict[str, Any], code: str) -> None:
    async def scene(world: World) -> None:
        assert await refusal(world.take(**how)) == code
        assert [one[2] for one in world.north.heard_here.refused] == [code]

    play(scene)


def test_a_pair_that_policy_forbids_gets_nothing_at_either_end() -> None:
    async def scene(world: World) -> None:
        mine = await world.take()
        for end in (world.north, world.south):
            end.allowed = lambda _caller, _other: False
        assert await refusal(world.take()) == "not-authorised"
        assert await refusal(world.fetch(mine)) == "not-authorised"
        assert await refusal(world.north.service.status(ALICE, BOB)) == "not-authorised"

    play(scene)


def test_keys_whose_purpose_policy_forbids_by_now_stay_where_they_are() -> None:
    async def scene(world: World) -> None:
        mine = await world.take(asked=Requirements(purpose="tls"))
        world.south.purposes_denied = {"tls"}
        assert await refusal(world.fetch(mine)) == "not-authorised"
        world.south.purposes_denied = set()
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_the_rule_that_refused_is_recorded_and_what_no_rule_refused_has_none() -> None:
    async def scene(world: World) -> None:
        world.north.allowed = lambda _caller, _other: False
        await refusal(world.take())
        await refusal(world.take(caller=EVE))
        world.north.allowed = lambda _caller, _other: True
        await refusal(world.take(number=10_000))
        assert world.north.heard_here.rules == ["sae.allow.test", "default", ""]

    play(scene)


def test_keys_that_the_slaves_kme_does_not_allow_are_not_delivered() -> None:
    async def scene(world: World) -> None:
        world.south.allowed = lambda _caller, _other: False
        assert await refusal(world.take()) == "not-authorised"
        assert world.north.heard_here.delivered == []

    play(scene)


def test_an_sae_of_another_kme_fetches_nothing_here() -> None:
    async def scene(world: World) -> None:
        mine = await world.take()
        assert await refusal(world.fetch(mine, caller=EVE)) == "not-authorised"
        assert await refusal(world.fetch(mine, caller=BEN)) == "key-not-held"
        assert await refusal(world.fetch(mine, master=ANN)) == "key-not-held"
        assert await refusal(world.fetch([])) == "number-unsupported"
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_an_unknown_id_and_a_mixed_list_are_refused_whole() -> None:
    async def scene(world: World) -> None:
        mine = await world.take(2)
        ids = [mine[0].key_id, uuid.UUID(int=7)]
        assert await refusal(world.south.service.take_by_id(BOB, ALICE, ids)) == "key-not-held"
        twice = [mine[0].key_id, mine[0].key_id]
        assert await refusal(world.south.service.take_by_id(BOB, ALICE, twice)) == "key-not-held"
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_names_are_resolved_by_policy() -> None:
    async def scene(world: World) -> None:
        assert world.north.service.resolve("alice@north") == ALICE

    play(scene)


def test_requirements_that_no_key_meets_are_refused_and_cost_one_batch() -> None:
    async def scene(world: World) -> None:
        asked = Requirements(minimum_threshold=4)
        assert await refusal(world.take(asked=asked)) == "requirements-unmet"
        made = world.depth()
        for _ in range(5):
            assert await refusal(world.take(asked=asked)) == "requirements-unmet"
        assert world.depth() == made == 1
        await asyncio.sleep(limits.CLAIM_MEMORY_SECONDS)
        assert await refusal(world.take(asked=asked)) == "requirements-unmet"
        assert world.depth() == 1 + made
        assert len(await world.take(asked=Requirements(minimum_threshold=3))) == 1

    play(scene)


def test_a_stricter_policy_counts_more_than_the_request() -> None:
    async def scene(world: World) -> None:
        world.north.demanded = lambda asked: Requirements(asked.purpose, claim_class=ClaimClass.HYBRID)
        assert await refusal(world.take()) == "requirements-unmet"
        world.net.derived = {1}
        await asyncio.sleep(limits.CLAIM_MEMORY_SECONDS)
        assert len(await world.take()) == 1

    play(scene)


# ── time ────────────────────────────────────────────────────────────────────────────────────────
def test_a_demanded_lifetime_ends_what_was_not_fetched() -> None:
    async def scene(world: World) -> None:
        south = world.south
        south.spawn(south.service.upkeep.run(), "upkeep")
        mine = await world.take(2, asked=Requirements(lifetime=5))
        await asyncio.sleep(5 + limits.LIFETIME_MARGIN_SECONDS - 2)
        assert same(mine[:1], await world.fetch(mine[:1]))
        await asyncio.sleep(4)
        assert await refusal(world.fetch(mine[1:])) == "key-not-held"
        assert south.held.count(NORTH) == 0

    play(scene)


def test_the_slaves_kme_keeps_keys_for_lifetime_and_margin() -> None:
    async def scene(world: World) -> None:
        mine = await world.take(2)
        await asyncio.sleep(100 + limits.LIFETIME_MARGIN_SECONDS - 1)
        assert same(mine[:1], await world.fetch(mine[:1]))
        await asyncio.sleep(2)
        assert await refusal(world.fetch(mine[1:])) == "key-not-held"
        assert len(world.south.held) == 0

    play(scene, settings=settings(lifetime=100))


# ── hubs ────────────────────────────────────────────────────────────────────────────────────────
def test_two_hubs_down_keys_flow() -> None:
    async def scene(world: World) -> None:
        world.net.take_down(1, 4)
        mine = await world.take(2)
        assert same(mine, await world.fetch(mine))
        assert len(mine[0].claim.hubs) == 3

    play(scene)


def test_a_hub_that_lies_is_named_and_keys_flow() -> None:
    async def scene(world: World) -> None:
        hubs = list(world.net.hubs.values())
        hubs[0].lies = True
        mine = await world.take(2)
        assert same(mine, await world.fetch(mine))
        await asyncio.sleep(limits.LATE_SHARE_SECONDS + 1)
        blamed = {one.hub for one in world.south.heard_here.notices if isinstance(one, receiver.HubBlamed)}
        assert blamed == {hubs[0].name}

    play(scene)


def test_three_hubs_down_are_a_refusal_at_once_and_nothing_is_delivered() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        world.net.take_down(1, 3, 5)
        before = world.net.now()
        assert await refusal(world.take()) == "not-enough-hubs"
        assert world.net.now() - before < 0.1
        assert world.north.heard_here.delivered == []
        world.net.bring_up(3)
        mine = await world.take()
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_three_hubs_down_at_the_peer_are_a_refusal_within_the_deadline() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        for number in (1, 2, 3):
            hub = world.net.hubs[world.net.realm.hubs[number - 1].name]
            replace_method(hub, "from_kme", lambda *_: None)
        before = world.net.now()
        assert await refusal(world.take()) == "deadline-passed"
        assert world.net.now() - before <= limits.TAKE_SECONDS

    play(scene)


def test_three_hubs_down_in_the_middle_are_a_refusal_within_the_deadline() -> None:
    async def scene(world: World) -> None:
        await world.take()
        waiting = world.task(refusal(world.take()))
        await asyncio.sleep(0.01)
        world.net.take_down(1, 3, 5)
        before = world.net.now()
        assert await waiting == "not-enough-hubs"
        assert world.net.now() - before <= limits.TAKE_SECONDS

    play(scene, slowness=0.1)


def test_who_waits_behind_a_batch_that_hangs_is_refused_in_time_too() -> None:
    async def scene(world: World) -> None:
        await world.take()
        world.south.deaf = True
        first = world.task(refusal(world.take()))
        await asyncio.sleep(2)
        before = world.net.now()
        assert await refusal(world.take()) == "deadline-passed"
        assert world.net.now() - before <= limits.TAKE_SECONDS
        assert await first == "deadline-passed"
        world.south.deaf = False
        mine = await world.take()
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_an_assignment_that_is_not_answered_is_refused_and_its_keys_are_void() -> None:
    async def scene(world: World) -> None:
        await world.stock(5)
        world.south.deaf = True
        before = world.net.now()
        assert await refusal(world.take(2)) == "assign-unanswered"
        assert world.net.now() - before <= limits.TAKE_SECONDS
        assert world.depth() == 3
        world.south.deaf = False
        await world.until(lambda: world.south.held.count(NORTH) == 3)

    play(scene)


def test_a_peer_that_cannot_answer_for_want_of_a_root_gets_another_within_the_request() -> None:
    async def scene(world: World) -> None:
        await world.north.engine.root(SOUTH)
        world.south.deaf = True  # so the answer that lets it use the root is lost ...
        await asyncio.sleep(0.3)
        world.net.take_down(1, 2, 3, 4, 5)
        world.net.bring_up(1, 2, 3, 4, 5)  # ... and hubs that forgot the batch relay no CONFIRM again
        world.south.deaf = False
        await asyncio.sleep(100)
        before = world.net.now()
        mine = await world.take()
        assert world.net.now() - before > limits.ASSIGN_SECONDS
        assert same(mine, await world.fetch(mine))

    play(scene, slowness=0.05)


def test_a_peer_that_is_gone_is_named_as_absent() -> None:
    async def scene(world: World) -> None:
        await world.stock(5)
        world.south.stop()
        assert await refusal(world.take()) == "receiver-absent"
        world.south.start()
        mine = await world.take()
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_an_offer_that_could_not_leave_leaves_its_keys_in_the_reserve() -> None:
    async def scene(world: World) -> None:
        await world.stock(5)
        world.net.take_down(1, 2, 3, 4, 5)
        assert await refusal(world.take(2)) == "link-down"
        assert world.depth() == 5
        world.net.bring_up(1)
        assert len(await world.take(5)) == 5

    play(scene)


# ── restarts ────────────────────────────────────────────────────────────────────────────────────
def test_nothing_is_delivered_before_enough_hubs_showed_no_rollback() -> None:
    async def scene(world: World) -> None:
        mine = await world.take()
        world.net.take_down(1, 2, 3)
        for end in (world.north, world.south):
            end.restart()
        assert await refusal(world.take()) == "not-ready"
        assert await refusal(world.fetch(mine)) == "not-ready"
        unknown = world.south.service.take_by_id(BOB, ALICE, [uuid.UUID(int=7)])
        assert await refusal(unknown) == "not-ready"
        world.net.bring_up(1)
        assert same(mine, await world.fetch(mine))
        assert len(await world.take()) == 1

    play(scene)


def test_the_slaves_kme_restarts_between_assignment_and_delivery() -> None:
    async def scene(world: World) -> None:
        mine = await world.take(2)
        assert same(mine[:1], await world.fetch(mine[:1]))
        world.south.restart()
        assert await refusal(world.fetch(mine[:1])) == "key-not-held"
        assert same(mine[1:], await world.fetch(mine[1:]))

    play(scene)


def test_a_peer_that_restarted_costs_a_request_nothing_but_time() -> None:
    async def scene(world: World) -> None:
        await world.stock(10)
        await world.take(2)
        world.south.restart()
        mine = await world.take(3)
        assert same(mine, await world.fetch(mine))
        assert world.depth() == 2

    play(scene)


def test_the_masters_kme_restarts_keys_in_reserve_are_still_good() -> None:
    async def scene(world: World) -> None:
        await world.stock(10)
        mine = await world.take(2)
        world.north.restart()
        assert world.depth() == 8
        more = await world.take(8)
        assert same(mine, await world.fetch(mine))
        assert same(more, await world.fetch(more))
        assert not {key.key_id for key in mine} & {key.key_id for key in more}

    play(scene)


def test_keys_offered_and_not_delivered_before_a_restart_are_void_at_both_ends() -> None:
    async def scene(world: World) -> None:
        await world.stock(10)
        world.south.deaf = True
        waiting = world.task(world.take(4))
        await world.until(lambda: world.depth() == 6)
        await asyncio.sleep(0.5)
        world.north.restart()
        world.south.deaf = False
        assert world.depth() == 6
        await asyncio.gather(waiting, return_exceptions=True)
        await world.until(lambda: world.south.held.count(NORTH) == 6)
        assert world.north.heard_here.delivered == []

    play(scene)


def test_both_kmes_restarted_deliver_again() -> None:
    async def scene(world: World) -> None:
        await world.take()
        world.south.restart()
        world.north.restart()
        mine = await world.take(2)
        assert same(mine, await world.fetch(mine))

    play(scene)


# ── callers that go away ────────────────────────────────────────────────────────────────────────
TURN_SECONDS = 0.0003


async def cancelled_at(world: World, turn: int, work: Coroutine[Any, Any, object]) -> bool:
    """Cancel a request after so many turns; whether it was still under way."""
    waiting = world.task(work)
    for _ in range(turn):
        await asyncio.sleep(TURN_SECONDS)
        if waiting.done():
            return False
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    return True


def slow(world: World) -> None:
    """Make commits as long as several turns, and messages not longer than all the rest."""
    replace_method(world.net, "commit_time", lambda: 0.001)
    world.net.slowness = 0.001


def test_a_request_cancelled_at_any_moment_loses_nothing_silently() -> None:
    async def scene(world: World) -> None:
        slow(world)
        await world.north.engine.root(SOUTH)
        heard, seen, turn = world.north.heard_here, set(), 0
        under_way = True
        while under_way:
            for told in (heard.notices, heard.delivered, heard.lost):
                told.clear()
            world.north.engine.reserve.drop(SOUTH, None)
            under_way = await cancelled_at(world, turn, world.take(2))
            await asyncio.sleep(limits.TAKE_SECONDS)
            assert not world.north.engine._assignments
            committed = [one for one in heard.notices if isinstance(one, assign.Delivered)]
            assert len(committed) == len(heard.delivered) + len(heard.lost)
            voided = [one for one in heard.notices if isinstance(one, assign.AssignmentEnded)]
            seen.add((bool(heard.delivered), bool(heard.lost), bool(voided), world.depth()))
            turn += 1
        # It went back to the reserve, was voided, was committed for nobody, and was delivered.
        assert seen >= {
            (False, False, False, 2),
            (False, False, True, 0),
            (False, True, False, 0),
            (True, False, False, 0),
        }
        engine = world.north.engine
        assert not [*engine._assignments, *engine._delivering, *engine._establishing]
        assert not world.north.service._supply._queues
        mine = await world.take(2)
        assert same(mine, await world.fetch(mine))

    play(scene)


def test_a_fetch_cancelled_at_any_moment_is_lost_loudly_or_can_be_repeated() -> None:
    async def scene(world: World) -> None:
        slow(world)
        heard, outcomes, turn = world.south.heard_here, set(), 0
        read_keys = world.south.read_keys
        read: list[Secret] = []

        async def watched(*arguments: Any) -> Any:
            read[:] = await read_keys(*arguments)
            return tuple(read)

        replace_method(world.south, "read_keys", watched)
        under_way = True
        while under_way:
            mine = await world.take(2)
            heard.lost.clear()
            under_way = await cancelled_at(world, turn, world.fetch(mine))
            await asyncio.sleep(1)
            outcomes.add((under_way, bool(heard.lost)))
            if heard.lost:
                assert heard.lost == [(BOB, NORTH, tuple(key.key_id for key in mine), False)]
                assert all(secret.wiped for secret in read)
            if heard.lost or not under_way:
                assert await refusal(world.fetch(mine)) == "key-not-held"
            else:
                assert same(mine, await world.fetch(mine))
            turn += 1
        assert outcomes == {(True, False), (True, True), (False, False)}

    play(scene)


def test_a_delivery_that_cannot_be_recorded_does_not_go_out() -> None:
    async def scene(world: World) -> None:
        class FullDiskError(Exception):
            pass

        def delivered(*_: object, **__: object) -> None:
            raise FullDiskError

        kept: list[Any] = []
        original = world.north.engine.deliver

        async def deliver(*arguments: Any) -> Any:
            kept.extend(await original(*arguments))
            return tuple(kept)

        replace_method(world.north.engine, "deliver", deliver)
        replace_method(world.north, "delivered", delivered)
        with pytest.raises(FullDiskError):
            await world.take()
        assert kept
        assert all(secret.wiped for secret in kept)

    play(scene)


# ── races ───────────────────────────────────────────────────────────────────────────────────────
def test_two_requests_for_one_id_only_one_gets_it() -> None:
    async def scene(world: World) -> None:
        mine = await world.take(2)
        found = await asyncio.gather(
            *(world.fetch(mine[:1]) for _ in range(5)), world.fetch(mine), return_exceptions=True
        )
        assert sum(not isinstance(one, BaseException) for one in found) == 1

    play(scene, slowness=0.1)


def test_many_requests_at_once_get_different_keys() -> None:
    async def scene(world: World) -> None:
        found = await asyncio.gather(*(world.take(1 + number % 4) for number in range(40)))
        mine = [key for keys in found for key in keys]
        assert len({key.key_id for key in mine}) == len(mine) == 100
        assert same(mine, await world.fetch(mine))

    play(scene, slowness=0.05)


def test_keys_voided_while_they_are_fetched_are_not_delivered() -> None:
    async def scene(world: World) -> None:
        mine = await world.take(2)
        engine = world.south.engine
        original = world.south.read_keys
        read: list[Any] = []

        async def read_keys(*arguments: Any) -> Any:
            found = await original(*arguments)
            read.extend(found)
            world.north.engine.revoke(*revocation)
            await asyncio.sleep(1)
            return found

        revocation = revoke_all()
        replace_method(world.south, "read_keys", read_keys)
        assert await refusal(world.fetch(mine)) == "key-not-held"
        assert all(secret.wiped for secret in read)
        assert read
        assert engine.held.count(NORTH) == 0

    play(scene)


def test_keys_revoked_while_they_are_delivered_are_not_and_others_are() -> None:
    async def scene(world: World) -> None:
        await world.stock(4)
        original = world.north.read_keys
        once = [True]

        async def read_keys(*arguments: Any) -> Any:
            found = await original(*arguments)
            if once.pop() if once else False:
                world.north.engine.revoke(*revoke_all())
            return found

        replace_method(world.north, "read_keys", read_keys)
        mine = await world.take(2)
        assert same(mine, await world.fetch(mine))
        ended = [one for one in world.north.heard_here.notices if isinstance(one, assign.AssignmentEnded)]
        assert [one.code.name for one in ended] == ["key-revoked"]

    play(scene)


def revoke_all() -> Any:
    return Role.SENDER, SOUTH, RevokeReason.KEY_COMPROMISE, None


def test_a_rollback_found_in_the_middle_stops_a_delivery_at_either_end() -> None:
    async def scene(world: World) -> None:
        mine = await world.take()

        def roll_back(end: NetKme) -> None:
            for hub in list(world.net.hubs)[:3]:
                end.engine.handle(
                    kme.LinkProved(hub, rolled_back=True, epoch=1, realm_digest=world.net.realm.digest())
                )

        def during_read(end: NetKme) -> None:
            original = end.read_keys

            async def read_keys(*arguments: Any) -> Any:
                found = await original(*arguments)
                roll_back(end)
                return found

            replace_method(end, "read_keys", read_keys)

        during_read(world.south)
        assert await refusal(world.fetch(mine)) in {"not-ready", "key-not-held"}
        assert world.south.heard_here.delivered == []
        during_read(world.north)
        assert await refusal(world.take()) in {"not-ready", "key-revoked"}
        assert len(world.north.heard_here.delivered) == 1
        assert world.depth() == 0

    play(scene)


def test_a_peer_that_does_not_have_the_keys_of_a_batch_costs_that_batch_only() -> None:
    async def scene(world: World) -> None:
        await world.stock(10)
        keys = world.north.engine.reserve.free(SOUTH)
        world.south.store.commit(((void(keys),),))
        world.south.restart()
        mine = await world.take(2)
        assert same(mine, await world.fetch(mine))
        assert world.depth() == 0

    play(scene)


def void(keys: Any) -> Any:
    return KeysVoided(Role.RECEIVER, NORTH, keys)


def test_a_request_that_is_unlucky_again_and_again_is_refused() -> None:
    async def scene(world: World) -> None:
        await world.stock(10)

        async def read_keys(*_: object) -> Any:
            world.north.engine.revoke(*revoke_all())
            await asyncio.sleep(0)
            return ()

        replace_method(world.north, "read_keys", read_keys)
        assert await refusal(world.take()) == "key-not-held"

    play(scene)


# ── status ──────────────────────────────────────────────────────────────────────────────────────
def test_status_says_what_could_be_delivered_at_once() -> None:
    async def scene(world: World) -> None:
        await world.stock(20)
        status = await world.north.service.status(ALICE, BOB)
        assert (status.source_kme, status.target_kme, status.stored) == (NORTH, SOUTH, 20)
        assert (status.master, status.slave, status.stored_max) == (ALICE, BOB, 50)
        await world.stock(40)
        assert (await world.north.service.status(ALICE, BOB)).stored == 50
        assert await refusal(world.north.service.status(ALICE, ANN)) == "slaves-unsupported"

    play(scene, settings=settings(reserve_high=50))


def test_messages_on_the_way_never_hold_a_key() -> None:
    async def scene(world: World) -> None:
        mine = await world.take(3)
        await world.fetch(mine)
        for end in (world.north, world.south):
            for message in end.heard_here.sent:
                body = messages.encode_message(message)
                assert not any(key.key.expose() in body for key in mine)

    play(scene)
