"""Carries out one connection machine over TCP: bytes in, effects out, in their order.

The same shell serves both ends; what differs (who the link is, who owned it before) is asked of a
``LinkHost``. It must not know messages, batches or keys.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Hashable, Mapping
from concurrent.futures import Executor
from typing import Final, Protocol, cast

from skex.base import codes, limits
from skex.base.errors import PeerFault, Refused, SkexError, StoreFault
from skex.base.ids import Direction, LinkId
from skex.pad.kinds import Pad
from skex.protocol.changes import Change
from skex.protocol.connection import (
    Connection,
    ConnectionEffects,
    ConnectionEvent,
    ConnectionNotice,
    Established,
)
from skex.protocol.link import Answered, Arrived, PadRefused, Send
from skex.protocol.session import (
    ClaimLink,
    ConnectionLost,
    Failed,
    GrantsFailed,
    LinkFound,
    LinkProfile,
    LookUpLink,
    Owned,
    Received,
    RollbackNoted,
    RolledBack,
    Session,
)
from skex.protocol.taking import Taking
from skex.protocol.traffic import Tick
from skex.runtime import clock
from skex.runtime.commit import Committer
from skex.runtime.tasks import Tasks
from skex.runtime.timers import Timer
from skex.wire.messages import Message

WRITE_BYTES: Final = limits.LINK_QUEUE_BYTES
"""Sealed bytes that wait for a slow peer before messages to it are refused."""
WRITE_BYTES_MAX: Final = 3 * WRITE_BYTES
"""Beyond it the connection ends: full waits, what a grant then releases, and only answers on top."""
PENDING_SETS: Final = 64
"""Sets that wait for the pads' disk before nothing more is read from the connection."""
BACKLOG_SETS: Final = 1024
"""Sets of the whole daemon that wait for its store before connections rest."""
SLICE_BYTES: Final = 16 * 1024
"""What of one connection is worked on before it is every other connection's turn: a peer that sends as
fast as it can delays the others by so much, not by all that its socket held."""
SOCKET_BYTES: Final = 64 * 1024
"""What the kernel keeps of one connection in each direction. Everything on a link waits behind it, unseen;
a round trip of 50 ms still lets more than 1 MB a second through."""
_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES),
    (socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)
"""A peer that vanished without a word is noticed within half a minute, at no cost of pad."""


class LinkHost(Protocol):
    """What a daemon does with its links."""

    def connected(self, shell: LinkShell) -> None:
        """A connection is there, and its address known; nothing of it was read yet."""

    def look_up(self, link_id: LinkId) -> LinkProfile:
        """The link's profile, or a decoy for an id that is not enrolled."""

    async def claim(self, shell: LinkShell, link_id: LinkId) -> Owned:
        """End any older connection of the link, open its pads for ``shell``, return its marks."""

    def established(self, shell: LinkShell, session: Session) -> None:
        """The preface is done."""

    def arrived(self, shell: LinkShell, ordinal: int, message: Message) -> None:
        """A message came."""

    def answered(self, shell: LinkShell, token: Hashable, refusal: int | None) -> None:
        """A request was answered."""

    async def rolled_back(self, shell: LinkShell, notice: RolledBack) -> None:
        """The other end saw this end further than it is; return once that is durably known."""

    def pad_refused(self, shell: LinkShell, notice: PadRefused) -> None:
        """No more pad for this end's direction: operators must hear of it."""

    def ended(self, shell: LinkShell, error: SkexError) -> None:
        """The connection is over; called once, whatever came before."""


class LinkShell(asyncio.Protocol):
    """One TCP connection and its machine."""

    def __init__(
        self, machine: Connection, host: LinkHost, committer: Committer[Change], pad_threads: Executor
    ) -> None:
        self._machine = machine
        self._host = host
        self._committer = committer
        self._threads = pad_threads
        self._tasks = Tasks(self._broke)
        self._transport: asyncio.Transport | None = None
        self._pending: deque[ConnectionEffects] = deque()
        self._working = False
        self._over = False
        self._paused = False
        self._resting = False
        self._slowed: asyncio.TimerHandle | None = None
        self._unread = bytearray()
        self._slice_is_due = False
        self._congested = False
        self._timer = Timer(lambda: self._guarded(Tick()))
        self._idle = asyncio.Event()
        self._idle.set()
        self.pads: Mapping[Direction, Pad] = {}
        self.peer_address = ""
        self.peer_host = ""
        self.link_id: LinkId | None = None
        """Which link the other end says it is, once it said so."""

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended."""
        return self._over

    # ── asyncio ─────────────────────────────────────────────────────────────────────────────────
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there; the dialling end speaks first."""
        opened = cast("asyncio.Transport", transport)
        if self._over:  # it was closed while it was being dialled
            opened.abort()
            return
        self._transport = opened
        opened.set_write_buffer_limits(high=WRITE_BYTES)
        connected = opened.get_extra_info("socket")
        for level, option, value in _OPTIONS if connected is not None else ():
            connected.setsockopt(level, option, value)
        peer = opened.get_extra_info("peername")
        self.peer_host = str(peer[0]) if peer else ""
        self.peer_address = f"{peer[0]}:{peer[1]}" if peer else ""
        self._host.connected(self)
        if self.is_over:  # there were too many
            return
        self._queue(self._machine.start())
        self._timer.set(self._machine.next_deadline)

    def data_received(self, data: bytes) -> None:
        """Bytes came; what is more than a slice of them waits until others had their turn."""
        if self._unread or len(data) > SLICE_BYTES:
            self._unread += data
            self._set_reading()
        else:
            self._guarded(Received(data))

    def _next_slice(self) -> None:
        self._slice_is_due = False
        if not self._over and not self._is_full:
            data = bytes(self._unread[:SLICE_BYTES])
            del self._unread[:SLICE_BYTES]
            self._guarded(Received(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        del exc
        self._transport = None
        self._guarded(ConnectionLost())

    def pause_writing(self) -> None:
        """The peer is slow: what waits for it is bounded."""
        self._congested = True

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._congested = False

    # ── in ──────────────────────────────────────────────────────────────────────────────────────
    def feed(self, event: ConnectionEvent) -> None:
        """Hand one event to the machine. Raises ``Refused`` for a ``Send`` that is not taken."""
        self._queue(self._machine.handle(event, clock.now()))
        self._timer.set(None if self._over else self._machine.next_deadline)
        self._set_reading()

    def _guarded(self, event: ConnectionEvent) -> None:
        """Whatever goes wrong with what came from outside ends this connection, and is reported."""
        try:
            self.feed(event)
        except Exception as error:  # noqa: BLE001  # event loops would only log it, and go on
            self._broke(error)

    def send(self, message: Message, token: Hashable = None) -> None:
        """Send a message. Raises ``Refused``: link-down, link-busy, pad-exhausted."""
        if self._over:
            raise Refused(codes.LINK_DOWN)
        if self._congested or len(self._pending) > PENDING_SETS:
            raise Refused(codes.LINK_BUSY)
        self.feed(Send(message, token))

    def slow_down(self, seconds: float) -> bool:
        """Read nothing for so long: this peer asks more than it may. False if it is slowed down already."""
        if self._slowed is not None or self._over:
            return False
        self._slowed = asyncio.get_running_loop().call_later(seconds, self._speed_up)
        self._set_reading()
        return True

    def _speed_up(self) -> None:
        self._slowed = None
        self._set_reading()

    @property
    def waiting_bytes(self) -> int:
        """Sealed bytes that the peer has not taken yet, as far as they are not in the kernel."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def pad_used(self, direction: Direction) -> int:
        """Pad bytes that this connection's records cost so far."""
        link = self._machine.link
        return 0 if link is None else link.pad_used(direction)

    def close(self, error: SkexError) -> None:
        """End the connection; ``ended`` says ``error``. What waits is dropped, as if it had broken."""
        if not self._over:
            self._machine.handle(ConnectionLost(), clock.now())
            self._end(error)

    async def finished(self) -> None:
        """Return once no set of this connection is being carried out any more."""
        await self._idle.wait()

    async def settled(self) -> None:
        """Return once nothing of this connection runs any more; to be called behind ``close``."""
        await self.finished()
        await self._tasks.settled()

    # ── out ─────────────────────────────────────────────────────────────────────────────────────
    def _queue(self, effects: ConnectionEffects) -> None:
        if effects.empty or self._over:
            return
        if not effects.persist and not self._pending and not self._working:
            self._release(effects)
            return
        self._pending.append(effects)
        if not self._working:
            self._working = True
            self._idle.clear()
            self._tasks.start(self._carry_out(), "link effects")

    async def _carry_out(self) -> None:
        """Make each set durable before anything of it is sent; then the next one.

        Never cancelled: a grant whose mark is durable is always taken to its end, so that its pad is
        erased.
        """
        try:
            while self._pending and not self._over:
                effects = self._pending.popleft()
                taken = await self._persist(effects) if effects.persist else None
                if not isinstance(taken, GrantsFailed):
                    self._release(effects)
                if taken is not None:
                    self.feed(taken)
                self._set_reading()
        except StoreFault as error:  # the store failed: its owner hears of it, and ends the daemon
            self.close(error)
        finally:
            self._pending.clear()
            self._working = False
            self._idle.set()
            self._close_pads_if_over()

    async def _persist(self, effects: ConnectionEffects) -> ConnectionEvent | None:
        loop = asyncio.get_running_loop()
        try:
            taking = await loop.run_in_executor(self._threads, Taking, effects.persist, self.pads)
        except SkexError as error:
            return GrantsFailed(error)
        try:
            await self._committer.durable(taking.changes)
        except BaseException:
            taking.abandon()
            raise
        try:
            return await loop.run_in_executor(self._threads, taking.finish)
        except SkexError as error:
            return GrantsFailed(error)

    def _release(self, effects: ConnectionEffects) -> None:
        """Send, then notify; a connection that ended meanwhile does neither."""
        if effects.send and self._transport is not None and not self._over:
            self._transport.write(b"".join(effects.send))
            if self._transport.get_write_buffer_size() > WRITE_BYTES_MAX:
                self.close(PeerFault(codes.PEER_SLOW))
        for notice in effects.notify:
            if self._over:
                break
            self._notice(notice)

    def _notice(self, notice: ConnectionNotice) -> None:
        match notice:
            case Arrived(ordinal, message):
                self._host.arrived(self, ordinal, message)
            case Answered(token, refusal):
                self._host.answered(self, token, refusal)
            case LookUpLink(link_id):
                self.link_id = link_id
                self.feed(LinkFound(self._host.look_up(link_id)))
            case ClaimLink(link_id):
                self._tasks.start(self._claim(link_id), "claim link")
            case RolledBack():
                self._tasks.start(self._note_rollback(notice), "note rollback")
            case Established(session):
                self._host.established(self, session)
            case PadRefused():
                self._host.pad_refused(self, notice)
            case Failed(error):
                self._end(error)
            case _:
                pass

    async def _claim(self, link_id: LinkId) -> None:
        try:
            owned = await self._host.claim(self, link_id)
        except SkexError as error:
            self.close(error)
        else:
            self._answer(owned)

    async def _note_rollback(self, notice: RolledBack) -> None:
        if self._over:
            return  # the next preface says it again
        try:
            await self._host.rolled_back(self, notice)
        except SkexError as error:
            self.close(error)
        else:
            self._answer(RollbackNoted())

    def _answer(self, event: ConnectionEvent) -> None:
        """Hand in the answer to a question, unless the connection ended meanwhile."""
        if not self._over:
            self.feed(event)
        self._close_pads_if_over()

    # ── the end ─────────────────────────────────────────────────────────────────────────────────
    def _end(self, error: SkexError) -> None:
        if self._over:
            return
        self._over = True
        if self._transport is not None:
            self._transport.abort()
        self._timer.set(None)
        if self._slowed is not None:
            self._slowed.cancel()
        self._unread.clear()
        self._host.ended(self, error)
        self._close_pads_if_over()

    def _close_pads_if_over(self) -> None:
        if self._over and not self._working:
            for pad in self.pads.values():
                pad.close()
            self.pads = {}

    def _set_reading(self) -> None:
        """Stop reading while more bytes could only be kept."""
        if self._transport is None or self._over or self._transport.is_closing():
            return
        if self._committer.backlog > BACKLOG_SETS and not self._resting:
            self._resting = True
            self._tasks.start(self._rest(), "link rests")
        if self._unread and not self._slice_is_due and not self._is_full:
            self._slice_is_due = True
            asyncio.get_running_loop().call_soon(self._next_slice)
        full = self._is_full or bool(self._unread)
        if full is self._paused:
            return
        self._paused = full
        if full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    @property
    def _is_full(self) -> bool:
        busy = self._machine.paused or len(self._pending) > PENDING_SETS
        return busy or self._resting or self._slowed is not None

    async def _rest(self) -> None:
        """Read on once the store has caught up with what came so far."""
        await self._committer.drain()
        self._resting = False
        self._set_reading()

    def _broke(self, error: BaseException) -> None:
        """A task of this connection failed: the store is gone, or there is a bug. End and report."""
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "a link failed", "exception": error})
        self.close(PeerFault(codes.CONNECTION_CLOSED, type(error).__name__))
