"""Batches of a KME: their rows, the sealed keys beside them, tombstones and counter marks.

One row for a batch and one for its keys, never one for a key. Bits say which keys are left and which
are promised. Erased keys become zeros and what is left is sealed anew, once for each transaction; when
no key is left the sealed row goes. It must not know for whom a key is (``assignments``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from skex.base import codes, limits
from skex.base.errors import LocalBug, Refused, StoreFault
from skex.base.ids import BatchId, HubName, Incarnation, KmeName, SaeId
from skex.base.secret import Secret
from skex.protocol.assignee import KeysHeld
from skex.protocol.changes import (
    Batch,
    BatchAnswered,
    BatchDropped,
    BatchReceived,
    BatchSent,
    Role,
    TombstonesDropped,
)
from skex.protocol.holding import ReceivedBatch
from skex.protocol.keysets import KeySet
from skex.store import encoding
from skex.store.database import Database, Row, Value
from skex.store.sealing import Place, Sealer
from skex.wire.codec import encode
from skex.wire.context import CompactContext, Purpose
from skex.wire.messages import Confirmation
from skex.wire.peer import KeyRange

_SENT: Final = encoding.ROLES[Role.SENDER]
_RECEIVED: Final = encoding.ROLES[Role.RECEIVER]


@dataclass(frozen=True, slots=True)
class KeptBatch:
    """A traffic batch of which keys are left; sets of keys are ascending ranges that do not touch.

    ``batch.keys`` is empty: bytes are read when they are needed. ``expires_at`` is on the clock of
    ``now``: when the lifetime is over (at a receiver, with its margin). ``free`` are the keys of
    ``left`` that were promised to nobody. ``taken``: slaves that took keys which other slaves of the
    same assignment did not take yet.
    """

    role: Role
    batch: Batch
    expires_at: float
    left: tuple[KeyRange, ...]
    free: tuple[KeyRange, ...]
    taken: tuple[tuple[SaeId, tuple[KeyRange, ...]], ...]


@dataclass(slots=True)
class KeyRow:
    """What changes of one batch: its keys, a bit for each."""

    id: int
    keys: int
    left: int
    assigned: int
    taken: dict[SaeId, int]


_KEY_ROW: Final = "SELECT id, context, left_keys, assigned, taken FROM batch"


def _key_row(row: Row) -> KeyRow:
    number, context, left, assigned, taken = row
    return KeyRow(
        number,
        encoding.read_context(context).keys,
        encoding.read_bits(left),
        encoding.read_bits(assigned),
        encoding.read_taken(taken),
    )


def _place(role: int, peer: str, batch: bytes) -> Place:
    return Place("batch_keys", (role, peer, batch), "sealed")


def _ranges(batch: BatchId, bits: int) -> tuple[KeyRange, ...]:
    return KeySet.of_bits(batch, bits).ranges()


class Batches:
    """The tables ``batch``, ``batch_keys`` and ``counter_mark``; changes are parts of a transaction."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._to_seal_anew: set[int] = set()

    def settle(self) -> None:
        """Erase, within the sealed bytes, the keys that this transaction took out; its last step.

        What one that failed has left to do is done too: it seals what is left once more.
        """
        for number in self._to_seal_anew:
            self._seal_anew(number)
        self._to_seal_anew.clear()

    def reseal(self, new: Sealer) -> None:
        """Seal the keys of every batch with another sealer."""
        for number, *identity, sealed in self._database.execute(
            "SELECT id, role, peer, batch.batch, sealed FROM batch JOIN batch_keys ON batch_keys.batch = id"
        ):
            again = self._sealer.resealed(_place(*identity), sealed, new)
            self._database.execute("UPDATE batch_keys SET sealed = ? WHERE batch = ?", (again, number))

    # ── new batches ─────────────────────────────────────────────────────────────────────────────
    def sent(self, change: BatchSent, moment: int) -> bool:
        """Keep a batch that this KME made; False if it is kept already, which changes nothing."""
        batch = change.batch
        # The keys count from their making, at most this long before: a restart must not add to that.
        expires = moment + batch.context.lifetime - limits.ESTABLISH_SECONDS
        return self._insert(_SENT, batch, expires, (None,) * 5)

    def received(self, change: BatchReceived, moment: int) -> None:
        """Keep an accepted batch and its CONFIRM.

        Raises ``LocalBug`` (bug-state) for an id that was accepted before.
        """
        batch, confirmation = change.batch, change.confirmation
        if self._is_past(batch.peer, batch.batch):
            raise LocalBug(codes.BAD_STATE, "a batch whose tombstone is past was accepted again")
        expires = moment + batch.context.lifetime + limits.LIFETIME_MARGIN_SECONDS
        stated: tuple[Value, ...] = (
            confirmation.epoch,
            confirmation.incarnation,
            encode(confirmation.claim.to_value()),
            confirmation.mac,
            encoding.write_names(change.through),
        )
        if not self._insert(_RECEIVED, batch, expires, stated):
            rows = self._database.execute(
                "SELECT 1 FROM batch WHERE role = ? AND peer = ? AND batch = ? AND mac = ?",
                (_RECEIVED, batch.peer, batch.batch.to_bytes(), confirmation.mac),
            )
            if not rows:
                raise LocalBug(codes.BAD_STATE, "another batch was accepted under the same id")

    def _insert(self, role: int, batch: Batch, expires: int, stated: Sequence[Value]) -> bool:
        context = batch.context
        # A control batch's one key is its root: ``RootKept`` keeps that, and ``RootDropped`` erases it.
        kept = context.keys if context.purpose is Purpose.TRAFFIC else 0
        name = batch.batch.to_bytes()
        rows = self._database.execute(
            "INSERT INTO batch (role, peer, batch, context, hubs, claim, expires, left_keys, assigned,"
            " epoch, incarnation, own_claim, mac, through)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (role, peer, batch) DO NOTHING RETURNING id",
            (
                role,
                batch.peer,
                name,
                encode(context.to_value()),
                encoding.write_names(batch.hubs),
                encode(batch.claim.to_value()),
                expires,
                encoding.write_bits((1 << kept) - 1, context.keys),
                encoding.write_bits(0, context.keys),
                *stated,
            ),
        )
        if rows and kept:
            sealed = self._sealer.seal(_place(role, batch.peer, name), batch.keys.expose())
            self._database.execute(
                "INSERT INTO batch_keys (batch, sealed) VALUES (?, ?)", (rows[0][0], sealed)
            )
        return bool(rows)

    def _is_past(self, sender: KmeName, batch: BatchId) -> bool:
        rows = self._database.execute(
            "SELECT 1 FROM counter_mark WHERE sender = ? AND incarnation = ? AND counter >= ?",
            (sender, batch.incarnation, encoding.write_counter(batch.counter)),
        )
        return bool(rows)

    # ── what becomes of them ────────────────────────────────────────────────────────────────────
    def find(self, role: Role, peer: KmeName, batch: BatchId) -> KeyRow | None:
        """One batch, if there is a row of it."""
        rows = self._database.execute(
            f"{_KEY_ROW} WHERE role = ? AND peer = ? AND batch = ?",
            (encoding.ROLES[role], peer, batch.to_bytes()),
        )
        return _key_row(rows[0]) if rows else None

    def with_keys(self, role: Role, peer: KmeName) -> list[KeyRow]:
        """The batches of a pair of which keys are left."""
        rows = self._database.execute(
            f"{_KEY_ROW} JOIN batch_keys ON batch_keys.batch = id WHERE role = ? AND peer = ?",
            (encoding.ROLES[role], peer),
        )
        return [_key_row(row) for row in rows]

    def past(self, change: TombstonesDropped) -> list[KeyRow]:
        """The received batches that a counter mark is about to replace."""
        counter = change.counter or 0
        rows = self._database.execute(
            f"{_KEY_ROW} WHERE role = ? AND peer = ? AND batch BETWEEN ? AND ?",
            (
                _RECEIVED,
                change.sender,
                BatchId(change.incarnation, 0).to_bytes(),
                BatchId(change.incarnation, counter).to_bytes(),
            ),
        )
        return [_key_row(row) for row in rows]

    def answered(self, change: BatchAnswered) -> bool:
        """Keep the first answer; whether this is it. Raises ``LocalBug`` for an unknown batch."""
        row = (_RECEIVED, change.sender, change.batch.to_bytes())
        rows = self._database.execute(
            "SELECT answer FROM batch WHERE role = ? AND peer = ? AND batch = ?", row
        )
        if not rows:
            raise LocalBug(codes.BAD_STATE, "an answer for a batch that is not held")
        if rows[0][0] is not None:
            return False
        self._database.execute(
            "UPDATE batch SET answer = ? WHERE role = ? AND peer = ? AND batch = ?", (int(change.ok), *row)
        )
        return True

    def save(self, row: KeyRow) -> None:
        """Write back which keys are left, promised and taken."""
        self._database.execute(
            "UPDATE batch SET left_keys = ?, assigned = ?, taken = ? WHERE id = ?",
            (
                encoding.write_bits(row.left, row.keys),
                encoding.write_bits(row.assigned, row.keys),
                encoding.write_taken(row.taken, row.keys),
                row.id,
            ),
        )

    def erase(self, row: KeyRow, bits: int) -> int:
        """Take keys out; which of them were still there. ``settle`` erases their bytes."""
        gone = row.left & bits
        if gone:
            row.left &= ~gone
            row.taken = {sae: took & ~gone for sae, took in row.taken.items()}
            self.save(row)
            self._to_seal_anew.add(row.id)
        return gone

    def delete(self, row: KeyRow) -> None:
        """Remove the row itself; its keys are erased before."""
        self._database.execute("DELETE FROM batch WHERE id = ?", (row.id,))

    def mark(self, change: TombstonesDropped) -> None:
        """Raise the counter mark of an incarnation, or drop it."""
        if change.counter is None:
            self._database.execute(
                "DELETE FROM counter_mark WHERE sender = ? AND incarnation = ?",
                (change.sender, change.incarnation),
            )
        else:
            self._database.execute(
                "INSERT INTO counter_mark (sender, incarnation, counter) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET counter = max(counter, excluded.counter)",
                (change.sender, change.incarnation, encoding.write_counter(change.counter)),
            )

    def _seal_anew(self, number: int) -> None:
        rows = self._database.execute(
            "SELECT role, peer, batch.batch, context, left_keys, sealed FROM batch"
            " JOIN batch_keys ON batch_keys.batch = batch.id WHERE batch.id = ?",
            (number,),
        )
        if not rows:
            return  # the batch itself went later in the transaction, and its keys with it
        role, peer, batch, context, left, sealed = rows[0]
        bits = encoding.read_bits(left)
        if not bits:
            self._database.execute("DELETE FROM batch_keys WHERE batch = ?", (number,))
            return
        place = _place(role, peer, batch)
        keys = self._open(place, sealed, encoding.read_context(context))
        size = encoding.read_context(context).key_bytes
        data = bytearray(keys.expose())
        for index in range(len(data) // size):
            if not bits >> index & 1:
                data[index * size : (index + 1) * size] = bytes(size)
        anew = self._sealer.seal(place, bytes(data))
        data[:] = bytes(len(data))
        keys.wipe()
        self._database.execute("UPDATE batch_keys SET sealed = ? WHERE batch = ?", (anew, number))

    def _open(self, place: Place, sealed: bytes, context: CompactContext) -> Secret:
        keys = self._sealer.open(place, sealed)
        if len(keys) != context.keys * context.key_bytes:
            raise StoreFault(codes.STORE_CORRUPT, f"{len(keys)} bytes of keys")
        return keys

    # ── reading ─────────────────────────────────────────────────────────────────────────────────
    def read(self, role: Role, peer: KmeName, keys: Iterable[KeyRange]) -> tuple[Secret, ...]:
        """The bytes of keys, one secret each, in order. Raises ``Refused`` (key-not-held)."""
        whole: dict[BatchId, tuple[bytes, int, int]] = {}
        found: list[Secret] = []
        for one in keys:
            if one.batch not in whole:
                whole[one.batch] = self._read_whole(role, peer, one.batch)
            data, size, left = whole[one.batch]
            for index in one.indexes:
                if not left >> index & 1:
                    raise Refused(codes.KEY_NOT_HELD)
                found.append(Secret(data[index * size : (index + 1) * size]))
        return tuple(found)

    def _read_whole(self, role: Role, peer: KmeName, batch: BatchId) -> tuple[bytes, int, int]:
        name = batch.to_bytes()
        rows = self._database.execute(
            "SELECT context, left_keys, sealed FROM batch JOIN batch_keys ON batch_keys.batch = batch.id"
            " WHERE role = ? AND peer = ? AND batch.batch = ?",
            (encoding.ROLES[role], peer, name),
        )
        if not rows:
            raise Refused(codes.KEY_NOT_HELD)
        context = encoding.read_context(rows[0][0])
        secret = self._open(_place(encoding.ROLES[role], peer, name), rows[0][2], context)
        data = secret.expose()
        secret.wipe()
        return data, context.key_bytes, encoding.read_bits(rows[0][1])

    def sent_names(self) -> set[tuple[KmeName, BatchId]]:
        """Every batch that this KME made and keeps a row of."""
        rows = self._database.execute("SELECT peer, batch FROM batch WHERE role = ?", (_SENT,))
        return {(KmeName(peer), BatchId.from_bytes(batch)) for peer, batch in rows}

    def received_rows(self, offset: float) -> tuple[ReceivedBatch, ...]:
        """Every tombstone; ``offset`` turns the store's moments into the machines' clock."""
        rows = self._database.execute(
            "SELECT peer, batch, epoch, incarnation, own_claim, mac, through, answer, expires FROM batch"
            " WHERE role = ? ORDER BY id",
            (_RECEIVED,),
        )
        return tuple(
            ReceivedBatch(
                KmeName(peer),
                Confirmation(
                    BatchId.from_bytes(batch),
                    epoch,
                    Incarnation(incarnation),
                    encoding.read_claim(claim),
                    mac,
                ),
                encoding.read_hubs(through),
                None if answer is None else bool(answer),
                expires + offset,
            )
            for peer, batch, epoch, incarnation, claim, mac, through, answer, expires in rows
        )

    def counter_marks(self) -> dict[tuple[KmeName, Incarnation], int]:
        """The counters up to which each incarnation's batches are refused."""
        rows = self._database.execute("SELECT sender, incarnation, counter FROM counter_mark")
        return {
            (KmeName(sender), Incarnation(incarnation)): int.from_bytes(counter, "big")
            for sender, incarnation, counter in rows
        }

    def held(self) -> tuple[KeysHeld, ...]:
        """What is left of received batches, assigned or not."""
        rows = self._database.execute(
            "SELECT peer, batch.batch, left_keys, answer FROM batch"
            " JOIN batch_keys ON batch_keys.batch = batch.id WHERE role = ? ORDER BY id",
            (_RECEIVED,),
        )
        found = []
        for peer, name, left, answer in rows:
            batch = BatchId.from_bytes(name)
            keys = _ranges(batch, encoding.read_bits(left))
            found.append(KeysHeld(KmeName(peer), batch, keys, answered=bool(answer)))
        return tuple(found)

    def kept(self, offset: float) -> tuple[KeptBatch, ...]:
        """Every batch of which keys are left; ``offset`` as above."""
        rows = self._database.execute(
            "SELECT role, peer, batch.batch, context, hubs, claim, expires, left_keys, assigned, taken"
            " FROM batch JOIN batch_keys ON batch_keys.batch = batch.id ORDER BY id"
        )
        return tuple(_kept(row, offset) for row in rows)

    def emptied(self, moment: int) -> tuple[BatchDropped, ...]:
        """Batches that this KME made, of which no key is left and whose lifetime is over."""
        rows = self._database.execute(
            "SELECT peer, batch FROM batch WHERE role = ? AND expires <= ?"
            " AND id NOT IN (SELECT batch FROM batch_keys) ORDER BY id",
            (_SENT, moment),
        )
        return tuple(
            BatchDropped(Role.SENDER, KmeName(peer), BatchId.from_bytes(batch)) for peer, batch in rows
        )


def _kept(row: Row, offset: float) -> KeptBatch:
    role, peer, name, context, hubs, claim, expires, left, assigned, taken = row
    batch = BatchId.from_bytes(name)
    bits = encoding.read_bits(left)
    names: tuple[HubName, ...] = encoding.read_hubs(hubs)
    return KeptBatch(
        encoding.ROLE_OF[role],
        Batch(
            KmeName(peer),
            batch,
            encoding.read_context(context),
            names,
            encoding.read_claim(claim),
            Secret(b""),
        ),
        expires + offset,
        _ranges(batch, bits),
        _ranges(batch, bits & ~encoding.read_bits(assigned)),
        tuple((sae, _ranges(batch, took)) for sae, took in encoding.read_taken(taken).items()),
    )
