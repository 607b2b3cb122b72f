"""What an operator does with keys: revoke, suspend, resume, explain (``KeyControl``).

Facts about keys come through the port ``Finder``, from the store and, for what the store has dropped,
from the audit log; what is done goes through the engine. It must not know files, sockets or doors.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from skex.base import codes, limits
from skex.base.errors import Refused
from skex.base.ids import BatchId, KmeName, RealmName, SaeId
from skex.keys.api import InUse, Revocation, Target
from skex.keys.claims import Claims
from skex.keys.engine import Engine
from skex.keys.explaining import Explanation, Facts, Handed, LinkEvidence, explain
from skex.keys.history import BatchHistory
from skex.keys.uses import USES
from skex.protocol.changes import Role, SuspendReason
from skex.protocol.keysets import KeySet
from skex.wire.peer import KeyRange, RevokeReason

STORE: Final = "store"
AUDIT: Final = "audit log"


@dataclass(frozen=True, slots=True)
class Found:
    """One key: its batch, which of its keys it is, what the audit log has of deliveries, and the source."""

    history: BatchHistory
    index: int
    handed: tuple[Handed, ...] = ()
    source: str = STORE


class Finder(Protocol):
    """Where facts about keys come from."""

    async def key(self, key_id: uuid.UUID) -> Found | None:
        """What is known of a key here, if anything is."""

    async def batch(self, name: BatchId) -> BatchHistory | None:
        """A batch that the store has a row of."""

    async def pair(self, peer: KmeName) -> tuple[BatchHistory, ...]:
        """Every batch with a peer that the store has a row of, newest first."""

    async def links(self, history: BatchHistory) -> tuple[LinkEvidence, ...]:
        """This KME's links with the hubs of a batch, in their order, as they were when it was made."""


@dataclass(slots=True)
class _Meant:
    """Keys of one role and peer: sets of keys, or all (None), and the batches that they are of."""

    role: Role
    peer: KmeName
    keys: KeySet | None
    histories: list[BatchHistory]

    def bits(self, history: BatchHistory) -> int:
        return (1 << history.keys) - 1 if self.keys is None else self.keys.bits(history.name)

    @property
    def ranges(self) -> tuple[KeyRange, ...] | None:
        return None if self.keys is None else self.keys.ranges()

    @property
    def here(self) -> int:
        """How many of them are still here."""
        return sum((self.bits(one) & one.left).bit_count() for one in self.histories)


class Control:
    """``KeyControl`` of one KME. ``doors`` are those that are open, by name."""

    def __init__(
        self,
        *,
        realm: RealmName,
        name: KmeName,
        engine: Engine,
        finder: Finder,
        claims: Claims,
        doors: Sequence[str],
    ) -> None:
        self._realm = realm
        self._name = name
        self._engine = engine
        self._finder = finder
        self._claims = claims
        self._doors = tuple(doors)

    # ── KeyControl ──────────────────────────────────────────────────────────────────────────────
    async def revoke(self, target: Target, reason: RevokeReason) -> Revocation:
        """See ``KeyControl``."""
        meant, gone = await self._meant(target)
        for one in meant:
            self._engine.revoke(one.role, one.peer, reason, one.ranges)
        await self._engine.commit(())
        keys = sum(one.here for one in meant)
        holders: dict[SaeId, list[uuid.UUID]] = {}
        for one in meant:
            _gather(holders, self._realm, self._name, one.histories, one.ranges)
        for found in gone:
            name = found.history.key_id(self._realm, self._name, found.index)
            for sae in found.history.takers(found.index):
                holders.setdefault(sae, []).append(name)
        return Revocation(keys, _in_use(holders))

    async def suspend(self, target: Target, reason: SuspendReason) -> int:
        """See ``KeyControl``."""
        meant = await self._here(target)
        for one in meant:
            await self._engine.suspend(one.role, one.peer, reason, one.ranges)
        return sum(one.here for one in meant)

    async def resume(self, target: Target) -> int:
        """See ``KeyControl``."""
        meant = await self._here(target)
        for one in meant:
            await self._engine.resume(one.role, one.peer, one.ranges)
        return sum(one.here for one in meant)

    async def explain(self, key_id: uuid.UUID, use: str | None = None) -> Explanation:
        """See ``KeyControl``. Raises ``Refused`` (key-target) for a use that is not known."""
        if use is not None and use not in USES:
            raise Refused(codes.KEY_TARGET, f"there is no use of that name; there are {', '.join(USES)}")
        found = await self._finder.key(key_id)
        if found is None:
            raise Refused(codes.KEY_UNKNOWN)
        return explain(await self.facts(key_id, found), None if use is None else USES[use])

    async def facts(self, key_id: uuid.UUID, found: Found) -> Facts:
        """Everything that an explanation is made of."""
        history = found.history
        role, batch = history.role, history.batch
        counted = self._claims.counted(role, batch.peer)
        return Facts(
            key_id=key_id,
            here=self._name,
            history=history,
            index=found.index,
            claim=self._claims.of(role, batch),
            collusion=self._claims.collusion(role, batch),
            counted=tuple(sorted(one.value for one in counted)),
            links=await self._finder.links(history),
            handed=found.handed,
            doors=self._doors,
            source=found.source,
        )

    # ── which keys are meant ────────────────────────────────────────────────────────────────────
    async def _here(self, target: Target) -> list[_Meant]:
        """Keys that the store knows. Raises ``Refused`` (key-unknown) if one is known from the log alone."""
        meant, gone = await self._meant(target)
        if gone:
            raise Refused(codes.KEY_UNKNOWN, "the key was delivered, and its batch is over")
        return meant

    async def _meant(self, target: Target) -> tuple[list[_Meant], list[Found]]:
        """Keys by role and peer, and those that only the audit log knows."""
        kinds = (bool(target.key_ids), bool(target.batches), target.peer is not None)
        if sum(kinds) != 1 or len(target.key_ids) + len(target.batches) > limits.KEYS_NAMED:
            raise Refused(codes.KEY_TARGET)
        if target.peer is not None:
            return await self._pair(target.peer), []
        meant: dict[tuple[Role, KmeName], _Meant] = {}
        gone: list[Found] = []
        for name in target.batches:
            history = await self._finder.batch(name)
            if history is None:
                raise Refused(codes.KEY_UNKNOWN, str(name))
            _add(meant, history, KeyRange(name, 0, history.keys))
        for key_id in target.key_ids:
            found = await self._finder.key(key_id)
            if found is None:
                raise Refused(codes.KEY_UNKNOWN, str(key_id))
            if found.source == STORE:
                _add(meant, found.history, KeyRange(found.history.name, found.index, 1))
            else:
                gone.append(found)
        return list(meant.values()), gone

    async def _pair(self, peer: KmeName) -> list[_Meant]:
        histories = await self._finder.pair(peer)
        return [
            _Meant(role, peer, None, [one for one in histories if one.role is role])
            for role in (Role.SENDER, Role.RECEIVER)
        ]


def _add(meant: dict[tuple[Role, KmeName], _Meant], history: BatchHistory, keys: KeyRange) -> None:
    pair = history.role, history.batch.peer
    one = meant.setdefault(pair, _Meant(*pair, KeySet(), []))
    if one.keys is not None:
        one.keys.add((keys,))
    if all(known.name != history.name for known in one.histories):
        one.histories.append(history)


def in_use(
    realm: RealmName, here: KmeName, histories: Iterable[BatchHistory], keys: Iterable[KeyRange] | None
) -> tuple[InUse, ...]:
    """Which SAEs of this KME have keys of these batches; ``keys`` are those meant, all if None."""
    holders: dict[SaeId, list[uuid.UUID]] = {}
    _gather(holders, realm, here, histories, keys)
    return _in_use(holders)


def _gather(
    holders: dict[SaeId, list[uuid.UUID]],
    realm: RealmName,
    here: KmeName,
    histories: Iterable[BatchHistory],
    keys: Iterable[KeyRange] | None,
) -> None:
    meant = None if keys is None else KeySet(keys)
    for history in histories:
        whole = (1 << history.keys) - 1
        bits = whole if meant is None else meant.bits(history.name)
        for sae, taken in sorted(history.delivered.items()):
            holders.setdefault(sae, []).extend(
                history.key_id(realm, here, index)
                for one in KeySet.of_bits(history.name, taken & bits).ranges()
                for index in one.indexes
            )


def _in_use(holders: dict[SaeId, list[uuid.UUID]]) -> tuple[InUse, ...]:
    return tuple(
        InUse(sae, len(names), tuple(names[: limits.KEYS_LISTED]))
        for sae, names in sorted(holders.items())
        if names
    )
