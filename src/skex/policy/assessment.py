"""What a realm promises: who must collude, who may fail, and how likely forgeries are, by its own numbers.

Every bound names the section of the specification that derives it. Nothing here knows which hubs are up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from skex.base import limits
from skex.base.ids import BatchId, HubName, Incarnation, KmeName
from skex.crypto.ghash import BLOCK_BYTES
from skex.crypto.tag import CONFIRM_KEY_BYTES
from skex.protocol.establishment import most_hubs, subsets
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.codec import UINT_MAX
from skex.wire.context import CompactContext, Context, Purpose
from skex.wire.independence import Attribute, Collusion, Party, by_attribute, collusion
from skex.wire.realm import Hub, Realm

CHAPTER: Final = "docs/spec/14-security-considerations.md"
SETS_LISTED: Final = 64
"""Sets of hubs whose loss stops keys that are listed one by one."""
_TAG_BITS: Final = 128
_LONGEST: Final = KmeName("k" * limits.NAME_CHARACTERS)


@dataclass(frozen=True, slots=True)
class Bound:
    """A probability of at most 2^``log2``, how it comes about, and where that is derived."""

    what: str
    log2: float
    formula: str
    section: str


@dataclass(frozen=True, slots=True)
class Failing:
    """Which hubs may fail. ``stopping`` are the smallest sets without which no key is made.

    They are all sets of ``stopped_by`` hubs; none are listed where there are too many of them. ``alone``
    are parties that have such a set by themselves, ``together`` the fewest that have one.
    """

    may_be_lost: int
    may_lie: int
    stopped_by: int
    sets: int
    stopping: tuple[tuple[HubName, ...], ...]
    alone: tuple[Party, ...]
    together: Collusion
    to_deliver_after_a_start: int


@dataclass(frozen=True, slots=True)
class Assessment:
    """All of it. ``availability`` says how likely k hubs are up if each is up so often."""

    realm: Realm
    overall: Collusion
    counted: frozenset[Attribute]
    each: Mapping[Attribute, Collusion]
    hubs_of_a_batch: int
    subsets: int
    tag_blocks: int
    failing: Failing
    availability: Mapping[float, float]
    bounds: tuple[Bound, ...]


def assess(
    realm: Realm,
    counted: Collection[Attribute],
    *,
    batch_keys: int,
    key_bytes: int,
    up: Sequence[float] = (0.9, 0.99, 0.999),
) -> Assessment:
    """What ``realm`` promises for batches of ``batch_keys`` keys of ``key_bytes`` bytes."""
    hubs, threshold = realm.active_hubs, realm.threshold
    attributes = [hub.attributes for hub in hubs]
    used = most_hubs(len(hubs), threshold)
    tried = subsets(used, threshold)
    blocks = tag_blocks(realm, used, batch_keys=batch_keys, key_bytes=key_bytes)
    return Assessment(
        realm=realm,
        overall=collusion(attributes, threshold, counted),
        counted=frozenset(counted),
        each=by_attribute(attributes, threshold),
        hubs_of_a_batch=used,
        subsets=tried,
        tag_blocks=blocks,
        failing=_failing(hubs, threshold, counted),
        availability={one: _enough_are_up(len(hubs), threshold, one) for one in up},
        bounds=_bounds(tried, blocks),
    )


def tag_blocks(realm: Realm, hubs: int, *, batch_keys: int, key_bytes: int) -> int:
    """N: the blocks of context, v and keys under one end-to-end tag, for the longest names of KMEs."""
    used = realm.active_hubs[:hubs]
    coordinates = tuple(hub.coordinate for hub in used)
    claim = Claim(coordinates, Randomness.SYSTEM, Enrolment.UNDER_PASSPHRASE)
    compact = CompactContext(
        realm.epoch,
        realm.threshold,
        coordinates,
        batch_keys,
        key_bytes,
        Purpose.TRAFFIC,
        limits.LIFETIME_SECONDS_MAX,
        None,
        claim,
    )
    batch = BatchId(Incarnation(bytes(16)), UINT_MAX)
    names = tuple(hub.name for hub in used)
    context = Context(realm.name, _LONGEST, _LONGEST, batch, names, compact).to_bytes()
    return _blocks(8 + len(context)) + _blocks(CONFIRM_KEY_BYTES + batch_keys * key_bytes)


def _blocks(length: int) -> int:
    return -(-length // BLOCK_BYTES)


def _failing(hubs: Sequence[Hub], threshold: int, counted: Collection[Attribute]) -> Failing:
    attributes = [hub.attributes for hub in hubs]
    stopped_by = len(hubs) - threshold + 1
    sets = math.comb(len(hubs), stopped_by)
    stopping: tuple[tuple[HubName, ...], ...] = ()
    if sets <= SETS_LISTED:
        stopping = tuple(itertools.combinations([hub.name for hub in hubs], stopped_by))
    found: dict[Party, int] = {}
    for attribute in Attribute:
        for hub in attributes:
            party = Party(attribute, attribute.of(hub))
            found[party] = found.get(party, 0) + 1
    return Failing(
        may_be_lost=len(hubs) - threshold,
        may_lie=min(threshold - 1, len(hubs) - threshold),
        stopped_by=stopped_by,
        sets=sets,
        stopping=stopping,
        alone=tuple(party for party, had in found.items() if had >= stopped_by),
        together=collusion(attributes, stopped_by, counted),
        to_deliver_after_a_start=max(threshold, len(hubs) // 2 + 1),
    )


def _enough_are_up(hubs: int, threshold: int, up: float) -> float:
    """The probability that at least ``threshold`` of ``hubs`` are up, each by itself with ``up``."""
    return math.fsum(
        math.comb(hubs, number) * up**number * (1 - up) ** (hubs - number)
        for number in range(threshold, hubs + 1)
    )


def _bounds(tried: int, blocks: int) -> tuple[Bound, ...]:
    per_set = math.log2(blocks + 1) - _TAG_BITS
    return (
        Bound(
            "a receiver accepts other keys than were sent, per batch, whatever fewer than k hubs do",
            math.log2(tried) + per_set,
            f"sets tried * (N + 1) / 2^128 = {tried} * {blocks + 1} / 2^128",
            "14.3",
        ),
        Bound("the same, per set of shares", per_set, f"(N + 1) / 2^128 = {blocks + 1} / 2^128", "14.3"),
        Bound(
            "a record is forged, per attempt (each costs the attacker a connection)",
            -91,
            "8 * 4096 / 2^106",
            "14.2",
        ),
        Bound("a confirmation is forged, per attempt", math.log2(96) - 106, "8 * 12 / 2^106", "14.5"),
        Bound(
            "a peer message is forged, per attempt (computational: AES-256-GCM)",
            math.log2(1290) - 128,
            "1290 / 2^128",
            "14.6",
        ),
        Bound(
            "a derived pad is told from random, per grant (computational: AES-256, HKDF)",
            -89,
            "(2^20)^2 / 2^129",
            "14.6",
        ),
    )
