"""On which line of a TOML text each key stands: the standard parser does not tell.

The text was accepted by that parser before, so nothing here judges it; whatever is not found has the
line of what it stands in.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Keys and, for elements of arrays, their index from 0: ``("hub", "allow", 0, "from", 1)``."""

_TOKEN: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'"
    r"|\#[^\n]*"
    r"|[\n\[\]{},.=]"
    r"|[^\s\[\]{},.=\"'\#]+",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    line: int


@dataclass(slots=True)
class _Container:
    """An array, whose ``index`` counts, or an inline table, in which a key comes next if ``keyed``."""

    path: Path
    index: int | None
    keyed: bool


class Lines:
    """The line, from 1, of each key, table and array element of one text."""

    def __init__(self, text: str) -> None:
        self._found: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}
        """How many tables an array of tables has so far."""
        self._table: Path = ()
        self._containers: list[_Container] = []
        self._value: Path | None = None
        """The key whose value comes next."""
        self._ended = False
        """The statement's value began at its end: what is left of the line belongs to it."""
        tokens = _tokens(text.replace("\r\n", "\n"))
        for token in tokens:
            if self._containers:
                self._inside(token, tokens)
            elif token.text == "\n":
                self._ended = False
            elif not self._ended:
                self._statement(token, tokens)

    def __getitem__(self, path: Path) -> int:
        """The line of ``path``, or of the nearest thing that it stands in; 1 for the whole text."""
        return next(
            (self._found[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self._found), 1
        )

    def _statement(self, token: _Token, tokens: Iterator[_Token]) -> None:
        if token.text == "[" and self._value is None:
            self._header(token, tokens)
        elif self._value is None:
            self._key(self._table, token, tokens)
        else:
            path, self._value = self._value, None
            self._ended = True
            self._begin(path, token)

    def _header(self, token: _Token, tokens: Iterator[_Token]) -> None:
        first = next(tokens)
        is_array = first.text == "["
        *parents, last = _key_parts(next(tokens) if is_array else first, tokens, end="]")
        path = (*self._within((), parents), last)
        if is_array:
            next(tokens)  # the second closing bracket
            index = self._arrays.get(path, -1) + 1
            self._arrays[path] = index
            self._note(path, token.line)
            path = (*path, index)
        else:
            path = self._within(path[:-1], [last])
        self._note(path, token.line)
        self._table = path

    def _within(self, path: Path, parts: list[str]) -> Path:
        """Follow ``parts`` from ``path``, into the latest table of each array of tables."""
        for part in parts:
            path = (*path, part)
            if path in self._arrays:
                path = (*path, self._arrays[path])
        return path

    def _key(self, base: Path, token: _Token, tokens: Iterator[_Token]) -> None:
        path = (*base, *_key_parts(token, tokens, end="="))
        self._note(path, token.line)
        self._value = path

    def _begin(self, path: Path, token: _Token) -> None:
        """A value starts: remember where, and what it contains."""
        self._note(path, token.line)
        if token.text == "[":
            self._containers.append(_Container(path, 0, keyed=False))
        elif token.text == "{":
            self._containers.append(_Container(path, None, keyed=True))

    def _inside(self, token: _Token, tokens: Iterator[_Token]) -> None:
        container = self._containers[-1]
        if token.text in {"]", "}"}:
            self._containers.pop()
        elif token.text == ",":
            container.keyed = container.index is None
            container.index = None if container.index is None else container.index + 1
        elif token.text == "\n":
            pass
        elif container.index is not None:
            self._begin((*container.path, container.index), token)
        elif container.keyed:
            container.keyed = False
            self._key(container.path, token, tokens)
        elif self._value is not None:
            path, self._value = self._value, None
            self._begin(path, token)

    def _note(self, path: Path, line: int) -> None:
        for end in range(len(path), 0, -1):
            if path[:end] in self._found:
                break
            self._found[path[:end]] = line


def _tokens(text: str) -> Iterator[_Token]:
    """Everything but white space and comments; line breaks are tokens."""
    line = 1
    for match in _TOKEN.finditer(text):
        token = match.group()
        if not token.startswith("#"):
            yield _Token(token, line)
        line += token.count("\n")


def _key_parts(token: _Token, tokens: Iterator[_Token], *, end: str) -> list[str]:
    """The parts of a dotted key that starts with ``token``, up to ``end``."""
    parts = []
    while token.text != end:
        if token.text != ".":
            parts.append(_unquoted(token.text))
        token = next(tokens)
    return parts


def _unquoted(key: str) -> str:
    return next(iter(tomllib.loads(f"{key} = 0"))) if key[0] in "\"'" else key
