"""The fuzzing targets without a fuzzer: the seeds, the bombs and a fixed number of random mutations."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import seeds, targets
from tests.strategies import spoiled

SEEDS = tuple(seeds.valid_seeds())
MUTATIONS = 400
PEAK_BYTES = 8 * 1024 * 1024


@pytest.fixture
def memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < PEAK_BYTES


def test_every_target_has_a_seed() -> None:
    assert {target for target, _ in SEEDS} == set(targets.TARGETS)


@pytest.mark.parametrize(("target", "data"), SEEDS)
def test_seed_is_accepted(target: str, data: bytes) -> None:
    assert targets.accepts(target, data)


@pytest.mark.parametrize("target", sorted(seeds.READS_CBOR))
@pytest.mark.usefixtures("memory")
def test_bomb_is_refused_in_bounded_memory(target: str) -> None:
    for bomb in seeds.BOMBS:
        many_arrays = target == "value" and bomb.startswith(b"\x99")
        assert targets.accepts(target, bomb) is many_arrays


def test_what_was_found_once_stays_harmless() -> None:
    for target, data in seeds.findings():
        targets.accepts(target, data)


@pytest.mark.parametrize("target", sorted(seeds.READS_JSON))
@pytest.mark.usefixtures("memory")
def test_bomb_for_json_is_answered_in_bounded_memory(target: str) -> None:
    answers = [targets.accepts(target, bomb) for bomb in seeds.JSON_BOMBS]
    assert not all(answers)


@pytest.mark.parametrize("target", targets.WIRE)
def test_every_truncation_of_a_seed_is_refused(target: str) -> None:
    for named, data in SEEDS:
        if named == target:
            assert not any(targets.accepts(target, data[:end]) for end in range(len(data)))


@pytest.mark.parametrize(("target", "data"), [seed for seed in SEEDS if seed[0] in targets.WIRE])
def test_every_single_bit_flip_ends_in_a_refusal_or_in_itself(target: str, data: bytes) -> None:
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        targets.accepts(target, bytes(flipped))


@pytest.mark.parametrize("target", [target for target in targets.TARGETS if target not in targets.WIRE])
@settings(max_examples=MUTATIONS // 20)
@given(data=st.data())
def test_random_input_ends_in_a_refusal_or_in_an_answer(target: str, data: st.DataObject) -> None:
    valid = data.draw(st.sampled_from([seed for of, seed in SEEDS if of == target]))
    targets.accepts(target, data.draw(st.one_of(st.binary(max_size=200), spoiled(st.just(valid)))))


@settings(max_examples=MUTATIONS)
@given(seed=st.sampled_from([seed for seed in SEEDS if seed[0] in targets.WIRE]), data=st.data())
def test_random_mutation_ends_in_a_refusal_or_in_itself(seed: tuple[str, bytes], data: st.DataObject) -> None:
    target, valid = seed
    targets.accepts(target, data.draw(spoiled(st.just(valid))))
