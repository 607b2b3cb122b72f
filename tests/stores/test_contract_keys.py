"""Contract of every store: keys are promised once, go to those named, to each once, and are gone then."""

from __future__ import annotations

import pytest

from skex.base.errors import LocalBug
from skex.base.ids import SaeId
from skex.protocol import changes as c
from skex.protocol.changes import Role
from skex.wire.peer import KeyRange
from tests.stores.support import (
    BOB,
    CAROL,
    OTHER_SLAVE,
    SLAVE,
    KmeSubject,
    assigned,
    batch,
    batch_id,
    given,
    key_range,
    left_of,
    offered,
    received,
    sent,
)

BOTH = (OTHER_SLAVE, SLAVE)


def taken(*keys: KeyRange, sae: SaeId = SLAVE) -> c.KeysDelivered:
    return given(*keys, role=Role.RECEIVER, sae=sae)


@pytest.fixture
def sender(subject: KmeSubject) -> KmeSubject:
    """A store with two batches of four keys for Bob."""
    subject.commit([sent(batch(1)), sent(batch(2))])
    return subject


@pytest.fixture
def receiver(subject: KmeSubject) -> KmeSubject:
    """A store with two batches of four keys from Bob."""
    subject.commit([received(batch(1)), received(batch(2))])
    return subject


def offers(subject: KmeSubject) -> tuple[c.KeysOffered, ...]:
    return subject.state().peer_messages.offered


# ── at the sender ───────────────────────────────────────────────────────────────────────────────
def test_offered_keys_are_told_at_a_start_oldest_first_without_those_delivered(sender: KmeSubject) -> None:
    sender.commit([offered(key_range(0, 4), number=2), offered(key_range(1, 2, counter=2), number=1)])
    sender.commit([given(key_range(1, 2))])
    sender.reopen()
    assert offers(sender) == (
        offered(key_range(0), key_range(3), number=2),
        offered(key_range(1, 2, counter=2), number=1),
    )


def test_offer_of_which_every_key_is_gone_is_forgotten(sender: KmeSubject) -> None:
    sender.commit([offered(key_range(0, 2), key_range(0, counter=2))])
    sender.commit([given(key_range(0, 2))])
    assert offers(sender) == (offered(key_range(0, counter=2)),)
    sender.commit([c.KeysVoided(Role.SENDER, BOB, (key_range(0, 4, counter=2),))])
    assert offers(sender) == ()


def test_same_offer_again_changes_nothing(sender: KmeSubject) -> None:
    sender.commit([offered(key_range(0, 2))])
    before = sender.state()
    sender.commit([offered(key_range(0, 2))])
    assert sender.state() == before


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(offered(key_range(1, 2), number=2), id="a key offered already"),
        pytest.param(offered(key_range(0)), id="the same id with other keys"),
        pytest.param(offered(key_range(3, 2), number=2), id="a key beyond the batch"),
        pytest.param(offered(key_range(0, counter=3), number=2), id="a batch nobody sent"),
        pytest.param(offered(key_range(0, counter=2), number=2, peer=CAROL), id="another peer's"),
    ],
)
def test_offer_that_would_promise_a_key_twice_or_none_at_all_is_refused(
    sender: KmeSubject, again: c.KeysOffered
) -> None:
    sender.commit([offered(key_range(0, 2))])
    before = sender.state()
    with pytest.raises(LocalBug):
        sender.commit([again])
    assert sender.state() == before


def test_two_peers_may_use_the_same_request_id(subject: KmeSubject) -> None:
    """Ids of requests are the peer's choice: one peer must not reach another's records by them."""
    subject.commit([received(batch(1)), received(batch(2, peer=CAROL))])
    bobs, carols = assigned(key_range(0)), assigned(key_range(0, counter=2), sender=CAROL)
    subject.commit([bobs, carols])
    assert subject.state().peer_messages.assigned == (bobs, carols)


def test_delivered_keys_are_delivered_once(sender: KmeSubject) -> None:
    sender.commit([offered(key_range(0, 3))])
    sender.commit([given(key_range(0, 2))])
    for again in (key_range(0), key_range(1, 2)):
        with pytest.raises(LocalBug, match="bug-key-delivered-twice"):
            sender.commit([given(again)])
    sender.reopen()
    with pytest.raises(LocalBug, match="bug-key-delivered-twice"):
        sender.commit([given(key_range(1))])
    sender.commit([given(key_range(2))])


def test_key_delivered_twice_within_one_commit_is_refused_and_not_delivered_at_all(
    sender: KmeSubject,
) -> None:
    with pytest.raises(LocalBug, match="bug-key-delivered-twice"):
        sender.commit([given(key_range(0))], [given(key_range(0))])
    sender.commit([given(key_range(0))])


def test_voided_keys_are_never_delivered(sender: KmeSubject) -> None:
    sender.commit([c.KeysVoided(Role.SENDER, BOB, (key_range(0, 2),))])
    with pytest.raises(LocalBug, match="bug-key-delivered-twice"):
        sender.commit([given(key_range(1, 2))])


# ── at the receiver ─────────────────────────────────────────────────────────────────────────────
def test_assignment_is_told_at_a_start_as_it_was_made(receiver: KmeSubject) -> None:
    record = assigned(key_range(1, 2), key_range(3, counter=2), slaves=BOTH)
    receiver.commit([record])
    receiver.reopen()
    receiver.commit([c.KeysVoided(Role.RECEIVER, BOB, (key_range(1),))])
    assert receiver.state().peer_messages.assigned == (record,)


def test_key_for_one_slave_is_gone_when_it_took_it(receiver: KmeSubject) -> None:
    receiver.commit([assigned(key_range(0, 2))])
    receiver.commit([taken(key_range(0))])
    assert left_of(receiver, batch_id()) == (key_range(1, 3),)
    receiver.reopen()
    with pytest.raises(LocalBug, match="bug-key-delivered-twice"):
        receiver.commit([taken(key_range(0))])
    receiver.commit([taken(key_range(1))])
    assert receiver.state().peer_messages.assigned == ()


def test_key_for_two_slaves_stays_until_both_took_it_each_once(receiver: KmeSubject) -> None:
    receiver.commit([assigned(key_range(0, 3), slaves=BOTH)])
    receiver.commit([taken(key_range(0, 2), sae=SLAVE)])
    receiver.reopen()
    assert left_of(receiver, batch_id()) == (key_range(0, 4),)
    with pytest.raises(LocalBug, match="bug-key-delivered-twice"):
        receiver.commit([taken(key_range(1, 2), sae=SLAVE)])
    receiver.commit([taken(key_range(1, 2), sae=OTHER_SLAVE)])
    assert left_of(receiver, batch_id()) == (key_range(0), key_range(2, 2))
    receiver.commit([taken(key_range(0), sae=OTHER_SLAVE), taken(key_range(2), sae=SLAVE)])
    assert left_of(receiver, batch_id()) == (key_range(3),)
    assert receiver.state().peer_messages.assigned == ()


def test_id_of_an_assignment_of_which_every_key_is_gone_is_free_again(receiver: KmeSubject) -> None:
    receiver.commit([assigned(key_range(0))])
    receiver.commit([taken(key_range(0))])
    receiver.commit([assigned(key_range(1, 2))])
    receiver.reopen()
    assert receiver.state().peer_messages.assigned == (assigned(key_range(1, 2)),)


def test_keys_of_two_assignments_go_to_their_own_slaves_in_one_change(receiver: KmeSubject) -> None:
    receiver.commit(
        [assigned(key_range(0), number=1, slaves=BOTH), assigned(key_range(1), number=2, slaves=(SLAVE,))]
    )
    receiver.commit([taken(key_range(0, 2), sae=SLAVE)])
    assert left_of(receiver, batch_id()) == (key_range(0), key_range(2, 2))


@pytest.mark.parametrize(
    ("keys", "sae"),
    [
        pytest.param((key_range(0),), OTHER_SLAVE, id="for another slave"),
        pytest.param((key_range(1),), SLAVE, id="assigned to nobody"),
        pytest.param((key_range(0, 2),), SLAVE, id="one of them assigned to nobody"),
        pytest.param((key_range(0), key_range(0, counter=2)), SLAVE, id="one batch assigned to nobody"),
        pytest.param((key_range(0, counter=3),), SLAVE, id="of a batch that is not held"),
    ],
)
def test_key_is_not_given_to_an_sae_that_it_was_not_assigned_to(
    receiver: KmeSubject, keys: tuple[KeyRange, ...], sae: SaeId
) -> None:
    receiver.commit([assigned(key_range(0))])
    before = receiver.state()
    with pytest.raises(LocalBug, match="bug-key-delivered-twice"):
        receiver.commit([taken(*keys, sae=sae)])
    assert receiver.state() == before


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(assigned(key_range(0, 2), number=2), id="a key assigned already"),
        pytest.param(assigned(key_range(0), slaves=(OTHER_SLAVE,)), id="the same id for another slave"),
        pytest.param(assigned(key_range(0, counter=3), number=2), id="a batch that is not held"),
    ],
)
def test_second_assignment_of_a_key_is_refused(receiver: KmeSubject, again: c.KeysAssigned) -> None:
    """The attacker is a restored sender, the fault a machine that forgot what it recorded."""
    receiver.commit([assigned(key_range(0))])
    before = receiver.state()
    with pytest.raises(LocalBug):
        receiver.commit([again])
    assert receiver.state() == before


# ── voiding ─────────────────────────────────────────────────────────────────────────────────────
def test_voided_keys_are_gone_and_others_stay(receiver: KmeSubject) -> None:
    receiver.commit([assigned(key_range(1, 2))])
    gone = c.KeysVoided(Role.RECEIVER, BOB, (key_range(0, 2), key_range(0, 1024, counter=2)))
    receiver.commit([gone])
    receiver.commit([gone])
    assert left_of(receiver, batch_id(1)) == (key_range(2, 2),)
    assert left_of(receiver, batch_id(2)) == ()


def test_voiding_keys_of_a_batch_that_is_gone_changes_nothing(receiver: KmeSubject) -> None:
    before = receiver.state()
    receiver.commit([c.KeysVoided(role, CAROL, (key_range(0, 4),)) for role in Role])
    assert receiver.state() == before


def test_all_undelivered_keys_of_one_pair_and_role_are_voided(subject: KmeSubject) -> None:
    subject.commit([received(batch(1)), received(batch(2)), received(batch(3, peer=CAROL))])
    subject.commit([sent(batch(4)), offered(key_range(0, counter=4)), assigned(key_range(0))])
    subject.commit([c.AllKeysVoided(Role.RECEIVER, BOB)])
    state = subject.state()
    assert [one.batch for one in state.peer_messages.held] == [batch_id(3)]
    assert state.peer_messages.assigned == ()
    assert len(state.received) == 3
    assert offers(subject) == (offered(key_range(0, counter=4)),)
    subject.commit([c.AllKeysVoided(Role.SENDER, BOB)])
    assert offers(subject) == ()
    assert subject.is_committed(BOB, batch_id(4))
