"""``skex hub|kme run``, and what operators ask of a daemon that runs."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import click

from skex.base.ids import KmeName
from skex.cli import values
from skex.cli.admin import ask, told_pending
from skex.cli.blame import used_word
from skex.cli.common import Verb, duration, result, table, talk
from skex.cli.homes import hub_config, kme_config, running_hub, running_kme
from skex.runtime import logs


def _run(level: str, daemon: Coroutine[Any, Any, None]) -> None:
    import uvloop  # noqa: PLC0415  # commands that run no daemon should not wait for its parts

    logs.configure(level)
    uvloop.run(daemon)


_allow_root = click.option(
    "--allow-root", is_flag=True, help="Run as root, which nothing here needs, as run.allow_root does."
)


@click.command("run", cls=Verb)
@_allow_root
def hub_run(*, allow_root: bool) -> None:
    """Run the hub in this home, in the foreground, until SIGTERM or Ctrl-C.

    Logs are JSON lines on stderr. Where it listens stands in ports.json in the home.
    """
    from skex.daemon.run_hub import run_hub  # noqa: PLC0415  # see _run

    config = hub_config()
    _run(config.log_level, run_hub(replace(config, allow_root=config.allow_root or allow_root)))


@click.command("run", cls=Verb)
@_allow_root
def kme_run(*, allow_root: bool) -> None:
    """Run the KME in this home, in the foreground, until SIGTERM or Ctrl-C.

    Logs are JSON lines on stderr. Where its doors listen stands in ports.json in the home.
    """
    from skex.daemon.run_kme import run_kme  # noqa: PLC0415  # see _run

    config = kme_config()
    _run(config.log_level, run_kme(replace(config, allow_root=config.allow_root or allow_root)))


@click.command("status", cls=Verb)
def hub_status() -> None:
    """What the running hub in this home does: which KMEs are connected, how much pad is left."""
    answer = ask(running_hub(), "status")
    rows = [("KME", "pad", "link", "to hub", "to KME", "lasts")]
    rows += [(one["kme"], one["pad"], _link_word(one), *_pads(one["pads"])) for one in answer["kmes"]]
    head = f"{answer['hub']} of {answer['realm']}, epoch {answer['epoch']}, threshold {answer['threshold']}"
    result(answer, "\n".join([head, table(rows, indent=2), *_awaiting(answer)]))


@click.command("status", cls=Verb)
def kme_status() -> None:
    """What the running KME in this home does: its hubs, its reserves, whether it may deliver keys."""
    answer = ask(running_kme(), "status")
    lines = [
        f"{answer['kme']} of {answer['realm']}, epoch {answer['epoch']}, threshold {answer['threshold']}",
        f"may deliver keys: {'yes' if answer['ready'] else 'not yet'}",
        f"enough hubs: {'yes' if answer['healthy'] else 'no'}",
        f"filling reserves: {'on' if answer['filling'] else 'off'}",
    ]
    effective = answer["effective_threshold"]
    if effective is not None:
        parties = " and ".join(effective["such_as"])
        lines.insert(1, f"effective threshold: {effective['parties']} ({parties})")
    hubs = [_HUB_COLUMNS, *(_hub_row(one) for one in answer["hubs"])]
    reserves = [_RESERVE_COLUMNS, *(_reserve_row(one) for one in answer["reserves"])]
    lines += [table(hubs, indent=2), table(reserves, indent=2), *_awaiting(answer)]
    result(answer, "\n".join(lines))


@click.command("reload", cls=Verb)
def hub_reload() -> int | None:
    """Let the running hub read its policy and its links anew; a policy with a mistake changes nothing."""
    return _reloaded(ask(running_hub(), "reload", {}))


def _reloaded(answer: dict[str, Any]) -> int | None:
    waits = told_pending(answer)
    if waits is None:
        result(answer, "Reloaded.")
    return waits


@click.command("reload", cls=Verb)
def kme_reload() -> int | None:
    """Let the running KME read its policy anew; a policy with a mistake changes nothing."""
    return _reloaded(ask(running_kme(), "reload", {}))


@click.command("reserve", cls=Verb)
@click.option(
    "--filling", type=click.Choice(["on", "off"]), help="Fill reserves in the background, or do not."
)
@click.option("--drain", type=values.KME_NAME, metavar="PEER", help="Revoke what is in reserve for PEER.")
def kme_reserve(filling: str | None, drain: KmeName | None) -> int | None:
    """Switch the filling of reserves on or off, or drain one; without options, say how it stands."""
    arguments: dict[str, Any] = {}
    if filling is not None:
        arguments["filling"] = filling == "on"
    if drain is not None:
        arguments["drain"] = drain
    answer = ask(running_kme(), "reserve", arguments)
    waits = told_pending(answer)
    if waits is not None:
        return waits
    if drain is not None:
        talk(f"Keys in reserve for {drain} are revoked at both ends.")
    state = "on" if answer["filling"] else "off"
    result(answer, f"filling reserves: {state}\nrevoked: {answer['drained']}")
    return None


HUB_COMMANDS = (hub_run, hub_status, hub_reload)
KME_COMMANDS = (kme_run, kme_status, kme_reload, kme_reserve)


_HUB_COLUMNS = ("hub", "pad", "link", "to hub", "to KME", "lasts", "missing", "wrong", "used")
_RESERVE_COLUMNS = ("peer", "key bytes", "keys", "low", "high", "failed tries", "health", "taken/s", "lasts")
_ENDLESS = ("no end", "no end", "for ever")
"""What there is to say of a derived pad."""


def _hub_row(one: dict[str, Any]) -> tuple[Any, ...]:
    shares = one["shares"]
    conduct = (shares["missing"], one["blamed"], used_word(one))
    return (one["hub"], one["pad"], _link_word(one), *_pads(one["pads"]), *conduct)


def _pads(pads: dict[str, Any] | None) -> tuple[str, str, str]:
    """What is left of a link's two pads, and for how long the shorter lasts."""
    if pads is None:
        return _ENDLESS
    both = (pads["to_hub"], pads["to_kme"])
    to_hub, to_kme = (f"{_bytes(one['left_bytes'])} ({one['left_percent']:.0f} %)" for one in both)
    known = [one["days_left"] for one in both if one["days_left"] is not None]
    if known:
        lasts = duration(min(known) * 86_400)
    else:
        lasts = "unused" if all(one["bytes_per_day"] == 0 for one in both) else "unknown yet"
    return to_hub, to_kme, f"LOW: {lasts}" if any(one["low"] for one in both) else lasts


def _reserve_row(one: dict[str, Any]) -> tuple[Any, ...]:
    lasts = "-" if one["seconds_left"] is None else duration(one["seconds_left"])
    counts = [one[name] for name in ("peer", "key_bytes", "keys", "low", "high", "failures", "health")]
    return (*counts, f"{one['taken_per_second']:.1f}", lasts)


def _awaiting(answer: dict[str, Any]) -> list[str]:
    """What a restored home still lacks."""
    others = answer["awaiting_kits"]
    return [f"restored, await new kits: {', '.join(others)}"] if others else []


def _link_word(one: dict[str, Any]) -> str:
    if one["frozen"]:
        return "frozen: " + ", ".join(one["frozen"])
    if one["suspended"]:
        return "suspended"
    if one["connected"]:
        return "up"
    why = one.get("last_error")
    return f"down: {why}" if why else "down"


def _bytes(count: int) -> str:
    """Bytes for people."""
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024 or unit == "PiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
