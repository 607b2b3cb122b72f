"""The one order in which a grant is taken, for every kind of pad.

Read into memory (``prepare``); the caller commits and syncs the store's mark; mark the file, erase
and sync everything below the mark (``finish``); only then the bytes can be used. A crash between any
two steps leaves the grant either untaken everywhere or lost, never taken twice, and what ``finish``
does is also what ``open`` does after a crash. It must not know how a kind keeps its material.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from skex.base import codes
from skex.base.errors import LocalBug, Refused, StoreFault
from skex.base.ids import Direction, LinkId
from skex.pad.files import PadFile, translated
from skex.pad.kinds import PadKind, Prepared
from skex.pad.layout import Identity
from skex.pad.material import GrantMaterial


class TakingPad(ABC):
    """The marks and the order of taking; a kind adds ``_read`` and ``_settle``. See ``kinds.Pad``."""

    def __init__(self, file: PadFile, identity: Identity, own_mark: int, store_mark: int) -> None:
        self._file = file
        self._identity = identity
        self._mark = max(own_mark, store_mark)
        self._contradiction = own_mark > store_mark
        self._lag = max(0, store_mark - own_mark)
        self._pending: tuple[Prepared, GrantMaterial] | None = None
        self._usable = True
        self._closed = False

    @property
    def kind(self) -> PadKind:
        """Which kind it is."""
        return self._identity.kind

    @property
    def link_id(self) -> LinkId:
        """The link it belongs to."""
        return self._identity.link_id

    @property
    def direction(self) -> Direction:
        """The direction it belongs to."""
        return self._identity.direction

    @property
    def mark(self) -> int:
        """The lowest position never yet granted."""
        return self._mark

    @property
    def capacity(self) -> int:
        """How many positions it has."""
        return self._identity.capacity

    @property
    def contradiction(self) -> bool:
        """Whether the file's mark was ahead of the store's at open."""
        return self._contradiction

    @property
    def lag(self) -> int:
        """How many positions the file's mark was behind the store's at open."""
        return self._lag

    @final
    def prepare(self, start: int, count: int, kme_nonce: bytes = b"", hub_nonce: bytes = b"") -> Prepared:
        """Read a grant's material into memory. See ``kinds.Pad.prepare``."""
        self._require_usable()
        if start < 0 or count < 1:
            raise LocalBug(codes.BAD_ARGUMENT, "a grant of nothing")
        if start < self._mark:
            raise LocalBug(codes.PAD_REUSE)
        if start + count > self.capacity:
            raise Refused(codes.PAD_EXHAUSTED)
        with translated():
            material = self._read(start, count, kme_nonce, hub_nonce)
        self._drop_pending()
        prepared = Prepared(self.direction, start, count)
        self._pending = (prepared, material)
        return prepared

    @final
    def finish(self, prepared: Prepared) -> GrantMaterial:
        """Mark, erase, sync, then hand the material out. See ``kinds.Pad.finish``."""
        if self._pending is None or self._pending[0] is not prepared:
            raise LocalBug(codes.BAD_STATE, "not the grant that this pad prepared last")
        _, material = self._pending
        self._pending = None
        # Before any write: whatever fails from here on, these positions are never prepared again.
        self._mark = prepared.new_mark
        try:
            self.erase_below_mark()
        except BaseException:
            material.wipe()
            raise
        return material

    @final
    def abandon(self, prepared: Prepared) -> None:
        """Wipe a prepared grant. See ``kinds.Pad.abandon``."""
        if self._pending is not None and self._pending[0] is prepared:
            self._drop_pending()

    @final
    def erase_below_mark(self) -> None:
        """Bring the file to the mark. See ``kinds.Pad.erase_below_mark``.

        When it fails, the pad refuses everything until it is opened anew: after a failed sync the
        system may take unwritten pages for written ones, so trying the sync again would prove nothing.
        """
        self._require_usable()
        self._usable = False
        with translated():
            self._settle()
        self._usable = True

    @final
    def close(self) -> None:
        """Wipe what is prepared and release the file. Idempotent."""
        self._closed = True
        self._drop_pending()
        self._file.close()

    @property
    @abstractmethod
    def remaining_bytes(self) -> int:
        """How many bytes of material are left above the mark."""

    @abstractmethod
    def _read(self, start: int, count: int, kme_nonce: bytes, hub_nonce: bytes) -> GrantMaterial:
        """Read a grant's material; change nothing, in memory or on disk."""

    @abstractmethod
    def _settle(self) -> None:
        """Write the mark to the file and sync; erase everything below it and sync. Idempotent."""

    def _require_usable(self) -> None:
        if self._closed:
            raise LocalBug(codes.BAD_STATE, "the pad is closed")
        if not self._usable:
            raise StoreFault(codes.PAD_IO, "an earlier write failed; the pad must be opened anew")

    def _drop_pending(self) -> None:
        if self._pending is not None:
            self._pending[1].wipe()
            self._pending = None


def check_store_mark(store_mark: int, capacity: int) -> None:
    """Refuse a mark that this file cannot have. Raises ``StoreFault`` (pad-mark-contradicts)."""
    if store_mark > capacity:
        raise StoreFault(codes.PAD_MARK_CONTRADICTS, "the store's mark is beyond the pad's end")
