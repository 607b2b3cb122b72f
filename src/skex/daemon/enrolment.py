"""Enrolment over real homes: the stores, pads and realm files behind the ports of ``skex.enrol``.

Homes are opened here for one command, under their lock; a daemon that runs holds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skex.audit import events
from skex.audit.fields import Subject
from skex.audit.log import Audit
from skex.base import codes
from skex.base.errors import Refused, SkexError, StoreFault
from skex.base.ids import HubName, KmeName, LinkId
from skex.base.secret import Secret
from skex.daemon.auditing import audited
from skex.daemon.backup.contents import State
from skex.daemon.backup.making import state_of_hub, state_of_kme
from skex.daemon.config import HubConfig, KmeConfig
from skex.daemon.evidence import Evidence
from skex.daemon.master import NextKey, settled_master_key
from skex.daemon.starting import PADS_DIRECTORY, STORE_FILE, load_policy, locked
from skex.daemon.starting import closing as at_the_end
from skex.enrol import creating, links
from skex.enrol.chunks import Progress, Sink, Source
from skex.enrol.collecting import CollectedKits, Verdict, judge
from skex.enrol.creating import KitOrder, MadeKit
from skex.enrol.importing import ImportedKit, Importer, from_passphrase
from skex.enrol.kit import KitHeader
from skex.enrol.links import NewLink, Site
from skex.policy.rules import OperatorCommand
from skex.protocol.changes import RollbackSettled
from skex.protocol.realm import HeldRealm, check_succession
from skex.runtime import clock, entropy
from skex.runtime.files import DiskFileSystem
from skex.store.hub import HubStore
from skex.store.links import EnrolledLink, StoredLink
from skex.store.opened import OpenedStore
from skex.wire.realm import Realm

if TYPE_CHECKING:
    from skex.store.kme import KmeStore

_COLLECTED: Final = "collected"
"""The fact of a KME's store that holds the realm file of its kits until one is in force."""


class StoreRegistry:
    """The registry of links in a daemon's store."""

    def __init__(self, store: OpenedStore) -> None:
        self._store = store

    def is_known(self, link_id: LinkId) -> bool:
        """Whether the store has, or ever had, this link."""
        try:
            self._store.marks(link_id)
        except Refused:
            return False
        return True

    def enrolled_with(self, hub: HubName, kme: KmeName) -> LinkId | None:
        """The enrolled link between these two."""
        found = (one.link for one in self._store.links())
        return next((link.link_id for link in found if (link.hub, link.kme) == (hub, kme)), None)

    def link_ids(self) -> Collection[LinkId]:
        """Every enrolled link."""
        return {one.link.link_id for one in self._store.links()}

    def add_link(self, link: NewLink, *, replacing: LinkId | None) -> None:
        """Enrol the link in the store."""
        enrolled = EnrolledLink(
            link_id=link.link_id,
            realm=link.realm,
            hub=link.hub,
            kme=link.kme,
            kind=link.kind,
            key=link.key,
            capacity_to_hub=link.capacity_to_hub,
            capacity_to_kme=link.capacity_to_kme,
            enrolment=link.enrolment,
        )
        self._store.add_link(enrolled, clock.unix_seconds(), replacing=replacing)


class StoredRealms:
    """The realm files of a KME, as ``importing.Realms`` asks for them."""

    def __init__(self, store: KmeStore, floor: int, registry: StoreRegistry) -> None:
        self._store = store
        self._floor = floor
        self._registry = registry

    def held(self) -> HeldRealm | None:
        """What is in force."""
        return self._store.held_realm()

    def collected(self) -> CollectedKits | None:
        """What kits brought so far. Raises ``StoreFault`` (store-corrupt)."""
        text = self._store.meta(_COLLECTED)
        if not text:
            return None
        try:
            fact = json.loads(text)
            kits = {HubName(hub): LinkId(bytes.fromhex(link)) for hub, link in fact["kits"].items()}
            return CollectedKits(bytes.fromhex(fact["realm"]), kits)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreFault(codes.STORE_CORRUPT, "what kits brought so far") from error

    def judge(self, header: KitHeader) -> Verdict:
        """Whether the kit's realm file may be imported here."""
        return judge(
            header.hub,
            header.link_id,
            header.realm,
            floor=self._floor,
            held=self.held(),
            collected=self.collected(),
            enrolled=self._registry.link_ids(),
        )

    def collect(self, verdict: Verdict) -> None:
        """Keep what is collected; before the link, so that its kit counts as soon as the link does."""
        if verdict.collection is not None:
            self._keep(verdict.collection)

    def commit(self, verdict: Verdict) -> None:
        """Put the file in force, if it is time."""
        if verdict.changes:
            self._store.commit([verdict.changes])
        if verdict.collection is None and self._store.meta(_COLLECTED):
            self._store.set_meta(_COLLECTED, "")

    def _keep(self, collection: CollectedKits) -> None:
        kits = {hub: link_id.hex() for hub, link_id in collection.kits.items()}
        self._store.set_meta(_COLLECTED, json.dumps({"realm": collection.realm.hex(), "kits": kits}))


class _Home:
    """One home's links and pads, opened for one command."""

    def __init__(self, home: Path, store: OpenedStore, audit: Audit, policy: Path) -> None:
        self.audit = audit
        self._policy = policy
        self._evidence = Evidence(audit.emit)
        directory = home / PADS_DIRECTORY
        self._directory = directory
        self._store = store
        self.registry = StoreRegistry(store)
        self.site = Site(self.registry, DiskFileSystem(directory), store.sealer)

    def links(self) -> tuple[StoredLink, ...]:
        """Every enrolled link."""
        return self._store.links()

    def alone(self, command: OperatorCommand, reason: str | None) -> None:
        """Go on if one person suffices for ``command``, or one says why they do what needs two.

        Raises ``Refused``: dual-control-offline, policy-*; ``StoreFault`` (file-io).
        """
        try:
            bound = load_policy(self._policy).operator.dual(command)
            rule = None if bound is None else bound.rule
        except SkexError:
            if reason is None:
                raise
            rule = ""  # nobody knows what it says, so it may say this
        if rule is None:
            return
        if reason is None:
            self._evidence.nobody_second(command, rule)
            raise Refused(codes.DUAL_CONTROL_OFFLINE, f"{command.value}: {rule}")
        self._evidence.glass_broken(command, rule, reason)

    def record_backup(self, backup_id: bytes) -> None:
        """Leave in the audit log that a backup is made; to be called before it is written."""
        self._evidence.backed_up(backup_id)

    def rekey(self, following: NextKey) -> None:
        """Seal this home under another master key; nothing more can be done with it here afterwards.

        Raises ``Refused`` (file-exists), ``StoreFault``: file-io, home-io, store-*, audit-io. Whatever
        happens, one of the two keys opens the store.
        """
        following.prepare()
        self._evidence.master_key_changed()
        self._store.rekey(following.master, entropy.random_bytes)
        self._store.scrub()
        following.settle()

    def sweep(self) -> list[str]:
        """Erase pads without a link: left by a crash, or of links that were replaced or removed."""
        names = [path.name for path in self._directory.iterdir()]
        return links.sweep(self.site.files, names, self.registry.link_ids())


class HubHome(_Home):
    """A hub's home, opened: it makes kits for ``realm``."""

    def __init__(self, config: HubConfig, store: HubStore, audit: Audit) -> None:
        super().__init__(config.home, store, audit, config.policy)
        self.name = config.name
        self._hub_store = store
        data = store.realm()
        self.realm = Realm.from_bytes(_read_file(config.realm) if data is None else data)

    def state(self) -> State:
        """The state of enrolment, for a backup."""
        return state_of_hub(self._hub_store)

    def update_realm(self, later: Realm) -> None:
        """Serve a later epoch. Raises ``Refused`` for a file that may not follow."""
        with self._evidence.of_refusals(events.REALM_CHANGED, Subject.realm(self.realm.name)):
            check_succession(self.realm, later)
            self._hub_store.set_realm(later.epoch, later.to_bytes())
        before, self.realm = self.realm, later
        self._evidence.realm_changed(before, later)

    def create_kit(
        self, order: KitOrder, sink: Sink, durable: Callable[[], None], *, replace: bool, progress: Progress
    ) -> MadeKit:
        """``creating.create_kit`` in this home, which is swept before and after."""
        self.sweep()
        with self._evidence.of_refusals(events.ENROLMENT_GENERATED, Subject.kme(order.kme)):
            made = creating.create_kit(
                order,
                sink,
                self.site,
                entropy.random_bytes,
                durable=durable,
                replace=replace,
                progress=progress,
            )
        self._evidence.generated(made.header, made.fingerprint)
        self.sweep()
        return made


class KmeHome(_Home):
    """A KME's home, opened: it imports kits."""

    def __init__(self, config: KmeConfig, store: KmeStore, audit: Audit) -> None:
        super().__init__(config.home, store, audit, config.policy)
        self.name = config.name
        self._kme_store = store
        self.realms = StoredRealms(store, config.threshold_floor, self.registry)

    def state(self) -> State:
        """The state of enrolment, for a backup."""
        return state_of_kme(self._kme_store)

    def import_kit(
        self, source: Source, passphrase: Callable[[], Secret], *, replace: bool, progress: Progress
    ) -> ImportedKit:
        """``importing.Importer`` in this home, which is swept before and after."""
        self.sweep()
        importer = Importer(
            self.name, clock.unix_seconds(), self.site, self.realms, from_passphrase(passphrase)
        )
        with self._evidence.of_refusals(events.ENROLMENT_IMPORTED):
            imported = importer.run(source, replace=replace, progress=progress)
        self._evidence.imported(imported.header, imported.fingerprint)
        if imported.verdict.changes:
            self._evidence.activated(imported.header.parsed_realm.name)
        self.sweep()
        return imported

    def settle(self) -> None:
        """Let this KME deliver again after a rollback; hubs that still know better say so at its start.

        Raises ``Refused``: rollback-none, rollback-unsettled.
        """
        if self._kme_store.load(clock.now()).rollback_found is None:
            raise Refused(codes.ROLLBACK_NONE)
        frozen = [one.link.hub for one in self.links() if codes.ROLLBACK_FOUND.name in one.frozen]
        if frozen:
            raise Refused(codes.ROLLBACK_UNSETTLED, ", ".join(sorted(frozen)))
        self._evidence.settled()
        self._kme_store.commit([[RollbackSettled()]])


@contextmanager
def open_hub(config: HubConfig) -> Iterator[HubHome]:
    """Open a hub's home for one command; nobody else may use it meanwhile.

    Raises ``StoreFault``: home-in-use, home-missing, master-key-invalid, store-*, audit-*; ``Refused``:
    realm-*.
    """
    with locked(config.home), _master(config.home) as master:
        store = HubStore.open(str(config.home / STORE_FILE), master, entropy.random_bytes)
        with closing(store), scrubbed(store), audited(config, store) as audit:
            yield HubHome(config, store, audit)


@contextmanager
def open_kme(config: KmeConfig) -> Iterator[KmeHome]:
    """Open a KME's home for one command; see ``open_hub``."""
    # The store of a KME imports all its machines; a hub's commands do without them.
    from skex.store.kme import KmeStore  # noqa: PLC0415  # start-up is most of a command's time

    with locked(config.home), _master(config.home) as master:
        path = str(config.home / STORE_FILE)
        store = KmeStore.open(path, master, entropy.random_bytes, clock.unix_seconds)
        with closing(store), scrubbed(store), audited(config, store) as audit:
            yield KmeHome(config, store, audit)


@contextmanager
def open_log(config: HubConfig | KmeConfig) -> Iterator[Audit]:
    """Open the audit log of a home, and its store beside it, for one command; see ``open_hub``."""
    opening = open_hub(config) if isinstance(config, HubConfig) else open_kme(config)
    with opening as home:
        yield home.audit


def scrubbed(store: OpenedStore) -> AbstractContextManager[None]:
    """Leave nothing erased in the store's log at the end; a fault of it never hides an earlier one."""
    return at_the_end(store.scrub)


@contextmanager
def _master(home: Path) -> Iterator[Secret]:
    master = settled_master_key(home)
    try:
        yield master
    finally:
        master.wipe()


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"{path}: {error.strerror}") from error
