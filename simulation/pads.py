"""One end's pad of one direction in a simulated world: a disk, the store's mark, and the shell's order.

The store is reduced to the one number that matters here; a commit of it is atomic and durable. What a
pad must never have handed out, and what must be gone from the medium, is computed from the seed
without the code under test.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from simulation.chance import Chance
from simulation.disk import Disk
from skex.base.ids import Direction, LinkId
from skex.base.secret import Secret
from skex.pad.derived import DerivedPad
from skex.pad.kinds import Pad, PadKind, Prepared
from skex.pad.material import GrantMaterial
from skex.pad.table import TablePad

PATH: Final = "pad"
LINK: Final = LinkId(bytes.fromhex("a1a2a3a4a5a6a7a8"))
UNIT_BYTES: Final = 4096
BLOCK_BYTES: Final = 16


class PadEnd:
    """A pad with everything around it that it needs; ``units`` is the capacity of a table."""

    def __init__(self, kind: PadKind, seed: int, units: int = 16) -> None:
        self.kind = kind
        self.units = units
        self.direction = Direction.TO_HUB
        self.chance = Chance(seed)
        self.disk = Disk(seed)
        self.store_mark = 0
        self._nonces = 0
        self._data = self.chance.fork("table").randbytes(units * UNIT_BYTES)
        self._chain = [self.chance.fork("chain").randbytes(64)]

    def create(self) -> None:
        """Enrol: write the pad's file."""
        if self.kind is PadKind.TABLE:
            TablePad.create(self.disk, PATH, LINK, self.direction, [self._data])
        else:
            DerivedPad.create(self.disk, PATH, LINK, self.direction, Secret(self._chain[0]))

    def open(self) -> Pad:
        """Start: open the file with the store's mark."""
        if self.kind is PadKind.TABLE:
            return TablePad.open(self.disk, PATH, LINK, self.direction, self.store_mark)
        return DerivedPad.open(self.disk, PATH, LINK, self.direction, self.store_mark)

    def prepare(self, pad: Pad, start: int, count: int = 1) -> Prepared:
        """Prepare a grant for a new connection: its nonces were never used before."""
        return pad.prepare(start, count, self._nonce(), self._nonce())

    def commit(self, prepared: Prepared) -> None:
        """Commit and sync the store's mark."""
        self.store_mark = max(self.store_mark, prepared.new_mark)

    def take(self, pad: Pad, start: int, count: int = 1) -> GrantMaterial:
        """Take a grant in the order that the shell keeps."""
        prepared = self.prepare(pad, start, count)
        self.commit(prepared)
        return pad.finish(prepared)

    # ── what must be true ───────────────────────────────────────────────────────────────────────
    def unit(self, position: int) -> bytes:
        """The bytes of a table's unit as they were enrolled."""
        return self._data[position * UNIT_BYTES : (position + 1) * UNIT_BYTES]

    def chain_key(self, index: int) -> bytes:
        """K_index from the seed: HKDF-Expand to one block is one HMAC."""
        while len(self._chain) <= index:
            message = b"skex1 next" + b"\x01"
            self._chain.append(hmac.digest(self._chain[-1], message, hashlib.sha512))
        return self._chain[index]

    def traces_below(self, mark: int) -> set[bytes]:
        """Blocks of material below ``mark``, table units or chain keys, that are still on the medium."""
        # A chain key lies at an even offset of its slot, a unit at a multiple of its own length.
        step = BLOCK_BYTES if self.kind is PadKind.TABLE else 2
        on_medium = {block for piece in self.disk.evidence() for block in _blocks(piece, step)}
        secret = self.unit if self.kind is PadKind.TABLE else self.chain_key
        spent = {block for position in range(mark) for block in _blocks(secret(position), BLOCK_BYTES)}
        return on_medium & spent

    def _nonce(self) -> bytes:
        self._nonces += 1
        return self._nonces.to_bytes(32, "big")


def _blocks(data: bytes, step: int) -> list[bytes]:
    return [data[at : at + BLOCK_BYTES] for at in range(0, len(data) - BLOCK_BYTES + 1, step)]
