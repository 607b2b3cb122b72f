"""A sender and a receiver of batches, and hubs that only carry: each may be down, or lie.

Smaller than the whole world: no pads, no records, no peer messages. What crosses a hub is encoded and
read again, so that only what the wire can say is said. Stores are lists that outlive their machines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from simulation.chance import Chance
from skex.base.ids import BatchId, Coordinate, Direction, GroupId, HubName, Incarnation, KmeName, RealmName
from skex.base.limits import LIFETIME_MARGIN_SECONDS
from skex.base.secret import Secret
from skex.protocol.changes import BatchAnswered, BatchReceived, BatchSent, Change, TombstonesDropped
from skex.protocol.establishment import Realms
from skex.protocol.holding import ReceivedBatch
from skex.protocol.receiver import (
    Answered,
    Receiver,
    ReceiverEvent,
    ReceiverNotice,
    Searched,
    SearchNeeded,
)
from skex.protocol.reconstruct import reconstruct
from skex.protocol.sender import AnswerBatch, Establish, Sender, SenderEvent, SenderNotice
from skex.protocol.traffic import AnsweredByHub, FromHub, HubDown, HubUp, SendToHub, Tick
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.context import CompactContext, Purpose
from skex.wire.independence import ANYBODY, Floor
from skex.wire.messages import (
    Confirm,
    Confirmed,
    Message,
    Refusal,
    Refuse,
    Share,
    Shared,
    decode_message,
    encode_message,
)
from skex.wire.realm import Hub, HubAttributes, HubStatus, Realm

ALICE = KmeName("alice")
BOB = KmeName("bob")
REALM = RealmName("testbed")
NO_CLAIM = Claim((), Randomness.SYSTEM, Enrolment.COMPONENTS)


def hub_name(number: int) -> HubName:
    """The name of the hub at coordinate ``number``."""
    return HubName(f"hub-{number}")


def make_realm(
    hubs: int, threshold: int, *, epoch: int = 1, revoked: Iterable[int] = (), operators: str = ""
) -> Realm:
    """A realm whose hubs have the coordinates 1, 2, ...; ``operators`` is a letter for each."""
    gone = set(revoked)
    behind = [HubAttributes(one, "land", "house", f"admin {one}", "skex") for one in operators or "o" * hubs]
    return Realm(
        REALM,
        epoch,
        threshold,
        issued=1_700_000_000,
        max_age=31_536_000,
        overlap=86_400,
        hubs=tuple(
            Hub(
                hub_name(number),
                Coordinate(number),
                HubStatus.REVOKED if number in gone else HubStatus.ACTIVE,
                f"{hub_name(number)}.example:7300",
                behind[number - 1],
            )
            for number in range(1, hubs + 1)
        ),
    )


@dataclass
class Policy:
    """What both ends' ports answer; allows everything until told otherwise."""

    allowed: bool = True
    floor: int = 1
    independence: Floor = ANYBODY
    room: bool = True
    computational: tuple[Coordinate, ...] = ()

    def may_establish(self, sender: KmeName, receiver: KmeName, purpose: Purpose) -> bool:
        """As ``Admission`` says."""
        return self.allowed and bool(sender and receiver) and purpose in Purpose

    def accepts_threshold(self, sender: KmeName, threshold: int) -> bool:
        """As ``Admission`` says."""
        return bool(sender) and threshold >= self.floor

    def accepts_hubs(self, sender: KmeName, hubs: Sequence[HubAttributes], threshold: int) -> bool:
        """As ``Admission`` says."""
        return bool(sender) and self.independence.is_met(hubs, threshold)

    def has_room(self, sender: KmeName, context: CompactContext) -> bool:
        """As ``Admission`` says."""
        return self.room and bool(sender and context.keys)

    def own_claim(self, hubs: Sequence[Coordinate]) -> Claim:
        """As ``OwnClaims`` says."""
        return replace(NO_CLAIM, computational=tuple(hub for hub in self.computational if hub in hubs))


@dataclass
class Store:
    """Every change that one end made durable, and what follows from them at a start."""

    changes: list[Change] = field(default_factory=list)
    received_at: dict[BatchId, float] = field(default_factory=dict)

    def commit(self, changes: Iterable[Change], now: float) -> None:
        """Make one set durable."""
        for change in changes:
            self.changes.append(change)
            if isinstance(change, BatchReceived):
                self.received_at[change.batch.batch] = now

    def is_committed(self, peer: KmeName, batch: BatchId) -> bool:
        """As ``Commits`` says."""
        return any(sent.batch.peer == peer and sent.batch.batch == batch for sent in self.sent)

    @property
    def sent(self) -> list[BatchSent]:
        """The batches that this end made."""
        return [change for change in self.changes if isinstance(change, BatchSent)]

    @property
    def received(self) -> list[BatchReceived]:
        """The batches that this end accepted."""
        return [change for change in self.changes if isinstance(change, BatchReceived)]

    @property
    def marks(self) -> dict[tuple[KmeName, Incarnation], int]:
        """The counters up to which each incarnation is refused."""
        marks: dict[tuple[KmeName, Incarnation], int] = {}
        for change in self.changes:
            match change:
                case TombstonesDropped(sender, incarnation, None):
                    marks.pop((sender, incarnation), None)
                case TombstonesDropped(sender, incarnation, int(counter)):
                    marks[sender, incarnation] = counter
                case _:
                    pass
        return marks

    @property
    def rows(self) -> list[ReceivedBatch]:
        """What a receiver is given at a start."""
        answers = {change.batch: change.ok for change in self.changes if isinstance(change, BatchAnswered)}
        marks = self.marks
        return [
            ReceivedBatch(
                received.batch.peer,
                received.confirmation,
                received.through,
                answers.get(received.batch.batch),
                self.received_at[received.batch.batch]
                + received.batch.context.lifetime
                + LIFETIME_MARGIN_SECONDS,
            )
            for received in self.received
            if received.batch.batch.counter
            > marks.get((received.batch.peer, received.batch.batch.incarnation), -1)
        ]


Lie = Callable[[Shared], Sequence[Shared]]
"""What a hub makes of a share that it should relay."""


class Exchange:
    """Alice makes batches, Bob receives them."""

    def __init__(self, hubs: int = 5, threshold: int = 3, seed: int = 1, operators: str = "") -> None:
        self.chance = Chance(seed)
        self.now = 1000.0
        self.realms = Realms(make_realm(hubs, threshold, operators=operators))
        self.alices, self.bobs = Policy(), Policy()
        self.sent, self.received = Store(), Store()
        self.told_alice: list[SenderNotice] = []
        self.told_bob: list[ReceiverNotice] = []
        self.lies: dict[HubName, Lie] = {}
        self.answering = True
        self.searching = True
        self.searches: list[SearchNeeded] = []
        self.carried: list[tuple[HubName, Message]] = []
        self._up: dict[KmeName, set[HubName]] = {ALICE: set(), BOB: set()}
        self._tokens: dict[tuple[HubName, int], Hashable] = {}
        self._ordinal = 0
        self._queue: deque[tuple[KmeName, SenderEvent | ReceiverEvent]] = deque()
        self.start_alice()
        self.start_bob()
        self.link(*(hub_name(number) for number in range(1, hubs + 1)))

    # ── ends ────────────────────────────────────────────────────────────────────────────────────
    def start_alice(self) -> None:
        """Start Alice anew with what her store holds; her links are down."""
        self._stop(ALICE)
        self.sender = Sender(
            name=ALICE,
            incarnation=Incarnation(self.chance.randbytes(16)),
            realms=self.realms,
            claims=self.alices,
            commits=self.sent,
            receiver_epochs={sent.batch.peer: sent.receiver_epoch for sent in self.sent.sent},
        )

    def start_bob(self) -> None:
        """Start Bob anew with what his store holds; his links are down."""
        self._stop(BOB)
        self.searches.clear()
        self.receiver = Receiver(
            name=BOB,
            incarnation=Incarnation(self.chance.randbytes(16)),
            realms=self.realms,
            claims=self.bobs,
            admission=self.bobs,
            batches=self.received.rows,
            marks=self.received.marks,
        )

    def _stop(self, end: KmeName) -> None:
        """An end's memory, its connections and what was on its way to it are gone."""
        self._up[end] = set()
        self._queue = deque((whom, event) for whom, event in self._queue if whom != end)

    def link(self, *hubs: HubName, only: KmeName | None = None) -> None:
        """Hubs come up, for both ends or for one."""
        for hub in hubs:
            for end in (ALICE, BOB) if only is None else (only,):
                self._up[end].add(hub)
                self.tell(end, HubUp(hub))

    def cut(self, *hubs: HubName, only: KmeName | None = None) -> None:
        """Hubs go down, for both ends or for one."""
        for hub in hubs:
            for end in (ALICE, BOB) if only is None else (only,):
                self._up[end].discard(hub)
                self.tell(end, HubDown(hub))

    def tell(self, end: KmeName, event: SenderEvent | ReceiverEvent) -> None:
        """Hand one event to an end at once; what follows from it waits for ``run``."""
        if end == ALICE:
            self._tell_alice(event)  # type: ignore[arg-type]  # the caller names the right end
        else:
            self._tell_bob(event)  # type: ignore[arg-type]  # the caller names the right end

    def _tell_alice(self, event: SenderEvent) -> None:
        effects = self.sender.handle(event, self.now)
        self.sent.commit(effects.persist, self.now)
        for send in effects.send:
            self._from_alice(send)
        for notice in effects.notify:
            self.told_alice.append(notice)
            if isinstance(notice, AnswerBatch) and self.answering:
                self._queue.append((BOB, Answered(ALICE, notice.batch, notice.ok)))

    def _tell_bob(self, event: ReceiverEvent) -> None:
        effects = self.receiver.handle(event, self.now)
        self.received.commit(effects.persist, self.now)
        for send in effects.send:
            self._from_bob(send)
        for notice in effects.notify:
            self.told_bob.append(notice)
            if isinstance(notice, SearchNeeded):
                self.searches.append(notice)
                if self.searching:
                    self.finish_search()

    def finish_search(self) -> None:
        """Run the oldest search that Bob asked for."""
        needed = self.searches.pop(0)
        outcome = reconstruct(needed.search)
        needed.search.wipe()
        self._queue.append((BOB, Searched(needed.number, outcome)))

    # ── hubs ────────────────────────────────────────────────────────────────────────────────────
    def _from_alice(self, send: SendToHub) -> None:
        match decode_message(encode_message(send.message), Direction.TO_HUB):
            case Share() as message:
                self.carried.append((send.hub, message))
                refusal = self._relay(send, message)
                self._queue.append((ALICE, AnsweredByHub(send.hub, send.token, refusal)))
            case message:
                raise AssertionError(message)

    def _relay(self, send: SendToHub, message: Share) -> int | None:
        if send.hub not in self._up[BOB]:
            return Refusal.RECEIVER_ABSENT
        honest = self.honest(message)
        lie = self.lies.get(send.hub)
        for shared in (honest,) if lie is None else lie(honest):
            self.bring(send.hub, shared, send.token)
        return None

    def honest(self, message: Share) -> Shared:
        """What an honest hub makes of Alice's SHARE."""
        batch = BatchId(self.incarnation, message.counter)
        return Shared(ALICE, batch, message.context, message.tag, message.share)

    @property
    def incarnation(self) -> Incarnation:
        """Alice's incarnation as her prefaces state it."""
        return self.sender.incarnation

    def bring(self, hub: HubName, shared: Shared, token: Hashable = None) -> None:
        """A hub brings Bob a share."""
        self._ordinal += 1
        self._tokens[hub, self._ordinal] = token
        message = decode_message(encode_message(shared), Direction.TO_KME)
        self._queue.append((BOB, FromHub(hub, self._ordinal, message)))  # type: ignore[arg-type]  # known type

    def _from_bob(self, send: SendToHub) -> None:
        message = decode_message(encode_message(send.message), Direction.TO_HUB)
        self.carried.append((send.hub, message))  # type: ignore[arg-type]  # known type
        match message:
            case Refuse(ordinal, refusal):
                token = self._tokens[send.hub, ordinal]
                if token is not None:
                    self._queue.append((ALICE, AnsweredByHub(send.hub, token, refusal)))
            case Confirm(_, confirmation):
                if send.hub in self._up[ALICE]:
                    self._queue.append((ALICE, FromHub(send.hub, 0, Confirmed(BOB, confirmation))))
                else:
                    self._queue.append((BOB, AnsweredByHub(send.hub, send.token, Refusal.RECEIVER_ABSENT)))
            case _:
                raise AssertionError(message)

    # ── running ─────────────────────────────────────────────────────────────────────────────────
    def run(self, most: int = 1_000_000) -> None:
        """Carry everything that waits and what follows from it, or so many things of it."""
        while self._queue and most:
            most -= 1
            self.tell(*self._queue.popleft())

    def shuffle(self) -> None:
        """Let what waits arrive in another order."""
        waiting = list(self._queue)
        self.chance.shuffle(waiting)
        self._queue = deque(waiting)

    def lose(self) -> list[tuple[KmeName, SenderEvent | ReceiverEvent]]:
        """Take away everything that waits."""
        lost = list(self._queue)
        self._queue.clear()
        return lost

    def advance(self, seconds: float) -> None:
        """Let time pass, with a tick at each deadline."""
        until = self.now + seconds
        while True:
            self.run()
            deadlines = (self.sender.next_deadline, self.receiver.next_deadline)
            due = min((deadline for deadline in deadlines if deadline is not None), default=until)
            if due >= until:
                break
            self.now = max(self.now, due)
            self.tell(ALICE, Tick())
            self.tell(BOB, Tick())
        self.now = until
        self.tell(ALICE, Tick())
        self.tell(BOB, Tick())
        self.run()

    def establish(
        self,
        *,
        keys: int = 2,
        key_bytes: int = 32,
        purpose: Purpose = Purpose.TRAFFIC,
        lifetime: int = 3600,
        group: GroupId | None = None,
        floor: int = 1,
        token: Hashable = None,
    ) -> None:
        """Alice makes a batch for Bob; ``run`` carries it."""
        needed = self.sender.entropy_bytes(BOB, keys, key_bytes)
        entropy = Secret(self.chance.randbytes(needed))
        self.tell(
            ALICE,
            Establish(
                BOB,
                keys,
                key_bytes,
                purpose,
                lifetime,
                group,
                floor,
                entropy,
                token,
                self.alices.independence,
            ),
        )

    def shares(self, **options: int) -> dict[HubName, Shared]:
        """Alice makes a batch; its shares as honest hubs would bring them, brought by none."""
        self.establish(**options)  # type: ignore[arg-type]  # plain numbers only
        self.lose()
        batch = max(message.counter for _, message in self.carried if isinstance(message, Share))
        return {
            hub: self.honest(message)
            for hub, message in self.carried
            if isinstance(message, Share) and message.counter == batch
        }
