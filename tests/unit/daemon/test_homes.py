from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from skex.base import codes
from skex.base.errors import ErrorCode, Refused, SkexError, StoreFault
from skex.base.ids import HubName, KmeName
from skex.daemon import homes
from skex.daemon.config import load_hub, load_kme
from skex.daemon.homes import INCOMPLETE, init_hub, init_kme
from skex.daemon.master import read_master_key
from skex.daemon.options import Endpoint
from skex.daemon.starting import (
    locked,
)
from skex.policy.evaluate import load
from skex.runtime import clock, entropy
from skex.store.hub import HubStore
from skex.store.kme import KmeStore
from tests.unit.enrol.kit_support import make_realm

REALM = make_realm()
HUB = HubName("hub-1")
KME = KmeName("site-a")


def make(home: Path, kind: str = "kme") -> None:
    if kind == "hub":
        init_hub(home, HUB, REALM.to_bytes(), {})
    else:
        init_kme(home, KME, {})


def files(home: Path) -> dict[str, Path]:
    return {str(path.relative_to(home)): path for path in home.rglob("*")}


@pytest.mark.parametrize("kind", ["hub", "kme"])
def test_home_is_private_from_its_directory_to_its_last_file(tmp_path: Path, kind: str) -> None:
    home, before = tmp_path / "deep" / "home", os.umask(0)
    try:
        make(home, kind)
    finally:
        os.umask(before)
    expected = {f"{kind}.toml", "policy.toml", "master.key", "store.sqlite", "pads", "audit", "lock"}
    assert set(files(home)) == expected | ({"realm.cbor"} if kind == "hub" else set())
    for path in (home, *files(home).values()):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_hub_home_holds_what_a_hub_starts_with(tmp_path: Path) -> None:
    home = tmp_path / "home"
    init_hub(home, HUB, REALM.to_bytes(), {"listen.address": Endpoint("127.0.0.1", 0)})
    config = load_hub(home)
    assert (config.name, config.listen) == (HUB, Endpoint("127.0.0.1", 0))
    assert config.realm.read_bytes() == REALM.to_bytes()
    load(config.policy.read_bytes(), "policy.toml")
    store = HubStore.open(str(home / "store.sqlite"), read_master_key(home), entropy.random_bytes)
    assert store.realm() == REALM.to_bytes()
    assert store.links() == ()
    store.close()


def test_kme_home_holds_what_a_kme_starts_with(tmp_path: Path) -> None:
    home = tmp_path / "home"
    init_kme(home, KME, {"realm.threshold_floor": 3})
    assert load_kme(home).threshold_floor == 3
    load((home / "policy.toml").read_bytes(), "policy.toml")
    master = read_master_key(home)
    store = KmeStore.open(str(home / "store.sqlite"), master, entropy.random_bytes, clock.unix_seconds)
    assert store.load(0.0).realm is None
    store.close()


def test_two_homes_have_two_master_keys(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(tmp_path / name)
    assert (tmp_path / "a" / "master.key").read_bytes() != (tmp_path / "b" / "master.key").read_bytes()


def test_empty_directory_is_taken_and_made_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    make(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def refused(home: Path, code: ErrorCode, kind: str = "kme") -> None:
    before = {name: path.read_bytes() for name, path in files(home).items() if path.is_file()}
    with pytest.raises(SkexError) as error:
        make(home, kind)
    assert error.value.code is code
    assert {name: path.read_bytes() for name, path in files(home).items() if path.is_file()} == before


@pytest.mark.parametrize("kind", ["hub", "kme"])
def test_existing_home_is_never_touched(tmp_path: Path, kind: str) -> None:
    make(tmp_path / "home")
    refused(tmp_path / "home", codes.HOME_EXISTS, kind)


def test_directory_with_anything_in_it_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("the only copy")
    refused(tmp_path, codes.HOME_EXISTS)


def test_file_in_place_of_a_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("x")
    with pytest.raises(StoreFault, match="home-io"):
        make(tmp_path / "home")


def test_home_that_a_crash_left_half_made_is_made_anew(tmp_path: Path) -> None:
    home = tmp_path / "home"
    make(home)
    stale = (home / "master.key").read_bytes()
    (home / INCOMPLETE).touch()
    (home / "kme.toml").unlink()
    (home / "pads" / "0011223344556677-to-hub.pad").write_bytes(b"x")
    (home / "link").symlink_to(tmp_path)
    make(home)
    assert load_kme(home).name == KME
    assert (home / "master.key").read_bytes() != stale
    assert not (home / INCOMPLETE).exists()
    assert not list((home / "pads").iterdir())
    assert tmp_path.exists()


def test_home_that_somebody_else_is_making_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / INCOMPLETE).touch()
    with locked(home):
        refused(home, codes.HOME_IN_USE)


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("step", ["default_kme_policy", "new_master_key", "_configure"])
def test_home_that_cannot_be_finished_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, *, existed: bool
) -> None:
    """The fault is a full disk, at any step."""
    home = tmp_path / "home"
    if existed:
        home.mkdir()

    def fail(*_: object) -> Any:
        raise OSError(28, "No space left on device", str(home / "x"))

    monkeypatch.setattr(homes, step, fail)
    with pytest.raises(StoreFault, match="No space left"):
        make(home)
    assert home.exists() == existed
    assert not existed or not files(home)


def test_hub_that_the_realm_does_not_list_gets_no_home(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="hub-not-in-realm"):
        init_hub(tmp_path / "home", HubName("hub-9"), REALM.to_bytes(), {})
    assert not (tmp_path / "home").exists()


def test_damaged_realm_file_makes_no_home(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="realm-malformed"):
        init_hub(tmp_path / "home", HUB, REALM.to_bytes()[:-1], {})
    assert not (tmp_path / "home").exists()


def test_place_where_nothing_can_be_written_is_a_fault_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreFault, match=r"home-io.*file"):
        make(tmp_path / "file" / "home")
