"""Logs, clocks and writers that the tests of the audit log share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from skex.audit.chain import GENESIS, Head, Report, Stamp, Verifier
from skex.audit.events import KEYS_DELIVERED, SHARE_RELAYED, Event
from skex.audit.fields import Actor, ActorKind, Subject
from skex.audit.log import Audit
from skex.audit.sampling import Sampler
from skex.base import codes
from skex.base.errors import StoreFault
from skex.base.ids import KmeName, SaeId

BOOT = "0a1b2c3d-0000-4000-8000-000000000000"
SITE = KmeName("site-1")
VPN = SaeId("vpn@site-1")
ASKING = Actor(ActorKind.SAE, VPN)
IMPORTANT = Event(KEYS_DELIVERED, ASKING, (Subject.sae(VPN),))
MINOR = Event(SHARE_RELAYED, Actor(ActorKind.KME, SITE))


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> Stamp:
        return Stamp(datetime(2030, 1, 2, tzinfo=UTC) + timedelta(seconds=self.now), BOOT, self.now)


class Paper:
    """A writer that remembers, and fails when told to."""

    def __init__(self) -> None:
        self.data = b""
        self.synced = b""
        self.sequences: list[int] = []
        self.fails = False
        self.closed = False

    def append(self, lines: bytes, sequence: int) -> None:
        self._may_fail()
        self.data += lines
        self.sequences.append(sequence)

    def sync(self) -> None:
        self._may_fail()
        self.synced = self.data

    def close(self) -> None:
        self.closed = True

    def _may_fail(self) -> None:
        if self.fails:
            raise StoreFault(codes.AUDIT_IO)

    @property
    def lines(self) -> list[bytes]:
        return self.data.splitlines()


class Log:
    """An audit log on paper."""

    def __init__(self, sampler: Sampler | None = None, policy: str = "") -> None:
        self.clock = Clock()
        self.paper = Paper()
        self.audit = Audit(self.paper, GENESIS, self.clock, sampler, policy)


def log_of(count: int) -> list[bytes]:
    """The lines of a log of so many records."""
    log = Log()
    for _ in range(count):
        log.audit.emit(IMPORTANT)
    return log.paper.lines


def check(lines: Sequence[bytes], anchor: Head | None = None, start: Head | None = GENESIS) -> Report:
    """What checking the lines finds."""
    verifier = Verifier(start, anchor)
    for line in lines:
        verifier.feed(line)
    return verifier.report()
