"""Talks to a running daemon through the admin socket in its home."""

from __future__ import annotations

import http.client
import json
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from skex.base import codes
from skex.base.errors import DeliveryFault, Refused, SkexError, StoreFault
from skex.cli.common import AWAITS_APPROVAL, Unreachable, result, table, talk
from skex.cli.files import moment
from skex.daemon.starting import ADMIN_SOCKET
from skex.runtime.localpaths import socket_path

SECONDS: Final = 30.0
"""How long a daemon may take to answer its operator."""
UPLOAD_SECONDS: Final = 3600.0
"""The same behind a file: what it replaces is erased before the answer, and may be of any size."""
_PIECE_BYTES: Final = 256 * 1024


class _LocalConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, at: Path, seconds: float) -> None:
        """``at`` is a home, or a socket."""
        super().__init__("localhost", timeout=seconds)
        self._at = at

    def connect(self) -> None:
        """Connect to the socket's path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with socket_path(self._at / ADMIN_SOCKET if self._at.is_dir() else self._at) as name:
            self.sock.connect(name)


def ask(
    home: Path, command: str, arguments: Mapping[str, Any] | None = None, seconds: float = SECONDS
) -> dict[str, Any]:
    """One command's answer; ``home`` may also be a socket.

    Raises ``Unreachable``; ``Refused`` or ``StoreFault`` with the code that the daemon refused with.
    """

    def exchange(connection: _LocalConnection) -> None:
        if arguments is None:
            connection.request("GET", f"/{command}")
        else:
            body = json.dumps(dict(arguments))
            connection.request("POST", f"/{command}", body, {"Content-Type": "application/json"})

    return _answer(
        _LocalConnection(home, seconds), exchange, f"no daemon answers in {home}; start it, or check --home"
    )


def told_pending(answer: Mapping[str, Any]) -> int | None:
    """Tell whoever asked that a second person is needed; the exit code. None if the command was done."""
    pending = answer.get("pending")
    if pending is None:
        return None
    talk_pending(pending)
    result(dict(answer), as_text(pending))
    return AWAITS_APPROVAL


def talk_pending(pending: Mapping[str, Any]) -> None:
    """Say on stderr who must do what now."""
    talk(f"Nothing was done yet: a second person must approve it until {moment(pending['until'])}:")
    talk(f"  skex operator approve {pending['id']}")


def as_text(pending: Mapping[str, Any]) -> str:
    """One request, for people."""
    rows = [
        ("request", pending["id"]),
        ("command", pending["command"]),
        ("asked by", pending["by"]),
        ("asked, ends", f"{moment(pending['since'])}, {moment(pending['until'])}"),
        ("rule", pending["rule"]),
        ("digest", pending["digest"]),
        *((f"  {name}", json.dumps(value).strip('"')) for name, value in pending["says"].items()),
    ]
    return table(rows)


def send(
    home: Path, command: str, arguments: Mapping[str, Any], file: BinaryIO, progress: Callable[[int], None]
) -> dict[str, Any]:
    """The answer to a command with a file behind it: what ``file`` holds from its beginning.

    The daemon may answer before it has all of it; then the rest is not sent. Raises as ``ask`` does, and
    ``StoreFault`` (kit-io) if the file cannot be read; ``Unreachable`` says that nobody knows the outcome.
    """

    def exchange(connection: _LocalConnection) -> None:
        connection.connect()
        body = _pieces(connection.sock, arguments, file, progress)
        headers = {"Transfer-Encoding": "chunked"}
        # Where the daemon answered and hung up before all was sent, its answer is there to be read.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", f"/{command}", body, headers, encode_chunked=True)

    lost = f"the daemon in {home} ended before it answered; its status says whether the link is there"
    return _answer(_LocalConnection(home, UPLOAD_SECONDS), exchange, lost)


def _pieces(
    answering: socket.socket, arguments: Mapping[str, Any], file: BinaryIO, progress: Callable[[int], None]
) -> Iterator[bytes]:
    yield json.dumps(dict(arguments)).encode() + b"\n"
    while not select.select([answering], [], [], 0)[0]:
        try:
            piece = file.read(_PIECE_BYTES)
        except OSError as error:
            raise StoreFault(codes.KIT_IO, str(error.strerror)) from error
        if not piece:
            return
        yield piece
        progress(len(piece))


def _answer(
    connection: _LocalConnection, exchange: Callable[[_LocalConnection], None], unreachable: str
) -> dict[str, Any]:
    try:
        exchange(connection)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unreachable(unreachable) from error
    finally:
        connection.close()
    if response.status >= 400:
        raise _error(answer)
    return dict(answer)


def _error(answer: Mapping[str, Any]) -> SkexError:
    """The daemon's own error where it is one that commands end with; its text is in the detail either way."""
    detail = str(answer.get("detail") or answer.get("error", ""))
    for kind in (Refused, StoreFault, DeliveryFault):
        for code in codes.all_codes():
            if code.family is kind.family and code.name == answer.get("code"):
                return kind(code, str(answer.get("detail") or ""))
    return Refused(codes.DAEMON_REFUSED, detail)
