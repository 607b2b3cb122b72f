"""Two or more KMEs with their key services on one event loop, joined by relays without links.

For tests of everything above links: messages are encoded and read again, hubs relay as in production,
stores are in memory. Hubs can be taken down and KMEs restarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulation.chance import Chance
from simulation.memory import KmeMemory
from simulation.world import make_realm
from skex.base import codes
from skex.base.errors import Refused
from skex.base.ids import Coordinate, Direction, HubName, Incarnation, KmeName, LinkId, SaeId
from skex.base.secret import Secret
from skex.keys.api import KeyClaim, Requirements
from skex.keys.claims import claim_of
from skex.keys.engine import Cancellable, Engine
from skex.keys.held import HeldKeys
from skex.keys.reserve import Reserve
from skex.keys.service import Keys, KeySettings
from skex.protocol import assignee, hub, kme, peer, traffic
from skex.protocol.changes import Change, RealmAccepted, Role
from skex.protocol.quota import Quota, Rate
from skex.protocol.reconstruct import Outcome, Search, reconstruct
from skex.wire import messages
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose
from skex.wire.peer import KeyRange

_PLENTY = Quota(Rate(1e9, 1e9), Rate(1e9, 1e9))


class NetHub:
    """A hub's relay; ``up`` says whether anybody reaches it."""

    def __init__(self, name: HubName, net: KeyNet) -> None:
        self.name = name
        self.net = net
        self.up = True
        self.relay = hub.HubRelay(self, self, net.realm.to_bytes())
        self._ordinals: dict[KmeName, int] = {}
        self._tokens: dict[tuple[KmeName, int], Hashable] = {}

    def may_establish(self, sender: KmeName, receiver_name: KmeName, purpose: Purpose) -> bool:
        """Everybody may."""
        return sender in self.net.ends and receiver_name in self.net.ends and purpose in Purpose

    def pair_quota(self, sender: KmeName, receiver_name: KmeName, stream: hub.Stream) -> Quota:
        """Plenty."""
        del sender, receiver_name, stream
        return _PLENTY

    def total_quota(self, receiver_name: KmeName, stream: hub.Stream) -> Quota:
        """Plenty."""
        del receiver_name, stream
        return _PLENTY

    def remaining(self, name: KmeName) -> int:
        """Plenty."""
        del name
        return 1 << 40

    def handle(self, event: hub.HubEvent) -> None:
        """Relay."""
        for send in self.relay.handle(event, self.net.now()).send:
            end = self.net.ends[send.kme]
            number = self._ordinals[send.kme] = self._ordinals.get(send.kme, 0) + 1
            self._tokens[send.kme, number] = send.token
            body = messages.encode_message(send.message)
            message = messages.decode_message(body, Direction.TO_KME)
            end.later(end.from_hub, self.name, number, message)

    def from_kme(self, name: KmeName, ordinal: int, message: messages.Message) -> None:
        """A KME said something."""
        if not self.up:
            return
        if isinstance(message, messages.Refuse):
            token = self._tokens.get((name, message.request))
            if token is not None:
                self.handle(traffic.AnsweredByKme(name, token, message.refusal))
        else:
            self.handle(traffic.FromKme(name, ordinal, message))


@dataclass
class Heard:
    """What policy, events and notices told a test."""

    notices: list[kme.KmeNotice] = field(default_factory=list)
    delivered: list[tuple[SaeId, KmeName, int, bool]] = field(default_factory=list)
    refused: list[tuple[SaeId, str, str]] = field(default_factory=list)


class NetKme:
    """One KME: machines, engine, held keys and service; ports of all of them."""

    def __init__(self, name: KmeName, net: KeyNet, settings: KeySettings) -> None:
        self.name = name
        self.net = net
        self.settings = settings
        self.memory = KmeMemory()
        self.memory.commit((RealmAccepted(1, net.realm.to_bytes()),), net.now())
        self.heard_here = Heard()
        self.allowed: Callable[[SaeId, SaeId], bool] = lambda _caller, _other: True
        self._tasks: set[asyncio.Task[None]] = set()
        self._life = 0
        self.restart()

    def restart(self) -> None:
        """Start anew with what the store holds; links come up one after another."""
        self._life += 1
        self._ordinal = 0
        self._tokens: dict[tuple[HubName, int], Hashable] = {}
        links = {one: LinkId(one.encode()[-8:].rjust(8, b"-")) for one in self.net.hubs}
        incarnation = Incarnation(self.net.chance.randbytes(16))
        identity = peer.Identity(self.net.realm.name, self.name, incarnation)
        ports = kme.Ports(self, self.memory, self, self)
        core = kme.KmeCore(identity, ports, 2, self.memory.load(links, self.net.now()), self.net.now())
        reserve = Reserve()
        for row in self.memory.sent.values():
            if row.batch.context.purpose and row.left:
                expires = row.committed_at + row.batch.context.lifetime
                reserve.add(row.batch, expires, row.left.ranges())
        self.engine = Engine(core, reserve, self)
        self.held = HeldKeys(self.net.realm.name, self.name, self, self._claim_of)
        self.service = Keys(
            realm=self.net.realm.name,
            name=self.name,
            engine=self.engine,
            held=self.held,
            settings=self.settings,
            policy=self,
            events=self,
        )
        for record in self.memory.assigned.values():
            taken = [(one, done.sae) for done in self.memory.delivered for one in done.keys]
            self.held.assigned(record, taken)
        self.engine.start()
        for one in self.net.hubs.values():
            if one.up:
                self.link(one, incarnation)

    def link(self, one: NetHub, incarnation: Incarnation) -> None:
        """A link comes up."""
        if self.name in one.relay.connected:
            one.handle(traffic.KmeDown(self.name))
        one.handle(traffic.KmeUp(self.name, incarnation))
        self.engine.handle(kme.LinkProved(one.name, False, 1, self.net.realm.digest()))  # noqa: FBT003

    def later(self, call: Callable[..., None], *arguments: object) -> None:
        """Call back soon, unless this KME was restarted meanwhile."""
        life = self._life

        def guarded() -> None:
            if life == self._life:
                call(*arguments)

        self.net.loop.call_soon(guarded)

    def from_hub(self, name: HubName, ordinal: int, message: messages.Message) -> None:
        """A hub said something."""
        match message:
            case messages.Done(request):
                token = self._tokens.get((name, request))
                self.engine.handle(traffic.AnsweredByHub(name, token, None))
            case messages.Refuse(request, refusal):
                token = self._tokens.get((name, request))
                if token is not None:
                    self.engine.handle(traffic.AnsweredByHub(name, token, refusal))
            case _:
                self.engine.handle(traffic.FromHub(name, ordinal, message))

    # ── ports of the engine ─────────────────────────────────────────────────────────────────────
    def now(self) -> float:
        """The loop's time."""
        return self.net.now()

    def random(self, count: int) -> bytes:
        """Seeded."""
        return self.net.chance.randbytes(count)

    def secret(self, count: int) -> Secret:
        """Seeded."""
        return Secret(self.net.chance.randbytes(count))

    def submit(self, changes: Sequence[Change], then: Callable[[], None]) -> None:
        """Durable at once; told in order."""
        self.memory.commit(changes, self.now())
        self.later(then)

    async def durable(self, changes: Sequence[Change]) -> None:
        """Durable at once."""
        self.memory.commit(changes, self.now())
        await asyncio.sleep(0)

    async def read_keys(self, role: Role, name: KmeName, keys: Sequence[KeyRange]) -> tuple[Secret, ...]:
        """Out of the batches' rows."""
        await asyncio.sleep(0)
        rows = self.memory.sent if role is Role.SENDER else self.memory.received
        found = []
        for one in keys:
            row = rows.get((name, one.batch))
            if row is None or not row.left.contains((one,)):
                raise Refused(codes.KEY_NOT_HELD)
            size = row.batch.context.key_bytes
            whole = row.batch.keys.expose()
            found += [Secret(whole[index * size : (index + 1) * size]) for index in one.indexes]
        return tuple(found)

    def send(self, send: traffic.SendToHub) -> None:
        """Across the wire's encoding; a hub that is down loses it."""
        self._ordinal += 1
        self._tokens[send.hub, self._ordinal] = send.token
        body = messages.encode_message(send.message)
        message = messages.decode_message(body, Direction.TO_HUB)
        one = self.net.hubs[send.hub]
        ordinal = self._ordinal
        self.net.loop.call_soon(lambda: one.from_kme(self.name, ordinal, message))

    def search(self, search: Search, done: Callable[[Outcome], None]) -> None:
        """At once."""
        outcome = reconstruct(search)
        search.wipe()
        self.later(done, outcome)

    def call_at(self, when: float, callback: Callable[[], None]) -> Cancellable:
        """The loop's own."""
        return self.net.loop.call_at(when, self._guarded(callback))

    def _guarded(self, callback: Callable[[], None]) -> Callable[[], None]:
        life = self._life
        return lambda: callback() if life == self._life else None

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Kept until it ends."""
        task = self.net.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def heard(self, notice: kme.KmeNotice) -> None:
        """Remember it, and index what was assigned."""
        self.heard_here.notices.append(notice)
        if isinstance(notice, assignee.KeysRecorded):
            self.held.assigned(notice.assigned)

    # ── ports of the machines ───────────────────────────────────────────────────────────────────
    def own_claim(self, hubs: Sequence[Coordinate]) -> Claim:
        """Every link is derived."""
        return Claim(tuple(hubs), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR)

    def may_establish(self, sender: KmeName, receiver_name: KmeName, purpose: Purpose) -> bool:
        """Everybody may."""
        return sender != receiver_name and purpose in Purpose

    def threshold_floor(self, name: KmeName) -> int:
        """Two."""
        del name
        return 2

    def has_room(self, sender: KmeName, context: CompactContext) -> bool:
        """Always."""
        del sender, context
        return True

    def may_assign(
        self, sender: KmeName, master: SaeId, slaves: tuple[SaeId, ...], purpose: str, lifetime: int
    ) -> bool:
        """As the SAE policy says."""
        del sender, purpose, lifetime
        return all(self.allowed(slave, master) for slave in slaves)

    def may_take(self, sender: KmeName, batch: Any, index: int, slave: SaeId) -> bool:
        """As the machines say."""
        return self.engine.core.peer_messages.assignee.may_take(sender, batch, index, slave)

    def keys_gone(self, sender: KmeName, keys: tuple[KeyRange, ...]) -> None:
        """Tell the machines."""
        self.engine.handle(assignee.KeysGone(sender, keys))

    # ── ports of the service ────────────────────────────────────────────────────────────────────
    def resolve(self, name: str) -> SaeId:
        """Qualified names only."""
        return SaeId(name)

    def may_take_new(self, caller: SaeId, slave: SaeId, number: int, key_bytes: int, purpose: str) -> bool:
        """As the test says."""
        return bool(number and key_bytes and purpose) and self.allowed(caller, slave)

    def may_take_by_id(self, caller: SaeId, master: SaeId) -> bool:
        """As the test says."""
        return self.allowed(caller, master)

    def demands(self, name: KmeName, asked: Requirements) -> Requirements:
        """What was asked."""
        del name
        return asked

    def delivered(self, caller: SaeId, name: KmeName, key_ids: Sequence[object], *, new: bool) -> None:
        """Remember it."""
        self.heard_here.delivered.append((caller, name, len(key_ids), new))

    def refused(self, caller: SaeId, other: str, code: Any, *, new: bool) -> None:
        """Remember it."""
        del new
        self.heard_here.refused.append((caller, other, code.name))

    def _claim_of(self, sender: KmeName, batch: Any) -> KeyClaim:
        return claim_of(self.memory.received[sender, batch].batch)


class KeyNet:
    """The hubs and KMEs of one test."""

    def __init__(self, *names: str, seed: int = 1, settings: KeySettings | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.chance = Chance(seed)
        self.realm = make_realm()
        self.ends: dict[KmeName, NetKme] = {}
        self.hubs = {one.name: NetHub(one.name, self) for one in self.realm.hubs}
        for name in names:
            self.ends[KmeName(name)] = NetKme(KmeName(name), self, settings or KeySettings())

    def now(self) -> float:
        """The loop's clock."""
        return self.loop.time()

    def take_down(self, *numbers: int) -> None:
        """Hubs go down."""
        for number in numbers:
            one = self.hubs[HubName(f"hub-{number}")]
            one.up = False
            for end in self.ends.values():
                end.engine.handle(traffic.HubDown(one.name))
