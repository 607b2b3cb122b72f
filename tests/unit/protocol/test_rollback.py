"""Starts, restored KMEs, and hubs that lie about a rollback."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import HubName, LinkId
from skex.protocol.changes import LinkFrozen, RollbackFound, RollbackSettled
from skex.protocol.establishment import Realms, RealmsChanged
from skex.protocol.rollback import (
    INITIAL,
    TABLE,
    DeliveryAllowed,
    FreezeLink,
    LinkProved,
    LinkRenewed,
    OwnContradiction,
    RevokeEverything,
    RollbackEffects,
    RollbackEvent,
    RollbackState,
    RollbackWatch,
    Settled,
)
from skex.protocol.states import mermaid
from skex.protocol.traffic import Tick
from tests.unit.protocol.realm_support import hub_name, realm_of

ROLLBACK = codes.ROLLBACK_FOUND.name


def link_id(number: int) -> LinkId:
    return LinkId(bytes([number]) * 8)


def links(*numbers: int) -> dict[HubName, LinkId]:
    return {hub_name(number): link_id(number) for number in numbers}


class Start:
    """One start of a KME, with links to every hub of the realm."""

    def __init__(
        self, hubs: int, threshold: int, *, frozen: Iterable[int] = (), found: str | None = None
    ) -> None:
        self.now = 100.0
        self.watch = RollbackWatch(
            realm_of(hubs, threshold),
            links(*range(1, hubs + 1)),
            [hub_name(number) for number in frozen],
            found,
        )
        self.started = self.watch.start(self.now)

    def handle(self, event: RollbackEvent) -> RollbackEffects:
        return self.watch.handle(event, self.now)

    def agree(self, *numbers: int) -> list[object]:
        effects = [self.handle(LinkProved(hub_name(number), rolled_back=False)) for number in numbers]
        assert all(effect.persist == () for effect in effects)
        return [notice for effect in effects for notice in effect.notify]

    def accuse(self, number: int) -> RollbackEffects:
        return self.handle(LinkProved(hub_name(number), rolled_back=True))


# ── what a start waits for ──────────────────────────────────────────────────────────────────────
def test_nothing_is_delivered_after_a_start_until_the_threshold_of_hubs_agrees() -> None:
    start = Start(5, 3)
    assert start.started.empty
    assert start.agree(1, 2) == []
    assert not start.watch.may_deliver
    assert start.agree(3) == [DeliveryAllowed(3, 3)]
    assert start.watch.may_deliver


def test_same_hub_that_reconnects_again_and_again_is_one_witness() -> None:
    start = Start(5, 3)
    start.agree(1, 1, 1, 1)
    assert start.watch.state is RollbackState.AWAITING_THRESHOLD


def test_majority_is_awaited_where_it_is_more_than_the_threshold() -> None:
    """A rollback that was witnessed by a majority then has a witness among those asked."""
    start = Start(7, 2)
    assert (start.watch.needed, start.watch.wanted) == (2, 4)
    assert start.agree(1, 2, 3) == []
    assert not start.watch.may_deliver
    assert start.agree(4) == [DeliveryAllowed(4, 4)]


def test_keys_flow_though_every_hub_beyond_the_threshold_is_down() -> None:
    """Rule 4: n - k hubs are unreachable, so a majority never comes; the wait is bounded."""
    start = Start(7, 2)
    deadline = start.now + limits.WITNESS_SECONDS
    due = []
    for number in (1, 2):
        start.agree(number)
        due.append(start.watch.next_deadline)
    assert due == [None, deadline]
    start.now = deadline - 1
    start.agree(2)
    assert start.handle(Tick()).empty
    assert start.watch.next_deadline == deadline
    start.now = deadline
    assert start.handle(Tick()).notify == (DeliveryAllowed(2, 4),)
    assert start.watch.may_deliver


def test_nothing_is_due_once_keys_may_be_delivered() -> None:
    start = Start(5, 3)
    start.agree(1, 2, 3)
    assert start.watch.next_deadline is None
    assert start.handle(Tick()).empty


def test_time_alone_allows_nothing() -> None:
    start = Start(7, 2)
    start.agree(1)
    start.now += 100 * limits.WITNESS_SECONDS
    start.handle(Tick())
    assert not start.watch.may_deliver


def test_majority_is_of_hubs_with_a_link_because_no_other_could_have_seen_anything() -> None:
    watch = RollbackWatch(realm_of(7, 2), links(1, 2, 3))
    assert watch.wanted == 2


def test_revoked_hubs_are_no_witnesses() -> None:
    watch = RollbackWatch(realm_of(5, 3, revoked=[1]), links(1, 2, 3, 4, 5))
    for number in (1, 2, 3):
        watch.handle(LinkProved(hub_name(number), rolled_back=False), 0.0)
    assert not watch.may_deliver


def test_hub_without_a_link_is_a_local_bug() -> None:
    with pytest.raises(LocalBug) as caught:
        Start(5, 3).handle(LinkProved(hub_name(9), rolled_back=False))
    assert caught.value.code is codes.BAD_ARGUMENT


# ── hubs that say that this KME was rolled back ─────────────────────────────────────────────────
def test_hub_lying_about_a_rollback_freezes_its_own_link_only() -> None:
    start = Start(5, 3)
    effects = start.accuse(1)
    assert effects.persist == (LinkFrozen(link_id(1), ROLLBACK),)
    assert effects.notify == (FreezeLink(hub_name(1)),)
    assert start.agree(2, 3, 4) == [DeliveryAllowed(3, 3)]


def test_minority_of_hubs_lying_about_a_rollback_can_neither_revoke_nor_stop_delivery() -> None:
    start = Start(5, 3)
    for liar in (1, 2):
        assert not any(isinstance(notice, RevokeEverything) for notice in start.accuse(liar).notify)
    start.agree(3, 4, 5)
    assert start.watch.may_deliver


def test_accusers_later_prefaces_do_not_make_it_a_witness() -> None:
    """Its first preface raised this end's marks, so its second one cannot show anything."""
    start = Start(5, 3)
    start.accuse(1)
    start.agree(1, 2, 3)
    assert not start.watch.may_deliver


def test_witness_that_accuses_before_delivery_is_a_witness_no_more() -> None:
    start = Start(7, 2)
    start.agree(1, 2)
    start.accuse(2)
    assert start.watch.state is RollbackState.AWAITING_THRESHOLD
    start.now += limits.WITNESS_SECONDS
    start.handle(Tick())
    assert not start.watch.may_deliver


def test_lying_hub_cannot_take_back_what_a_start_has_already_shown() -> None:
    start = Start(5, 3)
    start.agree(1, 2, 3)
    start.accuse(1)
    assert start.watch.may_deliver


@pytest.mark.parametrize("witnesses", [(), (4, 5), (1, 2, 3, 4, 5)], ids=["none", "some", "all before"])
def test_threshold_of_hubs_alike_revokes_everything(witnesses: tuple[int, ...]) -> None:
    start = Start(5, 3)
    start.agree(*witnesses)
    start.accuse(3)
    start.accuse(1)
    effects = start.accuse(2)
    assert effects.persist == (LinkFrozen(link_id(2), ROLLBACK), RollbackFound(ROLLBACK))
    assert effects.notify == (
        FreezeLink(hub_name(2)),
        RevokeEverything(ROLLBACK, (hub_name(1), hub_name(2), hub_name(3))),
    )
    assert not start.watch.may_deliver


def test_accusation_after_everything_was_revoked_freezes_its_link_and_revokes_nothing_again() -> None:
    start = Start(5, 2)
    start.accuse(1)
    start.accuse(2)
    assert start.accuse(3).notify == (FreezeLink(hub_name(3)),)
    start.agree(4, 5)
    assert start.watch.state is RollbackState.ROLLED_BACK


def test_revoked_hubs_accusations_count_for_their_links_only() -> None:
    watch = RollbackWatch(realm_of(5, 2, revoked=[1, 2]), links(1, 2, 3, 4, 5))
    for number in (1, 2):
        effects = watch.handle(LinkProved(hub_name(number), rolled_back=True), 0.0)
        assert effects.notify == (FreezeLink(hub_name(number)),)
    assert watch.state is RollbackState.AWAITING_THRESHOLD


def test_accusation_before_a_restart_still_counts_after_it() -> None:
    """The preface that found it raised the marks: without memory a crash would hide the rollback."""
    start = Start(5, 2, frozen=[1])
    assert start.started.empty
    assert isinstance(start.accuse(2).notify[-1], RevokeEverything)


def test_threshold_of_accusations_from_before_is_found_at_the_start() -> None:
    start = Start(5, 2, frozen=[1, 2])
    assert start.started.persist == (RollbackFound(ROLLBACK),)
    assert start.started.notify == (RevokeEverything(ROLLBACK, (hub_name(1), hub_name(2))),)


def test_renewed_link_forgets_what_was_said_about_the_old_one() -> None:
    """Two hubs that lied a year apart must not add up, once an operator has dealt with the first."""
    start = Start(5, 2)
    start.accuse(1)
    assert start.handle(LinkRenewed(hub_name(1), link_id(77))).empty
    assert start.accuse(2).notify == (FreezeLink(hub_name(2)),)
    assert start.accuse(1).persist[0] == LinkFrozen(link_id(77), ROLLBACK)


def test_renewed_link_vouches_for_nothing_before_its_own_first_preface() -> None:
    """What its hub once said in favour of the old link went with what it said against it later."""
    start = Start(5, 3)
    start.agree(1)
    start.accuse(1)
    start.handle(LinkRenewed(hub_name(1), link_id(77)))
    start.agree(2, 3)
    assert not start.watch.may_deliver
    start.agree(1)
    assert start.watch.may_deliver


# ── own evidence ────────────────────────────────────────────────────────────────────────────────
def test_own_contradiction_revokes_everything_at_once() -> None:
    start = Start(5, 3)
    start.agree(1, 2, 3)
    effects = start.handle(OwnContradiction(codes.PAD_MARK_CONTRADICTS))
    assert effects.persist == (RollbackFound("pad-mark-contradicts"),)
    assert effects.notify == (RevokeEverything("pad-mark-contradicts", ()),)
    assert not start.watch.may_deliver


def test_second_contradiction_is_told_too() -> None:
    start = Start(5, 3)
    start.handle(OwnContradiction(codes.PAD_MARK_CONTRADICTS))
    assert start.handle(OwnContradiction(codes.PAD_SHORT_READ)).persist == (RollbackFound("pad-short-read"),)


def test_unsettled_rollback_is_told_again_at_the_next_start() -> None:
    """Killed between finding and revoking: the keys must be revoked all the same."""
    start = Start(5, 3, found=ROLLBACK)
    assert start.started.notify == (RevokeEverything(ROLLBACK, ()),)
    start.agree(1, 2, 3, 4, 5)
    assert not start.watch.may_deliver


def test_settled_rollback_starts_the_wait_anew() -> None:
    start = Start(5, 2)
    start.agree(3, 4, 5)
    start.accuse(1)
    start.accuse(2)
    effects = start.handle(Settled())
    assert effects.persist == (RollbackSettled(),)
    assert effects.notify == ()
    assert start.watch.state is RollbackState.AWAITING_THRESHOLD
    assert start.agree(1, 2, 3) == [DeliveryAllowed(3, 3)]


def test_settling_what_was_never_found_is_a_local_bug() -> None:
    with pytest.raises(LocalBug) as caught:
        Start(5, 3).handle(Settled())
    assert caught.value.code is codes.BAD_STATE


# ── the realm changes ───────────────────────────────────────────────────────────────────────────
def test_higher_threshold_of_a_new_epoch_applies_to_a_wait_under_way() -> None:
    start = Start(7, 2)
    start.agree(1, 2)
    start.handle(RealmsChanged(Realms(realm_of(7, 3, epoch=2))))
    assert start.watch.state is RollbackState.AWAITING_THRESHOLD
    start.agree(3, 4)
    assert start.watch.may_deliver


def test_new_epoch_does_not_stop_a_delivery_that_was_allowed() -> None:
    start = Start(5, 3)
    start.agree(1, 2, 3)
    start.handle(RealmsChanged(Realms(realm_of(5, 4, epoch=2))))
    assert start.watch.may_deliver


def test_expired_realm_leaves_the_last_one_to_count_with() -> None:
    start = Start(5, 3)
    assert start.handle(RealmsChanged(None)).empty
    assert start.watch.needed == 3


def test_table_draws_as_a_diagram() -> None:
    assert "ROLLED_BACK --> AWAITING_THRESHOLD: settled" in mermaid(TABLE, INITIAL)
