"""What a connection does where no well-behaved client and no real network can bring it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.test_utils import make_mocked_request

from skex.base import codes
from skex.base.errors import DeliveryFault
from skex.delivery.etsi014.answers import Answer
from skex.delivery.etsi014.connection import (
    ConnectionHooks,
    DoorConnection,
    DoorServer,
    read_body,
    response,
    send,
)
from skex.delivery.etsi014.identity import IdentityField


class Heard:
    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.hooks = ConnectionHooks(lambda: None, lambda address: None, self.failures.append)


def with_connection(test: Callable[[DoorConnection, Heard], Coroutine[Any, Any, None]]) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError

    async def run() -> None:
        heard = Heard()
        server = DoorServer(handler, hooks=heard.hooks, idle_seconds=1)
        await test(server(), heard)

    asyncio.run(run())


def test_connection_without_tls_is_nobodys() -> None:
    async def test(connection: DoorConnection, heard: Heard) -> None:
        with pytest.raises(DeliveryFault) as caught:
            connection.identity(IdentityField.URI)
        assert caught.value.code is codes.DOOR_IDENTITY

    with_connection(test)


def test_failure_without_an_exception_is_503_all_the_same() -> None:
    async def test(connection: DoorConnection, heard: Heard) -> None:
        request = make_mocked_request("GET", "/")
        request.writer.output_size = 0
        reply = connection.handle_error(request, 504)
        assert isinstance(reply, web.Response)
        assert reply.status == 503
        assert json.loads(reply.body) == {"message": "error on server side"}  # type: ignore[arg-type]  # bytes here
        assert heard.failures == []

    with_connection(test)


def test_failure_after_an_answer_began_ends_the_connection() -> None:
    async def test(connection: DoorConnection, heard: Heard) -> None:
        request = make_mocked_request("GET", "/")
        request.writer.output_size = 1
        with pytest.raises(ConnectionResetError):
            connection.handle_error(request, 500, RuntimeError("defect"))

    with_connection(test)


def test_failure_outside_a_request_is_reported() -> None:
    async def test(connection: DoorConnection, heard: Heard) -> None:
        defect = RuntimeError("defect")
        connection.log_exception("words", exc_info=defect)
        connection.log_exception("words")
        assert heard.failures == [defect]

    with_connection(test)


def test_body_that_the_parser_gave_up_on_is_refused() -> None:
    async def test(connection: DoorConnection, heard: Heard) -> None:
        payload = StreamReader(connection, 1024, loop=asyncio.get_running_loop())
        payload.feed_data(b"{")
        payload.set_exception(web.RequestPayloadError("quotes the peer"))
        with pytest.raises(DeliveryFault, match="not framed") as caught:
            await read_body(make_mocked_request("POST", "/", payload=payload), 5)
        assert caught.value.code is codes.DOOR_REQUEST

    with_connection(test)


class Stuck(web.Response):
    """An answer whose last byte is never taken."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("gone", [False, True])
def test_answer_that_is_not_taken_in_time_ends_the_connection(
    gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborted: list[bool] = []

    class Transport(asyncio.Transport):
        def abort(self) -> None:
            aborted.append(True)

    async def run() -> None:
        request = make_mocked_request("GET", "/")
        monkeypatch.setattr(request.protocol, "transport", None if gone else Transport())
        with pytest.raises(ConnectionResetError):
            await send(request, Stuck(), 0.01)

    asyncio.run(run())
    assert aborted == ([] if gone else [True])


def test_only_401_carries_a_challenge() -> None:
    assert "WWW-Authenticate" in response(Answer(401, b"{}")).headers
    assert "WWW-Authenticate" not in response(Answer(400, b"{}")).headers
