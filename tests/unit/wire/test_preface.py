from __future__ import annotations

import struct
from typing import Any

import pytest

from skex.base import codes, limits
from skex.base.ids import HubName, Incarnation, KmeName, LinkId, RealmName
from skex.wire import preface
from skex.wire.preface import (
    Frame,
    Hello,
    HubNonce,
    HubState,
    KmeGrant,
    KmeState,
    Marks,
    Parties,
    Stretch,
    check_header,
    frame_bytes,
    parse_frame,
    proof_input,
    unproved_bytes,
)
from tests.unit.wire.support import refusal_of

LINK = LinkId(bytes.fromhex("0011223344556677"))
NONCE = bytes(range(32))
PROOF = b"\xee" * 64
MARKS = Marks(1, 2, 3, 4, 5, 6)
MARKS_BYTES = bytes.fromhex("0000000100000002000000000000000300000004000000050000000000000006")
INCARNATION = Incarnation(bytes(range(16)))
DIGEST = bytes(range(64))

LAYOUTS: list[tuple[Frame, bytes]] = [
    (Hello(1, 2, LINK, NONCE), b"\x01\x00\x00\x30skex\x01\x02\x00\x00" + LINK + NONCE),
    (HubNonce(1, NONCE), b"\x02\x00\x00\x64\x01\x00\x00\x00" + NONCE),
    (
        KmeState(MARKS, INCARNATION, 9),
        b"\x03\x00\x00\x74" + MARKS_BYTES + INCARNATION + b"\x00\x00\x00\x09",
    ),
    (
        HubState(MARKS, 7, DIGEST, Stretch(8, 1), 9),
        b"\x04\x00\x00\xb0"
        + MARKS_BYTES
        + b"\x00\x00\x00\x07"
        + DIGEST
        + b"\x00\x00\x00\x08\x00\x00\x00\x01"
        + b"\x00\x00\x00\x09",
    ),
    (KmeGrant(Stretch(8, 1)), b"\x05\x00\x00\x48\x00\x00\x00\x08\x00\x00\x00\x01"),
]


def _kind(frame: Frame) -> Any:
    return type(frame)


def _whole(frame: Frame) -> bytes:
    return unproved_bytes(frame) + (b"" if frame.NUMBER == 1 else PROOF)


@pytest.mark.parametrize(("frame", "expected"), LAYOUTS)
def test_frame_is_laid_out_as_specified(frame: Frame, expected: bytes) -> None:
    assert unproved_bytes(frame) == expected
    proof = b"" if frame.NUMBER == 1 else PROOF
    assert parse_frame(expected + proof, _kind(frame)) == (frame, proof)


@pytest.mark.parametrize("number", range(1, 6))
def test_every_frame_fits_what_is_read_from_an_unproved_end(number: int) -> None:
    assert frame_bytes(number) <= limits.FRAME_BYTES


@pytest.mark.parametrize(("frame", "_"), LAYOUTS)
def test_frame_cut_short_or_extended_is_refused(frame: Frame, _: bytes) -> None:
    whole = _whole(frame)
    for data in (b"", whole[:3], whole[:4], whole[:-1], whole + b"\x00"):
        assert refusal_of(lambda spoiled: parse_frame(spoiled, _kind(frame)), data) is codes.FRAME_LENGTH


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x00\x00"])
def test_header_cut_short_is_refused(data: bytes) -> None:
    assert refusal_of(lambda spoiled: check_header(spoiled, 1), data) is codes.FRAME_LENGTH


@pytest.mark.parametrize("number", range(1, 6))
def test_header_of_another_frame_is_refused_before_more_is_read(number: int) -> None:
    for other in {0, 1, 2, 3, 4, 5, 6, 255} - {number}:
        header = struct.pack(">BBH", other, 0, frame_bytes(number) - 4)
        assert refusal_of(lambda spoiled: check_header(spoiled, number), header) is codes.FRAME_UNEXPECTED


@pytest.mark.parametrize("number", range(1, 6))
def test_header_with_another_length_or_a_reserved_bit_is_refused(number: int) -> None:
    length = frame_bytes(number) - 4
    check_header(struct.pack(">BBH", number, 0, length), number)
    for other in (0, length - 1, length + 1, 65_535):
        header = struct.pack(">BBH", number, 0, other)
        assert refusal_of(lambda spoiled: check_header(spoiled, number), header) is codes.FRAME_LENGTH
    header = struct.pack(">BBH", number, 1, length)
    assert refusal_of(lambda spoiled: check_header(spoiled, number), header) is codes.FRAME_UNEXPECTED


@pytest.mark.parametrize(
    ("number", "offset", "spoiled"),
    [
        (1, 4, b"skeX"),
        (1, 8, b"\x00\x02"),  # version 0
        (1, 8, b"\x03\x02"),  # lowest above highest
        (1, 10, b"\x00\x01"),  # reserved
        (2, 4, b"\x00"),  # version 0
        (2, 5, b"\x01"),  # reserved
        (2, 6, b"\x00\x01"),  # reserved
        (3, 12, b"\x00\x20"),  # count
        (3, 28, b"\x00\x20"),  # seen count
        (4, 12, b"\x00\x20"),
        (4, 36, b"\x00\x00\x00\x00"),  # epoch 0
        (4, 108, b"\x00\x00\x00\x00"),  # an empty grant
        (4, 104, b"\xff\xff\xff\xff"),  # a grant beyond the last position
        (5, 8, b"\x00\x00\x00\x00"),
        (5, 4, b"\xff\xff\xff\xff"),
        (5, 8, b"\xff\xff\xff\xff"),
    ],
)
def test_field_that_the_protocol_forbids_is_refused(number: int, offset: int, spoiled: bytes) -> None:
    frame = LAYOUTS[number - 1][0]
    data = bytearray(_whole(frame))
    data[offset : offset + len(spoiled)] = spoiled
    assert refusal_of(lambda given: parse_frame(given, _kind(frame)), bytes(data)) is codes.FRAME_MALFORMED


@pytest.mark.parametrize(
    "stretch",
    [Stretch(0, 1), Stretch(0, limits.PAD_POSITION_MAX), Stretch(limits.PAD_POSITION_MAX - 1, 1)],
)
def test_grant_up_to_the_last_position_passes(stretch: Stretch) -> None:
    assert Stretch.unpack(stretch.pack()) == stretch


def test_highest_count_of_prefaces_passes() -> None:
    marks = Marks(2**32 - 1, 2**32 - 1, 2**53 - 1, 2**32 - 1, 2**32 - 1, 2**53 - 1)
    assert limits.PREFACE_COUNT_MAX == 2**53 - 1
    assert Marks.unpack(marks.pack()) == marks


@pytest.mark.parametrize("hello", [Hello(1, 1, LINK, NONCE), Hello(255, 255, LINK, NONCE)])
def test_one_offered_version_passes(hello: Hello) -> None:
    assert parse_frame(unproved_bytes(hello), Hello) == (hello, b"")


PARTIES = Parties(RealmName("alps"), LINK, KmeName("berlin"), HubName("h1"))


def test_proof_covers_every_part_behind_its_length() -> None:
    found = proof_input(b"label", 1, PARTIES, [b"one", b"two!"], b"three")
    parts = [b"label", b"\x01", b"alps", LINK, b"berlin", b"h1", b"one", b"two!", b"three"]
    assert found == b"".join(struct.pack(">L", len(part)) + part for part in parts)


def test_no_two_sets_of_parts_have_one_proof_input() -> None:
    moved = Parties(RealmName("alp"), LINK, KmeName("sberlin"), HubName("h1"))
    inputs = {
        proof_input(b"label", 1, PARTIES, [b"one", b"two"], b"three"),
        proof_input(b"label", 2, PARTIES, [b"one", b"two"], b"three"),
        proof_input(b"labe", 1, PARTIES, [b"one", b"two"], b"three"),
        proof_input(b"label", 1, moved, [b"one", b"two"], b"three"),
        proof_input(b"label", 1, PARTIES, [b"onetwo"], b"three"),
        proof_input(b"label", 1, PARTIES, [b"on", b"etwo"], b"three"),
        proof_input(b"label", 1, PARTIES, [b"one"], b"twothree"),
    }
    assert len(inputs) == 7


def test_version_that_is_no_byte_never_reaches_a_proof() -> None:
    for version in (-1, 256):
        with pytest.raises(OverflowError):
            proof_input(b"label", version, PARTIES, [], b"")


def test_numbers_of_frames_are_those_of_their_kinds() -> None:
    assert [frame.NUMBER for frame, _ in LAYOUTS] == [1, 2, 3, 4, 5]
    assert preface.FRAME_HEADER_BYTES == 4
