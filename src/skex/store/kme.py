"""A KME's store: makes whole sets of changes durable, and hands back at a start what machines need.

Every change means here what ``protocol.changes`` says; what the protocol's machines never do, such as
delivering a key twice, is refused as a bug and leaves nothing of the sets that it came with. Reading
and writing happen on the store's one thread; only ``is_committed`` may be asked from another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from skex.base import codes
from skex.base.errors import LocalBug
from skex.base.ids import BatchId, HubName, KmeName, RealmName
from skex.base.secret import Secret
from skex.keys.history import BatchHistory
from skex.protocol import changes as c
from skex.protocol.changes import Change, Role
from skex.protocol.kme import KmeState
from skex.protocol.peer import Stored
from skex.protocol.realm import HeldRealm
from skex.store.assignments import Assignments
from skex.store.batches import Batches, KeptBatch
from skex.store.benches import Benches, KeptEvidence
from skex.store.database import Database, StoreKind
from skex.store.histories import Histories
from skex.store.moments import Boot, Moments, Wall
from skex.store.opened import OpenedStore, create, open_sealed
from skex.store.peers import Peers
from skex.store.sealing import Entropy, Sealer
from skex.wire.peer import KeyRange
from skex.wire.realm import Realm


class KmeStore(OpenedStore):
    """An open KME's store. ``wall`` is its port to the wall clock; ``now`` the machines' boot-time clock."""

    def __init__(self, database: Database, sealer: Sealer, wall: Wall, boot: Boot | None = None) -> None:
        super().__init__(database, sealer)
        self._wall = wall
        self._moments = Moments(database, boot)
        self._batches = Batches(database, sealer)
        self._assignments = Assignments(database, self._batches)
        self._peers = Peers(database, sealer)
        self._histories = Histories(database)
        self._benches = Benches(database, sealer)
        self._sent = self._batches.sent_names()
        self._resent: dict[tuple[KmeName, BatchId], bool] = {}

    @classmethod
    def create(
        cls,
        path: str,
        master: Secret,
        entropy: Entropy,
        wall: Wall,
        *,
        name: KmeName,
        realm: RealmName,
        vfs: str | None = None,
    ) -> KmeStore:
        """A new store, readable by its owner only; ``path`` may be ``database.IN_MEMORY``.

        ``master`` has 32 bytes and may be wiped afterwards. Raises ``Refused`` (store-exists),
        ``StoreFault`` (store-*).
        """
        created = wall()
        facts = {"kme": name, "realm": realm, "created": str(created)}
        database, sealer = create(
            path,
            StoreKind.KME,
            master,
            entropy,
            facts,
            fill=lambda fresh: Moments.begin(fresh, created),
            vfs=vfs,
        )
        return cls(database, sealer, wall)

    @classmethod
    def open(
        cls,
        path: str,
        master: Secret,
        entropy: Entropy,
        wall: Wall,
        *,
        boot: Boot | None = None,
        vfs: str | None = None,
    ) -> KmeStore:
        """An existing store, migrated to this version.

        A daemon gives its boot-time clock: while it runs everything grows old though the wall clock is
        set back. Raises ``StoreFault``: store-wrong-key, store-newer, store-foreign, store-corrupt,
        store-locked, store-read-only, store-full, store-io. Nothing is damaged then.
        """
        database, sealer = open_sealed(path, StoreKind.KME, master, entropy, vfs=vfs)
        with database.closed_on_error():
            return cls(database, sealer, wall, boot)

    def _reseal(self, new: Sealer) -> None:
        super()._reseal(new)
        self._peers.reseal(new)
        self._batches.reseal(new)
        self._benches.reseal(new)

    # ── committing ──────────────────────────────────────────────────────────────────────────────
    def commit(self, sets: Sequence[Sequence[Change]]) -> None:
        """Make all sets durable, in their order, in one transaction; return once they are.

        Raises ``LocalBug`` for a change that breaks a rule, with nothing of any set kept and the store
        as before; ``StoreFault`` when the file fails, after which it must be opened anew.
        """
        self._resent.clear()
        with self._database.transaction():
            moment = self._moments.keep(self._wall())
            for changes in sets:
                for change in changes:
                    self._apply(change, moment)
            self._batches.settle()
            self._keep_witness()
        for name, is_sent in self._resent.items():
            (self._sent.add if is_sent else self._sent.discard)(name)

    def is_committed(self, peer: KmeName, batch: BatchId) -> bool:
        """Whether ``BatchSent`` is durable for a batch that was not dropped. From any thread, at once."""
        return (peer, batch) in self._sent

    def _apply(self, change: Change, moment: int) -> None:
        if isinstance(change, c.LinkChange):
            self._links.apply(change)
        elif isinstance(change, c.BatchChange):
            self._batch_change(change, moment)
        elif isinstance(change, c.PeerChange):
            self._peers.apply(change)
        elif isinstance(change, c.KeyChange):
            self._key_change(change, moment)
        elif isinstance(change, c.BenchChange):
            self._benches.apply(change, moment)
        elif isinstance(change, c.RealmAccepted):
            self._accept_realm(change, moment)
        else:
            self._rollback_change(change)

    def _batch_change(self, change: c.BatchChange, moment: int) -> None:
        match change:
            case c.BatchSent(batch):
                if self._batches.sent(change, moment):
                    self._peers.confirmed(change)
                    self._resent[batch.peer, batch.batch] = True
            case c.BatchReceived():
                self._batches.received(change, moment)
            case c.BatchAnswered(sender, name, ok):
                if self._batches.answered(change) and not ok:
                    self._drop(Role.RECEIVER, sender, name)
            case c.BatchDropped(role, peer, name):
                self._drop(role, peer, name)
            case c.TombstonesDropped():
                self._drop_tombstones(change)
            case _:
                assert_never(change)

    def _drop(self, role: Role, peer: KmeName, name: BatchId) -> None:
        """Erase what is left of a batch; at its sender nothing needs the row any more."""
        row = self._batches.find(role, peer, name)
        if row is None:
            return
        self._assignments.erase(row, row.left)
        if role is Role.SENDER:
            self._batches.delete(row)
            self._resent[peer, name] = False

    def _drop_tombstones(self, change: c.TombstonesDropped) -> None:
        if change.counter is not None:
            for row in self._batches.past(change):
                self._assignments.erase(row, row.left)
                self._batches.delete(row)
        self._batches.mark(change)

    def _key_change(self, change: c.KeyChange, moment: int) -> None:
        match change:
            case c.KeysOffered():
                self._assignments.offered(change)
            case c.KeysAssigned():
                self._assignments.assigned(change)
            case c.KeysDelivered():
                self._assignments.delivered(change)
                self._histories.delivered(change, moment)
            case c.KeysVoided(role, peer, keys):
                self._assignments.erase_keys(role, peer, keys)
            case c.AllKeysVoided(role, peer):
                for row in self._batches.with_keys(role, peer):
                    self._assignments.erase(row, row.left)
            case c.KeysRevoked():
                self._histories.revoked(change, moment)
            case c.KeysSuspended():
                self._histories.suspended(change, moment)
            case c.KeysResumed():
                self._histories.resumed(change)
            case _:
                assert_never(change)

    def _accept_realm(self, change: c.RealmAccepted, moment: int) -> None:
        """Kits that renew the epoch in force renew its age; the one before stays what it was."""
        ((current,),) = self._database.execute("SELECT max(epoch) FROM realm")
        if current is not None and change.epoch < current:
            raise LocalBug(codes.BAD_STATE, "an epoch below the one in force")
        self._database.execute(
            "INSERT INTO realm (epoch, data, accepted) VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
            " SET data = excluded.data, accepted = excluded.accepted",
            (change.epoch, change.data, moment),
        )
        self._database.execute(
            "DELETE FROM realm WHERE epoch NOT IN (SELECT epoch FROM realm ORDER BY epoch DESC LIMIT 2)"
        )

    def _rollback_change(self, change: c.RollbackChange) -> None:
        match change:
            case c.RollbackFound(code):
                self._database.execute(
                    "INSERT INTO rollback (id, code) VALUES (1, ?)"
                    " ON CONFLICT DO UPDATE SET code = excluded.code",
                    (code,),
                )
            case c.RollbackSettled():
                self._database.execute("DELETE FROM rollback")
            case _:
                assert_never(change)

    # ── at a start ──────────────────────────────────────────────────────────────────────────────
    def load(self, now: float) -> KmeState:
        """What the machines start with."""
        moment = self._moments.at(self._wall())
        offset = now - moment
        found = self._database.execute("SELECT code FROM rollback")
        return KmeState(
            realm=self._held_realm(moment),
            links=self._links.of_hubs(),
            frozen_by_rollback=self._links.frozen(codes.ROLLBACK_FOUND.name),
            rollback_found=found[0][0] if found else None,
            received=self._batches.received_rows(offset),
            counter_marks=self._batches.counter_marks(),
            receiver_epochs=self._peers.receiver_epochs(),
            peer_messages=Stored(
                roots=self._peers.roots(),
                queued=self._peers.queued(),
                revocations=self._peers.revocations(),
                receivers=self._peers.receivers(),
                offered=self._assignments.still_offered(),
                held=self._batches.held(),
                assigned=self._assignments.all_assigned(),
            ),
            benched=self._benches.stored(moment),
        )

    def held_realm(self) -> HeldRealm | None:
        """The realm files alone, as ``load`` hands them back."""
        return self._held_realm(self._moments.at(self._wall()))

    def _held_realm(self, moment: int) -> HeldRealm | None:
        rows = self._database.execute("SELECT data, accepted FROM realm ORDER BY epoch DESC")
        if not rows:
            return None
        (data, accepted), *before = rows
        if not before:
            return HeldRealm(data, float(moment - accepted))
        ((previous, previous_accepted),) = before
        return HeldRealm(data, float(moment - accepted), previous, float(moment - previous_accepted))

    def evidence(self, hub: HubName | None = None) -> tuple[KeptEvidence, ...]:
        """What shows that hubs, or one of them, did wrong; the newest first."""
        return self._benches.evidence(hub)

    # ── backups ─────────────────────────────────────────────────────────────────────────────────
    def trusted_realm(self) -> bytes | None:
        """The newest realm file that was ever in force, whatever its age."""
        rows = self._database.execute("SELECT data FROM realm ORDER BY epoch DESC LIMIT 1")
        return bytes(rows[0][0]) if rows else None

    def bring_back_realm(self, data: bytes) -> None:
        """Take in, in a new store, the realm file of a backup: past its age, so that it vouches for nothing.

        New kits must renew it, or bring one that may follow it.
        """
        realm = Realm.from_bytes(data)
        with self._database.transaction():
            accepted = self._moments.keep(self._wall()) - realm.max_age
            self._database.execute(
                "INSERT INTO realm (epoch, data, accepted) VALUES (?, ?, ?)", (realm.epoch, data, accepted)
            )

    # ── keys ────────────────────────────────────────────────────────────────────────────────────
    def kept(self, now: float) -> tuple[KeptBatch, ...]:
        """Every traffic batch, of both roles, of which keys are left; in the order of acceptance."""
        return self._batches.kept(now - self._moments.at(self._wall()))

    def read_keys(self, role: Role, peer: KmeName, keys: Sequence[KeyRange]) -> tuple[Secret, ...]:
        """The bytes of these keys, one secret each, in the order of the ranges.

        To be read before ``KeysDelivered`` is committed and given out only afterwards: that commit
        erases what everybody took. Raises ``Refused`` (key-not-held) if one of them is not left.
        """
        return self._batches.read(role, peer, keys)

    def emptied(self) -> tuple[c.BatchDropped, ...]:
        """What to commit now and then: batches of this KME, past their lifetime, without a key left.

        Until then their rows answer CONFIRMs that come again. Batches with keys are ended by who
        counts their lifetime on the boot-time clock.
        """
        return self._batches.emptied(self._moments.at(self._wall()))

    # ── what became of keys ─────────────────────────────────────────────────────────────────────
    def suspensions(self) -> tuple[c.KeysSuspended, ...]:
        """What rests, for a start."""
        return self._histories.suspensions()

    def histories(self, peer: KmeName | None = None) -> tuple[BatchHistory, ...]:
        """Every traffic batch of which there is a row, newest first; without its ``promises``."""
        return self._histories.batches(peer)

    def history(self, batch: BatchId) -> tuple[BatchHistory, ...]:
        """A traffic batch as this KME keeps it, if there is a row of it."""
        return self._histories.batch(batch)
