"""The realm file: which hubs work together, at which coordinates, with which threshold.

One canonical encoding, so that operators and KMEs can compare digests. Whether a later epoch may
replace this one is decided in the protocol layer; here a file is either well formed or refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from skex.base import codes, ids, limits
from skex.base.errors import PeerFault, Refused
from skex.base.ids import Coordinate, HubName, RealmName
from skex.wire.codec import UINT32_MAX, UINT_MAX, Fields, Value, decode, encode, is_strictly_ascending

MAGIC: Final = "skex realm"
FORMAT: Final = 1
_ADDRESS: Final = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]):([1-9][0-9]{0,4})")
_PORT_MAX: Final = 65_535


class HubStatus(IntEnum):
    """Whether shares from a hub count."""

    ACTIVE = 0
    REVOKED = 1


@dataclass(frozen=True, slots=True)
class HubAttributes:
    """Who stands behind a hub; hubs that share a value are not independent in that respect.

    Printable ASCII, compared exactly.
    """

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
    """One hub of a realm. ``coordinate`` never changes.

    ``address`` is ``host:port``: a host name or IPv4 address in lower case, or an IPv6 address in
    brackets; the port in decimal without leading zeros.
    """

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
            _read_address(fields),
            HubAttributes.from_fields(fields.fields()),
        )
        fields.finish()
        return hub


def _read_address(fields: Fields) -> str:
    address = fields.text(limits.REALM_ADDRESS_CHARACTERS)
    match = _ADDRESS.fullmatch(address)
    if not match or int(match[1]) > _PORT_MAX:
        raise PeerFault(codes.BODY_RANGE, "not a hub's address")
    return address


@dataclass(frozen=True, slots=True)
class Realm:
    """A realm at one epoch. ``issued`` is UNIX seconds, ``max_age`` and ``overlap`` seconds.

    ``hubs`` stand in the order of their coordinates. A realm that is constructed here passes the
    same checks as one that is read: ``Refused`` (realm-malformed, realm-inconsistent).
    """

    name: RealmName
    epoch: int
    threshold: int
    issued: int
    max_age: int
    overlap: int
    hubs: tuple[Hub, ...]

    def __post_init__(self) -> None:
        _read(self.to_bytes())
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
        return cls(*_read(data))

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


_Parts: TypeAlias = tuple[RealmName, int, int, int, int, int, tuple[Hub, ...]]


def _read(data: bytes) -> _Parts:
    """The fields of a realm file, each within its bounds; the rules between them come after."""
    try:
        return _read_parts(Fields(decode(data, limits.REALM_FILE_BYTES)))
    except (PeerFault, Refused) as error:
        code = codes.REALM_FORMAT if error.code is codes.REALM_FORMAT else codes.REALM_MALFORMED
        raise Refused(code, error.detail) from error


def _read_parts(fields: Fields) -> _Parts:
    if fields.text(len(MAGIC)) != MAGIC:
        raise PeerFault(codes.BODY_MALFORMED, "not a realm file")
    if (stated := fields.uint(1, UINT_MAX)) != FORMAT:
        raise Refused(codes.REALM_FORMAT, f"format {stated}, known is {FORMAT}")
    name = ids.parse_realm_name(fields.text(limits.NAME_CHARACTERS))
    epoch, threshold = fields.uint(1, UINT32_MAX), fields.uint(1, limits.REALM_HUBS)
    issued = fields.uint(0, UINT_MAX)
    max_age, overlap = fields.uint(1, UINT32_MAX), fields.uint(0, UINT32_MAX)
    hubs = fields.repeated(1, limits.REALM_HUBS, lambda inner: Hub.from_fields(inner.fields()))
    fields.finish()
    return name, epoch, threshold, issued, max_age, overlap, hubs


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
    return ""
