"""The simulated disk itself: what it promises to lose, keep and remember."""

from __future__ import annotations

import errno

import pytest

from simulation.chance import Chance
from simulation.disk import SECTOR_BYTES, Disk, DiskFile, PowerFailure

PATH = "file"
OLD = b"\x11" * SECTOR_BYTES
NEW = b"\x22" * SECTOR_BYTES


def written(disk: Disk, sectors: int = 1) -> DiskFile:
    file = disk.create(PATH, 0)
    file.write(0, OLD * sectors)
    file.sync()
    disk.sync_directory(PATH)
    return file


def is_remembered(disk: Disk, data: bytes) -> bool:
    return any(data in piece for piece in disk.evidence())


def test_synced_writes_survive_every_crash() -> None:
    for seed in range(50):
        disk = Disk(seed)
        written(disk)
        disk.crash()
        assert disk.open(PATH).read(0, 9999) == OLD


def test_unsynced_sectors_are_lost_kept_or_torn_each_by_itself_and_by_the_seed() -> None:
    outcomes = set()
    for seed in range(200):
        disk = Disk(seed)
        file = written(disk, sectors=2)
        file.write(0, NEW * 2)
        assert file.read(0, 2 * SECTOR_BYTES) == NEW * 2
        disk.crash()
        content = disk.open(PATH).read(0, 9999)
        assert content == disk.durable(PATH)
        fates = []
        for sector in (content[:SECTOR_BYTES], content[SECTOR_BYTES:]):
            cut = len(sector.rstrip(b"\x11"))
            assert sector == NEW[:cut] + OLD[cut:]
            fates.append("lost" if cut == 0 else "kept" if cut == SECTOR_BYTES else "torn")
        outcomes.add(tuple(fates))
    assert len(outcomes) == 9


def test_equal_seeds_have_equal_fates() -> None:
    def life(seed: int) -> bytes:
        disk = Disk(seed)
        written(disk, sectors=8).write(100, NEW * 7)
        disk.crash()
        return disk.durable(PATH)

    assert life(3) == life(3)
    assert len({life(seed) for seed in range(20)}) > 10


def test_growth_that_was_not_synced_may_be_cut_off() -> None:
    sizes = set()
    for seed in range(100):
        disk = Disk(seed)
        written(disk).write(SECTOR_BYTES, NEW * 3)
        disk.crash()
        sizes.add(disk.open(PATH).size())
    assert {SECTOR_BYTES, 4 * SECTOR_BYTES} <= sizes


def test_file_whose_entry_is_not_durable_may_vanish_and_its_synced_bytes_stay_on_the_medium() -> None:
    found = set()
    for seed in range(50):
        disk = Disk(seed)
        file = disk.create(PATH, 0)
        file.write(0, OLD)
        file.sync()
        disk.crash()
        found.add(disk.exists(PATH))
        assert is_remembered(disk, OLD)
    assert found == {True, False}


def test_removal_that_is_not_durable_may_be_undone_and_freed_blocks_are_remembered() -> None:
    found = set()
    for seed in range(50):
        disk = Disk(seed)
        written(disk)
        disk.remove(PATH)
        disk.crash()
        found.add(disk.exists(PATH))
        assert is_remembered(disk, OLD)
    assert found == {True, False}


def test_file_put_in_the_place_of_a_removed_one_does_not_make_its_blocks_forgotten() -> None:
    disk = Disk(1)
    written(disk)
    disk.remove(PATH)
    disk.create(PATH, SECTOR_BYTES).sync()
    disk.sync_directory(PATH)
    assert disk.durable(PATH) == bytes(SECTOR_BYTES)
    assert is_remembered(disk, OLD)


def test_overwriting_then_syncing_forgets_the_old_bytes() -> None:
    disk = Disk(1)
    file = written(disk)
    file.write(0, NEW)
    assert is_remembered(disk, OLD)
    file.sync()
    assert not is_remembered(disk, OLD)


def test_punching_before_the_overwriting_was_synced_leaves_the_old_bytes_in_a_freed_block() -> None:
    disk = Disk(1)
    file = written(disk)
    file.write(0, bytes(SECTOR_BYTES))
    file.punch(0, SECTOR_BYTES)
    file.sync()
    assert disk.durable(PATH) == bytes(SECTOR_BYTES)
    assert is_remembered(disk, OLD)


def test_disk_without_punching_leaves_the_range_as_it_is() -> None:
    disk = Disk(1, punches=False)
    file = written(disk)
    file.punch(0, SECTOR_BYTES)
    assert file.read(0, SECTOR_BYTES) == OLD


def test_failed_sync_leaves_the_medium_old_though_reads_and_later_syncs_say_otherwise() -> None:
    disk = Disk(1)
    file = written(disk)
    file.write(0, NEW + NEW)
    disk.fail_sync_after(1)
    file.sync()
    file.write(0, OLD)
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    file.sync()
    assert file.read(0, SECTOR_BYTES) == OLD
    assert disk.durable(PATH) == NEW + NEW


def test_power_is_cut_after_the_chosen_call_and_stays_off() -> None:
    disk = Disk(1)
    file = written(disk)
    calls = disk.calls
    disk.cut_power_after(2)
    file.write(0, NEW)
    with pytest.raises(PowerFailure):
        file.sync()
    with pytest.raises(PowerFailure):
        disk.exists(PATH)
    assert disk.trace[calls:] == ("write", "sync")
    assert disk.durable(PATH) == NEW, "the last call was carried out"
    file.close()


def test_files_opened_before_a_crash_or_restore_are_useless_after_it() -> None:
    disk = Disk(1)
    for strike in (disk.crash, lambda: disk.restore(disk.image())):
        file = written(disk) if not disk.exists(PATH) else disk.open(PATH)
        strike()
        with pytest.raises(OSError, match="descriptor"):
            file.read(0, 1)
        file.close()


def test_chosen_call_fails_without_effect_unless_the_disk_is_healed_first() -> None:
    disk = Disk(1)
    file = written(disk)
    disk.fail_after(1, errno.EROFS)
    file.write(0, NEW)
    with pytest.raises(OSError, match="Read-only"):
        file.write(0, OLD)
    assert file.read(0, SECTOR_BYTES) == NEW
    disk.fail_after(0)
    disk.shorten_next_read()
    disk.heal()
    assert file.read(0, SECTOR_BYTES) == NEW


def test_short_read_is_shorter_and_happens_once() -> None:
    disk = Disk(1)
    file = written(disk)
    disk.shorten_next_read()
    assert len(file.read(0, 100)) < 100
    assert len(file.read(0, 100)) == 100


def test_full_disk_refuses_growth_but_not_overwriting() -> None:
    disk = Disk(1, capacity_bytes=2 * SECTOR_BYTES)
    file = written(disk, sectors=2)
    file.write(0, NEW)
    with pytest.raises(OSError, match="No space"):
        file.write(SECTOR_BYTES, NEW + b"\0")
    with pytest.raises(OSError, match="No space"):
        disk.create("other", 1)


def test_rot_cutting_and_overwriting_are_durable_at_once() -> None:
    disk = Disk(1)
    written(disk)
    disk.rot(PATH, 7, 0xF0)
    disk.overwrite(PATH, 8, b"xy")
    disk.cut_off(PATH, 10)
    disk.crash()
    assert disk.open(PATH).read(0, 99) == b"\x11" * 7 + b"\xe1" + b"xy"


def test_restored_image_is_the_old_disk_and_a_clone_goes_its_own_way() -> None:
    disk = Disk(1)
    written(disk)
    image = disk.image()
    file = disk.open(PATH)
    file.write(0, NEW)
    file.sync()
    clone = Disk(2)
    clone.restore(image)
    disk.restore(image)
    disk.open(PATH).write(0, NEW)
    disk.open(PATH).sync()
    assert (clone.durable(PATH), disk.durable(PATH)) == (OLD, NEW)
    assert "\\x11" not in repr(image)


def test_missing_and_existing_paths_are_refused() -> None:
    disk = Disk(1)
    written(disk)
    with pytest.raises(FileExistsError):
        disk.create(PATH, 1)
    disk.remove(PATH)
    disk.sync_directory(PATH)
    disk.sync_directory(PATH)
    with pytest.raises(FileNotFoundError):
        disk.open(PATH)
    with pytest.raises(FileNotFoundError):
        disk.remove(PATH)
    with pytest.raises(KeyError):
        disk.durable(PATH)


def test_forks_of_chance_depend_on_their_names_and_not_on_what_was_drawn() -> None:
    chance = Chance(1)
    before = chance.fork("a").random()
    chance.random()
    assert chance.fork("a").random() == before
    assert len({chance.fork("b").random(), before, Chance(2).fork("a").random()}) == 3
