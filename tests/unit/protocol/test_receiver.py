from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import pytest

from simulation.exchange import ALICE, BOB, Exchange, Lie, hub_name, make_realm
from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import BatchId, Coordinate, HubName, Incarnation, KmeName
from skex.base.secret import Secret
from skex.crypto import gf256, sharing
from skex.protocol import establishment
from skex.protocol.changes import (
    BatchAnswered,
    BatchDropped,
    BatchReceived,
    Role,
    RootKept,
    TombstonesDropped,
)
from skex.protocol.establishment import Realms, RealmsChanged, RootMade, SharedSecret
from skex.protocol.evidence import Blame, Evidence
from skex.protocol.gathering import GROUP_TABLE, GroupState
from skex.protocol.holding import HELD_TABLE, HeldState
from skex.protocol.receiver import (
    Answered,
    AnswerRefused,
    BatchAccepted,
    BatchExpired,
    BatchSettled,
    ConfirmToken,
    GroupExpired,
    HubBlamed,
    Searched,
    SearchNeeded,
    ShareCounted,
    ShareMissing,
    ShareRefused,
    SharesRight,
    TwoCandidates,
)
from skex.protocol.reconstruct import Found, NothingYet
from skex.protocol.standing import Standing
from skex.protocol.traffic import AnsweredByHub, FromHub, Tick
from skex.wire.context import Purpose
from skex.wire.independence import Attribute, Floor
from skex.wire.messages import Confirm, GetRealm, Refusal, Refuse, Shared

T = TypeVar("T")
KEPT_SECONDS = 3600 + limits.LIFETIME_MARGIN_SECONDS


def hubs(*numbers: int) -> tuple[HubName, ...]:
    return tuple(hub_name(number) for number in numbers)


def told(world: Exchange, kind: type[T]) -> list[T]:
    return [notice for notice in world.told_bob if isinstance(notice, kind)]


def confirms(world: Exchange) -> list[HubName]:
    """The hubs through which Bob sent CONFIRMs, in order."""
    return [hub for hub, message in world.carried if isinstance(message, Confirm)]


def refusals(world: Exchange) -> list[tuple[HubName, int]]:
    return [(hub, message.refusal) for hub, message in world.carried if isinstance(message, Refuse)]


def flipped(shared: Shared, at: int = 90) -> Shared:
    """What a lying hub makes of its share."""
    changed = bytearray(shared.share)
    changed[at] ^= 0x2A
    return replace(shared, share=bytes(changed))


def added_everywhere(difference: int) -> Lie:
    """What a hub does that adds one difference to each byte of its share."""
    return lambda honest: [replace(honest, share=bytes(byte ^ difference for byte in honest.share))]


def bring(world: Exchange, shares: dict[HubName, Shared], *numbers: int) -> None:
    """Hubs bring their shares one after another."""
    for hub in hubs(*numbers):
        world.bring(hub, shares[hub])
        world.run()


def quiet(hub_count: int = 5, threshold: int = 3) -> Exchange:
    """A world in which Alice answers nothing."""
    world = Exchange(hub_count, threshold)
    world.answering = False
    return world


def blamed(world: Exchange) -> list[tuple[HubName, Blame, bool]]:
    return [(notice.hub, notice.blame, notice.certain) for notice in told(world, HubBlamed)]


# ── accepting ───────────────────────────────────────────────────────────────────────────────────
def test_the_kth_share_makes_the_batch_durable_and_only_then_confirms() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 4, 2)
    assert not world.received.changes
    world.bring(hub_name(5), shares[hub_name(5)])
    (_, event) = world.lose()[0]
    effects = world.receiver.handle(event, world.now)  # type: ignore[arg-type]  # it is Bob's
    (received,) = effects.persist
    assert isinstance(received, BatchReceived)
    assert received.through == hubs(2, 4, 5)
    assert received.batch.peer == ALICE
    assert received.batch.hubs == hubs(1, 2, 3, 4, 5)
    assert [send.hub for send in effects.send] == list(hubs(2, 4, 5))
    assert {send.message for send in effects.send} == {Confirm(ALICE, received.confirmation)}
    assert effects.notify == (BatchAccepted(received.batch, world.now + KEPT_SECONDS),)


def test_the_keys_are_those_that_the_sender_made() -> None:
    world = Exchange()
    world.establish(keys=7, key_bytes=48)
    world.run()
    (sent,), (received,) = world.sent.sent, world.received.received
    assert sent.batch.keys == received.batch.keys
    assert len(received.batch.keys) == 7 * 48


def test_the_confirm_states_the_own_epoch_incarnation_and_claim() -> None:
    world = Exchange()
    world.bobs.computational = (Coordinate(2), Coordinate(9))
    overlap = Realms(make_realm(5, 3, epoch=2), world.realms.current)
    world.tell(BOB, RealmsChanged(overlap))
    world.establish()
    world.run()
    (received,) = world.received.received
    assert received.batch.context.epoch == 1
    assert received.confirmation.epoch == 2
    assert received.confirmation.claim.computational == (2,)
    assert len(world.sent.sent) == 1  # the confirmation verified


def test_a_link_without_hubs_works_with_its_one_share() -> None:
    world = Exchange(1, 1)
    world.establish()
    world.run()
    assert world.sent.sent[0].batch.keys == world.received.received[0].batch.keys


def test_a_control_batch_makes_a_root_in_the_same_set() -> None:
    world = Exchange()
    world.establish(keys=1, key_bytes=64, purpose=Purpose.CONTROL)
    world.run()
    received, root = world.received.changes[:2]
    assert isinstance(received, BatchReceived)
    assert isinstance(root, RootKept)
    assert (root.role, root.peer, root.sent, root.received) == (Role.RECEIVER, ALICE, False, False)
    assert root.root == received.batch.keys
    assert root.root is not received.batch.keys
    assert told(world, RootMade) == [RootMade(Role.RECEIVER, ALICE, root.batch, root.root)]


def test_secrets_of_an_accepted_group_are_wiped() -> None:
    world = quiet(3, 3)
    shares = world.shares()
    bring(world, shares, 1, 2)
    (group,) = world.receiver._gathering
    held = list(group.shares.values())
    bring(world, shares, 3)
    assert all(share.wiped for share in held)
    assert not list(world.receiver._gathering)


def test_messages_and_answers_for_others_are_a_bug() -> None:
    world = Exchange()
    for event in (FromHub(hub_name(1), 1, GetRealm()), AnsweredByHub(hub_name(1), "another's", 1)):
        with pytest.raises(LocalBug) as caught:
            world.tell(BOB, event)
        assert caught.value.code is codes.BAD_ARGUMENT


# ── late shares ─────────────────────────────────────────────────────────────────────────────────
def test_right_shares_that_come_late_are_counted_and_confirmed_through() -> None:
    world = quiet()
    bring(world, world.shares(), 1, 2, 3, 4, 5)
    assert [notice.hub for notice in told(world, ShareCounted)] == list(hubs(4, 5))
    assert confirms(world) == list(hubs(1, 2, 3, 4, 5))
    assert not world.receiver._holding._late


def test_a_wrong_share_that_comes_late_names_its_hub_once_all_are_in() -> None:
    world = quiet()
    shares = world.shares()
    shares[hub_name(4)] = flipped(shares[hub_name(4)])
    bring(world, shares, 1, 2, 3, 4)
    assert blamed(world) == []
    bring(world, shares, 5)
    assert blamed(world) == [(hub_name(4), Blame.WRONG_SHARE, True)]


def test_a_wrong_share_is_named_at_the_end_of_the_window_if_a_hub_stays_away() -> None:
    world = quiet()
    shares = world.shares()
    shares[hub_name(4)] = flipped(shares[hub_name(4)])
    bring(world, shares, 1, 2, 3, 4)
    world.advance(limits.LATE_SHARE_SECONDS + 0.1)
    # Three agree: two of them could have colluded around the secret to make the fourth look wrong.
    assert blamed(world) == [(hub_name(4), Blame.WRONG_SHARE, False)]


def test_the_accepted_polynomial_is_forgotten_after_a_while() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 1, 2, 3)
    (late,) = world.receiver._holding._late.values()
    basis = list(late._basis.values())
    world.advance(limits.LATE_SHARE_SECONDS)
    assert all(share.wiped for share in basis)
    bring(world, {hub_name(4): flipped(shares[hub_name(4)])}, 4)
    assert blamed(world) == []


def test_polynomials_that_take_too_much_room_are_forgotten_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LATE_SHARE_BYTES", 3 * (80 + 64))
    world = quiet()
    for _ in range(2):
        bring(world, world.shares(), 1, 2, 3)
    assert [key.batch.counter for key in world.receiver._holding._late] == [2]


def test_a_repeated_right_share_repeats_the_confirm_through_its_hub() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 1, 2, 3, 2)
    bring(world, shares, 4, 4)
    assert confirms(world) == list(hubs(1, 2, 3, 2, 4, 4))
    assert blamed(world) == []


def test_a_repeated_share_repeats_the_confirm_when_the_polynomial_is_forgotten() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 1, 2, 3)
    world.advance(limits.LATE_SHARE_SECONDS)
    before = len(confirms(world))
    bring(world, shares, 2, 5)
    assert confirms(world)[before:] == list(hubs(2, 5))


# ── hubs that lie ───────────────────────────────────────────────────────────────────────────────
def test_a_hub_that_alters_its_share_is_named_and_the_keys_still_flow() -> None:
    world = Exchange()
    world.lies[hub_name(1)] = lambda honest: [flipped(honest)]
    world.establish()
    world.run()
    assert world.sent.sent[0].batch.keys == world.received.received[0].batch.keys
    assert blamed(world) == [(hub_name(1), Blame.WRONG_SHARE, True)]
    assert len(told(world, SearchNeeded)) == 1


def test_two_hubs_of_five_that_lie_stop_nothing() -> None:
    world = Exchange()
    world.lies[hub_name(1)] = lambda honest: [flipped(honest, 3)]
    world.lies[hub_name(2)] = lambda honest: [flipped(honest, 4)]
    world.establish()
    world.run()
    assert world.sent.sent[0].batch.keys == world.received.received[0].batch.keys
    assert [hub for hub, _, _ in blamed(world)] == list(hubs(1, 2))


def test_k_minus_1_hubs_that_shift_their_shares_together_change_no_key() -> None:
    """They add a chosen difference to the rebuilt secret: to the keys and to the tag's own key."""
    world = Exchange(5, 3)
    for number in (1, 2):
        world.lies[hub_name(number)] = lambda honest: [flipped(flipped(honest, 100), 5)]
    world.establish()
    world.run()
    assert world.sent.sent[0].batch.keys == world.received.received[0].batch.keys


def test_two_hubs_that_collude_around_the_secret_get_nobody_named_for_certain() -> None:
    """They add x * (x + 3), zero at zero and at the third hub: the keys are right, honest hubs look wrong."""
    world = Exchange(5, 3)
    for number in (1, 2):
        world.lies[hub_name(number)] = added_everywhere(gf256.multiply(number, number ^ 3))
    world.establish()
    world.run()
    assert world.sent.sent[0].batch.keys == world.received.received[0].batch.keys
    assert all(not certain for _, _, certain in blamed(world))


def test_the_first_share_of_a_hub_is_final_and_a_second_one_is_blamed() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, {hub_name(1): flipped(shares[hub_name(1)])}, 1)
    bring(world, shares, 1)
    assert blamed(world) == [(hub_name(1), Blame.TWO_SHARES, True)]
    bring(world, shares, 2, 3)
    assert not world.received.received  # with its first, wrong, share there are only two right ones
    bring(world, shares, 4)
    assert len(world.received.received) == 1


def test_the_same_share_twice_before_acceptance_is_harmless() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 1, 1, 2, 2)
    assert not world.received.received
    assert blamed(world) == []
    assert refusals(world) == []


def test_a_second_share_after_acceptance_is_blamed_or_refused() -> None:
    world = quiet()
    shares = world.shares()
    wrong = {hub: flipped(shared) for hub, shared in shares.items()}
    bring(world, shares, 1, 2, 3)
    bring(world, wrong, 4)
    bring(world, wrong, 1)  # right before
    bring(world, shares, 4)  # wrong before
    assert blamed(world) == [
        (hub_name(1), Blame.TWO_SHARES, True),
        (hub_name(4), Blame.TWO_SHARES, True),
    ]
    bring(world, wrong, 4)  # the same wrong one again, as far as Bob still knows
    assert refusals(world) == [(hub_name(4), Refusal.BATCH_REPEATED)]


def test_a_share_under_a_changed_tag_stands_alone_and_its_hub_is_named() -> None:
    world = quiet()
    shares = world.shares()
    shares[hub_name(1)] = replace(shares[hub_name(1)], tag=bytes(16))
    bring(world, shares, 1, 2, 3)
    assert not world.received.received
    bring(world, shares, 4)
    assert len(world.received.received) == 1
    assert blamed(world) == [(hub_name(1), Blame.OTHER_CONTEXT, True)]
    assert world.received.received[0].through == hubs(2, 3, 4)


def test_an_early_bogus_group_with_an_honest_batch_id_does_not_block_it() -> None:
    """The hub saw the batch id first and makes up the rest, with a longer lifetime that Bob allows."""
    world = Exchange()

    def lie(honest: Shared) -> Sequence[Shared]:
        return [replace(honest, context=replace(honest.context, lifetime=9999), share=bytes(144))]

    world.lies[hub_name(1)] = lie
    world.establish()
    world.run()
    assert world.sent.sent[0].batch.keys == world.received.received[0].batch.keys
    assert world.received.received[0].batch.context.lifetime == 3600
    assert blamed(world) == [(hub_name(1), Blame.OTHER_CONTEXT, True)]


def test_a_hub_that_exhausts_its_caps_leaves_the_others_working(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_GROUPS_PER_HUB", 3)
    world = Exchange()
    bogus = world.shares()[hub_name(1)]
    for counter in range(100, 105):
        world.bring(hub_name(1), replace(bogus, batch=BatchId(world.incarnation, counter)))
        world.run()
    assert refusals(world) == [(hub_name(1), Refusal.BUSY)] * 2
    world.establish()
    world.run()
    assert len(world.received.received) == 1
    assert world.sent.sent[0].batch.keys == world.received.received[0].batch.keys


# ── what is refused ─────────────────────────────────────────────────────────────────────────────
def refused(world: Exchange, shared: Shared, hub: int = 1) -> int:
    """The one refusal that a share is answered with; nothing is kept of it."""
    world.bring(hub_name(hub), shared)
    world.run()
    ((answered, refusal),) = refusals(world)
    (notice,) = told(world, ShareRefused)
    assert answered == notice.hub == hub_name(hub)
    assert (notice.sender, notice.batch, notice.refusal) == (shared.sender, shared.batch, refusal)
    assert not list(world.receiver._gathering)
    return refusal


@pytest.mark.parametrize(
    "change",
    [{"threshold": 2}, {"threshold": 4}, {"epoch": 2}, {"hubs": (1, 2, 3, 4, 9)}, {"hubs": (2, 3, 4, 5)}],
    ids=["lower k", "higher k", "another epoch", "an unknown hub", "without the hub that brings it"],
)
def test_a_context_that_disagrees_is_refused_whatever_the_message_says(change: dict[str, object]) -> None:
    world = Exchange()
    shared = world.shares()[hub_name(1)]
    shared = replace(shared, context=replace(shared.context, **change))  # type: ignore[arg-type]  # one field
    assert refused(world, shared) == Refusal.CONTEXT_DISAGREES


def test_k_minus_1_hubs_that_claim_a_lower_threshold_are_refused() -> None:
    """Two colluding hubs of a (5,3) realm make a batch of their own with k = 2."""
    world = Exchange()
    real = world.shares()[hub_name(1)]
    compact = replace(real.context, threshold=2, hubs=(Coordinate(1), Coordinate(2)))
    secret = bytes(range(144))
    forged = dict(zip((1, 2), sharing.split(secret, 2, [1, 2], bytes(144)), strict=True))
    for number, share in forged.items():
        world.bring(hub_name(number), replace(real, context=compact, share=share))
    world.run()
    assert refusals(world) == [(hub, Refusal.CONTEXT_DISAGREES) for hub in hubs(1, 2)]
    assert not world.received.changes


def test_a_hub_that_the_realm_does_not_have_is_refused() -> None:
    world = Exchange()
    assert refused(world, world.shares()[hub_name(1)], hub=7) == Refusal.NOT_AUTHORISED


def test_a_revoked_hub_is_refused_in_either_epoch() -> None:
    world = Exchange()
    shares = world.shares()
    newer = make_realm(5, 3, epoch=2, revoked=(1,))
    world.tell(BOB, RealmsChanged(Realms(newer, world.realms.current)))
    assert refused(world, shares[hub_name(1)]) == Refusal.NOT_AUTHORISED
    bring(world, shares, 2, 3, 4)
    assert len(world.received.received) == 1  # the batch itself names the older epoch, and counts


def test_a_batch_in_the_own_name_is_refused() -> None:
    """A hub reflects Bob's own batch."""
    world = Exchange()
    shared = replace(world.shares()[hub_name(1)], sender=BOB)
    assert refused(world, shared) == Refusal.NOT_AUTHORISED


def test_a_sender_that_policy_does_not_know_is_refused() -> None:
    world = Exchange()
    world.bobs.allowed = False
    assert refused(world, world.shares()[hub_name(1)]) == Refusal.NOT_AUTHORISED


def test_a_realm_below_the_own_floor_is_refused() -> None:
    world = Exchange(5, 3)
    world.bobs.floor = 4
    assert refused(world, world.shares()[hub_name(1)]) == Refusal.CONTEXT_DISAGREES


def test_hubs_of_too_few_parties_are_refused_and_the_sender_learns_no_reason() -> None:
    world = Exchange(5, 3, operators="aaabc")
    world.bobs.independence = Floor(2)
    assert refused(world, world.shares()[hub_name(1)]) == Refusal.NOT_AUTHORISED
    world = Exchange(5, 3, operators="abcde")
    world.bobs.independence = Floor(2, frozenset({Attribute.HOSTING}))
    assert refused(world, world.shares()[hub_name(1)]) == Refusal.NOT_AUTHORISED


def test_the_hubs_of_the_batch_count_and_no_others() -> None:
    world = Exchange(5, 3, operators="aaabc")
    world.bobs.independence = Floor(3)
    world.cut(hub_name(1), hub_name(2))
    world.establish()
    world.run()
    assert world.received.received


def test_without_a_realm_in_force_everything_is_refused() -> None:
    world = Exchange()
    shared = world.shares()[hub_name(1)]
    world.tell(BOB, RealmsChanged(None))
    assert refused(world, shared) == Refusal.CONTEXT_DISAGREES


def test_a_sender_for_whose_keys_there_is_no_room_is_refused() -> None:
    world = Exchange()
    world.bobs.room = False
    assert refused(world, world.shares()[hub_name(1)]) == Refusal.RECEIVER_FULL


def test_batches_without_answers_fill_the_receiver_but_for_control(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNANSWERED_BATCHES_PER_SENDER", 2)
    monkeypatch.setattr(limits, "UNANSWERED_CONTROL_BATCHES", 1)
    world = quiet()
    for _ in range(3):
        world.establish()
        world.run()
    assert len(world.received.received) == 2
    assert {refusal for _, refusal in refusals(world)} == {Refusal.RECEIVER_FULL}
    for _ in range(2):
        world.establish(keys=1, key_bytes=64, purpose=Purpose.CONTROL)
        world.run()
    assert [received.batch.context.purpose for received in world.received.received] == [
        Purpose.TRAFFIC,
        Purpose.TRAFFIC,
        Purpose.CONTROL,
    ]
    first = world.received.received[0].batch.batch
    world.tell(BOB, Answered(ALICE, first, ok=True))
    world.tell(BOB, Answered(ALICE, world.received.received[1].batch.batch, ok=True))
    world.establish()
    world.run()
    assert len(world.received.received) == 4


def test_more_tombstones_than_there_is_memory_for_fill_the_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TOMBSTONES_PER_SENDER", 1)
    world = Exchange()
    world.establish()
    world.run()
    world.establish()
    world.run()
    assert len(world.received.received) == 1
    assert {refusal for _, refusal in refusals(world)} == {Refusal.RECEIVER_FULL}


# ── time of groups ──────────────────────────────────────────────────────────────────────────────
def test_a_group_without_enough_shares_expires_and_nothing_is_accepted() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 1, 2)
    assert world.receiver.next_deadline == world.now + limits.GROUP_SECONDS
    world.advance(limits.GROUP_SECONDS)
    (notice,) = told(world, GroupExpired)
    assert notice == GroupExpired(ALICE, shares[hub_name(1)].batch, hubs(1, 2))
    assert not world.received.changes
    assert world.receiver.next_deadline is None


def test_shares_before_and_after_a_groups_deadline_do_not_add_up() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 1, 2)
    world.advance(limits.GROUP_SECONDS)
    bring(world, shares, 3)
    assert not world.received.changes


# ── searching ───────────────────────────────────────────────────────────────────────────────────
def searching() -> tuple[Exchange, dict[HubName, Shared]]:
    """Four shares are in, the first is wrong, and the search over them has not come back."""
    world = quiet()
    world.searching = False
    shares = world.shares()
    shares[hub_name(1)] = flipped(shares[hub_name(1)])
    bring(world, shares, 1, 2, 3, 4)
    assert len(world.searches) == 1
    assert not world.received.changes
    return world, shares


def test_more_than_one_interpolation_is_asked_of_the_shell() -> None:
    world, _ = searching()
    assert world.searches[0].search.newest == {4}
    world.finish_search()
    world.run()
    assert world.received.received[0].through == hubs(1, 2, 3, 4)


def test_a_share_that_comes_during_a_search_waits_for_it_and_is_judged() -> None:
    world, shares = searching()
    bring(world, {hub_name(5): flipped(shares[hub_name(5)], 7)}, 5)
    assert len(world.searches) == 1
    world.finish_search()
    world.run()
    assert world.received.received[0].through == hubs(1, 2, 3, 4, 5)
    assert blamed(world) == [
        (hub_name(1), Blame.WRONG_SHARE, False),
        (hub_name(5), Blame.WRONG_SHARE, False),
    ]


def test_a_search_that_finds_nothing_is_followed_by_one_with_what_came_meanwhile() -> None:
    world = quiet()
    world.searching = False
    shares = world.shares()
    for number in (1, 2):
        shares[hub_name(number)] = flipped(shares[hub_name(number)], number)
    bring(world, shares, 1, 2, 3, 4, 5)
    world.finish_search()
    world.run()
    assert not world.received.changes
    assert world.searches[0].search.newest == {5}
    world.finish_search()
    world.run()
    assert len(world.received.received) == 1


def test_an_outcome_that_comes_after_the_groups_deadline_changes_nothing() -> None:
    world, _ = searching()
    world.advance(limits.GROUP_SECONDS)
    secret = Secret(bytes(144))
    world.tell(BOB, Searched(world.searches[0].number, Found(secret, frozenset())))
    assert secret.wiped
    assert not world.received.changes


def test_an_empty_outcome_after_the_groups_deadline_changes_nothing() -> None:
    world, _ = searching()
    world.advance(limits.GROUP_SECONDS)
    world.tell(BOB, Searched(world.searches[0].number, NothingYet()))
    assert not world.received.changes


def test_an_outcome_that_nobody_asked_for_is_a_bug() -> None:
    world = Exchange()
    with pytest.raises(LocalBug) as caught:
        world.tell(BOB, Searched(1, NothingYet()))
    assert caught.value.code is codes.BAD_ARGUMENT


# ── two candidates ──────────────────────────────────────────────────────────────────────────────
def second_candidate(world: Exchange, shares: dict[HubName, Shared]) -> dict[HubName, bytes]:
    """What k colluding hubs can do: rebuild, change a key, and repair d so that T stays."""
    first = next(iter(shares.values()))
    threshold = first.context.threshold
    numbers = dict(zip(shares, first.context.hubs, strict=True))
    some = dict(list(shares.items())[:threshold])
    secret = bytearray(sharing.interpolate({int(numbers[hub]): one.share for hub, one in some.items()}))
    context = establishment.expand(
        first.context, world.realms.current, sender=ALICE, receiver=BOB, batch=first.batch
    ).to_bytes()
    secret[-1] ^= 1
    wrong = SharedSecret(Secret(bytes(secret))).tag(context)
    secret[16:32] = bytes(a ^ b ^ c for a, b, c in zip(secret[16:32], wrong, first.tag, strict=True))
    coefficients = bytes(len(secret)) * (threshold - 1)
    forged = sharing.split(bytes(secret), threshold, list(numbers.values()), coefficients)
    return dict(zip(shares, forged, strict=True))


def test_two_candidates_in_one_group_are_both_refused_with_an_alarm() -> None:
    world = quiet(5, 2)
    world.searching = False
    shares = world.shares()
    forged = second_candidate(world, shares)
    brought = {
        hub: replace(shared, share=forged[hub]) if hub in hubs(3, 5) else shared
        for hub, shared in shares.items()
    }
    brought[hub_name(1)] = flipped(brought[hub_name(1)])
    bring(world, brought, 1, 2, 3)  # a wrong one, and one of each secret: nothing verifies
    bring(world, brought, 4, 5)
    world.finish_search()
    world.run()
    assert told(world, TwoCandidates) == []
    world.finish_search()
    world.run()
    batch = shares[hub_name(1)].batch
    assert told(world, TwoCandidates) == [TwoCandidates(ALICE, batch, accepted=False)]
    assert not world.received.changes
    bring(world, shares, 2)
    assert refusals(world) == [(hub_name(2), Refusal.BATCH_REPEATED)]


def test_a_second_candidate_in_another_group_after_acceptance_is_an_alarm_only() -> None:
    """Two colluding hubs of four, k = 2, make a whole batch of their own under the same id."""
    world = quiet(4, 2)
    shares = world.shares()
    longer = {
        hub: replace(shared, context=replace(shared.context, lifetime=7200), tag=bytes(16))
        for hub, shared in shares.items()
    }
    forged = second_candidate(world, longer)
    bring(world, shares, 1, 2)
    for number in (3, 4):
        lie = replace(longer[hub_name(number)], share=forged[hub_name(number)])
        bring(world, {hub_name(number): lie}, number)
    batch = shares[hub_name(1)].batch
    assert told(world, TwoCandidates) == [TwoCandidates(ALICE, batch, accepted=True)]
    assert len(world.received.received) == 1
    assert [(hub, blame) for hub, blame, _ in blamed(world)] == [
        (hub_name(3), Blame.OTHER_CONTEXT),
        (hub_name(4), Blame.OTHER_CONTEXT),
    ]


def test_a_second_candidate_found_by_a_search_after_acceptance_is_an_alarm_only() -> None:
    world = quiet(6, 2)
    world.searching = False
    shares = world.shares()
    other = {hub: replace(shared, tag=b"t" * 16) for hub, shared in shares.items()}
    for number in (1, 2, 3):
        bring(world, {hub_name(number): flipped(other[hub_name(number)], number)}, number)
    bring(world, shares, 4, 5)
    assert len(world.received.received) == 1
    needed = world.searches.pop()
    secret = Secret(bytes(144))
    world.tell(BOB, Searched(needed.number, Found(secret, frozenset())))
    assert secret.wiped
    batch = shares[hub_name(1)].batch
    assert told(world, TwoCandidates) == [TwoCandidates(ALICE, batch, accepted=True)]
    assert len(world.received.received) == 1


# ── confirming ──────────────────────────────────────────────────────────────────────────────────
def test_a_confirm_is_repeated_with_longer_waits_until_it_is_answered() -> None:
    world = quiet(3, 3)
    world.establish()
    world.run()
    moments: list[float] = []
    start = world.now
    while world.now < start + 200:
        before = len(confirms(world))
        world.advance(0.5)
        if len(confirms(world)) > before:
            moments.append(world.now - start)
    assert moments == [1, 3, 7, 15, 31, 63, 123, 183]
    assert len(set(confirms(world))) == 3
    (received,) = world.received.received
    assert {message.confirmation for _, message in world.carried if isinstance(message, Confirm)} == {
        received.confirmation
    }
    world.tell(BOB, Answered(ALICE, received.batch.batch, ok=True))
    before = len(confirms(world))
    world.advance(200)
    assert len(confirms(world)) == before


def test_a_hub_that_comes_up_gets_the_confirms_that_wait_at_once() -> None:
    world = quiet(3, 3)
    world.establish()
    world.run()
    world.cut(*hubs(2), only=BOB)
    before = len(confirms(world))
    world.advance(1)
    assert confirms(world)[before:] == list(hubs(1, 3))
    world.link(*hubs(2), only=BOB)
    assert confirms(world)[before:] == list(hubs(1, 3, 2))


def test_a_hub_that_brought_no_share_is_no_way_for_the_confirm() -> None:
    world = quiet()
    bring(world, world.shares(), 1, 2, 3)
    world.link(*hubs(5), only=BOB)
    assert confirms(world) == list(hubs(1, 2, 3))


def test_a_hub_that_relays_a_confirm_no_more_is_left_alone() -> None:
    world = quiet(3, 3)
    world.establish()
    world.run()
    batch = world.received.received[0].batch.batch
    before = len(confirms(world))
    world.tell(BOB, AnsweredByHub(hub_name(1), ConfirmToken(ALICE, batch), Refusal.RECEIVER_ABSENT))
    world.tell(BOB, AnsweredByHub(hub_name(2), ConfirmToken(ALICE, batch), Refusal.BATCH_UNKNOWN))
    world.advance(1)
    assert confirms(world)[before:] == list(hubs(1, 3))
    for hub in hubs(1, 3):
        world.tell(BOB, AnsweredByHub(hub, ConfirmToken(ALICE, batch), Refusal.BATCH_UNKNOWN))
    assert world.receiver.next_deadline == world.now - 1 + KEPT_SECONDS


def test_a_way_that_was_closed_opens_when_its_hub_brings_the_share_again() -> None:
    world = quiet(3, 3)
    shares = world.shares()
    bring(world, shares, 1, 2, 3)
    batch = world.received.received[0].batch.batch
    for hub in hubs(1, 2, 3):
        world.tell(BOB, AnsweredByHub(hub, ConfirmToken(ALICE, batch), Refusal.BATCH_UNKNOWN))
    before = len(confirms(world))
    bring(world, shares, 2)
    assert confirms(world)[before:] == list(hubs(2))
    world.advance(100)
    assert set(confirms(world)[before:]) == set(hubs(2))
    assert len(confirms(world)[before:]) > 2


def test_a_refused_confirm_of_a_batch_that_was_answered_changes_nothing() -> None:
    world = Exchange()
    world.establish()
    world.run()
    batch = world.received.received[0].batch.batch
    token = ConfirmToken(ALICE, batch)
    effects = world.receiver.handle(AnsweredByHub(hub_name(1), token, Refusal.BATCH_UNKNOWN), world.now)
    assert effects.empty


# ── answers ─────────────────────────────────────────────────────────────────────────────────────
def accepted() -> tuple[Exchange, BatchId]:
    world = quiet()
    world.establish()
    world.run()
    world.told_bob.clear()
    return world, world.received.received[0].batch.batch


@pytest.mark.parametrize("ok", [True, False])
def test_the_first_answer_is_durable_and_its_repetition_harmless(*, ok: bool) -> None:
    world, batch = accepted()
    world.tell(BOB, Answered(ALICE, batch, ok))
    assert world.received.changes[1:] == [BatchAnswered(ALICE, batch, ok)]
    assert told(world, BatchSettled) == [BatchSettled(ALICE, batch, ok)]
    world.tell(BOB, Answered(ALICE, batch, ok))
    assert len(world.received.changes) == 2
    assert len(world.told_bob) == 1


@pytest.mark.parametrize("ok", [True, False])
def test_an_answer_that_contradicts_the_first_is_refused(*, ok: bool) -> None:
    world, batch = accepted()
    world.tell(BOB, Answered(ALICE, batch, ok))
    world.tell(BOB, Answered(ALICE, batch, not ok))
    assert len(world.received.changes) == 2
    assert told(world, AnswerRefused) == [AnswerRefused(ALICE, batch, not ok)]


def test_an_answer_for_a_batch_that_is_not_held_changes_nothing() -> None:
    world, batch = accepted()
    world.tell(BOB, Answered(KmeName("carol"), batch, ok=False))
    assert len(world.received.changes) == 1
    assert world.told_bob == []


# ── expiry and tombstones ───────────────────────────────────────────────────────────────────────
def test_a_batch_is_dropped_when_lifetime_and_margin_are_over() -> None:
    world, batch = accepted()
    world.tell(BOB, Answered(ALICE, batch, ok=True))
    world.advance(KEPT_SECONDS - 1)
    assert not told(world, BatchExpired)
    world.advance(1)
    assert world.received.changes[2:] == [
        BatchDropped(Role.RECEIVER, ALICE, batch),
        TombstonesDropped(ALICE, batch.incarnation, batch.counter),
    ]
    assert told(world, BatchExpired) == [BatchExpired(ALICE, batch)]
    assert world.receiver.next_deadline is None


def test_a_batch_that_is_never_answered_is_dropped_too_and_no_longer_confirmed() -> None:
    world, batch = accepted()
    world.advance(KEPT_SECONDS + limits.CONFIRM_RESEND_SECONDS_MAX)
    assert BatchDropped(Role.RECEIVER, ALICE, batch) in world.received.changes
    before = len(confirms(world))
    world.advance(200)
    world.link(*hubs(1), only=BOB)
    assert len(confirms(world)) == before


def test_time_that_passes_at_once_drops_a_batch_and_repeats_nothing_of_it() -> None:
    world, _ = accepted()
    world.now += 10 * KEPT_SECONDS
    before = len(confirms(world))
    world.tell(BOB, Tick())
    assert len(told(world, BatchExpired)) == 1
    assert len(confirms(world)) == before
    assert world.receiver.next_deadline is None


def test_a_voided_batch_has_nothing_left_to_erase_when_its_time_is_over() -> None:
    world, batch = accepted()
    world.tell(BOB, Answered(ALICE, batch, ok=False))
    world.advance(KEPT_SECONDS)
    assert world.received.changes[2:] == [TombstonesDropped(ALICE, batch.incarnation, batch.counter)]


def test_a_batch_is_not_accepted_twice_while_its_tombstone_stands() -> None:
    world = Exchange()
    shares = world.shares()
    bring(world, shares, 1, 2, 3, 4, 5)
    world.run()
    (received,) = world.received.received
    world.tell(BOB, Answered(ALICE, received.batch.batch, ok=True))
    world.advance(limits.LATE_SHARE_SECONDS)
    bring(world, shares, 1, 2, 3)
    assert len(world.received.received) == 1
    assert refusals(world) == [(hub, Refusal.BATCH_REPEATED) for hub in hubs(1, 2, 3)]


def test_a_voided_batch_is_not_accepted_again() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 1, 2, 3, 4, 5)
    world.tell(BOB, Answered(ALICE, shares[hub_name(1)].batch, ok=False))
    bring(world, shares, 1, 2, 3)
    assert len(world.received.received) == 1
    assert len(refusals(world)) == 3


def test_lower_counters_are_refused_after_the_tombstones_are_dropped() -> None:
    world = quiet()
    early, shares = world.shares(), world.shares()
    bring(world, shares, 1, 2, 3)
    world.advance(KEPT_SECONDS)
    bring(world, early, 1, 2, 3)
    bring(world, shares, 1, 2, 3)
    assert len(world.received.received) == 1
    assert {refusal for _, refusal in refusals(world)} == {Refusal.BATCH_REPEATED}
    world.start_bob()
    world.link(*hubs(1, 2, 3, 4, 5), only=BOB)
    bring(world, early, 1, 2, 3)
    assert len(world.received.received) == 1


# ── restart ─────────────────────────────────────────────────────────────────────────────────────
def test_a_restarted_receiver_confirms_again_and_refuses_repeats() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 1, 2, 3)
    (received,) = world.received.received
    world.cut(*hubs(1, 2, 3, 4, 5), only=BOB)
    world.start_bob()
    before = len(confirms(world))
    world.link(*hubs(2, 4), only=BOB)
    assert confirms(world)[before:] == list(hubs(2))
    world.advance(1)
    assert confirms(world)[before:] == list(hubs(2, 2))
    assert world.carried[-1] == (hub_name(2), Confirm(ALICE, received.confirmation))
    bring(world, shares, 1)  # its link is not up, so nothing can go through it yet
    bring(world, shares, 4)
    assert confirms(world)[before:] == list(hubs(2, 2, 4))
    world.tell(BOB, Answered(ALICE, received.batch.batch, ok=True))
    bring(world, shares, 4)
    assert refusals(world) == [(hub_name(4), Refusal.BATCH_REPEATED)]
    assert len(world.received.received) == 1


def test_a_restarted_receiver_confirms_nothing_that_was_answered() -> None:
    world = Exchange()
    for _ in range(3):
        world.establish()
        world.run()
    world.start_bob()
    before = len(confirms(world))
    world.link(*hubs(1, 2, 3, 4, 5), only=BOB)
    world.advance(100)
    assert len(confirms(world)) == before


def test_a_batch_whose_time_ended_while_the_receiver_was_down_is_dropped_at_the_first_tick() -> None:
    world, batch = accepted()
    world.start_bob()
    world.now += KEPT_SECONDS + 1
    world.tell(BOB, Tick())
    assert world.received.changes[1:] == [
        BatchDropped(Role.RECEIVER, ALICE, batch),
        TombstonesDropped(ALICE, batch.incarnation, batch.counter),
    ]


def test_a_restarted_sender_gets_its_batches_accepted_and_old_marks_go() -> None:
    world = Exchange()
    world.establish()
    world.run()
    first = world.incarnation
    world.advance(KEPT_SECONDS)
    world.start_alice()
    world.link(*hubs(1, 2, 3, 4, 5), only=ALICE)
    world.establish()
    world.run()
    assert len(world.received.received) == 2
    assert TombstonesDropped(ALICE, first, None) in world.received.changes


# ── realms ──────────────────────────────────────────────────────────────────────────────────────
def test_batches_of_both_epochs_are_accepted_in_the_overlap_and_of_no_third() -> None:
    world = Exchange()
    older = world.realms.current
    newer = make_realm(5, 2, epoch=2)
    shares = world.shares()
    world.tell(BOB, RealmsChanged(Realms(newer, older)))
    bring(world, shares, 1, 2, 3)
    world.tell(ALICE, RealmsChanged(Realms(newer)))
    world.establish()
    world.run()
    assert [received.batch.context.threshold for received in world.received.received] == [3, 2]
    assert [received.confirmation.epoch for received in world.received.received] == [2, 2]


def test_shares_of_an_epoch_that_ended_are_dropped() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 1, 2)
    world.tell(BOB, RealmsChanged(Realms(make_realm(5, 3, epoch=2))))
    assert told(world, GroupExpired) == [GroupExpired(ALICE, shares[hub_name(1)].batch, hubs(1, 2))]
    assert not list(world.receiver._gathering)


def test_shares_that_wait_are_dropped_with_the_last_realm() -> None:
    world = quiet()
    bring(world, world.shares(), 1, 2)
    world.tell(BOB, RealmsChanged(None))
    assert len(told(world, GroupExpired)) == 1
    assert world.receiver.next_deadline is None


def test_a_waiting_share_of_a_hub_that_is_revoked_counts_no_more() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 1, 2)
    newer = make_realm(5, 3, epoch=2, revoked=(1,))
    world.tell(BOB, RealmsChanged(Realms(newer, world.realms.current)))
    bring(world, shares, 3)
    assert not world.received.changes
    bring(world, shares, 4)
    assert world.received.received[0].through == hubs(2, 3, 4)


def test_a_search_that_used_a_revoked_hubs_share_is_made_again_without_it() -> None:
    world, _ = searching()
    newer = make_realm(5, 3, epoch=2, revoked=(1,))
    world.tell(BOB, RealmsChanged(Realms(newer, world.realms.current)))
    assert world.received.received[0].through == hubs(2, 3, 4)  # three right ones: found at once
    world.finish_search()
    world.run()
    assert len(world.received.received) == 1


# ── tables ──────────────────────────────────────────────────────────────────────────────────────
def test_every_state_of_the_tables_can_be_reached() -> None:
    assert {GroupState.AWAITING_SHARES, *GROUP_TABLE.values()} == set(GroupState)
    assert {HeldState.AWAITING_ANSWER, *HELD_TABLE.values()} == set(HeldState)


def test_a_receiver_keeps_keys_longer_than_any_hold_of_the_sender() -> None:
    """What is assigned just before its lifetime ends is still held while the sender may deliver it."""
    holds = limits.ASSIGN_HOLD_SECONDS + limits.ASSIGN_HOLD_MARGIN_SECONDS
    assert holds <= limits.LIFETIME_MARGIN_SECONDS


def test_no_incarnation_is_mistaken_for_another_by_its_counter() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 1, 2, 3)
    other = {
        hub: replace(shared, batch=BatchId(Incarnation(bytes(16)), shared.batch.counter))
        for hub, shared in shares.items()
    }
    bring(world, other, 1)
    assert refusals(world) == []  # another batch: it waits in a group of its own
    assert len(list(world.receiver._gathering)) == 1


# ── senders without measure ─────────────────────────────────────────────────────────────────────
def spoilt_batch(world: Exchange) -> dict[HubName, Shared]:
    """Shares of a batch of which none fits the others."""
    return {hub: flipped(shared, 80 + number) for number, (hub, shared) in enumerate(world.shares().items())}


def test_searches_for_batches_that_never_fit_take_turns_and_a_good_batch_needs_none() -> None:
    world = Exchange(5, 3)
    world.searching = False
    for _ in range(3 * limits.SEARCHES_PER_SENDER):
        for hub, shared in spoilt_batch(world).items():
            world.bring(hub, shared)
        world.run()
    assert len(world.searches) == limits.SEARCHES_PER_SENDER
    world.establish()
    world.run()
    assert len(told(world, BatchAccepted)) == 1
    done = 0
    while world.searches:
        assert len(world.searches) <= limits.SEARCHES_PER_SENDER
        world.finish_search()
        world.run()
        done += 1
    assert done >= 3 * limits.SEARCHES_PER_SENDER  # each got its turn


def test_groups_that_went_while_they_waited_for_their_turn_are_passed_over() -> None:
    world = Exchange(5, 3)
    world.searching = False
    for _ in range(2 * limits.SEARCHES_PER_SENDER):
        for hub, shared in spoilt_batch(world).items():
            world.bring(hub, shared)
        world.run()
    world.advance(limits.GROUP_SECONDS + 1)
    while world.searches:
        world.finish_search()
        world.run()
    assert not told(world, BatchAccepted)
    for hub, shared in spoilt_batch(world).items():
        world.bring(hub, shared)
    world.run()
    assert len(world.searches) == 1  # nobody is in the way any more


# ── what became of each share ───────────────────────────────────────────────────────────────────
def digest_of(share: bytes) -> bytes:
    return hashlib.sha512(b"skex1 evidence share" + share).digest()


def test_hubs_are_told_apart_by_when_their_share_came_and_whether_it_did() -> None:
    world = quiet()
    shares = world.shares()
    world.cut(hub_name(5), only=BOB)
    bring(world, shares, 1, 2, 3)
    bring(world, shares, 2)  # again: it is counted once
    assert told(world, SharesRight) == []
    world.advance(limits.LATE_SHARE_SECONDS)
    batch = shares[hub_name(1)].batch
    assert told(world, ShareMissing) == [
        ShareMissing(hub_name(4), ALICE, batch, connected=True),
        ShareMissing(hub_name(5), ALICE, batch, connected=False),
    ]
    assert told(world, SharesRight) == [SharesRight(hubs(1, 2, 3), ALICE, batch)]


def test_hub_whose_link_was_down_meanwhile_was_not_connected() -> None:
    world = quiet()
    bring(world, world.shares(), 1, 2, 3, 4)
    world.advance(1)
    world.cut(hub_name(5))
    world.link(hub_name(5))
    world.advance(limits.LATE_SHARE_SECONDS)
    assert [one.connected for one in told(world, ShareMissing)] == [False]


def test_late_shares_are_not_in_time_and_end_the_waiting() -> None:
    world = quiet()
    shares = world.shares()
    bring(world, shares, 1, 2, 3)
    bring(world, shares, 4)
    bring(world, {hub: flipped(shared) for hub, shared in shares.items()}, 5)
    assert [one.hubs for one in told(world, SharesRight)] == [hubs(1, 2, 3)]
    assert [one.hub for one in told(world, ShareCounted)] == [hub_name(4)]
    world.advance(limits.LATE_SHARE_SECONDS)
    assert told(world, ShareMissing) == []


def test_polynomial_that_is_forgotten_early_for_want_of_room_leaves_nobody_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "LATE_SHARE_BYTES", 1)
    world = quiet()
    bring(world, world.shares(), 1, 2, 3)
    world.advance(limits.LATE_SHARE_SECONDS)
    assert told(world, ShareMissing) == []
    assert len(told(world, SharesRight)) == 1


def test_blame_carries_digests_of_what_came_and_of_what_should_have_come() -> None:
    world = computational()
    shares = world.shares()
    wrong = {hub: flipped(shared) for hub, shared in shares.items()}
    shares_and_wrong = {**shares, hub_name(2): wrong[hub_name(2)]}
    bring(world, shares_and_wrong, 1, 2, 3, 4)
    bring(world, wrong, 5)
    named = {one.hub: one.evidence for one in told(world, HubBlamed)}
    assert set(named) == set(hubs(2, 5))
    for hub, shown in named.items():
        assert shown.share == digest_of(wrong[hub].share)
        assert shown.expected == digest_of(shares[hub].share)
        assert shown.context is shown.tag is None


def test_two_shares_are_shown_by_the_digests_of_both() -> None:
    world = computational()
    shares = world.shares()
    wrong = {hub: flipped(shared) for hub, shared in shares.items()}
    bring(world, shares, 1)
    bring(world, wrong, 1)
    bring(world, shares, 2, 3)
    bring(world, wrong, 3)
    first, second = told(world, HubBlamed)
    for blame in (first, second):
        assert blame.blame is Blame.TWO_SHARES
        assert blame.evidence.share == digest_of(wrong[blame.hub].share)
        assert blame.evidence.expected == digest_of(shares[blame.hub].share)


def test_other_context_and_other_tag_are_shown_by_what_differs() -> None:
    world = computational()
    shares = world.shares()
    honest = shares[hub_name(1)]
    other = replace(honest, context=replace(honest.context, lifetime=7))
    bring(world, {**shares, hub_name(1): other}, 1, 2, 3, 4)
    bring(world, {hub_name(5): replace(shares[hub_name(5)], tag=bytes(16))}, 5)
    context, tag = (one.evidence for one in told(world, HubBlamed))
    accepted = world.received.received[0].batch
    expanded = establishment.expand(
        accepted.context, world.realms.current, sender=ALICE, receiver=BOB, batch=accepted.batch
    )
    assert context.accepted_context == expanded.digest() != context.context
    assert context.tag is context.share is tag.context is tag.share is None
    assert tag.tag == hashlib.sha512(b"skex1 evidence tag" + bytes(16)).digest()
    assert tag.accepted_tag == hashlib.sha512(b"skex1 evidence tag" + honest.tag).digest()


def test_nothing_that_follows_from_shares_is_shown_of_an_information_theoretic_batch() -> None:
    """A digest would tell whoever computes without bound something of its keys."""
    world = quiet()
    shares = world.shares()
    bring(world, {hub: flipped(shared) for hub, shared in shares.items()}, 1)
    bring(world, shares, 1, 2, 3, 4)
    bring(world, {hub: flipped(shared) for hub, shared in shares.items()}, 5)
    assert {one.evidence for one in told(world, HubBlamed)} == {Evidence()}
    assert [one.blame for one in told(world, HubBlamed)] == [
        Blame.TWO_SHARES,
        Blame.WRONG_SHARE,
        Blame.WRONG_SHARE,
    ]


def computational() -> Exchange:
    """A world in which every link of Bob's is derived, and Alice answers nothing."""
    world = quiet()
    world.bobs.computational = tuple(Coordinate(number) for number in range(1, 6))
    return world


# ── hubs on the bench ───────────────────────────────────────────────────────────────────────────
def with_standing(world: Exchange, standings: dict[HubName, Standing]) -> Exchange:
    world.receiver._standing = lambda hub, _: standings.get(hub, Standing.PLAYS)
    return world


def test_share_of_a_hub_that_an_operator_took_out_is_refused() -> None:
    world = with_standing(quiet(), {hub_name(1): Standing.OUT})
    bring(world, world.shares(), 1, 2, 3)
    assert refusals(world) == [(hub_name(1), Refusal.NOT_AUTHORISED)]
    assert not world.received.received


def test_share_of_a_benched_hub_is_not_tried_where_the_others_suffice() -> None:
    world = with_standing(quiet(), {hub_name(1): Standing.LAST})
    world.searching = False
    shares = world.shares()
    lie = flipped(shares[hub_name(1)])
    bring(world, {**shares, hub_name(1): lie}, 2, 1, 3, 4)
    assert len(world.received.received) == 1
    assert world.searches == []  # one interpolation of the three others, as if it had brought nothing
    assert blamed(world) == []
    bring(world, shares, 5)
    assert blamed(world) == [(hub_name(1), Blame.WRONG_SHARE, True)]


def test_share_of_a_benched_hub_is_tried_where_the_others_are_too_few() -> None:
    world = with_standing(quiet(), {hub_name(1): Standing.LAST, hub_name(2): Standing.LAST})
    bring(world, world.shares(), 1, 2, 3)
    assert len(world.received.received) == 1


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (2, 3, 4, 1), (4, 1, 3, 2)])
def test_share_of_a_benched_hub_is_tried_where_one_of_the_others_lies(order: tuple[int, ...]) -> None:
    world = with_standing(quiet(4, 3), {hub_name(1): Standing.LAST})
    shares = world.shares()
    bring(world, {**shares, hub_name(2): flipped(shares[hub_name(2)])}, *order)
    (received,) = world.received.received
    assert set(hubs(1, 3, 4)) <= set(received.through)
    assert [hub for hub, _, _ in blamed(world)] == [hub_name(2)]
