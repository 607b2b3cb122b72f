"""What another policy allows that one did not, and the other way round: by meaning, not by text.

Names that every pattern of both policies treats alike are one: a literal name, or a pattern that stands
for all the names that only it matches, or only it and another. So the answer is about every name there
can be, but for those that three patterns share, and the effort depends on the policies alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import product
from typing import Any, Final, TypeAlias, TypeVar

from skex.base import limits
from skex.base.ids import HubName, KmeName
from skex.policy import schema
from skex.policy.covering import Reaches
from skex.policy.decisions import DEFAULT, Bound, Decision
from skex.policy.evaluate import COUNTED_KEY, PolicySet
from skex.policy.names import ANY, GROUP, matches
from skex.policy.operators import Operator
from skex.policy.rules import Direction, KmeBench, OperatorCommand, OperatorRule, Role, SaeRule
from skex.policy.wording import quoted
from skex.protocol.hub import Stream
from skex.wire.context import Purpose
from skex.wire.independence import Attribute

ValueT = TypeVar("ValueT")
_Who: TypeAlias = tuple[str, str]
"""Who, and towards whom."""


class Change(Enum):
    """What became of it."""

    ALLOWED = "newly-allowed"
    FORBIDDEN = "no-longer-allowed"
    LIMIT = "limit-changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One change: at which place, for whom, towards whom, of what.

    ``rule`` decides now, ``line`` is in the new file.
    """

    change: Change
    place: str
    who: str
    towards: str
    what: str
    before: str
    after: str
    rule: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """All that differs. ``complete`` is false where there were too many names to ask about each pair."""

    differences: tuple[Difference, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class _Class:
    """Names that both policies treat alike."""

    representative: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.names[:_SHOWN])
        return shown if len(self.names) <= _SHOWN else f"{shown} and {len(self.names) - _SHOWN} more"


_SHOWN: Final = 4


def compare(old: PolicySet, new: PolicySet, known: Iterable[str] = (), own: str | None = None) -> Compared:
    """What differs; ``known`` are KMEs by whose names it is said, ``own`` the KME whose policies they are."""
    return _Comparison(old, new, frozenset(known), own).all()


class _Comparison:
    def __init__(self, old: PolicySet, new: PolicySet, known: frozenset[str], own: str | None) -> None:
        self._old, self._new = old, new
        kmes: set[str] = set()
        saes: set[str] = set()
        labels: set[str] = set()
        for policy in (old, new):
            opened = Reaches(policy.policy).groups.opened
            for rule in policy.policy.rules:
                for key in schema.TABLES[rule.table].keys:
                    if key.kind is schema.KME_NAMES:
                        kmes |= opened(getattr(rule, key.attribute))
                    elif key.kind is schema.SAE_NAMES:
                        saes |= {_sae(one) for one in opened(getattr(rule, key.attribute))}
                if isinstance(rule, SaeRule):
                    labels |= rule.purposes
        self._kmes = _classes(kmes, known)
        # What a KME's rules say of another counts for its SAEs, too.
        self._saes = _classes(saes | {_sae(f"*{GROUP}{one}") for one in kmes}, rest="*@*")
        self._local = [one for one in self._saes if own is None or _is_of(one.representative, own)]
        self._labels = _classes(labels, {"any"})
        self.complete = True

    def all(self) -> Compared:
        """Everything, place by place."""
        found = [
            *self._hubs(),
            *self._quotas(),
            *self._peers(),
            *self._benches(),
            *self._pairs(),
            *self._operators(),
        ]
        return Compared(_merged(found), self.complete)

    def _each(self, *sides: Sequence[ValueT]) -> Iterator[tuple[ValueT, ...]]:
        """Every combination, up to what is looked at."""
        for number, one in enumerate(product(*sides)):
            if number >= limits.POLICY_COMPARISONS // 10:
                self.complete = False
                return
            yield one

    # ── the places ──────────────────────────────────────────────────────────────────────────────
    def _hubs(self) -> Iterator[Difference]:
        for here, there in self._each(self._kmes, self._kmes):
            if here is there and len(here.names) == 1 and ANY not in here.representative:
                continue
            for purpose in Purpose:

                def may(policy: PolicySet, a: Any = here, b: Any = there, of: Purpose = purpose) -> Decision:
                    return policy.hub.may_establish(a.representative, b.representative, of)

                yield from self._decisions("hub", (str(here), f"to {there}"), purpose.name.lower(), may)

    def _quotas(self) -> Iterator[Difference]:
        for stream in Stream:
            for (there,) in self._each(self._kmes):

                def total(policy: PolicySet, to: Any = there, of: Stream = stream) -> Any:
                    return policy.hub.total_quota(to.representative, of)

                yield from self._bounds(
                    "hub", (str(there), "as receiver"), f"{stream.value}, ", total, schema.QUOTAS
                )
            for here, there in self._each(self._kmes, self._kmes):

                def pair(policy: PolicySet, a: Any = here, b: Any = there, of: Stream = stream) -> Any:
                    return policy.hub.pair_quota(a.representative, b.representative, of)

                yield from self._bounds(
                    "hub", (str(here), f"to {there}"), f"{stream.value}, ", pair, schema.QUOTAS
                )
        floor = schema.CONTROL_FLOOR.name
        before, after = (str(policy.policy.control_floor_bytes) for policy in (self._old, self._new))
        if before != after:
            yield Difference(Change.LIMIT, "hub", "every receiver", "", floor, before, after, f"hub.{floor}")

    def _peers(self) -> Iterator[Difference]:
        names = _limits("kme.limit")
        for (peer,) in self._each(self._kmes):
            for way in (Direction.TO_PEER, Direction.FROM_PEER):

                def may(policy: PolicySet, a: Any = peer, of: Direction = way) -> Decision:
                    return policy.kme.may_exchange(a.representative, of)

                def bounds(policy: PolicySet, a: Any = peer, of: Direction = way) -> Any:
                    return policy.kme.bounds(a.representative, of)

                def counted(policy: PolicySet, a: Any = peer, of: Direction = way) -> frozenset[Attribute]:
                    return policy.kme.independence(a.representative, of).counted

                who = (str(peer), way.value)
                yield from self._decisions("kme", who, "keys", may)
                yield from self._bounds("kme", who, "", bounds, names)
                before, after = (_attributes(counted(one)) for one in (self._old, self._new))
                if before != after:
                    yield Difference(Change.LIMIT, "kme", *who, COUNTED_KEY, before, after, "kme.limit")

    def _benches(self) -> Iterator[Difference]:
        """When hubs are put on the bench, which is never where no rule says so."""
        rules = [rule for policy in (self._old, self._new) for rule in policy.policy.rules]
        hubs = _classes({name for rule in rules if isinstance(rule, KmeBench) for name in rule.hubs})
        for hub, peer in product(hubs, self._kmes):
            before, after = (
                policy.kme.bench(HubName(hub.representative), KmeName(peer.representative))
                for policy in (self._old, self._new)
            )
            for name in ("wrong_shares", "missing_in_a_row", "seconds"):
                one, other = (None if found is None else getattr(found, name) for found in (before, after))
                values = _bench(one), _bench(other)
                if values[0] != values[1]:
                    yield _limit("kme", (str(hub), f"with {peer}"), f"bench, {name}", values, other)

    def _pairs(self) -> Iterator[Difference]:
        names = _limits("sae.limit")
        for here, there in self._each(self._local, self._saes):
            for role in (Role.MASTER, Role.SLAVE):
                who = (str(here), f"as {role.value} with {there}")
                for purpose in self._labels:
                    one = purpose.representative

                    def may(
                        policy: PolicySet, a: Any = here, b: Any = there, of: Role = role, label: str = one
                    ) -> Decision:
                        return policy.sae.may_share(a.representative, b.representative, of, label)

                    yield from self._decisions("sae", who, f"purpose {purpose}", may)

                def bounds(policy: PolicySet, a: Any = here, b: Any = there, of: Role = role) -> Any:
                    return policy.sae.bounds(a.representative, b.representative, of)

                yield from self._bounds("sae", who, "", bounds, names)

    def _operators(self) -> Iterator[Difference]:
        rules = [
            rule
            for policy in (self._old, self._new)
            for rule in policy.policy.rules
            if isinstance(rule, OperatorRule)
        ]
        people: list[tuple[str, Operator]] = []
        users = _classes({name for rule in rules for name in rule.users})
        groups = _classes({name for rule in rules for name in rule.unix_groups})
        people += [(f"user {one}", Operator(frozenset({one.representative}), frozenset())) for one in users]
        people += [
            (f"group {one}", Operator(frozenset({_NOBODY}), frozenset({one.representative})))
            for one in groups
        ]
        for (who, operator), command in product(people, OperatorCommand):

            def may(policy: PolicySet, a: Operator = operator, of: OperatorCommand = command) -> Decision:
                return policy.operator.may(a, of)

            yield from self._decisions("operator", (who, ""), command.value, may)
        for command in OperatorCommand:
            before, after = (policy.operator.dual(command) for policy in (self._old, self._new))
            if _dual(before) != _dual(after):
                texts = _dual(before), _dual(after)
                yield _limit("operator", ("everybody", ""), command.value, texts, after)

    # ── comparing answers ───────────────────────────────────────────────────────────────────────
    def _decisions(
        self, place: str, who: _Who, what: str, asked: Callable[[PolicySet], Decision]
    ) -> Iterator[Difference]:
        before, after = asked(self._old), asked(self._new)
        if before.allowed != after.allowed:
            change = Change.ALLOWED if after.allowed else Change.FORBIDDEN
            words = ("refused", "allowed")
            yield Difference(
                change,
                place,
                *who,
                what,
                words[before.allowed],
                words[after.allowed],
                after.rule,
                after.line,
            )

    def _bounds(
        self, place: str, who: _Who, prefix: str, asked: Callable[[PolicySet], Any], names: Iterable[str]
    ) -> Iterator[Difference]:
        before, after = asked(self._old), asked(self._new)
        for name in names:
            one, other = getattr(before, name), getattr(after, name)
            if one.value != other.value:
                values = _value(name, one), _value(name, other)
                yield _limit(place, who, f"{prefix}{name}", values, other)


def _sae(pattern: str) -> str:
    """A pattern of SAEs in which the KME can be told apart."""
    return "*@*" if pattern == ANY else pattern


def _is_of(sae: str, kme: str) -> bool:
    """Whether SAEs of this form can be of a KME."""
    return matches(sae.rpartition(GROUP)[2], kme)


_NOBODY: Final = "uid-"
"""A user of no name: what only a group may."""


def _classes(patterns: Iterable[str], known: Iterable[str] = (), rest: str = ANY) -> tuple[_Class, ...]:
    """Every name there can be, those together that the same of ``patterns`` match.

    A pattern stands for the names that it alone matches; two patterns also for those of both; ``rest``
    for those that none matches.
    """
    written = sorted(set(patterns))
    globs = [one for one in written if ANY in one]
    shared = (_shared(one, other) for one in globs for other in globs if one != other)
    found: dict[frozenset[str], list[str]] = {}
    for name in sorted({rest, *written, *known}, key=lambda name: (ANY in name, name)):
        found.setdefault(frozenset(one for one in written if matches(one, name)), []).append(name)
    for name in shared:
        signature = frozenset(one for one in written if name and matches(one, name))
        if name and signature not in found:
            found[signature] = [name]
    return tuple(_Class(alike[0], tuple(alike)) for alike in found.values())


def _merged(found: Iterable[Difference]) -> tuple[Difference, ...]:
    """Those who differ alike in one line."""
    alike: dict[Difference, list[str]] = {}
    for one in found:
        alike.setdefault(replace(one, who=""), []).append(one.who)
    return tuple(replace(one, who="; ".join(who)) for one, who in alike.items())


def _shared(one: str, other: str) -> str:
    """A pattern of names that two patterns share, or nothing."""
    here, separator, kme = one.partition(GROUP)
    there, _, other_kme = other.partition(GROUP)
    both = _shared_part(here, there)
    if not separator or not both:
        return both
    kmes = _shared_part(kme, other_kme)
    return f"{both}{GROUP}{kmes}" if kmes else ""


def _shared_part(one: str, other: str) -> str:
    if matches(one, other):
        return other
    if matches(other, one) or ANY not in one:
        return one if matches(other, one) else ""
    at = one.rindex(ANY)
    both = one[:at] + other + one[at + 1 :]
    return both if matches(one, both) and matches(other, both) else ""


def _limit(place: str, who: _Who, what: str, values: tuple[str, str], by: Bound | None) -> Difference:
    rule, line = (DEFAULT, None) if by is None else (by.rule, by.line)
    return Difference(Change.LIMIT, place, *who, what, *values, rule, line)


def _limits(table: str) -> list[str]:
    return [
        key.name for key in schema.TABLES[table].keys if key.unstated is not None and key.name != COUNTED_KEY
    ]


def _value(name: str, bound: Bound) -> str:
    if name == "minimum_claim":
        return next(word for word, claim in schema.CLAIMS.items() if claim == bound.value)
    return f"{bound.value:g}"


def _attributes(counted: frozenset[Attribute]) -> str:
    return ", ".join(quoted(one.value) for one in Attribute if one in counted)


def _bench(bound: Bound | None) -> str:
    return "never" if bound is None else f"{bound.value:g}"


def _dual(bound: Bound | None) -> str:
    return "one person" if bound is None else f"two persons within {bound.value:g} s"
