"""The two clocks of a simulated machine, as far from each other and from the world's time as they like.

The boot-time clock begins anew at each reboot, somewhere; the wall clock may be set at any time, both
ways. What a checker holds a machine to is the world's time, which no machine can read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

EPOCH: Final = 1_700_000_000
"""What wall clocks show at the beginning of the world's time, in UNIX seconds."""


class MachineClock:
    """One machine's clocks. ``true`` is the world's time; until told otherwise both clocks show it.

    ``forward`` is by how many seconds the wall clock was ever set ahead, all steps together. ``lost`` is
    how much time the store cannot know of: while nothing ran, and the wall clock was set back.
    """

    def __init__(self, true: Callable[[], float]) -> None:
        self.true = true
        self.forward = 0.0
        self.lost = 0.0
        self._zero = 0.0
        self._ahead = 0.0
        self._seen = (true(), 0.0)

    def now(self) -> float:
        """The boot-time clock, in seconds."""
        return self.true() - self._zero

    def wall(self) -> int:
        """The wall clock: UNIX seconds."""
        return EPOCH + int(self.true() + self._ahead)

    def in_true_time(self, instant: float) -> float:
        """What the world's time is when the boot-time clock shows ``instant``."""
        return instant + self._zero

    def on_boot_clock(self, true: float) -> float:
        """What the boot-time clock shows at an instant of the world's time."""
        return true - self._zero

    def reboot(self, shown: float) -> None:
        """The boot-time clock begins anew and shows so many seconds."""
        self._zero = self.true() - shown

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock ahead by so many seconds, or back."""
        self._ahead += seconds
        self.forward += max(0.0, seconds)

    # ── what a store can know of time ───────────────────────────────────────────────────────────
    @property
    def seen(self) -> tuple[float, float]:
        """When the store looked at the wall clock last, and how far that was ahead of the world's time."""
        return self._seen

    def look(self, *, runs: bool = False) -> None:
        """The store looks at the clocks; at a start it misses what the wall clock was set back."""
        (when, ahead), now = self._seen, self.true()
        if not runs:
            self.lost += min(now - when, max(0.0, ahead - self._ahead))
        self._seen = (now, self._ahead)

    def look_back(self, seen: tuple[float, float]) -> None:
        """The store is an older one, and looked last when that one did."""
        self._seen = seen

    def copy_of(self, other: MachineClock) -> None:
        """Another machine, set up like that one."""
        self._ahead, self._zero, self.lost = other._ahead, other._zero, other.lost
