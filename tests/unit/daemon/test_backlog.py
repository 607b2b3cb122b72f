"""A sender that fills the way to a slow receiver leaves room on it for the others."""

from __future__ import annotations

from skex.base.ids import KmeName
from skex.daemon.backlog import FREE_BYTES, MOST_BYTES, Backlog

GREEDY, NORTH, WEST = map(KmeName, ("greedy", "north", "west"))
SIZE = 1000


def test_a_fast_receiver_takes_what_comes() -> None:
    backlog = Backlog()
    assert all(backlog.admits(GREEDY, SIZE, 0) for _ in range(10_000))


def test_a_sender_alone_fills_a_little_more_than_what_is_free_and_others_still_find_room() -> None:
    backlog, waiting = Backlog(), 0
    while backlog.admits(GREEDY, SIZE, waiting):
        waiting += SIZE
    assert FREE_BYTES <= waiting <= FREE_BYTES + SIZE
    for other in (NORTH, WEST):
        mine = 0
        while backlog.admits(other, SIZE, waiting):
            mine, waiting = mine + SIZE, waiting + SIZE
        assert mine >= FREE_BYTES // 4
        assert not backlog.admits(GREEDY, SIZE, waiting)
    assert waiting < MOST_BYTES


def test_what_was_sent_counts_no_more() -> None:
    backlog, waiting = Backlog(), 0
    while backlog.admits(GREEDY, SIZE, waiting):
        waiting += SIZE
    assert not backlog.admits(GREEDY, SIZE, waiting)
    assert backlog.admits(GREEDY, SIZE, 0)


def test_beyond_the_most_nobody_is_admitted() -> None:
    backlog = Backlog()
    assert not backlog.admits(NORTH, SIZE, MOST_BYTES + 1)
