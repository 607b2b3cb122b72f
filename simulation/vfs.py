"""SQLite's files on simulated disks: the production stores write here what a ``Disk`` may lose.

One VFS for the whole process, registered once; a path names the disk and the file on it. It inherits
nothing of the real file system: no file is opened, no lock taken, no clock read. The stores hold their
files exclusively, so there is no shared memory (WAL without ``xShm``).

When the disk's power goes, nothing is raised here: from that call on writes reach nothing and reads
find nothing, and whoever called SQLite looks at ``Disk.is_off`` before it believes a result. An error
of the disk (``OSError``) becomes SQLite's.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import apsw

from simulation.disk import Disk, DiskFile, PowerFailure
from skex.store.database import CHECKSUM_BYTES

NAME: Final = "skex-simulation"
_SECTOR_BYTES: Final = 4096
_PAGE_BYTES: Final = 4096
_ROOM_AT: Final = 20
"""Where a database says how much of each page is left free (SQLite's file format, section 1.3)."""
_JULIAN_DAY: Final = 2_460_000.5
_ERRORS: Final[dict[int, type[apsw.Error]]] = {
    errno.ENOSPC: apsw.FullError,
    errno.ENOENT: apsw.CantOpenError,
    errno.EROFS: apsw.ReadOnlyError,
}

_disks: WeakValueDictionary[str, Disk] = WeakValueDictionary()
_numbers = itertools.count(1)
ResultT = TypeVar("ResultT")


def _checksum(page: bytes) -> bytes:
    """What stands in the bytes that each page leaves free for it."""
    return hashlib.blake2b(page[:-CHECKSUM_BYTES], digest_size=CHECKSUM_BYTES).digest()


def mount(disk: Disk) -> str:
    """Make a disk known to SQLite; returns what its paths begin with."""
    if NAME not in apsw.vfs_names():
        _registered.append(SimulatedVfs())
    prefix = f"/disk-{next(_numbers)}/"
    _disks[prefix] = disk
    return prefix


def unmount(prefix: str) -> None:
    """The process that used these paths is gone: through them nothing reaches the disk any more."""
    _disks.pop(prefix, None)


def _guarded(call: Callable[[], ResultT], nothing: ResultT) -> ResultT:
    """Carry out a call of the disk; a machine that is off finds nothing."""
    try:
        return call()
    except PowerFailure:
        return nothing
    except OSError as error:
        if error.errno == errno.EBADF:  # a handle from before a crash: its process is gone
            return nothing
        raise _ERRORS.get(error.errno or 0, apsw.IOError) from error


def _checksum_error() -> apsw.Error:
    """As SQLite's layer raises it."""
    error = apsw.IOError("the checksum of a page")
    vars(error)["extendedresult"] = apsw.SQLITE_IOERR_DATA
    return error


class SimulatedFile(apsw.VFSFile):
    """One open file, as SQLite sees it. Each page of a database gets a checksum, which is checked.

    In the daemons that is done by the layer of SQLite's that comes with apsw; it can only lie above a
    real file system.
    """

    def __init__(self, file: DiskFile, settle: Callable[[], None], *, is_database: bool) -> None:
        self._file = file
        self._settle = settle
        self._is_settled = False
        self._is_database = is_database
        self._room = b""

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's name
        """What was written last."""
        data = _guarded(lambda: self._file.read(offset, amount), None)
        if data is None:
            return bytes(amount)
        if self._is_page(data) and data[-CHECKSUM_BYTES:] != _checksum(data):
            raise _checksum_error()
        return data

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        """To the disk's cache."""
        whole = bytes(data)
        if offset == 0:
            self._room = whole[_ROOM_AT : _ROOM_AT + 1]
        if self._is_page(whole):
            whole = whole[:-CHECKSUM_BYTES] + _checksum(whole)
        _guarded(lambda: self._file.write(offset, whole), None)

    def _is_page(self, data: bytes) -> bool:
        """Whether it is a page that leaves room for a checksum; the database's first page says so."""
        if not self._is_database or len(data) != _PAGE_BYTES:
            return False
        if not self._room:
            self._room = _guarded(lambda: self._file.read(_ROOM_AT, 1), b"")
        return self._room == bytes([CHECKSUM_BYTES])

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        """In the disk's cache."""
        _guarded(lambda: self._file.truncate(newsize), None)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """To the medium; the first sync of a file brings its entry there too, as on UNIX."""
        del flags
        _guarded(self._file.sync, None)
        if not self._is_settled:
            _guarded(self._settle, None)
            self._is_settled = True

    def xFileSize(self) -> int:  # noqa: N802 - SQLite's name
        """As running programs see it."""
        return _guarded(self._file.size, 0)

    def xClose(self) -> None:  # noqa: N802 - SQLite's name
        """Nothing is synced by closing."""
        self._file.close()

    def xLock(self, level: int) -> None:  # noqa: N802 - SQLite's name
        """One process for one home: the daemon's own lock sees to that."""

    def xUnlock(self, level: int) -> None:  # noqa: N802 - SQLite's name
        """See ``xLock``."""

    def xCheckReservedLock(self) -> bool:  # noqa: N802 - SQLite's name
        """See ``xLock``."""
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: N802 - SQLite's name
        """Nothing is known here."""
        del op, ptr
        return False

    def xSectorSize(self) -> int:  # noqa: N802 - SQLite's name
        """As SQLite assumes of real disks; ours tear at 512 bytes all the same."""
        return _SECTOR_BYTES

    def xDeviceCharacteristics(self) -> int:  # noqa: N802 - SQLite's name
        """As on UNIX: a torn write harms nothing beside it."""
        return int(apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE)

    def excepthook(self, *exception: object) -> bool:
        """A fault that SQLite meets while it deals with another: it has the error code, that is enough."""
        return bool(exception)


class SimulatedVfs(apsw.VFS):
    """The file layer; ``mount`` registers it."""

    def __init__(self) -> None:
        super().__init__(NAME)

    def xOpen(self, name: Any, flags: list[int]) -> SimulatedFile:  # noqa: N802 - SQLite's name
        """Open, or create where SQLite asks for it."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        disk, own = _place(path)
        creates = flags[0] & apsw.SQLITE_OPEN_CREATE
        flags[1] = flags[0]

        def opened() -> DiskFile:
            return disk.create(own, 0) if creates and not disk.exists(own) else disk.open(own)

        file = _guarded(opened, None)
        if file is None:
            raise apsw.CantOpenError
        is_database = bool(flags[0] & apsw.SQLITE_OPEN_MAIN_DB)
        return SimulatedFile(file, lambda: _sync_directory(disk, own), is_database=is_database)

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802 - SQLite's name
        """Whether a file exists."""
        del flags
        try:
            disk, own = _place(pathname)
        except apsw.CantOpenError:
            return False
        return _guarded(lambda: disk.exists(own), nothing=False)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 - SQLite's signature
        """Remove a file."""
        try:
            disk, own = _place(filename)
        except apsw.CantOpenError:
            return
        _guarded(lambda: disk.remove(own), None)
        if syncdir:
            _guarded(lambda: disk.sync_directory(own), None)

    def xFullPathname(self, name: str) -> str:  # noqa: N802 - SQLite's name
        """Paths are whole already."""
        return name

    def xRandomness(self, numbytes: int) -> bytes:  # noqa: N802 - SQLite's name
        """The same every time."""
        return bytes(numbytes)

    def xSleep(self, microseconds: int) -> int:  # noqa: N802 - SQLite's name
        """No time passes."""
        return microseconds

    def xCurrentTime(self) -> float:  # noqa: N802 - SQLite's name
        """The stores ask their own port; SQLite's clock stands still."""
        return _JULIAN_DAY

    def xGetLastError(self) -> tuple[int, str]:  # noqa: N802 - SQLite's name
        """Nothing beyond the error code."""
        return 0, ""

    def excepthook(self, *exception: object) -> bool:
        """A fault that SQLite meets while it deals with another: it has the error code, that is enough."""
        return bool(exception)


def _sync_directory(disk: Disk, own: str) -> None:
    """Syncing a directory settles every entry in it: the database's, its journal's and its log's."""
    database = own.removesuffix("-wal").removesuffix("-journal")
    for suffix in ("", "-journal", "-wal"):
        disk.sync_directory(database + suffix)


_registered: list[SimulatedVfs] = []


def _place(path: str) -> tuple[Disk, str]:
    """The disk of a path, and the name on it."""
    end = path.index("/", 1) + 1
    try:
        return _disks[path[:end]], path[end:]
    except KeyError:
        raise apsw.CantOpenError from None
