"""What a key's secrecy is worth once something uses it: ciphers and protocols, and what they rest on.

A key's own class says what the key rests on. What is protected with it rests on the cipher, too: only a
one-time pad keeps an information-theoretic class. It must not know a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from skex.wire.claim import ClaimClass


@dataclass(frozen=True, slots=True)
class Use:
    """One way to use a key.

    ``key_bytes`` is the length that it takes, None for any. ``rests`` completes "What is protected so rests
    on the key and on …". ``second_leg`` says what an attacker who has the key must still break, if anything.
    """

    name: str
    title: str
    key_bytes: int | None
    rests: str
    notes: str
    source: str
    second_leg: str = ""
    keeps_class: bool = False

    def result(self, key: ClaimClass) -> ClaimClass:
        """The class of what is protected: never stronger than the key's, and computational for a cipher."""
        return key if self.keeps_class else ClaimClass.COMPUTATIONAL


_AEAD_BOUND: Final = "The more and the longer messages there are, the easier it becomes to forge one."

_CAK: Final = "Session keys (SAKs) travel wrapped under it: who learns it later reads all that was recorded."

USES: Final[Mapping[str, Use]] = {
    one.name: one
    for one in (
        Use(
            "aes-128-gcm",
            "AES-128-GCM",
            16,
            "AES with a 128-bit key",
            "A search with a quantum computer needs about 2^64 steps that cannot be done side by side. With"
            f" random nonces one key protects at most 2^32 messages. {_AEAD_BOUND}",
            "NIST SP 800-38D, section 8.3",
        ),
        Use(
            "aes-256-gcm",
            "AES-256-GCM",
            32,
            "AES with a 256-bit key",
            f"With random nonces one key protects at most 2^32 messages. {_AEAD_BOUND}",
            "NIST SP 800-38D, section 8.3",
        ),
        Use(
            "chacha20-poly1305",
            "ChaCha20-Poly1305",
            32,
            "ChaCha20",
            f"Nonces must not repeat under one key. {_AEAD_BOUND}",
            "RFC 8439, section 4",
        ),
        Use(
            "one-time-pad",
            "One-time pad",
            None,
            "nothing else",
            "Only for a message no longer than the key, once, and with bytes that were used for nothing else."
            " It keeps nothing from being changed on the way: authenticate with other key bytes.",
            "C. Shannon, Communication Theory of Secrecy Systems, 1949",
            keeps_class=True,
        ),
        Use(
            "tls13-psk",
            "TLS 1.3 with the key as external PSK, without (EC)DHE",
            None,
            "HKDF and the cipher suite of TLS",
            "There is no forward secrecy: who learns the key later reads every connection that used it.",
            "RFC 8446, sections 2.2 and 7.1; RFC 9257",
        ),
        Use(
            "tls13-psk-dhe",
            "TLS 1.3 with the key as external PSK, with (EC)DHE",
            None,
            "HKDF and the cipher suite of TLS",
            "Forward secrecy is that of the (EC)DHE group; a quantum computer breaks a classical one, and"
            " then only the key protects.",
            "RFC 8446, sections 2.2 and 7.1",
            second_leg="the (EC)DHE exchange of each connection",
        ),
        Use(
            "ikev2-ppk",
            "IKEv2 with the key as post-quantum preshared key",
            None,
            "the PRF of IKEv2 and the ciphers of ESP",
            "The first IKE SA itself does not depend on the key: identities and what else it carries are"
            " protected by the IKE key exchange alone.",
            "RFC 8784, sections 3 and 6",
            second_leg="the key exchange of the IKE SA",
        ),
        Use(
            "macsec-gcm-aes-128",
            "MACsec, GCM-AES-128, with the key as CAK",
            16,
            "AES-CMAC, AES key wrap and AES with a 128-bit key",
            _CAK,
            "IEEE 802.1X-2020, section 9; IEEE 802.1AE-2018",
        ),
        Use(
            "macsec-gcm-aes-256",
            "MACsec, GCM-AES-256, with the key as CAK",
            32,
            "AES-CMAC, AES key wrap and AES with a 256-bit key",
            _CAK,
            "IEEE 802.1X-2020, section 9; IEEE 802.1AE-2018",
        ),
        Use(
            "wireguard-psk",
            "WireGuard with the key as preshared key",
            32,
            "BLAKE2s and ChaCha20-Poly1305",
            "The key is mixed into the session keys, not into what hides the peers' identities: that is"
            " Curve25519 alone.",
            "WireGuard: Next Generation Kernel Network Tunnel (J. Donenfeld), section 5.2",
            second_leg="the Curve25519 handshake",
        ),
    )
}
"""Every use that ``--used-with`` knows, by name."""
