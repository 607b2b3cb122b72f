"""Peer messages at one KME: seals and opens them, chooses hubs, and hands what was said to whom it concerns.

Requests go through one connected hub and are repeated through another; answers go back through the
hub that brought the request, and are repeated with it. An envelope that names an unknown root or does
not open is counted and never answered. Nothing that was opened is trusted to be fresh: every message
is idempotent, by batch (Ok, Void), by request and sending (ASSIGN and its answers), because its keys
are gone (VOID), or by a durable id (revocation). It must not know keys, reserves or policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug, PeerFault
from skex.base.ids import BatchId, HubName, Incarnation, KmeName, RealmName, RequestId
from skex.protocol import assign, assignee, changes, traffic
from skex.protocol.assign import Assigner, AssignerEvent, AssignerNotice, AssignToken
from skex.protocol.assignee import Assignee, AssigneeNotice, KeysGone, KeysHeld
from skex.protocol.changes import Change, Role
from skex.protocol.effects import Collector, Effects
from skex.protocol.envelopes import Channel, Outgoing
from skex.protocol.establishment import RootMade
from skex.protocol.outbox import Control, ControlToken, Outbox, OutboxNotice, direction_of
from skex.protocol.receiver import Answered
from skex.protocol.roots import Renewals, Root, Roots
from skex.protocol.sender import AnswerBatch
from skex.protocol.timers import Timers
from skex.protocol.ways import KeysTakenBack, MustArrive, Post, Ways
from skex.wire import messages
from skex.wire.peer import (
    Assign,
    Assigned,
    Envelope,
    KeyRange,
    NotAssigned,
    Ok,
    PeerDirection,
    PeerDone,
    PeerMessage,
    Revoke,
    RevokeReason,
    UnknownPeer,
    Void,
    VoidKeys,
    decode_peer_message,
    encode_peer_message,
)


# ── what the machine is asked ───────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Identity:
    """Who this KME is, in this start."""

    realm: RealmName
    name: KmeName
    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds at a start, oldest first.

    ``receivers``: each peer with the incarnation that its newest CONFIRM stated. ``offered``: without
    the keys that were delivered. ``held``: traffic keys that are still kept, assigned or not.
    """

    roots: tuple[changes.RootKept, ...] = ()
    queued: tuple[changes.ControlQueued, ...] = ()
    revocations: tuple[changes.RevocationCarriedOut, ...] = ()
    receivers: tuple[tuple[KmeName, Incarnation], ...] = ()
    offered: tuple[changes.KeysOffered, ...] = ()
    held: tuple[KeysHeld, ...] = ()
    assigned: tuple[changes.KeysAssigned, ...] = ()


@dataclass(frozen=True, slots=True)
class RevokeKeys:
    """Drop keys of the batches in which this end has ``role``, here and at the peer; None: all.

    ``request`` is 16 fresh random bytes.
    """

    role: Role
    peer: KmeName
    request: RequestId
    reason: RevokeReason
    keys: tuple[KeyRange, ...] | None


PeerEvent: TypeAlias = (
    assign.Start
    | assign.AssignKeys
    | assign.Deliver
    | assign.Release
    | assign.IncarnationSeen
    | KeysHeld
    | KeysGone
    | RootMade
    | AnswerBatch
    | RevokeKeys
    | traffic.HubLinkEvent
    | traffic.Tick
)


# ── what the machine tells ──────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class RootWanted:
    """Establish a control batch for ``peer``: there is no root, an old one, or one it may have lost."""

    peer: KmeName


@dataclass(frozen=True, slots=True)
class RootReady:
    """This end may seal to ``peer`` in this role from now on."""

    role: Role
    peer: KmeName


@dataclass(frozen=True, slots=True)
class EnvelopeDropped:
    """An envelope that ``hub`` brought, as from ``peer``, was dropped: count it by hub and code."""

    hub: HubName
    peer: KmeName
    code: ErrorCode


@dataclass(frozen=True, slots=True)
class Revoked:
    """Keys (None: all of the pair) are revoked: erased here, and not to be used where delivered."""

    role: Role
    peer: KmeName
    keys: tuple[KeyRange, ...] | None
    reason: RevokeReason
    by_peer: bool


PeerNotice: TypeAlias = (
    AssignerNotice | AssigneeNotice | OutboxNotice | RootWanted | RootReady | EnvelopeDropped | Revoked
)
PeerEffects: TypeAlias = Effects[Change, Outgoing, PeerNotice]


class _Revocations:
    """The newest revocations by peers that were carried out, by id."""

    def __init__(self, stored: Iterable[changes.RevocationCarriedOut]) -> None:
        self._ids: dict[tuple[Role, KmeName], list[RequestId]] = {}
        for one in stored:
            self.remember(one)

    def is_carried_out(self, role: Role, peer: KmeName, request: RequestId) -> bool:
        return request in self._ids.get((role, peer), ())

    def remember(self, one: changes.RevocationCarriedOut) -> None:
        known = self._ids.setdefault((one.role, one.peer), [])
        known.append(one.request)
        del known[: -limits.REVOCATIONS_REMEMBERED]


class _Answers:
    """Answers to CONFIRMs, gathered for a moment so that one message carries many."""

    def __init__(self) -> None:
        self._due: dict[KmeName, dict[BatchId, bool]] = {}
        self._timers: Timers[KmeName] = Timers()

    def add(self, answer: AnswerBatch, now: float) -> None:
        batches = self._due.setdefault(answer.peer, {})
        if not batches:
            self._timers.set(answer.peer, now + limits.ANSWER_GATHER_SECONDS)
        batches[answer.batch] = answer.ok
        if len(batches) == limits.PEER_RANGES:
            self._timers.set(answer.peer, now)

    def due(self, now: float) -> list[tuple[KmeName, list[Ok | Void]]]:
        """The messages to send now, by peer."""
        return [(peer, _answer_messages(self._due.pop(peer))) for peer in self._timers.due(now)]

    @property
    def next(self) -> float | None:
        return self._timers.next


def _answer_messages(batches: dict[BatchId, bool]) -> list[Ok | Void]:
    found: list[Ok | Void] = []
    if good := tuple(sorted(batch for batch, ok in batches.items() if ok)):
        found.append(Ok(good))
    if bad := tuple(sorted(batch for batch, ok in batches.items() if not ok)):
        found.append(Void(bad))
    return found


class PeerMessages:
    """Everything that this KME says to other KMEs and hears of them, end to end."""

    def __init__(self, identity: Identity, policy: assignee.AssignPolicy, stored: Stored, now: float) -> None:
        self._identity = identity
        self._ways = Ways()
        self._roots = Roots(stored.roots)
        self._renewals = Renewals()
        for kept in stored.roots:
            if kept.role is Role.SENDER:
                self._renewals.loaded(kept.peer, now)
        self._outbox = Outbox(stored.queued, now)
        self._answers = _Answers()
        self._last_answer: HubName | None = None
        self._revocations = _Revocations(stored.revocations)
        self._assigner = Assigner(
            identity.incarnation, self._ways, dict(stored.receivers), offered=stored.offered
        )
        self._assignee = Assignee(
            identity.name,
            identity.incarnation,
            policy,
            held=stored.held,
            assigned=stored.assigned,
            now=now,
        )
        self._out: Collector[Change, Outgoing, PeerNotice] = Collector()

    @property
    def assigner(self) -> Assigner:
        """The sender's side of assignments, for its queries."""
        return self._assigner

    @property
    def assignee(self) -> Assignee:
        """The receiver's side of assignments, for its queries."""
        return self._assignee

    @property
    def next_deadline(self) -> float | None:
        """When the next ``Tick`` is due."""
        deadlines = (
            self._outbox.next,
            self._answers.next,
            self._renewals.next,
            self._assigner.next_deadline,
        )
        return min((one for one in deadlines if one is not None), default=None)

    def is_revoking_all(self, role: Role, peer: KmeName) -> bool:
        """Whether a revocation of all keys of a pair may still reach the peer, and erase new ones too."""
        return self._outbox.is_revoking_all(role, peer)

    def has_root(self, role: Role, peer: KmeName) -> bool:
        """Whether this end may seal to a peer in this role now."""
        return self._roots.for_sealing(role, peer) is not None

    def handle(self, event: PeerEvent, now: float) -> PeerEffects:
        """Take one event. ``Start`` comes first, once. Raises ``LocalBug`` for calls out of bounds."""
        match event:
            case (
                traffic.HubUp()
                | traffic.HubDown()
                | traffic.FromHub()
                | traffic.AnsweredByHub()
                | traffic.Tick()
            ):
                self._traffic(event, now)
            case RootMade():
                self._root_made(event, now)
            case AnswerBatch():
                self._answer(event, now)
            case RevokeKeys():
                self._revoke(event, now)
            case KeysHeld() | KeysGone():
                self._absorb(self._assignee.handle(event, now), now)
            case assign.AssignKeys():
                self._assign(event, now)
            case assign.Start() | assign.Deliver() | assign.Release() | assign.IncarnationSeen():
                self._to_assigner(event, now)
            case _:
                assert_never(event)
        self._attempt(now)
        return self._out.take()

    # ── from the layer above ────────────────────────────────────────────────────────────────────
    def _root_made(self, event: RootMade, now: float) -> None:
        self._out.persist(*self._roots.add(event))
        if event.role is Role.SENDER:
            self._renewals.made(event.peer, now)
            self._root_ready(event.role, event.peer, now)

    def _root_ready(self, role: Role, peer: KmeName, now: float) -> None:
        self._outbox.hurry(peer, now)
        self._out.notify(RootReady(role, peer))

    def _answer(self, event: AnswerBatch, now: float) -> None:
        """A control batch that made a root is answered at once and under it; others wait for company."""
        root = self._roots.find(Role.SENDER, event.peer, event.batch)
        if root is None:
            self._answers.add(event, now)
        else:
            self._send_answer(Ok((event.batch,)), root)

    def _send_answer(self, message: Ok | Void, root: Root | None) -> None:
        """Answers are not repeated: the CONFIRM is."""
        hub = self._ways.next(self._last_answer, b"\0\0")
        if hub is not None and root is not None:
            self._last_answer = hub
            self._seal(root, hub, message, token=None)

    def _assign(self, event: assign.AssignKeys, now: float) -> None:
        """Refuse before keys are offered what could not leave."""
        if self.has_root(Role.SENDER, event.peer):
            self._to_assigner(event, now)
        else:
            self._renewals.asked(event.peer, now, has_root=False)
            self._out.notify(assign.NotOffered(event.peer, event.request, codes.NO_COMMON_ROOT))

    def _revoke(self, event: RevokeKeys, now: float) -> None:
        message = Revoke(event.request, event.reason, event.keys)
        self._take_back(event.role, event.peer, message, by_peer=False, now=now)
        self._must_arrive(MustArrive(event.role, event.peer, message), now)

    def _take_back(self, role: Role, peer: KmeName, message: Revoke, *, by_peer: bool, now: float) -> None:
        """Erase revoked keys here, end what was promised of them, and tell."""
        self._out.persist(changes.KeysRevoked(role, peer, message.keys, message.why))
        if message.keys is None:
            self._out.persist(changes.AllKeysVoided(role, peer))
        else:
            self._out.persist(changes.KeysVoided(role, peer, message.keys))
        taken = KeysTakenBack(peer, message.keys)
        if role is Role.SENDER:
            self._to_assigner(taken, now)
        else:
            self._absorb(self._assignee.handle(taken, now), now)
        self._out.notify(Revoked(role, peer, message.keys, message.why, by_peer=by_peer))

    # ── from links ──────────────────────────────────────────────────────────────────────────────
    def _traffic(self, event: traffic.HubLinkEvent | traffic.Tick, now: float) -> None:
        match event:
            case traffic.HubUp(hub):
                self._hub_up(hub, now)
            case traffic.HubDown(hub):
                self._ways.down(hub)
            case traffic.AnsweredByHub(hub, token, refusal):
                if refusal is not None:
                    self._refused(hub, token, now)
            case traffic.FromHub(hub, _, messages.Forwarded(peer, envelope)):
                self._arrived(hub, peer, envelope, now)
            case traffic.FromHub():
                raise LocalBug(codes.BAD_ARGUMENT, "not a peer message")
            case traffic.Tick():
                self._to_assigner(event, now)
                for peer, answers in self._answers.due(now):
                    root = self._roots.for_sealing(Role.SENDER, peer)
                    for answer in answers:
                        self._send_answer(answer, root)
                self._out.notify(*(RootWanted(peer) for peer in self._renewals.due(now)))
            case _:
                assert_never(event)

    def _hub_up(self, hub: HubName, now: float) -> None:
        was_cut_off = not len(self._ways)
        self._ways.up(hub)
        if was_cut_off:
            for peer in self._outbox.peers:
                self._outbox.hurry(peer, now)

    def _refused(self, hub: HubName, token: object, now: float) -> None:
        """A hub would not carry a message: the next one may."""
        if isinstance(token, AssignToken):
            self._to_assigner(assign.AttemptRefused(token), now)
        elif isinstance(token, ControlToken):
            control = self._outbox.refused(token, hub, len(self._ways))
            if control is not None:
                self._send_control(control, now)

    # ── opening ─────────────────────────────────────────────────────────────────────────────────
    def _arrived(self, hub: HubName, peer: KmeName, data: bytes, now: float) -> None:
        try:
            root, message = self._open(peer, data)
        except PeerFault as fault:
            self._out.notify(EnvelopeDropped(hub, peer, fault.code))
            return
        if root is None or message is None:
            self._out.notify(EnvelopeDropped(hub, peer, codes.NO_COMMON_ROOT))
        elif isinstance(message, UnknownPeer):
            self._out.notify(EnvelopeDropped(hub, peer, codes.REQUEST_UNKNOWN))
        else:
            if root.role is Role.SENDER:
                self._renewals.heard(peer)
                self._out.persist(*self._roots.opened(root))
            self._heard(hub, root, message, now)

    def _open(self, peer: KmeName, data: bytes) -> tuple[Root | None, PeerMessage | UnknownPeer | None]:
        """Raises ``PeerFault`` for what is no envelope, does not open, or opens to no message."""
        envelope = Envelope.from_bytes(data)
        from_sender = envelope.direction is PeerDirection.FROM_SENDER
        root = self._roots.find(Role.RECEIVER if from_sender else Role.SENDER, peer, envelope.root)
        if root is None:
            return None, None
        plaintext = self._channel(root, envelope.direction).open(root.secret, envelope)
        return root, decode_peer_message(plaintext, envelope.direction)

    def _heard(self, hub: HubName, root: Root, message: PeerMessage, now: float) -> None:
        role, peer = root.role, root.peer
        match message:
            case Ok(batches):
                if root.batch in batches:
                    self._confirm_root(root, now)
                self._answered(peer, batches, ok=True)
            case Void(batches):
                self._drop_candidates(peer, batches)
                self._answered(peer, batches, ok=False)
            case Assign() | VoidKeys():
                asked = assignee.PeerAsked(peer, hub, message)
                self._absorb(self._assignee.handle(asked, now), now)
            case Assigned() | NotAssigned():
                self._to_assigner(assign.PeerAnswered(peer, message), now)
            case Revoke(request):
                self._revoked_by_peer(role, peer, message, now)
                self._post(Post(hub, role, peer, PeerDone((request,))))
            case PeerDone(requests):
                for request in requests:
                    self._absorb(self._outbox.done(role, peer, request, now), now)
            case _:
                assert_never(message)

    def _confirm_root(self, root: Root, now: float) -> None:
        was_heard = root.heard
        self._out.persist(*self._roots.opened(root))
        if not was_heard:
            self._root_ready(root.role, root.peer, now)

    def _drop_candidates(self, peer: KmeName, batches: tuple[BatchId, ...]) -> None:
        """The sender does not hold these batches: one that made a root makes none."""
        for batch in batches:
            root = self._roots.find(Role.RECEIVER, peer, batch)
            if root is not None and not root.heard:
                self._out.persist(*self._roots.refuse(root))

    def _answered(self, peer: KmeName, batches: tuple[BatchId, ...], *, ok: bool) -> None:
        for batch in batches:
            self._assignee.answered(peer, batch, ok=ok)
            self._out.notify(Answered(peer, batch, ok))

    def _revoked_by_peer(self, role: Role, peer: KmeName, message: Revoke, now: float) -> None:
        if self._revocations.is_carried_out(role, peer, message.request):
            return
        done = changes.RevocationCarriedOut(role, peer, message.request)
        self._revocations.remember(done)
        self._out.persist(done)
        self._take_back(role, peer, message, by_peer=True, now=now)

    # ── sending ─────────────────────────────────────────────────────────────────────────────────
    def _to_assigner(self, event: AssignerEvent, now: float) -> None:
        self._absorb(self._assigner.handle(event, now), now)

    def _absorb(self, effects: Effects[Change, Post | MustArrive, PeerNotice], now: float) -> None:
        """Make what a part decided one set with everything else that this event brings."""
        self._out.persist(*effects.persist)
        for send in effects.send:
            if isinstance(send, Post):
                self._post(send)
                if isinstance(send.message, Assign):
                    self._renewals.asked(send.peer, now, has_root=True)
            else:
                self._must_arrive(send, now)
        self._out.notify(*effects.notify)

    def _post(self, post: Post) -> None:
        """Send once, if there is a root; whoever waits for it repeats."""
        root = self._roots.for_sealing(post.role, post.peer)
        hub = post.hub if self._ways.is_up(post.hub) else self._ways.next(post.hub, b"")
        if root is not None and hub is not None:
            self._seal(root, hub, post.message, post.token)

    def _must_arrive(self, item: MustArrive, now: float) -> None:
        self._absorb(self._outbox.put(item, now), now)

    def _attempt(self, now: float) -> None:
        """Send what is due of the durable queue."""
        for control in self._outbox.due(now):
            self._send_control(control, now)

    def _send_control(self, control: Control, now: float) -> None:
        queued = control.queued
        root = self._roots.for_sealing(queued.role, queued.peer)
        hub = self._ways.next(control.last, queued.request)
        if queued.role is Role.SENDER and hub is not None:
            self._renewals.asked(queued.peer, now, has_root=root is not None)
        if root is not None and hub is not None:
            self._outbox.left(control, hub)
            self._seal_plaintext(root, hub, queued.plaintext, control.token)

    def _seal(self, root: Root, hub: HubName, message: PeerMessage, token: object) -> None:
        self._seal_plaintext(root, hub, encode_peer_message(message), token)

    def _seal_plaintext(self, root: Root, hub: HubName, plaintext: bytes, token: object) -> None:
        channel = self._channel(root, direction_of(root.role))
        self._out.send(Outgoing(hub, root.peer, channel, root.copy(), plaintext, token))
        self._out.persist(*self._roots.sealed(root))

    def _channel(self, root: Root, direction: PeerDirection) -> Channel:
        mine, peer = self._identity.name, root.peer
        sender, receiver = (mine, peer) if root.role is Role.SENDER else (peer, mine)
        return Channel(self._identity.realm, sender, receiver, root.batch, direction)
