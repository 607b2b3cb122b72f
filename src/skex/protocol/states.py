"""State machines whose transitions are data.

A table maps (state, event) to the next state. The tables are complete descriptions: the diagrams in
the specification are generated from them, and a pair that a table leaves out is an error of the kind
its owner names, never a silent no-op. What depends on a check is decided first and then stepped as
an event of its own ("proof good", "proof bad"), so that every branch is visible in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeAlias, TypeVar

from skex.base import codes
from skex.base.errors import LocalBug

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)

Table: TypeAlias = Mapping[tuple[S, E], S]


class StateMachine(Generic[S, E]):
    """Holds one state; ``step`` is the only thing that changes it."""

    __slots__ = ("_state", "_table")

    def __init__(self, table: Table[S, E], initial: S) -> None:
        self._table = table
        self._state = initial

    @property
    def state(self) -> S:
        """The state now."""
        return self._state

    def allows(self, event: E) -> bool:
        """Whether the table decides this event in this state."""
        return (self._state, event) in self._table

    def step(self, event: E) -> S:
        """Move on ``event``. Raises ``LocalBug`` (bug-state) for a pair the table leaves out.

        Where a peer could cause such a pair, the caller asks ``allows`` first and blames the peer.
        """
        try:
            self._state = self._table[self._state, event]
        except KeyError:
            raise LocalBug(codes.BAD_STATE, f"{event.name} in {self._state.name}") from None
        return self._state


def mermaid(table: Table[S, E], initial: S) -> str:
    """The table as a Mermaid state diagram, in the order in which the table lists its pairs."""
    lines = ["stateDiagram-v2", f"    [*] --> {initial.name}"]
    lines += [
        f"    {state.name} --> {following.name}: {event.name.lower().replace('_', ' ')}"
        for (state, event), following in table.items()
    ]
    finals = set(table.values()) - {state for state, _ in table}
    lines += [f"    {final.name} --> [*]" for final in sorted(finals, key=lambda state: state.name)]
    return "\n".join(lines) + "\n"
