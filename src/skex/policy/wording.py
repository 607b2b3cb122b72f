"""How messages about a policy file quote it, and guess what was meant."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from skex.base import limits

NUMBER_MAX: Final = 2**53
"""Every reader of TOML and JSON agrees about numbers up to here."""
_EDITS_MAX: Final = 6
_CANDIDATES: Final = 200
"""Names that are compared at most: a guess must not take longer than the rest."""


def shown(value: object) -> str:
    """A value of the file for a message: short and printable, however large or deep it is."""
    if isinstance(value, str):
        return f"{value[:60]!a}" + ("..." if len(value) > 60 else "")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value!r}" if abs(value) <= NUMBER_MAX else "a number beyond all bounds"
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or a time"


def quoted(text: str) -> str:
    """A TOML basic string of printable text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def nearest(word: object, known: Iterable[str]) -> str:
    """The nearest right spelling as the end of a sentence, or nothing."""
    best = _nearest(word, known) if isinstance(word, str) else None
    return "" if best is None else f"; did you mean {quoted(best)}?"


def _nearest(word: str, known: Iterable[str]) -> str | None:
    wrong = word.lower()[: limits.NAME_CHARACTERS]
    likely = (right for right in known if abs(len(right) - len(wrong)) <= _EDITS_MAX)
    distances = {right: _distance(wrong, right.lower()) for right in islice(likely, _CANDIDATES)}
    best = min(distances, key=lambda right: (distances[right], right), default=None)
    return best if best is not None and distances[best] <= min(_EDITS_MAX, max(2, len(best) // 3)) else None


def _distance(one: str, other: str) -> int:
    """Edits between two short words."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]
