"""Foresight: looks at every table pad of a daemon now and then, and raises the alarm before one is empty.

Derived pads never run out, so nothing is said of them. It must not know messages or keys.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge

from skex.audit import events
from skex.audit.events import Event
from skex.audit.fields import Subject
from skex.base import limits
from skex.base.ids import Direction, LinkId
from skex.daemon.links import Links
from skex.daemon.record import Emit
from skex.pad.forecast import Forecast, PadGauge, Thresholds
from skex.pad.kinds import PadKind
from skex.runtime import clock
from skex.store.links import StoredLink

_log = logging.getLogger("skex.pads")
_UNIT: Final = limits.TABLE_UNIT_BYTES


@dataclass(frozen=True, slots=True)
class Side:
    """Which daemon looks: how its metrics begin, and what is at the other end of its links."""

    prefix: str
    label: str
    other: Callable[[StoredLink], str]
    subject: Callable[[StoredLink], Subject]


HUB_SIDE: Final = Side(
    "skex_hub", "kme", lambda stored: stored.link.kme, lambda stored: Subject.kme(stored.link.kme)
)
KME_SIDE: Final = Side(
    "skex_kme", "hub", lambda stored: stored.link.hub, lambda stored: Subject.hub(stored.link.hub)
)


class PadWatch:
    """The gauges of all table pads that were connected since the start, or asked for.

    ``floor`` is how many bytes of pad towards a KME a hub keeps for control traffic; a KME keeps none.
    """

    def __init__(
        self,
        side: Side,
        links: Links,
        *,
        thresholds: Thresholds,
        emit: Emit,
        registry: CollectorRegistry,
        floor: Callable[[], int] = lambda: 0,
    ) -> None:
        self._side = side
        self._links = links
        self._thresholds = thresholds
        self._emit = emit
        self._floor = floor
        self._gauges: dict[tuple[LinkId, Direction], PadGauge] = {}
        self._at_floor: set[LinkId] = set()
        names = [side.label, "direction"]
        self._per_day = Gauge(
            f"{side.prefix}_pad_bytes_per_day",
            "Pad used a day, of late; NaN while that is unknown",
            names,
            registry=registry,
        )
        self._days = Gauge(
            f"{side.prefix}_pad_days_left",
            "Days until the pad is used up at this pace; NaN while that is unknown",
            names,
            registry=registry,
        )
        self._low = Gauge(
            f"{side.prefix}_pad_low", "Whether the pad is running low", names, registry=registry
        )

    async def run(self) -> None:
        """Look every so often, until cancelled."""
        while True:
            await asyncio.sleep(limits.PAD_LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Note what is left of every pad whose link is up, and forget links that are enrolled no more."""
        now, wall = clock.now(), clock.unix_seconds()
        for stored in self._tables():
            for direction, left in self._live(stored).items():
                gauge = self._gauge(stored, direction, left, now)
                if gauge.look(left, _age(stored, wall), now):
                    self._became_low(stored, direction, gauge.forecast(_age(stored, wall)))
                if direction is Direction.TO_KME:
                    self._look_at_floor(stored, left)
        enrolled = {stored.link.link_id for stored in self._links}
        for key in [one for one in self._gauges if one[0] not in enrolled]:
            del self._gauges[key]

    async def report(self) -> Mapping[LinkId, Mapping[str, Any]]:
        """What ``status`` says of the pads of every table link, up or down."""
        self.look()
        now, wall = clock.now(), clock.unix_seconds()
        found = {}
        for stored in tuple(self._tables()):
            if (stored.link.link_id, Direction.TO_HUB) not in self._gauges:
                marks = await self._links.marks(stored.link.link_id)
                for direction, mark in ((Direction.TO_HUB, marks.to_hub), (Direction.TO_KME, marks.to_kme)):
                    left = _capacity(stored, direction) - mark * _UNIT
                    self._gauge(stored, direction, left, now).look(left, _age(stored, wall), now)
            found[stored.link.link_id] = {
                direction.name.lower(): _shown(self._forecast(stored, direction)) for direction in Direction
            }
        return found

    # ── looking ─────────────────────────────────────────────────────────────────────────────────
    def _tables(self) -> Iterator[StoredLink]:
        return (stored for stored in self._links if stored.link.kind is PadKind.TABLE)

    def _live(self, stored: StoredLink) -> dict[Direction, int]:
        shell = self._links.shell(stored.link.link_id)
        return {} if shell is None else {one: pad.remaining_bytes for one, pad in shell.pads.items()}

    def _gauge(self, stored: StoredLink, direction: Direction, left: int, now: float) -> PadGauge:
        key = (stored.link.link_id, direction)
        gauge = self._gauges.get(key)
        if gauge is None:
            gauge = self._gauges[key] = PadGauge(_capacity(stored, direction), left, self._thresholds, now)
            self._publish(stored, direction)
        return gauge

    def _publish(self, stored: StoredLink, direction: Direction) -> None:
        names = (self._side.other(stored), direction.name.lower())
        forecast = partial(self._forecast, stored, direction)
        self._per_day.labels(*names).set_function(lambda: _number(forecast().burn))
        self._days.labels(*names).set_function(lambda: _number(forecast().days))
        self._low.labels(*names).set_function(lambda: forecast().low)

    def _forecast(self, stored: StoredLink, direction: Direction) -> Forecast:
        gauge = self._gauges.get((stored.link.link_id, direction))
        if gauge is None:  # its link is enrolled no more
            return Forecast(_capacity(stored, direction), 0, None, None, low=False)
        return gauge.forecast(_age(stored, clock.unix_seconds()))

    # ── alarms ──────────────────────────────────────────────────────────────────────────────────
    def _became_low(self, stored: StoredLink, direction: Direction, forecast: Forecast) -> None:
        other = self._side.other(stored)
        shown = {"with": other, "direction": direction.name.lower(), **_shown(forecast)}
        _log.warning("a pad is running low", extra=shown)
        details: dict[str, object] = {"left_bytes": forecast.left}
        if forecast.days is not None:
            details["days_left"] = math.floor(forecast.days)
        subjects = (self._side.subject(stored), Subject.link(stored.link.link_id))
        self._emit(Event(events.PAD_LOW, subjects=subjects, details=details))

    def _look_at_floor(self, stored: StoredLink, left: int) -> None:
        link_id = stored.link.link_id
        if left >= self._floor():
            self._at_floor.discard(link_id)
        elif link_id not in self._at_floor:
            self._at_floor.add(link_id)
            _log.error("a pad is kept for control traffic", extra={"with": self._side.other(stored)})
            subjects = (self._side.subject(stored), Subject.link(link_id))
            self._emit(Event(events.PAD_FLOOR_REACHED, subjects=subjects, details={"left_bytes": left}))


def _capacity(stored: StoredLink, direction: Direction) -> int:
    link = stored.link
    return _UNIT * (link.capacity_to_hub if direction is Direction.TO_HUB else link.capacity_to_kme)


def _age(stored: StoredLink, wall: int) -> float:
    """Seconds since enrolment, for what a wall clock is worth."""
    return max(0.0, wall - stored.created)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _shown(forecast: Forecast) -> Mapping[str, Any]:
    """As status and logs show it."""
    return {
        "capacity_bytes": forecast.capacity,
        "left_bytes": forecast.left,
        "left_percent": round(forecast.percent, 1),
        "bytes_per_day": None if forecast.burn is None else round(forecast.burn),
        "days_left": None if forecast.days is None else round(forecast.days, 1),
        "low": forecast.low,
    }
