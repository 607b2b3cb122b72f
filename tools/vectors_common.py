"""What the generators of test vectors share: how values are made, written, and described.

Randomness here is a function of a name: the same vectors come out of every run.
"""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import cbor2

from skex.base.ids import BatchId, Coordinate, HubName, Incarnation, KmeName, LinkId, RealmName
from skex.pad.kinds import PadKind
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.realm import Hub, HubAttributes, HubStatus, Realm

Case: TypeAlias = dict[str, Any]

SEED: Final = "skex version 1 test vectors"
EXPANSION: Final = (
    "expand(name, length) = the first length bytes of SHA-512(seed / name ‖ be64(0)) ‖ SHA-512(seed / name "
    "‖ be64(1)) ‖ …, where 'seed / name' is the seed of this file in ASCII, a slash, and the name in "
    "ASCII. Everything that an implementation would draw at random is made so; it stands here in full, "
    "except where an object {expand, bytes} names it."
)
JSON_INTEGER_MAX: Final = 2**53 - 1


def expand(name: str, length: int) -> bytes:
    """The stated expansion of the seed; ``name`` says for what."""
    prefix = f"{SEED}/{name}".encode("ascii")
    blocks = (hashlib.sha512(prefix + count.to_bytes(8, "big")).digest() for count in range(-(-length // 64)))
    return b"".join(blocks)[:length]


def expanded(name: str, length: int) -> Case:
    """How a file names bytes that are too long to stand in it."""
    return {"expand": name, "bytes": length}


def document(what: str, spec: str, parts: Mapping[str, Any]) -> Case:
    """A vector file: what it is, the chapter it belongs to, how its random values were made, its parts."""
    lines, expansion = textwrap.wrap(what, 100), textwrap.wrap(EXPANSION, 100)
    return {"comment": lines, "spec": spec, "seed": SEED, "expansion": expansion, **parts}


# ── writing values ──────────────────────────────────────────────────────────────────────────────
def integer(value: int) -> int | str:
    """A number, or its decimal digits where common JSON readers would round it."""
    return value if value <= JSON_INTEGER_MAX else str(value)


def jsonable(value: object) -> Any:
    """Bytes as lower-case hexadecimal, integers as JSON can hold them, tuples as arrays."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [jsonable(item) for item in value]
    raise TypeError(type(value).__name__)


def diagnostic(value: object) -> str:
    """A CBOR value in the diagnostic notation of RFC 8949 section 8."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, Iterable):
        return f"[{', '.join(diagnostic(item) for item in value)}]"
    raise TypeError(type(value).__name__)


def notation(data: bytes) -> str:
    """The diagnostic notation of encoded bytes."""
    return diagnostic(cbor2.loads(data))


# ── names that several files use ────────────────────────────────────────────────────────────────
KME_A: Final = KmeName("kme-a")
KME_B: Final = KmeName("kme-b")
INCARNATION_A: Final = Incarnation(expand("incarnation of kme-a", 16))
INCARNATION_B: Final = Incarnation(expand("incarnation of kme-b", 16))
CONTROL: Final = BatchId(INCARNATION_A, 1)
BATCH: Final = BatchId(INCARNATION_A, 2)
LINK_KEY_BYTES: Final = 64
KINDS: Final = {PadKind.DERIVED: "derived", PadKind.TABLE: "table"}


def _hub(number: int, coordinate: int, status: HubStatus = HubStatus.ACTIVE) -> Hub:
    attributes = HubAttributes(
        f"Operator {number}",
        ("CH", "NO", "SG")[number % 3],
        f"Data centre {number}",
        f"Team {number}",
        "skex",
    )
    name = HubName(f"hub-{number}")
    return Hub(name, Coordinate(coordinate), status, f"hub-{number}.example.net:7300", attributes)


def _realm(name: str, epoch: int, threshold: int, hubs: Sequence[Hub]) -> Realm:
    return Realm(RealmName(name), epoch, threshold, 1_767_225_600, 31_536_000, 604_800, tuple(hubs))


FIVE_HUBS: Final = _realm(
    "vectors",
    4,
    3,
    (
        _hub(1, 1),
        _hub(2, 2),
        _hub(3, 3),
        _hub(4, 4, HubStatus.REVOKED),
        _hub(5, 9),
        _hub(6, 255),
    ),
)
"""n = 5, k = 3: coordinates with gaps, and a revoked hub between them."""
FIVE_COORDINATES: Final = tuple(hub.coordinate for hub in FIVE_HUBS.active_hubs)
THREE_HUBS: Final = _realm("session", 1, 3, (_hub(1, 1), _hub(2, 2), _hub(3, 7)))
"""n = k = 3."""

CLAIM_A: Final = Claim((Coordinate(1), Coordinate(9)), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR)
CLAIM_B: Final = Claim((Coordinate(2),), Randomness.SYSTEM_XOR_OTHER, Enrolment.COMPONENTS)
"""A receiver does not choose the randomness: it states the neutral value."""


def link_id(name: str) -> LinkId:
    """The pseudonym of a link."""
    return LinkId(expand(f"link id {name}", 8))
