"""What is known of one batch and its keys: the facts that lists, states and explanations are made of.

Only ids, names, numbers and sets of keys; never a key. It must not know where the facts come from.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from skex.base.ids import BatchId, KmeName, RealmName, SaeId
from skex.keys.states import KeyState
from skex.protocol.changes import Batch, Role, SuspendReason
from skex.protocol.establishment import key_id
from skex.wire.peer import RevokeReason


@dataclass(frozen=True, slots=True)
class Promise:
    """Keys (a bit for each) that are assigned, or offered, to ``slaves`` and their ``master``."""

    keys: int
    master: SaeId
    slaves: tuple[SaeId, ...]
    purpose: str
    lifetime: int


@dataclass(frozen=True, slots=True)
class BatchHistory:
    """One batch at one end. Sets of keys are integers, a bit for each key, key 0 the lowest.

    ``batch.keys`` is empty. ``made_at``, when this end kept it, and ``expires_at`` are UNIX seconds by the
    store's clock, which leaves steps back out. ``pair_rests`` is set where every key of the pair rests.
    """

    role: Role
    batch: Batch
    made_at: int
    expires_at: int
    left: int
    promised: int
    promises: tuple[Promise, ...] = ()
    delivered: Mapping[SaeId, int] = field(default_factory=dict)
    revoked: Mapping[RevokeReason, int] = field(default_factory=dict)
    suspended: Mapping[SuspendReason, int] = field(default_factory=dict)
    pair_rests: SuspendReason | None = None

    @property
    def name(self) -> BatchId:
        """The batch's id."""
        return self.batch.batch

    @property
    def keys(self) -> int:
        """How many keys it was made of."""
        return self.batch.context.keys

    def parties(self, here: KmeName) -> tuple[KmeName, KmeName]:
        """Who sent it, and who received it."""
        peer = self.batch.peer
        return (here, peer) if self.role is Role.SENDER else (peer, here)

    def key_id(self, realm: RealmName, here: KmeName, index: int) -> uuid.UUID:
        """The id of one key."""
        return key_id(realm, *self.parties(here), self.name, index)

    # ── of one key ──────────────────────────────────────────────────────────────────────────────
    def takers(self, index: int) -> tuple[SaeId, ...]:
        """The SAEs of this KME that have a key."""
        return tuple(sae for sae, keys in sorted(self.delivered.items()) if keys >> index & 1)

    def promise(self, index: int) -> Promise | None:
        """For whom a key is, as far as that is still known."""
        return next((one for one in self.promises if one.keys >> index & 1), None)

    def why_revoked(self, index: int) -> RevokeReason | None:
        """Why a key was revoked, if it was."""
        return next((reason for reason, keys in self.revoked.items() if keys >> index & 1), None)

    def why_suspended(self, index: int) -> SuspendReason | None:
        """Why a key rests, if it is here and does."""
        if not self.left >> index & 1:
            return None
        own = next((reason for reason, keys in self.suspended.items() if keys >> index & 1), None)
        return self.pair_rests if own is None else own

    def state(self, index: int) -> KeyState:
        """The state of one key."""
        bit = 1 << index
        taken, reason = bool(self.takers(index)), self.why_revoked(index)
        if reason is not None and taken:
            return KeyState.COMPROMISED_IN_USE if reason.is_compromise else KeyState.REVOKED_IN_USE
        if not self.left & bit:
            return KeyState.DELIVERED if taken else KeyState.ERASED
        rests = self.why_suspended(index) is not None
        if taken:
            return KeyState.PARTLY_DELIVERED_SUSPENDED if rests else KeyState.PARTLY_DELIVERED
        if self.promised & bit:
            return KeyState.ASSIGNED_SUSPENDED if rests else KeyState.ASSIGNED
        return KeyState.RESERVED_SUSPENDED if rests else KeyState.RESERVED

    def counts(self) -> dict[KeyState, int]:
        """How many keys are in which state."""
        found: dict[KeyState, int] = {}
        for index in range(self.keys):
            state = self.state(index)
            found[state] = found.get(state, 0) + 1
        return found
