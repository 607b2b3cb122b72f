"""Message authentication: Poly1305 under one-time keys, HMAC-SHA-512, and the one way to compare tags."""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.hazmat.primitives.poly1305 import Poly1305

from skex.base import codes
from skex.base.errors import LocalBug

POLY1305_KEY_BYTES: Final = 32
POLY1305_TAG_BYTES: Final = 16
HMAC_SHA512_BYTES: Final = 64


def poly1305(key: bytes, data: bytes) -> bytes:
    """Poly1305 tag of ``data``, 16 bytes, under a key that is used for this one message only.

    The first half of the key is clamped as RFC 8439 section 2.5 says. Raises ``LocalBug`` (bug-argument)
    unless the key has 32 bytes.
    """
    if len(key) != POLY1305_KEY_BYTES:
        raise LocalBug(codes.BAD_ARGUMENT, f"Poly1305 key of {len(key)} bytes")
    return Poly1305.generate_tag(key, data)


def record_tag(r: bytes, s: bytes, data: bytes) -> bytes:
    """A record's tag: Poly1305 under r || s, 16 bytes, over header and ciphertext.

    Wegman-Carter: ``r`` (16 bytes) serves a whole grant, ``s`` (16 pad bytes) this record alone. Raises
    ``LocalBug`` (bug-argument) for other lengths.
    """
    if len(r) != 16 or len(s) != 16:
        raise LocalBug(codes.BAD_ARGUMENT, f"record key of {len(r)} and {len(s)} bytes")
    return poly1305(r + s, data)


def hmac_sha512(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA-512 of ``data``, 64 bytes, untruncated (RFC 2104, RFC 4231).

    Raises ``LocalBug`` (bug-argument) for an empty key: it authenticates nothing.
    """
    if not key:
        raise LocalBug(codes.BAD_ARGUMENT, "empty HMAC key")
    return hmac.digest(key, data, "sha512")


def equal(left: bytes, right: bytes) -> bool:
    """Whether two tags are the same, in time that depends on their lengths only."""
    return hmac.compare_digest(left, right)
