"""Coverage-guided fuzzing of every target, with atheris; ``make fuzz`` calls it.

    python fuzz/run.py [--seconds N] [--corpus DIRECTORY] [TARGET …]    fuzz, N seconds shared by all targets
    python fuzz/run.py --replay FILE                                    one finding again, with its traceback

Each target runs in a process of its own, so that a finding of one does not end the others. An input is
the target's own bytes. A finding stays as ``findings/TARGET-N`` once it is copied there: the tests read
that folder. ``--corpus`` keeps what was learned (a folder for each target) from one run to the next.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

OPTIONS: Final = ("-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1")
"""Longer inputs only waste time; no input may take ten seconds or a gigabyte."""
LEAST_SECONDS: Final = 5


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    return parser.parse_args()


def file_name(target: str) -> str:
    """A target's name as files and folders have it."""
    return target.replace(" ", "_")


# ── one target, in its own process ──────────────────────────────────────────────────────────────
def _work(target: str, corpus: Path, seconds: int, artifacts: Path) -> None:
    # Installed where fuzzing is run, not wherever skex is developed.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["skex"]):
        targets = importlib.import_module("fuzz.targets")
        seeds = importlib.import_module("fuzz.seeds")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, (of, data) in enumerate(seeds.all_seeds()):
        if of == target:
            (corpus / f"seed-{number}").write_bytes(data)

    def run_one(data: bytes) -> None:
        targets.accepts(target, data)

    prefix = f"-artifact_prefix={artifacts}/{file_name(target)}-"
    atheris.Setup([sys.argv[0], *OPTIONS, f"-max_total_time={seconds}", prefix, str(corpus)], run_one)
    atheris.Fuzz()


# ── all of them ─────────────────────────────────────────────────────────────────────────────────
def _fuzz(target: str, corpus: Path, seconds: int, artifacts: Path) -> bool:
    """Fuzz one target in a process; whether nothing was found."""
    command = [sys.executable, __file__, "--worker", target, "--seconds", str(seconds)]
    command += ["--corpus", str(corpus / file_name(target)), "--replay", str(artifacts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")  # noqa: S603  # ourselves
    counts = dict(
        line.removeprefix("stat::").split(":", 1)
        for line in done.stderr.splitlines()
        if line.startswith("stat::")
    )
    runs = counts.get("number_of_executed_units", "?").strip()
    said = "ok" if done.returncode == 0 else f"FOUND SOMETHING (exit code {done.returncode})"
    print(f"{target:32} {runs:>9} inputs  {said}", flush=True)
    if done.returncode:
        print("\n".join(done.stderr.splitlines()[-60:]), flush=True)
    return done.returncode == 0


def _fuzz_all(chosen: Sequence[str], corpus: Path, seconds: int, jobs: int) -> int:
    each = max(LEAST_SECONDS, seconds * jobs // len(chosen))
    artifacts = Path.cwd()
    print(f"{len(chosen)} targets, {each} s each, {jobs} at once; findings go to {artifacts}", flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(pool.map(lambda one: _fuzz(one, corpus, each, artifacts), chosen))
    print(f"{outcomes.count(True)} targets without a finding, {outcomes.count(False)} with one", flush=True)
    return 0 if all(outcomes) else 1


def _replay(file: Path, known: Sequence[str]) -> int:
    targets = importlib.import_module("fuzz.targets")
    target = max((one for one in known if file.name.startswith(file_name(one) + "-")), key=len, default=None)
    if target is None:
        print(f"{file.name} does not begin with a target's name and '-'", file=sys.stderr)
        return 2
    print(f"{target}: accepted" if targets.accepts(target, file.read_bytes()) else f"{target}: refused")
    return 0


def main() -> int:
    """Fuzz, or replay; the exit code says whether something was found."""
    arguments = _arguments()
    if arguments.worker:
        _work(arguments.worker, arguments.corpus, arguments.seconds, arguments.replay)
        return 0
    known = importlib.import_module("fuzz.targets").TARGETS
    if arguments.replay:
        return _replay(arguments.replay, known)
    unknown = [one for one in arguments.targets if one not in known]
    if unknown:
        print(f"no such target: {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as passing:
        corpus = arguments.corpus or Path(passing)
        return _fuzz_all(arguments.targets or known, corpus, arguments.seconds, arguments.jobs)


if __name__ == "__main__":
    sys.exit(main())
