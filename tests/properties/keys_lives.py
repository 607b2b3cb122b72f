"""Two KMEs with what the daemon runs, four applications, and the books on who got which key."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from simulation.clockwork import ClockworkLoop
from simulation.keynet import KeyNet, NetKme
from simulation.rules import RuleBrokenError
from skex.base import limits
from skex.base.errors import Refused
from skex.base.ids import KmeName, SaeId
from skex.keys.api import DeliveredKey, Requirements
from skex.keys.filling import ReserveMarks
from skex.keys.settings import KeySettings

NAMES = ("north", "south")
ALL_HUBS = (1, 2, 3, 4, 5)
SETTINGS = KeySettings(per_request_max=20, batch_keys=16, reserve_low=20, reserve_high=40, lifetime=600)
WITHIN = limits.TAKE_SECONDS + 2
"""Every request has ended by then: its deadline, and what a commit takes."""


@dataclass(frozen=True)
class Request:
    """One request of an application."""

    task: asyncio.Task[None]
    begun: float


@dataclass(frozen=True)
class Given:
    """Keys that a master got, and who else may have them."""

    master: SaeId
    slaves: tuple[SaeId, ...]
    keys: tuple[DeliveredKey, ...]


def other(name: str) -> str:
    """The other end."""
    return NAMES[1 - NAMES.index(name)]


class Lives:
    """Everything that may happen, and what must be so whatever happens."""

    def __init__(self, seed: int, slowness: float) -> None:
        self.runner = asyncio.Runner(loop_factory=ClockworkLoop)
        self.unhandled: list[str] = []
        self.runner.get_loop().set_exception_handler(lambda _, context: self.unhandled.append(str(context)))
        self.requests: list[Request] = []
        self.given: list[Given] = []
        self.had: dict[tuple[uuid.UUID, SaeId], bytes] = {}
        self.values: dict[uuid.UUID, bytes] = {}
        self.net = self.runner.run(self._begin(seed, slowness))

    async def _begin(self, seed: int, slowness: float) -> KeyNet:
        net = KeyNet(*NAMES, seed=seed, settings=SETTINGS, slowness=slowness)
        for end in net.ends.values():
            _run_background(end)
        return net

    def close(self) -> None:
        """End it all."""
        self.runner.close()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.runner.run(asyncio.sleep(seconds))

    # ── applications ────────────────────────────────────────────────────────────────────────────
    def ask(
        self,
        name: str,
        caller: str,
        slaves: Iterable[str],
        numbers: Sequence[int],
        *,
        lifetime: int | None = None,
        pause: float = 0.0,
    ) -> None:
        """Requests for new keys, one after another or at once."""
        master = SaeId(f"{caller}@{name}")
        others = tuple(SaeId(f"{one}@{other(name)}") for one in sorted(slaves))

        async def request(number: int) -> None:
            asked = Requirements(lifetime=lifetime)
            keys = await self.net[name].service.take_new(master, others, number, 32, asked)
            self._take_in(master, keys)
            self.given.append(Given(master, others, keys))

        async def scene() -> None:
            for number in numbers:
                self._start(name, request(number))
                await asyncio.sleep(pause)

        self.runner.run(scene())

    def fetch(self, slave: SaeId, given: Given, keys: Sequence[DeliveredKey], times: int = 1) -> None:
        """Requests for keys by their ids, at once."""

        async def request() -> None:
            service = self.net[slave.partition("@")[2]].service
            ids = [key.key_id for key in keys]
            self._take_in(slave, await service.take_by_id(slave, given.master, ids))

        async def scene() -> None:
            for _ in range(times):
                self._start(slave.partition("@")[2], request())

        self.runner.run(scene())

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self.requests.append(Request(self.net[name].life.request(work, "request"), self.net.now()))

    def _take_in(self, sae: SaeId, keys: Sequence[DeliveredKey]) -> None:
        for key in keys:
            if (key.key_id, sae) in self.had:
                raise RuleBrokenError(f"{sae} gets {key.key_id} a second time", "delivered-once")
            value = key.key.expose()
            self.had[key.key_id, sae] = value
            if self.values.setdefault(key.key_id, value) != value:
                raise RuleBrokenError(f"{sae} gets another key as {key.key_id}", "equal-keys")

    # ── operators and the power supply ──────────────────────────────────────────────────────────
    def take_down(self, numbers: Iterable[int]) -> None:
        """Hubs go down."""

        async def scene() -> None:
            self.net.take_down(*numbers)

        self.runner.run(scene())

    def bring_up(self, numbers: Iterable[int] = ALL_HUBS) -> None:
        """Hubs come up."""

        async def scene() -> None:
            self.net.bring_up(*numbers)

        self.runner.run(scene())

    def restart(self, name: str) -> None:
        """A KME dies and starts."""

        async def scene() -> None:
            self.net[name].restart()
            _run_background(self.net[name])

        self.runner.run(scene())

    def fill(self, name: str, *, on: bool) -> None:
        """Switch filling."""

        async def scene() -> None:
            filling = self.net[name].service.filling
            filling.add(ReserveMarks(KmeName(other(name)), 32, 20, 40))
            if on:
                filling.switch_on()
            else:
                self.net[name].spawn(filling.switch_off(), "switching off")

        self.runner.run(scene())

    def drain(self, name: str) -> None:
        """Empty a reserve."""

        async def scene() -> None:
            self.net[name].service.drain(KmeName(other(name)))

        self.runner.run(scene())

    # ── what must be so ─────────────────────────────────────────────────────────────────────────
    def check(self) -> None:
        """Requests end in time, and only with keys or a refusal."""
        assert not self.unhandled
        for request in self.requests:
            if not request.task.done():
                assert self.net.now() - request.begun <= WITHIN
            elif not request.task.cancelled():
                error = request.task.exception()
                if error is not None and not isinstance(error, Refused):
                    raise error
        self.requests = [one for one in self.requests if not one.task.done()]

    def check_flow(self) -> None:
        """With everybody up, hearing and near, every application gets keys at its first request."""
        self.net.slowness = min(self.net.slowness, 0.05)
        for end in self.net.ends.values():
            end.deaf = False
        for hub in self.net.hubs.values():
            hub.lies = False
        self.bring_up()
        self.wait(limits.WITNESS_SECONDS + limits.ROOT_RETRY_SECONDS)
        self.check()
        assert not self.requests
        for name in NAMES:
            before = len(self.given)
            self.ask(name, "a", "b", [3])
            self.wait(WITHIN)
            (given,) = self.given[before:]
            had = len(self.had)
            self.fetch(given.slaves[0], given, given.keys)
            self.wait(WITHIN)
            assert len(self.had) == had + 3
        self.check()
        for end in self.net.ends.values():
            end.stop()


def _run_background(end: NetKme) -> None:
    """What the daemon runs."""
    end.spawn(end.service.filling.run(), "filling")
    end.spawn(end.service.upkeep.run(), "upkeep")
