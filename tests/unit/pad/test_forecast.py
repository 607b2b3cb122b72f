"""How long a pad lasts: the pace of late, the mean since enrolment, and when that is an alarm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skex.pad.forecast import DAY, HOUR, SPIKE_SECONDS, Flow, PadGauge, Thresholds

CAPACITY = 100_000_000
NEVER = Thresholds(0, 0)
MINUTE = 60.0


def used_evenly(gauge: PadGauge, left: int, per_second: float, seconds: float, age: float) -> int:
    """Look every minute while a pad is used at an even pace; whether it became low is counted."""
    alarms = 0
    for step in range(1, int(seconds / MINUTE) + 1):
        past = step * MINUTE
        alarms += gauge.look(left - round(per_second * past), age + past, past)
    return alarms


# ── flows ───────────────────────────────────────────────────────────────────────────────────────
def test_flow_that_saw_nothing_knows_nothing() -> None:
    flow = Flow(HOUR)
    flow.add(5, 0)
    assert (flow.per_second, flow.observed) == (None, 0)


@given(
    st.floats(0, 1e9),
    st.lists(st.floats(0.01, 1e6), min_size=1, max_size=50),
    st.sampled_from([MINUTE, HOUR, DAY]),
)
def test_even_flow_is_known_exactly_however_often_it_is_looked_at(
    pace: float, pauses: list[float], memory: float
) -> None:
    flow = Flow(memory)
    for pause in pauses:
        flow.add(pace * pause, pause)
    assert flow.per_second == pytest.approx(pace)


def test_what_is_long_past_is_forgotten() -> None:
    flow = Flow(HOUR)
    flow.add(1e6, HOUR)
    for _ in range(20):
        flow.add(10 * HOUR, HOUR)
    assert flow.per_second == pytest.approx(10, rel=1e-3)


# ── forecasts ───────────────────────────────────────────────────────────────────────────────────
def test_pace_that_was_watched_for_an_hour_counts_more_than_the_mean_since_enrolment() -> None:
    gauge = PadGauge(CAPACITY, CAPACITY // 2, NEVER, now=0)
    young = gauge.forecast(age=HOUR - 1)
    assert (young.burn, young.days, young.left, young.percent) == (None, None, CAPACITY // 2, 50)
    since = gauge.forecast(age=100 * DAY)
    assert since.burn == pytest.approx(CAPACITY / 2 / 100)
    assert since.days == pytest.approx(100)
    used_evenly(gauge, CAPACITY // 2, 10.0, HOUR, 100 * DAY)
    found = gauge.forecast(age=100 * DAY + HOUR)
    assert found.burn == pytest.approx(10 * DAY, rel=1e-3)
    assert found.days == pytest.approx(found.left / (10 * DAY), rel=1e-3)


def test_pad_that_nobody_uses_lasts_without_an_end() -> None:
    gauge = PadGauge(CAPACITY, CAPACITY, Thresholds(), now=0)
    assert used_evenly(gauge, CAPACITY, 0.0, DAY, DAY) == 0
    found = gauge.forecast(age=2 * DAY)
    assert (found.burn, found.days, found.low) == (0, None, False)


def test_refill_is_no_negative_use() -> None:
    gauge = PadGauge(CAPACITY, 1000, NEVER, now=0)
    gauge.look(CAPACITY, DAY, 2 * HOUR)
    assert gauge.forecast(DAY).burn == 0


# ── alarms ──────────────────────────────────────────────────────────────────────────────────────
def test_little_left_is_told_once_until_there_is_a_quarter_more() -> None:
    gauge = PadGauge(1000, 1000, Thresholds(percent=10, days=0), now=0)
    lefts = [1000, 100, 99, 98, 120, 124, 99, 125, 99]
    told = [gauge.look(left, MINUTE, number * MINUTE) for number, left in enumerate(lefts)]
    assert told == [False, False, True, False, False, False, False, False, True]


def test_pad_that_will_not_last_long_enough_is_low_although_most_of_it_is_there() -> None:
    enrolled = 2 * DAY
    gauge = PadGauge(CAPACITY, CAPACITY * 9 // 10, Thresholds(percent=10, days=20), now=0)
    assert gauge.look(CAPACITY * 9 // 10, enrolled, MINUTE)  # a tenth in two days: 18 days are left
    slower = PadGauge(CAPACITY, CAPACITY * 9 // 10, Thresholds(percent=10, days=17), now=0)
    assert not slower.look(CAPACITY * 9 // 10, enrolled, MINUTE)


def test_pace_of_the_last_hour_that_ends_the_pad_within_a_day_is_an_alarm_but_a_start_is_not() -> None:
    pace = CAPACITY / DAY * 1.5
    gauge = PadGauge(CAPACITY, CAPACITY, Thresholds(percent=1, days=1), now=0)
    assert used_evenly(gauge, CAPACITY, pace, SPIKE_SECONDS - MINUTE, 0) == 0
    assert used_evenly(gauge, gauge.forecast(0).left, pace, SPIKE_SECONDS, 0) == 1


def test_zero_thresholds_are_no_alarm_ever() -> None:
    gauge = PadGauge(CAPACITY, CAPACITY, NEVER, now=0)
    assert used_evenly(gauge, CAPACITY, CAPACITY / HOUR, HOUR, DAY) == 0
    assert gauge.forecast(DAY).left == 0
    assert not gauge.forecast(DAY).low
