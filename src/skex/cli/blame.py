"""``skex kme blame|bench|bring-back``: what hubs did wrong, and whether they are used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import click

from skex.base import limits
from skex.base.ids import HubName
from skex.cli import values
from skex.cli.admin import ask, told_pending
from skex.cli.common import Verb, duration, result, table, talk
from skex.cli.homes import running_kme

_COLUMNS: Final = ("hub", "in time", "late", "missing", "wrong", "suspected", "used")
_EVIDENCE_COLUMNS: Final = ("when (UTC)", "hub", "peer", "batch", "what", "certain", "evidence")
_SHOWN_DIGITS: Final = 16
"""Of a digest, in a table; all of it is in the JSON."""


@click.command("blame", cls=Verb)
@click.argument("hub", type=values.HUB_NAME, required=False)
def kme_blame(hub: HubName | None) -> None:
    r"""What hubs, or the one HUB, did with the shares that they were to bring, and what shows it.

    \b
    Examples:
      skex kme blame --home /var/lib/skex
      skex kme blame hub-5 --json

    Evidence is kept for the newest wrong shares of each hub; the first digits of its digest stand in
    the audit log's record, too. The JSON has the digests of what came and of what should have come.
    """
    answer = ask(running_kme(), "blame", {} if hub is None else {"hub": hub})
    rows = [_COLUMNS, *(_row(one) for one in answer["hubs"])]
    evidence = [_EVIDENCE_COLUMNS, *(_evidence_row(one) for one in answer["evidence"])]
    lines = [table(rows), ""]
    lines.append(table(evidence) if answer["evidence"] else "No hub was found to do wrong.")
    result(answer, "\n".join(lines))


@click.command("bench", cls=Verb)
@click.argument("hub", type=values.HUB_NAME)
@click.option("--reason", default="", metavar="TEXT", help="Why; kept, shown and in the audit log.")
@click.option(
    "--seconds",
    type=click.IntRange(1, limits.BENCH_SECONDS_MAX),
    metavar="N",
    help="Use it again by itself after so long.  [default: when skex kme bring-back says so]",
)
def kme_bench(hub: HubName, reason: str, seconds: int | None) -> int | None:
    r"""Take HUB out of use: it gets no share of new batches, and shares that it brings are refused.

    \b
    Example:
      skex kme bench hub-5 --reason "its operator was broken into"

    Holds for batches with all peers, even if too few hubs are left for a key: you are told then.
    """
    arguments: dict[str, Any] = {"hub": hub, "reason": reason}
    if seconds is not None:
        arguments["seconds"] = seconds
    answer = ask(running_kme(), "bench", arguments)
    waits = told_pending(answer)
    if waits is not None:
        return waits
    used, threshold = answer["hubs_used"], answer["threshold"]
    if threshold is not None and used < threshold:
        talk(f"No key can be made now: {used} hubs are left, and {threshold} are needed.")
    result(answer, f"{hub} is out of use; {used} hubs are left.")
    return None


@click.command("bring-back", cls=Verb)
@click.argument("hub", type=values.HUB_NAME)
def kme_bring_back(hub: HubName) -> int | None:
    """Use HUB again, whoever put it on the bench; it is on probation: one wrong share benches it."""
    answer = ask(running_kme(), "bring-back", {"hub": hub})
    waits = told_pending(answer)
    if waits is None:
        result(answer, f"{hub} is used again; {answer['hubs_used']} hubs are used.")
    return waits


COMMANDS: Final = (kme_blame, kme_bench, kme_bring_back)


def used_word(one: dict[str, Any]) -> str:
    """How a hub is used, for people."""
    if one["out"]:
        entry = next(entry for entry in one["bench"] if entry["peer"] is None)
        left = entry["seconds_left"]
        return "no, by command" if left is None else f"no, for {duration(left)}"
    benched = sorted(entry["peer"] for entry in one["bench"] if entry["benched"])
    if benched:
        shown = ", ".join(benched[:3]) + (", …" if len(benched) > len(benched[:3]) else "")
        return f"last, with {shown}"
    return "on probation" if one["bench"] else "yes"


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    shares = one["shares"]
    counts = (shares[name] for name in ("in_time", "late", "missing", "wrong", "suspected"))
    return (one["hub"], *counts, used_word(one))


def _evidence_row(one: dict[str, Any]) -> tuple[Any, ...]:
    when = datetime.fromtimestamp(one["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    certain = "yes" if one["certain"] else "no"
    digest = one["evidence"][:_SHOWN_DIGITS]
    return (when, one["hub"], one["peer"], one["batch"], one["blame"], certain, digest)
