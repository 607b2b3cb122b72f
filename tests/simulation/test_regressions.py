"""Worlds that broke a rule once stay whole, and a world that breaks one says the line that keeps it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter

import pytest

from simulation.__main__ import main
from simulation.rules import RuleBrokenError
from simulation.scenarios import SCENARIOS
from simulation.sweeping import Outcome, Report, run_one, sweep
from simulation.world import World
from tests.simulation import mutations
from tests.simulation.regressions import REGRESSIONS, Regression

PRINTED = re.compile(r"^keep:\s+(Regression\(.*\)),", re.MULTILINE)


@pytest.mark.parametrize("case", REGRESSIONS, ids=lambda case: f"{case.scenario}-{case.seed}-{case.steps}")
def test_what_broke_a_rule_once_breaks_none_now(case: Regression) -> None:
    World(case.seed, case.scenario).run(case.steps)


def test_every_case_names_a_scenario_and_says_what_was_broken_once() -> None:
    for case in REGRESSIONS:
        assert case.scenario in SCENARIOS
        assert case.broken
        assert "what was broken" not in case.broken
    assert max(Counter((case.scenario, case.seed) for case in REGRESSIONS).values(), default=1) == 1


def test_a_world_that_breaks_a_rule_prints_a_line_that_breaks_it_again_and_only_with_the_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        mutations.used_before_confirmed(patch)
        patch.setattr(
            "sys.argv", ["simulation", "run", "--seed", "3", "--steps", "900", "--scenario", "calm", "--json"]
        )
        assert main() == 1
        said = capsys.readouterr()
        assert json.loads(said.out)["ok"] is False
        found = PRINTED.search(said.err)
        assert found is not None
        case = eval(found[1], {"Regression": Regression})  # noqa: S307  # the line is Python, to be pasted
        assert (case.scenario, case.seed) == ("calm", 3)
        assert 0 < case.steps < 900
        with pytest.raises(RuleBrokenError):
            World(case.seed, case.scenario).run(case.steps)
    World(case.seed, case.scenario).run(case.steps)


def test_a_sweep_names_the_world_that_broke_as_the_command_for_one_world_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        mutations.used_before_confirmed(patch)
        broken = run_one("calm", 3, 900, math.inf)
    assert broken.error.startswith("RuleBrokenError: ")
    assert broken.again == "python -m simulation run --seed 3 --steps 900 --scenario calm"
    assert f'Regression("calm", 3, {broken.survived["steps"]}, ' in broken.kept
    report = Report()
    report.add(broken)
    assert (report.worlds.total(), report.as_json()["broken"] != []) == (1, True)


def test_a_world_that_the_end_of_the_time_cuts_off_does_not_count_as_run() -> None:
    report = Report()
    report.add(run_one("calm", 3, 900, 0.0))
    assert (report.worlds.total(), report.cut_off, report.broken) == (0, 1, [])


def test_a_sweep_without_time_starts_no_second_world_in_a_process() -> None:
    heard: list[Outcome] = []
    report = sweep([1], 100, 0.0, 2, heard.append)
    assert report.cut_off == len(heard) == 2
