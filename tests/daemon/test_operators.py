"""Operators at real daemons, under real user ids: roles, refusals, and what needs two persons."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skex.base import limits
from skex.base.ids import KmeName
from skex.cli import kit as kit_commands
from skex.daemon.admin import CONNECTIONS_PER_USER
from skex.enrol import creating
from skex.enrol.realm import Changes, next_epoch
from skex.pad.kinds import PadKind
from skex.policy.starters import default_hub_policy
from skex.runtime import clock
from tests.cli.transcripts import done, refused
from tests.support.network import Homes, Network
from tests.support.people import (
    ANNA,
    BEN,
    CARL,
    CLERKS,
    DORA,
    GUESTS,
    Person,
    ended,
    events_of,
    needs_root,
    open_directory,
)
from tests.unit.enrol.kit_support import CHEAP

pytestmark = needs_root

HUB = "hub-1"
OPERATORS = f"""
[[operator.allow]]
id = "officers"
users = ["uid-{ANNA}", "uid-{BEN}"]
roles = ["security-officer"]

[[operator.allow]]
id = "clerks"
unix_groups = ["gid-{CLERKS}"]
roles = ["viewer"]

[[operator.deny]]
id = "guests"
unix_groups = ["gid-{GUESTS}"]
commands = ["*"]
"""
DUAL = """
[[operator.dual]]
id = "kits"
commands = ["kit-create", "kit-import", "realm-update", "reload", "reserve"]
"""


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    order = creating.KitOrder
    monkeypatch.setattr(kit_commands, "KitOrder", lambda **parts: replace(order(**parts), cost=CHEAP))


class Site:
    """One hub and one KME, each with a socket for others than their owner, and those others."""

    def __init__(self, base: Path, reachable: Path) -> None:
        self.homes = Homes(base, hubs=3, kmes={"north": PadKind.DERIVED}, door=False)
        self.homes.enrol()
        self.daemons = Network(self.homes)
        self.reachable = reachable
        self.changed: set[str] = set()
        for name in (HUB, "north"):
            self.configure(name)

    def configure(self, name: str) -> None:
        file = self.home(name) / ("hub.toml" if name == HUB else "kme.toml")
        stated = f'[admin]\nsocket = "{self.socket(name)}"\n'
        file.write_text(file.read_text().replace("[admin]\n", stated))
        self.policy(name, OPERATORS + DUAL)

    def policy(self, name: str, operators: str) -> None:
        self.changed.add(name)
        policy = self.home(name) / "policy.toml"
        plain = policy.read_text().partition("\n# operators of the tests\n")[0]
        policy.write_text(f"{plain}\n# operators of the tests\n{operators}")

    def reset(self) -> None:
        """The policies as they were at first, whatever a test did; nothing waits."""
        for name in self.daemons.running:
            for one in self.daemons.ask(name, "pending")[1]["pending"]:
                assert self.daemons.ask(name, "reject", "--json", json.dumps({"id": one["id"]}))[0] == 200
            if name in self.changed:
                self.policy(name, OPERATORS + DUAL)
                self.reload(name)
                self.changed.discard(name)

    def reload(self, name: str = HUB) -> None:
        """Take in the policy as it takes two persons to do."""
        status, body = self.person(ANNA, name=name).raw("reload", "--json", "{}")
        assert status == 200, body
        pending = json.loads(body)["pending"]
        approval = json.dumps({"id": pending["id"], "digest": pending["digest"]})
        status, body = self.person(BEN, name=name).raw("approve", "--json", approval)
        assert status == 200, body

    def home(self, name: str) -> Path:
        return self.homes.home(name)

    def socket(self, name: str) -> Path:
        return self.reachable / f"{name}.sock"

    def person(self, user: int, *groups: int, name: str = HUB) -> Person:
        return Person(user, (0, *groups), self.socket(name))

    def kit(self, user: int, name: str = "new") -> Path:
        return self.reachable / str(user) / f"{name}.kit"

    def events(self, *kinds: str, name: str = HUB) -> list[dict[str, Any]]:
        return list(events_of(self.home(name), *kinds))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_directory(ANNA, BEN) as reachable:
        made = Site(tmp_path_factory.mktemp("net"), reachable)
        try:
            made.daemons.start(HUB, "north")
            made.changed.clear()
            yield made
        finally:
            made.daemons.close()


@pytest.fixture
def site(running: Site) -> Site:
    running.reset()
    for user in (ANNA, BEN):
        for left in (running.reachable / str(user)).iterdir():
            left.unlink()
    return running


# ── who may ask for what ────────────────────────────────────────────────────────────────────────
def test_socket_for_others_is_open_to_its_group_and_the_one_in_the_home_to_the_owner(site: Site) -> None:
    shared, own = site.socket(HUB).stat(), (site.home(HUB) / "admin.sock").stat()
    assert (stat.S_IMODE(shared.st_mode), stat.S_IMODE(own.st_mode)) == (0o660, 0o600)
    assert shared.st_gid == 0
    # Not in the group: the file system says no before anybody is asked.
    assert Person(DORA, (DORA,), site.socket(HUB)).skex("hub", "status").code == 7


def test_role_lets_its_holder_do_what_it_says_and_the_log_names_the_rule_that_does_not(site: Site) -> None:
    clerk = site.person(CARL, CLERKS)
    assert clerk.done("hub", "status")["hub"] == HUB
    assert clerk.raw("health")[0] == clerk.raw("metrics")[0] == 200
    before = len(site.events("authorisation-failed"))
    assert clerk.refused("operator", "list") == (3, "not-authorised")
    refusals = site.events("authorisation-failed")[before:]
    assert [(one["actor"], one["rule"], one["details"]["what"]) for one in refusals] == [
        (f"operator:uid-{CARL}", "default", "policy")
    ]


def test_whoever_is_refused_hears_the_same_whatever_they_asked_for(site: Site) -> None:
    """A stranger, a denied one, and one with another role: nobody learns what there is, or why."""
    denied, stranger = site.person(CARL, CLERKS, GUESTS), site.person(DORA)
    clerk = site.person(CARL, CLERKS)
    answers = {
        who.raw(path, *more)
        for who, paths in (
            (denied, ("status", "health", "metrics", "nothing", "pending", "backup")),
            (stranger, ("status", "reload", "a/b", "approve", "kit")),
            (clerk, ("reload", "nothing", "backup")),
        )
        for path in paths
        for more in ((), ("--data", "{}"))
    }
    assert len(answers) == 1
    ((status, body),) = answers
    assert (status, json.loads(body)["code"]) == (403, "not-authorised")


def test_request_is_refused_before_its_body_is_read(site: Site) -> None:
    """The first byte of the body never comes, and yet there is an answer."""
    code = (
        "import os,socket,sys;os.setgroups([0]);"
        f"os.setgid({DORA});os.setuid({DORA});c=socket.socket(socket.AF_UNIX);c.settimeout(20);"
        f"c.connect({str(site.socket(HUB))!r});"
        "c.sendall(b'POST /kit HTTP/1.1\\r\\nHost: d\\r\\nContent-Length: 1000000\\r\\n\\r\\n');"
        "sys.stdout.write(c.recv(64).decode())"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.startswith("HTTP/1.1 403 ")


def test_grants_are_in_the_audit_log_when_they_come_and_when_they_go(site: Site) -> None:
    assert {one["rule"] for one in site.events("role-granted")} >= {
        "operator.allow.officers",
        "operator.allow.clerks",
    }
    before = len(site.events("role-withdrawn"))
    site.policy(HUB, OPERATORS.replace('"viewer"', '"auditor"') + DUAL)
    site.reload()
    (withdrawn,) = site.events("role-withdrawn")[before:]
    granted = site.events("role-granted")[-1]
    assert (withdrawn["details"]["roles"], granted["details"]["roles"]) == ("viewer", "auditor")
    assert granted["details"]["groups"] == f"gid-{CLERKS}"


def test_one_user_cannot_take_up_all_connections_of_the_others(site: Site) -> None:
    """Root is a user, too: more than its part of connections are closed, and others still get in."""
    held = []
    try:
        for _ in range(CONNECTIONS_PER_USER + 4):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(20)
            connection.connect(str(site.socket(HUB)))
            held.append(connection)
        closed = 0
        for connection in held[CONNECTIONS_PER_USER:]:
            try:
                closed += connection.recv(1) == b""
            except ConnectionResetError:
                closed += 1
        assert closed == 4
        assert site.person(CARL, CLERKS).done("hub", "status")["hub"] == HUB
    finally:
        for connection in held:
            connection.close()


# ── two persons ─────────────────────────────────────────────────────────────────────────────────
def asked_kit(site: Site, *more: str, user: int = ANNA, name: str = "new") -> dict[str, Any]:
    """Somebody asks for a kit, which waits."""
    answer = site.person(user).done(
        *("kit", "create", "centre", "-o", str(site.kit(user, name)), "--in-clear", *more), code=8
    )
    pending: dict[str, Any] = answer["pending"]
    assert pending["says"]["words"] == answer["words"]
    return pending


def has_link(site: Site, kme: str = "centre") -> bool:
    return any(one["kme"] == kme for one in site.daemons.ask(HUB, "status")[1]["kmes"])


def test_kit_counts_once_a_second_person_approved_exactly_this_one(site: Site) -> None:
    assert not has_link(site)
    pending = asked_kit(site)
    assert not has_link(site)
    assert site.kit(ANNA).exists()
    (seen,) = site.person(BEN).done("operator", "pending")["pending"]
    assert seen == pending
    assert (seen["command"], seen["by"], seen["says"]["kme"]) == ("kit-create", f"uid-{ANNA}", "centre")
    answer = site.person(BEN).done("operator", "approve", pending["id"], "--digest", pending["digest"][:16])
    assert answer["answer"] == {"enrolled": True}
    assert has_link(site)
    requested = site.events("dual-control-requested")[-1]
    approved, generated = site.events("dual-control-approved")[-1], site.events("enrolment-generated")[-1]
    assert (requested["actor"], requested["second"]) == (f"operator:uid-{ANNA}", "")
    for record in (approved, generated):
        assert (record["actor"], record["second"]) == (f"operator:uid-{ANNA}", f"operator:uid-{BEN}")
    assert approved["details"]["content"] == pending["digest"]
    assert site.person(BEN).refused("operator", "approve", pending["id"]) == (3, "dual-control-unknown")


def test_nobody_is_their_own_second_person_and_root_is_nobodys(site: Site) -> None:
    pending = asked_kit(site, "--replace")
    before = len(site.events("dual-control-refused"))
    assert site.person(ANNA).refused("operator", "approve", pending["id"]) == (3, "dual-control-same")
    assert refused("operator", "approve", pending["id"], "--home", site.home(HUB)) == (
        3,
        "dual-control-person",
    )
    assert site.person(CARL, CLERKS).refused("operator", "approve", pending["id"]) == (3, "not-authorised")
    causes = [one["cause"] for one in site.events("dual-control-refused")[before:]]
    assert causes == ["dual-control-same", "dual-control-person", "not-authorised"]
    assert len(site.person(BEN).done("operator", "pending")["pending"]) == 1


def test_root_cannot_ask_for_what_needs_two(site: Site, tmp_path: Path) -> None:
    kit = tmp_path / "root.kit"
    assert refused("kit", "create", "other", "-o", kit, "--in-clear", "--home", site.home(HUB)) == (
        3,
        "dual-control-person",
    )
    assert not kit.exists()
    assert refused("hub", "reload", "--home", site.home(HUB)) == (3, "dual-control-person")


def test_digest_that_somebody_read_out_wrongly_approves_nothing(site: Site) -> None:
    pending = asked_kit(site, "--replace")
    for digest in ("0" * 16, pending["digest"][:15]):
        assert site.person(BEN).refused("operator", "approve", pending["id"], "--digest", digest) == (
            3,
            "dual-control-changed",
        )
    assert len(site.person(BEN).done("operator", "pending")["pending"]) == 1


def test_two_approvals_at_once_do_it_once(site: Site) -> None:
    site.policy(HUB, OPERATORS.replace(f'"uid-{BEN}"', f'"uid-{BEN}", "uid-{CARL}"') + DUAL)
    site.reload()
    before = len(site.events("dual-control-approved"))
    pending = asked_kit(site, "--replace")
    processes = [
        site.person(user).begin("operator", "approve", pending["id"]) for user in (BEN, CARL, BEN, CARL)
    ]
    answers = [ended(one) for one in processes]
    assert sorted(one.code for one in answers) == [0, 3, 3, 3]
    assert {one.error["code"] for one in answers if one.code} <= {
        "dual-control-unknown",
        "dual-control-changed",
    }
    assert len(site.events("dual-control-approved")) == before + 1


def test_policy_that_changed_after_it_was_asked_for_is_not_the_one_approved(site: Site) -> None:
    pending = site.person(ANNA).done("hub", "reload", code=8)["pending"]
    site.policy(HUB, OPERATORS.replace('"viewer"', '"operator"') + DUAL)
    assert site.person(BEN).refused("operator", "approve", pending["id"]) == (3, "dual-control-changed")
    assert site.person(BEN).done("operator", "pending")["pending"] == []
    assert site.events("dual-control-ended")[-1]["cause"] == "dual-control-changed"
    site.reload()


@pytest.mark.parametrize(("withdrawn", "code"), [(ANNA, "dual-control-withdrawn"), (BEN, "not-authorised")])
def test_role_withdrawn_after_the_request_counts_at_the_approval(
    site: Site, withdrawn: int, code: str
) -> None:
    pending = asked_kit(site, "--replace")
    deny = f'[[operator.deny]]\nusers = ["uid-{withdrawn}"]\ncommands = ["kit-create"]\n'
    site.policy(HUB, OPERATORS + DUAL + deny)
    site.reload()
    assert site.person(BEN).refused("operator", "approve", pending["id"]) == (3, code)
    assert site.daemons.ask(HUB, "pending")[1]["pending"][0]["id"] == pending["id"]


def test_request_waits_as_long_as_the_policy_says_and_no_longer(site: Site) -> None:
    """The shortest wait that a policy can state is a minute; so it is asked what is stated, not waited."""
    site.policy(HUB, OPERATORS + DUAL + "pending_seconds_max = 60\n")
    site.reload()
    pending = asked_kit(site, "--replace")
    assert pending["until"] - pending["since"] == 60


def test_restart_forgets_what_waits(site: Site) -> None:
    pending = asked_kit(site, "--replace")
    site.daemons.stop(HUB)
    site.daemons.start(HUB)
    assert site.person(BEN).done("operator", "pending")["pending"] == []
    assert site.person(BEN).refused("operator", "approve", pending["id"]) == (3, "dual-control-unknown")
    assert site.events("dual-control-ended")[-1]["details"]["request"] == pending["id"]
    again = asked_kit(site, "--replace", name="again")
    site.daemons.kill(HUB)
    site.daemons.start(HUB)
    assert site.person(BEN).refused("operator", "approve", again["id"]) == (3, "dual-control-unknown")


def test_requests_are_withdrawn_by_who_made_them_and_rejected_by_who_could_approve(site: Site) -> None:
    first, second = asked_kit(site, "--replace"), asked_kit(site, "--replace", name="second")
    assert site.person(CARL, CLERKS).refused("operator", "reject", first["id"]) == (3, "not-authorised")
    site.person(ANNA).done("operator", "reject", first["id"])
    site.person(BEN).done("operator", "reject", second["id"])
    assert site.person(BEN).refused("operator", "approve", first["id"]) == (3, "dual-control-unknown")
    outcomes = site.person(BEN).done("operator", "pending")["ended"][-2:]
    assert [(one["id"], one["outcome"]) for one in outcomes] == [
        (first["id"], "rejected"),
        (second["id"], "rejected"),
    ]
    seconds = [one["second"] for one in site.events("dual-control-ended")[-2:]]
    assert seconds == [f"operator:uid-{ANNA}", f"operator:uid-{BEN}"]


def test_one_person_cannot_fill_the_place_of_all(site: Site) -> None:
    for _ in range(limits.PENDING_REQUESTS_PER_USER):
        assert site.person(ANNA).raw("reload", "--json", "{}")[0] == 200
    assert site.person(ANNA).refused("hub", "reload") == (3, "dual-control-full")
    site.person(BEN).done("hub", "reload", code=8)


def test_kit_that_does_not_verify_is_refused_before_anybody_is_asked_for_it(site: Site) -> None:
    kit = site.reachable / "spoilt"
    asked_kit(site, "--replace")
    data = bytearray(site.kit(ANNA).read_bytes())
    data[len(data) // 2] ^= 1
    kit.write_bytes(b'{"kme": "centre", "replace": true}\n' + data)
    status, body = site.person(ANNA).raw("kit", "--data-binary", f"@{kit}")
    assert (status, json.loads(body)["code"]) == (409, "kit-altered")
    assert len(site.person(ANNA).done("operator", "pending")["pending"]) == 1


def test_later_epoch_is_served_once_two_persons_want_it(site: Site) -> None:
    status = site.daemons.ask(HUB, "status")[1]
    before = site.homes.realm
    later = next_epoch(before, Changes(max_age=before.max_age + 1), issued=clock.unix_seconds())
    file = site.reachable / "realm.cbor"
    file.write_bytes(later.to_bytes())
    pending = site.person(ANNA).done("hub", "update-realm", str(file), code=8)["pending"]
    assert pending["says"]["epoch"] == before.epoch + 1
    assert site.daemons.ask(HUB, "status")[1]["epoch"] == status["epoch"]
    site.person(BEN).done("operator", "approve", pending["id"])
    assert site.daemons.ask(HUB, "status")[1]["epoch"] == before.epoch + 1
    changed = site.events("realm-changed")[-1]
    assert (changed["actor"], changed["second"]) == (f"operator:uid-{ANNA}", f"operator:uid-{BEN}")


# ── at a KME ────────────────────────────────────────────────────────────────────────────────────
def test_what_only_asks_needs_nobody_else(site: Site) -> None:
    site.policy("north", OPERATORS.replace('"security-officer"', '"security-officer", "operator"') + DUAL)
    site.reload("north")
    assert site.person(ANNA, name="north").done("kme", "reserve")["filling"] is True
    waits = site.person(ANNA, name="north").done("kme", "reserve", "--filling", "off", code=8)
    assert waits["pending"]["says"] == {"filling": False}
    site.person(BEN, name="north").done("operator", "approve", waits["pending"]["id"])
    assert site.person(ANNA, name="north").done("kme", "reserve")["filling"] is False


def test_kit_under_a_passphrase_is_imported_once_two_persons_want_it(site: Site, tmp_path: Path) -> None:
    """A wrong passphrase is found when it is asked for, not when it is approved."""
    right, wrong = site.reachable / "right", site.reachable / "wrong"
    right.write_text("correct horse battery staple\n")
    wrong.write_text("correct horse battery stable\n")
    kit = site.reachable / "import.kit"
    order = ("kit", "create", "north", "--replace", "--passphrase-file", right)
    made = done(*order, "-o", tmp_path / "i.kit", "--home", site.home("hub-2"))
    kit.write_bytes((tmp_path / "i.kit").read_bytes())
    bring = ("kit", "import", str(kit), "--replace", "--passphrase-file")
    anna = site.person(ANNA, name="north")
    assert anna.refused(*bring, str(wrong)) == (3, "kit-passphrase")
    answer = anna.done(*bring, str(right), code=8)
    assert answer["pending"]["says"]["words"] == made["words"]
    links = {one["hub"] for one in site.daemons.ask("north", "status")[1]["hubs"]}
    site.person(BEN, name="north").done("operator", "approve", answer["pending"]["id"])
    assert {one["hub"] for one in site.daemons.ask("north", "status")[1]["hubs"]} == links
    imported = site.events("enrolment-imported", name="north")[-1]
    assert made["link"] in str(imported["subjects"])
    assert (imported["actor"], imported["second"]) == (f"operator:uid-{ANNA}", f"operator:uid-{BEN}")


# ── with the daemon stopped ─────────────────────────────────────────────────────────────────────
def test_stopped_daemon_is_no_way_around_but_by_breaking_the_glass(site: Site, tmp_path: Path) -> None:
    site.daemons.stop(HUB)
    try:
        order = ("kit", "create", "lonely", "--in-clear", "--home", site.home(HUB), "-o")
        kit = tmp_path / "alone.kit"
        assert refused(*order, kit) == (3, "dual-control-offline")
        assert not kit.exists()
        done(*order, kit, "--break-glass", "the colleague is on a mountain")
        broken = site.events("glass-broken")[-1]
        assert (broken["rule"], broken["details"]) == (
            "operator.dual.kits",
            {"command": "kit-create", "note": "the colleague is on a mountain"},
        )
        refusal = site.events("dual-control-refused")[-1]
        assert (refusal["cause"], refusal["details"]) == ("dual-control-offline", {"command": "kit-create"})
        (site.home(HUB) / "policy.toml").write_text("nonsense")
        assert refused(*order, tmp_path / "other.kit", "--replace") == (3, "policy-syntax")
    finally:
        (site.home(HUB) / "policy.toml").write_text(default_hub_policy([KmeName("north")]))
        site.policy(HUB, OPERATORS + DUAL)
        site.daemons.start(HUB)
