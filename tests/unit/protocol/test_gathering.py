from __future__ import annotations

import pytest

from simulation.exchange import ALICE, BOB, NO_CLAIM, hub_name, make_realm
from skex.base import limits
from skex.base.ids import BatchId, Coordinate, Incarnation, KmeName
from skex.base.secret import Secret
from skex.protocol import establishment
from skex.protocol.gathering import (
    GROUP_TABLE,
    BatchKey,
    Gathering,
    Group,
    GroupKey,
    GroupState,
    GroupStep,
    Offer,
    SearchTurns,
)
from skex.protocol.states import mermaid
from skex.wire.context import CompactContext, Context, Purpose

SHARE_BYTES = 80 + 32
GREEDY = KmeName("greedy")


def make_context(counter: int = 1, sender: KmeName = ALICE) -> Context:
    compact = CompactContext(
        epoch=1,
        threshold=2,
        hubs=(Coordinate(1), Coordinate(2), Coordinate(3)),
        keys=1,
        key_bytes=32,
        purpose=Purpose.TRAFFIC,
        lifetime=60,
        group=None,
        claim=NO_CLAIM,
    )
    batch = BatchId(Incarnation(b"i" * 16), counter)
    return establishment.expand(compact, make_realm(3, 2), sender=sender, receiver=BOB, batch=batch)


def make_key(context: Context, tag: bytes = bytes(16)) -> GroupKey:
    return GroupKey(BatchKey(context.sender, context.batch), context.digest(), tag)


def ready(group: Group) -> bool:
    """Asked again, because the checker takes a property for fixed."""
    return group.searchable


class Room:
    """A gathering, and shares offered to it by number."""

    def __init__(self, hubs: int = 3) -> None:
        self.gathering = Gathering(hubs)

    def offer(
        self,
        hub: int,
        *,
        counter: int = 1,
        tag: bytes = bytes(16),
        share: bytes = b"",
        now: float = 0.0,
        sender: KmeName = ALICE,
        last: bool = False,
    ) -> Offer:
        context = make_context(counter, sender)
        secret = Secret(share or bytes([hub]) * SHARE_BYTES)
        key = make_key(context, tag)
        return self.gathering.offer(
            hub_name(hub), Coordinate(hub), key, context, share=secret, now=now, last=last
        )

    def group(self, counter: int = 1, tag: bytes = bytes(16)) -> Group:
        return self.gathering[make_key(make_context(counter), tag)]


def test_shares_with_one_context_and_tag_meet() -> None:
    room = Room()
    assert room.offer(1) is Offer.TAKEN
    assert not ready(room.group())
    assert room.offer(2) is Offer.TAKEN
    assert ready(room.group())


def test_the_same_share_again_is_harmless() -> None:
    room = Room()
    room.offer(1)
    assert room.offer(1) is Offer.REPEATED
    assert len(room.group().shares) == 1


def test_a_hub_with_a_second_share_is_told_from_one_that_repeats() -> None:
    room = Room()
    room.offer(1)
    assert room.offer(1, share=bytes(SHARE_BYTES)) is Offer.DIFFERENT
    assert room.offer(1, tag=b"t" * 16) is Offer.DIFFERENT
    assert room.group().shares[Coordinate(1)] == Secret(bytes([1]) * SHARE_BYTES)


def test_a_bogus_group_under_an_honest_batch_id_stands_beside_it() -> None:
    room = Room()
    room.offer(3, tag=b"lie!" * 4)
    room.offer(1)
    room.offer(2)
    assert ready(room.group())
    assert len(room.gathering.groups_of(BatchKey(ALICE, make_context().batch))) == 2


def test_a_hub_that_opens_too_many_groups_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_GROUPS_PER_HUB", 4)
    room = Room()
    taken = [room.offer(3, counter=counter) for counter in range(10, 16)]
    assert taken == [Offer.TAKEN] * 4 + [Offer.FULL] * 2
    assert room.offer(1) is Offer.TAKEN
    assert room.offer(3) is Offer.TAKEN  # joining is not opening


def test_a_hub_that_fills_its_room_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_SHARE_BYTES", 3 * 2 * SHARE_BYTES)
    room = Room(hubs=3)
    taken = [room.offer(3, counter=counter) for counter in range(10, 13)]
    assert taken == [Offer.TAKEN, Offer.TAKEN, Offer.FULL]
    assert room.offer(1) is Offer.TAKEN
    assert room.offer(2) is Offer.TAKEN


def test_a_sender_of_many_groups_gives_way_to_one_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_GROUPS_PER_HUB", 6)
    room = Room()
    for counter in range(20):
        room.offer(3, counter=counter, sender=GREEDY)
    mine = [room.offer(3, counter=100 + counter) for counter in range(4)]
    assert mine == [Offer.TAKEN] * 3 + [Offer.FULL]  # the half of it, and no more
    waiting = [group.key.of for group in room.gathering]
    assert [of.batch.counter for of in waiting if of.sender == GREEDY] == [3, 4, 5]  # the oldest went
    assert room.offer(3, counter=50, sender=GREEDY) is Offer.FULL


def test_a_sender_of_large_shares_gives_way_to_one_of_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_SHARE_BYTES", 3 * 10 * SHARE_BYTES)
    room = Room(hubs=3)
    large = bytes(4 * SHARE_BYTES)
    assert room.offer(3, counter=1, sender=GREEDY, share=large) is Offer.TAKEN
    assert room.offer(3, counter=2, sender=GREEDY, share=large) is Offer.TAKEN
    assert room.offer(3, counter=3, sender=GREEDY, share=large) is Offer.FULL
    mine = [room.offer(3, counter=100 + counter) for counter in range(7)]
    assert mine == [Offer.TAKEN] * 6 + [Offer.FULL]


def test_giving_way_costs_a_group_the_share_of_that_hub_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_GROUPS_PER_HUB", 2)
    room = Room()
    room.offer(3, counter=1, sender=GREEDY)
    room.offer(1, counter=1, sender=GREEDY)
    room.offer(3, counter=2, sender=GREEDY)
    group = next(iter(room.gathering))
    lost = group.shares[Coordinate(3)]
    assert room.offer(3, counter=100) is Offer.TAKEN
    assert lost.wiped
    assert list(group.shares) == [1]
    assert group.opener == hub_name(1)
    # The group counts as the other hub's from now on: that one has room for one more.
    assert room.offer(1, counter=50) is Offer.TAKEN
    assert room.offer(1, counter=51) is Offer.FULL
    assert len(room.gathering.expire(limits.GROUP_SECONDS)) == len(list(room.gathering)) + 4
    assert room.offer(1, counter=52) is room.offer(3, counter=53) is Offer.TAKEN


def test_an_aborted_group_gives_way_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_GROUPS_PER_HUB", 3)
    room = Room()
    for counter in range(3):
        room.offer(3, counter=counter, sender=GREEDY)
    for group in room.gathering:
        room.gathering.abort(group)
    assert room.offer(3, counter=100) is Offer.FULL
    room.gathering.expire(limits.GROUP_SECONDS)
    assert room.offer(3, counter=100) is Offer.TAKEN


def test_a_sender_has_so_many_searches_at_once_and_the_others_wait_in_order() -> None:
    turns = SearchTurns()
    keys = [
        make_key(make_context(counter, GREEDY)) for counter in range(limits.SEARCHES_WAITING_PER_SENDER + 1)
    ]
    for _ in range(limits.SEARCHES_PER_SENDER):
        assert not turns.must_wait(keys[0])
        turns.begin(GREEDY)
    assert turns.next(GREEDY) is None
    assert all(turns.must_wait(key) for key in keys)
    assert not turns.must_wait(make_key(make_context()))  # another sender's
    assert turns.next(GREEDY) is None
    turns.end(GREEDY)
    assert [turns.next(GREEDY) for _ in range(2)] == keys[1:3]  # the very first had to make room
    while turns.next(GREEDY) is not None:
        pass
    assert not turns.must_wait(keys[0])


def test_a_group_whose_time_is_over_gives_its_room_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_SHARE_BYTES", 3 * SHARE_BYTES)
    monkeypatch.setattr(limits, "PENDING_GROUPS_PER_HUB", 1)
    room = Room(hubs=3)
    room.offer(3, counter=10, now=5.0)
    group = room.group(10)
    share = group.shares[Coordinate(3)]
    assert room.offer(3, counter=11) is Offer.FULL
    assert room.gathering.next_deadline == 5.0 + limits.GROUP_SECONDS
    assert room.gathering.expire(5.0 + limits.GROUP_SECONDS) == [group]
    assert group.machine.state is GroupState.EXPIRED
    assert share.wiped
    assert list(room.gathering) == []
    assert room.offer(3, counter=11) is Offer.TAKEN


def test_a_search_takes_copies_and_remembers_what_was_tried() -> None:
    room = Room()
    room.offer(1)
    room.offer(2)
    group = room.group()
    first = group.begin_search()
    assert first.newest == {1, 2}
    first.wipe()
    assert not group.shares[Coordinate(1)].wiped
    assert not ready(group)
    group.machine.step(GroupStep.NOTHING_FOUND)
    assert not ready(group)
    room.offer(3)
    assert ready(group)
    assert group.begin_search().newest == {3}


def test_the_bench_is_tried_once_everybody_else_was() -> None:
    room = Room()
    room.offer(1, last=True)
    room.offer(2)
    group = room.group()
    assert group.begin_search().newest == {1, 2}  # there are no others
    group.machine.step(GroupStep.NOTHING_FOUND)
    assert not ready(group)
    room.offer(3)
    search = group.begin_search()
    assert search.shares.keys() == {2, 3}
    assert search.newest == {3}
    group.machine.step(GroupStep.NOTHING_FOUND)
    assert ready(group)
    search = group.begin_search()
    assert search.shares.keys() == {1, 2, 3}
    assert search.newest == {3}
    group.machine.step(GroupStep.NOTHING_FOUND)
    assert not ready(group)


def test_a_share_of_the_bench_that_is_withdrawn_is_tried_first_when_it_comes_again() -> None:
    room = Room()
    room.offer(1, last=True)
    room.offer(2)
    room.gathering.withdraw(room.group(), Coordinate(1))
    room.offer(1)
    assert room.group().last == set()


def test_what_a_hub_brought_first_is_known_while_it_waits() -> None:
    room = Room()
    batch = BatchKey(ALICE, make_context().batch)
    assert room.gathering.first_of(hub_name(1), batch) is None
    room.offer(1)
    assert room.gathering.first_of(hub_name(1), batch) == Secret(b"\1" * SHARE_BYTES)
    room.gathering.abort(room.group())
    assert room.gathering.first_of(hub_name(1), batch) is None


def test_a_withdrawn_share_is_wiped_and_every_search_starts_anew() -> None:
    room = Room()
    for hub in (1, 2, 3):
        room.offer(hub)
    group = room.group()
    group.begin_search()
    group.search = 7
    share = group.shares[Coordinate(3)]
    room.gathering.withdraw(group, Coordinate(3))
    assert share.wiped
    assert room.group() is group
    assert room.group().search is None
    assert ready(group)
    assert group.begin_search().newest == {1, 2}


def test_a_group_without_shares_is_gone() -> None:
    room = Room()
    room.offer(1)
    room.gathering.withdraw(room.group(), Coordinate(1))
    assert list(room.gathering) == []
    assert room.offer(1) is Offer.TAKEN


def test_an_aborted_batch_id_does_not_come_back_before_its_time_is_over() -> None:
    room = Room()
    batch = BatchKey(ALICE, make_context().batch)
    room.offer(1)
    room.offer(2)
    room.offer(3, tag=b"t" * 16)
    assert not room.gathering.is_aborted(batch)
    for group in room.gathering.groups_of(batch):
        room.gathering.abort(group)
        room.gathering.abort(group)
    assert room.gathering.is_aborted(batch)
    assert not room.group().shares
    assert room.offer(1) is Offer.REPEATED
    room.gathering.expire(limits.GROUP_SECONDS)
    assert not room.gathering.is_aborted(batch)


def test_the_diagram_of_a_group_ends_where_it_is_accepted_or_expired() -> None:
    diagram = mermaid(GROUP_TABLE, GroupState.AWAITING_SHARES)
    assert "    ACCEPTED --> [*]" in diagram
    assert "    EXPIRED --> [*]" in diagram
    assert "    ABORTED --> [*]" not in diagram
