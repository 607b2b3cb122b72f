"""Textbook versions of the primitives, for checks that must share no line with skex.

Slow, branching on everything, from the standard library and bare block ciphers only.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB


def lp(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand, RFC 5869 section 2.3."""
    output, block = b"", b""
    while len(output) < length:
        block = hmac.digest(key, block + info + bytes([len(output) // 64 + 1]), "sha512")
        output += block
    return output[:length]


def poly1305(key: bytes, message: bytes) -> bytes:
    """RFC 8439 section 2.5."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(message), 16):
        total = (total + int.from_bytes(message[start : start + 16] + b"\1", "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def aes_block(key: bytes, block: bytes) -> bytes:
    """AES-256 of one block."""
    return Cipher(AES(key), ECB()).encryptor().update(block)  # noqa: S305  # one block, no mode


def keystream(key: bytes, length: int) -> bytes:
    """AES-256 of the counters 0, 1, 2, …, as the text says, without any library's counter mode."""
    encryptor = Cipher(AES(key), ECB()).encryptor()  # noqa: S305  # single blocks: that is what CTR is made of
    blocks = -(-length // 16)
    return b"".join(encryptor.update(count.to_bytes(16, "big")) for count in range(blocks))[:length]


def times(left: int, right: int) -> int:
    """GF(2^128) with GCM's bits: the most significant bit of the first byte is the coefficient of x^0."""
    product = 0
    for bit in range(128):
        if right >> (127 - bit) & 1:
            product ^= left
        left = left >> 1 ^ (0xE1 << 120 if left & 1 else 0)
    return product


def byte_times(left: int, right: int) -> int:
    """GF(2^8) with 0x11b, bit j being the coefficient of x^j."""
    product = 0
    while right:
        if right & 1:
            product ^= left
        left = left << 1 ^ (0x11B if left & 0x80 else 0)
        right >>= 1
    return product


def byte_inverse(element: int) -> int:
    return next(other for other in range(256) if byte_times(element, other) == 1)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def short_text(text: str) -> bytes:
    """A CBOR text string of at most 23 bytes."""
    return bytes([0x60 + len(text)]) + text.encode()


def short_bytes(data: bytes) -> bytes:
    """A CBOR byte string of 24 to 255 bytes."""
    return b"\x58" + bytes([len(data)]) + data
