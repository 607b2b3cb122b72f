"""``skex demo``: the whole system on this machine, with real processes, stock tools and real faults."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import click

from skex.base import codes
from skex.base.errors import Refused
from skex.cli import demo_trust, demo_trust_report
from skex.cli.common import Verb, result
from skex.cli.demo_realm import HUBS, PEERS, RESERVE_KEYS, THRESHOLD, running_realm
from skex.cli.demo_report import Report, as_data, as_text, say, scene_text
from skex.cli.demo_scenes import MESSAGE, Cost, Delivery, Play, Scene, Stage, fault_scenes
from skex.runtime import auditfile, clock

_Seen = TypeVar("_Seen")
Seen: TypeAlias = tuple[Delivery, Sequence[Cost], Sequence[Scene], Sequence[str]]
TOOLS: Final = ("curl", "openssl")
"""The stock programs that play the applications."""
TRUST_TOOLS: Final = ("curl",)


@click.command(cls=Verb)
@click.option(
    "--keep", is_flag=True, help="Leave the homes, logs and files for a look; they are named at the end."
)
@click.option(
    "--liar",
    default="",
    metavar="COMMAND",
    help="A command that runs the hub in --home as a hub that lies, for the scene that needs one.",
)
@click.option(
    "--trust",
    is_flag=True,
    help="Show instead who may have which key, what it rests on, and what is safe after a break-in.",
)
def demo(*, keep: bool, liar: str, trust: bool) -> None:
    r"""Show skex at work on this machine: a minute, no set-up, nothing left behind.

    Runs five hubs and two KMEs as processes of their own in temporary homes, on loopback; enrols them
    with kits; takes a key at both ends with curl; secures a TLS 1.3 connection between two openssl
    processes with it. Then hubs are killed, one lies, and a KME crashes.

    With --trust it shows policies that refuse at a hub, at a KME and for an application, each with the rule
    that decided; what three keys rest on; a realm that one operator controls; which keys are exposed after
    a break-in; and that audit logs which were tampered with do not verify.

    \b
    Example:
      skex demo --json
    """
    _require(TRUST_TOOLS if trust else TOOLS)
    started = clock.now()
    with _directory(keep=keep) as root, _bytecode_in(root):
        kept = str(root) if keep else None
        if trust:
            scenes = asyncio.run(_unless_stopped(demo_trust.demonstrate(root)))
            data, text, failures = demo_trust_report.told(scenes, clock.now() - started, kept)
        else:
            seen = asyncio.run(_unless_stopped(_demonstrate(root, shlex.split(liar))))
            report = Report(*seen, _audited(root), clock.now() - started, kept)
            data, text, failures = as_data(report), as_text(report), report.failures
    result(data, text)
    if not data["good"]:
        raise Refused(codes.DEMO_FAILED, "; ".join(failures))


async def _demonstrate(root: Path, liar: Sequence[str]) -> Seen:
    async with running_realm(root, liar) as realm:
        stage = Stage(realm, root)
        say(f"{len(HUBS)} hubs, any {THRESHOLD} of which rebuild a key, and two KMEs; a home for each.")
        say("Every hub makes a kit for each KME: derived pads for north, table pads for south.")
        await realm.enrol()
        say("Seven processes start; the KMEs import their kits, and fill their reserves.")
        await realm.start()
        await realm.settle()
        await realm.wait(lambda one: one.reserve >= RESERVE_KEYS, "full reserves")
        delivery = await stage.deliver()
        say(f"web@north asked north's ETSI 014 door for a key:\n    {delivery.command}")
        say(f"db@south took key {delivery.key_id} from south's door: the same key.")
        say(f"Two openssl processes speak {delivery.handshake.suite} with it: {MESSAGE!r} crossed.")
        costs = await stage.measure()
        say("Now faults. Before each one the reserves are drained, so that a key has to be established.")
        scenes = [await _play(one) for one in fault_scenes(stage, with_liar=bool(liar))]
        say("At last skex doctor looks at all seven homes, and every audit log is checked.")
        return delivery, costs, scenes, await realm.examine()


async def _play(play: Play) -> Scene:
    scene = await play.run()
    say(scene_text(scene))
    return scene


def _audited(root: Path) -> int:
    """How many records the logs have. Raises ``StoreFault`` (audit-damaged) unless each chain is whole."""
    reports = [auditfile.verify(root / name / "audit") for name in (*HUBS, *PEERS)]
    for report in reports:
        report.require_sound()
    return sum(report.records for report in reports)


# ── around it ───────────────────────────────────────────────────────────────────────────────────
def _require(tools: Sequence[str]) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise Refused(codes.TOOL_MISSING, ", ".join(missing))


@contextmanager
def _directory(*, keep: bool) -> Iterator[Path]:
    """A private directory, which is gone at the end unless it is to be kept."""
    root = Path(tempfile.mkdtemp(prefix="skex-demo-"))
    try:
        yield root
    finally:
        if keep:
            say(f"Everything is kept in {root}: homes, logs, keys. Remove it when you have seen enough.")
        else:
            shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _bytecode_in(root: Path) -> Iterator[None]:
    """Where Python is told to keep no bytecode, forty commands would compile everything forty times."""
    before = dict(os.environ)
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ["PYTHONPYCACHEPREFIX"] = str(root / "bytecode")
    try:
        yield
    finally:
        shutil.rmtree(root / "bytecode", ignore_errors=True)
        os.environ.clear()
        os.environ.update(before)


async def _unless_stopped(work: Coroutine[Any, Any, _Seen]) -> _Seen:
    """Do the work; the first signal to stop cancels it, and it cleans up undisturbed by further ones.

    Raises ``KeyboardInterrupt`` where it was stopped.
    """
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    told: list[int] = []

    def stop(number: int) -> None:
        if main is not None and not told:
            told.append(number)
            main.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    try:
        return await work
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
