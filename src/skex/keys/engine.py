"""Drives a KME's machines: one event in, its effects carried out in order, its notices heard.

Requests wait here as futures until the machines tell how they ended. What a decision takes away is
taken away at once, before it is durable, so that nothing is promised of it meanwhile; what it brings
is there only once it is durable. Everything that touches the world (store, links, clock, entropy) is a
port. It must not know SAE policy, doors or the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from skex.base import codes, limits
from skex.base.errors import Refused
from skex.base.ids import BatchId, KmeName, RequestId
from skex.base.secret import Secret
from skex.keys.handover import Wanted, abandon, fail
from skex.keys.held import Claimed, HeldKeys
from skex.keys.orders import Pair
from skex.keys.reserve import Reserve, Taken
from skex.protocol import assign, assignee, kme, outbox, peer, receiver, rollback, sender, traffic
from skex.protocol.changes import (
    BatchDropped,
    Change,
    KeysDelivered,
    KeysResumed,
    KeysSuspended,
    KeysVoided,
    Role,
    SuspendReason,
)
from skex.protocol.envelopes import Outgoing
from skex.protocol.keysets import KeySet, messages_of
from skex.protocol.reconstruct import Outcome, Search
from skex.wire.context import KEY_PREFIX_BYTES, Purpose
from skex.wire.independence import Floor
from skex.wire.peer import KeyRange, RevokeReason

ROOT_BYTES = 64
"""The one key of a control batch: the root of peer messages."""

_NOT_THERE = (codes.KEY_NOT_HELD, codes.KEY_ASSIGNED)
"""The peer does not have these keys for us: no key of their batches is worth another try."""


class Cancellable(Protocol):
    """A call that waits for its time."""

    def cancel(self) -> None:
        """Do not make it."""


class EnginePorts(Protocol):
    """What the engine needs of the daemon."""

    def now(self) -> float:
        """Seconds on the boot-time clock."""

    def random(self, count: int) -> bytes:
        """Fresh bytes of the operating system, for ids and nonces."""

    def secret(self, count: int) -> Secret:
        """Fresh bytes of the operating system, for key material."""

    def submit(self, changes: Sequence[Change], then: Callable[[], None]) -> None:
        """Make a set durable, then call ``then``; all calls in the order of the submissions."""

    async def read_keys(self, role: Role, peer: KmeName, keys: Sequence[KeyRange]) -> tuple[Secret, ...]:
        """The bytes of keys, one secret each, in order. Raises ``Refused`` (key-not-held)."""

    async def emptied(self) -> Sequence[BatchDropped]:
        """Rows of batches that this KME made which hold no key and whose lifetime is over."""

    def send(self, send: traffic.SendToHub) -> None:
        """Hand a message to a link; a link that is down or busy loses it."""

    def search(self, search: Search, done: Callable[[Outcome], None]) -> None:
        """Run a reconstruction off the event loop, then wipe the search."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Cancellable:
        """Call back at an instant of ``now``'s clock."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something in the background, referenced until it ends; its failure is reported."""

    def threshold_floor(self, peer_name: KmeName) -> int:
        """The least threshold that policy accepts with a peer."""

    def may_establish(self, peer_name: KmeName) -> bool:
        """Whether policy lets keys be made for a peer."""

    def independence_floor(self, peer_name: KmeName) -> Floor:
        """How many independent parties policy demands behind the hubs of batches for a peer."""

    def heard(self, notice: kme.KmeNotice) -> None:
        """For audit, metrics and alarms; called for every notice, after it is durable.

        The keys of a batch are wiped afterwards.
        """


Heard: TypeAlias = kme.KmeNotice | kme.LinkProved


@dataclass(frozen=True, slots=True)
class Offer:
    """An ASSIGN under way. ``ready`` ends when its keys may be delivered, or with why they may not."""

    request: RequestId
    taken: Taken
    ready: asyncio.Future[None]


@dataclass(slots=True)
class _Assignment:
    """An ASSIGN whose keys are not all delivered. ``ready`` is None where nobody waits for it."""

    taken: Taken
    left: int
    ready: asyncio.Future[None] | None


class Engine:
    """One KME's machines, from a start to its end.

    ``reserve`` and ``held`` are filled with what the store kept; from here on they follow what is heard.
    """

    def __init__(self, core: kme.KmeCore, reserve: Reserve, held: HeldKeys, ports: EnginePorts) -> None:
        self._core = core
        self._ports = ports
        self.reserve = reserve
        self.held = held
        self._listeners: list[Callable[[Heard], None]] = []
        self._establishing: dict[object, asyncio.Future[None]] = {}
        self._assignments: dict[RequestId, _Assignment] = {}
        self._delivering: dict[tuple[RequestId, tuple[KeyRange, ...]], asyncio.Future[None]] = {}
        self._rooting: dict[KmeName, list[asyncio.Future[None]]] = {}
        self._arrivals = asyncio.Event()
        self._timer: Cancellable | None = None
        self._timer_at: float | None = None

    @property
    def core(self) -> kme.KmeCore:
        """The machines, for their queries."""
        return self._core

    def now(self) -> float:
        """Seconds on the boot-time clock."""
        return self._ports.now()

    def random(self, count: int) -> bytes:
        """Fresh bytes, for ids and for spreading load."""
        return self._ports.random(count)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something in the background."""
        self._ports.spawn(work, name)

    def subscribe(self, listener: Callable[[Heard], None]) -> None:
        """Call ``listener`` for every durable notice and every proved link, after the engine itself."""
        self._listeners.append(listener)

    # ── from a start to its end ─────────────────────────────────────────────────────────────────
    def start(self) -> None:
        """What a start does before any event; once."""
        self._carry_out(self._core.start(self._ports.now()))

    def stop(self) -> None:
        """No more timers. What was submitted still becomes durable."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_at = None

    def handle(self, event: kme.KmeEvent) -> None:
        """Hand one event to the machines and carry out what follows."""
        self._carry_out(self._core.handle(event, self._ports.now()))
        if isinstance(event, kme.LinkProved):
            self._tell(event)

    def _carry_out(self, effects: kme.KmeEffects) -> None:
        for notice in effects.notify:
            self._take_away(notice)
        if not effects.empty:
            self._ports.submit(effects.persist, lambda: self._release(effects))
        self._set_timer()

    def _release(self, effects: kme.KmeEffects) -> None:
        """The set is durable: send, then notify."""
        for send in effects.send:
            self._ports.send(send.seal(self._ports.random(32)) if isinstance(send, Outgoing) else send)
        for notice in effects.notify:
            self._hear(notice)
            self._tell(notice)
            self._ports.heard(notice)
            if isinstance(notice, sender.Established | receiver.BatchAccepted):
                notice.batch.keys.wipe()  # the store has them

    def _tell(self, heard: Heard) -> None:
        for listener in self._listeners:
            listener(heard)

    def _set_timer(self) -> None:
        deadline = self._core.next_deadline
        if deadline == self._timer_at:
            return
        self.stop()
        if deadline is not None:
            self._timer = self._ports.call_at(deadline, self._tick)
            self._timer_at = deadline

    def _tick(self) -> None:
        self._timer = self._timer_at = None
        self.handle(traffic.Tick())

    async def commit(self, changes: Sequence[Change]) -> None:
        """Return once changes that no machine decided are durable."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ports.submit(changes, lambda: _finish(done))
        await done

    # ── establishing ────────────────────────────────────────────────────────────────────────────
    async def establish(self, peer_name: KmeName, *, keys: int, key_bytes: int, lifetime: int) -> None:
        """Make a batch of traffic keys; they are in the reserve once this returns.

        Raises ``Refused``: not-authorised where policy forbids it, otherwise with the machines' code.
        """
        if not self.may_establish(peer_name):
            raise Refused(codes.NOT_AUTHORISED)
        await self._revocation_heard(peer_name)
        await self._establish(
            peer_name, keys=keys, key_bytes=key_bytes, lifetime=lifetime, purpose=Purpose.TRAFFIC
        )

    def may_establish(self, peer_name: KmeName) -> bool:
        """Whether policy lets keys be made for a peer."""
        return self._ports.may_establish(peer_name)

    def independence_floor(self, peer_name: KmeName) -> Floor:
        """How many independent parties policy demands behind the hubs of batches for a peer."""
        return self._ports.independence_floor(peer_name)

    async def _revocation_heard(self, peer_name: KmeName) -> None:
        """Wait, no longer than a batch may take, until a revocation of all earlier keys has arrived."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.ESTABLISH_SECONDS):
                while self._core.peer_messages.is_revoking_all(Role.SENDER, peer_name):
                    self._arrivals.clear()
                    await self._arrivals.wait()

    async def _establish(
        self, peer_name: KmeName, *, keys: int, key_bytes: int, lifetime: int, purpose: Purpose
    ) -> None:
        token = object()
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._establishing[token] = waiting
        event = sender.Establish(
            peer=peer_name,
            keys=keys,
            key_bytes=key_bytes,
            purpose=purpose,
            lifetime=lifetime,
            group=None,
            threshold_floor=self._ports.threshold_floor(peer_name),
            independence=self.independence_floor(peer_name),
            entropy=self._ports.secret(self._core.entropy_bytes(peer_name, keys, key_bytes)),
            token=token,
        )
        try:
            self.handle(event)
            await waiting
        finally:
            self._establishing.pop(token, None)

    # ── roots ───────────────────────────────────────────────────────────────────────────────────
    async def root(self, peer_name: KmeName, *, anew: bool = False) -> None:
        """Return once peer messages can be sealed to a peer, under another root if ``anew``.

        Raises ``Refused``.
        """
        if anew or not self._core.peer_messages.has_root(Role.SENDER, peer_name):
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._want_root(peer_name)
            self._rooting[peer_name].append(waiting)
            await waiting

    def _want_root(self, peer_name: KmeName) -> None:
        """Make a control batch in the background, one at a time; the machines ask again if it fails."""
        if peer_name not in self._rooting:
            self._rooting[peer_name] = []
            self.spawn(self._make_root(peer_name), f"root for {peer_name}")

    async def _make_root(self, peer_name: KmeName) -> None:
        try:
            await self._establish(
                peer_name,
                keys=1,
                key_bytes=ROOT_BYTES,
                lifetime=limits.ROOT_SECONDS,
                purpose=Purpose.CONTROL,
            )
        except Refused as refused:
            for waiting in self._rooting[peer_name]:
                fail(waiting, Refused(refused.code))
        else:
            for waiting in self._rooting[peer_name]:
                _finish(waiting)
        finally:
            for waiting in self._rooting.pop(peer_name):
                waiting.cancel()  # only where the process ends: everybody else was told

    # ── assigning and delivering as master's KME ────────────────────────────────────────────────
    def offer(self, pair: Pair, taken: Taken) -> Offer:
        """Offer keys that left the reserve just now; whoever asked waits for ``ready``, or gives up.

        To be called before anything is awaited since they were taken: they may be revoked meanwhile.
        """
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return Offer(self._assign(pair, taken, ready), taken, ready)

    def offer_ahead(self, pair: Pair, taken: Taken) -> RequestId | None:
        """Offer a block for requests to come; the notices tell what becomes of it.

        None if it was refused at once; its keys are in the reserve again.
        """
        request = self._assign(pair, taken, None)
        return request if request in self._assignments else None

    def _assign(self, pair: Pair, taken: Taken, ready: asyncio.Future[None] | None) -> RequestId:
        request = RequestId(self._ports.random(16))
        self._assignments[request] = _Assignment(taken, taken.count, ready)
        self.handle(
            assign.AssignKeys(
                peer=taken.peer,
                request=request,
                keys=taken.keys,
                master=pair.master,
                slaves=pair.slaves,
                purpose=pair.purpose,
                lifetime=pair.lifetime,
                expires_at=min(taken.expires_at, self._ports.now() + pair.lifetime),
                ahead=ready is None,
            )
        )
        return request

    def give_up(self, offer: Offer) -> None:
        """Nobody waits for an offer any more: its keys are void."""
        abandon(offer.ready)
        self.release(offer.taken.peer, offer.request)

    def release(self, peer_name: KmeName, request: RequestId) -> None:
        """Whatever is left of an assignment is not wanted any more."""
        if request in self._assignments:
            self.handle(assign.Release(peer_name, request))

    async def deliver(
        self, peer_name: KmeName, request: RequestId, keys: tuple[KeyRange, ...], wanted: Wanted
    ) -> tuple[Secret, ...]:
        """The bytes of assigned keys, once their delivery is durable; none of them ever again.

        Raises ``Refused``, with nothing delivered: the machines' code, assign-released if they are not
        ``wanted`` any more, not-ready if this KME was found to be rolled back.
        """
        with _wiped_unless_given(await self._ports.read_keys(Role.SENDER, peer_name, keys)) as secrets:
            self._check_wanted(wanted)
            delivered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._delivering[request, keys] = delivered
            self.handle(assign.Deliver(peer_name, request, keys))
            await delivered
        return secrets

    def _check_wanted(self, wanted: Wanted) -> None:
        """The last look before a delivery is committed."""
        if not wanted():
            raise Refused(codes.ASSIGN_RELEASED)
        if not self._core.may_deliver:
            raise Refused(codes.NOT_READY)

    # ── delivering as slave's KME ───────────────────────────────────────────────────────────────
    async def hand_out(self, claimed: Claimed, wanted: Wanted) -> tuple[Secret, ...]:
        """The bytes of keys that a slave claimed, once their delivery is durable; never again to it.

        Raises ``Refused`` (key-not-held, assign-released, not-ready), with nothing delivered and the
        claim given up.
        """
        sender_name = claimed.sender
        try:
            read = await self._ports.read_keys(Role.RECEIVER, sender_name, claimed.ranges)
            with _wiped_unless_given(read) as secrets:
                self._check_wanted(wanted)
                self.held.check(claimed, self._core.peer_messages.assignee.may_take)
        except BaseException:
            self.held.unclaim(claimed)
            raise
        # From here on it counts as delivered: the commit may happen even if nobody sees it end.
        keys = KeySet(claimed.ranges).ranges()
        with _wiped_unless_given(secrets):
            await self.commit((KeysDelivered(Role.RECEIVER, sender_name, keys, claimed.caller),))
        gone = self.held.settle(claimed)
        if gone:
            self.handle(assignee.KeysGone(sender_name, gone))
        return secrets

    # ── taking back ─────────────────────────────────────────────────────────────────────────────
    def drain(self, peer_name: KmeName) -> int:
        """Revoke every free key of a peer's reserve, at both ends; how many there were."""
        keys = self.reserve.free(peer_name)
        self.revoke(Role.SENDER, peer_name, RevokeReason.SUPERSEDED, keys)
        return sum(one.count for one in keys)

    def revoke_everything(self) -> None:
        """Revoke every undelivered key, of both roles, at both ends."""
        mine = {assignment.taken.peer for assignment in self._assignments.values()}
        for name in sorted(mine.union(self.reserve.peers)):
            self.revoke(Role.SENDER, name, RevokeReason.ROLLBACK, None)
        for name in self.held.senders:
            self.revoke(Role.RECEIVER, name, RevokeReason.ROLLBACK, None)

    def revoke(
        self, role: Role, name: KmeName, reason: RevokeReason, keys: Sequence[KeyRange] | None
    ) -> None:
        """Revoke keys (None: all of the pair) at both ends; who has one already is told by a notice.

        ``keys`` ascend and do not touch. The peer hears of it as soon as it can be reached.
        """
        parts = (None,) if keys is None else messages_of(keys)
        for part in parts:
            self.handle(peer.RevokeKeys(role, name, RequestId(self._ports.random(16)), reason, part))

    async def suspend(
        self, role: Role, name: KmeName, reason: SuspendReason, keys: tuple[KeyRange, ...] | None
    ) -> None:
        """Let keys (None: the pair, also keys to come) rest here; at once, and durable when it returns.

        Keys that this KME is about to deliver as their sender are given up: others take their place.
        """
        self.reserve.suspensions.suspend(role, name, keys)
        if role is Role.SENDER:
            doomed = None if keys is None else KeySet(keys)
            for request, assignment in list(self._assignments.items()):
                taken = assignment.taken
                if taken.peer == name and (doomed is None or doomed.common(taken.keys)):
                    self.release(name, request)
        await self.commit((KeysSuspended(role, name, keys, reason),))

    async def resume(self, role: Role, name: KmeName, keys: tuple[KeyRange, ...] | None) -> None:
        """End a suspension, once that is durable; None: every one of the pair."""
        await self.commit((KeysResumed(role, name, keys),))
        self.reserve.suspensions.resume(role, name, keys)

    def expire(self) -> None:
        """Erase what is over: batches that lay in the reserve, and assignments that nobody fetched.

        What lay in the reserve for longer than it may is revoked at both ends, for others to replace it.
        """
        now = self._ports.now()
        for name, aged in self.reserve.aged(now):
            self.revoke(Role.SENDER, name, RevokeReason.SUPERSEDED, aged)
        over = self.reserve.expired(now)
        if over:
            dropped = tuple(BatchDropped(Role.SENDER, name, batch) for name, batch in over)
            self._ports.submit(dropped, _nothing)
        for name, keys in self.held.overdue(now):
            self._ports.submit((KeysVoided(Role.RECEIVER, name, keys),), _nothing)
            self.held.gone(name, keys)
            self.handle(assignee.KeysGone(name, keys))

    async def tidy(self) -> None:
        """Drop the rows of batches that hold no key any more and answer no CONFIRM either."""
        emptied = await self._ports.emptied()
        if emptied:
            await self.commit(emptied)

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────
    def _take_away(self, notice: kme.KmeNotice) -> None:
        """What a decision ends has ended now."""
        match notice:
            case peer.Revoked(Role.SENDER, name, keys):
                self.reserve.drop(name, keys)
            case assign.NotOffered(_, request, code):
                # Nothing was changed: at once, or keys that are revoked next would come back.
                assignment = self._assignments.pop(request)
                self.reserve.give_back(assignment.taken)
                fail(assignment.ready, Refused(code))
            case _:
                pass

    def _hear(self, notice: kme.KmeNotice) -> None:
        match notice:
            case sender.Established():
                self._established(notice)
            case sender.NotEstablished(token, _, _, code):
                fail(self._establishing.pop(token, None), Refused(code))
            case outbox.ControlArrived():
                self._arrivals.set()
            case receiver.SearchNeeded(number, search):
                self._ports.search(search, lambda outcome: self.handle(receiver.Searched(number, outcome)))
            case peer.RootWanted(name):
                self._want_root(name)
            case rollback.RevokeEverything():
                self.revoke_everything()
            case assign.Deliverable() | assign.Delivered() | assign.NotDelivered() | assign.AssignmentEnded():
                self._assignment(notice)
            case _:
                self._hear_as_receiver(notice)

    def _hear_as_receiver(self, notice: kme.KmeNotice) -> None:
        held = self.held
        match notice:
            case receiver.BatchAccepted(batch) if batch.context.purpose is Purpose.TRAFFIC:
                held.accepted(batch)
            case receiver.BatchSettled(name, batch_id, ok=False):
                held.gone(name, _whole(batch_id))
            case receiver.BatchExpired(name, batch_id):
                held.gone(name, _whole(batch_id))
            case assignee.KeysRecorded(assigned):
                held.assigned(assigned, self._ports.now())
            case assignee.KeysLost(name, keys) | peer.Revoked(Role.RECEIVER, name, keys):
                held.gone(name, keys)
            case _:
                pass

    def _established(self, notice: sender.Established) -> None:
        batch = notice.batch
        if batch.context.purpose is Purpose.TRAFFIC:
            self.reserve.add(batch, notice.made_at + batch.context.lifetime)
        _finish(self._establishing.pop(notice.token, None))

    def _assignment(
        self, notice: assign.Deliverable | assign.Delivered | assign.NotDelivered | assign.AssignmentEnded
    ) -> None:
        request = notice.request
        match notice:
            case assign.Deliverable():
                _finish(self._assignments[request].ready)
            case assign.Delivered(_, _, keys):
                _finish(self._delivering.pop((request, keys)))
                assignment = self._assignments[request]
                assignment.left -= sum(one.count for one in keys)
                if not assignment.left:
                    del self._assignments[request]
            case assign.NotDelivered(_, _, keys, code):
                fail(self._delivering.pop((request, keys)), Refused(code))
            case _:
                self._ended(notice)

    def _ended(self, ended: assign.AssignmentEnded) -> None:
        assignment = self._assignments.pop(ended.request)
        fail(assignment.ready, Refused(ended.code))
        if ended.code in _NOT_THERE:
            keys = self.reserve.free(ended.peer, [one.batch for one in assignment.taken.keys])
            self.reserve.drop(ended.peer, keys)
            self._ports.submit((KeysVoided(Role.SENDER, ended.peer, keys),), _nothing)


def most_keys(key_bytes: int) -> int:
    """How many keys of a length one batch holds at most."""
    return min(limits.BATCH_KEYS, (limits.BATCH_SECRET_BYTES - KEY_PREFIX_BYTES) // key_bytes)


def _whole(batch: BatchId) -> tuple[KeyRange, ...]:
    """Whatever is left of a batch; keys beyond it do not matter."""
    return (KeyRange(batch, 0, limits.BATCH_KEYS),)


def _finish(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


def _nothing() -> None:
    """Nobody waits for it."""


@contextlib.contextmanager
def _wiped_unless_given(secrets: tuple[Secret, ...]) -> Iterator[tuple[Secret, ...]]:
    """Wipe secrets that nobody gets, because what follows failed or was cancelled."""
    try:
        yield secrets
    except BaseException:
        wipe(secrets)
        raise


def wipe(secrets: Iterable[Secret]) -> None:
    """Wipe them all."""
    for secret in secrets:
        secret.wipe()
