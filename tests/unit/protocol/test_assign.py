"""The sender's side alone: its answers come from the test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug
from skex.base.ids import Incarnation, RequestId
from skex.protocol.assign import (
    INITIAL,
    TABLE,
    Assigner,
    AssignerEffects,
    AssignerEvent,
    AssignKeys,
    AssignmentEnded,
    AssignToken,
    AttemptRefused,
    Deliverable,
    Delivered,
    IncarnationSeen,
    NotDelivered,
    NotOffered,
    PeerAnswered,
    Release,
    RequestState,
    RequestStep,
    Start,
    assign_refusal_code,
)
from skex.protocol.changes import KeysDelivered, KeysOffered, KeysVoided, Role
from skex.protocol.states import mermaid
from skex.protocol.traffic import Tick
from skex.protocol.ways import KeysTakenBack, MustArrive, Post, Ways
from skex.wire.peer import Assign, Assigned, AssignRefusal, KeyRange, NotAssigned, VoidKeys
from tests.unit.protocol.peer_support import (
    ALICE,
    BOB,
    HUBS,
    MASTER,
    OTHER_SLAVE,
    SLAVE,
    asking,
    batch_id,
    delivering,
    incarnation,
    key_range,
    request_id,
)

MINE = incarnation("alice", 1)
BOBS = incarnation("bob", 0)
BOBS_NEXT = incarnation("bob", 1)
HOLD = limits.ASSIGN_HOLD_SECONDS


class Bench:
    """One assigner, five hubs, and a clock."""

    def __init__(self, *offered: KeysOffered) -> None:
        self.ways = Ways()
        for hub in HUBS:
            self.ways.up(hub)
        self.assigner = Assigner(MINE, self.ways, {BOB: BOBS}, offered)
        self.now = 100.0

    def do(self, event: AssignerEvent) -> AssignerEffects:
        return self.assigner.handle(event, self.now)

    def tick_at(self, now: float) -> AssignerEffects:
        self.now = now
        return self.do(Tick())

    def answer(
        self,
        number: int = 1,
        *,
        attempt: int = 1,
        hold: int = HOLD,
        by: Incarnation = BOBS,
    ) -> AssignerEffects:
        return self.do(PeerAnswered(BOB, Assigned(request_id(number), by, hold, attempt)))

    def refuse(self, refusal: int, number: int = 1, *, by: Incarnation = BOBS) -> AssignerEffects:
        return self.do(PeerAnswered(BOB, NotAssigned(request_id(number), by, refusal)))

    def state(self, number: int = 1) -> RequestState | None:
        return self.assigner.state(BOB, request_id(number))


def _posts(effects: AssignerEffects) -> list[Post]:
    return [send for send in effects.send if isinstance(send, Post)]


def _voided(keys: tuple[KeyRange, ...], number: int = 1) -> tuple[object, object]:
    """What erases keys at both ends."""
    message = VoidKeys(request_id(number), MINE, keys)
    return KeysVoided(Role.SENDER, BOB, keys), MustArrive(Role.SENDER, BOB, message)


def _assert_voided(
    effects: AssignerEffects, code: ErrorCode, keys: tuple[KeyRange, ...] = (key_range(),), number: int = 1
) -> None:
    change, send = _voided(keys, number)
    assert effects.persist == (change,)
    assert effects.send == (send,)
    assert effects.notify == (AssignmentEnded(BOB, request_id(number), keys, code),)


def test_the_table_leaves_every_live_state_by_every_end() -> None:
    live = {RequestState.AWAITING_ANSWER, RequestState.DELIVERABLE, RequestState.AWAITING_RENEWAL}
    assert {state for state, _ in TABLE} == live
    assert "AWAITING_ANSWER --> DELIVERABLE: answered" in mermaid(TABLE, INITIAL)
    assert (RequestState.AWAITING_ANSWER, RequestStep.SOME_DELIVERED) not in TABLE


# ── offering ────────────────────────────────────────────────────────────────────────────────────
def test_keys_are_offered_in_the_set_that_comes_before_the_assign() -> None:
    effects = Bench().do(asking(slaves=(SLAVE, OTHER_SLAVE, SLAVE)))
    slaves = (OTHER_SLAVE, SLAVE)
    assert effects.persist == (KeysOffered(BOB, request_id(1), (key_range(),), MASTER, slaves, "tls", 3600),)
    (post,) = _posts(effects)
    assert post.message == Assign(
        request_id(1), (key_range(),), MASTER, slaves, "tls", 3600, MINE, BOBS, attempt=1
    )
    assert (post.role, post.peer) == (Role.SENDER, BOB)
    assert effects.notify == ()


def test_an_unanswered_assign_is_repeated_through_other_hubs_then_void() -> None:
    bench = Bench()
    posts = _posts(bench.do(asking()))
    for second in range(1, limits.ASSIGN_SECONDS):
        posts += _posts(bench.tick_at(100 + second))
    assert len({post.hub for post in posts}) == len(HUBS)
    assert [post.message.attempt for post in posts if isinstance(post.message, Assign)] == [1, 2, 3, 4, 5]
    assert bench.assigner.next_deadline == 100 + limits.ASSIGN_SECONDS
    _assert_voided(bench.tick_at(100 + limits.ASSIGN_SECONDS), codes.ASSIGN_UNANSWERED)
    assert bench.state() is None
    assert bench.assigner.next_deadline is None


def test_without_a_hub_nothing_is_offered() -> None:
    bench = Bench()
    for hub in HUBS:
        bench.ways.down(hub)
    effects = bench.do(asking())
    assert effects.notify == (NotOffered(BOB, request_id(1), codes.LINK_DOWN),)
    assert effects.persist == ()
    assert effects.send == ()


def test_a_repetition_waits_while_no_hub_is_connected() -> None:
    bench = Bench()
    bench.do(asking())
    for hub in HUBS:
        bench.ways.down(hub)
    assert bench.tick_at(101).empty
    bench.ways.up(HUBS[0])
    (post,) = _posts(bench.tick_at(102))
    assert isinstance(post.message, Assign)
    assert post.message.attempt == 2


@pytest.mark.parametrize(
    "event",
    [
        replace(asking(), peer=ALICE),
        asking(2),
        asking(1, (key_range(5),)),
        asking(2, (key_range(0, 9),)),
    ],
    ids=["no incarnation known", "keys offered already", "request id used", "keys overlap"],
)
def test_offering_what_is_not_free_is_a_bug(event: AssignKeys) -> None:
    bench = Bench()
    bench.do(asking())
    with pytest.raises(LocalBug) as caught:
        bench.do(event)
    assert caught.value.code is codes.BAD_STATE


@pytest.mark.parametrize(
    "event",
    [
        asking(purpose="p" * (limits.PURPOSE_CHARACTERS + 1)),
        asking(slaves=()),
        asking(lifetime=0),
        asking(keys=tuple(key_range(2 * index) for index in range(limits.PEER_RANGES + 1))),
    ],
    ids=["long purpose", "no slave", "no lifetime", "too many ranges"],
)
def test_an_assign_that_the_peer_would_not_read_is_a_bug(event: AssignKeys) -> None:
    with pytest.raises(LocalBug) as caught:
        Bench().do(event)
    assert caught.value.code is codes.BAD_ARGUMENT


# ── hubs ────────────────────────────────────────────────────────────────────────────────────────
def _token(attempt: int, number: int = 1) -> AssignToken:
    return AssignToken(BOB, request_id(number), attempt)


def test_a_hub_that_refuses_costs_no_time_until_each_had_its_turn() -> None:
    bench = Bench()
    posts = _posts(bench.do(asking()))
    for attempt in range(1, len(HUBS)):
        posts += _posts(bench.do(AttemptRefused(_token(attempt))))
    assert {post.hub for post in posts} == set(HUBS)
    assert bench.do(AttemptRefused(_token(len(HUBS)))).empty
    assert len(_posts(bench.tick_at(101))) == 1
    assert len(_posts(bench.do(AttemptRefused(_token(len(HUBS) + 1))))) == 1


def test_a_stale_refusal_by_a_hub_sends_nothing() -> None:
    bench = Bench()
    bench.do(asking())
    bench.tick_at(101)
    assert bench.do(AttemptRefused(_token(1))).empty
    assert bench.do(AttemptRefused(_token(1, number=2))).empty
    bench.answer()
    assert bench.do(AttemptRefused(_token(2))).empty


# ── delivering ──────────────────────────────────────────────────────────────────────────────────
def test_nothing_is_delivered_before_the_answer() -> None:
    bench = Bench()
    bench.do(asking())
    effects = bench.do(delivering())
    assert effects.persist == ()
    assert effects.notify == (NotDelivered(BOB, request_id(1), (key_range(),), codes.ASSIGN_HOLD_ENDED),)


def test_the_hold_counts_from_the_first_sending() -> None:
    bench = Bench()
    bench.do(asking())
    bench.tick_at(101)
    bench.tick_at(102)
    effects = bench.answer(attempt=3)
    assert effects.notify == (Deliverable(BOB, request_id(1), (key_range(),), 100 + HOLD),)
    assert bench.assigner.next_deadline == 100 + HOLD


def test_delivery_is_committed_before_it_is_told_and_happens_once() -> None:
    bench = Bench()
    bench.do(asking(keys=(key_range(0, 3),)))
    bench.answer()
    first = bench.do(delivering(keys=(key_range(0, 2),)))
    assert first.persist == (KeysDelivered(Role.SENDER, BOB, (key_range(0, 2),), MASTER),)
    assert first.notify == (Delivered(BOB, request_id(1), (key_range(0, 2),)),)
    again = bench.do(delivering(keys=(key_range(1, 2),)))
    assert again.persist == ()
    assert again.notify == (NotDelivered(BOB, request_id(1), (key_range(1, 2),), codes.KEY_NOT_HELD),)
    assert bench.do(delivering(keys=(key_range(2, 1),))).persist
    assert bench.state() is None
    assert bench.assigner.next_deadline is None
    (refused,) = bench.do(delivering()).notify
    assert isinstance(refused, NotDelivered)


def test_nothing_is_delivered_from_the_end_of_the_hold_on() -> None:
    bench = Bench()
    bench.do(asking())
    bench.answer()
    bench.now = 100 + HOLD
    assert bench.do(delivering()).persist == ()
    _assert_voided(bench.do(Tick()), codes.ASSIGN_HOLD_ENDED)


def test_what_is_left_of_a_request_at_the_end_of_the_hold_is_void() -> None:
    bench = Bench()
    bench.do(asking(keys=(key_range(0, 3),)))
    bench.answer()
    bench.do(delivering(keys=(key_range(1, 1),)))
    _assert_voided(
        bench.tick_at(100 + HOLD), codes.ASSIGN_HOLD_ENDED, keys=(key_range(0, 1), key_range(2, 1))
    )


def test_nothing_is_delivered_after_the_batch_is_over() -> None:
    bench = Bench()
    bench.do(asking(expires_at=110, ahead=True))
    (told,) = bench.answer().notify
    assert isinstance(told, Deliverable)
    assert told.until == 110
    assert bench.assigner.next_deadline == 110
    bench.now = 110
    assert bench.do(delivering()).persist == ()


def test_released_keys_are_void() -> None:
    bench = Bench()
    bench.do(asking())
    _assert_voided(bench.do(Release(BOB, request_id(1))), codes.ASSIGN_RELEASED)
    assert bench.do(Release(BOB, request_id(1))).empty


def test_a_void_of_many_pieces_takes_several_messages_with_ids_of_their_own() -> None:
    bench = Bench()
    last = RequestId(b"\xff" * 16)
    keys = (key_range(0, limits.BATCH_KEYS),)
    bench.do(replace(asking(keys=keys), request=last))
    bench.do(PeerAnswered(BOB, Assigned(last, BOBS, HOLD, 1)))
    odd = tuple(key_range(index) for index in range(1, limits.BATCH_KEYS, 2))
    bench.do(replace(delivering(keys=odd), request=last))
    effects = bench.do(Release(BOB, last))
    sent = [send.message for send in effects.send if isinstance(send, MustArrive)]
    assert [one.request for one in sent] == [last, RequestId(bytes(16))]
    assert sum(len(one.keys) for one in sent if one.keys) == limits.BATCH_KEYS // 2


# ── refusals by the peer ────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("refusal", [*AssignRefusal, 999])
def test_a_refused_assign_is_void(refusal: int) -> None:
    bench = Bench()
    bench.do(asking())
    _assert_voided(bench.refuse(refusal), assign_refusal_code(refusal))


def test_a_refusal_newer_than_this_version_counts_as_busy() -> None:
    assert assign_refusal_code(999) is codes.BUSY


def test_a_refusal_of_a_renewal_stops_delivery() -> None:
    bench = Bench()
    bench.do(asking(ahead=True))
    bench.answer()
    bench.tick_at(100 + HOLD / 2)
    _assert_voided(bench.refuse(AssignRefusal.KEY_NOT_HELD), codes.KEY_NOT_HELD)
    assert bench.do(delivering()).persist == ()


def test_an_answer_to_a_request_that_ended_is_ignored() -> None:
    bench = Bench()
    bench.do(asking())
    bench.do(Release(BOB, request_id(1)))
    assert bench.answer().empty
    assert bench.refuse(1, by=BOBS_NEXT).empty


def test_an_answer_that_comes_twice_tells_once() -> None:
    bench = Bench()
    bench.do(asking())
    assert not bench.answer().empty
    assert bench.answer().empty


def test_an_answer_at_the_deadline_is_late() -> None:
    bench = Bench()
    bench.do(asking())
    bench.now = 100 + limits.ASSIGN_SECONDS
    assert bench.answer().empty
    assert bench.state() is RequestState.AWAITING_ANSWER


# ── renewal ─────────────────────────────────────────────────────────────────────────────────────
def test_a_block_is_renewed_half_way_with_the_same_content() -> None:
    bench = Bench()
    (first,) = _posts(bench.do(asking(ahead=True)))
    bench.answer()
    assert bench.assigner.next_deadline == 100 + HOLD / 2
    (post,) = _posts(bench.tick_at(100 + HOLD / 2))
    assert bench.state() is RequestState.AWAITING_RENEWAL
    assert isinstance(first.message, Assign)
    assert post.message == replace(first.message, attempt=2)
    (told,) = bench.answer(attempt=2).notify
    assert isinstance(told, Deliverable)
    assert told.until == 100 + HOLD / 2 + HOLD


def test_delivery_goes_on_while_a_renewal_is_awaited() -> None:
    bench = Bench()
    bench.do(asking(keys=(key_range(0, 2),), ahead=True))
    bench.answer()
    bench.tick_at(100 + HOLD / 2)
    assert bench.do(delivering(keys=(key_range(0),))).persist
    assert bench.do(delivering(keys=(key_range(1),))).persist
    assert bench.state() is None


def test_an_old_answer_that_a_hub_kept_back_renews_nothing() -> None:
    bench = Bench()
    bench.do(asking(ahead=True))
    bench.answer()
    bench.tick_at(100 + HOLD / 2)
    assert bench.answer(attempt=1).empty
    assert bench.state() is RequestState.AWAITING_RENEWAL
    bench.now = 100 + HOLD
    assert bench.do(delivering()).persist == ()
    _assert_voided(bench.do(Tick()), codes.ASSIGN_HOLD_ENDED)


def test_an_answer_to_a_sending_that_never_was_renews_nothing() -> None:
    bench = Bench()
    bench.do(asking())
    assert bench.answer(attempt=2).empty
    assert bench.state() is RequestState.AWAITING_ANSWER


def test_a_renewal_that_is_lost_is_repeated_and_counts_from_its_first_sending() -> None:
    bench = Bench()
    bench.do(asking(ahead=True))
    bench.answer()
    bench.tick_at(100 + HOLD / 2)
    bench.tick_at(101 + HOLD / 2)
    (told,) = bench.answer(attempt=3).notify
    assert isinstance(told, Deliverable)
    assert told.until == 100 + HOLD / 2 + HOLD


# ── incarnations of the peer ────────────────────────────────────────────────────────────────────
def test_an_unanswered_assign_is_never_resent_to_another_incarnation() -> None:
    bench = Bench()
    bench.do(asking())
    _assert_voided(bench.do(IncarnationSeen(BOB, BOBS_NEXT)), codes.INCARNATION_CHANGED)
    assert bench.assigner.next_deadline is None


def test_delivery_stops_when_another_incarnation_of_the_peer_is_learned() -> None:
    bench = Bench()
    bench.do(asking(ahead=True))
    bench.answer()
    _assert_voided(bench.do(IncarnationSeen(BOB, BOBS_NEXT)), codes.INCARNATION_CHANGED)
    assert bench.do(delivering()).persist == ()


def test_a_restored_peer_that_answers_as_another_incarnation_stops_delivery() -> None:
    bench = Bench()
    bench.do(asking(ahead=True))
    bench.answer()
    bench.tick_at(100 + HOLD / 2)
    _assert_voided(bench.refuse(AssignRefusal.INCARNATION_CHANGED, by=BOBS_NEXT), codes.INCARNATION_CHANGED)
    (post,) = _posts(bench.do(asking(2, (key_range(1),))))
    assert isinstance(post.message, Assign)
    assert post.message.receiver_incarnation == BOBS_NEXT


def test_the_known_incarnation_again_changes_nothing() -> None:
    bench = Bench()
    bench.do(asking())
    assert bench.do(IncarnationSeen(BOB, BOBS)).empty


def test_a_confirm_stored_before_a_restart_brings_no_old_incarnation_back() -> None:
    bench = Bench()
    bench.do(IncarnationSeen(BOB, BOBS_NEXT))
    bench.do(asking())
    assert bench.do(IncarnationSeen(BOB, BOBS)).empty
    assert bench.state() is RequestState.AWAITING_ANSWER


def test_an_answer_decides_which_incarnation_runs_whatever_confirms_said() -> None:
    bench = Bench()
    bench.do(IncarnationSeen(BOB, BOBS_NEXT))
    bench.do(asking())
    _assert_voided(bench.refuse(AssignRefusal.INCARNATION_CHANGED, by=BOBS), codes.INCARNATION_CHANGED)
    bench.do(asking(2, (key_range(1),)))
    assert not bench.answer(2).empty
    assert bench.state(2) is RequestState.DELIVERABLE


def test_past_incarnations_are_bounded() -> None:
    bench = Bench()
    for start in range(1, limits.PAST_INCARNATIONS + 3):
        bench.do(IncarnationSeen(BOB, incarnation("bob", start)))
    bench.do(asking())
    assert bench.do(IncarnationSeen(BOB, incarnation("bob", 4))).empty
    assert not bench.do(IncarnationSeen(BOB, BOBS)).empty


def test_a_restart_of_one_peer_leaves_the_others_alone() -> None:
    bench = Bench()
    bench.do(asking())
    bench.do(IncarnationSeen(ALICE, BOBS_NEXT))
    assert bench.state() is RequestState.AWAITING_ANSWER


# ── revocation ──────────────────────────────────────────────────────────────────────────────────
def test_revoked_keys_end_their_request_and_the_rest_of_it_is_void() -> None:
    bench = Bench()
    bench.do(asking(1, (key_range(0, 3),)))
    bench.do(asking(2, (key_range(5),)))
    effects = bench.do(KeysTakenBack(BOB, (key_range(1),)))
    _assert_voided(effects, codes.KEY_REVOKED, keys=(key_range(0), key_range(2)))
    assert bench.state(2) is RequestState.AWAITING_ANSWER


def test_revoking_all_ends_every_request_without_a_void() -> None:
    bench = Bench()
    bench.do(asking(1, (key_range(0, 3),)))
    effects = bench.do(KeysTakenBack(BOB, None))
    assert effects.persist == ()
    assert effects.send == ()
    assert effects.notify == (AssignmentEnded(BOB, request_id(1), (), codes.KEY_REVOKED),)


# ── start ───────────────────────────────────────────────────────────────────────────────────────
def test_after_a_start_what_was_offered_and_not_delivered_is_void_once() -> None:
    offered = KeysOffered(BOB, request_id(7), (key_range(0, 2),), MASTER, (SLAVE,), "tls", 60)
    bench = Bench(offered)
    effects = bench.do(Start())
    change, send = _voided((key_range(0, 2),), 7)
    assert effects.persist == (change,)
    assert effects.send == (send,)
    assert bench.do(Start()).empty


def test_a_key_of_another_batch_is_another_key() -> None:
    bench = Bench()
    bench.do(asking(1, (key_range(0),)))
    bench.do(asking(2, (KeyRange(batch_id(2), 0, 1),)))
    assert bench.state(2) is RequestState.AWAITING_ANSWER
