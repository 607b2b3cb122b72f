"""Worlds that broke a rule once, and must not again: every ``make test`` runs each of them.

``make worlds``, ``make test-deep`` and ``python -m simulation run`` print the line to add; say in it what
was broken and where it was mended. A seed stands for its history only as long as worlds draw as they did:
after a change of the simulation it is a seed like any other. So what a seed revealed gets a test of its
own besides, and a case that became slow or meaningless may go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Regression:
    """One world: so many ``steps`` with faults, and the calm behind them."""

    scenario: str
    seed: int
    steps: int
    broken: str
    """What was broken, in a line."""


REGRESSIONS: Final[tuple[Regression, ...]] = ()
