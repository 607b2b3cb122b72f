"""The store's own clock: wall-clock time with every step back left out.

Between two starts nothing but the wall clock tells how long a machine was off, and it may be set at
any time. A step back adds nothing here, and takes nothing back; a step forward ages everything. So a
clock that is wrong can only shorten what is kept (DESIGN, "Time"). It must not know what has an age.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from skex.store.database import Database

Wall: TypeAlias = Callable[[], int]
"""The port to the wall clock: UNIX seconds."""


class Moments:
    """Counts on from what the store last saw."""

    def __init__(self, database: Database) -> None:
        self._database = database
        ((moment, wall),) = database.execute("SELECT moment, wall FROM clock")
        self._moment = int(moment)
        self._wall = int(wall)
        self._stored = self._wall

    @staticmethod
    def begin(database: Database, wall: int) -> None:
        """Start the clock of a new store at the UNIX time of its creation."""
        database.execute("INSERT INTO clock (id, moment, wall) VALUES (1, ?, ?)", (wall, wall))

    def at(self, wall: int) -> int:
        """The moment now, when the wall clock shows ``wall``."""
        self._moment += max(0, wall - self._wall)
        self._wall = wall
        return self._moment

    def keep(self, wall: int) -> int:
        """The moment now, written to the store as a part of the transaction under way."""
        moment = self.at(wall)
        if wall != self._stored:
            self._database.execute("UPDATE clock SET moment = ?, wall = ?", (moment, wall))
            self._stored = wall
        return moment
