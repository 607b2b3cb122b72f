"""Checks of the machine: versions, bounds, and what could carry secrets to a disk."""

from __future__ import annotations

import ctypes
import os
import resource
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from skex.daemon.checks.findings import Finding, Subject, fail, ok, warn

_PYTHON: Final = (3, 11)
_OPENSSL: Final = (3, 0)
_FILES: Final = 1024
"""Descriptors: one for each link, two for its pads, and those of the doors."""
_SWAPS: Final = Path("/proc/swaps")
_CORE_PATTERN: Final = Path("/proc/sys/kernel/core_pattern")
_TIMEX_BYTES: Final = 208
"""No architecture's struct timex is longer."""
_TIME_ERROR: Final = 5
"""What adjtimex returns while nothing synchronises the clock (adjtimex(2))."""


def versions(_: Subject) -> Iterator[Finding]:
    """Python and OpenSSL."""
    running = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < _PYTHON:
        yield fail("python", f"Python {running} is too old.", "Run skex with Python 3.11 or later.")
    else:
        yield ok("python", f"Python {running}.")
    if ssl.OPENSSL_VERSION_INFO[:2] < _OPENSSL:
        mend = "Install a Python that is built with OpenSSL 3 or later."
        yield warn("openssl", f"{ssl.OPENSSL_VERSION} gets no more security updates.", mend)
    else:
        yield ok("openssl", f"{ssl.OPENSSL_VERSION}.")


def user(subject: Subject) -> Iterator[Finding]:
    """Who runs this."""
    if os.geteuid() != 0:
        yield ok("user", f"Not root (user id {os.geteuid()}).")
    elif subject.config is not None and subject.config.allow_root:
        yield warn("user", "Runs as root, as run.allow_root says.", "Give the daemon a user of its own.")
    else:
        mend = "Run commands as the user who owns the home; a daemon started as root refuses to run."
        yield warn("user", "Runs as root, which nothing here needs.", mend)


def bounds(_: Subject) -> Iterator[Finding]:
    """How many files a daemon may have open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        mend = f"Raise it to {_FILES} or more: LimitNOFILE= in the unit, or ulimit -n."
        yield warn("open-files", f"Only {soft} files may be open at once.", mend)
    else:
        yield ok("open-files", "Enough files may be open at once.")


def memory(_: Subject) -> Iterator[Finding]:
    """Whether memory can reach a disk."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_CORE)
    piped = _first_line(_CORE_PATTERN).startswith("|")
    if soft or piped:
        mend = "Set LimitCORE=0 in the unit (ulimit -c 0), and let no crash handler keep dumps."
        yield warn("core-dumps", "A crash may write keys to a disk as a core dump.", mend)
    else:
        yield ok("core-dumps", "A crash leaves no core dump.")
    swaps = _lines(_SWAPS)[1:]
    plain = [line.split()[0] for line in swaps if "zram" not in line.split()[0]]
    if plain:
        mend = "Encrypt swap with a key that is lost at power off, or do without (MemorySwapMax=0)."
        yield warn("swap", f"Memory may be swapped to {', '.join(plain)}.", mend)
    else:
        yield ok("swap", "Memory is not swapped to a disk.")


def synchronised(_: Subject) -> Iterator[Finding]:
    """Whether something keeps the clock right."""
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state == _TIME_ERROR:
        mend = "Run an NTP client (chrony, systemd-timesyncd) on this host; in a container, on its host."
        yield warn("clock-sync", "The system does not say that its clock is synchronised.", mend)
    elif state < 0:
        yield warn("clock-sync", "Whether the clock is synchronised cannot be read.", "Check it by hand.")
    else:
        yield ok("clock-sync", "The clock is synchronised.")


def _lines(path: Path) -> list[str]:
    """A file of the system, empty where there is none."""
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _first_line(path: Path) -> str:
    return next(iter(_lines(path)), "")
