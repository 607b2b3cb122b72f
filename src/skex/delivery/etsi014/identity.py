"""Whose certificate it is: the SAE's name in the one field that the door was told to read.

The chain was verified in the handshake; here a verified certificate is read, never trusted further
than its one field. No field stands in for another: a name in a field that nobody meant as an identity
must not become one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from cryptography import x509
from cryptography.x509.oid import NameOID

from skex.base import codes
from skex.base.errors import DeliveryFault

URI_PREFIX = "sae:"
"""What an identity's URI starts with: ``sae:backup@site-a``."""


class IdentityField(Enum):
    """Where a certificate carries its SAE ID; the standard leaves it open (clause 5.1)."""

    URI = "uri"
    DNS = "dns"
    EMAIL = "email"
    COMMON_NAME = "common-name"


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified certificate's name, and from when until when it may be used (UTC)."""

    name: str
    not_before: datetime
    not_after: datetime

    def check(self, now: datetime) -> None:
        """Refuse it outside its time: connections outlive handshakes. Raises ``DeliveryFault``."""
        if not self.not_before <= now <= self.not_after:
            raise DeliveryFault(codes.DOOR_IDENTITY, "the certificate is not valid now")


def read_identity(certificate: bytes, field: IdentityField) -> Identity:
    """Read a DER certificate. Raises ``DeliveryFault`` (door-identity) without exactly one name."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        names = _names(parsed, field)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise DeliveryFault(codes.DOOR_IDENTITY, "the certificate cannot be read") from error
    if len(names) != 1:
        raise DeliveryFault(codes.DOOR_IDENTITY, f"{len(names)} names in the field {field.value}")
    return Identity(names[0], parsed.not_valid_before_utc, parsed.not_valid_after_utc)


def _names(certificate: x509.Certificate, field: IdentityField) -> Sequence[str]:
    if field is IdentityField.COMMON_NAME:
        return [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    if field is IdentityField.DNS:
        return alternatives.get_values_for_type(x509.DNSName)
    if field is IdentityField.EMAIL:
        return alternatives.get_values_for_type(x509.RFC822Name)
    uris = alternatives.get_values_for_type(x509.UniformResourceIdentifier)
    return [uri.removeprefix(URI_PREFIX) for uri in uris if uri.startswith(URI_PREFIX)]
