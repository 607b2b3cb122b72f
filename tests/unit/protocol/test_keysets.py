from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from skex.base import limits
from skex.base.ids import BatchId
from skex.protocol.keysets import KeySet, messages_of
from skex.wire.peer import KeyRange
from tests.unit.protocol.peer_support import batch_id, key_range

_Keys: TypeAlias = frozenset[tuple[BatchId, int]]
_KEYS = st.frozensets(st.tuples(st.integers(1, 3).map(batch_id), st.integers(0, limits.BATCH_KEYS - 1)))


def _one_by_one(keys: _Keys) -> tuple[KeyRange, ...]:
    return tuple(KeyRange(batch, index, 1) for batch, index in keys)


def _spelled_out(keys: KeySet) -> _Keys:
    return frozenset((one.batch, index) for one in keys.ranges() for index in one.indexes)


@given(_KEYS, _KEYS)
def test_a_key_set_is_the_set_of_its_keys(one: _Keys, other: _Keys) -> None:
    keys = KeySet(_one_by_one(one))
    assert _spelled_out(keys) == one
    assert _spelled_out(keys.common(_one_by_one(other))) == one & other
    assert keys.contains(_one_by_one(other)) == (other <= one)
    assert bool(keys) == bool(one)
    keys.remove(_one_by_one(other))
    assert _spelled_out(keys) == one - other
    keys.add(_one_by_one(other))
    assert _spelled_out(keys) == one | other


@given(_KEYS)
def test_ranges_have_one_form_whatever_the_order(keys: _Keys) -> None:
    ranges = KeySet(_one_by_one(keys)).ranges()
    assert ranges == KeySet(reversed(_one_by_one(keys))).ranges()
    assert all(low.batch != high.batch or low.end < high.first for low, high in pairwise(ranges))
    assert list(ranges) == sorted(ranges)


def test_ranges_that_touch_become_one() -> None:
    assert KeySet((key_range(2, 2), key_range(0, 2))).ranges() == (key_range(0, 4),)


def test_a_range_counts_in_its_own_batch_only() -> None:
    keys = KeySet((key_range(0, 4, batch=1),))
    assert not keys.contains((key_range(0, 1, batch=2),))
    assert keys.batches == (batch_id(1),)
    assert keys.of_batch(batch_id(2)) == ()
    assert keys.has(batch_id(1), 3)
    assert not keys.has(batch_id(1), 4)
    assert not keys.has(batch_id(2), 3)


def test_two_ranges_of_one_batch_are_found_together() -> None:
    keys = KeySet((key_range(0, 8),))
    assert keys.common((key_range(0, 1), key_range(4, 1))).ranges() == (key_range(0, 1), key_range(4, 1))


def test_ranges_are_cut_to_what_one_message_carries() -> None:
    ranges = tuple(KeyRange(batch_id(1), 2 * index, 1) for index in range(limits.PEER_RANGES + 1))
    parts = list(messages_of(ranges))
    assert [len(part) for part in parts] == [limits.PEER_RANGES, 1]
    assert parts[0] + parts[1] == ranges
    assert list(messages_of(())) == []


def test_bits_of_a_batch_are_its_keys_and_make_the_set_again() -> None:
    keys = KeySet((key_range(0, 2), key_range(5, 1), key_range(1, 1, batch=2)))
    assert keys.bits(batch_id(1)) == 0b100011
    assert keys.bits(batch_id(3)) == 0
    assert KeySet.of_bits(batch_id(1), 0b100011).ranges() == (key_range(0, 2), key_range(5, 1))
    assert not KeySet.of_bits(batch_id(1), 0)
