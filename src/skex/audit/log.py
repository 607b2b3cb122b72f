"""The one way into the audit log.

``emit`` returns once the records are with the writer, and, where one of them is important, on the
medium: whoever emits before acting never acts without a trace. ``Audit`` is used from one thread at a
time; a daemon gives it to a ``Committer``, which turns many waiting events into one ``emit``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from skex.audit.chain import Head, Record, Stamp
from skex.audit.events import EVENTS_COUNTED, Event, Kind, KindWord
from skex.audit.fields import Actor
from skex.audit.sampling import Counted, Sampler
from skex.base import codes, limits
from skex.base.errors import StoreFault


class Writer(Protocol):
    """Where records go. Both raise ``StoreFault`` (audit-io)."""

    def append(self, lines: bytes, sequence: int) -> None:
        """Append whole lines, the first of which has this number."""
        ...

    def sync(self) -> None:
        """Return once everything appended is on the medium."""
        ...

    def close(self) -> None:
        """Let another writer have the log; raises nothing."""
        ...


class Audit:
    """Appends events behind ``head``. ``policy`` is the digest of the policy in force, in hexadecimal."""

    def __init__(
        self,
        writer: Writer,
        head: Head,
        stamp: Callable[[], Stamp],
        sampler: Sampler | None = None,
        policy: str = "",
    ) -> None:
        self.policy = policy
        self._writer = writer
        self._head = head
        self._stamp = stamp
        self._sampler = Sampler() if sampler is None else sampler
        self._unsynced_since: float | None = None
        self._failed = False

    @property
    def head(self) -> Head:
        """The last record: kept elsewhere, it shows later whether the log's end was cut off."""
        return self._head

    @property
    def next_deadline(self) -> float | None:
        """When ``tick`` is due, on the boot clock."""
        unsynced = self._unsynced_since
        deadlines = (
            self._sampler.next_deadline,
            None if unsynced is None else unsynced + limits.AUDIT_SYNC_SECONDS,
        )
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def emit(self, *events: Event) -> Head:
        """Record what happened, in this order. Returns the last record.

        Raises ``StoreFault`` (audit-io); nothing is recorded after that until the log is opened again.
        """
        stamp = self._stamp()
        summaries = [_summary(one) for one in self._sampler.ended(stamp.clock)]
        passed = [event for event in events if self._passes(event, stamp.clock)]
        return self._record([*summaries, *passed], stamp)

    def commit(self, sets: Sequence[Sequence[Event]]) -> None:
        """``emit`` for a ``Committer``, whose changes are events."""
        self.emit(*(event for one in sets for event in one))

    def hold_back(self, counts: Mapping[tuple[Kind, Actor], int]) -> None:
        """Count events of sampled kinds that nobody had the time to hand in one by one."""
        now = self._stamp().clock
        for (kind, actor), number in counts.items():
            self._sampler.hold_back(kind, actor, number, now)

    def tick(self) -> None:
        """Write what was counted, and sync what is due. Raises ``StoreFault`` (audit-io)."""
        self.emit()
        since = self._unsynced_since
        if since is not None and self._stamp().clock >= since + limits.AUDIT_SYNC_SECONDS:
            self._sync()

    def close(self) -> Head:
        """Write what was counted so far, sync, and give the log up. Raises ``StoreFault`` (audit-io)."""
        stamp = self._stamp()
        try:
            head = self._record([_summary(one) for one in self._sampler.close(stamp.clock)], stamp)
            self._sync()
        finally:
            self._writer.close()
            self._failed = True
        return head

    def _passes(self, event: Event, now: float) -> bool:
        return not event.kind.sampled or self._sampler.offer(event.kind, event.actor, now)

    def _record(self, events: Iterable[Event], stamp: Stamp) -> Head:
        if self._failed:
            raise StoreFault(codes.AUDIT_IO, "an earlier write failed")
        events = tuple(events)
        head, lines = self._head, []
        for event in events:
            record = Record.of(event, stamp, self.policy, head)
            lines.append(record.to_line() + b"\n")
            head = record.head()
        if lines:
            self._guarded(lambda: self._writer.append(b"".join(lines), self._head.sequence + 1))
            self._head = head
            if self._unsynced_since is None:
                self._unsynced_since = stamp.clock
        if any(event.kind.important for event in events):
            self._sync()
        return self._head

    def _sync(self) -> None:
        if self._unsynced_since is not None:
            self._guarded(self._writer.sync)
            self._unsynced_since = None

    def _guarded(self, work: Callable[[], None]) -> None:
        """After a failed write nobody knows what is on the medium, so nothing may follow it."""
        self._failed = True
        work()
        self._failed = False


def _summary(one: Counted) -> Event:
    return Event(
        EVENTS_COUNTED,
        one.actor,
        details={
            "of": KindWord(one.kind.name),
            "counted": one.counted,
            "written": one.written,
            "seconds": int(one.seconds),
        },
    )
