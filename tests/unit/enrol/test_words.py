from __future__ import annotations

import hashlib
from importlib import resources

import pytest

from skex.base.errors import LocalBug
from skex.enrol.words import word_list, words_of


def test_list_is_the_published_one() -> None:
    data = (resources.files("skex.enrol") / "wordlist" / "english.txt").read_bytes()
    assert (
        hashlib.sha256(data).hexdigest() == "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"
    )


def test_words_differ_in_their_first_four_letters() -> None:
    assert len(word_list()) == 2048
    assert len({word[:4] for word in word_list()}) == 2048


def test_its_licence_stands_beside_it() -> None:
    licence = (resources.files("skex.enrol") / "wordlist" / "LICENSE").read_text(encoding="utf-8")
    assert "MIT License" in licence


@pytest.mark.parametrize(
    ("digest", "words"),
    [
        (bytes(64), " ".join(["abandon"] * 12)),
        (b"\xff" * 64, " ".join(["zoo"] * 12)),
        # 00000000001 00000000010 then zeros
        (bytes.fromhex("00200800") + bytes(60), "ability able " + " ".join(["abandon"] * 10)),
    ],
)
def test_words_are_eleven_bits_each_from_the_front(digest: bytes, words: str) -> None:
    assert words_of(digest) == words


def test_one_changed_bit_among_the_first_132_changes_the_words() -> None:
    plain = words_of(bytes(64))
    for bit in range(132):
        assert words_of((1 << (511 - bit)).to_bytes(64, "big")) != plain


def test_digest_that_is_too_short_is_a_bug() -> None:
    with pytest.raises(LocalBug, match="bug-argument"):
        words_of(bytes(16))
