"""The specification's vectors against its text: recomputed without a line of skex."""

from __future__ import annotations

import hashlib
import hmac
import struct
import uuid
from itertools import combinations, pairwise
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests import textbook
from tests.vectors.reading import Case, Value, cases, data_of, encode, label, load, named, number, parse

GRANT_BYTES: Final = 16_777_216
UNIT: Final = 4096


# ── chapter 3 ───────────────────────────────────────────────────────────────────────────────────
def proof_input(link: Case, version: int, earlier: list[bytes], unproved: bytes) -> bytes:
    names = (
        link["realm"].encode(),
        bytes.fromhex(link["link_id"]),
        link["kme"].encode(),
        link["hub"].encode(),
    )
    title = f"skex1 preface {len(earlier) + 1}".encode()
    return b"".join(map(textbook.lp, (title, bytes([version]), *names, *earlier, unproved)))


def frame_without_proof(number_: int, fields: Case) -> bytes:
    """A frame from its fields, as sections 3.2 to 3.6 lay it out."""
    marks = fields.get("marks")
    order = ("to_hub", "to_kme", "count", "seen_to_hub", "seen_to_kme", "seen_count")
    packed = struct.pack(">IIQIIQ", *(marks[name] for name in order)) if marks else b""
    stretch = fields.get("grant")
    grant = struct.pack(">II", stretch["start"], stretch["count"]) if stretch else b""
    match number_:
        case 1:
            versions = bytes([fields["lowest"], fields["highest"], 0, 0])
            payload = b"skex" + versions + data_of(fields["link_id"]) + data_of(fields["nonce"])
        case 2:
            payload = bytes([fields["version"], 0, 0, 0]) + data_of(fields["nonce"])
        case 3:
            payload = packed + data_of(fields["incarnation"]) + struct.pack(">I", fields["capabilities"])
        case 4:
            realm = struct.pack(">I", fields["epoch"]) + data_of(fields["realm_digest"])
            payload = packed + realm + grant + struct.pack(">I", fields["capabilities"])
        case _:
            payload = grant
    length = len(payload) + (64 if number_ > 1 else 0)
    return struct.pack(">BBH", number_, 0, length) + payload


def check_frame(link: Case, key: bytes, frame: Case, earlier: list[bytes], version: int = 1) -> bytes:
    """One frame against the text; returns it."""
    whole = data_of(frame["bytes"])
    assert frame["frame"] == len(earlier) + 1
    unproved = frame_without_proof(frame["frame"], frame["fields"])
    if frame["frame"] == 1:
        assert whole == unproved
        return whole
    data = proof_input(link, version, earlier, unproved)
    assert data == data_of(frame["proof_input"])
    proof = hmac.digest(key, data, "sha512")
    assert (proof, unproved + proof) == (data_of(frame["proof"]), whole)
    return whole


@pytest.mark.parametrize("case", cases("preface.json"), ids=label)
def test_every_frame_and_proof_follows_from_its_fields(case: Case) -> None:
    link, key = case["link"], data_of(case["link"]["static_key"])
    if "decoy" in case:
        link, key = {**link, **case["decoy"]}, data_of(case["decoy"]["key"])
    earlier: list[bytes] = []
    for frame in case["frames"]:
        earlier.append(check_frame(link, key, frame, earlier))


@pytest.mark.parametrize("case", [case for case in cases("preface.json") if "after" in case], ids=label)
def test_first_grants_and_marks_after_a_preface_follow_from_the_rules(case: Case) -> None:
    kme, hub = case["kme"]["before"], case["hub"]["before"]
    to_hub = max(hub["to_hub"], kme["to_hub"])
    to_kme = max(kme["to_kme"], hub["to_kme"], hub["seen_to_kme"])
    stated, announced = case["frames"][3]["fields"], case["frames"][4]["fields"]
    assert stated["grant"] == {"start": to_hub, "count": 1}
    assert announced["grant"] == {"start": to_kme, "count": 1}
    for end, other in (("kme", hub), ("hub", kme)):
        before, after = case[end]["before"], case["after"][end]
        assert (after["to_hub"], after["to_kme"]) == (to_hub + 1, to_kme + 1)
        assert after["count"] == max(before["count"], other["seen_count"]) + 1
        own = [before[name] for name in ("to_hub", "to_kme", "count")]
        seen = [other[f"seen_{name}"] for name in ("to_hub", "to_kme", "count")]
        behind = any(have < was for have, was in zip(own, seen, strict=True))
        assert case["after"]["rolled_back"][end] == ({"own": own, "seen": seen} if behind else None)


# ── chapter 4 ───────────────────────────────────────────────────────────────────────────────────
def chain_key(seed: bytes, index: int) -> bytes:
    for _ in range(index):
        seed = textbook.expand(seed, b"skex1 next", 64)
    return seed


def grant_info(link_id: bytes, direction: int, index: int, nonces: bytes) -> bytes:
    return b"skex1 grant" + link_id + bytes([direction]) + index.to_bytes(4, "big") + nonces


@pytest.mark.parametrize("case", cases("grants.json")[:2], ids=label)
def test_chains_grant_keys_and_keystreams_follow_from_the_text(case: Case) -> None:
    seed, nonces = data_of(case["seed"]), data_of(case["kme_nonce"]) + data_of(case["hub_nonce"])
    for grant in case["grants"]:
        key = chain_key(seed, grant["index"])
        info = grant_info(data_of(case["link_id"]), case["direction"], grant["index"], nonces)
        assert (key, info) == (data_of(grant["chain_key"]), data_of(grant["info"]))
        assert len(info) == 88
        grant_key = textbook.expand(key, info, 32)
        assert grant_key == data_of(grant["grant_key"])
        assert textbook.keystream(grant_key, 64) == data_of(grant["r"]) + data_of(grant["first_usable"])
    assert chain_key(seed, case["jump"]["index"]) == data_of(case["jump"]["chain_key"])


def test_the_last_block_of_a_derived_grant_has_the_last_counter() -> None:
    for case in cases("grants.json")[:2]:
        counter = (GRANT_BYTES // 16 - 1).to_bytes(16, "big")
        block = textbook.aes_block(data_of(case["grants"][0]["grant_key"]), counter)
        assert block == data_of(case["grant_0_last_16_bytes"])


def test_grants_of_a_table_are_its_units() -> None:
    case = named("grants.json", "cases", "table, to_kme")
    pad = data_of(case["pad"])
    assert len(pad) == case["capacity"] * UNIT
    for grant in case["grants"]:
        data = pad[UNIT * grant["start"] : UNIT * (grant["start"] + grant["count"])]
        assert len(data) == grant["bytes"]
        assert grant["first_byte_in_pad"] == UNIT * grant["start"]
        assert data[:64] == data_of(grant["r"]) + data_of(grant["first_usable"])
        assert data[-16:] == data_of(grant["last_16_bytes"])


def test_sizes_of_later_grants_follow_from_the_formula() -> None:
    for row in named("grants.json", "cases", "sizes of later table grants")["rows"]:
        need = 16 + row["wanted"] + 256
        count = min(max(-(-need // UNIT), 32), 256, row["capacity"] - row["mark"])
        assert (row["start"], row["count"]) == (row["mark"], count)


# ── chapter 5 ───────────────────────────────────────────────────────────────────────────────────
class Grants:
    """The bytes of every grant of a connection, from its enrolment and nonces."""

    def __init__(self, link: Case, nonces: bytes) -> None:
        self._link = link
        self._nonces = nonces

    def head(self, direction: int, start: int, length: int) -> bytes:
        material = data_of(self._link["to_kme" if direction else "to_hub"])
        if self._link["kind"] == "table":
            return material[UNIT * start :][:length]
        info = grant_info(data_of(self._link["link_id"]), direction, start, self._nonces)
        return textbook.keystream(textbook.expand(chain_key(material, start), info, 32), length)


def check_record(link: Case, grants: Grants, step: Case, direction: int) -> None:
    """One record against the text."""
    body, offset = data_of(step["body"]), step["offset"]
    pad = grants.head(direction, step["grant"], offset + 16 + len(body))
    header = struct.pack(">BBHI", 1, direction, 0, len(body)) + data_of(link["link_id"])
    header += struct.pack(">II", step["grant"], offset)
    otp = pad[offset + 16 :]
    ciphertext = bytes(left ^ right for left, right in zip(body, otp, strict=True))
    tag = textbook.poly1305(pad[:16] + pad[offset : offset + 16], header + ciphertext)
    assert header + ciphertext + tag == data_of(step["bytes"])
    computed = {"r": pad[:16], "s": pad[offset : offset + 16], "otp": otp, "header": header, "tag": tag}
    for name, value in {**computed, "ciphertext": ciphertext}.items():
        assert data_of(step.get(name, value.hex())) == value
    assert encode(parse(step["message"])) == body


def check_positions(steps: list[Case]) -> None:
    """Records of one direction: counted from 1, each behind the one before, or first in a later grant."""
    assert [step["ordinal"] for step in steps] == list(range(1, len(steps) + 1))
    assert steps[0]["offset"] == 16
    for before, step in pairwise(steps):
        if step["grant"] == before["grant"]:
            assert step["offset"] == before["offset"] + 16 + len(data_of(before["body"]))
        else:
            assert (step["offset"], step["grant"] > before["grant"]) == (16, True)


@pytest.mark.parametrize("case", cases("records.json"), ids=label)
def test_every_record_follows_from_the_text(case: Case) -> None:
    nonces = data_of(case["kme"]["nonce"]) + data_of(case["hub"]["nonce"])
    grants = Grants(case["link"], nonces)
    for direction, who in enumerate(("kme", "hub")):
        steps = [step for step in case["steps"] if step.get("from") == who and "ordinal" in step]
        for step in steps:
            check_record(case["link"], grants, step, direction)
        check_positions(steps)


# ── chapter 6 ───────────────────────────────────────────────────────────────────────────────────
CLAIM: Final = ("computational", "randomness", "enrolment")
COMPACT: Final = (
    "epoch",
    "threshold",
    "hubs",
    "keys",
    "key_bytes",
    "purpose",
    "lifetime",
    "group",
    "claim",
)
_SHARE: Final = ("compact_context", "tag", "share")
_CONFIRMATION: Final = ("batch_id", "epoch", "incarnation", "claim", "mac")
LINK_MESSAGES: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "GRANT": (1, ("start", "count")),
    "WANT": (2, ("size",)),
    "DONE": (3, ("request",)),
    "REFUSE": (4, ("request", "refusal")),
    "SHARE": (5, ("receiver", "counter", *_SHARE)),
    "CONFIRM": (6, ("sender", *_CONFIRMATION)),
    "PEER": (7, ("receiver", "envelope")),
    "GET_REALM": (8, ()),
    "SHARED": (9, ("sender", "batch_id", *_SHARE)),
    "CONFIRMED": (10, ("receiver", *_CONFIRMATION)),
    "FORWARDED": (11, ("sender", "envelope")),
    "REALM_FILE": (12, ("file",)),
    "MOVED": (13, ()),
}
PEER_MESSAGES: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "OK": (1, ("batch_ids",)),
    "VOID": (2, ("batch_ids",)),
    "VOID_KEYS": (3, ("request_id", "incarnation", "keys")),
    "ASSIGN": (
        4,
        (
            "request_id",
            "keys",
            "master",
            "slaves",
            "purpose",
            "lifetime",
            "incarnation",
            "b_incarnation",
            "attempt",
        ),
    ),
    "ASSIGNED": (5, ("request_id", "incarnation", "hold", "attempt")),
    "NOT_ASSIGNED": (6, ("request_id", "incarnation", "refusal")),
    "REVOKE": (7, ("request_id", "reason", "keys")),
    "PEER_DONE": (8, ("request_ids",)),
}
TEXTS: Final = {"receiver", "sender", "master", "slaves", "purpose"}


def value_of(name: str, field: Any) -> Value:
    """A named field as it stands in the array."""
    if name == "compact_context":
        return fields_value(COMPACT, field)
    if name == "claim":
        return fields_value(CLAIM, field)
    if isinstance(field, list):
        return [value_of(name, one) for one in field]
    if isinstance(field, str) and name not in TEXTS:
        return number(field) if name in {"counter", "request"} else bytes.fromhex(field)
    assert field is None or isinstance(field, int | str)
    return field


def fields_value(names: tuple[str, ...], fields: Case) -> list[Value]:
    assert tuple(fields) == names
    return [value_of(name, fields[name]) for name in names]


@pytest.mark.parametrize("case", cases("messages.json", "cbor"), ids=label)
def test_encodings_follow_from_the_profile(case: Case) -> None:
    assert encode(parse(case["diagnostic"])) == data_of(case["bytes"])


@pytest.mark.parametrize("case", cases("messages.json", "link_messages"), ids=label)
def test_link_messages_are_the_arrays_of_their_fields(case: Case) -> None:
    kind, names = LINK_MESSAGES[case["spec"].split()[1]]
    value: Value = [kind, *fields_value(names, case["fields"])]
    assert parse(case["diagnostic"]) == value
    assert encode(value) == data_of(case["body"])


@pytest.mark.parametrize("case", cases("messages.json", "peer_messages"), ids=label)
def test_peer_messages_are_the_arrays_of_their_fields(case: Case) -> None:
    kind, names = PEER_MESSAGES[case["spec"].split()[1]]
    value: Value = [kind, *fields_value(names, case["fields"])]
    assert parse(case["diagnostic"]) == value
    assert encode(value) == data_of(case["plaintext"])


def expanded_context(case: Case, fields: Case, realm: Value) -> Value:
    """The expanded context from a compact one and a realm file."""
    assert isinstance(realm, list)
    assert isinstance(realm[8], list)
    used: list[Value] = []
    for hub in realm[8]:
        assert isinstance(hub, list)
        if encode([hub[1]])[1:] in {encode(coordinate) for coordinate in data_of(fields["hubs"])}:
            used.append(hub[:2])
    compact = fields_value(COMPACT, fields)
    epoch, threshold, _, keys, key_bytes, purpose, lifetime, group, claim = compact
    batch = data_of(case["batch_id"])
    before: list[Value] = [1, realm[2], epoch, case["sender"], case["receiver"], batch, threshold]
    return [*before, used, keys, key_bytes, claim, purpose, lifetime, group]


@pytest.mark.parametrize("case", cases("messages.json", "contexts"), ids=label)
def test_contexts_expand_as_the_text_says(case: Case) -> None:
    compact = fields_value(COMPACT, case["fields"])
    assert parse(case["diagnostic"]) == compact
    assert encode(compact) == data_of(case["compact"])
    assert case["share_bytes"] == 80 + case["fields"]["keys"] * case["fields"]["key_bytes"]
    if "expanded" in case:
        expanded = case["expanded"]
        realm = parse(named("messages.json", "realms", expanded["realm"])["diagnostic"])
        value = expanded_context(expanded, case["fields"], realm)
        assert encode(value) == data_of(expanded["bytes"])
        assert parse(expanded["diagnostic"]) == value
        assert hashlib.sha512(data_of(expanded["bytes"])).digest() == data_of(expanded["digest"])


def joined_claim(sender: Case, receiver: Case) -> Case:
    both = set(data_of(sender["computational"])) | set(data_of(receiver["computational"]))
    weaker = {name: max(sender[name], receiver[name]) for name in CLAIM[1:]}
    return {"computational": bytes(sorted(both)).hex(), **weaker}


@pytest.mark.parametrize("case", cases("messages.json", "claims"), ids=label)
def test_claims_are_joined_and_classed_as_the_text_says(case: Case) -> None:
    for end in ("sender", "receiver"):
        claim = {name: case[end][name] for name in CLAIM}
        assert encode(fields_value(CLAIM, claim)) == data_of(case[end]["bytes"])
    assert case["receiver"]["randomness"] == 0
    joined = joined_claim(case["sender"], case["receiver"])
    margin = max(0, case["threshold"] - len(data_of(joined["computational"])))
    assert (case["joined"], case["margin"]) == (joined, margin)
    assert case["class"] == ("information-theoretic" if margin else "computational")


@pytest.mark.parametrize("case", cases("messages.json", "realms"), ids=label)
def test_realm_files_are_their_arrays_and_digests(case: Case) -> None:
    file = data_of(case["file"])
    value = parse(case["diagnostic"])
    assert encode(value) == file
    assert hashlib.sha512(file).digest() == data_of(case["digest"])
    assert isinstance(value, list)
    assert isinstance(value[8], list)
    active = [hub[:2] for hub in value[8] if isinstance(hub, list) and hub[2] == 0]
    assert case["active"] == active


def uuid_8(data: bytes) -> str:
    digest = bytearray(hashlib.sha512(data).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x80, digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


@pytest.mark.parametrize("case", cases("messages.json", "key_ids"), ids=label)
def test_key_ids_follow_from_the_text(case: Case) -> None:
    value = parse(case["diagnostic"])
    assert isinstance(value, list)
    assert value[0] in {"skex1 key id", "skex1 group key id"}
    assert encode(value) == data_of(case["input"])
    assert uuid_8(data_of(case["input"])) == case["key_id"]


# ── chapter 8 ───────────────────────────────────────────────────────────────────────────────────
def check_envelope(case: Case) -> None:
    root, random, direction = data_of(case["root_id"]), data_of(case["random"]), case["direction"]
    info = b"skex1 peer" + encode([case["realm"], case["sender"], case["receiver"], root, direction])
    prk = hmac.digest(random, data_of(case["root"]), "sha512")
    key = textbook.expand(prk, info, 32)
    associated = encode([root, direction, random])
    assert (info, key) == (data_of(case["info"]), data_of(case["key"]))
    assert associated == data_of(case["associated_data"])
    plaintext = encode(parse(case["message"]))
    assert plaintext == data_of(case["plaintext"])
    sealed = AESGCM(key).encrypt(bytes(12), plaintext, associated)
    assert sealed == data_of(case["sealed"])
    assert encode([root, direction, random, sealed]) == data_of(case["envelope"])


ENVELOPES: Final = (*cases("messages.json", "envelopes"), *cases("establishment.json", "afterwards"))


@pytest.mark.parametrize("case", ENVELOPES, ids=label)
def test_envelopes_follow_from_the_text(case: Case) -> None:
    check_envelope(case)
    if "peer_body" in case:
        ends = (case["sender"], case["receiver"])
        who, whom = ends if case["direction"] == 0 else ends[::-1]
        envelope = data_of(case["envelope"])
        assert encode([7, whom, envelope]) == data_of(case["peer_body"])
        assert encode([11, who, envelope]) == data_of(case["forwarded_body"])


# ── chapter 7 ───────────────────────────────────────────────────────────────────────────────────
def tag(secret: bytes, context: bytes) -> bytes:
    """T by its second form: d + c·e + Σ c^(N+2-i)·X_i."""
    c, d, e = (int.from_bytes(secret[at : at + 16], "big") for at in (0, 16, 32))
    total, power = d ^ textbook.times(c, e), c
    for block in reversed(blocks(secret, context)):
        power = textbook.times(power, c)
        total ^= textbook.times(power, int.from_bytes(block, "big"))
    return total.to_bytes(16, "big")


def blocks(secret: bytes, context: bytes) -> list[bytes]:
    data = textbook.padded(len(context).to_bytes(8, "big") + context) + textbook.padded(secret[48:])
    return [data[at : at + 16] for at in range(0, len(data), 16)]


def factors(coordinates: list[int]) -> list[int]:
    found = []
    for own in coordinates:
        factor = 1
        for other in coordinates:
            if other != own:
                step = textbook.byte_times(other, textbook.byte_inverse(own ^ other))
                factor = textbook.byte_times(factor, step)
        found.append(factor)
    return found


def combine(terms: list[tuple[int, bytes]]) -> bytes:
    total = bytearray(len(terms[0][1]))
    for factor, data in terms:
        products = [textbook.byte_times(factor, byte) for byte in range(256)]
        for at, byte in enumerate(data):
            total[at] ^= products[byte]
    return bytes(total)


BATCHES: Final = {case["name"]: case for case in cases("establishment.json", "batches")}


@pytest.mark.parametrize("case", BATCHES.values(), ids=label)
def test_a_batch_follows_from_its_secret(case: Case) -> None:
    secret, context = data_of(case["secret"]), data_of(case["context"])
    u = data_of(case["c"]) + data_of(case["d"]) + data_of(case["e"])
    assert secret == u + data_of(case["v"]) + b"".join(map(data_of, case["keys"]))
    compact = case["compact_context"]
    assert encode(fields_value(COMPACT, compact)) == data_of(case["compact"])
    realm = parse(load("establishment.json")["realm"]["diagnostic"])
    assert encode(expanded_context(case, compact, realm)) == context
    assert hashlib.sha512(context).digest() == data_of(case["context_digest"])
    assert [block.hex() for block in blocks(secret, context)] == case["blocks"]
    assert len(case["blocks"]) == case["n_blocks"]
    assert tag(secret, context) == data_of(case["tag"])
    assert ghash_tag(secret, context) == data_of(case["tag"])


def ghash_tag(secret: bytes, context: bytes) -> bytes:
    """T by its first form: d XOR GHASH_c(X_1 ‖ … ‖ X_N ‖ e)."""
    c, state = int.from_bytes(secret[:16], "big"), 0
    for block in (*blocks(secret, context), secret[32:48]):
        state = textbook.times(state ^ int.from_bytes(block, "big"), c)
    return (state ^ int.from_bytes(secret[16:32], "big")).to_bytes(16, "big")


@pytest.mark.parametrize("case", BATCHES.values(), ids=label)
def test_shares_and_their_messages_follow_from_the_text(case: Case) -> None:
    secret, coefficients = data_of(case["secret"]), [data_of(one) for one in case["coefficients"]]
    compact = parse_compact(case)
    assert [share["coordinate"] for share in case["shares"]] == list(data_of(case["compact_context"]["hubs"]))
    batch_id = data_of(case["batch_id"])
    for share in case["shares"]:
        power, terms = 1, [(1, secret)]
        for coefficient in coefficients:
            power = textbook.byte_times(power, share["coordinate"])
            terms.append((power, coefficient))
        data = combine(terms)
        assert data == data_of(share["share"])
        rest: list[Value] = [compact, data_of(case["tag"]), data]
        counter = int.from_bytes(batch_id[16:], "big")
        assert encode([5, case["receiver"], counter, *rest]) == data_of(share["share_body"])
        assert encode([9, case["sender"], batch_id, *rest]) == data_of(share["shared_body"])


def parse_compact(case: Case) -> Value:
    return fields_value(COMPACT, case["compact_context"])


@pytest.mark.parametrize("case", cases("establishment.json", "rebuilding"), ids=label)
def test_every_subset_rebuilds_what_the_file_says(case: Case) -> None:
    batch = BATCHES[case["of"]]
    context, wanted = data_of(batch["context"]), data_of(batch["tag"])
    brought = {one["coordinate"]: data_of(one["share"]) for one in case["brought"]}
    subsets = [list(chosen) for chosen in combinations(sorted(brought), 3)]
    assert [row["coordinates"] for row in case["subsets"]] == subsets
    for row in case["subsets"]:
        assert row["factors"] == factors(row["coordinates"])
        terms = [(factor, brought[x]) for factor, x in zip(row["factors"], row["coordinates"], strict=True)]
        rebuilt = combine(terms)
        assert rebuilt == data_of(row.get("secret", batch["secret"]))
        assert tag(rebuilt, context) == data_of(row.get("tag", batch["tag"]))
        assert row["verifies"] == (tag(rebuilt, context) == wanted)
    assert case["accepted"] == any(row["verifies"] for row in case["subsets"])


@pytest.mark.parametrize("case", cases("establishment.json", "confirming"), ids=label)
def test_confirmations_follow_from_the_text(case: Case) -> None:
    batch = BATCHES[case["of"]]
    claim = fields_value(CLAIM, case["claim"])
    incarnation = data_of(case["incarnation"])
    data = b"skex1 confirm" + data_of(batch["tag"]) + hashlib.sha512(data_of(batch["context"])).digest()
    data += case["epoch"].to_bytes(4, "big") + incarnation + encode(claim)
    assert data == data_of(case["mac_input"])
    mac = textbook.poly1305(data_of(batch["v"]), data)
    assert (data_of(case["mac_key"]), mac) == (data_of(batch["v"]), data_of(case["mac"]))
    rest: list[Value] = [data_of(batch["batch_id"]), case["epoch"], incarnation, claim, mac]
    assert encode([6, batch["sender"], *rest]) == data_of(case["confirm_body"])
    assert encode([10, batch["receiver"], *rest]) == data_of(case["confirmed_body"])
    assert case["joined_claim"] == joined_claim(batch["compact_context"]["claim"], case["claim"])


@pytest.mark.parametrize("case", cases("establishment.json", "key_ids"), ids=label)
def test_key_ids_of_a_batch_follow_from_the_text(case: Case) -> None:
    batch = BATCHES[case["of"]]
    realm = parse(load("establishment.json")["realm"]["diagnostic"])
    assert isinstance(realm, list)
    group = batch["compact_context"]["group"]
    for index, key_id in enumerate(case["key_ids"]):
        if group is None:
            names: list[Value] = [batch["sender"], batch["receiver"], data_of(batch["batch_id"])]
            value: Value = ["skex1 key id", realm[2], *names, index]
        else:
            value = ["skex1 group key id", realm[2], batch["sender"], data_of(group), index]
        assert uuid_8(encode(value)) == key_id


# ── a whole session ─────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("link", load("session.json")["connections"], ids=label)
def test_every_frame_and_record_of_the_session_follows_from_the_text(link: Case) -> None:
    steps = [step for step in cases("session.json", "steps") if step.get("connection") == link["name"]]
    steps = [step for step in steps if "bytes" in step]
    earlier: list[bytes] = []
    for step in steps[:5]:
        earlier.append(check_frame(link, data_of(link["static_key"]), step, earlier))
    grants = Grants(link, data_of(link["kme_nonce"]) + data_of(link["hub_nonce"]))
    for direction, who in enumerate((link["kme"], link["hub"])):
        records = [step for step in steps[5:] if step["from"] == who]
        for step in records:
            check_record(link, grants, step, direction)
        check_positions(records)
