"""Two KMEs' doors and their SAEs: a@site-a makes keys for b, c (and d, unlisted) at site-b."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from skex.base.ids import SaeId
from skex.enrol.ca import Subject
from tests.support.door import Pki, RunningDoor, running_door
from tests.support.memory_keys import Exchange, MemoryKeys

MASTER, SLAVE, SECOND, STRANGER = "a@site-a", "b@site-b", "c@site-b", "d@site-b"
ALLOWED = {(SaeId(MASTER), SaeId(slave)) for slave in (SLAVE, SECOND)}


@dataclass(slots=True)
class Sites:
    """Both ends: doors and the services behind them."""

    a: RunningDoor
    b: RunningDoor
    keys_a: MemoryKeys
    keys_b: MemoryKeys
    exchange: Exchange
    pki: Pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    pki = Pki(tmp_path_factory.mktemp("pki"))
    for name in (MASTER, SLAVE, SECOND, STRANGER, "ghost@nowhere"):
        pki.issue(Subject.SAE, name)
    pki.issue(Subject.SAE, MASTER, at=timedelta(days=-3), stem="expired")
    pki.issue(Subject.SAE, MASTER, at=timedelta(days=3), stem="early")
    return pki


@pytest.fixture(scope="session")
def other_pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    pki = Pki(tmp_path_factory.mktemp("other"), "another CA")
    pki.issue(Subject.SAE, MASTER)
    return pki


@pytest.fixture(scope="module")
def doors(pki: Pki) -> Iterator[Sites]:
    exchange = Exchange(set(ALLOWED))
    keys_a = MemoryKeys("site-a", exchange, aliases=[("legacy B", SLAVE)])
    keys_b = MemoryKeys("site-b", exchange)
    with running_door(keys_a, pki, "site-a") as a, running_door(keys_b, pki, "site-b") as b:
        yield Sites(a, b, keys_a, keys_b, exchange, pki)


@pytest.fixture
def sites(doors: Sites) -> Iterator[Sites]:
    """The same doors, with nothing of an earlier test left."""
    for door in (doors.a, doors.b):
        door.events.accesses.clear()
        door.events.handshakes.clear()
        door.events.failures.clear()
    doors.exchange.kept.clear()
    doors.exchange.delivered.clear()
    yield doors
    for keys in (doors.keys_a, doors.keys_b):
        keys.fail, keys.pause = None, 0.0


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path
