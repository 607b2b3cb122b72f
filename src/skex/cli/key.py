"""``skex key``: which keys there are, what one rests on, and who may not have which any more."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Final

import click

from skex.base.ids import KmeName
from skex.cli import values
from skex.cli.admin import ask, told_pending
from skex.cli.common import Noun, result, table, talk
from skex.cli.homes import running_kme
from skex.daemon.keycommands import words_of
from skex.keys.guide import CONSUMERS, Consumer, reserve_snippet
from skex.keys.uses import USES
from skex.policy.names import NameProblem, check_sae
from skex.protocol.changes import SuspendReason
from skex.wire.peer import RevokeReason

_WIDTH: Final = 100
_IDS = click.argument("ids", nargs=-1, metavar="[ID]...")
_PEER = click.option("--peer", type=values.KME_NAME, metavar="NAME", help="Everything with this KME.")


@click.group(cls=Noun)
def key() -> None:
    """Keys: which there are, what one rests on, revoke and suspend them.

    Every verb but guide asks the running KME of this home. No key ever leaves it this way: these commands
    show ids, names, numbers and words.
    """


@key.command("list")
@_PEER
@click.option("--all", "everything", is_flag=True, help="Also batches of which no key is left here.")
def list_(*, peer: KmeName | None, everything: bool) -> None:
    """List the batches of keys, newest first, and how many keys of each are in which state."""
    arguments: dict[str, Any] = {"all": everything}
    if peer is not None:
        arguments["peer"] = peer
    answer = ask(running_kme(), "keys", arguments)
    rows = [("batch", "peer", "as", "bytes", "left", "class", "k", "eff.", "expires", "states")]
    rows += [_row(one) for one in answer["batches"]]
    lines = [table(rows) if answer["batches"] else "No batch of which keys are left."]
    if answer["left_out"]:
        lines.append(f"and {answer['left_out']} older batches; --peer narrows it down")
    result(answer, "\n".join(lines))


def _row(one: Mapping[str, Any]) -> tuple[Any, ...]:
    states = ", ".join(f"{count} {state}" for state, count in one["states"].items())
    return (
        one["batch"],
        one["peer"],
        one["role"],
        one["key_bytes"],
        f"{one['left']}/{one['keys']}",
        one["class"],
        one["threshold"],
        one["effective_threshold"],
        one["expires_at"],
        states,
    )


@key.command("show")
@click.argument("name", metavar="ID")
def show(*, name: str) -> None:
    """Show the facts about one key, or about one batch and the ids of its keys."""
    answer = ask(running_kme(), "key", {"ids": [name]})
    keys = answer.get("keys_by_id")
    if keys is not None:
        head = f"{answer['batch']} with {answer['peer']}, as {answer['role']}, expires {answer['expires_at']}"
        rows = [("key", "state", "NIST SP 800-57", "taken by")]
        rows += [
            (one["key_id"], one["state"], one["nist_state"], ", ".join(one["taken_by"]) or "-")
            for one in keys
        ]
        result(answer, f"{head}\n{table(rows, indent=2)}")
        return
    result(answer, table(list(_facts(answer))))


def _facts(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    claim, assigned = answer["claim"], answer["assigned"]
    facts = [
        ("key", answer["key_id"]),
        ("state", f"{answer['state']} ({answer['nist_state']})"),
        ("batch", f"{answer['batch']}, key {answer['index']}"),
        ("from, to", f"{answer['sender']}, {answer['receiver']}"),
        ("made, expires", f"{answer['made_at']}, {answer['expires_at']}"),
        ("class", claim["class"]),
        ("threshold", f"{claim['threshold']} of {', '.join(claim['hubs'])}"),
        ("effective threshold", claim["effective_threshold"]),
        ("taken by", ", ".join(answer["taken_by"]) or "nobody here"),
    ]
    if assigned is not None:
        facts.append(("assigned to", f"{assigned['master']}, {', '.join(assigned['slaves'])}"))
    facts += [(word, answer[word]) for word in ("revoked", "suspended") if answer[word]]
    facts.append(("known from", answer["known_from"]))
    return [(name, str(value)) for name, value in facts]


@key.command("explain")
@click.argument("name", metavar="ID")
@click.option(
    "--used-with",
    "use",
    type=click.Choice(list(USES)),
    metavar="CIPHER",
    help=f"Also say what something rests on that the key protects so: {', '.join(USES)}.",
)
def explain(*, name: str, use: str | None) -> None:
    r"""Explain what one key rests on, from the randomness of its bytes to the last hop.

    \b
    Examples:
      skex key explain 5c2e1f0a-7b1d-8c3e-9f4a-2b6d8e0f1a3c
      skex key explain 5c2e1f0a-7b1d-8c3e-9f4a-2b6d8e0f1a3c --used-with aes-256-gcm

    It works for keys in reserve, assigned and delivered ones, for as long as the store or the audit log
    knows of them. Sections are those of the specification. The explanation stops where the knowledge of
    this KME does, and says so: of the other KME's links it has only what that KME stated.
    """
    arguments: dict[str, Any] = {"ids": [name]}
    if use is not None:
        arguments["used_with"] = use
    answer = ask(running_kme(), "explain", arguments)
    result(answer, textwrap.fill(answer["paragraph"], _WIDTH))


@key.command("revoke")
@_IDS
@_PEER
@click.option(
    "--reason",
    type=click.Choice(words_of(RevokeReason)),
    default="unspecified",
    show_default=True,
    help="Why, for both ends' audit logs.",
)
def revoke(*, ids: tuple[str, ...], peer: KmeName | None, reason: str) -> int | None:
    r"""Revoke keys, batches, or everything with a peer, at both ends.

    \b
    Examples:
      skex key revoke 5c2e1f0a-7b1d-8c3e-9f4a-2b6d8e0f1a3c --reason key-compromise
      skex key revoke --peer site-b --reason cessation-of-operation

    Keys that nobody has are erased here at once and at the peer as soon as it can be reached, also after
    a restart of either. A key that an application has cannot be taken back: who has which is said here,
    and in the audit logs of both ends. New keys are made as the policy allows; to stop that, deny the peer
    there, or suspend it.
    """
    answer = ask(running_kme(), "revoke", _meant(ids, peer) | {"reason": reason})
    waits = told_pending(answer)
    if waits is not None:
        return waits
    lines = [f"Revoked {answer['revoked']} keys that nobody had ({answer['reason']})."]
    for one in answer["in_use"]:
        lines.append(f"{one['sae']} has {one['keys']} of the keys and must stop using them:")
        lines += [f"  {name}" for name in one["key_ids"]]
    result(answer, "\n".join(lines))
    return None


@key.command("suspend")
@_IDS
@_PEER
@click.option(
    "--reason",
    type=click.Choice(words_of(SuspendReason)),
    default="unspecified",
    show_default=True,
    help="Why, for the audit log.",
)
def suspend(*, ids: tuple[str, ...], peer: KmeName | None, reason: str) -> None:
    """Suspend keys, batches, or everything with a peer: nobody gets them here until they are resumed.

    It is a decision of this KME alone: the peer is not told, and may hand out its copies of keys that
    were assigned before. With --peer no new keys are made for it either, and those that it makes rest.
    Suspended keys expire, and can be revoked, like others.
    """
    answer = ask(running_kme(), "suspend", _meant(ids, peer) | {"reason": reason})
    result(answer, f"{answer['suspended']} keys rest ({answer['reason']}).")
    talk("skex key resume ends it; skex key revoke reaches the peer, too.")


@key.command("resume")
@_IDS
@_PEER
def resume(*, ids: tuple[str, ...], peer: KmeName | None) -> None:
    """Resume keys that were suspended; with --peer, everything with that KME."""
    answer = ask(running_kme(), "resume", _meant(ids, peer))
    result(answer, f"{answer['resumed']} keys may be handed out again.")


def _meant(ids: tuple[str, ...], peer: KmeName | None) -> dict[str, Any]:
    if bool(ids) == (peer is not None):
        raise click.UsageError("name ids of keys or batches, or one --peer")
    return {"ids": list(ids)} if peer is None else {"peer": peer}


_PATTERN: Final = "name@kme, * for any"


@key.command("guide")
@click.argument("consumer", required=False, type=click.Choice(list(CONSUMERS)), metavar="[CONSUMER]")
@click.option("--local", default="*@*", show_default=True, metavar="SAE", help=f"SAEs here: {_PATTERN}.")
@click.option(
    "--remote", default="*@*", show_default=True, metavar="SAE", help=f"SAEs elsewhere: {_PATTERN}."
)
def guide(*, consumer: str | None, local: str, remote: str) -> None:
    r"""How long and how often a key should be used, by kind of consumer, and the policy that says so.

    \b
    Examples:
      skex key guide
      skex key guide wireguard-psk --local 'wg@site-a' >> policy.toml

    Without CONSUMER it lists all kinds, and the rule by which reserves age. With one, stdout has the rule
    for policy.toml alone; why it says what it says goes to stderr.
    """
    for pattern in (local, remote):
        try:
            check_sae(pattern)
        except NameProblem as problem:
            raise click.UsageError(f"{pattern!r}: {problem}") from problem
    if consumer is None:
        rows = [("consumer", "a use is", "seconds", "uses", "for")]
        rows += [
            (one.name, one.use, str(one.use_seconds), str(one.uses or "any"), one.title)
            for one in CONSUMERS.values()
        ]
        data = {"consumers": [_guided(one, local, remote) for one in CONSUMERS.values()]}
        result({**data, "reserves": reserve_snippet()}, f"{table(rows)}\n\n{reserve_snippet()}".rstrip())
        return
    one = CONSUMERS[consumer]
    talk(f"{one.title}\n\n{textwrap.fill(one.why, _WIDTH)}\n\nSources: {'; '.join(one.sources)}\n")
    result(_guided(one, local, remote), one.snippet(local, remote).rstrip())


def _guided(one: Consumer, local: str, remote: str) -> dict[str, Any]:
    return {
        "consumer": one.name,
        "title": one.title,
        "use": one.use,
        "use_seconds": one.use_seconds,
        "uses": one.uses,
        "wait_seconds": one.wait_seconds,
        "key_bytes": one.key_bytes,
        "limits": dict(one.limits),
        "why": one.why,
        "sources": list(one.sources),
        "policy": one.snippet(local, remote),
    }
