from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import pytest

from simulation.exchange import ALICE, BOB, Exchange, hub_name, make_realm
from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import BatchId, Coordinate, HubName, Incarnation, KmeName
from skex.base.secret import Secret
from skex.crypto import sharing
from skex.protocol import establishment
from skex.protocol.changes import BatchSent, Role, RootKept
from skex.protocol.establishment import Realms, RealmsChanged, RootMade, SharedSecret
from skex.protocol.sender import (
    BATCH_TABLE,
    SHARE_TABLE,
    AnswerBatch,
    BatchState,
    ConfirmDropped,
    Doubt,
    Establish,
    Established,
    NotEstablished,
    ShareState,
    ShareToken,
)
from skex.protocol.standing import Standing
from skex.protocol.states import mermaid
from skex.protocol.traffic import AnsweredByHub, FromHub, Tick
from skex.wire.context import Purpose
from skex.wire.independence import Floor
from skex.wire.messages import Confirm, Confirmed, GetRealm, Refusal, Share

T = TypeVar("T")


def hubs(*numbers: int) -> tuple[HubName, ...]:
    return tuple(hub_name(number) for number in numbers)


def told(world: Exchange, kind: type[T]) -> list[T]:
    return [notice for notice in world.told_alice if isinstance(notice, kind)]


def shares_sent(world: Exchange) -> list[tuple[HubName, Share]]:
    return [(hub, message) for hub, message in world.carried if isinstance(message, Share)]


def the_confirm(world: Exchange) -> Confirmed:
    """The CONFIRM that Bob sent, as a hub passes it on."""
    confirm = next(message for _, message in world.carried if isinstance(message, Confirm))
    return Confirmed(BOB, confirm.confirmation)


def refuse(world: Exchange, refusal: Refusal, *numbers: int, batch: int = 1) -> None:
    token = ShareToken(BatchId(world.incarnation, batch))
    for number in numbers:
        world.tell(ALICE, AnsweredByHub(hub_name(number), token, refusal))


def pending(hub_count: int = 5, threshold: int = 3) -> Exchange:
    """A batch is on its way and nothing has come back."""
    world = Exchange(hub_count, threshold)
    world.establish(token="it")
    world.lose()
    return world


# ── making ──────────────────────────────────────────────────────────────────────────────────────
def test_every_hub_gets_a_share_and_any_k_of_them_rebuild_one_secret() -> None:
    world = pending()
    sent = shares_sent(world)
    assert [hub for hub, _ in sent] == list(hubs(1, 2, 3, 4, 5))
    share = {number: message.share for number, (_, message) in enumerate(sent, start=1)}
    rebuilt = {sharing.interpolate({x: share[x] for x in some}) for some in ((1, 2, 3), (3, 4, 5), (1, 3, 5))}
    assert len(rebuilt) == 1
    assert len(rebuilt.pop()) == 48 + 32 + 2 * 32


def test_the_secret_and_its_coefficients_are_the_entropy_given() -> None:
    world = Exchange(3, 2)
    entropy = bytes(range(256))[: world.sender.entropy_bytes(BOB, 1, 16)]
    world.tell(ALICE, Establish(BOB, 1, 16, Purpose.TRAFFIC, 60, None, 2, Secret(entropy), None))
    sent = [message for _, message in shares_sent(world)]
    secret, coefficients = entropy[:96], entropy[96:]
    assert tuple(message.share for message in sent) == sharing.split(secret, 2, [1, 2, 3], coefficients)
    (context,) = {message.context for message in sent}
    (tag,) = {message.tag for message in sent}
    batch = BatchId(world.incarnation, sent[0].counter)
    expanded = establishment.expand(
        context, world.realms.current, sender=ALICE, receiver=BOB, batch=batch
    ).to_bytes()
    assert tag == SharedSecret(Secret(secret)).tag(expanded)
    assert (context.keys, context.key_bytes, context.lifetime) == (1, 16, 60)


def test_batches_are_counted_within_the_incarnation() -> None:
    world = Exchange()
    world.establish()
    world.establish()
    assert [message.counter for _, message in shares_sent(world)] == [1] * 5 + [2] * 5


def test_the_own_claim_covers_the_hubs_used_and_no_others() -> None:
    world = Exchange()
    world.alices.computational = (Coordinate(2), Coordinate(5))
    world.cut(*hubs(5))
    world.establish()
    assert {message.context.claim.computational for _, message in shares_sent(world)} == {(2,)}


def test_hubs_that_are_down_are_not_used() -> None:
    world = Exchange()
    world.cut(*hubs(2))
    world.establish()
    assert [hub for hub, _ in shares_sent(world)] == list(hubs(1, 3, 4, 5))
    assert shares_sent(world)[0][1].context.hubs == (1, 3, 4, 5)


def test_surplus_hubs_take_turns_where_a_receiver_could_not_search_all() -> None:
    world = Exchange(20, 3)
    for _ in range(20):
        world.establish()
    by_batch: dict[int, set[HubName]] = {}
    for hub, message in shares_sent(world):
        by_batch.setdefault(message.counter, set()).add(hub)
        assert list(message.context.hubs) == sorted(message.context.hubs)
    assert {len(used) for used in by_batch.values()} == {15}  # C(15,3) = 455, C(16,3) = 560
    assert set.union(*by_batch.values()) == set(hubs(*range(1, 21)))


@pytest.mark.parametrize(
    "change",
    [
        {"keys": 0},
        {"keys": limits.BATCH_KEYS + 1},
        {"key_bytes": 15},
        {"key_bytes": limits.KEY_BYTES_MAX, "keys": 64},
        {"lifetime": 0},
        {"lifetime": limits.LIFETIME_SECONDS_MAX + 1},
        {"purpose": Purpose.CONTROL},
    ],
)
def test_a_request_outside_the_protocols_limits_is_a_bug(change: dict[str, int]) -> None:
    world = Exchange()
    with pytest.raises(LocalBug) as caught:
        world.establish(**change)  # type: ignore[arg-type]  # one field wrong each time
    assert caught.value.code is codes.BAD_ARGUMENT
    assert not world.carried


@pytest.mark.parametrize("off", [-1, 1])
def test_entropy_of_another_length_is_a_bug(off: int) -> None:
    world = Exchange()
    entropy = Secret(bytes(world.sender.entropy_bytes(BOB, 1, 32) + off))
    with pytest.raises(LocalBug) as caught:
        world.tell(ALICE, Establish(BOB, 1, 32, Purpose.TRAFFIC, 60, None, 3, entropy, None))
    assert caught.value.code is codes.BAD_ARGUMENT
    assert entropy.wiped


def test_messages_and_answers_for_others_are_a_bug() -> None:
    world = Exchange()
    for event in (FromHub(hub_name(1), 1, GetRealm()), AnsweredByHub(hub_name(1), "another's", None)):
        with pytest.raises(LocalBug) as caught:
            world.tell(ALICE, event)
        assert caught.value.code is codes.BAD_ARGUMENT


# ── refused at once ─────────────────────────────────────────────────────────────────────────────
def refused_at_once(world: Exchange) -> NotEstablished:
    (notice,) = told(world, NotEstablished)
    assert notice.batch is None
    assert not shares_sent(world)
    return notice


def test_fewer_links_than_the_threshold_are_refused_at_once() -> None:
    world = Exchange()
    world.cut(*hubs(1, 2, 3))
    world.establish(token="it")
    notice = refused_at_once(world)
    assert (notice.code, notice.token, notice.peer) == (codes.NOT_ENOUGH_HUBS, "it", BOB)


def test_a_realm_below_the_floor_asked_for_is_refused_at_once() -> None:
    world = Exchange(5, 3)
    world.establish(floor=4)
    assert refused_at_once(world).code is codes.REALM_BELOW_FLOOR


def test_hubs_of_too_few_parties_are_refused_at_once() -> None:
    world = Exchange(5, 3, operators="aaabc")
    world.alices.independence = Floor(2)
    world.establish()
    assert refused_at_once(world).code is codes.HUBS_NOT_INDEPENDENT


def test_hubs_of_enough_parties_are_used() -> None:
    world = Exchange(5, 3, operators="aabcd")
    world.alices.independence = Floor(2)
    world.establish()
    assert len(shares_sent(world)) == 5


def test_only_hubs_that_are_used_count_as_dependent() -> None:
    world = Exchange(5, 3, operators="aaabc")
    world.alices.independence = Floor(3)
    world.cut(*hubs(1, 2))
    world.establish()
    assert len(shares_sent(world)) == 3


def test_surplus_hubs_take_turns_until_they_are_independent_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SUBSETS", 10)
    world = Exchange(6, 3, operators="aaabcd")
    world.alices.independence = Floor(2)
    used = set()
    for _ in range(6):
        world.carried.clear()
        world.establish()
        world.lose()
        used.add(frozenset(hub for hub, message in world.carried if isinstance(message, Share)))
    # Five of six are searched; each leaves one out, and never one that the operator of three lacks.
    assert used == {frozenset(hubs(*set(range(1, 7)) - {out})) for out in (1, 2, 3)}


def test_without_a_realm_in_force_everything_is_refused_at_once() -> None:
    world = Exchange()
    world.tell(ALICE, RealmsChanged(None))
    assert world.sender.entropy_bytes(BOB, 1, 32) == 0
    world.establish()
    assert refused_at_once(world).code is codes.REALM_NOT_IN_FORCE


def test_more_batches_than_may_be_under_way_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_BATCHES_PER_PEER", 2)
    world = Exchange()
    for _ in range(3):
        world.establish()
    assert [notice.code for notice in told(world, NotEstablished)] == [codes.PENDING_FULL]
    world.run()
    world.establish()  # two have ended
    assert len(told(world, NotEstablished)) == 1


def test_entropy_of_a_refused_request_is_wiped() -> None:
    world = Exchange()
    world.cut(*hubs(1, 2, 3))
    entropy = Secret(bytes(10))
    world.tell(ALICE, Establish(BOB, 1, 32, Purpose.TRAFFIC, 60, None, 3, entropy, None))
    assert entropy.wiped


# ── links come and go ───────────────────────────────────────────────────────────────────────────
def test_a_hub_that_reconnects_before_it_acknowledged_gets_the_same_share_again() -> None:
    world = pending()
    world.cut(*hubs(2), only=ALICE)
    world.link(*hubs(2), only=ALICE)
    again = shares_sent(world)[5:]
    assert again == [shares_sent(world)[1]]


def test_a_hub_that_acknowledged_gets_nothing_again() -> None:
    world = pending()
    world.tell(ALICE, AnsweredByHub(hub_name(2), ShareToken(BatchId(world.incarnation, 1)), None))
    world.cut(*hubs(2), only=ALICE)
    world.link(*hubs(2), only=ALICE)
    assert len(shares_sent(world)) == 5


def test_a_hub_that_came_up_later_is_not_drawn_in() -> None:
    world = Exchange()
    world.cut(*hubs(5))
    world.establish()
    world.link(*hubs(5))
    assert len(shares_sent(world)) == 4


def test_cut_links_end_a_batch_only_when_k_cannot_be_reached() -> None:
    world = pending(5, 3)
    world.cut(*hubs(1, 2), only=ALICE)
    assert not told(world, NotEstablished)
    world.cut(*hubs(3), only=ALICE)
    (notice,) = told(world, NotEstablished)
    assert (notice.code, notice.token) == (codes.NOT_ENOUGH_HUBS, "it")
    assert notice.batch == BatchId(world.incarnation, 1)
    assert world.sender.next_deadline is None


# ── refusals ────────────────────────────────────────────────────────────────────────────────────
def test_refusals_by_n_minus_k_lying_hubs_change_nothing() -> None:
    world = pending(5, 3)
    refuse(world, Refusal.NOT_AUTHORISED, 1, 2)
    refuse(world, Refusal.NOT_AUTHORISED, 1, 2)
    assert not told(world, NotEstablished)


def test_k_hubs_that_carry_the_same_refusal_name_the_reason() -> None:
    world = pending(5, 3)
    refuse(world, Refusal.QUOTA_EXCEEDED, 1, 3, 5)
    (notice,) = told(world, NotEstablished)
    assert notice.code is codes.QUOTA_EXCEEDED
    assert notice.refusals == tuple((hub, Refusal.QUOTA_EXCEEDED) for hub in hubs(1, 3, 5))


def test_different_refusals_are_hints_and_no_reason() -> None:
    world = pending(5, 3)
    refuse(world, Refusal.QUOTA_EXCEEDED, 1, 3)
    refuse(world, Refusal.PAD_FLOOR, 5)
    assert [notice.code for notice in told(world, NotEstablished)] == [codes.NOT_ENOUGH_HUBS]


def test_a_refusal_by_the_peer_counts_after_the_hub_acknowledged() -> None:
    world = pending(5, 3)
    token = ShareToken(BatchId(world.incarnation, 1))
    for hub in hubs(1, 2, 3):
        world.tell(ALICE, AnsweredByHub(hub, token, None))
        world.tell(ALICE, AnsweredByHub(hub, token, None))
        world.tell(ALICE, AnsweredByHub(hub, token, Refusal.CONTEXT_DISAGREES))
    assert [notice.code for notice in told(world, NotEstablished)] == [codes.CONTEXT_DISAGREES]


def test_answers_of_hubs_and_batches_that_are_not_waited_for_change_nothing() -> None:
    world = Exchange()
    world.cut(*hubs(5), only=ALICE)
    world.establish()
    world.lose()
    refuse(world, Refusal.BUSY, 5, 5, 5)
    refuse(world, Refusal.BUSY, 1, 2, 3, batch=99)
    assert not told(world, NotEstablished)


# ── time ────────────────────────────────────────────────────────────────────────────────────────
def test_a_batch_without_confirm_is_given_up_at_its_deadline() -> None:
    world = pending()
    assert world.sender.next_deadline == world.now + limits.ESTABLISH_SECONDS
    world.advance(limits.ESTABLISH_SECONDS - 0.1)
    assert not told(world, NotEstablished)
    world.advance(0.1)
    (notice,) = told(world, NotEstablished)
    assert (notice.code, notice.token) == (codes.DEADLINE_PASSED, "it")
    assert not world.sent.changes


def test_a_confirm_after_giving_up_is_answered_void() -> None:
    world = Exchange()
    world.answering = False
    world.cut(*hubs(1, 2, 3, 4, 5), only=ALICE)
    world.link(*hubs(1, 2, 3, 4, 5), only=ALICE)
    world.establish()
    lost = world.lose()
    world.advance(limits.ESTABLISH_SECONDS)
    for end, event in lost:
        world.tell(end, event)
    world.run()
    assert world.received.received
    assert not world.sent.sent
    batch = BatchId(world.incarnation, 1)
    assert told(world, AnswerBatch) == [AnswerBatch(BOB, batch, ok=False)]


# ── confirmed ───────────────────────────────────────────────────────────────────────────────────
def test_the_first_valid_confirm_is_durable_before_anyone_is_told() -> None:
    world = Exchange()
    world.establish(token="it")
    world.run()
    ((sent,), (notice,)) = world.sent.changes, told(world, Established)
    assert isinstance(sent, BatchSent)
    assert notice.batch is sent.batch
    assert (notice.token, notice.made_at) == ("it", world.now)
    assert sent.receiver_incarnation == the_confirm(world).confirmation.incarnation
    assert sent.receiver_epoch == 1
    assert told(world, AnswerBatch) == [AnswerBatch(BOB, sent.batch.batch, ok=True)]
    assert world.sender.next_deadline is None


def test_the_claim_kept_is_that_of_both_ends_together() -> None:
    world = Exchange()
    world.alices.computational = (Coordinate(1),)
    world.bobs.computational = (Coordinate(4),)
    world.establish()
    world.run()
    assert world.sent.sent[0].batch.claim.computational == (1, 4)
    assert world.received.received[0].batch.claim == world.sent.sent[0].batch.claim


def test_a_control_batch_makes_a_root_in_the_same_set() -> None:
    world = Exchange()
    world.establish(keys=1, key_bytes=64, purpose=Purpose.CONTROL)
    world.run()
    sent, root = world.sent.changes
    assert isinstance(sent, BatchSent)
    assert isinstance(root, RootKept)
    assert (root.role, root.peer, root.sent, root.received) == (Role.SENDER, BOB, False, False)
    assert root.root == sent.batch.keys
    assert root.root is not sent.batch.keys
    assert told(world, RootMade) == [RootMade(Role.SENDER, BOB, root.batch, root.root)]


def confirm_of_a_pending_batch() -> tuple[Exchange, Confirmed]:
    """Bob's CONFIRM is at hand and Alice has not seen it."""
    world = Exchange()
    world.establish()
    lost = world.lose()
    for end, event in lost:
        if end == BOB:
            world.tell(BOB, event)
    world.lose()
    return world, the_confirm(world)


def test_a_forged_confirm_is_dropped_and_the_true_one_still_counts() -> None:
    world, confirm = confirm_of_a_pending_batch()
    forged = replace(confirm, confirmation=replace(confirm.confirmation, mac=bytes(16)))
    world.tell(ALICE, FromHub(hub_name(1), 1, forged))
    batch = BatchId(world.incarnation, 1)
    assert world.told_alice == [ConfirmDropped(hub_name(1), BOB, batch, Doubt.FORGED)]
    assert not world.sent.changes
    world.tell(ALICE, FromHub(hub_name(2), 1, confirm))
    assert len(world.sent.sent) == 1


def test_a_confirm_in_another_kmes_name_is_dropped() -> None:
    """A hub passes the true CONFIRM off as Carol's."""
    world, confirm = confirm_of_a_pending_batch()
    carol = KmeName("carol")
    world.tell(ALICE, FromHub(hub_name(1), 1, replace(confirm, receiver=carol)))
    assert told(world, ConfirmDropped)[0].doubt is Doubt.FORGED
    assert not world.sent.changes


def test_secrets_of_a_batch_that_ended_are_wiped() -> None:
    world, confirm = confirm_of_a_pending_batch()
    (held,) = world.sender._pending.values()
    world.tell(ALICE, FromHub(hub_name(1), 1, confirm))
    assert held.confirm_key.wiped
    assert all(delivery.share.wiped for delivery in held.deliveries.values())
    assert not held.keys.wiped  # they are the store's and the reserve's now
    world = pending()
    (held,) = world.sender._pending.values()
    world.advance(limits.ESTABLISH_SECONDS)
    assert held.keys.wiped
    assert held.confirm_key.wiped
    assert all(delivery.share.wiped for delivery in held.deliveries.values())


def test_an_acknowledged_share_is_wiped_before_the_batch_ends() -> None:
    world = pending()
    (held,) = world.sender._pending.values()
    world.tell(ALICE, AnsweredByHub(hub_name(1), ShareToken(held.context.batch), None))
    assert held.deliveries[hub_name(1)].share.wiped
    assert not held.deliveries[hub_name(2)].share.wiped


# ── answering again ─────────────────────────────────────────────────────────────────────────────
def repeat(world: Exchange, confirm: Confirmed, hub: int = 1) -> list[object]:
    """One hub brings a CONFIRM; what Alice says to it."""
    before = len(world.told_alice)
    world.tell(ALICE, FromHub(hub_name(hub), 1, confirm))
    return list(world.told_alice[before:])


def test_a_confirm_that_comes_through_every_hub_at_once_is_answered_once() -> None:
    world = Exchange()
    world.establish()
    world.run()
    assert sum(isinstance(message, Confirm) for _, message in world.carried) == 5
    assert len(told(world, AnswerBatch)) == 1


def test_a_confirm_repeated_later_is_answered_ok_again() -> None:
    world = Exchange()
    world.establish()
    world.run()
    confirm = the_confirm(world)
    world.now += limits.ANSWER_AGAIN_SECONDS
    ok = AnswerBatch(BOB, confirm.confirmation.batch, ok=True)
    assert repeat(world, confirm) == [ok]
    assert repeat(world, confirm, hub=2) == []
    world.now += limits.ANSWER_AGAIN_SECONDS
    assert repeat(world, confirm, hub=2) == [ok]


def test_after_a_restart_the_store_tells_what_was_committed() -> None:
    world = Exchange()
    world.establish()
    world.run()
    confirm = the_confirm(world)
    world.start_alice()
    assert repeat(world, confirm) == [AnswerBatch(BOB, confirm.confirmation.batch, ok=True)]


def test_a_confirm_for_an_unknown_batch_asks_for_void() -> None:
    world, confirm = confirm_of_a_pending_batch()
    world.start_alice()  # what she held in memory is gone
    assert repeat(world, confirm) == [AnswerBatch(BOB, confirm.confirmation.batch, ok=False)]


def test_a_batch_committed_for_one_peer_is_void_for_another() -> None:
    world = Exchange()
    world.establish()
    world.run()
    confirm = replace(the_confirm(world), receiver=KmeName("carol"))
    answer = AnswerBatch(KmeName("carol"), confirm.confirmation.batch, ok=False)
    assert repeat(world, confirm) == [answer]


def test_the_memory_of_ended_batches_is_bounded_and_the_store_remembers_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "ENDED_BATCHES", 2)
    world = Exchange()
    for _ in range(4):
        world.establish()
        world.run()
    assert len(world.sender._answers._ended) == 2
    world.now += limits.ANSWER_AGAIN_SECONDS
    assert repeat(world, the_confirm(world)) == [AnswerBatch(BOB, BatchId(world.incarnation, 1), ok=True)]


def test_a_hub_that_invents_confirms_cannot_burn_the_pads_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "ANSWERS_PER_HUB", 3)
    world, confirm = confirm_of_a_pending_batch()

    def invented(counter: int) -> Confirmed:
        batch = BatchId(Incarnation(b"x" * 16), counter)
        return replace(confirm, confirmation=replace(confirm.confirmation, batch=batch))

    for counter in range(3):
        (answer,) = repeat(world, invented(counter))
        assert answer == AnswerBatch(BOB, invented(counter).confirmation.batch, ok=False)
    (dropped,) = repeat(world, invented(3))
    assert dropped == ConfirmDropped(hub_name(1), BOB, invented(3).confirmation.batch, Doubt.TOO_MANY)
    assert len(repeat(world, invented(4), hub=2)) == 1  # another hub is not held to it
    world.now += 1
    (answer,) = repeat(world, invented(5))
    assert isinstance(answer, AnswerBatch)


# ── epochs ──────────────────────────────────────────────────────────────────────────────────────
OVERLAP = Realms(make_realm(5, 3, epoch=2), make_realm(5, 3, epoch=1))


def epochs_used(world: Exchange) -> list[int]:
    return sorted({message.context.epoch for _, message in shares_sent(world)})


def test_the_older_epoch_is_used_until_the_peer_named_the_newer() -> None:
    world = Exchange()
    world.tell(ALICE, RealmsChanged(OVERLAP))
    world.establish()
    world.run()
    assert epochs_used(world) == [1]
    world.tell(BOB, RealmsChanged(OVERLAP))
    world.establish()  # still the older one: Bob named the newer in no CONFIRM yet
    world.run()
    assert epochs_used(world) == [1]
    world.establish()
    world.run()
    assert epochs_used(world) == [1, 2]
    assert [sent.receiver_epoch for sent in world.sent.sent] == [1, 2, 2]


def test_what_epoch_a_peer_named_is_known_again_after_a_restart() -> None:
    world = Exchange()
    world.realms = OVERLAP
    world.tell(ALICE, RealmsChanged(OVERLAP))
    world.tell(BOB, RealmsChanged(OVERLAP))
    world.establish()
    world.run()
    world.start_alice()
    world.link(*hubs(1, 2, 3, 4, 5), only=ALICE)
    world.establish()
    assert epochs_used(world) == [1, 2]


def test_after_the_overlap_the_current_epoch_is_used() -> None:
    world = Exchange()
    world.tell(ALICE, RealmsChanged(Realms(OVERLAP.current)))
    world.establish()
    assert epochs_used(world) == [2]


def test_a_hub_revoked_in_the_newer_epoch_is_not_used_in_the_older() -> None:
    world = Exchange()
    newer = make_realm(5, 3, epoch=2, revoked=(4,))
    world.tell(ALICE, RealmsChanged(replace(OVERLAP, current=newer)))
    world.establish()
    assert [hub for hub, _ in shares_sent(world)] == list(hubs(1, 2, 3, 5))


def test_a_peer_that_never_had_the_older_epoch_is_tried_with_the_newer() -> None:
    """Bob enrolled during the overlap: k hubs alike carry that he disagrees."""
    world = Exchange()
    world.tell(ALICE, RealmsChanged(OVERLAP))
    world.tell(BOB, RealmsChanged(Realms(OVERLAP.current)))
    world.establish()
    world.run()
    assert [notice.code for notice in told(world, NotEstablished)] == [codes.CONTEXT_DISAGREES]
    world.establish()
    world.run()
    assert epochs_used(world) == [1, 2]
    assert len(world.sent.sent) == 1


def test_a_peer_that_disagrees_with_the_newer_epoch_is_tried_with_the_older_again() -> None:
    world = Exchange()
    world.tell(ALICE, RealmsChanged(OVERLAP))
    for _ in range(3):
        world.establish()
        world.lose()
        batch = shares_sent(world)[-1][1].counter
        refuse(world, Refusal.CONTEXT_DISAGREES, 1, 2, 3, batch=batch)
    used = [message.context.epoch for _, message in shares_sent(world)]
    assert used == [1] * 5 + [2] * 5 + [1] * 5


def test_a_minority_that_claims_a_disagreement_moves_nobody_to_another_epoch() -> None:
    world = Exchange()
    world.tell(ALICE, RealmsChanged(OVERLAP))
    world.establish()
    world.lose()
    refuse(world, Refusal.CONTEXT_DISAGREES, 1, 2)
    world.advance(limits.ESTABLISH_SECONDS)
    world.establish()
    assert epochs_used(world) == [1]


def test_a_disagreement_after_the_realm_expired_is_only_a_refusal() -> None:
    world = pending()
    world.tell(ALICE, RealmsChanged(None))
    refuse(world, Refusal.CONTEXT_DISAGREES, 1, 2, 3)
    assert [notice.code for notice in told(world, NotEstablished)] == [codes.CONTEXT_DISAGREES]


# ── tables ──────────────────────────────────────────────────────────────────────────────────────
def test_every_state_of_the_tables_can_be_reached() -> None:
    assert {BatchState.AWAITING_CONFIRM, *BATCH_TABLE.values()} == set(BatchState)
    assert {ShareState.SENT, *SHARE_TABLE.values()} == set(ShareState)


def test_the_diagram_of_a_share_ends_where_it_is_refused() -> None:
    assert "    REFUSED --> [*]" in mermaid(SHARE_TABLE, ShareState.SENT)


def test_a_tick_before_any_deadline_changes_nothing() -> None:
    world = pending()
    assert world.sender.handle(Tick(), world.now).empty


# ── hubs on the bench ───────────────────────────────────────────────────────────────────────────
def used(standings: dict[HubName, Standing], *down: int) -> list[HubName]:
    """The hubs of a batch that is made with these standings."""
    world = Exchange()
    world.sender._standing = lambda hub, _: standings.get(hub, Standing.PLAYS)
    world.cut(*hubs(*down))
    world.establish()
    return [hub for hub, _ in shares_sent(world)]


def test_hub_on_the_bench_gets_no_share_while_enough_others_are_up() -> None:
    benched = dict.fromkeys(hubs(1, 4), Standing.LAST)
    assert used(benched) == list(hubs(2, 3, 5))
    assert used(benched, 2) == list(hubs(1, 3, 4, 5))


def test_hub_that_an_operator_took_out_gets_no_share_even_if_too_few_are_left() -> None:
    out = dict.fromkeys(hubs(1, 2), Standing.OUT)
    assert used(out) == list(hubs(3, 4, 5))
    assert used(out, 3) == []
    assert used({**out, hub_name(3): Standing.LAST}, 4) == []
    assert used({hub_name(1): Standing.OUT, hub_name(3): Standing.LAST}, 4) == list(hubs(2, 3, 5))
