"""``skex policy``: on files, on homes of daemons that do not run, with every exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skex.base.ids import HubName, KmeName, RealmName
from skex.daemon import homes
from skex.enrol.realm import HubDescription, new_realm
from skex.wire.realm import HubAttributes
from tests.cli.transcripts import skex

POLICY = """\
version = 1

[[hub.allow]]
id = "all"
from = ["north"]
to = ["south"]

[[kme.allow]]
id = "peers"
peers = ["*"]

[[kme.limit]]
id = "apart"
peers = ["*"]
minimum_effective_threshold = 2

[[sae.allow]]
id = "apps"
local = ["app@*"]
remote = ["app@*"]

[[sae.deny]]
id = "late"
local = ["*"]
remote = ["*"]
purposes = ["old"]

[aliases]
"OLD_APP" = "app@north"
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_text(POLICY)
    hubs = [
        HubDescription(HubName(f"hub-{n}"), f"127.0.0.1:{n}", HubAttributes(by, "x", "y", f"of {by}", "skex"))
        for n, by in enumerate("aaabc", 1)
    ]
    realm = new_realm(RealmName("test"), 3, hubs, issued=1_700_000_000)
    (tmp_path / "realm.cbor").write_bytes(realm.to_bytes())
    return tmp_path


def asked(*arguments: str | Path, code: int = 0) -> Any:
    """A command's JSON document, after it ended with a code."""
    done = skex("policy", *arguments, "--json")
    assert done.code == code, done.stderr
    return json.loads(done.stdout)


def test_a_check_names_file_line_severity_and_code_of_everything_odd(files: Path) -> None:
    path = files / "policy.toml"
    path.write_text(
        POLICY + '[[kme.allow]]\npeers = ["south"]\n[[kme.limit]]\npeers = ["*"]\nkey_bytes_max = 16\n'
    )
    found = asked("check", path)
    assert found["counts"] == {"error": 0, "warning": 1, "note": 0}
    assert found["remarks"][0] == {
        "line": 30,
        "severity": "warning",
        "code": "redundant",
        "about": found["remarks"][0]["about"],
        "text": "it changes nothing: kme.allow.peers (line 8) decides all of it, too",
    }
    text = skex("policy", "check", path).stdout
    assert f"{path}:30: warning (redundant): kme.allow#" in text
    assert text.endswith("0 errors, 1 warnings, 0 notes\n")


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [("version = 1\n[[kme.alow]]\n", "policy-invalid", 2), ("version = \n", "policy-syntax", 1)],
)
def test_a_file_with_mistakes_is_refused_with_the_daemons_code(
    files: Path, text: str, code: str, line: int
) -> None:
    (files / "policy.toml").write_text(text)
    found = asked("check", files / "policy.toml", code=3)
    assert (found["remarks"][0]["code"], found["remarks"][0]["line"]) == (code, line)


def test_names_and_a_realm_can_be_given(files: Path) -> None:
    (files / "names").write_text("north\nsoth\n")
    found = asked(
        "check", files / "policy.toml", "--names", files / "names", "--realm", files / "realm.cbor", code=3
    )
    assert [(one["code"], one["about"]) for one in found["remarks"]] == [
        ("unknown-name", "hub.allow.all"),
        ("never-met", "kme.limit.apart"),
    ]
    assert 'did you mean "soth"' in found["remarks"][0]["text"]


def test_a_file_is_asked_for_every_place_of_which_it_has_rules(files: Path) -> None:
    found = asked("test", files / "policy.toml", "--from", "app@north", "--to", "app@south")
    assert found["allowed"]
    assert [one["asked_by"] for one in found["steps"]] == ["hub"] * 2 + ["KME north"] * 2 + ["KME south"] * 4
    assert found["elsewhere"] == []


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        (("--from", "app@north", "--to", "app@south", "--purpose", "old"), "sae.deny.late"),
        (("--from", "OLD_APP", "--to", "app@south", "--purpose", "old", "--role", "slave"), "sae.deny.late"),
        (("--from", "web@north", "--to", "app@south"), "default"),
        (("--from", "app@north", "--to", "app@south", "--number", "129"), "default"),
        (("--from", "app@north", "--to", "app@south", "--size", "2000"), "default"),
        (("--from", "app@north", "--to", "app@south", "--lifetime", "2y"), "default"),
        (("--from", "north", "--to", "south", "--realm", "realm.cbor"), "kme.limit.apart"),
        (("--from", "south", "--to", "north"), "default"),
    ],
)
def test_a_refusal_names_the_rule_that_decides(
    files: Path, more: tuple[str, ...], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    found = asked("test", "policy.toml", *more, code=3)
    assert not found["allowed"]
    assert found["decided_by"]["rule"] == rule
    assert found["decided_by"]["reason"]


def test_a_kme_and_an_sae_are_no_pair(files: Path) -> None:
    done = skex("policy", "test", files / "policy.toml", "--from", "north", "--to", "app@south")
    assert done.code == 2
    assert "two KMEs, or two SAEs" in done.stderr


def test_a_home_decides_for_its_own_place_and_says_who_else_does(files: Path) -> None:
    home = files / "north"
    homes.init_kme(home, KmeName("north"), {})
    (home / "policy.toml").write_text(POLICY)
    found = asked("test", "--home", home, "--from", "app@north", "--to", "app@south")
    assert {one["asked_by"] for one in found["steps"]} == {"KME north"}
    assert len(found["elsewhere"]) == 2
    text = skex("policy", "test", home, "--from", "app@north", "--to", "app@south").stdout
    assert "may app@north have new keys with app@south?" in text
    assert "Others decide, too:" in text
    other = asked("test", home, "--from", "app@east", "--to", "app@west", code=3)
    assert (other["decided_by"], other["allowed"]) == (None, False)
    assert (
        "Nothing of this is decided here."
        in skex("policy", "test", home, "--from", "east", "--to", "west").stdout
    )


def test_a_hubs_home_knows_its_realm_and_reads_no_rules_of_kmes(files: Path) -> None:
    home = files / "hub"
    homes.init_hub(home, HubName("hub-1"), (files / "realm.cbor").read_bytes(), {})
    (home / "policy.toml").write_text(POLICY)
    found = asked("check", home)
    assert [one["code"] for one in found["remarks"]] == [
        "unknown-name",
        "unknown-name",
        "wrong-place",
        "wrong-place",
    ]
    asked_here = asked("test", home, "--from", "north", "--to", "south")
    assert {one["asked_by"] for one in asked_here["steps"]} == {"hub"}


def test_two_files_are_compared_by_meaning(files: Path) -> None:
    other = files / "other.toml"
    other.write_text(
        POLICY.replace('from = ["north"]', 'from = ["*"]').replace("threshold = 2", "threshold = 3")
    )
    found = asked("diff", files / "policy.toml", other)
    assert {one["change"] for one in found["differences"]} == {"newly-allowed", "limit-changed"}
    text = skex("policy", "diff", files / "policy.toml", other).stdout
    assert "newly allowed:\n  hub: *; south to south" in text or "newly allowed:\n  hub: * to south" in text
    assert "minimum_effective_threshold: 2 -> 3 (kme.limit.apart, line 12)" in text
    same = skex("policy", "diff", other, other).stdout
    assert same == "They decide everything alike.\n"


def test_a_home_without_a_daemon_is_compared_with_a_file_and_not_with_itself(files: Path) -> None:
    home = files / "north"
    homes.init_kme(home, KmeName("north"), {})
    found = asked("diff", files / "policy.toml", "--home", home)
    assert found["differences"]
    done = skex("policy", "diff", "--home", home)
    assert done.code == 3
    assert "daemon-refused" in done.stderr


def test_a_directory_that_is_no_home_is_refused(files: Path) -> None:
    done = skex("policy", "check", files)
    assert (done.code, "config-missing" in done.stderr) == (3, True)
