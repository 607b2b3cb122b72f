"""How structured values stand in columns: the wire's own deterministic CBOR, and bits for keys.

What does not read back was not written by us: ``StoreFault`` (store-corrupt). Many batches share one
context, claim and list of hubs, so those are read once each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeVar

from skex.base import codes, limits
from skex.base.errors import PeerFault, StoreFault
from skex.base.ids import HubName, SaeId
from skex.protocol.changes import Role
from skex.protocol.evidence import Evidence
from skex.wire.claim import Claim
from skex.wire.codec import Fields, Value, decode, encode
from skex.wire.context import CompactContext
from skex.wire.peer import KeyRange

T = TypeVar("T")

ROLES: Final[Mapping[Role, int]] = {Role.SENDER: 0, Role.RECEIVER: 1}
ROLE_OF: Final[Mapping[int, Role]] = {number: role for role, number in ROLES.items()}

_COLUMN_BYTES: Final = 65_536
"""More than any value has; what is longer is damage."""
_SAE_CHARACTERS: Final = 2 * limits.NAME_CHARACTERS + 1
_CACHED: Final = 1024


def _read(read: Callable[[Fields], T], data: bytes) -> T:
    try:
        return read(Fields(decode(data, _COLUMN_BYTES)))
    except PeerFault as fault:
        raise StoreFault(codes.STORE_CORRUPT, "a column does not read back") from fault


def _read_list(item: Callable[[Fields], T], data: bytes, most: int) -> tuple[T, ...]:
    def read(fields: Fields) -> tuple[T, ...]:
        if fields.count > most:
            raise PeerFault(codes.BODY_RANGE)
        return tuple(item(fields) for _ in range(fields.count))

    return _read(read, data)


# ── batches ─────────────────────────────────────────────────────────────────────────────────────
@lru_cache(_CACHED)
def read_context(data: bytes) -> CompactContext:
    """A compact context."""
    return _read(CompactContext.from_fields, data)


@lru_cache(_CACHED)
def read_claim(data: bytes) -> Claim:
    """A claim."""
    return _read(Claim.from_fields, data)


@lru_cache(_CACHED)
def read_hubs(data: bytes) -> tuple[HubName, ...]:
    """Names of hubs, in their order."""
    return _read_list(lambda fields: HubName(fields.text(limits.NAME_CHARACTERS)), data, limits.REALM_HUBS)


def write_names(names: Sequence[str]) -> bytes:
    """Names of hubs or SAEs, in their order."""
    values: Value = list(names)
    return encode(values)


# ── evidence ────────────────────────────────────────────────────────────────────────────────────
def read_evidence(data: bytes) -> Evidence:
    """What shows that a share was wrong."""
    return _read(Evidence.from_fields, data)


# ── keys ────────────────────────────────────────────────────────────────────────────────────────
def read_saes(data: bytes) -> tuple[SaeId, ...]:
    """SAE ids, in their order."""
    return _read_list(lambda fields: SaeId(fields.text(_SAE_CHARACTERS)), data, limits.SLAVES)


def read_ranges(data: bytes) -> tuple[KeyRange, ...]:
    """Ranges of keys, in their order."""
    return _read_list(lambda fields: KeyRange.from_fields(fields.fields()), data, limits.PEER_RANGES)


def write_ranges(ranges: Sequence[KeyRange]) -> bytes:
    """Ranges of keys, in their order."""
    values: Value = [one.to_value() for one in ranges]
    return encode(values)


def read_bits(data: bytes) -> int:
    """Keys of a batch, a bit for each."""
    return int.from_bytes(data, "little")


def write_bits(bits: int, keys: int) -> bytes:
    """Keys of a batch of so many; the length depends on nothing else, so rows are changed in place."""
    return bits.to_bytes((keys + 7) // 8, "little")


def read_taken(data: bytes | None) -> dict[SaeId, int]:
    """Which slaves took which keys that others have not taken yet."""
    if data is None:
        return {}

    def one(fields: Fields) -> tuple[SaeId, int]:
        inner = fields.fields()
        sae = SaeId(inner.text(_SAE_CHARACTERS))
        return sae, read_bits(inner.blob(1, limits.BATCH_KEYS // 8))

    # Several assignments may share a batch, each with slaves of its own.
    return dict(_read_list(one, data, limits.BATCH_KEYS * limits.SLAVES))


def write_taken(taken: Mapping[SaeId, int], keys: int) -> bytes | None:
    """The same for a column; None where nobody is ahead."""
    values: Value = [[sae, write_bits(bits, keys)] for sae, bits in sorted(taken.items()) if bits]
    return encode(values) if values else None


def write_counter(counter: int) -> bytes:
    """A u64, which is more than an SQLite integer holds; compares as bytes like the number does."""
    return counter.to_bytes(8, "big")
