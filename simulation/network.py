"""Wires between simulated machines: reliable and ordered like TCP, until they are cut.

A listener on the wires reads every record that crosses them and holds the one rule that matters most:
no pad byte seals two different records, over the whole history of every machine.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from simulation.chance import Chance
from skex.base import limits
from skex.base.ids import Direction, LinkId
from skex.wire import preface
from skex.wire.record import RecordHeader

_PREFACE = {
    Direction.TO_HUB: sum(preface.frame_bytes(number) for number in (1, 3, 5)),
    Direction.TO_KME: sum(preface.frame_bytes(number) for number in (2, 4)),
}
_HELLO_NONCE = slice(20, 52)
_HUB_NONCE = slice(8, 40)
_HEARD_MAX = 1021
_STRIDE = 8
"""Newer pieces replace older ones an eighth of the way on: old ones stay for long."""


class PadReusedError(AssertionError):
    """Two different records were sealed with the same pad bytes."""


@dataclass(frozen=True, slots=True)
class _Sealed:
    """One record's place in its stretch of pad."""

    start: int
    length: int
    data: bytes


def _start(sealed: _Sealed) -> int:
    return sealed.start


@dataclass
class Wiretap:
    """Reads what every wire carried. ``sealed`` holds, per stretch of pad, the records in it.

    A derived pad's bytes are named by their grant's index *and* the connection's nonces, because both
    are in the grant's key; a table pad's by their place in the table.
    """

    derived: set[LinkId] = field(default_factory=set)
    records: int = 0
    heard: list[bytes] = field(default_factory=list, repr=False)
    sealed: dict[tuple[object, ...], list[_Sealed]] = field(default_factory=dict)
    _sent: int = 0

    def hear(self, data: bytes) -> None:
        """Keep what was sent, for who replays it: the oldest, and of the rest every so often one."""
        self._sent += 1
        if len(self.heard) < _HEARD_MAX:
            self.heard.append(data)
        else:
            self.heard[self._sent * _STRIDE % _HEARD_MAX] = data

    def record(self, direction: Direction, nonces: bytes, data: bytes) -> None:
        """Take down one record. Raises ``PadReusedError``."""
        header = RecordHeader.parse(data[: limits.RECORD_HEADER_BYTES])
        self.records += 1
        if header.link_id in self.derived:
            stretch: tuple[object, ...] = (header.link_id, direction, header.grant, nonces)
            start = header.offset
        else:
            stretch = (header.link_id, direction)
            start = header.grant * limits.TABLE_UNIT_BYTES + header.offset
        self._claim(stretch, start, header.length + limits.RECORD_TAG_BYTES, data)

    def _claim(self, stretch: tuple[object, ...], start: int, length: int, data: bytes) -> None:
        """No two records may overlap, unless they are the same record sealed at the same place."""
        taken = self.sealed.setdefault(stretch, [])
        place = bisect_right(taken, start, key=_start)
        for known in taken[max(0, place - 1) : place + 1]:
            apart = known.start + known.length <= start or start + length <= known.start
            if not apart and known.data != data:
                raise PadReusedError(f"{stretch}: two records from byte {max(start, known.start)} on")
        taken.insert(place, _Sealed(start, length, data))


class Stream:
    """One direction of a wire: bytes under way, and what the wiretap makes of them."""

    def __init__(self, direction: Direction, tap: Wiretap) -> None:
        self.under_way = bytearray()
        self._direction = direction
        self._tap = tap
        self._seen = bytearray()
        self.preface = b""

    def send(self, data: bytes) -> None:
        """The sending end wrote."""
        self.under_way += data
        self._seen += data
        self._tap.hear(bytes(data))

    def read_preface(self) -> None:
        """Set the frames of the preface aside once they are all there."""
        length = _PREFACE[self._direction]
        if not self.preface and len(self._seen) >= length:
            self.preface = bytes(self._seen[:length])
            del self._seen[:length]

    def listen(self, nonces: bytes) -> None:
        """Take down every whole record sent so far."""
        while len(self._seen) >= limits.RECORD_HEADER_BYTES:
            header = RecordHeader.parse(bytes(self._seen[: limits.RECORD_HEADER_BYTES]))
            end = limits.RECORD_HEADER_BYTES + header.length + limits.RECORD_TAG_BYTES
            if len(self._seen) < end:
                return
            self._tap.record(self._direction, nonces, bytes(self._seen[:end]))
            del self._seen[:end]


class Wire:
    """One TCP connection. ``open`` until either end, or the world, cuts it."""

    def __init__(self, tap: Wiretap) -> None:
        self.streams = {direction: Stream(direction, tap) for direction in Direction}
        self.open = True
        self._hello = b""
        self._held: dict[Direction, float] = {}

    def hold(self, direction: Direction, until: float) -> None:
        """Let nothing arrive in this direction before that time."""
        self._held[direction] = until

    def held_until(self, direction: Direction) -> float:
        """When bytes of this direction may arrive again; 0 if they may."""
        return self._held.get(direction, 0.0)

    def send(self, direction: Direction, data: bytes) -> None:
        """One end wrote; nothing is carried once the wire is cut."""
        if self.open:
            self.streams[direction].send(data)
            nonces = self._nonces()
            if nonces:
                for stream in self.streams.values():
                    stream.listen(nonces)

    def _nonces(self) -> bytes:
        """Both nonces, once both prefaces were seen whole."""
        if not self._hello:
            up = self.streams[Direction.TO_HUB]
            down = self.streams[Direction.TO_KME]
            up.read_preface()
            down.read_preface()
            if up.preface and down.preface:
                self._hello = up.preface[_HELLO_NONCE] + down.preface[_HUB_NONCE]
        return self._hello

    def carry(self, direction: Direction, chance: Chance) -> bytes:
        """Some of what is under way arrives: all of it, or a part."""
        waiting = self.streams[direction].under_way
        count = len(waiting) if chance.random() < 0.7 else chance.randint(1, len(waiting))
        data = bytes(waiting[:count])
        del waiting[:count]
        return data

    def busy(self) -> list[Direction]:
        """The directions in which bytes are under way."""
        return [direction for direction, stream in self.streams.items() if stream.under_way]

    def cut(self) -> None:
        """The connection breaks; what was under way is lost."""
        self.open = False
