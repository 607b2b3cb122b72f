"""Fingerprints as words, because people compare twelve words on the telephone and no hex digits.

The list has 2048 English words, each told apart by its first four letters. Twelve of them are the
first 132 bits of a digest: nobody finds other content for given words (2^132), and whoever makes both
contents needs 2^66 tries to make two with equal words. The whole digest is shown beside them.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

from skex.base import codes
from skex.base.errors import LocalBug

WORDS: Final = 12
"""Words of a fingerprint."""
BITS_PER_WORD: Final = 11


@cache
def word_list() -> tuple[str, ...]:
    """The 2048 words, in the order that is their meaning."""
    text = (resources.files(__package__) / "wordlist" / "english.txt").read_text(encoding="ascii")
    return tuple(text.split())


def words_of(digest: bytes) -> str:
    """The first 132 bits of a digest as twelve words, each eleven bits, most significant first."""
    bits = WORDS * BITS_PER_WORD
    if len(digest) * 8 < bits:
        raise LocalBug(codes.BAD_ARGUMENT, f"a digest of {len(digest)} bytes")
    number = int.from_bytes(digest, "big") >> (len(digest) * 8 - bits)
    words = word_list()
    mask = len(words) - 1
    shifts = range(bits - BITS_PER_WORD, -1, -BITS_PER_WORD)
    return " ".join(words[number >> shift & mask] for shift in shifts)
