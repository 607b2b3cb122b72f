from __future__ import annotations

from skex.protocol.timers import Timers


def test_no_deadline_is_next_where_none_was_set() -> None:
    timers: Timers[str] = Timers()
    assert timers.next is None
    assert timers.due(1e9) == []


def test_due_keys_come_out_once_and_earliest_first() -> None:
    timers: Timers[str] = Timers()
    timers.set("late", 3.0)
    timers.set("early", 1.0)
    timers.set("middle", 2.0)
    assert timers.next == 1.0
    assert timers.due(2.0) == ["early", "middle"]
    assert timers.due(2.0) == []
    assert timers.next == 3.0


def test_a_moved_deadline_replaces_the_one_before() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.set("a", 5.0)
    assert timers.due(4.0) == []
    assert timers.due(5.0) == ["a"]


def test_a_cancelled_deadline_never_comes() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.cancel("a")
    timers.cancel("never set")
    assert "a" not in timers
    assert timers.next is None
    assert timers.due(2.0) == []


def test_a_deadline_moved_for_ever_does_not_fill_memory() -> None:
    timers: Timers[str] = Timers()
    for turn in range(10_000):
        timers.set("a", float(turn))
    assert len(timers._heap) < 200
    assert timers.due(9_998.0) == []
    assert timers.due(9_999.0) == ["a"]
