"""Table pads: their file, their refusals, their enrolment."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator

import pytest

from simulation.chance import Chance
from simulation.disk import Disk
from simulation.pads import LINK, PATH, UNIT_BYTES, PadEnd
from skex.base import codes, limits
from skex.base.errors import LocalBug, PeerFault, StoreFault
from skex.base.ids import Direction
from skex.pad.kinds import PadKind
from skex.pad.table import TablePad

DATA_OFFSET = 12288


def random_bytes(units: int) -> bytes:
    return Chance(9).randbytes(units * UNIT_BYTES)


def test_file_has_the_documented_layout(table: PadEnd) -> None:
    identity = b"skex pad" + bytes([1, 2, 0, 0]) + (16).to_bytes(4, "big") + LINK
    state = (8).to_bytes(2, "big") + bytes(8)
    content = table.disk.durable(PATH)
    assert content[:56] == identity + hashlib.sha256(b"skex pad identity" + identity).digest()
    assert content[4096 : 4096 + 42] == state + hashlib.sha256(b"skex pad slot" + identity + state).digest()
    assert content[8192:DATA_OFFSET] == bytes(4096)
    assert content[DATA_OFFSET:] == b"".join(table.unit(position) for position in range(16))


def test_grant_has_the_bytes_of_its_units(table: PadEnd) -> None:
    material = table.take(table.open(), 2, 3)
    assert (material.start, material.count, material.size) == (2, 3, 3 * UNIT_BYTES)
    expected = table.unit(2) + table.unit(3) + table.unit(4)
    assert material.r + material.take(16, material.remaining) == expected


def test_erasing_touches_no_byte_at_or_above_the_mark(table: PadEnd) -> None:
    table.take(table.open(), 2, 3)
    content = table.disk.durable(PATH)
    assert content[DATA_OFFSET : DATA_OFFSET + 5 * UNIT_BYTES] == bytes(5 * UNIT_BYTES)
    assert content[DATA_OFFSET + 5 * UNIT_BYTES :] == b"".join(table.unit(at) for at in range(5, 16))


def test_last_unit_can_be_granted_and_nothing_after_it(table: PadEnd) -> None:
    pad = table.open()
    table.take(pad, 0, 16)
    assert (pad.mark, pad.remaining_bytes) == (16, 0)
    reopened = table.open()
    assert (reopened.mark, reopened.contradiction) == (16, False)


@pytest.mark.parametrize("block", [0, 1, 255])
def test_zero_block_in_the_material_is_refused_and_nothing_is_marked(table: PadEnd, block: int) -> None:
    pad = table.open()
    table.disk.overwrite(PATH, DATA_OFFSET + 3 * UNIT_BYTES + 16 * block, bytes(16))
    before = table.disk.image()
    with pytest.raises(StoreFault) as refusal:
        table.prepare(pad, 2, 2)
    assert refusal.value.code is codes.PAD_HOLE
    assert (table.disk.image(), pad.mark) == (before, 0)


def test_zeros_that_fill_no_block_are_material(table: PadEnd) -> None:
    pad = table.open()
    offset = DATA_OFFSET + 100 * 16 + 1
    table.disk.overwrite(PATH, offset - 1, b"\x01" + bytes(30) + b"\x01")
    assert table.take(pad, 0).start == 0


def test_hole_made_by_a_copy_that_lost_its_data_is_refused(table: PadEnd) -> None:
    pad = table.open()
    table.disk.overwrite(PATH, DATA_OFFSET + UNIT_BYTES, bytes(UNIT_BYTES))
    with pytest.raises(StoreFault) as refusal:
        table.prepare(pad, 1)
    assert refusal.value.code is codes.PAD_HOLE


def test_unit_that_was_granted_before_the_file_was_restored_without_its_header_is_refused(
    table: PadEnd,
) -> None:
    """The attacker, or a careless restore, gives an erased file its first header and the store its mark."""
    header = table.disk.durable(PATH)[:DATA_OFFSET]
    table.take(table.open(), 0, 2)
    table.disk.overwrite(PATH, 0, header)
    table.store_mark = 0
    pad = table.open()
    assert pad.mark == 0
    with pytest.raises(StoreFault) as refusal:
        table.prepare(pad, 1)
    assert refusal.value.code is codes.PAD_HOLE


def test_data_put_back_under_the_mark_is_erased_at_open(table: PadEnd) -> None:
    """A partial restore: the header is current, erased units are back."""
    pad = table.open()
    table.take(pad, 0, 4)
    table.take(pad, 4, 4)
    pad.close()
    table.disk.overwrite(PATH, DATA_OFFSET + UNIT_BYTES, table.unit(1))
    assert table.traces_below(8)
    table.open()
    assert not table.traces_below(8)


def test_reopening_overwrites_the_last_take_only(table: PadEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAD_CHUNK_BYTES", UNIT_BYTES)
    pad = table.open()
    table.take(pad, 0, 8)
    table.take(pad, 8, 3)
    pad.close()
    calls = table.disk.calls
    table.open()
    writes_of_marks = 1
    assert table.disk.trace[calls:].count("write") == writes_of_marks + 3


def test_largest_grant_is_given_and_a_larger_one_is_a_bug() -> None:
    end = PadEnd(PadKind.TABLE, seed=1, units=limits.TABLE_GRANT_UNITS_MAX + 1)
    end.create()
    pad = end.open()
    with pytest.raises(LocalBug) as refusal:
        end.prepare(pad, 0, limits.TABLE_GRANT_UNITS_MAX + 1)
    assert refusal.value.code is codes.BAD_ARGUMENT
    assert end.take(pad, 1, limits.TABLE_GRANT_UNITS_MAX).size == 2**20


def test_long_erasure_is_done_in_bounded_chunks_and_stops_at_the_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end = PadEnd(PadKind.TABLE, seed=1, units=12)
    end.create()
    pad = end.open()
    monkeypatch.setattr(limits, "PAD_CHUNK_BYTES", 2 * UNIT_BYTES)
    calls = end.disk.calls
    end.take(pad, 8)
    assert end.disk.trace[calls:] == (
        *("read", "write", "sync"),
        *("write", "write", "write", "write", "write", "sync", "punch", "sync"),
    )
    assert end.disk.durable(PATH)[DATA_OFFSET + 9 * UNIT_BYTES :] == b"".join(
        end.unit(at) for at in range(9, 12)
    )


def test_newest_slot_rotten_falls_back_to_the_older_mark_and_the_stores_one_counts(table: PadEnd) -> None:
    pad = table.open()
    table.take(pad, 0)
    table.take(pad, 1)
    pad.close()
    newest = max((4096, 8192), key=lambda at: table.disk.durable(PATH)[at + 2 : at + 6])
    table.disk.rot(PATH, newest + 5)
    pad = table.open()
    assert (pad.mark, pad.lag, pad.contradiction) == (2, 1, False)


def test_opening_writes_its_mark_beside_the_newest_slot_not_over_it(table: PadEnd) -> None:
    """Power loss in that write must not cost the file its own evidence of a rollback."""
    for mark in range(1, 6):
        before = table.disk.durable(PATH)
        newest = 4096 if before[4098:4106] >= before[8194:8202] else 8192
        table.store_mark = mark
        table.open().close()
        assert table.disk.durable(PATH)[newest : newest + 512] == before[newest : newest + 512]


@pytest.mark.parametrize("state", [b"\0\0\0\1\0\0\0\2", b"\0\0\0\x11\0\0\0\0"])
def test_valid_slot_with_impossible_marks_is_refused(table: PadEnd, state: bytes) -> None:
    identity = table.disk.durable(PATH)[:24]
    content = len(state).to_bytes(2, "big") + state
    table.disk.overwrite(PATH, 8192, content + hashlib.sha256(b"skex pad slot" + identity + content).digest())
    with pytest.raises(StoreFault, match="out of range") as refusal:
        table.open()
    assert refusal.value.code is codes.PAD_CORRUPT


def test_valid_slot_of_another_length_does_not_count(table: PadEnd) -> None:
    identity = table.disk.durable(PATH)[:24]
    content = b"\0\1\x09"
    table.disk.overwrite(PATH, 8192, content + hashlib.sha256(b"skex pad slot" + identity + content).digest())
    assert table.open().mark == 0


def test_identity_that_verifies_but_has_a_foreign_field_is_refused(table: PadEnd) -> None:
    good = table.disk.durable(PATH)[:24]
    for offset, value in [(0, b"S"), (8, b"\2"), (9, b"\3"), (10, b"\2"), (11, b"\1"), (12, bytes(4))]:
        bad = good[:offset] + value + good[offset + len(value) :]
        table.disk.overwrite(PATH, 0, bad + hashlib.sha256(b"skex pad identity" + bad).digest())
        with pytest.raises(StoreFault) as refusal:
            table.open()
        assert refusal.value.code is codes.PAD_CORRUPT


# ── masking at rest ─────────────────────────────────────────────────────────────────────────────
def flip(offset: int, data: bytes) -> bytes:
    """A stand-in for sealing at rest: depends on the offset of every byte."""
    return bytes(byte ^ (7 + (offset + at) * 31) & 0xFF for at, byte in enumerate(data))


def test_masked_pad_lies_masked_on_disk_and_comes_out_plain(disk: Disk) -> None:
    data = random_bytes(4)
    TablePad.create(disk, PATH, LINK, Direction.TO_HUB, [data[:5000], data[5000:]], mask=flip)
    assert disk.durable(PATH)[DATA_OFFSET:] == flip(0, data)
    pad = TablePad.open(disk, PATH, LINK, Direction.TO_HUB, 0, unmask=flip)
    material = pad.finish(pad.prepare(2, 2))
    assert material.r + material.take(16, material.remaining) == data[2 * UNIT_BYTES :]


def test_hole_in_a_masked_pad_is_found_before_unmasking_makes_it_look_random(disk: Disk) -> None:
    TablePad.create(disk, PATH, LINK, Direction.TO_HUB, [random_bytes(2)], mask=flip)
    disk.overwrite(PATH, DATA_OFFSET + UNIT_BYTES, bytes(UNIT_BYTES))
    pad = TablePad.open(disk, PATH, LINK, Direction.TO_HUB, 0, unmask=flip)
    with pytest.raises(StoreFault) as refusal:
        pad.prepare(1, 1)
    assert refusal.value.code is codes.PAD_HOLE


def test_zeros_that_were_masked_are_found_after_unmasking(disk: Disk) -> None:
    TablePad.create(disk, PATH, LINK, Direction.TO_HUB, [random_bytes(2)], mask=flip)
    disk.overwrite(PATH, DATA_OFFSET + UNIT_BYTES + 32, flip(UNIT_BYTES + 32, bytes(16)))
    pad = TablePad.open(disk, PATH, LINK, Direction.TO_HUB, 0, unmask=flip)
    with pytest.raises(StoreFault) as refusal:
        pad.prepare(1, 1)
    assert refusal.value.code is codes.PAD_HOLE


# ── enrolment ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("size", [1, 1000, 4096, 4097, 10_000, 3 * 4096])
def test_pieces_of_any_size_make_the_same_file(disk: Disk, size: int) -> None:
    data = random_bytes(3)
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    TablePad.create(disk, PATH, LINK, Direction.TO_HUB, pieces)
    assert disk.durable(PATH)[DATA_OFFSET:] == data


@pytest.mark.parametrize("data", [b"", b"\1" * 4095, b"\1" * 4097])
def test_data_of_no_whole_number_of_units_is_a_bug_and_leaves_no_file(disk: Disk, data: bytes) -> None:
    with pytest.raises(LocalBug) as refusal:
        TablePad.create(disk, PATH, LINK, Direction.TO_HUB, [data])
    assert refusal.value.code is codes.BAD_ARGUMENT
    assert not disk.exists(PATH)


def test_more_units_than_positions_is_a_bug(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAD_POSITION_MAX", 2)
    with pytest.raises(LocalBug) as refusal:
        TablePad.create(disk, PATH, LINK, Direction.TO_HUB, [random_bytes(1)] * 3)
    assert refusal.value.code is codes.BAD_ARGUMENT


def test_kit_with_a_zero_block_is_refused_and_leaves_no_file(disk: Disk) -> None:
    data = random_bytes(1)
    with pytest.raises(StoreFault) as refusal:
        TablePad.create(disk, PATH, LINK, Direction.TO_HUB, [data[:160] + bytes(16) + data[176:]])
    assert refusal.value.code is codes.PAD_HOLE
    assert not disk.exists(PATH)


def test_kit_that_breaks_off_leaves_no_file_and_no_material(disk: Disk) -> None:
    data = random_bytes(2)

    def broken() -> Iterator[bytes]:
        yield data
        raise PeerFault(codes.CONNECTION_CLOSED)

    with pytest.raises(PeerFault):
        TablePad.create(disk, PATH, LINK, Direction.TO_HUB, broken())
    assert not disk.exists(PATH)
    assert not [piece for piece in disk.evidence() if data[:16] in piece]


def test_full_disk_leaves_no_file() -> None:
    disk = Disk(seed=1, capacity_bytes=DATA_OFFSET + 3 * UNIT_BYTES)
    with pytest.raises(StoreFault, match=errno.errorcode[errno.ENOSPC]) as refusal:
        TablePad.create(disk, PATH, LINK, Direction.TO_HUB, [random_bytes(1) for _ in range(4)])
    assert refusal.value.code is codes.PAD_IO
    assert not disk.exists(PATH)


def test_cleaning_up_after_a_failed_enrolment_reports_the_first_error(disk: Disk) -> None:
    def pull_the_disk() -> Iterator[bytes]:
        yield random_bytes(1)
        disk.remove(PATH)
        raise PeerFault(codes.CONNECTION_CLOSED)

    with pytest.raises(PeerFault):
        TablePad.create(disk, PATH, LINK, Direction.TO_HUB, pull_the_disk())


def test_large_pad_is_streamed_in_bounded_memory(disk: Disk) -> None:
    """The longest write is a piece and what was left of the one before, never the pad."""
    longest = 0

    def watch(offset: int, data: bytes) -> bytes:
        nonlocal longest
        longest = max(longest, len(data))
        return data

    chance = Chance(4)
    pieces = (chance.randbytes(70_000) for _ in range(256))
    TablePad.create(disk, PATH, LINK, Direction.TO_HUB, pieces, mask=watch)
    assert longest <= 70_000 + UNIT_BYTES
    assert TablePad.open(disk, PATH, LINK, Direction.TO_HUB, 0).capacity == 256 * 70_000 // UNIT_BYTES
