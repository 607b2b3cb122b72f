"""Contract of every store: realm files and their ages, rollbacks, and clocks that jump."""

from __future__ import annotations

import pytest

from skex.base.errors import LocalBug
from skex.protocol.changes import RealmAccepted, RollbackFound, RollbackSettled
from skex.protocol.realm import HeldRealm
from tests.stores.support import KmeSubject, batch, received

ONE, TWO, THREE = (RealmAccepted(epoch, f"file {epoch}".encode()) for epoch in (1, 2, 3))


def test_store_without_a_realm_says_so(subject: KmeSubject) -> None:
    assert subject.state().realm is None


def test_current_and_previous_epoch_are_kept_with_their_ages(subject: KmeSubject) -> None:
    subject.commit([ONE])
    subject.clock.seconds += 10
    assert subject.state().realm == HeldRealm(ONE.data, 10.0)
    subject.commit([TWO])
    subject.clock.seconds += 5
    subject.reopen()
    assert subject.state().realm == HeldRealm(TWO.data, 5.0, ONE.data, 15.0)
    subject.commit([THREE])
    assert subject.state().realm == HeldRealm(THREE.data, 0.0, TWO.data, 5.0)


def test_epoch_that_is_renewed_begins_its_age_anew_and_keeps_the_one_before(subject: KmeSubject) -> None:
    subject.commit([ONE], [TWO])
    subject.clock.seconds += 10
    subject.commit([TWO])
    assert subject.state().realm == HeldRealm(TWO.data, 0.0, ONE.data, 10.0)


def test_epoch_below_the_one_in_force_is_refused(subject: KmeSubject) -> None:
    """The attacker brings an old realm file; the machines refuse it, and so does the store."""
    subject.commit([TWO])
    with pytest.raises(LocalBug):
        subject.commit([ONE])
    assert subject.state().realm == HeldRealm(TWO.data, 0.0)


def test_rollback_is_told_until_it_is_settled(subject: KmeSubject) -> None:
    subject.commit([RollbackFound("pad-mark-contradicts")])
    subject.commit([RollbackFound("rollback-found")])
    subject.reopen()
    assert subject.state().rollback_found == "rollback-found"
    for _ in range(2):
        subject.commit([RollbackSettled()])
    subject.reopen()
    assert subject.state().rollback_found is None


def test_ages_count_on_while_the_machine_is_off(subject: KmeSubject) -> None:
    subject.commit([received(batch())], [ONE])
    (before,) = subject.state().received
    subject.clock.seconds += 1000
    subject.reopen()
    state = subject.state()
    assert state.received[0].expires_at == before.expires_at
    assert state.realm == HeldRealm(ONE.data, 1000.0)
