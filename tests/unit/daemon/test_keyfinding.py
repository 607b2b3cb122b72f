"""Keys that the store has dropped, found again in the audit log; and what no log can say."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from skex.audit import events
from skex.audit.events import Event
from skex.audit.fields import Subject
from skex.base.ids import BatchId, HubName, KmeName, LinkId, RealmName, SaeId
from skex.daemon import record
from skex.daemon.keyfinding import KeyFinder
from skex.keys.claims import Claims
from skex.keys.control import AUDIT, Found
from skex.keys.held import HeldKeys
from skex.keys.history import BatchHistory
from skex.keys.service import Delivery
from skex.keys.states import KeyState
from skex.protocol.establishment import key_id
from skex.protocol.receiver import BatchAccepted
from skex.runtime.auditfile import open_audit
from skex.store.links import LinkRecord
from skex.wire.peer import RevokeReason
from tests.unit.keys.keys_support import NORTH, SOUTH, make_batch

REALM = RealmName("world")
BOB, ALICE = SaeId("bob@north"), SaeId("alice@south")
LINKS = {HubName(f"hub-{number}"): LinkId(bytes([number] * 8)) for number in range(1, 6)}


class EmptyStore:
    """A store in which the lifetime of every batch is over."""

    def histories(self, peer: KmeName | None = None) -> tuple[BatchHistory, ...]:
        del peer
        return ()

    def history(self, batch: BatchId) -> tuple[BatchHistory, ...]:
        del batch
        return ()

    def link_records(self) -> tuple[LinkRecord, ...]:
        return ()


async def call(what: Callable[[], Any]) -> Any:
    return what()


def finder(directory: Path) -> KeyFinder:
    held = HeldKeys(REALM, NORTH, 1000, Claims(lambda: ()))
    return KeyFinder(realm=REALM, name=NORTH, store=EmptyStore(), call=call, held=held, audit=directory)


def found(directory: Path, name: uuid.UUID) -> Found | None:
    work: Awaitable[Found | None] = finder(directory).key(name)

    async def ask() -> Found | None:
        return await work

    return asyncio.run(ask())


def logged(directory: Path, *, with_batch: bool = True, revoked: bool = False) -> uuid.UUID:
    """North received a batch of south's and gave its key 2 to Bob; the key's id."""
    batch = make_batch(7, peer=SOUTH, derived=(1, 4))
    name = key_id(REALM, SOUTH, NORTH, batch.batch, 2)
    audit = open_audit(directory)

    def emit(event: Event) -> None:
        audit.emit(event)

    accepted = record.of_kme(BatchAccepted(batch, expires_at=9.0), LINKS)
    assert accepted is not None
    if with_batch:
        emit(accepted)
    delivery = Delivery(BOB, SOUTH, (name,), (batch.batch,), (ALICE,), "tls", new=False)
    record.KeyRecord(emit).delivered(delivery)
    if revoked:
        details = {"keys": 1, "reason": "hub-compromise", "holders": (BOB,)}
        emit(Event(events.KEYS_REVOKED_IN_USE, subjects=(Subject.key(name),), details=details))
    audit.tick()
    audit.close()
    return name


def test_a_delivered_key_of_a_batch_that_is_over_is_known_from_the_audit_log(tmp_path: Path) -> None:
    name = logged(tmp_path)
    one = found(tmp_path, name)
    assert one is not None
    assert (one.source, one.index) == (AUDIT, 2)
    history, made = one.history, make_batch(7, peer=SOUTH, derived=(1, 4))
    assert history.state(2) is KeyState.DELIVERED
    assert history.takers(2) == (BOB,)
    assert (history.batch.context, history.batch.claim) == (made.context, made.claim)
    assert history.batch.hubs == made.hubs
    assert [(hand.sae, hand.role, hand.others) for hand in one.handed] == [(BOB, "slave", (ALICE,))]


def test_a_revocation_is_known_from_the_log_too(tmp_path: Path) -> None:
    one = found(tmp_path, logged(tmp_path, revoked=True))
    assert one is not None
    assert one.history.why_revoked(2) is RevokeReason.HUB_COMPROMISE
    assert one.history.state(2) is KeyState.COMPROMISED_IN_USE


def test_nothing_is_made_up_of_a_batch_that_the_log_does_not_have(tmp_path: Path) -> None:
    assert found(tmp_path, logged(tmp_path, with_batch=False)) is None


def test_another_id_is_not_known(tmp_path: Path) -> None:
    logged(tmp_path)
    assert found(tmp_path, uuid.UUID(int=5)) is None
