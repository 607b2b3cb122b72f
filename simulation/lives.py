"""What happens to whole machines: restored from older images, copied, set to another time, operated.

Everything is drawn from a chance of its own, so that worlds without it stay what they were. What the
specification names as left over ("What is left", chapter 14.8) is kept out by when things happen here,
never by what a checker forgives:

- one restore or copy at a time: the next one waits until every link of the machine was used again, was
  enrolled again, or leads to a hub that is away. So no link loses both its ends' pasts at once.
- a KME's older store, or a copy made of one, is used only if at least k hubs within reach saw its
  prefaces go on since, or if no slave was given a key since. Otherwise nobody could tell.
- while a copy runs that is as new as its original, applications fetch nothing from either: until the
  hubs have heard both, nobody can tell which of them they should have asked.

An operator does what the manual says, and nobody else: after a rollback was found all frozen links are
enrolled again, and it is settled.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from simulation.images import MachineImage, Part, put_back, take, taken_by_slaves
from simulation.machines import Enrolled, Machine, PowerLostError, ProcessDiedError, SimHub, SimKme
from simulation.rules import RuleBrokenError
from skex.base.ids import HubName, KmeName, LinkId
from skex.pad.kinds import PadKind
from skex.protocol.changes import RollbackSettled
from skex.wire.peer import KeyRange

if TYPE_CHECKING:  # a world has its lives
    from simulation.world import World

_IMAGES: Final = 2
_PARTS: Final = (Part.WHOLE, Part.WHOLE, Part.STORE, Part.PADS)
_KMES: Final = 0.6
"""How often it is a KME, whatever else there is: more follows from it than from a hub's restore."""
_LOOK_STEPS: Final = 25
"""So often the operator looks, and copies and outages may end."""
_STEPS_OF_A_CLOCK: Final = (-86_400.0, -3_600.0, -60.0, -5.0, 5.0, 60.0, 3_600.0, 86_400.0)
_PARCELS: Final = 64
_FETCH_RATE: Final = 0.08
_SPARE_UNITS: Final = 16
"""A table with fewer units left is enrolled again before it is used up."""


@dataclass(frozen=True, slots=True)
class _Parcel:
    """Keys that a master got: its slave asks for them, now and then once more."""

    sender: KmeName
    receiver: KmeName
    keys: tuple[KeyRange, ...]


class Lives:
    """The machines' lives of one world. ``step`` does harm, ``tend`` mends; both are called each step."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = world.chance.fork("lives")
        self.copies: list[SimKme] = []
        self.rolled_back: set[str] = set()
        """Names of KMEs that had an older store, a new one, or a copy."""
        self.told_to_revoke: set[str] = set()
        """Names of KMEs whose operator revoked keys of a peer that lost its store."""
        self._images: dict[Machine, deque[MachineImage]] = {}
        self._unmet: set[LinkId] = set()
        self._parcels: deque[_Parcel] = deque(maxlen=_PARCELS)
        self._ends_at = 0.0
        self._copy_is_new = False
        self._away: set[HubName] = set()
        self._due: dict[Machine, float] = {}
        self._kits = 0
        self._steps = 0

    @property
    def kmes(self) -> list[SimKme]:
        """Every KME that is not switched off for ever, copies included."""
        return [*self.world.kmes.values(), *self.copies]

    def begin(self) -> None:
        """Set the clocks, where machines have their own."""
        if self.world.scenario.clock_rate:
            for machine in self.world.machines():
                self._own_clock(machine)
                machine.clock.reboot(self.chance.uniform(0.0, 1e6))

    def _own_clock(self, machine: Machine) -> None:
        machine.boots = self.chance.fork(f"boots of {machine.label}")

    # ── each step ───────────────────────────────────────────────────────────────────────────────
    def step(self) -> None:
        """Perhaps something happens to a machine."""
        scenario, chance = self.world.scenario, self.chance
        if scenario.restore_rate or scenario.clone_rate:
            if chance.random() < 2 * (scenario.restore_rate + scenario.clone_rate):
                self._take_image()
            if chance.random() < scenario.restore_rate:
                self._restore()
            if chance.random() < scenario.clone_rate:
                self._copy()
        if scenario.clock_rate and chance.random() < scenario.clock_rate:
            self._set_clock()
        if scenario.away_rate and not self._away and chance.random() < scenario.away_rate:
            self._go_away()

    def tend(self, *, faults: bool) -> None:
        """Applications fetch what is theirs; whoever was called comes when it is time."""
        if not self.world.scenario.lives:
            return
        if self._parcels and self.chance.random() < _FETCH_RATE:
            self._fetch()
        self._steps += 1
        if self._steps % _LOOK_STEPS:
            return
        over = not faults or self.world.time >= self._ends_at
        if self.copies and over:
            self._switch_off()
        if self._away and over:
            self._come_back()
        self._look_at_links()
        if not self.copies:
            self._operate()

    # ── images ──────────────────────────────────────────────────────────────────────────────────
    def _take_image(self) -> None:
        running = [one for one in self.world.machines() if one.running and one not in self._due]
        if running:
            kmes = [one for one in running if isinstance(one, SimKme)]
            machine = self.chance.choice(kmes if kmes and self.chance.random() < _KMES else running)
            self._images.setdefault(machine, deque(maxlen=_IMAGES)).append(take(machine))

    @property
    def _is_quiet(self) -> bool:
        return not (self.copies or self._unmet or self._due or self._away)

    def _restore(self) -> None:
        """Put an older image, or a part of it, in the place of a running machine's disks."""
        having = [one for one in self.world.machines() if one.running and self._images.get(one)]
        if not having or not self._is_quiet:
            return
        kmes = [one for one in having if isinstance(one, SimKme)]
        machine = self.chance.choice(kmes if kmes and self.chance.random() < _KMES else having)
        images = self._images[machine]
        image, part = self.chance.choice(images), self.chance.choice(_PARTS)
        told = isinstance(machine, SimKme) and part is not Part.PADS and self._is_known(machine, image)
        if isinstance(machine, SimKme) and not told and not self._is_harmless(machine, image, part):
            return
        self.world.stop(machine, f"is restored: {part.value}", machine.be_killed)
        put_back(image, machine, part)
        self.world.survived.counts["restores"] += 1
        if part is not Part.PADS:
            self._images[machine] = deque((one for one in images if one.log <= image.log), _IMAGES)
        self._has_two_pasts(machine, told=told, noticeable=part is not Part.PADS)

    def _has_two_pasts(self, machine: Machine, *, told: bool, noticeable: bool) -> None:
        self._unmet |= machine.links.keys()
        self.world.checkers.restored(machine)
        if isinstance(machine, SimKme) and noticeable:
            self.rolled_back.add(machine.name)
        if told:
            self.world.survived.counts["restores to be noticed"] += 1
            self.world.checkers.seen_further(machine)

    def _is_known(self, one: SimKme, image: MachineImage) -> bool:
        """Whether at least k hubs within reach know of prefaces that this image does not."""
        hubs = self.world.hubs
        knowing = [
            link.hub
            for link in one.links.values()
            if not hubs[link.hub].is_liar
            and link.hub not in self.world.down
            and link.link_id in hubs[link.hub].memory.links.marks
            and link.link_id in image.marks
            and hubs[link.hub].memory.links.marks[link.link_id].seen_count > image.marks[link.link_id].count
        ]
        return len(knowing) >= self.world.realm.threshold

    def _is_harmless(self, one: SimKme, image: MachineImage, part: Part) -> bool:
        """No key went to a slave that the image does not know of."""
        return part is Part.PADS or taken_by_slaves(one.memory) == image.taken_by_slaves

    # ── copies ──────────────────────────────────────────────────────────────────────────────────
    def _copy(self) -> None:
        """Run a KME a second time, from an image or as it is now."""
        running = [one for one in self.world.kmes.values() if one.running]
        if not running or not self._is_quiet:
            return
        one = self.chance.choice(running)
        older = [image for image in self._images.get(one, ()) if self._is_known(one, image)]
        self._copy_is_new = not older or self.chance.random() < 0.5
        image = take(one) if self._copy_is_new else self.chance.choice(older)
        number = self.world.survived.counts["clones"] = self.world.survived.counts["clones"] + 1
        copy = SimKme(KmeName(one.name), one.realm, one.chance.fork(f"copy {number}"), self.world.clock)
        copy.label = f"{one.name} (copy {number})"
        copy.hazard_rate = one.hazard_rate
        copy.watch = one.watch
        copy.clock.copy_of(one.clock)
        if one.boots is not None:
            self._own_clock(copy)
        copy.links = dict(one.links)
        copy.home.become(one.home)
        put_back(image, copy)
        self.copies.append(copy)
        self._ends_at = self.world.time + self.chance.uniform(10.0, 90.0)
        self.world.note(f"{copy.label} begins")
        self._has_two_pasts(copy, told=not self._copy_is_new, noticeable=True)
        self.world.start_kme(copy)

    def _switch_off(self) -> None:
        """One of the two never runs again."""
        copy = self.copies.pop()
        name = KmeName(copy.name)
        original = self.world.kmes[name]
        gone, stays = (copy, original) if self.chance.random() < 0.5 else (original, copy)
        self.world.kmes[name] = stays
        self._images.pop(original, None)
        self.world.stop(gone, "is switched off for ever", gone.be_killed)
        self.world.retire(gone)
        self._unmet |= stays.links.keys()

    # ── applications ────────────────────────────────────────────────────────────────────────────
    def delivered(self, one: SimKme, receiver: KmeName, keys: tuple[KeyRange, ...]) -> None:
        """A master has keys: its slave will fetch them."""
        self._parcels.append(_Parcel(KmeName(one.name), receiver, keys))

    def _fetch(self) -> None:
        parcel = self.chance.choice(self._parcels)
        copies = [one for one in self.kmes if one.name == parcel.receiver and one.running]
        is_copied = any(copy.name == parcel.receiver for copy in self.copies)
        if not copies or (is_copied and self._copy_is_new):
            return
        one = self.chance.choice(copies)
        try:
            if one.hand_out(parcel.sender, parcel.keys, self.world.app_of(parcel.receiver)):
                self.world.survived.counts["fetched"] += sum(part.count for part in parcel.keys)
        except (PowerLostError, ProcessDiedError) as lost:
            self.world.end(lost)

    # ── clocks, and hubs that are away ──────────────────────────────────────────────────────────
    def _set_clock(self) -> None:
        machine = self.chance.choice([*self.world.hubs.values(), *self.kmes])
        machine.clock.set_wall(self.chance.choice(_STEPS_OF_A_CLOCK))
        self.world.survived.counts["clock jumps"] += 1

    def _go_away(self) -> None:
        """More hubs than may be: until they are back keys need not flow."""
        world = self.world
        most = len(world.hubs) - world.realm.threshold
        names = list(world.hubs)
        away = set(self.chance.sample(names, self.chance.randint(most + 1, len(names)))) - world.down
        self._away = away
        world.down |= away
        self._ends_at = world.time + self.chance.uniform(5.0, 120.0)
        world.survived.counts["outages"] += 1
        for wire, _, hub_end in world.wires:
            if hub_end.owner.name in away:
                wire.cut()
        world.note(f"{sorted(away)} are away")

    def _come_back(self) -> None:
        self.world.down -= self._away
        self._away = set()

    # ── the operator ────────────────────────────────────────────────────────────────────────────
    def _look_at_links(self) -> None:
        """Which links were used again, or need not be waited for."""
        if not self._unmet:
            return
        down = self.world.down - self._away
        waiting = {
            link.link_id
            for one in self.world.kmes.values()
            for link in one.links.values()
            if link.hub not in down
        }
        met = {
            up.dialled
            for wire, up, hub_end in self.world.wires
            if wire.open and up.session is not None and hub_end.session is not None
        }
        self._unmet = (self._unmet & waiting) - met

    def _operate(self) -> None:
        """Whoever finds frozen or used up links, or a rollback, sends for the operator."""
        for one in self.world.kmes.values():
            found = one.memory.rollback is not None
            if not found and not self._to_renew(one):
                self._due.pop(one, None)
            elif self.world.time >= self._due.setdefault(one, self.world.time + self.chance.uniform(2, 30)):
                self._mend(one, found=found)

    def _to_renew(self, one: SimKme) -> list[Enrolled]:
        """Links that are frozen, those with a damaged pad at either end, and tables with little left."""
        return [link for link in one.links.values() if self._is_done_for(one, link)]

    def _is_done_for(self, one: SimKme, link: Enrolled) -> bool:
        hub = self.world.hubs[link.hub]
        resting = one.frozen | one.damaged | hub.frozen | hub.damaged
        return link.link_id in hub.links and (link.link_id in resting or self._is_used_up(one, link))

    def was_replaced(self, machine: Machine) -> None:
        """A machine has new disks: an older store than any."""
        self._images.pop(machine, None)
        self._due.pop(machine, None)
        if isinstance(machine, SimKme):
            self.rolled_back.add(machine.name)

    def _is_used_up(self, one: SimKme, link: Enrolled) -> bool:
        if link.kind is PadKind.DERIVED:
            return False
        own = one.memory.links.marks.get(link.link_id)
        hub = self.world.hubs[link.hub].memory.links.marks.get(link.link_id)
        marks = [mark for end in (own, hub) if end is not None for mark in (end.to_hub, end.to_kme)]
        return max(marks, default=0) + _SPARE_UNITS > link.units

    def _mend(self, one: SimKme, *, found: bool) -> None:
        """As the manual says: enrol frozen links again, then settle; for that the KME is stopped."""
        links = self._to_renew(one)
        hubs = [self.world.hubs[link.hub] for link in links]
        if not one.running or not all(hub.running for hub in hubs):
            return
        if found:
            self.world.stop(one, "is stopped by its operator", one.be_killed)
            self._repair(one)
            one.home.open()
        for link, hub in zip(links, hubs, strict=True):
            self.renew(one, hub, link.kind)
        if found:
            self._images.pop(one, None)
            one.home.commit((RollbackSettled(),))
            self.world.checkers.committed(one, (RollbackSettled(),))
            one.home.die()
            self.world.survived.counts["rollbacks settled"] += 1
        del self._due[one]

    def renew(self, one: SimKme, hub: SimHub, kind: PadKind) -> None:
        """A new kit, in the place of an older one if there is one. No disk fails while an operator looks."""
        self._kits += 1
        link = self.world.make_link(KmeName(one.name), HubName(hub.name), kind, self._kits)
        for machine in (hub, one):
            rate, machine.hazard_rate = machine.hazard_rate, 0.0
            self._repair(machine)
            machine.enrol(link)
            machine.hazard_rate = rate
            self._images.pop(machine, None)
        self.world.survived.counts["links renewed"] += 1
        if one.running:
            one.renewed(link)

    @staticmethod
    def _repair(machine: Machine) -> None:
        for disk in (machine.disk, machine.store_disk):
            disk.heal()
            disk.limit(None)

    # ── what the world asks ─────────────────────────────────────────────────────────────────────
    def require_cause(self, one: SimKme, what: str) -> None:
        """Nobody is accused of a rollback that never happened. Raises ``RuleBrokenError``."""
        if one.name not in self.rolled_back:
            raise RuleBrokenError(f"{one.label} {what}, and was never rolled back")
