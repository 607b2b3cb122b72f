"""Machines of production code on which every byte is written down, and can be replayed from paper.

The smallest shell there is: no crashes, no chance. Nonces, incarnations and everything else that a real
machine would draw are handed in by the caller, so the same values give the same bytes. The test vectors
of the specification are made with it, and checked with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from simulation.disk import Disk
from simulation.memory import NO_MARKS, LinkMemory
from skex.base import codes, limits
from skex.base.errors import LocalBug, SkexError
from skex.base.ids import BatchId, Coordinate, Direction, HubName, Incarnation, KmeName, LinkId, SaeId
from skex.base.secret import Secret
from skex.pad.derived import DerivedPad
from skex.pad.kinds import Pad, PadKind
from skex.pad.table import TablePad
from skex.protocol import hub, kme, peer, traffic
from skex.protocol.changes import BatchSent, Change, LinkChange
from skex.protocol.connection import (
    Connection,
    ConnectionEffects,
    ConnectionEvent,
    ConnectionNotice,
    Established,
)
from skex.protocol.envelopes import Outgoing
from skex.protocol.link import Answered, Arrived, Send
from skex.protocol.preface_hub import HubPreface
from skex.protocol.preface_kme import KmePreface
from skex.protocol.quota import Quota, Rate
from skex.protocol.realm import HeldRealm
from skex.protocol.receiver import Searched, SearchNeeded
from skex.protocol.reconstruct import reconstruct
from skex.protocol.session import (
    ClaimLink,
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
)
from skex.protocol.taking import Taking
from skex.wire import messages
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose
from skex.wire.preface import Marks, Parties
from skex.wire.realm import HubAttributes, Realm

Carry = Callable[[str, Direction, bytes], None]
"""What a node does with bytes that it sends: the connection's name, the direction, the bytes."""


@dataclass(frozen=True, slots=True)
class LinkSetup:
    """One link as enrolment left it: for each direction a seed, or the bytes of a table."""

    parties: Parties
    key: bytes
    kind: PadKind
    material: Mapping[Direction, bytes]

    def profile(self) -> LinkProfile:
        """What the connection machines get."""
        to_hub, to_kme = (self._capacity(direction) for direction in Direction)
        return LinkProfile(self.parties, Secret(self.key), self.kind, to_hub, to_kme)

    def _capacity(self, direction: Direction) -> int:
        if self.kind is PadKind.DERIVED:
            return limits.PAD_POSITION_MAX
        return len(self.material[direction]) // limits.TABLE_UNIT_BYTES


class End:
    """One end of one connection: persists, then sends, then notifies."""

    def __init__(self, node: Node, name: str, outgoing: Direction, machine: Connection) -> None:
        self.node = node
        self.name = name
        self.outgoing = outgoing
        self.machine = machine
        self.pads: dict[Direction, Pad] = {}
        self.session: Session | None = None
        self.rolled_back: RolledBack | None = None
        self.error: SkexError | None = None

    def start(self) -> None:
        """The dialling end speaks first."""
        self._carry_out(self.machine.start())

    def handle(self, event: ConnectionEvent) -> None:
        """Hand the machine one event and carry out what follows."""
        self._carry_out(self.machine.handle(event, self.node.now))

    def receive(self, data: bytes) -> None:
        """Bytes arrived."""
        self.handle(Received(data))

    def send(self, message: messages.Message, token: Hashable = None) -> None:
        """Send a message. Raises ``Refused`` as the link does."""
        self.handle(Send(message, token))

    def _carry_out(self, effects: ConnectionEffects) -> None:
        waiting = deque([effects])
        while waiting:
            effects = waiting.popleft()
            taken = self._persist(effects)
            if isinstance(taken, GrantsFailed):
                waiting.append(self.machine.handle(taken, self.node.now))
                continue
            for data in effects.send:
                self.node.carry(self.name, self.outgoing, data)
            for notice in effects.notify:
                self._notice(notice)
            if taken is not None:
                waiting.append(self.machine.handle(taken, self.node.now))

    def _persist(self, effects: ConnectionEffects) -> GrantsTaken | GrantsFailed | None:
        if not effects.persist:
            return None
        try:
            taking = Taking(effects.persist, self.pads)
        except SkexError as error:
            return GrantsFailed(error)
        self.node.commit(taking.changes)
        return taking.finish()

    def _notice(self, notice: ConnectionNotice) -> None:
        match notice:
            case LookUpLink(link_id):
                self.handle(LinkFound(self.node.look_up(link_id)))
            case ClaimLink(link_id):
                self.handle(self.node.claim(self, link_id))
            case RolledBack():
                self.rolled_back = notice
                self.handle(RollbackNoted())
            case Established(session):
                self.session = session
                self.node.on_established(self, session)
            case Failed(error):
                self.error = error
            case _:
                self.node.on_notice(self, notice)


class Node:
    """One machine with its links. ``heard`` collects what reaches the layer above."""

    def __init__(self, name: str, carry: Carry) -> None:
        self.name = name
        self.carry = carry
        self.now = 0.0
        self.incarnation = Incarnation(bytes(16))
        self.realm = (0, bytes(64))
        self.decoy = bytes(64)
        self.ends: dict[str, End] = {}
        self.heard: list[object] = []
        self.changes: list[Change] = []
        self._disk = Disk(0)
        self._links: dict[LinkId, LinkSetup] = {}
        self._memory = LinkMemory()

    def enrol(self, setup: LinkSetup, marks: Marks = NO_MARKS) -> None:
        """Import a kit; ``marks`` is what the store says of the link's past."""
        link_id = setup.parties.link_id
        self._links[link_id] = setup
        self._memory.marks[link_id] = marks
        for direction, material in setup.material.items():
            path = _path(link_id, direction)
            if setup.kind is PadKind.TABLE:
                TablePad.create(self._disk, path, link_id, direction, [material])
            else:
                DerivedPad.create(self._disk, path, link_id, direction, Secret(material))

    def marks(self, link_id: LinkId) -> Marks:
        """The six values of a link that are durable now."""
        return self._memory.marks[link_id]

    # ── connections ─────────────────────────────────────────────────────────────────────────────
    def dial(self, name: str, link_id: LinkId, nonce: bytes) -> End:
        """Open the connection ``name``; its first bytes leave at once."""
        profile = self._links[link_id].profile()
        machine = Connection(KmePreface(profile, nonce, self.incarnation, self.now))
        end = self.ends[name] = End(self, name, Direction.TO_HUB, machine)
        end.start()
        return end

    def accept(self, name: str, nonce: bytes) -> End:
        """The connection ``name`` came in."""
        end = End(self, name, Direction.TO_KME, Connection(HubPreface(nonce, self.now)))
        self.ends[name] = end
        return end

    # ── what a shell answers ────────────────────────────────────────────────────────────────────
    def commit(self, changes: Sequence[Change]) -> None:
        """Make one set durable."""
        self.changes.extend(changes)
        for change in changes:
            if isinstance(change, LinkChange):
                self._memory.apply(change)

    def look_up(self, link_id: LinkId) -> LinkProfile:
        """The link, or a stand-in for one that is unknown."""
        if link_id in self._links:
            return self._links[link_id].profile()
        nobody = Parties(next(iter(self._links.values())).parties.realm, link_id, KmeName("a"), HubName("a"))
        return LinkProfile(nobody, Secret(self.decoy), PadKind.DERIVED, 1, 1, decoy=True)

    def claim(self, end: End, link_id: LinkId) -> Owned:
        """Open the pads and state the marks."""
        marks = self.marks(link_id)
        for direction, mark in ((Direction.TO_HUB, marks.to_hub), (Direction.TO_KME, marks.to_kme)):
            opener = TablePad if self._links[link_id].kind is PadKind.TABLE else DerivedPad
            path = _path(link_id, direction)
            end.pads[direction] = opener.open(self._disk, path, link_id, direction, mark)
        epoch, digest = self.realm
        return Owned(marks, epoch, digest)

    def on_established(self, end: End, session: Session) -> None:
        """The preface is done."""

    def on_notice(self, end: End, notice: ConnectionNotice) -> None:
        """A message or an answer came, or pad was refused."""
        del end
        self.heard.append(notice)


def _path(link_id: LinkId, direction: Direction) -> str:
    return f"{link_id.hex()}-{direction.name.lower()}"


# ── hubs ────────────────────────────────────────────────────────────────────────────────────────
_PLENTY: Final = Quota(Rate(1e9, 1e9), Rate(1e9, 1e9))


class HubNode(Node):
    """A hub that lets every enrolled KME establish with every other."""

    def __init__(self, name: str, carry: Carry, realm: Realm) -> None:
        super().__init__(name, carry)
        self.realm = (realm.epoch, realm.digest())
        self.relay = hub.HubRelay(self, self, realm.to_bytes())
        self._by_name: dict[KmeName, End] = {}

    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> bool:
        """As ``RelayPolicy`` says."""
        known = {link.parties.kme for link in self._links.values()}
        return sender in known and receiver in known and purpose in Purpose

    def pair_quota(self, sender: KmeName, receiver: KmeName, stream: hub.Stream) -> Quota:
        """As ``RelayPolicy`` says."""
        del sender, receiver, stream
        return _PLENTY

    def total_quota(self, receiver: KmeName, stream: hub.Stream) -> Quota:
        """As ``RelayPolicy`` says."""
        del receiver, stream
        return _PLENTY

    def remaining(self, kme_name: KmeName) -> int:
        """As ``RelayLinks`` says."""
        return self._by_name[kme_name].pads[Direction.TO_KME].remaining_bytes

    def on_established(self, end: End, session: Session) -> None:
        """A KME is connected."""
        name = session.profile.parties.kme
        self._by_name[name] = end
        self.do(traffic.KmeUp(name, session.incarnation))

    def on_notice(self, end: End, notice: ConnectionNotice) -> None:
        """A KME said something."""
        name = _session(end).profile.parties.kme
        if isinstance(notice, Arrived):
            self.do(traffic.FromKme(name, notice.ordinal, notice.message))
        elif isinstance(notice, Answered) and notice.refusal is not None:
            self.do(traffic.AnsweredByKme(name, notice.token, notice.refusal))

    def do(self, event: hub.HubEvent) -> None:
        """Hand the relay one event and carry out what follows."""
        effects = self.relay.handle(event, self.now)
        for send in effects.send:
            self._by_name[send.kme].send(send.message, send.token)
        self.heard.extend(effects.notify)


# ── KMEs ────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class KmeSetup:
    """A KME in one start: who it is, what it states in claims, where envelopes' random bytes come from."""

    identity: peer.Identity
    realm: Realm
    randomness: Randomness
    enrolment: Enrolment
    randoms: Iterator[bytes] = field(repr=False)


class KmeNode(Node):
    """A KME whose policies allow everything."""

    def __init__(self, carry: Carry, setup: KmeSetup, links: Sequence[LinkSetup]) -> None:
        super().__init__(setup.identity.name, carry)
        self.incarnation = setup.identity.incarnation
        self._setup = setup
        for link in links:
            self.enrol(link)
        ports = kme.Ports(claims=self, commits=self, admission=self, assign_policy=self)
        held = kme.KmeState(
            HeldRealm(setup.realm.to_bytes(), 0), {link.parties.hub: link.parties.link_id for link in links}
        )
        self.core = kme.KmeCore(setup.identity, ports, floor=2, held=held, now=self.now)
        self._carry_out(self.core.start(self.now))

    # ── ports ───────────────────────────────────────────────────────────────────────────────────
    def own_claim(self, hubs: Sequence[Coordinate]) -> Claim:
        """As ``OwnClaims`` says: derived links are computational."""
        derived = {link.parties.hub for link in self._links.values() if link.kind is PadKind.DERIVED}
        weak = {one.coordinate for one in self._setup.realm.hubs if one.name in derived}
        computational = tuple(one for one in hubs if one in weak)
        return Claim(computational, self._setup.randomness, self._setup.enrolment)

    def is_committed(self, peer_name: KmeName, batch: BatchId) -> bool:
        """As ``Commits`` says."""
        sent = (change.batch for change in self.changes if isinstance(change, BatchSent))
        return any(one.peer == peer_name and one.batch == batch for one in sent)

    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> bool:
        """As ``Admission`` says."""
        return sender != receiver and purpose in Purpose

    def accepts_threshold(self, sender: KmeName, threshold: int) -> bool:
        """As ``Admission`` says."""
        return bool(sender) and threshold >= 2

    def accepts_hubs(self, sender: KmeName, hubs: Sequence[HubAttributes], threshold: int) -> bool:
        """As ``Admission`` says."""
        return bool(sender) and threshold <= len(hubs)

    def has_room(self, sender: KmeName, context: CompactContext) -> bool:
        """As ``Admission`` says."""
        del sender, context
        return True

    def may_assign(
        self, sender: KmeName, master: SaeId, slaves: tuple[SaeId, ...], purpose: str, lifetime: int
    ) -> bool:
        """As ``AssignPolicy`` says."""
        return bool(sender and master and slaves and purpose and lifetime)

    # ── links ───────────────────────────────────────────────────────────────────────────────────
    def on_established(self, end: End, session: Session) -> None:
        """A hub is connected."""
        name = session.profile.parties.hub
        rolled_back = end.rolled_back is not None
        self.do(kme.LinkProved(name, rolled_back, session.hub_epoch, session.hub_realm_digest))

    def on_notice(self, end: End, notice: ConnectionNotice) -> None:
        """A hub said something."""
        name = _session(end).profile.parties.hub
        if isinstance(notice, Arrived):
            self.do(traffic.FromHub(name, notice.ordinal, notice.message))
        elif isinstance(notice, Answered):
            self.do(traffic.AnsweredByHub(name, notice.token, notice.refusal))

    def do(self, event: kme.KmeEvent) -> None:
        """Hand the core one event and carry out what follows."""
        self._carry_out(self.core.handle(event, self.now))

    def _carry_out(self, effects: kme.KmeEffects) -> None:
        self.commit(effects.persist)
        for send in effects.send:
            out = send.seal(next(self._setup.randoms)) if isinstance(send, Outgoing) else send
            self._end_of(out.hub).send(out.message, out.token)
        for notice in effects.notify:
            self.heard.append(notice)
            if isinstance(notice, SearchNeeded):
                outcome = reconstruct(notice.search)
                notice.search.wipe()
                self.do(Searched(notice.number, outcome))

    def _end_of(self, name: HubName) -> End:
        ends = (end for end in self.ends.values() if end.session is not None)
        return next(end for end in ends if _session(end).profile.parties.hub == name)


def _session(end: End) -> Session:
    if end.session is None:
        raise LocalBug(codes.BAD_STATE, "a message before the preface was done")
    return end.session


# ── wires ───────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Carried:
    """One frame or record that crossed a connection."""

    connection: str
    direction: Direction
    data: bytes


class Wiring:
    """Connections between nodes. What is sent arrives whole, in the order in which it was sent."""

    def __init__(self) -> None:
        self._ways: dict[tuple[str, Direction], Node] = {}
        self._waiting: deque[Carried] = deque()

    def join(self, name: str, dialling: Node, listening: Node) -> None:
        """Lay the connection ``name``."""
        self._ways[name, Direction.TO_HUB] = listening
        self._ways[name, Direction.TO_KME] = dialling

    def carry(self, name: str, direction: Direction, data: bytes) -> None:
        """A node sends."""
        self._waiting.append(Carried(name, direction, data))

    def run(self) -> Iterator[Carried]:
        """Deliver everything that waits and what follows from it, one piece at a time."""
        while self._waiting:
            carried = self._waiting.popleft()
            yield carried
            node = self._ways[carried.connection, carried.direction]
            node.ends[carried.connection].receive(carried.data)
