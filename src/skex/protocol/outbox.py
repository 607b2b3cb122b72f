"""The durable queue of control messages: what must arrive, until the peer says that it is done.

Knows messages as plaintext and ids; sealing, roots and hubs are the caller's. Every repetition is
sealed anew. A few messages of each peer are under way at once, in the order in which they were
queued. What is queued is idempotent by its id, so a message that is done twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import Final, Never, TypeAlias

from skex.base import codes, limits
from skex.base.errors import ErrorCode
from skex.base.ids import HubName, KmeName, RequestId
from skex.protocol.changes import ControlDone, ControlQueued, Role
from skex.protocol.effects import Collector, Effects
from skex.protocol.states import StateMachine, Table
from skex.protocol.timers import Timers
from skex.protocol.ways import MustArrive
from skex.wire.peer import PeerDirection, Revoke, VoidKeys, decode_peer_message, encode_peer_message


class ControlState(Enum):
    """Where a control message is."""

    AWAITING_TURN = auto()
    AWAITING_DONE = auto()
    DONE = auto()
    GIVEN_UP = auto()


class ControlStep(Enum):
    """What happens to a control message."""

    TURN = auto()
    ATTEMPT = auto()
    CARRIED_OUT = auto()
    DISPLACED = auto()


TABLE: Final[Table[ControlState, ControlStep]] = {
    (ControlState.AWAITING_TURN, ControlStep.TURN): ControlState.AWAITING_DONE,
    (ControlState.AWAITING_TURN, ControlStep.CARRIED_OUT): ControlState.DONE,
    (ControlState.AWAITING_TURN, ControlStep.DISPLACED): ControlState.GIVEN_UP,
    (ControlState.AWAITING_DONE, ControlStep.ATTEMPT): ControlState.AWAITING_DONE,
    (ControlState.AWAITING_DONE, ControlStep.CARRIED_OUT): ControlState.DONE,
    (ControlState.AWAITING_DONE, ControlStep.DISPLACED): ControlState.GIVEN_UP,
}
INITIAL: Final = ControlState.AWAITING_TURN


@dataclass(frozen=True, slots=True)
class ControlArrived:
    """The peer carried out the control message with this id."""

    peer: KmeName
    request: RequestId


@dataclass(frozen=True, slots=True)
class ControlGivenUp:
    """The control message with this id will not arrive; ``code`` says why."""

    peer: KmeName
    request: RequestId
    code: ErrorCode


@dataclass(frozen=True, slots=True)
class ControlToken:
    """Names an attempt to deliver a control message, in a hub's answer."""

    peer: KmeName
    request: RequestId


class Control:
    """One queued message."""

    __slots__ = ("attempts", "expendable", "last", "machine", "queued", "refusals", "revokes_all")

    def __init__(self, queued: ControlQueued) -> None:
        self.queued = queued
        self.attempts = 0
        self.refusals = 0
        self.last: HubName | None = None
        self.machine: StateMachine[ControlState, ControlStep] = StateMachine(TABLE, INITIAL)
        # Keys that a lost VOID leaves at the receiver expire there; a lost revocation leaves damage.
        message = decode_peer_message(queued.plaintext, direction_of(queued.role))
        self.expendable = isinstance(message, VoidKeys)
        self.revokes_all = isinstance(message, Revoke) and message.keys is None

    @property
    def token(self) -> ControlToken:
        """What names this message in hubs' answers."""
        return ControlToken(self.queued.peer, self.queued.request)


def direction_of(role: Role) -> PeerDirection:
    """The way of messages that an end with this role seals."""
    return PeerDirection.FROM_SENDER if role is Role.SENDER else PeerDirection.FROM_RECEIVER


OutboxNotice: TypeAlias = ControlArrived | ControlGivenUp
OutboxEffects: TypeAlias = Effects[ControlQueued | ControlDone, Never, OutboxNotice]


class Outbox:
    """The queues of all peers, ``limits.PEER_QUEUE`` messages each."""

    __slots__ = ("_out", "_peers", "_timers")

    def __init__(self, queued: Iterable[ControlQueued], now: float) -> None:
        """``queued`` as stored, oldest first."""
        self._out: Collector[ControlQueued | ControlDone, Never, OutboxNotice] = Collector()
        self._peers: dict[KmeName, dict[RequestId, Control]] = {}
        self._timers: Timers[ControlToken] = Timers()
        for one in queued:
            self._peers.setdefault(one.peer, {})[one.request] = Control(one)
        for peer in self._peers:
            self._turn(peer, now)

    @property
    def next(self) -> float | None:
        """When ``due`` has something next."""
        return self._timers.next

    def put(self, item: MustArrive, now: float) -> OutboxEffects:
        """Queue a message; one whose id is queued already is the same message."""
        peer, request = item.peer, item.message.request
        queue = self._peers.get(peer, {})
        if request not in queue and self._make_room(peer, queue, request):
            queued = ControlQueued(item.role, peer, request, encode_peer_message(item.message))
            self._peers.setdefault(peer, {})[request] = Control(queued)
            self._out.persist(queued)
            self._turn(peer, now)
        return self._out.take()

    def _make_room(self, peer: KmeName, queue: dict[RequestId, Control], request: RequestId) -> bool:
        """Displace the oldest message that may be lost; if none may, it is the new one."""
        if len(queue) < limits.PEER_QUEUE:
            return True
        oldest = next((control for control in queue.values() if control.expendable), None)
        if oldest is None:
            self._out.notify(ControlGivenUp(peer, request, codes.PEER_QUEUE_FULL))
            return False
        oldest.machine.step(ControlStep.DISPLACED)
        self._remove(oldest)
        self._out.notify(ControlGivenUp(peer, oldest.queued.request, codes.PEER_QUEUE_FULL))
        return True

    def done(self, role: Role, peer: KmeName, request: RequestId, now: float) -> OutboxEffects:
        """The peer carried a message out; it may say so twice."""
        control = self._peers.get(peer, {}).get(request)
        if control is not None and control.queued.role is role:
            control.machine.step(ControlStep.CARRIED_OUT)
            self._remove(control)
            self._out.notify(ControlArrived(peer, request))
            self._turn(peer, now)
        return self._out.take()

    def due(self, now: float) -> list[Control]:
        """The messages to attempt now; each is due again after its back-off."""
        controls = [self._peers[token.peer][token.request] for token in self._timers.due(now)]
        for control in controls:
            control.machine.step(ControlStep.ATTEMPT)
            delay = min(limits.PEER_RESEND_SECONDS << control.attempts, limits.PEER_RESEND_SECONDS_MAX)
            if delay < limits.PEER_RESEND_SECONDS_MAX:
                control.attempts += 1
            control.refusals = 0
            self._timers.set(control.token, now + delay)
        return controls

    def left(self, control: Control, hub: HubName) -> None:
        """An attempt left through ``hub``: the next takes another one."""
        control.last = hub

    def refused(self, token: ControlToken, hub: HubName, hubs: int) -> Control | None:
        """A hub refused an attempt: the message, if another of the ``hubs`` is worth an attempt now."""
        control = self._peers.get(token.peer, {}).get(token.request)
        if control is None or control.last != hub or control.refusals + 1 >= hubs:
            return None
        control.refusals += 1
        return control

    def hurry(self, peer: KmeName, now: float) -> None:
        """Something that kept messages from leaving is gone: those under way are due now."""
        for control in self._window(peer):
            control.attempts = 0
            self._timers.set(control.token, now)

    @property
    def peers(self) -> tuple[KmeName, ...]:
        """The peers for whom something is queued."""
        return tuple(self._peers)

    def is_revoking_all(self, role: Role, peer: KmeName) -> bool:
        """Whether the peer may still have to hear that all keys of a pair are revoked."""
        queue = self._peers.get(peer, {}).values()
        return any(control.revokes_all and control.queued.role is role for control in queue)

    def _window(self, peer: KmeName) -> list[Control]:
        return list(islice(self._peers.get(peer, {}).values(), limits.PEER_WINDOW))

    def _turn(self, peer: KmeName, now: float) -> None:
        for control in self._window(peer):
            if control.machine.state is ControlState.AWAITING_TURN:
                control.machine.step(ControlStep.TURN)
                self._timers.set(control.token, now)

    def _remove(self, control: Control) -> None:
        queue = self._peers[control.queued.peer]
        del queue[control.queued.request]
        if not queue:
            del self._peers[control.queued.peer]
        self._timers.cancel(control.token)
        self._out.persist(ControlDone(control.queued.peer, control.queued.request))
