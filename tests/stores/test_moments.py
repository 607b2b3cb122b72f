"""Ages in a store, while somebody sets the wall clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from skex.base.secret import Secret
from skex.protocol.changes import RealmAccepted, RollbackFound
from skex.store.kme import KmeStore
from tests.stores.support import ALICE, MASTER, REALM
from tests.unit.protocol.realm_support import realm_of

DAY = 86_400
START = 1_700_000_000


class Machine:
    """A store, the machine's two clocks, and what is set."""

    def __init__(self, path: Path) -> None:
        self.path = str(path / "store.sqlite")
        self.wall, self.boot = START, 1000.0
        KmeStore.create(self.path, Secret(MASTER), bytes, lambda: self.wall, name=ALICE, realm=REALM).close()
        self.start()
        self.store.commit([[RealmAccepted(1, realm_of(5, 3).to_bytes())]])

    def start(self) -> None:
        self.store = KmeStore.open(
            self.path, Secret(MASTER), bytes, lambda: self.wall, boot=lambda: self.boot
        )

    def run(self, seconds: int, *, ahead: int = 0) -> None:
        """Run for so long, while the wall clock is set ahead, or back; then something is committed."""
        self.boot += seconds
        self.wall += seconds + ahead
        self.store.commit([[RollbackFound("rollback-found")]])

    def reboot(self, seconds: int, *, ahead: int = 0) -> None:
        """Be off for so long, while the wall clock is set."""
        self.store.close()
        self.boot = 5.0
        self.wall += seconds + ahead
        self.start()

    @property
    def age(self) -> float:
        held = self.store.held_realm()
        assert held is not None
        return held.age


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_is_kept_grows_old_while_the_daemon_runs_though_the_clock_is_set_back(machine: Machine) -> None:
    machine.run(300, ahead=-DAY)
    assert machine.age == 300
    machine.run(60)
    machine.reboot(10)
    assert machine.age == 370


def test_steps_back_by_less_than_what_passed_add_up_to_nothing(machine: Machine) -> None:
    for _ in range(10):
        machine.run(100, ahead=-30)
    assert machine.age == 1000


def test_clock_set_ahead_ages_and_setting_it_back_makes_nothing_young_again(machine: Machine) -> None:
    machine.run(100, ahead=DAY)
    machine.run(100, ahead=-DAY)
    machine.reboot(10)
    assert machine.age == DAY + 210


def test_time_off_while_the_clock_was_set_back_is_unknown_and_takes_nothing_back(machine: Machine) -> None:
    machine.run(100)
    machine.reboot(500, ahead=-DAY)
    assert machine.age == 100


def test_clocks_that_are_read_between_seconds_do_not_run_ahead_of_either(machine: Machine) -> None:
    for half in range(1, 201):
        machine.boot = 1000.0 + half / 2
        machine.wall = START + half // 2
        machine.store.commit([[RollbackFound("rollback-found")]])
    assert machine.age == 100
