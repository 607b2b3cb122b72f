"""What daemons say of their own starts, of clocks, and of what another epoch of the realm changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from skex.audit.chain import Record
from skex.audit.events import Event
from skex.audit.log import Audit
from skex.base import codes
from skex.base.errors import StoreFault
from skex.base.ids import HubName, KmeName, RealmName
from skex.daemon import homes
from skex.daemon.auditing import audited_run, started
from skex.daemon.config import KmeConfig, load_kme
from skex.daemon.evidence import realm_differences
from skex.daemon.master import read_master_key
from skex.daemon.recording import ClockWatch
from skex.daemon.starting import STORE_FILE
from skex.enrol.realm import HubDescription, new_realm
from skex.runtime import clock, entropy
from skex.runtime.auditfile import lines_of, segments
from skex.store.kme import KmeStore
from skex.wire.realm import HubAttributes, Realm
from tests.unit.audit.support import Clock


@pytest.fixture
def home(tmp_path: Path) -> KmeConfig:
    homes.init_kme(tmp_path / "north", KmeName("north"), {})
    return load_kme(tmp_path / "north")


@contextmanager
def run(config: KmeConfig) -> Iterator[Audit]:
    """One run of a daemon, as its store and log see it."""
    master = read_master_key(config.home)
    store = KmeStore.open(str(config.home / STORE_FILE), master, entropy.random_bytes, clock.unix_seconds)
    try:
        with audited_run(config, store) as audit:
            audit.emit(started(config))
            yield audit
    finally:
        store.close()


def records(config: KmeConfig) -> list[Record]:
    lines = [line for one in segments(config.audit.directory) for line, _ in lines_of(one)]
    return [record for line in lines if (record := Record.from_line(line)) is not None]


def events_of(config: KmeConfig) -> list[str]:
    return [record.event for record in records(config)]


def test_start_says_who_starts_and_which_version(home: KmeConfig) -> None:
    with run(home):
        pass
    opened, start = records(home)
    assert opened.subjects == start.subjects == {"kme": ("north",)}
    assert start.details["roles"] == ("kme",)


def test_start_behind_a_run_that_did_not_stop_says_so_once(home: KmeConfig) -> None:
    with run(home):
        pass
    with pytest.raises(ZeroDivisionError), run(home):
        raise ZeroDivisionError  # whatever ends a daemon without its being told to
    for _ in range(2):
        with run(home):
            pass
    assert events_of(home) == [
        "audit-opened",
        "daemon-started",
        "daemon-started",
        "crash-recovered",
        "daemon-started",
        "daemon-started",
    ]


def test_log_that_cannot_be_closed_does_not_hide_why_the_end_came(
    home: KmeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise StoreFault(codes.AUDIT_IO)

    def failing() -> None:
        with run(home) as audit:
            audit.emit(started(home))
            monkeypatch.setattr(audit._writer, "sync", broken)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()


# ── clocks ──────────────────────────────────────────────────────────────────────────────────────
def test_wall_clock_that_is_set_is_noticed_and_one_that_runs_is_not() -> None:
    hand, watch = Clock(), ClockWatch()
    assert watch.anomaly(hand()) is None
    hand.now += 3600  # both clocks: the machine slept
    assert watch.anomaly(hand()) is None
    for seconds, forward in ((7200, True), (-5, False)):
        now = hand()
        moved = replace(now, wall=now.wall + timedelta(seconds=seconds))
        event = watch.anomaly(moved)
        assert event is not None
        assert event.read_details() == {"seconds": abs(seconds), "forward": forward}
        watch = ClockWatch()
        watch.anomaly(hand())


def test_wall_clock_that_is_slewed_is_no_anomaly() -> None:
    hand, watch = Clock(), ClockWatch()
    watch.anomaly(hand())
    now = hand()
    assert watch.anomaly(replace(now, wall=now.wall + timedelta(seconds=1))) is None


# ── epochs ──────────────────────────────────────────────────────────────────────────────────────
def realm(*hubs: str, threshold: int) -> Realm:
    described = [
        HubDescription(HubName(hub), f"127.0.0.1:{7300 + at}", HubAttributes(hub, "x", "y", "z", "skex"))
        for at, hub in enumerate(hubs)
    ]
    return new_realm(RealmName("test"), threshold, described, issued=1_700_000_000)


def told(event: Event) -> tuple[str, dict[str, tuple[str, ...]], object]:
    return event.kind.name, event.subject_ids(), event.read_details()


def test_epoch_says_what_it_changed() -> None:
    before, after = realm("h1", "h2", "h3", threshold=2), realm("h1", "h2", "h4", "h5", threshold=3)
    test = {"realm": ("test",)}
    assert [told(one) for one in realm_differences(before, after)] == [
        ("threshold-changed", test, {"before": 2, "after": 3}),
        ("hub-added", {"hub": ("h4",), **test}, {}),
        ("hub-added", {"hub": ("h5",), **test}, {}),
        ("hub-retired", {"hub": ("h3",), **test}, {}),
    ]
    assert realm_differences(before, before) == ()
    assert realm_differences(None, before) == ()
