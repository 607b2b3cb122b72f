"""What every store is tested with: one set of values, and one way to drive each kind of store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol
from unittest.mock import patch

import apsw

from simulation.chance import Chance
from simulation.memory import NO_MARKS, KmeMemory
from skex.base.ids import (
    BatchId,
    Coordinate,
    GroupId,
    HubName,
    Incarnation,
    KmeName,
    LinkId,
    RealmName,
    RequestId,
    SaeId,
)
from skex.base.secret import Secret
from skex.pad.kinds import PadKind
from skex.protocol import changes as c
from skex.protocol.changes import Change, Role
from skex.protocol.kme import KmeState
from skex.store import database
from skex.store.database import IN_MEMORY, checked_vfs
from skex.store.kme import KmeStore
from skex.store.links import EnrolledLink
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import ROOT_BYTES, CompactContext, Purpose
from skex.wire.messages import Confirmation
from skex.wire.peer import KeyRange
from skex.wire.preface import Marks

MASTER: Final = bytes(range(32))
START: Final = 1_700_000_000
"""UNIX seconds when every store is made."""
REALM: Final = RealmName("example")
ALICE: Final = KmeName("alice")
BOB: Final = KmeName("bob")
CAROL: Final = KmeName("carol")
HUBS: Final = (HubName("hub-a"), HubName("hub-b"), HubName("hub-c"))
LINKS: Final = {hub: LinkId(f"link {hub[-1]}  ".encode()) for hub in HUBS}
MASTER_SAE: Final = SaeId("web@alice")
SLAVE: Final = SaeId("db@bob")
OTHER_SLAVE: Final = SaeId("cache@bob")
LIFETIME: Final = 3600
FIRST: Final = Incarnation(b"first start     ")
SECOND: Final = Incarnation(b"second start    ")
CLAIM: Final = Claim((Coordinate(2),), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR)


# ── values ──────────────────────────────────────────────────────────────────────────────────────
def request(number: int) -> RequestId:
    return RequestId(number.to_bytes(16, "big"))


def batch_id(counter: int = 1, incarnation: Incarnation = FIRST) -> BatchId:
    return BatchId(incarnation, counter)


def key_bytes(name: BatchId, keys: int, size: int = 32) -> bytes:
    """Distinct bytes for each batch and key, none of them zero."""
    return Chance(int.from_bytes(name.to_bytes(), "big")).randbytes(keys * size).replace(b"\0", b"\x01")


def batch(
    counter: int = 1,
    *,
    peer: KmeName = BOB,
    keys: int = 4,
    incarnation: Incarnation = FIRST,
    lifetime: int = LIFETIME,
    group: GroupId | None = None,
) -> c.Batch:
    name = batch_id(counter, incarnation)
    context = CompactContext(
        epoch=1,
        threshold=2,
        hubs=(Coordinate(1), Coordinate(2), Coordinate(3)),
        keys=keys,
        key_bytes=32,
        purpose=Purpose.TRAFFIC,
        lifetime=lifetime,
        group=group,
        claim=CLAIM,
    )
    return c.Batch(peer, name, context, HUBS, CLAIM, Secret(key_bytes(name, keys)))


def control_batch(counter: int = 1, *, peer: KmeName = BOB) -> c.Batch:
    """A batch that makes a root."""
    traffic = batch(counter, peer=peer)
    context = replace(traffic.context, purpose=Purpose.CONTROL, keys=1, key_bytes=ROOT_BYTES)
    return replace(traffic, context=context, keys=Secret(key_bytes(traffic.batch, 1, ROOT_BYTES)))


def sent(what: c.Batch, *, incarnation: Incarnation = SECOND, epoch: int = 1) -> c.BatchSent:
    return c.BatchSent(what, incarnation, epoch)


def confirmation(what: c.Batch, *, mac: bytes = b"m" * 16) -> Confirmation:
    return Confirmation(what.batch, 1, SECOND, CLAIM, mac)


def received(what: c.Batch, *, mac: bytes = b"m" * 16) -> c.BatchReceived:
    return c.BatchReceived(what, confirmation(what, mac=mac), HUBS[:2])


def key_range(first: int = 0, count: int = 1, *, counter: int = 1) -> KeyRange:
    return KeyRange(batch_id(counter), first, count)


def offered(
    *keys: KeyRange, number: int = 1, peer: KmeName = BOB, slaves: tuple[SaeId, ...] = (SLAVE,)
) -> c.KeysOffered:
    return c.KeysOffered(peer, request(number), keys, MASTER_SAE, slaves, "tls", 600)


def assigned(
    *keys: KeyRange, number: int = 1, sender: KmeName = BOB, slaves: tuple[SaeId, ...] = (SLAVE,)
) -> c.KeysAssigned:
    return c.KeysAssigned(sender, request(number), FIRST, keys, MASTER_SAE, slaves, "tls", 600)


def given(*keys: KeyRange, role: Role = Role.SENDER, sae: SaeId = MASTER_SAE) -> c.KeysDelivered:
    return c.KeysDelivered(role, BOB, keys, sae)


def root(
    counter: int = 1, *, role: Role = Role.SENDER, was_sent: bool = False, was_heard: bool = False
) -> c.RootKept:
    secret = Secret(counter.to_bytes(2, "big") * 32)
    return c.RootKept(role, BOB, batch_id(counter), secret, was_sent, was_heard)


def enrolled_link(
    hub: HubName = HUBS[0], *, link_id: LinkId | None = None, kme: KmeName = ALICE, fill: int = 7
) -> EnrolledLink:
    return EnrolledLink(
        LINKS[hub] if link_id is None else link_id,
        REALM,
        hub,
        kme,
        PadKind.TABLE,
        Secret(bytes([fill]) * 64),
        1000,
        2000,
        Enrolment.UNDER_PASSPHRASE,
    )


# ── stores ──────────────────────────────────────────────────────────────────────────────────────
@dataclass
class WallClock:
    """A wall clock that a test sets."""

    seconds: int = START

    def __call__(self) -> int:
        return self.seconds


class KmeSubject(Protocol):
    """One store under test, of whatever kind."""

    clock: WallClock

    def commit(self, *sets: Sequence[Change]) -> None:
        """All sets in one transaction."""

    def state(self) -> KmeState:
        """What a start would get now, on a boot-time clock that shows the same as the wall."""

    def reopen(self) -> None:
        """Start anew with what is durable."""

    def marks(self, link_id: LinkId) -> Marks:
        """A link's marks."""

    def is_committed(self, peer: KmeName, batch: BatchId) -> bool:
        """As the sender asks."""

    def close(self) -> None:
        """The end."""


def _in_order_of_names(state: KmeState) -> KmeState:
    """Receivers have no order."""
    messages = state.peer_messages
    receivers = tuple(sorted(messages.receivers))
    return replace(state, peer_messages=replace(messages, receivers=receivers))


@contextmanager
def schema(number: int) -> Iterator[None]:
    """The code that knew no later schema than this one."""
    known = database.migrations
    with patch.object(database, "migrations", lambda kind: known(kind)[:number]):
        yield


def downgraded(path: Path) -> None:
    """Make a closed store what the first release would have left."""
    connection = apsw.Connection(str(path), vfs=checked_vfs())
    later = ("fate", "suspended_pair", "awaiting_kit", "tally", "evidence", "bench", "pad_key")
    drops = "".join(f"DROP TABLE IF EXISTS {table};" for table in later)  # a hub's store has the first only
    connection.execute(f"{drops} PRAGMA user_version = 1; PRAGMA journal_mode = DELETE")
    connection.close()


class FileSubject:
    """The store of a daemon: in a file, or, with no directory, in memory."""

    def __init__(self, directory: Path | None, *, vfs: str | None = None, first_schema: bool = False) -> None:
        """With ``first_schema`` the store was made by the first release, and opened by this one."""
        self.path = IN_MEMORY if directory is None else str(directory / "store.sqlite")
        self.clock = WallClock()
        self.entropy = Chance(1).randbytes
        self.vfs = vfs
        with schema(1) if first_schema else nullcontext():
            self.store = KmeStore.create(
                self.path, Secret(MASTER), self.entropy, self.clock, name=ALICE, realm=REALM, vfs=vfs
            )
        if first_schema:
            self.reopen()
        for hub in HUBS:
            self.store.add_link(enrolled_link(hub), self.clock())

    def commit(self, *sets: Sequence[Change]) -> None:
        self.store.commit(sets)

    def state(self) -> KmeState:
        return _in_order_of_names(self.store.load(float(self.clock())))

    def reopen(self) -> None:
        if self.path != IN_MEMORY:
            self.store.close()
            self.store = KmeStore.open(self.path, Secret(MASTER), self.entropy, self.clock, vfs=self.vfs)

    def marks(self, link_id: LinkId) -> Marks:
        return self.store.marks(link_id)

    def is_committed(self, peer: KmeName, batch: BatchId) -> bool:
        return self.store.is_committed(peer, batch)

    def close(self) -> None:
        self.store.close()


@dataclass
class SimulatedSubject:
    """The store of a simulated machine."""

    clock: WallClock = field(default_factory=WallClock)
    memory: KmeMemory = field(default_factory=KmeMemory)

    def commit(self, *sets: Sequence[Change]) -> None:
        # Its machines commit each set by itself; here several are one, as a group commit makes them.
        self.memory.commit([change for changes in sets for change in changes], self.clock())

    def state(self) -> KmeState:
        return _in_order_of_names(self.memory.load(dict(LINKS), float(self.clock())))

    def reopen(self) -> None:
        self.memory = KmeMemory.replayed(self.memory.log)

    def marks(self, link_id: LinkId) -> Marks:
        return self.memory.links.marks.get(link_id, NO_MARKS)

    def is_committed(self, peer: KmeName, batch: BatchId) -> bool:
        return self.memory.is_committed(peer, batch)

    def close(self) -> None:
        """Nothing to let go of."""


def left_of(subject: KmeSubject, name: BatchId) -> tuple[KeyRange, ...]:
    """What is left of a received batch, as machines hear it."""
    return next((one.keys for one in subject.state().peer_messages.held if one.batch == name), ())
