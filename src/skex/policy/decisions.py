"""What a policy answers: yes or no, which rule decided, and why in one sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

DEFAULT: Final = "default"
"""Stands where no rule decided: nothing allowed it, or no limit was stated."""


class Place(Enum):
    """Where a decision is made; each has rules of its own."""

    HUB = "hub"
    KME = "kme"
    SAE = "sae"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer for the operator and the audit log; the caller who was refused learns ``allowed`` only.

    ``rule`` is the id of the rule that decided, ``line`` where it stands in the policy file. A decision
    counts as true where it allows.
    """

    allowed: bool
    rule: str
    reason: str
    place: Place
    line: int | None = field(default=None, compare=False)

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit in force and the rule that set it; of several, the strictest counts."""

    value: float
    rule: str = DEFAULT
    line: int | None = field(default=None, compare=False)
