"""Real daemons under floods: how fast keys flow with and without each, and what the flooded hub costs.

    PYTHONPATH=. python tools/bench_floods.py [--seconds N] [--output FILE]

Five hubs (threshold 3) and KMEs as processes on loopback, policies as ``skex`` makes them. One measure is
keys a second that an application gets at KME north, with establishment on its path (many more than the
reserve holds are taken). Each flood runs beside that in processes of its own, on the same cores: so what
is measured is the worst case, in which the attacker takes the defender's processor as well.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import http.client
import json
import multiprocessing
import os
import platform
import socket
import ssl
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Final

import skex
from skex.base.errors import SkexError
from skex.base.ids import LinkId
from skex.daemon.dialer import Backoff
from skex.pad.kinds import PadKind
from skex.runtime import clock
from skex.wire.realm import Realm
from tests.support import attackers
from tests.support.network import Homes, Network, until

GREEDY: Final = ("greedy-1", "greedy-2", "greedy-3")
KEYS_PER_REQUEST: Final = 8
_spawn: Final = multiprocessing.get_context("spawn")


# ── floods, each in a process of its own ────────────────────────────────────────────────────────
def _silent(ports: list[int], over: Event) -> None:
    """Open connections as fast as possible, say nothing, hold the last thousand."""
    held: list[socket.socket] = []
    while not over.is_set():
        for port in ports:
            with contextlib.suppress(OSError):
                held.append(attackers.connect(port))
        while len(held) > 1000:
            held.pop(0).close()


def _junk(ports: list[int], over: Event) -> None:
    """Connect, send 64 KiB of zeros, connect again."""
    while not over.is_set():
        for port in ports:
            with contextlib.suppress(OSError), attackers.connect(port) as connection:
                connection.sendall(bytes(65_536))


def _slow(ports: list[int], over: Event) -> None:
    """A thousand prefaces, one byte a second each."""
    held: list[tuple[int, socket.socket]] = []
    while not over.is_set():
        while len(held) < 1000:
            port = ports[len(held) % len(ports)]
            with contextlib.suppress(OSError):
                held.append((0, attackers.connect(port)))
        still = []
        for sent, connection in held:
            with contextlib.suppress(OSError):
                connection.sendall(b"\1\0\0\x30skex\1\1\0\0"[sent % 12 : sent % 12 + 1])
                still.append((sent + 1, connection))
        held = still
        over.wait(1)


def _link_id(ports: list[int], over: Event, link_ids: list[bytes]) -> None:
    """Prefaces that name known links, with proofs of nothing."""
    while not over.is_set():
        for port in ports:
            for link_id in link_ids:
                with contextlib.suppress(OSError):
                    attackers.claim_without_key(port, LinkId(link_id))


def _greedy(home: str, ports: dict[str, int], realm: bytes, over: Event) -> None:
    """An enrolled KME sends shares for south through every hub, as fast as its links take them."""

    async def play() -> None:
        greedy = attackers.GreedyKme(Path(home))
        await greedy.start()
        for hub, port in ports.items():
            await greedy.dial(hub, port)
        make = attackers.shares_for("south", Realm.from_bytes(realm))
        while not over.is_set():
            with contextlib.suppress(SkexError):
                await greedy.flood(make, over.is_set)
        await greedy.stop()

    asyncio.run(play())


def _churning(home: str, ports: dict[str, int], over: Event) -> None:
    """An enrolled KME connects again and again."""

    async def play() -> None:
        greedy = attackers.GreedyKme(Path(home))
        await greedy.start()
        while not over.is_set():
            for hub, port in ports.items():
                with contextlib.suppress(OSError):
                    await greedy.dial(hub, port)
            await asyncio.sleep(0.01)
        await greedy.stop()

    asyncio.run(play())


def _door(port: int, over: Event) -> None:
    """Half TLS handshakes and junk at an ETSI 014 door."""
    held: list[socket.socket] = []
    while not over.is_set():
        with contextlib.suppress(OSError):
            connection = attackers.connect(port)
            connection.sendall(
                b"\x16\x03\x01\x02\x00\x01\x00" if len(held) % 2 else b"GET / HTTP/1.1\r\n\r\n"
            )
            held.append(connection)
        while len(held) > 800:
            held.pop(0).close()


# ── measuring ───────────────────────────────────────────────────────────────────────────────────
class Application:
    """Takes keys at KME north for its peer at south, over one kept-open connection."""

    def __init__(self, network: Network) -> None:
        pki = network.homes.pki.directory
        self._context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
        self._context.load_cert_chain(pki / "app-north.pem", pki / "app-north.key")
        self._port = json.loads((network.homes.home("north") / "ports.json").read_text())["etsi014"]
        self._network = network

    def run(self, seconds: float) -> dict[str, Any]:
        """Keys a second, the times of requests that were answered with keys, and what else was answered."""
        keys, waits, other = 0, list[float](), 0
        ends = clock.now() + seconds
        with contextlib.closing(self._connect()) as connection:
            while clock.now() < ends:
                began = clock.now()
                status, body = self._ask(connection)
                if status == http.HTTPStatus.OK:
                    found = json.loads(body)["keys"]
                    keys += sum(len(base64.b64decode(one["key"])) == 32 for one in found)
                    waits.append(clock.now() - began)
                else:
                    other += 1
        waits.sort()
        return {
            "keys_per_second": round(keys / seconds, 1),
            "request_ms_p50": round(1000 * statistics.median(waits), 1) if waits else None,
            "request_ms_p99": round(1000 * waits[int(0.99 * len(waits))], 1) if waits else None,
            "refused": other,
        }

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=30, context=self._context)

    def _ask(self, connection: http.client.HTTPSConnection) -> tuple[int, bytes]:
        try:
            connection.request("GET", f"/api/v1/keys/app@south/enc_keys?number={KEYS_PER_REQUEST}")
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0, b""


def _resident_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return round(int(text.partition("VmRSS:")[2].split()[0]) / 1024, 1)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _attacks(network: Network) -> float:
    """Connections of hub-1 that ended, however."""
    text: str = network.ask("hub-1", "metrics")[1]
    lines = [line for line in text.splitlines() if line.startswith("skex_hub_link_failures_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


class _Watch:
    """The most memory that a process has while something happens; its processor time, its audit log."""

    def __init__(self, network: Network, name: str) -> None:
        self._network = network
        self._hub = name.startswith("hub")
        self._attacks = _attacks(network) if self._hub else 0.0
        self._pid = network.running[name].pid
        self._audit = network.homes.home(name) / "audit"
        self._log = network.homes.base / f"{name}.log"
        self._over = threading.Event()
        self._most = _resident_mib(self._pid)
        self._cpu, self._at, self._written = _cpu_seconds(self._pid), clock.now(), self._bytes()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _bytes(self) -> int:
        return self._log.stat().st_size + sum(one.stat().st_size for one in self._audit.glob("*"))

    def _look(self) -> None:
        while not self._over.wait(0.2):
            self._most = max(self._most, _resident_mib(self._pid))

    def result(self) -> dict[str, float]:
        self._over.set()
        self._thread.join()
        seconds = clock.now() - self._at
        attacks = _attacks(self._network) - self._attacks if self._hub else 0
        share = (_cpu_seconds(self._pid) - self._cpu) / seconds
        return {
            "resident_mib_most": self._most,
            "processor_share": round(share, 2),
            "log_and_audit_bytes": self._bytes() - self._written,
            **({"connections_ended_per_second": round(attacks / seconds)} if self._hub else {}),
        }


@contextlib.contextmanager
def _flooding(*floods: tuple[Callable[..., None], tuple[Any, ...]]) -> Iterator[None]:
    """Run floods in processes beside the block. Each gets the event of its end behind its own arguments."""
    over = _spawn.Event()
    processes: list[SpawnProcess] = []
    for work, (first, *more) in floods:
        arguments = (
            (first, over, *more) if work is not _greedy and work is not _churning else (first, *more, over)
        )
        process = _spawn.Process(target=work, args=arguments, daemon=True)
        process.start()
        processes.append(process)
    try:
        over.wait(2)  # interpreters start, connections come up
        yield
    finally:
        over.set()
        for process in processes:
            process.join(20)
            if process.is_alive():
                process.kill()


def _measured(network: Network, seconds: float) -> dict[str, Any]:
    hub, kme = _Watch(network, "hub-1"), _Watch(network, "north")
    application = Application(network).run(seconds)
    return {**application, "hub": hub.result(), "kme": kme.result()}


def _floods(network: Network) -> dict[str, list[tuple[Callable[..., None], tuple[Any, ...]]]]:
    by_hub = dict(network.homes.ports)
    ports = list(by_hub.values())
    door = json.loads((network.homes.home("north") / "ports.json").read_text())["etsi014"]
    known = [bytes(one) for one in attackers.links_of(network.homes.home("north"))]
    greedy = [
        (_greedy, (str(network.homes.home(name)), by_hub, network.homes.realm.to_bytes())) for name in GREEDY
    ]
    return {
        "nobody": [],
        "silent connections to every hub": [(_silent, (ports,))],
        "64 KiB of junk to every hub": [(_junk, (ports,))],
        "1000 prefaces at a byte a second": [(_slow, (ports,))],
        "prefaces with known link ids": [(_link_id, (ports, known))],
        "one greedy KME through every hub": list(greedy[:1]),
        "three greedy KMEs through every hub": list(greedy),
        "one KME that reconnects without end": [(_churning, (str(network.homes.home(GREEDY[0])), by_hub))],
        "junk at the ETSI 014 door": [(_door, (door,))],
    }


# ── what cuts cost a table pad ──────────────────────────────────────────────────────────────────
class _Proxy:
    """Carries the bytes of one hub's connections until it is told to cut them."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                try:
                    there = socket.create_connection(("127.0.0.1", self._to))
                except OSError:  # the hub is not there yet
                    here.close()
                    continue
                self._open += [here, there]
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()


def _cuts_of_a_day(held: float, cuts: int) -> float:
    """Connections an hour if one of so many is let stand for ``held`` seconds, the others are cut at once."""
    backoff, now, connections = Backoff(), 0.0, 0
    while now < 86_400:
        for turn in range(cuts):
            lasted = held if turn == 0 else 0.0
            backoff.lasted(lasted)
            now += lasted + backoff.next()
            connections += 1
    return connections * 3600 / now


def _burn(base: Path) -> dict[str, Any]:
    """What one cut costs a table link, idle and with keys flowing; and how many cuts an hour there can be."""
    made = Homes(base, kmes={"north": PadKind.DERIVED, "south": PadKind.TABLE})
    made.enrol()
    network = Network(made)
    proxy = _Proxy(made.ports["hub-1"])
    toml = made.home("south") / "kme.toml"
    text = toml.read_text().replace(
        "[realm]\n", f'[realm]\nhub_addresses = {{ hub-1 = "127.0.0.1:{proxy.port}" }}\n', 1
    )
    toml.write_text(text)
    try:
        network.start(*made.hub_names, *made.kmes)
        until(lambda: network.hubs_up("south") == 5, "every hub at south")
        idle = _cut_and_count(network, proxy, 3, busy=False)
        busy = _cut_and_count(network, proxy, 2, busy=True)
    finally:
        network.close()
    worst = max(
        (_cuts_of_a_day(held, cuts), held, cuts) for held in (0, 15, 30, 60, 120) for cuts in range(1, 12)
    )
    rate = worst[0]
    return {
        "connections_an_hour_at_most": round(rate, 1),
        "worst_pattern": {"one_stands_seconds": worst[1], "cuts": worst[2]},
        "bytes_per_cut": {"idle": idle, "busy": busy},
        "bytes_an_hour_at_most": {
            way: {one: round(rate * count) for one, count in found.items()}
            for way, found in (("idle", idle), ("busy", busy))
        },
    }


def _left(network: Network) -> tuple[dict[str, int], dict[str, int]] | None:
    hubs = network.ask("south", "status")[1]["hubs"]
    hub = next(one for one in hubs if one["hub"] == "hub-1")
    return (hub["pad_bytes_left"], hub["pad_bytes_used"]) if hub["connected"] else None


def _cut_and_count(network: Network, proxy: _Proxy, cuts: int, *, busy: bool) -> dict[str, int]:
    """Pad lost for each cut and direction: granted on a connection and not used on it."""
    lost = {"to_hub": 0, "to_kme": 0}
    until(lambda: _left(network), "the cut link")
    before = _left(network)
    for _ in range(cuts):
        if busy:
            Application(network).run(1.0)
        used = _left(network)
        proxy.cut()
        until(lambda: _left(network) is None, "the cut")
        until(lambda: _left(network), "the link again", 90)
        after = _left(network)
        if before is None or used is None or after is None:
            raise RuntimeError("the link went by itself")
        for way in lost:
            lost[way] += before[0][way] - after[0][way] - used[1][way]
        before = after
    return {way: max(0, total) // cuts for way, total in lost.items()}


def _new(directory: Path) -> Path:
    directory.mkdir()
    return directory


def main() -> int:
    """Measure, print one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    document: dict[str, Any] = {
        "bench": "floods",
        "parameters": {"seconds": arguments.seconds, "keys_per_request": KEYS_PER_REQUEST},
        "machine": {
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "skex": skex.__version__,
            "load_before": round(os.getloadavg()[0], 2),
        },
        "results": {},
    }
    kinds = {"north": PadKind.DERIVED, "south": PadKind.DERIVED, **dict.fromkeys(GREEDY, PadKind.DERIVED)}
    with tempfile.TemporaryDirectory() as passing:
        made = Homes(_new(Path(passing) / "floods"), kmes=kinds)
        made.enrol()
        network = Network(made)
        try:
            network.start(*made.hub_names, "north", "south")
            until(lambda: network.hubs_up("north") == network.hubs_up("south") == 5, "every link")
            network.new_key("north", "south")
            Application(network).run(15.0)  # until what was in the reserve is used up
            for name, floods in _floods(network).items():
                alone = _measured(network, arguments.seconds)
                with _flooding(*floods):
                    found = _measured(network, arguments.seconds)
                found["keys_per_second_just_before"] = alone["keys_per_second"]
                found["ratio"] = round(found["keys_per_second"] / max(0.1, alone["keys_per_second"]), 2)
                document["results"][name] = found
                print(f"{name}: {found}", file=sys.stderr, flush=True)
            document["status_of_the_hub"] = network.ask("hub-1", "status")[1]
        finally:
            network.close()
        document["table_pad"] = _burn(_new(Path(passing) / "burn"))
    text = json.dumps(document, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
