from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest

from skex.base import codes, limits
from skex.base.errors import LocalBug, Refused
from skex.base.ids import Coordinate, HubName, RealmName
from skex.wire.realm import Hub, HubAttributes, HubStatus, Realm
from tests.unit.wire.support import (
    REALM,
    REALM_SAMPLE,
    Bound,
    element,
    hub,
    paths,
    raw,
    refusal_of,
    replaced,
)

VALUE = REALM_SAMPLE.value


def _code(value: object) -> object:
    return refusal_of(Realm.from_bytes, raw(value))


def test_file_is_laid_out_as_specified() -> None:
    attributes = ["Example Ltd", "CH", "own building", "J. Doe", "skex"]
    expected = [
        "skex realm",
        1,
        "alps",
        3,
        2,
        1_750_000_000,
        86_400,
        3600,
        [
            ["h1", 1, 0, "h1.example:7300", attributes],
            ["h2", 2, 0, "h2.example:7300", attributes],
            ["h9", 9, 0, "h9.example:7300", attributes],
            ["h10", 10, 1, "h10.example:7300", attributes],
        ],
    ]
    assert expected == VALUE
    assert Realm.from_bytes(raw(VALUE)) == REALM
    assert REALM.digest() == hashlib.sha512(raw(VALUE)).digest()


JUNK: tuple[Any, ...] = (True, False, None, -1, 1.5, {}, [[]])
OTHERS: tuple[Any, ...] = (0, b"", "a", [])


def test_wrong_type_of_any_field_is_refused() -> None:
    for path in paths(VALUE):
        kind = type(element(VALUE, path))
        for other in (*JUNK, *(other for other in OTHERS if type(other) is not kind)):
            assert _code(replaced(VALUE, path, other)) is codes.REALM_MALFORMED


def test_field_too_few_or_too_many_is_refused_at_every_level() -> None:
    for path in ((), (8, 0), (8, 0, 4)):
        array = element(VALUE, path)
        for other in ([*array, 0], [*array, "a"], array[:-1], []):
            assert _code(replaced(VALUE, path, other)) is codes.REALM_MALFORMED


NAMES_OUTSIDE = ["", "a" * 64, "A", "a-", "-a", "a b", "a\n", "é"]
TEXTS_OUTSIDE = ["", "a" * 65, "\n", "\x7f", "é", "\u200b"]
HOSTS_INSIDE = [
    "a:1",
    "a:65535",
    "192.0.2.1:7300",
    "[2001:db8::1]:7300",
    "[::ffff:192.0.2.1]:1",
    "hub-1.example.org:7300",
    "a" * 253 + ":1",
]
HOSTS_OUTSIDE = [
    "",
    "a",
    "a:",
    ":7300",
    "a:0",
    "a:07300",
    "a:65536",
    "a:99999",
    "a:100000",
    "a:7300 ",
    " a:7300",
    "a b:7300",
    "A:7300",
    "a_b:7300",
    "-a:7300",
    "a-:7300",
    "a:7300\n",
    "a:b:7300",
    "2001:db8::1:7300",
    "[]:7300",
    "[2001:DB8::1]:7300",
    "[2001:db8::1%eth0]:7300",
    "user@a:7300",
    "a/b:7300",
    "é:7300",
    "a" * 254 + ":1",
]
BOUNDS = [
    Bound("", (0,), ["skex realm"], ["skex Realm", "skex", "skex realms"]),
    Bound("", (2,), ["a", "a" * 63], NAMES_OUTSIDE),
    Bound("", (3,), [1, 2**32 - 1], [0, 2**32]),
    Bound("", (4,), [2, 3], [0, 65]),
    Bound("", (5,), [0, 2**64 - 1], []),
    Bound("", (6,), [1, 2**32 - 1], [0, 2**32]),
    Bound("", (7,), [0, 2**32 - 1], [2**32]),
    Bound("", (8,), [], [[]]),
    Bound("", (8, 0, 0), ["a", "a" * 63], NAMES_OUTSIDE),
    Bound("", (8, 3, 1), [255], [256]),
    Bound("", (8, 0, 1), [1], [0]),
    Bound("", (8, 0, 2), [0, 1], [2]),
    Bound("", (8, 0, 3), HOSTS_INSIDE, HOSTS_OUTSIDE),
    *(Bound("", (8, 0, 4, index), ["a", " ", "~" * 64], TEXTS_OUTSIDE) for index in range(5)),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_value_just_inside_passes_and_just_outside_is_refused(bound: Bound) -> None:
    for value in bound.inside:
        data = raw(replaced(VALUE, bound.path, value))
        assert Realm.from_bytes(data).to_bytes() == data
    for value in bound.outside:
        assert _code(replaced(VALUE, bound.path, value)) is codes.REALM_MALFORMED, value


@pytest.mark.parametrize("number", [0, 2, 2**64 - 1])
def test_format_that_is_not_known_is_told_from_a_broken_file(number: int) -> None:
    expected = codes.REALM_FORMAT if number else codes.REALM_MALFORMED
    assert _code(replaced(VALUE, (1,), number)) is expected


H1, H2, H9 = (hub("h1", 1), hub("h2", 2), hub("h9", 9))
CONTRADICTIONS: list[dict[str, Any]] = [
    {"hubs": (H2, H1, H9)},
    {"hubs": (H1, H1, H2)},
    {"hubs": (H1, hub("h2", 1), H9)},
    {"hubs": (H1, hub("h1", 2), H9)},
    {"threshold": 4},  # as many hubs, but one of them is revoked
    {"threshold": 1},  # any single hub would know every key
    {"threshold": 2, "hubs": (H1, hub("h2", 2, HubStatus.REVOKED))},
    {"threshold": 1, "hubs": (hub("h1", 1, HubStatus.REVOKED),)},
]


@pytest.mark.parametrize("changes", CONTRADICTIONS, ids=repr)
def test_realm_that_contradicts_itself_is_refused_made_here_or_read(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        dataclasses.replace(REALM, **changes)
    assert caught.value.code is codes.REALM_INCONSISTENT
    value = replaced(VALUE, (4,), changes.get("threshold", REALM.threshold))
    if "hubs" in changes:
        value = replaced(value, (8,), [one.to_value() for one in changes["hubs"]])
    assert _code(value) is codes.REALM_INCONSISTENT


@pytest.mark.parametrize(
    "changes",
    [
        {"name": RealmName("Alps")},
        {"epoch": 0},
        {"threshold": 0},
        {"max_age": 0},
        {"overlap": 2**32},
        {"hubs": ()},
        {"hubs": (H1, H2, dataclasses.replace(H9, coordinate=Coordinate(256)))},
        {"hubs": (H1, H2, dataclasses.replace(H9, name=HubName("h 9")))},
        {"hubs": (H1, H2, dataclasses.replace(H9, address="h9"))},
        {"hubs": (H1, H2, dataclasses.replace(H9, attributes=HubAttributes("", "CH", "a", "b", "c")))},
    ],
    ids=repr,
)
def test_realm_that_no_kme_would_read_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        dataclasses.replace(REALM, **changes)
    assert caught.value.code is codes.REALM_MALFORMED


def test_realm_with_a_field_that_no_file_can_hold_is_a_bug_of_the_caller() -> None:
    with pytest.raises(LocalBug):
        dataclasses.replace(REALM, issued=-1)


def test_one_hub_and_a_threshold_of_one_pass() -> None:
    unmediated = dataclasses.replace(REALM, threshold=1, hubs=(H1,))
    assert Realm.from_bytes(unmediated.to_bytes()) == unmediated


LONG = HubAttributes(*["a" * limits.REALM_ATTRIBUTE_CHARACTERS] * 5)
LONG_HUBS = tuple(
    Hub(HubName(f"{point:063d}"), Coordinate(point), HubStatus.ACTIVE, "a" * 249 + ":65535", LONG)
    for point in range(192, 256)
)


def test_as_many_hubs_as_allowed_with_every_field_at_its_longest_fit_the_file() -> None:
    longest = Realm(RealmName("n" * 63), 2**32 - 1, 64, 2**64 - 1, 2**32 - 1, 2**32 - 1, LONG_HUBS)
    data = longest.to_bytes()
    assert limits.REALM_FILE_BYTES - 1024 < len(data) <= limits.REALM_FILE_BYTES
    assert Realm.from_bytes(data) == longest


def test_one_hub_more_than_allowed_is_refused() -> None:
    hubs = [hub(f"h{point}", point).to_value() for point in range(1, 66)]
    assert _code(replaced(VALUE, (8,), hubs)) is codes.REALM_MALFORMED
    assert len(Realm.from_bytes(raw(replaced(VALUE, (8,), hubs[:64]))).hubs) == 64


def test_file_beyond_its_bound_is_refused_unread() -> None:
    assert refusal_of(Realm.from_bytes, bytes(limits.REALM_FILE_BYTES + 1)) is codes.REALM_MALFORMED


def test_revoked_hub_is_found_neither_by_name_nor_by_coordinate() -> None:
    assert REALM.active_hubs == (H1, H2, H9)
    assert REALM.hub_at(Coordinate(9)) == REALM.hub_named(HubName("h9")) == H9
    assert REALM.hub_at(Coordinate(10)) is REALM.hub_named(HubName("h10")) is None
    assert REALM.hub_at(Coordinate(77)) is REALM.hub_named(HubName("h77")) is None
