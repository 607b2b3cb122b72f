from __future__ import annotations

import asyncio

import pytest

from skex.daemon import dialer
from skex.daemon.dialer import FIRST_SECONDS, LAST_SECONDS, STEADY_SECONDS, Backoff, keep_connected


def test_waits_double_up_to_a_bound_and_are_spread() -> None:
    most = FIRST_SECONDS
    backoff = Backoff()
    for _ in range(12):
        assert most / 2 <= backoff.next() <= most
        most = min(2 * most, LAST_SECONDS)
    assert len({backoff.next() for _ in range(50)}) > 1
    backoff.lasted(3600.0)
    assert backoff.next() <= FIRST_SECONDS


def test_a_connection_takes_back_one_doubling_for_each_time_that_it_stands() -> None:
    backoff = Backoff()
    for _ in range(6):
        backoff.next()
    waits = []
    for _ in range(7):
        backoff.lasted(STEADY_SECONDS)
        waits.append(backoff.next())
    assert min(waits) > FIRST_SECONDS  # each next() doubles what each lasted() halved
    for _ in range(6):
        backoff.lasted(STEADY_SECONDS)
    assert backoff.next() <= FIRST_SECONDS


@pytest.mark.parametrize("held", [0.0, 29.0, 30.0, 31.0, 65.0, 200.0])
@pytest.mark.parametrize("cuts", range(1, 12))
def test_whatever_the_pattern_of_cuts_there_is_one_connection_for_each_steady_time_in_the_long_run(
    held: float, cuts: int
) -> None:
    """An attacker lets one connection stand for ``held``, then cuts so many at once, for a day."""
    backoff, now, connections = Backoff(), 0.0, 0
    while now < 86_400:
        for turn in range(cuts):
            lasted = held if turn == 0 else 0.0
            backoff.lasted(lasted)
            now += lasted + backoff.next()
            connections += 1
    assert connections <= now / STEADY_SECONDS + 10


@pytest.mark.parametrize(
    "error", [OSError(), TimeoutError(), UnicodeError("label too long"), OverflowError()]
)
def test_an_address_that_cannot_be_dialled_is_tried_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer, "FIRST_SECONDS", 0.001)
    dialled: list[float] = []

    async def connect() -> asyncio.Event:
        dialled.append(0.0)
        raise error

    asyncio.run(keep_connected(connect, lambda: len(dialled) < 3, lambda: 0.0))
    assert len(dialled) == 3


def test_a_dial_that_hangs_is_given_up_with_nothing_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "FIRST_SECONDS", 0.001)
    monkeypatch.setattr(dialer, "DIAL_SECONDS", 0.01)
    cleaned: list[bool] = []

    async def connect() -> asyncio.Event:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(True)
        raise AssertionError

    asyncio.run(keep_connected(connect, lambda: len(cleaned) < 2, lambda: 0.0))
    assert len(cleaned) == 2


@pytest.mark.parametrize(("lasted", "dials_slow_down"), [(1.0, True), (31.0, False)])
def test_only_a_connection_that_lasted_starts_the_waits_anew(
    lasted: float, dials_slow_down: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    now = 0.0

    async def connect() -> asyncio.Event:
        ended = asyncio.Event()
        ended.set()
        return ended

    def clock() -> float:
        nonlocal now
        now += lasted
        return now

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(keep_connected(connect, lambda: len(waits) < 8, clock))
    assert (max(waits) > FIRST_SECONDS) is dials_slow_down
