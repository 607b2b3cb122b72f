"""Vectors of everything that is encoded: messages, contexts, claims, envelopes, realm files, key ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from vectors_common import (
    BATCH,
    CLAIM_A,
    CLAIM_B,
    CONTROL,
    FIVE_COORDINATES,
    FIVE_HUBS,
    INCARNATION_A,
    INCARNATION_B,
    KME_A,
    KME_B,
    THREE_HUBS,
    Case,
    diagnostic,
    document,
    expand,
    jsonable,
    notation,
)

from skex.base.ids import (
    BatchId,
    Coordinate,
    Direction,
    GroupId,
    HubName,
    Incarnation,
    RealmName,
    RequestId,
    SaeId,
)
from skex.base.secret import Secret
from skex.crypto import kdf
from skex.protocol import establishment
from skex.protocol.envelopes import Channel
from skex.wire import messages, peer
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.codec import Value, encode
from skex.wire.context import CompactContext, Purpose
from skex.wire.messages import Confirmation
from skex.wire.peer import KeyRange, PeerDirection
from skex.wire.realm import Hub, HubAttributes, HubStatus, Realm

GROUP: Final = GroupId(expand("group id", 16))
REQUEST: Final = RequestId(expand("request id", 16))
OTHER_REQUEST: Final = RequestId(expand("another request id", 16))
TAG: Final = expand("some tag", 16)
HIGHEST: Final = BatchId(Incarnation(b"\xff" * 16), 2**64 - 1)
LOWEST: Final = BatchId(Incarnation(bytes(16)), 0)

TRAFFIC: Final = CompactContext(
    epoch=FIVE_HUBS.epoch,
    threshold=3,
    hubs=FIVE_COORDINATES,
    keys=2,
    key_bytes=32,
    purpose=Purpose.TRAFFIC,
    lifetime=3600,
    group=None,
    claim=CLAIM_A,
)
CONTROL_BATCH: Final = replace(TRAFFIC, keys=1, key_bytes=64, purpose=Purpose.CONTROL, lifetime=172_800)
IN_GROUP: Final = replace(
    TRAFFIC,
    hubs=FIVE_COORDINATES[1:4],
    keys=1,
    key_bytes=16,
    group=GROUP,
    claim=replace(CLAIM_A, computational=(Coordinate(9),)),
)
SMALLEST: Final = CompactContext(
    1,
    1,
    (Coordinate(255),),
    1,
    16,
    Purpose.TRAFFIC,
    1,
    None,
    Claim((), Randomness.SYSTEM_XOR_OTHER, Enrolment.COMPONENTS),
)
WIDEST: Final = CompactContext(
    2**32 - 1,
    6,
    tuple(Coordinate(x) for x in (1, 2, 3, 4, 5, 6, 7, 8, 9, 254, 255)),
    55,
    1024,
    Purpose.TRAFFIC,
    31_536_000,
    GroupId(b"\xff" * 16),
    Claim((Coordinate(1), Coordinate(255)), Randomness.SYSTEM, Enrolment.UNDER_PASSPHRASE),
)
"""C(11, 6) = 462 subsets; a secret of 56,400 bytes."""
CONTEXTS: Final = {
    "traffic, five hubs": TRAFFIC,
    "control": CONTROL_BATCH,
    "in a group, three of five hubs": IN_GROUP,
    "the smallest, of a link without hubs": SMALLEST,
    "near the largest": WIDEST,
}
CONFIRMATION: Final = Confirmation(BATCH, FIVE_HUBS.epoch, INCARNATION_B, CLAIM_B, TAG)


# ── messages of a link ──────────────────────────────────────────────────────────────────────────
def _link_messages() -> list[tuple[Direction, str, str, messages.Message]]:
    to_hub, to_kme = Direction.TO_HUB, Direction.TO_KME
    share = expand("some share", TRAFFIC.secret_bytes)
    control_share = expand("some control share", CONTROL_BATCH.secret_bytes)
    group_share = expand("some group share", IN_GROUP.secret_bytes)
    both: list[tuple[str, str, messages.Message]] = [
        ("GRANT", "grant", messages.Grant(1, 32)),
        ("GRANT, the last positions", "grant", messages.Grant(2**32 - 2, 1)),
        ("GRANT, the longest", "grant", messages.Grant(0, 2**32 - 1)),
        ("WANT", "want", messages.Want(1543)),
        ("WANT, the largest", "want", messages.Want(2**32 - 1)),
        ("REFUSE", "refuse", messages.Refuse(300, messages.Refusal.RECEIVER_ABSENT)),
        ("REFUSE, of an unknown value: counts as BUSY", "refuse", messages.Refuse(2**64 - 1, 65_535)),
        ("MOVED", "moved", messages.Moved()),
    ]
    return [
        *((way, name, section, one) for way in Direction for name, section, one in both),
        (to_hub, "SHARE", "share", messages.Share(KME_B, 2, TRAFFIC, TAG, share)),
        (
            to_hub,
            "SHARE of a control batch",
            "share",
            messages.Share(KME_B, 1, CONTROL_BATCH, TAG, control_share),
        ),
        (to_hub, "SHARE in a group", "share", messages.Share(KME_B, 2**64 - 1, IN_GROUP, TAG, group_share)),
        (to_hub, "CONFIRM", "confirm", messages.Confirm(KME_A, CONFIRMATION)),
        (to_hub, "PEER", "peer", messages.Peer(KME_B, expand("some envelope", 100))),
        (to_hub, "GET_REALM", "get_realm", messages.GetRealm()),
        (to_kme, "DONE", "done", messages.Done(1)),
        (to_kme, "SHARED", "shared", messages.Shared(KME_A, BATCH, TRAFFIC, TAG, share)),
        (to_kme, "SHARED, in a group", "shared", messages.Shared(KME_A, HIGHEST, IN_GROUP, TAG, group_share)),
        (to_kme, "CONFIRMED", "confirmed", messages.Confirmed(KME_B, CONFIRMATION)),
        (to_kme, "FORWARDED", "forwarded", messages.Forwarded(KME_A, expand("some envelope", 100))),
        (to_kme, "REALM_FILE", "realm_file", messages.RealmFile(THREE_HUBS.to_bytes())),
    ]


def _link_case(direction: Direction, name: str, section: str, message: messages.Message) -> Case:
    body = messages.encode_message(message)
    return {
        "name": name,
        "spec": f"6.2 {section.upper()}",
        "direction": int(direction),
        "fields": link_fields(message),
        "diagnostic": notation(body),
        "body": body.hex(),
    }


def link_fields(message: messages.Message) -> Case:
    """The fields of a message, by the names that the text gives them."""
    match message:
        case messages.Share():
            batch: Case = {"receiver": message.receiver, "counter": jsonable(message.counter)}
            return batch | _share_fields(message)
        case messages.Shared():
            return {"sender": message.sender, "batch_id": message.batch.to_bytes().hex()} | _share_fields(
                message
            )
        case messages.Confirm():
            return {"sender": message.sender} | _confirmation_fields(message.confirmation)
        case messages.Confirmed():
            return {"receiver": message.receiver} | _confirmation_fields(message.confirmation)
        case messages.RealmFile():
            return {"file": message.data.hex()}
        case _:
            plain = {name: getattr(message, name) for name in message.__slots__}
            return {name: jsonable(value) for name, value in plain.items()}


def _share_fields(message: messages.Share | messages.Shared) -> Case:
    return {
        "compact_context": compact_fields(message.context),
        "tag": message.tag.hex(),
        "share": message.share.hex(),
    }


def _confirmation_fields(confirmation: Confirmation) -> Case:
    return {
        "batch_id": confirmation.batch.to_bytes().hex(),
        "epoch": confirmation.epoch,
        "incarnation": confirmation.incarnation.hex(),
        "claim": claim_fields(confirmation.claim),
        "mac": confirmation.mac.hex(),
    }


def compact_fields(compact: CompactContext) -> Case:
    """The fields of a compact context, in their order."""
    return {
        "epoch": compact.epoch,
        "threshold": compact.threshold,
        "hubs": bytes(compact.hubs).hex(),
        "keys": compact.keys,
        "key_bytes": compact.key_bytes,
        "purpose": int(compact.purpose),
        "lifetime": compact.lifetime,
        "group": None if compact.group is None else compact.group.hex(),
        "claim": claim_fields(compact.claim),
    }


def claim_fields(claim: Claim) -> Case:
    """The fields of a claim, in their order."""
    return {
        "computational": bytes(claim.computational).hex(),
        "randomness": int(claim.randomness),
        "enrolment": int(claim.enrolment),
    }


# ── messages between KMEs ───────────────────────────────────────────────────────────────────────
RANGES: Final = (KeyRange(LOWEST, 0, 1), KeyRange(LOWEST, 2, 1022), KeyRange(BATCH, 1, 1))
MASTER: Final = SaeId("web-1@kme-a")
SLAVES: Final = (SaeId("db-1@kme-b"), SaeId("db-2@kme-b"))
ASSIGN: Final = peer.Assign(
    REQUEST, (KeyRange(BATCH, 0, 2),), MASTER, SLAVES, "tls", 600, INCARNATION_A, INCARNATION_B, 1
)


def _peer_messages() -> list[tuple[PeerDirection, str, peer.PeerMessage]]:
    sender, receiver = PeerDirection.FROM_SENDER, PeerDirection.FROM_RECEIVER
    both: list[tuple[str, peer.PeerMessage]] = [
        ("REVOKE, some keys", peer.Revoke(REQUEST, peer.RevokeReason.KEY_COMPROMISE, RANGES)),
        ("REVOKE, all keys of the pair", peer.Revoke(REQUEST, peer.RevokeReason.ROLLBACK, None)),
        ("PEER_DONE", peer.PeerDone(tuple(sorted((REQUEST, OTHER_REQUEST))))),
    ]
    return [
        (sender, "OK", peer.Ok((BATCH,))),
        (sender, "OK, three batches in the order of their bytes", peer.Ok((LOWEST, BATCH, HIGHEST))),
        (sender, "VOID", peer.Void((BATCH,))),
        (sender, "VOID_KEYS", peer.VoidKeys(REQUEST, INCARNATION_A, RANGES)),
        (sender, "ASSIGN", ASSIGN),
        (
            sender,
            "ASSIGN, the largest numbers",
            replace(ASSIGN, purpose="~" * 32, lifetime=31_536_000, attempt=2**32 - 1),
        ),
        (receiver, "ASSIGNED", peer.Assigned(REQUEST, INCARNATION_B, 60, 1)),
        (
            receiver,
            "NOT_ASSIGNED",
            peer.NotAssigned(REQUEST, INCARNATION_B, peer.AssignRefusal.INCARNATION_CHANGED),
        ),
        (
            receiver,
            "NOT_ASSIGNED, of an unknown value: counts as busy",
            peer.NotAssigned(REQUEST, INCARNATION_B, 99),
        ),
        *((way, name, one) for way in (sender, receiver) for name, one in both),
    ]


def _peer_case(direction: PeerDirection, name: str, message: peer.PeerMessage) -> Case:
    plaintext = peer.encode_peer_message(message)
    return {
        "name": name,
        "spec": f"8.3 {name.split(',', maxsplit=1)[0]}",
        "direction": int(direction),
        "fields": peer_fields(message),
        "diagnostic": notation(plaintext),
        "plaintext": plaintext.hex(),
    }


_PEER_NAMES: Final = {
    "request": "request_id",
    "incarnation": "incarnation",
    "receiver_incarnation": "b_incarnation",
}


def peer_fields(message: peer.PeerMessage) -> Case:
    """The fields of a peer message, in their order."""
    fields: dict[str, Any] = {}
    for name in message.__slots__:
        value = getattr(message, name)
        if name == "batches":
            fields["batch_ids"] = [batch.to_bytes().hex() for batch in value]
        elif name == "keys":
            fields["keys"] = None if value is None else [jsonable(one.to_value()) for one in value]
        elif name == "requests":
            fields["request_ids"] = jsonable(value)
        else:
            fields[_PEER_NAMES.get(name, name)] = jsonable(value)
    return fields


# ── envelopes ───────────────────────────────────────────────────────────────────────────────────
ROOT: Final = expand("root of kme-a to kme-b", 64)


def envelope_case(
    name: str, realm: RealmName, root: bytes, direction: PeerDirection, message: peer.PeerMessage
) -> Case:
    """A peer message in its envelope, with every intermediate value."""
    random, plaintext = (
        expand(f"envelope random {name}", peer.RANDOM_BYTES),
        peer.encode_peer_message(message),
    )
    channel = Channel(realm, KME_A, KME_B, CONTROL, direction)
    envelope = channel.seal(Secret(root), random, plaintext)
    associated = encode([CONTROL.to_bytes(), int(direction), random])
    return {
        "name": name,
        "spec": "8.2",
        "realm": realm,
        "sender": KME_A,
        "receiver": KME_B,
        "root_id": CONTROL.to_bytes().hex(),
        "root": root.hex(),
        "direction": int(direction),
        "random": random.hex(),
        "message": notation(plaintext),
        "plaintext": plaintext.hex(),
        "info": (kdf.Label.PEER + channel.to_bytes()).hex(),
        "key": kdf.peer_message_key(root, random, channel.to_bytes()).hex(),
        "associated_data": associated.hex(),
        "sealed": envelope.sealed.hex(),
        "envelope": envelope.to_bytes().hex(),
    }


def _envelopes() -> list[Case]:
    sender, receiver = PeerDirection.FROM_SENDER, PeerDirection.FROM_RECEIVER
    return [
        envelope_case("OK of the control batch", FIVE_HUBS.name, ROOT, sender, peer.Ok((CONTROL,))),
        envelope_case("VOID", FIVE_HUBS.name, ROOT, sender, peer.Void((BATCH,))),
        envelope_case("ASSIGN", FIVE_HUBS.name, ROOT, sender, ASSIGN),
        envelope_case(
            "ASSIGNED", FIVE_HUBS.name, ROOT, receiver, peer.Assigned(REQUEST, INCARNATION_B, 60, 1)
        ),
        envelope_case("PEER_DONE", FIVE_HUBS.name, ROOT, receiver, peer.PeerDone((REQUEST,))),
    ]


# ── contexts, claims, realm files, key ids ──────────────────────────────────────────────────────
def _context_case(name: str, compact: CompactContext) -> Case:
    encoded = encode(compact.to_value())
    case: Case = {
        "name": name,
        "spec": "6.3, 7.3",
        "fields": compact_fields(compact),
        "diagnostic": notation(encoded),
        "compact": encoded.hex(),
        "share_bytes": compact.secret_bytes,
    }
    if compact.epoch == FIVE_HUBS.epoch:
        batch = CONTROL if compact.purpose is Purpose.CONTROL else BATCH
        context = establishment.expand(compact, FIVE_HUBS, sender=KME_A, receiver=KME_B, batch=batch)
        expanded = context.to_bytes()
        case["expanded"] = {
            "realm": "five hubs",
            "sender": KME_A,
            "receiver": KME_B,
            "batch_id": batch.to_bytes().hex(),
            "diagnostic": notation(expanded),
            "bytes": expanded.hex(),
            "digest": context.digest().hex(),
        }
    return case


def _claims() -> list[Case]:
    passphrase = Claim((Coordinate(2), Coordinate(3)), Randomness.SYSTEM, Enrolment.UNDER_PASSPHRASE)
    tables = Claim((), Randomness.SYSTEM, Enrolment.COMPONENTS)
    everywhere = Claim(FIVE_COORDINATES, Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR)
    neutral = Claim((), Randomness.SYSTEM_XOR_OTHER, Enrolment.COMPONENTS)
    pairs = {
        "one more hub remains": (CLAIM_A, neutral),
        "the ends' weak hubs add up to the threshold": (CLAIM_A, CLAIM_B),
        "the same hubs at both ends count once": (
            passphrase,
            replace(passphrase, randomness=neutral.randomness),
        ),
        "tables everywhere": (tables, neutral),
        "derived everywhere": (everywhere, replace(everywhere, randomness=neutral.randomness)),
    }
    return [_claim_case(name, ours, theirs) for name, (ours, theirs) in pairs.items()]


def _claim_case(name: str, sender: Claim, receiver: Claim) -> Case:
    joined = sender.joined(receiver)
    return {
        "name": name,
        "spec": "1.5, 6.4",
        "threshold": 3,
        "sender": _claim(sender),
        "receiver": _claim(receiver),
        "joined": claim_fields(joined),
        "margin": joined.margin(3),
        "class": joined.claim_class(3).name.lower().replace("_", "-"),
    }


def _claim(claim: Claim) -> Case:
    return claim_fields(claim) | {"bytes": encode(claim.to_value()).hex()}


def _without_hubs() -> Realm:
    attributes = HubAttributes("Operator", "CH", "Own building", "Admin", "skex")
    hub = Hub(HubName("kme-b"), Coordinate(255), HubStatus.ACTIVE, "[2001:db8::7]:65535", attributes)
    return Realm(RealmName("pair"), 1, 1, 0, 1, 0, (hub,))


def later_realm() -> Realm:
    """The epoch after ``FIVE_HUBS``: a hub revoked, one added, an address changed."""
    hubs = list(FIVE_HUBS.hubs)
    hubs[1] = replace(hubs[1], status=HubStatus.REVOKED)
    hubs[0] = replace(hubs[0], address="192.0.2.7:443")
    new = replace(hubs[4], name=HubName("hub-7"), coordinate=Coordinate(77))
    return replace(FIVE_HUBS, epoch=5, hubs=(*hubs[:5], new, hubs[5]))


def _realm_case(name: str, realm: Realm) -> Case:
    data = realm.to_bytes()
    return {
        "name": name,
        "spec": "10.1",
        "diagnostic": notation(data),
        "file": data.hex(),
        "digest": realm.digest().hex(),
        "active": [[hub.name, int(hub.coordinate)] for hub in realm.active_hubs],
    }


REALMS: Final[Mapping[str, Realm]] = {
    "five hubs": FIVE_HUBS,
    "three hubs": THREE_HUBS,
    "five hubs, the next epoch": later_realm(),
    "a link without hubs": _without_hubs(),
}


def _key_ids() -> list[Case]:
    cases = []
    for index in (0, 1, 1023):
        name = encode([kdf.Label.KEY_ID.decode(), FIVE_HUBS.name, KME_A, KME_B, BATCH.to_bytes(), index])
        key_id = establishment.key_id(FIVE_HUBS.name, KME_A, KME_B, BATCH, index)
        cases.append(_key_id_case(f"key {index} of a batch", name, str(key_id)))
    for index in (0, 24):
        name = encode([kdf.Label.GROUP_KEY_ID.decode(), FIVE_HUBS.name, KME_A, GROUP, index])
        key_id = establishment.group_key_id(FIVE_HUBS.name, KME_A, GROUP, index)
        cases.append(_key_id_case(f"key {index} of a group", name, str(key_id)))
    return cases


def _key_id_case(name: str, data: bytes, key_id: str) -> Case:
    return {"name": name, "spec": "11", "diagnostic": notation(data), "input": data.hex(), "key_id": key_id}


def _cbor() -> list[Case]:
    values: tuple[tuple[str, Value], ...] = (
        ("the shortest forms", [0, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1]),
        ("strings around 24 bytes", [b"", bytes(23), bytes(24), "", "a" * 23, "a" * 24]),
        ("strings around 256 bytes", [bytes(255), bytes(256)]),
        ("null, and six arrays within each other", [None, [[[[[]]]]]]),
        ("an array of 24", list(range(24))),
    )
    return [
        {"name": name, "spec": "6.1", "diagnostic": diagnostic(value), "bytes": encode(value).hex()}
        for name, value in values
    ]


def build() -> Case:
    """messages.json."""
    return document(
        "Everything that is encoded: messages of a link, messages between KMEs and their envelopes, "
        "contexts, claims, realm files, key ids. fields are named as in the text and stand in the order of "
        "the array; byte strings are hexadecimal. diagnostic is the whole array in the diagnostic notation "
        "of RFC 8949 section 8. Integers above 2^53 - 1 are decimal strings. Tags, shares, MACs and "
        "envelopes of the link messages are arbitrary bytes of the right length: only their encoding "
        "matters here.",
        "6",
        {
            "cbor": _cbor(),
            "link_messages": [_link_case(*one) for one in _link_messages()],
            "peer_messages": [_peer_case(*one) for one in _peer_messages()],
            "envelopes": _envelopes(),
            "contexts": [_context_case(name, one) for name, one in CONTEXTS.items()],
            "claims": _claims(),
            "realms": [_realm_case(name, one) for name, one in REALMS.items()],
            "key_ids": _key_ids(),
        },
    )
