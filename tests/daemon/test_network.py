"""Five hubs and two KMEs as processes: what they do together, and what remains when some of them die."""

from __future__ import annotations

import json
import os
import re
import resource
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from skex.daemon.master import read_master_key
from skex.daemon.starting import (
    locked,
)
from skex.runtime import clock, entropy
from skex.runtime.auditfile import verify
from skex.store.hub import HubStore
from tests.cli.transcripts import skex
from tests.support.network import TABLE_UNITS, Network, network, until

MONITORING = Path(__file__).resolve().parents[2] / "docs" / "monitoring.md"


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("net")) as made:
        made.start(*made.homes.hub_names, *made.homes.kmes)
        yield made


# Each test leaves all of it running.
def sees_all(daemons: Network, kme: str) -> bool:
    return daemons.hubs_up(kme) == daemons.homes.hubs


def all_up(daemons: Network) -> None:
    for kme in daemons.homes.kmes:
        until(partial(sees_all, daemons, kme), f"every hub at {kme}")


def empty_reserves(daemons: Network) -> None:
    """From here on, keys must be established."""
    for kme, other in (("north", "south"), ("south", "north")):
        body = json.dumps({"filling": False, "drain": other})
        assert daemons.ask(kme, "reserve", "-d", body)[0] == 200


def fill_again(daemons: Network) -> None:
    for kme in daemons.homes.kmes:
        assert daemons.ask(kme, "reserve", "-d", '{"filling": true}')[0] == 200


def test_a_key_is_equal_at_both_ends_and_delivered_once(daemons: Network) -> None:
    for master, slave in (("north", "south"), ("south", "north")):
        key_id, key = daemons.new_key(master, slave)
        status, answer = daemons.key_by_id(slave, master, key_id)
        assert (status, answer["keys"]) == (200, [{"key_ID": key_id, "key": key}])
        assert daemons.key_by_id(slave, master, key_id)[0] == 400


def test_a_delivery_is_on_the_medium_of_the_audit_log_when_the_key_arrives(daemons: Network) -> None:
    key_id, _ = daemons.new_key("north", "south")
    directory = daemons.homes.home("north") / "audit"
    assert any(key_id in segment.read_text() for segment in directory.glob("*.jsonl"))


def test_two_dead_hubs_are_survived_and_three_refused_in_time_until_they_are_back(daemons: Network) -> None:
    all_up(daemons)
    daemons.new_key("north", "south")
    empty_reserves(daemons)
    daemons.kill("hub-1", "hub-2")
    key_id, key = daemons.new_key("north", "south")
    assert daemons.key_by_id("south", "north", key_id)[1]["keys"][0]["key"] == key
    daemons.kill("hub-3")
    empty_reserves(daemons)
    began = clock.now()
    # A block that was assigned ahead may still be delivered from; when it is used up, nothing is.
    status, answer = 200, dict[str, Any]()
    while status == 200:
        status, answer = daemons.keys("north", "app@south/enc_keys", "-d", '{"number": 64}')
    assert status == 503, answer
    assert "keys" not in answer
    assert clock.now() - began < 20
    daemons.start("hub-1", "hub-2", "hub-3")
    fill_again(daemons)
    all_up(daemons)
    key_id, key = daemons.new_key("north", "south")
    assert daemons.key_by_id("south", "north", key_id)[1]["keys"][0]["key"] == key


@pytest.mark.parametrize("killed", ["north", "south"])
def test_a_kme_killed_and_started_again_resumes_and_delivers_nothing_twice(
    daemons: Network, killed: str
) -> None:
    other = "south" if killed == "north" else "north"
    made = [daemons.new_key(killed, other) for _ in range(3)]
    fetched = daemons.new_key(other, killed)
    waiting = daemons.new_key(other, killed)
    assert daemons.key_by_id(killed, other, fetched[0])[0] == 200
    daemons.kill(killed)
    daemons.start(killed)
    fresh = daemons.new_key(killed, other)
    assert fresh[0] not in {key_id for key_id, _ in made}
    assert fresh[1] not in {key for _, key in made}
    assert daemons.key_by_id(killed, other, fetched[0])[0] == 400
    # What was assigned to an SAE here before the crash is still there for it.
    assert daemons.key_by_id(killed, other, waiting[0])[1]["keys"][0]["key"] == waiting[1]
    assert daemons.key_by_id(other, killed, made[0][0])[1]["keys"][0]["key"] == made[0][1]


def test_the_admin_socket_refuses_what_is_no_command_and_goes_on(daemons: Network) -> None:
    assert daemons.ask("north", "nonsense")[0] == 404
    assert daemons.ask("north", "reserve", "-d", "no JSON")[0] == 400
    assert daemons.ask("north", "reserve", "-d", "[1]")[0] == 400
    assert daemons.ask("north", "reserve", "-d", "[" * 20_000)[0] == 400
    assert daemons.ask("north", "reserve", "-d", "x" * 120_000)[0] == 413
    assert daemons.ask("north", "reserve", "-X", "DELETE")[0] == 405
    status, answer = daemons.ask("north", "reserve", "-d", '{"drain": 7}')
    assert (status, answer["code"]) == (409, "name-invalid")
    assert daemons.ask("north", "health") == (200, {"healthy": True})
    assert "skex_kme_hub_up" in daemons.ask("north", "metrics")[1]
    assert (daemons.homes.home("north") / "admin.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["north", "hub-1"])
def test_metrics_are_those_of_the_manual(daemons: Network, name: str) -> None:
    all_up(daemons)
    page = daemons.ask(name, "metrics")[1]
    served = set(re.findall(r"^# TYPE (skex_\S+) ", page, re.MULTILINE))
    served = {one for one in served if not one.endswith("_created")}
    documented = set(re.findall(r"^\| `(skex_\w+)`", MONITORING.read_text(), re.MULTILINE))
    daemon = "skex_hub_" if name.startswith("hub") else "skex_kme_"
    assert served == {one for one in documented if one.startswith(daemon)}


def test_status_says_how_long_pads_and_reserves_last(daemons: Network) -> None:
    all_up(daemons)
    for master, slave in (("north", "south"), ("south", "north")):
        daemons.new_key(master, slave)
    until(lambda: _healths(daemons, "south") == {"full"}, "a full reserve")
    table = daemons.ask("south", "status")[1]["hubs"][0]["pads"]
    assert {pad["capacity_bytes"] for pad in table.values()} == {TABLE_UNITS * 4096}
    assert all(0 < pad["left_percent"] < 100 and pad["days_left"] is None for pad in table.values())
    assert daemons.ask("north", "status")[1]["hubs"][0]["pads"] is None
    assert _healths(daemons, "north") == {"full"}
    status = skex("kme", "status", "--home", daemons.homes.home("south")).stdout
    assert re.search(r"hub-1 +table +up +[\d.]+ MiB \(\d+ %\) +[\d.]+ MiB \(\d+ %\) +unknown yet", status)
    assert re.search(r"north +32 +\d+ +128 +512 +0 +full", status)
    hub = skex("hub", "status", "--home", daemons.homes.home("hub-1")).stdout
    assert re.search(r"south +table +up .*unknown yet", hub)
    assert re.search(r"north +derived +up +no end +no end +for ever", hub)


def _healths(daemons: Network, kme: str) -> set[str]:
    return {one["health"] for one in daemons.ask(kme, "status")[1]["reserves"]}


@pytest.mark.parametrize("name", ["north", "hub-1"])
def test_a_policy_with_a_mistake_changes_nothing_at_reload(daemons: Network, name: str) -> None:
    policy = daemons.homes.home(name) / "policy.toml"
    good = policy.read_text()
    try:
        policy.write_text(good + "\n[nonsense]\n")
        status, answer = daemons.ask(name, "reload", "-d", "{}")
        assert status == 409
        assert answer["code"].startswith("policy-")
        assert answer["hint"]
        daemons.new_key("north", "south")
    finally:
        policy.write_text(good)
    assert daemons.ask(name, "reload", "-d", "{}")[0] == 200


def test_a_full_disk_ends_a_kme_with_its_code_and_it_goes_on_when_there_is_room(daemons: Network) -> None:
    key_id, key = daemons.new_key("north", "south")
    process = daemons.running["north"]
    # The log of the process stays below it; the store, or the audit log, does not.
    bound = len(daemons.log("north")) + 32 * 1024
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (bound, resource.RLIM_INFINITY))
    taken = {key_id}
    while process.poll() is None:
        status, answer = daemons.keys("north", "app@south/enc_keys")
        if status == 200:
            assert answer["keys"][0]["key_ID"] not in taken
            taken.add(answer["keys"][0]["key_ID"])
        else:
            assert answer is None or "keys" not in answer
    assert process.wait(20) == 4
    said = daemons.log("north")[-2000:]
    assert re.search(r"code: (audit-io|store-io|store-full) \(exit 4\)", said)
    assert "hint: " in said
    assert "Traceback" not in said
    daemons.start("north")
    again = daemons.new_key("north", "south")
    assert again[0] not in taken
    assert daemons.key_by_id("south", "north", key_id)[1]["keys"][0]["key"] == key


def test_a_hub_in_anothers_place_and_one_that_suspended_the_link_are_done_without(daemons: Network) -> None:
    homes = daemons.homes
    configuration = homes.home("north") / "kme.toml"
    before = configuration.read_text()
    daemons.stop("north", "hub-5")
    configuration.write_text(
        f'{before}\n[realm.hub_addresses]\n"hub-1" = "127.0.0.1:{homes.ports["hub-2"]}"\n'
        if "[realm]" not in before
        else before.replace(
            "[realm]\n", f'[realm]\nhub_addresses = {{ "hub-1" = "127.0.0.1:{homes.ports["hub-2"]}" }}\n'
        )
    )
    suspend(homes.home("hub-5"), "north", suspended=True)
    try:
        daemons.start("north", "hub-5")
        until(lambda: daemons.hubs_up("north") == 3, "three hubs")
        daemons.new_key("north", "south")
        up = {hub["hub"] for hub in daemons.ask("north", "status")[1]["hubs"] if hub["connected"]}
        assert up == {"hub-2", "hub-3", "hub-4"}
    finally:
        daemons.stop("north", "hub-5")
        configuration.write_text(before)
        suspend(homes.home("hub-5"), "north", suspended=False)
        daemons.start("north", "hub-5")


def suspend(home: Path, kme: str, *, suspended: bool) -> None:
    with locked(home):
        store = HubStore.open(str(home / "store.sqlite"), read_master_key(home), entropy.random_bytes)
        try:
            link_id = next(one.link.link_id for one in store.links() if one.link.kme == kme)
            store.suspend_link(link_id, suspended=suspended)
        finally:
            store.close()


def test_daemons_told_to_stop_end_with_0_and_leave_nothing_behind(daemons: Network) -> None:
    names = tuple(daemons.running)
    pids = [process.pid for process in daemons.running.values()]
    assert daemons.stop(*names) == dict.fromkeys(names, 0)
    for name in names:
        home: Path = daemons.homes.home(name)
        assert not (home / "admin.sock").exists()
        assert not (home / "ports.json").exists()
        assert verify(home / "audit").is_sound
        for word in ("Traceback", "never retrieved", "never awaited", "Warning", "was destroyed"):
            assert word not in daemons.log(name)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    daemons.start(*names)
    daemons.new_key("north", "south")
