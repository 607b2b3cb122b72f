"""Daemons of this version on homes of the first one, and with peers of a later one."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest

from skex.base.ids import LinkId
from skex.store.database import StoreKind, migrations
from skex.wire import preface as frames
from skex.wire.preface import Hello, HubNonce
from tests.stores.support import downgraded
from tests.support.network import Homes, Network, until


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Three hubs and two KMEs, whose stores the first release made."""
    made = Homes(tmp_path_factory.mktemp("net"), hubs=3)
    made.enrol()
    for name in (*made.hub_names, *made.kmes):
        downgraded(made.home(name) / "store.sqlite")
    daemons = Network(made)
    try:
        daemons.start(*made.hub_names, *made.kmes)
        yield daemons
    finally:
        daemons.close()


def recorded(daemons: Network, name: str, event: str) -> list[dict[str, Any]]:
    directory = daemons.homes.home(name) / "audit"
    lines = [line for path in sorted(directory.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [record for record in map(json.loads, lines) if record["event"] == event]


def warned(daemons: Network, name: str) -> str:
    """The log's line about versions, once there is one."""
    lines = [line for line in daemons.log(name).splitlines() if "no protocol version in common" in line]
    return lines[-1] if lines else ""


def test_homes_of_the_first_release_work_and_their_upgrade_is_recorded_once(daemons: Network) -> None:
    key_id, key = daemons.new_key("north", "south")
    status, answer = daemons.key_by_id("south", "north", key_id)
    assert (status, answer["keys"]) == (200, [{"key_ID": key_id, "key": key}])
    daemons.stop("hub-3")
    daemons.start("hub-3")
    for name in (*daemons.homes.hub_names, *daemons.homes.kmes):
        kind = StoreKind.KME if name in daemons.homes.kmes else StoreKind.HUB
        (record,) = recorded(daemons, name, "store-migrated")
        assert record["details"] == {"before": 1, "after": len(migrations(kind))}


def answer_to(daemons: Network, lowest: int, highest: int, link_id: bytes) -> int:
    """Which version a hub answers an offer with."""
    with socket.create_connection(("127.0.0.1", daemons.homes.ports["hub-1"]), timeout=40) as connection:
        connection.sendall(frames.unproved_bytes(Hello(lowest, highest, LinkId(link_id), bytes(32))))
        received = b""
        while len(received) < frames.frame_bytes(HubNonce.NUMBER):
            piece = connection.recv(4096)
            assert piece, "the hub said nothing"
            received += piece
    return frames.parse_frame(received, HubNonce)[0].version


def test_kme_that_speaks_later_versions_too_is_answered_in_the_first(daemons: Network) -> None:
    assert answer_to(daemons, 1, 3, bytes(8)) == 1


def test_kme_of_a_later_version_only_is_told_which_one_the_hub_speaks_and_the_operator_hears_why(
    daemons: Network,
) -> None:
    assert answer_to(daemons, 2, 3, bytes(8)) == 1
    line = json.loads(until(partial(warned, daemons, "hub-1"), "the hub's warning"))
    assert line["detail"] == "the KME speaks 2 to 3"
    assert "older one needs the upgrade" in line["hint"]
    (record,) = until(partial(recorded, daemons, "hub-1", "version-refused"), "the hub's record")
    assert record["subjects"] == {"link": ["00" * 8]}
    assert (record["actor"], record["verdict"], record["cause"]) == (
        "network",
        "refused",
        "version-unsupported",
    )


@contextmanager
def later_hub(port: int) -> Iterator[None]:
    """A hub that speaks version 2 and nothing else."""
    stopped = threading.Event()
    listener = socket.create_server(("127.0.0.1", port))
    listener.settimeout(0.2)

    def serve() -> None:
        while not stopped.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with closing(connection):
                connection.settimeout(5)
                if len(connection.recv(4096)) == frames.frame_bytes(Hello.NUMBER):
                    connection.sendall(frames.unproved_bytes(HubNonce(2, bytes(32))) + bytes(64))
                    connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        listener.close()


def last_error(daemons: Network, hub: str) -> str | None:
    (one,) = (one for one in daemons.ask("north", "status")[1]["hubs"] if one["hub"] == hub)
    error: str | None = one["last_error"]
    return error


def test_hub_of_a_later_version_only_is_left_with_one_code_and_taken_up_again_when_it_is_back(
    daemons: Network,
) -> None:
    daemons.kill("hub-2")
    with later_hub(daemons.homes.ports["hub-2"]):
        until(lambda: last_error(daemons, "hub-2") == "version-unsupported", "the refusal in the status")
    line = json.loads(until(partial(warned, daemons, "north"), "the KME's warning"))
    assert (line["hub"], line["detail"]) == ("hub-2", "the hub speaks version 2")
    record = until(partial(recorded, daemons, "north", "version-refused"), "the KME's record")[0]
    assert (record["actor"], record["cause"]) == ("hub:hub-2", "version-unsupported")
    daemons.start("hub-2")
    until(lambda: daemons.hubs_up("north") == 3, "every hub at north")
    assert last_error(daemons, "hub-2") is None
