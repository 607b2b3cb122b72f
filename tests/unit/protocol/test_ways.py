from __future__ import annotations

from skex.base.ids import HubName
from skex.protocol.ways import Ways
from tests.unit.protocol.peer_support import HUBS


def _ways(*hubs: HubName) -> Ways:
    ways = Ways()
    for hub in hubs:
        ways.up(hub)
    return ways


def test_repetitions_go_round_all_hubs() -> None:
    ways = _ways(*reversed(HUBS))
    seen, last = [], None
    for _ in HUBS:
        last = ways.next(last, b"\0\0")
        seen.append(last)
    assert seen == list(HUBS)
    assert ways.next(last, b"\0\0") == HUBS[0]


def test_first_attempts_spread_by_the_seed() -> None:
    ways = _ways(*HUBS)
    assert {ways.next(None, bytes((0, number))) for number in range(len(HUBS))} == set(HUBS)


def test_without_hubs_there_is_no_way() -> None:
    ways = _ways()
    assert ways.next(None, b"seed") is None
    assert ways.next(HUBS[0], b"seed") is None


def test_a_hub_that_went_down_is_not_taken() -> None:
    ways = _ways(*HUBS[:2])
    ways.down(HUBS[1])
    assert ways.next(HUBS[0], b"") == HUBS[0]
    assert not ways.is_up(HUBS[1])
    assert not _ways(HUBS[0]).is_up(HUBS[1])


def test_saying_it_twice_changes_nothing() -> None:
    ways = _ways(HUBS[0], HUBS[0])
    assert len(ways) == 1
    ways.down(HUBS[0])
    ways.down(HUBS[0])
    assert len(ways) == 0


def test_after_a_hub_that_is_gone_comes_the_one_behind_it() -> None:
    ways = _ways(HUBS[0], HUBS[2])
    assert ways.next(HUBS[1], b"") == HUBS[2]
