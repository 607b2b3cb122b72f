"""A file that waits on the disk until it is wanted, under a key that is only in memory.

The file has no name: whatever ends the process, nothing of it is left that anybody could read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from skex.base import codes, limits
from skex.base.errors import Refused, StoreFault
from skex.runtime import entropy

_PIECE_BYTES: Final = 65_536
_TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
"""The piece's number: the key seals one file, and each of its pieces once."""


class Readable(Protocol):
    """What is spooled."""

    def read(self, count: int, /) -> bytes:
        """At most ``count`` bytes, none at the end only. Raises ``OSError``."""
        ...


class Spool:
    """What ``source`` held; construct on a thread that may wait.

    Raises ``Refused`` (dual-control-room), ``StoreFault`` (file-io): the source, or the disk, failed.
    """

    def __init__(self, source: Readable, directory: Path) -> None:
        self._key = entropy.random_secret(_KEY_BYTES)
        self.size = 0
        digest = hashlib.sha512()
        try:
            # Not O_TMPFILE, which not every file system has; the name is gone before anything is written.
            self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  # closed by discard
        except OSError as error:
            raise StoreFault(codes.FILE_IO, f"{directory}: {error.strerror}") from error
        try:
            while piece := _whole_piece(source):
                self._require_room(directory, len(piece))
                digest.update(piece)
                self._file.write(self._sealing.encrypt(_nonce(self.size), piece, None))
                self.size += len(piece)
            self._file.flush()
        except OSError as error:
            self.discard()
            raise StoreFault(codes.FILE_IO, error.strerror or "the upload ended") from error
        except BaseException:
            self.discard()
            raise
        self.sha512 = digest.digest()

    @property
    def _sealing(self) -> AESGCM:
        return AESGCM(self._key.expose())

    def _require_room(self, directory: Path, more: int) -> None:
        disk = os.statvfs(directory)
        if self.size + more > limits.PENDING_FILE_BYTES:
            raise Refused(codes.DUAL_CONTROL_ROOM, f"more than {limits.PENDING_FILE_BYTES} bytes")
        if disk.f_bavail * disk.f_frsize < limits.PENDING_FREE_BYTES:
            raise Refused(codes.DUAL_CONTROL_ROOM, f"less than {limits.PENDING_FREE_BYTES} bytes are free")

    def opened(self) -> SpoolReader:
        """Its content from the beginning; one reader at a time."""
        return SpoolReader(self)

    def piece(self, offset: int) -> bytes:
        """The piece at ``offset``, a multiple of the pieces' size. Raises ``OSError``."""
        number = offset // _PIECE_BYTES
        self._file.seek(number * (_PIECE_BYTES + _TAG_BYTES))
        size = min(_PIECE_BYTES, self.size - offset)
        try:
            return self._sealing.decrypt(_nonce(offset), self._file.read(size + _TAG_BYTES), None)
        except InvalidTag as error:
            raise OSError(errno.EIO, "what waited on the disk is damaged") from error

    def discard(self) -> None:
        """Let go of the file and of its key. Idempotent."""
        self._file.close()
        self._key.wipe()


class SpoolReader:
    """Reads a spool as if it were on its way in."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._offset = 0
        self._ready = b""
        self._is_aborted = False

    def read(self, count: int, /) -> bytes:
        """At most ``count`` bytes, none at the end only. Raises ``OSError``."""
        if self._is_aborted:
            raise OSError(errno.EPIPE, "it was given up")
        if not self._ready and self._offset < self._spool.size:
            self._ready = self._spool.piece(self._offset)
            self._offset += len(self._ready)
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken

    def abort(self) -> None:
        """Nothing more will be read."""
        self._is_aborted = True


def _nonce(offset: int) -> bytes:
    return (offset // _PIECE_BYTES).to_bytes(_NONCE_BYTES, "big")


def _whole_piece(source: Readable) -> bytes:
    """The next piece: all of them but the last are as long as can be."""
    piece = bytearray()
    while len(piece) < _PIECE_BYTES:
        more = source.read(_PIECE_BYTES - len(piece))
        if not more:
            break
        piece += more
    return bytes(piece)
