"""The table of relayed batches: bounds, fairness between pairs, expiry."""

from __future__ import annotations

import pytest

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import BatchId, Incarnation, KmeName
from skex.protocol.relayed import INITIAL, TABLE, BatchState, Pair, RelayedBatches
from skex.protocol.states import mermaid
from skex.wire.context import Purpose

BUSY = Pair(KmeName("busy"), KmeName("bob"))
QUIET = Pair(KmeName("quiet"), KmeName("bob"))
OTHER = Pair(KmeName("other"), KmeName("bob"))


def batch(counter: int) -> BatchId:
    return BatchId(Incarnation(bytes(16)), counter)


def remember(table: RelayedBatches, pair: Pair, counter: int, now: float = 0.0) -> tuple[Pair, int] | None:
    evicted = table.remember(pair, batch(counter), Purpose.TRAFFIC, now)
    return None if evicted is None else (evicted.pair, evicted.batch.counter)


def test_batch_is_found_for_its_pair_only() -> None:
    table = RelayedBatches()
    remember(table, BUSY, 1)
    found = table.find(BUSY, batch(1), 0.0)
    assert found is not None
    assert (found.pair, found.batch, found.purpose) == (BUSY, batch(1), Purpose.TRAFFIC)
    assert table.find(QUIET, batch(1), 0.0) is None
    assert table.find(BUSY, batch(2), 0.0) is None


def test_full_table_drops_the_oldest_of_the_largest_pair() -> None:
    table = RelayedBatches(capacity=4)
    for counter in range(3):
        remember(table, BUSY, counter)
    remember(table, QUIET, 0)
    assert remember(table, QUIET, 1) == (BUSY, 0)
    assert len(table) == 4


def test_one_of_several_largest_pairs_drops_its_own_batch() -> None:
    table = RelayedBatches(capacity=4)
    for counter in range(2):
        remember(table, BUSY, counter)
        remember(table, QUIET, counter)
    assert remember(table, QUIET, 2) == (QUIET, 0)
    assert remember(table, OTHER, 0) == (BUSY, 0)
    assert remember(table, OTHER, 1) == (QUIET, 1)


def test_table_of_one_drops_the_only_batch_for_another_pairs() -> None:
    table = RelayedBatches(capacity=1)
    remember(table, BUSY, 0)
    assert remember(table, QUIET, 0) == (BUSY, 0)
    assert remember(table, QUIET, 1) == (QUIET, 0)
    assert table.find(BUSY, batch(0), 0.0) is None


def test_repeated_share_moves_the_batch_to_the_end_and_renews_its_time() -> None:
    table = RelayedBatches()
    remember(table, BUSY, 0, 0.0)
    remember(table, BUSY, 1, 1.0)
    assert remember(table, BUSY, 0, 2.0) is None
    assert len(table) == 2
    assert table.next_deadline == 1.0 + limits.RELAY_SECONDS
    assert table.expire(1.0 + limits.RELAY_SECONDS) == 1
    assert table.find(BUSY, batch(0), 1.5 + limits.RELAY_SECONDS) is not None


def test_repeated_share_makes_the_batch_its_pairs_youngest() -> None:
    table = RelayedBatches(capacity=2)
    for counter in (0, 1, 0):
        remember(table, BUSY, counter)
    assert remember(table, BUSY, 2) == (BUSY, 1)


def test_expired_batches_make_room_before_any_is_evicted() -> None:
    table = RelayedBatches(capacity=2)
    remember(table, BUSY, 0)
    remember(table, BUSY, 1)
    assert remember(table, QUIET, 0, float(limits.RELAY_SECONDS)) is None
    assert len(table) == 1
    assert table.expire(2.0 * limits.RELAY_SECONDS) == 1
    assert table.next_deadline is None


def test_confirm_beyond_the_last_is_a_local_bug_of_who_did_not_ask() -> None:
    table = RelayedBatches()
    remember(table, BUSY, 0)
    relayed = table.find(BUSY, batch(0), 0.0)
    assert relayed is not None
    seen = [relayed.state]
    for _ in range(limits.CONFIRM_RELAYS):
        assert relayed.may_confirm
        relayed.count_confirm()
        seen.append(relayed.state)
    assert set(seen[1:-1]) == {BatchState.CONFIRM_RELAYED}
    assert (seen[0], seen[-1]) == (BatchState.AWAITING_CONFIRM, BatchState.CONFIRMS_SPENT)
    assert not relayed.may_confirm
    with pytest.raises(LocalBug) as caught:
        relayed.count_confirm()
    assert caught.value.code is codes.BAD_STATE


def test_table_draws_as_a_diagram() -> None:
    assert "AWAITING_CONFIRM --> CONFIRM_RELAYED: confirm" in mermaid(TABLE, INITIAL)
