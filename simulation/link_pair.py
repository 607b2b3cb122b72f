"""Two production connections joined by wires whose every byte the caller controls.

The smallest world: one KME, one hub, pads on simulated disks, stores that are dictionaries. Tests
and the simulator drive it; nothing in it decides anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from simulation.disk import Disk
from skex.base.errors import SkexError
from skex.base.ids import Direction, HubName, Incarnation, KmeName, LinkId, RealmName
from skex.base.secret import Secret
from skex.pad.derived import DerivedPad
from skex.pad.kinds import Pad, PadKind
from skex.pad.table import TablePad
from skex.protocol.changes import LinkChange, LinkFrozen, MarkRaised, PeerSeen, PrefaceCounted
from skex.protocol.connection import Connection, ConnectionEffects, ConnectionEvent, ConnectionNotice
from skex.protocol.preface_hub import HubPreface
from skex.protocol.preface_kme import KmePreface
from skex.protocol.session import (
    ClaimLink,
    Failed,
    GrantsFailed,
    GrantsTaken,
    LinkFound,
    LinkProfile,
    LookUpLink,
    Owned,
    Received,
)
from skex.protocol.taking import Taking
from skex.wire.preface import Marks, Parties

NO_MARKS = Marks(0, 0, 0, 0, 0, 0)


@dataclass
class LinkStore:
    """What a store keeps of one link. ``commit`` is atomic."""

    marks: Marks = NO_MARKS
    frozen: str = ""
    commits: list[tuple[LinkChange, ...]] = field(default_factory=list)

    def commit(self, changes: Sequence[LinkChange]) -> None:
        """Apply one set; no value falls."""
        marks = self.marks
        for change in changes:
            match change:
                case MarkRaised(_, Direction.TO_HUB, mark):
                    marks = replace(marks, to_hub=max(marks.to_hub, mark))
                case MarkRaised(_, Direction.TO_KME, mark):
                    marks = replace(marks, to_kme=max(marks.to_kme, mark))
                case PrefaceCounted(_, count):
                    marks = replace(marks, count=max(marks.count, count))
                case PeerSeen(_, to_hub, to_kme, count):
                    marks = replace(
                        marks,
                        seen_to_hub=max(marks.seen_to_hub, to_hub),
                        seen_to_kme=max(marks.seen_to_kme, to_kme),
                        seen_count=max(marks.seen_count, count),
                    )
                case LinkFrozen(_, code):
                    self.frozen = code
        self.marks = marks
        self.commits.append(tuple(changes))


