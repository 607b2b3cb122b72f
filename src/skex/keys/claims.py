"""What a delivered key's claim says, from what its batch recorded (specification, "Claims")."""

from __future__ import annotations

import functools

from skex.base.ids import HubName
from skex.keys.api import KeyClaim
from skex.protocol.changes import Batch
from skex.wire.claim import Claim


def claim_of(batch: Batch) -> KeyClaim:
    """The claim of every key of a batch: that of both ends together."""
    return _claim(batch.context.threshold, batch.hubs, batch.claim)


# Thousands of batches rest on the same few claims: each of them is one object.
@functools.lru_cache(maxsize=256)
def _claim(threshold: int, hubs: tuple[HubName, ...], claim: Claim) -> KeyClaim:
    return KeyClaim(
        claim_class=claim.claim_class(threshold),
        threshold=threshold,
        margin=claim.margin(threshold),
        hubs=tuple(hubs),
        randomness=claim.randomness,
        enrolment=claim.enrolment,
    )
