"""What sender and receiver of a batch have in common: one secret, one context, one confirmation.

Pure functions and the type of the shared secret. Nothing here knows hubs' connections, deadlines or
stores; ``sender`` and ``receiver`` are the machines (specification, section "Establishment").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from skex.base import codes, limits
from skex.base.errors import LocalBug, Refused
from skex.base.ids import BatchId, Coordinate, GroupId, HubName, Incarnation, KmeName, RealmName
from skex.base.secret import Secret
from skex.crypto import mac, sharing
from skex.crypto.kdf import Label
from skex.crypto.tag import CONFIRM_KEY_BYTES, TAG_KEY_BYTES, end_to_end_tag
from skex.protocol.changes import Role
from skex.wire.claim import Claim
from skex.wire.codec import encode
from skex.wire.context import KEY_PREFIX_BYTES, CompactContext, Context
from skex.wire.messages import Confirmation
from skex.wire.realm import Hub, HubAttributes, Realm


class OwnClaims(Protocol):
    """What this end states about its own links; the composing daemon knows how they were enrolled."""

    def own_claim(self, hubs: Sequence[Coordinate]) -> Claim:
        """The claim of this end over the links to ``hubs``, and over no others."""
        ...


@dataclass(frozen=True, slots=True)
class Realms:
    """The realm files that this end trusts: the current epoch, and the previous one while both hold."""

    current: Realm
    previous: Realm | None = None

    def named(self, epoch: int) -> Realm | None:
        """The realm of an epoch, if it is one of the two."""
        if self.previous is not None and epoch == self.previous.epoch:
            return self.previous
        return self.current if epoch == self.current.epoch else None

    def counts(self, hub: HubName, realm: Realm) -> Coordinate | None:
        """The coordinate at which a hub's shares count in a batch of ``realm``'s epoch, or None.

        The hub must be active in that epoch *and* in the current one: an older epoch brings no
        revoked hub back.
        """
        there = realm.hub_named(hub)
        if there is None or self.current.hub_named(hub) is None:
            return None
        return there.coordinate


@dataclass(frozen=True, slots=True)
class RealmsChanged:
    """Other realm files are in force; None when the last one reached its maximum age."""

    realms: Realms | None


@dataclass(frozen=True, slots=True)
class RootMade:
    """A control batch made a root for peer messages; ``RootKept`` was in the same set of changes.

    A receiver may use the root only after the sender's answer.
    """

    role: Role
    peer: KmeName
    batch: BatchId
    root: Secret


def subsets(hubs: int, threshold: int) -> int:
    """How many sets of ``threshold`` hubs there are among ``hubs``."""
    return math.comb(hubs, threshold)


def most_hubs(connected: int, threshold: int) -> int:
    """How many of the ``connected`` hubs one batch may use: C(n, k) stays within ``limits.SUBSETS``."""
    most = min(connected, limits.REALM_HUBS)
    while subsets(most, threshold) > limits.SUBSETS:
        most -= 1
    return most


def entropy_bytes(keys: int, key_bytes: int, threshold: int) -> int:
    """How many fresh random bytes one batch takes: the shared secret and k-1 coefficients of each byte."""
    return threshold * (KEY_PREFIX_BYTES + keys * key_bytes)


# ── context ─────────────────────────────────────────────────────────────────────────────────────
def expand(
    compact: CompactContext, realm: Realm, *, sender: KmeName, receiver: KmeName, batch: BatchId
) -> Context:
    """The context as this end sees it, with the realm file that *it* trusts for that epoch.

    Raises ``Refused`` (context-disagrees) where the compact form has another epoch, another
    threshold, or a hub that is not active in the realm.
    """
    if compact.epoch != realm.epoch:
        raise Refused(codes.CONTEXT_DISAGREES, f"epoch {compact.epoch}, here {realm.epoch}")
    if compact.threshold != realm.threshold:
        raise Refused(codes.CONTEXT_DISAGREES, f"threshold {compact.threshold}, here {realm.threshold}")
    names = tuple(_hub_at(realm, coordinate).name for coordinate in compact.hubs)
    return Context(realm.name, sender, receiver, batch, names, compact)


def attributes_of(hubs: Sequence[Coordinate], realm: Realm) -> tuple[HubAttributes, ...]:
    """Who stands behind the hubs at these coordinates. Raises ``Refused`` as ``expand`` does."""
    return tuple(_hub_at(realm, coordinate).attributes for coordinate in hubs)


def _hub_at(realm: Realm, coordinate: Coordinate) -> Hub:
    hub = realm.hub_at(coordinate)
    if hub is None:
        raise Refused(codes.CONTEXT_DISAGREES, f"no active hub at coordinate {coordinate}")
    return hub


# ── the shared secret ───────────────────────────────────────────────────────────────────────────
class SharedSecret:
    """``S = u(48) || v(32) || key_1 || ... || key_m``: what the hubs' shares rebuild."""

    __slots__ = ("_secret",)

    def __init__(self, secret: Secret) -> None:
        if len(secret) <= KEY_PREFIX_BYTES:
            raise LocalBug(codes.BAD_ARGUMENT, f"a shared secret of {len(secret)} bytes")
        self._secret = secret

    def tag(self, context: bytes) -> bytes:
        """The end-to-end tag T over the expanded ``context`` and this secret, 16 bytes."""
        secret = self._secret.expose()
        return end_to_end_tag(secret[:TAG_KEY_BYTES], context, secret[TAG_KEY_BYTES:])

    def verifies(self, context: bytes, tag: bytes) -> bool:
        """Whether ``tag`` is the end-to-end tag of this secret in this context; constant time."""
        return mac.equal(self.tag(context), tag)

    def confirm_key(self) -> Secret:
        """``v``: authenticates the one CONFIRM of this batch and nothing else."""
        return Secret(self._secret.expose()[TAG_KEY_BYTES : TAG_KEY_BYTES + CONFIRM_KEY_BYTES])

    def keys(self) -> Secret:
        """The keys, one after another."""
        return Secret(self._secret.expose()[KEY_PREFIX_BYTES:])

    def split(
        self, threshold: int, hubs: Sequence[Coordinate], coefficients: bytes
    ) -> dict[Coordinate, Secret]:
        """One share for each hub, any ``threshold`` of which rebuild the secret."""
        shares = sharing.split(self._secret.expose(), threshold, hubs, coefficients)
        return {hub: Secret(share) for hub, share in zip(hubs, shares, strict=True)}

    def wipe(self) -> None:
        """Forget the secret."""
        self._secret.wipe()


# ── confirmation ────────────────────────────────────────────────────────────────────────────────
def confirm(
    key: Secret, tag: bytes, context: Context, *, epoch: int, incarnation: Incarnation, claim: Claim
) -> Confirmation:
    """The receiver's fixed confirmation of a batch; ``epoch`` is that of its own current realm."""
    digest = context.digest()
    mac_bytes = _confirm_mac(key, tag, digest, epoch=epoch, incarnation=incarnation, claim=claim)
    return Confirmation(context.batch, epoch, incarnation, claim, mac_bytes)


def confirms(confirmation: Confirmation, key: Secret, tag: bytes, digest: bytes) -> bool:
    """Whether a confirmation is the receiver's, for the batch with this tag and context digest."""
    expected = _confirm_mac(
        key,
        tag,
        digest,
        epoch=confirmation.epoch,
        incarnation=confirmation.incarnation,
        claim=confirmation.claim,
    )
    return mac.equal(expected, confirmation.mac)


def _confirm_mac(
    key: Secret, tag: bytes, digest: bytes, *, epoch: int, incarnation: Incarnation, claim: Claim
) -> bytes:
    """Poly1305(v, label || T || SHA-512(context) || epoch be32 || incarnation || CBOR(claim))."""
    fixed = Label.CONFIRM + tag + digest + epoch.to_bytes(4, "big") + incarnation
    return mac.poly1305(key.expose(), fixed + encode(claim.to_value()))


# ── key ids ─────────────────────────────────────────────────────────────────────────────────────
def key_id(realm: RealmName, sender: KmeName, receiver: KmeName, batch: BatchId, index: int) -> UUID:
    """The name of a batch's key ``index`` (from 0): a UUID version 8 that carries no authority."""
    return _uuid(encode([Label.KEY_ID.decode(), realm, sender, receiver, batch.to_bytes(), index]))


def group_key_id(realm: RealmName, sender: KmeName, group: GroupId, index: int) -> UUID:
    """The name of a group's key ``index``, the same at every member."""
    return _uuid(encode([Label.GROUP_KEY_ID.decode(), realm, sender, group, index]))


def _uuid(name: bytes) -> UUID:
    """The first 16 bytes of SHA-512, with version and variant as RFC 9562 section 5.8 sets them."""
    data = bytearray(hashlib.sha512(name).digest()[:16])
    data[6] = data[6] & 0x0F | 0x80
    data[8] = data[8] & 0x3F | 0x80
    return UUID(bytes=bytes(data))
