from __future__ import annotations

from hashlib import shake_256
from typing import Any

import pytest

from skex.base.errors import LocalBug
from skex.crypto.ghash import ghash
from tests.unit.crypto import reference
from tests.unit.crypto.reference import assert_refused, cases


@pytest.mark.parametrize("case", cases("ghash.json", "ghash"))
def test_published_values_are_met(case: dict[str, Any]) -> None:
    assert ghash(bytes.fromhex(case["key"]), bytes.fromhex(case["data"])).hex() == case["ghash"]


@pytest.mark.parametrize("case", cases("ghash.json", "gcm"))
def test_tags_of_gcm_follow_from_it(case: dict[str, Any]) -> None:
    """SP 800-38D section 7.1 with a 96-bit IV."""
    key, nonce, associated, ciphertext = (
        bytes.fromhex(case[name]) for name in ("key", "nonce", "associated", "ciphertext")
    )
    lengths = (8 * len(associated)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    data = b"".join(part + bytes(-len(part) % 16) for part in (associated, ciphertext)) + lengths
    mask = reference.aes_block(key, nonce + b"\x00\x00\x00\x01")
    assert reference.xor(mask, ghash(reference.aes_block(key, bytes(16)), data)).hex() == case["tag"]


@pytest.mark.parametrize("blocks", [0, 1, 2, 63, 64, 65, 128, 129])
def test_lengths_around_the_inner_stride_agree_with_the_reference(blocks: int) -> None:
    stream = shake_256(bytes([blocks])).digest(16 * blocks + 16)
    assert ghash(stream[:16], stream[16:]) == reference.ghash(stream[:16], stream[16:])


def test_every_pair_of_single_powers_is_multiplied_and_reduced_rightly() -> None:
    """x^i * x^j for all i and j: every slot, and every way of the reduction."""
    powers = [(1 << 127 - i).to_bytes(16, "big") for i in range(128)]
    product = {0: powers[0]}
    for i in range(1, 255):
        product[i] = reference.gf128_multiply(product[i - 1], powers[1])
    for i, left in enumerate(powers):
        assert [ghash(right, left) for right in powers] == [product[i + j] for j in range(128)]


@pytest.mark.parametrize("key", [bytes(16), b"\xff" * 16, b"\x80" + bytes(15), bytes(15) + b"\x01"])
@pytest.mark.parametrize("block", [bytes(16), b"\xff" * 16, b"\x80" + bytes(15), bytes(15) + b"\x01"])
def test_extreme_operands_agree_with_the_reference(key: bytes, block: bytes) -> None:
    assert ghash(key, block * 3) == reference.ghash(key, block * 3)


def test_key_of_zero_makes_zero_and_key_of_one_makes_the_sum() -> None:
    data = shake_256(b"data").digest(48)
    assert ghash(bytes(16), data) == bytes(16)
    total = reference.xor(reference.xor(data[:16], data[16:32]), data[32:])
    assert ghash(b"\x80" + bytes(15), data) == total


@pytest.mark.parametrize(
    ("key", "data"),
    [(15, 16), (17, 16), (0, 16), (16, 1), (16, 15), (16, 17)],
)
def test_caller_with_a_key_or_data_of_another_length_is_a_bug(key: int, data: int) -> None:
    with pytest.raises(LocalBug) as caught:
        ghash(bytes(key), bytes(data))
    assert_refused(caught)
