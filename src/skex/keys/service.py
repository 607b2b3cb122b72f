"""The key service of one KME: policy, reserve, assignment and delivery behind ``KeyService``.

A caller was authenticated by its door; here it is authorised. What a refusal tells the caller is one
code; why, and by which rule, goes to ``KeyEvents``. It must not know doors, hubs or pads.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from skex.base import codes, limits
from skex.base.errors import ErrorCode, Refused
from skex.base.ids import KmeName, RealmName, RequestId, SaeId, kme_of
from skex.keys.api import DeliveredKey, PairStatus, Requirements
from skex.keys.engine import Engine
from skex.keys.held import HeldKeys
from skex.keys.reserve import Taken
from skex.protocol.establishment import key_id

_RETRIES = 2
"""How often a request starts over when the peer restarted, or another request took its keys."""


@dataclass(frozen=True, slots=True)
class KeySettings:
    """How this KME makes and keeps keys. Counts are keys, sizes bytes, times seconds.

    The reserve of each peer is filled up to ``reserve_high`` when it falls below ``reserve_low``.
    """

    key_bytes: int = 32
    key_bytes_min: int = limits.KEY_BYTES_MIN
    key_bytes_max: int = limits.KEY_BYTES_MAX
    per_request_max: int = 128
    slaves_max: int = limits.SLAVES
    lifetime: int = 86_400
    batch_keys: int = 128
    reserve_low: int = 128
    reserve_high: int = 512


class SaePolicy(Protocol):
    """Who may have which key; pure and synchronous. Refusals are explained to ``KeyEvents`` only."""

    def resolve(self, name: str) -> SaeId:
        """The qualified id of an alias or of a qualified id. Raises ``Refused`` (name-invalid)."""

    def may_take_new(self, caller: SaeId, slave: SaeId, number: int, key_bytes: int, purpose: str) -> bool:
        """Whether ``caller`` may be master of keys for ``slave``."""

    def may_take_by_id(self, caller: SaeId, master: SaeId) -> bool:
        """Whether ``caller`` may take keys of which ``master`` is master."""

    def demands(self, peer: KmeName, asked: Requirements) -> Requirements:
        """What is demanded of a key with ``peer``: the stricter of policy and request."""


class KeyEvents(Protocol):
    """Hears what was delivered and refused; one call for each request."""

    def delivered(self, caller: SaeId, peer: KmeName, key_ids: Sequence[uuid.UUID], *, new: bool) -> None:
        """Keys went to ``caller``: as master (``new``), or by their ids."""

    def refused(self, caller: SaeId, other: str, code: ErrorCode, *, new: bool) -> None:
        """A request was refused with ``code``."""


@dataclass(frozen=True, slots=True)
class _Order:
    """One request for new keys, checked."""

    caller: SaeId
    slaves: tuple[SaeId, ...]
    target: KmeName
    number: int
    key_bytes: int
    requirements: Requirements


class Keys:
    """``KeyService`` for the SAEs of one KME."""

    def __init__(
        self,
        *,
        realm: RealmName,
        name: KmeName,
        engine: Engine,
        held: HeldKeys,
        settings: KeySettings,
        policy: SaePolicy,
        events: KeyEvents,
    ) -> None:
        self._realm = realm
        self._name = name
        self._engine = engine
        self._held = held
        self._settings = settings
        self._events = events
        self._filling: dict[tuple[KmeName, int], asyncio.Task[None]] = {}
        self.policy = policy

    def resolve(self, name: str) -> SaeId:
        """See ``KeyService``."""
        return self.policy.resolve(name)

    # ── status ──────────────────────────────────────────────────────────────────────────────────
    async def status(self, caller: SaeId, slave: SaeId) -> PairStatus:
        """See ``KeyService``."""
        settings, target = self._settings, kme_of(slave)
        if kme_of(caller) != self._name or not self.policy.may_take_new(
            caller, slave, 1, settings.key_bytes, Requirements().purpose
        ):
            raise self._refusal(caller, slave, codes.NOT_AUTHORISED, new=True)
        return PairStatus(
            source_kme=self._name,
            target_kme=target,
            master=caller,
            slave=slave,
            key_bytes=settings.key_bytes,
            stored=min(self._engine.reserve.depth(target, settings.key_bytes), settings.reserve_high),
            stored_max=settings.reserve_high,
            per_request_max=settings.per_request_max,
            key_bytes_min=settings.key_bytes_min,
            key_bytes_max=settings.key_bytes_max,
            slaves_max=settings.slaves_max,
        )

    # ── new keys ────────────────────────────────────────────────────────────────────────────────
    async def take_new(
        self,
        caller: SaeId,
        slaves: Sequence[SaeId],
        number: int,
        key_bytes: int,
        requirements: Requirements,
    ) -> tuple[DeliveredKey, ...]:
        """See ``KeyService``."""
        others = ", ".join(slaves)
        try:
            target = self._check_new(caller, slaves, number, key_bytes, requirements)
            keys = await self._make(
                _Order(caller, tuple(sorted(slaves)), target, number, key_bytes, requirements)
            )
        except Refused as refused:
            raise self._refusal(caller, others, refused.code, new=True) from refused
        self._events.delivered(caller, target, [key.key_id for key in keys], new=True)
        return keys

    def _check_new(
        self,
        caller: SaeId,
        slaves: Sequence[SaeId],
        number: int,
        key_bytes: int,
        requirements: Requirements,
    ) -> KmeName:
        settings = self._settings
        if not settings.key_bytes_min <= key_bytes <= settings.key_bytes_max:
            raise Refused(codes.SIZE_UNSUPPORTED, f"{key_bytes} bytes")
        if not 1 <= number <= settings.per_request_max:
            raise Refused(codes.NUMBER_UNSUPPORTED, f"{number} keys")
        targets = {kme_of(slave) for slave in slaves}
        if not slaves or len(slaves) > settings.slaves_max or len(set(slaves)) != len(slaves):
            raise Refused(codes.SLAVES_UNSUPPORTED)
        permitted = kme_of(caller) == self._name and all(
            self.policy.may_take_new(caller, slave, number, key_bytes, requirements.purpose)
            for slave in slaves
        )
        if not permitted:
            raise Refused(codes.NOT_AUTHORISED)
        target = targets.pop()
        if targets or target == self._name:
            raise Refused(codes.SLAVES_UNSUPPORTED)
        if not self._engine.core.may_deliver:
            raise Refused(codes.NOT_READY)
        return target

    async def _make(self, order: _Order) -> tuple[DeliveredKey, ...]:
        """Take, assign, deliver; start over when the peer turned out to have restarted."""
        for attempt in range(_RETRIES + 1):
            try:
                return await self._make_once(order)
            except Refused as refused:
                if refused.code is not codes.INCARNATION_CHANGED or attempt == _RETRIES:
                    raise
        raise Refused(codes.INCARNATION_CHANGED)

    async def _make_once(self, order: _Order) -> tuple[DeliveredKey, ...]:
        engine = self._engine
        demands = self.policy.demands(order.target, order.requirements)
        taken = await self._take(order, demands)
        await engine.root(order.target)
        deliverable = await engine.assign_keys(
            order.target,
            taken,
            master=order.caller,
            slaves=order.slaves,
            purpose=order.requirements.purpose,
            lifetime=demands.lifetime or self._settings.lifetime,
            ahead=False,
        )
        return await self._deliver(order.target, deliverable.request, taken)

    async def _take(self, order: _Order, demands: Requirements) -> Taken:
        """Keys out of the reserve, made first where there are not enough."""
        engine = self._engine
        for _ in range(_RETRIES + 1):
            taken = engine.reserve.take(order.target, order.key_bytes, order.number, demands, engine.now())
            if taken is not None:
                return taken
            await self._fill(order.target, order.key_bytes, order.number)
        raise Refused(codes.REQUIREMENTS_UNMET)

    async def _deliver(self, target: KmeName, request: RequestId, taken: Taken) -> tuple[DeliveredKey, ...]:
        claims = self._engine.reserve.claims(target, taken)
        secrets = await self._engine.deliver(target, request, taken.keys)
        names = [
            key_id(self._realm, self._name, target, one.batch, index)
            for one in taken.keys
            for index in one.indexes
        ]
        return tuple(
            DeliveredKey(name, secret, claim)
            for name, secret, claim in zip(names, secrets, claims, strict=True)
        )

    # ── the reserve ─────────────────────────────────────────────────────────────────────────────
    async def _fill(self, target: KmeName, key_bytes: int, number: int) -> None:
        """Make a batch; whoever comes while one is made waits for that one and looks again."""
        under_way = self._filling.get((target, key_bytes))
        if under_way is None:
            under_way = asyncio.get_running_loop().create_task(
                self._establish(target, key_bytes, number), name=f"reserve of {target}"
            )
            self._filling[target, key_bytes] = under_way
            under_way.add_done_callback(lambda _: self._filling.pop((target, key_bytes), None))
        await asyncio.shield(under_way)

    async def _establish(self, target: KmeName, key_bytes: int, number: int) -> None:
        await self._engine.establish(
            target, keys=number, key_bytes=key_bytes, lifetime=self._settings.lifetime
        )

    async def keep_filled(self, target: KmeName) -> None:
        """Fill one peer's reserve of usual keys if it is below its mark; refusals end the try.

        Raises ``Refused``, so that the caller can back off.
        """
        settings, reserve = self._settings, self._engine.reserve
        self._engine.expire()
        if reserve.depth(target, settings.key_bytes) >= settings.reserve_low:
            return
        await self._engine.root(target)
        while reserve.depth(target, settings.key_bytes) < settings.reserve_high:
            await self._fill(target, settings.key_bytes, settings.batch_keys)

    # ── by id ───────────────────────────────────────────────────────────────────────────────────
    async def take_by_id(
        self, caller: SaeId, master: SaeId, key_ids: Sequence[uuid.UUID]
    ) -> tuple[DeliveredKey, ...]:
        """See ``KeyService``."""
        try:
            self._check_by_id(caller, master, len(key_ids))
            keys = await self._held.take(caller, master, key_ids)
        except Refused as refused:
            raise self._refusal(caller, master, refused.code, new=False) from refused
        self._events.delivered(caller, kme_of(master), key_ids, new=False)
        return keys

    def _check_by_id(self, caller: SaeId, master: SaeId, number: int) -> None:
        if kme_of(caller) != self._name or not self.policy.may_take_by_id(caller, master):
            raise Refused(codes.NOT_AUTHORISED)
        if not 1 <= number <= self._settings.per_request_max:
            raise Refused(codes.NUMBER_UNSUPPORTED, f"{number} ids")

    def _refusal(self, caller: SaeId, other: str, code: ErrorCode, *, new: bool) -> Refused:
        self._events.refused(caller, other, code, new=new)
        return Refused(code)
