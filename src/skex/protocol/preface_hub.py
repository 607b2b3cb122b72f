"""The hub's end of a preface: it listens, learns from frame 1 which link is meant, and answers an
unknown one exactly like a known one.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Final

from skex.base import codes
from skex.base.errors import LocalBug, PeerFault, SkexError
from skex.base.ids import Direction, LinkId
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
    LookUpLink,
    Owned,
    PrefaceDone,
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


class HubState(Enum):
    """What the hub's end of a preface awaits."""

    AWAITING_HELLO = auto()
    LOOKING_UP = auto()
    AWAITING_KME_STATE = auto()
    AWAITING_OWNERSHIP = auto()
    NOTING_ROLLBACK = auto()
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
    ROLLBACK_SEEN = auto()
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
    (HubState.AWAITING_OWNERSHIP, HubStep.ROLLBACK_SEEN): HubState.NOTING_ROLLBACK,
    (HubState.AWAITING_OWNERSHIP, HubStep.FAULT): HubState.CLOSED,
    (HubState.NOTING_ROLLBACK, HubStep.LINK_OWNED): HubState.TAKING_TO_HUB,
    (HubState.NOTING_ROLLBACK, HubStep.FAULT): HubState.CLOSED,
    (HubState.TAKING_TO_HUB, HubStep.GRANT_TAKEN): HubState.AWAITING_KME_GRANT,
    (HubState.TAKING_TO_HUB, HubStep.FAULT): HubState.CLOSED,
    (HubState.AWAITING_KME_GRANT, HubStep.GRANT_ACCEPTED): HubState.TAKING_TO_KME,
    (HubState.AWAITING_KME_GRANT, HubStep.FAULT): HubState.CLOSED,
    (HubState.TAKING_TO_KME, HubStep.GRANT_TAKEN): HubState.DONE,
    (HubState.TAKING_TO_KME, HubStep.FAULT): HubState.CLOSED,
}


HUB_INITIAL: Final = HubState.AWAITING_HELLO

_DUE: Final = {
    HubState.AWAITING_HELLO: frames.Hello.NUMBER,
    HubState.AWAITING_KME_STATE: frames.KmeState.NUMBER,
    HubState.AWAITING_KME_GRANT: frames.KmeGrant.NUMBER,
}
"""The frame that the KME owes. In other states it must be silent; behind frame 5 it may send records."""


class HubPreface(PrefaceEnd):
    """The end that listens; it learns from frame 1 which link the connection claims to be.

    ``nonce`` (32 bytes) is fresh from the operating system for this connection.
    """

    def __init__(self, nonce: bytes, now: float) -> None:
        super().__init__(LinkId(b""), now)
        self._nonce = nonce
        self._machine: StateMachine[HubState, HubStep] = StateMachine(HUB_TABLE, HUB_INITIAL)
        self._version = HIGHEST_VERSION
        self._offered = (LOWEST_VERSION, HIGHEST_VERSION)
        self._kme_nonce: bytes  # set when frame 1 is read
        self._profile: LinkProfile  # set when the link is found
        self._kme: frames.KmeState  # set when frame 3 is verified
        self._marks: Marks  # set when the link is owned
        self._realm = (0, b"")
        self._held: list[GrantMaterial] = []

    @property
    def state(self) -> HubState:
        """What this end awaits."""
        return self._machine.state

    @property
    def finished(self) -> bool:
        """Whether the preface ended, well or not."""
        return self.state in (HubState.DONE, HubState.CLOSED)

    @property
    def paused(self) -> bool:
        """While the last grant is taken: the KME may be sending records already."""
        return self.state is HubState.TAKING_TO_KME

    def _fail(self) -> None:
        for material in self._held:
            material.wipe()
        self._machine.step(HubStep.FAULT)

    def _dispatch(self, event: Received | LinkFound | Owned | RollbackNoted | GrantsTaken) -> None:
        match event:
            case Received(data):
                self._transcript.feed(data)
                self._read()
            case LinkFound(profile) if self.state is HubState.LOOKING_UP:
                self._found(profile)
            case Owned() if self.state is HubState.AWAITING_OWNERSHIP:
                self._owned(event)
            case RollbackNoted() if self.state is HubState.NOTING_ROLLBACK:
                self._accept()
            case GrantsTaken((material,)) if self.state is HubState.TAKING_TO_HUB:
                self._took_to_hub(material)
            case GrantsTaken((material,)) if self.state is HubState.TAKING_TO_KME:
                self._took_to_kme(material)
            case _:
                raise LocalBug(codes.BAD_STATE, f"{type(event).__name__} in {self.state.name}")

    def _read(self) -> None:
        whole = None if self.paused else self._transcript.next_frame(_DUE.get(self.state))
        if whole is None:
            return
        if self.state is HubState.AWAITING_HELLO:
            self._hello(whole)
        elif self.state is HubState.AWAITING_KME_STATE:
            self._kme_proved(whole)
        else:
            self._kme_granted(whole)

    def _hello(self, whole: bytes) -> None:
        frame, _ = frames.parse_frame(whole, frames.Hello)
        self._link_id = frame.link_id
        self._offered = (frame.lowest, frame.highest)
        # Nearest to the offer where nothing is shared: the KME then ends the connection, knowing why.
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

    @property
    def _shares_no_version(self) -> bool:
        lowest, highest = self._offered
        return highest < LOWEST_VERSION or lowest > HIGHEST_VERSION

    def _unsupported(self) -> PeerFault:
        lowest, highest = self._offered
        return PeerFault(codes.VERSION_UNSUPPORTED, f"the KME speaks {lowest} to {highest}")

    def _explained(self, error: SkexError) -> SkexError:
        """A KME that read frame 2 and shares no version goes away: that is why, not that it went."""
        told = self._shares_no_version and isinstance(error, PeerFault)
        return self._unsupported() if told else error

    def _kme_proved(self, whole: bytes) -> None:
        if self._shares_no_version:
            raise self._unsupported()
        profile = self._profile
        frame, proof = frames.parse_frame(whole, frames.KmeState)
        self._transcript.verify(profile, self._version, frame.NUMBER, whole, proof)
        self._kme = frame
        self._machine.step(HubStep.KME_PROVED)
        self._out.notify(ClaimLink(self._link_id))

    def _owned(self, event: Owned) -> None:
        self._marks = event.marks
        self._realm = (event.epoch, event.digest)
        noticed = rolled_back(self._link_id, event.marks, self._kme.marks)
        if noticed is None:
            self._accept()
        else:
            self._machine.step(HubStep.ROLLBACK_SEEN)
            self._out.notify(noticed)

    def _accept(self) -> None:
        """Take the grant that the KME will seal with."""
        own, kme = self._marks, self._kme.marks
        stretch = first_stretch(self._profile, Direction.TO_HUB, own.to_hub, kme.to_hub)
        seen = raise_seen(own, kme.to_hub, kme.to_kme, kme.count)
        self._marks = replace(seen, to_hub=stretch.start + stretch.count)
        self._machine.step(HubStep.LINK_OWNED)
        self._out.persist(
            TakeGrant(self._link_id, Direction.TO_HUB, stretch, self._kme_nonce, self._nonce),
            peer_seen(self._link_id, self._marks),
        )

    def _took_to_hub(self, material: GrantMaterial) -> None:
        self._held.append(material)
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
        kme = self._kme.marks
        self._marks = replace(
            raise_seen(self._marks, self._marks.to_hub, end, next_count(kme.count)),
            to_kme=end,
            count=next_count(self._marks.count, kme.seen_count),
        )
        self._machine.step(HubStep.GRANT_ACCEPTED)
        self._out.persist(
            TakeGrant(self._link_id, Direction.TO_KME, frame.grant, self._kme_nonce, self._nonce),
            PrefaceCounted(self._link_id, self._marks.count),
            peer_seen(self._link_id, self._marks),
        )

    def _took_to_kme(self, material: GrantMaterial) -> None:
        kme = self._kme
        (to_hub,) = self._held
        self._machine.step(HubStep.GRANT_TAKEN)
        epoch, digest = self._realm
        session = Session(
            profile=self._profile,
            outgoing=Direction.TO_KME,
            kme_nonce=self._kme_nonce,
            hub_nonce=self._nonce,
            send=material,
            receive=to_hub,
            marks=self._marks,
            peer_count=next_count(kme.marks.count),
            peer_capabilities=kme.capabilities,
            incarnation=kme.incarnation,
            hub_epoch=epoch,
            hub_realm_digest=digest,
            rest=self._transcript.rest(),
        )
        self._out.notify(PrefaceDone(session))
