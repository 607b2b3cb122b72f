from __future__ import annotations

import tracemalloc
from typing import Any

import cbor2
import pytest

from skex.base import codes
from skex.base.errors import LocalBug, PeerFault
from skex.wire import codec
from skex.wire.codec import Fields, decode, encode, is_strictly_ascending
from tests.unit.wire.support import refusal_of

LIMIT = 65_512


def _refused(data: bytes) -> bool:
    return refusal_of(lambda spoiled: decode(spoiled, LIMIT), data) is codes.BODY_MALFORMED


def _nested(depth: int) -> Any:
    return [_nested(depth - 1)] if depth else 0


# RFC 8949, appendix A: the examples that lie within the profile.
@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        (0, "00"),
        (1, "01"),
        (10, "0a"),
        (23, "17"),
        (24, "1818"),
        (25, "1819"),
        (100, "1864"),
        (1000, "1903e8"),
        (1_000_000, "1a000f4240"),
        (1_000_000_000_000, "1b000000e8d4a51000"),
        (2**64 - 1, "1bffffffffffffffff"),
        (None, "f6"),
        (b"", "40"),
        (b"\1\2\3\4", "4401020304"),
        ("", "60"),
        ("a", "6161"),
        ("IETF", "6449455446"),
        ("\u00fc", "62c3bc"),
        ("\U00010151", "64f0908591"),
        ([], "80"),
        ([1, 2, 3], "83010203"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
    ],
)
def test_published_example_is_encoded_and_decoded(value: Any, encoding: str) -> None:
    assert encode(value).hex() == encoding
    assert decode(bytes.fromhex(encoding), LIMIT) == value


def test_a_tuple_encodes_like_a_list() -> None:
    assert encode((1, (2,))) == encode([1, [2]])


class _Integer(int):
    pass


@pytest.mark.parametrize(
    "value",
    [True, False, -1, 2**64, 1.0, {}, {1: 2}, bytearray(b"x"), memoryview(b"x"), {1}, object(), _Integer(1)],
    ids=lambda value: type(value).__name__,
)
def test_value_outside_the_profile_is_a_bug_of_the_caller(value: Any) -> None:
    for nested in (value, [value], [[0, value]]):
        with pytest.raises(LocalBug) as caught:
            encode(nested)
        assert caught.value.code is codes.BAD_ARGUMENT


def test_depth_at_the_limit_passes_and_one_more_is_refused_at_both_ends() -> None:
    deepest = _nested(codec.MAX_DEPTH)
    assert decode(encode(deepest), LIMIT) == deepest
    with pytest.raises(LocalBug):
        encode(_nested(codec.MAX_DEPTH + 1))
    assert _refused(cbor2.dumps(_nested(codec.MAX_DEPTH + 1)))


def test_input_longer_than_the_limit_is_refused_unread() -> None:
    assert decode(encode(b"123"), 4) == b"123"
    with pytest.raises(PeerFault) as caught:
        decode(encode(b"1234"), 4)
    assert caught.value.code is codes.BODY_MALFORMED


@pytest.mark.parametrize(
    ("attack", "data"),
    [
        ("nothing", ""),
        ("two items", "0000"),
        ("trailing break", "00ff"),
        ("non-shortest integer, one byte", "1817"),
        ("non-shortest integer, two bytes", "1900ff"),
        ("non-shortest integer, four bytes", "1a0000ffff"),
        ("non-shortest integer, eight bytes", "1b00000000ffffffff"),
        ("non-shortest length of bytes", "580161"),
        ("non-shortest length of text", "780161"),
        ("non-shortest length of an array", "980100"),
        ("non-shortest element", "811801"),
        ("reserved additional information 28", "1c"),
        ("reserved additional information 29", "5d"),
        ("reserved additional information 30", "9e"),
        ("indefinite bytes", "5f4161ff"),
        ("indefinite text", "7f6161ff"),
        ("indefinite array", "9f00ff"),
        ("indefinite map", "bf0000ff"),
        ("lone break", "ff"),
        ("array cut short", "8200"),
        ("bytes cut short", "4300"),
        ("negative", "20"),
        ("lowest negative", "3bffffffffffffffff"),
        ("half float", "f90000"),
        ("single float", "fa00000000"),
        ("double float", "fb0000000000000000"),
        ("not a number", "f97e00"),
        ("infinity", "f97c00"),
        ("false", "f4"),
        ("true", "f5"),
        ("undefined", "f7"),
        ("simple value", "e0"),
        ("two-byte simple value", "f8ff"),
        ("two-byte simple value that must be one", "f814"),
        ("empty map", "a0"),
        ("map", "a10000"),
        ("duplicate keys", "a200000000"),
        ("unsorted keys", "a201000000"),
        ("array as a key", "a18000"),
        ("map as a key", "a1a000"),
        ("not-a-number as a key", "a1f97e0000"),
        ("invalid UTF-8", "61ff"),
        ("surrogate in UTF-8", "63eda080"),
        ("overlong UTF-8", "62c080"),
        ("UTF-8 beyond Unicode", "64f4908080"),
        ("UTF-8 cut short", "61c3"),
    ],
)
def test_what_is_not_the_one_encoding_is_refused(attack: str, data: str) -> None:
    for nested in (bytes.fromhex(data), b"\x81" + bytes.fromhex(data)):
        assert _refused(nested), attack


_TAG_CONTENTS = (b"\x00", b"\x20", b"\x41\x01", b"\x61a", b"\x80", b"\x82\x01\x02", b"\xa0", b"\xf6")


@pytest.mark.parametrize(
    "tag", [*range(64), 100, 256, 258, 259, 260, 261, 1004, 43000, 55799, 2**32, 2**64 - 1]
)
def test_every_tag_is_refused_whatever_it_holds(tag: int) -> None:
    head = cbor2.dumps(cbor2.CBORTag(tag, 0))[:-1]
    for content in _TAG_CONTENTS:
        assert _refused(head + content)
        assert _refused(b"\x81" + head + content)


def test_no_tag_runs_a_decoder_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tag 2 would build a number of 60,000 bytes, tag 35 would compile a regular expression.
    calls: list[object] = []
    monkeypatch.setattr(codec, "_refuse_tag", lambda *given: calls.append(given))
    codec.decode(b"\xf6", 1)
    with pytest.raises(PeerFault):
        decode(b"\xd8\x23\x61(", LIMIT)
    assert len(calls) == 1


@pytest.mark.parametrize("head", [0x9B, 0xBB, 0x5B, 0x7B, 0xDB])
@pytest.mark.parametrize("length", [2**16, 2**27, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1])
def test_giant_length_is_refused_without_allocating_it(head: int, length: int) -> None:
    data = bytes([head]) + length.to_bytes(8, "big") + bytes(64)
    tracemalloc.start()
    try:
        assert _refused(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    "item", [b"\x81", b"\xa1", b"\xc2", b"\xd8\x1c", b"\xd9\xd9\xf7", b"\x9f", b"\xa1\x81"]
)
def test_deep_nesting_is_refused_before_the_stack_feels_it(item: bytes) -> None:
    assert _refused(item * (LIMIT // len(item)))


def test_largest_body_of_smallest_items_takes_bounded_memory() -> None:
    data = b"\x99\xff\x00" + b"\x80" * 0xFF00
    tracemalloc.start()
    try:
        decode(data, LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


def test_map_is_left_at_its_first_key_that_could_be_made_to_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    # Arrays of integers hash predictably: 64 KiB of colliding keys would cost a lying hub nothing.
    reached: list[object] = []
    monkeypatch.setattr(codec, "_refuse_tag", lambda *given: reached.append(given))
    assert _refused(b"\xa1\x61a\xc2\x40")
    assert len(reached) == 1
    for key in (b"\x80", b"\x00", b"\x20", b"\xf9\x7e\x00"):
        assert _refused(b"\xa1" + key + b"\xc2\x40")
    assert len(reached) == 1


@pytest.mark.parametrize(
    "data", [b"\x66secr\xff\xff", b"\xa2\x66secret\x00\x66secret\x00", b"\xc2\x66secret"]
)
def test_refusal_quotes_nothing_of_what_it_refused(data: bytes) -> None:
    with pytest.raises(PeerFault) as caught:
        decode(data, LIMIT)
    error: BaseException | None = caught.value
    while error is not None:
        assert "secr" not in repr(error) + str(error)
        error = error.__cause__ or error.__context__


# ── Fields ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("value", [0, b"", "", None, ()])
def test_fields_of_something_else_than_an_array_are_refused(value: Any) -> None:
    with pytest.raises(PeerFault) as caught:
        Fields(value)
    assert caught.value.code is codes.BODY_MALFORMED


@pytest.mark.parametrize("read", ["uint", "blob", "text", "optional_blob", "fields", "repeated"])
def test_reading_beyond_the_last_element_is_refused(read: str) -> None:
    arguments: dict[str, tuple[Any, ...]] = {
        "uint": (0, 1),
        "blob": (1,),
        "text": (1,),
        "optional_blob": (1,),
        "fields": (),
        "repeated": (0, 1, Fields.null),
    }
    with pytest.raises(PeerFault) as caught:
        getattr(Fields([]), read)(*arguments[read])
    assert caught.value.code is codes.BODY_MALFORMED


@pytest.mark.parametrize(
    ("item", "read"),
    [
        (True, lambda fields: fields.uint(0, 1)),
        ("1", lambda fields: fields.uint(0, 1)),
        ("a", lambda fields: fields.blob(1)),
        (b"a", lambda fields: fields.text(1)),
        (0, lambda fields: fields.optional_blob(1)),
        (b"", lambda fields: fields.fields()),
        (None, lambda fields: fields.repeated(0, 1, Fields.null)),
    ],
)
def test_another_type_than_the_expected_is_refused(item: Any, read: Any) -> None:
    with pytest.raises(PeerFault) as caught:
        read(Fields([item]))
    assert caught.value.code is codes.BODY_MALFORMED


@pytest.mark.parametrize(
    ("inside", "outside", "read"),
    [
        ([5, 9], [4, 10], lambda fields: fields.uint(5, 9)),
        ([b"ab", b"abcd"], [b"a", b"abcde"], lambda fields: fields.blob(2, 4)),
        ([b"ab"], [b"a", b"abc"], lambda fields: fields.blob(2)),
        ([b"ab", None], [b"a", b"abc"], lambda fields: fields.optional_blob(2)),
        (["a", "~ ~"], ["", "abcd", "\x1f", "\x7f", "\xe9"], lambda fields: fields.text(3)),
        (
            [[0], [0, 0]],
            [[], [0, 0, 0]],
            lambda fields: fields.repeated(1, 2, lambda inner: inner.uint(0, 0)),
        ),
    ],
)
def test_value_just_inside_is_read_and_just_outside_refused(
    inside: list[Any], outside: list[Any], read: Any
) -> None:
    for item in inside:
        found = read(Fields([item]))
        assert (list(found) if isinstance(found, tuple) else found) == item
    for item in outside:
        with pytest.raises(PeerFault) as caught:
            read(Fields([item]))
        assert caught.value.code is codes.BODY_RANGE


def test_null_is_stepped_over_only_where_it_stands() -> None:
    fields = Fields([None, 1])
    assert fields.null()
    assert not fields.null()
    assert fields.uint(1, 1) == 1
    assert not fields.null()
    fields.finish()


def test_elements_that_nobody_asked_for_are_refused() -> None:
    fields = Fields([1, 2])
    assert fields.count == 2
    fields.uint(1, 1)
    with pytest.raises(PeerFault) as caught:
        fields.finish()
    assert caught.value.code is codes.BODY_MALFORMED


@pytest.mark.parametrize(
    ("values", "ascending"),
    [([], True), ([1], True), ([1, 2, 9], True), ([1, 1], False), ([2, 1], False), ([1, 3, 2], False)],
)
def test_only_strictly_ascending_values_count_as_ascending(values: list[int], ascending: bool) -> None:
    assert is_strictly_ascending(values) is ascending
