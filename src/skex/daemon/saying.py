"""What commands would do, for people who approve them and for the digest that binds the approval."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from skex.base import codes
from skex.base.errors import Refused
from skex.base.ids import Direction
from skex.daemon.enrolling import stated_key
from skex.daemon.spool import SpoolReader
from skex.daemon.starting import load_policy
from skex.enrol.chunks import KitReader
from skex.enrol.importing import Stretched
from skex.enrol.kit import UnderPassphrase, fingerprint_words
from skex.enrol.words import words_of
from skex.wire.realm import Realm


async def of_kit(arguments: Mapping[str, Any], kit: SpoolReader | None) -> Mapping[str, Any]:
    """A kit, which is checked from end to end. Raises as ``KitReader`` does, and ``PassphraseWanted``."""
    if kit is None:
        raise Refused(codes.KIT_TRUNCATED)
    stated = stated_key(arguments)
    return await asyncio.get_running_loop().run_in_executor(None, _of_kit, kit, stated)


def _of_kit(kit: SpoolReader, stated: Stretched) -> Mapping[str, Any]:
    reader = KitReader(kit)
    header = reader.header
    if isinstance(header.protection, UnderPassphrase):
        reader.unlock(stated(header.protection)).chunk_key.wipe()
    return {
        "hub": header.hub,
        "kme": header.kme,
        "link": header.link_id.hex(),
        "pad": header.kind.name.lower(),
        "pad_bytes": sum(header.material_bytes(direction) for direction in Direction),
        "protection": "passphrase" if isinstance(header.protection, UnderPassphrase) else "clear",
        "expires": header.expires,
        "words": fingerprint_words(reader.examine()),
    }


def of_realm(realm: Realm) -> Mapping[str, Any]:
    """Another epoch of the realm."""
    return {
        "realm": realm.name,
        "epoch": realm.epoch,
        "threshold": realm.threshold,
        "hubs": len(realm.active_hubs),
        "words": words_of(realm.digest()),
    }


def of_reload(policy: Path, others: Iterable[Path] = ()) -> Mapping[str, Any]:
    """What a daemon reads anew. Raises as ``load_policy`` does."""
    files = {path.name: hashlib.sha512(path.read_bytes()).hexdigest() for path in others if path.is_file()}
    return {"policy": load_policy(policy).digest, **({"files": files} if files else {})}
