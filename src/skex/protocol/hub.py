"""The hub's relaying between its links: check, spend, pass on, forget.

A share passes through in one call of ``handle``: it arrives in an event and leaves in the effects,
and nothing of it stays here, on disk or in a notice. Who may establish with whom and how much is the
policy's, how much pad is left is the links'; both are ports. Nothing of this machine is durable: a
hub that restarts has forgotten which batches it relayed, and their receivers use another hub.

This module must not know pads, records, keys or SAEs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, Protocol, TypeAlias, assert_never

from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug
from skex.base.ids import BatchId, Incarnation, KmeName
from skex.protocol.changes import Change
from skex.protocol.effects import Collector, Effects
from skex.protocol.quota import Buckets, Quota
from skex.protocol.relayed import Pair, RelayedBatches
from skex.protocol.states import StateMachine, Table
from skex.protocol.traffic import AnsweredByKme, FromKme, KmeDown, KmeLinkEvent, KmeUp, SendToKme, Tick
from skex.wire import messages
from skex.wire.context import Purpose


# ── ports ───────────────────────────────────────────────────────────────────────────────────────
class Stream(Enum):
    """What one KME may send to another through a hub; each has quotas of its own."""

    SHARES = "shares"
    PEER_MESSAGES = "peer-messages"


class RelayPolicy(Protocol):
    """The hub operator's decisions. Pure and total: a name it does not know is simply not allowed."""

    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> bool:
        """Whether ``sender`` may make batches for ``receiver``; false if either is suspended."""
        ...

    def pair_quota(self, sender: KmeName, receiver: KmeName, stream: Stream) -> Quota:
        """How much ``sender`` may draw on ``receiver``'s pad."""
        ...

    def total_quota(self, receiver: KmeName, stream: Stream) -> Quota:
        """How much all senders together may draw on ``receiver``'s pad, as its owner set it."""
        ...


class RelayLinks(Protocol):
    """What the links can tell. Asked only for KMEs that are connected."""

    def remaining(self, kme: KmeName) -> int:
        """Pad bytes of the direction to ``kme`` that are neither used nor promised to what waits."""
        ...


# ── events ──────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class RealmChanged:
    """The hub's operator put another realm file in force."""

    data: bytes


HubEvent: TypeAlias = KmeLinkEvent | RealmChanged | Tick


@dataclass(frozen=True, slots=True)
class RelayToken:
    """Names, in an answer to a relayed message, the request that it was made from.

    ``connection`` numbers the connection of ``origin`` that the request came on.
    """

    origin: KmeName
    connection: int
    ordinal: int


# ── notices ─────────────────────────────────────────────────────────────────────────────────────
class Request(Enum):
    """What was asked of the hub."""

    SHARE = "share"
    CONFIRM = "confirm"
    PEER = "peer"
    REALM = "realm"


class Reason(Enum):
    """Why a request was refused: for the hub's own log; its requester learns ``refusal`` only."""

    FORBIDDEN = "forbidden"
    ABSENT = "absent"
    PAIR_QUOTA = "pair-quota"
    TOTAL_QUOTA = "total-quota"
    QUOTAS_FULL = "quotas-full"
    PAD_FLOOR = "pad-floor"
    PAD_SPENT = "pad-spent"
    NOT_RELAYED = "not-relayed"
    CONFIRMS_SPENT = "confirms-spent"
    REALM_SENT = "realm-sent"

    @property
    def refusal(self) -> messages.Refusal:
        """What the requester is told: the same for reasons that it must not tell apart."""
        return _REFUSALS[self]


_REFUSALS: Final[dict[Reason, messages.Refusal]] = {
    Reason.FORBIDDEN: messages.Refusal.NOT_AUTHORISED,
    Reason.ABSENT: messages.Refusal.RECEIVER_ABSENT,
    Reason.PAIR_QUOTA: messages.Refusal.QUOTA_EXCEEDED,
    Reason.TOTAL_QUOTA: messages.Refusal.QUOTA_EXCEEDED,
    Reason.QUOTAS_FULL: messages.Refusal.BUSY,
    Reason.PAD_FLOOR: messages.Refusal.PAD_FLOOR,
    Reason.PAD_SPENT: messages.Refusal.PAD_EXHAUSTED,
    Reason.NOT_RELAYED: messages.Refusal.BATCH_UNKNOWN,
    Reason.CONFIRMS_SPENT: messages.Refusal.BATCH_UNKNOWN,
    Reason.REALM_SENT: messages.Refusal.BUSY,
}


@dataclass(frozen=True, slots=True)
class Relayed:
    """A message was passed on; ``pad_bytes`` is what it costs the receiver's pad.

    ``batch`` is None for peer messages, which the hub cannot read.
    """

    request: Request
    sender: KmeName
    receiver: KmeName
    batch: BatchId | None
    pad_bytes: int


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """A request was not granted. ``receiver`` is as ``sender`` stated it: perhaps nobody's name.

    ``purpose`` is that of the batch that was to be passed on, or confirmed.
    """

    request: Request
    sender: KmeName
    receiver: KmeName | None
    code: ErrorCode
    reason: Reason
    purpose: Purpose | None = None


@dataclass(frozen=True, slots=True)
class RefusedByReceiver:
    """A KME refused what was relayed to it. ``told`` says whether ``sender`` was told."""

    receiver: KmeName
    sender: KmeName | None
    code: ErrorCode
    told: bool


@dataclass(frozen=True, slots=True)
class BatchEvicted:
    """The table of relayed batches was full: CONFIRMs of this batch are not relayed any more."""

    sender: KmeName
    receiver: KmeName
    batch: BatchId


@dataclass(frozen=True, slots=True)
class RealmSent:
    """The realm file was sent to a KME, asked for or because it changed."""

    kme: KmeName


@dataclass(frozen=True, slots=True)
class RealmNotSent:
    """A changed realm file was not pushed: the KME's pad has no room; it learns at its next preface."""

    kme: KmeName
    code: ErrorCode


HubNotice: TypeAlias = Relayed | RefusedRequest | RefusedByReceiver | BatchEvicted | RealmSent | RealmNotSent
HubEffects: TypeAlias = Effects[Change, SendToKme, HubNotice]


# ── the connection of one KME ───────────────────────────────────────────────────────────────────
class ConnectionState(Enum):
    """Whether a KME can be reached; one that cannot has no entry."""

    ABSENT = auto()
    CONNECTED = auto()


class ConnectionStep(Enum):
    """What happens to a KME's link."""

    CAME_UP = auto()
    SPOKE = auto()
    WENT_DOWN = auto()


TABLE: Final[Table[ConnectionState, ConnectionStep]] = {
    (ConnectionState.ABSENT, ConnectionStep.CAME_UP): ConnectionState.CONNECTED,
    (ConnectionState.CONNECTED, ConnectionStep.CAME_UP): ConnectionState.CONNECTED,
    (ConnectionState.CONNECTED, ConnectionStep.SPOKE): ConnectionState.CONNECTED,
    (ConnectionState.CONNECTED, ConnectionStep.WENT_DOWN): ConnectionState.ABSENT,
}
INITIAL: Final = ConnectionState.ABSENT


class _Connection:
    """One KME's connection, as far as relaying needs it."""

    __slots__ = ("incarnation", "machine", "number", "realm_sent", "refusable")

    def __init__(self) -> None:
        self.machine: StateMachine[ConnectionState, ConnectionStep] = StateMachine(TABLE, INITIAL)
        self.begin(0, Incarnation(b""))

    def begin(self, number: int, incarnation: Incarnation) -> None:
        """A new connection starts; nothing of an older one counts."""
        self.number = number
        self.incarnation = incarnation
        self.realm_sent = False
        # Requests that were relayed and may still be refused by their receiver, once each: or a
        # receiver that repeats a refusal would burn this KME's pad.
        self.refusable: OrderedDict[int, None] = OrderedDict()

    def await_refusal(self, ordinal: int) -> None:
        """The request ``ordinal`` was relayed; the oldest is forgotten where there are too many."""
        self.refusable[ordinal] = None
        if len(self.refusable) > limits.REFUSABLE_REQUESTS:
            self.refusable.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A request on its way: who sent it, on which connection, under which number."""

    sender: KmeName
    connection: _Connection
    ordinal: int


class HubRelay:
    """Relays between the links of one hub."""

    def __init__(
        self,
        policy: RelayPolicy,
        links: RelayLinks,
        realm: bytes,
        *,
        relayed: RelayedBatches | None = None,
        buckets: Buckets | None = None,
        floor: Callable[[Stream], int] | None = None,
    ) -> None:
        """``floor`` is how many bytes of a receiver's pad each stream leaves over, asked every time."""
        self._floor = floor or _FLOORS.__getitem__
        self._policy = policy
        self._links = links
        self._realm = messages.RealmFile(realm)
        self._relayed = RelayedBatches() if relayed is None else relayed
        self._buckets = Buckets() if buckets is None else buckets
        self._connections: dict[KmeName, _Connection] = {}
        self._numbers = 0
        self._out: Collector[Change, SendToKme, HubNotice] = Collector()

    @property
    def next_deadline(self) -> float | None:
        """When a ``Tick`` is due: a batch expires, or quotas may be full again."""
        deadlines = (self._relayed.next_deadline, self._buckets.next_sweep)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def connected(self) -> tuple[KmeName, ...]:
        """The KMEs that can be reached."""
        return tuple(self._connections)

    def handle(self, event: HubEvent, now: float) -> HubEffects:
        """Advance by one event.

        Raises ``LocalBug``: bug-state for an event of a KME that is not connected, bug-argument for a
        message that is the link's to handle.
        """
        match event:
            case FromKme(kme, ordinal, message):
                self._request(_Arrival(kme, self._step(kme, ConnectionStep.SPOKE), ordinal), message, now)
            case AnsweredByKme(kme, token, refusal):
                self._step(kme, ConnectionStep.SPOKE)
                self._refused(kme, token, refusal)
            case KmeUp(kme, incarnation):
                self._numbers += 1
                self._step(kme, ConnectionStep.CAME_UP).begin(self._numbers, incarnation)
            case KmeDown(kme):
                self._step(kme, ConnectionStep.WENT_DOWN)
            case RealmChanged(data):
                self._realm_changed(data)
            case Tick():
                self._relayed.expire(now)
                self._buckets.sweep(now)
            case _:
                assert_never(event)
        return self._out.take()

    def _step(self, kme: KmeName, step: ConnectionStep) -> _Connection:
        connection = self._connections.get(kme) or _Connection()
        if connection.machine.step(step) is ConnectionState.CONNECTED:
            self._connections[kme] = connection
        else:
            del self._connections[kme]
        return connection

    def _request(self, arrival: _Arrival, message: messages.Message, now: float) -> None:
        match message:
            case messages.Share():
                self._share(arrival, message, now)
            case messages.Confirm():
                self._confirm(arrival, message, now)
            case messages.Peer():
                self._peer(arrival, message, now)
            case messages.GetRealm():
                self._get_realm(arrival)
            case _:
                raise LocalBug(codes.BAD_ARGUMENT, f"{type(message).__name__} is not for relaying")

    # ── shares ──────────────────────────────────────────────────────────────────────────────────
    def _share(self, arrival: _Arrival, share: messages.Share, now: float) -> None:
        pair, purpose = Pair(arrival.sender, share.receiver), share.context.purpose
        batch = BatchId(arrival.connection.incarnation, share.counter)
        shared = messages.Shared(arrival.sender, batch, share.context, share.tag, share.share)
        cost = record_pad_bytes(shared)
        denied = self._denied_draw(pair, Stream.SHARES, cost, now, allowed=self._may_establish(pair, purpose))
        if denied is not None:
            self._refuse(arrival, Request.SHARE, share.receiver, denied, purpose)
            return
        evicted = self._relayed.remember(pair, batch, purpose, now)
        if evicted is not None:
            self._out.notify(BatchEvicted(evicted.pair.sender, evicted.pair.receiver, evicted.batch))
        self._pass_on(arrival, share.receiver, shared)
        self._out.send(SendToKme(arrival.sender, messages.Done(arrival.ordinal)))
        self._out.notify(Relayed(Request.SHARE, pair.sender, pair.receiver, batch, cost))

    def _may_establish(self, pair: Pair, purpose: Purpose) -> bool:
        # Nobody establishes with itself; no policy is asked.
        return pair.sender != pair.receiver and self._policy.may_establish(
            pair.sender, pair.receiver, purpose
        )

    def _denied_draw(
        self, pair: Pair, stream: Stream, cost: int, now: float, *, allowed: bool
    ) -> Reason | None:
        """Why ``cost`` bytes of the receiver's pad may not be spent; counts them if they may.

        Permission comes first, so that whoever has none learns nothing else; quotas come last, so
        that what is refused for another reason does not count.
        """
        if not allowed:
            return Reason.FORBIDDEN
        denied = self._unreachable(pair.receiver, cost, self._floor(stream))
        if denied is not None:
            return denied
        charges: dict[Hashable, Quota] = {
            (stream, pair): self._policy.pair_quota(pair.sender, pair.receiver, stream),
            (stream, pair.receiver): self._policy.total_quota(pair.receiver, stream),
        }
        exceeded = self._buckets.exceeded(charges, cost, now)
        if exceeded is not None:
            return Reason.PAIR_QUOTA if exceeded == (stream, pair) else Reason.TOTAL_QUOTA
        if not self._buckets.room(charges, now):
            return Reason.QUOTAS_FULL
        self._buckets.spend(charges, cost, now)
        return None

    def _unreachable(self, kme: KmeName, cost: int, floor: int) -> Reason | None:
        """Why a record of ``cost`` pad bytes cannot be sent to ``kme`` with ``floor`` bytes left over."""
        if kme not in self._connections:
            return Reason.ABSENT
        left = self._links.remaining(kme) - cost
        if left < 0:
            return Reason.PAD_SPENT
        return Reason.PAD_FLOOR if left < floor else None

    # ── what comes back ─────────────────────────────────────────────────────────────────────────
    def _confirm(self, arrival: _Arrival, confirm: messages.Confirm, now: float) -> None:
        receiver, sender, batch = arrival.sender, confirm.sender, confirm.confirmation.batch
        confirmed = messages.Confirmed(receiver, confirm.confirmation)
        cost = record_pad_bytes(confirmed)
        known = self._relayed.find(Pair(sender, receiver), batch, now)
        if known is None:
            denied: Reason | None = Reason.NOT_RELAYED
        elif not known.may_confirm:
            denied = Reason.CONFIRMS_SPENT
        elif not self._may_establish(known.pair, known.purpose):
            denied = Reason.FORBIDDEN
        else:
            denied = self._unreachable(sender, cost, floor=0)
            if denied is None:
                known.count_confirm()
        if denied is not None:
            purpose = None if known is None else known.purpose
            self._refuse(arrival, Request.CONFIRM, sender, denied, purpose)
            return
        self._pass_on(arrival, sender, confirmed)
        self._out.notify(Relayed(Request.CONFIRM, receiver, sender, batch, cost))

    def _refused(self, kme: KmeName, token: Hashable, refusal: int) -> None:
        """A KME refused something: tell whoever asked for it, if its connection is still the same."""
        code = messages.refusal_code(refusal)
        if not isinstance(token, RelayToken):
            self._out.notify(RefusedByReceiver(kme, None, code, told=False))
            return
        origin = self._connections.get(token.origin)
        told = (
            origin is not None
            and origin.number == token.connection
            and origin.refusable.pop(token.ordinal, False) is None
        )
        if told:
            self._out.send(SendToKme(token.origin, messages.Refuse(token.ordinal, refusal)))
        self._out.notify(RefusedByReceiver(kme, token.origin, code, told))

    # ── peer messages ───────────────────────────────────────────────────────────────────────────
    def _peer(self, arrival: _Arrival, peer: messages.Peer, now: float) -> None:
        pair = Pair(arrival.sender, peer.receiver)
        forwarded = messages.Forwarded(arrival.sender, peer.envelope)
        cost = record_pad_bytes(forwarded)
        denied = self._denied_draw(pair, Stream.PEER_MESSAGES, cost, now, allowed=self._may_talk(pair))
        if denied is not None:
            self._refuse(arrival, Request.PEER, peer.receiver, denied)
            return
        self._pass_on(arrival, peer.receiver, forwarded)
        self._out.notify(Relayed(Request.PEER, pair.sender, pair.receiver, None, cost))

    def _may_talk(self, pair: Pair) -> bool:
        """Two KMEs may talk where one may establish with the other: answers travel the other way.

        The purpose is "control": the roots of peer messages come from nothing else.
        """
        return self._may_establish(pair, Purpose.CONTROL) or self._may_establish(
            Pair(pair.receiver, pair.sender), Purpose.CONTROL
        )

    # ── the realm file ──────────────────────────────────────────────────────────────────────────
    def _get_realm(self, arrival: _Arrival) -> None:
        """Send the realm file: once per connection and file, for a connection loses nothing."""
        cost = record_pad_bytes(self._realm)
        if arrival.connection.realm_sent:
            denied: Reason | None = Reason.REALM_SENT
        else:
            denied = self._unreachable(arrival.sender, cost, floor=0)
        if denied is not None:
            self._refuse(arrival, Request.REALM, None, denied)
            return
        self._send_realm(arrival.sender, arrival.connection)

    def _realm_changed(self, data: bytes) -> None:
        self._realm = messages.RealmFile(data)
        cost = record_pad_bytes(self._realm)
        for kme, connection in self._connections.items():
            connection.realm_sent = False
            denied = self._unreachable(kme, cost, floor=0)
            if denied is None:
                self._send_realm(kme, connection)
            else:
                self._out.notify(RealmNotSent(kme, messages.refusal_code(denied.refusal)))

    def _send_realm(self, kme: KmeName, connection: _Connection) -> None:
        connection.realm_sent = True
        self._out.send(SendToKme(kme, self._realm))
        self._out.notify(RealmSent(kme))

    # ── sending ─────────────────────────────────────────────────────────────────────────────────
    def _pass_on(self, arrival: _Arrival, receiver: KmeName, message: messages.Message) -> None:
        connection = arrival.connection
        connection.await_refusal(arrival.ordinal)
        token = RelayToken(arrival.sender, connection.number, arrival.ordinal)
        self._out.send(SendToKme(receiver, message, token))

    def _refuse(
        self,
        arrival: _Arrival,
        request: Request,
        receiver: KmeName | None,
        reason: Reason,
        purpose: Purpose | None = None,
    ) -> None:
        self._out.send(SendToKme(arrival.sender, messages.Refuse(arrival.ordinal, reason.refusal)))
        code = messages.refusal_code(reason.refusal)
        self._out.notify(RefusedRequest(request, arrival.sender, receiver, code, reason, purpose))


_FLOORS: Final[dict[Stream, int]] = {
    Stream.SHARES: limits.CONTROL_FLOOR_BYTES,
    Stream.PEER_MESSAGES: limits.PEER_FLOOR_BYTES,
}


def record_pad_bytes(message: messages.Message) -> int:
    """Pad bytes that the record of ``message`` costs; a share is measured without copying it."""
    if isinstance(message, messages.Shared):
        length = len(message.share)
        without = messages.encode_message(replace(message, share=b""))
        body = len(without) - 1 + _byte_string_head(length) + length
    else:
        body = len(messages.encode_message(message))
    return limits.RECORD_TAG_BYTES + body


def _byte_string_head(length: int) -> int:
    """Bytes before the content of a CBOR byte string of at most 65,535 bytes (RFC 8949, section 3)."""
    if length < 24:
        return 1
    return 2 if length < 256 else 3
