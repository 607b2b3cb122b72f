"""The two clocks. Timers use the boot-time clock, which runs through suspend; people use UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> float:
    """Seconds on the boot-time clock: monotonic, never set, counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall() -> datetime:
    """The time of day in UTC: for certificates, kit expiry and audit only."""
    return datetime.now(UTC)


def unix_seconds() -> int:
    """Whole seconds of the time of day since 1970."""
    return int(time.time())
