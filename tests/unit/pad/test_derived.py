"""Derived pads: the chain against plain HMAC, its file, its refusals."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from simulation.disk import Disk
from simulation.pads import LINK, PATH, PadEnd
from skex.base import codes, limits
from skex.base.errors import LocalBug, StoreFault
from skex.base.ids import Direction
from skex.base.secret import Secret
from skex.pad.derived import ChainSealing, DerivedPad
from skex.pad.kinds import Pad

SEED = bytes(range(64))
KME_NONCE = b"\x0a" * 32
HUB_NONCE = b"\x0b" * 32


def expected_keystream(chain_key: bytes, direction: int, index: int, length: int) -> bytes:
    """HKDF-Expand written out as HMAC, counter mode written out as single AES blocks."""
    info = b"skex1 grant" + LINK + bytes([direction]) + index.to_bytes(4, "big") + KME_NONCE + HUB_NONCE
    key = hmac.digest(chain_key, info + b"\x01", hashlib.sha512)[:32]
    block = Cipher(AES(key), ECB()).encryptor()  # noqa: S305  # single blocks, to build the counter by hand
    return b"".join(block.update(i.to_bytes(16, "big")) for i in range(length // 16))


def open_pad(disk: Disk, mark: int = 0, direction: Direction = Direction.TO_HUB) -> DerivedPad:
    return DerivedPad.open(disk, PATH, LINK, direction, mark)


def keystream(pad: Pad, start: int, *, kme: bytes = KME_NONCE, hub: bytes = HUB_NONCE) -> bytes:
    material = pad.finish(pad.prepare(start, 1, kme, hub))
    return material.r + material.take(16, 1024 - 16)


@pytest.mark.parametrize("direction", list(Direction))
def test_chain_and_keystream_are_those_of_plain_hmac_and_aes(disk: Disk, direction: Direction) -> None:
    DerivedPad.create(disk, PATH, LINK, direction, Secret(SEED))
    pad = open_pad(disk, direction=direction)
    chain_key = SEED
    for index in range(12):
        # Steps 3 to 5 are jumped over; every other one is taken.
        if index not in {3, 4, 5}:
            assert keystream(pad, index) == expected_keystream(chain_key, direction, index, 1024)
        chain_key = hmac.digest(chain_key, b"skex1 next\x01", hashlib.sha512)


def test_file_has_the_documented_layout(derived: PadEnd) -> None:
    identity = b"skex pad" + bytes([1, 1, 0, 0]) + b"\xff\xff\xff\xff" + LINK
    state = (68).to_bytes(2, "big") + bytes(4) + derived.chain_key(0)
    content = derived.disk.durable(PATH)
    assert len(content) == 12288
    assert content[:56] == identity + hashlib.sha256(b"skex pad identity" + identity).digest()
    digest = hashlib.sha256(b"skex pad slot" + identity + state).digest()
    assert content[4096 : 4096 + 102] == state + digest
    assert content[8192:] == bytes(4096)


def test_taking_moves_the_state_to_the_other_slot_and_zeroes_the_old_one(derived: PadEnd) -> None:
    pad = derived.open()
    slots = [(8192, 4096), (4096, 8192)]
    first = derived.disk.durable(PATH)
    if any(first[8192:8704]):
        slots.reverse()
    for taken in range(4):
        derived.take(pad, taken)
        content = derived.disk.durable(PATH)
        new, old = slots[taken % 2]
        assert content[old : old + 512] == bytes(512)
        assert content[new + 2 : new + 70] == (taken + 1).to_bytes(4, "big") + derived.chain_key(taken + 1)


def test_restored_at_both_ends_equal_positions_still_give_other_keystream_for_other_nonces(
    derived: PadEnd,
) -> None:
    image, mark = derived.disk.image(), derived.store_mark
    before = keystream(derived.open(), 0)
    derived.disk.restore(image)
    derived.store_mark = mark
    assert keystream(derived.open(), 0, kme=bytes(32)) != before
    derived.disk.restore(image)
    assert keystream(derived.open(), 0, hub=bytes(32)) != before
    derived.disk.restore(image)
    assert keystream(derived.open(), 0) == before, "the nonces alone made the difference"


@pytest.mark.parametrize("count", [2, 3])
def test_grant_of_more_than_one_position_is_a_bug(derived: PadEnd, count: int) -> None:
    with pytest.raises(LocalBug) as refusal:
        derived.prepare(derived.open(), 0, count)
    assert refusal.value.code is codes.BAD_ARGUMENT


@pytest.mark.parametrize("nonces", [(b"", b""), (bytes(31), bytes(32)), (bytes(32), bytes(33))])
def test_nonces_of_another_length_are_a_bug(derived: PadEnd, nonces: tuple[bytes, bytes]) -> None:
    with pytest.raises(LocalBug) as refusal:
        derived.open().prepare(0, 1, *nonces)
    assert refusal.value.code is codes.BAD_ARGUMENT


def test_jump_to_the_bound_is_taken_and_survives_the_crash_before_its_first_write(
    derived: PadEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DERIVED_JUMP_STEPS", 20)
    pad = derived.open()
    derived.commit(derived.prepare(pad, 20))
    derived.disk.crash()
    assert derived.open().mark == 21
    assert not derived.traces_below(21)


def test_jump_to_the_bound_is_finished(derived: PadEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DERIVED_JUMP_STEPS", 20)
    pad = derived.open()
    derived.take(pad, 20)
    derived.take(pad, 21)
    assert derived.chain_key(22) in derived.disk.durable(PATH)


def test_jump_beyond_the_bound_is_refused_and_nothing_is_marked(
    derived: PadEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DERIVED_JUMP_STEPS", 20)
    pad = derived.open()
    before = derived.disk.image()
    with pytest.raises(StoreFault) as refusal:
        derived.prepare(pad, 21)
    assert refusal.value.code is codes.PAD_JUMP
    assert (derived.disk.image(), pad.mark) == (before, 0)


def test_file_older_than_any_crash_explains_is_refused_at_open(
    derived: PadEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DERIVED_JUMP_STEPS", 20)
    derived.store_mark = 22
    before = derived.disk.image()
    with pytest.raises(StoreFault) as refusal:
        derived.open()
    assert refusal.value.code is codes.PAD_JUMP
    assert derived.disk.image() == before


def test_two_valid_states_mean_the_newer_and_the_older_is_erased_at_open(derived: PadEnd) -> None:
    older = derived.disk.durable(PATH)[4096:4608]
    pad = derived.open()
    derived.take(pad, 0)
    pad.close()
    content = derived.disk.durable(PATH)
    free = 4096 if not any(content[4096:4608]) else 8192
    derived.disk.overwrite(PATH, free, older)
    assert derived.traces_below(1)
    # Not the store's mark but the newer state says so: the store is restored from before the take.
    derived.store_mark = 0
    pad = derived.open()
    assert (pad.mark, pad.contradiction) == (1, True)
    assert not derived.traces_below(1)


def test_state_that_rots_under_the_running_pad_is_refused_and_nothing_is_marked(derived: PadEnd) -> None:
    pad = derived.open()
    for slot in (4096, 8192):
        derived.disk.rot(PATH, slot + 20)
    with pytest.raises(StoreFault) as refusal:
        derived.prepare(pad, 0)
    assert refusal.value.code is codes.PAD_CORRUPT
    assert pad.mark == 0


def test_state_that_was_put_back_under_the_running_pad_is_refused(derived: PadEnd) -> None:
    """The attacker restores the file while the daemon runs."""
    image = derived.disk.durable(PATH)
    pad = derived.open()
    derived.take(pad, 0)
    derived.disk.overwrite(PATH, 4096, image[4096:4608])
    derived.disk.overwrite(PATH, 8192, image[4096:4608])
    with pytest.raises(StoreFault) as refusal:
        derived.prepare(pad, 1)
    assert refusal.value.code is codes.PAD_CORRUPT


def test_valid_slot_too_short_for_a_state_does_not_count(derived: PadEnd) -> None:
    identity = derived.disk.durable(PATH)[:24]
    content = b"\0\4" + b"\xff" * 4
    digest = hashlib.sha256(b"skex pad slot" + identity + content).digest()
    derived.disk.overwrite(PATH, 8192, content + digest)
    assert derived.open().mark == 0


# ── enrolment and sealing at rest ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_seed_of_another_length_is_a_bug(disk: Disk, length: int) -> None:
    with pytest.raises(LocalBug) as refusal:
        DerivedPad.create(disk, PATH, LINK, Direction.TO_HUB, Secret(b"\1" * length))
    assert refusal.value.code is codes.BAD_ARGUMENT
    assert not disk.exists(PATH)


def test_seed_of_zeros_is_refused(disk: Disk) -> None:
    with pytest.raises(StoreFault) as refusal:
        DerivedPad.create(disk, PATH, LINK, Direction.TO_HUB, Secret(bytes(64)))
    assert refusal.value.code is codes.PAD_HOLE
    assert not disk.exists(PATH)


def flip(index: int, data: bytes) -> bytes:
    """A stand-in for sealing at rest that depends on the index and makes the state longer."""
    return bytes(byte ^ 0x5A ^ index for byte in data) + b"sealed"


def unflip(index: int, sealed: bytes) -> bytes:
    return flip(index, sealed)[:-12]


SEALING = ChainSealing(flip, unflip)


def test_sealed_chain_lies_sealed_on_disk_and_works(disk: Disk) -> None:
    DerivedPad.create(disk, PATH, LINK, Direction.TO_HUB, Secret(SEED), sealing=SEALING)
    assert SEED not in disk.durable(PATH)
    assert flip(0, SEED) in disk.durable(PATH)
    pad = DerivedPad.open(disk, PATH, LINK, Direction.TO_HUB, 0, sealing=SEALING)
    assert keystream(pad, 0) == expected_keystream(SEED, 0, 0, 1024)
    assert flip(0, SEED) not in disk.durable(PATH)


def test_sealing_that_returns_another_length_is_refused(disk: Disk) -> None:
    DerivedPad.create(disk, PATH, LINK, Direction.TO_HUB, Secret(SEED), sealing=SEALING)
    with pytest.raises(StoreFault) as refusal:
        open_pad(disk)
    assert refusal.value.code is codes.PAD_CORRUPT


def test_sealed_state_that_fits_no_slot_is_a_bug_and_leaves_no_file(disk: Disk) -> None:
    sealing = ChainSealing(lambda _index, data: data + bytes(411), lambda _index, data: data[:64])
    with pytest.raises(LocalBug) as refusal:
        DerivedPad.create(disk, PATH, LINK, Direction.TO_HUB, Secret(SEED), sealing=sealing)
    assert refusal.value.code is codes.BAD_ARGUMENT
    assert not disk.exists(PATH)


def test_longest_sealed_state_fits(disk: Disk) -> None:
    sealing = ChainSealing(lambda _index, data: data + b"\1" * 410, lambda _index, data: data[:64])
    DerivedPad.create(disk, PATH, LINK, Direction.TO_HUB, Secret(SEED), sealing=sealing)
    pad = DerivedPad.open(disk, PATH, LINK, Direction.TO_HUB, 0, sealing=sealing)
    assert keystream(pad, 0) == expected_keystream(SEED, 0, 0, 1024)


def test_state_at_the_last_index_is_used_up(derived: PadEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark behind the last grant still fits a u32."""
    monkeypatch.setattr(limits, "PAD_POSITION_MAX", 3)
    end = PadEnd(derived.kind, seed=5)
    end.create()
    pad = end.open()
    end.take(pad, 2)
    assert (pad.mark, pad.capacity, pad.remaining_bytes) == (3, 3, 0)
    assert end.open().mark == 3
