"""``skex audit``: read audit logs, check that they are whole, take the key of their seals."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from skex.audit import syslog
from skex.audit.chain import Head, Problem, Record
from skex.audit.events import all_kinds
from skex.audit.log import Audit
from skex.audit.seals import SealingKey
from skex.base import codes
from skex.base.errors import Refused, StoreFault
from skex.cli.admin import ask
from skex.cli.beside import require_daemon
from skex.cli.common import Noun, Unreachable, result, settings, table, talk
from skex.cli.files import PRIVATE, new_file
from skex.cli.homes import any_config, home
from skex.cli.statements import as_data, as_text
from skex.cli.values import Parsed
from skex.daemon import auditing, exporting
from skex.daemon.enrolment import open_log
from skex.daemon.evidence import operator
from skex.daemon.verifying import logs
from skex.daemon.verifying.logs import Evidence, Log
from skex.daemon.verifying.statements import Verdict

FAILED: Final = 4
"""The exit code that says: a log does not verify, or two contradict each other."""
_LAST: Final = 20
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


_HOMES = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(cls=Noun)
def audit() -> None:
    """Audit logs: what happened, and whether the record of it is whole.

    show, verify and export only read, also beside a running daemon, and take several homes at once. A
    directory of segments that were moved away may stand for a home.
    """


_events = click.option(
    "--event",
    "names",
    multiple=True,
    type=click.Choice([kind.name for kind in all_kinds()]),
    metavar="NAME",
    help="Only events of this kind; may be repeated.",
)
_about = click.option(
    "--about", metavar="TEXT", help="Only records whose actor, subjects or details hold TEXT."
)


@audit.command("show")
@click.argument("homes", nargs=-1, type=_HOMES, metavar="[HOME]...")
@click.option("--last", type=click.IntRange(1), metavar="N", help=f"The last N records.  [default: {_LAST}]")
@click.option("--all", "everything", is_flag=True, help="Every record.")
@_events
@_about
def show(
    *, homes: tuple[Path, ...], last: int | None, everything: bool, names: tuple[str, ...], about: str | None
) -> int:
    r"""Show records, of several homes in the order of their wall clocks.

    \b
    Examples:
      skex audit show --home /var/lib/skex --last 50
      skex audit show hub-1 north south --event keys-delivered --all

    Ends with 4 if a log does not verify (skex audit verify says where); its records are shown all the same.
    """
    if everything and last is not None:
        raise click.UsageError("--all and --last exclude each other.")
    checked = _checked(homes, Evidence())
    found: deque[tuple[Log, Record]] = deque(maxlen=None if everything else last or _LAST)
    rows = ((log, record) for log in checked for record, line in logs.records_of(log.directory))
    chosen = (
        row for row in rows if (not names or row[1].event in names) and exporting.is_about(row[1], about)
    )
    # Each log stands in its own order: where two records have the same time, the first log's comes first.
    found.extend(sorted(chosen, key=lambda row: row[1].time) if len(checked) > 1 else chosen)
    for log in checked:
        if log.report.problem is not None:
            talk(f"{log.home}: the log does not verify: {log.report.problem}")
    data = {
        "sound": all(log.report.is_sound for log in checked),
        "records": [{"home": str(log.home), **_record_data(record)} for log, record in found],
    }
    result(data, table([_row(log, record, many=len(checked) > 1) for log, record in found]))
    return 0 if data["sound"] else FAILED


@audit.command("verify")
@click.argument("homes", nargs=-1, type=_HOMES, metavar="[HOME]...")
@click.option(
    "--head",
    type=Parsed("head", Head.parse),
    metavar="SEQUENCE:DIGEST",
    help="A head that was noted earlier: the log of the one home must contain that very record.",
)
@click.option(
    "--key",
    "key_files",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="The log's key, from skex audit key: its seals must be genuine. May be repeated.",
)
def verify(*, homes: tuple[Path, ...], head: Head | None, key_files: tuple[Path, ...]) -> int:
    r"""Check that logs are whole: nothing missing, changed, repeated, moved, cut off or put back.

    \b
    Examples:
      skex audit verify --home /var/lib/skex
      skex audit verify --home /var/lib/skex --key south.auditkey
      skex audit verify hub-1 hub-2 hub-3 north south --json

    Names the first line that cannot be relied on, and says what cannot be told from here. Over several
    logs it also finds keys that were delivered twice, and logs that are copies of each other. With
    --key it proves everything up to the last seal, also if somebody has had the machine since. Ends
    with 0 if nothing is wrong, with 4 otherwise.
    """
    if (head is not None or key_files) and len(homes) > 1:
        raise click.UsageError("--head and --key belong to one home.")
    checked = _checked(homes, Evidence(head, tuple(map(_read_key, key_files)), remembered))
    statements = logs.compare(checked)
    is_sound = all(log.is_sound for log in checked)
    is_sound = is_sound and all(one.verdict is not Verdict.WRONG for one in statements)
    lines = [line for log in checked for line in _log_lines(log)] + [as_text(one) for one in statements]
    data = {
        "sound": is_sound,
        "logs": [_log_data(log) for log in checked],
        "together": [as_data(one) for one in statements],
    }
    result(data, "\n".join(lines))
    return 0 if is_sound else FAILED


def _checked(homes: Sequence[Path], evidence: Evidence) -> list[Log]:
    return [logs.check(one, evidence) for one in dict.fromkeys(homes or (home(),))]


def remembered(asked: Path) -> str | None:
    """What the daemon in a home says; None if it is no daemon that uses the home."""
    with suppress(Unreachable):
        return ask(asked, "audit")["remembered"]  # type: ignore[no-any-return]  # a text or null
    return None


def _read_key(file: Path) -> SealingKey:
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(codes.AUDIT_KEY_INVALID, str(file)) from error
    return SealingKey.from_text(text)


# ── export ──────────────────────────────────────────────────────────────────────────────────────
@audit.command("export")
@click.argument("directory", required=False, type=_HOMES, metavar="[HOME]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "syslog"]),
    default="jsonl",
    show_default=True,
    help="The lines of the log themselves, or RFC 5424 messages.",
)
@click.option("--from-sequence", type=click.IntRange(1), metavar="N", help="Begin with record N.")
@click.option("--follow", is_flag=True, help="Go on with what is written, until interrupted.")
@_events
@_about
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="A new file.")
@click.option(
    "--enterprise",
    type=click.IntRange(0, syslog.ENTERPRISE_MAX),
    default=syslog.ENTERPRISE,
    show_default=True,
    metavar="NUMBER",
    help="The private enterprise number in the structured data of RFC 5424.",
)
def export(*, directory: Path | None, form: str, enterprise: int, out: Path | None, **wanted: Any) -> int:
    r"""Write records one to a line, for a log collector.

    \b
    Examples:
      skex audit export --home /var/lib/skex > all.jsonl
      skex audit export --home /var/lib/skex --format syslog --from-sequence 4711 --follow | forwarder

    jsonl are the lines of the log as they are, so that what collects them can verify their chain.
    syslog are RFC 5424 messages, ended by line feeds. To resume, begin with the number behind the last
    one that arrived. Lines that are no records are left out and counted; then it ends with 4.
    """
    chosen = exporting.Wanted(
        first=wanted["from_sequence"],
        follow=wanted["follow"],
        names=frozenset(wanted["names"]),
        about=wanted["about"],
    )
    export_of = exporting.Export(directory or home(), chosen)
    with _written(out) as write:
        for record, line in export_of.records():
            is_syslog = form == "syslog"
            text = syslog.message(record, export_of.owner, enterprise).encode() if is_syslog else line
            write(text + b"\n")
    if export_of.skipped:
        talk(f"{export_of.skipped} lines are no records; skex audit verify says more.")
        return FAILED
    return 0


@contextmanager
def _written(out: Path | None) -> Iterator[Callable[[bytes], None]]:
    """Where an export goes; whoever reads stdout may leave at any time."""
    if out is not None:
        with new_file(out, PRIVATE) as new:
            yield new.write
            new.sync()
        return
    with suppress(BrokenPipeError):
        yield lambda data: click.echo(data, nl=False)


# ── seals ───────────────────────────────────────────────────────────────────────────────────────
@audit.command("key")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="A new file.")
@click.option("--renew", is_flag=True, help="Begin a new series of seals, with a key of its own.")
def key(*, out: Path | None, renew: bool) -> None:
    r"""Take the key that proves this log's seals, once, and begin to seal.

    \b
    Examples:
      skex audit key --home /var/lib/skex --out /media/auditor/south.auditkey
      skex audit verify --home /var/lib/skex --key /media/auditor/south.auditkey

    Keep it off this machine: whoever has it can forge seals, whoever lost it can prove nothing. It is
    erased here as soon as it is handed out; from then on the log is sealed every ten minutes and at
    each stop. Without --out it goes to stdout. If it is lost, --renew begins anew: the next key proves
    what is written from then on.
    """
    if out is None:
        _show_key(_taken(renew=renew), None)
        return
    with new_file(out, PRIVATE) as file:
        answer = _taken(renew=renew)
        try:
            file.write(answer["key"].encode("ascii"))
            file.sync()
        except OSError as error:
            detail = f"{out}: {error.strerror}; the key is lost: use --renew"
            raise StoreFault(codes.FILE_IO, detail) from error
    _show_key(answer, out)


def _show_key(answer: Mapping[str, Any], out: Path | None) -> None:
    talk("Keep this key off this machine. It is erased here; the log is sealed from now on.")
    data = {"series": answer["series"], "file": None if out is None else str(out)}
    if out is None:
        result({**data, "key": answer["key"]}, answer["key"].rstrip("\n"))
    else:
        result(data, f"{out}")


@audit.command("seal")
def seal() -> None:
    """Seal the log now, up to its last record, such as before somebody else gets at the machine."""
    with _locally() as at_hand:
        answer = (
            ask(settings().socket or home(), "audit-seal", {})
            if at_hand is None
            else auditing.sealed(at_hand.audit)
        )
    if not answer["taken"]:
        raise Refused(codes.AUDIT_KEY_UNTAKEN)
    result(dict(answer), f"sealed up to record {answer['head'].partition(':')[0]}")


def _taken(*, renew: bool) -> Mapping[str, Any]:
    with _locally() as at_hand:
        if at_hand is None:
            return ask(settings().socket or home(), "audit-key", {"renew": renew})
        return auditing.taken_key(at_hand.audit, operator(), at_hand.owner, renew=renew)


@dataclass(frozen=True, slots=True)
class _AtHand:
    """The log of a home in which no daemon runs."""

    audit: Audit
    owner: str


@contextmanager
def _locally() -> Iterator[_AtHand | None]:
    """The log of a stopped daemon's home; None while one runs in it."""
    if settings().socket is not None:
        yield None
        return
    config, _ = any_config()
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(open_log(config))
        except StoreFault as fault:
            require_daemon(config.home, fault)
            opened = None
        yield None if opened is None else _AtHand(opened, auditing.owner_word(config))


# ── records ─────────────────────────────────────────────────────────────────────────────────────
def _record_data(record: Record) -> Mapping[str, Any]:
    return {
        "sequence": record.sequence,
        "time": record.time,
        "event": record.event,
        "actor": record.actor,
        "second": record.second,
        "subjects": {kind: list(ids) for kind, ids in record.subjects.items()},
        "verdict": record.verdict,
        "rule": record.rule,
        "policy": record.policy,
        "cause": record.cause,
        "details": dict(record.details),
    }


def _row(log: Log, record: Record, *, many: bool) -> tuple[str, ...]:
    subjects = " ".join(f"{kind}:{one}" for kind, ids in record.subjects.items() for one in ids)
    details = " ".join(f"{name}={value}" for name, value in record.details.items())
    rule = f"by {record.rule}" if record.rule else ""
    words = (record.verdict, rule, record.cause, subjects, details)
    where = (log.home.name,) if many else ()
    told = " ".join(word for word in words if word)
    return (*where, str(record.sequence), record.time, record.event, record.actor, told)


# ── logs ────────────────────────────────────────────────────────────────────────────────────────
def _log_data(log: Log) -> Mapping[str, Any]:
    report = log.report
    return {
        "home": str(log.home),
        "directory": str(log.directory),
        "sound": log.is_sound,
        "statements": [as_data(one) for one in log.statements],
        "seals": {
            "in_log": log.seals.seals,
            "verified": log.seals.verified,
            "sealed_to": log.seals.sealed_to,
            "sealed_at": log.seals.sealed_at,
        },
        "records": report.records,
        "first": report.started_at,
        "head": str(report.head),
        "recoveries": [
            {"segment": one.segment, "line": one.line, "torn_bytes": one.torn_bytes}
            for one in report.recoveries
        ],
        "problem": None if report.problem is None else _problem_data(report.problem),
    }


def _problem_data(problem: Problem) -> Mapping[str, Any]:
    return {
        "segment": problem.segment,
        "line": problem.line,
        "fault": problem.fault.value,
        "reason": problem.reason,
    }


def _log_lines(log: Log) -> Iterator[str]:
    report = log.report
    if report.problem is not None:
        verdict, said = Verdict.WRONG, str(report.problem)
    elif report.records:
        verdict, said = Verdict.PROVED, f"{report.records} records are whole"
    else:
        # Nothing here tells a home that never ran from one whose log was taken away.
        verdict, said = Verdict.UNSEEN, "there is no record, so nothing is proved"
    yield f"{verdict.value:<6}  {log.home}: {said}."
    for one in report.recoveries:
        yield f"        {one.segment} line {one.line}: {one.torn_bytes} bytes that a crash tore, recovered."
    yield from (as_text(one) for one in log.statements)
    yield f"        head {report.head}"
