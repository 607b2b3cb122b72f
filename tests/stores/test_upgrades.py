"""Stores of every earlier schema: opened by this version, with all that is in them, and used."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from skex.base import codes
from skex.base.errors import StoreFault
from skex.base.ids import Direction, LinkId
from skex.base.secret import Secret
from skex.pad.kinds import PadKind
from skex.protocol.bench import Stored
from skex.protocol.changes import KeysSuspended, MarkRaised, SuspendReason, Tally, TallyKept
from skex.protocol.keysets import KeySet
from skex.store.database import CHECKSUM_BYTES, StoreKind, checked_vfs, migrations
from skex.store.hub import HubStore
from skex.store.kme import KmeStore
from skex.store.links import EnrolledLink
from skex.wire.preface import Marks
from tests.stores.support import (
    ALICE,
    BOB,
    HUBS,
    LINKS,
    MASTER,
    START,
    FileSubject,
    downgraded,
    enrolled_link,
)

FIXTURES = Path(__file__).parent / "fixtures"
NEWEST = {kind: len(migrations(kind)) for kind in StoreKind}
_RESERVED = 20
"""Where a database says how much of each page SQLite leaves free (its file format, section 1.3)."""
ALICES = LINKS[HUBS[0]]
BOBS = LinkId(b"link bob")
CAROLS = LinkId(b"gone one")


def fixture(directory: Path, name: str) -> str:
    """A store file that was kept as SQL text."""
    path = directory / "old.sqlite"
    connection = apsw.Connection(str(path), vfs=checked_vfs())
    connection.execute((FIXTURES / f"{name}.sql").read_text(encoding="utf-8"))
    connection.close()
    return str(path)


def open_hub(path: str) -> HubStore:
    return HubStore.open(path, Secret(MASTER), bytes)


def open_kme(path: str) -> KmeStore:
    return KmeStore.open(path, Secret(MASTER), bytes, lambda: START)


@pytest.mark.parametrize("kind", StoreKind)
def test_every_earlier_schema_has_a_store_that_was_kept(kind: StoreKind) -> None:
    kept = {path.stem for path in FIXTURES.glob(f"{kind.name.lower()}-*.sql")}
    assert kept == {f"{kind.name.lower()}-{number}" for number in range(1, NEWEST[kind])}


def test_hubs_store_of_the_first_schema_opens_with_everything_in_it(tmp_path: Path) -> None:
    store = open_hub(fixture(tmp_path, "hub-1"))
    assert store.realm() == b"file 3"
    one, other = store.links()
    assert (one.link.kme, one.frozen, one.suspended) == (ALICE, ("rollback-found",), False)
    assert (other.link.kme, other.frozen, other.suspended) == (BOB, (), True)
    assert one.link.key.expose() == enrolled_link(HUBS[0]).key.expose()
    assert store.marks(ALICES) == Marks(5, 6, 7, 8, 9, 10)
    assert [(link.link_id, link.removed) for link in store.link_records()] == [
        (CAROLS, START + 9),
        (ALICES, None),
        (BOBS, None),
    ]
    assert store.awaiting_kits() == ()
    store.close()


def test_hubs_store_of_the_first_schema_is_used_as_before(tmp_path: Path) -> None:
    path = fixture(tmp_path, "hub-1")
    store = open_hub(path)
    store.commit([[MarkRaised(ALICES, Direction.TO_HUB, 50)]])
    store.remove_link(BOBS, START + 20)
    store.set_realm(4, b"file 4")
    store.close()
    store = open_hub(path)
    assert store.marks(ALICES).to_hub == 50
    assert [one.link.kme for one in store.links()] == [ALICE]
    assert store.realm() == b"file 4"
    store.close()


@pytest.mark.parametrize("name", ["hub-1", "hub-2", "kme-1", "kme-2", "kme-3", "kme-4"])
def test_upgrade_is_told_once_and_leaves_the_schema_of_a_new_store(tmp_path: Path, name: str) -> None:
    reopen = open_hub if name.startswith("hub") else open_kme
    kind = StoreKind.HUB if name.startswith("hub") else StoreKind.KME
    path = fixture(tmp_path, name)
    store = reopen(path)
    assert store.migrated == (int(name[-1]), NEWEST[kind])
    store.close()
    store = reopen(path)
    assert store.migrated is None
    store.close()
    upgraded = apsw.Connection(path, vfs=checked_vfs())
    assert upgraded.execute("PRAGMA user_version").fetchall() == [(NEWEST[kind],)]
    fresh = apsw.Connection(":memory:")
    for script in migrations(kind):
        fresh.execute(script)
    tables = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY name"
    assert set(upgraded.execute(tables)) == set(fresh.execute(tables))
    upgraded.close()


def test_store_without_checksums_gets_them_when_it_is_opened(tmp_path: Path) -> None:
    path = fixture(tmp_path, "kme-1")
    assert Path(path).read_bytes()[_RESERVED] == 0
    open_kme(path).close()
    data = bytearray(Path(path).read_bytes())
    assert data[_RESERVED] == CHECKSUM_BYTES
    for page in range(4096, len(data), 4096):
        assert data[page + 4096 - CHECKSUM_BYTES : page + 4096] != bytes(CHECKSUM_BYTES)
    data[4096 + 4000] ^= 1
    Path(path).write_bytes(data)
    with pytest.raises(StoreFault) as caught:
        open_kme(path)
    assert caught.value.code is codes.STORE_CORRUPT


def test_store_that_was_made_by_this_version_tells_of_no_upgrade(file_subject: FileSubject) -> None:
    assert file_subject.store.migrated is None


def test_store_of_the_next_version_is_refused_with_what_to_do(file_subject: FileSubject) -> None:
    file_subject.close()
    connection = apsw.Connection(file_subject.path, vfs=checked_vfs())
    connection.execute(f"PRAGMA user_version = {NEWEST[StoreKind.KME] + 1}")
    connection.close()
    with pytest.raises(StoreFault) as caught:
        open_kme(file_subject.path)
    assert caught.value.code is codes.STORE_NEWER
    assert caught.value.detail == f"schema {NEWEST[StoreKind.KME] + 1}, known are {NEWEST[StoreKind.KME]}"
    assert "Install that version again" in caught.value.code.hint


def test_downgraded_store_is_what_the_first_release_left(file_subject: FileSubject) -> None:
    """So tests of whole homes may begin with one."""
    file_subject.close()
    downgraded(Path(file_subject.path))
    connection = apsw.Connection(file_subject.path, vfs=checked_vfs())
    first = apsw.Connection(":memory:")
    first.execute(migrations(StoreKind.KME)[0])
    tables = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY name"
    assert connection.execute(tables).fetchall() == first.execute(tables).fetchall()
    connection.close()
    file_subject.store = open_kme(file_subject.path)


def test_kmes_store_of_the_second_schema_opens_with_its_keys_and_their_lives_go_on(tmp_path: Path) -> None:
    path = fixture(tmp_path, "kme-2")
    store = open_kme(path)
    before = {(one.role, one.name): one for one in store.histories()}
    assert before
    assert all(not (one.delivered or one.revoked or one.suspended) for one in before.values())
    batch = next(one for one in before.values() if one.left)
    keys = KeySet.of_bits(batch.name, batch.left).ranges()
    store.commit([[KeysSuspended(batch.role, batch.batch.peer, keys, SuspendReason.INVESTIGATION)]])
    store.close()
    store = open_kme(path)
    assert store.suspensions() == (
        KeysSuspended(batch.role, batch.batch.peer, keys, SuspendReason.INVESTIGATION),
    )
    store.close()


def test_kmes_store_of_the_third_schema_opens_with_its_fates_and_counts_hubs_from_then_on(
    tmp_path: Path,
) -> None:
    path = fixture(tmp_path, "kme-3")
    store = open_kme(path)
    assert any(one.delivered for one in store.histories())
    assert [one.peer for one in store.suspensions()] == ["carol"]
    assert store.load(float(START)).benched == Stored()
    kept = TallyKept(HUBS[0], BOB, Tally(in_time=1))
    store.commit([[kept]])
    store.close()
    store = open_kme(path)
    assert store.load(float(START)).benched == Stored(tallies=(kept,))
    store.close()


@pytest.mark.parametrize("name", ["hub-2", "kme-4"])
def test_store_from_before_master_keys_changed_can_be_sealed_anew_and_its_pads_stay(
    tmp_path: Path, name: str
) -> None:
    path, other = fixture(tmp_path, name), Secret(bytes(range(100, 132)))
    kind = StoreKind.HUB if name == "hub-2" else StoreKind.KME
    store = open_hub(path) if kind is StoreKind.HUB else open_kme(path)
    before = [
        (stored.link, one, _masked(store, stored.link, one)) for stored in store.links() for one in Direction
    ]
    store.rekey(other, bytes)
    store.close()
    again = (
        HubStore.open(path, other, bytes)
        if kind is StoreKind.HUB
        else KmeStore.open(path, other, bytes, lambda: START)
    )
    assert before
    assert [_masked(again, link, one) for link, one, _ in before] == [masked for _, _, masked in before]
    again.close()


def _masked(store: HubStore | KmeStore, link: EnrolledLink, direction: Direction) -> bytes:
    """What only the key of a pad makes: of a table the mask, of a chain what opens a state."""
    if link.kind is PadKind.TABLE:
        return store.sealer.table_mask(link.link_id, direction)(0, bytes(64))
    sealing = store.sealer.chain_sealing(link.link_id, direction)
    if (link.link_id, direction) not in SEALED_STATES:
        SEALED_STATES[link.link_id, direction] = sealing.seal(7, b"a state")
    return sealing.unseal(7, SEALED_STATES[link.link_id, direction])


SEALED_STATES: dict[tuple[LinkId, Direction], bytes] = {}
