"""Real homes on a disk, and real daemons on loopback that run on them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from skex.base.ids import HubName, KmeName, RealmName, SaeId
from skex.base.secret import Secret
from skex.daemon import config, homes
from skex.daemon.enrolment import open_hub, open_kme
from skex.daemon.options import Endpoint
from skex.enrol.ca import Subject
from skex.enrol.creating import KitOrder
from skex.enrol.realm import HubDescription, new_realm
from skex.pad.kinds import PadKind
from skex.policy.starters import default_hub_policy, default_kme_policy
from skex.runtime import clock
from skex.wire.realm import HubAttributes, Realm
from tests.support.door import Pki

THRESHOLD = 3
TABLE_UNITS = 1024
SECONDS = 40.0
"""How long anything may take that comes by itself, on a machine that is busy with other tests."""

_PORTS = range(10_000, 32_000)
"""Below those that the system hands out by itself, to whoever listens or connects meanwhile."""
_order: Iterator[int] = iter([*_PORTS[os.getpid() * 1009 % len(_PORTS) :], *_PORTS])


def free_port() -> int:
    """A port that nobody listens on. Each is given once in a process; processes begin at different ones."""
    for port in _order:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


@dataclass
class Homes:
    """Hubs and KMEs, enrolled with each other unless told otherwise. KMEs: names and kinds of pad."""

    base: Path
    hubs: int = 5
    kmes: Mapping[str, PadKind] = field(
        default_factory=lambda: {"north": PadKind.DERIVED, "south": PadKind.TABLE}
    )
    door: bool = True
    table_units: int = TABLE_UNITS
    proxied: bool = False
    """KMEs dial ``proxies`` instead of the hubs."""

    def __post_init__(self) -> None:
        self.hub_names = [f"hub-{number}" for number in range(1, self.hubs + 1)]
        self.ports = {name: free_port() for name in self.hub_names}
        self.proxies = {name: free_port() for name in self.hub_names}
        described = [
            HubDescription(
                HubName(name), f"127.0.0.1:{port}", HubAttributes(f"op-{name}", "x", "y", "z", "skex")
            )
            for name, port in self.ports.items()
        ]
        self.realm: Realm = new_realm(RealmName("test"), THRESHOLD, described, issued=clock.unix_seconds())
        self.pki = Pki(self.base / "pki")
        for name in self.hub_names:
            self._make_hub(name)
        for name in self.kmes:
            self._make_kme(name)

    def home(self, name: str) -> Path:
        return self.base / name

    def _make_hub(self, name: str) -> None:
        listen = Endpoint("127.0.0.1", self.ports[name])
        stated = {"listen.address": listen, "run.allow_root": True}
        homes.init_hub(self.home(name), HubName(name), self.realm.to_bytes(), stated)
        (self.home(name) / "policy.toml").write_text(default_hub_policy([KmeName(kme) for kme in self.kmes]))

    def _make_kme(self, name: str) -> None:
        home = self.home(name)
        stated: dict[str, Any] = {
            "etsi014.enabled": self.door,
            "etsi014.listen": Endpoint("127.0.0.1", 0),
            "run.allow_root": True,
        }
        if self.proxied:
            proxies = {HubName(hub): Endpoint("127.0.0.1", port) for hub, port in self.proxies.items()}
            stated["realm.hub_addresses"] = proxies
        homes.init_kme(home, KmeName(name), stated)
        others = [KmeName(other) for other in self.kmes if other != name]
        policy = default_kme_policy(
            others, [SaeId(f"app@{name}")], [SaeId(f"app@{other}") for other in others]
        )
        (home / "policy.toml").write_text(policy)
        (home / "tls").mkdir()
        issued = self.pki.issue(Subject.KME, name, stem=f"kme-{name}")
        (home / "tls/server.pem").write_bytes(issued.certificate)
        (home / "tls/server.key").write_bytes((self.pki.directory / f"kme-{name}.key").read_bytes())
        (home / "tls/server.key").chmod(0o600)
        (home / "tls/ca.pem").write_bytes(self.pki.ca.read_bytes())
        self.pki.issue(Subject.SAE, f"app@{name}", stem=f"app-{name}")

    def enrol(
        self, hubs: Sequence[str] | None = None, kmes: Sequence[str] | None = None, *, replace: bool = False
    ) -> None:
        """Enrol every KME, or ``kmes``, with ``hubs``, or with all."""
        kits: list[tuple[str, bytes]] = []
        for hub in self.hub_names if hubs is None else hubs:
            with open_hub(config.load_hub(self.home(hub))) as opened:
                for kme in self.kmes if kmes is None else kmes:
                    kind = self.kmes[kme]
                    units = self.table_units if kind is PadKind.TABLE else 0
                    order = KitOrder(
                        self.realm,
                        HubName(hub),
                        KmeName(kme),
                        kind,
                        clock.unix_seconds(),
                        units_to_hub=units,
                        units_to_kme=units,
                    )
                    kit = io.BytesIO()
                    opened.create_kit(order, kit, lambda: None, replace=replace, progress=lambda _: None)
                    kits.append((kme, kit.getvalue()))
        for kme in self.kmes:
            with open_kme(config.load_kme(self.home(kme))) as home:
                for owner, data in kits:
                    if owner == kme:
                        home.import_kit(
                            io.BytesIO(data), lambda: Secret(b""), replace=replace, progress=lambda _: None
                        )


def until(ready: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """What ``ready`` returns once it is true."""
    deadline = clock.now() + seconds
    while clock.now() < deadline:
        with contextlib.suppress(OSError, ValueError, LookupError):
            if found := ready():
                return found
        threading.Event().wait(0.05)
    raise AssertionError(f"{what} did not come within {seconds:g} s")


class Network:
    """Daemons as processes, by the names of their homes."""

    def __init__(self, made: Homes) -> None:
        self.homes = made
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        """Start daemons and wait until each says where it listens."""
        self.launch(*names)
        for name in names:
            until(partial(self.is_up, name), name)

    def launch(self, *names: str) -> None:
        """Start daemons."""
        for name in names:
            kind = "hub" if name in self.homes.hub_names else "kme"
            (self.homes.home(name) / "ports.json").unlink(missing_ok=True)
            with (self.homes.base / f"{name}.log").open("ab") as log:
                argv = [sys.executable, "-m", "skex", "--home", str(self.homes.home(name)), kind, "run"]
                self.running[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def is_up(self, name: str) -> bool:
        """Whether a daemon says where it listens."""
        assert self.running[name].poll() is None, self.log(name)[-2000:]
        return (self.homes.home(name) / "ports.json").exists()

    def log(self, name: str) -> str:
        return (self.homes.base / f"{name}.log").read_text()

    def kill(self, *names: str) -> None:
        """As a crash would."""
        for name in names:
            process = self.running.pop(name)
            process.kill()
            process.wait()

    def stop(self, *names: str) -> dict[str, int]:
        """Ask all of them to end; their exit codes."""
        processes = {name: self.running.pop(name) for name in names}
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        return {name: process.wait(20) for name, process in processes.items()}

    def close(self) -> None:
        self.kill(*tuple(self.running))

    def ask(self, name: str, command: str, *more: str) -> tuple[int, Any]:
        """The status and answer of a daemon's admin socket."""
        socket_path = self.homes.home(name) / "admin.sock"
        argv = ["curl", "-sS", "--max-time", "20", "--unix-socket", str(socket_path)]
        argv += ["-w", "\n%{http_code}", f"http://daemon/{command}", *more]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        body, _, status = done.stdout.rpartition("\n")
        try:
            return int(status), json.loads(body)
        except ValueError:
            return int(status or 0), body

    def keys(self, kme: str, path: str, *more: str) -> tuple[int, Any]:
        """The status and answer of a KME's ETSI 014 door to its own SAE; 0 where nobody answers."""
        try:
            port = json.loads((self.homes.home(kme) / "ports.json").read_text())["etsi014"]
        except FileNotFoundError:  # it ends, or has ended
            return 0, None
        pki = self.homes.pki.directory
        argv = ["curl", "-sS", "--max-time", "20", "--cacert", str(pki / "ca.pem"), "-w", "\n%{http_code}"]
        argv += ["--cert", str(pki / f"app-{kme}.pem"), "--key", str(pki / f"app-{kme}.key")]
        argv += [f"https://127.0.0.1:{port}/api/v1/keys/{path}", *more]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        body, _, status = done.stdout.rpartition("\n")
        return int(status or 0), json.loads(body) if body else None

    def new_key(self, master: str, slave: str) -> tuple[str, str]:
        """Take one new key at ``master``; its id and bytes."""

        def take() -> dict[str, str] | None:
            status, answer = self.keys(master, f"app@{slave}/enc_keys")
            return answer["keys"][0] if status == 200 else None

        key = until(take, f"a key of {master} for {slave}")
        return key["key_ID"], key["key"]

    def key_by_id(self, slave: str, master: str, key_id: str) -> tuple[int, Any]:
        """Take a key by its id at ``slave``."""
        return self.keys(slave, f"app@{master}/dec_keys?key_ID={key_id}")

    def hubs_up(self, kme: str) -> int:
        """How many hubs a KME is connected with."""
        return sum(hub["connected"] for hub in self.ask(kme, "status")[1]["hubs"])


@contextlib.contextmanager
def network(base: Path, **options: Any) -> Iterator[Network]:
    """Five hubs and two KMEs, enrolled, none running yet; all of them ended behind the block."""
    made = Homes(base, **options)
    made.enrol()
    daemons = Network(made)
    try:
        yield daemons
    finally:
        daemons.close()
