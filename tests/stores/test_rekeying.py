"""A store that is sealed anew: every sealed column, all or nothing, and nothing of it opens as before."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from skex.base import codes
from skex.base.errors import LocalBug, StoreFault
from skex.base.ids import Direction
from skex.base.secret import Secret
from skex.protocol import changes as c
from skex.protocol.evidence import Blame, Evidence
from skex.store.database import StoreKind, checked_vfs
from skex.store.kme import KmeStore
from skex.store.opened import is_sealed_under
from skex.wire.peer import KeyRange
from tests.stores.support import BOB, HUBS, MASTER, FileSubject, batch, batch_id, received, root, sent

EVIDENCE = Evidence(share=b"s" * 64, expected=b"e" * 64)
OTHER = Secret(bytes(range(100, 132)))


def filled(directory: Path) -> FileSubject:
    """A store with something in every sealed column."""
    subject = FileSubject(directory)
    subject.commit(
        [
            sent(batch(1)),
            received(batch(2)),
            root(3),
            c.EvidenceKept(
                HUBS[0],
                BOB,
                batch_id(2),
                Blame.WRONG_SHARE,
                True,
                Evidence(share=b"s" * 64, expected=b"e" * 64),
            ),
        ]
    )
    subject.store.rekey(Secret(MASTER), subject.entropy)  # so that keys of pads are kept, too
    subject.reopen()
    return subject


def sealed_columns(path: str) -> dict[str, list[object]]:
    """Every column named "sealed" of every table, as it lies there."""
    connection = apsw.Connection(path, apsw.SQLITE_OPEN_READONLY, checked_vfs())
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {}
    for table in tables:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        if "sealed" in columns:
            found[table] = [value for (value,) in connection.execute(f"SELECT sealed FROM {table}")]  # noqa: S608  # names of tables
    connection.close()
    return found


def test_every_sealed_column_there_is_is_sealed_anew(tmp_path: Path) -> None:
    subject = filled(tmp_path)
    state, evidence = subject.state(), subject.store.evidence()
    subject.store.scrub()
    subject.store.close()
    before = sealed_columns(subject.path)
    assert all(before.values()), "a sealed column that this test does not fill"
    store = _open(subject, Secret(MASTER))
    store.rekey(OTHER, subject.entropy)
    store.scrub()
    store.close()
    after = sealed_columns(subject.path)
    assert {name: len(values) for name, values in after.items()} == {
        name: len(values) for name, values in before.items()
    }
    assert [name for name in before if set(before[name]) & set(after[name])] == []
    whole = Path(subject.path).read_bytes()
    assert [name for name, values in before.items() for one in values if bytes(one) in whole] == []  # type: ignore[call-overload]  # columns hold bytes
    subject.store = _open(subject, OTHER)
    assert (subject.state(), subject.store.evidence()) == (state, evidence)
    assert subject.store.read_keys(c.Role.RECEIVER, BOB, [KeyRange(batch_id(2), 0, 1)])
    subject.close()


def test_old_key_opens_nothing_and_the_new_one_opens_it(tmp_path: Path) -> None:
    subject = filled(tmp_path)
    subject.store.rekey(OTHER, subject.entropy)
    subject.store.close()
    keys = (Secret(MASTER), OTHER)
    assert [is_sealed_under(subject.path, StoreKind.KME, one) for one in keys] == [False, True]
    with pytest.raises(StoreFault) as failure:
        _open(subject, Secret(MASTER))
    assert failure.value.code is codes.STORE_WRONG_KEY


def test_store_of_another_kind_is_not_said_to_be_under_another_key(tmp_path: Path) -> None:
    subject = filled(tmp_path)
    subject.store.close()
    with pytest.raises(StoreFault) as failure:
        is_sealed_under(subject.path, StoreKind.HUB, OTHER)
    assert failure.value.code is codes.STORE_FOREIGN


def test_keys_of_pads_stay_and_go_with_their_link(tmp_path: Path) -> None:
    subject = filled(tmp_path)
    (link, *_) = (one.link for one in subject.store.links())
    masks = [subject.store.sealer.table_mask(link.link_id, one)(0, bytes(64)) for one in Direction]
    subject.store.rekey(OTHER, subject.entropy)
    subject.store.close()
    store = _open(subject, OTHER)
    assert [store.sealer.table_mask(link.link_id, one)(0, bytes(64)) for one in Direction] == masks
    store.remove_link(link.link_id, 1)
    store.close()
    left = apsw.Connection(subject.path).execute("SELECT DISTINCT link_id FROM pad_key").fetchall()
    assert len(left) == len(HUBS) - 1
    assert (bytes(link.link_id),) not in left


def test_value_that_was_altered_leaves_everything_as_it_was(tmp_path: Path) -> None:
    subject = filled(tmp_path)
    subject.store.close()
    connection = apsw.Connection(subject.path, vfs=checked_vfs())
    connection.execute("UPDATE root SET sealed = zeroblob(length(sealed))")
    connection.close()
    before = sealed_columns(subject.path)
    store = _open(subject, Secret(MASTER))
    with pytest.raises(StoreFault) as failure:
        store.rekey(OTHER, subject.entropy)
    assert failure.value.code is codes.STORE_CORRUPT
    store.close()
    assert sealed_columns(subject.path) == before
    assert is_sealed_under(subject.path, StoreKind.KME, Secret(MASTER))


def test_store_that_was_sealed_anew_seals_nothing_more_under_the_old_key(tmp_path: Path) -> None:
    subject = filled(tmp_path)
    subject.store.rekey(OTHER, subject.entropy)
    with pytest.raises(LocalBug) as failure:
        subject.commit([root(9)])
    assert failure.value.code in {codes.SECRET_WIPED, codes.BAD_STATE}
    subject.close()


def _open(subject: FileSubject, master: Secret) -> KmeStore:
    return KmeStore.open(subject.path, master, subject.entropy, subject.clock)
