"""What is gone after keys were delivered, voided or dropped: in the row, in the pages, in the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from skex.base.errors import Refused
from skex.base.ids import LinkId
from skex.protocol import changes as c
from skex.protocol.changes import Change, Role
from skex.store.sealing import Place
from tests.stores.support import (
    BOB,
    HUBS,
    LINKS,
    OTHER_SLAVE,
    SLAVE,
    FileSubject,
    assigned,
    batch,
    batch_id,
    given,
    key_range,
    offered,
    received,
    root,
    sent,
)

KEYS = 200
"""6400 bytes: more than a page, so that overflow pages are tested too."""
PLACE = Place("batch_keys", (1, BOB, batch_id().to_bytes()), "sealed")


def files(subject: FileSubject) -> bytes:
    """Everything in the store's directory, in one."""
    return b"".join(path.read_bytes() for path in Path(subject.path).parent.iterdir())


def sealed_keys(subject: FileSubject) -> list[bytes]:
    return [row for (row,) in subject.store._database.execute("SELECT sealed FROM batch_keys ORDER BY batch")]


def pieces(data: bytes) -> list[bytes]:
    """Stretches of a sealed row that each lie within one page, wherever the row begins."""
    return [data[at : at + 24] for at in range(0, len(data) - 24, 24)]


def test_no_key_and_no_root_is_in_the_file_in_clear(file_subject: FileSubject) -> None:
    """The attacker has the file, not the master key."""
    file_subject.commit([received(batch(keys=KEYS)), sent(batch(2)), root(0x4142)])
    secrets = [batch(keys=KEYS).keys.expose(), batch(2).keys.expose(), b"AB" * 16, b"\x07" * 64]
    file_subject.store.scrub()
    content = files(file_subject)
    for secret in secrets:
        assert all(secret[at : at + 16] not in content for at in range(0, len(secret), 16))


@pytest.mark.parametrize(
    "erasing",
    [
        pytest.param([c.KeysVoided(Role.RECEIVER, BOB, (key_range(0, 7),))], id="voided"),
        pytest.param([given(key_range(0, 7), role=Role.RECEIVER, sae=SLAVE)], id="taken by its only slave"),
    ],
)
def test_erased_keys_are_zeros_in_the_sealed_row_and_the_others_are_not(
    file_subject: FileSubject, erasing: list[Change]
) -> None:
    file_subject.commit([received(batch(keys=KEYS)), assigned(key_range(0, 7))])
    file_subject.commit(erasing)
    (sealed,) = sealed_keys(file_subject)
    opened = file_subject.store.sealer.open(PLACE, sealed).expose()
    assert opened == bytes(7 * 32) + batch(keys=KEYS).keys.expose()[7 * 32 :]
    with pytest.raises(Refused, match="key-not-held"):
        file_subject.store.read_keys(Role.RECEIVER, BOB, (key_range(6),))
    (secret,) = file_subject.store.read_keys(Role.RECEIVER, BOB, (key_range(7),))
    assert secret.expose() == batch(keys=KEYS).keys.expose()[7 * 32 : 8 * 32]


@pytest.mark.parametrize(
    "erasing",
    [
        pytest.param([c.KeysVoided(Role.RECEIVER, BOB, (key_range(5, 9),))], id="some keys voided"),
        pytest.param([c.AllKeysVoided(Role.RECEIVER, BOB)], id="all keys voided"),
        pytest.param([c.BatchDropped(Role.RECEIVER, BOB, batch_id())], id="batch dropped"),
        pytest.param([c.BatchAnswered(BOB, batch_id(), ok=False)], id="batch answered void"),
        pytest.param([c.TombstonesDropped(BOB, batch_id().incarnation, 1)], id="tombstone dropped"),
    ],
)
def test_old_sealed_row_is_nowhere_in_the_files_once_they_are_scrubbed(
    file_subject: FileSubject, erasing: list[Change]
) -> None:
    """The attacker finds the files and the master key later."""
    file_subject.commit([received(batch(keys=KEYS))])
    (before,) = sealed_keys(file_subject)
    assert any(piece in files(file_subject) for piece in pieces(before))
    file_subject.commit(erasing)
    file_subject.store.scrub()
    assert [piece for piece in pieces(before) if piece in files(file_subject)] == []
    assert Path(file_subject.path + "-wal").stat().st_size == 0


def test_dropped_root_and_removed_links_key_are_nowhere_once_they_are_scrubbed(
    file_subject: FileSubject,
) -> None:
    subject = file_subject
    subject.commit([root(1)])
    rows = subject.store._database.execute("SELECT sealed FROM root UNION ALL SELECT sealed FROM link")
    subject.commit([c.RootDropped(Role.SENDER, BOB, batch_id())])
    for link_id in LINKS.values():
        subject.store.remove_link(LinkId(link_id), subject.clock())
    subject.store.scrub()
    content = files(subject)
    assert [piece for (row,) in rows for piece in pieces(row) if piece in content] == []


def test_scrubbed_store_goes_on_and_opens_again(file_subject: FileSubject) -> None:
    for counter in range(1, 6):
        file_subject.commit([received(batch(counter, keys=KEYS))])
        file_subject.store.scrub()
        file_subject.commit([c.KeysVoided(Role.RECEIVER, BOB, (key_range(0, counter=counter),))])
    before = file_subject.state()
    file_subject.store.scrub()
    file_subject.store.scrub()
    file_subject.reopen()
    assert file_subject.state() == before
    assert file_subject.store._database.execute("PRAGMA integrity_check") == [("ok",)]


# ── reading keys ────────────────────────────────────────────────────────────────────────────────
def test_keys_are_read_in_the_order_in_which_they_are_asked_for(file_subject: FileSubject) -> None:
    file_subject.commit([sent(batch(1)), sent(batch(2))])
    keys = (key_range(2, 2), key_range(1, counter=2), key_range(0))
    secrets = [one.expose() for one in file_subject.store.read_keys(Role.SENDER, BOB, keys)]
    one, two = batch(1).keys.expose(), batch(2).keys.expose()
    assert secrets == [one[64:96], one[96:], two[32:64], one[:32]]


@pytest.mark.parametrize(
    ("role", "keys"),
    [
        (Role.RECEIVER, (key_range(0),)),
        (Role.SENDER, (key_range(0, counter=2),)),
        (Role.SENDER, (key_range(0), key_range(3, 2))),
    ],
)
def test_keys_that_are_not_there_are_refused_all_together(
    file_subject: FileSubject, role: Role, keys: tuple[object, ...]
) -> None:
    file_subject.commit([sent(batch(1))])
    with pytest.raises(Refused, match="key-not-held"):
        file_subject.store.read_keys(role, BOB, keys)  # type: ignore[arg-type]  # ranges from a table


# ── listing ─────────────────────────────────────────────────────────────────────────────────────
def test_kept_batches_say_what_is_left_free_and_taken(file_subject: FileSubject) -> None:
    subject = file_subject
    subject.commit([sent(batch(1)), received(batch(2))])
    subject.commit([offered(key_range(0, 2)), given(key_range(0))])
    subject.commit([assigned(key_range(1, 2, counter=2), slaves=(OTHER_SLAVE, SLAVE))])
    subject.commit([given(key_range(1, counter=2), role=Role.RECEIVER, sae=SLAVE)])
    subject.reopen()
    own, theirs = subject.store.kept(5.0)
    assert (own.role, own.left, own.free, own.taken) == (
        Role.SENDER,
        (key_range(1, 3),),
        (key_range(2, 2),),
        (),
    )
    assert (theirs.role, theirs.left, theirs.free, theirs.taken) == (
        Role.RECEIVER,
        (key_range(0, 4, counter=2),),
        (key_range(0, counter=2), key_range(3, counter=2)),
        ((SLAVE, (key_range(1, counter=2),)),),
    )
    whole = batch(1)
    assert (own.batch.peer, own.batch.context, own.batch.hubs, own.batch.claim) == (
        BOB,
        whole.context,
        HUBS,
        whole.claim,
    )
    assert len(own.batch.keys) == 0


def test_lifetimes_count_from_before_the_commit_at_the_sender_and_with_the_margin_at_the_receiver(
    file_subject: FileSubject,
) -> None:
    """A restart only shortens: the sender's keys were made up to 8 s before their CONFIRM."""
    file_subject.commit([sent(batch(1)), received(batch(2))])
    file_subject.clock.seconds += 1000
    file_subject.reopen()
    own, theirs = file_subject.store.kept(50.0)
    assert own.expires_at == 50.0 - 1000 + 3600 - 8
    assert theirs.expires_at == 50.0 - 1000 + 3600 + 120


def test_emptied_batches_are_dropped_after_their_lifetime_only(file_subject: FileSubject) -> None:
    subject = file_subject
    subject.commit([sent(batch(1)), sent(batch(2)), received(batch(3))])
    subject.commit([given(key_range(0, 4)), c.AllKeysVoided(Role.RECEIVER, BOB)])
    assert subject.store.emptied() == ()
    subject.clock.seconds += 3600
    over = subject.store.emptied()
    assert over == (c.BatchDropped(Role.SENDER, BOB, batch_id(1)),)
    subject.commit(over)
    assert subject.store.emptied() == ()
    assert not subject.is_committed(BOB, batch_id(1))
    assert subject.is_committed(BOB, batch_id(2))
