"""A link's sealed phase: records, grants, and the matching of answers to requests.

One machine for both ends; which one it is shows in the direction it seals. It ends with its
connection: material is wiped, nothing is repeated. It must not know what messages mean, except for
the three that steer grants and the two that answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, TypeAlias, assert_never

from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug, PeerFault, Refused, SkexError
from skex.base.ids import Direction, LinkId
from skex.crypto import mac
from skex.pad.kinds import PadKind
from skex.pad.material import R_BYTES, GrantMaterial
from skex.protocol.effects import Collector, Effects
from skex.protocol.flow import ReceiveFlow, SendFlow, Waiting, WaitingRecords, units_for
from skex.protocol.session import (
    ConnectionLost,
    Failed,
    GrantsFailed,
    GrantsTaken,
    LinkPersist,
    Received,
    Session,
    TakeGrant,
    check_stretch,
    failure,
    peer_seen,
    raise_seen,
    wipe_unused,
)
from skex.protocol.states import StateMachine, Table
from skex.protocol.traffic import Tick
from skex.wire import messages
from skex.wire.preface import Stretch
from skex.wire.record import RecordHeader

_HEADER: Final = limits.RECORD_HEADER_BYTES
_TAG: Final = limits.RECORD_TAG_BYTES


@dataclass(frozen=True, slots=True)
class Send:
    """Seal and send a message; ``token`` comes back with an answer to it."""

    message: messages.Message
    token: Hashable = None


@dataclass(frozen=True, slots=True)
class Arrived:
    """A verified message from the other end; ``ordinal`` names it in an answer."""

    ordinal: int
    message: messages.Message


@dataclass(frozen=True, slots=True)
class Answered:
    """The other end answered the request with ``token``; ``refusal`` is None for a DONE."""

    token: Hashable
    refusal: int | None


@dataclass(frozen=True, slots=True)
class PadRefused:
    """This end's direction gets no more pad: none is left, or the other end will not grant.

    What waited and does not fit into what is held was dropped; its senders hear nothing else of it.
    """

    direction: Direction
    code: ErrorCode


LinkEvent: TypeAlias = Received | Send | GrantsTaken | GrantsFailed | ConnectionLost | Tick
LinkNotice: TypeAlias = Arrived | Answered | PadRefused | Failed
LinkEffects: TypeAlias = Effects[LinkPersist, bytes, LinkNotice]


class SendState(Enum):
    """How the direction that this end seals stands."""

    OPEN = auto()
    AWAITING_GRANT = auto()
    TAKING_GRANT = auto()
    EXHAUSTED = auto()
    CLOSED = auto()


class SendStep(Enum):
    """What moves the sending direction."""

    WANTED = auto()
    GRANTED = auto()
    TAKEN = auto()
    REFUSED = auto()
    FAULT = auto()


SEND_TABLE: Final[Table[SendState, SendStep]] = {
    (SendState.OPEN, SendStep.WANTED): SendState.AWAITING_GRANT,
    (SendState.OPEN, SendStep.GRANTED): SendState.TAKING_GRANT,
    (SendState.OPEN, SendStep.REFUSED): SendState.EXHAUSTED,
    (SendState.OPEN, SendStep.FAULT): SendState.CLOSED,
    (SendState.AWAITING_GRANT, SendStep.GRANTED): SendState.TAKING_GRANT,
    (SendState.AWAITING_GRANT, SendStep.REFUSED): SendState.EXHAUSTED,
    (SendState.AWAITING_GRANT, SendStep.FAULT): SendState.CLOSED,
    (SendState.TAKING_GRANT, SendStep.TAKEN): SendState.OPEN,
    (SendState.TAKING_GRANT, SendStep.FAULT): SendState.CLOSED,
    (SendState.EXHAUSTED, SendStep.GRANTED): SendState.TAKING_GRANT,
    (SendState.EXHAUSTED, SendStep.FAULT): SendState.CLOSED,
}


class ReceiveState(Enum):
    """How the direction that the other end seals stands."""

    OPEN = auto()
    TAKING_GRANT = auto()
    CLOSED = auto()


class ReceiveStep(Enum):
    """What moves the receiving direction."""

    GRANTING = auto()
    TAKEN = auto()
    FAULT = auto()


RECEIVE_TABLE: Final[Table[ReceiveState, ReceiveStep]] = {
    (ReceiveState.OPEN, ReceiveStep.GRANTING): ReceiveState.TAKING_GRANT,
    (ReceiveState.OPEN, ReceiveStep.FAULT): ReceiveState.CLOSED,
    (ReceiveState.TAKING_GRANT, ReceiveStep.TAKEN): ReceiveState.OPEN,
    (ReceiveState.TAKING_GRANT, ReceiveStep.FAULT): ReceiveState.CLOSED,
}


class _Requests:
    """Which record carried which request: records are counted, tokens are the senders' own."""

    def __init__(self) -> None:
        self.sent = 0
        self._tokens: OrderedDict[int, Hashable] = OrderedDict()

    def count(self, token: Hashable) -> None:
        """One more record was sealed; with a token, answers to it are matched."""
        self.sent += 1
        if token is None:
            return
        self._tokens[self.sent] = token
        if len(self._tokens) > limits.ANSWERABLE_REQUESTS:
            self._tokens.popitem(last=False)

    def token(self, ordinal: int) -> Hashable:
        """The request's token; None if it had none, or is too long ago.

        Raises ``PeerFault`` (body-range) for a record that was never sealed.
        """
        if ordinal > self.sent:
            raise PeerFault(codes.BODY_RANGE, "an answer to a request that was never made")
        return self._tokens.get(ordinal)


class Link:
    """One end of one connection after its preface."""

    def __init__(self, session: Session) -> None:
        self._profile = session.profile
        self._session = session
        self._marks = session.marks
        self._outgoing = session.outgoing
        self._incoming = session.outgoing.opposite
        self._send = SendFlow(session.profile.kind, session.send)
        self._receive = ReceiveFlow(session.receive)
        self._send_state: StateMachine[SendState, SendStep] = StateMachine(SEND_TABLE, SendState.OPEN)
        self._receive_state: StateMachine[ReceiveState, ReceiveStep] = StateMachine(
            RECEIVE_TABLE, ReceiveState.OPEN
        )
        self._out: Collector[LinkPersist, bytes, LinkNotice] = Collector()
        self._buffer = bytearray(session.rest)
        self._waiting = WaitingRecords()
        self._requests = _Requests()
        self._arrived = 0
        self._used_since: float | None = None
        self._want_ordinal = 0
        self._used = dict.fromkeys(Direction, 0)

    # ── what the shell sees ─────────────────────────────────────────────────────────────────────
    @property
    def closed(self) -> bool:
        """Whether the link failed or its connection was lost."""
        return self._send_state.state is SendState.CLOSED

    @property
    def busy(self) -> bool:
        """Whether a message would be refused because too many wait already."""
        return self._waiting.full

    def pad_used(self, direction: Direction) -> int:
        """Pad bytes that this connection's records cost so far; what grants abandon is not among them."""
        return self._used[direction]

    @property
    def next_deadline(self) -> float | None:
        """When a ``Tick`` is due: the clock of a derived grant that is in use."""
        if self._used_since is None or not self._may_grant:
            return None
        return self._used_since + limits.DERIVED_GRANT_SECONDS

    def start(self, now: float) -> LinkEffects:
        """Open what came behind the preface's last frame; to be called once, before any event."""
        return self.handle(Received(b""), now)

    def handle(self, event: LinkEvent, now: float) -> LinkEffects:
        """Advance by one event; a fault of any kind ends in one ``Failed``, with nothing sent.

        What else arrived in the same event is dropped then, as if the connection had broken before it.
        Raises ``Refused`` (link-busy, link-down, pad-exhausted) for a ``Send`` that is not taken.
        """
        if isinstance(event, Send):
            self._check_sendable(event.message)
        if self.closed:
            wipe_unused(event)
            return Effects()
        try:
            self._dispatch(event, now)
        except SkexError as error:
            wipe_unused(event)
            self._close()
            return failure(self._link_id, error)
        return self._out.take()

    def _dispatch(self, event: LinkEvent, now: float) -> None:
        match event:
            case Received(data):
                self._buffer += data
                self._read(now)
            case Send(message, token):
                self._enqueue(message, token)
                self._flush()
            case GrantsTaken(materials):
                for material in materials:
                    self._taken(material)
            case GrantsFailed(error):
                raise error
            case ConnectionLost(code):
                raise PeerFault(code)
            case Tick():
                self._tick(now)
            case _:
                assert_never(event)

    def _check_sendable(self, message: messages.Message) -> None:
        if self.closed:
            raise Refused(codes.LINK_DOWN)
        if self.busy:
            raise Refused(codes.LINK_BUSY)
        if self._send_state.state is SendState.EXHAUSTED:
            size = len(messages.encode_message(message))
            if not self._send.fits(size, control=False):
                raise Refused(codes.PAD_EXHAUSTED)

    def _close(self) -> None:
        self._send_state.step(SendStep.FAULT)
        self._receive_state.step(ReceiveStep.FAULT)
        self._send.wipe()
        self._receive.wipe()
        self._waiting.clear()
        self._buffer.clear()
        self._out.take()

    # ── sealing ─────────────────────────────────────────────────────────────────────────────────
    def _enqueue(self, message: messages.Message, token: Hashable = None) -> None:
        body = messages.encode_message(message)
        if len(body) > limits.BODY_BYTES:
            raise LocalBug(codes.BAD_ARGUMENT, f"a body of {len(body)} bytes")
        self._waiting.add(Waiting(body, token, control=isinstance(message, messages.Grant)))

    def _flush(self) -> None:
        """Seal what the grants have room for; then make sure that more is on its way."""
        while self._waiting and self._has_room(self._waiting.first):
            self._seal(self._waiting.pop())
        if self._send_state.state is SendState.OPEN:
            self._want_if_needed()
        elif self._send_state.state is SendState.EXHAUSTED:
            self._drop_waiting()

    def _has_room(self, waiting: Waiting) -> bool:
        return self._send.make_room(len(waiting.body), control=waiting.control)

    def _want_if_needed(self) -> None:
        """Ask for pad, if there is room left to ask; otherwise the other end sees it by itself."""
        if self._mark(self._outgoing) >= self._profile.capacity(self._outgoing):
            # Both ends know the pad's end: asking would only use up what is left.
            if self._waiting:
                self._refused(codes.PAD_EXHAUSTED)
        elif self._waiting or self._send.runs_low:
            want = Waiting(messages.encode_message(messages.Want(max(self._waiting.pad_bytes, 1))))
            if self._has_room(want):
                self._seal(want)
                self._want_ordinal = self._requests.sent
            self._send_state.step(SendStep.WANTED)

    def _refused(self, code: ErrorCode) -> None:
        """The direction gets no more pad."""
        self._send_state.step(SendStep.REFUSED)
        self._out.notify(PadRefused(self._outgoing, code))
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        """Seal what still fits; nothing else can be sealed any more.

        Raises ``Refused`` (pad-exhausted) where not even a GRANT fits: the other end would stall.
        """
        for _ in range(len(self._waiting)):
            waiting = self._waiting.pop()
            if self._has_room(waiting):
                self._seal(waiting)
            elif waiting.control:
                raise Refused(codes.PAD_EXHAUSTED, "no room for a grant")

    def _seal(self, waiting: Waiting) -> None:
        material, body = self._send.current, waiting.body
        header = RecordHeader(self._outgoing, len(body), self._link_id, material.start, material.position)
        pad = material.take(material.position, _TAG + len(body))
        sealed = header.pack() + _xor(body, pad[_TAG:])
        self._out.send(sealed + mac.record_tag(material.r, pad[:_TAG], sealed))
        self._used[self._outgoing] += len(pad)
        self._requests.count(waiting.token)

    # ── opening ─────────────────────────────────────────────────────────────────────────────────
    def _read(self, now: float) -> None:
        """Open every whole record that arrived; a header is judged before its body is awaited."""
        while len(self._buffer) >= _HEADER:
            header = RecordHeader.parse(bytes(self._buffer[:_HEADER]))
            if header.direction is not self._incoming or header.link_id != self._link_id:
                raise PeerFault(codes.RECORD_HEADER, "direction or link")
            material = self._receive.check(header)
            end = _HEADER + header.length + _TAG
            if len(self._buffer) < end:
                return
            record = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._open(material, header, record, now)

    def _open(self, material: GrantMaterial, header: RecordHeader, record: bytes, now: float) -> None:
        first = material.position == R_BYTES
        pad = material.take(header.offset, _TAG + header.length)
        expected = mac.record_tag(material.r, pad[:_TAG], record[:-_TAG])
        if not mac.equal(expected, record[-_TAG:]):
            raise PeerFault(codes.RECORD_TAG)
        self._receive.move_to(material)
        self._used[self._incoming] += len(pad)
        self._arrived += 1
        if first:
            self._grant_proved(material)
        body = _xor(record[_HEADER:-_TAG], pad[_TAG:])
        self._message(messages.decode_message(body, self._incoming), now)
        self._grant_if_exhausted()

    def _grant_proved(self, material: GrantMaterial) -> None:
        """A valid record in a grant proves that its sender's mark stands at the grant's end."""
        self._used_since = None
        end = material.start + material.count
        seen = (end, 0) if self._incoming is Direction.TO_HUB else (0, end)
        self._raise_seen(*seen, self._session.peer_count)

    def _raise_seen(self, to_hub: int, to_kme: int, count: int) -> None:
        marks = raise_seen(self._marks, to_hub, to_kme, count)
        if marks != self._marks:
            self._marks = marks
            self._out.persist(peer_seen(self._link_id, marks))

    def _message(self, message: messages.Message | messages.Unknown, now: float) -> None:
        ordinal = self._arrived
        match message:
            case messages.Grant():
                self._granted(message)
            case messages.Want(size):
                self._wanted(ordinal, size)
            case messages.Moved():
                pass
            case messages.Done(request) | messages.Refuse(request):
                self._answered(request, message)
            case messages.Unknown():
                self._reply(messages.Refuse(ordinal, messages.Refusal.UNKNOWN_TYPE))
            case _:
                self._start_clock(now)
                self._out.notify(Arrived(ordinal, message))

    def _reply(self, message: messages.Message) -> None:
        """Answer. Raises ``Refused`` (link-busy) for an end that asks but does not let itself be answered."""
        if self.busy:
            raise Refused(codes.LINK_BUSY, "too many answers wait")
        self._enqueue(message)
        self._flush()

    def _answered(self, request: int, answer: messages.Done | messages.Refuse) -> None:
        refusal = answer.refusal if isinstance(answer, messages.Refuse) else None
        token = self._requests.token(request)
        if token is not None:
            self._out.notify(Answered(token, refusal))
        elif refusal is not None and request == self._want_ordinal:
            self._want_refused(refusal)

    # ── grants of the direction that this end seals ─────────────────────────────────────────────
    def _granted(self, grant: messages.Grant) -> None:
        """The other end announced pad for this end's direction: check it, take it."""
        stretch = Stretch(grant.start, grant.count)
        mark = self._mark(self._outgoing)
        check_stretch(self._profile, self._outgoing, stretch, mark)
        if self._send.ahead >= limits.GRANTS_AHEAD or not self._send_state.allows(SendStep.GRANTED):
            raise PeerFault(codes.GRANT_INVALID, "more grants ahead than allowed")
        self._send_state.step(SendStep.GRANTED)
        self._take(self._outgoing, stretch)

    def _want_refused(self, refusal: int) -> None:
        """Unless a grant came meanwhile, none will."""
        if self._send_state.state is SendState.AWAITING_GRANT:
            self._refused(messages.refusal_code(refusal))

    # ── grants of the direction that the other end seals ────────────────────────────────────────
    @property
    def _may_grant(self) -> bool:
        """Whether no grant is on its way or waiting to be used already."""
        taking = self._receive_state.state is not ReceiveState.OPEN
        return not taking and self._receive.ahead < limits.GRANTS_AHEAD

    def _wanted(self, ordinal: int, size: int) -> None:
        if self._may_grant and not self._grant(size):
            self._reply(messages.Refuse(ordinal, messages.Refusal.PAD_EXHAUSTED))

    def _grant_if_exhausted(self) -> None:
        if self._may_grant and self._receive.exhausted:
            self._grant(0)

    def _grant(self, size: int) -> bool:
        """Take pad of the incoming direction, to be announced once taken; False if none is left."""
        start = self._mark(self._incoming)
        available = self._profile.capacity(self._incoming) - start
        count = min(1, available) if self._derived else units_for(size, available)
        if count == 0:
            return False
        self._receive_state.step(ReceiveStep.GRANTING)
        self._take(self._incoming, Stretch(start, count))
        return True

    def _start_clock(self, now: float) -> None:
        if self._derived and self._used_since is None:
            self._used_since = now

    def _tick(self, now: float) -> None:
        deadline = self.next_deadline
        if deadline is not None and now >= deadline:
            self._used_since = None
            self._grant(0)

    # ── taking ──────────────────────────────────────────────────────────────────────────────────
    @property
    def _link_id(self) -> LinkId:
        return self._profile.parties.link_id

    @property
    def _derived(self) -> bool:
        return self._profile.kind is PadKind.DERIVED

    def _mark(self, direction: Direction) -> int:
        return self._marks.to_hub if direction is Direction.TO_HUB else self._marks.to_kme

    def _take(self, direction: Direction, stretch: Stretch) -> None:
        end = stretch.start + stretch.count
        if direction is Direction.TO_HUB:
            self._marks = replace(self._marks, to_hub=end)
        else:
            self._marks = replace(self._marks, to_kme=end)
        session = self._session
        self._out.persist(TakeGrant(self._link_id, direction, stretch, session.kme_nonce, session.hub_nonce))
        if direction is self._outgoing:
            # Its announcement proves the announcer's own mark (it took the stretch first).
            self._raise_seen(*((end, 0) if direction is Direction.TO_HUB else (0, end)), 0)

    def _taken(self, material: GrantMaterial) -> None:
        if material.direction is self._outgoing:
            self._send_state.step(SendStep.TAKEN)
            self._send.add(material)
            if self._derived and not self._waiting:
                self._enqueue(messages.Moved())
        else:
            self._receive_state.step(ReceiveStep.TAKEN)
            self._receive.add(material)
            self._enqueue(messages.Grant(material.start, material.count))
        self._flush()


def _xor(left: bytes, right: bytes) -> bytes:
    """Exclusive or of two equally long byte strings, as one wide integer."""
    wide = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return wide.to_bytes(len(left), "big")
