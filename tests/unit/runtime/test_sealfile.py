"""The sealing key on a disk: one at a time, whatever a crash leaves, and nothing of the one before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from skex.audit.chain import Record
from skex.audit.log import SealRhythm
from skex.base import codes
from skex.base.errors import Refused, StoreFault
from skex.runtime import auditfile, sealfile
from skex.runtime.auditfile import Opening, open_audit, segments, verify
from skex.runtime.files import DiskFile
from skex.runtime.sealfile import NAME, SealFile, kept_in
from tests.unit.audit.support import IMPORTANT, Clock


class PowerCut(Exception):
    """The machine stops here."""


def test_fresh_key_is_random_private_and_nobodys_yet(tmp_path: Path) -> None:
    keeper = SealFile.open(tmp_path)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert (keeper.is_taken, keeper.current.epoch, keeper.sealed_to) == (False, 0, 0)
    assert keeper.renewal().key != keeper.current.key
    keeper.close()
    kept = kept_in(tmp_path)
    assert kept is not None
    assert not kept.is_taken


def test_each_key_replaces_the_one_before_of_which_nothing_is_left(tmp_path: Path) -> None:
    keeper = SealFile.open(tmp_path)
    seen = []
    first = keeper.take()
    assert keeper.take().key == first.key
    for number in range(5):
        seen.append(keeper.current.key.expose())
        keeper.advance(number)
    seen.append(keeper.current.key.expose())
    keeper.renew(keeper.renewal())
    data = (tmp_path / NAME).read_bytes()
    assert not [one for one in seen if one in data]
    assert keeper.current.key.expose() in data
    keeper.close()
    again = SealFile.open(tmp_path)
    assert (again.is_taken, again.current.epoch, again.sealed_to) == (True, 0, 4)
    again.close()


def test_key_that_moved_on_is_not_handed_out(tmp_path: Path) -> None:
    keeper = SealFile.open(tmp_path)
    keeper.take()
    keeper.advance(3)
    with pytest.raises(Refused) as refused:
        keeper.take()
    assert refused.value.code is codes.AUDIT_KEY_GONE


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("torn", [0, 1, 100, 10_000])
def test_crash_at_any_step_leaves_the_old_key_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, torn: int
) -> None:
    keeper = SealFile.open(tmp_path)
    keeper.take()
    keeper.advance(1)
    before, after = keeper.current.key.expose(), keeper.current.next().key.expose()
    left = step
    write, sync = DiskFile.write, DiskFile.sync

    def counted(what: Callable[[], None]) -> None:
        nonlocal left
        if left == 0:
            raise PowerCut
        left -= 1
        what()

    def torn_write(file: DiskFile, offset: int, data: bytes) -> None:
        if left == 0:
            write(file, offset, data[:torn])
        counted(lambda: write(file, offset, data))

    monkeypatch.setattr(DiskFile, "write", torn_write)
    monkeypatch.setattr(DiskFile, "sync", lambda file: counted(lambda: sync(file)))
    with pytest.raises(PowerCut):
        keeper.advance(2)
    monkeypatch.undo()
    again = SealFile.open(tmp_path)
    assert again.current.key.expose() in {before, after}
    other = before if again.current.key.expose() == after else after
    assert other not in (tmp_path / NAME).read_bytes()
    again.close()


def test_file_without_a_key_begins_anew_and_shows_nothing(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(bytes(8192))
    assert kept_in(tmp_path) is None
    SealFile.open(tmp_path).close()
    assert kept_in(tmp_path) is not None


def test_slot_of_a_later_format_is_none(tmp_path: Path) -> None:
    SealFile.open(tmp_path).close()
    data = bytearray((tmp_path / NAME).read_bytes())
    fields = sealfile._FIELDS.size
    data[9] ^= 2
    data[fields : fields + 32] = hashlib.sha512(data[:fields]).digest()[:32]
    (tmp_path / NAME).write_bytes(data)
    assert kept_in(tmp_path) is None


def test_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    for action in (kept_in, SealFile.open):
        with pytest.raises(StoreFault) as fault:
            action(tmp_path)
        assert fault.value.code is codes.AUDIT_IO


def test_start_behind_a_crash_between_seal_and_erasing_erases_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise PowerCut

    audit = open_audit(tmp_path / "log", Opening(tmp_path), Clock())
    audit.take_key()
    audit.emit(IMPORTANT)
    monkeypatch.setattr(SealFile, "advance", crash)
    with pytest.raises(PowerCut):
        audit.seal()
    monkeypatch.undo()
    _let_go(audit)
    before = kept_in(tmp_path)
    assert before is not None
    assert before.key.epoch == 1
    again = open_audit(tmp_path / "log", Opening(tmp_path), Clock())
    again.emit(IMPORTANT)
    again.close()
    lines = [line for one in segments(tmp_path / "log") for line, _ in auditfile.lines_of(one)]
    sealed = [
        record.epoch for line in lines if (record := Record.from_line(line)) is not None and record.seal
    ]
    assert sealed == [0, 1, 2]
    assert verify(tmp_path / "log").is_sound


def _let_go(audit: object) -> None:
    """As the kernel does for a process that is gone."""
    writer = audit._writer  # type: ignore[attr-defined]  # what only a crash does
    for descriptor in (writer._descriptor, writer._lock):
        os.close(descriptor)


def test_rhythm_of_an_opening_is_the_logs(tmp_path: Path) -> None:
    audit = open_audit(tmp_path / "log", Opening(tmp_path, rhythm=SealRhythm(records=1)), Clock())
    audit.take_key()
    audit.emit(IMPORTANT)
    assert audit.head.sequence == 5  # opened, taken, sealed, delivered, sealed
    audit.close()
