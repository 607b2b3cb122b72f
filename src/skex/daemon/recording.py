"""Writes a daemon's audit log while it runs: one writer, off the event loop, never silently behind.

What cannot be recorded ends the daemon (audit-io): nothing goes on without a trace.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from skex.audit.chain import Stamp
from skex.audit.events import CLOCK_ANOMALY, Event, Kind
from skex.audit.fields import Actor
from skex.audit.log import Audit
from skex.base import codes, limits
from skex.base.errors import StoreFault
from skex.base.ids import SaeId
from skex.keys.api import DeliveredKey, KeyService, PairStatus, Requirements
from skex.runtime.auditfile import stamp
from skex.runtime.commit import Committer
from skex.runtime.tasks import Tasks

ResultT = TypeVar("ResultT")

BACKLOG_EVENTS: Final = 65_536
"""Events that wait for the disk; a disk that is further behind does not record any more."""
CROWDED_EVENTS: Final = 1024
"""Beyond it events that others can cause as often as they like are only counted: no flood of theirs may
fill the queue, which would end the daemon."""
_log = logging.getLogger("skex.audit")


class ClockWatch:
    """Notices that the wall clock was set: it runs with the boot clock, or somebody moved it."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def anomaly(self, stamp: Stamp) -> Event | None:
        """The record of a jump since the last look."""
        before, self._offset = self._offset, stamp.wall.timestamp() - stamp.clock
        jump = 0.0 if before is None else self._offset - before
        if abs(jump) < limits.CLOCK_JUMP_SECONDS:
            return None
        return Event(CLOCK_ANOMALY, details={"seconds": round(abs(jump)), "forward": jump > 0})


class Recording:
    """The audit log of one run. ``failed`` hears why nothing can be recorded any more."""

    def __init__(self, audit: Audit, failed: Callable[[BaseException], None]) -> None:
        self._audit = audit
        self._failed = failed
        self._committer: Committer[Event] = Committer(audit)
        self._tasks = Tasks(failed)
        self._held_back: Counter[tuple[Kind, Actor]] = Counter()

    def start(self) -> None:
        """Write what is emitted from now on."""
        self._tasks.start(self._committer.run(), "audit")
        self._tasks.start(self._tend(), "audit clock")

    def emit(self, event: Event) -> None:
        """Record an event soon, in order."""
        if event.kind.sampled and self._committer.backlog >= CROWDED_EVENTS:
            self._held_back[event.kind, event.actor] += 1
        elif self._committer.backlog >= BACKLOG_EVENTS:
            self._failed(StoreFault(codes.AUDIT_IO, f"{BACKLOG_EVENTS} events wait"))
        else:
            self._committer.submit((event,), lambda: None)

    async def durable(self) -> None:
        """Return once everything emitted so far is written. Raises ``StoreFault`` (audit-io)."""
        await self._committer.durable(())

    async def record(self, event: Event) -> None:
        """Record an event, and return once it is written. Raises ``StoreFault`` (audit-io)."""
        self.emit(event)
        await self.durable()

    @asynccontextmanager
    async def on_medium(self) -> AsyncIterator[None]:
        """What is emitted within is written when the block ends, however it ends."""
        try:
            yield
        finally:
            await self.durable()

    async def call(self, work: Callable[[Audit], ResultT]) -> ResultT:
        """Let ``work`` have the log, behind what was emitted so far. Raises what it raises."""
        await self.durable()
        return await self._committer.call(lambda: work(self._audit))

    def set_policy(self, digest: str) -> None:
        """The policy that records name from now on."""
        self._audit.policy = digest

    async def stop(self) -> None:
        """Write what is left, and end."""
        await self._committer.drain()
        if self._held_back:
            await self._tick()
        await self._tasks.stop()
        self._committer.close()

    async def _tend(self) -> None:
        clocks = ClockWatch()
        while True:
            anomaly = clocks.anomaly(stamp())
            if anomaly is not None:
                self.emit(anomaly)
            await asyncio.sleep(limits.AUDIT_SYNC_SECONDS)
            await self._tick()

    async def _tick(self) -> None:
        held_back, self._held_back = self._held_back, Counter()

        def write() -> None:
            if held_back:
                self._audit.hold_back(held_back)
            self._audit.tick()

        await self._committer.call(write)


class RecordedKeys:
    """A ``KeyService`` whose keys go out only once the record of their delivery is on the medium.

    Keys whose record is lost are lost too, as are those of a caller who does not wait for it.
    """

    def __init__(self, keys: KeyService, recorded: Recording) -> None:
        self._keys = keys
        self._recorded = recorded

    def resolve(self, name: str) -> SaeId:
        """See ``KeyService``."""
        return self._keys.resolve(name)

    async def status(self, caller: SaeId, slave: SaeId) -> PairStatus:
        """See ``KeyService``."""
        return await self._keys.status(caller, slave)

    async def take_new(
        self,
        caller: SaeId,
        slaves: Sequence[SaeId],
        number: int,
        key_bytes: int,
        requirements: Requirements,
    ) -> tuple[DeliveredKey, ...]:
        """See ``KeyService``. Raises ``StoreFault`` (audit-io) too."""
        return await self._given(await self._keys.take_new(caller, slaves, number, key_bytes, requirements))

    async def take_by_id(
        self, caller: SaeId, master: SaeId, key_ids: Sequence[uuid.UUID]
    ) -> tuple[DeliveredKey, ...]:
        """See ``KeyService``. Raises ``StoreFault`` (audit-io) too."""
        return await self._given(await self._keys.take_by_id(caller, master, key_ids))

    async def _given(self, keys: tuple[DeliveredKey, ...]) -> tuple[DeliveredKey, ...]:
        try:
            await self._recorded.durable()
        except BaseException:
            for key in keys:
                key.key.wipe()
            _log.error("delivered keys are lost", extra={"keys": len(keys)})
            raise
        return keys
