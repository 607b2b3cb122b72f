"""The sender's side of ASSIGN: which offered keys may be delivered here, and until when.

Keys are offered durably before the ASSIGN leaves, and delivered only within the hold that the
receiver granted, counted from the first sending of the round that its answer names. Whatever goes
wrong, keys that were offered and not delivered are void: erased here and, by a message that must
arrive, there. It must not know how messages are sealed or which key a reserve picks.

Repetitions are harmless: answers name a request, which ends once, and a sending, so that an answer
which a hub kept back renews nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias, assert_never

from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug, PeerFault
from skex.base.ids import HubName, Incarnation, KmeName, RequestId, SaeId
from skex.protocol.changes import KeysDelivered, KeysOffered, KeysVoided, Role
from skex.protocol.effects import Collector, Effects
from skex.protocol.keysets import KeySet, messages_of
from skex.protocol.states import StateMachine, Table
from skex.protocol.timers import Timers
from skex.protocol.traffic import Tick
from skex.protocol.ways import KeysTakenBack, MustArrive, Post, Ways
from skex.wire.peer import (
    Assign,
    Assigned,
    AssignRefusal,
    KeyRange,
    NotAssigned,
    PeerDirection,
    VoidKeys,
    decode_peer_message,
    encode_peer_message,
)


# ── what the machine is asked ───────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Start:
    """This KME started: what an earlier start offered and did not deliver is void. Once, first."""


@dataclass(frozen=True, slots=True)
class AssignKeys:
    """Give ``keys``, free in the reserve for ``peer``, to ``master`` here and ``slaves`` there.

    ``request`` is 16 fresh random bytes. ``ahead``: a block for requests to come, renewed for as long
    as keys of it are left; otherwise what is left when the hold ends is void. Nothing is delivered from
    ``expires_at`` on, when the first of the keys' batches is over. Bounds are those of the ASSIGN: the
    layer above keeps them.
    """

    peer: KmeName
    request: RequestId
    keys: tuple[KeyRange, ...]
    master: SaeId
    slaves: tuple[SaeId, ...]
    purpose: str
    lifetime: int
    expires_at: float
    ahead: bool


@dataclass(frozen=True, slots=True)
class Deliver:
    """Commit the delivery of some keys of an assignment to its master."""

    peer: KmeName
    request: RequestId
    keys: tuple[KeyRange, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Whatever is left of an assignment is not wanted any more."""

    peer: KmeName
    request: RequestId


@dataclass(frozen=True, slots=True)
class IncarnationSeen:
    """A CONFIRM stated an incarnation of ``peer``; it may have been stored since before a restart."""

    peer: KmeName
    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class PeerAnswered:
    """An answer of ``peer`` to an ASSIGN was opened."""

    peer: KmeName
    message: Assigned | NotAssigned


@dataclass(frozen=True, slots=True)
class AssignToken:
    """Names a sending of an ASSIGN, in a hub's answer."""

    peer: KmeName
    request: RequestId
    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptRefused:
    """A hub refused to carry an ASSIGN."""

    token: AssignToken


AssignerEvent: TypeAlias = (
    Start
    | AssignKeys
    | Deliver
    | Release
    | IncarnationSeen
    | PeerAnswered
    | AttemptRefused
    | KeysTakenBack
    | Tick
)


# ── what the machine tells ──────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Deliverable:
    """The receiver recorded the assignment: ``keys`` may be delivered before the instant ``until``."""

    peer: KmeName
    request: RequestId
    keys: tuple[KeyRange, ...]
    until: float


@dataclass(frozen=True, slots=True)
class Delivered:
    """``KeysDelivered`` is durable: the bytes may go out, once."""

    peer: KmeName
    request: RequestId
    keys: tuple[KeyRange, ...]


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """Nothing was delivered; ``code`` says why."""

    peer: KmeName
    request: RequestId
    keys: tuple[KeyRange, ...]
    code: ErrorCode


@dataclass(frozen=True, slots=True)
class NotOffered:
    """The request was refused at once: its keys are still in the reserve; ``code`` says why."""

    peer: KmeName
    request: RequestId
    code: ErrorCode


@dataclass(frozen=True, slots=True)
class AssignmentEnded:
    """Nothing of the request is delivered from now on; what was left of it, ``voided``, is erased."""

    peer: KmeName
    request: RequestId
    voided: tuple[KeyRange, ...]
    code: ErrorCode


AssignerChange: TypeAlias = KeysOffered | KeysDelivered | KeysVoided
AssignerNotice: TypeAlias = NotOffered | Deliverable | Delivered | NotDelivered | AssignmentEnded
AssignerEffects: TypeAlias = Effects[AssignerChange, Post | MustArrive, AssignerNotice]


# ── states ──────────────────────────────────────────────────────────────────────────────────────
class RequestState(Enum):
    """What is known of one request."""

    AWAITING_ANSWER = auto()
    DELIVERABLE = auto()
    AWAITING_RENEWAL = auto()
    DELIVERED = auto()
    VOID = auto()


class RequestStep(Enum):
    """What happens to one request."""

    ANSWERED = auto()
    RENEWAL_DUE = auto()
    SOME_DELIVERED = auto()
    ALL_DELIVERED = auto()
    REFUSED = auto()
    OUT_OF_TIME = auto()
    PEER_RESTARTED = auto()
    RELEASED = auto()
    REVOKED = auto()


_ENDS: Final = (
    RequestStep.REFUSED,
    RequestStep.OUT_OF_TIME,
    RequestStep.PEER_RESTARTED,
    RequestStep.RELEASED,
    RequestStep.REVOKED,
)
_LIVE: Final = (RequestState.AWAITING_ANSWER, RequestState.DELIVERABLE, RequestState.AWAITING_RENEWAL)
TABLE: Final[Table[RequestState, RequestStep]] = {
    (RequestState.AWAITING_ANSWER, RequestStep.ANSWERED): RequestState.DELIVERABLE,
    (RequestState.DELIVERABLE, RequestStep.SOME_DELIVERED): RequestState.DELIVERABLE,
    (RequestState.DELIVERABLE, RequestStep.ALL_DELIVERED): RequestState.DELIVERED,
    (RequestState.DELIVERABLE, RequestStep.RENEWAL_DUE): RequestState.AWAITING_RENEWAL,
    (RequestState.AWAITING_RENEWAL, RequestStep.ANSWERED): RequestState.DELIVERABLE,
    (RequestState.AWAITING_RENEWAL, RequestStep.SOME_DELIVERED): RequestState.AWAITING_RENEWAL,
    (RequestState.AWAITING_RENEWAL, RequestStep.ALL_DELIVERED): RequestState.DELIVERED,
    **{(state, end): RequestState.VOID for state in _LIVE for end in _ENDS},
}
INITIAL: Final = RequestState.AWAITING_ANSWER

_REFUSALS: Final[dict[int, ErrorCode]] = {
    AssignRefusal.KEY_ASSIGNED: codes.KEY_ASSIGNED,
    AssignRefusal.KEY_NOT_HELD: codes.KEY_NOT_HELD,
    AssignRefusal.INCARNATION_CHANGED: codes.INCARNATION_CHANGED,
    AssignRefusal.NOT_AUTHORISED: codes.NOT_AUTHORISED,
}


def assign_refusal_code(refusal: int) -> ErrorCode:
    """The error code of a refused ASSIGN; one that this version does not know counts as "busy"."""
    return _REFUSALS.get(refusal, codes.BUSY)


class _Request:
    """One assignment while it lives."""

    def __init__(self, content: Assign, event: AssignKeys, now: float) -> None:
        self.content = content
        self.peer = event.peer
        self.ahead = event.ahead
        self.expires_at = event.expires_at
        self.left = KeySet(content.keys)
        self.machine: StateMachine[RequestState, RequestStep] = StateMachine(TABLE, INITIAL)
        self.attempt = 0
        self.last: HubName | None = None
        self.refusals = 0
        self.begin_round(now)
        self.until = min(now + limits.ASSIGN_SECONDS, self.expires_at)
        """When it ends: as unanswered, and once it is answered, with its hold."""
        self.renew_at = math.inf

    def begin_round(self, now: float) -> None:
        """From here on sendings count towards the hold that begins now."""
        self.round_started = now
        self.round_first = self.attempt + 1
        self.resend_at = now

    def hold_from_round(self, hold: int) -> None:
        """The receiver holds the keys so long; half-way a block is renewed, unless it expires first."""
        held_until = self.round_started + hold
        self.until = min(held_until, self.expires_at)
        renews = self.ahead and held_until < self.expires_at
        self.renew_at = self.round_started + hold / 2 if renews else math.inf

    @property
    def token(self) -> AssignToken:
        return AssignToken(self.peer, self.content.request, self.attempt)

    @property
    def awaits_answer(self) -> bool:
        return self.machine.state is not RequestState.DELIVERABLE

    @property
    def wake_at(self) -> float:
        other = self.resend_at if self.awaits_answer else self.renew_at
        return min(self.until, other)

    def next_sending(self) -> Assign:
        """The same content, under the next number."""
        self.attempt += 1
        content = self.content
        return Assign(
            content.request,
            content.keys,
            content.master,
            content.slaves,
            content.purpose,
            content.lifetime,
            content.incarnation,
            content.receiver_incarnation,
            self.attempt,
        )


class _Receivers:
    """The incarnation of each peer as this end last learned it."""

    def __init__(self, known: Mapping[KmeName, Incarnation]) -> None:
        self._known = dict(known)
        self._past: dict[KmeName, list[Incarnation]] = {}

    def known(self, peer: KmeName) -> Incarnation | None:
        return self._known.get(peer)

    def is_past(self, peer: KmeName, incarnation: Incarnation) -> bool:
        return incarnation in self._past.get(peer, ())

    def adopt(self, peer: KmeName, incarnation: Incarnation) -> bool:
        """Take the incarnation as the one that runs; whether that was new."""
        before = self._known.get(peer)
        if before == incarnation:
            return False
        self._known[peer] = incarnation
        past = [one for one in self._past.get(peer, ()) if one != incarnation]
        if before is not None:
            past.append(before)
        self._past[peer] = past[-limits.PAST_INCARNATIONS :]
        return True


class Assigner:
    """All assignments that this KME makes as its master SAEs' KME."""

    def __init__(
        self,
        incarnation: Incarnation,
        ways: Ways,
        receivers: Mapping[KmeName, Incarnation],
        offered: Iterable[KeysOffered],
    ) -> None:
        """``receivers`` is each peer's incarnation as its newest CONFIRM stated it; ``offered`` what the
        store holds as offered, keys already delivered taken off.
        """
        self._incarnation = incarnation
        self._ways = ways
        self._receivers = _Receivers(receivers)
        self._left_over = tuple(offered)
        self._requests: dict[KmeName, dict[RequestId, _Request]] = {}
        self._timers: Timers[tuple[KmeName, RequestId]] = Timers()
        self._out: Collector[AssignerChange, Post | MustArrive, AssignerNotice] = Collector()

    @property
    def next_deadline(self) -> float | None:
        """When the next ``Tick`` is due."""
        return self._timers.next

    def state(self, peer: KmeName, request: RequestId) -> RequestState | None:
        """The state of a request, None once it ended."""
        live = self._find(peer, request)
        return None if live is None else live.machine.state

    def handle(self, event: AssignerEvent, now: float) -> AssignerEffects:
        """Take one event. Raises ``LocalBug`` (bug-argument, bug-state) for requests out of bounds."""
        match event:
            case AssignKeys():
                self._assign(event, now)
            case Deliver():
                self._deliver(event, now)
            case PeerAnswered(peer, message):
                self._answered(peer, message, now)
            case AttemptRefused(token):
                self._attempt_refused(token, now)
            case Release(peer, request):
                self._release(peer, request)
            case IncarnationSeen(peer, incarnation):
                self._incarnation_seen(peer, incarnation)
            case KeysTakenBack(peer, keys):
                self._taken_back(peer, keys)
            case Start():
                self._start()
            case Tick():
                self._tick(now)
            case _:
                assert_never(event)
        return self._out.take()

    def _find(self, peer: KmeName, request: RequestId) -> _Request | None:
        return self._requests.get(peer, {}).get(request)

    # ── from the layer above ────────────────────────────────────────────────────────────────────
    def _start(self) -> None:
        """Void what an earlier start left: nobody knows whether it was assigned, nobody has it."""
        for offered in self._left_over:
            self._void_keys(offered.peer, offered.request, offered.keys)
        self._left_over = ()

    def _assign(self, event: AssignKeys, now: float) -> None:
        peer, receiver = event.peer, self._receivers.known(event.peer)
        live = self._requests.get(peer, {})
        keys = KeySet(event.keys).ranges()
        if receiver is None or event.request in live or any(one.left.common(keys) for one in live.values()):
            raise LocalBug(codes.BAD_STATE, "keys of an unconfirmed batch, or offered already")
        content = Assign(
            request=event.request,
            keys=keys,
            master=event.master,
            slaves=tuple(sorted(set(event.slaves))),
            purpose=event.purpose,
            lifetime=event.lifetime,
            incarnation=self._incarnation,
            receiver_incarnation=receiver,
            attempt=1,
        )
        _check_bounds(content)
        if not len(self._ways):
            self._out.notify(NotOffered(peer, event.request, codes.LINK_DOWN))
            return
        self._out.persist(
            KeysOffered(
                peer, event.request, keys, content.master, content.slaves, content.purpose, content.lifetime
            )
        )
        request = _Request(content, event, now)
        self._requests.setdefault(peer, {})[event.request] = request
        self._send(request, now)

    def _deliver(self, event: Deliver, now: float) -> None:
        request = self._find(event.peer, event.request)
        if request is None or not request.left.contains(event.keys):
            self._out.notify(NotDelivered(event.peer, event.request, event.keys, codes.KEY_NOT_HELD))
        elif not request.machine.allows(RequestStep.SOME_DELIVERED) or now >= request.until:
            self._out.notify(NotDelivered(event.peer, event.request, event.keys, codes.ASSIGN_HOLD_ENDED))
        else:
            request.left.remove(event.keys)
            master = request.content.master
            self._out.persist(KeysDelivered(Role.SENDER, event.peer, event.keys, master))
            self._out.notify(Delivered(event.peer, event.request, event.keys))
            if request.left:
                request.machine.step(RequestStep.SOME_DELIVERED)
            else:
                request.machine.step(RequestStep.ALL_DELIVERED)
                self._forget(request)

    def _release(self, peer: KmeName, request_id: RequestId) -> None:
        request = self._find(peer, request_id)
        if request is not None:
            self._void(request, RequestStep.RELEASED, codes.ASSIGN_RELEASED)

    def _taken_back(self, peer: KmeName, keys: tuple[KeyRange, ...] | None) -> None:
        """Revoked keys are gone at both ends; what else such a request has left is void."""
        for request in list(self._requests.get(peer, {}).values()):
            if keys is None:
                request.left = KeySet()
            elif request.left.common(keys):
                request.left.remove(keys)
            else:
                continue
            self._void(request, RequestStep.REVOKED, codes.KEY_REVOKED)

    # ── from the peer ───────────────────────────────────────────────────────────────────────────
    def _incarnation_seen(self, peer: KmeName, incarnation: Incarnation) -> None:
        """A CONFIRM is a hint only: the receiver repeats what it stored, also after a restart."""
        if not self._receivers.is_past(peer, incarnation):
            self._adopt(peer, incarnation)

    def _answered(self, peer: KmeName, message: Assigned | NotAssigned, now: float) -> None:
        request = self._find(peer, message.request)
        if request is None:
            return  # it ended: answers may come twice, and late
        if message.incarnation != request.content.receiver_incarnation:
            # The peer answered a request that is younger than its restart, whatever CONFIRMs said.
            self._adopt(peer, message.incarnation)
        elif isinstance(message, NotAssigned):
            self._void(request, RequestStep.REFUSED, assign_refusal_code(message.refusal))
        elif request.round_first <= message.attempt <= request.attempt and now < request.until:
            self._hold(request, message.hold)

    def _hold(self, request: _Request, hold: int) -> None:
        """Deliver until ``hold`` seconds after the first sending of this round."""
        if not request.awaits_answer:
            return
        request.machine.step(RequestStep.ANSWERED)
        request.hold_from_round(hold)
        self._schedule(request)
        keys = request.left.ranges()
        self._out.notify(Deliverable(request.peer, request.content.request, keys, request.until))

    def _adopt(self, peer: KmeName, incarnation: Incarnation) -> None:
        """Another incarnation of the peer runs: nothing asked of an earlier one is delivered."""
        self._receivers.adopt(peer, incarnation)
        for request in list(self._requests.get(peer, {}).values()):
            if request.content.receiver_incarnation != incarnation:
                self._void(request, RequestStep.PEER_RESTARTED, codes.INCARNATION_CHANGED)

    def _attempt_refused(self, token: AssignToken, now: float) -> None:
        """Try the next hub at once, until each had its turn; a hub's refusal is a hint, no answer."""
        request = self._find(token.peer, token.request)
        if request is None or not request.awaits_answer or token != request.token:
            return
        request.refusals += 1
        if request.refusals < len(self._ways):
            self._send(request, now)

    # ── time ────────────────────────────────────────────────────────────────────────────────────
    def _tick(self, now: float) -> None:
        for peer, request in self._timers.due(now):
            self._wake(self._requests[peer][request], now)

    def _wake(self, request: _Request, now: float) -> None:
        if now >= request.until:
            held = request.machine.state is not RequestState.AWAITING_ANSWER
            code = codes.ASSIGN_HOLD_ENDED if held else codes.ASSIGN_UNANSWERED
            self._void(request, RequestStep.OUT_OF_TIME, code)
            return
        if not request.awaits_answer:
            request.machine.step(RequestStep.RENEWAL_DUE)
            request.begin_round(now)
        request.refusals = 0
        self._send(request, now)

    def _send(self, request: _Request, now: float) -> None:
        hub = self._ways.next(request.last, request.content.request)
        if hub is not None:
            message = request.next_sending()
            request.last = hub
            self._out.send(Post(hub, Role.SENDER, request.peer, message, request.token))
        request.resend_at = now + limits.PEER_RESEND_SECONDS
        self._schedule(request)

    def _schedule(self, request: _Request) -> None:
        self._timers.set((request.peer, request.content.request), request.wake_at)

    # ── ends ────────────────────────────────────────────────────────────────────────────────────
    def _void(self, request: _Request, step: RequestStep, code: ErrorCode) -> None:
        request.machine.step(step)
        self._forget(request)
        voided = request.left.ranges()
        self._void_keys(request.peer, request.content.request, voided)
        self._out.notify(AssignmentEnded(request.peer, request.content.request, voided, code))

    def _void_keys(self, peer: KmeName, request: RequestId, keys: tuple[KeyRange, ...]) -> None:
        """Erase here, and tell the peer; the messages' ids follow from the request's."""
        if not keys:
            return
        self._out.persist(KeysVoided(Role.SENDER, peer, keys))
        for number, part in enumerate(messages_of(keys)):
            message = VoidKeys(_id_of_part(request, number), self._incarnation, part)
            self._out.send(MustArrive(Role.SENDER, peer, message))

    def _forget(self, request: _Request) -> None:
        del self._requests[request.peer][request.content.request]
        self._timers.cancel((request.peer, request.content.request))


def _id_of_part(request: RequestId, number: int) -> RequestId:
    """The id of a request's VOID: its own, counted on for the rare one that needs several messages."""
    value = (int.from_bytes(request, "big") + number) % 2 ** (8 * len(request))
    return RequestId(value.to_bytes(len(request), "big"))


def _check_bounds(content: Assign) -> None:
    """Every bound of an ASSIGN in one place: what the peer would refuse to read is a bug here."""
    try:
        decode_peer_message(encode_peer_message(content), PeerDirection.FROM_SENDER)
    except PeerFault as fault:
        raise LocalBug(codes.BAD_ARGUMENT, f"an ASSIGN out of bounds: {fault.detail}") from None
