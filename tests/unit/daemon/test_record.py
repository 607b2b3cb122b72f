"""What daemons write into the audit log of what their machines tell."""

from __future__ import annotations

import uuid

import pytest

from skex.audit import events
from skex.audit.events import Event
from skex.audit.fields import NETWORK
from skex.base import codes
from skex.base.errors import PeerFault
from skex.base.ids import BatchId, HubName, Incarnation, KmeName, LinkId, SaeId
from skex.daemon import record
from skex.keys.service import Delivery
from skex.policy.decisions import Decision, Place
from skex.protocol import rollback
from skex.protocol.hub import Reason, RefusedRequest, Request
from skex.protocol.realm import RealmExpired
from skex.protocol.receiver import BatchAccepted, TwoCandidates
from skex.protocol.sender import NotEstablished
from skex.wire.context import Purpose
from tests.unit.keys.keys_support import batch_id, make_batch

ONE, TWO = HubName("hub-1"), HubName("hub-2")


def test_expiry_of_the_realm_is_recorded_with_its_code() -> None:
    event = record.of_kme(RealmExpired(7), {})
    assert event is not None
    assert (event.kind, event.cause, event.details) == (
        events.REALM_EXPIRED,
        codes.REALM_EXPIRED,
        {"epoch": 7},
    )


def test_two_candidates_are_recorded_with_their_code() -> None:
    event = record.of_kme(
        TwoCandidates(KmeName("south"), BatchId(Incarnation(bytes(16)), 1), accepted=False), {}
    )
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


@pytest.mark.parametrize(
    ("notice", "hubs"),
    [
        (rollback.FreezeLink(ONE), ("hub-1",)),
        (rollback.RevokeEverything("rollback-found", (ONE, TWO)), ("hub-1", "hub-2")),
    ],
)
def test_the_record_of_a_rollback_names_the_hubs_that_said_so(
    notice: rollback.RollbackNotice, hubs: tuple[str, ...]
) -> None:
    event = record.of_kme(notice, {})
    assert event is not None
    assert (event.kind, event.subject_ids()) == (events.ROLLBACK_NOTICED, {"hub": hubs})


def test_the_record_of_this_kmes_own_evidence_names_nobody() -> None:
    event = record.of_kme(rollback.RevokeEverything("pad-mark-contradicts", ()), {})
    assert event is not None
    assert event.subject_ids() == {}


# ── from an id to what the key rests on ─────────────────────────────────────────────────────────
def test_the_record_of_a_batch_says_everything_that_its_claim_rests_on() -> None:
    batch = make_batch(7, threshold=3, derived=(1, 4))
    links = {HubName(f"hub-{number}"): LinkId(bytes([number] * 8)) for number in (1, 2, 3, 5)}
    event = record.of_kme(BatchAccepted(batch, expires_at=9.0), links)
    assert event is not None
    assert event.kind is events.BATCH_ESTABLISHED
    assert event.subject_ids() == {
        "kme": ("south",),
        "batch": (str(batch_id(7)),),
        "link": tuple(bytes([number] * 8).hex() for number in (1, 2, 3, 5)),
    }
    assert event.read_details() == {
        "keys": 8,
        "key_bytes": 32,
        "threshold": 3,
        "hubs": ("hub-1", "hub-2", "hub-3", "hub-4", "hub-5"),
        "purpose": "traffic",
        "epoch": 1,
        "lifetime": 3600,
        "claim": "information-theoretic",
        "margin": 1,
        "computational": ("hub-1", "hub-4"),
        "sender_computational": ("hub-1", "hub-4"),
        "randomness": "system",
        "enrolment": "carried-in-clear",
        "links": ("01" * 8, "02" * 8, "03" * 8, "none", "05" * 8),
    }


def test_the_record_of_a_delivery_leads_from_each_key_to_its_batch() -> None:
    found: list[Event] = []
    ids = tuple(uuid.UUID(int=number) for number in (1, 2, 3))
    batches = (batch_id(1), batch_id(2))
    bob = SaeId("bob@south")
    delivery = Delivery(SaeId("alice@north"), KmeName("south"), ids, batches, (bob,), "tls", new=True)
    record.KeyRecord(found.append).delivered(delivery)
    (event,) = found
    assert event.subject_ids() == {
        "kme": ("south",),
        "batch": tuple(map(str, batches)),
        "key": tuple(map(str, ids)),
    }
    assert event.read_details() == {"keys": 3, "purpose": "tls", "as": "master", "others": ("bob@south",)}


# ── what policy refused ─────────────────────────────────────────────────────────────────────────
NO = Decision(allowed=False, rule="sae.deny.web", reason="web@north: denied by a rule", place=Place.SAE)
NORTH, SOUTH = KmeName("north"), KmeName("south")


def test_the_record_of_a_refused_request_for_keys_names_rule_and_reason() -> None:
    found: list[Event] = []
    log = record.KeyRecord(found.append)
    alice, bob = SaeId("alice@north"), SaeId("bob@south")
    log.refused(alice, (bob,), codes.NOT_AUTHORISED, new=True, why=NO)
    log.refused(alice, (bob,), codes.NOT_READY, new=False, why=None)
    by_policy, other = found
    assert (by_policy.rule, by_policy.cause) == ("sae.deny.web", codes.NOT_AUTHORISED)
    assert by_policy.read_details() == {"as": "master", "note": NO.reason}
    assert (other.rule, other.subject_ids(), other.read_details()) == (
        "",
        {"sae": ("bob@south",)},
        {"as": "slave"},
    )


def test_the_record_of_what_a_peer_was_refused_names_rule_and_reason() -> None:
    event = record.refused_peer(SOUTH, record.PeerAsked.ASSIGNMENT, NO)
    assert (event.kind, str(event.actor), event.rule) == (
        events.AUTHORISATION_FAILED,
        "kme:south",
        "sae.deny.web",
    )
    assert event.read_details() == {"what": "assignment", "note": NO.reason}


def test_the_record_of_what_a_hub_refused_names_the_rule_where_it_was_policy() -> None:
    notice = RefusedRequest(
        Request.SHARE, NORTH, SOUTH, codes.NOT_AUTHORISED, Reason.FORBIDDEN, Purpose.TRAFFIC
    )
    event = record.of_hub(notice, lambda _: NO)
    assert event is not None
    assert (event.rule, event.subject_ids()) == ("sae.deny.web", {"kme": ("south",)})
    assert event.read_details() == {"what": "share", "note": NO.reason}
    absent = RefusedRequest(Request.REALM, NORTH, None, codes.BUSY, Reason.REALM_SENT)
    event = record.of_hub(absent)
    assert event is not None
    assert (event.rule, event.subject_ids()) == ("", {})
    assert event.read_details() == {"what": "realm", "note": "realm-sent"}


def test_the_record_of_a_batch_that_this_kme_did_not_make_names_its_rule() -> None:
    notice = NotEstablished("token", SOUTH, None, codes.HUBS_NOT_INDEPENDENT)
    event = record.of_kme(notice, {}, lambda _: "kme.limit.apart")
    assert event is not None
    assert (event.rule, event.cause) == ("kme.limit.apart", codes.HUBS_NOT_INDEPENDENT)
