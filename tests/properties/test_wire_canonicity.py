"""Whatever is encoded reads back as itself, and whatever decodes encodes to the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import targets
from skex.base.ids import BatchId, Direction
from skex.wire import codec, messages, peer, preface
from skex.wire.claim import Claim
from skex.wire.codec import Fields
from skex.wire.context import CompactContext, Context
from skex.wire.peer import Envelope, PeerDirection
from skex.wire.realm import Realm
from skex.wire.record import RecordHeader
from tests import strategies

LIMIT = 65_512


def _read(read: Callable[[Fields], Any], value: codec.Value) -> Any:
    return read(Fields(codec.decode(codec.encode(value), LIMIT)))


@given(value=strategies.cbor_values)
def test_value_of_the_profile_is_read_back(value: codec.Value) -> None:
    data = codec.encode(value)
    assert codec.decode(data, len(data)) == value
    assert targets.accepts("value", data)


@given(left=strategies.cbor_values, right=strategies.cbor_values)
def test_different_values_have_different_bytes(left: codec.Value, right: codec.Value) -> None:
    assert (codec.encode(left) == codec.encode(right)) == (left == right)


@pytest.mark.parametrize("direction", Direction)
@given(data=st.data())
def test_link_message_is_read_back_at_the_other_end(direction: Direction, data: st.DataObject) -> None:
    message = data.draw(strategies.link_messages(direction))
    body = messages.encode_message(message)
    assert messages.decode_message(body, direction) == message
    assert targets.accepts(f"message to the {'hub' if direction is Direction.TO_HUB else 'KME'}", body)


@pytest.mark.parametrize("direction", PeerDirection)
@given(data=st.data())
def test_peer_message_is_read_back_at_the_other_end(direction: PeerDirection, data: st.DataObject) -> None:
    message = data.draw(strategies.peer_messages(direction))
    plaintext = peer.encode_peer_message(message)
    assert peer.decode_peer_message(plaintext, direction) == message


@given(envelope=strategies.envelopes)
def test_envelope_is_read_back(envelope: Envelope) -> None:
    assert Envelope.from_bytes(envelope.to_bytes()) == envelope


@given(context=strategies.compact_contexts())
def test_context_is_read_back(context: CompactContext) -> None:
    assert _read(CompactContext.from_fields, context.to_value()) == context


@given(claim=strategies.claims, other=strategies.claims)
def test_claim_is_read_back_and_joined_in_any_order(claim: Claim, other: Claim) -> None:
    assert _read(Claim.from_fields, claim.to_value()) == claim
    both = claim.joined(other)
    assert both == other.joined(claim) == both.joined(claim)
    assert _read(Claim.from_fields, both.to_value()) == both
    for threshold in range(1, 10):
        assert both.margin(threshold) <= min(claim.margin(threshold), other.margin(threshold))


@given(left=strategies.contexts(), right=strategies.contexts())
def test_different_contexts_have_different_bytes(left: Context, right: Context) -> None:
    assert (left.to_bytes() == right.to_bytes()) == (left == right)


@given(realm=strategies.realms())
def test_realm_is_read_back(realm: Realm) -> None:
    assert Realm.from_bytes(realm.to_bytes()) == realm
    for hub in realm.active_hubs:
        assert realm.hub_at(hub.coordinate) == realm.hub_named(hub.name) == hub


@pytest.mark.parametrize("number", range(1, 6))
@given(data=st.data())
def test_frame_is_read_back_with_its_proof(number: int, data: st.DataObject) -> None:
    frame: Any = data.draw(strategies.frames(number))
    proof = data.draw(strategies.blobs(0 if number == 1 else preface.PROOF_BYTES))
    whole = preface.unproved_bytes(frame) + proof
    assert len(whole) == preface.frame_bytes(number)
    assert preface.parse_frame(whole, type(frame)) == (frame, proof)


@given(header=strategies.record_headers)
def test_record_header_is_read_back(header: RecordHeader) -> None:
    assert RecordHeader.parse(header.pack()) == header


@given(left=strategies.batch_ids, right=strategies.batch_ids)
def test_order_of_batch_ids_is_that_of_their_bytes(left: BatchId, right: BatchId) -> None:
    # The order on the wire is by bytes; sets are sorted here by value.
    assert (left < right) == (left.to_bytes() < right.to_bytes())
    assert BatchId.from_bytes(left.to_bytes()) == left
