"""Keys that peers assigned to SAEs here: found by their ids, taken at most once by each slave.

Only metadata is here; the bytes are read from the store when they are taken. It must not know
policy, doors or how the assignment came.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from skex.base import codes
from skex.base.errors import Refused
from skex.base.ids import BatchId, KmeName, RealmName, SaeId, kme_of
from skex.base.secret import Secret
from skex.keys.api import DeliveredKey, KeyClaim
from skex.protocol.changes import Change, KeysAssigned, KeysDelivered, Role
from skex.protocol.establishment import key_id
from skex.protocol.keysets import KeySet
from skex.wire.peer import KeyRange


class HeldPorts(Protocol):
    """What taking keys needs of the daemon."""

    async def read_keys(self, role: Role, peer: KmeName, keys: Sequence[KeyRange]) -> tuple[Secret, ...]:
        """The bytes of keys, one secret each, in order. Raises ``Refused`` (key-not-held)."""

    async def durable(self, changes: Sequence[Change]) -> None:
        """Return once a set is durable."""

    def may_take(self, sender: KmeName, batch: BatchId, index: int, slave: SaeId) -> bool:
        """Whether the machines hold the key as assigned to ``slave``."""

    def keys_gone(self, sender: KmeName, keys: tuple[KeyRange, ...]) -> None:
        """Every slave took these keys."""


@dataclass(slots=True)
class _Held:
    """One assigned key."""

    sender: KmeName
    batch: BatchId
    index: int
    master: SaeId
    waiting: set[SaeId]


class HeldKeys:
    """The index of assigned keys. ``claim_of`` answers what a batch's keys rest on."""

    def __init__(
        self,
        realm: RealmName,
        name: KmeName,
        ports: HeldPorts,
        claim_of: Callable[[KmeName, BatchId], KeyClaim],
    ) -> None:
        self._realm = realm
        self._name = name
        self._ports = ports
        self._claim_of = claim_of
        self._keys: dict[uuid.UUID, _Held] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def assigned(self, record: KeysAssigned, taken: Iterable[tuple[KeyRange, SaeId]] = ()) -> None:
        """Keys were assigned; ``taken`` says, after a start, what slaves already took."""
        gone = [(KeySet((one,)), slave) for one, slave in taken]
        for one in record.keys:
            for index in one.indexes:
                waiting = {
                    slave
                    for slave in record.slaves
                    if not any(slave == who and keys.has(one.batch, index) for keys, who in gone)
                }
                name = key_id(self._realm, record.sender, self._name, one.batch, index)
                self._keys[name] = _Held(record.sender, one.batch, index, record.master, waiting)

    async def take(
        self, caller: SaeId, master: SaeId, key_ids: Sequence[uuid.UUID]
    ) -> tuple[DeliveredKey, ...]:
        """All of these keys for ``caller``, or none. Raises ``Refused`` (key-not-held)."""
        if len(set(key_ids)) != len(key_ids):
            raise Refused(codes.KEY_NOT_HELD, "an id stands twice")
        found = [self._find(caller, master, one) for one in key_ids]
        # Claimed before anything is awaited: of two requests at once, one gets the keys.
        for held in found:
            held.waiting.discard(caller)
        ranges = tuple(KeyRange(held.batch, held.index, 1) for held in found)
        sender = kme_of(master)
        try:
            secrets = await self._ports.read_keys(Role.RECEIVER, sender, ranges)
        except Refused:
            for held in found:
                held.waiting.add(caller)
            raise
        compact = KeySet(ranges).ranges()
        await self._ports.durable((KeysDelivered(Role.RECEIVER, sender, compact, caller),))
        self._forget(sender, key_ids, found)
        return tuple(
            DeliveredKey(name, secret, self._claim_of(sender, held.batch))
            for name, secret, held in zip(key_ids, secrets, found, strict=True)
        )

    def _find(self, caller: SaeId, master: SaeId, name: uuid.UUID) -> _Held:
        held = self._keys.get(name)
        if (
            held is None
            or held.master != master
            or caller not in held.waiting
            or not self._ports.may_take(held.sender, held.batch, held.index, caller)
        ):
            raise Refused(codes.KEY_NOT_HELD)
        return held

    def _forget(self, sender: KmeName, names: Sequence[uuid.UUID], found: Sequence[_Held]) -> None:
        """Keys that every slave took are gone."""
        gone = KeySet()
        for name, held in zip(names, found, strict=True):
            if not held.waiting:
                self._keys.pop(name, None)
                gone.add((KeyRange(held.batch, held.index, 1),))
        if gone:
            self._ports.keys_gone(sender, gone.ranges())

    def sweep(self) -> None:
        """Forget keys that the machines do not hold any more: voided, revoked or expired."""
        for name, held in list(self._keys.items()):
            if not any(
                self._ports.may_take(held.sender, held.batch, held.index, slave) for slave in held.waiting
            ):
                del self._keys[name]
