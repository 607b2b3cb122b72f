"""The processes of a demonstration: started, watched, stopped by pid, none of them left behind.

Daemons live in their own sessions, so that Ctrl-C in a terminal reaches the demonstration alone, which
then stops them in order. It must not know what the processes do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skex.base import codes
from skex.base.errors import Refused

COMMAND_SECONDS: Final = 30
"""No command of a demonstration takes longer on a machine that is fit for one."""
STOP_SECONDS: Final = 5
"""A daemon that was told to stop and has not by then is killed."""
POLL_SECONDS: Final = 0.05
"""How often something that comes by itself is looked for."""
_TAIL_LINES: Final = 8
"""How much of what a failed command said is repeated."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a command left: its exit code, and its words. ``repr`` does not show them: keys pass here."""

    code: int
    stdout: bytes
    stderr: str

    def __repr__(self) -> str:
        return f"<Output of a command that ended with {self.code}>"


async def run(argv: Sequence[str], *, stdin: bytes = b"", seconds: float = COMMAND_SECONDS) -> Output:
    """Run a command to its end; it is killed after ``seconds``, or when whoever waits is cancelled.

    Raises ``Refused``: tool-missing, demo-failed if it did not end in time.
    """
    process = await _spawn(argv, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(stdin), seconds)
    except TimeoutError as error:
        raise failed(f"{_shown(argv)} did not end within {seconds:g} s") from error
    finally:
        await _kill(process)
    return Output(process.returncode or 0, stdout, stderr.decode(errors="replace"))


async def checked(argv: Sequence[str], *, stdin: bytes = b"") -> bytes:
    """Run a command that must succeed; returns its stdout. Raises ``Refused``: tool-missing, demo-failed."""
    output = await run(argv, stdin=stdin)
    if output.code:
        said = "\n".join(output.stderr.strip().splitlines()[-_TAIL_LINES:])
        raise failed(f"{_shown(argv)} ended with {output.code}: {said}")
    return output.stdout


async def until(ready: Callable[[], Awaitable[object]], what: str, *, seconds: float) -> None:
    """Return once ``ready`` returns something true; it is asked again and again.

    Raises ``Refused`` (demo-failed) if ``what`` did not come in time, and what ``ready`` raises.
    """
    try:
        async with asyncio.timeout(seconds):
            while True:
                if await ready():
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as error:
        raise failed(f"{what} did not come within {seconds:g} s") from error


def failed(why: str) -> Refused:
    """A step of the demonstration did not do what it is there to show."""
    return Refused(codes.DEMO_FAILED, why)


class Daemons:
    """Processes that run until they are stopped, by name; what they say goes to files in ``logs``."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, Process] = {}

    async def start(self, name: str, argv: Sequence[str]) -> None:
        """Start a process. Raises ``Refused`` (tool-missing)."""
        with _opened(self.log(name)) as log:
            self._running[name] = await _spawn(_dying_with_us(argv), stdin=DEVNULL, stdout=log, stderr=log)

    def is_running(self, name: str) -> bool:
        """Whether it was started and not ended since."""
        return name in self._running

    def pid(self, name: str) -> int:
        """The process id."""
        return self._running[name].pid

    def log(self, name: str) -> Path:
        """Where the process's words are."""
        return self._logs / f"{name}.log"

    def check(self, name: str) -> None:
        """Raises ``Refused`` (demo-failed) if the process has ended."""
        process = self._running[name]
        if process.returncode is not None:
            said = self.log(name).read_text(errors="replace").strip().splitlines()[-_TAIL_LINES:]
            raise failed(f"{name} ended with {process.returncode}: " + "\n".join(said))

    async def stop(self, name: str) -> None:
        """Ask it to end; kill it if it does not."""
        await _end(self._running.pop(name))

    async def kill(self, name: str) -> None:
        """End it as a crash would: with SIGKILL, unprepared."""
        await _kill(self._running.pop(name))

    async def stop_all(self) -> None:
        """End every process that is left, all at once."""
        await asyncio.gather(*(self.stop(name) for name in tuple(self._running)))


@contextlib.asynccontextmanager
async def running(argv: Sequence[str]) -> AsyncIterator[Process]:
    """A process that is killed at the end of the block, with pipes at both ends."""
    process = await _spawn(_dying_with_us(argv), stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        await _kill(process)
        # Whatever was not read is not needed; reading it closes the pipes.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.communicate(), STOP_SECONDS)


async def _spawn(argv: Sequence[str], *, stdin: int, stdout: int, stderr: int) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
        )
    except OSError as error:
        raise Refused(codes.TOOL_MISSING, f"{argv[0]}: {error.strerror}") from error


def _dying_with_us(argv: Sequence[str]) -> Sequence[str]:
    """Where the system can, it ends the process when we are killed and can end nothing any more."""
    wrapper = shutil.which("setpriv")
    return argv if wrapper is None else (wrapper, "--pdeathsig", "TERM", "--", *argv)


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        await _kill(process)


async def _kill(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A log that goes on where it ended: a daemon may be started more than once."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _shown(argv: Sequence[str]) -> str:
    """A command as people write it; none of ours has a secret among its arguments."""
    return " ".join((Path(argv[0]).name, *argv[1:]))
