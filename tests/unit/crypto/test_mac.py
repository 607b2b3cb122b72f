from __future__ import annotations

from collections.abc import Callable
from hashlib import shake_256
from typing import Any

import pytest

from skex.base.errors import LocalBug
from skex.crypto import mac
from tests.unit.crypto import reference
from tests.unit.crypto.reference import assert_refused, cases


@pytest.mark.parametrize("case", cases("poly1305.json"))
def test_published_poly1305_tags_are_met(case: dict[str, Any]) -> None:
    key, data = bytes.fromhex(case["key"]), bytes.fromhex(case["data"])
    assert mac.poly1305(key, data).hex() == case["tag"]
    assert mac.record_tag(key[:16], key[16:], data).hex() == case["tag"]
    assert reference.poly1305(key, data).hex() == case["tag"]


def test_record_of_the_largest_size_has_the_references_tag() -> None:
    stream = shake_256(b"record").digest(32 + 65_536)
    assert mac.record_tag(stream[:16], stream[16:32], stream[32:]) == reference.poly1305(
        stream[:32], stream[32:]
    )


@pytest.mark.parametrize("case", cases("hmac_sha512.json"))
def test_published_hmacs_are_met(case: dict[str, Any]) -> None:
    assert mac.hmac_sha512(bytes.fromhex(case["key"]), bytes.fromhex(case["data"])).hex() == case["tag"]


def test_tags_are_equal_only_if_all_bytes_and_the_length_are() -> None:
    tag = shake_256(b"tag").digest(16)
    assert mac.equal(tag, bytes(bytearray(tag)))
    assert not mac.equal(tag, tag[:15])
    assert not mac.equal(tag, b"")
    for index in range(16):
        assert not mac.equal(tag, tag[:index] + bytes([tag[index] ^ 0x80]) + tag[index + 1 :])


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: mac.poly1305(bytes(31), b""), id="Poly1305 key of 31 bytes"),
        pytest.param(lambda: mac.poly1305(bytes(33), b""), id="Poly1305 key of 33 bytes"),
        pytest.param(lambda: mac.record_tag(bytes(15), bytes(17), b""), id="r and s cut at the wrong place"),
        pytest.param(lambda: mac.record_tag(bytes(16), bytes(15), b""), id="s of 15 bytes"),
        pytest.param(lambda: mac.hmac_sha512(b"", b"data"), id="HMAC without a key"),
    ],
)
def test_caller_with_another_key_length_is_a_bug(call: Callable[[], object]) -> None:
    with pytest.raises(LocalBug) as caught:
        call()
    assert_refused(caught)
