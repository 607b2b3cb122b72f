from __future__ import annotations

import asyncio
import gc
import os
import signal
from pathlib import Path

import pytest

from skex.base import codes
from skex.base.errors import StoreFault
from skex.daemon.starting import Ending, closing, forget_ports, write_ports


def test_a_signal_during_a_start_ends_it_as_soon_as_it_waits() -> None:
    async def run() -> None:
        with Ending() as ending:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.01)  # the start goes on: nothing is left half done
            await asyncio.wait_for(ending.wait(), 1)

    asyncio.run(run())


def test_the_first_failure_is_why_a_daemon_ends() -> None:
    fault = StoreFault(codes.STORE_FULL)

    async def run() -> None:
        with Ending() as ending:
            ending.failed(fault)
            ending.failed(ZeroDivisionError())
            ending.told()
            with pytest.raises(StoreFault) as caught:
                await ending.wait()
            assert caught.value is fault

    asyncio.run(run())


def test_a_failure_that_nobody_waited_for_makes_no_noise_of_its_own() -> None:
    said: list[object] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        with Ending() as ending:
            ending.failed(StoreFault(codes.STORE_FULL))
        del ending
        gc.collect()

    asyncio.run(run())
    assert said == []


def test_one_thing_that_fails_at_the_end_does_not_keep_the_others_from_it() -> None:
    ended: list[str] = []

    def fail() -> None:
        ended.append("scrub")
        raise StoreFault(codes.STORE_FULL)

    with pytest.raises(StoreFault), closing(lambda: ended.append("close")), closing(fail):
        pass
    assert ended == ["scrub", "close"]


def test_what_closing_raises_never_hides_why_the_end_came() -> None:
    def close() -> None:
        raise StoreFault(codes.AUDIT_IO, "an earlier write failed")

    with pytest.raises(StoreFault) as caught, closing(close):
        raise StoreFault(codes.STORE_FULL)
    assert caught.value.code is codes.STORE_FULL
    with pytest.raises(StoreFault) as caught, closing(close):
        pass
    assert caught.value.code is codes.AUDIT_IO


def test_ports_that_cannot_be_written_are_a_fault_of_the_home(tmp_path: Path) -> None:
    write_ports(tmp_path, {"hub": 1})
    forget_ports(tmp_path)
    forget_ports(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(StoreFault) as caught:
        write_ports(tmp_path / "missing", {"hub": 1})
    assert caught.value.code is codes.HOME_IO
