"""What both daemons do around their work: refuse root, lock the home, open the master key, say where
they listen, wait for the signal to stop.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from skex.base import codes
from skex.base.errors import Refused, StoreFault
from skex.base.secret import Secret
from skex.policy.evaluate import PolicySet, load
from skex.runtime.files import replace_file
from skex.runtime.lock import HomeLock
from skex.store.sealing import MASTER_KEY_BYTES

STORE_FILE: Final = "store.sqlite"
MASTER_KEY_FILE: Final = "master.key"
PADS_DIRECTORY: Final = "pads"
ADMIN_SOCKET: Final = "admin.sock"
PORTS_FILE: Final = "ports.json"
_OTHERS: Final = 0o077


def refuse_root(*, allowed: bool) -> None:
    """Nothing here needs root. Raises ``Refused`` (root-refused)."""
    if os.geteuid() == 0 and not allowed:
        raise Refused(codes.ROOT_REFUSED)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home's lock. Raises ``StoreFault``: home-in-use, home-missing."""
    lock = HomeLock(home)
    try:
        yield
    finally:
        lock.release()


def read_master_key(home: Path) -> Secret:
    """The key that seals what is at rest; the caller wipes it.

    Raises ``StoreFault`` (master-key-invalid): missing, readable by others, or not 32 bytes.
    """
    path = home / MASTER_KEY_FILE
    try:
        if path.stat().st_mode & _OTHERS:
            raise StoreFault(codes.MASTER_KEY_INVALID, f"{path} is readable by others")
        data = path.read_bytes()
    except OSError as error:
        raise StoreFault(codes.MASTER_KEY_INVALID, f"{path} cannot be read") from error
    if len(data) != MASTER_KEY_BYTES:
        raise StoreFault(codes.MASTER_KEY_INVALID, f"{path} has {len(data)} bytes")
    return Secret(data)


def write_ports(home: Path, ports: Mapping[str, int]) -> None:
    """Tell where this daemon listens: the system may have chosen."""
    replace_file(home / PORTS_FILE, json.dumps(dict(ports)).encode() + b"\n", mode=0o644)


class Ending:
    """How a daemon comes to its end: told to by a signal, or because a background task failed."""

    def __init__(self) -> None:
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def failed(self, error: BaseException) -> None:
        """Nothing can go on: its memory may be ahead of its store."""
        if not self._ended.done():
            self._ended.set_exception(error)

    def told(self) -> None:
        """The operator wants it to stop."""
        if not self._ended.done():
            self._ended.set_result(None)

    async def wait(self) -> None:
        """Return at SIGTERM or SIGINT; raise what failed if that comes first."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.told)
        try:
            await self._ended
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def load_policy(path: Path) -> PolicySet:
    """The policy file. Raises ``StoreFault`` (file-io), ``Refused`` (policy-syntax, policy-invalid)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreFault(codes.FILE_IO, str(path)) from error
    return load(data, str(path))
