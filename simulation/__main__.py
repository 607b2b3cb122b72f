"""Worlds from seeds: ``run`` runs one, repeatably; ``sweep`` runs one after the other for some minutes."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections import Counter

from simulation.scenarios import SCENARIOS
from simulation.world import World
from skex.runtime import clock


def main() -> int:
    """Run and report; exit status 1 says that a rule broke, and how to see it again."""
    arguments = _parser().parse_args()
    outcome: int = arguments.command(arguments)
    return outcome


def _run(arguments: argparse.Namespace) -> int:
    world = World(arguments.seed, arguments.scenario)
    error = ""
    try:
        world.run(arguments.steps)
    except Exception as broken:  # noqa: BLE001 - whatever ends a run is its result
        error = f"{type(broken).__name__}: {broken}"
        _explain(world, arguments)
    report = _report(world, arguments, error)
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name:18} {value}")
    return 1 if error else 0


def _sweep(arguments: argparse.Namespace) -> int:
    """Every scenario with one seed, then with the next, until the time is over."""
    until = clock.now() + 60 * arguments.minutes
    seed, runs, survived = arguments.seed, 0, Counter[str]()
    broken: list[str] = []
    while clock.now() < until:
        for scenario in sorted(SCENARIOS):
            world = World(seed, scenario)
            try:
                world.run(arguments.steps)
            except Exception as error:  # noqa: BLE001 - whatever ends a run is its result
                broken.append(f"--seed {seed} --steps {arguments.steps} --scenario {scenario}: {error}")
                print(f"broken: {broken[-1]}", file=sys.stderr)
            runs += 1
            survived += world.survived.counts
        seed += 1
    print(json.dumps({"runs": runs, "broken": broken, "survived": dict(sorted(survived.items()))}, indent=2))
    return 1 if broken else 0


def scenario_lines() -> str:
    """Every scenario with its description, one a line."""
    width = max(map(len, SCENARIOS))
    lines = (f"  {name:{width}}  {SCENARIOS[name].description}" for name in sorted(SCENARIOS))
    return "\n".join(("scenarios:", *lines))


def _parser() -> argparse.ArgumentParser:
    layout, below = argparse.RawDescriptionHelpFormatter, scenario_lines()
    parser = argparse.ArgumentParser(
        prog="python -m simulation", description=__doc__, epilog=below, formatter_class=layout
    )
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser(
        "run", help="run one world", description="Run one world.", epilog=below, formatter_class=layout
    )
    run.add_argument("--seed", type=int, default=1, help="all that happens is drawn from it (default 1)")
    run.add_argument(
        "--steps", type=int, default=20_000, help="steps with faults; calm follows (default 20000)"
    )
    run.add_argument(
        "--scenario",
        choices=sorted(SCENARIOS),
        default="mixed",
        metavar="NAME",
        help="see below (default mixed)",
    )
    run.add_argument("--json", action="store_true", help="one JSON document on stdout")
    run.set_defaults(command=_run)
    sweep = commands.add_parser("sweep", help="run worlds of all scenarios, seed after seed")
    sweep.add_argument("--seed", type=int, default=1, help="the first seed")
    sweep.add_argument("--steps", type=int, default=5_000, help="steps with faults in each world")
    sweep.add_argument("--minutes", type=float, default=10.0)
    sweep.set_defaults(command=_sweep)
    return parser


def _explain(world: World, arguments: argparse.Namespace) -> None:
    """What happened last, and how to see it again."""
    traceback.print_exc()
    print("\n".join(world.events), file=sys.stderr)
    again = f"--seed {arguments.seed} --steps {arguments.steps} --scenario {arguments.scenario}"
    print(f"again: python -m simulation run {again}", file=sys.stderr)


def _report(world: World, arguments: argparse.Namespace, error: str) -> dict[str, object]:
    return {
        "seed": arguments.seed,
        "scenario": arguments.scenario,
        "ok": not error,
        "error": error,
        **{name.replace(" ", "_"): count for name, count in sorted(world.survived.counts.items())},
        "lies_told": sum(hub.lies for hub in world.hubs.values()),
        "hubs_blamed": sorted(world.survived.blamed),
        "records": world.tap.records,
    }


if __name__ == "__main__":
    sys.exit(main())
