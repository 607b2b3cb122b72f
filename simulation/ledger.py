"""What must be true of pads over the whole history of a world, whoever was restored or cloned in it.

The ledger reads what the ends seal from the outside, by the records' headers; it trusts no mark, no
store and no pad file.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from simulation.rules import RuleBrokenError
from skex.base import limits
from skex.base.ids import Direction, LinkId
from skex.pad.kinds import PadKind
from skex.pad.material import GrantMaterial
from skex.wire.record import RecordHeader


class PadReusedError(RuleBrokenError):
    """Pad bytes were sealed into two records."""

    def __init__(self, what: str) -> None:
        super().__init__(what, "sealed-once")


@dataclass(frozen=True, slots=True)
class Stream:
    """A sequence of pad bytes that are different from those of every other stream.

    Of a table pad it is the whole direction. Of a derived pad it is one grant of one connection: the
    nonces of the preface, ``connection``, are in its key.
    """

    link_id: LinkId
    direction: Direction
    start: int
    connection: bytes


class PadLedger:
    """Which bytes of which stream were sealed into a record, from the beginning of the world."""

    def __init__(self) -> None:
        self._used: dict[Stream, list[tuple[int, int]]] = {}
        self._by_r: dict[bytes, Stream] = {}
        self.records = 0

    def granted(self, kind: PadKind, link_id: LinkId, material: GrantMaterial, connection: bytes) -> None:
        """Note a grant that an end holds. Equal bytes in different grants are a reuse already."""
        grant = Stream(link_id, material.direction, material.start, _distinct(kind, connection))
        if self._by_r.setdefault(material.r, grant) != grant:
            raise PadReusedError(f"{grant} has the bytes of {self._by_r[material.r]}")

    def sealed(self, kind: PadKind, record: bytes, connection: bytes) -> None:
        """Note a record that an end sealed, whether or not it was ever sent."""
        header = RecordHeader.parse(record[: limits.RECORD_HEADER_BYTES])
        first = header.offset
        start = header.grant
        if kind is PadKind.TABLE:
            first, start = first + start * limits.TABLE_UNIT_BYTES, 0
        stream = Stream(header.link_id, header.direction, start, _distinct(kind, connection))
        self._note(stream, first, first + limits.RECORD_TAG_BYTES + header.length)
        self.records += 1

    def _note(self, stream: Stream, first: int, end: int) -> None:
        used = self._used.setdefault(stream, [])
        place = bisect_right(used, (first, end))
        before = place > 0 and used[place - 1][1] > first
        after = place < len(used) and used[place][0] < end
        if before or after:
            raise PadReusedError(f"bytes {first} to {end} of {stream}")
        if place > 0 and used[place - 1][1] == first:
            used[place - 1] = (used[place - 1][0], end)
        else:
            used.insert(place, (first, end))


def _distinct(kind: PadKind, connection: bytes) -> bytes:
    return connection if kind is PadKind.DERIVED else b""
