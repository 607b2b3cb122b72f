"""What a realm promises, by its own numbers."""

from __future__ import annotations

import math

import pytest

from simulation.exchange import ALICE, BOB, Exchange, make_realm
from skex.base import limits
from skex.policy.assessment import SETS_LISTED, assess, tag_blocks
from skex.wire.independence import COUNTED, Attribute, Party


def test_a_realm_of_which_one_operator_has_enough_hubs_is_called_so() -> None:
    found = assess(make_realm(5, 3, operators="aaabc"), COUNTED, batch_keys=128, key_bytes=32)
    assert found.overall.parties == (Party(Attribute.OPERATOR, "a"),)
    assert {one.value: each.count for one, each in found.each.items()} == {
        "operator": 1,
        "jurisdiction": 1,
        "hosting": 1,
        "administrator": 1,
        "implementation": 1,
    }
    assert Party(Attribute.OPERATOR, "a") in found.failing.alone
    assert Party(Attribute.OPERATOR, "b") not in found.failing.alone
    assert found.failing.together.count == 1


def test_who_may_fail_follows_from_hubs_and_threshold() -> None:
    failing = assess(make_realm(5, 3, operators="abcde"), COUNTED, batch_keys=1, key_bytes=32).failing
    assert (failing.may_be_lost, failing.may_lie, failing.stopped_by) == (2, 2, 3)
    assert failing.to_deliver_after_a_start == 3
    assert len(failing.stopping) == failing.sets == math.comb(5, 3)
    assert failing.stopping[0] == ("hub-1", "hub-2", "hub-3")
    assert failing.together.count == 3
    few = assess(make_realm(4, 2, operators="abcd"), COUNTED, batch_keys=1, key_bytes=32).failing
    assert (few.may_be_lost, few.may_lie, few.to_deliver_after_a_start) == (2, 1, 3)


def test_very_many_sets_are_counted_and_not_listed() -> None:
    failing = assess(make_realm(9, 5, operators="abcdefghi"), COUNTED, batch_keys=1, key_bytes=32).failing
    assert failing.sets == 126 > SETS_LISTED
    assert failing.stopping == ()


def test_enough_hubs_are_up_as_often_as_the_binomial_says() -> None:
    found = assess(make_realm(3, 2, operators="abc"), COUNTED, batch_keys=1, key_bytes=32, up=(0.0, 0.9, 1.0))
    assert found.availability == {0.0: 0.0, 0.9: pytest.approx(3 * 0.81 * 0.1 + 0.729), 1.0: 1.0}


def test_blocks_under_a_tag_are_no_fewer_than_in_a_real_batch_and_hardly_more() -> None:
    world = Exchange(5, 3)
    world.establish(keys=7, key_bytes=33)
    shared = next(iter(world.shares(keys=7, key_bytes=33).values()))
    assert shared.context.secret_bytes == 80 + 7 * 33
    blocks = tag_blocks(world.realms.current, 5, batch_keys=7, key_bytes=33)
    tail = -(-(32 + 7 * 33) // 16)
    names = 2 * limits.NAME_CHARACTERS - len(ALICE) - len(BOB)
    assert tail < blocks <= tail + (8 + 300 + names) // 16


def test_bounds_are_those_of_the_specification_for_the_largest_batches() -> None:
    """Section 14.3: with 512 sets and fewer than 4096 blocks below 2^-107 per batch."""
    realm = make_realm(12, 4, operators="abcdefghijkl")
    largest = (limits.BATCH_SECRET_BYTES - 80) // limits.KEY_BYTES_MAX
    found = assess(realm, COUNTED, batch_keys=largest, key_bytes=limits.KEY_BYTES_MAX)
    assert found.subsets == math.comb(12, 4) == 495
    assert found.tag_blocks < 4096
    assert found.bounds[0].log2 < -107
    assert found.bounds[0].log2 == pytest.approx(math.log2(495 * (found.tag_blocks + 1)) - 128)
    assert found.bounds[2].log2 == math.log2(8 * 4096) - 106 == -91
    assert {one.section for one in found.bounds} == {"14.2", "14.3", "14.5", "14.6"}


def test_a_realm_with_more_hubs_than_are_searched_uses_some_of_them() -> None:
    realm = make_realm(20, 3, operators="abcdefghijklmnopqrst")
    found = assess(realm, COUNTED, batch_keys=1, key_bytes=32)
    assert (found.hubs_of_a_batch, found.subsets) == (15, 455)
