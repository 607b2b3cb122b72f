"""A hub that lies about its share, against the end-to-end tag.

Interpolation is linear, so it can add a difference of its choice to the rebuilt secret, the tag's own
key included. Our form T = d + c e + ... lets one pass with probability at most (N+1)/q, N blocks over
a field of q elements; that is counted over all keys and all differences in small fields. The form
without e is broken with certainty from three blocks on for known contents; its attack is built here,
through real shares, and fails against ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import shake_256
from itertools import product
from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skex.crypto import gf256, mac, sharing
from skex.crypto.tag import end_to_end_tag
from tests.unit.crypto import reference

# ── counted, in small fields ────────────────────────────────────────────────────────────────────


class SmallField:
    """GF(2^degree) by its polynomial, with a multiplication table."""

    def __init__(self, degree: int, polynomial: int) -> None:
        self.size = 1 << degree
        self.table = [[self._multiply(a, b, polynomial) for b in range(self.size)] for a in range(self.size)]

    def _multiply(self, left: int, right: int, polynomial: int) -> int:
        result = 0
        while right:
            result ^= left if right & 1 else 0
            left <<= 1
            left ^= polynomial if left & self.size else 0
            right >>= 1
        return result

    def power_sum(self, c: int, coefficients: tuple[int, ...]) -> int:
        """coefficients[0] c^n + ... + coefficients[n-1] c."""
        total = 0
        for coefficient in coefficients:
            total = self.table[total ^ coefficient][c]
        return total


GF4: Final = SmallField(2, 0b111)
GF8: Final = SmallField(3, 0b1011)


def most_often_passed(field: SmallField, known: tuple[int, ...], *, third_element: bool) -> tuple[int, int]:
    """Over all differences to (c, d, e, X) but none, the most keys for which one passes; and all keys.

    d cancels out: a difference passes for the keys (c, e) for which what it makes of the rest is its
    own difference to d, so the commonest such value is the liar's best choice.
    """
    elements = range(field.size)
    extras = elements if third_element else range(1)

    def rest(c: int, e: int, blocks: tuple[int, ...]) -> int:
        return field.power_sum(c, (*blocks, e) if third_element else blocks)

    keys = list(product(elements, extras))
    honest = {key: rest(*key, known) for key in keys}
    best = 0
    for moved in product(elements, repeat=len(known)):
        table = {key: rest(*key, moved) for key in keys}
        for dc, de in product(elements, extras):
            if (dc, de, moved) == (0, 0, known):
                continue  # then only d may differ, and a different d never passes
            if not third_element and moved == known:
                continue  # changes the tag's key only; keys stay what they were
            made = Counter(table[c ^ dc, e ^ de] ^ honest[c, e] for c, e in keys)
            best = max(best, *made.values())
    return best, len(keys)


@pytest.mark.parametrize("known", list(product(range(4), repeat=2)))
def test_no_difference_passes_more_often_than_the_bound_whatever_is_known(known: tuple[int, int]) -> None:
    """All differences, all keys, all contents of two blocks in GF(4): at most 3/4, and that is tight."""
    best, keys = most_often_passed(GF4, known, third_element=True)
    assert best * GF4.size == 3 * keys


@pytest.mark.parametrize("known", [(0,), (1,), (6,), (0, 0), (1, 2), (7, 5)])
def test_bound_is_met_and_tight_in_a_larger_field(known: tuple[int, ...]) -> None:
    best, keys = most_often_passed(GF8, known, third_element=True)
    assert best * GF8.size == (len(known) + 1) * keys


def test_form_without_e_holds_for_two_blocks_and_is_broken_with_certainty_for_three() -> None:
    best, keys = most_often_passed(GF8, (3, 5), third_element=False)
    assert best * GF8.size == 2 * keys
    best, keys = most_often_passed(GF8, (3, 5, 1), third_element=False)
    assert best == keys


# ── through real shares, in the real field ──────────────────────────────────────────────────────

COORDINATES: Final = (1, 2, 3, 4, 5)
THRESHOLD: Final = 3
# The context fills the rest of the first block, whose coefficient no shift of c touches: what a liar
# cannot change is then just what it need not change. That is the best case for the attack.
CONTEXT: Final = b"8 bytes."
TAIL_BYTES: Final = 80
SEEDS: Final = st.integers(0, 1 << 64)
ELEMENTS: Final = st.binary(min_size=16, max_size=16)


def fresh(seed: int, length: int) -> bytes:
    """Uniform bytes that nothing else in an example depends on."""
    return shake_256(b"sender" + seed.to_bytes(9, "big")).digest(length)


def honest_shares(secret: bytes, seed: int) -> dict[int, bytes]:
    coefficients = shake_256(b"coefficients" + seed.to_bytes(9, "big")).digest(2 * len(secret))
    return dict(zip(COORDINATES, sharing.split(secret, THRESHOLD, COORDINATES, coefficients), strict=True))


def rebuilt_with_a_lie(secret: bytes, seed: int, liar: int, difference: bytes) -> bytes:
    """What a receiver rebuilds when one of its hubs aims at ``difference`` and knows no other share."""
    shares = honest_shares(secret, seed)
    subset = {x: shares[x] for x in COORDINATES[:THRESHOLD]}
    weight = sharing.interpolate({x: bytes([x == liar]) for x in subset})[0]
    lie = gf256.scale(difference, gf256.inverse(weight))
    subset[liar] = gf256.add(subset[liar], lie)
    return sharing.interpolate(subset)


def tag_of(secret: bytes) -> bytes:
    return end_to_end_tag(secret[:48], CONTEXT, secret[48:])


def two_element_tag_of(secret: bytes) -> bytes:
    blocks = reference.blocks_of(CONTEXT, secret[48:])
    return reference.two_element_tag(secret[:16], secret[16:32], blocks)


def shift_of(delta: bytes, blocks: list[bytes], contents: Callable[[list[bytes]], bytes]) -> bytes:
    """The difference to (c, d, then ``contents``) that moves c by delta and keeps the polynomial's value."""
    moved, constant = reference.shifted(blocks, delta)
    assert moved[0] == blocks[0], "the context's block stays"
    changed = [reference.xor(new, old) for new, old in zip(moved, blocks, strict=True)]
    return delta + constant + contents(changed)


@given(SEEDS, st.sampled_from(COORDINATES[:THRESHOLD]), ELEMENTS, st.binary(min_size=80, max_size=80))
def test_shift_that_breaks_the_form_without_e_is_caught_by_ours(
    seed: int, liar: int, delta: bytes, tail: bytes
) -> None:
    """A hub that knows the keys already and moves c: it leads the receiver to keys of its making."""
    assume(any(delta))
    secret = fresh(seed, 48) + tail
    blocks = reference.blocks_of(CONTEXT, tail)
    difference = shift_of(delta, blocks, lambda changed: bytes(16) + b"".join(changed[1:]))
    assume(any(difference[48:]))
    rebuilt = rebuilt_with_a_lie(secret, seed, liar, difference)

    assert rebuilt == gf256.add(secret, difference)
    assert rebuilt[48:] != tail
    assert two_element_tag_of(rebuilt) == two_element_tag_of(secret)
    assert not mac.equal(tag_of(rebuilt), tag_of(secret))


@given(SEEDS, st.sampled_from(COORDINATES[:THRESHOLD]), ELEMENTS, ELEMENTS)
def test_shift_against_our_form_passes_for_the_one_right_guess_of_e_only(
    seed: int, liar: int, delta: bytes, wrong: bytes
) -> None:
    """One guess in 2^128: why the third element is there, and that it must stay secret."""
    assume(any(delta))
    assume(any(wrong))
    secret = fresh(seed, 48 + TAIL_BYTES)
    e = secret[32:48]
    for guess, passes in ((e, True), (reference.xor(e, wrong), False)):
        blocks = [*reference.blocks_of(CONTEXT, secret[48:]), guess]
        difference = shift_of(delta, blocks, lambda changed: changed[-1] + b"".join(changed[1:-1]))
        assume(any(difference[48:]))
        rebuilt = rebuilt_with_a_lie(secret, seed, liar, difference)
        assert mac.equal(tag_of(rebuilt), tag_of(secret)) is passes


PARTS: Final = {
    "c": slice(0, 16),
    "d": slice(16, 32),
    "e": slice(32, 48),
    "v": slice(48, 80),
    "key 1": slice(80, 112),
    "key 2": slice(112, 128),
    "u": slice(0, 48),
    "everything": slice(0, 128),
}


@pytest.mark.parametrize("part", PARTS)
@given(seed=SEEDS, liar=st.sampled_from(COORDINATES[:THRESHOLD]), data=st.data())
def test_any_difference_to_any_part_is_caught(part: str, seed: int, liar: int, data: st.DataObject) -> None:
    """At most (N+1)/2^128 for each subset of shares, N = 6 here: no example will ever find one."""
    window = PARTS[part]
    length = window.stop - window.start
    change = data.draw(st.binary(min_size=length, max_size=length))
    assume(any(change))
    difference = bytes(window.start) + change + bytes(128 - window.stop)
    secret = fresh(seed, 128)
    rebuilt = rebuilt_with_a_lie(secret, seed, liar, difference)
    assert rebuilt == gf256.add(secret, difference)
    assert not mac.equal(tag_of(rebuilt), tag_of(secret))


@given(SEEDS, st.sampled_from(COORDINATES[:THRESHOLD]), st.data())
def test_lie_without_an_aim_is_caught_and_the_honest_subset_rebuilds(
    seed: int, liar: int, data: st.DataObject
) -> None:
    secret = fresh(seed, 48 + TAIL_BYTES)
    shares = honest_shares(secret, seed)
    lie = data.draw(st.binary(min_size=len(secret), max_size=len(secret)))
    assume(lie != shares[liar])
    honest = {x: share for x, share in shares.items() if x != liar}
    assert tag_of(sharing.interpolate(honest)) == tag_of(secret)
    assert tag_of(sharing.interpolate({**shares, liar: lie})) != tag_of(secret)


@given(
    SEEDS, st.binary(max_size=200), st.binary(min_size=48, max_size=300), st.binary(min_size=48, max_size=48)
)
def test_tag_agrees_with_the_formula_power_by_power(seed: int, context: bytes, tail: bytes, u: bytes) -> None:
    """Adversarial values of u too, such as all zeros."""
    blocks = reference.blocks_of(context, tail)
    for key in (u, fresh(seed, 48)):
        expected = reference.three_element_tag(key[:16], key[16:32], key[32:], blocks)
        assert end_to_end_tag(key, context, tail) == expected
