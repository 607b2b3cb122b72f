"""One grant's bytes, in memory only, handed out once and strictly in order.

It must not know where the bytes came from on disk, nor what a record looks like.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import Direction
from skex.base.secret import Secret
from skex.crypto.keystream import Keystream

R_BYTES: Final = 16
"""The first bytes of a grant: Poly1305's evaluation point for every record in it."""


class GrantMaterial(ABC):
    """A grant's bytes: ``r`` (the first 16), then usable bytes, each of which can be taken once.

    Exists only after the grant was marked and erased on disk (``Pad.finish``). Offsets count from the
    grant's first byte. What was taken is wiped as far as Python can; ``wipe`` ends the rest.
    """

    __slots__ = ("_count", "_direction", "_position", "_r", "_size", "_start", "_wiped")

    def __init__(self, direction: Direction, start: int, count: int, size: int) -> None:
        self._direction = direction
        self._start = start
        self._count = count
        self._size = size
        self._position = R_BYTES
        self._wiped = False
        self._r = Secret(self._draw(0, R_BYTES))

    @property
    def direction(self) -> Direction:
        """The direction whose records use it."""
        return self._direction

    @property
    def start(self) -> int:
        """The first position: the ``grant`` field of the records in it."""
        return self._start

    @property
    def count(self) -> int:
        """How many positions it covers."""
        return self._count

    @property
    def size(self) -> int:
        """Its length in bytes, ``r`` included."""
        return self._size

    @property
    def position(self) -> int:
        """The offset of the next byte to take; 16 at first."""
        return self._position

    @property
    def remaining(self) -> int:
        """How many bytes can still be taken; none once wiped."""
        return 0 if self._wiped else self._size - self._position

    @property
    def wiped(self) -> bool:
        """Whether ``wipe`` was called."""
        return self._wiped

    @property
    def r(self) -> bytes:
        """The first 16 bytes, the same for every record. Raises ``LocalBug`` once wiped."""
        return self._r.expose()

    def take(self, offset: int, length: int) -> bytes:
        """The next ``length`` bytes, which must start at ``offset`` = ``position``; wiped here.

        Raises ``LocalBug``: pad-reuse when ``offset`` is any other, bug-argument when ``length`` is not
        between 1 and ``remaining``, bug-secret-wiped. What a peer claims is checked before (the link).
        """
        if self._wiped:
            raise LocalBug(codes.SECRET_WIPED)
        if offset != self._position:
            raise LocalBug(codes.PAD_REUSE, "not the next byte of the grant")
        if not 1 <= length <= self.remaining:
            raise LocalBug(codes.BAD_ARGUMENT, f"{length} of {self.remaining} bytes")
        self._position += length
        return self._draw(offset, length)

    def wipe(self) -> None:
        """Overwrite what is left and refuse any later use. Idempotent."""
        self._wiped = True
        self._r.wipe()
        self._clear()

    @abstractmethod
    def _draw(self, offset: int, length: int) -> bytes:
        """Return bytes that were never returned before, and forget them here."""

    @abstractmethod
    def _clear(self) -> None:
        """Forget every byte that is left."""


class TableMaterial(GrantMaterial):
    """Bytes of a table pad. Takes ``data`` over: the caller keeps no reference."""

    __slots__ = ("_data",)

    def __init__(self, direction: Direction, start: int, count: int, data: bytearray) -> None:
        self._data = data
        super().__init__(direction, start, count, len(data))

    def _draw(self, offset: int, length: int) -> bytes:
        drawn = bytes(self._data[offset : offset + length])
        self._data[offset : offset + length] = bytes(length)
        return drawn

    def _clear(self) -> None:
        self._data[:] = bytes(len(self._data))


class DerivedMaterial(GrantMaterial):
    """Keystream of a derived pad's grant key, generated as it is taken; takes ``keystream`` over."""

    __slots__ = ("_keystream",)

    def __init__(self, direction: Direction, start: int, keystream: Keystream) -> None:
        self._keystream = keystream
        super().__init__(direction, start, 1, limits.DERIVED_GRANT_BYTES)

    def _draw(self, offset: int, length: int) -> bytes:
        # The keystream is itself sequential; take() has checked that offset is where it stands.
        del offset
        return self._keystream.take(length)

    def _clear(self) -> None:
        self._keystream.wipe()
