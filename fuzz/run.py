"""Coverage-guided fuzzing of every target, with atheris; ``make fuzz`` calls it.

    python fuzz/run.py [--seconds N] [--corpus DIRECTORY] [TARGET …]    fuzz, N seconds shared by all targets
    python fuzz/run.py --replay FILE                                    one finding again, with its traceback

Each target runs in a process of its own, so that a finding of one does not end the others; all are forks of
one that has everything instrumented, which takes longer than a target's share of a short run. An input is
the target's own bytes. A finding stays as ``findings/TARGET-N`` once it is copied there: the tests read
that folder; until then it lies in ``build/fuzz``. ``--corpus`` keeps what was learned (a folder for each
target) from one run to the next.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

OPTIONS: Final = ("-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1")
"""Longer inputs only waste time; no input may take ten seconds or a gigabyte."""
LEAST_SECONDS: Final = 1
"""What the fuzzer can count."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one target."""

    target: str
    inputs: int
    exit_code: int
    said: str = ""
    """The end of what the fuzzer said, where it found something."""
    findings: tuple[str, ...] = ()
    """Inputs that it left behind."""


@dataclass
class Plan:
    """Which targets, for how long, with what to start from."""

    targets: Sequence[str]
    until: float
    """On the boot-time clock."""
    jobs: int
    corpus: Path
    artifacts: Path
    seeds: Mapping[str, Sequence[bytes]] = field(default_factory=dict)

    def seconds_each(self, left: int, now: float) -> int:
        """A fair part of what is left of the time, where ``left`` targets wait for their turn."""
        return max(LEAST_SECONDS, int((self.until - now) * min(self.jobs, left) / left))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--findings", type=Path, default=ROOT / "build" / "fuzz", help="where findings go")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, talk on stderr")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    return parser.parse_args()


def file_name(target: str) -> str:
    """A target's name as files and folders have it."""
    return target.replace(" ", "_")


# ── one target, in its own process ──────────────────────────────────────────────────────────────
def _start(plan: Plan, target: str, seconds: int, log: Path, atheris: Any) -> int:
    """Fork a process that fuzzes one target for so long; its id."""
    child = os.fork()
    if child:
        return child
    try:
        with log.open("wb") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        _work(plan, target, seconds, atheris)
    finally:
        os._exit(70)  # the fuzzer ends the process itself; whoever comes here failed to begin


def _work(plan: Plan, target: str, seconds: int, atheris: Any) -> None:
    targets = importlib.import_module("fuzz.targets")
    corpus = plan.corpus / file_name(target)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(plan.seeds[target]):
        (corpus / f"seed-{number}").write_bytes(data)

    def run_one(data: bytes) -> None:
        targets.accepts(target, data)

    prefix = f"-artifact_prefix={plan.artifacts}/{file_name(target)}-"
    atheris.Setup([sys.argv[0], *OPTIONS, f"-max_total_time={seconds}", prefix, str(corpus)], run_one)
    atheris.Fuzz()


# ── all of them ─────────────────────────────────────────────────────────────────────────────────
def _fuzz_all(plan: Plan, atheris: Any, talk: Any) -> list[Outcome]:
    clock = importlib.import_module("skex.runtime.clock")
    waiting, running, outcomes = list(plan.targets), dict[int, tuple[str, Path]](), list[Outcome]()
    with tempfile.TemporaryDirectory() as logs:
        while waiting or running:
            while waiting and len(running) < plan.jobs:
                seconds = plan.seconds_each(len(waiting), clock.now())
                target = waiting.pop(0)
                log = Path(logs) / file_name(target)
                running[_start(plan, target, seconds, log, atheris)] = (target, log)
            child, status = os.wait()
            target, log = running.pop(child)
            outcomes.append(_outcome(plan, target, os.waitstatus_to_exitcode(status), log))
            _tell(outcomes[-1], talk)
    return outcomes


def _outcome(plan: Plan, target: str, exit_code: int, log: Path) -> Outcome:
    lines = log.read_text(errors="replace").splitlines()
    stats = dict(line.removeprefix("stat::").split(":", 1) for line in lines if line.startswith("stat::"))
    inputs = int(stats.get("number_of_executed_units", "0"))
    if exit_code == 0:
        return Outcome(target, inputs, exit_code)
    # A file belongs to the target with the longest name that begins its own.
    found = [
        str(path)
        for path in sorted(plan.artifacts.glob(f"{file_name(target)}-*"))
        if target == target_of(path.name, plan.targets)
    ]
    return Outcome(target, inputs, exit_code, "\n".join(lines[-60:]), tuple(found))


def _tell(outcome: Outcome, talk: Any) -> None:
    said = "ok" if outcome.exit_code == 0 else f"FOUND SOMETHING (exit code {outcome.exit_code})"
    print(f"{outcome.target:32} {outcome.inputs:>9} inputs  {said}", file=talk, flush=True)
    if outcome.said:
        print(outcome.said, file=talk, flush=True)
    for path in outcome.findings:
        print(f"again: python fuzz/run.py --replay {path}", file=talk, flush=True)


def target_of(name: str, known: Sequence[str]) -> str | None:
    """The target whose finding a file is, by its name."""
    return max((one for one in known if name.startswith(file_name(one) + "-")), key=len, default=None)


def _replay(file: Path, known: Sequence[str]) -> int:
    targets = importlib.import_module("fuzz.targets")
    target = target_of(file.name, known)
    if target is None:
        print(f"{file.name} does not begin with a target's name and '-'", file=sys.stderr)
        return 2
    print(f"{target}: accepted" if targets.accepts(target, file.read_bytes()) else f"{target}: refused")
    return 0


def main() -> int:
    """Fuzz, or replay; the exit code says whether something was found."""
    arguments = _arguments()
    if arguments.replay:
        return _replay(arguments.replay, importlib.import_module("fuzz.targets").TARGETS)
    # Before anything of skex is imported. Installed where fuzzing is run, not wherever skex is developed.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["skex"]):
        known: Sequence[str] = importlib.import_module("fuzz.targets").TARGETS
        seeds = importlib.import_module("fuzz.seeds")
        clock = importlib.import_module("skex.runtime.clock")
    unknown = [one for one in arguments.targets if one not in known]
    if unknown:
        print(f"no such target: {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as passing:
        arguments.findings.mkdir(parents=True, exist_ok=True)
        plan = Plan(
            targets=arguments.targets or known,
            until=clock.now() + arguments.seconds,
            jobs=arguments.jobs,
            corpus=arguments.corpus or Path(passing),
            artifacts=arguments.findings.resolve(),
        )
        return _fuzz(plan, seeds, atheris, as_json=arguments.json)


def _fuzz(plan: Plan, seeds: Any, atheris: Any, *, as_json: bool) -> int:
    talk = sys.stderr if as_json else sys.stdout
    clock = importlib.import_module("skex.runtime.clock")
    all_seeds = list(seeds.all_seeds())
    plan.seeds = {target: [data for of, data in all_seeds if of == target] for target in plan.targets}
    each = plan.seconds_each(len(plan.targets), clock.now())
    print(f"{len(plan.targets)} targets, {each} s each, {plan.jobs} at once", file=talk, flush=True)
    outcomes = _fuzz_all(plan, atheris, talk)
    bad = [one for one in outcomes if one.exit_code]
    print(f"{len(outcomes) - len(bad)} targets without a finding, {len(bad)} with one", file=talk, flush=True)
    if as_json:
        print(json.dumps({"targets": [asdict(one) for one in outcomes]}, indent=2))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
