"""Worlds from seeds: ``run`` runs one, repeatably; ``sweep`` runs one after the other for some minutes."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import traceback
from collections.abc import Iterator

from simulation.scenarios import SCENARIOS
from simulation.sweeping import KEPT, Outcome, again, kept, sweep
from simulation.world import World


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
    """Every scenario with one seed, then with the next, until the time is over or the seeds are."""
    seeds: Iterator[int] = itertools.count(arguments.seed)
    if arguments.seeds is not None:
        seeds = itertools.islice(seeds, arguments.seeds)
    report = sweep(seeds, arguments.steps, 60 * arguments.minutes, arguments.jobs, _tell_broken)
    print(json.dumps(report.as_json(), indent=2))
    return 1 if report.broken else 0


def _tell_broken(outcome: Outcome) -> None:
    if outcome.error:
        print(f"broken: {outcome.error}\nagain:  {outcome.again}", file=sys.stderr)
        print(f"keep:   {outcome.kept.strip()}   in {KEPT}", file=sys.stderr)


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
    many = commands.add_parser("sweep", help="run worlds of all scenarios, seed after seed")
    many.add_argument("--seed", type=int, default=1, help="the first seed")
    many.add_argument("--steps", type=int, default=5_000, help="steps with faults in each world")
    many.add_argument("--minutes", type=float, default=10.0)
    many.add_argument("--seeds", type=int, help="end after so many seeds, even if there is time left")
    many.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes, by default one a core"
    )
    many.set_defaults(command=_sweep)
    return parser


def _explain(world: World, arguments: argparse.Namespace) -> None:
    """What happened last, how to see it again, and the line that keeps it as a regression case."""
    traceback.print_exc()
    print("\n".join(world.events), file=sys.stderr)
    steps = min(arguments.steps, world.survived.counts["steps"])
    print(f"again: {again(arguments.scenario, arguments.seed, arguments.steps)}", file=sys.stderr)
    print(f"keep:  {kept(arguments.scenario, arguments.seed, steps).strip()}   in {KEPT}", file=sys.stderr)


def _report(world: World, arguments: argparse.Namespace, error: str) -> dict[str, object]:
    return {
        "seed": arguments.seed,
        "scenario": arguments.scenario,
        "ok": not error,
        "error": error,
        **{name.replace(" ", "_"): count for name, count in sorted(world.survived.counts.items())},
        "lies_told": world.lies.total(),
        "lies_by_kind": {kind.replace(" ", "_"): count for kind, count in sorted(world.lies.items())},
        "hubs_blamed": sorted(world.survived.blamed),
        "records": world.tap.records,
    }


if __name__ == "__main__":
    sys.exit(main())
