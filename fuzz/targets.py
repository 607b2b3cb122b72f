"""Everything that reads bytes from outside as a fuzzing target: total, and canonical in what it accepts.

A target takes any bytes. It returns whether they were accepted; a refusal must be of the error tree,
no bug of ours, and fit to be shown: short, and without characters that steer a terminal or forge a
line of a log. What was accepted must encode to the same bytes again. Anything else is a finding.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from fuzz import machines, outside
from skex.base import limits
from skex.base.errors import LocalBug, SkexError
from skex.base.ids import Direction
from skex.base.secret import Secret
from skex.daemon.backup.container import BackupReader, Header
from skex.daemon.backup.contents import Manifest
from skex.daemon.master import SealedMaster
from skex.enrol.chunks import KitReader
from skex.enrol.kit import KitHeader
from skex.wire import codec, messages, peer, preface
from skex.wire.claim import Claim
from skex.wire.codec import Fields, Value, encode
from skex.wire.context import CompactContext
from skex.wire.peer import Envelope, PeerDirection
from skex.wire.preface import Hello, HubNonce, HubState, KmeGrant, KmeState
from skex.wire.realm import Realm
from skex.wire.record import RecordHeader

STRETCHED: Final = Secret(bytes(range(64)))
"""Every backup that is tried is under the passphrase that this would be stretched from."""


class NotCanonicalError(AssertionError):
    """Bytes were accepted that are not the encoding of what they were read as."""


def _value(data: bytes) -> bytes:
    return encode(codec.decode(data, limits.BODY_BYTES))


def _message(direction: Direction, data: bytes) -> bytes:
    message = messages.decode_message(data, direction)
    return data if isinstance(message, messages.Unknown) else messages.encode_message(message)


def _peer_message(direction: PeerDirection, data: bytes) -> bytes:
    message = peer.decode_peer_message(data, direction)
    return data if isinstance(message, peer.UnknownPeer) else peer.encode_peer_message(message)


def _structure(read: Callable[[Fields], CompactContext | Claim], data: bytes) -> bytes:
    value: Value = codec.decode(data, limits.BODY_BYTES)
    return encode(read(Fields(value)).to_value())


def _frame(kind: Any, data: bytes) -> bytes:
    frame, proof = preface.parse_frame(data, kind)
    return preface.unproved_bytes(frame) + proof


def _frame_header(number: int, data: bytes) -> bytes:
    preface.check_header(data, number)
    return data


def _whole_kit(data: bytes) -> bytes:
    KitReader(io.BytesIO(data)).examine()
    return data


def _whole_backup(data: bytes) -> bytes:
    """Opened as if its passphrase were known: what stands for it stretched has a fixed value."""
    reader = BackupReader(io.BytesIO(data))
    reader.unlock(STRETCHED)
    reader.take(reader.header.content_bytes)
    reader.finish()
    return data


_FRAMES: Final = (Hello, HubNonce, KmeState, HubState, KmeGrant)

WIRE: Final[dict[str, Callable[[bytes], bytes]]] = {
    "value": _value,
    "message to the hub": partial(_message, Direction.TO_HUB),
    "message to the KME": partial(_message, Direction.TO_KME),
    "peer message from the sender": partial(_peer_message, PeerDirection.FROM_SENDER),
    "peer message from the receiver": partial(_peer_message, PeerDirection.FROM_RECEIVER),
    "envelope": lambda data: Envelope.from_bytes(data).to_bytes(),
    "context": partial(_structure, CompactContext.from_fields),
    "claim": partial(_structure, Claim.from_fields),
    "realm": lambda data: Realm.from_bytes(data).to_bytes(),
    "kit": lambda data: KitHeader.from_bytes(data).to_bytes(),
    "whole kit": _whole_kit,
    "backup header": lambda data: Header.from_bytes(data).to_bytes(),
    "sealed master key": lambda data: SealedMaster.from_bytes(data, "it").to_bytes(),
    "backup manifest": lambda data: Manifest.from_bytes(data).to_bytes(),
    "whole backup": _whole_backup,
    "record header": lambda data: RecordHeader.parse(data).pack(),
    **{f"frame {kind.NUMBER}": partial(_frame, kind) for kind in _FRAMES},
    **{f"header of frame {kind.NUMBER}": partial(_frame_header, kind.NUMBER) for kind in _FRAMES},
}
_TARGETS: Final = {**WIRE, **outside.DECODERS, **machines.MACHINES}
TARGETS: Final = tuple(_TARGETS)

REFUSAL_CHARACTERS: Final = 8192
"""A refusal at its longest: the twenty problems of a policy, each with what stands there."""


class UnfitRefusalError(AssertionError):
    """A refusal that must not be shown to anybody."""


def accepts(target: str, data: bytes) -> bool:
    """Whether ``target`` accepts ``data``. Raises ``NotCanonicalError``, or what must not happen."""
    try:
        again = _TARGETS[target](data)
    except LocalBug:
        raise
    except SkexError as refusal:
        _check_refusal(refusal)
        return False
    if again != data:
        raise NotCanonicalError(f"{target}: {data.hex()} came back as {again.hex()}")
    return True


def _check_refusal(refusal: SkexError) -> None:
    text = str(refusal)
    if len(text) > REFUSAL_CHARACTERS or not all(line.isprintable() for line in text.split("\n")):
        raise UnfitRefusalError(f"{len(text)} characters: {text[:200]!r}")
