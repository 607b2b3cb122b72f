"""Checks of a home's files: whose they are, who may read them, what they say, where they lie."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from skex.base.errors import SkexError
from skex.daemon import config
from skex.daemon.checks.findings import Finding, Subject, fail, fault, ok, warn
from skex.daemon.config import HubConfig, KmeConfig
from skex.daemon.homes import INCOMPLETE
from skex.daemon.master import MASTER_KEY_FILE, SEALED_FILE
from skex.daemon.starting import (
    ADMIN_SOCKET,
    PADS_DIRECTORY,
    STORE_FILE,
    load_policy,
)

_OTHERS: Final = 0o077
_WRITABLE: Final = 0o022
_FREE_BYTES_FAIL: Final = 16 * 1024 * 1024
"""Below this a commit or an audit record may find no room at any moment."""
_FREE_BYTES_WARN: Final = 256 * 1024 * 1024
_LISTED: Final = 3
"""So many file names are said; the rest are counted."""
_MOUNTS: Final = Path("/proc/self/mounts")
_NOT_IN_PLACE: Final = {
    "btrfs": "writes every change to another place",
    "zfs": "writes every change to another place",
    "bcachefs": "writes every change to another place",
    "overlay": "may keep an older copy below",
    "nfs": "belongs to another machine",
    "nfs4": "belongs to another machine",
    "cifs": "belongs to another machine",
    "f2fs": "writes every change to another place",
}


def exists(subject: Subject) -> Iterator[Finding]:
    """Whether the home is there, and whole."""
    home = subject.home
    if not home.is_dir():
        mend = "Make it with skex hub init or skex kme init, or name another with --home."
        yield fail("home", f"{home} is not a directory that can be read.", mend)
    elif (home / INCOMPLETE).exists():
        yield fail("home", f"{home} is only half made.", "Repeat the init command that was cut off.")
    else:
        yield ok("home", f"{home}.")


def configuration(subject: Subject) -> Iterator[Finding]:
    """Whose home it is, and whether its configuration can be read; leaves ``subject.config``."""
    home = subject.home
    kinds = [name for name in (config.HUB_FILE, config.KME_FILE) if (home / name).exists()]
    if len(kinds) == 2:
        yield fail("config", f"{home} has a hub's and a KME's configuration.", "Remove the wrong one.")
        return
    directory = config.SYSTEM_DIRECTORY
    if not kinds:
        kinds = [name for name in (config.HUB_FILE, config.KME_FILE) if (directory / name).exists()]
    try:
        if kinds == [config.HUB_FILE]:
            subject.config = config.load_hub(home)
        elif kinds == [config.KME_FILE]:
            subject.config = config.load_kme(home)
        else:
            mend = "Make a home with skex hub init or skex kme init, or name another with --home."
            yield fail("config", f"No single hub.toml or kme.toml is in {home} or {directory}.", mend)
            return
    except SkexError as error:
        yield fault("config", error)
        return
    kind = "hub" if isinstance(subject.config, HubConfig) else "KME"
    yield ok("config", f"{kinds[0]} can be read: {kind} {subject.config.name}.")


# ── owners and modes ────────────────────────────────────────────────────────────────────────────
def modes(subject: Subject) -> Iterator[Finding]:
    """Owners, and who else may read or write what."""
    home = subject.home
    owner = home.stat().st_uid
    if os.geteuid() not in (0, owner):
        yield warn("owner", f"{home} belongs to user id {owner}.", "Run the doctor as that user, or as root.")
    private, foreign, writable = [], [], []
    for path in _files(subject):
        mode = path.lstat()
        if mode.st_uid != owner:
            foreign.append(path)
        if _is_private(subject, path) and mode.st_mode & _OTHERS:
            private.append(path)
        elif mode.st_mode & _WRITABLE:
            writable.append(path)
    yield from _named(
        foreign, "owner", f"not owned by user id {owner}, who owns the home", f"chown -R {owner} {home}"
    )
    yield from _named(
        private,
        "modes",
        "open to other users",
        f"chmod -R go-rwx {home}; if others could log in here meanwhile, re-enrol every link.",
    )
    yield from _named(writable, "modes", "writable by other users", f"chmod -R go-w {home}")
    if not private and not writable:
        yield ok("modes", "No file of the home is open to other users.")


def _files(subject: Subject) -> Iterator[Path]:
    home = subject.home
    yield home
    yield from (path for path in sorted(home.rglob("*")) if not path.is_symlink())
    settings = subject.config
    if isinstance(settings, KmeConfig) and settings.etsi014.enabled:
        key = settings.etsi014.key
        if key.exists() and not key.is_relative_to(home):
            yield key


def _is_private(subject: Subject, path: Path) -> bool:
    """Whether its content is nobody else's business, whatever the home's own mode."""
    home = subject.home
    if isinstance(subject.config, KmeConfig) and path == subject.config.etsi014.key:
        return True
    inside = path.relative_to(home).parts if path.is_relative_to(home) else ()
    first = inside[0] if inside else ""
    names = (PADS_DIRECTORY, "audit", ADMIN_SOCKET)
    return path == home or first in names or first.startswith((STORE_FILE, MASTER_KEY_FILE, SEALED_FILE))


def _named(paths: list[Path], check: str, what: str, mend: str) -> Iterator[Finding]:
    if paths:
        shown = ", ".join(str(path) for path in paths[:_LISTED])
        more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
        yield fail(check, f"{shown}{more}: {what}.", mend)


# ── where it lies ───────────────────────────────────────────────────────────────────────────────
def disk(subject: Subject) -> Iterator[Finding]:
    """Room, and whether erasing in place erases."""
    free = shutil.disk_usage(subject.home).free
    sentence = f"{free // (1024 * 1024)} MiB are free where the home lies."
    if free < _FREE_BYTES_FAIL:
        yield fail("disk-space", sentence, "Make room: without it no grant is taken and nothing is recorded.")
    elif free < _FREE_BYTES_WARN:
        yield warn("disk-space", sentence, "Make room before it is used up.")
    else:
        yield ok("disk-space", sentence)
    kind = file_system(subject.home / PADS_DIRECTORY, _mounts())
    if kind in _NOT_IN_PLACE:
        mend = "Put the home on ext4 or XFS on a local disk, better one that is encrypted."
        sentence = f"{kind} {_NOT_IN_PLACE[kind]}: used pad may survive its erasing."
        yield warn("file-system", sentence, mend)
    elif kind in {"tmpfs", "ramfs"}:
        mend = "Put the home on a local disk; a KME or hub that forgot its marks must be enrolled anew."
        yield warn("file-system", f"{kind} forgets the home when the machine stops.", mend)
    else:
        yield ok("file-system", f"Pads lie on {kind or 'a file system of unknown kind'}.")


def file_system(path: Path, mounts: list[str]) -> str:
    """The kind of file system that holds ``path``, by the lines of /proc/self/mounts; empty if unknown."""
    found, kind = "", ""
    real = str(path.resolve())
    for line in mounts:
        _, point, this, *_ = [*line.split(" "), "", "", ""]
        point = point.replace("\\040", " ")
        below = real == point or real.startswith(point.rstrip("/") + "/")
        if below and len(point) >= len(found):
            found, kind = point, this
    return kind


def _mounts() -> list[str]:
    try:
        return _MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return []


# ── policy ──────────────────────────────────────────────────────────────────────────────────────
def policy(subject: Subject) -> Iterator[Finding]:
    """Whether it can be read, and whether anything is allowed."""
    settings = subject.config
    if settings is None:
        return
    try:
        rules = load_policy(settings.policy).policy.rules
    except SkexError as error:
        yield fault("policy", error)
        return
    needed = ("hub.allow",) if isinstance(settings, HubConfig) else ("kme.allow", "sae.allow")
    tables = {rule.table for rule in rules}
    missing = [table for table in needed if table not in tables]
    if missing:
        mend = f"Add a rule to {settings.policy}, then reload; docs/policy.md has examples."
        yield warn("policy", f"Nothing is allowed: no rule [[{']] and no rule [['.join(missing)}]].", mend)
    else:
        yield ok("policy", f"{settings.policy.name} can be read and allows something.")
