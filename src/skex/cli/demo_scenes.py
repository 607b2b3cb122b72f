"""What the demonstration shows: a key delivered at both ends and used, what it cost, and the fault scenes.

A fault scene proves establishment: before it the reserves are drained and their filling is off, so
whatever key comes was made over the hubs that were left. It must not know how results are shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from skex.audit import events
from skex.audit.chain import Record
from skex.base import limits
from skex.base.errors import SkexError
from skex.base.ids import KmeName
from skex.cli import demo_tls
from skex.cli.demo_delivery import Refusal, Sae, TakenKey
from skex.cli.demo_processes import failed
from skex.cli.demo_realm import HUBS, NORTH, PEERS, RESERVE_KEYS, SAES, SOUTH, DemoRealm
from skex.cli.demo_tls import Handshake
from skex.runtime import auditfile, clock

MESSAGE: Final = "hello from web@north: nobody agreed on this key with public-key cryptography"
DEADLINE_SECONDS: Final = limits.ESTABLISH_SECONDS + 2
"""A refusal that takes longer is silence: what the protocol allows, and the way to it and back."""
_AUDIT: Final = "audit"
_UNAVAILABLE: Final = 503
_NO_LIAR: Final = "the product has no hub that lies; --liar names a command that runs one (make demo does)"


class Outcome(Enum):
    """How a scene ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene and what was seen in it."""

    name: str
    title: str
    outcome: Outcome
    seconds: float
    seen: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a key rests on, as its KME recorded it when it was established."""

    claim_class: str
    threshold: int
    margin: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """The first key: taken at both ends, and the connection that it secured."""

    key_id: str
    key_bits: int
    keys_match: bool
    command: str
    claim: Claim
    handshake: Handshake


@dataclass(frozen=True, slots=True)
class Cost:
    """What filling a reserve with ``keys`` keys cost: pad bytes a key, for each hub of a KME."""

    kme: KmeName
    pad: str
    keys: int
    bytes_per_key: Mapping[str, float]


class Stage:
    """A realm that runs, and the two applications at its ends."""

    def __init__(self, realm: DemoRealm, root: Path) -> None:
        self._realm = realm
        self._root = root

    def sae(self, kme: KmeName) -> Sae:
        """The application at a KME; its door may move when the KME starts anew."""
        realm = self._realm
        return Sae(realm.layout.saes[kme], realm.ports[kme], realm.authority, *realm.credentials(kme))

    # ── the key ─────────────────────────────────────────────────────────────────────────────────
    async def deliver(self) -> Delivery:
        """Take a key at both ends, and let it secure a TLS connection between two openssl processes."""
        master, slave = await self.take_both()
        pems = {}
        for kme, taken in ((NORTH, master), (SOUTH, slave)):
            pems[kme] = self._root / "saes" / f"{SAES[kme]}.session"
            demo_tls.write_session(pems[kme], demo_tls.session_pem(taken.key, clock.unix_seconds()))
        handshake = await demo_tls.connect(master.key_id, pems[SOUTH], pems[NORTH], MESSAGE)
        return Delivery(
            key_id=master.key_id,
            key_bits=8 * len(master.key),
            keys_match=True,
            command=" ".join(self.sae(NORTH).curl(f"{SAES[SOUTH]}/enc_keys")),
            claim=self._claim(),
            handshake=handshake,
        )

    async def take_both(self, here: KmeName = NORTH, there: KmeName = SOUTH) -> tuple[TakenKey, TakenKey]:
        """The same key from both doors. Raises ``Refused`` (demo-failed) if it is not the same."""
        asking, taking = self.sae(here), self.sae(there)
        master = _key(await asking.take_new(taking.name), asking.name)
        slave = _key(await taking.take_by_id(asking.name, master.key_id), taking.name)
        if master != slave:
            raise failed("the two ends were given different keys")
        return master, slave

    def _claim(self) -> Claim:
        """The claim of the newest batch in the north's audit log."""
        found: Claim | None = None
        for segment in auditfile.segments(self._realm.home(NORTH) / _AUDIT):
            for line, _ in auditfile.lines_of(segment):
                record = Record.from_line(line)
                if record is not None and record.event == events.BATCH_CONFIRMED.name:
                    found = Claim(
                        str(record.details["claim"]).replace("_", "-"),
                        int(str(record.details["threshold"])),
                        int(str(record.details["margin"])),
                    )
        if found is None:
            raise failed("the audit log has no batch")
        return found

    # ── what it costs ───────────────────────────────────────────────────────────────────────────
    async def measure(self) -> tuple[Cost, ...]:
        """Fill the north's reserve from empty, and count what every link spent on it."""
        realm = self._realm
        await realm.drain()
        before = {kme: await realm.status(kme) for kme in PEERS}
        await realm.fill_north()
        await realm.wait(lambda one: one.reserve >= RESERVE_KEYS, "a full reserve", [NORTH])
        await realm.fill(filling=False)
        await asyncio.sleep(2 * limits.ANSWER_AGAIN_SECONDS)  # the last answers are on their way
        after = {kme: await realm.status(kme) for kme in PEERS}
        return tuple(
            Cost(
                kme=kme,
                pad=after[kme].pad,
                keys=RESERVE_KEYS,
                bytes_per_key={
                    hub: (after[kme].pad_used[hub] - before[kme].pad_used[hub]) / RESERVE_KEYS for hub in HUBS
                },
            )
            for kme in PEERS
        )

    # ── fault scenes ────────────────────────────────────────────────────────────────────────────
    async def two_hubs_killed(self) -> str:
        """Keys flow over the three hubs that are left."""
        await self._prepare()
        await self._realm.kill("hub-4", "hub-5")
        master, _ = await self.take_both()
        return f"hub-4 and hub-5 ended with SIGKILL; key {master.key_id} was made over the other three"

    async def one_hub_lies(self) -> str:
        """A hub that alters what it relays changes nothing, and is named."""
        realm = self._realm
        await self._prepare(liar="hub-5")
        master, _ = await self.take_both()
        await realm.wait(lambda one: bool(one.blamed), "the liar's name", [SOUTH])
        blamed = (await realm.status(SOUTH)).blamed
        if blamed != {"hub-5"}:
            raise failed(f"south blames {', '.join(sorted(blamed))}, and the liar is hub-5")
        return f"hub-5 altered every share; key {master.key_id} is the same at both ends, south names hub-5"

    async def three_hubs_down(self) -> str:
        """Fewer than the threshold are left: a refusal in time, and no key anywhere."""
        await self._prepare()
        await self._realm.kill("hub-1", "hub-2", "hub-5")
        started = clock.now()
        answer = await self.sae(NORTH).take_new(SAES[SOUTH])
        seconds = clock.now() - started
        if isinstance(answer, TakenKey):
            raise failed("a key was delivered over two hubs")
        if answer.status != _UNAVAILABLE or seconds > DEADLINE_SECONDS:
            raise failed(f"web@north was refused with {answer.status} after {seconds:.1f} s")
        for kme in PEERS:
            if (await self._realm.status(kme)).reserve:
                raise failed(f"{kme} holds keys that were made over two hubs")
        return (
            f"web@north was refused after {seconds:.1f} s: {answer.message} ({answer.code}); no key anywhere"
        )

    async def kme_killed(self) -> str:
        """A KME that crashed goes on by itself: nobody repairs anything."""
        realm = self._realm
        await self._prepare()
        await realm.kill(NORTH)
        started = clock.now()
        await realm.start_kme(NORTH)
        await realm.wait(lambda one: one.ready, "north's leave to deliver", [NORTH])
        seconds = clock.now() - started
        master, _ = await self.take_both()
        return (
            f"north ended with SIGKILL; started again it could deliver after {seconds:.1f} s,"
            f" and key {master.key_id} is the same at both ends"
        )

    async def _prepare(self, liar: str = "") -> None:
        """Every hub runs, nothing is in reserve: whatever is delivered next has to be established."""
        await self._realm.raise_hubs(liar)
        await self._realm.settle()
        await self._realm.drain()


@dataclass(frozen=True, slots=True)
class Play:
    """One scene to be played; ``act`` is None for one that cannot be."""

    name: str
    title: str
    act: Callable[[], Awaitable[str]] | None

    async def run(self) -> Scene:
        """Play it; what goes wrong in it is its outcome."""
        if self.act is None:
            return Scene(self.name, self.title, Outcome.SKIPPED, 0.0, _NO_LIAR)
        started = clock.now()
        try:
            outcome, seen = Outcome.PASSED, await self.act()
        except SkexError as error:
            outcome, seen = Outcome.FAILED, error.detail or error.code.sentence
        return Scene(self.name, self.title, outcome, clock.now() - started, seen)


def fault_scenes(stage: Stage, *, with_liar: bool) -> tuple[Play, ...]:
    """Every fault scene, in an order in which few daemons have to be started again."""
    return (
        Play("two-hubs-killed", "two of five hubs killed", stage.two_hubs_killed),
        Play("one-hub-lies", "one of five hubs lies", stage.one_hub_lies if with_liar else None),
        Play("three-hubs-down", "three of five hubs killed", stage.three_hubs_down),
        Play("kme-killed", "a KME killed and started again", stage.kme_killed),
    )


def _key(answer: TakenKey | Refusal, who: str) -> TakenKey:
    if isinstance(answer, Refusal):
        raise failed(f"{who} was refused: HTTP {answer.status}, {answer.message} ({answer.code})")
    return answer
