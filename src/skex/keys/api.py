"""What doors and consumers may ask, and what they get: the one interface above keys.

Everything here is about SAEs, key ids and claims. No batch, hub, link or pad appears, so that a door
cannot depend on how keys come about. Errors are of the tree only; what an unauthorised caller could
tell apart is one code (not-authorised, key-not-held).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from skex.base.ids import KmeName, SaeId
from skex.base.secret import Secret
from skex.wire.claim import ClaimClass, Enrolment, Randomness


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
class DeliveredKey:
    """One key, handed out at most once to each entitled SAE."""

    key_id: uuid.UUID
    key: Secret
    claim: KeyClaim


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a caller demands beyond the policy's own demands; None leaves it to the policy.

    ``purpose`` is a label of at most 32 printable ASCII characters; ``lifetime`` is in seconds.
    """

    purpose: str = "any"
    lifetime: int | None = None
    minimum_threshold: int | None = None
    claim_class: ClaimClass | None = None


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
