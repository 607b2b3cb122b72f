"""The stock of established, unassigned keys, for each peer and key length.

Only metadata: which keys of which batch are free, what they rest on, and until when. Taking is
oldest first, so that nothing ages unused. It must not know SAEs, stores or the protocol's machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from skex.base.ids import BatchId, KmeName
from skex.keys.api import KeyClaim, Requirements
from skex.keys.claims import claim_of
from skex.protocol.changes import Batch
from skex.protocol.keysets import KeySet
from skex.wire.peer import KeyRange


@dataclass(slots=True)
class _Stock:
    """One batch, and which of its keys are free."""

    batch: Batch
    expires_at: float
    free: KeySet
    left: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Keys that left the reserve; ``expires_at`` is when the first of their batches is over."""

    key_bytes: int
    keys: tuple[KeyRange, ...]
    expires_at: float


class Reserve:
    """Every peer's free keys. ``expires_at`` and ``now`` are on the boot-time clock."""

    def __init__(self) -> None:
        self._stocks: dict[tuple[KmeName, int], dict[BatchId, _Stock]] = {}

    def add(self, batch: Batch, expires_at: float, free: Iterable[KeyRange] | None = None) -> None:
        """Take in a batch; ``free`` are the keys that are free, all if left out."""
        whole = (KeyRange(batch.batch, 0, batch.context.keys),)
        keys = KeySet(whole if free is None else free)
        stocks = self._stocks.setdefault((batch.peer, batch.context.key_bytes), {})
        stocks[batch.batch] = _Stock(batch, expires_at, keys, _count(keys.ranges()))

    def depth(self, peer: KmeName, key_bytes: int) -> int:
        """How many keys are free."""
        return sum(stock.left for stock in self._stocks.get((peer, key_bytes), {}).values())

    def depths(self) -> Iterator[tuple[KmeName, int, int]]:
        """Every peer, key length and depth."""
        for (peer, key_bytes), stocks in self._stocks.items():
            yield peer, key_bytes, sum(stock.left for stock in stocks.values())

    def take(
        self, peer: KmeName, key_bytes: int, number: int, requirements: Requirements, now: float
    ) -> Taken | None:
        """``number`` free keys that meet the requirements, or None if there are not so many."""
        stocks = [
            stock
            for stock in self._stocks.get((peer, key_bytes), {}).values()
            if stock.left and now < stock.expires_at and _meets(stock.batch, requirements)
        ]
        if sum(stock.left for stock in stocks) < number:
            return None
        keys: list[KeyRange] = []
        expires_at = float("inf")
        for stock in stocks:
            taken = _first(stock.free, number - _count(keys))
            self._remove(stock, taken)
            keys += taken
            expires_at = min(expires_at, stock.expires_at)
            if _count(keys) == number:
                break
        return Taken(key_bytes, tuple(sorted(keys)), expires_at)

    def claims(self, peer: KmeName, taken: Taken) -> list[KeyClaim]:
        """The claim of each key that was taken, in order; to be asked before the batch is forgotten."""
        stocks = self._stocks.get((peer, taken.key_bytes), {})
        return [claim_of(stocks[one.batch].batch) for one in taken.keys for _ in one.indexes]

    def give_back(self, peer: KmeName, taken: Taken) -> None:
        """Keys that were taken but never offered are free again."""
        stocks = self._stocks.get((peer, taken.key_bytes), {})
        for one in taken.keys:
            stock = stocks.get(one.batch)
            if stock is not None:
                stock.free.add((one,))
                stock.left = _count(stock.free.ranges())

    def expired(self, now: float) -> list[Batch]:
        """Forget batches whose time is over, and those that are used up; returns the former."""
        over = []
        for stocks in self._stocks.values():
            for batch_id, stock in list(stocks.items()):
                if now >= stock.expires_at:
                    over.append(stock.batch)
                    del stocks[batch_id]
                elif not stock.left:
                    del stocks[batch_id]
        return over

    def drop(self, peer: KmeName, keys: Iterable[KeyRange] | None) -> None:
        """Keys of a peer were revoked (None: all of them)."""
        for (name, _), stocks in self._stocks.items():
            if name != peer:
                continue
            if keys is None:
                stocks.clear()
                continue
            for one in keys:
                if one.batch in stocks:
                    self._remove(stocks[one.batch], (one,))

    @staticmethod
    def _remove(stock: _Stock, keys: Iterable[KeyRange]) -> None:
        stock.free.remove(keys)
        stock.left = _count(stock.free.ranges())


def _meets(batch: Batch, requirements: Requirements) -> bool:
    """Whether keys of a batch may serve a request with these requirements."""
    claim = claim_of(batch)
    threshold = requirements.minimum_threshold
    wanted = requirements.claim_class
    return (threshold is None or claim.threshold >= threshold) and (
        wanted is None or claim.claim_class <= wanted
    )


def _first(free: KeySet, number: int) -> list[KeyRange]:
    """The first ``number`` keys of a set, or all of it."""
    taken: list[KeyRange] = []
    for one in free.ranges():
        left = number - _count(taken)
        if left == 0:
            break
        taken.append(KeyRange(one.batch, one.first, min(one.count, left)))
    return taken


def _count(keys: Iterable[KeyRange]) -> int:
    return sum(one.count for one in keys)
