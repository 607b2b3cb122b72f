"""Requests that wait for a second person: kept in memory, bound to a digest of what would be done.

A restart forgets them, so nothing that was asked for before it is ever carried out behind it. Whether
somebody may ask or approve is decided elsewhere (``operators``); here it is decided that it is done
once, by two persons, in time, and exactly as it was asked for.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from skex.audit.fields import Digest
from skex.base import codes, limits
from skex.base.errors import Refused
from skex.daemon.spool import Spool
from skex.policy.rules import OperatorCommand
from skex.runtime import clock, entropy
from skex.runtime.peers import Peer
from skex.runtime.timers import Alarm

_ID_BYTES: Final = 8
_UNSHOWN: Final = "stretched"
"""An argument that is never shown: the key that was made of a passphrase."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asked for. ``says`` is what it would do, for people and for the digest."""

    name: str
    command: OperatorCommand
    arguments: Mapping[str, Any]
    file: Spool | None
    says: Mapping[str, Any]

    def digest(self, says: Mapping[str, Any]) -> Digest:
        """Of everything that this does, with the file's content and what it ``says`` now."""
        stated = {key: value for key, value in self.arguments.items() if key != _UNSHOWN}
        content = "" if self.file is None else self.file.sha512.hex()
        whole = {"command": self.name, "arguments": stated, "file": content, "says": says}
        return Digest(b"skex pending 1" + json.dumps(whole, sort_keys=True, ensure_ascii=True).encode())


@dataclass(frozen=True, slots=True)
class Request:
    """One that waits. ``since`` and ``until`` are seconds of the wall clock, for people."""

    id: str
    wanted: Wanted
    digest: Digest
    by: Peer
    since: int
    until: int
    deadline: float
    rule: str
    alarm: list[Alarm] = field(default_factory=list, compare=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """One that does not wait any more, and why."""

    id: str
    command: str
    outcome: str
    at: int


class Waiting:
    """The requests of one daemon. ``expired`` hears of those that nobody approved in time."""

    def __init__(self, expired: Callable[[Request], None]) -> None:
        self._expired = expired
        self._requests: dict[str, Request] = {}
        self._coming: list[int] = []
        self.ended: deque[Ended] = deque(maxlen=limits.PENDING_ENDED)

    def __iter__(self) -> Iterator[Request]:
        return iter(list(self._requests.values()))

    def require_place(self, by: Peer) -> None:
        """Raises ``Refused`` (dual-control-full)."""
        users = [one.by.user for one in self._requests.values()] + self._coming
        if len(users) >= limits.PENDING_REQUESTS or users.count(by.user) >= limits.PENDING_REQUESTS_PER_USER:
            raise Refused(codes.DUAL_CONTROL_FULL, f"{len(users)} wait")

    def coming(self, by: Peer) -> _Place:
        """A place for a request whose file is still on its way. Raises ``Refused`` (dual-control-full)."""
        self.require_place(by)
        return _Place(self._coming, by.user)

    def keep(self, wanted: Wanted, by: Peer, seconds: float, rule: str) -> Request:
        """Let it wait for so many seconds."""
        now, wall = clock.now(), clock.unix_seconds()
        request = Request(
            entropy.random_bytes(_ID_BYTES).hex(),
            wanted,
            wanted.digest(wanted.says),
            by,
            wall,
            wall + int(seconds),
            now + seconds,
            rule,
        )
        self._requests[request.id] = request
        request.alarm.append(Alarm(request.deadline, lambda: self._expire(request)))
        return request

    def find(self, request_id: str) -> Request:
        """Raises ``Refused``: dual-control-expired, dual-control-unknown."""
        request = self._requests.get(request_id)
        if request is not None and clock.now() >= request.deadline:
            self._expire(request)
            request = None
        if request is not None:
            return request
        if any(one.id == request_id and one.outcome == "expired" for one in self.ended):
            raise Refused(codes.DUAL_CONTROL_EXPIRED, request_id)
        raise Refused(codes.DUAL_CONTROL_UNKNOWN)

    def take(self, request: Request) -> None:
        """It does not wait any more: whoever took it carries it out, or drops it."""
        del self._requests[request.id]
        for alarm in request.alarm:
            alarm.cancel()

    def end(self, request: Request, outcome: str) -> None:
        """It was taken, and this became of it."""
        if request.wanted.file is not None:
            request.wanted.file.discard()
        self.ended.append(Ended(request.id, request.wanted.command.value, outcome, clock.unix_seconds()))

    def _expire(self, request: Request) -> None:
        self.take(request)
        self.end(request, "expired")
        self._expired(request)


class _Place:
    """Counts as a request while its file comes."""

    def __init__(self, users: list[int], user: int) -> None:
        self._users = users
        self._user = user

    def __enter__(self) -> None:
        self._users.append(self._user)

    def __exit__(self, *_: object) -> None:
        self._users.remove(self._user)
