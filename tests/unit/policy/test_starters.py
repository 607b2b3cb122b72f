"""The policies to begin with are sound, deny everything, and their commented examples work."""

from __future__ import annotations

import re

import pytest

from skex.base.ids import HubName, SaeId
from skex.policy import language
from skex.policy.evaluate import load
from skex.policy.rules import Direction, Role
from skex.policy.starters import default_hub_policy, default_kme_policy
from skex.wire.context import Purpose
from tests.unit.policy.support import CENTRE, SITE_1, STRANGER, VPN, VPN_1


def uncommented(text: str) -> str:
    """The text with its examples in force: comment lines that are TOML, not prose."""
    return re.sub(r'^# (?=\[|[\w"]+ = )', "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("text", [default_hub_policy(), default_kme_policy()], ids=["hub", "kme"])
def test_starter_is_sound_and_allows_nothing(text: str) -> None:
    policy = load(text.encode(), "policy.toml")
    assert not [rule for rule in policy.policy.rules if rule.table.endswith(("allow", "deny"))]


@pytest.mark.parametrize(
    ("text", "rules"), [(default_hub_policy(), 4), (default_kme_policy(), 5)], ids=["hub", "kme"]
)
def test_examples_in_the_comments_are_sound(text: str, rules: int) -> None:
    examples = uncommented(text)
    assert language.problems_in(examples.encode()) == ()
    assert len(load(examples.encode(), "x").policy.rules) == rules


def test_kme_starter_benches_hubs_after_some_wrong_shares_and_a_policy_without_a_rule_none() -> None:
    bounds = load(default_kme_policy().encode(), "policy.toml").kme.bench(HubName("hub-1"), SITE_1)
    assert bounds is not None
    assert (bounds.wrong_shares.value, bounds.seconds.value) == (3, 3600)
    assert bounds.missing_in_a_row is not None
    assert bounds.missing_in_a_row.value == 50
    assert load(b"version = 1\n", "policy.toml").kme.bench(HubName("hub-1"), SITE_1) is None


def test_hub_starter_lets_the_named_kmes_establish_with_each_other_only() -> None:
    hub = load(default_hub_policy([CENTRE, SITE_1]).encode(), "policy.toml").hub
    assert hub.may_establish(CENTRE, SITE_1, Purpose.TRAFFIC)
    assert hub.may_establish(SITE_1, CENTRE, Purpose.CONTROL)
    assert not hub.may_establish(CENTRE, STRANGER, Purpose.TRAFFIC)


def test_kme_starter_lets_the_named_saes_share_keys_in_both_roles() -> None:
    policy = load(default_kme_policy([SITE_1], [VPN], [VPN_1]).encode(), "policy.toml")
    assert policy.kme.may_exchange(SITE_1, Direction.TO_PEER)
    assert policy.sae.may_share(VPN, VPN_1, Role.MASTER, "any")
    assert policy.sae.may_share(VPN, VPN_1, Role.SLAVE, "any")
    assert not policy.sae.may_share(SaeId("web@centre"), VPN_1, Role.MASTER, "any")
    assert default_kme_policy([SITE_1], [VPN]).count("\n[[sae.allow]]") == 0
