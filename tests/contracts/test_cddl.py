"""The CDDL of the specification against the production code: it describes what is really sent.

The validator is another reading of RFC 8610 than ours, with two faults that are worked around here:
it looks for a regular expression anywhere in a text, where the RFC means the whole text, so the
expressions are anchored before it sees them; and it loses its way in choices between arrays, so each
alternative of such a choice is tried by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycddl import Schema, ValidationError  # type: ignore[import-untyped]  # a compiled module without stubs

from skex.base import limits
from skex.base.ids import BatchId, Direction
from skex.crypto.kdf import Label
from skex.wire import messages, peer
from skex.wire.claim import Claim
from skex.wire.codec import Value, encode
from skex.wire.context import CompactContext, Context
from skex.wire.peer import Envelope, PeerDirection
from skex.wire.realm import Realm
from tests import strategies
from tests.unit.wire.support import (
    LINK_SAMPLES,
    PEER_SAMPLES,
    REALM_SAMPLE,
    Sample,
    element,
    paths,
    raw,
    replaced,
)

CDDL: Final = (Path(__file__).parents[2] / "docs" / "spec" / "skex.cddl").read_text()
RULES: Final = tuple(re.findall(r"^([a-z0-9-]+) =", CDDL, re.MULTILINE))
MESSAGES: Final = {Direction.TO_HUB: "to-hub-message", Direction.TO_KME: "to-kme-message"}
PEER_MESSAGES: Final = {
    PeerDirection.FROM_SENDER: "from-sender-message",
    PeerDirection.FROM_RECEIVER: "from-receiver-message",
}


def _alternatives(rule: str) -> Iterator[str]:
    """The rules that a choice between rules stands for, or the rule itself."""
    choice = re.search(rf"^{rule} = ([a-z-]+(?: / [a-z-]+)+)$", CDDL, re.MULTILINE)
    if choice is None:
        yield rule
    else:
        for name in choice[1].split(" / "):
            yield from _alternatives(name)


@cache
def _schemas(rule: str) -> tuple[Schema, ...]:
    anchored = re.sub(r'\.regexp "([^"\n]*)"', r'.regexp "^(?:\1)$"', CDDL)
    return tuple(Schema(f"start = {name}\n{anchored}") for name in _alternatives(rule))


def _valid(rule: str, data: bytes) -> bool:
    for schema in _schemas(rule):
        try:
            schema.validate_cbor(data)
        except ValidationError:
            continue
        return True
    return False


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_defined_once_and_can_be_compiled(rule: str) -> None:
    assert RULES.count(rule) == 1
    assert _schemas(rule)


@pytest.mark.parametrize("direction", Direction)
@given(data=st.data())
def test_link_messages_are_as_described(direction: Direction, data: st.DataObject) -> None:
    message = data.draw(strategies.link_messages(direction))
    assert _valid(MESSAGES[direction], messages.encode_message(message))


@pytest.mark.parametrize("direction", PeerDirection)
@given(data=st.data())
def test_peer_messages_are_as_described(direction: PeerDirection, data: st.DataObject) -> None:
    message = data.draw(strategies.peer_messages(direction))
    assert _valid(PEER_MESSAGES[direction], peer.encode_peer_message(message))


@given(envelope=strategies.envelopes)
def test_envelopes_are_as_described(envelope: Envelope) -> None:
    assert _valid("envelope", envelope.to_bytes())


@given(claim=strategies.claims, compact=strategies.compact_contexts(), context=strategies.contexts())
def test_claims_and_contexts_are_as_described(
    claim: Claim, compact: CompactContext, context: Context
) -> None:
    assert _valid("claim", encode(claim.to_value()))
    assert _valid("compact-context", encode(compact.to_value()))
    assert _valid("expanded-context", context.to_bytes())


@given(realm=strategies.realms())
def test_realm_files_are_as_described(realm: Realm) -> None:
    assert _valid("realm-contents", realm.to_bytes())


@given(
    context=strategies.contexts(),
    group=strategies.group_ids,
    index=st.integers(0, limits.BATCH_KEYS - 1),
    direction=st.sampled_from(PeerDirection),
    random=strategies.blobs(peer.RANDOM_BYTES),
)
def test_inputs_of_key_ids_and_of_sealing_are_as_described(
    context: Context, group: bytes, index: int, direction: PeerDirection, random: bytes
) -> None:
    parties: list[Value] = [context.realm, context.sender]
    batch: BatchId = context.batch
    named: dict[str, list[Value]] = {
        "key-id-input": [Label.KEY_ID.decode(), *parties, context.receiver, batch.to_bytes(), index],
        "group-key-id-input": [Label.GROUP_KEY_ID.decode(), *parties, group, index],
        "envelope-key-context": [*parties, context.receiver, batch.to_bytes(), int(direction)],
        "envelope-associated": [batch.to_bytes(), int(direction), random],
    }
    for rule, value in named.items():
        assert _valid(rule, encode(value))


# ── what it must not describe ───────────────────────────────────────────────────────────────────
RULES_OF_OTHERS: Final = {"Envelope": "envelope", "Realm": "realm-contents"}


def _rule(one: Sample) -> str:
    if one.name in RULES_OF_OTHERS:
        return RULES_OF_OTHERS[one.name]
    way = one.name.rpartition(" ")[2]
    return MESSAGES[Direction[way]] if way in Direction.__members__ else PEER_MESSAGES[PeerDirection[way]]


ALL_SAMPLES: Final = (*LINK_SAMPLES, *PEER_SAMPLES, REALM_SAMPLE)


@pytest.mark.parametrize("one", ALL_SAMPLES, ids=lambda one: one.name)
def test_sample_is_described_and_its_top_level_spoiled_is_not(one: Sample) -> None:
    rule = _rule(one)
    assert _valid(rule, raw(one.value))
    spoiled: list[Any] = [[*one.value, 0], one.value[:-1], [99, *one.value[1:]], [], 0]
    spoiled += [replaced(one.value, (index,), 1.5) for index in range(len(one.value))]
    for value in spoiled:
        assert not _valid(rule, raw(value)), value


@pytest.mark.parametrize("one", ALL_SAMPLES, ids=lambda one: one.name)
def test_byte_string_of_another_length_is_not_described(one: Sample) -> None:
    fixed = {16, 24, 32}
    for path in paths(one.value):
        old = element(one.value, path)
        if len(path) == 1 and isinstance(old, bytes) and len(old) in fixed:
            for other in (old[:-1], old + b"\x00"):
                assert not _valid(_rule(one), raw(replaced(one.value, path, other)))


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("name", "A"),
        ("name", "a-"),
        ("name", "a" * 64),
        ("sae-id", "a"),
        ("sae-id", "a@b@c"),
        ("coordinate", 0),
        ("coordinate", 256),
        ("lifetime", 0),
        ("claim", [b"", 2, 0]),
        ("claim", [b"", 0, 3]),
        ("claim", [bytes(65), 0, 0]),
        ("batch-purpose", 2),
        ("randomness", 2),
        ("key-range", [bytes(24), 1024, 1]),
        ("key-range", [bytes(24), 0, 0]),
        ("address", "a"),
        ("address", "a:0"),
        ("address", "2001:db8::1:7300"),
        ("attribute", ""),
        ("attribute", "a" * 65),
        ("hub-status", 2),
        ("known-refusal", max(messages.Refusal) + 1),
        ("known-assign-refusal", max(peer.AssignRefusal) + 1),
        ("known-revoke-reason", max(peer.RevokeReason) + 1),
        ("realm-file", [12, bytes(limits.REALM_FILE_BYTES + 1)]),
        ("peer", [7, "a", bytes(limits.PEER_ENVELOPE_BYTES + 1)]),
        ("envelope", [bytes(24), 0, bytes(32), bytes(limits.PEER_MESSAGE_BYTES + peer.SEAL_BYTES + 1)]),
        ("share-bytes", bytes(limits.BATCH_SECRET_BYTES + 1)),
        ("batch-ids", [bytes(24)] * (limits.PEER_RANGES + 1)),
        ("lifetime", limits.LIFETIME_SECONDS_MAX + 1),
        ("key-range", [bytes(24), 0, limits.BATCH_KEYS + 1]),
    ],
)
def test_value_outside_a_bound_is_not_described(rule: str, value: Value) -> None:
    assert not _valid(rule, encode(value))


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("address", "[2001:db8::1]:7300"),
        ("address", "192.0.2.1:65535"),
        ("name", "a" * 63),
        ("sae-id", "vpn@berlin-1"),
        *(("known-refusal", int(refusal)) for refusal in messages.Refusal),
        *(("known-assign-refusal", int(refusal)) for refusal in peer.AssignRefusal),
        *(("known-revoke-reason", int(reason)) for reason in peer.RevokeReason),
        ("realm-file", [12, bytes(limits.REALM_FILE_BYTES)]),
        ("peer", [7, "a", bytes(limits.PEER_ENVELOPE_BYTES)]),
        ("envelope", [bytes(24), 0, bytes(32), bytes(limits.PEER_MESSAGE_BYTES + peer.SEAL_BYTES)]),
        ("share-bytes", bytes(limits.BATCH_SECRET_BYTES)),
        ("batch-ids", [bytes(24)] * limits.PEER_RANGES),
        ("lifetime", limits.LIFETIME_SECONDS_MAX),
        ("key-range", [bytes(24), limits.BATCH_KEYS - 1, limits.BATCH_KEYS]),
    ],
)
def test_value_at_a_bound_is_described(rule: str, value: Value) -> None:
    assert _valid(rule, encode(value))
