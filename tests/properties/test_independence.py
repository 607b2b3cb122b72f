"""The effective threshold equals brute force, and what it must do when a realm changes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from skex.wire.independence import Attribute, by_attribute, collusion, effective_threshold
from skex.wire.realm import HubAttributes

VALUES = st.sampled_from(["a", "b", "c", "d", "unstated"])
HUBS = st.lists(st.builds(HubAttributes, VALUES, VALUES, VALUES, VALUES, VALUES), min_size=1, max_size=8)
COUNTED = st.frozensets(st.sampled_from(Attribute), min_size=1)


@st.composite
def questions(draw: DrawFn) -> tuple[list[HubAttributes], int, frozenset[Attribute]]:
    hubs = draw(HUBS)
    return hubs, draw(st.integers(1, len(hubs))), draw(COUNTED)


def by_brute_force(hubs: Sequence[HubAttributes], threshold: int, counted: frozenset[Attribute]) -> int:
    """Every set of parties, the small ones first."""
    parties = sorted({(one, one.of(hub)) for hub in hubs for one in counted}, key=str)
    for number in range(1, len(parties) + 1):
        for chosen in itertools.combinations(parties, number):
            had = [hub for hub in hubs if any(one.of(hub) == value for one, value in chosen)]
            if len(had) >= threshold:
                return number
    raise AssertionError("all parties together have all hubs")


@given(questions())
def test_effective_threshold_equals_brute_force(
    question: tuple[list[HubAttributes], int, frozenset[Attribute]],
) -> None:
    hubs, threshold, counted = question
    found = collusion(hubs, threshold, counted)
    assert found.is_exact
    assert found.count == by_brute_force(hubs, threshold, counted)


@given(questions())
def test_the_parties_that_are_named_have_the_hubs(
    question: tuple[list[HubAttributes], int, frozenset[Attribute]],
) -> None:
    hubs, threshold, counted = question
    parties = {(party.attribute, party.value) for party in collusion(hubs, threshold, counted).parties}
    had = [hub for hub in hubs if any((one, one.of(hub)) in parties for one in counted)]
    assert len(had) >= threshold


@given(questions(), st.randoms(use_true_random=False))
def test_the_order_of_hubs_has_no_meaning(
    question: tuple[list[HubAttributes], int, frozenset[Attribute]], chance: object
) -> None:
    hubs, threshold, counted = question
    mixed = list(hubs)
    chance.shuffle(mixed)  # type: ignore[attr-defined]  # hypothesis names no type for it
    assert effective_threshold(mixed, threshold, counted) == effective_threshold(hubs, threshold, counted)


@given(questions())
def test_fewer_hubs_more_attributes_or_a_lower_threshold_never_surprise(
    question: tuple[list[HubAttributes], int, frozenset[Attribute]],
) -> None:
    """Leaving a hub out never helps colluders, counting another attribute never hinders them."""
    hubs, threshold, counted = question
    count = effective_threshold(hubs, threshold, counted)
    assert 1 <= count <= threshold
    assert effective_threshold(hubs, threshold, frozenset(Attribute)) <= count
    assert count <= min(by_attribute(hubs, threshold)[one].count for one in counted)
    if threshold > 1:
        assert effective_threshold(hubs, threshold - 1, counted) <= count
    if len(hubs) > threshold:
        assert effective_threshold(hubs[1:], threshold, counted) >= count
