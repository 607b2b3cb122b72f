"""What floods daemons: strangers without any secret, and enrolled KMEs that know no measure.

The strangers speak raw TCP. A greedy KME is enrolled like any other and uses the production connection
machine; only what it sends is not what a KME would send.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from skex.base import codes
from skex.base.errors import PeerFault, Refused, SkexError
from skex.base.ids import Coordinate, Incarnation, KmeName, LinkId
from skex.daemon.config import load_kme
from skex.daemon.links import Links, profile_of
from skex.daemon.master import read_master_key
from skex.daemon.starting import (
    PADS_DIRECTORY,
    STORE_FILE,
)
from skex.protocol.changes import Change
from skex.protocol.connection import Connection
from skex.protocol.link import PadRefused
from skex.protocol.preface_kme import KmePreface
from skex.protocol.session import LinkProfile, Owned, RolledBack, Session
from skex.runtime import clock, entropy
from skex.runtime.commit import Committer
from skex.runtime.connections import LinkShell
from skex.runtime.files import DiskFileSystem
from skex.runtime.tasks import Tasks
from skex.store.kme import KmeStore
from skex.wire import messages, preface
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose
from skex.wire.preface import NONCE_BYTES, Marks
from skex.wire.realm import Realm

LOOPBACK: Final = "127.0.0.1"
ELSEWHERE: Final = "127.0.0.2"
"""Another source on the same machine: all of 127/8 is loopback."""
GONE: Final = PeerFault(codes.CONNECTION_CLOSED, "the attacker left")
_SECONDS: Final = 10.0


# ── strangers ───────────────────────────────────────────────────────────────────────────────────
def connect(port: int, source: str = ELSEWHERE) -> socket.socket:
    """A connection that says nothing yet."""
    return socket.create_connection((LOOPBACK, port), timeout=_SECONDS, source_address=(source, 0))


@contextlib.contextmanager
def half_open(port: int, count: int, source: str = ELSEWHERE) -> Iterator[list[socket.socket]]:
    """So many connections that say nothing, held open by this end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect(port, source)) for _ in range(count)]


def is_closed(connection: socket.socket) -> bool:
    """Whether the other end has closed it, or closes it soon; what it sends is thrown away."""
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def say(port: int, data: bytes, source: str = ELSEWHERE) -> bool:
    """Connect and send ``data``; whether the other end closed the connection."""
    with connect(port, source) as connection:
        connection.sendall(data)
        return is_closed(connection)


def links_of(home: Path) -> list[LinkId]:
    """The ids of a home's links: pseudonyms that whoever watches the network knows."""
    found = {path.name.partition("-to-")[0] for path in (home / PADS_DIRECTORY).glob("*.pad")}
    return [LinkId(bytes.fromhex(one)) for one in sorted(found)]


def claim_without_key(port: int, link_id: LinkId, source: str = ELSEWHERE) -> bool:
    """A whole preface by somebody who knows a link's id only; whether it was closed."""
    hello = preface.unproved_bytes(preface.Hello(1, 1, link_id, entropy.random_bytes(NONCE_BYTES)))
    marks = Marks(2**31, 2**31, 2**31, 2**31, 2**31, 2**31)
    state = preface.unproved_bytes(preface.KmeState(marks, Incarnation(bytes(16)), 0))
    with connect(port, source) as connection:
        connection.sendall(hello)
        answer = connection.recv(4096)
        if len(answer) != preface.frame_bytes(preface.HubNonce.NUMBER):
            return False
        connection.sendall(state + bytes(64))
        return is_closed(connection)


# ── a KME without measure ───────────────────────────────────────────────────────────────────────
class GreedyKme:
    """Connects with hubs as an enrolled KME whose own daemon does not run, and says what it is told to.

    ``refusals`` counts what the hubs answered; ``ends`` how its connections ended.
    """

    def __init__(self, home: Path) -> None:
        master = read_master_key(home)
        self.name = load_kme(home).name
        self._store = KmeStore.open(str(home / STORE_FILE), master, entropy.random_bytes, clock.unix_seconds)
        stored = self._store.links()
        self._threads = ThreadPoolExecutor(2)
        self.committer: Committer[Change] = Committer(self._store)
        self._tasks = Tasks(lambda _: None)
        self.links = Links(
            stored=stored,
            pads=DiskFileSystem(home / PADS_DIRECTORY),
            sealing=self._store.sealer,
            threads=self._threads,
            read_marks=lambda link_id: self.committer.call(lambda: self._store.marks(link_id)),
            contradiction=lambda link_id, code: None,
        )
        self.incarnation = Incarnation(entropy.random_bytes(16))
        self.sent = 0
        self.answers: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.up: dict[str, LinkShell] = {}
        self._hubs: dict[LinkShell, str] = {}

    async def start(self) -> None:
        """Let its store work."""
        self._tasks.start(self.committer.run(), "store")

    async def dial(self, hub: str, port: int) -> LinkShell:
        """Open a connection; ``up`` names it once its preface is done."""
        stored = next(one for one in self.links if one.link.hub == hub)
        nonce = entropy.random_bytes(NONCE_BYTES)
        opening = KmePreface(profile_of(stored.link), nonce, self.incarnation, clock.now())
        shell = LinkShell(Connection(opening), self, self.committer, self._threads)
        self._hubs[shell] = hub
        self.links.opened(shell)
        await asyncio.get_running_loop().create_connection(lambda: shell, LOOPBACK, port)
        return shell

    async def flood(self, make: Callable[[int], messages.Message], until: Callable[[], bool]) -> None:
        """Send as fast as the links take it, on every link that is up."""
        while not until():
            for shell in list(self.up.values()):
                with contextlib.suppress(Refused):
                    for _ in range(32):
                        self.sent += 1
                        shell.send(make(self.sent), self.sent)
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """End every connection."""
        await self.links.close()
        await self.committer.drain()
        await self._tasks.stop()
        self.committer.close()
        self._threads.shutdown(wait=True)
        self._store.close()

    # LinkHost
    def connected(self, shell: LinkShell) -> None:
        """As every KME."""

    def look_up(self, link_id: LinkId) -> LinkProfile:
        """Never asked: this end dials."""
        return self.links.profile(link_id)

    async def claim(self, shell: LinkShell, link_id: LinkId) -> Owned:
        """As every KME."""
        return await self.links.claim(shell, link_id, 0, b"")

    def established(self, shell: LinkShell, session: Session) -> None:
        """A hub is there to be flooded."""
        self.up[session.profile.parties.hub] = shell

    def arrived(self, shell: LinkShell, ordinal: int, message: messages.Message) -> None:
        """What others want is of no interest."""

    def answered(self, shell: LinkShell, token: Hashable, refusal: int | None) -> None:
        """Count what the hub said."""
        self.answers["done" if refusal is None else messages.refusal_code(refusal).name] += 1

    async def rolled_back(self, shell: LinkShell, notice: RolledBack) -> None:
        """Of no interest."""

    def pad_refused(self, shell: LinkShell, notice: PadRefused) -> None:
        """Of no interest."""

    def ended(self, shell: LinkShell, error: SkexError) -> None:
        """Remember why."""
        self.ends[error.code.name] += 1
        self.links.released(shell, error)
        hub = self._hubs.pop(shell)
        if self.up.get(hub) is shell:
            del self.up[hub]


def shares_for(receiver: str, realm: Realm, keys: int = 1) -> Callable[[int], messages.Message]:
    """Well-formed shares of batches that nobody will ever be able to rebuild."""
    hubs = tuple(Coordinate(hub.coordinate) for hub in realm.hubs)
    claim = Claim((), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR)
    context = CompactContext(realm.epoch, realm.threshold, hubs, keys, 32, Purpose.TRAFFIC, 3600, None, claim)
    body = bytes(range(1, 17)) * (context.secret_bytes // 16)
    return lambda counter: messages.Share(KmeName(receiver), counter, context, bytes(16), body)


def letters_for(receiver: str) -> Callable[[int], messages.Message]:
    """Peer messages that nobody can open."""
    return lambda counter: messages.Peer(KmeName(receiver), counter.to_bytes(8, "big") * 8)
