"""``skex doctor``: what is wrong with this host and home, and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from skex.base import codes
from skex.base.errors import Refused
from skex.cli.admin import ask
from skex.cli.common import Unreachable, Verb, result
from skex.cli.homes import home
from skex.daemon.checks.checkup import examine
from skex.daemon.checks.findings import Finding, Level, Subject
from skex.runtime.auditfile import stamp

FAILED: Final = 4
"""The exit code that says: a home, or what is in it, is not what it must be."""
_MARKS: Final = {Level.OK: "ok  ", Level.WARN: "warn", Level.FAIL: "FAIL"}


@click.command("doctor", cls=Verb)
def doctor() -> int:
    """Examine this host and a home: files, store, pads, links, realm, clock, certificates, log.

    Changes nothing. A stopped daemon's store is read under the home's lock; a running daemon is asked
    through its admin socket. Ends with 0 if nothing fails, warnings or not, and with 4 otherwise.
    """
    directory = home()

    def status() -> Mapping[str, Any]:
        try:
            return ask(directory, "status")
        except Unreachable as error:
            raise Refused(codes.DAEMON_REFUSED, error.format_message()) from error

    findings = examine(Subject(directory, stamp(), status))
    worst = {finding.level for finding in findings}
    counts = {level.value: sum(one.level is level for one in findings) for level in Level}
    data = {
        "home": str(directory),
        "healthy": Level.FAIL not in worst,
        "counts": counts,
        "checks": [_as_json(one) for one in findings],
    }
    result(data, "\n".join([*map(_as_text, findings), _closing(counts)]))
    return FAILED if Level.FAIL in worst else 0


def _as_json(finding: Finding) -> Mapping[str, str]:
    return {
        "check": finding.check,
        "level": finding.level.value,
        "sentence": finding.sentence,
        "mend": finding.mend,
    }


def _as_text(finding: Finding) -> str:
    line = f"{_MARKS[finding.level]}  {finding.check}: {finding.sentence}"
    return f"{line}\n      mend: {finding.mend}" if finding.mend else line


def _closing(counts: Mapping[str, int]) -> str:
    if counts[Level.FAIL.value]:
        return f"\n{counts['fail']} checks fail, {counts['warn']} warn."
    return f"\nNothing fails; {counts['warn']} checks warn."
