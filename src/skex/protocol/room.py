"""What one hub's shares take up at a receiver, sender by sender: who must give way when it is full.

The room that a hub may fill is its own, so that a hub which lies leaves the others theirs. Within it
the sender that takes up most gives up its oldest for one that takes up less: a sender whose batches
come to nothing, as fast as quotas let them, keeps nobody else's out. Knows no share, only sizes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from skex.base.ids import KmeName

KeyT = TypeVar("KeyT", bound=Hashable)


class HubRoom(Generic[KeyT]):
    """The shares that one hub brought and the groups that it opened, each sender's oldest first."""

    def __init__(self) -> None:
        self.held = 0
        self.opened = 0
        self._bytes: Counter[KmeName] = Counter()
        self._shares: dict[KmeName, OrderedDict[KeyT, int]] = {}
        self._groups: dict[KmeName, OrderedDict[KeyT, None]] = {}

    def take(self, sender: KmeName, key: KeyT, size: int) -> None:
        """A share of so many bytes waits in group ``key``."""
        self._shares.setdefault(sender, OrderedDict())[key] = size
        self._bytes[sender] += size
        self.held += size

    def release(self, sender: KmeName, key: KeyT) -> None:
        """The share waits no more."""
        shares = self._shares[sender]
        size = shares.pop(key)
        self._bytes[sender] -= size
        self.held -= size
        if not shares:
            del self._shares[sender], self._bytes[sender]

    def open(self, sender: KmeName, key: KeyT) -> None:
        """The group ``key`` counts as this hub's."""
        self._groups.setdefault(sender, OrderedDict())[key] = None
        self.opened += 1

    def pin(self, sender: KmeName, key: KeyT) -> None:
        """It goes on to count, but gives way to nobody."""
        groups = self._groups.get(sender, OrderedDict())
        groups.pop(key, None)
        if not groups:
            self._groups.pop(sender, None)

    def close(self, sender: KmeName, key: KeyT) -> None:
        """It counts no more."""
        self.pin(sender, key)
        self.opened -= 1

    def largest_for(self, sender: KmeName, size: int) -> KeyT | None:
        """Whose share goes for one of ``size`` bytes: None if nobody takes up more than ``sender`` would."""
        most = max(self._bytes, key=self._bytes.__getitem__, default=sender)
        if self._bytes[most] <= self._bytes[sender] + size:
            return None
        return next(iter(self._shares[most]))

    def busiest_for(self, sender: KmeName) -> KeyT | None:
        """Which group goes for one more: None if nobody has more of them than ``sender`` would."""
        most = max(self._groups, key=lambda one: len(self._groups[one]), default=sender)
        groups = self._groups.get(most, OrderedDict())
        if len(groups) <= len(self._groups.get(sender, ())) + 1:
            return None
        return next(iter(groups))
