"""Checks audit logs, one by one and against each other; also while daemons write them.

Each log's chain; over all of them, that no key went to one SAE twice; and whether one log is a copy of
another that went on by itself, which a home that was restored or cloned leaves behind. It only reads.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

from skex.audit import events
from skex.audit.chain import Fault, Head, Record, Report
from skex.daemon.config import HUB_FILE, KME_FILE
from skex.daemon.verifying.ends import settings_of
from skex.daemon.verifying.statements import Statement, proved, unseen, wrong
from skex.runtime.auditfile import lines_of, segments, verify

_TRIES: Final = 3
_TRY_SECONDS: Final = 0.1
"""A daemon may be writing its last line just now; one that was torn stays torn."""
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Log:
    """One log that was checked: the home that was named, and where its segments are."""

    home: Path
    directory: Path
    report: Report


def directory_of(home: Path) -> Path:
    """Where a home's log is; a directory of segments that were moved away is taken as it is.

    Raises ``StoreFault`` (home-missing, audit-io), ``Refused`` (config-*).
    """
    is_home = any((home / name).exists() for name in (HUB_FILE, KME_FILE))
    if not is_home and home.is_dir() and segments(home):
        return home
    return settings_of(home).audit.directory


def check(home: Path, anchor: Head | None = None) -> Log:
    """Check the chain of one log. Raises like ``directory_of``."""
    directory = directory_of(home)
    report = verify(directory, anchor)
    for _ in range(_TRIES):
        if report.problem is None or report.problem.fault is not Fault.TORN:
            break
        threading.Event().wait(_TRY_SECONDS)
        report = verify(directory, anchor)
    return Log(home, directory, report)


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
