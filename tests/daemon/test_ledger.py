"""Audit logs of real daemons: sealed while they run, without a secret, and enough to assess a break-in."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from skex.daemon.master import read_master_key
from skex.runtime import clock
from skex.runtime.auditfile import segments
from tests.cli.transcripts import done, refused, skex
from tests.support.network import Network, network, until


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("net")) as made:
        made.start(*made.homes.hub_names, *made.homes.kmes)
        for kme in made.homes.kmes:
            until(partial(sees_all, made, kme), f"every hub at {kme}")
        yield made


def sees_all(daemons: Network, kme: str) -> bool:
    return daemons.hubs_up(kme) == daemons.homes.hubs


def homes_of(daemons: Network) -> list[Path]:
    return [daemons.homes.home(name) for name in (*daemons.homes.hub_names, *daemons.homes.kmes)]


def log_of(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in segments(home / "audit"))


def iso(seconds: float) -> str:
    return clock.wall().fromtimestamp(seconds, clock.wall().tzinfo).isoformat()


def assessed(daemons: Network, *breaches: str, homes: list[Path] | None = None) -> dict[str, Any]:
    answer = skex("compromise", "assess", *(homes or homes_of(daemons)), *breaches, "--json")
    assert answer.code in {0, 4}, answer.stderr
    assert answer.code == (4 if answer.data["keys"]["exposed"] else 0)
    return answer.data


def test_running_daemon_hands_out_its_key_once_and_seals_when_asked(daemons: Network, tmp_path: Path) -> None:
    home, key = daemons.homes.home("north"), tmp_path / "north.auditkey"
    done("audit", "key", "--home", home, "--out", key)
    assert refused("audit", "key", "--home", home, "--out", tmp_path / "again") == (3, "audit-key-gone")
    assert not (tmp_path / "again").exists()
    daemons.new_key("north", "south")
    assert done("audit", "seal", "--home", home)["sealed"]
    (log,) = done("audit", "verify", home, "--key", key)["logs"]
    assert log["seals"]["verified"] >= 2
    assert skex("audit", "verify", daemons.homes.home("hub-1"), "--key", key).code == 4


def test_whole_realm_is_split_after_break_ins(daemons: Network) -> None:
    key_id, _ = daemons.new_key("north", "south")
    assert daemons.key_by_id("south", "north", key_id)[0] == 200
    now = clock.unix_seconds()
    two = assessed(daemons, "--hub", "hub-1", "--hub", "hub-2", "--since", iso(now - 3600))
    assert two["keys"]["exposed"] == 0
    assert two["keys"]["by_reason"]["below-threshold"] == two["keys"]["not_exposed"] > 0
    assert two["missing_logs"] == []
    assert {(one["kme"], one["hub"]) for one in two["renew"]} == {
        (kme, hub) for kme in ("north", "south") for hub in ("hub-1", "hub-2")
    }
    hubs = [one for name in ("hub-1", "hub-2", "hub-3") for one in ("--hub", name)]
    three = assessed(daemons, *hubs, "--since", iso(now - 3600))
    assert three["keys"]["not_exposed"] == 0
    assert three["keys"]["by_reason"]["threshold-reached"] == three["keys"]["exposed"] > 0
    assert {one["sae"] for one in three["consumers"]} >= {"app@north", "app@south"}
    assert three["roots"]
    assert all(one["exposed"] for one in three["roots"])
    later = assessed(daemons, *hubs, "--since", iso(now + 7200))
    assert later["keys"]["exposed"] == 0
    assert later["keys"]["by_reason"]["erased-before"] == later["keys"]["not_exposed"]


def test_kme_had_later_exposes_what_lay_there_and_not_what_was_delivered(daemons: Network) -> None:
    key_id, _ = daemons.new_key("north", "south")
    assert daemons.key_by_id("south", "north", key_id)[0] == 200
    later = iso(clock.unix_seconds() + 7200)
    found = assessed(daemons, "--kme", "south", "--since", later)
    reasons = {one["reason"] for one in found["batches"]}
    assert reasons == {"held-at-compromised-kme", "erased-before"}
    erased = [one for one in found["batches"] if one["reason"] == "erased-before"]
    assert sum(one["keys"] for one in erased) >= 1
    assert found["revoke"]
    assert found["keys"]["by_reason"]["threshold-reached"] == 0


def test_missing_logs_are_named_and_count_against_the_keys(daemons: Network) -> None:
    later = iso(clock.unix_seconds() + 7200)
    alone = assessed(
        daemons, "--kme", "south", "--hub", "hub-9", "--since", later, homes=[daemons.homes.home("north")]
    )
    assert [one.split(":")[0] for one in alone["missing_logs"]] == [
        "kme south", *(f"hub {name}" for name in (*daemons.homes.hub_names, "hub-9"))
    ]  # fmt: skip
    assert alone["keys"]["not_exposed"] == 0


def test_report_for_people_says_what_to_do_in_order(daemons: Network) -> None:
    since = iso(clock.unix_seconds() - 3600)
    text = skex("compromise", "assess", *homes_of(daemons), "--hub", "hub-1", f"--kme=south={since}",
                "--since", since).stdout  # fmt: skip
    order = [
        "Somebody had:",
        "recorded keys count as exposed",
        "shares known",
        "Roots of peer messages are exposed between",
        "Applications that got exposed keys",
        "1. Keep the evidence",
        "skex realm next realm.cbor --revoke hub-1",
        "Rebuild south",
        "skex key revoke --peer",
        "Enrol these links anew",
        "skex kit create north --replace -o hub-1-north.kit",
        "skex kit import hub-1-north.kit --replace",
        "This holds if:",
    ]
    places = [text.find(one) for one in order]
    assert -1 not in places, order[places.index(-1)]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--hub", "hub-1"),
        ("--hub", "hub-1", "--since", "yesterday"),
        ("--hub", "hub-1="),
        ("--hub", "Hub 1", "--since", "2030-01-01"),
        ("--hub", "hub-1=2030-01-02..2030-01-01"),
    ],
)
def test_question_that_makes_no_sense_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert skex("compromise", "assess", tmp_path, *arguments).code == 2


def test_log_of_nobody_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit-00000000000000000001.jsonl").write_bytes(b"")
    code = refused("compromise", "assess", tmp_path, "--hub", "h1", "--since", "2030-01-01")
    assert code == (3, "audit-owner-unknown")


def test_directory_of_segments_stands_for_its_home(daemons: Network) -> None:
    audit = daemons.homes.home("north") / "audit"
    found = assessed(daemons, "--hub", "hub-1", "--since", "2020-01-01", homes=[audit])
    assert found["owners"] == ["kme north"]


def test_no_log_of_any_daemon_holds_a_secret(daemons: Network) -> None:
    """Delivered keys, master keys, sealing keys, and what pads hold, in every spelling."""
    key_id, encoded = daemons.new_key("north", "south")
    daemons.key_by_id("south", "north", key_id)
    secrets = [base64.b64decode(encoded)]
    for home in homes_of(daemons):
        secrets.append(read_master_key(home).expose())
        secrets.append((home / "audit.sealing").read_bytes().strip(b"\0")[48:112])
        for pad in (home / "pads").iterdir():
            data = pad.read_bytes().rstrip(b"\0")
            secrets += [piece for at in range(0, len(data), 65_536) if any(piece := data[at + 64 : at + 96])]
    logs = {home: log_of(home) for home in homes_of(daemons)}
    for secret in secrets:
        for piece in (secret[:16], secret[-16:]):
            if len(set(piece)) < 8:
                continue  # zeros, or a field that is no secret
            for spelling in (piece, piece.hex().encode(), base64.b64encode(piece)[:20]):
                for home, log in logs.items():
                    assert spelling not in log, home
