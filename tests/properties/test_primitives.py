"""The primitives against the plain second implementation, on whatever hypothesis thinks of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skex.base.errors import PeerFault
from skex.crypto import aead, gf256, kdf, mac
from skex.crypto.ghash import ghash
from skex.crypto.keystream import Keystream
from tests.unit.crypto import reference

KEYS = st.binary(min_size=32, max_size=32)


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=320))
def test_ghash_agrees_with_the_standards_algorithm(key: bytes, data: bytes) -> None:
    whole = data[: len(data) // 16 * 16]
    assert ghash(key, whole) == reference.ghash(key, whole)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), st.binary(max_size=64))
def test_ghash_is_linear_in_the_data(key: bytes, block: bytes, data: bytes) -> None:
    data = (data + bytes(-len(data) % 16)) or bytes(16)
    other = (block * len(data))[: len(data)]
    assert ghash(key, gf256.add(data, other)) == gf256.add(ghash(key, data), ghash(key, other))


@given(st.binary(max_size=100), st.integers(0, 255))
def test_scaling_agrees_with_the_reference(data: bytes, factor: int) -> None:
    assert gf256.scale(data, factor) == bytes(reference.gf256_multiply(byte, factor) for byte in data)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_public_factors_form_a_field(a: int, b: int, c: int) -> None:
    assert gf256.multiply(a, b) == gf256.multiply(b, a) == reference.gf256_multiply(a, b)
    assert gf256.multiply(a, b ^ c) == gf256.multiply(a, b) ^ gf256.multiply(a, c)
    assert gf256.multiply(a, gf256.multiply(b, c)) == gf256.multiply(gf256.multiply(a, b), c)


@given(KEYS, st.binary(max_size=200))
def test_poly1305_agrees_with_the_rfcs_algorithm(key: bytes, data: bytes) -> None:
    assert mac.record_tag(key[:16], key[16:], data) == reference.poly1305(key, data)


@given(
    st.binary(min_size=1, max_size=200), st.binary(max_size=80), st.binary(max_size=80), st.integers(1, 300)
)
def test_hkdf_agrees_with_the_rfcs_algorithm(ikm: bytes, salt: bytes, info: bytes, length: int) -> None:
    prk = reference.hkdf_extract("sha512", salt, ikm)
    assert kdf.hkdf_sha512(ikm, salt, info, length) == reference.hkdf_expand("sha512", prk, info, length)


@given(KEYS, st.lists(st.integers(0, 100), max_size=8))
def test_keystream_is_the_same_however_it_is_taken(key: bytes, lengths: list[int]) -> None:
    stream = Keystream(key)
    taken = b"".join(map(stream.take, lengths))
    assert taken == reference.aes_counter(key, 0, sum(lengths))


@given(KEYS, st.binary(max_size=200), st.binary(max_size=80), st.data())
def test_sealed_message_opens_and_any_changed_bit_is_refused(
    key: bytes, plaintext: bytes, associated: bytes, data: st.DataObject
) -> None:
    sealed = aead.seal(key, plaintext, associated)
    assert aead.open_(key, sealed, associated) == plaintext
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    changed = (int.from_bytes(sealed, "big") ^ 1 << bit).to_bytes(len(sealed), "big")
    with pytest.raises(PeerFault):
        aead.open_(key, changed, associated)
