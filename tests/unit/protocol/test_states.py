from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

import pytest

from skex.base import codes
from skex.base.errors import LocalBug
from skex.protocol.link import RECEIVE_TABLE, SEND_TABLE, ReceiveState, SendState
from skex.protocol.preface_hub import HUB_INITIAL, HUB_TABLE
from skex.protocol.preface_kme import KME_INITIAL, KME_TABLE
from skex.protocol.states import StateMachine, Table, mermaid


class Door(Enum):
    OPEN = auto()
    SHUT = auto()
    BRICKED_UP = auto()


class Act(Enum):
    PUSH = auto()
    BRICK_UP = auto()


TABLE: Table[Door, Act] = {
    (Door.OPEN, Act.PUSH): Door.SHUT,
    (Door.SHUT, Act.PUSH): Door.OPEN,
    (Door.SHUT, Act.BRICK_UP): Door.BRICKED_UP,
}
LINK_TABLES: list[tuple[Table[Any, Any], Any]] = [
    (KME_TABLE, KME_INITIAL),
    (HUB_TABLE, HUB_INITIAL),
    (SEND_TABLE, SendState.OPEN),
    (RECEIVE_TABLE, ReceiveState.OPEN),
]


def test_step_moves_as_the_table_says() -> None:
    machine = StateMachine(TABLE, Door.OPEN)
    assert machine.step(Act.PUSH) is Door.SHUT
    assert machine.allows(Act.BRICK_UP)
    assert machine.step(Act.BRICK_UP) is Door.BRICKED_UP
    assert machine.state is Door.BRICKED_UP
    assert not machine.allows(Act.PUSH)


def test_event_that_the_table_leaves_out_is_a_bug_and_changes_nothing() -> None:
    machine = StateMachine(TABLE, Door.OPEN)
    with pytest.raises(LocalBug, match="BRICK_UP in OPEN") as error:
        machine.step(Act.BRICK_UP)
    assert error.value.code is codes.BAD_STATE
    assert machine.state is Door.OPEN


def test_diagram_lists_every_pair_and_where_it_ends() -> None:
    assert mermaid(TABLE, Door.OPEN) == (
        "stateDiagram-v2\n"
        "    [*] --> OPEN\n"
        "    OPEN --> SHUT: push\n"
        "    SHUT --> OPEN: push\n"
        "    SHUT --> BRICKED_UP: brick up\n"
        "    BRICKED_UP --> [*]\n"
    )


def reachable(table: Table[Any, Any], initial: Any) -> Iterator[Any]:
    known, new = {initial}, [initial]
    while new:
        state = new.pop()
        yield state
        following = {after for (before, _), after in table.items() if before is state}
        new += following - known
        known |= following


@pytest.mark.parametrize(("table", "initial"), LINK_TABLES)
def test_every_state_of_a_connection_is_reachable_and_ends_at_a_fault(
    table: Table[Any, Any], initial: Any
) -> None:
    states: type[Enum] = type(initial)
    assert set(reachable(table, initial)) == set(states)
    closed = states["CLOSED"]
    for state in states:
        faults = [
            after for (before, step), after in table.items() if before is state and step.name == "FAULT"
        ]
        assert faults == ([] if state.name in {"CLOSED", "DONE"} else [closed])


@pytest.mark.parametrize(("table", "initial"), LINK_TABLES)
def test_nothing_leaves_a_closed_connection(table: Table[Any, Any], initial: Any) -> None:
    del initial
    assert not [pair for pair in table if pair[0].name == "CLOSED"]
