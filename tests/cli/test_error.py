"""The error book at the command line: every code explained, a wrong one met with the right spelling."""

from __future__ import annotations

import pytest

from skex.base import codes
from skex.base.errors import ErrorCode, Family
from tests.cli.transcripts import done, refused, skex


@pytest.mark.parametrize("code", codes.all_codes(), ids=lambda code: code.name)
def test_every_code_is_explained_as_it_is_raised(code: ErrorCode) -> None:
    assert done("error", "show", code.name) == {
        "code": code.name,
        "family": code.family.value,
        "cause": code.sentence,
        "effect": code.effect,
        "remedy": code.hint,
        "exit_code": {"bug": 1, "refused": 3, "store": 4, "peer": 5, "delivery": 6}[code.family.value],
    }


def test_people_read_it_in_five_lines() -> None:
    assert skex("error", "show", "pad-exhausted").stdout == (
        "code       pad-exhausted\n"
        "cause      The pad has no material left.\n"
        "effect     Nothing more is sealed in this direction; other links go on.\n"
        "remedy     Refill the pad or re-enrol the link.\n"
        "exit code  3 (refused)\n"
    )


@pytest.mark.parametrize(
    ("asked", "said"), [("pad-exausted", "Did you mean pad-exhausted"), ("x", "'skex error list' lists all")]
)
def test_code_that_does_not_exist_is_met_with_what_does(asked: str, said: str) -> None:
    answer = skex("error", "show", asked)
    assert (answer.code, answer.stdout) == (2, "")
    assert said in answer.stderr
    assert refused("error", "show", asked) == (2, "usage")


def test_list_has_every_code_or_those_of_a_family() -> None:
    listed = [one["code"] for one in done("error", "list")["codes"]]
    assert listed == [code.name for code in codes.all_codes()]
    stores = [one["code"] for one in done("error", "list", "--family", "store")["codes"]]
    assert stores == [code.name for code in codes.all_codes() if code.family is Family.STORE]
    assert "store-io  " in skex("error", "list").stdout
