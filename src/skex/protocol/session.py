"""What the two ends of a preface share: the link's profile, events, notices, proofs, and the rules for
first grants and rollbacks.

A preface ends in ``PrefaceDone`` with a ``Session``, or in ``Failed``. Neither end knows sockets;
both are told who owns the link's marks only after any older connection of the same link is gone, so
that all marks of a link have one writer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, final

from skex.base import codes, limits
from skex.base.errors import ErrorCode, PeerFault, Refused, SkexError
from skex.base.ids import Direction, Incarnation, LinkId
from skex.base.secret import Secret
from skex.crypto import kdf, mac
from skex.pad.kinds import PadKind
from skex.pad.material import GrantMaterial
from skex.protocol.changes import LinkChange, LinkFrozen, PeerSeen
from skex.protocol.effects import Collector, Effects
from skex.protocol.traffic import Tick
from skex.wire import preface as frames
from skex.wire.preface import Marks, Parties, Stretch

LOWEST_VERSION: Final = 1
HIGHEST_VERSION: Final = 1
CAPABILITIES: Final = 0
"""No optional behaviour is defined yet; the field is exchanged and kept."""


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """What a link is, from enrolment on. Capacities are positions per direction.

    ``decoy`` marks the stand-in with a random key that an unknown link id meets: it answers like any
    link, and no proof for it can be made.
    """

    parties: Parties
    key: Secret
    kind: PadKind
    to_hub_capacity: int
    to_kme_capacity: int
    decoy: bool = False

    def capacity(self, direction: Direction) -> int:
        """Positions of one direction's pad."""
        return self.to_hub_capacity if direction is Direction.TO_HUB else self.to_kme_capacity


# ── what the shell is asked for, and answers with ───────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class TakeGrant:
    """Prepare the stretch, make its new mark durable in this same set, finish it (``taking.Taking``).

    Answered by one ``GrantsTaken`` for all of a set, after what the set sends and notifies; or by
    ``GrantsFailed``: then nothing of the set is sent or notified.
    """

    link_id: LinkId
    direction: Direction
    stretch: Stretch
    kme_nonce: bytes
    hub_nonce: bytes


LinkPersist: TypeAlias = TakeGrant | LinkChange


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes arrived on the connection."""

    data: bytes


@dataclass(frozen=True, slots=True)
class LinkFound:
    """The hub's answer to ``LookUpLink``: the link, or a decoy for an unknown id."""

    profile: LinkProfile


@dataclass(frozen=True, slots=True)
class Owned:
    """The answer to ``ClaimLink``: older connections are gone, with every set of theirs carried out.

    ``marks`` are durable: of each direction the higher of the store's and the pad file's. ``epoch`` and
    ``digest`` name the realm file in use (the hub's are sent, the KME's ignored).
    """

    marks: Marks
    epoch: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class GrantsTaken:
    """Every ``TakeGrant`` of one set is durable; ``materials`` stand in the order asked for."""

    materials: tuple[GrantMaterial, ...]


@dataclass(frozen=True, slots=True)
class GrantsFailed:
    """A pad refused, or erasing failed: there is no material."""

    error: SkexError


@dataclass(frozen=True, slots=True)
class RollbackNoted:
    """The answer to ``RolledBack``: whoever must know of it does, also after a crash."""


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The connection is gone; ``code`` (a peer's fault) says why, such as link-replaced."""

    code: ErrorCode = codes.CONNECTION_CLOSED


@dataclass(frozen=True, slots=True)
class LookUpLink:
    """Hub: which link is this? Answered by ``LinkFound``."""

    link_id: LinkId


@dataclass(frozen=True, slots=True)
class ClaimLink:
    """The other end proved itself: end any older connection of this link, then send ``Owned``."""

    link_id: LinkId


@dataclass(frozen=True, slots=True)
class RolledBack:
    """The other end saw this end further than it is now. ``own`` and ``seen`` say what differs.

    Answer with ``RollbackNoted``. Nothing is taken before that, because the first grants bring this
    end's marks up to date: after them the evidence is gone.
    """

    link_id: LinkId
    own: tuple[int, int, int]
    seen: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Failed:
    """The connection must be closed, now; nothing more is sent."""

    error: SkexError


@dataclass(frozen=True, slots=True)
class Session:
    """What a finished preface hands to the link.

    ``marks`` are this end's as now durable; ``rest`` are bytes that came behind the last frame.
    ``peer_count`` is the least preface count that the other end has once it finished its own part.
    """

    profile: LinkProfile
    outgoing: Direction
    kme_nonce: bytes
    hub_nonce: bytes
    send: GrantMaterial
    receive: GrantMaterial
    marks: Marks
    peer_count: int
    peer_capabilities: int
    incarnation: Incarnation
    hub_epoch: int
    hub_realm_digest: bytes
    rest: bytes = b""


@dataclass(frozen=True, slots=True)
class PrefaceDone:
    """Both ends are proved and hold their first grants."""

    session: Session


PrefaceEvent: TypeAlias = (
    Received | LinkFound | Owned | RollbackNoted | GrantsTaken | GrantsFailed | ConnectionLost | Tick
)
PrefaceNotice: TypeAlias = LookUpLink | ClaimLink | RolledBack | Failed | PrefaceDone
PrefaceEffects: TypeAlias = Effects[LinkPersist, bytes, PrefaceNotice]


class PrefaceEnd(ABC):
    """What handling an event means at either end; an end adds what it awaits and does."""

    def __init__(self, link_id: LinkId, now: float) -> None:
        self._link_id = link_id
        self._deadline = now + limits.PREFACE_SECONDS
        self._transcript = Transcript()
        self._out: Collector[LinkPersist, bytes, PrefaceNotice] = Collector()

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether the preface ended, well or not."""

    @property
    def paused(self) -> bool:
        """Whether more bytes could only be kept: the shell stops reading from the connection."""
        return False

    @property
    def next_deadline(self) -> float | None:
        """When a ``Tick`` is due: the whole preface has a time limit."""
        return None if self.finished else self._deadline

    @final
    def handle(self, event: PrefaceEvent, now: float) -> PrefaceEffects:
        """Advance by one event; a fault of any kind ends in one ``Failed``, with nothing sent."""
        if self.finished:
            wipe_unused(event)
            return Effects()
        try:
            if isinstance(event, ConnectionLost):
                raise PeerFault(event.code)
            if isinstance(event, GrantsFailed):
                raise event.error
            if not isinstance(event, Tick):
                self._dispatch(event)
            elif now >= self._deadline:
                raise PeerFault(codes.PEER_SILENT)
        except SkexError as error:
            wipe_unused(event)
            self._fail()
            return failure(self._link_id, self._explained(error))
        return self._out.take()

    @abstractmethod
    def _dispatch(self, event: Received | LinkFound | Owned | RollbackNoted | GrantsTaken) -> None:
        """Act on one event. Raises for every one that is not due."""

    @abstractmethod
    def _fail(self) -> None:
        """Close, and wipe what is held."""

    def _explained(self, error: SkexError) -> SkexError:
        """What the preface ends with, where this end knows better than ``error`` why it did."""
        return error


class Transcript:
    """The frames so far, and the proofs over them."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._buffer = bytearray()

    def add(self, frame: bytes) -> None:
        """Remember a frame, whole."""
        self._frames.append(frame)

    def feed(self, data: bytes) -> None:
        """Take in bytes that arrived. Raises ``Refused`` (link-busy) beyond what may wait."""
        self._buffer += data
        if len(self._buffer) > limits.LINK_QUEUE_BYTES:
            raise Refused(codes.LINK_BUSY, "more bytes than may wait behind a preface")

    def rest(self) -> bytes:
        """The bytes behind the last frame, handed out once."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        return rest

    def next_frame(self, number: int | None) -> bytes | None:
        """The frame ``number`` once all its bytes are there; its header is checked at once.

        None: no frame is due. Raises ``PeerFault`` (frame-unexpected) for bytes that nothing entitles the
        other end to: it must wait for an answer to each frame but the last, behind which records come.
        """
        frame = None if number is None else self._cut_frame(number)
        answer_due = number is None or (frame is not None and number != frames.KmeGrant.NUMBER)
        if answer_due and self._buffer:
            raise PeerFault(codes.FRAME_UNEXPECTED, "bytes while no frame is due")
        return frame

    def _cut_frame(self, number: int) -> bytes | None:
        if len(self._buffer) < frames.FRAME_HEADER_BYTES:
            return None
        frames.check_header(bytes(self._buffer[: frames.FRAME_HEADER_BYTES]), number)
        size = frames.frame_bytes(number)
        if len(self._buffer) < size:
            return None
        frame = bytes(self._buffer[:size])
        del self._buffer[:size]
        return frame

    def proved(self, profile: LinkProfile, version: int, frame: frames.Frame) -> bytes:
        """The whole frame with its proof, remembered."""
        unproved = frames.unproved_bytes(frame)
        whole = unproved + self._proof(profile, version, frame.NUMBER, unproved)
        self.add(whole)
        return whole

    def verify(self, profile: LinkProfile, version: int, number: int, whole: bytes, proof: bytes) -> None:
        """Check a received frame's proof and remember the frame. Raises ``PeerFault``."""
        expected = self._proof(profile, version, number, whole[: len(whole) - len(proof)])
        if not mac.equal(expected, proof) or profile.decoy:
            raise PeerFault(codes.LINK_UNKNOWN if profile.decoy else codes.PROOF_INVALID)
        self.add(whole)

    def _proof(self, profile: LinkProfile, version: int, number: int, unproved: bytes) -> bytes:
        label = kdf.preface_label(number)
        data = frames.proof_input(label, version, profile.parties, self._frames, unproved)
        return mac.hmac_sha512(profile.key.expose(), data)


def check_stretch(profile: LinkProfile, direction: Direction, stretch: Stretch, mark: int) -> None:
    """Whether a sender may take a stretch that the other end announced.

    Raises ``PeerFault`` (grant-invalid) below its own mark, beyond its pad, or too large.
    """
    largest = 1 if profile.kind is PadKind.DERIVED else limits.TABLE_GRANT_UNITS_MAX
    beyond = stretch.start + stretch.count > profile.capacity(direction)
    if stretch.start < mark or beyond or stretch.count > largest:
        raise PeerFault(codes.GRANT_INVALID, f"{direction.name}, {stretch.count} positions")


def first_stretch(profile: LinkProfile, direction: Direction, *marks: int) -> Stretch:
    """The first grant of a connection: one position, at the highest of the marks.

    Raises ``Refused`` (pad-exhausted).
    """
    start = max(marks)
    if start >= profile.capacity(direction):
        raise Refused(codes.PAD_EXHAUSTED, direction.name)
    return Stretch(start, 1)


def rolled_back(link_id: LinkId, own: Marks, stated: Marks) -> RolledBack | None:
    """What to report if the other end saw this end further than it is; it is no ground to stop.

    ``own`` are this end's marks, ``stated`` those of a verified frame 3 or 4 of the other end.
    """
    mine = (own.to_hub, own.to_kme, own.count)
    seen = (stated.seen_to_hub, stated.seen_to_kme, stated.seen_count)
    if any(have < was for have, was in zip(mine, seen, strict=True)):
        return RolledBack(link_id, mine, seen)
    return None


def next_count(own: int, seen: int = 0) -> int:
    """The preface count after one more. An end that was rolled back goes on from what the other saw.

    So one rollback is noticed once, not again at every preface until the count has caught up.
    """
    return min(max(own, seen) + 1, limits.PREFACE_COUNT_MAX)


def raise_seen(marks: Marks, to_hub: int, to_kme: int, count: int) -> Marks:
    """``marks`` with what the other end proved; no value falls."""
    return replace(
        marks,
        seen_to_hub=max(marks.seen_to_hub, to_hub),
        seen_to_kme=max(marks.seen_to_kme, to_kme),
        seen_count=max(marks.seen_count, count),
    )


def peer_seen(link_id: LinkId, marks: Marks) -> PeerSeen:
    """The change that makes the ``seen`` values of ``marks`` durable."""
    return PeerSeen(link_id, marks.seen_to_hub, marks.seen_to_kme, marks.seen_count)


def wipe_unused(event: object) -> None:
    """Forget material that was taken for a connection which ended meanwhile."""
    if isinstance(event, GrantsTaken):
        for material in event.materials:
            material.wipe()


def failure(link_id: LinkId, error: SkexError) -> Effects[LinkPersist, bytes, Failed]:
    """How a connection ends: nothing is sent. A chain that would have to jump too far freezes its link."""
    frozen = (LinkFrozen(link_id, error.code.name),) if error.code is codes.PAD_JUMP else ()
    return Effects(persist=frozen, notify=(Failed(error),))
