from __future__ import annotations

from hashlib import shake_256
from typing import Any

import pytest

from skex.base import limits
from skex.base.errors import LocalBug
from skex.crypto.tag import end_to_end_tag
from tests.unit.crypto import reference
from tests.unit.crypto.reference import assert_refused, cases

U = shake_256(b"u").digest(48)
CONTEXT = b"context"
TAIL = shake_256(b"v and keys").digest(64)


@pytest.mark.parametrize("case", cases("end_to_end_tag.json"))
def test_values_of_the_second_implementation_are_met(case: dict[str, Any]) -> None:
    u, context, tail = (bytes.fromhex(case[name]) for name in ("u", "context", "secret_tail"))
    blocks = reference.blocks_of(context, tail)
    assert end_to_end_tag(u, context, tail).hex() == case["tag"]
    assert reference.three_element_tag(u[:16], u[16:32], u[32:], blocks).hex() == case["tag"]


def test_the_largest_secret_has_a_tag() -> None:
    tail = shake_256(b"largest").digest(limits.BATCH_SECRET_BYTES - 48)
    data = b"".join(reference.blocks_of(CONTEXT, tail)) + U[32:]
    assert end_to_end_tag(U, CONTEXT, tail) == reference.xor(U[16:32], reference.ghash(U[:16], data))


@pytest.mark.parametrize("bit", [0, 127, 128, 255, 256, 383])
def test_hub_that_changes_one_bit_of_the_tags_key_changes_the_tag(bit: int) -> None:
    changed = (int.from_bytes(U, "big") ^ 1 << bit).to_bytes(48, "big")
    assert end_to_end_tag(changed, CONTEXT, TAIL) != end_to_end_tag(U, CONTEXT, TAIL)


@pytest.mark.parametrize("bit", range(0, 512, 37))
def test_hub_that_changes_one_bit_of_v_or_a_key_changes_the_tag(bit: int) -> None:
    changed = (int.from_bytes(TAIL, "big") ^ 1 << bit).to_bytes(64, "big")
    assert end_to_end_tag(U, CONTEXT, changed) != end_to_end_tag(U, CONTEXT, TAIL)


@pytest.mark.parametrize(
    "other",
    [b"contexT", b"context\x00", b"contex", b"", b"context" + TAIL[:1]],
)
def test_hub_that_shows_another_context_meets_another_tag(other: bytes) -> None:
    """Zeros at the end count too: the length comes first."""
    assert end_to_end_tag(U, other, TAIL) != end_to_end_tag(U, CONTEXT, TAIL)


@pytest.mark.parametrize(
    ("u", "tail"),
    [
        pytest.param(47, 64, id="u too short"),
        pytest.param(49, 64, id="u too long"),
        pytest.param(32, 64, id="u of the two-element form"),
        pytest.param(48, 0, id="no tail"),
        pytest.param(48, 32, id="v alone"),
        pytest.param(48, 47, id="v and a key too short"),
        pytest.param(48, limits.BATCH_SECRET_BYTES - 47, id="more than a batch"),
    ],
)
def test_caller_with_another_key_or_tail_is_a_bug(u: int, tail: int) -> None:
    with pytest.raises(LocalBug) as caught:
        end_to_end_tag(bytes(u), CONTEXT, bytes(tail))
    assert_refused(caught)
