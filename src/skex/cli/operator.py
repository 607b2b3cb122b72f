"""``skex operator``: who may ask a daemon for what, and the second person's part of what needs two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from skex.cli.admin import UPLOAD_SECONDS, as_text, ask
from skex.cli.common import Noun, result, settings, table, talk
from skex.cli.files import moment
from skex.cli.homes import any_config, running
from skex.daemon.starting import load_policy
from skex.policy.rules import OperatorCommand
from skex.runtime import peers

if TYPE_CHECKING:
    from skex.policy.evaluate import PolicySet

_DIGEST_CHARACTERS = 16
"""Of a digest that somebody read out: nobody makes another request with so many alike."""


@click.group(cls=Noun)
def operator() -> None:
    """Operators: who may ask a daemon for what, and what waits for a second person.

    The tables [[operator...]] of the policy decide. The daemon's own user and root may ask for
    everything, but where two persons are needed they are none. docs/operators.md is the guide.
    """


def _policy() -> PolicySet:
    """The policy in force behind --socket; otherwise the one in the home's file."""
    if settings().socket is None:
        return load_policy(any_config()[0].policy)
    from skex.policy.evaluate import load  # noqa: PLC0415  # start-up is most of a command's time

    return load(ask(running(), "policy")["policy"].encode(), "the policy in force")


@operator.command("list")
def list_() -> None:
    """List roles, who has them, and what needs two persons.

    Of the policy in the home's file; with --socket, of the one in force.
    """
    from skex.policy.rules import OperatorDual, OperatorRule  # noqa: PLC0415  # as in _policy

    current = _policy()
    roles = {name: sorted(commands) for name, commands in current.operator.roles.items()}
    rules = [one for one in current.policy.rules if isinstance(one, OperatorRule)]
    duals = [one for one in current.policy.rules if isinstance(one, OperatorDual)]
    data = {
        "policy": current.digest,
        "roles": roles,
        "rules": [
            {
                "rule": one.id,
                "users": sorted(one.users),
                "unix_groups": sorted(one.unix_groups),
                "roles": sorted(one.roles),
                "commands": sorted(one.commands),
            }
            for one in rules
        ],
        "dual": [{"rule": one.id, "commands": sorted(one.commands)} for one in duals],
    }
    lines = ["roles", table([(name, _joined(commands)) for name, commands in roles.items()], indent=2)]
    lines += [
        "rules",
        table(
            [
                (
                    one.id,
                    _joined([*one.users, *(f"group {name}" for name in sorted(one.unix_groups))]),
                    _joined([*one.roles, *one.commands]),
                )
                for one in rules
            ],
            indent=2,
        )
        if rules
        else "  nobody but the daemon's own user and root",
    ]
    lines += [
        "two persons",
        table([(one.id, _joined(one.commands)) for one in duals], indent=2) if duals else "  for nothing",
    ]
    result(data, "\n".join(lines))


def _joined(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


@operator.command("test")
@click.argument("user")
@click.argument("command", type=click.Choice([one.value for one in OperatorCommand]))
@click.option(
    "--unix-group",
    "groups",
    multiple=True,
    metavar="GROUP",
    help="As if in this group, and those named beside it, only; may be repeated.  [default: USER's groups]",
)
def test(*, user: str, command: str, groups: tuple[str, ...]) -> int:
    r"""Say whether USER may ask for COMMAND, which rule decides, and whether it needs two persons.

    \b
    Examples:
      skex operator test anna kit-create
      skex operator test uid-1004 reload --unix-group skex-clerks --json

    Ends with 0 if it is allowed, with 3 if not.
    """
    from skex.policy.operators import Operator, group_names, user_names  # noqa: PLC0415  # as in _policy

    current, number = _policy(), _number(user)
    found = frozenset(groups)
    if not groups:
        held = (group_names(one, peers.group_name(one)) for one in peers.groups_of(number))
        found = frozenset().union(*held)
    who = Operator(user_names(number, peers.user_name(number)), found, is_owner=number == 0)
    asked = OperatorCommand(command)
    decision, dual = current.operator.may(who, asked), current.operator.dual(asked)
    data = {
        "user": user,
        "uid": number,
        "groups": sorted(found),
        "command": command,
        "allowed": decision.allowed,
        "rule": decision.rule,
        "line": decision.line,
        "reason": decision.reason,
        "two_persons": dual is not None,
        "dual_rule": None if dual is None else dual.rule,
    }
    where = "" if decision.line is None else f", line {decision.line}"
    lines = [f"{'allowed' if decision else 'refused'}: {decision.reason} ({decision.rule}{where})"]
    if dual is not None:
        lines.append(f"It needs two persons ({dual.rule}); root and the daemon's own user are none.")
    result(data, "\n".join(lines))
    return 0 if decision else 3


def _number(user: str) -> int:
    kind, _, number = user.partition("-")
    if kind == "uid" and number.isdecimal() and number.isascii():
        return int(number)
    found = peers.user_number(user)
    if found is None:
        raise click.BadParameter(
            f"this machine knows no user {user!r}; write uid-NUMBER for another one's.", param_hint="USER"
        )
    return found


@operator.command("pending")
def pending() -> None:
    """Show what waits for a second person, and how earlier requests ended.

    Everybody sees their own requests; who may ask for "pending", all of them.
    """
    answer = ask(running(), "pending")
    texts = [as_text(one) for one in answer["pending"]] or ["Nothing waits for a second person."]
    if answer["ended"]:
        rows = [(one["id"], one["command"], one["outcome"], moment(one["at"])) for one in answer["ended"]]
        texts.append("ended\n" + table(rows, indent=2))
    result(answer, "\n\n".join(texts))


@operator.command("approve")
@click.argument("request", metavar="ID")
@click.option(
    "--digest",
    metavar="HEX",
    help=f"Approve only what has this digest: at least its first {_DIGEST_CHARACTERS} characters.",
)
def approve(*, request: str, digest: str | None) -> None:
    r"""Approve the request ID of somebody else: it is carried out now, exactly as it was asked for.

    \b
    Example:
      skex operator approve 5f0c1b2a9d8e7f60 --digest 3b1f0c2d4e5a6978

    Look at it first with 'skex operator pending', and compare the words of a kit or realm file with
    those that the first person sees. Whoever approves must be allowed the command, too.
    """
    waiting = {one["id"]: one for one in ask(running(), "pending")["pending"]}
    found = waiting.get(request)
    seen = "" if found is None else str(found["digest"])
    if digest is not None and (len(digest) < _DIGEST_CHARACTERS or not seen.startswith(digest.lower())):
        # The daemon is asked all the same: it records who tried.
        seen = digest.lower()
    if found is not None:
        talk(as_text(found))
    answer = ask(running(), "approve", {"id": request, "digest": seen}, UPLOAD_SECONDS)
    result(answer, f"Done: {answer['done']}.")


@operator.command("reject")
@click.argument("request", metavar="ID")
def reject(*, request: str) -> None:
    """Reject the request ID, or withdraw one's own: it is never carried out."""
    answer = ask(running(), "reject", {"id": request})
    result(answer, f"Rejected {answer['rejected']}.")
