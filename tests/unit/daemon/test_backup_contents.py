"""What a backup says that it holds: plain paths, each link once, nothing else."""

from __future__ import annotations

import io
from pathlib import PurePosixPath

import pytest

from skex.base import codes
from skex.base.errors import Refused
from skex.base.ids import HubName, KmeName, LinkId, RealmName
from skex.daemon.backup.container import BackupReader, BackupWriter, DaemonKind, Header
from skex.daemon.backup.contents import FileEntry, FileRole, Manifest, State, is_plain, path_in_backup
from skex.daemon.backup.restoring import examine, unlock
from skex.enrol.passphrase import parse_passphrase, stretch
from skex.pad.kinds import PadKind
from skex.store.links import LinkRecord
from skex.wire.claim import Enrolment
from skex.wire.codec import decode, encode
from tests.unit.enrol.kit_support import CHEAP, PASSPHRASE

LINK = LinkRecord(
    LinkId(b"link one"),
    RealmName("example"),
    HubName("hub-1"),
    KmeName("site-a"),
    PadKind.TABLE,
    5,
    6,
    Enrolment.UNDER_PASSPHRASE,
    1_700_000_000,
    True,  # the operator let it rest
    None,
    ("pad-jump", "rollback-found"),
)


def manifest(*paths: str, links: tuple[LinkRecord, ...] = (LINK,)) -> Manifest:
    files = tuple(FileEntry(FileRole.POLICY, path, 3) for path in paths)
    return Manifest("0.1.0", State(None, links), files)


def refusal(one: Manifest) -> str:
    with pytest.raises(Refused) as caught:
        Manifest.from_bytes(one.to_bytes())
    assert caught.value.code is codes.BACKUP_MALFORMED
    return caught.value.detail


def test_manifest_comes_back_as_it_was() -> None:
    one = manifest("kme.toml", "audit/audit-00000000000000000001.jsonl", "outside/etc/skex/policy.toml")
    assert Manifest.from_bytes(one.to_bytes()) == one
    assert State.from_bytes(one.state.to_bytes()) == one.state


@pytest.mark.parametrize(
    "path",
    [
        "../kme.toml",
        "tls/../../kme.toml",
        "/etc/passwd",
        ".incomplete",
        "tls/.hidden",
        "tls//ca.pem",
        "tls/",
        ".",
        "master.key",
        "store.sqlite",
        "store.sqlite-wal",
        "pads/0011223344556677-to-hub.pad",
        "lock",
        "ports.json",
        "a\\b",
        "end ",
        "/".join("x" * 17),
        "x" * 129,
    ],
)
def test_path_that_leads_elsewhere_or_is_taken_is_refused(path: str) -> None:
    """The attacker knows the passphrase and wants a file where none of a backup belongs."""
    assert not is_plain(path)
    assert "path" in refusal(manifest(path))


def test_path_that_stands_twice_is_refused() -> None:
    assert "twice" in refusal(manifest("policy.toml", "policy.toml"))


def test_file_where_a_directory_is_is_refused() -> None:
    assert "directory" in refusal(manifest("tls/ca.pem", "tls"))


def test_link_that_stands_twice_is_refused() -> None:
    assert "twice" in refusal(manifest("policy.toml", links=(LINK, LINK)))


def test_backup_without_files_is_refused() -> None:
    refusal(manifest())


@pytest.mark.parametrize(
    "frozen", [["rollback-found", "pad-jump"], ["pad-jump"] * 2, ["no code!"], ["x"] * 17]
)
def test_codes_out_of_order_or_form_are_refused(frozen: list[str]) -> None:
    value = decode(manifest("policy.toml").to_bytes(), 1000)
    assert isinstance(value, list)
    value[1][1][0][11] = frozen
    with pytest.raises(Refused, match="backup-malformed"):
        Manifest.from_bytes(encode(value))


def test_realm_file_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="backup-malformed"):
        State.from_bytes(encode([b"no realm", []]))


def test_files_outside_the_home_stand_apart() -> None:
    home = PurePosixPath("/var/lib/skex")
    assert path_in_backup(home / "tls/ca.pem", home) == "tls/ca.pem"
    assert path_in_backup(PurePosixPath("/etc/skex/policy.toml"), home) == "outside/etc/skex/policy.toml"


# ── what is sealed under the right passphrase, and still wrong ──────────────────────────────────
def sealed(content: bytes) -> BackupReader:
    """The attacker knows the passphrase."""
    header = Header(bytes(16), DaemonKind.KME, "site-a", None, 1, len(content), bytes(16), CHEAP)
    sink = io.BytesIO()
    passphrase = parse_passphrase(PASSPHRASE)
    writer = BackupWriter(sink, header, stretch(passphrase, header.salt, header.cost))
    writer.write(content)
    writer.finish()
    return BackupReader(io.BytesIO(sink.getvalue()))


def framed(one: Manifest, files: bytes = b"") -> bytes:
    encoded = one.to_bytes()
    return len(encoded).to_bytes(4, "big") + encoded + files


@pytest.mark.parametrize(
    "content",
    [
        bytes(4),
        b"\x01\x00\x00\x01manifest",
        b"\x00",
        framed(manifest("policy.toml"), b"ab"),
        framed(manifest("policy.toml"), b"abcd"),
        framed(manifest("policy.toml"))[:-1],
    ],
    ids=[
        "no manifest",
        "endless manifest",
        "no length",
        "a file too short",
        "a file too long",
        "cut manifest",
    ],
)
def test_content_that_its_manifest_does_not_fit_is_refused(content: bytes) -> None:
    with pytest.raises(Refused, match="backup-malformed"):
        unlock(sealed(content), parse_passphrase(PASSPHRASE))


def test_content_that_its_manifest_fits_is_opened() -> None:
    reader = sealed(framed(manifest("policy.toml"), b"abc"))
    contents = unlock(reader, parse_passphrase(PASSPHRASE))
    assert contents.manifest == manifest("policy.toml")
    assert contents.awaiting == (LINK,)
    examine(reader, contents)
