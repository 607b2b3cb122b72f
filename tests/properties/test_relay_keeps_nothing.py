"""A hub seized at any moment holds no share, and its memory stays within its bounds."""

from __future__ import annotations

import gc
from collections.abc import Hashable, Iterator
from functools import partial
from types import FunctionType, ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skex.base import limits
from skex.base.ids import BatchId, KmeName
from skex.protocol.hub import HubRelay
from skex.protocol.quota import Buckets
from skex.protocol.relayed import Pair, RelayedBatches
from skex.protocol.traffic import AnsweredByKme, KmeDown, Tick
from skex.wire import messages
from skex.wire.context import Purpose
from tests.unit.protocol.hub_support import (
    ALICE,
    BOB,
    CAROL,
    MALLORY,
    MARKER,
    NOBODY,
    PLENTY,
    Hub,
    confirmation,
    incarnation_of,
    share,
)

KMES = (ALICE, BOB, CAROL, MALLORY)
CAPACITY = 6
BUCKETS = 5


def reachable(root: object) -> Iterator[object]:
    """Every object that ``root`` leads to; not through classes and modules, which lead everywhere."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType):
            continue
        seen.add(id(thing))
        yield thing
        waiting.extend(gc.get_referents(thing))


def holds_share(relay: HubRelay) -> bool:
    """Whether bytes of any share can be reached from the relay, whole or in part."""
    probe = MARKER[:8]
    return any(
        probe in bytes(thing)
        for thing in reachable(relay)
        if isinstance(thing, bytes | bytearray | memoryview)
    )


@pytest.mark.parametrize("hide", ["in a message", "in a table", "in a closure"])
def test_walk_finds_a_share_that_is_kept(hide: str) -> None:
    """The property below would notice: a relay that keeps a share anywhere in its state is caught."""
    hub = Hub()
    hub.connect(ALICE)
    assert not holds_share(hub.relay)
    kept = share(BOB)
    if hide == "in a message":
        hub.relay._realm = messages.RealmFile(kept.share[:20])
    elif hide == "in a table":
        hub.relay._buckets.spend({(ALICE, kept): PLENTY}, 1, 0.0)
    else:
        vars(hub.relay)["later"] = partial(print, kept)
    assert holds_share(hub.relay)


kmes = st.sampled_from(KMES)
targets = st.sampled_from((*KMES, NOBODY))
steps = st.one_of(
    st.tuples(st.just("share"), kmes, targets, st.integers(0, 12)),
    st.tuples(st.just("confirm"), kmes, targets, st.integers(0, 12)),
    st.tuples(st.just("peer"), kmes, targets, st.integers(1, 40)),
    st.tuples(st.just("refuse"), kmes, targets, st.integers(1, 11)),
    st.tuples(st.just("link"), kmes, targets, st.integers(0, 2)),
    st.tuples(st.just("pad"), kmes, targets, st.integers(0, 300_000)),
    st.tuples(st.just("time"), kmes, targets, st.integers(0, 600)),
)


class World:
    """Applies steps, with the latest tokens kept for refusals that come late or twice."""

    def __init__(self) -> None:
        self.hub = Hub(relayed=RelayedBatches(CAPACITY), buckets=Buckets(BUCKETS))
        self.hub.policy.allowed = {(a, b) for a in KMES for b in KMES if MALLORY not in (a, b)}
        self.tokens: list[tuple[KmeName, Hashable]] = []

    def connected(self, kme: KmeName) -> bool:
        return kme in self.hub.relay.connected

    def apply(self, kind: str, kme: KmeName, target: KmeName, number: int) -> None:
        hub = self.hub
        if kind == "time":
            hub.now += number
            hub.handle(Tick())
        elif kind == "pad":
            hub.links.left[kme] = number
        elif kind == "link":
            if self.connected(kme):
                hub.handle(KmeDown(kme))
            else:
                hub.connect(kme, start=number)
        elif self.connected(kme):
            self.ask(kind, kme, target, number)

    def ask(self, kind: str, kme: KmeName, target: KmeName, number: int) -> None:
        hub = self.hub
        if kind == "refuse":
            for receiver, token in self.tokens:
                if self.connected(receiver):
                    hub.handle(AnsweredByKme(receiver, token, number))
            return
        batch = BatchId(incarnation_of(target), number)
        requests: dict[str, messages.Message] = {
            "share": share(target, number),
            "confirm": messages.Confirm(target, confirmation(batch)),
            "peer": messages.Peer(target, bytes(number)),
        }
        for send in hub.ask(kme, requests[kind]).send:
            assert self.connected(send.kme), "sent to somebody who is not there"
            if isinstance(send.message, messages.Shared | messages.Forwarded):
                assert MALLORY not in (kme, send.kme), "relayed for a KME that may not"
                self.tokens = [*self.tokens[-9:], (send.kme, send.token)]


@given(st.lists(steps, max_size=60))
def test_no_share_stays_in_a_hub_and_every_table_keeps_its_bound(
    script: list[tuple[str, KmeName, KmeName, int]],
) -> None:
    world = World()
    world.hub.connect(*KMES)
    for kind, kme, target, number in script:
        world.apply(kind, kme, target, number)
        assert not holds_share(world.hub.relay)
        assert len(world.hub.relay._relayed) <= CAPACITY
        assert len(world.hub.relay._buckets) <= BUCKETS
        for connection in world.hub.relay._connections.values():
            assert len(connection.refusable) <= limits.REFUSABLE_REQUESTS


pairs = st.builds(Pair, kmes, kmes)


@given(st.lists(st.tuples(pairs, st.integers(0, 9), st.integers(0, 400)), max_size=120), st.integers(1, 8))
def test_relay_table_matches_a_plain_model_of_its_rules(
    script: list[tuple[Pair, int, int]], capacity: int
) -> None:
    """The oldest batch of a largest pair goes first; a pair with fewer loses nothing to another."""
    table, model, now = RelayedBatches(capacity), list[tuple[Pair, BatchId, float]](), 0.0
    for pair, counter, wait in script:
        now += wait
        batch = BatchId(incarnation_of(pair.sender), counter)
        evicted = table.remember(pair, batch, Purpose.TRAFFIC, now)
        model = [entry for entry in model if entry[2] > now and entry[:2] != (pair, batch)]
        if evicted is not None:
            sizes = {of: sum(entry[0] == of for entry in model) for of, _, _ in model}
            assert len(model) == capacity
            assert sizes[evicted.pair] == max(sizes.values())
            assert evicted.pair == pair or sizes[evicted.pair] > sizes.get(pair, 0)
            oldest = next(entry for entry in model if entry[0] == evicted.pair)
            assert oldest[1] == evicted.batch
            model.remove(oldest)
        model.append((pair, batch, now + limits.RELAY_SECONDS))
        assert len(table) == len(model) <= capacity
        assert all(table.find(of, name, now) is not None for of, name, _ in model)
        assert table.next_deadline == model[0][2]
