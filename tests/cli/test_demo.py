"""The demonstration as a user runs it, once from end to end and once interrupted."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skex.cli.demo_processes import until

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "skex", "demo"]
LIAR = f"{sys.executable} -m simulation.lying_hub"
SECONDS = 150
"""Many times what it takes alone: here it shares the machine with every other test."""


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the demonstration makes its directory: short, because paths of Unix sockets are."""
    path = Path(tempfile.mkdtemp(prefix="demo-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def processes_in(place: Path) -> list[str]:
    """The command lines of the processes whose homes are in ``place``."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # ended meanwhile
        if any(word.startswith(f"{place}/") for word in words):
            found.append(" ".join(words))
    return found


def start(place: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*DEMO, *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_whole_demonstration_shows_one_key_at_both_ends_and_survives_every_fault(place: Path) -> None:
    demo = start(place, "--json", "--liar", LIAR)
    stdout, stderr = demo.communicate(timeout=SECONDS)
    assert demo.returncode == 0, stderr.decode()
    shown = json.loads(stdout)
    assert shown["good"] is True
    assert shown["keys_match"] is True
    assert shown["tls"] == "TLS_AES_256_GCM_SHA384"
    assert shown["message"].startswith("hello from web@north")
    assert shown["claim"]["class"] == "computational"
    assert {scene["name"]: scene["outcome"] for scene in shown["scenes"]} == {
        "two-hubs-killed": "passed",
        "one-hub-lies": "passed",
        "three-hubs-down": "passed",
        "kme-killed": "passed",
    }
    assert shown["doctor"] == []
    assert shown["audit_records"] > 50
    assert {(cost["kme"], cost["pad"]) for cost in shown["pad_bytes_per_key"]} == {
        ("north", "derived"),
        ("south", "table"),
    }
    for cost in shown["pad_bytes_per_key"]:
        assert len(cost["links"]) == 5
        assert all(32 < spent < 48 for spent in cost["links"].values())
    assert b"web@north asked" in stderr
    assert processes_in(place) == []
    assert list(place.iterdir()) == []


def test_whole_demonstration_of_trust_shows_every_refusal_split_and_broken_log(place: Path) -> None:
    demo = start(place, "--trust", "--json")
    stdout, stderr = demo.communicate(timeout=2 * SECONDS)
    assert demo.returncode == 0, stderr.decode()
    shown = json.loads(stdout)
    assert shown["good"] is True
    scenes = {scene["name"]: scene for scene in shown["scenes"]}
    assert {scene["outcome"] for scene in scenes.values()} == {"passed"}
    for name, rule in {
        "refused-by-hub": "hub.deny.east-not-west",
        "refused-by-kme": "kme.deny.west-has-left",
        "refused-by-sae-rule": "sae.deny.no-payroll",
        "captured-hubs": "kme.limit.two-parties",
    }.items():
        tested, asked, recorded = scenes[name]["commands"][-3:]
        assert tested["exit_code"] == 3
        assert any(f"{rule}, line " in line for line in tested["output"]), name
        assert rule not in "".join(asked["output"])
        assert f" by {rule} " in recorded["output"][0]
    assert "information-theoretic, with a margin of 3" in scenes["explain-table"]["seen"]
    assert "information-theoretic, with a margin of 1" in scenes["explain-mixed"]["seen"]
    assert "computational, with a margin of 0" in scenes["explain-derived"]["seen"]
    for name, exposed in {"compromise-hubs": (0, 4), "compromise-kme": (4,)}.items():
        assert tuple(one["exit_code"] for one in scenes[name]["commands"]) == exposed
    for name, fault in {"log-altered": "altered:", "log-dropped": "missing:", "log-cut": "cut off"}.items():
        verified = scenes[name]["commands"][-1]
        assert verified["exit_code"] == 4
        assert any(fault in line for line in verified["output"] if line.startswith("wrong"))
    assert scenes["log-altered"]["commands"][0]["exit_code"] == 0
    assert processes_in(place) == []
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_interrupted_demonstration_leaves_no_process_and_no_file(place: Path, number: signal.Signals) -> None:
    demo = start(place)

    async def hubs_run() -> bool:
        assert demo.poll() is None
        return any("hub run" in line for line in processes_in(place))

    try:
        asyncio.run(until(hubs_run, "a hub", seconds=SECONDS))
        demo.send_signal(number)
        stdout, stderr = demo.communicate(timeout=SECONDS)
    finally:
        demo.kill()
    assert demo.returncode == 130, stderr.decode()
    assert stdout == b""
    assert processes_in(place) == []
    assert list(place.iterdir()) == []


def test_demonstration_without_its_tools_names_them_and_how_to_get_them(place: Path) -> None:
    demo = subprocess.run(
        DEMO,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(place), "PATH": str(place)},
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert demo.returncode == 3
    assert b"curl, openssl" in demo.stderr
    assert b"sudo apt-get install curl openssl" in demo.stderr
    assert list(place.iterdir()) == []
