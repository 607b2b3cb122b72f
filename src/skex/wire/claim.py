"""The claim in its compact form: what one end states about its own links to the hubs of a batch.

A claim names, by coordinate, the hubs whose link at this end an unbounded attacker would break, the
source of the key's randomness and how the links were enrolled. The class is computed, never stated,
so that it cannot contradict its own premises (specification, section "Claims").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from skex.base import codes, limits
from skex.base.errors import PeerFault
from skex.base.ids import Coordinate
from skex.wire.codec import Fields, Value, is_strictly_ascending


class ClaimClass(IntEnum):
    """What a key's secrecy rests on; a higher number is weaker."""

    INFORMATION_THEORETIC = 0
    HYBRID = 1
    """Reserved: no key of this version has this class. As a minimum it asks for more than computational."""
    COMPUTATIONAL = 2


class Randomness(IntEnum):
    """Where the key's bytes come from; a higher number is weaker."""

    SYSTEM_XOR_OTHER = 0
    SYSTEM = 1


class Enrolment(IntEnum):
    """How the weakest link's initial material travelled; a higher number is weaker."""

    COMPONENTS = 0
    CARRIED_IN_CLEAR = 1
    UNDER_PASSPHRASE = 2


@dataclass(frozen=True, slots=True)
class Claim:
    """One end's statement. ``computational`` holds ascending coordinates of hubs of the batch."""

    computational: tuple[Coordinate, ...]
    randomness: Randomness
    enrolment: Enrolment

    def to_value(self) -> Value:
        """The array ``[bytes of coordinates, randomness, enrolment]``."""
        return [bytes(self.computational), int(self.randomness), int(self.enrolment)]

    @classmethod
    def from_fields(cls, fields: Fields) -> Claim:
        """Read the array. Raises ``PeerFault`` (body-malformed, body-range)."""
        claim = cls(
            ascending_coordinates(fields.blob(0, limits.REALM_HUBS)),
            Randomness(fields.uint(0, max(Randomness))),
            Enrolment(fields.uint(0, max(Enrolment))),
        )
        fields.finish()
        return claim

    def joined(self, other: Claim) -> Claim:
        """The claim of both ends together: a path counts as broken if either end's link does."""
        return Claim(
            tuple(sorted({*self.computational, *other.computational})),
            max(self.randomness, other.randomness),
            max(self.enrolment, other.enrolment),
        )

    def margin(self, threshold: int) -> int:
        """How many hubs must still be corrupted against an unbounded attacker; 0 if none."""
        return max(0, threshold - len(self.computational))

    def claim_class(self, threshold: int) -> ClaimClass:
        """Information-theoretic only while at least one hub must still be corrupted."""
        if self.margin(threshold):
            return ClaimClass.INFORMATION_THEORETIC
        return ClaimClass.COMPUTATIONAL


def ascending_coordinates(data: bytes) -> tuple[Coordinate, ...]:
    """Read coordinates, one byte each, strictly ascending and not zero.

    Raises ``PeerFault`` (body-range).
    """
    if not is_strictly_ascending(data) or (data and data[0] == 0):
        raise PeerFault(codes.BODY_RANGE, "coordinates must ascend and not be zero")
    return tuple(Coordinate(byte) for byte in data)
