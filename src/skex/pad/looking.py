"""Looks at pad files without changing them, for whoever examines homes; taking is not done here.

Opening a pad erases what lies below its mark. Looking must leave everything as it is, also beside a
daemon that uses the file. Material that is read here is compared and forgotten, never shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from skex.base import codes, limits
from skex.base.errors import StoreFault
from skex.pad import derived, table
from skex.pad.derived import ChainSealing
from skex.pad.erasing import is_erased, refuse_zero_block
from skex.pad.files import FileSystem, PadFile, read_exactly, translated
from skex.pad.kinds import PadKind
from skex.pad.layout import HEADER_BYTES, Identity, read_identity, require_size
from skex.pad.table import UNIT_BYTES, Mask, unit_offset

_UNITS_AT_ONCE: Final = limits.PAD_CHUNK_BYTES // UNIT_BYTES


@dataclass(frozen=True, slots=True)
class Seen:
    """What a whole pad file says: who it is, and its own mark (the store's may be higher)."""

    identity: Identity
    mark: int


class PadLook:
    """An open pad file, looked at. Every method raises ``StoreFault``: pad-io, pad-short-read, pad-corrupt.

    Positions are units of a table, or indexes of a chain.
    """

    def __init__(self, file: PadFile) -> None:
        self._file = file
        self.identity: Identity = read_identity(file)
        if self.is_table:
            require_size(file, table.required_size(self.identity))
        else:
            require_size(file, HEADER_BYTES)

    @property
    def is_table(self) -> bool:
        """Whether it holds material itself, and no chain."""
        return self.identity.kind is PadKind.TABLE

    def mark(self) -> int:
        """The file's own mark, read now."""
        with translated():
            own_mark = table.own_mark if self.is_table else derived.own_mark
            return own_mark(self._file, self.identity)

    def erased(self) -> int:
        """Everything below this position is erased for good, or the file is not what it was.

        Between it and the mark, what a crash left is erased by the next start.
        """
        with translated():
            if self.is_table:
                return table.read_state(self._file, self.identity)[2]
            return min(derived.valid_states(self._file, self.identity)).index

    def remnants(self, start: int, end: int) -> int:
        """How many units of a table, from ``start`` up to ``end``, still hold something."""
        return sum(not is_erased(unit) for unit in self._units(start, end))

    def holes(self, start: int, end: int) -> int:
        """How many units of a table, from ``start`` up to ``end``, have an all-zero 16-byte block."""
        return sum(_has_hole(unit) for unit in self._units(start, end))

    def _units(self, start: int, end: int) -> Iterator[bytes]:
        for first in range(start, end, _UNITS_AT_ONCE):
            count = min(_UNITS_AT_ONCE, end - first)
            data = self._read(first, count)
            yield from (data[at : at + UNIT_BYTES] for at in range(0, len(data), UNIT_BYTES))

    def _read(self, unit: int, count: int) -> bytes:
        with translated():
            return read_exactly(self._file, unit_offset(unit), count * UNIT_BYTES)

    def material(self, unit: int, count: int, unmask: Mask) -> bytes:
        """The bytes of some units of a table, as they were enrolled."""
        return unmask(unit * UNIT_BYTES, self._read(unit, count))

    def chain_key(self, index: int, sealing: ChainSealing) -> bytes:
        """K_index of a chain, at or above its mark. Raises pad-jump where it is out of reach."""
        with translated():
            state = derived.newest_state(self._file, self.identity)
            if index < state.index:
                raise StoreFault(codes.PAD_MARK_CONTRADICTS, "the chain is further on than that")
            return derived.chain_key_at(self._file, self.identity, state, index, sealing)


@contextmanager
def looking(fs: FileSystem, path: str) -> Iterator[PadLook]:
    """Open a pad file to look at it; whose it should be is the caller's to compare.

    Raises ``StoreFault``: pad-io (also if it is missing), pad-short-read, pad-corrupt.
    """
    with translated():
        file = fs.open(path)
    try:
        with translated():
            opened = PadLook(file)
        yield opened
    finally:
        file.close()


def look(fs: FileSystem, path: str) -> Seen:
    """Read who a pad file is and its mark. Raises like ``looking``."""
    with looking(fs, path) as opened:
        return Seen(opened.identity, opened.mark())


def _has_hole(unit: bytes) -> bool:
    try:
        refuse_zero_block(unit)
    except StoreFault:
        return True
    return False
