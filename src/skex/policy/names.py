"""Names in rules: literal names, ``*`` in them, and groups.

``*`` stands for any characters, also none; nothing else is special. Matching takes time linear in the
name for each ``*``, whoever wrote the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from skex.base import limits

ANY: Final = "*"
GROUP: Final = "@"
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_PATTERN: Final = re.compile(r"[a-z0-9*](?:[a-z0-9._*-]*[a-z0-9*])?")
_NOT_IN_USERS: Final = "@:,/"
NAME_FORM: Final = "lower-case letters, digits, '.', '_' and '-'"


class NameProblem(ValueError):
    """A name in a rule that cannot be one; the text says what would be right."""


def is_name(text: str) -> bool:
    """Whether ``text`` has the form of a name, of a rule or of a group."""
    return len(text) <= limits.NAME_CHARACTERS and _NAME.fullmatch(text) is not None


def check_kme(pattern: str) -> None:
    """Refuse what is no pattern of KME names and no group."""
    if GROUP in pattern.removeprefix(GROUP):
        raise NameProblem("here stand KME names, and an SAE id is name@kme: write the part behind the '@'")
    _check_part(pattern)


def check_hub(pattern: str) -> None:
    """Refuse what is no pattern of hub names: groups hold none."""
    if GROUP in pattern:
        raise NameProblem("hubs are in no group: write their names, with '*' in them where it helps")
    _check_part(pattern)


def check_sae(pattern: str) -> None:
    """Refuse what is no pattern of SAE ids and no group: ``*``, ``vpn@site-*``, ``*@@branch``, ``@saes``."""
    if pattern == ANY:
        return
    local, separator, kme = pattern.partition(GROUP)
    if not separator:
        raise NameProblem(f"SAE ids are name@kme: write '{pattern}@*' for this name at every KME")
    if local and not _is_pattern(local):
        raise NameProblem(f"before the '@' stand {NAME_FORM}, or '*'")
    _check_part(kme if local else pattern)


def check_user(pattern: str) -> None:
    """Refuse what is no pattern of names that a Unix system gives to users and groups."""
    if not 1 <= len(pattern) <= limits.NAME_CHARACTERS or any(
        not "!" <= one <= "~" or one in _NOT_IN_USERS for one in pattern
    ):
        raise NameProblem(
            f"users and groups are 1 to {limits.NAME_CHARACTERS} printable ASCII characters without space,"
            f" '@', ':', ',' and '/'; write uid-NUMBER or gid-NUMBER for others"
        )


def check_member(pattern: str) -> None:
    """Refuse what can be in no group: patterns of KME names, of SAE ids, and other groups can."""
    (check_sae if GROUP in pattern else check_kme)(pattern)


def _check_part(pattern: str) -> None:
    if pattern.startswith(GROUP):
        if not is_name(pattern.removeprefix(GROUP)):
            raise NameProblem("'@' must be followed by the name of a group")
    elif not _is_pattern(pattern):
        raise NameProblem(
            f"names are {NAME_FORM}, at most {limits.NAME_CHARACTERS} characters; '*' stands for any"
        )


def _is_pattern(text: str) -> bool:
    return len(text) <= limits.NAME_CHARACTERS and _PATTERN.fullmatch(text) is not None


def matches(pattern: str, text: str) -> bool:
    """Whether ``text`` has the form of ``pattern``."""
    first, *others = pattern.split(ANY)
    if not others:
        return pattern == text
    last = others.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in others:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


@dataclass(frozen=True, slots=True)
class Names:
    """Patterns with their groups opened, ready to be asked."""

    exact: frozenset[str]
    globs: tuple[str, ...]

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Names:
        """Patterns without groups."""
        patterns = frozenset(patterns)
        globs = frozenset(pattern for pattern in patterns if ANY in pattern)
        return cls(patterns - globs, tuple(sorted(globs)))

    def __contains__(self, text: str) -> bool:
        return text in self.exact or any(matches(glob, text) for glob in self.globs)
