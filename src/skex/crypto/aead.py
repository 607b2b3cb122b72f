"""AES-256-GCM for peer messages, each under a key of its own.

The nonce is always zero. That is safe for one reason only: a key comes from 32 fresh random bytes
(``kdf.peer_message_key``) and seals one message in its life. A counter or a random 96-bit nonce under
the peer root would be repeated by a restored or cloned machine; fresh keys are not.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from skex.base import codes, limits
from skex.base.errors import LocalBug, PeerFault

KEY_BYTES: Final = 32
TAG_BYTES: Final = 16
PLAINTEXT_BYTES_MAX: Final = limits.PEER_ENVELOPE_BYTES - TAG_BYTES
"""Sealed, it still fits an envelope."""

_ONLY_NONCE: Final = bytes(12)


def seal(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Ciphertext || 16-byte tag; ``associated`` is authenticated, not included (NIST SP 800-38D).

    The key must seal nothing else, ever. Raises ``LocalBug`` (bug-argument) unless the key has 32 bytes
    and the plaintext at most ``PLAINTEXT_BYTES_MAX``.
    """
    _check_key(key)
    if len(plaintext) > PLAINTEXT_BYTES_MAX:
        raise LocalBug(codes.BAD_ARGUMENT, f"plaintext of {len(plaintext)} bytes")
    return AESGCM(key).encrypt(_ONLY_NONCE, plaintext, associated)


def open_(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """The plaintext of what ``seal`` made with the same key and ``associated``.

    Raises ``PeerFault`` (peer-message-invalid) if anything was changed, cut or is too long, always the
    same; ``LocalBug`` (bug-argument) unless the key has 32 bytes.
    """
    _check_key(key)
    if not TAG_BYTES <= len(sealed) <= PLAINTEXT_BYTES_MAX + TAG_BYTES:
        raise PeerFault(codes.PEER_MESSAGE_INVALID)
    try:
        return AESGCM(key).decrypt(_ONLY_NONCE, sealed, associated)
    except InvalidTag as fault:
        raise PeerFault(codes.PEER_MESSAGE_INVALID) from fault


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise LocalBug(codes.BAD_ARGUMENT, f"AEAD key of {len(key)} bytes")
