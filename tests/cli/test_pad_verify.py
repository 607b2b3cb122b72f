"""``skex pad verify`` on homes of both ends: clean where all is well, and right about each planted wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from skex.audit import events
from skex.audit.events import Event
from skex.audit.fields import Subject
from skex.base import codes
from skex.base.ids import Direction, KmeName, LinkId
from skex.base.secret import Secret
from skex.daemon.master import read_master_key
from skex.daemon.starting import (
    locked,
)
from skex.enrol.links import pad_name
from skex.pad.derived import DerivedPad
from skex.pad.kinds import PadKind
from skex.pad.layout import HEADER_BYTES
from skex.pad.table import UNIT_BYTES, TablePad
from skex.protocol import changes as c
from skex.protocol.changes import Change, LinkFrozen, MarkRaised, PeerSeen, PrefaceCounted
from skex.runtime import clock, entropy
from skex.runtime.auditfile import open_audit
from skex.runtime.files import DiskFileSystem
from skex.store.database import checked_vfs
from skex.store.hub import HubStore
from skex.store.kme import KmeStore
from tests.cli.transcripts import refused, skex
from tests.stores import support
from tests.support.network import TABLE_UNITS, Homes

CHAIN, TABLE = "north", "south"
HUB = "hub-1"
KMES = {CHAIN: PadKind.DERIVED, TABLE: PadKind.TABLE}


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    """One hub, one KME with chains, one with tables; every link was used once."""
    homes = Homes(tmp_path_factory.mktemp("enrolled"), hubs=3, kmes=KMES, door=False)
    homes.enrol([HUB])
    for kme in KMES:
        for direction in Direction:
            take(homes.home(HUB), kme, direction, 2)
            take(homes.home(kme), kme, direction, 2)
    return homes


@pytest.fixture
def homes(enrolled: Homes, tmp_path: Path) -> Path:
    """A directory with the homes hub-1, north and south; a test may do to them what it likes."""
    for name in (HUB, *KMES):
        shutil.copytree(enrolled.home(name), tmp_path / name)
    return tmp_path


@contextmanager
def store_of(home: Path) -> Iterator[HubStore | KmeStore]:
    master, path = read_master_key(home), str(home / "store.sqlite")
    store: HubStore | KmeStore
    if (home / "hub.toml").exists():
        store = HubStore.open(path, master, entropy.random_bytes)
    else:
        store = KmeStore.open(path, master, entropy.random_bytes, clock.unix_seconds)
    try:
        yield store
    finally:
        store.close()


def link_id(store: HubStore | KmeStore, kme: str) -> LinkId:
    return next(one.link.link_id for one in store.links() if one.link.kme == kme)


def take(home: Path, kme: str, direction: Direction, upto: int, *, store_too: bool = True) -> None:
    """Take everything below ``upto``, as a daemon does, or without the store having heard of it."""
    with store_of(home) as store:
        link = link_id(store, kme)
        marks = store.marks(link)
        mark = marks.to_hub if direction is Direction.TO_HUB else marks.to_kme
        files, name = DiskFileSystem(home / "pads"), pad_name(link, direction)
        pad: TablePad | DerivedPad
        if KMES[kme] is PadKind.TABLE:
            mask = store.sealer.table_mask(link, direction)
            pad = TablePad.open(files, name, link, direction, mark, unmask=mask)
        else:
            sealing = store.sealer.chain_sealing(link, direction)
            pad = DerivedPad.open(files, name, link, direction, mark, sealing=sealing)
        while pad.mark < upto:
            prepared = pad.prepare(pad.mark, 1, bytes(32), bytes(32))
            if store_too:
                store.commit([[MarkRaised(link, direction, prepared.new_mark)]])
            pad.finish(prepared).wipe()
        pad.close()


def commit(home: Path, make: Callable[[LinkId], Change], kme: str = TABLE) -> None:
    with store_of(home) as store:
        store.commit([[make(link_id(store, kme))]])


def pad_file(home: Path, kme: str = TABLE, direction: Direction = Direction.TO_HUB) -> Path:
    with store_of(home) as store:
        return home / "pads" / pad_name(link_id(store, kme), direction)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def verified(homes: Path, *names: str) -> tuple[int, dict[str, Any]]:
    given = [homes / name for name in names or (HUB, *KMES)]
    answer = skex("pad", "verify", *given, "--json")
    assert answer.stderr == ""
    return answer.code, answer.data


def about(data: dict[str, Any], subject: str) -> dict[str, list[tuple[str, str]]]:
    """What is said about one link or pair: verdicts and sentences by check."""
    chapter = next(one for one in (*data["links"], *data["keys"]) if one["subject"].startswith(subject))
    said: dict[str, list[tuple[str, str]]] = {}
    for one in chapter["statements"]:
        said.setdefault(one["check"], []).append((one["verdict"], one["sentence"]))
    return said


def wrongs(data: dict[str, Any]) -> set[str]:
    chapters = (*data["links"], *data["keys"])
    return {one["check"] for found in chapters for one in found["statements"] if one["verdict"] == "wrong"}


# ── links ───────────────────────────────────────────────────────────────────────────────────────
def test_two_ends_that_agree_are_proved_and_nothing_is_changed(homes: Path) -> None:
    files = {path: path.read_bytes() for path in sorted(homes.glob("*/pads/*"))}
    code, data = verified(homes)
    assert (code, data["counts"]["wrong"]) == (0, 0)
    for kme in KMES:
        said = about(data, f"{kme} with {HUB}")
        for check in ("marks", "erased", "seen", "material", "overlap"):
            assert {verdict for verdict, _ in said[check]} == {"proved"}, check
    assert "intact" in about(data, f"{TABLE} with")
    assert files == {path: path.read_bytes() for path in sorted(homes.glob("*/pads/*"))}
    text = skex("pad", "verify", *(homes / name for name in (HUB, *KMES))).stdout
    assert "proved  overlap: Every grant began at or above both ends' marks" in text


def test_no_position_mark_or_material_is_said(homes: Path) -> None:
    take(homes / TABLE, TABLE, Direction.TO_HUB, 777)
    _, data = verified(homes)
    chapters = (*data["links"], *data["keys"])
    sentences = [one["sentence"] for chapter in chapters for one in chapter["statements"]]
    assert not any("777" in sentence for sentence in sentences)


def test_one_end_alone_says_what_it_cannot_see(homes: Path) -> None:
    code, data = verified(homes, TABLE)
    said = about(data, f"{TABLE} with")
    assert code == 0
    assert said["material"][0][0] == "unseen"
    assert said["overlap"][0][0] == "proved"


def test_the_home_of_the_command_line_is_taken_when_none_is_named(homes: Path) -> None:
    answer = skex("pad", "verify", "--home", homes / TABLE, "--json")
    assert answer.code == 0
    assert [one["name"] for one in answer.data["homes"]] == [TABLE]


def test_used_material_that_is_back_and_material_that_is_gone_are_wrong(homes: Path) -> None:
    path = pad_file(homes / TABLE)
    overwrite(path, HEADER_BYTES, b"\1" * UNIT_BYTES)
    overwrite(path, HEADER_BYTES + 9 * UNIT_BYTES, bytes(UNIT_BYTES))
    code, data = verified(homes)
    said = about(data, f"{TABLE} with")
    assert (code, wrongs(data)) == (4, {"erased", "intact", "material"})
    assert "1 used units to the hub are back at south." in [sentence for _, sentence in said["erased"]]


def test_a_take_that_a_crash_cut_off_before_it_was_erased_is_no_wrong(homes: Path) -> None:
    for kme in KMES:
        commit(homes / kme, lambda link: MarkRaised(link, Direction.TO_HUB, 3), kme)
    code, data = verified(homes)
    assert (code, wrongs(data)) == (0, set())
    for kme in KMES:
        said = [sentence for _, sentence in about(data, f"{kme} with")["erased"]]
        assert any("The next start erases 1 positions" in sentence for sentence in said)


def test_different_material_at_the_ends_is_wrong(homes: Path) -> None:
    overwrite(pad_file(homes / TABLE), HEADER_BYTES + 5 * UNIT_BYTES, b"\1" * 16)
    code, data = verified(homes)
    assert (code, wrongs(data)) == (4, {"material"})
    assert about(data, f"{TABLE} with")["material"][0][1] == (
        "hub-1 and south hold different material (to the hub)."
    )


def test_chains_are_compared_where_one_end_is_further_on(homes: Path) -> None:
    take(homes / CHAIN, CHAIN, Direction.TO_KME, 9)
    code, data = verified(homes)
    assert (code, about(data, f"{CHAIN} with")["material"][0][0]) == (0, "proved")


def test_chains_too_far_apart_to_compare_are_unseen(homes: Path) -> None:
    commit(homes / CHAIN, lambda link: MarkRaised(link, Direction.TO_HUB, 70_000), CHAIN)
    code, data = verified(homes)
    verdict, sentence = about(data, f"{CHAIN} with")["material"][0]
    assert (code, verdict) == (0, "unseen")
    assert codes.PAD_JUMP.sentence in sentence


def test_a_table_that_is_used_up_leaves_nothing_to_compare(homes: Path) -> None:
    for direction in Direction:
        commit(homes / TABLE, lambda link, way=direction: MarkRaised(link, way, TABLE_UNITS))  # type: ignore[misc]  # one argument is given
    assert about(verified(homes)[1], f"{TABLE} with")["material"][0][0] == "unseen"


def test_an_end_that_was_seen_further_on_was_restored(homes: Path) -> None:
    commit(homes / HUB, lambda link: PeerSeen(link, 50, 0, 0))
    code, data = verified(homes)
    said = about(data, f"{TABLE} with")
    assert (code, wrongs(data)) == (4, {"seen"})
    assert said["seen"] == [("wrong", "hub-1 has seen south further than it is: south was restored.")]
    assert said["overlap"][0][0] == "proved"
    assert said["overlap"][0][1].endswith("those of hub-1 never fell.")
    commit(homes / TABLE, lambda link: LinkFrozen(link, codes.ROLLBACK_FOUND.name))
    code, data = verified(homes)
    assert (code, about(data, f"{TABLE} with")["seen"][0][0]) == (0, "unseen")


def test_a_count_that_fell_is_a_sign_like_a_mark(homes: Path) -> None:
    commit(homes / TABLE, lambda link: PrefaceCounted(link, 4))
    commit(homes / TABLE, lambda link: PeerSeen(link, 0, 0, 2))
    assert wrongs(verified(homes)[1]) == {"seen"}
    commit(homes / HUB, lambda link: PrefaceCounted(link, 2))
    assert wrongs(verified(homes)[1]) == set()


def test_a_pad_file_ahead_of_its_store_is_wrong(homes: Path) -> None:
    take(homes / TABLE, TABLE, Direction.TO_HUB, 5, store_too=False)
    code, data = verified(homes)
    assert (code, wrongs(data)) == (4, {"marks"})


def test_a_table_of_which_both_ends_fell_may_overlap(homes: Path) -> None:
    with store_of(homes / HUB) as store:
        link = link_id(store, TABLE)
    audit = open_audit(homes / HUB / "audit")
    audit.emit(Event(events.ROLLBACK_NOTICED, subjects=(Subject.link(link),)))
    audit.close()
    code, data = verified(homes)
    assert (code, about(data, f"{TABLE} with")["overlap"][0][0]) == (0, "proved")
    commit(homes / TABLE, lambda link: LinkFrozen(link, codes.ROLLBACK_FOUND.name))
    code, data = verified(homes)
    assert (code, wrongs(data)) == (4, {"overlap"})
    assert about(data, f"{CHAIN} with")["overlap"][0][0] == "proved"


def test_a_rollback_that_is_not_settled_counts_for_every_link(homes: Path) -> None:
    commit(homes / TABLE, lambda _: c.RollbackFound(codes.PAD_MARK_CONTRADICTS.name))
    said = about(verified(homes, TABLE)[1], f"{TABLE} with")
    assert (said["marks"][0][0], said["overlap"][0][0]) == ("unseen", "unseen")


def test_two_copies_of_one_home_are_wrong_and_told_apart(homes: Path) -> None:
    shutil.copytree(homes / TABLE, homes / "copy")
    code, data = verified(homes, HUB, TABLE, "copy")
    assert (code, wrongs(data)) == (4, {"copies"})
    said = about(data, f"{TABLE} with")
    assert f"south in {homes / 'copy'}" in said["copies"][0][1]
    assert said["overlap"][0][0] == "proved"


def test_a_home_named_twice_is_looked_at_once(homes: Path) -> None:
    code, data = verified(homes, HUB, f"../{homes.name}/{HUB}", TABLE)
    assert (code, len(data["homes"])) == (0, 2)


def test_a_missing_pad_file_another_links_and_one_cut_short_are_wrong(homes: Path) -> None:
    pad_file(homes / HUB, CHAIN).unlink()
    shutil.copy(pad_file(homes / TABLE), pad_file(homes / TABLE, direction=Direction.TO_KME))
    with pad_file(homes / HUB).open("r+b") as file:
        file.truncate(HEADER_BYTES + UNIT_BYTES)
    code, data = verified(homes)
    assert (code, wrongs(data)) == (4, {"pad"})
    assert "The pad to the KME at south is another's." in [
        sentence for _, sentence in about(data, f"{TABLE} with")["pad"]
    ]


def test_a_running_home_is_looked_at_from_outside(homes: Path) -> None:
    with locked(homes / TABLE), locked(homes / HUB):
        code, data = verified(homes)
    assert code == 0
    assert [one["running"] for one in data["homes"]] == [True, False, True]
    links = [one for one in data["links"] if "with" not in one["subject"]]
    checks = {(one["check"], one["verdict"]) for link in links for one in link["statements"]}
    assert {("marks", "unseen"), ("erased", "proved"), ("intact", "proved")} <= checks
    assert about(data, f"keys of {CHAIN} for {TABLE}")["keys"][0][0] == "unseen"


def test_a_running_home_whose_used_material_is_back_is_wrong(homes: Path) -> None:
    path = pad_file(homes / TABLE)
    overwrite(path, HEADER_BYTES, b"\1" * UNIT_BYTES)
    with locked(homes / TABLE):
        assert wrongs(verified(homes, TABLE)[1]) == {"erased"}
    path.unlink()
    with locked(homes / TABLE):
        assert wrongs(verified(homes, TABLE)[1]) == {"pad"}


def test_a_home_without_a_lock_is_looked_at_and_gets_none(homes: Path) -> None:
    (homes / TABLE / "lock").unlink()
    assert verified(homes, TABLE)[0] == 0
    assert not (homes / TABLE / "lock").exists()


def test_what_is_no_home_and_what_cannot_be_opened_are_refused(homes: Path) -> None:
    assert skex("pad", "verify", homes / "nothing").code == 2
    assert refused("pad", "verify", "--home", homes / "nothing") == (4, "home-missing")
    assert refused("pad", "verify", homes)[0] == 3
    (homes / TABLE / "master.key").write_bytes(bytes(32))
    assert refused("pad", "verify", homes / TABLE) == (4, "store-wrong-key")
    database = apsw.Connection(str(homes / HUB / "store.sqlite"), vfs=checked_vfs())
    database.execute("PRAGMA user_version = 0")
    database.close()
    assert refused("pad", "verify", homes / HUB) == (4, "store-outdated")


# ── keys ────────────────────────────────────────────────────────────────────────────────────────
def keep(homes: Path, sent: c.Batch | None, received: c.Batch | None) -> None:
    """A batch of north for south, at each end."""
    if sent is not None:
        with store_of(homes / CHAIN) as store:
            store.commit([[support.sent(replace(sent, peer=KmeName(TABLE)))]])
    if received is not None:
        with store_of(homes / TABLE) as store:
            store.commit([[support.received(replace(received, peer=KmeName(CHAIN)))]])


PAIR = f"keys of {CHAIN} for {TABLE}"


def test_keys_of_both_ends_are_equal_and_those_assigned_meanwhile_too(homes: Path) -> None:
    keep(homes, support.batch(), support.batch())
    with store_of(homes / CHAIN) as store:
        store.commit([[c.KeysVoided(c.Role.SENDER, KmeName(TABLE), (support.key_range(),))]])
    code, data = verified(homes)
    said = about(data, PAIR)
    assert (code, said["keys"]) == (0, [("proved", "3 keys are held by both ends, and equal.")])
    assert said["held"][0][0] == "proved"
    assert about(data, f"keys of {TABLE} for {CHAIN}")["keys"][0][0] == "unseen"


def test_one_byte_of_one_key_that_differs_is_wrong(homes: Path) -> None:
    other = bytearray(support.batch().keys.expose())
    other[40] ^= 1
    keep(homes, support.batch(), replace(support.batch(), keys=Secret(bytes(other))))
    code, data = verified(homes)
    assert (code, about(data, PAIR)["keys"]) == (
        4,
        [("wrong", "1 keys and 0 contexts differ at the two ends.")],
    )


def test_contexts_that_differ_are_wrong(homes: Path) -> None:
    keep(homes, support.batch(), support.batch(lifetime=support.LIFETIME + 1))
    assert wrongs(verified(homes)[1]) == {"keys"}


def test_keys_that_the_receiver_lost_are_wrong_unless_it_is_about_to_say_so(homes: Path) -> None:
    keep(homes, support.batch(), None)
    code, data = verified(homes)
    assert (code, wrongs(data)) == (4, {"held"})
    revocation = c.ControlQueued(c.Role.RECEIVER, KmeName(CHAIN), support.request(1), b"revoke")
    with store_of(homes / TABLE) as store:
        store.commit([[revocation]])
    code, data = verified(homes)
    assert (code, about(data, PAIR)["held"][0][0]) == (0, "unseen")


def test_keys_past_their_lifetime_may_be_lost(homes: Path) -> None:
    keep(homes, support.batch(lifetime=1), None)
    assert about(verified(homes)[1], PAIR)["held"][0][0] == "proved"
