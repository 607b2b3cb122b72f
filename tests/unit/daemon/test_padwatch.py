"""The watch over a daemon's table pads: real pads on a disk, links that are up or down, two clocks."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from prometheus_client import CollectorRegistry

from skex.audit.events import Event
from skex.base.ids import Direction, HubName, KmeName, LinkId, RealmName
from skex.base.secret import Secret
from skex.daemon.links import Links
from skex.daemon.padwatch import HUB_SIDE, KME_SIDE, PadWatch, Side
from skex.pad.forecast import DAY, HOUR, Thresholds
from skex.pad.kinds import Pad, PadKind
from skex.pad.table import TablePad
from skex.runtime import clock
from skex.runtime.connections import LinkShell
from skex.runtime.files import DiskFileSystem
from skex.runtime.tasks import Tasks
from skex.store.links import EnrolledLink, StoredLink
from skex.wire.claim import Enrolment
from skex.wire.preface import Marks

T = TypeVar("T")

UNIT = 4096
TABLE, DERIVED, DOWN = LinkId(bytes(7) + b"\1"), LinkId(bytes(7) + b"\2"), LinkId(bytes(7) + b"\3")
ENROLLED = 1_700_000_000
BOTH = (Direction.TO_HUB, Direction.TO_KME)


def link(link_id: LinkId, hub: str, kind: PadKind, units: int = 100) -> StoredLink:
    enrolled = EnrolledLink(
        link_id,
        RealmName("test"),
        HubName(hub),
        KmeName("north"),
        kind,
        Secret(bytes(64)),
        units,
        units,
        Enrolment.UNDER_PASSPHRASE,
    )
    return StoredLink(enrolled, ENROLLED, suspended=False, frozen=())


class Standing(Links):
    """The links of a daemon, one of them up; nothing dials."""

    def __init__(self, stored: list[StoredLink], marks: Mapping[LinkId, Marks]) -> None:
        async def read(link_id: LinkId) -> Marks:
            return marks[link_id]

        super().__init__(
            stored=stored,
            pads=cast("Any", None),
            sealing=cast("Any", None),
            threads=ThreadPoolExecutor(1),
            read_marks=read,
            contradiction=lambda _link, _code: None,
        )
        self.pads: dict[LinkId, dict[Direction, Pad]] = {}

    def shell(self, link_id: LinkId) -> LinkShell | None:
        pads = self.pads.get(link_id)
        return None if pads is None else cast("LinkShell", SimpleNamespace(pads=pads))

    def forget(self, link_id: LinkId) -> None:
        del self._known[link_id]


@dataclass
class Site:
    """A watch, its two clocks, and the pads that it looks at."""

    directory: Path
    side: Side = KME_SIDE
    thresholds: Thresholds = field(default_factory=Thresholds)
    floor: int = 0
    now: float = 1000.0
    wall: int = ENROLLED
    events: list[Event] = field(default_factory=list)
    heard: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        stored = [
            link(TABLE, "hub-1", PadKind.TABLE),
            link(DERIVED, "hub-2", PadKind.DERIVED),
            link(DOWN, "hub-3", PadKind.TABLE, units=200),
        ]
        self.links = Standing(stored, {DOWN: Marks(50, 150, 0, 0, 0, 0)})
        self.registry = CollectorRegistry()
        self.watch = PadWatch(
            self.side,
            self.links,
            thresholds=self.thresholds,
            emit=self.hear,
            registry=self.registry,
            floor=lambda: self.floor,
        )
        fs = DiskFileSystem(self.directory)
        self.pads: dict[Direction, Pad] = {}
        for direction in BOTH:
            TablePad.create(fs, direction.name, TABLE, direction, [b"\x5a" * (100 * UNIT)])
            self.pads[direction] = TablePad.open(fs, direction.name, TABLE, direction, 0)
        self.links.pads[TABLE] = self.pads
        self.links.pads[DERIVED] = {}

    def hear(self, event: Event) -> None:
        self.events.append(event)
        self.heard()

    def use(self, direction: Direction, upto: int) -> None:
        pad = self.pads[direction]
        start = 100 - pad.remaining_bytes // UNIT
        pad.finish(pad.prepare(start, upto - start, b"", b"")).wipe()

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.wall += int(seconds)

    def metric(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, name
        return value


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path)
    yield from standing(made, monkeypatch)


def standing(made: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(clock, "now", lambda: made.now)
    monkeypatch.setattr(clock, "unix_seconds", lambda: made.wall)
    yield made
    for pad in made.pads.values():
        pad.close()


def play(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_report_says_what_is_left_of_table_pads_up_and_down_and_nothing_of_derived_ones(site: Site) -> None:
    site.passes(10 * DAY)
    site.use(Direction.TO_HUB, 25)
    found = play(site.watch.report())
    assert set(found) == {TABLE, DOWN}
    assert found[TABLE]["to_hub"] == {
        "capacity_bytes": 100 * UNIT,
        "left_bytes": 75 * UNIT,
        "left_percent": 75.0,
        "bytes_per_day": round(2.5 * UNIT),
        "days_left": 30.0,
        "low": False,
    }
    assert found[TABLE]["to_kme"]["days_left"] is None
    assert (found[DOWN]["to_hub"]["left_percent"], found[DOWN]["to_kme"]["left_percent"]) == (75.0, 25.0)
    assert found[DOWN]["to_kme"]["low"]  # 150 of 200 units in ten days: four days are left


def test_pad_that_becomes_low_is_an_alarm_once(site: Site) -> None:
    site.watch.look()
    site.use(Direction.TO_KME, 95)
    site.passes(60)
    for _ in range(3):
        site.watch.look()
    (event,) = site.events
    assert (event.kind.name, event.details) == ("pad-low", {"left_bytes": 5 * UNIT})
    assert event.subject_ids() == {"hub": ("hub-1",), "link": (TABLE.hex(),)}
    assert site.metric("skex_kme_pad_low", hub="hub-1", direction="to_kme") == 1
    assert site.metric("skex_kme_pad_low", hub="hub-1", direction="to_hub") == 0


def test_metrics_are_no_number_while_nothing_is_known_and_then_say_the_days(site: Site) -> None:
    site.watch.look()
    labels = {"hub": "hub-1", "direction": "to_hub"}
    assert math.isnan(site.metric("skex_kme_pad_days_left", **labels))
    assert math.isnan(site.metric("skex_kme_pad_bytes_per_day", **labels))
    site.use(Direction.TO_HUB, 50)
    site.passes(HOUR)
    site.watch.look()
    assert site.metric("skex_kme_pad_bytes_per_day", **labels) == pytest.approx(50 * UNIT * 24)
    assert site.metric("skex_kme_pad_days_left", **labels) == pytest.approx(1 / 24)
    assert [one.details for one in site.events] == [{"left_bytes": 50 * UNIT, "days_left": 0}]


def test_link_that_is_enrolled_no_more_is_forgotten(site: Site) -> None:
    site.watch.look()
    site.links.forget(TABLE)
    site.watch.look()
    assert set(play(site.watch.report())) == {DOWN}
    assert site.metric("skex_kme_pad_low", hub="hub-1", direction="to_hub") == 0


def test_wall_clock_before_the_enrolment_is_no_age(site: Site) -> None:
    site.wall = 0
    assert play(site.watch.report())[TABLE]["to_hub"]["days_left"] is None


def test_hub_tells_once_that_a_pad_is_kept_for_control_traffic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scene(site: Site) -> None:
        site.watch.look()
        site.use(Direction.TO_KME, 91)
        site.watch.look()
        site.watch.look()
        (event,) = site.events
        assert (event.kind.name, event.details) == ("pad-floor-reached", {"left_bytes": 9 * UNIT})
        assert event.subject_ids() == {"kme": ("north",), "link": (TABLE.hex(),)}
        site.floor = 0
        site.watch.look()
        site.floor = 10 * UNIT
        site.watch.look()
        assert len(site.events) == 2

    made = Site(tmp_path, HUB_SIDE, Thresholds(0, 0), floor=10 * UNIT)
    for site in standing(made, monkeypatch):
        scene(site)


def test_watch_looks_every_so_often_until_it_is_stopped(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skex.base.limits.PAD_LOOK_SECONDS", 0)
    site.use(Direction.TO_KME, 95)

    async def scene() -> None:
        looked = asyncio.Event()
        site.heard = looked.set
        failures: list[BaseException] = []
        tasks = Tasks(failures.append)
        tasks.start(site.watch.run(), "watch")
        await looked.wait()
        await tasks.stop()
        assert failures == []

    play(scene())
