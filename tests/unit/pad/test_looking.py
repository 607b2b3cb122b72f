"""Looking at pad files: what is found, and that nothing is touched."""

from __future__ import annotations

import pytest

from simulation.pads import LINK, PATH, UNIT_BYTES, PadEnd
from skex.base import codes, limits
from skex.base.errors import StoreFault
from skex.pad.derived import PLAIN
from skex.pad.layout import HEADER_BYTES
from skex.pad.looking import look, looking


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


def test_a_table_is_erased_below_its_mark_and_whole_above(table: PadEnd) -> None:
    pad = table.open()
    table.take(pad, 0, 2)
    table.take(pad, 2, 1)
    with looking(table.disk, PATH) as opened:
        assert (opened.is_table, opened.mark(), opened.erased()) == (True, 3, 2)
        assert opened.remnants(0, 3) == 0
        assert opened.remnants(0, 16) == opened.remnants(3, 16) == 13
        assert opened.holes(3, 16) == 0
        assert opened.holes(0, 16) == 3
        assert opened.material(4, 2, lambda _, data: data) == table.unit(4) + table.unit(5)


def test_what_a_partial_restore_put_back_and_a_hole_above_the_mark_are_counted(table: PadEnd) -> None:
    pad = table.open()
    table.take(pad, 0, 2)
    pad.close()
    file = table.disk.open(PATH)
    file.write(HEADER_BYTES + UNIT_BYTES, table.unit(1))
    file.write(HEADER_BYTES + 5 * UNIT_BYTES + 16, bytes(16))
    file.close()
    with looking(table.disk, PATH) as opened:
        assert opened.remnants(0, 2) == 1
        assert opened.holes(2, 16) == 1


def test_material_is_read_with_its_mask_off(table: PadEnd) -> None:
    def unmask(offset: int, data: bytes) -> bytes:
        assert offset == 3 * UNIT_BYTES
        return data[::-1]

    with looking(table.disk, PATH) as opened:
        assert opened.material(3, 1, unmask) == table.unit(3)[::-1]


def test_a_chain_is_read_from_its_mark_on_and_not_below(derived: PadEnd) -> None:
    pad = derived.open()
    derived.take(pad, 0)
    derived.take(pad, 1)
    with looking(derived.disk, PATH) as opened:
        assert (opened.is_table, opened.mark(), opened.erased()) == (False, 2, 2)
        assert opened.chain_key(2, PLAIN) == derived.chain_key(2)
        assert opened.chain_key(7, PLAIN) == derived.chain_key(7)
        with pytest.raises(StoreFault) as below:
            opened.chain_key(1, PLAIN)
        assert below.value.code is codes.PAD_MARK_CONTRADICTS
        with pytest.raises(StoreFault) as beyond:
            opened.chain_key(4 + limits.DERIVED_JUMP_STEPS, PLAIN)
        assert beyond.value.code is codes.PAD_JUMP


def test_a_chain_of_which_a_crash_left_two_states_is_erased_up_to_the_older_one(derived: PadEnd) -> None:
    pad = derived.open()
    older = derived.disk.durable(PATH)[8192 : 8192 + 512]
    derived.take(pad, 0)
    pad.close()
    file = derived.disk.open(PATH)
    file.write(8192, older)
    file.close()
    with looking(derived.disk, PATH) as opened:
        assert (opened.mark(), opened.erased()) == (1, 0)
