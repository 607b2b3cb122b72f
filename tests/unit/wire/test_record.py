from __future__ import annotations

import struct
from typing import Any

import pytest

from skex.base import codes, limits
from skex.base.errors import ErrorCode
from skex.base.ids import Direction, LinkId
from skex.wire.record import RECORD_VERSION, RecordHeader
from tests.unit.wire.support import refusal_of

HEADER = RecordHeader(Direction.TO_KME, 100, LinkId(bytes.fromhex("0011223344556677")), 5, 16)
PACKED = bytes.fromhex("010100000000006400112233445566770000000500000010")


def test_header_is_laid_out_as_specified() -> None:
    assert HEADER.pack() == PACKED
    assert len(PACKED) == limits.RECORD_HEADER_BYTES
    assert RecordHeader.parse(PACKED) == HEADER


def test_end_counts_the_one_time_key_and_the_ciphertext() -> None:
    assert HEADER.end == 16 + 16 + 100


def _packed(version: int, direction: int, reserved: int, length: int) -> bytes:
    return struct.pack(">BBHL", version, direction, reserved, length) + PACKED[8:]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ((RECORD_VERSION - 1, 0, 0, 1), codes.RECORD_VERSION),
        ((RECORD_VERSION + 1, 0, 0, 1), codes.RECORD_VERSION),
        ((RECORD_VERSION, 2, 0, 1), codes.RECORD_HEADER),
        ((RECORD_VERSION, 255, 0, 1), codes.RECORD_HEADER),
        ((RECORD_VERSION, 0, 1, 1), codes.RECORD_HEADER),
        ((RECORD_VERSION, 0, 0, 0), codes.RECORD_LENGTH),
        ((RECORD_VERSION, 0, 0, limits.BODY_BYTES + 1), codes.RECORD_LENGTH),
        ((RECORD_VERSION, 0, 0, 2**32 - 1), codes.RECORD_LENGTH),
        # An unknown version may have another layout, so it is named before anything else.
        ((RECORD_VERSION + 1, 9, 9, 0), codes.RECORD_VERSION),
    ],
)
def test_header_that_the_protocol_forbids_is_refused(fields: tuple[Any, ...], code: ErrorCode) -> None:
    assert refusal_of(RecordHeader.parse, _packed(*fields)) is code


@pytest.mark.parametrize("length", [1, limits.BODY_BYTES])
@pytest.mark.parametrize("direction", Direction)
def test_shortest_and_longest_record_pass_in_both_directions(direction: Direction, length: int) -> None:
    header = RecordHeader.parse(_packed(RECORD_VERSION, direction, 0, length))
    assert (header.direction, header.length) == (direction, length)


@pytest.mark.parametrize("data", [b"", PACKED[:-1], PACKED + b"\x00"])
def test_header_of_another_length_is_refused(data: bytes) -> None:
    assert refusal_of(RecordHeader.parse, data) is codes.RECORD_HEADER
