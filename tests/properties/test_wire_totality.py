"""Whatever bytes arrive: a peer's fault or a refusal, or a value that encodes to the same bytes."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fuzz import targets
from skex.base.ids import Direction
from skex.wire import codec, messages, peer, preface
from skex.wire.peer import PeerDirection
from tests import strategies

VALID: dict[str, SearchStrategy[bytes]] = {
    "value": strategies.cbor_values.map(codec.encode),
    "message to the hub": strategies.link_messages(Direction.TO_HUB).map(messages.encode_message),
    "message to the KME": strategies.link_messages(Direction.TO_KME).map(messages.encode_message),
    "peer message from the sender": strategies.peer_messages(PeerDirection.FROM_SENDER).map(
        peer.encode_peer_message
    ),
    "peer message from the receiver": strategies.peer_messages(PeerDirection.FROM_RECEIVER).map(
        peer.encode_peer_message
    ),
    "envelope": strategies.envelopes.map(lambda envelope: envelope.to_bytes()),
    "context": strategies.compact_contexts().map(lambda context: codec.encode(context.to_value())),
    "claim": strategies.claims.map(lambda claim: codec.encode(claim.to_value())),
    "realm": strategies.realms().map(lambda realm: realm.to_bytes()),
    "kit": strategies.kit_headers().map(lambda header: header.to_bytes()),
    "whole kit": strategies.kits(),
    "backup header": strategies.backup_headers().map(lambda header: header.to_bytes()),
    "sealed master key": strategies.sealed_masters().map(lambda master: master.to_bytes()),
    "backup manifest": strategies.manifests().map(lambda manifest: manifest.to_bytes()),
    "whole backup": strategies.backups(targets.STRETCHED),
    "record header": strategies.record_headers.map(lambda header: header.pack()),
}
for number in range(1, 6):
    proofs = strategies.blobs(0 if number == 1 else preface.PROOF_BYTES)
    whole = st.builds(
        lambda frame, proof: preface.unproved_bytes(frame) + proof, strategies.frames(number), proofs
    )
    VALID[f"frame {number}"] = whole
    VALID[f"header of frame {number}"] = whole.map(lambda data: data[: preface.FRAME_HEADER_BYTES])


def test_every_target_has_a_strategy() -> None:
    assert set(VALID) == set(targets.WIRE)


@pytest.mark.parametrize("target", targets.WIRE)
@given(data=st.data())
def test_valid_bytes_are_accepted(target: str, data: st.DataObject) -> None:
    assert targets.accepts(target, data.draw(VALID[target]))


@pytest.mark.parametrize("target", targets.WIRE)
@given(data=st.binary(max_size=256))
def test_arbitrary_bytes_end_in_a_refusal_or_in_themselves(target: str, data: bytes) -> None:
    targets.accepts(target, data)


@pytest.mark.parametrize("target", targets.WIRE)
@given(data=st.data())
def test_spoiled_bytes_end_in_a_refusal_or_in_themselves(target: str, data: st.DataObject) -> None:
    targets.accepts(target, data.draw(strategies.spoiled(VALID[target])))


@pytest.mark.parametrize("target", targets.WIRE)
@given(data=st.data())
def test_bytes_meant_for_another_decoder_end_in_a_refusal_or_in_themselves(
    target: str, data: st.DataObject
) -> None:
    other = data.draw(st.sampled_from(sorted(targets.WIRE)))
    targets.accepts(target, data.draw(VALID[other]))


# ── well-formed CBOR that is not of the profile ─────────────────────────────────────────────────
_foreign_scalars: SearchStrategy[object] = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.none(),
    st.just(cbor2.undefined),
    st.integers(0, 19).map(cbor2.CBORSimpleValue),
    st.binary(max_size=40),
    st.text(max_size=20),
)
_foreign: SearchStrategy[object] = st.recursive(
    _foreign_scalars,
    lambda children: st.one_of(
        st.lists(children, max_size=4),
        st.dictionaries(st.one_of(st.integers(), st.text(max_size=4), st.booleans()), children, max_size=3),
        st.builds(cbor2.CBORTag, st.integers(0, 2**64 - 1) | st.integers(0, 300), children),
    ),
    max_leaves=10,
)


@pytest.mark.parametrize("target", [name for name in targets.WIRE if "frame" not in name])
@given(value=_foreign, kind=st.integers(0, 13))
def test_other_cbor_ends_in_a_refusal_or_in_itself(target: str, value: object, kind: int) -> None:
    targets.accepts(target, cbor2.dumps(value))
    targets.accepts(target, cbor2.dumps([kind, value]))
    targets.accepts(target, cbor2.dumps(value, canonical=True, value_sharing=True))
