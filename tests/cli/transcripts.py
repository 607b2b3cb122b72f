"""Runs commands as operators type them, and says what they answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from skex.cli import skex_command

PASSPHRASE = "correct horse battery staple"


@dataclass(frozen=True)
class Answer:
    code: int
    stdout: str
    stderr: str

    @property
    def data(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        document = json.loads(self.stdout)
        assert isinstance(document, dict)
        return document

    @property
    def error(self) -> dict[str, Any]:
        """The one JSON document on stderr."""
        assert self.stdout == ""
        error = json.loads(self.stderr)["error"]
        assert isinstance(error, dict)
        return error


def skex(*arguments: str | Path, stdin: str | None = None, env: dict[str, str] | None = None) -> Answer:
    outcome = CliRunner(env={"SKEX_HOME": None, **(env or {})}).invoke(
        skex_command, [str(one) for one in arguments], input=stdin, prog_name="skex"
    )
    return Answer(outcome.exit_code, outcome.stdout, outcome.stderr)


def done(*arguments: str | Path, **options: Any) -> dict[str, Any]:
    """The JSON result of a command that must succeed."""
    answer = skex(*arguments, "--json", **options)
    assert answer.code == 0, answer.stderr
    assert answer.stderr == ""
    return answer.data


def refused(*arguments: str | Path, **options: Any) -> tuple[int, str]:
    """Exit code and error code of a command that must fail."""
    answer = skex(*arguments, "--json", **options)
    assert answer.code == answer.error["exit_code"]
    return answer.code, answer.error["code"]
