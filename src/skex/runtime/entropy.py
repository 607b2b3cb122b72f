"""The one place that asks the operating system for randomness."""

from __future__ import annotations

import os

from skex.base.secret import Secret


def random_bytes(count: int) -> bytes:
    """``count`` bytes of the operating system's generator, for nonces and ids."""
    return os.urandom(count)


def random_secret(count: int) -> Secret:
    """``count`` bytes of the operating system's generator, as a secret."""
    return Secret(os.urandom(count))
