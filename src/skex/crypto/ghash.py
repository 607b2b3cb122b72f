"""GHASH, the universal hash of GCM over GF(2^128) (NIST SP 800-38D, sections 6.3 and 6.4).

Only the polynomial: no length block, no cipher. The end-to-end tag uses it under a key of its own.

How it is computed: a field element is *spread* so that each bit has a byte of its own, the coefficient
of x^i in byte i of a big integer. An ordinary integer product of two such numbers then holds in byte i
the *count* of terms that fall on x^i, at most 129, so no byte carries into the next; the lowest bit of
each count is the carry-less product. (Multiplication with holes is known from BearSSL's ``ctmul``.)
There is no table and no branch on a secret. So that no operand loses leading digits, each one carries
a power above x^127, its guard, in a way that does not change its value in the field.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from skex.base import codes
from skex.base.errors import LocalBug

BLOCK_BYTES: Final = 16
"""A field element; data comes in whole blocks."""

_DEGREE: Final = 128
_SLOT: Final = 8
"""Bits that one coefficient takes in the spread form."""
_GROUP_BYTES: Final = 8
"""Bytes that one byte of a field element takes in the spread form."""
_SPREAD_BYTES: Final = (BLOCK_BYTES + 1) * _GROUP_BYTES
"""A spread block: a group for each byte and one for its guard."""
_BLOCKS_AT_ONCE: Final = 64
"""So many blocks are spread together: enough to make the cost per block small, and memory bounded."""


def _polynomial(*powers: int) -> int:
    """The spread form of the sum of x^i over ``powers``."""
    return sum(1 << _SLOT * power for power in powers)


_COUNTS_TO_BITS: Final = _polynomial(*range(2 * _DEGREE + 2))
"""Keeps the lowest bit of every count in a product."""
_TAIL: Final = _polynomial(0, 1, 2, 7)
"""What x^128 is in the field: its polynomial is x^128 + x^7 + x^2 + x + 1."""
_STATE_GUARD: Final = _polynomial(_DEGREE + 1) ^ (_TAIL << _SLOT) ^ _TAIL
"""x^128 in disguise: x * (x^128 + tail), which is zero in the field and brings the guard x^129, and tail.

A spread block comes with the guard x^128, which does count; the state carries this value, so that in
the sum of block and state the two cancel in the field while both guards stay."""
_GATHER_GUARD: Final = _polynomial(*range(_DEGREE, _DEGREE + _GROUP_BYTES))
"""A guard group of ones, as ``_gather`` needs it."""


def ghash(key: bytes, data: bytes) -> bytes:
    """GHASH of ``data`` under ``key`` (the standard's H): Y_0 = 0, Y_i = (Y_(i-1) XOR X_i) * H.

    ``key`` has 16 bytes, ``data`` a multiple of 16; both may be secret. Returns 16 bytes, zeros for
    empty data. Raises ``LocalBug`` (bug-argument) for other lengths. SP 800-38D section 6.4.
    """
    if len(key) != BLOCK_BYTES:
        raise LocalBug(codes.BAD_ARGUMENT, f"GHASH key of {len(key)} bytes")
    if len(data) % BLOCK_BYTES:
        raise LocalBug(codes.BAD_ARGUMENT, f"GHASH of {len(data)} bytes")
    # With the tail, the guard x^128 of the spread key is zero in the field.
    factor = int.from_bytes(_spread(key), "little") ^ _TAIL
    state = _STATE_GUARD
    step = _BLOCKS_AT_ONCE * BLOCK_BYTES
    for start in range(0, len(data), step):
        spread = _spread(data[start : start + step])
        for position in range(0, len(spread), _SPREAD_BYTES):
            block = int.from_bytes(spread[position : position + _SPREAD_BYTES], "little")
            product = (block ^ state) * factor & _COUNTS_TO_BITS
            # The product reaches x^257; folded once, x^136; folded twice, it is below x^128.
            state = _fold(_fold(product, 0), _STATE_GUARD)
    return _gather(state ^ (_STATE_GUARD ^ _GATHER_GUARD))


def _fold(value: int, guard: int) -> int:
    """Replace x^128 and above by its multiple of the tail, and add ``guard``.

    What was above goes last: until then it keeps the length of every intermediate fixed.
    """
    high = value >> _SLOT * _DEGREE
    low = value ^ guard ^ high ^ high << _SLOT ^ high << 2 * _SLOT ^ high << 7 * _SLOT
    return low ^ high << _SLOT * _DEGREE


class _Masks(NamedTuple):
    """The lowest 1, 2 and 4 bits of each 16, 32 and 64 bits, for some number of groups."""

    one: int
    two: int
    four: int


@lru_cache(maxsize=_BLOCKS_AT_ONCE + 1)  # by the number of groups, which is public
def _masks(groups: int) -> _Masks:
    return _Masks(
        one=int.from_bytes(b"\x01\x00" * 4 * groups, "little"),
        two=int.from_bytes(b"\x03\x00\x00\x00" * 2 * groups, "little"),
        four=int.from_bytes(b"\x0f\x00\x00\x00\x00\x00\x00\x00" * groups, "little"),
    )


def _spread(blocks: bytes) -> bytes:
    """Spread whole blocks: 136 little-endian bytes for each, with x^128 set as its guard.

    The standard writes the coefficient of x^0 into the highest bit of the first byte (section 6.3), so
    the bits of each byte are reversed on the way: each step puts the upper half of what is left of a
    byte below the lower half, and moves the two apart. The last group is a guard for the whole.
    """
    framed = [blocks[start : start + BLOCK_BYTES] + b"\x80" for start in range(0, len(blocks), BLOCK_BYTES)]
    groups = b"".join(framed) + b"\xff"
    apart = bytearray(len(groups) * _GROUP_BYTES)
    apart[::_GROUP_BYTES] = groups
    masks = _masks(len(groups))
    bits = int.from_bytes(apart, "little")
    bits = (bits & masks.four) << 32 | bits >> 4 & masks.four
    bits = (bits & masks.two) << 16 | bits >> 2 & masks.two
    bits = (bits & masks.one) << 8 | bits >> 1 & masks.one
    return bits.to_bytes(len(apart), "little")[:-_GROUP_BYTES]


def _gather(bits: int) -> bytes:
    """The 16 bytes of a spread element whose guard group is all ones: the steps of ``_spread`` undone."""
    masks = _masks(BLOCK_BYTES + 1)
    bits = (bits & masks.one) << 1 | bits >> 8 & masks.one
    bits = (bits & masks.two) << 2 | bits >> 16 & masks.two
    bits = (bits & masks.four) << 4 | bits >> 32 & masks.four
    return bits.to_bytes(_SPREAD_BYTES, "little")[:-_GROUP_BYTES:_GROUP_BYTES]
