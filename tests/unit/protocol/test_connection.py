from __future__ import annotations

import pytest

from simulation.link_pair import DIGEST, EPOCH, NO_MARKS, LinkPair
from skex.base import codes, limits
from skex.base.errors import LocalBug, Refused
from skex.base.ids import Direction
from skex.pad.kinds import PadKind
from skex.protocol.connection import Connection, Established
from skex.protocol.link import Send
from skex.protocol.preface_hub import HubPreface
from skex.protocol.session import ConnectionLost, GrantsTaken, LinkFound, Owned, Received, RollbackNoted
from skex.protocol.traffic import Tick
from skex.wire import messages
from tests.unit.protocol.link_support import code_of, connected, exchange, failure_of, table_material


def test_only_the_dialling_end_speaks_first() -> None:
    pair = LinkPair(PadKind.TABLE)
    joined = pair.dial()
    joined.kme.run()
    joined.hub.run()
    assert joined.cable.waiting(Direction.TO_HUB) == 52
    assert joined.cable.waiting(Direction.TO_KME) == 0
    assert joined.kme.connection.link is None


def test_message_before_the_preface_is_done_is_refused_and_disturbs_nothing() -> None:
    pair = LinkPair(PadKind.TABLE)
    joined = pair.dial()
    for side in joined.sides:
        with pytest.raises(Refused) as refusal:
            side.send(messages.GetRealm())
        assert refusal.value.code is codes.LINK_DOWN
    joined.run()
    exchange(joined)


def test_message_after_the_end_is_refused() -> None:
    _, joined = connected(PadKind.TABLE)
    joined.cut()
    with pytest.raises(Refused) as refusal:
        joined.kme.connection.handle(Send(messages.GetRealm()), 0.0)
    assert refusal.value.code is codes.LINK_DOWN


def test_end_is_established_once_with_its_session() -> None:
    _, joined = connected(PadKind.TABLE)
    assert joined.kme.established is not None
    assert joined.hub.established is not None
    assert joined.kme.established.session.hub_epoch == EPOCH
    assert joined.hub.established.session.incarnation == joined.kme.host.incarnation
    for side in joined.sides:
        assert side.connection.link is not None


def test_records_that_came_behind_the_last_frame_are_in_the_first_effects_of_the_link() -> None:
    pair = LinkPair(PadKind.TABLE)
    joined = pair.dial()
    joined.kme.run()
    while not joined.kme.open:
        joined.hub.deliver()
        joined.hub.run()
        joined.kme.deliver()
        joined.kme.run()
    joined.kme.send(messages.GetRealm())
    joined.kme.run()
    joined.hub.deliver()
    hub = joined.hub.connection
    joined.hub.stop()
    material = table_material(Direction.TO_KME)
    # The material of frame 5 as the KME's own pad has it does not matter here: only KME → hub is used.
    effects = hub.handle(GrantsTaken((material,)), 0.0)
    assert isinstance(effects.notify[0], Established)
    assert [type(notice).__name__ for notice in effects.notify] == ["Established", "Arrived"]


@pytest.mark.parametrize(
    "event",
    [Owned(NO_MARKS, EPOCH, DIGEST), RollbackNoted(), LinkFound(LinkPair(PadKind.TABLE, 0, 1).profile)],
)
def test_answer_that_comes_behind_the_preface_is_a_bug_of_the_shell(
    event: Owned | RollbackNoted | LinkFound,
) -> None:
    _, joined = connected(PadKind.TABLE)
    with pytest.raises(LocalBug) as error:
        joined.hub.connection.handle(event, 0.0)
    assert error.value.code is codes.BAD_STATE


def test_deadline_is_the_prefaces_and_then_the_links() -> None:
    pair = LinkPair(PadKind.DERIVED)
    pair.now = 5.0
    joined = pair.dial()
    for side in joined.sides:
        assert side.connection.next_deadline == 5.0 + limits.PREFACE_SECONDS
        assert not side.connection.paused
    joined.run()
    for side in joined.sides:
        assert side.connection.next_deadline is None
    exchange(joined)
    for side in joined.sides:
        assert side.connection.next_deadline == 5.0 + limits.DERIVED_GRANT_SECONDS


def test_silent_peer_loses_its_connection_when_the_preface_takes_too_long() -> None:
    """Attacker: connections that are opened and left."""
    hub = Connection(HubPreface(bytes(32), now=1.0))
    assert hub.handle(Tick(), 1.0 + limits.PREFACE_SECONDS / 2).empty
    effects = hub.handle(Tick(), 1.0 + limits.PREFACE_SECONDS)
    assert failure_of(effects).code is codes.PEER_SILENT
    assert hub.next_deadline is None


def test_connection_lost_before_anything_arrived_ends_it() -> None:
    hub = Connection(HubPreface(bytes(32), now=0.0))
    assert failure_of(hub.handle(ConnectionLost(), 0.0)).code is codes.CONNECTION_CLOSED
    assert hub.handle(Received(b"late"), 0.0).empty


def test_store_that_fails_ends_the_connection_and_nothing_of_the_set_is_sent() -> None:
    for host_name in ("kme", "hub"):
        pair = LinkPair(PadKind.TABLE)
        host = pair.kme if host_name == "kme" else pair.hub
        host.store.fails = True
        joined = pair.connect()
        side = joined.kme if host_name == "kme" else joined.hub
        assert code_of(side) is codes.PAD_IO
        assert not side.established
        assert host.store.marks == NO_MARKS
        assert host.pads[Direction.TO_HUB].mark == 0
        exchange(pair.connect())
