"""``skex audit export``: every record once, in order, resumable, and followed while it is written."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skex.audit import events
from skex.audit.chain import Record
from skex.audit.events import Event
from skex.base.ids import KmeName
from skex.daemon import homes
from skex.runtime.auditfile import Opening, open_audit
from tests.cli.transcripts import refused, skex
from tests.unit.audit.test_syslog import parsed

SMALL = Opening(segment_bytes=1000)


def write(home: Path, count: int) -> None:
    audit = open_audit(home / "audit", SMALL)
    for _ in range(count):
        audit.emit(Event(events.DAEMON_STOPPED))
    audit.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Ten records in several segments."""
    path = tmp_path / "north"
    homes.init_kme(path, KmeName("north"), {})
    write(path, 9)
    return path


def sequences(text: str) -> list[int]:
    records = [Record.from_line(line.encode()) for line in text.splitlines()]
    return [record.sequence for record in records if record is not None]


def test_lines_are_those_of_the_log(home: Path) -> None:
    answer = skex("audit", "export", home)
    assert answer.code == 0
    found = sorted((home / "audit").glob("*.jsonl"))
    assert len(found) > 2
    assert answer.stdout == "".join(path.read_text() for path in found)
    assert sequences(answer.stdout) == list(range(1, 11))


def test_messages_are_of_rfc_5424(home: Path) -> None:
    answer = skex("audit", "export", "--home", home, "--format", "syslog", "--enterprise", "4242")
    found = [parsed(line) for line in answer.stdout.splitlines()]
    assert [dict(one.params)["sequence"] for one in found] == [str(number) for number in range(1, 11)]
    assert {one.sd_id for one in found} == {"skex@4242"}
    assert {one.fields["host"] for one in found} == {"north"}


def test_export_resumes_with_a_number_and_filters_as_show_does(home: Path) -> None:
    assert sequences(skex("audit", "export", home, "--from-sequence", "7").stdout) == [7, 8, 9, 10]
    assert sequences(skex("audit", "export", home, "--from-sequence", "11").stdout) == []
    assert sequences(skex("audit", "export", home, "--event", "audit-opened").stdout) == [1]
    assert sequences(skex("audit", "export", home, "--about", "nothing").stdout) == []


def test_records_that_are_elsewhere_are_not_passed_over_in_silence(home: Path) -> None:
    min((home / "audit").glob("*.jsonl")).unlink()
    assert refused("audit", "export", home, "--from-sequence", "1") == (3, "audit-records-elsewhere")
    assert sequences(skex("audit", "export", home).stdout)[-1] == 10


def test_line_that_is_no_record_is_left_out_and_said(home: Path) -> None:
    path = min((home / "audit").glob("*.jsonl"))
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    answer = skex("audit", "export", home)
    assert answer.code == 4
    assert "1 lines are no records" in answer.stderr
    assert sequences(answer.stdout) == list(range(1, 11))


def test_export_into_a_new_file_only(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "log.jsonl"
    assert skex("audit", "export", home, "--out", out).code == 0
    assert sequences(out.read_text()) == list(range(1, 11))
    assert refused("audit", "export", home, "--out", out)[1] == "file-exists"


def test_log_that_is_not_there_yet_exports_nothing(tmp_path: Path) -> None:
    homes.init_kme(tmp_path / "new", KmeName("north"), {})
    answer = skex("audit", "export", tmp_path / "new")
    assert (answer.code, answer.stdout) == (0, "")


def test_followed_log_is_told_as_it_grows_across_segments(home: Path) -> None:
    command = [sys.executable, "-m", "skex", "audit", "export", str(home), "--follow", "--from-sequence", "9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        seen = [follower.stdout.readline() for _ in range(2)]
        write(home, 6)
        seen += [follower.stdout.readline() for _ in range(6)]
        follower.send_signal(signal.SIGINT)
    assert sequences("".join(seen)) == list(range(9, 17))


def test_reader_that_goes_away_ends_the_export(home: Path) -> None:
    command = [sys.executable, "-m", "skex", "audit", "export", str(home), "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        follower.stdout.readline()
        follower.stdout.close()
        for _ in range(3):
            write(home, 1)
        assert follower.wait(60) == 0
