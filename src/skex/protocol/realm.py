"""Which realm file a KME trusts: first from kits, later from the hubs of the epoch in force.

Fewer than the threshold of hubs can neither put an epoch in force nor keep one out: each hub has one
vote, its latest, and only identical bytes add up. What a file must satisfy beyond being well formed
is decided here; how long it stays in force is counted in durations, never by its ``issued`` date.

This module must not know links, kits or stores beyond the bytes they bring.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, TypeAlias, assert_never

from skex.base import codes
from skex.base.errors import ErrorCode, LocalBug, Refused
from skex.base.ids import HubName
from skex.protocol.changes import Change, RealmAccepted
from skex.protocol.effects import Collector, Effects
from skex.protocol.establishment import Realms, RealmsChanged
from skex.protocol.states import StateMachine, Table
from skex.protocol.traffic import FromHub, HubDown, SendToHub, Tick
from skex.wire import messages
from skex.wire.realm import Realm


# ── events ──────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class KitCollected:
    """The operator imported a kit of ``hub``; ``data`` is the realm file inside it."""

    hub: HubName
    data: bytes


@dataclass(frozen=True, slots=True)
class RealmStated:
    """A preface finished in which ``hub`` stated the epoch and the SHA-512 of its realm file."""

    hub: HubName
    epoch: int
    digest: bytes


RealmEvent: TypeAlias = KitCollected | RealmStated | FromHub | HubDown | Tick


# ── notices ─────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class KitAgrees:
    """A kit's realm file is the one expected: ``kits`` of ``needed`` agree."""

    hub: HubName
    kits: int
    needed: int


@dataclass(frozen=True, slots=True)
class KitRefused:
    """A kit must not be imported: nothing changed; ``code`` says why."""

    hub: HubName
    code: ErrorCode
    detail: str


@dataclass(frozen=True, slots=True)
class RealmInForce:
    """A realm file is in force from now on, on the word of ``hubs``: their kits, or their votes."""

    realm: Realm
    hubs: tuple[HubName, ...]


@dataclass(frozen=True, slots=True)
class VoteCounted:
    """A hub sent a realm file that may follow: ``votes`` of ``needed`` hubs sent these bytes."""

    hub: HubName
    epoch: int
    votes: int
    needed: int


@dataclass(frozen=True, slots=True)
class RealmRefused:
    """A hub sent or stated a realm that does not count; ``code`` says why."""

    hub: HubName
    code: ErrorCode
    detail: str


@dataclass(frozen=True, slots=True)
class OverlapOver:
    """The previous epoch is not accepted any more."""

    epoch: int


@dataclass(frozen=True, slots=True)
class RealmExpired:
    """The realm file reached its maximum age; nothing is in force until kits are imported."""

    epoch: int


RealmNotice: TypeAlias = (
    KitAgrees
    | KitRefused
    | RealmInForce
    | VoteCounted
    | RealmRefused
    | OverlapOver
    | RealmExpired
    | RealmsChanged
)
RealmEffects: TypeAlias = Effects[Change, SendToHub, RealmNotice]


# ── states ──────────────────────────────────────────────────────────────────────────────────────
class RealmState(Enum):
    """What is in force."""

    COLLECTING_KITS = auto()
    ONE_EPOCH = auto()
    TWO_EPOCHS = auto()
    EXPIRED = auto()


class RealmStep(Enum):
    """What changes it."""

    KIT_AGREES = auto()
    ENOUGH_KITS = auto()
    EPOCH_VOTED = auto()
    OVERLAP_OVER = auto()
    AGE_REACHED = auto()


TABLE: Final[Table[RealmState, RealmStep]] = {
    (RealmState.COLLECTING_KITS, RealmStep.KIT_AGREES): RealmState.COLLECTING_KITS,
    (RealmState.COLLECTING_KITS, RealmStep.ENOUGH_KITS): RealmState.ONE_EPOCH,
    (RealmState.ONE_EPOCH, RealmStep.KIT_AGREES): RealmState.ONE_EPOCH,
    (RealmState.ONE_EPOCH, RealmStep.EPOCH_VOTED): RealmState.TWO_EPOCHS,
    (RealmState.ONE_EPOCH, RealmStep.AGE_REACHED): RealmState.EXPIRED,
    (RealmState.TWO_EPOCHS, RealmStep.KIT_AGREES): RealmState.TWO_EPOCHS,
    (RealmState.TWO_EPOCHS, RealmStep.EPOCH_VOTED): RealmState.TWO_EPOCHS,
    (RealmState.TWO_EPOCHS, RealmStep.OVERLAP_OVER): RealmState.ONE_EPOCH,
    (RealmState.TWO_EPOCHS, RealmStep.AGE_REACHED): RealmState.EXPIRED,
    (RealmState.EXPIRED, RealmStep.KIT_AGREES): RealmState.EXPIRED,
    (RealmState.EXPIRED, RealmStep.ENOUGH_KITS): RealmState.ONE_EPOCH,
}
INITIAL: Final = RealmState.COLLECTING_KITS


@dataclass(frozen=True, slots=True)
class HeldRealm:
    """What the store holds at a start: files, and seconds since each was accepted.

    Ages come from stored wall-clock times. Where that clock went back the shell adds nothing, so that a
    restart can only shorten a file's life.
    """

    data: bytes
    age: float
    previous: bytes | None = None
    previous_age: float = 0.0


@dataclass(frozen=True, slots=True)
class _InForce:
    """An accepted file and the moment from which it does not count any more."""

    realm: Realm
    data: bytes
    until: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file that may follow, and its bytes."""

    realm: Realm
    data: bytes


def check_succession(current: Realm, later: Realm) -> None:
    """Whether ``later`` may follow ``current``: realm, epoch, and every hub at its coordinate.

    A later file must list every hub that the current one lists, revoked ones too: so each file alone
    proves that no name ever moved and no coordinate was used again, also to a KME that missed the
    epochs between. Raises ``Refused``: realm-mismatch, realm-outdated, realm-hub-dropped,
    realm-coordinate-changed.
    """
    if later.name != current.name:
        raise Refused(codes.REALM_MISMATCH, "another realm")
    if later.epoch < current.epoch:
        raise Refused(codes.REALM_OUTDATED, f"epoch {later.epoch}, trusted is {current.epoch}")
    if later.epoch == current.epoch:
        raise Refused(codes.REALM_MISMATCH, f"epoch {later.epoch} with other contents")
    places = {hub.name: hub.coordinate for hub in later.hubs}
    for hub in current.hubs:
        if hub.name not in places:
            raise Refused(codes.REALM_HUB_DROPPED, hub.name)
        if places[hub.name] != hub.coordinate:
            raise Refused(codes.REALM_CHANGED_COORDINATE, hub.name)


class RealmTrust:
    """Decides at a KME which realm file is in force.

    ``floor`` is the least threshold that this KME accepts, whatever hubs say.
    """

    def __init__(self, floor: int, now: float, held: HeldRealm | None = None) -> None:
        """``held`` is None for a KME that is not enrolled yet.

        Raises ``Refused`` (realm-below-floor) where the floor was raised above the held threshold.
        """
        self._floor = floor
        self._current: _InForce | None = None
        self._previous: _InForce | None = None
        self._kit_hubs: set[HubName] = set()
        self._kit: _Candidate | None = None
        self._votes: dict[HubName, _Candidate] = {}
        self._asked: set[HubName] = set()
        self._out: Collector[Change, SendToHub, RealmNotice] = Collector()
        initial = INITIAL if held is None else self._resume(held, now)
        self._machine: StateMachine[RealmState, RealmStep] = StateMachine(TABLE, initial)

    def _resume(self, held: HeldRealm, now: float) -> RealmState:
        realm = Realm.from_bytes(held.data)
        self._check_floor(realm)
        self._current = _InForce(realm, held.data, now - held.age + realm.max_age)
        if held.previous is None:
            return RealmState.ONE_EPOCH
        previous = Realm.from_bytes(held.previous)
        if previous.threshold < self._floor:
            return RealmState.ONE_EPOCH
        until = min(now - held.age + realm.overlap, now - held.previous_age + previous.max_age)
        self._previous = _InForce(previous, held.previous, until)
        return RealmState.TWO_EPOCHS

    # ── what others ask ─────────────────────────────────────────────────────────────────────────
    @property
    def state(self) -> RealmState:
        """The state as of the last event."""
        return self._machine.state

    @property
    def next_deadline(self) -> float | None:
        """When a ``Tick`` is due: an overlap or a file's age ends."""
        if self._current is None or self.state is RealmState.EXPIRED:
            return None
        return (
            self._current.until if self._previous is None else min(self._current.until, self._previous.until)
        )

    def realms(self, now: float) -> Realms | None:
        """The realm in force at ``now``, and the one before while it is still accepted; None if none is."""
        current, previous = self._current, self._previous
        if current is None or self.state is RealmState.EXPIRED or now >= current.until:
            return None
        if previous is None or now >= previous.until:
            return Realms(current.realm)
        return Realms(current.realm, previous.realm)

    # ── events ──────────────────────────────────────────────────────────────────────────────────
    def handle(self, event: RealmEvent, now: float) -> RealmEffects:
        """Advance by one event.

        Nothing that a kit or a hub brings is raised: it is noticed. Raises ``LocalBug`` (bug-argument)
        for a message that is not a realm file.
        """
        self._pass_time(now)
        match event:
            case KitCollected(hub, data):
                self._collect(hub, data, now)
            case FromHub(hub, _, messages.RealmFile(data)):
                self._vote(hub, data, now)
            case FromHub():
                raise LocalBug(codes.BAD_ARGUMENT, "not a realm file")
            case RealmStated(hub, epoch, digest):
                self._stated(hub, epoch, digest)
            case HubDown(hub):
                self._asked.discard(hub)
            case Tick():
                pass
            case _:
                assert_never(event)
        self._pass_time(now)
        return self._out.take()

    def _pass_time(self, now: float) -> None:
        current = self._current
        if current is None or self.state is RealmState.EXPIRED:
            return
        if now >= current.until:
            self._machine.step(RealmStep.AGE_REACHED)
            self._previous = None
            self._votes.clear()
            self._out.notify(RealmExpired(current.realm.epoch), RealmsChanged(None))
        elif self._previous is not None and now >= self._previous.until:
            self._machine.step(RealmStep.OVERLAP_OVER)
            self._out.notify(OverlapOver(self._previous.realm.epoch), RealmsChanged(Realms(current.realm)))
            self._previous = None

    def _check_floor(self, realm: Realm) -> None:
        if realm.threshold < self._floor:
            raise Refused(codes.REALM_BELOW_FLOOR, f"threshold {realm.threshold}, floor {self._floor}")

    def _in_force(self) -> _InForce | None:
        return None if self.state is RealmState.EXPIRED else self._current

    def _put_in_force(
        self, accepted: _Candidate, before: _InForce | None, hubs: Iterable[HubName], now: float
    ) -> _InForce:
        """``accepted`` takes effect; ``before`` stays accepted for the overlap, but not past its age."""
        realm = accepted.realm
        current = _InForce(realm, accepted.data, now + realm.max_age)
        previous = None
        if before is not None:
            previous = replace(before, until=min(now + realm.overlap, before.until))
        self._current, self._previous = current, previous
        self._out.persist(RealmAccepted(realm.epoch, accepted.data))
        self._out.notify(
            RealmInForce(realm, tuple(sorted(hubs))),
            RealmsChanged(Realms(realm, None if previous is None else previous.realm)),
        )
        return current

    # ── kits ────────────────────────────────────────────────────────────────────────────────────
    def _collect(self, hub: HubName, data: bytes, now: float) -> None:
        current = self._in_force()
        try:
            kit = self._expected_kit(data) if current is None else _same(current, data)
            _check_member(kit.realm, hub)
        except Refused as error:
            self._out.notify(KitRefused(hub, error.code, error.detail))
            return
        self._machine.step(RealmStep.KIT_AGREES)
        needed = kit.realm.threshold
        if current is not None:
            self._out.notify(KitAgrees(hub, needed, needed))
            return
        self._kit = kit
        self._kit_hubs.add(hub)
        self._out.notify(KitAgrees(hub, len(self._kit_hubs), needed))
        if len(self._kit_hubs) >= needed:
            self._machine.step(RealmStep.ENOUGH_KITS)
            self._put_in_force(kit, None, self._kit_hubs, now)
            self._kit, self._kit_hubs = None, set()

    def _expected_kit(self, data: bytes) -> _Candidate:
        """A kit's realm, if it agrees with the kits before it; of the first kit, if it is acceptable."""
        if self._kit is not None:
            if data != self._kit.data:
                raise Refused(codes.REALM_MISMATCH, "not the realm file of the kits before")
            return self._kit
        realm = Realm.from_bytes(data)
        self._check_floor(realm)
        # After an expiry the kits may renew the same file, or bring one that may follow it.
        if self._current is not None and data != self._current.data:
            check_succession(self._current.realm, realm)
        return _Candidate(realm, data)

    # ── later epochs ────────────────────────────────────────────────────────────────────────────
    def _vote(self, hub: HubName, data: bytes, now: float) -> None:
        self._votes.pop(hub, None)
        try:
            current = self._voted_on()
            vote = self._votable(current, hub, data)
        except Refused as error:
            self._out.notify(RealmRefused(hub, error.code, error.detail))
            return
        if vote is None:
            return
        self._votes[hub] = vote
        self._out.notify(VoteCounted(hub, vote.realm.epoch, self._count(vote), current.realm.threshold))
        while (winner := self._winner(current)) is not None:
            self._machine.step(RealmStep.EPOCH_VOTED)
            hubs = [name for name, other in self._votes.items() if other.data == winner.data]
            current = self._put_in_force(winner, current, hubs, now)
            self._keep_valid_votes(current)

    def _voted_on(self) -> _InForce:
        """The file whose hubs vote. Raises ``Refused`` (realm-not-in-force)."""
        current = self._in_force()
        if current is None:
            raise Refused(codes.REALM_NOT_IN_FORCE)
        return current

    def _votable(self, current: _InForce, hub: HubName, data: bytes) -> _Candidate | None:
        """The file, if it may follow; None if it is the one in force. Raises ``Refused``."""
        _check_member(current.realm, hub)
        if data == current.data:
            return None
        realm = Realm.from_bytes(data)
        check_succession(current.realm, realm)
        self._check_floor(realm)
        return _Candidate(realm, data)

    def _count(self, vote: _Candidate) -> int:
        return sum(other.data == vote.data for other in self._votes.values())

    def _winner(self, current: _InForce) -> _Candidate | None:
        """The latest epoch that enough hubs voted for: as many as the threshold in force."""
        enough = [vote for vote in self._votes.values() if self._count(vote) >= current.realm.threshold]
        return max(enough, key=lambda vote: vote.realm.epoch, default=None)

    def _keep_valid_votes(self, current: _InForce) -> None:
        """Hubs send a file once: what they voted for beyond the new epoch must not be lost."""
        votes, self._votes = self._votes, {}
        for hub, vote in votes.items():
            try:
                still = self._votable(current, hub, vote.data)
            except Refused:
                continue
            if still is not None:
                self._votes[hub] = still

    def _stated(self, hub: HubName, epoch: int, digest: bytes) -> None:
        """What a preface says is the hub's latest vote: an older one that differs is withdrawn."""
        vote = self._votes.get(hub)
        if vote is not None and _digest(vote.data) == digest:
            return
        self._votes.pop(hub, None)
        current = self._in_force()
        if current is None or current.realm.hub_named(hub) is None or _digest(current.data) == digest:
            return
        if epoch > current.realm.epoch:
            self._ask(hub)
        else:
            code = codes.REALM_OUTDATED if epoch < current.realm.epoch else codes.REALM_MISMATCH
            self._out.notify(RealmRefused(hub, code, f"epoch {epoch} stated"))

    def _ask(self, hub: HubName) -> None:
        """Once per connection: a hub cannot make this KME spend pad by stating one epoch after another."""
        if hub not in self._asked:
            self._asked.add(hub)
            self._out.send(SendToHub(hub, messages.GetRealm()))


def _check_member(realm: Realm, hub: HubName) -> None:
    """Only active hubs have a word. Raises ``Refused`` (realm-hub-foreign)."""
    if realm.hub_named(hub) is None:
        raise Refused(codes.REALM_HUB_FOREIGN, hub)


def _same(current: _InForce, data: bytes) -> _Candidate:
    """The realm in force, if a further kit has the same. Raises ``Refused`` (realm-mismatch)."""
    if data != current.data:
        raise Refused(codes.REALM_MISMATCH, "not the realm file in force")
    return _Candidate(current.realm, data)


def _digest(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()
