"""Key derivation, and every label of the protocol in one place.

A label says what a derived value, a proof or a digest is for; two uses never share one, and none is the
beginning of another, so whatever follows a label cannot turn it into a different one. Labels are part
of the protocol: they never change within a version.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from skex.base import codes, limits
from skex.base.errors import LocalBug

SHA512_BYTES: Final = 64
HKDF_BYTES_MAX: Final = 255 * SHA512_BYTES
"""RFC 5869 section 2.3."""
CHAIN_KEY_BYTES: Final = 64
GRANT_KEY_BYTES: Final = 32
PEER_KEY_BYTES: Final = 32
PEER_ROOT_BYTES_MIN: Final = 32
"""A root weaker than the keys made from it would be the real key."""
LINK_ID_BYTES: Final = 8
NONCE_BYTES: Final = 32
"""The nonces of a preface, and the random part of a peer message."""


class Label(bytes, Enum):
    """The labels; each is the bytes themselves."""

    PREFACE_1 = b"skex1 preface 1"
    """Proof of preface frame 1; that frame has none, the label keeps its number from other uses."""
    PREFACE_2 = b"skex1 preface 2"
    PREFACE_3 = b"skex1 preface 3"
    PREFACE_4 = b"skex1 preface 4"
    PREFACE_5 = b"skex1 preface 5"
    GRANT = b"skex1 grant"
    """Chain key to grant key (HKDF-Expand)."""
    NEXT = b"skex1 next"
    """Chain key to the next chain key (HKDF-Expand)."""
    CONFIRM = b"skex1 confirm"
    """First bytes of what a CONFIRM's Poly1305 covers."""
    PEER = b"skex1 peer"
    """Peer root to the key of one peer message (HKDF)."""
    KEY_ID = b"skex1 key id"
    """Identifier of a key of a batch (SHA-512)."""
    GROUP_KEY_ID = b"skex1 group key id"
    """Identifier of a key of a group (SHA-512)."""
    REALM = b"skex1 realm"
    """Digest of a realm file (SHA-512)."""
    FINGERPRINT = b"skex1 fingerprint"
    """What operators compare as words (SHA-512)."""
    EVIDENCE = b"skex1 evidence"
    """Digests of shares and tags that were wrong, kept where they came (SHA-512)."""


_PREFACE: Final = (Label.PREFACE_1, Label.PREFACE_2, Label.PREFACE_3, Label.PREFACE_4, Label.PREFACE_5)


def preface_label(frame: int) -> Label:
    """The label of the proof in preface frame 1 to 5. Raises ``LocalBug`` (bug-argument) for others."""
    if not 1 <= frame <= len(_PREFACE):
        raise LocalBug(codes.BAD_ARGUMENT, f"preface frame {frame}")
    return _PREFACE[frame - 1]


def hkdf_sha512(ikm: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF with HMAC-SHA-512: extract from ``ikm`` with ``salt``, expand to ``length`` bytes (RFC 5869).

    Raises ``LocalBug`` (bug-argument) for an empty ``ikm`` or a length outside 1 to 16,320.
    """
    if not ikm:
        raise LocalBug(codes.BAD_ARGUMENT, "empty input key")
    _check_output(length)
    return HKDF(algorithm=SHA512(), length=length, salt=salt, info=info).derive(ikm)


def hkdf_expand_sha512(prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with HMAC-SHA-512 from a uniformly random ``prk`` (RFC 5869 section 2.3).

    Raises ``LocalBug`` (bug-argument) for a ``prk`` under 64 bytes or a length outside 1 to 16,320.
    """
    if len(prk) < SHA512_BYTES:
        raise LocalBug(codes.BAD_ARGUMENT, f"pseudorandom key of {len(prk)} bytes")
    _check_output(length)
    return HKDFExpand(algorithm=SHA512(), length=length, info=info).derive(prk)


def grant_key(  # noqa: PLR0917  # the order of the derivation itself, as the specification writes it
    chain_key: bytes, link_id: bytes, direction: int, index: int, kme_nonce: bytes, hub_nonce: bytes
) -> bytes:
    """The 32-byte AES key of one derived grant.

    HKDF-Expand(K_index, 'skex1 grant' || link id (8) || direction u8 || index u32 || KME nonce (32) ||
    hub nonce (32)). The two nonces come from the connection's preface: they make the keystream new even
    if both ends were restored or cloned. Raises ``LocalBug`` (bug-argument) for other lengths or ranges.
    """
    _check_length(chain_key, CHAIN_KEY_BYTES, "chain key")
    _check_length(link_id, LINK_ID_BYTES, "link id")
    _check_length(kme_nonce, NONCE_BYTES, "KME nonce")
    _check_length(hub_nonce, NONCE_BYTES, "hub nonce")
    if direction not in (0, 1):
        raise LocalBug(codes.BAD_ARGUMENT, f"direction {direction}")
    if not 0 <= index < 1 << 32:
        raise LocalBug(codes.BAD_ARGUMENT, f"index of {index.bit_length()} bits")
    position = direction.to_bytes(1, "big") + index.to_bytes(4, "big")
    info = Label.GRANT + link_id + position + kme_nonce + hub_nonce
    return hkdf_expand_sha512(chain_key, info, GRANT_KEY_BYTES)


def next_chain_key(chain_key: bytes) -> bytes:
    """K_(i+1) from K_i, 64 bytes: HKDF-Expand(K_i, 'skex1 next'). There is no way back.

    Raises ``LocalBug`` (bug-argument) unless the key has 64 bytes.
    """
    _check_length(chain_key, CHAIN_KEY_BYTES, "chain key")
    return hkdf_expand_sha512(chain_key, Label.NEXT, CHAIN_KEY_BYTES)


def advance(chain_key: bytes, steps: int) -> bytes:
    """K_(i+steps) from K_i.

    Raises ``LocalBug`` (bug-argument) for another key length, or steps outside 0 to
    ``limits.DERIVED_JUMP_STEPS``: who asks for more must freeze the link instead.
    """
    _check_length(chain_key, CHAIN_KEY_BYTES, "chain key")
    if not 0 <= steps <= limits.DERIVED_JUMP_STEPS:
        raise LocalBug(codes.BAD_ARGUMENT, f"{steps} steps along a chain")
    for _ in range(steps):
        chain_key = next_chain_key(chain_key)
    return chain_key


def peer_message_key(root: bytes, random: bytes, context: bytes) -> bytes:
    """The 32-byte key of one peer message: HKDF-SHA-512(root, salt ``random``, 'skex1 peer' || context).

    ``random`` is 32 fresh bytes from the operating system that travel with the message; they make the
    key one of its own, which is what lets ``aead`` do without a nonce. Raises ``LocalBug``
    (bug-argument) for a root under 32 bytes or another length of ``random``.
    """
    if len(root) < PEER_ROOT_BYTES_MIN:
        raise LocalBug(codes.BAD_ARGUMENT, f"peer root of {len(root)} bytes")
    _check_length(random, NONCE_BYTES, "random part")
    return hkdf_sha512(root, random, Label.PEER + context, PEER_KEY_BYTES)


def _check_length(value: bytes, length: int, what: str) -> None:
    if len(value) != length:
        raise LocalBug(codes.BAD_ARGUMENT, f"{what} of {len(value)} bytes")


def _check_output(length: int) -> None:
    if not 1 <= length <= HKDF_BYTES_MAX:
        raise LocalBug(codes.BAD_ARGUMENT, f"{length} bytes from HKDF")
