"""Paths of local sockets: the system bounds them at 107 bytes, however deep a home may lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PATH_BYTES: Final = 107
"""What ``sun_path`` holds before its final zero (unix(7))."""


@contextmanager
def socket_path(path: Path) -> Iterator[str]:
    """A name for ``path`` that fits, to bind or connect to within the block. Raises ``OSError``.

    A long one goes through the open directory, which the kernel names shortly.
    """
    if len(os.fsencode(path)) <= _PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
