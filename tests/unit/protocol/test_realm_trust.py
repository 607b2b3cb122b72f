"""Which realm a KME follows: kits that disagree, lying hubs, minorities, ages and overlaps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skex.base import codes
from skex.base.errors import ErrorCode, LocalBug, Refused
from skex.protocol.changes import RealmAccepted
from skex.protocol.establishment import Realms, RealmsChanged
from skex.protocol.realm import (
    INITIAL,
    TABLE,
    HeldRealm,
    KitAgrees,
    KitCollected,
    KitRefused,
    OverlapOver,
    RealmEffects,
    RealmExpired,
    RealmInForce,
    RealmRefused,
    RealmState,
    RealmStated,
    RealmTrust,
    VoteCounted,
    check_succession,
)
from skex.protocol.states import mermaid
from skex.protocol.traffic import FromHub, HubDown, SendToHub, Tick
from skex.wire import messages
from skex.wire.realm import Realm
from tests.unit.protocol.realm_support import hub_at, hub_name, realm_of

FIRST = realm_of(epoch=1)
SECOND = realm_of(epoch=2)
THIRD = realm_of(epoch=3)
FORGED = realm_of(epoch=2, name="realm", issued=666)
DAY = 500.0
"""A moment at which nothing has expired."""


def enrolled(realm: Realm = FIRST, *, floor: int = 2, age: float = 0.0) -> RealmTrust:
    return RealmTrust(floor, 0.0, HeldRealm(realm.to_bytes(), age))


def kit(trust: RealmTrust, number: int, realm: Realm, now: float = 0.0) -> RealmEffects:
    return trust.handle(KitCollected(hub_name(number), realm.to_bytes()), now)


def vote(trust: RealmTrust, number: int, realm: Realm | bytes, now: float = DAY) -> RealmEffects:
    data = realm if isinstance(realm, bytes) else realm.to_bytes()
    return trust.handle(FromHub(hub_name(number), 1, messages.RealmFile(data)), now)


def state(trust: RealmTrust, number: int, realm: Realm, now: float = DAY) -> RealmEffects:
    return trust.handle(RealmStated(hub_name(number), realm.epoch, realm.digest()), now)


def epoch(trust: RealmTrust, now: float = DAY) -> int | None:
    realms = trust.realms(now)
    return None if realms is None else realms.current.epoch


def refused(effects: RealmEffects) -> list[ErrorCode]:
    assert effects.persist == ()
    return [notice.code for notice in effects.notify if isinstance(notice, KitRefused | RealmRefused)]


# ── kits ────────────────────────────────────────────────────────────────────────────────────────
def test_realm_is_in_force_once_as_many_kits_agree_as_its_threshold_says() -> None:
    trust = RealmTrust(2, 0.0)
    for number, kits in ((4, 1), (2, 2)):
        effects = kit(trust, number, FIRST)
        assert effects.persist == ()
        assert effects.notify == (KitAgrees(hub_name(number), kits, 3),)
        assert trust.realms(0.0) is None
    effects = kit(trust, 5, FIRST)
    assert effects.persist == (RealmAccepted(1, FIRST.to_bytes()),)
    assert effects.notify == (
        KitAgrees(hub_name(5), 3, 3),
        RealmInForce(FIRST, (hub_name(2), hub_name(4), hub_name(5))),
        RealmsChanged(Realms(FIRST)),
    )
    assert trust.realms(0.0) == Realms(FIRST)


def test_same_hubs_kit_twice_counts_once() -> None:
    trust = RealmTrust(2, 0.0)
    for _ in range(5):
        assert kit(trust, 1, FIRST).persist == ()
    assert trust.state is RealmState.COLLECTING_KITS


def test_lying_hubs_kit_with_another_realm_is_refused_and_changes_nothing() -> None:
    trust = RealmTrust(2, 0.0)
    kit(trust, 1, FIRST)
    assert refused(kit(trust, 2, FORGED)) == [codes.REALM_MISMATCH]
    assert refused(kit(trust, 1, FORGED)) == [codes.REALM_MISMATCH]
    kit(trust, 3, FIRST)
    assert kit(trust, 4, FIRST).persist == (RealmAccepted(1, FIRST.to_bytes()),)


def test_kits_with_a_threshold_below_the_local_floor_are_refused() -> None:
    trust = RealmTrust(4, 0.0)
    assert refused(kit(trust, 1, FIRST)) == [codes.REALM_BELOW_FLOOR]


def test_kit_of_a_hub_that_its_realm_does_not_list_as_active_is_refused() -> None:
    """A revoked hub, and a stranger, would otherwise count towards the threshold."""
    trust = RealmTrust(2, 0.0)
    realm = realm_of(revoked=[5])
    assert refused(kit(trust, 5, realm)) == [codes.REALM_HUB_FOREIGN]
    assert refused(kit(trust, 9, realm)) == [codes.REALM_HUB_FOREIGN]


def test_kit_with_a_damaged_realm_file_is_refused() -> None:
    trust = RealmTrust(2, 0.0)
    effects = trust.handle(KitCollected(hub_name(1), FIRST.to_bytes()[:-1]), 0.0)
    assert refused(effects) == [codes.REALM_MALFORMED]


def test_later_kit_must_carry_the_realm_in_force() -> None:
    trust = enrolled()
    assert kit(trust, 4, FIRST).notify == (KitAgrees(hub_name(4), 3, 3),)
    assert refused(kit(trust, 4, SECOND)) == [codes.REALM_MISMATCH]
    for number in (1, 2, 3):
        vote(trust, number, SECOND)
    assert kit(trust, 4, SECOND, DAY).notify == (KitAgrees(hub_name(4), 3, 3),)
    assert refused(kit(trust, 4, FIRST, DAY)) == [codes.REALM_MISMATCH]


# ── votes ───────────────────────────────────────────────────────────────────────────────────────
def test_epoch_takes_effect_when_as_many_hubs_as_the_threshold_sent_the_same_bytes() -> None:
    trust = enrolled()
    assert vote(trust, 5, SECOND).notify == (VoteCounted(hub_name(5), 2, 1, 3),)
    assert vote(trust, 1, SECOND).notify == (VoteCounted(hub_name(1), 2, 2, 3),)
    assert epoch(trust) == 1
    effects = vote(trust, 2, SECOND)
    assert effects.persist == (RealmAccepted(2, SECOND.to_bytes()),)
    assert effects.notify == (
        VoteCounted(hub_name(2), 2, 3, 3),
        RealmInForce(SECOND, (hub_name(1), hub_name(2), hub_name(5))),
        RealmsChanged(Realms(SECOND, FIRST)),
    )
    assert trust.realms(DAY) == Realms(SECOND, FIRST)


def test_minority_of_lying_hubs_cannot_impose_an_epoch_however_often_it_votes() -> None:
    trust = enrolled()
    for _ in range(10):
        for liar in (1, 2):
            assert vote(trust, liar, FORGED).persist == ()
    assert epoch(trust) == 1


def test_minority_of_lying_hubs_cannot_block_an_epoch() -> None:
    trust = enrolled()
    for liar in (1, 2):
        vote(trust, liar, realm_of(epoch=900, issued=liar))
    for honest in (3, 4, 5):
        vote(trust, honest, SECOND)
    assert epoch(trust) == 2


def test_hub_that_changes_its_vote_counts_for_its_latest_only() -> None:
    trust = enrolled()
    vote(trust, 1, SECOND)
    vote(trust, 1, FORGED)
    vote(trust, 2, SECOND)
    assert vote(trust, 3, SECOND).persist == ()
    assert vote(trust, 1, SECOND).persist != ()


def test_vote_is_withdrawn_by_sending_the_file_in_force_or_an_invalid_one() -> None:
    trust = enrolled()
    for withdrawal in (FIRST.to_bytes(), b"garbage"):
        vote(trust, 1, SECOND)
        vote(trust, 2, SECOND)
        vote(trust, 1, withdrawal)
        assert vote(trust, 3, SECOND).persist == ()
        vote(trust, 3, FIRST)
    assert epoch(trust) == 1


def test_votes_of_revoked_and_foreign_hubs_do_not_count() -> None:
    trust = enrolled(realm_of(hubs=6, threshold=2, revoked=[6]))
    later = realm_of(hubs=6, threshold=2, epoch=2, revoked=[6])
    vote(trust, 1, later)
    assert refused(vote(trust, 6, later)) == [codes.REALM_HUB_FOREIGN]
    assert refused(vote(trust, 9, later)) == [codes.REALM_HUB_FOREIGN]
    assert epoch(trust) == 1


def test_hubs_of_the_new_epoch_cannot_vote_themselves_in() -> None:
    trust = enrolled(realm_of(hubs=3, threshold=2))
    later = realm_of(hubs=5, threshold=2, epoch=2)
    vote(trust, 1, later)
    for new in (4, 5):
        assert refused(vote(trust, new, later)) == [codes.REALM_HUB_FOREIGN]
    assert vote(trust, 2, later).persist != ()


@pytest.mark.parametrize(
    ("later", "code"),
    [
        (realm_of(epoch=2, threshold=2), codes.REALM_BELOW_FLOOR),
        (realm_of(epoch=1, issued=1), codes.REALM_MISMATCH),
        (realm_of(epoch=2, name="elsewhere"), codes.REALM_MISMATCH),
        (realm_of(epoch=2, hubs=4), codes.REALM_HUB_DROPPED),
        (
            replace(SECOND, hubs=(*SECOND.hubs[:4], hub_at(5, coordinate=6))),
            codes.REALM_CHANGED_COORDINATE,
        ),
        (replace(SECOND, hubs=(*SECOND.hubs[:4], hub_at(6, coordinate=5))), codes.REALM_HUB_DROPPED),
    ],
    ids=["below the floor", "same epoch", "other realm", "hub dropped", "hub moved", "coordinate reused"],
)
def test_file_that_may_not_follow_is_refused_though_every_hub_sends_it(later: Realm, code: ErrorCode) -> None:
    """All hubs collude: the floor, the order of epochs and the coordinates hold all the same."""
    trust = enrolled(floor=3)
    for number in range(1, 6):
        assert refused(vote(trust, number, later)) == [code]
    assert epoch(trust) == 1


def test_replayed_older_epoch_is_refused() -> None:
    trust = enrolled(SECOND)
    assert refused(vote(trust, 1, FIRST)) == [codes.REALM_OUTDATED]


def test_epochs_may_be_skipped_but_only_rise() -> None:
    trust = enrolled()
    for number in (1, 2, 3):
        vote(trust, number, THIRD)
    for number in (1, 2, 3):
        vote(trust, number, SECOND)
    assert epoch(trust) == 3


def test_revoking_a_hub_keeps_its_coordinate_and_takes_its_vote() -> None:
    trust = enrolled()
    without = realm_of(epoch=2, revoked=[1])
    vote(trust, 1, realm_of(epoch=7))
    for number in (2, 3, 4):
        vote(trust, number, without)
    assert epoch(trust) == 2
    later = realm_of(epoch=7, revoked=[1])
    assert [bool(vote(trust, number, later).persist) for number in (2, 3, 4)] == [False, False, True]


def test_hubs_that_voted_further_ahead_are_counted_again_after_an_epoch() -> None:
    """Hubs push a file once: two went on to epoch 3 while the others still sent epoch 2."""
    trust = enrolled(realm_of(hubs=5, threshold=3))
    for number in (1, 2):
        vote(trust, number, THIRD)
    for number in (3, 4, 5):
        vote(trust, number, SECOND)
    assert epoch(trust) == 2
    assert vote(trust, 3, THIRD).persist == (RealmAccepted(3, THIRD.to_bytes()),)


def test_votes_that_a_new_epoch_makes_enough_take_effect_with_it() -> None:
    """Epoch 2 lowers the threshold to what epoch 3 has already: both follow in one step."""
    trust = enrolled(realm_of(hubs=5, threshold=3))
    lower = realm_of(hubs=5, threshold=2, epoch=2)
    last = realm_of(hubs=5, threshold=2, epoch=3)
    for number, realm in ((1, last), (2, last), (3, lower), (4, lower)):
        assert vote(trust, number, realm).persist == ()
    effects = vote(trust, 5, lower)
    assert effects.persist == (RealmAccepted(2, lower.to_bytes()), RealmAccepted(3, last.to_bytes()))
    assert trust.realms(DAY) == Realms(last, lower)


def test_latest_of_several_epochs_that_have_enough_votes_takes_effect() -> None:
    trust = enrolled(realm_of(hubs=7, threshold=3))
    lower, middle, last = (realm_of(hubs=7, threshold=2, epoch=number) for number in (2, 3, 4))
    for number, realm in ((1, middle), (2, middle), (3, last), (4, last), (5, lower), (6, lower)):
        assert vote(trust, number, realm).persist == ()
    effects = vote(trust, 7, lower)
    assert effects.persist == (RealmAccepted(2, lower.to_bytes()), RealmAccepted(4, last.to_bytes()))


def test_vote_that_equals_what_took_effect_is_spent() -> None:
    trust = enrolled()
    for number in (1, 2, 3):
        vote(trust, number, SECOND)
    assert vote(trust, 4, SECOND).empty


def test_file_from_a_hub_before_any_kit_is_refused() -> None:
    trust = RealmTrust(2, 0.0)
    assert refused(vote(trust, 1, FIRST)) == [codes.REALM_NOT_IN_FORCE]


def test_message_that_is_no_realm_file_is_a_local_bug() -> None:
    with pytest.raises(LocalBug) as caught:
        enrolled().handle(FromHub(hub_name(1), 1, messages.Done(1)), 0.0)
    assert caught.value.code is codes.BAD_ARGUMENT


# ── statements in prefaces ──────────────────────────────────────────────────────────────────────
def test_hub_that_states_a_later_epoch_is_asked_once_per_connection() -> None:
    trust = enrolled()
    asked = (SendToHub(hub_name(1), messages.GetRealm()),)
    assert state(trust, 1, SECOND).send == asked
    assert state(trust, 1, THIRD).send == ()
    trust.handle(HubDown(hub_name(1)), DAY)
    assert state(trust, 1, THIRD).send == asked


def test_hub_that_states_the_file_in_force_is_not_asked() -> None:
    assert state(enrolled(), 1, FIRST).empty


def test_hub_that_states_what_it_voted_for_is_not_asked_again() -> None:
    trust = enrolled()
    vote(trust, 1, SECOND)
    assert state(trust, 1, SECOND).empty
    vote(trust, 2, SECOND)
    assert vote(trust, 3, SECOND).persist != ()


def test_statement_withdraws_a_vote_that_differs() -> None:
    """A hub that lied, was repaired and speaks again must not help later liars to a threshold."""
    trust = enrolled()
    vote(trust, 1, FORGED)
    assert state(trust, 1, FIRST).empty
    vote(trust, 2, FORGED)
    assert vote(trust, 3, FORGED).persist == ()


@pytest.mark.parametrize(
    ("held", "stated", "code"),
    [(SECOND, FIRST, codes.REALM_OUTDATED), (SECOND, FORGED, codes.REALM_MISMATCH)],
    ids=["hub is behind", "same epoch, other file"],
)
def test_hub_that_states_an_epoch_that_cannot_follow_is_noticed_and_not_asked(
    held: Realm, stated: Realm, code: ErrorCode
) -> None:
    effects = state(enrolled(held), 4, stated)
    assert effects.send == ()
    assert refused(effects) == [code]


def test_statement_of_a_foreign_hub_or_without_a_realm_has_no_effect() -> None:
    assert state(enrolled(), 9, SECOND).empty
    assert state(RealmTrust(2, 0.0), 1, SECOND).empty


# ── time ────────────────────────────────────────────────────────────────────────────────────────
def test_previous_epoch_is_accepted_until_the_overlap_is_over() -> None:
    trust = enrolled()
    for number in (1, 2, 3):
        vote(trust, number, SECOND, now=10.0)
    assert trust.next_deadline == 110.0
    assert trust.realms(109.9) == Realms(SECOND, FIRST)
    assert trust.realms(110.0) == Realms(SECOND)
    effects = trust.handle(Tick(), 110.0)
    assert effects.notify == (OverlapOver(1), RealmsChanged(Realms(SECOND)))
    assert trust.next_deadline == 1010.0


def test_overlap_of_zero_ends_at_once() -> None:
    trust = enrolled()
    for number in (1, 2):
        vote(trust, number, realm_of(epoch=2, overlap=0))
    effects = vote(trust, 3, realm_of(epoch=2, overlap=0))
    assert effects.notify[-1] == RealmsChanged(Realms(realm_of(epoch=2, overlap=0)))
    assert trust.state is RealmState.ONE_EPOCH


def test_overlap_does_not_outlast_the_previous_files_own_age() -> None:
    trust = enrolled(realm_of(epoch=1, max_age=50))
    for number in (1, 2, 3):
        vote(trust, number, SECOND, now=10.0)
    assert trust.next_deadline == 50.0


def test_third_epoch_within_the_overlap_ends_the_first() -> None:
    trust = enrolled()
    for realm in (SECOND, THIRD):
        for number in (1, 2, 3):
            vote(trust, number, realm)
    assert trust.realms(DAY) == Realms(THIRD, SECOND)


def test_realm_file_that_reached_its_maximum_age_is_not_in_force_even_before_a_tick() -> None:
    trust = enrolled()
    assert trust.realms(999.9) == Realms(FIRST)
    assert trust.realms(1000.0) is None


def test_expiry_is_due_noticed_and_final() -> None:
    trust = enrolled()
    due = [trust.next_deadline]
    effects = trust.handle(Tick(), 1000.0)
    due.append(trust.next_deadline)
    assert effects.notify == (RealmExpired(1), RealmsChanged(None))
    assert due == [1000.0, None]
    assert trust.realms(0.0) is None


def test_age_held_at_the_start_shortens_what_is_left() -> None:
    trust = enrolled(age=900.0)
    assert trust.realms(99.9) is not None
    assert trust.realms(100.0) is None


def test_hubs_of_an_expired_epoch_can_impose_nothing() -> None:
    """Operators revoked them long ago; a KME that slept through it must not follow them."""
    trust = enrolled()
    vote(trust, 1, SECOND)
    for number in range(1, 6):
        assert codes.REALM_NOT_IN_FORCE in refused(vote(trust, number, SECOND, now=1000.0))
    assert trust.state is RealmState.EXPIRED
    assert state(trust, 1, SECOND, now=1001.0).empty


@pytest.mark.parametrize("renewed", [FIRST, SECOND], ids=["same file", "later epoch"])
def test_kits_put_an_expired_kme_back_in_force(renewed: Realm) -> None:
    trust = enrolled()
    trust.handle(Tick(), 1000.0)
    for number in (1, 2):
        assert kit(trust, number, renewed, 2000.0).persist == ()
    effects = kit(trust, 3, renewed, 2000.0)
    assert effects.persist == (RealmAccepted(renewed.epoch, renewed.to_bytes()),)
    assert trust.realms(2999.0) == Realms(renewed)


def test_votes_from_before_an_expiry_do_not_count_after_it() -> None:
    trust = enrolled()
    for number in (1, 2):
        vote(trust, number, SECOND)
    trust.handle(Tick(), 1000.0)
    for number in (1, 2, 3):
        kit(trust, number, FIRST, 1000.0)
    assert vote(trust, 3, SECOND, now=1001.0).persist == ()


def test_kits_from_before_an_expiry_do_not_count_after_it() -> None:
    trust = RealmTrust(2, 0.0)
    for number in (1, 2, 3):
        kit(trust, number, FIRST)
    trust.handle(Tick(), 1000.0)
    assert kit(trust, 4, SECOND, 1000.0).notify == (KitAgrees(hub_name(4), 1, 3),)


@pytest.mark.parametrize(
    ("realm", "code"),
    [
        (realm_of(epoch=1, issued=9), codes.REALM_MISMATCH),
        (realm_of(epoch=2, hubs=4), codes.REALM_HUB_DROPPED),
        (realm_of(epoch=2, threshold=2), codes.REALM_BELOW_FLOOR),
    ],
)
def test_kits_for_an_expired_kme_obey_the_same_rules(realm: Realm, code: ErrorCode) -> None:
    trust = enrolled(floor=3)
    trust.handle(Tick(), 1000.0)
    assert refused(kit(trust, 1, realm, 2000.0)) == [code]


# ── starts ──────────────────────────────────────────────────────────────────────────────────────
def test_start_within_an_overlap_resumes_both_epochs_with_what_is_left_of_them() -> None:
    held = HeldRealm(SECOND.to_bytes(), 30.0, FIRST.to_bytes(), 950.0)
    trust = RealmTrust(2, 0.0, held)
    assert trust.realms(49.9) == Realms(SECOND, FIRST)
    assert trust.realms(50.0) == Realms(SECOND)
    assert trust.handle(Tick(), 50.0).notify == (OverlapOver(1), RealmsChanged(Realms(SECOND)))


def test_start_with_a_floor_above_the_held_threshold_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        enrolled(floor=4)
    assert caught.value.code is codes.REALM_BELOW_FLOOR


def test_start_drops_a_previous_epoch_below_a_raised_floor() -> None:
    previous = realm_of(epoch=1, threshold=2)
    trust = RealmTrust(3, 0.0, HeldRealm(SECOND.to_bytes(), 0.0, previous.to_bytes(), 0.0))
    assert trust.realms(0.0) == Realms(SECOND)


def test_nothing_is_due_before_the_first_realm() -> None:
    assert RealmTrust(2, 0.0).next_deadline is None
    assert RealmTrust(2, 0.0).handle(Tick(), 5.0).empty


def test_succession_allows_new_hubs_and_a_revoked_hub_to_return() -> None:
    check_succession(realm_of(revoked=[2]), realm_of(hubs=7, epoch=2))


def test_table_draws_as_a_diagram() -> None:
    assert "TWO_EPOCHS --> ONE_EPOCH: overlap over" in mermaid(TABLE, INITIAL)
