"""Side A of establishment: makes batches, gives each hub its share, waits for the peer's CONFIRM.

Until a valid CONFIRM a batch lives in memory only; the first valid one is final. Refusals by hubs are
hints: they end a batch when so many hubs refuse or are unreachable that k cannot be reached. This
machine knows the realm, which links are up and its own batches; never how links seal, which SAE wants
a key, or how answers to the peer travel (it asks for them with ``AnswerBatch``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeAlias, assert_never

from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug, PeerFault
from skex.base.ids import BatchId, Coordinate, GroupId, HubName, Incarnation, KmeName
from skex.base.secret import Secret
from skex.protocol import establishment
from skex.protocol.changes import Batch, BatchSent, Change, Role, RootKept
from skex.protocol.effects import Collector, Effects
from skex.protocol.establishment import OwnClaims, Realms, RealmsChanged, RootMade, SharedSecret
from skex.protocol.standing import Standing, StandingOf, everybody_plays
from skex.protocol.states import StateMachine, Table
from skex.protocol.timers import Timers
from skex.protocol.traffic import AnsweredByHub, FromHub, HubDown, HubUp, SendToHub, Tick
from skex.wire.codec import Fields
from skex.wire.context import CompactContext, Context, Purpose
from skex.wire.independence import ANYBODY, Floor
from skex.wire.messages import Confirmation, Confirmed, Refusal, Share, refusal_code
from skex.wire.realm import Realm


# ── what the machine is asked ───────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Establish:
    """Make a batch for ``peer``: ``keys`` keys of ``key_bytes`` bytes that live ``lifetime`` seconds.

    ``independence`` is what policy demands of the hubs. ``entropy`` holds exactly
    ``Sender.entropy_bytes`` fresh bytes and belongs to the machine from now on. ``token`` comes back in
    ``Established`` or ``NotEstablished``.
    """

    peer: KmeName
    keys: int
    key_bytes: int
    purpose: Purpose
    lifetime: int
    group: GroupId | None
    threshold_floor: int
    entropy: Secret
    token: Hashable
    independence: Floor = ANYBODY


@dataclass(frozen=True, slots=True)
class ShareToken:
    """Names a SHARE in the answers that the link hands back."""

    batch: BatchId


SenderEvent: TypeAlias = Establish | RealmsChanged | HubUp | HubDown | FromHub | AnsweredByHub | Tick


# ── what the machine tells ──────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Established:
    """The peer confirmed and ``BatchSent`` is durable: the keys may be used.

    Their lifetime counts from ``made_at``, when the secret was made.
    """

    token: Hashable
    batch: Batch
    made_at: float
    receiver_incarnation: Incarnation
    receiver_epoch: int


@dataclass(frozen=True, slots=True)
class NotEstablished:
    """The batch was refused at once (``batch`` None) or given up; nothing of it is left.

    ``refusals`` are the hubs' hints, for the log.
    """

    token: Hashable
    peer: KmeName
    batch: BatchId | None
    code: ErrorCode
    refusals: tuple[tuple[HubName, int], ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerBatch:
    """Answer a CONFIRM of ``peer`` with a sealed Ok or Void; each CONFIRM asks again."""

    peer: KmeName
    batch: BatchId
    ok: bool


class Doubt(Enum):
    """Why a CONFIRM was dropped."""

    FORGED = "forged"
    TOO_MANY = "too many"


@dataclass(frozen=True, slots=True)
class ConfirmDropped:
    """A CONFIRM was not the peer's, or one hub brought more than are answered."""

    hub: HubName
    peer: KmeName
    batch: BatchId
    doubt: Doubt


SenderNotice: TypeAlias = Established | NotEstablished | AnswerBatch | ConfirmDropped | RootMade
SenderEffects: TypeAlias = Effects[Change, SendToHub, SenderNotice]


class Commits(Protocol):
    """What the store remembers of batches that this machine no longer does."""

    def is_committed(self, peer: KmeName, batch: BatchId) -> bool:
        """Whether ``BatchSent`` is durable for a batch."""
        ...


# ── states ──────────────────────────────────────────────────────────────────────────────────────
class BatchState(Enum):
    """Of a batch that this end made."""

    AWAITING_CONFIRM = "awaiting confirm"
    CONFIRMED = "confirmed"
    GIVEN_UP = "given up"


class BatchStep(Enum):
    """What moves a batch."""

    CONFIRM_VALID = "confirm valid"
    CONFIRM_FORGED = "confirm forged"
    CONFIRM_REPEATED = "confirm repeated"
    DEADLINE_PASSED = "deadline passed"
    HUBS_LOST = "hubs lost"


BATCH_TABLE: Final[Table[BatchState, BatchStep]] = {
    (BatchState.AWAITING_CONFIRM, BatchStep.CONFIRM_VALID): BatchState.CONFIRMED,
    (BatchState.AWAITING_CONFIRM, BatchStep.CONFIRM_FORGED): BatchState.AWAITING_CONFIRM,
    (BatchState.AWAITING_CONFIRM, BatchStep.DEADLINE_PASSED): BatchState.GIVEN_UP,
    (BatchState.AWAITING_CONFIRM, BatchStep.HUBS_LOST): BatchState.GIVEN_UP,
    (BatchState.CONFIRMED, BatchStep.CONFIRM_REPEATED): BatchState.CONFIRMED,
    (BatchState.GIVEN_UP, BatchStep.CONFIRM_REPEATED): BatchState.GIVEN_UP,
}


class ShareState(Enum):
    """Of one hub's share."""

    SENT = "sent"
    CUT_OFF = "cut off"
    RELAYED = "relayed"
    REFUSED = "refused"


class ShareStep(Enum):
    """What moves one hub's share."""

    DONE = "done"
    REFUSE = "refuse"
    LINK_DOWN = "link down"
    LINK_UP = "link up"


SHARE_TABLE: Final[Table[ShareState, ShareStep]] = {
    (ShareState.SENT, ShareStep.DONE): ShareState.RELAYED,
    (ShareState.SENT, ShareStep.REFUSE): ShareState.REFUSED,
    (ShareState.SENT, ShareStep.LINK_DOWN): ShareState.CUT_OFF,
    (ShareState.CUT_OFF, ShareStep.LINK_UP): ShareState.SENT,
    (ShareState.RELAYED, ShareStep.REFUSE): ShareState.REFUSED,
}
"""A step that is left out changes nothing: a hub may answer twice, links come and go."""

_LOST: Final = (ShareState.CUT_OFF, ShareState.REFUSED)


class _Delivery:
    """One hub's share of a batch, kept until the hub acknowledged it."""

    __slots__ = ("machine", "refusal", "share")

    def __init__(self, share: Secret) -> None:
        self.machine = StateMachine(SHARE_TABLE, ShareState.SENT)
        self.share = share
        self.refusal: int | None = None

    def step(self, step: ShareStep) -> bool:
        """Move, if the table says so; whether it did."""
        if not self.machine.allows(step):
            return False
        if self.machine.step(step) in (ShareState.RELAYED, ShareState.REFUSED):
            self.share.wipe()
        return True


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a batch will be made with."""

    realm: Realm
    hubs: tuple[Coordinate, ...]


@dataclass(slots=True)
class _Pending:
    """A batch that awaits its CONFIRM; everything secret in it is wiped when it ends."""

    token: Hashable
    made_at: float
    context: Context
    digest: bytes
    tag: bytes
    confirm_key: Secret
    keys: Secret
    deliveries: dict[HubName, _Delivery]
    machine: StateMachine[BatchState, BatchStep]

    @property
    def lost(self) -> int:
        """Hubs that refused or are unreachable before they acknowledged."""
        return sum(delivery.machine.state in _LOST for delivery in self.deliveries.values())

    @property
    def hopeless(self) -> bool:
        """Whether fewer than k hubs are left."""
        return self.lost > len(self.deliveries) - self.context.compact.threshold

    @property
    def refusals(self) -> tuple[tuple[HubName, int], ...]:
        """The hints so far."""
        return tuple(
            (hub, delivery.refusal)
            for hub, delivery in self.deliveries.items()
            if delivery.refusal is not None
        )

    def carried_alike(self) -> int | None:
        """The refusal that at least k hubs carry: at least one of them is honest."""
        for refusal, hubs in Counter(refusal for _, refusal in self.refusals).items():
            if hubs >= self.context.compact.threshold:
                return refusal
        return None

    def share(self, hub: HubName) -> SendToHub:
        """The SHARE for a hub; the same each time."""
        context = self.context
        message = Share(
            receiver=context.receiver,
            counter=context.batch.counter,
            context=context.compact,
            tag=self.tag,
            share=self.deliveries[hub].share.expose(),
        )
        return SendToHub(hub, message, ShareToken(context.batch))

    def wipe_shares(self) -> None:
        """Forget what only an unconfirmed batch needs."""
        self.confirm_key.wipe()
        for delivery in self.deliveries.values():
            delivery.share.wipe()


class Sender:
    """Side A of establishment for one KME, all peers together.

    ``receiver_epochs`` is the newest epoch that each peer named in a CONFIRM, as stored; ``standing``
    says which hubs are used last, or not at all.
    """

    def __init__(
        self,
        *,
        name: KmeName,
        incarnation: Incarnation,
        realms: Realms | None,
        claims: OwnClaims,
        commits: Commits,
        receiver_epochs: Mapping[KmeName, int],
        standing: StandingOf = everybody_plays,
    ) -> None:
        self._name = name
        self._incarnation = incarnation
        self._realms = realms
        self._claims = claims
        self._standing = standing
        self._answers = _Answers(commits)
        self._receiver_epochs = dict(receiver_epochs)
        self._newer_wanted: set[KmeName] = set()
        self._counter = 0
        self._up: set[HubName] = set()
        self._pending: dict[BatchId, _Pending] = {}
        self._pending_per_peer: Counter[KmeName] = Counter()
        self._deadlines: Timers[BatchId] = Timers()
        self._out: Collector[Change, SendToHub, SenderNotice] = Collector()

    @property
    def incarnation(self) -> Incarnation:
        """The incarnation under which this machine's batches are made."""
        return self._incarnation

    @property
    def next_deadline(self) -> float | None:
        """When the machine wants a ``Tick``."""
        return self._deadlines.next

    def entropy_bytes(self, peer: KmeName, keys: int, key_bytes: int) -> int:
        """How many fresh bytes an ``Establish`` for ``peer`` must bring now; 0 if it would be refused."""
        realm = self._realm_for(peer)
        return 0 if realm is None else establishment.entropy_bytes(keys, key_bytes, realm.threshold)

    def handle(self, event: SenderEvent, now: float) -> SenderEffects:
        """Take one event.

        Raises ``LocalBug`` (bug-argument) for an ``Establish`` whose fields break the protocol's
        limits or whose entropy has another length than ``entropy_bytes``, and for messages and
        answers that are not for a sender.
        """
        match event:
            case Establish():
                self._establish(event, now)
            case FromHub(hub, _, Confirmed(receiver, confirmation)):
                self._on_confirmed(hub, receiver, confirmation, now)
            case AnsweredByHub(hub, ShareToken(batch), refusal):
                self._on_answer(hub, batch, refusal)
            case HubUp(hub):
                self._up.add(hub)
                self._on_link(hub, ShareStep.LINK_UP)
            case HubDown(hub):
                self._up.discard(hub)
                self._on_link(hub, ShareStep.LINK_DOWN)
            case RealmsChanged(realms):
                self._realms = realms
                self._newer_wanted.clear()
            case Tick():
                for batch in self._deadlines.due(now):
                    self._give_up(batch, BatchStep.DEADLINE_PASSED)
            case FromHub() | AnsweredByHub():
                raise LocalBug(codes.BAD_ARGUMENT, "not for a sender")
            case _:
                assert_never(event)
        return self._out.take()

    # ── making a batch ──────────────────────────────────────────────────────────────────────────
    def _establish(self, request: Establish, now: float) -> None:
        plan = self._plan(request)
        if isinstance(plan, ErrorCode):
            request.entropy.wipe()
            self._out.notify(NotEstablished(request.token, request.peer, None, plan))
            return
        self._counter += 1
        batch = BatchId(self._incarnation, self._counter)
        compact = self._compact(request, plan)
        context = establishment.expand(
            compact, plan.realm, sender=self._name, receiver=request.peer, batch=batch
        )
        pending = _make(request, context, now)
        self._pending[batch] = pending
        self._pending_per_peer[request.peer] += 1
        self._deadlines.set(batch, now + limits.ESTABLISH_SECONDS)
        self._out.send(*(pending.share(hub) for hub in pending.deliveries))

    def _plan(self, request: Establish) -> _Plan | ErrorCode:
        """The realm and the hubs to use, or why the request is refused at once."""
        realm = self._realm_for(request.peer)
        if self._realms is None or realm is None:
            return codes.REALM_NOT_IN_FORCE
        if realm.threshold < request.threshold_floor:
            return codes.REALM_BELOW_FLOOR
        if self._pending_per_peer[request.peer] >= limits.PENDING_BATCHES_PER_PEER:
            return codes.PENDING_FULL
        usable = self._usable(self._realms, realm, request.peer)
        if len(usable) < realm.threshold:
            return codes.NOT_ENOUGH_HUBS
        chosen = self._choose_hubs(usable, realm, request.independence)
        return codes.HUBS_NOT_INDEPENDENT if chosen is None else _Plan(realm, chosen)

    def _usable(self, realms: Realms, realm: Realm, peer: KmeName) -> list[Coordinate]:
        """Hubs that are up and not out of use; those on the bench only where the others are too few.

        Leaving hubs out never makes the others less independent: fewer of them are in few hands.
        """
        found: dict[Standing, list[Coordinate]] = {standing: [] for standing in Standing}
        for hub in self._up:
            coordinate = realms.counts(hub, realm)
            if coordinate is not None:
                found[self._standing(hub, peer)].append(coordinate)
        playing = found[Standing.PLAYS]
        if len(playing) < realm.threshold:
            playing = playing + found[Standing.LAST]
        return sorted(playing)

    def _realm_for(self, peer: KmeName) -> Realm | None:
        """The older of the two epochs, until the peer authentically named the newer.

        If k hubs alike carried the peer's "context disagrees" to a batch of the older epoch, the peer
        may never have had it (it enrolled later): then the newer one is tried.
        """
        realms = self._realms
        if realms is None or realms.previous is None:
            return None if realms is None else realms.current
        named = self._receiver_epochs.get(peer, 0) >= realms.current.epoch
        return realms.current if named or peer in self._newer_wanted else realms.previous

    def _choose_hubs(
        self, usable: list[Coordinate], realm: Realm, floor: Floor
    ) -> tuple[Coordinate, ...] | None:
        """As many hubs as a receiver can search, ascending, if they are independent enough.

        Surplus hubs take turns. No hub is left out for the others' independence (ADR 0011): that would
        trade availability, unasked and unseen.
        """
        most = establishment.most_hubs(len(usable), realm.threshold)
        turns = len(usable) if most < len(usable) else 1
        for turn in range(self._counter, self._counter + turns):
            first = turn % len(usable)
            chosen = tuple(sorted((usable[first:] + usable[:first])[:most]))
            if floor.is_met(establishment.attributes_of(chosen, realm), realm.threshold):
                return chosen
        return None

    def _compact(self, request: Establish, plan: _Plan) -> CompactContext:
        compact = CompactContext(
            epoch=plan.realm.epoch,
            threshold=plan.realm.threshold,
            hubs=plan.hubs,
            keys=request.keys,
            key_bytes=request.key_bytes,
            purpose=request.purpose,
            lifetime=request.lifetime,
            group=request.group,
            claim=self._claims.own_claim(plan.hubs),
        )
        try:
            CompactContext.from_fields(Fields(compact.to_value()))
        except PeerFault as error:
            raise LocalBug(codes.BAD_ARGUMENT, error.detail) from error
        return compact

    # ── what hubs answer ────────────────────────────────────────────────────────────────────────
    def _on_answer(self, hub: HubName, batch: BatchId, refusal: int | None) -> None:
        """A DONE, a hub's refusal, or the peer's refusal that the hub passes on."""
        pending = self._pending.get(batch)
        if pending is None or hub not in pending.deliveries:
            return
        delivery = pending.deliveries[hub]
        if delivery.step(ShareStep.DONE if refusal is None else ShareStep.REFUSE):
            delivery.refusal = refusal
            self._give_up_if_hopeless(batch)

    def _on_link(self, hub: HubName, step: ShareStep) -> None:
        """A link came or went: a share that was not acknowledged is sent again, the same one."""
        for batch, pending in list(self._pending.items()):
            delivery = pending.deliveries.get(hub)
            if delivery is None or not delivery.step(step):
                continue
            if step is ShareStep.LINK_UP:
                self._out.send(pending.share(hub))
            else:
                self._give_up_if_hopeless(batch)

    def _give_up_if_hopeless(self, batch: BatchId) -> None:
        if self._pending[batch].hopeless:
            self._give_up(batch, BatchStep.HUBS_LOST)

    def _give_up(self, batch: BatchId, step: BatchStep) -> None:
        pending = self._end(batch, step)
        pending.keys.wipe()
        alike = pending.carried_alike()
        self._learn_epoch(pending, alike)
        if step is BatchStep.DEADLINE_PASSED:
            code = codes.DEADLINE_PASSED
        else:
            code = codes.NOT_ENOUGH_HUBS if alike is None else refusal_code(alike)
        self._out.notify(
            NotEstablished(pending.token, pending.context.receiver, batch, code, pending.refusals)
        )

    def _learn_epoch(self, pending: _Pending, alike: int | None) -> None:
        """Try the other epoch next if the peer does not know this one."""
        if alike != Refusal.CONTEXT_DISAGREES or self._realms is None:
            return
        peer = pending.context.receiver
        if pending.context.compact.epoch == self._realms.current.epoch:
            self._newer_wanted.discard(peer)
        else:
            self._newer_wanted.add(peer)

    def _end(self, batch: BatchId, step: BatchStep) -> _Pending:
        """Take a batch out of what is pending and remember how it ended."""
        pending = self._pending.pop(batch)
        pending.machine.step(step)
        pending.wipe_shares()
        self._deadlines.cancel(batch)
        peer = pending.context.receiver
        self._pending_per_peer[peer] -= 1
        if not self._pending_per_peer[peer]:
            del self._pending_per_peer[peer]
        self._answers.remember(peer, batch, pending.machine)
        return pending

    # ── what the peer confirms ──────────────────────────────────────────────────────────────────
    def _on_confirmed(self, hub: HubName, peer: KmeName, confirmation: Confirmation, now: float) -> None:
        batch = confirmation.batch
        pending = self._pending.get(batch)
        if pending is None:
            notice = self._answers.again(hub, peer, batch, now)
            if notice is not None:
                self._out.notify(notice)
        elif pending.context.receiver != peer or not establishment.confirms(
            confirmation, pending.confirm_key, pending.tag, pending.digest
        ):
            pending.machine.step(BatchStep.CONFIRM_FORGED)
            self._out.notify(ConfirmDropped(hub, peer, batch, Doubt.FORGED))
        else:
            self._commit(batch, confirmation, now)

    def _commit(self, batch: BatchId, confirmation: Confirmation, now: float) -> None:
        """The first valid CONFIRM is final: make the keys durable, then tell, then answer."""
        pending = self._end(batch, BatchStep.CONFIRM_VALID)
        context = pending.context
        peer, compact = context.receiver, context.compact
        claim = compact.claim.joined(confirmation.claim)
        kept = Batch(peer, batch, compact, context.hub_names, claim, pending.keys)
        newest = max(confirmation.epoch, self._receiver_epochs.get(peer, 0))
        self._receiver_epochs[peer] = newest
        self._out.persist(BatchSent(kept, confirmation.incarnation, confirmation.epoch))
        self._out.notify(
            Established(pending.token, kept, pending.made_at, confirmation.incarnation, confirmation.epoch)
        )
        if compact.purpose is Purpose.CONTROL:
            root = Secret(pending.keys.expose())
            self._out.persist(RootKept(Role.SENDER, peer, batch, root, sent=False, received=False))
            self._out.notify(RootMade(Role.SENDER, peer, batch, root))
        self._answers.note(peer, batch, now)
        self._out.notify(AnswerBatch(peer, batch, ok=True))


def _make(request: Establish, context: Context, now: float) -> _Pending:
    """Cut the entropy into secret and coefficients, tag it, split it."""
    compact = context.compact
    entropy = request.entropy.expose()
    request.entropy.wipe()
    needed = establishment.entropy_bytes(compact.keys, compact.key_bytes, compact.threshold)
    if len(entropy) != needed:
        raise LocalBug(codes.BAD_ARGUMENT, f"{len(entropy)} bytes of entropy, {needed} needed")
    secret = SharedSecret(Secret(entropy[: compact.secret_bytes]))
    shares = secret.split(compact.threshold, compact.hubs, entropy[compact.secret_bytes :])
    deliveries = _deliveries(context.hub_names, compact.hubs, shares)
    pending = _Pending(
        token=request.token,
        made_at=now,
        context=context,
        digest=context.digest(),
        tag=secret.tag(context.to_bytes()),
        confirm_key=secret.confirm_key(),
        keys=secret.keys(),
        deliveries=deliveries,
        machine=StateMachine(BATCH_TABLE, BatchState.AWAITING_CONFIRM),
    )
    secret.wipe()
    return pending


def _deliveries(
    names: Sequence[HubName], hubs: Sequence[Coordinate], shares: Mapping[Coordinate, Secret]
) -> dict[HubName, _Delivery]:
    return {name: _Delivery(shares[hub]) for name, hub in zip(names, hubs, strict=True)}


class _Answers:
    """Answers CONFIRMs of batches that are not pending: once for all hubs, and not for ever."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._ended: dict[tuple[KmeName, BatchId], StateMachine[BatchState, BatchStep]] = {}
        self._answered: dict[tuple[KmeName, BatchId], float] = {}
        self._windows: dict[HubName, tuple[float, int]] = {}

    def remember(self, peer: KmeName, batch: BatchId, machine: StateMachine[BatchState, BatchStep]) -> None:
        """Keep how a batch ended, instead of the oldest one if there are too many."""
        self._ended[peer, batch] = machine
        if len(self._ended) > limits.ENDED_BATCHES:
            del self._ended[next(iter(self._ended))]

    def note(self, peer: KmeName, batch: BatchId, now: float) -> None:
        """The batch is answered now; forget answers that are past."""
        self._answered[peer, batch] = now
        while now - next(iter(self._answered.values())) >= limits.ANSWER_AGAIN_SECONDS:
            del self._answered[next(iter(self._answered))]

    def again(
        self, hub: HubName, peer: KmeName, batch: BatchId, now: float
    ) -> AnswerBatch | ConfirmDropped | None:
        """Ok for a batch that was committed, Void for any other; None if it was just answered."""
        at = self._answered.get((peer, batch))
        if at is not None and now - at < limits.ANSWER_AGAIN_SECONDS:
            return None
        if not self._within_window(hub, now):
            return ConfirmDropped(hub, peer, batch, Doubt.TOO_MANY)
        self._answered.pop((peer, batch), None)
        self.note(peer, batch, now)
        return AnswerBatch(peer, batch, ok=self._is_committed(peer, batch))

    def _within_window(self, hub: HubName, now: float) -> bool:
        """Count one answer for a hub; whether it is within what a second allows."""
        start, count = self._windows.get(hub, (now, 0))
        if now - start >= 1:
            start, count = now, 0
        self._windows[hub] = (start, count + 1)
        return count < limits.ANSWERS_PER_HUB

    def _is_committed(self, peer: KmeName, batch: BatchId) -> bool:
        machine = self._ended.get((peer, batch))
        if machine is None:
            return self._commits.is_committed(peer, batch)
        return machine.step(BatchStep.CONFIRM_REPEATED) is BatchState.CONFIRMED
