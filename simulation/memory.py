"""Stores of simulated machines: what was committed survives, whole sets at a time.

A store is the list of its changes, so that an older image of it is a shorter list. Key material is
copied when it is committed, because machines wipe theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from skex.base import limits
from skex.base.ids import BatchId, Direction, HubName, Incarnation, KmeName, LinkId
from skex.base.secret import Secret
from skex.protocol import changes as c
from skex.protocol.assignee import KeysHeld
from skex.protocol.changes import Change, LinkChange, Role
from skex.protocol.holding import ReceivedBatch
from skex.protocol.keysets import KeySet
from skex.protocol.kme import KmeState
from skex.protocol.peer import Stored
from skex.protocol.realm import HeldRealm
from skex.wire.peer import KeyRange
from skex.wire.preface import Marks

NO_MARKS = Marks(0, 0, 0, 0, 0, 0)


class LinkMemory:
    """What either daemon's store keeps of its links."""

    def __init__(self) -> None:
        self.marks: dict[LinkId, Marks] = {}
        self.frozen: dict[LinkId, str] = {}

    def apply(self, change: LinkChange) -> None:
        """Take in one change; no value falls."""
        marks = self.marks.get(change.link_id, NO_MARKS)
        match change:
            case c.MarkRaised(link_id, Direction.TO_HUB, mark):
                self.marks[link_id] = replace(marks, to_hub=max(marks.to_hub, mark))
            case c.MarkRaised(link_id, _, mark):
                self.marks[link_id] = replace(marks, to_kme=max(marks.to_kme, mark))
            case c.PrefaceCounted(link_id, count):
                self.marks[link_id] = replace(marks, count=max(marks.count, count))
            case c.PeerSeen(link_id, to_hub, to_kme, count):
                self.marks[link_id] = replace(
                    marks,
                    seen_to_hub=max(marks.seen_to_hub, to_hub),
                    seen_to_kme=max(marks.seen_to_kme, to_kme),
                    seen_count=max(marks.seen_count, count),
                )
            case c.LinkFrozen(link_id, code):
                self.frozen[link_id] = code


class HubMemory:
    """A hub's store: its links, and nothing that it ever relayed."""

    def __init__(self, log: Iterable[Change] = ()) -> None:
        self.log: list[Change] = []
        self.links = LinkMemory()
        self.commit(tuple(log))

    def commit(self, changes: Sequence[Change]) -> None:
        """Make one set durable."""
        for change in changes:
            if not isinstance(change, LinkChange):
                raise TypeError(f"a hub keeps no {type(change).__name__}")
            self.log.append(change)
            self.links.apply(change)


@dataclass
class _Row:
    """One batch at one end, and which of its keys are still there."""

    batch: c.Batch
    left: KeySet
    committed_at: float


@dataclass
class _ReceivedRow(_Row):
    """A batch at its receiver; the row stays as a tombstone."""

    received: c.BatchReceived
    answer: bool | None = None


@dataclass
class KmeMemory:
    """A KME's store. ``log`` holds every change with the moment of its commit."""

    log: list[tuple[float, Change]] = field(default_factory=list)
    links: LinkMemory = field(default_factory=LinkMemory)
    sent: dict[tuple[KmeName, BatchId], _Row] = field(default_factory=dict)
    received: dict[tuple[KmeName, BatchId], _ReceivedRow] = field(default_factory=dict)
    marks: dict[tuple[KmeName, Incarnation], int] = field(default_factory=dict)
    epochs: dict[KmeName, int] = field(default_factory=dict)
    incarnations: dict[KmeName, Incarnation] = field(default_factory=dict)
    roots: dict[tuple[Role, KmeName, BatchId], c.RootKept] = field(default_factory=dict)
    queued: dict[bytes, c.ControlQueued] = field(default_factory=dict)
    revocations: list[c.RevocationCarriedOut] = field(default_factory=list)
    offered: dict[bytes, c.KeysOffered] = field(default_factory=dict)
    assigned: dict[bytes, c.KeysAssigned] = field(default_factory=dict)
    delivered: list[c.KeysDelivered] = field(default_factory=list)
    realms: list[tuple[float, bytes]] = field(default_factory=list)
    rollback: str | None = None

    @classmethod
    def replayed(cls, log: Sequence[tuple[float, Change]]) -> KmeMemory:
        """The store that these commits made: an older image, or a clone."""
        memory = cls()
        for moment, change in log:
            memory.commit((change,), moment)
        return memory

    def commit(self, changes: Sequence[Change], now: float) -> None:
        """Make one set durable."""
        for change in changes:
            kept = _copied(change)
            self.log.append((now, kept))
            self._apply(kept, now)

    def is_committed(self, peer: KmeName, batch: BatchId) -> bool:
        """As the sender's ``Commits`` port says."""
        return (peer, batch) in self.sent

    def free_keys(self) -> KeySet:
        """Traffic keys that this end made and that are neither offered, delivered nor void."""
        free = KeySet()
        for row in self.sent.values():
            if row.batch.context.purpose:
                free.add(row.left.ranges())
        for offered in self.offered.values():
            free.remove(offered.keys)
        return free

    def holds(self, sender: KmeName, keys: Iterable[KeyRange]) -> bool:
        """Whether this end, as receiver, holds all of these keys."""
        return all(
            (row := self.received.get((sender, one.batch))) is not None and row.left.contains((one,))
            for one in keys
        )

    # ── applying ────────────────────────────────────────────────────────────────────────────────
    def _apply(self, change: Change, now: float) -> None:
        if isinstance(change, c.LinkChange):
            self.links.apply(change)
        elif isinstance(change, c.BatchChange):
            self._batch_change(change, now)
        elif isinstance(change, c.PeerChange):
            self._peer_change(change)
        elif isinstance(change, c.KeyChange):
            self._key_change(change)
        elif isinstance(change, c.RealmAccepted):
            self.realms = [*self.realms[-1:], (now, change.data)]
        else:
            self.rollback = change.code if isinstance(change, c.RollbackFound) else None

    def _batch_change(self, change: c.BatchChange, now: float) -> None:
        match change:
            case c.BatchSent():
                self._sent(change, now)
            case c.BatchReceived(batch, _, _):
                row = _ReceivedRow(batch, _all_keys(batch), now, change)
                self.received[batch.peer, batch.batch] = row
            case c.BatchAnswered(sender, batch_id, ok):
                self._answered(sender, batch_id, ok=ok)
            case c.BatchDropped(Role.SENDER, peer, batch_id):
                self.sent.pop((peer, batch_id), None)
            case c.BatchDropped(_, peer, batch_id):
                self.received[peer, batch_id].left = KeySet()
            case c.TombstonesDropped():
                self._tombstones(change)

    def _sent(self, change: c.BatchSent, now: float) -> None:
        batch = change.batch
        self.sent[batch.peer, batch.batch] = _Row(batch, _all_keys(batch), now)
        self.epochs[batch.peer] = max(self.epochs.get(batch.peer, 0), change.receiver_epoch)
        self.incarnations[batch.peer] = change.receiver_incarnation

    def _answered(self, sender: KmeName, batch_id: BatchId, *, ok: bool) -> None:
        row = self.received[sender, batch_id]
        if row.answer is None:
            row.answer = ok
            if not ok:
                row.left = KeySet()

    def _tombstones(self, change: c.TombstonesDropped) -> None:
        key = (change.sender, change.incarnation)
        if change.counter is None:
            self.marks.pop(key, None)
            return
        self.marks[key] = change.counter
        for name, batch_id in list(self.received):
            past = batch_id.incarnation == change.incarnation and batch_id.counter <= change.counter
            if name == change.sender and past:
                del self.received[name, batch_id]

    def _peer_change(self, change: c.PeerChange) -> None:
        match change:
            case c.RootKept(role, peer, batch):
                self.roots[role, peer, batch] = change
            case c.RootDropped(role, peer, batch):
                self.roots.pop((role, peer, batch), None)
            case c.ControlQueued(request=request):
                self.queued[request] = change
            case c.ControlDone(_, request):
                self.queued.pop(request, None)
            case c.RevocationCarriedOut():
                self.revocations.append(change)

    def _key_change(self, change: c.KeyChange) -> None:
        match change:
            case c.KeysOffered(request=request):
                self.offered[request] = change
            case c.KeysAssigned(request=request):
                self.assigned[request] = change
            case c.KeysDelivered(role, peer, keys):
                self.delivered.append(change)
                if role is Role.SENDER:
                    self._erase(role, peer, keys)
            case c.KeysVoided(role, peer, keys):
                self._erase(role, peer, keys)
            case c.AllKeysVoided(role, peer):
                for row in self._rows(role, peer):
                    row.left = KeySet()

    def _rows(self, role: Role, peer: KmeName) -> list[_Row]:
        rows = self.sent if role is Role.SENDER else self.received
        return [row for (name, _), row in rows.items() if name == peer]

    def _erase(self, role: Role, peer: KmeName, keys: Iterable[KeyRange]) -> None:
        for row in self._rows(role, peer):
            row.left.remove(keys)

    # ── loading ─────────────────────────────────────────────────────────────────────────────────
    def load(self, links: dict[HubName, LinkId], now: float) -> KmeState:
        """What the machines get at a start."""
        frozen = {hub for hub, link_id in links.items() if link_id in self.links.frozen}
        return KmeState(
            realm=self._realm(now),
            links=links,
            frozen_by_rollback=frozenset(frozen),
            rollback_found=self.rollback,
            received=tuple(self._received_row(row) for row in self.received.values()),
            counter_marks=dict(self.marks),
            receiver_epochs=dict(self.epochs),
            peer_messages=Stored(
                roots=tuple(_copied_root(root) for root in self.roots.values()),
                queued=tuple(self.queued.values()),
                revocations=tuple(self.revocations),
                receivers=tuple(self.incarnations.items()),
                offered=tuple(self._still_offered()),
                held=tuple(self._held()),
                assigned=tuple(self.assigned.values()),
            ),
        )

    def _realm(self, now: float) -> HeldRealm | None:
        if not self.realms:
            return None
        moment, data = self.realms[-1]
        if len(self.realms) == 1:
            return HeldRealm(data, now - moment)
        before, previous = self.realms[0]
        return HeldRealm(data, now - moment, previous, now - before)

    def _received_row(self, row: _ReceivedRow) -> ReceivedBatch:
        received = row.received
        expires = row.committed_at + row.batch.context.lifetime + limits.LIFETIME_MARGIN_SECONDS
        return ReceivedBatch(row.batch.peer, received.confirmation, received.through, row.answer, expires)

    def _still_offered(self) -> Iterable[c.KeysOffered]:
        for offered in self.offered.values():
            left = KeySet()
            for row in self._rows(Role.SENDER, offered.peer):
                left.add(row.left.common(offered.keys).ranges())
            if left:
                yield replace(offered, keys=left.ranges())

    def _held(self) -> Iterable[KeysHeld]:
        for (sender, batch), row in self.received.items():
            if row.left and row.batch.context.purpose:
                yield KeysHeld(sender, batch, row.left.ranges(), answered=bool(row.answer))


def _all_keys(batch: c.Batch) -> KeySet:
    return KeySet((KeyRange(batch.batch, 0, batch.context.keys),))


def _copied(change: Change) -> Change:
    """The same change with key material of its own."""
    match change:
        case c.BatchSent(batch) | c.BatchReceived(batch):
            return replace(change, batch=replace(batch, keys=Secret(batch.keys.expose())))
        case c.RootKept():
            return _copied_root(change)
        case _:
            return change


def _copied_root(root: c.RootKept) -> c.RootKept:
    return replace(root, root=Secret(root.root.expose()))
