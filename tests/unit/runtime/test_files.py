from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from skex.base.errors import StoreFault
from skex.runtime import clock, entropy
from skex.runtime.files import DiskFileSystem, replace_file
from skex.runtime.lock import HomeLock


def test_a_pad_file_is_private_positioned_and_short_only_at_its_end(tmp_path: Path) -> None:
    disk = DiskFileSystem(tmp_path)
    file = disk.create("one.pad", 8192)
    file.write(4096, b"abc")
    file.sync()
    disk.sync_directory("one.pad")
    assert (file.size(), file.read(4094, 5)) == (8192, b"\0\0abc")
    assert file.read(8190, 100) == b"\0\0"
    assert (tmp_path / "one.pad").stat().st_mode & 0o777 == 0o600
    assert disk.exists("one.pad")
    file.close()
    file.close()
    reopened = disk.open("one.pad")
    assert reopened.read(4096, 3) == b"abc"
    reopened.punch(4096, 4096)
    assert reopened.read(4096, 3) in {b"\0\0\0", b"abc"}  # best effort: overwriting comes first
    reopened.close()
    disk.remove("one.pad")
    assert not disk.exists("one.pad")


def test_an_existing_pad_file_is_never_taken_for_a_new_one(tmp_path: Path) -> None:
    disk = DiskFileSystem(tmp_path)
    disk.create("one.pad", 16).close()
    with pytest.raises(FileExistsError):
        disk.create("one.pad", 16)


def test_a_link_in_a_pads_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"x")
    (tmp_path / "one.pad").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic") as caught:
        DiskFileSystem(tmp_path).open("one.pad")
    assert caught.value.errno == errno.ELOOP


def test_a_pad_file_that_cannot_get_its_size_is_not_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208  # descriptors, not files

    def full(_descriptor: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(OSError, match="full"):
        DiskFileSystem(tmp_path).create("one.pad", 16)
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  # descriptors, not files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ports.json"
    replace_file(path, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="full"):
            replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    replace_file(path, b"newer", mode=0o644)
    assert path.read_bytes() == b"newer"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_home_has_one_owner_at_a_time(tmp_path: Path) -> None:
    first = HomeLock(tmp_path)
    with pytest.raises(StoreFault) as caught:
        HomeLock(tmp_path)
    assert caught.value.code.name == "home-in-use"
    first.release()
    first.release()
    HomeLock(tmp_path).release()


def test_a_home_that_is_not_there_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(StoreFault) as caught:
        HomeLock(tmp_path / "missing")
    assert caught.value.code.name == "home-missing"


def test_the_clocks_and_the_generator_are_the_systems() -> None:
    assert clock.now() <= clock.now()
    assert abs(clock.wall().timestamp() - clock.unix_seconds()) < 2
    assert len(entropy.random_bytes(32)) == 32
    assert entropy.random_bytes(32) != entropy.random_bytes(32)
    assert entropy.random_secret(32).expose() != entropy.random_secret(32).expose()
