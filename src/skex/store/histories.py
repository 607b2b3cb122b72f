"""What became of keys: to whom they were delivered, why they were revoked, which rest.

Rows go with the row of their batch. Nothing here decides or erases anything: it is what lists, states
and explanations are made of, and what suspends keys again after a start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from skex.base import limits
from skex.base.ids import BatchId, KmeName, SaeId
from skex.base.secret import Secret
from skex.keys.history import BatchHistory, Promise
from skex.protocol.changes import (
    Batch,
    KeysDelivered,
    KeysResumed,
    KeysRevoked,
    KeysSuspended,
    Role,
    SuspendReason,
)
from skex.protocol.keysets import KeySet
from skex.store import encoding
from skex.store.database import Database, Row, Value
from skex.wire.context import Purpose
from skex.wire.peer import KeyRange, RevokeReason

_DELIVERED: Final = 0
_REVOKED: Final = 1
_SUSPENDED: Final = 2


class Histories:
    """The tables ``fate`` and ``suspended_pair``; changes are parts of a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ── writing ─────────────────────────────────────────────────────────────────────────────────
    def delivered(self, change: KeysDelivered, moment: int) -> None:
        """Keys went to an SAE."""
        for number, bits, _ in self._rows(change.role, change.peer, change.keys):
            self._add(number, _DELIVERED, change.sae, bits, moment)

    def revoked(self, change: KeysRevoked, moment: int) -> None:
        """Keys that are here, or that somebody here has, are revoked; erasing is another change."""
        for number, bits, left in self._rows(change.role, change.peer, change.keys):
            known = self._bits_of(number, _REVOKED)
            had = left
            if change.reason is not RevokeReason.ROLLBACK:  # which is about keys that nobody has
                had |= _union(self._bits_of(number, _DELIVERED))
            doomed = bits & had & ~_union(known)
            if change.reason.is_compromise:
                lesser = {what: one for what, one in known.items() if not _is_compromise(what)}
                worse = bits & _union(lesser)
                self._remove(number, _REVOKED, worse)
                doomed |= worse
            self._add(number, _REVOKED, str(int(change.reason)), doomed, moment)

    def suspended(self, change: KeysSuspended, moment: int) -> None:
        """Keys rest; one that does already gets the newer reason."""
        if change.keys is None:
            self._database.execute(
                "INSERT INTO suspended_pair (role, peer, reason, moment) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET reason = excluded.reason, moment = excluded.moment",
                (encoding.ROLES[change.role], change.peer, int(change.reason), moment),
            )
            return
        for number, bits, left in self._rows(change.role, change.peer, change.keys):
            self._remove(number, _SUSPENDED, bits)
            self._add(number, _SUSPENDED, str(int(change.reason)), bits & left, moment)

    def resumed(self, change: KeysResumed) -> None:
        """Keys do not rest any more."""
        for number, bits, _ in self._rows(change.role, change.peer, change.keys):
            self._remove(number, _SUSPENDED, bits)
        if change.keys is None:
            self._database.execute(
                "DELETE FROM suspended_pair WHERE role = ? AND peer = ?",
                (encoding.ROLES[change.role], change.peer),
            )

    def _rows(self, role: Role, peer: KmeName, keys: Iterable[KeyRange] | None) -> list[tuple[int, int, int]]:
        """The batches of these keys (None: of the pair) as number, bits meant and bits left."""
        pair: tuple[Value, ...] = (encoding.ROLES[role], peer)
        if keys is None:
            rows = self._database.execute(
                "SELECT id, context, left_keys FROM batch WHERE role = ? AND peer = ?", pair
            )
            return [
                (number, (1 << encoding.read_context(context).keys) - 1, encoding.read_bits(left))
                for number, context, left in rows
            ]
        meant = KeySet(keys)
        found = []
        for name in meant.batches:
            for number, left in self._database.execute(
                "SELECT id, left_keys FROM batch WHERE role = ? AND peer = ? AND batch = ?",
                (*pair, name.to_bytes()),
            ):
                found.append((number, meant.bits(name), encoding.read_bits(left)))
        return found

    def _add(self, number: int, kind: int, what: str, bits: int, moment: int) -> None:
        bits_now = bits | self._bits_of(number, kind).get(what, 0)
        if bits:
            self._database.execute(
                "INSERT INTO fate (batch, kind, what, keys, moment) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET keys = excluded.keys, moment = excluded.moment",
                (number, kind, what, encoding.write_bits(bits_now, limits.BATCH_KEYS), moment),
            )

    def _remove(self, number: int, kind: int, bits: int) -> None:
        for what, known in self._bits_of(number, kind).items():
            if known & bits:
                left = encoding.write_bits(known & ~bits, limits.BATCH_KEYS)
                self._database.execute(
                    "UPDATE fate SET keys = ? WHERE batch = ? AND kind = ? AND what = ?",
                    (left, number, kind, what),
                )

    def _bits_of(self, number: int, kind: int) -> dict[str, int]:
        rows = self._database.execute(
            "SELECT what, keys FROM fate WHERE batch = ? AND kind = ?", (number, kind)
        )
        return {what: encoding.read_bits(keys) for what, keys in rows}

    # ── reading ─────────────────────────────────────────────────────────────────────────────────
    def suspensions(self) -> tuple[KeysSuspended, ...]:
        """What rests, for a start."""
        pairs = self._database.execute("SELECT role, peer, reason FROM suspended_pair ORDER BY role, peer")
        found = [
            KeysSuspended(encoding.ROLE_OF[role], KmeName(peer), None, SuspendReason(reason))
            for role, peer, reason in pairs
        ]
        rows = self._database.execute(
            "SELECT role, peer, batch.batch, what, fate.keys, left_keys FROM fate"
            " JOIN batch ON batch.id = fate.batch WHERE kind = ? ORDER BY batch.id",
            (_SUSPENDED,),
        )
        for role, peer, name, what, keys, left in rows:
            here = encoding.read_bits(keys) & encoding.read_bits(left)
            bits = KeySet.of_bits(BatchId.from_bytes(name), here)
            if bits:
                reason = SuspendReason(int(what))
                found.append(KeysSuspended(encoding.ROLE_OF[role], KmeName(peer), bits.ranges(), reason))
        return tuple(found)

    def batches(self, peer: KmeName | None = None) -> tuple[BatchHistory, ...]:
        """Every traffic batch of which there is a row (of one peer, or of all), newest first.

        Without ``promises``: for those ask for the batch itself.
        """
        rows = self._database.execute(
            f"{_BATCH} WHERE ?1 IS NULL OR peer = ?1 ORDER BY batch.id DESC", (peer,)
        )
        fates: dict[int, list[Row]] = {}
        for number, *fate in self._database.execute("SELECT batch, kind, what, keys FROM fate"):
            fates.setdefault(number, []).append(tuple(fate))
        return self._histories(rows, fates)

    def batch(self, name: BatchId) -> tuple[BatchHistory, ...]:
        """A batch as this KME keeps it: once, but for two KMEs under one id, which nobody makes."""
        rows = self._database.execute(f"{_BATCH} WHERE batch.batch = ?", (name.to_bytes(),))
        fates: dict[int, list[Row]] = {}
        promises: dict[int, tuple[Promise, ...]] = {}
        for row in rows:
            number = row[0]
            fates[number] = self._database.execute(
                "SELECT kind, what, keys FROM fate WHERE batch = ?", (number,)
            )
            promises[number] = self._promises(number)
        return self._histories(rows, fates, promises)

    def _promises(self, number: int) -> tuple[Promise, ...]:
        rows = self._database.execute(
            "SELECT first, behind, master, slaves, purpose, lifetime FROM assigned_range"
            " JOIN assignment ON assignment.id = assignment WHERE batch = ? ORDER BY first",
            (number,),
        )
        return tuple(
            Promise(
                (1 << behind) - (1 << first), SaeId(master), encoding.read_saes(slaves), purpose, lifetime
            )
            for first, behind, master, slaves, purpose, lifetime in rows
        )

    def _histories(
        self,
        rows: Iterable[Row],
        fates: dict[int, list[Row]],
        promises: dict[int, tuple[Promise, ...]] | None = None,
    ) -> tuple[BatchHistory, ...]:
        resting = {
            (role, peer): SuspendReason(reason)
            for role, peer, reason in self._database.execute("SELECT role, peer, reason FROM suspended_pair")
        }
        found = (
            _history(row, fates.get(row[0], []), (promises or {}).get(row[0], ()), resting.get(row[1:3]))
            for row in rows
        )
        return tuple(one for one in found if one.batch.context.purpose is Purpose.TRAFFIC)


_BATCH: Final = "SELECT id, role, peer, batch, context, hubs, claim, expires, left_keys, assigned FROM batch"


def _is_compromise(what: str) -> bool:
    return RevokeReason(int(what)).is_compromise


def _union(known: dict[str, int]) -> int:
    bits = 0
    for one in known.values():
        bits |= one
    return bits


def _history(
    row: Row, fates: Iterable[Row], promises: tuple[Promise, ...], rests: SuspendReason | None
) -> BatchHistory:
    _, role, peer, name, context, hubs, claim, expires, left, assigned = row
    of: dict[int, dict[str, int]] = {_DELIVERED: {}, _REVOKED: {}, _SUSPENDED: {}}
    for kind, what, keys in fates:
        of[kind][what] = encoding.read_bits(keys)
    compact = encoding.read_context(context)
    batch = Batch(
        KmeName(peer),
        BatchId.from_bytes(name),
        compact,
        encoding.read_hubs(hubs),
        encoding.read_claim(claim),
        Secret(b""),
    )
    whose = encoding.ROLE_OF[role]
    # Behind what ``Batches`` adds, and takes off, this is the moment at which the row was written.
    margin = -limits.ESTABLISH_SECONDS if whose is Role.SENDER else limits.LIFETIME_MARGIN_SECONDS
    return BatchHistory(
        whose,
        batch,
        expires - compact.lifetime - margin,
        expires,
        encoding.read_bits(left),
        encoding.read_bits(assigned),
        promises,
        {SaeId(what): keys for what, keys in of[_DELIVERED].items()},
        {RevokeReason(int(what)): keys for what, keys in of[_REVOKED].items() if keys},
        {SuspendReason(int(what)): keys for what, keys in of[_SUSPENDED].items() if keys},
        rests,
    )
