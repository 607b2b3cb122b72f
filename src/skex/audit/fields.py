"""The types of what a record may hold, and nothing else fits.

Ids, names, numbers, words of an enumeration, digests that were computed here, and short texts. Bytes
never fit. A text that somebody composed carelessly is made harmless: whatever in it could be a key
written as hexadecimal or base64 is blacked out.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import BatchId, GroupId, HubName, KmeName, LinkId, RealmName, RequestId, SaeId

Detail: TypeAlias = int | bool | str | tuple[str, ...]
"""How a detail stands in a record."""

COUNT_MAX: Final = 2**53 - 1
"""Every reader of JSON holds it exactly."""
_NAME: Final = re.compile(
    r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?(?:@[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?)?"
)
_WORD: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PERHAPS_SECRET: Final = re.compile(r"[A-Za-z0-9+/=_-]{22,}")
"""16 bytes in base64 without its padding; a name of that length belongs into a field of its own."""
_BLACKED_OUT: Final = "[blacked out]"


def wrong(what: str) -> LocalBug:
    """The defect of putting something into a record that it cannot hold. Never quotes it."""
    return LocalBug(codes.BAD_ARGUMENT, f"not for an audit record: {what}")


def harmless(text: str) -> str:
    """``text`` as it may stand in a record: short, printable ASCII, without anything like a key."""
    printable = "".join(one if " " <= one <= "~" else "?" for one in text)
    return _PERHAPS_SECRET.sub(_BLACKED_OUT, printable)[: limits.AUDIT_TEXT_CHARACTERS]


def checked_name(name: object) -> str:
    """A name of a realm, hub or KME, or an SAE id. Raises ``LocalBug`` (bug-argument)."""
    if type(name) is not str or not _NAME.fullmatch(name):
        raise wrong("a name of another form")
    return name


# ── who and what ────────────────────────────────────────────────────────────────────────────────
class ActorKind(Enum):
    """Who did something."""

    SYSTEM = "system"
    OPERATOR = "operator"
    REALM = "realm"
    HUB = "hub"
    KME = "kme"
    SAE = "sae"
    NETWORK = "network"
    """Somebody who proved nothing."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something, by kind and name; the system and the network have no name."""

    kind: ActorKind
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind in {ActorKind.SYSTEM, ActorKind.NETWORK}:
            if self.name:
                raise wrong("a name where there is none")
        else:
            checked_name(self.name)

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.name}" if self.name else self.kind.value


SYSTEM: Final = Actor(ActorKind.SYSTEM)
NETWORK: Final = Actor(ActorKind.NETWORK)


class SubjectKind(Enum):
    """What something happened to."""

    REALM = "realm"
    HUB = "hub"
    KME = "kme"
    SAE = "sae"
    LINK = "link"
    BATCH = "batch"
    KEY = "key"
    GROUP = "group"
    REQUEST = "request"
    KIT = "kit"


_ID_FORMS: Final = {
    SubjectKind.LINK: re.compile("[0-9a-f]{16}"),
    SubjectKind.BATCH: re.compile("[0-9a-f]{32}:[0-9]{1,20}"),
    SubjectKind.KEY: re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    SubjectKind.GROUP: re.compile("[0-9a-f]{32}"),
    SubjectKind.REQUEST: re.compile("[0-9a-f]{32}"),
    SubjectKind.KIT: re.compile("[0-9a-f]{128}"),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """One id; the functions below make it of the typed one. A wrong form is a ``LocalBug``."""

    kind: SubjectKind
    id: str

    def __post_init__(self) -> None:
        form = _ID_FORMS.get(self.kind, _NAME)
        if type(self.id) is not str or not form.fullmatch(self.id):
            raise wrong("an id of another form")

    @classmethod
    def realm(cls, name: RealmName) -> Subject:
        """A realm."""
        return cls(SubjectKind.REALM, name)

    @classmethod
    def hub(cls, name: HubName) -> Subject:
        """A hub."""
        return cls(SubjectKind.HUB, name)

    @classmethod
    def kme(cls, name: KmeName) -> Subject:
        """A KME."""
        return cls(SubjectKind.KME, name)

    @classmethod
    def sae(cls, name: SaeId) -> Subject:
        """An SAE."""
        return cls(SubjectKind.SAE, name)

    @classmethod
    def link(cls, link: LinkId) -> Subject:
        """A link, by its pseudonym of 8 bytes."""
        return cls(SubjectKind.LINK, _hex(link, 8))

    @classmethod
    def batch(cls, batch: BatchId) -> Subject:
        """A batch."""
        if type(batch) is not BatchId:
            raise wrong("a batch id of another type")
        return cls(SubjectKind.BATCH, str(batch))

    @classmethod
    def key(cls, key_id: uuid.UUID) -> Subject:
        """A key, by its id."""
        if type(key_id) is not uuid.UUID:
            raise wrong("a key id of another type")
        return cls(SubjectKind.KEY, str(key_id))

    @classmethod
    def group(cls, group: GroupId) -> Subject:
        """A group key, by its id of 16 bytes."""
        return cls(SubjectKind.GROUP, _hex(group, 16))

    @classmethod
    def request(cls, request: RequestId) -> Subject:
        """A peer message, by its id of 16 bytes."""
        return cls(SubjectKind.REQUEST, _hex(request, 16))

    @classmethod
    def kit(cls, digest: Digest) -> Subject:
        """A kit, by the digest of its bytes."""
        return cls(SubjectKind.KIT, digest.hex)


def _hex(data: object, length: int) -> str:
    if type(data) is not bytes or len(data) != length:
        raise wrong("an id of another type or length")
    return data.hex()


@dataclass(frozen=True, slots=True, init=False)
class Digest:
    """A SHA-512 digest. It is computed here, so that no other bytes can be passed off as one."""

    hex: str

    def __init__(self, data: bytes) -> None:
        object.__setattr__(self, "hex", hashlib.sha512(data).hexdigest())


# ── details ─────────────────────────────────────────────────────────────────────────────────────
class DetailKind(Enum):
    """What a detail of an event may be."""

    COUNT = "an integer of at least zero"
    FLAG = "true or false"
    WORD = "a word of an enumeration"
    TEXT = "a short text"
    NAMES = "names, or SAE ids"
    DIGEST = "a digest"

    def read(self, value: object) -> Detail:
        """The detail as it stands in a record. Raises ``LocalBug`` (bug-argument)."""
        return _READERS[self](value)


def _count(value: Any) -> Detail:
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        raise wrong("a count that is none")
    return value


def _flag(value: Any) -> Detail:
    if type(value) is not bool:
        raise wrong("a flag that is none")
    return value


def _word(value: Any) -> Detail:
    """Words come from a fixed set, which nobody can choose at run time."""
    word = value.value if isinstance(value, Enum) else None
    if type(word) is not str or len(word) > limits.NAME_CHARACTERS or not _WORD.fullmatch(word):
        raise wrong("a word that is none of an enumeration")
    return word


def _text(value: Any) -> Detail:
    if type(value) is not str:
        raise wrong("a text that is none")
    return harmless(value)


def _names(value: Any) -> Detail:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > limits.AUDIT_SUBJECTS:
        raise wrong("names that are none, or too many")
    return tuple(checked_name(name) for name in value)


def _digest(value: Any) -> Detail:
    if type(value) is not Digest:
        raise wrong("a digest that was not computed here")
    return value.hex


_READERS: Final = {
    DetailKind.COUNT: _count,
    DetailKind.FLAG: _flag,
    DetailKind.WORD: _word,
    DetailKind.TEXT: _text,
    DetailKind.NAMES: _names,
    DetailKind.DIGEST: _digest,
}
