"""The hub daemon: accepts links, relays between them, answers its operator.

It keeps no share, in memory or on disk: what it relays leaves within the call in which it came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, cast

from prometheus_client import CollectorRegistry, Counter, Gauge

from skex.audit.events import Event
from skex.base import codes, limits
from skex.base.errors import ErrorCode, PeerFault, Refused, SkexError, StoreFault
from skex.base.ids import Direction, HubName, KmeName, LinkId
from skex.daemon import record
from skex.daemon.backlog import Backlog
from skex.daemon.conduct import Conducts, Seldom
from skex.daemon.links import Links
from skex.daemon.padwatch import HUB_SIDE, PadWatch
from skex.daemon.strangers import STRANGERS, Strangers
from skex.enrol.links import PadSealing
from skex.pad.files import FileSystem
from skex.pad.forecast import Thresholds
from skex.policy.decisions import Decision
from skex.protocol import hub, traffic
from skex.protocol.changes import Change
from skex.protocol.connection import Connection
from skex.protocol.link import PadRefused
from skex.protocol.preface_hub import HubPreface
from skex.protocol.realm import check_succession
from skex.protocol.session import LinkProfile, Owned, RolledBack, Session
from skex.runtime import clock, entropy
from skex.runtime.commit import Committer, Store
from skex.runtime.connections import LinkShell
from skex.runtime.descriptors import allow_open_files
from skex.runtime.tasks import Tasks
from skex.runtime.timers import Timer
from skex.store.links import StoredLink
from skex.wire import messages
from skex.wire.messages import Message
from skex.wire.preface import NONCE_BYTES, Marks
from skex.wire.realm import Realm

PAD_THREADS: Final = 4
"""Grants taken at once; each is a few milliseconds of file work."""
CONNECTIONS: Final = 1024
"""Connections at once, prefaces included, where the configuration says nothing else."""
FILES_PER_CONNECTION: Final = 3
"""Its socket, and the pad of each direction."""
FILES_BESIDES: Final = 64
"""Store, audit log, admin socket, and what libraries keep open."""
WORST_SOURCES: Final = 5
"""Sources of failed connections that the status names."""
RECEIVER_SLOW: Final = "receiver-slow"
"""Why a share is refused whose sender takes up its part of the way to a receiver that does not keep up."""
LOGGED_A_MINUTE: Final = 60
"""Log lines about strangers and refusals: what others cause must not fill the disk. All are counted."""
_log = logging.getLogger("skex.hub")


class HubStore(Store[Change], Protocol):
    """What the daemon needs of its store; called on the store's thread."""

    def links(self) -> tuple[StoredLink, ...]:
        """Every enrolled link."""

    def marks(self, link_id: LinkId) -> Marks:
        """A link's durable marks."""

    def set_realm(self, epoch: int, data: bytes) -> None:
        """Serve another realm file. Raises ``Refused`` (realm-outdated)."""

    def scrub(self) -> None:
        """Leave nothing erased in the store's log."""


class HubMetrics:
    """What monitoring sees of a hub."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.connected = Gauge("skex_hub_connected_kmes", "KMEs with a live link", registry=self.registry)
        self.relayed = Counter("skex_hub_relayed", "Messages passed on", ["kind"], registry=self.registry)
        self.refused = Counter(
            "skex_hub_refused", "Requests refused", ["kind", "reason"], registry=self.registry
        )
        self.unsent = Counter(
            "skex_hub_unsent",
            "Messages that a KME's link did not take",
            ["kme", "code"],
            registry=self.registry,
        )
        self.refused_kme = Counter(
            "skex_hub_kme_refused", "Requests refused, by who asked", ["kme"], registry=self.registry
        )
        self.slowed = Counter(
            "skex_hub_kme_slowed",
            "Times a KME asked too much and was slowed down",
            ["kme", "what"],
            registry=self.registry,
        )
        self.strangers = Gauge(
            "skex_hub_strangers", "Connections that have not proved themselves", registry=self.registry
        )
        self.evicted = Counter(
            "skex_hub_strangers_evicted", "Unproved connections closed for others", registry=self.registry
        )
        self.failed = Counter(
            "skex_hub_link_failures", "Connections that ended with an error", ["code"], registry=self.registry
        )
        self.pad_left = Gauge(
            "skex_hub_pad_bytes_left", "Pad left towards a KME", ["kme"], registry=self.registry
        )


def _affordable(connections: int) -> int:
    """As many of so many connections as the files of this process suffice for; at least one."""
    wanted = connections * FILES_PER_CONNECTION + FILES_BESIDES
    allowed = allow_open_files(wanted)
    if allowed >= wanted:
        return connections
    afforded = max(1, (allowed - FILES_BESIDES) // FILES_PER_CONNECTION)
    _log.warning("too few files for the configured connections", extra={"files": allowed, "for": afforded})
    return afforded


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
        recorded: Callable[[Event], Awaitable[None]],
        low_pads: Thresholds,
        failed: Callable[[BaseException], None],
        connections_max: int = CONNECTIONS,
        why: Callable[[hub.RefusedRequest], Decision | None] = lambda _notice: None,
    ) -> None:
        """``why`` is what policy decided of a request that was just refused, for the audit log.

        ``recorded`` writes an event and returns once it is durable.
        """
        self._why = why
        self._recorded = recorded
        self.name = name
        self.metrics = HubMetrics()
        self._connections_max = _affordable(connections_max)
        self._strangers: Strangers[LinkShell] = Strangers(min(STRANGERS, self._connections_max))
        self.metrics.strangers.set_function(lambda: len(self._strangers))
        self._conducts = Conducts()
        self._backlogs: dict[KmeName, Backlog] = {}
        self._seldom = Seldom(LOGGED_A_MINUTE)
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
        self.pad_watch = PadWatch(
            HUB_SIDE,
            self.links,
            thresholds=low_pads,
            emit=emit,
            registry=self.metrics.registry,
            floor=lambda: floor(hub.Stream.SHARES),
        )
        self._relay = hub.HubRelay(policy, self, realm.to_bytes(), floor=floor)
        self._by_name: dict[KmeName, LinkShell] = {}
        self._sessions: dict[LinkShell, Session] = {}
        self._timer = Timer(lambda: self._do(traffic.Tick()))
        self._server: asyncio.Server | None = None
        self._stopping = False

    # ── lifecycle ───────────────────────────────────────────────────────────────────────────────
    async def listen(self, host: str, port: int) -> int:
        """Accept links; returns the port, which the system chose if ``port`` is 0.

        Raises ``StoreFault`` (listen-address).
        """
        self._tasks.start(self.committer.run(), "group commit")
        self._tasks.start(self.committer.tend(self._store.scrub, limits.STORE_SCRUB_SECONDS), "scrub")
        self._tasks.start(self.pad_watch.run(), "pad watch")
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._accept, host, port, backlog=512)
        except OSError as error:
            raise StoreFault(codes.LISTEN_ADDRESS, f"{host}:{port}: {error.strerror}") from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """End every link and wait until nothing is being carried out. Idempotent."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        await self.links.close()
        self._timer.set(None)
        await self.committer.drain()
        await self._tasks.stop()
        self.committer.close()
        self._threads.shutdown(wait=True)

    def _accept(self) -> asyncio.Protocol:
        if self.links.open >= self._connections_max:
            oldest = self._strangers.oldest_of_most()
            if oldest is None:  # all of them are enrolled
                return _TooMany()
            self._send_away(oldest)
        preface = HubPreface(entropy.random_bytes(NONCE_BYTES), clock.now())
        shell = LinkShell(Connection(preface), self, self.committer, self._threads)
        self.links.opened(shell)
        return shell

    def _send_away(self, shell: LinkShell) -> None:
        """Close a stranger's connection unheard, because there are too many."""
        self.metrics.evicted.inc()
        self._emit(record.crowded(shell.peer_address))
        shell.close(PeerFault(codes.CONNECTION_CLOSED, "too many connections wait for their preface"))

    # ── LinkHost ────────────────────────────────────────────────────────────────────────────────
    def connected(self, shell: LinkShell) -> None:
        """A stranger came."""
        loser = self._strangers.arrive(shell, shell.peer_host)
        if loser is not None:
            self._send_away(loser)

    def look_up(self, link_id: LinkId) -> LinkProfile:
        """The link's profile, or a decoy."""
        return self.links.profile(link_id)

    async def claim(self, shell: LinkShell, link_id: LinkId) -> Owned:
        """End an older connection, open the pads, state the marks; not too often for one link."""
        self._strangers.leave(shell, proved=True)
        self.links.about_to_claim(shell, link_id)
        stored = self.links.usable(link_id)
        if stored is not None:
            await self._not_too_often(stored.link.kme)
        return await self.links.claim(shell, link_id, self._realm.epoch, self._digest)

    async def _not_too_often(self, name: KmeName) -> None:
        conduct = self._conducts.of(name)
        conduct.connected += 1
        wait = conduct.connections.use(clock.now())
        if wait:
            self._slowed(name, record.Overload.CONNECTIONS)
            await asyncio.sleep(wait)

    def _slowed(self, name: KmeName, what: record.Overload) -> None:
        self._conducts.of(name).slowed += 1
        self.metrics.slowed.labels(name, what.value).inc()
        self._emit(record.slowed(name, what))

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
        """A KME saw this hub further than it is: marks only rise, so an alarm is all there is to do.

        It is durable before the preface goes on: once marks have risen, nobody would see it again.
        """
        del shell
        _log.error("this hub was rolled back", extra={"link": notice.link_id.hex()})
        await self._recorded(record.rollback_of(notice.link_id))

    def pad_refused(self, shell: LinkShell, notice: PadRefused) -> None:
        """No pad is left towards a KME."""
        _log.error("pad exhausted", extra={"kme": self._name_of(shell), "code": notice.code.name})
        self._emit(record.pad_exhausted(kme_name=self._name_of(shell)))

    def ended(self, shell: LinkShell, error: SkexError) -> None:
        """A connection is over."""
        frozen = self.links.released(shell, error)
        if frozen is not None:
            _log.error("a link was frozen", extra={"link": frozen.hex(), "code": error.code.name})
            self._emit(record.link_frozen(frozen, error.code))
        self.metrics.failed.labels(error.code.name).inc()
        session = self._sessions.pop(shell, None)
        if session is None:
            self._not_established(shell, error)
            return
        name = session.profile.parties.kme
        _log.info("link down", extra={"kme": name, "code": error.code.name})
        if not self._stopping:
            self._emit(record.of_kme_connection(name, error, shell.peer_address))
        if self._by_name.get(name) is shell:
            del self._by_name[name]
            self.metrics.connected.set(len(self._by_name))
            self._do(traffic.KmeDown(name))

    def _not_established(self, shell: LinkShell, error: SkexError) -> None:
        self._strangers.leave(shell, proved=False)
        event = record.of_stranger(error, shell.link_id, shell.peer_address)
        if event is not None:
            self._emit(event)
        if not self._seldom.passes(clock.now()):
            return
        if error.code is codes.VERSION_UNSUPPORTED:  # the KME was told in frame 2, the operator is told here
            extra = {"peer": shell.peer_address, "detail": error.detail, "hint": error.code.hint}
            _log.warning("no protocol version in common", extra=extra)
        else:
            _log.info("preface failed", extra={"peer": shell.peer_address, "code": error.code.name})

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
            self._leave_room_for_others(send, shell)
            shell.send(send.message, send.token)
        except Refused as refused:
            self.metrics.unsent.labels(send.kme, refused.code.name).inc()
            if self._seldom.passes(clock.now()):
                _log.warning("not sent", extra={"kme": send.kme, "code": refused.code.name})
            if send.token is not None:
                self._do(traffic.AnsweredByKme(send.kme, send.token, messages.Refusal.BUSY))

    def _leave_room_for_others(self, send: traffic.SendToKme, shell: LinkShell) -> None:
        """Raises ``Refused`` (link-busy) for a share whose sender has its part of what waits already."""
        if not isinstance(send.message, messages.Shared):
            return
        backlog = self._backlogs.setdefault(send.kme, Backlog())
        if not backlog.admits(send.message.sender, hub.record_pad_bytes(send.message), shell.waiting_bytes):
            self._count_refusal(send.message.sender, RECEIVER_SLOW)
            raise Refused(codes.LINK_BUSY, "its receiver is slow")

    def heard(self, notice: hub.HubNotice) -> None:
        """Count what the relay tells; refusals are for the operator."""
        event = record.of_hub(notice, self._why)
        if event is not None:
            self._emit(event)
        match notice:
            case hub.Relayed():
                self.metrics.relayed.labels(notice.request.value).inc()
            case hub.RefusedRequest():
                self._refused(notice)
            case _:
                pass

    def _refused(self, notice: hub.RefusedRequest) -> None:
        """Count a refusal for everybody who asks; whoever is refused too often is read more slowly."""
        self.metrics.refused.labels(notice.request.value, notice.reason.value).inc()
        self._count_refusal(notice.sender, notice.reason.value)
        if self._seldom.passes(clock.now()):
            _log.info(
                "refused",
                extra={"kme": notice.sender, "to": notice.receiver, "reason": notice.reason.value},
            )

    def _count_refusal(self, sender: KmeName, reason: str) -> None:
        self.metrics.refused_kme.labels(sender).inc()
        conduct = self._conducts.of(sender)
        conduct.refused[reason] += 1
        wait = conduct.refusals.use(clock.now())
        shell = self._by_name.get(sender)
        if wait and shell is not None and shell.slow_down(wait):
            self._slowed(sender, record.Overload.REFUSALS)

    def _set_timer(self) -> None:
        self._timer.set(self._relay.next_deadline)

    # ── the operator ────────────────────────────────────────────────────────────────────────────
    async def status(self) -> Mapping[str, Any]:
        """What ``skex hub status`` shows."""
        pads = await self.pad_watch.report()
        return {
            "hub": self.name,
            "realm": self._realm.name,
            "epoch": self._realm.epoch,
            "threshold": self._realm.threshold,
            "kmes": [self._link_status(stored, pads) for stored in self.links],
            "connections": {
                "open": self.links.open,
                "open_max": self._connections_max,
                "unproved": len(self._strangers),
                "failed_from": dict(self._strangers.worst(WORST_SOURCES)),
            },
        }

    def _link_status(self, stored: StoredLink, pads: Mapping[LinkId, Mapping[str, Any]]) -> Mapping[str, Any]:
        shell = self._by_name.get(stored.link.kme)
        connected = shell is not None and bool(shell.pads)
        conduct = self._conducts.of(stored.link.kme)
        return {
            "kme": stored.link.kme,
            "pad": stored.link.kind.name.lower(),
            "connected": connected,
            "suspended": stored.suspended,
            "frozen": list(stored.frozen),
            "pad_bytes_left": self.remaining(stored.link.kme) if connected else None,
            "pads": pads.get(stored.link.link_id),
            "connections": conduct.connected,
            "refused": dict(conduct.refused),
            "slowed": conduct.slowed,
        }

    async def reload_links(self) -> None:
        """Take in links that were enrolled, suspended or removed meanwhile."""
        await self.links.take(await self.committer.call(self._store.links))

    @property
    def realm(self) -> Realm:
        """The realm file that this hub serves."""
        return self._realm

    async def serve_realm(self, later: Realm) -> None:
        """Serve a later epoch: durable first, then stated in prefaces and sent to who is connected.

        Raises ``Refused`` for a file that may not follow; nothing is changed then.
        """
        check_succession(self._realm, later)
        data = later.to_bytes()
        await self.committer.call(lambda: self._store.set_realm(later.epoch, data))
        self._realm, self._digest = later, later.digest()
        self._do(hub.RealmChanged(data))
