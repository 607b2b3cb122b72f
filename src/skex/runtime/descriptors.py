"""How many files this process may have open: raised as far as the system lets an ordinary user."""

from __future__ import annotations

import resource


def allow_open_files(wanted: int) -> int:
    """Raise the limit to ``wanted`` if it is lower and may be; returns the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return raised
