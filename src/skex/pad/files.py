"""The port through which pads reach their files.

The production implementation lives in the runtime, a simulated one in ``simulation``. It must not
know what the files hold.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from skex.base import codes
from skex.base.errors import StoreFault


class PadFile(Protocol):
    """One open file. Every method raises ``OSError`` when the disk does not do what it was asked."""

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer where the file ends."""

    def write(self, offset: int, data: bytes) -> None:
        """Write all of ``data`` at ``offset``, in place; behind the end the file grows."""

    def punch(self, offset: int, length: int) -> None:
        """Give the blocks of a range back, so that it reads as zeros; the size stays.

        Best effort: where the file system cannot, it returns without an error.
        """

    def sync(self) -> None:
        """Return only when everything written so far, and the size, would survive power loss."""

    def size(self) -> int:
        """The file's length in bytes."""

    def close(self) -> None:
        """Release the file; what was not synced may be lost. Idempotent."""


class FileSystem(Protocol):
    """The directory that pads live in. Every method raises ``OSError`` when it fails."""

    def open(self, path: str) -> PadFile:
        """Open an existing file for reading and writing."""

    def create(self, path: str, size: int) -> PadFile:
        """Create a file of ``size`` zero bytes, readable by its owner only; refuses an existing one."""

    def exists(self, path: str) -> bool:
        """Whether a file has this path."""

    def remove(self, path: str) -> None:
        """Remove a file."""

    def sync_directory(self, path: str) -> None:
        """Make the creation or removal of ``path`` itself durable (sync the directory it is in)."""


@contextmanager
def translated() -> Iterator[None]:
    """The boundary between the port's ``OSError`` and the tree: ``StoreFault`` (pad-io)."""
    try:
        yield
    except OSError as error:
        raise StoreFault(codes.PAD_IO, errno.errorcode.get(error.errno or 0, "no errno")) from error


def read_exactly(file: PadFile, offset: int, length: int) -> bytes:
    """Read ``length`` bytes in one go. Raises ``StoreFault`` (pad-short-read) and does not read on.

    A file that has become shorter is not the file that was enrolled.
    """
    data = file.read(offset, length)
    if len(data) != length:
        raise StoreFault(codes.PAD_SHORT_READ, f"{len(data)} of {length} bytes")
    return data
