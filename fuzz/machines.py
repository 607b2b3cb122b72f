"""Every protocol machine as a fuzzing target: the input is a course of events, in any order and spoiled
in any way, and what must always hold is checked on the way.

A refusal of the error tree is an answer; a ``LocalBug``, any other exception, or a broken promise is a
finding. Real ends are used throughout: what the network can do the input does, and what only the
holder of a link's material can do, it does as that holder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

from fuzz.program import Program
from simulation.chance import Chance
from simulation.exchange import ALICE, BOB, Exchange, hub_name, make_realm
from simulation.link_pair import Joined, LinkPair, Side
from simulation.machines import Enrolled, SimKme
from skex.base import limits
from skex.base.errors import LocalBug, PeerFault, Refused, SkexError
from skex.base.ids import Direction, HubName, Incarnation, KmeName, LinkId
from skex.base.secret import Secret
from skex.crypto import mac
from skex.pad.kinds import PadKind
from skex.protocol import hub, kme, traffic
from skex.protocol.changes import RealmAccepted
from skex.protocol.connection import Connection
from skex.protocol.envelopes import Channel
from skex.protocol.peer import PeerEvent
from skex.protocol.preface_hub import HubPreface
from skex.protocol.preface_kme import KmePreface
from skex.protocol.quota import Buckets, Quota, Rate
from skex.protocol.relayed import RelayedBatches
from skex.protocol.session import LinkFound, LookUpLink, Received
from skex.wire import messages, peer
from skex.wire.context import Purpose
from skex.wire.record import RecordHeader
from tests.unit.protocol import peer_support as pair

STEPS: Final = 60
"""Events of one input: more only make it slower."""
LIARS: Final = 2
"""Hubs that lie in an exchange of five with a threshold of three; they are the first ones."""
_ROOT: Final = (1).to_bytes(64, "big")
"""The first root of a world of peer messages."""


class BrokenPromiseError(AssertionError):
    """A machine did what it must never do."""


def _require(holds: object, promise: str) -> None:
    if not holds:
        raise BrokenPromiseError(promise)


def _end_is_no_bug(error: SkexError | None) -> None:
    if isinstance(error, LocalBug):
        raise error


def _says_nothing(told: Iterable[object], secrets: Iterable[bytes]) -> None:
    """No secret shows in what the layer above is told, however it is logged."""
    text = " ".join(map(repr, told))
    for secret in secrets:
        shown = secret.hex() in text or repr(secret)[2:-1] in text
        _require(not shown, "a notice shows a secret")


# ── links ───────────────────────────────────────────────────────────────────────────────────────
def _spoil(program: Program, joined: Joined) -> None:
    way = program.choose(tuple(Direction))
    waiting = joined.cable.waiting(way)
    match program.byte() % 4:
        case 0 if waiting:
            joined.cable.corrupt(way, program.number() % waiting, program.byte() or 1)
        case 1:
            joined.cable.take(way, program.number())
        case 2 if joined.cable.sent[way]:
            joined.cable.insert(way, program.choose(joined.cable.sent[way]), 0)
        case _:
            joined.cable.insert(way, program.blob(), program.number() % (waiting + 1))


def _link_step(program: Program, world: LinkPair, connections: list[Joined]) -> None:
    joined = program.choose(connections)
    side = program.choose(joined.sides)
    match program.byte() % 8:
        case 0:
            side.deliver(program.number())
        case 1:
            side.step()
        case 2:
            joined.run()
        case 3:
            _spoil(program, joined)
        case 4:
            with suppress(Refused):
                side.send(_message_of(side, program), program.byte())
        case 5:
            world.now += program.byte()
            side.tick()
        case 6 if len(connections) < 3:
            connections.append(world.dial())
        case 6:
            side.host.crash()
        case _:
            joined.cut()


def _message_of(side: Side, program: Program) -> messages.Message:
    body = program.blob() or bytes(program.number() % limits.PEER_ENVELOPE_BYTES + 1)
    if side.outgoing is Direction.TO_HUB:
        return messages.Peer(KmeName("bob"), body)
    return messages.RealmFile(body)


def link(kind: PadKind, data: bytes) -> bytes:
    """Two honest ends and an attacker between them: pads are never used twice, nobody breaks."""
    program = Program(data)
    world = LinkPair(kind, 0, units=8)
    connections = [world.dial()]
    sides: dict[int, Side] = {}
    for _ in range(STEPS):
        if not program.more:
            break
        _link_step(program, world, connections)
        sides.update((id(side), side) for joined in connections for side in joined.sides)
    for side in sides.values():
        _end_is_no_bug(side.error)
    return data


def preface_of_hub(data: bytes) -> bytes:
    """Bytes of a stranger: whatever they are, nothing is claimed and little is kept."""
    world = LinkPair(PadKind.DERIVED, 0)
    machine = Connection(HubPreface(bytes(32), 0.0))
    return _stranger(machine, data, lambda link_id: LinkFound(world.hub.look_up(link_id)))


def preface_of_kme(data: bytes) -> bytes:
    """Bytes of whoever sits at a hub's address."""
    world = LinkPair(PadKind.DERIVED, 0)
    machine = Connection(KmePreface(world.profile, bytes(32), world.kme.incarnation, 0.0))
    machine.start()
    return _stranger(machine, data, lambda _: LinkFound(world.profile))


def _stranger(machine: Connection, data: bytes, found: Callable[..., LinkFound]) -> bytes:
    program = Program(data)
    sent = 0
    while program.more:
        chunk = program.blob()
        effects = machine.handle(Received(chunk), 0.0)
        for notice in effects.notify:
            if isinstance(notice, LookUpLink):
                answer = machine.handle(found(notice.link_id), 0.0)
                sent += sum(map(len, answer.send))
                _require(not answer.persist, "a stranger makes a hub write")
        sent += sum(map(len, effects.send))
        _require(not effects.persist, "a stranger makes an end write")
    _require(machine.link is None, "a stranger has a link")
    _require(sent <= limits.FRAME_BYTES, "a stranger is told more than one frame")
    return data


def hostile_end(kind: PadKind, outgoing: Direction, data: bytes) -> bytes:
    """An enrolled end that seals whatever it likes; the other end is ours."""
    program = Program(data)
    world = LinkPair(kind, 0, units=40)
    joined = world.connect()
    hostile, ours = joined.side(outgoing), joined.side(outgoing.opposite)
    established = hostile.established
    _require(established, "two honest ends do not meet")
    material = established.session.send if established else None
    position = 16
    while program.more and material is not None and ours.open:
        body = program.blob()
        if len(body) + limits.RECORD_TAG_BYTES > material.remaining:
            break
        header = RecordHeader(outgoing, len(body), world.profile.parties.link_id, material.start, position)
        pad = material.take(position, limits.RECORD_TAG_BYTES + len(body))
        position += len(pad)
        covered = bytes(
            left ^ right for left, right in zip(body, pad[limits.RECORD_TAG_BYTES :], strict=True)
        )
        sealed = header.pack() + covered
        tag = mac.record_tag(material.r, pad[: limits.RECORD_TAG_BYTES], sealed)
        ours.feed(Received(sealed + tag))
        ours.run()
    _end_is_no_bug(ours.error)
    return data


# ── the hub ─────────────────────────────────────────────────────────────────────────────────────
_NAMES: Final = tuple(map(KmeName, ("alice", "bob", "carol")))


class _Operator:
    """Lets everybody establish with everybody but Carol, within small quotas."""

    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> bool:
        return "carol" not in (sender, receiver) and purpose in Purpose

    def pair_quota(self, sender: KmeName, receiver: KmeName, stream: hub.Stream) -> Quota:
        del sender, receiver, stream
        return Quota(Rate(100.0, 2000.0), Rate(1.0, 5.0))

    total_quota_of: Final = Quota(Rate(150.0, 3000.0), Rate(2.0, 8.0))

    def total_quota(self, receiver: KmeName, stream: hub.Stream) -> Quota:
        del receiver, stream
        return self.total_quota_of

    def remaining(self, name: KmeName) -> int:
        return 200_000 if name == "bob" else 140_000


def relay(data: bytes) -> bytes:
    """A hub's relay between KMEs that say anything: what leaves it names who really sent it."""
    program, operator, now = Program(data), _Operator(), 0.0
    buckets, relayed = Buckets(4), RelayedBatches(8)
    machine = hub.HubRelay(operator, operator, make_realm(3, 2).to_bytes(), buckets=buckets, relayed=relayed)
    for ordinal in range(STEPS):
        if not program.more:
            break
        name, step = program.choose(_NAMES), program.byte() % 6
        up = name in machine.connected
        event: hub.HubEvent = traffic.Tick()
        if step == 0:
            event = traffic.KmeUp(name, Incarnation(bytes([program.byte()]) * 16))
        elif step == 1 and up:
            event = traffic.KmeDown(name)
        elif step == 2 and up:
            token = hub.RelayToken(program.choose(_NAMES), program.byte() % 4, program.byte() % STEPS)
            event = traffic.AnsweredByKme(name, token, program.byte())
        elif step == 3:
            now += program.byte()
        elif up:
            message = _relayable(program)
            if message is None:
                continue
            event = traffic.FromKme(name, ordinal, message)
        effects = machine.handle(event, now)
        _require(not effects.persist, "a hub keeps something")
        for send in effects.send:
            _require(send.kme in machine.connected, "a hub sends to nobody")
            if isinstance(send.message, messages.Shared | messages.Forwarded):
                _require(send.message.sender == name != send.kme, "a hub relays under another name")
        _require(len(buckets) <= 4, "quotas fill the memory")
    return data


def _relayable(program: Program) -> messages.Message | None:
    try:
        found = messages.decode_message(program.blob(), Direction.TO_HUB)
    except PeerFault:
        return None
    allowed = messages.Share | messages.Confirm | messages.Peer | messages.GetRealm
    return found if isinstance(found, allowed) else None


# ── senders and receivers ───────────────────────────────────────────────────────────────────────
def exchange(data: bytes) -> bytes:
    """A sender, a receiver and five hubs, two of which say anything: both ends agree, or hold nothing."""
    program = Program(data)
    world = Exchange(5, 3)
    waiting: list[tuple[KmeName, object]] = []
    for _ in range(STEPS):
        if not program.more:
            break
        _exchange_step(program, world, waiting)
        waiting += world.lose()
    received = {one.batch.batch: one.batch for one in world.received.received}
    _require(len(received) == len(world.received.received), "a batch was accepted twice")
    for sent in world.sent.sent:
        other = received.get(sent.batch.batch)
        _require(other is not None and other.keys == sent.batch.keys, "the ends disagree")
    secrets = [one.keys.expose() for one in received.values()]
    _says_nothing([*world.told_alice, *world.told_bob], secrets)
    return data


def _exchange_step(program: Program, world: Exchange, waiting: list[tuple[KmeName, object]]) -> None:
    step = program.byte() % 8
    if step == 0:
        world.establish(keys=1 + program.byte() % 4)
    elif step <= 4:
        if waiting:
            _exchange_deliver(program, world, waiting, step)
    elif step == 5:
        _said_by_a_liar(world, hub_name(1 + program.byte() % LIARS), program.blob())
    elif step == 6:
        world.advance(program.byte() / 8)
    else:
        end = program.choose((ALICE, BOB))
        if program.byte() % 2:
            world.start_alice() if end == ALICE else world.start_bob()
            world.link(*(hub_name(number) for number in range(1, 6)), only=end)
        else:
            name = hub_name(1 + program.byte() % 5)
            world.cut(name, only=end)
            world.link(name, only=end)


def _exchange_deliver(
    program: Program, world: Exchange, waiting: list[tuple[KmeName, object]], step: int
) -> None:
    """Deliver something that waits: as it is (and perhaps again later), spoiled by a liar, or not at all."""
    at = program.byte() % len(waiting)
    whom, event = waiting[at]
    if step != 4 or not program.byte() % 2:
        waiting.pop(at)
    if step == 3:
        if isinstance(event, traffic.FromHub):
            body = bytearray(messages.encode_message(event.message))
            body[program.number() % len(body)] ^= program.byte() or 1
            _said_by_a_liar(world, hub_name(1 + program.byte() % LIARS), bytes(body))
        return
    world.tell(whom, event)  # type: ignore[arg-type]  # it waited for this end


def _said_by_a_liar(world: Exchange, liar: HubName, body: bytes) -> None:
    try:
        found = messages.decode_message(body, Direction.TO_KME)
    except PeerFault:
        return
    if isinstance(found, messages.Shared):
        world.bring(liar, found)
    elif isinstance(found, messages.Confirmed):
        world.tell(ALICE, traffic.FromHub(liar, 0, found))


# ── peer messages ───────────────────────────────────────────────────────────────────────────────
def peer_messages(data: bytes) -> bytes:
    """Two KMEs that know each other; hubs repeat, keep back and make up letters."""
    program = Program(data)
    world = pair.World(pair.HUBS[:3]).ready()
    letters: list[pair.Letter] = []
    for number in range(STEPS):
        if not program.more:
            break
        _peer_step(program, world, letters, number)
        letters += world.lose_all()
    for end in (world.alice, world.bob):
        _says_nothing(end.notices, [_ROOT])
    keys = [one for change in world.alice.store.delivered for one in change.keys]
    indexes = [(one.batch, index) for one in keys for index in one.indexes]
    _require(len(indexes) == len(set(indexes)), "a key was delivered twice")
    return data


def _peer_step(program: Program, world: pair.World, letters: list[pair.Letter], number: int) -> None:
    step = program.byte() % 7
    if step == 0:
        keys = (pair.key_range(program.byte() % 8, 1 + program.byte() % 3),)
        _ask(world.alice, pair.asking(number, keys))
    elif step == 1:
        keys = (pair.key_range(program.byte() % 8, 1 + program.byte() % 3),)
        _ask(world.alice, pair.delivering(program.byte() % STEPS, keys))
    elif step == 2 and letters:
        world.carry(program.choose(letters))
    elif step == 3 and letters:
        letter = program.choose(letters)
        envelope = bytearray(letter.envelope)
        envelope[program.number() % len(envelope)] ^= program.byte() or 1
        _forwarded(program, world, bytes(envelope))
    elif step == 4:
        _forwarded(program, world, program.blob())
    elif step == 5:
        world.pass_time(program.byte() / 4)
    else:
        world.restart_alice() if program.byte() % 2 else world.restart_bob()


def _ask(end: pair.End, event: PeerEvent) -> None:
    """What the layer above may not ask is answered as its bug, and changes nothing."""
    with suppress(Refused, LocalBug):
        end.do(event)


def _forwarded(program: Program, world: pair.World, envelope: bytes) -> None:
    end = program.choose((world.alice, world.bob))
    message = messages.Forwarded(end.peer, envelope)
    end.do(traffic.FromHub(pair.HUBS[0], 1, message))


def hostile_peer(data: bytes) -> bytes:
    """An enrolled peer, with the right root, that says anything."""
    program = Program(data)
    world = pair.World(pair.HUBS[:3])
    root = world.make_root()
    world.carry_all()
    world.establish(8)
    for _ in range(STEPS):
        if not program.more:
            break
        end, way = program.choose(
            ((world.bob, peer.PeerDirection.FROM_SENDER), (world.alice, peer.PeerDirection.FROM_RECEIVER))
        )
        channel = Channel(pair.REALM, pair.ALICE, pair.BOB, root, way)
        sealed = channel.seal(Secret(_ROOT), world.random(), program.blob())
        end.do(traffic.FromHub(pair.HUBS[0], 1, messages.Forwarded(end.peer, sealed.to_bytes())))
        world.lose_all()
    return data


# ── a whole KME ─────────────────────────────────────────────────────────────────────────────────
def kme_core(data: bytes) -> bytes:
    """One KME and its hubs, which say whatever the wire can say: shares, confirms, realm files."""
    program = Program(data)
    time = [1000.0]
    realm = make_realm(5, 3)
    machine = SimKme(BOB, realm, Chance(0), lambda: time[0])
    machine.commit((RealmAccepted(1, realm.to_bytes()),))
    for number in range(1, 6):
        link_id, material = LinkId(bytes([number]) * 8), dict.fromkeys(Direction, bytes(range(64)))
        machine.enrol(Enrolled(link_id, BOB, hub_name(number), PadKind.DERIVED, bytes(64), material))
    machine.start()
    for number in range(1, 6):
        machine.do(kme.LinkProved(hub_name(number), rolled_back=False, epoch=1, realm_digest=realm.digest()))
    for ordinal in range(STEPS):
        if not program.more:
            break
        name = hub_name(1 + program.byte() % 5)
        step = program.byte() % 4
        if step == 0:
            time[0] += program.byte()
            machine.do(traffic.Tick())
        elif step == 1:
            machine.do(traffic.HubDown(name))
            machine.do(kme.LinkProved(name, program.byte() % 2 == 1, program.byte(), realm.digest()))
        else:
            _hub_says(machine, name, ordinal, program.blob())
    return data


def _hub_says(machine: SimKme, name: HubName, ordinal: int, body: bytes) -> None:
    try:
        found = messages.decode_message(body, Direction.TO_KME)
    except PeerFault:
        return
    ends_here = messages.Grant | messages.Want | messages.Moved | messages.Done | messages.Refuse
    if not isinstance(found, ends_here | messages.Unknown):
        machine.do(traffic.FromHub(name, ordinal, found))


MACHINES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "link over a table pad": partial(link, PadKind.TABLE),
    "link over a derived pad": partial(link, PadKind.DERIVED),
    "preface of a hub": preface_of_hub,
    "preface of a KME": preface_of_kme,
    "link with a hostile KME": partial(hostile_end, PadKind.TABLE, Direction.TO_HUB),
    "link with a hostile hub": partial(hostile_end, PadKind.TABLE, Direction.TO_KME),
    "derived link with a hostile KME": partial(hostile_end, PadKind.DERIVED, Direction.TO_HUB),
    "relay of a hub": relay,
    "exchange of batches": exchange,
    "peer messages": peer_messages,
    "hostile peer": hostile_peer,
    "KME": kme_core,
}
