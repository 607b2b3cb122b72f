"""A daemon's admin socket: HTTP and JSON on ``<home>/admin.sock``, for this host's operator only.

The socket is mode 0600, and whoever connects must have this daemon's user id or be root. Commands are
few and bounded; ``/health`` and ``/metrics`` are what monitoring reads. An upload is a command with a
file behind it: a first line of JSON, then the file, which is handed on piece by piece and never kept.
It must not know what a command does.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TypeAlias

from aiohttp import StreamReader, web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from skex.base import codes
from skex.base.errors import SkexError, StoreFault
from skex.runtime.localpaths import socket_path

BODY_BYTES: Final = 96 * 1024
"""The longest request but for uploads: a realm file in hexadecimal, or a few names."""
STOP_SECONDS: Final = 2.0
"""How long a command may still run when the daemon stops."""
UPLOAD_LINE_BYTES: Final = 4096
"""The longest first line of an upload: a name or two, and 64 bytes of key."""
UPLOAD_SECONDS: Final = 60.0
"""How long an upload may rest: whoever sends it reads a file meanwhile, perhaps from a slow medium."""
_log = logging.getLogger("skex.admin")
_caller: ContextVar[int] = ContextVar("caller")
_CREDENTIALS: Final = struct.Struct("3i")

Answer: TypeAlias = Mapping[str, Any]
Command: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Answer]]
"""Takes the request's JSON object; returns the answer's. Raises ``SkexError``."""


def caller() -> int:
    """The user id of whoever sent the command that is being carried out."""
    return _caller.get()


class Upload:
    """A file on its way in: ``read`` from a thread that may wait, ``abort`` from the event loop."""

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self._loop = asyncio.get_running_loop()
        self._pending: Future[bytes] | None = None
        self._is_aborted = False

    def read(self, count: int, /) -> bytes:
        """At most ``count`` bytes, none at the end only. Raises ``OSError``: the sender rests or is gone."""
        self._pending = asyncio.run_coroutine_threadsafe(self._read(count), self._loop)
        if self._is_aborted:
            self._pending.cancel()
        try:
            return self._pending.result()
        except (Exception, CancelledError) as error:
            raise OSError(errno.EPIPE, "the upload ended before its end") from error

    async def _read(self, count: int) -> bytes:
        async with asyncio.timeout(UPLOAD_SECONDS):
            return await self._content.read(count)

    def abort(self) -> None:
        """Nothing more will be read: the daemon stops, or the sender is gone."""
        self._is_aborted = True
        if self._pending is not None:
            self._pending.cancel()


UploadCommand: TypeAlias = Callable[[Mapping[str, Any], Upload], Awaitable[Answer]]
"""Takes the JSON object of the first line, and the file behind it. Raises ``SkexError``."""


class AdminSocket:
    """Serves ``commands`` by name: ``GET /NAME`` without arguments, ``POST /NAME`` with a JSON object.

    ``uploads`` are served by ``POST /NAME`` alone.
    """

    def __init__(
        self,
        path: Path,
        commands: Mapping[str, Command],
        healthy: Callable[[], bool],
        metrics: CollectorRegistry,
        uploads: Mapping[str, UploadCommand] | None = None,
    ) -> None:
        self._path = path
        self._commands = commands
        self._uploads = uploads or {}
        self._healthy = healthy
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. A socket that a killed daemon left behind is replaced: the home is ours.

        Raises ``StoreFault`` (listen-address): the disk is full, or the home's file system has no sockets.
        """
        application = web.Application(client_max_size=BODY_BYTES, middlewares=[_only_owner])
        application.add_routes(
            [
                web.get("/health", self._health),
                web.get("/metrics", self._render_metrics),
                *(web.post(f"/{name}", self._upload) for name in self._uploads),
                web.get("/{command}", self._command),
                web.post("/{command}", self._command),
            ]
        )
        self._path.unlink(missing_ok=True)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        before = os.umask(0o177)
        try:
            with socket_path(self._path) as name:
                await web.UnixSite(self._runner, name).start()
        except OSError as error:
            raise StoreFault(codes.LISTEN_ADDRESS, f"{self._path}: {error}") from error
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Stop listening and remove the socket."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _health(self, request: web.Request) -> web.Response:
        del request
        healthy = self._healthy()
        return web.json_response({"healthy": healthy}, status=200 if healthy else 503)

    async def _render_metrics(self, request: web.Request) -> web.Response:
        del request
        return web.Response(
            body=generate_latest(self._metrics), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _command(self, request: web.Request) -> web.Response:
        command = self._commands.get(request.match_info["command"])
        if command is None:
            return web.json_response({"error": "no such command"}, status=404)
        arguments = await _arguments(request)
        if arguments is None:
            return web.json_response({"error": "the body is not a JSON object"}, status=400)
        return await _answered(command(arguments))

    async def _upload(self, request: web.Request) -> web.Response:
        """The answer may come before the file's end: what is left of it is dropped."""
        command = self._uploads[request.path.removeprefix("/")]
        arguments = await _first_line(request.content)
        if arguments is None:
            return web.json_response({"error": "the first line is not a JSON object"}, status=400)
        upload = Upload(request.content)
        try:
            return await _answered(command(arguments, upload))
        finally:
            upload.abort()


async def _answered(work: Awaitable[Answer]) -> web.Response:
    try:
        return web.json_response(await work)
    except SkexError as error:
        return web.json_response(_explained(error), status=409)


async def _first_line(content: StreamReader) -> Mapping[str, Any] | None:
    """The JSON object of an upload's first line; None if there is none. It is bounded, and may be secret."""
    line = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            while not line.endswith(b"\n") and len(line) < UPLOAD_LINE_BYTES:
                byte = await content.read(1)
                if not byte:
                    return None
                line += byte
        return parse_arguments(line.decode("utf-8"))
    except (TimeoutError, ValueError):
        return None


async def _arguments(request: web.Request) -> Mapping[str, Any] | None:
    if request.method == "GET":
        return dict(request.query)
    try:
        text = await request.text()
    except (ValueError, LookupError):  # bytes that are no text, or an unknown charset
        return None
    return parse_arguments(text)


def parse_arguments(text: str) -> Mapping[str, Any] | None:
    """A command's arguments: a JSON object, or nothing at all; None for everything else."""
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError):  # no JSON, or too deep
        return None
    return arguments if isinstance(arguments, dict) else None


def _explained(error: SkexError) -> Answer:
    code = error.code
    return {
        "error": code.sentence,
        "code": code.name,
        "family": code.family.value,
        "hint": code.hint,
        "detail": error.detail,
    }


@web.middleware
async def _only_owner(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Whoever is not this daemon's user or root gets nothing, whatever the socket's mode says."""
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("socket")
    user = None if peer is None else _user_of(peer)
    if user is None or user not in (0, os.getuid()):
        return web.json_response({"error": "not the owner of this home"}, status=403)
    _caller.set(user)
    try:
        return await handler(request)
    except web.HTTPException as refusal:  # too long, or a method that nothing here has
        return web.json_response({"error": refusal.reason}, status=refusal.status)
    except Exception:  # noqa: BLE001  # the daemon goes on; the operator and the log hear of it
        _log.exception("an operator's command failed")
        return web.json_response({"error": "a defect; the log says more"}, status=500)


def _user_of(peer: socket.socket) -> int:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])
