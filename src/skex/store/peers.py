"""What a KME keeps of peer messages: roots, the queue of what must arrive, revocations, receivers.

It must not know envelopes, hubs or what a message says.
"""

from __future__ import annotations

from typing import assert_never

from skex.base import limits
from skex.base.ids import BatchId, Incarnation, KmeName, RequestId
from skex.protocol.changes import (
    BatchSent,
    ControlDone,
    ControlQueued,
    PeerChange,
    RevocationCarriedOut,
    RootDropped,
    RootKept,
)
from skex.store.database import Database
from skex.store.encoding import ROLE_OF, ROLES
from skex.store.sealing import Place, Sealer


def _place(role: int, peer: str, batch: bytes) -> Place:
    return Place("root", (role, peer, batch), "sealed")


class Peers:
    """The tables ``root``, ``control``, ``revocation`` and ``receiver``; parts of a transaction."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    def apply(self, change: PeerChange) -> None:
        """Make one change."""
        match change:
            case RootKept():
                self._keep_root(change)
            case RootDropped(role, peer, batch):
                self._database.execute(
                    "DELETE FROM root WHERE role = ? AND peer = ? AND batch = ?",
                    (ROLES[role], peer, batch.to_bytes()),
                )
            case ControlQueued(role, peer, request, plaintext):
                self._database.execute(
                    "INSERT INTO control (role, peer, request, plaintext) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT DO NOTHING",
                    (ROLES[role], peer, request, plaintext),
                )
            case ControlDone(peer, request):
                self._database.execute("DELETE FROM control WHERE peer = ? AND request = ?", (peer, request))
            case RevocationCarriedOut():
                self._remember(change)
            case _:
                assert_never(change)

    def reseal(self, new: Sealer) -> None:
        """Seal every root with another sealer."""
        for *identity, sealed in self._database.execute("SELECT role, peer, batch, sealed FROM root"):
            again = self._sealer.resealed(_place(*identity), sealed, new)
            self._database.execute(
                "UPDATE root SET sealed = ? WHERE role = ? AND peer = ? AND batch = ?", (again, *identity)
            )

    def _keep_root(self, change: RootKept) -> None:
        """A root is kept once; later changes say only which ways it was used, and that never ends."""
        identity = (ROLES[change.role], change.peer, change.batch.to_bytes())
        used = (int(change.sent), int(change.received))
        if not self._database.change(
            "UPDATE root SET sent = max(sent, ?), received = max(received, ?)"
            " WHERE role = ? AND peer = ? AND batch = ?",
            (*used, *identity),
        ):
            sealed = self._sealer.seal(_place(*identity), change.root.expose())
            self._database.execute(
                "INSERT INTO root (role, peer, batch, sealed, sent, received) VALUES (?, ?, ?, ?, ?, ?)",
                (*identity, sealed, *used),
            )

    def _remember(self, change: RevocationCarriedOut) -> None:
        pair = (ROLES[change.role], change.peer)
        self._database.execute(
            "INSERT INTO revocation (role, peer, request) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (*pair, change.request),
        )
        self._database.execute(
            "DELETE FROM revocation WHERE role = ?1 AND peer = ?2 AND id <="
            " (SELECT id FROM revocation WHERE role = ?1 AND peer = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)",
            (*pair, limits.REVOCATIONS_REMEMBERED),
        )

    def confirmed(self, change: BatchSent) -> None:
        """Learn of a receiver what its newest CONFIRM stated; epochs only rise."""
        self._database.execute(
            "INSERT INTO receiver (name, epoch, incarnation) VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
            " SET epoch = max(epoch, excluded.epoch), incarnation = excluded.incarnation",
            (change.batch.peer, change.receiver_epoch, change.receiver_incarnation),
        )

    # ── reading ─────────────────────────────────────────────────────────────────────────────────
    def roots(self) -> tuple[RootKept, ...]:
        """Every root, in the order in which each was kept first."""
        rows = self._database.execute(
            "SELECT role, peer, batch, sealed, sent, received FROM root ORDER BY id"
        )
        return tuple(
            RootKept(
                ROLE_OF[role],
                KmeName(peer),
                BatchId.from_bytes(batch),
                self._sealer.open(_place(role, peer, batch), sealed),
                bool(sent),
                bool(received),
            )
            for role, peer, batch, sealed, sent, received in rows
        )

    def queued(self) -> tuple[ControlQueued, ...]:
        """What must arrive, oldest first."""
        rows = self._database.execute("SELECT role, peer, request, plaintext FROM control ORDER BY id")
        return tuple(
            ControlQueued(ROLE_OF[role], KmeName(peer), RequestId(request), plaintext)
            for role, peer, request, plaintext in rows
        )

    def revocations(self) -> tuple[RevocationCarriedOut, ...]:
        """The newest revocations by peers, oldest first."""
        rows = self._database.execute("SELECT role, peer, request FROM revocation ORDER BY id")
        return tuple(
            RevocationCarriedOut(ROLE_OF[role], KmeName(peer), RequestId(request))
            for role, peer, request in rows
        )

    def receiver_epochs(self) -> dict[KmeName, int]:
        """The newest epoch that each receiver named."""
        return {
            KmeName(name): epoch for name, epoch in self._database.execute("SELECT name, epoch FROM receiver")
        }

    def receivers(self) -> tuple[tuple[KmeName, Incarnation], ...]:
        """Each receiver's incarnation as its newest CONFIRM stated it."""
        rows = self._database.execute("SELECT name, incarnation FROM receiver ORDER BY name")
        return tuple((KmeName(name), Incarnation(incarnation)) for name, incarnation in rows)
