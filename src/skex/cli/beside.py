"""Kits at a daemon that runs: made or read here, streamed through its admin socket, kept nowhere else.

A kit for a hub is written here, by the user who runs the command and with that user's rights, and is on
its medium before the hub hears of it. The passphrase stays here too: what the daemon gets is the key
that Argon2id made of it, behind the admin socket, never in an address or a log.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from skex.base import codes
from skex.base.errors import StoreFault
from skex.base.ids import HubName, KmeName
from skex.base.secret import Secret
from skex.cli.admin import ask, send
from skex.cli.common import Unreachable, progress
from skex.cli.files import PRIVATE, new_file
from skex.enrol.chunks import KitReader
from skex.enrol.creating import KitOrder, MadeKit, write_kit
from skex.enrol.importing import from_passphrase
from skex.enrol.kit import UnderPassphrase
from skex.runtime import entropy
from skex.wire.realm import Realm

Answer: TypeAlias = dict[str, Any]


def create(
    home: Path,
    kme: KmeName,
    output: Path,
    order: Callable[[Realm, HubName], KitOrder],
    *,
    replace: bool,
    size: int,
) -> tuple[MadeKit, Answer]:
    """Write a kit and let the running hub enrol its link; after any error the file is gone again.

    The hub's answer says whether the link is enrolled, or waits for a second person. Raises as
    ``enrolment.HubHome.create_kit`` does, and ``Unreachable``.
    """
    arguments = {"kme": kme, "replace": replace}
    wanted = ask(home, "kit-order", arguments)
    realm, hub = Realm.from_bytes(bytes.fromhex(wanted["realm"])), HubName(wanted["hub"])
    with new_file(output, PRIVATE) as file, progress(2 * size, "Writing") as advance:
        written = write_kit(
            order(realm, hub), file, entropy.random_bytes, durable=file.sync, progress=advance
        )
        with opened(output) as source:
            answer = send(home, "kit", {**arguments, "stretched": _hex(written.stretched)}, source, advance)
    return written.made, answer


def import_kit(home: Path, file: Path, passphrase: Callable[[], Secret], *, replace: bool) -> dict[str, Any]:
    """Let the running KME import a kit; its answer. ``passphrase`` is asked only if it is needed.

    Raises as ``importing.Importer`` does, and ``Unreachable``.
    """
    answer = _sent(home, file, {"replace": replace})
    if answer.get("passphrase_wanted"):
        with opened(file) as source:
            protection = KitReader(source).header.protection
        if not isinstance(protection, UnderPassphrase):  # the file changed meanwhile
            raise StoreFault(codes.KIT_IO, f"{file} is being written")
        key = from_passphrase(passphrase)(protection)
        answer = _sent(home, file, {"replace": replace, "stretched": _hex(key)})
    return answer


def _sent(home: Path, file: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    with opened(file) as source, progress(file.stat().st_size, "Importing") as advance:
        return send(home, "kit", arguments, source, advance)


def _hex(key: Secret | None) -> str | None:
    if key is None:
        return None
    stated = key.expose().hex()
    key.wipe()
    return stated


def opened(file: Path) -> BinaryIO:
    """A kit that is read. Raises ``StoreFault`` (kit-io)."""
    try:
        return file.open("rb")
    except OSError as error:
        raise StoreFault(codes.KIT_IO, f"{file}: {error.strerror}") from error


def require_daemon(home: Path, fault: StoreFault) -> None:
    """Go on if a daemon is what uses the home. Raises ``fault`` again: it is not in use, or not by one."""
    if fault.code is codes.HOME_IN_USE:
        with suppress(Unreachable):
            ask(home, "status")
            return
    raise fault
