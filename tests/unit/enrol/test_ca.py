"""The small authority: what it issues verifies with OpenSSL, and what it must not issue it does not."""

from __future__ import annotations

import errno
import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skex.base import codes
from skex.base.errors import ErrorCode, Refused, StoreFault
from skex.base.secret import Secret
from skex.enrol.ca import (
    Issued,
    Revocation,
    Subject,
    create_ca,
    issue,
    load_ca,
    revocation_list,
    write_private,
)
from skex.runtime import clock
from skex.runtime.entropy import random_bytes

NOW = clock.wall().replace(microsecond=0)


@pytest.fixture(scope="module")
def authority() -> Issued:
    return create_ca("Site A", 30, now=NOW, entropy=random_bytes)


def make(authority: Issued, subject: Subject, name: str, *hosts: str, days: int = 1) -> x509.Certificate:
    issued = issue(authority, subject, name, hosts, days, now=NOW, entropy=random_bytes)
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    key = serialization.load_pem_private_key(issued.key.expose(), None)
    assert certificate.public_key() == key.public_key()
    assert certificate.serial_number == issued.serial
    return certificate


def verify(scratch: Path, authority: Issued, certificate: bytes, *arguments: str) -> str:
    """What the system's openssl says."""
    (scratch / "ca.pem").write_bytes(authority.certificate)
    (scratch / "one.pem").write_bytes(certificate)
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", scratch / "ca.pem", *arguments, scratch / "one.pem"],  # noqa: S607 - the system's
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.stdout + done.stderr


def test_kme_is_a_server_and_sae_a_client_by_openssls_strict_rules(authority: Issued, tmp_path: Path) -> None:
    for subject, name, good, bad in (
        (Subject.KME, "site-a", "sslserver", "sslclient"),
        (Subject.SAE, "a@site-a", "sslclient", "sslserver"),
    ):
        pem = issue(authority, subject, name, ["kme.test"], 1, now=NOW, entropy=random_bytes).certificate
        assert "one.pem: OK" in verify(tmp_path, authority, pem, "-purpose", good)
        assert "OK" not in verify(tmp_path, authority, pem, "-purpose", bad)


def test_names_are_where_doors_and_browsers_look(authority: Issued) -> None:
    certificate = make(authority, Subject.KME, "site-a", "kme.test", "127.0.0.1", "::1")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert not names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == ["kme:site-a"]
    assert names.value.get_values_for_type(x509.DNSName) == ["kme.test"]
    assert [str(one) for one in names.value.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "site-a"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_name_too_long_for_a_common_name_is_in_the_alternative_name_only(
    authority: Issued, tmp_path: Path
) -> None:
    name = f"{'a' * 60}@{'b' * 60}"
    issued = issue(authority, Subject.SAE, name, [], 1, now=NOW, entropy=random_bytes)
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    assert list(certificate.subject) == []
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [f"sae:{name}"]
    assert "one.pem: OK" in verify(tmp_path, authority, issued.certificate, "-purpose", "sslclient")


def test_certificate_ends_no_later_than_its_authority(authority: Issued) -> None:
    certificate = make(authority, Subject.SAE, "a@site-a", days=365)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=30)
    assert make(authority, Subject.SAE, "a@site-a", days=2).not_valid_after_utc == NOW + timedelta(days=2)


def test_authority_that_expired_issues_nothing(authority: Issued) -> None:
    with pytest.raises(Refused) as caught:
        issue(authority, Subject.SAE, "a@s", [], 1, now=NOW + timedelta(days=31), entropy=random_bytes)
    assert caught.value.code is codes.CA_REQUEST


@pytest.mark.parametrize("drawn", [bytes(16), b"\xff" * 16])
def test_serial_is_positive_and_never_short_whatever_is_drawn(drawn: bytes) -> None:
    issued = create_ca("x", 1, now=NOW, entropy=lambda count: drawn[:count])
    assert 0 < issued.serial < 2**127
    assert issued.serial.bit_length() == 127


@pytest.mark.parametrize("days", [0, -1, 7301])
def test_days_out_of_bounds_are_refused(authority: Issued, days: int) -> None:
    with pytest.raises(Refused) as caught:
        create_ca("x", days, now=NOW, entropy=random_bytes)
    assert caught.value.code is codes.CA_REQUEST
    with pytest.raises(Refused) as caught:
        issue(authority, Subject.SAE, "a@s", [], days, now=NOW, entropy=random_bytes)
    assert caught.value.code is codes.CA_REQUEST


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb"])
def test_authority_with_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(Refused) as caught:
        create_ca(name, 1, now=NOW, entropy=random_bytes)
    assert caught.value.code is codes.CA_REQUEST


@pytest.mark.parametrize(
    ("subject", "name", "host", "code"),
    [
        (Subject.KME, "a@site-a", "h", codes.NAME_INVALID),
        (Subject.SAE, "site-a", "h", codes.NAME_INVALID),
        (Subject.KME, "Site", "h", codes.NAME_INVALID),
        *[
            (Subject.KME, "site-a", host, codes.CA_REQUEST)
            for host in ("", "a..b", "-a", "a-", "a b", "é.test", "a" * 64, ".".join(["a" * 49] * 6), "*.x")
        ],
    ],
)
def test_impossible_names_and_hosts_are_refused(
    authority: Issued, subject: Subject, name: str, host: str, code: ErrorCode
) -> None:
    with pytest.raises(Refused) as caught:
        make(authority, subject, name, host)
    assert caught.value.code is code


def test_authority_is_loaded_from_its_files(authority: Issued) -> None:
    loaded = load_ca(authority.certificate, authority.key)
    assert loaded == authority
    assert (
        make(loaded, Subject.SAE, "a@s").issuer
        == x509.load_pem_x509_certificate(authority.certificate).subject
    )


def test_wrong_files_are_no_authority(authority: Issued) -> None:
    other = create_ca("Other", 1, now=NOW, entropy=random_bytes)
    leaf = issue(authority, Subject.SAE, "a@s", [], 1, now=NOW, entropy=random_bytes)
    foreign = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for certificate, key in (
        (authority.certificate, other.key),
        (b"garbage", authority.key),
        (authority.certificate, Secret(b"garbage")),
        (authority.certificate, Secret(foreign)),
        (leaf.certificate, leaf.key),
        (authority.key.expose(), authority.key),
    ):
        with pytest.raises(Refused) as caught:
            load_ca(certificate, key)
        assert caught.value.code is codes.CA_INVALID


def test_revoked_certificate_is_told_by_openssl(authority: Issued, tmp_path: Path) -> None:
    good, bad = (
        issue(authority, Subject.SAE, name, [], 1, now=NOW, entropy=random_bytes) for name in ("a@s", "b@s")
    )
    crl = tmp_path / "crl.pem"
    crl.write_bytes(revocation_list(authority, [Revocation(bad.serial, NOW)], 7, 3, now=NOW))
    arguments = ("-crl_check", "-CRLfile", str(crl))
    assert "one.pem: OK" in verify(tmp_path, authority, good.certificate, *arguments)
    assert "certificate revoked" in verify(tmp_path, authority, bad.certificate, *arguments)
    number = x509.load_pem_x509_crl(crl.read_bytes()).extensions.get_extension_for_class(x509.CRLNumber)
    assert number.value.crl_number == 7


# ── files ───────────────────────────────────────────────────────────────────────────────────────
def test_private_file_is_for_its_owner_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "key", Secret(b"secret"))
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "key").read_bytes() == b"secret"


def test_private_file_replaces_nothing_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("key", "link"):
        with pytest.raises(Refused) as caught:
            write_private(tmp_path / name, Secret(b"new"))
        assert caught.value.code is codes.FILE_EXISTS
    assert (tmp_path / "key").read_bytes() == b"old"
    assert not (tmp_path / "elsewhere").exists()


def test_private_file_in_no_directory_is_a_store_fault(tmp_path: Path) -> None:
    with pytest.raises(StoreFault) as caught:
        write_private(tmp_path / "no" / "key", Secret(b"x"))
    assert caught.value.code is codes.FILE_IO


def test_full_disk_leaves_no_half_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFault, match="No space left"):
        write_private(tmp_path / "key", Secret(b"x"))
    assert not (tmp_path / "key").exists()


def test_keys_are_p256_and_never_shown(authority: Issued) -> None:
    key = serialization.load_pem_private_key(authority.key.expose(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    assert "PRIVATE" not in repr(authority)
