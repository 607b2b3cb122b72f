"""Both ends of links as production code, joined by cables: the smallest world.

A ``Host`` is one end of one link: pads on a simulated disk, a store, and the connections that are open.
A ``Side`` is one connection at a host: it carries out what the machine asks for, one action at a time,
so that a test can stop, crash or interleave between any two. ``LinkPair`` owns a KME's host, a hub's
host, a clock, a ledger of all pad that was ever sealed, and makes connections between any two hosts.

Nothing here decides anything; it is also the smallest example of a shell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from simulation.cable import Cable
from simulation.chance import Chance
from simulation.disk import Disk, DiskImage
from simulation.ledger import PadLedger
from skex.base import codes, limits
from skex.base.errors import LocalBug, SkexError, StoreFault
from skex.base.ids import Direction, HubName, Incarnation, KmeName, LinkId, RealmName
from skex.base.secret import Secret
from skex.pad.derived import DerivedPad
from skex.pad.kinds import Pad, PadKind
from skex.pad.table import TablePad
from skex.protocol.changes import LinkChange, LinkFrozen, MarkRaised, PeerSeen, PrefaceCounted
from skex.protocol.connection import (
    Connection,
    ConnectionEffects,
    ConnectionEvent,
    ConnectionNotice,
    Established,
)
from skex.protocol.link import Answered, Arrived, PadRefused, Send
from skex.protocol.preface_hub import HubPreface
from skex.protocol.preface_kme import KmePreface
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
    PrefaceDone,
    Received,
    RollbackNoted,
    RolledBack,
    TakeGrant,
)
from skex.protocol.taking import Taking
from skex.protocol.traffic import Tick
from skex.wire import messages
from skex.wire.preface import Marks, Parties

NO_MARKS: Final = Marks(0, 0, 0, 0, 0, 0)
LINK: Final = LinkId(bytes.fromhex("a0a1a2a3a4a5a6a7"))
PARTIES: Final = Parties(RealmName("realm"), LINK, KmeName("alice"), HubName("north"))
EPOCH: Final = 1
DIGEST: Final = bytes(range(64))
_PATHS: Final = {Direction.TO_HUB: "to-hub.pad", Direction.TO_KME: "to-kme.pad"}


@dataclass(slots=True)
class LinkStore:
    """What a store keeps of one link. ``commit`` is atomic and durable; ``fails`` lets the next fail.

    ``alarms`` stand for what a shell does with a rollback before it goes on.
    """

    marks: Marks = NO_MARKS
    frozen: str = ""
    alarms: list[RolledBack] = field(default_factory=list)
    fails: bool = False

    def commit(self, changes: Sequence[LinkChange]) -> None:
        """Apply one set; no value falls."""
        if self.fails:
            self.fails = False
            raise StoreFault(codes.PAD_IO, "commit")
        for change in changes:
            self._apply(change)

    def _apply(self, change: LinkChange) -> None:
        marks = self.marks
        match change:
            case MarkRaised(_, Direction.TO_HUB, mark):
                self.marks = replace(marks, to_hub=max(marks.to_hub, mark))
            case MarkRaised(_, _, mark):
                self.marks = replace(marks, to_kme=max(marks.to_kme, mark))
            case PrefaceCounted(_, count):
                self.marks = replace(marks, count=max(marks.count, count))
            case PeerSeen(_, to_hub, to_kme, count):
                self.marks = replace(
                    marks,
                    seen_to_hub=max(marks.seen_to_hub, to_hub),
                    seen_to_kme=max(marks.seen_to_kme, to_kme),
                    seen_count=max(marks.seen_count, count),
                )
            case LinkFrozen(_, code):
                self.frozen = code


@dataclass(frozen=True, slots=True)
class HostImage:
    """A copy of everything durable at one host."""

    disk: DiskImage
    marks: Marks
    frozen: str


class Host:
    """One end of one link. ``pads`` are open between ``boot`` and ``crash``."""

    def __init__(self, pair: LinkPair, name: str) -> None:
        self.pair = pair
        self.name = name
        self.disk = Disk(pair.chance.getrandbits(32))
        self.store = LinkStore()
        self.pads: dict[Direction, Pad] = {}
        self.sides: list[Side] = []
        self.incarnation = Incarnation(bytes(16))

    # ── life ────────────────────────────────────────────────────────────────────────────────────
    def boot(self) -> None:
        """Start: open the pads with the store's marks, as a new incarnation."""
        kind = TablePad if self.pair.kind is PadKind.TABLE else DerivedPad
        marks = self.store.marks
        for direction, mark in ((Direction.TO_HUB, marks.to_hub), (Direction.TO_KME, marks.to_kme)):
            self.pads[direction] = kind.open(self.disk, _PATHS[direction], LINK, direction, mark)
        self.incarnation = Incarnation(self.pair.chance.randbytes(16))

    def crash(self) -> None:
        """Lose everything that is not durable, and start again."""
        self._drop()
        self.disk.crash()
        self.boot()

    def image(self) -> HostImage:
        """A snapshot of the running machine's disk."""
        return HostImage(self.disk.image(), self.store.marks, self.store.frozen)

    def restore(self, image: HostImage) -> None:
        """Roll back to a snapshot, and start from it. Alarms stay: they are the test's memory."""
        self._drop()
        self.disk.restore(image.disk)
        self.store = LinkStore(image.marks, image.frozen, self.store.alarms)
        self.boot()

    def _drop(self) -> None:
        for side in self.sides:
            side.cable.disconnect()
            side.switch_off()
        self.sides.clear()
        for pad in self.pads.values():
            pad.close()

    # ── what a shell answers ────────────────────────────────────────────────────────────────────
    @property
    def marks(self) -> Marks:
        """What this end may state: of each direction the higher of the store's and the file's mark."""
        return replace(
            self.store.marks,
            to_hub=max(self.store.marks.to_hub, self.pads[Direction.TO_HUB].mark),
            to_kme=max(self.store.marks.to_kme, self.pads[Direction.TO_KME].mark),
        )

    def look_up(self, link_id: LinkId) -> LinkProfile:
        """The link, or a stand-in for one that is unknown or frozen."""
        if link_id == LINK and not self.store.frozen:
            return self.pair.profile
        return replace(self.pair.profile, key=Secret(self.pair.chance.randbytes(64)), decoy=True)

    def claim(self, side: Side) -> Owned:
        """End older connections, with every set of theirs carried out; then read the marks."""
        for other in [other for other in self.sides if other is not side and other.claimed]:
            other.feed(ConnectionLost(codes.LINK_REPLACED))
            other.run()
        side.claimed = True
        return Owned(self.marks, EPOCH, DIGEST)


class Side:
    """One connection at one host. What it learned is kept in lists for the caller to read."""

    def __init__(self, host: Host, outgoing: Direction, connection: Connection, cable: Cable) -> None:
        self.host = host
        self.outgoing = outgoing
        self.connection = connection
        self.cable = cable
        self.off = False
        self.claimed = False
        self.established: Established | None = None
        self.error: SkexError | None = None
        self.arrived: list[Arrived] = []
        self.answered: list[Answered] = []
        self.refused: list[PadRefused] = []
        self._sets: deque[Iterator[str]] = deque()
        host.sides.append(self)
        self._submit(connection.start())

    # ── what a test does ────────────────────────────────────────────────────────────────────────
    def feed(self, event: ConnectionEvent) -> None:
        """Hand the machine one event; what it asks for waits until ``step``. Nothing while it is off."""
        if self.off:
            return
        self._submit(self.connection.handle(event, self.host.pair.now))

    def send(self, message: messages.Message, token: Hashable = None) -> None:
        """Send a message. Raises ``Refused`` as the link does."""
        self.feed(Send(message, token))

    def deliver(self, count: int | None = None) -> int:
        """Let bytes from the other end arrive; returns how many did."""
        data = self.cable.take(self.outgoing.opposite, count)
        if data:
            self.feed(Received(data))
        return len(data)

    def tick(self) -> None:
        """Let the machine see the time."""
        self.feed(Tick())

    def step(self) -> str:
        """Carry out one action; its name, or nothing if none was left."""
        while self._sets:
            action = next(self._sets[0], "")
            if action:
                return action
            self._sets.popleft()
        return ""

    def run(self) -> int:
        """Carry out everything; returns how many actions that took."""
        count = 0
        while self.step():
            count += 1
        return count

    def stop(self) -> None:
        """Forget everything that waits to be carried out."""
        self._sets.clear()

    def switch_off(self) -> None:
        """The machine died: nothing happens here any more."""
        self.off = True
        self.stop()

    @property
    def open(self) -> bool:
        """Whether the preface is done and the connection stands."""
        return not self.off and self.established is not None and self.error is None

    @property
    def messages(self) -> list[messages.Message]:
        """The messages that arrived."""
        return [arrived.message for arrived in self.arrived]

    # ── the shell ───────────────────────────────────────────────────────────────────────────────
    def _submit(self, effects: ConnectionEffects) -> None:
        self._check_sealed(effects)
        if not effects.empty:
            self._sets.append(self._carry_out(effects))

    def _carry_out(self, effects: ConnectionEffects) -> Iterator[str]:
        """Persist, send, notify; each ``yield`` is a point at which the machine may die."""
        taken = None
        if effects.persist:
            try:
                taking = Taking(effects.persist, self.host.pads)
                yield "prepared"
                try:
                    self.host.store.commit(taking.changes)
                except StoreFault:
                    taking.abandon()
                    raise
                yield "committed"
                taken = taking.finish()
                yield "finished"
            except SkexError as error:
                self.feed(GrantsFailed(error))
                return
        for data in effects.send:
            self.cable.put(self.outgoing, data)
            yield "sent"
        for notice in effects.notify:
            yield from self._notified(notice)
        if taken is not None:
            self._check_granted(effects, taken)
            self.feed(taken)
            yield "taken"

    def _notified(self, notice: ConnectionNotice) -> Iterator[str]:
        match notice:
            case LookUpLink(link_id):
                self.feed(LinkFound(self.host.look_up(link_id)))
            case ClaimLink():
                self.feed(self.host.claim(self))
            case RolledBack():
                self.host.store.alarms.append(notice)
                yield "alarmed"
                self.feed(RollbackNoted())
            case Failed(error):
                self.error = error
                self.cable.disconnect()
                self.host.sides.remove(self)
            case Established():
                self.established = notice
            case Arrived():
                self.arrived.append(notice)
            case Answered():
                self.answered.append(notice)
            case PadRefused():
                self.refused.append(notice)
            case PrefaceDone():
                raise LocalBug(codes.BAD_STATE, "a connection tells the end of its preface as Established")
        yield type(notice).__name__

    # ── the ledger ──────────────────────────────────────────────────────────────────────────────
    def _check_granted(self, effects: ConnectionEffects, taken: GrantsTaken) -> None:
        take = next(item for item in effects.persist if isinstance(item, TakeGrant))
        for material in taken.materials:
            pair = self.host.pair
            pair.ledger.granted(pair.kind, LINK, material, take.kme_nonce + take.hub_nonce)

    def _check_sealed(self, effects: ConnectionEffects) -> None:
        established = next((n for n in effects.notify if isinstance(n, Established)), self.established)
        if established is None:
            return
        session = established.session
        # A KME's frame 5 leaves in the set that establishes its link.
        skipped = 1 if self.established is None and self.outgoing is Direction.TO_HUB else 0
        for record in effects.send[skipped:]:
            self.host.pair.ledger.sealed(self.host.pair.kind, record, session.kme_nonce + session.hub_nonce)


@dataclass(slots=True)
class Joined:
    """A connection and both its sides."""

    cable: Cable
    kme: Side
    hub: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both, the KME's first."""
        return self.kme, self.hub

    def side(self, outgoing: Direction) -> Side:
        """The one that seals this direction."""
        return self.kme if outgoing is Direction.TO_HUB else self.hub

    def run(self) -> None:
        """Carry out and deliver everything until nothing moves any more."""
        while any([side.run() for side in self.sides] + [side.deliver() for side in self.sides]):
            pass

    def cut(self) -> None:
        """Cut the cable; both ends learn of it and finish what they had to do."""
        self.cable.disconnect()
        for side in self.sides:
            side.feed(ConnectionLost())
            side.run()


class LinkPair:
    """A world of one link. ``units`` is the capacity of each direction of a table link."""

    def __init__(self, kind: PadKind, seed: int | str = 0, units: int = 64) -> None:
        self.kind = kind
        self.chance = Chance(seed)
        self.ledger = PadLedger()
        self.now = 0.0
        capacity = units if kind is PadKind.TABLE else limits.PAD_POSITION_MAX
        key = Secret(self.chance.randbytes(64))
        self.profile = LinkProfile(PARTIES, key, kind, capacity, capacity)
        self.kme, self.hub = Host(self, "kme"), Host(self, "hub")
        for direction in Direction:
            size = units * limits.TABLE_UNIT_BYTES if kind is PadKind.TABLE else 64
            self._enrol(direction, self.chance.randbytes(size))
        self.kme.boot()
        self.hub.boot()

    def _enrol(self, direction: Direction, secret: bytes) -> None:
        for host in (self.kme, self.hub):
            path = _PATHS[direction]
            if self.kind is PadKind.TABLE:
                TablePad.create(host.disk, path, LINK, direction, [secret])
            else:
                DerivedPad.create(host.disk, path, LINK, direction, Secret(secret))

    def dial(self, kme: Host | None = None, hub: Host | None = None) -> Joined:
        """Open a connection; nothing is delivered yet."""
        kme, hub, cable = kme or self.kme, hub or self.hub, Cable()
        listening = Connection(HubPreface(self.chance.randbytes(32), self.now))
        preface = KmePreface(self.profile, self.chance.randbytes(32), kme.incarnation, self.now)
        return Joined(
            cable,
            Side(kme, Direction.TO_HUB, Connection(preface), cable),
            Side(hub, Direction.TO_KME, listening, cable),
        )

    def connect(self, kme: Host | None = None, hub: Host | None = None) -> Joined:
        """Open a connection and run it until it is quiet."""
        joined = self.dial(kme, hub)
        joined.run()
        return joined

    def clone(self, image: HostImage, name: str) -> Host:
        """A further host that starts from another one's image."""
        host = Host(self, name)
        host.restore(image)
        return host

    @property
    def hosts(self) -> tuple[Host, Host]:
        """The two original ends."""
        return self.kme, self.hub
