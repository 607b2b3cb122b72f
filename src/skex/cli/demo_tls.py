"""TLS 1.3 with an external pre-shared key between two stock ``openssl`` processes.

Each side reads its own session file, which holds the key that its own SAE was given: that the two
handshakes agree proves that the keys do. OpenSSL ties a key given with ``-psk`` to SHA-256, so a
session file is the way to TLS_AES_256_GCM_SHA384. It must not know where the keys come from.
"""

from __future__ import annotations

import asyncio
import base64
import re
from asyncio import StreamReader
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skex.base.secret import Secret
from skex.cli.demo_processes import failed, run, running
from skex.runtime.files import write_private

SUITE: Final = "TLS_AES_256_GCM_SHA384"
LIFETIME_SECONDS: Final = 3600
"""How long OpenSSL takes the session file for valid."""
_SUITE_CODE: Final = b"\x13\x02"
_TLS_1_3: Final = 0x0304
_SERVER_SECONDS: Final = 10
_OUTPUT_BYTES: Final = 1 << 20
"""More than openssl ever says about one connection."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What both sides of a connection reported."""

    suite: str
    received: str


# ── the session file ────────────────────────────────────────────────────────────────────────────
def session_pem(key: Secret, unix_seconds: int) -> Secret:
    """OpenSSL's session file for a pre-shared key (SSL_SESSION_ASN1, version 1), made at a moment."""
    fields = (
        _integer(1),
        _integer(_TLS_1_3),
        _octets(_SUITE_CODE),
        _octets(b""),  # no session id
        _octets(key.expose()),
        _value(0xA1, _integer(unix_seconds)),
        _value(0xA2, _integer(LIFETIME_SECONDS)),
    )
    body = base64.encodebytes(_value(0x30, b"".join(fields)))
    frame = b"-----%s SSL SESSION PARAMETERS-----\n"
    return Secret(frame % b"BEGIN" + body + frame % b"END")


def write_session(path: Path, pem: Secret) -> None:
    """Write a session file that nobody else may read. Raises ``OSError``, also if it is there."""
    write_private(path, pem.expose())


def _value(tag: int, content: bytes) -> bytes:
    """DER (X.690), with lengths up to 65,535: a session with a key needs three bytes at most."""
    length = len(content)
    if length < 0x80:
        head = bytes((length,))
    elif length < 0x100:
        head = bytes((0x81, length))
    else:
        head = b"\x82" + length.to_bytes(2, "big")
    return bytes((tag,)) + head + content


def _integer(number: int) -> bytes:
    # One bit more than the number has, so that the sign stays clear.
    return _value(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _octets(content: bytes) -> bytes:
    return _value(4, content)


# ── the connection ──────────────────────────────────────────────────────────────────────────────
async def connect(identity: str, server: Path, client: Path, message: str) -> Handshake:
    """Send ``message`` from a client to a server, each with its own session file.

    Raises ``Refused``: tool-missing, demo-failed if there is no connection.
    """
    secured = ("-tls1_3", "-ciphersuites", SUITE, "-psk_identity", identity, "-psk_session")
    # No tickets: the client would leave them unread when it closes.
    plain = ("-accept", "127.0.0.1:0", "-nocert", "-naccept", "1", "-num_tickets", "0")
    async with running(("openssl", "s_server", *plain, *secured, str(server))) as process:
        assert process.stdout is not None  # noqa: S101  # it was asked for
        port = await _port(process.stdout)
        dial = ("openssl", "s_client", "-connect", f"127.0.0.1:{port}", *secured, str(client))
        dialled = await run(dial, stdin=f"{message}\n".encode())
        suite = re.search(
            r"^Reused, TLSv1\.3, Cipher is (\S+)$", dialled.stdout.decode(errors="replace"), re.MULTILINE
        )
        if suite is None:
            raise failed(f"openssl s_client: {_reason(dialled.stderr)}")
        received = await _heard(process.stdout, message)
    return Handshake(suite[1], received)


async def _port(stdout: StreamReader) -> int:
    """The port that the system chose for ``openssl s_server``."""
    line = await _line(stdout, re.compile(rb"ACCEPT .*:(\d+)\s*"))
    return int(line[1])


async def _heard(stdout: StreamReader, message: str) -> str:
    line = await _line(stdout, re.compile(rb"(" + re.escape(message.encode()) + rb")\s*"))
    return line[1].decode()


async def _line(stdout: StreamReader, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
    """The first line that is exactly as wanted. Raises ``Refused`` (demo-failed) if none comes."""
    try:
        async with asyncio.timeout(_SERVER_SECONDS):
            while line := await stdout.readline():
                if match := pattern.fullmatch(line):
                    return match
    except TimeoutError:
        pass
    raise failed("openssl s_server did not say what it should")


def _reason(stderr: str) -> str:
    """The line in which openssl says what was wrong."""
    return next((line for line in stderr.splitlines() if "error" in line), "no connection")
