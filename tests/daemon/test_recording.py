from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from skex.audit import events
from skex.audit.events import Event, Kind
from skex.audit.fields import NETWORK, Actor
from skex.audit.log import Audit
from skex.base import codes, limits
from skex.base.errors import SkexError, StoreFault
from skex.base.ids import LinkId, SaeId
from skex.base.secret import Secret
from skex.daemon import record, recording
from skex.daemon.hub import HubDaemon
from skex.daemon.recording import RecordedKeys, Recording
from skex.keys.api import DeliveredKey, KeyService, Requirements
from skex.protocol.session import RolledBack

CALLER, SLAVE = SaeId("a@north"), SaeId("b@south")


class Log:
    """An audit log that fails when told to."""

    policy = ""

    def __init__(self) -> None:
        self.written: list[Event] = []
        self.ticks = 0
        self.held_back: Counter[tuple[Kind, Actor]] = Counter()
        self.failure: StoreFault | None = None

    def commit(self, sets: Sequence[Sequence[Event]]) -> None:
        if self.failure is not None:
            raise self.failure
        self.written += [event for one in sets for event in one]

    def tick(self) -> None:
        self.ticks += 1

    def hold_back(self, counts: Mapping[tuple[Kind, Actor], int]) -> None:
        self.held_back += counts


class Keys:
    """Delivers one key, and records it as the key service does: without waiting."""

    def __init__(self, recorded: Recording) -> None:
        self.recorded = recorded
        self.secret = Secret(b"k" * 32)

    async def take_new(self, *_: Any) -> tuple[DeliveredKey, ...]:
        self.recorded.emit(Event(events.DAEMON_STARTED))
        return (DeliveredKey(uuid.UUID(int=1), self.secret, cast("Any", None), cast("Any", None)),)

    take_by_id = take_new


def test_an_alarm_that_was_recorded_is_written_and_one_that_cannot_be_is_no_success() -> None:
    async def run() -> None:
        log = Log()
        recorded = Recording(cast("Audit", log), lambda _: None)
        recorded.start()
        alarm = record.rollback_of(LinkId(bytes(8)))
        await recorded.record(alarm)
        assert log.written == [alarm]
        log.failure = StoreFault(codes.AUDIT_IO, "full")
        with pytest.raises(StoreFault):
            await recorded.record(alarm)
        await recorded.stop()

    asyncio.run(run())


def test_a_hub_goes_on_behind_its_rollback_alarm_only() -> None:
    alarms: list[Event] = []
    went_on: list[bool] = []

    async def run() -> None:
        begun, written = asyncio.Event(), asyncio.Event()

        async def recorded(event: Event) -> None:
            alarms.append(event)
            begun.set()
            await written.wait()

        hub = object.__new__(HubDaemon)
        hub._recorded = recorded

        async def preface() -> None:
            await hub.rolled_back(cast("Any", None), RolledBack(LinkId(bytes(8)), (0, 0, 0), (0, 0, 1)))
            went_on.append(True)

        async with asyncio.TaskGroup() as group:
            group.create_task(preface())
            await begun.wait()
            assert not went_on
            written.set()

    asyncio.run(run())
    assert went_on
    assert [one.kind.name for one in alarms] == ["rollback-noticed"]


def test_keys_go_out_behind_their_record_and_not_at_all_without_it() -> None:
    async def run() -> None:
        log = Log()
        failures: list[BaseException] = []
        recorded = Recording(cast("Audit", log), failures.append)
        recorded.start()
        keys = Keys(recorded)
        service = RecordedKeys(cast("KeyService", keys), recorded)
        assert len(await service.take_new(CALLER, (SLAVE,), 1, 32, Requirements())) == 1
        assert len(log.written) == 1
        log.failure = StoreFault(codes.AUDIT_IO, "full")
        for _ in range(2):
            with pytest.raises(StoreFault) as caught:
                await service.take_by_id(CALLER, SLAVE, ())
            assert caught.value.code is codes.AUDIT_IO
        with pytest.raises(SkexError):
            keys.secret.expose()
        await asyncio.sleep(0)
        assert failures == [log.failure]
        await recorded.stop()

    asyncio.run(run())


def test_the_logs_own_clock_is_run_and_a_disk_too_far_behind_ends_the_daemon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "AUDIT_SYNC_SECONDS", 0.01)
    monkeypatch.setattr(recording, "BACKLOG_EVENTS", 3)

    async def run() -> None:
        log = Log()
        failures: list[BaseException] = []
        recorded = Recording(cast("Audit", log), failures.append)
        recorded.start()
        await asyncio.sleep(0.1)
        assert log.ticks > 1
        for _ in range(4):
            recorded.emit(Event(events.DAEMON_STARTED))
        assert [type(one) for one in failures] == [StoreFault]
        await recorded.stop()
        assert len(log.written) == 3

    asyncio.run(run())


def test_events_that_others_cause_are_counted_when_the_disk_is_behind_and_never_end_the_daemon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "AUDIT_SYNC_SECONDS", 0.01)
    monkeypatch.setattr(recording, "BACKLOG_EVENTS", 6)
    monkeypatch.setattr(recording, "CROWDED_EVENTS", 3)

    async def run() -> None:
        log = Log()
        failures: list[BaseException] = []
        recorded = Recording(cast("Audit", log), failures.append)
        recorded.start()
        for _ in range(100):
            recorded.emit(Event(events.FORGERY_ATTEMPTED, NETWORK))
        recorded.emit(Event(events.DAEMON_STARTED))
        await recorded.stop()
        assert not failures
        assert [one.kind for one in log.written] == [events.FORGERY_ATTEMPTED] * 3 + [events.DAEMON_STARTED]
        assert log.held_back == {(events.FORGERY_ATTEMPTED, NETWORK): 97}

    asyncio.run(run())
