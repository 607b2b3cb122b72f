"""Production stores on simulated disks: held to what they acknowledged, and caught when they are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simulation.chance import Chance
from simulation.disk import Disk, PowerFailure
from simulation.homes import KmeHome, StoreLiedError
from simulation.world import make_realm
from skex.base import codes
from skex.base.errors import StoreFault
from skex.protocol.changes import RealmAccepted, RollbackFound

ROOT = Path(__file__).parents[3]
REALM = make_realm()
ACCEPTED = RealmAccepted(1, REALM.to_bytes())


def a_home(seed: int) -> KmeHome:
    return KmeHome(
        "north", REALM, Disk(seed), Chance(seed).randbytes, lambda: 1_700_001_000, boot=lambda: 1000.0
    )


@pytest.mark.parametrize("calls", range(1, 8))
def test_power_lost_within_a_commit_leaves_the_set_whole_or_absent(calls: int) -> None:
    home = a_home(calls)
    home.commit((ACCEPTED,))
    home.disk.cut_power_after(calls)
    try:
        home.commit((RollbackFound(codes.ROLLBACK_FOUND.name),))
    except PowerFailure:
        home.die()
        home.disk.crash()
        home.open()
    state = home.store.load(0.0)
    assert state.realm is not None
    assert state.realm.data == REALM.to_bytes()
    assert state.rollback_found == home.memory.rollback


def test_full_disk_is_the_stores_own_error_and_loses_nothing() -> None:
    home = a_home(1)
    home.commit((ACCEPTED,))
    home.disk.limit(0)
    with pytest.raises(StoreFault) as caught:
        home.commit((RollbackFound(codes.ROLLBACK_FOUND.name),))
    assert caught.value.code is codes.STORE_FULL
    home.die()
    home.disk.limit(None)
    home.open()
    assert home.store.load(0.0).realm is not None


def test_store_that_lost_what_it_acknowledged_is_caught() -> None:
    home = a_home(1)
    home.die()
    before = home.disk.image()
    home.open()
    home.commit((ACCEPTED,))
    home.die()
    home.disk.restore(before)
    with pytest.raises(StoreLiedError, match="realm"):
        home.open()


@pytest.mark.parametrize("syncs", range(3))
def test_set_whose_sync_failed_is_durable_once_the_next_process_builds_on_it(syncs: int) -> None:
    """The system takes the pages of a failed sync for clean: nothing that follows may rest on them."""
    home = a_home(syncs)
    home.commit((ACCEPTED,))
    home.disk.fail_sync_after(syncs)
    for number in range(8):
        try:
            home.commit((RollbackFound(f"code-{number}"),))
        except StoreFault:
            break
    home.die()
    home.open()
    home.commit((RollbackFound("behind"),))
    home.die()
    home.disk.crash()
    home.open()
    assert home.store.load(0.0).rollback_found == "behind"


@pytest.mark.parametrize("end", ["", "del home; gc.collect()"])
def test_store_left_open_on_a_full_disk_is_silent_when_its_world_ends(end: str) -> None:
    script = f"""
import gc
from tests.unit.simulation.test_homes import ACCEPTED, a_home
home = a_home(1)
home.itself = home
home.commit((ACCEPTED,))
home.disk.limit(0)
{end}
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    assert (run.stdout, run.stderr) == ("", "")
