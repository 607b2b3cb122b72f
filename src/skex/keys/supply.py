"""Keys for requests that the reserve cannot serve: made on demand, for everybody who waits at once.

A request that finds enough keys takes them. One that does not waits; if nobody waited before it, a
batch is begun for it at once. Whoever comes while that batch is under way is served by the next one,
which is as large as all of them need: the busier it gets, the cheaper each key. Requests for the same
kind of keys are served in the order in which they came. It must not know SAE policy or blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from skex.base import codes, limits
from skex.base.errors import ErrorCode, Refused
from skex.base.ids import KmeName
from skex.keys.api import KeyClaim
from skex.keys.engine import Engine, Heard, Offer, most_keys
from skex.keys.handover import fail
from skex.keys.orders import Kind
from skex.keys.reserve import Taken
from skex.protocol.sender import Established
from skex.wire.context import Purpose

Use = Callable[[Taken], Offer]
"""What is done with keys the moment they are taken, so that none is revoked in between."""


@dataclass(eq=False, slots=True)
class _Waiter:
    """One request that waits."""

    number: int
    use: Use
    served: asyncio.Future[Offer]


@dataclass(slots=True)
class _Queue:
    """Those that wait for one kind of keys, in the order in which they came."""

    waiting: dict[_Waiter, None] = field(default_factory=dict)

    @property
    def demand(self) -> int:
        """How many keys all of them need."""
        return sum(waiter.number for waiter in self.waiting)


class Supply:
    """Serves requests from the reserve, and the reserve on demand. ``lifetime`` is in seconds."""

    def __init__(self, engine: Engine, lifetime: int) -> None:
        self._engine = engine
        self._lifetime = lifetime
        self._queues: dict[Kind, _Queue] = {}
        self._latest: dict[KmeName, tuple[KeyClaim, float]] = {}
        engine.subscribe(self._heard)

    async def obtain(self, kind: Kind, number: int, use: Use) -> Offer:
        """Take ``number`` keys and put them to use; returns what ``use`` returned.

        Raises ``Refused``: the code with which a batch was refused, requirements-unmet, queue-full. A
        caller that is cancelled takes nothing, or what it took is given up.
        """
        known = self._queues.get(kind)
        if known is None or not known.waiting:
            taken = self._engine.reserve.take(kind, number, self._engine.now())
            if taken is not None:
                return use(taken)
        self._check_hope(kind)
        waiter = _Waiter(number, use, asyncio.get_running_loop().create_future())
        queue = self._enqueue(kind, waiter)
        try:
            return await waiter.served
        except asyncio.CancelledError:
            if not waiter.served.cancelled() and waiter.served.exception() is None:
                self._engine.give_up(waiter.served.result())
            raise
        finally:
            queue.waiting.pop(waiter, None)

    def _enqueue(self, kind: Kind, waiter: _Waiter) -> _Queue:
        queue = self._queues.get(kind)
        if queue is None:
            queue = self._queues[kind] = _Queue()
            self._engine.spawn(self._work(kind, queue), f"keys for {kind.peer} on demand")
        if len(queue.waiting) >= limits.WAITING_REQUESTS:
            raise Refused(codes.QUEUE_FULL)
        queue.waiting[waiter] = None
        return queue

    def _check_hope(self, kind: Kind) -> None:
        """Make no batch for requirements that the latest batch with this peer did not meet."""
        claim, at = self._latest.get(kind.peer, (None, 0.0))
        if claim is None or kind.admits(claim):
            return
        # Where policy asks for more parties than that batch had, the machines say so, and at no cost.
        if claim.effective_threshold < self._engine.independence_floor(kind.peer).parties:
            return
        if self._engine.now() - at < limits.CLAIM_MEMORY_SECONDS:
            raise Refused(codes.REQUIREMENTS_UNMET)

    # ── on demand ───────────────────────────────────────────────────────────────────────────────
    async def _work(self, kind: Kind, queue: _Queue) -> None:
        """One batch after another while somebody waits."""
        engine = self._engine
        try:
            while queue.waiting:
                comers = tuple(queue.waiting)
                missing = queue.demand - engine.reserve.available(kind, engine.now())
                keys = min(missing if missing > 0 else comers[0].number, most_keys(kind.key_bytes))
                code: ErrorCode | None = None
                try:
                    await engine.establish(
                        kind.peer, keys=keys, key_bytes=kind.key_bytes, lifetime=self._lifetime
                    )
                except Refused as refused:
                    code = refused.code
                self._disappoint(kind, queue, comers, code)
        finally:
            del self._queues[kind]
            for waiter in queue.waiting:
                waiter.served.cancel()  # only where the process ends

    def _disappoint(
        self, kind: Kind, queue: _Queue, comers: tuple[_Waiter, ...], code: ErrorCode | None
    ) -> None:
        """Those for whom a batch was made in vain are told; who came later gets a batch of his own."""
        claim, _ = self._latest.get(kind.peer, (None, 0.0))
        if code is None and (claim is None or kind.admits(claim)):
            return
        for waiter in comers:
            if queue.waiting.pop(waiter, waiter) is None:
                fail(waiter.served, Refused(code or codes.REQUIREMENTS_UNMET))

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────
    def _heard(self, heard: Heard) -> None:
        """New keys, whoever had them made: who waits is served before anybody new."""
        if isinstance(heard, Established) and heard.batch.context.purpose is Purpose.TRAFFIC:
            batch = heard.batch
            self._latest[batch.peer] = (self._engine.reserve.claim_of(batch), self._engine.now())
            for kind, queue in list(self._queues.items()):
                if kind.peer == batch.peer and kind.key_bytes == batch.context.key_bytes:
                    self._serve(kind, queue)

    def _serve(self, kind: Kind, queue: _Queue) -> None:
        for waiter in tuple(queue.waiting):
            if waiter.served.done():
                continue
            taken = self._engine.reserve.take(kind, waiter.number, self._engine.now())
            if taken is None:
                return
            del queue.waiting[waiter]
            waiter.served.set_result(waiter.use(taken))
