"""What a store hands back at a start: the traffic batches of which keys are left."""

from __future__ import annotations

from typing import Protocol

from skex.base.ids import SaeId
from skex.protocol.changes import Batch, Role
from skex.wire.peer import KeyRange


class KeptBatch(Protocol):
    """One batch at one end. Sets of keys are ascending ranges that do not touch."""

    @property
    def role(self) -> Role:
        """Which end of the batch this KME is."""

    @property
    def batch(self) -> Batch:
        """What is known of it; its ``keys`` are not used."""

    @property
    def expires_at(self) -> float:
        """When its lifetime is over (at a receiver, with the margin), on the boot-time clock."""

    @property
    def left(self) -> tuple[KeyRange, ...]:
        """The keys that are still held."""

    @property
    def free(self) -> tuple[KeyRange, ...]:
        """Those of ``left`` that were promised to nobody."""

    @property
    def taken(self) -> tuple[tuple[SaeId, tuple[KeyRange, ...]], ...]:
        """Slaves that took keys which other slaves of the same assignment did not take yet."""
