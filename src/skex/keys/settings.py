"""How a KME makes and keeps keys, as its operator may set it.

Apart from the service that follows it, so that reading a configuration imports no machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from skex.base import limits


@dataclass(frozen=True, slots=True)
class KeySettings:
    """How this KME makes and keeps keys. Counts are keys, sizes bytes, times seconds.

    The reserve of each peer is filled up to ``reserve_high`` when it falls below ``reserve_low``.
    ``held_max`` is how many keys of one peer are kept for SAEs here.
    """

    key_bytes: int = 32
    key_bytes_min: int = limits.KEY_BYTES_MIN
    key_bytes_max: int = limits.KEY_BYTES_MAX
    per_request_max: int = 128
    slaves_max: int = limits.SLAVES
    lifetime: int = 86_400
    batch_keys: int = 128
    reserve_low: int = 128
    reserve_high: int = 512
    held_max: int = 262_144
