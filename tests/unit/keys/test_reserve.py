from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from skex.base import limits
from skex.base.ids import KmeName, SaeId
from skex.keys.orders import Kind
from skex.keys.reserve import Reserve, Taken
from skex.protocol.changes import Batch, Role
from skex.wire.claim import ClaimClass
from skex.wire.peer import KeyRange
from tests.unit.keys.keys_support import CLAIMS, SOUTH, batch_id, make_batch

WEST = KmeName("west")
KIND = Kind(SOUTH, 32)
NOW = 100.0


@dataclass(frozen=True)
class Kept:
    """A row of a store at a start."""

    role: Role
    batch: Batch
    expires_at: float
    left: tuple[KeyRange, ...]
    free: tuple[KeyRange, ...]
    taken: tuple[tuple[SaeId, tuple[KeyRange, ...]], ...] = ()


def taken(reserve: Reserve, number: int, kind: Kind = KIND) -> Taken:
    found = reserve.take(kind, number, NOW)
    assert found is not None
    return found


def keys(*ranges: tuple[int, int, int]) -> tuple[KeyRange, ...]:
    return tuple(KeyRange(batch_id(batch), first, count) for batch, first, count in ranges)


def stocked(*batches: Batch, expires_at: float = 200.0) -> Reserve:
    reserve = Reserve(CLAIMS)
    for batch in batches:
        reserve.add(batch, expires_at)
    return reserve


def test_taking_is_oldest_first_and_crosses_batches() -> None:
    reserve = stocked(make_batch(1), make_batch(2))
    assert taken(reserve, 5).keys == keys((1, 0, 5))
    found = taken(reserve, 5)
    assert found.keys == keys((1, 5, 3), (2, 0, 2))
    assert found.count == 5
    assert reserve.depth(SOUTH, 32) == 6


def test_no_key_is_taken_where_there_are_not_enough() -> None:
    reserve = stocked(make_batch(1))
    assert reserve.take(KIND, 9, NOW) is None
    assert reserve.depth(SOUTH, 32) == 8
    assert taken(reserve, 8).count == 8
    assert reserve.take(KIND, 1, NOW) is None


def test_a_batch_that_is_used_up_leaves_nothing_in_memory() -> None:
    reserve = stocked(make_batch(1))
    taken(reserve, 8)
    assert reserve.peers == ()
    assert list(reserve.depths()) == []


def test_keys_of_other_peers_and_lengths_are_not_taken() -> None:
    reserve = stocked(make_batch(1, peer=WEST), make_batch(2, key_bytes=64))
    assert reserve.take(KIND, 1, NOW) is None
    assert reserve.peers == (SOUTH, WEST)
    assert list(reserve.depths()) == [(WEST, 32, 8), (SOUTH, 64, 8)]


def test_keys_are_not_taken_from_the_moment_their_lifetime_is_over() -> None:
    reserve = stocked(make_batch(1), expires_at=NOW)
    assert reserve.take(KIND, 1, NOW) is None
    assert reserve.take(KIND, 1, NOW - 1) is not None


def test_only_keys_that_meet_the_requirements_are_taken() -> None:
    weak, strong = make_batch(1, threshold=2), make_batch(2, threshold=4)
    reserve = stocked(weak, strong)
    found = taken(reserve, 1, Kind(SOUTH, 32, minimum_threshold=3))
    assert found.keys == keys((2, 0, 1))
    assert found.claims == [CLAIMS.of(Role.SENDER, strong)]
    assert reserve.available(Kind(SOUTH, 32, minimum_threshold=5), NOW) == 0


def test_only_keys_of_the_wanted_class_are_taken() -> None:
    reserve = stocked(make_batch(1), make_batch(2, derived=(1, 2)))
    wanted = Kind(SOUTH, 32, claim_class=ClaimClass.INFORMATION_THEORETIC)
    assert taken(reserve, 8, wanted).keys == keys((2, 0, 8))
    assert reserve.take(wanted, 1, NOW) is None


def test_taken_keys_expire_with_the_first_of_their_batches() -> None:
    reserve = Reserve(CLAIMS)
    reserve.add(make_batch(1, keys=1), 300.0)
    reserve.add(make_batch(2, keys=1), 250.0)
    assert taken(reserve, 2).expires_at == 250.0


def test_claims_outlive_the_batch_that_was_used_up() -> None:
    reserve = stocked(make_batch(1, keys=2))
    found = taken(reserve, 2)
    reserve.expired(NOW)
    assert found.claims == [CLAIMS.of(Role.SENDER, make_batch(1))] * 2


def test_taken_keys_are_split_and_joined() -> None:
    found = taken(stocked(make_batch(1), make_batch(2)), 12)
    first, others = found.split(9)
    assert first.keys == keys((1, 0, 8), (2, 0, 1))
    assert others.keys == keys((2, 1, 3))
    assert others.joined(first).keys == found.keys


def test_keys_given_back_are_free_again_even_if_their_batch_was_forgotten() -> None:
    reserve = stocked(make_batch(1), make_batch(2))
    found = taken(reserve, 10)
    reserve.give_back(found)
    assert reserve.depth(SOUTH, 32) == 16
    assert reserve.free(SOUTH) == keys((1, 0, 8), (2, 0, 8))


def test_batches_whose_time_is_over_are_named_once() -> None:
    reserve = stocked(make_batch(1))
    reserve.add(make_batch(2), 300.0)
    assert reserve.expired(199.0) == []
    assert reserve.expired(200.0) == [(SOUTH, batch_id(1))]
    assert reserve.expired(200.0) == []
    assert reserve.depth(SOUTH, 32) == 8


def test_revoked_keys_are_dropped_and_others_stay() -> None:
    reserve = stocked(make_batch(1), make_batch(2), make_batch(3, peer=WEST))
    reserve.drop(SOUTH, keys((1, 2, 3), (2, 0, 8), (9, 0, 1)))
    assert reserve.free(SOUTH) == keys((1, 0, 2), (1, 5, 3))
    reserve.drop(SOUTH, None)
    assert reserve.peers == (WEST,)


def test_free_keys_of_some_batches_are_found() -> None:
    reserve = stocked(make_batch(1), make_batch(2), make_batch(3, peer=WEST))
    assert reserve.free(SOUTH, [batch_id(2), batch_id(3)]) == keys((2, 0, 8))


def test_a_start_takes_in_what_this_kme_made_and_promised_to_nobody() -> None:
    reserve = Reserve(CLAIMS)
    left = keys((1, 0, 8))
    reserve.load(
        [
            Kept(Role.SENDER, make_batch(1), 200.0, left, keys((1, 4, 4))),
            Kept(Role.SENDER, make_batch(2), 200.0, left, ()),
            Kept(Role.RECEIVER, make_batch(3), 200.0, left, left),
        ]
    )
    assert reserve.free(SOUTH) == keys((1, 4, 4))


def torn(reserve: Reserve, batch: int, count: int) -> None:
    """Leave every second key of a batch: as many ranges as keys."""
    reserve.drop(SOUTH, keys(*((batch, index, 1) for index in range(1, count, 2))))


def test_one_assign_can_name_what_is_taken_even_from_a_torn_batch() -> None:
    size = 2 * limits.PEER_RANGES + 2
    reserve = stocked(make_batch(1, keys=size, key_bytes=16))
    torn(reserve, 1, size)
    kind = Kind(SOUTH, 16)
    assert reserve.take(kind, limits.PEER_RANGES + 1, NOW) is None
    reserve.add(make_batch(2, keys=size, key_bytes=16), 200.0)
    found = reserve.take(kind, limits.PEER_RANGES + 1, NOW)
    assert found is not None
    assert found.keys == keys((2, 0, limits.PEER_RANGES + 1))
    assert len(taken(reserve, limits.PEER_RANGES, kind).keys) <= limits.PEER_RANGES


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_keys_that_leave_together_ascend(order: Sequence[int]) -> None:
    reserve = stocked(*(make_batch(number, keys=1) for number in order))
    found = taken(reserve, 2)
    assert list(found.keys) == sorted(found.keys)
