"""Which batches a hub relayed of late, and how many CONFIRMs it may still carry for each.

Bounded three ways: in number, in time, in CONFIRMs. When it is full the oldest batch of the pair
with the most batches goes first, so that no pair can push out another that holds fewer. Knows no
share: a batch's name, its pair, its purpose and a count is all that stays of it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from skex.base import limits
from skex.base.ids import BatchId, KmeName
from skex.protocol.states import StateMachine, Table
from skex.wire.context import Purpose


class BatchState(Enum):
    """What a hub still does for a batch that it relayed."""

    AWAITING_CONFIRM = auto()
    CONFIRM_RELAYED = auto()
    CONFIRMS_SPENT = auto()


class BatchStep(Enum):
    """What happens to a relayed batch."""

    SHARE_REPEATED = auto()
    CONFIRM = auto()
    LAST_CONFIRM = auto()


TABLE: Final[Table[BatchState, BatchStep]] = {
    (BatchState.AWAITING_CONFIRM, BatchStep.SHARE_REPEATED): BatchState.AWAITING_CONFIRM,
    (BatchState.AWAITING_CONFIRM, BatchStep.CONFIRM): BatchState.CONFIRM_RELAYED,
    (BatchState.CONFIRM_RELAYED, BatchStep.SHARE_REPEATED): BatchState.CONFIRM_RELAYED,
    (BatchState.CONFIRM_RELAYED, BatchStep.CONFIRM): BatchState.CONFIRM_RELAYED,
    (BatchState.CONFIRM_RELAYED, BatchStep.LAST_CONFIRM): BatchState.CONFIRMS_SPENT,
    (BatchState.CONFIRMS_SPENT, BatchStep.SHARE_REPEATED): BatchState.CONFIRMS_SPENT,
}
INITIAL: Final = BatchState.AWAITING_CONFIRM


@dataclass(frozen=True, slots=True)
class Pair:
    """Who makes batches for whom."""

    sender: KmeName
    receiver: KmeName


class RelayedBatch:
    """One batch that was relayed."""

    __slots__ = ("_confirms", "_machine", "batch", "expires", "pair", "purpose")

    def __init__(self, pair: Pair, batch: BatchId, purpose: Purpose, expires: float) -> None:
        self.pair = pair
        self.batch = batch
        self.purpose = purpose
        self.expires = expires
        self._confirms = 0
        self._machine: StateMachine[BatchState, BatchStep] = StateMachine(TABLE, INITIAL)

    @property
    def state(self) -> BatchState:
        """The state now."""
        return self._machine.state

    @property
    def may_confirm(self) -> bool:
        """Whether another CONFIRM may be relayed."""
        return self._machine.allows(BatchStep.CONFIRM)

    def count_confirm(self) -> None:
        """A CONFIRM is relayed."""
        self._confirms += 1
        last = self._confirms == limits.CONFIRM_RELAYS
        self._machine.step(BatchStep.LAST_CONFIRM if last else BatchStep.CONFIRM)

    def repeat(self, expires: float) -> None:
        """Its share is relayed again; the CONFIRMs that were relayed still count."""
        self._machine.step(BatchStep.SHARE_REPEATED)
        self.expires = expires


class RelayedBatches:
    """The batches, oldest first, all together and per pair."""

    def __init__(self, capacity: int = limits.RELAYED_BATCHES) -> None:
        self._capacity = capacity
        # Ordered dicts, because a plain dict is slow to give its first item again and again.
        self._order: OrderedDict[RelayedBatch, None] = OrderedDict()
        self._pairs: dict[Pair, OrderedDict[BatchId, RelayedBatch]] = {}
        # Pairs by how many batches they have: finds the largest without looking at all of them.
        self._by_size: dict[int, dict[Pair, None]] = {}
        self._largest = 0

    def __len__(self) -> int:
        return len(self._order)

    @property
    def next_deadline(self) -> float | None:
        """When the oldest batch expires."""
        oldest = next(iter(self._order), None)
        return None if oldest is None else oldest.expires

    def find(self, pair: Pair, batch: BatchId, now: float) -> RelayedBatch | None:
        """The batch, if it was relayed and has not expired."""
        of_pair = self._pairs.get(pair)
        known = None if of_pair is None else of_pair.get(batch)
        return known if known is not None and now < known.expires else None

    def remember(self, pair: Pair, batch: BatchId, purpose: Purpose, now: float) -> RelayedBatch | None:
        """A share of ``batch`` is relayed; returns a batch that had to go for it, if one had to."""
        self.expire(now)
        expires = now + limits.RELAY_SECONDS
        known = self.find(pair, batch, now)
        if known is not None:
            known.repeat(expires)
            self._order.move_to_end(known)
            self._pairs[pair].move_to_end(batch)
            return None
        evicted = self._make_room(pair)
        relayed = RelayedBatch(pair, batch, purpose, expires)
        self._order[relayed] = None
        of_pair = self._pairs.setdefault(pair, OrderedDict())
        of_pair[batch] = relayed
        self._resize(pair, len(of_pair) - 1, len(of_pair))
        return evicted

    def expire(self, now: float) -> int:
        """Forget what is older than RELAY_SECONDS; returns how many batches that were."""
        count = 0
        while (oldest := next(iter(self._order), None)) is not None and oldest.expires <= now:
            self._forget(oldest)
            count += 1
        return count

    def _make_room(self, pair: Pair) -> RelayedBatch | None:
        if len(self._order) < self._capacity:
            return None
        largest = self._by_size[self._largest]
        victim = pair if pair in largest else next(iter(largest))
        oldest = next(iter(self._pairs[victim].values()))
        self._forget(oldest)
        return oldest

    def _forget(self, relayed: RelayedBatch) -> None:
        of_pair = self._pairs[relayed.pair]
        del self._order[relayed], of_pair[relayed.batch]
        self._resize(relayed.pair, len(of_pair) + 1, len(of_pair))
        if not of_pair:
            del self._pairs[relayed.pair]

    def _resize(self, pair: Pair, before: int, after: int) -> None:
        """Keep ``_by_size`` and ``_largest`` true; sizes change by one."""
        if before:
            same = self._by_size[before]
            del same[pair]
            if not same:
                del self._by_size[before]
        if after:
            self._by_size.setdefault(after, {})[pair] = None
        if after > self._largest or self._largest not in self._by_size:
            self._largest = after
