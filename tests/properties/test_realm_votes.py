"""Fewer than the threshold of lying hubs can neither change a KME's realm nor keep it from changing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skex.base.ids import HubName
from skex.protocol.changes import RealmAccepted
from skex.protocol.establishment import Realms
from skex.protocol.realm import HeldRealm, RealmEvent, RealmStated, RealmTrust
from skex.protocol.rollback import LinkProved, RevokeEverything, RollbackWatch
from skex.protocol.traffic import FromHub, HubDown, Tick
from skex.wire import messages
from skex.wire.realm import Realm
from tests.unit.protocol.realm_support import hub_name, realm_of
from tests.unit.protocol.test_rollback import links

HUBS = 5
HELD = realm_of(HUBS, 3, epoch=4)
NEXT = realm_of(HUBS, 3, epoch=5)
NOW = 10.0
LIARS = st.integers(0, HELD.threshold - 1).flatmap(
    lambda count: st.lists(st.integers(1, HUBS), min_size=count, max_size=count, unique=True)
)

lies = st.one_of(
    st.builds(
        realm_of,
        st.just(HUBS),
        st.integers(2, 5),
        epoch=st.integers(3, 7),
        issued=st.integers(0, 2),
        overlap=st.sampled_from([0, 100]),
    ).map(Realm.to_bytes),
    st.sampled_from([HELD.to_bytes(), NEXT.to_bytes(), b"", b"garbage", NEXT.to_bytes()[:-1]]),
)


@st.composite
def lying_events(draw: st.DrawFn, liars: list[int]) -> RealmEvent:
    """What a lying hub can bring about: files, statements, connections that come and go."""
    hub = hub_name(draw(st.sampled_from(liars)))
    kind = draw(st.sampled_from(["file", "file", "statement", "down"]))
    if kind == "file":
        return FromHub(hub, 1, messages.RealmFile(draw(lies)))
    if kind == "statement":
        return RealmStated(hub, draw(st.integers(0, 9)), draw(st.sampled_from([HELD, NEXT])).digest())
    return HubDown(hub)


@st.composite
def campaigns(draw: st.DrawFn) -> tuple[list[int], list[RealmEvent]]:
    """Who lies, and what they do."""
    liars = draw(LIARS)
    events = st.lists(lying_events(liars), max_size=40) if liars else st.just([])
    return liars, draw(events)


@given(campaigns())
def test_fewer_lying_hubs_than_the_threshold_never_change_the_realm(
    campaign: tuple[list[int], list[RealmEvent]],
) -> None:
    trust = RealmTrust(2, 0.0, HeldRealm(HELD.to_bytes(), 0.0))
    for event in campaign[1]:
        assert trust.handle(event, NOW).persist == ()
        assert len(trust._votes) <= len(campaign[0])
    assert trust.realms(NOW) == Realms(HELD)


@given(campaigns(), st.data())
def test_honest_hubs_put_the_next_epoch_in_force_whatever_the_others_send(
    campaign: tuple[list[int], list[RealmEvent]], data: st.DataObject
) -> None:
    liars, events = campaign
    honest: list[RealmEvent] = [
        FromHub(hub_name(number), 1, messages.RealmFile(NEXT.to_bytes()))
        for number in range(1, HUBS + 1)
        if number not in liars
    ]
    script = data.draw(st.permutations([*events, *honest]))
    trust = RealmTrust(2, 0.0, HeldRealm(HELD.to_bytes(), 0.0))
    accepted = [change for event in script for change in trust.handle(event, NOW).persist]
    assert accepted == [RealmAccepted(NEXT.epoch, NEXT.to_bytes())]


words = st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.integers(0, 40)), max_size=40)


@given(LIARS, words)
def test_fewer_lying_hubs_than_the_threshold_never_revoke_anything(
    liars: list[int], script: list[tuple[int, bool, int]]
) -> None:
    """Honest hubs saw no rollback; the liars say whatever they like, whenever they like."""
    watch = RollbackWatch(HELD, links(1, 2, 3, 4, 5))
    now, agreed = 0.0, set[HubName]()
    for number, word, wait in script:
        now += wait
        watch.handle(Tick(), now)
        if 1 <= number <= HUBS:
            rolled_back = word and number in liars
            effects = watch.handle(LinkProved(hub_name(number), rolled_back=rolled_back), now)
            assert not any(isinstance(notice, RevokeEverything) for notice in effects.notify)
            if not rolled_back:
                agreed.add(hub_name(number))
        if watch.may_deliver:
            assert len(agreed) >= HELD.threshold
    for number in range(1, HUBS + 1):
        watch.handle(LinkProved(hub_name(number), rolled_back=number in liars), now)
    assert watch.may_deliver
