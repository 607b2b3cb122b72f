"""The ETSI 014 door under pressure: slow, huge, broken and many clients; nothing waits without end."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import threading
from asyncio import selector_events
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from skex.base import codes, limits
from skex.base.errors import DeliveryFault, LocalBug
from skex.delivery.etsi014.context import server_context
from skex.delivery.etsi014.identity import IdentityField
from skex.delivery.etsi014.server import Door, DoorSettings
from skex.enrol.ca import Revocation, Subject, revocation_list
from skex.runtime import clock
from tests.api.conftest import ALLOWED, MASTER, SLAVE, Sites
from tests.support.door import Pki, Recorder, RunningDoor, curl, running_door, until
from tests.support.memory_keys import Exchange, MemoryKeys

ENC = f"/api/v1/keys/{SLAVE}/enc_keys"
DEC = f"/api/v1/keys/{MASTER}/dec_keys"
STATUS = f"/api/v1/keys/{SLAVE}/status"
HURRIED = DoorSettings(
    connections=8,
    requests_per_sae=2,
    handshake_seconds=0.6,
    idle_seconds=0.6,
    body_seconds=0.6,
    request_seconds=1.0,
    answer_seconds=1.0,
    drain_seconds=2.0,
)


def client_context(pki: Pki, sae: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=pki.ca)
    context.load_cert_chain(*pki.files(sae))
    return context


@contextmanager
def raw(door: RunningDoor, sae: str = MASTER) -> Iterator[ssl.SSLSocket]:
    """A TLS connection without HTTP."""
    with (
        socket.create_connection(("127.0.0.1", door.port), timeout=15) as plain,
        client_context(door.pki, sae).wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        yield tls


def sleep(seconds: float) -> None:
    threading.Event().wait(seconds)


def drained(connection: socket.socket) -> bytes:
    """Everything until the other end closes."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except (ConnectionError, ssl.SSLError):
        pass
    return received


@pytest.fixture
def keys() -> MemoryKeys:
    return MemoryKeys("site-a", Exchange(set(ALLOWED)))


@pytest.fixture
def hurried(keys: MemoryKeys, pki: Pki) -> Iterator[RunningDoor]:
    with running_door(keys, pki, "site-a", settings=HURRIED) as door:
        yield door


# ── slow ────────────────────────────────────────────────────────────────────────────────────────
def test_head_that_trickles_is_cut_off(hurried: RunningDoor) -> None:
    with raw(hurried) as connection:
        started = clock.now()
        ended = False
        for byte in f"GET {ENC} HTTP/1.1\r\nHost: x\r\nX-Slow: {'x' * 100}".encode():
            try:
                connection.send(bytes([byte]))
            except (ConnectionError, ssl.SSLError):
                ended = True
                break
            sleep(0.05)
        assert ended or drained(connection) == b""
        assert clock.now() - started < 4


def test_silent_connection_is_cut_off(hurried: RunningDoor) -> None:
    with raw(hurried) as connection:
        assert drained(connection) == b""


def test_body_that_does_not_come_is_400(hurried: RunningDoor, keys: MemoryKeys) -> None:
    with raw(hurried) as connection:
        connection.sendall(f"POST {ENC} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{".encode())
        answer = drained(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"did not arrive in time" in answer
    assert keys.exchange.delivered == []


def test_handshake_that_stalls_is_cut_off(hurried: RunningDoor) -> None:
    with socket.create_connection(("127.0.0.1", hurried.port), timeout=10) as connection:
        assert drained(connection) == b""
    assert "127.0.0.1" in hurried.refusal()


def test_request_that_takes_too_long_is_503(hurried: RunningDoor, keys: MemoryKeys) -> None:
    keys.pause = 30
    reply = hurried.knock(MASTER, ENC)
    assert reply.status == 503
    assert reply.json["details"] == [{"code": "door-timeout"}]


def test_stalled_connections_beyond_the_bound_keep_nobody_out_for_long(hurried: RunningDoor) -> None:
    stalled = [
        socket.create_connection(("127.0.0.1", hurried.port), timeout=10)
        for _ in range(3 * HURRIED.connections)
    ]
    try:
        assert hurried.knock(MASTER, STATUS).status == 200
    finally:
        for one in stalled:
            one.close()


def test_client_that_does_not_read_is_let_go(pki: Pki) -> None:
    keys = MemoryKeys("site-a", Exchange(set(ALLOWED)), per_request_max=20_000)
    keys.key_bytes_max = 1024
    with running_door(keys, pki, "site-a", settings=HURRIED) as door:
        body = b'{"number":4000,"size":8192}'
        head = f"POST {ENC} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.socket() as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.settimeout(15)
            plain.connect(("127.0.0.1", door.port))
            context = client_context(pki, MASTER)
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(head + body)
                sleep(HURRIED.request_seconds + HURRIED.answer_seconds + 1)
                assert len(drained(connection)) < 4000 * 1024
        assert door.knock(MASTER, STATUS).status == 200


# ── huge ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("framing", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["length", "chunked"])
def test_huge_body_is_400_without_being_read(sites: Sites, framing: list[str]) -> None:
    body = b'{"number":1}' + b" " * (4 * 1024 * 1024)
    arguments = ["--data-binary", "@-", "-H", "Content-Type: application/json", *framing]
    reply = sites.a.knock(MASTER, ENC, *arguments, stdin=body)
    assert (reply.status, reply.json) == (400, {"message": "the body is longer than 65536 bytes"})
    assert sites.exchange.delivered == []


def test_longest_allowed_body_is_read(sites: Sites) -> None:
    body = b'{"number":1}'
    assert sites.a.post(MASTER, ENC, body.ljust(limits.DOOR_BODY_BYTES)).status == 200
    assert sites.a.post(MASTER, ENC, body.ljust(limits.DOOR_BODY_BYTES + 1)).status == 400


def test_client_that_waits_for_a_go_ahead_gets_it(sites: Sites) -> None:
    arguments = ["-H", "Expect: 100-continue", "--expect100-timeout", "15"]
    started = clock.now()
    reply = sites.a.knock(MASTER, ENC, *arguments, "--data-binary", "@-", stdin=b'{"number":2}')
    assert len(reply.json["keys"]) == 2
    assert clock.now() - started < 10


def test_compressed_body_is_400(sites: Sites) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    reply = sites.a.knock(MASTER, ENC, "--data-binary", "@-", "-H", "Content-Encoding: gzip", stdin=bomb)
    assert (reply.status, reply.json) == (400, {"message": "the body is compressed"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["-H", f"X-Long: {'x' * 5000}"],
        [part for index in range(100) for part in ("-H", f"X-{index}: y")],
    ],
    ids=["long", "many"],
)
def test_too_much_head_is_400(sites: Sites, arguments: list[str]) -> None:
    reply = sites.a.knock(MASTER, ENC, *arguments)
    assert (reply.status, reply.json) == (400, {"message": "the request is not HTTP/1.1"})


# ── broken ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "garbage",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        f"POST {ENC} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
    ],
)
def test_what_is_not_http_is_400_in_json_and_ends_the_connection(sites: Sites, garbage: bytes) -> None:
    with raw(sites.a) as connection:
        connection.sendall(garbage)
        answer = drained(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"Cache-Control: no-store" in head
    assert isinstance(json.loads(body)["message"], str)
    assert sites.a.events.accesses[-1].code == "door-request"
    assert sites.a.events.failures == []


def test_body_that_breaks_in_the_middle_is_400(hurried: RunningDoor, keys: MemoryKeys) -> None:
    with raw(hurried) as connection:
        connection.sendall(f"POST {ENC} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        sleep(0.3)
        connection.sendall(b"1\r\n{\r\nzz\r\n")
        answer = drained(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert keys.exchange.delivered == []


def test_nothing_is_read_after_a_refused_body(sites: Sites) -> None:
    smuggled = f"GET {ENC} HTTP/1.1\r\nHost: x\r\n\r\n"
    with raw(sites.a) as connection:
        length = f"Content-Length: {len(smuggled)}"
        head = f"POST {ENC} HTTP/1.1\r\nHost: x\r\n{length}\r\nContent-Encoding: br\r\n\r\n"
        connection.sendall((head + smuggled + smuggled).encode())
        answer = drained(connection)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert sites.exchange.delivered == []


def test_absolute_form_is_understood(sites: Sites) -> None:
    with raw(sites.a) as connection:
        request = f"GET https://localhost{STATUS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        assert drained(connection).startswith(b"HTTP/1.1 200 ")


# ── many ────────────────────────────────────────────────────────────────────────────────────────
async def fetch(session: aiohttp.ClientSession, port: int, path: str, **arguments: Any) -> tuple[int, Any]:
    method = "POST" if "json" in arguments else "GET"
    async with session.request(method, f"https://localhost:{port}{path}", **arguments) as reply:
        return reply.status, await reply.json()


def test_two_hundred_requests_at_once_give_as_many_different_keys(sites: Sites) -> None:
    async def run() -> None:
        timeout = aiohttp.ClientTimeout(total=60)
        connector = aiohttp.TCPConnector(limit=200, ssl=client_context(sites.pki, MASTER))
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            made = await asyncio.gather(*(fetch(session, sites.a.port, ENC) for _ in range(200)))
        assert {status for status, _ in made} == {200}
        keys = {one["key_ID"]: one["key"] for _, body in made for one in body["keys"]}
        assert len(keys) == len(set(keys.values())) == 200
        connector = aiohttp.TCPConnector(limit=50, ssl=client_context(sites.pki, SLAVE))
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            taken = await asyncio.gather(
                *(fetch(session, sites.b.port, f"{DEC}?key_ID={one}") for one in keys for _ in range(2))
            )
        delivered = [one for status, body in taken if status == 200 for one in body["keys"]]
        assert {one["key_ID"]: one["key"] for one in delivered} == keys
        assert len(delivered) == 200
        assert {status for status, _ in taken} == {200, 400}

    asyncio.run(run())


def test_busy_sae_keeps_no_other_waiting(keys: MemoryKeys, pki: Pki) -> None:
    pki.issue(Subject.SAE, "quiet@site-a", stem="quiet")
    keys.exchange.allowed |= {(keys.resolve("quiet@site-a"), keys.resolve(SLAVE))}
    keys.pause = 0.4
    settings = DoorSettings(requests_per_sae=2)

    async def run(port: int) -> None:
        loop = asyncio.get_running_loop()
        busy = aiohttp.TCPConnector(limit=20, ssl=client_context(pki, MASTER))
        quiet = aiohttp.TCPConnector(ssl=client_context(pki, "quiet"))
        async with (
            aiohttp.ClientSession(connector=busy) as many,
            aiohttp.ClientSession(connector=quiet) as one,
            asyncio.TaskGroup() as group,
        ):
            started = loop.time()
            crowd = [group.create_task(fetch(many, port, STATUS)) for _ in range(12)]
            await asyncio.sleep(0.2)
            assert (await fetch(one, port, STATUS))[0] == 200
            assert sum(task.done() for task in crowd) <= 6
            assert {(await task)[0] for task in crowd} == {200}
            assert loop.time() - started >= 12 / 2 * 0.4

    with running_door(keys, pki, "site-a", settings=settings) as door:
        asyncio.run(run(door.port))


def test_one_connection_serves_many_requests_and_then_closes_for_age(keys: MemoryKeys, pki: Pki) -> None:
    settings = DoorSettings(connection_seconds=0.5)
    with running_door(keys, pki, "site-a", settings=settings) as door, raw(door) as connection:
        request = f"GET {STATUS} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        connection.sendall(request * 3)
        sleep(0.7)
        connection.sendall(request)
        answer = drained(connection)
    assert answer.count(b"HTTP/1.1 200 ") == 4
    assert answer.count(b"Connection: close") == 1


def test_door_keeps_its_promises_on_the_daemons_event_loop(keys: MemoryKeys, pki: Pki) -> None:
    async def run(port: int) -> list[tuple[int, Any]]:
        connector = aiohttp.TCPConnector(limit=50, ssl=client_context(pki, MASTER))
        async with aiohttp.ClientSession(connector=connector) as session:
            return await asyncio.gather(*(fetch(session, port, ENC) for _ in range(100)))

    with running_door(keys, pki, "site-a", settings=HURRIED, loop_factory=uvloop.new_event_loop) as door:
        assert {status for status, _ in asyncio.run(run(door.port))} == {200}
        assert door.knock("expired", ENC).status == 0
        assert "certificate has expired" in door.refusal()
        with socket.create_connection(("127.0.0.1", door.port), timeout=10) as silent:
            assert drained(silent) == b""
        with raw(door) as connection:
            connection.sendall(f"GET {ENC} HTTP/1.1\r\n".encode())
            assert drained(connection) == b""
        with raw(door) as connection:
            connection.sendall(b"garbage\r\n\r\n")
            assert drained(connection).startswith(b"HTTP/1.0 400 ")
        keys.pause = 30
        assert door.knock(MASTER, ENC).status == 503
    assert len(keys.exchange.delivered) == 100
    assert door.events.failures == []


# ── leaving ─────────────────────────────────────────────────────────────────────────────────────
def test_client_that_leaves_gets_no_key_made_for_it(keys: MemoryKeys, pki: Pki) -> None:
    keys.pause = 3
    with running_door(keys, pki, "site-a") as door:
        with raw(door) as connection:
            connection.sendall(f"GET {ENC} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            sleep(0.3)
        until(lambda: bool(door.events.accesses))
        assert door.events.accesses[0].status == 0
    assert keys.exchange.delivered == []


def test_requests_under_way_are_answered_when_the_door_closes(keys: MemoryKeys, pki: Pki) -> None:
    keys.pause = 1.0
    answers: list[bytes] = []
    with running_door(keys, pki, "site-a") as door, raw(door) as connection:
        connection.sendall(f"GET {ENC} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        sleep(0.4)
        door.stop()
        answers.append(drained(connection))
    assert answers[0].startswith(b"HTTP/1.1 200 ")
    assert len(keys.exchange.delivered) == 1


def test_client_that_does_not_end_its_side_does_not_hold_up_the_end(keys: MemoryKeys, pki: Pki) -> None:
    with running_door(keys, pki, "site-a") as door, raw(door) as connection:
        connection.sendall(f"GET {STATUS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(8) == b"HTTP/1.1"
        started = clock.now()
        door.stop()
        door.wait()
        assert clock.now() - started < 4
    assert door.events.failures == []


# ── certificates and addresses ──────────────────────────────────────────────────────────────────
def test_revoked_certificate_fails_once_the_door_is_renewed(
    keys: MemoryKeys, pki: Pki, scratch: Path
) -> None:
    stem = "revoked"
    issued = pki.issue(Subject.SAE, MASTER, stem=stem)
    path = scratch / "crl.pem"
    now = clock.wall()
    path.write_bytes(
        revocation_list(pki.authority, [Revocation(issued.serial, now - timedelta(hours=1))], 1, 7, now=now)
    )
    with running_door(keys, pki, "site-a") as door:
        assert door.knock(stem, STATUS).status == 200
        door.door.renew(server_context(*pki.files("site-a"), pki.ca, path))
        assert door.knock(stem, STATUS).status == 0
        assert "certificate revoked" in door.refusal()
        assert door.knock(MASTER, STATUS).status == 200


def test_certificate_without_a_name_in_the_field_is_401(keys: MemoryKeys, pki: Pki) -> None:
    with running_door(keys, pki, "site-a", settings=DoorSettings(IdentityField.EMAIL)) as door:
        reply = door.knock(MASTER, STATUS)
        assert (reply.status, reply.json) == (401, {"message": "the SAE is not authorised"})
        assert door.events.accesses[-1].detail == "0 names in the field email"


def test_port_in_use_is_named(sites: Sites, keys: MemoryKeys) -> None:
    context = server_context(*sites.pki.files("site-a"), sites.pki.ca)
    door = Door(keys, context, Recorder(), clock.wall)
    with pytest.raises(DeliveryFault, match="in use") as caught:
        door.bind("127.0.0.1", sites.a.port)
    assert caught.value.code is codes.DOOR_ADDRESS


def test_door_that_is_not_bound_does_not_serve(sites: Sites, keys: MemoryKeys) -> None:
    context = server_context(*sites.pki.files("site-a"), sites.pki.ca)
    with pytest.raises(LocalBug):
        asyncio.run(Door(keys, context, Recorder(), clock.wall).serve())


def test_door_goes_on_when_the_system_has_no_file_descriptor_left(
    keys: MemoryKeys, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = selector_events.BaseSelectorEventLoop.sock_accept
    failing = [OSError(24, "Too many open files")]

    async def sock_accept(self: Any, sock: socket.socket) -> Any:
        if failing:
            raise failing.pop()
        return await original(self, sock)

    monkeypatch.setattr(selector_events.BaseSelectorEventLoop, "sock_accept", sock_accept)
    with running_door(keys, pki, "site-a") as door:
        assert door.knock(MASTER, STATUS).status == 200
        assert [str(one) for one in door.events.failures] == ["[Errno 24] Too many open files"]


def test_ipv6_is_served_where_there_is_any(keys: MemoryKeys, pki: Pki) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this host has no IPv6")
    with running_door(keys, pki, "site-a", host="::1") as door:
        reply = curl(
            door.port,
            STATUS,
            client=pki.files(MASTER),
            ca=pki.ca,
            arguments=["--resolve", f"localhost:{door.port}:[::1]"],
        )
        assert reply.status == 200
