"""A hub's store: its links and its realm file. Nothing that it relays is ever kept, sealed or not."""

from __future__ import annotations

from collections.abc import Sequence

from skex.base import codes
from skex.base.errors import LocalBug, Refused
from skex.base.ids import HubName, RealmName
from skex.base.secret import Secret
from skex.protocol.changes import Change, LinkChange
from skex.store.database import StoreKind
from skex.store.moments import Wall
from skex.store.opened import OpenedStore, create, open_sealed
from skex.store.sealing import Entropy


class HubStore(OpenedStore):
    """An open hub's store."""

    @classmethod
    def create(
        cls,
        path: str,
        master: Secret,
        entropy: Entropy,
        wall: Wall,
        *,
        name: HubName,
        realm: RealmName,
        vfs: str | None = None,
    ) -> HubStore:
        """A new store; see ``KmeStore.create``."""
        facts = {"hub": name, "realm": realm, "created": str(wall())}
        return cls(*create(path, StoreKind.HUB, master, entropy, facts, vfs=vfs))

    @classmethod
    def open(cls, path: str, master: Secret, entropy: Entropy, *, vfs: str | None = None) -> HubStore:
        """An existing store, migrated to this version; see ``KmeStore.open``."""
        return cls(*open_sealed(path, StoreKind.HUB, master, entropy, vfs=vfs))

    def commit(self, sets: Sequence[Sequence[Change]]) -> None:
        """Make all sets durable, in their order, in one transaction; return once they are.

        Raises ``LocalBug``: bug-argument for what is no change of a link, bug-state for a link that is
        not enrolled; nothing of any set is kept then.
        """
        with self._database.transaction():
            for changes in sets:
                for change in changes:
                    if not isinstance(change, LinkChange):
                        raise LocalBug(codes.BAD_ARGUMENT, f"a hub keeps no {type(change).__name__}")
                    self._links.apply(change)
            self._keep_witness()

    # ── realm ───────────────────────────────────────────────────────────────────────────────────
    def realm(self) -> bytes | None:
        """The realm file that this hub states and serves."""
        rows = self._database.execute("SELECT data FROM realm")
        return bytes(rows[0][0]) if rows else None

    def set_realm(self, epoch: int, data: bytes) -> None:
        """Serve another realm file. Raises ``Refused`` (realm-outdated) for an epoch below the one held."""
        with self._database.transaction():
            rows = self._database.execute("SELECT epoch FROM realm")
            if rows and epoch < rows[0][0]:
                raise Refused(codes.REALM_OUTDATED, f"epoch {epoch}, served is {rows[0][0]}")
            self._database.execute(
                "INSERT INTO realm (id, epoch, data) VALUES (1, ?, ?)"
                " ON CONFLICT DO UPDATE SET epoch = excluded.epoch, data = excluded.data",
                (epoch, data),
            )
