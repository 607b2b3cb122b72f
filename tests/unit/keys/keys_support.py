"""What tests of keys share: two KMEs on a clockwork loop, one master, two slaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from simulation.clockwork import run
from simulation.keynet import KeyNet, NetKme
from simulation.world import make_realm
from skex.base.errors import Refused
from skex.base.ids import BatchId, Coordinate, HubName, Incarnation, KmeName, SaeId
from skex.base.secret import Secret
from skex.keys.api import DeliveredKey, Requirements
from skex.keys.claims import Claims
from skex.keys.settings import KeySettings
from skex.protocol.changes import Batch
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose

T = TypeVar("T")

NORTH, SOUTH = KmeName("north"), KmeName("south")
ALICE, ANN = SaeId("alice@north"), SaeId("ann@north")
BOB, BEN = SaeId("bob@south"), SaeId("ben@south")
ANY = Requirements()
PLAIN = KeySettings()
STEADY_SECONDS = 0.001
CLAIMS = Claims(lambda: (make_realm(),))


class World:
    """A net with shorthands for its two ends."""

    def __init__(self, *, slowness: float = 0.0, settings: KeySettings = PLAIN, seed: int = 1) -> None:
        self.net = KeyNet("north", "south", seed=seed, settings=settings, slowness=slowness)
        self.running: list[asyncio.Task[None]] = []

    @property
    def north(self) -> NetKme:
        return self.net["north"]

    @property
    def south(self) -> NetKme:
        return self.net["south"]

    async def take(
        self,
        number: int = 1,
        *,
        caller: SaeId = ALICE,
        slaves: Sequence[SaeId] = (BOB,),
        key_bytes: int = 32,
        asked: Requirements = ANY,
    ) -> tuple[DeliveredKey, ...]:
        return await self.north.service.take_new(caller, slaves, number, key_bytes, asked)

    async def fetch(
        self, keys: Sequence[DeliveredKey], *, caller: SaeId = BOB, master: SaeId = ALICE
    ) -> tuple[DeliveredKey, ...]:
        return await self.south.service.take_by_id(caller, master, [key.key_id for key in keys])

    def task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self.net.loop.create_task(work)

    async def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Let time pass until something is so."""
        end = self.net.now() + seconds
        while not condition():
            assert self.net.now() < end, "it did not become so"
            await asyncio.sleep(STEADY_SECONDS)

    async def stock(self, keys: int, *, key_bytes: int = 32, lifetime: int = 86_400) -> None:
        """Put keys into the north's reserve."""
        await self.north.engine.root(SOUTH)
        await self.north.engine.establish(SOUTH, keys=keys, key_bytes=key_bytes, lifetime=lifetime)

    def depth(self, key_bytes: int = 32) -> int:
        return self.north.engine.reserve.depth(SOUTH, key_bytes)

    def run_background(self, *, filling: bool = False, upkeep: bool = True) -> None:
        """Run what the daemon runs."""
        service = self.north.service
        if filling:
            self.north.spawn(service.filling.run(), "filling")
        if upkeep:
            self.north.spawn(service.upkeep.run(), "upkeep")


def play(scene: Callable[[World], Awaitable[T]], **how: Any) -> T:
    """Run one scene in a world of its own."""

    async def main() -> T:
        world = World(**how)
        try:
            return await scene(world)
        finally:
            world.north.stop()
            world.south.stop()

    return run(main())


async def refusal(work: Awaitable[object]) -> str:
    """The code with which something is refused."""
    try:
        await work
    except Refused as refused:
        return refused.code.name
    raise AssertionError("it was not refused")


def same(mine: Sequence[DeliveredKey], theirs: Sequence[DeliveredKey]) -> bool:
    """Whether both ends have the same keys."""
    return [(key.key_id, key.key.expose()) for key in mine] == [
        (key.key_id, key.key.expose()) for key in theirs
    ]


def make_batch(
    number: int = 1,
    *,
    peer: KmeName = SOUTH,
    keys: int = 8,
    key_bytes: int = 32,
    threshold: int = 3,
    derived: Sequence[int] = (1, 2, 3, 4, 5),
) -> Batch:
    """A batch as both ends keep it."""
    claim = Claim(tuple(map(Coordinate, derived)), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR)
    hubs = tuple(Coordinate(one) for one in range(1, 6))
    context = CompactContext(1, threshold, hubs, keys, key_bytes, Purpose.TRAFFIC, 3600, None, claim)
    names = tuple(HubName(f"hub-{one}") for one in hubs)
    return Batch(peer, batch_id(number), context, names, claim, Secret(bytes(keys * key_bytes)))


def batch_id(number: int) -> BatchId:
    return BatchId(Incarnation(b"i" * 16), number)


def settings(**changed: Any) -> KeySettings:
    """The usual settings, but for these."""
    return replace(PLAIN, **changed)


def replace_method(owner: object, name: str, method: Callable[..., object]) -> None:
    """Let an object do something else from now on."""
    assert hasattr(owner, name)
    setattr(owner, name, method)
