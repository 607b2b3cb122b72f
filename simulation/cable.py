"""A connection's two byte streams, every byte of which the caller controls.

It is the network attacker's place: bytes wait here until they are delivered, and can be changed,
repeated, inserted or lost.
"""

from __future__ import annotations

from skex.base.ids import Direction


class Cable:
    """Bytes under way. ``sent`` keeps everything that an end ever put in, as the ends sent it."""

    def __init__(self) -> None:
        self._waiting = {direction: bytearray() for direction in Direction}
        self.sent: dict[Direction, list[bytes]] = {direction: [] for direction in Direction}
        self.cut = False

    def put(self, direction: Direction, data: bytes) -> None:
        """An end sends; on a cut cable into the void."""
        self.sent[direction].append(data)
        self.insert(direction, data)

    def insert(self, direction: Direction, data: bytes, at: int | None = None) -> None:
        """The attacker sends, at the end or in between."""
        if self.cut:
            return
        waiting = self._waiting[direction]
        at = len(waiting) if at is None else at
        waiting[at:at] = data

    def take(self, direction: Direction, count: int | None = None) -> bytes:
        """Take bytes out, the oldest first: to deliver them, or to lose them."""
        waiting = self._waiting[direction]
        data = bytes(waiting[:count])
        del waiting[: len(data)]
        return data

    def corrupt(self, direction: Direction, index: int, mask: int = 1) -> None:
        """Flip bits of a byte that waits."""
        self._waiting[direction][index] ^= mask

    def waiting(self, direction: Direction) -> int:
        """How many bytes wait."""
        return len(self._waiting[direction])

    def disconnect(self) -> None:
        """Cut it for good; what waits is lost."""
        self.cut = True
        for waiting in self._waiting.values():
            waiting.clear()
