"""The hub between an honest pair, greedy senders, flooding receivers and KMEs that probe."""

from __future__ import annotations

import pytest

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import BatchId, KmeName
from skex.protocol.hub import (
    INITIAL,
    TABLE,
    BatchEvicted,
    ConnectionState,
    HubRelay,
    RealmChanged,
    RealmNotSent,
    RealmSent,
    Reason,
    RefusedByReceiver,
    RefusedRequest,
    Relayed,
    RelayToken,
    Request,
    Stream,
    record_pad_bytes,
)
from skex.protocol.quota import Buckets, Quota, Rate
from skex.protocol.relayed import RelayedBatches
from skex.protocol.states import mermaid
from skex.protocol.traffic import AnsweredByKme, FromKme, KmeDown, KmeUp, SendToKme, Tick
from skex.wire import messages
from skex.wire.context import Purpose
from skex.wire.messages import Refusal
from tests.unit.protocol.hub_support import (
    ALICE,
    BOB,
    CAROL,
    MALLORY,
    NOBODY,
    REALM,
    Hub,
    confirmation,
    incarnation_of,
    refusals,
    relayed_to,
    sent_to,
    share,
)

ALICES_BATCH = BatchId(incarnation_of(ALICE), 7)


@pytest.fixture
def hub() -> Hub:
    ready = Hub()
    ready.connect(ALICE, BOB)
    return ready


# ── shares ──────────────────────────────────────────────────────────────────────────────────────
def test_share_is_relayed_under_the_links_name_and_incarnation_and_acknowledged(hub: Hub) -> None:
    asked = share(BOB, counter=7)
    effects = hub.ask(ALICE, asked)

    shared = messages.Shared(ALICE, ALICES_BATCH, asked.context, asked.tag, asked.share)
    assert effects.persist == ()
    assert effects.send == (
        SendToKme(BOB, shared, RelayToken(ALICE, 1, 1)),
        SendToKme(ALICE, messages.Done(1)),
    )
    assert effects.notify == (Relayed(Request.SHARE, ALICE, BOB, ALICES_BATCH, record_pad_bytes(shared)),)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 57_344])
def test_pad_cost_of_a_share_is_that_of_its_record(size: int) -> None:
    asked = share(BOB)
    shared = messages.Shared(ALICE, ALICES_BATCH, asked.context, asked.tag, bytes(size))
    assert record_pad_bytes(shared) == 16 + len(messages.encode_message(shared))


def test_pad_cost_of_other_messages_is_that_of_their_record() -> None:
    forwarded = messages.Forwarded(ALICE, bytes(300))
    assert record_pad_bytes(forwarded) == 16 + len(messages.encode_message(forwarded))


def test_prober_cannot_tell_unknown_receiver_forbidden_pair_and_absent_stranger_apart(hub: Hub) -> None:
    """Mallory asks for a connected KME, an enrolled but absent one, and a name that nobody has."""
    hub.connect(MALLORY)
    answers = [
        [send.message for send in hub.ask(MALLORY, share(receiver)).send] for receiver in (BOB, CAROL, NOBODY)
    ]
    assert [[type(message) for message in answer] for answer in answers] == [[messages.Refuse]] * 3
    outward = {
        message.refusal for answer in answers for message in answer if isinstance(message, messages.Refuse)
    }
    assert outward == {Refusal.NOT_AUTHORISED}


def test_forbidden_pair_spends_no_pad_of_the_victim(hub: Hub) -> None:
    hub.connect(MALLORY)
    effects = hub.ask(MALLORY, share(BOB))
    assert sent_to(effects, BOB) == []
    assert effects.notify == (
        RefusedRequest(Request.SHARE, MALLORY, BOB, codes.NOT_AUTHORISED, Reason.FORBIDDEN, Purpose.TRAFFIC),
    )


def test_kme_that_asks_for_itself_is_refused_whatever_the_policy_says(hub: Hub) -> None:
    hub.policy.allowed.add((ALICE, ALICE))
    assert list(refusals(hub.ask(ALICE, share(ALICE)))) == [(ALICE, Refusal.NOT_AUTHORISED)]


def test_purpose_that_is_not_allowed_is_refused(hub: Hub) -> None:
    hub.policy.purposes = {Purpose.CONTROL}
    assert list(refusals(hub.ask(ALICE, share(BOB)))) == [(ALICE, Refusal.NOT_AUTHORISED)]
    assert list(refusals(hub.ask(ALICE, share(BOB, purpose=Purpose.CONTROL)))) == []


def test_absent_receiver_is_refused_at_once_and_costs_no_quota(hub: Hub) -> None:
    hub.policy.pair[Stream.SHARES] = Quota(Rate(0, 1e9), Rate(0, 1))
    hub.handle(KmeDown(BOB))
    for _ in range(3):
        effects = hub.ask(ALICE, share(BOB))
        assert list(refusals(effects)) == [(ALICE, Refusal.RECEIVER_ABSENT)]
    hub.connect(BOB)
    assert list(refusals(hub.ask(ALICE, share(BOB)))) == []


def test_share_for_a_receiver_that_was_absent_is_not_sent_when_it_comes_back(hub: Hub) -> None:
    hub.handle(KmeDown(BOB))
    hub.ask(ALICE, share(BOB))
    assert hub.handle(KmeUp(BOB, incarnation_of(BOB, 1))).empty


def test_greedy_sender_is_stopped_at_its_pairs_quota_of_batches_until_time_passed(hub: Hub) -> None:
    hub.policy.pair[Stream.SHARES] = Quota(Rate(1e9, 1e9), Rate(0.5, 2))
    answers = [list(refusals(hub.ask(ALICE, share(BOB, counter)))) for counter in range(3)]
    assert answers == [[], [], [(ALICE, Refusal.QUOTA_EXCEEDED)]]
    hub.now += 2
    assert list(refusals(hub.ask(ALICE, share(BOB, 3)))) == []
    assert list(refusals(hub.ask(ALICE, share(BOB, 4)))) == [(ALICE, Refusal.QUOTA_EXCEEDED)]


def test_greedy_sender_is_stopped_at_its_pairs_quota_of_pad_bytes(hub: Hub) -> None:
    cost = hub.ask(ALICE, share(BOB, 0)).notify[0]
    assert isinstance(cost, Relayed)
    greedy = Hub()
    greedy.connect(ALICE, BOB)
    greedy.policy.pair[Stream.SHARES] = Quota(Rate(0, 2 * cost.pad_bytes), Rate(1e9, 1e9))
    effects = [greedy.ask(ALICE, share(BOB, counter)) for counter in range(3)]
    assert [len(sent_to(effect, BOB)) for effect in effects] == [1, 1, 0]
    assert effects[2].notify == (
        RefusedRequest(Request.SHARE, ALICE, BOB, codes.QUOTA_EXCEEDED, Reason.PAIR_QUOTA, Purpose.TRAFFIC),
    )


def test_many_senders_together_are_stopped_at_the_receivers_total(hub: Hub) -> None:
    hub.connect(CAROL)
    hub.policy.allowed.add((CAROL, BOB))
    hub.policy.total[Stream.SHARES] = Quota(Rate(0, 1e9), Rate(0, 3))
    for counter, sender in enumerate((ALICE, CAROL, ALICE)):
        assert list(refusals(hub.ask(sender, share(BOB, counter)))) == []
    effects = hub.ask(CAROL, share(BOB, 9))
    assert list(refusals(effects)) == [(CAROL, Refusal.QUOTA_EXCEEDED)]
    assert effects.notify == (
        RefusedRequest(Request.SHARE, CAROL, BOB, codes.QUOTA_EXCEEDED, Reason.TOTAL_QUOTA, Purpose.TRAFFIC),
    )


def test_senders_exhausted_quota_does_not_touch_another_pairs(hub: Hub) -> None:
    hub.connect(CAROL)
    hub.policy.allowed.add((CAROL, BOB))
    hub.policy.pair[Stream.SHARES] = Quota(Rate(0, 1e9), Rate(0, 1))
    hub.ask(ALICE, share(BOB, 0))
    assert list(refusals(hub.ask(ALICE, share(BOB, 1)))) == [(ALICE, Refusal.QUOTA_EXCEEDED)]
    assert list(refusals(hub.ask(CAROL, share(BOB, 0)))) == []


def test_pair_beyond_what_quotas_can_be_counted_for_is_refused_and_pushes_out_nobody() -> None:
    """Mallory's many pairs must not give anyone's spent quota back."""
    hub = Hub(buckets=Buckets(capacity=2))
    hub.connect(ALICE, BOB, CAROL)
    hub.policy.allowed.add((ALICE, CAROL))
    hub.policy.pair[Stream.SHARES] = Quota(Rate(0, 1e9), Rate(0, 1))
    hub.ask(ALICE, share(BOB, 0))
    effects = hub.ask(ALICE, share(CAROL, 1))
    assert list(refusals(effects)) == [(ALICE, Refusal.BUSY)]
    assert effects.notify == (
        RefusedRequest(Request.SHARE, ALICE, CAROL, codes.BUSY, Reason.QUOTAS_FULL, Purpose.TRAFFIC),
    )
    assert list(refusals(hub.ask(ALICE, share(BOB, 2)))) == [(ALICE, Refusal.QUOTA_EXCEEDED)]


def test_shares_leave_the_floor_of_the_receivers_pad_to_control_traffic(hub: Hub) -> None:
    relayed = hub.ask(ALICE, share(BOB, 0)).notify[0]
    assert isinstance(relayed, Relayed)
    hub.links.left[BOB] = limits.CONTROL_FLOOR_BYTES + relayed.pad_bytes
    assert list(refusals(hub.ask(ALICE, share(BOB, 0)))) == []
    hub.links.left[BOB] -= 1
    effects = hub.ask(ALICE, share(BOB, 0))
    assert list(refusals(effects)) == [(ALICE, Refusal.PAD_FLOOR)]
    assert sent_to(effects, BOB) == []
    assert list(refusals(hub.ask(ALICE, messages.Peer(BOB, b"sealed")))) == []


def test_floor_that_the_operator_sets_is_asked_for_each_time(hub: Hub) -> None:
    cost = record_pad_bytes(messages.Forwarded(ALICE, b"x"))
    floors = {Stream.PEER_MESSAGES: 10}
    relay = HubRelay(hub.policy, hub.links, REALM, floor=floors.__getitem__)
    for kme in (ALICE, BOB):
        relay.handle(KmeUp(kme, incarnation_of(kme)), 0.0)
    hub.links.left[BOB] = cost + 10
    answers = []
    for floor in (10, 11):
        floors[Stream.PEER_MESSAGES] = floor
        answers.append(list(refusals(relay.handle(FromKme(ALICE, 1, messages.Peer(BOB, b"x")), 0.0))))
    assert answers == [[], [(ALICE, Refusal.PAD_FLOOR)]]


def test_share_that_the_receivers_pad_cannot_carry_is_refused_as_exhausted(hub: Hub) -> None:
    hub.links.left[BOB] = 10
    assert list(refusals(hub.ask(ALICE, share(BOB)))) == [(ALICE, Refusal.PAD_EXHAUSTED)]


# ── refusals by the receiver ────────────────────────────────────────────────────────────────────
def test_receivers_refusal_goes_back_under_the_senders_ordinal(hub: Hub) -> None:
    token = relayed_to(hub.ask(ALICE, share(BOB)), BOB).token
    effects = hub.handle(AnsweredByKme(BOB, token, Refusal.RECEIVER_FULL))
    assert effects.send == (SendToKme(ALICE, messages.Refuse(1, Refusal.RECEIVER_FULL)),)
    assert effects.notify == (RefusedByReceiver(BOB, ALICE, codes.RECEIVER_FULL, told=True),)


def test_receiver_that_repeats_a_refusal_burns_none_of_the_senders_pad(hub: Hub) -> None:
    token = relayed_to(hub.ask(ALICE, share(BOB)), BOB).token
    hub.handle(AnsweredByKme(BOB, token, Refusal.BUSY))
    effects = hub.handle(AnsweredByKme(BOB, token, Refusal.BUSY))
    assert effects.send == ()
    assert effects.notify == (RefusedByReceiver(BOB, ALICE, codes.BUSY, told=False),)


def test_refusal_after_the_sender_reconnected_is_not_passed_to_its_new_connection(hub: Hub) -> None:
    """Its ordinals count anew there: the refusal would name another request."""
    token = relayed_to(hub.ask(ALICE, share(BOB)), BOB).token
    hub.handle(KmeDown(ALICE))
    hub.connect(ALICE, start=1)
    hub.ordinal = 0
    hub.ask(ALICE, share(BOB, 1))
    assert hub.handle(AnsweredByKme(BOB, token, Refusal.BUSY)).send == ()


def test_refusal_after_the_senders_connection_was_replaced_without_going_down_is_dropped(hub: Hub) -> None:
    token = relayed_to(hub.ask(ALICE, share(BOB)), BOB).token
    hub.connect(ALICE, start=1)
    assert hub.handle(AnsweredByKme(BOB, token, Refusal.BUSY)).send == ()


def test_refusal_after_the_sender_left_is_dropped_and_noticed(hub: Hub) -> None:
    token = relayed_to(hub.ask(ALICE, share(BOB)), BOB).token
    hub.handle(KmeDown(ALICE))
    effects = hub.handle(AnsweredByKme(BOB, token, 60_000))
    assert effects.send == ()
    assert effects.notify == (RefusedByReceiver(BOB, ALICE, codes.BUSY, told=False),)


def test_refusal_of_what_nobody_asked_for_is_only_noticed(hub: Hub) -> None:
    effects = hub.handle(AnsweredByKme(BOB, None, Refusal.UNKNOWN_TYPE))
    assert effects.send == ()
    assert effects.notify == (RefusedByReceiver(BOB, None, codes.REQUEST_UNKNOWN, told=False),)


def test_only_the_latest_requests_of_a_connection_stay_refusable(hub: Hub) -> None:
    tokens = [
        relayed_to(hub.ask(ALICE, messages.Peer(BOB, b"sealed")), BOB).token
        for _ in range(limits.REFUSABLE_REQUESTS + 1)
    ]
    assert hub.handle(AnsweredByKme(BOB, tokens[0], Refusal.BUSY)).send == ()
    assert hub.handle(AnsweredByKme(BOB, tokens[1], Refusal.BUSY)).send != ()


# ── CONFIRM ─────────────────────────────────────────────────────────────────────────────────────
def test_confirm_of_a_relayed_batch_goes_to_its_sender_under_the_receivers_name(hub: Hub) -> None:
    hub.ask(ALICE, share(BOB, counter=7))
    effects = hub.ask(BOB, messages.Confirm(ALICE, confirmation(ALICES_BATCH)))
    confirmed = messages.Confirmed(BOB, confirmation(ALICES_BATCH))
    assert effects.send == (SendToKme(ALICE, confirmed, RelayToken(BOB, 2, 2)),)
    assert effects.notify == (
        Relayed(Request.CONFIRM, BOB, ALICE, ALICES_BATCH, record_pad_bytes(confirmed)),
    )


@pytest.mark.parametrize(
    ("who", "sender", "batch"),
    [
        (BOB, ALICE, BatchId(incarnation_of(ALICE), 8)),
        (BOB, ALICE, BatchId(incarnation_of(ALICE, 1), 7)),
        (BOB, CAROL, ALICES_BATCH),
        (BOB, NOBODY, ALICES_BATCH),
        (CAROL, ALICE, ALICES_BATCH),
        (ALICE, BOB, ALICES_BATCH),
    ],
    ids=["other counter", "other incarnation", "other sender", "nobody", "not its receiver", "reversed"],
)
def test_confirm_of_a_batch_that_was_not_relayed_this_way_is_refused(
    hub: Hub, who: KmeName, sender: KmeName, batch: BatchId
) -> None:
    """A KME that guesses, or overheard, a batch id must not reach others with it."""
    hub.connect(CAROL)
    hub.ask(ALICE, share(BOB, counter=7))
    effects = hub.ask(who, messages.Confirm(sender, confirmation(batch)))
    assert list(refusals(effects)) == [(who, Refusal.BATCH_UNKNOWN)]
    assert len(effects.send) == 1


def test_replayed_confirm_flood_ends_after_the_fixed_number_of_relays(hub: Hub) -> None:
    hub.ask(ALICE, share(BOB, counter=7))
    confirm = messages.Confirm(ALICE, confirmation(ALICES_BATCH))
    relays = [len(sent_to(hub.ask(BOB, confirm), ALICE)) for _ in range(limits.CONFIRM_RELAYS + 5)]
    assert relays == [1] * limits.CONFIRM_RELAYS + [0] * 5
    effects = hub.ask(BOB, confirm)
    assert effects.notify == (
        RefusedRequest(
            Request.CONFIRM, BOB, ALICE, codes.BATCH_UNKNOWN, Reason.CONFIRMS_SPENT, Purpose.TRAFFIC
        ),
    )


def test_repeated_share_does_not_renew_spent_confirms(hub: Hub) -> None:
    confirm = messages.Confirm(ALICE, confirmation(ALICES_BATCH))
    hub.ask(ALICE, share(BOB, counter=7))
    for _ in range(limits.CONFIRM_RELAYS):
        hub.ask(BOB, confirm)
        hub.ask(ALICE, share(BOB, counter=7))
    assert list(refusals(hub.ask(BOB, confirm))) == [(BOB, Refusal.BATCH_UNKNOWN)]


def test_confirm_for_a_sender_that_left_is_refused_without_counting(hub: Hub) -> None:
    hub.ask(ALICE, share(BOB, counter=7))
    hub.handle(KmeDown(ALICE))
    confirm = messages.Confirm(ALICE, confirmation(ALICES_BATCH))
    for _ in range(limits.CONFIRM_RELAYS):
        assert list(refusals(hub.ask(BOB, confirm))) == [(BOB, Refusal.RECEIVER_ABSENT)]
    hub.connect(ALICE, start=1)
    assert len(sent_to(hub.ask(BOB, confirm), ALICE)) == 1


def test_confirm_of_a_pair_that_was_suspended_meanwhile_is_refused(hub: Hub) -> None:
    hub.ask(ALICE, share(BOB, counter=7))
    hub.policy.allowed.clear()
    effects = hub.ask(BOB, messages.Confirm(ALICE, confirmation(ALICES_BATCH)))
    assert list(refusals(effects)) == [(BOB, Refusal.NOT_AUTHORISED)]
    assert len(effects.send) == 1


def test_confirm_may_use_the_floor_of_the_senders_pad_but_not_more_than_there_is(hub: Hub) -> None:
    hub.ask(ALICE, share(BOB, counter=7))
    confirm = messages.Confirm(ALICE, confirmation(ALICES_BATCH))
    hub.links.left[ALICE] = record_pad_bytes(messages.Confirmed(BOB, confirm.confirmation))
    assert len(sent_to(hub.ask(BOB, confirm), ALICE)) == 1
    hub.links.left[ALICE] -= 1
    assert list(refusals(hub.ask(BOB, confirm))) == [(BOB, Refusal.PAD_EXHAUSTED)]


def test_confirm_after_the_relay_time_is_refused_even_before_a_tick(hub: Hub) -> None:
    hub.ask(ALICE, share(BOB, counter=7))
    hub.now += limits.RELAY_SECONDS
    confirm = messages.Confirm(ALICE, confirmation(ALICES_BATCH))
    assert list(refusals(hub.ask(BOB, confirm))) == [(BOB, Refusal.BATCH_UNKNOWN)]


def test_sender_of_many_batches_evicts_its_own_and_not_another_pairs() -> None:
    hub = Hub(relayed=RelayedBatches(capacity=3))
    hub.connect(ALICE, BOB, MALLORY)
    hub.policy.allowed.add((MALLORY, BOB))
    hub.ask(ALICE, share(BOB, counter=7))
    evicted = []
    for counter in range(10):
        effects = hub.ask(MALLORY, share(BOB, counter))
        evicted += [notice for notice in effects.notify if isinstance(notice, BatchEvicted)]
    assert evicted == [BatchEvicted(MALLORY, BOB, BatchId(incarnation_of(MALLORY), n)) for n in range(8)]
    assert len(sent_to(hub.ask(BOB, messages.Confirm(ALICE, confirmation(ALICES_BATCH))), ALICE)) == 1


# ── peer messages ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("sender", "receiver"), [(ALICE, BOB), (BOB, ALICE)])
def test_peer_message_passes_opaque_in_both_directions_of_an_allowed_pair(
    hub: Hub, sender: KmeName, receiver: KmeName
) -> None:
    effects = hub.ask(sender, messages.Peer(receiver, b"sealed"))
    assert [(send.kme, send.message) for send in effects.send] == [
        (receiver, messages.Forwarded(sender, b"sealed"))
    ]
    assert [type(notice) for notice in effects.notify] == [Relayed]


def test_peer_message_between_strangers_is_refused_like_one_to_nobody(hub: Hub) -> None:
    hub.connect(MALLORY)
    answers = {
        answer for to in (BOB, NOBODY) for answer in refusals(hub.ask(MALLORY, messages.Peer(to, b"x")))
    }
    assert answers == {(MALLORY, Refusal.NOT_AUTHORISED)}


def test_peer_message_needs_permission_for_control_batches(hub: Hub) -> None:
    hub.policy.purposes = {Purpose.TRAFFIC}
    assert list(refusals(hub.ask(ALICE, messages.Peer(BOB, b"x")))) == [(ALICE, Refusal.NOT_AUTHORISED)]


def test_peer_message_to_an_absent_kme_is_refused(hub: Hub) -> None:
    hub.handle(KmeDown(BOB))
    assert list(refusals(hub.ask(ALICE, messages.Peer(BOB, b"x")))) == [(ALICE, Refusal.RECEIVER_ABSENT)]


def test_receiver_that_floods_its_sender_with_peer_messages_is_stopped_by_its_own_quota(hub: Hub) -> None:
    hub.policy.pair[Stream.PEER_MESSAGES] = Quota(Rate(0, 1e9), Rate(0, 2))
    answers = [list(refusals(hub.ask(BOB, messages.Peer(ALICE, b"x")))) for _ in range(3)]
    assert answers == [[], [], [(BOB, Refusal.QUOTA_EXCEEDED)]]
    assert list(refusals(hub.ask(ALICE, messages.Peer(BOB, b"x")))) == []


def test_share_flood_leaves_the_quota_of_peer_messages_alone(hub: Hub) -> None:
    hub.policy.total[Stream.SHARES] = Quota(Rate(0, 1e9), Rate(0, 1))
    hub.ask(ALICE, share(BOB, 0))
    assert list(refusals(hub.ask(ALICE, share(BOB, 1)))) == [(ALICE, Refusal.QUOTA_EXCEEDED)]
    assert list(refusals(hub.ask(ALICE, messages.Peer(BOB, b"x")))) == []


def test_peer_messages_leave_their_own_floor_to_confirms_and_realm_files(hub: Hub) -> None:
    cost = record_pad_bytes(messages.Forwarded(ALICE, b"x"))
    hub.links.left[BOB] = limits.PEER_FLOOR_BYTES + cost - 1
    assert list(refusals(hub.ask(ALICE, messages.Peer(BOB, b"x")))) == [(ALICE, Refusal.PAD_FLOOR)]


# ── the realm file ──────────────────────────────────────────────────────────────────────────────
def test_realm_is_sent_when_asked_for(hub: Hub) -> None:
    effects = hub.ask(ALICE, messages.GetRealm())
    assert effects.send == (SendToKme(ALICE, messages.RealmFile(REALM)),)
    assert effects.notify == (RealmSent(ALICE),)


def test_kme_that_asks_for_the_realm_again_and_again_gets_it_once_per_connection(hub: Hub) -> None:
    hub.ask(ALICE, messages.GetRealm())
    effects = hub.ask(ALICE, messages.GetRealm())
    assert list(refusals(effects)) == [(ALICE, Refusal.BUSY)]
    assert effects.notify == (RefusedRequest(Request.REALM, ALICE, None, codes.BUSY, Reason.REALM_SENT),)
    hub.handle(KmeDown(ALICE))
    hub.connect(ALICE, start=1)
    assert sent_to(hub.ask(ALICE, messages.GetRealm()), ALICE) == [messages.RealmFile(REALM)]


def test_changed_realm_is_pushed_to_every_connected_kme_and_not_asked_for_again(hub: Hub) -> None:
    hub.ask(ALICE, messages.GetRealm())
    hub.connect(CAROL)
    hub.handle(KmeDown(CAROL))
    effects = hub.handle(RealmChanged(b"epoch 2"))
    assert [(send.kme, send.message) for send in effects.send] == [
        (ALICE, messages.RealmFile(b"epoch 2")),
        (BOB, messages.RealmFile(b"epoch 2")),
    ]
    assert list(refusals(hub.ask(BOB, messages.GetRealm()))) == [(BOB, Refusal.BUSY)]


def test_changed_realm_that_a_pad_cannot_carry_is_noticed_and_not_pushed(hub: Hub) -> None:
    hub.ask(BOB, messages.GetRealm())
    hub.links.left[BOB] = 5
    effects = hub.handle(RealmChanged(b"epoch 2"))
    assert [send.kme for send in effects.send] == [ALICE]
    assert RealmNotSent(BOB, codes.PAD_EXHAUSTED) in effects.notify
    assert list(refusals(hub.ask(BOB, messages.GetRealm()))) == [(BOB, Refusal.PAD_EXHAUSTED)]
    hub.links.left[BOB] = 10**6
    assert sent_to(hub.ask(BOB, messages.GetRealm()), BOB) == [messages.RealmFile(b"epoch 2")]


# ── connections, time, bugs ─────────────────────────────────────────────────────────────────────
def test_kmes_are_connected_between_up_and_down(hub: Hub) -> None:
    before = hub.relay.connected
    hub.handle(KmeDown(ALICE))
    assert (before, hub.relay.connected) == ((ALICE, BOB), (BOB,))


@pytest.mark.parametrize(
    "event",
    [
        FromKme(CAROL, 1, messages.GetRealm()),
        AnsweredByKme(CAROL, None, Refusal.BUSY),
        KmeDown(CAROL),
    ],
    ids=["message", "answer", "down"],
)
def test_event_of_a_kme_that_is_not_connected_is_a_local_bug(
    hub: Hub, event: FromKme | AnsweredByKme | KmeDown
) -> None:
    with pytest.raises(LocalBug) as caught:
        hub.handle(event)
    assert caught.value.code is codes.BAD_STATE
    assert hub.relay.connected == (ALICE, BOB)


def test_message_that_is_the_links_to_handle_is_a_local_bug(hub: Hub) -> None:
    with pytest.raises(LocalBug) as caught:
        hub.ask(ALICE, messages.Want(1))
    assert caught.value.code is codes.BAD_ARGUMENT


def test_deadline_is_the_next_sweep_then_the_expiry_of_the_oldest_batch(hub: Hub) -> None:
    start = hub.now
    deadlines = [hub.relay.next_deadline]
    hub.ask(ALICE, share(BOB))
    for hub.now in (start, start + limits.RELAY_SWEEP_SECONDS, start + limits.RELAY_SECONDS):
        assert hub.handle(Tick()).empty
        deadlines.append(hub.relay.next_deadline)
    assert deadlines == [
        None,
        start + limits.RELAY_SWEEP_SECONDS,
        start + limits.RELAY_SECONDS,
        None,
    ]


def test_table_of_connections_draws_as_a_diagram_without_a_final_state() -> None:
    assert mermaid(TABLE, INITIAL).startswith("stateDiagram-v2\n    [*] --> ABSENT\n")
    assert {state for state, _ in TABLE} == set(ConnectionState)
