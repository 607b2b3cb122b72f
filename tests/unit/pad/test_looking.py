"""Looking at pad files: what is found, and that nothing is touched."""

from __future__ import annotations

import pytest

from simulation.pads import LINK, PATH, PadEnd
from skex.base import codes
from skex.base.errors import StoreFault
from skex.pad.looking import look


def test_look_finds_who_a_pad_is_and_its_mark_and_changes_nothing(table: PadEnd, derived: PadEnd) -> None:
    for end in (table, derived):
        pad = end.open()
        end.take(pad, 0, 1)
        before = end.disk.durable(PATH)
        seen = look(end.disk, PATH)
        assert (seen.identity.link_id, seen.identity.kind, seen.mark) == (LINK, pad.kind, 1)
        assert end.disk.durable(PATH) == before


def test_look_at_a_pad_that_is_missing_is_refused(table: PadEnd) -> None:
    with pytest.raises(StoreFault) as refused:
        look(table.disk, "nothing.pad")
    assert refused.value.code is codes.PAD_IO
