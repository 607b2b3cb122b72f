"""The KME's end of a preface: it dials, states its marks, and uses nothing before both grants are
durable at its end.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Final

from skex.base import codes
from skex.base.errors import LocalBug, PeerFault
from skex.base.ids import Direction, Incarnation
from skex.pad.material import GrantMaterial
from skex.protocol.changes import PrefaceCounted
from skex.protocol.session import (
    CAPABILITIES,
    HIGHEST_VERSION,
    LOWEST_VERSION,
    ClaimLink,
    GrantsTaken,
    LinkFound,
    LinkProfile,
    Owned,
    PrefaceDone,
    PrefaceEffects,
    PrefaceEnd,
    Received,
    RollbackNoted,
    Session,
    TakeGrant,
    check_stretch,
    first_stretch,
    next_count,
    peer_seen,
    raise_seen,
    rolled_back,
)
from skex.protocol.states import StateMachine, Table
from skex.wire import preface as frames
from skex.wire.preface import Marks, Stretch


class KmeState(Enum):
    """What the KME's end of a preface awaits."""

    AWAITING_HUB_NONCE = auto()
    AWAITING_OWNERSHIP = auto()
    AWAITING_HUB_STATE = auto()
    NOTING_ROLLBACK = auto()
    TAKING_GRANTS = auto()
    DONE = auto()
    CLOSED = auto()


class KmeStep(Enum):
    """What moves the KME's end."""

    HUB_PROVED = auto()
    LINK_OWNED = auto()
    ROLLBACK_SEEN = auto()
    GRANT_ACCEPTED = auto()
    GRANTS_TAKEN = auto()
    FAULT = auto()


KME_TABLE: Final[Table[KmeState, KmeStep]] = {
    (KmeState.AWAITING_HUB_NONCE, KmeStep.HUB_PROVED): KmeState.AWAITING_OWNERSHIP,
    (KmeState.AWAITING_HUB_NONCE, KmeStep.FAULT): KmeState.CLOSED,
    (KmeState.AWAITING_OWNERSHIP, KmeStep.LINK_OWNED): KmeState.AWAITING_HUB_STATE,
    (KmeState.AWAITING_OWNERSHIP, KmeStep.FAULT): KmeState.CLOSED,
    (KmeState.AWAITING_HUB_STATE, KmeStep.ROLLBACK_SEEN): KmeState.NOTING_ROLLBACK,
    (KmeState.AWAITING_HUB_STATE, KmeStep.GRANT_ACCEPTED): KmeState.TAKING_GRANTS,
    (KmeState.AWAITING_HUB_STATE, KmeStep.FAULT): KmeState.CLOSED,
    (KmeState.NOTING_ROLLBACK, KmeStep.GRANT_ACCEPTED): KmeState.TAKING_GRANTS,
    (KmeState.NOTING_ROLLBACK, KmeStep.FAULT): KmeState.CLOSED,
    (KmeState.TAKING_GRANTS, KmeStep.GRANTS_TAKEN): KmeState.DONE,
    (KmeState.TAKING_GRANTS, KmeStep.FAULT): KmeState.CLOSED,
}
KME_INITIAL: Final = KmeState.AWAITING_HUB_NONCE

_DUE: Final = {
    KmeState.AWAITING_HUB_NONCE: frames.HubNonce.NUMBER,
    KmeState.AWAITING_HUB_STATE: frames.HubState.NUMBER,
}
"""The frame that the hub owes; in every other state it must be silent."""


class KmePreface(PrefaceEnd):
    """The end that dials. ``start`` gives its first bytes; every event goes to ``handle``.

    ``nonce`` (32 bytes) is fresh from the operating system for this connection.
    """

    def __init__(self, profile: LinkProfile, nonce: bytes, incarnation: Incarnation, now: float) -> None:
        super().__init__(profile.parties.link_id, now)
        self._profile = profile
        self._nonce = nonce
        self._incarnation = incarnation
        self._machine: StateMachine[KmeState, KmeStep] = StateMachine(KME_TABLE, KME_INITIAL)
        self._version = HIGHEST_VERSION
        self._hub_nonce: bytes  # set when frame 2 is verified
        self._marks: Marks  # set when the link is owned
        self._hub: frames.HubState  # set when frame 4 is verified

    @property
    def state(self) -> KmeState:
        """What this end awaits."""
        return self._machine.state

    @property
    def finished(self) -> bool:
        """Whether the preface ended, well or not."""
        return self.state in (KmeState.DONE, KmeState.CLOSED)

    def start(self) -> PrefaceEffects:
        """Frame 1; to be called once, before any event."""
        hello = frames.Hello(LOWEST_VERSION, HIGHEST_VERSION, self._link_id, self._nonce)
        frame = frames.unproved_bytes(hello)
        self._transcript.add(frame)
        self._out.send(frame)
        return self._out.take()

    def _fail(self) -> None:
        self._machine.step(KmeStep.FAULT)

    def _dispatch(self, event: Received | LinkFound | Owned | RollbackNoted | GrantsTaken) -> None:
        match event:
            case Received(data):
                self._transcript.feed(data)
                self._read()
            case Owned() if self.state is KmeState.AWAITING_OWNERSHIP:
                self._owned(event)
            case RollbackNoted() if self.state is KmeState.NOTING_ROLLBACK:
                self._accept()
            case GrantsTaken((send, receive)) if self.state is KmeState.TAKING_GRANTS:
                self._taken(send, receive)
            case _:
                raise LocalBug(codes.BAD_STATE, f"{type(event).__name__} in {self.state.name}")

    def _read(self) -> None:
        whole = self._transcript.next_frame(_DUE.get(self.state))
        if whole is None:
            return
        if self.state is KmeState.AWAITING_HUB_NONCE:
            self._hub_proved(whole)
        else:
            self._hub_stated(whole)

    def _hub_proved(self, whole: bytes) -> None:
        frame, proof = frames.parse_frame(whole, frames.HubNonce)
        # Before the proof, because another version may compute it otherwise.
        if not LOWEST_VERSION <= frame.version <= HIGHEST_VERSION:
            raise PeerFault(codes.VERSION_UNSUPPORTED, f"the hub speaks version {frame.version}")
        self._version, self._hub_nonce = frame.version, frame.nonce
        self._transcript.verify(self._profile, self._version, frame.NUMBER, whole, proof)
        self._machine.step(KmeStep.HUB_PROVED)
        self._out.notify(ClaimLink(self._link_id))

    def _owned(self, event: Owned) -> None:
        self._marks = event.marks
        # With a pad that is used up there will be no session; the hub's unit would be burnt in vain.
        first_stretch(self._profile, Direction.TO_HUB, event.marks.to_hub)
        first_stretch(self._profile, Direction.TO_KME, event.marks.to_kme)
        state = frames.KmeState(event.marks, self._incarnation, CAPABILITIES)
        self._out.send(self._transcript.proved(self._profile, self._version, state))
        self._machine.step(KmeStep.LINK_OWNED)

    def _hub_stated(self, whole: bytes) -> None:
        frame, proof = frames.parse_frame(whole, frames.HubState)
        self._transcript.verify(self._profile, self._version, frame.NUMBER, whole, proof)
        self._hub = frame
        noticed = rolled_back(self._link_id, self._marks, frame.marks)
        if noticed is None:
            self._accept()
        else:
            self._machine.step(KmeStep.ROLLBACK_SEEN)
            self._out.notify(noticed)

    def _accept(self) -> None:
        """Take the hub's grant and an own one, and count the preface, in one set."""
        own, hub = self._marks, self._hub.marks
        theirs = self._hub.grant
        check_stretch(self._profile, Direction.TO_HUB, theirs, own.to_hub)
        if hub.to_hub != theirs.start + theirs.count:
            raise PeerFault(codes.GRANT_INVALID, "the hub's mark is not its grant's end")
        # What the hub saw of this end's mark counts too: it is this end's mark, only forgotten.
        ours = first_stretch(self._profile, Direction.TO_KME, own.to_kme, hub.to_kme, hub.seen_to_kme)
        self._marks = replace(
            raise_seen(own, hub.to_hub, hub.to_kme, hub.count),
            to_hub=theirs.start + theirs.count,
            to_kme=ours.start + ours.count,
            count=next_count(own.count, hub.seen_count),
        )
        self._machine.step(KmeStep.GRANT_ACCEPTED)
        self._out.persist(
            TakeGrant(self._link_id, Direction.TO_HUB, theirs, self._nonce, self._hub_nonce),
            TakeGrant(self._link_id, Direction.TO_KME, ours, self._nonce, self._hub_nonce),
            PrefaceCounted(self._link_id, self._marks.count),
            peer_seen(self._link_id, self._marks),
        )

    def _taken(self, send: GrantMaterial, receive: GrantMaterial) -> None:
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
            peer_count=next_count(hub.marks.count),
            peer_capabilities=hub.capabilities,
            incarnation=self._incarnation,
            hub_epoch=hub.epoch,
            hub_realm_digest=hub.realm_digest,
        )
        self._out.notify(PrefaceDone(session))
