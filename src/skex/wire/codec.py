"""Deterministic CBOR (RFC 8949, section 4.2.1), restricted to what the protocol uses.

Only unsigned integers, byte strings, text strings, arrays and null; never maps, tags, floats,
booleans, negative integers or indefinite lengths. The library decodes; the re-encoding must give the
same bytes, which settles shortest forms and leftovers in one rule instead of many.

Nothing the library says about refused bytes goes into an error: it quotes them, and they may hold a
share.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, Protocol, TypeAlias, TypeVar

import cbor2

from skex.base import codes
from skex.base.errors import LocalBug, PeerFault

Value: TypeAlias = int | bytes | str | Sequence["Value"] | None

MAX_DEPTH: Final = 6
"""Arrays within arrays: the deepest structure, the realm file, needs four."""

UINT32_MAX: Final = 2**32 - 1
UINT_MAX: Final = 2**64 - 1


class _TagRefusedError(Exception):
    """Raised inside the library at any tag; it wraps it into its own decode error."""


def _refuse_tag(*_: object) -> NoReturn:
    raise _TagRefusedError


class _EveryTag(dict[int, Callable[..., NoReturn]]):
    """Overrides the library's decoder of every tag, also of those that it will know one day."""

    def __missing__(self, tag: int) -> Callable[..., NoReturn]:
        return _refuse_tag


_EVERY_TAG: Final = _EveryTag()
_NOT_CBOR: Final = object()


def encode(value: Value) -> bytes:
    """Encode ``value`` deterministically. Raises ``LocalBug`` for anything outside the profile."""
    problem = _problem(value, MAX_DEPTH)
    if problem:
        raise LocalBug(codes.BAD_ARGUMENT, problem)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, limit: int) -> Value:
    """Decode one item that fills ``data`` exactly; ``limit`` bounds its length in bytes.

    Raises ``PeerFault`` (body-malformed) for anything that is not the deterministic encoding of a
    value within the profile.
    """
    if len(data) > limit:
        raise PeerFault(codes.BODY_MALFORMED, f"{len(data)} bytes, at most {limit}")
    value = _load(data)
    problem = "not CBOR" if value is _NOT_CBOR else _problem(value, MAX_DEPTH)
    if problem:
        raise PeerFault(codes.BODY_MALFORMED, problem)
    if cbor2.dumps(value, canonical=True) != data:
        raise PeerFault(codes.BODY_MALFORMED, "not the deterministic encoding")
    return value  # type: ignore[return-value]  # _problem established the type


def _load(data: bytes) -> object:
    try:
        return cbor2.loads(
            data,
            semantic_decoders=_EVERY_TAG,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            # Maps are refused afterwards, but built before: keys that an attacker can make collide
            # would cost quadratic time.
            strict_hashable_types=True,
        )
    except cbor2.CBORDecodeError:
        return _NOT_CBOR


def _problem(value: object, depth: int) -> str:
    """What the profile does not have, by exact type: subclasses, bool among them, encode differently."""
    if value is None or type(value) in {bytes, str}:
        return ""
    if type(value) is int:
        return "" if 0 <= value <= UINT_MAX else "an integer outside 0..2^64-1"
    if type(value) is list or type(value) is tuple:
        if depth == 0:
            return "arrays nested too deeply"
        for item in value:
            if problem := _problem(item, depth - 1):
                return problem
        return ""
    return f"{type(value).__name__} is not in the CBOR profile"


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


OrderedT = TypeVar("OrderedT", bound=_Ordered)
ItemT = TypeVar("ItemT")


def is_strictly_ascending(values: Sequence[OrderedT]) -> bool:
    """Whether each value is greater than the one before it: the one order of a set."""
    return all(low < high for low, high in itertools.pairwise(values))


class Fields:
    """Reads one array's elements in order, each with its type and range; then ``finish``.

    Raises ``PeerFault``: body-malformed for a wrong type or count, body-range for a value outside
    its bounds.
    """

    __slots__ = ("_items", "_next")

    def __init__(self, value: Value) -> None:
        if not isinstance(value, list):
            raise PeerFault(codes.BODY_MALFORMED, "an array is expected")
        self._items = value
        self._next = 0

    @property
    def count(self) -> int:
        """How many elements the array has, read or not."""
        return len(self._items)

    def _take(self) -> Value:
        if self._next >= len(self._items):
            raise PeerFault(codes.BODY_MALFORMED, "an array has too few elements")
        item: Value = self._items[self._next]
        self._next += 1
        return item

    def uint(self, low: int, high: int) -> int:
        """An unsigned integer within ``low`` to ``high``, both included."""
        item = self._take()
        if type(item) is not int:
            raise PeerFault(codes.BODY_MALFORMED, "an unsigned integer is expected")
        if not low <= item <= high:
            raise PeerFault(codes.BODY_RANGE, f"integer not in {low}..{high}")
        return item

    def blob(self, low: int, high: int | None = None) -> bytes:
        """A byte string of ``low`` to ``high`` bytes (exactly ``low`` if ``high`` is left out)."""
        item = self._take()
        if not isinstance(item, bytes):
            raise PeerFault(codes.BODY_MALFORMED, "a byte string is expected")
        if not low <= len(item) <= (low if high is None else high):
            raise PeerFault(codes.BODY_RANGE, f"byte string of {len(item)} bytes")
        return item

    def text(self, high: int) -> str:
        """A text string of 1 to ``high`` characters of printable ASCII; callers parse it further.

        ASCII only: what looks alike is alike, a character is a byte, and no two implementations
        differ in the version of Unicode.
        """
        item = self._take()
        if not isinstance(item, str):
            raise PeerFault(codes.BODY_MALFORMED, "a text string is expected")
        if not 1 <= len(item) <= high:
            raise PeerFault(codes.BODY_RANGE, f"text of {len(item)} characters")
        if not item.isascii() or not item.isprintable():
            raise PeerFault(codes.BODY_RANGE, "text is printable ASCII")
        return item

    def optional_blob(self, length: int) -> bytes | None:
        """Null, or a byte string of exactly ``length`` bytes."""
        return None if self.null() else self.blob(length)

    def null(self) -> bool:
        """Step over a null if the next element is one; say whether it was."""
        if self._next < len(self._items) and self._items[self._next] is None:
            self._next += 1
            return True
        return False

    def fields(self) -> Fields:
        """A nested array, to be read with its own ``Fields``."""
        return Fields(self._take())

    def repeated(self, low: int, high: int, read: Callable[[Fields], ItemT]) -> tuple[ItemT, ...]:
        """A nested array of ``low`` to ``high`` elements, of which ``read`` takes one at a time."""
        inner = self.fields()
        if not low <= inner.count <= high:
            raise PeerFault(codes.BODY_RANGE, f"array of {inner.count} elements")
        return tuple(read(inner) for _ in range(inner.count))

    def finish(self) -> None:
        """Refuse elements that nobody asked for."""
        if self._next != len(self._items):
            raise PeerFault(codes.BODY_MALFORMED, "an array has too many elements")
