"""Two KMEs, the store of each, and hubs between them that a test makes lose, keep, repeat or change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from skex.base.ids import BatchId, HubName, Incarnation, KmeName, RealmName, RequestId, SaeId
from skex.base.secret import Secret
from skex.protocol import changes, traffic
from skex.protocol.assign import AssignKeys, Deliver, IncarnationSeen, Start
from skex.protocol.assignee import KeysHeld
from skex.protocol.changes import Role
from skex.protocol.establishment import RootMade
from skex.protocol.keysets import KeySet
from skex.protocol.peer import Identity, PeerEvent, PeerMessages, PeerNotice, Stored
from skex.protocol.sender import AnswerBatch
from skex.wire import messages
from skex.wire.peer import KeyRange

REALM: Final = RealmName("example")
ALICE: Final = KmeName("alice")
BOB: Final = KmeName("bob")
HUBS: Final = tuple(HubName(f"hub-{letter}") for letter in "abcde")
MASTER: Final = SaeId("web@alice")
SLAVE: Final = SaeId("db@bob")
OTHER_SLAVE: Final = SaeId("cache@bob")
MADE_BY: Final = Incarnation(b"batches of alice")
"""The incarnation in the ids of traffic batches."""
FAR: Final = 1e12

NoticeT = TypeVar("NoticeT")


def batch_id(counter: int, incarnation: Incarnation = MADE_BY) -> BatchId:
    return BatchId(incarnation, counter)


def key_range(first: int = 0, count: int = 1, *, batch: int = 1) -> KeyRange:
    return KeyRange(batch_id(batch), first, count)


def request_id(number: int) -> RequestId:
    return RequestId(number.to_bytes(16, "big"))


def incarnation(name: str, start: int) -> Incarnation:
    return Incarnation(f"{name}:{start}".encode().ljust(16, b"."))


class Policy:
    """Allows every purpose but one."""

    def may_assign(
        self, sender: KmeName, master: SaeId, slaves: tuple[SaeId, ...], purpose: str, lifetime: int
    ) -> bool:
        return purpose != "forbidden"


class Store:
    """What a store makes of changes, and what it hands in at a start."""

    def __init__(self) -> None:
        self.roots: dict[tuple[Role, KmeName, BatchId], changes.RootKept] = {}
        self.queued: dict[tuple[KmeName, RequestId], changes.ControlQueued] = {}
        self.revocations: list[changes.RevocationCarriedOut] = []
        self.receivers: dict[KmeName, Incarnation] = {}
        self.offered: dict[tuple[KmeName, RequestId], tuple[changes.KeysOffered, KeySet]] = {}
        self.kept = {Role.SENDER: KeySet(), Role.RECEIVER: KeySet()}
        self.answered: dict[tuple[KmeName, BatchId], bool] = {}
        self.assigned: list[changes.KeysAssigned] = []
        self.delivered: list[changes.KeysDelivered] = []

    def apply(self, persist: tuple[changes.Change, ...]) -> None:
        for change in persist:
            match change:
                case changes.RootKept(role, peer, batch):
                    self.roots[role, peer, batch] = change
                case changes.RootDropped(role, peer, batch):
                    del self.roots[role, peer, batch]
                case changes.ControlQueued(_, peer, request):
                    self.queued[peer, request] = change
                case changes.ControlDone(peer, request):
                    del self.queued[peer, request]
                case changes.RevocationCarriedOut():
                    self.revocations.append(change)
                case changes.BatchAnswered(sender, batch, ok):
                    self.answered[sender, batch] = ok
                case changes.KeysAssigned():
                    self.assigned.append(change)
                case _:
                    self._apply_keys(change)

    def _apply_keys(self, change: changes.Change) -> None:
        match change:
            case changes.KeysOffered(peer, request, keys):
                self.offered[peer, request] = (change, KeySet(keys))
            case changes.KeysDelivered(role, _, keys):
                self.delivered.append(change)
                self._take(role, keys)
            case changes.KeysVoided(role, _, keys):
                self._take(role, keys)
            case changes.AllKeysVoided(role, _):
                self._take(role, self.kept[role].ranges())
            case changes.KeysRevoked():
                pass  # it erases nothing
            case _:
                raise AssertionError(change)

    def _take(self, role: Role, keys: tuple[KeyRange, ...]) -> None:
        self.kept[role].remove(keys)
        if role is Role.SENDER:
            for _, left in self.offered.values():
                left.remove(keys)

    def stored(self) -> Stored:
        offered = tuple(
            changes.KeysOffered(
                offer.peer,
                offer.request,
                left.ranges(),
                offer.master,
                offer.slaves,
                offer.purpose,
                offer.lifetime,
            )
            for offer, left in self.offered.values()
            if left
        )
        kept = self.kept[Role.RECEIVER]
        held = tuple(
            KeysHeld(sender, batch, kept.of_batch(batch), answered=ok)
            for (sender, batch), ok in self.answered.items()
            if kept.of_batch(batch)
        )
        return Stored(
            roots=tuple(self.roots.values()),
            queued=tuple(self.queued.values()),
            revocations=tuple(self.revocations),
            receivers=tuple(self.receivers.items()),
            offered=offered,
            held=held,
            assigned=tuple(self.assigned),
        )

    def snapshot(self) -> Store:
        """A copy, as a backup or a clone of the disk holds it; secrets are shared, they do not change."""
        twin = Store()
        for name, value in vars(self).items():
            if name == "offered":
                setattr(twin, name, {key: (offer, _copy(left)) for key, (offer, left) in value.items()})
            elif name == "kept":
                setattr(twin, name, {role: _copy(keys) for role, keys in value.items()})
            else:
                setattr(twin, name, copy.copy(value))
        return twin


def _copy(keys: KeySet) -> KeySet:
    return KeySet(keys.ranges())


class End:
    """One running KME."""

    def __init__(self, name: KmeName, start: int, store: Store, world: World) -> None:
        self.name = name
        self.start = start
        self.incarnation = incarnation(name, start)
        self.store = store
        self.world = world
        self.notices: list[PeerNotice] = []
        identity = Identity(REALM, name, self.incarnation)
        self.machine = PeerMessages(identity, Policy(), store.stored(), world.now)
        self.do(Start())
        for hub in world.hubs:
            self.do(traffic.HubUp(hub))

    def do(self, event: PeerEvent) -> list[Letter]:
        """Handle an event: persist, send, notify. The letters that this sent."""
        effects = self.machine.handle(event, self.world.now)
        self.store.apply(effects.persist)
        letters = []
        for outgoing in effects.send:
            sent = outgoing.seal(self.world.random())
            assert isinstance(sent.message, messages.Peer)
            letters.append(Letter(self, sent.hub, sent.message.receiver, sent.message.envelope, sent.token))
        self.world.letters += letters
        self.notices += effects.notify
        self.world.committed(self, effects.persist)
        return letters

    def told(self, kind: type[NoticeT]) -> list[NoticeT]:
        """The notices of one kind, which are forgotten."""
        found: list[NoticeT] = [notice for notice in self.notices if isinstance(notice, kind)]
        self.notices = [notice for notice in self.notices if not isinstance(notice, kind)]
        return found

    @property
    def peer(self) -> KmeName:
        return BOB if self.name == ALICE else ALICE


@dataclass(frozen=True, slots=True, eq=False)
class Letter:
    """An envelope on its way, or kept by whoever sees it."""

    sender: End
    hub: HubName
    receiver: KmeName
    envelope: bytes
    token: object


class World:
    """Alice and Bob with five hubs; time and randomness only move when asked."""

    def __init__(self, hubs: tuple[HubName, ...] = HUBS) -> None:
        self.now = 1000.0
        self.hubs = hubs
        self.letters: list[Letter] = []
        self.on_commit: Callable[[End, tuple[changes.Change, ...]], None] | None = None
        self._randoms = 0
        self._roots = 0
        self.alice = End(ALICE, 0, Store(), self)
        self.bob = End(BOB, 0, Store(), self)

    def random(self) -> bytes:
        self._randoms += 1
        return self._randoms.to_bytes(32, "big")

    def committed(self, end: End, persist: tuple[changes.Change, ...]) -> None:
        if self.on_commit is not None:
            self.on_commit(end, persist)

    # ── what the machines of establishment do ───────────────────────────────────────────────────
    def make_root(self) -> BatchId:
        """A control batch from Alice to Bob is confirmed; its answer waits among the letters."""
        self._roots += 1
        batch = BatchId(self.alice.incarnation, self._roots)
        secret = self._roots.to_bytes(64, "big")
        for end, role in ((self.bob, Role.RECEIVER), (self.alice, Role.SENDER)):
            made = RootMade(role, end.peer, batch, Secret(secret))
            end.store.apply((changes.RootKept(role, end.peer, batch, made.root, sent=False, received=False),))
            end.do(made)
        self.alice.do(AnswerBatch(BOB, batch, ok=True))
        return batch

    def establish(self, count: int, batch: int = 1, *, answered: bool = True) -> None:
        """A traffic batch of ``count`` keys is confirmed, and answered unless told otherwise."""
        keys = (key_range(0, count, batch=batch),)
        self.bob.store.kept[Role.RECEIVER].add(keys)
        self.bob.store.answered[ALICE, batch_id(batch)] = answered
        self.bob.do(KeysHeld(ALICE, batch_id(batch), keys, answered=answered))
        self.alice.store.kept[Role.SENDER].add(keys)
        self.alice.store.receivers[BOB] = self.bob.incarnation
        self.alice.do(IncarnationSeen(BOB, self.bob.incarnation))

    # ── the network ─────────────────────────────────────────────────────────────────────────────
    def carry(self, letter: Letter, hub: HubName | None = None, to: End | None = None) -> list[Letter]:
        """A hub hands a letter over, now or again; what that made the receiver send.

        ``to`` is given where the receiver runs twice.
        """
        if letter in self.letters:
            self.letters.remove(letter)
        forwarded = messages.Forwarded(letter.sender.name, letter.envelope)
        if to is None:
            to = self.alice if letter.receiver == ALICE else self.bob
        return to.do(traffic.FromHub(hub or letter.hub, 1, forwarded))

    def carry_all(self) -> None:
        """Every letter arrives, and so does what they bring about."""
        while self.letters:
            self.carry(self.letters[0])

    def lose_all(self) -> list[Letter]:
        """Every letter is lost; whoever lost them may have kept a copy."""
        lost, self.letters = self.letters, []
        return lost

    # ── time ────────────────────────────────────────────────────────────────────────────────────
    def pass_time(self, seconds: float, *ends: End) -> None:
        """Time passes; every deadline on the way is kept."""
        end = self.now + seconds
        for at in self._deadlines(end, ends or (self.alice, self.bob)):
            self.now = at
        self.now = end

    def _deadlines(self, limit: float, ends: tuple[End, ...]) -> Iterator[float]:
        while True:
            waiting = [(at, one) for one in ends if (at := one.machine.next_deadline) is not None]
            due = [(at, one) for at, one in waiting if at <= limit]
            if not due:
                return
            at, one = min(due, key=lambda pair: pair[0])
            self.now = max(self.now, at)
            yield self.now
            one.do(traffic.Tick())

    # ── shorthands ──────────────────────────────────────────────────────────────────────────────
    def restart_alice(self, store: Store | None = None) -> End:
        """Alice starts again, from her store or from an older one."""
        self.alice = End(ALICE, self.alice.start + 1, store or self.alice.store, self)
        return self.alice

    def restart_bob(self, store: Store | None = None) -> End:
        """Bob starts again, from his store or from an older one."""
        self.bob = End(BOB, self.bob.start + 1, store or self.bob.store, self)
        return self.bob

    def ready(self, count: int = 8) -> World:
        """With a root that both ends use, and one batch."""
        self.make_root()
        self.carry_all()
        self.establish(count)
        return self


def asking(
    number: int = 1,
    keys: tuple[KeyRange, ...] = (key_range(),),
    *,
    slaves: tuple[SaeId, ...] = (SLAVE,),
    purpose: str = "tls",
    lifetime: int = 3600,
    expires_at: float = FAR,
    ahead: bool = False,
) -> AssignKeys:
    return AssignKeys(
        BOB,
        request_id(number),
        keys,
        MASTER,
        slaves,
        purpose=purpose,
        lifetime=lifetime,
        expires_at=expires_at,
        ahead=ahead,
    )


def delivering(number: int = 1, keys: tuple[KeyRange, ...] = (key_range(),)) -> Deliver:
    return Deliver(BOB, request_id(number), keys)
