"""How long and how often a key may be used, by kind of consumer, as numbers that a policy can take.

One table: the documentation, ``skex key guide`` and the snippets of policy are made from it. Where a
standard sets a bound the default is at or below it; where none does, the reason says what was weighed. It
must not know how a consumer gets its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DAY: Final = 86_400
RESERVE_AGE_SECONDS: Final = DAY
"""How old a key may be that is handed out. Nothing is known to weaken it meanwhile; it bounds what is lost
with a KME's store."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """What uses keys, and for how long it should use one.

    ``use_seconds`` and ``uses`` are the default cryptoperiod, ``wait_seconds`` how long a key may wait to be
    taken. A use is what ``use`` says. ``key_bytes`` is the length to ask for. ``limits`` are numbers of its
    sources that bound the default, each with its unit.
    """

    name: str
    title: str
    key_bytes: int
    use: str
    use_seconds: int
    uses: int | None
    why: str
    sources: tuple[str, ...]
    limits: Mapping[str, int]
    wait_seconds: int = 600

    def snippet(self, local: str = "*@*", remote: str = "*@*") -> str:
        """A rule of a KME's policy that states it, for the SAEs that match."""
        lines = [
            "[[sae.limit]]",
            f'id = "rekey-{self.name}"',
            f'local = ["{local}"]',
            f'remote = ["{remote}"]',
            f"key_bytes_min = {self.key_bytes}",
            f"lifetime_seconds_max = {self.wait_seconds}",
            f"use_seconds_max = {self.use_seconds}",
        ]
        if self.uses is not None:
            lines.append(f"uses_max = {self.uses}")
        return "\n".join(lines) + "\n"


def reserve_snippet(peers: str = "*") -> str:
    """A rule of a KME's policy by which reserves age."""
    return (
        "[[kme.limit]]\n"
        'id = "rekey-reserves"\n'
        f'peers = ["{peers}"]\n'
        f"reserve_age_seconds_max = {RESERVE_AGE_SECONDS}\n"
    )


CONSUMERS: Final[Mapping[str, Consumer]] = {
    one.name: one
    for one in (
        Consumer(
            "tls13-psk",
            "TLS 1.3, external PSK without (EC)DHE (psk_ke)",
            32,
            "one connection",
            DAY,
            1,
            "Without (EC)DHE there is no forward secrecy: who learns the key later reads every connection"
            " that used it. So each connection gets a key of its own. Within one, AES-GCM protects at most"
            " 2^24.5 full records before a KeyUpdate.",
            ("RFC 8446, sections 2.2 and 5.5", "RFC 9257, section 4"),
            {"records before a KeyUpdate (2^24.5)": 23_726_566},
        ),
        Consumer(
            "tls13-psk-dhe",
            "TLS 1.3, external PSK with (EC)DHE (psk_dhe_ke)",
            32,
            "one connection",
            DAY,
            None,
            "The key authenticates, and protects against who breaks the (EC)DHE group; TLS itself lets no"
            " ticket live for more than seven days. A day bounds what a stolen key is good for.",
            ("RFC 8446, sections 4.6.1 and 5.5", "RFC 9257, section 4"),
            {"seconds that a ticket may live": 604_800, "records before a KeyUpdate (2^24.5)": 23_726_566},
        ),
        Consumer(
            "ikev2-ppk",
            "IKEv2, post-quantum preshared key (RFC 8784)",
            32,
            "one IKE SA",
            DAY,
            1,
            "The key is mixed in when an IKE SA is authenticated, and not when it is rekeyed: a new one takes"
            " force with a new IKE SA only, so that is how often it should change. NIST lets an IKE SA live"
            " for at most a day.",
            ("RFC 8784, section 3", "NIST SP 800-77 revision 1"),
            {"seconds of an IKE SA": DAY},
        ),
        Consumer(
            "macsec-cak",
            "MACsec, connectivity association key (MKA)",
            32,
            "one CAK",
            DAY,
            None,
            "The key server replaces session keys (SAKs) by itself before packet numbers are used up, at"
            " 0xC0000000 of 32 bits. They travel wrapped under the CAK, so that its age bounds how much"
            " recorded traffic it opens. NIST lets a key-wrapping key be used for at most two years.",
            ("IEEE 802.1X-2020, section 9", "IEEE 802.1AE-2018", "NIST SP 800-57 part 1, section 5.3.6"),
            {
                "frames under one SAK without XPN (0xC0000000)": 3_221_225_472,
                "seconds of wrapping": 63_072_000,
            },
        ),
        Consumer(
            "wireguard-psk",
            "WireGuard, preshared key",
            32,
            "one handshake",
            120,
            1,
            "WireGuard makes a handshake every two minutes while there is traffic and mixes the key in each"
            " time; a key for each handshake gives every session a source of its own beside Curve25519.",
            ("J. Donenfeld, WireGuard, sections 5.2 and 6.1",),
            {"seconds between handshakes": 120},
        ),
        Consumer(
            "aes-gcm-data",
            "Application data, AES-GCM with random 96-bit nonces",
            32,
            "one message",
            30 * DAY,
            2**32,
            "Beyond 2^32 messages the chance that two random nonces are equal passes what NIST allows, and"
            " then both messages, and the key that authenticates, are open. With a counter as nonce the"
            " number may be higher; time still bounds it: NIST has two years at most for encrypting.",
            ("NIST SP 800-38D, section 8.3", "NIST SP 800-57 part 1, section 5.3.6"),
            {"messages with random nonces (2^32)": 2**32, "seconds of encrypting": 63_072_000},
        ),
        Consumer(
            "one-time-pad",
            "One-time pad",
            32,
            "one message no longer than the key",
            DAY,
            1,
            "A second message under the same bytes gives the difference of the two away. Ask for as many"
            " bytes as the message has, and for others to authenticate it with.",
            ("C. Shannon, Communication Theory of Secrecy Systems, 1949",),
            {"messages": 1},
        ),
    )
}
"""Every kind of consumer, by name."""
