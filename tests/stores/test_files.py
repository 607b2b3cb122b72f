"""Store files: what is refused at opening, with which code, and that nothing is changed by it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from skex.base import codes
from skex.base.errors import ErrorCode, LocalBug, Refused, StoreFault
from skex.base.ids import LinkId
from skex.base.secret import Secret
from skex.protocol.changes import LinkFrozen, Role
from skex.store import database as database_module
from skex.store.database import StoreKind, checked_vfs, migrations
from skex.store.encoding import write_names
from skex.store.hub import HubStore
from skex.store.kme import KmeStore
from skex.store.sealing import Place
from tests.stores.support import (
    ALICE,
    BOB,
    HUBS,
    LIFETIME,
    MASTER,
    REALM,
    START,
    FileSubject,
    assigned,
    batch,
    batch_id,
    key_range,
    received,
    root,
    sent,
)

FIXTURE = Path(__file__).parent / "fixtures" / "kme-1.sql"


@pytest.fixture
def path(file_subject: FileSubject) -> Path:
    """A closed store with something in it."""
    file_subject.commit([received(batch()), root(1)])
    file_subject.close()
    return Path(file_subject.path)


def reopen(path: Path, master: bytes = MASTER) -> KmeStore:
    return KmeStore.open(str(path), Secret(master), bytes, lambda: START)


def tamper(path: Path, sql: str) -> None:
    connection = apsw.Connection(str(path), vfs=checked_vfs())
    connection.execute(sql)
    connection.close()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 3 * 4096 + 100])


def scrambled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(bytes(data))


def miscounted(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[36:40] = (5).to_bytes(4, "big")
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        pytest.param(lambda path: path.unlink(), codes.STORE_IO, id="missing"),
        pytest.param(
            lambda path: path.write_bytes(b"no database " * 1000), codes.STORE_CORRUPT, id="no database"
        ),
        pytest.param(truncated, codes.STORE_CORRUPT, id="cut off"),
        pytest.param(scrambled, codes.STORE_CORRUPT, id="overwritten"),
        pytest.param(miscounted, codes.STORE_CORRUPT, id="with free pages that are not there"),
        pytest.param(lambda path: path.write_bytes(b""), codes.STORE_FOREIGN, id="empty"),
        pytest.param(
            lambda path: tamper(path, "PRAGMA application_id = 1"),
            codes.STORE_FOREIGN,
            id="another's database",
        ),
        pytest.param(
            lambda path: tamper(path, "PRAGMA user_version = 1000"), codes.STORE_NEWER, id="a later version's"
        ),
        pytest.param(
            lambda path: tamper(path, "DELETE FROM sealing"), codes.STORE_CORRUPT, id="without its seal"
        ),
        pytest.param(
            lambda path: tamper(path, "UPDATE sealing SET proof = x'00'"),
            codes.STORE_WRONG_KEY,
            id="proof cut",
        ),
    ],
)
def test_file_that_is_not_a_healthy_store_is_refused_and_left_alone(
    path: Path, damage: Callable[[Path], object], code: ErrorCode
) -> None:
    damage(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(StoreFault) as caught:
        reopen(path)
    assert caught.value.code is code
    assert (path.read_bytes() if path.exists() else None) == before


def test_bit_that_flips_in_a_page_is_noticed_wherever_it_is(path: Path) -> None:
    """Most columns are not sealed: one bit of them could bring a delivered key back."""
    healthy = path.read_bytes()
    for place in range(7, len(healthy), 331):
        path.write_bytes(healthy[:place] + bytes([healthy[place] ^ 1 << place % 8]) + healthy[place + 1 :])
        with pytest.raises(StoreFault) as caught:
            reopen(path)
        assert caught.value.code in (codes.STORE_CORRUPT, codes.STORE_FOREIGN, codes.STORE_NEWER)
    path.write_bytes(healthy)
    reopen(path).close()


def test_wrong_master_key_is_found_before_anything_is_changed(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StoreFault) as caught:
        reopen(path, bytes(32))
    assert caught.value.code is codes.STORE_WRONG_KEY
    assert path.read_bytes() == before
    store = reopen(path)
    assert store.load(0.0).peer_messages.roots == (root(1),)
    store.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE batch_keys SET sealed = (SELECT sealed FROM root)",
        "UPDATE batch_keys SET sealed = x'00'",
        "UPDATE batch_keys SET sealed = CAST(substr(sealed, 1, 30) || x'00' || substr(sealed, 32) AS BLOB)",
        "UPDATE batch SET context = x'80'",
        "UPDATE batch SET context = x'ff'",
        "UPDATE batch SET batch = zeroblob(24)",
        "UPDATE batch SET peer = 'mallory'",
    ],
)
def test_sealed_row_that_was_changed_or_moved_does_not_open(path: Path, sql: str) -> None:
    """The attacker writes to the file without the master key."""
    tamper(path, sql)
    store = reopen(path)
    with pytest.raises(StoreFault) as caught:
        read_everything(store)
    assert caught.value.code is codes.STORE_CORRUPT
    store.close()


def test_keys_of_another_length_than_their_batch_says_are_damage(file_subject: FileSubject) -> None:
    file_subject.commit([received(batch())])
    place = Place("batch_keys", (1, BOB, batch_id().to_bytes()), "sealed")
    sealed = file_subject.store.sealer.seal(place, bytes(127))
    file_subject.store._database.execute("UPDATE batch_keys SET sealed = ?", (sealed,))
    with pytest.raises(StoreFault, match="store-corrupt"):
        file_subject.store.read_keys(Role.RECEIVER, BOB, (key_range(0),))


def test_list_that_is_longer_than_any_can_be_is_damage(file_subject: FileSubject) -> None:
    file_subject.commit([received(batch())])
    hubs = write_names(["hub"] * 65)
    file_subject.store._database.execute("UPDATE batch SET hubs = ?", (hubs,))
    with pytest.raises(StoreFault, match="store-corrupt"):
        file_subject.store.kept(0.0)


def read_everything(store: KmeStore) -> None:
    for kept in store.kept(0.0):
        store.read_keys(kept.role, kept.batch.peer, kept.left)


def test_keys_of_two_batches_that_change_places_do_not_open(file_subject: FileSubject) -> None:
    """The attacker swaps two sealed rows: equal in size, sealed under the same master key."""
    file_subject.commit([received(batch(1)), received(batch(2))])
    file_subject.close()
    connection = apsw.Connection(file_subject.path, vfs=checked_vfs())
    one, two = connection.execute("SELECT sealed FROM batch_keys ORDER BY batch").fetchall()
    connection.execute("UPDATE batch_keys SET sealed = ? WHERE batch = 1", two)
    connection.execute("UPDATE batch_keys SET sealed = ? WHERE batch = 2", one)
    connection.close()
    file_subject.reopen()
    with pytest.raises(StoreFault, match="store-corrupt"):
        file_subject.store.read_keys(Role.RECEIVER, BOB, (key_range(0),))


def test_store_of_a_hub_is_no_store_of_a_kme(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    HubStore.create(str(path), Secret(MASTER), bytes, lambda: START, name=HUBS[0], realm=REALM).close()
    with pytest.raises(StoreFault) as caught:
        reopen(path)
    assert caught.value.code is codes.STORE_FOREIGN


def test_store_that_another_process_has_open_is_refused(
    file_subject: FileSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skex.base.limits.STORE_BUSY_MS", 10)
    with pytest.raises(StoreFault) as caught:
        reopen(Path(file_subject.path))
    assert caught.value.code is codes.STORE_LOCKED
    file_subject.commit([sent(batch())])


def test_store_is_readable_by_its_owner_only(file_subject: FileSubject) -> None:
    file_subject.commit([sent(batch())])
    files = list(Path(file_subject.path).parent.iterdir())
    assert {file.name for file in files} == {"store.sqlite", "store.sqlite-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


# ── creating ────────────────────────────────────────────────────────────────────────────────────
def create(path: Path, master: bytes = MASTER) -> KmeStore:
    return KmeStore.create(str(path), Secret(master), bytes, lambda: START, name=ALICE, realm=REALM)


def test_existing_store_is_not_made_again(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(Refused) as caught:
        create(path)
    assert caught.value.code is codes.STORE_EXISTS
    assert path.read_bytes() == before


def test_file_that_an_attempt_left_empty_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.touch()
    store = create(path)
    assert (store.meta("kme"), store.meta("realm"), store.meta("created")) == (ALICE, REALM, str(START))
    assert store.meta("nothing") is None
    store.close()


@pytest.mark.parametrize("name", ["missing/store.sqlite", "link"])
def test_place_where_no_store_can_be_made_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreFault) as caught:
        create(tmp_path / name)
    assert caught.value.code is codes.STORE_IO
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("size", [0, 31, 33])
def test_master_key_of_another_size_is_a_bug(tmp_path: Path, size: int) -> None:
    with pytest.raises(LocalBug):
        create(tmp_path / "store.sqlite", bytes(size))


def test_creation_that_fails_leaves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.sqlite"
    broken = (*migrations(StoreKind.KME), "CREATE TABLE broken (")
    with monkeypatch.context() as patch:
        patch.setattr(database_module, "migrations", lambda _: broken)
        with pytest.raises(LocalBug):
            create(path)
    create(path).close()


def test_facts_can_be_changed(file_subject: FileSubject) -> None:
    file_subject.store.set_meta("note", "one")
    file_subject.store.set_meta("note", "two")
    file_subject.reopen()
    assert file_subject.store.meta("note") == "two"


# ── migrations ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", StoreKind)
def test_migrations_are_numbered_from_one_without_a_gap(kind: StoreKind) -> None:
    folder = Path(database_module.__file__).parent / "migrations" / kind.name.lower()
    names = sorted(path.name for path in folder.iterdir())
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    assert len(migrations(kind)) == len(names)


@pytest.mark.parametrize("kind", StoreKind)
def test_every_table_has_its_comment(kind: StoreKind) -> None:
    for script in migrations(kind):
        lines = script.splitlines()
        tables = [number for number, line in enumerate(lines) if line.startswith("CREATE TABLE")]
        assert tables
        assert all(lines[number - 1].startswith("-- ") for number in tables)


@pytest.fixture
def old_path(tmp_path: Path) -> Path:
    """A store as the first schema left it."""
    path = tmp_path / "old.sqlite"
    connection = apsw.Connection(str(path), vfs=checked_vfs())
    connection.execute(FIXTURE.read_text(encoding="utf-8"))
    connection.close()
    return path


def test_store_of_the_first_schema_opens_with_everything_in_it(old_path: Path) -> None:
    store = reopen(old_path)
    state = store.load(float(START))
    assert state.peer_messages.roots == (root(1),)
    assert state.peer_messages.assigned == (assigned(key_range(0, 2)),)
    assert [one.expires_at for one in state.received] == [START + LIFETIME + 120.0]
    assert store.is_committed(BOB, batch_id(2))
    assert [one.link.hub for one in store.links()] == list(HUBS)
    (kept, other) = store.kept(float(START))
    assert (kept.left, kept.free, kept.taken) == ((key_range(1, 3),), (key_range(2, 2),), ())
    (secret,) = store.read_keys(kept.role, BOB, (key_range(3),))
    assert secret.expose() == batch(1).keys.expose()[96:]
    assert other.expires_at == START + LIFETIME - 8.0
    store.close()


def test_older_store_is_migrated_step_by_step(old_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = (*migrations(StoreKind.KME)[:1], "CREATE TABLE two (a);", "INSERT INTO two VALUES (3);")
    monkeypatch.setattr(database_module, "migrations", lambda _: later)
    reopen(old_path).close()
    reopen(old_path).close()
    connection = apsw.Connection(str(old_path), vfs=checked_vfs())
    assert connection.execute("SELECT a, user_version FROM two, pragma_user_version").fetchall() == [(3, 3)]
    connection.close()


def test_migration_that_fails_leaves_the_store_at_the_one_before(
    old_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = migrations(StoreKind.KME)[:1]
    with monkeypatch.context() as patch:
        later = (*first, "CREATE TABLE two (a);", "CREATE TABLE three (a); INSERT INTO nowhere VALUES (1);")
        patch.setattr(database_module, "migrations", lambda _: later)
        with pytest.raises(LocalBug):
            reopen(old_path)
    connection = apsw.Connection(str(old_path), vfs=checked_vfs())
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    assert connection.execute("PRAGMA user_version").fetchall() == [(2,)]
    assert "two" in names
    assert "three" not in names
    connection.close()
    monkeypatch.setattr(database_module, "migrations", lambda _: first)
    with pytest.raises(StoreFault, match="store-newer"):
        reopen(old_path)


def test_wrong_master_key_migrates_nothing(old_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = (*migrations(StoreKind.KME)[:1], "DROP TABLE batch_keys;")
    monkeypatch.setattr(database_module, "migrations", lambda _: later)
    with pytest.raises(StoreFault, match="store-wrong-key"):
        reopen(old_path, bytes(32))
    connection = apsw.Connection(str(old_path), vfs=checked_vfs())
    assert connection.execute("PRAGMA user_version").fetchall() == [(1,)]
    connection.close()


def test_constraint_that_a_change_breaks_is_a_bug(file_subject: FileSubject) -> None:
    with pytest.raises(LocalBug):
        file_subject.commit([LinkFrozen(LinkId(b"nobody's"), "pad-jump")])
    file_subject.commit([sent(batch())])


def test_database_in_memory_has_nothing_to_scrub() -> None:
    subject = FileSubject(None)
    subject.commit([sent(batch())])
    subject.store.scrub()
    assert subject.is_committed(BOB, batch_id())
    subject.close()


def test_closing_twice_is_closing(path: Path) -> None:
    store = reopen(path)
    store.close()
    store.close()


def test_every_open_store_syncs_each_commit_erases_what_it_deletes_and_lets_nobody_else_in(
    file_subject: FileSubject,
) -> None:
    settings = {}
    for _ in range(2):
        for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys", "locking_mode"):
            settings[name] = file_subject.store._database.execute(f"PRAGMA {name}")[0][0]
        assert settings == {
            "journal_mode": "wal",
            "synchronous": 2,
            "secure_delete": 1,
            "foreign_keys": 1,
            "locking_mode": "exclusive",
        }
        file_subject.reopen()
