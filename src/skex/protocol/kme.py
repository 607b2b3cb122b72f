"""All machines of one KME behind one ``handle``: who hears which event, and who hears what of it.

Establishing, receiving, peer messages, realm trust and the rollback watch know nothing of each other.
What one of them tells and another must act upon is passed on here, within the same event, so that
everything one event causes is one atomic set. It must not know links, pads, stores or SAE policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from skex.base import codes, limits
from skex.base.errors import Refused
from skex.base.ids import BatchId, Coordinate, HubName, Incarnation, KmeName, LinkId
from skex.protocol import assign, assignee, bench, peer, realm, receiver, rollback, sender, traffic
from skex.protocol.changes import Batch, Change, Role
from skex.protocol.effects import Collector, Effects
from skex.protocol.envelopes import Outgoing
from skex.protocol.establishment import OwnClaims, RealmsChanged, RootMade
from skex.protocol.holding import ReceivedBatch
from skex.protocol.realm import HeldRealm, RealmTrust
from skex.protocol.standing import everybody_plays
from skex.wire import messages
from skex.wire.claim import Claim, Randomness
from skex.wire.context import Purpose
from skex.wire.peer import KeyRange

_MAY_BE_THE_BENCH: Final = (codes.DEADLINE_PASSED, codes.NOT_ENOUGH_HUBS)
"""How batches end that more hubs might have carried; other codes are what enough hubs say alike."""


# ── construction ────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Ports:
    """What the machines ask while they decide; all of it pure and synchronous."""

    claims: OwnClaims
    commits: sender.Commits
    admission: receiver.Admission
    assign_policy: assignee.AssignPolicy


@dataclass(frozen=True, slots=True)
class KmeState:
    """What a KME's store holds when the machines start."""

    realm: HeldRealm | None
    links: Mapping[HubName, LinkId]
    frozen_by_rollback: frozenset[HubName] = frozenset()
    rollback_found: str | None = None
    received: tuple[ReceivedBatch, ...] = ()
    counter_marks: Mapping[tuple[KmeName, Incarnation], int] = field(default_factory=dict)
    receiver_epochs: Mapping[KmeName, int] = field(default_factory=dict)
    peer_messages: peer.Stored = field(default_factory=peer.Stored)
    benched: bench.Stored = field(default_factory=bench.Stored)


# ── what the shell says ─────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class LinkProved:
    """A preface with ``hub`` finished; what it showed of this KME and stated of its realm file.

    That a hub noticed a rollback is told earlier, before the preface goes on: ``rollback.LinkProved``.
    """

    hub: HubName
    rolled_back: bool
    epoch: int
    realm_digest: bytes


KmeEvent: TypeAlias = (
    LinkProved
    | traffic.HubDown
    | traffic.FromHub
    | traffic.AnsweredByHub
    | traffic.Tick
    | sender.Establish
    | receiver.Searched
    | assign.AssignKeys
    | assign.Deliver
    | assign.Release
    | assignee.KeysGone
    | peer.RevokeKeys
    | realm.KitCollected
    | rollback.LinkProved
    | rollback.OwnContradiction
    | rollback.LinkRenewed
    | rollback.Settled
    | bench.BenchHub
    | bench.BringBack
)

# ── what the layer above hears ──────────────────────────────────────────────────────────────────
KmeNotice: TypeAlias = (
    sender.SenderNotice
    | receiver.ReceiverNotice
    | receiver.Answered
    | peer.PeerNotice
    | realm.RealmNotice
    | rollback.RollbackNotice
    | bench.BenchNotice
)
KmeSend: TypeAlias = traffic.SendToHub | Outgoing
KmeEffects: TypeAlias = Effects[Change, KmeSend, KmeNotice]


class _ReceiverClaims:
    """A receiver vouches for its links only: randomness is the sender's, so it states the neutral value."""

    def __init__(self, claims: OwnClaims) -> None:
        self._claims = claims

    def own_claim(self, hubs: Sequence[Coordinate]) -> Claim:
        """As ``OwnClaims`` says."""
        return replace(self._claims.own_claim(hubs), randomness=min(Randomness))


class KmeCore:
    """One KME without its links, store and doors."""

    def __init__(
        self,
        identity: peer.Identity,
        ports: Ports,
        floor: int,
        held: KmeState,
        now: float,
        *,
        hubs: bench.Bench | None = None,
    ) -> None:
        """``floor`` is the least threshold that this KME accepts, whatever a realm file says.

        Without ``hubs`` nothing is counted or kept of what hubs do, and none is ever benched.

        Raises ``Refused`` (realm-below-floor) where the floor was raised above the held threshold.
        """
        self._trust = RealmTrust(floor, now, held.realm)
        self._held = held
        realms = self._trust.realms(now)
        self._bench = hubs
        standing = everybody_plays if hubs is None else hubs.standing
        self._sender = sender.Sender(
            name=identity.name,
            incarnation=identity.incarnation,
            realms=realms,
            claims=ports.claims,
            commits=ports.commits,
            receiver_epochs=held.receiver_epochs,
            standing=standing,
        )
        self._receiver = receiver.Receiver(
            name=identity.name,
            incarnation=identity.incarnation,
            realms=realms,
            claims=_ReceiverClaims(ports.claims),
            admission=ports.admission,
            batches=held.received,
            marks=held.counter_marks,
            standing=standing,
        )
        self._peer = peer.PeerMessages(identity, ports.assign_policy, held.peer_messages, now)
        self._links = dict(held.links)
        self._frozen = set(held.frozen_by_rollback)
        self._watch: rollback.RollbackWatch | None = None
        self._out: Collector[Change, KmeSend, KmeNotice] = Collector()

    # ── queries ─────────────────────────────────────────────────────────────────────────────────
    @property
    def next_deadline(self) -> float | None:
        """When the next ``Tick`` is due."""
        watch = None if self._watch is None else self._watch.next_deadline
        benched = None if self._bench is None else self._bench.next_deadline
        deadlines = (
            self._sender.next_deadline,
            self._receiver.next_deadline,
            self._peer.next_deadline,
            self._trust.next_deadline,
            watch,
            benched,
        )
        return min((one for one in deadlines if one is not None), default=None)

    @property
    def may_deliver(self) -> bool:
        """Whether enough hubs showed since the start that this KME was not rolled back."""
        return self._watch is not None and self._watch.may_deliver

    @property
    def incarnation(self) -> Incarnation:
        """Who this start is: what prefaces state."""
        return self._sender.incarnation

    @property
    def peer_messages(self) -> peer.PeerMessages:
        """Roots and assignments, for their queries."""
        return self._peer

    @property
    def trust(self) -> RealmTrust:
        """The realm files in force, for their queries."""
        return self._trust

    def entropy_bytes(self, peer_name: KmeName, keys: int, key_bytes: int) -> int:
        """How many fresh bytes an ``Establish`` must bring now; 0 if it would be refused."""
        return self._sender.entropy_bytes(peer_name, keys, key_bytes)

    # ── events ──────────────────────────────────────────────────────────────────────────────────
    def start(self, now: float) -> KmeEffects:
        """What a start does before any event; to be called once."""
        self._begin_watch(now)
        self._from_peer(self._peer.handle(assign.Start(), now), now)
        return self._out.take()

    def handle(self, event: KmeEvent, now: float) -> KmeEffects:
        """Advance by one event.

        Raises ``Refused`` for a kit whose realm file is not accepted, ``LocalBug`` for calls out of
        bounds; nothing is changed then.
        """
        match event:
            case LinkProved():
                self._proved(event, now)
            case traffic.HubDown() | traffic.Tick():
                self._everyone(event, now)
            case traffic.FromHub():
                self._arrived(event, now)
            case traffic.AnsweredByHub():
                self._answered(event, now)
            case sender.Establish():
                self._establish(event, now)
            case receiver.Searched():
                self._to_receiver(event, now)
            case realm.KitCollected():
                self._to_trust(event, now)
            case rollback.LinkRenewed():
                self._links[event.hub] = event.link_id
                self._frozen.discard(event.hub)
                self._to_watch(event, now)
            case rollback.LinkProved() | rollback.OwnContradiction() | rollback.Settled():
                self._to_watch(event, now)
            case bench.BenchHub() | bench.BringBack():
                self._command(event, now)
            case _:
                self._to_peer(event, now)
        return self._out.take()

    def _establish(self, event: sender.Establish, now: float) -> None:
        """Make no keys that a revocation on its way to the peer would erase there, and only there."""
        is_traffic = event.purpose is Purpose.TRAFFIC
        if is_traffic and self._peer.is_revoking_all(Role.SENDER, event.peer):
            event.entropy.wipe()
            code = codes.REVOCATION_PENDING
            self._out.notify(sender.NotEstablished(event.token, event.peer, None, code))
        else:
            self._to_sender(event, now)

    def _command(self, event: bench.BenchHub | bench.BringBack, now: float) -> None:
        """An operator may bench hubs of the realm, and those with a link of older days."""
        realms = self._trust.realms(now)
        known = realms is not None and realms.current.hub_named(event.hub) is not None
        if not known and event.hub not in self._links:
            raise Refused(codes.HUB_NOT_IN_REALM, event.hub)
        self._to_bench(event, now)

    def _proved(self, event: LinkProved, now: float) -> None:
        up = traffic.HubUp(event.hub)
        self._to_watch(rollback.LinkProved(event.hub, event.rolled_back), now)
        self._to_trust(realm.RealmStated(event.hub, event.epoch, event.realm_digest), now)
        self._to_sender(up, now)
        self._to_receiver(up, now)
        self._to_peer(up, now)

    def _everyone(self, event: traffic.HubDown | traffic.Tick, now: float) -> None:
        self._to_trust(event, now)
        self._to_sender(event, now)
        self._to_receiver(event, now)
        self._to_peer(event, now)
        if isinstance(event, traffic.Tick):
            self._to_watch(event, now)
            self._to_bench(event, now)

    def _arrived(self, event: traffic.FromHub, now: float) -> None:
        match event.message:
            case messages.Shared():
                self._to_receiver(event, now)
            case messages.Confirmed():
                self._to_sender(event, now)
            case messages.Forwarded():
                self._to_peer(event, now)
            case _:
                self._to_trust(event, now)

    def _answered(self, event: traffic.AnsweredByHub, now: float) -> None:
        match event.token:
            case sender.ShareToken():
                self._to_sender(event, now)
            case receiver.ConfirmToken():
                self._to_receiver(event, now)
            case _:
                self._to_peer(event, now)

    # ── to each machine, and what follows from what it tells ────────────────────────────────────
    def _to_sender(self, event: sender.SenderEvent, now: float) -> None:
        effects = self._sender.handle(event, now)
        self._take(effects)
        for notice in effects.notify:
            match notice:
                case sender.AnswerBatch() | RootMade():
                    self._to_peer(notice, now)
                case sender.Established(batch=Batch(peer=name), receiver_incarnation=incarnation):
                    self._to_peer(assign.IncarnationSeen(name, incarnation), now)
                case sender.NotEstablished(peer=name, batch=BatchId(), code=code) if (
                    code in _MAY_BE_THE_BENCH
                ):
                    self._to_bench(bench.BatchFailed(name), now)
                case _:
                    pass

    def _to_receiver(self, event: receiver.ReceiverEvent, now: float) -> None:
        effects = self._receiver.handle(event, now)
        self._take(replace(effects, notify=tuple(one for one in effects.notify if not _is_counted(one))))
        for notice in effects.notify:
            match notice:
                case RootMade():
                    self._to_peer(notice, now)
                case receiver.BatchAccepted(batch) if batch.context.purpose is Purpose.TRAFFIC:
                    self._to_peer(_held(batch), now)
                case receiver.BatchExpired():
                    self._to_peer(_gone(notice), now)
                case (
                    receiver.HubBlamed()
                    | receiver.ShareCounted()
                    | receiver.ShareMissing()
                    | receiver.SharesRight()
                ):
                    self._to_bench(notice, now)
                case _:
                    pass

    def _to_peer(self, event: peer.PeerEvent, now: float) -> None:
        self._from_peer(self._peer.handle(event, now), now)

    def _from_peer(self, effects: peer.PeerEffects, now: float) -> None:
        self._take(effects)
        for notice in effects.notify:
            if isinstance(notice, receiver.Answered):
                self._to_receiver(notice, now)

    def _to_trust(self, event: realm.RealmEvent, now: float) -> None:
        effects = self._trust.handle(event, now)
        self._take(effects)
        for notice in effects.notify:
            if isinstance(notice, RealmsChanged):
                self._to_sender(notice, now)
                self._to_receiver(notice, now)
                self._to_watch(notice, now)
                self._begin_watch(now)

    def _to_bench(self, event: bench.BenchEvent, now: float) -> None:
        if self._bench is not None:
            self._take(self._bench.handle(event, now))

    def _to_watch(self, event: rollback.RollbackEvent, now: float) -> None:
        if self._watch is not None:
            self._take(self._watch.handle(event, now))

    def _begin_watch(self, now: float) -> None:
        realms = self._trust.realms(now)
        if self._watch is None and realms is not None:
            self._watch = rollback.RollbackWatch(
                realms.current, self._links, self._frozen, self._held.rollback_found
            )
            self._take(self._watch.start(now))

    def _take(self, effects: Effects[Change, KmeSend, KmeNotice]) -> None:
        self._out.persist(*effects.persist)
        self._out.send(*effects.send)
        self._out.notify(*effects.notify)


def _is_counted(notice: receiver.ReceiverNotice) -> bool:
    """What the bench counts and nobody else has to hear: one such notice comes of every batch."""
    return isinstance(notice, receiver.ShareMissing | receiver.SharesRight)


def _held(batch: Batch) -> assignee.KeysHeld:
    keys = KeyRange(batch.batch, 0, batch.context.keys)
    return assignee.KeysHeld(batch.peer, batch.batch, (keys,), answered=False)


def _gone(expired: receiver.BatchExpired) -> assignee.KeysGone:
    """Whatever was left of a batch; ranges beyond it do not matter."""
    keys = KeyRange(expired.batch, 0, limits.BATCH_KEYS)
    return assignee.KeysGone(expired.sender, (keys,))
