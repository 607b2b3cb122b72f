"""What every pad is to the layers above: its kinds, the ticket of a grant being taken, the interface."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from skex.base.ids import Direction, LinkId
from skex.pad.material import GrantMaterial


class PadKind(IntEnum):
    """The two kinds of pad. The numbers are in pad files; they never change."""

    DERIVED = 1
    """From a 64-byte seed by a one-way chain; a position is a chain index, a grant has one."""
    TABLE = 2
    """Random bytes delivered at enrolment; a position is a unit of 4096 bytes."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prepared:
    """A grant whose material was read but may not be used yet: a ticket without the bytes.

    Commit and sync ``new_mark`` in the store, then trade the ticket at the pad that wrote it
    (``finish``). Tickets are compared by identity, so one that was made up buys nothing.
    """

    direction: Direction
    start: int
    count: int

    @property
    def new_mark(self) -> int:
        """The mark that the store must hold durably before ``finish``."""
        return self.start + self.count


class Pad(Protocol):
    """One direction's pad at one end. Not for use by two threads at once."""

    @property
    def kind(self) -> PadKind:
        """Which kind it is."""

    @property
    def link_id(self) -> LinkId:
        """The link it belongs to."""

    @property
    def direction(self) -> Direction:
        """The direction it belongs to."""

    @property
    def mark(self) -> int:
        """The lowest position never yet granted: the higher of the store's and the file's. Never falls."""

    @property
    def capacity(self) -> int:
        """How many positions it has; a grant ends at or below it."""

    @property
    def remaining_bytes(self) -> int:
        """How many bytes of material are left above the mark."""

    @property
    def contradiction(self) -> bool:
        """Whether the file's mark was ahead of the store's at open (pad-mark-contradicts).

        The store's mark is always made durable first, so a store that is behind was restored from an
        older image: this end's own evidence of a rollback. The pad stays safe to use from its mark.
        """

    @property
    def lag(self) -> int:
        """How many positions the file's mark was behind the store's at open.

        After a crash that is the one take it cut off; more says that the file, but not the store, was
        restored from an older image. Either way everything below the mark has been erased again.
        """

    def prepare(self, start: int, count: int, kme_nonce: bytes, hub_nonce: bytes) -> Prepared:
        """Read the material of a grant into memory; nothing is marked or erased yet.

        The nonces are the connection's, 32 bytes each; a table pad does not look at them. A grant that
        was prepared before and not finished is dropped.

        Raises: ``LocalBug`` pad-reuse (below the mark), bug-argument; ``Refused`` pad-exhausted;
        ``StoreFault`` pad-short-read, pad-hole, pad-corrupt, pad-jump, pad-io. Nothing changes then.
        """

    def finish(self, prepared: Prepared) -> GrantMaterial:
        """After the store's commit: mark the file, erase everything below the mark, hand the bytes out.

        Raises ``LocalBug`` bug-state for any ticket but the last one of this pad, unused;
        ``StoreFault`` when a write failed: the material is lost and the pad must be opened anew.
        """

    def abandon(self, prepared: Prepared) -> None:
        """Wipe a prepared grant that will not be finished. A ticket of no effect any more is ignored."""

    def erase_below_mark(self) -> None:
        """Bring the file to the mark again: mark, erase, sync. ``open`` has done it. Idempotent."""

    def close(self) -> None:
        """Wipe what is prepared and release the file. Idempotent."""
