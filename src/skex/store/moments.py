"""The store's own clock: wall-clock time with every step back left out.

Between two starts nothing but the wall clock tells how long a machine was off, and it may be set at
any time. A step back takes nothing back; a step forward ages everything. While the process runs, the
boot-time clock says how long that was, if the wall clock says less. So a clock that is wrong only
shortens what is kept (DESIGN, "Time"), but for the time for which a machine was off when it was set
back: that nobody can know. It must not know what has an age.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from skex.store.database import Database

Wall: TypeAlias = Callable[[], int]
"""The port to the wall clock: UNIX seconds."""
Boot: TypeAlias = Callable[[], float]
"""The port to the boot-time clock: seconds, never set."""
_WHOLE_SECONDS: Final = 2.0
"""The wall clock is read in whole seconds: so far the two clocks may differ with nothing wrong."""


class Moments:
    """Counts on from what the store last saw. ``boot`` is for processes that run for long."""

    def __init__(self, database: Database, boot: Boot | None = None) -> None:
        self._database = database
        self._boot = boot
        self._booted = 0.0 if boot is None else boot()
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
        passed = wall - self._wall
        ran = self._ran()
        if ran - passed >= _WHOLE_SECONDS:
            passed = int(ran)
        self._moment += max(0, passed)
        self._wall = wall
        return self._moment

    def _ran(self) -> float:
        """How long the process ran since it was asked last, by the boot-time clock."""
        if self._boot is None:
            return 0.0
        before, self._booted = self._booted, self._boot()
        return self._booted - before

    def keep(self, wall: int) -> int:
        """The moment now, written to the store as a part of the transaction under way."""
        moment = self.at(wall)
        if wall != self._stored:
            self._database.execute("UPDATE clock SET moment = ?, wall = ?", (moment, wall))
            self._stored = wall
        return moment
