"""Shares that wait for others of their group, with every cap that keeps one hub from filling the room.

A group is what hubs brought with one and the same context and tag. Caps and deadlines are per group
and per hub, never per batch id: a hub that lies fills its own part only, and a bogus group under an
honest batch's id stands beside it, not in its way. Within a hub's part the sender that takes up most
gives way (``room``), so that batches which come to nothing keep only their own sender's out. Nothing
here verifies a secret.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from skex.base import limits
from skex.base.ids import BatchId, Coordinate, HubName, KmeName
from skex.base.secret import Secret
from skex.protocol.reconstruct import Search
from skex.protocol.room import HubRoom
from skex.protocol.states import StateMachine, Table
from skex.protocol.timers import Timers
from skex.wire.context import Context


@dataclass(frozen=True, slots=True)
class BatchKey:
    """A batch as a receiver names it."""

    sender: KmeName
    batch: BatchId


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What shares must have in common to be tried together.

    ``digest`` is SHA-512 of the context as *this* end expanded it, ``tag`` the end-to-end tag.
    """

    of: BatchKey
    digest: bytes
    tag: bytes


class GroupState(Enum):
    """Of one group of shares."""

    AWAITING_SHARES = "awaiting shares"
    SEARCHING = "searching"
    ACCEPTED = "accepted"
    ABORTED = "aborted"
    EXPIRED = "expired"


class GroupStep(Enum):
    """What moves a group."""

    SHARE_CAME = "share came"
    SEARCH_STARTED = "search started"
    SEARCH_WITHDRAWN = "search withdrawn"
    NOTHING_FOUND = "nothing found"
    FOUND = "found"
    TWO_FOUND = "two found"
    OTHER_GROUP_ABORTED = "other group aborted"
    DEADLINE_PASSED = "deadline passed"


GROUP_TABLE: Final[Table[GroupState, GroupStep]] = {
    (GroupState.AWAITING_SHARES, GroupStep.SHARE_CAME): GroupState.AWAITING_SHARES,
    (GroupState.AWAITING_SHARES, GroupStep.SEARCH_STARTED): GroupState.SEARCHING,
    (GroupState.AWAITING_SHARES, GroupStep.OTHER_GROUP_ABORTED): GroupState.ABORTED,
    (GroupState.AWAITING_SHARES, GroupStep.DEADLINE_PASSED): GroupState.EXPIRED,
    (GroupState.SEARCHING, GroupStep.SHARE_CAME): GroupState.SEARCHING,
    (GroupState.SEARCHING, GroupStep.SEARCH_WITHDRAWN): GroupState.AWAITING_SHARES,
    (GroupState.SEARCHING, GroupStep.NOTHING_FOUND): GroupState.AWAITING_SHARES,
    (GroupState.SEARCHING, GroupStep.FOUND): GroupState.ACCEPTED,
    (GroupState.SEARCHING, GroupStep.TWO_FOUND): GroupState.ABORTED,
    (GroupState.SEARCHING, GroupStep.OTHER_GROUP_ABORTED): GroupState.ABORTED,
    (GroupState.SEARCHING, GroupStep.DEADLINE_PASSED): GroupState.EXPIRED,
    (GroupState.ABORTED, GroupStep.OTHER_GROUP_ABORTED): GroupState.ABORTED,
    (GroupState.ABORTED, GroupStep.DEADLINE_PASSED): GroupState.EXPIRED,
}


class Group:
    """Shares with one context and tag.

    ``last`` are the shares of hubs on the bench: they are tried only where those of the others do not
    suffice. ``lot`` are the shares of the newest search; ``tried`` and ``tried_first`` those of which
    every set was tried, with and without the bench.
    """

    __slots__ = (
        "context",
        "hubs",
        "key",
        "last",
        "lot",
        "machine",
        "opener",
        "search",
        "shares",
        "tried",
        "tried_first",
    )

    def __init__(self, key: GroupKey, context: Context, opener: HubName) -> None:
        self.key = key
        self.context = context
        self.opener = opener
        self.shares: dict[Coordinate, Secret] = {}
        self.hubs: dict[Coordinate, HubName] = {}
        self.last: set[Coordinate] = set()
        self.lot: frozenset[Coordinate] = frozenset()
        self.tried: frozenset[Coordinate] = frozenset()
        self.tried_first: frozenset[Coordinate] = frozenset()
        self.search: int | None = None
        self.machine = StateMachine(GROUP_TABLE, GroupState.AWAITING_SHARES)

    @property
    def searchable(self) -> bool:
        """Whether there are enough shares and one that no search has seen."""
        return (
            self.machine.state is GroupState.AWAITING_SHARES
            and len(self.shares) >= self.context.compact.threshold
            and not self.tried.issuperset(self.shares)
        )

    @property
    def settled_by_one(self) -> bool:
        """Whether there are just enough shares: one interpolation says what there is to say."""
        return len(self._next_lot()) == self.context.compact.threshold

    def _next_lot(self) -> frozenset[Coordinate]:
        """What the next search tries: the bench comes last, and at once where the others are too few."""
        every = frozenset(self.shares)
        first = every - self.last
        few = len(first) < self.context.compact.threshold
        return every if few or self.tried_first.issuperset(first) else first

    def begin_search(self) -> Search:
        """A search over copies of the next shares; what earlier ones tried is left out."""
        self.machine.step(GroupStep.SEARCH_STARTED)
        self.lot = lot = self._next_lot()
        every = frozenset(self.shares)
        newest = lot - (self.tried if lot == every else self.tried_first)
        self.tried_first = every - self.last
        if lot == every:
            self.tried = every
        return Search(
            threshold=self.context.compact.threshold,
            tag=self.key.tag,
            context=self.context.to_bytes(),
            shares={hub: Secret(self.shares[hub].expose()) for hub in sorted(lot)},
            newest=newest,
        )

    def forget_searches(self) -> None:
        """A share is gone: whatever was tried may have rested on it."""
        self.lot = self.tried = self.tried_first = frozenset()
        self.search = None


class SearchTurns:
    """How many searches each sender's batches have under way, and which groups wait for their turn.

    Searches cost time that all senders share; one whose shares never fit must not take all of it.
    """

    def __init__(self) -> None:
        self._under_way: Counter[KmeName] = Counter()
        self._waiting: dict[KmeName, OrderedDict[GroupKey, None]] = {}

    def must_wait(self, key: GroupKey) -> bool:
        """Whether the group's sender has enough under way; the group is remembered then."""
        sender = key.of.sender
        if self._under_way[sender] < limits.SEARCHES_PER_SENDER:
            return False
        waiting = self._waiting.setdefault(sender, OrderedDict())
        waiting[key] = None
        if len(waiting) > limits.SEARCHES_WAITING_PER_SENDER:
            waiting.popitem(last=False)
        return True

    def begin(self, sender: KmeName) -> None:
        """A search starts."""
        self._under_way[sender] += 1

    def end(self, sender: KmeName) -> None:
        """A search is over."""
        self._under_way[sender] -= 1

    def next(self, sender: KmeName) -> GroupKey | None:
        """The group that waited longest, if one may start now; it may be gone meanwhile."""
        waiting = self._waiting.get(sender)
        if not waiting or self._under_way[sender] >= limits.SEARCHES_PER_SENDER:
            return None
        key, _ = waiting.popitem(last=False)
        if not waiting:
            del self._waiting[sender]
        return key


class Offer(Enum):
    """What became of a share."""

    TAKEN = "taken"
    REPEATED = "repeated"
    DIFFERENT = "different"
    FULL = "full"


class Gathering:
    """Every group that waits, one share per hub and batch, of at most ``hubs`` hubs."""

    def __init__(self, hubs: int) -> None:
        self.divide(hubs)
        self._groups: dict[GroupKey, Group] = {}
        self._brought: dict[BatchKey, dict[HubName, GroupKey]] = {}
        self._rooms: defaultdict[HubName, HubRoom[GroupKey]] = defaultdict(HubRoom)
        self._deadlines: Timers[GroupKey] = Timers()

    def divide(self, hubs: int) -> None:
        """Give each of so many hubs an equal part of the room for waiting shares."""
        self._share_bytes = limits.PENDING_SHARE_BYTES // hubs

    def first_of(self, hub: HubName, batch: BatchKey) -> Secret | None:
        """The share that a hub brought first for a batch that is not accepted, while it waits."""
        key = self._brought.get(batch, {}).get(hub)
        if key is None:
            return None
        group = self._groups[key]
        return next((group.shares.get(one) for one, name in group.hubs.items() if name == hub), None)

    @property
    def next_deadline(self) -> float | None:
        """When the first group's time is over."""
        return self._deadlines.next

    def __iter__(self) -> Iterator[Group]:
        return iter(tuple(self._groups.values()))

    def __contains__(self, key: GroupKey) -> bool:
        return key in self._groups

    def __getitem__(self, key: GroupKey) -> Group:
        return self._groups[key]

    def groups_of(self, batch: BatchKey) -> tuple[Group, ...]:
        """The groups under one batch id, each once, in the order in which hubs opened them."""
        keys = dict.fromkeys(self._brought.get(batch, {}).values())
        return tuple(self._groups[key] for key in keys)

    def is_aborted(self, batch: BatchKey) -> bool:
        """Whether two candidates were found under this batch id and its time is not over."""
        return any(group.machine.state is GroupState.ABORTED for group in self.groups_of(batch))

    def offer(
        self,
        hub: HubName,
        coordinate: Coordinate,
        key: GroupKey,
        context: Context,
        *,
        share: Secret,
        now: float,
        last: bool = False,
    ) -> Offer:
        """Take one hub's share; the first for a batch is final. ``last``: it is tried last."""
        earlier = self._brought.get(key.of, {}).get(hub)
        if earlier is not None:
            known = self._groups[earlier].shares.get(coordinate)
            same = earlier == key and (known is None or known == share)
            return Offer.REPEATED if same else Offer.DIFFERENT
        if not self._make_room(hub, key, len(share)):
            return Offer.FULL
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key, context, hub)
            self._rooms[hub].open(key.of.sender, key)
            self._deadlines.set(key, now + limits.GROUP_SECONDS)
        group.machine.step(GroupStep.SHARE_CAME)
        group.shares[coordinate] = share
        group.hubs[coordinate] = hub
        if last:
            group.last.add(coordinate)
        self._rooms[hub].take(key.of.sender, key, len(share))
        self._brought.setdefault(key.of, {})[hub] = key
        return Offer.TAKEN

    def _make_room(self, hub: HubName, key: GroupKey, size: int) -> bool:
        """Whether the hub's part has room for a share, once others gave way that take up more of it.

        Only what this hub brought gives way: a lie of its own costs nobody a share of another hub.
        """
        room, sender = self._rooms[hub], key.of.sender
        while room.held + size > self._share_bytes:
            large = room.largest_for(sender, size)
            if large is None:
                return False
            self._give_way(hub, self._groups[large])
        while key not in self._groups and room.opened >= limits.PENDING_GROUPS_PER_HUB:
            many = room.busiest_for(sender)
            if many is None:
                return False
            self._give_way(hub, self._groups[many])
        return True

    def _give_way(self, hub: HubName, group: Group) -> None:
        """Forget this hub's share of a group."""
        self.withdraw(group, next(one for one, name in group.hubs.items() if name == hub))

    def withdraw(self, group: Group, coordinate: Coordinate) -> None:
        """A hub's shares do not count any more: forget its share, and every search that used it."""
        hub = group.hubs.pop(coordinate)
        share = group.shares.pop(coordinate)
        self._rooms[hub].release(group.key.of.sender, group.key)
        share.wipe()
        del self._brought[group.key.of][hub]
        group.last.discard(coordinate)
        group.forget_searches()
        if group.machine.allows(GroupStep.SEARCH_WITHDRAWN):
            group.machine.step(GroupStep.SEARCH_WITHDRAWN)
        if not group.hubs:
            self.remove(group)
        elif group.opener == hub:  # others brought shares of it too: it is theirs now
            self._rooms[hub].close(group.key.of.sender, group.key)
            group.opener = next(iter(group.hubs.values()))
            self._rooms[group.opener].open(group.key.of.sender, group.key)

    def abort(self, group: Group) -> None:
        """Forget the shares; the group stays until its deadline to keep its batch id from coming back."""
        if group.machine.state is not GroupState.ABORTED:
            group.machine.step(GroupStep.OTHER_GROUP_ABORTED)
        self._rooms[group.opener].pin(group.key.of.sender, group.key)
        self._wipe(group)

    def remove(self, group: Group) -> None:
        """Forget a group wholly."""
        self._wipe(group)
        brought = self._brought[group.key.of]
        for hub in group.hubs.values():
            del brought[hub]
        if not brought:
            del self._brought[group.key.of]
        self._rooms[group.opener].close(group.key.of.sender, group.key)
        self._deadlines.cancel(group.key)
        del self._groups[group.key]

    def expire(self, now: float) -> list[Group]:
        """Take out the groups whose time is over."""
        groups = [self._groups[key] for key in self._deadlines.due(now)]
        for group in groups:
            group.machine.step(GroupStep.DEADLINE_PASSED)
            self.remove(group)
        return groups

    def _wipe(self, group: Group) -> None:
        for coordinate, share in group.shares.items():
            self._rooms[group.hubs[coordinate]].release(group.key.of.sender, group.key)
            share.wipe()
        group.shares.clear()
        group.search = None
