"""Audit logs: every change of the lines shows, crashes at any byte lose no record, samples add up."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from skex.audit import fields
from skex.audit.chain import Record
from skex.audit.events import FORGERY_ATTEMPTED, SHARE_REJECTED
from skex.audit.fields import NETWORK, Actor, ActorKind
from skex.audit.sampling import Sampler
from skex.base import limits
from skex.runtime.auditfile import Opening, open_audit, segments, verify
from tests.unit.audit.support import IMPORTANT, MINOR, Clock, Log, check, log_of

LINES = log_of(8)
HEAD = check(LINES).head


@given(
    st.integers(0, len(b"\n".join(LINES)) - 1),
    st.integers(1, 255),
)
def test_any_changed_byte_shows(place: int, difference: int) -> None:
    data = bytearray(b"\n".join(LINES))
    data[place] ^= difference
    report = check(bytes(data).split(b"\n"), anchor=HEAD)
    assert report.problem is not None
    changed = bytes(b"\n".join(LINES))[:place].count(b"\n") + 1
    assert abs(report.problem.line - changed) <= 1


@given(st.permutations(range(8)))
def test_any_other_order_shows(order: list[int]) -> None:
    report = check([LINES[index] for index in order], anchor=HEAD)
    assert report.is_sound is (order == sorted(order))
    if report.problem is not None:
        first = next(place for place, index in enumerate(order) if place != index)
        assert report.problem.line == first + 1


@given(st.lists(st.integers(0, 7), max_size=12))
def test_any_selection_with_gaps_or_repetitions_shows(chosen: list[int]) -> None:
    report = check([LINES[index] for index in chosen], anchor=HEAD)
    assert report.is_sound is (chosen == list(range(8)))


@given(st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=40)), max_size=6))
def test_checking_is_total_on_any_lines(lines: list[bytes]) -> None:
    report = check(lines)
    assert report.is_sound is (lines == LINES[: len(lines)])


@given(st.binary(max_size=400))
def test_reading_a_record_is_total_and_canonical(data: bytes) -> None:
    record = Record.from_line(data)
    assert record is None or record.to_line() == data


@example([(2, False, 419, b""), (6, False, 419, b""), (0, False, 0, b"")])
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 900), st.binary(max_size=9)),
        min_size=1,
        max_size=5,
    )
)
def test_crashes_that_tear_the_end_anywhere_lose_nothing_that_was_whole(
    lives: list[tuple[int, bool, int, bytes]],
) -> None:
    """Each life writes some events; then a crash cuts bytes off the last line, and may leave garbage.

    Where the last line was the only one of its segment, the next life finds an empty segment.
    """
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "audit"
        whole: list[bytes] = []
        for count, is_important, torn, garbage in lives:
            audit = open_audit(directory, Opening(segment_bytes=3000), Clock())
            for _ in range(count):
                audit.emit(IMPORTANT if is_important else MINOR)
            head = audit.close()
            assert verify(directory, anchor=head).is_sound
            newest = segments(directory)[-1]
            *before, last = [line + b"\n" for line in newest.read_bytes().split(b"\n")[:-1]] or [b""]
            kept = last[: max(0, len(last) - 1 - torn)] if torn else last
            newest.write_bytes(b"".join(before) + kept + garbage.replace(b"\n", b""))
            whole = [
                line
                for path in segments(directory)
                for line in path.read_bytes().split(b"\n")
                if Record.from_line(line)
            ]
        audit = open_audit(directory, Opening(segment_bytes=3000), Clock())
        head = audit.close()
        report = verify(directory, anchor=head)
        assert report.is_sound
        assert report.records >= len(whole)
        text = b"".join(path.read_bytes() for path in segments(directory))
        assert all(line in text for line in whole)


ACTORS = [NETWORK, *(Actor(ActorKind.KME, f"site-{number}") for number in range(6))]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([FORGERY_ATTEMPTED, SHARE_REJECTED]),
            st.sampled_from(ACTORS),
            st.floats(0, 30),
        ),
        max_size=200,
    ),
    st.integers(1, 3),
    st.integers(1, 5),
)
def test_samples_add_up_and_stay_within_their_bound(
    offered: list[tuple[object, Actor, float]], burst: int, keys: int
) -> None:
    sampler = Sampler(seconds=10, burst=burst, keys=keys)
    now, written, counted, claimed = 0.0, 0, 0, 0
    in_window: list[float] = []
    for kind, actor, wait in offered:
        now += wait / 10
        for one in sampler.ended(now):
            counted += one.counted
            claimed += one.written
        if sampler.offer(kind, actor, now):  # type: ignore[arg-type]  # one of the two kinds above
            written += 1
            in_window.append(now)
        # Two windows of one key can lie in any ten seconds, and two kinds share the last places.
        assert sum(moment > now - 10 for moment in in_window) <= 2 * burst * (keys + 2)
    for one in sampler.close(now):
        counted += one.counted
        claimed += one.written
    assert written + counted == len(offered)
    assert claimed <= written


@given(st.integers(0, 2000))
def test_flood_writes_a_bounded_number_of_records(count: int) -> None:
    log = Log(Sampler(seconds=10, burst=2, keys=2))
    from_everywhere = [
        (FORGERY_ATTEMPTED, Actor(ActorKind.KME, f"site-{number % 50}")) for number in range(count)
    ]
    for kind, actor in from_everywhere:
        log.audit.emit(type(IMPORTANT)(kind, actor))
    log.audit.close()
    assert len(log.paper.lines) <= 2 * 3 + 3


@given(st.text(max_size=600))
def test_any_text_becomes_harmless(text: str) -> None:
    clean = fields.harmless(text)
    assert len(clean) <= limits.AUDIT_TEXT_CHARACTERS
    assert clean.isascii()
    assert not clean or clean.isprintable()
    assert fields.harmless(clean) == clean


@given(st.binary(min_size=16, max_size=64), st.text(max_size=20), st.text(max_size=20))
def test_no_key_in_any_usual_spelling_survives_in_a_text(key: bytes, before: str, after: str) -> None:
    for spelled in (key.hex(), key.hex().upper()):
        assert spelled not in fields.harmless(f"{before} {spelled} {after}")
