"""Pads of random bytes that were delivered at enrolment: each unit is read once, then erased.

It must not know where the bytes came from (the kit) or how they are masked at rest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Final, TypeAlias

from skex.base import codes, limits
from skex.base.errors import LocalBug, StoreFault
from skex.base.ids import Direction, LinkId
from skex.pad.erasing import creating, erase, is_erased, pieces, refuse_zero_block
from skex.pad.files import FileSystem, PadFile, read_exactly, translated
from skex.pad.kinds import PadKind
from skex.pad.layout import (
    HEADER_BYTES,
    Identity,
    open_identified,
    read_slot,
    require_size,
    write_identity,
    write_slot,
)
from skex.pad.material import TableMaterial
from skex.pad.taking import TakingPad, check_store_mark

UNIT_BYTES: Final = limits.TABLE_UNIT_BYTES
_STATE: Final = struct.Struct(">LL")
"""A slot's payload: the file's own mark, and how far below it erasing is known to be durable."""

Mask: TypeAlias = Callable[[int, bytes], bytes]
"""(offset in the pad's data, bytes) -> as many bytes: the sealing at rest, or its inverse."""


def _plain(_offset: int, data: bytes) -> bytes:
    return data


class TablePad(TakingPad):
    """A table pad's file, opened. See ``kinds.Pad`` and, for the bytes, ``layout``."""

    def __init__(self, file: PadFile, identity: Identity, store_mark: int, unmask: Mask) -> None:
        self._slot, own_mark, erased = read_state(file, identity)
        super().__init__(file, identity, own_mark, store_mark)
        self._unmask = unmask
        self._erased = _first_remnant(file, erased)

    @classmethod
    def create(
        cls,
        fs: FileSystem,
        path: str,
        link_id: LinkId,
        direction: Direction,
        chunks: Iterable[bytes],
        *,
        mask: Mask = _plain,
    ) -> None:
        """Write a new pad file from pieces of any size; at most a piece and 4096 bytes are in memory.

        The identity comes last, after a sync: a file that was cut off is no pad. On any error what was
        written is erased and removed again, as far as the disk lets us.

        Raises: ``StoreFault`` pad-hole (an all-zero 16-byte block), pad-io (disk full, path exists);
        ``LocalBug`` bug-argument (no whole number of units, none, or too many); what ``chunks`` raises
        (an ``OSError`` of theirs becomes pad-io).
        """
        with creating(fs, path, HEADER_BYTES) as file:
            capacity = _write_data(file, chunks, mask)
            identity = Identity(PadKind.TABLE, link_id, direction, capacity)
            write_slot(file, identity, 0, _STATE.pack(0, 0))
            write_identity(file, identity)

    @classmethod
    def open(
        cls,
        fs: FileSystem,
        path: str,
        link_id: LinkId,
        direction: Direction,
        store_mark: int,
        *,
        unmask: Mask = _plain,
    ) -> TablePad:
        """Open a pad file and erase everything below the higher of the two marks again.

        Look at ``contradiction`` next. Reads the erased part once (holes are read at memory speed).

        Raises ``StoreFault``: pad-io, pad-short-read, pad-corrupt, pad-mark-contradicts (the store's
        mark is beyond the end); nothing is marked or erased then.
        """
        with translated(), ExitStack() as undo:
            file, identity = open_identified(fs, path, PadKind.TABLE, link_id, direction)
            undo.callback(file.close)
            require_size(file, required_size(identity))
            check_store_mark(store_mark, identity.capacity)
            pad = cls(file, identity, store_mark, unmask)
            pad.erase_below_mark()
            undo.pop_all()
            return pad

    @property
    def remaining_bytes(self) -> int:
        """How many bytes of material are left above the mark."""
        return (self.capacity - self._mark) * UNIT_BYTES

    def _read(self, start: int, count: int, kme_nonce: bytes, hub_nonce: bytes) -> TableMaterial:
        del kme_nonce, hub_nonce  # the bytes themselves are used once; nothing must make them differ
        if count > limits.TABLE_GRANT_UNITS_MAX:
            raise LocalBug(codes.BAD_ARGUMENT, f"{count} units in one grant")
        raw = read_exactly(self._file, unit_offset(start), count * UNIT_BYTES)
        refuse_zero_block(raw)
        data = bytearray(self._unmask(start * UNIT_BYTES, raw))
        # Once more: material that was zero before it was masked.
        refuse_zero_block(data)
        return TableMaterial(self.direction, start, count, data)

    def _settle(self) -> None:
        free = 1 - self._slot
        write_slot(self._file, self._identity, free, _STATE.pack(self._mark, self._erased))
        self._slot = free
        if self._erased < self._mark:
            erase(self._file, unit_offset(self._erased), unit_offset(self._mark))
            # Into the slot with the next mark: until then, opening erases the last take once more.
            self._erased = self._mark


def unit_offset(unit: int) -> int:
    """Where a unit begins in the file."""
    return HEADER_BYTES + unit * UNIT_BYTES


def _write_data(file: PadFile, chunks: Iterable[bytes], mask: Mask) -> int:
    """Write the units, checked and masked; return how many."""
    waiting = bytearray()
    units = 0
    for chunk in chunks:
        waiting += chunk
        whole = len(waiting) // UNIT_BYTES
        if units + whole > limits.PAD_POSITION_MAX:
            raise LocalBug(codes.BAD_ARGUMENT, "more units than a pad can have")
        data = bytes(waiting[: whole * UNIT_BYTES])
        refuse_zero_block(data)
        file.write(unit_offset(units), mask(units * UNIT_BYTES, data))
        waiting[: len(data)] = bytes(len(data))
        del waiting[: len(data)]
        units += whole
    if waiting or not units:
        raise LocalBug(codes.BAD_ARGUMENT, f"{len(waiting)} bytes behind {units} units")
    return units


def required_size(identity: Identity) -> int:
    """How long a whole pad file of this kind is, in bytes."""
    return HEADER_BYTES + identity.capacity * UNIT_BYTES


def own_mark(file: PadFile, identity: Identity) -> int:
    """The mark that the file itself states. Raises ``StoreFault``: pad-corrupt, pad-short-read."""
    return read_state(file, identity)[1]


def read_state(file: PadFile, identity: Identity) -> tuple[int, int, int]:
    """The slot with the highest own mark, that mark, and how far erasing is known to be durable.

    Raises ``StoreFault``: pad-corrupt, pad-short-read.
    """
    states: list[tuple[int, int, int]] = []
    for number in (0, 1):
        payload = read_slot(file, identity, number)
        if payload is not None and len(payload) == _STATE.size:
            mark, erased = _STATE.unpack(payload)
            states.append((mark, erased, number))
    if not states:
        raise StoreFault(codes.PAD_CORRUPT, "neither slot is valid")
    mark, erased, number = max(states)
    if not erased <= mark <= identity.capacity:
        raise StoreFault(codes.PAD_CORRUPT, "slot out of range")
    return number, mark, erased


def _first_remnant(file: PadFile, erased: int) -> int:
    """The lowest position from which erasing starts anew: ``erased``, or below it where data is back.

    What is durably erased reads as zeros. Anything else was put back by a partial restore.
    """
    for offset, length in pieces(unit_offset(0), unit_offset(erased)):
        if not is_erased(read_exactly(file, offset, length)):
            return (offset - HEADER_BYTES) // UNIT_BYTES
    return erased
