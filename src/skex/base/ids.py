"""Identifiers and their one textual form.

Names are lower-case ASCII so that two names that look alike are alike. ``parse_*`` functions are
the only way from untrusted text or bytes to these types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NewType

from skex.base import codes, limits
from skex.base.errors import Refused

RealmName = NewType("RealmName", str)
HubName = NewType("HubName", str)
KmeName = NewType("KmeName", str)
SaeId = NewType("SaeId", str)
LinkId = NewType("LinkId", bytes)
"""8 bytes, random at enrolment: a pseudonym, the only identifier visible on the wire."""
Incarnation = NewType("Incarnation", bytes)
"""16 bytes, random at each start of a KME."""
GroupId = NewType("GroupId", bytes)
"""16 bytes, random for each group key."""
RequestId = NewType("RequestId", bytes)
"""16 bytes, random; makes a peer message idempotent."""
Coordinate = NewType("Coordinate", int)
"""1 to 255: the point at which a hub's share is evaluated; fixed for ever by the realm file."""

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")


def _parse_name(text: str, what: str) -> str:
    if len(text) > limits.NAME_CHARACTERS or not _NAME.fullmatch(text):
        raise Refused(codes.NAME_INVALID, f"{what} of {len(text)} characters")
    return text


def parse_realm_name(text: str) -> RealmName:
    """Check a realm's name. Raises ``Refused`` (name-invalid)."""
    return RealmName(_parse_name(text, "realm name"))


def parse_hub_name(text: str) -> HubName:
    """Check a hub's name. Raises ``Refused`` (name-invalid)."""
    return HubName(_parse_name(text, "hub name"))


def parse_kme_name(text: str) -> KmeName:
    """Check a KME's name. Raises ``Refused`` (name-invalid)."""
    return KmeName(_parse_name(text, "KME name"))


def parse_sae_id(text: str) -> SaeId:
    """Check a qualified SAE id, ``name@kme``. Raises ``Refused`` (name-invalid)."""
    local, separator, kme = text.partition("@")
    if not separator or len(local) > limits.NAME_CHARACTERS or not _NAME.fullmatch(local):
        raise Refused(codes.NAME_INVALID, f"SAE id of {len(text)} characters")
    _parse_name(kme, "KME part of an SAE id")
    return SaeId(text)


def kme_of(sae: SaeId) -> KmeName:
    """The KME that an SAE belongs to: the part behind the ``@``."""
    return KmeName(sae.partition("@")[2])


class Direction(IntEnum):
    """The two directions of a link; each has its own pad, its own marks, its own sender."""

    TO_HUB = 0
    TO_KME = 1

    @property
    def opposite(self) -> Direction:
        """The other direction of the same link."""
        return Direction(1 - self)


@dataclass(frozen=True, slots=True, order=True)
class BatchId:
    """Sender's incarnation and a counter within it; never accepted twice by one receiver."""

    incarnation: Incarnation
    counter: int

    LENGTH = 24

    def to_bytes(self) -> bytes:
        """16 bytes of incarnation, then the counter as big-endian u64."""
        return self.incarnation + self.counter.to_bytes(8, "big")

    @classmethod
    def from_bytes(cls, data: bytes) -> BatchId:
        """The inverse of ``to_bytes``; ``data`` must be 24 bytes (callers check)."""
        return cls(Incarnation(data[:16]), int.from_bytes(data[16:24], "big"))

    def __str__(self) -> str:
        return f"{self.incarnation.hex()}:{self.counter}"
