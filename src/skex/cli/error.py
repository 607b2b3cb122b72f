"""``skex error``: what a code means, what follows from it, and what to do."""

from __future__ import annotations

import difflib
from typing import Any

import click

from skex.base import codes
from skex.base.errors import ErrorCode, Family
from skex.cli.common import Noun, exit_code, result, table


@click.group(cls=Noun)
def error() -> None:
    """Error codes: what each means, its effect, its remedy. docs/errors.md is the whole book."""


@error.command("show")
@click.argument("code")
def show(code: str) -> None:
    r"""Explain CODE, as it stands in an answer, a log, an audit record or a metric.

    \b
    Example:
      skex error show pad-exhausted
    """
    known = {one.name: one for one in codes.all_codes()}
    found = known.get(code)
    if found is None:
        near = difflib.get_close_matches(code, known, n=3)
        meant = f" Did you mean {' or '.join(near)}?" if near else " 'skex error list' lists all."
        raise click.BadParameter(f"there is no code {code!r}.{meant}", param_hint="CODE")
    rows = [
        ("code", found.name),
        ("cause", found.sentence),
        ("effect", found.effect),
        ("remedy", found.hint),
        ("exit code", f"{exit_code(found)} ({found.family.value})"),
    ]
    result(_as_data(found), table(rows))


@error.command("list")
@click.option(
    "--family", type=click.Choice([one.value for one in Family]), help="Only the codes of a family."
)
def list_(family: str | None) -> None:
    """List every code with its cause."""
    found = [one for one in codes.all_codes() if family in (None, one.family.value)]
    result({"codes": [_as_data(one) for one in found]}, table([(one.name, one.sentence) for one in found]))


def _as_data(code: ErrorCode) -> dict[str, Any]:
    return {
        "code": code.name,
        "family": code.family.value,
        "cause": code.sentence,
        "effect": code.effect,
        "remedy": code.hint,
        "exit_code": exit_code(code),
    }
