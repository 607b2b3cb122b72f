"""What two KMEs keep of the same batches: equal keys, and none to be delivered that the receiver lost.

Keys are read through the sealed stores and compared as digests under a key that lives as long as the
comparison. It must not know pads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from skex.base.ids import BatchId, KmeName
from skex.daemon.verifying.ends import Home
from skex.daemon.verifying.statements import Chapter, Statement, proved, unseen, wrong
from skex.protocol.changes import Role
from skex.runtime import clock, entropy
from skex.store.batches import KeptBatch
from skex.store.kme import KmeStore
from skex.wire.codec import encode

_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a KME keeps of one batch: its context, and a digest of each key that is left, by its index."""

    context: bytes
    keys: Mapping[int, bytes]


def compare_keys(homes: Sequence[Home]) -> tuple[Chapter, ...]:
    """Every ordered pair of the KMEs whose homes these are. Raises ``StoreFault`` (store-*)."""
    secret = entropy.random_bytes(_DIGEST_BYTES)
    kmes = sorted((home for home in homes if not home.is_hub), key=lambda home: home.label)
    return tuple(
        Chapter(f"keys of {sender.label} for {receiver.label}", tuple(_about(sender, receiver, secret)))
        for sender in kmes
        for receiver in kmes
        if sender.settings.name != receiver.settings.name
    )


def _about(sender: Home, receiver: Home, secret: bytes) -> Iterator[Statement]:
    if not isinstance(sender.store, KmeStore) or not isinstance(receiver.store, KmeStore):
        yield unseen("keys", "A daemon runs in one of these homes: its store was left alone.")
        return
    made = _kept(sender.store, Role.SENDER, receiver, secret)
    held = _kept(receiver.store, Role.RECEIVER, sender, secret)
    yield from _equal(made, held)
    lost = sum(len(kept.keys.keys() - _indexes(held.get(batch))) for batch, kept in made.items())
    if not lost:
        yield proved("held", f"Whatever {sender.label} may still deliver, {receiver.label} has.")
    elif _is_revoking(receiver.store, sender):
        text = f"{receiver.label} gave up {lost} keys of {sender.label} and has not told it yet."
        yield unseen("held", f"{text} It assigns none of them.")
    else:
        yield wrong("held", f"{sender.label} may still deliver {lost} keys that {receiver.label} lost.")


def _equal(made: Mapping[BatchId, _Kept], held: Mapping[BatchId, _Kept]) -> Iterator[Statement]:
    """A key id stands for a batch and an index: the same bytes at both ends, from the same context."""
    equal = differ = contexts = 0
    for batch in made.keys() & held.keys():
        ours, theirs = made[batch], held[batch]
        contexts += ours.context != theirs.context
        for index in ours.keys.keys() & theirs.keys.keys():
            same = ours.keys[index] == theirs.keys[index]
            equal, differ = equal + same, differ + (not same)
    if differ or contexts:
        yield wrong("keys", f"{differ} keys and {contexts} contexts differ at the two ends.")
    elif equal:
        yield proved("keys", f"{equal} keys are held by both ends, and equal.")
    else:
        yield unseen("keys", "No key is held by both ends now.")


def _indexes(kept: _Kept | None) -> frozenset[int]:
    return frozenset() if kept is None else frozenset(kept.keys)


def _is_revoking(receiver: KmeStore, sender: Home) -> bool:
    """Whether word of a revocation is still to be sent."""
    state = receiver.load(clock.now())
    waiting = {queued.peer for queued in state.peer_messages.queued}
    return state.rollback_found is not None or sender.settings.name in waiting


def _kept(store: KmeStore, role: Role, peer: Home, secret: bytes) -> dict[BatchId, _Kept]:
    """The batches of a pair whose lifetime is not over."""
    now = clock.now()
    name = KmeName(peer.settings.name)
    found = (one for one in store.kept(now) if (one.role, one.batch.peer) == (role, name))
    return {one.batch.batch: _digests(store, one, secret) for one in found if one.expires_at > now}


def _digests(store: KmeStore, kept: KeptBatch, secret: bytes) -> _Kept:
    indexes = [index for one in kept.left for index in one.indexes]
    keys = store.read_keys(kept.role, kept.batch.peer, kept.left)
    digests = {}
    for index, key in zip(indexes, keys, strict=True):
        digests[index] = hashlib.blake2b(key.expose(), key=secret, digest_size=_DIGEST_BYTES).digest()
        key.wipe()
    return _Kept(encode(kept.batch.context.to_value()), digests)
