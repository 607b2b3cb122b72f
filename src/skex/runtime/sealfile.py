"""The sealing key of an audit log on a disk: one key at a time, and nothing of the one before.

A file of two slots, written in place, because erasing needs a place: the next key is written into the
free slot and synced, then the old slot is overwritten and synced. After any crash the slot with the
higher serial number counts. Media that remap blocks and file systems that copy on write may keep an
older slot all the same.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from skex.audit.seals import KEY_BYTES, SERIES_BYTES, KeptEpoch, SealingKey
from skex.base import codes
from skex.base.errors import Refused, StoreFault
from skex.base.secret import Secret
from skex.runtime import entropy
from skex.runtime.files import DiskFile, DiskFileSystem

NAME: Final = "audit.sealing"
"""The file's name in a home: not beside the segments, which people copy."""
_SLOTS: Final = (0, 4096)
"""Offsets of the slots: blocks of their own, so that a torn write reaches one only."""
_FILE_BYTES: Final = 8192
_MAGIC: Final = b"skexseal"
_VERSION: Final = 1
_FIELDS: Final = struct.Struct(f">8sHHQQQ{SERIES_BYTES}s{KEY_BYTES}s")
"""Magic, version, whether the key of epoch 0 was taken, serial, epoch, last sealed record, series, key."""
_CHECK_BYTES: Final = 32
_SLOT_BYTES: Final = _FIELDS.size + _CHECK_BYTES


@dataclass(frozen=True, slots=True)
class _Slot:
    """What one slot holds."""

    is_taken: bool
    serial: int
    sealed_to: int
    key: SealingKey

    def to_bytes(self) -> bytes:
        key = self.key
        fields = _FIELDS.pack(
            _MAGIC,
            _VERSION,
            self.is_taken,
            self.serial,
            key.epoch,
            self.sealed_to,
            key.series,
            key.key.expose(),
        )
        return fields + hashlib.sha512(fields).digest()[:_CHECK_BYTES]

    @classmethod
    def from_bytes(cls, data: bytes) -> _Slot | None:
        fields, check = data[: _FIELDS.size], data[_FIELDS.size :]
        if len(data) != _SLOT_BYTES or hashlib.sha512(fields).digest()[:_CHECK_BYTES] != check:
            return None
        magic, version, taken, serial, epoch, sealed_to, series, key = _FIELDS.unpack(fields)
        if (magic, version) != (_MAGIC, _VERSION):
            return None
        return cls(bool(taken), serial, sealed_to, SealingKey(series, epoch, Secret(key)))


def kept_in(home: Path) -> KeptEpoch | None:
    """What the file in a home says, for whoever only looks; None without a readable one.

    Raises ``StoreFault`` (audit-io) where it may not be read.
    """
    try:
        data = (home / NAME).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreFault(codes.AUDIT_IO, f"{home / NAME}: {error.strerror}") from error
    slots = [slot for at in _SLOTS if (slot := _Slot.from_bytes(data[at : at + _SLOT_BYTES])) is not None]
    if not slots:
        return None
    newest = max(slots, key=lambda slot: slot.serial)
    return KeptEpoch(newest.is_taken, newest.key)


@contextmanager
def _as_fault(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreFault(codes.AUDIT_IO, f"{path}: {error.strerror}") from error


class SealFile:
    """The keeper of a log's sealing key; see ``skex.audit.seals.SealKeeper``."""

    def __init__(
        self, path: Path, file: DiskFile, found: tuple[int, _Slot], random: Callable[[int], bytes]
    ) -> None:
        """``found`` is the slot that counts, and where it is. To be made with ``open``."""
        self._path = path
        self._file = file
        self._at, self._slot = found
        self._random = random

    @classmethod
    def open(cls, home: Path, random: Callable[[int], bytes] = entropy.random_bytes) -> Self:
        """Take the file in a home, or make one with a fresh key. Raises ``StoreFault`` (audit-io)."""
        path = home / NAME
        with _as_fault(path):
            disk = DiskFileSystem(home)
            if disk.exists(NAME):
                file = disk.open(NAME)
            else:
                file = disk.create(NAME, _FILE_BYTES)
                disk.sync_directory(NAME)
            found = {at: _Slot.from_bytes(file.read(at, _SLOT_BYTES)) for at in _SLOTS}
            whole = {at: slot for at, slot in found.items() if slot is not None}
            if not whole:
                slot = _Slot(is_taken=False, serial=0, sealed_to=0, key=_fresh(random))
                keeper = cls(path, file, (_SLOTS[1], slot), random)
                keeper._write(slot)
                return keeper
            at = max(whole, key=lambda one: whole[one].serial)
            keeper = cls(path, file, (at, whole[at]), random)
            keeper._erase_other()
            return keeper

    # ── SealKeeper ──────────────────────────────────────────────────────────────────────────────
    @property
    def is_taken(self) -> bool:
        """Whether somebody has the key of epoch 0."""
        return self._slot.is_taken

    @property
    def current(self) -> SealingKey:
        """The key of the present epoch."""
        return self._slot.key

    @property
    def sealed_to(self) -> int:
        """The number of the last sealed record."""
        return self._slot.sealed_to

    def advance(self, sealed_to: int) -> None:
        """Keep the next epoch's key, erase this one's."""
        slot = self._slot
        self._replace(replace(slot, serial=slot.serial + 1, sealed_to=sealed_to, key=slot.key.next()))

    def take(self) -> SealingKey:
        """A copy of the key of epoch 0. Raises ``Refused`` (audit-key-gone)."""
        slot = self._slot
        if slot.key.epoch:
            raise Refused(codes.AUDIT_KEY_GONE)
        copy = SealingKey(slot.key.series, 0, Secret(slot.key.key.expose()))
        if not slot.is_taken:
            self._replace(replace(slot, is_taken=True, serial=slot.serial + 1))
        return copy

    def renewal(self) -> SealingKey:
        """A fresh key of epoch 0, not yet kept."""
        return _fresh(self._random)

    def renew(self, key: SealingKey) -> None:
        """Keep ``key``, as a taken one, instead of the present one."""
        kept = SealingKey(key.series, key.epoch, Secret(key.key.expose()))
        self._replace(replace(self._slot, is_taken=True, serial=self._slot.serial + 1, key=kept))

    def close(self) -> None:
        """Forget the key and let go of the file. Idempotent."""
        self._slot.key.key.wipe()
        self._file.close()

    # ── slots ───────────────────────────────────────────────────────────────────────────────────
    def _replace(self, slot: _Slot) -> None:
        """The new key is on the medium before the old one is erased."""
        before = self._slot
        with _as_fault(self._path):
            self._write(slot)
            if before.key is not slot.key:
                before.key.key.wipe()

    def _write(self, slot: _Slot) -> None:
        at = _SLOTS[1 - _SLOTS.index(self._at)]
        self._file.write(at, slot.to_bytes())
        self._file.sync()
        self._slot, self._at = slot, at
        self._erase_other()

    def _erase_other(self) -> None:
        other = _SLOTS[1 - _SLOTS.index(self._at)]
        if any(self._file.read(other, _SLOT_BYTES)):
            self._file.write(other, bytes(_SLOT_BYTES))
            self._file.sync()


def _fresh(random: Callable[[int], bytes]) -> SealingKey:
    return SealingKey(random(SERIES_BYTES), 0, Secret(random(KEY_BYTES)))
