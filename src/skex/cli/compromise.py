"""``skex compromise assess``: which keys are exposed, which are not, why, and what to do now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from skex.audit.exposure import NEVER, SLACK_SECONDS, Breach, Reason, Verdict, Where
from skex.base import ids
from skex.cli.audit import remembered
from skex.cli.common import Noun, result, table, talk
from skex.cli.homes import home
from skex.cli.values import DURATION, Parsed
from skex.daemon import assessing
from skex.daemon.assessing import Assessment
from skex.daemon.verifying.logs import Evidence

EXPOSED: Final = 4
"""The exit code that says: keys count as exposed."""
_HOMES = click.Path(exists=True, file_okay=False, path_type=Path)
_WHY: Final = {
    Reason.THRESHOLD: "the attacker has as many shares as the threshold",
    Reason.AT_REST: "a KME that somebody had kept them at the time, or nothing says that it had erased them",
    Reason.NOT_RECORDED: "the records do not say through which hubs they went",
    Reason.BELOW_THRESHOLD: "the attacker has fewer shares than the threshold",
    Reason.ERASED_BEFORE: "what could have told them was erased before somebody came",
    Reason.LEGS_INTACT: "no hub, link or end of them was somebody else's",
}
_PREMISES: Final = (
    "The attacker recorded every connection, and reads from a machine all that is on it.",
    "Grants of derived pads are kept for ten minutes of use, those of table pads not behind their use.",
    "What is erased leaves a store's log within a minute. Connections held still may stretch all of this.",
    "Kits, images of machines and copies of homes were destroyed; media really overwrite what is erased.",
    "What the logs say is true, also those of machines that somebody had, for the time before.",
    "Seals show it (skex audit verify --key); nothing else does.",
    "Peer messages carry ids and decisions, never keys: roots let their holder forge, not read.",
)


def _moment(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("is no time: write 2030-01-02T03:04:05Z") from error
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return found.timestamp()


def _named(text: str) -> tuple[str, float | None, float | None]:
    name, separator, times = text.partition("=")
    since, ended, until = times.partition("..")
    if separator and not since:
        raise ValueError("must be NAME, NAME=SINCE or NAME=SINCE..UNTIL")
    return name, _moment(since) if since else None, _moment(until) if ended else None


def _hub(text: str) -> tuple[str, float | None, float | None]:
    name, since, until = _named(text)
    return ids.parse_hub_name(name), since, until


def _kme(text: str) -> tuple[str, float | None, float | None]:
    name, since, until = _named(text)
    return ids.parse_kme_name(name), since, until


_TIME = Parsed("time", _moment)


@click.group(cls=Noun)
def compromise() -> None:
    """After a break-in: what is still safe, and what to do, from audit logs alone."""


@compromise.command("assess")
@click.argument("homes", nargs=-1, type=_HOMES, metavar="[HOME]...")
@click.option("--hub", "hubs", multiple=True, type=Parsed("name", _hub), metavar="NAME[=SINCE[..UNTIL]]",
              help="A hub that somebody had; may be repeated.")  # fmt: skip
@click.option("--kme", "kmes", multiple=True, type=Parsed("name", _kme), metavar="NAME[=SINCE[..UNTIL]]",
              help="A KME that somebody had; may be repeated.")  # fmt: skip
@click.option("--since", type=_TIME, metavar="TIME", help="From when on, where a name says nothing else.")
@click.option("--until", type=_TIME, metavar="TIME", help="Until when.  [default: still]")
@click.option("--slack", type=DURATION, default=int(SLACK_SECONDS), metavar="DURATION",
              help="How far clocks may differ; counts against the keys.  [default: 2min]")  # fmt: skip
def assess(
    *,
    homes: tuple[Path, ...],
    hubs: tuple[tuple[str, float | None, float | None], ...],
    kmes: tuple[tuple[str, float | None, float | None], ...],
    since: float | None,
    until: float | None,
    slack: int,
) -> int:
    r"""Say which keys are exposed, which are not and why, and what must be renewed in which order.

    \b
    Examples:
      skex compromise assess hub-1 hub-3 north south --hub hub-3 --since 2030-01-02T03:00:00Z
      skex compromise assess north south site-7 --hub hub-3=2030-01-02 --hub hub-5=2030-01-09 \
          --kme site-7=2030-01-10T08:00:00Z..2030-01-10T20:00:00Z --json

    Reads the audit logs of these homes, or directories of their segments, and nothing else; give those
    of all KMEs and hubs that may be concerned. What the records do not say counts against the keys, and
    whose logs are missing is named. Several machines had at different times are counted together, for
    each batch of keys. Ends with 4 if keys count as exposed, else with 0; docs/compromise.md goes on.
    """
    breaches = [*_breaches(Where.HUB, hubs, since, until), *_breaches(Where.KME, kmes, since, until)]
    if not breaches:
        raise click.UsageError("Name at least one --hub or --kme that somebody had.")
    found = assessing.assess(homes or (home(),), breaches, float(slack), Evidence(ask=remembered))
    for log in found.logs:
        if not log.is_sound:
            talk(f"{log.home}: the log does not verify; skex audit verify says where.")
    result(_data(found), "\n".join(_text(found)))
    return EXPOSED if found.exposed else 0


def _breaches(
    where: Where,
    named: Sequence[tuple[str, float | None, float | None]],
    since: float | None,
    until: float | None,
) -> Iterator[Breach]:
    for name, own_since, own_until in named:
        begin = since if own_since is None else own_since
        end = until if own_until is None and own_since is None else own_until
        if begin is None:
            raise click.UsageError(f"Say since when somebody had {name}: --since, or {name}=SINCE.")
        if end is not None and end < begin:
            raise click.UsageError(f"{name} cannot have been left before somebody came.")
        yield Breach(where, name, begin, NEVER if end is None else end)


# ── for programs ────────────────────────────────────────────────────────────────────────────────
def _data(found: Assessment) -> Mapping[str, Any]:
    return {
        "breaches": [
            {
                one.where.value: one.name,
                "since": _time(one.since),
                "until": None if one.until == NEVER else _time(one.until),
            }
            for one in found.breaches
        ],
        "logs": [{"home": str(log.home), "sound": log.is_sound} for log in found.logs],
        "owners": list(found.owners),
        "missing_logs": list(found.missing),
        "keys": {
            "exposed": found.exposed,
            "not_exposed": sum(one.count for one in found.verdicts) - found.exposed,
            "by_reason": {reason.value: found.count(reason) for reason in Reason},
        },
        "batches": [_verdict_data(one) for one in found.verdicts],
        "roots": [_verdict_data(one) for one in found.roots],
        "consumers": [
            {
                "sae": one.sae,
                "kme": one.kme,
                "keys": one.keys,
                "unnamed": one.uncertain,
                "first": _time(one.first),
                "last": _time(one.last),
            }
            for one in found.consumers
        ],
        "revoke": [
            {"sender": sender, "receiver": receiver, "keys": keys} for sender, receiver, keys in found.revoke
        ],
        "renew": [
            {"kme": one.kme, "hub": one.hub, "because": one.because, "known_shares": one.known}
            for one in found.renewals
        ],
        "steps": [{"why": why, "commands": list(commands)} for why, commands in _steps(found)],
        "premises": list(_PREMISES),
    }


def _verdict_data(one: Verdict) -> Mapping[str, Any]:
    batch = one.batch
    return {
        "sender": batch.sender,
        "receiver": batch.receiver,
        "batch": batch.batch,
        "shares_between": [_time(batch.begin), _time(batch.end)],
        "exposed": one.reason.is_exposed,
        "reason": one.reason.value,
        "keys": one.count,
        "indexes": list(one.single) or None,
        "hubs": list(batch.hubs),
        "threshold": batch.threshold,
        "known_hubs": list(one.known_hubs),
        "hubs_left": one.left,
    }


# ── for the incident team ───────────────────────────────────────────────────────────────────────
def _text(found: Assessment) -> Iterator[str]:
    total = sum(one.count for one in found.verdicts)
    yield "Somebody had:"
    yield from (f"  {_breach_text(one)}" for one in found.breaches)
    yield f"Logs read: {', '.join(found.owners) or 'none'}."
    if found.missing:
        yield "Missing logs; what they could tell counts against the keys, or is not seen at all:"
        yield from (f"  {one}" for one in found.missing)
    yield f"\n{found.exposed} of {total} recorded keys count as exposed."
    rows = [("keys", "", "why")] + [
        (str(found.count(reason)), "EXPOSED" if reason.is_exposed else "not exposed", _WHY[reason])
        for reason in Reason
        if found.count(reason)
    ]
    yield table(rows, indent=2)
    yield from _pairs(found)
    yield from _roots(found)
    yield from _consumers(found)
    yield "\nWhat to do, in this order:"
    for number, (why, commands) in enumerate(_steps(found), 1):
        yield f"  {number}. {why}"
        yield from (f"       {command}" for command in commands)
    yield "\nThis holds if:"
    yield from (f"  - {one}" for one in _PREMISES)


def _breach_text(one: Breach) -> str:
    end = "still" if one.until == NEVER else f"until {_time(one.until)}"
    return f"{one.where.value} {one.name}, since {_time(one.since)}, {end}"


def _pairs(found: Assessment) -> Iterator[str]:
    rows = [("from", "to", "batches", "keys", "", "shares known", "why")]
    for (sender, receiver), verdicts in assessing.pairs_of(found.verdicts).items():
        for reason in Reason:
            alike = [one for one in verdicts if one.reason is reason]
            if alike:
                most = max(alike, key=lambda one: len(one.known_hubs))
                rows.append((
                    sender,
                    receiver,
                    str(len(assessing.batch_ids(alike))),
                    str(sum(one.count for one in alike)),
                    "EXPOSED" if reason.is_exposed else "not exposed",
                    f"{len(most.known_hubs)} of {most.batch.threshold} needed",
                    reason.value,
                ))  # fmt: skip
    if len(rows) > 1:
        yield ""
        yield table(rows, indent=2)


def _roots(found: Assessment) -> Iterator[str]:
    exposed = {(one.batch.sender, one.batch.receiver) for one in found.roots if one.reason.is_exposed}
    if exposed:
        told = ", ".join(f"{sender} and {receiver}" for sender, receiver in sorted(exposed))
        yield f"\nRoots of peer messages are exposed between {told}."


def _consumers(found: Assessment) -> Iterator[str]:
    if found.consumers:
        yield "\nApplications that got exposed keys:"
        rows = [("application", "at", "keys", "perhaps", "first", "last")]
        rows += [
            (one.sae, one.kme, str(one.keys), str(one.uncertain), _time(one.first), _time(one.last))
            for one in found.consumers
        ]
        yield table(rows, indent=2)


def _steps(found: Assessment) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What to do, and the commands; HOME stands for the home on the machine that is named."""
    yield (
        "Keep the evidence: seal the logs that are not the attacker's, and copy all of them.",
        ("skex audit seal --home HOME",),
    )
    hubs = sorted({one.name for one in found.breaches if one.where is Where.HUB})
    if hubs:
        revoked = " ".join(f"--revoke {name}" for name in hubs)
        yield (
            "Take the hubs out of the realm, at every other hub; or rebuild them before what follows.",
            (
                f"skex realm next realm.cbor {revoked} -o next.cbor",
                "skex hub update-realm next.cbor --home HOME",
            ),
        )
    kmes = sorted({one.name for one in found.breaches if one.where is Where.KME})
    if kmes:
        yield (
            f"Rebuild {', '.join(kmes)} with a new home and new door certificates; revoke the old ones.",
            tuple(f"skex kme init {name} --home HOME" for name in kmes),
        )
    if found.revoke:
        yield (
            "Revoke what was not delivered, at the KME that made it.",
            tuple(
                f"skex key revoke --peer {receiver} --reason key-compromise --home HOME  # {keys}, {sender}"
                for sender, receiver, keys in found.revoke
            ),
        )
    if found.consumers:
        yield ("Let these applications take new keys, and treat what they protected as read.", tuple(
            sorted({one.sae for one in found.consumers})
        ))  # fmt: skip
    if found.renewals:
        yield (
            "Enrol these links anew, in this order: first the KMEs with the fewest shares left unknown.",
            tuple(line for one in found.renewals for line in _renewal(one.kme, one.hub)),
        )
    yield (
        "Check every log, and ask again with the logs from after the repair.",
        ("skex audit verify HOME...",),
    )


def _renewal(kme: str, hub: str) -> tuple[str, str]:
    return (
        f"skex kit create {kme} --replace -o {hub}-{kme}.kit --home HOME    # at {hub}",
        f"skex kit import {hub}-{kme}.kit --replace --home HOME    # at {kme}",
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
