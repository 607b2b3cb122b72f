"""A hub's store, and what both stores say of links."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulation.chance import Chance
from simulation.memory import HubMemory
from skex.base import codes
from skex.base.errors import LocalBug, Refused
from skex.base.ids import Direction, LinkId
from skex.base.secret import Secret
from skex.protocol.changes import (
    LinkChange,
    LinkFrozen,
    MarkRaised,
    PeerSeen,
    PrefaceCounted,
    RealmAccepted,
    RollbackSettled,
)
from skex.protocol.realm import HeldRealm
from skex.store.hub import HubStore
from skex.wire.preface import Marks
from tests.stores.support import ALICE, BOB, HUBS, LINKS, MASTER, REALM, START, FileSubject, enrolled_link

LINK = LINKS[HUBS[0]]
OTHER = LinkId(b"other id")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "hub.sqlite")


@pytest.fixture
def store(path: str) -> Iterator[HubStore]:
    made = HubStore.create(
        path, Secret(MASTER), Chance(1).randbytes, lambda: START, name=HUBS[0], realm=REALM
    )
    made.add_link(enrolled_link(kme=ALICE), START)
    yield made
    made.close()


def reopened(store: HubStore, path: str) -> HubStore:
    store.close()
    return HubStore.open(path, Secret(MASTER), bytes)


# ── commits ─────────────────────────────────────────────────────────────────────────────────────
def test_hub_keeps_marks_as_the_simulated_one_does(store: HubStore, path: str) -> None:
    memory = HubMemory()
    sets: list[list[LinkChange]] = [
        [MarkRaised(LINK, Direction.TO_HUB, 4), PrefaceCounted(LINK, 2)],
        [PeerSeen(LINK, 1, 2, 3), MarkRaised(LINK, Direction.TO_HUB, 3), LinkFrozen(LINK, "pad-jump")],
    ]
    store.commit(sets)
    for changes in sets:
        memory.commit(changes)
    again = reopened(store, path)
    assert again.marks(LINK) == memory.links.marks[LINK] == Marks(4, 0, 2, 1, 2, 3)
    assert again.links()[0].frozen == tuple(memory.links.frozen[LINK])
    again.close()


def test_anything_but_a_link_is_refused_with_everything_that_came_with_it(store: HubStore) -> None:
    """The fault is a hub that would keep what it relayed."""
    with pytest.raises(LocalBug):
        store.commit([[PrefaceCounted(LINK, 2)], [RollbackSettled()]])
    assert store.marks(LINK).count == 0


@pytest.mark.parametrize(
    "change",
    [
        MarkRaised(OTHER, Direction.TO_HUB, 1),
        MarkRaised(OTHER, Direction.TO_KME, 1),
        PrefaceCounted(OTHER, 1),
        PeerSeen(OTHER, 1, 1, 1),
        LinkFrozen(OTHER, "pad-jump"),
    ],
    ids=lambda change: type(change).__name__,
)
def test_change_of_a_link_that_nobody_enrolled_is_refused(
    store: HubStore, change: MarkRaised | PrefaceCounted | PeerSeen | LinkFrozen
) -> None:
    with pytest.raises(LocalBug):
        store.commit([[PrefaceCounted(LINK, 2), change]])
    assert store.marks(LINK).count == 0


# ── links ───────────────────────────────────────────────────────────────────────────────────────
def test_enrolled_link_comes_back_with_its_key(store: HubStore, path: str) -> None:
    store.add_link(enrolled_link(link_id=OTHER, kme=BOB, fill=9), START + 5)
    again = reopened(store, path)
    first, second = again.links()
    assert first.link == enrolled_link()
    assert second.link == enrolled_link(link_id=OTHER, kme=BOB, fill=9)
    assert (second.created, second.suspended, second.frozen) == (START + 5, False, ())
    again.close()


def test_suspended_link_rests_until_it_is_not(store: HubStore) -> None:
    store.suspend_link(LINK, suspended=True)
    assert [one.suspended for one in store.links()] == [True]
    store.suspend_link(LINK, suspended=False)
    assert [one.suspended for one in store.links()] == [False]


def test_second_link_between_the_same_two_is_refused(store: HubStore) -> None:
    with pytest.raises(Refused) as caught:
        store.add_link(enrolled_link(link_id=OTHER), START)
    assert caught.value.code is codes.LINK_EXISTS
    assert [one.link.link_id for one in store.links()] == [LINK]


@pytest.mark.parametrize("removed", [False, True])
def test_link_id_is_enrolled_once_for_ever(store: HubStore, removed: bool) -> None:
    """The attacker, or the operator by mistake, imports a kit again whose pads were used."""
    if removed:
        store.commit([[MarkRaised(LINK, Direction.TO_HUB, 4)]])
        store.remove_link(LINK, START)
    with pytest.raises(Refused) as caught:
        store.add_link(enrolled_link(), START)
    assert caught.value.code is codes.LINK_KNOWN
    assert store.marks(LINK).to_hub == 4 * removed


def test_replaced_link_ends_at_the_moment_in_which_the_new_one_begins(store: HubStore) -> None:
    store.add_link(enrolled_link(link_id=OTHER), START, replacing=LINK)
    assert [one.link.link_id for one in store.links()] == [OTHER]
    with pytest.raises(Refused, match="link-known"):
        store.add_link(enrolled_link(), START, replacing=OTHER)
    assert [one.link.link_id for one in store.links()] == [OTHER]


@pytest.mark.parametrize("removed", [False, True])
def test_link_that_is_not_enrolled_can_neither_be_removed_nor_suspended_nor_replaced(
    store: HubStore, removed: bool
) -> None:
    if removed:
        store.remove_link(LINK, START)
    unknown = LINK if removed else OTHER
    attempts: list[Callable[[], None]] = [
        lambda: store.remove_link(unknown, START),
        lambda: store.suspend_link(unknown, suspended=True),
        lambda: store.add_link(enrolled_link(link_id=LinkId(b"a newone")), START, replacing=unknown),
    ]
    for attempt in attempts:
        with pytest.raises(Refused) as caught:
            attempt()
        assert caught.value.code is codes.LINK_NOT_ENROLLED
    assert len(store.links()) == 1 - removed


def test_marks_of_an_unknown_link_are_refused(store: HubStore) -> None:
    with pytest.raises(Refused) as caught:
        store.marks(OTHER)
    assert caught.value.code is codes.LINK_NOT_ENROLLED


# ── realm ───────────────────────────────────────────────────────────────────────────────────────
def test_realm_file_is_served_until_a_later_one_is_set(store: HubStore, path: str) -> None:
    assert store.realm() is None
    store.set_realm(1, b"one")
    store.set_realm(2, b"two")
    again = reopened(store, path)
    assert again.realm() == b"two"
    with pytest.raises(Refused) as caught:
        again.set_realm(1, b"one")
    assert caught.value.code is codes.REALM_OUTDATED
    again.set_realm(2, b"two again")
    assert again.realm() == b"two again"
    again.close()


# ── clocks ──────────────────────────────────────────────────────────────────────────────────────
def test_clock_that_goes_back_adds_nothing_and_takes_nothing_back(file_subject: FileSubject) -> None:
    """The fault is a wrong clock: it may only shorten what is kept."""
    subject = file_subject
    subject.commit([RealmAccepted(1, b"file")])
    ages = []
    for step in (100, -1000, 50, 0, -5, 10):
        subject.clock.seconds += step
        subject.commit([PrefaceCounted(LINK, 1)])
        subject.reopen()
        realm = subject.state().realm
        assert realm is not None
        ages.append(realm.age)
    assert ages == [100.0, 100.0, 150.0, 150.0, 150.0, 160.0]


def test_time_that_passed_while_nothing_was_committed_counts_too(file_subject: FileSubject) -> None:
    subject = file_subject
    subject.commit([RealmAccepted(1, b"file")])
    subject.clock.seconds += 100
    subject.reopen()
    subject.clock.seconds += 100
    subject.reopen()
    assert subject.state().realm == HeldRealm(b"file", 200.0)
