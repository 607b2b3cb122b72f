"""Revocation lists of the door's client authorities (RFC 5280, section 5), checked before they are used.

OpenSSL takes whatever stands in the file: an expired list would refuse every client without a word to
the operator, and a certificate that was put there by mistake would become an authority. So the file is
read here first, and refused whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from skex.base import codes
from skex.base.errors import DeliveryFault

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_LABEL: Final = b"X509 CRL"


def check_revocations(file: Path, client_ca: Path, now: datetime) -> None:
    """Whether ``file`` holds revocation lists and nothing else, each in its time and of an authority in
    ``client_ca``. Both are PEM; ``now`` is UTC.

    Raises ``DeliveryFault`` (door-certificates), whose detail names the file and says what is wrong.
    """
    try:
        data = file.read_bytes()
        authorities = x509.load_pem_x509_certificates(client_ca.read_bytes())
    except OSError as error:
        raise DeliveryFault(codes.DOOR_CERTIFICATES, f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise _wrong(client_ca, "no PEM certificates") from error
    blocks = list(_BLOCK.finditer(data))
    if not blocks or any(block[1] != _LABEL for block in blocks):
        raise _wrong(file, "not revocation lists in PEM, and nothing else")
    for number, block in enumerate(blocks, 1):
        where = "" if len(blocks) == 1 else f"list {number} "
        problem = _problem(block[0], authorities, now)
        if problem:
            raise _wrong(file, where + problem)


def _problem(block: bytes, authorities: Sequence[x509.Certificate], now: datetime) -> str:
    """What is wrong with one list; empty if nothing is."""
    try:
        listed = x509.load_pem_x509_crl(block)
    except ValueError:
        return "cannot be read"
    if not any(_is_of(listed, one) for one in authorities):
        return "is of no authority in client_ca"
    until = listed.next_update_utc
    if until is not None and now >= until:
        return f"expired on {until:%Y-%m-%d %H:%M} UTC: get a new one"
    if now < listed.last_update_utc:
        return f"is not valid before {listed.last_update_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def _is_of(listed: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    if listed.issuer != authority.subject:
        return False
    try:
        return listed.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # others raise TypeError
    except (TypeError, UnsupportedAlgorithm):
        return False


def _wrong(file: Path, what: str) -> DeliveryFault:
    return DeliveryFault(codes.DOOR_CERTIFICATES, f"{file}: {what}")
