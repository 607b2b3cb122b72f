"""A type of its own for secret bytes.

What is in a ``Secret`` shows up in no repr, log, traceback argument, format string, pickle or
equality oracle. ``expose`` is the one way out; searching for it finds every place where secret
bytes meet plain code. CPython may copy bytes behind our back, so wiping is best effort: it clears
the buffer we own and makes later use an error.
"""

from __future__ import annotations

import hmac
from typing import NoReturn

from skex.base import codes
from skex.base.errors import LocalBug


class Secret:
    """Mutable, wipeable secret bytes of a fixed length."""

    __slots__ = ("_buffer", "_wiped")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        # Through a view, because bytearray(32) would make 32 zero bytes of a mistaken length.
        self._buffer = bytearray(memoryview(data))
        self._wiped = False

    def expose(self) -> bytes:
        """Return the bytes themselves. Raises ``LocalBug`` once wiped."""
        if self._wiped:
            raise LocalBug(codes.SECRET_WIPED)
        return bytes(self._buffer)

    def wipe(self) -> None:
        """Overwrite the buffer with zeros; any later ``expose`` is an error. Idempotent."""
        self._buffer[:] = bytes(len(self._buffer))
        self._wiped = True

    @property
    def wiped(self) -> bool:
        """Whether ``wipe`` was called."""
        return self._wiped

    def __len__(self) -> int:
        return len(self._buffer)

    def __eq__(self, other: object) -> bool:
        """Constant-time comparison, defined between secrets only."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.expose(), other.expose())

    __hash__ = None  # type: ignore[assignment]  # a hash would leak equality and keep copies in dicts

    def __repr__(self) -> str:
        return f"<Secret of {len(self._buffer)} bytes>"

    def __format__(self, specification: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise LocalBug(codes.BAD_STATE, "secrets cannot be pickled or copied")
