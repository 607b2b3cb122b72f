"""Groups of names: opened once, when a policy is read.

A group holds KME names or SAE ids, never both, and may hold other groups, but not itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from skex.base import limits
from skex.policy.names import GROUP, NameProblem
from skex.policy.wording import nearest


class NameKind(Enum):
    """What a group's members are."""

    KME = "KME names"
    SAE = "SAE ids"


@dataclass(frozen=True, slots=True)
class Group:
    """A group with the groups in it opened. ``kind`` is None for one that matches nothing."""

    kind: NameKind | None
    patterns: frozenset[str]
    depth: int


_TOO_DEEP: Final = f"groups in groups, more than {limits.POLICY_GROUP_DEPTH} deep"


@dataclass(frozen=True, slots=True)
class _Reference:
    """``@branch`` takes members as they are; ``vpn@@branch`` makes SAE ids of KME names."""

    local: str
    group: str

    def kind_of(self, group: Group) -> NameKind | None:
        """What the reference stands for."""
        return NameKind.SAE if self.local else group.kind

    def patterns_of(self, group: Group) -> Iterator[str]:
        """The patterns that the reference stands for."""
        for member in group.patterns:
            yield f"{self.local}{GROUP}{member}" if self.local else member


def _reference(pattern: str) -> _Reference | None:
    local, separator, rest = pattern.partition(GROUP)
    if separator and not local:
        return _Reference("", rest)
    return _Reference(local, rest.removeprefix(GROUP)) if rest.startswith(GROUP) else None


def group_in(pattern: str) -> str | None:
    """The group that a name in a rule or in a group stands for, if it does."""
    reference = _reference(pattern)
    return None if reference is None else reference.group


def _kind_of(pattern: str) -> NameKind | None:
    return NameKind.SAE if GROUP in pattern else NameKind.KME


class Groups:
    """The groups of one policy. ``problems`` names groups that cannot be, each with the reason."""

    def __init__(self, written: Mapping[str, frozenset[str] | None]) -> None:
        """``written`` is None for a group of whose members something is wrong already."""
        self._written = written
        self._opened: dict[str, Group | None] = {}
        self._room = limits.POLICY_PATTERNS
        self.problems: list[tuple[str, str]] = []
        for name in sorted(written):
            self._open(name, ())

    def objections(self, patterns: Iterable[str], wanted: NameKind) -> Iterator[str]:
        """What is wrong with the groups that ``patterns`` of a rule refer to."""
        size = 0
        for pattern in sorted(patterns):
            reference = _reference(pattern)
            if reference is None:
                size += 1
            elif reference.group not in self._written:
                yield self._unknown(reference)
            elif (group := self._opened[reference.group]) is not None:
                size += len(group.patterns)
                try:
                    self._check_kind(reference, group, wanted)
                except NameProblem as problem:
                    yield str(problem)
        try:
            self._take_room(size)
        except NameProblem as problem:
            yield str(problem)

    def opened(self, patterns: Iterable[str]) -> frozenset[str]:
        """``patterns`` with every group replaced by its members; asked only where nothing is wrong."""
        found: set[str] = set()
        for pattern in patterns:
            reference = _reference(pattern)
            group = None if reference is None else self._opened[reference.group]
            if reference is None or group is None:
                found.add(pattern)
            else:
                found.update(reference.patterns_of(group))
        return frozenset(found)

    def _open(self, name: str, within: tuple[str, ...]) -> Group | None:
        """Open a group and those in it, each once; None where something is wrong with it."""
        if name not in self._opened:
            try:
                self._opened[name] = self._gathered(name, within)
            except NameProblem as problem:
                self.problems.append((name, str(problem)))
                self._opened[name] = None
        return self._opened[name]

    def _gathered(self, name: str, within: tuple[str, ...]) -> Group | None:
        if name in within:
            raise NameProblem("the group contains itself")
        if len(within) >= limits.POLICY_GROUP_DEPTH:
            raise NameProblem(_TOO_DEEP)
        members = self._written[name]
        inner = None if members is None else self._inner(members, (*within, name))
        if members is None or inner is None:
            return None  # what is wrong there was said there
        kinds = {reference.kind_of(group) for reference, group in inner}
        kinds |= {_kind_of(pattern) for pattern in members if _reference(pattern) is None}
        kinds.discard(None)
        depth = 1 + max((group.depth for _, group in inner), default=0)
        if len(kinds) > 1:
            raise NameProblem("KME names and SAE ids in one group")
        if depth > limits.POLICY_GROUP_DEPTH:
            raise NameProblem(_TOO_DEEP)
        self._take_room(len(members) + sum(len(group.patterns) for _, group in inner))
        return Group(next(iter(kinds), None), self.opened(members), depth)

    def _inner(
        self, members: frozenset[str], within: tuple[str, ...]
    ) -> list[tuple[_Reference, Group]] | None:
        """The groups in a group; None where one of them cannot be opened."""
        found = []
        for pattern in sorted(members):
            reference = _reference(pattern)
            if reference is None:
                continue
            if reference.group not in self._written:
                raise NameProblem(self._unknown(reference))
            group = self._open(reference.group, within)
            if group is None:
                return None
            self._check_kind(reference, group, None)
            found.append((reference, group))
        return found

    def _unknown(self, reference: _Reference) -> str:
        hint = nearest(reference.group, self._written) or "; define it under [groups]"
        return f"there is no group '{reference.group}'{hint}"

    def _check_kind(self, reference: _Reference, group: Group, wanted: NameKind | None) -> None:
        if reference.local and group.kind is NameKind.SAE:
            raise NameProblem(f"group '{reference.group}' holds SAE ids already; write '@{reference.group}'")
        kind = reference.kind_of(group)
        if wanted is not None and kind is not None and kind is not wanted:
            hint = f"; '*@@{reference.group}' stands for all their SAEs" if wanted is NameKind.SAE else ""
            raise NameProblem(f"group '{reference.group}' holds {kind.value}{hint}")

    def _take_room(self, patterns: int) -> None:
        self._room -= patterns
        if self._room < 0:
            raise NameProblem(f"more than {limits.POLICY_PATTERNS} names once all groups are opened")
