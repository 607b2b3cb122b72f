"""The stock of established, unassigned keys, for each peer and key length.

Only metadata: which keys of which batch are free, what they rest on, and until when. Taking is
oldest first, so that nothing ages unused. It must not know SAEs, stores or the protocol's machines.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from skex.base import limits
from skex.base.ids import BatchId, KmeName
from skex.keys.api import KeyClaim
from skex.keys.claims import Claims
from skex.keys.kept import KeptBatch
from skex.keys.orders import Kind
from skex.keys.suspended import Suspensions
from skex.protocol.changes import Batch, Role
from skex.protocol.keysets import KeySet
from skex.wire.peer import KeyRange


@dataclass(frozen=True, slots=True)
class Origin:
    """What every key of a batch has in common."""

    claim: KeyClaim
    made_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Taken:
    """Keys of one peer and length that left the reserve together; ``keys`` ascend."""

    peer: KmeName
    key_bytes: int
    keys: tuple[KeyRange, ...]
    origins: Mapping[BatchId, Origin]

    @property
    def count(self) -> int:
        """How many keys."""
        return _count(self.keys)

    @property
    def expires_at(self) -> float:
        """When the first of their batches is over."""
        return min(self.origins[one.batch].expires_at for one in self.keys)

    @property
    def claims(self) -> list[KeyClaim]:
        """The claim of each key, in order."""
        return [self.origins[one.batch].claim for one in self.keys for _ in one.indexes]

    def split(self, number: int) -> tuple[Taken, Taken]:
        """The first ``number`` of the keys, and the others."""
        first = _first(self.keys, number)
        others = KeySet(self.keys)
        others.remove(first)
        return self._with(tuple(first)), self._with(others.ranges())

    def joined(self, other: Taken) -> Taken:
        """These and other keys of the same assignment."""
        return self._with(KeySet((*self.keys, *other.keys)).ranges())

    def _with(self, keys: tuple[KeyRange, ...]) -> Taken:
        return Taken(self.peer, self.key_bytes, keys, self.origins)


@dataclass(slots=True)
class _Stock:
    """One batch, and which of its keys are free."""

    batch: BatchId
    origin: Origin
    free: KeySet
    left: int

    def remove(self, keys: Iterable[KeyRange]) -> None:
        self.free.remove(keys)
        self.left = _count(self.free.ranges())


@dataclass(frozen=True, slots=True)
class _Choice:
    """What may be taken of one batch now."""

    stock: _Stock
    keys: tuple[KeyRange, ...]
    count: int


def _any_age(_peer: KmeName) -> float:
    return math.inf


class Reserve:
    """Every peer's free keys. ``expires_at`` and ``now`` are on the boot-time clock.

    Keys that rest stay in it and are not handed out; neither are those older than ``age_max`` says, in
    seconds, which it is for the caller to replace.
    """

    def __init__(
        self,
        claims: Claims,
        suspensions: Suspensions | None = None,
        age_max: Callable[[KmeName], float] = _any_age,
    ) -> None:
        self._claims = claims
        self._stocks: dict[tuple[KmeName, int], dict[BatchId, _Stock]] = {}
        self._taken: Counter[tuple[KmeName, int]] = Counter()
        self.suspensions = Suspensions() if suspensions is None else suspensions
        self._age_max = age_max

    # ── putting in ──────────────────────────────────────────────────────────────────────────────
    def load(self, kept: Iterable[KeptBatch]) -> None:
        """Take in what a start found: keys that this KME made and promised to nobody."""
        for one in kept:
            if one.role is Role.SENDER and one.free:
                self.add(one.batch, one.expires_at, one.free)

    def add(self, batch: Batch, expires_at: float, free: Iterable[KeyRange] | None = None) -> None:
        """Take in a batch; ``free`` are the keys that are free, all if left out."""
        whole = (KeyRange(batch.batch, 0, batch.context.keys),)
        origin = Origin(self.claim_of(batch), expires_at - batch.context.lifetime, expires_at)
        self._put(batch.peer, batch.context.key_bytes, batch.batch, origin, whole if free is None else free)

    def claim_of(self, batch: Batch) -> KeyClaim:
        """What the keys of a batch that this KME made rest on."""
        return self._claims.of(Role.SENDER, batch)

    def give_back(self, taken: Taken) -> None:
        """Keys that were taken but never offered are free again."""
        self._taken[taken.peer, taken.key_bytes] -= taken.count
        for one in taken.keys:
            self._put(taken.peer, taken.key_bytes, one.batch, taken.origins[one.batch], (one,))

    def _put(
        self, peer: KmeName, key_bytes: int, batch: BatchId, origin: Origin, keys: Iterable[KeyRange]
    ) -> None:
        stocks = self._stocks.setdefault((peer, key_bytes), {})
        stock = stocks.setdefault(batch, _Stock(batch, origin, KeySet(), 0))
        stock.free.add(keys)
        stock.left = _count(stock.free.ranges())

    # ── asking ──────────────────────────────────────────────────────────────────────────────────
    def depth(self, peer: KmeName, key_bytes: int) -> int:
        """How many keys are free and do not rest."""
        return sum(choice.count for choice in self._awake(peer, key_bytes))

    def taken(self, peer: KmeName, key_bytes: int) -> int:
        """How many keys were taken and not given back, since the start."""
        return self._taken[peer, key_bytes]

    def depths(self) -> Iterator[tuple[KmeName, int, int]]:
        """Every peer, key length and depth."""
        for peer, key_bytes in self._stocks:
            yield peer, key_bytes, self.depth(peer, key_bytes)

    def available(self, kind: Kind, now: float) -> int:
        """How many free keys of this kind there are."""
        return sum(choice.count for choice in self._fitting(kind, now))

    def free(self, peer: KmeName, batches: Iterable[BatchId] | None = None) -> tuple[KeyRange, ...]:
        """A peer's free keys: of these batches, or of all."""
        wanted = None if batches is None else set(batches)
        keys = KeySet()
        for (name, _), stocks in self._stocks.items():
            for stock in stocks.values():
                if name == peer and (wanted is None or stock.batch in wanted):
                    keys.add(stock.free.ranges())
        return keys.ranges()

    @property
    def peers(self) -> tuple[KmeName, ...]:
        """The peers with whom keys are free, ascending."""
        return tuple(sorted({peer for (peer, _) in self._stocks}))

    # ── taking out ──────────────────────────────────────────────────────────────────────────────
    def take(self, kind: Kind, number: int, now: float) -> Taken | None:
        """``number`` free keys of a kind, or None if there are not so many."""
        choices = self._fitting(kind, now)
        if sum(choice.count for choice in choices) < number:
            return None
        picked = _pick(choices, number) or _pick(choices[::-1], number)
        if picked is None:
            return None
        for stock, keys in picked:
            self._remove(kind.peer, kind.key_bytes, stock, keys)
        self._taken[kind.peer, kind.key_bytes] += number
        return Taken(
            kind.peer,
            kind.key_bytes,
            tuple(sorted(one for _, keys in picked for one in keys)),
            {stock.batch: stock.origin for stock, _ in picked},
        )

    def _fitting(self, kind: Kind, now: float) -> list[_Choice]:
        oldest = now - self._age_max(kind.peer)
        return [
            choice
            for choice in self._awake(kind.peer, kind.key_bytes)
            if now < choice.stock.origin.expires_at
            and choice.stock.origin.made_at > oldest
            and kind.admits(choice.stock.origin.claim)
        ]

    def _awake(self, peer: KmeName, key_bytes: int) -> Iterator[_Choice]:
        """The batches of which keys are free and do not rest."""
        if self.suspensions.rests(Role.SENDER, peer):
            return
        for stock in self._stocks.get((peer, key_bytes), {}).values():
            free = stock.free.ranges()
            awake = self.suspensions.without(Role.SENDER, peer, stock.batch, free)
            if awake is free:
                yield _Choice(stock, free, stock.left)
            elif awake:
                yield _Choice(stock, awake, _count(awake))

    def aged(self, now: float) -> list[tuple[KmeName, tuple[KeyRange, ...]]]:
        """The free keys that are older than they may be, by peer; they stay until they are dropped."""
        found: dict[KmeName, KeySet] = {}
        for (peer, _), stocks in self._stocks.items():
            oldest = now - self._age_max(peer)
            for stock in stocks.values():
                if stock.origin.made_at <= oldest:
                    found.setdefault(peer, KeySet()).add(stock.free.ranges())
        return [(peer, keys.ranges()) for peer, keys in sorted(found.items())]

    def expired(self, now: float) -> list[tuple[KmeName, BatchId]]:
        """Forget, and name, the batches whose time is over."""
        over = []
        for (peer, key_bytes), stocks in list(self._stocks.items()):
            for stock in list(stocks.values()):
                if now >= stock.origin.expires_at:
                    over.append((peer, stock.batch))
                    self._remove(peer, key_bytes, stock, stock.free.ranges())
        return over

    def drop(self, peer: KmeName, keys: Iterable[KeyRange] | None) -> None:
        """Keys of a peer are gone (None: all of them)."""
        doomed = self.free(peer) if keys is None else tuple(keys)
        batches = {one.batch for one in doomed}
        for (name, key_bytes), stocks in list(self._stocks.items()):
            if name == peer:
                for batch in batches & stocks.keys():
                    self._remove(peer, key_bytes, stocks[batch], doomed)

    def _remove(self, peer: KmeName, key_bytes: int, stock: _Stock, keys: Iterable[KeyRange]) -> None:
        """Take keys out of a stock, and forget what is empty: memory follows what is there."""
        keys = tuple(keys)
        stock.remove(keys)
        self.suspensions.gone(Role.SENDER, peer, keys)
        if not stock.left:
            stocks = self._stocks[peer, key_bytes]
            del stocks[stock.batch]
            if not stocks:
                del self._stocks[peer, key_bytes]


def _pick(choices: Iterable[_Choice], number: int) -> list[tuple[_Stock, list[KeyRange]]] | None:
    """Which of these keys to take, in their order; None if one ASSIGN could not name them."""
    picked = []
    ranges = 0
    for choice in choices:
        if not number:
            break
        keys = _first(choice.keys, number)
        picked.append((choice.stock, keys))
        number -= _count(keys)
        ranges += len(keys)
    return picked if ranges <= limits.PEER_RANGES else None


def _first(keys: Iterable[KeyRange], number: int) -> list[KeyRange]:
    """The first ``number`` keys of some ranges, or all of them."""
    taken: list[KeyRange] = []
    for one in keys:
        if not number:
            break
        part = KeyRange(one.batch, one.first, min(one.count, number))
        taken.append(part)
        number -= part.count
    return taken


def _count(keys: Iterable[KeyRange]) -> int:
    return sum(one.count for one in keys)
