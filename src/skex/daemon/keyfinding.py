"""Facts about keys for the operator: out of the store, and out of the audit log what the store dropped.

A key's id is a digest of its batch and its place in it, so an id is found by computing those of the
batches that may have it: first that of an assigned key, which an index knows, then those that the audit
log names with the id, then all that the store has. Only ids, names and numbers; never a key.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from skex.audit import events
from skex.audit.chain import Record
from skex.base.ids import BatchId, Coordinate, HubName, Incarnation, KmeName, RealmName, SaeId
from skex.base.secret import Secret
from skex.daemon.record import EnrolmentWord, RandomnessWord
from skex.keys.control import AUDIT, STORE, Found
from skex.keys.explaining import Handed, LinkEvidence
from skex.keys.held import HeldKeys
from skex.keys.history import BatchHistory
from skex.pad.kinds import PadKind
from skex.protocol.changes import Batch, Role
from skex.runtime.auditfile import segments
from skex.store.links import LinkRecord
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose
from skex.wire.peer import RevokeReason

ResultT = TypeVar("ResultT")
_MATCHES: Final = 4096
"""Records that one question reads at most: far more than one key or batch leaves."""
_CLOCKS_APART_SECONDS: Final = 3600
"""A hub's clock may be as wrong before skex doctor calls it so."""
_BATCH_KINDS: Final = {
    events.BATCH_CONFIRMED.name: Role.SENDER,
    events.BATCH_ESTABLISHED.name: Role.RECEIVER,
}


class Store(Protocol):
    """What is asked of the store, on its thread."""

    def histories(self, peer: KmeName | None = None) -> tuple[BatchHistory, ...]:
        """Every traffic batch of which there is a row, newest first."""

    def history(self, batch: BatchId) -> tuple[BatchHistory, ...]:
        """One batch, if there is a row of it."""

    def link_records(self) -> tuple[LinkRecord, ...]:
        """Every link that there ever was."""


Call = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs something on the store's thread."""


class KeyFinder:
    """``Finder`` over a KME's store and audit log."""

    def __init__(
        self, *, realm: RealmName, name: KmeName, store: Store, call: Call, held: HeldKeys, audit: Path
    ) -> None:
        self._realm = realm
        self._name = name
        self._store = store
        self._call = call
        self._held = held
        self._audit = audit

    # ── Finder ──────────────────────────────────────────────────────────────────────────────────
    async def key(self, key_id: uuid.UUID) -> Found | None:
        """See ``Finder``."""
        records = await asyncio.to_thread(records_naming, self._audit, str(key_id))
        place = self._held.find(key_id)
        names = [] if place is None else [place[1]]
        names += [batch_named(text) for record in records for text in record.subjects.get("batch", ())]
        handed = tuple(handed_in(records))
        for name in dict.fromkeys(names):
            history = await self.batch(name)
            index = None if history is None else self._index(history, key_id)
            if history is not None and index is not None:
                return Found(history, index, handed)
        found = await self._in_store(key_id)
        if found is None:
            return await asyncio.to_thread(self._in_log, key_id, records, tuple(dict.fromkeys(names)))
        return replace(found, handed=handed)

    async def batch(self, name: BatchId) -> BatchHistory | None:
        """See ``Finder``."""
        found = await self._call(lambda: self._store.history(name))
        return found[0] if found else None

    async def pair(self, peer: KmeName) -> tuple[BatchHistory, ...]:
        """See ``Finder``."""
        found: tuple[BatchHistory, ...] = await self._call(lambda: self._store.histories(peer))
        return found

    async def all(self) -> tuple[BatchHistory, ...]:
        """Every batch that the store has a row of, newest first."""
        found: tuple[BatchHistory, ...] = await self._call(self._store.histories)
        return found

    async def links(self, history: BatchHistory) -> tuple[LinkEvidence, ...]:
        """See ``Finder``."""
        records: tuple[LinkRecord, ...] = await self._call(self._store.link_records)
        kits = await asyncio.to_thread(kits_in, self._audit)
        return tuple(_evidence(hub, history.made_at, records, kits) for hub in history.batch.hubs)

    # ── finding ids ─────────────────────────────────────────────────────────────────────────────
    async def _in_store(self, key_id: uuid.UUID) -> Found | None:
        """Among all batches of the store; those that still have keys come first."""
        histories = sorted(await self.all(), key=lambda one: not one.left)

        def search() -> tuple[BatchHistory, int] | None:
            for history in histories:
                index = self._index(history, key_id)
                if index is not None:
                    return history, index
            return None

        found = await asyncio.to_thread(search)
        if found is None:
            return None
        whole = await self.batch(found[0].name)
        return None if whole is None else Found(whole, found[1], (), STORE)

    def _index(self, history: BatchHistory, key_id: uuid.UUID) -> int | None:
        return next(
            (
                index
                for index in range(history.keys)
                if history.key_id(self._realm, self._name, index) == key_id
            ),
            None,
        )

    # ── what the store has dropped ──────────────────────────────────────────────────────────────
    def _in_log(self, key_id: uuid.UUID, records: Sequence[Record], names: Iterable[BatchId]) -> Found | None:
        """A delivered key whose batch is over, from the records of both."""
        for name in names:
            for record in records_naming(self._audit, str(name)):
                history = history_in(record, name)
                index = None if history is None else self._index(history, key_id)
                if history is None or index is None:
                    continue
                bit = 1 << index
                handed = tuple(handed_in(records))
                history = replace(
                    history,
                    delivered={one.sae: bit for one in handed},
                    revoked=dict.fromkeys(revoked_in(records), bit),
                )
                return Found(history, index, handed, AUDIT)
        return None


# ── reading the audit log ───────────────────────────────────────────────────────────────────────
def records_naming(directory: Path, text: str) -> list[Record]:
    """The records that hold ``text``, oldest first. Raises ``StoreFault`` (audit-io)."""
    found = []
    needle = text.encode("ascii")
    for line in _lines_with(directory, needle):
        record = Record.from_line(line)
        if record is not None:
            found.append(record)
        if len(found) == _MATCHES:
            break
    return found


def _lines_with(directory: Path, needle: bytes) -> Iterator[bytes]:
    """Whole lines that hold ``needle``; a segment is searched before any line of it is read."""
    for segment in segments(directory):
        data = segment.read_bytes()
        at = data.find(needle)
        while at >= 0:
            begin, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
            if end < 0:
                break  # it is just being written
            yield data[begin:end]
            at = data.find(needle, end)


def handed_in(records: Iterable[Record]) -> Iterator[Handed]:
    """The deliveries among some records."""
    for record in records:
        if record.event == events.KEYS_DELIVERED.name:
            _, _, sae = record.actor.partition(":")
            yield Handed(
                record.time,
                SaeId(sae),
                str(record.details.get("as", "master")),
                tuple(SaeId(one) for one in _names(record, "others")),
                str(record.details.get("purpose", "")),
            )


def revoked_in(records: Iterable[Record]) -> Iterator[RevokeReason]:
    """Why keys that some records name were revoked after their delivery; the worst reason last."""
    for record in records:
        if record.event == events.KEYS_REVOKED_IN_USE.name:
            yield _REASONS.get(str(record.details.get("reason")), RevokeReason.UNSPECIFIED)


_REASONS: Final = {reason.name.lower().replace("_", "-"): reason for reason in RevokeReason}


def history_in(record: Record, name: BatchId) -> BatchHistory | None:
    """A batch as the record of it has it; None for other records, and for those of older versions."""
    role = _BATCH_KINDS.get(record.event)
    hubs = _names(record, "hubs")
    number = {key: value for key, value in record.details.items() if isinstance(value, int)}
    words = _words(record)
    if role is None or not hubs or words is None or not number.keys() >= _NUMBERS:
        return None
    made_at = int(datetime.fromisoformat(record.time).timestamp())
    at = {hub: Coordinate(place) for place, hub in enumerate(hubs, 1)}  # coordinates are not recorded

    def claim(key: str) -> Claim:
        return Claim(tuple(at[hub] for hub in hubs if hub in _names(record, key)), *words)

    context = CompactContext(
        number["epoch"],
        number["threshold"],
        tuple(at.values()),
        number["keys"],
        number["key_bytes"],
        Purpose.TRAFFIC,
        number["lifetime"],
        None,
        claim("sender_computational"),
    )
    peer = KmeName(record.subjects["kme"][0])
    names = tuple(HubName(hub) for hub in hubs)
    batch = Batch(peer, name, context, names, claim("computational"), Secret(b""))
    return BatchHistory(role, batch, made_at, made_at + context.lifetime, left=0, promised=0)


_NUMBERS: Final = {"threshold", "keys", "key_bytes", "lifetime", "epoch"}


def _words(record: Record) -> tuple[Randomness, Enrolment] | None:
    try:
        randomness = Randomness[RandomnessWord(record.details.get("randomness")).name]
        return randomness, Enrolment[EnrolmentWord(record.details.get("enrolment")).name]
    except ValueError:
        return None


def _names(record: Record, key: str) -> tuple[str, ...]:
    found = record.details.get(key, ())
    return found if isinstance(found, tuple) else ()


def batch_named(text: str) -> BatchId:
    """A batch id as records write it: the incarnation in hexadecimal, a colon, the counter."""
    incarnation, _, counter = text.partition(":")
    return BatchId(Incarnation(bytes.fromhex(incarnation)), int(counter))


# ── links ───────────────────────────────────────────────────────────────────────────────────────
def kits_in(directory: Path) -> Mapping[str, str]:
    """The digest of the kit of each link that was imported, as far as this log has it."""
    needle = f'"event":"{events.ENROLMENT_IMPORTED.name}"'.encode()
    found: dict[str, str] = {}
    for line in _lines_with(directory, needle):
        record = Record.from_line(line)
        if record is not None and "kit" in record.subjects and "link" in record.subjects:
            found[record.subjects["link"][0]] = record.subjects["kit"][0]
    return found


def _evidence(
    hub: HubName, made_at: int, records: Iterable[LinkRecord], kits: Mapping[str, str]
) -> LinkEvidence:
    """The link with a hub at an instant: of those that were there, the one that was replaced first.

    A kit says when it was made by its hub's clock, which may be ahead of this one.
    """
    there = [
        one
        for one in records
        if one.hub == hub
        and one.created <= made_at + _CLOCKS_APART_SECONDS
        and (one.removed is None or one.removed >= made_at)
    ]
    if not there:
        return LinkEvidence(hub)
    link = min(there, key=lambda one: (one.removed is None, one.removed or 0, -one.created))
    name = link.link_id.hex()
    return LinkEvidence(hub, name, _PADS[link.kind], link.enrolment, link.created, kits.get(name))


_PADS: Final = {PadKind.DERIVED: "derived", PadKind.TABLE: "table"}
