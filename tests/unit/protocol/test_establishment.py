from __future__ import annotations

import hashlib
from dataclasses import replace
from math import comb
from uuid import UUID

import cbor2
import pytest
from cryptography.hazmat.primitives.poly1305 import Poly1305

from simulation.exchange import ALICE, BOB, NO_CLAIM, REALM, hub_name, make_realm
from skex.base import codes, limits
from skex.base.errors import LocalBug, Refused
from skex.base.ids import BatchId, Coordinate, GroupId, Incarnation
from skex.base.secret import Secret
from skex.protocol import establishment
from skex.protocol.establishment import Realms, SharedSecret
from skex.wire.context import CompactContext, Context, Purpose

BATCH = BatchId(Incarnation(bytes(range(16))), 7)
COMPACT = CompactContext(
    epoch=1,
    threshold=2,
    hubs=(Coordinate(1), Coordinate(3)),
    keys=2,
    key_bytes=16,
    purpose=Purpose.TRAFFIC,
    lifetime=60,
    group=None,
    claim=NO_CLAIM,
)
SECRET = bytes(range(80 + 32))


def expand(
    compact: CompactContext = COMPACT, *, threshold: int = 2, revoked: tuple[int, ...] = ()
) -> Context:
    realm = make_realm(4, threshold, revoked=revoked)
    return establishment.expand(compact, realm, sender=ALICE, receiver=BOB, batch=BATCH)


def test_the_expanded_context_names_what_this_end_knows() -> None:
    context = expand()
    assert context.hub_names == (hub_name(1), hub_name(3))
    assert (context.realm, context.sender, context.receiver, context.batch) == (REALM, ALICE, BOB, BATCH)


@pytest.mark.parametrize(
    ("compact", "threshold", "revoked"),
    [
        (replace(COMPACT, epoch=2), 2, ()),
        (replace(COMPACT, threshold=1), 2, ()),
        (COMPACT, 3, ()),
        (replace(COMPACT, hubs=(Coordinate(1), Coordinate(9))), 2, ()),
        (COMPACT, 2, (3,)),
    ],
    ids=["another epoch", "a lower threshold", "own threshold higher", "an unknown hub", "a revoked hub"],
)
def test_a_context_that_disagrees_with_the_own_realm_is_refused(
    compact: CompactContext, threshold: int, revoked: tuple[int, ...]
) -> None:
    with pytest.raises(Refused) as caught:
        expand(compact, threshold=threshold, revoked=revoked)
    assert caught.value.code is codes.CONTEXT_DISAGREES


def test_two_epochs_are_known_by_their_numbers_and_no_third() -> None:
    older, newer = make_realm(4, 2), make_realm(4, 3, epoch=2)
    realms = Realms(newer, older)
    assert realms.named(1) is older
    assert realms.named(2) is newer
    assert realms.named(3) is None
    assert Realms(newer).named(1) is None


def test_a_hub_revoked_in_the_current_epoch_does_not_count_in_the_older_one() -> None:
    older, newer = make_realm(4, 2), make_realm(5, 2, epoch=2, revoked=(3,))
    realms = Realms(newer, older)
    assert realms.counts(hub_name(1), older) == 1
    assert realms.counts(hub_name(3), older) is None
    assert realms.counts(hub_name(5), older) is None
    assert realms.counts(hub_name(5), newer) == 5


@pytest.mark.parametrize("threshold", [1, 2, 3, 5, 9])
def test_as_many_hubs_are_used_as_a_receiver_can_search(threshold: int) -> None:
    most = establishment.most_hubs(limits.REALM_HUBS, threshold)
    assert comb(most, threshold) <= limits.SUBSETS
    assert most == limits.REALM_HUBS or comb(most + 1, threshold) > limits.SUBSETS
    assert establishment.most_hubs(threshold, threshold) == threshold


def test_entropy_covers_the_secret_and_every_coefficient() -> None:
    assert establishment.entropy_bytes(2, 16, 3) == len(SECRET) + 2 * len(SECRET)


# ── the shared secret ───────────────────────────────────────────────────────────────────────────
def test_a_secret_without_a_key_is_a_bug() -> None:
    with pytest.raises(LocalBug) as caught:
        SharedSecret(Secret(bytes(80)))
    assert caught.value.code is codes.BAD_ARGUMENT


def test_the_secret_is_cut_into_confirm_key_and_keys() -> None:
    secret = SharedSecret(Secret(SECRET))
    assert secret.confirm_key().expose() == SECRET[48:80]
    assert secret.keys().expose() == SECRET[80:]


def test_the_tag_verifies_for_its_own_context_only() -> None:
    secret = SharedSecret(Secret(SECRET))
    tag = secret.tag(b"context")
    assert secret.verifies(b"context", tag)
    assert not secret.verifies(b"Context", tag)


def test_every_bit_of_the_secret_is_under_the_tag() -> None:
    tag = SharedSecret(Secret(SECRET)).tag(b"context")
    for position in range(len(SECRET)):
        changed = bytearray(SECRET)
        changed[position] ^= 1
        assert not SharedSecret(Secret(bytes(changed))).verifies(b"context", tag)


def test_a_wiped_secret_is_gone() -> None:
    held = Secret(SECRET)
    SharedSecret(held).wipe()
    assert held.wiped


# ── confirmation ────────────────────────────────────────────────────────────────────────────────
def test_the_confirm_mac_is_poly1305_over_the_fields_of_the_specification() -> None:
    context, tag = expand(), bytes(range(16))
    incarnation = Incarnation(b"i" * 16)
    confirmation = establishment.confirm(
        Secret(SECRET[48:80]), tag, context, epoch=5, incarnation=incarnation, claim=NO_CLAIM
    )
    digest = hashlib.sha512(context.to_bytes()).digest()
    data = b"skex1 confirm" + tag + digest + b"\0\0\0\5" + incarnation + cbor2.dumps([b"", 1, 0])
    assert confirmation.mac == Poly1305.generate_tag(SECRET[48:80], data)
    assert (confirmation.batch, confirmation.epoch) == (BATCH, 5)


def test_a_confirmation_with_any_other_field_does_not_verify() -> None:
    context, tag, key = expand(), bytes(16), Secret(SECRET[48:80])
    good = establishment.confirm(
        key, tag, context, epoch=5, incarnation=Incarnation(b"i" * 16), claim=NO_CLAIM
    )
    digest = context.digest()
    assert establishment.confirms(good, key, tag, digest)
    forged = [
        replace(good, epoch=6),
        replace(good, incarnation=Incarnation(b"j" * 16)),
        replace(good, claim=replace(NO_CLAIM, computational=(Coordinate(1),))),
        replace(good, mac=bytes(16)),
    ]
    assert not any(establishment.confirms(confirmation, key, tag, digest) for confirmation in forged)
    assert not establishment.confirms(good, key, b"t" * 16, digest)
    assert not establishment.confirms(good, key, tag, hashlib.sha512(b"other context").digest())
    assert not establishment.confirms(good, Secret(bytes(32)), tag, digest)


# ── key ids ─────────────────────────────────────────────────────────────────────────────────────
def as_uuid8(name: bytes) -> UUID:
    """RFC 9562 section 5.8, by arithmetic instead of by bytes."""
    number = int.from_bytes(hashlib.sha512(name).digest()[:16], "big")
    number &= ~(0xF << 76) & ~(0x3 << 62)
    return UUID(int=number | 8 << 76 | 2 << 62)


def test_key_ids_are_version_8_uuids_of_the_batch_and_index() -> None:
    made = establishment.key_id(REALM, ALICE, BOB, BATCH, 1)
    name = cbor2.dumps(["skex1 key id", "testbed", "alice", "bob", BATCH.to_bytes(), 1])
    assert made == as_uuid8(name)
    assert made.version == 8
    assert made.variant == "specified in RFC 4122"


def test_group_key_ids_do_not_depend_on_the_member() -> None:
    group = GroupId(b"g" * 16)
    name = cbor2.dumps(["skex1 group key id", "testbed", "alice", b"g" * 16, 3])
    assert establishment.group_key_id(REALM, ALICE, group, 3) == as_uuid8(name)


def test_the_two_directions_of_a_pair_name_their_keys_differently() -> None:
    there = establishment.key_id(REALM, ALICE, BOB, BATCH, 0)
    back = establishment.key_id(REALM, BOB, ALICE, BATCH, 0)
    assert there != back
