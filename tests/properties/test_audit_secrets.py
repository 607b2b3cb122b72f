"""No kind of event has room for a key: whatever is put into its fields, no spelling of a secret comes out.

Names are left out: 32 hexadecimal digits are a lawful name of a KME, and types keep others apart from it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skex.audit.chain import GENESIS, Record
from skex.audit.events import Event, Kind, all_kinds
from skex.audit.fields import DetailKind, Digest
from skex.audit.syslog import message
from skex.base.errors import LocalBug
from skex.base.secret import Secret
from tests.unit.audit.support import Clock

SECRETS = st.binary(min_size=16, max_size=64).filter(lambda data: len(set(data)) > 8)


def spellings(secret: bytes) -> list[str]:
    """As careless code might write it into a text."""
    url = base64.urlsafe_b64encode(secret).decode()
    return [secret.hex(), secret.hex().upper(), base64.b64encode(secret).decode(), url, url.rstrip("=")]


def tries(kind: DetailKind, secret: bytes, text: str) -> Iterator[Any]:
    """What careless code might put into a detail of this kind."""
    yield from (secret, bytearray(secret), Secret(secret), int.from_bytes(secret, "big"), Secret, None)
    yield from (secret.decode("latin-1"), {"key": text}, [secret], (Secret(secret),))
    if kind is not DetailKind.NAMES:
        yield from (text, (text,), [text], f"the key is {text}, and that is {secret!r}")
    if kind is DetailKind.DIGEST:
        yield Digest(secret)


def accepted(kind: Kind, secret: bytes) -> Iterator[Event]:
    """Every event that is let through."""
    for name, detail in kind.details.items():
        for text in spellings(secret):
            for value in tries(detail, secret, text):
                try:
                    yield Event(kind, details={name: value})
                except LocalBug:
                    continue


@given(st.sampled_from(all_kinds()), SECRETS)
def test_no_field_of_any_kind_lets_a_secret_through(kind: Kind, secret: bytes) -> None:
    for event in accepted(kind, secret):
        record = Record.of(event, Clock()(), "", GENESIS)
        for written in (record.to_line().decode(), message(record, "kme:north")):
            assert not [one for one in spellings(secret) if one in written]
