"""What stands in a backup: the state of enrolment, and files of the home.

::

    content    manifest length u32 ‖ manifest ‖ the files' bytes, one behind the other
    manifest   deterministic CBOR: [skex version, state, files]
    state      [realm file or null, links]
    link       [link id (8), realm, hub, KME, pad kind, capacity to hub, capacity to KME, enrolment,
               created, suspended, removed or null, [error codes it was frozen with]]
    file       [role, path, bytes]

There is no place in it for a key, a chain state or a mark. Paths are relative and plain; those of files
that lay outside the home begin with ``outside/``. Parsing is total.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import PurePosixPath
from typing import Final

from skex.base import codes, ids, limits
from skex.base.errors import PeerFault, Refused
from skex.base.ids import LinkId
from skex.crypto.kdf import LINK_ID_BYTES
from skex.pad.kinds import PadKind
from skex.store.links import LinkRecord
from skex.wire.claim import Enrolment
from skex.wire.codec import UINT_MAX, Fields, Value, decode, encode, is_strictly_ascending
from skex.wire.realm import Realm

OUTSIDE: Final = "outside"
"""The directory of files that lay elsewhere than in the home: restoring leaves their places alone."""
_PART: Final = re.compile(r"[A-Za-z0-9_+=@%,~-][A-Za-z0-9._+=@%,~ -]{0,127}")
_TAKEN: Final = frozenset(
    {
        "store.sqlite",
        "store.sqlite-wal",
        "master.key",
        "master.key.next",
        "master.sealed",
        "master.sealed.next",
        "audit.sealing",
        "lock",
        "pads",
        "ports.json",
    }
)
"""What a home holds that no backup brings."""
_CODE: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_VERSION_CHARACTERS: Final = 64
_FREEZES: Final = 16


class FileRole(IntEnum):
    """What a file of a home is."""

    CONFIGURATION = 1
    POLICY = 2
    REALM = 3
    CERTIFICATE = 4
    AUDIT = 5

    @property
    def word(self) -> str:
        """As people name it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: what it is, where in the home it belongs, how long it is."""

    role: FileRole
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class State:
    """The state of enrolment. ``realm`` is the newest realm file that was trusted, or served."""

    realm: bytes | None
    links: tuple[LinkRecord, ...]

    def to_value(self) -> Value:
        """As it is encoded."""
        return [self.realm, [_link_value(link) for link in self.links]]

    def to_bytes(self) -> bytes:
        """The canonical state, as a running daemon hands it out."""
        return encode(self.to_value())

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """Read a state. Raises ``Refused`` (backup-malformed)."""
        try:
            return _read_state(Fields(decode(data, limits.BACKUP_MANIFEST_BYTES)))
        except (PeerFault, Refused) as error:
            raise Refused(codes.BACKUP_MALFORMED, error.detail) from error


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. ``version`` is that of the skex that made it."""

    version: str
    state: State
    files: tuple[FileEntry, ...]

    def to_bytes(self) -> bytes:
        """The canonical manifest."""
        files: Value = [[int(one.role), one.path, one.size] for one in self.files]
        return encode([self.version, self.state.to_value(), files])

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest. Raises ``Refused`` (backup-malformed)."""
        try:
            return _read(Fields(decode(data, limits.BACKUP_MANIFEST_BYTES)))
        except (PeerFault, Refused) as error:
            raise Refused(codes.BACKUP_MALFORMED, error.detail) from error

    def of_role(self, role: FileRole) -> tuple[FileEntry, ...]:
        """The files of one role."""
        return tuple(one for one in self.files if one.role is role)


def _read(fields: Fields) -> Manifest:
    version = fields.text(_VERSION_CHARACTERS)
    state = _read_state(fields.fields())
    files = fields.repeated(1, limits.BACKUP_FILES, _read_file)
    fields.finish()
    _check_paths([one.path for one in files])
    return Manifest(version, state, files)


def _read_state(fields: Fields) -> State:
    realm = None if fields.null() else fields.blob(1, limits.REALM_FILE_BYTES)
    links = fields.repeated(0, limits.BACKUP_LINKS, _read_link)
    fields.finish()
    if len({link.link_id for link in links}) != len(links):
        raise Refused(codes.BACKUP_MALFORMED, "a link stands in it twice")
    if realm is not None:
        Realm.from_bytes(realm)
    return State(realm, links)


def _link_value(link: LinkRecord) -> Value:
    return [
        link.link_id,
        link.realm,
        link.hub,
        link.kme,
        int(link.kind),
        link.capacity_to_hub,
        link.capacity_to_kme,
        int(link.enrolment),
        link.created,
        int(link.suspended),
        link.removed,
        list(link.frozen),
    ]


def _read_link(outer: Fields) -> LinkRecord:
    fields = outer.fields()
    link_id = LinkId(fields.blob(LINK_ID_BYTES))
    realm = ids.parse_realm_name(_name(fields))
    hub = ids.parse_hub_name(_name(fields))
    kme = ids.parse_kme_name(_name(fields))
    kind = PadKind(fields.uint(min(PadKind), max(PadKind)))
    to_hub, to_kme = (fields.uint(1, limits.PAD_POSITION_MAX) for _ in range(2))
    enrolment = Enrolment(fields.uint(min(Enrolment), max(Enrolment)))
    created = fields.uint(0, _STORED_MAX)
    suspended = bool(fields.uint(0, 1))
    removed = None if fields.null() else fields.uint(0, _STORED_MAX)
    frozen = fields.repeated(0, _FREEZES, _read_code)
    fields.finish()
    if not is_strictly_ascending(frozen):
        raise Refused(codes.BACKUP_MALFORMED, "codes out of their order")
    return LinkRecord(
        link_id, realm, hub, kme, kind, to_hub, to_kme, enrolment, created, suspended, removed, frozen
    )


_STORED_MAX: Final = UINT_MAX >> 1
"""What an SQLite integer holds."""


def _read_code(fields: Fields) -> str:
    code = fields.text(limits.NAME_CHARACTERS)
    if not _CODE.fullmatch(code):
        raise Refused(codes.BACKUP_MALFORMED, "a code of another form")
    return code


def _read_file(outer: Fields) -> FileEntry:
    fields = outer.fields()
    role = FileRole(fields.uint(min(FileRole), max(FileRole)))
    path = fields.text(limits.BACKUP_PATH_CHARACTERS)
    size = fields.uint(0, limits.BACKUP_BYTES)
    fields.finish()
    return FileEntry(role, path, size)


def _name(fields: Fields) -> str:
    return fields.text(limits.NAME_CHARACTERS)


# ── paths ───────────────────────────────────────────────────────────────────────────────────────
def is_plain(path: str) -> bool:
    """Whether a path can stand in a backup: relative, without dots that lead elsewhere, and not taken."""
    parts = path.split("/")
    depth = 1 <= len(parts) <= limits.BACKUP_PATH_DEPTH
    if not depth or len(path) > limits.BACKUP_PATH_CHARACTERS or parts[0] in _TAKEN:
        return False
    return all(_PART.fullmatch(part) and not part.endswith(" ") for part in parts)


def path_in_backup(path: PurePosixPath, home: PurePosixPath) -> str:
    """Where a file of a configuration stands in a backup; both paths are absolute."""
    if path.is_relative_to(home):
        return str(path.relative_to(home))
    return "/".join((OUTSIDE, *path.parts[1:]))


def _check_paths(paths: Iterable[str]) -> None:
    seen: set[str] = set()
    directories: set[str] = set()
    for path in paths:
        if not is_plain(path) or path in seen:
            raise Refused(codes.BACKUP_MALFORMED, "a path that is not plain, or stands in it twice")
        seen.add(path)
        directories.update(str(parent) for parent in PurePosixPath(path).parents)
    if seen & directories:
        raise Refused(codes.BACKUP_MALFORMED, "a file where a directory is")
