"""Two or more KMEs with their key services on one event loop, joined by relays without links.

For tests of everything above links: messages are encoded and read again, hubs relay as in production,
stores are production stores in memory. Hubs go down and come up, peers are cut off, KMEs die at any
moment with what was not committed lost, and answers and commits may take their time.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from simulation.chance import Chance
from simulation.world import make_realm
from skex.base.ids import Coordinate, Direction, HubName, Incarnation, KmeName, LinkId, SaeId
from skex.base.secret import Secret
from skex.keys.api import Cryptoperiod, Requirements
from skex.keys.claims import Claims
from skex.keys.engine import Cancellable, Engine
from skex.keys.filling import ReserveMarks
from skex.keys.health import Turn
from skex.keys.held import HeldKeys
from skex.keys.reserve import Reserve
from skex.keys.service import Delivery, Keys
from skex.keys.settings import KeySettings
from skex.keys.suspended import Suspensions
from skex.policy.decisions import Decision, Place
from skex.protocol import hub, kme, peer, traffic
from skex.protocol.changes import BatchDropped, Change, LinkFrozen, RealmAccepted, Role
from skex.protocol.quota import Quota, Rate
from skex.protocol.reconstruct import Outcome, Search, reconstruct
from skex.store.database import IN_MEMORY
from skex.store.kme import KmeStore
from skex.wire import messages
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose
from skex.wire.independence import ANYBODY, Floor
from skex.wire.peer import KeyRange
from skex.wire.realm import HubAttributes

_PLENTY = Quota(Rate(1e9, 1e9), Rate(1e9, 1e9))
_EPOCH = 1_700_000_000


class NetHub:
    """A hub's relay; ``up`` says whether anybody reaches it, ``lies`` whether it changes shares."""

    def __init__(self, name: HubName, net: KeyNet) -> None:
        self.name = name
        self.net = net
        self.up = True
        self.lies = False
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
        """Relay; what is for a KME that is down is lost."""
        for send in self.relay.handle(event, self.net.now()).send:
            end = self.net.ends[send.kme]
            number = self._ordinals[send.kme] = self._ordinals.get(send.kme, 0) + 1
            self._tokens[send.kme, number] = send.token
            body = messages.encode_message(_falsified(send.message) if self.lies else send.message)
            message = messages.decode_message(body, Direction.TO_KME)
            end.later(self.net.transit(), end.from_hub, self.name, number, message)

    def from_kme(self, name: KmeName, ordinal: int, message: messages.Message) -> None:
        """A KME said something."""
        if not self.up or name not in self.relay.connected:
            return
        if isinstance(message, messages.Refuse):
            token = self._tokens.get((name, message.request))
            if token is not None:
                self.handle(traffic.AnsweredByKme(name, token, message.refusal))
        else:
            self.handle(traffic.FromKme(name, ordinal, message))


def _falsified(message: messages.Message) -> messages.Message:
    """The same, with a share that is not on the polynomial."""
    if not isinstance(message, messages.Shared):
        return message
    return replace(message, share=bytes(byte ^ 1 for byte in message.share))


@dataclass
class Heard:
    """What events and notices told a test."""

    notices: list[kme.KmeNotice] = field(default_factory=list)
    delivered: list[tuple[SaeId, KmeName, tuple[uuid.UUID, ...], bool]] = field(default_factory=list)
    lost: list[tuple[SaeId, KmeName, tuple[uuid.UUID, ...], bool]] = field(default_factory=list)
    refused: list[tuple[SaeId, str, str]] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    sent: list[messages.Message] = field(default_factory=list)
    turns: list[tuple[ReserveMarks, Turn]] = field(default_factory=list)


class Life:
    """The ports of one life's engine. Once that life is over they do nothing: the process is gone."""

    def __init__(self, end: NetKme) -> None:
        self.end = end
        self.net = end.net
        self.over = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._uncommitted: list[tuple[Sequence[Change], Callable[[], None]]] = []
        self._committing = False
        self._ordinal = 0
        self.tokens: dict[tuple[HubName, int], Hashable] = {}

    def stop(self) -> None:
        """Die: what was not committed never happened, and nobody hears anything any more."""
        self.over = True
        for task in tuple(self._tasks):
            task.cancel()

    def later(self, delay: float, call: Callable[..., None], *arguments: object) -> None:
        """Call back, if this life is not over by then."""
        self.net.loop.call_later(delay, self._guarded(call), *arguments)

    def _guarded(self, call: Callable[..., None]) -> Callable[..., None]:
        def guarded(*arguments: object) -> None:
            if not self.over:
                call(*arguments)

        return guarded

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
        """Durable after a while, many sets together; told in order."""
        if self.over:
            return
        if not changes and not self._uncommitted and not self._committing:
            then()
            return
        # There are no links here, so nothing of them is kept.
        kept = tuple(change for change in changes if not isinstance(change, LinkFrozen))
        self._uncommitted.append((kept, then))
        self._commit_soon()

    def _commit_soon(self) -> None:
        if self._uncommitted and not self._committing:
            self._committing = True
            self.later(self.net.commit_time(), self._commit)

    def _commit(self) -> None:
        batch = tuple(self._uncommitted)
        self._uncommitted.clear()
        self.end.store.commit([changes for changes, _ in batch if changes])
        for _, then in batch:
            self._guarded(then)()
        self._committing = False
        self._commit_soon()

    async def read_keys(self, role: Role, name: KmeName, keys: Sequence[KeyRange]) -> tuple[Secret, ...]:
        """As the store has them after a while."""
        return await self.end.read_keys(role, name, keys)

    async def emptied(self) -> Sequence[BatchDropped]:
        """As the store says after a while."""
        await asyncio.sleep(self.net.commit_time())
        return self.end.store.emptied()

    def send(self, send: traffic.SendToHub) -> None:
        """Across the wire's encoding; a hub that is down loses it."""
        self._ordinal += 1
        self.tokens[send.hub, self._ordinal] = send.token
        self.end.heard_here.sent.append(send.message)
        body = messages.encode_message(send.message)
        message = messages.decode_message(body, Direction.TO_HUB)
        one = self.net.hubs[send.hub]
        self.later(self.net.transit(), one.from_kme, self.end.name, self._ordinal, message)

    def search(self, search: Search, done: Callable[[Outcome], None]) -> None:
        """At once."""
        outcome = reconstruct(search)
        search.wipe()
        self.later(0, done, outcome)

    def call_at(self, when: float, callback: Callable[[], None]) -> Cancellable:
        """The loop's own."""
        return self.end.call_at(when, self._guarded(callback))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Kept until it ends or this life does; a failure fails the test."""
        if self.over:
            work.close()
            return
        _ = self.request(work, name)  # kept there

    def request(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something that ends at the latest with this life, as what a door serves does."""
        task = self.net.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def threshold_floor(self, name: KmeName) -> int:
        """As the machines' port says."""
        return self.end.threshold_floor(name)

    def may_establish(self, name: KmeName) -> bool:
        """As the test says."""
        return name not in self.end.shunned

    def independence_floor(self, name: KmeName) -> Floor:
        """As the machines' port says."""
        return self.end.independence_floor(name)

    def heard(self, notice: kme.KmeNotice) -> None:
        """Remember it."""
        self.end.heard_here.notices.append(notice)


class NetKme:
    """One KME: machines, engine, held keys and service; ports of all of them."""

    def __init__(self, name: KmeName, net: KeyNet, settings: KeySettings) -> None:
        self.name = name
        self.net = net
        self.settings = settings
        self.reserves: tuple[ReserveMarks, ...] = ()
        self.store = KmeStore.create(
            IN_MEMORY,
            Secret(bytes(32)),
            net.chance.randbytes,
            lambda: _EPOCH + int(net.now()),
            name=name,
            realm=net.realm.name,
        )
        self.store.commit(((RealmAccepted(1, net.realm.to_bytes()),),))
        self.heard_here = Heard()
        self.allowed: Callable[[SaeId, SaeId], bool] = lambda _caller, _other: True
        self.shunned: set[KmeName] = set()
        self.purposes_denied: set[str | None] = set()
        self.demanded: Callable[[Requirements], Requirements] = lambda asked: asked
        self.accepts = True
        self.reserve_age = math.inf
        self.period = Cryptoperiod(lifetime=604_800, use_seconds=3600, uses=1000)
        self.deaf = False
        self.up = False
        self.start()

    # ── life and death ──────────────────────────────────────────────────────────────────────────
    def start(self) -> None:
        """Start with what the store holds; links come up at once."""
        self.up = True
        self.life = Life(self)
        net, now = self.net, self.net.now()
        links = {one: LinkId(one.encode()[-8:].rjust(8, b"-")) for one in net.hubs}
        self.incarnation = Incarnation(net.chance.randbytes(16))
        identity = peer.Identity(net.realm.name, self.name, self.incarnation)
        state = replace(self.store.load(now), links=links)
        claims, suspensions = Claims(lambda: (net.realm,)), Suspensions(self.store.suspensions())
        reserve = Reserve(claims, suspensions, lambda _peer: self.reserve_age)
        self.held = HeldKeys(net.realm.name, self.name, self.settings.held_max, claims, suspensions)
        kept = self.store.kept(now)
        reserve.load(kept)
        self.held.load(kept, state.peer_messages.assigned, now)
        ports = kme.Ports(self, self.store, self, self)
        self.engine = Engine(kme.KmeCore(identity, ports, 2, state, now), reserve, self.held, self.life)
        self.service = Keys(
            realm=net.realm.name,
            name=self.name,
            engine=self.engine,
            settings=self.settings,
            reserves=self.reserves,
            policy=self,
            events=self,
        )
        self.engine.start()
        for one in net.hubs.values():
            if one.up:
                self.link(one)

    def stop(self) -> None:
        """Die at this moment."""
        self.up = False
        self.life.stop()
        self.engine.stop()
        for one in self.net.hubs.values():
            if self.name in one.relay.connected:
                one.handle(traffic.KmeDown(self.name))

    def restart(self) -> None:
        """Die and start anew."""
        self.stop()
        self.start()

    def link(self, one: NetHub) -> None:
        """A link comes up."""
        if self.name in one.relay.connected:
            one.handle(traffic.KmeDown(self.name))
        one.handle(traffic.KmeUp(self.name, self.incarnation))
        proved = kme.LinkProved(one.name, rolled_back=False, epoch=1, realm_digest=self.net.realm.digest())
        self.engine.handle(proved)

    def later(self, delay: float, call: Callable[..., None], *arguments: object) -> None:
        """Call back, unless this KME died meanwhile."""
        self.life.later(delay, call, *arguments)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something until it ends or this KME dies."""
        self.life.spawn(work, name)

    def call_at(self, when: float, callback: Callable[[], None]) -> Cancellable:
        """The loop's own."""
        return self.net.loop.call_at(when, callback)

    async def read_keys(self, role: Role, name: KmeName, keys: Sequence[KeyRange]) -> tuple[Secret, ...]:
        """As the store has them after a while."""
        await asyncio.sleep(self.net.commit_time())
        return self.store.read_keys(role, name, keys)

    def from_hub(self, name: HubName, ordinal: int, message: messages.Message) -> None:
        """A hub said something."""
        match message:
            case _ if self.deaf or not self.net.hubs[name].up:
                pass
            case messages.Done(request):
                token = self.life.tokens.get((name, request))
                self.engine.handle(traffic.AnsweredByHub(name, token, None))
            case messages.Refuse(request, refusal):
                token = self.life.tokens.get((name, request))
                if token is not None:
                    self.engine.handle(traffic.AnsweredByHub(name, token, refusal))
            case _:
                self.engine.handle(traffic.FromHub(name, ordinal, message))

    # ── ports of the machines ───────────────────────────────────────────────────────────────────
    def own_claim(self, hubs: Sequence[Coordinate]) -> Claim:
        """As the test says: every link derived, unless it says otherwise."""
        return Claim(
            tuple(one for one in hubs if one in self.net.derived),
            Randomness.SYSTEM,
            Enrolment.CARRIED_IN_CLEAR,
        )

    def may_establish(self, sender: KmeName, receiver_name: KmeName, purpose: Purpose) -> bool:
        """Everybody may."""
        return sender != receiver_name and purpose in Purpose

    def independence_floor(self, name: KmeName) -> Floor:
        """Nobody minds who is behind hubs."""
        del name
        return ANYBODY

    def threshold_floor(self, name: KmeName) -> int:
        """Two."""
        del name
        return 2

    def accepts_threshold(self, sender: KmeName, threshold: int) -> bool:
        """As ``Admission`` says."""
        return bool(sender) and threshold >= 2

    def accepts_hubs(self, sender: KmeName, hubs: Sequence[HubAttributes], threshold: int) -> bool:
        """As ``Admission`` says."""
        return bool(sender) and threshold <= len(hubs)

    def has_room(self, sender: KmeName, context: CompactContext) -> bool:
        """As what is held says."""
        return self.held.has_room(sender, context)

    def may_assign(
        self, sender: KmeName, master: SaeId, slaves: tuple[SaeId, ...], purpose: str, lifetime: int
    ) -> bool:
        """As the SAE policy says."""
        del sender, purpose, lifetime
        return self.accepts and all(self.allowed(slave, master) for slave in slaves)

    # ── ports of the service ────────────────────────────────────────────────────────────────────
    def resolve(self, name: str) -> SaeId:
        """Qualified names only."""
        return SaeId(name)

    def may_take_new(
        self,
        caller: SaeId,
        slave: SaeId,
        number: int,
        key_bytes: int,
        purpose: str,
        *,
        slaves: int = 1,
        lifetime: int | None = None,
    ) -> Decision:
        """As the test says."""
        del lifetime
        return self._decided(caller, slave, bool(number and key_bytes and purpose and slaves))

    def may_take_by_id(
        self, caller: SaeId, master: SaeId, number: int = 1, purpose: str | None = None
    ) -> Decision:
        """As the test says."""
        return self._decided(caller, master, number >= 0 and purpose not in self.purposes_denied)

    def _decided(self, caller: SaeId, other: SaeId, allowed: bool) -> Decision:  # noqa: FBT001  # what the test says
        verdict = allowed and self.allowed(caller, other)
        return Decision(verdict, "sae.allow.test", "as the test says", Place.SAE)

    def demands(self, name: KmeName, asked: Requirements) -> Requirements:
        """As the test says."""
        del name
        return self.demanded(asked)

    def cryptoperiod(self, caller: SaeId, others: Sequence[SaeId], *, new: bool) -> Cryptoperiod:
        """As the test says."""
        del caller, others, new
        return self.period

    def delivered(self, delivery: Delivery) -> None:
        """Remember it."""
        one = delivery
        self.heard_here.delivered.append((one.caller, one.peer, one.key_ids, one.new))

    def lost(self, delivery: Delivery) -> None:
        """Remember it."""
        one = delivery
        self.heard_here.lost.append((one.caller, one.peer, one.key_ids, one.new))

    def refused(
        self, caller: SaeId, others: Sequence[SaeId], code: Any, *, new: bool, why: Decision | None
    ) -> None:
        """Remember it."""
        del new
        self.heard_here.rules.append("" if why is None else why.rule)
        other = ", ".join(others)
        self.heard_here.refused.append((caller, other, code.name))

    def reserve_turned(self, marks: ReserveMarks, turn: Turn) -> None:
        """Remember it."""
        self.heard_here.turns.append((marks, turn))

    def codes(self) -> list[str]:
        """With which codes requests were refused."""
        return [code for _, _, code in self.heard_here.refused]


class KeyNet:
    """The hubs and KMEs of one test.

    ``slowness`` is how many seconds a message or a commit takes at most; drawn for each.
    """

    def __init__(
        self, *names: str, seed: int = 1, settings: KeySettings | None = None, slowness: float = 0.0
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.chance = Chance(seed)
        self.slowness = slowness
        self.realm = make_realm()
        self.derived: set[int] = {one.coordinate for one in self.realm.hubs}
        self.ends: dict[KmeName, NetKme] = {}
        self.hubs = {one.name: NetHub(one.name, self) for one in self.realm.hubs}
        for name in names:
            self.ends[KmeName(name)] = NetKme(KmeName(name), self, settings or KeySettings())

    def __getitem__(self, name: str) -> NetKme:
        return self.ends[KmeName(name)]

    def now(self) -> float:
        """The loop's clock."""
        return self.loop.time()

    def transit(self) -> float:
        """How long the next message takes."""
        return self.chance.random() * self.slowness

    def commit_time(self) -> float:
        """How long the next commit or read takes."""
        return self.chance.random() * self.slowness / 10

    def take_down(self, *numbers: int) -> None:
        """Hubs go down."""
        for one in self._hubs(numbers):
            one.up = False
            for name, end in self.ends.items():
                if name in one.relay.connected:
                    one.handle(traffic.KmeDown(name))
                if end.up:
                    end.engine.handle(traffic.HubDown(one.name))

    def bring_up(self, *numbers: int) -> None:
        """Hubs come up again, having forgotten everything."""
        for one in self._hubs(numbers):
            one.relay = hub.HubRelay(one, one, self.realm.to_bytes())
            one.up = True
            for end in self.ends.values():
                if end.up:
                    end.link(one)

    def _hubs(self, numbers: Iterable[int]) -> list[NetHub]:
        return [self.hubs[HubName(f"hub-{number}")] for number in numbers]
