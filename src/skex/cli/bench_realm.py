"""A realm to measure: production hubs and KMEs on one event loop, joined by TCP over loopback.

Everything is what ``skex hub run`` and ``skex kme run`` run, with homes, stores, pads, policies and
audit logs on a disk; only the processes are one. So all daemons share one core, and what is measured
is a floor of what separate machines do. It must not know what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from skex.base.errors import Refused
from skex.base.ids import HubName, KmeName, RealmName
from skex.base.secret import Secret
from skex.daemon import config, homes
from skex.daemon.config import KmeConfig
from skex.daemon.enrolment import open_hub, open_kme
from skex.daemon.kme import KmeDaemon
from skex.daemon.options import Endpoint
from skex.daemon.run_hub import run_hub
from skex.daemon.run_kme import run_kme
from skex.daemon.starting import PORTS_FILE
from skex.enrol.creating import KitOrder
from skex.enrol.realm import HubDescription, new_realm
from skex.keys.engine import Engine
from skex.pad.kinds import PadKind
from skex.runtime import clock
from skex.wire.realm import HubAttributes, Realm

HUBS: Final = tuple(HubName(f"hub-{number}") for number in range(1, 6))
THRESHOLD: Final = 3
NORTH: Final = KmeName("north")
SOUTH: Final = KmeName("south")
_LOOPBACK: Final = "127.0.0.1"
_START_SECONDS: Final = 30
_POLL_SECONDS: Final = 0.02

# Limits of policy protect shared hubs; here they would be what is measured.
_HUB_POLICY: Final = "version = 1\n[[hub.allow]]\nfrom = ['*']\nto = ['*']\n" + "".join(
    f"[[hub.{table}]]\n{names}\nstream = '{stream}'\nbytes_per_second = 1_000_000_000\n"
    "bytes_burst = 10_000_000_000\nrequests_per_second = 1_000_000\nrequests_burst = 10_000_000\n"
    for table, names in (("pair_quota", "from = ['*']\nto = ['*']"), ("total_quota", "to = ['*']"))
    for stream in ("shares", "peer-messages")
)
_KME_POLICY: Final = (
    "version = 1\n[[kme.allow]]\npeers = ['*']\n"
    "[[kme.limit]]\npeers = ['*']\nstored_batches_max = 10_000_000\nstored_bytes_max = 100_000_000_000\n"
)


@dataclass(frozen=True, slots=True)
class RunningKme:
    """One KME of the realm while it runs."""

    daemon: KmeDaemon
    engine: Engine

    @property
    def is_ready(self) -> bool:
        """Whether every link is up and keys may be delivered."""
        return self.engine.core.may_deliver and len(self.daemon.hubs_up) == len(HUBS)


class BenchRealm:
    """Five hubs, threshold 3, two KMEs with ``derived`` pads; homes are made below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.kmes: dict[KmeName, RunningKme] = {}
        self.ports: dict[HubName, int] = {}

    def enrol(self) -> None:
        """Make the homes, and enrol both KMEs with every hub."""
        described = [
            HubDescription(name, f"{_LOOPBACK}:7300", HubAttributes(name, "x", "y", "z", "skex"))
            for name in HUBS
        ]
        realm = new_realm(RealmName("bench"), THRESHOLD, described, issued=clock.unix_seconds())
        stated: dict[str, Any] = {"log.level": "error", "run.allow_root": os.geteuid() == 0}
        for kme in (NORTH, SOUTH):
            homes.init_kme(self._root / kme, kme, stated)
            (self._root / kme / homes.POLICY_FILE).write_text(_KME_POLICY)
        for hub in HUBS:
            listen = {**stated, "listen.address": Endpoint(_LOOPBACK, 0)}
            homes.init_hub(self._root / hub, hub, realm.to_bytes(), listen)
            (self._root / hub / homes.POLICY_FILE).write_text(_HUB_POLICY)
            for kme in (NORTH, SOUTH):
                self._enrol(realm, hub, kme)

    def _enrol(self, realm: Realm, hub: HubName, kme: KmeName) -> None:
        order = KitOrder(realm, hub, kme, PadKind.DERIVED, clock.unix_seconds())
        kit = io.BytesIO()
        with open_hub(config.load_hub(self._root / hub)) as home:
            home.create_kit(order, kit, lambda: None, replace=False, progress=_nobody)
        kit.seek(0)
        with open_kme(config.load_kme(self._root / kme)) as site:
            site.import_kit(kit, lambda: Secret(b""), replace=False, progress=_nobody)

    # ── running ─────────────────────────────────────────────────────────────────────────────────
    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything; within the block all links are up and the KMEs share a root."""
        async with contextlib.AsyncExitStack() as stack:
            for hub in HUBS:
                await stack.enter_async_context(_daemon(run_hub(config.load_hub(self._root / hub))))
            await _until(lambda: all((self._root / hub / PORTS_FILE).exists() for hub in HUBS))
            for hub in HUBS:
                self.ports[hub] = json.loads((self._root / hub / PORTS_FILE).read_text())["hub"]
            for kme in (NORTH, SOUTH):
                await stack.enter_async_context(_daemon(self._run_kme(kme)))
            await _until(lambda: len(self.kmes) == 2 and all(one.is_ready for one in self.kmes.values()))
            await self._meet()
            yield

    async def _meet(self) -> None:
        """Let the KMEs agree on their first root. A KME's links are up a moment before its hubs know it."""
        async with _at_start():
            while True:
                try:
                    return await self.kmes[NORTH].engine.root(SOUTH)
                except Refused:
                    await asyncio.sleep(_POLL_SECONDS)

    def _run_kme(self, kme: KmeName) -> Coroutine[Any, Any, None]:
        settings: KmeConfig = config.load_kme(self._root / kme)
        where = {hub: Endpoint(_LOOPBACK, port) for hub, port in self.ports.items()}

        def observe(daemon: KmeDaemon, engine: Engine) -> None:
            self.kmes[kme] = RunningKme(daemon, engine)

        return run_kme(replace(settings, hub_addresses=where), observe)


@contextlib.asynccontextmanager
async def _daemon(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a daemon beside the block; if it ends first, so does the block."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(_to_the_end(work))
        yield
        running.cancel()


async def _to_the_end(work: Awaitable[None]) -> None:
    await work
    raise click.Abort  # nobody but a signal ends it before it is cancelled


@contextlib.asynccontextmanager
async def _at_start() -> AsyncIterator[None]:
    """Bound what the start waits for."""
    try:
        async with asyncio.timeout(_START_SECONDS):
            yield
    except TimeoutError as error:
        raise click.ClickException(f"the realm did not come up within {_START_SECONDS} s") from error


async def _until(reached: Callable[[], bool]) -> None:
    async with _at_start():
        while True:
            if reached():
                return
            await asyncio.sleep(_POLL_SECONDS)


def _nobody(_count: int) -> None:
    """Nobody watches."""
