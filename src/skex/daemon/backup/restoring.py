"""Makes a home of a backup: everything is checked before the home counts, and no link works in it.

The master key is a new one, so nothing that the old home sealed opens here. Links come back as records
that await new kits; their ids stay taken, so that a kit that was used is not used again. A KME's realm
file comes back past its age: it vouches for nothing, but no kit may bring an older one.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from skex.audit import events
from skex.audit.events import Event
from skex.audit.fields import Digest
from skex.base import codes, limits
from skex.base.errors import Refused
from skex.base.ids import HubName, KmeName
from skex.base.secret import Secret
from skex.daemon import config as configuration
from skex.daemon.auditing import opening_of
from skex.daemon.backup.container import BackupReader, DaemonKind, Header
from skex.daemon.backup.contents import OUTSIDE, FileEntry, Manifest
from skex.daemon.backup.making import LENGTH_BYTES
from skex.daemon.config import HubConfig, KmeConfig
from skex.daemon.evidence import operator
from skex.daemon.homes import NO_REALM_YET, make_directories, new_home, new_master_key
from skex.daemon.starting import STORE_FILE
from skex.enrol.passphrase import stretch
from skex.runtime import clock, entropy
from skex.runtime.auditfile import open_audit
from skex.runtime.files import DiskFile, sync_directory
from skex.store.hub import HubStore
from skex.store.links import LinkRecord
from skex.wire.realm import Realm

_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_PIECE: Final = limits.BACKUP_CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Contents:
    """A backup that was opened, up to its manifest."""

    header: Header
    manifest: Manifest

    @property
    def awaiting(self) -> tuple[LinkRecord, ...]:
        """The links that were enrolled: each will need a new kit."""
        enrolled = (link for link in self.manifest.state.links if link.removed is None)
        return tuple(sorted(enrolled, key=lambda link: (link.hub, link.kme)))

    @property
    def outside(self) -> tuple[str, ...]:
        """Where the files lay that were outside the home."""
        prefix = OUTSIDE + "/"
        return tuple(
            "/" + one.path.removeprefix(prefix) for one in self.manifest.files if one.path.startswith(prefix)
        )


def unlock(reader: BackupReader, passphrase: Secret) -> Contents:
    """Open a backup and read its manifest.

    Raises ``Refused``: backup-passphrase, backup-damaged, backup-malformed, realm-*; ``StoreFault``
    (file-io).
    """
    header = reader.header
    stretched = stretch(passphrase, header.salt, header.cost)
    reader.unlock(stretched)
    stretched.wipe()
    length = int.from_bytes(reader.take(LENGTH_BYTES), "big")
    if not 1 <= length <= limits.BACKUP_MANIFEST_BYTES:
        raise Refused(codes.BACKUP_MALFORMED, f"a manifest of {length} bytes")
    manifest = Manifest.from_bytes(reader.take(length))
    if header.content_bytes != LENGTH_BYTES + length + sum(one.size for one in manifest.files):
        raise Refused(codes.BACKUP_MALFORMED, "its files do not fill it")
    return Contents(header, manifest)


def examine(reader: BackupReader, contents: Contents) -> None:
    """Check a backup to its end without keeping anything. Raises as ``unlock`` does."""
    for entry in contents.manifest.files:
        left = entry.size
        while left:
            left -= len(reader.take(min(left, _PIECE)))
    reader.finish()


def restore(home: Path, reader: BackupReader, contents: Contents) -> HubConfig | KmeConfig:
    """Make ``home`` of the backup; its configuration.

    Raises ``Refused``: home-exists, backup-*, config-*, realm-*; ``StoreFault``: home-io, home-in-use,
    file-io, store-*, audit-io. There is no home then.
    """
    header = contents.header
    with new_home(home):
        make_directories(home)
        for entry in contents.manifest.files:
            _write(home, entry, reader)
        reader.finish()
        config = _configuration(home, header)
        master = new_master_key(home)
        try:
            _make_store(home, contents, master)
        finally:
            master.wipe()
        _record(config, contents)
    return config


def _write(home: Path, entry: FileEntry, reader: BackupReader) -> None:
    path = home / entry.path
    for directory in reversed(path.relative_to(home).parents):
        (home / directory).mkdir(_DIRECTORY_MODE, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, _FILE_MODE)
    try:
        file, offset = DiskFile(descriptor), 0
        while offset < entry.size:
            piece = reader.take(min(entry.size - offset, _PIECE))
            file.write(offset, piece)
            offset += len(piece)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def _configuration(home: Path, header: Header) -> HubConfig | KmeConfig:
    """The restored configuration, which must be of the daemon that the header names."""
    config: HubConfig | KmeConfig
    if header.daemon is DaemonKind.HUB:
        config = configuration.load_hub(home, home / configuration.HUB_FILE)
    else:
        config = configuration.load_kme(home, home / configuration.KME_FILE)
    if config.name != header.name:
        raise Refused(codes.BACKUP_MALFORMED, f"of {header.name}, with the configuration of {config.name}")
    return config


def _make_store(home: Path, contents: Contents, master: Secret) -> None:
    header, state, path = contents.header, contents.manifest.state, str(home / STORE_FILE)
    realm = NO_REALM_YET if header.realm is None else header.realm
    if header.daemon is DaemonKind.HUB:
        name = HubName(header.name)
        with closing(
            HubStore.create(path, master, entropy.random_bytes, clock.unix_seconds, name=name, realm=realm)
        ) as hub:
            hub.bring_back(state.links, clock.unix_seconds())
            if state.realm is not None:
                hub.set_realm(Realm.from_bytes(state.realm).epoch, state.realm)
        return
    # The store of a KME imports all its machines; a hub's commands do without them.
    from skex.store.kme import KmeStore  # noqa: PLC0415  # start-up is most of a command's time

    kme_name = KmeName(header.name)
    with closing(
        KmeStore.create(
            path, master, entropy.random_bytes, clock.unix_seconds, name=kme_name, realm=NO_REALM_YET
        )
    ) as kme:
        kme.bring_back(state.links, clock.unix_seconds())
        if state.realm is not None:
            kme.bring_back_realm(state.realm)


def _record(config: HubConfig | KmeConfig, contents: Contents) -> None:
    """The restored log goes on with the restore."""
    audit = open_audit(config.audit.directory, replace(opening_of(config), is_restored=True))
    try:
        note = f"{len(contents.awaiting)} links await new kits"
        details = {"backup": Digest(contents.header.backup_id), "note": note}
        audit.emit(Event(events.BACKUP_RESTORED, operator(), details=details))
    finally:
        audit.close()
