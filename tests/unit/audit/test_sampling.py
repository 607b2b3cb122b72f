"""Repetitive events are counted, not written one by one, and none goes unnoticed."""

from __future__ import annotations

from skex.audit.events import FORGERY_ATTEMPTED, SHARE_REJECTED
from skex.audit.fields import NETWORK, SYSTEM, Actor, ActorKind
from skex.audit.sampling import Counted, Sampler

SITE = Actor(ActorKind.KME, "site-1")


def test_a_rule_that_refuses_for_the_first_time_is_written_however_much_another_did() -> None:
    sampler = Sampler(seconds=10, burst=1)
    kind, actor = SHARE_REJECTED, SITE
    assert sampler.offer(kind, actor, 0.0, "sae.deny.a")
    assert not sampler.offer(kind, actor, 0.0, "sae.deny.a")
    assert sampler.offer(kind, actor, 0.0, "sae.deny.b")
    assert sampler.close(1.0) == (Counted(kind, actor, 1, 1, 1.0, "sae.deny.a"),)


def test_first_events_of_a_window_pass_and_the_rest_are_counted() -> None:
    sampler = Sampler(seconds=10, burst=2)
    passed = [sampler.offer(FORGERY_ATTEMPTED, NETWORK, 100.0 + n) for n in range(5)]
    assert passed == [True, True, False, False, False]
    assert sampler.next_deadline == 110.0
    assert sampler.ended(109.9) == ()
    assert sampler.ended(110.0) == (Counted(FORGERY_ATTEMPTED, NETWORK, 3, 2, 10.0),)
    assert sampler.offer(FORGERY_ATTEMPTED, NETWORK, 111.0)


def test_sampler_with_no_window_has_no_deadline() -> None:
    assert Sampler().next_deadline is None


def test_window_that_held_nothing_back_needs_no_summary() -> None:
    sampler = Sampler(seconds=10, burst=2)
    assert sampler.offer(FORGERY_ATTEMPTED, NETWORK, 0.0)
    assert sampler.ended(10.0) == ()


def test_noisy_actor_hides_no_other_actor_and_no_other_kind() -> None:
    sampler = Sampler(seconds=10, burst=1)
    for _ in range(100):
        sampler.offer(FORGERY_ATTEMPTED, NETWORK, 0.0)
    assert sampler.offer(FORGERY_ATTEMPTED, SITE, 0.0)
    assert sampler.offer(SHARE_REJECTED, NETWORK, 0.0)


def test_attacker_of_many_names_gets_no_more_windows() -> None:
    sampler = Sampler(seconds=10, burst=1, keys=4)
    actors = [Actor(ActorKind.KME, f"site-{number}") for number in range(1000)]
    passed = [sampler.offer(FORGERY_ATTEMPTED, actor, 0.0) for actor in actors]
    assert sum(passed) == 5
    assert sampler.ended(10.0) == (Counted(FORGERY_ATTEMPTED, SYSTEM, 995, 1, 10.0),)


def test_closing_tells_of_windows_that_are_not_over() -> None:
    sampler = Sampler(seconds=10, burst=1)
    for _ in range(3):
        sampler.offer(FORGERY_ATTEMPTED, SITE, 5.0)
    assert sampler.close(6.0) == (Counted(FORGERY_ATTEMPTED, SITE, 2, 1, 1.0),)
    assert sampler.close(6.0) == ()


def test_events_that_were_counted_elsewhere_are_in_the_summary() -> None:
    sampler = Sampler(seconds=10, burst=1)
    sampler.hold_back(FORGERY_ATTEMPTED, SITE, 40, 0.0)
    assert sampler.offer(FORGERY_ATTEMPTED, SITE, 1.0)
    assert not sampler.offer(FORGERY_ATTEMPTED, SITE, 2.0)
    assert sampler.ended(10.0) == (Counted(FORGERY_ATTEMPTED, SITE, 41, 1, 10.0),)
