"""What a batch is: the compact form that travels, and the expanded form that is authenticated.

Both ends expand the compact form with their *own* realm file; digests and the end-to-end tag are
over the expanded bytes, so ends that disagree about the realm cannot accept the same batch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from skex.base import codes, limits
from skex.base.errors import PeerFault
from skex.base.ids import BatchId, Coordinate, GroupId, HubName, KmeName, RealmName
from skex.wire.claim import Claim, ascending_coordinates
from skex.wire.codec import UINT32_MAX, Fields, Value, encode

PROTOCOL_VERSION: Final = 1
KEY_PREFIX_BYTES: Final = 48 + 32
"""u (the tag's key) and v (the CONFIRM's key) stand before the keys in the shared secret."""
ROOT_BYTES: Final = 64
"""The one key of a control batch: the root of the pair's peer messages."""
_CONTROL_SHAPE: Final = (1, ROOT_BYTES, None)


class Purpose(IntEnum):
    """What a batch's keys are for."""

    CONTROL = 0
    TRAFFIC = 1


@dataclass(frozen=True, slots=True)
class CompactContext:
    """The fields of a batch that travel in a SHARE, in their wire order.

    ``hubs`` are the coordinates of the hubs used, ascending; ``key_bytes`` the length of one key;
    ``lifetime`` seconds.
    """

    epoch: int
    threshold: int
    hubs: tuple[Coordinate, ...]
    keys: int
    key_bytes: int
    purpose: Purpose
    lifetime: int
    group: GroupId | None
    claim: Claim

    @property
    def secret_bytes(self) -> int:
        """Length of the shared secret, and of each share."""
        return KEY_PREFIX_BYTES + self.keys * self.key_bytes

    def to_value(self) -> Value:
        """The array as it stands in a SHARE."""
        return [
            self.epoch,
            self.threshold,
            bytes(self.hubs),
            self.keys,
            self.key_bytes,
            int(self.purpose),
            self.lifetime,
            self.group,
            self.claim.to_value(),
        ]

    @classmethod
    def from_fields(cls, fields: Fields) -> CompactContext:
        """Read the array. Raises ``PeerFault`` (body-malformed, body-range)."""
        context = cls(
            epoch=fields.uint(1, UINT32_MAX),
            threshold=fields.uint(1, limits.REALM_HUBS),
            hubs=ascending_coordinates(fields.blob(1, limits.REALM_HUBS)),
            keys=fields.uint(1, limits.BATCH_KEYS),
            key_bytes=fields.uint(limits.KEY_BYTES_MIN, limits.KEY_BYTES_MAX),
            purpose=Purpose(fields.uint(0, max(Purpose))),
            lifetime=fields.uint(limits.LIFETIME_SECONDS_MIN, limits.LIFETIME_SECONDS_MAX),
            group=_group(fields.optional_blob(16)),
            claim=Claim.from_fields(fields.fields()),
        )
        fields.finish()
        context._check()
        return context

    def _check(self) -> None:
        """The rules between fields."""
        if not self.threshold <= len(self.hubs):
            raise PeerFault(codes.BODY_RANGE, "threshold above the number of hubs")
        if self.threshold == 1 and len(self.hubs) > 1:
            raise PeerFault(codes.BODY_RANGE, "a threshold of 1 is for links without hubs only")
        if math.comb(len(self.hubs), self.threshold) > limits.SUBSETS:
            raise PeerFault(codes.BODY_RANGE, "more subsets of hubs than a receiver tries")
        if self.secret_bytes > limits.BATCH_SECRET_BYTES:
            raise PeerFault(codes.BODY_RANGE, f"a secret of {self.secret_bytes} bytes")
        if not set(self.claim.computational) <= set(self.hubs):
            raise PeerFault(codes.BODY_RANGE, "the claim names a hub that the batch does not use")
        if self.purpose is Purpose.CONTROL and (self.keys, self.key_bytes, self.group) != _CONTROL_SHAPE:
            raise PeerFault(codes.BODY_RANGE, "a control batch makes one root and belongs to no group")


def _group(blob: bytes | None) -> GroupId | None:
    return None if blob is None else GroupId(blob)


@dataclass(frozen=True, slots=True)
class Context:
    """A batch as both ends must see it: the compact form plus what each end knows by itself."""

    realm: RealmName
    sender: KmeName
    receiver: KmeName
    batch: BatchId
    hub_names: tuple[HubName, ...]
    compact: CompactContext

    def to_bytes(self) -> bytes:
        """The expanded context: one deterministic-CBOR array (specification, "Context")."""
        compact = self.compact
        hubs: Sequence[Value] = [
            [name, int(coordinate)] for name, coordinate in zip(self.hub_names, compact.hubs, strict=True)
        ]
        return encode(
            [
                PROTOCOL_VERSION,
                self.realm,
                compact.epoch,
                self.sender,
                self.receiver,
                self.batch.to_bytes(),
                compact.threshold,
                hubs,
                compact.keys,
                compact.key_bytes,
                compact.claim.to_value(),
                int(compact.purpose),
                compact.lifetime,
                compact.group,
            ]
        )

    def digest(self) -> bytes:
        """SHA-512 of the expanded context, 64 bytes."""
        return hashlib.sha512(self.to_bytes()).digest()
