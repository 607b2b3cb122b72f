"""The messages of a link, KME to hub and hub to KME: bodies of records.

A body is one array ``[type, field ...]``. Requests carry no number of their own: a record's ordinal
in its direction of the connection (the first is 1) names it, and every answer states that ordinal.
Which end may send a type is checked here, so a machine only sees what its peer may say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, TypeAlias

from skex.base import codes, ids, limits
from skex.base.errors import ErrorCode, PeerFault, Refused
from skex.base.ids import BatchId, Direction, Incarnation, KmeName
from skex.wire.claim import Claim
from skex.wire.codec import UINT32_MAX, UINT_MAX, Fields, Value, decode, encode
from skex.wire.context import CompactContext

TAG_BYTES: Final = 16


class Refusal(IntEnum):
    """Why a request was refused, as it stands on the wire; each maps to one error code."""

    UNKNOWN_TYPE = 1
    NOT_AUTHORISED = 2
    RECEIVER_ABSENT = 3
    QUOTA_EXCEEDED = 4
    PAD_FLOOR = 5
    PAD_EXHAUSTED = 6
    BATCH_UNKNOWN = 7
    BATCH_REPEATED = 8
    CONTEXT_DISAGREES = 9
    RECEIVER_FULL = 10
    BUSY = 11


_REFUSAL_CODES: Final[dict[Refusal, ErrorCode]] = {
    Refusal.UNKNOWN_TYPE: codes.REQUEST_UNKNOWN,
    Refusal.NOT_AUTHORISED: codes.NOT_AUTHORISED,
    Refusal.RECEIVER_ABSENT: codes.RECEIVER_ABSENT,
    Refusal.QUOTA_EXCEEDED: codes.QUOTA_EXCEEDED,
    Refusal.PAD_FLOOR: codes.PAD_FLOOR,
    Refusal.PAD_EXHAUSTED: codes.PAD_EXHAUSTED,
    Refusal.BATCH_UNKNOWN: codes.BATCH_UNKNOWN,
    Refusal.BATCH_REPEATED: codes.BATCH_REPEATED,
    Refusal.CONTEXT_DISAGREES: codes.CONTEXT_DISAGREES,
    Refusal.RECEIVER_FULL: codes.RECEIVER_FULL,
    Refusal.BUSY: codes.BUSY,
}


def refusal_code(refusal: int) -> ErrorCode:
    """The error code of a refusal; one that this version does not know counts as "busy"."""
    try:
        return _REFUSAL_CODES[Refusal(refusal)]
    except ValueError:
        return codes.BUSY


def read_kme_name(fields: Fields) -> KmeName:
    """Read a KME's name. Raises ``PeerFault`` (body-range) where it is not one."""
    text = fields.text(limits.NAME_CHARACTERS)
    try:
        return ids.parse_kme_name(text)
    except Refused as error:
        raise PeerFault(codes.BODY_RANGE, "not a KME name") from error


def read_batch_id(fields: Fields) -> BatchId:
    """Read a batch id: a byte string of 24 bytes."""
    return BatchId.from_bytes(fields.blob(BatchId.LENGTH))


@dataclass(frozen=True, slots=True)
class Grant:
    """Announces a stretch of pad for the direction that the *announcing* end receives.

    Its end, the new mark, is a position itself.
    """

    TYPE: ClassVar[int] = 1
    start: int
    count: int

    def to_value(self) -> Value:
        """The body as a value."""
        return [self.TYPE, self.start, self.count]

    @classmethod
    def from_fields(cls, fields: Fields) -> Grant:
        """Read the fields behind the type."""
        start = fields.uint(0, limits.PAD_POSITION_MAX)
        return cls(start, fields.uint(1, limits.PAD_POSITION_MAX - start))


@dataclass(frozen=True, slots=True)
class Want:
    """Asks for a grant of the sending end's direction, large enough for ``size`` bytes of records."""

    TYPE: ClassVar[int] = 2
    size: int

    def to_value(self) -> Value:
        """The body as a value."""
        return [self.TYPE, self.size]

    @classmethod
    def from_fields(cls, fields: Fields) -> Want:
        """Read the fields behind the type."""
        return cls(fields.uint(1, UINT32_MAX))


@dataclass(frozen=True, slots=True)
class Done:
    """A SHARE was relayed; answers nothing else, because everything else is answered end to end."""

    TYPE: ClassVar[int] = 3
    request: int

    def to_value(self) -> Value:
        """The body as a value."""
        return [self.TYPE, self.request]

    @classmethod
    def from_fields(cls, fields: Fields) -> Done:
        """Read the fields behind the type."""
        return cls(fields.uint(1, UINT_MAX))


@dataclass(frozen=True, slots=True)
class Refuse:
    """A request was refused. ``refusal`` may be newer than this version knows."""

    TYPE: ClassVar[int] = 4
    request: int
    refusal: int

    def to_value(self) -> Value:
        """The body as a value."""
        return [self.TYPE, self.request, int(self.refusal)]

    @classmethod
    def from_fields(cls, fields: Fields) -> Refuse:
        """Read the fields behind the type."""
        return cls(fields.uint(1, UINT_MAX), fields.uint(1, 65_535))


@dataclass(frozen=True, slots=True)
class Share:
    """KME to hub: one hub's share of a batch for ``receiver``. The hub adds the incarnation.

    ``share`` is secret; it is kept out of the repr here and lives as briefly as possible.
    """

    TYPE: ClassVar[int] = 5
    receiver: KmeName
    counter: int
    context: CompactContext
    tag: bytes
    share: bytes

    def to_value(self) -> Value:
        """The body as a value."""
        return [
            self.TYPE,
            self.receiver,
            self.counter,
            self.context.to_value(),
            self.tag,
            self.share,
        ]

    @classmethod
    def from_fields(cls, fields: Fields) -> Share:
        """Read the fields behind the type."""
        receiver, counter = read_kme_name(fields), fields.uint(0, UINT_MAX)
        context = CompactContext.from_fields(fields.fields())
        return cls(receiver, counter, context, fields.blob(TAG_BYTES), fields.blob(context.secret_bytes))

    def __repr__(self) -> str:
        return f"Share(to {self.receiver}, {self.counter}, {len(self.share)} bytes)"


@dataclass(frozen=True, slots=True)
class Shared:
    """Hub to KME: a share of a batch made by ``sender``."""

    TYPE: ClassVar[int] = 9
    sender: KmeName
    batch: BatchId
    context: CompactContext
    tag: bytes
    share: bytes

    def to_value(self) -> Value:
        """The body as a value."""
        return [
            self.TYPE,
            self.sender,
            self.batch.to_bytes(),
            self.context.to_value(),
            self.tag,
            self.share,
        ]

    @classmethod
    def from_fields(cls, fields: Fields) -> Shared:
        """Read the fields behind the type."""
        sender, batch = read_kme_name(fields), read_batch_id(fields)
        context = CompactContext.from_fields(fields.fields())
        return cls(sender, batch, context, fields.blob(TAG_BYTES), fields.blob(context.secret_bytes))

    def __repr__(self) -> str:
        return f"Shared(from {self.sender}, {self.batch}, {len(self.share)} bytes)"


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a receiver states once it holds a batch durably; fixed for the batch, repeated as is."""

    batch: BatchId
    epoch: int
    incarnation: Incarnation
    claim: Claim
    mac: bytes

    def to_values(self) -> list[Value]:
        """The fields in wire order."""
        return [self.batch.to_bytes(), self.epoch, self.incarnation, self.claim.to_value(), self.mac]

    @classmethod
    def from_fields(cls, fields: Fields) -> Confirmation:
        """Read the fields in wire order."""
        return cls(
            batch=read_batch_id(fields),
            epoch=fields.uint(1, UINT32_MAX),
            incarnation=Incarnation(fields.blob(16)),
            claim=Claim.from_fields(fields.fields()),
            mac=fields.blob(TAG_BYTES),
        )


@dataclass(frozen=True, slots=True)
class Confirm:
    """KME to hub: a confirmation for ``sender``, who made the batch."""

    TYPE: ClassVar[int] = 6
    sender: KmeName
    confirmation: Confirmation

    def to_value(self) -> Value:
        """The body as a value."""
        return [self.TYPE, self.sender, *self.confirmation.to_values()]

    @classmethod
    def from_fields(cls, fields: Fields) -> Confirm:
        """Read the fields behind the type."""
        return cls(read_kme_name(fields), Confirmation.from_fields(fields))


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Hub to KME: a confirmation by ``receiver`` of a batch that this KME made."""

    TYPE: ClassVar[int] = 10
    receiver: KmeName
    confirmation: Confirmation

    def to_value(self) -> Value:
        """The body as a value."""
        return [self.TYPE, self.receiver, *self.confirmation.to_values()]

    @classmethod
    def from_fields(cls, fields: Fields) -> Confirmed:
        """Read the fields behind the type."""
        return cls(read_kme_name(fields), Confirmation.from_fields(fields))


@dataclass(frozen=True, slots=True)
class Peer:
    """KME to hub: a sealed peer message for ``receiver``; opaque to the hub."""

    TYPE: ClassVar[int] = 7
    receiver: KmeName
    envelope: bytes

    def to_value(self) -> Value:
        """The body as a value."""
        return [self.TYPE, self.receiver, self.envelope]

    @classmethod
    def from_fields(cls, fields: Fields) -> Peer:
        """Read the fields behind the type."""
        return cls(read_kme_name(fields), fields.blob(1, limits.PEER_ENVELOPE_BYTES))


@dataclass(frozen=True, slots=True)
class Forwarded:
    """Hub to KME: a sealed peer message from ``sender``."""

    TYPE: ClassVar[int] = 11
    sender: KmeName
    envelope: bytes

    def to_value(self) -> Value:
        """The body as a value."""
        return [self.TYPE, self.sender, self.envelope]

    @classmethod
    def from_fields(cls, fields: Fields) -> Forwarded:
        """Read the fields behind the type."""
        return cls(read_kme_name(fields), fields.blob(1, limits.PEER_ENVELOPE_BYTES))


@dataclass(frozen=True, slots=True)
class GetRealm:
    """KME to hub: send me the realm file that you use."""

    TYPE: ClassVar[int] = 8

    def to_value(self) -> Value:
        """The body as a value."""
        return [self.TYPE]

    @classmethod
    def from_fields(cls, fields: Fields) -> GetRealm:
        """Nothing stands behind the type."""
        del fields
        return cls()


@dataclass(frozen=True, slots=True)
class RealmFile:
    """Hub to KME: the realm file that this hub uses, unread."""

    TYPE: ClassVar[int] = 12
    data: bytes

    def to_value(self) -> Value:
        """The body as a value."""
        return [self.TYPE, self.data]

    @classmethod
    def from_fields(cls, fields: Fields) -> RealmFile:
        """Read the fields behind the type."""
        return cls(fields.blob(1, limits.REALM_FILE_BYTES))


@dataclass(frozen=True, slots=True)
class Moved:
    """Nothing but a record in a later grant: it ends the earlier ones where nothing else is due."""

    TYPE: ClassVar[int] = 13

    def to_value(self) -> Value:
        """The body as a value."""
        return [self.TYPE]

    @classmethod
    def from_fields(cls, fields: Fields) -> Moved:
        """Nothing stands behind the type."""
        del fields
        return cls()


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a type that this version does not know; it is refused by its ordinal."""

    type: int


LinkControl: TypeAlias = Grant | Want | Moved
ToHub: TypeAlias = Share | Confirm | Peer | GetRealm
ToKme: TypeAlias = Done | Shared | Confirmed | Forwarded | RealmFile
Message: TypeAlias = LinkControl | Refuse | ToHub | ToKme

_BOTH_WAYS: Final = (Grant, Want, Moved, Refuse)
_KINDS: Final[dict[Direction, dict[int, Callable[[Fields], Message]]]] = {
    Direction.TO_HUB: {kind.TYPE: kind.from_fields for kind in (*_BOTH_WAYS, Share, Confirm, Peer, GetRealm)},
    Direction.TO_KME: {
        kind.TYPE: kind.from_fields for kind in (*_BOTH_WAYS, Done, Shared, Confirmed, Forwarded, RealmFile)
    },
}


def encode_message(message: Message) -> bytes:
    """The body of the record that carries ``message``."""
    return encode(message.to_value())


def decode_message(body: bytes, direction: Direction) -> Message | Unknown:
    """Read the body of a record that came in ``direction``.

    A type that neither direction knows comes back as ``Unknown``. Raises ``PeerFault``:
    body-malformed, body-range, body-wrong-way.
    """
    fields = Fields(decode(body, limits.BODY_BYTES))
    kind = fields.uint(0, UINT_MAX)
    read = _KINDS[direction].get(kind)
    if read is None:
        if kind in _KINDS[direction.opposite]:
            raise PeerFault(codes.BODY_WRONG_WAY, f"type {kind}")
        return Unknown(kind)
    message = read(fields)
    fields.finish()
    return message
