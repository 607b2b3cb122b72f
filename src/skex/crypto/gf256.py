"""Arithmetic in GF(2^8), polynomial x^8 + x^4 + x^3 + x + 1 (0x11b, that of FIPS 197 section 4.2).

Two sorts of values meet here and are never mixed: *factors* are public (coordinates and what follows
from them) and may steer branches; *data* is secret and may not. Data is worked on whole, as one big
integer with a byte per lane, so a product by a public factor is a few masks, shifts and XORs over all
bytes at once, and takes the same time whatever the bytes are (see the package's docstring).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from skex.base import codes
from skex.base.errors import LocalBug

_POLYNOMIAL: Final = 0x11B
_REDUCTION: Final = _POLYNOMIAL & 0xFF

# The guard lane above the data holds 0xff, and the mask of a doubling keeps 0x72 of it. As
# (0x72 << 1) ^ 0x1b == 0xff, doubling maps the guard to itself: the integer never changes its length.
_GUARD_LANE: Final = 0xFF
_GUARD_KEPT: Final = 0x72


def multiply(left: int, right: int) -> int:
    """Product of two public field elements, 0 to 255; never call it with a secret.

    Raises ``LocalBug`` (bug-argument) for a value out of range. FIPS 197 section 4.2.
    """
    _check_element(left)
    _check_element(right)
    product = 0
    for bit in range(8):
        if right >> bit & 1:
            product ^= left << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= _POLYNOMIAL << (bit - 8)
    return product


def inverse(element: int) -> int:
    """Multiplicative inverse of a public field element, 1 to 255; never call it with a secret.

    Raises ``LocalBug`` (bug-argument) for zero and for a value out of range.
    """
    _check_element(element)
    if element == 0:
        raise LocalBug(codes.BAD_ARGUMENT, "zero has no inverse in GF(2^8)")
    # The group has 255 elements, so the inverse is the power 254 = 2 + 4 + 8 + ... + 128.
    power = element
    result = 1
    for _ in range(7):
        power = multiply(power, power)
        result = multiply(result, power)
    return result


def add(left: bytes, right: bytes) -> bytes:
    """Sum (XOR) of two equally long byte strings, in constant time.

    Raises ``LocalBug`` (bug-argument) if the lengths differ.
    """
    if len(left) != len(right):
        raise LocalBug(codes.BAD_ARGUMENT, f"sum of {len(left)} and {len(right)} bytes")
    # Two different leading bytes: their XOR is the guard of the sum.
    total = int.from_bytes(b"\x01" + left, "big") ^ int.from_bytes(b"\x02" + right, "big")
    return total.to_bytes(len(left) + 1, "big")[1:]


def scale(data: bytes, factor: int) -> bytes:
    """Each byte of ``data`` times the public ``factor``, in time that depends on the length and the factor.

    Raises ``LocalBug`` (bug-argument) for a factor outside 0 to 255.
    """
    return combine([[factor]], [data])[0]


def combine(rows: Sequence[Sequence[int]], data: Sequence[bytes]) -> tuple[bytes, ...]:
    """For each row of public factors the bytewise sum of ``factor * data``: a matrix times byte strings.

    ``rows`` hold one factor (0 to 255) per element of ``data``; all of ``data`` are equally long. This
    is all that splitting and rebuilding need. The data's multiples by 1, x, x^2, ... x^7 are made once
    and serve every row. Raises ``LocalBug`` (bug-argument) if the shapes do not fit.
    """
    length = _common_length(data)
    for row in rows:
        if len(row) != len(data):
            raise LocalBug(codes.BAD_ARGUMENT, f"{len(row)} factors for {len(data)} byte strings")
        for factor in row:
            _check_element(factor)
    lanes = _lanes(length)
    sums = [lanes.sum_guard] * len(rows)
    for column, block in enumerate(data):
        factors = [row[column] for row in rows]
        multiple = int.from_bytes(bytes([_GUARD_LANE]) + block, "big")
        for bit in range(max(factors, default=0).bit_length()):
            if bit:
                multiple = _double(multiple, lanes)
            for index, factor in enumerate(factors):
                if factor >> bit & 1:
                    sums[index] ^= multiple
    return tuple(total.to_bytes(length + 2, "big")[2:] for total in sums)


class _Lanes(NamedTuple):
    """The masks for byte strings of one length: data lanes, and above them the guard lane."""

    low: int
    """The lower seven bits of each lane."""
    ones: int
    """The lowest bit of each lane."""
    sum_guard: int
    """One bit in the lane above the guard lane, where sums of guarded values may differ."""


@lru_cache(maxsize=16)  # a process works with few lengths; they are public
def _lanes(length: int) -> _Lanes:
    return _Lanes(
        low=int.from_bytes(bytes([_GUARD_KEPT]) + b"\x7f" * length, "big"),
        ones=int.from_bytes(b"\x01" * (length + 1), "big"),
        sum_guard=1 << (8 * length + 8),
    )


def _double(value: int, lanes: _Lanes) -> int:
    """Multiply every lane by x (FIPS 197 section 4.2.1): shift, and reduce the lanes that overflow."""
    return ((value & lanes.low) << 1) ^ (((value >> 7) & lanes.ones) * _REDUCTION)


def _common_length(data: Sequence[bytes]) -> int:
    lengths = {len(block) for block in data}
    if len(lengths) != 1:
        raise LocalBug(codes.BAD_ARGUMENT, f"{len(data)} byte strings of lengths {sorted(lengths)}")
    return lengths.pop()


def _check_element(value: int) -> None:
    if not 0 <= value <= 255:
        raise LocalBug(codes.BAD_ARGUMENT, f"{value} is not an element of GF(2^8)")
