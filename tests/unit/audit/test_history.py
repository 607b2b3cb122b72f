"""What records of many logs say together: links, batches, and when each end had erased a key."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from skex.audit.chain import GENESIS, Record
from skex.audit.events import (
    BATCH_CONFIRMED,
    BATCH_ESTABLISHED,
    DAEMON_STARTED,
    ENROLMENT_ACTIVATED,
    ENROLMENT_GENERATED,
    ENROLMENT_IMPORTED,
    KEYS_DELIVERED,
    KEYS_EXPIRED,
    KEYS_VOIDED,
    Event,
    Kind,
    Verdict,
)
from skex.audit.exposure import ALWAYS, NEVER, Fate, Life, Where
from skex.audit.fields import SYSTEM, Actor, ActorKind, Subject
from skex.audit.history import SEED_SECONDS, TABLE_SECONDS, TRAVEL_SECONDS, Collected, Owner, seconds
from skex.base.errors import LocalBug
from skex.base.ids import BatchId, HubName, Incarnation, KmeName, LinkId, RealmName, SaeId
from skex.daemon.evidence import PadWord
from skex.daemon.record import EndWord, PurposeWord
from skex.protocol.establishment import key_id
from tests.unit.audit.support import Clock

A, B = KmeName("a"), KmeName("b")
HUBS = (HubName("h1"), HubName("h2"), HubName("h3"))
REALM = RealmName("test")
BATCH = BatchId(Incarnation(b"i" * 16), 7)
KEYS = [key_id(REALM, A, B, BATCH, index) for index in range(4)]
ALICE, BOB, CAROL = SaeId("alice@a"), SaeId("bob@b"), SaeId("carol@b")


class Logs:
    """The logs of some machines, written by hand."""

    def __init__(self, *, realm: bool = True) -> None:
        self.clock = Clock()
        self.collected = Collected()
        if realm:
            self.tell("a", ENROLMENT_ACTIVATED, Subject.realm(REALM))

    def tell(
        self,
        owner: str,
        kind: Kind,
        *subjects: Subject,
        actor: Actor = SYSTEM,
        details: Mapping[str, object] | None = None,
        verdict: Verdict | None = None,
    ) -> float:
        """One record; when it was written."""
        self.clock.now += 1000
        event = Event(kind, actor, subjects, verdict=verdict, details=details or {})
        record = Record.of(event, self.clock(), "", GENESIS)
        where = Where.HUB if owner.startswith("h") else Where.KME
        read = Record.from_line(record.to_line())
        assert read is not None
        self.collected.feed(Owner(where, owner), read)
        return seconds(record.time)

    def batch(self, owner: str = "a", links: tuple[str, ...] = ("01" * 8, "none", "03" * 8)) -> float:
        kind, peer = (BATCH_CONFIRMED, B) if owner == "a" else (BATCH_ESTABLISHED, A)
        details = {
            "keys": 4,
            "threshold": 2,
            "hubs": HUBS,
            "purpose": PurposeWord.TRAFFIC,
            "links": links,
        }
        return self.tell(owner, kind, Subject.kme(peer), Subject.batch(BATCH), details=details)

    def delivery(
        self, sae: SaeId, *indexes: int, kind: Kind = KEYS_DELIVERED, keys: int | None = None
    ) -> float:
        owner, peer = ("a", B) if sae == ALICE else ("b", A)
        details: dict[str, object] = {"keys": len(indexes) if keys is None else keys}
        if kind is KEYS_DELIVERED:
            details["as"] = EndWord.MASTER if sae == ALICE else EndWord.SLAVE
            details["others"] = (BOB, CAROL) if sae == ALICE else (ALICE,)
        named = [Subject.key(KEYS[index]) for index in indexes]
        subjects = (Subject.kme(peer), Subject.batch(BATCH), *named)
        return self.tell(owner, kind, *subjects, actor=Actor(ActorKind.SAE, sae), details=details)

    def enrolment(self, owner: str, link: int, hub: str = "h1", pad: PadWord = PadWord.DERIVED) -> float:
        subjects = (Subject.hub(HubName(hub)), Subject.kme(A), Subject.link(LinkId(bytes([link]) * 8)))
        kind = ENROLMENT_GENERATED if owner.startswith("h") else ENROLMENT_IMPORTED
        return self.tell(owner, kind, *subjects, details={"pad": pad}, verdict=Verdict.ALLOWED)

    def fates(self) -> Mapping[int, Fate]:
        return self.collected.history().fates.get(str(BATCH), {})


def test_both_ends_records_of_a_batch_are_one_batch() -> None:
    logs = Logs()
    first = logs.batch("b", links=("11" * 8, "12" * 8, "13" * 8))
    second = logs.batch("a")
    (batch,) = logs.collected.history().batches
    assert (batch.sender, batch.receiver, batch.keys, batch.threshold) == ("a", "b", 4, 2)
    assert batch.hubs == HUBS
    assert batch.sender_links == ("01" * 8, "", "03" * 8)
    assert batch.receiver_links == ("11" * 8, "12" * 8, "13" * 8)
    assert (batch.begin, batch.end) == (first - TRAVEL_SECONDS, second + TRAVEL_SECONDS)
    assert not batch.is_control


def test_record_from_before_its_fields_leaves_what_it_does_not_say_unknown() -> None:
    logs = Logs()
    details = {"keys": 4, "threshold": 2, "purpose": PurposeWord.CONTROL}
    logs.tell("a", BATCH_CONFIRMED, Subject.kme(B), Subject.batch(BATCH), details=details)
    logs.tell("h1", BATCH_CONFIRMED, Subject.kme(B), Subject.batch(BATCH), details=details)
    (batch,) = logs.collected.history().batches
    assert (batch.hubs, batch.sender_links) == ((), ())
    assert batch.is_control


def test_key_is_gone_at_the_sender_with_its_delivery_and_at_the_receiver_with_the_last_slaves() -> None:
    logs = Logs()
    logs.batch()
    given = logs.delivery(ALICE, 0, 1)
    logs.delivery(BOB, 0, 1)
    last = logs.delivery(CAROL, 0)
    assert logs.fates() == {0: Fate(given, last), 1: Fate(given, NEVER)}


def test_without_the_senders_record_nobody_knows_who_may_still_take_a_key() -> None:
    logs = Logs()
    logs.batch("b")
    logs.delivery(BOB, 2)
    assert logs.fates() == {2: Fate(NEVER, NEVER)}


def test_lost_delivery_erases_the_key_where_it_was_made_only() -> None:
    logs = Logs()
    logs.batch()
    lost = logs.delivery(ALICE, 3, kind=KEYS_VOIDED)
    logs.delivery(BOB, 2, kind=KEYS_VOIDED)
    assert logs.fates() == {3: Fate(lost, NEVER)}


def test_batch_that_expired_is_gone_there_and_what_went_earlier_stays_earlier() -> None:
    logs = Logs()
    logs.batch()
    given = logs.delivery(ALICE, 0)
    at_sender = logs.tell("a", KEYS_EXPIRED, Subject.kme(B), Subject.batch(BATCH))
    history = logs.collected.history()
    assert history.batch_fates == {str(BATCH): Fate(at_sender, NEVER)}
    assert history.fates[str(BATCH)] == {0: Fate(given, NEVER)}
    at_receiver = logs.tell("b", KEYS_EXPIRED, Subject.kme(A), Subject.batch(BATCH))
    assert logs.fates() == {0: Fate(given, at_receiver)}


def test_keys_that_no_record_names_are_counted_and_stay_where_they_are() -> None:
    logs = Logs()
    logs.batch()
    logs.delivery(ALICE, 0, keys=3)
    (delivery,) = logs.collected.deliveries()
    assert (delivery.sae, delivery.kme, delivery.as_master) == ("alice@a", "a", True)
    assert (delivery.keys, delivery.unnamed) == (((str(BATCH), 0),), 2)
    assert set(logs.fates()) == {0}


@pytest.mark.parametrize("realm", [True, False])
def test_delivery_of_a_batch_or_realm_that_nobody_recorded_names_no_key(realm: bool) -> None:
    logs = Logs(realm=realm)
    if not realm:
        logs.batch()
    logs.delivery(ALICE, 0)
    assert logs.fates() == {}
    (delivery,) = logs.collected.deliveries()
    assert delivery.unnamed == 1


def test_material_lives_from_its_making_until_the_next_and_tables_are_known() -> None:
    logs = Logs()
    first = logs.enrolment("h1", 1, pad=PadWord.TABLE)
    logs.enrolment("a", 1, pad=PadWord.TABLE)
    second = logs.enrolment("h1", 2)
    third = logs.enrolment("a", 2)
    links = logs.collected.history().links
    begin = first - TABLE_SECONDS
    assert links["01" * 8].is_table
    assert links["01" * 8].at_hub == Life(begin, second)
    assert links["01" * 8].at_kme == Life(begin, third)
    assert not links["02" * 8].is_table
    assert links["02" * 8].at_kme == Life(second - SEED_SECONDS, NEVER)


def test_without_the_hubs_record_nobody_knows_since_when_there_was_material() -> None:
    logs = Logs()
    logs.enrolment("a", 1)
    (link,) = logs.collected.history().links.values()
    assert link.at_hub == link.at_kme == Life(ALWAYS, NEVER)


def test_enrolment_that_was_refused_made_nothing() -> None:
    logs = Logs()
    subjects = (Subject.hub(HUBS[0]), Subject.kme(A), Subject.link(LinkId(b"1" * 8)))
    logs.tell("a", ENROLMENT_IMPORTED, *subjects, verdict=Verdict.REFUSED)
    logs.tell("a", ENROLMENT_IMPORTED, Subject.hub(HUBS[0]), verdict=Verdict.ALLOWED)
    logs.tell("a", DAEMON_STARTED)
    assert logs.collected.history().links == {}


def test_only_an_ends_own_log_says_that_its_keys_are_gone() -> None:
    logs = Logs()
    logs.batch()
    subjects = (Subject.kme(B), Subject.batch(BATCH), Subject.key(KEYS[0]))
    for owner, end in (("c", EndWord.MASTER), ("a", EndWord.SLAVE), ("b", EndWord.MASTER)):
        details = {"keys": 1, "as": end, "others": ()}
        logs.tell(owner, KEYS_DELIVERED, *subjects, actor=Actor(ActorKind.SAE, ALICE), details=details)
    assert logs.fates() == {}


def test_batch_id_of_another_form_is_a_defect() -> None:
    logs = Logs()
    logs.batch()
    collected = logs.collected
    found = next(iter(collected._batches.values()))
    collected._batches["nonsense"] = found
    with pytest.raises(LocalBug):
        collected._place("nonsense")
