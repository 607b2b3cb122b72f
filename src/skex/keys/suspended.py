"""Which keys rest: they stay where they are, and are not assigned or handed out from here.

Local to one KME: the other end is not told, and goes on as it likes. It must not know why keys rest, or
how that outlives a start.
"""

from __future__ import annotations

from collections.abc import Iterable

from skex.base.ids import BatchId, KmeName
from skex.protocol.changes import KeysSuspended, Role
from skex.protocol.keysets import KeySet
from skex.wire.peer import KeyRange


class Suspensions:
    """Keys, and whole pairs with all keys to come."""

    def __init__(self, stored: Iterable[KeysSuspended] = ()) -> None:
        """``stored`` is what rested when this KME stopped."""
        self._keys: dict[tuple[Role, KmeName], KeySet] = {}
        self._pairs: set[tuple[Role, KmeName]] = set()
        for one in stored:
            self.suspend(one.role, one.peer, one.keys)

    def suspend(self, role: Role, peer: KmeName, keys: Iterable[KeyRange] | None) -> None:
        """These keys rest from now on; None: the pair does."""
        if keys is None:
            self._pairs.add((role, peer))
        else:
            self._keys.setdefault((role, peer), KeySet()).add(keys)

    def resume(self, role: Role, peer: KmeName, keys: Iterable[KeyRange] | None) -> None:
        """These keys do not rest any more; None: the pair, and every key of it."""
        if keys is None:
            self._pairs.discard((role, peer))
            self._keys.pop((role, peer), None)
        else:
            self.gone(role, peer, keys)

    def gone(self, role: Role, peer: KmeName, keys: Iterable[KeyRange]) -> None:
        """Keys are erased: there is nothing to rest."""
        known = self._keys.get((role, peer))
        if known is not None:
            known.remove(keys)
            if not known:
                del self._keys[role, peer]

    def rests(self, role: Role, peer: KmeName) -> bool:
        """Whether every key of a pair rests."""
        return (role, peer) in self._pairs

    def covers(self, role: Role, peer: KmeName, batch: BatchId, index: int) -> bool:
        """Whether one key rests."""
        return self.rests(role, peer) or self._of(role, peer).has(batch, index)

    def without(
        self, role: Role, peer: KmeName, batch: BatchId, keys: tuple[KeyRange, ...]
    ) -> tuple[KeyRange, ...]:
        """Those of some keys of one batch that do not rest by themselves; the pair is asked for apart."""
        resting = self._of(role, peer).of_batch(batch)
        if not resting:
            return keys
        awake = KeySet(keys)
        awake.remove(resting)
        return awake.ranges()

    def _of(self, role: Role, peer: KmeName) -> KeySet:
        return self._keys.get((role, peer), _NONE)


_NONE = KeySet()
