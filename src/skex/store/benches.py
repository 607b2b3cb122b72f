"""What a KME keeps of its hubs: counts, what shows that they did wrong, and who is on the bench.

Digests are sealed like secrets: they say something of shares. It must not know what benches a hub.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import assert_never

from skex.base import limits
from skex.base.ids import BatchId, HubName, KmeName
from skex.protocol.bench import Stored
from skex.protocol.changes import (
    BenchCause,
    BenchChange,
    BenchEnded,
    BenchKept,
    EvidenceKept,
    Tally,
    TallyKept,
)
from skex.protocol.evidence import Blame
from skex.store.database import Database, Row
from skex.store.encoding import read_evidence
from skex.store.sealing import Place, Sealer
from skex.wire.codec import encode


@dataclass(frozen=True, slots=True)
class KeptEvidence:
    """One piece of evidence; ``at`` is UNIX time, as the store's clock counts it."""

    what: EvidenceKept
    at: int


def _place(hub: str, batch: bytes, moment: int) -> Place:
    return Place("evidence", (hub, batch, moment), "sealed")


class Benches:
    """The tables ``tally``, ``evidence`` and ``bench``; parts of a transaction."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    def apply(self, change: BenchChange, moment: int) -> None:
        """Make one change."""
        match change:
            case TallyKept(hub, peer, tally):
                self._database.execute(
                    "INSERT OR REPLACE INTO tally"
                    " (hub, peer, in_time, late, missing, wrong, suspected, in_a_row)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (hub, peer or "", *_numbers(tally)),
                )
            case EvidenceKept():
                self._keep(change, moment)
            case BenchKept(hub, peer, benched, seconds, cause, rule, by, reason):
                until = None if seconds is None else moment + math.ceil(seconds)
                self._database.execute(
                    "INSERT OR REPLACE INTO bench (hub, peer, benched, until, cause, rule, by, reason)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (hub, peer or "", int(benched), until, cause.value, rule, by, reason),
                )
            case BenchEnded(hub, peer):
                self._database.execute("DELETE FROM bench WHERE hub = ? AND peer = ?", (hub, peer or ""))
            case _:
                assert_never(change)

    def _keep(self, change: EvidenceKept, moment: int) -> None:
        batch = change.batch.to_bytes()
        sealed = self._sealer.seal(_place(change.hub, batch, moment), encode(change.evidence.to_value()))
        self._database.execute(
            "INSERT INTO evidence (hub, peer, batch, blame, certain, moment, sealed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (change.hub, change.peer, batch, change.blame.name, int(change.certain), moment, sealed),
        )
        self._database.execute(
            "DELETE FROM evidence WHERE hub = ?1 AND id <="
            " (SELECT id FROM evidence WHERE hub = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (change.hub, limits.EVIDENCE_PER_HUB),
        )

    def reseal(self, new: Sealer) -> None:
        """Seal every piece of evidence with another sealer."""
        for number, *identity, sealed in self._database.execute(
            "SELECT id, hub, batch, moment, sealed FROM evidence"
        ):
            again = self._sealer.resealed(_place(*identity), sealed, new)
            self._database.execute("UPDATE evidence SET sealed = ? WHERE id = ?", (again, number))

    # ── reading ─────────────────────────────────────────────────────────────────────────────────
    def stored(self, moment: int) -> Stored:
        """What the machine starts with."""
        tallies = self._database.execute(
            "SELECT hub, peer, in_time, late, missing, wrong, suspected, in_a_row FROM tally"
        )
        entries = self._database.execute(
            "SELECT hub, peer, benched, until, cause, rule, by, reason FROM bench"
        )
        wrong = self._database.execute(
            "SELECT hub, peer, batch, moment FROM evidence WHERE certain AND moment > ? ORDER BY id",
            (moment - limits.BENCH_WINDOW_SECONDS,),
        )
        return Stored(
            tuple(TallyKept(HubName(hub), _peer(peer), Tally(*counts)) for hub, peer, *counts in tallies),
            tuple(
                BenchKept(
                    HubName(hub),
                    _peer(peer),
                    bool(benched),
                    None if until is None else float(until - moment),
                    BenchCause(cause),
                    rule,
                    by,
                    reason,
                )
                for hub, peer, benched, until, cause, rule, by, reason in entries
            ),
            tuple(
                (HubName(hub), KmeName(peer), BatchId.from_bytes(batch), float(moment - at))
                for hub, peer, batch, at in wrong
            ),
        )

    def evidence(self, hub: HubName | None) -> tuple[KeptEvidence, ...]:
        """Every piece of evidence, or that against one hub; the newest first."""
        rows = self._database.execute(
            "SELECT hub, peer, batch, blame, certain, moment, sealed FROM evidence"
            " WHERE ?1 IS NULL OR hub = ?1 ORDER BY id DESC",
            (hub,),
        )
        return tuple(self._read(row) for row in rows)

    def _read(self, row: Row) -> KeptEvidence:
        hub, peer, batch, blame, certain, moment, sealed = row
        digests = self._sealer.open(_place(hub, batch, moment), sealed)
        what = EvidenceKept(
            HubName(hub),
            KmeName(peer),
            BatchId.from_bytes(batch),
            Blame[blame],
            bool(certain),
            read_evidence(digests.expose()),
        )
        digests.wipe()
        return KeptEvidence(what, moment)


def _peer(peer: str) -> KmeName | None:
    return KmeName(peer) if peer else None


def _numbers(tally: Tally) -> tuple[int, ...]:
    return (tally.in_time, tally.late, tally.missing, tally.wrong, tally.suspected, tally.in_a_row)
