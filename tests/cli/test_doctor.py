"""The doctor on whole homes: clean where all is well, and right about each planted fault."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest
from click.testing import CliRunner

from skex.audit.chain import Stamp
from skex.audit.events import DAEMON_STARTED, Event
from skex.base import codes, limits
from skex.base.errors import Refused
from skex.base.ids import Direction, HubName, KmeName, RealmName, SaeId
from skex.base.secret import Secret
from skex.cli import skex_command
from skex.daemon import config, homes
from skex.daemon.checks import host
from skex.daemon.checks.checkup import examine
from skex.daemon.checks.findings import Finding, Level, Subject
from skex.daemon.checks.home import file_system
from skex.daemon.enrolment import open_hub, open_kme
from skex.daemon.options import Endpoint
from skex.enrol import ca
from skex.enrol.creating import KitOrder
from skex.enrol.links import pad_name
from skex.enrol.realm import HubDescription, new_realm
from skex.pad.kinds import PadKind
from skex.pad.table import TablePad
from skex.policy.starters import default_hub_policy, default_kme_policy
from skex.protocol.changes import LinkFrozen, MarkRaised
from skex.runtime import clock, entropy
from skex.runtime.auditfile import open_audit, stamp
from skex.runtime.files import DiskFileSystem
from skex.runtime.lock import HomeLock
from skex.store.database import checked_vfs
from skex.store.hub import HubStore
from skex.store.kme import KmeStore
from skex.wire.realm import HubAttributes, Realm

HUBS = tuple(HubName(f"hub-{number}") for number in (1, 2, 3))
KME, PEER = KmeName("north"), KmeName("south")
UNITS = 40


class Site:
    """Three hubs that listen and are enrolled with one KME: the first by a table, the others by chains."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sockets = {name: _listening() for name in HUBS}
        ports = {name: one.getsockname()[1] for name, one in self.sockets.items()}
        described = [
            HubDescription(name, f"127.0.0.1:{port}", HubAttributes(name, "x", "y", "z", "skex"))
            for name, port in ports.items()
        ]
        self.realm = new_realm(RealmName("test"), 2, described, issued=clock.unix_seconds())
        self.authority = ca.create_ca("test", 400, now=clock.wall(), entropy=entropy.random_bytes)
        for name in HUBS:
            listen: dict[str, Any] = {"listen.address": Endpoint("127.0.0.1", 0)}
            homes.init_hub(self.home(name), name, self.realm.to_bytes(), listen)
            (self.home(name) / "policy.toml").write_text(default_hub_policy([KME, PEER]))
        stated: dict[str, Any] = {"etsi014.enabled": True, "etsi014.listen": Endpoint("127.0.0.1", 0)}
        homes.init_kme(self.home(KME), KME, stated)
        policy = default_kme_policy([PEER], [SaeId(f"a@{KME}")], [SaeId(f"b@{PEER}")])
        (self.home(KME) / "policy.toml").write_text(policy)
        self.certify(days=200)
        for name in HUBS:
            self._enrol(name)
        for daemon in (*HUBS, KME):
            self.record(daemon)

    def home(self, name: str) -> Path:
        return self.root / name

    def certify(self, days: int = 200, ago: timedelta = timedelta(), name: str = KME) -> None:
        tls = self.home(KME) / "tls"
        tls.mkdir(mode=0o700, exist_ok=True)
        (tls / "server.key").unlink(missing_ok=True)
        authority = self.authority
        if ago:
            authority = ca.create_ca("old", 400, now=clock.wall() - ago, entropy=entropy.random_bytes)
        issued = ca.issue(
            authority,
            ca.Subject.KME,
            name,
            ["localhost"],
            days,
            now=clock.wall() - ago,
            entropy=entropy.random_bytes,
        )
        (tls / "server.pem").write_bytes(issued.certificate)
        ca.write_private(tls / "server.key", issued.key)
        (tls / "ca.pem").write_bytes(authority.certificate)

    def _enrol(self, hub: HubName) -> None:
        table = hub == HUBS[0]
        order = KitOrder(
            self.realm,
            hub,
            KME,
            PadKind.TABLE if table else PadKind.DERIVED,
            clock.unix_seconds(),
            units_to_hub=UNITS if table else 0,
            units_to_kme=UNITS if table else 0,
        )
        kit = io.BytesIO()
        with open_hub(config.load_hub(self.home(hub))) as home:
            home.create_kit(order, kit, lambda: None, replace=False, progress=lambda _: None)
        with open_kme(config.load_kme(self.home(KME))) as kme:
            source = io.BytesIO(kit.getvalue())
            kme.import_kit(source, lambda: Secret(b""), replace=False, progress=lambda _: None)

    def record(self, name: str) -> None:
        audit = open_audit(self.home(name) / "audit")
        audit.emit(Event(DAEMON_STARTED))
        audit.close()

    def store(self, name: str) -> Path:
        return self.home(name) / "store.sqlite"

    def pads(self, hub: HubName) -> list[Path]:
        with open_hub(config.load_hub(self.home(hub))) as home:
            (link,) = home.links()
        directory = self.home(KME) / "pads"
        return [directory / pad_name(link.link.link_id, direction) for direction in Direction]


def _listening() -> socket.socket:
    one = socket.socket()
    one.bind(("127.0.0.1", 0))
    one.listen()
    return one


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    for one in made.sockets.values():
        one.close()


def _stopped() -> Mapping[str, Any]:
    raise Refused(codes.DAEMON_REFUSED)


def run(
    home: Path, now: Stamp | None = None, ask: Callable[[], Mapping[str, Any]] = _stopped
) -> list[Finding]:
    return examine(Subject(home, stamp() if now is None else now, ask))


def failures(found: list[Finding]) -> dict[str, str]:
    return {one.check: f"{one.sentence} {one.mend}" for one in found if one.level is Level.FAIL}


def warnings_of_homes(found: list[Finding]) -> list[Finding]:
    """Without those of the host, on which tests have no influence."""
    hosts = {"user", "open-files", "core-dumps", "swap", "clock-sync", "openssl", "file-system", "disk-space"}
    return [one for one in found if one.level is Level.WARN and one.check not in hosts]


# ── all is well ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", [*HUBS, KME])
def test_healthy_home_is_found_clean_and_left_as_it_is(site: Site, name: str) -> None:
    before = _content(site.home(name))
    found = run(site.home(name))
    assert failures(found) == {}
    assert warnings_of_homes(found) == []
    assert _content(site.home(name)) == before
    looked = {one.check for one in found}
    wanted = {"home", "config", "modes", "policy", "daemon", "master-key", "store", "pads", "links", "realm"}
    assert looked >= wanted | {"audit", "clock", "python", "disk-space"}
    assert looked >= ({"hubs", "door", "port"} if name == KME else {"port"})


def _content(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def test_command_ends_with_0_on_a_healthy_home_and_with_4_on_a_broken_one(site: Site) -> None:
    runner = CliRunner()
    arguments = ["doctor", "--home", str(site.home(KME)), "--json"]
    healthy = runner.invoke(skex_command, arguments)
    assert (healthy.exit_code, '"healthy": true' in healthy.stdout) == (0, True)
    (site.home(KME) / "master.key").chmod(0o644)
    broken = runner.invoke(skex_command, arguments[:-1])
    assert broken.exit_code == 4
    assert "FAIL  modes:" in broken.stdout
    assert "mend: chmod" in broken.stdout


# ── planted faults ──────────────────────────────────────────────────────────────────────────────
def test_loose_mode_of_the_master_key_is_found(site: Site) -> None:
    (site.home(KME) / "master.key").chmod(0o640)
    assert set(failures(run(site.home(KME)))) == {"modes", "master-key"}


def test_home_open_to_others_is_found(site: Site) -> None:
    site.home(KME).chmod(0o755)
    assert "chmod" in failures(run(site.home(KME)))["modes"]


def test_other_master_key_is_found(site: Site) -> None:
    (site.home(KME) / "master.key").write_bytes(bytes(range(32)))
    assert set(failures(run(site.home(KME)))) == {"master-key"}


def test_truncated_table_pad_is_found(site: Site) -> None:
    path = site.pads(HUBS[0])[0]
    os.truncate(path, path.stat().st_size - 1)
    said = failures(run(site.home(KME)))
    assert set(said) == {"pads"}
    assert path.name in said["pads"]


def test_missing_pad_is_found(site: Site) -> None:
    path = site.pads(HUBS[1])[1]
    path.unlink()
    assert "missing" in failures(run(site.home(KME)))["pads"]


def test_pads_of_two_directions_that_were_exchanged_are_found(site: Site) -> None:
    one, other = site.pads(HUBS[0])
    one.rename(one.with_suffix(".aside"))
    other.rename(one)
    one.with_suffix(".aside").rename(other)
    assert "another" in failures(run(site.home(KME)))["pads"]


def test_pad_without_a_link_is_mentioned(site: Site) -> None:
    path = site.pads(HUBS[1])[0]
    stray = path.with_name(f"{'ab' * 8}-to-hub.pad")
    stray.write_bytes(path.read_bytes())
    stray.chmod(0o600)
    (found,) = warnings_of_homes(run(site.home(KME)))
    assert (found.check, "no link" in found.sentence) == ("pads", True)


def test_store_restored_behind_its_pads_is_found(site: Site) -> None:
    path = site.pads(HUBS[0])[0]
    with open_kme(config.load_kme(site.home(KME))) as home:
        link = next(one.link for one in home.links() if one.link.hub == HUBS[0])
    pad = TablePad.open(DiskFileSystem(path.parent), path.name, link.link_id, Direction.TO_HUB, 0)
    pad.finish(pad.prepare(0, 2))
    pad.close()
    assert "contradicts" in failures(run(site.home(KME)))["pads"]


def test_hub_of_another_name_is_found(site: Site) -> None:
    file = site.home(HUBS[0]) / "hub.toml"
    file.write_text(file.read_text().replace('"hub-1"', '"hub-9"'))
    assert {"name", "realm"} <= set(failures(run(site.home(HUBS[0]))))


def test_realm_file_of_another_realm_is_found(site: Site) -> None:
    other = replace(site.realm, name=RealmName("other"))
    (site.home(HUBS[0]) / "realm.cbor").write_bytes(other.to_bytes())
    assert "other" in failures(run(site.home(HUBS[0])))["realm"]


def test_realm_file_that_is_none_is_found(site: Site) -> None:
    (site.home(HUBS[0]) / "realm.cbor").write_bytes(b"no realm")
    assert set(failures(run(site.home(HUBS[0])))) == {"realm"}


def test_realm_that_became_too_old_is_found(site: Site) -> None:
    later = stamp()
    aged = timedelta(seconds=site.realm.max_age + 1)
    said = failures(run(site.home(KME), replace(later, wall=later.wall + aged)))
    assert "older" in said["realm"]


def test_expired_certificate_is_found(site: Site) -> None:
    site.certify(days=10, ago=timedelta(days=20))
    said = failures(run(site.home(KME)))
    assert set(said) == {"door"}
    assert "expired" in said["door"]


def test_certificate_that_soon_expires_is_mentioned(site: Site) -> None:
    site.certify(days=3)
    (found,) = warnings_of_homes(run(site.home(KME)))
    assert (found.check, "expires on" in found.sentence) == ("door", True)


def test_certificate_of_another_kme_is_found(site: Site) -> None:
    site.certify(name="east")
    assert "for east, not for north" in failures(run(site.home(KME)))["door"]


def test_key_of_another_certificate_is_found(site: Site) -> None:
    kept = (site.home(KME) / "tls" / "server.pem").read_bytes()
    site.certify()
    (site.home(KME) / "tls" / "server.pem").write_bytes(kept)
    assert "does not belong" in failures(run(site.home(KME)))["door"]


def test_missing_and_malformed_certificates_are_found(site: Site) -> None:
    file = site.home(KME) / "tls" / "server.pem"
    file.write_text("no certificate")
    assert "no PEM" in failures(run(site.home(KME)))["door"]
    file.unlink()
    assert str(file) in failures(run(site.home(KME)))["door"]


def test_revocation_list_that_expired_is_found(site: Site) -> None:
    file = site.home(KME) / "kme.toml"
    file.write_text(file.read_text().replace('#revoked = ""', 'revoked = "tls/crl.pem"'))
    crl = site.home(KME) / "tls" / "crl.pem"
    for ago, sentence in ((timedelta(), ""), (timedelta(days=9), "expired on")):
        crl.write_bytes(ca.revocation_list(site.authority, [], 1, 7, now=clock.wall() - ago))
        assert sentence in failures(run(site.home(KME))).get("door", "")
    crl.write_text("no list")
    assert "not revocation lists" in failures(run(site.home(KME)))["door"]


def test_broken_policy_line_is_found_with_its_number(site: Site) -> None:
    file = site.home(KME) / "policy.toml"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, "[[kme.alow]]", 'peers = ["x"]']))
    said = failures(run(site.home(KME)))
    assert set(said) == {"policy"}
    assert f"line {len(lines) + 1}" in said["policy"]


def test_policy_that_allows_nothing_is_mentioned(site: Site) -> None:
    (site.home(HUBS[0]) / "policy.toml").write_text(default_hub_policy())
    (found,) = warnings_of_homes(run(site.home(HUBS[0])))
    assert (found.check, "Nothing is allowed" in found.sentence) == ("policy", True)


def test_broken_configuration_is_found_with_its_line(site: Site) -> None:
    file = site.home(KME) / "kme.toml"
    file.write_text(file.read_text() + "\n[kes]\nkey_bytes = 32\n")
    assert "line" in failures(run(site.home(KME)))["config"]


def test_store_of_a_newer_version_is_found_and_left_alone(site: Site) -> None:
    connection = apsw.Connection(str(site.store(KME)), vfs=checked_vfs())
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    said = failures(run(site.home(KME)))
    assert set(said) == {"store"}
    assert "99" in said["store"]


def test_store_of_an_older_version_is_mentioned_and_not_migrated(site: Site) -> None:
    connection = apsw.Connection(str(site.store(KME)), vfs=checked_vfs())
    connection.execute("PRAGMA user_version = 0")
    connection.close()
    (found,) = warnings_of_homes(run(site.home(KME)))
    assert (found.check, "older" in found.sentence) == ("store", True)
    connection = apsw.Connection(str(site.store(KME)), vfs=checked_vfs())
    assert connection.execute("PRAGMA user_version").fetchall() == [(0,)]
    connection.close()


def test_damaged_store_is_found(site: Site) -> None:
    data = bytearray(site.store(KME).read_bytes())
    data[4096:20480] = b"\xff" * (20480 - 4096)
    site.store(KME).write_bytes(data)
    assert set(failures(run(site.home(KME)))) <= {"store", "master-key"}
    assert failures(run(site.home(KME)))


def test_clock_an_hour_slow_is_found(site: Site) -> None:
    now = stamp()
    said = failures(run(site.home(KME), replace(now, wall=now.wall - timedelta(hours=1))))
    assert "NTP" in said["clock"]


def test_clock_an_hour_fast_is_found(site: Site) -> None:
    now = stamp()
    said = failures(run(site.home(KME), replace(now, wall=now.wall + timedelta(hours=1))))
    assert set(said) == {"clock"}
    assert "+3600 s" in said["clock"]


def test_changed_audit_line_is_found(site: Site) -> None:
    (segment,) = (site.home(KME) / "audit").glob("*.jsonl")
    first, *rest = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([first.replace(b'"actor":"', b'"actor":"x', 1), *rest]))
    assert set(failures(run(site.home(KME)))) == {"audit"}


def test_unreachable_hubs_of_a_stopped_kme_are_mentioned(site: Site) -> None:
    for closed, sentence in ((HUBS[0], "hub-1 cannot be reached"), (HUBS[1], "1 of 3 hubs can be reached")):
        site.sockets[closed].close()
        found = run(site.home(KME))
        assert failures(found) == {}
        warned = warnings_of_homes(found)
        assert {one.check for one in warned} == {"hubs"}
        assert any(sentence in one.sentence for one in warned)


def test_port_in_use_is_found(site: Site) -> None:
    port = site.sockets[HUBS[0]].getsockname()[1]
    file = site.home(HUBS[0]) / "hub.toml"
    file.write_text(file.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    assert set(failures(run(site.home(HUBS[0])))) == {"port"}


def test_suspended_links_are_mentioned_and_fail_when_too_many(site: Site) -> None:
    _suspend(site, 1)
    assert [one.level for one in run(site.home(KME)) if one.check == "links"] == [Level.WARN, Level.WARN]
    _suspend(site, 2)
    assert "1 hubs can be used, 2 are needed" in failures(run(site.home(KME)))["links"]


def _suspend(site: Site, count: int) -> None:
    with _opened(site) as store:
        for one in store.links()[:count]:
            store.suspend_link(one.link.link_id, suspended=True)


@contextmanager
def _opened(site: Site) -> Iterator[KmeStore]:
    master = Secret((site.home(KME) / "master.key").read_bytes())
    store = KmeStore.open(str(site.store(KME)), master, entropy.random_bytes, clock.unix_seconds)
    yield store
    store.close()


def test_frozen_link_is_found(site: Site) -> None:
    with _opened(site) as store:
        store.commit([[LinkFrozen(store.links()[0].link.link_id, codes.ROLLBACK_FOUND.name)]])
    assert "frozen" in failures(run(site.home(KME)))["links"]


def test_kme_without_kits_is_found(tmp_path: Path) -> None:
    home = tmp_path / "new"
    homes.init_kme(home, KME, {})
    said = failures(run(home))
    assert set(said) == {"realm"}
    assert "no kit" in said["realm"]


def test_home_that_is_none_is_found(tmp_path: Path) -> None:
    assert set(failures(run(tmp_path / "nowhere"))) == {"home"}
    assert set(failures(run(tmp_path))) >= {"config"}
    (tmp_path / ".incomplete").touch()
    assert set(failures(run(tmp_path))) == {"home"}


def test_table_pad_that_is_nearly_used_up_is_mentioned(site: Site) -> None:
    with _opened(site) as store:
        link = next(one.link for one in store.links() if one.link.hub == HUBS[0])
        store.commit([[MarkRaised(link.link_id, Direction.TO_HUB, UNITS - 1)]])
    (found,) = warnings_of_homes(run(site.home(KME)))
    assert (found.check, "2 %" in found.sentence) == ("pads", True)


def test_derived_pad_restored_far_behind_its_store_is_found(site: Site) -> None:
    with _opened(site) as store:
        link = next(one.link for one in store.links() if one.link.hub == HUBS[1])
        store.commit([[MarkRaised(link.link_id, Direction.TO_KME, limits.DERIVED_JUMP_STEPS + 2)]])
    assert set(failures(run(site.home(KME)))) == {"pads"}


def test_realm_that_soon_is_too_old_is_mentioned(site: Site) -> None:
    now = stamp()
    aged = timedelta(seconds=0.95 * site.realm.max_age)
    found = run(site.home(KME), replace(now, wall=now.wall + aged))
    assert [one.level for one in found if one.check == "realm"] == [Level.WARN]


def test_threshold_below_the_floor_and_unknown_hubs_in_the_configuration_are_found(site: Site) -> None:
    file = site.home(KME) / "kme.toml"
    more = '\n[realm]\nthreshold_floor = 3\nhub_addresses = { "hub-8" = "127.0.0.1:1" }\n'
    kept = [line for line in file.read_text().splitlines() if line != "[realm]"]
    file.write_text("\n".join(kept) + more)
    found = [one for one in run(site.home(KME)) if one.check == "realm"]
    assert [one.level for one in found] == [Level.FAIL, Level.WARN, Level.OK]


def test_door_of_another_authority_than_its_clients_is_mentioned(site: Site) -> None:
    other = ca.create_ca("other", 400, now=clock.wall(), entropy=entropy.random_bytes)
    (site.home(KME) / "tls" / "ca.pem").write_bytes(other.certificate)
    (found,) = warnings_of_homes(run(site.home(KME)))
    assert (found.check, "another CA" in found.sentence) == ("door", True)


def test_home_of_two_daemons_is_found(site: Site) -> None:
    (site.home(KME) / "hub.toml").write_text('name = "hub-1"\n')
    assert "config" in failures(run(site.home(KME)))


@pytest.mark.parametrize(("free", "level"), [(2**20, Level.FAIL), (2**27, Level.WARN), (2**40, Level.OK)])
def test_full_disk_is_found(site: Site, monkeypatch: pytest.MonkeyPatch, free: int, level: Level) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    assert [one.level for one in run(site.home(KME)) if one.check == "disk-space"] == [level]


def test_check_that_cannot_look_fails_and_the_others_go_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object) -> None:
        raise PermissionError(13, "Permission denied", "there")

    monkeypatch.setattr("shutil.disk_usage", refused)
    found = run(site.home(KME))
    assert "there cannot be looked at" in failures(found)["disk"]
    assert "clock" in {one.check for one in found}


# ── beside a running daemon ─────────────────────────────────────────────────────────────────────
def test_home_whose_holder_does_not_answer_is_found(site: Site) -> None:
    lock = HomeLock(site.home(KME))
    try:
        assert set(failures(run(site.home(KME)))) == {"daemon"}
    finally:
        lock.release()


def test_running_daemon_is_asked_and_its_store_left_alone(site: Site) -> None:
    hubs = [{"hub": name, "connected": name != HUBS[0], "suspended": False, "frozen": []} for name in HUBS]
    status = {"ready": False, "threshold": 2, "hubs": hubs}
    lock = HomeLock(site.home(KME))
    site.store(KME).chmod(0o600)
    site.store(KME).write_bytes(b"nobody may look at this")
    try:
        found = run(site.home(KME), ask=lambda: status)
    finally:
        lock.release()
    assert failures(found) == {}
    assert {one.check for one in warnings_of_homes(found)} == {"daemon", "hubs"}


def pad_status(percent: float, days: float | None, *, low: bool) -> dict[str, object]:
    return {"left_percent": percent, "days_left": days, "low": low}


@pytest.mark.parametrize(
    ("days", "health", "says"),
    [
        (None, "full", {"forecast": "The pad with h1 is low: 4 % are left."}),
        (9, "full", {"forecast": "The pad with h1 is low: 4 % are left, enough for 9 days at this pace."}),
        (2.5, "starved", {"reserves": "The reserve for south holds 7 keys and its low mark is 128."}),
    ],
)
def test_running_daemon_is_asked_what_will_run_out(
    site: Site, days: float | None, health: str, says: dict[str, str]
) -> None:
    links: list[dict[str, object]] = [
        {"hub": name, "connected": True, "suspended": False, "frozen": [], "pads": pads}
        for name, pads in (
            ("h1", {"to_hub": pad_status(90, None, low=False), "to_kme": pad_status(4, days, low=True)}),
            ("h2", None),
        )
    ]
    reserves = [{"peer": "south", "keys": 7, "low": 128, "health": health}]
    lock = HomeLock(site.home(KME))
    try:
        found = run(site.home(KME), ask=lambda: {"threshold": 2, "hubs": links, "reserves": reserves})
    finally:
        lock.release()
    warned = {one.check: one.sentence for one in warnings_of_homes(found)}
    assert says.items() <= warned.items()
    assert ("reserves" in warned) == (health == "starved")


def test_running_daemon_whose_pads_and_reserves_last_is_told_so(site: Site) -> None:
    pads = {"to_hub": pad_status(90, 300, low=False), "to_kme": pad_status(90, None, low=False)}
    links = [{"kme": "north", "connected": True, "suspended": False, "frozen": [], "pads": pads}]
    reserves = [{"peer": "south", "keys": 500, "low": 128, "health": "full"}]
    lock = HomeLock(site.home(KME))
    try:
        found = run(site.home(KME), ask=lambda: {"hubs": [], "kmes": links, "reserves": reserves})
    finally:
        lock.release()
    said = {one.check: one.sentence for one in found if one.level is Level.OK}
    assert said["forecast"] == "The pads of 1 links last long enough."
    assert said["reserves"] == "1 reserves keep up with what is taken."


@pytest.mark.parametrize(("connected", "fails"), [(2, False), (1, True)])
def test_running_kme_with_too_few_hubs_fails(site: Site, connected: int, fails: bool) -> None:
    hubs = [
        {"hub": name, "connected": number < connected, "suspended": False, "frozen": []}
        for number, name in enumerate(HUBS)
    ]
    lock = HomeLock(site.home(KME))
    try:
        found = run(site.home(KME), ask=lambda: {"threshold": 2, "hubs": hubs})
    finally:
        lock.release()
    assert ("hubs" in failures(found)) == fails


def test_pad_that_was_cut_beside_a_running_daemon_is_found(site: Site) -> None:
    path = site.pads(HUBS[0])[0]
    os.truncate(path, 100)
    lock = HomeLock(site.home(KME))
    try:
        said = failures(run(site.home(KME), ask=lambda: {"threshold": 0, "hubs": []}))
    finally:
        lock.release()
    assert path.name in said["pads"]


# ── the host ────────────────────────────────────────────────────────────────────────────────────
def test_kind_of_file_system_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    mounts = ["a / ext4 rw", f"b {tmp_path} btrfs rw", f"c {tmp_path}/other tmpfs rw", "d"]
    assert file_system(tmp_path / "pads", mounts) == "btrfs"
    assert file_system(Path("/"), mounts) == "ext4"
    assert file_system(tmp_path, []) == ""


def test_host_checks_say_something_about_each_thing(tmp_path: Path) -> None:
    subject = Subject(tmp_path, stamp(), _stopped)
    checks = (host.versions, host.user, host.bounds, host.memory, host.synchronised)
    found = [one for check in checks for one in check(subject)]
    names = {"python", "openssl", "user", "open-files", "core-dumps", "swap", "clock-sync"}
    assert {one.check for one in found} == names
    assert all(one.mend for one in found if one.level is not Level.OK)


def test_realms_of_hubs_are_what_the_realm_file_says(site: Site) -> None:
    # The site itself: what the tests above plant faults in is a real realm.
    master = Secret((site.home(HUBS[0]) / "master.key").read_bytes())
    store = HubStore.open(str(site.store(HUBS[0])), master, entropy.random_bytes)
    try:
        assert Realm.from_bytes(store.realm() or b"") == site.realm
    finally:
        store.close()


def test_weak_host_is_mentioned_and_never_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 256))
    swaps = tmp_path / "swaps"
    swaps.write_text("Filename Type\n/dev/zram0 partition\n/dev/sda2 partition\n")
    monkeypatch.setattr(host, "_SWAPS", swaps)
    monkeypatch.setattr("ssl.OPENSSL_VERSION_INFO", (1, 1, 1))
    subject = Subject(tmp_path, stamp(), _stopped)
    found = [one for check in (host.versions, host.bounds, host.memory) for one in check(subject)]
    weak = {one.check: one.sentence for one in found if one.level is Level.WARN}
    assert set(weak) == {"openssl", "open-files", "core-dumps", "swap"}
    assert "/dev/sda2" in weak["swap"]
    assert "zram" not in weak["swap"]
    assert all(one.level is not Level.FAIL for one in found)
