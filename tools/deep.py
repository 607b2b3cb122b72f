"""Everything that finds more the longer it runs, within a bound; ``make test-deep`` calls it.

    python tools/deep.py --minutes 10 [--seed N] [--jobs N] [--json] [--only STAGE …]

The time is divided among the stages (``SHARES``), which run one after the other. A stage that is at work
when its time is over ends what it must finish (a proof over all homes after the last kill, one test) and
says how far it came. A failure ends its stage, or is counted in it, and no other stage. Exit status: 0 if
nothing failed, 1 if something did, 130 if it was interrupted. Logs and what is left of failures lie in
``build/deep``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from skex.runtime import clock

ROOT: Final = Path(__file__).resolve().parents[1]
SHARES: Final[Mapping[str, float]] = {
    "worlds": 0.30,
    "kills": 0.20,
    "fuzz": 0.20,
    "properties": 0.18,
    "planted": 0.12,
}
"""Parts of the time. Worlds have most: their seeds are new in every run."""
GRACE_SECONDS: Final = 240.0
"""So long after its time a stage may finish what it began. One that does not is ended, and has failed."""
PROOF_SECONDS: Final = 30.0
"""What the kills keep of their time for stopping the daemons and proving what they left behind."""
KILLS_LEAST: Final = 3
KILLS_A_SECOND: Final = 2.0
"""More than any machine does: table pads are made for so many."""


@dataclass
class Run:
    """What the stages share."""

    seed: int
    jobs: int
    work: Path
    talk: Any = sys.stderr

    def execute(
        self, stage: str, argv: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None
    ) -> tuple[int | None, str]:
        """Run a command, in a process group of its own; exit status (None: it did not end) and stdout.

        What it says on stderr is added to the stage's log.
        """
        out = self.work / f"{stage}.out"
        paths = f"{ROOT}{os.pathsep}{ROOT / 'src'}"
        with out.open("wb") as stdout, (self.work / f"{stage}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  # ourselves
                argv,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=log,
                env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(seconds + GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said = out.read_text(encoding="utf-8", errors="replace")
        with (self.work / f"{stage}.log").open("a", encoding="utf-8") as log_text:
            log_text.write(said)
        return code, said


@dataclass
class Result:
    """What came of a stage."""

    done: str = ""
    """What was tried, and how far it came."""
    failures: list[str] = field(default_factory=list)
    """One text each: what failed, and the command that shows it again."""


Stage = Callable[[Run, float], Result]


def _not_done(stage: str, code: int | None, run: Run) -> list[str]:
    """A stage that failed without saying how is a failure itself."""
    how = f"ended with {code}" if code is not None else f"did not end {GRACE_SECONDS:g} s after its time"
    return [f"{how}; see {run.work / stage}.log"]


# ── the stages ──────────────────────────────────────────────────────────────────────────────────
def worlds(run: Run, seconds: float) -> Result:
    """Simulated worlds of every scenario, seed after seed."""
    argv = [sys.executable, "-m", "simulation", "sweep", "--seed", str(run.seed), "--jobs", str(run.jobs)]
    code, said = run.execute("worlds", [*argv, "--minutes", str(seconds / 60)], seconds)
    report = _document(said)
    if report is None:
        return Result(failures=_not_done("worlds", code, run))
    survived = report["survived"]
    counted = ", ".join(
        f"{survived[name]:,} {name}" for name in ("steps", "crashes", "kills", "cuts") if name in survived
    )
    ran = sum(1 for number in report["worlds"].values() if number)
    done = f"{report['runs']} worlds of {ran} scenarios (of {len(report['worlds'])})"
    failures = [
        f"{one['error']}\nagain: {one['again']}\nkeep:  {one['keep']}" for one in report["broken"]
    ] or ([] if code == 0 else _not_done("worlds", code, run))
    return Result(f"{done}, {report['cut_off']} cut off; {counted}", failures)


def kills(run: Run, seconds: float) -> Result:
    """Real daemons killed under load, and proof that nothing was used or delivered twice."""
    number = max(KILLS_LEAST, int(KILLS_A_SECOND * seconds))
    environment = {
        "SKEX_KILLS": str(number),
        "SKEX_KILLS_SECONDS": str(max(0.0, seconds - PROOF_SECONDS)),
        "SKEX_SEED": str(run.seed),
    }
    homes = ["-o", "tmp_path_retention_policy=failed", "--basetemp", str(run.work / "kills-homes")]
    argv = [*_pytest("tests/daemon/test_kills.py", "-s", "-k", "killed_at_random"), *homes]
    code, said = run.execute("kills", argv, seconds, environment)
    report = next((one for line in said.splitlines() if (one := _document(line)) and "kills" in one), None)
    if code != 0 or report is None:
        again = f"again: make kills KILLS={number} SEED={run.seed} ARGS='-k killed'   (seconds decide, too)"
        kept = f"homes: {run.work / 'kills-homes'}"
        return Result(failures=[f"{_not_done('kills', code, run)[0]}\n{again}\n{kept}"])
    verdicts = ", ".join(f"{number} {name}" for name, number in report["pad_verify"].items())
    return Result(
        f"{sum(report['kills'].values())} kills, {report['keys_delivered_to_masters']:,} keys, "
        f"{report['records_on_the_wire']:,} records; {verdicts}"
    )


def fuzz(run: Run, seconds: float) -> Result:
    """Coverage-guided fuzzing of everything that reads bytes."""
    argv = [sys.executable, "fuzz/run.py", "--json", "--seconds", str(int(seconds))]
    argv += ["--jobs", str(run.jobs), "--findings", str(run.work / "findings")]
    code, said = run.execute("fuzz", argv, seconds)
    report = _document(said)
    if report is None:
        return Result(failures=_not_done("fuzz", code, run))
    targets = report["targets"]
    failures = []
    for one in targets:
        if one["exit_code"]:
            again = [f"again: python fuzz/run.py --replay {path}" for path in one["findings"]]
            last = one["said"].splitlines()[-1:]
            failures.append("\n".join([f"{one['target']}: exit status {one['exit_code']}", *last, *again]))
    if code != 0 and not failures:
        failures = _not_done("fuzz", code, run)
    return Result(f"{len(targets)} targets, {sum(one['inputs'] for one in targets):,} inputs", failures)


def properties(run: Run, seconds: float) -> Result:
    """Every test with generated examples, round after round, each with another seed of hypothesis."""
    until = clock.now() + seconds
    files = sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if "hypothesis" in path.read_text(encoding="utf-8")
    )
    passed, whole, late = 0, 0, 0
    number = run.seed
    while clock.now() < until or number == run.seed:
        argv = [*_pytest(*files, "-m", "hypothesis"), f"--hypothesis-seed={number}", *_parallel(run)]
        code, report = _bounded(run, "properties", argv, until, number)
        if report is None:
            return Result(f"{passed} tests", _not_done("properties", code, run))
        passed, late = passed + report["passed"], report["not_begun"]
        whole += not late and not report["failed"]
        if report["failed"]:
            again = f"again: SKEX_HYPOTHESIS_PROFILE=deep .venv/bin/pytest --hypothesis-seed={number}"
            return Result(f"{passed} tests", [f"{one}\n{again} '{one}'" for one in report["failed"]])
        number += 1
    done = f"{passed} tests with generated examples in {whole} whole rounds"
    return Result(f"{done}; {late} not begun in the last" if late else done)


def planted(run: Run, seconds: float) -> Result:
    """Every planted bug must be seen from several seeds, and no run without it may break a rule."""
    argv = [*_pytest("tests/simulation/test_mutations.py", "-k", "several_seeds"), *_parallel(run)]
    code, report = _bounded(run, "planted", argv, clock.now() + seconds, run.seed)
    if report is None:
        return Result(failures=_not_done("planted", code, run))
    again = "again: SKEX_HYPOTHESIS_PROFILE=deep .venv/bin/pytest"
    failures = [f"{one}\n{again} '{one}'" for one in report["failed"]]
    late = report["not_begun"]
    done = f"{report['passed']} planted bugs seen from several seeds"
    return Result(f"{done}; {late} not begun" if late else done, failures)


STAGES: Final[Mapping[str, Stage]] = {
    "worlds": worlds,
    "kills": kills,
    "fuzz": fuzz,
    "properties": properties,
    "planted": planted,
}


def _pytest(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", *arguments]


def _parallel(run: Run) -> list[str]:
    return [f"--numprocesses={run.jobs}"] if run.jobs > 1 else []


def _bounded(
    run: Run, stage: str, argv: Sequence[str], until: float, order: int
) -> tuple[int | None, dict[str, Any] | None]:
    """Tests that begin until then; exit status, and the report of tests.support.bounded."""
    path = run.work / f"{stage}.json"
    path.unlink(missing_ok=True)
    environment = {
        "SKEX_UNTIL": str(until),
        "SKEX_ORDER": str(order),
        "SKEX_REPORT": str(path),
        "SKEX_HYPOTHESIS_PROFILE": "deep",
    }
    left = max(0.0, until - clock.now())
    code, _ = run.execute(stage, [*argv, "-p", "tests.support.bounded"], left, environment)
    report = _document(path.read_text(encoding="utf-8")) if path.exists() else None
    # 1: tests failed, and the report names them. Anything else but 0 is no result.
    return code, report if code == 0 or (code == 1 and report is not None and report["failed"]) else None


def _document(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


# ── all of them ─────────────────────────────────────────────────────────────────────────────────
@dataclass
class Row:
    """A line of the summary."""

    stage: str
    asked: float
    took: float
    result: Result


def run_all(run: Run, minutes: float, stages: Mapping[str, Stage]) -> tuple[list[Row], bool]:
    """The stages one after the other; the rows, and whether it was interrupted."""
    rows: list[Row] = []
    whole = sum(SHARES[name] for name in stages)
    for name, stage in stages.items():
        asked = 60 * minutes * SHARES[name] / whole
        print(f"── {name}: {asked:.0f} s, log in {run.work / name}.log", file=run.talk, flush=True)
        began = clock.now()
        try:
            result = stage(run, asked)
        except KeyboardInterrupt:
            return [*rows, Row(name, asked, clock.now() - began, Result("interrupted"))], True
        rows.append(Row(name, asked, clock.now() - began, result))
        print(f"   {'FAILED' if result.failures else 'ok'}: {result.done}", file=run.talk, flush=True)
    return rows, False


def summary(rows: Sequence[Row], run: Run, minutes: float) -> str:
    """A table of what ran, and below it every failure with the command that shows it again."""
    took = sum(row.took for row in rows) / 60
    lines = [f"── seed {run.seed}; {minutes:g} minutes asked for, {took:.1f} taken"]
    lines.append(f"{'stage':11} {'asked':>7} {'took':>7}  {'result':7} what was done")
    for row in rows:
        said = "FAILED" if row.result.failures else "ok"
        lines.append(f"{row.stage:11} {row.asked:5.0f} s {row.took:5.0f} s  {said:7} {row.result.done}")
    for row in rows:
        for failure in row.result.failures:
            lines += ["", f"{row.stage} failed: " + failure.replace("\n", "\n  ")]
    return "\n".join(lines)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="for all stages together (default 10)")
    parser.add_argument("--seed", type=int, help="of everything that is drawn (default: another each time)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, work: Path = ROOT / "build" / "deep") -> int:
    """Run, and say what came of it; the exit status."""
    arguments = _arguments(argv)
    seed = clock.unix_seconds() if arguments.seed is None else arguments.seed
    work.mkdir(parents=True, exist_ok=True)
    for log in work.glob("*.log"):
        log.unlink()
    run = Run(seed, arguments.jobs, work)
    stages = {name: STAGES[name] for name in STAGES if name in arguments.only}
    rows, interrupted = run_all(run, arguments.minutes, stages)
    failed = any(row.result.failures for row in rows)
    print(summary(rows, run, arguments.minutes), file=run.talk if arguments.json else sys.stdout)
    if arguments.json:
        outcome = {"seed": seed, "minutes": arguments.minutes, "ok": not failed and not interrupted}
        print(json.dumps({**outcome, "stages": [asdict(row) for row in rows]}, indent=2))
    return 130 if interrupted else 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
