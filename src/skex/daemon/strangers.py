"""Connections that have not proved themselves yet: few, and none can keep others out.

Anybody can open a connection and say nothing, so what waits before its proof is bounded apart from the
enrolled. Where there are too many, the oldest of the source that has the most goes: whoever floods
pushes out his own, and a KME that arrives meanwhile has the time of many arrivals to prove itself. It
must not know what a proof is.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

STRANGERS: Final = 256
"""Connections before their proof; a preface needs a few round trips, so honest ones are hardly ever many."""
SOURCES_REMEMBERED: Final = 64
"""Sources whose failures are counted apart; beyond it the one that failed longest ago is forgotten."""
_IPV6_SITE_BITS: Final = 64

ConnectionT = TypeVar("ConnectionT", bound=Hashable)


def source_of(host: str) -> str:
    """Who an address counts as: an IPv4 address itself, of IPv6 the site's /64, which one host has whole."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_SITE_BITS), strict=False))
    return str(address)


class Strangers(Generic[ConnectionT]):
    """The connections that wait for their proof, by source, each source's oldest first."""

    def __init__(self, capacity: int = STRANGERS) -> None:
        self._capacity = capacity
        self._waiting: dict[str, OrderedDict[ConnectionT, None]] = {}
        self._source: dict[ConnectionT, str] = {}
        self._failures: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._source)

    def __contains__(self, connection: ConnectionT) -> bool:
        return connection in self._source

    def worst(self, count: int) -> list[tuple[str, int]]:
        """The sources with the most failures, the worst first."""
        return Counter(self._failures).most_common(count)

    def arrive(self, connection: ConnectionT, host: str) -> ConnectionT | None:
        """One more waits. Returns the one that must be closed for it, if there are too many."""
        loser = self.oldest_of_most() if len(self) >= self._capacity else None
        source = source_of(host)
        self._source[connection] = source
        self._waiting.setdefault(source, OrderedDict())[connection] = None
        return loser

    def oldest_of_most(self) -> ConnectionT | None:
        """The one that goes first: the oldest of the source that has the most."""
        if not self._waiting:
            return None
        most = max(self._waiting.values(), key=len)
        return next(iter(most))

    def leave(self, connection: ConnectionT, *, proved: bool) -> str:
        """It waits no more: it proved itself, or ended. Returns its source, empty if it did not wait."""
        source = self._source.pop(connection, "")
        if not source:
            return ""
        waiting = self._waiting[source]
        del waiting[connection]
        if not waiting:
            del self._waiting[source]
        if not proved:
            self._failed(source)
        return source

    def _failed(self, source: str) -> None:
        self._failures[source] = self._failures.get(source, 0) + 1
        self._failures.move_to_end(source)
        if len(self._failures) > SOURCES_REMEMBERED:
            self._failures.popitem(last=False)
