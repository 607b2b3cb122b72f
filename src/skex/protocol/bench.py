"""Counts what hubs bring, keeps what shows that they did wrong, and takes hubs out of use for a while.

A hub is put on the bench by policy, or by an operator's command for all peers. By policy it is only ever
benched for batches with the peer in whose batches it did wrong: who makes the shares can make any hub
look wrong, and must harm nobody's batches but its own. What is not certain benches nobody.

The bench must never cost keys that the honest hubs could carry. A hub that policy benched may be honest
(framed, or repaired since), so with any such hubs refused outright n - k others that lie would be enough
to stop the keys. Therefore its shares are only used last: a receiver tries them where those of the others
do not suffice, a sender leaves the hub out while at least k others are up, and takes it in again once a
batch came to nothing. Only an operator takes a hub out wholly.

A hub comes back by itself, by command, or because it is needed, and is then on probation: the next share
that is wrong for certain benches it again. This machine must not know realms, links or shares.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Never, Protocol, TypeAlias, assert_never

from skex.base import codes, limits
from skex.base.errors import Refused
from skex.base.ids import BatchId, HubName, KmeName
from skex.protocol.changes import (
    BenchCause,
    BenchChange,
    BenchEnded,
    BenchKept,
    EvidenceKept,
    Tally,
    TallyKept,
)
from skex.protocol.effects import Collector, Effects
from skex.protocol.receiver import HubBlamed, ShareCounted, ShareMissing, SharesRight
from skex.protocol.standing import Standing
from skex.protocol.states import StateMachine, Table
from skex.protocol.timers import Timers
from skex.protocol.traffic import Tick


# ── what policy says ────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class BenchRule:
    """When a hub is benched for batches with one peer. None: never for that.

    ``wrong_shares`` within ``limits.BENCH_WINDOW_SECONDS``, each of another batch; ``missing_in_a_row``.
    The rules' ids are those that set the two.
    """

    wrong_shares: int | None
    missing_in_a_row: int | None
    seconds: int
    wrong_rule: str
    missing_rule: str


class BenchRules(Protocol):
    """The policy in force; pure and synchronous."""

    def bench_rule(self, hub: HubName, peer: KmeName) -> BenchRule | None:
        """What holds for a hub and a peer, if anything does."""
        ...


# ── events ──────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class BenchHub:
    """An operator takes a hub out of use, for all peers; ``seconds`` None until a command ends it."""

    hub: HubName
    seconds: float | None
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BringBack:
    """An operator wants a hub used again, whoever benched it and for whom."""

    hub: HubName
    by: str


@dataclass(frozen=True, slots=True)
class BatchFailed:
    """A batch for ``peer`` came to nothing, and it was not the peer who refused it."""

    peer: KmeName


Seen: TypeAlias = HubBlamed | ShareCounted | ShareMissing | SharesRight
"""What a receiver tells of its hubs."""
BenchEvent: TypeAlias = BenchHub | BringBack | BatchFailed | Tick | Seen


# ── notices ─────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class HubBenched:
    """A hub is on the bench from now on; see ``BenchKept``."""

    kept: BenchKept


class Return(Enum):
    """Why a hub came back."""

    TIME_OVER = "time-over"
    NEEDED = "needed"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class HubBroughtBack:
    """A hub is used again for batches with ``peer``, None for all, on probation."""

    hub: HubName
    peer: KmeName | None
    why: Return
    by: str = ""


BenchNotice: TypeAlias = HubBenched | HubBroughtBack
BenchEffects: TypeAlias = Effects[BenchChange, Never, BenchNotice]


# ── states ──────────────────────────────────────────────────────────────────────────────────────
class BenchState(Enum):
    """Of one hub, for one peer or for all."""

    PLAYING = "playing"
    BENCHED = "benched"
    ON_PROBATION = "on probation"


class BenchStep(Enum):
    """What moves it."""

    BENCH = "bench"
    TIME_OVER = "time over"
    NEEDED = "needed"
    BROUGHT_BACK = "brought back"


BENCH_TABLE: Final[Table[BenchState, BenchStep]] = {
    (BenchState.PLAYING, BenchStep.BENCH): BenchState.BENCHED,
    (BenchState.BENCHED, BenchStep.BENCH): BenchState.BENCHED,
    (BenchState.BENCHED, BenchStep.TIME_OVER): BenchState.ON_PROBATION,
    (BenchState.BENCHED, BenchStep.NEEDED): BenchState.ON_PROBATION,
    (BenchState.BENCHED, BenchStep.BROUGHT_BACK): BenchState.ON_PROBATION,
    (BenchState.ON_PROBATION, BenchStep.BENCH): BenchState.BENCHED,
    (BenchState.ON_PROBATION, BenchStep.TIME_OVER): BenchState.PLAYING,
}

_Place: TypeAlias = tuple[HubName, KmeName | None]


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store holds at a start. ``wrong``: certain blames, with the seconds since then."""

    tallies: tuple[TallyKept, ...] = ()
    entries: tuple[BenchKept, ...] = ()
    wrong: tuple[tuple[HubName, KmeName, BatchId, float], ...] = ()


class _Entry:
    """One hub that is not simply playing."""

    __slots__ = ("kept", "machine", "until")

    def __init__(self) -> None:
        self.machine: StateMachine[BenchState, BenchStep] = StateMachine(BENCH_TABLE, BenchState.PLAYING)
        self.kept: BenchKept
        self.until: float | None = None

    @property
    def benched(self) -> bool:
        """On the bench, not on probation."""
        return self.machine.state is BenchState.BENCHED


class Bench:
    """Every hub's counts and standing at one KME, from a start to its end."""

    def __init__(self, rules: BenchRules, stored: Stored, now: float) -> None:
        self._rules = rules
        self._tallies: defaultdict[HubName, dict[KmeName | None, Tally]] = defaultdict(dict)
        for tally in stored.tallies:
            self._tallies[tally.hub][tally.peer] = tally.tally
        self._entries: dict[_Place, _Entry] = {}
        self._timers: Timers[_Place] = Timers()
        for kept in stored.entries:
            self._restore(kept, now)
        self._wrong: dict[tuple[HubName, KmeName], deque[tuple[float, BatchId]]] = {}
        for hub, peer, batch, ago in stored.wrong:
            if (hub, peer) not in self._entries and peer in self._tallies[hub]:
                self._note_wrong(hub, peer, batch, now - ago)
        self._written: Counter[HubName] = Counter()
        self._minute = now
        self._unwritten: dict[_Place, None] = {}
        self._write_at: float | None = None
        self._out: Collector[BenchChange, Never, BenchNotice] = Collector()

    # ── queries ─────────────────────────────────────────────────────────────────────────────────
    @property
    def next_deadline(self) -> float | None:
        """When the machine wants a ``Tick``."""
        deadlines = (self._timers.next, self._write_at)
        return min((one for one in deadlines if one is not None), default=None)

    def standing(self, hub: HubName, peer: KmeName) -> Standing:
        """How a hub is used for batches with a peer."""
        if not self._entries:
            return Standing.PLAYS
        for_all, for_one = self._entries.get((hub, None)), self._entries.get((hub, peer))
        if for_all is not None and for_all.benched:
            return Standing.OUT
        return Standing.LAST if for_one is not None and for_one.benched else Standing.PLAYS

    def is_out(self, hub: HubName) -> bool:
        """Whether an operator took the hub out of use."""
        entry = self._entries.get((hub, None))
        return entry is not None and entry.benched

    def tally(self, hub: HubName) -> Tally:
        """A hub's counts, all peers together; none of them in a row."""
        every = self._tallies.get(hub, {}).values()
        return Tally(
            in_time=sum(one.in_time for one in every),
            late=sum(one.late for one in every),
            missing=sum(one.missing for one in every),
            wrong=sum(one.wrong for one in every),
            suspected=sum(one.suspected for one in every),
        )

    def tallies(self, hub: HubName) -> tuple[TallyKept, ...]:
        """A hub's counts, each peer's apart."""
        found = self._tallies.get(hub, {}).items()
        return tuple(TallyKept(hub, peer, tally) for peer, tally in found)

    def entries(self, now: float) -> tuple[BenchKept, ...]:
        """Every hub that is benched or on probation, with what is left of it."""
        return tuple(replace(one.kept, seconds=_left(one, now)) for one in self._entries.values())

    # ── events ──────────────────────────────────────────────────────────────────────────────────
    def handle(self, event: BenchEvent, now: float) -> BenchEffects:
        """Take one event. Raises ``Refused`` (hub-not-benched) for a ``BringBack``; nothing changed then."""
        match event:
            case HubBlamed():
                self._blamed(event, now)
            case SharesRight(hubs, peer):
                for hub in hubs:
                    self._count(hub, peer, now, in_time=1)
            case ShareCounted(hub, peer):
                self._count(hub, peer, now, late=1)
            case ShareMissing():
                self._missing(event, now)
            case BenchHub(hub, seconds, by, reason):
                kept = BenchKept(hub, None, True, seconds, BenchCause.COMMAND, "", by, reason)  # noqa: FBT003  # benched
                self._bench(kept, now)
            case BringBack(hub, by):
                self._bring_back(hub, by, now)
            case BatchFailed(peer):
                for place in self._benched_for(peer):
                    self._return(place, BenchStep.NEEDED, Return.NEEDED, now)
            case Tick():
                self._on_time(now)
            case _:
                assert_never(event)
        return self._out.take()

    # ── counting ────────────────────────────────────────────────────────────────────────────────
    def _place(self, hub: HubName, peer: KmeName) -> _Place:
        """Where a hub's shares of a peer's batches are counted."""
        peers = self._tallies[hub]
        full = peer not in peers and len(peers) >= limits.TALLY_PEERS_PER_HUB
        return hub, None if full else peer

    def _count(self, hub: HubName, peer: KmeName, now: float, *, in_time: int = 0, late: int = 0) -> None:
        """A share was right."""
        place = self._place(hub, peer)
        before = self._of(place)
        self._set(
            place, replace(before, in_time=before.in_time + in_time, late=before.late + late, in_a_row=0), now
        )

    def _of(self, place: _Place) -> Tally:
        return self._tallies[place[0]].get(place[1], Tally())

    def _set(self, place: _Place, tally: Tally, now: float, *, at_once: bool = False) -> None:
        """Count; what is of no consequence is written later, many together."""
        self._tallies[place[0]][place[1]] = tally
        if at_once:
            self._unwritten.pop(place, None)
            self._out.persist(TallyKept(*place, tally))
            return
        self._unwritten[place] = None
        if self._write_at is None:
            self._write_at = now + limits.TALLY_SECONDS

    # ── judging ─────────────────────────────────────────────────────────────────────────────────
    def _blamed(self, blamed: HubBlamed, now: float) -> None:
        hub, peer = blamed.hub, blamed.sender
        place = self._place(hub, peer)
        before = self._of(place)
        sure = int(blamed.certain)
        tally = replace(before, wrong=before.wrong + sure, suspected=before.suspected + 1 - sure, in_a_row=0)
        written = self._may_write(hub, now)
        self._set(place, tally, now, at_once=written)
        if written:
            self._out.persist(
                EvidenceKept(hub, peer, blamed.batch, blamed.blame, blamed.certain, blamed.evidence)
            )
        if blamed.certain and place[1] is not None:
            self._weigh(hub, peer, self._note_wrong(hub, peer, blamed.batch, now), now)

    def _may_write(self, hub: HubName, now: float) -> bool:
        """Whether there is room for evidence against a hub in this minute."""
        if now - self._minute >= 60:
            self._minute = now
            self._written.clear()
        self._written[hub] += 1
        return self._written[hub] <= limits.EVIDENCE_PER_MINUTE

    def _note_wrong(self, hub: HubName, peer: KmeName, batch: BatchId, at: float) -> int:
        """How many batches of the last while a hub brought a wrong share for, this one included."""
        found = self._wrong.setdefault((hub, peer), deque(maxlen=limits.BENCH_WRONG_SHARES_MAX))
        while found and at - found[0][0] >= limits.BENCH_WINDOW_SECONDS:
            found.popleft()
        if all(batch != other for _, other in found):
            found.append((at, batch))
        return len(found)

    def _weigh(self, hub: HubName, peer: KmeName, wrong: int, now: float) -> None:
        """Whether a hub that brought a wrong share just now is benched for it."""
        rule = self._rules.bench_rule(hub, peer)
        if rule is None or self.standing(hub, peer) is not Standing.PLAYS:
            return
        if any(place in self._entries for place in ((hub, peer), (hub, None))):
            cause = BenchCause.WRONG_ON_PROBATION
            named = rule.missing_rule if rule.wrong_shares is None else rule.wrong_rule
        elif rule.wrong_shares is not None and wrong >= rule.wrong_shares:
            cause, named = BenchCause.WRONG_SHARES, rule.wrong_rule
        else:
            return
        self._bench(BenchKept(hub, peer, True, rule.seconds, cause, named), now)  # noqa: FBT003  # benched

    def _missing(self, missing: ShareMissing, now: float) -> None:
        hub, peer = missing.hub, missing.sender
        place = self._place(hub, peer)
        before = self._of(place)
        row = before.in_a_row + int(missing.connected)
        rule = self._rules.bench_rule(hub, peer) if missing.connected else None
        most = None if rule is None else rule.missing_in_a_row
        over = rule is not None and most is not None and row >= most
        benches = over and place[1] is not None and self.standing(hub, peer) is Standing.PLAYS
        tally = replace(before, missing=before.missing + 1, in_a_row=0 if benches else row)
        self._set(place, tally, now, at_once=benches)
        if rule is not None and benches:
            cause = BenchCause.MISSING_SHARES
            self._bench(BenchKept(hub, peer, True, rule.seconds, cause, rule.missing_rule), now)  # noqa: FBT003  # benched

    # ── on the bench and back ───────────────────────────────────────────────────────────────────
    def _bench(self, kept: BenchKept, now: float) -> None:
        place = (kept.hub, kept.peer)
        entry = self._entries.setdefault(place, _Entry())
        entry.machine.step(BenchStep.BENCH)
        self._keep(place, entry, kept, now)
        if kept.peer is not None:
            self._wrong.pop((kept.hub, kept.peer), None)
        self._out.notify(HubBenched(kept))

    def _keep(self, place: _Place, entry: _Entry, kept: BenchKept, now: float) -> None:
        self._schedule(place, entry, kept, now)
        self._out.persist(kept)

    def _schedule(self, place: _Place, entry: _Entry, kept: BenchKept, now: float) -> None:
        entry.kept = kept
        entry.until = None if kept.seconds is None else now + kept.seconds
        if entry.until is None:
            self._timers.cancel(place)
        else:
            self._timers.set(place, entry.until)

    def _restore(self, kept: BenchKept, now: float) -> None:
        """Take up what the store holds; what is over by now is due at once."""
        place = (kept.hub, kept.peer)
        entry = self._entries[place] = _Entry()
        entry.machine.step(BenchStep.BENCH)
        if not kept.benched:
            entry.machine.step(BenchStep.TIME_OVER)
        self._schedule(place, entry, kept, now)

    def _benched_for(self, peer: KmeName) -> list[_Place]:
        """Whom policy benched for a peer."""
        return [place for place, entry in self._entries.items() if place[1] == peer and entry.benched]

    def _bring_back(self, hub: HubName, by: str, now: float) -> None:
        places = [place for place, entry in self._entries.items() if place[0] == hub and entry.benched]
        if not places:
            raise Refused(codes.HUB_NOT_BENCHED, hub)
        for place in places:
            self._return(place, BenchStep.BROUGHT_BACK, Return.COMMAND, now, by)

    def _return(self, place: _Place, step: BenchStep, why: Return, now: float, by: str = "") -> None:
        """Back on probation."""
        hub, peer = place
        entry = self._entries[place]
        entry.machine.step(step)
        rule = None if peer is None else self._rules.bench_rule(hub, peer)
        seconds = limits.PROBATION_SECONDS if rule is None else rule.seconds
        self._keep(place, entry, replace(entry.kept, benched=False, seconds=seconds), now)
        self._out.notify(HubBroughtBack(hub, peer, why, by))

    # ── time ────────────────────────────────────────────────────────────────────────────────────
    def _on_time(self, now: float) -> None:
        for place in self._timers.due(now):
            entry = self._entries[place]
            if entry.benched:
                self._return(place, BenchStep.TIME_OVER, Return.TIME_OVER, now)
            else:
                entry.machine.step(BenchStep.TIME_OVER)
                del self._entries[place]
                self._out.persist(BenchEnded(*place))
        if self._write_at is not None and now >= self._write_at:
            self._out.persist(*self._dirty())
            self._unwritten.clear()
            self._write_at = None

    def _dirty(self) -> Iterator[TallyKept]:
        for place in self._unwritten:
            yield TallyKept(*place, self._of(place))


def _left(entry: _Entry, now: float) -> float | None:
    return None if entry.until is None else max(0.0, entry.until - now)
