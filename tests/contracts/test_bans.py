"""Chance, clocks and lost tasks are banned where the design has none, and the ban is able to fire."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def banned(path: str, code: str) -> list[str]:
    """The names that ruff refuses in ``code``, were it the file ``path`` of this tree."""
    result = subprocess.run(
        [
            Path(sys.executable).with_name("ruff"),
            *(
                "check",
                "--no-cache",
                "--output-format=json",
                "--select=TID251",
                "--stdin-filename",
                path,
                "-",
            ),
        ],
        cwd=ROOT,
        input=code,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode in {0, 1}, result.stderr
    return sorted({finding["message"].split("`")[1] for finding in json.loads(result.stdout)})


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import random\n", "random"),
        ("from random import choice\n\nchoice([1])\n", "random.choice"),
        ("import secrets\n\nsecrets.token_bytes(16)\n", "secrets"),
        ("import os\n\nos.urandom(16)\n", "os.urandom"),
        ("import os\n\nos.getrandom(16)\n", "os.getrandom"),
        ("import uuid\n\nuuid.uuid4()\n", "uuid.uuid4"),
        ("import time\n\ntime.time()\n", "time"),
        ("from time import monotonic\n\nmonotonic()\n", "time.monotonic"),
        ("import datetime\n\ndatetime.datetime.utcnow()\n", "datetime.datetime.utcnow"),
        ("from datetime import datetime\n\ndatetime.now()\n", "datetime.datetime.now"),
        ("import asyncio\n\nasyncio.create_task(work())\n", "asyncio.create_task"),
        ("import asyncio\n\nasyncio.ensure_future(work())\n", "asyncio.ensure_future"),
        ("import pickle\n", "pickle"),
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        "src/skex/protocol/planted.py",
        "src/skex/runtime/planted.py",
        "simulation/planted.py",
        "tests/planted.py",
    ],
)
def test_planted_chance_clock_or_bare_task_is_refused_and_named(path: str, code: str, name: str) -> None:
    found = banned(path, code)
    assert any(entry == name or name.startswith(f"{entry}.") for entry in found), found


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("src/skex/runtime/clock.py", "import time\n\ntime.monotonic()\n"),
        ("src/skex/runtime/entropy.py", "import os\n\nos.urandom(16)\n"),
        ("src/skex/runtime/tasks.py", "import asyncio\n\nasyncio.create_task(work())\n"),
        ("simulation/chance.py", "import random\n\nrandom.Random(1)\n"),
    ],
)
def test_the_one_file_that_owns_a_source_may_use_it(path: str, code: str) -> None:
    assert banned(path, code) == []
