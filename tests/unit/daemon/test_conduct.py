"""Whoever asks too much waits; what others cause is logged seldom."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skex.base.ids import KmeName
from skex.daemon.conduct import WAIT_SECONDS, Allowance, Conducts, Seldom
from skex.protocol.quota import Rate


def test_a_burst_is_free_then_the_rate_holds() -> None:
    allowance = Allowance(Rate(per_second=2.0, burst=10.0))
    assert [allowance.use(100.0) for _ in range(10)] == [0.0] * 10
    assert allowance.use(100.0) == 0.5
    assert allowance.use(101.0) == 0.0
    assert allowance.use(200.0) == 0.0


@given(st.lists(st.floats(0, 3), min_size=1, max_size=300))
def test_one_that_waits_as_told_stays_within_the_rate_and_debts_are_forgiven(pauses: list[float]) -> None:
    allowance, now = Allowance(Rate(per_second=4.0, burst=5.0)), 0.0
    for number, pause in enumerate(pauses, 1):
        now += pause
        wait = allowance.use(now)
        assert wait <= WAIT_SECONDS
        now += wait
        assert number <= 5 + 4.0 * now + 1e-6


def test_after_the_worst_flood_the_next_waits_no_longer_than_the_bound() -> None:
    allowance = Allowance(Rate(per_second=0.5, burst=30.0))
    for _ in range(100_000):
        allowance.use(0.0)
    assert allowance.use(0.0) == WAIT_SECONDS
    assert allowance.use(2 * WAIT_SECONDS) == 0.0


def test_so_many_a_minute_pass() -> None:
    seldom = Seldom(3)
    assert [seldom.passes(100.0 + one) for one in range(6)] == [True, True, True, False, False, False]
    assert seldom.passes(160.0)


def test_each_name_has_its_own_conduct() -> None:
    conducts = Conducts()
    conducts.of(KmeName("north")).refused["forbidden"] += 1
    assert not conducts.of(KmeName("south")).refused
    assert conducts.of(KmeName("north")).refused == {"forbidden": 1}
