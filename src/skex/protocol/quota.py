"""Token buckets: how much one party may draw on another's pad, in bytes and in requests.

A bucket counts what was spent and forgets it at the quota's rate, so that a bucket which has
forgotten everything equals one that never was and can be dropped. Knows no names, only keys.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from skex.base import limits


@dataclass(frozen=True, slots=True)
class Rate:
    """``burst`` at once, ``per_second`` in the long run; what is larger than ``burst`` never passes."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class Quota:
    """Both rates apply: ``pad_bytes`` of the receiver's pad, ``requests`` (batches, peer messages)."""

    pad_bytes: Rate
    requests: Rate


class _Bucket:
    """What was spent of one quota and not yet forgotten."""

    __slots__ = ("_at", "_pad_bytes", "_quota", "_requests")

    def __init__(self, quota: Quota, now: float) -> None:
        self._quota = quota
        self._pad_bytes = 0.0
        self._requests = 0.0
        self._at = now

    def settle(self, now: float) -> None:
        """Forget what the time since the last call allows."""
        elapsed = now - self._at
        self._pad_bytes = max(0.0, self._pad_bytes - elapsed * self._quota.pad_bytes.per_second)
        self._requests = max(0.0, self._requests - elapsed * self._quota.requests.per_second)
        self._at = now

    def fits(self, quota: Quota, pad_bytes: int) -> bool:
        """Whether one request of so many bytes fits; ``quota`` may have changed since the last one."""
        self._quota = quota
        return (
            self._pad_bytes + pad_bytes <= quota.pad_bytes.burst
            and self._requests + 1 <= quota.requests.burst
        )

    def spend(self, pad_bytes: int) -> None:
        """Count one request."""
        self._pad_bytes += pad_bytes
        self._requests += 1

    @property
    def idle(self) -> bool:
        """Whether nothing is left to forget."""
        return not self._pad_bytes and not self._requests


class Buckets:
    """Every bucket of a hub, at most ``capacity`` of them."""

    def __init__(self, capacity: int = limits.RELAY_BUCKETS) -> None:
        self._capacity = capacity
        self._buckets: dict[Hashable, _Bucket] = {}
        self._swept_at = 0.0

    def __len__(self) -> int:
        return len(self._buckets)

    def exceeded(self, charges: Mapping[Hashable, Quota], pad_bytes: int, now: float) -> Hashable | None:
        """The first key of ``charges`` whose quota one more request of ``pad_bytes`` would exceed."""
        for key, quota in charges.items():
            bucket = self._buckets.get(key) or _Bucket(quota, now)
            bucket.settle(now)
            if not bucket.fits(quota, pad_bytes):
                return key
        return None

    def room(self, charges: Mapping[Hashable, Quota], now: float) -> bool:
        """Whether every key of ``charges`` has a bucket or may get one.

        A new key never pushes out another: that would hand its quota back to whoever spent it.
        """
        new = sum(key not in self._buckets for key in charges)
        if len(self._buckets) + new > self._capacity:
            self.sweep(now)
        return len(self._buckets) + new <= self._capacity

    def spend(self, charges: Mapping[Hashable, Quota], pad_bytes: int, now: float) -> None:
        """Count one request against every key; callers asked ``exceeded`` and ``room`` before."""
        if not self._buckets:
            self._swept_at = now
        for key, quota in charges.items():
            self._buckets.setdefault(key, _Bucket(quota, now)).spend(pad_bytes)

    def sweep(self, now: float) -> None:
        """Drop the buckets that have forgotten everything; at most every RELAY_SWEEP_SECONDS."""
        if now < self._swept_at + limits.RELAY_SWEEP_SECONDS:
            return
        self._swept_at = now
        for bucket in self._buckets.values():
            bucket.settle(now)
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.idle}

    @property
    def next_sweep(self) -> float | None:
        """When ``sweep`` may find something again, if anything is counted."""
        return self._swept_at + limits.RELAY_SWEEP_SECONDS if self._buckets else None
