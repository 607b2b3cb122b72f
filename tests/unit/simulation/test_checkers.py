"""Checkers whose rules the stores keep too: what such a store would have let through, they see."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from simulation.machines import SimKme
from simulation.rules import RuleBrokenError
from simulation.world import World
from skex.base.ids import BatchId, Incarnation, KmeName, SaeId
from skex.protocol.changes import BatchAnswered, Change, KeysDelivered, Role
from skex.protocol.kme import LinkProved
from skex.wire.peer import KeyRange

NORTH, SOUTH = KmeName("north"), KmeName("south")
BATCH = BatchId(Incarnation(bytes(16)), 1)
WHOLE, PART = (KeyRange(BATCH, 0, 4),), (KeyRange(BATCH, 3, 1),)


def world() -> World:
    """A world in which enough hubs vouch for both KMEs."""
    made = World(1, "calm")
    for one in made.kmes.values():
        for hub in made.realm.hubs:
            made.checkers.asked(one, LinkProved(hub.name, rolled_back=False, epoch=1, realm_digest=b""))
    return made


def complaint(made: World, one: SimKme, changes: Sequence[Change]) -> str:
    """Which checker finds fault with what is durable."""
    for checker in made.checkers.all:
        if checker.name in {"delivered-once", "first-answer-stays", "witnessed"}:
            try:
                checker.committed(one, changes)
            except RuleBrokenError as broken:
                return broken.checker
    return ""


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("again", [WHOLE, PART])
def test_key_that_is_delivered_twice_is_seen_also_across_a_restore(
    role: Role, again: tuple[KeyRange, ...]
) -> None:
    made = world()
    south = made.kmes[SOUTH]
    first = KeysDelivered(role, NORTH, WHOLE, SaeId("app@south"))
    assert not complaint(made, south, (first,))
    made.checkers.restored(south)
    second = KeysDelivered(role, NORTH, again, SaeId("app@south"))
    assert complaint(made, south, (second,)) == "delivered-once"


def test_key_that_each_of_two_slaves_takes_once_is_no_fault() -> None:
    made = world()
    south = made.kmes[SOUTH]
    for slave in ("one@south", "other@south"):
        assert not complaint(made, south, (KeysDelivered(Role.RECEIVER, NORTH, WHOLE, SaeId(slave)),))


def test_key_that_two_masters_get_is_seen() -> None:
    made = world()
    south = made.kmes[SOUTH]
    assert not complaint(made, south, (KeysDelivered(Role.SENDER, NORTH, WHOLE, SaeId("one@south")),))
    other = KeysDelivered(Role.SENDER, NORTH, PART, SaeId("other@south"))
    assert complaint(made, south, (other,)) == "delivered-once"


def test_other_answer_than_the_first_is_seen_unless_a_restore_lost_it() -> None:
    made = world()
    south = made.kmes[SOUTH]
    for ok in (True, True):
        assert not complaint(made, south, (BatchAnswered(NORTH, BATCH, ok),))
    assert complaint(made, south, (BatchAnswered(NORTH, BATCH, ok=False),)) == "first-answer-stays"
    made.checkers.restored(south)
    assert not complaint(made, south, (BatchAnswered(NORTH, BATCH, ok=False),))


def test_delivery_after_a_start_with_too_few_witnesses_is_seen() -> None:
    made = world()
    south = made.kmes[SOUTH]
    made.checkers.started(south)
    delivered = KeysDelivered(Role.SENDER, NORTH, WHOLE, SaeId("app@south"))
    assert complaint(made, south, (delivered,)) == "witnessed"
