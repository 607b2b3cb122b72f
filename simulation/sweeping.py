"""Worlds of every scenario, seed after seed, for so long; every process of a sweep runs one at a time.

A world that is under way when the time is up is cut off there: it says how far it came without a rule
that broke, and does not count as run to its end.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from simulation.scenarios import SCENARIOS
from simulation.world import World
from skex.runtime import clock

KEPT: Final = "tests/simulation/regressions.py"
"""Where seeds that broke a rule stay."""


class _TimeIsUpError(Exception):
    """The sweep ends in the midst of a world."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one world of a sweep ended. ``error`` is empty where no rule broke."""

    scenario: str
    seed: int
    steps: int
    """Steps with faults that it was asked for."""
    survived: Counter[str]
    error: str = ""
    cut_off: bool = False
    """Whether the time was up before it came to its end."""

    @property
    def again(self) -> str:
        """The command that shows it again."""
        return again(self.scenario, self.seed, self.steps)

    @property
    def kept(self) -> str:
        """The line that keeps it as a regression case: no more steps than it took."""
        return kept(self.scenario, self.seed, min(self.steps, self.survived["steps"]))


def again(scenario: str, seed: int, steps: int) -> str:
    """The command that runs one world again."""
    return f"python -m simulation run --seed {seed} --steps {steps} --scenario {scenario}"


def kept(scenario: str, seed: int, steps: int) -> str:
    """The line of ``KEPT`` that runs one world in every ``make test``."""
    return f'    Regression("{scenario}", {seed}, {steps}, "what was broken, and where it was mended"),'


@dataclass
class Report:
    """What a sweep came to."""

    worlds: Counter[str] = field(default_factory=Counter)
    """Run to their end or to a broken rule, by scenario."""
    cut_off: int = 0
    broken: list[Outcome] = field(default_factory=list)
    survived: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """One world more."""
        self.survived += outcome.survived
        if outcome.error:
            self.broken.append(outcome)
        if outcome.cut_off:
            self.cut_off += 1
        else:
            self.worlds[outcome.scenario] += 1

    def as_json(self) -> dict[str, object]:
        """As the command prints it."""
        return {
            "runs": self.worlds.total(),
            "worlds": {name: self.worlds[name] for name in sorted(SCENARIOS)},
            "cut_off": self.cut_off,
            "broken": [
                {"error": one.error, "again": one.again, "keep": one.kept.strip()} for one in self.broken
            ],
            "survived": dict(sorted(self.survived.items())),
        }


def run_one(scenario: str, seed: int, steps: int, until: float) -> Outcome:
    """Run one world to its end, or until the clock says ``until``."""
    world = _Bounded(seed, scenario, until)
    try:
        world.run(steps)
    except _TimeIsUpError:
        return Outcome(scenario, seed, steps, world.survived.counts, cut_off=True)
    except Exception as error:  # noqa: BLE001 - whatever ends a run is its result
        said = f"{type(error).__name__}: {error}"
        return Outcome(scenario, seed, steps, world.survived.counts, said)
    return Outcome(scenario, seed, steps, world.survived.counts)


class _Bounded(World):
    """A world that ends when the time is up."""

    def __init__(self, seed: int, scenario: str, until: float) -> None:
        self._until = until
        super().__init__(seed, scenario)

    def step(self, *, faults: bool) -> None:
        if clock.now() >= self._until:
            raise _TimeIsUpError
        super().step(faults=faults)


def sweep(
    seeds: Iterable[int],
    steps: int,
    seconds: float,
    jobs: int,
    told: Callable[[Outcome], None] = lambda _: None,
) -> Report:
    """Every scenario with one of the seeds, then with the next, in ``jobs`` processes, for so long.

    ``told`` hears of every world as it ends.
    """
    until = clock.now() + seconds
    report = Report()
    wanted = ((scenario, seed) for seed in seeds for scenario in sorted(SCENARIOS))
    with _workers(jobs) as pool:
        under_way = {pool.submit(run_one, *one, steps, until) for one in islice(wanted, jobs)}
        while under_way:
            for outcome in _ended(under_way):
                report.add(outcome)
                told(outcome)
                if clock.now() < until:
                    under_way |= {pool.submit(run_one, *one, steps, until) for one in islice(wanted, 1)}
    return report


def _ended(under_way: set[Future[Outcome]]) -> Iterator[Outcome]:
    """Those that ended meanwhile, of which at least one does; they leave ``under_way``."""
    done, _ = wait(under_way, return_when=FIRST_COMPLETED)
    under_way -= done
    return (one.result() for one in done)


def _workers(jobs: int) -> ProcessPoolExecutor:
    """Processes that are started anew, not forked, and leave an interrupt to whoever asked for the sweep."""
    return ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
