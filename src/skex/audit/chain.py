"""Records, and the chain that makes a missing or changed one visible.

A record is one line of JSON in exactly one spelling, which names the SHA-512 digest of the line before
it. Changing, dropping, repeating or moving a line breaks the chain at that place; cutting the end off
does not, so whoever must notice that keeps a ``Head`` elsewhere. ``epoch`` and ``seal`` have their
place from the start; see ``seals``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, ItemsView, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

from skex.audit.events import AUDIT_RECOVERED, Event
from skex.audit.fields import COUNT_MAX, Detail, wrong
from skex.base import codes, limits
from skex.base.errors import StoreFault

FORMAT: Final = 1
_DIGEST_DIGITS: Final = 128
_DIGEST: Final = re.compile(r"[0-9a-f]{128}")
_HEAD: Final = re.compile(r"([1-9][0-9]{0,18}):([0-9a-f]{128})")
_BOOT: Final = re.compile(r"[0-9a-f-]{1,36}")
_TIME: Final = re.compile(r"[0-9]{4}(?:-[0-9]{2}){2}T[0-9]{2}(?::[0-9]{2}){2}\.[0-9]{6}Z")
_KEY: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")


# ── one record ──────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Head:
    """The last record: its number, from 1, and the SHA-512 of its line in hexadecimal."""

    sequence: int
    digest: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read what ``str`` writes. Raises ``ValueError``."""
        match = _HEAD.fullmatch(text)
        if match is None:
            raise ValueError("must be SEQUENCE:DIGEST, as skex audit verify --json prints it")
        return cls(int(match[1]), match[2])


GENESIS: Final = Head(0, "0" * _DIGEST_DIGITS)
"""What the first record of a log follows."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment on both clocks. ``boot`` says which run of the machine ``clock`` counts, in seconds."""

    wall: datetime
    boot: str
    clock: float

    def __post_init__(self) -> None:
        if self.wall.utcoffset() != timedelta(0) or not _BOOT.fullmatch(self.boot) or self.clock < 0:
            raise wrong("a moment without UTC, boot id or boot clock")

    @property
    def time(self) -> str:
        """The wall clock as records have it: UTC, microseconds."""
        return f"{self.wall.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


@dataclass(frozen=True, slots=True)
class Record:
    """One line, parsed. ``clock`` counts milliseconds; what is empty was not stated."""

    sequence: int
    time: str
    boot: str
    clock: int
    event: str
    actor: str
    second: str
    subjects: Mapping[str, tuple[str, ...]]
    verdict: str
    rule: str
    policy: str
    cause: str
    details: Mapping[str, Detail]
    epoch: int
    seal: str
    previous: str

    @classmethod
    def of(cls, event: Event, stamp: Stamp, policy: str, head: Head) -> Record:
        """The record of ``event`` behind ``head``, while the policy with digest ``policy`` is in force."""
        return cls(
            sequence=head.sequence + 1,
            time=stamp.time,
            boot=stamp.boot,
            clock=int(stamp.clock * 1000),
            event=event.kind.name,
            actor=str(event.actor),
            second="" if event.second is None else str(event.second),
            subjects=event.subject_ids(),
            verdict="" if event.verdict is None else event.verdict.value,
            rule=event.rule,
            policy=policy,
            cause="" if event.cause is None else event.cause.name,
            details=event.read_details(),
            epoch=0,
            seal="",
            previous=head.digest,
        )

    def to_line(self) -> bytes:
        """The one spelling of the record, without the line's end. ``LocalBug`` where it is too long."""
        text = json.dumps(
            {
                "format": FORMAT,
                "sequence": self.sequence,
                "time": self.time,
                "boot": self.boot,
                "clock_ms": self.clock,
                "event": self.event,
                "actor": self.actor,
                "second": self.second,
                "subjects": {kind: self.subjects[kind] for kind in sorted(self.subjects)},
                "verdict": self.verdict,
                "rule": self.rule,
                "policy": self.policy,
                "cause": self.cause,
                "details": {name: self.details[name] for name in sorted(self.details)},
                "epoch": self.epoch,
                "seal": self.seal,
                "previous": self.previous,
            },
            separators=(",", ":"),
            ensure_ascii=True,
            allow_nan=False,
        )
        if len(text) > limits.AUDIT_RECORD_BYTES:
            raise wrong("more than fits into a line")
        return text.encode("ascii")

    @classmethod
    def from_line(cls, line: bytes) -> Record | None:
        """Read a line; None if it is not a record in its one spelling, whatever it is instead."""
        if len(line) > limits.AUDIT_RECORD_BYTES:
            return None
        try:
            record = cls._from_object(json.loads(line.decode("ascii")))
        except (ValueError, RecursionError, KeyError, TypeError):
            return None
        return record if record.to_line() == line else None

    @classmethod
    def _from_object(cls, found: dict[str, Any]) -> Record:
        texts = {
            name: _text(found[name])
            for name in ("event", "actor", "second", "verdict", "rule", "policy", "cause")
        }
        return cls(
            sequence=_count(found["sequence"], low=1),
            time=_formed(found["time"], _TIME),
            boot=_formed(found["boot"], _BOOT),
            clock=_count(found["clock_ms"]),
            subjects={_formed(kind, _KEY): _texts(ids) for kind, ids in _items(found["subjects"])},
            details={_formed(name, _KEY): _detail(value) for name, value in _items(found["details"])},
            epoch=_count(found["epoch"]),
            seal=_formed(found["seal"], _DIGEST) if found["seal"] else _text(found["seal"]),
            previous=_formed(found["previous"], _DIGEST),
            **texts,
        )

    def head(self) -> Head:
        """What the next record follows."""
        return Head(self.sequence, hashlib.sha512(self.to_line()).hexdigest())


def _text(value: Any) -> str:
    if type(value) is not str or not value.isprintable():
        raise ValueError
    return value


def _formed(value: Any, form: re.Pattern[str]) -> str:
    if not form.fullmatch(_text(value)):
        raise ValueError
    return _text(value)


def _count(value: Any, low: int = 0) -> int:
    if type(value) is not int or not low <= value <= COUNT_MAX:
        raise ValueError
    return value


def _items(value: Any) -> ItemsView[str, Any]:
    if type(value) is not dict:
        raise TypeError
    return value.items()


def _texts(value: Any) -> tuple[str, ...]:
    if type(value) is not list:
        raise TypeError
    return tuple(_text(one) for one in value)


def _detail(value: Any) -> Detail:
    if type(value) is bool:
        return value
    if type(value) is int:
        return _count(value)
    return _texts(value) if type(value) is list else _text(value)


# ── checking ────────────────────────────────────────────────────────────────────────────────────
class Fault(Enum):
    """What is wrong with a log."""

    MALFORMED = "malformed"
    ALTERED = "altered"
    MISSING = "missing"
    REPEATED = "repeated"
    MOVED = "moved"
    TORN = "torn"
    TRUNCATED = "truncated"
    REPLACED = "replaced"
    """The store remembers another record in this place."""
    OTHER_OWNER = "other-owner"
    """It is the log of another home."""
    FORGED = "forged"
    """A seal is not genuine."""
    UNSEALED = "unsealed"
    """A seal is missing."""
    OTHER_SERIES = "other-series"
    """Seals begin anew, and nothing joins them to those before."""
    STALE_KEY = "stale-key"
    """The sealing key that the home keeps was put back."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The first line that cannot be relied on: in which segment, its number there from 1, and why."""

    segment: str
    line: int
    fault: Fault
    reason: str

    def __str__(self) -> str:
        return f"{self.segment or 'log'} line {self.line}: {self.fault.value}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Recovery:
    """A place where a crash tore the end off, and the next start said so."""

    segment: str
    line: int
    torn_bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """What checking found. ``head`` is the last record that continues the chain.

    ``started_at`` is the first record's number: above 1 where older segments are elsewhere.
    """

    records: int
    started_at: int
    head: Head
    recoveries: tuple[Recovery, ...]
    problem: Problem | None

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.problem is None

    def require_sound(self) -> None:
        """Raises ``StoreFault`` (audit-damaged) with the first problem."""
        if self.problem is not None:
            raise StoreFault(codes.AUDIT_DAMAGED, str(self.problem))


@dataclass(slots=True)
class _Region:
    """Lines that do not continue the chain: a torn end if a recovery record follows, else a fault."""

    problem: Problem
    segment: str
    line: int
    first: Record | None
    lines: int = 0
    size: int = 0
    holds_records: bool = False
    _hash: Any = field(default_factory=hashlib.sha512)

    def add(self, line: bytes, record: Record | None) -> None:
        """One more line; between two of them stands a line's end."""
        piece = b"\n" + line if self.lines else line
        self._hash.update(piece)
        self.size += len(piece)
        self.lines += 1
        self.holds_records |= record is not None

    @property
    def digest(self) -> str:
        """Of all lines."""
        return str(self._hash.hexdigest())


class Verifier:
    """Takes a log line by line. ``start`` is the record that the first line must follow, None for any.

    ``anchor`` is a head that was kept elsewhere: the log must contain that very record.
    """

    def __init__(
        self,
        start: Head | None = GENESIS,
        anchor: Head | None = None,
        accepted: Callable[[Record], None] = lambda _record: None,
    ) -> None:
        """``accepted`` hears every record that continues the chain."""
        self._head = start
        self._anchor = anchor
        self._hears = accepted
        self._records = 0
        self._started_at = 0
        self._recoveries: list[Recovery] = []
        self._region: _Region | None = None
        self._problem: Problem | None = None
        self._last = ("", 0)

    @property
    def is_broken(self) -> bool:
        """Whether the last line does not continue the chain."""
        return self._region is not None

    @property
    def head(self) -> Head:
        """The last record that continues the chain."""
        return self._head or GENESIS

    def feed(self, line: bytes, segment: str = "", number: int | None = None) -> None:
        """The next line, without its end; ``number`` is its place in its segment, from 1."""
        if number is None:
            number = self._last[1] + 1
        record = Record.from_line(line)
        if self._region is not None:
            self._feed_region(self._region, line, record, segment, number)
        else:
            self._feed_chain(line, record, segment, number)
        self._last = (segment, number)

    def report(self, *, whole_last_line: bool = True) -> Report:
        """What was found. ``whole_last_line`` is false where the last line had no end."""
        problem = self._problem
        if problem is None and self._region is not None:
            problem = self._region.problem
            if not self._region.holds_records and self._region.lines == 1 and not whole_last_line:
                reason = "the last line was not written to its end, and no start has recovered it yet"
                problem = Problem(self._region.segment, self._region.line, Fault.TORN, reason)
        head = self.head
        if problem is None and self._anchor is not None and head.sequence < self._anchor.sequence:
            reason = f"it ends at record {head.sequence}, but record {self._anchor.sequence} was written"
            problem = Problem(*self._last, Fault.TRUNCATED, reason)
        return Report(self._records, self._started_at, head, tuple(self._recoveries), problem)

    # ── the chain ───────────────────────────────────────────────────────────────────────────────
    def _feed_chain(self, line: bytes, record: Record | None, segment: str, number: int) -> None:
        found = (Fault.MALFORMED, "not a record in its one spelling")
        if record is not None:
            misfit = None if self._head is None else _misfit(record, line, self._head)
            if misfit is None:
                self._accept(record, segment, number)
                return
            found = misfit
        self._region = _Region(self._placed(*found, segment, number), segment, number, record)
        self._region.add(line, record)

    def _accept(self, record: Record, segment: str, number: int) -> None:
        head = record.head()
        if self._anchor is not None and head.sequence == self._anchor.sequence and head != self._anchor:
            reason = f"record {head.sequence} is not the one that was written"
            self._problem = self._problem or Problem(segment, number, Fault.ALTERED, reason)
        self._head = head
        self._records += 1
        self._started_at = self._started_at or record.sequence
        self._hears(record)

    def _placed(self, fault: Fault, reason: str, segment: str, number: int) -> Problem:
        """An altered line shows in the one after it, so the one before is the first to be doubted."""
        if fault is Fault.ALTERED and self._records:
            segment, number = self._last
        return Problem(segment, number, fault, reason)

    # ── behind a fault ──────────────────────────────────────────────────────────────────────────
    def _feed_region(
        self, region: _Region, line: bytes, record: Record | None, segment: str, number: int
    ) -> None:
        if record is not None and self._recovers(region, record):
            self._recoveries.append(Recovery(region.segment, region.line, region.size))
            # A crash tears lines; whole records that do not fit are no crash, whoever recovered them.
            if region.holds_records:
                self._problem = self._problem or region.problem
            self._region = None
            self._accept(record, segment, number)
            return
        if region.lines == 1 and record is not None and region.first is not None:
            self._judge_again(region, region.first, record)
        region.add(line, record)

    def _recovers(self, region: _Region, record: Record) -> bool:
        head = self.head
        return (
            record.event == AUDIT_RECOVERED.name
            and (record.sequence, record.previous) == (head.sequence + 1, head.digest)
            and record.details.get("torn_digest") == region.digest
        )

    def _judge_again(self, region: _Region, first: Record, second: Record) -> None:
        """The line after the one that does not fit tells more."""
        problem = region.problem
        if problem.fault is Fault.MISSING and second.sequence == self.head.sequence + 1:
            reason = f"record {first.sequence} stands before record {second.sequence}"
            region.problem = Problem(problem.segment, problem.line, Fault.MOVED, reason)
        elif problem.fault is Fault.ALTERED and second.previous != first.head().digest:
            region.problem = Problem(region.segment, region.line, Fault.ALTERED, problem.reason)


def _misfit(record: Record, line: bytes, head: Head) -> tuple[Fault, str] | None:
    """Why a record does not follow ``head``."""
    if record.sequence > head.sequence + 1:
        gap = f"record {record.sequence} follows record {head.sequence}"
        return Fault.MISSING, f"{gap}: {record.sequence - head.sequence - 1} missing before it"
    if record.sequence <= head.sequence:
        if hashlib.sha512(line).hexdigest() == head.digest:
            return Fault.REPEATED, f"record {record.sequence} stands here twice"
        return Fault.MOVED, f"record {record.sequence} stands behind record {head.sequence}"
    if record.previous != head.digest:
        return Fault.ALTERED, f"records {head.sequence} and {record.sequence} do not belong together"
    return None
