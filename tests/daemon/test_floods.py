"""Real hubs under floods: bounded in connections, memory and log; others get keys; who did it is named."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skex.daemon.strangers import STRANGERS
from skex.pad.kinds import PadKind
from tests.support import attackers
from tests.support.attackers import ELSEWHERE, GreedyKme, claim_without_key, half_open, letters_for, say
from tests.support.network import Homes, Network, until

HUB = "hub-1"
SMALL_HUB = "hub-2"
FEW = 8
RESIDENT_MIB = 400
"""Far above what a hub needs (some 70), far below what an unbounded one would take."""
SAMPLED = 3
"""Records of one kind and actor in one window."""


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    kinds = {"north": PadKind.DERIVED, "south": PadKind.TABLE, "greedy": PadKind.DERIVED}
    made = Homes(tmp_path_factory.mktemp("floods"), hubs=3, kmes=kinds)
    made.enrol()
    small = made.home(SMALL_HUB) / "hub.toml"
    small.write_text(small.read_text().replace("[listen]\n", f"[listen]\nconnections_max = {FEW}\n", 1))
    network = Network(made)
    try:
        network.start(*made.hub_names, "north", "south")
        for kme in ("north", "south"):
            until(lambda kme=kme: network.hubs_up(kme) == 3, f"every hub at {kme}")  # type: ignore[misc]  # bound at once
        network.new_key("north", "south")
        yield network
    finally:
        network.close()


def port(daemons: Network) -> int:
    return daemons.homes.ports[HUB]


def status(daemons: Network, hub: str = HUB) -> Any:
    return daemons.ask(hub, "status")[1]


def of_kme(daemons: Network, name: str) -> Any:
    return next(one for one in status(daemons)["kmes"] if one["kme"] == name)


def metric(daemons: Network, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", daemons.ask(HUB, "metrics")[1], re.MULTILINE)
    return float(found[1]) if found else 0.0


def audited(daemons: Network, event: str) -> list[Any]:
    lines = [
        json.loads(line)
        for segment in sorted((daemons.homes.home(HUB) / "audit").glob("*.jsonl"))
        for line in segment.read_text().splitlines()
    ]
    return [line for line in lines if line["event"] == event]


def resident_mib(daemons: Network, name: str = HUB) -> float:
    text = Path(f"/proc/{daemons.running[name].pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def works(daemons: Network) -> None:
    """A key still flows, and the hub is neither larger nor unhealthy."""
    key_id, key = daemons.new_key("north", "south")
    assert daemons.key_by_id("south", "north", key_id)[1]["keys"][0]["key"] == key
    assert resident_mib(daemons) < RESIDENT_MIB
    assert daemons.ask(HUB, "health") == (200, {"healthy": True})


def test_silent_connections_cannot_keep_a_kme_out_however_many_they_are(daemons: Network) -> None:
    daemons.stop("north")
    with half_open(port(daemons), STRANGERS + 60) as opened:
        until(lambda: metric(daemons, "skex_hub_strangers_evicted_total") >= 60, "room for newer ones")
        assert status(daemons)["connections"]["unproved"] <= STRANGERS
        daemons.start("north")
        until(lambda: of_kme(daemons, "north")["connected"], "north at the flooded hub")
        assert sum(map(attackers.is_closed, opened[:60])) == 60
        works(daemons)
    crowded = audited(daemons, "overload-shed")
    assert 0 < len(crowded) <= SAMPLED
    assert crowded[0]["actor"] == "network"
    assert crowded[0]["details"]["what"] == "prefaces"
    assert crowded[0]["details"]["address"].startswith(ELSEWHERE)


def test_no_more_connections_are_open_than_configured_and_the_enrolled_keep_theirs(daemons: Network) -> None:
    small = daemons.homes.ports[SMALL_HUB]
    with half_open(small, 3 * FEW) as opened:
        until(lambda: sum(map(attackers.is_closed, opened[: 2 * FEW])) == 2 * FEW, "the oldest to be closed")
        seen = status(daemons, SMALL_HUB)
        assert seen["connections"]["open"] <= FEW == seen["connections"]["open_max"]
        assert {one["kme"]: one["connected"] for one in seen["kmes"]}["south"]
    works(daemons)


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01" * 40,
        bytes(300_000),
        b"\x01\x00\x00\x30" + bytes(48),
    ],
    ids=["http", "tls", "zeros", "frame"],
)
def test_junk_ends_its_own_connection_and_its_source_is_named(daemons: Network, junk: bytes) -> None:
    before = status(daemons)["connections"]["failed_from"].get(ELSEWHERE, 0)
    assert all(say(port(daemons), junk) for _ in range(20))
    assert status(daemons)["connections"]["failed_from"][ELSEWHERE] >= before + 20
    failed = audited(daemons, "authentication-failed")
    assert 0 < len(failed) <= SAMPLED
    assert failed[0]["details"]["address"].startswith(ELSEWHERE)
    works(daemons)


def test_who_knows_a_links_id_and_not_its_key_cuts_nothing_and_burns_nothing(daemons: Network) -> None:
    until(lambda: of_kme(daemons, "south")["connected"], "south at the hub")
    before = of_kme(daemons, "south")
    [link] = [
        one
        for one in attackers.links_of(daemons.homes.home("south"))
        if one in attackers.links_of(daemons.homes.home(HUB))
    ]
    for _ in range(30):
        assert claim_without_key(port(daemons), link)
    after = of_kme(daemons, "south")
    assert (after["connected"], after["connections"]) == (True, before["connections"])
    assert metric(daemons, 'skex_hub_link_failures_total{code="proof-invalid"}') >= 30
    works(daemons)


def greedily(daemons: Network, scene: Callable[[GreedyKme], Awaitable[None]]) -> GreedyKme:
    async def play() -> GreedyKme:
        greedy = GreedyKme(daemons.homes.home("greedy"))
        await greedy.start()
        try:
            await asyncio.wait_for(scene(greedy), 60)
        finally:
            await greedy.stop()
        return greedy

    return asyncio.run(play())


def test_a_greedy_kme_is_held_to_its_quota_slowed_down_and_named_while_others_get_keys(
    daemons: Network,
) -> None:
    over = asyncio.Event()

    async def meanwhile() -> None:
        try:
            await asyncio.to_thread(until, lambda: of_kme(daemons, "greedy")["slowed"], "slowing down")
            await asyncio.to_thread(works, daemons)
        finally:
            over.set()

    async def scene(greedy: GreedyKme) -> None:
        await greedy.dial(HUB, port(daemons))
        async with asyncio.TaskGroup() as group:
            group.create_task(meanwhile())
            await greedy.flood(letters_for("south"), over.is_set)

    greedy = greedily(daemons, scene)
    seen = of_kme(daemons, "greedy")
    assert set(greedy.answers) <= {"quota-exceeded", "pad-floor", "busy"}
    assert seen["refused"]["pair-quota"] >= greedy.answers["quota-exceeded"]
    assert seen["refused"]["pair-quota"] > 0
    assert metric(daemons, 'skex_hub_kme_refused_total{kme="greedy"}') == sum(seen["refused"].values())
    assert metric(daemons, 'skex_hub_kme_slowed_total{kme="greedy",what="refusals"}') == seen["slowed"]
    assert not of_kme(daemons, "north")["slowed"]
    refused = [one for one in audited(daemons, "authorisation-failed") if one["actor"] == "kme:greedy"]
    assert 0 < len(refused) <= SAMPLED
    shed = [one for one in audited(daemons, "overload-shed") if one["actor"] == "kme:greedy"]
    assert shed[0]["details"] == {"what": "refusals"}
    assert len(shed) <= SAMPLED


def test_a_kme_that_connects_again_and_again_is_slowed_down_and_the_newest_connection_wins(
    daemons: Network,
) -> None:
    slowed = 'skex_hub_kme_slowed_total{kme="greedy",what="connections"}'

    async def scene(greedy: GreedyKme) -> None:
        while not metric(daemons, slowed):
            shell = await greedy.dial(HUB, port(daemons))
            while not (shell.is_over or HUB in greedy.up):  # noqa: ASYNC110  # the machine sets what is awaited
                await asyncio.sleep(0.005)
            shell.close(attackers.GONE)
        shells = [await greedy.dial(HUB, port(daemons)) for _ in range(12)]
        while not all(one.is_over for one in shells[:-1]):  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.01)
        while HUB not in greedy.up:  # see above
            assert not shells[-1].is_over
            await asyncio.sleep(0.01)
        await asyncio.to_thread(works, daemons)

    greedily(daemons, scene)
    works(daemons)
