"""Looks into the store of a daemon that does not run: its realm file, and whom a hub enrolled.

Nothing is migrated or written; a store of another version is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from skex.daemon.config import HubConfig, KmeConfig
from skex.daemon.master import read_master_key
from skex.daemon.starting import STORE_FILE, locked
from skex.runtime import clock, entropy
from skex.store.database import Database, StoreKind
from skex.store.hub import HubStore
from skex.store.kme import KmeStore
from skex.store.opened import open_unmigrated
from skex.store.sealing import Sealer
from skex.wire.realm import Realm


@dataclass(frozen=True, slots=True)
class Looked:
    """What the store knows; ``kmes`` is None for a KME, which enrols nobody."""

    realm: Realm | None = None
    kmes: frozenset[str] | None = None


def look(config: HubConfig | KmeConfig) -> Looked:
    """What the store of a stopped daemon says of its realm.

    Raises ``StoreFault``: home-in-use, home-missing, master-key-invalid, store-*; ``Refused``: realm-*.
    """
    is_hub = isinstance(config, HubConfig)
    with locked(config.home):
        master = read_master_key(config.home)
        try:
            kind = StoreKind.HUB if is_hub else StoreKind.KME
            path = str(config.home / STORE_FILE)
            database, sealer = open_unmigrated(path, kind, master, entropy.random_bytes)
        finally:
            master.wipe()
        try:
            if not database.is_current:
                return Looked()
            return _hub(database, sealer) if is_hub else _kme(database, sealer)
        finally:
            database.close()
            sealer.wipe()


def _hub(database: Database, sealer: Sealer) -> Looked:
    store = HubStore(database, sealer)
    names = set()
    for one in store.links():
        names.add(str(one.link.kme))
        one.link.key.wipe()
    data = store.realm()
    return Looked(None if data is None else Realm.from_bytes(data), frozenset(names))


def _kme(database: Database, sealer: Sealer) -> Looked:
    held = KmeStore(database, sealer, clock.unix_seconds).load(0.0).realm
    return Looked(None if held is None else Realm.from_bytes(held.data))
