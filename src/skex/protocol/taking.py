"""How a shell carries out a set that takes grants: prepare all, commit once, finish all.

The order is the same in every shell, so it lives here: material is read before anything is durable,
marks become durable with the rest of their set, and material comes out only after that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skex.base.errors import SkexError
from skex.base.ids import Direction
from skex.pad.kinds import Pad, Prepared
from skex.protocol.changes import LinkChange, MarkRaised
from skex.protocol.session import GrantsTaken, LinkPersist, TakeGrant


class Taking:
    """One set between its preparation and its end; used once.

    ``changes`` is what the shell commits, atomically and durably, before ``finish``.
    """

    def __init__(self, persist: Sequence[LinkPersist], pads: Mapping[Direction, Pad]) -> None:
        """Prepare every grant of the set. Raises what a pad raises; then nothing is held or changed."""
        self._prepared: list[tuple[Pad, Prepared]] = []
        changes: list[LinkChange] = []
        try:
            changes.extend(
                self._prepare(item, pads) if isinstance(item, TakeGrant) else item for item in persist
            )
        except SkexError:
            self.abandon()
            raise
        self.changes = tuple(changes)

    def _prepare(self, take: TakeGrant, pads: Mapping[Direction, Pad]) -> MarkRaised:
        pad, stretch = pads[take.direction], take.stretch
        prepared = pad.prepare(stretch.start, stretch.count, take.kme_nonce, take.hub_nonce)
        self._prepared.append((pad, prepared))
        return MarkRaised(take.link_id, take.direction, prepared.new_mark)

    def finish(self) -> GrantsTaken | None:
        """After the commit: the materials in the order asked for, or None for a set without grants.

        Raises ``StoreFault`` when erasing failed; every material of the set is lost then.
        """
        materials = []
        try:
            for pad, prepared in self._prepared:
                materials.append(pad.finish(prepared))
        except SkexError:
            for material in materials:
                material.wipe()
            self.abandon()
            raise
        return GrantsTaken(tuple(materials)) if materials else None

    def abandon(self) -> None:
        """Drop what was prepared: the commit failed, or will not be tried."""
        for pad, prepared in self._prepared:
            pad.abandon(prepared)
