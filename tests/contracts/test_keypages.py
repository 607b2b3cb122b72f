"""The pages on keys and rekeying say what the code does, and every snippet of policy is one."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from skex.base.ids import KmeName, SaeId
from skex.cli import skex_command
from skex.keys.guide import CONSUMERS, RESERVE_AGE_SECONDS, Consumer, reserve_snippet
from skex.keys.states import TABLE
from skex.keys.uses import USES
from skex.policy.evaluate import load
from skex.policy.rules import Direction, Role
from skex.policy.wording import NUMBER_MAX
from skex.wire.claim import ClaimClass

ROOT = Path(__file__).resolve().parents[2]
KEYS, REKEYING = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("keys.md", "rekeying.md"))
SNIPPETS = re.findall(r"```toml\n(.*?)```", REKEYING, re.DOTALL)


@pytest.fixture
def keypages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("keypages")


def test_generated_parts_of_both_pages_are_current() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "keypages.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, f"{result.stdout}{result.stderr}run: python tools/keypages.py"


def test_every_generated_part_stands_in_exactly_one_page(keypages: ModuleType) -> None:
    generated = importlib.import_module("generated")
    names = [name for page in (KEYS, REKEYING) for name in generated.part_names(page)]
    assert sorted(names) == sorted(keypages.PARTS)


def test_a_number_that_was_edited_by_hand_is_found(keypages: ModuleType) -> None:
    altered = REKEYING.replace("use_seconds_max = 120", "use_seconds_max = 1200")
    assert altered != REKEYING
    assert keypages.regenerate(altered) == REKEYING


def test_the_diagram_has_every_transition() -> None:
    for (state, step), later in TABLE.items():
        line = f"{state.name} --> {later.name}: {step.name.lower().replace('_', ' ')}"
        assert line in KEYS, line


# ── executable defaults ─────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("one", CONSUMERS.values(), ids=lambda one: one.name)
def test_the_snippet_of_a_consumer_sets_the_numbers_that_its_row_states(one: Consumer) -> None:
    assert one.snippet() in SNIPPETS
    policy = load(f"version = 1\n\n{one.snippet('app@site-a', '*@site-b')}".encode(), "policy.toml")
    app, other = SaeId("app@site-a"), SaeId("x@site-b")
    for role in (Role.MASTER, Role.SLAVE):
        bounds = policy.sae.bounds(app, other, role)
        assert bounds.use_seconds_max.value == one.use_seconds
        assert bounds.uses_max.value == (NUMBER_MAX if one.uses is None else one.uses)
        assert bounds.lifetime_seconds_max.value == one.wait_seconds
        assert bounds.key_bytes_min.value == one.key_bytes
    assert (
        policy.sae.bounds(SaeId("other@site-a"), other, Role.MASTER).use_seconds_max.value != one.use_seconds
    )
    assert f"| {one.use_seconds:,} |" in REKEYING


def test_the_snippet_of_reserves_sets_their_age() -> None:
    assert reserve_snippet() in SNIPPETS
    policy = load(f"version = 1\n\n{reserve_snippet()}".encode(), "policy.toml")
    bounds = policy.kme.bounds(KmeName("site-b"), Direction.TO_PEER)
    assert bounds.reserve_age_seconds_max.value == RESERVE_AGE_SECONDS


def test_all_snippets_together_are_one_policy() -> None:
    policy = load(f"version = 1\n\n{''.join(SNIPPETS)}".encode(), "policy.toml")
    assert len(policy.policy.rules) == len(SNIPPETS)
    assert len(SNIPPETS) == len(CONSUMERS) + 1


def test_no_default_is_above_the_bound_of_a_standard() -> None:
    for one in CONSUMERS.values():
        for what, number in one.limits.items():
            if what.startswith("seconds"):
                assert one.use_seconds <= number, (one.name, what)
            if what.startswith("messages") and one.uses is not None:
                assert one.uses <= number, (one.name, what)
    assert CONSUMERS["aes-gcm-data"].uses == 2**32
    # RFC 8446, section 5.5: 2^24.5 full-size records.
    records = CONSUMERS["tls13-psk"].limits["records before a KeyUpdate (2^24.5)"]
    assert records**2 <= 2**49 < (records + 1) ** 2


def test_the_command_prints_the_same_numbers_and_a_rule_that_can_be_appended(tmp_path: Path) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(skex_command, ["key", "guide", *words], standalone_mode=False)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    for one in CONSUMERS.values():
        assert run(one.name) == one.snippet()
        assert json.loads(run(one.name, "--json"))["policy"] == one.snippet()
        assert str(one.use_seconds) in run()
    everything = json.loads(run("--json"))
    assert [one["consumer"] for one in everything["consumers"]] == list(CONSUMERS)
    assert everything["reserves"] == reserve_snippet()
    rule = run("wireguard-psk", "--local", "wg@site-a", "--remote", "@tunnels")
    assert 'local = ["wg@site-a"]\nremote = ["@tunnels"]\n' in rule


@pytest.mark.parametrize("words", [("nonsense",), ("tls13-psk", "--local", "bare"), ("--remote", 'x"]')])
def test_what_is_no_consumer_or_pattern_is_a_usage_error(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(skex_command, ["key", "guide", *words]).exit_code == 2


# ── what becomes of a class ─────────────────────────────────────────────────────────────────────
def test_no_use_makes_a_key_stronger_and_only_the_pad_keeps_its_class() -> None:
    for use in USES.values():
        for claim in ClaimClass:
            assert use.result(claim) >= claim
        kept = use.result(ClaimClass.INFORMATION_THEORETIC) is ClaimClass.INFORMATION_THEORETIC
        assert kept == (use.name == "one-time-pad")
        assert f"| `{use.name}` |" in KEYS
