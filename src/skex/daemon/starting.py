"""What both daemons do around their work: refuse root, lock the home, say where
they listen, wait for the signal to stop.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from skex.base import codes
from skex.base.errors import Refused, SkexError, StoreFault
from skex.runtime.files import replace_file
from skex.runtime.lock import HomeLock

if TYPE_CHECKING:
    from skex.policy.evaluate import PolicySet

STORE_FILE: Final = "store.sqlite"
PADS_DIRECTORY: Final = "pads"
ADMIN_SOCKET: Final = "admin.sock"
PORTS_FILE: Final = "ports.json"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


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


def write_ports(home: Path, ports: Mapping[str, int]) -> None:
    """Tell where this daemon listens: the system may have chosen. Raises ``StoreFault`` (home-io)."""
    path = home / PORTS_FILE
    try:
        replace_file(path, json.dumps(dict(ports)).encode() + b"\n", mode=0o644)
    except OSError as error:
        raise StoreFault(codes.HOME_IO, f"{path}: {error.strerror}") from error


def forget_ports(home: Path) -> None:
    """Nothing listens any more, or not yet: what a killed daemon left would mislead."""
    with suppress(OSError):
        (home / PORTS_FILE).unlink()


@contextmanager
def closing(close: Callable[[], object]) -> Iterator[None]:
    """Close at the end; what closing raises never hides why the end came."""
    try:
        yield
    except BaseException:
        with suppress(SkexError):
            close()
        raise
    close()


class Ending:
    """How a daemon comes to its end: told to by a signal, or because a background task failed.

    Signals are heard within the block, from the first moment of a start on.
    """

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

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.told)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        if not self._ended.cancel() and not self._ended.cancelled():
            self._ended.exception()  # heard, if the start failed before anybody waited

    async def wait(self) -> None:
        """Return at SIGTERM or SIGINT; raise what failed if that comes first."""
        await asyncio.shield(self._ended)


def load_policy(path: Path) -> PolicySet:
    """The policy file. Raises ``StoreFault`` (file-io), ``Refused`` (policy-syntax, policy-invalid)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"{path}: {error.strerror}") from error
    # Offline commands need a home, but no policy: start-up is most of their time.
    from skex.policy.evaluate import load  # noqa: PLC0415  # see above

    return load(data, str(path))
