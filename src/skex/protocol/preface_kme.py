"""The KME's end of a preface: it dials, states its marks, and uses nothing before both grants are
durable at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from skex.base import codes
from skex.base.errors import PeerFault, SkexError
from skex.base.ids import Direction, Incarnation
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
    LinkPersist,
    LinkProfile,
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


class KmeState(Enum):
    """What the KME's end of a preface awaits."""

    AWAITING_HUB_NONCE = auto()
    AWAITING_OWNERSHIP = auto()
    AWAITING_HUB_STATE = auto()
    TAKING_GRANTS = auto()
    DONE = auto()
    CLOSED = auto()


class KmeStep(Enum):
    """What moves the KME's end."""

    HUB_PROVED = auto()
    LINK_OWNED = auto()
    GRANT_ACCEPTED = auto()
    GRANTS_TAKEN = auto()
    FAULT = auto()


KME_TABLE: Final[Table[KmeState, KmeStep]] = {
    (KmeState.AWAITING_HUB_NONCE, KmeStep.HUB_PROVED): KmeState.AWAITING_OWNERSHIP,
    (KmeState.AWAITING_HUB_NONCE, KmeStep.FAULT): KmeState.CLOSED,
    (KmeState.AWAITING_OWNERSHIP, KmeStep.LINK_OWNED): KmeState.AWAITING_HUB_STATE,
    (KmeState.AWAITING_OWNERSHIP, KmeStep.FAULT): KmeState.CLOSED,
    (KmeState.AWAITING_HUB_STATE, KmeStep.GRANT_ACCEPTED): KmeState.TAKING_GRANTS,
    (KmeState.AWAITING_HUB_STATE, KmeStep.FAULT): KmeState.CLOSED,
    (KmeState.TAKING_GRANTS, KmeStep.GRANTS_TAKEN): KmeState.DONE,
    (KmeState.TAKING_GRANTS, KmeStep.FAULT): KmeState.CLOSED,
}


class KmePreface:
    """The end that dials. ``start`` gives its first bytes; every event goes to ``handle``."""

    def __init__(self, profile: LinkProfile, nonce: bytes, incarnation: Incarnation) -> None:
        self._profile = profile
        self._nonce = nonce
        self._incarnation = incarnation
        self._machine: StateMachine[KmeState, KmeStep] = StateMachine(KME_TABLE, KmeState.AWAITING_HUB_NONCE)
        self._transcript = Transcript()
        self._out: Collector[LinkPersist, bytes, PrefaceNotice] = Collector()
        self._version = HIGHEST_VERSION
        self._hub_nonce = b""
        self._marks = Marks(0, 0, 0, 0, 0, 0)
        self._hub: frames.HubState  # set when frame 4 is accepted

    @property
    def state(self) -> KmeState:
        """What this end awaits."""
        return self._machine.state

    def start(self) -> PrefaceEffects:
        """Frame 1; to be called once, before any event."""
        hello = frames.Hello(LOWEST_VERSION, HIGHEST_VERSION, self._profile.parties.link_id, self._nonce)
        frame = frames.unproved_bytes(hello)
        self._transcript.add(frame)
        self._out.send(frame)
        return self._out.take()

    def handle(self, event: PrefaceEvent, now: float) -> PrefaceEffects:
        """Advance by one event; a fault of any kind ends in one ``Failed``, with nothing sent."""
        del now
        if self.state in (KmeState.DONE, KmeState.CLOSED):
            wipe_unused(event)
            return Effects()
        try:
            self._dispatch(event)
        except SkexError as error:
            self._machine.step(KmeStep.FAULT)
            return Effects(notify=(Failed(error),))
        return self._out.take()

    def _dispatch(self, event: PrefaceEvent) -> None:
        match event:
            case Received(data):
                self._transcript.feed(data)
                self._read()
            case Owned() if self.state is KmeState.AWAITING_OWNERSHIP:
                self._owned(event)
            case GrantsTaken(materials) if self.state is KmeState.TAKING_GRANTS:
                self._taken(materials)
            case GrantsFailed(error):
                raise error
            case _:
                raise PeerFault(codes.CONNECTION_CLOSED, self.state.name)

    def _read(self) -> None:
        if self.state is KmeState.AWAITING_HUB_NONCE:
            frame = self._transcript.next_frame(frames.HubNonce.NUMBER)
            if frame is not None:
                self._hub_proved(frame)
        elif self.state is KmeState.AWAITING_HUB_STATE:
            frame = self._transcript.next_frame(frames.HubState.NUMBER)
            if frame is not None:
                self._hub_stated(frame)
        else:
            raise PeerFault(codes.FRAME_UNEXPECTED, self.state.name)

    def _hub_proved(self, whole: bytes) -> None:
        frame, proof = frames.parse_frame(whole, frames.HubNonce)
        if not LOWEST_VERSION <= frame.version <= HIGHEST_VERSION:
            raise PeerFault(codes.VERSION_UNSUPPORTED, f"the hub speaks version {frame.version}")
        self._version, self._hub_nonce = frame.version, frame.nonce
        self._transcript.verify(self._profile, self._version, frame.NUMBER, whole, proof)
        self._machine.step(KmeStep.HUB_PROVED)
        self._out.notify(ClaimLink(self._profile.parties.link_id))

    def _owned(self, event: Owned) -> None:
        self._marks = event.marks
        state = frames.KmeState(event.marks, self._incarnation, CAPABILITIES)
        self._out.send(self._transcript.proved(self._profile, self._version, state))
        self._machine.step(KmeStep.LINK_OWNED)

    def _hub_stated(self, whole: bytes) -> None:
        frame, proof = frames.parse_frame(whole, frames.HubState)
        self._transcript.verify(self._profile, self._version, frame.NUMBER, whole, proof)
        check_stretch(self._profile, Direction.TO_HUB, frame.grant, self._marks.to_hub)
        if frame.marks.to_hub != frame.grant.start + frame.grant.count:
            raise PeerFault(codes.GRANT_INVALID, "the hub's mark is not its grant's end")
        own = first_stretch(self._profile, Direction.TO_KME, self._marks.to_kme, frame.marks.to_kme)
        self._hub = frame
        self._accept(frame, own)

    def _accept(self, frame: frames.HubState, own: Stretch) -> None:
        link_id = self._profile.parties.link_id
        noticed = rolled_back(link_id, self._marks, frame.marks)
        self._marks = replace(
            raise_seen(self._marks, frame.marks.to_hub, frame.marks.to_kme, frame.marks.count),
            to_hub=frame.grant.start + frame.grant.count,
            to_kme=own.start + own.count,
            count=self._marks.count + 1,
        )
        self._machine.step(KmeStep.GRANT_ACCEPTED)
        self._out.persist(
            TakeGrant(link_id, Direction.TO_HUB, frame.grant, self._nonce, self._hub_nonce),
            TakeGrant(link_id, Direction.TO_KME, own, self._nonce, self._hub_nonce),
            PrefaceCounted(link_id, self._marks.count),
            peer_seen(link_id, self._marks),
        )
        if noticed is not None:
            self._out.notify(noticed)

    def _taken(self, materials: Sequence[GrantMaterial]) -> None:
        send, receive = materials
        hub = self._hub
        grant = frames.KmeGrant(Stretch(receive.start, receive.count))
        self._out.send(self._transcript.proved(self._profile, self._version, grant))
        self._machine.step(KmeStep.GRANTS_TAKEN)
        session = Session(
            profile=self._profile,
            outgoing=Direction.TO_HUB,
            kme_nonce=self._nonce,
            hub_nonce=self._hub_nonce,
            send=send,
            receive=receive,
            marks=self._marks,
            peer_count=hub.marks.count + 1,
            peer_capabilities=hub.capabilities,
            incarnation=self._incarnation,
            hub_epoch=hub.epoch,
            hub_realm_digest=hub.realm_digest,
        )
        self._out.notify(PrefaceDone(session))
