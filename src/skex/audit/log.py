"""The one way into the audit log.

``emit`` returns once the records are with the writer, and, where one of them is important, on the
medium: whoever emits before acting never acts without a trace. ``Audit`` is used from one thread at a
time; a daemon gives it to a ``Committer``, which turns many waiting events into one ``emit``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from skex.audit.chain import Head, Record, Stamp
from skex.audit.events import AUDIT_KEY_TAKEN, AUDIT_SEALED, EVENTS_COUNTED, Event, Kind, KindWord
from skex.audit.fields import SYSTEM, Actor, Digest
from skex.audit.sampling import Counted, Sampler
from skex.audit.seals import SealingKey, SealKeeper
from skex.base import codes, limits
from skex.base.errors import Refused, StoreFault


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


@dataclass(frozen=True, slots=True)
class SealRhythm:
    """How long a record waits for a seal at most, in seconds, and how many records do."""

    seconds: float = limits.AUDIT_SEAL_SECONDS
    records: int = limits.AUDIT_SEAL_RECORDS


USUAL_RHYTHM: Final = SealRhythm()


class Audit:
    """Appends events behind ``head``. ``policy`` is the digest of the policy in force, in hexadecimal.

    With a ``keeper`` whose key somebody took, what is written is sealed: every so often, at the end,
    and when somebody asks for it.
    """

    def __init__(
        self,
        writer: Writer,
        head: Head,
        stamp: Callable[[], Stamp],
        sampler: Sampler | None = None,
        policy: str = "",
        *,
        keeper: SealKeeper | None = None,
        rhythm: SealRhythm = SealRhythm(),  # frozen
    ) -> None:
        self.policy = policy
        self._keeper = keeper
        self._rhythm = rhythm
        self._sealed_at = stamp().clock
        self._durable = head
        # A log that was cut off ends below what was sealed: then nothing of it counts as sealed.
        sealed_to = 0 if keeper is None else keeper.sealed_to
        self._sealed_to = sealed_to if sealed_to <= head.sequence else 0
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
    def durable_head(self) -> Head:
        """The last record that is on the medium; from any thread."""
        return self._durable

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
        self._record([*summaries, *passed], stamp)
        if self._is_seal_due(stamp.clock):
            self.seal()
        return self._head

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
            self._record([_summary(one) for one in self._sampler.close(stamp.clock)], stamp)
            self.seal()
            self._sync()
        finally:
            self._writer.close()
            self._failed = True
        return self._head

    @property
    def is_sealing(self) -> bool:
        """Whether somebody has the key that proves this log's seals."""
        return self._keeper is not None and self._keeper.is_taken

    # ── seals ───────────────────────────────────────────────────────────────────────────────────
    def seal(self) -> bool:
        """Seal everything up to now; whether there was something to seal, and a key that somebody took.

        Raises ``StoreFault`` (audit-io).
        """
        keeper = self._keeper
        if keeper is None or not keeper.is_taken or self._unsealed == 0:
            return False
        self._write_seal(keeper, {})
        keeper.advance(self._head.sequence)
        return True

    def take_key(self, actor: Actor = SYSTEM) -> SealingKey:
        """The key of epoch 0, for an auditor to keep elsewhere; the first seal follows at once.

        Raises ``Refused`` (audit-key-gone): that key is erased by then; ``StoreFault`` (audit-io).
        """
        keeper = self._required_keeper()
        taken = keeper.take()
        self.emit(Event(AUDIT_KEY_TAKEN, actor, details={"series": Digest(taken.series)}))
        self.seal()
        return taken

    def renew_key(self, actor: Actor = SYSTEM) -> SealingKey:
        """The key of a new series; the last seal of the one before announces it, if anybody can check it.

        Raises ``StoreFault`` (audit-io).
        """
        keeper = self._required_keeper()
        fresh = keeper.renewal()
        series = {"series": Digest(fresh.series)}
        self.emit(Event(AUDIT_KEY_TAKEN, actor, details=series))
        if keeper.is_taken:
            self._write_seal(keeper, {"next_series": series["series"]})
        keeper.renew(fresh)
        self._write_seal(keeper, {})
        keeper.advance(self._head.sequence)
        return fresh

    def _required_keeper(self) -> SealKeeper:
        if self._keeper is None:
            raise Refused(codes.AUDIT_KEY_GONE, "this log is not sealed")
        return self._keeper

    @property
    def _unsealed(self) -> int:
        return self._head.sequence - self._sealed_to

    def _is_seal_due(self, now: float) -> bool:
        waiting = self._unsealed
        is_late = now >= self._sealed_at + self._rhythm.seconds
        return waiting >= self._rhythm.records or (waiting > 0 and is_late)

    def _write_seal(self, keeper: SealKeeper, details: Mapping[str, object]) -> None:
        """One seal, on the medium; its key is the caller's to replace."""
        key, stamp = keeper.current, self._stamp()
        told = {"records": self._unsealed, "series": Digest(key.series), **details}
        record = key.seal(Record.of(Event(AUDIT_SEALED, details=told), stamp, self.policy, self._head))
        self._append([record.to_line() + b"\n"], record.head(), stamp)
        self._sync()
        self._sealed_to, self._sealed_at = self._head.sequence, stamp.clock

    def _passes(self, event: Event, now: float) -> bool:
        return not event.kind.sampled or self._sampler.offer(event.kind, event.actor, now, event.rule)

    def _record(self, events: Iterable[Event], stamp: Stamp) -> Head:
        self._require_sound()
        events = tuple(events)
        head, lines = self._head, []
        for event in events:
            record = Record.of(event, stamp, self.policy, head)
            lines.append(record.to_line() + b"\n")
            head = record.head()
        if lines:
            self._append(lines, head, stamp)
        if any(event.kind.important for event in events):
            self._sync()
        return self._head

    def _append(self, lines: Sequence[bytes], head: Head, stamp: Stamp) -> None:
        self._require_sound()
        self._guarded(lambda: self._writer.append(b"".join(lines), self._head.sequence + 1))
        self._head = head
        if self._unsynced_since is None:
            self._unsynced_since = stamp.clock

    def _require_sound(self) -> None:
        if self._failed:
            raise StoreFault(codes.AUDIT_IO, "an earlier write failed")

    def _sync(self) -> None:
        if self._unsynced_since is not None:
            self._guarded(self._writer.sync)
            self._unsynced_since = None
        self._durable = self._head

    def _guarded(self, work: Callable[[], None]) -> None:
        """After a failed write nobody knows what is on the medium, so nothing may follow it."""
        self._failed = True
        work()
        self._failed = False


def _summary(one: Counted) -> Event:
    return Event(
        EVENTS_COUNTED,
        one.actor,
        rule=one.rule,
        details={
            "of": KindWord(one.kind.name),
            "counted": one.counted,
            "written": one.written,
            "seconds": int(one.seconds),
        },
    )
