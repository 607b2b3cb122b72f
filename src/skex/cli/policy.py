"""``skex policy``: is a policy what it is meant to be, what does it decide, what does a change change."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from skex.base import codes, ids, limits
from skex.base.errors import LocalBug, Refused
from skex.base.ids import KmeName, SaeId, kme_of
from skex.cli import values
from skex.cli.common import Noun, result, settings
from skex.cli.files import read_bounded
from skex.cli.homes import any_config
from skex.cli.policy_home import HomeFacts, facts_of
from skex.cli.realm import read_realm
from skex.daemon.config import HUB_FILE, KME_FILE, HubConfig
from skex.policy import language
from skex.policy.asking import Answer, Asking, Request, Step, elsewhere
from skex.policy.decisions import Place
from skex.policy.difference import Change, Compared, Difference, compare
from skex.policy.evaluate import PolicySet, load
from skex.policy.review import Known, Remark, Severity, review
from skex.policy.rules import Direction, Role
from skex.wire.realm import Realm

_WRONG: Final = 3
"""The exit code that says: refused. The policy cannot be meant so, or the request would be refused."""
_SOURCE = click.Path(exists=True, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NAMES_FILE_BYTES: Final = 1024 * 1024


@click.group(cls=Noun)
def policy() -> None:
    """Policies: check a file, ask who may have which key and why, see what a change changes.

    Nothing here changes anything. A daemon takes in its policy file with skex hub reload and skex kme
    reload, whole or not at all.
    """


# ── what is asked about ─────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class _Subject:
    """A policy file, and the home that it is of, if it is of one."""

    path: Path
    data: bytes
    home: HomeFacts | None = None

    def policy(self) -> PolicySet:
        """Raises ``Refused`` (policy-syntax, policy-invalid)."""
        return load(self.data, str(self.path))

    def in_force(self) -> tuple[PolicySet, bool]:
        """The policy that decides here, and whether its lines are those of the file.

        A daemon tells the meaning of its policy in a spelling of its own, with lines that nobody has seen.
        """
        active = None if self.home is None else self.home.active
        if active is None:
            return self.policy(), True
        with suppress(Refused):
            written = self.policy()
            if written.digest == active.digest:
                return written, True
        return active, False


def _subject(source: Path | None) -> _Subject:
    """A policy file alone, or that of a home: a directory, or --home."""
    if source is not None and source.is_file():
        return _Subject(source, read_bounded(source, limits.POLICY_FILE_BYTES))
    if source is not None:
        if not any((source / name).is_file() for name in (HUB_FILE, KME_FILE)):
            raise Refused(codes.CONFIG_MISSING, f"neither {HUB_FILE} nor {KME_FILE} in {source}")
        settings().home = source
    config, _ = any_config()
    return _Subject(config.policy, read_bounded(config.policy, limits.POLICY_FILE_BYTES), facts_of(config))


def _realm(stated: Path | None, home: HomeFacts | None) -> Realm | None:
    if stated is not None:
        return read_realm(stated)
    return None if home is None else home.realm


_realm_option = click.option(
    "--realm", "realm_file", type=_FILE, metavar="FILE", help="The realm file; otherwise the home's."
)


# ── check ───────────────────────────────────────────────────────────────────────────────────────
@policy.command("check")
@click.argument("source", type=_SOURCE, required=False)
@click.option(
    "--names", type=_FILE, metavar="FILE", help="The names of all KMEs, one a line; otherwise the home's."
)
@_realm_option
def check(source: Path | None, names: Path | None, realm_file: Path | None) -> int:
    r"""Find what is wrong or odd in a policy: SOURCE is a file or a home; without it, --home is meant.

    \b
    error    syntax, unknown keys, limits that nothing can meet
    warning  rules that change nothing, rules that a deny contradicts, rules that never match, unknown names
    note     unused groups and aliases, rules that this kind of daemon does not read

    Ends with 3 if there is an error, otherwise with 0. What it says is certain; that several rules
    cover one together is not looked for.
    """
    subject = _subject(source)
    problems = language.problems_in(subject.data)
    if problems:
        mistake = {"severity": Severity.ERROR.value, "code": _mistake(subject)}
        remarks = [
            {"line": one.line, **mistake, "about": one.key or "file", "text": one.text} for one in problems
        ]
    else:
        known = _known(subject, names, realm_file)
        remarks = [_remark_data(one) for one in review(subject.policy().policy, known)]
    counts = {one.value: sum(remark["severity"] == one.value for remark in remarks) for one in Severity}
    data = {"file": str(subject.path), "counts": counts, "remarks": remarks}
    lines = [
        f"{subject.path}:{one['line']}: {one['severity']} ({one['code']}): {one['about']}: {one['text']}"
        for one in remarks
    ]
    closing = ", ".join(f"{number} {word}s" for word, number in counts.items())
    result(data, "\n".join([*lines, closing]))
    return _WRONG if counts[Severity.ERROR.value] else 0


def _mistake(subject: _Subject) -> str:
    """The code with which a daemon refuses the file."""
    try:
        language.parse(subject.data, subject.path.name)
    except Refused as error:
        return error.code.name
    raise LocalBug(codes.BAD_STATE, "a file with mistakes was read")


def _known(subject: _Subject, names: Path | None, realm_file: Path | None) -> Known:
    home = subject.home
    kmes = None if home is None else home.kmes
    if names is not None:
        lines = read_bounded(names, _NAMES_FILE_BYTES).decode("utf-8", "replace").split()
        kmes = frozenset(str(ids.parse_kme_name(line)) for line in lines)
    place = None
    if home is not None:
        place = Place.HUB if isinstance(home.config, HubConfig) else Place.KME
    return Known(kmes, None if home is None else home.own, place, _realm(realm_file, home))


def _remark_data(one: Remark) -> dict[str, Any]:
    return {
        "line": one.line,
        "severity": one.severity.value,
        "code": one.oddity.value,
        "about": one.about,
        "text": one.text,
    }


# ── test ────────────────────────────────────────────────────────────────────────────────────────
@policy.command("test")
@click.argument("source", type=_SOURCE, required=False)
@click.option("--from", "from_", required=True, metavar="NAME", help="The KME or SAE that wants new keys.")
@click.option("--to", required=True, metavar="NAME", help="The KME, or the SAE, for which they are.")
@click.option("--purpose", default="any", show_default=True, help="What an application wants them for.")
@click.option("--number", type=click.IntRange(1), default=1, show_default=True, help="Keys in one request.")
@click.option("--size", type=click.IntRange(1), default=32, show_default=True, help="Bytes of a key.")
@click.option("--lifetime", type=values.DURATION, help="A lifetime that is asked for.")
@click.option(
    "--role",
    type=click.Choice(["master", "slave", "both"]),
    default="both",
    show_default=True,
    help="Ask the master's KME, the slave's, or both.",
)
@_realm_option
def test(**asked: Any) -> int:
    r"""Say whether keys may be had, which rule decides, and why: at a hub, a KME, and for SAEs.

    \b
    Examples:
      skex policy test --from app@north --to app@south      what this home decides
      skex policy test policy.toml --from north --to south  what a file decides, wherever it is

    SOURCE is a file or a home; without it, --home is meant. A home that runs is asked for the policy in
    force; its answers are the daemon's. Ends with 3 if something is refused.
    """
    subject = _subject(asked["source"])
    home = subject.home
    current, has_lines = subject.in_force()
    asking = Asking(current, _realm(asked["realm_file"], home))
    answer = _answer(asking, home, asked)
    deciding = answer.deciding
    data = {
        "from": asked["from_"],
        "to": asked["to"],
        "policy": current.digest,
        "allowed": answer.allowed,
        "decided_by": None if deciding is None else _step_data(deciding, has_lines=has_lines),
        "steps": [_step_data(one, has_lines=has_lines) for one in answer.steps],
        "elsewhere": list(answer.elsewhere),
    }
    result(data, _answer_text(answer, subject.path if has_lines else None))
    return 0 if answer.allowed else _WRONG


def _answer(asking: Asking, home: HomeFacts | None, asked: Mapping[str, Any]) -> Answer:
    """Every step that this home takes; a file alone stands for every place of which it has rules."""
    master, slave = _sae(asking, asked["from_"]), _sae(asking, asked["to"])
    if (master is None) != (slave is None):
        raise click.UsageError("--from and --to are two KMEs, or two SAEs (name@kme)")
    sender = ids.parse_kme_name(asked["from_"]) if master is None else kme_of(master)
    receiver = ids.parse_kme_name(asked["to"]) if slave is None else kme_of(slave)
    request = Request(asked["purpose"], asked["number"], asked["size"], asked["lifetime"])
    steps: list[Step] = []
    if _asks(asking, home, "hub", None):
        steps += asking.hub(sender, receiver)
    if asked["role"] != Role.SLAVE.value and _asks(asking, home, "kme", sender):
        if master is not None and slave is not None:
            steps += asking.master(master, slave, request)
        else:
            steps += asking.kme(sender, receiver, Direction.TO_PEER, request)
    if asked["role"] != Role.MASTER.value and _asks(asking, home, "kme", receiver):
        if master is not None and slave is not None:
            steps += asking.slave(master, slave, request)
        else:
            steps += asking.kme(receiver, sender, Direction.FROM_PEER, request)
    saes = "" if master is None else f", and {master} with {slave}"
    return Answer(tuple(steps), elsewhere(sender, receiver, {one.asked_by for one in steps}, saes))


def _sae(asking: Asking, name: str) -> SaeId | None:
    """An SAE, also by an alias of this policy; None for a KME."""
    if "@" in name or any(alias.name == name for alias in asking.policy.policy.aliases):
        return asking.policy.sae.resolve(name)
    return None


def _asks(asking: Asking, home: HomeFacts | None, place: str, kme: KmeName | None) -> bool:
    """Whether this home decides there; of a file alone, whether it has rules for such a place."""
    if home is not None:
        is_hub = isinstance(home.config, HubConfig)
        return is_hub if place == "hub" else not is_hub and home.config.name == kme
    tables = {rule.table.partition(".")[0] for rule in asking.policy.policy.rules}
    return bool(tables & ({"hub"} if place == "hub" else {"kme", "sae"}))


def _step_data(step: Step, *, has_lines: bool) -> dict[str, Any]:
    decision = step.decision
    return {
        "asked_by": step.asked_by,
        "question": step.question,
        "allowed": decision.allowed,
        "place": decision.place.value,
        "rule": decision.rule,
        "line": decision.line if has_lines else None,
        "reason": decision.reason,
    }


def _answer_text(answer: Answer, file: Path | None) -> str:
    """``file`` is where the rules stand; None if they are in force, and the file says something else."""
    lines = []
    for step in answer.steps:
        decision = step.decision
        line = "" if decision.line is None or file is None else f", line {decision.line}"
        lines.append(f"{step.asked_by}: {step.question}")
        lines.append(f"    {'yes' if decision.allowed else 'NO'}: {decision.reason} ({decision.rule}{line})")
    deciding = answer.deciding
    if deciding is None:
        lines.append("Nothing of this is decided here.")
    else:
        verdict = "allowed" if answer.allowed else "refused"
        where = "the policy in force; the file says something else" if file is None else str(file)
        lines += ["", f"Here it is {verdict}, by {deciding.decision.rule} in {where}."]
    if answer.elsewhere:
        lines += ["Others decide, too:", *(f"  {one}" for one in answer.elsewhere)]
    return "\n".join(lines)


# ── diff ────────────────────────────────────────────────────────────────────────────────────────
@policy.command("diff")
@click.argument("old", type=_FILE, required=False)
@click.argument("new", type=_FILE, required=False)
def diff(old: Path | None, new: Path | None) -> None:
    r"""Say what another policy newly allows, no longer allows, and which limits change; not what text does.

    \b
    Examples:
      skex policy diff before.toml after.toml   two files
      skex policy diff after.toml               the home's policy and a file
      skex policy diff                          what the daemon has in force, and what is in its file

    A pattern stands for all the names of its form that no other rule treats apart.
    """
    if old is not None and new is not None:
        before, after, kmes, own = _file(old), _file(new), None, None
    else:
        subject = _subject(None)
        home = subject.home
        active = None if home is None else home.active
        if old is None and active is None:
            raise Refused(codes.DAEMON_REFUSED, "no daemon runs in this home: name two files, or start it")
        before = subject.policy() if active is None else active
        after = subject.policy() if old is None else _file(old)
        kmes, own = (None, None) if home is None else (home.kmes, home.own)
    compared = compare(before, after, kmes or (), own)
    data = {
        "before": before.digest,
        "after": after.digest,
        "complete": compared.complete,
        "differences": [
            {**dataclasses.asdict(one), "change": one.change.value} for one in compared.differences
        ],
    }
    result(data, _diff_text(compared))


def _file(path: Path) -> PolicySet:
    return load(read_bounded(path, limits.POLICY_FILE_BYTES), str(path))


def _diff_text(compared: Compared) -> str:
    heads = {
        Change.ALLOWED: "newly allowed",
        Change.FORBIDDEN: "no longer allowed",
        Change.LIMIT: "limits changed",
    }
    lines: list[str] = []
    for change, head in heads.items():
        found = [one for one in compared.differences if one.change is change]
        lines += [f"{head}:", *(f"  {_difference_text(one)}" for one in found)] if found else []
    if not compared.complete:
        lines.append("Not everything was compared: there are too many names.")
    return "\n".join(lines) if lines else "They decide everything alike."


def _difference_text(one: Difference) -> str:
    line = "" if one.line is None else f", line {one.line}"
    values_ = f": {one.before} -> {one.after}" if one.change is Change.LIMIT else ""
    who = f"{one.who} {one.towards}".strip()
    return f"{one.place}: {who}: {one.what}{values_} ({one.rule}{line})"
