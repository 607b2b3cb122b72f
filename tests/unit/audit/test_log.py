"""One way in: records in their order, the important ones on the medium before anything goes on."""

from __future__ import annotations

import pytest

from skex.audit.chain import GENESIS, Record
from skex.audit.events import FORGERY_ATTEMPTED, Event
from skex.audit.fields import NETWORK
from skex.audit.sampling import Sampler
from skex.base import codes, limits
from skex.base.errors import StoreFault
from tests.unit.audit.support import IMPORTANT, MINOR, Log, check

FORGERY = Event(FORGERY_ATTEMPTED, NETWORK)


def events_of(log: Log) -> list[str]:
    return [record.event for line in log.paper.lines if (record := Record.from_line(line))]


def test_important_event_is_on_the_medium_when_emit_returns() -> None:
    log = Log(policy="ab")
    head = log.audit.emit(MINOR, IMPORTANT)
    assert log.paper.synced == log.paper.data
    assert head == log.audit.head
    assert check(log.paper.lines, anchor=head).is_sound
    assert b'"policy":"ab"' in log.paper.data


def test_minor_events_are_synced_together_when_a_second_is_over() -> None:
    log = Log()
    log.audit.emit(MINOR)
    log.clock.now += 0.5
    log.audit.emit(MINOR)
    assert log.paper.synced == b""
    assert log.audit.next_deadline == 1000.0 + limits.AUDIT_SYNC_SECONDS
    log.audit.tick()
    assert log.paper.synced == b""
    log.clock.now = 1000.0 + limits.AUDIT_SYNC_SECONDS
    log.audit.tick()
    assert log.paper.synced == log.paper.data
    assert log.audit.next_deadline is None


def test_nothing_emitted_writes_nothing() -> None:
    log = Log()
    assert log.audit.emit() == GENESIS
    log.audit.tick()
    assert log.paper.data == b""


def test_sets_of_a_committer_become_one_write_in_their_order() -> None:
    log = Log()
    log.audit.commit([[MINOR], [IMPORTANT, MINOR]])
    assert events_of(log) == ["share-relayed", "keys-delivered", "share-relayed"]
    log.audit.commit([[MINOR]])
    assert log.paper.sequences == [1, 4]


def test_flood_of_forgeries_is_counted_and_the_count_is_written() -> None:
    log = Log(Sampler(seconds=10, burst=2))
    for _ in range(1000):
        log.audit.emit(FORGERY)
    assert events_of(log) == ["forgery-attempted"] * 2
    log.clock.now += 10
    log.audit.tick()
    last = Record.from_line(log.paper.lines[-1])
    assert last is not None
    assert (last.event, last.actor) == ("events-counted", "network")
    assert last.details == {"of": "forgery-attempted", "counted": 998, "written": 2, "seconds": 10}


def test_count_of_an_ended_window_stands_before_the_next_event() -> None:
    log = Log(Sampler(seconds=10, burst=1))
    log.audit.emit(FORGERY, FORGERY)
    log.clock.now += 10
    log.audit.emit(FORGERY)
    assert events_of(log) == ["forgery-attempted", "events-counted", "forgery-attempted"]


def test_closing_writes_the_counts_syncs_and_gives_the_log_up() -> None:
    log = Log(Sampler(seconds=10, burst=1))
    log.audit.emit(FORGERY, FORGERY)
    head = log.audit.close()
    assert events_of(log) == ["forgery-attempted", "events-counted"]
    assert log.paper.synced == log.paper.data
    assert log.paper.closed
    assert check(log.paper.lines, anchor=head).is_sound
    with pytest.raises(StoreFault):
        log.audit.emit(IMPORTANT)


def test_closing_with_nothing_left_to_sync_only_gives_the_log_up() -> None:
    log = Log()
    log.audit.emit(IMPORTANT)
    log.paper.synced = b"untouched"
    log.audit.close()
    assert log.paper.synced == b"untouched"


def test_full_disk_stops_the_log_until_it_is_opened_again() -> None:
    log = Log()
    log.audit.emit(IMPORTANT)
    head = log.audit.head
    log.paper.fails = True
    with pytest.raises(StoreFault) as error:
        log.audit.emit(IMPORTANT)
    assert error.value.code is codes.AUDIT_IO
    log.paper.fails = False
    with pytest.raises(StoreFault):
        log.audit.emit(IMPORTANT)
    with pytest.raises(StoreFault):
        log.audit.close()
    assert log.paper.closed
    assert log.audit.head == head
    assert events_of(log) == ["keys-delivered"]


def test_events_that_nobody_had_time_to_hand_in_are_counted_too() -> None:
    log = Log(Sampler(seconds=10, burst=2))
    log.audit.hold_back({(FORGERY_ATTEMPTED, NETWORK): 12})
    log.clock.now += 10
    log.audit.tick()
    last = Record.from_line(log.paper.lines[-1])
    assert last is not None
    assert last.details == {"of": "forgery-attempted", "counted": 12, "written": 0, "seconds": 10}
