"""A hub that lies, among real daemons: named, benched by policy, brought back, while keys flow."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from skex.audit.chain import Record
from skex.runtime.auditfile import lines_of, segments
from tests.support.network import Network, network, until

LIAR = "hub-5"


class LiarsNetwork:
    """Five hubs, of which the last can be made to lie, and two KMEs; keys are made on demand."""

    def __init__(self, daemons: Network) -> None:
        self.daemons = daemons

    def honest(self) -> None:
        self.daemons.stop(LIAR)
        self.daemons.start(LIAR)
        self.all_up()

    def lying(self) -> None:
        """The same home, run by a test double."""
        self.daemons.stop(LIAR)
        homes = self.daemons.homes
        (homes.home(LIAR) / "ports.json").unlink(missing_ok=True)
        argv = [sys.executable, "-m", "simulation.lying_hub", "--home", str(homes.home(LIAR))]
        with (homes.base / "liar.log").open("ab") as log:
            self.daemons.running[LIAR] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(partial(self.daemons.is_up, LIAR), "the liar")
        self.all_up()

    def all_up(self) -> None:
        for kme in self.daemons.homes.kmes:
            until(partial(self._sees_all, kme), f"every hub at {kme}")

    def _sees_all(self, kme: str) -> bool:
        return self.daemons.hubs_up(kme) == self.daemons.homes.hubs

    def key(self) -> None:
        """Make a fresh key from north to south, and take it at both ends."""
        body = json.dumps({"filling": False, "drain": "south"})
        assert self.daemons.ask("north", "reserve", "-d", body)[0] == 200
        key_id, key = self.daemons.new_key("north", "south")
        status, answer = self.daemons.key_by_id("south", "north", key_id)
        assert (status, answer["keys"][0]["key"]) == (200, key)

    def shares_of(self, hub: str) -> int:
        """How many shares a hub has passed on."""
        metrics = self.daemons.ask(hub, "metrics")[1]
        line = re.search(r'^skex_hub_relayed_total\{kind="share"\} ([0-9.]+)$', metrics, re.MULTILINE)
        return 0 if line is None else int(float(line[1]))

    def hub(self, kme: str = "south", name: str = LIAR) -> dict[str, Any]:
        """One hub in a KME's status."""
        status, answer = self.daemons.ask(kme, "status")
        assert status == 200
        return next(one for one in answer["hubs"] if one["hub"] == name)

    def is_benched(self) -> bool:
        return any(one["benched"] for one in self.hub()["bench"])

    def cli(self, *words: str, kme: str = "south") -> tuple[int, str, str]:
        home = str(self.daemons.homes.home(kme))
        argv = [sys.executable, "-m", "skex", "kme", *words, "--home", home]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def doctor(self) -> list[dict[str, str]]:
        """What the doctor finds of hubs at the south."""
        argv = [sys.executable, "-m", "skex", "doctor", "--json"]
        argv += ["--home", str(self.daemons.homes.home("south"))]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return [one for one in json.loads(done.stdout)["checks"] if one["check"] == "conduct"]

    def records(self, event: str, kme: str = "south") -> list[Record]:
        found = []
        for segment in segments(self.daemons.homes.home(kme) / "audit"):
            for line, _ in lines_of(segment):
                record = Record.from_line(line)
                if record is not None and record.event == event:
                    found.append(record)
        return found


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiarsNetwork]:
    with network(tmp_path_factory.mktemp("blame")) as made:
        made.start(*made.homes.hub_names, *made.homes.kmes)
        assert made.ask("south", "reserve", "-d", '{"filling": false}')[0] == 200
        yield LiarsNetwork(made)


def test_lying_hub_is_named_benched_by_policy_and_brought_back_while_keys_flow(realm: LiarsNetwork) -> None:
    realm.lying()

    def benched() -> bool:
        realm.key()
        return realm.is_benched()

    until(benched, "the liar on the bench")
    wrong = realm.hub()["shares"]["wrong"]
    assert wrong >= 3
    assert all(realm.hub(name=f"hub-{number}")["blamed"] == 0 for number in range(1, 5))
    (entry,) = realm.hub()["bench"]
    assert (entry["peer"], entry["cause"]) == ("north", "wrong-shares")
    assert entry["rule"] == "kme.bench.every-hub"
    realm.key()

    status, shown, _ = realm.cli("blame", LIAR, "--json")
    assert status == 0
    report = json.loads(shown)
    assert {(one["hub"], one["peer"], one["blame"]) for one in report["evidence"]} == {
        (LIAR, "north", "wrong-share")
    }
    assert all(set(one["digests"]) == {"share", "expected"} for one in report["evidence"])
    recorded = {record.details["evidence"] for record in realm.records("hub-blamed")}
    assert recorded
    assert recorded <= {one["evidence"] for one in report["evidence"]}
    (warned,) = realm.doctor()
    assert warned["level"] == "warn"
    assert warned["sentence"].startswith("hub-5 brought ")
    assert warned["sentence"].endswith("It is used last with north.")
    (made,) = realm.records("hub-benched")
    assert made.details["why"] == "wrong-shares"
    assert made.rule == "kme.bench.every-hub"

    realm.daemons.kill("south")
    realm.daemons.start("south")
    realm.all_up()
    assert realm.is_benched()
    assert realm.hub()["shares"]["wrong"] >= wrong
    realm.key()

    realm.honest()
    status, said, _ = realm.cli("bring-back", LIAR)
    assert (status, said) == (0, "hub-5 is used again; 5 hubs are used.\n")
    assert not realm.is_benched()
    brought_back = realm.records("hub-brought-back")[-1]
    assert brought_back.details["why"] == "command"
    assert brought_back.actor.startswith("operator:")
    for _ in range(3):
        realm.key()
    assert not realm.is_benched()

    realm.lying()
    until(benched, "the liar on the bench again")
    assert realm.hub()["bench"][0]["cause"] == "wrong-on-probation"
    metrics = realm.daemons.ask("south", "metrics")[1]
    assert 'skex_kme_hub_benched{hub="hub-5"} 1.0' in metrics
    assert 'skex_kme_hub_shares_total{hub="hub-5",outcome="wrong"}' in metrics
    realm.honest()
    assert realm.cli("bring-back", LIAR)[0] == 0
    assert "Traceback" not in realm.daemons.log("south")


def test_hub_taken_out_by_command_gets_no_share_and_brings_none(realm: LiarsNetwork) -> None:
    status, said, _ = realm.cli("bench", "hub-1", "--reason", "a smell of burning", kme="north")
    assert (status, said) == (0, "hub-1 is out of use; 4 hubs are left.\n")
    for hub in ("hub-1", "hub-2"):
        assert realm.cli("bench", hub, "--seconds", "600", kme="south")[0] == 0
    assert realm.doctor()[0]["sentence"].startswith("hub-1 is out of use")
    realm.key()  # what was under way is over
    before = {hub: realm.shares_of(hub) for hub in ("hub-1", "hub-3")}
    for _ in range(3):
        realm.key()
    assert realm.shares_of("hub-1") == before["hub-1"]
    assert realm.shares_of("hub-3") > before["hub-3"]
    entry = realm.hub("north", "hub-1")["bench"][0]
    assert (entry["peer"], entry["reason"], entry["seconds_left"]) == (None, "a smell of burning", None)
    assert realm.hub("south", "hub-2")["bench"][0]["seconds_left"] <= 600
    _, text, _ = realm.cli("status", kme="north")
    assert "no, by command" in text
    (record,) = [one for one in realm.records("hub-benched", "north") if one.details["why"] == "command"]
    assert record.details["note"] == "a smell of burning"
    status, said, warned = realm.cli("bench", "hub-3", kme="north")
    assert status == 0
    status, said, warned = realm.cli("bench", "hub-4", kme="north")
    assert "No key can be made now: 2 hubs are left, and 3 are needed." in warned
    assert realm.daemons.ask("north", "health")[0] == 503
    for kme, hubs in (("north", ("hub-1", "hub-3", "hub-4")), ("south", ("hub-1", "hub-2"))):
        for hub in hubs:
            assert realm.cli("bring-back", hub, kme=kme)[0] == 0
    realm.key()


def test_commands_that_mean_nothing_are_refused_with_their_codes(realm: LiarsNetwork) -> None:
    words = (
        (("bench", "hub-9"), "hub-not-in-realm"),
        (("bring-back", "hub-3"), "hub-not-benched"),
        (("bench", "hub-1", "--reason", "two\nlines"), "bench-invalid"),
        (("bench", "hub-1", "--reason", "x" * 201), "bench-invalid"),
    )
    for asked, code in words:
        status, _, said = realm.cli(*asked)
        assert status != 0
        assert f"code: {code}" in said
        assert "hint: " in said
    # What no command line sends.
    bodies: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("bench", {"hub": 7}, "name-invalid"),
        ("bench", {"hub": "hub-1", "seconds": 0}, "bench-invalid"),
        ("bench", {"hub": "hub-1", "seconds": True}, "bench-invalid"),
        ("bench", {"hub": "hub-1", "reason": 7}, "bench-invalid"),
        ("bring-back", {}, "name-invalid"),
        ("blame", {"hub": "No Hub"}, "name-invalid"),
    )
    for command, body, code in bodies:
        status, answer = realm.daemons.ask("south", command, "-d", json.dumps(body))
        assert (status, answer["code"]) == (409, code)
    assert not any(hub["out"] for hub in realm.daemons.ask("south", "status")[1]["hubs"])
