"""Composes and runs a hub from its configuration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from skex.audit import events
from skex.audit.events import Event
from skex.audit.log import Audit
from skex.base import codes
from skex.base.errors import Refused, StoreFault
from skex.daemon.admin import AdminSocket
from skex.daemon.backup.handing import asked_backup, handed_out
from skex.daemon.backup.making import state_of_hub
from skex.daemon.config import HubConfig
from skex.daemon.evidence import store_migrated
from skex.daemon.hub import HubDaemon
from skex.daemon.recording import Recording
from skex.daemon.starting import (
    ADMIN_SOCKET,
    PADS_DIRECTORY,
    STORE_FILE,
    Ending,
    closing,
    forget_ports,
    load_policy,
    locked,
    read_master_key,
    refuse_root,
    write_ports,
)
from skex.policy.ports import ActivePolicy, HubRelayPolicy
from skex.runtime import entropy
from skex.runtime.auditfile import open_audit
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
        master = read_master_key(config.home)
        store = HubStore.open(str(config.home / STORE_FILE), master, entropy.random_bytes)
        master.wipe()
        with closing(store.close):
            audit = open_audit(config.audit.directory, config.audit.segment_bytes)
            with closing(audit.close):
                if store.migrated is not None:
                    audit.emit(store_migrated(*store.migrated))
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
        pads=DiskFileSystem(config.home / PADS_DIRECTORY),
        sealing=store.sealer,
        emit=recording.emit,
        failed=ending.failed,
        connections_max=config.connections_max,
    )
    admin = AdminSocket(
        config.home / ADMIN_SOCKET,
        _commands(daemon, policy, config, recording, store),
        lambda: True,
        daemon.metrics.registry,
    )
    forget_ports(config.home)
    recording.start()
    try:
        port = await daemon.listen(config.listen.host, config.listen.port)
        recording.emit(Event(events.DAEMON_STARTED))
        await admin.start()
        write_ports(config.home, {"hub": port})
        _log.info("hub runs", extra={"hub": config.name, "port": port})
        await ending.wait()
        recording.emit(Event(events.DAEMON_STOPPED))
    finally:
        forget_ports(config.home)
        await admin.stop()
        await daemon.stop()
        await recording.stop()
        _log.info("hub stopped", extra={"hub": config.name})


def _commands(
    daemon: HubDaemon, policy: ActivePolicy, config: HubConfig, recording: Recording, store: HubStore
) -> Mapping[str, Any]:
    awaiting = [link.kme for link in store.awaiting_kits()]

    async def status(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**daemon.status(), "awaiting_kits": awaiting}

    async def backup(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Hand out the state of enrolment for a backup; the record of it comes first."""
        recording.emit(asked_backup(arguments))
        await recording.durable()
        return handed_out(await daemon.committer.call(lambda: state_of_hub(store)))

    async def reload(_: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take in another policy, whole or not at all, and links that changed."""
        policy.replace(load_policy(config.policy))
        recording.set_policy(policy.current.digest)
        recording.emit(Event(events.POLICY_CHANGED))
        await daemon.reload_links()
        return {"reloaded": True}

    return {"status": status, "reload": reload, "backup": backup}
