"""Simulated machines: production code with a disk, a store and wires, carried out step by step.

A machine can lose its power between any two effects: whatever was not durable is gone, and it starts
anew with what its store and its disk hold. Nothing here decides anything about keys.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from simulation.chance import Chance
from simulation.clocks import MachineClock
from simulation.disk import Disk, PowerFailure
from simulation.homes import HubHome, KmeHome
from simulation.memory import HubMemory, KmeMemory
from simulation.network import Wire
from simulation.watching import Watch
from skex.base import codes, limits
from skex.base.errors import PeerFault, Refused, SkexError, StoreFault
from skex.base.ids import Coordinate, Direction, HubName, Incarnation, KmeName, LinkId, RealmName, SaeId
from skex.base.secret import Secret
from skex.pad.derived import DerivedPad
from skex.pad.erasing import destroy
from skex.pad.kinds import Pad, PadKind
from skex.pad.table import TablePad
from skex.protocol import hub, kme, peer, rollback, traffic
from skex.protocol.assignee import KeysGone
from skex.protocol.changes import Change, KeysDelivered, Role
from skex.protocol.connection import Connection, ConnectionEffects, ConnectionEvent, Established
from skex.protocol.effects import Effects
from skex.protocol.envelopes import Outgoing
from skex.protocol.link import Answered, Arrived, Send
from skex.protocol.preface_hub import HubPreface
from skex.protocol.preface_kme import KmePreface
from skex.protocol.quota import Quota, Rate
from skex.protocol.receiver import Searched, SearchNeeded
from skex.protocol.reconstruct import reconstruct
from skex.protocol.session import (
    ClaimLink,
    ConnectionLost,
    Failed,
    GrantsFailed,
    GrantsTaken,
    LinkFound,
    LinkProfile,
    LookUpLink,
    Owned,
    Received,
    RollbackNoted,
    RolledBack,
    Session,
    TakeGrant,
)
from skex.protocol.taking import Taking
from skex.protocol.traffic import Tick
from skex.store.links import EnrolledLink
from skex.wire import messages
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose
from skex.wire.peer import KeyRange
from skex.wire.preface import Parties
from skex.wire.realm import HubAttributes, Realm

COMMIT_HAZARD: Final = 4
"""A commit is several writes: that much likelier a place for the power to go than a single effect."""


class PowerLostError(Exception):
    """The machine lost its power between two effects, or between two writes of its store."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.label)
        self.machine = machine


class ProcessDiedError(Exception):
    """The machine's disk let its store down; the daemon ended, the machine runs on."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.label)
        self.machine = machine


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One link as its kit made it: both ends hold this much."""

    link_id: LinkId
    kme: KmeName
    hub: HubName
    kind: PadKind
    key: bytes
    material: Mapping[Direction, bytes]

    @property
    def units(self) -> int:
        """Of each direction's table."""
        return self._capacity(Direction.TO_HUB)

    def profile(self, realm: RealmName) -> LinkProfile:
        """What the connection machines get."""
        return LinkProfile(
            Parties(realm, self.link_id, self.kme, self.hub),
            Secret(self.key),
            self.kind,
            self._capacity(Direction.TO_HUB),
            self._capacity(Direction.TO_KME),
        )

    def stored(self, realm: RealmName) -> EnrolledLink:
        """What stores get."""
        return EnrolledLink(
            self.link_id,
            realm,
            self.hub,
            self.kme,
            self.kind,
            Secret(self.key),
            self._capacity(Direction.TO_HUB),
            self._capacity(Direction.TO_KME),
            Enrolment.CARRIED_IN_CLEAR,
        )

    def _capacity(self, direction: Direction) -> int:
        if self.kind is PadKind.DERIVED:
            return limits.PAD_POSITION_MAX
        return len(self.material[direction]) // limits.TABLE_UNIT_BYTES


class Owner(Protocol):
    """What a connection asks of the machine that it belongs to."""

    @property
    def name(self) -> str:
        """The machine's name."""

    @property
    def watch(self) -> Watch:
        """Who sees what its connections do."""

    def hazard(self) -> None:
        """A moment between two effects. Raises ``PowerLostError``."""

    def now(self) -> float:
        """The boot-time clock."""

    def commit(self, changes: Sequence[Change]) -> None:
        """Make one set durable."""

    def look_up(self, link_id: LinkId) -> LinkProfile:
        """The link's profile."""

    def claim(self, end: LinkEnd, link_id: LinkId) -> Owned:
        """End an older connection, open the pads, state the marks."""

    def on_established(self, end: LinkEnd, session: Session) -> None:
        """The preface is done."""

    def on_arrived(self, end: LinkEnd, notice: Arrived | Answered) -> None:
        """The other end said something."""

    def on_rolled_back(self, end: LinkEnd) -> None:
        """The other end saw this machine further than it is."""

    def on_ended(self, end: LinkEnd) -> None:
        """The connection is gone."""


class LinkEnd:
    """One end of a wire: a connection machine and its pads."""

    def __init__(self, owner: Owner, wire: Wire, machine: Connection, outgoing: Direction) -> None:
        self.owner = owner
        self.wire = wire
        self.machine = machine
        self.outgoing = outgoing
        self.pads: dict[Direction, Pad] = {}
        self.session: Session | None = None
        self.rolled_back = False
        self.over = False
        self.dialled: LinkId | None = None
        self.watch = owner.watch
        self.watch.begun(self)

    def start(self) -> None:
        """The dialling end speaks first."""
        self._carry_out(self.machine.start())

    def feed(self, event: ConnectionEvent) -> None:
        """Hand one event to the machine and carry out what follows."""
        self._carry_out(self.machine.handle(event, self.owner.now()))

    def receive(self, data: bytes) -> None:
        """Bytes arrived."""
        if not self.over:
            self.feed(Received(data))

    def tick(self) -> None:
        """Let the machine see the time if it waits for it."""
        deadline = self.machine.next_deadline
        if deadline is not None and deadline <= self.owner.now():
            self.feed(Tick())

    def send(self, message: messages.Message, token: Hashable = None) -> None:
        """Send a message. Raises ``Refused`` where the link does not take it."""
        self.watch.said(self, message)
        self.feed(Send(message, token))

    def close(self) -> None:
        """The wire is cut, or this end gives up."""
        if not self.over:
            self.over = True
            self.wire.cut()
            self.machine.handle(ConnectionLost(), self.owner.now())
            for pad in self.pads.values():
                pad.close()
            self.owner.on_ended(self)

    def _carry_out(self, effects: ConnectionEffects) -> None:
        """Persist, then send, then notify; the machine may be off before each of them."""
        waiting = deque([effects])
        while waiting:
            effects = waiting.popleft()
            self._show_sealed(effects)
            taken = self._persist(effects) if effects.persist else None
            if isinstance(taken, GrantsFailed):
                effects = Effects()
            for data in effects.send:
                self.owner.hazard()
                self.wire.send(self.outgoing, data)
            for notice in effects.notify:
                self._notice(notice)
            if taken is not None and not self.over:
                waiting.append(self.machine.handle(taken, self.owner.now()))

    def _persist(self, effects: ConnectionEffects) -> ConnectionEvent | None:
        self.owner.hazard()
        try:
            taking = Taking(effects.persist, self.pads)
        except SkexError as error:
            return GrantsFailed(error)
        self.owner.hazard()
        self.owner.commit(taking.changes)
        self.owner.hazard()
        try:
            taken = taking.finish()
        except SkexError as error:
            return GrantsFailed(error)
        self._show_taken(effects, taken)
        return taken

    def _show_sealed(self, effects: ConnectionEffects) -> None:
        begun = next((one.session for one in effects.notify if isinstance(one, Established)), self.session)
        if begun is not None:
            # A KME's frame 5 leaves in the set that establishes its link.
            skipped = 1 if self.session is None and self.outgoing is Direction.TO_HUB else 0
            for record in effects.send[skipped:]:
                self.watch.sealed(self, begun, record)

    def _show_taken(self, effects: ConnectionEffects, taken: GrantsTaken | None) -> None:
        takes = (one for one in effects.persist if isinstance(one, TakeGrant))
        for take, material in zip(takes, taken.materials if taken else (), strict=True):
            self.watch.taken(self, take, material)

    def _notice(self, notice: object) -> None:
        match notice:
            case LookUpLink(link_id):
                self.feed(LinkFound(self.owner.look_up(link_id)))
            case ClaimLink(link_id):
                self._claim(link_id)
            case Established(session):
                self.session = session
                self.owner.on_established(self, session)
            case RolledBack():
                self.rolled_back = True
                self.owner.on_rolled_back(self)
                if not self.over:
                    self.feed(RollbackNoted())
            case Arrived() | Answered():
                if not self.over:
                    if isinstance(notice, Arrived):
                        self.watch.arrived(self, notice.message)
                    self.owner.on_arrived(self, notice)
            case Failed():
                self.close()
            case _:
                pass

    def _claim(self, link_id: LinkId) -> None:
        try:
            owned = self.owner.claim(self, link_id)
        except SkexError:  # a pad that cannot be opened, as in the daemons: the connection ends
            self.close()
        else:
            self.feed(owned)


class Machine:
    """What hubs and KMEs have in common. ``watch`` sees what it does.

    ``name`` is whom it is enrolled as, ``label`` tells it from its copies. ``now`` is its boot-time clock.
    ``damaged`` are links of which a pad was refused; ``rotten`` says which bits of a pad's file flipped.
    """

    watch: Watch = Watch()

    def __init__(self, name: str, realm: Realm, chance: Chance, clock: Callable[[], float]) -> None:
        self.name = name
        self.label = name
        self.realm = realm
        self.chance = chance
        self.clock = MachineClock(clock)
        self.boots: Chance | None = None
        self.disk = Disk(chance.getrandbits(32))
        self.store_disk = Disk(f"{name} store")
        self.faults = chance.fork("store faults")
        self.now = self.clock.now
        self.running = False
        self.crashes = 0
        self.hazard_rate = 0.0
        self.links: dict[LinkId, Enrolled] = {}
        self.frozen: set[LinkId] = set()
        self.damaged: set[LinkId] = set()
        self.rotten: dict[str, dict[int, int]] = {}
        self.ends: dict[LinkId, LinkEnd] = {}
        self.opened: list[LinkEnd] = []

    def hazard(self) -> None:
        """A moment between two effects. Raises ``PowerLostError``."""
        if self.hazard_rate and self.chance.random() < self.hazard_rate:
            raise PowerLostError(self)

    def enrol(self, link: Enrolled) -> None:
        """Import a kit: write the pads' files. It takes the place of a link between the same two."""
        ends = (link.kme, link.hub)
        old = next((one for one in self.links.values() if (one.kme, one.hub) == ends), None)
        self.home.enrol(link.stored(self.realm.name), None if old is None else old.link_id)
        if old is not None:
            self._forget(old)
        self.links[link.link_id] = link
        for direction, material in link.material.items():
            path = pad_path(link.link_id, direction)
            if link.kind is PadKind.TABLE:
                TablePad.create(self.disk, path, link.link_id, direction, [material])
            else:
                DerivedPad.create(self.disk, path, link.link_id, direction, Secret(material))

    def _forget(self, old: Enrolled) -> None:
        """A link was replaced: its connection and its pads go."""
        if old.link_id in self.ends:
            self.ends[old.link_id].close()
        for direction in Direction:
            destroy(self.disk, pad_path(old.link_id, direction))
        del self.links[old.link_id]
        self.damaged.discard(old.link_id)

    def rot_pad(self, path: str, offset: int, mask: int) -> None:
        """Flip bits of one byte of a pad's file at rest."""
        self.disk.rot(path, offset, mask)
        flipped = self.rotten.setdefault(path, {})
        flipped[offset] = flipped.get(offset, 0) ^ mask

    def replace_disks(self) -> None:
        """The same machine with new, empty disks: nobody is enrolled with it."""
        self.be_killed()
        number = self.chance.getrandbits(32)
        self.disk, self.store_disk = Disk(number), Disk(f"{self.name} store {number}")
        self.links, self.frozen, self.damaged, self.rotten = {}, set(), set(), {}
        self.new_home()

    def new_home(self) -> None:
        """Make a store on the store's disk."""
        raise TypeError("a machine is a hub or a KME")

    def lose_power(self) -> None:
        """Everything in memory is gone, and what the disk had not synced may be."""
        self.crashes += 1
        self.running = False
        self.ends = {}
        self.opened = []
        if self.boots is not None:
            self.clock.reboot(self.boots.uniform(5.0, 60.0))
        self.home.die()
        self.disk.crash()
        self.store_disk.crash()

    def open_store(self) -> None:
        """Open it unless enrolment left it open. Raises ``StoreFault``."""
        if not self.home.is_open:
            self.home.open()
            if self.home.recovered:
                self.watch.committed(self, self.home.recovered)
        self.clock.look()
        self.frozen = {one.link.link_id for one in self.home.store.links() if one.frozen}

    def be_killed(self) -> None:
        """The process is gone; what it wrote stays in the caches of its disks."""
        self.running = False
        self.ends = {}
        self.opened = []
        self.home.die()
        self.disk.abandon()
        self.store_disk.limit(None)

    def commit(self, changes: Sequence[Change]) -> None:
        """Make one set durable. Raises ``PowerLostError``, and ``ProcessDiedError`` if the disk fails."""
        if self.hazard_rate and self.faults.random() < COMMIT_HAZARD * self.hazard_rate:
            self.store_disk.cut_power_after(self.faults.randint(1, 8))
        try:
            self.home.commit(changes)
        except PowerFailure as off:
            raise PowerLostError(self) from off
        except StoreFault as fault:
            raise ProcessDiedError(self) from fault
        self.store_disk.keep_power()
        self.clock.look(runs=True)
        self.watch.committed(self, changes)

    def look_up(self, link_id: LinkId) -> LinkProfile:
        """As the preface asks: a link that may not be used is answered like any other, and gets no proof."""
        link = self.links.get(link_id)
        if link is not None and link_id not in self.frozen:
            return link.profile(self.realm.name)
        nobody = Parties(self.realm.name, link_id, KmeName("nobody"), HubName("nobody"))
        return LinkProfile(nobody, Secret(self.chance.randbytes(64)), PadKind.DERIVED, 1, 1, decoy=True)

    def claim(self, end: LinkEnd, link_id: LinkId) -> Owned:
        """End an older connection, open the pads, state the marks."""
        if link_id not in self.links:  # its preface began before the link was replaced
            raise PeerFault(codes.LINK_UNKNOWN)
        older = self.ends.get(link_id)
        if older is not None and older is not end:
            older.close()
        self.ends[link_id] = end
        marks = self.home.store.marks(link_id)
        stored = {Direction.TO_HUB: marks.to_hub, Direction.TO_KME: marks.to_kme}
        for direction, mark in stored.items():
            end.pads[direction] = self._open_pad(link_id, direction, mark)
        if any(pad.contradiction for pad in end.pads.values()):
            self.on_contradiction()
        up, down = end.pads[Direction.TO_HUB].mark, end.pads[Direction.TO_KME].mark
        return Owned(replace(marks, to_hub=up, to_kme=down), self.realm.epoch, self.realm.digest())

    def on_contradiction(self) -> None:
        """A pad's file is ahead of the store: this machine's own evidence that its store is older."""

    def _open_pad(self, link_id: LinkId, direction: Direction, mark: int) -> Pad:
        path = pad_path(link_id, direction)
        kind = self.links[link_id].kind
        opener = TablePad if kind is PadKind.TABLE else DerivedPad
        try:
            return opener.open(self.disk, path, link_id, direction, mark)
        except StoreFault as fault:
            if fault.code is not codes.PAD_IO:
                self.damaged.add(link_id)
            raise

    def start(self) -> None:
        """Start with what the store holds."""
        raise TypeError("a machine is a hub or a KME")

    def tick(self) -> None:
        """Let everything on this machine see the time."""
        for end in list(self.opened):
            end.tick()

    @property
    def home(self) -> HubHome | KmeHome:
        """Its store."""
        raise TypeError("a machine is a hub or a KME")

    def forget_end(self, end: LinkEnd) -> bool:
        """Whether ``end`` was its link's connection; it is not any more."""
        if end in self.opened:
            self.opened.remove(end)
        for link_id, known in list(self.ends.items()):
            if known is end:
                del self.ends[link_id]
                return True
        return False


def machine_of(end: LinkEnd) -> Machine:
    """The machine that a connection's end belongs to."""
    if not isinstance(end.owner, Machine):
        raise TypeError("an end of no machine")
    return end.owner


def pad_path(link_id: LinkId, direction: Direction) -> str:
    """Where a machine's disk has the pad of a link's direction."""
    return f"{link_id.hex()}-{direction.name.lower()}"


# ── hubs ────────────────────────────────────────────────────────────────────────────────────────
_PLENTY = Quota(Rate(1e9, 1e9), Rate(1e9, 1e9))

Lie = Callable[[messages.Message, Chance], Sequence[messages.Message]]
"""What a lying hub makes of a message that it should send to a KME."""


class Plotting(Protocol):
    """What liars decide together."""

    def says(self, hub: SimHub, kme_name: KmeName, message: messages.Message) -> Sequence[messages.Message]:
        """What ``hub`` says where an honest one says ``message``; counted in ``hub.told``."""

    def preface(self, hub: SimHub) -> HubPreface:
        """The hub's end of a new connection."""


class SimHub(Machine):
    """A hub. ``lie``, if set, is applied to everything that it relays; so is ``plot``, to more than that.

    A liar keeps what it sees: ``held`` are shares by sender, counter and tag. ``told`` counts its lies by
    their kinds.
    """

    def __init__(self, name: HubName, realm: Realm, chance: Chance, clock: Callable[[], float]) -> None:
        super().__init__(name, realm, chance, clock)
        self._entropy = chance.fork("store").randbytes
        self.new_home()
        self.lie: Lie | None = None
        self.plot: Plotting | None = None
        self.told: Counter[str] = Counter()
        self.held: dict[tuple[KmeName, int, bytes], bytes] = {}
        self.start()

    def new_home(self) -> None:
        """A hub's store."""
        name = HubName(self.name)
        self._home = HubHome(name, self.realm, self.store_disk, self._entropy, self.clock.wall, boot=self.now)

    def start(self) -> None:
        """Start with what the store holds: nothing but links. Raises ``StoreFault``."""
        self.open_store()
        self.relay = hub.HubRelay(self, self, self.realm.to_bytes())
        self.by_name: dict[KmeName, LinkEnd] = {}
        self.running = True
        self.watch.started(self)

    @property
    def home(self) -> HubHome:
        """Its store."""
        return self._home

    @property
    def memory(self) -> HubMemory:
        """What its store owes."""
        return self._home.memory

    def accept(self, wire: Wire) -> LinkEnd:
        """A KME dialled."""
        if self.plot is None:
            preface = HubPreface(self.chance.randbytes(32), self.now())
        else:
            preface = self.plot.preface(self)
        end = LinkEnd(self, wire, Connection(preface), Direction.TO_KME)
        self.opened.append(end)
        return end

    # ports of the relay
    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> bool:
        """Every enrolled KME may."""
        known = {link.kme for link in self.links.values()}
        return sender in known and receiver in known and purpose in Purpose

    def pair_quota(self, sender: KmeName, receiver: KmeName, stream: hub.Stream) -> Quota:
        """More than this world needs."""
        del sender, receiver, stream
        return _PLENTY

    def total_quota(self, receiver: KmeName, stream: hub.Stream) -> Quota:
        """More than this world needs."""
        del receiver, stream
        return _PLENTY

    def remaining(self, kme_name: KmeName) -> int:
        """Pad left towards a KME."""
        return self.by_name[kme_name].pads[Direction.TO_KME].remaining_bytes

    # links
    def on_established(self, end: LinkEnd, session: Session) -> None:
        """A KME is connected."""
        name = session.profile.parties.kme
        self.by_name[name] = end
        self._do(traffic.KmeUp(name, session.incarnation))

    def on_arrived(self, end: LinkEnd, notice: Arrived | Answered) -> None:
        """A KME said something."""
        name = _established(end).profile.parties.kme
        if isinstance(notice, Arrived):
            if self.is_liar and isinstance(notice.message, messages.Share):
                share = notice.message
                self.held[name, share.counter, share.tag] = share.share
            self._do(traffic.FromKme(name, notice.ordinal, notice.message))
        elif notice.refusal is not None:
            self._do(traffic.AnsweredByKme(name, notice.token, notice.refusal))

    def on_rolled_back(self, end: LinkEnd) -> None:
        """A hub keeps nothing that a rollback could bring back but marks, which only rise."""

    def on_ended(self, end: LinkEnd) -> None:
        """A connection is gone."""
        if self.forget_end(end) and end.session is not None:
            name = end.session.profile.parties.kme
            if self.by_name.get(name) is end:
                del self.by_name[name]
                self._do(traffic.KmeDown(name))

    def tick(self) -> None:
        """Let the links and the relay see the time."""
        super().tick()
        self._do(Tick())

    def _do(self, event: hub.HubEvent) -> None:
        for send in self.relay.handle(event, self.now()).send:
            end = self.by_name.get(send.kme)
            for message in self._said(send.kme, send.message):
                _send(end, message, send.token)

    def _said(self, name: KmeName, message: messages.Message) -> Sequence[messages.Message]:
        if self.plot is not None:
            return self.plot.says(self, name, message)
        if self.lie is None:
            return (message,)
        said = self.lie(message, self.chance)
        if said != (message,):
            self.told["spoiled"] += 1
        return said

    @property
    def is_liar(self) -> bool:
        """Whether it ever says what is not so."""
        return self.lie is not None or self.plot is not None


def _established(end: LinkEnd) -> Session:
    if end.session is None:
        raise LookupError("a message before the preface was done")
    return end.session


def _send(end: LinkEnd | None, message: messages.Message, token: Hashable) -> None:
    """What a link does not take is lost, like everything on a connection that breaks."""
    if end is not None and not end.over:
        try:
            end.send(message, token)
        except Refused:
            return


# ── KMEs ────────────────────────────────────────────────────────────────────────────────────────
class SimKme(Machine):
    """A KME. ``heard`` collects what its machines tell the layer above."""

    def __init__(self, name: KmeName, realm: Realm, chance: Chance, clock: Callable[[], float]) -> None:
        super().__init__(name, realm, chance, clock)
        self._entropy = chance.fork("store").randbytes
        self._home: KmeHome
        self.new_home()
        self.heard: deque[kme.KmeNotice] = deque()
        self.rollbacks_seen = 0
        self.core: kme.KmeCore

    def new_home(self) -> None:
        """A KME's store."""
        name = KmeName(self.name)
        self._home = KmeHome(name, self.realm, self.store_disk, self._entropy, self.clock.wall, boot=self.now)

    def start(self) -> None:
        """Start with what the store holds, as a new incarnation. Raises ``StoreFault``."""
        self.open_store()
        identity = peer.Identity(self.realm.name, KmeName(self.name), Incarnation(self.chance.randbytes(16)))
        ports = kme.Ports(claims=self, commits=self.home.store, admission=self, assign_policy=self)
        held = self.home.store.load(self.now())
        self.core = kme.KmeCore(identity, ports, floor=2, held=held, now=self.now())
        self.heard.clear()
        self.running = True
        self.watch.started(self)
        self._carry_out(self.core.start(self.now()))

    @property
    def home(self) -> KmeHome:
        """Its store."""
        return self._home

    @property
    def memory(self) -> KmeMemory:
        """What its store owes."""
        return self._home.memory

    def dial(self, link_id: LinkId, wire: Wire) -> LinkEnd:
        """Connect to the hub of a link."""
        link = self.links[link_id]
        profile = link.profile(self.realm.name)
        preface = KmePreface(profile, self.chance.randbytes(32), self.core.incarnation, self.now())
        end = LinkEnd(self, wire, Connection(preface), Direction.TO_HUB)
        end.dialled = link_id
        self.opened.append(end)
        return end

    # ports of the core
    def own_claim(self, hubs: Sequence[Coordinate]) -> Claim:
        """Derived links count as computational."""
        derived = {link.hub for link in self.links.values() if link.kind is PadKind.DERIVED}
        weak = [one.coordinate for one in self.realm.hubs if one.name in derived]
        return Claim(tuple(one for one in hubs if one in weak), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR)

    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> bool:
        """Everybody may."""
        return sender != receiver and purpose in Purpose

    def accepts_threshold(self, sender: KmeName, threshold: int) -> bool:
        """As ``Admission`` says."""
        return bool(sender) and threshold >= 2

    def accepts_hubs(self, sender: KmeName, hubs: Sequence[HubAttributes], threshold: int) -> bool:
        """As ``Admission`` says."""
        return bool(sender and threshold and hubs)

    def has_room(self, sender: KmeName, context: CompactContext) -> bool:
        """There is always room."""
        del sender, context
        return True

    def may_assign(
        self, sender: KmeName, master: SaeId, slaves: tuple[SaeId, ...], purpose: str, lifetime: int
    ) -> bool:
        """Everybody may."""
        return bool(sender and master and slaves and purpose and lifetime)

    def tick(self) -> None:
        """Let the links and the core see the time."""
        super().tick()
        deadline = self.core.next_deadline
        if deadline is not None and deadline <= self.now():
            self.do(Tick())

    # links
    def on_established(self, end: LinkEnd, session: Session) -> None:
        """A hub is connected."""
        parties = session.profile.parties
        self.do(kme.LinkProved(parties.hub, end.rolled_back, session.hub_epoch, session.hub_realm_digest))

    def on_arrived(self, end: LinkEnd, notice: Arrived | Answered) -> None:
        """A hub said something."""
        name = _established(end).profile.parties.hub
        if isinstance(notice, Arrived):
            self.do(traffic.FromHub(name, notice.ordinal, notice.message))
        else:
            self.do(traffic.AnsweredByHub(name, notice.token, notice.refusal))

    def on_rolled_back(self, end: LinkEnd) -> None:
        """A hub saw this KME further than it is."""
        if end.dialled is not None:
            self.rollbacks_seen += 1
            self.do(rollback.LinkProved(self.links[end.dialled].hub, rolled_back=True))

    def on_contradiction(self) -> None:
        """As the daemon does: the machines are told."""
        self.do(rollback.OwnContradiction(codes.PAD_MARK_CONTRADICTS))

    def renewed(self, link: Enrolled) -> None:
        """A kit was imported while the daemon runs, in the place of an older link."""
        self.do(rollback.LinkRenewed(link.hub, link.link_id))

    def hand_out(self, sender: KmeName, keys: tuple[KeyRange, ...], slave: SaeId) -> bool:
        """Give keys to a slave, as the key service does: if they are its own, and committed first."""
        may_take = self.core.peer_messages.assignee.may_take
        entitled = all(may_take(sender, one.batch, index, slave) for one in keys for index in one.indexes)
        if not self.core.may_deliver or not entitled:
            return False
        self.commit((KeysDelivered(Role.RECEIVER, sender, keys, slave),))
        self.do(KeysGone(sender, keys))
        return True

    def on_ended(self, end: LinkEnd) -> None:
        """A connection is gone."""
        if self.forget_end(end) and end.session is not None:
            self.do(traffic.HubDown(end.session.profile.parties.hub))

    def do(self, event: kme.KmeEvent) -> None:
        """Hand one event to the core and carry out what follows."""
        self.watch.asked(self, event)
        self._carry_out(self.core.handle(event, self.now()))

    def _carry_out(self, effects: kme.KmeEffects) -> None:
        if effects.persist:
            self.hazard()
            self.commit(effects.persist)
        for send in effects.send:
            self.hazard()
            self.watch.sends(self, send)
            sealed = send.seal(self.chance.randbytes(32)) if isinstance(send, Outgoing) else send
            _send(self._end_of(sealed.hub), sealed.message, sealed.token)
        for notice in effects.notify:
            self.hazard()
            self.watch.notices(self, notice)
            self.heard.append(notice)
            if isinstance(notice, rollback.FreezeLink):
                self._freeze(notice.hub)
            if isinstance(notice, SearchNeeded):
                outcome = reconstruct(notice.search)
                notice.search.wipe()
                self.do(Searched(notice.number, outcome))

    def _freeze(self, hub: HubName) -> None:
        """A link is not used until it is enrolled again."""
        for link_id in [one.link_id for one in self.links.values() if one.hub == hub]:
            self.frozen.add(link_id)
            if link_id in self.ends:
                self.ends[link_id].close()

    def _end_of(self, name: HubName) -> LinkEnd | None:
        for end in self.ends.values():
            if end.session is not None and end.session.profile.parties.hub == name:
                return end
        return None
