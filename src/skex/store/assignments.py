"""Keys that are promised to SAEs: offered by this KME, or assigned to SAEs here by a peer.

The last place that sees to it that a key is promised once, goes to those named only, and to each of
them once; a change that would break this is refused as a bug. A record goes when none of its keys is
left. It must not know machines, holds or doors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from skex.base import codes
from skex.base.errors import LocalBug
from skex.base.ids import BatchId, Incarnation, KmeName, RequestId, SaeId
from skex.protocol.changes import KeysAssigned, KeysDelivered, KeysOffered, Role
from skex.protocol.keysets import KeySet
from skex.store import encoding
from skex.store.batches import Batches, KeyRow
from skex.store.database import Database, Value
from skex.wire.peer import KeyRange


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Keys of one batch that belong to one assignment."""

    bits: int
    first: int
    assignment: int
    slaves: tuple[SaeId, ...]


def _span(bits: int) -> tuple[int, int]:
    """The index behind the highest of these keys, and of the lowest."""
    return bits.bit_length(), (bits & -bits).bit_length() - 1


class Assignments:
    """The tables ``assignment`` and ``assigned_range``, and what they say about rows of ``batch``."""

    def __init__(self, database: Database, batches: Batches) -> None:
        self._database = database
        self._batches = batches

    # ── promising ───────────────────────────────────────────────────────────────────────────────
    def offered(self, change: KeysOffered) -> None:
        """Take keys out of the reserve. Raises ``LocalBug`` (bug-state) if they are not in it."""
        self._promise(Role.SENDER, change.peer, None, change)

    def assigned(self, change: KeysAssigned) -> None:
        """Record for whom keys are. Raises ``LocalBug`` (bug-state) if that is recorded already."""
        self._promise(Role.RECEIVER, change.sender, change.incarnation, change)

    def _promise(
        self, role: Role, peer: KmeName, incarnation: Incarnation | None, change: KeysOffered | KeysAssigned
    ) -> None:
        identity: tuple[Value, ...] = (encoding.ROLES[role], peer, change.request)
        content: tuple[Value, ...] = (
            incarnation,
            encoding.write_ranges(change.keys),
            change.master,
            encoding.write_names(change.slaves),
            change.purpose,
            change.lifetime,
        )
        known = self._database.execute(
            "SELECT incarnation, keys, master, slaves, purpose, lifetime FROM assignment"
            " WHERE role = ? AND peer = ? AND request = ?",
            identity,
        )
        if known:
            if known[0] != content:
                raise LocalBug(codes.BAD_STATE, "another assignment under the same id")
            return
        ((number,),) = self._database.execute(
            "INSERT INTO assignment (role, peer, request, incarnation, keys, master, slaves, purpose,"
            " lifetime) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (*identity, *content),
        )
        wanted = KeySet(change.keys)
        for batch in wanted.batches:
            row = self._batches.find(role, peer, batch)
            bits = wanted.bits(batch)
            if row is None or bits & ~row.left or bits & row.assigned:
                raise LocalBug(codes.BAD_STATE, "keys that are not held or promised already")
            row.assigned |= bits
            self._batches.save(row)
            for one in wanted.of_batch(batch):
                self._database.execute(
                    "INSERT INTO assigned_range (batch, first, behind, assignment) VALUES (?, ?, ?, ?)",
                    (row.id, one.first, one.end, number),
                )

    # ── delivering ──────────────────────────────────────────────────────────────────────────────
    def delivered(self, change: KeysDelivered) -> None:
        """Keys go to one SAE. Raises ``LocalBug`` (bug-key-delivered-twice)."""
        wanted = KeySet(change.keys)
        for batch in wanted.batches:
            row = self._batches.find(change.role, change.peer, batch)
            bits = wanted.bits(batch)
            if row is None or bits & ~row.left:
                raise LocalBug(codes.KEY_DELIVERED_TWICE, "not held")
            if change.role is Role.SENDER:
                self.erase(row, bits)
            else:
                self._taken(row, bits, change.sae)

    def _taken(self, row: KeyRow, bits: int, sae: SaeId) -> None:
        """One slave takes keys; those that every slave took are erased."""
        stretches = list(self._stretches(row, bits))
        entitled = 0
        for one in stretches:
            if sae in one.slaves:
                entitled |= one.bits
        if bits & ~entitled or bits & row.taken.get(sae, 0):
            raise LocalBug(codes.KEY_DELIVERED_TWICE, "taken before, or not for this SAE")
        row.taken[sae] = row.taken.get(sae, 0) | bits
        done = 0
        for one in stretches:
            by_all = one.bits & bits
            for slave in one.slaves:
                by_all &= row.taken.get(slave, 0)
            done |= by_all
        if done:
            self.erase(row, done)
        else:
            self._batches.save(row)

    def _stretches(self, row: KeyRow, bits: int) -> Iterator[_Stretch]:
        """The assignments that have one of these keys."""
        rows = self._database.execute(
            "SELECT first, behind, assignment, slaves FROM assigned_range"
            " JOIN assignment ON assignment.id = assignment WHERE batch = ? AND first < ? AND behind > ?",
            (row.id, *_span(bits)),
        )
        for first, behind, assignment, slaves in rows:
            stretch = (1 << behind) - (1 << first)
            yield _Stretch(stretch, first, assignment, encoding.read_saes(slaves))

    # ── erasing ─────────────────────────────────────────────────────────────────────────────────
    def erase(self, row: KeyRow, bits: int) -> None:
        """Take keys out of a batch, and the records out of which none is left."""
        gone = self._batches.erase(row, bits)
        if not gone & row.assigned:
            return
        for one in list(self._stretches(row, gone)):
            if one.bits & row.left:
                continue
            self._database.execute(
                "DELETE FROM assigned_range WHERE batch = ? AND first = ?", (row.id, one.first)
            )
            self._database.execute(
                "DELETE FROM assignment WHERE id = ?1"
                " AND NOT EXISTS (SELECT 1 FROM assigned_range WHERE assignment = ?1)",
                (one.assignment,),
            )

    def erase_keys(self, role: Role, peer: KmeName, keys: Iterable[KeyRange]) -> None:
        """Take keys out; those that are not there do not matter."""
        doomed = KeySet(keys)
        for batch in doomed.batches:
            row = self._batches.find(role, peer, batch)
            if row is not None:
                self.erase(row, doomed.bits(batch))

    # ── reading ─────────────────────────────────────────────────────────────────────────────────
    def still_offered(self) -> tuple[KeysOffered, ...]:
        """What this KME offered, without the keys that were delivered; oldest first."""
        rows = self._database.execute(
            "SELECT assignment.id, assignment.peer, request, master, slaves, purpose, lifetime,"
            " first, behind, batch.batch, left_keys"
            " FROM assignment JOIN assigned_range ON assignment = assignment.id"
            " JOIN batch ON batch.id = assigned_range.batch WHERE assignment.role = ? ORDER BY assignment.id",
            (encoding.ROLES[Role.SENDER],),
        )
        left: dict[int, KeySet] = {}
        for number, *_, first, behind, name, bits in rows:
            here = encoding.read_bits(bits) & ((1 << behind) - (1 << first))
            batch = BatchId.from_bytes(name)
            left.setdefault(number, KeySet()).add(KeySet.of_bits(batch, here).ranges())
        records = {row[0]: row[1:7] for row in rows}
        return tuple(
            KeysOffered(
                KmeName(peer),
                RequestId(request),
                left[number].ranges(),
                SaeId(master),
                encoding.read_saes(slaves),
                purpose,
                lifetime,
            )
            for number, (peer, request, master, slaves, purpose, lifetime) in records.items()
        )

    def all_assigned(self) -> tuple[KeysAssigned, ...]:
        """What peers assigned, as they did, while one of its keys is left; oldest first."""
        rows = self._database.execute(
            "SELECT peer, request, incarnation, keys, master, slaves, purpose, lifetime FROM assignment"
            " WHERE role = ? ORDER BY id",
            (encoding.ROLES[Role.RECEIVER],),
        )
        return tuple(
            KeysAssigned(
                KmeName(peer),
                RequestId(request),
                Incarnation(incarnation),
                encoding.read_ranges(keys),
                SaeId(master),
                encoding.read_saes(slaves),
                purpose,
                lifetime,
            )
            for peer, request, incarnation, keys, master, slaves, purpose, lifetime in rows
        )
