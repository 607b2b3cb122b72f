from __future__ import annotations

from hashlib import shake_256
from typing import Any

import pytest

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.crypto.keystream import Keystream
from tests.unit.crypto import reference
from tests.unit.crypto.reference import assert_refused, cases

KEY = shake_256(b"key").digest(32)


@pytest.mark.parametrize("case", cases("aes256_ctr.json", "reference"))
def test_reference_counter_mode_meets_the_standards_vector(case: dict[str, Any]) -> None:
    key, counter, plaintext = (bytes.fromhex(case[name]) for name in ("key", "counter", "plaintext"))
    stream = reference.aes_counter(key, int.from_bytes(counter, "big"), len(plaintext))
    assert reference.xor(plaintext, stream).hex() == case["ciphertext"]


@pytest.mark.parametrize("case", cases("aes256_ctr.json", "keystream"))
def test_published_blocks_from_counter_zero_are_met(case: dict[str, Any]) -> None:
    expected = bytes.fromhex(case["keystream"])
    assert Keystream(bytes.fromhex(case["key"])).take(len(expected)) == expected


def test_pieces_of_any_size_join_to_the_references_stream() -> None:
    stream = Keystream(KEY)
    lengths = (16, 0, 1, 15, 17, 64, 4095, 1)
    assert b"".join(map(stream.take, lengths)) == reference.aes_counter(KEY, 0, sum(lengths))


def test_counter_carries_beyond_two_bytes_as_big_endian() -> None:
    stream = Keystream(KEY)
    stream.take(65_536 * 16)
    assert stream.take(32) == reference.aes_counter(KEY, 65_536, 32)


def test_stream_ends_where_a_grant_does_and_gives_nothing_beyond() -> None:
    stream = Keystream(KEY)
    assert len(stream.take(limits.DERIVED_GRANT_BYTES - 1)) == limits.DERIVED_GRANT_BYTES - 1
    with pytest.raises(LocalBug) as caught:
        stream.take(2)
    assert_refused(caught)
    last = limits.DERIVED_GRANT_BYTES // 16 - 1
    assert stream.take(1) == reference.aes_counter(KEY, last, 16)[15:]
    with pytest.raises(LocalBug) as caught:
        stream.take(1)
    assert_refused(caught)


def test_refused_request_spends_nothing() -> None:
    stream = Keystream(KEY)
    with pytest.raises(LocalBug) as caught:
        stream.take(-1)
    assert_refused(caught)
    assert stream.take(16) == reference.aes_counter(KEY, 0, 16)


def test_wiped_stream_gives_nothing_and_may_be_wiped_again() -> None:
    stream = Keystream(KEY)
    stream.take(16)
    stream.wipe()
    stream.wipe()
    with pytest.raises(LocalBug) as caught:
        stream.take(0)
    assert caught.value.code is codes.SECRET_WIPED


def test_repr_shows_no_key() -> None:
    stream = Keystream(KEY)
    assert KEY.hex() not in repr(stream)
    assert repr(stream) == f"<Keystream, {limits.DERIVED_GRANT_BYTES} bytes left>"


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33])
def test_caller_with_another_key_length_is_a_bug(length: int) -> None:
    with pytest.raises(LocalBug) as caught:
        Keystream(bytes(length))
    assert_refused(caught)
