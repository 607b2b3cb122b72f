"""How many independent parties must collude to have k of a batch's hubs: the effective threshold.

A realm file states five attributes of each hub. Whoever is behind one value of one attribute, such as
an operator, is counted as one party that has all hubs with that value. The effective threshold is the
least number of parties that together have k hubs. Two hubs whose attribute nobody stated share the
value ``unstated``, so they are not counted as independent in it. What a hub states is not proved by
anything here (specification, section "Effective threshold").
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.wire.realm import HubAttributes

UNSTATED: Final = "unstated"
"""An attribute that nobody stated: equal at two hubs, so they do not count as independent in it."""


class Attribute(Enum):
    """In what two hubs may depend on one party. The values are the fields of ``HubAttributes``."""

    OPERATOR = "operator"
    JURISDICTION = "jurisdiction"
    HOSTING = "hosting"
    ADMINISTRATOR = "administrator"
    IMPLEMENTATION = "implementation"

    def of(self, hub: HubAttributes) -> str:
        """What a hub's realm file states."""
        return str(getattr(hub, self.value))


_ORDER: Final = tuple(Attribute)
COUNTED: Final = frozenset({Attribute.OPERATOR, Attribute.ADMINISTRATOR})
"""What counts where a policy says nothing: whoever can order or log in to a hub has its shares."""
UNKNOWN_HUB: Final = HubAttributes(*(UNSTATED for _ in Attribute))
"""A hub of which nothing is known: it counts as depending on every other of that kind."""


@dataclass(frozen=True, slots=True)
class Party:
    """Whoever is behind one value of one attribute."""

    attribute: Attribute
    value: str

    def __str__(self) -> str:
        return f"{self.attribute.value} {self.value}"


@dataclass(frozen=True, slots=True)
class Collusion:
    """The fewest parties that have k hubs.

    ``parties`` is one such smallest set, the largest parties first. ``is_exact`` is false where finding
    it would take more than ``limits.INDEPENDENCE_STEPS``: then ``count`` is what is proved, so the true
    number is not below it, and ``parties`` is a set that is known to do, which may be larger.
    """

    count: int
    parties: tuple[Party, ...]
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Floor:
    """What somebody demands: at least ``parties`` of them, counted by these attributes."""

    parties: int = 1
    counted: frozenset[Attribute] = COUNTED

    def is_met(self, hubs: Iterable[HubAttributes], threshold: int) -> bool:
        """Whether that many parties are needed for ``threshold`` of the hubs."""
        return self.parties <= 1 or effective_threshold(hubs, threshold, self.counted) >= self.parties


ANYBODY: Final = Floor()
"""Demands nothing: one party may have all hubs."""


def effective_threshold(
    hubs: Iterable[HubAttributes], threshold: int, counted: Collection[Attribute] = COUNTED
) -> int:
    """``collusion(...).count``: never more than the threshold, never too high."""
    return collusion(hubs, threshold, counted).count


def collusion(
    hubs: Iterable[HubAttributes], threshold: int, counted: Collection[Attribute] = COUNTED
) -> Collusion:
    """The fewest parties, values of any of the ``counted`` attributes, that have ``threshold`` hubs.

    Raises ``LocalBug`` (bug-argument) where nothing counts or there are fewer hubs than the threshold.
    """
    known = tuple(hubs)
    if not counted or not 1 <= threshold <= len(known) <= limits.REALM_HUBS:
        raise LocalBug(codes.BAD_ARGUMENT, f"a threshold of {threshold} for {len(known)} hubs")
    return _collusion(known, threshold, frozenset(counted))


def by_attribute(hubs: Iterable[HubAttributes], threshold: int) -> Mapping[Attribute, Collusion]:
    """The same for each attribute alone."""
    known = tuple(hubs)
    return {attribute: collusion(known, threshold, {attribute}) for attribute in Attribute}


# A KME's batches use the same few sets of hubs again and again.
@functools.lru_cache(maxsize=1024)
def _collusion(hubs: tuple[HubAttributes, ...], threshold: int, counted: frozenset[Attribute]) -> Collusion:
    having = _largest(_having(hubs, counted))
    parties = list(having)
    found = _Search([having[party] for party in parties], threshold).fewest()
    chosen = tuple(parties[index] for index in found.chosen)
    return Collusion(found.count, chosen, is_exact=found.count == len(chosen))


def _having(hubs: Sequence[HubAttributes], counted: Collection[Attribute]) -> dict[Party, int]:
    """Which hubs each party has, a bit for each."""
    found: dict[Party, int] = {}
    for attribute in sorted(counted, key=_ORDER.index):
        for number, hub in enumerate(hubs):
            party = Party(attribute, attribute.of(hub))
            found[party] = found.get(party, 0) | 1 << number
    return found


def _largest(having: Mapping[Party, int]) -> dict[Party, int]:
    """The parties that have no fewer hubs than another, the largest first, equal ones as they come."""
    kept: dict[Party, int] = {}
    for party in sorted(having, key=lambda one: -having[one].bit_count()):
        if not any(having[party] | other == other for other in kept.values()):
            kept[party] = having[party]
    return kept


@dataclass(frozen=True, slots=True)
class _Found:
    count: int
    chosen: tuple[int, ...]


class _Spent(Exception):
    """The search has taken all the steps that it may take."""


class _Search:
    """Finds the fewest sets that together have ``wanted`` members, by trying 1, 2, 3 … of them.

    Of a number that was tried in vain it is proved that more are needed, so a search that is cut off
    still knows how many are needed at least.
    """

    def __init__(self, sets: Sequence[int], wanted: int) -> None:
        self._sets = sets
        self._wanted = wanted
        self._steps = 0

    def fewest(self) -> _Found:
        """The least number, proved, and sets that do."""
        known = self._greedy()
        proved = 1
        try:
            while proved < len(known):
                chosen = self._among(tuple(enumerate(self._sets)), self._wanted, proved)
                if chosen is not None:
                    return _Found(proved, chosen)
                proved += 1
        except _Spent:
            pass
        return _Found(proved, known)

    def _greedy(self) -> tuple[int, ...]:
        """Sets that do: each time the one that brings most."""
        had, chosen = 0, []
        while had.bit_count() < self._wanted:
            best = max(range(len(self._sets)), key=lambda one: (self._sets[one] & ~had).bit_count())
            chosen.append(best)
            had |= self._sets[best]
        return tuple(chosen)

    def _among(self, sets: tuple[tuple[int, int], ...], wanted: int, number: int) -> tuple[int, ...] | None:
        """``number`` of the ``sets`` that have ``wanted`` members, or None if there are none."""
        self._steps += 1
        if self._steps > limits.INDEPENDENCE_STEPS:
            raise _Spent
        order = sorted(sets, key=lambda one: -one[1].bit_count())
        at = 0
        # Where not even the largest that are left would do, had they nothing in common, none do.
        while sum(members.bit_count() for _, members in order[at : at + number]) >= wanted:
            index, members = order[at]
            missing = wanted - members.bit_count()
            if missing <= 0:
                return (index,)
            left = tuple((one, other & ~members) for one, other in order[at + 1 :])
            others = self._among(left, missing, number - 1)
            if others is not None:
                return (index, *others)
            at += 1
        return None
