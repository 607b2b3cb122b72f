"""Sets that take grants, with real pads on a simulated disk."""

from __future__ import annotations

import pytest

from simulation.link_pair import LINK, Host, LinkPair
from skex.base import codes
from skex.base.errors import Refused, StoreFault
from skex.base.ids import Direction
from skex.pad.kinds import PadKind
from skex.protocol.changes import MarkRaised, PrefaceCounted
from skex.protocol.session import TakeGrant
from skex.protocol.taking import Taking
from skex.wire.preface import Stretch
from tests.unit.protocol.link_support import KINDS

COUNTED = PrefaceCounted(LINK, 7)


def host(kind: PadKind) -> Host:
    return LinkPair(kind, units=4).kme


def take(direction: Direction, start: int = 0) -> TakeGrant:
    return TakeGrant(LINK, direction, Stretch(start, 1), bytes(32), bytes(32))


@pytest.mark.parametrize("kind", KINDS)
def test_both_grants_of_a_set_come_out_in_the_order_asked_for(kind: PadKind) -> None:
    pads = host(kind).pads
    taking = Taking([take(Direction.TO_KME, 1), COUNTED, take(Direction.TO_HUB, 2)], pads)
    assert taking.changes == (
        MarkRaised(LINK, Direction.TO_KME, 2),
        COUNTED,
        MarkRaised(LINK, Direction.TO_HUB, 3),
    )
    taken = taking.finish()
    assert taken is not None
    assert [(item.direction, item.start) for item in taken.materials] == [
        (Direction.TO_KME, 1),
        (Direction.TO_HUB, 2),
    ]
    assert (pads[Direction.TO_HUB].mark, pads[Direction.TO_KME].mark) == (3, 2)


def test_set_without_grants_passes_through_and_touches_no_pad() -> None:
    end = host(PadKind.TABLE)
    calls = end.disk.calls
    taking = Taking([COUNTED], end.pads)
    assert taking.changes == (COUNTED,)
    assert taking.finish() is None
    assert end.disk.calls == calls


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written_before_the_commit(kind: PadKind) -> None:
    end = host(kind)
    before, calls = end.disk.image(), end.disk.calls
    Taking([take(Direction.TO_HUB), take(Direction.TO_KME)], end.pads)
    assert end.disk.image() == before
    assert set(end.disk.trace[calls:]) == {"read"}


def test_refusal_of_one_grant_drops_the_one_prepared_before_it() -> None:
    end = host(PadKind.TABLE)
    before = end.disk.image()
    with pytest.raises(Refused) as refusal:
        Taking([take(Direction.TO_HUB), take(Direction.TO_KME, 4)], end.pads)
    assert refusal.value.code is codes.PAD_EXHAUSTED
    assert end.pads[Direction.TO_HUB]._pending is None  # type: ignore[attr-defined]  # what the port hides
    assert end.disk.image() == before


def test_failed_commit_wipes_what_was_prepared_and_leaves_the_pads_as_they_were() -> None:
    end = host(PadKind.TABLE)
    taking = Taking([take(Direction.TO_HUB)], end.pads)
    _, material = end.pads[Direction.TO_HUB]._pending  # type: ignore[attr-defined]  # what the port hides
    taking.abandon()
    assert material.wiped
    assert end.pads[Direction.TO_HUB].mark == 0


def prepared_set(kind: PadKind) -> tuple[Host, Taking]:
    end = host(kind)
    return end, Taking([take(Direction.TO_HUB), take(Direction.TO_KME)], end.pads)


@pytest.mark.parametrize("kind", KINDS)
def test_disk_error_at_any_call_of_finishing_wipes_every_grant_of_the_set(kind: PadKind) -> None:
    end, taking = prepared_set(kind)
    calls = end.disk.calls
    taking.finish()
    for call in range(end.disk.calls - calls):
        failing, taking = prepared_set(kind)
        materials = [pad._pending[1] for pad in failing.pads.values()]  # type: ignore[attr-defined]  # what the port hides
        failing.disk.fail_after(call)
        with pytest.raises(StoreFault) as fault:
            taking.finish()
        assert fault.value.code is codes.PAD_IO
        assert [material.wiped for material in materials] == [True, True]
