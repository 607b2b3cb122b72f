from __future__ import annotations

from dataclasses import replace

import pytest

from skex.base import codes
from skex.base.errors import LocalBug, PeerFault
from skex.base.ids import KmeName, RealmName
from skex.base.secret import Secret
from skex.crypto import aead
from skex.crypto.kdf import peer_message_key
from skex.protocol.envelopes import Channel, Outgoing
from skex.wire import messages
from skex.wire.codec import encode
from skex.wire.peer import Envelope, PeerDirection
from tests.unit.protocol.peer_support import ALICE, BOB, HUBS, REALM, batch_id

_ROOT = Secret(bytes(range(64)))
_RANDOM = bytes(range(32))
_CHANNEL = Channel(REALM, ALICE, BOB, batch_id(7), PeerDirection.FROM_SENDER)


def test_an_envelope_is_sealed_as_the_specification_says() -> None:
    envelope = _CHANNEL.seal(_ROOT, _RANDOM, b"text")
    context = encode([REALM, ALICE, BOB, batch_id(7).to_bytes(), 0])
    key = peer_message_key(_ROOT.expose(), _RANDOM, context)
    associated = encode([batch_id(7).to_bytes(), 0, _RANDOM])
    assert envelope == Envelope(
        batch_id(7), PeerDirection.FROM_SENDER, _RANDOM, aead.seal(key, b"text", associated)
    )
    assert _CHANNEL.open(_ROOT, envelope) == b"text"


@pytest.mark.parametrize(
    "other",
    [
        replace(_CHANNEL, realm=RealmName("elsewhere")),
        replace(_CHANNEL, sender=KmeName("mallory")),
        replace(_CHANNEL, receiver=KmeName("mallory")),
        replace(_CHANNEL, sender=BOB, receiver=ALICE),
        replace(_CHANNEL, root=batch_id(8)),
        replace(_CHANNEL, direction=PeerDirection.FROM_RECEIVER),
    ],
)
def test_what_a_hub_redirects_does_not_open(other: Channel) -> None:
    envelope = _CHANNEL.seal(_ROOT, _RANDOM, b"text")
    with pytest.raises(PeerFault) as caught:
        other.open(_ROOT, envelope)
    assert caught.value.code is codes.PEER_MESSAGE_INVALID


def test_what_a_hub_changes_does_not_open() -> None:
    envelope = _CHANNEL.seal(_ROOT, _RANDOM, b"text")
    for changed in (
        replace(envelope, random=_flipped(envelope.random)),
        replace(envelope, sealed=_flipped(envelope.sealed)),
    ):
        with pytest.raises(PeerFault) as caught:
            _CHANNEL.open(_ROOT, changed)
        assert caught.value.code is codes.PEER_MESSAGE_INVALID


def _flipped(data: bytes) -> bytes:
    return bytes((data[0] ^ 1,)) + data[1:]


def test_another_root_does_not_open() -> None:
    envelope = _CHANNEL.seal(_ROOT, _RANDOM, b"text")
    with pytest.raises(PeerFault):
        _CHANNEL.open(Secret(bytes(64)), envelope)


def test_an_outgoing_message_is_sealed_once() -> None:
    outgoing = Outgoing(HUBS[0], BOB, _CHANNEL, Secret(_ROOT.expose()), b"text", "token")
    sent = outgoing.seal(_RANDOM)
    assert (sent.hub, sent.token) == (HUBS[0], "token")
    assert isinstance(sent.message, messages.Peer)
    assert sent.message.receiver == BOB
    assert _CHANNEL.open(_ROOT, Envelope.from_bytes(sent.message.envelope)) == b"text"
    with pytest.raises(LocalBug) as caught:
        outgoing.seal(_RANDOM)
    assert caught.value.code is codes.SECRET_WIPED


def test_an_outgoing_message_shows_neither_root_nor_text() -> None:
    outgoing = Outgoing(HUBS[0], BOB, _CHANNEL, _ROOT, b"text of it", None)
    assert "text of it" not in repr(outgoing)
    assert _ROOT.expose().hex() not in repr(outgoing)
