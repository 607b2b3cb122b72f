"""Pads that cost 64 bytes and never run out: a one-way chain, of which the file keeps one link.

The state protects forward secrecy only. That no keystream is used twice rests on the two nonces in
each grant key, even when both ends were restored or cloned (design, "Grants"). It must not know how
the chain key is sealed at rest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from skex.base import codes, limits
from skex.base.errors import LocalBug, StoreFault
from skex.base.ids import Direction, LinkId
from skex.base.secret import Secret
from skex.crypto import kdf
from skex.crypto.keystream import Keystream
from skex.pad.erasing import creating, refuse_zero_block
from skex.pad.files import FileSystem, PadFile, translated
from skex.pad.kinds import PadKind
from skex.pad.layout import (
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    Identity,
    erase_slot,
    open_identified,
    read_slot,
    require_size,
    write_identity,
    write_slot,
)
from skex.pad.material import DerivedMaterial
from skex.pad.taking import TakingPad, check_store_mark

_INDEX: Final = struct.Struct(">L")
"""A slot's payload: the chain index i, then K_i as ``ChainSealing`` left it."""


def _plain(_index: int, chain_key: bytes) -> bytes:
    return chain_key


@dataclass(frozen=True, slots=True)
class ChainSealing:
    """How chain keys are sealed at rest; both get the chain index, so that slots cannot be swapped.

    Sealed, 64 bytes may become at most 474. ``unseal`` raises a ``StoreFault`` of its own.
    """

    seal: Callable[[int, bytes], bytes] = _plain
    unseal: Callable[[int, bytes], bytes] = _plain


PLAIN: Final = ChainSealing()


@dataclass(frozen=True, slots=True, order=True)
class State:
    """Which link of the chain is in which slot; the higher index is the newer state."""

    index: int
    slot: int


class DerivedPad(TakingPad):
    """A derived pad's file, opened. See ``kinds.Pad`` and, for the bytes, ``layout``."""

    def __init__(
        self, file: PadFile, identity: Identity, newest: State, store_mark: int, sealing: ChainSealing
    ) -> None:
        super().__init__(file, identity, newest.index, store_mark)
        self._slot = newest.slot
        self._index = newest.index
        self._sealing = sealing

    @classmethod
    def create(
        cls,
        fs: FileSystem,
        path: str,
        link_id: LinkId,
        direction: Direction,
        seed: Secret,
        *,
        sealing: ChainSealing = PLAIN,
    ) -> None:
        """Write a new chain file with K_0 = ``seed`` (64 bytes, from the kit); the caller wipes the seed.

        The identity comes last, after a sync: a file that was cut off is no pad. On any error what was
        written is erased and removed again, as far as the disk lets us.

        Raises: ``LocalBug`` bug-argument; ``StoreFault`` pad-hole (zeros for a seed), pad-io.
        """
        if len(seed) != kdf.CHAIN_KEY_BYTES:
            raise LocalBug(codes.BAD_ARGUMENT, f"a seed of {len(seed)} bytes")
        refuse_zero_block(seed.expose())
        with creating(fs, path, HEADER_BYTES) as file:
            identity = Identity(PadKind.DERIVED, link_id, direction, limits.PAD_POSITION_MAX)
            write_slot(file, identity, 0, _pack_state(0, seed.expose(), sealing))
            write_identity(file, identity)

    @classmethod
    def open(
        cls,
        fs: FileSystem,
        path: str,
        link_id: LinkId,
        direction: Direction,
        store_mark: int,
        *,
        sealing: ChainSealing = PLAIN,
    ) -> DerivedPad:
        """Open a chain file, advance it to the higher of the two marks and erase older states again.

        Look at ``contradiction`` next.

        Raises ``StoreFault``: pad-io, pad-short-read, pad-corrupt, pad-mark-contradicts (the store's
        mark is no chain index), pad-jump (the file is older than any crash can explain); nothing is
        marked or erased then.
        """
        with translated(), ExitStack() as undo:
            file, identity = open_identified(fs, path, PadKind.DERIVED, link_id, direction)
            undo.callback(file.close)
            require_size(file, HEADER_BYTES)
            check_store_mark(store_mark, identity.capacity)
            newest = newest_state(file, identity)
            # One more than a grant may jump: the store's mark stands behind the grant that was cut off.
            _check_jump(store_mark - newest.index, limits.DERIVED_JUMP_STEPS + 1)
            pad = cls(file, identity, newest, store_mark, sealing)
            pad.erase_below_mark()
            undo.pop_all()
            return pad

    @property
    def remaining_bytes(self) -> int:
        """How many bytes of keystream are left above the mark: more than any link uses."""
        return (self.capacity - self._mark) * limits.DERIVED_GRANT_BYTES

    def _read(self, start: int, count: int, kme_nonce: bytes, hub_nonce: bytes) -> DerivedMaterial:
        if count != 1 or len(kme_nonce) != kdf.NONCE_BYTES or len(hub_nonce) != kdf.NONCE_BYTES:
            raise LocalBug(codes.BAD_ARGUMENT, "a derived grant is one position and two nonces of 32 bytes")
        _check_jump(start - self._mark, limits.DERIVED_JUMP_STEPS)
        chain_key = self._chain_key_at(start)
        grant_key = kdf.grant_key(chain_key, self.link_id, self.direction, start, kme_nonce, hub_nonce)
        return DerivedMaterial(self.direction, start, Keystream(grant_key))

    def _settle(self) -> None:
        """The newer state becomes durable in one slot before the older one is erased in the other."""
        old, new = self._slot, 1 - self._slot
        state = _pack_state(self._mark, self._chain_key_at(self._mark), self._sealing)
        write_slot(self._file, self._identity, new, state)
        self._slot, self._index = new, self._mark
        erase_slot(self._file, old)

    def _chain_key_at(self, index: int) -> bytes:
        """K_index, from the file's state. Read each time, so that no chain key stays in memory."""
        return chain_key_at(self._file, self._identity, State(self._index, self._slot), index, self._sealing)


def chain_key_at(file: PadFile, identity: Identity, state: State, index: int, sealing: ChainSealing) -> bytes:
    """K_index, at most a jump and one step above the state that the file holds.

    Raises ``StoreFault``: pad-corrupt (also when the file holds another state now), pad-jump.
    """
    payload = read_slot(file, identity, state.slot)
    if payload is None or _INDEX.unpack_from(payload)[0] != state.index:
        raise StoreFault(codes.PAD_CORRUPT, "the chain state changed under the running pad")
    # A grant at the end of the longest jump lies one step below the mark that it leaves.
    _check_jump(index - state.index, limits.DERIVED_JUMP_STEPS + 1)
    chain_key = sealing.unseal(state.index, payload[_INDEX.size :])
    if len(chain_key) != kdf.CHAIN_KEY_BYTES:
        raise StoreFault(codes.PAD_CORRUPT, f"a chain key of {len(chain_key)} bytes")
    jump = min(index - state.index, limits.DERIVED_JUMP_STEPS)
    return kdf.advance(kdf.advance(chain_key, jump), index - state.index - jump)


def own_mark(file: PadFile, identity: Identity) -> int:
    """The mark that the file itself states. Raises ``StoreFault``: pad-corrupt, pad-short-read."""
    return newest_state(file, identity).index


def _check_jump(steps: int, bound: int) -> None:
    if steps > bound:
        raise StoreFault(codes.PAD_JUMP, f"more than {bound} steps")


def _pack_state(index: int, chain_key: bytes, sealing: ChainSealing) -> bytes:
    payload = _INDEX.pack(index) + sealing.seal(index, chain_key)
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise LocalBug(codes.BAD_ARGUMENT, f"a sealed chain key of {len(payload) - _INDEX.size} bytes")
    return payload


def newest_state(file: PadFile, identity: Identity) -> State:
    """The newest valid state. Raises ``StoreFault`` (pad-corrupt)."""
    return max(valid_states(file, identity))


def valid_states(file: PadFile, identity: Identity) -> list[State]:
    """One state, or two when a crash came between writing the new one and erasing the old one.

    Raises ``StoreFault`` (pad-corrupt).
    """
    states: list[State] = []
    for slot in (0, 1):
        payload = read_slot(file, identity, slot)
        if payload is not None and len(payload) > _INDEX.size:
            states.append(State(_INDEX.unpack_from(payload)[0], slot))
    if not states:
        raise StoreFault(codes.PAD_CORRUPT, "neither slot holds a chain state")
    return states
