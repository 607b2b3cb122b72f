"""Realms for tests: named hubs at coordinates, as short as a test needs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from skex.base.ids import Coordinate, HubName, RealmName
from skex.wire.realm import Hub, HubAttributes, HubStatus, Realm

ATTRIBUTES: Final = HubAttributes("operator", "country", "provider", "administrator", "skex")


def hub_name(number: int) -> HubName:
    return HubName(f"hub{number}")


def hub_at(number: int, coordinate: int | None = None, *, revoked: bool = False) -> Hub:
    return Hub(
        hub_name(number),
        Coordinate(number if coordinate is None else coordinate),
        HubStatus.REVOKED if revoked else HubStatus.ACTIVE,
        f"hub{number}.example:7300",
        ATTRIBUTES,
    )


def realm_of(
    hubs: int = 5,
    threshold: int = 3,
    *,
    epoch: int = 1,
    name: str = "realm",
    max_age: int = 1000,
    overlap: int = 100,
    revoked: Iterable[int] = (),
    issued: int = 0,
) -> Realm:
    out = set(revoked)
    return Realm(
        name=RealmName(name),
        epoch=epoch,
        threshold=threshold,
        issued=issued,
        max_age=max_age,
        overlap=overlap,
        hubs=tuple(hub_at(number, revoked=number in out) for number in range(1, hubs + 1)),
    )
