"""Writes the generated tables of docs/policy.md and docs/audit.md.

    python tools/references.py            write them
    python tools/references.py --check    say which are not current, change nothing

A table stands between two comment lines, ``<!-- generated: NAME -->`` and ``<!-- end -->``, and comes
from the tables by which policies are read and events are written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path

from generated import command, with_parts

from skex.audit import events
from skex.policy import schema
from skex.policy.rules import OperatorCommand

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = ("policy.md", "audit.md")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    heads = list(head)
    lines = [heads, ["---"] * len(heads), *(list(row) for row in rows)]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


# ── policy ──────────────────────────────────────────────────────────────────────────────────────
def _key_row(key: schema.Key) -> tuple[str, str, str, str]:
    return f"`{key.name}`", key.kind.what.replace('"', "`"), _default(key), key.meaning


def _default(key: schema.Key) -> str:
    if key.default is schema.REQUIRED:
        return "required"
    if key.unstated is not None:
        return _number(key.unstated)
    return f"`{key.kind.write(key.default)}`" if key.default not in {"", None} else "none"


def _number(unstated: object) -> str:
    """What counts where no rule states it; quotas have one number for shares and one for messages."""
    if isinstance(unstated, tuple):
        shares, messages = unstated
        return f"{shares:,} for shares, {messages:,} for peer messages"
    if isinstance(unstated, frozenset):
        return ", ".join(f"`{one.value}`" for one in type(next(iter(unstated))) if one in unstated)
    if isinstance(unstated, Enum):
        return f"`{unstated.name.lower().replace('_', '-')}`"
    return f"{unstated:,}"


def _policy_table(name: str) -> Callable[[], str]:
    found = schema.TABLES[name]
    return lambda: (
        f"{found.meaning}\n\n" + table(("Key", "Value", "Default", "Meaning"), map(_key_row, found.keys))
    )


def _settings() -> str:
    rows = (_key_row(key) for keys in schema.SETTINGS.values() for key in keys)
    return table(("Key", "Value", "Default", "Meaning"), rows)


def _roles() -> str:
    rows = (
        (f"`{role}`", ", ".join(f"`{one.value}`" for one in OperatorCommand if one in commands))
        for role, commands in schema.ROLES.items()
    )
    return table(("Role", "May ask for"), rows)


def _operator_commands() -> str:
    rows = (
        (f"`{one.value}`", schema.COMMANDS[one], "yes" if one in schema.DUAL else "no")
        for one in OperatorCommand
    )
    return table(("Command", "What it allows", "Can need two persons"), rows)


# ── audit ───────────────────────────────────────────────────────────────────────────────────────
def _kinds(area: events.Area) -> Callable[[], str]:
    def row(kind: events.Kind) -> tuple[str, str, str, str]:
        how = "sampled" if kind.sampled else "synced" if kind.important else "grouped"
        return f"`{kind.name}`", kind.sentence, ", ".join(f"`{name}`" for name in kind.details), how

    kinds = [kind for kind in events.all_kinds() if kind.area is area]
    return lambda: table(("Event", "What happened", "Details", "Written"), map(row, kinds))


PARTS: dict[str, Callable[[], str]] = {
    "hub-settings": _settings,
    **{name: _policy_table(name) for name in schema.TABLES},
    "operator-roles": _roles,
    "operator-commands": _operator_commands,
    **{f"events-{area.name.lower()}": _kinds(area) for area in events.Area},
}


def regenerate(text: str) -> str:
    """``text`` with every part as the code has it now. Raises ``KeyError`` for an unknown name."""
    return with_parts(text, PARTS)


if __name__ == "__main__":
    sys.exit(command([DOCS / name for name in PAGES], PARTS))
