"""The five frames of the preface: what two ends say before anything is sealed.

A frame is ``number u8 ‖ reserved u8 (zero) ‖ length u16 ‖ payload``; each number has one length.
Frames 2 to 5 end with a 64-byte proof, computed elsewhere over ``proof_input``. All integers are
big endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias, TypeVar

from skex.base import codes, limits
from skex.base.errors import PeerFault
from skex.base.ids import HubName, Incarnation, KmeName, LinkId, RealmName

MAGIC: Final = b"skex"
NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 64
REALM_DIGEST_BYTES: Final = 64
FRAME_HEADER_BYTES: Final = 4
_HEADER: Final = struct.Struct(">BBH")


def _fault(text: str) -> PeerFault:
    return PeerFault(codes.FRAME_MALFORMED, text)


@dataclass(frozen=True, slots=True)
class Marks:
    """What one end states of itself, and what it durably saw the other end prove.

    ``to_hub`` and ``to_kme`` are this end's marks of the two directions, ``count`` the prefaces it
    completed; the ``seen_*`` values are the highest that the other end ever proved to it.
    """

    to_hub: int
    to_kme: int
    count: int
    seen_to_hub: int
    seen_to_kme: int
    seen_count: int

    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">LLQLLQ")

    def pack(self) -> bytes:
        """32 bytes: u32, u32, u64, u32, u32, u64."""
        return self.LAYOUT.pack(
            self.to_hub, self.to_kme, self.count, self.seen_to_hub, self.seen_to_kme, self.seen_count
        )

    @classmethod
    def unpack(cls, data: bytes) -> Marks:
        """The inverse of ``pack``. Raises ``PeerFault`` (frame-malformed) for a count out of range."""
        marks = cls(*cls.LAYOUT.unpack(data))
        if max(marks.count, marks.seen_count) > limits.PREFACE_COUNT_MAX:
            raise _fault("a preface count beyond its range")
        return marks


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of one direction's pad, announced in a preface: a start position and a count.

    Its end, the new mark, is a position itself.
    """

    start: int
    count: int

    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">LL")

    def pack(self) -> bytes:
        """8 bytes: u32, u32."""
        return self.LAYOUT.pack(self.start, self.count)

    @classmethod
    def unpack(cls, data: bytes) -> Stretch:
        """The inverse of ``pack``. Raises ``PeerFault`` (frame-malformed)."""
        start, count = cls.LAYOUT.unpack(data)
        if not 1 <= count <= limits.PAD_POSITION_MAX - start:
            raise _fault("a grant is empty or ends beyond the last position")
        return cls(start, count)


@dataclass(frozen=True, slots=True)
class Hello:
    """Frame 1, KME to hub: the versions offered, the link's id, a nonce."""

    NUMBER: ClassVar[int] = 1
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">4sBBH8s32s")
    lowest: int
    highest: int
    link_id: LinkId
    nonce: bytes

    def payload(self) -> bytes:
        """The frame's payload; this frame has no proof."""
        return self.LAYOUT.pack(MAGIC, self.lowest, self.highest, 0, self.link_id, self.nonce)

    @classmethod
    def parse(cls, payload: bytes) -> Hello:
        """Read the payload. Raises ``PeerFault`` (frame-malformed)."""
        magic, lowest, highest, reserved, link_id, nonce = cls.LAYOUT.unpack(payload)
        if magic != MAGIC or reserved or not 1 <= lowest <= highest:
            raise _fault("magic, reserved field or versions")
        return cls(lowest, highest, LinkId(link_id), nonce)


@dataclass(frozen=True, slots=True)
class HubNonce:
    """Frame 2, hub to KME: the version chosen and a nonce."""

    NUMBER: ClassVar[int] = 2
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">BBH32s")
    version: int
    nonce: bytes

    def payload(self) -> bytes:
        """The payload without its proof."""
        return self.LAYOUT.pack(self.version, 0, 0, self.nonce)

    @classmethod
    def parse(cls, payload: bytes) -> HubNonce:
        """Read the payload without its proof. Raises ``PeerFault`` (frame-malformed)."""
        version, reserved, also_reserved, nonce = cls.LAYOUT.unpack(payload)
        if reserved or also_reserved or version == 0:
            raise _fault("reserved field or version")
        return cls(version, nonce)


@dataclass(frozen=True, slots=True)
class KmeState:
    """Frame 3, KME to hub: its marks, its incarnation, its capabilities."""

    NUMBER: ClassVar[int] = 3
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">32s16sL")
    marks: Marks
    incarnation: Incarnation
    capabilities: int

    def payload(self) -> bytes:
        """The payload without its proof."""
        return self.LAYOUT.pack(self.marks.pack(), self.incarnation, self.capabilities)

    @classmethod
    def parse(cls, payload: bytes) -> KmeState:
        """Read the payload without its proof. Raises ``PeerFault`` (frame-malformed)."""
        marks, incarnation, capabilities = cls.LAYOUT.unpack(payload)
        return cls(Marks.unpack(marks), Incarnation(incarnation), capabilities)


@dataclass(frozen=True, slots=True)
class HubState:
    """Frame 4, hub to KME: its marks, its realm, the grant that the KME may seal with."""

    NUMBER: ClassVar[int] = 4
    LAYOUT: ClassVar[struct.Struct] = struct.Struct(">32sL64s8sL")
    marks: Marks
    epoch: int
    realm_digest: bytes
    grant: Stretch
    capabilities: int

    def payload(self) -> bytes:
        """The payload without its proof."""
        return self.LAYOUT.pack(
            self.marks.pack(), self.epoch, self.realm_digest, self.grant.pack(), self.capabilities
        )

    @classmethod
    def parse(cls, payload: bytes) -> HubState:
        """Read the payload without its proof. Raises ``PeerFault`` (frame-malformed)."""
        marks, epoch, digest, grant, capabilities = cls.LAYOUT.unpack(payload)
        if epoch == 0:
            raise _fault("epochs start at 1")
        return cls(Marks.unpack(marks), epoch, digest, Stretch.unpack(grant), capabilities)


@dataclass(frozen=True, slots=True)
class KmeGrant:
    """Frame 5, KME to hub: the grant that the hub may seal with."""

    NUMBER: ClassVar[int] = 5
    LAYOUT: ClassVar[struct.Struct] = Stretch.LAYOUT
    grant: Stretch

    def payload(self) -> bytes:
        """The payload without its proof."""
        return self.grant.pack()

    @classmethod
    def parse(cls, payload: bytes) -> KmeGrant:
        """Read the payload without its proof. Raises ``PeerFault`` (frame-malformed)."""
        return cls(Stretch.unpack(payload))


Frame: TypeAlias = Hello | HubNonce | KmeState | HubState | KmeGrant
FrameT = TypeVar("FrameT", Hello, HubNonce, KmeState, HubState, KmeGrant)
_KINDS: Final[dict[int, type[Frame]]] = {
    kind.NUMBER: kind for kind in (Hello, HubNonce, KmeState, HubState, KmeGrant)
}


def _payload_bytes(number: int) -> int:
    return _KINDS[number].LAYOUT.size + (PROOF_BYTES if number > 1 else 0)


def frame_bytes(number: int) -> int:
    """The whole length of frame ``number``, header and proof included."""
    return FRAME_HEADER_BYTES + _payload_bytes(number)


def check_header(data: bytes, expected: int) -> None:
    """Check the first four bytes of a frame before any more of it is read.

    Raises ``PeerFault``: frame-unexpected, frame-length.
    """
    if len(data) < FRAME_HEADER_BYTES:
        raise PeerFault(codes.FRAME_LENGTH, f"{len(data)} bytes of a frame's header")
    number, reserved, length = _HEADER.unpack(data[:FRAME_HEADER_BYTES])
    if number != expected or reserved:
        raise PeerFault(codes.FRAME_UNEXPECTED, f"frame {number}, expected {expected}")
    if length != _payload_bytes(expected):
        raise PeerFault(codes.FRAME_LENGTH, f"{length} bytes in frame {number}")


def unproved_bytes(frame: Frame) -> bytes:
    """The frame from its header up to, not including, its proof."""
    return _HEADER.pack(frame.NUMBER, 0, _payload_bytes(frame.NUMBER)) + frame.payload()


def parse_frame(data: bytes, kind: type[FrameT]) -> tuple[FrameT, bytes]:
    """Read a whole frame; returns it with its proof (empty for frame 1), still unverified.

    Raises ``PeerFault``: frame-unexpected, frame-length, frame-malformed.
    """
    if len(data) != frame_bytes(kind.NUMBER):
        raise PeerFault(codes.FRAME_LENGTH, f"{len(data)} bytes in frame {kind.NUMBER}")
    check_header(data, kind.NUMBER)
    end = FRAME_HEADER_BYTES + kind.LAYOUT.size
    return kind.parse(data[FRAME_HEADER_BYTES:end]), data[end:]


@dataclass(frozen=True, slots=True)
class Parties:
    """Whom a link joins: bound into every proof of its prefaces."""

    realm: RealmName
    link_id: LinkId
    kme: KmeName
    hub: HubName


def proof_input(
    label: bytes, version: int, parties: Parties, earlier: Sequence[bytes], unproved: bytes
) -> bytes:
    """What the proof of a frame is computed over; every part is preceded by its be32 length.

    ``earlier`` are the earlier frames, whole and in order; ``unproved`` is this frame up to its
    proof.
    """
    parts = (
        label,
        version.to_bytes(1, "big"),
        parties.realm.encode(),
        parties.link_id,
        parties.kme.encode(),
        parties.hub.encode(),
        *earlier,
        unproved,
    )
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
