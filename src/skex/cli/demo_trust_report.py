"""What ``skex demo --trust`` showed: a document for machines, and a closing page for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import skex
from skex.cli.common import table
from skex.cli.demo_realm import HUBS, REALM, THRESHOLD
from skex.cli.demo_report import paragraph, say, scene_data, scene_text
from skex.cli.demo_scenes import Outcome, Play, Scene

LINES: Final = 8
"""How many lines of a command's output are shown at most."""
WIDTH: Final = 120
"""How many characters of a line are shown."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A command as it was run, what it ended with, and what it wrote, shortened."""

    command: str
    code: int
    output: Sequence[str]


@dataclass(frozen=True, slots=True)
class Act:
    """A scene and the commands that were run in it."""

    scene: Scene
    commands: Sequence[Shown]


class Transcript:
    """The commands of the scene that is being played; each is shown as soon as it has ended."""

    def __init__(self) -> None:
        self._commands: list[Shown] = []

    def add(self, command: str, code: int, output: str, only: str = "") -> None:
        """Show a command; of its output the lines in which the pattern ``only`` is found."""
        shown = Shown(command, code, shortened(output, only))
        self._commands.append(shown)
        say("\n".join([f"  $ {command}", *(f"      {line}" for line in shown.output)]))

    async def play(self, play: Play) -> Act:
        """Play a scene; its commands are shown above what was seen."""
        self._commands = []
        scene = await play.run()
        say(scene_text(scene) + "\n")
        return Act(scene, tuple(self._commands))


def shortened(output: str, only: str = "") -> tuple[str, ...]:
    """The lines that matter, each of them cut; an ellipsis stands where something was left out."""
    found: list[str] = []
    kept = 0
    for line in filter(None, output.splitlines()):
        if kept < LINES and re.search(only, line):
            kept += 1
            found.append(line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…")
        elif found[-1:] != ["…"]:
            found.append("…")
    return tuple(found)


def sentences(paragraph: str) -> str:
    """A paragraph with each of its sentences in a line."""
    return re.sub(r"(?<=\.) (?=[A-Z])", "\n", " ".join(paragraph.split()))


def told(
    acts: Sequence[Act], seconds: float, directory: str | None
) -> tuple[dict[str, Any], str, tuple[str, ...]]:
    """The document of ``--json``, the closing page, and which scenes failed."""
    failures = tuple(act.scene.name for act in acts if act.scene.outcome is not Outcome.PASSED)
    return _data(acts, seconds, directory, good=not failures), _text(acts, seconds, directory), failures


def _data(acts: Sequence[Act], seconds: float, directory: str | None, *, good: bool) -> dict[str, Any]:
    return {
        "skex": skex.__version__,
        "good": good,
        "realm": {"name": REALM, "hubs": list(HUBS), "threshold": THRESHOLD},
        "scenes": [
            {
                **scene_data(act.scene),
                "commands": [
                    {"command": one.command, "exit_code": one.code, "output": list(one.output)}
                    for one in act.commands
                ],
            }
            for act in acts
        ],
        "seconds": round(seconds, 1),
        "directory": directory,
    }


def _text(acts: Sequence[Act], seconds: float, directory: str | None) -> str:
    rows = [(act.scene.outcome.value, act.scene.title) for act in acts]
    return "\n".join(
        [
            "",
            "What was shown",
            table([*rows, ("time", f"{seconds:.0f} seconds")], indent=2),
            "",
            "Where to go next",
            *paragraph("docs/policy.md, docs/keys.md, docs/compromise.md and docs/audit.md go on."),
            *([] if directory is None else paragraph(f"Everything was kept in {directory}.")),
        ]
    )
