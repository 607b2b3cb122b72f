"""What doors and consumers may ask, and what they get: the one interface above keys.

What doors get is about SAEs, key ids and claims. No batch, hub, link or pad appears, so that a door
cannot depend on how keys come about; batches appear only in what an operator asks (``KeyControl``).
Errors are of the tree only; what an unauthorised caller could tell apart is one code (not-authorised,
key-not-held).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from skex.base.ids import BatchId, KmeName, SaeId
from skex.base.secret import Secret
from skex.protocol.changes import SuspendReason
from skex.wire.claim import ClaimClass, Enrolment, Randomness
from skex.wire.peer import RevokeReason

if TYPE_CHECKING:
    from skex.keys.explaining import Explanation


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """What a delivered key's secrecy rests on, as recorded when it was established.

    ``effective_threshold`` is how many independent parties must collude to have ``threshold`` of the
    hubs, by what this end's own realm file says of them (``wire.independence``); ``margin`` how many hubs
    an *unbounded* attacker must still corrupt (0 for a computational key); ``hubs`` are their names.
    """

    claim_class: ClaimClass
    threshold: int
    effective_threshold: int
    margin: int
    hubs: tuple[str, ...]
    randomness: Randomness
    enrolment: Enrolment


@dataclass(frozen=True, slots=True)
class Cryptoperiod:
    """How long and how often a key may be used, as this end's policy says (NIST SP 800-57 part 1, 5.3).

    ``lifetime`` is how many seconds it may wait to be taken, which the KMEs keep. ``use_seconds``, from its
    delivery, and ``uses``, one for each message that it protects, are stated: only the SAE can keep them.
    """

    lifetime: int
    use_seconds: int
    uses: int | None = None


@dataclass(frozen=True, slots=True)
class DeliveredKey:
    """One key, handed out at most once to each entitled SAE."""

    key_id: uuid.UUID
    key: Secret
    claim: KeyClaim
    period: Cryptoperiod


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a caller demands beyond the policy's own demands; None leaves it to the policy.

    ``purpose`` is a label of at most 32 printable ASCII characters; ``lifetime`` is in seconds. Both
    thresholds are the least that will do, ``claim_class`` the weakest class.
    """

    purpose: str = "any"
    lifetime: int | None = None
    minimum_threshold: int | None = None
    claim_class: ClaimClass | None = None
    minimum_effective_threshold: int | None = None


@dataclass(frozen=True, slots=True)
class PairStatus:
    """How one pair of SAEs stands. Sizes are bytes, counts are keys."""

    source_kme: KmeName
    target_kme: KmeName
    master: SaeId
    slave: SaeId
    key_bytes: int
    stored: int
    stored_max: int
    per_request_max: int
    key_bytes_min: int
    key_bytes_max: int
    slaves_max: int


class KeyService(Protocol):
    """What a door calls. ``caller`` is the SAE that the door has *authenticated*."""

    def resolve(self, name: str) -> SaeId:
        """The qualified id of a name as an application writes it (``sae@kme``, or an alias).

        Raises ``Refused``: name-invalid.
        """

    async def status(self, caller: SaeId, slave: SaeId) -> PairStatus:
        """How many keys could be delivered at once. Raises ``Refused``: not-authorised."""

    async def take_new(
        self,
        caller: SaeId,
        slaves: Sequence[SaeId],
        number: int,
        key_bytes: int,
        requirements: Requirements,
    ) -> tuple[DeliveredKey, ...]:
        """``number`` new keys for ``caller`` as master and ``slaves``; all of them or none.

        Delivered means committed before this returns. Raises ``Refused``: not-authorised,
        size-unsupported, number-unsupported, requirements-unmet, not-enough-hubs, deadline-passed,
        not-ready, receiver-absent, incarnation-changed, busy, no-common-root.
        """

    async def take_by_id(
        self, caller: SaeId, master: SaeId, key_ids: Sequence[uuid.UUID]
    ) -> tuple[DeliveredKey, ...]:
        """The keys with these ids, which ``master`` got; all of them or none.

        Raises ``Refused``: key-not-held for an id that is unknown, delivered, expired, of another
        master or for another slave, which look alike on purpose; not-authorised where policy forbids
        the pair.
        """


# ── what only an operator may ask ───────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Target:
    """Which keys an operator means: some by their ids, whole batches, or everything with one peer."""

    key_ids: tuple[uuid.UUID, ...] = ()
    batches: tuple[BatchId, ...] = ()
    peer: KmeName | None = None


@dataclass(frozen=True, slots=True)
class InUse:
    """Keys that one SAE of this KME already has. ``key_ids`` are the first ``limits.KEYS_LISTED``."""

    sae: SaeId
    keys: int
    key_ids: tuple[uuid.UUID, ...]


@dataclass(frozen=True, slots=True)
class Revocation:
    """What a revocation came to: how many keys nobody will get any more, and who has which already."""

    keys: int
    in_use: tuple[InUse, ...]


class KeyControl(Protocol):
    """What an operator asks of the keys of a KME. A door never gets it: it is not for SAEs.

    Every method raises ``Refused``: key-target, and key-unknown for an id that nothing here knows, with
    nothing done.
    """

    async def revoke(self, target: Target, reason: RevokeReason) -> Revocation:
        """Nobody gets these keys any more, here or at the peer; durable when it returns, and idempotent."""

    async def suspend(self, target: Target, reason: SuspendReason) -> int:
        """Nobody gets these keys here until they are resumed; how many rest now. The peer is not told."""

    async def resume(self, target: Target) -> int:
        """End a suspension; how many keys it was of."""

    async def explain(self, key_id: uuid.UUID, use: str | None = None) -> Explanation:
        """What a key rests on, and what something that it protects (by a ``use`` of ``keys.uses``) does."""
