"""Records, answers and endings of a link, between two production ends and whoever sits between them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulation.link_pair import LINK, Joined, LinkPair, Side
from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug, PeerFault, Refused, StoreFault
from skex.base.ids import Direction, KmeName, LinkId
from skex.crypto import mac
from skex.pad.kinds import PadKind
from skex.protocol.changes import PeerSeen
from skex.protocol.link import Answered, Link, Send
from skex.protocol.session import ConnectionLost, GrantsFailed, GrantsTaken, Received
from skex.wire import messages
from skex.wire.codec import encode
from skex.wire.record import RecordHeader
from tests.unit.protocol.link_support import (
    BOTH,
    KINDS,
    code_of,
    connected,
    exchange,
    failure_of,
    held,
    table_material,
    tell,
    tell_message,
    wiped,
)

HEADER = limits.RECORD_HEADER_BYTES


def link_of(side: Side) -> Link:
    link = side.connection.link
    assert link is not None
    return link


def record_under_way(joined: Joined, way: Direction) -> int:
    """Let one record wait on the cable; returns its length."""
    sender = joined.side(way)
    message = messages.GetRealm() if way is Direction.TO_HUB else messages.RealmFile(b"realm")
    sender.send(message)
    sender.run()
    return joined.cable.waiting(way)


# ── what an undisturbed link does ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", KINDS)
def test_messages_arrive_in_order_and_answers_find_their_requests(kind: PadKind) -> None:
    _, joined = connected(kind)
    for number in range(5):
        joined.kme.send(messages.Peer(KmeName("bob"), b"%d" % number), token=number)
    joined.run()
    envelopes = [message.envelope for message in joined.hub.messages if isinstance(message, messages.Peer)]
    assert envelopes == [b"0", b"1", b"2", b"3", b"4"]
    ordinals = [arrived.ordinal for arrived in joined.hub.arrived]
    joined.hub.send(messages.Refuse(ordinals[3], messages.Refusal.RECEIVER_ABSENT))
    joined.hub.send(messages.Done(ordinals[1]))
    joined.run()
    assert joined.kme.answered == [Answered(3, messages.Refusal.RECEIVER_ABSENT), Answered(1, None)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", BOTH)
def test_both_ends_count_the_pad_bytes_of_a_record_alike(kind: PadKind, way: Direction) -> None:
    _, joined = connected(kind)
    sender, receiver = link_of(joined.side(way)), link_of(joined.side(way.opposite))
    before = sender.pad_used(way)
    length = record_under_way(joined, way)
    assert sender.pad_used(way) - before == length - HEADER
    assert receiver.pad_used(way) == before
    joined.run()
    assert receiver.pad_used(way) == sender.pad_used(way)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", BOTH)
def test_records_arriving_byte_by_byte_make_no_difference(kind: PadKind, way: Direction) -> None:
    _, joined = connected(kind)
    length = record_under_way(joined, way)
    receiver = joined.side(way.opposite)
    for _ in range(length - 1):
        receiver.deliver(1)
    receiver.run()
    assert not receiver.arrived
    receiver.deliver(1)
    receiver.run()
    assert len(receiver.arrived) == 1


def test_record_is_sealed_as_specified() -> None:
    pair, joined = connected(PadKind.TABLE)
    material = link_of(joined.hub)._receive._grants[0]
    r, pad = material.r, bytes(material._data)  # type: ignore[attr-defined]  # what the port hides
    joined.kme.send(messages.GetRealm())
    joined.kme.run()
    record = joined.cable.take(Direction.TO_HUB)
    body = bytes([0x81, 0x08])
    header = RecordHeader(Direction.TO_HUB, 2, LINK, 0, 16).pack()
    ciphertext = bytes(left ^ right for left, right in zip(body, pad[32:34], strict=True))
    assert record == header + ciphertext + mac.record_tag(r, pad[16:32], header + ciphertext)
    assert pair.ledger.records == 1


def test_largest_body_crosses_on_one_record() -> None:
    _, joined = connected(PadKind.DERIVED)
    body = encode([999, bytes(limits.BODY_BYTES - 7)])
    assert len(body) == limits.BODY_BYTES
    tell(joined.kme, body)
    joined.run()
    exchange(joined)


def test_body_that_is_too_large_is_a_bug_and_never_sealed() -> None:
    pair, joined = connected(PadKind.DERIVED)
    joined.hub.send(messages.RealmFile(bytes(limits.BODY_BYTES)))
    joined.hub.run()
    assert isinstance(joined.hub.error, LocalBug)
    assert pair.ledger.records == 0


# ── what a network can do ───────────────────────────────────────────────────────────────────────
def expected_codes(at: int) -> set[ErrorCode]:
    """With which code a changed byte of a record is noticed, by its place (mask 2)."""
    fields = [
        (1, codes.RECORD_VERSION),
        (4, codes.RECORD_HEADER),
        (8, codes.RECORD_LENGTH),
        (16, codes.RECORD_HEADER),
        (24, codes.RECORD_POSITION),
    ]
    code = next((code for end, code in fields if at < end), codes.RECORD_TAG)
    # A length that is possible all the same is noticed by the tag.
    return {code, codes.RECORD_TAG} if code is codes.RECORD_LENGTH else {code}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", BOTH)
def test_any_changed_byte_of_a_record_ends_the_connection_with_nothing_persisted_or_sent(
    kind: PadKind, way: Direction
) -> None:
    length = record_under_way(connected(kind)[1], way)
    for at in range(length):
        _, joined = connected(kind)
        assert record_under_way(joined, way) == length
        receiver = joined.side(way.opposite)
        materials = held(receiver)
        before, sent = receiver.host.store.marks, list(joined.cable.sent[receiver.outgoing])
        joined.cable.corrupt(way, at, mask=2)
        # A length that grew makes the receiver wait: the attacker has to send the rest.
        joined.cable.insert(way, bytes(1024))
        receiver.deliver()
        receiver.run()
        assert code_of(receiver) in expected_codes(at), at
        assert receiver.host.store.marks == before
        assert joined.cable.sent[receiver.outgoing] == sent
        assert not receiver.arrived
        assert all(wiped(*materials))


@pytest.mark.parametrize("way", BOTH)
def test_header_is_judged_before_the_body_is_awaited(way: Direction) -> None:
    _, joined = connected(PadKind.TABLE)
    record_under_way(joined, way)
    joined.cable.corrupt(way, 23)
    receiver = joined.side(way.opposite)
    receiver.deliver(HEADER - 1)
    receiver.run()
    assert receiver.error is None
    receiver.deliver(1)
    receiver.run()
    assert code_of(receiver) is codes.RECORD_POSITION


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"direction": Direction.TO_KME}, codes.RECORD_HEADER),
        ({"link_id": LinkId(b"another!")}, codes.RECORD_HEADER),
        ({"length": 0}, codes.RECORD_LENGTH),
        ({"length": limits.BODY_BYTES + 1}, codes.RECORD_LENGTH),
        ({"length": 2**32 - 1}, codes.RECORD_LENGTH),
        ({"length": 4096 - 16 - 16 + 1}, codes.RECORD_LENGTH),
        ({"grant": 1}, codes.RECORD_POSITION),
        ({"offset": 0}, codes.RECORD_POSITION),
        ({"offset": 17}, codes.RECORD_POSITION),
    ],
)
def test_header_that_claims_anything_else_is_refused_with_its_code(
    change: dict[str, object], code: ErrorCode
) -> None:
    _, joined = connected(PadKind.TABLE)
    header = replace(RecordHeader(Direction.TO_HUB, 2, LINK, 0, 16), **change)  # type: ignore[arg-type]  # a table of changes
    joined.cable.insert(Direction.TO_HUB, header.pack())
    joined.hub.deliver()
    joined.hub.run()
    assert code_of(joined.hub) is code


@pytest.mark.parametrize("way", BOTH)
def test_record_sent_twice_is_refused(way: Direction) -> None:
    """Attacker: a replay within the connection."""
    _, joined = connected(PadKind.DERIVED)
    record_under_way(joined, way)
    joined.cable.insert(way, joined.cable.sent[way][-1])
    receiver = joined.side(way.opposite)
    receiver.deliver()
    receiver.run()
    assert code_of(receiver) is codes.RECORD_POSITION


@pytest.mark.parametrize("way", BOTH)
def test_records_in_another_order_are_refused(way: Direction) -> None:
    _, joined = connected(PadKind.DERIVED)
    record_under_way(joined, way)
    first = joined.cable.take(way)
    record_under_way(joined, way)
    joined.cable.insert(way, first)
    receiver = joined.side(way.opposite)
    receiver.deliver()
    receiver.run()
    assert code_of(receiver) is codes.RECORD_POSITION
    assert not receiver.arrived


@pytest.mark.parametrize("way", BOTH)
def test_record_that_the_network_swallowed_is_missed(way: Direction) -> None:
    _, joined = connected(PadKind.DERIVED)
    record_under_way(joined, way)
    joined.cable.take(way)
    record_under_way(joined, way)
    receiver = joined.side(way.opposite)
    receiver.deliver()
    receiver.run()
    assert code_of(receiver) is codes.RECORD_POSITION


@pytest.mark.parametrize("way", BOTH)
def test_record_sent_back_to_its_sender_is_refused(way: Direction) -> None:
    """Attacker: reflection."""
    _, joined = connected(PadKind.DERIVED)
    record_under_way(joined, way)
    joined.cable.insert(way.opposite, joined.cable.take(way))
    sender = joined.side(way)
    sender.deliver()
    sender.run()
    assert code_of(sender) is codes.RECORD_HEADER


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", BOTH)
def test_record_of_an_older_connection_is_refused(kind: PadKind, way: Direction) -> None:
    """Attacker: replay across connections. On a derived link even the positions could be made to agree."""
    pair, old = connected(kind)
    record_under_way(old, way)
    stolen = old.cable.sent[way][-1]
    old.cut()
    new = pair.connect()
    new.cable.insert(way, stolen)
    receiver = new.side(way.opposite)
    receiver.deliver()
    receiver.run()
    assert code_of(receiver) is codes.RECORD_POSITION


def test_good_records_before_a_bad_one_in_the_same_bytes_are_dropped_with_it() -> None:
    _, joined = connected(PadKind.DERIVED)
    record_under_way(joined, Direction.TO_KME)
    before = joined.kme.host.store.marks
    joined.cable.insert(Direction.TO_KME, bytes(HEADER))
    joined.kme.deliver()
    joined.kme.run()
    assert code_of(joined.kme) is codes.RECORD_VERSION
    assert not joined.kme.arrived
    assert link_of(joined.kme)._out.take().empty
    assert joined.kme.host.store.marks == before


# ── what a lying end can do ─────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\xff", codes.BODY_MALFORMED),
        (b"\x81\x18\x08", codes.BODY_MALFORMED),  # not the shortest form
        (b"\x81\x08\x00", codes.BODY_MALFORMED),  # leftovers
        (b"\x08", codes.BODY_MALFORMED),
        (b"\x82\x02\x00", codes.BODY_RANGE),  # WANT of nothing
        (b"\x82\x03\x01", codes.BODY_WRONG_WAY),  # DONE from a KME
        (b"\x82\x0c\x41\x00", codes.BODY_WRONG_WAY),  # a realm file from a KME
    ],
)
def test_authentic_body_that_the_protocol_forbids_ends_the_connection(body: bytes, code: ErrorCode) -> None:
    _, joined = connected(PadKind.DERIVED)
    tell(joined.kme, body)
    joined.hub.deliver()
    joined.hub.run()
    assert code_of(joined.hub) is code


@pytest.mark.parametrize("way", BOTH)
def test_message_of_an_unknown_type_is_refused_by_its_ordinal_and_the_link_goes_on(way: Direction) -> None:
    _, joined = connected(PadKind.DERIVED)
    sender, receiver = joined.side(way), joined.side(way.opposite)
    exchange(joined)
    tell(sender, encode([999, b"from a later version"]))
    link = link_of(sender)
    link._requests._tokens[link._requests.sent] = "newer"
    receiver.deliver()
    receiver.run()
    sender.deliver()
    sender.run()
    assert sender.answered[-1] == Answered("newer", messages.Refusal.UNKNOWN_TYPE)
    exchange(joined)


@pytest.mark.parametrize("answer", [messages.Done(2), messages.Refuse(2, 1), messages.Refuse(2**64 - 1, 1)])
def test_answer_to_a_request_never_made_ends_the_connection(answer: messages.Done | messages.Refuse) -> None:
    _, joined = connected(PadKind.DERIVED)
    joined.kme.send(messages.GetRealm(), "only request")
    joined.run()
    tell_message(joined.hub, answer)
    joined.kme.deliver()
    joined.kme.run()
    assert code_of(joined.kme) is codes.BODY_RANGE
    assert not joined.kme.answered


def test_share_may_be_answered_twice_and_a_message_without_a_token_not_at_all() -> None:
    _, joined = connected(PadKind.DERIVED)
    joined.kme.send(messages.GetRealm(), "share")
    joined.kme.send(messages.GetRealm())
    joined.run()
    for answer in (messages.Done(1), messages.Refuse(1, messages.Refusal.BUSY), messages.Done(2)):
        joined.hub.send(answer)
    joined.run()
    assert joined.kme.answered == [Answered("share", None), Answered("share", messages.Refusal.BUSY)]


def test_requests_too_long_ago_are_not_matched_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWERABLE_REQUESTS", 2)
    _, joined = connected(PadKind.DERIVED)
    for token in ("first", "second", "third"):
        joined.kme.send(messages.GetRealm(), token)
    joined.run()
    for ordinal in (1, 2, 3):
        joined.hub.send(messages.Done(ordinal))
    joined.run()
    assert [answered.token for answered in joined.kme.answered] == ["second", "third"]


def test_refusal_of_a_code_that_this_version_does_not_know_is_passed_on() -> None:
    _, joined = connected(PadKind.DERIVED)
    joined.kme.send(messages.GetRealm(), "request")
    joined.run()
    joined.hub.send(messages.Refuse(1, 60_000))
    joined.run()
    assert joined.kme.answered == [Answered("request", 60_000)]


# ── what waits is bounded ───────────────────────────────────────────────────────────────────────
def starved() -> tuple[LinkPair, Joined]:
    """A table link whose KME waits for pad that does not come: nothing of the hub is carried out."""
    pair, joined = connected(PadKind.TABLE)
    joined.kme.send(messages.Peer(KmeName("bob"), bytes(8192)), "waiting")
    joined.kme.run()
    return pair, joined


def test_link_refuses_messages_once_too_many_bytes_wait() -> None:
    _, joined = starved()
    message, taken = messages.Peer(KmeName("bob"), bytes(20_000)), 0
    while not link_of(joined.kme).busy:
        joined.kme.send(message)
        taken += 1
    assert 20_000 * (taken - 1) <= limits.LINK_QUEUE_BYTES
    with pytest.raises(Refused) as refusal:
        joined.kme.send(message)
    assert refusal.value.code is codes.LINK_BUSY
    joined.kme.run()
    assert joined.kme.error is None


def test_link_refuses_messages_once_too_many_small_ones_wait() -> None:
    _, joined = starved()
    for _ in range(limits.LINK_QUEUE_MESSAGES - 1):
        joined.kme.send(messages.GetRealm())
    with pytest.raises(Refused) as refusal:
        joined.kme.send(messages.GetRealm())
    assert refusal.value.code is codes.LINK_BUSY


def test_end_that_asks_without_end_and_grants_no_pad_for_answers_loses_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Attacker: an enrolled hub that wants the KME's memory."""
    monkeypatch.setattr(limits, "LINK_QUEUE_MESSAGES", 64)
    _, joined = starved()
    for _ in range(limits.LINK_QUEUE_MESSAGES):
        tell(joined.hub, b"\x81\x19\x03\xe7")
    joined.kme.deliver()
    joined.kme.run()
    assert code_of(joined.kme) is codes.LINK_BUSY


# ── endings ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", KINDS)
def test_lost_connection_wipes_everything_and_later_events_change_nothing(kind: PadKind) -> None:
    _, joined = connected(kind)
    joined.kme.send(messages.GetRealm())
    link, materials = link_of(joined.kme), held(joined.kme)
    error = failure_of(link.handle(ConnectionLost(), 0.0))
    assert error.code is codes.CONNECTION_CLOSED
    assert all(wiped(*materials))
    assert link.closed
    assert link.handle(Received(b"late"), 0.0).empty
    late = table_material()
    assert link.handle(GrantsTaken((late,)), 0.0).empty
    assert wiped(late) == [True]
    assert link.next_deadline is None
    with pytest.raises(Refused) as refusal:
        link.handle(Send(messages.GetRealm()), 0.0)
    assert refusal.value.code is codes.LINK_DOWN


def test_replaced_connection_says_so() -> None:
    _, joined = connected(PadKind.DERIVED)
    error = failure_of(link_of(joined.hub).handle(ConnectionLost(codes.LINK_REPLACED), 0.0))
    assert isinstance(error, PeerFault)
    assert error.code is codes.LINK_REPLACED


def test_material_that_nobody_asked_for_is_a_bug_and_wiped() -> None:
    for way in BOTH:
        _, joined = connected(PadKind.TABLE)
        material = table_material(way)
        error = failure_of(link_of(joined.kme).handle(GrantsTaken((material,)), 0.0))
        assert isinstance(error, LocalBug)
        assert wiped(material) == [True]


@pytest.mark.parametrize("code", [codes.PAD_HOLE, codes.PAD_IO, codes.PAD_JUMP])
def test_pad_that_fails_while_a_grant_is_taken_ends_the_connection(code: ErrorCode) -> None:
    _, joined = connected(PadKind.DERIVED)
    effects = link_of(joined.kme).handle(GrantsFailed(StoreFault(code)), 0.0)
    assert failure_of(effects).code is code
    assert bool(effects.persist) == (code is codes.PAD_JUMP)


def test_newer_connection_replaces_the_older_at_both_ends() -> None:
    pair, old = connected(PadKind.TABLE)
    materials = held(old.kme) + held(old.hub)
    new = pair.connect()
    assert code_of(old.kme) is codes.LINK_REPLACED
    assert code_of(old.hub) is codes.LINK_REPLACED
    assert all(wiped(*materials))
    exchange(new)


def test_dial_that_proves_nothing_does_not_disturb_the_connection_that_stands() -> None:
    """Attacker: somebody who only knows the link's pseudonym."""
    pair, joined = connected(PadKind.TABLE)
    intruder = pair.dial()
    intruder.kme.stop()
    intruder.cable.insert(Direction.TO_HUB, joined.cable.sent[Direction.TO_HUB][0])
    intruder.hub.deliver()
    intruder.hub.run()
    intruder.cable.insert(Direction.TO_HUB, joined.cable.sent[Direction.TO_HUB][1])
    intruder.hub.deliver()
    intruder.hub.run()
    assert code_of(intruder.hub) is codes.PROOF_INVALID
    exchange(joined)


# ── what is seen of the other end ───────────────────────────────────────────────────────────────
def test_first_record_from_the_hub_proves_its_count_and_its_grant_once() -> None:
    pair, joined = connected(PadKind.TABLE)
    assert (pair.kme.marks.seen_to_kme, pair.kme.marks.seen_count) == (0, 0)
    link = link_of(joined.kme)
    joined.hub.send(messages.RealmFile(b"first"))
    joined.hub.run()
    effects = link.handle(Received(joined.cable.take(Direction.TO_KME)), 0.0)
    assert effects.persist == (PeerSeen(LINK, 1, 1, 1),)
    joined.hub.send(messages.RealmFile(b"second"))
    joined.hub.run()
    assert link.handle(Received(joined.cable.take(Direction.TO_KME)), 0.0).persist == ()


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────
def test_errors_and_reprs_of_a_link_show_no_message_and_no_material() -> None:
    _, joined = connected(PadKind.TABLE)
    secret = b"a very secret share"
    joined.kme.send(messages.Peer(KmeName("bob"), secret * 300), "token")
    link = link_of(joined.kme)
    shown = repr(link._waiting.first) + repr(link) + repr(link._session)
    assert "secret" not in shown
    tell(joined.hub, b"\x82\x0c" + b"\x59\x00\x13" + secret)
    joined.kme.deliver()
    joined.kme.run()
    assert "secret" not in str(joined.kme.error) + repr(joined.kme.error)
