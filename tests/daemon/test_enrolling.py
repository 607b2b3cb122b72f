"""Enrolment while daemons run, as operators do it: kits, refusals, realm files, senders that vanish."""

from __future__ import annotations

import contextlib
import json
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from skex.base.ids import HubName
from skex.cli import kit as kit_commands
from skex.daemon import config
from skex.daemon.enrolment import open_kme
from skex.daemon.evidence import operator
from skex.enrol import creating
from skex.enrol.realm import Changes, next_epoch
from skex.pad.kinds import PadKind
from skex.protocol.realm import check_succession
from skex.runtime import clock
from skex.store.database import checked_vfs
from tests.cli.transcripts import PASSPHRASE, done, refused, skex
from tests.support.network import Homes, Network, until
from tests.unit.enrol.kit_support import CHEAP

NEW = "hub-4"


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    order = creating.KitOrder
    monkeypatch.setattr(kit_commands, "KitOrder", lambda **parts: replace(order(**parts), cost=CHEAP))


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Four hubs and a KME that is enrolled with three of them; all of them run."""
    made = Homes(tmp_path_factory.mktemp("net"), hubs=4, kmes={"north": PadKind.DERIVED}, door=False)
    made.enrol(made.hub_names[:3])
    (made.base / "words").write_text(PASSPHRASE + "\n")
    running = Network(made)
    try:
        running.start(*made.hub_names, "north")
        yield running
    finally:
        running.close()


class Site:
    """What the two operators type, and what they can see."""

    def __init__(self, daemons: Network, directory: Path) -> None:
        self.daemons = daemons
        self.directory = directory
        self.words = ("--passphrase-file", str(daemons.homes.base / "words"))

    def home(self, name: str) -> Path:
        return self.daemons.homes.home(name)

    def kit(self, name: str = "new") -> Path:
        return self.directory / f"{name}.kit"

    def create(self, *more: str, name: str = "new", hub: str = NEW, kme: str = "north") -> list[str]:
        way = self.words if "--in-clear" not in more else ()
        return ["kit", "create", kme, "-o", str(self.kit(name)), "--home", str(self.home(hub)), *way, *more]

    def bring(self, *more: str, name: str = "new") -> list[str]:
        return ["kit", "import", str(self.kit(name)), "--home", str(self.home("north")), *more]

    def pads(self, name: str) -> list[str]:
        return sorted(path.name for path in (self.home(name) / "pads").iterdir())

    def events(self, name: str, kind: str) -> list[dict[str, Any]]:
        segments = sorted((self.home(name) / "audit").glob("*.jsonl"))
        records = (json.loads(line) for one in segments for line in one.read_text().splitlines())
        return [record for record in records if record.get("event") == kind]

    def link(self, owner: str, other: str) -> dict[str, Any] | None:
        """One link in a daemon's status."""
        status = self.daemons.ask(owner, "status")[1]
        rows = status["kmes"] if owner.startswith("hub-") else status["hubs"]
        return next((row for row in rows if other in (row.get("kme"), row.get("hub"))), None)

    def is_up(self) -> bool:
        row = self.link("north", NEW)
        return row is not None and bool(row["connected"])


@pytest.fixture
def site(daemons: Network, tmp_path: Path) -> Site:
    return Site(daemons, tmp_path)


def enrolled(site: Site) -> None:
    """The link between the new hub and the KME is there, and up."""
    if site.link("north", NEW) is None:
        done(*site.create("--replace"))
        done(*site.bring(*site.words))
    until(site.is_up, "the new hub's link")


# ── the whole way ───────────────────────────────────────────────────────────────────────────────
def test_a_kit_is_made_and_imported_while_both_daemons_run_and_its_link_comes_up(site: Site) -> None:
    assert site.link("north", NEW) is None
    made = done(*site.create())
    assert stat.S_IMODE(site.kit().stat().st_mode) == 0o600
    assert done("kit", "show", site.kit())["words"] == made["words"]
    imported = done(*site.bring(*site.words))
    assert {name: made[name] for name in ("words", "link", "protection")} == {
        name: imported[name] for name in ("words", "link", "protection")
    }
    assert (imported["kits"], imported["needed"], imported["in_force"]) == (3, 3, True)
    until(site.is_up, "the new hub's link")
    assert site.pads("north").count(f"{made['link']}-to-hub.pad") == 1
    assert len(site.pads(NEW)) == 2
    generated = site.events(NEW, "enrolment-generated")[-1]
    brought = site.events("north", "enrolment-imported")[-1]
    assert (generated["verdict"], brought["verdict"]) == ("allowed", "allowed")
    assert generated["actor"] == brought["actor"] == str(operator())
    assert made["link"] in str(generated["subjects"])


def test_a_link_is_replaced_by_a_table_and_nothing_of_the_old_one_is_left(site: Site) -> None:
    enrolled(site)
    old = site.pads(NEW)
    made = done(*site.create("--replace", "--table", "1MiB", "--in-clear"))
    imported = done(*site.bring("--replace"))
    assert (imported["link"], imported["pad"]) == (made["link"], "table")

    def is_table() -> bool:
        row = site.link("north", NEW)
        return row is not None and row["pad"] == "table" and bool(row["connected"])

    until(is_table, "the link with the table")
    for owner in (NEW, "north"):
        assert not set(old) & set(site.pads(owner))
        assert {name for name in site.pads(owner) if made["link"] in name} == {
            f"{made['link']}-to-hub.pad",
            f"{made['link']}-to-kme.pad",
        }
    assert len(site.daemons.ask("north", "status")[1]["hubs"]) == 4
    assert site.link(NEW, "north") is not None


# ── refusals ────────────────────────────────────────────────────────────────────────────────────
def test_what_a_running_hub_refuses_leaves_no_file_and_no_pad(site: Site) -> None:
    enrolled(site)
    pads, refusals = site.pads(NEW), len(site.events(NEW, "enrolment-generated"))
    assert refused(*site.create("--in-clear")) == (3, "link-exists")
    assert not site.kit().exists()
    assert site.pads(NEW) == pads
    assert site.events(NEW, "enrolment-generated")[refusals:][0]["verdict"] == "refused"
    site.kit("taken").write_text("precious")
    assert refused(*site.create("--in-clear", "--replace", name="taken")) == (3, "file-exists")
    assert site.kit("taken").read_text() == "precious"
    assert refused(*site.create("--in-clear", "--replace", name="no/such")) == (4, "file-io")
    until(site.is_up, "the link as it was")


def cut(data: bytearray) -> bytearray:
    return data[:-1]


def altered(data: bytearray) -> bytearray:
    data[len(data) // 2] ^= 1
    return data


def nonsense(_: bytearray) -> bytearray:
    return bytearray(b"something else entirely, and longer than a preamble")


def as_it_is(data: bytearray) -> bytearray:
    return data


@pytest.mark.parametrize(
    ("spoil", "more", "way", "code"),
    [
        (cut, (), "words", "kit-truncated"),
        (altered, ("--table", "2MiB"), "words", "kit-altered"),
        (nonsense, (), "words", "kit-malformed"),
        (as_it_is, (), "words", "link-exists"),
        (as_it_is, (), "wrong", "kit-passphrase"),
        (as_it_is, (), "none", "kit-passphrase-missing"),
        (as_it_is, ("--valid", "1s"), "words", "kit-expired"),
    ],
)
def test_a_running_kme_refuses_what_a_stopped_one_refuses(
    site: Site,
    spoil: Callable[[bytearray], bytearray],
    more: tuple[str, ...],
    way: str,
    code: str,
) -> None:
    enrolled(site)
    done(*site.create("--replace", *more, hub="hub-1"))
    try:
        site.kit().write_bytes(spoil(bytearray(site.kit().read_bytes())))
        if code == "kit-expired":
            expires = done("kit", "show", site.kit())["expires"]
            until(lambda: clock.unix_seconds() >= expires, "the end of the kit")
        (site.directory / "wrong").write_text("some other words entirely")
        ways = {
            "words": site.words,
            "wrong": ("--passphrase-file", str(site.directory / "wrong")),
            "none": (),
        }
        replacing = () if code == "link-exists" else ("--replace",)
        pads = site.pads("north")
        before = len(site.events("north", "enrolment-imported"))
        assert refused(*site.bring(*ways[way], *replacing)) == (3, code)
        assert site.pads("north") == pads
        # Whoever gives no passphrase has not asked for anything yet.
        recorded = [one["verdict"] for one in site.events("north", "enrolment-imported")[before:]]
        assert recorded == ([] if way == "none" else ["refused"])
    finally:
        done(*site.create("--replace", "--in-clear", name="mended", hub="hub-1"))
        done(*site.bring("--replace", name="mended"))


def test_a_kit_of_another_kme_and_a_kit_that_was_used_are_refused_before_the_passphrase(site: Site) -> None:
    done(*site.create(kme="south"))
    assert refused(*site.bring()) == (3, "kit-other-kme")
    done(*site.create("--replace", name="used"))
    done(*site.bring("--replace", *site.words, name="used"))
    assert refused(*site.bring("--replace", name="used")) == (3, "link-known")


def test_a_home_that_another_command_uses_is_in_use_as_before(site: Site) -> None:
    (site.directory / "idle").mkdir()
    idle = Homes(site.directory / "idle", hubs=3, kmes={"lone": PadKind.DERIVED})
    with open_kme(config.load_kme(idle.home("lone"))):
        site.kit().write_bytes(b"")
        assert refused("kit", "import", site.kit(), "--home", idle.home("lone")) == (4, "home-in-use")


# ── the socket ──────────────────────────────────────────────────────────────────────────────────
def sent(site: Site, name: str, body: bytes, length: int) -> socket.socket:
    """The beginning of an upload whose sender says that it has ``length`` bytes."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(str(site.home(name) / "admin.sock"))
    head = f"POST /kit HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def begun(site: Site, name: str) -> socket.socket:
    """A table's kit that stops in the middle, with its first pad under way."""
    done(*site.create("--replace", "--in-clear", "--table", "4MiB", name=name))
    data = site.kit(name).read_bytes()
    line = json.dumps({"replace": True}).encode() + b"\n"
    before = site.pads("north")
    connection = sent(site, "north", line + data[: len(data) // 4], len(line) + len(data))
    until(lambda: site.pads("north") != before, "the beginning of a pad")
    return connection


def test_a_sender_that_vanishes_in_the_middle_leaves_nothing(site: Site) -> None:
    enrolled(site)
    before, refusals = site.pads("north"), len(site.events("north", "enrolment-imported"))
    begun(site, "half").close()
    until(lambda: site.pads("north") == before, "the end of half a pad")
    until(lambda: len(site.events("north", "enrolment-imported")) > refusals, "the record of it")
    assert site.events("north", "enrolment-imported")[-1]["cause"] == "kit-io"
    done(*site.bring("--replace", name="half"))
    until(site.is_up, "the new link")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"no JSON\n", 400),
        (b"[1]\n", 400),
        (b"\xff\xfe\n", 400),
        (b"{}", 400),
        (b"x" * 5000, 400),
        (b'{"replace": 1}\n', 409),
        (b'{"stretched": "00"}\n', 409),
        (b'{"stretched": 7}\n', 409),
        (b'{"stretched": "zz"}\n', 409),
    ],
)
def test_an_upload_that_does_not_say_what_it_is_is_refused(site: Site, line: bytes, status: int) -> None:
    with sent(site, "north", line, len(line)) as connection:
        answer = connection.recv(65536)
    assert int(answer.split()[1]) == status


def test_no_key_of_a_passphrase_is_in_a_log_or_an_answer(site: Site) -> None:
    for name in (NEW, "north"):
        log = site.daemons.log(name)
        assert "stretched" not in log
        assert PASSPHRASE not in log


# ── realm files ─────────────────────────────────────────────────────────────────────────────────
def test_a_later_epoch_reaches_the_kme_without_any_restart(site: Site) -> None:
    enrolled(site)
    realm = site.daemons.homes.realm
    later = next_epoch(realm, Changes(threshold=2), issued=clock.unix_seconds())
    check_succession(realm, later)
    file = site.directory / "later.cbor"
    file.write_bytes(later.to_bytes())
    pids = {name: process.pid for name, process in site.daemons.running.items()}
    for hub in site.daemons.homes.hub_names:
        answer = skex("hub", "update-realm", file, "--home", site.home(hub))
        assert answer.code == 0, answer.stderr
        assert "serves it now" in answer.stderr
    until(partial(epoch_is, site, "north", later.epoch), "the later epoch at the KME")
    for hub in site.daemons.homes.hub_names:
        assert epoch_is(site, hub, later.epoch)
        changed = site.events(hub, "realm-changed")[-1]
        assert (changed["details"]["epoch"], changed["details"]["threshold"]) == (later.epoch, 2)
    assert site.events("north", "realm-changed")[-1]["details"]["epoch"] == later.epoch
    assert refused("hub", "update-realm", file, "--home", site.home("hub-1")) == (3, "realm-mismatch")
    old = site.directory / "old.cbor"
    old.write_bytes(realm.to_bytes())
    assert refused("hub", "update-realm", old, "--home", site.home("hub-1")) == (3, "realm-outdated")
    assert site.events("hub-1", "realm-changed")[-1]["verdict"] == "refused"
    assert {name: process.pid for name, process in site.daemons.running.items()} == pids
    # A kit made now carries the later file, and the KME takes it; a restart keeps the epoch.
    made = done(*site.create("--replace", "--in-clear", name="later"))
    assert made["realm"]["epoch"] == later.epoch
    done(*site.bring("--replace", name="later"))
    assert site.daemons.stop("hub-1") == {"hub-1": 0}
    site.daemons.start("hub-1")
    assert epoch_is(site, "hub-1", later.epoch)


def epoch_is(site: Site, name: str, epoch: int) -> bool:
    return bool(site.daemons.ask(name, "status")[1]["epoch"] == epoch)


def test_a_hub_says_when_a_realm_file_retires_it(site: Site) -> None:
    (site.directory / "lone").mkdir()
    lone = Homes(site.directory / "lone", hubs=4, kmes={})
    later = next_epoch(lone.realm, Changes(revoke=frozenset({HubName("hub-4")})), issued=clock.unix_seconds())
    file = site.directory / "without.cbor"
    file.write_bytes(later.to_bytes())
    answer = skex("hub", "update-realm", file, "--home", lone.home("hub-4"))
    assert answer.code == 0, answer.stderr
    assert "will not start again" in answer.stderr


# ── the end ─────────────────────────────────────────────────────────────────────────────────────
def test_a_daemon_stops_in_time_whatever_is_on_its_way_in(site: Site) -> None:
    enrolled(site)
    before = site.pads("north")
    with begun(site, "stalled"):
        assert site.daemons.stop("north") == {"north": 0}
    assert site.pads("north") == before
    site.daemons.start("north")
    done(*site.bring("--replace", name="stalled"))
    until(site.is_up, "the new link")


def test_kits_renew_a_realm_file_that_is_too_old_without_a_restart(site: Site) -> None:
    """Nothing is in force, so nobody is dialled, until kits of enough hubs agree again."""
    enrolled(site)
    hubs = site.daemons.homes.hub_names[:3]
    threshold = site.daemons.ask("north", "status")[1]["threshold"]
    assert site.daemons.stop("north") == {"north": 0}
    with contextlib.closing(
        apsw.Connection(str(site.home("north") / "store.sqlite"), vfs=checked_vfs())
    ) as store:
        store.execute("UPDATE realm SET accepted = accepted - 1000000000")
    site.daemons.start("north")
    status = site.daemons.ask("north", "status")[1]
    assert (status["epoch"], status["ready"], status["healthy"]) == (None, False, False)
    for number, hub in enumerate(hubs, 1):
        done(*site.create("--replace", "--in-clear", name=hub, hub=hub))
        imported = done(*site.bring("--replace", name=hub))
        assert imported["in_force"] == (number >= threshold), imported
        if not imported["in_force"]:
            assert (imported["kits"], imported["needed"]) == (number, threshold)

    def delivers() -> bool:
        found = site.daemons.ask("north", "status")[1]
        return bool(found["ready"] and found["healthy"] and found["epoch"])

    until(delivers, "the KME's readiness")
    assert site.events("north", "enrolment-activated")
    # What was decided in memory is what the store says.
    assert site.daemons.stop("north") == {"north": 0}
    site.daemons.start("north")
    until(delivers, "the KME's readiness after a restart")
