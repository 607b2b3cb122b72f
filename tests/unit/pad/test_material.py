"""A grant's bytes in memory: in order, once, then gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import Direction
from skex.crypto.keystream import Keystream
from skex.pad.material import DerivedMaterial, GrantMaterial, TableMaterial

KEY = bytes(range(32))
DATA = bytes(range(256)) * 16


@pytest.fixture(params=["table", "derived"])
def material(request: pytest.FixtureRequest) -> GrantMaterial:
    if request.param == "table":
        return TableMaterial(Direction.TO_KME, 7, 1, bytearray(DATA))
    return DerivedMaterial(Direction.TO_KME, 7, Keystream(KEY))


def test_new_grant_stands_behind_r(material: GrantMaterial) -> None:
    assert (material.direction, material.start, material.count) == (Direction.TO_KME, 7, 1)
    assert material.position == 16
    assert material.remaining == material.size - 16
    assert len(material.r) == 16


def test_bytes_come_in_order_and_r_stays(material: GrantMaterial) -> None:
    expected = DATA if isinstance(material, TableMaterial) else Keystream(KEY).take(4096)
    taken = material.take(16, 40) + material.take(56, 1) + material.take(57, 1000)
    assert material.r + taken == expected[: 16 + 1041]
    assert material.position == 1057


def test_table_grant_ends_with_its_last_byte() -> None:
    material = TableMaterial(Direction.TO_HUB, 0, 1, bytearray(DATA))
    assert material.size == len(DATA)
    assert material.take(16, material.remaining) == DATA[16:]
    assert material.remaining == 0


def test_derived_grant_has_its_shared_size_and_not_a_byte_more() -> None:
    material = DerivedMaterial(Direction.TO_HUB, 0, Keystream(KEY))
    assert material.size == limits.DERIVED_GRANT_BYTES
    material.take(16, material.remaining)
    with pytest.raises(LocalBug) as refusal:
        material.take(material.size, 1)
    assert refusal.value.code is codes.BAD_ARGUMENT


@pytest.mark.parametrize("offset", [0, 15, 17, 56, 96])
def test_any_offset_but_the_next_is_refused_as_reuse(material: GrantMaterial, offset: int) -> None:
    material.take(16, 60)
    with pytest.raises(LocalBug) as refusal:
        material.take(offset, 1)
    assert refusal.value.code is codes.PAD_REUSE
    assert material.position == 76


@pytest.mark.parametrize("length", [0, -1, 2**25])
def test_length_that_is_not_there_is_refused_and_takes_nothing(material: GrantMaterial, length: int) -> None:
    with pytest.raises(LocalBug) as refusal:
        material.take(16, length)
    assert refusal.value.code is codes.BAD_ARGUMENT
    assert material.position == 16


def test_wiped_grant_gives_nothing_any_more(material: GrantMaterial) -> None:
    before = material.wiped
    material.wipe()
    material.wipe()
    assert (before, material.wiped, material.remaining) == (False, True, 0)
    uses: list[Callable[[], bytes]] = [lambda: material.r, lambda: material.take(16, 1)]
    for use in uses:
        with pytest.raises(LocalBug) as refusal:
            use()
        assert refusal.value.code is codes.SECRET_WIPED


def test_table_bytes_are_zeroed_as_they_are_taken_and_all_at_the_end() -> None:
    data = bytearray(DATA)
    material = TableMaterial(Direction.TO_HUB, 0, 1, data)
    assert not any(data[:16])
    material.take(16, 100)
    assert not any(data[:116])
    assert data[116:] == DATA[116:]
    material.wipe()
    assert data == bytes(len(DATA))


def test_representation_shows_no_byte(material: GrantMaterial) -> None:
    assert DATA[:4].hex() not in repr(material)
    assert repr(material).startswith(f"<skex.pad.material.{type(material).__name__} object")
