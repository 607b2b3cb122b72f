"""Talks to a running daemon through the admin socket in its home."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from skex.base import codes
from skex.base.errors import ErrorCode, Refused
from skex.cli.common import Unreachable
from skex.daemon.starting import ADMIN_SOCKET

SECONDS: Final = 30.0
"""How long a daemon may take to answer its operator."""


class _LocalConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


def ask(home: Path, command: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One command's answer.

    Raises ``Unreachable``; ``Refused`` with the code that the daemon refused with.
    """
    connection = _LocalConnection(home / ADMIN_SOCKET)
    try:
        if arguments is None:
            connection.request("GET", f"/{command}")
        else:
            body = json.dumps(dict(arguments))
            connection.request("POST", f"/{command}", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unreachable(f"no daemon answers in {home}; start it, or check --home") from error
    finally:
        connection.close()
    if response.status >= 400:
        raise Refused(_code(answer), str(answer.get("detail") or answer.get("error", "")))
    return dict(answer)


def _code(answer: Mapping[str, Any]) -> ErrorCode:
    """The daemon's code where it is a refusal; its text stands in the detail either way."""
    known = {code.name: code for code in codes.all_codes() if code.family is Refused.family}
    return known.get(str(answer.get("code")), codes.DAEMON_REFUSED)
