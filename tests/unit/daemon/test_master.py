"""The master key: where it may lie, what is refused, and a change of it that is cut short anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skex.base import codes
from skex.base.errors import Refused, SkexError, StoreFault
from skex.base.ids import Direction, HubName, KmeName
from skex.base.secret import Secret
from skex.daemon import master
from skex.daemon.config import load_hub, load_kme
from skex.daemon.enrolment import open_hub, open_kme
from skex.daemon.homes import init_hub, init_kme
from skex.daemon.master import NextKey, SealedMaster, read_master_key
from skex.enrol.creating import KitOrder
from skex.enrol.links import pad_name
from skex.pad.derived import DerivedPad
from skex.pad.kinds import PadKind
from skex.pad.table import TablePad
from skex.runtime import clock, entropy
from skex.runtime.files import DiskFileSystem
from skex.store.database import StoreKind
from skex.store.opened import is_sealed_under
from tests.unit.enrol.kit_support import CHEAP, make_realm

HUB, NORTH, SOUTH = HubName("hub-1"), KmeName("north"), KmeName("south")
PASSPHRASE = b"correct horse battery staple"
KEY = bytes(range(32))


def asked() -> Secret:
    return Secret(PASSPHRASE)


def nobody() -> Secret:
    raise AssertionError("nobody may be asked")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub that enrolled a KME with a derived and one with a table pad."""
    monkeypatch.delenv(master.CREDENTIALS_VARIABLE, raising=False)
    made = tmp_path / "hub"
    init_hub(made, HUB, make_realm().to_bytes(), {})
    with open_hub(load_hub(made)) as opened:
        for kme, kind, units in ((NORTH, PadKind.DERIVED, 0), (SOUTH, PadKind.TABLE, 3)):
            order = KitOrder(
                opened.realm, HUB, kme, kind, clock.unix_seconds(), units_to_hub=units, units_to_kme=units
            )
            with (tmp_path / f"{kme}.kit").open("w+b") as kit:
                opened.create_kit(order, kit, lambda: None, replace=False, progress=lambda _: None)
    return made


def rekey(home: Path, following: NextKey) -> None:
    with open_hub(load_hub(home)) as opened:
        opened.rekey(following)


def material(home: Path) -> dict[str, bytes]:
    """Link keys and the first grant of each pad; of copies of the pads, so that nothing is used up."""
    found: dict[str, bytes] = {}
    copies = home.parent / "copies"
    shutil.rmtree(copies, ignore_errors=True)
    shutil.copytree(home / "pads", copies)
    fs = DiskFileSystem(copies)
    with open_hub(load_hub(home)) as opened:
        sealer = opened.site.sealing
        for stored in opened.links():
            link = stored.link
            found[link.kme] = link.key.expose()
            for direction in Direction:
                name = pad_name(link.link_id, direction)
                if link.kind is PadKind.TABLE:
                    unmask = sealer.table_mask(link.link_id, direction)
                    pad = TablePad.open(fs, name, link.link_id, direction, 0, unmask=unmask)
                    grant = pad.finish(pad.prepare(0, 1))
                else:
                    chain = sealer.chain_sealing(link.link_id, direction)
                    derived = DerivedPad.open(fs, name, link.link_id, direction, 0, sealing=chain)
                    grant = derived.finish(derived.prepare(0, 1, bytes(32), bytes(32)))
                found[f"{link.kme} {direction.name}"] = bytes(grant.take(16, 64))
    return found


# ── where it lies ───────────────────────────────────────────────────────────────────────────────
def test_key_in_a_file_is_read_and_nobody_asked(tmp_path: Path) -> None:
    (tmp_path / "master.key").write_bytes(KEY)
    (tmp_path / "master.key").chmod(0o600)
    assert read_master_key(tmp_path, nobody).expose() == KEY


def test_key_under_a_passphrase_is_had_with_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "master.sealed"
    path.write_bytes(SealedMaster.make(Secret(KEY), asked(), CHEAP).to_bytes())
    path.chmod(0o600)
    assert KEY not in path.read_bytes()
    assert read_master_key(tmp_path, asked).expose() == KEY
    with pytest.raises(StoreFault) as failure:
        read_master_key(tmp_path, lambda: Secret(PASSPHRASE + b"r"))
    assert failure.value.code is codes.MASTER_PASSPHRASE_WRONG


def test_key_that_the_service_manager_brings_is_used_where_the_home_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "skex-master-key").write_bytes(KEY)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert read_master_key(tmp_path, nobody).expose() == KEY


@pytest.mark.parametrize("name", ["master.key", "master.sealed"])
def test_file_that_others_can_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(KEY)
    (tmp_path / name).chmod(0o640)
    assert _code(tmp_path) is codes.MASTER_KEY_INVALID


@pytest.mark.parametrize("size", [0, 31, 33, 10_000])
def test_file_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "master.key").write_bytes(bytes(size))
    (tmp_path / "master.key").chmod(0o600)
    assert _code(tmp_path) is codes.MASTER_KEY_INVALID


def test_missing_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert _code(tmp_path) is codes.MASTER_KEY_INVALID
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert _code(tmp_path) is codes.MASTER_KEY_INVALID


@given(st.data())
def test_sealed_file_with_anything_changed_opens_nothing_and_asks_for_nothing_endless(
    data: st.DataObject,
) -> None:
    whole = bytearray(SEALED)
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    if not _costs_little(bytes(whole)):
        return
    with pytest.raises(StoreFault) as failure:
        SealedMaster.from_bytes(bytes(whole), "it").opened(asked)
    assert failure.value.code in {codes.MASTER_KEY_INVALID, codes.MASTER_PASSPHRASE_WRONG}


SEALED = SealedMaster.make(Secret(KEY), Secret(PASSPHRASE), CHEAP).to_bytes()


def _costs_little(data: bytes) -> bool:
    """Changed costs within the bounds are tried like others, which takes their time."""
    try:
        cost = SealedMaster.from_bytes(data, "it").cost
    except StoreFault:
        return True
    return cost.memory_kib <= 2 * CHEAP.memory_kib and cost.passes <= 4


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read_as_written(data: bytes) -> None:
    try:
        read = SealedMaster.from_bytes(data, "it")
    except StoreFault:
        return
    assert read.to_bytes() == data


def _code(home: Path) -> object:
    with pytest.raises(SkexError) as failure:
        read_master_key(home, nobody)
    return failure.value.code


# ── the passphrase ──────────────────────────────────────────────────────────────────────────────
def test_passphrase_comes_from_the_credential_then_the_named_file_then_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("SKEX_PASSPHRASE_FILE", str(tmp_path / "named"))
    (tmp_path / "named").write_bytes(b"from the named file\r\nand no more")
    assert master.passphrase_at_hand().expose() == b"from the named file"
    (tmp_path / "skex-passphrase").write_bytes(b"from the credential")
    assert master.passphrase_at_hand().expose() == b"from the credential"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    monkeypatch.delenv("SKEX_PASSPHRASE_FILE")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _: "typed by somebody")
    assert master.passphrase_at_hand().expose() == b"typed by somebody"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, codes.MASTER_KEY_INVALID),
        (b"\xff" * 20, codes.KIT_PASSPHRASE_WEAK),
        (b"short", codes.KIT_PASSPHRASE_WEAK),
    ],
)
def test_passphrase_file_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, code: object
) -> None:
    monkeypatch.setenv("SKEX_PASSPHRASE_FILE", str(tmp_path / "named"))
    if content is not None:
        (tmp_path / "named").write_bytes(content)
    with pytest.raises(SkexError) as failure:
        master.passphrase_at_hand()
    assert failure.value.code is code


def test_nobody_at_a_terminal_and_no_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKEX_PASSPHRASE_FILE", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(Refused) as refusal:
        master.passphrase_at_hand()
    assert refusal.value.code is codes.MASTER_PASSPHRASE_MISSING


# ── changing it ─────────────────────────────────────────────────────────────────────────────────
def test_links_and_pads_outlive_two_changes_and_the_old_keys_open_nothing(home: Path) -> None:
    before = material(home)
    keys = [read_master_key(home)]
    for _ in range(2):
        rekey(home, NextKey.in_file(home))
        assert material(home) == before
        keys.append(read_master_key(home))
    store = str(home / "store.sqlite")
    assert [is_sealed_under(store, StoreKind.HUB, one) for one in keys] == [False, False, True]
    assert sorted(path.name for path in home.glob("master*")) == ["master.key"]


def test_pads_of_links_that_were_enrolled_later_are_sealed_under_the_new_key(home: Path) -> None:
    rekey(home, NextKey.in_file(home))
    kme = home.parent / "south"
    init_kme(kme, SOUTH, {})
    with open_kme(load_kme(kme)) as opened, (home.parent / "south.kit").open("rb") as kit:
        opened.import_kit(kit, nobody, replace=False, progress=lambda _: None)
    with open_hub(load_hub(home)) as opened, (home.parent / "again.kit").open("w+b") as kit:
        order = KitOrder(opened.realm, HUB, NORTH, PadKind.DERIVED, clock.unix_seconds())
        opened.create_kit(order, kit, lambda: None, replace=True, progress=lambda _: None)
    before = material(home)
    rekey(home, NextKey.in_file(home))
    assert material(home) == before


def test_key_goes_under_a_passphrase_to_a_credential_and_back_to_a_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = material(home)
    old = (home / "master.key").read_bytes()
    rekey(home, NextKey.under_passphrase(home, asked(), CHEAP))
    assert sorted(path.name for path in home.glob("master*")) == ["master.sealed"]
    monkeypatch.setattr(master.settled_master_key, "__defaults__", (asked,))
    monkeypatch.setattr(master.read_master_key, "__defaults__", (asked,))
    assert material(home) == before
    credentials = home.parent / "credentials"
    credentials.mkdir()
    rekey(home, NextKey.for_credential(home, credentials / "skex-master-key"))
    assert list(home.glob("master*")) == []
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert material(home) == before
    rekey(home, NextKey.in_file(home))
    assert material(home) == before
    assert (home / "master.key").read_bytes() not in {old, (credentials / "skex-master-key").read_bytes()}


def test_file_for_a_credential_is_never_written_over(home: Path) -> None:
    out = home.parent / "taken"
    out.write_bytes(b"precious")
    before = (home / "master.key").read_bytes()
    with pytest.raises(Refused) as refusal:
        rekey(home, NextKey.for_credential(home, out))
    assert (refusal.value.code, out.read_bytes()) == (codes.FILE_EXISTS, b"precious")
    assert (home / "master.key").read_bytes() == before


class Cut(Exception):
    """The power goes."""


STEPS: dict[str, Callable[[pytest.MonkeyPatch, Callable[..., object]], None]] = {
    "the new key is written": lambda patch, cut: patch.setattr(
        "skex.daemon.evidence.Evidence.master_key_changed", cut
    ),
    "the audit log knows": lambda patch, cut: patch.setattr("skex.store.opened.OpenedStore.rekey", cut),
    "the store is sealed anew": lambda patch, cut: patch.setattr("skex.store.opened.OpenedStore.scrub", cut),
    "the store is scrubbed": lambda patch, cut: patch.setattr(NextKey, "settle", cut),
    "the old key is overwritten": lambda patch, cut: patch.setattr("pathlib.Path.replace", cut),
    "the new key is in its place": lambda patch, cut: patch.setattr("skex.daemon.master.sync_directory", cut),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("sealed", [False, True], ids=["file", "passphrase"])
def test_change_that_is_cut_short_leaves_one_key_and_nothing_is_lost(
    home: Path, monkeypatch: pytest.MonkeyPatch, step: str, sealed: bool
) -> None:
    before = material(home)
    following = NextKey.under_passphrase(home, asked(), CHEAP) if sealed else NextKey.in_file(home)

    def cut(*_: object) -> None:
        raise Cut

    with open_hub(load_hub(home)) as opened, monkeypatch.context() as patch:
        following.prepare()
        patch.setattr(following, "prepare", lambda: None)
        STEPS[step](patch, cut)
        with pytest.raises(Cut):
            opened.rekey(following)
    monkeypatch.setattr(master.settled_master_key, "__defaults__", (asked,))
    assert material(home) == before
    # Whatever was opened for writing ended the change, one way or the other.
    assert len(list(home.glob("master*"))) == 1


def test_of_two_keys_that_both_open_nothing_neither_is_erased(home: Path) -> None:
    for name in ("master.key", "master.key.next"):
        (home / name).write_bytes(entropy.random_bytes(32))
        (home / name).chmod(0o600)
    with pytest.raises(StoreFault) as failure, open_hub(load_hub(home)):
        pass
    assert failure.value.code is codes.MASTER_KEY_INVALID
    assert len(list(home.glob("master*"))) == 2
