"""The bench never costs keys that the honest hubs could carry, and one peer's batches harm no other's."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from simulation.exchange import ALICE, BOB, Lie, hub_name
from skex.base import limits
from skex.base.ids import BatchId, HubName, Incarnation, KmeName
from skex.protocol.bench import BenchHub, BringBack, HubBroughtBack
from skex.protocol.evidence import Blame
from skex.protocol.receiver import HubBlamed, TwoCandidates
from skex.protocol.standing import Standing
from tests.properties.test_establishment import lies, require_one_truth
from tests.unit.protocol.bench_support import BenchedExchange

PEERS = {ALICE: BOB, BOB: ALICE}


@dataclass(frozen=True)
class Setting:
    """A realm; which hubs lie or are down, and whom policy benched at either end, for whatever reason."""

    hubs: int
    threshold: int
    lies: dict[HubName, Lie]
    down: dict[HubName, KmeName | None]
    benched: frozenset[tuple[KmeName, HubName]]
    seed: int


@st.composite
def settings(draw: st.DrawFn) -> Setting:
    """Lying and unreachable hubs together are n-k at most; benches are any at all, of honest hubs too."""
    hubs = draw(st.integers(2, 7))
    threshold = draw(st.integers(2, hubs))
    names = [hub_name(number) for number in range(1, hubs + 1)]
    order = draw(st.permutations(names))
    most = hubs - threshold
    lying = draw(st.integers(0, min(threshold - 1, most)))
    down = draw(st.integers(0, most - lying))
    places = st.tuples(st.sampled_from([ALICE, BOB]), st.sampled_from(names))
    return Setting(
        hubs,
        threshold,
        {hub: draw(lies) for hub in order[:lying]},
        {hub: draw(st.sampled_from([ALICE, BOB, None])) for hub in order[lying : lying + down]},
        draw(st.frozensets(places)),
        draw(st.integers(0, 2**32)),
    )


def accuse(world: BenchedExchange, end: KmeName, hub: HubName, peer: KmeName) -> None:
    """A share of a hub was wrong for certain, in a batch of ``peer``."""
    batch = BatchId(Incarnation(b"somebody's      "), 1)
    world.bench(end, HubBlamed(hub, peer, batch, Blame.WRONG_SHARE))


def build(setting: Setting) -> BenchedExchange:
    world = BenchedExchange(setting.hubs, setting.threshold, setting.seed)
    world.lies.update(setting.lies)
    for hub, end in setting.down.items():
        world.cut(hub, only=end)
    for end, hub in setting.benched:
        accuse(world, end, hub, PEERS[end])
        assert world.benches[end].standing(hub, PEERS[end]) is Standing.LAST
    return world


def attempt(world: BenchedExchange) -> bool:
    """Whether a batch of Alice's becomes keys at both ends."""
    before = len(world.sent.sent)
    world.establish()
    world.shuffle()
    world.run()
    world.advance(limits.ESTABLISH_SECONDS)
    return len(world.sent.sent) > before


@given(settings())
def test_while_lying_and_unreachable_hubs_are_n_minus_k_at_most_benches_cost_one_try_at_most(
    setting: Setting,
) -> None:
    """The sender may have left out hubs that it turns out to need; the next batch has them again."""
    world = build(setting)
    left_out = any(end == ALICE for end, _ in setting.benched)
    assert attempt(world) or (left_out and attempt(world))
    require_one_truth(world)


@given(settings())
def test_benches_of_a_receiver_cost_no_try_at_all(setting: Setting) -> None:
    world = build(setting)
    for hub in [hub for end, hub in setting.benched if end == ALICE]:
        world.bench(ALICE, BringBack(hub, "root"))
    for _ in range(3):
        assert attempt(world)
    require_one_truth(world)


@given(settings())
def test_keys_flow_batch_after_batch_while_benches_come_and_go(setting: Setting) -> None:
    """A failure takes everybody off the bench, and only hubs that did wrong come back to it."""
    world = build(setting)
    tries = [attempt(world) for _ in range(6)]
    assert tries.count(False) <= 1
    world.advance(2 * 3600)
    assert attempt(world)
    require_one_truth(world)


@given(settings())
def test_no_honest_hub_is_benched_by_batches_of_an_honest_sender(setting: Setting) -> None:
    world = build(setting)
    world.benched.clear()
    for _ in range(3):
        attempt(world)
    world.advance(limits.LATE_SHARE_SECONDS)
    named = {
        notice.kept.hub
        for _, notice in world.benched
        if not isinstance(notice, HubBroughtBack) and "wrong" in notice.kept.cause.value
    }
    assert named <= set(setting.lies)
    assert not [one for one in world.told_bob if isinstance(one, TwoCandidates)]


@given(
    st.lists(st.tuples(st.sampled_from(["mallory", "alice"]), st.integers(1, 5)), max_size=30),
    st.integers(1, 5),
)
def test_sender_that_frames_hubs_changes_nothing_for_other_peers(
    framed: list[tuple[str, int]], out: int
) -> None:
    world = BenchedExchange()
    for peer, number in framed:
        accuse(world, BOB, hub_name(number), KmeName(peer))
    world.bench(BOB, BenchHub(hub_name(out), None, "root"))
    bench = world.benches[BOB]
    for number in range(1, 6):
        hub = hub_name(number)
        assert bench.standing(hub, KmeName("carol")) is (Standing.OUT if number == out else Standing.PLAYS)
        if number != out:
            benched = any(peer == "alice" and other == number for peer, other in framed)
            assert bench.standing(hub, ALICE) is (Standing.LAST if benched else Standing.PLAYS)
