"""Who is at the other end of a local socket, as the kernel vouches for it (unix(7), SO_PEERCRED)."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

_CREDENTIALS: Final = struct.Struct("iII")
"""Process, user and group of whoever connected, at that moment."""
_PEER_GROUPS: Final = 59
"""SO_PEERGROUPS of <asm-generic/socket.h>, since Linux 4.13; Python has no name for it."""
_GROUPS_BYTES: Final = 1024
"""The longest answer that Python asks the kernel for: 256 groups."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A user, by number, and all groups that the process was in when it connected."""

    user: int
    groups: frozenset[int]

    @property
    def is_owner(self) -> bool:
        """Whether it is this process's own user, or root: who could read and write all of its files."""
        return self.user in (0, os.getuid())


def peer_of(connection: socket.socket) -> Peer:
    """The other end of a Unix socket. Raises ``OSError``."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, group = _CREDENTIALS.unpack(raw)
    return Peer(user, frozenset({group}) | _more_groups(connection, user, group))


def _more_groups(connection: socket.socket, user: int, group: int) -> frozenset[int]:
    with suppress(OSError):  # an older kernel, or a process in more groups than fit
        raw = connection.getsockopt(socket.SOL_SOCKET, _PEER_GROUPS, _GROUPS_BYTES)
        return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))
    name = user_name(user)
    return frozenset() if name is None else frozenset(os.getgrouplist(name, group))


def user_name(number: int) -> str | None:
    """What the system calls a user; None for one without a name. It may ask a network for it."""
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return None


def group_name(number: int) -> str | None:
    """What the system calls a group; None for one without a name. It may ask a network for it."""
    with suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return None


def group_number(name: str) -> int | None:
    """The number of the group that the system calls ``name``, if there is one."""
    with suppress(KeyError):
        return grp.getgrnam(name).gr_gid
    return None


def user_number(name: str) -> int | None:
    """The number of the user that the system calls ``name``, if there is one."""
    with suppress(KeyError):
        return pwd.getpwnam(name).pw_uid
    return None


def groups_of(user: int) -> frozenset[int]:
    """The groups that the system puts a user in who logs in now; none for a user without a name."""
    with suppress(KeyError):
        entry = pwd.getpwuid(user)
        return frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return frozenset()
