"""One daemon, or one offline command, per home: an exclusive lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from skex.base import codes
from skex.base.errors import StoreFault


class HomeLock:
    """Holds ``<home>/lock`` until it is released or the process ends, however it ends."""

    def __init__(self, home: Path) -> None:
        """Raises ``StoreFault``: home-in-use, home-missing."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(home / "lock", flags, 0o600)
        except OSError as error:
            raise StoreFault(codes.HOME_MISSING, str(home)) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise StoreFault(codes.HOME_IN_USE, str(home)) from error

    def release(self) -> None:
        """Let another process have the home. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
