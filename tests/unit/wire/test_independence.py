"""The fewest parties that have k hubs: known realms, bounds, and what is never counted too high."""

from __future__ import annotations

import pytest

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.wire.independence import (
    COUNTED,
    UNKNOWN_HUB,
    UNSTATED,
    Attribute,
    Floor,
    Party,
    by_attribute,
    collusion,
    effective_threshold,
)
from skex.wire.realm import HubAttributes


def hub(
    operator: str, *, land: str = "se", house: str = "dc", admin: str = "", code: str = "skex"
) -> HubAttributes:
    return HubAttributes(operator, land, house, admin or f"admin of {operator}", code)


FIVE = tuple(hub(name) for name in "abcde")
THREE_OF_ONE = tuple(hub(name) for name in "aaabc")


def test_hubs_of_different_operators_are_as_many_parties_as_the_threshold_says() -> None:
    found = collusion(FIVE, 3)
    assert (found.count, len(found.parties), found.is_exact) == (3, 3, True)


def test_an_operator_with_as_many_hubs_as_the_threshold_is_enough_alone() -> None:
    found = collusion(THREE_OF_ONE, 3)
    assert found.count == 1
    assert found.parties == (Party(Attribute.OPERATOR, "a"),)


def test_parties_of_different_attributes_collude() -> None:
    # One operator has two hubs, one administrator another two; neither has three.
    hubs = [
        hub("a", admin="x"),
        hub("a", admin="y"),
        hub("b", admin="z"),
        hub("c", admin="z"),
        hub("d", admin="w"),
    ]
    assert effective_threshold(hubs, 4, {Attribute.OPERATOR}) == 3
    assert effective_threshold(hubs, 4, {Attribute.ADMINISTRATOR}) == 3
    found = collusion(hubs, 4, COUNTED)
    assert found.count == 2
    assert set(found.parties) == {Party(Attribute.OPERATOR, "a"), Party(Attribute.ADMINISTRATOR, "z")}


def test_what_the_largest_have_in_common_counts_once() -> None:
    # The two largest parties share two hubs: with the small one each does better.
    hubs = [
        hub("a", admin="x"),
        hub("a", admin="x"),
        hub("a", admin="w"),
        hub("b", admin="x"),
        hub("c", admin="v"),
        hub("c", admin="u"),
    ]
    assert effective_threshold(hubs, 5) == 2
    assert effective_threshold(hubs, 6) == 3


def test_an_attribute_that_nobody_stated_is_shared_by_all_who_did_not() -> None:
    hubs = [UNKNOWN_HUB, UNKNOWN_HUB, hub("a"), hub("b")]
    assert effective_threshold(hubs, 2) == 1
    assert collusion(hubs, 2, {Attribute.OPERATOR}).parties == (Party(Attribute.OPERATOR, UNSTATED),)


def test_each_attribute_is_counted_by_itself() -> None:
    counts = {attribute: found.count for attribute, found in by_attribute(FIVE, 3).items()}
    assert counts == {
        Attribute.OPERATOR: 3,
        Attribute.JURISDICTION: 1,
        Attribute.HOSTING: 1,
        Attribute.ADMINISTRATOR: 3,
        Attribute.IMPLEMENTATION: 1,
    }


def test_implementation_and_jurisdiction_do_not_count_unless_somebody_says_so() -> None:
    assert frozenset({Attribute.OPERATOR, Attribute.ADMINISTRATOR}) == COUNTED


@pytest.mark.parametrize(("threshold", "hubs"), [(0, FIVE), (6, FIVE), (1, ()), (1, FIVE * 13)])
def test_a_threshold_that_the_hubs_cannot_have_is_a_defect(
    threshold: int, hubs: tuple[HubAttributes, ...]
) -> None:
    with pytest.raises(LocalBug) as caught:
        collusion(hubs, threshold)
    assert caught.value.code is codes.BAD_ARGUMENT


def test_counting_nothing_is_a_defect() -> None:
    with pytest.raises(LocalBug):
        collusion(FIVE, 3, ())


def test_a_search_that_takes_too_long_ends_with_what_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every two hubs share one operator or one administrator: a ring, where the largest tell nothing.
    ring = [hub(f"o{i // 2}", admin=f"a{(i + 1) // 2 % 7}") for i in range(14)]
    exact = collusion(ring, 12)
    assert (exact.count, exact.is_exact) == (6, True)
    mixed = [hub(f"o{i % 5}", admin=f"a{i * i % 7}", house=f"h{i * 3 % 11}") for i in range(40)]
    counted = {Attribute.OPERATOR, Attribute.ADMINISTRATOR, Attribute.HOSTING}
    known = collusion(mixed, 37, counted)
    assert known.is_exact
    monkeypatch.setattr(limits, "INDEPENDENCE_STEPS", 1)
    found = collusion([*mixed, hub("other")], 37, counted)
    assert not found.is_exact
    assert found.count < len(found.parties)
    assert found.count <= known.count


def test_a_floor_is_met_by_enough_parties_only() -> None:
    assert Floor().is_met(THREE_OF_ONE, 3)
    assert not Floor(2).is_met(THREE_OF_ONE, 3)
    assert Floor(3).is_met(FIVE, 3)
    assert not Floor(2, frozenset({Attribute.HOSTING})).is_met(FIVE, 3)


def test_a_party_reads_as_its_attribute_and_value() -> None:
    assert str(Party(Attribute.OPERATOR, "Acme AB")) == "operator Acme AB"
