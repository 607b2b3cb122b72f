"""Which hub carries a message between KMEs, and how the machines behind peer messages ask for it.

Hubs are taken in the order of their names, round and round: a repetition goes through another hub
than the attempt before it, so that one hub that swallows messages costs one attempt and no more.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable
from dataclasses import dataclass

from skex.base.ids import HubName, KmeName
from skex.protocol.changes import Role
from skex.wire.peer import KeyRange, PeerMessage, Revoke, VoidKeys


class Ways:
    """The hubs that are connected now."""

    __slots__ = ("_hubs",)

    def __init__(self) -> None:
        self._hubs: list[HubName] = []

    def up(self, hub: HubName) -> None:
        """A hub is connected."""
        if not self.is_up(hub):
            insort(self._hubs, hub)

    def down(self, hub: HubName) -> None:
        """A hub is not connected any more."""
        if self.is_up(hub):
            del self._hubs[bisect_left(self._hubs, hub)]

    def is_up(self, hub: HubName) -> bool:
        """Whether a hub is connected."""
        place = bisect_left(self._hubs, hub)
        return place < len(self._hubs) and self._hubs[place] == hub

    def __len__(self) -> int:
        return len(self._hubs)

    def next(self, last: HubName | None, seed: bytes) -> HubName | None:
        """The hub for the attempt after the one through ``last``; None if no hub is connected.

        ``seed`` spreads first attempts over the hubs; any bytes that differ between messages do.
        """
        if not self._hubs:
            return None
        place = int.from_bytes(seed[:2], "big") if last is None else bisect_right(self._hubs, last)
        return self._hubs[place % len(self._hubs)]


@dataclass(frozen=True, slots=True)
class Post:
    """Send a peer message once, through ``hub``; whoever asks repeats it if need be.

    ``role`` is this end's in the batches that the message is about.
    """

    hub: HubName
    role: Role
    peer: KmeName
    message: PeerMessage
    token: Hashable = None


@dataclass(frozen=True, slots=True)
class MustArrive:
    """Queue a control message durably, in the same set of changes, and repeat it until it is done."""

    role: Role
    peer: KmeName
    message: VoidKeys | Revoke


@dataclass(frozen=True, slots=True)
class KeysTakenBack:
    """Keys of the pair were revoked at either end (None: all), and are erased in the same set."""

    peer: KmeName
    keys: tuple[KeyRange, ...] | None
