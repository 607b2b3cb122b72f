"""No secret fits into a record: not by type, and not in a text that somebody composed carelessly."""

from __future__ import annotations

import base64
import uuid
from enum import Enum
from typing import Any

import pytest

from skex.audit import fields
from skex.audit.fields import Actor, ActorKind, DetailKind, Digest, Subject, SubjectKind
from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import BatchId, GroupId, HubName, Incarnation, KmeName, LinkId, RealmName, RequestId, SaeId
from skex.base.secret import Secret

KEY: Any = bytes(range(100, 132))
SECRETS: list[Any] = [KEY, bytearray(KEY), memoryview(KEY), Secret(KEY), [KEY], [Secret(KEY)], (KEY,)]


class Word(Enum):
    FINE = "a-word"
    SHOUTED = "A WORD"
    LONG = "a" * 64
    NUMBER = 7
    BYTES = KEY


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
@pytest.mark.parametrize("kind", DetailKind)
def test_secret_fits_into_no_detail_and_is_not_quoted_in_the_defect(kind: DetailKind, secret: object) -> None:
    with pytest.raises(LocalBug) as error:
        kind.read(secret)
    assert error.value.code is codes.BAD_ARGUMENT
    assert KEY.hex() not in str(error.value)
    assert repr(KEY) not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (DetailKind.COUNT, -1),
        (DetailKind.COUNT, 2**53),
        (DetailKind.COUNT, True),
        (DetailKind.COUNT, 1.0),
        (DetailKind.COUNT, int.from_bytes(KEY, "big")),
        (DetailKind.FLAG, 1),
        (DetailKind.WORD, "a-word"),
        (DetailKind.WORD, Word.SHOUTED),
        (DetailKind.WORD, Word.LONG),
        (DetailKind.WORD, Word.NUMBER),
        (DetailKind.WORD, Word.BYTES),
        (DetailKind.TEXT, 7),
        (DetailKind.TEXT, None),
        (DetailKind.NAMES, "site-1"),
        (DetailKind.NAMES, ["Site"]),
        (DetailKind.NAMES, [7]),
        (DetailKind.NAMES, {"site-1"}),
        (DetailKind.NAMES, ["a"] * (limits.AUDIT_SUBJECTS + 1)),
        (DetailKind.DIGEST, "0" * 128),
    ],
)
def test_value_of_another_type_or_form_is_refused(kind: DetailKind, value: object) -> None:
    with pytest.raises(LocalBug):
        kind.read(value)


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (DetailKind.COUNT, 0, 0),
        (DetailKind.COUNT, 2**53 - 1, 2**53 - 1),
        (DetailKind.FLAG, False, False),
        (DetailKind.WORD, Word.FINE, "a-word"),
        (DetailKind.TEXT, "disk sda1 is full", "disk sda1 is full"),
        (DetailKind.NAMES, ["h1", "vpn@site-1"], ("h1", "vpn@site-1")),
        (DetailKind.DIGEST, Digest(b"abc"), Digest(b"abc").hex),
    ],
)
def test_value_of_its_type_is_read(kind: DetailKind, value: object, read: object) -> None:
    assert kind.read(value) == read


@pytest.mark.parametrize(
    "spelled",
    [
        KEY.hex(),
        KEY.hex().upper(),
        KEY[:16].hex(),
        base64.b64encode(KEY).decode(),
        base64.b64encode(KEY[:16]).decode(),
        base64.urlsafe_b64encode(KEY).decode(),
    ],
)
def test_key_spelled_in_a_text_is_blacked_out(spelled: str) -> None:
    text = fields.harmless(f"could not install {spelled}, sorry")
    assert text == "could not install [blacked out], sorry"


def test_key_that_the_texts_end_would_cut_is_blacked_out_whole() -> None:
    text = fields.harmless("." * (limits.AUDIT_TEXT_CHARACTERS - 20) + KEY.hex())
    assert KEY.hex()[:10] not in text
    assert len(text) <= limits.AUDIT_TEXT_CHARACTERS


def test_text_becomes_printable_and_short() -> None:
    assert fields.harmless("a\nb\x00\u202e\u00e9") == "a?b???"
    assert len(fields.harmless("word " * 1000)) == limits.AUDIT_TEXT_CHARACTERS


def test_subjects_are_made_of_typed_ids() -> None:
    batch = BatchId(Incarnation(bytes(16)), 7)
    key_id = uuid.UUID(int=1)
    made = [
        Subject.realm(RealmName("r")),
        Subject.hub(HubName("h1")),
        Subject.kme(KmeName("site-1")),
        Subject.sae(SaeId("vpn@site-1")),
        Subject.link(LinkId(bytes(8))),
        Subject.batch(batch),
        Subject.key(key_id),
        Subject.group(GroupId(bytes(16))),
        Subject.request(RequestId(bytes(16))),
        Subject.kit(Digest(b"kit")),
    ]
    assert [subject.kind for subject in made] == list(SubjectKind)
    assert [subject.id for subject in made] == [
        *("r", "h1", "site-1", "vpn@site-1", "0" * 16, f"{'0' * 32}:7"),
        *(str(key_id), "0" * 32, "0" * 32, Digest(b"kit").hex),
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Subject.link(LinkId(KEY)),
        lambda: Subject.link(LinkId(KEY[:7])),
        lambda: Subject.group(GroupId(KEY)),
        lambda: Subject.request(KEY.hex()[:32]),
        lambda: Subject.batch(KEY),
        lambda: Subject.key(KEY),
        lambda: Subject.key(KEY.hex()),
        lambda: Subject.kme(KEY),
        lambda: Subject.kme(KmeName(KEY.hex().upper())),
        lambda: Subject.kme(KmeName(KEY.hex())),
        lambda: Subject(SubjectKind.KEY, KEY.hex()),
        lambda: Subject(SubjectKind.HUB, "a b"),
    ],
)
def test_subject_of_another_type_or_form_is_refused(make: Any) -> None:
    with pytest.raises(LocalBug):
        make()


def test_actor_has_a_name_where_its_kind_has_one() -> None:
    assert str(fields.SYSTEM) == "system"
    assert str(Actor(ActorKind.OPERATOR, "alice")) == "operator:alice"
    for kind, name in ((ActorKind.NETWORK, "x"), (ActorKind.KME, ""), (ActorKind.KME, "A")):
        with pytest.raises(LocalBug):
            Actor(kind, name)
