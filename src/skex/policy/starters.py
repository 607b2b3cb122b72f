"""Policies to begin with, as text that teaches: nothing is allowed until somebody says so."""

from __future__ import annotations

from collections.abc import Sequence

from skex.base.ids import KmeName, SaeId
from skex.policy.wording import quoted

_HEAD = """\
# Who may have which key. Nothing is allowed that no rule allows; a deny overrides every allow;
# the order of rules has no meaning. "*" in a name stands for any characters, "@group" for a group.
# Every key, with its default: docs/policy.md.
version = 1
"""

_HUB = """
# Groups make rules short: [groups] takes KME names, patterns and other groups.
#
# [groups]
# branch = ["site-*"]

# Which KME may establish keys with which. Batches go from the KME whose applications ask for new
# keys to the KME whose applications take the same keys by their ids.
#
# [[hub.allow]]
# id = "branches-and-centre"
# from = ["@branch"]
# to = ["centre"]
# both_ways = true
#
# [[hub.deny]]
# id = "stolen"
# from = ["site-13"]
# to = ["*"]
# both_ways = true
"""

_HUB_QUOTAS = """
# What one sender may draw on one receiver's pad here, and what all senders together may. Of several
# quotas for the same two the strictest counts; a number that no quota states has its default.
[[hub.pair_quota]]
id = "each-pair"
from = ["*"]
to = ["*"]
stream = "shares"
bytes_per_second = 1_048_576
bytes_burst = 67_108_864

[[hub.total_quota]]
id = "each-receiver"
to = ["*"]
stream = "shares"
bytes_per_second = 16_777_216
bytes_burst = 268_435_456
"""

_KME = """
# Which KMEs this one establishes keys with: "to-peer" for keys that applications here ask for,
# "from-peer" for keys that the peer's applications ask for.
#
# [[kme.allow]]
# peers = ["site-*"]
# direction = "both"

# Which applications here (SAEs, name@kme) may share keys with which elsewhere. A "master" asks for
# new keys, a "slave" takes them by their ids.
#
# [[sae.allow]]
# local = ["vpn@*"]
# remote = ["vpn@site-*"]
# role = "both"
# purposes = ["*"]

# Bare names that old applications use, and the SAEs that they mean.
#
# [aliases]
# "SAE_0815" = "vpn@site-7"
"""

_KME_LIMITS = """
# What keys must be. Of several limits for one peer the strictest counts; what no limit states has
# its default.
[[kme.limit]]
id = "everyone"
peers = ["*"]
minimum_threshold = 2
minimum_claim = "computational"
lifetime_seconds_max = 604_800

# A hub that brings wrong shares of a peer's batches is used last for batches with that peer, for a while.
[[kme.bench]]
id = "every-hub"
hubs = ["*"]
peers = ["*"]
wrong_shares = 3
missing_in_a_row = 50
seconds = 3600

[[sae.limit]]
id = "everyone"
local = ["*"]
remote = ["*"]
keys_per_request_max = 128
"""


def default_hub_policy(kmes: Sequence[KmeName] = ()) -> str:
    """A hub's ``policy.toml``; it lets ``kmes`` establish keys with each other, and nobody else."""
    allow = _rule("hub.allow", ("from", kmes), ("to", kmes)) if kmes else ""
    return _HEAD + _HUB + allow + _HUB_QUOTAS


def default_kme_policy(
    peers: Sequence[KmeName] = (), local: Sequence[SaeId] = (), remote: Sequence[SaeId] = ()
) -> str:
    """A KME's ``policy.toml``; it allows ``peers``, and ``local`` SAEs with ``remote`` ones, both ways."""
    peer = _rule("kme.allow", ("peers", peers)) if peers else ""
    sae = _rule("sae.allow", ("local", local), ("remote", remote)) if local and remote else ""
    return _HEAD + _KME + peer + sae + _KME_LIMITS


def _rule(table: str, *keys: tuple[str, Sequence[str]]) -> str:
    lines = [f"{key} = [{', '.join(quoted(name) for name in names)}]\n" for key, names in keys]
    return f"\n[[{table}]]\n{''.join(lines)}"
