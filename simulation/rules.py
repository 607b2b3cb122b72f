"""What a checker is: it watches a world and raises the moment a rule of the design is broken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, NoReturn

from simulation.watching import Watch

if TYPE_CHECKING:  # machines are watched: they import what this module builds on
    from simulation.machines import Machine


class RuleBrokenError(AssertionError):
    """One of the rules that must not break is broken; ``checker`` is the name of who saw it."""

    def __init__(self, what: str, checker: str = "world") -> None:
        super().__init__(f"{checker}: {what}")
        self.checker = checker


class Checker(Watch):
    """One rule. ``rule`` names its place in the design and says it in words."""

    name: ClassVar[str]
    rule: ClassVar[str]

    def broken(self, what: str) -> NoReturn:
        """Raise ``RuleBrokenError``."""
        raise RuleBrokenError(what, self.name)

    def stepped(self, now: float) -> None:
        """The world made a step; called after each."""

    def scan(self, machines: Iterable[Machine]) -> None:
        """Look at everything that is durable; called now and then, because it takes long."""
