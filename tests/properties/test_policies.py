"""Policies: order means nothing, a deny never allows, an allow never denies, and any bytes are answered."""

from __future__ import annotations

import itertools
import tomllib
import zlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skex.base import codes
from skex.base.errors import Refused
from skex.base.ids import HubName, KmeName, SaeId
from skex.policy import language
from skex.policy.decisions import Decision
from skex.policy.difference import compare
from skex.policy.evaluate import PolicySet
from skex.policy.operators import Operator, user_names
from skex.policy.positions import Lines
from skex.policy.review import Oddity, review
from skex.policy.rules import Direction, OperatorCommand
from skex.policy.starters import default_hub_policy, default_kme_policy
from skex.protocol.hub import Stream
from skex.wire.context import Purpose
from skex.wire.realm import HubAttributes

KMES = [KmeName(name) for name in ("centre", "site-1", "site-2", "other")]
SAES = [SaeId(f"{local}@{kme}") for local in ("vpn", "web") for kme in KMES[:3]]
OPERATORS = [
    Operator(user_names(1, "anna"), frozenset({"staff"})),
    Operator(user_names(2, "ben"), frozenset()),
    Operator(user_names(3, None), frozenset({"staff"})),
]
HUBS = [HubAttributes(name, "land", f"house {name}", f"admin {name}", "skex") for name in "aabcd"]
LABELS = ["any", "tls", "test-1"]
GROUPS = '[groups]\nbranch = ["site-*"]\nall = ["@branch", "centre"]\ngateways = ["vpn@@branch"]\n'

kme_names = st.lists(
    st.sampled_from(["*", "site-*", "site-1", "centre", "*e*", "@branch", "@all"]), min_size=1, max_size=2
)
sae_names = st.lists(
    st.sampled_from(["*", "vpn@*", "*@site-1", "*@@all", "web@@branch", "@gateways", "vpn@centre"]),
    min_size=1,
    max_size=2,
)


def listed(words: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


@st.composite
def verdicts(draw: st.DrawFn, verdict: str) -> str:
    """One allow or deny rule of any place."""
    place = draw(st.sampled_from(["hub", "kme", "sae", "operator"]))
    lines = [f"[[{place}.{verdict}]]"]
    if place == "hub":
        lines += [f"from = {listed(draw(kme_names))}", f"to = {listed(draw(kme_names))}"]
        lines += draw(st.sampled_from([[], ["both_ways = true"], ['purposes = ["control"]']]))
    elif place == "kme":
        lines.append(f"peers = {listed(draw(kme_names))}")
        lines += draw(st.sampled_from([[], ['direction = "to-peer"'], ['direction = "from-peer"']]))
    elif place == "operator":
        lines.append(
            draw(st.sampled_from(['users = ["anna", "b*"]', 'unix_groups = ["staff"]', 'users = ["*"]']))
        )
        lines.append(
            draw(st.sampled_from(['roles = ["operator"]', 'commands = ["*"]', 'commands = ["reload"]']))
        )
    else:
        lines += [f"local = {listed(draw(sae_names))}", f"remote = {listed(draw(sae_names))}"]
        lines += draw(st.sampled_from([[], ['role = "master"'], ['purposes = ["t*"]'], ['role = "slave"']]))
    if draw(st.booleans()):
        lines.append(f'id = "r{zlib.crc32("".join(lines).encode())}"')
    return "\n".join(lines) + "\n"


@st.composite
def amounts(draw: st.DrawFn) -> str:
    """One limit or quota."""
    number = draw(st.integers(1, 40))
    return draw(
        st.sampled_from(
            [
                f'[[hub.pair_quota]]\nfrom = ["site-*"]\nto = ["*"]\nbytes_burst = {number}\n',
                f'[[hub.total_quota]]\nto = ["centre"]\nrequests_per_second = {number}.5\n',
                f'[[kme.limit]]\npeers = ["*"]\nminimum_threshold = {number}\n',
                f'[[kme.limit]]\npeers = ["@branch"]\nbatch_keys_max = {number}\n',
                f'[[kme.limit]]\npeers = ["*"]\nminimum_effective_threshold = {number % 4 + 1}\n',
                '[[kme.limit]]\npeers = ["site-1"]\nindependence = ["operator", "hosting"]\n',
                f'[[kme.bench]]\nhubs = ["h*"]\npeers = ["*"]\nwrong_shares = {number}\nseconds = {number}\n',
                f'[[kme.bench]]\npeers = ["@branch"]\nwrong_shares = {number}\nmissing_in_a_row = 7\n',
                f'[[sae.limit]]\nlocal = ["*"]\nremote = ["*"]\nkeys_per_request_max = {number}\n',
            ]
        )
    )


rules = st.lists(st.one_of(verdicts("allow"), verdicts("allow"), verdicts("deny"), amounts()), max_size=8)


def compiled(parts: Sequence[str]) -> PolicySet:
    text = "version = 1\n" + "\n".join([*dict.fromkeys(parts), GROUPS])
    return PolicySet(language.parse(text.encode(), "policy.toml"))


def answers(policy: PolicySet) -> list[Decision]:
    """Every decision about a small world."""
    hub = [policy.hub.may_establish(a, b, purpose) for a in KMES for b in KMES for purpose in Purpose]
    ways = (Direction.TO_PEER, Direction.FROM_PEER)
    kme = [policy.kme.may_exchange(peer, way) for peer in KMES for way in ways]
    kme += [policy.kme.may_rest_on(peer, way, HUBS, 3) for peer in KMES for way in ways]
    pairs = [(here, there) for here in SAES[:2] for there in SAES[1:5]]
    new = [policy.sae.may_take_new(*pair, 10, 32, label) for pair in pairs for label in LABELS]
    by_id = [policy.sae.may_take_by_id(*pair, 10, label) for pair in pairs for label in [*LABELS, None]]
    assign = [policy.sae.may_assign(b, (a,), label, 60) for a, b in pairs for label in LABELS]
    operator = [policy.operator.may(one, command) for one in OPERATORS for command in OperatorCommand]
    return hub + kme + new + by_id + assign + operator


@given(rules.flatmap(lambda parts: st.tuples(st.just(parts), st.permutations(parts))))
def test_order_of_rules_changes_no_decision_and_not_the_rule_that_decides(
    orders: tuple[list[str], list[str]],
) -> None:
    first, second = compiled(orders[0]), compiled(orders[1])
    assert first.digest == second.digest
    assert answers(first) == answers(second)
    for stream in Stream:
        assert first.hub.total_quota(KMES[0], stream) == second.hub.total_quota(KMES[0], stream)
        for a, b in itertools.product(KMES, KMES):
            assert first.hub.pair_quota(a, b, stream) == second.hub.pair_quota(a, b, stream)
    for peer in KMES:
        bounds = [one.kme.bounds(peer, Direction.TO_PEER) for one in (first, second)]
        assert bounds[0] == bounds[1]
        floors = [one.kme.independence(peer, Direction.TO_PEER) for one in (first, second)]
        assert floors[0] == floors[1]
        benches = [one.kme.bench(HubName("hub-1"), peer) for one in (first, second)]
        assert benches[0] == benches[1]


@given(rules, verdicts("deny"))
def test_another_deny_never_allows_more(parts: list[str], deny: str) -> None:
    before, after = answers(compiled(parts)), answers(compiled([*parts, deny]))
    assert [new for old, new in zip(before, after, strict=True) if new.allowed and not old.allowed] == []


@given(rules, verdicts("allow"))
def test_another_allow_never_denies_more(parts: list[str], allow: str) -> None:
    before, after = answers(compiled(parts)), answers(compiled([*parts, allow]))
    assert [new for old, new in zip(before, after, strict=True) if old.allowed and not new.allowed] == []


@given(rules, amounts())
def test_another_limit_never_allows_more(parts: list[str], limit: str) -> None:
    before, after = answers(compiled(parts)), answers(compiled([*parts, limit]))
    assert [new for old, new in zip(before, after, strict=True) if new.allowed and not old.allowed] == []


@given(st.lists(st.one_of(verdicts("deny"), amounts()), max_size=5))
def test_policy_without_an_allow_allows_nothing(parts: list[str]) -> None:
    assert not any(decision.allowed for decision in answers(compiled(parts)))


@given(rules)
def test_every_decision_names_a_rule_of_the_policy_or_the_default(parts: list[str]) -> None:
    policy = compiled(parts)
    known = {rule.id for rule in policy.policy.rules} | {"default"}
    for decision in answers(policy):
        assert decision.rule in known
        assert decision.reason
        assert decision.rule != "default" or not decision.allowed


@given(rules)
def test_rendered_policy_is_the_same_policy(parts: list[str]) -> None:
    policy = compiled(parts).policy
    text = language.render(policy)
    again = language.parse(text.encode(), "rendered")
    assert again == policy
    assert language.render(again) == text


@given(rules)
def test_rule_that_is_called_superfluous_changes_no_decision_when_it_is_gone(parts: list[str]) -> None:
    policy = compiled(parts).policy
    superfluous = {Oddity.REDUNDANT, Oddity.CONTRADICTED}
    gone = {(one.about, one.line) for one in review(policy) if one.oddity in superfluous}
    for gone_one in gone:
        left = tuple(one for one in policy.rules if (one.id, one.line) != gone_one)
        less = PolicySet(replace(policy, rules=left))
        before = [decision.allowed for decision in answers(PolicySet(policy))]
        assert [decision.allowed for decision in answers(less)] == before


@given(rules, rules)
def test_policies_differ_by_meaning_exactly_where_a_decision_does(old: list[str], new: list[str]) -> None:
    one, other = compiled(old), compiled(new)
    compared = compare(one, other, KMES)
    assert compared.complete
    differ = [a.allowed != b.allowed for a, b in zip(answers(one), answers(other), strict=True)]
    changes = {difference.change for difference in compared.differences}
    if any(differ):
        assert changes
    back = compare(other, one, KMES)
    assert len(back.differences) == 0 or changes
    assert compare(one, one, KMES).differences == ()
    for difference in compared.differences:
        assert difference.before != difference.after


FRAGMENTS = [
    *("version = 1\n", "[", "]", "{", "}", '"', "'", '"""', "'''", "=", ",", ".", "#", "\n", "\\", "\r\n"),
    *("[groups]\n", "[hub]\n", "[[hub.allow]]\n", "[[kme.limit]]\n", "[[sae.allow]]\n", "[aliases]\n"),
    *('from = ["a"]\n', "to = [\n", '"@x"', "x@y", "nan", "1e9", "-1", "2024-01-01", "true", "b = ", "é"),
]


@given(
    st.one_of(
        st.binary(max_size=200), st.lists(st.sampled_from(FRAGMENTS)).map(lambda p: "".join(p).encode())
    )
)
def test_any_bytes_are_a_policy_or_a_refusal_with_a_code(data: bytes) -> None:
    problems = language.problems_in(data)
    if not problems:
        assert PolicySet(language.parse(data, "policy.toml")).digest
        return
    with pytest.raises(Refused) as error:
        language.parse(data, "policy.toml")
    assert error.value.code in {codes.POLICY_SYNTAX, codes.POLICY_INVALID}
    assert error.value.detail.isprintable()
    assert len(error.value.detail) < 20_000


toml_values = st.recursive(
    st.one_of(
        st.integers(), st.floats(), st.booleans(), st.text(max_size=5), st.dates(), st.sampled_from(KMES)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def written(value: object) -> str:
    """A value in TOML, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(one):08x}" for one in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(written(one) for one in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)} = {written(one)}" for key, one in value.items()) + "}"
    return str(value)


KEYS = ["version", "groups", "aliases", "hub", "kme", "sae", "operator", "a", "a b"]


@given(st.dictionaries(st.sampled_from(KEYS), toml_values))
def test_values_of_any_shape_are_refused_on_the_line_of_their_key(table: dict[str, object]) -> None:
    lines = [f'"{key}" = {written(value)}' for key, value in table.items()]
    text = "\n".join(lines)
    assert set(tomllib.loads(text)) == set(table)
    found = Lines(text)
    for number, key in enumerate(table, 1):
        assert found[key,] == number
    for problem in language.problems_in(text.encode()):
        assert 1 <= problem.line <= max(1, len(lines))


@given(rules)
def test_rules_keep_the_line_of_their_header(parts: list[str]) -> None:
    text = "version = 1\n" + "\n".join([*dict.fromkeys(parts), GROUPS])
    lines = text.split("\n")
    for rule in language.parse(text.encode(), "policy.toml").rules:
        assert lines[rule.line - 1] == f"[[{rule.table}]]"


@given(st.lists(st.sampled_from(KMES), max_size=3), st.lists(st.sampled_from(SAES), max_size=3))
def test_starters_for_any_names_are_sound(kmes: list[KmeName], saes: list[SaeId]) -> None:
    assert language.problems_in(default_hub_policy(kmes).encode()) == ()
    assert language.problems_in(default_kme_policy(kmes, saes, saes).encode()) == ()
