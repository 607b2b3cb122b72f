"""Inputs that must be refused for their bytes alone, or for those and a file: encodings, messages, realms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

import cbor2
from vectors_common import BATCH, FIVE_HUBS, INCARNATION_A, KME_A, KME_B, Case, expand
from vectors_messages import (
    ASSIGN,
    CONFIRMATION,
    LOWEST,
    RANGES,
    REQUEST,
    TAG,
    TRAFFIC,
    later_realm,
)

from skex.base import limits
from skex.base.ids import Coordinate, Direction, RealmName
from skex.wire import messages, peer
from skex.wire.codec import encode
from skex.wire.peer import PeerDirection
from skex.wire.realm import HubStatus, Realm

Path: TypeAlias = tuple[int, ...]
MALFORMED: Final = "body-malformed"
RANGE: Final = "body-range"
WRONG_WAY: Final = "body-wrong-way"
_REMOVE: Final = object()


def refused(name: str, spec: str, given: Mapping[str, Any], error: str) -> Case:
    """One input that ends in an error code."""
    return {"name": name, "spec": spec, **given, "outcome": {"error": error}}


def repeated(*parts: str | tuple[str, int]) -> list[Any]:
    """Long bytes, in parts: hexadecimal, or hexadecimal repeated."""
    return [part if isinstance(part, str) else {"repeat": part[0], "times": part[1]} for part in parts]


def changed(data: bytes, path: Path, value: object) -> bytes:
    """Encoded bytes with one element replaced; a path past an array's end adds one."""
    whole = cbor2.loads(data)
    target = whole
    for index in path[:-1]:
        target = target[index]
    if value is _REMOVE:
        del target[path[-1]]
    elif path[-1] == len(target):
        target.append(value)
    else:
        target[path[-1]] = value
    return cbor2.dumps(whole, canonical=True)


# ── encoding ────────────────────────────────────────────────────────────────────────────────────
def encodings() -> list[Case]:
    """Bytes that are not the deterministic encoding of a value of the profile."""
    rows: list[tuple[str, str]] = [
        ("nothing", ""),
        ("a byte more than the item", "810800"),
        ("a second item", "81088108"),
        ("cut in an array", "8301"),
        ("cut in a byte string", "8144010203"),
        ("cut in an integer", "8119"),
        ("integer 8 in two bytes", "811808"),
        ("integer 24 in three bytes", "81190018"),
        ("integer 1 in nine bytes", "811b0000000000000001"),
        ("array length in two bytes", "980108"),
        ("byte string length in two bytes", "81580100"),
        ("text length in two bytes", "81780161"),
        ("array of indefinite length", "9f08ff"),
        ("byte string of indefinite length", "815f4100ff"),
        ("text of indefinite length", "817f6161ff"),
        ("a map", "81a0"),
        ("a map with an entry", "81a10102"),
        ("a tag", "81c000"),
        ("a bignum", "81c24101"),
        ("self-described CBOR", "d9d9f78108"),
        ("a negative integer", "8120"),
        ("false", "81f4"),
        ("true", "81f5"),
        ("undefined", "81f7"),
        ("an unassigned simple value", "81e0"),
        ("a half float", "81f93c00"),
        ("a single float", "81fa3f800000"),
        ("a double float", "81fb3ff0000000000000"),
        ("text that is not UTF-8", "8161ff"),
        ("a break without a beginning", "81ff"),
        ("a reserved length", "811c"),
        ("seven arrays within each other", "81818181818180"),
        ("an array of 2^32 - 1 elements in five bytes", "9affffffff"),
        ("a byte string of 2^64 - 1 bytes", "815bffffffffffffffff"),
    ]
    cases = [
        refused(name, "6.1", {"bytes": data, "limit": limits.BODY_BYTES}, MALFORMED) for name, data in rows
    ]
    long = refused("one byte beyond the limit", "6.1", {"limit": limits.BODY_BYTES}, MALFORMED)
    # The head of a byte string of three bytes, and the array's own byte.
    filler = limits.BODY_BYTES + 1 - 4
    long["bytes"] = repeated(f"8159{filler:04x}", ("00", filler))
    return [*cases, long]


# ── messages of a link ──────────────────────────────────────────────────────────────────────────
_SHARE: Final = messages.encode_message(
    messages.Share(KME_B, 2, TRAFFIC, TAG, expand("some share", TRAFFIC.secret_bytes))
)
_CONFIRM: Final = messages.encode_message(messages.Confirm(KME_A, CONFIRMATION))


def _by_type() -> dict[tuple[Direction, str], bytes]:
    """One well-formed body of each kind that is spoilt here."""
    to_hub, to_kme = Direction.TO_HUB, Direction.TO_KME
    share = expand("some share", TRAFFIC.secret_bytes)
    samples: dict[tuple[Direction, str], messages.Message] = {
        (to_hub, "GRANT"): messages.Grant(1, 32),
        (to_hub, "WANT"): messages.Want(1),
        (to_hub, "REFUSE"): messages.Refuse(1, 1),
        (to_hub, "PEER"): messages.Peer(KME_B, b"e"),
        (to_hub, "GET_REALM"): messages.GetRealm(),
        (to_kme, "MOVED"): messages.Moved(),
        (to_kme, "DONE"): messages.Done(1),
        (to_kme, "SHARED"): messages.Shared(KME_A, BATCH, TRAFFIC, TAG, share),
        (to_kme, "FORWARDED"): messages.Forwarded(KME_A, b"e"),
        (to_kme, "REALM_FILE"): messages.RealmFile(b"f"),
    }
    bodies = {key: messages.encode_message(one) for key, one in samples.items()}
    return bodies | {(to_hub, "SHARE"): _SHARE, (to_hub, "CONFIRM"): _CONFIRM}


_FIELDS: Final[tuple[tuple[str, str, Path, object, str], ...]] = (
    ("GRANT", "a start beyond u32", (1,), 2**32, RANGE),
    ("GRANT", "a count of 0", (2,), 0, RANGE),
    ("GRANT", "an end beyond the last position", (2,), 2**32 - 1, RANGE),
    ("GRANT", "a count as a byte string", (2,), b"\x20", MALFORMED),
    ("GRANT", "one element more", (3,), 0, MALFORMED),
    ("GRANT", "one element less", (2,), _REMOVE, MALFORMED),
    ("WANT", "a size of 0", (1,), 0, RANGE),
    ("WANT", "a size beyond u32", (1,), 2**32, RANGE),
    ("REFUSE", "ordinal 0", (1,), 0, RANGE),
    ("REFUSE", "refusal 0", (2,), 0, RANGE),
    ("REFUSE", "refusal 65536", (2,), 65_536, RANGE),
    ("REFUSE", "a refusal as text", (2,), "busy", MALFORMED),
    ("PEER", "an empty envelope", (2,), b"", RANGE),
    ("PEER", "a name in upper case", (1,), "KME-B", RANGE),
    ("PEER", "an empty name", (1,), "", RANGE),
    ("PEER", "a name that begins with a hyphen", (1,), "-b", RANGE),
    ("PEER", "a name that ends with a dot", (1,), "b.", RANGE),
    ("PEER", "a name of 64 characters", (1,), "b" * 64, RANGE),
    ("PEER", "a name with a letter beyond ASCII", (1,), "kmé-b", RANGE),
    ("PEER", "a name as a byte string", (1,), b"kme-b", MALFORMED),
    ("GET_REALM", "one element more", (1,), 0, MALFORMED),
    ("MOVED", "one element more", (1,), None, MALFORMED),
    ("DONE", "ordinal 0", (1,), 0, RANGE),
    ("SHARE", "no receiver", (1,), _REMOVE, MALFORMED),
    ("SHARE", "a context as a byte string", (3,), b"\x80", MALFORMED),
    ("SHARE", "a tag of 15 bytes", (4,), bytes(15), RANGE),
    ("SHARE", "a share one byte short", (5,), bytes(TRAFFIC.secret_bytes - 1), RANGE),
    ("SHARE", "a share one byte long", (5,), bytes(TRAFFIC.secret_bytes + 1), RANGE),
    ("SHARED", "a batch id of 23 bytes", (2,), bytes(23), RANGE),
    ("SHARED", "a batch id as an integer", (2,), 2, MALFORMED),
    ("CONFIRM", "epoch 0", (3,), 0, RANGE),
    ("CONFIRM", "an incarnation of 17 bytes", (4,), bytes(17), RANGE),
    ("CONFIRM", "a claim without enrolment", (5,), [b"", 0], MALFORMED),
    ("CONFIRM", "a claim of 65 coordinates", (5,), [bytes(range(1, 66)), 0, 0], RANGE),
    ("CONFIRM", "a MAC of 12 bytes", (6,), bytes(12), RANGE),
    ("REALM_FILE", "an empty file", (1,), b"", RANGE),
)

_COMPACT: Final[tuple[tuple[str, Path, object, str], ...]] = (
    ("epoch 0", (0,), 0, RANGE),
    ("threshold 0", (1,), 0, RANGE),
    ("a threshold above the number of hubs", (1,), 6, RANGE),
    ("threshold 1 with five hubs", (1,), 1, RANGE),
    ("no hubs", (2,), b"", RANGE),
    ("coordinate 0", (2,), bytes((0, 1, 2, 9, 255)), RANGE),
    ("coordinates that descend", (2,), bytes((1, 3, 2, 9, 255)), RANGE),
    ("a coordinate twice", (2,), bytes((1, 2, 2, 9, 255)), RANGE),
    ("hubs as an array", (2,), [1, 2, 3, 9, 255], MALFORMED),
    ("more than 512 subsets: C(15, 3) = 455 is allowed, C(16, 3) is not", (2,), bytes(range(1, 17)), RANGE),
    ("no keys", (3,), 0, RANGE),
    ("1025 keys", (3,), 1025, RANGE),
    ("keys of 15 bytes", (4,), 15, RANGE),
    ("keys of 1025 bytes", (4,), 1025, RANGE),
    ("a purpose that nobody knows", (5,), 2, RANGE),
    ("purpose CONTROL with two keys", (5,), 0, RANGE),
    ("a lifetime of 0", (6,), 0, RANGE),
    ("a lifetime beyond a year", (6,), 31_536_001, RANGE),
    ("a group id of 15 bytes", (7,), bytes(15), RANGE),
    ("a group id as text", (7,), "group", MALFORMED),
    ("a claim that names a hub outside the batch", (8, 0), bytes((1, 4)), RANGE),
    ("a claim whose coordinates descend", (8, 0), bytes((9, 1)), RANGE),
    ("a randomness that nobody knows", (8, 1), 2, RANGE),
    ("an enrolment that nobody knows", (8, 2), 3, RANGE),
    ("a claim with one element more", (8, 3), 0, MALFORMED),
    ("a context with one element more", (9,), 0, MALFORMED),
)


def link_bodies() -> list[Case]:
    """Bodies of records that end the connection."""
    samples = {name: (way, body) for (way, name), body in _by_type().items()}
    cases = []
    for kind, what, path, value, error in _FIELDS:
        way, body = samples[kind]
        cases.append(_body(f"{kind}: {what}", f"6.2 {kind}", way, changed(body, path, value), error))
    for what, path, value, error in _COMPACT:
        spoilt = changed(_SHARE, (3, *path), value)
        cases.append(_body(f"SHARE, context: {what}", "6.3, 6.4", Direction.TO_HUB, spoilt, error))
    return cases + _too_large() + _shapes() + _wrong_ways(samples)


def _body(name: str, spec: str, direction: Direction, body: bytes, error: str) -> Case:
    return refused(name, spec, {"direction": int(direction), "body": body.hex()}, error)


def _too_large() -> list[Case]:
    """Batches whose secret, and parts whose length, are beyond their bounds."""
    compact = changed(encode(TRAFFIC.to_value()), (3,), 56)
    compact = changed(compact, (4,), 1024)
    share = repeated("86056" + "56b6d652d6202" + compact.hex() + "50" + TAG.hex() + "59e050", ("00", 57_424))
    envelope, file = limits.PEER_ENVELOPE_BYTES + 1, limits.REALM_FILE_BYTES + 1
    return [
        refused(
            "SHARE: a secret of 57,424 bytes",
            "6.3, 7.1",
            {"direction": 0, "body": share},
            RANGE,
        ),
        refused(
            "PEER: an envelope of 20,562 bytes",
            "6.2 PEER",
            {"direction": 0, "body": repeated(f"8307656b6d652d6259{envelope:04x}", ("00", envelope))},
            RANGE,
        ),
        refused(
            "REALM_FILE: a file of 43,009 bytes",
            "6.2 REALM_FILE",
            {"direction": 1, "body": repeated(f"820c59{file:04x}", ("00", file))},
            RANGE,
        ),
    ]


def _shapes() -> list[Case]:
    rows: list[tuple[str, object]] = [
        ("an empty array", []),
        ("not an array", 8),
        ("a type as text", ["GET_REALM"]),
        ("a type as null", [None]),
        ("an array as the type", [[8]]),
    ]
    return [
        _body(name, "6.2", Direction.TO_HUB, cbor2.dumps(value, canonical=True), MALFORMED)
        for name, value in rows
    ]


def _wrong_ways(samples: Mapping[str, tuple[Direction, bytes]]) -> list[Case]:
    one_way = ("SHARE", "CONFIRM", "PEER", "GET_REALM", "DONE", "SHARED", "FORWARDED", "REALM_FILE")
    return [
        _body(f"{kind} the wrong way", "6.2", samples[kind][0].opposite, samples[kind][1], WRONG_WAY)
        for kind in one_way
    ]


# ── messages between KMEs ───────────────────────────────────────────────────────────────────────
_ASSIGN: Final = peer.encode_peer_message(ASSIGN)
_OK: Final = peer.encode_peer_message(peer.Ok((LOWEST, BATCH)))
_VOID_KEYS: Final = peer.encode_peer_message(peer.VoidKeys(REQUEST, INCARNATION_A, RANGES))
_REVOKE: Final = peer.encode_peer_message(peer.Revoke(REQUEST, peer.RevokeReason.KEY_COMPROMISE, RANGES))
_DONE: Final = peer.encode_peer_message(peer.PeerDone((REQUEST,)))
_ASSIGNED: Final = peer.encode_peer_message(peer.Assigned(REQUEST, INCARNATION_A, 60, 1))
_NOT_ASSIGNED: Final = peer.encode_peer_message(peer.NotAssigned(REQUEST, INCARNATION_A, 1))


def _range(first: int, count: int) -> list[Any]:
    return [BATCH.to_bytes(), first, count]


_PEER_FIELDS: Final[tuple[tuple[str, bytes, Path, object, str], ...]] = (
    ("OK: no batches", _OK, (1,), [], RANGE),
    ("OK: batches in another order", _OK, (1,), [BATCH.to_bytes(), LOWEST.to_bytes()], RANGE),
    ("OK: a batch twice", _OK, (1,), [BATCH.to_bytes(), BATCH.to_bytes()], RANGE),
    ("OK: a batch id of 25 bytes", _OK, (1, 0), bytes(25), RANGE),
    ("OK: 257 batches", _OK, (1,), [bytes(22) + bytes(divmod(n, 256)) for n in range(257)], RANGE),
    ("OK: a batch that is not in an array", _OK, (1,), BATCH.to_bytes(), MALFORMED),
    ("VOID_KEYS: no ranges", _VOID_KEYS, (3,), [], RANGE),
    ("VOID_KEYS: ranges that touch", _VOID_KEYS, (3,), [_range(0, 2), _range(2, 1)], RANGE),
    ("VOID_KEYS: ranges that overlap", _VOID_KEYS, (3,), [_range(0, 3), _range(2, 4)], RANGE),
    ("VOID_KEYS: ranges that descend", _VOID_KEYS, (3,), [_range(5, 1), _range(0, 1)], RANGE),
    ("VOID_KEYS: an empty range", _VOID_KEYS, (3,), [_range(0, 0)], RANGE),
    ("VOID_KEYS: a range from key 1024", _VOID_KEYS, (3,), [_range(1024, 1)], RANGE),
    ("VOID_KEYS: a range beyond key 1023", _VOID_KEYS, (3,), [_range(1023, 2)], RANGE),
    ("VOID_KEYS: a range of four", _VOID_KEYS, (3,), [[*_range(0, 1), 0]], MALFORMED),
    ("VOID_KEYS: null for all keys", _VOID_KEYS, (3,), None, MALFORMED),
    ("VOID_KEYS: a request id of 8 bytes", _VOID_KEYS, (1,), bytes(8), RANGE),
    ("ASSIGN: a master without a KME", _ASSIGN, (3,), "web-1", RANGE),
    ("ASSIGN: a master with two KMEs", _ASSIGN, (3,), "web-1@kme-a@kme-a", RANGE),
    ("ASSIGN: no slaves", _ASSIGN, (4,), [], RANGE),
    ("ASSIGN: slaves in another order", _ASSIGN, (4,), ["db-2@kme-b", "db-1@kme-b"], RANGE),
    ("ASSIGN: 65 slaves", _ASSIGN, (4,), [f"s{n:02}@kme-b" for n in range(65)], RANGE),
    ("ASSIGN: an empty purpose", _ASSIGN, (5,), "", RANGE),
    ("ASSIGN: a purpose of 33 characters", _ASSIGN, (5,), "p" * 33, RANGE),
    ("ASSIGN: a purpose with a line break", _ASSIGN, (5,), "a\nb", RANGE),
    ("ASSIGN: a lifetime of 0", _ASSIGN, (6,), 0, RANGE),
    ("ASSIGN: attempt 0", _ASSIGN, (9,), 0, RANGE),
    ("ASSIGN: without its attempt", _ASSIGN, (9,), _REMOVE, MALFORMED),
    ("REVOKE: a reason beyond its bound", _REVOKE, (2,), 65_536, RANGE),
    ("REVOKE: no ranges instead of null", _REVOKE, (3,), [], RANGE),
    ("PEER_DONE: an id twice", _DONE, (1,), [REQUEST, REQUEST], RANGE),
)


def peer_bodies() -> list[Case]:
    """Plaintexts of envelopes that are dropped and counted."""
    sender, receiver = PeerDirection.FROM_SENDER, PeerDirection.FROM_RECEIVER
    cases = [
        _plaintext(name, sender, changed(data, path, value), error)
        for name, data, path, value, error in _PEER_FIELDS
    ]
    return [
        *cases,
        _plaintext("ASSIGNED: a hold of 0", receiver, changed(_ASSIGNED, (3,), 0), RANGE),
        _plaintext("NOT_ASSIGNED: refusal 0", receiver, changed(_NOT_ASSIGNED, (3,), 0), RANGE),
        _plaintext("OK from the receiver", receiver, _OK, WRONG_WAY),
        _plaintext("ASSIGN from the receiver", receiver, _ASSIGN, WRONG_WAY),
        _plaintext("VOID_KEYS from the receiver", receiver, _VOID_KEYS, WRONG_WAY),
        _plaintext("ASSIGNED from the sender", sender, _ASSIGNED, WRONG_WAY),
    ]


def _plaintext(name: str, direction: PeerDirection, data: bytes, error: str) -> Case:
    given = {"direction": int(direction), "plaintext": data.hex()}
    return refused(name, f"8.3 {name.split(':', maxsplit=1)[0].split(' ', maxsplit=1)[0]}", given, error)


# ── realm files ─────────────────────────────────────────────────────────────────────────────────
_FILE: Final = FIVE_HUBS.to_bytes()
_BAD_FILE: Final = "realm-malformed"
_BAD_REALM: Final = "realm-inconsistent"
_REALM_FIELDS: Final[tuple[tuple[str, Path, object, str], ...]] = (
    ("another magic", (0,), "skex Realm", _BAD_FILE),
    ("format 0", (1,), 0, _BAD_FILE),
    ("format 2", (1,), 2, "realm-format"),
    ("a name in upper case", (2,), "Vectors", _BAD_FILE),
    ("epoch 0", (3,), 0, _BAD_FILE),
    ("epoch 2^32", (3,), 2**32, _BAD_FILE),
    ("threshold 0", (4,), 0, _BAD_FILE),
    ("threshold 65", (4,), 65, _BAD_FILE),
    ("an issue date as text", (5,), "2026-01-01", _BAD_FILE),
    ("max age 0", (6,), 0, _BAD_FILE),
    ("an overlap beyond u32", (7,), 2**32, _BAD_FILE),
    ("no hubs", (8,), [], _BAD_FILE),
    ("one element more", (9,), 0, _BAD_FILE),
    ("a hub's name with a space", (8, 0, 0), "hub 1", _BAD_FILE),
    ("coordinate 0", (8, 0, 1), 0, _BAD_FILE),
    ("coordinate 256", (8, 5, 1), 256, _BAD_FILE),
    ("a status that nobody knows", (8, 0, 2), 2, _BAD_FILE),
    ("an address without a port", (8, 0, 3), "hub-1.example.net", _BAD_FILE),
    ("port 0", (8, 0, 3), "hub-1.example.net:0", _BAD_FILE),
    ("port 65536", (8, 0, 3), "hub-1.example.net:65536", _BAD_FILE),
    ("a port with a leading zero", (8, 0, 3), "hub-1.example.net:0443", _BAD_FILE),
    ("an address in upper case", (8, 0, 3), "HUB-1.example.net:7300", _BAD_FILE),
    ("an IPv6 address without brackets", (8, 0, 3), "2001:db8::1:7300", _BAD_FILE),
    ("four attributes", (8, 0, 4, 4), _REMOVE, _BAD_FILE),
    ("an attribute of 65 characters", (8, 0, 4, 0), "o" * 65, _BAD_FILE),
    ("an empty attribute", (8, 0, 4, 0), "", _BAD_FILE),
    ("an attribute beyond ASCII", (8, 0, 4, 0), "Opérateur", _BAD_FILE),
    ("a hub with one element more", (8, 0, 5), 0, _BAD_FILE),
    ("a threshold above the number of active hubs", (4,), 6, _BAD_REALM),
    ("threshold 1 with several hubs", (4,), 1, _BAD_REALM),
    ("a coordinate twice", (8, 1, 1), 1, _BAD_REALM),
    ("hubs that do not ascend", (8, 0, 1), 77, _BAD_REALM),
    ("a hub's name twice", (8, 1, 0), "hub-1", _BAD_REALM),
    ("a name twice, one of them revoked", (8, 1, 0), "hub-4", _BAD_REALM),
)


def realm_files() -> list[Case]:
    """Files that are refused by themselves."""
    cases = [
        refused(name, "10.1", {"file": changed(_FILE, path, value).hex()}, error)
        for name, path, value, error in _REALM_FIELDS
    ]
    over = limits.REALM_FILE_BYTES + 1
    return [
        *cases,
        refused("a byte behind the file", "10.1", {"file": _FILE.hex() + "00"}, _BAD_FILE),
        refused("a file that was cut", "10.1", {"file": _FILE[:-1].hex()}, _BAD_FILE),
        refused("an empty file", "10.1", {"file": ""}, _BAD_FILE),
        refused(
            "43,009 bytes",
            "10.1",
            {"file": repeated(f"8159{over - 4:04x}", ("00", over - 4))},
            _BAD_FILE,
        ),
    ]


def realm_successions() -> list[Case]:
    """Files that a KME with a file in force, or with earlier kits, does not take."""
    later = later_realm()
    moved = replace(later.hubs[0], coordinate=Coordinate(7))
    vote: dict[str, tuple[Realm, str, int, str]] = {
        "another realm": (replace(later, name=RealmName("other")), "hub-1", 2, "realm-mismatch"),
        "an older epoch": (replace(later, epoch=3), "hub-1", 2, "realm-outdated"),
        "the same epoch with other bytes": (replace(later, epoch=4), "hub-1", 2, "realm-mismatch"),
        "a hub left out": (replace(later, hubs=later.hubs[1:]), "hub-1", 2, "realm-hub-dropped"),
        "a revoked hub left out": (
            replace(later, hubs=(*later.hubs[:3], *later.hubs[4:])),
            "hub-1",
            2,
            "realm-hub-dropped",
        ),
        "a hub at another coordinate": (
            replace(later, hubs=(*later.hubs[1:4], moved, *later.hubs[4:])),
            "hub-1",
            2,
            "realm-coordinate-changed",
        ),
        "a threshold below the floor": (replace(later, threshold=2), "hub-1", 3, "realm-below-floor"),
        "from a revoked hub": (later, "hub-4", 2, FOREIGN),
        "from a hub that only the later file lists": (later, "hub-7", 2, FOREIGN),
    }
    cases = [
        _succession(f"vote: {name}", {"in_force": _FILE.hex(), "floor": floor}, hub, file.to_bytes(), error)
        for name, (file, hub, floor, error) in vote.items()
    ]
    in_force = {"in_force": _FILE.hex(), "floor": 2}
    first_kit = {"kits": [["hub-1", _FILE.hex()]], "floor": 2}
    return [
        *cases,
        _succession("vote: a file that does not parse", in_force, "hub-1", _FILE[:-1], _BAD_FILE),
        _succession("kit: another file than the one in force", in_force, "hub-1", later.to_bytes(), MISMATCH),
        _succession("kit: another file than the kits before", first_kit, "hub-2", later.to_bytes(), MISMATCH),
        _succession("kit: of a hub that is revoked in its own file", first_kit, "hub-4", _FILE, FOREIGN),
        _succession("kit: of a hub that its file does not list", first_kit, "hub-9", _FILE, FOREIGN),
        _succession("kit: a threshold below the floor", {"floor": 4}, "hub-1", _FILE, "realm-below-floor"),
    ]


MISMATCH: Final = "realm-mismatch"
FOREIGN: Final = "realm-hub-foreign"


def _succession(name: str, state: Mapping[str, Any], hub: str, file: bytes, error: str) -> Case:
    given = {"state": dict(state), "by": name.split(":", maxsplit=1)[0], "hub": hub, "file": file.hex()}
    return refused(name, "10.2", given, error)


# ── contexts ────────────────────────────────────────────────────────────────────────────────────
def contexts() -> list[Case]:
    """Well-formed compact contexts that do not expand with the realm file of five hubs."""
    revoked = replace(FIVE_HUBS.hubs[3], status=HubStatus.REVOKED)
    if FIVE_HUBS.hubs[3] != revoked:
        raise AssertionError(revoked.name)
    plain = encode(TRAFFIC.to_value())
    rows: tuple[tuple[str, Callable[[], bytes]], ...] = (
        ("an epoch that this end does not have", lambda: changed(plain, (0,), 5)),
        ("another threshold than the file's", lambda: changed(plain, (1,), 2)),
        ("a revoked hub", lambda: changed(plain, (2,), bytes((1, 2, 4, 9)))),
        ("a coordinate that no hub has", lambda: changed(plain, (2,), bytes((1, 2, 9, 77)))),
    )
    given = {"realm": _FILE.hex(), "sender": KME_A, "receiver": KME_B, "batch_id": BATCH.to_bytes().hex()}
    return [
        refused(name, "7.3", {**given, "compact": make().hex()}, "context-disagrees") for name, make in rows
    ]
