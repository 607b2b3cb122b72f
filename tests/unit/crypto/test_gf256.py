from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from skex.base.errors import LocalBug
from skex.crypto import gf256
from tests.unit.crypto import reference
from tests.unit.crypto.reference import assert_refused, cases

EVERY_BYTE = bytes(range(256))


@pytest.mark.parametrize("case", cases("gf256.json", "products"))
def test_published_products_are_met(case: dict[str, Any]) -> None:
    left, right, product = (int(case[name], 16) for name in ("left", "right", "product"))
    assert gf256.multiply(left, right) == product
    assert gf256.multiply(right, left) == product
    assert gf256.scale(bytes([left]), right) == bytes([product])


def test_every_product_of_factors_and_of_data_is_that_of_the_reference() -> None:
    for factor in range(256):
        expected = bytes(reference.gf256_multiply(byte, factor) for byte in EVERY_BYTE)
        assert gf256.scale(EVERY_BYTE, factor) == expected
        assert bytes(gf256.multiply(byte, factor) for byte in EVERY_BYTE) == expected


def test_every_element_but_zero_has_its_inverse() -> None:
    inverses = [gf256.inverse(element) for element in range(1, 256)]
    assert sorted(inverses) == list(range(1, 256))
    assert all(gf256.multiply(element, inverses[element - 1]) == 1 for element in range(1, 256))


def test_sum_is_bytewise_and_keeps_leading_zeros() -> None:
    assert gf256.add(b"\x00\x0f\xff", b"\x00\xff\xff") == b"\x00\xf0\x00"
    assert gf256.add(b"", b"") == b""


def test_rows_are_independent_sums_of_products() -> None:
    left, right = b"\x57\x00\xff", b"\x01\x80\x13"
    rows = [[0, 0], [1, 0], [0, 1], [1, 1], [0x83, 0x13]]
    expected = tuple(
        bytes(
            reference.gf256_multiply(a, row[0]) ^ reference.gf256_multiply(b, row[1])
            for a, b in zip(left, right, strict=True)
        )
        for row in rows
    )
    assert gf256.combine(rows, [left, right]) == expected
    assert gf256.combine([], [left]) == ()
    assert gf256.combine([[7]], [b""]) == (b"",)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: gf256.multiply(256, 1), id="left factor of nine bits"),
        pytest.param(lambda: gf256.multiply(1, 256), id="right factor of nine bits"),
        pytest.param(lambda: gf256.multiply(-1, 1), id="negative factor"),
        pytest.param(lambda: gf256.inverse(0), id="inverse of zero"),
        pytest.param(lambda: gf256.inverse(256), id="inverse of nine bits"),
        pytest.param(lambda: gf256.add(b"a", b"ab"), id="sum of different lengths"),
        pytest.param(lambda: gf256.scale(b"a", 256), id="scaled by nine bits"),
        pytest.param(lambda: gf256.scale(b"a", -1), id="scaled by a negative factor"),
        pytest.param(lambda: gf256.combine([[]], []), id="no data"),
        pytest.param(lambda: gf256.combine([[1, 1]], [b"a", b"ab"]), id="data of different lengths"),
        pytest.param(lambda: gf256.combine([[1]], [b"a", b"b"]), id="too few factors"),
        pytest.param(lambda: gf256.combine([[1, 1], [1, 1, 1]], [b"a", b"b"]), id="too many factors"),
    ],
)
def test_caller_that_leaves_the_field_or_mixes_shapes_is_a_bug(call: Callable[[], object]) -> None:
    with pytest.raises(LocalBug) as caught:
        call()
    assert_refused(caught)
