from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skex.daemon import dialer
from skex.daemon.dialer import (
    FIRST_SECONDS,
    LAST_CHEAP_SECONDS,
    LAST_SECONDS,
    STEADY_SECONDS,
    Backoff,
    Dialled,
    keep_connected,
)


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

    async def connect() -> Dialled:
        dialled.append(0.0)
        raise error

    asyncio.run(keep_connected(connect, lambda: len(dialled) < 3, lambda: 0.0))
    assert len(dialled) == 3


def test_a_dial_that_hangs_is_given_up_with_nothing_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "FIRST_SECONDS", 0.001)
    monkeypatch.setattr(dialer, "DIAL_SECONDS", 0.01)
    cleaned: list[bool] = []

    async def connect() -> Dialled:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(True)
        raise AssertionError

    asyncio.run(keep_connected(connect, lambda: len(cleaned) < 2, lambda: 0.0))
    assert len(cleaned) == 2


def waits_behind(
    monkeypatch: pytest.MonkeyPatch, *, lasted: float, is_cheap: bool = False, dead: range = range(0)
) -> list[float]:
    """Twelve waits behind connections that each lasted so long, or, in ``dead``, dials that found nobody."""
    waits: list[float] = []
    now = 0.0

    async def connect() -> Dialled:
        if len(waits) in dead:
            raise ConnectionRefusedError
        dialled = Dialled(is_cheap=is_cheap)
        dialled.ended.set()
        return dialled

    def clock() -> float:
        nonlocal now
        now += lasted
        return now

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(keep_connected(connect, lambda: len(waits) < 12, clock))
    return waits


@pytest.mark.parametrize(("lasted", "dials_slow_down"), [(1.0, True), (31.0, False)])
def test_only_connections_that_stand_keep_the_waits_short(
    lasted: float, dials_slow_down: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (max(waits_behind(monkeypatch, lasted=lasted)) > FIRST_SECONDS) is dials_slow_down


def test_connections_that_cost_pad_are_paid_for_with_waits_of_up_to_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = waits_behind(monkeypatch, lasted=1.0)
    assert LAST_SECONDS / 2 <= max(waits) <= LAST_SECONDS


@pytest.mark.parametrize("case", [{"is_cheap": True}, {"dead": range(12)}], ids=["chain", "nobody there"])
def test_a_hub_that_was_away_for_long_is_found_within_seconds_where_that_costs_nothing(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = waits_behind(monkeypatch, lasted=1.0, **case)
    assert FIRST_SECONDS < max(waits) <= LAST_CHEAP_SECONDS


def test_dials_that_find_nobody_do_not_lengthen_the_wait_behind_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert waits_behind(monkeypatch, lasted=1.0, dead=range(9))[9] <= FIRST_SECONDS


def test_a_hub_that_was_reached_starts_the_waits_of_dials_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = waits_behind(monkeypatch, lasted=61.0, dead=range(1, 12))
    assert waits[1] <= FIRST_SECONDS
