"""Keys that peers made with this KME: found by their ids once assigned, taken at most once by each slave.

Only metadata is here; the bytes are read from the store when they are taken. What is kept per key is
one entry of the index, and only while the key is assigned. It must not know policy, doors, or how an
assignment came; whether a key is still held is for the machines to say.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from skex.base import codes, limits
from skex.base.errors import Refused
from skex.base.ids import BatchId, KmeName, RealmName, RequestId, SaeId, kme_of
from skex.keys.api import KeyClaim
from skex.keys.claims import Claims
from skex.keys.kept import KeptBatch
from skex.keys.suspended import Suspensions
from skex.protocol.changes import Batch, KeysAssigned, Role
from skex.protocol.establishment import key_id
from skex.protocol.keysets import KeySet
from skex.protocol.timers import Timers
from skex.wire.context import CompactContext
from skex.wire.peer import KeyRange

MayTake: TypeAlias = Callable[[KmeName, BatchId, int, SaeId], bool]
"""Whether the machines hold a key (sender, batch, index) as assigned to a slave."""


class _Record:
    """One assignment: the keys that each slave is about to take and has taken, and how many are left."""

    __slots__ = ("assigned", "claimed", "left", "taken")

    def __init__(self, assigned: KeysAssigned) -> None:
        self.assigned = assigned
        self.claimed = {slave: KeySet() for slave in assigned.slaves}
        self.taken = {slave: KeySet() for slave in assigned.slaves}
        self.left = 0

    def offers(self, batch: BatchId, index: int, slave: SaeId) -> bool:
        """Whether a key is for a slave that neither has it nor is about to."""
        return slave in self.taken and not (
            self.taken[slave].has(batch, index) or self.claimed[slave].has(batch, index)
        )

    def is_done(self, batch: BatchId, index: int) -> bool:
        """Whether every slave has a key."""
        return all(keys.has(batch, index) for keys in self.taken.values())


@dataclass(slots=True)
class _Received:
    """One batch; ``left`` are the keys that are still held, assigned or not."""

    claim: KeyClaim
    left: KeySet


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an id leads."""

    record: _Record
    batch: BatchId
    index: int

    @property
    def range(self) -> KeyRange:
        return KeyRange(self.batch, self.index, 1)


@dataclass(frozen=True, slots=True)
class Claimed:
    """Keys that ``caller`` is about to take and that nobody else can take in its name meanwhile.

    ``ranges`` and ``claims`` are in the order in which the ids were asked for, one each.
    """

    sender: KmeName
    caller: SaeId
    master: SaeId
    key_ids: tuple[uuid.UUID, ...]
    claims: tuple[KeyClaim, ...]
    places: tuple[_Place, ...]

    @property
    def ranges(self) -> tuple[KeyRange, ...]:
        """The keys, one range for each id."""
        return tuple(place.range for place in self.places)

    @property
    def purposes(self) -> frozenset[str]:
        """Every purpose for which one of them was assigned."""
        return frozenset(place.record.assigned.purpose for place in self.places)

    @property
    def purpose(self) -> str:
        """The label under which they were assigned; that of the first, where assignments differ."""
        return self.places[0].record.assigned.purpose if self.places else ""

    @property
    def lifetimes(self) -> tuple[int, ...]:
        """How many seconds each key may wait, as its master's KME said."""
        return tuple(place.record.assigned.lifetime for place in self.places)


class HeldKeys:
    """What is held of every peer. ``room`` is how many keys of one peer are held at once."""

    def __init__(
        self,
        realm: RealmName,
        name: KmeName,
        room: int,
        claims: Claims,
        suspensions: Suspensions | None = None,
    ) -> None:
        self.suspensions = Suspensions() if suspensions is None else suspensions
        self._realm = realm
        self._name = name
        self._room = room
        self._claims = claims
        self._counts: Counter[KmeName] = Counter()
        self._batches: dict[KmeName, dict[BatchId, _Received]] = {}
        self._places: dict[bytes, _Place] = {}
        self._records: dict[tuple[KmeName, RequestId], _Record] = {}
        self._ends: Timers[tuple[KmeName, RequestId]] = Timers()

    def __len__(self) -> int:
        """How many assigned keys can be asked for."""
        return len(self._places)

    @property
    def senders(self) -> tuple[KmeName, ...]:
        """The peers of whom keys are held, ascending."""
        return tuple(sorted(self._batches))

    def count(self, sender: KmeName) -> int:
        """How many keys of a peer are held, assigned or not."""
        return self._counts[sender]

    def has_room(self, sender: KmeName, context: CompactContext) -> bool:
        """Whether another batch of a peer may be accepted: the receiver's port for it."""
        return self._counts[sender] + context.keys <= self._room

    # ── what the store kept, and what the machines tell ─────────────────────────────────────────
    def load(self, kept: Iterable[KeptBatch], assigned: Iterable[KeysAssigned], now: float) -> None:
        """Take in what a start found."""
        took: dict[KmeName, dict[SaeId, KeySet]] = {}
        for one in kept:
            if one.role is Role.RECEIVER:
                self._hold(one.batch, one.left)
                slaves = took.setdefault(one.batch.peer, {})
                for slave, keys in one.taken:
                    slaves.setdefault(slave, KeySet()).add(keys)
        for record in assigned:
            self.assigned(record, now, took.get(record.sender, {}))

    def accepted(self, batch: Batch) -> None:
        """A batch is durable here."""
        self._hold(batch, (KeyRange(batch.batch, 0, batch.context.keys),))

    def _hold(self, batch: Batch, keys: Sequence[KeyRange]) -> None:
        received = _Received(self._claims.of(Role.RECEIVER, batch), KeySet(keys))
        self._batches.setdefault(batch.peer, {})[batch.batch] = received
        self._counts[batch.peer] += _count(keys)

    def assigned(self, assigned: KeysAssigned, now: float, took: dict[SaeId, KeySet] | None = None) -> None:
        """Keys were assigned; ``took`` says, after a start, what slaves already took.

        After a start an assignment's own lifetime begins anew; that of its batch does not.
        """
        sender, record = assigned.sender, _Record(assigned)
        for slave in record.taken.keys() & (took or {}).keys():
            record.taken[slave].add((took or {})[slave].common(assigned.keys).ranges())
        batches = self._batches.get(sender, {})
        for one in assigned.keys:
            if one.batch in batches:
                self._index(record, batches[one.batch].left.common((one,)).ranges())
        if record.left:
            self._records[sender, assigned.request] = record
            over = now + assigned.lifetime + limits.LIFETIME_MARGIN_SECONDS
            self._ends.set((sender, assigned.request), over)

    def _index(self, record: _Record, keys: Iterable[KeyRange]) -> None:
        for one in keys:
            record.left += one.count
            for index in one.indexes:
                name = self._id(record.assigned.sender, one.batch, index)
                self._places[name.bytes] = _Place(record, one.batch, index)

    def gone(self, sender: KmeName, keys: Iterable[KeyRange] | None) -> None:
        """Keys are erased here (None: all of a peer): taken by every slave, voided, revoked or expired."""
        batches = self._batches.get(sender, {})
        doomed = [one for batch in batches.values() for one in batch.left.ranges()] if keys is None else keys
        for one in tuple(doomed):
            received = batches.get(one.batch)
            if received is not None:
                self._drop(sender, received, one)
        if not batches:
            self._batches.pop(sender, None)
            del self._counts[sender]

    def _drop(self, sender: KmeName, received: _Received, keys: KeyRange) -> None:
        left = received.left.common((keys,)).ranges()
        self._counts[sender] -= _count(left)
        received.left.remove(left)
        self.suspensions.gone(Role.RECEIVER, sender, left)
        for one in left:
            for index in one.indexes:
                place = self._places.pop(self._id(sender, one.batch, index).bytes, None)
                if place is not None:
                    self._shrink(place.record)
        if not received.left:
            del self._batches[sender][keys.batch]

    def _shrink(self, record: _Record) -> None:
        """Forget an assignment of which no key is left."""
        record.left -= 1
        if not record.left:
            name = (record.assigned.sender, record.assigned.request)
            self._records.pop(name, None)
            self._ends.cancel(name)

    def overdue(self, now: float) -> list[tuple[KmeName, tuple[KeyRange, ...]]]:
        """The keys of assignments whose own lifetime, and a margin, is over."""
        return [(name[0], self._records.pop(name).assigned.keys) for name in self._ends.due(now)]

    def find(self, name: uuid.UUID) -> tuple[KmeName, BatchId, int] | None:
        """Where the id of an assigned key leads: its sender, batch and index."""
        place = self._places.get(name.bytes)
        return None if place is None else (place.record.assigned.sender, place.batch, place.index)

    def _id(self, sender: KmeName, batch: BatchId, index: int) -> uuid.UUID:
        return key_id(self._realm, sender, self._name, batch, index)

    # ── taking ──────────────────────────────────────────────────────────────────────────────────
    def claim(self, caller: SaeId, master: SaeId, key_ids: Sequence[uuid.UUID], may_take: MayTake) -> Claimed:
        """All of these keys for ``caller``: of two requests at once for a key, one gets it.

        Raises ``Refused`` (key-not-held), with nothing claimed.
        """
        if len(set(key_ids)) != len(key_ids):
            raise Refused(codes.KEY_NOT_HELD, "an id stands twice")
        places = tuple(self._find(caller, master, one) for one in key_ids)
        sender = kme_of(master)
        batches = self._batches.get(sender, {})
        claims = tuple(batches[place.batch].claim for place in places)
        claimed = Claimed(sender, caller, master, tuple(key_ids), claims, places)
        self.check(claimed, may_take)
        for place in places:
            place.record.claimed[caller].add((place.range,))
        return claimed

    def _find(self, caller: SaeId, master: SaeId, name: uuid.UUID) -> _Place:
        place = self._places.get(name.bytes)
        if (
            place is None
            or place.record.assigned.master != master
            or not place.record.offers(place.batch, place.index, caller)
        ):
            raise Refused(codes.KEY_NOT_HELD)
        return place

    def check(self, claimed: Claimed, may_take: MayTake) -> None:
        """Whether the machines still hold every key, and none rests. Raises ``Refused`` (key-not-held)."""
        for place in claimed.places:
            if not may_take(claimed.sender, place.batch, place.index, claimed.caller):
                raise Refused(codes.KEY_NOT_HELD)
            if self.suspensions.covers(Role.RECEIVER, claimed.sender, place.batch, place.index):
                raise Refused(codes.KEY_NOT_HELD, "it is suspended")

    def unclaim(self, claimed: Claimed) -> None:
        """The keys were not taken after all."""
        for place in claimed.places:
            place.record.claimed[claimed.caller].remove((place.range,))

    def settle(self, claimed: Claimed) -> tuple[KeyRange, ...]:
        """The keys are the caller's; returns those that every slave took by now, which are gone."""
        done = KeySet()
        self.unclaim(claimed)
        for place in claimed.places:
            place.record.taken[claimed.caller].add((place.range,))
            if place.record.is_done(place.batch, place.index):
                done.add((place.range,))
        ranges = done.ranges()
        self.gone(claimed.sender, ranges)
        return ranges


def _count(keys: Iterable[KeyRange]) -> int:
    return sum(one.count for one in keys)
