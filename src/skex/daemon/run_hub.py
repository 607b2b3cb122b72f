"""Composes and runs a hub from its configuration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from skex.audit import events
from skex.audit.events import Event
from skex.audit.fields import Subject
from skex.audit.log import Audit
from skex.base import codes
from skex.base.errors import Refused, StoreFault
from skex.base.ids import parse_kme_name
from skex.daemon.admin import AdminSocket, Command, Incoming, UploadCommand, caller
from skex.daemon.auditing import audit_commands, audited_run, owner_word, started
from skex.daemon.backup.handing import asked_backup, handed_out
from skex.daemon.backup.making import state_of_hub
from skex.daemon.config import HubConfig
from skex.daemon.enrolling import Enrolling, HubRealms, blob, flag, stated_key, text
from skex.daemon.evidence import Evidence, operator
from skex.daemon.hub import HubDaemon
from skex.daemon.master import settled_master_key
from skex.daemon.operators import Operators, Says, approver, shared_socket
from skex.daemon.policies import in_force
from skex.daemon.recording import Recording
from skex.daemon.saying import of_kit, of_realm, of_reload
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
from skex.policy.ports import ActivePolicy, HubRelayPolicy
from skex.protocol.realm import check_succession
from skex.runtime import entropy
from skex.runtime.files import DiskFileSystem
from skex.store.hub import HubStore
from skex.wire.realm import Realm

_log = logging.getLogger("skex.hub")


async def run_hub(config: HubConfig, make: type[HubDaemon] = HubDaemon) -> None:
    """Run until told to stop. ``make`` is the daemon's class; tests run one that lies.

    Raises what a start refuses, before anything is opened to the network.
    """
    refuse_root(allowed=config.allow_root)
    with Ending() as ending, locked(config.home):
        master = settled_master_key(config.home)
        store = HubStore.open(str(config.home / STORE_FILE), master, entropy.random_bytes)
        master.wipe()
        with closing(store.close), closing(store.scrub), audited_run(config, store) as audit:
            await _run(config, store, audit, ending, make)


def realm_of(config: HubConfig, store: HubStore) -> Realm:
    """The realm file in the store, or the one that the configuration names."""
    data = store.realm()
    if data is None:
        try:
            data = config.realm.read_bytes()
        except OSError as error:
            raise StoreFault(codes.FILE_IO, f"{config.realm}: {error.strerror}") from error
    realm = Realm.from_bytes(data)
    if realm.hub_named(config.name) is None:
        raise Refused(codes.REALM_MISMATCH, f"{config.name} is not an active hub of {realm.name}")
    return realm


async def _run(
    config: HubConfig, store: HubStore, audit: Audit, ending: Ending, make: type[HubDaemon]
) -> None:
    policy = ActivePolicy(load_policy(config.policy))
    relay_policy = HubRelayPolicy(policy)
    recording = Recording(audit, ending.failed)
    recording.set_policy(policy.current.digest)
    daemon = make(
        name=config.name,
        realm=realm_of(config, store),
        store=store,
        stored=store.links(),
        policy=relay_policy,
        floor=relay_policy.floor,
        why=relay_policy.why,
        pads=DiskFileSystem(config.home / PADS_DIRECTORY),
        sealing=store.sealer,
        emit=recording.emit,
        recorded=recording.record,
        low_pads=config.low_pads,
        failed=ending.failed,
        connections_max=config.connections_max,
    )
    desk = _Operator(daemon, policy, config, recording, store)
    admin = AdminSocket(
        config.home / ADMIN_SOCKET,
        desk.commands,
        lambda: True,
        daemon.metrics.registry,
        desk.uploads,
        gate=desk.gate,
        shared=shared_socket(config.admin),
    )
    forget_ports(config.home)
    recording.start()
    try:
        port = await daemon.listen(config.listen.host, config.listen.port)
        recording.emit(started(config))
        recording.emit(Event(events.POLICY_LOADED))
        desk.gate.granted(None)
        await admin.start()
        write_ports(config.home, {"hub": port})
        _log.info("hub runs", extra={"hub": config.name, "port": port})
        await ending.wait()
        recording.emit(Event(events.DAEMON_STOPPED))
    finally:
        forget_ports(config.home)
        await desk.enrolling.stop()
        await admin.stop()
        desk.gate.close()
        await daemon.stop()
        await recording.stop()
        _log.info("hub stopped", extra={"hub": config.name})


class _Operator:
    """What the operator of a running hub may ask for."""

    def __init__(
        self,
        daemon: HubDaemon,
        policy: ActivePolicy,
        config: HubConfig,
        recording: Recording,
        store: HubStore,
    ) -> None:
        self._daemon = daemon
        self._policy = policy
        self._config = config
        self._recording = recording
        self._store = store
        self.enrolling = Enrolling(store, daemon.committer, config.home / PADS_DIRECTORY, daemon.reload_links)
        self.gate = Operators("hub", policy, recording, config.home)
        commands: Mapping[str, Command] = {
            "status": self._status,
            "reload": self._reload,
            "backup": self._backup,
            "policy": self._policy_in_force,
            "kit-order": self._kit_order,
            "realm": self._realm,
            **audit_commands(recording, owner_word(config), self._remembered),
        }
        self.uploads: Mapping[str, UploadCommand] = {"kit": self._kit}
        says: Mapping[str, Says] = {"kit": of_kit, "realm": self._realm_says, "reload": self._reload_says}
        self.commands = self.gate.serve(commands, self.uploads, says)

    def _evidence(self) -> Evidence:
        return Evidence(self._recording.emit, operator(caller()), approver())

    async def _remembered(self) -> str | None:
        return await self._daemon.committer.call(self._store.witnessed)

    async def _status(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        awaiting = await self._daemon.committer.call(self._store.awaiting_kits)
        return {**await self._daemon.status(), "awaiting_kits": [link.kme for link in awaiting]}

    async def _reload(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take in another policy, whole or not at all, and links that changed."""
        evidence, before = self._evidence(), self._policy.current
        with evidence.of_refused_policies():
            policy = load_policy(self._config.policy)
        await self._daemon.reload_links()  # may fail; nothing behind it does
        self._policy.replace(policy)
        self._recording.set_policy(policy.digest)
        evidence.policy_changed(before, policy)
        self.gate.granted(before.policy)
        return {"policy": policy.digest, "before": before.digest}

    async def _policy_in_force(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """The policy as it is in force, and what it is read against."""
        kmes = sorted({one.link.kme for one in self._daemon.links})
        return in_force(self._policy.current, self._daemon.realm, kmes)

    async def _backup(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Hand out the state of enrolment for a backup; the record of it comes first."""
        self._recording.emit(asked_backup(arguments, caller()))
        await self._recording.durable()
        return handed_out(await self._daemon.committer.call(lambda: state_of_hub(self._store)))

    async def _kit_order(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a kit for a KME must say, if one may be made."""
        kme, replace = parse_kme_name(text(arguments, "kme")), flag(arguments, "replace")
        async with self._recording.on_medium():
            await self.enrolling.may_order(self._daemon.name, kme, replace=replace, evidence=self._evidence())
        return {"hub": self._daemon.name, "realm": self._daemon.realm.to_bytes().hex()}

    async def _kit(self, arguments: Mapping[str, Any], kit: Incoming) -> Mapping[str, Any]:
        """Enrol the link of a kit that the sender has just written, durably."""
        evidence = self._evidence()
        async with self._recording.on_medium():
            imported = await self.enrolling.take(
                kit,
                parse_kme_name(text(arguments, "kme")),
                HubRealms(self._daemon.name, self._daemon.realm),
                stated_key(arguments),
                replace=flag(arguments, "replace"),
                kind=events.ENROLMENT_GENERATED,
                evidence=evidence,
            )
            evidence.generated(imported.header, imported.fingerprint)
        return {"enrolled": True}

    async def _realm_says(self, arguments: Mapping[str, Any], _: object) -> Mapping[str, Any]:
        later = Realm.from_bytes(blob(arguments, "realm"))
        check_succession(self._daemon.realm, later)
        return of_realm(later)

    async def _reload_says(self, *_: object) -> Mapping[str, Any]:
        return of_reload(self._config.policy)

    async def _realm(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Serve a later epoch: from now on, and to every KME that is connected at once."""
        evidence, before = self._evidence(), self._daemon.realm
        async with self._recording.on_medium():
            with evidence.of_refusals(events.REALM_CHANGED, Subject.realm(before.name)):
                later = Realm.from_bytes(blob(arguments, "realm"))
                await self._daemon.serve_realm(later)
            evidence.realm_changed(before, later)
        return {"before": before.epoch, "epoch": later.epoch}
