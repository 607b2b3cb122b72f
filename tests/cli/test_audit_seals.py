"""Seals and the store's memory against whoever has the machine: each attack found, and named.

The intruder may write every file of the home, and knows the sealing key of the moment of the attack,
never an earlier one. What is found with the auditor's key, and what without, is said for each.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from skex.audit import events
from skex.audit.chain import GENESIS, Record
from skex.audit.events import Event
from skex.audit.seals import SealingKey
from skex.base.ids import KmeName
from skex.daemon import config, homes
from skex.daemon.enrolment import open_log
from skex.runtime import sealfile
from skex.store.database import checked_vfs
from tests.cli.transcripts import done, refused, skex

OURS, OTHER = KmeName("north"), KmeName("south")


def session(home: Path, records: int = 2) -> None:
    """One run of a daemon, as far as the log and the store see it; it seals at its end."""
    with open_log(config.load_kme(home)) as audit:
        for _ in range(records):
            audit.emit(Event(events.DAEMON_STOPPED))


@dataclass(frozen=True)
class Sealed:
    """A home with four seals, whose key an auditor has."""

    home: Path
    key: Path

    @property
    def audit(self) -> Path:
        return self.home / "audit"

    @property
    def segment(self) -> Path:
        (found,) = self.audit.glob("*.jsonl")
        return found

    def lines(self) -> list[bytes]:
        return self.segment.read_bytes().splitlines()

    def write(self, lines: Sequence[bytes]) -> None:
        self.segment.write_bytes(b"".join(line + b"\n" for line in lines))

    def forget(self) -> None:
        """The intruder mends what the store remembers: nothing of it is secret from who has the machine."""
        store = opened_store(self.home)
        store.execute("DELETE FROM meta WHERE name = 'audit_head'")
        store.close()

    def found(self, *, with_key: bool) -> tuple[int, set[str]]:
        """The exit code, and the codes of everything that is wrong."""
        key = ("--key", self.key) if with_key else ()
        answer = skex("audit", "verify", self.home, *key, "--json")
        (log,) = answer.data["logs"]
        wrong = {one["code"] for one in log["statements"] if one["verdict"] == "wrong"}
        problem = set() if log["problem"] is None else {log["problem"]["fault"]}
        return answer.code, wrong | problem


def opened_store(home: Path) -> apsw.Connection:
    """The store, as whoever has the machine can write to it: with the checksums of its pages made anew."""
    return apsw.Connection(str(home / "store.sqlite"), vfs=checked_vfs())


def sealed_home(directory: Path, name: KmeName) -> Sealed:
    home, key = directory / name, directory / f"{name}.auditkey"
    homes.init_kme(home, name, {})
    done("audit", "key", "--home", home, "--out", key)
    for _ in range(3):
        session(home)
    return Sealed(home, key)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return sealed_home(tmp_path_factory.mktemp("template"), OURS)


@pytest.fixture
def sealed(template: Sealed, tmp_path: Path) -> Sealed:
    """A copy of one home: making it anew for each test would take most of the time."""
    home, key = tmp_path / OURS, tmp_path / template.key.name
    shutil.copytree(template.home, home)
    shutil.copy(template.key, key)
    return Sealed(home, key)


def rechained(lines: Sequence[bytes]) -> list[bytes]:
    """The chain made anew over changed records, as anybody can who has no key."""
    head, made = GENESIS, []
    for line in lines:
        record = Record.from_line(line)
        assert record is not None
        record = replace(record, sequence=head.sequence + 1, previous=head.digest)
        head = record.head()
        made.append(record.to_line())
    return made


def seals(lines: Sequence[bytes]) -> list[int]:
    """Which lines are seals."""
    return [at for at, line in enumerate(lines) if b'"event":"audit-sealed"' in line]


# ── taking the key, sealing ─────────────────────────────────────────────────────────────────────
def test_key_is_handed_out_once_and_then_the_log_is_sealed_at_each_stop(sealed: Sealed) -> None:
    assert len(seals(sealed.lines())) == 4
    assert sealed.key.stat().st_mode & 0o777 == 0o600
    assert sealed.key.read_text().startswith("skex audit key 1\nof kme:north\n")
    taken = SealingKey.from_text(sealed.key.read_text())
    kept = sealfile.kept_in(sealed.home)
    assert kept is not None
    assert (kept.series, kept.key.epoch, kept.is_taken) == (taken.digest, 4, True)
    assert taken.key.expose() not in (sealed.home / "audit.sealing").read_bytes()
    assert refused("audit", "key", "--home", sealed.home) == (3, "audit-key-gone")


def test_key_goes_to_stdout_if_no_file_is_named(tmp_path: Path) -> None:
    homes.init_kme(tmp_path / "home", OURS, {})
    answer = skex("audit", "key", "--home", tmp_path / "home")
    assert answer.code == 0
    assert SealingKey.from_text(answer.stdout).epoch == 0
    assert "off this machine" in answer.stderr


def test_log_without_a_taken_key_is_not_sealed_and_says_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    homes.init_kme(home, OURS, {})
    session(home)
    assert b"audit-sealed" not in next((home / "audit").glob("*.jsonl")).read_bytes()
    assert "nobody took its key" in skex("audit", "verify", home).stdout
    assert refused("audit", "seal", "--home", home) == (3, "audit-key-untaken")


def test_whole_log_is_proved_up_to_its_last_seal_and_the_rest_is_named(sealed: Sealed) -> None:
    text = skex("audit", "verify", sealed.home, "--key", sealed.key).stdout
    last = len(sealed.lines())
    assert f"4 seals are genuine: records 1 to {last} are as they were written" in text
    assert "The last seal is " in text
    assert f"Record {last}, which the store remembers, is in it." in text
    lines = sealed.lines()
    sealed.forget()
    sealed.write(lines + tail(lines, 3))
    text = skex("audit", "verify", sealed.home, "--key", sealed.key).stdout
    assert f"3 records behind record {last} are not sealed" in text
    assert sealed.found(with_key=True) == (0, set())


def tail(lines: Sequence[bytes], count: int) -> list[bytes]:
    """More records, as an intruder writes them: what is behind the last seal proves nothing."""
    last = Record.from_line(lines[-1])
    assert last is not None
    head, made = last.head(), []
    for _ in range(count):
        record = replace(last, sequence=head.sequence + 1, previous=head.digest, epoch=0, seal="",
                         event="daemon-stopped", details={})  # fmt: skip
        head = record.head()
        made.append(record.to_line())
    return made


def test_renewed_key_joins_the_seals_before_and_each_key_proves_its_part(sealed: Sealed) -> None:
    second = sealed.key.with_name("second.auditkey")
    done("audit", "key", "--home", sealed.home, "--renew", "--out", second)
    session(sealed.home)
    both = done("audit", "verify", sealed.home, "--key", sealed.key, "--key", second)["logs"][0]
    assert both["seals"]["verified"] == both["seals"]["in_log"] == 7
    assert sealed.found(with_key=True) == (0, set())
    one = done("audit", "verify", sealed.home, "--key", sealed.key)["logs"][0]
    assert one["seals"]["verified"] == 5
    later = done("audit", "verify", sealed.home, "--key", second)["logs"][0]
    assert later["seals"]["sealed_to"] == both["seals"]["sealed_to"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1],
        lambda text: text.replace("key ", "key  "),
        lambda text: text[:60] + ("0" if text[60] != "0" else "1") + text[61:],
        lambda _text: "",
        lambda _text: "\xe9",
    ],
)
def test_spoilt_key_file_is_refused(sealed: Sealed, spoil: Callable[[str], str]) -> None:
    sealed.key.write_text(spoil(sealed.key.read_text()))
    assert refused("audit", "verify", sealed.home, "--key", sealed.key) == (3, "audit-key-invalid")


# ── the intruder ────────────────────────────────────────────────────────────────────────────────
def changed(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"actor":"operator', b'"actor":"hub'), *lines[2:]]


def cut(lines: list[bytes]) -> list[bytes]:
    return lines[: seals(lines)[1] + 1]


TAMPERED: list[tuple[str, Callable[[list[bytes]], list[bytes]], set[str], set[str]]] = [
    ("a byte, the chain as it was", changed, {"altered"}, {"altered"}),
    ("a byte, the chain anew", lambda lines: rechained(changed(lines)), {"replaced"}, {"forged", "replaced"}),
    ("a record dropped", lambda lines: lines[:4] + lines[5:], {"missing"}, {"missing"}),
    (
        "a record dropped, the chain anew",
        lambda lines: rechained(lines[:4] + lines[5:]),
        {"truncated"},
        {"forged", "truncated"},
    ),
    ("a record twice", lambda lines: [*lines[:4], lines[3], *lines[4:]], {"repeated"}, {"repeated"}),
    ("two records swapped", lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], {"moved"}, {"moved"}),
    ("cut behind a seal", cut, {"truncated"}, {"truncated"}),
    ("cut within the last seal's records", lambda lines: lines[:-1], {"truncated"}, {"truncated"}),
    (
        "a seal dropped, the chain anew",
        lambda lines: rechained([line for at, line in enumerate(lines) if at != seals(lines)[1]]),
        {"truncated", "unsealed"},
        {"unsealed", "truncated"},
    ),
    (
        "written anew without seals",
        lambda lines: rechained([line for at, line in enumerate(lines) if at not in seals(lines)]),
        {"truncated"},
        {"unsealed", "truncated"},
    ),
    ("taken away", lambda _lines: [], {"truncated"}, {"truncated", "unsealed"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "tamper", "without", "with_key"), TAMPERED, ids=[one[0] for one in TAMPERED]
)
def test_tampered_log_is_found_and_named(
    sealed: Sealed,
    what: str,
    tamper: Callable[[list[bytes]], list[bytes]],
    without: set[str],
    with_key: set[str],
) -> None:
    sealed.write(tamper(sealed.lines()))
    code, found = sealed.found(with_key=False)
    assert code == 4, what
    assert without <= found
    code, found = sealed.found(with_key=True)
    assert code == 4, what
    assert with_key <= found


@pytest.mark.parametrize(
    "tamper",
    [lambda lines: rechained(changed(lines)), cut, lambda lines: lines[:-1], lambda _lines: []],
)
def test_intruder_who_mends_the_store_too_does_not_get_past_the_key(
    sealed: Sealed, tamper: Callable[[list[bytes]], list[bytes]]
) -> None:
    sealed.write(tamper(sealed.lines()))
    sealed.forget()
    assert sealed.found(with_key=True)[0] == 4


def test_intruder_cannot_go_on_sealing_behind_what_was_cut_off(sealed: Sealed) -> None:
    """The key of the moment makes no seal of an earlier epoch, and one of its own does not fit."""
    lines = cut(sealed.lines())
    kept = sealfile.kept_in(sealed.home)
    assert kept is not None
    (forged,) = tail(lines, 1)
    record = Record.from_line(forged)
    assert record is not None
    details: dict[str, Any] = {"records": 1, "series": kept.series}
    for epoch in (2, kept.key.epoch):
        key = SealingKey(kept.key.series, epoch, kept.key.key)
        sealed.write([*lines, key.seal(replace(record, event="audit-sealed", details=details)).to_line()])
        sealed.forget()
        assert sealed.found(with_key=True)[0] == 4


def test_start_on_a_log_that_was_cut_off_leaves_a_record_of_it(sealed: Sealed) -> None:
    sealed.write(cut(sealed.lines()))
    session(sealed.home)
    code, found = sealed.found(with_key=False)
    assert code == 4
    assert "contradicted" in found
    assert b'"what":"log-cut"' in sealed.segment.read_bytes()


def test_start_on_another_log_leaves_a_record_of_it(sealed: Sealed) -> None:
    lines = rechained(changed(sealed.lines()))
    sealed.write(lines + tail(lines, 2))
    session(sealed.home)
    assert b'"what":"log-replaced"' in sealed.segment.read_bytes()


def test_log_swapped_for_another_homes_is_found_with_and_without_the_key(
    sealed: Sealed, tmp_path: Path
) -> None:
    other = sealed_home(tmp_path, OTHER)
    sealed.segment.write_bytes(other.segment.read_bytes())
    assert {"other-owner", "replaced"} <= sealed.found(with_key=False)[1]
    assert {"other-owner", "other-series"} <= sealed.found(with_key=True)[1]
    (sealed.home / "audit.sealing").write_bytes((other.home / "audit.sealing").read_bytes())
    sealed.forget()
    assert "other-owner" in sealed.found(with_key=False)[1]
    assert "other-series" in sealed.found(with_key=True)[1]


def test_older_log_that_was_put_back_is_found(sealed: Sealed) -> None:
    older = sealed.segment.read_bytes()
    session(sealed.home)
    sealed.segment.write_bytes(older)
    assert "truncated" in sealed.found(with_key=False)[1]
    sealed.forget()
    assert "truncated" in sealed.found(with_key=True)[1]


def test_older_sealing_key_that_was_put_back_is_found(sealed: Sealed) -> None:
    older = (sealed.home / "audit.sealing").read_bytes()
    for _ in range(2):
        session(sealed.home)
    (sealed.home / "audit.sealing").write_bytes(older)
    assert sealed.found(with_key=True) == (4, {"stale-key"})
    assert sealed.found(with_key=False) == (4, {"stale-key"})


def test_invented_sealing_key_is_found_with_the_key(sealed: Sealed) -> None:
    sealed.write(cut(sealed.lines()))
    sealed.forget()
    kept = sealfile.kept_in(sealed.home)
    assert kept is not None
    forged = SealingKey(kept.key.series, 2, kept.key.key)  # the right epoch, the key of another
    slot = sealfile._Slot(is_taken=True, serial=9, sealed_to=1, key=forged)
    (sealed.home / "audit.sealing").write_bytes(slot.to_bytes())
    assert sealed.found(with_key=True) == (4, {"stale-key"})


def test_sealing_key_that_was_taken_away_is_found_and_the_next_start_says_so(sealed: Sealed) -> None:
    (sealed.home / "audit.sealing").unlink()
    assert sealed.found(with_key=False) == (4, {"stale-key"})
    session(sealed.home)
    assert b'"what":"sealing-key-lost"' in sealed.segment.read_bytes()
    assert {"contradicted", "other-series"} <= sealed.found(with_key=True)[1]


def in_segments(sealed: Sealed) -> list[Path]:
    """The same log in segments of three records."""
    lines = sealed.lines()
    sealed.segment.unlink()
    made = []
    for begin in range(0, len(lines), 3):
        path = sealed.audit / f"audit-{begin + 1:020}.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in lines[begin : begin + 3]))
        made.append(path)
    return made


def test_deleted_segments_are_found_wherever_they_were(sealed: Sealed) -> None:
    first, second, *_, last = in_segments(sealed)
    assert sealed.found(with_key=True) == (0, set())
    kept = second.read_bytes()
    second.unlink()
    assert "missing" in sealed.found(with_key=False)[1]
    second.write_bytes(kept)
    kept = last.read_bytes()
    last.unlink()
    assert "truncated" in sealed.found(with_key=False)[1]
    assert "truncated" in sealed.found(with_key=True)[1]
    last.write_bytes(kept)
    first.unlink()
    second.unlink()
    (log,) = done("audit", "verify", sealed.home, "--key", sealed.key)["logs"]
    codes = [one.get("code") for one in log["statements"]]
    assert codes.count("begins-late") == 2  # records, and the seals of the first epochs
    assert log["seals"]["verified"] > 0


def test_seal_now_covers_what_was_not_sealed_yet(sealed: Sealed) -> None:
    assert "sealed up to record" in skex("audit", "seal", "--home", sealed.home).stdout
    before = len(seals(sealed.lines()))
    assert done("audit", "seal", "--home", sealed.home)["sealed"] is False
    assert len(seals(sealed.lines())) == before


def test_home_of_before_seals_goes_on_and_is_sealed_once_somebody_takes_its_key(tmp_path: Path) -> None:
    """No sealing file, no memory in the store: as every home was before there were seals."""
    home, key = tmp_path / "home", tmp_path / "home.auditkey"
    homes.init_kme(home, OURS, {})
    session(home)
    sealed = Sealed(home, key)
    (home / "audit.sealing").unlink()
    sealed.forget()
    assert sealed.found(with_key=False) == (0, set())
    session(home)
    assert sealed.found(with_key=False) == (0, set())
    done("audit", "key", "--home", home, "--out", key)
    session(home)
    verified: dict[str, Any] = done("audit", "verify", home, "--key", key)["logs"][0]
    assert verified["seals"]["verified"] == 2
    assert verified["seals"]["sealed_to"] == verified["records"]


def test_store_that_is_behind_the_log_is_no_alarm(sealed: Sealed) -> None:
    """A crash comes between the log and the store: only the log has the last records."""
    store = opened_store(sealed.home)
    ((before,),) = store.execute("SELECT value FROM meta WHERE name = 'audit_head'")
    store.close()
    session(sealed.home)
    store = opened_store(sealed.home)
    store.execute("UPDATE meta SET value = ? WHERE name = 'audit_head'", (before,))
    store.close()
    assert sealed.found(with_key=True) == (0, set())
    session(sealed.home)
    assert sealed.found(with_key=True) == (0, set())


def test_store_that_cannot_be_asked_leaves_the_end_unseen(sealed: Sealed) -> None:
    (sealed.home / "master.key").chmod(0o644)
    text = skex("audit", "verify", sealed.home).stdout
    assert "its store cannot be asked (master-key-invalid)" in text
