"""From shares to the secret: which of the hubs told the truth.

Pure and deterministic; a search over subsets may take long, so it is made to run outside the event
loop, on copies of its own. It knows one group of shares, the threshold and the tag; never whose batch
it is or what happens with the outcome.

At most k-1 hubs lie, so every k shares that verify give the one true secret, except with the
probability that the specification bounds; two different secrets that both verify mean that k hubs
collude or that the sender is broken.

The tag proves the secret, the polynomials' value at zero; it does not prove each share. Hubs that
collude can change theirs so that the value at zero stays, and make an honest hub look like the one that
deviates. See ``is_certain``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import Coordinate
from skex.base.secret import Secret
from skex.crypto import mac, sharing
from skex.protocol.establishment import SharedSecret, subsets


@dataclass(frozen=True, slots=True)
class Search:
    """One group of shares to rebuild a secret from.

    ``context`` is the expanded context, ``tag`` the group's end-to-end tag. Sets of shares without
    any of ``newest`` were tried before. The shares are copies that belong to whoever runs the search.
    """

    threshold: int
    tag: bytes
    context: bytes
    shares: Mapping[Coordinate, Secret]
    newest: frozenset[Coordinate]

    @property
    def is_single(self) -> bool:
        """Whether one interpolation settles it."""
        return len(self.shares) == self.threshold

    def wipe(self) -> None:
        """Forget the shares."""
        for share in self.shares.values():
            share.wipe()


@dataclass(frozen=True, slots=True)
class Found:
    """One secret verifies; of the polynomials that give it, this is the one that fewest shares miss.

    ``deviating`` are the coordinates of those shares.
    """

    secret: Secret
    deviating: frozenset[Coordinate]


@dataclass(frozen=True, slots=True)
class NothingYet:
    """No set of shares verifies; a further share may change that."""


@dataclass(frozen=True, slots=True)
class TwoFound:
    """Two different secrets verify: neither may be used."""


Outcome: TypeAlias = Found | NothingYet | TwoFound


def reconstruct(search: Search) -> Outcome:
    """Rebuild the secret: all shares together first, then each set of k that is new.

    Raises ``LocalBug`` (bug-argument) for fewer shares than the threshold or more than
    ``limits.SUBSETS`` sets of them.
    """
    count = len(search.shares)
    if count < search.threshold or subsets(count, search.threshold) > limits.SUBSETS:
        raise LocalBug(codes.BAD_ARGUMENT, f"{count} shares for a threshold of {search.threshold}")
    shares = {coordinate: search.shares[coordinate].expose() for coordinate in sorted(search.shares)}
    first = dict(list(shares.items())[: search.threshold])
    if not deviating(first, shares):
        secret = _verified(first, search)
        return NothingYet() if secret is None else Found(secret, frozenset())
    return _search_subsets(shares, search)


def deviating(basis: Mapping[Coordinate, bytes], shares: Mapping[Coordinate, bytes]) -> frozenset[Coordinate]:
    """The coordinates whose shares are not on the polynomial through ``basis`` (k shares)."""
    return frozenset(
        coordinate
        for coordinate, share in shares.items()
        if coordinate not in basis and not mac.equal(sharing.interpolate(_points(basis), coordinate), share)
    )


def share_at(basis: Mapping[Coordinate, Secret], coordinate: Coordinate) -> bytes:
    """The share of a coordinate on the polynomial through ``basis`` (k shares)."""
    if coordinate in basis:
        return basis[coordinate].expose()
    points = {own: share.expose() for own, share in basis.items()}
    return sharing.interpolate(_points(points), coordinate)


def is_certain(agreeing: int, threshold: int) -> bool:
    """Whether so many shares on one polynomial that gives the secret prove every other share wrong.

    At least ``agreeing`` - (k-1) of them are honest. With the value at zero these fix the polynomial if
    they are k-1 or more; with fewer, up to k-1 colluding hubs may have made it up around the secret.
    """
    return agreeing >= 2 * (threshold - 1)


def _search_subsets(shares: Mapping[Coordinate, bytes], search: Search) -> Outcome:
    """Try every new set of k that is not wholly on the polynomial already found."""
    found: Found | None = None
    for subset in _new_subsets(shares, search):
        if found is not None and found.deviating.isdisjoint(subset):
            continue
        basis = {coordinate: shares[coordinate] for coordinate in subset}
        secret = _verified(basis, search)
        if secret is None:
            continue
        if found is None:
            found = Found(secret, deviating(basis, shares))
            continue
        same = found.secret == secret
        secret.wipe()
        if not same:
            found.secret.wipe()
            return TwoFound()
        others = deviating(basis, shares)
        if len(others) < len(found.deviating):
            found = Found(found.secret, others)
    return found or NothingYet()


def _new_subsets(shares: Mapping[Coordinate, bytes], search: Search) -> Iterator[tuple[Coordinate, ...]]:
    for subset in combinations(shares, search.threshold):
        if not search.newest.isdisjoint(subset):
            yield subset


def _verified(basis: Mapping[Coordinate, bytes], search: Search) -> Secret | None:
    """The secret of these k shares, if the end-to-end tag verifies."""
    secret = Secret(sharing.interpolate(_points(basis)))
    if SharedSecret(secret).verifies(search.context, search.tag):
        return secret
    secret.wipe()
    return None


def _points(basis: Mapping[Coordinate, bytes]) -> dict[int, bytes]:
    return {int(coordinate): share for coordinate, share in basis.items()}
