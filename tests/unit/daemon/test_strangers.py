"""Whoever floods with connections pushes out his own; who connected and proved nothing is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skex.daemon.strangers import SOURCES_REMEMBERED, Strangers, source_of


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("no address", "unknown"),
    ],
)
def test_a_source_is_an_address_or_a_site(host: str, source: str) -> None:
    assert source_of(host) == source


def test_a_flood_from_one_source_pushes_out_its_own_and_nobody_else() -> None:
    strangers: Strangers[str] = Strangers(capacity=4)
    assert strangers.arrive("honest", "192.0.2.1") is None
    for number in range(3):
        assert strangers.arrive(f"flood-{number}", "198.51.100.9") is None
    for number in range(3, 100):
        loser = strangers.arrive(f"flood-{number}", "198.51.100.9")
        assert loser == f"flood-{number - 3}"
        strangers.leave(loser, proved=False)
    assert "honest" in strangers
    assert strangers.leave("honest", proved=True) == "192.0.2.1"
    assert strangers.worst(5) == [("198.51.100.9", 97)]


def test_one_that_does_not_wait_is_no_failure() -> None:
    strangers: Strangers[str] = Strangers()
    assert strangers.leave("never seen", proved=False) == ""
    assert strangers.worst(5) == []
    assert strangers.oldest_of_most() is None


def test_of_endless_sources_only_the_latest_are_remembered() -> None:
    strangers: Strangers[int] = Strangers()
    for number in range(3 * SOURCES_REMEMBERED):
        strangers.arrive(number, f"10.0.{number // 256}.{number % 256}")
        strangers.leave(number, proved=False)
    assert len(strangers.worst(1000)) == SOURCES_REMEMBERED
    assert len(strangers) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=80))
def test_whatever_comes_and_goes_the_bound_holds_and_a_lone_source_is_never_pushed_out_by_a_larger_one(
    steps: list[tuple[int, bool]],
) -> None:
    strangers: Strangers[int] = Strangers(capacity=6)
    hosts: dict[int, str] = {}
    for number, (host, leaves) in enumerate(steps):
        if leaves and hosts:
            gone = next(iter(hosts))
            del hosts[gone]
            strangers.leave(gone, proved=bool(host % 2))
            continue
        loser = strangers.arrive(number, f"192.0.2.{host}")
        if loser is not None:
            counts = {one: sum(other == one for other in hosts.values()) for one in hosts.values()}
            assert counts[hosts[loser]] == max(counts.values())
            assert loser == min(one for one, of in hosts.items() if of == hosts[loser])
            del hosts[loser]
            strangers.leave(loser, proved=False)
        hosts[number] = f"192.0.2.{host}"
        assert len(strangers) == len(hosts) <= 6
