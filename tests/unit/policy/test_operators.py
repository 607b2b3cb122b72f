"""Operators: who may ask a daemon for what, which rule decides, and what needs two of them."""

from __future__ import annotations

import itertools

import pytest

from skex.policy import operators, schema
from skex.policy.decisions import DEFAULT, Place
from skex.policy.operators import OWNER, Operator, OperatorPlace, group_names, user_names
from skex.policy.rules import OperatorCommand
from tests.unit.policy.support import policy

ALLOW = '[[operator.allow]]\nid = "{id}"\n{who}\n{what}\n'


def person(number: int, name: str | None = None, *groups: str) -> Operator:
    return Operator(user_names(number, name), frozenset(groups))


ANNA = person(41001, "anna", "staff", "gid-50")
BEN = person(41002, "ben")
NAMELESS = person(41003)
OWN = Operator(user_names(990, "skex"), frozenset(), is_owner=True)


def place(text: str) -> OperatorPlace:
    return policy(text).operator


def allow(who: str, what: str, id_: str = "one") -> str:
    return ALLOW.format(who=who, what=what, id=id_)


def test_nobody_but_the_owner_may_anything_where_nothing_is_configured() -> None:
    empty = place("")
    for command in OperatorCommand:
        assert empty.may(ANNA, command).rule == DEFAULT
        assert not empty.may(ANNA, command)
        assert empty.may(OWN, command).rule == OWNER
        assert empty.may(OWN, command)
        assert empty.dual(command) is None
    assert not empty.may_anything(ANNA)


@pytest.mark.parametrize(
    ("who", "matched"),
    [
        ('users = ["anna"]', {"anna"}),
        ('users = ["an*", "uid-41003"]', {"anna", "nameless"}),
        ('users = ["uid-41001"]', {"anna"}),
        ('unix_groups = ["staff"]', {"anna"}),
        ('unix_groups = ["gid-50"]\nusers = ["ben"]', {"anna", "ben"}),
        ('users = ["staff", "gid-50"]', set()),
        ('unix_groups = ["anna", "uid-41001"]', set()),
        ('users = ["*"]', {"anna", "ben", "nameless"}),
    ],
)
def test_rule_matches_users_and_unix_groups_and_does_not_confuse_them(who: str, matched: set[str]) -> None:
    asked = place(allow(who, 'roles = ["viewer"]'))
    people = {"anna": ANNA, "ben": BEN, "nameless": NAMELESS}
    assert {name for name, one in people.items() if asked.may(one, OperatorCommand.STATUS)} == matched


def test_roles_and_single_commands_of_one_rule_add_up() -> None:
    asked = place(allow('users = ["anna"]', 'roles = ["viewer"]\ncommands = ["kit-create"]'))
    may = {command for command in OperatorCommand if asked.may(ANNA, command)}
    assert may == {OperatorCommand.STATUS, OperatorCommand.KIT_CREATE}
    assert asked.may_anything(ANNA)


@pytest.mark.parametrize("role", schema.ROLES)
def test_role_that_every_policy_has_allows_what_the_reference_says(role: str) -> None:
    asked = place(allow('users = ["anna"]', f'roles = ["{role}"]'))
    assert {command for command in OperatorCommand if asked.may(ANNA, command)} == schema.ROLES[role]


def test_duties_are_separated() -> None:
    """Who keeps the daemon running enrols nobody and approves nothing; who audits changes nothing."""
    changing = schema.DUAL | {OperatorCommand.APPROVE}
    assert not schema.ROLES["auditor"] & changing
    assert not schema.ROLES["viewer"] & changing
    assert schema.ROLES["operator"] & changing == {OperatorCommand.RESERVE, OperatorCommand.BENCH}
    assert OperatorCommand.RESERVE not in schema.ROLES["security-officer"]


def test_own_role_holds_what_it_says() -> None:
    text = '[[operator.role]]\nid = "clerk"\ncommands = ["status", "kit-create"]\n'
    asked = place(text + allow('users = ["anna"]', 'roles = ["clerk"]'))
    decision = asked.may(ANNA, OperatorCommand.KIT_CREATE)
    assert (decision.allowed, decision.rule, decision.place) == (True, "operator.allow.one", Place.OPERATOR)
    assert decision.line == 5
    assert not asked.may(ANNA, OperatorCommand.RELOAD)


@pytest.mark.parametrize(
    "deny",
    ['users = ["anna"]\ncommands = ["*"]', 'unix_groups = ["staff"]\nroles = ["viewer"]'],
)
def test_deny_overrides_allow_and_does_not_bind_the_owner(deny: str) -> None:
    text = allow('users = ["*"]', 'commands = ["*"]') + f'[[operator.deny]]\nid = "no"\n{deny}\n'
    asked = place(text)
    assert asked.may(ANNA, OperatorCommand.STATUS).rule == "operator.deny.no"
    assert not asked.may(ANNA, OperatorCommand.STATUS)
    assert asked.may(BEN, OperatorCommand.STATUS)
    assert asked.may(OWN, OperatorCommand.STATUS)


def test_reason_names_the_user_by_name_where_there_is_one() -> None:
    asked = place("")
    assert asked.may(ANNA, OperatorCommand.STATUS).reason == "anna, status: no rule allows it"
    assert asked.may(NAMELESS, OperatorCommand.STATUS).reason == "uid-41003, status: no rule allows it"


def test_name_that_looks_like_another_users_number_is_not_believed() -> None:
    assert user_names(41009, "uid-41001") == {"uid-41009"}
    assert group_names(77, "gid-50") == {"gid-77"}
    assert group_names(77, "staff") == {"gid-77", "staff"}


# ── dual control ────────────────────────────────────────────────────────────────────────────────
DUAL = '[[operator.dual]]\nid = "{id}"\ncommands = [{commands}]\n'


def test_dual_control_holds_for_the_commands_that_are_named() -> None:
    asked = place(DUAL.format(id="kits", commands='"kit-create"'))
    bound = asked.dual(OperatorCommand.KIT_CREATE)
    assert bound is not None
    assert (bound.value, bound.rule) == (schema.PENDING_SECONDS, "operator.dual.kits")
    assert asked.dual(OperatorCommand.RELOAD) is None


def test_any_command_means_each_that_can_wait_and_no_other() -> None:
    asked = place(DUAL.format(id="all", commands='"*"'))
    assert {command for command in OperatorCommand if asked.dual(command) is not None} == schema.DUAL


def test_shortest_wait_counts_in_whatever_order_rules_stand() -> None:
    parts = [
        DUAL.format(id="a", commands='"*"'),
        DUAL.format(id="b", commands='"reload"') + "pending_seconds_max = 600\n",
        DUAL.format(id="c", commands='"reload"') + "pending_seconds_max = 300\n",
        DUAL.format(id="d", commands='"reload"') + "pending_seconds_max = 300\n",
    ]
    for order in itertools.permutations(parts):
        bound = place("".join(order)).dual(OperatorCommand.RELOAD)
        assert bound is not None
        assert (bound.value, bound.rule) == (300, "operator.dual.c")


def test_roles_of_a_policy_are_the_four_and_its_own() -> None:
    found = operators.roles_of(policy('[[operator.role]]\nid = "clerk"\ncommands = ["kit-create"]\n').policy)
    assert found.keys() == {*schema.ROLES, "clerk"}
    assert found["viewer"] == {"status"}
    assert found["clerk"] == {"kit-create"}


def test_every_command_is_explained() -> None:
    assert set(schema.COMMANDS) == set(OperatorCommand)
