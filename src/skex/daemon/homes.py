"""Making homes: every file of a new daemon, private from its first byte, all of them or none.

A marker stands in a home from its first file to its last. What a crash left half made is known by it
and made anew; anything else that is there already is never touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from skex.base import codes
from skex.base.errors import Refused, StoreFault
from skex.base.ids import HubName, KmeName, RealmName
from skex.base.secret import Secret
from skex.daemon import config, config_text
from skex.daemon.master import MASTER_KEY_FILE
from skex.daemon.options import Layout
from skex.daemon.starting import (
    PADS_DIRECTORY,
    STORE_FILE,
    locked,
)
from skex.policy.starters import default_hub_policy, default_kme_policy
from skex.runtime import clock, entropy
from skex.runtime.files import sync_directory, write_private
from skex.store.hub import HubStore
from skex.store.sealing import MASTER_KEY_BYTES
from skex.wire.realm import Realm

INCOMPLETE: Final = ".incomplete"
"""The marker of a home that is being made."""
REALM_FILE: Final = "realm.cbor"
POLICY_FILE: Final = "policy.toml"
AUDIT_DIRECTORY: Final = "audit"
NO_REALM_YET: Final = RealmName("")
"""What a KME's store says of its realm until kits bring one."""
_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_LOCK_FILE: Final = "lock"


def init_hub(home: Path, name: HubName, realm: bytes, stated: Mapping[str, Any]) -> None:
    """Make a hub's home. ``stated`` are options beyond the name; ``realm`` the canonical realm file.

    Raises ``Refused``: hub-not-in-realm, realm-*, home-exists; ``StoreFault``: home-io, home-in-use.
    """
    parsed = Realm.from_bytes(realm)
    if parsed.hub_named(name) is None:
        raise Refused(codes.HUB_NOT_IN_REALM, f"{name} in {parsed.name}, epoch {parsed.epoch}")
    with new_home(home):
        make_directories(home)
        write_private(home / REALM_FILE, realm)
        write_private(home / POLICY_FILE, default_hub_policy().encode())
        master = new_master_key(home)
        store = HubStore.create(
            str(home / STORE_FILE),
            master,
            entropy.random_bytes,
            clock.unix_seconds,
            name=name,
            realm=parsed.name,
        )
        try:
            store.set_realm(parsed.epoch, realm)
        finally:
            store.close()
        _configure(home / config.HUB_FILE, config.HUB, {"name": name, **stated})


def init_kme(home: Path, name: KmeName, stated: Mapping[str, Any]) -> None:
    """Make a KME's home; see ``init_hub``. Its realm comes with its first kits."""
    # The store of a KME imports all its machines; a hub's commands do without them.
    from skex.store.kme import KmeStore  # noqa: PLC0415  # start-up is most of a command's time

    with new_home(home):
        make_directories(home)
        write_private(home / POLICY_FILE, default_kme_policy().encode())
        master = new_master_key(home)
        KmeStore.create(
            str(home / STORE_FILE),
            master,
            entropy.random_bytes,
            clock.unix_seconds,
            name=name,
            realm=NO_REALM_YET,
        ).close()
        _configure(home / config.KME_FILE, config.KME, {"name": name, **stated})


@contextmanager
def new_home(home: Path) -> Iterator[None]:
    """An empty, locked, marked home; on any error what was made in it is gone again."""
    try:
        created = _directory_of_ours(home)
        with locked(home):
            _clear(home)
            try:
                yield
                sync_directory(home)
                (home / INCOMPLETE).unlink()
                sync_directory(home)
            except BaseException:
                _clear(home)
                (home / INCOMPLETE).unlink(missing_ok=True)
                (home / _LOCK_FILE).unlink(missing_ok=True)
                if created:
                    home.rmdir()
                raise
    except OSError as error:
        raise StoreFault(codes.HOME_IO, f"{error.filename or home}: {error.strerror}") from error


def _directory_of_ours(home: Path) -> bool:
    """Create the directory, or take one that is empty or half made; whether it was created."""
    created = not home.exists()
    home.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
    if not home.is_dir() or ({one.name for one in home.iterdir()} and not (home / INCOMPLETE).exists()):
        raise Refused(codes.HOME_EXISTS, str(home))
    home.chmod(_DIRECTORY_MODE)
    (home / INCOMPLETE).touch(_FILE_MODE)
    sync_directory(home)
    return created


def _clear(home: Path) -> None:
    """Remove what an attempt before left; its master key never sealed anything that counts."""
    for path in home.iterdir():
        if path.name in {INCOMPLETE, _LOCK_FILE}:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def make_directories(home: Path) -> None:
    """The directories of every home."""
    for name in (PADS_DIRECTORY, AUDIT_DIRECTORY):
        (home / name).mkdir(_DIRECTORY_MODE)


def new_master_key(home: Path) -> Secret:
    """A fresh master key, in its file."""
    master = entropy.random_secret(MASTER_KEY_BYTES)
    write_private(home / MASTER_KEY_FILE, master.expose())
    return master


def _configure(path: Path, layout: Layout, stated: Mapping[str, Any]) -> None:
    write_private(path, config_text.render(layout, stated).encode())
