"""One tree of errors: a code belongs to one family, and the text says the code."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from skex.base import codes
from skex.base.errors import (
    DeliveryFault,
    ErrorCode,
    Family,
    LocalBug,
    PeerFault,
    Refused,
    SkexError,
    StoreFault,
)

BRANCHES: dict[Family, type[SkexError]] = {
    Family.BUG: LocalBug,
    Family.PEER: PeerFault,
    Family.STORE: StoreFault,
    Family.REFUSED: Refused,
    Family.DELIVERY: DeliveryFault,
}


def test_every_family_has_one_branch_of_the_tree() -> None:
    assert set(BRANCHES) == set(Family)
    assert {branch.family for branch in SkexError.__subclasses__()} == set(Family)
    for family, branch in BRANCHES.items():
        assert branch.family is family
        assert issubclass(branch, SkexError)


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("code_family", Family)
def test_code_of_another_family_is_refused(family: Family, code_family: Family) -> None:
    code = ErrorCode("test-code", code_family, "A sentence.", "A hint.")
    if family is code_family:
        assert BRANCHES[family](code).code is code
        return
    with pytest.raises(TypeError, match=r"test-code does not belong to"):
        BRANCHES[family](code)


@pytest.mark.parametrize("code", codes.all_codes(), ids=lambda code: code.name)
def test_every_code_can_be_raised_and_names_itself(code: ErrorCode) -> None:
    with pytest.raises(SkexError) as caught:
        raise BRANCHES[code.family](code)
    assert caught.value.code is code
    assert caught.value.detail == ""
    assert str(caught.value) == f"{code.name}: {code.sentence}"


def test_detail_follows_the_sentence() -> None:
    error = Refused(codes.BUSY, "queue of 7")
    assert error.detail == "queue of 7"
    assert str(error) == f"busy: {codes.BUSY.sentence} (queue of 7)"


def test_code_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        codes.BUSY.name = "other"  # type: ignore[misc]  # the mistake under test


def test_an_error_crosses_to_another_process_with_its_code_and_detail() -> None:
    error = Refused(codes.NAME_INVALID, "hub name of 0 characters")
    twin = copy.copy(error)
    assert type(twin) is Refused
    assert (twin.code, twin.detail) == (error.code, error.detail)
    assert str(twin) == str(error)
