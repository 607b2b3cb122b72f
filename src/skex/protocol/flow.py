"""The grants of one connection: which one is used, which come next, how much room is left; and what
waits for room.

``SendFlow`` and ``ReceiveFlow`` hold material in memory only, in ascending order of start positions.
They decide nothing about when pad is asked for; that is the link's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from skex.base import codes, limits
from skex.base.errors import PeerFault
from skex.pad.kinds import PadKind
from skex.pad.material import R_BYTES, GrantMaterial
from skex.wire.record import RecordHeader

_RECORD_OVERHEAD: Final = limits.RECORD_TAG_BYTES
"""Pad bytes of a record beyond its body: the one-time mask of its tag."""


class SendFlow:
    """Grants of the direction that this end seals."""

    def __init__(self, kind: PadKind, first: GrantMaterial) -> None:
        self._kind = kind
        self._grants: deque[GrantMaterial] = deque([first])

    @property
    def current(self) -> GrantMaterial:
        """The grant in use."""
        return self._grants[0]

    @property
    def ahead(self) -> int:
        """Grants held."""
        return len(self._grants)

    @property
    def runs_low(self) -> bool:
        """Whether it is time to ask for more although there is room still.

        Not in the last unit of a connection that may never need more than its first.
        """
        current = self.current
        low = current.remaining < current.size // 4
        return low and self.ahead == 1 and current.size > limits.TABLE_UNIT_BYTES

    def add(self, material: GrantMaterial) -> None:
        """Take in a later grant. A derived chain moves to it at once: keystream costs nothing."""
        self._grants.append(material)
        if self._kind is PadKind.DERIVED:
            self._next()

    def fits(self, body: int, *, control: bool) -> bool:
        """Whether a body of so many bytes fits the grant in use.

        The last bytes of the last grant held are for a GRANT (``control``) only.
        """
        tail = limits.GRANT_TAIL_BYTES if self.ahead == 1 and not control else 0
        return _RECORD_OVERHEAD + body + tail <= self.current.remaining

    def make_room(self, body: int, *, control: bool) -> bool:
        """Move to a later grant if the body needs it; whether it fits then.

        A remainder too small for the record is abandoned only if a later grant is there.
        """
        while not self.fits(body, control=control):
            if self.ahead == 1:
                return False
            self._next()
        return True

    def wipe(self) -> None:
        """Forget everything: the connection is gone."""
        for material in self._grants:
            material.wipe()

    def _next(self) -> None:
        self._grants.popleft().wipe()


class ReceiveFlow:
    """Grants of the direction that the other end seals; the header of each record picks one."""

    def __init__(self, first: GrantMaterial) -> None:
        self._grants: deque[GrantMaterial] = deque([first])

    @property
    def ahead(self) -> int:
        """Grants held."""
        return len(self._grants)

    @property
    def exhausted(self) -> bool:
        """Whether the sender may lack the room even to ask for more."""
        return self._grants[-1].remaining < limits.GRANT_EXHAUSTED_BYTES

    def add(self, material: GrantMaterial) -> None:
        """Take in a grant that is about to be announced."""
        self._grants.append(material)

    def check(self, header: RecordHeader) -> GrantMaterial:
        """The grant that a record lies in, if its position is exactly the next one; changes nothing.

        Raises ``PeerFault``: record-position, record-length.
        """
        grant = next((grant for grant in self._grants if grant.start == header.grant), None)
        if grant is None:
            raise PeerFault(codes.RECORD_POSITION, "no such grant")
        if header.offset != grant.position:
            raise PeerFault(codes.RECORD_POSITION, "offset is not the next one")
        if header.length + _RECORD_OVERHEAD > grant.remaining:
            raise PeerFault(codes.RECORD_LENGTH, "the record crosses its grant")
        return grant

    def move_to(self, grant: GrantMaterial) -> None:
        """The first verified record of a later grant ends the earlier ones."""
        while self._grants[0] is not grant:
            self._grants.popleft().wipe()

    def wipe(self) -> None:
        """Forget everything: the connection is gone."""
        for material in self._grants:
            material.wipe()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A body that waits for pad. ``control`` marks a GRANT; ``token`` comes back with an answer."""

    body: bytes = field(repr=False)  # it may hold a share
    token: Hashable = None
    control: bool = False


class WaitingRecords:
    """What waits for pad, in order; a GRANT goes before everything else."""

    def __init__(self) -> None:
        self._bodies: deque[Waiting] = deque()
        self._pad_bytes = 0

    def __len__(self) -> int:
        return len(self._bodies)

    @property
    def pad_bytes(self) -> int:
        """How much pad their records need."""
        return self._pad_bytes

    @property
    def full(self) -> bool:
        """Whether no more may wait."""
        too_many = len(self._bodies) >= limits.LINK_QUEUE_MESSAGES
        return too_many or self._pad_bytes >= limits.LINK_QUEUE_BYTES

    @property
    def first(self) -> Waiting:
        """The one whose turn it is; there must be one."""
        return self._bodies[0]

    def add(self, waiting: Waiting) -> None:
        """Put it at its place."""
        if waiting.control:
            self._bodies.appendleft(waiting)
        else:
            self._bodies.append(waiting)
        self._pad_bytes += _RECORD_OVERHEAD + len(waiting.body)

    def pop(self) -> Waiting:
        """Take the first one out."""
        waiting = self._bodies.popleft()
        self._pad_bytes -= _RECORD_OVERHEAD + len(waiting.body)
        return waiting

    def clear(self) -> None:
        """Forget everything."""
        self._bodies.clear()
        self._pad_bytes = 0


def units_for(wanted_bytes: int, available: int) -> int:
    """How many table units a grant gets for so many bytes of records; 0 if the pad has none left."""
    need = R_BYTES + wanted_bytes + limits.GRANT_TAIL_BYTES
    units = -(-need // limits.TABLE_UNIT_BYTES)
    wanted = min(max(units, limits.TABLE_GRANT_UNITS_MIN), limits.TABLE_GRANT_UNITS_MAX)
    return min(wanted, available)
