"""Pages of documentation of which parts come from the code, so that the text cannot drift from it.

A part stands between two comment lines, ``<!-- generated: NAME -->`` and ``<!-- end -->``. A script that
has parts hands them over here; run with ``--check`` it says which pages are not current, and changes nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

_PART = re.compile(r"(<!-- generated: ([a-z0-9._-]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

Parts = Mapping[str, Callable[[], str]]


def part_names(text: str) -> list[str]:
    """The names of the generated parts in ``text``."""
    return [match[2] for match in _PART.finditer(text)]


def with_parts(text: str, parts: Parts) -> str:
    """``text`` with every generated part as the code has it now. Raises ``KeyError`` for an unknown name."""
    return _PART.sub(lambda match: match[1] + parts[match[2]]().rstrip("\n") + "\n" + match[3], text)


def command(pages: Iterable[Path], parts: Parts) -> int:
    """Write the parts of all pages, or only check them; the exit code."""
    check = sys.argv[1:] == ["--check"]
    stale = False
    for path in pages:
        text = path.read_text(encoding="utf-8")
        current = with_parts(text, parts)
        if current != text:
            stale = True
            print(f"{path.name}: {'not current' if check else 'written'}")
            if not check:
                path.write_text(current, encoding="utf-8")
    return 1 if check and stale else 0
