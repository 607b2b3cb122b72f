"""Makes a backup of a home, of which the daemon may be running.

The state of enrolment comes from the store in one read between two commits; the audit log only grows, so
that any part of it up to the end of a line is a log. Nothing here opens a pad or a key file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import skex
from skex.base import codes, limits
from skex.base.errors import Refused, StoreFault
from skex.base.ids import RealmName
from skex.base.secret import Secret
from skex.daemon.backup.container import ID_BYTES, BackupWriter, DaemonKind, Header, Sink
from skex.daemon.backup.contents import FileEntry, FileRole, Manifest, State, is_plain, path_in_backup
from skex.daemon.config import HUB_FILE, KME_FILE, HubConfig, KmeConfig
from skex.enrol.passphrase import DEFAULT_COST, SALT_BYTES, Cost, stretch
from skex.runtime import clock, entropy
from skex.runtime.auditfile import segments
from skex.store.hub import HubStore
from skex.wire.realm import Realm

if TYPE_CHECKING:
    from skex.store.kme import KmeStore

LENGTH_BYTES: Final = 4
"""The manifest's length, before it."""
_PRIVATE_KEY: Final = re.compile(rb"PRIVATE KEY-----")
_PIECE: Final = limits.BACKUP_CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Part:
    """A file on its way into a backup: its bytes, or where they are."""

    entry: FileEntry
    data: bytes | Path


@dataclass(frozen=True, slots=True)
class MadeBackup:
    """A backup that was written."""

    header: Header
    manifest: Manifest


def new_backup_id() -> bytes:
    """What audit records and people know a backup by."""
    return entropy.random_bytes(ID_BYTES)


def state_of_hub(store: HubStore) -> State:
    """The state of a hub's enrolment; to be called on the store's thread."""
    return State(store.realm(), store.link_records())


def state_of_kme(store: KmeStore) -> State:
    """The state of a KME's enrolment; to be called on the store's thread."""
    return State(store.trusted_realm(), store.link_records())


def make(
    sink: Sink,
    config: HubConfig | KmeConfig,
    *,
    configuration: Path,
    backup_id: bytes,
    state: State,
    passphrase: Secret,
    cost: Cost = DEFAULT_COST,
) -> MadeBackup:
    """Write a backup; the caller syncs it. ``configuration`` is the file that ``config`` was read from.

    Raises ``Refused``: backup-too-large, backup-path; ``StoreFault``: file-io, audit-io.
    """
    parts = tuple(_parts(config, configuration))
    manifest = Manifest(skex.__version__, state, tuple(part.entry for part in parts))
    encoded = manifest.to_bytes()
    size = LENGTH_BYTES + len(encoded) + sum(part.entry.size for part in parts)
    _check_bounds(len(encoded), len(state.links), len(parts), size)
    header = Header(
        backup_id=backup_id,
        daemon=DaemonKind.HUB if isinstance(config, HubConfig) else DaemonKind.KME,
        name=config.name,
        realm=_realm_name(state),
        created=clock.unix_seconds(),
        content_bytes=size,
        salt=entropy.random_bytes(SALT_BYTES),
        cost=cost,
    )
    stretched = stretch(passphrase, header.salt, cost)
    writer = BackupWriter(sink, header, stretched)
    stretched.wipe()
    writer.write(len(encoded).to_bytes(LENGTH_BYTES, "big") + encoded)
    for part in parts:
        for piece in _pieces(part):
            writer.write(piece)
    writer.finish()
    return MadeBackup(header, manifest)


def _realm_name(state: State) -> RealmName | None:
    return None if state.realm is None else Realm.from_bytes(state.realm).name


def _check_bounds(manifest: int, links: int, files: int, content: int) -> None:
    """What a reader would refuse must not be written. Raises ``Refused`` (backup-too-large)."""
    for what, value, most in (
        ("bytes of links and paths", manifest, limits.BACKUP_MANIFEST_BYTES),
        ("links", links, limits.BACKUP_LINKS),
        ("files", files, limits.BACKUP_FILES),
        ("bytes", content, limits.BACKUP_BYTES),
    ):
        if value > most:
            raise Refused(codes.BACKUP_TOO_LARGE, f"{value} {what}, at most {most}")


# ── files ───────────────────────────────────────────────────────────────────────────────────────
def _parts(config: HubConfig | KmeConfig, configuration: Path) -> Iterator[Part]:
    """Every file that a backup of this home holds."""
    own = HUB_FILE if isinstance(config, HubConfig) else KME_FILE
    yield _whole(FileRole.CONFIGURATION, own, _read(configuration))
    yield _in_home(config, FileRole.POLICY, config.policy)
    for role, path in _optional(config):
        if path.is_file() and not _holds_a_key(part := _in_home(config, role, path)):
            yield part
    if config.audit.directory.is_dir():
        yield from _log(config)


def _optional(config: HubConfig | KmeConfig) -> Iterable[tuple[FileRole, Path]]:
    """Files that a home may do without. Of certificates, the private key stays where it is."""
    if isinstance(config, HubConfig):
        return ((FileRole.REALM, config.realm),)
    door = config.etsi014
    return ((FileRole.CERTIFICATE, door.certificate), (FileRole.CERTIFICATE, door.client_ca))


def _holds_a_key(part: Part) -> bool:
    """Whether somebody keeps a certificate and its private key in one file: then both stay at home."""
    return isinstance(part.data, bytes) and _PRIVATE_KEY.search(part.data) is not None


def _in_home(config: HubConfig | KmeConfig, role: FileRole, path: Path) -> Part:
    return _whole(role, _place(config, path), _read(path))


def _whole(role: FileRole, place: str, data: bytes) -> Part:
    return Part(FileEntry(role, place, len(data)), data)


def _log(config: HubConfig | KmeConfig) -> Iterator[Part]:
    """The audit log; a line of the newest segment that is being written now is left out."""
    found = segments(config.audit.directory)
    for segment in found:
        size = _size(segment) if segment != found[-1] else _whole_lines(segment)
        yield Part(FileEntry(FileRole.AUDIT, _place(config, segment), size), segment)


def _place(config: HubConfig | KmeConfig, path: Path) -> str:
    """Where a file stands in the backup. Raises ``Refused`` (backup-path)."""
    absolute = (PurePosixPath(os.path.abspath(one)) for one in (path, config.home))  # noqa: PTH100 - lexically
    place = path_in_backup(*absolute)
    if not is_plain(place):
        raise Refused(codes.BACKUP_PATH, str(path))
    return place


def _read(path: Path) -> bytes:
    """A small file, whole. Raises ``StoreFault`` (file-io), ``Refused`` (backup-too-large)."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.BACKUP_FILE_BYTES + 1)
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"{path}: {error.strerror}") from error
    if len(data) > limits.BACKUP_FILE_BYTES:
        raise Refused(codes.BACKUP_TOO_LARGE, f"{path} has more than {limits.BACKUP_FILE_BYTES} bytes")
    return data


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"{path}: {error.strerror}") from error


def _whole_lines(path: Path) -> int:
    """How long the file is up to the end of its last whole line."""
    size = _size(path)
    with path.open("rb") as file:
        while size:
            begin = max(0, size - _PIECE)
            file.seek(begin)
            at = file.read(size - begin).rfind(b"\n")
            if at >= 0:
                return begin + at + 1
            size = begin
    return 0


def _pieces(part: Part) -> Iterator[bytes]:
    """A file's bytes, as many as its entry says. Raises ``StoreFault`` (file-io)."""
    if isinstance(part.data, bytes):
        yield part.data
        return
    left = part.entry.size
    try:
        with part.data.open("rb") as file:
            while left and (piece := file.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"{part.data}: {error.strerror}") from error
    if left:
        raise StoreFault(codes.FILE_IO, f"{part.data} became shorter while it was read")
