"""Checks audit logs, one by one and against each other; also while daemons write them.

Each log's chain; over all of them, that no key went to one SAE twice; and whether one log is a copy of
another that went on by itself, which a home that was restored or cloned leaves behind. It only reads.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Final

from skex.audit import events
from skex.audit.chain import Fault, Head, Record, Report
from skex.audit.seals import SealCheck, SealingKey, SealReport
from skex.daemon.config import HUB_FILE, KME_FILE
from skex.daemon.verifying import whole
from skex.daemon.verifying.ends import settings_of
from skex.daemon.verifying.statements import Statement, Verdict, proved, unseen, wrong
from skex.runtime import clock
from skex.runtime.auditfile import is_whole_log, lines_of, segments, verify
from skex.runtime.sealfile import kept_in

_TRIES: Final = 3
_TRY_SECONDS: Final = 0.1
"""A daemon may be writing its last line just now; one that was torn stays torn."""
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Log:
    """One log that was checked: the home that was named, and where its segments are.

    ``statements`` are what its seals, its home's store and its own records say of it as a whole.
    """

    home: Path
    directory: Path
    report: Report
    seals: SealReport
    statements: tuple[Statement, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.report.is_sound and all(one.verdict is not Verdict.WRONG for one in self.statements)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a log is held against: a head and keys that were kept elsewhere, and how to ask a daemon
    that runs in a home what its store remembers of its log (None where it cannot be asked).
    """

    anchor: Head | None = None
    keys: tuple[SealingKey, ...] = ()
    ask: Callable[[Path], str | None] = lambda _home: None
    now: Callable[[], datetime] = clock.wall


def directory_of(home: Path) -> Path:
    """Where a home's log is; a directory of segments that were moved away is taken as it is.

    Raises ``StoreFault`` (home-missing, audit-io), ``Refused`` (config-*).
    """
    is_home = any((home / name).exists() for name in (HUB_FILE, KME_FILE))
    if not is_home and home.is_dir() and segments(home):
        return home
    return settings_of(home).audit.directory


def check(home: Path, evidence: Evidence = Evidence()) -> Log:  # frozen
    """Check one log. Raises like ``directory_of``, and ``Refused`` (audit-key-invalid)."""
    directory = directory_of(home)
    found = _check_once(home, directory, evidence)
    for _ in range(_TRIES):
        if found.report.problem is None or found.report.problem.fault is not Fault.TORN:
            break
        threading.Event().wait(_TRY_SECONDS)
        found = _check_once(home, directory, evidence)
    return found


def _check_once(home: Path, directory: Path, evidence: Evidence) -> Log:
    """What a daemon may be writing meanwhile is read before the log, which then has it."""
    memory = whole.memory_of(home, evidence.ask)
    before = kept_in(home)
    seals = SealCheck(evidence.keys, is_whole=is_whole_log(directory))
    facts = whole.Facts(memory)

    def accepted(record: Record) -> None:
        seals.feed(record)
        facts.feed(record)

    report = verify(directory, evidence.anchor, accepted)
    after = kept_in(home)
    sealed = seals.report(before, after)
    said = whole.Sealing(sealed, report, is_home=memory.is_home, kept=after, keys=len(evidence.keys))
    statements = (*facts.statements(report), *whole.sealing(said, evidence.now()))
    return Log(home, directory, report, sealed, statements)


def records_of(directory: Path) -> Iterator[tuple[Record, bytes]]:
    """Every line that is a record, and the line. Raises ``StoreFault`` (audit-io)."""
    for segment in segments(directory):
        for line, _ in lines_of(segment):
            record = Record.from_line(line)
            if record is not None:
                yield record, line


def compare(logs: Sequence[Log]) -> tuple[Statement, ...]:
    """What only shows over all of the logs together. Raises ``StoreFault`` (audit-io)."""
    return (*_delivered_once(logs), *_copies(logs))


def _delivered_once(logs: Sequence[Log]) -> Iterator[Statement]:
    """Every delivery has its record before the keys leave, so a second one would have a second record.

    A record that stands in two logs, because one is a copy of the other, is one record.
    """
    seen: dict[bytes, bytes] = {}
    twice = unnamed = 0
    for log in logs:
        for record, line in records_of(log.directory):
            if record.event != events.KEYS_DELIVERED.name:
                continue
            keys = record.subjects.get("key", ())
            count = record.details.get("keys", 0)
            unnamed += max(0, count - len(keys)) if isinstance(count, int) else 0
            digest = _digest(line)
            twice += sum(
                seen.setdefault(_digest(f"{record.actor} {key}".encode()), digest) != digest for key in keys
            )
    if twice:
        yield wrong("delivered", f"{twice} keys were delivered twice to the same SAE.")
    else:
        yield proved("delivered", f"{len(seen)} deliveries of a key to an SAE are recorded, none twice.")
    if unnamed:
        yield unseen("delivered", f"{unnamed} keys were delivered in requests too large to name them all.")


def _copies(logs: Sequence[Log]) -> Iterator[Statement]:
    """Two logs with the same beginning are copies; if both went on, two daemons were the same one."""
    for one, other in combinations(logs, 2):
        if one.directory.resolve() == other.directory.resolve():
            continue
        common, parted = _common(one.directory, other.directory)
        if common and parted:
            text = f"The logs of {one.home} and {other.home} part behind record {common}: both went on"
            yield wrong("copies", f"{text}, from a restored or cloned home.")
        elif common:
            yield unseen(
                "copies", f"The logs of {one.home} and {other.home} are the same up to record {common}."
            )


def _common(one: Path, other: Path) -> tuple[int, bool]:
    """The last record that both logs begin with, 0 if none, and whether both have more behind it."""
    common = 0
    others = records_of(other)
    for record, line in records_of(one):
        following = next(others, None)
        if following is None:
            return common, False
        if following[1] != line:
            return common, common > 0
        common = record.sequence
    return common, False


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
