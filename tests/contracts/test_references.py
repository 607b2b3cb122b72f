"""The references of policies and of the audit log say what the code does, and their examples work."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from skex.base import limits
from skex.base.ids import KmeName
from skex.policy import language
from skex.policy.evaluate import load
from skex.wire.context import Purpose

ROOT = Path(__file__).resolve().parents[2]
POLICY = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
AUDIT = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", POLICY, re.DOTALL)


@pytest.fixture
def references(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool that writes the tables; tools are scripts, reachable only from their folder."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("references")


def test_generated_tables_are_current() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "references.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, f"{result.stdout}{result.stderr}run: python tools/references.py"


def test_every_table_stands_in_exactly_one_page(references: ModuleType) -> None:
    generated = importlib.import_module("generated")
    names = [*generated.part_names(POLICY), *generated.part_names(AUDIT)]
    assert sorted(names) == sorted(references.PARTS)


def test_default_that_the_text_states_wrongly_is_found(references: ModuleType) -> None:
    altered = POLICY.replace("| 604,800 |", "| 604,801 |")
    assert altered != POLICY
    assert references.regenerate(altered) == POLICY


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_is_sound(example: str) -> None:
    assert language.problems_in(example.encode()) == ()


def test_hub_example_decides_as_the_text_says() -> None:
    hub = load(EXAMPLES[0].encode(), "policy.toml").hub

    def rule(sender: str, receiver: str) -> tuple[bool, str]:
        decision = hub.may_establish(KmeName(sender), KmeName(receiver), Purpose.TRAFFIC)
        return decision.allowed, decision.rule

    assert rule("site-7", "centre") == (True, "hub.allow.branches-and-centre")
    assert rule("site-7", "site-8") == (False, "default")
    assert rule("site-13", "centre") == (False, "hub.deny.stolen-2030-05")
    assert rule("centre", "site-13") == (False, "hub.deny.stolen-2030-05")


def test_messages_in_the_text_are_what_mistakes_give() -> None:
    text = (
        'version = 1\n[[hub.allow]]\nfrom = ["a"]\nto = ["b"]\n[[hub.allow]]\nfrom = ["a"]\n'
        'purposes = ["trafic"]\nto = ["b"]\n\n[[kme.limit]]\npeers = ["*"]\nminimum_treshold = 3\n'
    )
    found = [f"policy.toml: {problem}" for problem in language.problems_in(text.encode())]
    assert re.findall(r"^policy\.toml: line .*$", POLICY, re.MULTILINE) == found


def test_numbers_in_the_prose_are_those_of_the_code() -> None:
    prose = {
        POLICY: [
            f"up to {limits.POLICY_GROUP_DEPTH} deep",
            f"up to {limits.POLICY_PROBLEMS} mistakes",
            f"1 to {limits.POLICY_ALIAS_CHARACTERS} printable",
            f"({limits.PEER_FLOOR_BYTES:,} bytes)",
        ],
        AUDIT: [
            f"at most {limits.AUDIT_RECORD_BYTES:,} bytes",
            f"closed at {limits.AUDIT_SEGMENT_BYTES // 1024**2} MiB",
            f"first {limits.AUDIT_SAMPLE_BURST} in {limits.AUDIT_SAMPLE_SECONDS} seconds",
        ],
    }
    for page, phrases in prose.items():
        text = " ".join(page.split())
        assert [phrase for phrase in phrases if phrase not in text] == []
