"""Which realm file the kits of a KME bring, kit by kit, until enough agree.

The rules are ``protocol.realm``'s; here they are applied to kits that are imported one at a time, with
weeks and restarts in between. It must not know where the collection is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from skex.base import codes
from skex.base.errors import LocalBug, Refused
from skex.base.ids import HubName, LinkId
from skex.protocol.changes import Change
from skex.protocol.realm import (
    HeldRealm,
    KitAgrees,
    KitCollected,
    KitRefused,
    RealmEffects,
    RealmState,
    RealmTrust,
)


@dataclass(frozen=True, slots=True)
class CollectedKits:
    """The realm file that kits brought while none is in force, and the link that each hub's made."""

    realm: bytes
    kits: Mapping[HubName, LinkId] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A kit's realm file is acceptable: ``kits`` of ``needed`` agree with it then.

    ``changes`` must become durable after the link; they put the file in force, if it is time.
    ``collection`` must be durable before the link; None where nothing is collected any more.
    """

    kits: int
    needed: int
    changes: tuple[Change, ...]
    collection: CollectedKits | None

    @property
    def is_in_force(self) -> bool:
        """Whether the realm file is in force once this kit is imported."""
        return self.collection is None


def judge(
    hub: HubName,
    link_id: LinkId,
    data: bytes,
    *,
    floor: int,
    held: HeldRealm | None,
    collected: CollectedKits | None,
    enrolled: Collection[LinkId],
) -> Verdict:
    """Whether a kit with this realm file may be imported, and what follows if it is.

    ``held`` is what the store has in force, ``collected`` what earlier kits brought; of those, kits
    count whose links are ``enrolled``. Raises ``Refused``: realm-mismatch, realm-below-floor,
    realm-malformed and what else ``RealmTrust`` refuses.
    """
    trust = RealmTrust(floor, 0.0, held)
    changes: list[Change] = []
    kits: dict[HubName, LinkId] = {}
    if collected is not None:
        kits = {name: link for name, link in collected.kits.items() if link in enrolled and name != hub}
        for name in kits:
            changes += trust.handle(KitCollected(name, collected.realm), 0.0).persist
    effects = trust.handle(KitCollected(hub, data), 0.0)
    changes += effects.persist
    agrees = _agreement(effects)
    if trust.state in {RealmState.ONE_EPOCH, RealmState.TWO_EPOCHS}:
        return Verdict(agrees.kits, agrees.needed, tuple(changes), None)
    return Verdict(agrees.kits, agrees.needed, tuple(changes), CollectedKits(data, {**kits, hub: link_id}))


def _agreement(effects: RealmEffects) -> KitAgrees:
    """What realm trust said of a kit. Raises ``Refused`` where it refused the kit."""
    for notice in effects.notify:
        if isinstance(notice, KitAgrees):
            return notice
        if isinstance(notice, KitRefused):
            raise Refused(notice.code, notice.detail)
    raise LocalBug(codes.BAD_STATE, "realm trust said nothing of a kit")
