"""What a delivered key's claim says, from what its batch recorded (specification, "Claims")."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TypeAlias

from skex.base.ids import HubName, KmeName
from skex.keys.api import KeyClaim
from skex.protocol.changes import Batch, Role
from skex.wire.claim import Claim
from skex.wire.independence import COUNTED, UNKNOWN_HUB, Attribute, Collusion, collusion
from skex.wire.realm import HubAttributes, Realm

Counted: TypeAlias = Callable[[Role, KmeName], frozenset[Attribute]]
"""Which attributes of hubs count, as policy says: of batches made for a peer (sender), or by it."""


def usual(_role: Role, _peer: KmeName) -> frozenset[Attribute]:
    """What counts where no policy says anything else."""
    return COUNTED


class Claims:
    """Claims with what this end's own realm files say of the hubs; ``realms`` are those in force.

    Later realm files keep every hub, so that the newest one knows the hubs of older batches, too.
    """

    def __init__(self, realms: Callable[[], Iterable[Realm]], counted: Counted = usual) -> None:
        self._realms = realms
        self._counted = counted

    def of(self, role: Role, batch: Batch) -> KeyClaim:
        """The claim of every key of a batch: that of both ends together."""
        effective = self.collusion(role, batch).count
        return _claim(batch.context.threshold, effective, batch.hubs, batch.claim)

    def collusion(self, role: Role, batch: Batch) -> Collusion:
        """The fewest parties that together have as many hubs of a batch as its threshold."""
        attributes = self._attributes(batch.context.epoch)
        hubs = [attributes.get(name, UNKNOWN_HUB) for name in batch.hubs]
        return collusion(hubs, batch.context.threshold, self.counted(role, batch.peer))

    def counted(self, role: Role, peer: KmeName) -> frozenset[Attribute]:
        """Which attributes of hubs count in claims with a peer."""
        return self._counted(role, peer)

    def _attributes(self, epoch: int) -> dict[HubName, HubAttributes]:
        """What is known of hubs: as the batch's epoch says, or else the newest one that is in force."""
        realms = sorted(self._realms(), key=lambda realm: (realm.epoch != epoch, -realm.epoch))
        return {hub.name: hub.attributes for realm in realms[:1] for hub in realm.hubs}


# Thousands of batches rest on the same few claims: each of them is one object.
@functools.lru_cache(maxsize=256)
def _claim(threshold: int, effective: int, hubs: tuple[HubName, ...], claim: Claim) -> KeyClaim:
    return KeyClaim(
        claim_class=claim.claim_class(threshold),
        threshold=threshold,
        effective_threshold=effective,
        margin=claim.margin(threshold),
        hubs=tuple(hubs),
        randomness=claim.randomness,
        enrolment=claim.enrolment,
    )
