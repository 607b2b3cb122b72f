"""Connections cut after every byte and ends that die after every action: exhaustively, not by luck.

Each history goes on with a new connection that must work, and the ledger of the world sees that no pad
byte was sealed twice in all of it.
"""

from __future__ import annotations

import pytest

from simulation.link_pair import Host, Joined, LinkPair
from skex.base.ids import Direction, KmeName
from skex.pad.kinds import PadKind
from skex.wire import messages
from skex.wire.preface import Marks

KINDS = [PadKind.DERIVED, PadKind.TABLE]
UNITS = 80
ALL = 1_000_000
REQUEST = messages.Peer(KmeName("bob"), bytes(3900))
"""Larger than the first unit of a table: the exchange needs a second grant."""
ANSWER = messages.RealmFile(bytes(3900))


class Exchange:
    """A preface and a first exchange, one byte or one action at a time."""

    def __init__(self, pair: LinkPair) -> None:
        self.pair = pair
        self.joined: Joined = pair.dial()
        self.asked = self.answered = False

    def converse(self) -> None:
        """The KME asks as soon as it can, the hub answers."""
        kme, hub = self.joined.sides
        if kme.open and not self.asked:
            self.asked = True
            kme.send(REQUEST, "request")
        if hub.open and hub.arrived and not self.answered:
            self.answered = True
            hub.send(ANSWER)
            hub.send(messages.Done(hub.arrived[0].ordinal))

    @property
    def complete(self) -> bool:
        return bool(self.joined.kme.answered)

    def run_bytes(self, limit: int) -> int:
        """Deliver so many bytes in all, the KME's first; returns how many there were."""
        delivered, moved = 0, True
        while moved:
            moved = False
            for side in self.joined.sides:
                moved |= side.run() > 0
                self.converse()
                moved |= side.run() > 0
            for side in reversed(self.joined.sides):
                count = side.deliver(limit - delivered)
                delivered += count
                moved |= count > 0
                if delivered == limit:
                    return delivered
        return delivered

    def run_actions(self, host: Host, limit: int) -> int:
        """Let ``host`` carry out so many actions; returns how many it did."""
        done, moved = 0, True
        while moved:
            moved = False
            for side in self.joined.sides:
                while side.host is not host or done < limit:
                    self.converse()
                    if not side.step():
                        break
                    done += side.host is host
                    moved = True
                moved |= side.deliver() > 0
                self.converse()
            if done >= limit:
                return done
        return done


def require_working(pair: LinkPair, before: tuple[Marks, Marks]) -> None:
    """A new connection works, no mark fell, nobody thinks it was rolled back."""
    again = Exchange(pair)
    again.run_bytes(ALL)
    assert again.complete
    for host, old in zip(pair.hosts, before, strict=True):
        now = host.marks
        assert min(now.to_hub - old.to_hub, now.to_kme - old.to_kme, now.count - old.count) >= 0
        assert not host.store.alarms


def marks_of(pair: LinkPair) -> tuple[Marks, Marks]:
    return pair.kme.marks, pair.hub.marks


@pytest.mark.parametrize("kind", KINDS)
def test_connection_cut_after_any_byte_is_followed_by_one_that_works(kind: PadKind) -> None:
    total = Exchange(LinkPair(kind, units=UNITS)).run_bytes(ALL)
    assert total > 8000
    # Every byte of the preface and of the short records; inside the long bodies only some.
    for cut in [*range(700), *range(700, total - 150, 211), *range(total - 150, total)]:
        pair = LinkPair(kind, units=UNITS)
        exchange = Exchange(pair)
        assert exchange.run_bytes(cut) == cut
        exchange.joined.cut()
        assert not any(host.sides for host in pair.hosts)
        require_working(pair, marks_of(pair))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["kme", "hub"])
def test_end_that_dies_after_any_action_is_followed_by_a_connection_that_works(
    kind: PadKind, name: str
) -> None:
    def host_of(pair: LinkPair) -> Host:
        return pair.kme if name == "kme" else pair.hub

    whole = LinkPair(kind, units=UNITS)
    total = Exchange(whole).run_actions(host_of(whole), 10_000)
    assert total >= 15
    for count in range(total + 1):
        pair = LinkPair(kind, seed=count, units=UNITS)
        exchange = Exchange(pair)
        assert exchange.run_actions(host_of(pair), count) == count
        before = marks_of(pair)
        host_of(pair).crash()
        for side in exchange.joined.sides:
            side.run()
        require_working(pair, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["kme", "hub"])
def test_end_rolled_back_to_any_moment_reuses_nothing_and_notices_what_the_other_saw(
    kind: PadKind, name: str
) -> None:
    def host_of(pair: LinkPair) -> Host:
        return pair.kme if name == "kme" else pair.hub

    whole = LinkPair(kind, units=UNITS)
    total = Exchange(whole).run_actions(host_of(whole), 10_000)
    for moment in range(total):
        pair = LinkPair(kind, seed=moment, units=UNITS)
        exchange = Exchange(pair)
        exchange.run_actions(host_of(pair), moment)
        image = host_of(pair).image()
        exchange.run_bytes(ALL)
        assert exchange.complete
        host_of(pair).restore(image)
        other = pair.hub if name == "kme" else pair.kme
        own, seen = host_of(pair).marks, other.store.marks
        behind = own.to_hub < seen.seen_to_hub or own.to_kme < seen.seen_to_kme or own.count < seen.seen_count
        again = Exchange(pair)
        again.run_bytes(ALL)
        assert again.complete
        assert len(host_of(pair).store.alarms) == int(behind), moment
        assert not other.store.alarms


def test_directions_are_both_covered() -> None:
    pair = LinkPair(PadKind.TABLE, units=UNITS)
    exchange = Exchange(pair)
    exchange.run_bytes(ALL)
    assert exchange.complete
    for way in Direction:
        assert sum(len(data) for data in exchange.joined.cable.sent[way]) > 3900
    assert (pair.kme.marks.to_hub, pair.kme.marks.to_kme) == (33, 33)
