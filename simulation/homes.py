"""A machine's production store on a simulated disk, and a model of what that store owes.

The model (``memory``) takes every set that the store was asked to make durable. At each start what the
store has kept is compared with it: a set that was acknowledged must be there, one that a crash or a
failed write cut off may be there whole or not at all. Machines load from the store, never from the
model.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, Generic, Self, TypeVar

from simulation import vfs
from simulation.disk import Disk, PowerFailure
from simulation.memory import NO_MARKS, HubMemory, KmeMemory
from simulation.rules import Checker, RuleBrokenError
from skex.base.errors import SkexError
from skex.base.ids import HubName, KmeName, LinkId
from skex.base.secret import Secret
from skex.protocol.changes import Change
from skex.protocol.kme import KmeState
from skex.store.hub import HubStore
from skex.store.kme import KmeStore
from skex.store.links import EnrolledLink
from skex.wire.realm import Realm

STORE: Final = "store.sqlite"
_MASTER: Final = bytes(range(32))

StoreT = TypeVar("StoreT", HubStore, KmeStore)
MemoryT = TypeVar("MemoryT", KmeMemory, HubMemory)


class StoreKeeps(Checker):
    """Compares at each start, in ``Home.open``: with a model of the store, keys byte for byte."""

    name = "store-keeps"
    rule = "4.5, 6: what a store acknowledged it has, whole sets at a time, whatever became of its disk"


class StoreLiedError(RuleBrokenError):
    """A store has lost what it had acknowledged, or has what nobody committed."""

    def __init__(self, what: str) -> None:
        super().__init__(what, StoreKeeps.name)


class Home(ABC, Generic[StoreT, MemoryT]):
    """One store. ``memory`` is the model, ``links`` what must be enrolled; ``wall``, ``boot`` its clocks."""

    memory: MemoryT

    def __init__(
        self,
        name: str,
        realm: Realm,
        disk: Disk,
        entropy: Callable[[int], bytes],
        wall: Callable[[], int],
        *,
        boot: Callable[[], float],
    ) -> None:
        self.name = name
        self.realm = realm
        self.disk = disk
        self.links: set[LinkId] = set()
        self.recovered: tuple[Change, ...] = ()
        self._entropy = entropy
        self._wall = wall
        self._boot = boot
        self._uncertain: tuple[Change, ...] | None = None
        self._store: StoreT | None = None
        # A world that ends, also with the interpreter, ends its processes first. A store that was left
        # open would else be closed while it is torn down, and bring its log home: on a disk that is full
        # or fails, apsw then finds nobody to tell, and prints.
        weakref.finalize(self, disk.abandon)
        self._prefix = vfs.mount(disk)
        self._store = self._create(self._prefix + STORE)

    @abstractmethod
    def _create(self, path: str) -> StoreT:
        """A new store file."""

    @abstractmethod
    def _open(self, path: str) -> StoreT:
        """An existing one."""

    @abstractmethod
    def _differences(self) -> Iterable[str]:
        """In what the store and the model differ, besides links."""

    @abstractmethod
    def _apply(self, changes: Sequence[Change]) -> None:
        """Commit to the model."""

    # ── from a start to its end ─────────────────────────────────────────────────────────────────
    @property
    def is_open(self) -> bool:
        """Whether a process has the store."""
        return self._store is not None

    @property
    def store(self) -> StoreT:
        """The open store."""
        if self._store is None:
            raise LookupError(f"the store of {self.name} is not open")
        return self._store

    def open(self) -> None:
        """Open the store and hold it to what it owes. Raises ``StoreFault``, ``StoreLiedError``.

        ``recovered`` is then the set that was cut off and turned out to be durable, if there is one.
        """
        self.recovered = ()
        self._prefix = vfs.mount(self.disk)
        try:
            self._store = self._open(self._prefix + STORE)
            self._check()
        except BaseException:
            self.die()
            raise

    def die(self) -> None:
        """The process is gone: nothing more reaches the disk through what it had open."""
        store, self._store = self._store, None
        vfs.unmount(self._prefix)
        self.disk.abandon()
        if store is not None:
            with suppress(SkexError):
                store.close()

    def enrol(self, link: EnrolledLink, replacing: LinkId | None = None) -> None:
        """Keep a link, in place of another if that is named."""
        self.store.add_link(link, self._wall(), replacing=replacing)
        self.links.add(link.link_id)
        if replacing is not None:
            self.links.discard(replacing)

    def roll_back(self, log: int) -> None:
        """The disk has an older image of the store: it owes what it owed after so many changes."""
        self._uncertain = None
        self._replay(log)

    def become(self, other: Self) -> None:
        """This store is a copy of another one; the disk has its image next."""
        self.die()
        self.links = set(other.links)
        self.memory = other.memory

    @abstractmethod
    def _replay(self, log: int) -> None:
        """Make the model what it was after so many changes."""

    def commit(self, changes: Sequence[Change]) -> None:
        """Make one set durable. Raises what the store raises, and ``PowerFailure``."""
        self._uncertain = tuple(changes)
        self.store.commit([changes])
        if self.disk.is_off:
            raise PowerFailure
        self._apply(changes)
        self._uncertain = None

    # ── holding the store to its word ───────────────────────────────────────────────────────────
    def _check(self) -> None:
        """What was acknowledged is there; what was cut off is there whole, or not at all."""
        wrong = self._wrong()
        if wrong and self._uncertain is not None:
            self._apply(self._uncertain)
            self.recovered = self._uncertain
            wrong = self._wrong()
        self._uncertain = None
        if wrong:
            raise StoreLiedError(f"the store of {self.name} differs from what it acknowledged: {wrong}")

    def _wrong(self) -> list[str]:
        kept = self.memory.links
        frozen = {one.link.link_id: frozenset(one.frozen) for one in self.store.links()}
        if frozen != {one: frozenset(kept.frozen.get(one, ())) for one in self.links}:
            return ["links"]
        wrong: list[str] = []
        for link_id in self.links:
            if self.store.marks(link_id) != kept.marks.get(link_id, NO_MARKS):
                wrong = ["marks"]
        return [*wrong, *self._differences()]


class HubHome(Home[HubStore, HubMemory]):
    """A hub's."""

    def _create(self, path: str) -> HubStore:
        self.memory = HubMemory()
        store = HubStore.create(
            path,
            Secret(_MASTER),
            self._entropy,
            self._wall,
            name=HubName(self.name),
            realm=self.realm.name,
            vfs=vfs.NAME,
        )
        store.set_realm(self.realm.epoch, self.realm.to_bytes())
        return store

    def _open(self, path: str) -> HubStore:
        return HubStore.open(path, Secret(_MASTER), self._entropy, vfs=vfs.NAME)

    def _differences(self) -> Iterable[str]:
        if self.store.realm() != self.realm.to_bytes():
            yield "realm"

    def _apply(self, changes: Sequence[Change]) -> None:
        self.memory.commit(changes)

    def _replay(self, log: int) -> None:
        self.memory = HubMemory(self.memory.log[:log])


class KmeHome(Home[KmeStore, KmeMemory]):
    """A KME's."""

    def _create(self, path: str) -> KmeStore:
        self.memory = KmeMemory()
        return KmeStore.create(
            path,
            Secret(_MASTER),
            self._entropy,
            self._wall,
            name=KmeName(self.name),
            realm=self.realm.name,
            vfs=vfs.NAME,
        )

    def _open(self, path: str) -> KmeStore:
        return KmeStore.open(path, Secret(_MASTER), self._entropy, self._wall, boot=self._boot, vfs=vfs.NAME)

    def _apply(self, changes: Sequence[Change]) -> None:
        self.memory.commit(changes, float(self._wall()))

    def _replay(self, log: int) -> None:
        self.memory = KmeMemory.replayed(self.memory.log[:log])

    def _differences(self) -> Iterable[str]:
        """Times are left out: the store counts them on a clock of its own."""
        has, owes = _facts(self.store.load(0.0)), _facts(self.memory.load({}, 0.0))
        yield from (name for name, value in owes.items() if has[name] != value)
        kept = {(one.role, one.batch.peer, one.batch.batch): one.left for one in self.store.kept(0.0)}
        owed = self.memory.kept()
        if kept != {name: left.ranges() for name, (_, left) in owed.items()}:
            yield "keys left"
            return
        for (role, peer, _), (batch, left) in owed.items():
            keys = self.store.read_keys(role, peer, left.ranges())
            whole, size = batch.keys.expose(), batch.context.key_bytes
            indexes = [index for one in left.ranges() for index in one.indexes]
            if [key.expose() for key in keys] != [whole[at * size : (at + 1) * size] for at in indexes]:
                yield "key bytes"


def _facts(state: KmeState) -> dict[str, object]:
    """A store's content in a form that can be compared."""
    told = state.peer_messages
    return {
        "realm": state.realm and (state.realm.data, state.realm.previous),
        "rollback": state.rollback_found,
        "received": {(one.sender, one.confirmation, one.through, one.answer) for one in state.received},
        "counter marks": dict(state.counter_marks),
        "receiver epochs": dict(state.receiver_epochs),
        "roots": [
            (one.role, one.peer, one.batch, one.root.expose(), one.sent, one.received) for one in told.roots
        ],
        "queued": told.queued,
        "revocations": told.revocations,
        "receivers": dict(told.receivers),
        "offered": told.offered,
        "held": set(told.held),
        "assigned": told.assigned,
    }
