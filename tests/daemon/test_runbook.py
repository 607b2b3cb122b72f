"""The runbook for backups is run as it stands: a real network loses a KME, then a hub, and has both again."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from skex.enrol.ca import write_private
from skex.runtime.auditfile import verify
from tests.cli.transcripts import PASSPHRASE
from tests.support.network import Homes, Network, until

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "backup-and-restore.md"
BLOCK_SECONDS = 240
"""How long one block may take on a machine that is busy with other tests."""

# What the page expects of the system, in terms of processes of this test.
SUDO = """#!/bin/sh
[ "$1" = -u ] && shift 2
exec "$@"
"""
SYSTEMCTL = """#!/bin/sh
kind=${2%%@*} name=${2#*@}
home=$SYSTEM/lib/$name pid=$SYSTEM/run/$name.pid
case $1 in
start)
    rm -f "$home/ports.json"
    skex "${kind#skex-}" run --home "$home" >>"$SYSTEM/run/$name.log" 2>&1 &
    echo $! >"$pid"
    until [ -e "$home/ports.json" ]; do
        kill -0 "$(cat "$pid")" || { cat "$SYSTEM/run/$name.log" >&2; exit 1; }
        sleep 0.1
    done ;;
stop)
    kill "$(cat "$pid")"
    while kill -0 "$(cat "$pid")" 2>/dev/null; do sleep 0.1; done
    rm "$pid" ;;
*) exit 2 ;;
esac
"""


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


class System:
    """A machine with everything on it that the page speaks of, and a shell to type into."""

    def __init__(self, base: Path) -> None:
        self.base = base
        for name in ("bin", "lib", "run", "etc", "backups", "work"):
            (base / name).mkdir()
        for name, text in (("sudo", SUDO), ("systemctl", SYSTEMCTL)):
            (base / "bin" / name).write_text(text)
            (base / "bin" / name).chmod(0o755)
        (base / "bin" / "skex").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m skex "$@"\n')
        (base / "bin" / "skex").chmod(0o755)
        for name in ("backup-words", "kit-words"):
            (base / "etc" / name).write_text(PASSPHRASE + "\n")
        self.network = Network(Homes(base / "lib", hubs=3))
        self.network.homes.enrol()
        pki = self.network.homes.pki
        write_private(pki.directory / "ca.key", pki.authority.key)
        (base / "work" / "ca").symlink_to(pki.directory)

    def type(self, text: str) -> str:
        """Run a block; what it printed."""
        places = {"/var/lib/skex": "lib", "/var/backups/skex": "backups", "/etc/skex": "etc"}
        for place, name in places.items():
            text = text.replace(place, str(self.base / name))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],  # noqa: S607 - whichever is installed
            cwd=self.base / "work",
            env={"PATH": f"{self.base / 'bin'}:{os.environ['PATH']}", "SYSTEM": str(self.base)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=BLOCK_SECONDS,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self) -> None:
        for name in self.network.homes.hub_names:
            self.type(f"systemctl start skex-hub@{name}")
        for name in self.network.homes.kmes:
            self.type(f"systemctl start skex-kme@{name}")

    def close(self) -> None:
        for path in (self.base / "run").glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


def keys_flow(system: System) -> None:
    """Fresh ones, both ways: what was in reserve may be left from before."""
    network = system.network
    for master, slave in (("north", "south"), ("south", "north")):
        until(partial(network.hubs_up, master), "a hub")

        def exchanged(master: str = master, slave: str = slave) -> bool:
            key_id, key = network.new_key(master, slave)
            status, answer = network.key_by_id(slave, master, key_id)
            return status == 200 and answer["keys"] == [{"key_ID": key_id, "key": key}]

        until(exchanged, f"a key of {master} that {slave} has too", 120)


def test_lost_kme_and_lost_hub_come_back_by_the_book(system: System) -> None:
    keys_flow(system)
    for text in blocks():
        output = system.type(text)
        if "kme status" in text or "hub status" in text:
            assert "await new kits" not in output
            keys_flow(system)
    for name in ("north", "hub-1"):
        assert verify(system.base / "lib" / name / "audit").is_sound
    assert not (system.base / "lib" / "north.lost").exists()


def test_page_speaks_of_everything_that_a_restore_lists() -> None:
    text = PAGE.read_text()
    for step in ("skex kit create", "skex kit import", "skex ca issue kme", "skex hub update-realm"):
        assert step in text
