"""``skex audit``: what it shows, and that it finds what is wrong with logs, alone and together."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from skex.audit import events
from skex.audit.events import Event, Verdict
from skex.audit.fields import Actor, ActorKind, Subject
from skex.audit.log import Audit
from skex.base.ids import KmeName, SaeId
from skex.daemon import homes
from skex.daemon.starting import locked
from skex.runtime.auditfile import open_audit
from tests.cli.transcripts import done, refused, skex

ALICE = Actor(ActorKind.SAE, SaeId("app@north"))


def delivery(number: int, *, keys: int = 1) -> Event:
    key = Subject.key(uuid.UUID(int=number, version=4))
    return Event(
        events.KEYS_DELIVERED,
        ALICE,
        (Subject.kme(KmeName("south")), key),
        verdict=Verdict.ALLOWED,
        details={"keys": keys},
    )


def write(home: Path, *happened: Event) -> None:
    audit: Audit = open_audit(home / "audit")
    for event in happened:
        audit.emit(event)
    audit.close()


def log_of(home: Path) -> Path:
    (segment,) = (home / "audit").glob("*.jsonl")
    return segment


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A KME's home with four records: opened, started, one delivery, stopped."""
    path = tmp_path / "north"
    homes.init_kme(path, KmeName("north"), {})
    write(path, Event(events.DAEMON_STARTED), delivery(1), Event(events.DAEMON_STOPPED))
    return path


# ── show ────────────────────────────────────────────────────────────────────────────────────────
def test_show_lists_the_last_records_and_filters_them(home: Path) -> None:
    shown = done("audit", "show", home)["records"]
    assert [one["event"] for one in shown] == [
        "audit-opened",
        "daemon-started",
        "keys-delivered",
        "daemon-stopped",
    ]
    assert [one["sequence"] for one in done("audit", "show", home, "--last", "2")["records"]] == [3, 4]
    assert len(done("audit", "show", home, "--all")["records"]) == 4
    only = ("--event", "daemon-started", "--event", "daemon-stopped")
    assert [one["sequence"] for one in done("audit", "show", home, *only)["records"]] == [2, 4]
    (found,) = done("audit", "show", home, "--about", "app@north")["records"]
    assert found["subjects"]["kme"] == ["south"]
    assert found["details"] == {"keys": 1}
    text = skex("audit", "show", "--home", home).stdout
    assert "3  " in text
    assert "keys-delivered" in text
    assert "sae:app@north" in text


def test_show_puts_several_logs_in_the_order_of_time(home: Path, tmp_path: Path) -> None:
    homes.init_kme(tmp_path / "south", KmeName("south"), {})
    write(tmp_path / "south", Event(events.DAEMON_STARTED))
    write(home, Event(events.DAEMON_STARTED))
    shown = done("audit", "show", home, tmp_path / "south")["records"]
    assert [Path(one["home"]).name for one in shown] == ["north"] * 4 + ["south"] * 2 + ["north"]
    assert skex("audit", "show", home, tmp_path / "south").stdout.startswith("north  1  ")


def test_show_shows_a_damaged_log_too_and_says_so(home: Path) -> None:
    data = log_of(home).read_bytes()
    log_of(home).write_bytes(data.replace(b"daemon-started", b"daemon-stopped"))
    answer = skex("audit", "show", home)
    assert answer.code == 4
    assert "daemon-stopped" in answer.stdout
    assert "line 2: altered" in answer.stderr


def test_show_takes_all_or_a_number(home: Path) -> None:
    assert skex("audit", "show", home, "--all", "--last", "3").code == 2
    assert skex("audit", "show", home, "--event", "nothing").code == 2


# ── verify ──────────────────────────────────────────────────────────────────────────────────────
def test_verify_of_a_whole_log_says_its_head_which_later_anchors_it(home: Path) -> None:
    (log,) = done("audit", "verify", home)["logs"]
    assert (log["records"], log["first"], log["problem"], log["recoveries"]) == (4, 1, None, [])
    write(home, Event(events.DAEMON_STARTED))
    assert done("audit", "verify", home, "--head", log["head"])["sound"]
    lines = log_of(home).read_bytes().splitlines(keepends=True)
    log_of(home).write_bytes(b"".join(lines[:3]))
    assert done("audit", "verify", home)["sound"]
    answer = skex("audit", "verify", home, "--head", log["head"], "--json")
    assert (answer.code, answer.data["logs"][0]["problem"]["fault"]) == (4, "truncated")


@pytest.mark.parametrize(
    ("fault", "line", "change"),
    [
        ("missing", 3, lambda lines: lines[:2] + lines[3:]),
        ("altered", 2, lambda lines: [lines[0], lines[1].replace(b"started", b"stopped"), *lines[2:]]),
        ("moved", 2, lambda lines: [lines[0], lines[2], lines[1], lines[3]]),
        ("repeated", 3, lambda lines: [*lines[:2], lines[1], *lines[2:]]),
        ("malformed", 3, lambda lines: [*lines[:2], b"hello\n", *lines[2:]]),
        ("torn", 4, lambda lines: [*lines[:3], lines[3][:-9]]),
    ],
)
def test_verify_names_the_first_line_that_cannot_be_relied_on(
    home: Path, fault: str, line: int, change: object
) -> None:
    lines = log_of(home).read_bytes().splitlines(keepends=True)
    assert callable(change)
    log_of(home).write_bytes(b"".join(change(lines)))
    answer = skex("audit", "verify", home, "--json")
    problem = answer.data["logs"][0]["problem"]
    assert (answer.code, answer.data["sound"]) == (4, False)
    assert (problem["fault"], problem["line"], problem["segment"]) == (fault, line, log_of(home).name)
    assert f"line {line}: {fault}" in skex("audit", "verify", home).stdout


def test_a_log_that_was_taken_away_proves_nothing(home: Path) -> None:
    assert skex("audit", "verify", home).stdout.startswith("proved")
    log_of(home).unlink()
    answer = skex("audit", "verify", home)
    assert answer.code == 0
    assert answer.stdout.startswith("unseen")


def test_a_torn_end_is_sound_once_a_start_has_recovered_it(home: Path) -> None:
    with log_of(home).open("ab") as file:
        file.write(b'{"format":1,"seq')
    assert skex("audit", "verify", home).code == 4
    write(home, Event(events.DAEMON_STARTED))
    (log,) = done("audit", "verify", home)["logs"]
    assert log["recoveries"] == [{"segment": log_of(home).name, "line": 5, "torn_bytes": 16}]
    assert "16 bytes that a crash tore, recovered" in skex("audit", "verify", home).stdout


def test_verify_reads_beside_a_running_daemon_and_where_nothing_may_be_written(home: Path) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    with locked(home):
        assert done("audit", "verify", "--home", home)["sound"]
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_segments_that_were_moved_away_verify_by_themselves(home: Path, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    moved = tmp_path / "archive" / log_of(home).name
    log_of(home).rename(moved)
    assert done("audit", "verify", tmp_path / "archive")["logs"][0]["records"] == 4
    lines = moved.read_bytes().splitlines(keepends=True)
    later = tmp_path / "archive" / "audit-00000000000000000003.jsonl"
    later.write_bytes(b"".join(lines[2:]))
    moved.unlink()
    assert done("audit", "verify", tmp_path / "archive")["logs"][0]["first"] == 3
    assert "Records 1 to 2 are elsewhere" in skex("audit", "verify", tmp_path / "archive").stdout


def test_what_has_no_log_is_refused(tmp_path: Path, home: Path) -> None:
    assert refused("audit", "verify", tmp_path)[0] == 3
    assert refused("audit", "verify", "--home", tmp_path / "none") == (4, "home-missing")
    assert skex("audit", "verify", tmp_path / "none").code == 2
    assert skex("audit", "verify", home, "--head", "1:abc").code == 2
    assert skex("audit", "verify", home, tmp_path, "--head", f"1:{'0' * 128}").code == 2
    shutil.rmtree(home / "audit")
    assert refused("audit", "verify", home) == (4, "audit-io")


# ── together ────────────────────────────────────────────────────────────────────────────────────
def test_a_key_that_went_to_one_sae_twice_is_found_over_several_logs(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    homes.init_kme(other, KmeName("north"), {})
    write(other, delivery(2))
    data = done("audit", "verify", home, other)
    assert data["together"] == [
        {
            "check": "delivered",
            "verdict": "proved",
            "sentence": "2 deliveries of a key to an SAE are recorded, none twice.",
        }
    ]
    write(other, delivery(1))
    answer = skex("audit", "verify", home, other, "--json")
    assert (answer.code, answer.data["together"][0]["verdict"]) == (4, "wrong")
    assert answer.data["together"][0]["sentence"] == "1 keys were delivered twice to the same SAE."


def test_keys_of_requests_too_large_to_name_are_owned_up_to(home: Path) -> None:
    write(home, delivery(3, keys=5))
    together = done("audit", "verify", home)["together"]
    assert [one["verdict"] for one in together] == ["proved", "unseen"]
    assert together[1]["sentence"].startswith("4 keys ")


def test_a_copied_log_is_named_and_wrong_once_both_went_on(home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    data = done("audit", "verify", home, copy)
    assert data["together"][0]["verdict"] == "proved"
    assert data["together"][1]["verdict"] == "unseen"
    assert "the same up to record 4" in data["together"][1]["sentence"]
    write(home, Event(events.DAEMON_STARTED))
    assert done("audit", "verify", home, copy)["sound"]
    assert done("audit", "verify", copy, home)["sound"]
    write(copy, delivery(9))
    answer = skex("audit", "verify", home, copy, "--json")
    assert answer.code == 4
    assert "part behind record 4: both went on" in answer.data["together"][1]["sentence"]


def test_a_directory_named_twice_under_two_names_is_no_copy(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    assert len(done("audit", "verify", home, tmp_path / "link")["together"]) == 1
