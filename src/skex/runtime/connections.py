"""Carries out one connection machine over TCP: bytes in, effects out, in their order.

The same shell serves both ends; what differs (who the link is, who owned it before) is asked of a
``LinkHost``. It must not know messages, batches or keys.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Mapping
from concurrent.futures import Executor
from typing import Protocol, cast

from skex.base import codes
from skex.base.errors import PeerFault, SkexError
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
from skex.wire.messages import Message


class LinkHost(Protocol):
    """What a daemon does with its links."""

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
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.pads: Mapping[Direction, Pad] = {}
        self.peer_address = ""

    # ── asyncio ─────────────────────────────────────────────────────────────────────────────────
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there; the dialling end speaks first."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer_address = f"{peer[0]}:{peer[1]}" if peer else ""
        self._queue(self._machine.start())
        self._set_timer()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.feed(Received(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        del exc
        self.feed(ConnectionLost())

    # ── in ──────────────────────────────────────────────────────────────────────────────────────
    def feed(self, event: ConnectionEvent) -> None:
        """Hand one event to the machine. Raises ``Refused`` for a ``Send`` that is not taken."""
        self._queue(self._machine.handle(event, clock.now()))
        self._set_timer()
        self._set_reading()

    def send(self, message: Message, token: Hashable = None) -> None:
        """Send a message. Raises ``Refused``: link-down, link-busy, pad-exhausted."""
        self.feed(Send(message, token))

    def pad_used(self, direction: Direction) -> int:
        """Pad bytes that this connection's records cost so far."""
        link = self._machine.link
        return 0 if link is None else link.pad_used(direction)

    def close(self, error: SkexError) -> None:
        """End the connection; ``ended`` says ``error``."""
        if not self._over:
            self._end(error)
            self._machine.handle(ConnectionLost(), clock.now())

    async def finished(self) -> None:
        """Return once nothing of this connection is being carried out any more."""
        await self._idle.wait()

    # ── out ─────────────────────────────────────────────────────────────────────────────────────
    def _queue(self, effects: ConnectionEffects) -> None:
        if effects.empty:
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
        """Make each set durable before anything of it is sent; then the next one."""
        try:
            while self._pending:
                effects = self._pending.popleft()
                taken = await self._persist(effects) if effects.persist else None
                if not isinstance(taken, GrantsFailed):
                    self._release(effects)
                if taken is not None:
                    self.feed(taken)
        finally:
            self._working = False
            self._idle.set()
            self._close_pads_if_over()

    async def _persist(self, effects: ConnectionEffects) -> ConnectionEvent | None:
        loop = asyncio.get_running_loop()
        try:
            taking = await loop.run_in_executor(self._threads, Taking, effects.persist, self.pads)
        except SkexError as error:
            return GrantsFailed(error)
        await self._committer.durable(taking.changes)
        try:
            return await loop.run_in_executor(self._threads, taking.finish)
        except SkexError as error:
            return GrantsFailed(error)

    def _release(self, effects: ConnectionEffects) -> None:
        """Send, then notify."""
        if effects.send and self._transport is not None and not self._over:
            self._transport.write(b"".join(effects.send))
        for notice in effects.notify:
            self._notice(notice)

    def _notice(self, notice: ConnectionNotice) -> None:
        match notice:
            case Arrived(ordinal, message):
                self._host.arrived(self, ordinal, message)
            case Answered(token, refusal):
                self._host.answered(self, token, refusal)
            case LookUpLink(link_id):
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
        await self._host.rolled_back(self, notice)
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
        if self._timer is not None:
            self._timer.cancel()
        self._close_pads_if_over()
        self._host.ended(self, error)

    def _close_pads_if_over(self) -> None:
        if self._over and not self._working:
            for pad in self.pads.values():
                pad.close()
            self.pads = {}

    def _set_reading(self) -> None:
        """Stop reading while more bytes could only be kept."""
        if self._transport is None or self._over or self._machine.paused is self._paused:
            return
        self._paused = self._machine.paused
        if self._paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _set_timer(self) -> None:
        deadline = self._machine.next_deadline
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None and not self._over:
            delay = max(0.0, deadline - clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self.feed, Tick())

    def _broke(self, error: BaseException) -> None:
        """A task of this connection failed: the store is gone, or there is a bug. End and report."""
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "a link failed", "exception": error})
        self.close(PeerFault(codes.CONNECTION_CLOSED, type(error).__name__))
