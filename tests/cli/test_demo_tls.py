from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from skex.base.errors import Refused
from skex.base.secret import Secret
from skex.cli import demo_tls
from skex.cli.demo_processes import checked
from skex.runtime import clock

KEY = bytes(range(32))


def session(path: Path, key: bytes) -> Path:
    demo_tls.write_session(path, demo_tls.session_pem(Secret(key), clock.unix_seconds()))
    return path


@pytest.mark.parametrize("size", [16, 32, 48, 64, 127, 128, 255, 256, 512])
def test_openssl_reads_the_session_file_and_finds_the_key_in_it(tmp_path: Path, size: int) -> None:
    key = bytes(number % 251 for number in range(size))
    path = session(tmp_path / "psk.pem", key)

    async def read() -> str:
        return (await checked(["openssl", "sess_id", "-in", str(path), "-noout", "-text"])).decode()

    text = asyncio.run(read())
    assert "Protocol  : TLSv1.3" in text
    assert demo_tls.SUITE in text
    assert f"Resumption PSK: {key.hex().upper()}" in text
    assert f"Timeout   : {demo_tls.LIFETIME_SECONDS} (sec)" in text


def test_session_file_is_for_its_owner_only_and_is_never_overwritten(tmp_path: Path) -> None:
    path = session(tmp_path / "psk.pem", KEY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        session(path, KEY)


def test_equal_keys_at_both_ends_carry_a_message_over_tls_with_sha384(tmp_path: Path) -> None:
    server, client = session(tmp_path / "server.pem", KEY), session(tmp_path / "client.pem", KEY)
    handshake = asyncio.run(demo_tls.connect("key-1", server, client, "a word from A to B"))
    assert handshake == demo_tls.Handshake("TLS_AES_256_GCM_SHA384", "a word from A to B")


def test_an_attacker_with_another_key_gets_no_connection(tmp_path: Path) -> None:
    server, client = session(tmp_path / "server.pem", KEY), session(tmp_path / "client.pem", bytes(32))
    with pytest.raises(Refused, match=r"demo-failed.*s_client") as refused:
        asyncio.run(demo_tls.connect("key-1", server, client, "a word"))
    assert KEY.hex() not in str(refused.value)
