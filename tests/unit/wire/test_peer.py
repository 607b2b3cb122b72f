from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from skex.base import codes, limits
from skex.base.ids import BatchId, Incarnation, RequestId, SaeId
from skex.wire.peer import (
    SEAL_BYTES,
    Assign,
    AssignRefusal,
    Envelope,
    KeyRange,
    NotAssigned,
    Ok,
    PeerDirection,
    PeerDone,
    PeerMessage,
    Revoke,
    RevokeReason,
    UnknownPeer,
    VoidKeys,
    decode_peer_message,
    encode_peer_message,
)
from tests.unit.wire.support import (
    BATCH,
    INCARNATION,
    PEER_SAMPLES,
    REQUEST,
    Bound,
    Sample,
    element,
    paths,
    raw,
    refusal_of,
    replaced,
    sample,
)

_BATCH = "5818000102030405060708090a0b0c0d0e0f0000000000000007"
_REQUEST = "50101112131415161718191a1b1c1d1e1f"
_INCARNATION = "50000102030405060708090a0b0c0d0e0f"
_RANGES = "82" + "83" + _BATCH + "0004" + "83" + _BATCH + "0801"
BYTES = {
    "PeerDone FROM_SENDER": "820881" + _REQUEST,
    "PeerDone FROM_RECEIVER": "820881" + _REQUEST,
    "Revoke FROM_SENDER": "8407" + _REQUEST + "01" + _RANGES,
    "Revoke FROM_RECEIVER": "8407" + _REQUEST + "01" + _RANGES,
    "Revoke of all FROM_SENDER": "8407" + _REQUEST + "02f6",
    "Ok FROM_SENDER": "820181" + _BATCH,
    "Void FROM_SENDER": "820281" + _BATCH,
    "VoidKeys FROM_SENDER": "8403" + _REQUEST + _INCARNATION + _RANGES,
    "Assign FROM_SENDER": "8a"
    "04"
    + _REQUEST
    + _RANGES
    + "6c"
    + b"vpn@berlin-1".hex()
    + "82"
    + "6b"
    + b"vpn-1@paris".hex()
    + "69"
    + b"vpn@paris".hex()
    + "68"
    + b"wan link".hex()
    + "190e10"
    + _INCARNATION
    + "50"
    + "00" * 16
    + "01",
    "Assigned FROM_RECEIVER": "8505" + _REQUEST + _INCARNATION + "183c01",
    "NotAssigned FROM_RECEIVER": "8406" + _REQUEST + _INCARNATION + "02",
    "Envelope": "84" + _BATCH + "015820" + "00" * 32 + "51" + "00" * 17,
}


@pytest.mark.parametrize("one", PEER_SAMPLES, ids=lambda one: one.name)
def test_message_is_laid_out_as_specified_and_read_back(one: Sample) -> None:
    assert raw(one.value).hex() == BYTES[one.name]
    assert one.decode(bytes.fromhex(BYTES[one.name])) == one.message


# ── types and counts ────────────────────────────────────────────────────────────────────────────
JUNK: tuple[Any, ...] = (True, False, -1, 1.5, {}, [[]])
OTHERS: tuple[Any, ...] = (0, b"", "a", None, [])


def _other_types(one: Sample, path: tuple[int, ...]) -> Iterator[object]:
    old = element(one.value, path)
    yield from JUNK
    for other in OTHERS:
        # Ranges of a REVOKE may be null, which means everything.
        revokes = one.name.startswith("Revoke") and path == (3,)
        if type(other) is not type(old) and not (revokes and other in (None, [])):
            yield other


@pytest.mark.parametrize("one", PEER_SAMPLES, ids=lambda one: one.name)
def test_wrong_type_of_any_field_is_refused(one: Sample) -> None:
    for path in paths(one.value):
        for other in _other_types(one, path):
            assert refusal_of(one.decode, raw(replaced(one.value, path, other))) is codes.BODY_MALFORMED


@pytest.mark.parametrize("one", PEER_SAMPLES, ids=lambda one: one.name)
def test_field_too_few_or_too_many_is_refused(one: Sample) -> None:
    for value in ([*one.value, 0], one.value[:-1]):
        assert refusal_of(one.decode, raw(value)) is codes.BODY_MALFORMED


@pytest.mark.parametrize("one", PEER_SAMPLES, ids=lambda one: one.name)
def test_type_of_the_other_direction_is_refused_and_never_read(one: Sample) -> None:
    if one.name == "Envelope":
        return
    other = PeerDirection.FROM_RECEIVER if one.name.endswith("SENDER") else PeerDirection.FROM_SENDER
    if one.value[0] in {7, 8}:
        assert decode_peer_message(raw(one.value), other) == one.message
    else:
        code = refusal_of(lambda data: decode_peer_message(data, other), raw(one.value[:1]))
        assert code is codes.BODY_WRONG_WAY


@pytest.mark.parametrize("direction", PeerDirection)
@pytest.mark.parametrize("kind", [0, 9, 2**64 - 1])
def test_unknown_type_comes_back_as_such(direction: PeerDirection, kind: int) -> None:
    assert decode_peer_message(raw([kind, [None]]), direction) == UnknownPeer(kind)


@pytest.mark.parametrize("direction", PeerDirection)
@pytest.mark.parametrize("data", [b"", b"\x80", b"\x01", b"\x81\xf6"])
def test_plaintext_without_a_type_is_refused(direction: PeerDirection, data: bytes) -> None:
    assert refusal_of(lambda given: decode_peer_message(given, direction), data) is codes.BODY_MALFORMED


# ── bounds ──────────────────────────────────────────────────────────────────────────────────────
def _batches(count: int) -> list[bytes]:
    return [BatchId(INCARNATION, counter).to_bytes() for counter in range(count)]


def _ids(count: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in range(count)]


def _ranges(count: int) -> list[list[object]]:
    return [[batch, 0, 1] for batch in _batches(count)]


def _saes(count: int) -> list[str]:
    return [f"s{number:04d}@k" for number in range(count)]


A, B = _batches(2)
SAES_INSIDE = ["a@b", f"{'a' * 63}@{'b' * 63}", "a.b_c-d@e"]
SAES_OUTSIDE = ["", "a", "@b", "a@", "a@b@c", "A@b", "a@B", f"{'a' * 64}@b", f"a@{'b' * 64}", "a @b", "a@b\n"]
LIFETIMES = Bound("Assign FROM_SENDER", (6,), [1, 31_536_000], [0, 31_536_001])
SETS_OF_RANGES: dict[str, list[Any]] = {
    "inside": [
        _ranges(1),
        _ranges(256),
        [[A, 0, 1], [A, 2, 1]],
        [[A, 1023, 1], [B, 0, 1024]],
        [[A, 0, 1024]],
    ],
    "outside": [
        [],
        _ranges(257),
        [[A, 0, 0]],  # empty
        [[A, 0, 1025]],
        [[A, 1023, 2]],  # beyond any batch
        [[A, 1024, 1]],
        [[A, 0, 1], [A, 0, 1]],  # repeated
        [[A, 0, 2], [A, 1, 1]],  # overlapping
        [[A, 0, 1], [A, 1, 1]],  # touching: one range in two pieces
        [[A, 2, 1], [A, 0, 1]],  # out of order
        [[B, 0, 1], [A, 0, 1]],
        [[A, 5, 1], [A, 0, 9], [B, 0, 1]],
        [[bytes(23), 0, 1]],
        [[bytes(25), 0, 1]],
    ],
}
BOUNDS = [
    *(
        Bound(name, (1,), [_batches(1), _batches(256)], [[], _batches(257), [A, A], [B, A], [bytes(23)]])
        for name in ("Ok FROM_SENDER", "Void FROM_SENDER")
    ),
    *(
        Bound(
            name,
            (1,),
            [_ids(1), _ids(256)],
            [[], _ids(257), _ids(2)[::-1], _ids(1) * 2, [bytes(15)], [bytes(17)]],
        )
        for name in ("PeerDone FROM_SENDER", "PeerDone FROM_RECEIVER")
    ),
    *(
        Bound(name, path, SETS_OF_RANGES["inside"], SETS_OF_RANGES["outside"])
        for name, path in (
            ("VoidKeys FROM_SENDER", (3,)),
            ("Assign FROM_SENDER", (2,)),
            ("Revoke FROM_SENDER", (3,)),
            ("Revoke FROM_RECEIVER", (3,)),
        )
    ),
    *(
        Bound(name, path, [bytes(16)], [bytes(15), bytes(17)])
        for name, path in (
            ("VoidKeys FROM_SENDER", (1,)),
            ("VoidKeys FROM_SENDER", (2,)),
            ("Assign FROM_SENDER", (1,)),
            ("Assign FROM_SENDER", (7,)),
            ("Assign FROM_SENDER", (8,)),
            ("Assigned FROM_RECEIVER", (1,)),
            ("Assigned FROM_RECEIVER", (2,)),
            ("NotAssigned FROM_RECEIVER", (1,)),
            ("NotAssigned FROM_RECEIVER", (2,)),
            ("Revoke FROM_SENDER", (1,)),
        )
    ),
    Bound("Assign FROM_SENDER", (3,), SAES_INSIDE, SAES_OUTSIDE),
    Bound(
        "Assign FROM_SENDER",
        (4,),
        [_saes(1), _saes(64)],
        [[], _saes(65), _saes(2)[::-1], _saes(1) * 2, ["a"], ["A@b"]],
    ),
    Bound("Assign FROM_SENDER", (5,), ["a", " ~", "p" * 32], ["", "p" * 33, "\x1f", "\x7f", "é", "\u202e"]),
    LIFETIMES,
    Bound("Assign FROM_SENDER", (9,), [1, 2**32 - 1], [0, 2**32]),
    Bound("Assigned FROM_RECEIVER", (3,), [1, 2**32 - 1], [0, 2**32]),
    Bound("Assigned FROM_RECEIVER", (4,), [1, 2**32 - 1], [0, 2**32]),
    Bound("NotAssigned FROM_RECEIVER", (3,), [1, 65_535], [0, 65_536]),
    Bound("Revoke FROM_SENDER", (2,), [0, 6, 7, 65_535], [65_536]),
    Bound("Envelope", (0,), [bytes(24)], [bytes(23), bytes(25)]),
    Bound("Envelope", (1,), [0, 1], [2]),
    Bound("Envelope", (2,), [bytes(32)], [bytes(31), bytes(33)]),
    Bound("Envelope", (3,), [bytes(17), bytes(20_496)], [b"", bytes(16)]),
]


def _again(message: Any) -> bytes:
    return message.to_bytes() if isinstance(message, Envelope) else encode_peer_message(message)


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_value_just_inside_passes_and_just_outside_is_refused(bound: Bound) -> None:
    one = sample(bound.sample)
    for value in bound.inside:
        data = raw(replaced(one.value, bound.path, value))
        assert _again(one.decode(data)) == data
    for value in bound.outside:
        code = refusal_of(one.decode, raw(replaced(one.value, bound.path, value)))
        assert code is codes.BODY_RANGE, value


def test_key_range_of_another_shape_is_refused() -> None:
    one = sample("VoidKeys FROM_SENDER")
    for spoiled in ([A, 0], [A, 0, 1, 0], [], A):
        data = raw(replaced(one.value, (3,), [spoiled]))
        assert refusal_of(one.decode, data) is codes.BODY_MALFORMED


def test_revocation_of_no_keys_is_not_one_of_all_keys() -> None:
    one = sample("Revoke FROM_SENDER")
    assert refusal_of(one.decode, raw(replaced(one.value, (3,), []))) is codes.BODY_RANGE
    everything: Any = one.decode(raw(replaced(one.value, (3,), None)))
    assert everything.keys is None


def test_range_knows_its_keys() -> None:
    assert list(KeyRange(BATCH, 3, 2).indexes) == [3, 4]
    assert KeyRange(BATCH, 3, 2).end == 5


# ── the longest ─────────────────────────────────────────────────────────────────────────────────
LAST = BatchId(Incarnation(b"\xff" * 16), 2**64 - 1)
FULL_RANGES = tuple(KeyRange(BatchId(LAST.incarnation, 2**63 + step), 500, 500) for step in range(256))
FULL_SAES = tuple(SaeId(f"{number:063d}@{'k' * 63}") for number in range(64))
LONGEST: list[PeerMessage] = [
    Assign(
        REQUEST,
        FULL_RANGES,
        FULL_SAES[0],
        FULL_SAES,
        "p" * 32,
        31_536_000,
        INCARNATION,
        INCARNATION,
        attempt=2**32 - 1,
    ),
    VoidKeys(REQUEST, INCARNATION, FULL_RANGES),
    Ok(tuple(one.batch for one in FULL_RANGES)),
    PeerDone(tuple(RequestId(one) for one in _ids(256))),
]


@pytest.mark.parametrize("message", LONGEST, ids=lambda one: type(one).__name__)
def test_longest_message_fits_its_bound(message: PeerMessage) -> None:
    data = encode_peer_message(message)
    assert len(data) <= limits.PEER_MESSAGE_BYTES
    assert decode_peer_message(data, PeerDirection.FROM_SENDER) == message


def test_longest_sealed_message_fills_the_longest_envelope_exactly() -> None:
    sealed = bytes(limits.PEER_MESSAGE_BYTES + SEAL_BYTES)
    envelope = Envelope(LAST, PeerDirection.FROM_RECEIVER, bytes(32), sealed)
    data = envelope.to_bytes()
    assert len(data) == limits.PEER_ENVELOPE_BYTES
    assert Envelope.from_bytes(data) == envelope
    assert limits.PEER_ENVELOPE_BYTES < limits.BODY_BYTES - 100


def test_envelope_or_plaintext_beyond_its_bound_is_refused_unread() -> None:
    envelope = Envelope(LAST, PeerDirection.FROM_SENDER, bytes(32), bytes(20_497)).to_bytes()
    assert refusal_of(Envelope.from_bytes, envelope) is codes.BODY_MALFORMED
    plaintext = raw([9, bytes(limits.PEER_MESSAGE_BYTES - 5)])
    code = refusal_of(lambda data: decode_peer_message(data, PeerDirection.FROM_SENDER), plaintext + b"\0")
    assert len(plaintext) == limits.PEER_MESSAGE_BYTES
    assert code is codes.BODY_MALFORMED
    assert decode_peer_message(plaintext, PeerDirection.FROM_SENDER) == UnknownPeer(9)


@pytest.mark.parametrize("refusal", AssignRefusal)
def test_a_refusal_given_by_its_name_is_written_as_its_number(refusal: AssignRefusal) -> None:
    named, plain = (NotAssigned(REQUEST, INCARNATION, number) for number in (refusal, int(refusal)))
    assert encode_peer_message(named) == encode_peer_message(plain)


# ── reasons ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("reason", "why"), [(1, RevokeReason.KEY_COMPROMISE), (65_535, RevokeReason.UNSPECIFIED)]
)
def test_a_reason_that_is_newer_than_this_version_revokes_all_the_same(
    reason: int, why: RevokeReason
) -> None:
    data = encode_peer_message(Revoke(RequestId(bytes(16)), reason, None))
    read = decode_peer_message(data, PeerDirection.FROM_SENDER)
    assert isinstance(read, Revoke)
    assert (read.reason, read.why) == (reason, why)
    assert encode_peer_message(read) == data
