"""Enrolment beside a daemon that runs: kits are taken in one at a time, and their links are used at once.

The kit comes piece by piece from whoever sends it. Pads are written on a thread of their own, the store
is asked on the thread that is its own, and the daemon hears of the link last. It must not know sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from skex.audit import events
from skex.audit.events import Kind
from skex.audit.fields import Subject
from skex.base import codes
from skex.base.errors import Refused
from skex.base.ids import HubName, KmeName, LinkId
from skex.base.secret import Secret
from skex.daemon.enrolment import StoreRegistry
from skex.daemon.evidence import Evidence
from skex.enrol import links
from skex.enrol.chunks import Source
from skex.enrol.collecting import Verdict
from skex.enrol.importing import ImportedKit, Importer, Realms, Stretched
from skex.enrol.kit import KitHeader, UnderPassphrase
from skex.enrol.links import NewLink, Registry, Site
from skex.enrol.passphrase import STRETCHED_BYTES
from skex.protocol.changes import Change
from skex.runtime import clock
from skex.runtime.commit import Committer
from skex.runtime.files import DiskFileSystem
from skex.store.opened import OpenedStore
from skex.wire.realm import Realm

ResultT = TypeVar("ResultT")
Call: TypeAlias = Callable[[Callable[[], Any]], Any]
"""Runs something on the store's thread and returns what it returns; called from another thread."""


class Incoming(Source, Protocol):
    """A kit on its way in."""

    def abort(self) -> None:
        """Let whoever reads it find that it ended."""


class PassphraseWanted(Exception):  # an answer, not an error: the sender tries again with it
    """The kit passed every check that needs no passphrase, and has one."""


class _Registry:
    """A ``Registry`` for a thread that is not the store's."""

    def __init__(self, registry: Registry, call: Call) -> None:
        self._registry = registry
        self._call = call

    def is_known(self, link_id: LinkId) -> bool:
        """See ``Registry``."""
        return bool(self._call(lambda: self._registry.is_known(link_id)))

    def enrolled_with(self, hub: HubName, kme: KmeName) -> LinkId | None:
        """See ``Registry``."""
        found: LinkId | None = self._call(lambda: self._registry.enrolled_with(hub, kme))
        return found

    def link_ids(self) -> Collection[LinkId]:
        """See ``Registry``."""
        found: Collection[LinkId] = self._call(self._registry.link_ids)
        return found

    def add_link(self, link: NewLink, *, replacing: LinkId | None) -> None:
        """See ``Registry``."""
        self._call(lambda: self._registry.add_link(link, replacing=replacing))


class CalledRealms:
    """``Realms`` for a thread that is not the store's."""

    def __init__(self, realms: Realms, call: Call) -> None:
        self._realms = realms
        self._call = call

    def judge(self, header: KitHeader) -> Verdict:
        """See ``Realms``."""
        verdict: Verdict = self._call(lambda: self._realms.judge(header))
        return verdict

    def collect(self, verdict: Verdict) -> None:
        """See ``Realms``."""
        self._call(lambda: self._realms.collect(verdict))

    def commit(self, verdict: Verdict) -> None:
        """See ``Realms``."""
        self._call(lambda: self._realms.commit(verdict))


class HubRealms:
    """``Realms`` of a hub that takes in the kit of its own link: the realm file it serves, and no other."""

    def __init__(self, hub: HubName, realm: Realm) -> None:
        self._hub = hub
        self._realm = realm

    def judge(self, header: KitHeader) -> Verdict:
        """Refuses (realm-mismatch) a kit of another hub, or of a realm file that is not served now."""
        if header.hub != self._hub or header.realm != self._realm.to_bytes():
            raise Refused(codes.REALM_MISMATCH, f"not a kit of {self._hub}, epoch {self._realm.epoch}")
        return Verdict(0, 0, (), None)

    def collect(self, verdict: Verdict) -> None:
        """Nothing: a hub is told its realm."""

    def commit(self, verdict: Verdict) -> None:
        """Nothing: a hub is told its realm."""


class Enrolling:
    """Takes in kits at a running daemon. Construct on the event loop.

    ``refresh`` lets the daemon know what the store says about its links, and returns once links that
    ended are out of use.
    """

    def __init__(
        self,
        store: OpenedStore,
        committer: Committer[Change],
        pads: Path,
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        self._pads = pads
        self._refresh = refresh
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="enrolment")
        self._lock = asyncio.Lock()
        self._source: Incoming | None = None
        self._is_stopping = False
        self.call: Final[Call] = committer.call_from_thread
        self._site = Site(_Registry(StoreRegistry(store), self.call), DiskFileSystem(pads), store.sealer)

    async def take(
        self,
        source: Incoming,
        kme: KmeName,
        realms: Realms,
        stretched: Stretched,
        *,
        replace: bool,
        kind: Kind,
        evidence: Evidence,
    ) -> ImportedKit:
        """Import a kit of ``kme`` whole, or leave nothing of it; ``kind`` is what a refusal is recorded as.

        Raises as ``Importer`` does, and ``PassphraseWanted`` if ``stretched`` does.
        """
        importer = Importer(kme, clock.unix_seconds(), self._site, realms, stretched)
        async with self._lock:
            if self._is_stopping:
                raise Refused(codes.DAEMON_REFUSED, "it stops")
            self._source = source
            try:
                with evidence.of_refusals(kind, Subject.kme(kme)):
                    await self._in_thread(self._sweep)
                    imported = await self._in_thread(lambda: importer.run(source, replace=replace))
            finally:
                self._source = None
                # Also after a fault: it may have come when the link was there already.
                await self._refresh()
            await self._in_thread(self._sweep)
        return imported

    async def _in_thread(self, work: Callable[[], ResultT]) -> ResultT:
        """Run ``work`` to its end, whoever stops waiting for it."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if self._source is not None:
                self._source.abort()
            await asyncio.wait({future})
            future.exception()  # heard: whoever asked is gone
            raise

    def _sweep(self) -> None:
        names = [path.name for path in self._pads.iterdir()]
        links.sweep(self._site.files, names, self._site.registry.link_ids())

    async def may_order(self, hub: HubName, kme: KmeName, *, replace: bool, evidence: Evidence) -> None:
        """Whether a kit for ``kme`` may be made now. Raises ``Refused`` (link-exists)."""
        loop = asyncio.get_running_loop()
        old = await loop.run_in_executor(self._thread, self._site.registry.enrolled_with, hub, kme)
        if old is not None and not replace:
            with evidence.of_refusals(events.ENROLMENT_GENERATED, Subject.kme(kme)):
                raise Refused(codes.LINK_EXISTS, f"{kme} with {hub}")

    async def stop(self) -> None:
        """Let what is on its way in end, and take in nothing more. Idempotent."""
        self._is_stopping = True
        if self._source is not None:
            self._source.abort()
        async with self._lock:
            self._thread.shutdown(wait=True)


# ── what senders state ──────────────────────────────────────────────────────────────────────────
def flag(arguments: Mapping[str, Any], name: str) -> bool:
    """A switch; off where it is not stated. Raises ``Refused`` (daemon-refused)."""
    stated = arguments.get(name, False)
    if not isinstance(stated, bool):
        raise Refused(codes.DAEMON_REFUSED, f"{name}: true or false is expected")
    return stated


def text(arguments: Mapping[str, Any], name: str) -> str:
    """A text. Raises ``Refused`` (daemon-refused)."""
    stated = arguments.get(name)
    if not isinstance(stated, str):
        raise Refused(codes.DAEMON_REFUSED, f"{name}: a text is expected")
    return stated


def blob(arguments: Mapping[str, Any], name: str) -> bytes:
    """Bytes in hexadecimal. Raises ``Refused`` (daemon-refused)."""
    with suppress(ValueError):
        return bytes.fromhex(text(arguments, name))
    raise Refused(codes.DAEMON_REFUSED, f"{name}: hexadecimal is expected")


def stated_key(arguments: Mapping[str, Any]) -> Stretched:
    """The stretched passphrase in ``arguments``; the passphrase itself stays with whoever typed it.

    Raises ``Refused`` (daemon-refused); what it returns raises ``PassphraseWanted`` if none is stated.
    """
    if arguments.get("stretched") is None:
        return _wanted
    key = blob(arguments, "stretched")
    if len(key) != STRETCHED_BYTES:
        raise Refused(codes.DAEMON_REFUSED, f"stretched: {STRETCHED_BYTES} bytes are expected")
    return lambda _: Secret(key)


def _wanted(_: UnderPassphrase) -> Secret:
    raise PassphraseWanted
