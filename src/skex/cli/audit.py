"""``skex audit``: read audit logs, and check that they are whole. Nothing is ever written."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from skex.audit.chain import Head, Problem, Record
from skex.audit.events import all_kinds
from skex.cli.common import Noun, result, table, talk
from skex.cli.homes import home
from skex.cli.statements import as_data, as_text
from skex.cli.values import Parsed
from skex.daemon.verifying import logs
from skex.daemon.verifying.logs import Log
from skex.daemon.verifying.statements import Verdict

FAILED: Final = 4
"""The exit code that says: a log does not verify, or two contradict each other."""
_HEAD: Final = re.compile(r"([1-9][0-9]{0,18}):([0-9a-f]{128})")
_LAST: Final = 20


def _head(text: str) -> Head:
    match = _HEAD.fullmatch(text)
    if match is None:
        raise ValueError("must be SEQUENCE:DIGEST, as skex audit verify --json prints it")
    return Head(int(match[1]), match[2])


_HOMES = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(cls=Noun)
def audit() -> None:
    """Audit logs: what happened, and whether the record of it is whole.

    Both verbs only read, also beside a running daemon, and take several homes at once. A directory of
    segments that were moved away may stand for a home.
    """


@audit.command("show")
@click.argument("homes", nargs=-1, type=_HOMES, metavar="[HOME]...")
@click.option("--last", type=click.IntRange(1), metavar="N", help=f"The last N records.  [default: {_LAST}]")
@click.option("--all", "everything", is_flag=True, help="Every record.")
@click.option(
    "--event",
    "names",
    multiple=True,
    type=click.Choice([kind.name for kind in all_kinds()]),
    metavar="NAME",
    help="Only events of this kind; may be repeated.",
)
@click.option("--about", metavar="TEXT", help="Only records whose actor, subjects or details hold TEXT.")
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
    checked = _checked(homes, None)
    found: deque[tuple[Log, Record]] = deque(maxlen=None if everything else last or _LAST)
    rows = ((log, record) for log in checked for record, line in logs.records_of(log.directory))
    chosen = (row for row in rows if (not names or row[1].event in names) and _is_about(row[1], about))
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
    type=Parsed("head", _head),
    metavar="SEQUENCE:DIGEST",
    help="A head that was noted earlier: the log of the one home must contain that very record.",
)
def verify(*, homes: tuple[Path, ...], head: Head | None) -> int:
    r"""Check that logs are whole: nothing missing, changed, repeated or moved.

    \b
    Examples:
      skex audit verify --home /var/lib/skex
      skex audit verify hub-1 hub-2 hub-3 north south --json

    Names the first line that cannot be relied on. Over several logs it also finds keys that were
    delivered twice, and logs that are copies of each other. Ends with 0 if all is well, with 4
    otherwise. Note the head that it prints somewhere else: only against it a log that was cut off, or
    written anew from its beginning, shows.
    """
    if head is not None and len(homes) > 1:
        raise click.UsageError("--head belongs to one home.")
    checked = _checked(homes, head)
    statements = logs.compare(checked)
    is_sound = all(log.report.is_sound for log in checked)
    is_sound = is_sound and all(one.verdict is not Verdict.WRONG for one in statements)
    lines = [line for log in checked for line in _log_lines(log)] + [as_text(one) for one in statements]
    data = {
        "sound": is_sound,
        "logs": [_log_data(log) for log in checked],
        "together": [as_data(one) for one in statements],
    }
    result(data, "\n".join(lines))
    return 0 if is_sound else FAILED


def _checked(homes: Sequence[Path], head: Head | None) -> list[Log]:
    return [logs.check(one, head) for one in dict.fromkeys(homes or (home(),))]


# ── records ─────────────────────────────────────────────────────────────────────────────────────
def _is_about(record: Record, text: str | None) -> bool:
    if text is None:
        return True
    ids = [one for found in record.subjects.values() for one in found]
    return any(
        text in one for one in (record.actor, record.second, record.cause, *ids, str(dict(record.details)))
    )


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
    words = (record.verdict, record.cause, subjects, details)
    where = (log.home.name,) if many else ()
    told = " ".join(word for word in words if word)
    return (*where, str(record.sequence), record.time, record.event, record.actor, told)


# ── logs ────────────────────────────────────────────────────────────────────────────────────────
def _log_data(log: Log) -> Mapping[str, Any]:
    report = log.report
    return {
        "home": str(log.home),
        "directory": str(log.directory),
        "sound": report.is_sound,
        "records": report.records,
        "first": report.started_at,
        "head": f"{report.head.sequence}:{report.head.digest}",
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
    if report.started_at > 1:
        yield f"        It begins with record {report.started_at}; older segments are elsewhere."
    for one in report.recoveries:
        yield f"        {one.segment} line {one.line}: {one.torn_bytes} bytes that a crash tore, recovered."
    yield f"        head {report.head.sequence}:{report.head.digest}"
