"""Token buckets under greedy requests and a policy that changes."""

from __future__ import annotations

from collections.abc import Hashable

from skex.base import limits
from skex.protocol.quota import Buckets, Quota, Rate

TWO = Quota(Rate(10, 100), Rate(1, 2))


def draw(buckets: Buckets, charges: dict[str, Quota], size: int, now: float) -> bool:
    of: dict[Hashable, Quota] = dict(charges.items())
    if buckets.exceeded(of, size, now) is not None or not buckets.room(of, now):
        return False
    buckets.spend(of, size, now)
    return True


def test_burst_passes_and_the_rest_waits_for_the_rate() -> None:
    buckets = Buckets()
    taken = [draw(buckets, {"pair": TWO}, 50, at) for at in (0.0, 0.0, 0.0, 4.0, 5.0, 5.0)]
    assert taken == [True, True, False, False, True, False]


def test_request_larger_than_the_burst_never_passes() -> None:
    buckets = Buckets()
    assert not draw(buckets, {"pair": TWO}, 101, 0.0)
    assert not draw(buckets, {"pair": TWO}, 101, 1e9)


def test_refused_request_counts_against_nobody_and_leaves_no_bucket() -> None:
    buckets = Buckets()
    none = Quota(Rate(0, 0), Rate(0, 0))
    assert buckets.exceeded({"pair": TWO, "total": none}, 1, 0.0) == "total"
    assert len(buckets) == 0


def test_lowered_quota_applies_to_what_was_spent_already() -> None:
    buckets = Buckets()
    assert draw(buckets, {"pair": TWO}, 50, 0.0)
    lower = Quota(Rate(10, 60), Rate(1, 2))
    assert not draw(buckets, {"pair": lower}, 50, 0.0)
    assert draw(buckets, {"pair": lower}, 50, 4.0)


def test_raised_rate_applies_from_the_next_request_on() -> None:
    buckets = Buckets()
    draw(buckets, {"pair": TWO}, 100, 0.0)
    faster = Quota(Rate(100, 100), Rate(100, 2))
    assert not draw(buckets, {"pair": faster}, 100, 0.0)
    assert draw(buckets, {"pair": faster}, 100, 1.0)


def test_bucket_that_forgot_everything_is_dropped_by_a_sweep() -> None:
    buckets = Buckets()
    draw(buckets, {"slow": TWO}, 100, 0.0)
    draw(buckets, {"fast": Quota(Rate(1e9, 1e9), Rate(1e9, 1e9))}, 100, 0.0)
    assert buckets.next_sweep == limits.RELAY_SWEEP_SECONDS
    held = []
    for at in (limits.RELAY_SWEEP_SECONDS - 1, limits.RELAY_SWEEP_SECONDS):
        buckets.sweep(at)
        held.append(len(buckets))
    assert held == [2, 0]


def test_nothing_to_sweep_has_no_deadline() -> None:
    assert Buckets().next_sweep is None


def test_sweep_keeps_a_bucket_that_still_remembers() -> None:
    buckets = Buckets()
    draw(buckets, {"frozen": Quota(Rate(0, 100), Rate(0, 10))}, 100, 0.0)
    draw(buckets, {"requests": Quota(Rate(1e9, 1e9), Rate(0, 10))}, 100, 0.0)
    buckets.sweep(1e6)
    assert len(buckets) == 2


def test_full_table_makes_room_by_a_sweep_once_buckets_forgot() -> None:
    buckets = Buckets(capacity=1)
    assert draw(buckets, {"first": TWO}, 10, 0.0)
    assert not draw(buckets, {"second": TWO}, 10, 5.0)
    assert draw(buckets, {"first": TWO}, 10, 5.0)
    assert draw(buckets, {"second": TWO}, 10, 11.0)
    assert len(buckets) == 1
