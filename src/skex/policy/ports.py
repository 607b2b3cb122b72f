"""The policy in force, in the shapes in which the protocol's machines and the key service ask.

All of them look at one ``ActivePolicy``, so that another policy takes force everywhere at once or not
at all. A machine learns yes or no; the reason for the operator is asked of ``ActivePolicy.current``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar, cast

from skex.base import limits
from skex.base.ids import KmeName, SaeId
from skex.policy.decisions import Decision
from skex.policy.evaluate import Held, PolicySet, SaeBounds
from skex.policy.rules import Direction, Role
from skex.protocol.establishment import OwnClaims
from skex.protocol.hub import Stream
from skex.protocol.quota import Quota
from skex.wire.context import CompactContext, Purpose
from skex.wire.independence import Floor

AnswerT = TypeVar("AnswerT")


class ActivePolicy:
    """Holds the policy in force. Answers that machines ask for often are remembered until it changes."""

    def __init__(self, policy: PolicySet) -> None:
        self._current = policy
        self._known: dict[Hashable, object] = {}

    @property
    def current(self) -> PolicySet:
        """The policy in force."""
        return self._current

    def replace(self, policy: PolicySet) -> None:
        """Put another policy in force, whole."""
        self._current = policy
        self._known = {}

    def remembered(self, question: Hashable, answer: Callable[[PolicySet], AnswerT]) -> AnswerT:
        """``answer`` of the policy in force; equal questions must have equal answers."""
        if question not in self._known:
            if len(self._known) >= limits.POLICY_DECISIONS:
                self._known.clear()
            self._known[question] = answer(self._current)
        return cast("AnswerT", self._known[question])


class HubRelayPolicy:
    """``RelayPolicy`` of ``protocol.hub``."""

    def __init__(self, active: ActivePolicy) -> None:
        self._active = active

    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> bool:
        """Whether ``sender`` may make batches for ``receiver``."""
        return self._active.remembered(
            (sender, receiver, purpose),
            lambda policy: policy.hub.may_establish(sender, receiver, purpose).allowed,
        )

    def pair_quota(self, sender: KmeName, receiver: KmeName, stream: Stream) -> Quota:
        """How much ``sender`` may draw on ``receiver``'s pad."""
        return self._active.remembered(
            (sender, receiver, stream), lambda policy: policy.hub.pair_quota(sender, receiver, stream).quota
        )

    def total_quota(self, receiver: KmeName, stream: Stream) -> Quota:
        """How much all senders together may draw on ``receiver``'s pad."""
        return self._active.remembered(
            (receiver, stream), lambda policy: policy.hub.total_quota(receiver, stream).quota
        )

    def floor(self, stream: Stream) -> int:
        """How many bytes of a receiver's pad a stream leaves over; the relay's ``floor``."""
        return self._active.current.hub.floor(stream)


class Holdings(Protocol):
    """What is kept of other KMEs' batches; whoever keeps them knows."""

    def held(self, peer: KmeName) -> Held:
        """What is kept of ``peer``'s batches that are not over."""
        ...


class KmeAdmission:
    """``Admission`` of ``protocol.receiver``: batches that peers make for this KME.

    ``has_room`` also refuses a batch whose keys are not what this end's limits demand, or whose claim,
    with this end's own, is too weak: nothing of it could ever be used.
    """

    def __init__(self, active: ActivePolicy, holdings: Holdings, claims: OwnClaims) -> None:
        self._active = active
        self._holdings = holdings
        self._claims = claims

    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> bool:  # noqa: ARG002  # of the port
        """Whether ``sender`` may make batches for this KME; all purposes are alike here."""
        return self._active.remembered(
            (sender, Direction.FROM_PEER),
            lambda policy: policy.kme.may_exchange(sender, Direction.FROM_PEER).allowed,
        )

    def threshold_floor(self, sender: KmeName) -> int:
        """The least threshold that this end accepts of ``sender``."""
        return int(self._active.current.kme.bounds(sender, Direction.FROM_PEER).minimum_threshold.value)

    def independence_floor(self, sender: KmeName) -> Floor:
        """How many independent parties this end demands behind the hubs of ``sender``'s batches."""
        return self._active.remembered(
            (sender, "independence"), lambda policy: policy.kme.independence(sender, Direction.FROM_PEER)
        )

    def has_room(self, sender: KmeName, context: CompactContext) -> bool:
        """Whether another such batch of ``sender`` may be kept."""
        return self.admits(sender, context).allowed

    def admits(self, sender: KmeName, context: CompactContext) -> Decision:
        """The same with its reason."""
        kme, direction = self._active.current.kme, Direction.FROM_PEER
        decision = kme.may_make(sender, direction, context)
        if decision:
            decision = kme.may_keep(sender, direction, self._holdings.held(sender), context)
        if decision and context.purpose is not Purpose.CONTROL:
            claim = context.claim.joined(self._claims.own_claim(context.hubs))
            decision = kme.accepts_claim(sender, direction, claim.claim_class(context.threshold))
        return decision


class KmeAssignPolicy:
    """``AssignPolicy`` of ``protocol.assignee``: for whom peers may assign keys here."""

    def __init__(self, active: ActivePolicy) -> None:
        self._active = active

    def may_assign(
        self,
        sender: KmeName,  # noqa: ARG002  # of the port, which has checked that the master is of it
        master: SaeId,
        slaves: tuple[SaeId, ...],
        purpose: str,
        lifetime: int,
    ) -> bool:
        """Whether ``master`` of ``sender`` may share keys with every one of ``slaves`` here."""
        return self._active.current.sae.may_assign(master, slaves, purpose, lifetime).allowed


class SaePolicy:
    """What the key service asks before it answers an SAE of this KME."""

    def __init__(self, active: ActivePolicy) -> None:
        self._active = active

    def resolve(self, name: str) -> SaeId:
        """The qualified id of a name as an application writes it. Raises ``Refused`` (name-invalid)."""
        return self._active.current.sae.resolve(name)

    def may_ask(self, caller: SaeId, slave: SaeId) -> Decision:
        """Whether ``caller`` may have keys with ``slave`` for any purpose: what a status reveals."""
        return self._active.current.sae.may_share(caller, slave, Role.MASTER, None)

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
        """Whether ``caller`` may have new keys with ``slave``, which is one of ``slaves``."""
        return self._active.current.sae.may_take_new(
            caller, slave, number, key_bytes, purpose, slaves=slaves, lifetime=lifetime
        )

    def may_take_by_id(
        self, caller: SaeId, master: SaeId, number: int = 1, purpose: str | None = None
    ) -> Decision:
        """Whether ``caller`` may take keys that ``master`` got, for the purpose they were assigned for."""
        return self._active.current.sae.may_take_by_id(caller, master, number, purpose)

    def bounds(self, caller: SaeId, slave: SaeId) -> SaeBounds:
        """The limits for new keys of ``caller`` with ``slave``."""
        return self._active.current.sae.bounds(caller, slave, Role.MASTER)
