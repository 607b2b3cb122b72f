"""Files that commands read and write: bounded, never overwritten, whole or gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from skex.base import codes
from skex.base.errors import Refused, StoreFault
from skex.runtime.files import sync_directory

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644


def read_bounded(path: Path, limit: int) -> bytes:
    """A file's bytes, at most one more than ``limit``. Raises ``StoreFault`` (file-io)."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"{path}: {error.strerror}") from error


class NewFile:
    """A new file that is being written, from its beginning to its end. Raises ``OSError``."""

    def __init__(self, descriptor: int, directory: Path) -> None:
        self._descriptor = descriptor
        self._directory = directory

    def write(self, data: bytes) -> None:
        """Append all of ``data``."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        """Everything written so far, and the file's name, would survive a crash now."""
        os.fsync(self._descriptor)
        sync_directory(self._directory)


@contextmanager
def new_file(path: Path, mode: int) -> Iterator[NewFile]:
    """A new file; gone again after any error.

    Raises ``Refused`` (file-exists), ``StoreFault`` (file-io) if it cannot be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, mode)
    except FileExistsError as error:
        raise Refused(codes.FILE_EXISTS, str(path)) from error
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"{path}: {error.strerror}") from error
    try:
        yield NewFile(descriptor, path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """A new durable file. Raises as ``new_file`` does."""
    with new_file(path, mode) as file:
        try:
            file.write(data)
            file.sync()
        except OSError as error:
            raise StoreFault(codes.FILE_IO, f"{path}: {error.strerror}") from error


def moment(unix_seconds: int) -> str:
    """A time of day for people, in UTC; what no calendar has stays a number."""
    try:
        return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"{unix_seconds} seconds after 1970"
