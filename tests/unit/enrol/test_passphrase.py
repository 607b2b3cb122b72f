from __future__ import annotations

import pytest

from skex.base import limits
from skex.base.errors import LocalBug, Refused
from skex.base.secret import Secret
from skex.enrol.passphrase import DEFAULT_COST, parse_passphrase, stretch
from tests.unit.enrol.kit_support import CHEAP

SALT = bytes(range(16))


def test_stretching_is_argon2id_of_rfc_9106() -> None:
    """The value comes from another implementation: OpenSSL's, through ``cryptography``."""
    stretched = stretch(Secret(b"correct horse battery staple"), b"somesaltsomesalt", CHEAP)
    assert len(stretched) == 64
    assert stretched.expose().hex() == (
        "9a83dbcee63c99af0015bf41e63f4193e9aec9ac47a15b7e6fc6c3b4b601c525"
        "42256dfcbb0df6e7aebd3577153714e5f0798d3399c41fe1e6d134ee90853fb5"
    )


def test_same_passphrase_typed_on_another_keyboard_is_the_same() -> None:
    """A letter with an accent: one character, or the letter and a combining accent."""
    assert parse_passphrase("caf\u00e9 caf\u00e9 caf\u00e9") == parse_passphrase(
        "cafe\u0301 cafe\u0301 cafe\u0301"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eleven char",
        "x" * (limits.PASSPHRASE_CHARACTERS_MAX + 1),
        "a bell \a rings here",
        "two\nlines of text",
    ],
)
def test_weak_or_unprintable_passphrase_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(Refused, match="kit-passphrase-weak") as refused:
        parse_passphrase(text)
    assert not text or text not in str(refused.value)


def test_shortest_and_longest_passphrases_are_accepted() -> None:
    for count in (limits.PASSPHRASE_CHARACTERS_MIN, limits.PASSPHRASE_CHARACTERS_MAX):
        assert len(parse_passphrase("x" * count)) == count


def test_salt_of_another_length_is_a_bug() -> None:
    with pytest.raises(LocalBug, match="bug-argument"):
        stretch(Secret(b"x" * 12), SALT[1:], CHEAP)


def test_other_salt_or_cost_gives_another_key() -> None:
    secret = Secret(b"x" * 12)
    assert stretch(secret, SALT, CHEAP) != stretch(secret, SALT[::-1], CHEAP)


def test_default_cost_is_within_what_kits_may_ask_for() -> None:
    assert limits.KIT_KDF_MEMORY_KIB_MIN <= DEFAULT_COST.memory_kib <= limits.KIT_KDF_MEMORY_KIB_MAX
    assert DEFAULT_COST.passes <= limits.KIT_KDF_PASSES_MAX
    assert DEFAULT_COST.lanes <= limits.KIT_KDF_LANES_MAX
