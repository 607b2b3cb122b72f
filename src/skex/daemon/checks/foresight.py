"""Checks of what will run out, asked of the running daemon: pads that are low, reserves that starve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skex.daemon.checks.findings import Finding, Subject, ok, warn
from skex.keys.health import Health

_STARVED = {Health.STARVED.value, Health.EMPTY.value}


def forecasts(subject: Subject) -> Iterator[Finding]:
    """Which table pads run low, and when they are used up at the present pace."""
    status = subject.status or {}
    links = [*status.get("hubs", ()), *status.get("kmes", ())]
    watched = [one for one in links if one.get("pads")]
    low = [one for one in watched if any(pad["low"] for pad in one["pads"].values())]
    for one in low:
        mend = "Re-enrol the link with a new kit before its pad is used up."
        yield warn("forecast", f"The pad with {one.get('hub') or one['kme']} is low: {_lasts(one)}.", mend)
    if watched and not low:
        yield ok("forecast", f"The pads of {len(watched)} links last long enough.")


def _lasts(one: Mapping[str, Any]) -> str:
    pads = one["pads"].values()
    percent = min(pad["left_percent"] for pad in pads)
    days = [pad["days_left"] for pad in pads if pad["days_left"] is not None]
    pace = f", enough for {min(days):g} days at this pace" if days else ""
    return f"{percent:g} % are left{pace}"


def reserves(subject: Subject) -> Iterator[Finding]:
    """Whether reserves keep up with what is taken."""
    status = subject.status or {}
    found = status.get("reserves", ())
    starved = [one for one in found if one["health"] in _STARVED]
    for one in starved:
        sentence = f"The reserve for {one['peer']} holds {one['keys']} keys and its low mark is {one['low']}."
        mend = "See why batches fail (skex audit show --event batch-failed), or lower what is taken."
        yield warn("reserves", sentence, mend)
    if found and not starved:
        yield ok("reserves", f"{len(found)} reserves keep up with what is taken.")
