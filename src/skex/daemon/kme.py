"""The KME daemon: dials its hubs, drives its machines, serves keys, answers its operator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from skex.base import codes, limits
from skex.base.errors import ErrorCode, Refused, SkexError
from skex.base.ids import Direction, HubName, KmeName, LinkId
from skex.base.secret import Secret
from skex.daemon import record
from skex.daemon.dialer import Dialled, keep_connected
from skex.daemon.links import Links, profile_of
from skex.daemon.options import Endpoint
from skex.daemon.padwatch import KME_SIDE, PadWatch
from skex.enrol.links import PadSealing
from skex.keys.engine import Cancellable, Engine
from skex.pad.files import FileSystem
from skex.pad.forecast import Thresholds
from skex.pad.kinds import PadKind
from skex.protocol import kme, rollback, traffic
from skex.protocol.changes import BatchDropped, Change, Role
from skex.protocol.connection import Connection
from skex.protocol.link import PadRefused
from skex.protocol.preface_kme import KmePreface
from skex.protocol.reconstruct import Outcome, Search, reconstruct
from skex.protocol.session import LinkProfile, Owned, RolledBack, Session
from skex.runtime import clock, entropy
from skex.runtime.commit import Committer, Store
from skex.runtime.connections import LinkShell
from skex.runtime.tasks import Tasks
from skex.runtime.timers import Alarm
from skex.store.links import StoredLink
from skex.wire.independence import Floor
from skex.wire.messages import Message
from skex.wire.peer import KeyRange
from skex.wire.preface import NONCE_BYTES, Marks

PAD_THREADS: Final = 4
_log = logging.getLogger("skex.kme")


class KmeStore(Store[Change], Protocol):
    """What the daemon needs of its store; called on the store's thread."""

    def links(self) -> tuple[StoredLink, ...]:
        """Every enrolled link."""

    def marks(self, link_id: LinkId) -> Marks:
        """A link's durable marks."""

    def read_keys(self, role: Role, peer: KmeName, keys: Sequence[KeyRange]) -> tuple[Secret, ...]:
        """The bytes of keys, one secret each. Raises ``Refused`` (key-not-held)."""

    def emptied(self) -> Sequence[BatchDropped]:
        """Rows that hold no key and whose lifetime is over."""

    def scrub(self) -> None:
        """Leave nothing erased in the store's log."""


class KmeParts(Protocol):
    """What the daemon asks of what it was composed with."""

    def threshold_floor(self, peer: KmeName) -> int:
        """The least threshold that policy accepts with a peer."""

    def may_establish(self, peer: KmeName) -> bool:
        """Whether policy lets keys be made for a peer."""

    def independence_floor(self, peer: KmeName) -> Floor:
        """How many independent parties policy demands behind hubs."""


class KmeMetrics:
    """What monitoring sees of a KME."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.hub_up = Gauge("skex_kme_hub_up", "Whether the link to a hub is up", ["hub"], registry=registry)
        self.pad_left = Gauge(
            "skex_kme_pad_bytes_left", "Pad left, by direction", ["hub", "direction"], registry=registry
        )
        self.notices = Counter(
            "skex_kme_events", "What the machines told, by kind", ["kind"], registry=registry
        )
        self.link_failures = Counter(
            "skex_kme_link_failures", "Connections that ended", ["hub", "code"], registry=registry
        )
        self.ready = Gauge("skex_kme_ready", "Whether keys may be delivered", registry=registry)


class KmeDaemon:
    """One KME, from its start to its stop. Construct on the event loop, set ``engine``, ``start``."""

    def __init__(
        self,
        *,
        store: KmeStore,
        stored: tuple[StoredLink, ...],
        pads: FileSystem,
        sealing: PadSealing,
        parts: KmeParts,
        emit: record.Emit,
        low_pads: Thresholds,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.metrics = KmeMetrics()
        self._store = store
        self._parts = parts
        self._emit = emit
        self._threads = ThreadPoolExecutor(PAD_THREADS, thread_name_prefix="pads")
        self._searches = ThreadPoolExecutor(1, thread_name_prefix="search")
        self.committer: Committer[Change] = Committer(store)
        self.tasks = Tasks(failed)
        self._committing = Tasks(failed)
        self.links = Links(
            stored=stored,
            pads=pads,
            sealing=sealing,
            threads=self._threads,
            read_marks=lambda link_id: self.committer.call(lambda: store.marks(link_id)),
            contradiction=self._contradiction,
        )
        self.pad_watch = PadWatch(
            KME_SIDE, self.links, thresholds=low_pads, emit=emit, registry=self.metrics.registry
        )
        self._by_hub: dict[HubName, LinkShell] = {}
        self._last_errors: dict[HubName, str] = {}
        self._sessions: dict[LinkShell, Session] = {}
        self._lines: dict[LinkShell, Dialled] = {}
        self._dialled: dict[LinkShell, HubName] = {}
        self._addresses: dict[HubName, Endpoint] = {}
        self._dialling: set[LinkId] = set()
        self._stopping = False
        self.engine: Engine
        self._listeners: list[Callable[[kme.KmeNotice], None]] = []

    # ── lifecycle ───────────────────────────────────────────────────────────────────────────────
    def start(self, addresses: Mapping[HubName, Endpoint]) -> None:
        """Run the machines and dial every hub."""
        self.find(addresses)
        self._committing.start(self.committer.run(), "group commit")
        self.tasks.start(self.committer.tend(self._store.scrub, limits.STORE_SCRUB_SECONDS), "scrub")
        self.tasks.start(self.pad_watch.run(), "pad watch")
        self.engine.start()
        self._dial_all()

    def find(self, addresses: Mapping[HubName, Endpoint]) -> None:
        """Where hubs are from now on; a connection that stands is left alone."""
        self._addresses = dict(addresses)

    async def stop(self) -> None:
        """End every link, then everything that is left; what was submitted still becomes durable."""
        self._stopping = True
        await self.links.close()
        await self.tasks.stop()
        self.engine.stop()
        await self.committer.drain()
        await self._committing.stop()
        self.committer.close()
        self._threads.shutdown(wait=True)
        self._searches.shutdown(wait=True, cancel_futures=True)

    def listen(self, listener: Callable[[kme.KmeNotice], None]) -> None:
        """Let ``listener`` hear every notice of the machines."""
        self._listeners.append(listener)

    # ── dialling ────────────────────────────────────────────────────────────────────────────────
    async def reload_links(self) -> None:
        """Take in links that were enrolled, suspended or removed meanwhile, and dial what is new."""
        new = await self.links.take(await self.committer.call(self._store.links))
        for stored in self.links:
            if stored.link.link_id in new:
                self.engine.handle(rollback.LinkRenewed(stored.link.hub, stored.link.link_id))
        self._dial_all()

    def _dial_all(self) -> None:
        for stored in self.links:
            link_id = stored.link.link_id
            if link_id not in self._dialling:
                self._dialling.add(link_id)
                self.tasks.start(self._keep_connected(link_id), f"link {link_id.hex()}")

    async def _keep_connected(self, link_id: LinkId) -> None:
        try:
            await keep_connected(lambda: self._dial(link_id), lambda: self._wanted(link_id), clock.now)
        finally:
            self._dialling.discard(link_id)

    def _wanted(self, link_id: LinkId) -> bool:
        return not self._stopping and self.links.usable(link_id) is not None

    async def _dial(self, link_id: LinkId) -> Dialled:
        stored = self.links.usable(link_id)
        if stored is None or stored.link.hub not in self._addresses:
            raise ConnectionError("no address of this hub is known")
        endpoint = self._addresses[stored.link.hub]
        dialled = Dialled()
        preface = KmePreface(
            profile_of(stored.link),
            entropy.random_bytes(NONCE_BYTES),
            self.engine.core.incarnation,
            clock.now(),
        )
        shell = LinkShell(Connection(preface), self, self.committer, self._threads)
        self._lines[shell] = dialled
        self._dialled[shell] = stored.link.hub
        self.links.opened(shell)
        try:
            await asyncio.get_running_loop().create_connection(lambda: shell, endpoint.host, endpoint.port)
        except BaseException:
            shell.close(Refused(codes.LINK_DOWN, "it could not be dialled"))
            raise
        return dialled

    # ── LinkHost ────────────────────────────────────────────────────────────────────────────────
    def connected(self, shell: LinkShell) -> None:
        """This end dialled it, so it is wanted."""

    def look_up(self, link_id: LinkId) -> LinkProfile:
        """Never asked: this end dials."""
        return self.links.profile(link_id)

    async def claim(self, shell: LinkShell, link_id: LinkId) -> Owned:
        """End an older connection, open the pads, state the marks."""
        return await self.links.claim(shell, link_id, 0, b"")

    def established(self, shell: LinkShell, session: Session) -> None:
        """A hub is connected."""
        hub = session.profile.parties.hub
        self._sessions[shell] = session
        self._by_hub[hub] = shell
        self._lines[shell].is_cheap = session.profile.kind is PadKind.DERIVED
        self._last_errors.pop(hub, None)
        self.pad_watch.look()
        self.metrics.hub_up.labels(hub).set(1)
        for direction in Direction:
            gauge = self.metrics.pad_left.labels(hub, direction.name.lower())
            gauge.set_function(partial(self.pad_left, hub, direction))
        _log.info("link up", extra={"hub": hub, "peer": shell.peer_address})
        self.engine.handle(
            kme.LinkProved(hub, False, session.hub_epoch, session.hub_realm_digest)  # noqa: FBT003  # told before, if so
        )

    def arrived(self, shell: LinkShell, ordinal: int, message: Message) -> None:
        """A hub brought something."""
        self.engine.handle(traffic.FromHub(self._hub_of(shell), ordinal, message))

    def answered(self, shell: LinkShell, token: Hashable, refusal: int | None) -> None:
        """A hub answered a request."""
        self.engine.handle(traffic.AnsweredByHub(self._hub_of(shell), token, refusal))

    async def rolled_back(self, shell: LinkShell, notice: RolledBack) -> None:
        """A hub saw this KME further than it is; the evidence is durable before the preface goes on."""
        hub = self._dialled[shell]
        _log.error("a hub says that this KME was rolled back", extra={"hub": hub})
        del notice
        self.engine.handle(rollback.LinkProved(hub, rolled_back=True))
        await self.committer.durable(())

    def pad_refused(self, shell: LinkShell, notice: PadRefused) -> None:
        """No pad is left towards a hub."""
        hub = self._hub_of(shell)
        _log.error("pad exhausted", extra={"hub": hub, "code": notice.code.name})
        self._emit(record.pad_exhausted(hub))

    def ended(self, shell: LinkShell, error: SkexError) -> None:
        """A connection is over."""
        hub = self._dialled.pop(shell)
        self._sessions.pop(shell, None)
        frozen = self.links.released(shell, error)
        if frozen is not None:
            _log.error("a link was frozen", extra={"link": frozen.hex(), "code": error.code.name})
            self._emit(record.link_frozen(frozen, error.code))
        self._lines.pop(shell).ended.set()
        self.metrics.link_failures.labels(hub, error.code.name).inc()
        _log.info("link down", extra={"hub": hub, "code": error.code.name})
        self._last_errors[hub] = error.code.name
        if error.code is codes.VERSION_UNSUPPORTED:
            extra = {"hub": hub, "detail": error.detail, "hint": error.code.hint}
            _log.warning("no protocol version in common", extra=extra)
        event = record.of_hub_connection(hub, error)
        if event is not None and not self._stopping:
            self._emit(event)
        if self._by_hub.get(hub) is shell:
            del self._by_hub[hub]
            self.metrics.hub_up.labels(hub).set(0)
            self.engine.handle(traffic.HubDown(hub))

    def _contradiction(self, link_id: LinkId, code: ErrorCode) -> None:
        """This KME's own evidence of a rollback."""
        _log.error("a pad file is ahead of the store", extra={"link": link_id.hex(), "code": code.name})
        self.engine.handle(rollback.OwnContradiction(code))

    def _hub_of(self, shell: LinkShell) -> HubName:
        return self._dialled[shell]

    def pad_left(self, hub: HubName, direction: Direction) -> int:
        """Pad bytes of a live link that are neither granted nor used."""
        shell = self._by_hub.get(hub)
        pad = None if shell is None else shell.pads.get(direction)
        return 0 if pad is None else pad.remaining_bytes

    def link_status(
        self, stored: StoredLink, conduct: Mapping[str, Any], pads: Mapping[LinkId, Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """One hub in ``skex kme status``; ``pads`` is what the pad watch reports."""
        hub = stored.link.hub
        shell = self._by_hub.get(hub)
        up = shell is not None
        return {
            "hub": hub,
            "pad": stored.link.kind.name.lower(),
            "connected": up,
            "last_error": self._last_errors.get(hub),
            "suspended": stored.suspended,
            "frozen": list(stored.frozen),
            **conduct,
            "pad_bytes_left": {
                direction.name.lower(): self.pad_left(hub, direction) if up else None
                for direction in Direction
            },
            "pads": pads.get(stored.link.link_id),
            "pad_bytes_used": {
                direction.name.lower(): None if shell is None else shell.pad_used(direction)
                for direction in Direction
            },
        }

    @property
    def hubs_up(self) -> frozenset[HubName]:
        """The hubs that are connected."""
        return frozenset(self._by_hub)

    # ── EnginePorts ─────────────────────────────────────────────────────────────────────────────
    def now(self) -> float:
        """The boot-time clock."""
        return clock.now()

    def random(self, count: int) -> bytes:
        """The operating system's generator."""
        return entropy.random_bytes(count)

    def secret(self, count: int) -> Secret:
        """The operating system's generator."""
        return entropy.random_secret(count)

    def submit(self, changes: Sequence[Change], then: Callable[[], None]) -> None:
        """Durable, then told, in order; that keys which this KME made are erased, to the audit log too."""

        def told() -> None:
            for change in changes:
                if isinstance(change, BatchDropped) and change.role is Role.SENDER:
                    self._emit(record.batch_expired(change.peer, change.batch))
            then()

        self.committer.submit(changes, told)

    async def durable(self, changes: Sequence[Change]) -> None:
        """Return once durable."""
        await self.committer.durable(changes)

    async def read_keys(self, role: Role, peer: KmeName, keys: Sequence[KeyRange]) -> tuple[Secret, ...]:
        """Out of the store."""
        return await self.committer.call(lambda: self._store.read_keys(role, peer, keys))

    async def emptied(self) -> Sequence[BatchDropped]:
        """Rows that hold no key and whose lifetime is over."""
        return await self.committer.call(self._store.emptied)

    def send(self, send: traffic.SendToHub) -> None:
        """What a link does not take is lost; whoever waits repeats it."""
        shell = self._by_hub.get(send.hub)
        if shell is None:
            return
        try:
            shell.send(send.message, send.token)
        except Refused as refused:
            _log.warning("not sent", extra={"hub": send.hub, "code": refused.code.name})

    def search(self, search: Search, done: Callable[[Outcome], None]) -> None:
        """Off the event loop."""
        self.tasks.start(self._search(search, done), "search")

    async def _search(self, search: Search, done: Callable[[Outcome], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            outcome = await loop.run_in_executor(self._searches, reconstruct, search)
        finally:
            search.wipe()
        done(outcome)

    def call_at(self, when: float, callback: Callable[[], None]) -> Cancellable:
        """On the event loop, by the boot-time clock."""
        return Alarm(when, callback)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """In the background."""
        self.tasks.start(work, name)

    def threshold_floor(self, peer: KmeName) -> int:
        """As policy says."""
        return self._parts.threshold_floor(peer)

    def may_establish(self, peer: KmeName) -> bool:
        """As policy says."""
        return self._parts.may_establish(peer)

    def independence_floor(self, peer: KmeName) -> Floor:
        """As policy says."""
        return self._parts.independence_floor(peer)

    def heard(self, notice: kme.KmeNotice) -> None:
        """Count it, act upon it, and let the listeners hear it."""
        if isinstance(notice, rollback.FreezeLink):
            self.links.freeze(notice.hub, codes.ROLLBACK_FOUND)
        self.metrics.notices.labels(type(notice).__name__).inc()
        for listener in self._listeners:
            listener(notice)
