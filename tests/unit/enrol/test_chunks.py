from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache

import pytest

from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug, Refused, StoreFault
from skex.base.ids import Direction
from skex.base.secret import Secret
from skex.enrol.chunks import CHUNK, KitReader, KitWriter
from skex.enrol.kit import KitHeader, PassphraseKeys, UnderPassphrase
from skex.enrol.passphrase import parse_passphrase, stretch
from skex.pad.kinds import PadKind
from tests.unit.enrol import kit_support as support

PREAMBLE = 16
TABLE = support.create(support.order(kind=PadKind.TABLE))
SEALED_TABLE = support.create(support.order(kind=PadKind.TABLE, passphrase=support.PASSPHRASE))
SMALL = support.create(support.order())
SEALED_SMALL = support.create(support.order(passphrase=support.PASSPHRASE))
KITS = {"table": TABLE, "sealed table": SEALED_TABLE, "derived": SMALL, "sealed derived": SEALED_SMALL}


@cache
def stretched(salt: bytes, passphrase: str) -> Secret:
    return stretch(parse_passphrase(passphrase), salt, support.CHEAP)


def keys_of(reader: KitReader, passphrase: str = support.PASSPHRASE) -> PassphraseKeys | None:
    protection = reader.header.protection
    if not isinstance(protection, UnderPassphrase):
        return None
    return reader.unlock(stretched(protection.salt, passphrase))


def read_all(data: bytes) -> tuple[bytes, bytes]:
    """Content and fingerprint."""
    reader = KitReader(io.BytesIO(data))
    keys = keys_of(reader)
    content = b"".join(reader.pieces(reader.header.content_bytes, keys))
    return content, reader.finish()


def examine(data: bytes) -> bytes:
    return KitReader(io.BytesIO(data)).examine()


def body_start(data: bytes) -> int:
    """Where the chunks begin."""
    header = int.from_bytes(data[12:16], "big")
    sealed = isinstance(support.header_of(data).protection, UnderPassphrase)
    return PREAMBLE + header + 64 + (16 if sealed else 0)


def refusal(data: bytes) -> ErrorCode:
    """Why a kit is refused, at the latest once everything was read."""
    with pytest.raises(Refused) as refused:
        read_all(data)
    return refused.value.code


def flipped(data: bytes, place: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


class Trickle(io.BytesIO):
    """A medium that gives a few bytes at a time."""

    def read(self, count: int | None = -1) -> bytes:
        return super().read(min(count or 0, 7) if count and count > 0 else count)


@pytest.mark.parametrize("name", KITS)
def test_kit_reads_back_and_both_ways_of_reading_agree_on_its_fingerprint(name: str) -> None:
    content, fingerprint = read_all(KITS[name])
    assert len(content) == support.header_of(KITS[name]).content_bytes
    assert examine(KITS[name]) == fingerprint


def test_medium_that_gives_few_bytes_at_a_time_is_read_to_the_end() -> None:
    assert KitReader(Trickle(SMALL)).examine() == examine(SMALL)


@pytest.mark.parametrize("name", ["derived", "sealed derived"])
def test_every_flipped_bit_is_found(name: str) -> None:
    """The fault is a medium that decays, or a courier who tries his luck."""
    data = KITS[name]
    for place in range(len(data)):
        altered = flipped(data, place, place % 8)
        with pytest.raises(Refused):
            read_all(altered)


@pytest.mark.parametrize("name", ["derived", "sealed derived"])
def test_every_flipped_bit_is_found_without_the_passphrase_too(name: str) -> None:
    data = KITS[name]
    proof = range(body_start(data) - 16, body_start(data)) if "sealed" in name else range(0)
    for place in set(range(len(data))) - set(proof):
        with pytest.raises(Refused):
            examine(flipped(data, place, place % 8))


@pytest.mark.parametrize("name", ["table", "sealed table"])
def test_a_flipped_bit_in_any_chunk_names_the_chunk(name: str) -> None:
    data = KITS[name]
    stored = CHUNK + (16 if "sealed" in name else 64)
    for index in range(support.header_of(data).chunks):
        place = min(body_start(data) + index * stored + 17, len(data) - 200)
        with pytest.raises(Refused, match=f"kit-altered.*chunk {index + 1} of"):
            read_all(flipped(data, place))


@pytest.mark.parametrize("name", ["derived", "sealed derived"])
def test_every_truncation_is_found(name: str) -> None:
    """The fault is a medium that was pulled out."""
    for length in range(len(KITS[name])):
        assert refusal(KITS[name][:length]) is codes.KIT_TRUNCATED


@pytest.mark.parametrize("name", ["table", "sealed table"])
def test_truncation_at_any_chunk_is_found(name: str) -> None:
    data = KITS[name]
    stored = CHUNK + (16 if "sealed" in name else 64)
    for index in range(support.header_of(data).chunks):
        for cut in (0, 1, stored - 1):
            length = min(body_start(data) + index * stored + cut, len(data) - 1)
            assert refusal(data[:length]) is codes.KIT_TRUNCATED


@pytest.mark.parametrize("name", KITS)
def test_anything_behind_the_end_is_found(name: str) -> None:
    assert refusal(KITS[name] + b"\0") is codes.KIT_ALTERED
    with pytest.raises(Refused, match="kit-altered"):
        examine(KITS[name] + KITS[name])


@pytest.mark.parametrize("name", ["table", "sealed table"])
def test_chunks_in_another_order_are_found(name: str) -> None:
    """An attacker moves a part of the pad to where another one belongs."""
    data, start = KITS[name], body_start(KITS[name])
    stored = CHUNK + (16 if "sealed" in name else 64)
    one, two = data[start : start + stored], data[start + stored : start + 2 * stored]
    for changed in (two + one, one + one, two + two):
        assert refusal(data[:start] + changed + data[start + 2 * stored :]) is codes.KIT_ALTERED


@pytest.mark.parametrize("name", ["table", "sealed table"])
def test_chunk_of_another_kit_is_found(name: str) -> None:
    data, start = KITS[name], body_start(KITS[name])
    passphrase = support.PASSPHRASE if "sealed" in name else None
    other = support.create(support.order(kind=PadKind.TABLE, passphrase=passphrase), seed="another")
    stored = CHUNK + (16 if "sealed" in name else 64)
    assert len(other) == len(data)
    assert refusal(data[:start] + other[start : start + stored] + data[start + stored :]) is codes.KIT_ALTERED


def test_header_of_another_kit_over_these_chunks_is_found() -> None:
    """In clear, a forger can recompute every check, but not the fingerprint that was told him by voice."""
    other = support.create(support.order(kind=PadKind.TABLE), seed="another")
    assert refusal(other[: body_start(other)] + TABLE[body_start(TABLE) :]) is codes.KIT_ALTERED


def test_forged_kit_in_clear_has_other_words() -> None:
    forged = support.create(support.order(), seed="forger")
    assert examine(forged) != examine(SMALL)


def test_wrong_passphrase_is_told_from_damage() -> None:
    reader = KitReader(io.BytesIO(SEALED_SMALL))
    with pytest.raises(Refused, match="kit-passphrase"):
        keys_of(reader, "another passphrase")


def test_nothing_of_a_chunk_comes_out_before_it_was_checked() -> None:
    for data in (TABLE, SEALED_TABLE):
        reader = KitReader(io.BytesIO(flipped(data, body_start(data) + CHUNK - 1)))
        keys = keys_of(reader)
        with pytest.raises(Refused, match="kit-altered"):
            reader.take(1, keys)


def test_content_is_nowhere_in_a_kit_under_a_passphrase() -> None:
    content, _ = read_all(SEALED_TABLE)
    assert len(content) == 128 + 60 * limits.TABLE_UNIT_BYTES
    assert not any(content[at : at + 16] in SEALED_TABLE for at in range(0, len(content), 4096))


def test_kits_are_told_apart_by_nothing_but_chance() -> None:
    """Two kits of the same order share no chunk, key or fingerprint."""
    other = support.create(support.order(passphrase=support.PASSPHRASE), seed=1)
    assert other[body_start(other) :] != SEALED_SMALL[body_start(SEALED_SMALL) :]
    assert examine(other) != examine(SEALED_SMALL)


# ── media that fail ─────────────────────────────────────────────────────────────────────────────
class Failing(io.BytesIO):
    """A medium that is pulled out."""

    def __init__(self, data: bytes, good: int) -> None:
        super().__init__(data)
        self._good = good

    def read(self, count: int | None = -1) -> bytes:
        if self.tell() >= self._good:
            raise OSError(5, "Input/output error")
        return super().read(count)

    def write(self, data: object) -> int:
        if self.tell() >= self._good:
            raise OSError(28, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]  # whatever is written


@pytest.mark.parametrize("good", [0, 16, 300, len(SMALL) - 1, len(SMALL)])
def test_medium_that_fails_while_it_is_read_is_a_fault_of_the_store(good: int) -> None:
    with pytest.raises(StoreFault, match=r"kit-io.*EIO"):
        KitReader(Failing(SMALL, good)).examine()


def writer(sink: io.BytesIO, header: KitHeader | None = None) -> KitWriter:
    return KitWriter(sink, header or support.header_of(TABLE), None)


def test_full_medium_is_a_fault_of_the_store() -> None:
    with pytest.raises(StoreFault, match=r"kit-io.*ENOSPC"):
        writer(Failing(b"", 0))


# ── who calls it wrongly ────────────────────────────────────────────────────────────────────────
def test_more_or_less_content_than_stated_is_a_bug() -> None:
    header = support.header_of(SMALL)
    with pytest.raises(LocalBug, match="more content"):
        writer(io.BytesIO(), header).write(bytes(header.content_bytes + 1))
    short = writer(io.BytesIO(), header)
    short.write(bytes(header.content_bytes - 1))
    with pytest.raises(LocalBug, match="less content"):
        short.finish()


def test_passphrase_where_none_belongs_is_a_bug() -> None:
    with pytest.raises(LocalBug, match="a passphrase where none belongs"):
        KitWriter(io.BytesIO(), support.header_of(SMALL), Secret(bytes(64)))
    with pytest.raises(LocalBug, match="a passphrase where none belongs"):
        KitWriter(io.BytesIO(), support.header_of(SEALED_SMALL), None)


def test_reading_without_a_key_or_beyond_the_end_is_a_bug() -> None:
    with pytest.raises(LocalBug, match="bug-state"):
        KitReader(io.BytesIO(SEALED_SMALL)).take(1, None)
    reader = KitReader(io.BytesIO(SMALL))
    reader.take(reader.header.content_bytes, None)
    with pytest.raises(LocalBug, match="bug-state"):
        reader.take(1, None)


def test_finishing_with_content_left_is_a_bug() -> None:
    for count in (1, support.header_of(SMALL).content_bytes - 1):
        reader = KitReader(io.BytesIO(SMALL))
        reader.take(count, None)
        with pytest.raises(LocalBug, match="bug-state"):
            reader.finish()


# ── bounded memory ──────────────────────────────────────────────────────────────────────────────
class Endless(io.RawIOBase):
    """A kit that goes on and on: its header, then zeros."""

    def __init__(self, head: bytes) -> None:
        super().__init__()
        self._head = io.BytesIO(head)
        self.asked: list[int] = []

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        self.asked.append(count)
        return self._head.read(count) or bytes(count)


def test_no_read_asks_for_more_than_a_chunk() -> None:
    source = Endless(TABLE[: body_start(TABLE)])
    with pytest.raises(Refused, match="kit-altered"):
        KitReader(source).examine()
    assert max(source.asked) <= CHUNK + 64


def test_pieces_come_in_bounded_sizes_and_progress_hears_of_all_content() -> None:
    heard: list[int] = []
    reader = KitReader(io.BytesIO(TABLE), heard.append)
    reader.take(128, None)
    sizes: list[int] = []
    for direction in Direction:
        sizes += [len(piece) for piece in _pieces(reader, direction)]
    assert max(sizes) <= CHUNK
    assert sum(heard) == reader.header.content_bytes == 128 + sum(sizes)


def _pieces(reader: KitReader, direction: Direction) -> Iterator[bytes]:
    return reader.pieces(reader.header.material_bytes(direction), None)


def test_content_of_whole_chunks_has_no_empty_last_one() -> None:
    """16 units and the 128 bytes before them are one chunk and a bit; 15 units and some are exactly one."""
    order = support.order(kind=PadKind.TABLE, units=(16, 15))
    data = support.create(order)
    header = support.header_of(data)
    assert header.chunks == -(-header.content_bytes // CHUNK) == 2
    assert len(read_all(data)[0]) == header.content_bytes
