"""Reads policy files, with every mistake named, and writes policies back in one canonical form.

Total: any bytes give a policy or problems. Unknown tables, keys, words and groups are mistakes, so
that a misspelt rule never silently means nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from skex.base import codes, ids, limits
from skex.base.errors import Refused
from skex.policy import names, schema
from skex.policy.groups import Groups
from skex.policy.positions import Lines, Path
from skex.policy.rules import Alias, NamedGroup, OperatorRole, OperatorRule, Policy, Rule
from skex.policy.schema import REQUIRED, Key, Table
from skex.policy.wording import nearest, quoted, shown

_AT_LINE: Final = re.compile(r"\(at line ([0-9]+), column [0-9]+\)")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED: Final = re.compile(r"\"[^\"]*\"|'[^']*'")
_LINE_DOTS: Final = 32
"""Dots outside of quotes on one line: no key of the language has more than one."""
_TOP: Final = ("version", "groups", "aliases", "hub", "kme", "sae", "operator")
_ID_BYTES: Final = 5
"""Of a digest that names a rule: a policy would need a million unnamed rules for two to be alike."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: on which line (from 1), under which dotted key, and what is wrong with it."""

    line: int
    key: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: " + (f"{self.key}: " if self.key else "") + self.text


class _Unreadable(Exception):
    """Not TOML at all."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Enough(Exception):
    """As many mistakes were found as are told."""


# ── reading ─────────────────────────────────────────────────────────────────────────────────────
def parse(data: bytes, file: str) -> Policy:
    """Read a policy. ``file`` is its name for messages.

    Raises ``Refused``: policy-syntax, policy-invalid; the detail names the file and every mistake.
    """
    try:
        policy, problems = _read(data)
    except _Unreadable as error:
        raise Refused(codes.POLICY_SYNTAX, f"{file}: {error.problem}") from error
    if policy is None or problems:
        raise Refused(codes.POLICY_INVALID, "; ".join(f"{file}: {problem}" for problem in problems))
    return policy


def problems_in(data: bytes) -> tuple[Problem, ...]:
    """The mistakes of a policy file, up to POLICY_PROBLEMS, in the order of their lines."""
    try:
        return _read(data)[1]
    except _Unreadable as error:
        return (error.problem,)


def _read(data: bytes) -> tuple[Policy | None, tuple[Problem, ...]]:
    text = _text(data)
    reader = _Reader(_toml(text), Lines(text))
    policy = None
    with contextlib.suppress(_Enough):
        policy = reader.policy()
    return policy, tuple(sorted(reader.problems, key=lambda one: one.line))


def _text(data: bytes) -> str:
    if len(data) > limits.POLICY_FILE_BYTES:
        raise _Unreadable(Problem(1, "", f"{len(data)} bytes; at most {limits.POLICY_FILE_BYTES} are read"))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Unreadable(Problem(data[: error.start].count(b"\n") + 1, "", "not UTF-8 text")) from error


def _check_dots(text: str) -> None:
    """Refuse keys of very many parts before the TOML parser sees them: its effort is their square."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > _LINE_DOTS and _QUOTED.sub("", line).partition("#")[0].count(".") > _LINE_DOTS:
            raise _Unreadable(Problem(number, "", "a key of more parts than any has"))


def _toml(text: str) -> dict[str, Any]:
    _check_dots(text)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise _Unreadable(Problem(1, "", "nested too deeply")) from error
    except ValueError as error:  # a number of too many digits is one that is no TOMLDecodeError
        message = str(error)
        at = _AT_LINE.search(message)
        line = int(at[1]) if at else text.count("\n") + 1
        what = _AT_LINE.sub("", message).replace("(at end of document)", "at the end of the file").strip()
        raise _Unreadable(Problem(line, "", shown(what)[1:-1])) from error


class _Reader:
    """One file on its way from TOML to rules; collects what is wrong and goes on."""

    def __init__(self, root: dict[str, Any], lines: Lines) -> None:
        self._root = root
        self._lines = lines
        self.problems: list[Problem] = []
        self._groups = Groups({})

    def policy(self) -> Policy:
        """The policy; it means nothing if there are ``problems``."""
        self._unknown(self._root, dict.fromkeys(_TOP), ())
        self._version()
        groups = self._read_groups()
        found: list[Rule] = []
        for place in schema.SETTINGS:
            found += self._place(place)
        self._names_once(found)
        self._roles_known(found)
        return Policy(
            control_floor_bytes=self._setting("hub", schema.CONTROL_FLOOR),
            groups=groups,
            aliases=self._aliases(),
            rules=tuple(sorted(found, key=lambda rule: (rule.table, rule.id))),
        )

    # ── what is wrong ───────────────────────────────────────────────────────────────────────────
    def _wrong(self, path: Path, text: str) -> None:
        self._add(Problem(self._lines[path], dotted(path), text))

    def _add(self, problem: Problem) -> None:
        self.problems.append(problem)
        if len(self.problems) >= limits.POLICY_PROBLEMS:
            raise _Enough

    def _unknown(self, table: Mapping[str, Any], known: Mapping[str, Any], path: Path) -> None:
        for key in table:
            if key not in known:
                hint = nearest(key, known) or f"; known here: {', '.join(known) or 'nothing'}"
                self._wrong((*path, key), f"unknown key{hint}")

    def _table(self, path: Path) -> dict[str, Any]:
        """A table, empty where the file has none."""
        value: Any = self._root
        for part in path:
            value = value.get(part, {}) if type(value) is dict else {}
        if type(value) is dict:
            return value
        self._wrong(path, f"must be a table, not {shown(value)}")
        return {}

    def _value(self, key: Key, table: Mapping[str, Any], path: Path) -> Any:
        if key.name not in table:
            if key.default is REQUIRED:
                self._wrong(path, f"{quoted(key.name)} is missing: {key.meaning}")
            return key.default
        try:
            return key.kind.read(table[key.name])
        except schema.Problem as problem:
            where = (*path, key.name) if problem.index is None else (*path, key.name, problem.index)
            self._wrong(where, str(problem))
            return key.default

    # ── the parts of a file ─────────────────────────────────────────────────────────────────────
    def _version(self) -> None:
        version = self._root.get("version")
        if version is None:
            self._wrong((), f"version is missing: write 'version = {schema.VERSION}' on the first line")
        elif type(version) is not int or version != schema.VERSION:
            self._wrong(("version",), f"this skex reads version {schema.VERSION}, not {shown(version)}")

    def _setting(self, place: str, key: Key) -> Any:
        return self._value(
            key, self._table((place,)) if type(self._root.get(place)) is dict else {}, (place,)
        )

    def _place(self, place: str) -> Iterator[Rule]:
        content = self._table((place,))
        tables = {
            name.partition(".")[2]: table
            for name, table in schema.TABLES.items()
            if name.startswith(f"{place}.")
        }
        settings = {key.name: key for key in schema.SETTINGS[place]}
        self._unknown(content, {**tables, **settings}, (place,))
        for name, table in tables.items():
            yield from self._rules(table, content.get(name, []), (place, name))

    def _rules(self, table: Table, written: Any, path: Path) -> Iterator[Rule]:
        if type(written) is not list:
            self._wrong(path, f"every rule starts with [[{table.name}]], in two brackets")
            return
        for index, one in enumerate(written):
            where = (*path, index)
            if type(one) is dict:
                yield from self._rule(table, one, where)
            else:
                self._wrong(where, f"must be a table that starts with [[{table.name}]]")

    def _rule(self, table: Table, written: dict[str, Any], path: Path) -> Iterator[Rule]:
        before = len(self.problems)
        self._unknown(written, {key.name: key for key in table.keys}, path)
        values = {key: self._value(key, written, path) for key in table.keys}
        if len(self.problems) == before:
            self._check_groups(table, values, path)
            objection = table.objection({key.name: value for key, value in values.items()})
            if objection:
                self._wrong(path, objection)
        if len(self.problems) == before:
            yield _make(table, values, self._lines[path])

    def _check_groups(self, table: Table, values: Mapping[Key, Any], path: Path) -> None:
        for key, patterns in values.items():
            if key.kind in {schema.KME_NAMES, schema.SAE_NAMES}:
                for text in self._groups.objections(patterns, table.groups):
                    self._wrong((*path, key.name), text)

    def _names_once(self, found: Iterable[Rule]) -> None:
        seen: set[str] = set()
        for rule in sorted(found, key=lambda rule: rule.line):
            if rule.name and rule.id in seen:
                self._add(Problem(rule.line, rule.table, f"a second rule named {rule.name!r}"))
            seen.add(rule.id)

    def _roles_known(self, found: Iterable[Rule]) -> None:
        known = {*schema.ROLES, *(rule.name for rule in found if isinstance(rule, OperatorRole))}
        for rule in found:
            for role in sorted(rule.roles - known) if isinstance(rule, OperatorRule) else ():
                hint = nearest(role, known) or "; define it with [[operator.role]]"
                self._add(Problem(rule.line, f"{rule.table}.roles", f"there is no role {shown(role)}{hint}"))

    def _aliases(self) -> tuple[Alias, ...]:
        found = []
        for name, sae in self._table(("aliases",)).items():
            path = ("aliases", name)
            try:
                schema.check_alias(name)
                found.append(
                    Alias(name, ids.parse_sae_id(sae if type(sae) is str else ""), self._lines[path])
                )
            except names.NameProblem as problem:
                self._wrong(path, str(problem))
            except Refused:
                self._wrong(path, f"must be an SAE id, name@kme, not {shown(sae)}")
        return tuple(sorted(found, key=lambda alias: alias.name))

    def _read_groups(self) -> tuple[NamedGroup, ...]:
        found = self._table(("groups",))
        written = {name: self._group_members(name, members) for name, members in found.items()}
        self._groups = Groups(written)
        for name, text in self._groups.problems:
            self._wrong(("groups", name), text)
        return tuple(
            NamedGroup(name, members, self._lines["groups", name])
            for name, members in sorted(written.items())
            if members is not None
        )

    def _group_members(self, name: str, members: Any) -> frozenset[str] | None:
        path = ("groups", name)
        if not names.is_name(name):
            self._wrong(path, f"names of groups are {names.NAME_FORM}")
        elif type(members) is not list:
            self._wrong(path, f"must be a list of names, not {shown(members)}")
        else:
            before = len(self.problems)
            for index, member in enumerate(members):
                self._check_member(member, (*path, index))
            if len(self.problems) == before:
                return frozenset(members)
        return None

    def _check_member(self, member: Any, path: Path) -> None:
        if type(member) is not str:
            self._wrong(path, f"must be a name, not {shown(member)}")
            return
        try:
            names.check_member(member)
        except names.NameProblem as problem:
            self._wrong(path, f"{shown(member)}: {problem}")


def _make(table: Table, values: Mapping[Key, Any], line: int) -> Rule:
    name = next(value for key, value in values.items() if key.name == schema.NAME.name)
    said = {key: value for key, value in values.items() if key.name != schema.NAME.name}
    if name:
        rule_id = f"{table.name}.{name}"
    else:
        text = _rule_text(table, said)
        rule_id = f"{table.name}#{hashlib.sha512(text.encode()).hexdigest()[: 2 * _ID_BYTES]}"
    fields = {key.attribute: value for key, value in said.items()}
    return table.make(table=table.name, name=name, id=rule_id, line=line, **fields)


def dotted(path: Path) -> str:
    """A path as people write it; elements of lists count from 1."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += ("." if text else "") + _key_text(part)
    return text


def _key_text(key: str) -> str:
    if _BARE_KEY.fullmatch(key) and len(key) <= limits.POLICY_ALIAS_CHARACTERS:
        return key
    return shown(key).replace("'", '"')


# ── writing ─────────────────────────────────────────────────────────────────────────────────────
def render(policy: Policy) -> str:
    """The policy in its canonical form: sorted, without comments, without what is the default."""
    parts = [f"version = {schema.VERSION}\n"]
    if policy.groups:
        parts.append(_plain_table("groups", {group.name: _list(group.members) for group in policy.groups}))
    if policy.aliases:
        parts.append(_plain_table("aliases", {alias.name: quoted(alias.sae) for alias in policy.aliases}))
    floor = schema.CONTROL_FLOOR
    if policy.control_floor_bytes != floor.default:
        parts.append(_plain_table("hub", {floor.name: floor.kind.write(policy.control_floor_bytes)}))
    for rule in policy.rules:
        table = schema.TABLES[rule.table]
        values = {key: getattr(rule, key.attribute) for key in table.keys if key.name != schema.NAME.name}
        parts.append(_rule_text(table, {schema.NAME: rule.name, **values}))
    return "\n".join(parts)


def digest(policy: Policy) -> str:
    """SHA-512 of the canonical form, in hex: the policy's version in audit records."""
    return hashlib.sha512(render(policy).encode()).hexdigest()


def _rule_text(table: Table, values: Mapping[Key, Any]) -> str:
    lines = [
        f"{key.name} = {key.kind.write(value)}\n" for key, value in values.items() if value != key.default
    ]
    return f"[[{table.name}]]\n{''.join(lines)}"


def _plain_table(name: str, content: Mapping[str, str]) -> str:
    lines = [f"{quoted(key)} = {value}\n" for key, value in content.items()]
    return f"[{name}]\n{''.join(lines)}"


def _list(members: Iterable[str]) -> str:
    return f"[{', '.join(quoted(member) for member in sorted(members))}]"
