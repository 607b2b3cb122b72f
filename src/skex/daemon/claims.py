"""What this KME states about its own links in claims (specification, "Claims")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from skex.base.ids import Coordinate, HubName
from skex.pad.kinds import PadKind
from skex.store.links import EnrolledLink
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.realm import Realm


class LinkClaims:
    """``OwnClaims`` over the enrolled links. ``realms`` are the realm files in force, newest first.

    A link counts as computational if its pads are derived, or if its kit travelled under a passphrase:
    whoever copied the medium has only that to break.
    """

    def __init__(
        self, links: Callable[[], Iterable[EnrolledLink]], realms: Callable[[], Iterable[Realm]]
    ) -> None:
        self._links = links
        self._realms = realms

    def own_claim(self, hubs: Sequence[Coordinate]) -> Claim:
        """The claim of this end over the links to ``hubs``, and over no others."""
        by_hub = {link.hub: link for link in self._links()}
        names = self._names()
        used = {hub: by_hub.get(names[hub]) for hub in hubs if hub in names}
        return Claim(
            computational=tuple(hub for hub in hubs if _is_computational(used.get(hub))),
            randomness=Randomness.SYSTEM,
            enrolment=max(
                (link.enrolment for link in used.values() if link is not None),
                default=Enrolment.UNDER_PASSPHRASE,
            ),
        )

    def _names(self) -> dict[Coordinate, HubName]:
        return {hub.coordinate: hub.name for realm in self._realms() for hub in realm.hubs}


def _is_computational(link: EnrolledLink | None) -> bool:
    """A hub without a link here is not one that this end vouches for."""
    if link is None:
        return True
    return link.kind is PadKind.DERIVED or link.enrolment is Enrolment.UNDER_PASSPHRASE
