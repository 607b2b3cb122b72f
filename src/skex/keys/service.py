"""The key service of one KME: policy, supply, assignment and delivery behind ``KeyService``.

A caller was authenticated by its door; here it is authorised. What a refusal tells the caller is one
code; why, and by which rule, goes to ``KeyEvents``. It must not know doors, hubs or pads.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

from skex.base import codes, limits
from skex.base.errors import ErrorCode, Refused
from skex.base.ids import BatchId, KmeName, RealmName, SaeId, kme_of
from skex.keys.api import Cryptoperiod, DeliveredKey, PairStatus, Requirements
from skex.keys.blocks import Blocks, Lot
from skex.keys.engine import Engine, wipe
from skex.keys.filling import Filling, ReserveMarks
from skex.keys.handover import Wanted, hand_over
from skex.keys.health import Turn
from skex.keys.held import Claimed
from skex.keys.orders import Kind, Pair
from skex.keys.settings import KeySettings
from skex.keys.supply import Supply
from skex.keys.upkeep import Upkeep
from skex.policy.decisions import DEFAULT, Decision, Place
from skex.protocol.changes import Role
from skex.protocol.establishment import key_id
from skex.wire.peer import KeyRange

_TRIES: Final = 4
"""How often a request is tried when what it tried with was taken away meanwhile."""
_AGAIN: Final = (
    codes.INCARNATION_CHANGED,  # the peer restarted: its new incarnation is known now
    codes.ASSIGN_HOLD_ENDED,  # a block's hold ended before the delivery
    codes.ASSIGN_RELEASED,  # a block was given up
    codes.KEY_REVOKED,
    codes.KEY_ASSIGNED,
    codes.KEY_NOT_HELD,  # one end does not have these keys any more: others may do
    codes.NO_COMMON_ROOT,
    codes.ASSIGN_UNANSWERED,  # the peer lost the root, or cannot know that this end kept it
    codes.CONTEXT_DISAGREES,  # the next batch names the other realm epoch
)


class SaePolicy(Protocol):
    """Who may have which key; pure and synchronous. Refusals are explained to ``KeyEvents`` only."""

    def resolve(self, name: str) -> SaeId:
        """The qualified id of an alias or of a qualified id. Raises ``Refused`` (name-invalid)."""

    def may_take_new(
        self,
        caller: SaeId,
        slave: SaeId,
        number: int,
        key_bytes: int,
        purpose: str,
        *,
        slaves: int = 1,
        lifetime: int | None = None,
    ) -> Decision:
        """Whether ``caller`` may be master of keys for ``slave``, which is one of ``slaves``."""

    def may_take_by_id(
        self, caller: SaeId, master: SaeId, number: int = 1, purpose: str | None = None
    ) -> Decision:
        """Whether ``caller`` may take keys of which ``master`` is master, for the purpose they have."""

    def demands(self, peer: KmeName, asked: Requirements) -> Requirements:
        """What is demanded of a key with ``peer``: the stricter of policy and request."""

    def cryptoperiod(self, caller: SaeId, others: Sequence[SaeId], *, new: bool) -> Cryptoperiod:
        """How long a key of ``caller`` with all of ``others`` may wait and be used."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Keys that go to ``caller``: as master (``new``), or by their ids.

    ``batches`` are those of the keys, each once; ``others`` the slaves of a master, or the master of a
    slave; ``purpose`` the application's label.
    """

    caller: SaeId
    peer: KmeName
    key_ids: tuple[uuid.UUID, ...]
    batches: tuple[BatchId, ...]
    others: tuple[SaeId, ...]
    purpose: str
    new: bool


class KeyEvents(Protocol):
    """Hears what became of each request: exactly one call for one that ended.

    ``delivered`` comes before the keys go out: if it raises, they do not.
    """

    def delivered(self, delivery: Delivery) -> None:
        """Keys go to an SAE."""

    def lost(self, delivery: Delivery) -> None:
        """A delivery was committed, but the caller had gone meanwhile: nobody gets these keys."""

    def refused(
        self, caller: SaeId, others: Sequence[SaeId], code: ErrorCode, *, new: bool, why: Decision | None
    ) -> None:
        """A request was refused with ``code``; ``why`` is what policy decided, where it did."""

    def reserve_turned(self, marks: ReserveMarks, turn: Turn) -> None:
        """A reserve became starved, or is so no more."""


class _Forbidden(Refused):
    """What policy refuses; the caller learns no more than the code."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(codes.NOT_AUTHORISED)
        self.decision = decision


_Given: TypeAlias = tuple[tuple[DeliveredKey, ...], Delivery]
"""Keys, and what is to be recorded of them."""


@dataclass(frozen=True, slots=True)
class _Order:
    """One request for new keys, checked."""

    pair: Pair
    number: int

    @property
    def target(self) -> KmeName:
        return self.pair.kind.peer


class Keys:
    """``KeyService`` for the SAEs of one KME. ``filling`` and ``upkeep`` are for the daemon to run."""

    def __init__(
        self,
        *,
        realm: RealmName,
        name: KmeName,
        engine: Engine,
        settings: KeySettings,
        reserves: Iterable[ReserveMarks],
        policy: SaePolicy,
        events: KeyEvents,
    ) -> None:
        """``reserves`` are filled from the start on, others once keys were delivered from them."""
        self._realm = realm
        self._name = name
        self._engine = engine
        self._settings = settings
        self._events = events
        self._supply = Supply(engine, settings.lifetime)
        self._blocks = Blocks(engine)
        self.filling = Filling(
            engine,
            reserves,
            batch_keys=settings.batch_keys,
            lifetime=settings.lifetime,
            turned=events.reserve_turned,
        )
        self.upkeep = Upkeep(engine, self._blocks)
        self.policy = policy

    def resolve(self, name: str) -> SaeId:
        """See ``KeyService``."""
        return self.policy.resolve(name)

    def drain(self, peer: KmeName) -> int:
        """Revoke what is in reserve or assigned ahead for a peer; how many keys were in reserve."""
        self._blocks.release(peer)
        return self._engine.drain(peer)

    # ── status ──────────────────────────────────────────────────────────────────────────────────
    async def status(self, caller: SaeId, slave: SaeId) -> PairStatus:
        """See ``KeyService``."""
        settings, target = self._settings, kme_of(slave)
        asked = Requirements()
        try:
            self._require_permission(caller, (slave,), 1, settings.key_bytes, asked)
        except Refused as refused:
            raise self._refusal(caller, (slave,), refused, new=True) from refused
        if target == self._name:
            raise self._refusal(caller, (slave,), Refused(codes.SLAVES_UNSUPPORTED), new=True)
        pair = self._pair(caller, (slave,), settings.key_bytes, asked)
        stored = self._engine.reserve.available(pair.kind, self._engine.now()) + self._blocks.depth(pair)
        return PairStatus(
            source_kme=self._name,
            target_kme=target,
            master=caller,
            slave=slave,
            key_bytes=settings.key_bytes,
            stored=min(stored, settings.reserve_high),
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
        try:
            order = self._order(caller, slaves, number, key_bytes, requirements)
            given = await self._make(order)
        except Refused as refused:
            raise self._refusal(caller, slaves[: limits.SLAVES], refused, new=True) from refused
        settings = self._settings
        if key_bytes == settings.key_bytes:
            self.filling.add(
                ReserveMarks(order.target, key_bytes, settings.reserve_low, settings.reserve_high)
            )
        self.filling.wake()
        return self._given(*given)

    def _order(
        self,
        caller: SaeId,
        slaves: Sequence[SaeId],
        number: int,
        key_bytes: int,
        asked: Requirements,
    ) -> _Order:
        """Check a request; what the caller may not learn is looked at after what it may not have."""
        settings = self._settings
        if not settings.key_bytes_min <= key_bytes <= settings.key_bytes_max:
            raise Refused(codes.SIZE_UNSUPPORTED, f"{key_bytes} bytes")
        if not 1 <= number <= settings.per_request_max:
            raise Refused(codes.NUMBER_UNSUPPORTED, f"{number} keys")
        if not slaves or len(slaves) > settings.slaves_max or len(set(slaves)) != len(slaves):
            raise Refused(codes.SLAVES_UNSUPPORTED)
        _check_bounds(asked)
        self._require_permission(caller, slaves, number, key_bytes, asked)
        if {kme_of(slave) for slave in slaves} != {kme_of(slaves[0])} or kme_of(slaves[0]) == self._name:
            raise Refused(codes.SLAVES_UNSUPPORTED)
        if not self._engine.core.may_deliver:
            raise Refused(codes.NOT_READY)
        if self._engine.reserve.suspensions.rests(Role.SENDER, kme_of(slaves[0])):
            raise Refused(codes.KEYS_SUSPENDED)
        return _Order(self._pair(caller, slaves, key_bytes, asked), number)

    def _require_permission(
        self, caller: SaeId, slaves: Sequence[SaeId], number: int, key_bytes: int, asked: Requirements
    ) -> None:
        """Raises ``Refused`` (not-authorised)."""
        self._require_own(caller)
        for slave in slaves:
            decision = self.policy.may_take_new(
                caller,
                slave,
                number,
                key_bytes,
                asked.purpose,
                slaves=len(slaves),
                lifetime=asked.lifetime,
            )
            if not decision:
                raise _Forbidden(decision)

    def _require_own(self, caller: SaeId) -> None:
        if kme_of(caller) != self._name:
            reason = f"{caller} is no SAE of {self._name}"
            raise _Forbidden(Decision(allowed=False, rule=DEFAULT, reason=reason, place=Place.SAE))

    def _pair(self, caller: SaeId, slaves: Sequence[SaeId], key_bytes: int, asked: Requirements) -> Pair:
        target, usual = kme_of(slaves[0]), self._settings.lifetime
        demands = self.policy.demands(target, asked)
        most = self.policy.cryptoperiod(caller, slaves, new=True).lifetime
        lifetime = min(usual, most, usual if demands.lifetime is None else demands.lifetime)
        kind = Kind(
            target,
            key_bytes,
            demands.minimum_threshold,
            demands.claim_class,
            demands.minimum_effective_threshold,
        )
        return Pair(kind, caller, tuple(sorted(slaves)), asked.purpose, lifetime)

    async def _make(self, order: _Order) -> _Given:
        """Get keys assigned and deliver them; again if what was assigned was taken away meanwhile."""
        until = asyncio.get_running_loop().time() + limits.TAKE_SECONDS
        before: ErrorCode | None = None
        for _ in range(_TRIES - 1):
            try:
                return await self._make_once(order, until, before)
            except Refused as refused:
                if refused.code not in _AGAIN:
                    raise
                before = refused.code
        return await self._make_once(order, until, before)

    async def _make_once(self, order: _Order, until: float, before: ErrorCode | None) -> _Given:
        lot = self._blocks.take(order.pair, order.number) or await self._assign(order, until, before)
        return await hand_over(
            self._engine.spawn,
            f"delivery to {order.pair.master}",
            lambda wanted: self._deliver(order, lot, wanted),
            self._lost,
        )

    async def _assign(self, order: _Order, until: float, before: ErrorCode | None) -> Lot:
        """Keys out of the reserve or on demand, assigned for this request alone.

        ``before`` is why the try before failed. A peer that did not answer may be unable to, for want of
        the root; then another root helps at once.
        """
        try:
            async with asyncio.timeout_at(until):
                await self._engine.root(order.target, anew=before is codes.ASSIGN_UNANSWERED)
                offer = await self._supply.obtain(
                    order.pair.kind, order.number, lambda taken: self._engine.offer(order.pair, taken)
                )
                try:
                    await offer.ready
                except asyncio.CancelledError:
                    self._engine.give_up(offer)
                    raise
        except TimeoutError:
            raise Refused(before or codes.DEADLINE_PASSED) from None
        return Lot(offer.request, offer.taken, ahead=False)

    async def _deliver(self, order: _Order, lot: Lot, wanted: Wanted) -> _Given:
        engine, taken = self._engine, lot.taken
        try:
            secrets = await engine.deliver(order.target, lot.request, taken.keys, wanted)
        except BaseException:
            if lot.ahead:
                self._blocks.put_back(lot)
            else:
                engine.release(order.target, lot.request)
            raise
        self._blocks.delivered(order.pair, lot)
        names = tuple(
            key_id(self._realm, self._name, order.target, one.batch, index)
            for one in taken.keys
            for index in one.indexes
        )
        pair = order.pair
        period = replace(self.policy.cryptoperiod(pair.master, pair.slaves, new=True), lifetime=pair.lifetime)
        periods = itertools.repeat(period)
        return tuple(map(DeliveredKey, names, secrets, taken.claims, periods)), Delivery(
            pair.master,
            order.target,
            names,
            batches_of(taken.keys),
            pair.slaves,
            pair.purpose,
            new=True,
        )

    # ── by id ───────────────────────────────────────────────────────────────────────────────────
    async def take_by_id(
        self, caller: SaeId, master: SaeId, key_ids: Sequence[uuid.UUID]
    ) -> tuple[DeliveredKey, ...]:
        """See ``KeyService``."""
        try:
            self._check_by_id(caller, master, len(key_ids))
            may_take = self._engine.core.peer_messages.assignee.may_take
            claimed = self._engine.held.claim(caller, master, key_ids, may_take)
            self._check_purposes(claimed)
            given = await hand_over(
                self._engine.spawn,
                f"delivery to {caller}",
                lambda wanted: self._hand_out(claimed, wanted),
                self._lost,
            )
        except Refused as refused:
            raise self._refusal(caller, (master,), refused, new=False) from refused
        return self._given(*given)

    def _check_by_id(self, caller: SaeId, master: SaeId, number: int) -> None:
        self._require_own(caller)
        decision = self.policy.may_take_by_id(caller, master, number)
        if not decision:
            raise _Forbidden(decision)
        if not 1 <= number <= self._settings.per_request_max:
            raise Refused(codes.NUMBER_UNSUPPORTED, f"{number} ids")
        if not self._engine.core.may_deliver:
            raise Refused(codes.NOT_READY)

    def _check_purposes(self, claimed: Claimed) -> None:
        """Policy may have changed since the keys were assigned for what they are for."""
        for purpose in claimed.purposes:
            number = len(claimed.key_ids)
            decision = self.policy.may_take_by_id(claimed.caller, claimed.master, number, purpose)
            if not decision:
                self._engine.held.unclaim(claimed)
                raise _Forbidden(decision)

    async def _hand_out(self, claimed: Claimed, wanted: Wanted) -> _Given:
        secrets = await self._engine.hand_out(claimed, wanted)
        period = self.policy.cryptoperiod(claimed.caller, (claimed.master,), new=False)
        periods = (replace(period, lifetime=one) for one in claimed.lifetimes)
        return tuple(map(DeliveredKey, claimed.key_ids, secrets, claimed.claims, periods)), Delivery(
            claimed.caller,
            claimed.sender,
            claimed.key_ids,
            batches_of(claimed.ranges),
            (claimed.master,),
            claimed.purpose,
            new=False,
        )

    # ── what became of it ───────────────────────────────────────────────────────────────────────
    def _given(self, keys: tuple[DeliveredKey, ...], delivery: Delivery) -> tuple[DeliveredKey, ...]:
        try:
            self._events.delivered(delivery)
        except BaseException:
            wipe(key.key for key in keys)  # what cannot be recorded does not happen
            raise
        return keys

    def _lost(self, given: _Given) -> None:
        keys, delivery = given
        wipe(key.key for key in keys)
        self._events.lost(delivery)

    def _refusal(self, caller: SaeId, others: Sequence[SaeId], refused: Refused, *, new: bool) -> Refused:
        why = refused.decision if isinstance(refused, _Forbidden) else None
        self._events.refused(caller, others, refused.code, new=new, why=why)
        return Refused(refused.code)


def batches_of(keys: Iterable[KeyRange]) -> tuple[BatchId, ...]:
    """The batches of some keys, each once."""
    return tuple(dict.fromkeys(one.batch for one in keys))


def _check_bounds(asked: Requirements) -> None:
    """What an ASSIGN can carry. Raises ``Refused`` (requirements-unmet)."""
    purpose, lifetime = asked.purpose, asked.lifetime
    if not (1 <= len(purpose) <= limits.PURPOSE_CHARACTERS and purpose.isascii() and purpose.isprintable()):
        raise Refused(codes.REQUIREMENTS_UNMET, "a purpose that is no label")
    if lifetime is not None and lifetime < limits.LIFETIME_SECONDS_MIN:
        raise Refused(codes.REQUIREMENTS_UNMET, f"a lifetime of {lifetime} seconds")
