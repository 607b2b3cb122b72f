"""Who notices that it was rolled back, when, and that nobody else ever does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from simulation.ledger import PadReusedError
from simulation.link_pair import Host, HostImage, Joined, LinkPair, Side
from skex.base import codes, limits
from skex.base.ids import Direction, KmeName
from skex.pad.kinds import PadKind
from skex.wire import messages
from tests.unit.protocol.link_support import KINDS, exchange

BOB = KmeName("bob")


def used(kind: PadKind, connections: int = 1) -> LinkPair:
    """A pair that had so many connections, each of them used."""
    pair = LinkPair(kind, units=256)
    for _ in range(connections):
        joined = pair.connect()
        exchange(joined)
        joined.cut()
    return pair


def alarms(pair: LinkPair) -> tuple[int, int]:
    return len(pair.kme.store.alarms), len(pair.hub.store.alarms)


def progress(pair: LinkPair) -> None:
    joined = pair.connect()
    exchange(joined)
    joined.cut()


def large_exchange(pair: LinkPair) -> None:
    """Makes both ends take later grants, within one connection."""
    joined = pair.connect()
    joined.kme.send(messages.Peer(BOB, bytes(9000)))
    joined.hub.send(messages.RealmFile(bytes(9000)))
    joined.run()
    joined.cut()


def hosts(pair: LinkPair) -> dict[str, Host]:
    return {"kme": pair.kme, "hub": pair.hub}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_noticed_while_nobody_is_rolled_back(kind: PadKind) -> None:
    pair = used(kind, 3)
    for host in pair.hosts:
        host.crash()
        large_exchange(pair)
    assert alarms(pair) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["kme", "hub"])
@pytest.mark.parametrize("lost", [progress, large_exchange])
def test_restored_end_notices_once_goes_on_and_reuses_nothing(
    kind: PadKind, name: str, lost: Callable[[LinkPair], None]
) -> None:
    pair = used(kind, 2)
    host = hosts(pair)[name]
    image = host.image()
    for _ in range(4):
        lost(pair)
    host.restore(image)
    joined = pair.connect()
    exchange(joined)
    assert alarms(pair) == ((1, 0) if name == "kme" else (0, 1))
    (alarm,) = host.store.alarms
    assert alarm.own < alarm.seen
    joined.cut()
    for _ in range(4):
        progress(pair)
    assert sum(alarms(pair)) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["kme", "hub"])
def test_end_restored_within_a_connection_notices_by_its_marks_alone(kind: PadKind, name: str) -> None:
    """The count is the same before and after: only grants went on."""
    pair = LinkPair(kind, units=256)
    joined = pair.connect()
    exchange(joined)
    host = hosts(pair)[name]
    image = host.image()
    if kind is PadKind.TABLE:
        joined.kme.send(messages.Peer(BOB, bytes(9000)))
        joined.hub.send(messages.RealmFile(bytes(9000)))
    else:
        pair.now = limits.DERIVED_GRANT_SECONDS
        for side in joined.sides:
            side.tick()
    joined.run()
    host.restore(image)
    exchange(pair.connect())
    (alarm,) = host.store.alarms
    assert alarm.own[2] == alarm.seen[2]
    assert len(hosts(pair)["hub" if name == "kme" else "kme"].store.alarms) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_restore_of_what_the_other_end_never_saw_used_is_not_noticed(kind: PadKind) -> None:
    pair = used(kind)
    image = pair.kme.image()
    joined = pair.dial()
    joined.kme.run()
    joined.cut()
    pair.kme.restore(image)
    progress(pair)
    assert alarms(pair) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["kme", "hub"])
def test_crash_at_any_action_of_the_preface_that_notices_never_loses_the_alarm(
    kind: PadKind, name: str
) -> None:
    """Fault: the machine dies between healing its marks and telling of it."""
    total = 0
    for crash_at in range(200):
        pair = used(kind)
        host = hosts(pair)[name]
        image = host.image()
        for _ in range(3):
            progress(pair)
        host.restore(image)
        joined = pair.dial()
        actions = act(joined, host, crash_at)
        host.crash()
        exchange(pair.connect())
        assert len(host.store.alarms) in {1, 2}
        if actions < crash_at:
            break
        total += 1
    assert 5 < total < 199


def act(joined: Joined, host: Host, count: int) -> int:
    """Carry out and deliver until ``host`` did so many actions; returns how many it did."""
    done = 0
    moving = True
    while moving:
        moving = False
        for side in joined.sides:
            while True:
                if side.host is host and done == count:
                    return done
                if not side.step():
                    break
                done += side.host is host
                moving = True
            moving |= side.deliver() > 0
    return done


@pytest.mark.parametrize("kind", KINDS)
def test_grants_taken_for_prefaces_that_never_finished_are_skipped_and_cause_one_alarm(kind: PadKind) -> None:
    pair = used(kind)
    image = pair.kme.image()
    for _ in range(5):
        # Frame 5 is lost each time: the KME took a grant that the hub never learns of but by frame 3.
        joined = pair.dial()
        joined.kme.run()
        while not joined.kme.open:
            joined.hub.deliver()
            joined.hub.run()
            joined.kme.deliver()
            joined.kme.run()
        joined.cut()
    pair.kme.restore(image)
    for _ in range(5):
        progress(pair)
    assert alarms(pair) == (1, 0)


def test_alarm_is_told_also_when_the_connection_fails_for_another_reason() -> None:
    """A KME so far behind that its chain may not be advanced."""
    pair = used(PadKind.DERIVED)
    image = pair.kme.image()
    far = limits.DERIVED_JUMP_STEPS + 100
    for host in pair.hosts:
        host.store.marks = replace(host.store.marks, to_kme=far, seen_to_kme=far)
    pair.kme.restore(image)
    joined = pair.connect()
    assert joined.kme.error is not None
    assert joined.kme.error.code is codes.PAD_JUMP
    assert alarms(pair) == (1, 0)
    assert pair.kme.store.frozen == codes.PAD_JUMP.name


def test_lying_hub_can_alarm_but_not_stop_or_overflow_anything() -> None:
    pair = used(PadKind.TABLE)
    top = limits.PREFACE_COUNT_MAX
    pair.hub.store.marks = replace(pair.hub.store.marks, seen_count=top)
    progress(pair)
    assert alarms(pair) == (1, 0)
    assert pair.kme.marks.count == top
    progress(pair)
    assert alarms(pair) == (1, 0)


# ── both ends ───────────────────────────────────────────────────────────────────────────────────
def restored_both(kind: PadKind) -> LinkPair:
    """Both ends restored to the same moment, with everything since forgotten by both."""
    pair = used(kind)
    images: list[HostImage] = [host.image() for host in pair.hosts]
    progress(pair)
    for host, image in zip(pair.hosts, images, strict=True):
        host.restore(image)
    return pair


def test_both_ends_of_a_derived_link_restored_reuse_no_keystream() -> None:
    pair = restored_both(PadKind.DERIVED)
    progress(pair)
    progress(pair)
    assert alarms(pair) == (0, 0)


def test_both_ends_of_a_table_link_restored_reuse_pad_as_the_specification_warns() -> None:
    """The documented residual: nobody is left who could know. The ledger of the world knows."""
    pair = restored_both(PadKind.TABLE)
    with pytest.raises(PadReusedError):
        progress(pair)


def test_both_ends_of_a_table_link_restored_one_after_the_other_with_a_preface_between_reuse_nothing() -> (
    None
):
    pair = used(PadKind.TABLE)
    kme, hub = (host.image() for host in pair.hosts)
    progress(pair)
    pair.kme.restore(kme)
    progress(pair)
    pair.hub.restore(hub)
    progress(pair)
    assert alarms(pair) == (1, 1)


# ── clones ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", KINDS)
def test_clone_of_the_kme_running_at_once_reuses_nothing_and_each_of_the_two_notices(kind: PadKind) -> None:
    pair = used(kind)
    clone = pair.clone(pair.kme.image(), "clone")
    for _ in range(3):
        for kme in (pair.kme, clone):
            exchange(pair.connect(kme=kme))
    assert pair.kme.store.alarms
    assert clone.store.alarms
    assert not pair.hub.store.alarms


def greeting(side: Side) -> messages.Message:
    return messages.GetRealm() if side.outgoing is Direction.TO_HUB else messages.RealmFile(b"realm")


@pytest.mark.parametrize("kind", KINDS)
def test_two_clones_dialling_at_the_same_time_reuse_nothing(kind: PadKind) -> None:
    pair = used(kind)
    clone = pair.clone(pair.kme.image(), "clone")
    for _ in range(4):
        first, second = pair.dial(), pair.dial(kme=clone)
        greeted: set[int] = set()
        moving = True
        while moving:
            moving = False
            for side in (*first.sides, *second.sides):
                moving |= bool(side.step()) | bool(side.deliver(30))
                if side.open and id(side) not in greeted:
                    greeted.add(id(side))
                    side.send(greeting(side))
        assert greeted
        # The hub has one writer of marks: at most one of them is left.
        assert sum(joined.hub.open for joined in (first, second)) <= 1
        first.cut()
        second.cut()


def test_clone_of_a_derived_hub_reuses_no_keystream() -> None:
    pair = used(PadKind.DERIVED)
    clone = pair.clone(pair.hub.image(), "clone")
    for _ in range(2):
        for hub in (pair.hub, clone):
            exchange(pair.connect(hub=hub))
    # The KME is where the hubs meet: each hears of marks that it never had.
    assert pair.hub.store.alarms
    assert clone.store.alarms
    assert not pair.kme.store.alarms
