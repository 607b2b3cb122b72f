"""A small certificate authority for the local hop, where a door's standard demands certificates.

For the demo and for sites without a PKI of their own: one authority, one level, ECDSA P-256. It
protects the way between an SAE and its KME, never the way of a key between KMEs. Time and the serial
numbers' randomness are handed in; private keys come from OpenSSL's generator. It must not know doors:
what a door reads of a certificate is written in docs/etsi-014.md.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skex.base import codes
from skex.base.errors import Refused, StoreFault
from skex.base.ids import parse_kme_name, parse_sae_id
from skex.base.secret import Secret

DAYS_MAX: Final = 7_300
"""Twenty years: longer is a mistake in the unit."""
SERIAL_BYTES: Final = 16
"""RFC 5280 allows 20; 16 random ones never collide."""
COMMON_NAME_CHARACTERS: Final = 64
"""X.520's bound; a longer SAE id is in the alternative name only."""
BACKDATE: Final = timedelta(minutes=5)
"""So that a clock which is a little slow does not refuse what was just issued."""
PRIVATE_MODE: Final = 0o600


class Subject(Enum):
    """Whom a certificate is for; also the scheme of the name in it."""

    KME = "kme"
    SAE = "sae"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, both PEM. ``serial`` is what a revocation names."""

    certificate: bytes
    key: Secret
    serial: int


@dataclass(frozen=True, slots=True)
class Revocation:
    """A certificate that no longer counts, and since when."""

    serial: int
    since: datetime


def create_ca(name: str, days: int, *, now: datetime, entropy: Callable[[int], bytes]) -> Issued:
    """A new authority: self-signed, for end certificates only. Raises ``Refused`` (ca-request)."""
    if not 0 < len(name) <= COMMON_NAME_CHARACTERS or not name.isprintable():
        raise Refused(codes.CA_REQUEST, "the authority's name")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(_serial(entropy))
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + _span(days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _issued(certificate, key)


def issue(
    authority: Issued,
    subject: Subject,
    name: str,
    hosts: Sequence[str],
    days: int,
    *,
    now: datetime,
    entropy: Callable[[int], bytes],
) -> Issued:
    """A certificate for a KME's door or for an SAE.

    ``name`` becomes the URI ``kme:NAME`` or ``sae:NAME@KME``, and the common name where it fits;
    ``hosts`` are the DNS names and IP addresses by which a KME's door is reached. It ends no later than
    the authority. Raises ``Refused``: name-invalid, ca-request, ca-invalid.
    """
    checked = parse_kme_name(name) if subject is Subject.KME else parse_sae_id(name)
    issuer, issuer_key = _load(authority)
    end = min(now + _span(days), issuer.not_valid_after_utc)
    if end <= now:
        raise Refused(codes.CA_REQUEST, "the authority itself has expired")
    key = ec.generate_private_key(ec.SECP256R1())
    fits = len(checked) <= COMMON_NAME_CHARACTERS
    alternatives = [x509.UniformResourceIdentifier(f"{subject.value}:{checked}"), *map(_host, hosts)]
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if subject is Subject.KME else ExtendedKeyUsageOID.CLIENT_AUTH
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, checked)] if fits else []))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(_serial(entropy))
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        # RFC 5280, 4.2.1.6: critical when there is no other name.
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=not fits)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_authority_id(issuer_key), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return _issued(certificate, key)


def revocation_list(
    authority: Issued, revoked: Sequence[Revocation], number: int, days: int, *, now: datetime
) -> bytes:
    """The authority's whole revocation list as PEM, due to be replaced within ``days``.

    ``number`` must rise from list to list. Raises ``Refused`` (ca-invalid, ca-request).
    """
    issuer, issuer_key = _load(authority)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - BACKDATE)
        .next_update(now + _span(days))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_id(issuer_key), critical=False)
    )
    for one in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(one.since).build()
        )
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def serial_of(authority: Issued, certificate: bytes) -> int:
    """What a revocation names of a certificate (PEM) that ``authority`` issued.

    Raises ``Refused``: ca-revocation, ca-invalid.
    """
    issuer, _ = _load(authority)
    try:
        issued = x509.load_pem_x509_certificate(certificate)
        issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise Refused(codes.CA_REVOCATION, "not a certificate of this authority") from error
    return issued.serial_number


def revoked_so_far(authority: Issued, data: bytes) -> tuple[tuple[Revocation, ...], int]:
    """What a revocation list (PEM) of ``authority`` names, and its number.

    Raises ``Refused``: ca-revocation, ca-invalid.
    """
    _, key = _load(authority)
    try:
        listed = x509.load_pem_x509_crl(data)
        is_valid = listed.is_signature_valid(key.public_key())
        number = listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise Refused(codes.CA_REVOCATION, "the list so far cannot be read") from error
    if not is_valid:
        raise Refused(codes.CA_REVOCATION, "the list so far is another authority's")
    return tuple(Revocation(one.serial_number, one.revocation_date_utc) for one in listed), number


def load_ca(certificate: bytes, key: Secret) -> Issued:
    """An authority from its two PEM files. Raises ``Refused`` (ca-invalid)."""
    authority = Issued(certificate, key, 0)
    return Issued(certificate, key, _load(authority)[0].serial_number)


def write_private(path: Path, data: Secret) -> None:
    """Write a private key to a new file that only its owner may read.

    Raises ``Refused`` (file-exists) and ``StoreFault`` (file-io).
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_MODE)
    except FileExistsError as error:
        raise Refused(codes.FILE_EXISTS, path.name) from error
    except OSError as error:
        raise StoreFault(codes.FILE_IO, f"{path.name}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data.expose())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StoreFault(codes.FILE_IO, f"{path.name}: {error.strerror}") from error


def _load(authority: Issued) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(authority.certificate)
        key = serialization.load_pem_private_key(authority.key.expose(), password=None)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise Refused(codes.CA_INVALID, "a file cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        raise Refused(codes.CA_INVALID, "certificate and key do not belong together")
    if not constraints.ca:
        raise Refused(codes.CA_INVALID, "the certificate is not an authority's")
    return certificate, key


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Issued(
        certificate.public_bytes(serialization.Encoding.PEM), Secret(pem), certificate.serial_number
    )


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    labels = text.split(".")
    if len(text) > 253 or not all(_is_label(label) for label in labels):
        raise Refused(codes.CA_REQUEST, "a host is no DNS name and no IP address")
    return x509.DNSName(text)


def _is_label(label: str) -> bool:
    inner = label.replace("-", "")
    return 0 < len(label) <= 63 and label.isascii() and inner.isalnum() and label.strip("-") == label


def _serial(entropy: Callable[[int], bytes]) -> int:
    # Positive and never zero, whatever was drawn (RFC 5280, 4.1.2.2).
    return int.from_bytes(entropy(SERIAL_BYTES), "big") >> 1 | 1 << 126


def _span(days: int) -> timedelta:
    if not 1 <= days <= DAYS_MAX:
        raise Refused(codes.CA_REQUEST, f"{days} days; between 1 and {DAYS_MAX} can be asked for")
    return timedelta(days=days)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_id(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
