"""``skex operator list|test`` on a home, and the homes of others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skex.base.ids import KmeName
from skex.daemon.homes import init_kme
from tests.cli.transcripts import done, skex

POLICY = """version = 1
[[operator.role]]
id = "clerk"
commands = ["status", "kit-import"]
[[operator.allow]]
id = "clerks"
users = ["uid-41001"]
unix_groups = ["clerks"]
roles = ["clerk"]
[[operator.deny]]
users = ["uid-41002"]
commands = ["*"]
[[operator.dual]]
id = "kits"
commands = ["kit-import"]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "north"
    init_kme(made, KmeName("north"), {})
    (made / "policy.toml").write_text(POLICY)
    return made


def test_list_shows_roles_rules_and_what_needs_two(home: Path) -> None:
    data = done("operator", "list", "--home", home)
    assert set(data["roles"]) == {"viewer", "operator", "security-officer", "auditor", "clerk"}
    assert data["rules"][0]["rule"] == "operator.allow.clerks"
    assert data["dual"] == [{"rule": "operator.dual.kits", "commands": ["kit-import"]}]
    text = skex("operator", "list", "--home", home).stdout
    assert "group clerks" in text
    assert "kit-import, status" in text
    (home / "policy.toml").write_text("version = 1\n")
    text = skex("operator", "list", "--home", home).stdout
    assert "nobody but the daemon's own user and root" in text


@pytest.mark.parametrize(
    ("words", "code", "rule", "dual"),
    [
        (("uid-41001", "kit-import"), 0, "operator.allow.clerks", "operator.dual.kits"),
        (("uid-41001", "reload"), 3, "default", None),
        (("uid-41003", "status", "--unix-group", "clerks"), 0, "operator.allow.clerks", None),
        (("uid-41003", "status"), 3, "default", None),
        (("root", "reload"), 0, "owner", None),
    ],
)
def test_test_names_the_rule_that_decides(
    home: Path, words: tuple[str, ...], code: int, rule: str, dual: str | None
) -> None:
    answer = skex("operator", "test", *words, "--home", home, "--json")
    assert (answer.code, answer.data["rule"], answer.data["dual_rule"]) == (code, rule, dual)
    assert answer.data["allowed"] is (code == 0)


def test_text_says_who_what_and_where(home: Path) -> None:
    text = skex("operator", "test", "uid-41001", "kit-import", "--home", home).stdout
    assert text.splitlines() == [
        "allowed: uid-41001, kit-import: allowed by a rule (operator.allow.clerks, line 5)",
        "It needs two persons (operator.dual.kits); root and the daemon's own user are none.",
    ]


def test_user_that_this_machine_does_not_know_is_a_mistake_on_the_line(home: Path) -> None:
    answer = skex("operator", "test", "no-such-user-here", "status", "--home", home)
    assert answer.code == 2
    assert "uid-NUMBER" in answer.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_home_of_somebody_else_is_named_with_the_way_to_ask_its_daemon(home: Path) -> None:
    skex("kme", "status", "--home", home, "--json")  # imports all that it takes, as who owns the tree
    before = os.geteuid()
    os.seteuid(41_001)
    try:
        answer = skex("kme", "status", "--home", home, "--json")
    finally:
        os.seteuid(before)
    assert (answer.code, answer.error["code"]) == (3, "config-missing")
    assert "--socket" in answer.error["detail"]
