"""What strikes a world beyond cuts and crashes: an attacker on the wires, disks that fill up or fail.

Everything is drawn from a chance of its own, so that worlds without these faults stay what they were.
Processes that are killed and disks that let a store down end the daemon, not the machine: what was
written stays in the caches of its disks. A disk that lets a pad down ends a connection; what a failed
sync left counts as clean from then on, as on Linux.
"""

from __future__ import annotations

import errno
from collections import Counter
from typing import Final

from simulation.chance import Chance
from simulation.machines import Machine
from simulation.network import Wire, Wiretap
from simulation.scenarios import Scenario
from skex.base.ids import Direction

_ROOM_BYTES: Final = 40_000
"""A disk that fills up leaves at most this much, so that it is full within a few commits."""


class Faults:
    """Strikes a world's wires and disks. ``counts`` is where it says what it did."""

    def __init__(self, chance: Chance, scenario: Scenario, tap: Wiretap, counts: Counter[str]) -> None:
        self._chance = chance
        self._scenario = scenario
        self._tap = tap
        self._counts = counts

    def strike(self, wires: list[Wire], machines: list[Machine]) -> Machine | None:
        """Perhaps do harm; returns a machine whose daemon is killed, if that is it."""
        scenario, chance = self._scenario, self._chance
        if scenario.attack_rate and chance.random() < scenario.attack_rate:
            self._attack(wires)
        running = [machine for machine in machines if machine.running]
        if not running:
            return None
        if scenario.disk_rate and chance.random() < scenario.disk_rate:
            self._spoil_disk(chance.choice(running))
        if scenario.kill_rate and chance.random() < scenario.kill_rate:
            self._counts["kills"] += 1
            return chance.choice(running)
        return None

    # ── wires ───────────────────────────────────────────────────────────────────────────────────
    def _attack(self, wires: list[Wire]) -> None:
        """Change bytes under way, or put bytes there that were sent before, on this wire or another."""
        if not wires:
            return
        wire, direction = self._chance.choice(wires), self._chance.choice(list(Direction))
        under_way = wire.streams[direction].under_way
        if under_way and self._chance.random() < 0.5:
            under_way[self._chance.randrange(len(under_way))] ^= 1 << self._chance.randrange(8)
            self._counts["corruptions"] += 1
        elif self._tap.heard:
            old = self._chance.choice(self._tap.heard)
            if self._chance.random() < 0.5:
                under_way += old
                self._counts["replays"] += 1
            else:
                place = self._chance.randrange(len(under_way) + 1)
                under_way[place:place] = old[self._chance.randrange(len(old)) :]
                self._counts["splices"] += 1

    # ── disks ───────────────────────────────────────────────────────────────────────────────────
    def _spoil_disk(self, machine: Machine) -> None:
        chance, counts = self._chance, self._counts
        match chance.randrange(7):
            case 0 | 1:
                machine.store_disk.limit(chance.randrange(_ROOM_BYTES))
                counts["disks filled"] += 1
            case 2 | 3:
                machine.store_disk.fail_after(chance.randrange(8), errno.EIO)
                counts["disks failed"] += 1
            case 4:
                machine.store_disk.fail_sync_after(chance.randrange(4))
                counts["syncs failed"] += 1
            case 5:
                machine.disk.fail_after(chance.randrange(12), chance.choice((errno.EIO, errno.ENOSPC)))
                counts["pad disks failed"] += 1
            case _:
                machine.disk.fail_sync_after(chance.randrange(4))
                counts["pad syncs failed"] += 1
