"""Contract of every store: batches, tombstones, answers and counter marks."""

from __future__ import annotations

import pytest

from skex.base import limits
from skex.base.errors import LocalBug
from skex.protocol import changes as c
from skex.protocol.changes import Role
from skex.protocol.holding import ReceivedBatch
from skex.wire.peer import KeyRange
from tests.stores.support import (
    BOB,
    CAROL,
    FIRST,
    HUBS,
    LIFETIME,
    SECOND,
    SLAVE,
    KmeSubject,
    assigned,
    batch,
    batch_id,
    confirmation,
    control_batch,
    given,
    key_range,
    left_of,
    received,
    sent,
)

ALL = (key_range(0, 4),)


# ── sent ────────────────────────────────────────────────────────────────────────────────────────
def test_sent_batch_is_committed_for_its_peer_only_and_over_a_restart(subject: KmeSubject) -> None:
    assert not subject.is_committed(BOB, batch_id())
    subject.commit([sent(batch())])
    for _ in range(2):
        assert subject.is_committed(BOB, batch_id())
        assert not subject.is_committed(CAROL, batch_id())
        assert not subject.is_committed(BOB, batch_id(2))
        subject.reopen()


def test_dropped_sent_batch_is_not_committed_any_more(subject: KmeSubject) -> None:
    subject.commit([sent(batch())])
    subject.commit([c.BatchDropped(Role.SENDER, BOB, batch_id())])
    assert not subject.is_committed(BOB, batch_id())
    subject.reopen()
    assert not subject.is_committed(BOB, batch_id())


def test_receivers_highest_epoch_and_newest_incarnation_are_kept(subject: KmeSubject) -> None:
    subject.commit([sent(batch(1), incarnation=FIRST, epoch=3)])
    subject.commit([sent(batch(2), incarnation=SECOND, epoch=2)])
    subject.commit([sent(batch(3, peer=CAROL), incarnation=FIRST, epoch=1)])
    subject.reopen()
    state = subject.state()
    assert state.receiver_epochs == {BOB: 3, CAROL: 1}
    assert dict(state.peer_messages.receivers) == {BOB: SECOND, CAROL: FIRST}


def test_batch_that_is_sent_again_brings_no_delivered_key_back(subject: KmeSubject) -> None:
    """The fault is a change that is carried out twice."""
    subject.commit([sent(batch(), incarnation=FIRST)])
    subject.commit([given(*ALL), sent(batch(2), incarnation=SECOND)])
    subject.commit([sent(batch(), incarnation=FIRST)])
    with pytest.raises(LocalBug, match="bug-key-delivered-twice"):
        subject.commit([given(*ALL)])
    assert dict(subject.state().peer_messages.receivers) == {BOB: SECOND}


# ── received ────────────────────────────────────────────────────────────────────────────────────
def test_received_batch_comes_back_with_its_confirmation_its_ways_and_its_end(subject: KmeSubject) -> None:
    started = subject.clock()
    subject.commit([received(batch())])
    subject.clock.seconds += 100
    subject.reopen()
    state = subject.state()
    expires = float(started + LIFETIME + limits.LIFETIME_MARGIN_SECONDS)
    assert state.received == (ReceivedBatch(BOB, confirmation(batch()), HUBS[:2], None, expires),)
    (held,) = state.peer_messages.held
    assert (held.sender, held.batch, held.keys, held.answered) == (BOB, batch_id(), ALL, False)


def test_batches_are_loaded_in_the_order_of_their_acceptance(subject: KmeSubject) -> None:
    for counter in (3, 1, 2):
        subject.commit([received(batch(counter))])
    subject.reopen()
    assert [one.confirmation.batch.counter for one in subject.state().received] == [3, 1, 2]
    assert [one.batch.counter for one in subject.state().peer_messages.held] == [3, 1, 2]


def test_the_highest_counter_of_the_protocol_fits(subject: KmeSubject) -> None:
    subject.commit([received(batch(2**64 - 1))])
    subject.commit([c.TombstonesDropped(BOB, FIRST, 2**64 - 1)])
    assert subject.state().counter_marks == {(BOB, FIRST): 2**64 - 1}
    assert subject.state().received == ()


def test_same_batch_received_again_changes_nothing(subject: KmeSubject) -> None:
    subject.commit([received(batch())])
    subject.commit([c.KeysVoided(Role.RECEIVER, BOB, (key_range(1),))])
    before = subject.state()
    subject.commit([received(batch())])
    assert subject.state() == before


def test_other_batch_under_the_same_id_is_refused(subject: KmeSubject) -> None:
    """The fault is a receiver that accepts twice."""
    subject.commit([received(batch())])
    before = subject.state()
    with pytest.raises(LocalBug):
        subject.commit([received(batch(), mac=b"x" * 16)])
    assert subject.state() == before


def test_same_id_of_another_sender_is_another_batch(subject: KmeSubject) -> None:
    subject.commit([received(batch()), received(batch(peer=CAROL), mac=b"x" * 16)])
    assert len(subject.state().received) == 2


def test_keys_of_a_control_batch_are_not_kept(subject: KmeSubject) -> None:
    """Its one key is a root: a copy of it would outlive ``RootDropped``."""
    subject.commit([received(control_batch()), sent(control_batch(2))])
    assert len(subject.state().received) == 1
    assert subject.state().peer_messages.held == ()
    assert subject.is_committed(BOB, batch_id(2))
    with pytest.raises(LocalBug):
        subject.commit([assigned(key_range(0))])


# ── answers ─────────────────────────────────────────────────────────────────────────────────────
def test_ok_is_kept_and_the_keys_stay(subject: KmeSubject) -> None:
    subject.commit([received(batch())])
    subject.commit([c.BatchAnswered(BOB, batch_id(), ok=True)])
    subject.reopen()
    state = subject.state()
    assert state.received[0].answer is True
    assert [(one.keys, one.answered) for one in state.peer_messages.held] == [(ALL, True)]


def test_void_is_kept_the_keys_go_and_the_tombstone_stays(subject: KmeSubject) -> None:
    subject.commit([received(batch())])
    subject.commit([c.BatchAnswered(BOB, batch_id(), ok=False)])
    subject.reopen()
    state = subject.state()
    assert state.received[0].answer is False
    assert state.peer_messages.held == ()


@pytest.mark.parametrize("first", [True, False])
def test_first_answer_is_kept_whatever_comes_later(subject: KmeSubject, first: bool) -> None:
    subject.commit([received(batch())])
    subject.commit([c.BatchAnswered(BOB, batch_id(), ok=first)])
    subject.commit([c.BatchAnswered(BOB, batch_id(), ok=not first)])
    state = subject.state()
    assert state.received[0].answer is first
    assert bool(state.peer_messages.held) is first


def test_answer_for_a_batch_that_nobody_accepted_is_refused(subject: KmeSubject) -> None:
    with pytest.raises(LocalBug):
        subject.commit([c.BatchAnswered(BOB, batch_id(), ok=True)])


# ── ends ────────────────────────────────────────────────────────────────────────────────────────
def test_dropped_received_batch_loses_its_keys_and_keeps_its_tombstone(subject: KmeSubject) -> None:
    subject.commit([received(batch())])
    dropped = c.BatchDropped(Role.RECEIVER, BOB, batch_id())
    subject.commit([dropped])
    subject.commit([dropped])
    state = subject.state()
    assert state.peer_messages.held == ()
    assert [one.confirmation.batch for one in state.received] == [batch_id()]


def test_dropping_a_batch_that_is_gone_changes_nothing(subject: KmeSubject) -> None:
    before = subject.state()
    subject.commit([c.BatchDropped(role, BOB, batch_id()) for role in Role])
    assert subject.state() == before


def test_counter_mark_replaces_the_tombstones_of_its_incarnation_up_to_it(subject: KmeSubject) -> None:
    subject.commit([received(batch(counter)) for counter in (1, 2, 3)])
    subject.commit([received(batch(1, incarnation=SECOND)), received(batch(1, peer=CAROL))])
    subject.commit([assigned(key_range(0, counter=2))])
    subject.commit([c.TombstonesDropped(BOB, FIRST, 2)])
    subject.reopen()
    state = subject.state()
    assert state.counter_marks == {(BOB, FIRST): 2}
    assert [(one.sender, one.confirmation.batch) for one in state.received] == [
        (BOB, batch_id(3)),
        (BOB, batch_id(1, SECOND)),
        (CAROL, batch_id(1)),
    ]
    assert state.peer_messages.assigned == ()


@pytest.mark.parametrize("counter", [0, 1, 2])
def test_batch_at_or_below_a_counter_mark_is_refused(subject: KmeSubject, counter: int) -> None:
    """The fault is a receiver that forgot its marks; the attacker repeats an old batch."""
    subject.commit([c.TombstonesDropped(BOB, FIRST, 2)])
    with pytest.raises(LocalBug):
        subject.commit([received(batch(counter))])
    subject.commit([received(batch(3)), received(batch(counter, peer=CAROL))])


def test_counter_mark_never_falls_and_goes_when_it_is_dropped(subject: KmeSubject) -> None:
    subject.commit([c.TombstonesDropped(BOB, FIRST, 5), c.TombstonesDropped(CAROL, FIRST, 1)])
    subject.commit([c.TombstonesDropped(BOB, FIRST, 4)])
    assert subject.state().counter_marks == {(BOB, FIRST): 5, (CAROL, FIRST): 1}
    subject.commit([c.TombstonesDropped(BOB, FIRST, None)])
    subject.commit([c.TombstonesDropped(BOB, FIRST, None)])
    subject.reopen()
    assert subject.state().counter_marks == {(CAROL, FIRST): 1}


# ── sets ────────────────────────────────────────────────────────────────────────────────────────
def test_failing_change_leaves_nothing_of_any_set_and_the_store_goes_on(subject: KmeSubject) -> None:
    subject.commit([received(batch())])
    before = subject.state()
    with pytest.raises(LocalBug):
        subject.commit(
            [received(batch(2)), sent(batch(3))],
            [
                c.KeysVoided(Role.RECEIVER, BOB, (key_range(0),)),
                c.RollbackFound("rollback-found"),
                c.BatchAnswered(BOB, batch_id(9), ok=True),
            ],
        )
    assert subject.state() == before
    assert not subject.is_committed(BOB, batch_id(3))
    subject.commit([sent(batch(3))])
    subject.reopen()
    assert subject.is_committed(BOB, batch_id(3))
    assert left_of(subject, batch_id()) == ALL


def test_changes_of_one_commit_act_in_their_order(subject: KmeSubject) -> None:
    subject.commit(
        [sent(batch(1)), c.BatchDropped(Role.SENDER, BOB, batch_id(1))],
        [
            received(batch(2)),
            assigned(key_range(0, 2, counter=2)),
            given(key_range(0, counter=2), role=Role.RECEIVER, sae=SLAVE),
        ],
        [c.BatchDropped(Role.RECEIVER, BOB, batch_id(2)), c.TombstonesDropped(BOB, FIRST, 2)],
        [c.BatchDropped(Role.SENDER, BOB, batch_id(4)), sent(batch(4))],
    )
    assert not subject.is_committed(BOB, batch_id(1))
    assert subject.is_committed(BOB, batch_id(4))
    assert subject.state().received == ()


def test_empty_commits_change_nothing(subject: KmeSubject) -> None:
    before = subject.state()
    subject.commit()
    subject.commit([], [])
    assert subject.state() == before


def test_restart_gives_back_everything_as_it_was(subject: KmeSubject) -> None:
    subject.commit([received(batch(1, keys=16)), sent(batch(2)), received(control_batch(3))])
    subject.commit([assigned(KeyRange(batch_id(1), 2, 3)), c.BatchAnswered(BOB, batch_id(1), ok=True)])
    subject.commit([c.KeysVoided(Role.RECEIVER, BOB, (key_range(0, 2), key_range(9)))])
    before = subject.state()
    subject.reopen()
    assert subject.state() == before
