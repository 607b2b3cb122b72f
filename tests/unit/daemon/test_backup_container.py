"""The file that a backup is: it opens whole, or not at all."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug, Refused, StoreFault
from skex.base.ids import RealmName
from skex.base.secret import Secret
from skex.daemon.backup.container import CHUNK, BackupReader, BackupWriter, DaemonKind, Header
from tests.unit.enrol.kit_support import CHEAP

STRETCHED = Secret(bytes(range(64)))
HEADER = Header(bytes(16), DaemonKind.KME, "site-a", RealmName("example"), 1, 5, bytes(16), CHEAP)


def backup(content: bytes, header: Header = HEADER) -> bytes:
    sink = io.BytesIO()
    writer = BackupWriter(sink, replace(header, content_bytes=len(content)), STRETCHED)
    writer.write(content)
    writer.finish()
    return sink.getvalue()


def content_of(data: bytes, stretched: Secret = STRETCHED) -> bytes:
    reader = BackupReader(io.BytesIO(data))
    reader.unlock(stretched)
    content = reader.take(reader.header.content_bytes + 1)
    reader.finish()
    return content


def code_of(data: bytes) -> ErrorCode:
    with pytest.raises(Refused) as caught:
        content_of(data)
    return caught.value.code


@pytest.mark.parametrize("size", [1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_content_of_any_size_comes_back(size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    assert content_of(backup(content)) == content


def test_content_stands_nowhere_in_clear() -> None:
    assert b"audit" not in backup(b"audit" * 40)


def test_any_changed_byte_is_found() -> None:
    data = backup(b"audit")
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x01
        assert code_of(bytes(changed)).name.startswith("backup-")


def test_any_end_that_was_cut_off_is_found() -> None:
    data = backup(b"audit")
    assert {code_of(data[:end]) for end in range(len(data))} == {codes.BACKUP_DAMAGED}


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 0, 2), (0, 2), (0, 1)])
def test_chunks_that_are_moved_repeated_or_left_out_are_found(order: tuple[int, ...]) -> None:
    """Each chunk is whole; the attacker has no passphrase."""
    data = backup(bytes(3 * CHUNK))
    size = CHUNK + 16
    begin = len(data) - 3 * size
    moved = data[:begin] + b"".join(data[begin + at * size : begin + (at + 1) * size] for at in order)
    assert code_of(moved) is codes.BACKUP_DAMAGED


def test_something_behind_the_end_is_found() -> None:
    assert code_of(backup(b"audit") + b"\0") is codes.BACKUP_DAMAGED


def test_content_that_nobody_took_is_no_end() -> None:
    reader = BackupReader(io.BytesIO(backup(b"audit")))
    reader.unlock(STRETCHED)
    assert reader.take(2) == b"au"
    with pytest.raises(Refused, match="backup-damaged"):
        reader.finish()


def test_chunk_of_another_backup_under_the_same_passphrase_does_not_fit() -> None:
    one, other = (backup(b"audit", replace(HEADER, salt=bytes([number]) * 16)) for number in (1, 2))
    assert code_of(one[:-21] + other[-21:]) is codes.BACKUP_DAMAGED


def test_wrong_passphrase_is_told_from_damage() -> None:
    reader = BackupReader(io.BytesIO(backup(b"audit")))
    with pytest.raises(Refused) as caught:
        reader.unlock(Secret(bytes(64)))
    assert caught.value.code is codes.BACKUP_PASSPHRASE


def test_locked_backup_gives_nothing() -> None:
    with pytest.raises(LocalBug):
        BackupReader(io.BytesIO(backup(b"audit"))).take(1)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda data: b"skex kit" + data[8:], codes.BACKUP_MALFORMED),
        (lambda data: data[:8] + b"\x02" + data[9:], codes.BACKUP_VERSION),
        (lambda data: data[:9] + b"\x01" + data[10:], codes.BACKUP_MALFORMED),
        (lambda data: data[:12] + b"\x00\x00\x02\x01" + data[16:], codes.BACKUP_MALFORMED),
        (lambda data: data[:12] + bytes(4) + data[16:], codes.BACKUP_MALFORMED),
        (lambda data: data[:16] + b"\x80" + data[17:], codes.BACKUP_MALFORMED),
    ],
)
def test_beginning_that_is_none_is_refused(spoil: object, code: ErrorCode) -> None:
    assert callable(spoil)
    assert code_of(spoil(backup(b"audit"))) is code


def test_header_that_asks_for_all_memory_is_refused() -> None:
    greedy = replace(HEADER, cost=replace(CHEAP, memory_kib=limits.KIT_KDF_MEMORY_KIB_MAX + 1))
    assert code_of(backup(b"audit", greedy)) is codes.BACKUP_MALFORMED


class Failing(io.BytesIO):
    """A medium that is gone."""

    def read(self, *_: object) -> bytes:
        raise OSError(5, "Input/output error")

    def write(self, *_: object) -> int:
        raise OSError(28, "No space left on device")


def test_medium_that_fails_is_said() -> None:
    with pytest.raises(StoreFault, match=r"file-io.*Input/output error"):
        BackupReader(Failing())
    with pytest.raises(StoreFault, match=r"file-io.*No space left"):
        BackupWriter(Failing(), HEADER, STRETCHED)


def test_writer_takes_exactly_what_the_header_states() -> None:
    writer = BackupWriter(io.BytesIO(), HEADER, STRETCHED)
    writer.write(b"four")
    with pytest.raises(LocalBug):
        writer.finish()
    with pytest.raises(LocalBug):
        writer.write(b"two")
