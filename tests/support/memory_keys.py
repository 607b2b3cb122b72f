"""KeyService in memory, with the real one's semantics: all or nothing, at most once per slave.

Two KMEs share one ``Exchange``, as if establishment and assignment never failed. Doors are tested
against it; faults are planted by ``fail`` and ``pause``.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from skex.base import codes
from skex.base.errors import Refused, SkexError
from skex.base.ids import KmeName, SaeId, kme_of, parse_sae_id
from skex.base.secret import Secret
from skex.keys.api import Cryptoperiod, DeliveredKey, KeyClaim, PairStatus, Requirements
from skex.runtime.entropy import random_bytes
from skex.wire.claim import ClaimClass, Enrolment, Randomness

PERIOD = Cryptoperiod(lifetime=86_400, use_seconds=3600, uses=1000)
CLAIM = KeyClaim(
    ClaimClass.COMPUTATIONAL, 3, 2, 0, ("h1", "h2", "h3"), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR
)


@dataclass(slots=True)
class _Kept:
    master: SaeId
    waiting: set[SaeId]
    key: bytes


@dataclass(slots=True)
class Exchange:
    """What both KMEs hold, and which masters may make keys for which slaves."""

    allowed: set[tuple[SaeId, SaeId]]
    kept: dict[uuid.UUID, _Kept] = field(default_factory=dict)
    delivered: list[tuple[SaeId, uuid.UUID]] = field(default_factory=list)


class MemoryKeys:
    """The key service of one KME of an exchange."""

    def __init__(
        self,
        kme: str,
        exchange: Exchange,
        *,
        aliases: Iterable[tuple[str, str]] = (),
        slaves_max: int = 4,
        per_request_max: int = 128,
    ) -> None:
        self.kme = KmeName(kme)
        self.exchange = exchange
        self.aliases = {name: SaeId(sae) for name, sae in aliases}
        self.slaves_max = slaves_max
        self.per_request_max = per_request_max
        self.key_bytes, self.key_bytes_min, self.key_bytes_max = 32, 16, 512
        self.stored_max = 1000
        self.fail: BaseException | None = None
        self.pause: float = 0.0
        self.demanded: list[Requirements] = []

    def resolve(self, name: str) -> SaeId:
        return self.aliases.get(name) or parse_sae_id(name)

    async def status(self, caller: SaeId, slave: SaeId) -> PairStatus:
        await self._fault()
        self._authorise(caller, [(caller, slave)])
        return PairStatus(
            source_kme=self.kme,
            target_kme=kme_of(slave),
            master=caller,
            slave=slave,
            key_bytes=self.key_bytes,
            stored=self.stored_max - len(self.exchange.delivered),
            stored_max=self.stored_max,
            per_request_max=self.per_request_max,
            key_bytes_min=self.key_bytes_min,
            key_bytes_max=self.key_bytes_max,
            slaves_max=self.slaves_max,
        )

    async def take_new(
        self,
        caller: SaeId,
        slaves: Sequence[SaeId],
        number: int,
        key_bytes: int,
        requirements: Requirements,
    ) -> tuple[DeliveredKey, ...]:
        if not self.key_bytes_min <= key_bytes <= self.key_bytes_max:
            raise Refused(codes.SIZE_UNSUPPORTED)
        if not 1 <= number <= self.per_request_max:
            raise Refused(codes.NUMBER_UNSUPPORTED)
        if not slaves or len(slaves) > self.slaves_max or len(set(slaves)) != len(slaves):
            raise Refused(codes.SLAVES_UNSUPPORTED)
        self._authorise(caller, [(caller, slave) for slave in slaves])
        if len({kme_of(slave) for slave in slaves}) != 1:
            raise Refused(codes.SLAVES_UNSUPPORTED)
        await self._fault()
        self.demanded.append(requirements)
        names = [uuid.UUID(bytes=random_bytes(16), version=4) for _ in range(number)]
        for name in names:
            self.exchange.kept[name] = _Kept(caller, set(slaves), random_bytes(key_bytes))
        return self._deliver(caller, names)

    async def take_by_id(
        self, caller: SaeId, master: SaeId, key_ids: Sequence[uuid.UUID]
    ) -> tuple[DeliveredKey, ...]:
        self._authorise(caller, [(master, caller)])
        if not 1 <= len(key_ids) <= self.per_request_max:
            raise Refused(codes.NUMBER_UNSUPPORTED)
        await self._fault()
        for name in key_ids:
            kept = self.exchange.kept.get(name)
            if kept is None or kept.master != master or caller not in kept.waiting:
                raise Refused(codes.KEY_NOT_HELD)
        for name in key_ids:
            self.exchange.kept[name].waiting.remove(caller)
        return self._deliver(caller, key_ids)

    def _deliver(self, caller: SaeId, names: Sequence[uuid.UUID]) -> tuple[DeliveredKey, ...]:
        self.exchange.delivered += [(caller, name) for name in names]
        return tuple(
            DeliveredKey(name, Secret(self.exchange.kept[name].key), CLAIM, PERIOD) for name in names
        )

    def _authorise(self, caller: SaeId, pairs: Sequence[tuple[SaeId, SaeId]]) -> None:
        if kme_of(caller) != self.kme or not set(pairs) <= self.exchange.allowed:
            raise Refused(codes.NOT_AUTHORISED)

    async def _fault(self) -> None:
        if self.pause:
            await asyncio.sleep(self.pause)
        if isinstance(self.fail, SkexError | RuntimeError):
            raise self.fail
