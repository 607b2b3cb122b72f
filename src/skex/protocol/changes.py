"""Everything that a machine may ask its store to make durable: the contract of every store.

Each change is idempotent in its content and names what it touches; one ``Effects.persist`` is one
atomic set of them. Key material travels as ``Secret``; how it is sealed at rest is the store's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TypeAlias

from skex.base.ids import (
    BatchId,
    Direction,
    HubName,
    Incarnation,
    KmeName,
    LinkId,
    RequestId,
    SaeId,
)
from skex.base.secret import Secret
from skex.protocol.evidence import Blame, Evidence
from skex.wire.claim import Claim
from skex.wire.codec import Value, encode
from skex.wire.context import CompactContext
from skex.wire.messages import Confirmation
from skex.wire.peer import KeyRange, RevokeReason


class Role(Enum):
    """Which end of a batch this KME is."""

    SENDER = "sender"
    RECEIVER = "receiver"


class SuspendReason(IntEnum):
    """Why keys rest. Known here only: no message carries it."""

    UNSPECIFIED = 0
    SUSPECTED_COMPROMISE = 1
    INVESTIGATION = 2
    MAINTENANCE = 3


# ── links ───────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class MarkRaised:
    """This end's mark of one direction: the lowest position never yet granted. Never falls."""

    link_id: LinkId
    direction: Direction
    mark: int


@dataclass(frozen=True, slots=True)
class PrefaceCounted:
    """How many prefaces this end completed on a link. Never falls."""

    link_id: LinkId
    count: int


@dataclass(frozen=True, slots=True)
class PeerSeen:
    """The highest marks and count that the other end ever proved. None of them falls."""

    link_id: LinkId
    to_hub: int
    to_kme: int
    count: int


@dataclass(frozen=True, slots=True)
class LinkFrozen:
    """The link may not be used again until an operator re-enrols it; ``code`` says why."""

    link_id: LinkId
    code: str


# ── batches ─────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Batch:
    """An established batch as both ends keep it.

    ``keys`` are ``context.keys`` keys of ``context.key_bytes`` bytes each, one after another.
    ``claim`` is that of both ends together; ``hubs`` the names in the order of their coordinates.
    """

    peer: KmeName
    batch: BatchId
    context: CompactContext
    hubs: tuple[HubName, ...]
    claim: Claim
    keys: Secret


@dataclass(frozen=True, slots=True)
class BatchSent:
    """At the sender: the first valid CONFIRM arrived; the keys may be used from now on.

    ``receiver_incarnation`` and ``receiver_epoch`` are what the CONFIRM stated.
    """

    batch: Batch
    receiver_incarnation: Incarnation
    receiver_epoch: int


@dataclass(frozen=True, slots=True)
class BatchReceived:
    """At the receiver: accepted. The row is also the batch's tombstone, and holds the CONFIRM.

    ``through`` are the hubs that brought shares of the accepted group: the CONFIRM's ways back.
    """

    batch: Batch
    confirmation: Confirmation
    through: tuple[HubName, ...]


@dataclass(frozen=True, slots=True)
class BatchAnswered:
    """At the receiver: the sender's first authentic answer. ``ok`` false: the keys are gone."""

    sender: KmeName
    batch: BatchId
    ok: bool


@dataclass(frozen=True, slots=True)
class BatchDropped:
    """The keys of a batch are erased; a receiver keeps the tombstone until ``TombstonesDropped``."""

    role: Role
    peer: KmeName
    batch: BatchId


@dataclass(frozen=True, slots=True)
class TombstonesDropped:
    """At the receiver: tombstones of an incarnation up to ``counter`` are past; a mark replaces them.

    Lower and equal counters of that incarnation are refused from now on. ``counter`` None drops the
    mark itself, when every tombstone of the incarnation is past.
    """

    sender: KmeName
    incarnation: Incarnation
    counter: int | None


# ── peer messages ───────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class RootKept:
    """A root for peer messages with ``peer``, made by the control batch ``batch``.

    ``sent`` and ``received`` say whether it was already used each way.
    """

    role: Role
    peer: KmeName
    batch: BatchId
    root: Secret
    sent: bool
    received: bool


@dataclass(frozen=True, slots=True)
class RootDropped:
    """A root is erased."""

    role: Role
    peer: KmeName
    batch: BatchId


@dataclass(frozen=True, slots=True)
class ControlQueued:
    """A control message that must arrive; ``plaintext`` is sealed anew at each attempt."""

    role: Role
    peer: KmeName
    request: RequestId
    plaintext: bytes


@dataclass(frozen=True, slots=True)
class ControlDone:
    """A control message arrived, or is not needed any more."""

    peer: KmeName
    request: RequestId


@dataclass(frozen=True, slots=True)
class RevocationCarriedOut:
    """The peer's revocation with this id is carried out and never will be again, whoever repeats it.

    A store may forget all but the newest ``limits.REVOCATIONS_REMEMBERED`` of a role and peer.
    """

    role: Role
    peer: KmeName
    request: RequestId


# ── keys ────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class KeysOffered:
    """At the sender, before the ASSIGN leaves: these keys are taken out of the reserve for it."""

    peer: KmeName
    request: RequestId
    keys: tuple[KeyRange, ...]
    master: SaeId
    slaves: tuple[SaeId, ...]
    purpose: str
    lifetime: int


@dataclass(frozen=True, slots=True)
class KeysAssigned:
    """At the receiver: recorded once per key; only ``slaves`` may take them."""

    sender: KmeName
    request: RequestId
    incarnation: Incarnation
    keys: tuple[KeyRange, ...]
    master: SaeId
    slaves: tuple[SaeId, ...]
    purpose: str
    lifetime: int


@dataclass(frozen=True, slots=True)
class KeysDelivered:
    """These keys are ``sae``'s, committed before the bytes go out, and never its again."""

    role: Role
    peer: KmeName
    keys: tuple[KeyRange, ...]
    sae: SaeId


@dataclass(frozen=True, slots=True)
class KeysVoided:
    """These keys are erased at this end and will never be delivered."""

    role: Role
    peer: KmeName
    keys: tuple[KeyRange, ...]


@dataclass(frozen=True, slots=True)
class AllKeysVoided:
    """Every undelivered key of a pair is erased at this end."""

    role: Role
    peer: KmeName


@dataclass(frozen=True, slots=True)
class KeysRevoked:
    """Why keys (None: all of the pair) are revoked, whether they are still here or were delivered.

    A rollback is about those that are still here. It erases nothing: ``KeysVoided`` or ``AllKeysVoided``
    of the same set, behind it, does. A key keeps its first reason, but for one that says that it is
    compromised.
    """

    role: Role
    peer: KmeName
    keys: tuple[KeyRange, ...] | None
    reason: RevokeReason


@dataclass(frozen=True, slots=True)
class KeysSuspended:
    """Keys that are here are not handed out until they are resumed; None: the pair, also keys to come."""

    role: Role
    peer: KmeName
    keys: tuple[KeyRange, ...] | None
    reason: SuspendReason


@dataclass(frozen=True, slots=True)
class KeysResumed:
    """The suspension of these keys is over; None: every suspension of the pair."""

    role: Role
    peer: KmeName
    keys: tuple[KeyRange, ...] | None


# ── realm ───────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class RealmAccepted:
    """A realm file is trusted from now on; the one before stays the previous epoch.

    Its age counts from now, also when kits renew an epoch that had expired.
    """

    epoch: int
    data: bytes


# ── rollback ────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class RollbackFound:
    """This KME was rolled back: nothing is delivered and no link is used until it is settled.

    Durable before anything is revoked, so that a crash halfway does not forget the reason.
    """

    code: str


@dataclass(frozen=True, slots=True)
class RollbackSettled:
    """The operator renewed what had to be renewed; ``RollbackFound`` is past."""


# ── the bench ───────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Tally:
    """What became of one hub's shares of one peer's batches.

    ``wrong`` for certain; ``suspected`` where colluding hubs may only have made it look so. ``in_a_row``
    are the newest ``missing`` ones that it, or the sender, held back, with no share of it between them.
    """

    in_time: int = 0
    late: int = 0
    missing: int = 0
    wrong: int = 0
    suspected: int = 0
    in_a_row: int = 0


@dataclass(frozen=True, slots=True)
class TallyKept:
    """The counts of a hub and a peer; ``peer`` None is all peers for which there was no room."""

    hub: HubName
    peer: KmeName | None
    tally: Tally


@dataclass(frozen=True, slots=True)
class EvidenceKept:
    """What shows that a hub did wrong. A store keeps the newest ``limits.EVIDENCE_PER_HUB`` of a hub."""

    hub: HubName
    peer: KmeName
    batch: BatchId
    blame: Blame
    certain: bool
    evidence: Evidence

    def to_bytes(self) -> bytes:
        """One encoding of all of it: its digest names it in the audit log."""
        what: list[Value] = [self.hub, self.peer, self.batch.to_bytes(), self.blame.name, int(self.certain)]
        return encode([*what, self.evidence.to_value()])


class BenchCause(Enum):
    """Why a hub is on the bench."""

    WRONG_SHARES = "wrong-shares"
    WRONG_ON_PROBATION = "wrong-on-probation"
    MISSING_SHARES = "missing-shares"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class BenchKept:
    """A hub is on the bench, or back on probation, for batches with ``peer``; None for all peers.

    ``seconds`` are left of it, None where only a command ends it. ``rule`` is the policy's that decided,
    ``by`` and ``reason`` are an operator's.
    """

    hub: HubName
    peer: KmeName | None
    benched: bool
    seconds: float | None
    cause: BenchCause
    rule: str = ""
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BenchEnded:
    """A hub plays again for batches with ``peer``, and its probation is over."""

    hub: HubName
    peer: KmeName | None


LinkChange: TypeAlias = MarkRaised | PrefaceCounted | PeerSeen | LinkFrozen
BatchChange: TypeAlias = BatchSent | BatchReceived | BatchAnswered | BatchDropped | TombstonesDropped
PeerChange: TypeAlias = RootKept | RootDropped | ControlQueued | ControlDone | RevocationCarriedOut
KeyChange: TypeAlias = (
    KeysOffered
    | KeysAssigned
    | KeysDelivered
    | KeysVoided
    | AllKeysVoided
    | KeysRevoked
    | KeysSuspended
    | KeysResumed
)
RollbackChange: TypeAlias = RollbackFound | RollbackSettled
BenchChange: TypeAlias = TallyKept | EvidenceKept | BenchKept | BenchEnded
Change: TypeAlias = (
    LinkChange | BatchChange | PeerChange | KeyChange | RealmAccepted | RollbackChange | BenchChange
)
