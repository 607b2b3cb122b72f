"""What is odd about policies that can be read: each oddity, and what must not be called one."""

from __future__ import annotations

import pytest

from simulation.exchange import make_realm
from skex.base import limits
from skex.policy.decisions import Place
from skex.policy.review import NOTHING_KNOWN, Known, Oddity, Severity, review
from tests.unit.policy.support import policy

KMES = Known(kmes=frozenset({"centre", "site-1", "site-2"}))
NORTH = Known(own="north", place=Place.KME)


def odd(text: str, known: Known = NOTHING_KNOWN) -> list[tuple[str, str]]:
    """The oddities with what they are about, in the order of the lines."""
    return [(one.oddity.value, one.about) for one in review(policy(text).policy, known)]


def texts(text: str, known: Known = NOTHING_KNOWN) -> list[str]:
    return [f"{one.line}: {one.text}" for one in review(policy(text).policy, known)]


def test_policy_in_which_every_rule_decides_something_has_no_remark() -> None:
    plain = """
        [groups]
        branch = ["site-*"]
        [[hub.allow]]
        id = "a"
        from = ["@branch"]
        to = ["centre"]
        [[hub.allow]]
        id = "b"
        from = ["centre"]
        to = ["@branch"]
        [[hub.deny]]
        id = "c"
        from = ["site-13"]
        to = ["*"]
        [[kme.limit]]
        id = "k"
        peers = ["*"]
        minimum_threshold = 2
        [[kme.limit]]
        id = "stricter"
        peers = ["site-1"]
        minimum_threshold = 3
        [[operator.allow]]
        id = "anna"
        users = ["anna"]
        roles = ["viewer"]
        """
    assert odd(plain) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            '[[hub.allow]]\nfrom=["*"]\nto=["centre"]\nid="{}"',
            '[[hub.allow]]\nfrom=["a*"]\nto=["centre"]\nid="{}"',
        ),
        (
            '[[hub.deny]]\nfrom=["*"]\nto=["b"]\nboth_ways=true\nid="{}"',
            '[[hub.deny]]\nfrom=["b"]\nto=["c"]\npurposes=["control"]\nid="{}"',
        ),
        (
            '[[kme.allow]]\npeers=["a","b"]\nid="{}"',
            '[[kme.allow]]\npeers=["b"]\ndirection="to-peer"\nid="{}"',
        ),
        (
            '[[sae.allow]]\nlocal=["*"]\nremote=["*"]\nid="{}"',
            '[[sae.allow]]\nlocal=["vpn@*"]\nremote=["vpn@b"]\nrole="slave"\npurposes=["tls"]\nid="{}"',
        ),
        (
            '[[kme.limit]]\npeers=["*"]\nminimum_threshold=3\nindependence=["operator","hosting"]\nid="{}"',
            '[[kme.limit]]\npeers=["a"]\nminimum_threshold=2\nindependence=["hosting"]\nid="{}"',
        ),
        (
            '[[hub.pair_quota]]\nfrom=["*"]\nto=["*"]\nbytes_burst=100\nid="{}"',
            '[[hub.pair_quota]]\nfrom=["a"]\nto=["*"]\nbytes_burst=200\nid="{}"',
        ),
        (
            '[[hub.total_quota]]\nto=["*"]\nbytes_burst=100\nid="{}"',
            '[[hub.total_quota]]\nto=["a"]\nbytes_burst=100\nid="{}"',
        ),
        (
            '[[sae.limit]]\nlocal=["*"]\nremote=["*"]\nslaves_max=2\nid="{}"',
            '[[sae.limit]]\nlocal=["*"]\nremote=["*"]\nslaves_max=3\nrole="master"\nid="{}"',
        ),
        (
            '[[operator.allow]]\nusers=["*"]\nunix_groups=["*"]\ncommands=["*"]\nid="{}"',
            '[[operator.allow]]\nusers=["a"]\nunix_groups=["b"]\nroles=["viewer"]\nid="{}"',
        ),
        (
            '[[kme.bench]]\npeers=["*"]\nwrong_shares=2\nseconds=90\nid="{}"',
            '[[kme.bench]]\npeers=["a"]\nhubs=["hub-1"]\nwrong_shares=3\nseconds=60\nid="{}"',
        ),
        (
            '[[operator.dual]]\ncommands=["*"]\npending_seconds_max=60\nid="{}"',
            '[[operator.dual]]\ncommands=["reload"]\npending_seconds_max=90\nid="{}"',
        ),
    ],
)
def test_rule_of_which_another_decides_all_is_redundant_wherever_it_stands(first: str, second: str) -> None:
    table = first.split("]]", maxsplit=1)[0].removeprefix("[[")
    wide, narrow = first.format("wide"), second.format("narrow")
    for text in (f"{wide}\n{narrow}", f"{narrow}\n{wide}"):
        assert odd(text) == [("redundant", f"{table}.narrow")]


def test_the_later_of_two_rules_that_say_the_same_is_redundant() -> None:
    rule = '[[kme.allow]]\npeers = ["a"]\nid = "{}"\n'
    assert texts(rule.format("one") + rule.format("two")) == [
        "5: it changes nothing: kme.allow.one (line 2) says the same"
    ]


def test_rules_that_share_some_of_what_they_match_are_not_redundant() -> None:
    assert odd('[[kme.allow]]\npeers = ["a*"]\n[[kme.allow]]\npeers = ["*b"]') == []
    assert (
        odd('[[hub.allow]]\nfrom=["a"]\nto=["b"]\nboth_ways=true\n[[hub.allow]]\nfrom=["a","c"]\nto=["b"]')
        == []
    )
    stricter = '[[kme.limit]]\npeers=["*"]\nkey_bytes_max=64\n[[kme.limit]]\npeers=["a"]\nkey_bytes_max=32'
    assert odd(stricter) == []
    apart = '[[kme.limit]]\npeers=["*"]\nkey_bytes_max=32\n[[kme.limit]]\npeers=["a"]\nbatch_keys_max=32'
    assert odd(apart) == []


def test_limit_that_states_nothing_is_redundant() -> None:
    assert texts('[[kme.limit]]\npeers = ["*"]') == ["2: it states no limit"]


def test_allow_that_a_deny_covers_is_contradicted_and_named_with_it() -> None:
    text = """
        [[sae.allow]]
        id = "vpn"
        local = ["vpn@*"]
        remote = ["vpn@site-13"]
        [[sae.deny]]
        id = "stolen"
        local = ["*"]
        remote = ["*@site-13"]
        """
    assert texts(text) == ["3: it never allows anything: sae.deny.stolen (line 7) denies all of it"]
    assert review(policy(text).policy)[0].severity is Severity.WARNING


def test_limits_that_no_key_can_meet_are_an_error() -> None:
    text = """
        [[kme.limit]]
        id = "long"
        peers = ["*"]
        key_bytes_min = 64
        [[kme.limit]]
        id = "short"
        peers = ["a"]
        key_bytes_max = 32
        [[sae.limit]]
        id = "never"
        local = ["*"]
        remote = ["*"]
        key_bytes_min = 33
        key_bytes_max = 32
        """
    assert texts(text) == [
        "7: no key is of at least 64 and at most 32 bytes together with kme.limit.long (line 3)",
        "11: no key is of at least 33 and at most 32 bytes",
    ]
    assert {one.severity for one in review(policy(text).policy)} == {Severity.ERROR}
    assert odd('[[kme.limit]]\npeers = ["*"]\nkey_bytes_min = 32\nkey_bytes_max = 32') == []


def test_conflict_of_two_other_limits_is_not_blamed_on_a_third() -> None:
    text = """
        [[kme.limit]]
        id = "long"
        peers = ["a*"]
        key_bytes_min = 64
        [[kme.limit]]
        id = "short"
        peers = ["*"]
        key_bytes_max = 32
        [[kme.limit]]
        id = "third"
        peers = ["ab"]
        batch_keys_max = 5
        """
    assert odd(text) == [("never-met", "kme.limit.long")]


def test_quota_that_lets_nothing_pass_is_an_error() -> None:
    assert odd('[[hub.total_quota]]\nid = "none"\nto = ["a"]\nrequests_burst = 0') == [
        ("never-met", "hub.total_quota.none")
    ]


def test_limits_beyond_the_realm_are_an_error() -> None:
    text = """
        [[kme.limit]]
        id = "k"
        peers = ["site-*"]
        minimum_threshold = 4
        minimum_effective_threshold = 2
        [[kme.limit]]
        id = "fine"
        peers = ["other"]
        direction = "from-peer"
        minimum_effective_threshold = 1
        [[kme.limit]]
        id = "other"
        peers = ["other"]
        minimum_claim = "hybrid"
        """
    realm = make_realm(5, 3, operators="aaabc")
    assert texts(text, Known(realm=realm)) == [
        "3: the threshold of testbed is 3, so nothing is established",
        "3: while all hubs of testbed are up, operator a suffice for 3 of them",
    ]
    assert odd(text, Known(realm=make_realm(5, 4, operators="abcde"))) == []


def test_rules_that_can_match_nothing_are_named() -> None:
    text = """
        [groups]
        none = []
        [[kme.allow]]
        id = "empty"
        peers = ["@none"]
        [[hub.allow]]
        id = "itself"
        from = ["a"]
        to = ["a"]
        [[hub.allow]]
        id = "among"
        from = ["b*"]
        to = ["b*"]
        """
    assert odd(text) == [
        ("never-matches", "kme.allow.empty"),
        ("never-matches", "hub.allow.itself"),
    ]


def test_rules_about_other_kmes_saes_never_match_at_this_one() -> None:
    text = """
        [[kme.allow]]
        id = "own"
        peers = ["north"]
        [[kme.allow]]
        id = "some"
        peers = ["north", "south"]
        direction = "to-peer"
        [[sae.allow]]
        id = "foreign"
        local = ["app@south"]
        remote = ["*"]
        [[sae.limit]]
        id = "home"
        local = ["app@north"]
        remote = ["web@north"]
        slaves_max = 1
        [[sae.allow]]
        id = "right"
        local = ["app@n*", "x@south"]
        remote = ["app@*"]
        """
    assert odd(text, NORTH) == [
        ("never-matches", "kme.allow.own"),
        ("never-matches", "sae.allow.foreign"),
        ("never-matches", "sae.limit.home"),
    ]


def test_names_that_nobody_has_are_named_with_the_nearest_that_somebody_has() -> None:
    text = """
        [[hub.allow]]
        id = "a"
        from = ["site-*", "lab-*"]
        to = ["center"]
        [[hub.total_quota]]
        id = "q"
        to = ["site-2"]
        bytes_burst = 9
        [[hub.pair_quota]]
        id = "r"
        from = ["site-1"]
        to = ["site-2"]
        bytes_burst = 9
        [[operator.allow]]
        id = "o"
        users = ["anna"]
        roles = ["viewer"]
        [[kme.allow]]
        id = "p"
        peers = ["qwertyuiop"]
        [[sae.allow]]
        id = "s"
        local = ["*"]
        remote = ["vpn@site-1", "vpn@site-22"]
        """
    assert texts(text, KMES) == [
        '3: no KME center is known; did you mean "centre"?',
        "3: no KME that is known has a name like lab-*",
        "20: no KME qwertyuiop is known",
        '23: no KME site-22 is known; did you mean "site-2"?',
    ]
    assert odd(text) == []


def test_rules_that_this_kind_of_daemon_does_not_read_are_noted_once() -> None:
    text = '[[kme.allow]]\npeers = ["a"]\n[[kme.deny]]\npeers = ["b"]\n[[hub.allow]]\nfrom=["a"]\nto=["b"]'
    assert [one[0] for one in odd(text, Known(place=Place.HUB))] == ["wrong-place"]
    assert texts(text, Known(place=Place.KME)) == ["6: a KME reads no rules of hub; there are 1"]
    assert texts(text, Known(place=Place.HUB)) == ["2: a hub reads no rules of kme; there are 2"]


def test_own_role_of_operators_decides_nothing_by_itself_and_is_no_oddity() -> None:
    text = """
        [[operator.role]]
        id = "keeper"
        commands = ["reload"]
        [[operator.allow]]
        id = "a"
        users = ["*"]
        roles = ["keeper"]
        [[operator.deny]]
        id = "b"
        users = ["ben"]
        commands = ["*"]
        [[operator.dual]]
        id = "c"
        commands = ["reload"]
        """
    assert odd(text) == []


def test_groups_and_aliases_that_nothing_uses_are_noted() -> None:
    text = """
        [groups]
        inner = ["a"]
        outer = ["@inner"]
        saes = ["vpn@@outer"]
        idle = ["b"]
        [[sae.allow]]
        local = ["@saes"]
        remote = ["vpn@b"]
        [aliases]
        "used" = "vpn@b"
        "idle" = "web@b"
        """
    assert texts(text) == ["7: no rule refers to it", "13: no rule allows web@b anything"]


def test_very_many_rules_are_not_compared_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POLICY_COMPARISONS", 3)
    rule = '[[kme.allow]]\npeers = ["a"]\nid = "{}"\n'
    assert odd(rule.format("one") + rule.format("two")) == [("not-compared", "kme.allow.one")]


def test_every_oddity_has_a_word_of_its_own() -> None:
    assert len({one.value for one in Oddity}) == len(Oddity)


def test_benches_of_hubs_and_peers_that_nobody_has_are_remarked_on() -> None:
    text = """
        [[kme.bench]]
        id = "b"
        hubs = ["hub-1", "hub-*", "hubb-2", "far-*"]
        peers = ["site-1", "site-9"]
        wrong_shares = 3
        """
    assert texts(text) == []
    known = Known(kmes=KMES.kmes, realm=make_realm(3, 2))
    assert [one.partition(": ")[2] for one in texts(text, known)] == [
        'no KME site-9 is known; did you mean "site-1"?',
        "testbed has no hub far-*",
        'testbed has no hub hubb-2; did you mean "hub-2"?',
    ]


def test_bench_for_batches_with_oneself_never_matches() -> None:
    text = '[[kme.bench]]\nid = "b"\npeers = ["north"]\nwrong_shares = 3'
    assert odd(text, NORTH) == [("never-matches", "kme.bench.b")]
