"""Bits that flip at rest, and what is done about machines and links that lost something to them.

A bit may flip in a store's database or in a pad, while its machine runs and while it is down. Whoever
notices refuses: a store its daemon's start or a read, a pad its link. Nobody may go on from what it reads
wrongly. Then an operator does what the hints of the codes say: a link whose pad is damaged is enrolled
again (``Lives``); a machine whose store is damaged is put on new disks, under its old name, and enrolled
with everybody again; what a KME had is lost with its store, so its peers revoke what they share with it.

The log of a store is left alone: a bit in it cuts its tail off, which is a restore from an older image.
Everything is drawn from a chance of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from simulation.homes import STORE
from simulation.machines import Machine, PowerLostError, ProcessDiedError, SimKme, pad_path
from skex.base.ids import Direction, KmeName, RequestId
from skex.pad.kinds import PadKind
from skex.pad.layout import HEADER_BYTES, PAGE_BYTES, SLOT_BYTES
from skex.protocol import peer
from skex.protocol.changes import RealmAccepted, Role
from skex.wire.peer import RevokeReason

if TYPE_CHECKING:  # a world has its decay
    from simulation.world import World

_LOOK_STEPS: Final = 25
_DOWN: Final = 0.6
"""How often it is a machine that is down, if there is one: what runs writes most of its pages anew."""
_LOOKS: Final = 8
_IDENTITY_BYTES: Final = 56


class Decay:
    """The rot of one world, and its repair. ``step`` does harm, ``tend`` mends."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = world.chance.fork("decay")
        self._ruined: dict[Machine, float] = {}
        self._to_revoke: set[tuple[KmeName, KmeName]] = set()
        self._steps = 0

    # ── harm ────────────────────────────────────────────────────────────────────────────────────
    def step(self) -> None:
        """Perhaps a bit flips."""
        rate = self.world.scenario.rot_rate
        if rate and self.chance.random() < rate:
            every = self.world.machines()
            down = [machine for machine in every if not machine.running]
            machine = self.chance.choice(down if down and self.chance.random() < _DOWN else every)
            if self.chance.random() < 0.4:
                self._flip_in_store(machine)
            else:
                self._flip_in_pad(machine)

    def _flip_in_store(self, machine: Machine) -> None:
        """Where something is written, if a few looks find such a place."""
        disk = machine.store_disk
        content = disk.durable(STORE)
        places = [self.chance.randrange(len(content)) for _ in range(_LOOKS)]
        place = next((one for one in places if content[one]), places[0])
        disk.rot(STORE, place, 1 << self.chance.randrange(8))
        self.world.survived.counts["bits of stores flipped"] += 1

    def _flip_in_pad(self, machine: Machine) -> None:
        """Somewhere in a pad's header, where its state is, or in a table."""
        if not machine.links:
            return
        chance = self.chance
        link = chance.choice(list(machine.links.values()))
        path = pad_path(link.link_id, chance.choice(list(Direction)))
        slot = PAGE_BYTES * chance.choice((1, 2))
        places = [chance.randrange(_IDENTITY_BYTES), slot + chance.randrange(SLOT_BYTES)]
        if link.kind is PadKind.TABLE:
            places += 2 * [HEADER_BYTES + chance.randrange(len(machine.disk.durable(path)) - HEADER_BYTES)]
        machine.rot_pad(path, chance.choice(places), 1 << chance.randrange(8))
        self.world.survived.counts["bits of pads flipped"] += 1

    # ── repair ──────────────────────────────────────────────────────────────────────────────────
    def ruined(self, machine: Machine) -> None:
        """A daemon found its store damaged: it needs another machine."""
        self._ruined.setdefault(machine, self.world.time + self.chance.uniform(2.0, 30.0))

    def tend(self) -> None:
        """Whoever was called comes when it is time."""
        if not self.world.scenario.rot_rate:
            return
        self._steps += 1
        if self._steps % _LOOK_STEPS:
            return
        for machine, at in list(self._ruined.items()):
            if at <= self.world.time:
                del self._ruined[machine]
                self._replace(machine)
        self._enrol()
        self._revoke()

    def _replace(self, machine: Machine) -> None:
        """New disks for a machine that is down. It knows nobody yet, and nothing."""
        world = self.world
        machine.replace_disks()
        if isinstance(machine, SimKme):
            machine.home.commit((RealmAccepted(world.realm.epoch, world.realm.to_bytes()),))
            name = KmeName(machine.name)
            self._to_revoke |= {(other, name) for other in world.kmes if other != name}
        world.checkers.restored(machine)
        world.lives.was_replaced(machine)
        world.survived.counts["machines replaced"] += 1
        world.note(f"{machine.label} is replaced")

    def _enrol(self) -> None:
        """A new kit for each two of whom one does not know the other, or knows an older link."""
        for one in self.world.kmes.values():
            for hub in self.world.hubs.values():
                mine = next((link for link in one.links.values() if link.hub == hub.name), None)
                theirs = next((link for link in hub.links.values() if link.kme == one.name), None)
                if one.running and hub.running and (mine is None or mine is not theirs):
                    kind = next((link.kind for link in (mine, theirs) if link is not None), PadKind.DERIVED)
                    try:
                        self.world.lives.renew(one, hub, kind)
                    except (PowerLostError, ProcessDiedError) as lost:
                        self.world.end(lost)

    def _revoke(self) -> None:
        """Of the keys that others share with a KME that lost its store nothing is left at its end."""
        for name, lost in sorted(self._to_revoke):
            one = self.world.kmes[name]
            if one.running:
                self._to_revoke.discard((name, lost))
                self.world.lives.told_to_revoke.add(name)
                for role in Role:
                    request = RequestId(self.chance.randbytes(16))
                    try:
                        one.do(
                            peer.RevokeKeys(role, lost, request, RevokeReason.CESSATION_OF_OPERATION, None)
                        )
                    except (PowerLostError, ProcessDiedError) as fallen:
                        self.world.end(fallen)
                        self._to_revoke.add((name, lost))
                        break
