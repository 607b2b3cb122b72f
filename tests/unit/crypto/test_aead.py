from __future__ import annotations

from collections.abc import Callable
from hashlib import shake_256
from typing import Any

import pytest

from skex.base import codes, limits
from skex.base.errors import LocalBug, PeerFault
from skex.crypto import aead
from tests.unit.crypto.reference import assert_refused, cases

KEY = shake_256(b"key").digest(32)


@pytest.mark.parametrize("case", cases("aead.json"))
def test_published_messages_are_sealed_and_opened_or_refused(case: dict[str, Any]) -> None:
    key, associated, sealed = (bytes.fromhex(case[name]) for name in ("key", "associated", "sealed"))
    if case["outcome"] == "valid":
        plaintext = bytes.fromhex(case["plaintext"])
        assert aead.seal(key, plaintext, associated) == sealed
        assert aead.open_(key, sealed, associated) == plaintext
    else:
        with pytest.raises(PeerFault) as caught:
            aead.open_(key, sealed, associated)
        assert caught.value.code.name == case["outcome"]


@pytest.mark.parametrize("length", [0, 1, 16, 1000, aead.PLAINTEXT_BYTES_MAX])
def test_what_was_sealed_opens(length: int) -> None:
    plaintext = shake_256(b"plaintext").digest(length)
    sealed = aead.seal(KEY, plaintext, b"to B")
    assert len(sealed) == length + aead.TAG_BYTES <= limits.PEER_ENVELOPE_BYTES
    assert aead.open_(KEY, sealed, b"to B") == plaintext


SEALED = aead.seal(KEY, b"assign", b"to B")


@pytest.mark.parametrize(
    ("key", "sealed", "associated"),
    [
        pytest.param(KEY, bytes([SEALED[0] ^ 1]) + SEALED[1:], b"to B", id="hub changes the ciphertext"),
        pytest.param(KEY, SEALED[:-1] + bytes([SEALED[-1] ^ 1]), b"to B", id="hub changes the tag"),
        pytest.param(KEY, SEALED[:-1], b"to B", id="hub cuts the end"),
        pytest.param(KEY, SEALED + b"\x00", b"to B", id="hub adds to the end"),
        pytest.param(KEY, SEALED[:15], b"to B", id="shorter than a tag"),
        pytest.param(KEY, b"", b"to B", id="nothing"),
        pytest.param(KEY, bytes(limits.PEER_ENVELOPE_BYTES + 1), b"to B", id="longer than an envelope"),
        pytest.param(KEY, SEALED, b"to C", id="hub shows it to another"),
        pytest.param(KEY, SEALED, b"", id="associated data left out"),
        pytest.param(bytes(32), SEALED, b"to B", id="another key"),
    ],
)
def test_changed_message_is_refused_with_one_code(key: bytes, sealed: bytes, associated: bytes) -> None:
    with pytest.raises(PeerFault) as caught:
        aead.open_(key, sealed, associated)
    assert caught.value.code is codes.PEER_MESSAGE_INVALID
    assert caught.value.detail == ""


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: aead.seal(bytes(16), b"", b""), id="sealing with an AES-128 key"),
        pytest.param(lambda: aead.seal(bytes(33), b"", b""), id="sealing with a long key"),
        pytest.param(lambda: aead.open_(bytes(24), SEALED, b""), id="opening with an AES-192 key"),
        pytest.param(
            lambda: aead.seal(KEY, bytes(aead.PLAINTEXT_BYTES_MAX + 1), b""), id="more than an envelope"
        ),
    ],
)
def test_caller_with_another_key_length_or_too_much_is_a_bug(call: Callable[[], object]) -> None:
    with pytest.raises(LocalBug) as caught:
        call()
    assert_refused(caught)
