"""Sealing at rest: what opens where, what does not, and that pads come back as they were."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Final

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from simulation.chance import Chance
from simulation.disk import Disk
from skex.base import codes
from skex.base.errors import LocalBug, StoreFault
from skex.base.ids import Direction, LinkId
from skex.base.secret import Secret
from skex.crypto import kdf
from skex.crypto.kdf import Label
from skex.pad.derived import DerivedPad
from skex.pad.table import TablePad
from skex.store.sealing import Place, Sealer, StoreLabel

MASTER: Final = bytes(range(32))
SALT: Final = bytes(range(100, 132))
PLACE: Final = Place("table", (1, "row", b"id"), "column")
LINK: Final = LinkId(b"a link  ")
OTHER: Final = LinkId(b"a linkk ")


def sealer(*, master: bytes = MASTER, salt: bytes = SALT) -> Sealer:
    return Sealer(Secret(master), salt, Chance(3).randbytes)


def test_labels_are_distinct_and_none_begins_another_or_a_label_of_the_protocol() -> None:
    labels = [*(label.value for label in StoreLabel), *(label.value for label in Label)]
    assert all(not one.startswith(other) for one, other in permutations(labels, 2))


def test_sealed_value_is_aes_gcm_under_the_key_that_the_labels_say() -> None:
    """Recomputed from the primitives: root by HKDF, key by HKDF-Expand, place as associated data."""
    sealed = sealer().seal(PLACE, b"plaintext")
    root = kdf.hkdf_sha512(MASTER, SALT, b"skex store 1 root", 64)
    place = PLACE.to_bytes()
    key = kdf.hkdf_expand_sha512(root, b"skex store 1 row" + place, 32)
    assert sealed[:12] == Chance(3).randbytes(12)
    assert AESGCM(key).decrypt(sealed[:12], sealed[12:], place) == b"plaintext"


@given(st.binary(max_size=200))
def test_what_is_sealed_opens_in_its_place(plaintext: bytes) -> None:
    assert sealer().open(PLACE, sealer().seal(PLACE, plaintext)).expose() == plaintext


def test_same_value_is_never_sealed_alike() -> None:
    one = sealer()
    assert one.seal(PLACE, b"value") != one.seal(PLACE, b"value")


@pytest.mark.parametrize(
    "place",
    [
        Place("tables", (1, "row", b"id"), "column"),
        Place("table", (2, "row", b"id"), "column"),
        Place("table", (1, "row", b"ie"), "column"),
        Place("table", (1, "rowid", b""), "column"),
        Place("table", (1, "row", b"id"), "columns"),
        Place("table", (1, b"row", b"id"), "column"),
    ],
    ids=str,
)
def test_value_that_was_moved_to_another_place_does_not_open(place: Place) -> None:
    """The attacker swaps rows or columns of the file."""
    sealed = sealer().seal(PLACE, b"plaintext")
    with pytest.raises(StoreFault) as caught:
        sealer().open(place, sealed)
    assert caught.value.code is codes.STORE_CORRUPT


@pytest.mark.parametrize("other", [sealer(master=bytes(32)), sealer(salt=bytes(32))], ids=["master", "salt"])
def test_value_of_another_master_key_or_store_does_not_open(other: Sealer) -> None:
    with pytest.raises(StoreFault, match="store-corrupt"):
        sealer().open(PLACE, other.seal(PLACE, b"plaintext"))
    with pytest.raises(StoreFault, match="store-wrong-key"):
        sealer().check(other.proof())
    sealer().check(sealer().proof())


@pytest.mark.parametrize("cut", [0, 11, 12, 27, 28, 30])
def test_value_that_was_cut_does_not_open(cut: int) -> None:
    with pytest.raises(StoreFault, match="store-corrupt"):
        sealer().open(PLACE, sealer().seal(PLACE, b"plain")[:cut])


@pytest.mark.parametrize("at", range(12 + 5 + 16))
def test_value_of_which_any_byte_was_changed_does_not_open(at: int) -> None:
    sealed = bytearray(sealer().seal(PLACE, b"plain"))
    sealed[at] ^= 0x10
    with pytest.raises(StoreFault, match="store-corrupt"):
        sealer().open(PLACE, bytes(sealed))


@pytest.mark.parametrize(("master", "salt"), [(31, 32), (33, 32), (32, 31), (32, 33)])
def test_master_key_or_salt_of_another_size_is_a_bug(master: int, salt: int) -> None:
    with pytest.raises(LocalBug):
        sealer(master=bytes(master), salt=bytes(salt))


def test_entropy_that_falls_short_is_a_bug() -> None:
    """A short nonce would repeat."""
    with pytest.raises(LocalBug):
        Sealer(Secret(MASTER), SALT, lambda count: bytes(count - 1)).seal(PLACE, b"")


def test_wiped_sealer_seals_nothing_more() -> None:
    one = sealer()
    one.wipe()
    with pytest.raises(LocalBug, match="bug-secret-wiped"):
        one.seal(PLACE, b"")


def test_nothing_of_a_sealer_shows_in_its_repr() -> None:
    root = kdf.hkdf_sha512(MASTER, SALT, b"skex store 1 root", 64)
    shown = repr(vars(sealer()) if hasattr(sealer(), "__dict__") else sealer())
    assert root.hex() not in shown
    assert repr(root) not in shown


# ── pads ────────────────────────────────────────────────────────────────────────────────────────
def test_derived_pad_under_its_sealing_gives_the_same_grants_as_a_plain_one() -> None:
    disk, sealing = Disk(1), sealer().chain_sealing(LINK, Direction.TO_HUB)
    seed = Chance(5).randbytes(64)
    DerivedPad.create(disk, "plain", LINK, Direction.TO_HUB, Secret(seed))
    DerivedPad.create(disk, "sealed", LINK, Direction.TO_HUB, Secret(seed), sealing=sealing)
    nonces = (b"k" * 32, b"h" * 32)
    taken = []
    for path in ("plain", "sealed"):
        pad = (
            DerivedPad.open(disk, path, LINK, Direction.TO_HUB, 0, sealing=sealing)
            if path == "sealed"
            else DerivedPad.open(disk, path, LINK, Direction.TO_HUB, 0)
        )
        pad.finish(pad.prepare(0, 1, *nonces))
        material = pad.finish(pad.prepare(3, 1, *nonces))
        taken.append(material.take(16, 64))
        pad.close()
    assert taken[0] == taken[1]
    assert seed not in disk.image().files["sealed"]


@pytest.mark.parametrize(
    "other",
    [
        sealer(master=bytes(32)).chain_sealing(LINK, Direction.TO_HUB),
        sealer().chain_sealing(OTHER, Direction.TO_HUB),
        sealer().chain_sealing(LINK, Direction.TO_KME),
    ],
    ids=["master", "link", "direction"],
)
def test_chain_state_of_another_pad_or_master_key_does_not_open(other: object) -> None:
    """The attacker copies the state of one pad into the file of another."""
    disk, sealing = Disk(1), sealer().chain_sealing(LINK, Direction.TO_HUB)
    DerivedPad.create(disk, "pad", LINK, Direction.TO_HUB, Secret(Chance(5).randbytes(64)), sealing=sealing)
    with pytest.raises(StoreFault, match="pad-corrupt"):
        DerivedPad.open(disk, "pad", LINK, Direction.TO_HUB, 0, sealing=other)  # type: ignore[arg-type]  # of a table


def test_chain_state_of_another_index_does_not_open() -> None:
    sealing = sealer().chain_sealing(LINK, Direction.TO_HUB)
    sealed = sealing.seal(4, bytes(64))
    assert sealing.unseal(4, sealed) == bytes(64)
    with pytest.raises(StoreFault, match="pad-corrupt"):
        sealing.unseal(5, sealed)


def test_table_pad_under_its_mask_gives_back_what_was_enrolled_and_holds_none_of_it() -> None:
    disk, mask = Disk(1), sealer().table_mask(LINK, Direction.TO_KME)
    data = Chance(6).randbytes(3 * 4096)
    TablePad.create(disk, "pad", LINK, Direction.TO_KME, [data[:5000], data[5000:]], mask=mask)
    stored = disk.image().files["pad"]
    assert all(data[at : at + 16] not in stored for at in range(0, len(data), 16))
    pad = TablePad.open(disk, "pad", LINK, Direction.TO_KME, 0, unmask=mask)
    material = pad.finish(pad.prepare(1, 2))
    assert material.r + material.take(16, 2 * 4096 - 16) == data[4096:]
    pad.close()


@given(st.binary(min_size=1, max_size=100), st.integers(0, 10_000), st.integers(0, 100))
def test_mask_is_its_own_inverse_and_depends_on_the_position_only(data: bytes, offset: int, cut: int) -> None:
    mask = sealer().table_mask(LINK, Direction.TO_HUB)
    masked = mask(offset, data)
    assert mask(offset, masked) == data
    assert mask(offset, data[:cut]) + mask(offset + min(cut, len(data)), data[cut:]) == masked


def test_masks_of_links_directions_and_master_keys_have_nothing_in_common() -> None:
    masks = [
        one.table_mask(link_id, direction)(0, bytes(64))
        for one in (sealer(), sealer(master=bytes(32)), sealer(salt=bytes(32)))
        for link_id in (LINK, OTHER)
        for direction in Direction
    ]
    for one, other in combinations(masks, 2):
        assert not {one[at : at + 16] for at in range(0, 64, 16)} & {
            other[at : at + 16] for at in range(0, 64, 16)
        }
