"""Vectors of establishment: one batch over five hubs from its secret to its assignment, and its variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

from vectors_common import (
    BATCH,
    CLAIM_B,
    CONTROL,
    FIVE_HUBS,
    INCARNATION_A,
    INCARNATION_B,
    KME_A,
    KME_B,
    Case,
    document,
    expand,
    notation,
)
from vectors_messages import (
    ASSIGN,
    CONTROL_BATCH,
    IN_GROUP,
    OTHER_REQUEST,
    REQUEST,
    TRAFFIC,
    claim_fields,
    compact_fields,
    envelope_case,
)

from skex.base.ids import BatchId, Coordinate, HubName
from skex.base.secret import Secret
from skex.crypto import kdf, sharing
from skex.crypto.tag import CONFIRM_KEY_BYTES, TAG_KEY_BYTES
from skex.protocol import establishment
from skex.protocol.establishment import SharedSecret
from skex.protocol.reconstruct import Found, Search, is_certain, reconstruct
from skex.wire import messages, peer
from skex.wire.codec import encode
from skex.wire.context import KEY_PREFIX_BYTES, CompactContext, Context, Purpose
from skex.wire.messages import Confirmation
from skex.wire.peer import KeyRange, PeerDirection
from skex.wire.realm import Realm

_EPOCH: Final = FIVE_HUBS.epoch
_OTHER_BATCH: Final = BatchId(INCARNATION_A, 3)


@dataclass(frozen=True, slots=True)
class MadeBatch:
    """A batch as its sender makes it."""

    name: str
    context: Context
    secret: bytes
    coefficients: bytes
    shares: Mapping[Coordinate, bytes]
    tag: bytes

    @property
    def compact(self) -> CompactContext:
        """Its compact context."""
        return self.context.compact

    @property
    def confirm_key(self) -> bytes:
        """V."""
        return self.secret[TAG_KEY_BYTES : TAG_KEY_BYTES + CONFIRM_KEY_BYTES]

    @property
    def keys(self) -> list[bytes]:
        """The keys."""
        length = self.compact.key_bytes
        return [self.secret[at : at + length] for at in range(KEY_PREFIX_BYTES, len(self.secret), length)]

    def hub(self, coordinate: Coordinate) -> HubName:
        """The name of a hub of the batch."""
        return self.context.hub_names[self.compact.hubs.index(coordinate)]

    def share(self, coordinate: Coordinate) -> messages.Share:
        """The SHARE for a hub."""
        counter = self.context.batch.counter
        return messages.Share(KME_B, counter, self.compact, self.tag, self.shares[coordinate])

    def shared(self, coordinate: Coordinate) -> messages.Shared:
        """What that hub makes of it."""
        return messages.Shared(KME_A, self.context.batch, self.compact, self.tag, self.shares[coordinate])

    def confirmation(self) -> Confirmation:
        """B's CONFIRM."""
        return establishment.confirm(
            Secret(self.confirm_key),
            self.tag,
            self.context,
            epoch=_EPOCH,
            incarnation=INCARNATION_B,
            claim=replace(CLAIM_B, computational=tuple(set(CLAIM_B.computational) & set(self.compact.hubs))),
        )


def make(name: str, compact: CompactContext, batch: BatchId, realm: Realm = FIVE_HUBS) -> MadeBatch:
    """Make a batch from the stated expansion."""
    context = establishment.expand(compact, realm, sender=KME_A, receiver=KME_B, batch=batch)
    secret = expand(f"secret {name}", compact.secret_bytes)
    coefficients = expand(f"coefficients {name}", (compact.threshold - 1) * compact.secret_bytes)
    split = SharedSecret(Secret(secret)).split(compact.threshold, compact.hubs, coefficients)
    shares = {coordinate: share.expose() for coordinate, share in split.items()}
    tag = SharedSecret(Secret(secret)).tag(context.to_bytes())
    return MadeBatch(name, context, secret, coefficients, shares, tag)


def traffic() -> MadeBatch:
    """The batch that most vectors are about: n = 5, k = 3, two keys of 32 bytes."""
    return make("traffic", TRAFFIC, BATCH)


def control() -> MadeBatch:
    """A control batch."""
    return make("control", CONTROL_BATCH, CONTROL)


# ── making and sharing ──────────────────────────────────────────────────────────────────────────
def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _making(made: MadeBatch, spec: str, about: str) -> Case:
    secret, compact, context = made.secret, made.compact, made.context.to_bytes()
    p = _padded(len(context).to_bytes(8, "big") + context)
    q = _padded(secret[TAG_KEY_BYTES:])
    blocks = [(p + q)[at : at + 16].hex() for at in range(0, len(p + q), 16)]
    length = len(secret)
    return {
        "name": made.name,
        "spec": spec,
        "about": about,
        "sender": KME_A,
        "receiver": KME_B,
        "batch_id": made.context.batch.to_bytes().hex(),
        "compact_context": compact_fields(compact),
        "compact": encode(compact.to_value()).hex(),
        "context": context.hex(),
        "context_digest": made.context.digest().hex(),
        "c": secret[:16].hex(),
        "d": secret[16:32].hex(),
        "e": secret[32:48].hex(),
        "v": made.confirm_key.hex(),
        "keys": [key.hex() for key in made.keys],
        "secret": secret.hex(),
        "coefficients": [
            made.coefficients[at : at + length].hex() for at in range(0, len(made.coefficients), length)
        ],
        "n_blocks": len(blocks),
        "blocks": blocks,
        "tag": made.tag.hex(),
        "shares": [_share(made, coordinate) for coordinate in compact.hubs],
    }


def _share(made: MadeBatch, coordinate: Coordinate) -> Case:
    return {
        "hub": made.hub(coordinate),
        "coordinate": int(coordinate),
        "share": made.shares[coordinate].hex(),
        "share_body": messages.encode_message(made.share(coordinate)).hex(),
        "shared_body": messages.encode_message(made.shared(coordinate)).hex(),
    }


# ── rebuilding ──────────────────────────────────────────────────────────────────────────────────
def _factors(coordinates: Sequence[Coordinate], at: int = 0) -> list[int]:
    unit = {int(x): bytes(int(x == y) for y in coordinates) for x in coordinates}
    return list(sharing.interpolate(unit, at))


def _search(made: MadeBatch, shares: Mapping[Coordinate, bytes]) -> Found | None:
    if len(shares) < made.compact.threshold:
        return None
    secrets = {coordinate: Secret(share) for coordinate, share in shares.items()}
    outcome = reconstruct(
        Search(made.compact.threshold, made.tag, made.context.to_bytes(), secrets, frozenset(shares))
    )
    return outcome if isinstance(outcome, Found) else None


def _subsets(made: MadeBatch, shares: Mapping[Coordinate, bytes]) -> list[Case]:
    """Every set of k shares: its factors, what it rebuilds, and whether T is right."""
    rows = []
    context = made.context.to_bytes()
    for chosen in combinations(sorted(shares), made.compact.threshold):
        rebuilt = sharing.interpolate({int(x): shares[x] for x in chosen})
        verifies = SharedSecret(Secret(rebuilt)).verifies(context, made.tag)
        row: Case = {"coordinates": [int(x) for x in chosen], "factors": _factors(chosen)}
        if rebuilt != made.secret:
            row["secret"] = rebuilt.hex()
            row["tag"] = SharedSecret(Secret(rebuilt)).tag(context).hex()
        rows.append(row | {"verifies": verifies})
    return rows


def _rebuilding(name: str, about: str, made: MadeBatch, brought: Mapping[Coordinate, bytes]) -> Case:
    found = _search(made, brought)
    case: Case = {
        "name": name,
        "spec": "7.2, 7.7",
        "about": about,
        "of": made.name,
        "brought": [{"coordinate": int(x), "share": share.hex()} for x, share in brought.items()],
        "subsets": _subsets(made, brought),
        "accepted": found is not None,
    }
    if found is not None:
        agreeing = len(brought) - len(found.deviating)
        named = [made.hub(coordinate) for coordinate in sorted(found.deviating)]
        certain = is_certain(agreeing, made.compact.threshold)
        case["named"] = {"hubs": named, "agreeing": agreeing, "certain": certain} if named else None
    return case


def _altered(share: bytes, at: int, difference: bytes) -> bytes:
    changed = bytes(left ^ right for left, right in zip(share[at:], difference, strict=False))
    return share[:at] + changed + share[at + len(changed) :]


def _rebuildings(made: MadeBatch) -> list[Case]:
    one, two, three, nine, last = made.compact.hubs
    all_shares = dict(made.shares)
    in_key = _altered(made.shares[three], KEY_PREFIX_BYTES + 5, b"\x01")
    in_u = _altered(made.shares[nine], 0, b"\x80" + bytes(46) + b"\x01")
    at_end = _altered(made.shares[last], len(made.secret) - 1, b"\xff")
    return [
        _rebuilding(
            "three shares",
            "The lowest number that rebuilds.",
            made,
            {x: all_shares[x] for x in (two, nine, last)},
        ),
        _rebuilding("all five shares", "All on one polynomial: nobody is named.", made, all_shares),
        _rebuilding(
            "two shares", "Fewer than k: nothing is tried.", made, {x: all_shares[x] for x in (one, last)}
        ),
        _rebuilding(
            "one of five altered",
            "One bit of a key byte in the share of hub-3. The four sets without it rebuild S; four shares "
            "agree, which is 2(k - 1), so hub-3 is named for certain.",
            made,
            all_shares | {three: in_key},
        ),
        _rebuilding(
            "one of four altered",
            "The same with four shares: three agree, so hub-3 is named, but not for certain.",
            made,
            {x: all_shares[x] for x in (one, two, nine)} | {three: in_key},
        ),
        _rebuilding(
            "two of three exchanged, to no effect",
            "hub-1 and hub-2 brought each other's share. At the coordinates 1, 2 and 3 all factors are 1, so "
            "S is rebuilt all the same and T is right: T proves S, not each share.",
            made,
            {one: all_shares[two], two: all_shares[one], three: all_shares[three]},
        ),
        _rebuilding(
            "one of three altered",
            "No set is left: nothing is accepted, nobody is named; B waits until its deadline.",
            made,
            {x: all_shares[x] for x in (one, two)} | {three: in_key},
        ),
        _rebuilding(
            "two of five altered",
            "The first and the last byte of u at coordinate 9, the last byte of the last key at 255: one "
            "set is right. Three shares agree, so both hubs are named, but not for certain.",
            made,
            all_shares | {nine: in_u, last: at_end},
        ),
    ]


# ── confirming ──────────────────────────────────────────────────────────────────────────────────
def _confirming(made: MadeBatch, about: str) -> Case:
    confirmation = made.confirmation()
    claim = encode(confirmation.claim.to_value())
    fixed = kdf.Label.CONFIRM + made.tag + made.context.digest() + _EPOCH.to_bytes(4, "big") + INCARNATION_B
    return {
        "name": f"CONFIRM of {made.name}",
        "spec": "7.8",
        "about": about,
        "of": made.name,
        "epoch": _EPOCH,
        "incarnation": INCARNATION_B.hex(),
        "claim": claim_fields(confirmation.claim),
        "joined_claim": claim_fields(made.compact.claim.joined(confirmation.claim)),
        "mac_key": made.confirm_key.hex(),
        "mac_input": (fixed + claim).hex(),
        "mac": confirmation.mac.hex(),
        "confirm_body": messages.encode_message(messages.Confirm(KME_A, confirmation)).hex(),
        "confirmed_body": messages.encode_message(messages.Confirmed(KME_B, confirmation)).hex(),
    }


# ── afterwards ──────────────────────────────────────────────────────────────────────────────────
def _afterwards(root: bytes) -> list[Case]:
    """What the ends say under the root of the control batch, in the order of a life."""
    realm, sender, receiver = FIVE_HUBS.name, PeerDirection.FROM_SENDER, PeerDirection.FROM_RECEIVER
    keys = (KeyRange(BATCH, 0, 2),)
    said: list[tuple[str, PeerDirection, peer.PeerMessage]] = [
        ("after: OK of the control batch", sender, peer.Ok((CONTROL,))),
        ("after: OK", sender, peer.Ok((BATCH,))),
        ("after: VOID of a batch that was given up", sender, peer.Void((_OTHER_BATCH,))),
        ("after: ASSIGN", sender, ASSIGN),
        ("after: ASSIGNED", receiver, peer.Assigned(REQUEST, INCARNATION_B, 60, 1)),
        (
            "after: NOT_ASSIGNED",
            receiver,
            peer.NotAssigned(OTHER_REQUEST, INCARNATION_B, peer.AssignRefusal.KEY_ASSIGNED),
        ),
        ("after: VOID_KEYS", sender, peer.VoidKeys(REQUEST, INCARNATION_A, (KeyRange(BATCH, 1, 1),))),
        ("after: PEER_DONE", receiver, peer.PeerDone((REQUEST,))),
        ("after: REVOKE by A", sender, peer.Revoke(OTHER_REQUEST, peer.RevokeReason.KEY_COMPROMISE, keys)),
        (
            "after: REVOKE by B",
            receiver,
            peer.Revoke(OTHER_REQUEST, peer.RevokeReason.CESSATION_OF_OPERATION, None),
        ),
        ("after: PEER_DONE by A", sender, peer.PeerDone((OTHER_REQUEST,))),
    ]
    cases = []
    for name, direction, message in said:
        case = envelope_case(name, realm, root, direction, message)
        who, whom = (KME_A, KME_B) if direction is PeerDirection.FROM_SENDER else (KME_B, KME_A)
        envelope = bytes.fromhex(case["envelope"])
        case["spec"] = "8.1 to 8.3"
        case["peer_body"] = messages.encode_message(messages.Peer(whom, envelope)).hex()
        case["forwarded_body"] = messages.encode_message(messages.Forwarded(who, envelope)).hex()
        cases.append(case)
    return cases


def _key_ids(made: MadeBatch) -> Case:
    context = made.context
    ids = []
    for index in range(made.compact.keys):
        if made.compact.group is None:
            key_id = establishment.key_id(context.realm, KME_A, KME_B, context.batch, index)
        else:
            key_id = establishment.group_key_id(context.realm, KME_A, made.compact.group, index)
        ids.append(str(key_id))
    return {"name": f"key ids of {made.name}", "spec": "11", "of": made.name, "key_ids": ids}


def build() -> Case:
    """establishment.json."""
    main, root = traffic(), control()
    group = make("group", IN_GROUP, BatchId(INCARNATION_A, 4))
    if main.compact.purpose is not Purpose.TRAFFIC:
        raise AssertionError(main.name)
    batches = [
        _making(root, "7.1 to 7.4, 7.11", "A control batch: its one key of 64 bytes is a root."),
        _making(main, "7.1 to 7.4", "n = 5, k = 3, two keys of 32 bytes."),
        _making(group, "7.1 to 7.4, 7.10", "A batch in a group, over three of the five hubs: n = k = 3."),
    ]
    confirming = [
        _confirming(root, "B's claim names one hub; it states randomness 0, as every receiver does."),
        _confirming(main, "The joined claim names three hubs of k = 3: the keys are computational."),
        _confirming(group, "B's weak hub is one of the three."),
    ]
    return document(
        "Establishment: whole batches with every intermediate value, rebuilding from good and altered "
        "shares, confirmations, and what the ends say afterwards under the root of the control batch. "
        "blocks are X_1 to X_N, P and Q; factors are the Lagrange factors at 0 in the order of "
        "coordinates. A subset without 'secret' rebuilds S. named: the hubs that B reports once no more "
        "shares come. of names the batch that a case belongs to.",
        "7",
        {
            "realm": {"file": FIVE_HUBS.to_bytes().hex(), "diagnostic": notation(FIVE_HUBS.to_bytes())},
            "batches": batches,
            "rebuilding": _rebuildings(main),
            "confirming": confirming,
            "afterwards": _afterwards(root.keys[0]),
            "key_ids": [_key_ids(main), _key_ids(group)],
        },
    )
