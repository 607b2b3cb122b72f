"""How verifying commands show their statements."""

from __future__ import annotations

from collections.abc import Mapping

from skex.daemon.verifying.statements import Statement


def as_data(statement: Statement) -> Mapping[str, str]:
    """For ``--json``."""
    data = {
        "check": statement.check,
        "verdict": statement.verdict.value,
        "sentence": statement.sentence,
    }
    return {**data, "code": statement.code} if statement.code else data


def as_text(statement: Statement) -> str:
    """One line for people."""
    return f"{statement.verdict.value:<6}  {statement.check}: {statement.sentence}"
