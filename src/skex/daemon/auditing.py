"""The audit log of a home whose store is open: each remembers the other's end.

With every commit the store keeps the last record that is on the medium, and a start compares. So a log
that was cut off, or put back, beside a store that was not, is noticed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import skex
from skex.audit import events
from skex.audit.chain import Head
from skex.audit.events import Event
from skex.audit.fields import Actor, Subject
from skex.audit.log import Audit
from skex.base.errors import SkexError
from skex.daemon.admin import Command, caller
from skex.daemon.config import HubConfig, KmeConfig
from skex.daemon.evidence import operator, store_migrated
from skex.daemon.recording import Recording
from skex.runtime.auditfile import Opening, open_audit
from skex.store.opened import OpenedStore

_RUNNING: Final = "running"
"""The store's fact that a daemon has begun and not stopped."""


def owner_of(config: HubConfig | KmeConfig) -> Subject:
    """Whose log it is."""
    return Subject.hub(config.name) if isinstance(config, HubConfig) else Subject.kme(config.name)


def owner_word(config: HubConfig | KmeConfig) -> str:
    """The same in one word, as keys of logs name it."""
    owner = owner_of(config)
    return f"{owner.kind.value}:{owner.id}"


def started(config: HubConfig | KmeConfig) -> Event:
    """The daemon runs: which version, as what."""
    owner = owner_of(config)
    details = {"version": skex.__version__, "roles": (owner.kind.value,)}
    return Event(events.DAEMON_STARTED, subjects=(owner,), details=details)


def opening_of(config: HubConfig | KmeConfig, remembered: Head | None = None) -> Opening:
    """How the log of a home is opened."""
    return Opening(config.home, config.audit.segment_bytes, owner_of(config), remembered)


def remembered_by(store: OpenedStore) -> Head | None:
    """The last record that a store knows of; None for one that never met a log."""
    stated = store.witnessed()
    return None if not stated else Head.parse(stated)


@contextmanager
def audited_run(config: HubConfig | KmeConfig, store: OpenedStore) -> Iterator[Audit]:
    """``audited`` for a daemon: the next start knows, and says, if this one ends without stopping."""
    with audited(config, store) as audit:
        if store.meta(_RUNNING):
            audit.emit(Event(events.CRASH_RECOVERED))
        store.set_meta(_RUNNING, "yes")
        yield audit
        store.set_meta(_RUNNING, "")


@contextmanager
def audited(config: HubConfig | KmeConfig, store: OpenedStore) -> Iterator[Audit]:
    """Open the log, and close it at the end; the store then remembers its last record.

    What closing raises never hides why the end came. Raises ``StoreFault``: audit-locked, audit-io.
    """
    audit = open_audit(config.audit.directory, opening_of(config, remembered_by(store)))
    store.witness(lambda: str(audit.durable_head))
    try:
        if store.migrated is not None:
            audit.emit(store_migrated(*store.migrated))
        yield audit
    except BaseException:
        with suppress(SkexError):
            audit.close()
        with suppress(SkexError):
            store.keep_witness()
        raise
    audit.close()
    store.keep_witness()


# ── the operator ────────────────────────────────────────────────────────────────────────────────
def audit_commands(
    recording: Recording, owner: str, remembered: Callable[[], Awaitable[str | None]]
) -> Mapping[str, Command]:
    """What the operator of a running daemon may ask of its log."""

    async def witnessed(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"remembered": await remembered()}

    async def seal(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return await recording.call(sealed)

    async def key(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        actor, renew = operator(caller()), arguments.get("renew") is True
        return await recording.call(lambda audit: taken_key(audit, actor, owner, renew=renew))

    return {"audit": witnessed, "audit-seal": seal, "audit-key": key}


def sealed(audit: Audit) -> Mapping[str, Any]:
    """Seal what is not sealed yet; on the audit log's thread."""
    did = audit.seal()
    return {"sealed": did, "taken": audit.is_sealing, "head": str(audit.head)}


def taken_key(audit: Audit, actor: Actor, owner: str, *, renew: bool) -> Mapping[str, Any]:
    """The key for an auditor, as text; on the audit log's thread. Raises ``Refused`` (audit-key-gone)."""
    key = audit.renew_key(actor) if renew else audit.take_key(actor)
    try:
        return {"key": key.to_text(owner), "series": key.digest}
    finally:
        key.key.wipe()
