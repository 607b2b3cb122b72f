"""Links as both daemons keep them: what enrolment made, marks that never fall, and why one rests.

A link id is taken once: the row of a removed link stays, without its key, so that a kit that was used
up cannot be imported again and its pads begin anew. It must not know kits, pad files or connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from skex.base import codes
from skex.base.errors import LocalBug, Refused
from skex.base.ids import Direction, HubName, KmeName, LinkId, RealmName
from skex.base.secret import Secret
from skex.pad.kinds import PadKind
from skex.protocol.changes import LinkChange, LinkFrozen, MarkRaised, PeerSeen, PrefaceCounted
from skex.store.database import Database, Row
from skex.store.sealing import Place, Sealer
from skex.wire.claim import Enrolment
from skex.wire.preface import Marks


@dataclass(frozen=True, slots=True)
class EnrolledLink:
    """What enrolment makes of one link at either end.

    ``key`` is the static key of prefaces; capacities are positions of the pads; ``enrolment`` how the
    initial material travelled.
    """

    link_id: LinkId
    realm: RealmName
    hub: HubName
    kme: KmeName
    kind: PadKind
    key: Secret
    capacity_to_hub: int
    capacity_to_kme: int
    enrolment: Enrolment


@dataclass(frozen=True, slots=True)
class StoredLink:
    """A link with what became of it. ``created`` is UNIX seconds.

    It may be used while it is not ``suspended`` (by the operator) and ``frozen`` names no error code.
    """

    link: EnrolledLink
    created: int
    suspended: bool
    frozen: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """What a backup keeps of a link, enrolled or removed: everything but its key, its pads and its marks.

    ``created`` and ``removed`` are UNIX seconds; ``removed`` is None while it is enrolled.
    """

    link_id: LinkId
    realm: RealmName
    hub: HubName
    kme: KmeName
    kind: PadKind
    capacity_to_hub: int
    capacity_to_kme: int
    enrolment: Enrolment
    created: int
    suspended: bool
    removed: int | None
    frozen: tuple[str, ...]


def _place(link_id: LinkId) -> Place:
    return Place("link", (link_id,), "sealed")


class Links:
    """The tables ``link`` and ``freeze``; changes are parts of the caller's transaction."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    # ── what machines ask ───────────────────────────────────────────────────────────────────────
    def apply(self, change: LinkChange) -> None:
        """Make one change of a link. Raises ``LocalBug`` (bug-state) for a link that nobody enrolled."""
        match change:
            case MarkRaised(link_id, Direction.TO_HUB, mark):
                self._raise(link_id, "to_hub = max(to_hub, ?)", mark)
            case MarkRaised(link_id, _, mark):
                self._raise(link_id, "to_kme = max(to_kme, ?)", mark)
            case PrefaceCounted(link_id, count):
                self._raise(link_id, "count = max(count, ?)", count)
            case PeerSeen(link_id, to_hub, to_kme, count):
                self._raise(
                    link_id,
                    "seen_to_hub = max(seen_to_hub, ?), seen_to_kme = max(seen_to_kme, ?),"
                    " seen_count = max(seen_count, ?)",
                    to_hub,
                    to_kme,
                    count,
                )
            case LinkFrozen(link_id, code):
                self._database.execute(
                    "INSERT INTO freeze (link_id, code) VALUES (?, ?) ON CONFLICT DO NOTHING", (link_id, code)
                )
            case _:
                assert_never(change)

    def _raise(self, link_id: LinkId, what: str, *values: int) -> None:
        if not self._database.change(f"UPDATE link SET {what} WHERE link_id = ?", (*values, link_id)):  # noqa: S608 - fixed texts
            raise LocalBug(codes.BAD_STATE, "a mark of a link that is not enrolled")

    def marks(self, link_id: LinkId) -> Marks:
        """What prefaces state. Raises ``Refused`` (link-not-enrolled)."""
        rows = self._database.execute(
            "SELECT to_hub, to_kme, count, seen_to_hub, seen_to_kme, seen_count FROM link WHERE link_id = ?",
            (link_id,),
        )
        if not rows:
            raise Refused(codes.LINK_NOT_ENROLLED)
        return Marks(*rows[0])

    # ── enrolment ───────────────────────────────────────────────────────────────────────────────
    def add(self, link: EnrolledLink, wall: int, replacing: LinkId | None) -> None:
        """Enrol a link, in place of ``replacing`` if that is given.

        Raises ``Refused``: link-known, link-exists, link-not-enrolled.
        """
        if replacing is not None:
            self.remove(replacing, wall)
        if self._database.execute("SELECT 1 FROM link WHERE link_id = ?", (link.link_id,)):
            raise Refused(codes.LINK_KNOWN)
        if self._database.execute(
            "SELECT 1 FROM link WHERE hub = ? AND kme = ? AND removed IS NULL", (link.hub, link.kme)
        ):
            raise Refused(codes.LINK_EXISTS, f"{link.kme} with {link.hub}")
        self._database.execute(
            "DELETE FROM awaiting_kit WHERE link_id IN (SELECT link_id FROM link WHERE hub = ? AND kme = ?)",
            (link.hub, link.kme),
        )
        self._database.execute(
            "INSERT INTO link (link_id, realm, hub, kme, kind, sealed, capacity_to_hub, capacity_to_kme,"
            " enrolment, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                link.link_id,
                link.realm,
                link.hub,
                link.kme,
                int(link.kind),
                self._sealer.seal(_place(link.link_id), link.key.expose()),
                link.capacity_to_hub,
                link.capacity_to_kme,
                int(link.enrolment),
                wall,
            ),
        )

    def remove(self, link_id: LinkId, wall: int) -> None:
        """End a link: its key is erased, its id and marks stay. Raises ``Refused`` (link-not-enrolled)."""
        self._of_enrolled("UPDATE link SET sealed = NULL, removed = ?", wall, link_id)
        self._database.execute("DELETE FROM pad_key WHERE link_id = ?", (link_id,))

    def suspend(self, link_id: LinkId, *, suspended: bool) -> None:
        """Let a link rest, or end its rest. Raises ``Refused`` (link-not-enrolled)."""
        self._of_enrolled("UPDATE link SET suspended = ?", int(suspended), link_id)

    def bring_back(self, record: LinkRecord, wall: int) -> None:
        """Keep what a backup says of a link. Its id is taken; if it was enrolled, it awaits a new kit."""
        self._database.execute(
            "INSERT INTO link (link_id, realm, hub, kme, kind, capacity_to_hub, capacity_to_kme, enrolment,"
            " created, suspended, removed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.link_id,
                record.realm,
                record.hub,
                record.kme,
                int(record.kind),
                record.capacity_to_hub,
                record.capacity_to_kme,
                int(record.enrolment),
                record.created,
                int(record.suspended),
                wall if record.removed is None else record.removed,
            ),
        )
        for code in record.frozen:
            self._database.execute("INSERT INTO freeze (link_id, code) VALUES (?, ?)", (record.link_id, code))
        if record.removed is None:
            self._database.execute("INSERT INTO awaiting_kit (link_id) VALUES (?)", (record.link_id,))

    def reseal(self, new: Sealer) -> None:
        """Seal every link's key, and the keys of its pads, with another sealer."""
        for link_id, kind, sealed in self._database.execute(
            "SELECT link_id, kind, sealed FROM link WHERE removed IS NULL"
        ):
            again = self._sealer.resealed(_place(link_id), sealed, new)
            self._database.execute("UPDATE link SET sealed = ? WHERE link_id = ?", (again, link_id))
            for direction in Direction:
                key = self._sealer.pad_key_for(link_id, direction, PadKind(kind), new)
                self._database.execute(
                    "INSERT OR REPLACE INTO pad_key (link_id, direction, sealed) VALUES (?, ?, ?)",
                    (link_id, int(direction), key),
                )

    def _of_enrolled(self, update: str, value: int, link_id: LinkId) -> None:
        if not self._database.change(f"{update} WHERE link_id = ? AND removed IS NULL", (value, link_id)):
            raise Refused(codes.LINK_NOT_ENROLLED)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────
    def enrolled(self) -> tuple[StoredLink, ...]:
        """Every link that was not removed, by the names of its ends."""
        rows = self._database.execute(
            "SELECT link_id, realm, hub, kme, kind, sealed, capacity_to_hub, capacity_to_kme, enrolment,"
            " created, suspended FROM link WHERE removed IS NULL ORDER BY hub, kme"
        )
        return tuple(self._stored(row) for row in rows)

    def _stored(self, row: Row) -> StoredLink:
        link_id, realm, hub, kme, kind, sealed, to_hub, to_kme, enrolment, created, suspended = row
        key = self._sealer.open(_place(link_id), sealed)
        link = EnrolledLink(
            link_id, realm, hub, kme, PadKind(kind), key, to_hub, to_kme, Enrolment(enrolment)
        )
        return StoredLink(link, created, bool(suspended), self._freezes(link_id))

    def _freezes(self, link_id: LinkId) -> tuple[str, ...]:
        rows = self._database.execute("SELECT code FROM freeze WHERE link_id = ? ORDER BY code", (link_id,))
        return tuple(code for (code,) in rows)

    def records(self) -> tuple[LinkRecord, ...]:
        """Every link that there ever was. One that awaits a new kit counts as enrolled."""
        return self._records(
            "SELECT link_id, realm, hub, kme, kind, capacity_to_hub, capacity_to_kme, enrolment, created,"
            " suspended, CASE WHEN awaiting_kit.link_id IS NULL THEN removed END"
            " FROM link LEFT JOIN awaiting_kit USING (link_id) ORDER BY link_id"
        )

    def awaiting(self) -> tuple[LinkRecord, ...]:
        """The links that a restore brought back and no new kit has replaced, by the names of their ends."""
        return self._records(
            "SELECT link_id, realm, hub, kme, kind, capacity_to_hub, capacity_to_kme, enrolment, created,"
            " suspended, NULL FROM link JOIN awaiting_kit USING (link_id) ORDER BY hub, kme"
        )

    def _records(self, query: str) -> tuple[LinkRecord, ...]:
        found = []
        for row in self._database.execute(query):
            link_id, realm, hub, kme, kind, to_hub, to_kme, enrolment, created, suspended, removed = row
            record = LinkRecord(
                LinkId(link_id),
                realm,
                hub,
                kme,
                PadKind(kind),
                to_hub,
                to_kme,
                Enrolment(enrolment),
                created,
                bool(suspended),
                removed,
                self._freezes(link_id),
            )
            found.append(record)
        return tuple(found)

    def of_hubs(self) -> dict[HubName, LinkId]:
        """The enrolled link to each hub."""
        rows = self._database.execute("SELECT hub, link_id FROM link WHERE removed IS NULL ORDER BY hub")
        return {HubName(hub): LinkId(link_id) for hub, link_id in rows}

    def frozen(self, code: str) -> frozenset[HubName]:
        """The hubs whose enrolled link is frozen for this reason, whatever others there are."""
        rows = self._database.execute(
            "SELECT hub FROM link JOIN freeze USING (link_id) WHERE removed IS NULL AND code = ?", (code,)
        )
        return frozenset(HubName(hub) for (hub,) in rows)
