"""The TLS context of the door: certificates on both sides, TLS 1.2 or later (clause 5.1)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from skex.base import codes
from skex.base.errors import DeliveryFault

# TLS 1.3 suites are all good; of TLS 1.2's, forward secret and authenticated encryption only.
_TLS12_SUITES: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(
    certificate: Path, key: Path, client_ca: Path, revoked: Path | None = None
) -> ssl.SSLContext:
    """A context for ``Door``; every file is PEM.

    ``certificate`` holds the door's own certificate and what leads to its CA, ``client_ca`` the only
    authorities whose clients are let in, ``revoked`` their revocation lists. Call it again after a
    change and hand the result to ``Door.renew``. Raises ``DeliveryFault`` (door-certificates).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_ciphers(_TLS12_SUITES)
    context.set_alpn_protocols(["http/1.1"])
    # A resumed session brings its old verification along; handshakes here are rare and cheap.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    try:
        # Without a password given, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password="")
        context.load_verify_locations(client_ca)
        if revoked is not None:
            context.load_verify_locations(revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except (OSError, ValueError) as error:
        # The reason is one of OpenSSL's or the system's names, never file content.
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise DeliveryFault(codes.DOOR_CERTIFICATES, str(reason)) from error
    return context


def handshake_reason(error: OSError) -> str:
    """Why a handshake failed, in words for the log: OpenSSL's own, or what the connection did."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"client certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        # Only errors that OpenSSL itself raised have a reason.
        return (getattr(error, "reason", None) or "TLS failed").lower().replace("_", " ")
    return str(error) or type(error).__name__
