from __future__ import annotations

import dataclasses
import hashlib

import pytest

from skex.base import codes, limits
from skex.base.ids import HubName, KmeName, RealmName
from skex.wire.codec import Fields, decode, encode
from skex.wire.context import KEY_PREFIX_BYTES, CompactContext, Context
from tests.unit.wire.support import BATCH, CONTEXT, CONTROL, Bound, element, paths, raw, refusal_of, replaced

JUNK: tuple[object, ...] = (True, False, -1, 1.5, "text", {}, [[]])
VALUE = decode(encode(CONTEXT.to_value()), 1000)


def _read(data: bytes) -> CompactContext:
    return CompactContext.from_fields(Fields(decode(data, 65_512)))


def _code(value: object) -> object:
    return refusal_of(_read, raw(value))


def test_context_is_laid_out_as_specified() -> None:
    claim = "8341020101"
    assert encode(CONTEXT.to_value()).hex() == "8903024301020902182001190e1050" + "00" * 16 + claim


@pytest.mark.parametrize("context", [CONTEXT, CONTROL])
def test_context_is_read_back(context: CompactContext) -> None:
    assert _read(encode(context.to_value())) == context


def test_secret_is_prefix_and_keys() -> None:
    assert KEY_PREFIX_BYTES == 80
    assert CONTEXT.secret_bytes == 80 + 2 * 32


BOUNDS = [
    Bound("", (0,), [1, 2**32 - 1], [0, 2**32]),  # epoch
    Bound("", (1,), [2, 3], [0, 1, 4, 65]),  # threshold: 1 is for one hub only
    Bound("", (2,), [b"\x01\x02", b"\x02\xff"], [b"", b"\x00\x02", b"\x02\x02", b"\x02\x01"]),  # hubs
    Bound("", (3,), [1, limits.BATCH_KEYS], [0, limits.BATCH_KEYS + 1]),  # keys
    Bound("", (4,), [16, 1024], [15, 1025]),  # key bytes
    Bound("", (5,), [1], [2]),  # purpose
    Bound("", (6,), [1, 31_536_000], [0, 31_536_001]),  # lifetime
    Bound("", (7,), [None, bytes(16)], [b"", bytes(15), bytes(17)]),  # group
    Bound("", (8, 0), [b"", b"\x01\x02\x09"], [b"\x03", b"\x01\x02\x03\x09"]),  # hubs of the batch only
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_value_just_inside_passes_and_just_outside_is_refused(bound: Bound) -> None:
    for value in bound.inside:
        changed = replaced(VALUE, bound.path, value)
        assert _read(raw(changed)).to_value() == changed
    for value in bound.outside:
        assert _code(replaced(VALUE, bound.path, value)) is codes.BODY_RANGE


def _many(hubs: int, threshold: int) -> object:
    value = replaced(VALUE, (2,), bytes(range(1, hubs + 1)))
    return replaced(value, (1,), threshold)


@pytest.mark.parametrize(("hubs", "threshold"), [(1, 1), (64, 64), (32, 2), (11, 5), (64, 63)])
def test_hubs_with_few_enough_subsets_pass(hubs: int, threshold: int) -> None:
    value = replaced(_many(hubs, threshold), (8, 0), b"\x01")
    assert len(_read(raw(value)).hubs) == hubs


@pytest.mark.parametrize(("hubs", "threshold"), [(33, 2), (12, 6), (64, 62), (65, 65)])
def test_batch_that_would_make_a_receiver_try_too_many_subsets_is_refused(hubs: int, threshold: int) -> None:
    assert _code(_many(hubs, threshold)) is codes.BODY_RANGE


def test_threshold_of_one_with_several_hubs_is_refused() -> None:
    # Any single hub would know the key.
    assert _code(_many(2, 1)) is codes.BODY_RANGE


def test_longest_secret_passes_and_one_key_more_is_refused() -> None:
    keys = (limits.BATCH_SECRET_BYTES - KEY_PREFIX_BYTES) // 64
    value = replaced(VALUE, (4,), 64)
    assert _read(raw(replaced(value, (3,), keys))).secret_bytes <= limits.BATCH_SECRET_BYTES
    assert _code(replaced(value, (3,), keys + 1)) is codes.BODY_RANGE


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(CONTROL, keys=2),
        dataclasses.replace(CONTROL, key_bytes=63),
        dataclasses.replace(CONTROL, group=CONTEXT.group),
    ],
)
def test_control_batch_of_another_shape_than_one_root_is_refused(other: CompactContext) -> None:
    assert _code(other.to_value()) is codes.BODY_RANGE


def test_wrong_type_of_any_field_is_refused() -> None:
    for path in paths(VALUE):
        old = element(VALUE, path)
        for junk in JUNK:
            assert _code(replaced(VALUE, path, junk)) is codes.BODY_MALFORMED
        if path != (7,):
            assert _code(replaced(VALUE, path, None)) is codes.BODY_MALFORMED
        if not isinstance(old, int):
            assert _code(replaced(VALUE, path, 1)) is codes.BODY_MALFORMED


def test_field_too_few_or_too_many_is_refused() -> None:
    assert isinstance(VALUE, list)
    for value in (VALUE[:-1], [*VALUE, 0], [], 0):
        assert _code(value) is codes.BODY_MALFORMED


# ── expanded ────────────────────────────────────────────────────────────────────────────────────
EXPANDED = Context(
    RealmName("alps"),
    KmeName("berlin"),
    KmeName("paris"),
    BATCH,
    (HubName("h1"), HubName("h2"), HubName("h9")),
    CONTEXT,
)


def test_expanded_context_holds_what_the_design_lists_in_its_order() -> None:
    assert decode(EXPANDED.to_bytes(), 1000) == [
        1,
        "alps",
        3,
        "berlin",
        "paris",
        BATCH.to_bytes(),
        2,
        [["h1", 1], ["h2", 2], ["h9", 9]],
        2,
        32,
        [b"\x02", 1, 1],
        1,
        3600,
        bytes(16),
    ]
    assert EXPANDED.digest() == hashlib.sha512(EXPANDED.to_bytes()).digest()


def test_ends_that_see_any_part_differently_have_different_bytes() -> None:
    others = [
        dataclasses.replace(EXPANDED, realm=RealmName("jura")),
        dataclasses.replace(EXPANDED, sender=KmeName("rome")),
        dataclasses.replace(EXPANDED, receiver=KmeName("rome")),
        dataclasses.replace(EXPANDED, batch=dataclasses.replace(BATCH, counter=8)),
        dataclasses.replace(EXPANDED, hub_names=(HubName("h1"), HubName("h2"), HubName("h8"))),
        *(
            dataclasses.replace(EXPANDED, compact=dataclasses.replace(CONTEXT, **changes))
            for changes in (
                {"epoch": 4},
                {"threshold": 3},
                {"keys": 3},
                {"key_bytes": 33},
                {"lifetime": 3601},
                {"group": None},
                {"claim": dataclasses.replace(CONTEXT.claim, computational=())},
            )
        ),
    ]
    assert len({EXPANDED.to_bytes(), *(other.to_bytes() for other in others)}) == 1 + len(others)


def test_hub_without_a_name_is_never_left_out_silently() -> None:
    with pytest.raises(ValueError, match="zip"):
        dataclasses.replace(EXPANDED, hub_names=(HubName("h1"),)).to_bytes()
