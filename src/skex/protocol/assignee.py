"""The receiver's side of ASSIGN: which keys are held, for whom they are recorded, who may take them.

A key is recorded once. Nothing is answered before the record is durable, so whoever delivers at the
sender's end finds the entitled SAE known here. Recorded keys outlive a restart, and are neither
expired nor voided within the hold, even when another incarnation of the sender asks for it: the
sender that still runs may be the one that was promised the hold. It must not know how messages are
sealed, or a key.

Repetitions are harmless: an ASSIGN with equal id and content gets the same answer, a VOID of keys
that are gone is done, and neither brings a key back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol, TypeAlias, assert_never

from skex.base import limits
from skex.base.ids import BatchId, HubName, Incarnation, KmeName, RequestId, SaeId, kme_of
from skex.protocol.changes import BatchAnswered, KeysAssigned, KeysVoided, Role
from skex.protocol.effects import Collector, Effects
from skex.protocol.keysets import KeySet
from skex.protocol.receiver import Answered
from skex.protocol.states import StateMachine, Table
from skex.protocol.ways import KeysTakenBack, Post
from skex.wire.peer import Assign, Assigned, AssignRefusal, KeyRange, NotAssigned, PeerDone, VoidKeys


class AssignPolicy(Protocol):
    """Whether this end lets a peer's SAE share keys with SAEs here. Pure and synchronous."""

    def may_assign(
        self, sender: KmeName, master: SaeId, slaves: tuple[SaeId, ...], purpose: str, lifetime: int
    ) -> bool:
        """``master`` is of ``sender`` and every slave of this KME: that is checked before."""
        ...


# ── what the machine is asked ───────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class KeysHeld:
    """These keys of a traffic batch of ``sender`` are durable here, whether assigned or not.

    ``answered`` is whether the sender answered the batch's CONFIRM with Ok. Keys of one batch come in
    one event.
    """

    sender: KmeName
    batch: BatchId
    keys: tuple[KeyRange, ...]
    answered: bool


@dataclass(frozen=True, slots=True)
class KeysGone:
    """These keys are erased here: every slave took them, or they expired."""

    sender: KmeName
    keys: tuple[KeyRange, ...]


@dataclass(frozen=True, slots=True)
class PeerAsked:
    """A message of ``sender`` was opened; its answer goes back through the hub that brought it.

    So a hub that replays it spends the pads of its own links only.
    """

    sender: KmeName
    hub: HubName
    message: Assign | VoidKeys


AssigneeEvent: TypeAlias = KeysHeld | KeysGone | KeysTakenBack | PeerAsked


# ── what the machine tells ──────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class KeysRecorded:
    """Keys were assigned: the slaves named in it may take them from now on."""

    assigned: KeysAssigned


@dataclass(frozen=True, slots=True)
class KeysLost:
    """The sender voided these keys; they are erased."""

    sender: KmeName
    keys: tuple[KeyRange, ...]


AssigneeChange: TypeAlias = KeysAssigned | KeysVoided | BatchAnswered
AssigneeNotice: TypeAlias = KeysRecorded | KeysLost | Answered
AssigneeEffects: TypeAlias = Effects[AssigneeChange, Post, AssigneeNotice]


# ── states ──────────────────────────────────────────────────────────────────────────────────────
class RecordState(Enum):
    """Of one recorded assignment. Slaves may take its keys in both of the first two."""

    HELD = auto()
    LAPSED = auto()
    GONE = auto()


class RecordStep(Enum):
    """What happens to one recorded assignment."""

    RENEWED = auto()
    HOLD_OVER = auto()
    EMPTIED = auto()


TABLE: Final[Table[RecordState, RecordStep]] = {
    (RecordState.HELD, RecordStep.RENEWED): RecordState.HELD,
    (RecordState.HELD, RecordStep.HOLD_OVER): RecordState.LAPSED,
    (RecordState.HELD, RecordStep.EMPTIED): RecordState.GONE,
    (RecordState.LAPSED, RecordStep.RENEWED): RecordState.HELD,
    (RecordState.LAPSED, RecordStep.EMPTIED): RecordState.GONE,
}
INITIAL: Final = RecordState.HELD


class _Record:
    """One assignment and what is left of it."""

    def __init__(self, assigned: KeysAssigned, left: KeySet, held_until: float, attempt: int) -> None:
        self.assigned = assigned
        self.left = left
        self.held_until = held_until
        self.attempt = attempt
        self.broken = False
        """Keys were voided or revoked: a renewal would promise what is gone."""
        self.machine: StateMachine[RecordState, RecordStep] = StateMachine(TABLE, INITIAL)

    def is_held(self, now: float) -> bool:
        """Whether the hold and its margin still run."""
        if self.machine.state is RecordState.HELD and now >= self.held_until:
            self.machine.step(RecordStep.HOLD_OVER)
        return self.machine.state is RecordState.HELD

    def renew(self, attempt: int, now: float, held_until: float) -> None:
        """A later sending came: hold anew, also what had lapsed and was not voided yet."""
        self.is_held(now)
        self.machine.step(RecordStep.RENEWED)
        self.attempt, self.held_until = attempt, held_until

    def is_repeated_by(self, message: Assign) -> bool:
        """Equal incarnation and content: the same ASSIGN, sent again."""
        mine = self.assigned
        return (mine.incarnation, mine.keys, mine.master, mine.slaves, mine.purpose, mine.lifetime) == (
            message.incarnation,
            message.keys,
            message.master,
            message.slaves,
            message.purpose,
            message.lifetime,
        )


class _Sender:
    """What is held of one sender."""

    def __init__(self) -> None:
        self.held = KeySet()
        self.answered: dict[BatchId, bool] = {}
        self.records: dict[RequestId, _Record] = {}
        self.by_batch: dict[BatchId, list[_Record]] = {}

    def enter(self, record: _Record) -> None:
        self.records[record.assigned.request] = record
        for batch in record.left.batches:
            self.by_batch.setdefault(batch, []).append(record)

    def touching(self, keys: Iterable[KeyRange]) -> list[_Record]:
        """The records that have one of these keys left, each once, in order of their ids."""
        keys = tuple(keys)
        found = {
            record.assigned.request: record
            for one in keys
            for record in self.by_batch.get(one.batch, ())
            if record.left.common((one,))
        }
        return [found[request] for request in sorted(found)]

    def remove(self, keys: tuple[KeyRange, ...], *, broken: bool) -> None:
        """These keys are not held any more."""
        for record in self.touching(keys):
            record.left.remove(keys)
            record.broken |= broken
            if not record.left:
                record.machine.step(RecordStep.EMPTIED)
                del self.records[record.assigned.request]
        self.held.remove(keys)
        for batch in {one.batch for one in keys}:
            self._tidy(batch)

    def _tidy(self, batch: BatchId) -> None:
        left = [record for record in self.by_batch.pop(batch, ()) if record.left.of_batch(batch)]
        if left:
            self.by_batch[batch] = left
        if not self.held.of_batch(batch):
            self.answered.pop(batch, None)


class Assignee:
    """All assignments that other KMEs made to SAEs of this one."""

    def __init__(
        self,
        name: KmeName,
        incarnation: Incarnation,
        policy: AssignPolicy,
        *,
        held: Iterable[KeysHeld],
        assigned: Iterable[KeysAssigned],
        now: float,
        hold: int = limits.ASSIGN_HOLD_SECONDS,
    ) -> None:
        """``held`` and ``assigned`` as stored; the hold of what was assigned before begins anew."""
        self._name = name
        self._incarnation = incarnation
        self._policy = policy
        self._hold = hold
        self._senders: dict[KmeName, _Sender] = {}
        self._out: Collector[AssigneeChange, Post, AssigneeNotice] = Collector()
        for batch in held:
            self._hold_keys(batch)
        for one in assigned:
            sender = self._sender(one.sender)
            if left := sender.held.common(one.keys):
                sender.enter(_Record(one, left, self._held_until(now), attempt=0))

    # ── queries ─────────────────────────────────────────────────────────────────────────────────
    def assignment(self, sender: KmeName, batch: BatchId, index: int) -> KeysAssigned | None:
        """For whom a key is recorded, if it is."""
        records = self._records(sender, batch)
        return next((one.assigned for one in records if one.left.has(batch, index)), None)

    def may_take(self, sender: KmeName, batch: BatchId, index: int, slave: SaeId) -> bool:
        """Whether a key is held, assigned, and ``slave`` one of those it is for."""
        assigned = self.assignment(sender, batch, index)
        return assigned is not None and slave in assigned.slaves

    def held_until(self, sender: KmeName, batch: BatchId) -> float | None:
        """The instant before which no key of a batch may be expired, if any is assigned."""
        return max((record.held_until for record in self._records(sender, batch)), default=None)

    def _records(self, sender: KmeName, batch: BatchId) -> Iterable[_Record]:
        mine = self._senders.get(sender)  # asking about a name that nobody enrolled must cost nothing
        return () if mine is None else mine.by_batch.get(batch, ())

    # ── events ──────────────────────────────────────────────────────────────────────────────────
    def handle(self, event: AssigneeEvent, now: float) -> AssigneeEffects:
        """Take one event. It has no deadlines of its own: the sender repeats what was not done."""
        match event:
            case KeysHeld():
                self._hold_keys(event)
            case KeysGone(sender, keys):
                self._sender(sender).remove(keys, broken=False)
            case KeysTakenBack(sender, taken):
                self._taken_back(sender, taken)
            case PeerAsked(sender, hub, message):
                if isinstance(message, Assign):
                    self._assign(sender, hub, message, now)
                else:
                    self._void(sender, hub, message, now)
            case _:
                assert_never(event)
        return self._out.take()

    def answered(self, sender: KmeName, batch: BatchId, *, ok: bool) -> None:
        """Note the sender's answer to a CONFIRM, which the receiver of batches makes durable.

        The first authentic answer is final; the keys of a batch that it voids are not held any more.
        """
        mine = self._sender(sender)
        if ok and batch in mine.answered:
            mine.answered[batch] = True
        elif mine.answered.get(batch) is False:
            mine.remove(mine.held.of_batch(batch), broken=True)

    def _sender(self, sender: KmeName) -> _Sender:
        return self._senders.setdefault(sender, _Sender())

    def _held_until(self, now: float) -> float:
        return now + self._hold + limits.ASSIGN_HOLD_MARGIN_SECONDS

    def _hold_keys(self, event: KeysHeld) -> None:
        sender = self._sender(event.sender)
        sender.held.add(event.keys)
        sender.answered[event.batch] = event.answered

    def _taken_back(self, sender: KmeName, keys: tuple[KeyRange, ...] | None) -> None:
        if keys is None:
            self._senders.pop(sender, None)
        else:
            self._sender(sender).remove(keys, broken=True)

    # ── ASSIGN ──────────────────────────────────────────────────────────────────────────────────
    def _assign(self, sender: KmeName, hub: HubName, message: Assign, now: float) -> None:
        known = self._sender(sender).records.get(message.request)
        refusal = self._refusal(sender, message, known)
        if refusal is not None:
            answer = NotAssigned(message.request, self._incarnation, refusal)
            self._out.send(Post(hub, Role.RECEIVER, sender, answer))
            return
        if known is None:
            self._record(sender, message, now)
        elif message.attempt > known.attempt:
            # A replayed sending is answered, but postpones no VOID.
            known.renew(message.attempt, now, self._held_until(now))
        assigned = Assigned(message.request, self._incarnation, self._hold, message.attempt)
        self._out.send(Post(hub, Role.RECEIVER, sender, assigned))

    def _refusal(self, name: KmeName, message: Assign, known: _Record | None) -> AssignRefusal | None:
        """Why an ASSIGN is refused, all of it; what the sender must know most comes first."""
        sender = self._sender(name)
        if message.receiver_incarnation != self._incarnation:
            return AssignRefusal.INCARNATION_CHANGED
        if known is not None:
            if not known.is_repeated_by(message):
                return AssignRefusal.KEY_ASSIGNED
            return AssignRefusal.KEY_NOT_HELD if known.broken else None
        if not self._is_allowed(name, message):
            return AssignRefusal.NOT_AUTHORISED
        if sender.touching(message.keys):
            return AssignRefusal.KEY_ASSIGNED
        return None if sender.held.contains(message.keys) else AssignRefusal.KEY_NOT_HELD

    def _is_allowed(self, sender: KmeName, message: Assign) -> bool:
        """Nobody speaks for another KME's SAE; the rest is policy."""
        if kme_of(message.master) != sender or any(kme_of(one) != self._name for one in message.slaves):
            return False
        return self._policy.may_assign(
            sender, message.master, message.slaves, message.purpose, message.lifetime
        )

    def _record(self, name: KmeName, message: Assign, now: float) -> None:
        sender = self._sender(name)
        assigned = KeysAssigned(
            name,
            message.request,
            message.incarnation,
            message.keys,
            message.master,
            message.slaves,
            message.purpose,
            message.lifetime,
        )
        sender.enter(_Record(assigned, KeySet(message.keys), self._held_until(now), message.attempt))
        self._out.persist(assigned)
        for batch in {one.batch: None for one in message.keys}:
            # Whoever assigns keys has committed them: an Ok. A restored sender's Void must find the
            # batch answered.
            if not sender.answered[batch]:
                sender.answered[batch] = True
                self._out.persist(BatchAnswered(name, batch, ok=True))
                self._out.notify(Answered(name, batch, ok=True))
        self._out.notify(KeysRecorded(assigned))

    # ── VOID ────────────────────────────────────────────────────────────────────────────────────
    def _void(self, name: KmeName, hub: HubName, message: VoidKeys, now: float) -> None:
        """Erase what may be erased now; say that it is done only when nothing was put off.

        What is put off is not remembered: the sender repeats the message until it is done.
        """
        sender = self._sender(name)
        doomed = sender.held.common(message.keys)
        put_off = False
        for record in sender.touching(message.keys):
            if record.assigned.incarnation != message.incarnation and record.is_held(now):
                doomed.remove(record.left.ranges())
                put_off = True
        if doomed:
            keys = doomed.ranges()
            self._out.persist(KeysVoided(Role.RECEIVER, name, keys))
            sender.remove(keys, broken=True)
            self._out.notify(KeysLost(name, keys))
        if not put_off:
            done = PeerDone((message.request,))
            self._out.send(Post(hub, Role.RECEIVER, name, done))
