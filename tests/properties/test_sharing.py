"""Any k shares rebuild; any k - 1 say nothing at all (counted, not sampled)."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from skex.crypto import gf256, sharing
from tests.unit.crypto import reference

COORDINATES: Final = st.integers(1, 255)
SAMPLE: Final = (0x00, 0x01, 0x53, 0x80, 0xFF)


@st.composite
def splits(draw: DrawFn) -> tuple[bytes, int, dict[int, bytes]]:
    """A secret, a threshold, and the shares at some coordinates."""
    secret = draw(st.binary(min_size=1, max_size=80))
    coordinates = draw(st.lists(COORDINATES, min_size=1, max_size=8, unique=True))
    threshold = draw(st.integers(1, len(coordinates)))
    length = (threshold - 1) * len(secret)
    coefficients = draw(st.binary(min_size=length, max_size=length))
    shares = sharing.split(secret, threshold, coordinates, coefficients)
    return secret, threshold, dict(zip(coordinates, shares, strict=True))


@given(splits(), st.data())
def test_any_threshold_or_more_shares_rebuild_in_any_order(
    split: tuple[bytes, int, dict[int, bytes]], data: st.DataObject
) -> None:
    secret, threshold, shares = split
    order = data.draw(st.permutations(list(shares)))
    size = data.draw(st.integers(threshold, len(shares)))
    subset = {x: shares[x] for x in order[:size]}
    assert sharing.interpolate(subset) == secret
    for x, share in shares.items():
        assert sharing.interpolate(subset, x) == share


@given(splits(), COORDINATES)
def test_value_at_another_point_is_the_share_that_splitting_gives_there(
    split: tuple[bytes, int, dict[int, bytes]], elsewhere: int
) -> None:
    secret, threshold, shares = split
    subset = dict(list(shares.items())[:threshold])
    value = sharing.interpolate(subset, elsewhere)
    assert sharing.interpolate({**subset, elsewhere: value}) == secret


@given(splits(), st.integers(0, 255))
def test_interpolation_agrees_with_the_reference(split: tuple[bytes, int, dict[int, bytes]], at: int) -> None:
    """With fewer shares than the threshold too: then both find the same wrong polynomial."""
    _, _, shares = split
    value = sharing.interpolate(shares, at)
    for index, byte in enumerate(value):
        assert byte == reference.lagrange({x: share[index] for x, share in shares.items()}, at)


@given(splits(), splits())
def test_difference_of_shares_is_a_share_of_the_difference(
    one: tuple[bytes, int, dict[int, bytes]], other: tuple[bytes, int, dict[int, bytes]]
) -> None:
    """The linearity that a lying hub can use, and that the end-to-end tag is built against."""
    _, _, shares = one
    (x, share), *rest = shares.items()
    delta = (other[0] * len(share))[: len(share)]
    moved = {x: gf256.add(share, delta), **dict(rest)}
    alone = {x: delta, **{y: bytes(len(share)) for y, _ in rest}}
    assert sharing.interpolate(moved) == gf256.add(sharing.interpolate(shares), sharing.interpolate(alone))


def test_every_subset_in_every_order_rebuilds_for_three_of_five() -> None:
    secret, coordinates = b"a secret", (1, 2, 3, 4, 5)
    shares = dict(zip(coordinates, sharing.split(secret, 3, coordinates, bytes(range(16))), strict=True))
    for size in (3, 4, 5):
        for order in permutations(coordinates, size):
            assert sharing.interpolate({x: shares[x] for x in order}) == secret


@pytest.mark.parametrize("secret", range(256))
def test_with_threshold_two_one_hub_sees_every_value_exactly_once(secret: int) -> None:
    """All 256 coefficients at once, one per byte of a secret that repeats one value."""
    coordinates = (1, 2, 3, 128, 255)
    for share in sharing.split(bytes([secret]) * 256, 2, coordinates, bytes(range(256))):
        assert sorted(share) == list(range(256))


@pytest.mark.parametrize("secret", SAMPLE)
def test_with_threshold_three_two_hubs_see_every_pair_exactly_once(secret: int) -> None:
    """All 65,536 pairs of coefficients, every two hubs of five: exactly uniform."""
    coordinates = (1, 2, 3, 99, 255)
    first = bytes(range(256)) * 256
    second = bytes(value for value in range(256) for _ in range(256))
    shares = sharing.split(bytes([secret]) * 65_536, 3, coordinates, first + second)
    for one, other in combinations(shares, 2):
        seen = Counter(zip(one, other, strict=True))
        assert len(seen) == 65_536
        assert set(seen.values()) == {1}


def test_with_threshold_three_three_hubs_see_each_secret_apart() -> None:
    """The count above can fail: three shares do tell two secrets from each other."""
    coordinates = (1, 2, 3)
    seen = []
    for secret in (0x00, 0x01):
        coefficients = bytes(range(256)) + b"\x17" * 256
        shares = sharing.split(bytes([secret]) * 256, 3, coordinates, coefficients)
        seen.append(set(zip(*shares, strict=True)))
    assert not seen[0] & seen[1]
