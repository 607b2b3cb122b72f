"""What daemons write into the audit log of what their machines tell."""

from __future__ import annotations

from skex.audit import events
from skex.audit.fields import NETWORK
from skex.base import codes
from skex.base.errors import PeerFault
from skex.base.ids import BatchId, HubName, Incarnation, KmeName, LinkId
from skex.daemon import record
from skex.protocol.realm import RealmExpired
from skex.protocol.receiver import TwoCandidates


def test_expiry_of_the_realm_is_recorded_with_its_code() -> None:
    event = record.of_kme(RealmExpired(7))
    assert event is not None
    assert (event.kind, event.cause, event.details) == (
        events.REALM_EXPIRED,
        codes.REALM_EXPIRED,
        {"epoch": 7},
    )


def test_two_candidates_are_recorded_with_their_code() -> None:
    event = record.of_kme(TwoCandidates(KmeName("south"), BatchId(Incarnation(bytes(16)), 1), accepted=False))
    assert event is not None
    assert (event.kind, event.cause) == (events.TWO_CANDIDATES, codes.TWO_CANDIDATES)


def test_peer_of_another_version_is_recorded_as_that_and_as_no_attack() -> None:
    error = PeerFault(codes.VERSION_UNSUPPORTED)
    stranger = record.of_stranger(error, LinkId(bytes(8)), "192.0.2.1:7300")
    hub = record.of_hub_connection(HubName("hub-1"), error)
    assert stranger is not None
    assert hub is not None
    assert stranger.kind is hub.kind is events.VERSION_REFUSED
    assert (stranger.actor, str(hub.actor)) == (NETWORK, "hub:hub-1")
    assert stranger.details == {"address": "192.0.2.1:7300"}
