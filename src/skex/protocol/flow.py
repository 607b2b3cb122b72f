"""The grants of one connection: which one is used, which come next, how much room is left.

``SendFlow`` and ``ReceiveFlow`` hold material in memory only, in ascending order of start positions.
They decide nothing about when pad is asked for; that is the link's.
"""

from __future__ import annotations

from collections import deque
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
    def remaining(self) -> int:
        """Bytes left in the grant in use."""
        return self.current.remaining

    def add(self, material: GrantMaterial) -> None:
        """Take in a later grant. A derived chain moves to it at once: keystream costs nothing."""
        self._grants.append(material)
        if self._kind is PadKind.DERIVED:
            self._next()

    def room_for(self, body: int, *, control: bool) -> bool:
        """Whether a body of so many bytes can be sealed now, moving to a later grant if it must.

        Only a GRANT (``control``) may use the last bytes of the last grant held. A remainder too
        small for the record is abandoned only if a later grant is there.
        """
        need = _RECORD_OVERHEAD + body
        while True:
            last = len(self._grants) == 1
            tail = limits.GRANT_TAIL_BYTES if last and not control else 0
            if need + tail <= self.remaining:
                return True
            if last:
                return False
            self._next()

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
    def last(self) -> GrantMaterial:
        """The latest grant announced."""
        return self._grants[-1]

    @property
    def ahead(self) -> int:
        """Grants held."""
        return len(self._grants)

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


def units_for(wanted_bytes: int, available: int) -> int:
    """How many table units a grant gets for so many bytes of records; 0 if the pad has none left."""
    need = R_BYTES + wanted_bytes + limits.GRANT_TAIL_BYTES
    units = -(-need // limits.TABLE_UNIT_BYTES)
    wanted = min(max(units, limits.TABLE_GRANT_UNITS_MIN), limits.TABLE_GRANT_UNITS_MAX)
    return min(wanted, available)
