from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug, Refused
from skex.base.ids import Direction, HubName, KmeName, LinkId
from skex.base.secret import Secret
from skex.crypto.kdf import Label
from skex.enrol import kit
from skex.enrol.kit import InClear, KitHeader, KitLabel, PassphraseKeys, UnderPassphrase
from skex.enrol.passphrase import Cost
from skex.pad.kinds import PadKind
from skex.store.sealing import StoreLabel
from skex.wire.claim import Enrolment
from skex.wire.codec import decode, encode
from tests.unit.enrol.kit_support import CHEAP, NOW, make_realm


def header(**changes: Any) -> KitHeader:
    parts: dict[str, Any] = {
        "kit_id": bytes(range(16)),
        "realm": make_realm().to_bytes(),
        "hub": HubName("hub-1"),
        "kme": KmeName("site-a"),
        "link_id": LinkId(b"linklink"),
        "kind": PadKind.TABLE,
        "capacity_to_hub": 3,
        "capacity_to_kme": 40,
        "created": NOW,
        "expires": NOW + 60,
        "protection": InClear(),
    }
    return KitHeader(**{**parts, **changes})


SEALED = UnderPassphrase(bytes(16), CHEAP)
DERIVED = {
    "kind": PadKind.DERIVED,
    "capacity_to_hub": limits.PAD_POSITION_MAX,
    "capacity_to_kme": limits.PAD_POSITION_MAX,
}
REALM, HUB, KME, LINK, KIND, TO_HUB, TO_KME, CREATED, EXPIRES, ENROLMENT, PROTECTION = range(1, 12)


@pytest.mark.parametrize("protection", [InClear(), SEALED])
@pytest.mark.parametrize("kind", [{}, DERIVED])
def test_header_reads_back_and_is_canonical(protection: kit.Protection, kind: dict[str, Any]) -> None:
    made = header(protection=protection, **kind)
    assert KitHeader.from_bytes(made.to_bytes()) == made
    assert KitHeader.from_bytes(made.to_bytes()).to_bytes() == made.to_bytes()


def test_header_says_how_the_material_travels() -> None:
    assert header().enrolment is Enrolment.CARRIED_IN_CLEAR
    assert header(protection=SEALED).enrolment is Enrolment.UNDER_PASSPHRASE


def test_sizes_follow_from_the_kind() -> None:
    table, derived = header(), header(**DERIVED)
    assert [table.material_bytes(way) for way in Direction] == [3 * 4096, 40 * 4096]
    assert [derived.material_bytes(way) for way in Direction] == [64, 64]
    assert derived.content_bytes == 64 + 64 + 2 * 64
    assert (table.chunks, derived.chunks) == (3, 1)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, bytes(15)),
        (LINK, bytes(7)),
        (KIND, 0),
        (KIND, 3),
        (TO_HUB, 0),
        (TO_KME, limits.PAD_POSITION_MAX + 1),
        (EXPIRES, NOW),
        (EXPIRES, NOW - 1),
        (EXPIRES, NOW + limits.KIT_SECONDS_MAX + 1),
        (ENROLMENT, int(Enrolment.UNDER_PASSPHRASE)),
        (ENROLMENT, int(Enrolment.COMPONENTS)),
        (PROTECTION, []),
        (PROTECTION, [2]),
        (PROTECTION, [0, 0]),
        (PROTECTION, [1, bytes(16), limits.KIT_KDF_MEMORY_KIB_MAX + 1, 1, 1]),
        (PROTECTION, [1, bytes(16), limits.KIT_KDF_MEMORY_KIB_MIN - 1, 1, 1]),
        (PROTECTION, [1, bytes(16), limits.KIT_KDF_MEMORY_KIB_MIN, limits.KIT_KDF_PASSES_MAX + 1, 1]),
        (PROTECTION, [1, bytes(16), limits.KIT_KDF_MEMORY_KIB_MIN, 1, limits.KIT_KDF_LANES_MAX + 1]),
        (PROTECTION, [1, bytes(15), limits.KIT_KDF_MEMORY_KIB_MIN, 1, 1]),
        (CREATED, None),
    ],
)
def test_hostile_field_is_refused(place: int, value: Any) -> None:
    """A forger recomputes every digest, and asks for memory, time, or a pad that is no pad."""
    fields = list(decode(header().to_bytes(), 65536))  # type: ignore[arg-type]  # it is an array
    fields[place] = value
    with pytest.raises(Refused) as refused:
        KitHeader.from_bytes(encode(fields))
    assert refused.value.code is codes.KIT_MALFORMED


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        (HUB, "hub-9", codes.HUB_NOT_IN_REALM),
        (HUB, "Hub-1", codes.NAME_INVALID),
        (KME, "site a", codes.NAME_INVALID),
        (REALM, b"\x80", codes.REALM_MALFORMED),
    ],
)
def test_names_and_realm_are_checked_as_everywhere(place: int, value: Any, code: ErrorCode) -> None:
    fields = list(decode(header().to_bytes(), 65536))  # type: ignore[arg-type]  # it is an array
    fields[place] = value
    with pytest.raises(Refused) as refused:
        KitHeader.from_bytes(encode(fields))
    assert refused.value.code is code


def test_derived_kit_with_a_capacity_of_its_own_is_refused() -> None:
    with pytest.raises(Refused, match="kit-malformed"):
        header(**{**DERIVED, "capacity_to_kme": 7})


@pytest.mark.parametrize("change", [{"kit_id": bytes(3)}, {"link_id": LinkId(bytes(9))}])
def test_id_of_another_length_is_a_bug(change: dict[str, Any]) -> None:
    with pytest.raises(LocalBug, match="bug-argument"):
        header(**change)


@pytest.mark.parametrize(
    ("preamble", "code"),
    [
        (kit.PREAMBLE.pack(b"skex kid", 1, bytes(3), 9), codes.KIT_MALFORMED),
        (kit.PREAMBLE.pack(kit.MAGIC, 2, bytes(3), 9), codes.KIT_VERSION),
        (kit.PREAMBLE.pack(kit.MAGIC, 1, b"\0\1\0", 9), codes.KIT_MALFORMED),
        (kit.PREAMBLE.pack(kit.MAGIC, 1, bytes(3), 0), codes.KIT_MALFORMED),
        (kit.PREAMBLE.pack(kit.MAGIC, 1, bytes(3), limits.KIT_HEADER_BYTES + 1), codes.KIT_MALFORMED),
    ],
)
def test_foreign_later_or_oversized_preamble_is_refused_before_anything_is_read(
    preamble: bytes, code: ErrorCode
) -> None:
    with pytest.raises(Refused) as refused:
        kit.read_preamble(preamble)
    assert refused.value.code is code


def test_largest_realm_fits_a_header() -> None:
    assert limits.REALM_FILE_BYTES + 2 * limits.NAME_CHARACTERS + 200 < limits.KIT_HEADER_BYTES


def test_labels_are_distinct_from_each_other_and_from_every_other_label() -> None:
    everything = [*KitLabel, *Label, *StoreLabel]
    assert not [pair for pair in permutations(everything, 2) if pair[0].startswith(bytes(pair[1]))]


def test_keys_belong_to_one_header_and_one_passphrase() -> None:
    stretched, check = Secret(bytes(64)), kit.header_check(b"header")
    keys = PassphraseKeys.derive(stretched, check)
    other = PassphraseKeys.derive(stretched, kit.header_check(b"another"))
    wrong = PassphraseKeys.derive(Secret(b"\1" * 64), check)
    assert len({one.chunk_key.expose() for one in (keys, other, wrong)}) == 3
    keys.require(keys.proof)
    for one in (other, wrong):
        with pytest.raises(Refused, match="kit-passphrase"):
            one.require(keys.proof)


def test_fingerprint_covers_both_checks() -> None:
    first, last = bytes(64), b"\1" * 64
    assert (
        len({kit.fingerprint(first, last), kit.fingerprint(last, last), kit.fingerprint(first, first)}) == 3
    )
    assert len(kit.fingerprint_words(kit.fingerprint(first, last)).split()) == 12


def test_cost_is_part_of_the_header() -> None:
    dearer = UnderPassphrase(bytes(16), Cost(8_192, 2, 1))
    assert replace(header(), protection=dearer).to_bytes() != replace(header(), protection=SEALED).to_bytes()
