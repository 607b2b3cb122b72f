"""The formulas of the specification, written down once more from its text alone.

Nothing of skex is imported: the worked examples in the chapters are recomputed with the standard
library, textbook arithmetic and bare primitives. So the text, and not only the code, is tested.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.textbook import (
    byte_inverse,
    byte_times,
    expand,
    keystream,
    lp,
    padded,
    poly1305,
    short_bytes,
    short_text,
    times,
)

SPECIFICATION = Path(__file__).resolve().parents[2] / "docs" / "spec"
ENTRY = re.compile(r"^(\S.*) \((\d+) bytes\)\n((?:    .*\n)+)", re.MULTILINE)
VALUE = re.compile(r"^(\S.*) = (.*)$", re.MULTILINE)


def example(name: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """The byte strings and the other values of a worked example, by their names in the text."""
    for path in SPECIFICATION.glob("*.md"):
        found = re.search(
            rf"<!-- generated: example-{name} -->\n(.*?)<!-- end -->", path.read_text(), re.DOTALL
        )
        if found:
            blobs = {}
            for label, length, rows in ENTRY.findall(found[1]):
                blobs[label] = bytes.fromhex("".join(rows.split()).replace("(empty)", ""))
                assert len(blobs[label]) == int(length)
            return blobs, dict(VALUE.findall(found[1]))
    pytest.fail(f"no example {name}")


# ── the chapters ────────────────────────────────────────────────────────────────────────────────
def test_preface_proofs_follow_from_the_text() -> None:
    blobs, values = example("preface")
    realm, kme, hub = values["realm, KME, hub"].split(", ")
    frames = [blobs[f"frame {number}"] for number in range(1, 6)]
    link_id = frames[0][12:20]
    for number in range(2, 6):
        unproved, proof = frames[number - 1][:-64], frames[number - 1][-64:]
        parts = (
            f"skex1 preface {number}".encode(),
            frames[1][4:5],
            realm.encode(),
            link_id,
            kme.encode(),
            hub.encode(),
            *frames[: number - 1],
            unproved,
        )
        data = b"".join(map(lp, parts))
        assert number != 2 or data == blobs["input of the proof of frame 2"]
        assert hmac.digest(blobs["static link key"], data, "sha512") == proof


def test_grant_keys_and_keystream_follow_from_the_text() -> None:
    blobs, _ = example("grant")
    preface, _ = example("preface")
    k_0 = blobs["K_0 (the seed of direction 0)"]
    nonces = preface["frame 1"][20:52] + preface["frame 2"][8:40]
    info = b"skex1 grant" + preface["frame 1"][12:20] + b"\0" + bytes(4) + nonces
    assert info == blobs["info of the grant key of index 0"]
    grant_key = expand(k_0, info, 32)
    assert grant_key == blobs["grant key"]
    assert keystream(grant_key, 48) == blobs["first 48 bytes of the grant: r, then the first usable bytes"]
    assert expand(k_0, b"skex1 next", 64) == blobs["K_1"]


def test_a_record_follows_from_the_text() -> None:
    blobs, _ = example("record")
    grant, _ = example("grant")
    pad = keystream(grant["grant key"], 64)
    body = bytes.fromhex("8108")
    link_id = bytes.fromhex("a0a1a2a3a4a5a6a7")
    header = b"\1\0\0\0" + len(body).to_bytes(4, "big") + link_id + bytes(4) + (16).to_bytes(4, "big")
    ciphertext = bytes(left ^ right for left, right in zip(body, pad[32:34], strict=True))
    tag = poly1305(pad[:16] + pad[16:32], header + ciphertext)
    assert header + ciphertext + tag == blobs["record"]


def test_the_expanded_context_follows_from_the_text() -> None:
    blobs, _ = example("context")
    batch = bytes(range(0xC0, 0xD0)) + (7).to_bytes(8, "big")
    hubs = b"".join(b"\x82" + short_text(f"hub-{x}") + bytes([x]) for x in (1, 2, 3))
    claim, lifetime = bytes.fromhex("83400101"), bytes.fromhex("190e10")
    expected = (
        b"\x8e\x01" + short_text("example") + b"\x01" + short_text("kme-a") + short_text("kme-b")
    ) + short_bytes(batch)
    expected += b"\x02\x83" + hubs + b"\x01\x10" + claim + b"\x01" + lifetime + b"\xf6"
    assert blobs["expanded context"] == expected
    assert (
        blobs["compact context"] == bytes.fromhex("890102430102030110") + b"\x01" + lifetime + b"\xf6" + claim
    )


def test_the_end_to_end_tag_follows_from_both_of_its_forms() -> None:
    blobs, values = example("tag")
    context = example("context")[0]["expanded context"]
    secret = example("shares")[0]["S"]
    c, d, e = (int.from_bytes(secret[start : start + 16], "big") for start in (0, 16, 32))
    data = padded(len(context).to_bytes(8, "big") + context) + padded(secret[48:])
    assert data == blobs["P"] + blobs["Q"]
    blocks = [int.from_bytes(data[start : start + 16], "big") for start in range(0, len(data), 16)]
    assert len(blocks) == int(values["N"])
    state = 0
    for block in [*blocks, e]:
        state = times(state ^ block, c)
    assert (d ^ state).to_bytes(16, "big") == blobs["T"]
    total, power = d ^ times(c, e), c
    for block in reversed(blocks):
        power = times(power, c)
        total ^= times(power, block)
    assert total.to_bytes(16, "big") == blobs["T"]


@pytest.mark.parametrize("used", [(1, 2), (1, 3), (2, 3), (1, 2, 3)])
def test_shares_rebuild_the_secret_by_the_formula_of_the_text(used: tuple[int, ...]) -> None:
    blobs, _ = example("shares")
    shares = {x: blobs[f"share of the hub at coordinate {x}"] for x in (1, 2, 3)}
    rebuilt = bytearray(len(blobs["S"]))
    for own in used:
        factor = 1
        for other in used:
            if other != own:
                factor = byte_times(factor, byte_times(other, byte_inverse(own ^ other)))
        for index, byte in enumerate(shares[own]):
            rebuilt[index] ^= byte_times(factor, byte)
    assert rebuilt == blobs["S"]
    for x, share in shares.items():
        pairs = zip(blobs["S"], blobs["coefficients of x"], strict=True)
        assert share == bytes(byte ^ byte_times(coefficient, x) for byte, coefficient in pairs)


def test_share_messages_follow_from_the_text() -> None:
    blobs, _ = example("share-message")
    compact = example("context")[0]["compact context"]
    tag, share = example("tag")[0]["T"], example("shares")[0]["share of the hub at coordinate 1"]
    rest = compact + b"\x50" + tag + short_bytes(share)
    batch = bytes(range(0xC0, 0xD0)) + (7).to_bytes(8, "big")
    assert (
        blobs["SHARE, from A to the hub at coordinate 1"]
        == b"\x86\x05" + short_text("kme-b") + b"\x07" + rest
    )
    assert (
        blobs["SHARED, from that hub to B"] == b"\x86\x09" + short_text("kme-a") + short_bytes(batch) + rest
    )


def test_the_confirmation_follows_from_the_text() -> None:
    blobs, _ = example("confirm")
    secret, tag = example("shares")[0]["S"], example("tag")[0]["T"]
    digest = hashlib.sha512(example("context")[0]["expanded context"]).digest()
    incarnation, claim = bytes(range(0xD0, 0xE0)), bytes.fromhex("83400001")
    covered = b"skex1 confirm" + tag + digest + (1).to_bytes(4, "big") + incarnation + claim
    assert covered == blobs["input of the MAC"]
    mac = poly1305(secret[48:80], covered)
    batch = bytes(range(0xC0, 0xD0)) + (7).to_bytes(8, "big")
    message = b"\x87\x06" + short_text("kme-a") + short_bytes(batch) + b"\x01\x50" + incarnation + claim
    assert blobs["CONFIRM, from B to a hub"] == message + b"\x50" + mac


def test_the_peer_envelope_follows_from_the_text() -> None:
    blobs, _ = example("peer")
    root, random, control = blobs["root"], blobs["random"], blobs["batch id of the control batch"]
    names = short_text("example") + short_text("kme-a") + short_text("kme-b")
    info = b"skex1 peer" + b"\x85" + names + short_bytes(control) + b"\x00"
    associated = b"\x83" + short_bytes(control) + b"\x00" + short_bytes(random)
    key = expand(hmac.digest(random, root, "sha512"), info, 32)
    batch = bytes(range(0xC0, 0xD0)) + (7).to_bytes(8, "big")
    sealed = AESGCM(key).encrypt(bytes(12), b"\x82\x01\x81" + short_bytes(batch), associated)
    envelope = b"\x84" + short_bytes(control) + b"\x00" + short_bytes(random) + short_bytes(sealed)
    assert blobs["envelope"] == envelope


def test_key_ids_follow_from_the_text() -> None:
    blobs, values = example("key-ids")
    batch = bytes(range(0xC0, 0xD0)) + (7).to_bytes(8, "big")
    names = short_text("example") + short_text("kme-a") + short_text("kme-b")
    name = b"\x86" + short_text("skex1 key id") + names + short_bytes(batch) + b"\x00"
    group_name = b"\x85" + short_text("skex1 group key id") + short_text("example") + short_text("kme-a")
    group_name += b"\x50" + bytes(range(0x10, 0x20)) + b"\x00"
    assert (name, group_name) == (blobs["name of key 0 of the batch"], blobs["name of key 0 of the group"])
    for data, label in ((name, "key id"), (group_name, "group key id")):
        digest = bytearray(hashlib.sha512(data).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        assert str(uuid.UUID(bytes=bytes(digest))) == values[label]


def test_the_realm_digest_is_that_of_the_file_and_stands_in_frame_4() -> None:
    blobs, _ = example("realm")
    digest = hashlib.sha512(blobs["realm file"]).digest()
    assert digest == blobs["SHA-512 of the file"]
    assert example("preface")[0]["frame 4"][40:104] == digest
