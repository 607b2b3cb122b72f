"""A pytest plugin for runs that end when their time does (``-p tests.support.bounded``).

SKEX_UNTIL is when, on the boot-time clock: a test that did not begin by then is skipped, and counted.
SKEX_ORDER is a seed of the order, so that short runs do not always come to the same tests.
SKEX_REPORT is a file that gets what came of it, as JSON.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from simulation.chance import Chance
from skex.runtime import clock

TIME_IS_UP = "the time was up"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in the order of the seed."""
    chance = Chance(f"order/{os.environ.get('SKEX_ORDER', '1')}")
    ranks = {item.nodeid: chance.random() for item in items}
    items.sort(key=lambda item: ranks[item.nodeid])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin nothing when the time is up."""
    if clock.now() >= float(os.environ.get("SKEX_UNTIL", "inf")):
        pytest.skip(TIME_IS_UP)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the report; where tests run in several processes, only the first of them comes here."""
    path = os.environ.get("SKEX_REPORT")
    if path is None:
        return
    found = {name: terminalreporter.stats.get(name, []) for name in ("passed", "failed", "error", "skipped")}
    late = sum(TIME_IS_UP in str(one.longrepr) for one in found["skipped"])
    report = {
        "passed": len(found["passed"]),
        "failed": [one.nodeid for one in (*found["failed"], *found["error"])],
        "not_begun": late,
        "skipped": len(found["skipped"]) - late,
    }
    Path(path).write_text(json.dumps(report), encoding="utf-8")
