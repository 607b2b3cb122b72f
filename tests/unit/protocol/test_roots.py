from __future__ import annotations

import pytest

from skex.base import limits
from skex.base.errors import LocalBug
from skex.base.ids import BatchId
from skex.base.secret import Secret
from skex.protocol.changes import Role, RootDropped, RootKept
from skex.protocol.establishment import RootMade
from skex.protocol.roots import INITIAL, TABLE, Renewals, Root, Roots, RootState, RootStep
from skex.protocol.states import mermaid
from tests.unit.protocol.peer_support import ALICE, BOB, batch_id, incarnation


def _made(batch: BatchId, role: Role = Role.SENDER) -> RootMade:
    return RootMade(role, BOB, batch, Secret(batch.counter.to_bytes(64, "big")))


def _roots(role: Role, *counters: int) -> Roots:
    roots = Roots(())
    for counter in counters:
        roots.add(_made(batch_id(counter), role))
    return roots


def _find(roots: Roots, role: Role, counter: int) -> Root:
    root = roots.find(role, BOB, batch_id(counter))
    assert root is not None
    return root


def _kept(roots: Roots, role: Role, last: int = 20) -> list[int]:
    return [counter for counter in range(last) if roots.find(role, BOB, batch_id(counter)) is not None]


def test_the_table_names_every_use_of_a_root() -> None:
    assert {state for state, _ in TABLE} == set(RootState) - {RootState.DROPPED}
    assert all((state, step) in TABLE for state in set(RootState) - {RootState.DROPPED} for step in RootStep)
    assert "UNUSED --> HEARD: opened" in mermaid(TABLE, INITIAL)


def test_a_sender_seals_under_its_newest_root_at_once() -> None:
    roots = _roots(Role.SENDER, 1, 2)
    assert roots.for_sealing(Role.SENDER, BOB) is _find(roots, Role.SENDER, 2)


def test_a_receiver_seals_only_under_a_root_whose_answer_it_opened() -> None:
    roots = _roots(Role.RECEIVER, 1, 2)
    assert roots.for_sealing(Role.RECEIVER, BOB) is None
    roots.opened(_find(roots, Role.RECEIVER, 1))
    assert roots.for_sealing(Role.RECEIVER, BOB) is _find(roots, Role.RECEIVER, 1)
    roots.opened(_find(roots, Role.RECEIVER, 2))
    assert roots.for_sealing(Role.RECEIVER, BOB) is _find(roots, Role.RECEIVER, 2)


def test_roots_belong_to_one_role_and_one_peer() -> None:
    roots = _roots(Role.SENDER, 1)
    assert roots.find(Role.RECEIVER, BOB, batch_id(1)) is None
    assert roots.find(Role.SENDER, ALICE, batch_id(1)) is None
    assert roots.for_sealing(Role.SENDER, ALICE) is None


@pytest.mark.parametrize("role", list(Role))
def test_the_previous_root_goes_when_the_new_one_was_used_both_ways(role: Role) -> None:
    roots = _roots(role, 1)
    roots.opened(_find(roots, role, 1))
    roots.add(_made(batch_id(2), role))
    new = _find(roots, role, 2)
    (kept,) = roots.opened(new)
    assert kept == RootKept(role, BOB, batch_id(2), new.secret, sent=False, received=True)
    assert _kept(roots, role) == [1, 2]
    assert roots.sealed(new) == (
        RootKept(role, BOB, batch_id(2), new.secret, sent=True, received=True),
        RootDropped(role, BOB, batch_id(1)),
    )
    assert _kept(roots, role) == [2]


def test_use_is_persisted_once() -> None:
    roots = _roots(Role.SENDER, 1)
    root = _find(roots, Role.SENDER, 1)
    assert len(roots.sealed(root)) == 1
    assert roots.sealed(root) == ()
    assert len(roots.opened(root)) == 1
    assert roots.opened(root) == ()


def test_the_same_root_again_is_no_other_root() -> None:
    roots = _roots(Role.SENDER, 1)
    root = _find(roots, Role.SENDER, 1)
    assert roots.add(_made(batch_id(1))) == ()
    assert _find(roots, Role.SENDER, 1) is root


def test_a_sender_keeps_two_roots_and_of_the_older_ones_the_one_that_was_heard() -> None:
    roots = _roots(Role.SENDER, 1, 2)
    roots.opened(_find(roots, Role.SENDER, 1))
    assert roots.add(_made(batch_id(3))) == (RootDropped(Role.SENDER, BOB, batch_id(2)),)
    assert _kept(roots, Role.SENDER) == [1, 3]


def test_a_sender_that_was_never_answered_keeps_the_two_newest_roots() -> None:
    assert _kept(_roots(Role.SENDER, 1, 2, 3), Role.SENDER) == [2, 3]


def test_candidates_at_a_receiver_are_bounded_and_push_out_no_answered_root() -> None:
    roots = _roots(Role.RECEIVER, 1)
    roots.opened(_find(roots, Role.RECEIVER, 1))
    for counter in range(2, 4 + limits.ROOT_CANDIDATES):
        roots.add(_made(batch_id(counter), Role.RECEIVER))
    assert _kept(roots, Role.RECEIVER) == [1, *range(4, 4 + limits.ROOT_CANDIDATES)]


def test_a_receiver_keeps_two_answered_roots() -> None:
    roots = _roots(Role.RECEIVER, 1, 2, 3)
    for counter in (1, 2):
        roots.opened(_find(roots, Role.RECEIVER, counter))
    changes = roots.opened(_find(roots, Role.RECEIVER, 3))
    assert RootDropped(Role.RECEIVER, BOB, batch_id(1)) in changes
    assert _kept(roots, Role.RECEIVER) == [2, 3]


def test_a_candidate_that_the_sender_voids_is_dropped() -> None:
    roots = _roots(Role.RECEIVER, 1)
    assert roots.refuse(_find(roots, Role.RECEIVER, 1)) == (RootDropped(Role.RECEIVER, BOB, batch_id(1)),)
    assert _kept(roots, Role.RECEIVER) == []


def test_within_one_incarnation_the_counter_decides_which_root_is_newer() -> None:
    """Confirmed out of order: both ends must still agree which root is the newest."""
    roots = _roots(Role.SENDER, 2, 1)
    assert roots.for_sealing(Role.SENDER, BOB) is _find(roots, Role.SENDER, 2)


def test_across_incarnations_the_later_arrival_is_newer() -> None:
    roots = _roots(Role.SENDER, 9)
    younger = BatchId(incarnation("alice", 1), 1)
    roots.add(_made(younger))
    assert roots.for_sealing(Role.SENDER, BOB) is roots.find(Role.SENDER, BOB, younger)


def test_roots_and_their_uses_survive_a_restart() -> None:
    kept = [
        RootKept(Role.RECEIVER, BOB, batch_id(1), Secret(bytes(64)), sent=True, received=True),
        RootKept(Role.RECEIVER, BOB, batch_id(2), Secret(bytes(64)), sent=False, received=False),
        RootKept(Role.SENDER, BOB, batch_id(3), Secret(bytes(64)), sent=True, received=False),
    ]
    roots = Roots(kept)
    assert roots.for_sealing(Role.RECEIVER, BOB) is _find(roots, Role.RECEIVER, 1)
    states = [_find(roots, one.role, one.batch.counter).state for one in kept]
    assert states == [RootState.USED_BOTH_WAYS, RootState.UNUSED, RootState.SEALED]


def test_a_dropped_root_is_wiped_and_what_waits_to_be_stored_is_not() -> None:
    roots = _roots(Role.RECEIVER, 1)
    root = _find(roots, Role.RECEIVER, 1)
    (kept,) = roots.opened(root)
    assert isinstance(kept, RootKept)
    roots.refuse(root)
    with pytest.raises(LocalBug):
        root.secret.expose()
    assert kept.root.expose() == (1).to_bytes(64, "big")


# ── renewal ─────────────────────────────────────────────────────────────────────────────────────
def test_a_root_is_renewed_after_its_time() -> None:
    renewals = Renewals()
    renewals.made(BOB, 0)
    assert renewals.next == limits.ROOT_SECONDS
    assert renewals.due(limits.ROOT_SECONDS - 1) == []
    assert renewals.due(limits.ROOT_SECONDS) == [BOB]


def test_a_root_from_before_the_start_is_renewed_soon() -> None:
    renewals = Renewals()
    renewals.loaded(BOB, 5)
    assert renewals.due(5) == [BOB]


def test_a_wish_is_repeated_only_after_a_while() -> None:
    renewals = Renewals()
    renewals.asked(BOB, 0, has_root=False)
    assert renewals.due(0) == [BOB]
    renewals.asked(BOB, 1, has_root=False)
    assert renewals.next == limits.ROOT_RETRY_SECONDS
    assert renewals.due(limits.ROOT_RETRY_SECONDS) == [BOB]


def test_requests_without_answer_raise_doubt_and_an_answer_lays_it() -> None:
    renewals = Renewals()
    renewals.asked(BOB, 0, has_root=True)
    renewals.asked(BOB, 9, has_root=True)
    assert renewals.due(limits.ROOT_DOUBT_SECONDS - 1) == []
    renewals.heard(BOB)
    renewals.heard(BOB)
    assert renewals.due(1e9) == []


def test_doubt_counts_from_the_first_request_without_answer() -> None:
    renewals = Renewals()
    renewals.asked(BOB, 0, has_root=True)
    renewals.asked(BOB, 9, has_root=True)
    assert renewals.due(limits.ROOT_DOUBT_SECONDS) == [BOB]


def test_a_peer_that_stays_silent_is_not_asked_for_a_root_for_ever() -> None:
    renewals = Renewals()
    renewals.asked(BOB, 0, has_root=True)
    assert renewals.due(limits.ROOT_DOUBT_SECONDS) == [BOB]
    assert renewals.due(1e9) == []


def test_a_new_root_ends_every_wish() -> None:
    renewals = Renewals()
    renewals.asked(BOB, 0, has_root=False)
    renewals.due(0)
    renewals.made(BOB, 1)
    assert renewals.next == 1 + limits.ROOT_SECONDS
