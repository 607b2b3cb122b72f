"""Writes the generated parts of docs/cli.md, docs/configuration.md and docs/errors.md.

    python tools/manual.py            write them
    python tools/manual.py --check    say which are not current, change nothing

A part stands between two comment lines, ``<!-- generated: NAME -->`` and ``<!-- end -->``, and comes
from the commands and from the tables by which configurations are read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
import errorbook
from generated import command, with_parts

from skex.cli import NOUNS, skex_command
from skex.cli.common import EXIT_CODES
from skex.cli.realm import DESCRIPTION
from skex.daemon import config_text
from skex.daemon.config import HUB, KME

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = ("cli.md", "configuration.md", "errors.md")
_WIDTH = 96


def _commands() -> str:
    with click.Context(skex_command, info_name="skex", terminal_width=_WIDTH) as root:
        return "\n".join(line for noun in NOUNS for line in _command(root, noun, _found(root, noun)))


def _found(root: click.Context, noun: str) -> click.Command:
    command = skex_command.get_command(root, noun)
    if command is None:
        raise KeyError(noun)
    return command


def _command(parent: click.Context, name: str, command: click.Command, level: int = 2) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=_WIDTH)
    yield f"{'#' * level} {context.command_path}\n"
    yield f"```text\n{_help(command, context)}\n```\n"
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            yield from _command(context, verb, command.commands[verb], level + 1)


def _help(command: click.Command, context: click.Context) -> str:
    """A command's help without the options that all commands share."""
    lines = command.get_help(context).rstrip().split("\n")
    shared = next((at for at, line in enumerate(lines) if line.startswith("  --home ")), len(lines))
    behind = next(
        (at for at in range(shared, len(lines)) if lines[at].startswith("  --help")), len(lines) - 1
    )
    kept = lines[:shared] + lines[behind + 1 :]
    if "Options:" in kept and kept.index("Options:") == len(kept) - 1:
        kept = kept[:-1]
    text = re.sub(r"Options:\n\n", "", "\n".join(kept))
    return "\n".join(line.rstrip() for line in text.rstrip().split("\n"))


def _exit_codes() -> str:
    rows = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    return f"| Code | Meaning |\n| --- | --- |\n{rows}"


PARTS: dict[str, Callable[[], str]] = {
    "commands": _commands,
    "exit-codes": _exit_codes,
    "error-families": errorbook.families,
    "error-book": errorbook.book,
    "hub.toml": partial(config_text.reference, [HUB]),
    "kme.toml": partial(config_text.reference, [KME]),
    "hubs.toml": partial(config_text.reference, [DESCRIPTION]),
    "hub-template": lambda: f"```toml\n{config_text.render(HUB, {'name': 'hub-1'})}```\n",
}


def regenerate(text: str) -> str:
    """``text`` with every part as the code has it now. Raises ``KeyError`` for an unknown name."""
    return with_parts(text, PARTS)


if __name__ == "__main__":
    sys.exit(command([DOCS / name for name in PAGES], PARTS))
