"""Samples of every message, and how to change one field of what is on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import cbor2
import pytest

from skex.base.errors import ErrorCode, PeerFault, Refused
from skex.base.ids import (
    BatchId,
    Coordinate,
    Direction,
    GroupId,
    HubName,
    Incarnation,
    KmeName,
    RealmName,
    RequestId,
    SaeId,
)
from skex.wire import messages, peer
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose
from skex.wire.messages import Confirmation, decode_message
from skex.wire.peer import KeyRange, PeerDirection, decode_peer_message
from skex.wire.realm import Hub, HubAttributes, HubStatus, Realm

Path: TypeAlias = tuple[int, ...]

INCARNATION: Final = Incarnation(bytes(range(16)))
BATCH: Final = BatchId(INCARNATION, 7)
REQUEST: Final = RequestId(bytes(range(16, 32)))
CLAIM: Final = Claim((Coordinate(2),), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR)
CONTEXT: Final = CompactContext(
    epoch=3,
    threshold=2,
    hubs=(Coordinate(1), Coordinate(2), Coordinate(9)),
    keys=2,
    key_bytes=32,
    purpose=Purpose.TRAFFIC,
    lifetime=3600,
    group=GroupId(bytes(16)),
    claim=CLAIM,
)
CONTROL: Final = CompactContext(
    epoch=3,
    threshold=2,
    hubs=(Coordinate(1), Coordinate(2), Coordinate(9)),
    keys=1,
    key_bytes=64,
    purpose=Purpose.CONTROL,
    lifetime=3600,
    group=None,
    claim=CLAIM,
)
SHARE_BYTES: Final = b"\xa5" * CONTEXT.secret_bytes
CONFIRMATION: Final = Confirmation(BATCH, 3, INCARNATION, CLAIM, bytes(16))
KME: Final = KmeName("berlin-1")
RANGES: Final = (KeyRange(BATCH, 0, 4), KeyRange(BATCH, 8, 1))
ATTRIBUTES: Final = HubAttributes("Example Ltd", "CH", "own building", "J. Doe", "skex")


def hub(name: str, coordinate: int, status: HubStatus = HubStatus.ACTIVE) -> Hub:
    """A hub of the sample realm."""
    address = f"{name}.example:7300"
    return Hub(HubName(name), Coordinate(coordinate), status, address, ATTRIBUTES)


REALM: Final = Realm(
    name=RealmName("alps"),
    epoch=3,
    threshold=2,
    issued=1_750_000_000,
    max_age=86_400,
    overlap=3600,
    hubs=(hub("h1", 1), hub("h2", 2), hub("h9", 9), hub("h10", 10, HubStatus.REVOKED)),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One well-formed structure: its value on the wire and the decoder that reads its bytes."""

    name: str
    value: list[Any]
    decode: Callable[[bytes], object]
    message: object


def _link(direction: Direction, message: messages.Message) -> Sample:
    name = f"{type(message).__name__} {direction.name}"
    value = cbor2.loads(messages.encode_message(message))
    return Sample(name, value, lambda data: decode_message(data, direction), message)


def _peer(direction: PeerDirection, message: peer.PeerMessage, suffix: str = "") -> Sample:
    name = f"{type(message).__name__}{suffix} {direction.name}"
    value = cbor2.loads(peer.encode_peer_message(message))
    return Sample(name, value, lambda data: decode_peer_message(data, direction), message)


_TO_HUB, _TO_KME = Direction.TO_HUB, Direction.TO_KME
_FROM_SENDER, _FROM_RECEIVER = PeerDirection.FROM_SENDER, PeerDirection.FROM_RECEIVER
_ENVELOPE: Final = peer.Envelope(BATCH, _FROM_RECEIVER, bytes(32), bytes(17))

LINK_SAMPLES: Final = (
    *(_link(direction, messages.Grant(5, 32)) for direction in Direction),
    *(_link(direction, messages.Want(4096)) for direction in Direction),
    *(_link(direction, messages.Refuse(1, 11)) for direction in Direction),
    *(_link(direction, messages.Moved()) for direction in Direction),
    _link(_TO_HUB, messages.Share(KME, 7, CONTEXT, bytes(16), SHARE_BYTES)),
    _link(_TO_HUB, messages.Confirm(KME, CONFIRMATION)),
    _link(_TO_HUB, messages.Peer(KME, b"envelope")),
    _link(_TO_HUB, messages.GetRealm()),
    _link(_TO_KME, messages.Done(1)),
    _link(_TO_KME, messages.Shared(KME, BATCH, CONTEXT, bytes(16), SHARE_BYTES)),
    _link(_TO_KME, messages.Confirmed(KME, CONFIRMATION)),
    _link(_TO_KME, messages.Forwarded(KME, b"envelope")),
    _link(_TO_KME, messages.RealmFile(b"file")),
)
PEER_SAMPLES: Final = (
    *(_peer(direction, peer.PeerDone((REQUEST,))) for direction in PeerDirection),
    *(
        _peer(direction, peer.Revoke(REQUEST, peer.RevokeReason.KEY_COMPROMISE, RANGES))
        for direction in PeerDirection
    ),
    _peer(_FROM_SENDER, peer.Revoke(REQUEST, peer.RevokeReason.ROLLBACK, None), " of all"),
    _peer(_FROM_SENDER, peer.Ok((BATCH,))),
    _peer(_FROM_SENDER, peer.Void((BATCH,))),
    _peer(_FROM_SENDER, peer.VoidKeys(REQUEST, INCARNATION, RANGES)),
    _peer(
        _FROM_SENDER,
        peer.Assign(
            REQUEST,
            RANGES,
            SaeId("vpn@berlin-1"),
            (SaeId("vpn-1@paris"), SaeId("vpn@paris")),
            "wan link",
            3600,
            INCARNATION,
            Incarnation(bytes(16)),
            attempt=1,
        ),
    ),
    _peer(_FROM_RECEIVER, peer.Assigned(REQUEST, INCARNATION, hold=60, attempt=1)),
    _peer(_FROM_RECEIVER, peer.NotAssigned(REQUEST, INCARNATION, 2)),
    Sample("Envelope", cbor2.loads(_ENVELOPE.to_bytes()), peer.Envelope.from_bytes, _ENVELOPE),
)
REALM_SAMPLE: Final = Sample("Realm", cbor2.loads(REALM.to_bytes()), Realm.from_bytes, REALM)
SAMPLES: Final = (*LINK_SAMPLES, *PEER_SAMPLES, REALM_SAMPLE)


def sample(name: str) -> Sample:
    """The sample of that name."""
    return next(one for one in SAMPLES if one.name == name)


def paths(value: object, at: Path = ()) -> Iterator[Path]:
    """The path of every element within nested arrays, the arrays themselves included."""
    if at:
        yield at
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, (*at, index))


def element(value: Any, path: Path) -> Any:
    """What stands at a path."""
    for index in path:
        value = value[index]
    return value


def replaced(value: Any, path: Path, new: object) -> Any:
    """The same arrays with something else at a path."""
    if not path:
        return new
    head, *rest = path
    return [replaced(item, tuple(rest), new) if index == head else item for index, item in enumerate(value)]


def raw(value: object) -> bytes:
    """CBOR of anything at all, also of what the profile forbids; integers and lengths are shortest."""
    return cbor2.dumps(value, canonical=True)


def refusal_of(decode: Callable[[bytes], object], data: bytes) -> ErrorCode:
    """The code with which a decoder refuses ``data``; it is a failure if it does not."""
    with pytest.raises((PeerFault, Refused)) as caught:
        decode(data)
    code = caught.value.code
    assert isinstance(code, ErrorCode)
    return code


@dataclass(frozen=True, slots=True)
class Bound:
    """One field of a sample: values that are just inside its bounds, and just outside."""

    sample: str
    path: Path
    inside: Sequence[object]
    outside: Sequence[object]

    def __str__(self) -> str:
        return f"{self.sample} {self.path}"
