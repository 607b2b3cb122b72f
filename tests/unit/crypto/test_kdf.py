from __future__ import annotations

from collections.abc import Callable
from hashlib import shake_256
from itertools import permutations
from typing import Any

import pytest

from skex.base import limits
from skex.base.errors import LocalBug
from skex.base.ids import Direction
from skex.crypto import kdf
from skex.crypto.kdf import Label
from tests.unit.crypto import reference
from tests.unit.crypto.reference import assert_refused, cases

CHAIN = shake_256(b"chain").digest(64)
LINK = shake_256(b"link").digest(8)
KME = shake_256(b"kme").digest(32)
HUB = shake_256(b"hub").digest(32)
ROOT = shake_256(b"root").digest(32)
NAME = "sha512"


def test_labels_are_the_bytes_that_the_protocol_fixes() -> None:
    assert {label.name: bytes(label) for label in Label} == {
        "PREFACE_1": b"skex1 preface 1",
        "PREFACE_2": b"skex1 preface 2",
        "PREFACE_3": b"skex1 preface 3",
        "PREFACE_4": b"skex1 preface 4",
        "PREFACE_5": b"skex1 preface 5",
        "GRANT": b"skex1 grant",
        "NEXT": b"skex1 next",
        "CONFIRM": b"skex1 confirm",
        "PEER": b"skex1 peer",
        "KEY_ID": b"skex1 key id",
        "GROUP_KEY_ID": b"skex1 group key id",
        "REALM": b"skex1 realm",
        "FINGERPRINT": b"skex1 fingerprint",
        "EVIDENCE": b"skex1 evidence",
    }


def test_no_label_is_another_or_the_beginning_of_another() -> None:
    """``__members__`` also counts a name that is a second one for the same bytes."""
    assert len(Label.__members__) == len(set(Label))
    assert not [pair for pair in permutations(Label, 2) if pair[0].startswith(pair[1])]


def test_each_preface_frame_has_its_own_label() -> None:
    assert [kdf.preface_label(frame) for frame in range(1, 6)] == [
        f"skex1 preface {frame}".encode() for frame in range(1, 6)
    ]


@pytest.mark.parametrize("case", cases("hkdf.json", "reference"))
def test_reference_hkdf_meets_the_rfcs_own_vectors(case: dict[str, Any]) -> None:
    ikm, salt, info = (bytes.fromhex(case[name]) for name in ("ikm", "salt", "info"))
    prk = reference.hkdf_extract(case["hash"], salt, ikm)
    assert prk.hex() == case["prk"]
    length = len(case["okm"]) // 2
    assert reference.hkdf_expand(case["hash"], prk, info, length).hex() == case["okm"]


@pytest.mark.parametrize("case", cases("hkdf.json", "sha512"))
def test_published_hkdf_values_are_met(case: dict[str, Any]) -> None:
    ikm, salt, info = (bytes.fromhex(case[name]) for name in ("ikm", "salt", "info"))
    assert kdf.hkdf_sha512(ikm, salt, info, len(case["okm"]) // 2).hex() == case["okm"]


@pytest.mark.parametrize("case", cases("hkdf.json", "reference"))
def test_inputs_of_the_rfc_give_the_references_value_with_sha512(case: dict[str, Any]) -> None:
    ikm, salt, info = (bytes.fromhex(case[name]) for name in ("ikm", "salt", "info"))
    prk = reference.hkdf_extract(NAME, salt, ikm)
    for length in (1, 63, 64, 65, 200, kdf.HKDF_BYTES_MAX):
        expected = reference.hkdf_expand(NAME, prk, info, length)
        assert kdf.hkdf_sha512(ikm, salt, info, length) == expected
        assert kdf.hkdf_expand_sha512(prk, info, length) == expected


@pytest.mark.parametrize("case", cases("key_schedule.json", "chain"))
def test_chain_advances_as_the_second_implementation_says(case: dict[str, Any]) -> None:
    assert kdf.advance(bytes.fromhex(case["chain_key"]), case["steps"]).hex() == case["result"]


@pytest.mark.parametrize("case", cases("key_schedule.json", "grant"))
def test_grant_keys_are_those_of_the_second_implementation(case: dict[str, Any]) -> None:
    chain_key, link_id, kme_nonce, hub_nonce = (
        bytes.fromhex(case[name]) for name in ("chain_key", "link_id", "kme_nonce", "hub_nonce")
    )
    key = kdf.grant_key(chain_key, link_id, case["direction"], case["index"], kme_nonce, hub_nonce)
    assert key.hex() == case["grant_key"]


@pytest.mark.parametrize("case", cases("key_schedule.json", "peer"))
def test_peer_message_keys_are_those_of_the_second_implementation(case: dict[str, Any]) -> None:
    root, random, context = (bytes.fromhex(case[name]) for name in ("root", "random", "context"))
    assert kdf.peer_message_key(root, random, context).hex() == case["key"]


def test_advancing_in_parts_is_advancing_at_once() -> None:
    assert kdf.advance(kdf.advance(CHAIN, 3), 4) == kdf.advance(CHAIN, 7)
    assert kdf.next_chain_key(CHAIN) == kdf.advance(CHAIN, 1)


def test_grant_key_differs_with_each_of_its_inputs() -> None:
    """A clone, a restored end, the other direction, another link: none meets the same keystream."""
    keys = {
        kdf.grant_key(CHAIN, LINK, Direction.TO_HUB, 7, KME, HUB),
        kdf.grant_key(kdf.next_chain_key(CHAIN), LINK, Direction.TO_HUB, 7, KME, HUB),
        kdf.grant_key(CHAIN, HUB[:8], Direction.TO_HUB, 7, KME, HUB),
        kdf.grant_key(CHAIN, LINK, Direction.TO_KME, 7, KME, HUB),
        kdf.grant_key(CHAIN, LINK, Direction.TO_HUB, 8, KME, HUB),
        kdf.grant_key(CHAIN, LINK, Direction.TO_HUB, 7, HUB, HUB),
        kdf.grant_key(CHAIN, LINK, Direction.TO_HUB, 7, KME, KME),
        kdf.grant_key(CHAIN, LINK, Direction.TO_HUB, 7, HUB, KME),
    }
    assert len(keys) == 8


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: kdf.preface_label(0), id="preface frame 0"),
        pytest.param(lambda: kdf.preface_label(6), id="preface frame 6"),
        pytest.param(lambda: kdf.hkdf_sha512(b"", b"salt", b"", 32), id="HKDF without a key"),
        pytest.param(lambda: kdf.hkdf_sha512(b"key", b"", b"", 0), id="HKDF to nothing"),
        pytest.param(lambda: kdf.hkdf_sha512(b"key", b"", b"", 16_321), id="HKDF beyond its end"),
        pytest.param(lambda: kdf.hkdf_expand_sha512(CHAIN[:63], b"", 32), id="expanding a short key"),
        pytest.param(lambda: kdf.hkdf_expand_sha512(CHAIN, b"", 0), id="expanding to nothing"),
        pytest.param(lambda: kdf.hkdf_expand_sha512(CHAIN, b"", 16_321), id="expanding beyond the end"),
        pytest.param(lambda: kdf.grant_key(CHAIN[:63], LINK, 0, 0, KME, HUB), id="short chain key"),
        pytest.param(lambda: kdf.grant_key(CHAIN + b"1", LINK, 0, 0, KME, HUB), id="long chain key"),
        pytest.param(lambda: kdf.grant_key(CHAIN, LINK[:7], 0, 0, KME, HUB), id="short link id"),
        pytest.param(lambda: kdf.grant_key(CHAIN, LINK, 2, 0, KME, HUB), id="third direction"),
        pytest.param(lambda: kdf.grant_key(CHAIN, LINK, -1, 0, KME, HUB), id="negative direction"),
        pytest.param(lambda: kdf.grant_key(CHAIN, LINK, 0, -1, KME, HUB), id="negative index"),
        pytest.param(lambda: kdf.grant_key(CHAIN, LINK, 0, 1 << 32, KME, HUB), id="index of 33 bits"),
        pytest.param(lambda: kdf.grant_key(CHAIN, LINK, 0, 0, KME[:31], HUB), id="short KME nonce"),
        pytest.param(lambda: kdf.grant_key(CHAIN, LINK, 0, 0, KME, HUB + b"1"), id="long hub nonce"),
        pytest.param(lambda: kdf.next_chain_key(CHAIN[:32]), id="next of a short chain key"),
        pytest.param(lambda: kdf.advance(CHAIN[:32], 0), id="advancing a short chain key"),
        pytest.param(lambda: kdf.advance(CHAIN, -1), id="going back along a chain"),
        pytest.param(lambda: kdf.advance(CHAIN, limits.DERIVED_JUMP_STEPS + 1), id="a jump too far"),
        pytest.param(lambda: kdf.peer_message_key(ROOT[:31], KME, b""), id="weak peer root"),
        pytest.param(lambda: kdf.peer_message_key(ROOT, KME[:31], b""), id="short random part"),
    ],
)
def test_caller_outside_the_documented_ranges_is_a_bug(call: Callable[[], object]) -> None:
    with pytest.raises(LocalBug) as caught:
        call()
    assert_refused(caught)
