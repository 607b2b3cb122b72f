"""A file layer for SQLite that fails when it is told to, around the real one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import apsw

NAME = "skex-faulty"


@dataclass
class Faults:
    """When the next write or sync fails, and how; ``calls`` counts them all."""

    calls: int = 0
    fail_at: int | None = None
    error: type[apsw.Error] = apsw.IOError
    read_only: bool = False
    log_calls: list[tuple[str, int, bytes]] = field(default_factory=list)
    """Writes, syncs and truncations of the write-ahead log: what, where, the bytes."""

    def strike(self) -> None:
        """Fail from the chosen call on: a disk that broke stays broken."""
        self.calls += 1
        if self.fail_at is not None and self.calls >= self.fail_at:
            raise self.error

    def heal(self) -> None:
        """Nothing fails any more."""
        self.fail_at = None


class _File(apsw.VFSFile):
    def __init__(self, faults: Faults, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._faults = faults
        self._is_log = str(name).endswith("-wal") or (
            isinstance(name, apsw.URIFilename) and name.filename().endswith("-wal")
        )
        if faults.read_only:
            flags[1] |= apsw.SQLITE_OPEN_READONLY

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        self._faults.strike()
        self._note("write", offset, data)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        self._faults.strike()
        self._note("sync")
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        self._faults.strike()
        self._note("truncate", newsize)
        super().xTruncate(newsize)

    def _note(self, what: str, where: int = 0, data: bytes = b"") -> None:
        if self._is_log:
            self._faults.log_calls.append((what, where, bytes(data)))


class FaultyDisk(apsw.VFS):
    """Registered under ``NAME`` while it lives."""

    def __init__(self) -> None:
        super().__init__(NAME, "")
        self.faults = Faults()

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _File(self.faults, name, flags)
