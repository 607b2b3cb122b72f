"""Hubs that lie or are down, links that are cut, ends that restart: equal keys at both ends, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from simulation.exchange import ALICE, BOB, Exchange, Lie, hub_name
from skex.base import limits
from skex.base.ids import BatchId, HubName
from skex.protocol.evidence import Blame
from skex.protocol.receiver import HubBlamed, TwoCandidates
from skex.wire.messages import Shared


# ── hubs ────────────────────────────────────────────────────────────────────────────────────────
def changed(honest: Shared, at: int, difference: int) -> Shared:
    share = bytearray(honest.share)
    share[at % len(share)] ^= difference
    return replace(honest, share=bytes(share))


def nothing(_: Shared) -> Sequence[Shared]:
    return ()


def garbage(honest: Shared) -> Sequence[Shared]:
    return (replace(honest, share=bytes(len(honest.share))),)


def other_tag(honest: Shared) -> Sequence[Shared]:
    return (replace(honest, tag=bytes(16)),)


def other_lifetime(honest: Shared) -> Sequence[Shared]:
    return (replace(honest, context=replace(honest.context, lifetime=7)),)


def other_threshold(honest: Shared) -> Sequence[Shared]:
    lower = max(2, honest.context.threshold - 1)  # 1 would not even be read
    return (replace(honest, context=replace(honest.context, threshold=lower)),)


def other_batch(honest: Shared) -> Sequence[Shared]:
    batch = BatchId(honest.batch.incarnation, honest.batch.counter + 1)
    return (replace(honest, batch=batch),)


def two_shares(honest: Shared) -> Sequence[Shared]:
    return (changed(honest, 90, 1), honest)


def twice(honest: Shared) -> Sequence[Shared]:
    return (honest, honest)


def shifted(at: int, difference: int) -> Lie:
    """Several hubs that use the same one add a chosen polynomial to the secret, its tag key included."""
    return lambda honest: (changed(honest, at, difference),)


lies: st.SearchStrategy[Lie] = st.one_of(
    st.sampled_from(
        [
            nothing,
            garbage,
            other_tag,
            other_lifetime,
            other_threshold,
            other_batch,
            two_shares,
            twice,
        ]
    ),
    st.builds(shifted, st.integers(0, 143), st.integers(1, 255)),
)
ENDS = st.sampled_from([ALICE, BOB, None])


@dataclass(frozen=True)
class Setting:
    """A realm, which of its hubs lie and how, and which are down for whom."""

    hubs: int
    threshold: int
    lies: dict[HubName, Lie]
    down: dict[HubName, object]
    seed: int


@st.composite
def settings(draw: st.DrawFn, *, within: bool) -> Setting:
    """``within``: lying and unreachable hubs together are n-k at most, so that keys must flow."""
    hubs = draw(st.integers(2, 7))
    threshold = draw(st.integers(2, hubs))
    names = [hub_name(number) for number in range(1, hubs + 1)]
    order = draw(st.permutations(names))
    most = hubs - threshold if within else hubs
    lying = draw(st.integers(0, min(threshold - 1, most)))
    down = draw(st.integers(0, most - lying))
    return Setting(
        hubs,
        threshold,
        {hub: draw(lies) for hub in order[:lying]},
        {hub: draw(ENDS) for hub in order[lying : lying + down]},
        draw(st.integers(0, 2**32)),
    )


def build(setting: Setting) -> Exchange:
    world = Exchange(setting.hubs, setting.threshold, setting.seed)
    world.lies.update(setting.lies)
    for hub, end in setting.down.items():
        world.cut(hub, only=end)  # type: ignore[arg-type]  # drawn from the ends
    return world


def require_one_truth(world: Exchange) -> None:
    """What holds whatever happened, as long as fewer than k hubs lie."""
    received = {one.batch.batch: one.batch for one in world.received.received}
    assert len(received) == len(world.received.received)  # nothing was accepted twice
    for sent in world.sent.sent:
        other = received[sent.batch.batch]  # what the sender may use the receiver has durably
        assert other.keys == sent.batch.keys
        assert other.context == sent.batch.context
        assert other.claim == sent.batch.claim
    assert not [one for one in world.told_bob if isinstance(one, TwoCandidates)]


# ── properties ──────────────────────────────────────────────────────────────────────────────────
@given(setting=settings(within=True), batches=st.integers(1, 3), shuffled=st.booleans())
def test_while_lying_and_unreachable_hubs_are_n_minus_k_at_most_keys_flow(
    setting: Setting, batches: int, *, shuffled: bool
) -> None:
    world = build(setting)
    for _ in range(batches):
        world.establish()
        if shuffled:
            world.shuffle()
        world.run()
    world.advance(limits.ESTABLISH_SECONDS)
    assert len(world.sent.sent) == batches
    require_one_truth(world)


@given(settings(within=False), st.integers(1, 3))
def test_whatever_is_down_and_however_k_minus_1_hubs_lie_the_keys_never_differ(
    setting: Setting, batches: int
) -> None:
    world = build(setting)
    for _ in range(batches):
        world.establish()
        world.shuffle()
        world.run()
    world.advance(limits.GROUP_SECONDS + limits.ESTABLISH_SECONDS)
    require_one_truth(world)


@given(settings(within=True))
def test_no_honest_hub_is_named_for_certain(setting: Setting) -> None:
    world = build(setting)
    world.establish()
    world.run()
    world.advance(limits.GROUP_SECONDS + limits.LATE_SHARE_SECONDS)
    named = {one.hub for one in world.told_bob if isinstance(one, HubBlamed) and one.certain}
    assert named <= set(setting.lies)


@given(
    st.integers(3, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(2, n - 1))),
    st.data(),
)
def test_one_hub_that_alters_its_share_is_always_named(shape: tuple[int, int], data: st.DataObject) -> None:
    world = Exchange(*shape, seed=data.draw(st.integers(0, 2**32)))
    liar = hub_name(data.draw(st.integers(1, shape[0])))
    world.lies[liar] = shifted(data.draw(st.integers(0, 143)), data.draw(st.integers(1, 255)))
    world.establish()
    world.shuffle()
    world.run()
    blamed = [one for one in world.told_bob if isinstance(one, HubBlamed)]
    assert [(one.hub, one.blame) for one in blamed] == [(liar, Blame.WRONG_SHARE)]


def everything_lost(world: Exchange) -> None:
    world.lose()


def time_passes(world: Exchange) -> None:
    world.advance(2.5)


def alice_restarts(world: Exchange) -> None:
    world.start_alice()
    world.link(*names_of(world), only=ALICE)


def bob_restarts(world: Exchange) -> None:
    world.start_bob()
    world.link(*names_of(world), only=BOB)


def links_flap(world: Exchange) -> None:
    world.cut(*names_of(world)[:2])
    world.link(*names_of(world)[:2])


def another_batch(world: Exchange) -> None:
    world.establish()


def things_arrive(world: Exchange) -> None:
    world.shuffle()
    world.run()


def a_few_arrive(world: Exchange) -> None:
    world.run(most=4)


def names_of(world: Exchange) -> list[HubName]:
    return [hub.name for hub in world.realms.current.active_hubs]


events: st.SearchStrategy[Callable[[Exchange], None]] = st.sampled_from(
    [
        everything_lost,
        time_passes,
        alice_restarts,
        bob_restarts,
        links_flap,
        another_batch,
        things_arrive,
        a_few_arrive,
    ]
)


@given(settings(within=True), st.lists(events, max_size=25))
def test_restarts_losses_and_flapping_links_never_make_keys_differ_and_end_in_an_answer(
    setting: Setting, history: list[Callable[[Exchange], None]]
) -> None:
    world = build(setting)
    for event in history:
        event(world)
        require_one_truth(world)
    for hub in names_of(world):
        world.link(hub)
    world.advance(2 * limits.CONFIRM_RESEND_SECONDS_MAX + limits.GROUP_SECONDS)
    require_one_truth(world)
    committed = {sent.batch.batch for sent in world.sent.sent}
    answers = {row.confirmation.batch: row.answer for row in world.received.rows}
    assert answers == {batch: batch in committed for batch in answers}
