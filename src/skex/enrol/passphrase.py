"""Passphrases: what counts as one, and how one becomes a key (Argon2id, RFC 9106).

It must not know what the key is for, and nothing of a passphrase goes into an error.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

from argon2.low_level import Type, hash_secret_raw

from skex.base import codes, limits
from skex.base.errors import LocalBug, Refused
from skex.base.secret import Secret

SALT_BYTES: Final = 16
"""RFC 9106, section 3.1."""
STRETCHED_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Cost:
    """What trying one passphrase costs: memory in KiB, passes over it, lanes at once."""

    memory_kib: int
    passes: int
    lanes: int


DEFAULT_COST: Final = Cost(memory_kib=262_144, passes=3, lanes=4)
"""Four times the memory of RFC 9106's second choice: about a second on a small machine, once a kit."""


def parse_passphrase(text: str) -> Secret:
    """A passphrase as it was typed, in the one form that is the same on every keyboard (Unicode NFC).

    Raises ``Refused`` (kit-passphrase-weak) for one that is too short or long, or not printable.
    """
    normal = unicodedata.normalize("NFC", text)
    is_long_enough = limits.PASSPHRASE_CHARACTERS_MIN <= len(normal) <= limits.PASSPHRASE_CHARACTERS_MAX
    if not is_long_enough or not normal.isprintable():
        raise Refused(codes.KIT_PASSPHRASE_WEAK, f"{len(normal)} characters")
    return Secret(normal.encode("utf-8"))


def stretch(passphrase: Secret, salt: bytes, cost: Cost) -> Secret:
    """64 bytes that cost as much to guess as the passphrase. Raises ``LocalBug`` (bug-argument)."""
    if len(salt) != SALT_BYTES:
        raise LocalBug(codes.BAD_ARGUMENT, f"salt of {len(salt)} bytes")
    return Secret(
        hash_secret_raw(
            secret=passphrase.expose(),
            salt=salt,
            time_cost=cost.passes,
            memory_cost=cost.memory_kib,
            parallelism=cost.lanes,
            hash_len=STRETCHED_BYTES,
            type=Type.ID,
        )
    )
