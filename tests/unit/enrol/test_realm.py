from __future__ import annotations

import pytest

from skex.base import codes
from skex.base.errors import ErrorCode, Refused
from skex.base.ids import Coordinate, HubName, RealmName
from skex.enrol.realm import Changes, HubDescription, new_realm, next_epoch
from skex.wire.realm import HubAttributes, HubStatus, Realm

PLACE = HubAttributes(*["x"] * 5)


def hub(name: str, coordinate: int | None = None) -> HubDescription:
    return HubDescription(
        HubName(name),
        f"{name}.example.net:7300",
        PLACE,
        None if coordinate is None else Coordinate(coordinate),
    )


def first() -> Realm:
    return new_realm(RealmName("r"), 2, [hub("c", 7), hub("a"), hub("b")], issued=5)


def places(realm: Realm) -> dict[str, int]:
    return {one.name: one.coordinate for one in realm.hubs}


def test_hubs_get_the_coordinates_they_ask_for_and_others_the_lowest_free() -> None:
    assert places(first()) == {"a": 1, "b": 2, "c": 7}
    assert first().epoch == 1


def test_new_realm_reads_back_as_it_was_made() -> None:
    assert Realm.from_bytes(first().to_bytes()) == first()


@pytest.mark.parametrize(
    ("threshold", "hubs", "code"),
    [
        (4, ["a", "b", "c"], codes.REALM_INCONSISTENT),
        (1, ["a", "b"], codes.REALM_INCONSISTENT),
        (2, ["a", "a"], codes.REALM_INCONSISTENT),
        (2, [], codes.REALM_MALFORMED),
        (65, ["a", "b"], codes.REALM_MALFORMED),
    ],
)
def test_realm_that_contradicts_itself_is_refused(threshold: int, hubs: list[str], code: ErrorCode) -> None:
    with pytest.raises(Refused) as refused:
        new_realm(RealmName("r"), threshold, [hub(name) for name in hubs], issued=0)
    assert refused.value.code is code


def test_two_hubs_at_one_coordinate_are_refused() -> None:
    with pytest.raises(Refused, match="realm-inconsistent"):
        new_realm(RealmName("r"), 2, [hub("a", 3), hub("b", 3)], issued=0)


def test_more_hubs_than_coordinates_are_refused() -> None:
    with pytest.raises(Refused, match="every coordinate was used"):
        new_realm(RealmName("r"), 2, [hub(f"h{number}") for number in range(256)], issued=0)


def test_next_epoch_keeps_coordinates_and_gives_new_hubs_free_ones() -> None:
    later = next_epoch(first(), Changes(add=(hub("d"),), threshold=3, max_age=9, overlap=1), issued=6)
    assert places(later) == {"a": 1, "b": 2, "c": 7, "d": 3}
    assert (later.epoch, later.threshold, later.max_age, later.overlap, later.issued) == (2, 3, 9, 1, 6)


def test_next_epoch_leaves_what_nobody_changed() -> None:
    later = next_epoch(first(), Changes(), issued=6)
    assert (later.threshold, later.max_age, later.overlap) == (2, first().max_age, first().overlap)


def test_revoked_hub_stays_listed_and_its_coordinate_taken() -> None:
    later = next_epoch(first(), Changes(add=(hub("d"),), revoke=frozenset({HubName("a")})), issued=6)
    assert places(later) == {"a": 1, "b": 2, "c": 7, "d": 3}
    assert {one.name for one in later.hubs if one.status is HubStatus.REVOKED} == {"a"}
    again = next_epoch(later, Changes(add=(hub("e"),)), issued=7)
    assert places(again)["e"] == 4


@pytest.mark.parametrize("name", ["z", "a"])
def test_hub_that_is_not_active_cannot_be_revoked(name: str) -> None:
    current = next_epoch(first(), Changes(add=(hub("d"),), revoke=frozenset({HubName("a")})), issued=6)
    with pytest.raises(Refused, match="hub-not-in-realm"):
        next_epoch(current, Changes(revoke=frozenset({HubName(name)})), issued=7)


def test_revoking_more_hubs_than_the_threshold_leaves_is_refused() -> None:
    with pytest.raises(Refused, match="realm-inconsistent"):
        next_epoch(first(), Changes(revoke=frozenset({HubName("a"), HubName("b")})), issued=6)


def test_name_of_a_revoked_hub_is_never_given_again() -> None:
    current = next_epoch(first(), Changes(add=(hub("d"),), revoke=frozenset({HubName("a")})), issued=6)
    with pytest.raises(Refused, match="two hubs have one name"):
        next_epoch(current, Changes(add=(hub("a"),)), issued=7)
