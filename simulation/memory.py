"""Stores of simulated machines: what was committed survives, whole sets at a time.

A store is the list of its changes, so that an older image of it is a shorter list. Key material is
copied when it is committed, because machines wipe theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import (
    BatchId,
    Direction,
    HubName,
    Incarnation,
    KmeName,
    LinkId,
    RequestId,
    SaeId,
)
from skex.base.secret import Secret
from skex.protocol import changes as c
from skex.protocol.assignee import KeysHeld
from skex.protocol.changes import Change, LinkChange, Role
from skex.protocol.holding import ReceivedBatch
from skex.protocol.keysets import KeySet
from skex.protocol.kme import KmeState
from skex.protocol.peer import Stored
from skex.protocol.realm import HeldRealm
from skex.wire.context import Purpose
from skex.wire.peer import KeyRange
from skex.wire.preface import Marks

NO_MARKS = Marks(0, 0, 0, 0, 0, 0)


class LinkMemory:
    """What either daemon's store keeps of its links."""

    def __init__(self) -> None:
        self.marks: dict[LinkId, Marks] = {}
        self.frozen: dict[LinkId, set[str]] = {}

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
                self.frozen.setdefault(link_id, set()).add(code)


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
    taken: dict[SaeId, KeySet] = field(default_factory=dict)


@dataclass
class _ReceivedRow(_Row):
    """A batch at its receiver; the row stays as a tombstone."""

    received: c.BatchReceived = field(kw_only=True)
    answer: bool | None = None


def _bug(what: str) -> LocalBug:
    return LocalBug(codes.BAD_STATE, what)


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
    queued: dict[tuple[KmeName, RequestId], c.ControlQueued] = field(default_factory=dict)
    revocations: list[c.RevocationCarriedOut] = field(default_factory=list)
    offered: dict[tuple[KmeName, RequestId], c.KeysOffered] = field(default_factory=dict)
    assigned: dict[tuple[KmeName, RequestId], c.KeysAssigned] = field(default_factory=dict)
    promised: dict[tuple[Role, KmeName], KeySet] = field(default_factory=dict)
    delivered: list[c.KeysDelivered] = field(default_factory=list)
    realms: list[tuple[float, c.RealmAccepted]] = field(default_factory=list)
    rollback: str | None = None

    @classmethod
    def replayed(cls, log: Sequence[tuple[float, Change]]) -> KmeMemory:
        """The store that these commits made: an older image, or a clone."""
        memory = cls()
        for moment, change in log:
            memory.commit((change,), moment)
        return memory

    def commit(self, changes: Sequence[Change], now: float) -> None:
        """Make one set durable. Raises ``LocalBug`` for what machines never do; nothing is kept then."""
        before = len(self.log)
        try:
            for change in changes:
                kept = _copied(change)
                self._apply(kept, now)
                self.log.append((now, kept))
        except LocalBug:
            vars(self).update(vars(self.replayed(self.log[:before])))
            raise

    def kept(self) -> dict[tuple[Role, KmeName, BatchId], tuple[c.Batch, KeySet]]:
        """Every batch of which keys are left, and which."""
        rows = {
            **{(Role.SENDER, *name): row for name, row in self.sent.items()},
            **{(Role.RECEIVER, *name): row for name, row in self.received.items()},
        }
        return {name: (row.batch, row.left) for name, row in rows.items() if row.left}

    def is_committed(self, peer: KmeName, batch: BatchId) -> bool:
        """As the sender's ``Commits`` port says."""
        return (peer, batch) in self.sent

    def free_keys(self) -> KeySet:
        """Traffic keys that this end made and that are neither offered, delivered nor void."""
        free = KeySet()
        for row in self.sent.values():
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
            self._accept_realm(change, now)
        else:
            self.rollback = change.code if isinstance(change, c.RollbackFound) else None

    def _batch_change(self, change: c.BatchChange, now: float) -> None:
        match change:
            case c.BatchSent():
                self._sent(change, now)
            case c.BatchReceived():
                self._received(change, now)
            case c.BatchAnswered(sender, batch_id, ok):
                self._answered(sender, batch_id, ok=ok)
            case c.BatchDropped(Role.SENDER, peer, batch_id):
                self.sent.pop((peer, batch_id), None)
            case c.BatchDropped(_, peer, batch_id):
                if (peer, batch_id) in self.received:
                    self.received[peer, batch_id].left = KeySet()
            case c.TombstonesDropped():
                self._tombstones(change)

    def _sent(self, change: c.BatchSent, now: float) -> None:
        batch = change.batch
        if (batch.peer, batch.batch) in self.sent:
            return
        self.sent[batch.peer, batch.batch] = _Row(batch, _all_keys(batch), now)
        self.epochs[batch.peer] = max(self.epochs.get(batch.peer, 0), change.receiver_epoch)
        self.incarnations[batch.peer] = change.receiver_incarnation

    def _received(self, change: c.BatchReceived, now: float) -> None:
        """A batch id is accepted once, also when its tombstone is past."""
        batch = change.batch
        known = self.received.get((batch.peer, batch.batch))
        if batch.batch.counter <= self.marks.get((batch.peer, batch.batch.incarnation), -1):
            raise _bug("the tombstone of this batch is past")
        if known is None:
            row = _ReceivedRow(batch, _all_keys(batch), now, received=change)
            self.received[batch.peer, batch.batch] = row
        elif known.received.confirmation != change.confirmation:
            raise _bug("another batch under the same id")

    def _answered(self, sender: KmeName, batch_id: BatchId, *, ok: bool) -> None:
        row = self.received.get((sender, batch_id))
        if row is None:
            raise _bug("an answer for no batch")
        if row.answer is None:
            row.answer = ok
            if not ok:
                row.left = KeySet()

    def _tombstones(self, change: c.TombstonesDropped) -> None:
        key = (change.sender, change.incarnation)
        if change.counter is None:
            self.marks.pop(key, None)
            return
        self.marks[key] = max(self.marks.get(key, 0), change.counter)
        for name, batch_id in list(self.received):
            past = batch_id.incarnation == change.incarnation and batch_id.counter <= change.counter
            if name == change.sender and past:
                del self.received[name, batch_id]

    def _peer_change(self, change: c.PeerChange) -> None:
        match change:
            case c.RootKept(role, peer, batch, _, sent, received):
                first = self.roots.setdefault((role, peer, batch), change)
                self.roots[role, peer, batch] = replace(
                    first, sent=first.sent or sent, received=first.received or received
                )
            case c.RootDropped(role, peer, batch):
                self.roots.pop((role, peer, batch), None)
            case c.ControlQueued(_, peer, request):
                self.queued.setdefault((peer, request), change)
            case c.ControlDone(peer, request):
                self.queued.pop((peer, request), None)
            case c.RevocationCarriedOut():
                self._revocation(change)

    def _revocation(self, change: c.RevocationCarriedOut) -> None:
        if change in self.revocations:
            return
        self.revocations.append(change)
        of_pair = [one for one in self.revocations if (one.role, one.peer) == (change.role, change.peer)]
        if len(of_pair) > limits.REVOCATIONS_REMEMBERED:
            self.revocations.remove(of_pair[0])

    def _key_change(self, change: c.KeyChange) -> None:
        match change:
            case c.KeysOffered(peer, request, keys):
                if self._is_new(Role.SENDER, peer, self.offered.get((peer, request)), change):
                    self._promise(Role.SENDER, peer, keys)
                    self.offered[peer, request] = change
            case c.KeysAssigned(sender, request, _, keys):
                if self._is_new(Role.RECEIVER, sender, self.assigned.get((sender, request)), change):
                    self._promise(Role.RECEIVER, sender, keys)
                    self.assigned[sender, request] = change
            case c.KeysDelivered():
                self._delivered(change)
            case c.KeysVoided(role, peer, keys):
                self._erase(role, peer, keys)
            case c.AllKeysVoided(role, peer):
                for row in self._rows(role, peer):
                    row.left = KeySet()
            case c.KeysRevoked() | c.KeysSuspended() | c.KeysResumed():
                pass  # what machines start with does not tell it

    def _is_new(
        self,
        role: Role,
        peer: KmeName,
        known: c.KeysOffered | c.KeysAssigned | None,
        change: c.KeysOffered | c.KeysAssigned,
    ) -> bool:
        """Whether nothing is promised under this id; a promise of which no key is left is forgotten."""
        if known is None or not self._is_any_left(role, peer, known.keys):
            return True
        if known != change:
            raise _bug("another assignment under the same id")
        return False

    def _is_any_left(self, role: Role, peer: KmeName, keys: tuple[KeyRange, ...]) -> bool:
        return any(row.left.common(keys) for row in self._rows_of(role, peer, keys).values())

    def _promise(self, role: Role, peer: KmeName, keys: tuple[KeyRange, ...]) -> None:
        """A key is promised once, while it is there."""
        promised = self.promised.setdefault((role, peer), KeySet())
        if promised.common(keys) or not self._has_left(role, peer, keys):
            raise _bug("keys that are not held or promised already")
        promised.add(keys)

    def _has_left(self, role: Role, peer: KmeName, keys: Iterable[KeyRange]) -> bool:
        rows = self._rows_of(role, peer, keys)
        return all(one.batch in rows and rows[one.batch].left.contains((one,)) for one in keys)

    def _delivered(self, change: c.KeysDelivered) -> None:
        """To each SAE once, and to those only whom the keys were assigned to; then they are erased."""
        role, peer, keys, sae = change.role, change.peer, change.keys, change.sae
        if not self._has_left(role, peer, keys):
            raise LocalBug(codes.KEY_DELIVERED_TWICE)
        if role is Role.RECEIVER:
            self._take(peer, keys, sae)
        else:
            self._erase(role, peer, keys)
        self.delivered.append(change)

    def _take(self, peer: KmeName, keys: tuple[KeyRange, ...], sae: SaeId) -> None:
        entitled = KeySet()
        for record in self.assigned.values():
            if record.sender == peer and sae in record.slaves:
                entitled.add(record.keys)
        rows = {one.batch: self.received[peer, one.batch] for one in keys}
        if not entitled.contains(keys) or any(
            row.taken.setdefault(sae, KeySet()).common(keys) for row in rows.values()
        ):
            raise LocalBug(codes.KEY_DELIVERED_TWICE)
        for one in keys:
            rows[one.batch].taken[sae].add((one,))
        for record in self.assigned.values():
            for row in rows.values() if record.sender == peer else ():
                done = row.left.common(record.keys)
                for slave in record.slaves:
                    done = row.taken.get(slave, KeySet()).common(done.ranges())
                row.left.remove(done.ranges())

    def _rows(self, role: Role, peer: KmeName) -> list[_Row]:
        rows = self.sent if role is Role.SENDER else self.received
        return [row for (name, _), row in rows.items() if name == peer]

    def _rows_of(self, role: Role, peer: KmeName, keys: Iterable[KeyRange]) -> dict[BatchId, _Row]:
        """The rows that have some of these keys."""
        rows: Mapping[tuple[KmeName, BatchId], _Row] = self.sent if role is Role.SENDER else self.received
        return {one.batch: rows[peer, one.batch] for one in keys if (peer, one.batch) in rows}

    def _erase(self, role: Role, peer: KmeName, keys: Iterable[KeyRange]) -> None:
        for row in self._rows_of(role, peer, keys).values():
            row.left.remove(keys)

    # ── loading ─────────────────────────────────────────────────────────────────────────────────
    def load(self, links: dict[HubName, LinkId], now: float) -> KmeState:
        """What the machines get at a start."""
        reason = codes.ROLLBACK_FOUND.name
        frozen = {hub for hub, link_id in links.items() if reason in self.links.frozen.get(link_id, ())}
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
                assigned=tuple(self._still_assigned()),
            ),
        )

    def _accept_realm(self, change: c.RealmAccepted, now: float) -> None:
        """Kits that renew the epoch in force renew its age; the one before stays what it was."""
        if self.realms and change.epoch < self.realms[-1][1].epoch:
            raise _bug("an epoch below the one in force")
        older = [one for one in self.realms if one[1].epoch != change.epoch]
        self.realms = [*older[-1:], (now, change)]

    def _realm(self, now: float) -> HeldRealm | None:
        if not self.realms:
            return None
        moment, current = self.realms[-1]
        if len(self.realms) == 1:
            return HeldRealm(current.data, now - moment)
        before, previous = self.realms[0]
        return HeldRealm(current.data, now - moment, previous.data, now - before)

    def _received_row(self, row: _ReceivedRow) -> ReceivedBatch:
        received = row.received
        expires = row.committed_at + row.batch.context.lifetime + limits.LIFETIME_MARGIN_SECONDS
        return ReceivedBatch(row.batch.peer, received.confirmation, received.through, row.answer, expires)

    def _still_offered(self) -> Iterable[c.KeysOffered]:
        for offered in self.offered.values():
            left = KeySet()
            for row in self._rows_of(Role.SENDER, offered.peer, offered.keys).values():
                left.add(row.left.common(offered.keys).ranges())
            if left:
                yield replace(offered, keys=left.ranges())

    def _still_assigned(self) -> Iterable[c.KeysAssigned]:
        for assigned in self.assigned.values():
            if self._is_any_left(Role.RECEIVER, assigned.sender, assigned.keys):
                yield assigned

    def _held(self) -> Iterable[KeysHeld]:
        for (sender, batch), row in self.received.items():
            if row.left:
                yield KeysHeld(sender, batch, row.left.ranges(), answered=bool(row.answer))


def _all_keys(batch: c.Batch) -> KeySet:
    """The keys that may be delivered: of a control batch none, its one key is a root."""
    keys = batch.context.keys if batch.context.purpose is Purpose.TRAFFIC else 0
    return KeySet.of_bits(batch.batch, (1 << keys) - 1)


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
