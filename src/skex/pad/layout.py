"""The first three pages of every pad file, byte for byte: who it is, and two slots for its state.

::

    page 0   identity   magic 'skex pad' ‖ version u8 ‖ kind u8 ‖ direction u8 ‖ zero u8 ‖ capacity u32 ‖
                        link id (8)                                                  24 bytes, big endian
                        SHA-256('skex pad identity' ‖ those 24)                      32 bytes
    page 1   slot 0     length u16 ‖ payload ‖ SHA-256('skex pad slot' ‖ identity (24) ‖ length ‖ payload)
    page 2   slot 1     likewise; a slot is 512 bytes, zero behind the digest
    page 3…  data       table pads only: capacity units of 4096 bytes

The digests find torn and foreign pages; they prove nothing against who can write the file. The slots
lie in pages of their own, because a write that is cut off may take its whole sector (or page) with it:
a new state is always written and synced in one slot while the other still holds the old one.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from skex.base import codes
from skex.base.errors import StoreFault
from skex.base.ids import Direction, LinkId
from skex.pad.files import FileSystem, PadFile, read_exactly
from skex.pad.kinds import PadKind

VERSION: Final = 1
PAGE_BYTES: Final = 4096
HEADER_BYTES: Final = 3 * PAGE_BYTES
SLOT_BYTES: Final = 512
"""One sector: written or not, hardly ever torn."""
_MAGIC: Final = b"skex pad"
_IDENTITY: Final = struct.Struct(">8sBBBBL8s")
_DIGEST_BYTES: Final = 32
_LENGTH_BYTES: Final = 2
PAYLOAD_BYTES_MAX: Final = SLOT_BYTES - _LENGTH_BYTES - _DIGEST_BYTES


@dataclass(frozen=True, slots=True)
class Identity:
    """What a pad file says it is; written last when it is created, never changed."""

    kind: PadKind
    link_id: LinkId
    direction: Direction
    capacity: int

    def pack(self) -> bytes:
        """The 24 bytes, without their digest."""
        return _IDENTITY.pack(_MAGIC, VERSION, self.kind, self.direction, 0, self.capacity, self.link_id)

    def slot_digest(self, content: bytes) -> bytes:
        """The digest that makes a slot valid in this file and in no other."""
        return hashlib.sha256(b"skex pad slot" + self.pack() + content).digest()


def write_identity(file: PadFile, identity: Identity) -> None:
    """Make the file a pad. Everything else must be durable already."""
    packed = identity.pack()
    file.write(0, packed + _identity_digest(packed))


def open_identified(
    fs: FileSystem, path: str, kind: PadKind, link_id: LinkId, direction: Direction
) -> tuple[PadFile, Identity]:
    """Open a pad file that must be of this kind, link and direction; the caller owns the file then.

    Raises ``StoreFault``: pad-short-read, pad-corrupt.
    """
    file = fs.open(path)
    try:
        identity = read_identity(file)
        _require_owner(identity, kind, link_id, direction)
    except BaseException:
        file.close()
        raise
    return file, identity


def read_identity(file: PadFile) -> Identity:
    """Who a file says it is. Raises ``StoreFault``: pad-short-read, pad-corrupt."""
    data = read_exactly(file, 0, _IDENTITY.size + _DIGEST_BYTES)
    packed = data[: _IDENTITY.size]
    if data[_IDENTITY.size :] != _identity_digest(packed):
        raise StoreFault(codes.PAD_CORRUPT, "no valid identity: cut off while it was created, or damaged")
    magic, version, kind, direction, zero, capacity, link_id = _IDENTITY.unpack(packed)
    if magic != _MAGIC or version != VERSION:
        raise StoreFault(codes.PAD_CORRUPT, f"layout version {version}")
    if kind not in tuple(PadKind) or direction not in tuple(Direction) or zero or not capacity:
        raise StoreFault(codes.PAD_CORRUPT, "identity field out of range")
    return Identity(PadKind(kind), LinkId(link_id), Direction(direction), capacity)


def read_slot(file: PadFile, identity: Identity, number: int) -> bytes | None:
    """The payload of slot 0 or 1, or None when it holds no valid one. Raises pad-short-read."""
    slot = read_exactly(file, _slot_offset(number), SLOT_BYTES)
    end = _LENGTH_BYTES + int.from_bytes(slot[:_LENGTH_BYTES], "big")
    if slot[end : end + _DIGEST_BYTES] != identity.slot_digest(slot[:end]):
        return None
    return slot[_LENGTH_BYTES:end]


def write_slot(file: PadFile, identity: Identity, number: int, payload: bytes) -> None:
    """Write slot 0 or 1 whole, and sync. ``payload`` has at most ``PAYLOAD_BYTES_MAX`` bytes."""
    content = len(payload).to_bytes(_LENGTH_BYTES, "big") + payload
    slot = content + identity.slot_digest(content)
    file.write(_slot_offset(number), slot.ljust(SLOT_BYTES, b"\0"))
    file.sync()


def erase_slot(file: PadFile, number: int) -> None:
    """Overwrite slot 0 or 1 with zeros, in place, and sync.

    Not punched: a hole is filled from other blocks later, and the slot is written over and over.
    """
    file.write(_slot_offset(number), bytes(SLOT_BYTES))
    file.sync()


def require_size(file: PadFile, expected: int) -> None:
    """Refuse a file of another length. Raises ``StoreFault``: pad-short-read, pad-corrupt."""
    size = file.size()
    if size < expected:
        raise StoreFault(codes.PAD_SHORT_READ, f"{size} of {expected} bytes")
    if size > expected:
        raise StoreFault(codes.PAD_CORRUPT, f"{size} instead of {expected} bytes")


def _slot_offset(number: int) -> int:
    return (1 + number) * PAGE_BYTES


def _identity_digest(packed: bytes) -> bytes:
    return hashlib.sha256(b"skex pad identity" + packed).digest()


def _require_owner(identity: Identity, kind: PadKind, link_id: LinkId, direction: Direction) -> None:
    if (identity.kind, identity.link_id, identity.direction) != (kind, link_id, direction):
        raise StoreFault(codes.PAD_CORRUPT, "it is another link's, direction's or kind's pad")
