"""Sets of keys, as ranges on the wire and as one integer per batch in memory.

Pure arithmetic. It must not know what is done with a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from skex.base import limits
from skex.base.ids import BatchId
from skex.wire.peer import KeyRange


def _mask(one: KeyRange) -> int:
    return ((1 << one.count) - 1) << one.first


def _runs(bits: int) -> Iterator[tuple[int, int]]:
    """The runs of ones in ``bits``, lowest first, as (first, count)."""
    first = 0
    while bits:
        zeros = (bits & -bits).bit_length() - 1
        bits >>= zeros
        count = (~bits & (bits + 1)).bit_length() - 1
        bits >>= count
        first += zeros
        yield first, count
        first += count


class KeySet:
    """Keys of any number of batches; a bit for each, so that a thousand cost one integer."""

    __slots__ = ("_bits",)

    def __init__(self, ranges: Iterable[KeyRange] = ()) -> None:
        self._bits: dict[BatchId, int] = {}
        self.add(ranges)

    @classmethod
    def of_bits(cls, batch: BatchId, bits: int) -> KeySet:
        """Keys of one batch, a bit for each, key 0 the lowest; the inverse of ``bits``."""
        found = cls()
        if bits:
            found._bits[batch] = bits
        return found

    def bits(self, batch: BatchId) -> int:
        """The keys of one batch, a bit for each, key 0 the lowest."""
        return self._bits.get(batch, 0)

    def add(self, ranges: Iterable[KeyRange]) -> None:
        """Put keys in."""
        for one in ranges:
            self._bits[one.batch] = self._bits.get(one.batch, 0) | _mask(one)

    def remove(self, ranges: Iterable[KeyRange]) -> None:
        """Take keys out; those that are not in it do not matter."""
        for one in ranges:
            left = self._bits.get(one.batch, 0) & ~_mask(one)
            if left:
                self._bits[one.batch] = left
            else:
                self._bits.pop(one.batch, None)

    def common(self, ranges: Iterable[KeyRange]) -> KeySet:
        """The keys of ``ranges`` that are in this set."""
        found = KeySet()
        for one in ranges:
            if bits := self._bits.get(one.batch, 0) & _mask(one):
                found._bits[one.batch] = found._bits.get(one.batch, 0) | bits
        return found

    def contains(self, ranges: Iterable[KeyRange]) -> bool:
        """Whether every key of ``ranges`` is in this set."""
        return all(self._bits.get(one.batch, 0) & _mask(one) == _mask(one) for one in ranges)

    def has(self, batch: BatchId, index: int) -> bool:
        """Whether one key is in this set."""
        return bool(self._bits.get(batch, 0) >> index & 1)

    def of_batch(self, batch: BatchId) -> tuple[KeyRange, ...]:
        """The keys of one batch, as ascending ranges."""
        return tuple(KeyRange(batch, first, count) for first, count in _runs(self._bits.get(batch, 0)))

    @property
    def batches(self) -> tuple[BatchId, ...]:
        """The batches of which there is a key, ascending."""
        return tuple(sorted(self._bits))

    def ranges(self) -> tuple[KeyRange, ...]:
        """The one way to write this set: ranges that ascend and do not touch."""
        return tuple(one for batch in self.batches for one in self.of_batch(batch))

    def __bool__(self) -> bool:
        return bool(self._bits)


def messages_of(ranges: Sequence[KeyRange]) -> Iterator[tuple[KeyRange, ...]]:
    """Cut ranges into stretches that each fit one peer message."""
    for start in range(0, len(ranges), limits.PEER_RANGES):
        yield tuple(ranges[start : start + limits.PEER_RANGES])
