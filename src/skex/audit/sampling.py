"""Repetitive events: a few are written, the rest are counted, and the counts are written.

What others can cause as often as they like must not fill the disk, and must not go unnoticed either.
In each window of time the first few events of one kind, actor and rule pass, so that what a rule
refuses for the first time is always written; when the window ends, one record says how many there
were. Pure: time is a parameter, in seconds of the boot clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from skex.audit.events import Kind
from skex.audit.fields import SYSTEM, Actor
from skex.base import limits


@dataclass(frozen=True, slots=True)
class Counted:
    """What happened in one window. ``counted`` events were not written, ``written`` ones were."""

    kind: Kind
    actor: Actor
    counted: int
    written: int
    seconds: float
    rule: str = ""


@dataclass(slots=True)
class _Window:
    began: float
    counted: int = 0
    written: int = 0


class Sampler:
    """At most ``keys`` windows of kind, actor and rule; beyond them there is one for each kind."""

    def __init__(
        self,
        seconds: float = limits.AUDIT_SAMPLE_SECONDS,
        burst: int = limits.AUDIT_SAMPLE_BURST,
        keys: int = limits.AUDIT_SAMPLE_KEYS,
    ) -> None:
        self._seconds = seconds
        self._burst = burst
        self._keys = keys
        self._windows: dict[tuple[Kind, Actor, str], _Window] = {}

    @property
    def next_deadline(self) -> float | None:
        """When the next window ends."""
        began = min((window.began for window in self._windows.values()), default=None)
        return None if began is None else began + self._seconds

    def offer(self, kind: Kind, actor: Actor, now: float, rule: str = "") -> bool:
        """Count an event; whether it is to be written. Ask ``ended`` first."""
        window = self._window(kind, actor, rule, now)
        if window.written < self._burst:
            window.written += 1
            return True
        window.counted += 1
        return False

    def hold_back(self, kind: Kind, actor: Actor, number: int, now: float) -> None:
        """Count so many events that are not to be written."""
        self._window(kind, actor, "", now).counted += number

    def _window(self, kind: Kind, actor: Actor, rule: str, now: float) -> _Window:
        key = (kind, actor, rule)
        if key not in self._windows and len(self._windows) >= self._keys:
            key = (kind, SYSTEM, "")
        return self._windows.setdefault(key, _Window(now))

    def ended(self, now: float) -> tuple[Counted, ...]:
        """The windows that are over and held back something, oldest first; they are forgotten."""
        return self._closed(now, unfinished=False)

    def close(self, now: float) -> tuple[Counted, ...]:
        """The same of all windows, over or not."""
        return self._closed(now, unfinished=True)

    def _closed(self, now: float, *, unfinished: bool) -> tuple[Counted, ...]:
        over = {
            key: window
            for key, window in self._windows.items()
            if unfinished or now >= window.began + self._seconds
        }
        for key in over:
            del self._windows[key]
        return tuple(
            Counted(kind, actor, window.counted, window.written, now - window.began, rule)
            for (kind, actor, rule), window in over.items()
            if window.counted
        )
