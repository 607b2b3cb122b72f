"""Drives a KME's machines: one event in, its effects carried out in order, its notices heard.

Requests wait here as futures until the machines tell how they ended. Everything that touches the
world (store, links, clock, entropy) is a port. It must not know SAE policy, doors or the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from skex.base import codes, limits
from skex.base.errors import ErrorCode, Refused
from skex.base.ids import KmeName, RequestId, SaeId
from skex.base.secret import Secret
from skex.keys.reserve import Reserve, Taken
from skex.protocol import assign, kme, peer, receiver, sender
from skex.protocol.changes import Batch, BatchDropped, Change, Role
from skex.protocol.envelopes import Outgoing
from skex.protocol.reconstruct import Outcome, Search
from skex.protocol.traffic import SendToHub, Tick
from skex.wire.context import Purpose
from skex.wire.peer import KeyRange

ROOT_BYTES = 64
"""The one key of a control batch: the root of peer messages."""


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

    def send(self, send: SendToHub) -> None:
        """Hand a message to a link; a link that is down or busy loses it."""

    def search(self, search: Search, done: Callable[[Outcome], None]) -> None:
        """Run a reconstruction off the event loop."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Cancellable:
        """Call back at an instant of ``now``'s clock."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something in the background; its failure is reported."""

    def threshold_floor(self, peer_name: KmeName) -> int:
        """The least threshold that policy accepts with a peer."""

    def heard(self, notice: kme.KmeNotice) -> None:
        """For audit, metrics and alarms; called for every notice, after it is durable."""


@dataclass(slots=True)
class _Assignment:
    """An ASSIGN that somebody waits for, or that is deliverable."""

    taken: Taken
    ready: asyncio.Future[assign.Deliverable]
    delivery: asyncio.Future[tuple[KeyRange, ...]] | None = None


class Engine:
    """One KME's machines, from a start to its end."""

    def __init__(self, core: kme.KmeCore, reserve: Reserve, ports: EnginePorts) -> None:
        self._core = core
        self._ports = ports
        self.reserve = reserve
        self._establishing: dict[object, asyncio.Future[sender.Established]] = {}
        self._assignments: dict[RequestId, _Assignment] = {}
        self._rooting: set[KmeName] = set()
        self._timer: Cancellable | None = None

    @property
    def core(self) -> kme.KmeCore:
        """The machines, for their queries."""
        return self._core

    def now(self) -> float:
        """Seconds on the boot-time clock."""
        return self._ports.now()

    def start(self) -> None:
        """What a start does before any event; once."""
        self._carry_out(self._core.start(self._ports.now()))
        self._set_timer()

    def handle(self, event: kme.KmeEvent) -> None:
        """Hand one event to the machines and carry out what follows."""
        self._carry_out(self._core.handle(event, self._ports.now()))
        self._set_timer()

    # ── requests ────────────────────────────────────────────────────────────────────────────────
    async def establish(self, peer_name: KmeName, *, keys: int, key_bytes: int, lifetime: int) -> Batch:
        """Make a batch of traffic keys; they are in the reserve once this returns.

        Raises ``Refused`` with the machines' code.
        """
        return await self._establish(
            peer_name, keys=keys, key_bytes=key_bytes, lifetime=lifetime, purpose=Purpose.TRAFFIC
        )

    async def _establish(
        self, peer_name: KmeName, *, keys: int, key_bytes: int, lifetime: int, purpose: Purpose
    ) -> Batch:
        token = object()
        waiting: asyncio.Future[sender.Established] = asyncio.get_running_loop().create_future()
        self._establishing[token] = waiting
        event = sender.Establish(
            peer=peer_name,
            keys=keys,
            key_bytes=key_bytes,
            purpose=purpose,
            lifetime=lifetime,
            group=None,
            threshold_floor=self._ports.threshold_floor(peer_name),
            entropy=self._ports.secret(self._core.entropy_bytes(peer_name, keys, key_bytes)),
            token=token,
        )
        try:
            self.handle(event)
            return (await waiting).batch
        finally:
            self._establishing.pop(token, None)

    async def root(self, peer_name: KmeName) -> None:
        """Return once peer messages can be sealed to a peer. Raises ``Refused``."""
        if not self._core.peer_messages.has_root(Role.SENDER, peer_name):
            await self._make_root(peer_name)

    async def assign_keys(
        self,
        peer_name: KmeName,
        taken: Taken,
        *,
        master: SaeId,
        slaves: tuple[SaeId, ...],
        purpose: str,
        lifetime: int,
        ahead: bool,
    ) -> assign.Deliverable:
        """Offer keys that left the reserve; returns once they may be delivered here.

        Raises ``Refused`` with the machines' code; keys that were not offered are in the reserve again.
        """
        request = RequestId(self._ports.random(16))
        ready: asyncio.Future[assign.Deliverable] = asyncio.get_running_loop().create_future()
        self._assignments[request] = _Assignment(taken, ready)
        self.handle(
            assign.AssignKeys(
                peer=peer_name,
                request=request,
                keys=taken.keys,
                master=master,
                slaves=slaves,
                purpose=purpose,
                lifetime=lifetime,
                expires_at=taken.expires_at,
                ahead=ahead,
            )
        )
        return await ready

    async def deliver(
        self, peer_name: KmeName, request: RequestId, keys: tuple[KeyRange, ...]
    ) -> tuple[Secret, ...]:
        """The bytes of assigned keys, once their delivery is durable; none of them ever again.

        Raises ``Refused`` with the machines' code; nothing is delivered then.
        """
        secrets = await self._ports.read_keys(Role.SENDER, peer_name, keys)
        assignment = self._assignments.get(request)
        if assignment is None:
            _wipe(secrets)
            raise Refused(codes.KEY_NOT_HELD)
        delivery: asyncio.Future[tuple[KeyRange, ...]] = asyncio.get_running_loop().create_future()
        assignment.delivery = delivery
        self.handle(assign.Deliver(peer_name, request, keys))
        try:
            await delivery
        except Refused:
            _wipe(secrets)
            raise
        return secrets

    def release(self, peer_name: KmeName, request: RequestId) -> None:
        """Whatever is left of an assignment is not wanted any more."""
        if request in self._assignments:
            self.handle(assign.Release(peer_name, request))

    def expire(self) -> None:
        """Erase what lay in the reserve for too long."""
        over = self.reserve.expired(self._ports.now())
        changes = tuple(BatchDropped(Role.SENDER, batch.peer, batch.batch) for batch in over)
        if changes:
            self._ports.submit(changes, lambda: None)

    # ── carrying out ────────────────────────────────────────────────────────────────────────────
    def _carry_out(self, effects: kme.KmeEffects) -> None:
        if not effects.empty:
            self._ports.submit(effects.persist, lambda: self._release(effects))

    def _release(self, effects: kme.KmeEffects) -> None:
        """The set is durable: send, then notify."""
        for send in effects.send:
            self._ports.send(send.seal(self._ports.random(32)) if isinstance(send, Outgoing) else send)
        for notice in effects.notify:
            self._hear(notice)
            self._ports.heard(notice)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._core.next_deadline
        self._timer = None if deadline is None else self._ports.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self.handle(Tick())

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────
    def _hear(self, notice: kme.KmeNotice) -> None:
        match notice:
            case sender.Established():
                self._established(notice)
            case sender.NotEstablished(token, _, _, code):
                _fail(self._establishing.pop(token, None), code)
            case receiver.SearchNeeded(number, search):
                self._ports.search(search, lambda outcome: self.handle(receiver.Searched(number, outcome)))
            case peer.RootWanted(name):
                self._want_root(name)
            case peer.Revoked(Role.SENDER, name, keys):
                self.reserve.drop(name, keys)
            case (
                assign.Deliverable()
                | assign.Delivered()
                | assign.NotDelivered()
                | assign.NotOffered()
                | assign.AssignmentEnded()
            ):
                self._assignment(notice)
            case _:
                pass

    def _established(self, notice: sender.Established) -> None:
        batch = notice.batch
        waiting = self._establishing.pop(notice.token, None)
        if batch.context.purpose is Purpose.TRAFFIC:
            self.reserve.add(batch, notice.made_at + batch.context.lifetime)
        if waiting is not None and not waiting.done():
            waiting.set_result(notice)

    def _assignment(self, notice: assign.AssignerNotice) -> None:
        assignment = self._assignments.get(notice.request)
        if assignment is None:
            return
        match notice:
            case assign.Deliverable():
                if not assignment.ready.done():
                    assignment.ready.set_result(notice)
            case assign.Delivered(_, _, keys):
                if assignment.delivery is not None and not assignment.delivery.done():
                    assignment.delivery.set_result(keys)
            case assign.NotDelivered(_, _, _, code):
                _fail(assignment.delivery, code)
            case assign.NotOffered(name, request, code):
                self.reserve.give_back(name, assignment.taken)
                self._end(request, code)
            case assign.AssignmentEnded(_, request, _, code):
                self._end(request, code)

    def _end(self, request: RequestId, code: ErrorCode) -> None:
        assignment = self._assignments.pop(request)
        _fail(assignment.ready, code)
        _fail(assignment.delivery, code)

    # ── roots ───────────────────────────────────────────────────────────────────────────────────
    def _want_root(self, peer_name: KmeName) -> None:
        """Make a control batch in the background; the machines ask again if it fails."""
        if peer_name not in self._rooting:
            self._ports.spawn(self._try_root(peer_name), f"root for {peer_name}")

    async def _try_root(self, peer_name: KmeName) -> None:
        with contextlib.suppress(Refused):  # ``NotEstablished`` was heard, with its code
            await self._make_root(peer_name)

    async def _make_root(self, peer_name: KmeName) -> None:
        self._rooting.add(peer_name)
        try:
            await self._establish(
                peer_name,
                keys=1,
                key_bytes=ROOT_BYTES,
                lifetime=limits.ROOT_SECONDS,
                purpose=Purpose.CONTROL,
            )
        finally:
            self._rooting.discard(peer_name)


def _fail(waiting: asyncio.Future[Any] | None, code: ErrorCode) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_exception(Refused(code))


def _wipe(secrets: Sequence[Secret]) -> None:
    for secret in secrets:
        secret.wipe()
