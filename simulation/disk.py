"""A disk in memory that loses, tears, rots, fills up and is copied, all by its seed.

It implements the pads' ``FileSystem`` port. Reads see what was written (the cache); ``sync`` moves it
to the medium; power loss keeps only the medium, plus whatever part of the unsynced writes the seed
lets through, in 512-byte sectors: each lost, kept or torn. The medium remembers freed blocks: what was
punched or removed without having been overwritten is still there for who takes it apart. It overwrites
in place, unlike flash and copy-on-write file systems.

``calls`` counts calls of the port. ``cut_power_after`` and ``fail_after`` strike at a chosen one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from simulation.chance import Chance

SECTOR_BYTES: Final = 512
_LOST: Final = 0.4
_KEPT: Final = 0.4
"""How likely it is that an unsynced sector is lost or kept whole at a crash; the others are torn."""


class PowerFailure(BaseException):
    """The machine is off. Not an ``Exception``: no handler of the code under test may outlive it."""


@dataclass(frozen=True, slots=True)
class DiskImage:
    """A copy of what is on the medium: for rolling a disk back, or for cloning it."""

    files: dict[str, bytes] = field(repr=False)


class Disk:
    """The file system of one machine. Paths are opaque names in one directory."""

    def __init__(self, seed: int | str, capacity_bytes: int | None = None, *, punches: bool = True) -> None:
        self._chance = Chance(seed)
        self._machine = _Machine(self._chance.fork("reads"), capacity_bytes, punches=punches)
        self._durable: dict[str, _Node] = {}

    # ── the port ────────────────────────────────────────────────────────────────────────────────
    def open(self, path: str) -> DiskFile:
        """Open an existing file."""
        self._machine.begin("open")
        node = self._existing(path)
        self._machine.end()
        return DiskFile(self._machine, node)

    def create(self, path: str, size: int) -> DiskFile:
        """Create a file of zeros; its entry is not durable before ``sync_directory``."""
        self._machine.begin("create")
        if path in self._machine.entries:
            raise failure(errno.EEXIST)
        self._machine.require_room(size)
        node = _Node()
        node.write(0, bytes(size))
        self._machine.entries[path] = node
        self._machine.end()
        return DiskFile(self._machine, node)

    def exists(self, path: str) -> bool:
        """Whether the path exists, as running programs see it."""
        self._machine.begin("exists")
        self._machine.end()
        return path in self._machine.entries

    def remove(self, path: str) -> None:
        """Remove a file; not durable before ``sync_directory``."""
        self._machine.begin("remove")
        self._existing(path)
        del self._machine.entries[path]
        self._machine.end()

    def sync_directory(self, path: str) -> None:
        """Make the creation or removal of ``path`` durable."""
        self._machine.begin("sync_directory")
        self._settle_entry(path)
        self._machine.end()

    # ── faults ──────────────────────────────────────────────────────────────────────────────────
    @property
    def calls(self) -> int:
        """How many calls of the port were made so far (closing does not count)."""
        return len(self._machine.trace)

    @property
    def trace(self) -> tuple[str, ...]:
        """The names of those calls."""
        return tuple(self._machine.trace)

    def cut_power_after(self, calls: int) -> None:
        """Let ``calls`` more calls be carried out; the last of them raises ``PowerFailure``."""
        self._machine.cut_at = self.calls + calls

    def fail_after(self, calls: int, error: int = errno.EIO) -> None:
        """Let ``calls`` more calls succeed; the next one raises ``OSError``, without effect."""
        self._machine.fail_at = (self.calls + calls + 1, error)

    def fail_sync_after(self, syncs: int) -> None:
        """Let ``syncs`` more syncs of files succeed; the next one fails as Linux does it.

        It raises, and the pages count as clean from then on, though the medium never got them: reads
        still see them, a later sync succeeds and writes nothing.
        """
        self._machine.syncs_until_failure = syncs

    def shorten_next_read(self) -> None:
        """Let the next read return fewer bytes than it was asked for."""
        self._machine.read_is_short = True

    def heal(self) -> None:
        """Cancel every fault that was ordered and has not struck yet."""
        self._machine.heal()

    @property
    def is_off(self) -> bool:
        """Whether the power was cut and the machine did not start again since."""
        return self._machine.off

    def keep_power(self) -> None:
        """Cancel a power cut that was ordered and has not struck yet."""
        self._machine.cut_at = None

    def abandon(self) -> None:
        """Every file that is open belongs to a process that is gone; the cache stays, unlike at a crash."""
        self._machine.restart(self._machine.entries)

    def limit(self, free_bytes: int | None) -> None:
        """Leave room for so many bytes more from now on; None for as many as one likes."""
        self._machine.capacity_bytes = None if free_bytes is None else self._machine.used() + free_bytes

    def rot(self, path: str, offset: int, mask: int = 1) -> None:
        """Flip bits of one byte."""
        self.overwrite(path, offset, bytes([self.durable(path)[offset] ^ mask]))

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        """Change a file behind the program's back, durably: a partial restore, or an attacker."""
        node = self._durable[path]
        for content in (node.cached, node.durable):
            content[offset : offset + len(data)] = data

    def cut_off(self, path: str, size: int) -> None:
        """Make a file shorter behind the program's back, durably."""
        node = self._durable[path]
        for content in (node.cached, node.durable):
            del content[size:]

    def crash(self) -> None:
        """Cut the power now and restart: open files are gone, unsynced writes are as the seed has it."""
        entries = self._machine.entries
        for path in sorted(entries.keys() | self._durable.keys()):
            if self._chance.random() < _KEPT:
                self._settle_entry(path)
        for node in entries.values():
            if node not in self._durable.values():
                self._machine.residue.append(bytes(node.durable))
        for path in sorted(self._durable):
            self._durable[path].lose_unsynced(self._chance, self._machine.residue)
        self._machine.restart(self._durable)

    # ── copies and inspection ───────────────────────────────────────────────────────────────────
    def image(self) -> DiskImage:
        """Copy what is on the medium now."""
        return DiskImage({path: bytes(node.durable) for path, node in self._durable.items()})

    def copy(self) -> DiskImage:
        """Copy the files as running programs see them: through the caches."""
        return DiskImage({path: bytes(node.cached) for path, node in self._machine.entries.items()})

    def restore(self, image: DiskImage) -> None:
        """Roll the whole disk back, or make it another's clone: open files are gone, freed blocks too."""
        self._machine.residue.clear()
        self._durable = {path: _Node(content) for path, content in image.files.items()}
        self._machine.restart(self._durable)

    def durable(self, path: str) -> bytes:
        """What the medium has of a file; raises ``KeyError`` when its entry is not durable."""
        return bytes(self._durable[path].durable)

    def medium(self, path: str, offset: int, length: int) -> bytes:
        """A part of what the medium has of a file; raises ``KeyError`` as ``durable`` does."""
        return bytes(self._durable[path].durable[offset : offset + length])

    @property
    def residue(self) -> Sequence[bytes]:
        """The blocks that were freed since the start, or since the disk was rolled back, oldest first."""
        return self._machine.residue

    def evidence(self) -> tuple[bytes, ...]:
        """Everything on the medium, in pieces: files, also without a durable entry, and freed blocks."""
        nodes = {id(node): node for node in (*self._durable.values(), *self._machine.entries.values())}
        return (*(bytes(node.durable) for node in nodes.values()), *self._machine.residue)

    def _existing(self, path: str) -> _Node:
        if path not in self._machine.entries:
            raise failure(errno.ENOENT)
        return self._machine.entries[path]

    def _settle_entry(self, path: str) -> None:
        now, before = self._machine.entries.get(path), self._durable.get(path)
        if before is not None and before is not now:
            self._machine.residue.append(bytes(before.durable))
            del self._durable[path]
        if now is not None:
            self._durable[path] = now


class DiskFile:
    """One open file of a ``Disk``; after a crash or restore it is good for nothing but closing."""

    def __init__(self, machine: _Machine, node: _Node) -> None:
        self._machine = machine
        self._node = node
        self._boot = machine.boot
        self._closed = False

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of what was written last, synced or not."""
        self._begin("read")
        if self._machine.read_is_short:
            self._machine.read_is_short = False
            length = self._machine.chance.randrange(length)
        data = bytes(self._node.cached[offset : offset + length])
        self._machine.end()
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Write to the cache."""
        self._begin("write")
        self._machine.require_room(offset + len(data) - len(self._node.cached))
        self._node.write(offset, data)
        self._machine.end()

    def truncate(self, size: int) -> None:
        """Make the file this long; what is cut off becomes residue at the next sync."""
        self._begin("truncate")
        self._machine.require_room(size - len(self._node.cached))
        self._node.truncate(size)
        self._machine.end()

    def punch(self, offset: int, length: int) -> None:
        """Free the blocks of a range, if this disk can."""
        self._begin("punch")
        if self._machine.punches:
            self._node.punch(offset, length)
        self._machine.end()

    def sync(self) -> None:
        """Bring everything of this file to the medium."""
        self._begin("sync")
        if self._machine.sync_must_fail():
            self._node.forget_unsynced()
            raise failure(errno.EIO)
        self._node.sync(self._machine.residue)
        self._machine.end()

    def size(self) -> int:
        """The length as running programs see it."""
        self._begin("size")
        self._machine.end()
        return len(self._node.cached)

    def close(self) -> None:
        """Close; the cache stays with the file. Never fails, so that cleaning up after a crash works."""
        self._closed = True

    def _begin(self, name: str) -> None:
        self._machine.begin(name)
        if self._closed or self._boot != self._machine.boot:
            raise failure(errno.EBADF)


class _Machine:
    """What all files of a disk share while the power is on: the entries in use and the faults to come."""

    def __init__(self, chance: Chance, capacity_bytes: int | None, *, punches: bool) -> None:
        self.chance = chance
        self.capacity_bytes = capacity_bytes
        self.punches = punches
        self.residue: list[bytes] = []
        self.trace: list[str] = []
        self.boot = 0
        self.restart({})

    def restart(self, durable: dict[str, _Node]) -> None:
        """Start from what is on the medium, with no fault to come."""
        self.boot += 1
        self.entries = dict(durable)
        self.off = False
        self.heal()

    def heal(self) -> None:
        """Cancel the faults to come."""
        self.read_is_short = False
        self.syncs_until_failure: int | None = None
        self.cut_at: int | None = None
        self.fail_at: tuple[int, int] | None = None

    def begin(self, name: str) -> None:
        """Count a call, or fail it."""
        if self.off:
            raise PowerFailure
        self.trace.append(name)
        if self.fail_at is not None and len(self.trace) == self.fail_at[0]:
            raise failure(self.fail_at[1])

    def end(self) -> None:
        """The call was carried out; cut the power if it was the last one."""
        if self.cut_at is not None and len(self.trace) >= self.cut_at:
            self.off = True
            raise PowerFailure

    def sync_must_fail(self) -> bool:
        """Count a sync of a file; whether it is the one to fail."""
        if self.syncs_until_failure is None:
            return False
        self.syncs_until_failure -= 1
        if self.syncs_until_failure >= 0:
            return False
        self.syncs_until_failure = None
        return True

    def require_room(self, growth: int) -> None:
        """Refuse a file's growth beyond the disk's size."""
        if self.capacity_bytes is not None and growth > 0 and self.used() + growth > self.capacity_bytes:
            raise failure(errno.ENOSPC)

    def used(self) -> int:
        """The bytes of all files, as running programs see them."""
        return sum(len(node.cached) for node in self.entries.values())


class _Node:
    """One file's bytes: what reads see, what is on the medium, and which sectors differ."""

    def __init__(self, content: bytes = b"") -> None:
        self.cached = bytearray(content)
        self.durable = bytearray(content)
        self._cut_to: int | None = None
        # Sector number -> whether it was punched since the last sync, so that its old block is freed.
        self._dirty: dict[int, bool] = {}

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        first = min(offset, len(self.cached))
        self.cached.extend(bytes(max(0, end - len(self.cached))))
        self.cached[offset:end] = data
        for sector in _sectors(first, end):
            self._dirty.setdefault(sector, False)

    def truncate(self, size: int) -> None:
        before = len(self.cached)
        if size >= before:
            self.write(before, bytes(size - before))
            return
        del self.cached[size:]
        self._cut_to = size if self._cut_to is None else min(size, self._cut_to)
        for sector in [one for one in self._dirty if one * SECTOR_BYTES >= size]:
            del self._dirty[sector]

    def punch(self, offset: int, length: int) -> None:
        self.cached[offset : offset + length] = bytes(length)
        for sector in _sectors(offset, offset + length):
            self._dirty[sector] = True

    def sync(self, residue: list[bytes]) -> None:
        self._settle_length(residue)
        for sector in sorted(self._dirty):
            self._settle_sector(sector, SECTOR_BYTES, residue)
        self._dirty.clear()

    def forget_unsynced(self) -> None:
        """Take the unsynced sectors for written, as a kernel does after a failed sync."""
        del self.durable[len(self.cached) :]
        self.durable.extend(bytes(len(self.cached) - len(self.durable)))
        self._cut_to = None
        self._dirty.clear()

    def lose_unsynced(self, chance: Chance, residue: list[bytes]) -> None:
        """Let chance decide about each unsynced sector; the file ends where the last one came through."""
        if self._cut_to is not None and chance.random() >= _LOST:
            self._settle_length(residue)
        self._cut_to = None
        for sector in sorted(self._dirty):
            fate = chance.random()
            if fate >= _LOST + _KEPT:
                self._settle_sector(sector, chance.randrange(1, SECTOR_BYTES), residue)
            elif fate >= _LOST:
                self._settle_sector(sector, SECTOR_BYTES, residue)
        self._dirty.clear()
        self.cached = bytearray(self.durable)

    def _settle_length(self, residue: list[bytes]) -> None:
        """Cut off what was truncated; its blocks are freed, not overwritten."""
        if self._cut_to is not None:
            gone = bytes(self.durable[self._cut_to :])
            if any(gone):
                residue.append(gone)
            del self.durable[self._cut_to :]
            self._cut_to = None

    def _settle_sector(self, sector: int, cut: int, residue: list[bytes]) -> None:
        """Bring the first ``cut`` bytes of a sector to the medium."""
        start = sector * SECTOR_BYTES
        new = bytes(self.cached[start : start + cut])
        old = bytes(self.durable[start : start + SECTOR_BYTES])
        if self._dirty[sector] and any(old):
            residue.append(old)
        self.durable.extend(bytes(max(0, start + len(new) - len(self.durable))))
        self.durable[start : start + len(new)] = new


def failure(number: int) -> OSError:
    """The error that a real system raises for this errno."""
    return OSError(number, os.strerror(number))


def _sectors(start: int, end: int) -> range:
    return range(start // SECTOR_BYTES, -(-end // SECTOR_BYTES))
