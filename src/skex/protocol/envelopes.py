"""Seals and opens the envelopes of peer messages (specification, section "Peer messages").

Pure functions over a root. The 32 random bytes of an envelope are drawn by the shell when it sends,
not when a machine decides to: bytes that waited in memory would be used twice by a machine image
that is resumed twice, and with them the key of an AEAD that knows no nonce.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from skex.base.ids import BatchId, HubName, KmeName, RealmName
from skex.base.secret import Secret
from skex.crypto import aead
from skex.crypto.kdf import peer_message_key
from skex.protocol.traffic import SendToHub
from skex.wire import messages
from skex.wire.codec import encode
from skex.wire.peer import Envelope, PeerDirection


@dataclass(frozen=True, slots=True)
class Channel:
    """One way of one root: what the key of each message is bound to, besides its random bytes.

    ``sender`` and ``receiver`` are those of the batch that made the root.
    """

    realm: RealmName
    sender: KmeName
    receiver: KmeName
    root: BatchId
    direction: PeerDirection

    def to_bytes(self) -> bytes:
        """The context of the key derivation: one deterministic-CBOR array."""
        return encode([self.realm, self.sender, self.receiver, self.root.to_bytes(), int(self.direction)])

    def _associated(self, random: bytes) -> bytes:
        return encode([self.root.to_bytes(), int(self.direction), random])

    def seal(self, root: Secret, random: bytes, plaintext: bytes) -> Envelope:
        """Seal one message. ``random`` is 32 fresh bytes. Raises ``LocalBug`` (bug-argument)."""
        key = peer_message_key(root.expose(), random, self.to_bytes())
        sealed = aead.seal(key, plaintext, self._associated(random))
        return Envelope(self.root, self.direction, random, sealed)

    def open(self, root: Secret, envelope: Envelope) -> bytes:
        """The plaintext. Raises ``PeerFault`` (peer-message-invalid) if the envelope is not of this
        channel and root, or was changed.
        """
        key = peer_message_key(root.expose(), envelope.random, self.to_bytes())
        return aead.open_(key, envelope.sealed, self._associated(envelope.random))


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A peer message that is to be sealed and sent; answers come back with ``token``.

    It keeps a copy of the root, because the root may be dropped before the shell comes to send.
    """

    hub: HubName
    peer: KmeName
    channel: Channel
    root: Secret
    plaintext: bytes = field(repr=False)
    token: Hashable

    def seal(self, random: bytes) -> SendToHub:
        """What to send, with 32 bytes from the operating system's generator. Works once."""
        envelope = self.channel.seal(self.root, random, self.plaintext)
        self.root.wipe()
        return SendToHub(self.hub, messages.Peer(self.peer, envelope.to_bytes()), self.token)
