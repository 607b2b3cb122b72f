"""The two realms of ``skex demo --trust``: one whose hubs are independent, and one that an operator controls.

Both have the same policies: what differs between them is who runs the hubs. It must not know what is
shown with them.
"""

from __future__ import annotations

from typing import Final

from skex.base.ids import KmeName, SaeId
from skex.cli.demo_realm import HUBS, NORTH, SOUTH, Layout
from skex.policy.starters import default_hub_policy, default_kme_policy

EAST: Final = KmeName("east")
WEST: Final = KmeName("west")
SAES: Final = {
    NORTH: SaeId("web@north"),
    SOUTH: SaeId("db@south"),
    EAST: SaeId("app@east"),
    WEST: SaeId("app@west"),
}
PAYROLL: Final = SaeId("payroll@south")
"""An application that the north's may not share keys with."""
TABLES: Final = {NORTH: HUBS, SOUTH: HUBS, EAST: HUBS[:3], WEST: ()}
"""The hubs with which each KME has table pads; its other pads are derived."""

HUB_RULE: Final = "hub.deny.east-not-west"
KME_RULE: Final = "kme.deny.west-has-left"
SAE_RULE: Final = "sae.deny.no-payroll"
FLOOR_RULE: Final = "kme.limit.two-parties"

_HUB: Final = """
[[hub.deny]]
id = "east-not-west"
from = ["east"]
to = ["west"]
both_ways = true
"""
_EVERY_KME: Final = """
[[kme.limit]]
id = "two-parties"
peers = ["*"]
minimum_effective_threshold = 2
"""
_NORTH: Final = """
[[sae.deny]]
id = "no-payroll"
local = ["web@north"]
remote = ["payroll@south"]
"""
_SOUTH: Final = """
[[kme.deny]]
id = "west-has-left"
peers = ["west"]
"""
_OWN: Final = {NORTH: _NORTH, SOUTH: _SOUTH}
_INDEPENDENT: Final = ("Alder", "Birch", "Cedar", "Douglas", "Elm")
_CAPTURED: Final = ("Alder", "Alder", "Alder", "Douglas", "Elm")


def independent() -> Layout:
    """Four KMEs, and five hubs with an operator each."""
    return _layout((NORTH, SOUTH, EAST, WEST), _INDEPENDENT)


def captured() -> Layout:
    """Two KMEs, and five hubs of which as many as the threshold have one operator."""
    return _layout((NORTH, SOUTH), _CAPTURED)


def _layout(kmes: tuple[KmeName, ...], operators: tuple[str, ...]) -> Layout:
    return Layout(
        saes={kme: SAES[kme] for kme in kmes},
        tables={kme: TABLES[kme] for kme in kmes},
        reserves=dict.fromkeys(kmes, ()),
        kme_policies={kme: _policy(kme, kmes) for kme in kmes},
        hub_policy=default_hub_policy(kmes) + (_HUB if EAST in kmes else ""),
        operators=operators,
    )


def _policy(kme: KmeName, kmes: tuple[KmeName, ...]) -> str:
    peers = [other for other in kmes if other != kme]
    return default_kme_policy(peers, [SAES[kme]], [SaeId("*")]) + _EVERY_KME + _OWN.get(kme, "")
