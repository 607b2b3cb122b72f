"""Whether a log is all of its home's log, and no other home's: what its chain alone cannot say.

Held against what the store remembers, against the seals, and against whose log it says it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from skex.audit import events
from skex.audit.chain import Fault, Head, Record, Report
from skex.audit.seals import KeptEpoch, SealReport
from skex.base import codes
from skex.base.errors import SkexError
from skex.daemon.auditing import owner_word
from skex.daemon.config import HUB_FILE, KME_FILE, HubConfig
from skex.daemon.master import read_master_key
from skex.daemon.starting import STORE_FILE, locked
from skex.daemon.verifying.ends import settings_of
from skex.daemon.verifying.statements import Statement, proved, unseen, wrong
from skex.runtime import entropy
from skex.store.database import StoreKind
from skex.store.opened import OpenedStore, open_unmigrated

BEGINS_LATE: Final = "begins-late"
UNREMEMBERED: Final = "unremembered"
NOT_SEALED: Final = "not-sealed"
NO_KEY: Final = "no-key"
TAIL: Final = "unsealed-tail"
UNJOINED: Final = "unjoined"
CONTRADICTED: Final = "contradicted"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a home says of its log: whose it is, and the last record that its store remembers.

    ``why`` is the reason where the store says nothing. A directory of segments is no home.
    """

    owner: str
    head: Head | None = None
    why: str = ""

    @property
    def is_home(self) -> bool:
        """Whether it is a home."""
        return bool(self.owner)


def is_home(path: Path) -> bool:
    """Whether it is a home, and not a directory of segments."""
    return any((path / name).exists() for name in (HUB_FILE, KME_FILE))


def memory_of(home: Path, ask: Callable[[Path], str | None]) -> Memory:
    """What a home says. ``ask`` asks the daemon that runs in it. Raises ``Refused`` (config-*)."""
    if not is_home(home):
        return Memory("")
    settings = settings_of(home)
    owner = owner_word(settings)
    kind = StoreKind.HUB if isinstance(settings, HubConfig) else StoreKind.KME
    try:
        stated = _stated(home, kind, ask)
        head = None if not stated else Head.parse(stated)
    except (SkexError, ValueError) as error:
        reason = error.code.name if isinstance(error, SkexError) else "it is malformed"
        return Memory(owner, why=f"its store cannot be asked ({reason})")
    return Memory(owner, head, "" if head else "its store remembers no record yet")


def _stated(home: Path, kind: StoreKind, ask: Callable[[Path], str | None]) -> str | None:
    """Out of the store of a stopped daemon, or from the one that runs."""
    if not (home / STORE_FILE).exists() or not (home / "lock").exists():
        return None
    try:
        with locked(home):
            master = read_master_key(home)
            try:
                store = OpenedStore(
                    *open_unmigrated(str(home / STORE_FILE), kind, master, entropy.random_bytes)
                )
            finally:
                master.wipe()
            try:
                return store.witnessed()
            finally:
                store.close()
    except SkexError as error:
        if error.code is not codes.HOME_IN_USE:
            raise
    return ask(home)


class Facts:
    """Hears every record of a log, for what it says of itself."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._owners: set[str] = set()
        self._contradictions: list[Record] = []
        self._has_remembered = False

    def feed(self, record: Record) -> None:
        """The next record."""
        head = self._memory.head
        if head is not None and record.sequence == head.sequence:
            self._has_remembered = record.head() == head
        if record.event in {events.DAEMON_STARTED.name, events.AUDIT_OPENED.name}:
            for kind in ("hub", "kme"):
                self._owners.update(f"{kind}:{name}" for name in record.subjects.get(kind, ()))
        elif record.event == events.AUDIT_CONTRADICTED.name:
            self._contradictions.append(record)

    def statements(self, report: Report) -> Iterator[Statement]:
        """What follows, once the whole log was read."""
        others = sorted(self._owners - {self._memory.owner})
        if self._memory.is_home and others:
            text = f"It is the log of {', '.join(others)}, in the home of {self._memory.owner}."
            yield wrong("owner", text, Fault.OTHER_OWNER.value)
        if report.started_at > 1:
            text = f"Records 1 to {report.started_at - 1} are elsewhere, or were deleted."
            yield unseen("begin", text, BEGINS_LATE)
        for record in self._contradictions:
            yield wrong("contradiction", _contradiction(record), CONTRADICTED)
        yield from self._remembered(report)

    def _remembered(self, report: Report) -> Iterator[Statement]:
        memory = self._memory
        if not memory.is_home:
            return
        if memory.head is None:
            yield unseen("end", f"Whether the end was cut off cannot be said: {memory.why}.", UNREMEMBERED)
        elif self._has_remembered:
            yield proved("end", f"Record {memory.head.sequence}, which the store remembers, is in it.")
        elif report.head.sequence < memory.head.sequence:
            text = f"It ends at record {report.head.sequence}; the store remembers {memory.head.sequence}"
            yield wrong(
                "end", f"{text}: the end was cut off, or an older log put back.", Fault.TRUNCATED.value
            )
        else:
            text = f"Record {memory.head.sequence} is not the one that the store remembers"
            yield wrong("end", f"{text}: this is another log, or one written anew.", Fault.REPLACED.value)


def _contradiction(record: Record) -> str:
    details = record.details
    if details.get("what") == "sealing-key-lost":
        return f"At record {record.sequence} a start found no sealing key, though seals had been made."
    said = "was cut off" if details.get("what") == "log-cut" else "was another one"
    found = f"it ended at record {details.get('found')}, the store remembered {details.get('remembered')}"
    return f"At record {record.sequence} a start found that the log {said}: {found}."


# ── seals ───────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Sealing:
    """What checking the seals came to, and with what: ``keys`` is how many were given."""

    found: SealReport
    report: Report
    is_home: bool
    kept: KeptEpoch | None
    keys: int


def sealing(said: Sealing, now: datetime) -> Iterator[Statement]:
    """What seals prove of a log, and exactly what they do not."""
    found, last = said.found, said.report.head.sequence
    if found.problem is not None:
        text = f"At record {found.problem.sequence}: {found.problem.reason}."
        yield wrong("seals", text, found.problem.fault.value)
    if said.is_home and said.kept is None and (found.seals or said.keys):
        text = "The home keeps no sealing key: whether seals were cut off cannot be said."
        yield wrong("seals", text, Fault.STALE_KEY.value)
    if not said.keys:
        yield _unkeyed(said)
        return
    if found.verified:
        text = f"{found.verified} seals are genuine: records {said.report.started_at} to {found.sealed_to}"
        yield proved("sealed", f"{text} are as they were written by {found.sealed_at}.")
    yield from _uncovered(said, now)
    if found.verified and last > found.sealed_to:
        text = f"{last - found.sealed_to} records behind record {found.sealed_to} are not sealed"
        yield unseen("sealed", f"{text}: an intruder of today could have written them.", TAIL)


def _uncovered(said: Sealing, now: datetime) -> Iterator[Statement]:
    found = said.found
    if found.verified and found.problem is None:
        age = now - datetime.fromisoformat(found.sealed_at)
        text = f"The last seal is {max(0, int(age.total_seconds()))} seconds old"
        yield unseen("sealed", f"{text}; what happened since, seals do not show.", "since-last-seal")
        if not said.is_home:
            text = "Whether seals were cut off at the end shows only beside the home's sealing key."
            yield unseen("sealed", text, UNREMEMBERED)
    if found.unknown:
        text = f"{found.unknown} seals were made with keys that were not given."
        yield unseen("sealed", text, NO_KEY)
    for sequence in found.unjoined:
        text = f"At record {sequence} seals begin anew and nothing joins them to those before"
        yield unseen("sealed", f"{text}: the home was restored, or records are missing.", UNJOINED)
    if found.first_epoch:
        text = f"The seals of epochs 0 to {found.first_epoch - 1} are elsewhere, or were deleted."
        yield unseen("sealed", text, BEGINS_LATE)


def _unkeyed(said: Sealing) -> Statement:
    if said.found.seals:
        text = f"It has {said.found.seals} seals; only the key from skex audit key proves them (--key)."
        return unseen("sealed", text, NO_KEY)
    if said.kept is not None and said.kept.is_taken:
        return unseen("sealed", "It has no seal yet.", NOT_SEALED)
    text = "It is not sealed: nobody took its key (skex audit key). Who can write it can write it anew."
    return unseen("sealed", text, NOT_SEALED)
