"""The header of a record: 24 bytes, big endian (specification, section "Records").

Sealing and opening live with the link, which owns the grants; this module only knows the layout.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from skex.base import codes, limits
from skex.base.errors import PeerFault
from skex.base.ids import Direction, LinkId

RECORD_VERSION: Final = 1
_LAYOUT: Final = struct.Struct(">BBHL8sLL")


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """What is visible of a record: its link's pseudonym, direction, length and pad position.

    ``length`` counts ciphertext bytes; ``grant`` is the start position of the grant it lies in;
    ``offset`` counts from that grant's first byte.
    """

    direction: Direction
    length: int
    link_id: LinkId
    grant: int
    offset: int

    @property
    def end(self) -> int:
        """The offset at which the next record of the same grant starts."""
        return self.offset + limits.RECORD_TAG_BYTES + self.length

    def pack(self) -> bytes:
        """The 24 bytes of the header."""
        return _LAYOUT.pack(
            RECORD_VERSION, self.direction, 0, self.length, self.link_id, self.grant, self.offset
        )

    @classmethod
    def parse(cls, data: bytes) -> RecordHeader:
        """Read a header of exactly 24 bytes; nothing in it is authenticated yet.

        Raises ``PeerFault``: record-version, record-header, record-length.
        """
        if len(data) != limits.RECORD_HEADER_BYTES:
            raise PeerFault(codes.RECORD_HEADER, f"{len(data)} bytes")
        version, direction, reserved, length, link_id, grant, offset = _LAYOUT.unpack(data)
        if version != RECORD_VERSION:
            raise PeerFault(codes.RECORD_VERSION, f"version {version}")
        if direction not in (Direction.TO_HUB, Direction.TO_KME) or reserved:
            raise PeerFault(codes.RECORD_HEADER, "direction or reserved field")
        if not 1 <= length <= limits.BODY_BYTES:
            raise PeerFault(codes.RECORD_LENGTH, f"{length} bytes")
        return cls(Direction(direction), length, LinkId(link_id), grant, offset)
