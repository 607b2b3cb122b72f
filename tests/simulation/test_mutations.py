"""The checkers can fail: each of many planted bugs is seen, soon, and by the checker whose rule it breaks."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from simulation.checkers import Checkers
from simulation.world import make_realm
from tests.simulation.mutation_table import PLANTED, SETTINGS, Caught, Planted, play

ROOT = Path(__file__).parents[2]
DEEP = os.environ.get("SKEX_HYPOTHESIS_PROFILE") == "deep"
SWEEP = range(1, 11)
LEAST = 2
"""From so many of the sweep's seeds each bug must be seen."""


@cache
def without_a_bug(setting: str, seed: int) -> Caught | None:
    """The same run as with any bug of this setting, with none, and as long as the longest of them."""
    return play(SETTINGS[setting], seed, max(one.steps for one in PLANTED if one.setting == setting))


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_planted_bug_is_caught_and_the_same_run_without_it_breaks_no_rule(planted: Planted) -> None:
    others = []
    for seed in range(1, planted.seeds + 1):
        assert without_a_bug(planted.setting, seed) is None
        caught = play(SETTINGS[planted.setting], seed, planted.steps, planted.apply)
        if caught is not None and caught.checker == planted.caught_by:
            assert caught.step <= planted.steps
            return
        others.append(caught)
    pytest.fail(f"survived {planted.seeds} seeds: {others}")


@pytest.mark.skipif(not DEEP, reason="the broad sweep is for make test-deep")
@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_planted_bug_is_caught_from_several_seeds_of_a_sweep(planted: Planted) -> None:
    caught: list[Caught | None] = []
    for seed in SWEEP:
        assert without_a_bug(planted.setting, seed) is None
        caught.append(play(SETTINGS[planted.setting], seed, planted.steps, planted.apply))
        if sum(one is not None for one in caught) == LEAST:
            return
    pytest.fail(f"survived all but {LEAST - 1} of {len(SWEEP)} seeds: {caught}")


def test_every_checker_has_a_bug_that_it_catches() -> None:
    names = [one.name for one in Checkers(make_realm()).all]
    assert len(set(names)) == len(names)
    assert set(names) == {planted.caught_by for planted in PLANTED}


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
