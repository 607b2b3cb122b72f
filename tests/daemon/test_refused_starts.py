"""What a start refuses: one stable code, one sentence, a hint, the documented exit code, nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from skex.base import codes
from skex.base.errors import ErrorCode
from skex.base.ids import HubName
from skex.cli import skex_command
from skex.cli.common import exit_code
from skex.daemon import homes
from skex.daemon.options import Endpoint
from skex.enrol.ca import revocation_list
from skex.pad.kinds import PadKind
from skex.runtime import clock, logs
from skex.runtime.lock import HomeLock
from skex.store.database import checked_vfs
from tests.support.network import Homes, until

KMES = {"north": PadKind.DERIVED, "south": PadKind.DERIVED}


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    made = Homes(tmp_path_factory.mktemp("homes"), hubs=3, kmes=KMES)
    made.enrol()
    return made


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """These daemons run in the tests' own process, whose logging is not theirs."""
    monkeypatch.setattr(logs, "configure", lambda level: None)


Break = Callable[[Path, Homes], AbstractContextManager[object] | None]


def in_use(home: Path, made: Homes) -> AbstractContextManager[object]:
    @contextmanager
    def held() -> Iterator[None]:
        lock = HomeLock(home)
        try:
            yield
        finally:
            lock.release()

    return held()


def other_master_key(home: Path, made: Homes) -> None:
    (home / "master.key").write_bytes(bytes(32))


def short_master_key(home: Path, made: Homes) -> None:
    (home / "master.key").write_bytes(bytes(31))


def open_master_key(home: Path, made: Homes) -> None:
    (home / "master.key").chmod(0o640)


def no_master_key(home: Path, made: Homes) -> None:
    (home / "master.key").unlink()


def later_store(home: Path, made: Homes) -> None:
    store = apsw.Connection(str(home / "store.sqlite"), vfs=checked_vfs())
    store.execute("PRAGMA user_version = 4711")
    store.close()


def torn_store(home: Path, made: Homes) -> None:
    with (home / "store.sqlite").open("r+b") as file:
        file.write(b"no database at all, but just as long")


def wrong_policy(home: Path, made: Homes) -> None:
    (home / "policy.toml").write_text("[nonsense]\n")


def no_toml_policy(home: Path, made: Homes) -> None:
    (home / "policy.toml").write_text("[[[")


def no_policy(home: Path, made: Homes) -> None:
    (home / "policy.toml").unlink()


def port_in_use(home: Path, made: Homes) -> AbstractContextManager[object]:
    if home.name.startswith("hub"):
        return socket.create_server(("127.0.0.1", made.ports[home.name]))
    taken = socket.create_server(("127.0.0.1", 0))
    configuration = home / "kme.toml"
    text = configuration.read_text()
    configuration.write_text(text.replace('"127.0.0.1:0"', f'"127.0.0.1:{taken.getsockname()[1]}"'))
    return taken


def no_certificate(home: Path, made: Homes) -> None:
    (home / "tls" / "server.pem").unlink()


def no_revocation_list(home: Path, made: Homes) -> None:
    configuration = home / "kme.toml"
    configuration.write_text(configuration.read_text().replace('#revoked = ""', 'revoked = "tls/crl.pem"'))


def old_revocation_list(home: Path, made: Homes) -> None:
    no_revocation_list(home, made)
    made_at = clock.wall() - timedelta(days=9)
    (home / "tls" / "crl.pem").write_bytes(revocation_list(made.pki.authority, [], 1, 7, now=made_at))


BOTH = ("north", "hub-1")
CASES = [
    *((name, in_use, codes.HOME_IN_USE) for name in BOTH),
    *((name, other_master_key, codes.STORE_WRONG_KEY) for name in BOTH),
    *((name, short_master_key, codes.MASTER_KEY_INVALID) for name in BOTH),
    *((name, open_master_key, codes.MASTER_KEY_INVALID) for name in BOTH),
    *((name, no_master_key, codes.MASTER_KEY_INVALID) for name in BOTH),
    *((name, later_store, codes.STORE_NEWER) for name in BOTH),
    *((name, torn_store, codes.STORE_CORRUPT) for name in BOTH),
    *((name, wrong_policy, codes.POLICY_INVALID) for name in BOTH),
    *((name, no_toml_policy, codes.POLICY_SYNTAX) for name in BOTH),
    *((name, no_policy, codes.FILE_IO) for name in BOTH),
    ("hub-1", port_in_use, codes.LISTEN_ADDRESS),
    ("north", port_in_use, codes.DOOR_ADDRESS),
    ("north", no_certificate, codes.DOOR_CERTIFICATES),
    ("north", no_revocation_list, codes.DOOR_CERTIFICATES),
    ("north", old_revocation_list, codes.DOOR_CERTIFICATES),
]


def refusal(home: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What ``skex KIND run`` says before it ends."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        skex_command.main(["--home", str(home), "--json", kind, "run"])
    said = capsys.readouterr()
    assert said.out == ""
    error: dict[str, Any] = json.loads(said.err.splitlines()[-1])["error"]
    assert error["exit_code"] == ended.value.code
    assert error["sentence"].endswith(".")
    assert error["hint"]
    return error


@pytest.mark.parametrize(("name", "broken", "code"), CASES, ids=lambda one: getattr(one, "__name__", None))
def test_a_start_is_refused_with_one_code_and_the_home_is_as_it_was(
    name: str,
    broken: Break,
    code: ErrorCode,
    *,
    enrolled: Homes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / name
    shutil.copytree(enrolled.home(name), home)
    kind = "hub" if name.startswith("hub") else "kme"
    with broken(home, enrolled) or nullcontext():
        policy = (home / "policy.toml").read_bytes() if (home / "policy.toml").exists() else b""
        error = refusal(home, kind, capsys)
    assert error["code"] == code.name
    assert error["exit_code"] == exit_code(code)
    assert not (home / "admin.sock").exists()
    assert not (home / "ports.json").exists()
    HomeLock(home).release()
    if policy:
        assert (home / "policy.toml").read_bytes() == policy


def test_a_kme_with_too_few_kits_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Homes(tmp_path, hubs=3, kmes={"north": PadKind.DERIVED})
    made.enrol(["hub-1", "hub-2"])
    error = refusal(made.home("north"), "kme", capsys)
    assert (error["code"], error["exit_code"]) == ("not-enrolled", 3)
    made.enrol(["hub-3"])


def test_root_is_refused_unless_it_is_allowed(
    enrolled: Homes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    stated = {"listen.address": Endpoint("127.0.0.1", 0)}
    homes.init_hub(tmp_path / "hub-1", HubName("hub-1"), enrolled.realm.to_bytes(), stated)
    error = refusal(tmp_path / "hub-1", "hub", capsys)
    assert (error["code"], error["exit_code"]) == ("root-refused", 3)


def asked_while_it_runs(home: Path, *flags: str) -> dict[str, Any]:
    """What a hub's status says while it runs as a process of its own."""
    command = [sys.executable, "-m", "skex", "--json", "--home", str(home), "hub"]
    with subprocess.Popen([*command, "run", *flags], stderr=subprocess.DEVNULL) as daemon:
        try:
            until((home / "ports.json").exists, "the hub")
            status = subprocess.run([*command, "status"], capture_output=True, check=True)
        finally:
            daemon.terminate()
    assert daemon.returncode == 0
    answer: dict[str, Any] = json.loads(status.stdout)
    return answer


def test_root_runs_a_daemon_with_the_flag_that_says_so(enrolled: Homes, tmp_path: Path) -> None:
    stated = {"listen.address": Endpoint("127.0.0.1", 0)}
    homes.init_hub(tmp_path / "hub-1", HubName("hub-1"), enrolled.realm.to_bytes(), stated)
    assert asked_while_it_runs(tmp_path / "hub-1", "--allow-root")["hub"] == "hub-1"


def test_a_home_deeper_than_the_path_of_a_socket_may_be_long_is_no_reason_to_refuse(
    enrolled: Homes, tmp_path: Path
) -> None:
    home = tmp_path / ("x" * 120) / "hub-1"
    shutil.copytree(enrolled.home("hub-1"), home)
    assert asked_while_it_runs(home)["hub"] == "hub-1"
    assert not (home / "admin.sock").exists()


def test_a_hubs_home_is_no_kmes(enrolled: Homes, capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(enrolled.home("hub-1"), "kme", capsys)
    assert (error["code"], error["exit_code"]) == ("home-foreign", 3)
