"""What a request for new keys amounts to, once it is checked: which keys will do, and for whom."""

from __future__ import annotations

from dataclasses import dataclass

from skex.base.ids import KmeName, SaeId
from skex.keys.api import KeyClaim
from skex.wire.claim import ClaimClass


@dataclass(frozen=True, slots=True)
class Kind:
    """Which keys will do: shared with ``peer``, so long, and resting on no less than this."""

    peer: KmeName
    key_bytes: int
    minimum_threshold: int | None = None
    claim_class: ClaimClass | None = None
    minimum_effective_threshold: int | None = None

    def admits(self, claim: KeyClaim) -> bool:
        """Whether keys with this claim will do."""
        threshold, effective = self.minimum_threshold, self.minimum_effective_threshold
        return (
            (threshold is None or claim.threshold >= threshold)
            and (effective is None or claim.effective_threshold >= effective)
            and (self.claim_class is None or claim.claim_class <= self.claim_class)
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """For whom: everything that two requests must share to be served from one assignment.

    ``slaves`` ascend, and all are of ``kind.peer``; ``lifetime`` is in seconds.
    """

    kind: Kind
    master: SaeId
    slaves: tuple[SaeId, ...]
    purpose: str
    lifetime: int
