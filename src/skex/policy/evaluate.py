"""Policies ready to be asked: every answer names the rule that gave it.

Asked are the rules that match; a deny among them wins, otherwise an allow is needed. Of several rules
that would decide alike, the one with the first id is named, and of several limits the strictest
counts, so no answer depends on an order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

from skex.base import codes, ids, limits
from skex.base.errors import Refused
from skex.base.ids import HubName, KmeName, SaeId, kme_of
from skex.policy import language, operators, schema
from skex.policy.decisions import DEFAULT, Bound, Decision, Place
from skex.policy.groups import Groups
from skex.policy.names import Names
from skex.policy.rules import (
    Direction,
    HubRule,
    KmeBench,
    KmeLimit,
    KmeRule,
    OperatorRule,
    PairQuota,
    Policy,
    Role,
    Rule,
    SaeLimit,
    SaeRule,
    TotalQuota,
)
from skex.protocol.hub import Stream
from skex.protocol.quota import Quota, Rate
from skex.wire.claim import ClaimClass
from skex.wire.context import CompactContext, Purpose
from skex.wire.independence import COUNTED, Attribute, Floor, collusion
from skex.wire.realm import HubAttributes

RuleT = TypeVar("RuleT", bound=Rule)


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept of one peer's batches in one direction."""

    batches: int
    key_bytes: int


# ── what all places share ───────────────────────────────────────────────────────────────────────
class _Opener:
    """Opens groups; equal lists of names are opened once."""

    def __init__(self, policy: Policy) -> None:
        self._groups = Groups({group.name: group.members for group in policy.groups})
        self._opened: dict[frozenset[str], Names] = {}

    def __call__(self, patterns: frozenset[str]) -> Names:
        names = self._opened.get(patterns)
        if names is None:
            names = self._opened[patterns] = Names.of(self._groups.opened(patterns))
        return names


@dataclass(frozen=True, slots=True)
class _Compiled(Generic[RuleT]):
    """The rules of one table in the order of their ids, and whether each matches what is asked."""

    rules: tuple[tuple[RuleT, Callable[..., bool]], ...]

    @classmethod
    def of(
        cls, policy: Policy, table: str, kind: type[RuleT], compiled: Callable[[RuleT], Callable[..., bool]]
    ) -> _Compiled[RuleT]:
        """The rules of ``table``, all of which are of ``kind``."""
        found = [rule for rule in policy.rules if rule.table == table and isinstance(rule, kind)]
        return cls(tuple((rule, compiled(rule)) for rule in sorted(found, key=lambda rule: rule.id)))

    def matching(self, *asked: object) -> Iterable[RuleT]:
        """The rules that apply to what is asked."""
        return (rule for rule, applies in self.rules if applies(*asked))


@dataclass(frozen=True, slots=True)
class _Verdicts(Generic[RuleT]):
    """The deny and allow rules of one place."""

    place: Place
    denies: _Compiled[RuleT]
    allows: _Compiled[RuleT]

    def decide(self, what: str, *asked: object) -> Decision:
        """Whether ``what`` is allowed: deny overrides allow, and nothing is allowed by itself."""
        denied = next(iter(self.denies.matching(*asked)), None)
        if denied is not None:
            return Decision(
                allowed=False,
                rule=denied.id,
                reason=f"{what}: denied by a rule",
                place=self.place,
                line=denied.line,
            )
        allowed = next(iter(self.allows.matching(*asked)), None)
        if allowed is not None:
            return Decision(
                allowed=True,
                rule=allowed.id,
                reason=f"{what}: allowed by a rule",
                place=self.place,
                line=allowed.line,
            )
        return Decision(allowed=False, rule=DEFAULT, reason=f"{what}: no rule allows it", place=self.place)


def _strictest(key: schema.Key, matching: Iterable[Rule], unstated: Any) -> Bound:
    """The strictest value that a rule states for ``key``; minima are strict when they are high."""
    # A class of claims with a lower number is stronger, so its minimum is strict when it is low.
    sign = -1 if key.name in HIGH_IS_STRICT else 1
    best: Bound | None = None
    for rule in matching:
        value = getattr(rule, key.attribute)
        if value is not None and (best is None or sign * value < sign * best.value):
            best = Bound(value, rule.id, rule.line)
    return Bound(unstated) if best is None else best


HIGH_IS_STRICT: Final = frozenset(
    {"minimum_threshold", "minimum_effective_threshold", "key_bytes_min", "seconds"}
)
"""Minima: of several the highest counts. Of everything else the lowest does."""


COUNTED_KEY: Final = "independence"
"""No number: what any rule counts, counts."""


def _bounds(table: str, matching: Iterable[Rule]) -> dict[str, Bound]:
    """Every limit of ``table`` for what is asked."""
    rules = tuple(matching)
    return {
        key.name: _strictest(key, rules, key.unstated)
        for key in schema.TABLES[table].keys
        if key.unstated is not None and key.name != COUNTED_KEY
    }


def _within(value: float, bound: Bound, what: str, place: Place, *, least: bool = False) -> Decision | None:
    """The refusal of ``value``, if it is beyond ``bound``."""
    if value >= bound.value if least else value <= bound.value:
        return None
    side = "less" if least else "more"
    reason = f"{what} of {value:g} is {side} than {bound.value:g}"
    return Decision(allowed=False, rule=bound.rule, reason=reason, place=place, line=bound.line)


def _refused_or(allowed: Decision, *refusals: Decision | None) -> Decision:
    """The first refusal, otherwise ``allowed``. Not ``or``: a refusal counts as false."""
    return next((refusal for refusal in refusals if refusal is not None), allowed)


# ── the hub ─────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class QuotaBounds:
    """The four numbers of one quota and the rules that set them."""

    bytes_per_second: Bound
    bytes_burst: Bound
    requests_per_second: Bound
    requests_burst: Bound

    @property
    def quota(self) -> Quota:
        """As the relay wants it."""
        return Quota(
            Rate(self.bytes_per_second.value, self.bytes_burst.value),
            Rate(self.requests_per_second.value, self.requests_burst.value),
        )


class HubPlace:
    """What the hub's operator decides."""

    def __init__(self, policy: Policy, opener: _Opener) -> None:
        def pairs(rule: HubRule) -> Callable[..., bool]:
            from_, to = opener(rule.from_), opener(rule.to)

            def applies(sender: str, receiver: str, purpose: Purpose) -> bool:
                return purpose in rule.purposes and (
                    (sender in from_ and receiver in to)
                    or (rule.both_ways and receiver in from_ and sender in to)
                )

            return applies

        def pair_quota(rule: PairQuota) -> Callable[..., bool]:
            from_, to = opener(rule.from_), opener(rule.to)
            return lambda sender, receiver, stream: (
                stream is rule.stream and sender in from_ and receiver in to
            )

        def total_quota(rule: TotalQuota) -> Callable[..., bool]:
            to = opener(rule.to)
            return lambda receiver, stream: stream is rule.stream and receiver in to

        self._verdicts = _Verdicts(
            Place.HUB,
            _Compiled.of(policy, "hub.deny", HubRule, pairs),
            _Compiled.of(policy, "hub.allow", HubRule, pairs),
        )
        self._pair_quotas = _Compiled.of(policy, "hub.pair_quota", PairQuota, pair_quota)
        self._total_quotas = _Compiled.of(policy, "hub.total_quota", TotalQuota, total_quota)
        self._floor = policy.control_floor_bytes

    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> Decision:
        """Whether ``sender`` may make batches for ``receiver``."""
        what = f"{sender} to {receiver}, {purpose.name.lower()}"
        return self._verdicts.decide(what, sender, receiver, purpose)

    def pair_quota(self, sender: KmeName, receiver: KmeName, stream: Stream) -> QuotaBounds:
        """How much ``sender`` may draw on ``receiver``'s pad."""
        return _quota(stream, schema.PAIR_QUOTAS, self._pair_quotas.matching(sender, receiver, stream))

    def total_quota(self, receiver: KmeName, stream: Stream) -> QuotaBounds:
        """How much all senders together may draw on ``receiver``'s pad."""
        return _quota(stream, schema.TOTAL_QUOTAS, self._total_quotas.matching(receiver, stream))

    def beyond(self, bounds: QuotaBounds, what: str) -> Decision:
        """The refusal of what is beyond a quota, by the rule that sets it.

        Where several rules set its four numbers, the one that sets the burst of bytes is named: that is
        the one that a large batch meets.
        """
        stated = [bounds.bytes_burst, bounds.requests_burst, bounds.bytes_per_second]
        by = next((bound for bound in stated if bound.rule != DEFAULT), bounds.requests_per_second)
        return Decision(
            allowed=False, rule=by.rule, reason=f"{what}: the quota is spent", place=Place.HUB, line=by.line
        )

    def floor(self, stream: Stream) -> int:
        """How many bytes of a receiver's pad a stream leaves over."""
        return self._floor if stream is Stream.SHARES else schema.PEER_FLOOR


def _quota(
    stream: Stream, unstated: Mapping[Stream, tuple[int, int, int, int]], matching: Iterable[Rule]
) -> QuotaBounds:
    rules = tuple(matching)
    keys = {key.name: key for key in schema.TABLES["hub.pair_quota"].keys}
    return QuotaBounds(
        *(
            _strictest(keys[name], rules, value)
            for name, value in zip(schema.QUOTAS, unstated[stream], strict=True)
        )
    )


# ── the KME ─────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class KmeBounds:
    """Every limit of one peer and direction. ``minimum_claim`` is the number of a ``ClaimClass``."""

    minimum_threshold: Bound
    minimum_effective_threshold: Bound
    minimum_claim: Bound
    key_bytes_min: Bound
    key_bytes_max: Bound
    batch_keys_max: Bound
    lifetime_seconds_max: Bound
    reserve_age_seconds_max: Bound
    stored_batches_max: Bound
    stored_bytes_max: Bound


@dataclass(frozen=True, slots=True)
class BenchBounds:
    """When a hub is benched, and for how long; ``missing_in_a_row`` None: never for that."""

    wrong_shares: Bound
    missing_in_a_row: Bound | None
    seconds: Bound


class KmePlace:
    """What this KME's operator decides about other KMEs. A direction asked for is never both."""

    def __init__(self, policy: Policy, opener: _Opener) -> None:
        def peers(rule: KmeRule | KmeLimit) -> Callable[..., bool]:
            names = opener(rule.peers)
            return lambda peer, direction: rule.direction.covers(direction) and peer in names

        def benches(rule: KmeBench) -> Callable[..., bool]:
            hubs, names = Names.of(rule.hubs), opener(rule.peers)
            return lambda hub, peer: hub in hubs and peer in names

        self._verdicts = _Verdicts(
            Place.KME,
            _Compiled.of(policy, "kme.deny", KmeRule, peers),
            _Compiled.of(policy, "kme.allow", KmeRule, peers),
        )
        self._limits = _Compiled.of(policy, "kme.limit", KmeLimit, peers)
        self._benches = _Compiled.of(policy, "kme.bench", KmeBench, benches)
        # Asked for every share that comes; a policy never changes, another takes its place.
        remembering = lru_cache(maxsize=limits.POLICY_DECISIONS)
        self._exchange = remembering(self._decide_exchange)
        self._bounds_of = remembering(self._find_bounds)

    def may_exchange(self, peer: KmeName, direction: Direction) -> Decision:
        """Whether keys may be established with ``peer`` at all."""
        return self._exchange(peer, direction)

    def _decide_exchange(self, peer: KmeName, direction: Direction) -> Decision:
        return self._verdicts.decide(f"{direction.value} {peer}", peer, direction)

    def bounds(self, peer: KmeName, direction: Direction) -> KmeBounds:
        """The limits for keys with ``peer``."""
        return self._bounds_of(peer, direction)

    def _find_bounds(self, peer: KmeName, direction: Direction) -> KmeBounds:
        return KmeBounds(**_bounds("kme.limit", self._limits.matching(peer, direction)))

    def independence(self, peer: KmeName, direction: Direction) -> Floor:
        """How many parties must be behind the hubs of a batch, counted by which attributes."""
        limits_ = tuple(self._limits.matching(peer, direction))
        counted = frozenset[Attribute]().union(*(one.independence or () for one in limits_))
        return Floor(int(self.bounds(peer, direction).minimum_effective_threshold.value), counted or COUNTED)

    def may_rest_on(
        self, peer: KmeName, direction: Direction, hubs: Iterable[HubAttributes], threshold: int
    ) -> Decision:
        """Whether a batch may use these hubs, of which ``threshold`` rebuild it."""
        allowed = self.may_exchange(peer, direction)
        floor, known = self.independence(peer, direction), tuple(hubs)
        if not allowed or floor.is_met(known, threshold):
            return allowed
        found = collusion(known, threshold, floor.counted)
        bound = self.bounds(peer, direction).minimum_effective_threshold
        parties = " and ".join(map(str, found.parties))
        has = "has" if len(found.parties) == 1 else "together have"
        reason = (
            f"{parties} {has} {threshold} of the hubs: an effective threshold of {found.count} is less than"
            f" {floor.parties}"
        )
        return Decision(allowed=False, rule=bound.rule, reason=reason, place=Place.KME, line=bound.line)

    def may_rebuild_from(self, peer: KmeName, direction: Direction, threshold: int) -> Decision:
        """Whether batches of which so many hubs have each key may be made at all."""
        allowed = self.may_exchange(peer, direction)
        if not allowed:
            return allowed
        bound = self.bounds(peer, direction).minimum_threshold
        return _refused_or(allowed, _within(threshold, bound, "a threshold", Place.KME, least=True))

    def bench(self, hub: HubName, peer: KmeName) -> BenchBounds | None:
        """When ``hub`` is benched for batches with ``peer``; None where no rule is for them."""
        matching = tuple(self._benches.matching(hub, peer))
        if not matching:
            return None
        keys = {key.name: key for key in schema.TABLES["kme.bench"].keys}
        missing = [rule for rule in matching if rule.missing_in_a_row is not None]
        return BenchBounds(
            _strictest(keys["wrong_shares"], matching, None),
            _strictest(keys["missing_in_a_row"], missing, None) if missing else None,
            _strictest(keys["seconds"], matching, keys["seconds"].unstated),
        )

    def may_make(self, peer: KmeName, direction: Direction, context: CompactContext) -> Decision:
        """Whether a batch may be what ``context`` says; storage and claim are asked for apart.

        Control batches hold no keys for SAEs: only their threshold counts.
        """
        allowed = self.may_rebuild_from(peer, direction, context.threshold)
        if not allowed:
            return allowed
        bounds, place = self.bounds(peer, direction), Place.KME
        refusals: list[Decision | None] = []
        if context.purpose is not Purpose.CONTROL:
            refusals += [
                _within(context.key_bytes, bounds.key_bytes_min, "a key size in bytes", place, least=True),
                _within(context.key_bytes, bounds.key_bytes_max, "a key size in bytes", place),
                _within(context.keys, bounds.batch_keys_max, "a number of keys in a batch", place),
                _within(context.lifetime, bounds.lifetime_seconds_max, "a lifetime in seconds", place),
            ]
        return _refused_or(allowed, *refusals)

    def may_keep(self, peer: KmeName, direction: Direction, held: Held, context: CompactContext) -> Decision:
        """Whether another batch may be kept beside ``held``; a control batch always may."""
        allowed = self.may_exchange(peer, direction)
        if not allowed or context.purpose is Purpose.CONTROL:
            return allowed
        bounds, place = self.bounds(peer, direction), Place.KME
        key_bytes = held.key_bytes + context.keys * context.key_bytes
        refusals = (
            _within(held.batches + 1, bounds.stored_batches_max, "a number of stored batches", place),
            _within(key_bytes, bounds.stored_bytes_max, "stored key bytes", place),
        )
        return _refused_or(allowed, *refusals)

    def accepts_claim(self, peer: KmeName, direction: Direction, claim: ClaimClass) -> Decision:
        """Whether a key whose claim, of both ends together, is of this class may be used."""
        allowed = self.may_exchange(peer, direction)
        if not allowed:
            return allowed
        bound = self.bounds(peer, direction).minimum_claim
        if claim <= bound.value:
            return allowed
        wanted = ClaimClass(int(bound.value))
        reason = f"the claim is {claim_word(claim)}; at least {claim_word(wanted)} is demanded"
        return Decision(allowed=False, rule=bound.rule, reason=reason, place=Place.KME, line=bound.line)


def claim_word(claim: ClaimClass) -> str:
    """A class of claims as policies and people write it."""
    return claim.name.lower().replace("_", "-")


# ── SAEs ────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class SaeBounds:
    """Every limit of one local SAE, remote SAE and role."""

    key_bytes_min: Bound
    key_bytes_max: Bound
    keys_per_request_max: Bound
    slaves_max: Bound
    lifetime_seconds_max: Bound
    use_seconds_max: Bound
    uses_max: Bound


class SaePlace:
    """Which SAEs may share keys. Where their KMEs may not, SAEs may not either, whatever is allowed."""

    def __init__(self, policy: Policy, opener: _Opener, kme: KmePlace) -> None:
        def saes(rule: SaeRule) -> Callable[..., bool]:
            local, remote, labels = opener(rule.local), opener(rule.remote), Names.of(rule.purposes)

            def applies(here: str, there: str, role: Role, purpose: str | None) -> bool:
                # Without a purpose the question is whether any would be allowed: then a deny of some
                # purposes only does not count, and an allow of some does.
                named = purpose in labels if purpose is not None else is_allow(rule) or "*" in labels.globs
                return named and rule.role.covers(role) and here in local and there in remote

            return applies

        def is_allow(rule: SaeRule) -> bool:
            return rule.table == "sae.allow"

        def amounts(rule: SaeLimit) -> Callable[..., bool]:
            local, remote = opener(rule.local), opener(rule.remote)
            return lambda here, there, role: rule.role.covers(role) and here in local and there in remote

        self._kme = kme
        self._verdicts = _Verdicts(
            Place.SAE,
            _Compiled.of(policy, "sae.deny", SaeRule, saes),
            _Compiled.of(policy, "sae.allow", SaeRule, saes),
        )
        self._limits = _Compiled.of(policy, "sae.limit", SaeLimit, amounts)
        self._aliases = {alias.name: alias.sae for alias in policy.aliases}

    def resolve(self, name: str) -> SaeId:
        """The qualified id of a name as an application writes it. Raises ``Refused`` (name-invalid)."""
        known = self._aliases.get(name)
        if known is not None:
            return known
        if "@" not in name:
            raise Refused(codes.NAME_INVALID, "a bare name without an alias")
        return ids.parse_sae_id(name)

    def may_share(self, local: SaeId, remote: SaeId, role: Role, purpose: str | None) -> Decision:
        """Whether the SAEs may share keys for a purpose; without one, for any at all."""
        direction = Direction.TO_PEER if role is Role.MASTER else Direction.FROM_PEER
        peer = self._kme.may_exchange(kme_of(remote), direction)
        if not peer:
            return peer
        label = "" if purpose is None else f", purpose {purpose}"
        what = f"{local} as {role.value} with {remote}{label}"
        return self._verdicts.decide(what, local, remote, role, purpose)

    def bounds(self, local: SaeId, remote: SaeId, role: Role) -> SaeBounds:
        """The limits of the two SAEs."""
        return SaeBounds(**_bounds("sae.limit", self._limits.matching(local, remote, role)))

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
        """Whether ``caller`` may have new keys with ``slave``, which is one of ``slaves``.

        ``lifetime`` is what the caller asks for in seconds, None for what the KME gives.
        """
        allowed = self.may_share(caller, slave, Role.MASTER, purpose)
        if not allowed:
            return allowed
        bounds, place = self.bounds(caller, slave, Role.MASTER), Place.SAE
        refusals = (
            _within(number, bounds.keys_per_request_max, "a number of keys", place),
            _within(key_bytes, bounds.key_bytes_min, "a key size in bytes", place, least=True),
            _within(key_bytes, bounds.key_bytes_max, "a key size in bytes", place),
            _within(slaves, bounds.slaves_max, "a number of slaves", place),
            _within(lifetime or 0, bounds.lifetime_seconds_max, "a lifetime in seconds", place),
        )
        return _refused_or(allowed, *refusals)

    def may_take_by_id(
        self, caller: SaeId, master: SaeId, number: int = 1, purpose: str | None = None
    ) -> Decision:
        """Whether ``caller`` may take keys that ``master`` got; the assignment knows the purpose."""
        allowed = self.may_share(caller, master, Role.SLAVE, purpose)
        if not allowed:
            return allowed
        most = self.bounds(caller, master, Role.SLAVE).keys_per_request_max
        return _refused_or(allowed, _within(number, most, "a number of keys", Place.SAE))

    def may_assign(self, master: SaeId, slaves: tuple[SaeId, ...], purpose: str, lifetime: int) -> Decision:
        """Whether a peer's ``master`` may have its keys assigned to every one of ``slaves`` here."""
        decision = Decision(allowed=False, rule=DEFAULT, reason="no slave is named", place=Place.SAE)
        for slave in slaves:
            decision = self.may_share(slave, master, Role.SLAVE, purpose)
            if decision:
                longest = self.bounds(slave, master, Role.SLAVE).lifetime_seconds_max
                decision = _refused_or(
                    decision, _within(lifetime, longest, "a lifetime in seconds", Place.SAE)
                )
            if not decision:
                return decision
        return decision


# ── all of it ───────────────────────────────────────────────────────────────────────────────────
class PolicySet:
    """One policy, ready to be asked. ``digest`` is its version in audit records, 128 hex digits."""

    def __init__(self, policy: Policy) -> None:
        opener = _Opener(policy)
        self.policy = policy
        self.digest = language.digest(policy)
        self.hub = HubPlace(policy, opener)
        self.kme = KmePlace(policy, opener)
        self.sae = SaePlace(policy, opener, self.kme)
        matches = operators.matcher(policy)
        verdicts = _Verdicts(
            Place.OPERATOR,
            _Compiled.of(policy, "operator.deny", OperatorRule, matches),
            _Compiled.of(policy, "operator.allow", OperatorRule, matches),
        )
        self.operator = operators.OperatorPlace(policy, verdicts)


def load(data: bytes, file: str) -> PolicySet:
    """The policy in a file's bytes; ``file`` is its name for messages.

    Raises ``Refused``: policy-syntax, policy-invalid. Whoever has a policy in force keeps it then.
    """
    return PolicySet(language.parse(data, file))
