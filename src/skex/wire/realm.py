"""The realm file: which hubs work together, at which coordinates, with which threshold.

One canonical encoding, so that operators and KMEs can compare digests. Whether a later epoch may
replace this one is decided in the protocol layer; here a file is either well formed or refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from skex.base import codes, ids, limits
from skex.base.errors import PeerFault, Refused
from skex.base.ids import Coordinate, HubName, RealmName
from skex.wire.claim import is_strictly_ascending
from skex.wire.codec import UINT_MAX, Fields, Value, decode, encode

MAGIC: Final = "skex realm"
FORMAT: Final = 1
_U32: Final = 2**32 - 1


class HubStatus(IntEnum):
    """Whether shares from a hub count."""

    ACTIVE = 0
    REVOKED = 1


@dataclass(frozen=True, slots=True)
class HubAttributes:
    """Who stands behind a hub; hubs that share a value are not independent in that respect."""

    operator: str
    jurisdiction: str
    hosting: str
    administrator: str
    implementation: str

    def to_value(self) -> Value:
        """The array of the five texts."""
        return [self.operator, self.jurisdiction, self.hosting, self.administrator, self.implementation]

    @classmethod
    def from_fields(cls, fields: Fields) -> HubAttributes:
        """Read the array."""
        attributes = cls(*(fields.text(limits.REALM_ATTRIBUTE_CHARACTERS) for _ in range(5)))
        fields.finish()
        return attributes


@dataclass(frozen=True, slots=True)
class Hub:
    """One hub of a realm. ``address`` is ``host:port``; ``coordinate`` never changes."""

    name: HubName
    coordinate: Coordinate
    status: HubStatus
    address: str
    attributes: HubAttributes

    def to_value(self) -> Value:
        """The array as it stands in the file."""
        return [
            self.name,
            int(self.coordinate),
            int(self.status),
            self.address,
            self.attributes.to_value(),
        ]

    @classmethod
    def from_fields(cls, fields: Fields) -> Hub:
        """Read the array."""
        hub = cls(
            ids.parse_hub_name(fields.text(limits.NAME_CHARACTERS)),
            Coordinate(fields.uint(1, 255)),
            HubStatus(fields.uint(0, max(HubStatus))),
            fields.text(limits.REALM_ADDRESS_CHARACTERS),
            HubAttributes.from_fields(fields.fields()),
        )
        fields.finish()
        return hub


@dataclass(frozen=True, slots=True)
class Realm:
    """A realm at one epoch. ``issued`` is UNIX seconds, ``max_age`` and ``overlap`` seconds.

    ``hubs`` stand in the order of their coordinates. Construction checks consistency and raises
    ``Refused`` (realm-inconsistent).
    """

    name: RealmName
    epoch: int
    threshold: int
    issued: int
    max_age: int
    overlap: int
    hubs: tuple[Hub, ...]

    def __post_init__(self) -> None:
        problem = _inconsistency(self)
        if problem:
            raise Refused(codes.REALM_INCONSISTENT, problem)

    def to_bytes(self) -> bytes:
        """The canonical file."""
        hubs: Sequence[Value] = [hub.to_value() for hub in self.hubs]
        return encode(
            [
                MAGIC,
                FORMAT,
                self.name,
                self.epoch,
                self.threshold,
                self.issued,
                self.max_age,
                self.overlap,
                hubs,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Realm:
        """Read a realm file. Raises ``Refused`` (realm-malformed, realm-inconsistent)."""
        try:
            return cls._read(Fields(decode(data, limits.REALM_FILE_BYTES)))
        except PeerFault as error:
            raise Refused(codes.REALM_MALFORMED, error.detail) from error
        except Refused as error:
            if error.code is codes.NAME_INVALID:
                raise Refused(codes.REALM_MALFORMED, error.detail) from error
            raise

    @classmethod
    def _read(cls, fields: Fields) -> Realm:
        if fields.text(len(MAGIC)) != MAGIC:
            raise PeerFault(codes.BODY_MALFORMED, "not a realm file")
        fields.uint(FORMAT, FORMAT)
        name = ids.parse_realm_name(fields.text(limits.NAME_CHARACTERS))
        epoch, threshold = fields.uint(1, _U32), fields.uint(1, limits.REALM_HUBS)
        issued, max_age, overlap = fields.uint(0, UINT_MAX), fields.uint(1, _U32), fields.uint(0, _U32)
        hubs = tuple(Hub.from_fields(Fields(item)) for item in fields.array(1, limits.REALM_HUBS))
        fields.finish()
        return cls(name, epoch, threshold, issued, max_age, overlap, hubs)

    def digest(self) -> bytes:
        """SHA-512 of the canonical file, 64 bytes: what prefaces state and operators compare."""
        return hashlib.sha512(self.to_bytes()).digest()

    @property
    def active_hubs(self) -> tuple[Hub, ...]:
        """The hubs whose shares count, in the order of their coordinates."""
        return tuple(hub for hub in self.hubs if hub.status is HubStatus.ACTIVE)

    def hub_at(self, coordinate: Coordinate) -> Hub | None:
        """The active hub at a coordinate, if there is one."""
        return next((hub for hub in self.active_hubs if hub.coordinate == coordinate), None)

    def hub_named(self, name: HubName) -> Hub | None:
        """The active hub of a name, if there is one."""
        return next((hub for hub in self.active_hubs if hub.name == name), None)


def _inconsistency(realm: Realm) -> str:
    """What contradicts itself in a realm, or nothing."""
    if not is_strictly_ascending([hub.coordinate for hub in realm.hubs]):
        return "coordinates must be distinct and ascending"
    if len({hub.name for hub in realm.hubs}) != len(realm.hubs):
        return "two hubs have one name"
    if realm.threshold > len(realm.active_hubs):
        return "the threshold is above the number of active hubs"
    if realm.threshold == 1 and len(realm.hubs) != 1:
        return "a threshold of 1 is for links without hubs only"
    if len(realm.to_bytes()) > limits.REALM_FILE_BYTES:
        return "the realm file is too long"
    return ""
