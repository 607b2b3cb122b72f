"""Shamir's secret sharing, byte by byte over GF(2^8).

Any ``threshold`` shares rebuild the secret; fewer are uniformly random bytes whatever the secret is
(Shamir, "How to share a secret", 1979). Nothing here detects a changed share: that is the end-to-end
tag's work (``skex.crypto.tag``). Coordinates are public and fixed by the realm file; this module only
insists that they are distinct and not zero, because the share at zero is the secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, repeat

from skex.base import codes
from skex.base.errors import LocalBug
from skex.crypto import gf256


def split(
    secret: bytes, threshold: int, coordinates: Sequence[int], coefficients: bytes
) -> tuple[bytes, ...]:
    """Shares of ``secret``, one per coordinate in their order, each as long as the secret.

    Each byte is the constant term of its own polynomial: share(x) = secret + c_1 x + ... with the
    coefficients ``c_1 || c_2 || ...``, (threshold - 1) * len(secret) bytes that must be uniformly
    random, secret and used once. A threshold of 1 gives everyone the secret itself; it is for links
    enrolled directly. Raises ``LocalBug`` (bug-argument) for an empty secret, coordinates that are not
    distinct values from 1 to 255, a threshold that they do not reach, or coefficients of another length.
    """
    _check_coordinates(coordinates)
    if not secret:
        raise LocalBug(codes.BAD_ARGUMENT, "an empty secret cannot be shared")
    if not 1 <= threshold <= len(coordinates):
        raise LocalBug(codes.BAD_ARGUMENT, f"threshold {threshold} with {len(coordinates)} coordinates")
    length = len(secret)
    if len(coefficients) != (threshold - 1) * length:
        raise LocalBug(
            codes.BAD_ARGUMENT, f"{len(coefficients)} bytes of coefficients for {length} of secret"
        )
    terms = [secret]
    terms += (coefficients[start : start + length] for start in range(0, len(coefficients), length))
    return gf256.combine([_powers(x, threshold) for x in coordinates], terms)


def interpolate(shares: Mapping[int, bytes], at: int = 0) -> bytes:
    """The value at the public point ``at`` of the lowest polynomial through all the given shares.

    ``shares`` maps coordinates to shares, and every one of them is used. At 0 this is the secret, at
    another hub's coordinate the share that this hub must have. Raises ``LocalBug`` (bug-argument) if
    there is no share, a coordinate is not from 1 to 255, the shares differ in length or are empty, or
    ``at`` is not from 0 to 255.
    """
    coordinates = tuple(sorted(shares))
    _check_coordinates(coordinates)
    values = [shares[x] for x in coordinates]
    if not all(values):
        raise LocalBug(codes.BAD_ARGUMENT, "a share is empty")
    if not 0 <= at <= 255:
        raise LocalBug(codes.BAD_ARGUMENT, f"{at} is not a point of GF(2^8)")
    return gf256.combine([_lagrange(coordinates, at)], values)[0]


def _check_coordinates(coordinates: Sequence[int]) -> None:
    if not coordinates or len(set(coordinates)) != len(coordinates):
        raise LocalBug(codes.BAD_ARGUMENT, f"{len(coordinates)} coordinates, not all distinct or none")
    if not all(1 <= x <= 255 for x in coordinates):
        raise LocalBug(codes.BAD_ARGUMENT, "a coordinate is not from 1 to 255")


def _powers(x: int, count: int) -> list[int]:
    """1, x, x^2, ...: ``count`` public factors."""
    return list(accumulate(repeat(x, count - 1), gf256.multiply, initial=1))


@lru_cache(maxsize=1024)  # twice the subsets of one batch (limits.SUBSETS); all of it is public
def _lagrange(coordinates: tuple[int, ...], at: int) -> tuple[int, ...]:
    """The factor of each share in the value at ``at``: the product of (at - x_j) / (x_i - x_j)."""
    factors = []
    for own in coordinates:
        numerator = denominator = 1
        for other in coordinates:
            if other != own:
                numerator = gf256.multiply(numerator, at ^ other)
                denominator = gf256.multiply(denominator, own ^ other)
        factors.append(gf256.multiply(numerator, gf256.inverse(denominator)))
    return tuple(factors)
