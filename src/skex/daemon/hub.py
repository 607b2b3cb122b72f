"""The hub daemon: accepts links, relays between them, answers its operator.

It keeps no share, in memory or on disk: what it relays leaves within the call in which it came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, cast

from prometheus_client import CollectorRegistry, Counter, Gauge

from skex.base import codes
from skex.base.errors import ErrorCode, Refused, SkexError, StoreFault
from skex.base.ids import Direction, HubName, KmeName, LinkId
from skex.daemon import record
from skex.daemon.links import Links
from skex.enrol.links import PadSealing
from skex.pad.files import FileSystem
from skex.protocol import hub, traffic
from skex.protocol.changes import Change
from skex.protocol.connection import Connection
from skex.protocol.link import PadRefused
from skex.protocol.preface_hub import HubPreface
from skex.protocol.session import LinkProfile, Owned, RolledBack, Session
from skex.runtime import clock, entropy
from skex.runtime.commit import Committer, Store
from skex.runtime.connections import LinkShell
from skex.runtime.tasks import Tasks
from skex.runtime.timers import Timer
from skex.store.links import StoredLink
from skex.wire import messages
from skex.wire.messages import Message
from skex.wire.preface import NONCE_BYTES, Marks
from skex.wire.realm import Realm

PAD_THREADS: Final = 4
"""Grants taken at once; each is a few milliseconds of file work."""
CONNECTIONS: Final = 4096
"""Connections accepted at once, prefaces included; beyond it the newest is closed at once."""
_log = logging.getLogger("skex.hub")


class HubStore(Store[Change], Protocol):
    """What the daemon needs of its store; called on the store's thread."""

    def links(self) -> tuple[StoredLink, ...]:
        """Every enrolled link."""

    def marks(self, link_id: LinkId) -> Marks:
        """A link's durable marks."""


class HubMetrics:
    """What monitoring sees of a hub."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.connected = Gauge("skex_hub_connected_kmes", "KMEs with a live link", registry=self.registry)
        self.relayed = Counter("skex_hub_relayed", "Messages passed on", ["kind"], registry=self.registry)
        self.refused = Counter(
            "skex_hub_refused", "Requests refused", ["kind", "reason"], registry=self.registry
        )
        self.failed = Counter(
            "skex_hub_link_failures", "Connections that ended with an error", ["code"], registry=self.registry
        )
        self.pad_left = Gauge(
            "skex_hub_pad_bytes_left", "Pad left towards a KME", ["kme"], registry=self.registry
        )


class _TooMany(asyncio.Protocol):
    """What a connection beyond the bound meets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close at once."""
        cast("asyncio.Transport", transport).abort()


class HubDaemon:
    """One hub, from its start to its stop. Construct on the event loop."""

    def __init__(
        self,
        *,
        name: HubName,
        realm: Realm,
        store: HubStore,
        stored: tuple[StoredLink, ...],
        policy: hub.RelayPolicy,
        floor: Callable[[hub.Stream], int],
        pads: FileSystem,
        sealing: PadSealing,
        emit: record.Emit,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.name = name
        self.metrics = HubMetrics()
        self._realm = realm
        self._digest = realm.digest()
        self._store = store
        self._emit = emit
        self._threads = ThreadPoolExecutor(PAD_THREADS, thread_name_prefix="pads")
        self.committer: Committer[Change] = Committer(store)
        self._tasks = Tasks(failed)
        self.links = Links(
            stored=stored,
            pads=pads,
            sealing=sealing,
            threads=self._threads,
            read_marks=lambda link_id: self.committer.call(lambda: store.marks(link_id)),
            contradiction=self._contradiction,
        )
        self._relay = hub.HubRelay(policy, self, realm.to_bytes(), floor=floor)
        self._by_name: dict[KmeName, LinkShell] = {}
        self._sessions: dict[LinkShell, Session] = {}
        self._timer = Timer(lambda: self._do(traffic.Tick()))
        self._server: asyncio.Server | None = None

    # ── lifecycle ───────────────────────────────────────────────────────────────────────────────
    async def listen(self, host: str, port: int) -> int:
        """Accept links; returns the port, which the system chose if ``port`` is 0.

        Raises ``StoreFault`` (listen-address).
        """
        self._tasks.start(self.committer.run(), "group commit")
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._accept, host, port, backlog=512)
        except OSError as error:
            raise StoreFault(codes.LISTEN_ADDRESS, f"{host}:{port}: {error.strerror}") from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """End every link and wait until nothing is being carried out. Idempotent."""
        if self._server is not None:
            self._server.close()
        await self.links.close()
        self._timer.set(None)
        await self.committer.drain()
        await self._tasks.stop()
        self.committer.close()
        self._threads.shutdown(wait=True)

    def _accept(self) -> asyncio.Protocol:
        if self.links.open >= CONNECTIONS:
            return _TooMany()
        preface = HubPreface(entropy.random_bytes(NONCE_BYTES), clock.now())
        shell = LinkShell(Connection(preface), self, self.committer, self._threads)
        self.links.opened(shell)
        return shell

    # ── LinkHost ────────────────────────────────────────────────────────────────────────────────
    def look_up(self, link_id: LinkId) -> LinkProfile:
        """The link's profile, or a decoy."""
        return self.links.profile(link_id)

    async def claim(self, shell: LinkShell, link_id: LinkId) -> Owned:
        """End an older connection, open the pads, state the marks."""
        return await self.links.claim(shell, link_id, self._realm.epoch, self._digest)

    def established(self, shell: LinkShell, session: Session) -> None:
        """A KME is connected."""
        name = session.profile.parties.kme
        self._sessions[shell] = session
        self._by_name[name] = shell
        self.metrics.connected.set(len(self._by_name))
        self.metrics.pad_left.labels(name).set_function(lambda: self.remaining(name))
        _log.info("link up", extra={"kme": name, "peer": shell.peer_address})
        self._do(traffic.KmeUp(name, session.incarnation))

    def arrived(self, shell: LinkShell, ordinal: int, message: Message) -> None:
        """A KME asked for something."""
        self._do(traffic.FromKme(self._name_of(shell), ordinal, message))

    def answered(self, shell: LinkShell, token: Hashable, refusal: int | None) -> None:
        """A KME refused what was relayed to it."""
        if refusal is not None:
            self._do(traffic.AnsweredByKme(self._name_of(shell), token, refusal))

    async def rolled_back(self, shell: LinkShell, notice: RolledBack) -> None:
        """A KME saw this hub further than it is: marks only rise, so an alarm is all there is to do."""
        del shell
        _log.error("this hub was rolled back", extra={"link": notice.link_id.hex()})
        self._emit(record.rollback_of(notice.link_id))

    def pad_refused(self, shell: LinkShell, notice: PadRefused) -> None:
        """No pad is left towards a KME."""
        _log.error("pad exhausted", extra={"kme": self._name_of(shell), "code": notice.code.name})
        self._emit(record.pad_exhausted(kme_name=self._name_of(shell)))

    def ended(self, shell: LinkShell, error: SkexError) -> None:
        """A connection is over."""
        self.links.released(shell)
        self.metrics.failed.labels(error.code.name).inc()
        session = self._sessions.pop(shell, None)
        if session is None:
            _log.info("preface failed", extra={"peer": shell.peer_address, "code": error.code.name})
            return
        name = session.profile.parties.kme
        _log.info("link down", extra={"kme": name, "code": error.code.name})
        if self._by_name.get(name) is shell:
            del self._by_name[name]
            self.metrics.connected.set(len(self._by_name))
            self._do(traffic.KmeDown(name))

    def _contradiction(self, link_id: LinkId, code: ErrorCode) -> None:
        _log.error("a pad file is ahead of the store", extra={"link": link_id.hex(), "code": code.name})
        self._emit(record.rollback_of(link_id, code))

    def _name_of(self, shell: LinkShell) -> KmeName:
        return self._sessions[shell].profile.parties.kme

    # ── relaying ────────────────────────────────────────────────────────────────────────────────
    def remaining(self, kme: KmeName) -> int:
        """Pad bytes towards a KME that are neither granted nor used."""
        shell = self._by_name.get(kme)
        pad = None if shell is None else shell.pads.get(Direction.TO_KME)
        return 0 if pad is None else pad.remaining_bytes

    def _do(self, event: hub.HubEvent) -> None:
        effects = self._relay.handle(event, clock.now())
        for send in effects.send:
            self._send(send)
        for notice in effects.notify:
            self.heard(notice)
        self._set_timer()

    def _send(self, send: traffic.SendToKme) -> None:
        """What a link does not take, its sender is told of; on a connection that breaks it is lost."""
        shell = self._by_name.get(send.kme)
        if shell is None:
            return
        try:
            shell.send(send.message, send.token)
        except Refused as refused:
            _log.warning("not sent", extra={"kme": send.kme, "code": refused.code.name})
            if send.token is not None:
                self._do(traffic.AnsweredByKme(send.kme, send.token, messages.Refusal.BUSY))

    def heard(self, notice: hub.HubNotice) -> None:
        """Count what the relay tells; refusals are for the operator."""
        event = record.of_hub(notice)
        if event is not None:
            self._emit(event)
        match notice:
            case hub.Relayed():
                self.metrics.relayed.labels(notice.request.value).inc()
            case hub.RefusedRequest():
                self.metrics.refused.labels(notice.request.value, notice.reason.value).inc()
                _log.info(
                    "refused",
                    extra={"kme": notice.sender, "to": notice.receiver, "reason": notice.reason.value},
                )
            case _:
                pass

    def _set_timer(self) -> None:
        self._timer.set(self._relay.next_deadline)

    # ── the operator ────────────────────────────────────────────────────────────────────────────
    def status(self) -> Mapping[str, Any]:
        """What ``skex hub status`` shows."""
        return {
            "hub": self.name,
            "realm": self._realm.name,
            "epoch": self._realm.epoch,
            "threshold": self._realm.threshold,
            "kmes": [self._link_status(stored) for stored in self.links],
        }

    def _link_status(self, stored: StoredLink) -> Mapping[str, Any]:
        shell = self._by_name.get(stored.link.kme)
        connected = shell is not None and bool(shell.pads)
        return {
            "kme": stored.link.kme,
            "pad": stored.link.kind.name.lower(),
            "connected": connected,
            "suspended": stored.suspended,
            "frozen": list(stored.frozen),
            "pad_bytes_left": self.remaining(stored.link.kme) if connected else None,
        }

    async def reload_links(self) -> None:
        """Take in links that were enrolled, suspended or removed meanwhile."""
        for stored in await self.committer.call(self._store.links):
            self.links.add(stored)
