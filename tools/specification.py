"""Writes the generated parts of docs/spec/: tables of constants and worked examples.

    python tools/specification.py            write them
    python tools/specification.py --check    say which are not current, change nothing

A part stands between two comment lines, ``<!-- generated: NAME -->`` and ``<!-- end -->``. Tables come
from the constants of the code, examples from running it, so the text cannot drift from either.
"""

from __future__ import annotations

import sys
from pathlib import Path

from generated import command, with_parts
from specification_examples import EXAMPLES
from specification_tables import TABLES

SPECIFICATION = Path(__file__).resolve().parents[1] / "docs" / "spec"
PARTS = {**TABLES, **EXAMPLES}


def regenerate(text: str) -> str:
    """``text`` with every part as the code has it now. Raises ``KeyError`` for an unknown name."""
    return with_parts(text, PARTS)


if __name__ == "__main__":
    sys.exit(command(sorted(SPECIFICATION.glob("*.md")), PARTS))
