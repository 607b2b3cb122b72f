"""The whole protocol in one seeded world: what must stay true stays true, whatever goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.network import PadReusedError, Wiretap
from simulation.rules import RuleBrokenError
from simulation.scenarios import SCENARIOS, Scenario
from simulation.world import World
from skex.base.ids import Direction, HubName, LinkId
from skex.wire.record import RecordHeader

ROOT = Path(__file__).parents[2]
LINK = LinkId(bytes(8))


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
@pytest.mark.parametrize("seed", [1, 2])
def test_keys_flow_and_no_rule_breaks(scenario: str, seed: int) -> None:
    world = World(seed, scenario)
    world.run(2000)
    counts = world.survived.counts
    assert counts["established"] > 10
    assert counts["delivered"] > 10


@pytest.mark.parametrize("seed", [3, 4])
def test_two_lying_hubs_are_named_and_learn_nothing(seed: int) -> None:
    world = World(seed, "liars")
    world.run(1500)
    assert world.survived.blamed == {"hub-4", "hub-5"}
    assert world.survived.counts["minorities checked"] > 10


def test_honest_hubs_are_never_blamed_whatever_breaks() -> None:
    world = World(5, "crashes")
    world.run(2500)
    assert world.survived.counts["crashes"] > 0
    assert not world.survived.blamed


def test_one_seed_is_one_history() -> None:
    first, second = World(6, "mixed"), World(6, "mixed")
    first.run(600)
    second.run(600)
    assert first.survived == second.survived
    assert first.tap.sealed == second.tap.sealed


def test_three_hubs_down_mean_no_keys_and_the_world_says_so() -> None:
    world = World(7, "calm")
    world.down = {HubName(f"hub-{number}") for number in (1, 2, 3)}
    with pytest.raises(RuleBrokenError, match="keys do not flow"):
        world.run(50)
    assert world.survived.counts["established"] == 0


@pytest.mark.parametrize("shift", [0, 15, -15])
def test_wiretap_catches_pad_bytes_that_seal_two_records(shift: int) -> None:
    tap = Wiretap()
    tap.record(Direction.TO_HUB, b"", _record(100, b"one"))
    with pytest.raises(PadReusedError):
        tap.record(Direction.TO_HUB, b"", _record(100 + shift, b"two"))


def test_wiretap_tells_grants_of_different_connections_apart() -> None:
    tap = Wiretap(derived={LINK})
    tap.record(Direction.TO_HUB, b"nonces of one connection", _record(16, b"one"))
    tap.record(Direction.TO_HUB, b"nonces of another", _record(16, b"two"))
    with pytest.raises(PadReusedError):
        tap.record(Direction.TO_HUB, b"nonces of another", _record(16, b"six"))


def _ran(*arguments: str) -> str:
    """What the command says on stdout; it must end well."""
    return subprocess.run(
        [sys.executable, "-m", "simulation", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    ).stdout


def _simulation(*arguments: str) -> dict[str, object]:
    report: dict[str, object] = json.loads(_ran(*arguments))
    return report


@pytest.mark.parametrize("command", [(), ("run",)])
def test_help_says_in_one_line_each_what_happens_in_every_scenario(command: tuple[str, ...]) -> None:
    said = _ran(*command, "--help").splitlines()
    for name, scenario in SCENARIOS.items():
        assert [line.split() for line in said].count([name, *scenario.description.split()]) == 1, name


@pytest.mark.parametrize("description", ["", "two\nlines", "x" * 101])
def test_a_scenario_that_is_not_described_in_one_line_is_refused(description: str) -> None:
    with pytest.raises(ValueError, match="described in one line"):
        Scenario(description)


def test_command_line_reports_one_json_document() -> None:
    report = _simulation("run", "--seed", "1", "--steps", "300", "--json")
    assert report["ok"] is True
    assert report["delivered"]


def test_a_sweep_runs_every_scenario_and_adds_up_what_was_survived() -> None:
    report = _simulation("sweep", "--seeds", "1", "--steps", "100")
    assert (report["worlds"], report["cut_off"]) == (dict.fromkeys(sorted(SCENARIOS), 1), 0)
    assert (report["runs"], report["broken"]) == (len(SCENARIOS), [])
    assert isinstance(survived := report["survived"], dict)
    assert survived["steps"] >= 100 * len(SCENARIOS)


def _record(offset: int, body: bytes) -> bytes:
    header = RecordHeader(Direction.TO_HUB, len(body), LINK, 0, offset)
    return header.pack() + body + bytes(16)
