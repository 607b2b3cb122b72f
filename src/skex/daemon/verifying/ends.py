"""Opens homes to look at them: a stopped daemon's under its lock, a running one's pad files only.

A store is never migrated; SQLite may bring its own log home, as at every start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skex.audit import events
from skex.audit.chain import Record
from skex.base import codes
from skex.base.errors import StoreFault
from skex.base.ids import Direction, LinkId
from skex.daemon import config
from skex.daemon.config import HubConfig, KmeConfig
from skex.daemon.master import read_master_key
from skex.daemon.starting import (
    PADS_DIRECTORY,
    STORE_FILE,
    locked,
)
from skex.runtime import clock, entropy
from skex.runtime.auditfile import lines_of, segments
from skex.runtime.files import DiskFileSystem
from skex.store.database import StoreKind
from skex.store.hub import HubStore
from skex.store.kme import KmeStore
from skex.store.links import EnrolledLink
from skex.store.opened import open_unmigrated
from skex.store.sealing import Sealer
from skex.wire.preface import Marks

_PAD_NAME: Final = re.compile(r"([0-9a-f]{16})-to-(?:hub|kme)\.pad")


@dataclass(frozen=True, slots=True)
class Home:
    """One home, opened. ``store`` is None while a daemon runs in it. ``label`` is unique among homes."""

    path: Path
    label: str
    settings: HubConfig | KmeConfig
    store: HubStore | KmeStore | None

    @property
    def is_hub(self) -> bool:
        """Whose home it is."""
        return isinstance(self.settings, HubConfig)

    @property
    def pads(self) -> DiskFileSystem:
        """Where its pad files are."""
        return DiskFileSystem(self.path / PADS_DIRECTORY)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store keeps of its end of a link, and how the pads of that end are sealed."""

    link: EnrolledLink
    marks: Marks
    sealer: Sealer


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """One home's end of one link; of a running daemon's, only the link's id is known."""

    home: Home
    link_id: LinkId
    kept: Kept | None
    was_rolled_back: bool = False

    @property
    def label(self) -> str:
        """Whose end it is."""
        return self.home.label

    def mark(self, direction: Direction) -> int:
        """The store's mark; 0 where no store is seen."""
        if self.kept is None:
            return 0
        return self.kept.marks.to_hub if direction is Direction.TO_HUB else self.kept.marks.to_kme


def settings_of(path: Path) -> HubConfig | KmeConfig:
    """The configuration of a home, whichever daemon's it is. Raises ``Refused``, ``StoreFault``."""
    if not path.is_dir():
        raise StoreFault(codes.HOME_MISSING, str(path))
    if (path / config.HUB_FILE).exists():
        return config.load_hub(path)
    return config.load_kme(path)


@contextmanager
def opened(paths: Sequence[Path]) -> Iterator[tuple[Home, ...]]:
    """Open homes, each once, and hold their locks meanwhile.

    Raises ``StoreFault``: home-missing, master-key-invalid, store-*; ``Refused``: config-*.
    """
    with ExitStack() as stack:
        found = [(path, settings_of(path)) for path in dict.fromkeys(one.resolve() for one in paths)]
        names = [settings.name for _, settings in found]
        yield tuple(
            Home(
                path,
                settings.name if names.count(settings.name) == 1 else f"{settings.name} in {path}",
                settings,
                _store(stack, path, settings),
            )
            for path, settings in found
        )


def _store(stack: ExitStack, path: Path, settings: HubConfig | KmeConfig) -> HubStore | KmeStore | None:
    try:
        # A lock that is not there is not made: made as another user, it would keep the daemon out.
        if (path / "lock").exists():
            stack.enter_context(locked(path))
    except StoreFault as error:
        if error.code is codes.HOME_IN_USE:
            return None
        raise
    master = read_master_key(path)
    kind = StoreKind.HUB if isinstance(settings, HubConfig) else StoreKind.KME
    try:
        database, sealer = open_unmigrated(str(path / STORE_FILE), kind, master, entropy.random_bytes)
    finally:
        master.wipe()
    with database.closed_on_error():
        if not database.is_current:
            raise StoreFault(codes.STORE_OUTDATED, str(path))
        store = (
            HubStore(database, sealer)
            if kind is StoreKind.HUB
            else KmeStore(database, sealer, clock.unix_seconds)
        )
    stack.callback(store.close)
    return store


def link_ends(home: Home) -> Iterator[LinkEnd]:
    """Every link of a home: those its store knows, or else those it has pad files of."""
    if home.store is None:
        for link_id in sorted(_pad_links(home)):
            yield LinkEnd(home, link_id, None)
        return
    alarmed = _alarms(home)
    unsettled = isinstance(home.store, KmeStore) and home.store.load(clock.now()).rollback_found is not None
    for stored in home.store.links():
        stored.link.key.wipe()
        link_id = stored.link.link_id
        frozen = codes.ROLLBACK_FOUND.name in stored.frozen
        noticed = unsettled or frozen or link_id.hex() in alarmed
        kept = Kept(stored.link, home.store.marks(link_id), home.store.sealer)
        yield LinkEnd(home, link_id, kept, was_rolled_back=noticed)


def _pad_links(home: Home) -> set[LinkId]:
    names = (path.name for path in (home.path / PADS_DIRECTORY).iterdir())
    return {LinkId(bytes.fromhex(match[1])) for name in names if (match := _PAD_NAME.fullmatch(name))}


def _alarms(home: Home) -> set[str]:
    """The links of which this end's audit log says that it was rolled back."""
    found: set[str] = set()
    wanted = f'"event":"{events.ROLLBACK_NOTICED.name}"'.encode()
    for segment in segments(home.settings.audit.directory):
        for line, _ in lines_of(segment):
            record = Record.from_line(line) if wanted in line else None
            if record is not None:
                found.update(record.subjects.get("link", ()))
    return found
