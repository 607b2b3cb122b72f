"""How a running daemon hands its state to the command that makes a backup, over the admin socket."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from skex.audit.events import Event
from skex.base import codes
from skex.base.errors import Refused
from skex.daemon.backup.container import ID_BYTES
from skex.daemon.backup.contents import State
from skex.daemon.evidence import backup_made, operator


def asked_backup(arguments: Mapping[str, Any], user: int) -> Event:
    """The record of a backup that ``user`` (an id) asks for. Raises ``Refused`` (backup-malformed): no id."""
    try:
        backup_id = bytes.fromhex(arguments["id"])
    except (KeyError, TypeError, ValueError):
        backup_id = b""
    if len(backup_id) != ID_BYTES:
        raise Refused(codes.BACKUP_MALFORMED, f"an id of {ID_BYTES} bytes in hexadecimal is expected")
    return backup_made(backup_id, operator(user))


def handed_out(state: State) -> Mapping[str, Any]:
    """The daemon's answer."""
    return {"state": base64.b64encode(state.to_bytes()).decode("ascii")}


def received(answer: Mapping[str, Any]) -> State:
    """The state in a daemon's answer. Raises ``Refused`` (backup-malformed)."""
    try:
        data = base64.b64decode(answer["state"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise Refused(codes.BACKUP_MALFORMED, "the daemon's answer") from error
    return State.from_bytes(data)
