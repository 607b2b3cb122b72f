"""Every kind of event is written somewhere, or the manual says why it is not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from skex.audit import events
from skex.audit.events import Kind, all_kinds

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src/skex"
NOT_EMITTERS = {SOURCES / "audit/events.py", SOURCES / "audit/syslog.py"}
_ROW = re.compile(r"^\| `(?P<names>[a-z`, -]+)` \| \S.*\S \|$")


def emitted() -> set[str]:
    """The kinds whose constants are used outside the table, other than to read records."""
    constants = {id(value): name for name, value in vars(events).items() if isinstance(value, Kind)}
    names = set(constants.values())
    used: set[str] = set()
    for path in SOURCES.rglob("*.py"):
        if path in NOT_EMITTERS:
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        imported = {
            alias.name
            for node in nodes
            if isinstance(node, ast.ImportFrom) and node.module == "skex.audit.events"
            for alias in node.names
        }
        # ``KIND.name`` is compared with records; whoever emits hands the kind itself on.
        reads = {id(node.value) for node in nodes if isinstance(node, ast.Attribute) and node.attr == "name"}
        for node in nodes:
            if id(node) in reads:
                continue
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "events" and node.attr in names:
                    used.add(node.attr)
            elif isinstance(node, ast.Name) and node.id in imported & names:
                used.add(node.id)
    return {vars(events)[name].name for name in used}


def excused() -> set[str]:
    """What the manual's table of events that are not written names, each with a reason."""
    manual = (ROOT / "docs/audit.md").read_text()
    section = manual.split("## Not written", 1)[1].split("\n## ", 1)[0]
    rows = [row for line in section.splitlines() if (row := _ROW.match(line)) is not None]
    return {name for row in rows for name in re.findall(r"[a-z][a-z-]+", row["names"])}


def test_every_kind_of_event_is_written_or_excused() -> None:
    everything = {kind.name for kind in all_kinds()}
    assert sorted(everything - emitted()) == sorted(excused())
