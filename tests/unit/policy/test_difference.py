"""What another policy changes: by meaning, for every name there can be."""

from __future__ import annotations

import pytest

from skex.base import limits
from skex.policy.difference import Change, compare
from tests.unit.policy.support import policy


def changed(old: str, new: str, **how: object) -> list[tuple[str, str, str, str]]:
    compared = compare(policy(old), policy(new), **how)  # type: ignore[arg-type]  # known or own
    assert compared.complete
    return [
        (one.change.value, f"{one.who} {one.towards}".strip(), one.what, f"{one.before} -> {one.after}")
        for one in compared.differences
    ]


HUB = '[[hub.allow]]\nid = "a"\nfrom = {}\nto = ["centre"]\n'


def test_policies_that_say_the_same_otherwise_differ_in_nothing() -> None:
    one = '[groups]\nb = ["site-*"]\n[[hub.allow]]\nfrom = ["@b"]\nto = ["centre"]\nid = "x"\n'
    assert changed(HUB.format('["site-*"]'), one) == []


def test_what_is_newly_allowed_and_no_longer_is_said_of_names_and_patterns() -> None:
    old, new = HUB.format('["site-1", "lab"]'), HUB.format('["site-*"]')
    assert sorted(changed(old, new)) == [
        ("newly-allowed", "site-* to centre", "control", "refused -> allowed"),
        ("newly-allowed", "site-* to centre", "traffic", "refused -> allowed"),
        ("no-longer-allowed", "lab to centre", "control", "allowed -> refused"),
        ("no-longer-allowed", "lab to centre", "traffic", "allowed -> refused"),
    ]


def test_names_that_are_known_are_said_with_the_pattern_that_they_have() -> None:
    found = changed("", HUB.format('["site-*"]'), known=["site-7", "site-8"])
    assert {one[1] for one in found} == {"site-7, site-8, site-* to centre"}
    many = changed("", HUB.format('["site-*"]'), known=[f"site-{n}" for n in range(9)])
    assert {one[1] for one in many} == {"site-0, site-1, site-2, site-3 and 6 more to centre"}


def test_names_that_only_two_patterns_share_are_found() -> None:
    old = '[[kme.allow]]\npeers = ["a-*"]\n[[kme.allow]]\npeers = ["*-z"]\n'
    deny = '[[kme.deny]]\npeers = ["a-*-z"]\n'
    assert ("no-longer-allowed", "a-*-z to-peer", "keys", "allowed -> refused") in changed(old, old + deny)
    sae = '[[sae.allow]]\nlocal = ["vpn@*"]\nremote = ["*@b*"]\n[[kme.allow]]\npeers = ["*"]\n'
    found = changed("", sae)
    assert any("vpn@b*" in one[1] for one in found)


def test_limits_and_what_counts_as_dependent_are_compared() -> None:
    old = '[[kme.limit]]\npeers = ["*"]\nminimum_claim = "hybrid"\nid = "l"\n'
    new = (
        '[[kme.limit]]\npeers = ["*"]\nminimum_claim = "information-theoretic"\nid = "l"\n'
        'independence = ["hosting"]\ndirection = "to-peer"\n'
    )
    assert changed(old, new) == [
        ("limit-changed", "* to-peer", "minimum_claim", "hybrid -> information-theoretic"),
        ("limit-changed", "* to-peer", "independence", '"operator", "administrator" -> "hosting"'),
        ("limit-changed", "* from-peer", "minimum_claim", "hybrid -> computational"),
    ]


def test_when_hubs_are_benched_is_compared() -> None:
    old = '[[kme.bench]]\npeers = ["*"]\nwrong_shares = 3\n'
    new = old + '[[kme.bench]]\nhubs = ["hub-1"]\npeers = ["*"]\nwrong_shares = 2\nmissing_in_a_row = 9\n'
    assert changed(old, new) == [
        ("limit-changed", "hub-1 with *", "bench, wrong_shares", "3 -> 2"),
        ("limit-changed", "hub-1 with *", "bench, missing_in_a_row", "never -> 9"),
    ]
    assert [one[3].partition(" -> ")[2] for one in changed(old, "")] == ["never", "never"]


def test_quotas_and_floors_are_compared() -> None:
    new = (
        '[hub]\ncontrol_floor_bytes = 60000\n[[hub.pair_quota]]\nfrom = ["a"]\nto = ["b"]\nbytes_burst = 9\n'
        '[[hub.total_quota]]\nto = ["b"]\nstream = "peer-messages"\nrequests_per_second = 1.5\n'
    )
    assert changed("", new) == [
        ("limit-changed", "a to b", "shares, bytes_burst", "6.71089e+07 -> 9"),
        ("limit-changed", "b as receiver", "peer-messages, requests_per_second", "2000 -> 1.5"),
        ("limit-changed", "every receiver", "control_floor_bytes", "131072 -> 60000"),
    ]


def test_saes_are_compared_with_what_their_kmes_may() -> None:
    allow = '[[sae.allow]]\nlocal = ["*"]\nremote = ["*"]\nrole = "master"\npurposes = ["tls"]\n'
    old, new = allow, allow + '[[kme.allow]]\npeers = ["south"]\ndirection = "to-peer"\n'
    found = [one for one in changed(old, new, own="north") if " as " in one[1]]
    assert found == [
        ("newly-allowed", "*@* as master with *@south", "purpose tls", "refused -> allowed"),
    ]
    limit = '[[sae.limit]]\nlocal = ["vpn@north", "vpn@south"]\nremote = ["*"]\nslaves_max = 2\n'
    found = changed(new, new + limit, own="north")
    assert {one[1].partition(" as ")[0] for one in found} == {"vpn@north"}


def test_operators_and_dual_control_are_compared() -> None:
    new = (
        '[[operator.allow]]\nusers = ["anna"]\nunix_groups = ["staff"]\ncommands = ["reload"]\n'
        '[[operator.dual]]\ncommands = ["reload"]\n'
    )
    assert changed("", new) == [
        ("newly-allowed", "user anna; group staff", "reload", "refused -> allowed"),
        ("limit-changed", "everybody", "reload", "one person -> two persons within 86400 s"),
    ]
    assert ("limit-changed", "everybody", "reload", "two persons within 86400 s -> one person") in changed(
        new, ""
    )


def test_a_rule_that_decides_now_is_named_with_its_line() -> None:
    (first, *_) = compare(policy(""), policy(HUB.format('["a"]'))).differences
    assert (first.change, first.rule, first.line) == (Change.ALLOWED, "hub.allow.a", 2)


def test_too_many_names_are_not_all_compared_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POLICY_COMPARISONS", 10)
    assert not compare(policy(""), policy(HUB.format('["a", "b", "c"]'))).complete
