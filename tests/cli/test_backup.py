"""Backups of whole homes, with nothing but commands: what they hold, bring back, and are stopped by."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skex.base import limits
from skex.base.errors import Refused
from skex.base.ids import KmeName
from skex.cli import backup as commands
from skex.cli.files import NewFile
from skex.daemon import config
from skex.daemon.backup import making
from skex.daemon.backup.container import BackupReader
from skex.daemon.backup.handing import asked_backup, handed_out
from skex.daemon.backup.making import state_of_kme
from skex.daemon.backup.restoring import unlock
from skex.daemon.enrolment import open_hub
from skex.daemon.homes import INCOMPLETE
from skex.daemon.master import read_master_key
from skex.daemon.starting import (
    locked,
)
from skex.enrol.passphrase import parse_passphrase
from skex.protocol.changes import LinkFrozen
from skex.runtime import clock, entropy
from skex.runtime.auditfile import verify
from skex.store.hub import HubStore
from skex.store.kme import KmeStore
from skex.wire.realm import Realm
from tests.cli.transcripts import PASSPHRASE, done, refused, skex
from tests.support.network import until
from tests.unit.enrol.kit_support import CHEAP

FIXTURES = Path(__file__).parent / "fixtures"
HUBS = ("hub-1", "hub-2", "hub-3")
WORDS = ("--passphrase-file", "words")


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for each backup is right for operators, and a minute for these tests."""
    monkeypatch.setattr(commands, "COST", CHEAP)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hubs and a KME that is enrolled with them, and a passphrase."""
    base = tmp_path_factory.mktemp("prepared")
    with contextlib.chdir(base):
        addresses = [part for hub in HUBS for part in ("--hub", f"{hub}={hub}.example.net:7300")]
        done("realm", "init", "example", "-k", "2", *addresses)
        for hub in HUBS:
            done("hub", "init", hub, "--realm", "realm.cbor", "--home", hub)
        done("kme", "init", "site-a", "--home", "site-a", "--etsi014", "127.0.0.1:0")
        for hub in HUBS:
            enrol(hub)
        Path("words").write_text(PASSPHRASE + "\n")
        Path("site-a/tls").mkdir()
        for name in ("server.pem", "server.key", "ca.pem"):
            Path("site-a/tls", name).write_text(f"the {name}")
    return base


@pytest.fixture
def root(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was prepared, to be spoiled."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def enrol(hub: str, home: str = "site-a", *more: str, hub_home: str | None = None) -> None:
    Path("kit").unlink(missing_ok=True)
    done("kit", "create", "site-a", "-o", "kit", "--in-clear", "--home", hub_home or hub, *more)
    done("kit", "import", "kit", "--home", home, *(["--replace"] if hub_home else []))


def back_up(home: str = "site-a", output: str = "backup") -> dict[str, Any]:
    return done("backup", "create", "-o", output, *WORDS, "--home", home)


def bring_back(home: str = "new", file: str = "backup") -> dict[str, Any]:
    return done("restore", file, *WORDS, "--home", home)


def audit_of(home: str) -> list[dict[str, Any]]:
    lines = "".join(path.read_text() for path in sorted(Path(home, "audit").glob("*.jsonl")))
    return [json.loads(line) for line in lines.splitlines()]


@contextmanager
def kme_store(home: str) -> Iterator[KmeStore]:
    master = read_master_key(Path(home))
    path = str(Path(home, "store.sqlite"))
    with closing(KmeStore.open(path, master, entropy.random_bytes, clock.unix_seconds)) as store:
        yield store


def files_of(home: str) -> Mapping[str, bytes]:
    return {
        str(path.relative_to(home)): path.read_bytes() for path in Path(home).rglob("*") if path.is_file()
    }


def move_policy(path: str) -> None:
    written = Path("site-a/kme.toml").read_text()
    moved = written.replace('#path = "policy.toml"', f'path = "{path}"')
    assert moved != written
    Path("site-a/kme.toml").write_text(moved)


# ── what is in it ───────────────────────────────────────────────────────────────────────────────
def test_backup_holds_what_was_decided_and_nothing_that_is_secret(root: Path) -> None:
    with kme_store("site-a") as store:
        keys = [one.link.key.expose() for one in store.links()]
    made = back_up()
    with Path("backup").open("rb") as source:
        reader = BackupReader(source)
        unlock(reader, parse_passphrase(PASSPHRASE))
        clear = reader.header.to_bytes() + reader.take(reader.header.content_bytes)
    with Path("backup").open("rb") as source:
        opened = unlock(BackupReader(source), parse_passphrase(PASSPHRASE)).manifest.to_bytes()
    secrets = {
        "master key": Path("site-a/master.key").read_bytes(),
        "door's key": b"the server.key",
        **{f"link {number}": key for number, key in enumerate(keys)},
        **{f"pad {path.name}": path.read_bytes()[-64:] for path in Path("site-a/pads").iterdir()},
    }
    assert len(secrets) == 1 + 1 + 3 + 6
    for name, secret in secrets.items():
        assert secret not in clear + opened, name
    assert {one["path"] for one in made["files"]} == {
        "kme.toml",
        "policy.toml",
        "tls/server.pem",
        "tls/ca.pem",
        "audit/audit-00000000000000000001.jsonl",
    }
    assert [one["hub"] for one in made["links"]] == list(HUBS)
    assert stat.S_IMODE(Path("backup").stat().st_mode) == 0o600


def test_backup_is_recorded_before_it_is_written_and_shown_by_the_same_name(root: Path) -> None:
    made = back_up()
    record = audit_of("site-a")[-1]
    assert (record["event"], record["details"]) == ("backup-made", {"backup": made["backup"]})
    shown = done("backup", "show", "backup", *WORDS)
    assert shown == {**made, "file": "backup"}
    assert record["event"] in {one["event"] for one in audit_of("site-a")}
    answer = skex("backup", "show", "backup", *WORDS)
    assert "never in it  pads, chain states, marks, keys, the master key" in answer.stdout


# ── what it brings back ─────────────────────────────────────────────────────────────────────────
def test_restored_kme_is_itself_again_without_one_working_link(root: Path) -> None:
    before = files_of("site-a")
    back_up()
    restored = bring_back()
    after = files_of("new")
    for name in ("kme.toml", "policy.toml", "tls/server.pem", "tls/ca.pem"):
        assert after[name] == before[name], name
    assert after["master.key"] != before["master.key"]
    assert "tls/server.key" not in after
    assert not list(Path("new/pads").iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in Path("new").rglob("*")} == {0o600, 0o700}
    with kme_store("new") as store:
        assert store.links() == ()
        assert [one.hub for one in store.awaiting_kits()] == list(HUBS)
        realm = store.load(0.0).realm
        assert realm is not None
        assert realm.data == Path("realm.cbor").read_bytes()
        assert realm.age >= Realm.from_bytes(realm.data).max_age
    assert [one["hub"] for one in restored["links"]] == list(HUBS)
    steps = "\n".join(restored["next"])
    assert all(f"At {hub}: skex kit create site-a" in steps for hub in HUBS)
    assert "private key" in steps


def test_restored_log_goes_on_where_the_backup_ended(root: Path) -> None:
    made = back_up()
    bring_back()
    records = audit_of("new")
    assert [one["event"] for one in records[-2:]] == ["backup-made", "backup-restored"]
    assert records[-1]["details"] == {"backup": made["backup"], "note": "3 links await new kits"}
    assert verify(Path("new/audit")).is_sound


def test_kits_of_enough_hubs_bring_a_restored_kme_back(root: Path) -> None:
    back_up()
    bring_back()
    for left, hub in zip((("hub-2", "hub-3"), ("hub-3",), ()), HUBS, strict=True):
        enrol(hub, "new", "--replace")
        with kme_store("new") as store:
            assert tuple(one.hub for one in store.awaiting_kits()) == left
    with kme_store("new") as store:
        realm = store.load(0.0).realm
        assert realm is not None
        assert realm.age < 60
        assert len(store.links()) == 3


def test_kit_that_was_used_before_the_backup_is_never_used_again(root: Path) -> None:
    done("kit", "create", "site-a", "-o", "used", "--in-clear", "--home", "hub-1", "--replace")
    done("kit", "import", "used", "--home", "site-a", "--replace")
    enrol("hub-1", "site-a", "--replace", hub_home="hub-1")
    assert back_up()["removed_links"] == 2
    bring_back()
    assert refused("kit", "import", "used", "--home", "new") == (3, "link-known")
    assert refused("kit", "import", "kit", "--home", "new") == (3, "link-known")


def test_realm_of_an_older_epoch_is_refused_by_a_restored_kme(root: Path) -> None:
    """The attacker brings kits of an epoch in which the hubs were others."""
    realm = Realm.from_bytes(Path("realm.cbor").read_bytes())
    with kme_store("site-a") as store:
        later = Realm(realm.name, 2, realm.threshold, realm.issued, realm.max_age, realm.overlap, realm.hubs)
        store.bring_back_realm(later.to_bytes())
    back_up()
    bring_back()
    done("kit", "create", "site-a", "-o", "old", "--in-clear", "--home", "hub-1", "--replace")
    assert refused("kit", "import", "old", "--home", "new") == (3, "realm-outdated")


def test_restored_hub_enrols_its_kmes_anew(root: Path) -> None:
    done("backup", "create", "-o", "backup", *WORDS, "--home", "hub-1")
    restored = bring_back("hub-new")
    assert any("site-a: skex kit import hub-1.kit --replace" in step for step in restored["next"])
    master = read_master_key(Path("hub-new"))
    store = HubStore.open("hub-new/store.sqlite", master, entropy.random_bytes)
    with closing(store):
        assert store.realm() == Path("realm.cbor").read_bytes()
        assert [one.kme for one in store.awaiting_kits()] == ["site-a"]
        assert (store.meta("hub"), store.meta("realm")) == ("hub-1", "example")
    enrol("hub-1", "site-a", hub_home="hub-new")
    with open_hub(config.load_hub(Path("hub-new"))) as hub:
        assert [one.link.kme for one in hub.links()] == ["site-a"]


def test_restored_home_can_be_backed_up_before_it_is_enrolled(root: Path) -> None:
    links = back_up()["links"]
    bring_back()
    assert back_up("new", "again")["links"] == links
    assert [one["hub"] for one in bring_back("newer", "again")["links"]] == list(HUBS)


def test_kme_that_was_never_enrolled_is_restored_as_that(root: Path) -> None:
    done("kme", "init", "site-b", "--home", "site-b")
    assert back_up("site-b")["realm"] is None
    restored = bring_back()
    assert (restored["name"], restored["links"]) == ("site-b", [])
    with kme_store("new") as store:
        assert store.load(0.0).realm is None


def test_links_that_rested_are_named_first(root: Path) -> None:
    with kme_store("site-a") as store:
        (first, second, _) = (one.link.link_id for one in store.links())
        store.commit([[LinkFrozen(first, "rollback-found")]])
        store.suspend_link(second, suspended=True)
    back_up()
    step = bring_back()["next"][0]
    assert "hub-1 (rollback-found), hub-2 (by its operator)" in step


def test_files_outside_the_home_come_back_beside_it(root: Path) -> None:
    outside = root / "etc" / "policy.toml"
    outside.parent.mkdir()
    outside.write_text(Path("site-a/policy.toml").read_text())
    move_policy(str(outside))
    made = back_up()
    assert made["outside"] == [str(outside)]
    outside.unlink()
    restored = bring_back()
    assert f"Put back {outside}" in restored["next"][0]
    assert Path(f"new/outside{outside}").read_text() == Path("site-a/policy.toml").read_text()
    assert not outside.exists()


# ── while the daemon runs ───────────────────────────────────────────────────────────────────────
def test_line_that_the_daemon_is_just_writing_is_left_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answering(monkeypatch)
    segment = Path("site-a/audit/audit-00000000000000000001.jsonl")
    whole = segment.read_bytes()
    segment.write_bytes(whole + b'{"format":1,"sequ')
    with locked(Path("site-a")):
        back_up()
    assert len(asked[0]["id"]) == 32
    bring_back()
    assert Path("new/audit", segment.name).read_bytes().startswith(whole + b'{"format":1,"sequence":')
    assert verify(Path("new/audit")).is_sound


def test_running_daemon_is_backed_up_and_says_which_kits_it_awaits(root: Path) -> None:
    done("kme", "init", "site-b", "--home", "site-b")
    Path("kit").unlink()
    done("kit", "create", "site-b", "-o", "kit", "--in-clear", "--home", "hub-1")
    done("kit", "import", "kit", "--home", "site-b")
    Path("kit").unlink()
    done("kit", "create", "site-b", "-o", "kit", "--in-clear", "--home", "hub-2")
    done("kit", "import", "kit", "--home", "site-b")
    options = Path("site-b/kme.toml").read_text()
    Path("site-b/kme.toml").write_text(options.replace("#allow_root = false", "allow_root = true"))
    back_up("site-b")
    bring_back()
    with subprocess.Popen([sys.executable, "-m", "skex", "kme", "run", "--home", "new"]) as daemon:
        try:
            until(Path("new/ports.json").exists, "the daemon")
            assert done("kme", "status", "--home", "new")["awaiting_kits"] == ["hub-1", "hub-2"]
            text = skex("kme", "status", "--home", "new").stdout
            assert "restored, await new kits: hub-1, hub-2" in text
            until(lambda: "realm-expired" in [one["event"] for one in audit_of("new")], "the realm's record")
            made = back_up("new", "again")
        finally:
            daemon.terminate()
    assert [one["hub"] for one in made["links"]] == ["hub-1", "hub-2"]
    recorded = [one for one in audit_of("new") if one["event"] == "backup-made"]
    assert recorded[-1]["details"] == {"backup": made["backup"]}
    assert bring_back("newer", "again")["removed_links"] == 0


def test_doctor_names_the_kits_that_a_restored_home_awaits(root: Path) -> None:
    back_up()
    bring_back()
    checks = json.loads(skex("doctor", "--home", "new", "--json").stdout)["checks"]
    said = [one["sentence"] for one in checks if one["check"] == "links"]
    assert "The home was restored: the links with hub-1, hub-2, hub-3 await new kits." in said


def answering(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What a daemon that holds the home was asked; it answers with the state of its store."""
    asked: list[Mapping[str, Any]] = []
    with kme_store("site-a") as store:
        answer = handed_out(state_of_kme(store))

    def ask(_home: Path, command: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        assert command == "backup"
        asked.append(arguments)
        return answer

    monkeypatch.setattr(commands, "ask", ask)
    return asked


@pytest.mark.parametrize("answer", [{}, {"state": 7}, {"state": "no base64!"}, {"state": "gA=="}])
def test_answer_that_is_no_state_is_refused_and_leaves_no_file(
    root: Path, monkeypatch: pytest.MonkeyPatch, answer: Mapping[str, Any]
) -> None:
    monkeypatch.setattr(commands, "ask", lambda *_: answer)
    with locked(Path("site-a")):
        assert refused("backup", "create", "-o", "backup", *WORDS, "--home", "site-a") == (
            3,
            "backup-malformed",
        )
    assert not [path for path in root.iterdir() if "backup" in path.name]


def test_home_in_use_by_something_that_does_not_answer_is_said(root: Path) -> None:
    with locked(Path("site-a")):
        answer = skex("backup", "create", "-o", "backup", *WORDS, "--home", "site-a")
    assert answer.code == 7
    assert "no daemon answers" in answer.stderr
    assert not Path("backup").exists()


# ── what stops one ──────────────────────────────────────────────────────────────────────────────
def refused_restore(home: str = "new", file: str = "backup") -> tuple[int, str]:
    outcome = refused("restore", file, *WORDS, "--home", home)
    assert not Path("new").exists()
    return outcome


def test_home_that_is_there_is_never_restored_over(root: Path) -> None:
    back_up()
    before = files_of("site-a")
    assert refused("restore", "backup", *WORDS, "--home", "site-a") == (3, "home-exists")
    assert files_of("site-a") == before
    bring_back()
    assert refused("restore", "backup", *WORDS, "--home", "new") == (3, "home-exists")


def test_backup_with_one_changed_byte_restores_nothing(root: Path) -> None:
    """At the beginning, in the manifest, in a file, at the very end."""
    back_up()
    data = Path("backup").read_bytes()
    for place in (0, 8, 20, len(data) // 2, len(data) - 1):
        spoiled = bytearray(data)
        spoiled[place] ^= 0x04
        Path("spoiled").write_bytes(spoiled)
        code, name = refused_restore(file="spoiled")
        assert (code, name.startswith("backup-")) == (3, True), name


def test_backup_that_was_cut_off_restores_nothing(root: Path) -> None:
    back_up()
    Path("cut").write_bytes(Path("backup").read_bytes()[:-1])
    assert refused_restore(file="cut") == (3, "backup-damaged")
    assert refused("backup", "show", "cut", *WORDS) == (3, "backup-damaged")


def test_wrong_passphrase_opens_nothing(root: Path) -> None:
    back_up()
    Path("words").write_text("another horse entirely\n")
    assert refused_restore() == (3, "backup-passphrase")


def test_nobody_is_asked_where_nobody_is(root: Path) -> None:
    assert refused("backup", "create", "-o", "b", "--home", "site-a") == (3, "backup-passphrase-missing")


def test_existing_file_is_never_overwritten(root: Path) -> None:
    Path("backup").write_text("precious")
    assert refused("backup", "create", "-o", "backup", *WORDS, "--home", "site-a") == (3, "file-exists")
    assert Path("backup").read_text() == "precious"


def test_what_a_crash_left_of_an_earlier_try_is_replaced(root: Path) -> None:
    Path(".backup.part").write_text("half a backup")
    back_up()
    assert not Path(".backup.part").exists()


@pytest.mark.parametrize("method", ["write", "sync"])
def test_full_disk_leaves_no_backup(root: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(NewFile, method, full)
        outcome = refused("backup", "create", "-o", "backup", *WORDS, "--home", "hub-1")
    assert outcome == (4, "file-io")
    assert not [path for path in root.iterdir() if "backup" in path.name]


def test_file_that_appeared_meanwhile_is_not_overwritten(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = NewFile.sync

    def slowly(file: NewFile) -> None:
        sync(file)
        Path("backup").write_text("precious")

    monkeypatch.setattr(NewFile, "sync", slowly)
    assert refused("backup", "create", "-o", "backup", *WORDS, "--home", "site-a") == (3, "file-exists")
    assert Path("backup").read_text() == "precious"


def test_certificate_and_key_in_one_file_stay_at_home(root: Path) -> None:
    begin, end = (f"-----{word} PRIVATE KEY-----" for word in ("BEGIN", "END"))
    Path("site-a/tls/server.pem").write_text(f"certificate\n{begin}\nsecret\n{end}\n")
    made = back_up()
    assert [one["path"] for one in made["files"] if one["role"] == "certificate"] == ["tls/ca.pem"]
    bring_back()
    assert not Path("new/tls/server.pem").exists()


def test_file_that_cannot_be_read_is_said(root: Path) -> None:
    Path("site-a/policy.toml").unlink()
    assert refused("backup", "create", "-o", "b", *WORDS, "--home", "site-a") == (4, "file-io")


def test_log_that_shrinks_while_it_is_read_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is an archiver that takes segments away just now."""
    whole = making._whole_lines
    monkeypatch.setattr(making, "_whole_lines", lambda path: whole(path) + 1)
    assert refused("backup", "create", "-o", "b", *WORDS, "--home", "site-a") == (4, "file-io")


@pytest.mark.parametrize(
    ("limit", "value"),
    [("BACKUP_BYTES", 1000), ("BACKUP_LINKS", 2), ("BACKUP_FILES", 2), ("BACKUP_MANIFEST_BYTES", 100)],
)
def test_home_with_more_than_fits_is_said(
    root: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    """What a reader would refuse is not written: nobody would find out before it is needed."""
    monkeypatch.setattr(limits, limit, value)
    assert refused("backup", "create", "-o", "b", *WORDS, "--home", "site-a") == (3, "backup-too-large")


def test_backup_of_one_daemon_with_the_configuration_of_another_is_refused(root: Path) -> None:
    """The attacker knows the passphrase; the header says whose it is, and must be right."""
    site = Path("site-a/kme.toml")
    site.write_text(site.read_text().replace('name = "site-a"', 'name = "site-b"'))
    parsed = config.load_kme(Path("site-a"))
    with kme_store("site-a") as store, Path("backup").open("wb") as sink:
        making.make(
            sink,
            replace(parsed, name=KmeName("site-a")),
            configuration=site,
            backup_id=making.new_backup_id(),
            state=state_of_kme(store),
            passphrase=parse_passphrase(PASSPHRASE),
            cost=CHEAP,
        )
    assert refused_restore() == (3, "backup-malformed")


def test_backup_that_the_first_release_made_is_restored(root: Path) -> None:
    """Kept in the tree: every later version must take it."""
    Path("old").write_bytes(base64.b64decode((FIXTURES / "kme-1.skexback.b64").read_text()))
    restored = bring_back(file="old")
    assert (restored["name"], restored["realm"], restored["version"]) == ("site-a", "example", "0.1.0")
    assert restored["awaiting_kits"] == list(HUBS)
    assert verify(Path("new/audit")).is_sound


@pytest.mark.parametrize("asked", [{}, {"id": 7}, {"id": "zz"}, {"id": "00" * 15}])
def test_daemon_hands_nothing_out_for_a_backup_without_an_id(asked: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="backup-malformed"):
        asked_backup(asked, 0)


def test_home_without_a_configuration_is_said(root: Path) -> None:
    assert refused("backup", "create", "-o", "b", *WORDS, "--home", "nowhere") == (3, "config-missing")


def test_path_that_no_backup_can_hold_is_said(root: Path) -> None:
    hidden = root / "site-a" / ".policy.toml"
    Path("site-a/policy.toml").rename(hidden)
    move_policy(".policy.toml")
    assert refused("backup", "create", "-o", "b", *WORDS, "--home", "site-a") == (3, "backup-path")


def test_file_that_is_too_large_is_said(root: Path) -> None:
    Path("site-a/tls/ca.pem").write_bytes(bytes(1_048_577))
    assert refused("backup", "create", "-o", "b", *WORDS, "--home", "site-a") == (3, "backup-too-large")


def test_crash_while_restoring_leaves_a_home_that_the_next_try_makes_anew(root: Path) -> None:
    back_up()
    bring_back()
    Path("new", INCOMPLETE).touch()
    bring_back()
    assert not Path("new", INCOMPLETE).exists()


def test_fault_while_restoring_leaves_no_home(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    back_up()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "x")

    with monkeypatch.context() as patch:
        patch.setattr("skex.daemon.backup.restoring.new_master_key", fail)
        assert refused_restore() == (4, "home-io")
    bring_back()
