"""How a hub is used for batches with one peer: what the bench says to those who make and take batches."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from skex.base.ids import HubName, KmeName


class Standing(Enum):
    """Of one hub, for batches with one peer."""

    PLAYS = "plays"
    LAST = "last"
    """On the bench by itself: used only where the others do not suffice."""
    OUT = "out"
    """Taken out by an operator: not used at all."""


StandingOf: TypeAlias = Callable[[HubName, KmeName], Standing]
"""The standing of a hub for batches with a peer; pure and synchronous."""


def everybody_plays(hub: HubName, peer: KmeName) -> Standing:  # noqa: ARG001  # of the port
    """Where there is no bench."""
    return Standing.PLAYS
