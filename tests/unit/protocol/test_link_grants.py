"""How a link asks for pad, gives it, and goes on or ends when there is none left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulation.link_pair import LINK, NO_MARKS, LinkPair, Side
from skex.base import codes, limits
from skex.base.errors import Refused
from skex.base.ids import Direction, KmeName
from skex.pad.kinds import PadKind
from skex.protocol.changes import PeerSeen
from skex.protocol.flow import Waiting
from skex.protocol.link import Link, PadRefused, ReceiveState, SendState
from skex.protocol.session import GrantsTaken, Received, TakeGrant
from skex.wire import messages
from skex.wire.codec import encode
from skex.wire.preface import Stretch
from tests.unit.protocol.link_support import (
    BOTH,
    KINDS,
    code_of,
    connected,
    exchange,
    held,
    table_material,
    tell,
    tell_message,
    wiped,
)

UNIT = limits.TABLE_UNIT_BYTES
BOB = KmeName("bob")


def link_of(side: Side) -> Link:
    link = side.connection.link
    assert link is not None
    return link


def message(way: Direction, size: int) -> messages.Message:
    """A message of about this size that may go this way."""
    return messages.Peer(BOB, bytes(size)) if way is Direction.TO_HUB else messages.RealmFile(bytes(size))


def fill(side: Side, left: int) -> None:
    """Use the grant in use up to ``left`` bytes, with records that the other end opens."""
    flow = link_of(side)._send
    empty = len(messages.encode_message(message(side.outgoing, 1))) - 1
    while (surplus := flow.current.remaining - left) > 0:
        # Never so much that what remains could not be a record of its own; at most 3 bytes of CBOR length.
        size = min(surplus if surplus < 20_000 else 10_000, surplus) - 16 - empty
        body = next(
            candidate
            for candidate in (message(side.outgoing, size - extra) for extra in range(4))
            if surplus >= 20_000 or len(messages.encode_message(candidate)) == surplus - 16
        )
        tell_message(side, body)
    assert flow.current.remaining == left


def deliver(side: Side) -> None:
    side.deliver()
    side.run()


# ── asking and giving ───────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("way", BOTH)
def test_large_message_on_the_first_table_unit_asks_and_arrives(way: Direction) -> None:
    pair, joined = connected(PadKind.TABLE)
    sender, receiver = joined.side(way), joined.side(way.opposite)
    large = message(way, 20_000)
    sender.send(large, "large")
    sender.run()
    assert link_of(sender)._send_state.state is SendState.AWAITING_GRANT
    joined.run()
    assert receiver.messages == [large]
    assert link_of(sender)._send_state.state is SendState.OPEN
    for host in pair.hosts:
        assert (host.marks.to_hub if way is Direction.TO_HUB else host.marks.to_kme) == 33


def test_small_connection_costs_one_unit_each_way_and_no_more() -> None:
    pair, joined = connected(PadKind.TABLE)
    for _ in range(20):
        exchange(joined)
    assert (pair.kme.marks.to_hub, pair.kme.marks.to_kme) == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", BOTH)
def test_stream_of_messages_never_stalls_and_arrives_whole(kind: PadKind, way: Direction) -> None:
    pair, joined = connected(kind, units=2048)
    sender, receiver = joined.side(way), joined.side(way.opposite)
    for number in range(120):
        sender.send(message(way, 17_000 + number))
        joined.run()
        assert len(receiver.arrived) == number + 1
    assert receiver.messages == [message(way, 17_000 + number) for number in range(120)]
    assert pair.kme.marks.to_hub == pair.hub.marks.to_hub


def test_next_grant_is_asked_for_while_a_quarter_is_left() -> None:
    pair, joined = connected(PadKind.TABLE, units=256)
    joined.kme.send(message(Direction.TO_HUB, 20_000))
    joined.run()
    assert pair.kme.marks.to_hub == 33
    flow = link_of(joined.kme)._send
    while flow.ahead == 1:
        assert flow.current.remaining >= flow.current.size // 4
        joined.kme.send(message(Direction.TO_HUB, 4000))
        joined.run()
    assert pair.kme.marks.to_hub == 65
    assert flow.current.start == 1


def test_want_asks_for_everything_that_waits_and_the_grant_is_that_large() -> None:
    pair, joined = connected(PadKind.TABLE, units=512)
    for _ in range(20):
        joined.kme.send(message(Direction.TO_HUB, 20_000))
    joined.run()
    # The first message alone was asked for with the first WANT; the rest waited meanwhile.
    assert len(joined.hub.arrived) == 20
    assert pair.kme.marks.to_hub <= 1 + 32 + 128


def test_want_that_meets_a_grant_under_way_is_ignored_and_served_by_it() -> None:
    pair, joined = connected(PadKind.TABLE, units=256)
    for _ in range(3):
        tell_message(joined.kme, messages.Want(1))
    joined.run()
    assert joined.hub.error is None
    assert link_of(joined.kme)._send.ahead == 2
    assert pair.hub.marks.to_hub == 33


@pytest.mark.parametrize("way", BOTH)
def test_sender_without_room_to_ask_is_granted_unasked(way: Direction) -> None:
    _, joined = connected(PadKind.TABLE)
    sender, receiver = joined.side(way), joined.side(way.opposite)
    fill(sender, limits.GRANT_TAIL_BYTES)
    sender.send(message(way, 5000))
    assert link_of(sender)._want_ordinal == 0
    sender.run()
    joined.run()
    assert receiver.messages[-1] == message(way, 5000)


def test_two_directions_exhausted_at_once_free_each_other_from_their_tails() -> None:
    _, joined = connected(PadKind.TABLE)
    for side in joined.sides:
        fill(side, limits.GRANT_TAIL_BYTES)
    for side in joined.sides:
        side.send(message(side.outgoing, 6000))
        side.run()
        assert link_of(side)._send.current.remaining == limits.GRANT_TAIL_BYTES
    joined.run()
    for side in joined.sides:
        assert side.messages[-1] == message(side.outgoing.opposite, 6000)


def test_grant_goes_before_everything_else_that_waits() -> None:
    _, joined = connected(PadKind.TABLE)
    joined.kme.send(message(Direction.TO_HUB, 6000))
    joined.kme.run()
    assert len(link_of(joined.kme)._waiting) == 1
    fill(joined.hub, limits.GRANT_TAIL_BYTES)
    deliver(joined.kme)
    assert link_of(joined.kme)._receive.ahead == 2
    assert len(link_of(joined.kme)._waiting) == 1


def test_set_with_a_grant_each_way_is_taken_in_one_go() -> None:
    """A GRANT and a WANT in the same bytes: both directions take pad in one set."""
    _, joined = connected(PadKind.TABLE)
    joined.kme.send(message(Direction.TO_HUB, 6000))
    joined.kme.run()
    deliver(joined.hub)
    tell_message(joined.hub, messages.Want(1))
    effects = link_of(joined.kme).handle(Received(joined.cable.take(Direction.TO_KME)), 0.0)
    takes = [item for item in effects.persist if isinstance(item, TakeGrant)]
    assert [take.direction for take in takes] == [Direction.TO_HUB, Direction.TO_KME]
    materials = tuple(
        table_material(take.direction, take.stretch.start, take.stretch.count) for take in takes
    )
    effects = link_of(joined.kme).handle(GrantsTaken(materials), 0.0)
    assert len(effects.send) == 2
    assert link_of(joined.kme)._receive.ahead == 2


def test_grants_of_both_directions_announced_at_once_are_both_taken() -> None:
    _, joined = connected(PadKind.TABLE)
    for side in joined.sides:
        side.send(message(side.outgoing, 6000))
        side.run()
    for side in joined.sides:
        side.deliver()
    for side in joined.sides:
        side.run()
    joined.run()
    for side in joined.sides:
        assert len(side.messages) == 1


def test_announcement_proves_the_announcers_mark() -> None:
    _, joined = connected(PadKind.TABLE)
    tell_message(joined.hub, messages.Grant(5, 3))
    effects = link_of(joined.kme).handle(Received(joined.cable.take(Direction.TO_KME)), 0.0)
    take, seen = effects.persist[-2:]
    assert isinstance(take, TakeGrant)
    assert take.stretch == Stretch(5, 3)
    assert seen == PeerSeen(LINK, 8, 1, 1)


# ── announcements of a lying end ────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "grant",
    [
        messages.Grant(0, 1),  # used already
        messages.Grant(64, 1),  # beyond the pad
        messages.Grant(1, 64),
        messages.Grant(1, limits.TABLE_GRANT_UNITS_MAX + 1),
    ],
)
def test_grant_below_the_mark_beyond_the_pad_or_too_large_ends_the_connection(grant: messages.Grant) -> None:
    pair, joined = connected(PadKind.TABLE)
    tell_message(joined.hub, grant)
    deliver(joined.kme)
    assert code_of(joined.kme) is codes.GRANT_INVALID
    assert pair.kme.marks.to_hub == 1


def test_derived_grant_of_more_than_one_position_ends_the_connection() -> None:
    _, joined = connected(PadKind.DERIVED)
    tell_message(joined.hub, messages.Grant(1, 2))
    deliver(joined.kme)
    assert code_of(joined.kme) is codes.GRANT_INVALID


def test_derived_grant_too_far_ahead_freezes_the_link() -> None:
    pair, joined = connected(PadKind.DERIVED)
    tell_message(joined.hub, messages.Grant(limits.DERIVED_JUMP_STEPS + 2, 1))
    deliver(joined.kme)
    assert code_of(joined.kme) is codes.PAD_JUMP
    assert pair.kme.store.frozen == codes.PAD_JUMP.name
    assert pair.kme.marks.to_hub == 1


def test_more_grants_ahead_than_two_end_the_connection() -> None:
    _, joined = connected(PadKind.TABLE)
    tell_message(joined.hub, messages.Grant(1, 1))
    deliver(joined.kme)
    assert joined.kme.error is None
    tell_message(joined.hub, messages.Grant(2, 1))
    deliver(joined.kme)
    assert code_of(joined.kme) is codes.GRANT_INVALID


def test_second_grant_while_the_first_is_being_taken_ends_the_connection_and_wipes_it() -> None:
    pair, joined = connected(PadKind.TABLE)
    tell_message(joined.hub, messages.Grant(1, 1))
    joined.kme.deliver()
    tell_message(joined.hub, messages.Grant(2, 1))
    joined.kme.deliver()
    joined.kme.run()
    assert code_of(joined.kme) is codes.GRANT_INVALID
    # What was taken for the dead connection is lost, and its mark stands.
    assert pair.kme.marks.to_hub == 2


def test_moved_without_a_later_grant_changes_nothing() -> None:
    pair, joined = connected(PadKind.TABLE)
    tell_message(joined.kme, messages.Moved())
    joined.run()
    assert pair.hub.marks.to_hub == 1
    exchange(joined)


# ── pads that are used up ───────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("way", BOTH)
def test_sender_at_the_end_of_its_pad_is_refused_without_asking(way: Direction) -> None:
    pair, joined = connected(PadKind.TABLE, units=1)
    sender = joined.side(way)
    sender.send(message(way, 5000), "too large")
    assert sender.refused == []
    sender.run()
    assert sender.refused == [PadRefused(way, codes.PAD_EXHAUSTED)]
    assert link_of(sender)._send_state.state is SendState.EXHAUSTED
    assert pair.ledger.records == 0
    with pytest.raises(Refused) as refusal:
        sender.send(message(way, 5000))
    assert refusal.value.code is codes.PAD_EXHAUSTED
    exchange(joined)
    assert sender.error is None


def test_what_still_fits_is_sealed_when_the_pad_is_refused() -> None:
    _, joined = connected(PadKind.TABLE, units=33)
    joined.kme.send(message(Direction.TO_HUB, 20_000))
    joined.run()
    fill(joined.kme, 8000)
    joined.kme.send(message(Direction.TO_HUB, 9000))
    small = message(Direction.TO_HUB, 100)
    joined.kme.send(small)
    joined.run()
    assert joined.kme.refused == [PadRefused(Direction.TO_HUB, codes.PAD_EXHAUSTED)]
    assert joined.hub.messages[-1] == small


def test_want_of_an_end_that_does_not_know_the_pads_end_is_refused_and_drops_what_waits() -> None:
    """Another implementation, or a lying hub: REFUSE instead of a grant."""
    _, joined = connected(PadKind.TABLE)
    joined.kme.send(message(Direction.TO_HUB, 5000), "waits")
    small = message(Direction.TO_HUB, 10)
    joined.kme.send(small)
    joined.kme.run()
    joined.cable.take(Direction.TO_HUB)
    tell_message(joined.hub, messages.Refuse(1, messages.Refusal.BUSY))
    deliver(joined.kme)
    assert joined.kme.refused == [PadRefused(Direction.TO_HUB, codes.BUSY)]
    assert not link_of(joined.kme)._waiting
    assert joined.cable.waiting(Direction.TO_HUB) > 0


def test_late_refusal_of_a_want_that_was_granted_meanwhile_changes_nothing() -> None:
    _, joined = connected(PadKind.TABLE)
    joined.kme.send(message(Direction.TO_HUB, 5000))
    joined.run()
    tell_message(joined.hub, messages.Refuse(1, messages.Refusal.PAD_EXHAUSTED))
    deliver(joined.kme)
    assert not joined.kme.refused
    assert link_of(joined.kme)._send_state.state is SendState.OPEN


def test_hub_at_the_end_of_the_pad_refuses_a_want() -> None:
    _, joined = connected(PadKind.TABLE, units=1)
    tell_message(joined.kme, messages.Want(5000))
    link_of(joined.kme)._requests._tokens[1] = "want"
    joined.run()
    (answered,) = joined.kme.answered
    assert answered.refusal == messages.Refusal.PAD_EXHAUSTED


def test_grant_after_a_refusal_opens_the_direction_again() -> None:
    _, joined = connected(PadKind.TABLE)
    joined.kme.send(message(Direction.TO_HUB, 5000))
    joined.kme.run()
    joined.cable.take(Direction.TO_HUB)
    tell_message(joined.hub, messages.Refuse(1, messages.Refusal.BUSY))
    tell_message(joined.hub, messages.Grant(1, 32))
    deliver(joined.kme)
    assert link_of(joined.kme)._send_state.state is SendState.OPEN
    assert link_of(joined.kme)._send.ahead == 2


def test_used_up_direction_still_grants_from_its_tail_and_closes_when_that_is_gone() -> None:
    units = 512
    pair = LinkPair(PadKind.TABLE, units=units)
    for host in pair.hosts:
        host.store.marks = replace(NO_MARKS, to_kme=units - 1)
        host.crash()
    joined = pair.connect()
    fill(joined.hub, limits.GRANT_TAIL_BYTES)
    joined.run()
    granted = []
    while joined.hub.error is None:
        granted.append(pair.hub.marks.to_hub)
        flow = link_of(joined.kme)._send
        while flow.ahead > 1:
            flow._next()
        tell_message(joined.kme, messages.Want(1))
        joined.run()
    assert code_of(joined.hub) is codes.PAD_EXHAUSTED
    # The first grant came with the preface; a GRANT costs 16 bytes and a body of 6 or 7.
    assert len(granted) == 1 + 256 // 22
    assert granted == [1 + 32 * number for number in range(len(granted))]


def test_answer_that_does_not_fit_any_more_is_dropped_and_the_link_goes_on() -> None:
    _, joined = connected(PadKind.TABLE, units=1)
    joined.kme.send(message(Direction.TO_HUB, 5000))
    fill(joined.kme, limits.GRANT_TAIL_BYTES)
    tell(joined.hub, encode([999]))
    joined.run()
    assert joined.kme.error is None
    assert not link_of(joined.kme)._waiting


# ── the clock of derived grants ─────────────────────────────────────────────────────────────────
LATER = limits.DERIVED_GRANT_SECONDS


def test_derived_grant_is_replaced_ten_minutes_after_its_first_message_although_idle() -> None:
    pair, joined = connected(PadKind.DERIVED)
    exchange(joined)
    old = held(joined.kme) + held(joined.hub)
    for side in joined.sides:
        assert link_of(side).next_deadline == LATER
    pair.now = LATER - 0.1
    for side in joined.sides:
        side.tick()
    joined.run()
    assert not any(wiped(*old))
    pair.now = LATER
    for side in joined.sides:
        side.tick()
    joined.run()
    assert all(wiped(*old))
    for side in joined.sides:
        assert link_of(side).next_deadline is None
    assert (pair.kme.marks.to_hub, pair.kme.marks.to_kme) == (2, 2)
    exchange(joined)


def test_idle_link_is_never_given_a_deadline_by_its_own_control_messages() -> None:
    pair, joined = connected(PadKind.DERIVED)
    exchange(joined)
    for _ in range(5):
        pair.now += LATER
        for side in joined.sides:
            side.tick()
        joined.run()
    assert (pair.kme.marks.to_hub, pair.kme.marks.to_kme) == (2, 2)
    for side in joined.sides:
        assert link_of(side).next_deadline is None


@pytest.mark.parametrize("way", BOTH)
def test_tick_leaves_no_deadline_behind_while_the_grant_is_taken_announced_or_ignored(way: Direction) -> None:
    """Fault: a shell that ticks at a deadline in the past would spin."""
    pair, joined = connected(PadKind.DERIVED)
    exchange(joined)
    receiver = joined.side(way.opposite)
    pair.now = LATER
    receiver.tick()
    link = link_of(receiver)
    assert link._receive_state.state is ReceiveState.TAKING_GRANT
    assert link.next_deadline is None
    receiver.run()
    assert link.next_deadline is None
    joined.side(way).send(message(way, 10))
    assert link.next_deadline is None


def test_message_in_the_old_grant_after_the_new_one_was_announced_starts_no_clock_for_the_new_one() -> None:
    pair, joined = connected(PadKind.DERIVED)
    exchange(joined)
    pair.now = LATER
    joined.hub.tick()
    joined.hub.run()
    joined.kme.send(message(Direction.TO_HUB, 10))
    joined.kme.run()
    deliver(joined.hub)
    pair.now += 100
    joined.run()
    assert link_of(joined.hub).next_deadline is None
    joined.kme.send(message(Direction.TO_HUB, 10))
    joined.run()
    assert link_of(joined.hub).next_deadline == pair.now + LATER


def test_waiting_message_shows_the_move_so_no_other_is_needed() -> None:
    pair, joined = connected(PadKind.DERIVED)
    exchange(joined)
    pair.now = LATER
    joined.hub.tick()
    joined.hub.run()
    joined.kme.deliver()
    link = link_of(joined.kme)
    waiting = messages.encode_message(message(Direction.TO_HUB, 10))
    link._waiting.add(Waiting(waiting))
    sent = link._requests.sent
    joined.kme.run()
    assert link._requests.sent == sent + 1
    deliver(joined.hub)
    assert link_of(joined.hub)._receive.ahead == 1


def test_end_of_a_chain_is_no_busy_loop() -> None:
    _, joined = connected(PadKind.DERIVED)
    exchange(joined)
    link = link_of(joined.hub)
    link._marks = replace(link._marks, to_hub=limits.PAD_POSITION_MAX)
    joined.hub.host.pair.now = LATER
    joined.hub.tick()
    joined.hub.run()
    assert link.next_deadline is None
    assert joined.hub.error is None


def test_table_links_have_no_clock() -> None:
    _, joined = connected(PadKind.TABLE)
    exchange(joined)
    for side in joined.sides:
        assert link_of(side).next_deadline is None
        side.tick()
        side.run()
        assert side.error is None
