"""``skex bench``: measures this machine, with baselines from the same run."""

from __future__ import annotations

import asyncio
import json
import resource
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import uvloop

from skex.base import limits
from skex.base.errors import Refused
from skex.base.ids import Direction
from skex.cli.bench_measures import baselines, machine, quantile, tcp_bytes
from skex.cli.bench_realm import HUBS, NORTH, SOUTH, THRESHOLD, BenchRealm, RunningKme
from skex.cli.common import Noun, result, talk
from skex.cli.files import PUBLIC, write_new
from skex.runtime import clock

_WARM_UP_SECONDS: Final = 0.2
_LIFETIME: Final = 3600
_PAUSE_SECONDS: Final = 0.01
"""After a refusal, before the next try."""
_HOW: Final = (
    f"{len(HUBS)} hubs (threshold {THRESHOLD}) and 2 KMEs, production daemons with real homes, stores and "
    "derived pads, in one process on one event loop, over TCP on loopback; a key counts once it is confirmed "
    "by its receiver and durable at both ends"
)


@click.group(cls=Noun)
def bench() -> None:
    """Measure what this machine does. Nothing is kept, unless a file is named."""


@dataclass(frozen=True, slots=True)
class _Load:
    """What is asked of the realm: ``depth`` batches at once, of ``batch`` keys each."""

    batch: int
    depth: int
    seconds: float
    key_bytes: int

    async def establish(self, sender: RunningKme) -> None:
        """One batch."""
        await sender.engine.establish(SOUTH, keys=self.batch, key_bytes=self.key_bytes, lifetime=_LIFETIME)


@dataclass(slots=True)
class _Tally:
    """What workers counted."""

    seconds: list[float] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)


@bench.command("establish")
@click.option(
    "--batch",
    type=click.IntRange(1, limits.BATCH_KEYS),
    default=64,
    show_default=True,
    help="Keys in one batch.",
)
@click.option(
    "--depth",
    type=click.IntRange(1, limits.PENDING_BATCHES_PER_PEER),
    default=8,
    show_default=True,
    help="Batches under way at once.",
)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=10.0, show_default=True)
@click.option(
    "--key-bytes",
    type=click.IntRange(limits.KEY_BYTES_MIN, limits.KEY_BYTES_MAX),
    default=32,
    show_default=True,
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where temporary homes are made: the disk that is measured.  [default: the system's]",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the JSON document to a new file, too.",
)
def establish(
    *, batch: int, depth: int, seconds: float, key_bytes: int, directory: Path | None, output: Path | None
) -> None:
    """Establish keys over five hubs for some seconds: rate, latency, pad and bytes spent for each key.

    All daemons share one process, so this is a floor of what separate machines do. Baselines of the
    disk and one core are taken in the same run.
    """
    with tempfile.TemporaryDirectory(prefix="skex-bench-", dir=directory) as name:
        root = Path(name)
        load = _Load(batch, depth, seconds, key_bytes)
        report: dict[str, Any] = {
            "bench": "establish",
            "how": _HOW,
            "parameters": asdict(load),
            "machine": machine(root),
            "baselines": baselines(root),
        }
        talk("Making homes and enrolling two KMEs with five hubs.")
        realm = BenchRealm(root)
        realm.enrol()
        talk(f"Measuring for {seconds:g} s.")
        report["results"] = uvloop.run(_measure(realm, load))
    if output is not None:
        write_new(output, json.dumps(report, indent=2).encode() + b"\n", PUBLIC)
    result(report, _as_text(report))


async def _measure(realm: BenchRealm, load: _Load) -> Mapping[str, Any]:
    async with realm.running():
        sender = realm.kmes[NORTH]
        await _work(sender, load, clock.now() + _WARM_UP_SECONDS, _Tally())
        return await _measured(realm, sender, load)


async def _measured(realm: BenchRealm, sender: RunningKme, load: _Load) -> Mapping[str, Any]:
    ports = set(realm.ports.values())
    tally = _Tally()
    pads, wire, cpu, start = _pads(realm), tcp_bytes(ports), _cpu_seconds(), clock.now()
    async with asyncio.TaskGroup() as group:
        for _ in range(load.depth):
            group.create_task(_work(sender, load, start + load.seconds, tally))
    spent = clock.now() - start
    cpu, wire, after = _cpu_seconds() - cpu, tcp_bytes(ports) - wire, _pads(realm)
    keys = load.batch * len(tally.seconds)
    if not keys:
        raise click.ClickException(f"no batch was established: {dict(tally.refusals)}")
    ordered = sorted(tally.seconds)
    per_link = {what: round((after[what] - pads[what]) / keys / len(HUBS), 2) for what in pads}
    return {
        "keys": keys,
        "batches": len(ordered),
        "refusals": dict(tally.refusals),
        "seconds": round(spent, 3),
        "keys_per_second": round(keys / spent, 1),
        "batches_per_second": round(len(ordered) / spent, 1),
        "batch_ms_p50": round(1000 * quantile(ordered, 0.5), 2),
        "batch_ms_p99": round(1000 * quantile(ordered, 0.99), 2),
        "pad_bytes_per_key_per_link": per_link,
        "pad_bytes_per_key": round(sum(after[what] - pads[what] for what in pads) / keys, 1),
        "wire_bytes_per_key": round(wire / keys, 1),
        "cpu_seconds_per_1000_keys": round(1000 * cpu / keys, 3),
    }


async def _work(sender: RunningKme, load: _Load, until: float, tally: _Tally) -> None:
    """One batch after the other; those under way at the end are awaited and counted."""
    while (begun := clock.now()) < until:
        try:
            await load.establish(sender)
        except Refused as refused:
            tally.refusals[refused.code.name] += 1
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            tally.seconds.append(clock.now() - begun)


def _pads(realm: BenchRealm) -> dict[str, int]:
    """Pad bytes that records cost so far, over all links, by KME and direction; control traffic included."""
    spent: dict[str, int] = {}
    for name, kme in realm.kmes.items():
        used = [kme.daemon.link_status(one, {}, {})["pad_bytes_used"] for one in kme.daemon.links]
        for direction in Direction:
            word = direction.name.lower()
            spent[f"{name}_{word}"] = sum(one[word] or 0 for one in used)
    return spent


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _as_text(report: Mapping[str, Any]) -> str:
    found, base = report["results"], report["baselines"]
    links = found["pad_bytes_per_key_per_link"].items()
    syncs, hashing, copying = base.values()
    lines = [
        f"{found['keys_per_second']:,.0f} keys/s: {found['keys']:,} keys in {found['seconds']:.1f} s",
        f"batch latency: p50 {found['batch_ms_p50']:.1f} ms, p99 {found['batch_ms_p99']:.1f} ms",
        f"pad bytes for each key: {found['pad_bytes_per_key']:.0f} over all links",
        f"pad bytes for each key and link: {', '.join(f'{what} {count}' for what, count in links)}",
        f"bytes on the wire for each key: {found['wire_bytes_per_key']:.0f}",
        f"core time for each key: {found['cpu_seconds_per_1000_keys']:.2f} ms",
        f"baselines: {syncs:.0f} fdatasync/s, SHA-512 {hashing:.0f} MiB/s, copying {copying:.0f} MiB/s",
        f"how: {report['how']}",
    ]
    if found["refusals"]:
        lines.append(f"refused: {found['refusals']}")
    return "\n".join(lines)
