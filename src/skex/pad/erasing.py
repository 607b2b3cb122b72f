"""What erased means, how it is recognised, and files that are erased again when they stay unfinished.

Overwriting reaches the medium's old blocks only where the file system writes in place (not on btrfs or
ZFS) and the medium does (flash remaps): there, sealing at rest is what protects used material.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from skex.base import codes, limits
from skex.base.errors import StoreFault
from skex.pad.files import FileSystem, PadFile, translated

_ZEROS: Final = bytes(limits.PAD_CHUNK_BYTES)
_ZERO_BLOCK: Final = bytes(16)


def erase(file: PadFile, start: int, end: int) -> None:
    """Make a byte range unreadable for good: overwrite, sync, punch, sync.

    Zeros and not random bytes: a later read recognises zeros and refuses them, whereas random bytes
    would pass for material. The sync between overwriting and punching is what makes overwriting of
    any use: punching drops unwritten pages, and the old bytes would stay in the blocks that it frees.
    """
    for offset, length in pieces(start, end):
        file.write(offset, _ZEROS[:length])
    file.sync()
    file.punch(start, end - start)
    file.sync()


def destroy(fs: FileSystem, path: str) -> None:
    """Erase the whole of a file, then remove it: a link that ends, or an enrolment that was cut off.

    Raises ``StoreFault`` (pad-io); the file may then still be there, and ``destroy`` can be repeated.
    """
    with translated():
        file = fs.open(path)
        try:
            erase(file, 0, file.size())
        finally:
            file.close()
        fs.remove(path)
        fs.sync_directory(path)


@contextmanager
def creating(fs: FileSystem, path: str, size: int) -> Iterator[PadFile]:
    """A new file, synced and closed at the end, or else erased and removed.

    Its directory entry becomes durable before the first byte of material is written: were it the last
    step, a crash could leave material in blocks that no file leads to, where nothing can erase it.
    Raises ``StoreFault`` (pad-io); an existing file is refused and left alone.
    """
    with translated():
        file = fs.create(path, size)
    try:
        with translated():
            fs.sync_directory(path)
            yield file
            file.sync()
            file.close()
    except Exception:
        # Best effort: the first error is the one to report, and destroy can be repeated by hand.
        with suppress(OSError):
            file.close()
        with suppress(StoreFault):
            destroy(fs, path)
        raise


def pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a byte range into (offset, length) pieces of at most ``PAD_CHUNK_BYTES``."""
    for offset in range(start, end, limits.PAD_CHUNK_BYTES):
        yield offset, min(limits.PAD_CHUNK_BYTES, end - offset)


def is_erased(data: bytes) -> bool:
    """Whether ``data``, at most ``PAD_CHUNK_BYTES``, is nothing but zeros."""
    return data == _ZEROS[: len(data)]


def refuse_zero_block(data: bytes | bytearray) -> None:
    """Raise ``StoreFault`` (pad-hole) when a 16-byte block of ``data`` is all zero.

    Random material has such a block with chance 2^-128 each; a hole, an erased unit or a file that was
    only ever allocated has nothing else. Blocks are counted from the first byte of ``data``.
    """
    at = data.find(_ZERO_BLOCK)
    while at != -1:
        if at % len(_ZERO_BLOCK) == 0:
            raise StoreFault(codes.PAD_HOLE, f"in {len(data)} bytes")
        at = data.find(_ZERO_BLOCK, at + 1)
