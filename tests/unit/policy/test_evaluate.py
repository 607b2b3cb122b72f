"""Decisions: default deny, deny over allow, the strictest limit; each names the rule that decided."""

from __future__ import annotations

import pytest

from skex.base import codes, limits
from skex.base.errors import Refused
from skex.base.ids import HubName, KmeName, SaeId
from skex.policy.decisions import Bound, Decision, Place
from skex.policy.evaluate import BenchBounds, Held, load
from skex.policy.rules import Direction, Role
from skex.protocol.hub import Stream
from skex.protocol.quota import Quota, Rate
from skex.wire.claim import ClaimClass
from skex.wire.context import Purpose
from skex.wire.independence import COUNTED, Attribute, Floor
from skex.wire.realm import HubAttributes
from tests.unit.policy.support import (
    CENTRE,
    SITE_1,
    SITE_2,
    STRANGER,
    VPN,
    VPN_1,
    WEB_1,
    batch,
    policy,
)

TO, FROM = Direction.TO_PEER, Direction.FROM_PEER


# ── the hub ─────────────────────────────────────────────────────────────────────────────────────
def test_empty_policy_denies_everything_and_says_that_no_rule_decided() -> None:
    empty = policy("")
    assert empty.hub.may_establish(SITE_1, CENTRE, Purpose.TRAFFIC) == Decision(
        allowed=False,
        rule="default",
        reason="site-1 to centre, traffic: no rule allows it",
        place=Place.HUB,
    )
    assert not empty.kme.may_exchange(CENTRE, TO)
    assert not empty.sae.may_take_new(VPN, VPN_1, 1, 32, "any")
    assert not empty.sae.may_take_by_id(VPN, VPN_1)


def test_allow_names_its_rule_and_its_line() -> None:
    rules = policy('[[hub.allow]]\nid = "in"\nfrom = ["site-*"]\nto = ["centre"]')
    decision = rules.hub.may_establish(SITE_1, CENTRE, Purpose.CONTROL)
    assert (decision.allowed, decision.rule, decision.line) == (True, "hub.allow.in", 2)
    assert not rules.hub.may_establish(CENTRE, SITE_1, Purpose.CONTROL)


def test_both_ways_allows_and_denies_with_the_ends_exchanged() -> None:
    rules = policy(
        """
        [[hub.allow]]
        from = ["site-*"]
        to = ["*"]
        both_ways = true
        [[hub.deny]]
        id = "stolen"
        from = ["site-2"]
        to = ["*"]
        both_ways = true
        """
    )
    assert rules.hub.may_establish(CENTRE, SITE_1, Purpose.TRAFFIC)
    for pair in ((SITE_2, CENTRE), (CENTRE, SITE_2), (SITE_1, SITE_2)):
        assert rules.hub.may_establish(*pair, Purpose.TRAFFIC).rule == "hub.deny.stolen"
    assert not rules.hub.may_establish(CENTRE, STRANGER, Purpose.TRAFFIC)


def test_rule_for_one_purpose_says_nothing_about_the_other() -> None:
    rules = policy('[[hub.allow]]\nfrom = ["*"]\nto = ["*"]\npurposes = ["control"]')
    assert rules.hub.may_establish(SITE_1, CENTRE, Purpose.CONTROL)
    assert not rules.hub.may_establish(SITE_1, CENTRE, Purpose.TRAFFIC)


def test_of_several_rules_the_first_id_is_named_wherever_it_stands() -> None:
    a = '[[hub.deny]]\nid = "a"\nfrom = ["*"]\nto = ["*"]\n'
    b = a.replace('"a"', '"b"')
    for text in (a + b, b + a):
        assert policy(text).hub.may_establish(SITE_1, CENTRE, Purpose.TRAFFIC).rule == "hub.deny.a"


def test_groups_are_opened_also_within_groups_and_for_saes() -> None:
    rules = policy(
        """
        [groups]
        branch = ["site-*"]
        all = ["@branch", "centre"]
        gateways = ["vpn@@branch"]
        nobody = []
        [[kme.allow]]
        peers = ["@all"]
        [[kme.deny]]
        peers = ["@nobody"]
        [[sae.allow]]
        local = ["*@centre"]
        remote = ["@gateways", "web@@nobody"]
        """
    )
    assert rules.kme.may_exchange(SITE_1, TO)
    assert rules.kme.may_exchange(CENTRE, FROM)
    assert not rules.kme.may_exchange(STRANGER, TO)
    assert rules.sae.may_share(VPN, VPN_1, Role.MASTER, "any")
    assert not rules.sae.may_share(VPN, WEB_1, Role.MASTER, "any")


QUOTAS = """
[[hub.pair_quota]]
id = "all"
from = ["*"]
to = ["*"]
bytes_per_second = 1000
requests_burst = 50
[[hub.pair_quota]]
id = "small"
from = ["site-1"]
to = ["*"]
bytes_per_second = 10
requests_burst = 70
[[hub.total_quota]]
id = "talk"
to = ["centre"]
stream = "peer-messages"
requests_per_second = 0.5
"""


def test_strictest_quota_counts_and_unstated_numbers_have_their_default() -> None:
    hub = policy(QUOTAS).hub
    bounds = hub.pair_quota(SITE_1, CENTRE, Stream.SHARES)
    assert bounds.bytes_per_second == Bound(10, "hub.pair_quota.small")
    assert bounds.requests_burst == Bound(50, "hub.pair_quota.all")
    assert bounds.bytes_burst == Bound(67_108_864, "default")
    assert bounds.quota == Quota(Rate(10, 67_108_864), Rate(100, 50))
    assert hub.pair_quota(SITE_2, CENTRE, Stream.SHARES).bytes_per_second.value == 1000


def test_quota_of_one_stream_leaves_the_other_alone() -> None:
    hub = policy(QUOTAS).hub
    talk = hub.total_quota(CENTRE, Stream.PEER_MESSAGES)
    assert talk.requests_per_second == Bound(0.5, "hub.total_quota.talk")
    assert hub.total_quota(CENTRE, Stream.SHARES).requests_per_second == Bound(5000)
    assert hub.total_quota(SITE_1, Stream.PEER_MESSAGES).requests_per_second == Bound(2000)
    assert hub.pair_quota(SITE_1, CENTRE, Stream.PEER_MESSAGES).quota.requests == Rate(200, 2000)


def test_floor_of_shares_is_set_and_that_of_peer_messages_is_fixed() -> None:
    hub = policy("[hub]\ncontrol_floor_bytes = 200000").hub
    assert hub.floor(Stream.SHARES) == 200_000
    assert hub.floor(Stream.PEER_MESSAGES) == limits.PEER_FLOOR_BYTES
    assert policy("").hub.floor(Stream.SHARES) == limits.CONTROL_FLOOR_BYTES


# ── the KME ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("direction", "to_peer", "from_peer"),
    [("to-peer", True, False), ("from-peer", False, True), ("both", True, True)],
)
def test_direction_of_a_rule_is_seen_from_this_kme(direction: str, to_peer: bool, from_peer: bool) -> None:
    kme = policy(f'[[kme.allow]]\npeers = ["centre"]\ndirection = "{direction}"').kme
    assert kme.may_exchange(CENTRE, TO).allowed is to_peer
    assert kme.may_exchange(CENTRE, FROM).allowed is from_peer


def test_deny_of_one_direction_leaves_the_other() -> None:
    kme = policy(
        '[[kme.allow]]\npeers = ["*"]\n[[kme.deny]]\nid = "x"\npeers = ["*"]\ndirection = "to-peer"'
    ).kme
    assert kme.may_exchange(CENTRE, TO).rule == "kme.deny.x"
    assert kme.may_exchange(CENTRE, FROM)


BENCH = """
[groups]
branch = ["site-*"]
[[kme.bench]]
id = "all"
peers = ["*"]
wrong_shares = 5
seconds = 60
[[kme.bench]]
id = "branch"
hubs = ["hub-1", "far-*"]
peers = ["@branch"]
wrong_shares = 2
missing_in_a_row = 8
"""


def test_hub_is_benched_by_the_strictest_of_the_rules_for_it_and_the_peer() -> None:
    kme = policy(BENCH).kme
    assert kme.bench(HubName("hub-2"), SITE_1) == BenchBounds(
        Bound(5, "kme.bench.all"), None, Bound(60, "kme.bench.all")
    )
    both = BenchBounds(Bound(2, "kme.bench.branch"), Bound(8, "kme.bench.branch"), Bound(60, "kme.bench.all"))
    assert kme.bench(HubName("far-9"), SITE_1) == both
    assert kme.bench(HubName("far-9"), CENTRE) == kme.bench(HubName("hub-2"), SITE_1)


def test_longest_bench_counts_and_an_hour_where_none_is_stated() -> None:
    rule = '[[kme.bench]]\npeers = ["*"]\nwrong_shares = 1\n'
    bounds = policy(rule).kme.bench(HubName("h"), CENTRE)
    assert bounds is not None
    assert bounds.seconds == Bound(3600)
    twice = policy(f'{rule}id = "a"\nseconds = 10\n{rule}id = "b"\nseconds = 20\n')
    bounds = twice.kme.bench(HubName("h"), CENTRE)
    assert bounds is not None
    assert bounds.seconds == Bound(20, "kme.bench.b")


LIMITS = """
[[kme.allow]]
peers = ["*"]
[[kme.limit]]
id = "l"
peers = ["centre"]
minimum_threshold = 3
minimum_claim = "information-theoretic"
key_bytes_min = 24
key_bytes_max = 48
batch_keys_max = 20
lifetime_seconds_max = 7200
stored_batches_max = 5
stored_bytes_max = 1000
[[kme.limit]]
id = "weaker"
peers = ["*"]
minimum_threshold = 2
minimum_claim = "computational"
key_bytes_min = 16
key_bytes_max = 64
"""


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"threshold": 2}, "a threshold of 2 is less than 3"),
        ({"key_bytes": 23}, "a key size in bytes of 23 is less than 24"),
        ({"key_bytes": 49}, "a key size in bytes of 49 is more than 48"),
        ({"keys": 21}, "a number of keys in a batch of 21 is more than 20"),
        ({"lifetime": 7201}, "a lifetime in seconds of 7201 is more than 7200"),
    ],
)
def test_batch_beyond_a_limit_is_refused_by_the_rule_that_set_it(shape: dict[str, int], reason: str) -> None:
    kme = policy(LIMITS).kme
    refused = kme.may_make(CENTRE, FROM, batch(**({"threshold": 3} | shape)))  # type: ignore[arg-type]  # numbers only
    assert refused == Decision(allowed=False, rule="kme.limit.l", reason=reason, place=Place.KME)
    assert kme.may_make(SITE_1, FROM, batch(**shape))  # type: ignore[arg-type]  # numbers only


def test_batch_within_every_limit_is_allowed_by_the_allowing_rule() -> None:
    edge = batch(threshold=3, key_bytes=48, keys=20, lifetime=7200)
    assert policy(LIMITS).kme.may_make(CENTRE, FROM, edge).rule.startswith("kme.allow#")


def test_default_threshold_is_two_so_one_hub_alone_never_knows_a_key() -> None:
    kme = policy('[[kme.allow]]\npeers = ["*"]').kme
    decision = kme.may_make(CENTRE, TO, batch(threshold=1))
    assert (decision.allowed, decision.rule) == (False, "default")


def hubs_of(operators: str) -> list[HubAttributes]:
    return [HubAttributes(f"op {one}", "land", "house", f"admin {one}", "skex") for one in operators]


def test_hubs_of_too_few_parties_are_refused_with_the_parties_and_the_rule() -> None:
    rules = policy(
        '[[kme.allow]]\npeers = ["*"]\n'
        '[[kme.limit]]\nid = "apart"\npeers = ["*"]\nminimum_effective_threshold = 2'
    )
    decision = rules.kme.may_rest_on(SITE_1, TO, hubs_of("aaabc"), 3)
    assert (decision.allowed, decision.rule, decision.line) == (False, "kme.limit.apart", 4)
    assert decision.reason == ("operator op a has 3 of the hubs: an effective threshold of 1 is less than 2")
    assert rules.kme.may_rest_on(SITE_1, TO, hubs_of("aabcd"), 3).rule.startswith("kme.allow#")
    assert policy("").kme.may_rest_on(SITE_1, TO, hubs_of("abcde"), 3).rule == "default"


def test_any_hubs_will_do_where_no_limit_says_otherwise() -> None:
    assert policy('[[kme.allow]]\npeers = ["*"]').kme.may_rest_on(SITE_1, TO, hubs_of("aaaaa"), 3)


def test_what_any_limit_counts_counts_and_the_highest_demand_does() -> None:
    rules = policy(
        """
        [[kme.limit]]
        peers = ["*"]
        minimum_effective_threshold = 2
        independence = ["operator"]
        [[kme.limit]]
        peers = ["site-1"]
        minimum_effective_threshold = 3
        independence = ["jurisdiction", "operator"]
        [[kme.limit]]
        peers = ["site-1"]
        direction = "from-peer"
        minimum_threshold = 3
        """
    )
    operator, both = {Attribute.OPERATOR}, {Attribute.OPERATOR, Attribute.JURISDICTION}
    assert rules.kme.independence(SITE_2, TO) == Floor(2, frozenset(operator))
    assert rules.kme.independence(SITE_1, TO) == Floor(3, frozenset(both))
    assert policy("").kme.independence(SITE_1, TO) == Floor(1, COUNTED)


def test_control_batch_is_held_to_the_threshold_only() -> None:
    control = {"keys": 1, "key_bytes": 64, "purpose": Purpose.CONTROL, "lifetime": 86_400}
    kme = policy(LIMITS).kme
    assert kme.may_make(CENTRE, FROM, batch(threshold=3, **control))  # type: ignore[arg-type]  # as typed there
    assert not kme.may_make(CENTRE, FROM, batch(threshold=2, **control))  # type: ignore[arg-type]  # as typed there
    full = Held(10**9, 10**12)
    assert kme.may_keep(CENTRE, FROM, full, batch(**control))  # type: ignore[arg-type]  # as typed there


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        (Held(5, 0), "a number of stored batches of 6 is more than 5"),
        (Held(4, 681), "stored key bytes of 1001 is more than 1000"),
    ],
)
def test_batch_for_which_there_is_no_room_is_refused(held: Held, reason: str) -> None:
    decision = policy(LIMITS).kme.may_keep(CENTRE, FROM, held, batch())
    assert (decision.allowed, decision.reason, decision.rule) == (False, reason, "kme.limit.l")


def test_batch_that_fills_the_room_exactly_is_kept() -> None:
    assert policy(LIMITS).kme.may_keep(CENTRE, FROM, Held(4, 680), batch())


def test_claim_below_the_demanded_class_is_refused_with_both_named() -> None:
    kme = policy(LIMITS).kme
    refused = kme.accepts_claim(CENTRE, FROM, ClaimClass.HYBRID)
    assert refused.reason == "the claim is hybrid; at least information-theoretic is demanded"
    assert refused.rule == "kme.limit.l"
    assert kme.accepts_claim(CENTRE, FROM, ClaimClass.INFORMATION_THEORETIC)
    assert kme.accepts_claim(SITE_1, FROM, ClaimClass.COMPUTATIONAL)


def test_peer_that_is_not_allowed_is_refused_before_any_limit() -> None:
    kme = policy("").kme
    assert kme.may_make(CENTRE, TO, batch()).rule == "default"
    assert not kme.may_keep(CENTRE, TO, Held(0, 0), batch())
    assert not kme.accepts_claim(CENTRE, TO, ClaimClass.INFORMATION_THEORETIC)


# ── SAEs ────────────────────────────────────────────────────────────────────────────────────────
SAES = """
[[kme.allow]]
peers = ["site-*"]
[[sae.allow]]
id = "vpn"
local = ["vpn@centre"]
remote = ["vpn@*"]
[[sae.deny]]
id = "tests"
local = ["*"]
remote = ["*"]
purposes = ["test-*"]
[[sae.limit]]
id = "few"
local = ["*"]
remote = ["vpn@site-1"]
key_bytes_min = 32
key_bytes_max = 64
keys_per_request_max = 4
slaves_max = 2
lifetime_seconds_max = 600
"""


def test_sae_pair_is_allowed_by_its_rule_and_others_by_none() -> None:
    sae = policy(SAES).sae
    assert sae.may_take_new(VPN, VPN_1, 4, 32, "any", slaves=2, lifetime=600).rule == "sae.allow.vpn"
    assert not sae.may_take_new(VPN, WEB_1, 1, 32, "any")
    assert not sae.may_take_new(SaeId("web@centre"), VPN_1, 1, 32, "any")


@pytest.mark.parametrize(
    ("number", "key_bytes", "slaves", "lifetime"),
    [(5, 32, 1, None), (1, 31, 1, None), (1, 65, 1, None), (1, 32, 3, None), (1, 32, 1, 601)],
)
def test_request_beyond_a_limit_is_refused_by_the_rule_that_set_it(
    number: int, key_bytes: int, slaves: int, lifetime: int | None
) -> None:
    decision = policy(SAES).sae.may_take_new(
        VPN, VPN_1, number, key_bytes, "any", slaves=slaves, lifetime=lifetime
    )
    assert (decision.allowed, decision.rule, decision.place) == (False, "sae.limit.few", Place.SAE)


def test_denied_purpose_is_refused_and_others_are_not() -> None:
    sae = policy(SAES).sae
    assert sae.may_take_new(VPN, VPN_1, 1, 32, "test-7").rule == "sae.deny.tests"
    assert sae.may_take_new(VPN, VPN_1, 1, 32, "ipsec")


def test_question_without_a_purpose_is_whether_any_is_allowed() -> None:
    sae = policy(SAES).sae
    assert sae.may_take_by_id(VPN, VPN_1)
    assert not sae.may_take_by_id(VPN, VPN_1, purpose="test-1")
    assert not policy(SAES.replace('"test-*"', '"*"')).sae.may_take_by_id(VPN, VPN_1)
    one = SAES.replace('id = "vpn"', 'purposes = ["ipsec"]')
    assert policy(one).sae.may_take_by_id(VPN, VPN_1)
    assert not policy(one).sae.may_take_by_id(VPN, VPN_1, purpose="tls")


def test_taking_more_keys_by_id_than_allowed_is_refused() -> None:
    sae = policy(SAES).sae
    assert sae.may_take_by_id(VPN, VPN_1, 4)
    assert sae.may_take_by_id(VPN, VPN_1, 5).rule == "sae.limit.few"


def test_role_of_a_rule_is_that_of_the_local_sae() -> None:
    sae = policy('[[kme.allow]]\npeers=["*"]\n[[sae.allow]]\nlocal=["*"]\nremote=["*"]\nrole="slave"').sae
    assert sae.may_take_by_id(VPN, VPN_1)
    assert not sae.may_take_new(VPN, VPN_1, 1, 32, "any")


def test_saes_of_a_peer_that_is_denied_share_nothing_whatever_their_rules_say() -> None:
    sae = policy(SAES + '[[kme.deny]]\nid = "out"\npeers = ["site-1"]\ndirection = "to-peer"').sae
    decision = sae.may_take_new(VPN, VPN_1, 1, 32, "any")
    assert (decision.rule, decision.place) == ("kme.deny.out", Place.KME)
    assert sae.may_take_by_id(VPN, VPN_1)


def test_assignment_needs_every_slave_to_be_allowed() -> None:
    sae = policy(SAES).sae
    other = SaeId("web@centre")
    assert sae.may_assign(VPN_1, (VPN,), "any", 600)
    assert not sae.may_assign(VPN_1, (VPN, other), "any", 600)
    assert not sae.may_assign(VPN_1, (other, VPN), "any", 600)
    assert not sae.may_assign(VPN_1, (), "any", 600)
    assert not sae.may_assign(VPN_1, (VPN,), "test-1", 600)
    assert sae.may_assign(VPN_1, (VPN,), "any", 601).rule == "sae.limit.few"


def test_alias_is_resolved_and_a_bare_name_without_one_is_refused() -> None:
    sae = policy('[aliases]\n"SAE_0815" = "vpn@site-1"').sae
    assert sae.resolve("SAE_0815") == VPN_1
    assert sae.resolve("web@site-1") == WEB_1
    for name in ("SAE_0816", "VPN@site-1", "vpn@"):
        with pytest.raises(Refused) as error:
            sae.resolve(name)
        assert error.value.code is codes.NAME_INVALID


def test_broken_file_puts_no_policy_in_force() -> None:
    with pytest.raises(Refused) as error:
        load(b"version = 1\n[hub]\nalow = 1", "policy.toml")
    assert error.value.code is codes.POLICY_INVALID


def test_decision_counts_as_true_only_where_it_allows() -> None:
    yes = Decision(allowed=True, rule="r", reason="", place=Place.SAE)
    no = Decision(allowed=False, rule="r", reason="", place=Place.SAE)
    assert yes
    assert not no


def test_name_of_a_hostile_kme_is_matched_like_any_other() -> None:
    rules = policy('[[hub.allow]]\nfrom = ["a*b*c"]\nto = ["*"]')
    assert not rules.hub.may_establish(KmeName("a" * 63), CENTRE, Purpose.TRAFFIC)
