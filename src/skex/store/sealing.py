"""Secrets at rest: sealed under keys that a store and its pads derive from one master key.

Every row, and every pad, has a key of its own, so that none seals so much that random nonces could
meet, and a row that was moved to another place does not open. Sealing hides and binds; it does not
prove that a row is the newest. The master key, and how it is kept, is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from skex.base import codes
from skex.base.errors import LocalBug, StoreFault
from skex.base.ids import Direction, LinkId
from skex.base.secret import Secret
from skex.crypto import kdf
from skex.pad.derived import ChainSealing
from skex.pad.kinds import PadKind
from skex.pad.table import Mask
from skex.wire.codec import Value, encode

MASTER_KEY_BYTES: Final = 32
SALT_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32
_BLOCK_BYTES: Final = 16

Entropy: TypeAlias = Callable[[int], bytes]
"""The port to the operating system's generator: so many fresh bytes."""


class StoreLabel(bytes, Enum):
    """What a derived key is for. Local to stores; none begins like a label of the protocol."""

    ROOT = b"skex store 1 root"
    """Master key to the root of one store (HKDF, salted)."""
    ROW = b"skex store 1 row"
    """Root to the key of one sealed column of one row (HKDF-Expand)."""
    CHAIN = b"skex store 1 chain"
    """Root to the key that seals the states of one derived pad (HKDF-Expand)."""
    TABLE_PAD = b"skex store 1 table"
    """Root to the key that masks the data of one table pad (HKDF-Expand)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value belongs; it opens nowhere else."""

    table: str
    row: tuple[int | str | bytes, ...]
    column: str

    def to_bytes(self) -> bytes:
        """What is authenticated with the value, and what its key is derived for."""
        row: Value = list(self.row)
        return encode([self.table, row, self.column])


_PROOF: Final = Place("sealing", (1,), "proof")


class Sealer:
    """Seals and opens with keys derived from a master key and a store's salt."""

    def __init__(self, master: Secret, salt: bytes, entropy: Entropy) -> None:
        """``master`` is copied as a derived root; the caller may wipe it. Raises ``LocalBug``."""
        self._older: dict[bytes, bytes] = {}
        if len(master) != MASTER_KEY_BYTES or len(salt) != SALT_BYTES:
            raise LocalBug(codes.BAD_ARGUMENT, f"master key of {len(master)} bytes, salt of {len(salt)}")
        self._entropy = entropy
        self._root = Secret(
            kdf.hkdf_sha512(master.expose(), salt, StoreLabel.ROOT, kdf.SHA512_BYTES),
        )

    def seal(self, place: Place, plaintext: bytes) -> bytes:
        """Nonce, ciphertext and tag, for one place only."""
        associated = place.to_bytes()
        return self._seal(self._key(StoreLabel.ROW, associated), plaintext, associated)

    def open(self, place: Place, sealed: bytes) -> Secret:
        """What was sealed for this place. Raises ``StoreFault`` (store-corrupt)."""
        associated = place.to_bytes()
        plaintext = _open(self._key(StoreLabel.ROW, associated), sealed, associated)
        if plaintext is None:
            raise StoreFault(codes.STORE_CORRUPT, f"a sealed {place.column} of {place.table} does not open")
        return Secret(plaintext)

    # ── the right master key ────────────────────────────────────────────────────────────────────
    def proof(self) -> bytes:
        """A value that opens under this master key and salt only."""
        return self.seal(_PROOF, b"")

    def check(self, proof: bytes) -> None:
        """Raises ``StoreFault`` (store-wrong-key) unless ``proof`` was made with the same key."""
        associated = _PROOF.to_bytes()
        if _open(self._key(StoreLabel.ROW, associated), proof, associated) is None:
            raise StoreFault(codes.STORE_WRONG_KEY)

    # ── another master key ──────────────────────────────────────────────────────────────────────
    def resealed(self, place: Place, sealed: bytes, new: Sealer) -> bytes:
        """The same value, sealed with another sealer. Raises ``StoreFault`` (store-corrupt)."""
        value = self.open(place, sealed)
        again = new.seal(place, value.expose())
        value.wipe()
        return again

    def pad_key_for(self, link_id: LinkId, direction: Direction, kind: PadKind, new: Sealer) -> bytes:
        """The key under which a pad is sealed, sealed with another sealer, which is to keep it."""
        label = StoreLabel.CHAIN if kind is PadKind.DERIVED else StoreLabel.TABLE_PAD
        pad = _pad_identity(link_id, direction)
        return new.seal(_pad_place(pad), self._pad_key(label, pad))

    def keep_pad_key(self, link_id: LinkId, direction: Direction, sealed: bytes) -> None:
        """Use this key for a pad, which was sealed under it before the master key was changed."""
        self._older[_pad_identity(link_id, direction)] = sealed

    # ── pads ────────────────────────────────────────────────────────────────────────────────────
    def chain_sealing(self, link_id: LinkId, direction: Direction) -> ChainSealing:
        """How the states of a derived pad are sealed."""
        pad = _pad_identity(link_id, direction)
        key = Secret(self._pad_key(StoreLabel.CHAIN, pad))

        def seal(index: int, chain_key: bytes) -> bytes:
            return self._seal(key.expose(), chain_key, pad + index.to_bytes(4, "big"))

        def unseal(index: int, sealed: bytes) -> bytes:
            chain_key = _open(key.expose(), sealed, pad + index.to_bytes(4, "big"))
            if chain_key is None:
                raise StoreFault(codes.PAD_CORRUPT, "the sealed chain state does not open")
            return chain_key

        return ChainSealing(seal, unseal)

    def table_mask(self, link_id: LinkId, direction: Direction) -> Mask:
        """How the data of a table pad is masked; the same call takes the mask off again.

        A stream cipher with a key of the pad's own: each position is written once, with one value,
        and the pad finds what was changed by other means (marks, zero blocks, the records' tags).
        """
        key = Secret(self._pad_key(StoreLabel.TABLE_PAD, _pad_identity(link_id, direction)))

        def mask(offset: int, data: bytes) -> bytes:
            block, skip = divmod(offset, _BLOCK_BYTES)
            counter = block.to_bytes(_BLOCK_BYTES, "big")
            stream = Cipher(AES(key.expose()), CTR(counter)).encryptor()
            return stream.update(bytes(skip) + data)[skip:]

        return mask

    def wipe(self) -> None:
        """Forget the root; sealing is over."""
        self._root.wipe()

    def _pad_key(self, label: StoreLabel, pad: bytes) -> bytes:
        older = self._older.get(pad)
        return self._key(label, pad) if older is None else self.open(_pad_place(pad), older).expose()

    def _key(self, label: StoreLabel, what: bytes) -> bytes:
        return kdf.hkdf_expand_sha512(self._root.expose(), label + what, _KEY_BYTES)

    def _seal(self, key: bytes, plaintext: bytes, associated: bytes) -> bytes:
        nonce = self._entropy(NONCE_BYTES)
        if len(nonce) != NONCE_BYTES:
            raise LocalBug(codes.BAD_ARGUMENT, f"{len(nonce)} bytes of entropy")
        return nonce + AESGCM(key).encrypt(nonce, plaintext, associated)


def _open(key: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        return None
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
    except InvalidTag:
        return None


def _pad_place(pad: bytes) -> Place:
    return Place("pad_key", (pad,), "sealed")


def _pad_identity(link_id: LinkId, direction: Direction) -> bytes:
    return link_id + bytes([direction])
