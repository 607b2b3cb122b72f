"""The end-to-end tag: by it a receiver knows that the secret it rebuilt is the one that was split.

Interpolation is linear, so a hub that lies can add a difference of its choice to everything rebuilt:
to the keys, and to the tag's own key ``u = c || d || e`` as well. The form

    T = d + c e + c^2 X_N + ... + c^(N+1) X_1        over GF(2^128), GCM's bit order

is made for that: shifting c makes the unknown e count, leaving c alone makes any change a non-zero
polynomial of degree N + 1 at most in c. Either way a chosen difference passes with probability at most
(N + 1) / 2^128 for each subset of shares tried, even if the keys are known; and as d is uniform and
used once, T says nothing about the rest. Without e the tag could be met with certainty from three
blocks on; Poly1305 has no such proof (Cramer, Dodis, Fehr, Padro, Wichs, "Detection of Algebraic
Manipulation", 2008, is where this notion comes from).
"""

from __future__ import annotations

from typing import Final

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.crypto.gf256 import add
from skex.crypto.ghash import BLOCK_BYTES, ghash

TAG_KEY_BYTES: Final = 48
"""``u = c || d || e``: three field elements, uniformly random, part of the shared secret, used once."""
TAG_BYTES: Final = 16
CONFIRM_KEY_BYTES: Final = 32
"""``v``: the Poly1305 key of the CONFIRM, between ``u`` and the keys."""

_TAIL_BYTES_MIN: Final = CONFIRM_KEY_BYTES + limits.KEY_BYTES_MIN
_TAIL_BYTES_MAX: Final = limits.BATCH_SECRET_BYTES - TAG_KEY_BYTES


def end_to_end_tag(u: bytes, context: bytes, secret_tail: bytes) -> bytes:
    """T = d XOR GHASH_c(X_1 || ... || X_N || e), 16 bytes, with X = P || Q.

    P is the length of ``context`` in bytes as a big-endian u64, then ``context``; Q is ``secret_tail``,
    that is v || key_1 || ... || key_m; each is filled with zero bytes to a multiple of 16. ``u`` is
    c || d || e. The context must fix how long the tail is, as ours does with m and L. Compare tags with
    ``mac.equal`` only. Raises ``LocalBug`` (bug-argument) unless ``u`` has 48 bytes and the tail fits v
    and at least one key, within ``limits.BATCH_SECRET_BYTES``.
    """
    if len(u) != TAG_KEY_BYTES:
        raise LocalBug(codes.BAD_ARGUMENT, f"tag key of {len(u)} bytes")
    if not _TAIL_BYTES_MIN <= len(secret_tail) <= _TAIL_BYTES_MAX:
        raise LocalBug(codes.BAD_ARGUMENT, f"tail of {len(secret_tail)} bytes")
    c, d, e = u[:16], u[16:32], u[32:]
    message = _whole_blocks(len(context).to_bytes(8, "big") + context) + _whole_blocks(secret_tail)
    return add(d, ghash(c, message + e))


def _whole_blocks(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK_BYTES)
