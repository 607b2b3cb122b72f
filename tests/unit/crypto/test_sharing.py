from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from skex.base.errors import LocalBug
from skex.crypto import sharing
from tests.unit.crypto import reference
from tests.unit.crypto.reference import assert_refused, cases

SECRET = b"sixteen bytes..."


@pytest.mark.parametrize("case", cases("sharing.json"))
def test_published_shares_rebuild_from_every_subset(case: dict[str, Any]) -> None:
    shares = {int(x): bytes.fromhex(share) for x, share in case["shares"].items()}
    for size in range(case["threshold"], len(shares) + 1):
        for subset in combinations(shares.items(), size):
            for at, value in case["at"].items():
                assert sharing.interpolate(dict(subset), int(at)).hex() == value


def test_published_shares_come_out_of_splitting_with_the_coefficient_that_they_imply() -> None:
    """Coefficients are not published; with k = 2, the secret and the share at 1 determine them."""
    (case,) = (param.values[0] for param in cases("sharing.json") if "draft-mcgrew" in str(param.id))
    secret, first, second = (
        bytes.fromhex(text) for text in (case["at"]["0"], case["shares"]["1"], case["shares"]["2"])
    )
    assert sharing.split(secret, 2, [1, 2], reference.xor(secret, first)) == (first, second)


def test_shares_are_the_polynomials_values_in_the_order_of_the_coordinates() -> None:
    secret, first, second = b"\x00\xff\x53", b"\x01\x02\x03", b"\x80\x00\xca"
    coordinates = [9, 1, 255]
    expected = tuple(
        bytes(reference.evaluate(terms, x) for terms in zip(secret, first, second, strict=True))
        for x in coordinates
    )
    assert sharing.split(secret, 3, coordinates, first + second) == expected


def test_share_at_zero_is_the_secret_and_a_given_point_is_its_own_share() -> None:
    shares = dict(zip((3, 5, 8), sharing.split(SECRET, 3, (3, 5, 8), bytes(range(32))), strict=True))
    assert sharing.interpolate(shares) == SECRET
    assert all(sharing.interpolate(shares, at) == share for at, share in shares.items())


def test_threshold_one_hands_the_secret_itself_to_all() -> None:
    assert sharing.split(SECRET, 1, [7, 8], b"") == (SECRET, SECRET)
    assert sharing.interpolate({7: SECRET}) == SECRET


def test_all_given_shares_are_used_so_one_wrong_share_spoils_the_result() -> None:
    """A hub that lies: with more shares than needed, none is silently left out."""
    shares = dict(zip((1, 2, 3), sharing.split(SECRET, 2, (1, 2, 3), bytes(range(16))), strict=True))
    for liar in shares:
        wrong = {**shares, liar: bytes([shares[liar][0] ^ 1]) + shares[liar][1:]}
        assert sharing.interpolate(wrong) != SECRET


def test_fewer_shares_than_the_threshold_rebuild_something_else() -> None:
    shares = dict(zip((1, 2, 3), sharing.split(SECRET, 3, (1, 2, 3), bytes(range(1, 33))), strict=True))
    assert sharing.interpolate({1: shares[1], 2: shares[2]}) != SECRET


def test_the_largest_realm_and_every_coordinate_can_be_served() -> None:
    coordinates = list(range(1, 256))
    coefficients = bytes(range(254))
    shares = sharing.split(b"\xa5", 255, coordinates, coefficients)
    assert sharing.interpolate(dict(zip(coordinates, shares, strict=True))) == b"\xa5"


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: sharing.split(b"", 1, [1], b""), id="empty secret"),
        pytest.param(lambda: sharing.split(b"a", 0, [1], b""), id="threshold 0"),
        pytest.param(lambda: sharing.split(b"a", 3, [1, 2], b"bb"), id="threshold above the coordinates"),
        pytest.param(lambda: sharing.split(b"a", 1, [], b""), id="no coordinate"),
        pytest.param(lambda: sharing.split(b"a", 2, [0, 1], b"b"), id="the coordinate of the secret"),
        pytest.param(lambda: sharing.split(b"a", 2, [1, 256], b"b"), id="coordinate 256"),
        pytest.param(lambda: sharing.split(b"a", 2, [1, -1], b"b"), id="negative coordinate"),
        pytest.param(lambda: sharing.split(b"a", 2, [7, 7], b"b"), id="the same coordinate twice"),
        pytest.param(lambda: sharing.split(b"a", 2, [1, 2], b""), id="coefficients missing"),
        pytest.param(lambda: sharing.split(b"ab", 2, [1, 2], b"b"), id="coefficients too short"),
        pytest.param(lambda: sharing.split(b"a", 2, [1, 2], b"bb"), id="coefficients too long"),
        pytest.param(lambda: sharing.split(b"a", 1, [1], b"b"), id="coefficients without a use"),
        pytest.param(lambda: sharing.interpolate({}), id="no share"),
        pytest.param(lambda: sharing.interpolate({0: b"a", 1: b"b"}), id="a share at the secret's place"),
        pytest.param(lambda: sharing.interpolate({256: b"a"}), id="a share at 256"),
        pytest.param(lambda: sharing.interpolate({1: b"a", 2: b"bb"}), id="shares of different lengths"),
        pytest.param(lambda: sharing.interpolate({1: b"", 2: b""}), id="empty shares"),
        pytest.param(lambda: sharing.interpolate({1: b"a"}, 256), id="value at 256"),
        pytest.param(lambda: sharing.interpolate({1: b"a"}, -1), id="value at a negative point"),
    ],
)
def test_caller_that_would_share_nothing_or_leak_the_secret_is_a_bug(call: Callable[[], object]) -> None:
    with pytest.raises(LocalBug) as caught:
        call()
    assert_refused(caught)
