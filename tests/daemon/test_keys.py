"""``skex key`` against daemons that run: what it shows, and that what is revoked is gone at both ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from skex.cli import skex_command
from tests.support.network import Network, network, until


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("keys"), hubs=3) as made:
        made.start(*made.homes.hub_names, *made.homes.kmes)
        yield made


def skex(daemons: Network, home: str, *words: str) -> tuple[int, Any]:
    """A command's exit code, and its answer or error."""
    argv = ["key", *words, "--json", "--home", str(daemons.homes.home(home))]
    done = CliRunner().invoke(skex_command, argv, standalone_mode=False)
    text = done.stdout if done.exit_code == 0 else done.stderr
    return done.exit_code, json.loads(text)


def good(daemons: Network, home: str, *words: str) -> Any:
    code, answer = skex(daemons, home, *words)
    assert code == 0, answer
    return answer


def refused(daemons: Network, home: str, *words: str) -> str:
    code, answer = skex(daemons, home, *words)
    assert code == 3, answer
    return str(answer["error"]["code"])


def records(daemons: Network, home: str, event: str) -> list[dict[str, Any]]:
    directory: Path = daemons.homes.home(home) / "audit"
    lines = [line for one in sorted(directory.glob("*.jsonl")) for line in one.read_text().splitlines()]
    return [found for found in map(json.loads, lines) if found["event"] == event]


def test_a_key_is_explained_reserved_assigned_and_delivered_the_same_at_both_ends(daemons: Network) -> None:
    daemons.new_key("north", "south")
    until(lambda: good(daemons, "north", "list")["batches"], "a reserve")
    batch = good(daemons, "north", "list", "--peer", "south")["batches"][0]
    free = good(daemons, "north", "show", batch["batch"])["keys_by_id"][-1]
    assert (free["state"], free["nist_state"]) == ("reserved", "pre-activation")
    reserved = good(daemons, "north", "explain", free["key_id"])
    assert reserved["claim"]["class"] == "computational"
    assert reserved["claim"]["threshold"] == 3
    assert [one["pad"] for one in reserved["links_here"]] == ["derived"] * 3
    assert all(len(one["kit"] or "") in {0, 128} for one in reserved["links_here"])

    key_id, _ = daemons.new_key("north", "south")
    master, slave = (good(daemons, home, "explain", key_id) for home in ("north", "south"))
    assert (master["state"], slave["state"]) == ("delivered", "assigned")
    assert (master["copy_here"], slave["copy_here"]) == (False, True)
    assert master["taken_by"] == ["app@north"]
    assert master["deliveries"][0]["others"] == ["app@south"]
    assert slave["assigned"] == {"master": "app@north", "slaves": ["app@south"], "purpose": "any"}
    assert master["claim"] == slave["claim"]
    assert [one["pad"] for one in slave["links_here"]] == ["table"] * 3
    assert daemons.key_by_id("south", "north", key_id)[0] == 200
    slave = good(daemons, "south", "explain", key_id, "--used-with", "aes-256-gcm")
    assert (slave["state"], slave["nist_state"], slave["copy_here"]) == ("delivered", "active", False)
    assert slave["used_with"]["class"] == "computational"
    assert "Shamir's scheme over GF(2^8)" in slave["paragraph"]
    assert "TLS with certificates" in slave["paragraph"]


def test_what_is_revoked_is_delivered_at_neither_end_and_who_has_it_is_named(daemons: Network) -> None:
    key_id, _ = daemons.new_key("north", "south")
    answer = good(daemons, "north", "revoke", key_id, "--reason", "key-compromise")
    assert answer["in_use"] == [{"sae": "app@north", "keys": 1, "key_ids": [key_id]}]
    until(lambda: good(daemons, "south", "show", key_id)["revoked"], "the revocation at the other end")
    assert daemons.key_by_id("south", "north", key_id)[0] == 400
    north, south = (good(daemons, home, "show", key_id) for home in ("north", "south"))
    assert (north["nist_state"], north["revoked"]) == ("compromised", "key-compromise")
    assert (south["nist_state"], south["revoked"]) == ("destroyed", "key-compromise")
    again = good(daemons, "north", "revoke", key_id, "--reason", "superseded")
    assert again["revoked"] == 0
    assert good(daemons, "north", "show", key_id)["revoked"] == "key-compromise"
    (asked, *_) = [one for one in records(daemons, "north", "revocation-asked") if key_id in str(one)]
    assert asked["actor"].startswith("operator:")
    until(lambda: records(daemons, "north", "keys-revoked-in-use"), "the warning")
    assert records(daemons, "north", "keys-revoked-in-use")[0]["details"]["holders"] == ["app@north"]


def test_a_whole_batch_is_revoked_at_both_ends(daemons: Network) -> None:
    daemons.new_key("north", "south")  # from the first one on, a reserve is kept
    until(lambda: good(daemons, "north", "list", "--peer", "south")["batches"], "a reserve")
    batch = good(daemons, "north", "list", "--peer", "south")["batches"][0]
    answer = good(daemons, "north", "revoke", batch["batch"], "--reason", "hub-compromise")
    assert answer["revoked"] == batch["left"]

    def gone() -> bool:
        states = [one["state"] for one in good(daemons, "south", "show", batch["batch"])["keys_by_id"]]
        return "reserved" not in states

    until(gone, "the revocation at the other end")
    assert set(good(daemons, "north", "show", batch["batch"])["states"]) <= {
        "erased before delivery",
        "revoked after delivery as compromised",
    }


def test_suspended_keys_are_not_handed_out_until_they_are_resumed(daemons: Network) -> None:
    key_id, _ = daemons.new_key("north", "south")
    assert good(daemons, "south", "suspend", key_id, "--reason", "investigation")["suspended"] == 1
    assert daemons.key_by_id("south", "north", key_id)[0] == 400
    shown = good(daemons, "south", "show", key_id)
    assert (shown["state"], shown["suspended"]) == ("assigned, suspended", "investigation")
    daemons.kill("south")
    daemons.start("south")
    assert good(daemons, "south", "resume", key_id)["resumed"] == 1
    until(lambda: daemons.key_by_id("south", "north", key_id)[0] == 200, "the key")


def test_a_suspended_peer_gets_no_keys_and_a_refusal_says_so(daemons: Network) -> None:
    good(daemons, "north", "suspend", "--peer", "south", "--reason", "suspected-compromise")
    status, answer = daemons.keys("north", "app@south/enc_keys")
    assert (status, answer["details"]) == (503, [{"code": "keys-suspended"}])
    good(daemons, "north", "resume", "--peer", "south")
    daemons.new_key("north", "south")
    assert records(daemons, "north", "keys-suspended")[-1]["subjects"] == {"kme": ["south"]}
    assert records(daemons, "north", "keys-resumed")


def test_bad_input_has_a_code_and_changes_nothing(daemons: Network) -> None:
    unknown = "00000000-0000-8000-8000-000000000000"
    assert refused(daemons, "north", "explain", unknown) == "key-unknown"
    assert refused(daemons, "north", "revoke", unknown) == "key-unknown"
    assert refused(daemons, "north", "show", f"{'0' * 32}:1") == "key-unknown"
    assert refused(daemons, "north", "show", "nonsense") == "key-target"
    assert refused(daemons, "north", "show", f"{'0' * 32}:{2**64}") == "key-target"
    assert skex(daemons, "north", "revoke")[0] == 2
    assert skex(daemons, "north", "revoke", unknown, "--peer", "south")[0] == 2
    assert skex(daemons, "north", "revoke", unknown, "--reason", "boredom")[0] == 2
    for command, body, code in (
        ("revoke", {"ids": [unknown], "reason": "boredom"}, "key-reason"),
        ("revoke", {"ids": [unknown], "reason": "rollback"}, "key-unknown"),
        ("revoke", {"ids": [7]}, "key-target"),
        ("revoke", {"ids": "x"}, "key-target"),
        ("revoke", {"ids": [unknown], "peer": "south"}, "key-target"),
        ("revoke", {}, "key-target"),
        ("suspend", {"peer": 7}, "name-invalid"),
        ("explain", {"ids": [unknown], "used_with": 7}, "key-target"),
        ("explain", {"ids": [unknown], "used_with": "rot13"}, "key-target"),
    ):
        status, answer = daemons.ask("north", command, "-d", json.dumps(body))
        assert (status, answer["code"]) == (409, code), (command, body)
