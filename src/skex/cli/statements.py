"""How verifying commands show their statements."""

from __future__ import annotations

from collections.abc import Mapping

from skex.daemon.verifying.statements import Statement


def as_data(statement: Statement) -> Mapping[str, str]:
    """For ``--json``."""
    return {
        "check": statement.check,
        "verdict": statement.verdict.value,
        "sentence": statement.sentence,
    }


def as_text(statement: Statement) -> str:
    """One line for people."""
    return f"{statement.verdict.value:<6}  {statement.check}: {statement.sentence}"
