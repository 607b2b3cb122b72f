"""Peer messages: what two KMEs say to each other end to end, and the envelope hubs carry.

They carry ids and decisions, never keys. Sealing lives in the protocol layer, which holds roots;
here are the plaintext messages and the envelope's layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, TypeAlias

from skex.base import codes, ids, limits
from skex.base.errors import PeerFault, Refused
from skex.base.ids import BatchId, Incarnation, RequestId, SaeId
from skex.wire.codec import (
    UINT32_MAX,
    UINT_MAX,
    Fields,
    OrderedT,
    Value,
    decode,
    encode,
    is_strictly_ascending,
)
from skex.wire.messages import read_batch_id

RANDOM_BYTES: Final = 32
SEAL_BYTES: Final = 16
"""What sealing adds: the GCM tag."""
_SAE_CHARACTERS: Final = 2 * limits.NAME_CHARACTERS + 1


class PeerDirection(IntEnum):
    """Which way a peer message runs, seen from the batch that made its root."""

    FROM_SENDER = 0
    FROM_RECEIVER = 1


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a hub sees of a peer message: the root's name, the way, a nonce and sealed bytes."""

    root: BatchId
    direction: PeerDirection
    random: bytes
    sealed: bytes

    def to_bytes(self) -> bytes:
        """The envelope as it is carried."""
        return encode([self.root.to_bytes(), int(self.direction), self.random, self.sealed])

    @classmethod
    def from_bytes(cls, data: bytes) -> Envelope:
        """Read an envelope. Raises ``PeerFault`` (body-malformed, body-range)."""
        fields = Fields(decode(data, limits.PEER_ENVELOPE_BYTES))
        envelope = cls(
            read_batch_id(fields),
            PeerDirection(fields.uint(0, max(PeerDirection))),
            fields.blob(RANDOM_BYTES),
            fields.blob(1 + SEAL_BYTES, limits.PEER_MESSAGE_BYTES + SEAL_BYTES),
        )
        fields.finish()
        return envelope


@dataclass(frozen=True, slots=True, order=True)
class KeyRange:
    """``count`` keys of one batch from index ``first`` on; at most ``BATCH_KEYS`` is its end."""

    batch: BatchId
    first: int
    count: int

    def to_value(self) -> Value:
        """The array ``[batch, first, count]``."""
        return [self.batch.to_bytes(), self.first, self.count]

    @classmethod
    def from_fields(cls, fields: Fields) -> KeyRange:
        """Read the array."""
        batch, first = read_batch_id(fields), fields.uint(0, limits.BATCH_KEYS - 1)
        key_range = cls(batch, first, fields.uint(1, limits.BATCH_KEYS - first))
        fields.finish()
        return key_range

    @property
    def end(self) -> int:
        """The index behind the last."""
        return self.first + self.count

    @property
    def indexes(self) -> range:
        """The indexes of the keys within the batch."""
        return range(self.first, self.end)


def _ranges_value(ranges: Sequence[KeyRange]) -> Value:
    return [key_range.to_value() for key_range in ranges]


def _read_ranges(fields: Fields) -> tuple[KeyRange, ...]:
    """Ascending ranges that neither overlap nor touch: one set of keys has one encoding."""
    ranges = fields.repeated(1, limits.PEER_RANGES, lambda inner: KeyRange.from_fields(inner.fields()))
    # The key after a range's last belongs to no range: otherwise two ranges would be one.
    edges = [edge for one in ranges for edge in ((one.batch, one.first), (one.batch, one.end))]
    if not is_strictly_ascending(edges):
        raise PeerFault(codes.BODY_RANGE, "ranges of keys touch, overlap or are out of order")
    return ranges


def _read_set(fields: Fields, high: int, read: Callable[[Fields], OrderedT]) -> tuple[OrderedT, ...]:
    """1 to ``high`` elements in ascending order: one set has one encoding."""
    items = fields.repeated(1, high, read)
    if not is_strictly_ascending(items):
        raise PeerFault(codes.BODY_RANGE, "elements repeat or are out of order")
    return items


def _read_batches(fields: Fields) -> tuple[BatchId, ...]:
    return _read_set(fields, limits.PEER_RANGES, read_batch_id)


def _read_id(fields: Fields) -> RequestId:
    return RequestId(fields.blob(16))


def _read_sae(fields: Fields) -> SaeId:
    try:
        return ids.parse_sae_id(fields.text(_SAE_CHARACTERS))
    except Refused as error:
        raise PeerFault(codes.BODY_RANGE, "not an SAE id") from error


@dataclass(frozen=True, slots=True)
class Ok:
    """From the sender: these batches' first valid CONFIRM arrived and the keys are committed."""

    TYPE: ClassVar[int] = 1
    batches: tuple[BatchId, ...]

    def to_value(self) -> Value:
        """The message as a value."""
        return [self.TYPE, [batch.to_bytes() for batch in self.batches]]

    @classmethod
    def from_fields(cls, fields: Fields) -> Ok:
        """Read the fields behind the type."""
        return cls(_read_batches(fields))


@dataclass(frozen=True, slots=True)
class Void:
    """From the sender, in answer to a CONFIRM: it does not hold these batches, or gave them up."""

    TYPE: ClassVar[int] = 2
    batches: tuple[BatchId, ...]

    def to_value(self) -> Value:
        """The message as a value."""
        return [self.TYPE, [batch.to_bytes() for batch in self.batches]]

    @classmethod
    def from_fields(cls, fields: Fields) -> Void:
        """Read the fields behind the type."""
        return cls(_read_batches(fields))


@dataclass(frozen=True, slots=True)
class VoidKeys:
    """From the sender: these keys will never be delivered there; drop them. Must arrive."""

    TYPE: ClassVar[int] = 3
    request: RequestId
    incarnation: Incarnation
    keys: tuple[KeyRange, ...]

    def to_value(self) -> Value:
        """The message as a value."""
        return [self.TYPE, self.request, self.incarnation, _ranges_value(self.keys)]

    @classmethod
    def from_fields(cls, fields: Fields) -> VoidKeys:
        """Read the fields behind the type."""
        return cls(_read_id(fields), Incarnation(fields.blob(16)), _read_ranges(fields))


@dataclass(frozen=True, slots=True)
class Assign:
    """From the sender: give these keys to ``slaves`` and nobody else; ``master`` gets them here.

    ``purpose`` is a label of the application, ``lifetime`` seconds, ``receiver_incarnation`` the
    receiver's as the sender last learned it. ``attempt`` counts the sendings of the same ASSIGN from
    1; it is no part of its content.
    """

    TYPE: ClassVar[int] = 4
    request: RequestId
    keys: tuple[KeyRange, ...]
    master: SaeId
    slaves: tuple[SaeId, ...]
    purpose: str
    lifetime: int
    incarnation: Incarnation
    receiver_incarnation: Incarnation
    attempt: int

    def to_value(self) -> Value:
        """The message as a value."""
        return [
            self.TYPE,
            self.request,
            _ranges_value(self.keys),
            self.master,
            list(self.slaves),
            self.purpose,
            self.lifetime,
            self.incarnation,
            self.receiver_incarnation,
            self.attempt,
        ]

    @classmethod
    def from_fields(cls, fields: Fields) -> Assign:
        """Read the fields behind the type."""
        request, keys, master = _read_id(fields), _read_ranges(fields), _read_sae(fields)
        slaves = _read_set(fields, limits.SLAVES, _read_sae)
        return cls(
            request,
            keys,
            master,
            slaves,
            purpose=fields.text(limits.PURPOSE_CHARACTERS),
            lifetime=fields.uint(limits.LIFETIME_SECONDS_MIN, limits.LIFETIME_SECONDS_MAX),
            incarnation=Incarnation(fields.blob(16)),
            receiver_incarnation=Incarnation(fields.blob(16)),
            attempt=fields.uint(1, UINT32_MAX),
        )


@dataclass(frozen=True, slots=True)
class Assigned:
    """From the receiver: the assignment is recorded; deliver within ``hold`` seconds of the ASSIGN.

    ``attempt`` is that of the ASSIGN it answers: an answer that a hub kept back renews nothing.
    """

    TYPE: ClassVar[int] = 5
    request: RequestId
    incarnation: Incarnation
    hold: int
    attempt: int

    def to_value(self) -> Value:
        """The message as a value."""
        return [self.TYPE, self.request, self.incarnation, self.hold, self.attempt]

    @classmethod
    def from_fields(cls, fields: Fields) -> Assigned:
        """Read the fields behind the type."""
        return cls(
            _read_id(fields),
            Incarnation(fields.blob(16)),
            hold=fields.uint(1, UINT32_MAX),
            attempt=fields.uint(1, UINT32_MAX),
        )


class AssignRefusal(IntEnum):
    """Why an ASSIGN was refused."""

    KEY_ASSIGNED = 1
    KEY_NOT_HELD = 2
    INCARNATION_CHANGED = 3
    NOT_AUTHORISED = 4


@dataclass(frozen=True, slots=True)
class NotAssigned:
    """From the receiver: nothing of the ASSIGN was recorded. ``refusal`` may be a newer one."""

    TYPE: ClassVar[int] = 6
    request: RequestId
    incarnation: Incarnation
    refusal: int

    def to_value(self) -> Value:
        """The message as a value."""
        return [self.TYPE, self.request, self.incarnation, int(self.refusal)]

    @classmethod
    def from_fields(cls, fields: Fields) -> NotAssigned:
        """Read the fields behind the type."""
        return cls(_read_id(fields), Incarnation(fields.blob(16)), fields.uint(1, 65_535))


class RevokeReason(IntEnum):
    """Why keys are revoked (after NIST SP 800-57 part 2 and RFC 5280, section 5.3.1)."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    ROLLBACK = 2
    SUPERSEDED = 3
    CESSATION_OF_OPERATION = 4
    HUB_COMPROMISE = 5
    PRIVILEGE_WITHDRAWN = 6

    @property
    def is_compromise(self) -> bool:
        """Whether somebody may know the keys: who uses one must not trust what it protected."""
        return self in {RevokeReason.KEY_COMPROMISE, RevokeReason.HUB_COMPROMISE}


_REASONS: Final = {int(reason): reason for reason in RevokeReason}


@dataclass(frozen=True, slots=True)
class Revoke:
    """From either end: drop these keys, undelivered or not; ``keys`` is None for all of the pair.

    None and not an empty tuple, so that a set that turned out empty never revokes everything. ``reason``
    may be a newer one than this version knows: keys are revoked all the same. Must arrive.
    """

    TYPE: ClassVar[int] = 7
    request: RequestId
    reason: int
    keys: tuple[KeyRange, ...] | None

    @property
    def why(self) -> RevokeReason:
        """The reason; one that nobody here knows is none."""
        return _REASONS.get(self.reason, RevokeReason.UNSPECIFIED)

    def to_value(self) -> Value:
        """The message as a value."""
        keys = None if self.keys is None else _ranges_value(self.keys)
        return [self.TYPE, self.request, int(self.reason), keys]

    @classmethod
    def from_fields(cls, fields: Fields) -> Revoke:
        """Read the fields behind the type."""
        request, reason = _read_id(fields), fields.uint(0, 65_535)
        return cls(request, reason, None if fields.null() else _read_ranges(fields))


@dataclass(frozen=True, slots=True)
class PeerDone:
    """From either end: the control messages with these ids were carried out."""

    TYPE: ClassVar[int] = 8
    requests: tuple[RequestId, ...]

    def to_value(self) -> Value:
        """The message as a value."""
        return [self.TYPE, list(self.requests)]

    @classmethod
    def from_fields(cls, fields: Fields) -> PeerDone:
        """Read the fields behind the type."""
        return cls(_read_set(fields, limits.PEER_RANGES, _read_id))


@dataclass(frozen=True, slots=True)
class UnknownPeer:
    """A peer message of a type that this version does not know; it is counted and dropped."""

    type: int


PeerMessage: TypeAlias = Ok | Void | VoidKeys | Assign | Assigned | NotAssigned | Revoke | PeerDone

_KINDS: Final[dict[PeerDirection, dict[int, Callable[[Fields], PeerMessage]]]] = {
    PeerDirection.FROM_SENDER: {
        kind.TYPE: kind.from_fields for kind in (Ok, Void, VoidKeys, Assign, Revoke, PeerDone)
    },
    PeerDirection.FROM_RECEIVER: {
        kind.TYPE: kind.from_fields for kind in (Assigned, NotAssigned, Revoke, PeerDone)
    },
}


def encode_peer_message(message: PeerMessage) -> bytes:
    """The plaintext that is sealed in an envelope."""
    return encode(message.to_value())


def decode_peer_message(data: bytes, direction: PeerDirection) -> PeerMessage | UnknownPeer:
    """Read an opened plaintext. Raises ``PeerFault``: body-malformed, body-range, body-wrong-way."""
    fields = Fields(decode(data, limits.PEER_MESSAGE_BYTES))
    kind = fields.uint(0, UINT_MAX)
    read = _KINDS[direction].get(kind)
    if read is None:
        if kind in _KINDS[PeerDirection(1 - direction)]:
            raise PeerFault(codes.BODY_WRONG_WAY, f"peer type {kind}")
        return UnknownPeer(kind)
    message = read(fields)
    fields.finish()
    return message
