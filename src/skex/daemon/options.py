"""How a configuration file is described and read: kinds of values, options, tables of options.

One description serves reading, the commented files that a new home gets, and the reference in the
documentation. Total: any bytes give values or problems, and every problem names its line and key. It
must not know which options there are (``config``).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from skex.base import codes, ids, limits
from skex.base.errors import Refused
from skex.base.ids import HubName
from skex.policy.positions import Lines
from skex.policy.wording import nearest, quoted, shown

_AT_LINE: Final = re.compile(r" *\(at line ([0-9]+), column [0-9]+\)")
_LISTEN: Final = re.compile(r"([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]):(0|[1-9][0-9]{0,4})")
_PORT_MAX: Final = 65_535
_PATH_CHARACTERS: Final = 1024


class Wrong(ValueError):
    """A value that its option cannot have; the text goes on after the option's name."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen, or whom to dial: a host name or address, IPv6 without its brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """How the values of an option are read (raises ``Wrong``), written as TOML, and described."""

    read: Callable[[Any], Any]
    write: Callable[[Any], str]
    what: str


@dataclass(frozen=True, slots=True)
class Option:
    """One option. ``key`` is dotted; ``default`` None says that the file must state it."""

    key: str
    kind: Kind
    default: Any
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Entries:
    """An array of tables, ``[[name]]``, each with the same options."""

    name: str
    meaning: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything that one file may say; ``daemon`` is what is configured with it."""

    daemon: str
    options: tuple[Option, ...]
    entries: tuple[Entries, ...] = ()


def parse_endpoint(address: str) -> Endpoint:
    """An address to dial, as realm files and configurations write it. Raises ``Wrong``."""
    endpoint: Endpoint = ADDRESS.read(address)
    return endpoint


# ── kinds of values ─────────────────────────────────────────────────────────────────────────────
def integer(low: int, high: int) -> Kind:
    """A whole number within bounds."""
    what = f"an integer from {low} to {high}"

    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise Wrong(f"must be {what}, not {shown(value)}")
        return value

    return Kind(read, str, what)


def _read_flag(value: Any) -> bool:
    if type(value) is not bool:
        raise Wrong(f"must be true or false, not {shown(value)}")
    return value


FLAG: Final = Kind(_read_flag, lambda value: "true" if value else "false", "true or false")


def choice(*words: str) -> Kind:
    """One of a few words."""
    what = " or ".join(quoted(word) for word in words)

    def read(value: Any) -> str:
        if type(value) is not str or value not in words:
            raise Wrong(f"must be {what}, not {shown(value)}{nearest(value, words)}")
        return value

    return Kind(read, quoted, what)


def name(parse: Callable[[str], str], what: str) -> Kind:
    """A name of the protocol, which ``parse`` checks."""

    def read(value: Any) -> str:
        try:
            return parse(value if type(value) is str else "")
        except Refused as error:
            raise Wrong(f"must be {what}, not {shown(value)}; {error.code.hint}") from error

    return Kind(read, quoted, what)


def text(high: int) -> Kind:
    """Printable ASCII of 1 to ``high`` characters."""
    what = f"printable ASCII of 1 to {high} characters"

    def read(value: Any) -> str:
        if isinstance(value, str) and 1 <= len(value) <= high and value.isascii() and value.isprintable():
            return value
        raise Wrong(f"must be {what}, not {shown(value)}")

    return Kind(read, quoted, what)


def optional_text(high: int) -> Kind:
    """The same, or nothing."""
    stated = text(high)
    return Kind(lambda value: "" if value == "" else stated.read(value), quoted, f'{stated.what}, or ""')


def _read_path(value: Any) -> Path:
    if type(value) is not str or not 1 <= len(value) <= _PATH_CHARACTERS or not value.isprintable():
        raise Wrong(f"must be a path, not {shown(value)}")
    return Path(value)


PATH: Final = Kind(_read_path, lambda value: quoted(str(value)), "a path; a relative one starts at the home")

NO_PATH: Final = Path()
"""What an optional path is that nobody stated."""


def _read_optional_path(value: Any) -> Path:
    return NO_PATH if value == "" else _read_path(value)


OPTIONAL_PATH: Final = Kind(
    _read_optional_path,
    lambda value: quoted("" if value == NO_PATH else str(value)),
    'a path, or "" for none; a relative one starts at the home',
)


def _endpoint(lowest_port: int, what: str) -> Kind:
    def read(value: Any) -> Endpoint:
        match = _LISTEN.fullmatch(value) if type(value) is str else None
        if not match or not lowest_port <= int(match[2]) <= _PORT_MAX:
            raise Wrong(f"must be {what}, not {shown(value)}")
        return Endpoint(match[1].strip("[]"), int(match[2]))

    return Kind(read, lambda value: quoted(str(value)), what)


LISTEN: Final = _endpoint(0, '"host:port", IPv6 in brackets; port 0 lets the system choose')
ADDRESS: Final = _endpoint(1, '"host:port", IPv6 in brackets')


def _read_hub_addresses(value: Any) -> dict[HubName, Endpoint]:
    if type(value) is not dict:
        raise Wrong(f"must be a table, not {shown(value)}")
    if len(value) > limits.CONFIG_ENTRIES:
        raise Wrong(f"has {len(value)} entries, at most {limits.CONFIG_ENTRIES}")
    found = {}
    for hub, address in value.items():
        try:
            found[ids.parse_hub_name(hub)] = ADDRESS.read(address)
        except Refused as error:
            raise Wrong(f"{shown(hub)} is no hub's name; {error.code.hint}") from error
        except Wrong as error:
            raise Wrong(f"{shown(hub)} {error}") from error
    return found


def _write_hub_addresses(value: Mapping[HubName, Endpoint]) -> str:
    inner = ", ".join(f"{quoted(hub)} = {quoted(str(address))}" for hub, address in sorted(value.items()))
    return f"{{ {inner} }}" if inner else "{}"


HUB_ADDRESSES: Final = Kind(
    _read_hub_addresses, _write_hub_addresses, 'a table of hubs, "name" = "host:port"'
)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: its line (from 1), the dotted key, and the rest of the sentence."""

    line: int
    key: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.key} {self.text}" if self.key else f"line {self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Values:
    """What a file says, defaults filled in: of options by key, of entries by name, in their order."""

    options: Mapping[str, Any]
    entries: Mapping[str, Sequence[Mapping[str, Any]]]


class Reader:
    """One file against its layout; collects every mistake, then says all of them at once."""

    def __init__(self, data: bytes, file: str, layout: Layout) -> None:
        """``file`` is the file's name for messages. Raises ``Refused`` (config-syntax)."""
        self._file = file
        self._layout = layout
        text = self._text(data)
        self._root = self._toml(text)
        self._lines = Lines(text)
        self._problems: list[Problem] = []

    def read(self) -> Values:
        """The values; they mean nothing until ``finish`` found no mistakes."""
        keys = {option.key for option in self._layout.options}
        self._refuse_unknown(self._root, (), keys | {entries.name for entries in self._layout.entries})
        options = {option.key: self._option(option, self._root, ()) for option in self._layout.options}
        entries = {one.name: list(self._entries(one)) for one in self._layout.entries}
        return Values(options, entries)

    def wrong(self, text: str, *path: str | int) -> None:
        """Note a mistake at ``path``: the parts of a dotted key, and indexes from 0."""
        self._problems.append(Problem(self._lines[path], _dotted(path), text))

    def finish(self) -> None:
        """Raises ``Refused`` (config-invalid) naming every mistake, if there were any."""
        if self._problems:
            ordered = sorted(self._problems, key=lambda problem: problem.line)[: limits.CONFIG_PROBLEMS]
            raise Refused(codes.CONFIG_INVALID, "; ".join(f"{self._file}: {problem}" for problem in ordered))

    def _unreadable(self, line: int, text: str) -> Refused:
        return Refused(codes.CONFIG_SYNTAX, f"{self._file}: line {line}: {text}")

    def _text(self, data: bytes) -> str:
        if len(data) > limits.CONFIG_FILE_BYTES:
            raise self._unreadable(1, f"{len(data)} bytes; at most {limits.CONFIG_FILE_BYTES} are read")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._unreadable(data[: error.start].count(b"\n") + 1, "not UTF-8 text") from error

    def _toml(self, text: str) -> dict[str, Any]:
        try:
            return tomllib.loads(text)
        except RecursionError as error:
            raise self._unreadable(1, "nested too deeply") from error
        except ValueError as error:  # a number of too many digits is one that is no TOMLDecodeError
            at = _AT_LINE.search(str(error))
            line = int(at[1]) if at else text.count("\n") + 1
            # The parser quotes the file: only as much of it as can be printed.
            raise self._unreadable(line, shown(_AT_LINE.sub("", str(error)))[1:-1]) from error

    def _refuse_unknown(self, table: Mapping[str, Any], path: tuple[str | int, ...], keys: set[str]) -> None:
        """``keys`` are those allowed below ``table``, dotted; a key may be a table of its own."""
        heads = {key.partition(".")[0] for key in keys}
        for key, value in table.items():
            if key not in heads:
                self.wrong(f"is unknown{nearest(key, heads) or _listed(heads)}", *path, key)
            elif key not in keys:
                inner = {rest for head, _, rest in (one.partition(".") for one in keys) if head == key}
                if type(value) is dict:
                    self._refuse_unknown(value, (*path, key), inner)
                else:
                    self.wrong(f"must be a table, not {shown(value)}", *path, key)

    def _option(self, option: Option, table: Any, path: tuple[str | int, ...]) -> Any:
        value: Any = table
        for part in option.key.split("."):
            if type(value) is not dict or part not in value:
                if option.default is None:
                    self.wrong(f"is missing: {option.meaning}", *path, *option.key.split("."))
                return option.default
            value = value[part]
        try:
            return option.kind.read(value)
        except Wrong as error:
            self.wrong(str(error), *path, *option.key.split("."))
            return option.default

    def _entries(self, entries: Entries) -> Iterator[Mapping[str, Any]]:
        written = self._root.get(entries.name, [])
        if type(written) is not list or any(type(one) is not dict for one in written):
            self.wrong(f"is an array of tables: start each with [[{entries.name}]]", entries.name)
            return
        if len(written) > limits.CONFIG_ENTRIES:
            self.wrong(f"has {len(written)} entries, at most {limits.CONFIG_ENTRIES}", entries.name)
            return
        for index, one in enumerate(written):
            self._refuse_unknown(one, (entries.name, index), {option.key for option in entries.options})
            yield {option.key: self._option(option, one, (entries.name, index)) for option in entries.options}


def _listed(known: set[str]) -> str:
    return f"; known here: {', '.join(sorted(known))}"


def _dotted(path: tuple[str | int, ...]) -> str:
    """A path as people write it; elements of arrays count from 1."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            plain = part if re.fullmatch(r"[A-Za-z0-9_-]{1,63}", part) else shown(part)
            text += ("." if text else "") + plain
    return text
