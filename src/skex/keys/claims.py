"""What a delivered key's claim says, from what its batch recorded (specification, "Claims")."""

from __future__ import annotations

from skex.keys.api import KeyClaim
from skex.protocol.changes import Batch


def claim_of(batch: Batch) -> KeyClaim:
    """The claim of every key of a batch: that of both ends together."""
    threshold = batch.context.threshold
    return KeyClaim(
        claim_class=batch.claim.claim_class(threshold),
        threshold=threshold,
        margin=batch.claim.margin(threshold),
        hubs=tuple(batch.hubs),
        randomness=batch.claim.randomness,
        enrolment=batch.claim.enrolment,
    )
