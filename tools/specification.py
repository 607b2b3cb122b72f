"""Writes the generated parts of docs/spec/: tables of constants and worked examples.

    python tools/specification.py            write them
    python tools/specification.py --check    say which are not current, change nothing

A part stands between two comment lines, ``<!-- generated: NAME -->`` and ``<!-- end -->``. Tables come
from the constants of the code, examples from running it, so the text cannot drift from either.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from specification_examples import EXAMPLES
from specification_tables import TABLES

SPECIFICATION = Path(__file__).resolve().parents[1] / "docs" / "spec"
PARTS = {**TABLES, **EXAMPLES}
_PART = re.compile(r"(<!-- generated: ([a-z0-9-]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def regenerate(text: str) -> str:
    """``text`` with every generated part as the code has it now. Raises ``KeyError`` for an unknown name."""
    return _PART.sub(lambda match: match[1] + PARTS[match[2]]() + match[3], text)


def part_names(text: str) -> list[str]:
    """The names of the generated parts in ``text``."""
    return [match[2] for match in _PART.finditer(text)]


def outdated(write: bool) -> list[Path]:  # noqa: FBT001  # two modes of one script
    """The chapters that are not current; with ``write`` they are afterwards."""
    stale = []
    for path in sorted(SPECIFICATION.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        current = regenerate(text)
        if current != text:
            stale.append(path)
            if write:
                path.write_text(current, encoding="utf-8")
    return stale


def main() -> int:
    """The command: exit 1 if ``--check`` finds something."""
    check = sys.argv[1:] == ["--check"]
    stale = outdated(write=not check)
    for path in stale:
        print(f"{path.name}: {'not current' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
