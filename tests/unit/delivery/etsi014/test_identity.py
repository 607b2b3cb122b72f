"""Whose certificate it is, and what TLS contexts are refused."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skex.base import codes
from skex.base.errors import DeliveryFault
from skex.delivery.etsi014.context import handshake_reason, server_context
from skex.delivery.etsi014.identity import IdentityField, read_identity
from skex.enrol.ca import Subject
from skex.runtime import clock
from tests.support.door import Pki

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = clock.wall().replace(microsecond=0)
URI, DNS, EMAIL = x509.UniformResourceIdentifier, x509.DNSName, x509.RFC822Name


def certificate(names: Sequence[str], alternatives: Sequence[x509.GeneralName]) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("field", "names", "alternatives", "name"),
    [
        (IdentityField.URI, ["cn"], [URI("sae:a@s"), URI("https://x.test/"), DNS("d.test")], "a@s"),
        (IdentityField.DNS, ["cn"], [URI("sae:a@s"), DNS("d.test")], "d.test"),
        (IdentityField.EMAIL, ["cn"], [URI("sae:a@s"), EMAIL("a@site-a")], "a@site-a"),
        (IdentityField.COMMON_NAME, ["cn"], [URI("sae:a@s")], "cn"),
        (IdentityField.COMMON_NAME, ["cn"], [], "cn"),
    ],
)
def test_name_is_read_from_the_one_field(
    field: IdentityField, names: list[str], alternatives: list[x509.GeneralName], name: str
) -> None:
    assert read_identity(certificate(names, alternatives), field).name == name


@pytest.mark.parametrize(
    ("field", "names", "alternatives"),
    [
        (IdentityField.URI, ["a@s"], []),
        (IdentityField.URI, ["a@s"], [DNS("a")]),
        (IdentityField.URI, ["a@s"], [URI("kme:a@s"), URI("SAE:a@s")]),
        (IdentityField.URI, [], [URI("sae:a@s"), URI("sae:b@s")]),
        (IdentityField.DNS, ["a"], [DNS("a"), DNS("b")]),
        (IdentityField.EMAIL, ["a@s"], [URI("sae:a@s")]),
        (IdentityField.COMMON_NAME, [], [URI("sae:a@s")]),
        (IdentityField.COMMON_NAME, ["a", "b"], []),
    ],
)
def test_certificate_without_exactly_one_name_there_names_nobody(
    field: IdentityField, names: list[str], alternatives: list[x509.GeneralName]
) -> None:
    with pytest.raises(DeliveryFault) as caught:
        read_identity(certificate(names, alternatives), field)
    assert caught.value.code is codes.DOOR_IDENTITY


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"not a certificate"])
def test_what_is_no_certificate_names_nobody(data: bytes) -> None:
    with pytest.raises(DeliveryFault) as caught:
        read_identity(data, IdentityField.URI)
    assert caught.value.code is codes.DOOR_IDENTITY


def test_identity_counts_within_its_time_only() -> None:
    identity = read_identity(certificate(["a"], []), IdentityField.COMMON_NAME)
    identity.check(NOW)
    identity.check(NOW + timedelta(days=1))
    for moment in (NOW - timedelta(seconds=1), NOW + timedelta(days=1, seconds=1)):
        with pytest.raises(DeliveryFault, match="not valid now"):
            identity.check(moment)


# ── contexts ────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    pki = Pki(tmp_path / "pki")
    pki.issue(Subject.KME, "site-a")
    pki.issue(Subject.KME, "site-b")
    return pki


def test_context_demands_certificates_and_current_tls(pki: Pki) -> None:
    context = server_context(*pki.files("site-a"), pki.ca)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.num_tickets == 0
    tls12 = [one["name"] for one in context.get_ciphers() if one["protocol"] == "TLSv1.2"]
    assert tls12
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "CHACHA20" in name) for name in tls12)


def test_files_that_cannot_be_used_are_one_code(pki: Pki, tmp_path: Path) -> None:
    certificate_file, key_file = pki.files("site-a")
    nothing, garbage, locked = (tmp_path / name for name in ("nothing", "garbage", "locked"))
    garbage.write_bytes(b"garbage")
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"pass"),
        )
    )
    for files in (
        (nothing, key_file, pki.ca),
        (certificate_file, pki.files("site-b")[1], pki.ca),
        (certificate_file, locked, pki.ca),
        (certificate_file, key_file, garbage),
        (certificate_file, key_file, pki.ca, garbage),
    ):
        with pytest.raises(DeliveryFault) as caught:
            server_context(*files)
        assert caught.value.code is codes.DOOR_CERTIFICATES
        assert caught.value.detail


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (ConnectionResetError(), "ConnectionResetError"),
        (ssl.SSLError(1, "x"), "tls failed"),
    ],
)
def test_reason_of_a_failed_handshake_is_never_empty(error: OSError, words: str) -> None:
    assert words in handshake_reason(error)
