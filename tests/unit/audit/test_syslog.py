"""Messages of RFC 5424: read with a parser that was written from its grammar, and nothing is lost."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skex.audit import events
from skex.audit.chain import GENESIS, Record
from skex.audit.events import Event, Verdict, all_kinds, kind_named
from skex.audit.fields import Actor, ActorKind, Subject
from skex.audit.syslog import ENTERPRISE, message, severity
from skex.base import codes
from skex.base.ids import HubName, KmeName
from tests.unit.audit.support import ASKING, IMPORTANT, MINOR, Clock

OWNER = "kme:north"

# ── the grammar of section 6, as it stands there ────────────────────────────────────────────────
PRINTUSASCII: Final = r"[\x21-\x7e]"
NAME: Final = r"[\x21\x23-\x3c\x3e-\x5c\x5e-\x7e]{1,32}"
"""SD-NAME: printable ASCII except ``=``, space, ``]`` and ``"``."""
HEADER: Final = re.compile(
    r"<(?P<pri>[0-9]{1,3})>(?P<version>[1-9][0-9]{0,2})"
    r" (?P<time>-|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2}))"
    rf" (?P<host>-|{PRINTUSASCII}{{1,255}}) (?P<app>-|{PRINTUSASCII}{{1,48}})"
    rf" (?P<process>-|{PRINTUSASCII}{{1,128}}) (?P<id>-|{PRINTUSASCII}{{1,32}}) "
)
PARAM: Final = re.compile(rf' (?P<name>{NAME})="(?P<value>(?:[^"\\\]]|\\["\\\]])*)"')
SD_ID: Final = re.compile(rf"\[(?P<id>{NAME})")


@dataclass(frozen=True)
class Message:
    """A message, taken apart."""

    facility: int
    severity: int
    fields: dict[str, str]
    sd_id: str
    params: list[tuple[str, str]]
    text: str


def parsed(line: str) -> Message:
    header = HEADER.match(line)
    assert header is not None, line
    fields = header.groupdict()
    assert int(fields["pri"]) <= 191
    at = header.end()
    element = SD_ID.match(line, at)
    assert element is not None, line
    at = element.end()
    params = []
    while (param := PARAM.match(line, at)) is not None:
        params.append((param["name"], re.sub(r'\\(["\\\]])', r"\1", param["value"])))
        at = param.end()
    assert line[at] == "]", line[at:]
    assert line[at + 1 : at + 2] in {"", " "}
    pri = int(fields["pri"])
    return Message(pri // 8, pri % 8, fields, element["id"], params, line[at + 2 :])


def record_of(event: Event) -> Record:
    return Record.of(event, Clock()(), "", GENESIS)


def test_message_says_all_that_the_record_says() -> None:
    event = Event(
        events.KEYS_DELIVERED,
        ASKING,
        (Subject.kme(KmeName("south")), Subject.hub(HubName("h1")), Subject.hub(HubName("h2"))),
        second=Actor(ActorKind.OPERATOR, "bob"),
        verdict=Verdict.ALLOWED,
        rule="sae.allow.vpn",
        details={"keys": 2, "purpose": 'a "quoted] \\ text', "others": ("x@south", "y@south")},
    )
    record = record_of(event)
    found = parsed(message(record, OWNER))
    assert (found.facility, found.severity, found.sd_id) == (13, 5, f"skex@{ENTERPRISE}")
    assert found.fields["time"] == record.time
    assert (found.fields["host"], found.fields["app"]) == ("north", "skex-kme")
    assert (found.fields["process"], found.fields["id"]) == ("-", "keys-delivered")
    assert found.text == "Keys were handed to an SAE."
    assert found.params == [
        ("sequence", "1"),
        ("boot", record.boot),
        ("clockMs", str(record.clock)),
        ("actor", "sae:vpn@site-1"),
        ("second", "operator:bob"),
        ("verdict", "allowed"),
        ("rule", "sae.allow.vpn"),
        ("subject.kme", "south"),
        ("subject.hub", "h1"),
        ("subject.hub", "h2"),
        ("detail.keys", "2"),
        ("detail.purpose", 'a "quoted] \\ text'),
        ("detail.others", "x@south"),
        ("detail.others", "y@south"),
        ("previous", GENESIS.digest),
    ]


def test_every_kind_of_event_makes_a_message_of_the_grammar() -> None:
    for kind in all_kinds():
        found = parsed(message(record_of(Event(kind)), "hub:h1", 99))
        assert found.fields["id"] == kind.name
        assert found.fields["app"] == "skex-hub"
        assert found.sd_id == "skex@99"
        assert not [name for name in kind.details if len(f"detail.{name}") > 32]


PRINTABLE: Final = st.text().filter(str.isprintable)
"""What a record can hold at all; those that skex writes hold ASCII."""


@given(PRINTABLE, PRINTABLE, st.from_regex(r"[a-z0-9][a-z0-9_-]*", fullmatch=True))
def test_no_value_breaks_out_of_its_place(value: str, event: str, name: str) -> None:
    record = replace(record_of(MINOR), event=event, cause=value, details={name: value})
    found = parsed(message(record, OWNER))
    assert dict(found.params).get("cause", "") == value
    assert (f"detail.{name}"[:32], value) in found.params
    assert found.fields["id"] in {event, "-"}
    kind = kind_named(event)
    assert found.text.removeprefix("\ufeff") == (event if kind is None else kind.sentence)


def test_seal_and_flags_are_told() -> None:
    record = replace(record_of(IMPORTANT), epoch=7, seal="a" * 128, details={"forward": True})
    params = dict(parsed(message(record, OWNER)).params)
    assert (params["epoch"], params["seal"], params["detail.forward"]) == ("7", "a" * 128, "true")


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        (Event(events.ROLLBACK_NOTICED), 3),
        (Event(events.KEYS_REFUSED, verdict=Verdict.REFUSED), 4),
        (Event(events.BATCH_FAILED, cause=codes.NOT_ENOUGH_HUBS), 4),
        (IMPORTANT, 5),
        (MINOR, 6),
    ],
)
def test_severity_follows_from_what_happened(event: Event, wanted: int) -> None:
    assert severity(record_of(event)) == wanted


def test_kind_of_a_later_version_is_told_by_its_name() -> None:
    found = parsed(message(replace(record_of(MINOR), event="something-new"), OWNER))
    assert (found.text, found.severity) == ("something-new", 5)
