"""The policy in force, in the shapes in which the protocol's machines and the key service ask.

All of them look at one ``ActivePolicy``, so that another policy takes force everywhere at once or not
at all. A machine learns yes or no; the reason for the operator is asked of ``ActivePolicy.current``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol, TypeAlias, TypeVar, cast

from skex.base import limits
from skex.base.ids import HubName, KmeName, SaeId
from skex.policy.decisions import DEFAULT, Decision
from skex.policy.evaluate import Held, PolicySet, SaeBounds
from skex.policy.rules import Direction, Role
from skex.protocol.bench import BenchRule
from skex.protocol.establishment import OwnClaims
from skex.protocol.hub import Reason, RefusedRequest, Request, Stream
from skex.protocol.quota import Quota
from skex.wire.context import CompactContext, Purpose
from skex.wire.realm import HubAttributes

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

    def why(self, refused: RefusedRequest) -> Decision | None:
        """What the policy in force decided of a request that the relay just refused; None if not it."""
        sender, receiver = refused.sender, refused.receiver
        if receiver is None:
            return None
        hub, purpose = self._active.current.hub, refused.purpose or Purpose.CONTROL
        if refused.reason is Reason.FORBIDDEN:
            if refused.request is Request.CONFIRM:  # of a batch that went the other way
                return hub.may_establish(receiver, sender, purpose)
            return hub.may_establish(sender, receiver, purpose)
        stream = Stream.SHARES if refused.request is Request.SHARE else Stream.PEER_MESSAGES
        if refused.reason is Reason.PAIR_QUOTA:
            return hub.beyond(hub.pair_quota(sender, receiver, stream), f"{sender} to {receiver}")
        if refused.reason is Reason.TOTAL_QUOTA:
            return hub.beyond(hub.total_quota(receiver, stream), f"all to {receiver}")
        return None


class Holdings(Protocol):
    """What is kept of other KMEs' batches; whoever keeps them knows."""

    def held(self, peer: KmeName) -> Held:
        """What is kept of ``peer``'s batches that are not over."""
        ...


Told: TypeAlias = Callable[[KmeName, Decision], None]
"""Hears, for the operator, of each refusal that a peer gets: who asked, and what decided."""


def nobody(_peer: KmeName, _decision: Decision) -> None:
    """Nobody listens."""


class KmeAdmission:
    """``Admission`` of ``protocol.receiver``: batches that peers make for this KME.

    ``has_room`` also refuses a batch whose keys are not what this end's limits demand, or whose claim,
    with this end's own, is too weak: nothing of it could ever be used. The peer learns that it was
    refused, ``told`` which rule did it.
    """

    def __init__(
        self, active: ActivePolicy, holdings: Holdings, claims: OwnClaims, told: Told = nobody
    ) -> None:
        self._active = active
        self._holdings = holdings
        self._claims = claims
        self._told = told

    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> bool:  # noqa: ARG002  # of the port
        """Whether ``sender`` may make batches for this KME; all purposes are alike here."""
        return self._decided(
            sender,
            self._active.remembered(
                (sender, Direction.FROM_PEER),
                lambda policy: policy.kme.may_exchange(sender, Direction.FROM_PEER),
            ),
        )

    def accepts_threshold(self, sender: KmeName, threshold: int) -> bool:
        """Whether the realm's threshold is one that this end accepts of ``sender``."""
        return self._decided(
            sender,
            self._active.remembered(
                (sender, threshold),
                lambda policy: policy.kme.may_rebuild_from(sender, Direction.FROM_PEER, threshold),
            ),
        )

    def accepts_hubs(self, sender: KmeName, hubs: Sequence[HubAttributes], threshold: int) -> bool:
        """Whether enough independent parties are behind the hubs of one of ``sender``'s batches."""
        known = tuple(hubs)
        return self._decided(
            sender,
            self._active.remembered(
                (sender, known, threshold),
                lambda policy: policy.kme.may_rest_on(sender, Direction.FROM_PEER, known, threshold),
            ),
        )

    def has_room(self, sender: KmeName, context: CompactContext) -> bool:
        """Whether another such batch of ``sender`` may be kept."""
        return self._decided(sender, self.admits(sender, context))

    def _decided(self, sender: KmeName, decision: Decision) -> bool:
        if not decision:
            self._told(sender, decision)
        return decision.allowed

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


class KmeBenchRules:
    """``BenchRules`` of ``protocol.bench``: when hubs are put on the bench by themselves."""

    def __init__(self, active: ActivePolicy) -> None:
        self._active = active

    def bench_rule(self, hub: HubName, peer: KmeName) -> BenchRule | None:
        """What holds for a hub and a peer, if any rule does."""
        return self._active.remembered(
            (hub, peer, KmeBenchRules), lambda policy: _bench_rule(policy, hub, peer)
        )


def _bench_rule(policy: PolicySet, hub: HubName, peer: KmeName) -> BenchRule | None:
    bounds = policy.kme.bench(hub, peer)
    if bounds is None:
        return None
    missing = bounds.missing_in_a_row
    return BenchRule(
        wrong_shares=int(bounds.wrong_shares.value),
        missing_in_a_row=None if missing is None else int(missing.value),
        seconds=int(bounds.seconds.value),
        wrong_rule=bounds.wrong_shares.rule,
        missing_rule=DEFAULT if missing is None else missing.rule,
    )


class KmeAssignPolicy:
    """``AssignPolicy`` of ``protocol.assignee``: for whom peers may assign keys here."""

    def __init__(self, active: ActivePolicy, told: Told = nobody) -> None:
        self._active = active
        self._told = told

    def may_assign(
        self,
        sender: KmeName,
        master: SaeId,
        slaves: tuple[SaeId, ...],
        purpose: str,
        lifetime: int,
    ) -> bool:
        """Whether ``master`` of ``sender`` may share keys with every one of ``slaves`` here."""
        decision = self._active.current.sae.may_assign(master, slaves, purpose, lifetime)
        if not decision:
            self._told(sender, decision)
        return decision.allowed


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
