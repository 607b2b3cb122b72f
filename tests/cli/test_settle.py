"""``skex kme settle``: how a KME comes back that was found to be rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from skex.base import codes
from skex.base.ids import LinkId
from skex.daemon.master import read_master_key
from skex.daemon.starting import (
    locked,
)
from skex.pad.kinds import PadKind
from skex.protocol.changes import LinkFrozen, RollbackFound
from skex.runtime import clock, entropy
from skex.store.kme import KmeStore
from tests.cli.transcripts import done, refused
from tests.support.network import Homes


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    """A KME, enrolled with two of three hubs, that hubs said was rolled back."""
    made = Homes(tmp_path, hubs=3, kmes={"north": PadKind.DERIVED}, door=False)
    made.enrol(["hub-1", "hub-2"])
    with store_of(made.home("north")) as store:
        frozen = [LinkFrozen(one.link.link_id, codes.ROLLBACK_FOUND.name) for one in store.links()]
        store.commit([[*frozen, RollbackFound(codes.ROLLBACK_FOUND.name)]])
    return made


@contextmanager
def store_of(home: Path) -> Iterator[KmeStore]:
    path = str(home / "store.sqlite")
    store = KmeStore.open(path, read_master_key(home), entropy.random_bytes, clock.unix_seconds)
    try:
        yield store
    finally:
        store.close()


def found(home: Path) -> tuple[str | None, set[LinkId]]:
    with store_of(home) as store:
        return store.load(clock.now()).rollback_found, {
            one.link.link_id for one in store.links() if one.frozen
        }


def test_a_rollback_is_settled_once_every_frozen_link_was_enrolled_again(homes: Homes) -> None:
    home = homes.home("north")
    for hub in ("hub-1", "hub-2"):
        assert refused("kme", "settle", "--home", home) == (3, "rollback-unsettled")
        assert found(home)[0] is not None
        homes.enrol([hub], replace=True)
    assert done("kme", "settle", "--home", home) == {"kme": "north", "settled": True}
    assert found(home) == (None, set())
    (settled,) = done("audit", "show", home, "--event", "rollback-settled")["records"]
    assert settled["actor"].startswith("operator:")


def test_where_no_rollback_was_found_and_where_a_daemon_runs_nothing_is_settled(tmp_path: Path) -> None:
    made = Homes(tmp_path, hubs=3, kmes={"north": PadKind.DERIVED}, door=False)
    assert refused("kme", "settle", "--home", made.home("north")) == (3, "rollback-none")
    with locked(made.home("north")):
        assert refused("kme", "settle", "--home", made.home("north")) == (4, "home-in-use")
    assert refused("kme", "settle", "--home", made.home("hub-1")) == (3, "home-foreign")
