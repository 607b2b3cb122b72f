"""Options as text: the commented file that a new home gets, and the reference in the documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from skex.daemon.options import Entries, Layout, Option

_COMMENT_WIDTH = 100


def render(layout: Layout, stated: Mapping[str, Any]) -> str:
    """A configuration file in which the ``stated`` options are set and all others shown.

    What starts with ``#`` and no space is an option with its default. Raises ``KeyError`` for a stated
    option that there is not.
    """
    unknown = stated.keys() - {option.key for option in layout.options}
    if unknown:
        raise KeyError(", ".join(sorted(unknown)))
    parts = [
        f"# Configuration of a {_proper(layout)}. To change an option, remove the '#' before its name.",
        "# Relative paths start at the home. Every option: docs/configuration.md.",
        "",
    ]
    for table, group in groupby(layout.options, key=_table):
        parts += [f"[{table}]"] if table else []
        for option in group:
            parts += _option_lines(option, stated)
        parts.append("")
    for entries in layout.entries:
        parts += _wrapped(f"{entries.meaning}")
        parts.append(f"#[[{entries.name}]]")
        for option in entries.options:
            parts += [*_described(option), f"#{option.key} = {_default(option)}"]
        parts.append("")
    return "\n".join(parts)


def reference(layouts: Iterable[Layout]) -> str:
    """The reference of every option, in Markdown."""
    return "\n".join(line for layout in layouts for line in _chapter(layout))


def _chapter(layout: Layout) -> Iterator[str]:
    yield f"## {layout.daemon}.toml"
    yield ""
    yield from _markdown_table(layout.options)
    for entries in layout.entries:
        yield from _markdown_entries(entries)


def _markdown_entries(entries: Entries) -> Iterator[str]:
    yield f"### [[{entries.name}]]"
    yield ""
    yield f"{entries.meaning} May be repeated."
    yield ""
    yield from _markdown_table(entries.options)


def _markdown_table(options: Iterable[Option]) -> Iterator[str]:
    yield "| Option | Value | Default | Unit | Meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for option in options:
        default = "must be stated" if option.default is None else f"`{option.kind.write(option.default)}`"
        yield f"| `{option.key}` | {option.kind.what} | {default} | {option.unit} | {option.meaning} |"
    yield ""


def _proper(layout: Layout) -> str:
    return "KME" if layout.daemon == "kme" else layout.daemon


def _table(option: Option) -> str:
    return option.key.rpartition(".")[0]


def _option_lines(option: Option, stated: Mapping[str, Any]) -> list[str]:
    name = option.key.rpartition(".")[2]
    if option.key in stated:
        return [*_described(option), f"{name} = {option.kind.write(stated[option.key])}"]
    return [*_described(option), f"#{name} = {_default(option)}"]


def _default(option: Option) -> str:
    return '""' if option.default is None else option.kind.write(option.default)


def _described(option: Option) -> list[str]:
    unit = f", in {option.unit}" if option.unit else ""
    return _wrapped(f"{option.meaning} ({option.kind.what}{unit})")


def _wrapped(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _COMMENT_WIDTH)]
