"""Running daemons refuse what ``skex policy test`` says they refuse, by the rule that it names.

Policies are changed under connections that stand: what a reload takes in counts at once, or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cli.transcripts import skex
from tests.support.network import Network, network, until

PAIR = ("--from", "app@north", "--to", "app@south")


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("net"), hubs=3) as made:
        made.start(*made.homes.hub_names, *made.homes.kmes)
        made.new_key("north", "south")
        for kme in made.homes.kmes:
            body = json.dumps({"filling": False})
            assert made.ask(kme, "reserve", "-d", body)[0] == 200
        yield made


@contextmanager
def with_rule(daemons: Network, name: str, rule: str) -> Iterator[None]:
    """A daemon's policy with one more rule, taken in while it runs."""
    path = daemons.homes.home(name) / "policy.toml"
    before = path.read_text()
    try:
        path.write_text(f"{before}\n{rule}\n")
        status, answer = daemons.ask(name, "reload", "-d", "{}")
        assert (status, answer["policy"] != answer["before"]) == (200, True), answer
        yield
    finally:
        path.write_text(before)
        assert daemons.ask(name, "reload", "-d", "{}")[0] == 200


def records(daemons: Network, name: str, event: str, rule: str) -> list[dict[str, Any]]:
    """What a daemon's audit log says that this rule refused."""
    directory = daemons.homes.home(name) / "audit"
    found = []
    for path in sorted(directory.iterdir()):
        for line in path.read_bytes().splitlines():
            if line.startswith(b"{") and line.endswith(b"}"):
                one = json.loads(line)
                if one.get("event") == event and one.get("rule") == rule:
                    found.append(one)
    return found


def decided(daemons: Network, name: str, *how: str) -> dict[str, Any]:
    """What ``skex policy test`` says in a daemon's home, which must be a refusal."""
    answer = skex("policy", "test", *PAIR, *how, "--home", daemons.homes.home(name), "--json")
    assert answer.code == 3, answer.stderr
    return dict(answer.data)


def connections(daemons: Network, hub: str) -> dict[str, int]:
    return {one["kme"]: one["connections"] for one in daemons.ask(hub, "status")[1]["kmes"]}


def drain(daemons: Network) -> None:
    """From here on a key must be established."""
    assert daemons.ask("north", "reserve", "-d", '{"drain": "south"}')[0] == 200


def taken(daemons: Network) -> int:
    return daemons.keys("north", "app@south/enc_keys")[0]


def test_what_the_door_refuses_is_recorded_with_the_rule_that_policy_test_names(daemons: Network) -> None:
    rule = '[[sae.deny]]\nid = "late"\nlocal = ["app@north"]\nremote = ["app@south"]'
    with with_rule(daemons, "north", rule):
        status, answer = daemons.keys("north", "app@south/enc_keys")
        assert (status, answer) == (401, {"message": "the SAE is not authorised"})
        said = decided(daemons, "north")["decided_by"]
        assert said["rule"] == "sae.deny.late"
        lines = (daemons.homes.home("north") / "policy.toml").read_text().splitlines()
        assert lines[said["line"] - 1 :][:2] == ["[[sae.deny]]", 'id = "late"']
        (record, *_) = until(
            lambda: records(daemons, "north", "keys-refused", said["rule"]), "the record of the refusal"
        )
        assert record["details"]["note"] == said["reason"]
        assert record["subjects"]["sae"] == ["app@south"]
        shown = skex("audit", "show", "--home", daemons.homes.home("north"), "--event", "keys-refused").stdout
        assert f" refused by {said['rule']} " in shown
    daemons.new_key("north", "south")


def test_no_line_is_named_where_the_file_is_not_what_is_in_force(daemons: Network) -> None:
    """The daemon knows rules, not how a file that was changed since spelt them."""
    path = daemons.homes.home("north") / "policy.toml"
    before = path.read_text()
    command = ("policy", "test", *PAIR, "--home", daemons.homes.home("north"))
    for text in (before + '\n[[kme.deny]]\nid = "soon"\npeers = ["*"]\n', "no policy"):
        try:
            path.write_text(text)
            answer, told = skex(*command, "--json"), skex(*command).stdout
        finally:
            path.write_text(before)
        assert answer.code == 0
        assert {one["line"] for one in answer.data["steps"]} == {None}
        assert ", line " not in told
        assert "in the policy in force; the file says something else" in told


def test_what_hubs_refuse_is_recorded_with_the_rule_and_counts_for_links_that_stand(daemons: Network) -> None:
    before = {hub: connections(daemons, hub) for hub in daemons.homes.hub_names}
    rule = '[[hub.deny]]\nid = "stolen"\nfrom = ["north"]\nto = ["*"]'
    with with_rule(daemons, "hub-1", rule):
        drain(daemons)
        assert taken(daemons) in {401, 503}
        said = decided(daemons, "hub-1")["decided_by"]
        assert said["rule"] == "hub.deny.stolen"
        (record, *_) = until(
            lambda: records(daemons, "hub-1", "authorisation-failed", said["rule"]), "the hub's record"
        )
        assert (record["actor"], record["subjects"]["kme"]) == ("kme:north", ["south"])
        assert "denied by a rule" in record["details"]["note"]
    daemons.new_key("north", "south")
    assert {hub: connections(daemons, hub) for hub in daemons.homes.hub_names} == before


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ('[[kme.deny]]\nid = "gone"\npeers = ["north"]\ndirection = "from-peer"', "kme.deny.gone"),
        ('[[kme.limit]]\nid = "apart"\npeers = ["*"]\nminimum_effective_threshold = 2', "kme.limit.apart"),
    ],
)
def test_what_a_kme_refuses_its_peer_is_recorded_there_and_the_peer_learns_no_rule(
    daemons: Network, rule: str, name: str
) -> None:
    with with_rule(daemons, "south", rule):
        drain(daemons)
        assert taken(daemons) in {401, 503}
        said = decided(daemons, "south")["decided_by"]
        assert said["rule"] == name
        (record, *_) = until(
            lambda: records(daemons, "south", "authorisation-failed", name), "the record of the peer's KME"
        )
        assert (record["actor"], record["details"]["what"]) == ("kme:north", "batch")
        assert record["details"]["note"] == said["reason"]
        assert records(daemons, "north", "batch-failed", name) == []
    daemons.new_key("north", "south")


def test_an_assignment_that_is_refused_is_recorded_at_the_slaves_kme(daemons: Network) -> None:
    rule = '[[sae.deny]]\nid = "slave"\nlocal = ["app@south"]\nremote = ["app@north"]\nrole = "slave"'
    with with_rule(daemons, "south", rule):
        drain(daemons)
        assert taken(daemons) in {401, 503}
        said = decided(daemons, "south")["decided_by"]
        assert said["rule"] == "sae.deny.slave"
        (record, *_) = until(
            lambda: records(daemons, "south", "authorisation-failed", said["rule"]), "the record"
        )
        assert record["details"] == {"what": "assignment", "note": said["reason"]}
    daemons.new_key("north", "south")


def test_hubs_that_depend_on_too_few_are_not_used_and_the_rule_is_recorded(daemons: Network) -> None:
    """All hubs of this realm have one administrator: any demand for two parties refuses it."""
    rule = '[[kme.limit]]\nid = "apart"\npeers = ["*"]\nminimum_effective_threshold = 2'
    with with_rule(daemons, "north", rule):
        drain(daemons)
        status, answer = daemons.keys("north", "app@south/enc_keys")
        assert (status, answer["details"]) == (503, [{"code": "hubs-not-independent"}])
        said = decided(daemons, "north")["decided_by"]
        assert (said["rule"], "administrator z" in said["reason"]) == ("kme.limit.apart", True)
        assert until(lambda: records(daemons, "north", "batch-failed", said["rule"]), "the record")
    daemons.new_key("north", "south")
    status = daemons.ask("north", "status")[1]["effective_threshold"]
    assert (status["parties"], status["such_as"]) == (1, ["administrator z"])


def test_a_policy_with_a_mistake_leaves_the_one_in_force_and_is_recorded(daemons: Network) -> None:
    path = daemons.homes.home("hub-2") / "policy.toml"
    before = path.read_text()
    in_force = daemons.ask("hub-2", "policy")[1]
    try:
        path.write_text(before + "\n[[hub.deny]]\nfrom = 5\n")
        assert daemons.ask("hub-2", "reload", "-d", "{}")[0] == 409
        assert daemons.ask("hub-2", "policy")[1] == in_force
        assert until(lambda: records(daemons, "hub-2", "policy-rejected", ""), "the record")
    finally:
        path.write_text(before)


def test_what_the_next_reload_would_change_is_said_before_it(daemons: Network) -> None:
    home = daemons.homes.home("north")
    path = home / "policy.toml"
    before = path.read_text()
    assert skex("policy", "diff", "--home", home).stdout == "They decide everything alike.\n"
    try:
        path.write_text(before + '\n[[kme.deny]]\nid = "x"\npeers = ["south"]\n')
        text = skex("policy", "diff", "--home", home).stdout
        assert "kme: south to-peer: keys (kme.deny.x" in text
    finally:
        path.write_text(before)
