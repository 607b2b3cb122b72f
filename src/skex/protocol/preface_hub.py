"""The hub's end of a preface: it listens, learns from frame 1 which link is meant, and answers an
unknown one exactly like a known one.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Final

from skex.base import codes
from skex.base.errors import PeerFault, SkexError
from skex.base.ids import Direction
from skex.pad.material import GrantMaterial
from skex.protocol.changes import PrefaceCounted
from skex.protocol.effects import Collector, Effects
from skex.protocol.session import (
    CAPABILITIES,
    HIGHEST_VERSION,
    LOWEST_VERSION,
    ClaimLink,
    Failed,
    GrantsFailed,
    GrantsTaken,
    LinkFound,
    LinkPersist,
    LinkProfile,
    LookUpLink,
    Owned,
    PrefaceDone,
    PrefaceEffects,
    PrefaceEvent,
    PrefaceNotice,
    Received,
    Session,
    TakeGrant,
    Transcript,
    check_stretch,
    first_stretch,
    peer_seen,
    raise_seen,
    rolled_back,
    wipe_unused,
)
from skex.protocol.states import StateMachine, Table
from skex.wire import preface as frames
from skex.wire.preface import Marks, Stretch


class HubState(Enum):
    """What the hub's end of a preface awaits."""

    AWAITING_HELLO = auto()
    LOOKING_UP = auto()
    AWAITING_KME_STATE = auto()
    AWAITING_OWNERSHIP = auto()
    TAKING_TO_HUB = auto()
    AWAITING_KME_GRANT = auto()
    TAKING_TO_KME = auto()
    DONE = auto()
    CLOSED = auto()


class HubStep(Enum):
    """What moves the hub's end."""

    HELLO_READ = auto()
    LINK_FOUND = auto()
    KME_PROVED = auto()
    LINK_OWNED = auto()
    GRANT_TAKEN = auto()
    GRANT_ACCEPTED = auto()
    FAULT = auto()


HUB_TABLE: Final[Table[HubState, HubStep]] = {
    (HubState.AWAITING_HELLO, HubStep.HELLO_READ): HubState.LOOKING_UP,
    (HubState.AWAITING_HELLO, HubStep.FAULT): HubState.CLOSED,
    (HubState.LOOKING_UP, HubStep.LINK_FOUND): HubState.AWAITING_KME_STATE,
    (HubState.LOOKING_UP, HubStep.FAULT): HubState.CLOSED,
    (HubState.AWAITING_KME_STATE, HubStep.KME_PROVED): HubState.AWAITING_OWNERSHIP,
    (HubState.AWAITING_KME_STATE, HubStep.FAULT): HubState.CLOSED,
    (HubState.AWAITING_OWNERSHIP, HubStep.LINK_OWNED): HubState.TAKING_TO_HUB,
    (HubState.AWAITING_OWNERSHIP, HubStep.FAULT): HubState.CLOSED,
    (HubState.TAKING_TO_HUB, HubStep.GRANT_TAKEN): HubState.AWAITING_KME_GRANT,
    (HubState.TAKING_TO_HUB, HubStep.FAULT): HubState.CLOSED,
    (HubState.AWAITING_KME_GRANT, HubStep.GRANT_ACCEPTED): HubState.TAKING_TO_KME,
    (HubState.AWAITING_KME_GRANT, HubStep.FAULT): HubState.CLOSED,
    (HubState.TAKING_TO_KME, HubStep.GRANT_TAKEN): HubState.DONE,
    (HubState.TAKING_TO_KME, HubStep.FAULT): HubState.CLOSED,
}


class HubPreface:
    """The end that listens; it learns from frame 1 which link the connection claims to be."""

    def __init__(self, nonce: bytes) -> None:
        self._nonce = nonce
        self._machine: StateMachine[HubState, HubStep] = StateMachine(HUB_TABLE, HubState.AWAITING_HELLO)
        self._transcript = Transcript()
        self._out: Collector[LinkPersist, bytes, PrefaceNotice] = Collector()
        self._version = HIGHEST_VERSION
        self._kme_nonce = b""
        self._profile: LinkProfile  # set when the link is found
        self._kme: frames.KmeState  # set when frame 3 is verified
        self._marks = Marks(0, 0, 0, 0, 0, 0)
        self._realm = (0, b"")
        self._to_hub: GrantMaterial  # set when the first grant is taken

    @property
    def state(self) -> HubState:
        """What this end awaits."""
        return self._machine.state

    def handle(self, event: PrefaceEvent, now: float) -> PrefaceEffects:
        """Advance by one event; a fault of any kind ends in one ``Failed``, with nothing sent."""
        del now
        if self.state in (HubState.DONE, HubState.CLOSED):
            wipe_unused(event)
            return Effects()
        try:
            self._dispatch(event)
        except SkexError as error:
            self._fail()
            return Effects(notify=(Failed(error),))
        return self._out.take()

    def _fail(self) -> None:
        if self.state in (HubState.AWAITING_KME_GRANT, HubState.TAKING_TO_KME):
            self._to_hub.wipe()
        self._machine.step(HubStep.FAULT)

    def _dispatch(self, event: PrefaceEvent) -> None:
        match event:
            case Received(data):
                self._transcript.feed(data)
                self._read()
            case LinkFound(profile) if self.state is HubState.LOOKING_UP:
                self._found(profile)
            case Owned() if self.state is HubState.AWAITING_OWNERSHIP:
                self._owned(event)
            case GrantsTaken((material,)) if self.state is HubState.TAKING_TO_HUB:
                self._took_to_hub(material)
            case GrantsTaken((material,)) if self.state is HubState.TAKING_TO_KME:
                self._took_to_kme(material)
            case GrantsFailed(error):
                raise error
            case _:
                raise PeerFault(codes.CONNECTION_CLOSED, self.state.name)

    def _read(self) -> None:
        if self.state is HubState.AWAITING_HELLO:
            frame = self._transcript.next_frame(frames.Hello.NUMBER)
            if frame is not None:
                self._hello(frame)
        elif self.state is HubState.AWAITING_KME_STATE:
            frame = self._transcript.next_frame(frames.KmeState.NUMBER)
            if frame is not None:
                self._kme_proved(frame)
        elif self.state is HubState.AWAITING_KME_GRANT:
            frame = self._transcript.next_frame(frames.KmeGrant.NUMBER)
            if frame is not None:
                self._kme_granted(frame)
        elif self.state is not HubState.TAKING_TO_KME:
            raise PeerFault(codes.FRAME_UNEXPECTED, self.state.name)

    def _hello(self, whole: bytes) -> None:
        frame, _ = frames.parse_frame(whole, frames.Hello)
        self._version = min(max(LOWEST_VERSION, frame.highest), HIGHEST_VERSION)
        self._kme_nonce = frame.nonce
        self._transcript.add(whole)
        self._machine.step(HubStep.HELLO_READ)
        self._out.notify(LookUpLink(frame.link_id))

    def _found(self, profile: LinkProfile) -> None:
        self._profile = profile
        frame = frames.HubNonce(self._version, self._nonce)
        self._out.send(self._transcript.proved(profile, self._version, frame))
        self._machine.step(HubStep.LINK_FOUND)

    def _kme_proved(self, whole: bytes) -> None:
        profile = self._profile
        frame, proof = frames.parse_frame(whole, frames.KmeState)
        self._transcript.verify(profile, self._version, frame.NUMBER, whole, proof)
        self._kme = frame
        self._machine.step(HubStep.KME_PROVED)
        self._out.notify(ClaimLink(profile.parties.link_id))

    def _owned(self, event: Owned) -> None:
        profile, kme = self._profile, self._kme
        link_id = profile.parties.link_id
        stretch = first_stretch(profile, Direction.TO_HUB, event.marks.to_hub, kme.marks.to_hub)
        noticed = rolled_back(link_id, event.marks, kme.marks)
        self._realm = (event.epoch, event.digest)
        self._marks = replace(
            raise_seen(event.marks, kme.marks.to_hub, kme.marks.to_kme, kme.marks.count),
            to_hub=stretch.start + stretch.count,
        )
        self._machine.step(HubStep.LINK_OWNED)
        self._out.persist(
            TakeGrant(link_id, Direction.TO_HUB, stretch, self._kme_nonce, self._nonce),
            peer_seen(link_id, self._marks),
        )
        if noticed is not None:
            self._out.notify(noticed)

    def _took_to_hub(self, material: GrantMaterial) -> None:
        self._to_hub = material
        epoch, digest = self._realm
        frame = frames.HubState(
            self._marks, epoch, digest, Stretch(material.start, material.count), CAPABILITIES
        )
        self._out.send(self._transcript.proved(self._profile, self._version, frame))
        self._machine.step(HubStep.GRANT_TAKEN)

    def _kme_granted(self, whole: bytes) -> None:
        profile = self._profile
        frame, proof = frames.parse_frame(whole, frames.KmeGrant)
        self._transcript.verify(profile, self._version, frame.NUMBER, whole, proof)
        check_stretch(profile, Direction.TO_KME, frame.grant, self._marks.to_kme)
        end = frame.grant.start + frame.grant.count
        peer_count = self._kme.marks.count + 1
        self._marks = replace(
            raise_seen(self._marks, self._marks.to_hub, end, peer_count),
            to_kme=end,
            count=self._marks.count + 1,
        )
        link_id = profile.parties.link_id
        self._machine.step(HubStep.GRANT_ACCEPTED)
        self._out.persist(
            TakeGrant(link_id, Direction.TO_KME, frame.grant, self._kme_nonce, self._nonce),
            PrefaceCounted(link_id, self._marks.count),
            peer_seen(link_id, self._marks),
        )

    def _took_to_kme(self, material: GrantMaterial) -> None:
        kme = self._kme
        self._machine.step(HubStep.GRANT_TAKEN)
        epoch, digest = self._realm
        session = Session(
            profile=self._profile,
            outgoing=Direction.TO_KME,
            kme_nonce=self._kme_nonce,
            hub_nonce=self._nonce,
            send=material,
            receive=self._to_hub,
            marks=self._marks,
            peer_count=kme.marks.count + 1,
            peer_capabilities=kme.capabilities,
            incarnation=kme.incarnation,
            hub_epoch=epoch,
            hub_realm_digest=digest,
            rest=self._transcript.rest(),
        )
        self._out.notify(PrefaceDone(session))
