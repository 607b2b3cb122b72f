"""What a KME's store keeps of its hubs: counts, evidence, the bench."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from skex.base import codes, limits
from skex.base.errors import StoreFault
from skex.protocol.bench import Stored
from skex.protocol.changes import BenchCause, BenchEnded, BenchKept, EvidenceKept, Tally, TallyKept
from skex.protocol.evidence import Blame, Evidence
from skex.store.benches import KeptEvidence
from tests.stores.support import BOB, CAROL, HUBS, START, FileSubject, batch_id

HUB, OTHER, _ = HUBS
SHOWN = Evidence(share=b"s" * 64, expected=b"e" * 64)
BENCHED = BenchKept(HUB, BOB, True, 3600.0, BenchCause.WRONG_SHARES, "kme.bench.b")
TAKEN_OUT = BenchKept(HUB, None, True, None, BenchCause.COMMAND, "", "root", "a smell of burning")


@pytest.fixture(params=[False, True], ids=["new", "first_schema"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileSubject]:
    made = FileSubject(tmp_path, first_schema=request.param)
    yield made
    made.close()


def evidence(counter: int = 1, *, certain: bool = True) -> EvidenceKept:
    return EvidenceKept(HUB, BOB, batch_id(counter), Blame.WRONG_SHARE, certain, SHOWN)


def stored(subject: FileSubject) -> Stored:
    subject.reopen()
    return subject.state().benched


def test_new_store_knows_nothing_of_hubs(subject: FileSubject) -> None:
    assert stored(subject) == Stored()
    assert subject.store.evidence() == ()


def test_counts_are_those_written_last(subject: FileSubject) -> None:
    tally = Tally(1, 2, 3, 4, 5, 6)
    subject.commit([TallyKept(HUB, BOB, Tally()), TallyKept(HUB, None, tally), TallyKept(OTHER, BOB, tally)])
    subject.commit([TallyKept(HUB, BOB, replace(tally, wrong=9))])
    assert set(stored(subject).tallies) == {
        TallyKept(HUB, BOB, replace(tally, wrong=9)),
        TallyKept(HUB, None, tally),
        TallyKept(OTHER, BOB, tally),
    }


def test_bench_and_probation_are_kept_until_they_end(subject: FileSubject) -> None:
    subject.commit([BENCHED, TAKEN_OUT])
    assert set(stored(subject).entries) == {BENCHED, TAKEN_OUT}
    probation = replace(BENCHED, benched=False, seconds=60.0)
    subject.commit([probation])
    assert set(stored(subject).entries) == {probation, TAKEN_OUT}
    subject.commit([BenchEnded(HUB, None), BenchEnded(OTHER, BOB)])
    assert stored(subject).entries == (probation,)


def test_time_away_shortens_a_bench_and_a_clock_set_back_does_not_lengthen_it(subject: FileSubject) -> None:
    subject.commit([BENCHED])
    subject.clock.seconds += 600
    assert stored(subject).entries[0].seconds == 3000.0
    subject.commit([])
    subject.clock.seconds -= 86_400
    assert stored(subject).entries[0].seconds == 3000.0
    subject.commit([])
    subject.clock.seconds += 5000
    assert stored(subject).entries[0].seconds == -2000.0


def test_evidence_is_kept_with_the_time_newest_first_and_by_hub(subject: FileSubject) -> None:
    against_other = EvidenceKept(
        OTHER, CAROL, batch_id(7), Blame.OTHER_CONTEXT, True, Evidence(tag=b"t" * 64)
    )
    subject.commit([evidence(1)])
    subject.clock.seconds += 5
    subject.commit([against_other, evidence(2, certain=False)])
    subject.reopen()
    newest = KeptEvidence(evidence(2, certain=False), START + 5)
    other = KeptEvidence(against_other, START + 5)
    oldest = KeptEvidence(evidence(1), START)
    assert subject.store.evidence() == (newest, other, oldest)
    assert subject.store.evidence(HUB) == (newest, oldest)
    assert subject.store.evidence(HUBS[2]) == ()


def test_evidence_against_one_hub_is_bounded_and_that_against_others_stays(subject: FileSubject) -> None:
    against_other = EvidenceKept(OTHER, BOB, batch_id(1), Blame.TWO_SHARES, True, Evidence())
    subject.commit([against_other])
    for counter in range(1, limits.EVIDENCE_PER_HUB + 4):
        subject.commit([evidence(counter)])
    kept = [one.what.batch.counter for one in subject.store.evidence(HUB)]
    assert kept == list(range(limits.EVIDENCE_PER_HUB + 3, 3, -1))
    assert [one.what for one in subject.store.evidence(OTHER)] == [against_other]


def test_certain_blames_of_the_last_hour_count_again_after_a_start(subject: FileSubject) -> None:
    subject.commit([evidence(1)])
    subject.clock.seconds += 600
    subject.commit([evidence(2), evidence(3, certain=False)])
    subject.clock.seconds += limits.BENCH_WINDOW_SECONDS - 600
    assert stored(subject).wrong == ((HUB, BOB, batch_id(2), limits.BENCH_WINDOW_SECONDS - 600.0),)


def test_digests_are_sealed_and_evidence_that_was_altered_is_damage(subject: FileSubject) -> None:
    subject.commit([evidence()])
    database = subject.store._database
    ((sealed,),) = database.execute("SELECT sealed FROM evidence")
    assert b"s" * 16 not in sealed
    with database.transaction():
        database.execute("UPDATE evidence SET hub = 'hub-c'")
    with pytest.raises(StoreFault) as caught:
        subject.store.evidence()
    assert caught.value.code is codes.STORE_CORRUPT
