"""Which operators may ask a daemon for what, and what needs two of them.

Operators are users of the daemon's machine, told apart by what the kernel says of a connection's other
end. The daemon's own user and root own every file of the home, this policy included, so no rule binds
them; two persons they are not, because several people can be root.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from skex.policy import schema
from skex.policy.decisions import Bound, Decision, Place
from skex.policy.names import Names
from skex.policy.rules import (
    EVERY_COMMAND,
    OperatorCommand,
    OperatorDual,
    OperatorRole,
    OperatorRule,
    Policy,
)

OWNER: Final = "owner"
"""Stands for a rule where the daemon's own user, or root, asks."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who asks. ``names`` hold the user's name and ``uid-NUMBER``, ``groups`` likewise for groups."""

    names: frozenset[str]
    groups: frozenset[str]
    is_owner: bool = False


class Verdicts(Protocol):
    """Deny rules over allow rules over nothing, as every place decides."""

    def decide(self, what: str, *asked: object) -> Decision:
        """Whether ``what`` is allowed."""
        ...


class OperatorPlace:
    """What the owner of a daemon lets others do."""

    def __init__(self, policy: Policy, verdicts: Verdicts) -> None:
        """``verdicts`` match with ``matcher``."""
        self._verdicts = verdicts
        self._duals = tuple(
            sorted((rule for rule in policy.rules if isinstance(rule, OperatorDual)), key=lambda one: one.id)
        )
        self.roles = roles_of(policy)

    def may(self, who: Operator, command: OperatorCommand) -> Decision:
        """Whether ``who`` may ask for ``command``."""
        if who.is_owner:
            reason = f"{command.value}: asked by who owns the home, or root"
            return Decision(allowed=True, rule=OWNER, reason=reason, place=Place.OPERATOR)
        named = sorted(who.names, key=lambda name: (name.startswith("uid-"), name))
        return self._verdicts.decide(f"{named[0]}, {command.value}", who, command)

    def may_anything(self, who: Operator) -> bool:
        """Whether there is anything that ``who`` may ask for."""
        return any(self.may(who, command) for command in OperatorCommand)

    def dual(self, command: OperatorCommand) -> Bound | None:
        """For how many seconds ``command`` waits for a second person, and the rule; None if it does not."""
        rules = [rule for rule in self._duals if _covers(rule.commands, command)]
        if command not in schema.DUAL or not rules:
            return None
        stated = [rule for rule in rules if rule.pending_seconds_max is not None]
        if not stated:
            return Bound(schema.PENDING_SECONDS, rules[0].id, rules[0].line)
        seconds, rule = min(((one.pending_seconds_max or 0, one) for one in stated), key=lambda one: one[0])
        return Bound(seconds, rule.id, rule.line)


def matcher(policy: Policy) -> Callable[[OperatorRule], Callable[..., bool]]:
    """How rules of ``policy`` match an operator and a command."""
    roles = roles_of(policy)

    def compiled(rule: OperatorRule) -> Callable[..., bool]:
        users, groups = Names.of(rule.users), Names.of(rule.unix_groups)
        commands = rule.commands.union(*(roles[role] for role in rule.roles))

        def applies(who: Operator, command: OperatorCommand) -> bool:
            is_meant = any(name in users for name in who.names) or any(one in groups for one in who.groups)
            return is_meant and _covers(commands, command)

        return applies

    return compiled


def roles_of(policy: Policy) -> dict[str, frozenset[str]]:
    """The commands of every role, of those that every policy has and of its own."""
    own = {rule.name: rule.commands for rule in policy.rules if isinstance(rule, OperatorRole)}
    return {**{name: frozenset(one.value for one in held) for name, held in schema.ROLES.items()}, **own}


def _covers(commands: frozenset[str], command: OperatorCommand) -> bool:
    return command.value in commands or EVERY_COMMAND in commands


def _names_of(what: str, number: int, name: str | None) -> frozenset[str]:
    plain = f"{what}-{number}"
    # A name that looks like the number of somebody else is not believed.
    return frozenset({plain} if name is None or name.startswith(f"{what}-") else {plain, name})


def user_names(number: int, name: str | None) -> frozenset[str]:
    """What rules may call the user with this number, whom the system calls ``name``."""
    return _names_of("uid", number, name)


def group_names(number: int, name: str | None) -> frozenset[str]:
    """What rules may call the group with this number."""
    return _names_of("gid", number, name)
