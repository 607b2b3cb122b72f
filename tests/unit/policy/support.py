"""Names and texts that the tests of policies share."""

from __future__ import annotations

import textwrap

from skex.base.ids import Coordinate, KmeName, SaeId
from skex.policy.evaluate import PolicySet, load
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose

CENTRE = KmeName("centre")
SITE_1 = KmeName("site-1")
SITE_2 = KmeName("site-2")
STRANGER = KmeName("stranger")
VPN = SaeId("vpn@centre")
VPN_1 = SaeId("vpn@site-1")
WEB_1 = SaeId("web@site-1")


def policy(text: str) -> PolicySet:
    """A policy of version 1."""
    return load(f"version = 1\n{textwrap.dedent(text)}".encode(), "policy.toml")


def claim(*computational: int) -> Claim:
    return Claim(
        tuple(Coordinate(one) for one in computational), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR
    )


def batch(
    *,
    threshold: int = 2,
    keys: int = 10,
    key_bytes: int = 32,
    purpose: Purpose = Purpose.TRAFFIC,
    lifetime: int = 3600,
    computational: tuple[int, ...] = (),
) -> CompactContext:
    """A batch over three hubs."""
    hubs = (Coordinate(1), Coordinate(2), Coordinate(3))
    return CompactContext(1, threshold, hubs, keys, key_bytes, purpose, lifetime, None, claim(*computational))
