"""The simulated world's one source of chance: everything in a world follows from its seed."""

from __future__ import annotations

from random import Random


class Chance(Random):
    """A seeded generator. ``fork`` gives parts of a world chances of their own.

    So that a part that draws more often does not change what happens to the others.
    """

    def __init__(self, seed: int | str) -> None:
        super().__init__(seed)
        self._origin = seed

    def fork(self, name: str) -> Chance:
        """An independent generator that depends on this one's seed and ``name`` only."""
        return Chance(f"{self._origin}/{name}")
