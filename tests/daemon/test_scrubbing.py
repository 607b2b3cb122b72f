"""Daemons that run leave nothing erased in their store's log for longer than a while."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from skex.base import codes, limits
from skex.base.errors import StoreFault
from skex.daemon import config
from skex.daemon.enrolment import open_hub, open_kme
from skex.daemon.run_hub import run_hub
from skex.daemon.run_kme import run_kme
from skex.pad.kinds import PadKind
from skex.store.opened import OpenedStore
from tests.support.network import SECONDS, Homes


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Homes:
    homes = Homes(tmp_path, hubs=3, kmes={"north": PadKind.DERIVED}, door=False)
    homes.enrol()
    monkeypatch.setattr(limits, "STORE_SCRUB_SECONDS", 0.05)
    return homes


def runs(name: str, made: Homes) -> Coroutine[Any, Any, None]:
    if name == "north":
        return run_kme(config.load_kme(made.home(name)))
    return run_hub(config.load_hub(made.home(name)))


@pytest.mark.parametrize("name", ["north", "hub-1"])
def test_log_of_the_store_is_emptied_while_the_daemon_runs(
    name: str, made: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = made.home(name)
    log, scrubbed = home / "store.sqlite-wal", list[bool]()
    scrub = OpenedStore.scrub
    scrubbed_enough: list[Callable[[], object]] = []

    def watched(store: OpenedStore) -> None:
        store.set_meta("test", str(len(scrubbed)))
        before = log.stat().st_size
        scrub(store)
        scrubbed.append(before > 0 and log.stat().st_size == 0)
        if len(scrubbed) == 3:  # all of them while it runs: its end makes one at most
            scrubbed_enough[0]()

    monkeypatch.setattr(OpenedStore, "scrub", watched)

    async def run() -> None:
        loop, enough = asyncio.get_running_loop(), asyncio.Event()
        scrubbed_enough.append(lambda: loop.call_soon_threadsafe(enough.set))
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            group.create_task(runs(name, made))
            await enough.wait()
            os.kill(os.getpid(), signal.SIGTERM)

    asyncio.run(run())
    assert scrubbed[:3] == [True, True, True]


@pytest.mark.parametrize("opened", [open_hub, open_kme])
def test_commands_scrub_and_close_also_where_one_of_them_fails(
    opened: Callable[..., Any], made: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = (
        config.load_hub(made.home("hub-1")) if opened is open_hub else config.load_kme(made.home("north"))
    )
    calls: list[str] = []
    close = OpenedStore.close

    def scrub(_: OpenedStore) -> None:
        calls.append("scrub")
        raise StoreFault(codes.STORE_FULL)

    def closing(store: OpenedStore) -> None:
        calls.append("close")
        close(store)

    monkeypatch.setattr(OpenedStore, "scrub", scrub)
    monkeypatch.setattr(OpenedStore, "close", closing)
    with pytest.raises(StoreFault, match="store-full"), opened(stated):
        pass
    with pytest.raises(ZeroDivisionError), opened(stated):
        raise ZeroDivisionError
    assert calls == ["scrub", "close"] * 2
