from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from simulation.exchange import hub_name
from skex.base import codes, limits
from skex.base.errors import Refused
from skex.base.ids import BatchId, HubName, Incarnation, KmeName
from skex.protocol.bench import (
    BatchFailed,
    Bench,
    BenchEffects,
    BenchHub,
    BenchRule,
    BringBack,
    HubBenched,
    HubBroughtBack,
    Return,
    Stored,
)
from skex.protocol.changes import BenchCause, BenchEnded, BenchKept, EvidenceKept, Tally, TallyKept
from skex.protocol.evidence import Blame, Evidence
from skex.protocol.receiver import HubBlamed, ShareCounted, ShareMissing, SharesRight
from skex.protocol.standing import Standing
from skex.protocol.traffic import Tick

ALICE, CAROL = KmeName("alice"), KmeName("carol")
HUB, OTHER = hub_name(1), hub_name(2)
HOUR = 3600
RULE = BenchRule(3, 5, HOUR, "kme.bench.wrong", "kme.bench.missing")
SHOWN = Evidence(share=b"s" * 64, expected=b"e" * 64)


def batch(counter: int) -> BatchId:
    return BatchId(Incarnation(b"i" * 16), counter)


@dataclass
class Rules:
    """A policy with one rule for everything, or none."""

    rule: BenchRule | None = RULE

    def bench_rule(self, hub: HubName, peer: KmeName) -> BenchRule | None:
        return self.rule if hub and peer else None


@dataclass
class World:
    """One bench, and a store that keeps what it persists."""

    rules: Rules = field(default_factory=Rules)
    now: float = 100.0
    stored: Stored = field(default_factory=Stored)

    def __post_init__(self) -> None:
        self.bench = Bench(self.rules, self.stored, self.now)
        self.counter = 0
        self.tallies: dict[tuple[HubName, KmeName | None], Tally] = {}
        self.entries: dict[tuple[HubName, KmeName | None], BenchKept] = {}
        self.evidence: list[EvidenceKept] = []
        self.told: list[HubBenched | HubBroughtBack] = []

    def take(self, effects: BenchEffects) -> BenchEffects:
        for change in effects.persist:
            match change:
                case TallyKept(hub, peer, tally):
                    self.tallies[hub, peer] = tally
                case BenchKept(hub, peer):
                    self.entries[hub, peer] = change
                case BenchEnded(hub, peer):
                    del self.entries[hub, peer]
                case EvidenceKept():
                    self.evidence.append(change)
        self.told += effects.notify
        return effects

    def blame(
        self, hub: HubName = HUB, peer: KmeName = ALICE, *, certain: bool = True, counter: int = 0
    ) -> BenchEffects:
        self.counter += 1
        of = batch(counter or self.counter)
        event = HubBlamed(hub, peer, of, Blame.WRONG_SHARE, certain, SHOWN)
        return self.take(self.bench.handle(event, self.now))

    def miss(self, *, connected: bool = True, peer: KmeName = ALICE) -> BenchEffects:
        self.counter += 1
        event = ShareMissing(HUB, peer, batch(self.counter), connected)
        return self.take(self.bench.handle(event, self.now))

    def right(self, *hubs: HubName, peer: KmeName = ALICE) -> BenchEffects:
        return self.take(self.bench.handle(SharesRight(hubs, peer, batch(1)), self.now))

    def late(self) -> BenchEffects:
        return self.take(self.bench.handle(ShareCounted(HUB, ALICE, batch(1)), self.now))

    def command(self, seconds: float | None = None, hub: HubName = HUB) -> BenchEffects:
        return self.take(self.bench.handle(BenchHub(hub, seconds, "root", "it smells"), self.now))

    def bring_back(self, hub: HubName = HUB) -> BenchEffects:
        return self.take(self.bench.handle(BringBack(hub, "root"), self.now))

    def fail(self, peer: KmeName = ALICE) -> BenchEffects:
        return self.take(self.bench.handle(BatchFailed(peer), self.now))

    def pass_(self, seconds: float) -> None:
        """Time goes by, with a tick whenever one is wanted."""
        until = self.now + seconds
        while (deadline := self.bench.next_deadline) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.take(self.bench.handle(Tick(), self.now))
        self.now = until

    def restarted(self, away: float = 0.0) -> World:
        """A start with what is durable, ``away`` seconds later; the boot-time clock begins anew."""
        entries = self.bench.entries(self.now)
        assert {(one.hub, one.peer) for one in entries} == set(self.entries)
        left = tuple(
            BenchKept(
                one.hub,
                one.peer,
                one.benched,
                None if one.seconds is None else one.seconds - away,
                one.cause,
                one.rule,
                one.by,
                one.reason,
            )
            for one in entries
        )
        tallies = tuple(TallyKept(*place, tally) for place, tally in self.tallies.items())
        wrong = tuple((one.hub, one.peer, one.batch, away) for one in self.evidence if one.certain)
        return World(self.rules, 7.0, Stored(tallies, left, wrong))

    def standings(self, peer: KmeName = ALICE) -> list[Standing]:
        return [self.bench.standing(hub, peer) for hub in (HUB, OTHER)]


@pytest.fixture
def world() -> World:
    return World()


# ── counting ────────────────────────────────────────────────────────────────────────────────────
def test_every_outcome_of_a_share_is_counted_for_its_hub_and_peer(world: World) -> None:
    world.right(HUB, OTHER)
    world.right(HUB, peer=CAROL)
    world.late()
    world.miss()
    world.blame()
    world.blame(certain=False)
    assert world.bench.tally(HUB) == Tally(in_time=2, late=1, missing=1, wrong=1, suspected=1)
    assert world.bench.tally(OTHER) == Tally(in_time=1)
    assert world.bench.tally(hub_name(9)) == Tally()
    assert [one.peer for one in world.bench.tallies(HUB)] == [ALICE, CAROL]


def test_right_shares_are_written_together_after_a_while_and_evidence_at_once(world: World) -> None:
    assert world.right(HUB).persist == ()
    assert world.right(HUB, OTHER).persist == ()
    assert world.bench.next_deadline == world.now + limits.TALLY_SECONDS
    world.blame(OTHER)
    assert world.tallies == {(OTHER, ALICE): Tally(in_time=1, wrong=1)}
    assert world.evidence == [EvidenceKept(OTHER, ALICE, batch(1), Blame.WRONG_SHARE, True, SHOWN)]
    world.pass_(limits.TALLY_SECONDS - 1)
    assert (HUB, ALICE) not in world.tallies
    world.pass_(1)
    assert world.tallies[HUB, ALICE] == Tally(in_time=2)
    assert world.bench.next_deadline is None


def test_counts_go_on_after_a_start(world: World) -> None:
    world.right(HUB)
    world.pass_(limits.TALLY_SECONDS)
    later = world.restarted()
    later.right(HUB)
    assert later.bench.tally(HUB).in_time == 2


def test_evidence_of_one_hub_is_bounded_in_a_minute_and_every_piece_counted(world: World) -> None:
    for _ in range(limits.EVIDENCE_PER_MINUTE + 5):
        world.blame()
    world.blame(OTHER)
    assert sum(one.hub == HUB for one in world.evidence) == limits.EVIDENCE_PER_MINUTE
    assert world.bench.tally(HUB).wrong == limits.EVIDENCE_PER_MINUTE + 5
    assert world.evidence[-1].hub == OTHER
    world.pass_(60)
    world.blame()
    assert world.evidence[-1].hub == HUB


def test_peers_beyond_the_room_are_counted_together_and_never_bench(world: World) -> None:
    world.rules.rule = BenchRule(1, 1, HOUR, "a", "b")
    for number in range(limits.TALLY_PEERS_PER_HUB):
        world.right(HUB, peer=KmeName(f"site-{number}"))
    world.blame()
    world.miss()
    assert world.bench.tallies(HUB)[-1] == TallyKept(HUB, None, Tally(missing=1, wrong=1, in_a_row=1))
    assert world.told == []


# ── benched by policy ───────────────────────────────────────────────────────────────────────────
def test_hub_is_benched_for_the_peer_in_whose_batches_it_was_wrong_and_for_no_other(world: World) -> None:
    world.blame()
    world.blame()
    assert world.standings() == [Standing.PLAYS, Standing.PLAYS]
    world.blame()
    assert world.standings() == [Standing.LAST, Standing.PLAYS]
    assert world.standings(CAROL) == [Standing.PLAYS, Standing.PLAYS]
    kept = BenchKept(HUB, ALICE, True, HOUR, BenchCause.WRONG_SHARES, "kme.bench.wrong")
    assert world.told == [HubBenched(kept)]
    assert world.entries[HUB, ALICE] == kept
    world.blame()  # it is benched already
    assert len(world.told) == 1


def test_one_batch_counts_once_however_often_its_share_is_wrong(world: World) -> None:
    for _ in range(5):
        world.blame(counter=9)
    assert world.told == []
    assert world.bench.tally(HUB).wrong == 5


def test_wrong_shares_of_longer_ago_do_not_count(world: World) -> None:
    world.blame()
    world.blame()
    world.pass_(limits.BENCH_WINDOW_SECONDS)
    world.blame()
    assert world.told == []


def test_what_is_not_certain_benches_nobody(world: World) -> None:
    for _ in range(10):
        world.blame(certain=False)
    assert world.told == []


@pytest.mark.parametrize("rule", [None, BenchRule(None, None, HOUR, "a", "b")])
def test_without_a_rule_that_says_so_nobody_is_benched(rule: BenchRule | None) -> None:
    world = World(Rules(rule))
    for _ in range(limits.BENCH_WRONG_SHARES_MAX + 1):
        world.blame()
        world.miss()
    assert world.told == []


def test_missing_shares_in_a_row_bench_only_where_the_hub_was_connected(world: World) -> None:
    for _ in range(4):
        world.miss()
    world.late()  # ends the row
    for _ in range(4):
        world.miss()
        world.miss(connected=False)
    assert world.told == []
    world.miss()
    kept = BenchKept(HUB, ALICE, True, HOUR, BenchCause.MISSING_SHARES, "kme.bench.missing")
    assert world.told == [HubBenched(kept)]
    for _ in range(10):
        world.miss()
    assert len(world.told) == 1


def test_wrong_shares_before_a_start_count_with_those_behind_it(world: World) -> None:
    world.blame()
    world.blame()
    later = world.restarted(10.0)
    later.counter = 2
    later.blame()
    assert [type(one) for one in later.told] == [HubBenched]


# ── coming back ─────────────────────────────────────────────────────────────────────────────────
def benched(world: World) -> World:
    for _ in range(3):
        world.blame()
    world.told.clear()
    return world


def test_hub_comes_back_by_itself_and_the_first_wrong_share_on_probation_benches_it_again(
    world: World,
) -> None:
    benched(world).pass_(HOUR)
    assert world.standings()[0] is Standing.PLAYS
    assert world.told == [HubBroughtBack(HUB, ALICE, Return.TIME_OVER)]
    assert not world.entries[HUB, ALICE].benched
    world.blame(certain=False)
    assert world.standings()[0] is Standing.PLAYS
    world.blame()
    assert world.standings()[0] is Standing.LAST
    assert isinstance(world.told[-1], HubBenched)
    assert world.told[-1].kept.cause is BenchCause.WRONG_ON_PROBATION


def test_probation_ends_and_then_it_takes_as_many_as_ever(world: World) -> None:
    benched(world).pass_(2 * HOUR)
    assert world.entries == {}
    world.blame()
    assert world.standings()[0] is Standing.PLAYS


def test_batch_that_came_to_nothing_brings_back_whom_policy_benched_for_that_peer(world: World) -> None:
    world.command(hub=OTHER)
    benched(world)
    world.fail(CAROL)
    assert world.told == []
    world.fail()
    assert world.told == [HubBroughtBack(HUB, ALICE, Return.NEEDED)]
    assert world.standings() == [Standing.PLAYS, Standing.OUT]
    world.fail()  # nobody is left to bring back
    assert len(world.told) == 1


def test_a_start_shortens_a_bench_by_the_time_away_and_keeps_probation(world: World) -> None:
    benched(world).pass_(600)
    later = world.restarted(HOUR - 700.0)
    assert later.standings()[0] is Standing.LAST
    later.pass_(100)
    assert later.standings()[0] is Standing.PLAYS
    again = later.restarted(10.0)
    again.blame()
    assert again.standings()[0] is Standing.LAST


def test_bench_that_ended_while_the_machine_was_off_is_over_at_once(world: World) -> None:
    later = benched(world).restarted(HOUR + 100.0)
    later.pass_(0)
    assert later.told == [HubBroughtBack(HUB, ALICE, Return.TIME_OVER)]


# ── by command ──────────────────────────────────────────────────────────────────────────────────
def test_operator_takes_a_hub_out_for_all_peers_until_it_is_brought_back(world: World) -> None:
    world.command()
    kept = BenchKept(HUB, None, True, None, BenchCause.COMMAND, "", "root", "it smells")
    assert world.told == [HubBenched(kept)]
    assert world.standings() == world.standings(CAROL) == [Standing.OUT, Standing.PLAYS]
    assert world.bench.is_out(HUB)
    assert not world.bench.is_out(OTHER)
    world.pass_(365 * 24 * HOUR)
    world.fail()
    assert world.standings()[0] is Standing.OUT
    world.bring_back()
    assert world.told[1:] == [HubBroughtBack(HUB, None, Return.COMMAND, "root")]
    assert world.standings()[0] is Standing.PLAYS


def test_operators_bench_may_end_by_itself_and_be_given_another_end(world: World) -> None:
    world.command(60.0)
    world.command()
    world.pass_(120)
    assert world.bench.is_out(HUB)
    world.command(60.0)
    world.pass_(60)
    assert not world.bench.is_out(HUB)
    assert world.told[-1] == HubBroughtBack(HUB, None, Return.TIME_OVER)


def test_hub_that_an_operator_brought_back_is_on_probation_with_every_peer(world: World) -> None:
    world.command()
    world.bring_back()
    world.blame(peer=CAROL)
    assert world.bench.standing(HUB, CAROL) is Standing.LAST
    assert world.bench.standing(HUB, ALICE) is Standing.PLAYS
    world.pass_(limits.PROBATION_SECONDS)
    assert (HUB, None) not in world.entries


def test_bringing_back_ends_every_bench_of_a_hub(world: World) -> None:
    benched(world)
    world.command()
    world.bring_back()
    assert {notice.peer for notice in world.told[1:] if isinstance(notice, HubBroughtBack)} == {None, ALICE}
    assert world.standings()[0] is Standing.PLAYS


def test_hub_that_plays_cannot_be_brought_back(world: World) -> None:
    benched(world).pass_(HOUR)
    with pytest.raises(Refused) as caught:
        world.bring_back()
    assert caught.value.code is codes.HUB_NOT_BENCHED


def test_hub_that_an_operator_took_out_is_not_benched_by_policy_besides(world: World) -> None:
    world.command()
    for _ in range(5):
        world.blame()
    assert len(world.told) == 1


# ── evidence ────────────────────────────────────────────────────────────────────────────────────
def test_every_field_of_evidence_is_in_what_names_it() -> None:
    first = EvidenceKept(HUB, ALICE, batch(1), Blame.WRONG_SHARE, True, SHOWN)
    others = [
        EvidenceKept(OTHER, ALICE, batch(1), Blame.WRONG_SHARE, True, SHOWN),
        EvidenceKept(HUB, CAROL, batch(1), Blame.WRONG_SHARE, True, SHOWN),
        EvidenceKept(HUB, ALICE, batch(2), Blame.WRONG_SHARE, True, SHOWN),
        EvidenceKept(HUB, ALICE, batch(1), Blame.TWO_SHARES, True, SHOWN),
        EvidenceKept(HUB, ALICE, batch(1), Blame.WRONG_SHARE, False, SHOWN),
        EvidenceKept(HUB, ALICE, batch(1), Blame.WRONG_SHARE, True, Evidence(share=b"s" * 64)),
    ]
    assert len({one.to_bytes() for one in [first, *others]}) == 7
