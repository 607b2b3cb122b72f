"""Commands typed by other users of this machine: real processes under real user ids."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.transcripts import Answer

ANNA, BEN, CARL, DORA = 41_001, 41_002, 41_003, 41_004
CLERKS, GUESTS = 41_050, 41_051
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")

_AS = """
import concurrent.futures.thread, difflib, encodings.idna, json, os, select, sys
import skex.cli.operator, skex.cli.kit, skex.cli.hub, skex.cli.kme, skex.policy.evaluate
import skex.enrol.creating, skex.enrol.words
from skex.cli import skex_command
skex.enrol.words.words_of(bytes(64))
user, groups = json.loads(sys.argv.pop(1))
os.setgroups(groups); os.setgid(user); os.setuid(user)
skex_command()
"""
"""Everything is imported by whoever owns the tree and the interpreter: others may not be able to."""


@dataclass(frozen=True)
class Person:
    """A user without a name in the system, in the group of the socket and maybe in others."""

    user: int
    groups: tuple[int, ...]
    socket: Path

    def begin(self, *arguments: str | Path) -> subprocess.Popen[str]:
        identity = json.dumps([self.user, [*self.groups]])
        argv = [sys.executable, "-c", _AS, identity, *map(str, arguments)]
        argv += ["--json", "--socket", str(self.socket)]
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        return subprocess.Popen(argv, text=True, stderr=subprocess.PIPE, **pipes)

    def skex(self, *arguments: str | Path) -> Answer:
        return ended(self.begin(*arguments))

    def done(self, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
        answer = self.skex(*arguments)
        assert answer.code == code, answer.stderr + answer.stdout
        return answer.data

    def refused(self, *arguments: str | Path) -> tuple[int, str]:
        answer = self.skex(*arguments)
        assert answer.code == answer.error["exit_code"]
        return answer.code, answer.error["code"]

    def raw(self, path: str, *more: str) -> tuple[int, str]:
        """The status and body that the daemon answers to a request of theirs."""
        groups = ",".join(str(one) for one in self.groups)
        argv = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", f"--groups={groups}"]
        argv += ["curl", "-sS", "--max-time", "20", "--unix-socket", str(self.socket)]
        argv += ["-w", "\n%{http_code}", f"http://daemon/{path}", *more]
        run = subprocess.run(argv, capture_output=True, text=True, check=False)
        body, _, status = run.stdout.rpartition("\n")
        return int(status or 0), body


def ended(process: subprocess.Popen[str]) -> Answer:
    """What a command that was begun has said."""
    stdout, stderr = process.communicate(timeout=60)
    return Answer(process.returncode, stdout, stderr)


@contextmanager
def open_directory(*writable_by: int) -> Iterator[Path]:
    """A directory that every user reaches, with one for each of ``writable_by``, by their numbers."""
    made = Path(tempfile.mkdtemp(prefix="skex-people-", dir="/tmp"))
    try:
        made.chmod(0o755)
        for user in writable_by:
            own = made / str(user)
            own.mkdir(0o700)
            os.chown(own, user, user)
        yield made
    finally:
        shutil.rmtree(made)


def events_of(home: Path, *kinds: str) -> Sequence[dict[str, Any]]:
    """Records of a home's audit log, of these kinds."""
    segments = sorted((home / "audit").glob("*.jsonl"))
    records = (json.loads(line) for one in segments for line in one.read_text().splitlines())
    return [record for record in records if record.get("event") in kinds]
