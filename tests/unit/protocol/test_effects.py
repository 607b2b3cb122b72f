from __future__ import annotations

from skex.protocol.effects import Collector, Effects


def test_effects_of_an_idle_event_are_empty() -> None:
    assert Effects().empty


def test_effects_with_any_part_are_not_empty() -> None:
    assert not Effects(persist=("change",)).empty
    assert not Effects(send=("bytes",)).empty
    assert not Effects(notify=("notice",)).empty


def test_collector_hands_out_each_part_in_order_and_only_once() -> None:
    collector: Collector[str, bytes, int] = Collector()
    collector.persist("first", "second")
    collector.send(b"one")
    collector.notify(1)
    collector.persist("third")
    collector.send(b"two")
    collector.notify(2, 3)

    assert collector.take() == Effects(("first", "second", "third"), (b"one", b"two"), (1, 2, 3))
    assert collector.take().empty
