"""Draws every state machine of the protocol into docs/spec/state-machines.md.

    python tools/diagrams.py            write the file
    python tools/diagrams.py --check    say whether it is current, change nothing

A machine is a module constant of ``skex.protocol`` whose name ends in TABLE; its first entry starts in
the initial state.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import skex.protocol
from skex.protocol.states import Table, mermaid

FILE = Path(__file__).resolve().parents[1] / "docs" / "spec" / "state-machines.md"
_HEAD = """\
# State machines

Generated from the transition tables of the reference implementation by `python tools/diagrams.py`.
Each diagram shows every pair of state and event that is decided; a pair that is not shown is a protocol
error, or cannot happen. How an implementation divides its work into machines is its own affair: the
diagrams explain the chapters, they add no requirement.
"""


class Machine(NamedTuple):
    """One transition table and where it stands."""

    module: str
    name: str
    table: Table[Enum, Enum]

    @property
    def initial(self) -> Enum:
        """The state that the machine starts in."""
        return next(iter(self.table))[0]

    @property
    def title(self) -> str:
        """Module and table, without what all of them have in common."""
        part = self.name.removesuffix("TABLE").rstrip("_").lower()
        return f"{self.module}: {part.replace('_', ' ')}" if part else self.module


def machines() -> Iterator[Machine]:
    """Every machine, by module and in the order of each module."""
    for info in sorted(pkgutil.iter_modules(skex.protocol.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"skex.protocol.{info.name}")
        for name, value in vars(module).items():
            if name.endswith("TABLE") and isinstance(value, dict):
                yield Machine(info.name, name, value)


def _section(machine: Machine) -> str:
    states = inspect.cleandoc(type(machine.initial).__doc__ or "")
    return f"## {machine.title}\n\n{states}\n\n```mermaid\n{mermaid(machine.table, machine.initial)}```\n"


def document() -> str:
    """The whole file."""
    return "\n".join([_HEAD, *(_section(machine) for machine in machines())])


def main() -> int:
    """The command: exit 1 if ``--check`` finds the file out of date."""
    text = document()
    current = FILE.exists() and FILE.read_text(encoding="utf-8") == text
    if sys.argv[1:] == ["--check"]:
        print("current" if current else "not current: run python tools/diagrams.py")
        return 0 if current else 1
    if not current:
        FILE.write_text(text, encoding="utf-8")
        print("written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
