"""Side B of establishment: gathers shares, rebuilds and verifies, commits, then confirms.

Threshold, hubs and coordinates come from this end's own realm file and policy, never from a message.
Nothing is told to anyone before it is durable. This machine knows shares, groups and accepted batches;
never how links seal, what keys are used for, or how the sender's answers travel (``Answered`` brings
them, opened and authentic).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, assert_never

from skex.base import codes, limits
from skex.base.errors import LocalBug, Refused
from skex.base.ids import BatchId, Coordinate, HubName, Incarnation, KmeName
from skex.base.secret import Secret
from skex.protocol import establishment, evidence
from skex.protocol.changes import Batch, BatchAnswered, BatchDropped, BatchReceived, Change, Role, RootKept
from skex.protocol.effects import Collector, Effects
from skex.protocol.establishment import OwnClaims, Realms, RealmsChanged, RootMade, SharedSecret
from skex.protocol.evidence import NO_EVIDENCE, Blame, Evidence
from skex.protocol.gathering import BatchKey, Gathering, Group, GroupKey, GroupStep, Offer, SearchTurns
from skex.protocol.holding import HeldState, Holding, Late, ReceivedBatch, Unanswered
from skex.protocol.reconstruct import Found, NothingYet, Outcome, Search, TwoFound, reconstruct
from skex.protocol.standing import Standing, StandingOf, everybody_plays
from skex.protocol.tombstones import Tombstones
from skex.protocol.traffic import AnsweredByHub, FromHub, HubDown, HubUp, SendToHub, Tick
from skex.wire.claim import ClaimClass
from skex.wire.context import CompactContext, Context, Purpose
from skex.wire.messages import Confirm, Refusal, Refuse, Shared
from skex.wire.realm import HubAttributes


# ── what the machine is told ────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Searched:
    """A search that ``SearchNeeded`` asked for is done; the outcome belongs to the machine now."""

    number: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Answered:
    """The sender's authentic answer to a CONFIRM: Ok, or Void."""

    sender: KmeName
    batch: BatchId
    ok: bool


@dataclass(frozen=True, slots=True)
class ConfirmToken:
    """Names a CONFIRM in the refusals that the link hands back."""

    sender: KmeName
    batch: BatchId


ReceiverEvent: TypeAlias = (
    FromHub | AnsweredByHub | HubUp | HubDown | Searched | Answered | RealmsChanged | Tick
)


# ── what the machine tells ──────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class SearchNeeded:
    """Run ``reconstruct(search)`` off the event loop, wipe the search, hand in ``Searched``."""

    number: int
    search: Search


@dataclass(frozen=True, slots=True)
class BatchAccepted:
    """A batch verified and ``BatchReceived`` is durable; it is kept until ``expires_at``."""

    batch: Batch
    expires_at: float


@dataclass(frozen=True, slots=True)
class BatchSettled:
    """The sender's first answer is durable: its keys may be assigned (``ok``), or are gone."""

    sender: KmeName
    batch: BatchId
    ok: bool


@dataclass(frozen=True, slots=True)
class AnswerRefused:
    """The sender contradicts its first answer; the first one stays."""

    sender: KmeName
    batch: BatchId
    ok: bool


@dataclass(frozen=True, slots=True)
class BatchExpired:
    """Lifetime and margin of a batch are over; its keys are erased."""

    sender: KmeName
    batch: BatchId


@dataclass(frozen=True, slots=True)
class GroupExpired:
    """So many shares came and nothing verified in time; nothing was accepted from them."""

    sender: KmeName
    batch: BatchId
    hubs: tuple[HubName, ...]


@dataclass(frozen=True, slots=True)
class HubBlamed:
    """A hub is named: it lied, or its memory is failing.

    ``certain``: as long as fewer than k hubs lie and the sender does not, this one does. Otherwise it
    may also be that hubs collude to make it look so; the alarm stands, the name is a suspicion.
    """

    hub: HubName
    sender: KmeName
    batch: BatchId
    blame: Blame
    certain: bool = True
    evidence: Evidence = NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class TwoCandidates:
    """Two different secrets verify under one batch id: an alarm.

    ``accepted``: one of them was accepted before and stays; otherwise neither is.
    """

    sender: KmeName
    batch: BatchId
    accepted: bool


@dataclass(frozen=True, slots=True)
class ShareRefused:
    """A share was refused, and its hub was told so."""

    hub: HubName
    sender: KmeName
    batch: BatchId
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class ShareCounted:
    """A share came after acceptance, was right, and is erased."""

    hub: HubName
    sender: KmeName
    batch: BatchId


@dataclass(frozen=True, slots=True)
class ShareMissing:
    """The time for late shares is over, and a hub of the accepted context brought none.

    ``connected``: its link was up all that time, so it, or the sender, held the share back.
    """

    hub: HubName
    sender: KmeName
    batch: BatchId
    connected: bool


@dataclass(frozen=True, slots=True)
class SharesRight:
    """Nothing more is expected of a batch: these hubs' shares were in time, and right."""

    hubs: tuple[HubName, ...]
    sender: KmeName
    batch: BatchId


ReceiverNotice: TypeAlias = (
    SearchNeeded
    | BatchAccepted
    | RootMade
    | BatchSettled
    | AnswerRefused
    | BatchExpired
    | GroupExpired
    | HubBlamed
    | TwoCandidates
    | ShareRefused
    | ShareCounted
    | ShareMissing
    | SharesRight
)
ReceiverEffects: TypeAlias = Effects[Change, SendToHub, ReceiverNotice]


class Admission(Protocol):
    """What policy says about batches that come in; pure and synchronous."""

    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> bool:
        """Whether ``sender`` may make batches for ``receiver``; default deny."""
        ...

    def accepts_threshold(self, sender: KmeName, threshold: int) -> bool:
        """Whether this end accepts the realm's threshold for batches of ``sender``."""
        ...

    def accepts_hubs(self, sender: KmeName, hubs: Sequence[HubAttributes], threshold: int) -> bool:
        """Whether enough independent parties are behind the hubs of a batch."""
        ...

    def has_room(self, sender: KmeName, context: CompactContext) -> bool:
        """Whether another such batch of ``sender`` may be kept."""
        ...


_ENDED_WAYS: Final = (Refusal.BATCH_UNKNOWN, Refusal.UNKNOWN_TYPE)
"""A hub that forgot a batch, or has relayed its CONFIRM as often as it may, says so for good."""


class _Refusal(Exception):
    """A share that is answered with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.name)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class _Arrival:
    """An authentic share, checked against this end's realm and policy."""

    hub: HubName
    ordinal: int
    coordinate: Coordinate
    group: GroupKey
    context: Context
    share: Secret

    @property
    def of(self) -> BatchKey:
        """The batch that it claims to belong to."""
        return self.group.of


class Receiver:
    """Side B of establishment for one KME, all senders together.

    ``batches`` and ``marks`` are what the store holds at a start; ``standing`` says whose shares count
    last, or not at all.
    """

    def __init__(
        self,
        *,
        name: KmeName,
        incarnation: Incarnation,
        realms: Realms | None,
        claims: OwnClaims,
        admission: Admission,
        batches: Iterable[ReceivedBatch],
        marks: Mapping[tuple[KmeName, Incarnation], int],
        standing: StandingOf = everybody_plays,
    ) -> None:
        rows = tuple(batches)
        self._name = name
        self._incarnation = incarnation
        self._claims = claims
        self._admission = admission
        self._standing = standing
        self._up: dict[HubName, float] = {}
        self._gathering = Gathering(limits.REALM_HUBS)
        self._holding = Holding(rows)
        self._tombstones = Tombstones(marks)
        for row in rows:
            self._tombstones.restore(BatchKey(row.sender, row.confirmation.batch))
        self._searches = 0
        self._searching: dict[int, Group] = {}
        self._turns = SearchTurns()
        self._realms: Realms | None = None
        self._epoch = 0
        self._trust(realms)
        self._out: Collector[Change, SendToHub, ReceiverNotice] = Collector()

    @property
    def next_deadline(self) -> float | None:
        """When the machine wants a ``Tick``."""
        deadlines = (self._gathering.next_deadline, self._holding.next_deadline)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle(self, event: ReceiverEvent, now: float) -> ReceiverEffects:
        """Take one event.

        Raises ``LocalBug`` (bug-argument) for messages and answers that are not for a receiver.
        """
        match event:
            case FromHub(hub, ordinal, Shared() as message):
                self._on_shared(hub, ordinal, message, now)
            case AnsweredByHub(hub, ConfirmToken(sender, batch), refusal):
                if refusal in _ENDED_WAYS:
                    self._holding.close_way(BatchKey(sender, batch), hub)
            case FromHub() | AnsweredByHub():
                raise LocalBug(codes.BAD_ARGUMENT, "not for a receiver")
            case HubUp(hub):
                self._up[hub] = now
                for unanswered in self._holding.through(hub, now):
                    self._send_confirm(unanswered, hub)
            case HubDown(hub):
                self._up.pop(hub, None)
            case Searched(number, outcome):
                self._on_searched(number, outcome, now)
            case Answered(sender, batch, ok):
                self._on_answered(sender, batch, ok=ok)
            case RealmsChanged(realms):
                self._on_realms(realms, now)
            case Tick():
                self._on_time(now)
            case _:
                assert_never(event)
        self._name_liars()
        return self._out.take()

    # ── a share comes ───────────────────────────────────────────────────────────────────────────
    def _on_shared(self, hub: HubName, ordinal: int, message: Shared, now: float) -> None:
        try:
            arrival = self._check(hub, ordinal, message)
            if arrival.of in self._holding:
                self._on_late(arrival, now)
            else:
                self._on_new(arrival, now)
        except _Refusal as refused:
            self._out.send(SendToHub(hub, Refuse(ordinal, refused.refusal)))
            self._out.notify(ShareRefused(hub, message.sender, message.batch, refused.refusal))

    def _check(self, hub: HubName, ordinal: int, message: Shared) -> _Arrival:
        """Two checks: is the hub one whose share counts here, and may this sender do this?"""
        compact, realms = message.context, self._realms
        realm = None if realms is None else realms.named(compact.epoch)
        if realms is None or realm is None:
            raise _Refusal(Refusal.CONTEXT_DISAGREES)
        coordinate = realms.counts(hub, realm)
        if coordinate is None or message.sender == self._name:
            raise _Refusal(Refusal.NOT_AUTHORISED)
        if self._standing(hub, message.sender) is Standing.OUT:
            raise _Refusal(Refusal.NOT_AUTHORISED)
        if not self._admission.may_establish(message.sender, self._name, compact.purpose):
            raise _Refusal(Refusal.NOT_AUTHORISED)
        accepted = self._admission.accepts_threshold(message.sender, realm.threshold)
        if not accepted or coordinate not in compact.hubs:
            raise _Refusal(Refusal.CONTEXT_DISAGREES)
        try:
            context = establishment.expand(
                compact, realm, sender=message.sender, receiver=self._name, batch=message.batch
            )
        except Refused as error:
            raise _Refusal(Refusal.CONTEXT_DISAGREES) from error
        hubs = establishment.attributes_of(compact.hubs, realm)
        if not self._admission.accepts_hubs(message.sender, hubs, realm.threshold):
            raise _Refusal(Refusal.NOT_AUTHORISED)
        group = GroupKey(BatchKey(message.sender, message.batch), context.digest(), message.tag)
        return _Arrival(hub, ordinal, coordinate, group, context, Secret(message.share))

    def _on_new(self, arrival: _Arrival, now: float) -> None:
        """A share of a batch that is not accepted yet."""
        refusal = self._objection(arrival)
        if refusal is not None:
            arrival.share.wipe()
            raise _Refusal(refusal)
        self._gather(arrival, now)

    def _objection(self, arrival: _Arrival) -> Refusal | None:
        """A batch is never accepted twice, and never more of them than there is room for."""
        sender, compact = arrival.of.sender, arrival.context.compact
        if arrival.of in self._tombstones or self._gathering.is_aborted(arrival.of):
            return Refusal.BATCH_REPEATED
        most = limits.UNANSWERED_BATCHES_PER_SENDER
        if compact.purpose is Purpose.CONTROL:
            most += limits.UNANSWERED_CONTROL_BATCHES
        if (
            self._holding.count_unanswered(sender) >= most
            or self._tombstones.count(sender) >= limits.TOMBSTONES_PER_SENDER
            or not self._admission.has_room(sender, compact)
        ):
            return Refusal.RECEIVER_FULL
        return None

    def _gather(self, arrival: _Arrival, now: float) -> None:
        offer = self._gathering.offer(
            arrival.hub,
            arrival.coordinate,
            arrival.group,
            arrival.context,
            share=arrival.share,
            now=now,
            last=self._standing(arrival.hub, arrival.of.sender) is Standing.LAST,
        )
        if offer is Offer.TAKEN:
            self._search(self._gathering[arrival.group], now)
            return
        if offer is Offer.DIFFERENT:
            first = self._gathering.first_of(arrival.hub, arrival.of)
            shown = self._may_show(arrival.context)
            two = evidence.of_two(arrival.share, first, shown=shown)
            self._blame(arrival.hub, arrival.of, Blame.TWO_SHARES, two)
        arrival.share.wipe()
        if offer is Offer.FULL:
            raise _Refusal(Refusal.BUSY)

    def _may_show(self, context: Context) -> bool:
        """Whether digests of a batch's shares may be kept: its claim rests on computation anyway."""
        compact = context.compact
        claim = compact.claim.joined(self._claims.own_claim(compact.hubs))
        return claim.claim_class(compact.threshold) is not ClaimClass.INFORMATION_THEORETIC

    def _on_late(self, arrival: _Arrival, now: float) -> None:
        """A share of a batch that is accepted: check it while its polynomial is known."""
        late = self._holding.late(arrival.of)
        hub = arrival.hub
        if late is None:
            arrival.share.wipe()
            self._confirm_again(arrival, now)
        elif hub in late.expected:
            self._on_expected(arrival, late, now)
        else:
            self._on_second(arrival, late, now)

    def _on_second(self, arrival: _Arrival, late: Late, now: float) -> None:
        """A further share of a hub for a batch that is accepted."""
        hub = arrival.hub
        try:
            same = arrival.group == late.key and late.agrees(arrival.coordinate, arrival.share)
            if same and hub in late.right:
                self._confirm_again(arrival, now)
            elif same or hub in late.right:
                two = late.evidence(arrival.coordinate, arrival.share)
                self._blame(hub, arrival.of, Blame.TWO_SHARES, two)
            else:
                raise _Refusal(Refusal.BATCH_REPEATED)
        finally:
            arrival.share.wipe()

    def _on_expected(self, arrival: _Arrival, late: Late, now: float) -> None:
        """The first share of a hub for a batch that is accepted."""
        hub, of = arrival.hub, arrival.of
        if arrival.group != late.key:
            self._holding.late_came(of, hub)
            self._blame(hub, of, Blame.OTHER_CONTEXT, _other(arrival.group, late.key))
            # Enough such shares may verify too: that would be a second candidate, and an alarm.
            self._gather(arrival, now)
            return
        if late.note(hub, arrival.coordinate, arrival.share):
            self._out.notify(ShareCounted(hub, of.sender, of.batch))
        arrival.share.wipe()
        self._holding.late_came(of, hub)
        unanswered = self._holding.open_way(of, hub, now)
        if unanswered is not None:
            self._send_confirm(unanswered, hub)

    def _confirm_again(self, arrival: _Arrival, now: float) -> None:
        """A repeated share says that the sender may still wait: repeat the CONFIRM, or refuse."""
        unanswered = self._holding.open_way(arrival.of, arrival.hub, now)
        if unanswered is None:
            raise _Refusal(Refusal.BATCH_REPEATED)
        self._send_confirm(unanswered, arrival.hub)

    # ── searching ───────────────────────────────────────────────────────────────────────────────
    def _search(self, group: Group, now: float) -> None:
        """Try the shares: at once if one interpolation settles it, else off the event loop."""
        if not group.searchable:
            return
        if not group.settled_by_one and self._turns.must_wait(group.key):
            return
        search = group.begin_search()
        if search.is_single:
            outcome = reconstruct(search)
            search.wipe()
            self._settle(group, outcome, now)
            return
        self._turns.begin(group.key.of.sender)
        self._searches += 1
        group.search = self._searches
        self._searching[self._searches] = group
        self._out.notify(SearchNeeded(self._searches, search))

    def _on_searched(self, number: int, outcome: Outcome, now: float) -> None:
        group = self._searching.pop(number, None)
        if group is None:
            raise LocalBug(codes.BAD_ARGUMENT, f"search {number} is not under way")
        sender = group.key.of.sender
        self._turns.end(sender)
        if group.search == number:
            self._settle(group, outcome, now)
        elif isinstance(outcome, Found):
            outcome.secret.wipe()
        while (waiting := self._turns.next(sender)) is not None:
            if waiting in self._gathering:
                self._search(self._gathering[waiting], now)

    def _settle(self, group: Group, outcome: Outcome, now: float) -> None:
        group.search = None
        of = group.key.of
        match outcome:
            case NothingYet():
                group.machine.step(GroupStep.NOTHING_FOUND)
                self._search(group, now)
            case Found() if of not in self._holding:
                group.machine.step(GroupStep.FOUND)
                self._accept(group, outcome, now)
            case Found() | TwoFound():
                group.machine.step(GroupStep.TWO_FOUND)
                if isinstance(outcome, Found):
                    outcome.secret.wipe()
                for other in self._gathering.groups_of(of):
                    self._gathering.abort(other)
                self._out.notify(TwoCandidates(of.sender, of.batch, accepted=of in self._holding))
            case _:
                assert_never(outcome)

    # ── accepting ───────────────────────────────────────────────────────────────────────────────
    def _accept(self, group: Group, found: Found, now: float) -> None:
        """Commit keys and tombstone, then confirm through every hub that brought a share."""
        context, of = group.context, group.key.of
        compact = context.compact
        secret = SharedSecret(found.secret)
        confirm_key, keys = secret.confirm_key(), secret.keys()
        secret.wipe()
        claim = self._claims.own_claim(compact.hubs)
        confirmation = establishment.confirm(
            confirm_key,
            group.key.tag,
            context,
            epoch=self._epoch,
            incarnation=self._incarnation,
            claim=claim,
        )
        confirm_key.wipe()
        batch = Batch(of.sender, of.batch, compact, context.hub_names, compact.claim.joined(claim), keys)
        through = tuple(group.hubs[coordinate] for coordinate in sorted(group.hubs))
        expires_at = now + compact.lifetime + limits.LIFETIME_MARGIN_SECONDS
        self._out.persist(BatchReceived(batch, confirmation, through), *self._tombstones.accept(of))
        self._out.notify(BatchAccepted(batch, expires_at))
        if compact.purpose is Purpose.CONTROL:
            root = Secret(keys.expose())
            self._out.persist(RootKept(Role.RECEIVER, of.sender, of.batch, root, sent=False, received=False))
            self._out.notify(RootMade(Role.RECEIVER, of.sender, of.batch, root))
        unanswered = Unanswered(of.sender, confirmation, set(through))
        for hub in through:
            self._send_confirm(unanswered, hub)
        late = self._judge(group, found.deviating, now)
        self._gathering.remove(group)
        self._holding.accept(of, unanswered, late, now=now, expires_at=expires_at)

    def _judge(self, group: Group, deviating: frozenset[Coordinate], now: float) -> Late:
        """Check every share of the group, name hubs of other groups, keep the polynomial for the rest."""
        context, of = group.context, group.key.of
        proved = sorted(group.lot - deviating)[: context.compact.threshold]
        late = Late(
            group.key,
            {coordinate: Secret(group.shares[coordinate].expose()) for coordinate in proved},
            set(context.hub_names).difference(group.hubs.values()),
            since=now,
            shown=self._may_show(context),
        )
        for coordinate, share in group.shares.items():
            late.note(group.hubs[coordinate], coordinate, share)
        late.in_time = frozenset(late.right)
        for other in self._gathering.groups_of(of):
            if other is not group:
                late.expected.difference_update(other.hubs.values())
                for hub in other.hubs.values():
                    self._blame(hub, of, Blame.OTHER_CONTEXT, _other(other.key, group.key))
        return late

    def _name_liars(self) -> None:
        """Name hubs with wrong shares once every share is in, or none is waited for any more.

        Not before: each share that agrees makes the names more certain.
        """
        for late in self._holding.closed():
            of = late.key.of
            for hub, found in sorted(late.wrong.items()):
                self._blame(hub, of, Blame.WRONG_SHARE, found, certain=late.is_certain)
            for hub in sorted(late.missing):
                connected = self._up.get(hub, math.inf) <= late.since
                self._out.notify(ShareMissing(hub, of.sender, of.batch, connected))
            self._out.notify(SharesRight(tuple(sorted(late.in_time)), of.sender, of.batch))

    def _blame(
        self, hub: HubName, of: BatchKey, blame: Blame, found: Evidence, *, certain: bool = True
    ) -> None:
        self._out.notify(HubBlamed(hub, of.sender, of.batch, blame, certain, found))

    # ── confirming ──────────────────────────────────────────────────────────────────────────────
    def _send_confirm(self, unanswered: Unanswered, hub: HubName) -> None:
        """Repeat the one CONFIRM of a batch through a hub, if its link is up."""
        if hub in self._up:
            sender, confirmation = unanswered.sender, unanswered.confirmation
            token = ConfirmToken(sender, confirmation.batch)
            self._out.send(SendToHub(hub, Confirm(sender, confirmation), token))

    def _on_answered(self, sender: KmeName, batch: BatchId, *, ok: bool) -> None:
        """Keep the first authentic answer; one for a batch that is not held changes nothing."""
        key = BatchKey(sender, batch)
        before = self._holding.answer(key, ok=ok)
        if before is HeldState.AWAITING_ANSWER:
            self._out.persist(BatchAnswered(sender, batch, ok))
            self._out.notify(BatchSettled(sender, batch, ok))
        elif before is None and key in self._holding:
            self._out.notify(AnswerRefused(sender, batch, ok))

    # ── realms and time ─────────────────────────────────────────────────────────────────────────
    def _trust(self, realms: Realms | None) -> None:
        self._realms = realms
        if realms is not None:
            self._epoch = realms.current.epoch
            self._gathering.divide(len(realms.current.active_hubs))

    def _on_realms(self, realms: Realms | None, now: float) -> None:
        """Shares of epochs that are over, and of hubs that were revoked, do not count any more."""
        self._trust(realms)
        for group in self._gathering:
            realm = None if realms is None else realms.named(group.context.compact.epoch)
            if realms is None or realm is None:
                self._gathering.remove(group)
                self._give_up(group)
                continue
            for coordinate in tuple(group.shares):
                if realms.counts(group.hubs[coordinate], realm) is None:
                    self._gathering.withdraw(group, coordinate)
            self._search(group, now)

    def _on_time(self, now: float) -> None:
        for group in self._gathering.expire(now):
            self._give_up(group)
        due = self._holding.due(now)
        for unanswered in due.confirms:
            for hub in sorted(unanswered.ways):
                self._send_confirm(unanswered, hub)
        self._out.persist(*(BatchDropped(Role.RECEIVER, key.sender, key.batch) for key in due.erased))
        self._out.persist(*self._tombstones.expire(due.expired))
        self._out.notify(*(BatchExpired(key.sender, key.batch) for key in due.expired))

    def _give_up(self, group: Group) -> None:
        of = group.key.of
        self._out.notify(GroupExpired(of.sender, of.batch, tuple(group.hubs.values())))


def _other(came: GroupKey, accepted: GroupKey) -> Evidence:
    """What shows that a share came with another context or tag than the accepted batch's."""
    return evidence.of_group(
        came.digest, came.tag, accepted_context=accepted.digest, accepted_tag=accepted.tag
    )
