"""A real ETSI 014 door on loopback in a thread of its own, and the certificates to knock with."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from skex.delivery.etsi014.context import server_context
from skex.delivery.etsi014.extensions import SUPPORTED, Extension
from skex.delivery.etsi014.server import Access, Door, DoorSettings
from skex.enrol.ca import Issued, Subject, create_ca, issue, write_private
from skex.keys.api import KeyService
from skex.runtime import clock
from skex.runtime.entropy import random_bytes


class Pki:
    """One authority and what it issued, as files."""

    def __init__(self, directory: Path, name: str = "test CA") -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.authority = create_ca(name, 30, now=clock.wall(), entropy=random_bytes)
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(self.authority.certificate)

    def issue(
        self, subject: Subject, name: str, *, at: timedelta = timedelta(), days: int = 1, stem: str = ""
    ) -> Issued:
        """Write ``STEM.pem`` and ``STEM.key`` for a certificate issued ``at`` from now."""
        hosts = ["localhost", "127.0.0.1"] if subject is Subject.KME else []
        issued = issue(
            self.authority, subject, name, hosts, days, now=clock.wall() + at, entropy=random_bytes
        )
        stem = stem or name
        (self.directory / f"{stem}.pem").write_bytes(issued.certificate)
        write_private(self.directory / f"{stem}.key", issued.key)
        return issued

    def files(self, stem: str) -> tuple[Path, Path]:
        return self.directory / f"{stem}.pem", self.directory / f"{stem}.key"


@dataclass(frozen=True, slots=True)
class Reply:
    """What curl saw."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    version: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def curl(
    port: int,
    path: str,
    *,
    client: tuple[Path, Path] | None,
    ca: Path,
    arguments: Sequence[str] = (),
    stdin: bytes = b"",
) -> Reply:
    """One request by the system's curl; status 0 when there was no answer."""
    command = ["curl", "-sS", "-i", "--max-time", "20", "--path-as-is", "--cacert", str(ca)]
    if client is not None:
        command += ["--cert", str(client[0]), "--key", str(client[1])]
    command += [*arguments, f"https://localhost:{port}{path}"]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=30)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, body = body.partition(b"\r\n\r\n")
    if not head:
        return Reply(0, {}, done.stderr)
    first, *fields = head.decode("latin-1").split("\r\n")
    pairs = (one.partition(": ") for one in fields)
    return Reply(int(first.split()[1]), {name.lower(): value for name, _, value in pairs}, body, first[:8])


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    for _ in range(200):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen")


class Recorder:
    """DoorEvents into lists."""

    def __init__(self) -> None:
        self.accesses: list[Access] = []
        self.handshakes: list[str] = []
        self.failures: list[BaseException] = []

    def request_answered(self, access: Access) -> None:
        self.accesses.append(access)

    def handshake_failed(self, address: str, reason: str) -> None:
        self.handshakes.append(f"{address} {reason}")

    def request_failed(self, error: BaseException) -> None:
        self.failures.append(error)


@dataclass(slots=True)
class RunningDoor:
    """A door that serves; ``now`` may be moved to make certificates expire."""

    door: Door
    port: int
    events: Recorder
    skew: timedelta
    pki: Pki
    stop: Callable[[], None]
    wait: Callable[[], None]

    def refusal(self) -> str:
        """The last handshake that failed: the client may hear of it before the server's log does."""
        until(lambda: bool(self.events.handshakes))
        return self.events.handshakes.pop()

    def knock(self, sae: str, path: str, *arguments: str, stdin: bytes = b"") -> Reply:
        """curl as ``sae``."""
        return curl(
            self.port, path, client=self.pki.files(sae), ca=self.pki.ca, arguments=arguments, stdin=stdin
        )

    def post(self, sae: str, path: str, body: object) -> Reply:
        """curl as ``sae`` with a JSON body, or with bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.knock(
            sae, path, "--data-binary", "@-", "-H", "Content-Type: application/json", stdin=data
        )


@contextmanager
def running_door(
    service: KeyService,
    pki: Pki,
    kme: str,
    *,
    settings: DoorSettings | None = None,
    supported: Mapping[str, Extension] = SUPPORTED,
    revoked: Path | None = None,
    host: str = "127.0.0.1",
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Iterator[RunningDoor]:
    """Serve in a thread; the door is stopped, and its end waited for, when the block ends."""
    certificate, key = pki.files(kme)
    if not certificate.exists():
        pki.issue(Subject.KME, kme)
    events = Recorder()
    context = server_context(certificate, key, pki.ca, revoked)
    ready = threading.Event()
    running: list[RunningDoor] = []

    def wall() -> datetime:
        return clock.wall() + running[0].skew

    def wait() -> None:
        thread.join(20)
        assert not thread.is_alive()

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve())

    async def serve() -> None:
        door = Door(service, context, events, wall, settings=settings, supported=supported)
        port = door.bind(host, 0)
        loop = asyncio.get_running_loop()
        serving = loop.create_task(door.serve())

        def stop() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(serving.cancel)

        running.append(RunningDoor(door, port, events, timedelta(), pki, stop, wait))
        ready.set()
        await asyncio.wait([serving])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield running[0]
    finally:
        running[0].stop()
        wait()
