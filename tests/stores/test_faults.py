"""Disks that fill up or break at every write and sync of a commit, and processes killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from simulation.chance import Chance
from skex.base import codes
from skex.base.errors import ErrorCode, StoreFault
from skex.base.secret import Secret
from skex.protocol.changes import ControlQueued, KeysVoided, Role
from skex.store.kme import KmeStore
from tests.stores.faulty import NAME, FaultyDisk
from tests.stores.support import (
    ALICE,
    BOB,
    MASTER,
    REALM,
    START,
    FileSubject,
    WallClock,
    batch,
    batch_id,
    key_range,
    received,
    request,
    sent,
)

ROOT = Path(__file__).parents[2]


@dataclass
class Faulty:
    """A store on a disk that fails when it is told to."""

    disk: FaultyDisk
    subject: FileSubject


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Faulty]:
    disk = FaultyDisk()
    subject = FileSubject(tmp_path, vfs=NAME)
    subject.commit([received(batch(1)), received(batch(2))])
    yield Faulty(disk, subject)
    disk.faults.heal()
    subject.close()
    disk.unregister()


def calls_of_a_commit(faulty: Faulty) -> int:
    before = faulty.disk.faults.calls
    faulty.subject.commit([received(batch(3, keys=512))])
    return faulty.disk.faults.calls - before


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(apsw.IOError, codes.STORE_IO, id="broken"),
        pytest.param(apsw.FullError, codes.STORE_FULL, id="full"),
        pytest.param(apsw.ReadOnlyError, codes.STORE_READ_ONLY, id="read-only"),
    ],
)
def test_commit_that_a_disk_fails_has_one_code_and_is_whole_or_absent_after_a_restart(
    faulty: Faulty, error: type[apsw.Error], code: ErrorCode
) -> None:
    subject, faults = faulty.subject, faulty.disk.faults
    faults.error = error
    calls = calls_of_a_commit(faulty)
    assert calls > 3
    for step in range(1, calls + 1):
        name = 10 + step
        faults.fail_at = faults.calls + step
        with pytest.raises(StoreFault) as caught:
            subject.commit([received(batch(name, keys=512)), sent(batch(name, keys=512))])
        assert caught.value.code is code
        assert not subject.is_committed(BOB, batch_id(name))
        faults.heal()
        with pytest.raises(StoreFault, match="opened anew"):
            subject.commit([sent(batch(100))])
        subject.reopen()
        present = {one.confirmation.batch for one in subject.state().received}
        assert {batch_id(1), batch_id(2), batch_id(3)} <= present
        assert (batch_id(name) in present) == subject.is_committed(BOB, batch_id(name))
        assert not subject.is_committed(BOB, batch_id(100))


def test_scrubbing_that_a_disk_fails_loses_nothing(faulty: Faulty) -> None:
    subject, faults = faulty.subject, faulty.disk.faults
    subject.commit([KeysVoided(Role.RECEIVER, BOB, (key_range(0),))])
    before = faults.calls
    subject.store.scrub()
    for step in range(1, faults.calls - before + 1):
        subject.commit([sent(batch(step))])
        expected = subject.state()
        faults.fail_at = faults.calls + step
        with suppress(StoreFault):
            subject.store.scrub()
        faults.heal()
        subject.reopen()
        assert subject.state() == expected
        assert subject.is_committed(BOB, batch_id(step))


def test_log_is_overwritten_with_zeros_and_synced_before_it_is_truncated(faulty: Faulty) -> None:
    """The attacker takes the medium apart: what a truncated file leaves in its blocks must be zeros."""
    subject, faults = faulty.subject, faulty.disk.faults
    subject.commit([received(batch(3, keys=900)), received(batch(4, keys=900))])
    size = Path(subject.path + "-wal").stat().st_size
    faults.log_calls.clear()
    subject.store.scrub()
    *writes, sync, truncation = faults.log_calls[-2 + -size // 65_536 :]
    assert (sync[0], truncation[:2]) == ("sync", ("truncate", 0))
    assert [what for what, _, _ in writes] == ["write"] * len(writes)
    covered = 0
    for _, offset, data in writes:
        assert (offset, data.strip(b"\0")) == (covered, b"")
        covered += len(data)
    assert covered == size


def test_store_that_failed_is_not_scrubbed(faulty: Faulty) -> None:
    """Who closes a broken store gets no second error in place of the first."""
    subject, faults = faulty.subject, faulty.disk.faults
    faults.fail_at = faults.calls + 1
    with pytest.raises(StoreFault):
        subject.commit([sent(batch(5))])
    before = faults.calls
    subject.store.scrub()
    assert faults.calls == before


def test_file_that_may_only_be_read_is_refused(faulty: Faulty) -> None:
    faulty.subject.close()
    faulty.disk.faults.read_only = True
    with pytest.raises(StoreFault) as caught:
        faulty.subject.reopen()
    assert caught.value.code is codes.STORE_READ_ONLY
    faulty.disk.faults.read_only = False
    faulty.subject.reopen()


def test_creation_on_a_full_disk_leaves_a_place_where_it_works_later(tmp_path: Path) -> None:
    disk = FaultyDisk()
    disk.faults.error = apsw.FullError
    path, clock = str(tmp_path / "new.sqlite"), WallClock()
    for step in range(1, 200):
        disk.faults.fail_at = disk.faults.calls + step
        try:
            store = KmeStore.create(path, Secret(MASTER), bytes, clock, name=ALICE, realm=REALM, vfs=NAME)
        except StoreFault as fault:
            assert fault.code is codes.STORE_FULL  # noqa: PT017 - how often it fails is not known
            continue
        disk.faults.heal()
        assert store.meta("created") == str(START)
        store.close()
        break
    else:
        pytest.fail("it never works")
    assert step > 3
    disk.unregister()


# ── kill -9 ─────────────────────────────────────────────────────────────────────────────────────
WRITER = """
import sys
from skex.base.secret import Secret
from skex.store.kme import KmeStore
from tests.stores.support import MASTER, WallClock, key_range
from tests.stores.test_faults import numbered

store = KmeStore.open(sys.argv[1], Secret(MASTER), bytes, WallClock())
number = int(sys.argv[2])
while True:
    store.commit(numbered(number))
    print(number, flush=True)
    number += 1
"""


def numbered(number: int) -> list[list[object]]:
    """The sets of commit ``number``: a new batch, a message, and an older batch's key erased."""
    return [
        [received(batch(number, keys=64))],
        [
            ControlQueued(Role.SENDER, BOB, request(number), b"x" * 100),
            KeysVoided(Role.RECEIVER, BOB, (key_range(0, counter=number - 1),)),
        ],
    ]


def commits_until_killed(path: str, first: int, after: float) -> int:
    """Run a writer, kill it so long after its first commit; the last commit that it acknowledged."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, path, str(first)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    acknowledged = writer.stdout.readline()
    with suppress(subprocess.TimeoutExpired):
        writer.wait(after)
    os.kill(writer.pid, signal.SIGKILL)
    rest = writer.stdout.read().splitlines()
    writer.stdout.close()
    writer.wait()
    return int((rest or [acknowledged])[-1])


def test_killed_store_holds_exactly_the_commits_up_to_the_last_or_the_one_under_way(
    file_subject: FileSubject,
) -> None:
    subject, chance = file_subject, Chance(7)
    subject.commit([received(batch(0, keys=64))])
    done = 0
    for _ in range(20):
        subject.close()
        acknowledged = commits_until_killed(subject.path, done + 1, chance.uniform(0.0, 0.05))
        subject.reopen()
        state = subject.state()
        done = len(state.received) - 1
        assert done in {acknowledged, acknowledged + 1}
        assert [one.confirmation.batch.counter for one in state.received] == list(range(done + 1))
        assert [one.request for one in state.peer_messages.queued] == list(map(request, range(1, done + 1)))
        whole = [one.keys[0].first == 0 for one in state.peer_messages.held]
        assert whole == [False] * done + [True]
