"""The door itself: a listening socket, its bounds, and each request's way from bytes to answer.

Composed by the daemon from a ``KeyService``, a TLS context and a clock; it must not know anything else
of the KME.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, cast

from aiohttp import web

from skex.base import codes, limits
from skex.base.errors import DeliveryFault, LocalBug, Refused, SkexError
from skex.base.ids import SaeId
from skex.delivery.etsi014.answers import Answer, refusal
from skex.delivery.etsi014.connection import (
    ConnectionHooks,
    DoorConnection,
    DoorServer,
    read_body,
    response,
    send,
)
from skex.delivery.etsi014.context import handshake_reason
from skex.delivery.etsi014.extensions import SUPPORTED, Extension
from skex.delivery.etsi014.handlers import Handlers
from skex.delivery.etsi014.identity import IdentityField
from skex.delivery.etsi014.models import KeyIds, KeyRequest, parse_target
from skex.keys.api import KeyService

_ACCEPT_PAUSE_SECONDS = 0.5
"""How long accepting rests when the system has no file descriptor left."""
_BACKLOG = 256


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """How the door reads identities, and its bounds; see ``limits`` for what they are for."""

    identity: IdentityField = IdentityField.URI
    connections: int = limits.DOOR_CONNECTIONS
    requests_per_sae: int = limits.DOOR_REQUESTS_PER_SAE
    handshake_seconds: float = limits.DOOR_HANDSHAKE_SECONDS
    idle_seconds: float = limits.DOOR_IDLE_SECONDS
    body_seconds: float = limits.DOOR_BODY_SECONDS
    request_seconds: float = limits.DOOR_REQUEST_SECONDS
    answer_seconds: float = limits.DOOR_ANSWER_SECONDS
    connection_seconds: float = limits.DOOR_CONNECTION_SECONDS
    drain_seconds: float = limits.DOOR_DRAIN_SECONDS


@dataclass(slots=True)
class Access:
    """One request, for the log: nothing in it is secret, every text is bounded.

    ``caller`` and ``other`` are names as they were stated, perhaps of nobody. ``code`` is empty when
    the request was granted; ``status`` is 0 when there was no answer, because the client left or this
    program has a defect. ``ignored`` names what of the request had no effect.
    """

    address: str
    caller: str = ""
    operation: str = ""
    method: str = ""
    other: str = ""
    status: int = 0
    code: str = ""
    detail: str = ""
    keys: int = 0
    ignored: tuple[str, ...] = ()
    seconds: float = 0.0


class DoorEvents(Protocol):
    """Hears what happens at the door; must not block."""

    def request_answered(self, access: Access) -> None:
        """A request is over."""

    def handshake_failed(self, address: str, reason: str) -> None:
        """A connection ended before it could be a connection: a wrong certificate, or no TLS."""

    def request_failed(self, error: BaseException) -> None:
        """A defect of this program or its store; the client was told 503."""


class Door:
    """The ETSI GS QKD 014 door: ``bind``, then ``serve`` until cancelled.

    ``wall`` tells the time of day in UTC, for certificates only.
    """

    def __init__(
        self,
        service: KeyService,
        context: ssl.SSLContext,
        events: DoorEvents,
        wall: Callable[[], datetime],
        *,
        settings: DoorSettings | None = None,
        supported: Mapping[str, Extension] = SUPPORTED,
    ) -> None:
        self._handlers = Handlers(service, supported)
        self._context = context
        self._events = events
        self._wall = wall
        self._settings = settings or DoorSettings()
        self._turns = _Turns(self._settings.requests_per_sae)
        self._free = asyncio.Semaphore(self._settings.connections)
        self._listener: socket.socket | None = None

    def bind(self, host: str, port: int) -> int:
        """Listen on an address; port 0 lets the system choose. Returns the port.

        Raises ``DeliveryFault`` (door-address).
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise DeliveryFault(codes.DOOR_ADDRESS, f"{host}:{port}: {error.strerror}") from error
        listener.settimeout(0)
        self._listener = listener
        return int(listener.getsockname()[1])

    def renew(self, context: ssl.SSLContext) -> None:
        """Use other certificates, authorities or revocations for connections from now on."""
        self._context = context

    async def serve(self) -> None:
        """Accept until cancelled; then requests under way may end, and the socket is closed."""
        if self._listener is None:
            raise LocalBug(codes.BAD_STATE, "the door serves before it is bound")
        hooks = ConnectionHooks(self._free.release, self._unreadable, self._events.request_failed)
        server = DoorServer(self._handle, hooks=hooks, idle_seconds=self._settings.idle_seconds)
        try:
            async with asyncio.TaskGroup() as handshakes:
                while True:
                    await self._free.acquire()
                    accepted = await self._accept(self._listener)
                    handshakes.create_task(self._welcome(server, *accepted))
        finally:
            self._listener.close()
            await server.end(self._settings.drain_seconds)

    # ── connections ─────────────────────────────────────────────────────────────────────────────
    async def _accept(self, listener: socket.socket) -> tuple[socket.socket, str]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError as error:
                # No file descriptor left, or the client has gone: neither may end the door.
                self._events.request_failed(error)
                await asyncio.sleep(_ACCEPT_PAUSE_SECONDS)
            else:
                return accepted, str(address[0])

    async def _welcome(self, server: DoorServer, accepted: socket.socket, address: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                server,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._settings.handshake_seconds,
                ssl_shutdown_timeout=self._settings.handshake_seconds,
            )
        except OSError as error:
            accepted.close()
            self._free.release()
            self._events.handshake_failed(address, handshake_reason(error))

    def _unreadable(self, address: str) -> None:
        self._events.request_answered(Access(address, status=400, code=codes.DOOR_REQUEST.name))

    # ── requests ────────────────────────────────────────────────────────────────────────────────
    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        started = loop.time()
        access = Access(request.remote or "")
        try:
            answer = await self._decide(request, access)
        finally:
            # Also when the client leaves, which cancels this: then the status stays 0.
            access.seconds = loop.time() - started
            self._events.request_answered(access)
        reply = response(answer)
        if self._is_last(request, answer):
            reply.force_close()
        await send(request, reply, self._settings.answer_seconds)
        return reply

    async def _decide(self, request: web.BaseRequest, access: Access) -> Answer:
        try:
            answer = await self._answer(request, access)
        except SkexError as error:
            answer = refusal(error)
            access.detail = error.detail
            if not isinstance(error, DeliveryFault | Refused):
                self._events.request_failed(error)
        access.status, access.keys = answer.status, answer.keys
        access.code = answer.code.name if answer.code else ""
        return answer

    def _is_last(self, request: web.BaseRequest, answer: Answer) -> bool:
        # After a form error the rest of what came cannot be trusted to start at a request.
        return answer.code in {codes.DOOR_REQUEST, codes.DOOR_IDENTITY} or _connection(request).is_older_than(
            self._settings.connection_seconds
        )

    async def _answer(self, request: web.BaseRequest, access: Access) -> Answer:
        caller = self._authenticate(request, access)
        call = parse_target(request.method, request.raw_path)
        access.method, access.operation, access.other = request.method, call.operation.value, call.sae
        body = b""
        if request.method == "POST":
            body = await read_body(request, self._settings.body_seconds)
        content = self._handlers.parse(request.method, call, body)
        if content is not None:
            access.ignored = _loggable(content)
        try:
            async with asyncio.timeout(self._settings.request_seconds), self._turns.of(caller):
                return await self._handlers.answer(caller, call, content)
        except TimeoutError as error:
            raise DeliveryFault(codes.DOOR_TIMEOUT) from error

    def _authenticate(self, request: web.BaseRequest, access: Access) -> SaeId:
        """Who asks, by certificate alone. Raises ``DeliveryFault`` and ``Refused`` (name-invalid)."""
        identity = _connection(request).identity(self._settings.identity)
        identity.check(self._wall())
        access.caller = identity.name[: limits.POLICY_ALIAS_CHARACTERS]
        return self._handlers.resolve(identity.name)


def _connection(request: web.BaseRequest) -> DoorConnection:
    return cast(DoorConnection, request.protocol)


def _loggable(content: KeyRequest | KeyIds) -> tuple[str, ...]:
    """The first ignored names, shortened and in ASCII: a client chose them."""
    return tuple(
        ascii(name[: limits.NAME_CHARACTERS])[1:-1] for name in content.ignored[: limits.DOOR_LOGGED_NAMES]
    )


@dataclass(slots=True)
class _Turns:
    """Bounds each SAE's requests under way; those beyond wait in order of arrival."""

    each: int
    _waiting: dict[SaeId, tuple[asyncio.Semaphore, int]] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def of(self, sae: SaeId) -> AsyncIterator[None]:
        turn, users = self._waiting.get(sae) or (asyncio.Semaphore(self.each), 0)
        self._waiting[sae] = turn, users + 1
        try:
            async with turn:
                yield
        finally:
            _, users = self._waiting[sae]
            if users > 1:
                self._waiting[sae] = turn, users - 1
            else:
                del self._waiting[sae]
