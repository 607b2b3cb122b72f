"""Looks at a pad file without changing it, for whoever examines a home; taking is not done here.

Opening a pad erases what lies below its mark. Looking must leave everything as it is, also beside a
daemon that uses the file.
"""

from __future__ import annotations

from dataclasses import dataclass

from skex.pad import derived, table
from skex.pad.files import FileSystem, translated
from skex.pad.kinds import PadKind
from skex.pad.layout import HEADER_BYTES, Identity, read_identity, require_size


@dataclass(frozen=True, slots=True)
class Seen:
    """What a whole pad file says: who it is, and its own mark (the store's may be higher)."""

    identity: Identity
    mark: int


def look(fs: FileSystem, path: str) -> Seen:
    """Read who a pad file is and its mark; whose it should be is the caller's to compare.

    Raises ``StoreFault``: pad-io (also if it is missing), pad-short-read, pad-corrupt.
    """
    with translated():
        file = fs.open(path)
        try:
            identity = read_identity(file)
            if identity.kind is PadKind.TABLE:
                require_size(file, table.required_size(identity))
                return Seen(identity, table.own_mark(file, identity))
            require_size(file, HEADER_BYTES)
            return Seen(identity, derived.own_mark(file, identity))
        finally:
            file.close()
