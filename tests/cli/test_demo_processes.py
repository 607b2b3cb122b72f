from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from skex.base.errors import Refused
from skex.cli import demo_processes
from skex.cli.demo_processes import Daemons, checked, run, running, until

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); "
FOREVER = "import time; time.sleep(60)"


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def exists(pid: int) -> bool:
    """Whether a process is there: one that ended and was waited for is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def with_daemons(logs: Path, scene: Callable[[Daemons], Awaitable[None]]) -> None:
    async def play() -> None:
        daemons = Daemons(logs)
        try:
            await scene(daemons)
        finally:
            await daemons.stop_all()

    asyncio.run(play())


def says(log: Path, word: str) -> bool:
    return word in log.read_text()


async def until_said(log: Path, word: str) -> None:
    async def said() -> bool:
        return says(log, word)

    await until(said, "the word", seconds=10)


def test_output_of_a_command_is_its_stdout_and_input_reaches_it() -> None:
    echo = python("import sys; print(sys.stdin.read().upper()); print('talk', file=sys.stderr)")
    output = asyncio.run(run(echo, stdin=b"word"))
    assert (output.code, output.stdout, output.stderr) == (0, b"WORD\n", "talk\n")
    assert "WORD" not in repr(output)


def test_a_command_that_fails_is_named_with_its_last_words() -> None:
    with pytest.raises(Refused, match=r"(?s)demo-failed.*ended with 3: .*the reason"):
        asyncio.run(checked(python("import sys; print('the reason', file=sys.stderr); sys.exit(3)")))


def test_a_command_that_hangs_is_killed_at_its_deadline(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    hanging = python(
        f"import os, pathlib; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); {FOREVER}"
    )
    with pytest.raises(Refused, match="did not end within"):
        asyncio.run(run(hanging, seconds=1))
    assert not exists(int(mark.read_text()))


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(Refused, match=r"tool-missing.*no-such-program-here"):
        asyncio.run(checked(["no-such-program-here"]))


def test_stopped_daemon_is_gone_and_its_words_are_kept(tmp_path: Path) -> None:
    async def scene(daemons: Daemons) -> None:
        await daemons.start("one", python(f"print('up', flush=True); {FOREVER}"))
        await until_said(daemons.log("one"), "up")
        pid = daemons.pid("one")
        daemons.check("one")
        await daemons.stop("one")
        assert not exists(pid)

    with_daemons(tmp_path, scene)
    assert (tmp_path / "one.log").read_text() == "up\n"


def test_a_daemon_that_ignores_sigterm_is_killed_after_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_processes, "STOP_SECONDS", 0.2)

    async def scene(daemons: Daemons) -> None:
        await daemons.start("stubborn", python(STUBBORN + "time.sleep(60)"))
        await until_said(daemons.log("stubborn"), "up")
        pid = daemons.pid("stubborn")
        await daemons.stop("stubborn")
        assert not exists(pid)

    with_daemons(tmp_path, scene)


def test_a_daemon_that_crashed_is_reported_with_its_last_words(tmp_path: Path) -> None:
    async def scene(daemons: Daemons) -> None:
        await daemons.start("weak", python("raise SystemExit('out of luck')"))

        async def check() -> None:
            daemons.check("weak")

        with pytest.raises(Refused, match=r"(?s)weak ended with 1: .*out of luck"):
            await until(check, "nothing", seconds=10)

    with_daemons(tmp_path, scene)


def test_killed_daemon_is_gone_and_can_be_started_again(tmp_path: Path) -> None:
    async def scene(daemons: Daemons) -> None:
        for _ in range(2):
            await daemons.start("one", python(FOREVER))
            pid = daemons.pid("one")
            await daemons.kill("one")
            assert not exists(pid)

    with_daemons(tmp_path, scene)


@pytest.fixture
def _ctrl_c_is_heard() -> Iterator[None]:
    """A shell lets what it starts in the background ignore Ctrl-C, and that is inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_is_heard")
def test_ctrl_c_in_the_middle_leaves_no_process_behind(tmp_path: Path) -> None:
    pids: list[int] = []

    async def scene(daemons: Daemons) -> None:
        await daemons.start("one", python(FOREVER))
        await daemons.start("two", python(FOREVER))
        pids.extend(daemons.pid(name) for name in ("one", "two"))
        async with running(python(FOREVER)) as process:
            pids.append(process.pid)
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        with_daemons(tmp_path, scene)
    assert len(pids) == 3
    assert not any(exists(pid) for pid in pids)


def test_a_cancelled_command_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    source = f"import os, pathlib; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); {FOREVER}"

    async def started() -> bool:
        return mark.exists() and mark.read_text() != ""

    async def play() -> None:
        async with asyncio.TaskGroup() as group:
            work = group.create_task(run(python(source)))
            await until(started, "its pid", seconds=10)
            work.cancel()

    asyncio.run(play())
    assert not exists(int(mark.read_text()))


def test_what_does_not_come_in_time_is_named() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(Refused, match=r"demo-failed.*the moon did not come within 0\.05 s"):
        asyncio.run(until(never, "the moon", seconds=0.05))
