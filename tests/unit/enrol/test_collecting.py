from __future__ import annotations

from dataclasses import replace

import pytest

from skex.base import codes
from skex.base.errors import ErrorCode, LocalBug, Refused
from skex.base.ids import HubName
from skex.enrol.collecting import _agreement
from skex.protocol.effects import Effects
from skex.protocol.realm import HeldRealm
from skex.wire.realm import Realm
from tests.unit.enrol import kit_support as support
from tests.unit.enrol.kit_support import End, KitRealms

REALM = support.make_realm(4, 3)


def bring(hub: str, end: End, realms: KitRealms, realm: Realm = REALM, *, replace: bool = False) -> bool:
    """Import a kit; whether the realm is in force then."""
    data = support.create(support.order(hub=hub, realm=realm), seed=(hub, replace))
    return support.import_kit(data, end, realms=realms, replace=replace).verdict.is_in_force


def world(floor: int = 2) -> tuple[End, KitRealms]:
    end = End()
    return end, KitRealms(end.registry, floor)


def refused(hub: str, end: End, realms: KitRealms, code: ErrorCode, realm: Realm) -> None:
    before = (realms.held, realms.collected, dict(end.registry.links))
    with pytest.raises(Refused) as error:
        bring(hub, end, realms, realm)
    assert error.value.code is code
    assert before == (realms.held, realms.collected, end.registry.links)


def test_realm_is_in_force_once_kits_of_as_many_hubs_as_its_threshold_agree() -> None:
    end, realms = world()
    assert [bring(f"hub-{number}", end, realms) for number in (2, 1, 4, 3)] == [False, False, True, True]
    assert realms.held is not None
    assert realms.held.data == REALM.to_bytes()
    assert realms.collected is None


def test_one_hub_counts_once_however_often_it_is_enrolled_anew() -> None:
    """One hub's operator must not put a realm in force alone."""
    end, realms = world()
    bring("hub-1", end, realms)
    assert not bring("hub-1", end, realms, replace=True)
    assert not bring("hub-2", end, realms)
    assert bring("hub-3", end, realms)


def test_realm_that_differs_from_the_collected_one_is_refused() -> None:
    """One operator was given, or made, another realm file."""
    end, realms = world()
    bring("hub-1", end, realms)
    other = replace(REALM, issued=REALM.issued + 1)
    refused("hub-2", end, realms, codes.REALM_MISMATCH, other)


def test_realm_that_differs_from_the_one_in_force_is_refused() -> None:
    end, realms = world()
    realms.held = HeldRealm(REALM.to_bytes(), 0.0)
    refused("hub-2", end, realms, codes.REALM_MISMATCH, replace(REALM, epoch=2))


def test_threshold_below_the_floor_is_refused() -> None:
    end, realms = world(floor=4)
    refused("hub-1", end, realms, codes.REALM_BELOW_FLOOR, REALM)


def test_kits_whose_links_were_never_enrolled_do_not_count() -> None:
    """The power failed between the collection and the link: the kit is imported again, or never."""
    end, realms = world()
    for hub in ("hub-1", "hub-2"):
        bring(hub, end, realms)
    (link,) = (one.link_id for one in end.registry.links.values() if one.hub == "hub-2")
    del end.registry.links[link]
    assert not bring("hub-3", end, realms)
    assert bring("hub-4", end, realms)


def test_collection_without_any_enrolled_link_binds_nobody() -> None:
    end, realms = world()
    bring("hub-1", end, realms)
    end.registry.links.clear()
    other = replace(REALM, issued=REALM.issued + 1)
    assert not bring("hub-2", end, realms, other)
    assert realms.collected is not None
    assert set(realms.collected.kits) == {HubName("hub-2")}


def test_acceptance_that_a_crash_cut_off_is_made_up_for() -> None:
    end, realms = world()
    for hub in ("hub-1", "hub-2"):
        bring(hub, end, realms)
    collected = realms.collected
    bring("hub-3", end, realms)
    # The link of hub-3 is durable, what its kit put in force is not.
    assert collected is not None
    link = next(one.link_id for one in end.registry.links.values() if one.hub == "hub-3")
    realms.held = None
    realms.collected = replace(collected, kits={**collected.kits, HubName("hub-3"): link})
    assert bring("hub-4", end, realms)
    assert realms.held is not None


def test_trust_that_says_nothing_of_a_kit_is_a_bug() -> None:
    with pytest.raises(LocalBug, match="bug-state"):
        _agreement(Effects())


def test_expired_realm_is_renewed_by_kits_of_enough_hubs_again() -> None:
    end, realms = world()
    realms.held = HeldRealm(REALM.to_bytes(), float(REALM.max_age))
    assert [bring(f"hub-{number}", end, realms) for number in (1, 2, 3)] == [False, False, True]
