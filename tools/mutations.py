"""Writes the generated tables of docs/simulation.md and docs/simulation-mutations.md.

    PYTHONPATH=. python tools/mutations.py            write them
    PYTHONPATH=. python tools/mutations.py --check    say whether they are current, change nothing

The tables come from the scenarios, from the checkers themselves, and from the tests that plant bugs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from generated import command, with_parts

from simulation.checkers import SCAN_STEPS, Checkers
from simulation.checkers_talk import SLACK_SECONDS
from simulation.scenarios import SCENARIOS
from simulation.world import CALM_STEPS, REFILLED, make_realm
from tests.simulation.mutation_table import PLANTED, SETTINGS

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = (DOCS / "simulation.md", DOCS / "simulation-mutations.md")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(head)
    lines = [heads, ["---"] * len(heads), *(list(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _checkers() -> str:
    rows = []
    for one in Checkers(make_realm()).all:
        place, _, rule = one.rule.partition(": ")
        often = f"every {SCAN_STEPS:,} steps" if _only_scans(one) else "at once"
        rows.append((f"`{one.name}`", rule[0].upper() + rule[1:], place, often))
    return _table(("Checker", "What it holds", "Design", "When"), rows)


def _only_scans(checker: object) -> bool:
    own = vars(type(checker))
    return "scan" in own and not {"taken", "committed", "sealed"} & own.keys()


def _planted() -> str:
    rows = (
        (
            f"`{one.name}`",
            one.meaning,
            f"`{one.caught_by}`",
            f"`{one.setting}`",
            str(one.seeds),
            f"{one.steps:,}",
        )
        for one in PLANTED
    )
    return _table(("Planted bug", "What it is", "Caught by", "Setting", "Within seeds", "Within steps"), rows)


def _settings() -> str:
    used = {one.setting for one in PLANTED}
    rows = ((f"`{name}`", one.description) for name, one in SETTINGS.items() if name in used)
    return _table(("Setting", "What happens in it"), rows)


def _scenarios() -> str:
    rows = ((f"`{name}`", one.description) for name, one in sorted(SCENARIOS.items()))
    return _table(("Scenario", "What goes wrong in it"), rows)


def _flow() -> str:
    return (
        "Besides these, a world compares what its stores hold, tries what its lying hubs could rebuild\n"
        f"together, and lets the faults end: within {CALM_STEPS:,} steps each KME must have delivered keys\n"
        f"again, and have {REFILLED} left in its reserve. Also while there are faults, a request ends at\n"
        f"the latest {SLACK_SECONDS:.0f} seconds after its own deadline.\n"
    )


PARTS: dict[str, Callable[[], str]] = {
    "checkers": _checkers,
    "flow": _flow,
    "planted": _planted,
    "scenarios": _scenarios,
    "settings": _settings,
}


def regenerate(text: str) -> str:
    """``text`` with every part as the code has it now. Raises ``KeyError`` for an unknown name."""
    return with_parts(text, PARTS)


if __name__ == "__main__":
    sys.exit(command(PAGES, PARTS))
