"""A daemon's admin sockets: HTTP and JSON on ``<home>/admin.sock``, for the operators of this host.

The socket in the home is mode 0600: for the daemon's own user and root. A second one may be configured
elsewhere, for a group. Who is at the other end, the kernel says; what they may ask for, the ``Gate``,
before anything else of a request is looked at. Commands are few and bounded; ``/health`` and
``/metrics`` are what monitoring reads. An upload is a command with a file behind it: a first line of
JSON, then the file, which is handed on piece by piece and never kept. It must not know what a command
does.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, cast

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from skex.base import codes
from skex.base.errors import Refused, SkexError, StoreFault
from skex.runtime import peers
from skex.runtime.localpaths import socket_path
from skex.runtime.peers import Peer, peer_of

BODY_BYTES: Final = 96 * 1024
"""The longest request but for uploads: a realm file in hexadecimal, or a few names."""
STOP_SECONDS: Final = 2.0
"""How long a command may still run when the daemon stops."""
UPLOAD_LINE_BYTES: Final = 4096
"""The longest first line of an upload: a name or two, and 64 bytes of key."""
UPLOAD_SECONDS: Final = 60.0
"""How long an upload may rest: whoever sends it reads a file meanwhile, perhaps from a slow medium."""
SHARED_CONNECTIONS: Final = 64
"""Connections at once through the socket for others; the owner has a socket that nobody else can fill."""
CONNECTIONS_PER_USER: Final = 16
"""Of them, those of one user: nobody shuts the others out alone."""
_log = logging.getLogger("skex.admin")
_caller: ContextVar[Peer] = ContextVar("caller")
_second: ContextVar[Peer | None] = ContextVar("second", default=None)
_SHARED_MODE: Final = 0o660
_PROBE_SECONDS: Final = 1.0

Answer: TypeAlias = Mapping[str, Any]
Command: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Answer]]
"""Takes the request's JSON object; returns the answer's. Raises ``SkexError``."""


def caller() -> int:
    """The user id of whoever sent the command that is being carried out; of two persons, the first."""
    return _caller.get().user


def asking() -> Peer:
    """Whoever sent the command, with the groups they are in."""
    return _caller.get()


def second_person() -> int | None:
    """The user id of who approved the command that is being carried out, if it needed that."""
    second = _second.get()
    return None if second is None else second.user


@contextmanager
def acting(first: Peer, second: Peer) -> Iterator[None]:
    """Within the block a command is carried out that ``first`` asked for and ``second`` approved."""
    before = _caller.set(first), _second.set(second)
    try:
        yield
    finally:
        _caller.reset(before[0])
        _second.reset(before[1])


class Gate(Protocol):
    """Who may ask for what."""

    async def admits(self, peer: Peer, name: str) -> bool:
        """Whether ``peer`` may ask for the command of this name; every name that is asked for comes here."""
        ...

    async def keeps(self, name: str, arguments: Mapping[str, Any], file: Upload | None) -> Answer | None:
        """The answer to a command that is kept for a second person; None for one that is carried out now.

        Raises ``SkexError``.
        """
        ...


class OwnerOnly:
    """The gate where nobody else is let in."""

    async def admits(self, peer: Peer, name: str) -> bool:
        """The owner may everything."""
        del name
        return peer.is_owner

    async def keeps(self, name: str, arguments: Mapping[str, Any], file: Upload | None) -> Answer | None:
        """Nothing is kept."""
        del name, arguments, file
        return None


@dataclass(frozen=True, slots=True)
class Shared:
    """A socket for others than the owner: where it is, and the group that may connect.

    Without a name it is the group of this process.
    """

    path: Path
    group: str = ""


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


class Incoming(Protocol):
    """A file on its way in, from a sender or from where it waited."""

    def read(self, count: int, /) -> bytes:
        """At most ``count`` bytes, none at the end only. Raises ``OSError``."""
        ...

    def abort(self) -> None:
        """Nothing more will be read."""
        ...


UploadCommand: TypeAlias = Callable[[Mapping[str, Any], Incoming], Awaitable[Answer]]
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
        *,
        gate: Gate | None = None,
        shared: Shared | None = None,
    ) -> None:
        self._path = path
        self._commands = commands
        self._uploads = uploads or {}
        self._healthy = healthy
        self._metrics = metrics
        self._gate = OwnerOnly() if gate is None else gate
        self._shared = shared
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. A socket that a killed daemon left behind is replaced: the home is ours.

        Raises ``StoreFault`` (listen-address): the disk is full, the home's file system has no sockets, or
        the shared socket cannot be made.
        """
        application = web.Application(client_max_size=BODY_BYTES, middlewares=[self._guarded])
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
        if self._shared is not None:
            await self._share(self._shared, cast("Callable[[], RequestHandler]", self._runner.server))

    async def _share(self, shared: Shared, make: Callable[[], RequestHandler]) -> None:
        try:
            listening = _shared_socket(shared)
        except OSError as error:
            raise StoreFault(codes.LISTEN_ADDRESS, f"{shared.path}: {error.strerror}") from error
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(_Guests(make), sock=listening)

    async def stop(self) -> None:
        """Stop listening and remove the sockets."""
        if self._server is not None and self._shared is not None:
            self._server.close()
            self._shared.path.unlink(missing_ok=True)
        if self._runner is not None:
            await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Whoever may not ask for it gets one and the same answer, whatever it was and whether it exists."""
        transport = request.transport
        connection = None if transport is None else transport.get_extra_info("socket")
        try:
            peer = None if connection is None else peer_of(connection)
        except OSError:  # it has gone
            peer = None
        if peer is None or not await self._gate.admits(peer, request.path.removeprefix("/")):
            return web.json_response(_explained(Refused(codes.NOT_AUTHORISED)), status=403)
        _caller.set(peer)
        try:
            return await handler(request)
        except web.HTTPException as refusal:  # too long, or a method that nothing here has
            return web.json_response({"error": refusal.reason}, status=refusal.status)
        except Exception:  # noqa: BLE001  # the daemon goes on; the operator and the log hear of it
            _log.exception("an operator's command failed")
            return web.json_response({"error": "a defect; the log says more"}, status=500)

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
        return await _answered(self._unless_kept(request, arguments, None, lambda: command(arguments)))

    async def _upload(self, request: web.Request) -> web.Response:
        """The answer may come before the file's end: what is left of it is dropped."""
        command = self._uploads[request.path.removeprefix("/")]
        arguments = await _first_line(request.content)
        if arguments is None:
            return web.json_response({"error": "the first line is not a JSON object"}, status=400)
        upload = Upload(request.content)
        try:
            return await _answered(
                self._unless_kept(request, arguments, upload, lambda: command(arguments, upload))
            )
        finally:
            upload.abort()

    async def _unless_kept(
        self,
        request: web.Request,
        arguments: Mapping[str, Any],
        file: Upload | None,
        work: Callable[[], Awaitable[Answer]],
    ) -> Answer:
        kept = await self._gate.keeps(request.path.removeprefix("/"), arguments, file)
        return await work() if kept is None else kept


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


# ── the socket for others ───────────────────────────────────────────────────────────────────────
def _shared_socket(shared: Shared) -> socket.socket:
    """A listening socket for a group. Raises ``OSError``."""
    group = os.getegid() if not shared.group else peers.group_number(shared.group)
    if group is None:
        raise OSError(errno.EINVAL, f"there is no group {shared.group}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_path(shared.path) as name:
            _make_way(shared.path, name)
            before = os.umask(0o177)  # nobody else until the group is right
            try:
                listening.bind(name)
            finally:
                os.umask(before)
        if shared.path.stat().st_gid != group:  # as where its directory hands down the group
            os.chown(shared.path, -1, group)
        shared.path.chmod(_SHARED_MODE)
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def _make_way(path: Path, name: str) -> None:
    """Remove what a killed daemon left; never what is no socket, or somebody else's. Raises ``OSError``."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "something else than a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another process listens there")


class _Guests:
    """Makes the protocols of connections through the shared socket: a few at once, fewer for one user."""

    def __init__(self, make: Callable[[], RequestHandler]) -> None:
        self._make = make
        self._present: dict[RequestHandler, int] = {}

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a connection of which nothing is known yet."""
        return _Arriving(self)

    def admit(self, transport: asyncio.Transport) -> None:
        """Hand a connection over to what answers requests, or close it unheard."""
        self._present = {one: user for one, user in self._present.items() if one.transport is not None}
        counts = Counter(self._present.values())
        try:
            user = peer_of(transport.get_extra_info("socket")).user
        except OSError:  # it has gone
            transport.abort()
            return
        if len(self._present) >= SHARED_CONNECTIONS or counts[user] >= CONNECTIONS_PER_USER:
            transport.abort()
            return
        handler = self._make()
        self._present[handler] = user
        transport.set_protocol(handler)
        handler.connection_made(transport)


class _Arriving(asyncio.Protocol):
    """A connection until it is known whose it is."""

    def __init__(self, guests: _Guests) -> None:
        self._guests = guests

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The kernel knows whose it is."""
        self._guests.admit(cast("asyncio.Transport", transport))
