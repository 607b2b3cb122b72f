"""The audit log on a disk: segments that only grow, one writer, and a torn end that is owned up to.

A directory holds segments, named by the number of their first record. Whatever a crash left at the
end that does not continue the chain stays where it is; the next start writes a record behind it that
says so. Nothing is ever cut off, overwritten or removed here.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Final

from skex.audit.chain import GENESIS, Head, Record, Report, Stamp, Verifier
from skex.audit.events import AUDIT_CONTRADICTED, AUDIT_OPENED, AUDIT_RECOVERED, AUDIT_SEALED, Event
from skex.audit.fields import Digest, Subject
from skex.audit.log import USUAL_RHYTHM, Audit, SealRhythm
from skex.base import codes, limits
from skex.base.errors import StoreFault
from skex.runtime import clock
from skex.runtime.files import sync_directory
from skex.runtime.sealfile import NAME as SEALING
from skex.runtime.sealfile import SealFile

_SEGMENT: Final = re.compile(r"audit-([0-9]{20})\.jsonl")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def stamp() -> Stamp:
    """Now, on both clocks."""
    return Stamp(clock.wall(), _boot_id(), clock.now())


@cache
def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()


# ── reading ─────────────────────────────────────────────────────────────────────────────────────
def segments(directory: Path) -> list[Path]:
    """The segments of a log, oldest first. Raises ``StoreFault`` (audit-io)."""
    try:
        found = [path for path in directory.iterdir() if _SEGMENT.fullmatch(path.name)]
    except OSError as error:
        raise StoreFault(codes.AUDIT_IO, str(directory)) from error
    return sorted(found)


def lines_of(segment: Path) -> Iterator[tuple[bytes, bool]]:
    """Each line without its end, and whether it had one. Raises ``StoreFault`` (audit-io)."""
    try:
        data = segment.read_bytes()
    except OSError as error:
        raise StoreFault(codes.AUDIT_IO, str(segment)) from error
    *whole, rest = data.split(b"\n")
    for line in whole:
        yield line, True
    if rest:
        yield rest, False


def is_whole_log(directory: Path) -> bool:
    """Whether a log begins with its first record: none of its segments was moved away from the front."""
    found = segments(directory)
    return not found or _first_sequence(found[0]) == 1


class Reader:
    """Reads the lines of a log as they are written, from one record on; each whole line once."""

    def __init__(self, directory: Path, first: int = 1) -> None:
        """``first`` is the number of the first record that is wanted. Raises ``StoreFault`` (audit-io)."""
        self._directory = directory
        found = segments(directory)
        before = [segment for segment in found if _first_sequence(segment) <= first]
        self._segment = before[-1] if before else next(iter(found), None)
        self._offset = 0

    def lines(self) -> Iterator[bytes]:
        """The lines that came since, without their ends. Raises ``StoreFault`` (audit-io)."""
        while True:
            if self._segment is None:
                self._segment = next(iter(segments(self._directory)), None)
            if self._segment is None:
                return
            # Looked for first: what is there once a later segment is there is all of the earlier one.
            following = self._following(self._segment)
            yield from self._whole_lines(self._segment)
            if following is None:
                return
            self._segment, self._offset = following, 0

    def _following(self, segment: Path) -> Path | None:
        return next((one for one in segments(self._directory) if one > segment), None)

    def _whole_lines(self, segment: Path) -> Iterator[bytes]:
        try:
            with segment.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError as error:
            raise StoreFault(codes.AUDIT_IO, str(segment)) from error
        *whole, _ = data.split(b"\n")
        for line in whole:
            self._offset += len(line) + 1
            yield line


def verify(
    directory: Path,
    anchor: Head | None = None,
    accepted: Callable[[Record], None] = lambda _record: None,
) -> Report:
    """Check a whole log, also while it is written. ``anchor`` is a head that was kept elsewhere.

    ``accepted`` hears every record that continues the chain. A log whose oldest segments were moved
    away begins where the next one begins. Raises ``StoreFault`` (audit-io).
    """
    found = segments(directory)
    verifier = Verifier(GENESIS if is_whole_log(directory) else None, anchor, accepted)
    whole = True
    for segment in found:
        for number, (line, has_end) in enumerate(lines_of(segment), 1):
            verifier.feed(line, segment.name, number)
            whole = has_end
    return verifier.report(whole_last_line=whole)


def _first_sequence(segment: Path) -> int:
    """What a segment's name says."""
    return int(segment.name.removeprefix("audit-").removesuffix(".jsonl"))


@dataclass(frozen=True, slots=True)
class End:
    """Where a log ends: the last record, the lines behind it that are none, and the line's end."""

    head: Head
    last: Record | None
    torn: tuple[bytes, ...]
    needs_end: bool


def _end_of(found: list[Path]) -> End:
    """Read the newest segments, as far back as a record is needed to continue from."""
    begin = len(found) - 1
    while begin > 0 and not _begins_with_a_record(found[begin]):
        begin -= 1
    from_start = begin <= 0 and (not found or _first_sequence(found[0]) == 1)
    last: deque[Record] = deque(maxlen=1)
    verifier = Verifier(GENESIS if from_start else None, accepted=last.append)
    torn: list[bytes] = []
    needs_end = False
    for segment in found[max(0, begin) :]:
        for line, has_end in lines_of(segment):
            verifier.feed(line)
            needs_end = not has_end
            if verifier.is_broken:
                torn.append(line)
            else:
                torn.clear()
    return End(verifier.head, last[0] if last else None, tuple(torn), needs_end)


def _holds(found: list[Path], wanted: Head) -> bool:
    """Whether the log has this very record; it is looked for in its own segment only."""
    before = [segment for segment in found if _first_sequence(segment) <= wanted.sequence]
    return bool(before) and any(
        hashlib.sha512(line).hexdigest() == wanted.digest for line, _ in lines_of(before[-1])
    )


def _was_sealed(found: list[Path]) -> bool:
    """Whether a seal stands anywhere in the log."""
    mark = f'"event":"{AUDIT_SEALED.name}"'.encode()
    return any(mark in line for segment in found for line, _ in lines_of(segment))


def _begins_with_a_record(segment: Path) -> bool:
    first = next(lines_of(segment), (b"", False))[0]
    return Record.from_line(first) is not None


# ── writing ─────────────────────────────────────────────────────────────────────────────────────
@contextmanager
def _as_fault(directory: Path) -> Iterator[None]:
    """Every failure of the disk is one fault."""
    try:
        yield
    except OSError as error:
        raise StoreFault(codes.AUDIT_IO, f"{directory}: {error.strerror}") from error


def _lock(directory: Path) -> int:
    """Be the one writer. Raises ``StoreFault``: audit-locked, audit-io."""
    with _as_fault(directory):
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreFault(codes.AUDIT_LOCKED, str(directory)) from error
    return descriptor


class AuditFile:
    """The writer of one log; see ``skex.audit.log.Writer``. Holds the directory's lock."""

    def __init__(self, directory: Path, segment_bytes: int = limits.AUDIT_SEGMENT_BYTES) -> None:
        """Make the directory if there is none. Raises ``StoreFault``: audit-locked, audit-io."""
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._descriptor = -1
        self._size = 0
        self.keeper: SealFile | None = None
        with _as_fault(directory):
            directory.mkdir(mode=0o700, exist_ok=True)
        self._lock = _lock(directory)

    def open_newest(self) -> End:
        """Go on where the log ends. Raises ``StoreFault`` (audit-io)."""
        found = segments(self._directory)
        end = _end_of(found)
        if found:
            with _as_fault(self._directory):
                self._open(found[-1])
                if end.needs_end:
                    self._write(b"\n")
                os.fdatasync(self._descriptor)  # what is there counts as durable from now on
        return end

    def append(self, lines: bytes, sequence: int) -> None:
        """Append whole lines, the first of which has this number; begin a segment where one is full."""
        with _as_fault(self._directory):
            if self._descriptor < 0 or (self._size and self._size + len(lines) > self._segment_bytes):
                self._begin_segment(sequence)
            self._write(lines)

    def sync(self) -> None:
        """Return once everything appended is on the medium."""
        with _as_fault(self._directory):
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Let another process write. Idempotent."""
        if self.keeper is not None:
            self.keeper.close()
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1

    def _begin_segment(self, sequence: int) -> None:
        """The full segment reaches the medium first, so that only the newest one can be torn."""
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        self._open(self._directory / f"audit-{sequence:020}.jsonl", os.O_CREAT | os.O_EXCL)
        sync_directory(self._directory)

    def _open(self, segment: Path, more: int = 0) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(segment, flags | more, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]


@dataclass(frozen=True, slots=True)
class Opening:
    """What a log is opened with: whose it is, and the last record that its home remembers, if any.

    ``home`` is where its sealing key is kept; without one it is not sealed.
    """

    home: Path | None = None
    segment_bytes: int = limits.AUDIT_SEGMENT_BYTES
    owner: Subject | None = None
    remembered: Head | None = None
    rhythm: SealRhythm = USUAL_RHYTHM
    is_restored: bool = False
    """The log comes from a backup: that it was sealed with a key which is not here is no contradiction."""


def open_audit(
    directory: Path,
    opening: Opening = Opening(),  # frozen
    now: Callable[[], Stamp] = stamp,
) -> Audit:
    """Open a log, or begin one; close it again with ``Audit.close``.

    What a crash left torn is recorded, and so is the beginning of a log, and that it is another one
    than the home remembers. Raises ``StoreFault``: audit-locked, audit-io.
    """
    file = AuditFile(directory, opening.segment_bytes)
    try:
        home = opening.home
        is_keyless = home is not None and not (home / SEALING).exists()
        keeper = file.keeper = None if home is None else SealFile.open(home)
        found = segments(directory)
        end = file.open_newest()
        if keeper is not None and end.last is not None and _made_but_kept(end.last, keeper):
            keeper.advance(end.head.sequence)
        audit = Audit(file, end.head, now, keeper=keeper, rhythm=opening.rhythm)
        if end.torn:
            audit.emit(_recovered(end.torn))
        elif end.head == GENESIS:
            audit.emit(Event(AUDIT_OPENED, subjects=() if opening.owner is None else (opening.owner,)))
        remembered = opening.remembered
        if remembered is not None and not _holds(found, remembered):
            is_cut = end.head.sequence < remembered.sequence
            what = Contradiction.LOG_CUT if is_cut else Contradiction.LOG_REPLACED
            audit.emit(_contradicted(what, remembered.sequence, end.head.sequence))
        if is_keyless and not opening.is_restored and _was_sealed(found):
            audit.emit(_contradicted(Contradiction.SEALING_KEY_LOST, 0, 0))
    except BaseException:
        file.close()
        raise
    return audit


class Contradiction(Enum):
    """How a log is not the one that its home remembers, as records name it."""

    LOG_CUT = "log-cut"
    LOG_REPLACED = "log-replaced"
    SEALING_KEY_LOST = "sealing-key-lost"


def _made_but_kept(last: Record, keeper: SealFile) -> bool:
    """Whether a crash came between a seal and the erasing of its key."""
    current = keeper.current
    return (
        bool(last.seal)
        and last.details.get("series") == current.digest
        and last.epoch == current.epoch
        and current.has_sealed(last)
    )


def _contradicted(what: Contradiction, remembered: int, found: int) -> Event:
    return Event(AUDIT_CONTRADICTED, details={"what": what, "remembered": remembered, "found": found})


def _recovered(torn: tuple[bytes, ...]) -> Event:
    data = b"\n".join(torn)
    return Event(
        AUDIT_RECOVERED,
        details={"torn_bytes": len(data), "torn_lines": len(torn), "torn_digest": Digest(data)},
    )
