"""The audit log on a disk: torn ends are owned up to, one writer at a time, the chain crosses segments."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from skex.audit.chain import Fault, Head, Record
from skex.audit.log import Audit
from skex.base import codes
from skex.base.errors import StoreFault
from skex.runtime import auditfile
from skex.runtime.auditfile import AuditFile, Opening, open_audit, segments, verify
from tests.unit.audit.support import IMPORTANT, MINOR, Clock


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "audit"


def written(directory: Path, count: int, segment_bytes: int = 1 << 20) -> Head:
    """Write so many events, each synced, and close; the head at the end."""
    audit = open_audit(directory, Opening(segment_bytes=segment_bytes), Clock())
    for _ in range(count):
        audit.emit(IMPORTANT)
    return audit.close()


def records(directory: Path) -> list[Record | None]:
    return [Record.from_line(line) for path in segments(directory) for line, _ in auditfile.lines_of(path)]


def test_log_begins_with_its_own_record_and_continues_after_each_start(directory: Path) -> None:
    written(directory, 2)
    head = written(directory, 3)
    report = verify(directory, anchor=head)
    assert report.is_sound
    assert report.records == 6
    assert [one.event for one in records(directory) if one] == ["audit-opened"] + ["keys-delivered"] * 5


def test_nobody_else_may_read_the_log(directory: Path) -> None:
    written(directory, 1)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_stamps_carry_both_clocks_of_this_machine(directory: Path) -> None:
    audit = open_audit(directory)
    audit.close()
    (first,) = records(directory)
    assert first is not None
    assert len(first.boot) == 36
    assert first.clock > 0


def test_second_writer_is_refused_and_the_first_goes_on(directory: Path) -> None:
    audit = open_audit(directory, now=Clock())
    with pytest.raises(StoreFault) as error:
        open_audit(directory)
    assert error.value.code is codes.AUDIT_LOCKED
    audit.emit(IMPORTANT)
    audit.close()
    open_audit(directory, now=Clock()).close()


def test_lock_dies_with_the_process_that_held_it(directory: Path) -> None:
    program = (
        "import os, sys, pathlib\n"
        "from skex.runtime.auditfile import open_audit\n"
        "open_audit(pathlib.Path(sys.argv[1]))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(directory)], check=False, timeout=60)
    assert killed.returncode == -9
    assert verify(directory).is_sound
    open_audit(directory, now=Clock()).close()


def test_chain_continues_across_segments(directory: Path) -> None:
    head = written(directory, 20, segment_bytes=2000)
    found = segments(directory)
    assert len(found) > 3
    assert all(path.stat().st_size <= 2000 for path in found)
    report = verify(directory, anchor=head)
    assert report.is_sound
    assert report.records == 21
    for path in found:
        first = Record.from_line(next(auditfile.lines_of(path))[0])
        assert first is not None
        assert path.name == f"audit-{first.sequence:020}.jsonl"


def test_record_larger_than_a_segment_gets_one_of_its_own(directory: Path) -> None:
    head = written(directory, 2, segment_bytes=1)
    assert len(segments(directory)) == 3
    assert verify(directory, anchor=head).is_sound


def test_removed_segment_in_the_middle_is_found_with_its_neighbour(directory: Path) -> None:
    written(directory, 20, segment_bytes=2000)
    found = segments(directory)
    found[1].unlink()
    problem = verify(directory).problem
    assert problem is not None
    assert (problem.fault, problem.segment, problem.line) == (Fault.MISSING, found[2].name, 1)


def test_removed_last_segment_shows_to_whoever_kept_the_head(directory: Path) -> None:
    head = written(directory, 20, segment_bytes=2000)
    segments(directory)[-1].unlink()
    assert verify(directory).is_sound
    problem = verify(directory, anchor=head).problem
    assert problem is not None
    assert problem.fault is Fault.TRUNCATED


def test_oldest_segments_may_lie_elsewhere_and_the_log_goes_on(directory: Path) -> None:
    written(directory, 20, segment_bytes=2000)
    for path in segments(directory)[:-1]:
        path.unlink()
    head = written(directory, 1, segment_bytes=2000)
    report = verify(directory, anchor=head)
    assert report.is_sound
    assert report.started_at > 1
    assert report.head.sequence == 22


def cut(directory: Path, count: int) -> bytes:
    """Cut bytes off the newest segment, as a crash may; what is left of its last line."""
    path = segments(directory)[-1]
    data = path.read_bytes()[:-count]
    path.write_bytes(data)
    return data.split(b"\n")[-1]


@pytest.mark.parametrize("count", [2, 100, 300])
def test_torn_last_line_is_kept_and_closed_with_a_record_of_it(directory: Path, count: int) -> None:
    written(directory, 3)
    rest = cut(directory, count)
    problem = verify(directory).problem
    assert problem is not None
    assert (problem.fault, problem.line) == (Fault.TORN, 4)
    head = written(directory, 1)
    report = verify(directory, anchor=head)
    assert report.is_sound
    assert [(one.line, one.torn_bytes) for one in report.recoveries] == [(4, len(rest))]
    assert rest in segments(directory)[-1].read_bytes()
    found = records(directory)
    assert found[3] is None
    assert found[4] is not None
    assert found[4].event == "audit-recovered"
    assert found[4].sequence == 4
    assert found[4].details["torn_bytes"] == len(rest)


def test_last_line_that_lost_only_its_end_is_whole(directory: Path) -> None:
    written(directory, 3)
    cut(directory, 1)
    assert verify(directory).is_sound
    head = written(directory, 1)
    report = verify(directory, anchor=head)
    assert report.is_sound
    assert (report.records, report.recoveries) == (5, ())


def test_zeros_that_a_file_system_left_at_the_end_are_recovered(directory: Path) -> None:
    written(directory, 3)
    with segments(directory)[-1].open("ab") as file:
        file.write(bytes(4096))
    assert verify(directory, anchor=written(directory, 1)).is_sound


def test_crash_between_a_new_segment_and_its_first_record_loses_nothing(directory: Path) -> None:
    head = written(directory, 3)
    (directory / f"audit-{head.sequence + 1:020}.jsonl").touch(mode=0o600)
    report = verify(directory, anchor=written(directory, 1))
    assert report.is_sound
    assert report.records == 5


def test_first_record_of_a_segment_that_was_torn_continues_the_segment_before(directory: Path) -> None:
    written(directory, 6, segment_bytes=1500)
    newest = segments(directory)[-1]
    newest.write_bytes(newest.read_bytes()[:40])
    report = verify(directory, anchor=written(directory, 1))
    assert report.is_sound
    assert len(report.recoveries) == 1


def test_log_of_which_only_a_torn_line_is_left_begins_again_behind_it(directory: Path) -> None:
    written(directory, 0)
    cut(directory, 50)
    report = verify(directory, anchor=written(directory, 1))
    assert report.is_sound
    assert report.records == 2


def test_torn_end_that_was_recovered_twice_stays_sound(directory: Path) -> None:
    for count in (30, 60):
        written(directory, 2)
        cut(directory, count)
    report = verify(directory, anchor=written(directory, 1))
    assert report.is_sound
    assert len(report.recoveries) == 2


def test_log_that_an_intruder_altered_still_opens_and_stays_unsound(directory: Path) -> None:
    """A daemon that refused to start would let anybody who alters the log stop it."""
    written(directory, 5)
    path = segments(directory)[0]
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b"vpn@site-1", b"web@site-1")
    path.write_bytes(b"\n".join(lines))
    for _ in range(2):
        written(directory, 1)
        problem = verify(directory).problem
        assert problem is not None
        assert (problem.fault, problem.line) == (Fault.ALTERED, 3)
    last = records(directory)[-1]
    assert last is not None
    assert last.event == "keys-delivered"


def test_write_that_the_disk_refuses_is_a_fault_and_the_next_start_recovers(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = open_audit(directory, now=Clock())
    write = os.write
    left = [100]

    def full(descriptor: int, data: memoryview) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: left[0]]
        left[0] -= len(part)
        return write(descriptor, part)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreFault) as error:
        audit.emit(IMPORTANT)
    assert error.value.code is codes.AUDIT_IO
    assert "No space left" in error.value.detail
    monkeypatch.undo()
    with pytest.raises(StoreFault):
        audit.emit(IMPORTANT)
    with pytest.raises(StoreFault):
        audit.close()
    report = verify(directory, anchor=written(directory, 1))
    assert report.is_sound
    assert [one.torn_bytes for one in report.recoveries] == [100]


def test_short_writes_are_continued(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    assert verify(directory, anchor=written(directory, 2)).is_sound


def test_important_event_is_synced_and_a_minor_one_is_not(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = open_audit(directory, now=Clock())
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    audit.emit(MINOR)
    assert synced == []
    audit.emit(IMPORTANT)
    assert len(synced) == 1
    audit.close()
    assert len(synced) == 1


def test_sync_that_fails_is_a_fault(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = open_audit(directory, now=Clock())

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(StoreFault) as error:
        audit.emit(IMPORTANT)
    assert error.value.code is codes.AUDIT_IO


@pytest.mark.parametrize("action", [verify, segments, open_audit, AuditFile])
def test_directory_that_cannot_be_used_is_a_fault(directory: Path, action: object) -> None:
    directory.parent.joinpath("file").touch()
    assert callable(action)
    with pytest.raises(StoreFault) as error:
        action(directory.parent / "file" / "audit")
    assert error.value.code is codes.AUDIT_IO


def test_segment_that_is_a_link_or_cannot_be_read_is_a_fault(directory: Path) -> None:
    written(directory, 1)
    path = segments(directory)[0]
    path.rename(directory / "elsewhere")
    path.symlink_to(directory / "elsewhere")
    with pytest.raises(StoreFault) as error:
        open_audit(directory)
    assert error.value.code is codes.AUDIT_IO
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreFault):
        verify(directory)
    path.rmdir()
    (directory / "elsewhere").rename(path)
    assert isinstance(open_audit(directory, now=Clock()), Audit)


def test_closing_a_file_twice_is_harmless(directory: Path) -> None:
    file = AuditFile(directory)
    file.close()
    file.close()
    AuditFile(directory).close()
