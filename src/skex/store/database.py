"""One SQLite file: opening, transactions, migrations, faults, and leaving no old bytes behind.

The file is held exclusively and written through a write-ahead log that is synced at every commit. It
must not know what the tables mean. Everything runs on one thread at a time; the caller sees to that.

What erasing reaches: SQLite overwrites deleted content with zeros in its own pages, and ``scrub``
brings the log into the database, overwrites it, syncs and truncates it. File systems that do not write
in place, media that remap blocks, and snapshots keep older blocks all the same; there, what protects
erased rows is that they were sealed, for as long as the master key is not found beside them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from enum import Enum
from functools import cache
from importlib import resources
from typing import Any, Final, TypeAlias

import apsw
import apsw.sqlite_extra

from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug, Refused, SkexError, StoreFault

Value: TypeAlias = int | str | bytes | None
"""What a column holds."""
Row: TypeAlias = tuple[Any, ...]

IN_MEMORY: Final = ":memory:"
CHECKSUM_BYTES: Final = 8
"""What each page leaves free at its end for the checksum."""
_CHECKED: Final = "cksmvfs"

_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
    "cell_size_check = ON",
    "trusted_schema = OFF",
    "temp_store = MEMORY",
)
_OPEN_FLAGS: Final = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_EXRESCODE
_SCRUB_BYTES: Final = 65_536
"""What is overwritten at once; SQLite's own files take at most 128 KiB in one write."""

_CODES: Final[Mapping[type[apsw.Error], ErrorCode]] = {
    apsw.FullError: codes.STORE_FULL,
    apsw.ReadOnlyError: codes.STORE_READ_ONLY,
    apsw.PermissionsError: codes.STORE_READ_ONLY,
    apsw.BusyError: codes.STORE_LOCKED,
    apsw.LockedError: codes.STORE_LOCKED,
    apsw.CorruptError: codes.STORE_CORRUPT,
    apsw.NotADBError: codes.STORE_CORRUPT,
    apsw.IOError: codes.STORE_IO,
    apsw.CantOpenError: codes.STORE_IO,
}


class StoreKind(Enum):
    """Whose store a file is; the value is its SQLite application id."""

    KME = int.from_bytes(b"skxk", "big")
    HUB = int.from_bytes(b"skxh", "big")


def migrations(kind: StoreKind) -> tuple[str, ...]:
    """The migrations of a kind of store, number 1 first. Each is one SQL script, never changed again."""
    folder = resources.files(__package__) / "migrations" / kind.name.lower()
    scripts = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return tuple(script.read_text(encoding="utf-8") for script in scripts)


def _fault(error: apsw.Error) -> SkexError:
    """SQLite's error in the tree. Its text is left out: details name sizes and kinds, never content."""
    number = getattr(error, "extendedresult", 0)
    detail = f"{type(error).__name__} {number}"
    if number == apsw.SQLITE_IOERR_DATA:
        return StoreFault(codes.STORE_CORRUPT, "the checksum of a page")
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
    return LocalBug(codes.BAD_STATE, detail) if code is None else StoreFault(code, detail)


@contextmanager
def _translated() -> Iterator[None]:
    """The boundary between SQLite's errors and the tree."""
    try:
        yield
    except apsw.Error as error:
        raise _fault(error) from error


def checked_vfs() -> str:
    """The file layer with checksums: SQLite's "Checksum VFS Shim", which comes with apsw."""
    _plain_vfs()
    return _CHECKED


@cache
def _plain_vfs() -> str:
    """SQLite's own file layer, below the one with checksums, which is there once this was called.

    The shim puts itself in front of everybody's files; only those that ask for it get it here.
    """
    plain = apsw.vfs_names()[0]
    with closing(apsw.Connection(IN_MEMORY)) as connection:
        apsw.sqlite_extra.load(connection, "cksumvfs")
    apsw.set_default_vfs(plain)
    return plain


def _connect(path: str, flags: int, vfs: str | None) -> apsw.Connection:
    with _translated():
        if vfs is None and path != IN_MEMORY:
            vfs = checked_vfs()
        return apsw.Connection(path, _OPEN_FLAGS | flags, vfs)


class Database:
    """An open store file. Every method raises ``StoreFault`` (store-*) when the file lets it down."""

    def __init__(self, connection: apsw.Connection, kind: StoreKind) -> None:
        self._connection = connection
        self._kind = kind
        self._broken = False
        self._migrated: tuple[int, int] | None = None

    @classmethod
    def create(
        cls, path: str, kind: StoreKind, fill: Callable[[Database], None], *, vfs: str | None = None
    ) -> Database:
        """Make a store with its newest schema and what ``fill`` writes, all of it or nothing.

        A file that an earlier attempt left empty is taken. ``vfs`` names SQLite's file layer.
        Raises ``Refused`` (store-exists).
        """
        if vfs is None and path != IN_MEMORY:
            _touch_private(path)
        database = cls(_connect(path, apsw.SQLITE_OPEN_CREATE, vfs), kind)
        with database.closed_on_error():
            database._take()
            database._fill(fill)
        return database

    @classmethod
    def open(cls, path: str, kind: StoreKind, *, vfs: str | None = None) -> Database:
        """Open an existing store and check it; its schema stays as it is until ``migrate``.

        Raises ``StoreFault``: store-foreign, store-newer, store-corrupt, store-read-only,
        store-locked, store-io. The file is unchanged then.
        """
        database = cls(_connect(path, 0, vfs), kind)
        with database.closed_on_error():
            database._take()
            database._check()
            database._configure()
            database._bring_home()
        return database

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Let go of the file if opening it, or what is built on it, fails."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        """Shut others out; nothing is written, because it may be a file of somebody else."""
        with _translated():
            self._connection.set_busy_timeout(limits.STORE_BUSY_MS)
            self._connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        if self._connection.readonly("main"):
            raise StoreFault(codes.STORE_READ_ONLY)
        # Before the first page is read: it also makes the log's shared memory file needless.
        self.execute("PRAGMA locking_mode = EXCLUSIVE")

    def _configure(self) -> None:
        for pragma in _PRAGMAS:
            self.execute(f"PRAGMA {pragma}")

    def _identity(self) -> tuple[int, int]:
        """The application id and the number of the last migration; 0 and 0 for an empty file."""
        ((application, version),) = self.execute(
            "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"
        )
        return application, version

    def _fill(self, fill: Callable[[Database], None]) -> None:
        if self._identity() != (0, 0) or self.execute("SELECT 1 FROM sqlite_schema"):
            raise Refused(codes.STORE_EXISTS)
        self._leave_room_for_checksums()
        self._configure()
        with self.transaction():
            self.execute(f"PRAGMA application_id = {self._kind.value}")
            self._migrate(0)
            fill(self)

    def _check(self) -> None:
        application, version = self._identity()
        if application != self._kind.value:
            raise StoreFault(codes.STORE_FOREIGN, f"application id {application:#x}")
        known = len(migrations(self._kind))
        if version > known:
            raise StoreFault(codes.STORE_NEWER, f"schema {version}, known are {known}")
        if self.execute("PRAGMA quick_check(1)") != [("ok",)]:
            raise StoreFault(codes.STORE_CORRUPT, "SQLite's own check")

    def _bring_home(self) -> None:
        """Write what the log holds into the database and sync that, before anything is built on it.

        The process before may have ended at a failed sync. Linux then takes the log's pages for clean:
        this process reads them, syncs behind them, and a power loss would end the log where they are
        missing, with everything acknowledged since. Writing their content anew makes it durable.
        """
        with _translated():
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    @property
    def _is_checked(self) -> bool:
        """Whether pages have room for a checksum, and so one each."""
        return self._connection.reserve_bytes("main") >= CHECKSUM_BYTES

    def _leave_room_for_checksums(self) -> None:
        """Pages that are written from now on get a checksum each."""
        with _translated():
            self._connection.reserve_bytes("main", CHECKSUM_BYTES)

    # ── using it ────────────────────────────────────────────────────────────────────────────────
    def execute(self, sql: str, bindings: Sequence[Value] = ()) -> list[Row]:
        """Run SQL and return its rows. Raises ``LocalBug`` (bug-state) where a constraint is broken."""
        try:
            return self._connection.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            raise _fault(error) from error

    def change(self, sql: str, bindings: Sequence[Value] = ()) -> int:
        """Run SQL that changes rows; how many it changed."""
        self.execute(sql, bindings)
        return self._connection.changes()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything within becomes durable together at its end, or leaves nothing if it raises.

        After a fault of the file nothing more is written until it is opened anew: what a failed sync
        has left, only recovery can tell. (It may have become durable; nobody was told that it did.)
        """
        if self._broken:
            raise StoreFault(codes.STORE_IO, "an earlier write failed; the store must be opened anew")
        try:
            self.execute("BEGIN IMMEDIATE")
            yield
            self.execute("COMMIT")
        except BaseException as error:
            self._broken = isinstance(error, StoreFault)
            with suppress(apsw.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise

    @property
    def is_broken(self) -> bool:
        """Whether a fault of the file ended all writing."""
        return self._broken

    @property
    def is_current(self) -> bool:
        """Whether no migration is missing."""
        return self._identity()[1] == len(migrations(self._kind))

    @property
    def migrated(self) -> tuple[int, int] | None:
        """The schemas before and after ``migrate``, if it changed something since the store was opened."""
        return self._migrated

    def migrate(self) -> None:
        """Bring the schema up to date, one transaction for each migration, and put checksums on pages."""
        _, version = self._identity()
        newest = len(migrations(self._kind))
        for number in range(version, newest):
            with self.transaction():
                self._migrate(number, number + 1)
            self._migrated = (version, newest)
        if not self._is_checked:
            self._leave_room_for_checksums()
            self.execute("VACUUM")  # every page is written anew

    def _migrate(self, done: int, upto: int | None = None) -> None:
        for number, script in enumerate(migrations(self._kind)[done:upto], start=done + 1):
            self.execute(script)
            self.execute(f"PRAGMA user_version = {number}")

    def scrub(self) -> None:
        """Leave nothing of the past in the write-ahead log: bring it home, overwrite it, truncate it.

        Overwriting is safe because by then every page of it is synced into the database, and a log of
        zeros is an empty log to recovery. After a fault of the file nothing is done.
        """
        log = self._connection.filename_wal
        if self._broken or not log:
            return
        with _translated():
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)
            vfs = self._connection.open_vfs
            # The layer with checksums opens logs for nobody but SQLite itself.
            _overwrite(_plain_vfs() if vfs == _CHECKED else vfs, log)
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        with _translated():
            self._connection.close()


def _overwrite(vfs: str, path: str) -> None:
    flags = [apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_WAL, 0]
    file = apsw.VFSFile(vfs, path, flags)
    try:
        size = file.xFileSize()
        for offset in range(0, size, _SCRUB_BYTES):
            file.xWrite(bytes(min(_SCRUB_BYTES, size - offset)), offset)
        file.xSync(apsw.SQLITE_SYNC_FULL)
    finally:
        file.xClose()


def _touch_private(path: str) -> None:
    """Create the file before SQLite does, readable by its owner only; the log inherits that."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise StoreFault(codes.STORE_IO, type(error).__name__) from error
