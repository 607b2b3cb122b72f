"""One connection of the door: aiohttp's HTTP/1.1 with our bounds, and never an answer but JSON.

It knows the transport and the certificate's name, not what a request means.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from aiohttp import web

from skex.base import codes, limits
from skex.base.errors import DeliveryFault
from skex.delivery.etsi014.answers import FAILURE_MESSAGE, UNAUTHORISED, UNAVAILABLE, Answer, refusal
from skex.delivery.etsi014.identity import Identity, IdentityField, read_identity
from skex.delivery.etsi014.models import render_error

# A GET here uses keys up, so nothing on the way may keep an answer or repeat it.
_HEADERS: Final[Mapping[str, str]] = MappingProxyType({"Cache-Control": "no-store", "Server": "skex"})
# HTTP wants a challenge with each 401; what would help is another certificate.
_CHALLENGE: Final = 'ClientCertificate realm="ETSI GS QKD 014"'
_CLOSE_SECONDS: Final = 1.0
"""How long closed connections may take to deliver their last bytes when the door ends."""
_SILENT: Final = logging.getLogger("skex.delivery.etsi014.aiohttp")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
"""aiohttp logs what peers send; this door reports through ``ConnectionHooks`` instead."""


def response(answer: Answer) -> web.Response:
    """The HTTP form of an answer."""
    headers = dict(_HEADERS)
    if answer.status == UNAUTHORISED:
        headers["WWW-Authenticate"] = _CHALLENGE
    return web.Response(
        status=answer.status, body=answer.body, headers=headers, content_type="application/json"
    )


@dataclass(frozen=True, slots=True)
class ConnectionHooks:
    """What a connection tells its door.

    ``ended``: it is gone. ``unreadable(address)``: what came was not HTTP. ``failed``: a defect.
    """

    ended: Callable[[], None]
    unreadable: Callable[[str], None]
    failed: Callable[[BaseException], None]


class DoorConnection(web.RequestHandler):
    """aiohttp's connection, with JSON for every error, the client's identity, and an end."""

    __slots__ = ("_hooks", "_identity", "_since")

    def __init__(
        self, manager: web.Server, *, hooks: ConnectionHooks, loop: asyncio.AbstractEventLoop, **kwargs: Any
    ) -> None:
        super().__init__(manager, loop=loop, **kwargs)
        self._hooks = hooks
        self._identity: Identity | None = None
        self._since = loop.time()

    def identity(self, field: IdentityField) -> Identity:
        """Whose connection it is. Raises ``DeliveryFault`` (door-identity)."""
        if self._identity is None:
            tls = self.transport and self.transport.get_extra_info("ssl_object")
            certificate = tls and tls.getpeercert(binary_form=True)
            if not certificate:
                raise DeliveryFault(codes.DOOR_IDENTITY, "the connection has no certificate")
            self._identity = read_identity(certificate, field)
        return self._identity

    def is_older_than(self, seconds: float) -> bool:
        """Whether it exists for longer than that."""
        return self._loop.time() - self._since > seconds

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the parser's words quote the peer; ours do not
    ) -> web.StreamResponse:
        """Answer what is not HTTP (400) and defects (503); the connection ends."""
        if request.writer.output_size > 0:
            raise ConnectionResetError("an answer was begun; there is no other way to take it back")
        if status == web.HTTPBadRequest.status_code:
            self._hooks.unreadable(request.remote or "")
            reply = response(refusal(DeliveryFault(codes.DOOR_REQUEST, "the request is not HTTP/1.1")))
        else:
            if exc is not None:
                self._hooks.failed(exc)
            reply = response(Answer(UNAVAILABLE, render_error(FAILURE_MESSAGE)))
        reply.force_close()
        return reply

    def log_exception(self, *_: Any, **details: Any) -> None:
        """A failure outside any request."""
        error = details.get("exc_info")
        if isinstance(error, BaseException):
            self._hooks.failed(error)


class DoorServer(web.Server):
    """aiohttp's server, making ``DoorConnection``."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        hooks: ConnectionHooks,
        idle_seconds: float,
    ) -> None:
        # A client that left wants no key: the service gives up what is not yet delivered.
        super().__init__(handler, handler_cancellation=True)
        self._hooks = hooks
        self._idle_seconds = idle_seconds
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        self._emptied = asyncio.Event()

    def __call__(self) -> DoorConnection:
        """A connection for a transport that was just accepted."""
        return DoorConnection(
            self,
            hooks=self._hooks,
            loop=asyncio.get_running_loop(),
            # Also bounds how long a request's head may take: the clock starts with the connection.
            keepalive_timeout=self._idle_seconds,
            logger=_SILENT,
            access_log=None,
            max_line_size=limits.DOOR_LINE_BYTES,
            max_field_size=limits.DOOR_LINE_BYTES,
            max_headers=limits.DOOR_HEADERS,
            lingering_time=limits.DOOR_LINGER_SECONDS,
            # 64 KiB compressed could be 64 MiB.
            auto_decompress=False,
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """A handshake succeeded."""
        super().connection_made(handler, transport)
        self._open[handler] = transport

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """A connection is gone."""
        super().connection_lost(handler, exc)
        del self._open[handler]
        self._hooks.ended()
        if not self._open:
            self._emptied.set()

    async def end(self, drain_seconds: float) -> None:
        """Let requests under way end, then close every connection, whatever its client does."""
        self.pre_shutdown()
        await self.shutdown(drain_seconds)
        for give_up in (False, True):
            self._emptied.clear()
            if give_up:
                for transport in self._open.values():
                    transport.abort()
            if self._open:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._emptied.wait(), _CLOSE_SECONDS)


async def read_body(request: web.BaseRequest, seconds: float) -> bytes:
    """The whole body. Raises ``DeliveryFault`` (door-request) when it is too long, slow or broken."""
    declared = request.content_length
    if declared is not None and declared > limits.DOOR_BODY_BYTES:
        raise DeliveryFault(codes.DOOR_REQUEST, _TOO_LONG)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DeliveryFault(codes.DOOR_REQUEST, "the body is compressed")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            await _continue(request)
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limits.DOOR_BODY_BYTES:
                    raise DeliveryFault(codes.DOOR_REQUEST, _TOO_LONG)
    except TimeoutError as error:
        raise DeliveryFault(codes.DOOR_REQUEST, "the body did not arrive in time") from error
    except web.RequestPayloadError as error:
        raise DeliveryFault(codes.DOOR_REQUEST, "the body is not framed as HTTP/1.1 asks") from error
    return bytes(body)


_TOO_LONG: Final = f"the body is longer than {limits.DOOR_BODY_BYTES} bytes"


async def _continue(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to go on."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


async def send(request: web.BaseRequest, reply: web.Response, seconds: float) -> None:
    """Write an answer whole, or end the connection: a client that does not read is not waited for."""
    try:
        async with asyncio.timeout(seconds):
            await reply.prepare(request)
            await reply.write_eof()
    except TimeoutError as error:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client did not read its answer") from error
