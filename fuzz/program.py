"""Reads an input as a course of events: the fuzzer's bytes decide what happens next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Program:
    """An input that is used up from its front; behind its end every byte is zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """The next byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def number(self) -> int:
        """The next two bytes."""
        return self.byte() << 8 | self.byte()

    def choose(self, options: Sequence[T]) -> T:
        """One of the options; there must be one."""
        return options[self.byte() % len(options)]

    def blob(self) -> bytes:
        """So many bytes as the next one says, or what is left."""
        length = self.byte()
        taken = self._data[self._at : self._at + length]
        self._at += len(taken)
        return taken
