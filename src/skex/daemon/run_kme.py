"""Composes and runs a KME from its configuration."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import Enum
from typing import Any

from skex.audit import events
from skex.audit.events import Event
from skex.audit.fields import NETWORK
from skex.audit.log import Audit
from skex.base import codes, ids
from skex.base.errors import Refused
from skex.base.ids import HubName, Incarnation, KmeName, RealmName
from skex.daemon import record
from skex.daemon.admin import AdminSocket, Incoming, caller
from skex.daemon.auditing import audit_commands, audited_run, owner_word, started
from skex.daemon.backup.handing import asked_backup, handed_out
from skex.daemon.backup.making import state_of_kme
from skex.daemon.benching import BenchCommands, HubConduct
from skex.daemon.claims import LinkClaims
from skex.daemon.conduct import Seldom
from skex.daemon.config import KmeConfig
from skex.daemon.enrolling import CalledRealms, Enrolling, PassphraseWanted, flag, stated_key
from skex.daemon.enrolment import StoredRealms, StoreRegistry
from skex.daemon.evidence import Evidence, operator, realm_differences
from skex.daemon.keycommands import KeyCommands
from skex.daemon.keyfinding import KeyFinder
from skex.daemon.kme import KmeDaemon
from skex.daemon.master import settled_master_key
from skex.daemon.operators import Operators, Says, approver, shared_socket, with_approver
from skex.daemon.options import Endpoint
from skex.daemon.permissions import Holdings, KeyPermissions
from skex.daemon.policies import effective_threshold_of, in_force
from skex.daemon.recording import RecordedKeys, Recording
from skex.daemon.reserves import Reserves
from skex.daemon.saying import of_kit, of_reload
from skex.daemon.starting import (
    ADMIN_SOCKET,
    PADS_DIRECTORY,
    STORE_FILE,
    Ending,
    closing,
    forget_ports,
    load_policy,
    locked,
    refuse_root,
    write_ports,
)
from skex.delivery.etsi014.context import server_context
from skex.delivery.etsi014.identity import IdentityField
from skex.delivery.etsi014.revocations import check_revocations
from skex.delivery.etsi014.server import Access, Door, DoorSettings
from skex.enrol.collecting import Verdict
from skex.enrol.importing import Stretched
from skex.keys.claims import Claims
from skex.keys.control import Control
from skex.keys.engine import Engine
from skex.keys.filling import ReserveMarks
from skex.keys.held import HeldKeys
from skex.keys.reserve import Reserve
from skex.keys.service import Keys
from skex.keys.suspended import Suspensions
from skex.policy.ports import ActivePolicy, KmeAdmission, KmeAssignPolicy, KmeBenchRules, Told
from skex.protocol import bench, kme, receiver
from skex.protocol.kme import KmeCore, KmeState, Ports
from skex.protocol.peer import Identity
from skex.protocol.realm import KitCollected, RealmInForce
from skex.runtime import clock, entropy
from skex.runtime.files import DiskFileSystem
from skex.runtime.tasks import Tasks
from skex.store.kme import KmeStore
from skex.wire.realm import Realm

_INCARNATION_BYTES = 16
HANDSHAKES_A_MINUTE = 10
"""Failed handshakes that are logged one by one; the next line says how many were left out."""
_log = logging.getLogger("skex.kme")


async def run_kme(
    config: KmeConfig, observe: Callable[[KmeDaemon, Engine], None] = lambda _daemon, _engine: None
) -> None:
    """Run until told to stop. Raises what a start refuses, before anything is opened to the network.

    ``observe`` is told what was composed, before it runs: measurements look on from there.
    """
    refuse_root(allowed=config.allow_root)
    with Ending() as ending, locked(config.home):
        master = settled_master_key(config.home)
        path = str(config.home / STORE_FILE)
        store = KmeStore.open(path, master, entropy.random_bytes, clock.unix_seconds, boot=clock.now)
        master.wipe()
        with closing(store.close), closing(store.scrub), audited_run(config, store) as audit:
            composition = _Composition(config, store, audit, ending)
            observe(composition.daemon, composition.engine)
            await composition.run()


class _Composition:
    """Everything that one run is made of, bottom up."""

    def __init__(self, config: KmeConfig, store: KmeStore, audit: Audit, ending: Ending) -> None:
        self._config = config
        self._store = store
        self._ending = ending
        self._recording = Recording(audit, ending.failed)
        self._emit = self._recording.emit
        self._policy = ActivePolicy(load_policy(config.policy))
        self._recording.set_policy(self._policy.current.digest)
        self._gate = Operators("kme", self._policy, self._recording, config.home)
        permissions = self._permissions = KeyPermissions(self._policy)
        now = clock.now()
        state, kept = store.load(now), store.kept(now)
        self._realm_name = _realm_name(state)
        self.daemon = KmeDaemon(
            store=store,
            stored=store.links(),
            pads=DiskFileSystem(config.home / PADS_DIRECTORY),
            sealing=store.sealer,
            parts=permissions,
            emit=self._emit,
            low_pads=config.low_pads,
            failed=ending.failed,
        )
        holdings = Holdings(kept)
        self._bench = bench.Bench(KmeBenchRules(self._policy), state.benched, now)
        self.core = self._core(state, store, holdings, now)
        self._conduct = HubConduct(
            self._bench,
            lambda: [one.link.hub for one in self.daemon.links],
            self._current_realm,
            self.daemon.now,
        )
        self.daemon.metrics.registry.register(self._conduct)
        claims = Claims(self._realms, permissions.counted)
        suspensions = Suspensions(store.suspensions())
        held = HeldKeys(self._realm_name, config.name, config.keys.held_max, claims, suspensions)
        held.load(kept, state.peer_messages.assigned, now)
        reserve = Reserve(claims, suspensions, permissions.reserve_age)
        reserve.load(kept)
        self.engine = self.daemon.engine = Engine(self.core, reserve, held, self.daemon)
        self.keys = Keys(
            realm=self._realm_name,
            name=config.name,
            engine=self.engine,
            settings=config.keys,
            reserves=[ReserveMarks(one.peer, one.key_bytes, one.low, one.high) for one in config.reserves],
            policy=permissions,
            events=record.KeyRecord(self._emit),
        )
        self._reserves = Reserves(reserve, self.keys.filling)
        self.daemon.metrics.registry.register(self._reserves)
        self._key_commands = self._key_control(store, held, claims)
        self._enrolling = Enrolling(
            store,
            self.daemon.committer,
            config.home / PADS_DIRECTORY,
            self.daemon.reload_links,
        )
        self._bench_commands = BenchCommands(
            self._conduct, self.engine, store, self.daemon.committer, self._recording
        )
        self._doors = Tasks(ending.failed)
        self._door: Door | None = None
        for listener in (holdings.hear, self._hear):
            self.daemon.listen(listener)

    def _key_control(self, store: KmeStore, held: HeldKeys, claims: Claims) -> KeyCommands:
        """What an operator does with keys."""
        config, realm = self._config, self._realm_name
        finder = KeyFinder(
            realm=realm,
            name=config.name,
            store=store,
            call=self.daemon.committer.call,
            held=held,
            audit=config.audit.directory,
        )
        doors = ("etsi014",) if config.etsi014.enabled else ()
        control = Control(
            realm=realm, name=config.name, engine=self.engine, finder=finder, claims=claims, doors=doors
        )
        commands = KeyCommands(
            realm=realm,
            name=config.name,
            control=control,
            finder=finder,
            claims=claims,
            emit=with_approver(self._emit),
            actor=lambda: operator(caller()),
            durable=self._recording.durable,
            spawn=self.daemon.spawn,
        )
        self.daemon.listen(commands.hear)
        return commands

    def _core(self, state: KmeState, store: KmeStore, holdings: Holdings, now: float) -> KmeCore:
        claims = LinkClaims(lambda: [one.link for one in self.daemon.links], self._realms)
        identity = Identity(
            self._realm_name, self._config.name, Incarnation(entropy.random_bytes(_INCARNATION_BYTES))
        )
        ports = Ports(
            claims=claims,
            commits=store,
            admission=KmeAdmission(self._policy, holdings, claims, self._refused(record.PeerAsked.BATCH)),
            assign_policy=KmeAssignPolicy(self._policy, self._refused(record.PeerAsked.ASSIGNMENT)),
        )
        return KmeCore(identity, ports, self._config.threshold_floor, state, now, hubs=self._bench)

    def _current_realm(self) -> Realm | None:
        realms = self.core.trust.realms(clock.now())
        return None if realms is None else realms.current

    def _refused(self, what: record.PeerAsked) -> Told:
        return lambda name, decision: self._emit(record.refused_peer(name, what, decision))

    def _realms(self) -> Iterable[Realm]:
        realms = self.core.trust.realms(clock.now())
        if realms is None:
            return ()
        return (realms.current,) if realms.previous is None else (realms.previous, realms.current)

    # ── running ─────────────────────────────────────────────────────────────────────────────────
    async def run(self) -> None:
        """Start everything, wait, stop everything: doors first, the audit log last."""
        daemon, config, recording = self.daemon, self._config, self._recording
        uploads = {"kit": self._kit}
        says: Mapping[str, Says] = {"kit": of_kit, "reload": self._reload_says}
        admin = AdminSocket(
            config.home / ADMIN_SOCKET,
            self._gate.serve(self._commands(), uploads, says),
            self._healthy,
            daemon.metrics.registry,
            uploads,
            gate=self._gate,
            shared=shared_socket(config.admin),
        )
        forget_ports(config.home)
        recording.start()
        try:
            ports = self._open_door()
            recording.emit(started(config))
            recording.emit(Event(events.POLICY_LOADED))
            self._gate.granted(None)
            daemon.start(self._addresses())
            for work, name in ((self.keys.filling.run(), "filling"), (self.keys.upkeep.run(), "upkeep")):
                daemon.tasks.start(work, name)
            await admin.start()
            write_ports(config.home, ports)
            _log.info("kme runs", extra={"kme": config.name, **ports})
            await self._ending.wait()
            await self._doors.stop()  # who is being served now still is
            recording.emit(Event(events.DAEMON_STOPPED))
        finally:
            forget_ports(config.home)
            await self._enrolling.stop()
            await admin.stop()
            self._gate.close()
            await self._doors.stop()
            await daemon.stop()
            await recording.stop()
            _log.info("kme stopped", extra={"kme": config.name})

    def _open_door(self) -> Mapping[str, int]:
        """Open the ETSI 014 door; a wrong certificate or a used port ends the start here."""
        settings = self._config.etsi014
        if not settings.enabled:
            return {}
        self._door = door = Door(
            RecordedKeys(self.keys, self._recording),
            self._door_context(),
            _DoorLog(self._emit),
            clock.wall,
            settings=DoorSettings(IdentityField(settings.identity)),
        )
        port = door.bind(settings.listen.host, settings.listen.port)
        self._doors.start(door.serve(), "etsi014")
        return {"etsi014": port}

    def _door_context(self) -> ssl.SSLContext:
        settings = self._config.etsi014
        if settings.revoked is not None:
            check_revocations(settings.revoked, settings.client_ca, clock.wall())
        return server_context(settings.certificate, settings.key, settings.client_ca, settings.revoked)

    def _addresses(self) -> Mapping[HubName, Endpoint]:
        """Where hubs are: the realm file's addresses, unless the configuration says otherwise."""
        found: dict[HubName, Endpoint] = {}
        for realm in self._realms():
            for hub in realm.hubs:
                host, _, port = hub.address.rpartition(":")
                found[hub.name] = Endpoint(host.strip("[]"), int(port))
        return {**found, **self._config.hub_addresses}

    # ── hearing ─────────────────────────────────────────────────────────────────────────────────
    def _hear(self, notice: kme.KmeNotice) -> None:
        event = record.of_kme(notice, self.daemon.links.by_hub, self._permissions.rule_against)
        if event is not None:
            self._emit(event)
        if isinstance(notice, receiver.HubBlamed):
            _log.error("a hub brought a wrong share", extra={"hub": notice.hub, "certain": notice.certain})
        if isinstance(notice, bench.HubBenched):
            kept = notice.kept
            extra = {"hub": kept.hub, "peer": kept.peer, "cause": kept.cause.value, "rule": kept.rule}
            _log.warning("a hub is on the bench", extra=extra)
        if isinstance(notice, bench.HubBroughtBack):
            extra = {"hub": notice.hub, "peer": notice.peer, "why": notice.why.value}
            _log.info("a hub is used again", extra=extra)
        if isinstance(notice, RealmInForce):
            realms = self.core.trust.realms(clock.now())
            before = None if realms is None else realms.previous
            for difference in realm_differences(before, notice.realm):
                self._emit(difference)
            self.daemon.find(self._addresses())
        self.daemon.metrics.ready.set(self.core.may_deliver)

    def _healthy(self) -> bool:
        realms = self.core.trust.realms(clock.now())
        used = [hub for hub in self.daemon.hubs_up if not self._bench.is_out(hub)]
        return realms is not None and len(used) >= realms.current.threshold

    # ── the operator ────────────────────────────────────────────────────────────────────────────
    def _commands(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]]:
        return {
            "status": self._status,
            "reload": self._reload,
            "policy": self._policy_in_force,
            "reserve": self._reserve,
            "backup": self._backup,
            **self._key_commands.commands(),
            **audit_commands(self._recording, owner_word(self._config), self._remembered),
            **self._bench_commands.commands(),
        }

    async def _remembered(self) -> str | None:
        return await self.daemon.committer.call(self._store.witnessed)

    async def _policy_in_force(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """The policy as it is in force, and what it is read against."""
        realms = self.core.trust.realms(clock.now())
        return in_force(self._policy.current, None if realms is None else realms.current, None)

    async def _backup(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Hand out the state of enrolment for a backup; the record of it comes first."""
        self._emit(asked_backup(arguments, caller()))
        await self._recording.durable()
        return handed_out(await self.daemon.committer.call(lambda: state_of_kme(self._store)))

    async def _kit(self, arguments: Mapping[str, Any], kit: Incoming) -> Mapping[str, Any]:
        """Import a kit; its hub is dialled at once."""
        stated, replace = stated_key(arguments), flag(arguments, "replace")
        try:
            async with self._recording.on_medium():
                verdict, digest = await self._imported(kit, stated, replace=replace)
        except PassphraseWanted:
            return {"passphrase_wanted": True}
        return {
            "sha512": digest.hex(),
            "kits": verdict.kits,
            "needed": verdict.needed,
            "in_force": verdict.is_in_force,
        }

    async def _imported(self, kit: Incoming, stated: Stretched, *, replace: bool) -> tuple[Verdict, bytes]:
        """Import a kit, and let the machines and the audit log know."""
        realms = StoredRealms(self._store, self._config.threshold_floor, StoreRegistry(self._store))
        collected = await self.daemon.committer.call(realms.collected)
        evidence = Evidence(self._emit, operator(caller()), approver())
        imported = await self._enrolling.take(
            kit,
            self._config.name,
            CalledRealms(realms, self._enrolling.call),
            stated,
            replace=replace,
            kind=events.ENROLMENT_IMPORTED,
            evidence=evidence,
        )
        header, verdict = imported.header, imported.verdict
        evidence.imported(header, imported.fingerprint)
        if verdict.changes:
            evidence.activated(self._realm_name)
        # Where nothing is in force, the machines count the same kits and come to the same end.
        enrolled = {one.link.link_id for one in self.daemon.links}
        kits = {} if collected is None else collected.kits
        for hub in (*(name for name, link_id in kits.items() if link_id in enrolled), header.hub):
            self.engine.handle(KitCollected(hub, header.realm))
        return verdict, imported.fingerprint

    async def _status(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        del arguments
        awaiting = await self.daemon.committer.call(self._store.awaiting_kits)
        pads = await self.daemon.pad_watch.report()
        realms = self.core.trust.realms(clock.now())
        return {
            "kme": self._config.name,
            "realm": self._realm_name,
            "epoch": None if realms is None else realms.current.epoch,
            "threshold": None if realms is None else realms.current.threshold,
            "effective_threshold": None if realms is None else effective_threshold_of(realms.current),
            "ready": self.core.may_deliver,
            "healthy": self._healthy(),
            "filling": self.keys.filling.is_on,
            "awaiting_kits": [link.hub for link in awaiting],
            "hubs": [
                self.daemon.link_status(one, self._conduct.status(one.link.hub), pads)
                for one in self.daemon.links
            ],
            "reserves": self._reserves.status(),
        }

    async def _reload_says(self, *_: object) -> Mapping[str, Any]:
        door = self._config.etsi014
        files = [door.certificate, door.key, door.client_ca, *([door.revoked] if door.revoked else [])]
        return of_reload(self._config.policy, files if door.enabled else ())

    async def _reload(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take in another policy and the door's certificates, both or nothing, and links that changed."""
        del arguments
        evidence, before = Evidence(self._emit, operator(caller()), approver()), self._policy.current
        with evidence.of_refused_policies():
            policy = load_policy(self._config.policy)
        context = None if self._door is None else self._door_context()
        await self.daemon.reload_links()  # may fail; nothing behind it does
        if self._door is not None and context is not None:
            self._door.renew(context)
        self._policy.replace(policy)
        self._recording.set_policy(policy.digest)
        evidence.policy_changed(before, policy)
        self._gate.granted(before.policy)
        return {"policy": policy.digest, "before": before.digest}

    async def _reserve(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Switch the filling of reserves on or off, or drain one."""
        drained = 0
        if isinstance(arguments.get("filling"), bool):
            if arguments["filling"]:
                self.keys.filling.switch_on()
            else:
                await self.keys.filling.switch_off()
        if "drain" in arguments:
            drained = self.keys.drain(_peer(arguments["drain"]))
        return {"filling": self.keys.filling.is_on, "drained": drained}


def _realm_name(state: KmeState) -> RealmName:
    """The realm that kits put in force. Raises ``Refused`` (not-enrolled)."""
    if state.realm is None:
        raise Refused(codes.NOT_ENROLLED)
    return Realm.from_bytes(state.realm.data).name


def _peer(stated: object) -> KmeName:
    if not isinstance(stated, str):
        raise Refused(codes.NAME_INVALID, "a peer's name is expected")
    return ids.parse_kme_name(stated)


class _Proof(Enum):
    """What somebody did not prove."""

    CLIENT_CERTIFICATE = "client-certificate"


class _DoorLog:
    """``DoorEvents``: access to the log, failures of authentication to the audit log too.

    Handshakes fail as often as strangers like: a few a minute are logged one by one, then their number.
    """

    def __init__(self, emit: Callable[[Event], None], now: Callable[[], float] = clock.now) -> None:
        self._emit = emit
        self._now = now
        self._seldom = Seldom(HANDSHAKES_A_MINUTE)
        self._left_out = 0

    def request_answered(self, access: Access) -> None:
        """A request got its answer."""
        _log.info(
            "request",
            extra={
                "peer": access.address,
                "sae": access.caller,
                "operation": access.operation,
                "method": access.method,
                "other": access.other,
                "status": access.status,
                "code": access.code,
                "detail": access.detail,
                "ignored": list(access.ignored),
                "keys": access.keys,
                "seconds": round(access.seconds, 4),
            },
        )

    def handshake_failed(self, address: str, reason: str) -> None:
        """Somebody did not prove who they are."""
        if self._seldom.passes(self._now()):
            extra = {"peer": address, "reason": reason, "left_out": self._left_out}
            _log.warning("handshake failed", extra=extra)
            self._left_out = 0
        else:
            self._left_out += 1
        self._emit(
            Event(
                events.AUTHENTICATION_FAILED,
                actor=NETWORK,
                details={"what": _Proof.CLIENT_CERTIFICATE, "address": address},
            )
        )

    def request_failed(self, error: BaseException) -> None:
        """A defect here."""
        _log.error("request failed", exc_info=error)
