"""Whose shares wait on the way to a slow receiver: nobody's may take up all of the queue.

A link is one stream, so a receiver that is slower than its senders delays everybody's messages by what
waits. A hub keeps no share back to sort them; it refuses those of a sender that already has more than
its part of what waits. It must not know what is in a share.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from skex.base.ids import KmeName

FREE_BYTES: Final = 16 * 1024
"""So much may wait for a receiver before it matters whose it is: what its kernel holds comes on top."""
MOST_BYTES: Final = 1024 * 1024
"""Beyond it no share is sent any more; confirmations and peer messages still are."""


class Backlog:
    """What waits for one receiver, by sender, as far as it is shares."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[KmeName, int]] = deque()
        self._of: Counter[KmeName] = Counter()
        self._bytes = 0

    def admits(self, sender: KmeName, size: int, waiting_bytes: int) -> bool:
        """Whether a share of ``sender`` may join; it is counted then. ``waiting_bytes`` is all that waits."""
        while self._waiting and self._bytes > waiting_bytes:
            name, sent = self._waiting.popleft()
            self._bytes -= sent
            self._of[name] -= sent
            if not self._of[name]:
                del self._of[name]
        part = waiting_bytes // (len(self._of.keys() | {sender}) + 1)
        if waiting_bytes > MOST_BYTES or (waiting_bytes > FREE_BYTES and self._of[sender] + size > part):
            return False
        self._waiting.append((sender, size))
        self._of[sender] += size
        self._bytes += size
        return True
