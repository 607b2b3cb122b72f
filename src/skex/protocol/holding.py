"""Batches that a receiver accepted: confirmed until answered, kept until their time is over.

The CONFIRM of a batch is fixed; it goes out through every hub that brought a share, again and again
with longer waits, until the sender's authentic answer. Shares that come late are checked against the
accepted polynomial for a while. Keys themselves are the store's; nothing here holds one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Final

from skex.base import limits
from skex.base.ids import Coordinate, HubName, KmeName
from skex.base.secret import Secret
from skex.protocol.evidence import NO_EVIDENCE, Evidence, of_share
from skex.protocol.gathering import BatchKey, GroupKey
from skex.protocol.reconstruct import is_certain, share_at
from skex.protocol.states import StateMachine, Table
from skex.protocol.timers import Timers
from skex.wire.messages import Confirmation


class HeldState(Enum):
    """Of one accepted batch."""

    AWAITING_ANSWER = "awaiting answer"
    ANSWERED = "answered"
    VOIDED = "voided"
    DROPPED = "dropped"


class HeldStep(Enum):
    """What moves an accepted batch."""

    OK = "ok"
    VOID = "void"
    TIME_OVER = "time over"


HELD_TABLE: Final[Table[HeldState, HeldStep]] = {
    (HeldState.AWAITING_ANSWER, HeldStep.OK): HeldState.ANSWERED,
    (HeldState.AWAITING_ANSWER, HeldStep.VOID): HeldState.VOIDED,
    (HeldState.AWAITING_ANSWER, HeldStep.TIME_OVER): HeldState.DROPPED,
    (HeldState.ANSWERED, HeldStep.OK): HeldState.ANSWERED,
    (HeldState.ANSWERED, HeldStep.TIME_OVER): HeldState.DROPPED,
    (HeldState.VOIDED, HeldStep.VOID): HeldState.VOIDED,
    (HeldState.VOIDED, HeldStep.TIME_OVER): HeldState.DROPPED,
}
"""The first authentic answer is kept: a Void after an Ok, and an Ok after a Void, are left out."""

_ANSWERS: Final = {None: HeldState.AWAITING_ANSWER, True: HeldState.ANSWERED, False: HeldState.VOIDED}


@dataclass(frozen=True, slots=True)
class ReceivedBatch:
    """A row of the store at a start: a batch that was accepted and whose tombstone still stands.

    ``answer`` is None while unanswered. ``expires_at`` is when lifetime and margin are over, on the
    machine's clock; it may be past.
    """

    sender: KmeName
    confirmation: Confirmation
    through: tuple[HubName, ...]
    answer: bool | None
    expires_at: float


class Late:
    """The accepted polynomial, for shares that come after acceptance.

    ``right`` are the hubs whose share was on it, ``wrong`` those whose was not, with what shows it,
    ``expected`` those that brought none yet, ``missing`` those that brought none in time. ``since`` is
    when the batch was accepted; without ``shown`` nothing that follows from shares is kept of them.
    """

    __slots__ = ("_basis", "expected", "in_time", "key", "missing", "right", "shown", "since", "wrong")

    def __init__(
        self,
        key: GroupKey,
        basis: Mapping[Coordinate, Secret],
        expected: set[HubName],
        *,
        since: float = 0.0,
        shown: bool = True,
    ) -> None:
        self.key = key
        self._basis = dict(basis)
        self.right: set[HubName] = set()
        self.wrong: dict[HubName, Evidence] = {}
        self.in_time: frozenset[HubName] = frozenset()
        self.missing: frozenset[HubName] = frozenset()
        self.expected = expected
        self.since = since
        self.shown = shown

    @property
    def is_certain(self) -> bool:
        """Whether the hubs in ``wrong`` are proved wrong, as long as fewer than k hubs lie."""
        return is_certain(len(self.right), len(self._basis))

    @property
    def size(self) -> int:
        """Secret bytes held."""
        return sum(len(share) for share in self._basis.values())

    def note(self, hub: HubName, coordinate: Coordinate, share: Secret) -> bool:
        """Check the first share of a hub; whether it is on the accepted polynomial."""
        right = self.agrees(coordinate, share)
        if right:
            self.right.add(hub)
        else:
            self.wrong[hub] = self.evidence(coordinate, share)
        return right

    def agrees(self, coordinate: Coordinate, share: Secret) -> bool:
        """Whether a share is on the accepted polynomial."""
        with self._expected(coordinate) as expected:
            return expected == share

    def evidence(self, coordinate: Coordinate, share: Secret) -> Evidence:
        """What shows that a share is not the one that its hub was given."""
        if not self.shown:
            return NO_EVIDENCE
        with self._expected(coordinate) as expected:
            return Evidence(share=of_share(share), expected=of_share(expected))

    @contextmanager
    def _expected(self, coordinate: Coordinate) -> Iterator[Secret]:
        """The share of a coordinate that is on the accepted polynomial."""
        expected = Secret(share_at(self._basis, coordinate))
        try:
            yield expected
        finally:
            expected.wipe()

    def wipe(self) -> None:
        """Forget the polynomial."""
        for share in self._basis.values():
            share.wipe()


@dataclass(slots=True)
class Unanswered:
    """What is repeated until the sender answers: one CONFIRM, and the hubs it goes through."""

    sender: KmeName
    confirmation: Confirmation
    ways: set[HubName]
    wait: float = limits.CONFIRM_RESEND_SECONDS


@dataclass(frozen=True, slots=True)
class Due:
    """What time brought: CONFIRMs to repeat, and batches that are over.

    ``erased`` are those among ``expired`` whose keys were still kept.
    """

    confirms: tuple[Unanswered, ...]
    expired: tuple[BatchKey, ...]
    erased: tuple[BatchKey, ...]


class _Timer(Enum):
    CONFIRM = "confirm"
    EXPIRY = "expiry"
    LATE = "late"


class Holding:
    """Every accepted batch whose lifetime and margin are not over."""

    def __init__(self, rows: Iterable[ReceivedBatch]) -> None:
        self._machines: dict[BatchKey, StateMachine[HeldState, HeldStep]] = {}
        self._unanswered: dict[BatchKey, Unanswered] = {}
        self._per_sender: Counter[KmeName] = Counter()
        self._late: dict[BatchKey, Late] = {}
        self._late_bytes = 0
        self._closed: list[Late] = []
        self._timers: Timers[tuple[_Timer, BatchKey]] = Timers()
        for row in rows:
            key = BatchKey(row.sender, row.confirmation.batch)
            self._machines[key] = StateMachine(HELD_TABLE, _ANSWERS[row.answer])
            self._timers.set((_Timer.EXPIRY, key), row.expires_at)
            if row.answer is None:
                self._wait(key, Unanswered(row.sender, row.confirmation, set(row.through)))

    def _wait(self, key: BatchKey, unanswered: Unanswered) -> None:
        self._unanswered[key] = unanswered
        self._per_sender[key.sender] += 1

    @property
    def next_deadline(self) -> float | None:
        """When the first CONFIRM, polynomial or batch is due."""
        return self._timers.next

    def __contains__(self, key: BatchKey) -> bool:
        """Whether a batch was accepted and its time is not over."""
        return key in self._machines

    def count_unanswered(self, sender: KmeName) -> int:
        """How many batches of a sender await its answer."""
        return self._per_sender[sender]

    def late(self, key: BatchKey) -> Late | None:
        """The accepted polynomial, while late shares are checked against it."""
        return self._late.get(key)

    def accept(
        self, key: BatchKey, unanswered: Unanswered, late: Late, *, now: float, expires_at: float
    ) -> None:
        """Hold a batch that is accepted now."""
        self._machines[key] = StateMachine(HELD_TABLE, HeldState.AWAITING_ANSWER)
        self._timers.set((_Timer.EXPIRY, key), expires_at)
        self._wait(key, unanswered)
        self._schedule(key, unanswered, now)
        self._late[key] = late
        self._late_bytes += late.size
        self._timers.set((_Timer.LATE, key), now + limits.LATE_SHARE_SECONDS)
        if not late.expected:
            self._forget_polynomial(key)
        while self._late_bytes > limits.LATE_SHARE_BYTES:
            self._forget_polynomial(next(iter(self._late)))

    def late_came(self, key: BatchKey, hub: HubName) -> None:
        """A hub's late share was checked; once every hub brought one the polynomial is forgotten."""
        late = self._late[key]
        late.expected.discard(hub)
        if not late.expected:
            self._forget_polynomial(key)

    def _forget_polynomial(self, key: BatchKey) -> None:
        late = self._late.pop(key, None)
        if late is not None:
            self._late_bytes -= late.size
            late.wipe()
            self._closed.append(late)
            self._timers.cancel((_Timer.LATE, key))

    def closed(self) -> list[Late]:
        """The polynomials forgotten since the last call, with what was found about their hubs."""
        closed, self._closed = self._closed, []
        return closed

    def answer(self, key: BatchKey, *, ok: bool) -> HeldState | None:
        """Step on the sender's answer: the state before it, or None if it may not come now."""
        machine = self._machines.get(key)
        step = HeldStep.OK if ok else HeldStep.VOID
        if machine is None or not machine.allows(step):
            return None
        before = machine.state
        machine.step(step)
        self._settle(key)
        return before

    def _settle(self, key: BatchKey) -> None:
        """Nothing is repeated any more."""
        if self._unanswered.pop(key, None) is not None:
            self._per_sender[key.sender] -= 1
            self._timers.cancel((_Timer.CONFIRM, key))

    # ── repeating CONFIRMs ──────────────────────────────────────────────────────────────────────
    def _schedule(self, key: BatchKey, unanswered: Unanswered, now: float) -> None:
        self._timers.set((_Timer.CONFIRM, key), now + unanswered.wait)
        unanswered.wait = min(2 * unanswered.wait, limits.CONFIRM_RESEND_SECONDS_MAX)

    def _schedule_if_idle(self, key: BatchKey, unanswered: Unanswered, now: float) -> None:
        if (_Timer.CONFIRM, key) not in self._timers:
            self._schedule(key, unanswered, now)

    def through(self, hub: HubName, now: float) -> Iterator[Unanswered]:
        """The CONFIRMs that wait and may go through a hub that came up."""
        for key, unanswered in self._unanswered.items():
            if hub in unanswered.ways:
                self._schedule_if_idle(key, unanswered, now)
                yield unanswered

    def open_way(self, key: BatchKey, hub: HubName, now: float) -> Unanswered | None:
        """A further hub brought a share: what may go through it, if the answer is still awaited."""
        unanswered = self._unanswered.get(key)
        if unanswered is not None:
            unanswered.ways.add(hub)
            self._schedule_if_idle(key, unanswered, now)
        return unanswered

    def close_way(self, key: BatchKey, hub: HubName) -> None:
        """A hub relays this CONFIRM no more."""
        unanswered = self._unanswered.get(key)
        if unanswered is not None:
            unanswered.ways.discard(hub)
            if not unanswered.ways:
                self._timers.cancel((_Timer.CONFIRM, key))

    # ── time ────────────────────────────────────────────────────────────────────────────────────
    def due(self, now: float) -> Due:
        """Everything whose time has come."""
        confirms: list[BatchKey] = []
        expired: list[BatchKey] = []
        erased: list[BatchKey] = []
        for timer, key in self._timers.due(now):
            if timer is _Timer.LATE:
                late = self._late[key]
                late.missing = frozenset(late.expected)
                self._forget_polynomial(key)
            elif timer is _Timer.CONFIRM:
                confirms.append(key)
            else:
                expired.append(key)
                if self._machines[key].state is not HeldState.VOIDED:
                    erased.append(key)
                self._expire(key)
        # What is over is not repeated, even if both became due at once.
        waiting = [key for key in confirms if key in self._unanswered]
        for key in waiting:
            self._schedule(key, self._unanswered[key], now)
        return Due(tuple(self._unanswered[key] for key in waiting), tuple(expired), tuple(erased))

    def _expire(self, key: BatchKey) -> None:
        self._machines.pop(key).step(HeldStep.TIME_OVER)
        self._settle(key)
        self._forget_polynomial(key)
