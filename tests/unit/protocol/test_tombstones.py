from __future__ import annotations

from skex.base.ids import BatchId, Incarnation, KmeName
from skex.protocol.changes import TombstonesDropped
from skex.protocol.gathering import BatchKey
from skex.protocol.tombstones import Tombstones

ALICE, CAROL = KmeName("alice"), KmeName("carol")
FIRST, SECOND = Incarnation(b"1" * 16), Incarnation(b"2" * 16)


def key(counter: int, incarnation: Incarnation = FIRST, sender: KmeName = ALICE) -> BatchKey:
    return BatchKey(sender, BatchId(incarnation, counter))


def test_an_accepted_batch_is_known_and_its_neighbours_are_not() -> None:
    tombstones = Tombstones({})
    assert tombstones.accept(key(5)) == ()
    assert key(5) in tombstones
    assert key(4) not in tombstones
    assert key(6) not in tombstones
    assert key(5, SECOND) not in tombstones
    assert key(5, sender=CAROL) not in tombstones
    assert tombstones.count(ALICE) == 1
    assert tombstones.count(CAROL) == 0


def test_lower_counters_are_refused_after_the_tombstones_are_dropped() -> None:
    tombstones = Tombstones({})
    tombstones.accept(key(3))
    tombstones.accept(key(5))
    assert tombstones.expire([key(3), key(5)]) == (TombstonesDropped(ALICE, FIRST, 5),)
    assert tombstones.count(ALICE) == 0
    assert all(key(counter) in tombstones for counter in range(6))
    assert key(6) not in tombstones


def test_a_mark_waits_for_the_lowest_batch_that_still_counts() -> None:
    tombstones = Tombstones({})
    for counter in (1, 2, 3):
        tombstones.accept(key(counter))
    assert tombstones.expire([key(2)]) == ()
    assert key(2) in tombstones
    assert tombstones.expire([key(1)]) == (TombstonesDropped(ALICE, FIRST, 2),)
    assert tombstones.expire([key(3)]) == (TombstonesDropped(ALICE, FIRST, 3),)


def test_a_mark_outlives_its_tombstones_while_the_sender_runs() -> None:
    tombstones = Tombstones({})
    tombstones.accept(key(1))
    tombstones.expire([key(1)])
    tombstones.accept(key(2))
    assert key(1) in tombstones


def test_a_mark_goes_when_the_sender_is_seen_in_another_incarnation() -> None:
    tombstones = Tombstones({})
    tombstones.accept(key(1))
    tombstones.expire([key(1)])
    assert tombstones.accept(key(1, SECOND)) == (TombstonesDropped(ALICE, FIRST, None),)
    assert key(1) not in tombstones
    assert key(1, SECOND) in tombstones


def test_a_mark_of_an_older_incarnation_goes_with_its_last_tombstone() -> None:
    tombstones = Tombstones({})
    tombstones.accept(key(1))
    assert tombstones.accept(key(1, SECOND)) == ()
    assert tombstones.expire([key(1)]) == (
        TombstonesDropped(ALICE, FIRST, 1),
        TombstonesDropped(ALICE, FIRST, None),
    )


def test_marks_and_tombstones_that_the_store_holds_count_from_the_start() -> None:
    tombstones = Tombstones({(ALICE, FIRST): 4})
    tombstones.restore(key(6))
    assert key(4) in tombstones
    assert key(5) not in tombstones
    assert key(6) in tombstones
    assert tombstones.expire([key(6)]) == (TombstonesDropped(ALICE, FIRST, 6),)


def test_after_a_start_a_mark_stays_until_an_incarnation_is_known_to_be_newer() -> None:
    tombstones = Tombstones({})
    tombstones.restore(key(1))
    tombstones.restore(key(1, SECOND))
    assert tombstones.expire([key(1)]) == (TombstonesDropped(ALICE, FIRST, 1),)
    assert key(1) in tombstones
