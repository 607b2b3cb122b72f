"""The pads' file system on a real disk: positioned reads and writes, hole punching, syncing."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

_PUNCH_KEEP_SIZE: Final = 0x02 | 0x01
"""FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, of <linux/falloc.h>."""
_CANNOT_PUNCH: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.fallocate.restype = ctypes.c_int


class DiskFile:
    """One open pad file. See ``skex.pad.files.PadFile``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes; fewer only where the file ends."""
        pieces = []
        while length > 0 and (piece := os.pread(self._descriptor, length, offset)):
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(pieces)

    def write(self, offset: int, data: bytes) -> None:
        """All of ``data``, in place."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view = view[written:]
            offset += written

    def punch(self, offset: int, length: int) -> None:
        """Give the blocks back where the file system can."""
        if _libc.fallocate(self._descriptor, _PUNCH_KEEP_SIZE, offset, length) != 0:
            number = ctypes.get_errno()
            if number not in _CANNOT_PUNCH:
                raise OSError(number, os.strerror(number))

    def sync(self) -> None:
        """Data and size reach the medium before this returns."""
        os.fsync(self._descriptor)

    def size(self) -> int:
        """The file's length in bytes."""
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Release the file. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class DiskFileSystem:
    """One directory of pads. See ``skex.pad.files.FileSystem``; paths are names within it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, path: str) -> DiskFile:
        """Open for reading and writing; a link is refused, a child process does not inherit it."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        return DiskFile(os.open(self._directory / path, flags))

    def create(self, path: str, size: int) -> DiskFile:
        """Create with mode 0600; an existing file is refused."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._directory / path, flags, 0o600)
        try:
            os.ftruncate(descriptor, size)
        except OSError:
            os.close(descriptor)
            raise
        return DiskFile(descriptor)

    def exists(self, path: str) -> bool:
        """Whether a file has this name."""
        return (self._directory / path).exists()

    def remove(self, path: str) -> None:
        """Remove the file."""
        (self._directory / path).unlink()

    def sync_directory(self, path: str) -> None:
        """Make the entry of ``path`` durable."""
        sync_directory((self._directory / path).parent)


def sync_directory(directory: Path) -> None:
    """Make the entries of a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, data: bytes) -> None:
    """A new file that its owner alone can read, durable. Raises ``OSError``, also if it is there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        DiskFile(descriptor).write(0, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that, after any crash, it is either the old one or the new one, whole."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(descriptor, mode)
        DiskFile(descriptor).write(0, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.replace(path)
    sync_directory(path.parent)
