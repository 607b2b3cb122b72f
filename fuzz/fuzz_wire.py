"""Coverage-guided fuzzing of every decoder of the wire, with atheris.

    python fuzz/fuzz_wire.py -max_total_time=60 [libFuzzer options] [corpus directory]

The first byte of an input chooses the target, the rest is what it reads. Without a corpus directory
the run starts from a temporary one with the seeds of ``seeds``. A finding ends the run with the
input in a ``crash-*`` file; give that file as the only argument to see it again.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

# Installed where fuzzing is run, not wherever skex is developed; a compiler may be needed.
atheris: Any = importlib.import_module("atheris")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

with atheris.instrument_imports(include=["skex", "fuzz"]):
    from fuzz import seeds, targets

# Nothing a peer sends is longer than a record, so longer inputs only waste time.
OPTIONS = ("-max_len=4096", "-timeout=5", "-rss_limit_mb=1024")


def run_one(data: bytes) -> None:
    """One input: the target's number, then its bytes."""
    if data:
        targets.accepts(targets.TARGETS[data[0] % len(targets.TARGETS)], data[1:])


def _has_corpus(arguments: list[str]) -> bool:
    return any(not argument.startswith("-") for argument in arguments[1:])


def main() -> None:
    """Fuzz until libFuzzer's options say stop."""
    with tempfile.TemporaryDirectory() as directory:
        arguments = [*sys.argv[:1], *OPTIONS, *sys.argv[1:]]
        if not _has_corpus(arguments):
            for number, (target, data) in enumerate(seeds.all_seeds()):
                chosen = bytes([targets.TARGETS.index(target)])
                (Path(directory) / f"seed-{number}").write_bytes(chosen + data)
            arguments.append(directory)
        atheris.Setup(arguments, run_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
