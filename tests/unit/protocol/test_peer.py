"""Two KMEs over five hubs; each test names what the hubs, the network or a restore did."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import KmeName
from skex.protocol import traffic
from skex.protocol.assign import AssignmentEnded, Deliverable, Delivered, NotDelivered, NotOffered, Release
from skex.protocol.assignee import KeysGone, KeysLost, KeysRecorded
from skex.protocol.changes import AllKeysVoided, Role, RootKept
from skex.protocol.envelopes import Channel
from skex.protocol.outbox import ControlArrived
from skex.protocol.peer import EnvelopeDropped, Revoked, RevokeKeys, RootReady, RootWanted
from skex.protocol.receiver import Answered
from skex.protocol.sender import AnswerBatch
from skex.wire import messages
from skex.wire.codec import encode
from skex.wire.messages import Refusal
from skex.wire.peer import (
    Assign,
    Envelope,
    Ok,
    PeerDirection,
    PeerMessage,
    RevokeReason,
    UnknownPeer,
    Void,
    decode_peer_message,
    encode_peer_message,
)
from tests.unit.protocol.peer_support import (
    ALICE,
    BOB,
    HUBS,
    REALM,
    SLAVE,
    End,
    Letter,
    World,
    asking,
    batch_id,
    delivering,
    key_range,
    request_id,
)

HELD_FOR = limits.ASSIGN_HOLD_SECONDS + limits.ASSIGN_HOLD_MARGIN_SECONDS


@pytest.fixture
def world() -> World:
    return World().ready()


def _open(world: World, letter: Letter) -> PeerMessage | UnknownPeer:
    """What an envelope says, with the roots that the ends stored."""
    envelope = Envelope.from_bytes(letter.envelope)
    role = Role.SENDER if letter.sender.name == ALICE else Role.RECEIVER
    root = letter.sender.store.roots[role, letter.receiver, envelope.root].root
    plaintext = Channel(REALM, ALICE, BOB, envelope.root, envelope.direction).open(root, envelope)
    return decode_peer_message(plaintext, envelope.direction)


def _forge(world: World, plaintext: bytes, direction: PeerDirection = PeerDirection.FROM_SENDER) -> bytes:
    """An envelope that the other end of the current root could have made."""
    root = next(one for one in world.alice.store.roots.values() if one.role is Role.SENDER)
    channel = Channel(REALM, ALICE, BOB, root.batch, direction)
    return channel.seal(root.root, world.random(), plaintext).to_bytes()


def _forwarded(sender: KmeName, envelope: bytes) -> traffic.FromHub:
    return traffic.FromHub(HUBS[0], 1, messages.Forwarded(sender, envelope))


def _flags(end: End, role: Role) -> list[tuple[bool, bool]]:
    return [(one.sent, one.received) for one in end.store.roots.values() if one.role is role]


# ── roots ───────────────────────────────────────────────────────────────────────────────────────
def test_the_answer_to_a_control_batch_is_sealed_under_the_root_it_made() -> None:
    world = World()
    batch = world.make_root()
    (letter,) = world.letters
    assert Envelope.from_bytes(letter.envelope).root == batch
    assert _open(world, letter) == Ok((batch,))
    assert world.alice.machine.has_root(Role.SENDER, BOB)
    assert not world.bob.machine.has_root(Role.RECEIVER, ALICE)
    world.carry(letter)
    assert world.bob.machine.has_root(Role.RECEIVER, ALICE)
    assert world.bob.told(Answered) == [Answered(ALICE, batch, ok=True)]
    assert world.bob.told(RootReady) == [RootReady(Role.RECEIVER, ALICE)]
    assert _flags(world.alice, Role.SENDER) == [(True, False)]
    assert _flags(world.bob, Role.RECEIVER) == [(False, True)]
    world.carry(letter)
    assert world.bob.told(RootReady) == []


def test_a_receiver_without_that_answer_answers_nothing() -> None:
    world = World()
    world.make_root()
    world.lose_all()
    world.establish(8)
    world.alice.do(asking())
    world.carry_all()
    assert world.bob.told(KeysRecorded)
    assert world.alice.told(Deliverable) == []
    world.alice.do(AnswerBatch(BOB, next(iter(world.alice.store.roots))[2], ok=True))
    world.pass_time(1)
    world.carry_all()
    assert world.alice.told(Deliverable)


def test_a_lost_answer_is_made_again_under_the_same_root_when_the_confirm_is_repeated() -> None:
    world = World()
    batch = world.make_root()
    world.lose_all()
    world.alice.do(AnswerBatch(BOB, batch, ok=True))
    world.carry_all()
    assert world.bob.machine.has_root(Role.RECEIVER, ALICE)


def test_both_ends_drop_the_previous_root_once_the_new_one_was_used_both_ways(world: World) -> None:
    old = next(iter(world.alice.store.roots))[2]
    new = world.make_root()
    assert {batch for _, _, batch in world.alice.store.roots} == {old, new}
    world.carry_all()
    world.alice.do(asking())
    world.carry_all()
    assert [batch for _, _, batch in world.alice.store.roots] == [new]
    assert [batch for _, _, batch in world.bob.store.roots] == [new]
    assert world.alice.told(Deliverable)


def test_while_the_answer_of_a_new_root_is_lost_the_previous_one_still_answers(world: World) -> None:
    world.make_root()
    world.lose_all()
    world.alice.do(asking())
    world.carry_all()
    assert world.alice.told(Deliverable)


def test_a_root_is_wanted_at_its_age_and_again_after_a_while(world: World) -> None:
    world.pass_time(limits.ROOT_SECONDS - 1)
    assert world.alice.told(RootWanted) == []
    world.pass_time(1)
    assert world.alice.told(RootWanted) == [RootWanted(BOB)]
    world.pass_time(limits.ROOT_RETRY_SECONDS)
    assert world.alice.told(RootWanted) == [RootWanted(BOB)]
    assert world.bob.told(RootWanted) == []


def test_after_a_start_another_root_is_wanted_and_the_stored_one_works(world: World) -> None:
    world.restart_alice()
    world.pass_time(0)
    assert world.alice.told(RootWanted) == [RootWanted(BOB)]
    world.establish(8, batch=2)
    world.alice.do(asking(keys=(key_range(batch=2),)))
    world.carry_all()
    assert world.alice.told(Deliverable)


def test_without_a_root_nothing_is_offered_and_one_is_wanted() -> None:
    world = World()
    world.establish(8)
    world.alice.do(asking())
    assert world.alice.told(NotOffered) == [NotOffered(BOB, request_id(1), codes.NO_COMMON_ROOT)]
    assert not world.alice.store.offered
    world.pass_time(0)
    assert world.alice.told(RootWanted) == [RootWanted(BOB)]


def test_a_restored_receiver_that_lost_the_root_makes_the_sender_want_another(world: World) -> None:
    """Bob is restored to before the control batch: what Alice seals, he cannot open."""
    older = world.bob.store.snapshot()
    older.roots.clear()
    world.restart_bob(older)
    world.alice.do(asking())
    world.carry_all()
    assert world.bob.told(EnvelopeDropped)[0].code is codes.NO_COMMON_ROOT
    world.pass_time(limits.ROOT_DOUBT_SECONDS)
    world.lose_all()
    assert world.alice.told(RootWanted) == [RootWanted(BOB)]
    world.make_root()
    world.carry_all()
    world.pass_time(limits.PEER_RESEND_SECONDS_MAX)
    world.carry_all()
    assert not world.alice.store.queued


def test_a_control_batch_that_the_sender_voids_makes_no_root(world: World) -> None:
    world.make_root()
    world.lose_all()
    candidate = list(world.bob.store.roots)[-1][2]
    world.bob.do(_forwarded(ALICE, _forge(world, encode_peer_message(Void((candidate,))))))
    assert (Role.RECEIVER, ALICE, candidate) not in world.bob.store.roots
    assert world.bob.told(Answered)[-1] == Answered(ALICE, candidate, ok=False)


def test_a_root_that_was_answered_is_not_taken_back_by_a_void(world: World) -> None:
    batch = next(iter(world.bob.store.roots))[2]
    world.bob.do(_forwarded(ALICE, _forge(world, encode_peer_message(Void((batch,))))))
    assert (Role.RECEIVER, ALICE, batch) in world.bob.store.roots


# ── answers to CONFIRMs ─────────────────────────────────────────────────────────────────────────
def test_answers_that_are_due_together_travel_together(world: World) -> None:
    for counter in (5, 3, 4):
        world.alice.do(AnswerBatch(BOB, batch_id(counter), ok=counter != 4))
    assert world.letters == []
    world.pass_time(limits.ANSWER_GATHER_SECONDS)
    assert [_open(world, letter) for letter in world.letters] == [
        Ok((batch_id(3), batch_id(5))),
        Void((batch_id(4),)),
    ]
    world.carry_all()
    assert world.bob.told(Answered)[-3:] == [
        Answered(ALICE, batch_id(3), ok=True),
        Answered(ALICE, batch_id(5), ok=True),
        Answered(ALICE, batch_id(4), ok=False),
    ]


def test_a_full_message_of_answers_waits_no_longer(world: World) -> None:
    for counter in range(limits.PEER_RANGES):
        world.alice.do(AnswerBatch(BOB, batch_id(counter), ok=False))
    world.pass_time(0)
    (letter,) = world.letters
    answer = _open(world, letter)
    assert isinstance(answer, Void)
    assert len(answer.batches) == limits.PEER_RANGES


def test_answers_take_turns_through_the_hubs(world: World) -> None:
    for counter in range(len(HUBS)):
        world.alice.do(AnswerBatch(BOB, batch_id(counter), ok=True))
        world.pass_time(1)
    assert {letter.hub for letter in world.letters} == set(HUBS)


def test_an_answer_without_root_or_hub_is_left_to_the_next_confirm() -> None:
    world = World()
    world.alice.do(AnswerBatch(BOB, batch_id(1), ok=True))
    world.pass_time(1)
    assert world.letters == []
    world.ready()
    for hub in HUBS:
        world.alice.do(traffic.HubDown(hub))
    world.alice.do(AnswerBatch(BOB, batch_id(1), ok=True))
    world.pass_time(1)
    assert world.letters == []


def test_a_void_of_the_batch_takes_its_keys_unless_it_was_answered_before() -> None:
    world = World().ready()
    world.establish(4, batch=2, answered=False)
    void = encode_peer_message(Void((batch_id(1), batch_id(2))))
    world.bob.do(_forwarded(ALICE, _forge(world, void)))
    world.alice.do(asking(1, (key_range(batch=2),)))
    world.alice.do(asking(2, (key_range(batch=1),)))
    world.carry_all()
    assert [one.request for one in world.alice.told(Deliverable)] == [request_id(2)]
    assert world.alice.told(AssignmentEnded)[0].code is codes.KEY_NOT_HELD


# ── hubs that forge, replay, redirect ───────────────────────────────────────────────────────────
def _assert_dropped(world: World, end: End, code: object) -> None:
    (dropped,) = end.told(EnvelopeDropped)
    assert dropped.code is code
    assert world.letters == []


def test_an_envelope_under_an_unknown_root_is_counted_and_never_answered(world: World) -> None:
    (letter,) = world.alice.do(asking())
    envelope = Envelope.from_bytes(letter.envelope)
    world.lose_all()
    world.bob.do(_forwarded(ALICE, replace(envelope, root=batch_id(99)).to_bytes()))
    _assert_dropped(world, world.bob, codes.NO_COMMON_ROOT)


def test_a_hub_that_turns_an_envelope_round_is_counted_and_never_answered(world: World) -> None:
    (letter,) = world.alice.do(asking())
    envelope = Envelope.from_bytes(letter.envelope)
    world.lose_all()
    turned = replace(envelope, direction=PeerDirection.FROM_RECEIVER)
    world.alice.do(_forwarded(BOB, turned.to_bytes()))
    _assert_dropped(world, world.alice, codes.PEER_MESSAGE_INVALID)
    world.bob.do(_forwarded(ALICE, turned.to_bytes()))
    _assert_dropped(world, world.bob, codes.NO_COMMON_ROOT)


def test_a_hub_that_reflects_an_envelope_to_its_sender_gains_nothing(world: World) -> None:
    (letter,) = world.alice.do(asking())
    world.lose_all()
    world.alice.do(_forwarded(BOB, letter.envelope))
    _assert_dropped(world, world.alice, codes.NO_COMMON_ROOT)


def test_a_hub_that_names_another_sender_gains_nothing(world: World) -> None:
    (letter,) = world.alice.do(asking())
    world.lose_all()
    world.bob.do(_forwarded(KmeName("mallory"), letter.envelope))
    _assert_dropped(world, world.bob, codes.NO_COMMON_ROOT)


def test_a_hub_that_flips_a_bit_is_counted_and_never_answered(world: World) -> None:
    (letter,) = world.alice.do(asking())
    world.lose_all()
    changed = letter.envelope[:-1] + bytes((letter.envelope[-1] ^ 1,))
    world.bob.do(_forwarded(ALICE, changed))
    _assert_dropped(world, world.bob, codes.PEER_MESSAGE_INVALID)


def test_what_is_no_envelope_is_counted(world: World) -> None:
    world.bob.do(_forwarded(ALICE, b"\xff"))
    _assert_dropped(world, world.bob, codes.BODY_MALFORMED)


def test_a_message_that_only_the_other_end_may_send_is_counted(world: World) -> None:
    assign = Assign(
        request_id(1),
        (key_range(),),
        asking().master,
        (SLAVE,),
        "tls",
        60,
        world.alice.incarnation,
        world.bob.incarnation,
        1,
    )
    forged = _forge(world, encode_peer_message(assign), PeerDirection.FROM_RECEIVER)
    world.alice.do(_forwarded(BOB, forged))
    _assert_dropped(world, world.alice, codes.BODY_WRONG_WAY)


def test_a_message_newer_than_this_version_is_counted(world: World) -> None:
    world.bob.do(_forwarded(ALICE, _forge(world, encode([99]))))
    _assert_dropped(world, world.bob, codes.REQUEST_UNKNOWN)


def test_a_link_message_that_is_no_peer_message_is_a_bug(world: World) -> None:
    with pytest.raises(LocalBug):
        world.bob.do(traffic.FromHub(HUBS[0], 1, messages.Done(1)))


def test_a_replayed_assign_is_answered_through_the_replaying_hub_only(world: World) -> None:
    (letter,) = world.alice.do(asking())
    world.carry_all()
    world.alice.do(delivering())
    for _ in range(3):
        (answer,) = world.carry(letter, hub=HUBS[4])
        assert answer.hub == HUBS[4]
    world.carry_all()
    assert len(world.bob.store.assigned) == 1
    assert len(world.alice.told(Deliverable)) == 1
    assert len(world.alice.store.delivered) == 1


def test_an_answer_takes_another_hub_when_the_one_that_asked_is_gone(world: World) -> None:
    (letter,) = world.alice.do(asking())
    world.bob.do(traffic.HubDown(letter.hub))
    (answer,) = world.carry(letter)
    assert answer.hub != letter.hub


def test_an_end_that_lost_every_hub_answers_nothing(world: World) -> None:
    (letter,) = world.alice.do(asking())
    for hub in HUBS:
        world.bob.do(traffic.HubDown(hub))
    assert world.carry(letter) == []


def test_an_old_assigned_that_a_hub_kept_back_renews_nothing(world: World) -> None:
    (first,) = world.alice.do(asking(ahead=True))
    (kept_back,) = world.carry(first)
    world.carry(kept_back)
    world.pass_time(limits.ASSIGN_HOLD_SECONDS / 2)
    world.lose_all()
    world.alice.told(Deliverable)
    world.carry(kept_back)
    assert world.alice.told(Deliverable) == []
    world.pass_time(limits.ASSIGN_HOLD_SECONDS / 2)
    world.alice.do(delivering())
    assert world.alice.told(Delivered) == []


# ── ASSIGN ──────────────────────────────────────────────────────────────────────────────────────
def test_a_key_is_assigned_then_delivered(world: World) -> None:
    world.alice.do(asking())
    world.carry_all()
    (deliverable,) = world.alice.told(Deliverable)
    assert deliverable.until == world.now + limits.ASSIGN_HOLD_SECONDS
    assert world.bob.machine.assignee.may_take(ALICE, batch_id(1), 0, SLAVE)
    world.alice.do(delivering())
    assert world.alice.told(Delivered)
    assert world.alice.machine.assigner.state(BOB, request_id(1)) is None


def test_two_hubs_that_swallow_everything_cost_two_attempts(world: World) -> None:
    world.alice.do(asking())
    swallowed = []
    for _ in range(2):
        swallowed += [letter.hub for letter in world.lose_all()]
        world.pass_time(limits.PEER_RESEND_SECONDS)
    world.carry_all()
    assert len(set(swallowed)) == 2
    assert world.alice.told(Deliverable)


def test_a_hub_that_refuses_is_followed_by_the_next_at_once(world: World) -> None:
    (letter,) = world.alice.do(asking())
    (other,) = world.alice.do(traffic.AnsweredByHub(letter.hub, letter.token, int(Refusal.RECEIVER_ABSENT)))
    assert other.hub != letter.hub
    world.carry(other)
    world.carry_all()
    assert world.alice.told(Deliverable)


def test_a_hubs_answer_that_is_no_refusal_or_to_no_request_changes_nothing(world: World) -> None:
    (letter,) = world.alice.do(asking())
    assert world.alice.do(traffic.AnsweredByHub(letter.hub, letter.token, None)) == []
    assert world.alice.do(traffic.AnsweredByHub(letter.hub, None, int(Refusal.BUSY))) == []


def test_an_unanswered_assign_is_void_at_both_ends(world: World) -> None:
    world.alice.do(asking())
    letters = list(world.letters)
    world.pass_time(limits.ASSIGN_SECONDS)
    (ended,) = world.alice.told(AssignmentEnded)
    assert ended.code is codes.ASSIGN_UNANSWERED
    world.carry(letters[0])
    assert world.bob.told(KeysRecorded)
    world.carry_all()
    assert world.bob.told(KeysLost)
    assert not world.bob.machine.assignee.may_take(ALICE, batch_id(1), 0, SLAVE)
    assert world.alice.told(ControlArrived) == [ControlArrived(BOB, request_id(1))]
    assert not world.alice.store.queued


def test_a_restored_receiver_stops_the_delivery_of_a_block(world: World) -> None:
    """Bob is restored to before he recorded the block: his answer names another incarnation."""
    older = world.bob.store.snapshot()
    world.alice.do(asking(keys=(key_range(0, 8),), ahead=True))
    world.carry_all()
    world.restart_bob(older)
    world.pass_time(limits.ASSIGN_HOLD_SECONDS / 2)
    world.carry_all()
    (ended,) = world.alice.told(AssignmentEnded)
    assert ended.code is codes.INCARNATION_CHANGED
    world.alice.do(delivering())
    assert world.alice.told(NotDelivered)
    assert not world.bob.store.assigned


def test_a_restored_sender_cannot_deliver_what_it_delivered_before(world: World) -> None:
    """Alice is restored to before she delivered: her store says offered, so the keys are void."""
    world.alice.do(asking())
    older = world.alice.store.snapshot()
    world.carry_all()
    world.alice.do(delivering())
    world.restart_alice(older)
    world.alice.do(delivering())
    assert world.alice.told(NotDelivered)
    assert world.alice.store.delivered == []


def test_a_sender_restored_to_before_the_offer_cannot_assign_the_key_again(world: World) -> None:
    older = world.alice.store.snapshot()
    world.alice.do(asking())
    world.carry_all()
    world.alice.do(delivering())
    world.restart_alice(older)
    world.alice.do(asking(2))
    world.carry_all()
    (ended,) = world.alice.told(AssignmentEnded)
    assert ended.code is codes.KEY_ASSIGNED
    assert world.alice.store.delivered == []


def test_a_void_by_a_restarted_sender_is_repeated_until_the_hold_is_over(world: World) -> None:
    world.alice.do(asking(keys=(key_range(0, 8),), ahead=True))
    world.carry_all()
    world.restart_alice()
    recorded_at = world.now
    while world.now < recorded_at + HELD_FOR - 1:
        world.carry_all()
        world.pass_time(1)
    assert world.bob.machine.assignee.may_take(ALICE, batch_id(1), 0, SLAVE)
    assert world.alice.store.queued
    for _ in range(limits.PEER_RESEND_SECONDS_MAX):
        world.pass_time(1)
        world.carry_all()
    assert not world.bob.machine.assignee.may_take(ALICE, batch_id(1), 0, SLAVE)
    assert not world.alice.store.queued


def test_an_assignment_survives_a_restart_of_the_receiver(world: World) -> None:
    world.alice.do(asking())
    world.carry_all()
    world.alice.do(delivering())
    world.restart_bob()
    assert world.bob.machine.assignee.may_take(ALICE, batch_id(1), 0, SLAVE)
    world.bob.do(KeysGone(ALICE, (key_range(),)))
    assert not world.bob.machine.assignee.may_take(ALICE, batch_id(1), 0, SLAVE)


# ── what must arrive ────────────────────────────────────────────────────────────────────────────
def test_a_control_message_is_sealed_anew_through_another_hub_at_each_attempt(world: World) -> None:
    world.alice.do(asking())
    world.carry_all()
    world.alice.do(Release(BOB, request_id(1)))
    world.pass_time(30)
    letters = world.lose_all()
    assert len(letters) == 5
    assert {letter.hub for letter in letters} == set(HUBS)
    assert len({letter.envelope for letter in letters}) == len(letters)


def test_a_control_message_survives_a_restart_until_it_is_done(world: World) -> None:
    world.alice.do(asking())
    world.carry_all()
    world.alice.do(Release(BOB, request_id(1)))
    world.lose_all()
    world.restart_alice()
    world.carry_all()
    assert world.bob.told(KeysLost)
    assert not world.alice.store.queued


def test_a_control_message_that_a_hub_refuses_takes_the_next(world: World) -> None:
    world.alice.do(asking())
    world.carry_all()
    (letter,) = world.alice.do(Release(BOB, request_id(1)))
    for _ in HUBS[1:]:
        (letter,) = world.alice.do(traffic.AnsweredByHub(letter.hub, letter.token, int(Refusal.PAD_FLOOR)))
    refused = traffic.AnsweredByHub(letter.hub, letter.token, int(Refusal.PAD_FLOOR))
    assert world.alice.do(refused) == []


def test_a_control_message_waits_for_a_hub_and_leaves_with_the_first(world: World) -> None:
    world.alice.do(asking())
    world.carry_all()
    for hub in HUBS:
        world.alice.do(traffic.HubDown(hub))
    assert world.alice.do(Release(BOB, request_id(1))) == []
    world.pass_time(100)
    assert len(world.alice.do(traffic.HubUp(HUBS[2]))) == 1
    assert world.alice.do(traffic.HubUp(HUBS[3])) == []


def test_a_control_message_waits_for_a_root_and_leaves_with_the_first() -> None:
    world = World()
    revoke = RevokeKeys(Role.SENDER, BOB, request_id(5), RevokeReason.KEY_COMPROMISE, None)
    assert world.alice.do(revoke) == []
    world.pass_time(1)
    assert world.alice.told(RootWanted) == [RootWanted(BOB)]
    world.make_root()
    assert len(world.letters) == 2
    world.carry_all()
    world.pass_time(limits.PEER_RESEND_SECONDS)
    world.carry_all()
    assert world.alice.told(ControlArrived) == [ControlArrived(BOB, request_id(5))]


# ── revocation ──────────────────────────────────────────────────────────────────────────────────
def test_a_revocation_by_the_sender_drops_keys_at_both_ends(world: World) -> None:
    world.alice.do(asking(keys=(key_range(0, 2),)))
    world.carry_all()
    revoke = RevokeKeys(Role.SENDER, BOB, request_id(5), RevokeReason.KEY_COMPROMISE, (key_range(0, 4),))
    world.alice.do(revoke)
    world.carry_all()
    assert world.alice.told(AssignmentEnded)[0].code is codes.KEY_REVOKED
    for end, role, by_peer in ((world.alice, Role.SENDER, False), (world.bob, Role.RECEIVER, True)):
        assert end.told(Revoked) == [
            Revoked(role, end.peer, (key_range(0, 4),), RevokeReason.KEY_COMPROMISE, by_peer=by_peer)
        ]
        assert end.store.kept[role].ranges() == (key_range(4, 4),)
    assert not world.bob.machine.assignee.may_take(ALICE, batch_id(1), 0, SLAVE)
    assert not world.alice.store.queued


def test_a_revocation_by_the_receiver_stops_delivery_at_the_sender(world: World) -> None:
    world.alice.do(asking(keys=(key_range(0, 2),)))
    world.carry_all()
    revoke = RevokeKeys(Role.RECEIVER, ALICE, request_id(5), RevokeReason.ROLLBACK, None)
    world.bob.do(revoke)
    world.carry_all()
    world.alice.do(delivering())
    assert world.alice.told(Delivered) == []
    assert world.alice.store.kept[Role.SENDER].ranges() == ()
    assert world.bob.told(ControlArrived) == [ControlArrived(ALICE, request_id(5))]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_replayed_revocation_of_all_revokes_no_newer_keys(world: World, restarted: bool) -> None:
    """A hub keeps the envelope of an old revocation and sends it once new keys are there."""
    (letter,) = world.alice.do(RevokeKeys(Role.SENDER, BOB, request_id(5), RevokeReason.KEY_COMPROMISE, None))
    world.carry_all()
    world.establish(8, batch=2)
    if restarted:
        world.restart_bob()
    world.bob.told(Revoked)
    (done,) = world.carry(letter)
    world.carry(done)
    assert world.bob.told(Revoked) == []
    assert world.bob.store.kept[Role.RECEIVER].ranges() == (key_range(0, 8, batch=2),)


def test_remembered_revocations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REVOCATIONS_REMEMBERED", 1)
    world = World().ready()
    letters = []
    for number in (5, 6):
        revoke = RevokeKeys(Role.SENDER, BOB, request_id(number), RevokeReason.KEY_COMPROMISE, None)
        letters += world.alice.do(revoke)
        world.carry_all()
    world.bob.told(Revoked)
    for letter, times in zip(letters, (1, 1), strict=True):
        world.carry(letter)
        assert len(world.bob.told(Revoked)) == times


def test_a_revocation_commits_erasure_and_message_in_one_set(world: World) -> None:
    sets: list[tuple[object, ...]] = []
    world.on_commit = lambda _, persist: sets.append(persist)
    world.alice.do(RevokeKeys(Role.SENDER, BOB, request_id(5), RevokeReason.KEY_COMPROMISE, None))
    (only,) = [one for one in sets if one]
    assert AllKeysVoided(Role.SENDER, BOB) in only
    assert [type(change).__name__ for change in only] == [
        "KeysRevoked",
        "AllKeysVoided",
        "ControlQueued",
    ]


def test_the_use_of_a_root_is_durable_before_the_message_leaves() -> None:
    world = World()
    sets: list[tuple[object, ...]] = []
    world.on_commit = lambda _, persist: sets.append(persist)
    world.make_root()
    (kept,) = [change for one in sets for change in one]
    assert isinstance(kept, RootKept)
    assert kept.sent


def test_nothing_secret_shows_in_what_the_machine_says(world: World) -> None:
    root = next(iter(world.alice.store.roots.values())).root.expose()
    effects = world.alice.machine.handle(asking(), world.now)
    assert root.hex() not in repr(effects)
    assert repr(root)[2:-1] not in repr(effects)
