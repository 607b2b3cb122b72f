"""The receiver's side alone: what it is asked comes from the test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skex.base import limits
from skex.base.ids import KmeName, SaeId
from skex.protocol.assignee import (
    INITIAL,
    TABLE,
    Assignee,
    AssigneeEffects,
    AssigneeEvent,
    KeysGone,
    KeysHeld,
    KeysLost,
    KeysRecorded,
    PeerAsked,
    RecordState,
)
from skex.protocol.changes import BatchAnswered, KeysAssigned, KeysVoided, Role
from skex.protocol.receiver import Answered
from skex.protocol.states import mermaid
from skex.protocol.ways import KeysTakenBack
from skex.wire.peer import (
    Assign,
    Assigned,
    AssignRefusal,
    KeyRange,
    NotAssigned,
    PeerDone,
    PeerMessage,
    VoidKeys,
)
from tests.unit.protocol.peer_support import (
    ALICE,
    BOB,
    HUBS,
    MASTER,
    OTHER_SLAVE,
    SLAVE,
    Policy,
    batch_id,
    incarnation,
    key_range,
    request_id,
)

MINE = incarnation("bob", 0)
ALICES = incarnation("alice", 0)
ALICES_NEXT = incarnation("alice", 1)
HOLD = limits.ASSIGN_HOLD_SECONDS
HELD_FOR = HOLD + limits.ASSIGN_HOLD_MARGIN_SECONDS


def held(count: int = 8, batch: int = 1, *, answered: bool = True) -> KeysHeld:
    return KeysHeld(ALICE, batch_id(batch), (key_range(0, count, batch=batch),), answered)


def assigning(
    number: int = 1, keys: tuple[KeyRange, ...] = (key_range(),), *, attempt: int = 1, purpose: str = "tls"
) -> Assign:
    return Assign(request_id(number), keys, MASTER, (SLAVE,), purpose, 60, ALICES, MINE, attempt)


def recorded(number: int = 1, keys: tuple[KeyRange, ...] = (key_range(),)) -> KeysAssigned:
    return KeysAssigned(ALICE, request_id(number), ALICES, keys, MASTER, (SLAVE,), "tls", 60)


class Bench:
    """Bob's end, which holds one batch of eight keys."""

    def __init__(self, *assigned: KeysAssigned, holding: tuple[KeysHeld, ...] = (held(),)) -> None:
        self.now = 100.0
        self.assignee = Assignee(BOB, MINE, Policy(), held=holding, assigned=assigned, now=self.now)

    def do(self, event: AssigneeEvent) -> AssigneeEffects:
        return self.assignee.handle(event, self.now)

    def ask(self, message: Assign | VoidKeys, sender: KmeName = ALICE) -> AssigneeEffects:
        return self.do(PeerAsked(sender, HUBS[0], message))

    def may_take(self, index: int = 0, slave: SaeId = SLAVE) -> bool:
        return self.assignee.may_take(ALICE, batch_id(1), index, slave)


def _answer(effects: AssigneeEffects) -> PeerMessage:
    (post,) = effects.send
    assert (post.hub, post.role, post.peer) == (HUBS[0], Role.RECEIVER, ALICE)
    return post.message


def _assert_refused(effects: AssigneeEffects, refusal: AssignRefusal, number: int = 1) -> None:
    assert _answer(effects) == NotAssigned(request_id(number), MINE, refusal)
    assert effects.persist == ()
    assert effects.notify == ()


def test_the_table_ends_when_nothing_is_left() -> None:
    assert {state for state, _ in TABLE} == {RecordState.HELD, RecordState.LAPSED}
    assert "LAPSED --> HELD: renewed" in mermaid(TABLE, INITIAL)


# ── recording ───────────────────────────────────────────────────────────────────────────────────
def test_an_assign_is_recorded_then_answered_with_incarnation_and_hold() -> None:
    bench = Bench()
    effects = bench.ask(assigning())
    assert effects.persist == (recorded(),)
    assert _answer(effects) == Assigned(request_id(1), MINE, HOLD, 1)
    assert effects.notify == (KeysRecorded(recorded()),)


def test_only_named_slaves_may_take_assigned_keys() -> None:
    bench = Bench()
    assert not bench.may_take()
    bench.ask(assigning())
    assert bench.may_take()
    assert not bench.may_take(slave=OTHER_SLAVE)
    assert not bench.may_take(index=1)
    assert bench.assignee.assignment(ALICE, batch_id(1), 0) == recorded()
    assert bench.assignee.assignment(KmeName("nobody"), batch_id(1), 0) is None
    assert not bench.assignee.may_take(ALICE, batch_id(2), 0, SLAVE)


def test_the_same_assign_gets_the_same_answer_and_is_recorded_once() -> None:
    bench = Bench()
    bench.ask(assigning())
    for attempt in (1, 2):
        effects = bench.ask(assigning(attempt=attempt))
        assert effects.persist == ()
        assert effects.notify == ()
        assert _answer(effects) == Assigned(request_id(1), MINE, HOLD, attempt)


@pytest.mark.parametrize(
    "other",
    [
        replace(assigning(), keys=(key_range(1),)),
        replace(assigning(), master=SaeId("other@alice")),
        replace(assigning(), slaves=(OTHER_SLAVE,)),
        replace(assigning(), purpose="ipsec"),
        replace(assigning(), lifetime=61),
        replace(assigning(), incarnation=ALICES_NEXT),
    ],
    ids=["keys", "master", "slaves", "purpose", "lifetime", "a restored sender"],
)
def test_another_assign_under_the_same_id_is_refused(other: Assign) -> None:
    bench = Bench()
    bench.ask(assigning())
    _assert_refused(bench.ask(other), AssignRefusal.KEY_ASSIGNED)
    assert bench.assignee.assignment(ALICE, batch_id(1), 0) == recorded()
    assert not bench.may_take(1)


def test_a_key_is_not_assigned_twice_and_the_rest_of_such_a_request_neither() -> None:
    bench = Bench()
    bench.ask(assigning())
    _assert_refused(bench.ask(assigning(2, (key_range(0, 2),))), AssignRefusal.KEY_ASSIGNED, 2)
    assert not bench.may_take(1)


@pytest.mark.parametrize("keys", [(key_range(7, 2),), (key_range(batch=2),)])
def test_keys_that_are_not_held_are_refused_all_together(keys: tuple[KeyRange, ...]) -> None:
    bench = Bench()
    _assert_refused(bench.ask(assigning(keys=keys)), AssignRefusal.KEY_NOT_HELD)
    assert not bench.may_take(7)


def test_an_assign_for_another_incarnation_of_this_end_is_refused_with_its_own() -> None:
    for known in (False, True):
        bench = Bench(*(recorded(),) if known else ())
        stale = replace(assigning(), receiver_incarnation=incarnation("bob", 7))
        _assert_refused(bench.ask(stale), AssignRefusal.INCARNATION_CHANGED)


@pytest.mark.parametrize(
    "message",
    [
        replace(assigning(), master=SaeId("web@mallory")),
        replace(assigning(), slaves=(SLAVE, SaeId("db@carol"))),
        assigning(purpose="forbidden"),
    ],
    ids=["master of another KME", "slave of another KME", "policy"],
)
def test_an_assign_that_is_not_allowed_is_refused(message: Assign) -> None:
    _assert_refused(Bench().ask(message), AssignRefusal.NOT_AUTHORISED)


def test_an_assign_from_another_kme_reaches_none_of_these_keys() -> None:
    bench = Bench()
    mallory = KmeName("mallory")
    (post,) = bench.ask(replace(assigning(), master=SaeId("web@mallory")), mallory).send
    assert post.message == NotAssigned(request_id(1), MINE, AssignRefusal.KEY_NOT_HELD)


def test_one_assign_may_take_keys_of_several_batches() -> None:
    bench = Bench(holding=(held(), held(batch=2)))
    keys = (key_range(7), key_range(0, 2, batch=2))
    assert isinstance(_answer(bench.ask(assigning(keys=keys))), Assigned)
    assert bench.assignee.may_take(ALICE, batch_id(1), 7, SLAVE)
    assert bench.assignee.may_take(ALICE, batch_id(2), 1, SLAVE)


# ── an ASSIGN is an answer to the CONFIRM ───────────────────────────────────────────────────────
def test_an_assign_answers_the_confirm_so_that_a_restored_sender_cannot_void_the_batch() -> None:
    bench = Bench(holding=(held(answered=False),))
    effects = bench.ask(assigning())
    assert effects.persist == (recorded(), BatchAnswered(ALICE, batch_id(1), ok=True))
    assert effects.notify == (Answered(ALICE, batch_id(1), ok=True), KeysRecorded(recorded()))
    bench.assignee.answered(ALICE, batch_id(1), ok=False)
    assert bench.may_take()


def test_keys_of_a_batch_that_was_voided_are_not_held() -> None:
    bench = Bench(holding=(held(answered=False),))
    bench.assignee.answered(ALICE, batch_id(1), ok=False)
    _assert_refused(bench.ask(assigning()), AssignRefusal.KEY_NOT_HELD)


def test_a_void_after_ok_takes_no_key() -> None:
    bench = Bench(holding=(held(answered=False),))
    bench.assignee.answered(ALICE, batch_id(1), ok=True)
    bench.assignee.answered(ALICE, batch_id(1), ok=False)
    assert isinstance(_answer(bench.ask(assigning())), Assigned)


def test_an_answer_for_an_unknown_batch_changes_nothing() -> None:
    bench = Bench(holding=())
    for ok in (True, False):
        bench.assignee.answered(ALICE, batch_id(1), ok=ok)
    bench.do(held(answered=True))
    assert isinstance(_answer(bench.ask(assigning())), Assigned)


# ── hold ────────────────────────────────────────────────────────────────────────────────────────
def test_assigned_keys_are_not_expired_within_hold_and_margin() -> None:
    bench = Bench()
    assert bench.assignee.held_until(ALICE, batch_id(1)) is None
    bench.ask(assigning())
    bench.now += 30
    bench.ask(assigning(2, (key_range(1),)))
    assert bench.assignee.held_until(ALICE, batch_id(1)) == 130 + HELD_FOR


def test_a_renewal_begins_the_hold_anew_and_a_replayed_sending_does_not() -> None:
    bench = Bench()
    bench.ask(assigning(attempt=2))
    bench.now = 120
    for attempt in (1, 2):
        assert isinstance(_answer(bench.ask(assigning(attempt=attempt))), Assigned)
        assert bench.assignee.held_until(ALICE, batch_id(1)) == 100 + HELD_FOR
    bench.ask(assigning(attempt=3))
    assert bench.assignee.held_until(ALICE, batch_id(1)) == 120 + HELD_FOR


# ── VOID ────────────────────────────────────────────────────────────────────────────────────────
def voiding(*keys: KeyRange, restored: bool = False) -> VoidKeys:
    return VoidKeys(request_id(9), ALICES_NEXT if restored else ALICES, keys or (key_range(),))


def _assert_voided(effects: AssigneeEffects, *keys: KeyRange) -> None:
    assert effects.persist == (KeysVoided(Role.RECEIVER, ALICE, keys),)
    assert effects.notify == (KeysLost(ALICE, keys),)


def test_keys_that_were_not_assigned_are_voided_at_once() -> None:
    bench = Bench()
    effects = bench.ask(voiding(key_range(0, 2), restored=True))
    _assert_voided(effects, key_range(0, 2))
    assert _answer(effects) == PeerDone((request_id(9),))
    _assert_refused(bench.ask(assigning()), AssignRefusal.KEY_NOT_HELD)


def test_the_incarnation_that_assigned_may_void_within_the_hold() -> None:
    bench = Bench()
    bench.ask(assigning())
    effects = bench.ask(voiding())
    _assert_voided(effects, key_range())
    assert _answer(effects) == PeerDone((request_id(9),))
    assert not bench.may_take()


def test_a_void_by_another_incarnation_waits_for_hold_and_margin() -> None:
    bench = Bench()
    bench.ask(assigning(keys=(key_range(0, 2),)))
    bench.now = 100 + HELD_FOR - 0.5
    assert bench.ask(voiding(key_range(0, 2), restored=True)).empty
    assert bench.may_take()
    bench.now = 100 + HELD_FOR
    effects = bench.ask(voiding(key_range(0, 2), restored=True))
    _assert_voided(effects, key_range(0, 2))
    assert _answer(effects) == PeerDone((request_id(9),))
    assert not bench.may_take()


def test_a_renewal_after_the_hold_begins_it_anew() -> None:
    bench = Bench()
    bench.ask(assigning(keys=(key_range(0, 2),)))
    bench.ask(assigning(2, (key_range(4),)))
    bench.now += HELD_FOR
    _assert_voided(bench.ask(voiding(key_range(4), restored=True)), key_range(4))
    assert isinstance(_answer(bench.ask(assigning(keys=(key_range(0, 2),), attempt=2))), Assigned)
    assert bench.ask(voiding(key_range(0, 2), restored=True)).empty


def test_a_block_of_which_a_restored_sender_voided_a_part_is_not_renewed() -> None:
    bench = Bench()
    bench.ask(assigning(keys=(key_range(0, 2),)))
    bench.now += HELD_FOR
    _assert_voided(bench.ask(voiding(key_range(1), restored=True)), key_range(1))
    _assert_refused(bench.ask(assigning(keys=(key_range(0, 2),), attempt=2)), AssignRefusal.KEY_NOT_HELD)


def test_a_void_of_which_a_part_must_wait_is_carried_out_in_part_and_not_done() -> None:
    bench = Bench()
    bench.ask(assigning(keys=(key_range(2, 2),)))
    effects = bench.ask(voiding(key_range(0, 4), restored=True))
    _assert_voided(effects, key_range(0, 2))
    assert effects.send == ()
    bench.now += HELD_FOR
    effects = bench.ask(voiding(key_range(0, 4), restored=True))
    _assert_voided(effects, key_range(2, 2))
    assert _answer(effects) == PeerDone((request_id(9),))


def test_a_void_of_keys_that_are_gone_is_done() -> None:
    bench = Bench()
    bench.ask(voiding())
    effects = bench.ask(voiding())
    assert effects.persist == ()
    assert effects.notify == ()
    assert _answer(effects) == PeerDone((request_id(9),))


def test_a_renewal_promises_nothing_of_which_a_part_is_gone() -> None:
    bench = Bench()
    bench.ask(assigning(keys=(key_range(0, 2),)))
    bench.do(KeysTakenBack(ALICE, (key_range(1),)))
    assert bench.may_take(0)
    assert not bench.may_take(1)
    _assert_refused(bench.ask(assigning(keys=(key_range(0, 2),), attempt=2)), AssignRefusal.KEY_NOT_HELD)


def test_keys_that_slaves_took_leave_the_rest_of_a_block_renewable() -> None:
    bench = Bench()
    bench.ask(assigning(keys=(key_range(0, 2),)))
    bench.do(KeysGone(ALICE, (key_range(0),)))
    assert not bench.may_take(0)
    assert isinstance(_answer(bench.ask(assigning(keys=(key_range(0, 2),), attempt=2))), Assigned)
    bench.do(KeysGone(ALICE, (key_range(1),)))
    _assert_refused(bench.ask(assigning(keys=(key_range(0, 2),), attempt=3)), AssignRefusal.KEY_NOT_HELD)


def test_revoking_all_leaves_nothing() -> None:
    bench = Bench()
    bench.ask(assigning())
    bench.do(KeysTakenBack(ALICE, None))
    assert not bench.may_take()
    _assert_refused(bench.ask(assigning(2, (key_range(5),))), AssignRefusal.KEY_NOT_HELD, 2)
    bench.do(KeysTakenBack(ALICE, None))


# ── start ───────────────────────────────────────────────────────────────────────────────────────
def test_assignments_survive_a_restart_and_are_held_anew() -> None:
    bench = Bench(recorded(), recorded(2, (key_range(9),)))
    assert bench.may_take()
    assert not bench.may_take(9)
    assert bench.assignee.held_until(ALICE, batch_id(1)) == 100 + HELD_FOR
    assert bench.ask(voiding(restored=True)).empty
    _assert_refused(bench.ask(assigning(3)), AssignRefusal.KEY_ASSIGNED, 3)


def test_keys_that_were_gone_before_a_restart_stay_gone() -> None:
    left = KeysHeld(ALICE, batch_id(1), (key_range(1, 1),), answered=True)
    bench = Bench(recorded(keys=(key_range(0, 2),)), holding=(left,))
    assert not bench.may_take(0)
    assert bench.may_take(1)
