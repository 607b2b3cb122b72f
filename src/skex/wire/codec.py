"""Deterministic CBOR (RFC 8949, section 4.2.1), restricted to what the protocol uses.

Only unsigned integers, byte strings, text strings, arrays, booleans and null; never maps, tags,
floats, negative integers or indefinite lengths. The library decodes; the re-encoding must give the
same bytes, which settles shortest forms and leftovers in one rule instead of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn, TypeAlias, Union

import cbor2

from skex.base import codes
from skex.base.errors import LocalBug, PeerFault

Value: TypeAlias = Union[int, bytes, str, bool, None, Sequence["Value"]]

MAX_DEPTH: Final = 6
"""Arrays within arrays: the deepest message needs four."""

UINT_MAX: Final = 2**64 - 1


class _TagRefusedError(Exception):
    """Raised inside the library at any tag; it wraps it into its own decode error."""


def _refuse_tag(*_: object) -> NoReturn:
    raise _TagRefusedError


# Every tag for which the library has a decoder of its own is overridden; the rest reach tag_hook.
_LIBRARY_TAGS: Final = (
    *(0, 1, 2, 3, 4, 5, 21, 22, 23, 25, 28, 29, 30, 35, 36, 37, 52, 54),
    *(100, 256, 258, 260, 261, 1004, 43000, 55799),
)
_REFUSE_TAGS: Final = dict.fromkeys(_LIBRARY_TAGS, _refuse_tag)


def encode(value: Value) -> bytes:
    """Encode ``value`` deterministically. Raises ``LocalBug`` for anything outside the profile."""
    _check(value, MAX_DEPTH)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, limit: int) -> Value:
    """Decode one item that fills ``data`` exactly; ``limit`` bounds its length in bytes.

    Raises ``PeerFault`` (body-malformed) for anything that is not the deterministic encoding of a
    value within the profile.
    """
    if len(data) > limit:
        raise PeerFault(codes.BODY_MALFORMED, f"{len(data)} bytes, at most {limit}")
    try:
        value = cbor2.loads(
            data,
            tag_hook=_refuse_tag,
            semantic_decoders=_REFUSE_TAGS,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
        canonical = encode(value)
    except (cbor2.CBORDecodeError, LocalBug) as error:
        raise PeerFault(codes.BODY_MALFORMED, type(error).__name__) from error
    if canonical != data:
        raise PeerFault(codes.BODY_MALFORMED, "not the deterministic encoding")
    return value  # type: ignore[no-any-return]  # _check inside encode() established the type


def _check(value: object, depth: int) -> None:
    """Refuse whatever the profile does not have, by exact type: subclasses encode differently."""
    kind = type(value)
    if kind is int:
        assert isinstance(value, int)
        if 0 <= value <= UINT_MAX:
            return
    elif value is None or kind in (bytes, str, bool):
        return
    elif kind in (list, tuple) and depth > 0:
        assert isinstance(value, (list, tuple))
        for item in value:
            _check(item, depth - 1)
        return
    raise LocalBug(codes.BAD_ARGUMENT, f"{kind.__name__} is not in the CBOR profile")


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
        """A text string of 1 to ``high`` characters; callers parse it further."""
        item = self._take()
        if not isinstance(item, str):
            raise PeerFault(codes.BODY_MALFORMED, "a text string is expected")
        if not 1 <= len(item) <= high:
            raise PeerFault(codes.BODY_RANGE, f"text of {len(item)} characters")
        return item

    def boolean(self) -> bool:
        """A boolean."""
        item = self._take()
        if not isinstance(item, bool):
            raise PeerFault(codes.BODY_MALFORMED, "a boolean is expected")
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

    def array(self, low: int, high: int) -> list[Value]:
        """A nested array of ``low`` to ``high`` elements, unread."""
        item = self._take()
        if not isinstance(item, list):
            raise PeerFault(codes.BODY_MALFORMED, "an array is expected")
        if not low <= len(item) <= high:
            raise PeerFault(codes.BODY_RANGE, f"array of {len(item)} elements")
        return item

    def fields(self) -> Fields:
        """A nested array, to be read with its own ``Fields``."""
        return Fields(self._take())

    def finish(self) -> None:
        """Refuse elements that nobody asked for."""
        if self._next != len(self._items):
            raise PeerFault(codes.BODY_MALFORMED, "an array has too many elements")
