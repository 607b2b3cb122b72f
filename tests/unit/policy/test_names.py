"""Patterns match what they say, in linear time; whatever cannot be a name is refused with the right form."""

from __future__ import annotations

import pytest

from skex.policy import names
from skex.policy.names import NameProblem, Names, matches


@pytest.mark.parametrize(
    ("pattern", "text", "outcome"),
    [
        ("site-1", "site-1", True),
        ("site-1", "site-11", False),
        ("*", "anything", True),
        ("site-*", "site-", True),
        ("site-*", "site-1", True),
        ("site-*", "a-site-1", False),
        ("*-1", "site-1", True),
        ("*-1", "site-12", False),
        ("a*b*c", "abc", True),
        ("a*b*c", "axxbyyc", True),
        ("a*b*c", "acb", False),
        ("a*b*c", "axc", False),
        ("ab*ba", "aba", False),
        ("**", "x", True),
        ("vpn@site-*", "vpn@site-7", True),
        ("*@site-7", "vpn@site-7", True),
        ("*@site-7", "vpn@site-77", False),
        ("site.1", "site-1", False),
    ],
)
def test_pattern_matches_exactly_what_it_says(pattern: str, text: str, outcome: bool) -> None:
    assert matches(pattern, text) is outcome
    assert (text in Names.of([pattern, "other"])) is outcome


def test_pattern_of_a_hostile_author_takes_no_more_than_linear_time() -> None:
    assert not matches("a*" * 31 + "b", "a" * 63)


@pytest.mark.parametrize("pattern", ["site-1", "*", "site-*", "a.b_c-9", "@branch", "x" * 63])
def test_kme_pattern_is_accepted(pattern: str) -> None:
    names.check_kme(pattern)


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("Site", "lower-case"),
        ("", "lower-case"),
        ("-a", "lower-case"),
        ("a?", "lower-case"),
        ("x" * 64, "at most 63"),
        ("vpn@site", "behind the '@'"),
        ("@@branch", "behind the '@'"),
        ("@", "name of a group"),
        ("@Branch", "name of a group"),
    ],
)
def test_what_is_no_kme_pattern_is_refused_with_the_right_form(pattern: str, hint: str) -> None:
    with pytest.raises(NameProblem, match=hint):
        names.check_kme(pattern)


@pytest.mark.parametrize(
    "pattern", ["*", "vpn@site-1", "*@*", "v*@site-*", "@gateways", "*@@branch", "vpn@@branch"]
)
def test_sae_pattern_is_accepted(pattern: str) -> None:
    names.check_sae(pattern)


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("vpn", r"write 'vpn@\*'"),
        ("", "name@kme"),
        ("Vpn@site", "before the '@'"),
        ("vpn@", "lower-case"),
        ("vpn@a@b", "lower-case"),
        ("vpn@@", "name of a group"),
        ("@", "name of a group"),
        ("@@", "name of a group"),
    ],
)
def test_what_is_no_sae_pattern_is_refused_with_the_right_form(pattern: str, hint: str) -> None:
    with pytest.raises(NameProblem, match=hint):
        names.check_sae(pattern)
