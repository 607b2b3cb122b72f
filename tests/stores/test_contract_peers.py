"""Contract of every store: roots, the queue of what must arrive, and revocations."""

from __future__ import annotations

import pytest

from skex.base import limits
from skex.protocol.changes import ControlDone, ControlQueued, RevocationCarriedOut, Role, RootDropped
from tests.stores.support import BOB, CAROL, KmeSubject, batch_id, request, root


def test_roots_are_kept_in_the_order_in_which_each_was_kept_first(subject: KmeSubject) -> None:
    subject.commit([root(2), root(1), root(1, role=Role.RECEIVER)])
    subject.commit([root(2, was_sent=True)])
    subject.reopen()
    assert subject.state().peer_messages.roots == (
        root(2, was_sent=True),
        root(1),
        root(1, role=Role.RECEIVER),
    )


@pytest.mark.parametrize(("was_sent", "was_heard"), [(True, False), (False, True)])
def test_use_of_a_root_is_never_forgotten(subject: KmeSubject, was_sent: bool, was_heard: bool) -> None:
    subject.commit([root(1)])
    subject.commit([root(1, was_sent=was_sent, was_heard=was_heard)])
    subject.commit([root(1)])
    assert subject.state().peer_messages.roots == (root(1, was_sent=was_sent, was_heard=was_heard),)


def test_loaded_roots_are_copies_that_may_be_wiped(subject: KmeSubject) -> None:
    subject.commit([root(1)])
    subject.state().peer_messages.roots[0].root.wipe()
    assert subject.state().peer_messages.roots == (root(1),)


def test_dropped_root_is_gone_and_may_be_dropped_again(subject: KmeSubject) -> None:
    subject.commit([root(1), root(1, role=Role.RECEIVER), root(2)])
    for _ in range(2):
        subject.commit([RootDropped(Role.SENDER, BOB, batch_id(1))])
    subject.reopen()
    assert subject.state().peer_messages.roots == (root(1, role=Role.RECEIVER), root(2))


def test_control_messages_wait_in_their_order_until_they_are_done(subject: KmeSubject) -> None:
    first, second, third = (
        ControlQueued(Role.SENDER, BOB, request(3), b"three"),
        ControlQueued(Role.RECEIVER, BOB, request(1), b"one"),
        ControlQueued(Role.SENDER, CAROL, request(1), b"another one"),
    )
    subject.commit([first], [second, third])
    subject.commit([first])
    subject.reopen()
    assert subject.state().peer_messages.queued == (first, second, third)
    for _ in range(2):
        subject.commit([ControlDone(BOB, request(1))])
    assert subject.state().peer_messages.queued == (first, third)


def test_the_newest_revocations_of_each_pair_are_remembered(subject: KmeSubject) -> None:
    others = [
        RevocationCarriedOut(Role.RECEIVER, BOB, request(1)),
        RevocationCarriedOut(Role.SENDER, CAROL, request(1)),
    ]
    many = [
        RevocationCarriedOut(Role.SENDER, BOB, request(number))
        for number in range(limits.REVOCATIONS_REMEMBERED + 2)
    ]
    subject.commit(others, many)
    subject.commit([many[-1], others[0]])
    subject.reopen()
    assert list(subject.state().peer_messages.revocations) == [*others, *many[2:]]
