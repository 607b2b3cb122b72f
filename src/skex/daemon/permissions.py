"""The policy in force, in the shapes in which a KME's parts ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from skex.base import codes
from skex.base.ids import BatchId, KmeName, SaeId
from skex.keys.api import Cryptoperiod, Requirements
from skex.policy import ports
from skex.policy.decisions import Decision
from skex.policy.evaluate import Held
from skex.policy.ports import ActivePolicy
from skex.policy.rules import Direction
from skex.policy.rules import Role as SaeRole
from skex.policy.wording import NUMBER_MAX
from skex.protocol import kme, peer, receiver, sender
from skex.protocol.changes import Role
from skex.store.batches import KeptBatch
from skex.wire.claim import ClaimClass
from skex.wire.context import Purpose
from skex.wire.independence import Attribute, Floor


class Holdings:
    """How much of each peer's batches is kept here; hears the machines' notices."""

    def __init__(self, kept: Iterable[KeptBatch]) -> None:
        self._batches: dict[KmeName, dict[BatchId, int]] = {}
        for one in kept:
            if one.role is Role.RECEIVER:
                context = one.batch.context
                self._of(one.batch.peer)[one.batch.batch] = context.keys * context.key_bytes

    def held(self, peer: KmeName) -> Held:
        """As ``policy.ports.Holdings`` says."""
        batches = self._batches.get(peer, {})
        return Held(len(batches), sum(batches.values()))

    def hear(self, notice: kme.KmeNotice) -> None:
        """Keep the counts."""
        match notice:
            case receiver.BatchAccepted(batch) if batch.context.purpose is Purpose.TRAFFIC:
                context = batch.context
                self._of(batch.peer)[batch.batch] = context.keys * context.key_bytes
            case receiver.BatchExpired(name, batch_id) | receiver.BatchSettled(name, batch_id, False):
                self._of(name).pop(batch_id, None)
            case peer.Revoked(Role.RECEIVER, name, None):
                self._batches.pop(name, None)
            case _:
                pass

    def _of(self, peer_name: KmeName) -> dict[BatchId, int]:
        return self._batches.setdefault(peer_name, {})


class KeyPermissions:
    """``SaePolicy`` of the key service."""

    def __init__(self, active: ActivePolicy) -> None:
        self._active = active
        self._sae = ports.SaePolicy(active)

    def resolve(self, name: str) -> SaeId:
        """The qualified id of an alias or of a qualified id."""
        return self._sae.resolve(name)

    def may_take_new(
        self,
        caller: SaeId,
        slave: SaeId,
        number: int,
        key_bytes: int,
        purpose: str,
        *,
        slaves: int = 1,
        lifetime: int | None = None,
    ) -> Decision:
        """Whether ``caller`` may be master of keys for ``slave``, which is one of ``slaves``."""
        return self._sae.may_take_new(
            caller, slave, number, key_bytes, purpose, slaves=slaves, lifetime=lifetime
        )

    def may_take_by_id(
        self, caller: SaeId, master: SaeId, number: int = 1, purpose: str | None = None
    ) -> Decision:
        """Whether ``caller`` may take keys of which ``master`` is master."""
        return self._sae.may_take_by_id(caller, master, number, purpose)

    def rule_against(self, notice: sender.NotEstablished) -> str:
        """The rule by which this KME made no batch, empty where it was not policy."""
        bounds = self._active.current.kme.bounds(notice.peer, Direction.TO_PEER)
        if notice.batch is not None:
            return ""
        if notice.code is codes.REALM_BELOW_FLOOR:
            return bounds.minimum_threshold.rule
        return bounds.minimum_effective_threshold.rule if notice.code is codes.HUBS_NOT_INDEPENDENT else ""

    def demands(self, peer_name: KmeName, asked: Requirements) -> Requirements:
        """The stricter of policy and request."""
        bounds = self._active.current.kme.bounds(peer_name, Direction.TO_PEER)
        claim = ClaimClass(int(bounds.minimum_claim.value))
        lifetime = int(bounds.lifetime_seconds_max.value)
        return Requirements(
            purpose=asked.purpose,
            lifetime=lifetime if asked.lifetime is None else min(lifetime, asked.lifetime),
            minimum_threshold=max(int(bounds.minimum_threshold.value), asked.minimum_threshold or 1),
            claim_class=claim if asked.claim_class is None else min(claim, asked.claim_class),
            minimum_effective_threshold=max(
                int(bounds.minimum_effective_threshold.value), asked.minimum_effective_threshold or 1
            ),
        )

    def threshold_floor(self, peer_name: KmeName) -> int:
        """The least threshold that policy accepts for keys made for a peer."""
        bounds = self._active.current.kme.bounds(peer_name, Direction.TO_PEER)
        return int(bounds.minimum_threshold.value)

    def may_establish(self, peer_name: KmeName) -> bool:
        """Whether keys may be made for a peer."""
        return bool(self._active.current.kme.may_exchange(peer_name, Direction.TO_PEER))

    def independence_floor(self, peer_name: KmeName) -> Floor:
        """How many independent parties policy demands behind the hubs of batches for a peer."""
        return self._active.current.kme.independence(peer_name, Direction.TO_PEER)

    def counted(self, role: Role, peer_name: KmeName) -> frozenset[Attribute]:
        """Which attributes of hubs count in claims: those that policy counts for batches of this kind."""
        direction = Direction.TO_PEER if role is Role.SENDER else Direction.FROM_PEER
        return self._active.current.kme.independence(peer_name, direction).counted

    def reserve_age(self, peer_name: KmeName) -> float:
        """How old, in seconds, a key in the reserve for a peer may be to be handed out."""
        bounds = self._active.current.kme.bounds(peer_name, Direction.TO_PEER)
        return float(bounds.reserve_age_seconds_max.value)

    def cryptoperiod(self, caller: SaeId, others: Sequence[SaeId], *, new: bool) -> Cryptoperiod:
        """How long a key may wait, and how ``caller`` may use it: the strictest of what holds for all."""
        sae, role = self._active.current.sae, SaeRole.MASTER if new else SaeRole.SLAVE
        bounds = [sae.bounds(caller, other, role) for other in others]
        return Cryptoperiod(
            lifetime=min(int(one.lifetime_seconds_max.value) for one in bounds),
            use_seconds=min(int(one.use_seconds_max.value) for one in bounds),
            uses=_stated(min(one.uses_max.value for one in bounds)),
        )


def _stated(uses: float) -> int | None:
    """A number of uses that means something."""
    return None if uses >= NUMBER_MAX else int(uses)
