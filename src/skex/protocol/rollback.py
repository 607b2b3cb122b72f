"""Whether this KME may deliver keys after a start, and what follows if it was rolled back.

A KME that was restored from an older state does not know it; the hubs that saw its later marks and
counts do, and say so in their prefaces. One hub may lie, so its word counts for its own link only.
Keys are revoked and other links suspended only on the KME's own evidence, or when as many hubs as
the threshold say the same.

How many hubs must have shown no rollback before anything is delivered: a majority, and never fewer
than the threshold, because two majorities always share a hub, so that some witness of the lost time
is among those asked. But keys must flow while no more than n - k hubs are down or lie, and these may
be the very hubs that a majority needs. So: with fewer than the threshold nothing is delivered; from
the threshold on the others have WITNESS_SECONDS to speak up; then the threshold suffices.

This module must not know links' marks, keys or peers; it tells others to freeze and to revoke.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Never, TypeAlias, assert_never

from skex.base import codes, limits
from skex.base.errors import ErrorCode, LocalBug
from skex.base.ids import HubName, LinkId
from skex.protocol.changes import Change, LinkFrozen, RollbackFound, RollbackSettled
from skex.protocol.effects import Collector, Effects
from skex.protocol.establishment import RealmsChanged
from skex.protocol.states import StateMachine, Table
from skex.protocol.traffic import Tick
from skex.wire.realm import Realm


# ── events ──────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class LinkProved:
    """A preface with ``hub`` finished; ``rolled_back``: it had seen this KME further than it is."""

    hub: HubName
    rolled_back: bool


@dataclass(frozen=True, slots=True)
class OwnContradiction:
    """This KME's pad files or store contradict themselves or each other; ``code`` says how."""

    code: ErrorCode


@dataclass(frozen=True, slots=True)
class LinkRenewed:
    """The operator enrolled the link to ``hub`` (again): what was said about an older one is past."""

    hub: HubName
    link_id: LinkId


@dataclass(frozen=True, slots=True)
class Settled:
    """The operator has dealt with the rollback: every suspended link was advanced or enrolled again."""


RollbackEvent: TypeAlias = LinkProved | OwnContradiction | LinkRenewed | RealmsChanged | Settled | Tick


# ── notices ─────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class FreezeLink:
    """``hub`` says that this KME was rolled back: its link is not used until it is enrolled again."""

    hub: HubName


@dataclass(frozen=True, slots=True)
class DeliveryAllowed:
    """Keys may be delivered: ``witnesses`` hubs showed no rollback.

    Fewer than ``wanted``: the others were waited for in vain, so a rollback that only they saw would
    go unnoticed; worth an audit record.
    """

    witnesses: int
    wanted: int


@dataclass(frozen=True, slots=True)
class RevokeEverything:
    """This KME was rolled back: revoke every undelivered key at both ends, suspend every link, alarm.

    Told again at each start until it is settled; whoever obeys must bear the repetition. ``hubs`` are
    those that said so; empty where the evidence is this KME's own.
    """

    code: str
    hubs: tuple[HubName, ...]


RollbackNotice: TypeAlias = FreezeLink | DeliveryAllowed | RevokeEverything
RollbackEffects: TypeAlias = Effects[Change, Never, RollbackNotice]


# ── states ──────────────────────────────────────────────────────────────────────────────────────
class RollbackState(Enum):
    """What is known since the start."""

    AWAITING_THRESHOLD = auto()
    AWAITING_MAJORITY = auto()
    NO_ROLLBACK_SEEN = auto()
    ROLLED_BACK = auto()


class RollbackStep(Enum):
    """What is learned."""

    TOO_FEW = auto()
    THRESHOLD_REACHED = auto()
    MAJORITY_REACHED = auto()
    WAITED_ENOUGH = auto()
    ROLLBACK_FOUND = auto()
    SETTLED = auto()


TABLE: Final[Table[RollbackState, RollbackStep]] = {
    (RollbackState.AWAITING_THRESHOLD, RollbackStep.TOO_FEW): RollbackState.AWAITING_THRESHOLD,
    (RollbackState.AWAITING_THRESHOLD, RollbackStep.THRESHOLD_REACHED): RollbackState.AWAITING_MAJORITY,
    (RollbackState.AWAITING_THRESHOLD, RollbackStep.MAJORITY_REACHED): RollbackState.NO_ROLLBACK_SEEN,
    (RollbackState.AWAITING_THRESHOLD, RollbackStep.ROLLBACK_FOUND): RollbackState.ROLLED_BACK,
    (RollbackState.AWAITING_MAJORITY, RollbackStep.TOO_FEW): RollbackState.AWAITING_THRESHOLD,
    (RollbackState.AWAITING_MAJORITY, RollbackStep.THRESHOLD_REACHED): RollbackState.AWAITING_MAJORITY,
    (RollbackState.AWAITING_MAJORITY, RollbackStep.MAJORITY_REACHED): RollbackState.NO_ROLLBACK_SEEN,
    (RollbackState.AWAITING_MAJORITY, RollbackStep.WAITED_ENOUGH): RollbackState.NO_ROLLBACK_SEEN,
    (RollbackState.AWAITING_MAJORITY, RollbackStep.ROLLBACK_FOUND): RollbackState.ROLLED_BACK,
    (RollbackState.NO_ROLLBACK_SEEN, RollbackStep.ROLLBACK_FOUND): RollbackState.ROLLED_BACK,
    (RollbackState.ROLLED_BACK, RollbackStep.ROLLBACK_FOUND): RollbackState.ROLLED_BACK,
    (RollbackState.ROLLED_BACK, RollbackStep.SETTLED): RollbackState.AWAITING_THRESHOLD,
}
INITIAL: Final = RollbackState.AWAITING_THRESHOLD


class RollbackWatch:
    """Watches one realm's links at a KME, from one start to the next.

    ``links`` are all links to hubs of the realm, frozen ones included; ``frozen`` the hubs whose link
    a start before froze because of a rollback; ``found`` the code of a ``RollbackFound`` that is not
    settled. A link enrolled directly between two KMEs is a realm of its own with one hub.
    """

    def __init__(
        self,
        realm: Realm,
        links: Mapping[HubName, LinkId],
        frozen: Iterable[HubName] = (),
        found: str | None = None,
    ) -> None:
        self._realm = realm
        self._links = dict(links)
        self._accusers = set(frozen)
        self._witnesses: set[HubName] = set()
        self._found = found
        self._waiting_since = 0.0
        initial = INITIAL if found is None else RollbackState.ROLLED_BACK
        self._machine: StateMachine[RollbackState, RollbackStep] = StateMachine(TABLE, initial)
        self._out: Collector[Change, Never, RollbackNotice] = Collector()

    @property
    def state(self) -> RollbackState:
        """The state as of the last event."""
        return self._machine.state

    @property
    def may_deliver(self) -> bool:
        """Whether keys may be delivered."""
        return self.state is RollbackState.NO_ROLLBACK_SEEN

    @property
    def next_deadline(self) -> float | None:
        """When a ``Tick`` is due: the majority was awaited for long enough."""
        if self.state is not RollbackState.AWAITING_MAJORITY:
            return None
        return self._waiting_since + limits.WITNESS_SECONDS

    @property
    def needed(self) -> int:
        """Hubs without which nothing is delivered: the threshold."""
        return self._realm.threshold

    @property
    def wanted(self) -> int:
        """Hubs whose word is awaited for a while: a majority of those that could have seen something."""
        return max(self.needed, len(self._active & self._links.keys()) // 2 + 1)

    @property
    def _active(self) -> set[HubName]:
        return {hub.name for hub in self._realm.active_hubs}

    def start(self, now: float) -> RollbackEffects:
        """What a start does before any event: a rollback that is not settled is told again."""
        if self._found is not None:
            self._out.notify(RevokeEverything(self._found, ()))
        self._weigh(now)
        return self._out.take()

    def handle(self, event: RollbackEvent, now: float) -> RollbackEffects:
        """Advance by one event.

        Raises ``LocalBug``: bug-argument for a hub without a link, bug-state for ``Settled`` where
        nothing was found (callers look at ``state``).
        """
        match event:
            case LinkProved(hub, rolled_back):
                self._proved(hub, rolled_back=rolled_back)
            case OwnContradiction(code):
                self._rolled_back(code.name, ())
            case LinkRenewed(hub, link_id):
                self._links[hub] = link_id
                self._accusers.discard(hub)
                self._witnesses.discard(hub)
            case RealmsChanged(realms):
                self._realm = self._realm if realms is None else realms.current
            case Settled():
                self._settle()
            case Tick():
                self._waited(now)
            case _:
                assert_never(event)
        self._weigh(now)
        return self._out.take()

    def _proved(self, hub: HubName, *, rolled_back: bool) -> None:
        if hub not in self._links:
            raise LocalBug(codes.BAD_ARGUMENT, f"no link to {hub}")
        if rolled_back:
            self._accusers.add(hub)
            self._out.persist(LinkFrozen(self._links[hub], codes.ROLLBACK_FOUND.name))
            self._out.notify(FreezeLink(hub))
        else:
            # An accuser's later prefaces say nothing: its first one brought this end's marks up to date.
            self._witnesses.add(hub)

    def _waited(self, now: float) -> None:
        deadline = self.next_deadline
        if deadline is not None and now >= deadline:
            self._allow(RollbackStep.WAITED_ENOUGH)

    def _settle(self) -> None:
        self._machine.step(RollbackStep.SETTLED)
        self._found = None
        self._accusers.clear()
        self._witnesses.clear()
        self._out.persist(RollbackSettled())

    def _weigh(self, now: float) -> None:
        """Draw the conclusion from who said what. A rollback found stays found until it is settled."""
        if self.state is RollbackState.ROLLED_BACK:
            return
        accusers = self._accusers & self._active
        if len(accusers) >= self.needed:
            self._rolled_back(codes.ROLLBACK_FOUND.name, tuple(sorted(accusers)))
        elif not self.may_deliver:
            self._count(now)

    @property
    def _witnessed(self) -> int:
        return len((self._witnesses - self._accusers) & self._active)

    def _count(self, now: float) -> None:
        if self._witnessed < self.needed:
            self._machine.step(RollbackStep.TOO_FEW)
        elif self._witnessed >= self.wanted:
            self._allow(RollbackStep.MAJORITY_REACHED)
        else:
            if self.state is RollbackState.AWAITING_THRESHOLD:
                self._waiting_since = now
            self._machine.step(RollbackStep.THRESHOLD_REACHED)

    def _allow(self, step: RollbackStep) -> None:
        self._machine.step(step)
        self._out.notify(DeliveryAllowed(self._witnessed, self.wanted))

    def _rolled_back(self, code: str, hubs: tuple[HubName, ...]) -> None:
        self._machine.step(RollbackStep.ROLLBACK_FOUND)
        self._found = code
        self._out.persist(RollbackFound(code))
        self._out.notify(RevokeEverything(code, hubs))
