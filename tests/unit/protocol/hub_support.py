"""A hub between a few KMEs: a policy that a test sets, and pads as full as it says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from skex.base.ids import BatchId, Coordinate, Incarnation, KmeName
from skex.protocol.hub import HubEffects, HubEvent, HubRelay, Stream
from skex.protocol.quota import Buckets, Quota, Rate
from skex.protocol.relayed import RelayedBatches
from skex.protocol.traffic import FromKme, KmeUp, SendToKme
from skex.wire import messages
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose

ALICE: Final = KmeName("alice")
BOB: Final = KmeName("bob")
CAROL: Final = KmeName("carol")
MALLORY: Final = KmeName("mallory")
NOBODY: Final = KmeName("nobody")
REALM: Final = b"realm file of epoch 1"
PLENTY: Final = Quota(Rate(1e9, 1e9), Rate(1e9, 1e9))
CLAIM: Final = Claim((), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR)
MARKER: Final = b"share bytes that must not stay."


def incarnation_of(kme: KmeName, start: int = 0) -> Incarnation:
    return Incarnation(f"{kme}:{start}".encode().ljust(16, b"."))


def context(purpose: Purpose = Purpose.TRAFFIC, keys: int = 1) -> CompactContext:
    hubs = (Coordinate(1), Coordinate(2), Coordinate(3))
    return CompactContext(1, 2, hubs, keys, 32, purpose, 3600, None, CLAIM)


def share(receiver: KmeName, counter: int = 0, purpose: Purpose = Purpose.TRAFFIC) -> messages.Share:
    of = context(purpose)
    return messages.Share(receiver, counter, of, b"T" * 16, MARKER.ljust(of.secret_bytes, b"#"))


def confirmation(batch: BatchId) -> messages.Confirmation:
    return messages.Confirmation(batch, 1, incarnation_of(BOB), CLAIM, b"M" * 16)


class Policy:
    """Allows what it was told to allow."""

    def __init__(self) -> None:
        self.allowed: set[tuple[KmeName, KmeName]] = {(ALICE, BOB)}
        self.purposes = set(Purpose)
        self.pair: dict[Stream, Quota] = defaultdict(lambda: PLENTY)
        self.total: dict[Stream, Quota] = defaultdict(lambda: PLENTY)

    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> bool:
        return (sender, receiver) in self.allowed and purpose in self.purposes

    def pair_quota(self, sender: KmeName, receiver: KmeName, stream: Stream) -> Quota:
        return self.pair[stream]

    def total_quota(self, receiver: KmeName, stream: Stream) -> Quota:
        return self.total[stream]


class Links:
    """Pads that are as full as a test says."""

    def __init__(self) -> None:
        self.left: dict[KmeName, int] = defaultdict(lambda: 10**9)

    def remaining(self, kme: KmeName) -> int:
        return self.left[kme]


class Hub:
    """The relay with its ports, and requests with ordinals as a link would number them."""

    def __init__(self, *, relayed: RelayedBatches | None = None, buckets: Buckets | None = None) -> None:
        self.policy = Policy()
        self.links = Links()
        self.relay = HubRelay(self.policy, self.links, REALM, relayed=relayed, buckets=buckets)
        self.ordinal = 0
        self.now = 1000.0

    def connect(self, *kmes: KmeName, start: int = 0) -> None:
        for kme in kmes:
            self.handle(KmeUp(kme, incarnation_of(kme, start)))

    def handle(self, event: HubEvent) -> HubEffects:
        return self.relay.handle(event, self.now)

    def ask(self, kme: KmeName, message: messages.Message) -> HubEffects:
        self.ordinal += 1
        return self.handle(FromKme(kme, self.ordinal, message))


def refusals(effects: HubEffects) -> Iterator[tuple[KmeName, messages.Refusal]]:
    """Who was refused, and how."""
    for send in effects.send:
        if isinstance(send.message, messages.Refuse):
            yield send.kme, messages.Refusal(send.message.refusal)


def sent_to(effects: HubEffects, kme: KmeName) -> list[messages.Message]:
    return [send.message for send in effects.send if send.kme == kme]


def relayed_to(effects: HubEffects, kme: KmeName) -> SendToKme:
    (send,) = (send for send in effects.send if send.kme == kme)
    return send
