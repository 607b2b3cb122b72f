"""The table of codes: complete, sorted, and each name defined once."""

from __future__ import annotations

import pytest

from skex.base import codes
from skex.base.errors import Family


def test_all_codes_are_sorted_by_name() -> None:
    names = [code.name for code in codes.all_codes()]
    assert names == sorted(set(names))
    assert codes.BAD_ARGUMENT.name in names


def test_second_definition_of_a_name_is_refused_and_the_first_kept() -> None:
    before = codes.all_codes()
    with pytest.raises(ValueError, match="error code busy is defined twice"):
        codes._code(Family.BUG, codes.BUSY.name, "Another meaning.", "Another hint.", "")
    assert codes.all_codes() == before


def test_code_that_says_nothing_of_its_own_has_its_familys_effect() -> None:
    plain = codes.RECORD_TAG.effect
    assert plain == codes.RECORD_LENGTH.effect
    assert plain != codes.BUSY.effect != codes.STORE_IO.effect
    assert codes.PAD_EXHAUSTED.effect.startswith("Nothing more is sealed in this direction")


def test_bugs_are_named_as_bugs_and_nothing_else_is_but_pad_reuse() -> None:
    bugs = {code.name for code in codes.all_codes() if code.family is Family.BUG}
    assert {name for name in bugs if not name.startswith("bug-")} <= {"pad-reuse"}
    assert not [
        code.name for code in codes.all_codes() if code.name.startswith("bug-") and code.name not in bugs
    ]
