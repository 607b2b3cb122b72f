"""A whole world from one seed: two KMEs, five hubs, wires, crashes, lies, and what must stay true.

The production core runs under a scheduler that draws everything from the seed, so a run can be
repeated exactly. After every step the rules that must not break are checked on what the machines'
stores hold and on what crossed the wires; at the end, with the faults over, keys must flow again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from simulation.chance import Chance
from simulation.checkers import Checkers
from simulation.decay import Decay
from simulation.faults import Faults
from simulation.liars import Plot
from simulation.lives import Lives
from simulation.machines import (
    Enrolled,
    LinkEnd,
    Machine,
    PowerLostError,
    ProcessDiedError,
    SimHub,
    SimKme,
    machine_of,
)
from simulation.network import Wire, Wiretap
from simulation.rules import RuleBrokenError
from simulation.scenarios import SCENARIOS, Scenario
from simulation.weather import Weather
from skex.base import codes, limits
from skex.base.errors import StoreFault
from skex.base.ids import (
    BatchId,
    Coordinate,
    Direction,
    HubName,
    KmeName,
    LinkId,
    RealmName,
    RequestId,
    SaeId,
)
from skex.base.secret import Secret
from skex.crypto import sharing
from skex.pad.kinds import PadKind
from skex.protocol import assign, changes, kme, peer, receiver, rollback, sender
from skex.protocol.keysets import KeySet
from skex.wire.context import Purpose
from skex.wire.peer import KeyRange, RevokeReason
from skex.wire.realm import Hub, HubAttributes, HubStatus, Realm

HUBS: Final = 5
THRESHOLD: Final = 3
TABLE_UNITS: Final = 512
CALM_STEPS: Final = 8_000
"""So many steps after the last fault every KME must have delivered keys again and refilled its reserve."""
REFILLED: Final = 32
"""A reserve of so many keys that may still be used counts as refilled."""
_NAMES: Final = (KmeName("north"), KmeName("south"))


@dataclass(slots=True)
class Survived:
    """What a run lived through."""

    counts: Counter[str] = field(default_factory=Counter)
    blamed: set[str] = field(default_factory=set)


def make_realm() -> Realm:
    """Five hubs of five operators, of which any three rebuild."""
    hubs = tuple(
        Hub(
            HubName(f"hub-{number}"),
            Coordinate(number),
            HubStatus.ACTIVE,
            f"hub-{number}.example:7300",
            HubAttributes(f"operator-{number}", "land", f"house-{number}", f"admin-{number}", "skex"),
        )
        for number in range(1, HUBS + 1)
    )
    return Realm(RealmName("world"), 1, THRESHOLD, 1_700_000_000, 31_536_000, 86_400, hubs)


class World:
    """One run. ``step`` does one thing; ``run`` does many and checks."""

    def __init__(self, seed: int, scenario: str | Scenario = "mixed") -> None:
        self.seed = seed
        self.scenario = SCENARIOS[scenario] if isinstance(scenario, str) else scenario
        self.chance = Chance(seed)
        self.time = 1000.0
        self.tap = Wiretap()
        self.survived = Survived()
        self.realm = make_realm()
        self.hubs = {
            hub.name: SimHub(hub.name, self.realm, self.chance.fork(hub.name), self.clock)
            for hub in self.realm.hubs
        }
        self.kmes = {name: SimKme(name, self.realm, self.chance.fork(name), self.clock) for name in _NAMES}
        self.faults = Faults(self.chance.fork("faults"), self.scenario, self.tap, self.survived.counts)
        self.weather = Weather(self.chance.fork("weather"), self.scenario, self.survived.counts)
        self.checkers = Checkers(self.realm)
        self.lives = Lives(self)
        self.decay = Decay(self)
        for machine in self.machines():
            machine.watch = self.checkers
        self.wires: list[tuple[Wire, LinkEnd, LinkEnd]] = []
        self.restart_at: dict[Machine, float] = {}
        self.requests: dict[RequestId, _Request] = {}
        self.delivered: dict[tuple[KmeName, BatchId, int], SaeId] = {}
        self.free: dict[SimKme, KeySet] = {}
        self.ends_at: dict[BatchId, float] = {}
        self.events: list[str] = []
        self.lives.begin()
        self._enrol()
        self.plot = Plot(self.chance.fork("plot"), self.realm, list(self.hubs)[HUBS - self.scenario.liars :])
        self._cast()
        for one in self.kmes.values():
            if one.boots is not None:
                one.home.die()  # who enrolled it was another process, without the daemon's clock
            self.start_kme(one)

    def clock(self) -> float:
        """The world's time, in seconds."""
        return self.time

    # ── the set-up ──────────────────────────────────────────────────────────────────────────────
    def _enrol(self) -> None:
        """Every KME with every hub: derived pads, and one table link for each KME."""
        for one, table in zip(self.kmes.values(), self.scenario.tables, strict=True):
            for number, hub in enumerate(self.hubs.values(), 1):
                kind = PadKind.TABLE if number == table else PadKind.DERIVED
                link = self.make_link(KmeName(one.name), HubName(hub.name), kind)
                one.enrol(link)
                hub.enrol(link)
            one.home.commit((changes.RealmAccepted(1, self.realm.to_bytes()),))

    def make_link(self, name: KmeName, hub: HubName, kind: PadKind, number: int = 0) -> Enrolled:
        """What is in a kit; ``number`` tells those apart that take one another's place."""
        size = 64 if kind is PadKind.DERIVED else TABLE_UNITS * limits.TABLE_UNIT_BYTES
        chance = self.chance.fork(f"link {name} {hub}" + (f" {number}" if number else ""))
        material = {direction: chance.randbytes(size) for direction in Direction}
        link = Enrolled(LinkId(chance.randbytes(8)), name, hub, kind, chance.randbytes(64), material)
        if kind is PadKind.DERIVED:
            self.tap.derived.add(link.link_id)
        return link

    def _cast(self) -> None:
        """Who lies, who is down."""
        names = list(self.hubs)
        for name in names[HUBS - self.scenario.liars :]:
            self.hubs[name].lie = None if self.scenario.plot else self.scenario.lie
            self.hubs[name].plot = self.plot if self.scenario.plot else None
        self.checkers.know_liars(names[HUBS - self.scenario.liars :])
        self.down = set(names[: self.scenario.down])

    @property
    def lies(self) -> Counter[str]:
        """What hubs said that was not so, by kind."""
        return sum((hub.told for hub in self.hubs.values()), Counter())

    # ── stepping ────────────────────────────────────────────────────────────────────────────────
    def run(self, steps: int) -> None:
        """Chaos for so many steps, then calm until everything asked for has ended well."""
        self._set_hazard(self.scenario.hazard)
        for _ in range(steps):
            self.step(faults=True)
        self._set_hazard(0.0)
        self.weather.clear()
        self._calm()
        self.check_everything()

    def _set_hazard(self, rate: float) -> None:
        for machine in self.machines():
            machine.hazard_rate = rate
            if not rate:
                machine.store_disk.limit(None)
                machine.store_disk.heal()
                machine.disk.heal()

    def step(self, *, faults: bool) -> None:
        """One thing happens."""
        self.survived.counts["steps"] += 1
        draw = self.chance.random()
        killed = self.faults.strike([wire for wire, _, _ in self.wires], self.machines()) if faults else None
        if killed is not None:
            self.stop(killed, "is killed", killed.be_killed)
        if faults:
            self.lives.step()
            self.decay.step()
        self.lives.tend(faults=faults)
        self.decay.tend()
        try:
            if faults:
                self.weather.strike(self.time, list(self.kmes), list(self.hubs), self.wires)
                self._sweep_wires()
            if faults and draw < self.scenario.cut_rate:
                self._cut()
            elif faults and draw < self.scenario.cut_rate + self.scenario.crash_rate:
                self._crash(self.chance.choice(self.machines()))
            elif draw < 0.08:
                self._ask()
            elif draw < 0.20 or not self._carry():
                self._pass_time()
        except (PowerLostError, ProcessDiedError) as lost:
            self.end(lost)
        self._listen()
        self.checkers.stepped(self.time, self.machines())

    def _carry(self) -> bool:
        """Some bytes arrive somewhere."""
        busy = [
            (wire, direction, up, down)
            for wire, up, down in self.wires
            if wire.open
            for direction in wire.busy()
            if self.weather.carries((wire, up, down), direction, self.time)
        ]
        if not busy:
            return False
        wire, direction, kme_end, hub_end = self.chance.choice(busy)
        end = hub_end if direction is Direction.TO_HUB else kme_end
        end.receive(wire.carry(direction, self.chance))
        self._sweep_wires()
        return True

    def _sweep_wires(self) -> None:
        """Both ends learn that a wire is cut, unless nothing gets through that would tell them."""
        for wire, kme_end, hub_end in [one for one in self.wires if not one[0].open]:
            if self.weather.hides((wire, kme_end, hub_end)) and not (kme_end.over and hub_end.over):
                continue
            self.wires.remove((wire, kme_end, hub_end))
            kme_end.close()
            hub_end.close()

    def _pass_time(self) -> None:
        """Until something is due, or a moment; then everybody looks at the clock."""
        self.time += self.chance.choice((0.01, 0.05, 0.3, 1.0))
        for machine, at in list(self.restart_at.items()):
            if at <= self.time:
                del self.restart_at[machine]
                self._restart(machine)
        self.weather.pass_time(self.time, self.wires)
        for machine in self.machines():
            if machine.running:
                machine.tick()
        self._dial()
        self._sweep_wires()

    def _dial(self) -> None:
        for one in self.lives.kmes:
            for link in one.links.values():
                hub = self.hubs[link.hub]
                ready = one.running and hub.running and link.hub not in self.down
                ready = ready and self.weather.lets_dial(one.name, hub.name, self.time)
                ready = ready and link.link_id not in one.frozen
                if ready and link.link_id not in one.ends and self.chance.random() < 0.5:
                    self._connect(one, hub, link)

    def _connect(self, one: SimKme, hub: SimHub, link: Enrolled) -> None:
        if any(wire.open and up.dialled == link.link_id and up.owner is one for wire, up, _ in self.wires):
            return
        wire = Wire(self.tap)
        hub_end = hub.accept(wire)
        kme_end = one.dial(link.link_id, wire)
        self.wires.append((wire, kme_end, hub_end))
        self.survived.counts["connections"] += 1
        kme_end.start()

    def _cut(self) -> None:
        if self.wires:
            wire, _, _ = self.chance.choice(self.wires)
            wire.cut()
            self.survived.counts["cuts"] += 1
            self._sweep_wires()

    def end(self, lost: PowerLostError | ProcessDiedError) -> None:
        """A machine went down while it did something."""
        machine = lost.machine
        if isinstance(lost, PowerLostError):
            self._crash(machine)
        elif machine.running:
            self.survived.counts["store faults"] += 1
            self.stop(machine, f"ends: {lost.__cause__}", machine.be_killed)

    def _crash(self, machine: Machine) -> None:
        if machine.running:
            self.survived.counts["crashes"] += 1
            self.stop(machine, "loses power", machine.lose_power)

    def stop(self, machine: Machine, how: str, stop: Callable[[], None]) -> None:
        """A machine is gone, in this way, for some seconds."""
        self.note(f"{machine.label} {how}")
        for wire, kme_end, hub_end in self.wires:
            for end in (kme_end, hub_end):
                if machine_of(end) is machine:
                    end.over = True
                    wire.cut()
        stop()
        self.restart_at[machine] = self.time + self.chance.uniform(0.1, 5.0)
        self._sweep_wires()

    def retire(self, one: SimKme) -> None:
        """A copy or an original is switched off for ever."""
        self.restart_at.pop(one, None)
        self.free.pop(one, None)

    def _restart(self, machine: Machine) -> None:
        """A daemon that cannot open its store ends again, and is started again."""
        try:
            if isinstance(machine, SimKme):
                self.start_kme(machine)
            else:
                machine.start()
        except StoreFault as fault:
            self.survived.counts["starts failed"] += 1
            if fault.code is codes.STORE_CORRUPT:
                self.decay.ruined(machine)
            self.stop(machine, f"does not start: {fault.code.name}", machine.be_killed)

    def start_kme(self, one: SimKme) -> None:
        """The reserve is what the store still holds free."""
        self.requests = {request: what for request, what in self.requests.items() if what.owner is not one}
        one.start()
        self.free[one] = one.memory.free_keys()
        if one.boots is not None:
            kept = one.home.store.kept(one.now())
            ends = {row.batch.batch: row.expires_at for row in kept if row.role is changes.Role.SENDER}
            self.ends_at |= {batch: one.clock.in_true_time(end) for batch, end in ends.items()}

    # ── what applications ask ───────────────────────────────────────────────────────────────────
    def _ask(self) -> None:
        one = self.chance.choice(self.lives.kmes)
        if not one.running:
            return
        if self.free[one] and self.chance.random() < 0.6:
            self._assign(one)
        else:
            self._establish(one, Purpose.TRAFFIC, self.chance.choice((1, 2, 8, 64)), 32)

    def _other(self, one: SimKme) -> KmeName:
        return _NAMES[1 - _NAMES.index(KmeName(one.name))]

    def _establish(self, one: SimKme, purpose: Purpose, keys: int, key_bytes: int) -> None:
        other = self._other(one)
        needed = one.core.entropy_bytes(other, keys, key_bytes)
        entropy = Secret(self.chance.randbytes(needed))
        self.survived.counts["asked"] += 1
        one.do(
            sender.Establish(
                other, keys, key_bytes, purpose, self.scenario.lifetime, None, THRESHOLD, entropy, None
            )
        )

    def _assign(self, one: SimKme) -> None:
        """Take a few keys out of the reserve for a pair of SAEs."""
        free = self.free[one]
        self._drop_expired(free)
        if not free:
            return
        first = free.ranges()[0]
        keys = (KeyRange(first.batch, first.first, min(first.count, self.chance.randint(1, 4))),)
        request = RequestId(self.chance.randbytes(16))
        master, slave = self.app_of(KmeName(one.name)), self.app_of(self._other(one))
        free.remove(keys)
        self.requests[request] = _Request(one, keys, master)
        one.do(
            assign.AssignKeys(
                peer=self._other(one),
                request=request,
                keys=keys,
                master=master,
                slaves=(slave,),
                purpose="test",
                lifetime=600,
                ahead=False,
                expires_at=one.clock.on_boot_clock(self.ends_at[first.batch]),
            )
        )

    @staticmethod
    def app_of(name: KmeName) -> SaeId:
        """The one application at each KME."""
        return SaeId(f"app@{name}")

    def _drop_expired(self, free: KeySet) -> None:
        """Of a batch whose maker lost its power before it told, nobody knows the end: it is over."""
        for batch in [batch for batch in free.batches if self.ends_at.get(batch, 0.0) <= self.time]:
            free.remove(free.of_batch(batch))

    # ── what the machines tell ──────────────────────────────────────────────────────────────────
    def _listen(self) -> None:
        for one in self.lives.kmes:
            while one.running and one.heard:
                try:
                    self._hear(one, one.heard.popleft())
                except (PowerLostError, ProcessDiedError) as lost:
                    self.end(lost)

    def _hear(self, one: SimKme, notice: kme.KmeNotice) -> None:
        counts = self.survived.counts
        match notice:
            case sender.Established(batch=batch, made_at=made_at):
                self.ends_at[batch.batch] = one.clock.in_true_time(made_at + batch.context.lifetime)
                self._established(one, batch)
            case sender.NotEstablished():
                counts["not established"] += 1
            case peer.RootWanted():
                self._establish(one, Purpose.CONTROL, 1, 64)
            case assign.Deliverable(name, request, keys, until):
                self._deliverable(one, name, request, keys)
                del until
            case assign.Delivered(name, request, keys):
                self._delivered(one, name, request, keys)
            case assign.NotOffered(_, request):
                self.free[one].add(self.requests.pop(request).keys)
            case assign.AssignmentEnded(_, request):
                counts["assignments ended"] += 1
                self.requests.pop(request, None)
            case receiver.HubBlamed(hub, certain=certain):
                counts["lies caught" if certain else "hubs suspected"] += 1
                if certain:
                    self.survived.blamed.add(hub)
            case receiver.TwoCandidates():
                raise RuleBrokenError("two batches verified under one id")
            case peer.Revoked() | rollback.RevokeEverything() | rollback.FreezeLink():
                self._rolled_back(one, notice)
            case _:
                pass

    def _rolled_back(
        self, one: SimKme, notice: peer.Revoked | rollback.RevokeEverything | rollback.FreezeLink
    ) -> None:
        """As the key service: revoke every key that is left, and offer none that is revoked."""
        match notice:
            case peer.Revoked(role, name, by_peer=by_peer):
                cause = self.kmes[name] if by_peer else one
                if cause.name not in self.lives.told_to_revoke:
                    self.lives.require_cause(cause, "revokes keys")
                if role is changes.Role.SENDER:
                    self.free[one] = KeySet()
                self.survived.counts["revocations"] += 1
            case rollback.RevokeEverything(code):
                self.lives.require_cause(one, f"finds a rollback ({code})")
                self.survived.counts["rollbacks found"] += 1
                for role, name in dict.fromkeys((role, name) for role, name, _ in one.memory.kept()):
                    request = RequestId(self.chance.randbytes(16))
                    one.do(peer.RevokeKeys(role, name, request, RevokeReason.ROLLBACK, None))
            case rollback.FreezeLink(hub):
                if not self.hubs[hub].is_liar:
                    self.lives.require_cause(one, f"has its link with {hub} frozen")
                self.survived.counts["links frozen"] += 1

    def _established(self, one: SimKme, batch: changes.Batch) -> None:
        """Rule 2: deliverable at A only if B durably has it, and equal."""
        self.survived.counts["established"] += 1
        other = self.kmes[batch.peer].memory
        row = other.received.get((KmeName(one.name), batch.batch))
        if row is None and batch.peer in self.lives.rolled_back:
            pass  # it had the batch, and lost it: that it had it and what it was is known to the checkers
        elif row is None or row.batch.keys != one.memory.sent[batch.peer, batch.batch].batch.keys:
            raise RuleBrokenError(f"{batch.batch}: the receiver does not hold what the sender uses")
        if batch.context.threshold != THRESHOLD or len(batch.hubs) < THRESHOLD:
            raise RuleBrokenError(f"{batch.batch}: below the threshold")
        if batch.context.purpose is Purpose.TRAFFIC:
            whole = (KeyRange(batch.batch, 0, batch.context.keys),)
            self.free[one].add(whole)

    def _deliverable(self, one: SimKme, name: KmeName, request: RequestId, keys: Sequence[KeyRange]) -> None:
        if request not in self.requests:
            return
        if one.core.may_deliver:
            one.do(assign.Deliver(name, request, tuple(keys)))
        else:
            one.do(assign.Release(name, request))

    def _delivered(self, one: SimKme, name: KmeName, request: RequestId, keys: Sequence[KeyRange]) -> None:
        """Rule 2: at most once; and the slave can take it."""
        what = self.requests.pop(request, None)
        if what is None:
            return
        self.survived.counts["delivered"] += sum(one_range.count for one_range in keys)
        for key_range in keys:
            for index in key_range.indexes:
                key = (KmeName(one.name), key_range.batch, index)
                if key in self.delivered:
                    raise RuleBrokenError(f"key {index} of {key_range.batch} was delivered twice")
                self.delivered[key] = what.master
        self.lives.delivered(one, name, tuple(keys))
        if {one.name, name} & self.lives.rolled_back:
            return  # it may be lost or revoked: what was promised is known to the checkers
        if not self.kmes[name].memory.holds(KmeName(one.name), keys):
            raise RuleBrokenError("a delivered key is not held by the receiver")

    # ── the end ─────────────────────────────────────────────────────────────────────────────────
    def _calm(self) -> None:
        """Rule 4: with the faults over, each KME makes and delivers keys again, and has some left."""
        goals = {name: self._delivered_by(name) + 4 for name in self.kmes}
        for _ in range(CALM_STEPS):
            self.step(faults=False)
            if all(self._flows(name, goal) for name, goal in goals.items()):
                return
        raise RuleBrokenError(f"keys do not flow after {CALM_STEPS} calm steps")

    def _flows(self, name: KmeName, goal: int) -> bool:
        if self._delivered_by(name) < goal:
            return False
        free = self.free[self.kmes[name]]
        self._drop_expired(free)
        return sum(one.count for one in free.ranges()) >= REFILLED

    def _delivered_by(self, name: KmeName) -> int:
        return sum(1 for owner, _, _ in self.delivered if owner == name)

    def check_everything(self) -> None:
        """A full scan: every key id both ends hold is equal; liars together could rebuild nothing."""
        for name, one in self.kmes.items():
            other = self.kmes[self._other(one)].memory
            for (peer_name, batch), row in one.memory.sent.items():
                mirror = other.received.get((name, batch))
                if mirror is not None and mirror.batch.keys != row.batch.keys:
                    raise RuleBrokenError(f"{peer_name} holds other keys of {batch}")
        self._check_minority()
        self.checkers.scan(self.machines())

    def _check_minority(self) -> None:
        """Rule 3, on what the liars hold: fewer than k shares of a batch fit every secret equally.

        The shares that an honest hub may have, one for each value of the last byte, lead to as many
        different secrets: what the liars hold rules none out.
        """
        liars = [hub for hub in self.hubs.values() if hub.is_liar]
        points = {str(hub.name): int(hub.coordinate) for hub in self.realm.hubs}
        for name in {held for hub in liars for held in hub.held}:
            shares = {points[hub.name]: hub.held[name][-1:] for hub in liars if name in hub.held}
            missing = THRESHOLD - len(shares)
            if missing < 1:
                raise RuleBrokenError("liars hold as many shares as rebuild a batch")
            others = {point: bytes(1) for point in range(1, missing)}
            secrets = {
                sharing.interpolate({**shares, **others, missing: bytes([guess])}) for guess in range(256)
            }
            if len(secrets) != 256:
                raise RuleBrokenError("what a minority of hubs holds rules a secret out")
            self.survived.counts["minorities checked"] += 1

    # ── helpers ─────────────────────────────────────────────────────────────────────────────────
    def machines(self) -> list[Machine]:
        """Every machine that is not switched off for ever."""
        return [*self.hubs.values(), *self.lives.kmes]

    def note(self, text: str) -> None:
        """Remember what happened, for who asks why a rule broke."""
        self.events = [*self.events[-49:], f"{self.time:10.2f} {text}"]


@dataclass(slots=True)
class _Request:
    """An assignment that an application waits for."""

    owner: SimKme
    keys: tuple[KeyRange, ...]
    master: SaeId
