"""Which rules match everything that another one matches: what reviewing a policy needs.

A rule is a few boxes: for each thing that it is asked about, a set of names and patterns. A pattern is
within another if the other matches it with its ``*`` taken as a letter that stands nowhere else; so
nothing is ever said to be covered that is not. That several rules cover one together is not looked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from skex.policy import schema
from skex.policy.evaluate import COUNTED_KEY, HIGH_IS_STRICT
from skex.policy.groups import Groups
from skex.policy.names import Names
from skex.policy.operators import roles_of
from skex.policy.rules import (
    Direction,
    HubRule,
    KmeBench,
    KmeLimit,
    KmeRule,
    OperatorDual,
    OperatorRule,
    PairQuota,
    Policy,
    Role,
    Rule,
    SaeLimit,
    SaeRule,
    TotalQuota,
)

_Side: TypeAlias = tuple[Names, frozenset[str]]
"""Ready to be asked, and as it was written."""
_Box: TypeAlias = tuple[_Side, ...]
_WAYS: Final = {
    Direction.TO_PEER: frozenset({"to-peer"}),
    Direction.FROM_PEER: frozenset({"from-peer"}),
    Direction.BOTH: frozenset({"to-peer", "from-peer"}),
}
_ROLES: Final = {
    Role.MASTER: frozenset({"master"}),
    Role.SLAVE: frozenset({"slave"}),
    Role.BOTH: frozenset({"master", "slave"}),
}


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """What a rule matches."""

    rule: Rule
    boxes: tuple[_Box, ...]

    @property
    def is_empty(self) -> bool:
        """Whether it matches nothing: all its groups are empty."""
        return all(any(not written for _, written in box) for box in self.boxes)

    def covers(self, other: Reach) -> bool:
        """Whether it matches everything that the other one does."""
        return all(any(_is_within(inner, outer) for outer in self.boxes) for inner in other.boxes)


class Reaches:
    """The reach of every rule of one policy that has one; roles of operators match nothing themselves."""

    def __init__(self, policy: Policy) -> None:
        self.groups = Groups({group.name: group.members for group in policy.groups})
        self._roles = roles_of(policy)
        self._sides: dict[frozenset[str], _Side] = {}
        self.all = tuple(
            Reach(rule, boxes)
            for rule in sorted(policy.rules, key=lambda rule: rule.line)
            if (boxes := self._boxes(rule))
        )

    def of(self, table: str) -> tuple[Reach, ...]:
        """Those of one table, in the order of their lines."""
        return tuple(reach for reach in self.all if reach.rule.table == table)

    def _boxes(self, rule: Rule) -> tuple[_Box, ...]:  # noqa: PLR0911  # one for each kind of rule
        match rule:
            case HubRule():
                purposes = frozenset(purpose.name for purpose in rule.purposes)
                there = self._box(rule.from_, rule.to, purposes)
                return (there, self._box(rule.to, rule.from_, purposes)) if rule.both_ways else (there,)
            case PairQuota():
                return (self._box(rule.from_, rule.to, {rule.stream.value}),)
            case TotalQuota():
                return (self._box(rule.to, {rule.stream.value}),)
            case KmeBench():
                return (self._box(rule.hubs, rule.peers),)
            case KmeRule() | KmeLimit():
                return (self._box(rule.peers, _WAYS[rule.direction]),)
            case SaeRule():
                return (self._box(rule.local, rule.remote, _ROLES[rule.role], rule.purposes),)
            case SaeLimit():
                return (self._box(rule.local, rule.remote, _ROLES[rule.role]),)
            case OperatorRule():
                commands = rule.commands.union(*(self._roles[role] for role in rule.roles))
                who = (("user", rule.users), ("group", rule.unix_groups))
                return tuple(self._plain({kind}, names, commands) for kind, names in who if names)
            case OperatorDual():
                return (self._plain(rule.commands),)
            case _:
                return ()

    def _box(self, *sides: Iterable[str]) -> _Box:
        return tuple(self._side(self.groups.opened(side)) for side in sides)

    def _plain(self, *sides: Iterable[str]) -> _Box:
        """Names of users and commands: there are no groups in them."""
        return tuple(self._side(frozenset(side)) for side in sides)

    def _side(self, written: frozenset[str]) -> _Side:
        if written not in self._sides:
            self._sides[written] = (Names.of(written), written)
        return self._sides[written]


def _is_within(inner: _Box, outer: _Box) -> bool:
    return all(
        all(one in names for one in written) for (_, written), (names, _) in zip(inner, outer, strict=True)
    )


def is_as_strict(one: Rule, other: Rule) -> bool:
    """Whether a limit demands at least what another one of its table does."""
    for key in limits_of(other.table):
        mine, theirs = getattr(one, key.attribute), getattr(other, key.attribute)
        if theirs is None:
            continue
        if mine is None:
            return False
        if key.name in HIGH_IS_STRICT or key.name == COUNTED_KEY:
            mine, theirs = theirs, mine
        if not mine <= theirs:
            return False
    return True


def limits_of(table: str) -> tuple[schema.Key, ...]:
    """The keys of a table that state how much."""
    return tuple(key for key in schema.TABLES[table].keys if key.default is None or key.name in _HOW_MUCH)


_HOW_MUCH: Final = frozenset({"wrong_shares"})
"""Keys that state how much and that a rule must have."""
