"""Whatever is done to a log's lines shows, and at the right line."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest

from skex.audit import chain
from skex.audit.chain import GENESIS, Fault, Head, Record, Stamp, Verifier
from skex.audit.events import AUDIT_RECOVERED, KEYS_DELIVERED, Event, Verdict
from skex.audit.fields import Actor, ActorKind, Digest, Subject
from skex.base import codes, limits
from skex.base.errors import LocalBug, StoreFault
from skex.base.ids import KmeName
from tests.unit.audit.support import ASKING, BOOT, IMPORTANT, VPN, Log, check, log_of

MOMENT = Stamp(datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC), BOOT, 12.3456)


def replaced(line: bytes, **fields: object) -> bytes:
    """The line with other fields, in the same spelling."""
    return json.dumps(json.loads(line) | fields, separators=(",", ":")).encode()


# ── records ─────────────────────────────────────────────────────────────────────────────────────
def test_record_has_one_spelling() -> None:
    event = Event(
        KEYS_DELIVERED,
        ASKING,
        (Subject.sae(VPN), Subject.kme(KmeName("centre"))),
        second=Actor(ActorKind.OPERATOR, "bob"),
        verdict=Verdict.ALLOWED,
        rule="sae.allow.vpn",
        cause=codes.BUSY,
        details={"purpose": "tls", "keys": 2},
    )
    record = Record.of(event, MOMENT, "ab" * 64, Head(6, "1" * 128))
    line = (
        '{"format":1,"sequence":7,"time":"2030-01-02T03:04:05.000678Z",'
        f'"boot":"{BOOT}","clock_ms":12345,"event":"keys-delivered","actor":"sae:vpn@site-1",'
        '"second":"operator:bob","subjects":{"kme":["centre"],"sae":["vpn@site-1"]},'
        '"verdict":"allowed","rule":"sae.allow.vpn",'
        f'"policy":"{"ab" * 64}","cause":"busy","details":{{"keys":2,"purpose":"tls"}},'
        f'"epoch":0,"seal":"","previous":"{"1" * 128}"}}'
    ).encode()
    assert record.to_line() == line
    assert Record.from_line(line) == record
    assert record.head() == Head(7, hashlib.sha512(line).hexdigest())


def test_record_with_a_later_seal_reads_under_this_format() -> None:
    (line,) = log_of(1)
    sealed = replaced(line, epoch=3, seal="5" * 128)
    record = Record.from_line(sealed)
    assert record is not None
    assert (record.epoch, record.seal) == (3, "5" * 128)
    assert check([sealed]).is_sound


def test_details_of_every_shape_are_read_back() -> None:
    (line,) = log_of(1)
    found = Record.from_line(replaced(line, details={"a": True, "b": 7, "c": ["x", "y"], "d": "text"}))
    assert found is not None
    assert found.details == {"a": True, "b": 7, "c": ("x", "y"), "d": "text"}


@pytest.mark.parametrize(
    "fields",
    [
        {"format": 2},
        {"sequence": 0},
        {"sequence": "1"},
        {"sequence": 2**53},
        {"time": "yesterday"},
        {"boot": "X"},
        {"clock_ms": -1},
        {"clock_ms": 1.5},
        {"event": 7},
        {"event": "a\u0007"},
        {"subjects": []},
        {"subjects": {"kme": "a"}},
        {"subjects": {"KME": ["a"]}},
        {"details": {"x": None}},
        {"details": {"x": -1}},
        {"seal": "short"},
        {"seal": 0},
        {"previous": "short"},
        {"more": 1},
        {"policy": "x" * limits.AUDIT_RECORD_BYTES},
    ],
    ids=str,
)
def test_line_of_another_shape_is_no_record(fields: dict[str, object]) -> None:
    (line,) = log_of(1)
    assert Record.from_line(line) is not None
    altered = json.dumps(json.loads(line) | fields, separators=(",", ":")).encode()
    assert Record.from_line(altered) is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 60_000,
        b'{"sequence":' + b"9" * 5000 + b"}",
        b"\x00" * 4096,
    ],
    ids=["empty", "list", "null", "object", "no-ascii", "deep", "huge-number", "zeros"],
)
def test_whatever_is_no_record_is_none(line: bytes) -> None:
    assert Record.from_line(line) is None


def test_same_record_in_another_spelling_is_no_record() -> None:
    (line,) = log_of(1)
    assert Record.from_line(line.replace(b",", b", ", 1)) is None
    assert Record.from_line(line.replace(b'"format":1', b'"format":1,"format":1')) is None


def test_record_that_fits_into_no_line_is_a_defect() -> None:
    subjects = tuple(Subject.kit(Digest(bytes([n % 256, n // 256]))) for n in range(limits.AUDIT_SUBJECTS))
    with pytest.raises(LocalBug):
        Record.of(Event(KEYS_DELIVERED, subjects=subjects), MOMENT, "", GENESIS).to_line()


def test_largest_delivery_fits_into_a_line() -> None:
    keys = tuple(Subject.key(uuid.UUID(int=number)) for number in range(limits.AUDIT_SUBJECTS))
    line = Record.of(Event(KEYS_DELIVERED, ASKING, keys), MOMENT, "a" * 128, GENESIS).to_line()
    assert Record.from_line(line) is not None


@pytest.mark.parametrize(
    ("wall", "boot", "clock"),
    [
        (datetime(2030, 1, 1), BOOT, 1.0),  # noqa: DTZ001  # the fault under test
        (datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=1))), BOOT, 1.0),
        (datetime(2030, 1, 1, tzinfo=UTC), "", 1.0),
        (datetime(2030, 1, 1, tzinfo=UTC), BOOT, -1.0),
    ],
)
def test_moment_that_is_not_utc_or_has_no_boot_clock_is_refused(
    wall: datetime, boot: str, clock: float
) -> None:
    with pytest.raises(LocalBug):
        Stamp(wall, boot, clock)


# ── checking ────────────────────────────────────────────────────────────────────────────────────
def test_untouched_log_is_sound_and_ends_at_its_head() -> None:
    log = Log()
    for _ in range(5):
        log.audit.emit(IMPORTANT)
    report = check(log.paper.lines, anchor=log.audit.head)
    assert report.is_sound
    assert (report.records, report.started_at, report.head) == (5, 1, log.audit.head)
    report.require_sound()


def test_empty_log_is_sound() -> None:
    assert check([]).is_sound
    assert check([]).head == GENESIS


def faulted(lines: list[bytes]) -> tuple[Fault, int]:
    """The first problem of a log, which must have one."""
    problem = check(lines).problem
    assert problem is not None
    return problem.fault, problem.line


def test_record_altered_by_an_intruder_is_found() -> None:
    lines = log_of(6)
    lines[2] = replaced(lines[2], actor="sae:web@site-1")
    assert faulted(lines) == (Fault.ALTERED, 3)


def test_altered_link_to_the_record_before_is_found_at_its_own_line() -> None:
    lines = log_of(6)
    lines[2] = replaced(lines[2], previous="0" * 128)
    assert faulted(lines) == (Fault.ALTERED, 3)


def test_altered_record_before_the_last_is_found() -> None:
    lines = log_of(3)
    lines[1] = replaced(lines[1], actor="system")
    assert faulted(lines) == (Fault.ALTERED, 2)


def test_first_record_that_follows_something_else_is_found() -> None:
    lines = log_of(3)
    lines[0] = replaced(lines[0], previous="1" * 128)
    assert faulted(lines) == (Fault.ALTERED, 1)


def test_altered_spelling_is_found_at_its_own_line() -> None:
    lines = log_of(6)
    lines[2] = lines[2].replace(b"keys-delivered", b"keys-Delivered ")[:-1]
    assert faulted(lines) == (Fault.MALFORMED, 3)


@pytest.mark.parametrize("count", [1, 2])
def test_dropped_records_are_found_where_they_are_missing(count: int) -> None:
    lines = log_of(6)
    del lines[2 : 2 + count]
    assert faulted(lines) == (Fault.MISSING, 3)
    problem = check(lines).problem
    assert problem is not None
    assert f"{count} missing before it" in problem.reason


def test_dropped_first_record_is_found() -> None:
    assert faulted(log_of(3)[1:]) == (Fault.MISSING, 1)


def test_swapped_records_are_found_as_moved() -> None:
    lines = log_of(6)
    lines[2], lines[3] = lines[3], lines[2]
    assert faulted(lines) == (Fault.MOVED, 3)


def test_record_moved_towards_the_end_is_found() -> None:
    lines = log_of(6)
    lines.insert(5, lines[1])
    assert faulted(lines) == (Fault.MOVED, 6)


def test_record_that_stands_twice_is_found() -> None:
    lines = log_of(6)
    lines.insert(3, lines[2])
    assert faulted(lines) == (Fault.REPEATED, 4)


def test_end_that_was_cut_off_shows_only_to_whoever_kept_the_head() -> None:
    log = Log()
    for _ in range(5):
        log.audit.emit(IMPORTANT)
    lines = log.paper.lines[:3]
    assert check(lines).is_sound
    report = check(lines, anchor=log.audit.head)
    assert report.problem is not None
    assert (report.problem.fault, report.problem.line) == (Fault.TRUNCATED, 3)
    with pytest.raises(StoreFault) as error:
        report.require_sound()
    assert error.value.code is codes.AUDIT_DAMAGED
    assert error.value.detail == "log line 3: truncated: it ends at record 3, but record 5 was written"


def test_log_that_was_cut_and_continued_differs_from_the_kept_head() -> None:
    log = Log()
    for _ in range(3):
        log.audit.emit(IMPORTANT)
    other = Log(policy="ff")
    for _ in range(5):
        other.audit.emit(IMPORTANT)
    report = check(other.paper.lines, anchor=log.audit.head)
    assert report.problem is not None
    assert (report.problem.fault, report.problem.line) == (Fault.ALTERED, 3)
    assert report.records == 5


def test_log_whose_older_segments_are_elsewhere_starts_where_it_starts() -> None:
    lines = log_of(6)
    report = check(lines[3:], start=None)
    assert report.is_sound
    assert (report.records, report.started_at, report.head.sequence) == (3, 4, 6)


def test_last_line_without_an_end_is_torn_and_not_called_forged() -> None:
    lines = log_of(3)
    verifier = Verifier()
    for line in [*lines[:2], lines[2][:50]]:
        verifier.feed(line)
    problem = verifier.report(whole_last_line=False).problem
    assert problem is not None
    assert (problem.fault, problem.line) == (Fault.TORN, 3)
    problem = verifier.report().problem
    assert problem is not None
    assert problem.fault is Fault.MALFORMED


# ── recovered ends ──────────────────────────────────────────────────────────────────────────────
def recovered(lines: list[bytes], torn: list[bytes]) -> list[bytes]:
    """A log whose end was torn, as the next start continues it."""
    first = Record.from_line(lines[-1])
    assert first is not None
    log = Log()
    log.audit._head = first.head()
    data = b"\n".join(torn)
    details = {"torn_bytes": len(data), "torn_lines": len(torn), "torn_digest": Digest(data)}
    log.audit.emit(Event(AUDIT_RECOVERED, details=details))
    log.audit.emit(IMPORTANT)
    return [*lines, *torn, *log.paper.lines]


@pytest.mark.parametrize("torn", [[b'{"format":1,"seq'], [b"\x00" * 4096], [b"", b"half", b"\xff"]])
def test_torn_end_that_was_recovered_is_sound_and_reported(torn: list[bytes]) -> None:
    report = check(recovered(log_of(3), torn))
    assert report.is_sound
    assert report.records == 5
    assert [(one.line, one.torn_bytes) for one in report.recoveries] == [(4, len(b"\n".join(torn)))]


def test_torn_end_that_was_changed_after_its_recovery_is_found() -> None:
    lines = recovered(log_of(3), [b'{"format":1,"seq'])
    lines[3] = b'{"format":1,"SEQ'
    assert faulted(lines) == (Fault.MALFORMED, 4)


def test_torn_end_that_was_removed_after_its_recovery_is_found() -> None:
    lines = recovered(log_of(3), [b'{"format":1,"seq'])
    del lines[3]
    assert check(lines).is_sound, "the record itself still says what is gone"
    record = Record.from_line(lines[3])
    assert record is not None
    assert record.details["torn_bytes"] == 16


def test_recovery_record_does_not_launder_whole_records_that_were_altered() -> None:
    """The intruder alters a record and restarts the daemon, whose recovery covers everything behind."""
    lines = log_of(6)
    altered = replaced(lines[3], actor="system")
    report = check(recovered(lines[:3], [lines[4], altered]))
    assert report.problem is not None
    assert (report.problem.fault, report.problem.line) == (Fault.MOVED, 4)
    assert report.recoveries
    assert report.head.sequence == 5


def test_first_problem_stays_the_first() -> None:
    lines = recovered(log_of(6)[:3], [log_of(6)[4]])
    lines += [b"garbage"]
    problem = check(lines).problem
    assert problem is not None
    assert problem.line == 4
    again = recovered(lines[:-1], [log_of(7)[6]])
    problem = check(again).problem
    assert problem is not None
    assert problem.line == 4


def test_recovery_of_something_else_recovers_nothing() -> None:
    lines = recovered(log_of(3), [b"torn"])
    lines.insert(3, b"more")
    assert faulted(lines) == (Fault.MALFORMED, 4)


def test_problem_is_named_with_its_segment_and_line() -> None:
    assert str(chain.Problem("audit-1.jsonl", 7, Fault.MISSING, "x")) == "audit-1.jsonl line 7: missing: x"


def test_head_is_read_as_it_is_written() -> None:
    head = Record.of(IMPORTANT, MOMENT, "", GENESIS).head()
    assert Head.parse(str(head)) == head
    for spoilt in ("", "0:" + head.digest, str(head)[:-1], str(head).upper()):
        with pytest.raises(ValueError, match="SEQUENCE:DIGEST"):
            Head.parse(spoilt)
