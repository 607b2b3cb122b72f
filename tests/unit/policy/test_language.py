"""A mistake in a policy is named with its key, its line and the right spelling; nothing is half read."""

from __future__ import annotations

import pytest

from skex.base import codes, limits
from skex.base.errors import Refused
from skex.policy import language, schema
from skex.policy.language import Problem
from skex.policy.rules import HubRule, Policy
from skex.wire.context import Purpose

ALLOW = '[[hub.allow]]\nfrom = ["a"]\nto = ["b"]\n'
SAE = '[[sae.allow]]\nlocal = ["vpn@*"]\nremote = ["*"]\n'


def read(text: str) -> Policy:
    return language.parse(f"version = 1\n{text}".encode(), "policy.toml")


def problems(text: str) -> list[str]:
    return [str(problem) for problem in language.problems_in(text.encode())]


def test_empty_policy_has_no_rules_and_every_default() -> None:
    assert read("") == Policy(limits.CONTROL_FLOOR_BYTES)


def test_rule_is_read_with_its_defaults_and_its_line() -> None:
    (rule,) = read(ALLOW).rules
    assert isinstance(rule, HubRule)
    assert (rule.from_, rule.to, rule.both_ways) == (frozenset("a"), frozenset("b"), False)
    assert rule.purposes == frozenset(Purpose)
    assert rule.line == 2


def test_unnamed_rule_is_named_by_what_it_says_and_not_by_where_it_stands() -> None:
    (moved,) = read("\n\n# moved\n" + ALLOW.replace('["a"]', '["a", "a"]')).rules
    (rule,) = read(ALLOW).rules
    (other,) = read(ALLOW.replace('"b"', '"c"')).rules
    assert moved == rule
    assert moved.line != rule.line
    assert rule.id.startswith("hub.allow#")
    assert other.id != rule.id


def test_named_rule_keeps_its_name_whatever_it_says() -> None:
    (rule,) = read(ALLOW + 'id = "branches"\n').rules
    assert rule.id == "hub.allow.branches"


def test_allow_and_deny_that_say_the_same_have_different_ids() -> None:
    first, second = read(ALLOW + ALLOW.replace("allow", "deny")).rules
    assert first.id.partition("#")[2] != second.id.partition("#")[2]


def test_control_floor_is_read() -> None:
    assert read("[hub]\ncontrol_floor_bytes = 200_000").control_floor_bytes == 200_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: version is missing: write 'version = 1' on the first line"),
        ("version = 2", "line 1: version: this skex reads version 1, not 2"),
        ("version = true", "line 1: version: this skex reads version 1, not true"),
        ("version = 1.0", "line 1: version: this skex reads version 1, not 1.0"),
        (
            'version = 1\n[[kme.bench]]\nhubs = ["@far"]\npeers = ["*"]\nwrong_shares = 1',
            (
                "line 3: kme.bench[1].hubs[1]: '@far': hubs are in no group: write their names, with '*'"
                " in them where it helps"
            ),
        ),
        (
            'version = 1\n[[kme.bench]]\npeers = ["*"]\nwrong_shares = 0',
            "line 4: kme.bench[1].wrong_shares: must be an integer from 1 to 100, not 0",
        ),
        ("version = 1\nhubs = 1", 'line 2: hubs: unknown key; did you mean "hub"?'),
        (
            "version = 1\nzzzzzzzz = 1",
            "line 2: zzzzzzzz: unknown key; known here: version, groups, aliases, hub, kme, sae, operator",
        ),
        ("version = 1\n[sae.alow]", 'line 2: sae.alow: unknown key; did you mean "allow"?'),
        ("version = 1\nhub = 3", "line 2: hub: must be a table, not 3"),
        ("version = 1\ngroups = []", "line 2: groups: must be a table, not a list"),
        (
            "version = 1\n[hub.allow]\nx = 1",
            "line 2: hub.allow: every rule starts with [[hub.allow]], in two brackets",
        ),
        (
            "version = 1\n[hub]\nallow = [\n1]",
            "line 4: hub.allow[1]: must be a table that starts with [[hub.allow]]",
        ),
        (
            "version = 1\n[hub]\ncontrol_floor_bytes = 1",
            "line 3: hub.control_floor_bytes: must be an integer from 49152 to 2^53, not 1",
        ),
        (
            "version = 1\n" + ALLOW + "both_ways = 1",
            "line 5: hub.allow[1].both_ways: must be true or false, not 1",
        ),
        (
            "version = 1\n" + ALLOW + 'purposes = ["trafic"]',
            (
                'line 5: hub.allow[1].purposes[1]: must be "control" or "traffic", not \'trafic\';'
                ' did you mean "traffic"?'
            ),
        ),
        (
            "version = 1\n" + ALLOW + "purposes = []",
            "line 5: hub.allow[1].purposes: an empty list matches nothing; leave the rule out",
        ),
        (
            "version = 1\n" + ALLOW + 'id = "My Rule"',
            "line 5: hub.allow[1].id: 'My Rule': names are lower-case letters, digits, '.', '_' and '-'",
        ),
        ("version = 1\n" + ALLOW + "id = 1", "line 5: hub.allow[1].id: must be a name, not 1"),
        (
            'version = 1\n[[hub.allow]]\nfrom = "a"\nto = ["b"]',
            (
                'line 3: hub.allow[1].from: must be a list of KME names, "*" in names, and "@groups",'
                " not 'a': write it in brackets"
            ),
        ),
        (
            'version = 1\n[[hub.allow]]\nfrom = 2024-01-01\nto = ["b"]',
            (
                'line 3: hub.allow[1].from: must be a list of KME names, "*" in names, and "@groups",'
                " not a date or a time"
            ),
        ),
        (
            'version = 1\n[[hub.allow]]\nfrom = ["a",\n{}]\nto = ["b"]',
            "line 4: hub.allow[1].from[2]: must be a KME name, not a table",
        ),
        (
            'version = 1\n[[kme.allow]]\ndirection = "both"',
            'line 2: kme.allow[1]: "peers" is missing: The other KMEs.',
        ),
        (
            'version = 1\n[[hub.total_quota]]\nto = ["*"]\nbytes_per_second = inf',
            (
                "line 4: hub.total_quota[1].bytes_per_second: must be a number from 0 to 2^53,"
                " not a number beyond all bounds"
            ),
        ),
        (
            'version = 1\n[[hub.total_quota]]\nto = ["*"]\nbytes_per_second = nan',
            (
                "line 4: hub.total_quota[1].bytes_per_second: must be a number from 0 to 2^53,"
                " not a number beyond all bounds"
            ),
        ),
        (
            'version = 1\n[[hub.total_quota]]\nto = ["*"]\nbytes_burst = 0x' + "f" * 5000,
            (
                "line 4: hub.total_quota[1].bytes_burst: must be an integer from 0 to 2^53,"
                " not a number beyond all bounds"
            ),
        ),
        (
            'version = 1\n[[kme.limit]]\npeers = ["*"]\nminimum_claim = "informationtheoretic"',
            (
                'line 4: kme.limit[1].minimum_claim: must be "computational" or "hybrid" or'
                " \"information-theoretic\", not 'informationtheoretic';"
                ' did you mean "information-theoretic"?'
            ),
        ),
        (
            "version = 1\n" + SAE + 'purposes = ["\\u00e9"]',
            "line 5: sae.allow[1].purposes[1]: '\\xe9': labels are 1 to 32 printable ASCII characters",
        ),
        (
            "version = 1\n" + SAE.replace("vpn@*", "vpn"),
            (
                "line 3: sae.allow[1].local[1]: 'vpn': SAE ids are name@kme:"
                " write 'vpn@*' for this name at every KME"
            ),
        ),
        (
            'version = 1\n[aliases]\nold = "vpn"',
            "line 3: aliases.old: must be an SAE id, name@kme, not 'vpn'",
        ),
        ("version = 1\n[aliases]\nold = 7", "line 3: aliases.old: must be an SAE id, name@kme, not 7"),
        (
            'version = 1\n[aliases]\n"o l" = "vpn@a"',
            (
                'line 3: aliases."o l": aliases are 1 to 128 printable ASCII characters,'
                " without space, '@' and '/'"
            ),
        ),
        (
            'version = 1\n[groups]\n"B" = []',
            "line 3: groups.B: names of groups are lower-case letters, digits, '.', '_' and '-'",
        ),
        ("version = 1\n[groups]\nb = 1", "line 3: groups.b: must be a list of names, not 1"),
        ("version = 1\n[groups]\nb = [\n1]", "line 4: groups.b[1]: must be a name, not 1"),
        (
            'version = 1\n[groups]\nb = ["vpn@"]',
            (
                "line 3: groups.b[1]: 'vpn@': names are lower-case letters, digits, '.', '_' and '-',"
                " at most 63 characters; '*' stands for any"
            ),
        ),
        (
            'version = 1\n[groups]\nbranch = ["a"]\ncore = ["@branhc"]',
            "line 4: groups.core: there is no group 'branhc'; did you mean \"branch\"?",
        ),
        ('version = 1\n[groups]\nb = ["@b"]', "line 3: groups.b: the group contains itself"),
        (
            'version = 1\n[groups]\nb = ["a", "x@a"]',
            "line 3: groups.b: KME names and SAE ids in one group",
        ),
        (
            'version = 1\n[groups]\ns = ["x@a"]\nt = ["y@@s"]',
            "line 4: groups.t: group 's' holds SAE ids already; write '@s'",
        ),
        (
            "version = 1\n" + ALLOW.replace('"b"', '"@b"'),
            "line 4: hub.allow[1].to: there is no group 'b'; define it under [groups]",
        ),
        (
            'version = 1\n[groups]\ns = ["x@a"]\n' + ALLOW.replace('"b"', '"@s"'),
            "line 6: hub.allow[1].to: group 's' holds SAE ids",
        ),
        (
            'version = 1\n[groups]\nb = ["a"]\n' + SAE.replace("vpn@*", "@b"),
            "line 5: sae.allow[1].local: group 'b' holds KME names; '*@@b' stands for all their SAEs",
        ),
        (
            "version = 1\n" + ALLOW + 'id = "x"\n' + ALLOW + 'id = "x"\n',
            "line 6: hub.allow: a second rule named 'x'",
        ),
        (
            'version = 1\n[[operator.role]]\ncommands = ["status"]',
            'line 2: operator.role[1]: "id" is missing: what rules call the role by',
        ),
        (
            'version = 1\n[[operator.role]]\nid = "viewer"\ncommands = ["status"]',
            'line 2: operator.role[1]: "viewer" is a role that every policy has; take another name',
        ),
        (
            'version = 1\n[[operator.allow]]\nroles = ["viewer"]',
            'line 2: operator.allow[1]: says for nobody: state "users" or "unix_groups"',
        ),
        (
            'version = 1\n[[operator.deny]]\nusers = ["anna"]',
            'line 2: operator.deny[1]: says nothing: state "roles" or "commands"',
        ),
        (
            'version = 1\n[[operator.allow]]\nusers = ["anna"]\nroles = ["viewr"]',
            "line 2: operator.allow.roles: there is no role 'viewr'; did you mean \"viewer\"?",
        ),
        (
            'version = 1\n[[operator.allow]]\nusers = ["anna"]\nroles = ["clerk"]',
            "line 2: operator.allow.roles: there is no role 'clerk'; define it with [[operator.role]]",
        ),
        (
            'version = 1\n[[operator.dual]]\ncommands = ["status"]',
            (
                'line 3: operator.dual[1].commands[1]: must be "*" or "reload" or "reserve" or "bench"'
                ' or "kit-create" or "kit-import" or "realm-update" or "key-revoke", not \'status\''
            ),
        ),
        (
            'version = 1\n[[operator.allow]]\nusers = ["@staff"]\nroles = ["viewer"]',
            (
                "line 3: operator.allow[1].users[1]: '@staff': users and groups are 1 to 63 printable ASCII"
                " characters without space, '@', ':', ',' and '/'; write uid-NUMBER or gid-NUMBER for others"
            ),
        ),
    ],
)
def test_mistake_is_named_with_key_line_and_right_spelling(text: str, expected: str) -> None:
    assert problems(text) == [expected]
    with pytest.raises(Refused) as error:
        language.parse(text.encode(), "policy.toml")
    assert error.value.code is codes.POLICY_INVALID
    assert error.value.detail == f"policy.toml: {expected}"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"version = 1\nx = \n", "line 2: Invalid value"),
        (b"version = 1\n\xff", "line 2: not UTF-8 text"),
        (b"x = [\n", "line 2: Invalid value at the end of the file"),
        (b"x = " + b"9" * 5000, "line 1: Exceeds the limit"),
        (b"x = 1\n" + b"a." * 5000 + b"a = 1", "line 2: a key of more parts than any has"),
        (b"x = " + b"[" * 5000, "line 1: nested too deeply"),
        (b" " * (limits.POLICY_FILE_BYTES + 1), "line 1: 262145 bytes; at most 262144 are read"),
    ],
)
def test_text_that_is_no_toml_is_refused_with_its_line(data: bytes, expected: str) -> None:
    (problem,) = language.problems_in(data)
    assert str(problem).startswith(expected)
    with pytest.raises(Refused) as error:
        language.parse(data, "policy.toml")
    assert error.value.code is codes.POLICY_SYNTAX
    assert error.value.detail.startswith(f"policy.toml: {expected}")


def test_all_mistakes_are_named_at_once_in_the_order_of_their_lines() -> None:
    text = "version = 1\n" + ALLOW.replace('"b"', '"B"') + "\n[groups]\nx = 1\n"
    assert [int(one.split(":")[0].split()[1]) for one in problems(text)] == [4, 7]


def test_mistakes_beyond_the_bound_are_left_off() -> None:
    text = "version = 1\n" + "".join(f"key{number} = 1\n" for number in range(100))
    assert len(problems(text)) == limits.POLICY_PROBLEMS


def test_dots_in_names_and_comments_are_no_keys_of_many_parts() -> None:
    names = ", ".join(f'"site-{number}.example.net"' for number in range(50))
    assert problems(f"version = 1\n{'#' + '.' * 100}\n[[kme.allow]]\npeers = [{names}] # {'.' * 100}\n") == []


def test_rule_with_a_group_in_which_something_is_wrong_adds_no_second_problem() -> None:
    text = 'version = 1\n[groups]\nb = [1]\nc = ["@b"]\n' + ALLOW.replace('"b"', '"@b", "@c"')
    assert problems(text) == ["line 3: groups.b[1]: must be a name, not 1"]


def test_groups_deeper_than_the_bound_are_refused_in_whatever_order_they_stand() -> None:
    chain = [f'g{number} = ["@g{number + 1}"]\n' for number in range(limits.POLICY_GROUP_DEPTH)]
    bottom = f"g{limits.POLICY_GROUP_DEPTH}"
    for lines in (chain, chain[::-1]):
        text = "".join(["version = 1\n[groups]\n", *lines, f'{bottom} = ["a"]\n'])
        assert any("deep" in one for one in problems(text))
        assert problems(text.replace('g0 = ["@g1"]\n', "")) == []


def test_depth_is_refused_where_the_groups_below_were_opened_before() -> None:
    chain = "".join(f'a{number} = ["@a{number - 1}"]\n' for number in range(1, limits.POLICY_GROUP_DEPTH))
    text = f'version = 1\n[groups]\na0 = ["x"]\n{chain}z = ["@a{limits.POLICY_GROUP_DEPTH - 1}"]\n'
    assert any("deep" in one for one in problems(text))


def test_groups_that_would_fill_the_memory_are_refused() -> None:
    big = ", ".join(f'"n{number}"' for number in range(5000))
    more = "".join(f'g{number} = ["@big"]\n' for number in range(100))
    text = f"version = 1\n[groups]\nbig = [{big}]\n{more}"
    assert any("once all groups are opened" in one for one in problems(text))
    rules = "".join(f'[[kme.allow]]\npeers = ["@big", "x{number}"]\n' for number in range(100))
    assert any(
        "once all groups are opened" in one
        for one in problems(f"version = 1\n{rules}[groups]\nbig = [{big}]\n")
    )


def test_dotted_path_counts_from_one_and_quotes_what_must_be_quoted() -> None:
    assert language.dotted(("hub", "allow", 0, 'a"b', 1)) == 'hub.allow[1]."a"b"[2]'
    assert str(Problem(1, "", "text")) == "line 1: text"


def test_key_of_any_length_is_shortened_in_messages() -> None:
    (problem,) = problems(f"version = 1\n{'k' * 10_000} = 1\n")
    assert len(problem) < 250


FULL = """
[hub]
control_floor_bytes = 150_000
[groups]
branch = ["site-*", "@core"]
core = ["hq"]
gateways = ["vpn@@branch", "*@hq"]
empty = []
[aliases]
'SAE"\\\\x' = "vpn@site-7"
[[hub.allow]]
id = "one"
from = ["@branch"]
to = ["*"]
both_ways = true
purposes = ["control"]
[[hub.deny]]
from = ["site-13"]
to = ["*"]
[[hub.pair_quota]]
from = ["*"]
to = ["hq"]
stream = "peer-messages"
bytes_per_second = 0.5
requests_burst = 10
[[hub.total_quota]]
to = ["@empty"]
bytes_burst = 0
[[kme.allow]]
peers = ["@branch"]
direction = "to-peer"
[[kme.deny]]
peers = ["site-13"]
[[kme.limit]]
peers = ["*"]
minimum_claim = "information-theoretic"
stored_bytes_max = 0
[[kme.bench]]
hubs = ["hub-*", "h1"]
peers = ["@branch"]
wrong_shares = 2
missing_in_a_row = 9
seconds = 60
[[sae.allow]]
local = ["@gateways"]
remote = ["@gateways", "tls@*"]
role = "slave"
purposes = ["\\"\\\\ *", "any"]
[[sae.deny]]
local = ["*"]
remote = ["@empty"]
[[sae.limit]]
local = ["*"]
remote = ["*"]
slaves_max = 1
[[operator.role]]
id = "clerk"
commands = ["status", "kit-create"]
[[operator.allow]]
id = "clerks"
users = ["anna", "uid-41001"]
roles = ["clerk", "viewer"]
[[operator.deny]]
unix_groups = ["contractors", "gid-7*"]
commands = ["*"]
[[operator.dual]]
commands = ["kit-create", "reload"]
pending_seconds_max = 3600
"""


def test_rendered_policy_reads_as_the_same_policy_and_renders_alike() -> None:
    policy = read(FULL)
    assert {rule.table for rule in policy.rules} == set(schema.TABLES)
    text = language.render(policy)
    again = language.parse(text.encode(), "rendered")
    assert again == policy
    assert language.render(again) == text


def test_digest_names_the_policy_and_not_its_spelling() -> None:
    policy = read(FULL)
    assert language.digest(policy) == language.digest(read("# comment\n" + FULL.replace("150_000", "150000")))
    assert language.digest(policy) != language.digest(read(FULL.replace("150_000", "150001")))
    assert len(language.digest(policy)) == 128
