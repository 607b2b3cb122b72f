"""The same mathematics once more, written from the standards in the plainest way, to compare ours with.

Slow, branching on everything, and sharing no line with ``skex.crypto``; it also reads the vectors.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from itertools import pairwise
from math import comb
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from skex.base import codes
from skex.base.errors import LocalBug

VECTORS: Final = Path(__file__).parents[2] / "vectors"
_R: Final = 0xE1 << 120


def cases(file: str, group: str = "cases") -> list[Any]:
    """The cases of one vector file, each a test parameter that is named by its source."""
    table = json.loads((VECTORS / file).read_text())[group]
    assert table, f"{file} has no {group}"
    return [pytest.param(case, id=case["source"]) for case in table]


def assert_refused(caught: pytest.ExceptionInfo[LocalBug]) -> None:
    """What every bad argument must meet."""
    assert caught.value.code is codes.BAD_ARGUMENT


def xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def gf256_multiply(left: int, right: int) -> int:
    """Russian peasants' multiplication, FIPS 197 section 4.2.1."""
    product = 0
    while right:
        if right & 1:
            product ^= left
        left <<= 1
        if left & 0x100:
            left ^= 0x11B
        right >>= 1
    return product


def gf256_inverse(element: int) -> int:
    return next(other for other in range(256) if gf256_multiply(element, other) == 1)


def evaluate(terms: Sequence[int], x: int) -> int:
    """The polynomial with these coefficients, constant first, at x (Horner)."""
    value = 0
    for term in reversed(terms):
        value = gf256_multiply(value, x) ^ term
    return value


def lagrange(points: dict[int, int], at: int) -> int:
    """The lowest polynomial over GF(2^8) through the points, at another one."""
    total = 0
    for x, y in points.items():
        term = y
        for other in points:
            if other != x:
                term = gf256_multiply(term, gf256_multiply(at ^ other, gf256_inverse(x ^ other)))
        total ^= term
    return total


def gf128_multiply(left: bytes, right: bytes) -> bytes:
    """SP 800-38D section 6.3, algorithm 1."""
    x = int.from_bytes(left, "big")
    v = int.from_bytes(right, "big")
    z = 0
    for i in range(128):
        if x >> (127 - i) & 1:
            z ^= v
        v = v >> 1 ^ _R if v & 1 else v >> 1
    return z.to_bytes(16, "big")


def ghash(key: bytes, data: bytes) -> bytes:
    """SP 800-38D section 6.4, algorithm 2."""
    y = bytes(16)
    for start in range(0, len(data), 16):
        y = gf128_multiply(xor(y, data[start : start + 16]), key)
    return y


def blocks_of(context: bytes, tail: bytes) -> list[bytes]:
    """X_1 ... X_N of the end-to-end tag."""
    data = len(context).to_bytes(8, "big") + context
    data += bytes(-len(data) % 16) + tail
    data += bytes(-len(data) % 16)
    return [data[start : start + 16] for start in range(0, len(data), 16)]


def power_sum(c: bytes, coefficients: Sequence[bytes]) -> bytes:
    """The sum of coefficients[0] c^n + ... + coefficients[n-1] c over GF(2^128), power by power."""
    total, power = bytes(16), c
    for coefficient in reversed(coefficients):
        total = xor(total, gf128_multiply(power, coefficient))
        power = gf128_multiply(power, c)
    return total


def three_element_tag(c: bytes, d: bytes, e: bytes, blocks: Sequence[bytes]) -> bytes:
    """T = d + c e + c^2 X_N + ... + c^(N+1) X_1."""
    return xor(d, power_sum(c, [*blocks, e]))


def two_element_tag(c: bytes, d: bytes, blocks: Sequence[bytes]) -> bytes:
    """T = d + c X_N + ... + c^N X_1: the form that a lying hub can meet. Exists in the tests only."""
    return xor(d, power_sum(c, blocks))


def shifted(coefficients: Sequence[bytes], delta: bytes) -> tuple[list[bytes], bytes]:
    """The coefficients of f(z + delta) for f = coefficients[0] z^n + ... + coefficients[n-1] z.

    Returns those of z^n ... z and, apart, the constant. It is what a hub that moves the tag's key c by
    delta must do to the message so that f, taken at the moved key, stays what it was.
    """
    degree = len(coefficients)
    of_power = {degree - index: coefficient for index, coefficient in enumerate(coefficients)}
    powers = [b"\x80" + bytes(15)]
    for _ in range(degree):
        powers.append(gf128_multiply(powers[-1], delta))
    assert all(gf128_multiply(low, delta) == high for low, high in pairwise(powers))
    result = []
    for target in range(degree, -1, -1):
        total = bytes(16)
        for power, coefficient in of_power.items():
            if power >= target and comb(power, target) % 2:
                total = xor(total, gf128_multiply(powers[power - target], coefficient))
        result.append(total)
    return result[:-1], result[-1]


def hkdf_extract(name: str, salt: bytes, ikm: bytes) -> bytes:
    """RFC 5869 section 2.2."""
    return hmac.new(salt or bytes(hashlib.new(name).digest_size), ikm, name).digest()


def hkdf_expand(name: str, prk: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 section 2.3."""
    block, output, counter = b"", b"", 0
    while len(output) < length:
        counter += 1
        block = hmac.new(prk, block + info + bytes([counter]), name).digest()
        output += block
    return output[:length]


def aes_block(key: bytes, block: bytes) -> bytes:
    """One block of AES, the only thing taken from a library."""
    return Cipher(AES(key), ECB()).encryptor().update(block)  # noqa: S305  # a single block, in a test


def aes_counter(key: bytes, first: int, length: int) -> bytes:
    """Keystream of SP 800-38A section 6.5 with a 128-bit counter that wraps."""
    blocks = -(-length // 16)
    counters = [(first + index) % (1 << 128) for index in range(blocks)]
    return b"".join(aes_block(key, counter.to_bytes(16, "big")) for counter in counters)[:length]


def poly1305(key: bytes, data: bytes) -> bytes:
    """RFC 8439 section 2.5.1."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    s = int.from_bytes(key[16:], "little")
    total = 0
    for start in range(0, len(data), 16):
        total = (total + int.from_bytes(data[start : start + 16] + b"\x01", "little")) * r % (2**130 - 5)
    return ((total + s) % (1 << 128)).to_bytes(16, "little")
