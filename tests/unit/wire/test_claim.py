from __future__ import annotations

import pytest

from skex.base import codes
from skex.base.ids import Coordinate
from skex.wire.claim import Claim, ClaimClass, Enrolment, Randomness, ascending_coordinates
from skex.wire.codec import Fields, decode, encode
from tests.unit.wire.support import raw, refusal_of


def _claim(*coordinates: int) -> Claim:
    return Claim(tuple(map(Coordinate, coordinates)), Randomness.SYSTEM, Enrolment.COMPONENTS)


def _read(data: bytes) -> Claim:
    return Claim.from_fields(Fields(decode(data, 1000)))


def test_claim_is_laid_out_as_specified() -> None:
    assert encode(_claim(2, 9).to_value()).hex() == "834202090100"


@pytest.mark.parametrize("enrolment", Enrolment)
@pytest.mark.parametrize("randomness", Randomness)
def test_every_claim_is_read_back(randomness: Randomness, enrolment: Enrolment) -> None:
    claim = Claim((Coordinate(1), Coordinate(255)), randomness, enrolment)
    assert _read(encode(claim.to_value())) == claim


@pytest.mark.parametrize("coordinates", [b"\x00", b"\x00\x01", b"\x01\x01", b"\x02\x01", b"\x01\x03\x02"])
def test_coordinates_that_repeat_or_are_out_of_order_or_zero_are_refused(coordinates: bytes) -> None:
    assert refusal_of(ascending_coordinates, coordinates) is codes.BODY_RANGE
    assert refusal_of(_read, raw([coordinates, 0, 0])) is codes.BODY_RANGE


def test_no_coordinate_and_the_most_pass_and_one_more_is_refused() -> None:
    assert ascending_coordinates(b"") == ()
    assert len(_read(raw([bytes(range(1, 65)), 0, 0])).computational) == 64
    assert refusal_of(_read, raw([bytes(range(1, 66)), 0, 0])) is codes.BODY_RANGE


@pytest.mark.parametrize("value", [[b"", 2, 0], [b"", 0, 3]])
def test_unknown_randomness_or_enrolment_is_refused(value: list[object]) -> None:
    assert refusal_of(_read, raw(value)) is codes.BODY_RANGE


@pytest.mark.parametrize(
    "value", [[], [b""], [b"", 0], [b"", 0, 0, 0], [[], 0, 0], ["", 0, 0], [b"", None, 0]]
)
def test_claim_of_another_shape_is_refused(value: list[object]) -> None:
    assert refusal_of(_read, raw(value)) is codes.BODY_MALFORMED


def test_joined_claim_is_the_weaker_of_both_in_every_respect() -> None:
    here = Claim((Coordinate(1), Coordinate(3)), Randomness.SYSTEM, Enrolment.COMPONENTS)
    there = Claim((Coordinate(2), Coordinate(3)), Randomness.SYSTEM_XOR_OTHER, Enrolment.UNDER_PASSPHRASE)
    expected = Claim(
        (Coordinate(1), Coordinate(2), Coordinate(3)), Randomness.SYSTEM, Enrolment.UNDER_PASSPHRASE
    )
    assert here.joined(there) == there.joined(here) == expected
    assert isinstance(expected.to_value(), list)


@pytest.mark.parametrize(
    ("broken", "threshold", "margin", "kind"),
    [
        (0, 3, 3, ClaimClass.INFORMATION_THEORETIC),
        (2, 3, 1, ClaimClass.INFORMATION_THEORETIC),
        (3, 3, 0, ClaimClass.COMPUTATIONAL),
        (5, 3, 0, ClaimClass.COMPUTATIONAL),
    ],
)
def test_claim_stays_information_theoretic_only_while_a_hub_must_still_be_corrupted(
    broken: int, threshold: int, margin: int, kind: ClaimClass
) -> None:
    claim = _claim(*range(1, broken + 1))
    assert claim.margin(threshold) == margin
    assert claim.claim_class(threshold) is kind
