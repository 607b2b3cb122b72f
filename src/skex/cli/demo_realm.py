"""A whole realm on one machine: hubs and KMEs, each a process with a home and a store of its own.

Everything is done with the product's own commands, as operators would on separate machines; only the
ports differ: the system chooses them. It must not know what is shown with the realm.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from skex.base.errors import DeliveryFault
from skex.base.ids import KmeName, SaeId
from skex.cli.admin import ask
from skex.cli.demo_processes import Daemons, checked, failed, run, until
from skex.daemon.starting import PORTS_FILE
from skex.policy.starters import default_hub_policy, default_kme_policy

REALM: Final = "demo"
HUBS: Final = ("hub-1", "hub-2", "hub-3", "hub-4", "hub-5")
THRESHOLD: Final = 3
NORTH: Final = KmeName("north")
SOUTH: Final = KmeName("south")
PEERS: Final = {NORTH: SOUTH, SOUTH: NORTH}
SAES: Final = {NORTH: SaeId("web@north"), SOUTH: SaeId("db@south")}
RESERVE_KEYS: Final = 256
"""How many keys are kept ready for the other KME."""

_LOOPBACK: Final = "127.0.0.1"
_START_SECONDS: Final = 30
_SETTLE_SECONDS: Final = 30
"""Longer than the wait between two tries to reach a hub that was gone for some seconds."""
_TABLE: Final = ("--table", "2MiB")
"""Table pads that are plenty for a minute."""
SKEX: Final = (sys.executable, "-m", "skex")


@dataclass(frozen=True, slots=True)
class Layout:
    """What a realm is made of. Every realm has the hubs ``HUBS`` and the threshold ``THRESHOLD``.

    ``tables`` names the hubs with which a KME has table pads; with the others they are derived.
    ``reserves`` are the KMEs for which a KME keeps keys ready. ``operators`` are those of the hubs, in
    their order; without any, nobody states one.
    """

    saes: Mapping[KmeName, SaeId]
    tables: Mapping[KmeName, Sequence[str]]
    reserves: Mapping[KmeName, Sequence[KmeName]]
    kme_policies: Mapping[KmeName, str]
    hub_policy: str
    operators: Sequence[str] = field(default=())

    @property
    def kmes(self) -> tuple[KmeName, ...]:
        """Every KME."""
        return tuple(self.saes)

    @property
    def names(self) -> tuple[str, ...]:
        """Every daemon."""
        return (*HUBS, *self.saes)

    def description(self) -> str:
        """The hubs as ``skex realm init --hubs`` reads them."""
        # A realm file names addresses; the KMEs are told the real ones, which nobody knows yet.
        text = [f'[[hub]]\nname = "{hub}"\naddress = "{_LOOPBACK}:7300"\n' for hub in HUBS]
        if self.operators:
            stated = zip(text, HUBS, self.operators, strict=True)
            text = [
                f'{one}operator = "{operator}"\nadministrator = "admin of {hub}"\n'
                for one, hub, operator in stated
            ]
        return "\n".join(text)


def plain_layout() -> Layout:
    """Two KMEs that may do everything with each other: derived pads for north, tables for south."""
    return Layout(
        saes=SAES,
        tables={NORTH: (), SOUTH: HUBS},
        reserves={kme: (peer,) for kme, peer in PEERS.items()},
        kme_policies={
            kme: default_kme_policy([peer], [SAES[kme]], [SAES[peer]]) for kme, peer in PEERS.items()
        },
        hub_policy=default_hub_policy(tuple(PEERS)),
    )


@dataclass(frozen=True, slots=True)
class Status:
    """What a KME says of itself. ``hubs`` are those connected, ``blamed`` those caught with a wrong share.

    ``pad_used`` are the bytes that this connection's records cost, by hub.
    """

    ready: bool
    filling: bool
    hubs: frozenset[str]
    blamed: frozenset[str]
    reserve: int
    pad: str
    pad_used: Mapping[str, int]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Status:
        """Read the answer of ``status``."""
        up = [one for one in answer["hubs"] if one["connected"]]
        return cls(
            ready=answer["ready"],
            filling=answer["filling"],
            hubs=frozenset(one["hub"] for one in up),
            blamed=frozenset(one["hub"] for one in answer["hubs"] if one["blamed"]),
            reserve=sum(one["keys"] for one in answer["reserves"]),
            pad=answer["hubs"][0]["pad"],
            pad_used={one["hub"]: sum(one["pad_bytes_used"].values()) for one in up},
        )


class DemoRealm:
    """The realm in ``root``. Its daemons are ended by whoever made ``daemons``."""

    def __init__(
        self, root: Path, daemons: Daemons, liar: Sequence[str] = (), layout: Layout | None = None
    ) -> None:
        """``liar`` is the command that runs a hub's home as a hub that lies."""
        self.layout = plain_layout() if layout is None else layout
        self._root = root
        self._daemons = daemons
        self._liar = tuple(liar)
        self._slots = asyncio.Semaphore(2 * (os.cpu_count() or 1))
        self.ports: dict[str, int] = {}
        """Where each daemon listens, once it ran."""

    def home(self, name: str) -> Path:
        """The home of a hub or a KME."""
        return self._root / name

    @property
    def has_liar(self) -> bool:
        """Whether a hub can be made to lie."""
        return bool(self._liar)

    # ── enrolment ───────────────────────────────────────────────────────────────────────────────
    async def enrol(self) -> None:
        """Make the realm file, the hubs' homes, and at each hub a kit for each KME."""
        (self._root / "kits").mkdir(mode=0o700)
        described = self._root / "hubs.toml"
        described.write_text(self.layout.description())
        hubs = ("--hubs", described)
        await self._skex("realm", "init", REALM, "-k", str(THRESHOLD), *hubs, "-o", self.realm_file)
        await _all(self._make_hub(hub) for hub in HUBS)

    async def _make_hub(self, hub: str) -> None:
        listen = ("--listen", f"{_LOOPBACK}:0")
        await self._skex("hub", "init", hub, "--realm", self.realm_file, *listen, home=hub)
        self._configure(hub, "hub.toml")
        (self.home(hub) / "policy.toml").write_text(self.layout.hub_policy)
        for kme in self.layout.kmes:
            pads = _TABLE if hub in self.layout.tables[kme] else ()
            # In clear, because the kits stay in a private directory for some seconds.
            await self._skex("kit", "create", kme, "-o", self._kit(hub, kme), *pads, "--in-clear", home=hub)

    async def _make_kme(self, kme: KmeName) -> None:
        home = self.home(kme)
        hubs = [part for hub in HUBS for part in ("--hub-address", f"{hub}={_LOOPBACK}:{self.ports[hub]}")]
        await self._skex("kme", "init", kme, "--etsi014", f"{_LOOPBACK}:0", *hubs, home=kme)
        self._configure(kme, "kme.toml")
        with (home / "kme.toml").open("a") as file:
            for peer in self.layout.reserves[kme]:
                file.write(
                    f'\n[[reserve]]\npeer = "{peer}"\nlow = {RESERVE_KEYS // 2}\nhigh = {RESERVE_KEYS}\n'
                )
        (home / "policy.toml").write_text(self.layout.kme_policies[kme])
        kits = [self._kit(hub, kme) for hub in HUBS]
        await self._skex("kit", "import", *kits, home=kme)
        for kit in kits:
            kit.unlink()

    def _configure(self, name: str, file: str) -> None:
        """Daemons refuse root unless they are told; where the demonstration is root, they must be too."""
        if os.geteuid() == 0:
            _replace_line(self.home(name) / file, "#allow_root = false", "allow_root = true")

    # ── certificates ────────────────────────────────────────────────────────────────────────────
    @property
    def authority(self) -> Path:
        """The certificate of the small authority that doors and SAEs trust."""
        return self._root / "ca" / "ca.pem"

    def credentials(self, kme: KmeName) -> tuple[Path, Path]:
        """The certificate and the key of the SAE at a KME."""
        directory = self._root / "saes"
        sae = self.layout.saes[kme]
        return directory / f"{sae}.pem", directory / f"{sae}.key"

    async def _certify(self) -> None:
        await self._skex("ca", "init", "--directory", self.authority.parent)
        await _all(self._certify_site(kme) for kme in self.layout.kmes)

    async def _certify_site(self, kme: KmeName) -> None:
        """A certificate for the KME's door, put where it looks for it, and one for its SAE."""
        issued = ("--ca", self.authority.parent, "-o")
        tls = self.home(kme) / "tls"
        await self._skex("ca", "issue", "kme", kme, "--host", _LOOPBACK, *issued, tls)
        (tls / f"{kme}.pem").rename(tls / "server.pem")
        (tls / f"{kme}.key").rename(tls / "server.key")
        shutil.copyfile(self.authority, tls / "ca.pem")
        await self._skex("ca", "issue", "sae", self.layout.saes[kme], *issued, self._root / "saes")

    # ── running ─────────────────────────────────────────────────────────────────────────────────
    async def start(self) -> None:
        """Run the hubs; make the KMEs, which import their kits; run them too."""
        await _all(self.start_hub(hub) for hub in HUBS)
        await _all(self._make_kme(kme) for kme in self.layout.kmes)
        await self._certify()
        await _all(self.start_kme(kme) for kme in self.layout.kmes)

    async def start_hub(self, hub: str) -> None:
        """Run a hub until it listens; from its second start on at the port that KMEs know."""
        await self._start(hub, (*SKEX, "hub", "run", "--home", str(self.home(hub))), "hub")

    async def _start_liar(self, hub: str) -> None:
        """Run a hub's home as a hub that lies."""
        await self._start(hub, (*self._liar, "--home", str(self.home(hub))), "hub")

    async def raise_hubs(self, liar: str = "") -> None:
        """Run every hub that does not run, and ``liar`` as a liar."""
        if liar and self._daemons.is_running(liar):
            await self._daemons.stop(liar)
        down = [hub for hub in HUBS if not self._daemons.is_running(hub)]
        await _all(self._start_liar(hub) if hub == liar else self.start_hub(hub) for hub in down)

    async def start_kme(self, kme: KmeName) -> None:
        """Run a KME until its door is open."""
        await self._start(kme, (*SKEX, "kme", "run", "--home", str(self.home(kme))), "etsi014")

    async def _start(self, name: str, argv: Sequence[str], door: str) -> None:
        ports = self.home(name) / PORTS_FILE
        ports.unlink(missing_ok=True)
        await self._daemons.start(name, argv)

        async def listens() -> bool:
            self._daemons.check(name)
            return ports.exists()

        await until(listens, f"{name}'s port", seconds=_START_SECONDS)
        port = json.loads(ports.read_text())[door]
        if name in HUBS and name not in self.ports:
            _replace_line(
                self.home(name) / "hub.toml",
                f'address = "{_LOOPBACK}:0"',
                f'address = "{_LOOPBACK}:{port}"',
            )
        self.ports[name] = port

    async def kill(self, *names: str) -> None:
        """End daemons as a crash would."""
        await _all(self._daemons.kill(name) for name in names)

    async def stop(self) -> None:
        """Ask every daemon to end."""
        await self._daemons.stop_all()

    # ── asking ──────────────────────────────────────────────────────────────────────────────────
    async def status(self, kme: KmeName) -> Status:
        """How a KME stands. Raises ``DeliveryFault`` (daemon-unreachable)."""
        return Status.of(await asyncio.to_thread(ask, self.home(kme), "status"))

    async def fill(self, *, filling: bool) -> None:
        """Switch the filling of every KME's reserves on or off."""
        await _all(self._reserve(kme, {"filling": filling}) for kme in self.layout.kmes)

    async def fill_north(self) -> None:
        """Switch the filling of the north's reserve on, and leave the south's as it is."""
        await self._reserve(NORTH, {"filling": True})

    async def drain(self) -> None:
        """Empty both reserves and keep them empty: the next key has to be established."""
        await self.fill(filling=False)
        await _all(self._reserve(kme, {"drain": peer}) for kme, peer in PEERS.items())
        for kme in PEERS:
            status = await self.status(kme)
            if status.reserve or status.filling:
                raise failed(f"{kme} still has {status.reserve} keys in reserve")

    async def settle(self, hubs: int = len(HUBS)) -> None:
        """Return once every KME may deliver and is connected with so many hubs."""
        await self.wait(lambda one: one.ready and len(one.hubs) == hubs, f"links with {hubs} hubs")

    async def wait(self, wanted: Callable[[Status], bool], what: str, kmes: Iterable[KmeName] = ()) -> None:
        """Return once every KME named stands as wanted; all, if none is. Raises ``Refused`` (demo-failed)."""
        asked = tuple(kmes) or self.layout.kmes

        async def reached() -> bool:
            for kme in asked:
                self._daemons.check(kme)
                try:
                    if not wanted(await self.status(kme)):
                        return False
                except DeliveryFault:
                    return False
            return True

        await until(reached, what, seconds=_SETTLE_SECONDS)

    async def _reserve(self, kme: KmeName, arguments: Mapping[str, Any]) -> None:
        await asyncio.to_thread(ask, self.home(kme), "reserve", arguments)

    async def examine(self) -> tuple[str, ...]:
        """What ``skex doctor`` finds wrong in any home while everything runs; warnings do not count."""
        found: list[str] = []

        async def one(name: str) -> None:
            async with self._slots:
                output = await run((*SKEX, "doctor", "--json", "--home", str(self.home(name))))
            checks = json.loads(output.stdout)["checks"]
            found.extend(f"{name}: {check['sentence']}" for check in checks if check["level"] == "fail")

        await _all(one(name) for name in self.layout.names)
        return tuple(sorted(found))

    # ── helpers ─────────────────────────────────────────────────────────────────────────────────
    @property
    def realm_file(self) -> Path:
        """The realm file."""
        return self._root / "realm.cbor"

    def _kit(self, hub: str, kme: KmeName) -> Path:
        return self._root / "kits" / f"{hub}-{kme}.kit"

    async def _skex(self, *arguments: str | Path, home: str | None = None) -> None:
        """Run one of the product's own commands, as its operator would."""
        where = () if home is None else ("--home", str(self.home(home)))
        async with self._slots:
            await checked((*SKEX, *map(str, arguments), "--json", *where))


@asynccontextmanager
async def running_realm(
    root: Path, liar: Sequence[str] = (), layout: Layout | None = None
) -> AsyncIterator[DemoRealm]:
    """A realm whose processes are gone at the end, whatever ended it."""
    logs = root / "logs"
    logs.mkdir(parents=True)
    daemons = Daemons(logs)
    try:
        yield DemoRealm(root, daemons, liar, layout)
    finally:
        await daemons.stop_all()


def _replace_line(path: Path, old: str, new: str) -> None:
    """Change one whole line of a file. Raises ``Refused`` (demo-failed) if it does not stand there once."""
    changed, count = re.subn(f"^{re.escape(old)}$", lambda _: new, path.read_text(), flags=re.MULTILINE)
    if count != 1:
        raise failed(f"{path.name} has {count} lines '{old}'")
    path.write_text(changed)


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do things beside each other; the first failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as errors:
        raise _first(errors) from errors


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
