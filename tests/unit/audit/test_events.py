"""The table of kinds covers what must be recorded, and one event holds only what its kind names."""

from __future__ import annotations

import re
from typing import Any

import pytest

from skex.audit import events
from skex.audit.events import Area, Event, Kind, Verdict
from skex.audit.fields import Actor, ActorKind, DetailKind, Subject
from skex.base import codes, limits
from skex.base.errors import LocalBug
from skex.base.ids import HubName, KmeName
from tests.unit.audit.support import ASKING, VPN

# The events of consequence: every word of an area has at least one kind whose name carries it.
MINIMUM = {
    Area.KEYS: "generated established confirmed delivered refused expired revoked suspended destroyed "
    "exported imported wrapped unwrapped sent received rejected failed",
    Area.ENROLMENT: "requested generated approved exported entered refused imported proven activated frozen "
    "suspended revoked retired reenrolled replaced refilled destroyed",
    Area.PADS: "low floor exhausted jumped repeated forgery erased",
    Area.POLICY: "loaded rejected changed threshold added benched brought-back retired granted dual-control "
    "authorisation",
    Area.SYSTEM: "started stopped crash self-test randomness clock backup restored master-key migrated "
    "disk-full overload",
}


@pytest.mark.parametrize(("area", "words"), MINIMUM.items())
def test_every_event_of_consequence_has_a_kind(area: Area, words: str) -> None:
    names = " ".join(kind.name for kind in events.all_kinds() if kind.area is area)
    assert [word for word in words.split() if word not in names] == []


@pytest.mark.parametrize("kind", events.all_kinds(), ids=lambda kind: kind.name)
def test_kind_has_a_name_and_a_sentence_and_can_hold_no_position(kind: Kind) -> None:
    assert re.fullmatch(r"[a-z]+(?:-[a-z]+)+", kind.name)
    assert re.fullmatch(r"[A-Z][^\n]*\.", kind.sentence)
    assert events.kind_named(kind.name) is kind
    for name in kind.details:
        assert re.fullmatch(r"[a-z]+(?:_[a-z]+)*", name)
        assert not re.search("position|offset|mark|index|grant|passphrase|secret|seed", name)


def test_what_others_can_repeat_at_will_is_sampled_and_never_syncs_the_disk() -> None:
    sampled = {kind.name for kind in events.all_kinds() if kind.sampled}
    assert {"forgery-attempted", "record-repeated", "share-rejected", "keys-refused"} <= sampled
    assert not [kind.name for kind in events.all_kinds() if kind.sampled and kind.important]
    assert events.kind_named("keys-delivered") is events.KEYS_DELIVERED
    assert events.KEYS_DELIVERED.important
    assert events.kind_named("nothing") is None


def test_second_definition_of_a_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="pad-low is defined twice"):
        events._kind(Area.PADS, "pad-low", "Again.")


def test_subjects_are_grouped_by_kind_and_named_once() -> None:
    event = Event(
        events.HUB_BLAMED,
        subjects=(
            Subject.hub(HubName("h2")),
            Subject.kme(KmeName("a")),
            Subject.hub(HubName("h1")),
            Subject.hub(HubName("h2")),
        ),
    )
    assert event.subject_ids() == {"hub": ("h2", "h1"), "kme": ("a",)}


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "keys-delivered"},
        {"actor": "sae:vpn@site-1"},
        {"subjects": ("vpn@site-1",)},
        {"subjects": (Subject.sae(VPN),) * (limits.AUDIT_SUBJECTS + 1)},
        {"second": "alice"},
        {"verdict": "allowed"},
        {"cause": "busy"},
        {"rule": b"default"},
        {"rule": "a rule with spaces"},
        {"rule": "x" * 190},
        {"rule": "r\u00e9gle"},
        {"details": {"position": 7}},
        {"details": {"keys": "seven"}},
    ],
    ids="-".join,
)
def test_field_of_another_type_is_refused(fields: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"kind": events.KEYS_DELIVERED, "actor": ASKING, **fields}
    with pytest.raises(LocalBug) as error:
        Event(**whole)
    assert error.value.code is codes.BAD_ARGUMENT


def test_event_with_every_field_is_accepted() -> None:
    event = Event(
        events.KEYS_REFUSED,
        ASKING,
        (Subject.sae(VPN),),
        second=Actor(ActorKind.OPERATOR, "bob"),
        verdict=Verdict.REFUSED,
        rule="sae.deny#0123456789",
        cause=codes.NOT_AUTHORISED,
        details={"keys": 2, "purpose": "tls"},
    )
    assert event.read_details() == {"keys": 2, "purpose": "tls"}
    assert event.kind.details["keys"] is DetailKind.COUNT
