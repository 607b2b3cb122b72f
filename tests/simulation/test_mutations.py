"""The checkers can fail: each of many planted bugs is seen, soon, and by the checker whose rule it breaks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.checkers import Checkers
from simulation.world import make_realm
from tests.simulation.mutation_table import PLANTED, SETTINGS, Planted, play

ROOT = Path(__file__).parents[2]
DEEP = os.environ.get("SKEX_HYPOTHESIS_PROFILE") == "deep"
SWEEP = range(1, 13)
LEAST = 3
"""From so many of the sweep's seeds each bug must be seen; the table's own are the quickest of them."""


def runs() -> list[tuple[str, int, int]]:
    """Every run of the table without its bug, and for as many steps as any bug gets in it."""
    longest: dict[tuple[str, int], int] = {}
    for planted in PLANTED:
        for seed in planted.seeds:
            key = (planted.setting, seed)
            longest[key] = max(longest.get(key, 0), planted.steps)
    return [(*key, steps) for key, steps in longest.items()]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_planted_bug_is_caught_from_every_seed_of_the_table(planted: Planted) -> None:
    for seed in planted.seeds:
        caught = play(SETTINGS[planted.setting], seed, planted.steps, planted.apply)
        assert caught is not None, f"seed {seed}: survived"
        assert caught.checker == planted.caught_by, f"seed {seed}: {caught.message}"
        assert caught.step <= planted.steps


@pytest.mark.parametrize(("setting", "seed", "steps"), runs())
def test_same_run_without_the_bug_breaks_no_rule(setting: str, seed: int, steps: int) -> None:
    assert play(SETTINGS[setting], seed, steps) is None


@pytest.mark.skipif(not DEEP, reason="the broad sweep is for make test-deep")
@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_planted_bug_is_caught_from_several_seeds_of_a_sweep(planted: Planted) -> None:
    setting, steps = SETTINGS[planted.setting], 2 * planted.steps
    caught = [play(setting, seed, steps, planted.apply) for seed in SWEEP]
    assert sum(one is not None for one in caught) >= LEAST, caught
    assert [play(setting, seed, steps) for seed in SWEEP] == [None] * len(SWEEP)


def test_every_checker_has_a_bug_that_it_catches() -> None:
    names = [one.name for one in Checkers(make_realm()).all]
    assert len(set(names)) == len(names)
    assert set(names) - {planted.caught_by for planted in PLANTED} <= UNIT_TESTED


UNIT_TESTED = {"delivered-once", "first-answer-stays"}
"""Checkers whose rules also the layers below keep: a single planted bug does not get through to them."""


def test_documented_table_is_current() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "mutations.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, f"{result.stdout}{result.stderr}run: make docs"
