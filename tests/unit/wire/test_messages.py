from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from skex.base import codes, limits
from skex.base.errors import Family
from skex.base.ids import BatchId, Coordinate, Direction, GroupId, Incarnation, KmeName
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.codec import encode
from skex.wire.context import KEY_PREFIX_BYTES, CompactContext, Purpose
from skex.wire.messages import (
    Confirm,
    Confirmation,
    Forwarded,
    GetRealm,
    Message,
    RealmFile,
    Refusal,
    Refuse,
    Share,
    Shared,
    Unknown,
    decode_message,
    encode_message,
    refusal_code,
)
from skex.wire.peer import AssignRefusal, NotAssigned, encode_peer_message
from tests.unit.wire.support import (
    BATCH,
    CONTEXT,
    KME,
    LINK_SAMPLES,
    REQUEST,
    SHARE_BYTES,
    Bound,
    Sample,
    element,
    paths,
    raw,
    refusal_of,
    replaced,
    sample,
)

CONTEXT_HEX = encode(CONTEXT.to_value()).hex()
BATCH_HEX = "000102030405060708090a0b0c0d0e0f0000000000000007"
CONFIRMATION_HEX = "5818" + BATCH_HEX + "0350000102030405060708090a0b0c0d0e0f834102010150" + "00" * 16
KME_HEX = "68" + b"berlin-1".hex()
SHARE_HEX = "50" + "00" * 16 + "5890" + "a5" * 144

BYTES = {
    "Grant TO_HUB": "8301051820",
    "Grant TO_KME": "8301051820",
    "Want TO_HUB": "8202191000",
    "Want TO_KME": "8202191000",
    "Refuse TO_HUB": "8304010b",
    "Refuse TO_KME": "8304010b",
    "Moved TO_HUB": "810d",
    "Moved TO_KME": "810d",
    "Share TO_HUB": "8605" + KME_HEX + "07" + CONTEXT_HEX + SHARE_HEX,
    "Confirm TO_HUB": "8706" + KME_HEX + CONFIRMATION_HEX,
    "Peer TO_HUB": "8307" + KME_HEX + "48" + b"envelope".hex(),
    "GetRealm TO_HUB": "8108",
    "Done TO_KME": "820301",
    "Shared TO_KME": "8609" + KME_HEX + "5818" + BATCH_HEX + CONTEXT_HEX + SHARE_HEX,
    "Confirmed TO_KME": "870a" + KME_HEX + CONFIRMATION_HEX,
    "Forwarded TO_KME": "830b" + KME_HEX + "48" + b"envelope".hex(),
    "RealmFile TO_KME": "820c44" + b"file".hex(),
}


@pytest.mark.parametrize("one", LINK_SAMPLES, ids=lambda one: one.name)
def test_message_is_laid_out_as_specified_and_read_back(one: Sample) -> None:
    assert raw(one.value).hex() == BYTES[one.name]
    assert one.decode(bytes.fromhex(BYTES[one.name])) == one.message


# ── types and counts ────────────────────────────────────────────────────────────────────────────
JUNK: tuple[Any, ...] = (True, False, -1, 1.5, {}, [[]])
OTHERS: tuple[Any, ...] = (0, b"", "a", None, [])


def _other_types(old: object, path: tuple[int, ...]) -> Iterator[object]:
    yield from JUNK
    for other in OTHERS:
        # The group within a context may be null.
        if type(other) is not type(old) and not (other is None and isinstance(old, bytes) and path[-1] == 7):
            yield other


@pytest.mark.parametrize("one", LINK_SAMPLES, ids=lambda one: one.name)
def test_wrong_type_of_any_field_is_refused(one: Sample) -> None:
    for path in paths(one.value):
        for other in _other_types(element(one.value, path), path):
            assert refusal_of(one.decode, raw(replaced(one.value, path, other))) is codes.BODY_MALFORMED


@pytest.mark.parametrize("one", LINK_SAMPLES, ids=lambda one: one.name)
def test_field_too_few_or_too_many_is_refused_at_every_level(one: Sample) -> None:
    arrays = [path for path in paths(one.value) if isinstance(element(one.value, path), list)]
    for path in ((), *arrays):
        array = element(one.value, path)
        assert refusal_of(one.decode, raw(replaced(one.value, path, [*array, 0]))) is codes.BODY_MALFORMED
        assert refusal_of(one.decode, raw(replaced(one.value, path, array[:-1]))) is codes.BODY_MALFORMED


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("body", [b"", b"\x80", b"\x01", b"\xf6", b"\x81\xf6", b"\x81\x41a", b"\x81\x81\x01"])
def test_body_without_a_type_is_refused(direction: Direction, body: bytes) -> None:
    assert refusal_of(lambda data: decode_message(data, direction), body) is codes.BODY_MALFORMED


def test_body_longer_than_a_record_is_refused() -> None:
    body = raw([99, bytes(limits.BODY_BYTES - 6)])
    assert len(body) == limits.BODY_BYTES
    assert decode_message(body, Direction.TO_HUB) == Unknown(99)
    longer = raw([99, bytes(limits.BODY_BYTES - 5)])
    assert refusal_of(lambda data: decode_message(data, Direction.TO_HUB), longer) is codes.BODY_MALFORMED


@pytest.mark.parametrize("one", LINK_SAMPLES, ids=lambda one: one.name)
def test_type_of_the_other_direction_is_refused_and_never_read(one: Sample) -> None:
    other = Direction.TO_KME if one.name.endswith("TO_HUB") else Direction.TO_HUB
    if one.value[0] in {1, 2, 4, 13}:
        assert decode_message(raw(one.value), other) == one.message
    else:
        code = refusal_of(lambda data: decode_message(data, other), raw(one.value[:1]))
        assert code is codes.BODY_WRONG_WAY


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("kind", [0, 14, 24, 65_536, 2**64 - 1])
def test_unknown_type_comes_back_as_such_whatever_follows_it(direction: Direction, kind: int) -> None:
    for rest in ([], [0], ["text", [b"", None]]):
        assert decode_message(raw([kind, *rest]), direction) == Unknown(kind)


# ── bounds ──────────────────────────────────────────────────────────────────────────────────────
NAMES_INSIDE = ["a", "0", "a" * 63, "a.b_c-d"]
NAMES_OUTSIDE = ["", "a" * 64, "A", "a-", "-a", "a b", "a\n", "é", "a@b", "\uff41"]
U32_OUTSIDE = [0, 2**32]
BOUNDS = [
    Bound("Grant TO_HUB", (1,), [0, 2**32 - 1 - 32], [2**32 - 1 - 31, 2**32]),
    Bound("Grant TO_HUB", (2,), [1, 2**32 - 1 - 5], [0, 2**32 - 1 - 4, 2**32]),
    Bound("Want TO_KME", (1,), [1, 2**32 - 1], U32_OUTSIDE),
    Bound("Refuse TO_HUB", (1,), [1, 2**64 - 1], [0]),
    Bound("Refuse TO_HUB", (2,), [1, 65_535], [0, 65_536]),
    Bound("Done TO_KME", (1,), [1, 2**64 - 1], [0]),
    Bound("Share TO_HUB", (1,), NAMES_INSIDE, NAMES_OUTSIDE),
    Bound("Share TO_HUB", (2,), [0, 2**64 - 1], []),
    Bound("Share TO_HUB", (3, 0), [1, 2**32 - 1], U32_OUTSIDE),
    Bound("Share TO_HUB", (4,), [bytes(16)], [bytes(15), bytes(17)]),
    Bound("Share TO_HUB", (5,), [bytes(144)], [b"", bytes(143), bytes(145)]),
    Bound("Shared TO_KME", (1,), NAMES_INSIDE, NAMES_OUTSIDE),
    Bound("Shared TO_KME", (2,), [bytes(24)], [bytes(23), bytes(25)]),
    Bound("Shared TO_KME", (4,), [bytes(16)], [bytes(15), bytes(17)]),
    Bound("Shared TO_KME", (5,), [bytes(144)], [b"", bytes(143), bytes(145)]),
    *(
        bound
        for name in ("Confirm TO_HUB", "Confirmed TO_KME")
        for bound in (
            Bound(name, (1,), NAMES_INSIDE, NAMES_OUTSIDE),
            Bound(name, (2,), [bytes(24)], [bytes(23), bytes(25)]),
            Bound(name, (3,), [1, 2**32 - 1], U32_OUTSIDE),
            Bound(name, (4,), [bytes(16)], [bytes(15), bytes(17)]),
            Bound(name, (5, 0), [b"", b"\xff", bytes(range(1, 65))], [b"\x00", bytes(range(1, 66))]),
            Bound(name, (6,), [bytes(16)], [bytes(15), bytes(17)]),
        )
    ),
    *(
        bound
        for name in ("Peer TO_HUB", "Forwarded TO_KME")
        for bound in (
            Bound(name, (1,), NAMES_INSIDE, NAMES_OUTSIDE),
            Bound(name, (2,), [b"x", bytes(20_561)], [b"", bytes(20_562)]),
        )
    ),
    Bound("RealmFile TO_KME", (1,), [b"x", bytes(43_008)], [b"", bytes(43_009)]),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_value_just_inside_passes_and_just_outside_is_refused(bound: Bound) -> None:
    one = sample(bound.sample)
    for value in bound.inside:
        data = raw(replaced(one.value, bound.path, value))
        message: Any = one.decode(data)
        assert encode_message(message) == data
    for value in bound.outside:
        code = refusal_of(one.decode, raw(replaced(one.value, bound.path, value)))
        assert code is codes.BODY_RANGE, value


# ── the longest ─────────────────────────────────────────────────────────────────────────────────
LONG_NAME = KmeName("n" * 63)
LAST_BATCH = BatchId(Incarnation(b"\xff" * 16), 2**64 - 1)
ALL_HUBS = tuple(Coordinate(point) for point in range(192, 256))
LONG_CLAIM = Claim(ALL_HUBS, Randomness.SYSTEM, Enrolment.UNDER_PASSPHRASE)
KEY_BYTES = 173
LONG_CONTEXT = CompactContext(
    epoch=2**32 - 1,
    threshold=64,
    hubs=ALL_HUBS,
    keys=(limits.BATCH_SECRET_BYTES - KEY_PREFIX_BYTES) // KEY_BYTES,
    key_bytes=KEY_BYTES,
    purpose=Purpose.TRAFFIC,
    lifetime=limits.LIFETIME_SECONDS_MAX,
    group=GroupId(bytes(16)),
    claim=LONG_CLAIM,
)
LONG_SHARE = bytes(LONG_CONTEXT.secret_bytes)
LONGEST: list[tuple[Message, Direction]] = [
    (Share(LONG_NAME, 2**64 - 1, LONG_CONTEXT, bytes(16), LONG_SHARE), Direction.TO_HUB),
    (Shared(LONG_NAME, LAST_BATCH, LONG_CONTEXT, bytes(16), LONG_SHARE), Direction.TO_KME),
    (Forwarded(LONG_NAME, bytes(limits.PEER_ENVELOPE_BYTES)), Direction.TO_KME),
    (RealmFile(bytes(limits.REALM_FILE_BYTES)), Direction.TO_KME),
    (
        Confirm(
            LONG_NAME, Confirmation(LAST_BATCH, 2**32 - 1, LAST_BATCH.incarnation, LONG_CLAIM, bytes(16))
        ),
        Direction.TO_HUB,
    ),
]


@pytest.mark.parametrize(("message", "direction"), LONGEST, ids=lambda one: type(one).__name__)
def test_longest_message_fits_a_record(message: Message, direction: Direction) -> None:
    body = encode_message(message)
    assert len(body) <= limits.BODY_BYTES
    assert decode_message(body, direction) == message


def test_longest_secret_is_that_of_the_limit() -> None:
    assert LONG_CONTEXT.secret_bytes > limits.BATCH_SECRET_BYTES - 16


def test_tail_of_a_direction_carries_a_grant_whatever_it_says() -> None:
    grant = sample("Grant TO_HUB")
    body = raw([1, 2**32 - 2, 1])
    assert grant.decode(body)
    assert limits.RECORD_TAG_BYTES + len(body) <= limits.GRANT_TAIL_BYTES


# ── secrets and refusals ────────────────────────────────────────────────────────────────────────
SHARES = [
    Share(KME, 7, CONTEXT, b"\x11" * 16, SHARE_BYTES),
    Shared(KME, BATCH, CONTEXT, b"\x11" * 16, SHARE_BYTES),
]


@pytest.mark.parametrize("message", SHARES, ids=lambda one: type(one).__name__)
def test_text_of_a_share_shows_none_of_its_bytes(message: Share | Shared) -> None:
    @dataclasses.dataclass
    class Holder:
        message: object

    nested = [Holder(message), (message,), {"message": message}]
    for text in (repr(message), str(message), f"{message}", repr(nested), repr(vars(Holder(message)))):
        for spelling in ("\\xa5", "a5a5", "165", repr(SHARE_BYTES[:2])):
            assert spelling not in text
        assert "144 bytes" in text


@pytest.mark.parametrize("name", ["Share TO_HUB", "Shared TO_KME"])
def test_refusal_of_a_share_shows_none_of_its_bytes(name: str) -> None:
    one = sample(name)
    marked = "secret-share-bytes"
    spoiled = [
        replaced(one.value, (5,), marked),
        replaced(one.value, (5,), marked.encode()),
        replaced(one.value, (1,), marked.encode()),
        replaced(one.value, (1,), marked.upper()),
        [*one.value, marked],
    ]
    for value in spoiled:
        for data in (raw(value), raw(value)[:-1], raw(value).replace(b"share", b"s\xffare")):
            with pytest.raises(Exception) as caught:  # noqa: PT011  # the codes are other tests' business
                one.decode(data)
            error: BaseException | None = caught.value
            while error is not None:
                assert "secret" not in (repr(error) + str(error)).lower()
                error = error.__cause__ or error.__context__


@pytest.mark.parametrize("refusal", Refusal)
def test_every_refusal_has_a_code_of_its_own(refusal: Refusal) -> None:
    assert refusal_code(refusal).family is Family.REFUSED
    assert [other for other in Refusal if refusal_code(other) is refusal_code(refusal)] == [refusal]


@pytest.mark.parametrize("refusal", Refusal)
def test_a_refusal_given_by_its_name_is_written_as_its_number(refusal: Refusal) -> None:
    assert encode_message(Refuse(1, refusal)) == encode_message(Refuse(1, int(refusal)))


def test_refusal_named_by_its_enum_is_written_as_its_number() -> None:
    assert encode_message(Refuse(1, Refusal.BUSY)) == encode_message(Refuse(1, 11))
    named = NotAssigned(REQUEST, BATCH.incarnation, AssignRefusal.KEY_NOT_HELD)
    assert encode_peer_message(named)[-1] == 2


@pytest.mark.parametrize("refusal", [0, 12, 65_535])
def test_refusal_of_a_newer_version_counts_as_busy(refusal: int) -> None:
    assert refusal_code(refusal) is codes.BUSY


def test_get_realm_says_nothing_more() -> None:
    assert decode_message(b"\x81\x08", Direction.TO_HUB) == GetRealm()
