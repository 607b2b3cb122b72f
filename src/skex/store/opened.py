"""What both stores are made of: an open file, its sealer, its links and facts about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from skex.base import codes
from skex.base.errors import StoreFault
from skex.base.ids import Direction, LinkId
from skex.base.secret import Secret
from skex.store.database import Database, StoreKind
from skex.store.links import EnrolledLink, LinkRecord, Links, StoredLink
from skex.store.sealing import SALT_BYTES, Entropy, Sealer
from skex.wire.preface import Marks

_AUDIT_HEAD: Final = "audit_head"


def _nothing() -> str:
    """No log is witnessed."""
    return ""


StoreT = TypeVar("StoreT", bound="OpenedStore")


class OpenedStore:
    """An open store. One thread at a time; every method may raise ``StoreFault`` (store-*)."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._links = Links(database, sealer)
        self._sealer = sealer
        self._witness: Callable[[], str] = _nothing
        self._witnessed = ""

    @property
    def sealer(self) -> Sealer:
        """Seals this home's pads too: ``chain_sealing`` and ``table_mask``."""
        return self._sealer

    @property
    def migrated(self) -> tuple[int, int] | None:
        """The schemas before and after, if opening brought the store up to date: for the audit log."""
        return self._database.migrated

    # ── facts ───────────────────────────────────────────────────────────────────────────────────
    def meta(self, name: str) -> str | None:
        """A fact about this store; ``created`` (UNIX seconds) and the names given when it was made."""
        rows = self._database.execute("SELECT value FROM meta WHERE name = ?", (name,))
        return None if not rows else str(rows[0][0])

    def set_meta(self, name: str, value: str) -> None:
        """Keep a fact; nothing secret."""
        with self._database.transaction():
            set_meta(self._database, name, value)

    # ── the audit log's head ────────────────────────────────────────────────────────────────────
    def witness(self, head: Callable[[], str]) -> None:
        """Keep, with every commit from now on, the last record of the audit log that is on the medium.

        The log is durable before the store says so: a crash between the two leaves the store behind,
        never ahead. ``head`` is asked on the store's thread.
        """
        self._witness = head

    def keep_witness(self) -> None:
        """The same without a commit."""
        if self._witness() != self._witnessed and not self._database.is_broken:
            with self._database.transaction():
                self._keep_witness()

    def witnessed(self) -> str | None:
        """The last record that the store remembers, as ``witness`` stated it."""
        return self.meta(_AUDIT_HEAD)

    def _keep_witness(self) -> None:
        """As a part of the transaction under way."""
        head = self._witness()
        if head != self._witnessed:
            set_meta(self._database, _AUDIT_HEAD, head)
            self._witnessed = head

    # ── links ───────────────────────────────────────────────────────────────────────────────────
    def links(self) -> tuple[StoredLink, ...]:
        """Every enrolled link, with its key, by the names of its ends."""
        return self._links.enrolled()

    def marks(self, link_id: LinkId) -> Marks:
        """What prefaces state, and what pads are opened with. Raises ``Refused`` (link-not-enrolled)."""
        return self._links.marks(link_id)

    def add_link(self, link: EnrolledLink, wall: int, *, replacing: LinkId | None = None) -> None:
        """Enrol a link; ``replacing`` names one that ends at the same moment.

        Raises ``Refused``: link-known (this id was enrolled before, even if it was removed since),
        link-exists (another link between the same two), link-not-enrolled (``replacing``).
        """
        with self._database.transaction():
            self._links.add(link, wall, replacing)

    def remove_link(self, link_id: LinkId, wall: int) -> None:
        """End a link: its key is erased, its id is never taken again. Raises ``Refused``."""
        with self._database.transaction():
            self._links.remove(link_id, wall)

    def suspend_link(self, link_id: LinkId, *, suspended: bool) -> None:
        """Let a link rest, or end its rest. Raises ``Refused`` (link-not-enrolled)."""
        with self._database.transaction():
            self._links.suspend(link_id, suspended=suspended)

    # ── backups ─────────────────────────────────────────────────────────────────────────────────
    def link_records(self) -> tuple[LinkRecord, ...]:
        """Every link that there ever was, without anything secret."""
        return self._links.records()

    def awaiting_kits(self) -> tuple[LinkRecord, ...]:
        """The links that a restore brought back and no new kit has replaced."""
        return self._links.awaiting()

    def bring_back(self, records: Iterable[LinkRecord], wall: int) -> None:
        """Take in, in a new store, what a backup says of links; those that were enrolled await new kits."""
        with self._database.transaction():
            for record in records:
                self._links.bring_back(record, wall)

    # ── another master key ──────────────────────────────────────────────────────────────────────
    def rekey(self, master: Secret, entropy: Entropy) -> None:
        """Seal everything under another master key, at once; the store is to be closed next.

        Pads stay as they are: the keys of theirs are kept, sealed, so that the old master key opens
        none of them any more. ``master`` has 32 bytes and may be wiped afterwards.
        """
        salt = entropy(SALT_BYTES)
        new = Sealer(master, salt, entropy)
        with self._database.transaction():
            self._reseal(new)
            self._database.execute("UPDATE sealing SET salt = ?, proof = ?", (salt, new.proof()))
        new.wipe()
        self._sealer.wipe()

    def _reseal(self, new: Sealer) -> None:
        self._links.reseal(new)

    # ── the file ────────────────────────────────────────────────────────────────────────────────
    def scrub(self) -> None:
        """Leave no erased row behind in the write-ahead log; see ``database``. Takes a few syncs.

        To be called some time after keys were erased, and before the store is closed. What is witnessed
        is kept too: a daemon may commit nothing for days.
        """
        self.keep_witness()
        self._database.scrub()

    def close(self) -> None:
        """Close the file and forget the keys. Idempotent."""
        self._database.close()
        self._sealer.wipe()


def create(
    path: str,
    kind: StoreKind,
    master: Secret,
    entropy: Entropy,
    facts: Mapping[str, str],
    *,
    fill: Callable[[Database], None] | None = None,
    vfs: str | None = None,
) -> tuple[Database, Sealer]:
    """A new store file, sealed under ``master``. Raises ``Refused`` (store-exists), ``StoreFault``."""
    salt = entropy(SALT_BYTES)
    sealer = Sealer(master, salt, entropy)

    def first_rows(database: Database) -> None:
        database.execute("INSERT INTO sealing (id, salt, proof) VALUES (1, ?, ?)", (salt, sealer.proof()))
        for name, value in facts.items():
            set_meta(database, name, value)
        if fill is not None:
            fill(database)

    return Database.create(path, kind, first_rows, vfs=vfs), sealer


def open_sealed(
    path: str, kind: StoreKind, master: Secret, entropy: Entropy, *, vfs: str | None = None
) -> tuple[Database, Sealer]:
    """An existing store file, up to date. Nothing is written before the master key is the right one.

    Raises ``StoreFault``: store-wrong-key, and those of ``Database.open``.
    """
    database, sealer = open_unmigrated(path, kind, master, entropy, vfs=vfs)
    with database.closed_on_error():
        database.migrate()
    return database, sealer


def open_unmigrated(
    path: str, kind: StoreKind, master: Secret, entropy: Entropy, *, vfs: str | None = None
) -> tuple[Database, Sealer]:
    """An existing store file as it is, for whoever only looks; see ``open_sealed``."""
    database = Database.open(path, kind, vfs=vfs)
    with database.closed_on_error():
        rows = database.execute("SELECT salt, proof FROM sealing")
        if not rows:
            raise StoreFault(codes.STORE_CORRUPT, "nothing says how it is sealed")
        ((salt, proof),) = rows
        sealer = Sealer(master, salt, entropy)
        sealer.check(proof)
        # A store whose schema has no such table was never sealed under another key.
        if database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'pad_key'"):
            for link_id, direction, sealed in database.execute(
                "SELECT link_id, direction, sealed FROM pad_key"
            ):
                sealer.keep_pad_key(LinkId(link_id), Direction(direction), sealed)
    return database, sealer


def is_sealed_under(path: str, kind: StoreKind, master: Secret) -> bool:
    """Whether a store opens with this master key; nothing in it is changed.

    Raises ``StoreFault``: those of ``Database.open``.
    """
    try:
        database, sealer = open_unmigrated(path, kind, master, lambda _: b"")
    except StoreFault as error:
        if error.code is codes.STORE_WRONG_KEY:
            return False
        raise
    database.close()
    sealer.wipe()
    return True


def set_meta(database: Database, name: str, value: str) -> None:
    """Keep a fact, as a part of the transaction under way."""
    database.execute(
        "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        (name, value),
    )
