"""How well a world's network carries: machines and pairs that cannot be reached for a time, held bytes.

An outage is silent (what is under way waits, then arrives or is lost; nobody is told) or it refuses
(what stood is cut, and dialling fails). A silent one may have one way only. Ends learn of each other's
going only when it is over, or later, so a hub may have a connection to which its KME will never return
beside the new one. Something between the two may open connections in their stead all the same, and then
carry nothing. A delay holds one direction of one connection.

Everything is drawn from a chance of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, TypeAlias

from simulation.chance import Chance
from simulation.machines import LinkEnd
from simulation.network import Wire
from simulation.scenarios import Scenario
from skex.base.ids import Direction

Line: TypeAlias = tuple[Wire, LinkEnd, LinkEnd]
"""A wire with the KME's end and the hub's."""

_SECONDS: Final = (0.5, 3.0, 12.0, 45.0, 200.0)
"""How long an outage lasts, about; the longer ones outlast every deadline of the protocol."""
_DELAY_SECONDS: Final = (0.2, 2.0, 8.0, 25.0)
_TCP_GIVES_UP: Final = 30.0
"""So long a system waits for a peer that says nothing (``TCP_USER_TIMEOUT`` of the daemons)."""
_LINGERS: Final = 20.0
"""So much later than an outage an end may learn that the other has gone."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A machine, or one KME and one hub, out of reach. Times are the world's.

    ``silent`` are the ways on which bytes wait; ``opens`` says that connections can be opened all the
    same. Ends hear of each other again from ``noticed_at`` on.
    """

    names: frozenset[str]
    silent: frozenset[Direction]
    opens: bool
    until: float
    noticed_at: float

    def covers(self, kme: str, hub: str) -> bool:
        """Whether it lies between these two."""
        return self.names <= {kme, hub}


class Weather:
    """The state of the network. ``counts`` is where it says what it did."""

    def __init__(self, chance: Chance, scenario: Scenario, counts: Counter[str]) -> None:
        self._chance = chance
        self._scenario = scenario
        self._counts = counts
        self._outages: list[Outage] = []
        self._gives_up: list[tuple[float, LinkEnd]] = []

    # ── what it does ────────────────────────────────────────────────────────────────────────────
    def strike(self, now: float, kmes: list[str], hubs: list[str], lines: list[Line]) -> None:
        """Perhaps begin an outage or a delay."""
        scenario, chance = self._scenario, self._chance
        if scenario.outage_rate and chance.random() < scenario.outage_rate:
            self._begin(now, kmes, hubs, lines)
        if scenario.delay_rate and chance.random() < scenario.delay_rate and lines:
            wire, _, _ = lines[-1] if chance.random() < 0.5 else chance.choice(lines)
            wire.hold(chance.choice(list(Direction)), now + self._about(_DELAY_SECONDS))
            self._counts["delays"] += 1

    def _about(self, seconds: tuple[float, ...]) -> float:
        return self._chance.choice(seconds) * self._chance.uniform(0.5, 1.5)

    def _begin(self, now: float, kmes: list[str], hubs: list[str], lines: list[Line]) -> None:
        chance = self._chance
        kme, hub = chance.choice(kmes), chance.choice(hubs)
        names = chance.choice(
            (frozenset({kme, hub}), frozenset({kme, hub}), frozenset({hub}), frozenset({kme}))
        )
        refuses = chance.random() < 0.3
        ways = chance.choice((set(Direction), {Direction.TO_HUB}, {Direction.TO_KME}))
        until = now + self._about(_SECONDS)
        lingers = 0.0 if refuses else chance.choice((0.0, chance.uniform(0.0, _LINGERS)))
        opens = not refuses and chance.random() < 0.5
        outage = Outage(names, frozenset() if refuses else frozenset(ways), opens, until, until + lingers)
        self._outages.append(outage)
        within = [line for line in lines if outage.covers(line[1].owner.name, line[2].owner.name)]
        if refuses:
            self._counts["refusing outages"] += 1
            for wire, _, _ in within:
                wire.cut()
            return
        self._counts["silent outages" if len(ways) > 1 else "one way outages"] += 1
        for _, kme_end, hub_end in within:
            for end in (kme_end, hub_end):
                if chance.random() < 0.7:
                    self._gives_up.append((now + _TCP_GIVES_UP, end))

    def pass_time(self, now: float, lines: list[Line]) -> None:
        """End what is over; what was under way then arrives, or never will."""
        for at, end in [one for one in self._gives_up if one[0] <= now]:
            self._gives_up.remove((at, end))
            line = next((one for one in lines if one[0] is end.wire), None)
            if line is not None and not end.over and self.hides(line):
                self._counts["silent connections ended"] += 1
                end.close()
        for outage in [one for one in self._outages if one.until <= now and one.silent]:
            for wire, kme_end, hub_end in lines:
                covered = outage.covers(kme_end.owner.name, hub_end.owner.name)
                if covered and wire.open and self._chance.random() < 0.3:
                    wire.cut()
        self._outages = [one for one in self._outages if one.noticed_at > now]

    def clear(self) -> None:
        """From now on everything arrives; each end hears at once that the other has gone."""
        self._outages.clear()
        self._gives_up.clear()

    # ── what it lets through ────────────────────────────────────────────────────────────────────
    def lets_dial(self, kme: str, hub: str, now: float) -> bool:
        """Whether a new connection opens."""
        return not any(one.until > now and one.covers(kme, hub) and not one.opens for one in self._outages)

    def carries(self, line: Line, direction: Direction, now: float) -> bool:
        """Whether bytes get through."""
        wire, kme_end, hub_end = line
        if wire.held_until(direction) > now:
            return False
        kme, hub = kme_end.owner.name, hub_end.owner.name
        return not any(
            one.until > now and direction in one.silent and one.covers(kme, hub) for one in self._outages
        )

    def hides(self, line: Line) -> bool:
        """Whether an end does not hear that the other has gone."""
        _, kme_end, hub_end = line
        kme, hub = kme_end.owner.name, hub_end.owner.name
        return any(one.silent and one.covers(kme, hub) for one in self._outages)
