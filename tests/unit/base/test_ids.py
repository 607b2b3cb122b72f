"""Names that look alike are alike, and nothing else gets in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skex.base import codes, limits
from skex.base.errors import Refused
from skex.base.ids import (
    BatchId,
    Direction,
    Incarnation,
    kme_of,
    parse_hub_name,
    parse_kme_name,
    parse_realm_name,
    parse_sae_id,
)

PARSERS = [parse_realm_name, parse_hub_name, parse_kme_name]
LONGEST = "a" * limits.NAME_CHARACTERS
# What an attacker, a typing error or a careless script might pass off as a name.
BAD_NAMES = {
    "empty": "",
    "one character too long": LONGEST + "a",
    "upper case": "Berlin",
    "upper case inside": "berLin",
    "leading dash, like an option": "-berlin",
    "trailing dash": "berlin-",
    "leading dot": ".berlin",
    "trailing dot": "berlin.",
    "leading underscore": "_berlin",
    "dot alone": ".",
    "two dots, like a directory": "..",
    "slash": "a/b",
    "backslash": "a\\b",
    "space": "a b",
    "leading space": " a",
    "trailing space": "a ",
    "trailing newline": "berlin\n",
    "newline inside": "ber\nlin",
    "carriage return": "berlin\r",
    "null byte": "berlin\x00",
    "colon": "a:b",
    "at sign": "a@b",
    "percent sign": "a%41",
    "quote": "a'b",
    "Cyrillic a": "b\u0430d",
    "fullwidth a": "\uff41bc",
    "dotless i": "berl\u0131n",
    "sharp s": "stra\u00dfe",
    "Arabic digit": "hub\u0661",
    "superscript digit": "hub\u00b2",
    "combining accent": "cafe\u0301",
    "zero-width joiner": "a\u200db",
    "right-to-left override": "a\u202eb",
    "non-breaking hyphen": "a\u2011b",
    "long s, which folds to s": "\u017feattle",
    "Kelvin sign, which folds to k": "\u212aiel",
}


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "name", ["a", "7", "berlin", "a.b-c_d", "hub-1.example", "0a", "a--b", "a..b", LONGEST]
)
def test_name_of_the_allowed_form_is_returned_unchanged(parse: Callable[[str], str], name: str) -> None:
    assert parse(name) == name


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_name_of_another_form_is_refused_without_being_repeated(
    parse: Callable[[str], str], name: str
) -> None:
    with pytest.raises(Refused) as caught:
        parse(name)
    assert caught.value.code is codes.NAME_INVALID
    # Untrusted text must not reach a log or a terminal through the error.
    assert len(name) < 3 or name not in caught.value.detail


@pytest.mark.parametrize(
    "text",
    ["fw@berlin", "a@b", "0.1_2@kme-7.example", f"{LONGEST}@{LONGEST}"],
)
def test_qualified_sae_id_is_returned_unchanged_and_names_its_kme(text: str) -> None:
    sae = parse_sae_id(text)
    assert sae == text
    assert kme_of(sae) == text.split("@")[1]


@pytest.mark.parametrize("kme", [name for name in BAD_NAMES.values() if "@" not in name])
def test_sae_id_with_a_bad_kme_is_refused(kme: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_sae_id(f"fw@{kme}")
    assert caught.value.code is codes.NAME_INVALID


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("berlin", id="bare legacy name without @"),
        pytest.param("@berlin", id="no local part"),
        pytest.param("fw@", id="no KME"),
        pytest.param("@", id="@ alone"),
        pytest.param("fw@berlin@paris", id="two KMEs"),
        pytest.param("fw@@berlin", id="doubled @"),
        pytest.param(f"{LONGEST}a@berlin", id="local part one character too long"),
        pytest.param(f"fw@{LONGEST}a", id="KME one character too long"),
        pytest.param("fw@berlin\n", id="trailing newline"),
        pytest.param("fw\n@berlin", id="newline before @"),
        pytest.param(" fw@berlin", id="leading space"),
        pytest.param("-fw@berlin", id="leading dash, like an option"),
        pytest.param("fw-@berlin", id="trailing dash"),
        pytest.param("f/w@berlin", id="slash, like a path"),
        pytest.param("f%2fw@berlin", id="escaped slash"),
        pytest.param("f\u0430w@berlin", id="Cyrillic a"),
        pytest.param("fw\uff20berlin", id="fullwidth @"),
        pytest.param("fw\x00@berlin", id="null byte"),
        pytest.param("fw@Berlin", id="upper-case KME"),
        pytest.param("FW@berlin", id="upper-case local part"),
        pytest.param("f~w@berlin", id="tilde"),
    ],
)
def test_sae_id_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_sae_id(text)
    assert caught.value.code is codes.NAME_INVALID


def test_directions_are_each_others_opposite_and_keep_their_numbers() -> None:
    assert (Direction.TO_HUB, Direction.TO_KME) == (0, 1)
    assert Direction.TO_HUB.opposite is Direction.TO_KME
    assert Direction.TO_KME.opposite is Direction.TO_HUB


@pytest.mark.parametrize("counter", [0, 1, 2**32, 2**64 - 1])
def test_batch_id_survives_its_bytes(counter: int) -> None:
    batch = BatchId(Incarnation(bytes(range(16))), counter)
    data = batch.to_bytes()
    assert len(data) == BatchId.LENGTH
    assert data == bytes(range(16)) + counter.to_bytes(8, "big")
    assert BatchId.from_bytes(data) == batch


def test_batch_ids_order_by_incarnation_then_counter() -> None:
    low, high = Incarnation(bytes(16)), Incarnation(b"\x01" + bytes(15))
    ordered = [BatchId(low, 1), BatchId(low, 256), BatchId(high, 0)]
    assert sorted([ordered[2], ordered[1], ordered[0]]) == ordered
    assert sorted(ordered, key=BatchId.to_bytes) == ordered


def test_batch_id_reads_as_incarnation_and_counter() -> None:
    assert str(BatchId(Incarnation(b"\xab" * 16), 7)) == "ab" * 16 + ":7"
