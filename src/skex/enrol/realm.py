"""Making realm files: the first epoch from descriptions of hubs, later ones from the one before.

Coordinates are given out here once and for ever; a hub that leaves is marked as revoked and keeps its
name and its coordinate (specification, chapter 10). It must not know who agreed to what.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from skex.base import codes
from skex.base.errors import Refused
from skex.base.ids import Coordinate, HubName, RealmName
from skex.protocol.realm import check_succession
from skex.wire.realm import Hub, HubAttributes, HubStatus, Realm

MAX_AGE: Final = 31_536_000
"""A KME uses a realm file for a year unless the file says otherwise."""
OVERLAP: Final = 604_800
"""Two epochs are accepted side by side for a week unless the file says otherwise."""
FIRST_EPOCH: Final = 1
_COORDINATE_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class HubDescription:
    """A hub as its operator describes it. ``coordinate`` None takes the lowest that was never used."""

    name: HubName
    address: str
    attributes: HubAttributes
    coordinate: Coordinate | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a later epoch changes; None leaves a value as it is."""

    add: tuple[HubDescription, ...] = ()
    revoke: frozenset[HubName] = frozenset()
    threshold: int | None = None
    max_age: int | None = None
    overlap: int | None = None


def new_realm(
    name: RealmName,
    threshold: int,
    hubs: Sequence[HubDescription],
    *,
    issued: int,
    max_age: int = MAX_AGE,
    overlap: int = OVERLAP,
) -> Realm:
    """The first epoch. ``issued`` is UNIX seconds.

    Raises ``Refused``: realm-malformed, realm-inconsistent.
    """
    return Realm(name, FIRST_EPOCH, threshold, issued, max_age, overlap, _placed((), hubs))


def next_epoch(current: Realm, changes: Changes, *, issued: int) -> Realm:
    """The epoch after ``current``; every hub keeps its coordinate.

    Raises ``Refused``: hub-not-in-realm for a hub to revoke that is not active; realm-malformed,
    realm-inconsistent for what would not be a realm.
    """
    active = {hub.name for hub in current.active_hubs}
    missing = sorted(changes.revoke - active)
    if missing:
        raise Refused(codes.HUB_NOT_IN_REALM, ", ".join(missing))
    kept = tuple(
        replace(hub, status=HubStatus.REVOKED) if hub.name in changes.revoke else hub for hub in current.hubs
    )
    later = Realm(
        current.name,
        current.epoch + 1,
        current.threshold if changes.threshold is None else changes.threshold,
        issued,
        current.max_age if changes.max_age is None else changes.max_age,
        current.overlap if changes.overlap is None else changes.overlap,
        _placed(kept, changes.add),
    )
    check_succession(current, later)
    return later


def _placed(present: tuple[Hub, ...], added: Sequence[HubDescription]) -> tuple[Hub, ...]:
    """All hubs in the order of their coordinates; new ones get what they ask for, or the lowest free."""
    used = {hub.coordinate for hub in present}
    used |= {one.coordinate for one in added if one.coordinate is not None}
    hubs = list(present)
    for one in added:
        coordinate = _lowest_free(used) if one.coordinate is None else one.coordinate
        used.add(coordinate)
        hubs.append(Hub(one.name, coordinate, HubStatus.ACTIVE, one.address, one.attributes))
    return tuple(sorted(hubs, key=lambda hub: hub.coordinate))


def _lowest_free(used: Collection[Coordinate]) -> Coordinate:
    for number in range(1, _COORDINATE_MAX + 1):
        if number not in used:
            return Coordinate(number)
    raise Refused(codes.REALM_INCONSISTENT, "every coordinate was used")
