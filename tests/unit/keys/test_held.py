from __future__ import annotations

import uuid
from collections.abc import Sequence

import pytest

from skex.base import limits
from skex.base.errors import Refused
from skex.base.ids import BatchId, Incarnation, KmeName, RealmName, RequestId, SaeId
from skex.keys.held import Claimed, HeldKeys
from skex.protocol.changes import KeysAssigned, Role
from skex.protocol.establishment import key_id
from skex.wire.peer import KeyRange
from tests.unit.keys.keys_support import ALICE, ANN, BEN, BOB, CLAIMS, NORTH, SOUTH, batch_id, make_batch
from tests.unit.keys.test_reserve import Kept, keys

REALM = RealmName("world")
NOW = 100.0
EVE = SaeId("eve@south")


def assignment(
    *ranges: KeyRange, slaves: Sequence[SaeId] = (BOB,), request: bytes = b"r" * 16, lifetime: int = 60
) -> KeysAssigned:
    return KeysAssigned(
        NORTH,
        RequestId(request),
        Incarnation(b"i" * 16),
        ranges or keys((1, 0, 8)),
        ALICE,
        tuple(slaves),
        "any",
        lifetime,
    )


def name(index: int, batch: int = 1) -> uuid.UUID:
    return key_id(REALM, NORTH, SOUTH, batch_id(batch), index)


class Bench:
    """South's index of what north made."""

    def __init__(self, room: int = 1000) -> None:
        self.held = HeldKeys(REALM, SOUTH, room, CLAIMS)
        self.denied: set[int] = set()

    def may_take(self, sender: KmeName, batch: BatchId, index: int, slave: SaeId) -> bool:
        assert (sender, batch.incarnation) == (NORTH, Incarnation(b"i" * 16))
        return index not in self.denied and slave != EVE

    def accept(self, *numbers: int) -> None:
        for number in numbers or (1,):
            self.held.accepted(make_batch(number, peer=NORTH))

    def assign(self, *ranges: KeyRange, slaves: Sequence[SaeId] = (BOB,), request: bytes = b"r" * 16) -> None:
        self.held.assigned(assignment(*ranges, slaves=slaves, request=request), NOW)

    def claim(self, *ids: uuid.UUID, caller: SaeId = BOB, master: SaeId = ALICE) -> Claimed:
        return self.held.claim(caller, master, ids, self.may_take)

    def refuses(self, *ids: uuid.UUID, caller: SaeId = BOB, master: SaeId = ALICE) -> bool:
        with pytest.raises(Refused) as caught:
            self.claim(*ids, caller=caller, master=master)
        return caught.value.code.name == "key-not-held"


@pytest.fixture
def bench() -> Bench:
    found = Bench()
    found.accept(1)
    found.assign()
    return found


def test_assigned_keys_are_found_by_their_ids_in_the_order_asked(bench: Bench) -> None:
    claimed = bench.claim(name(5), name(2))
    assert claimed.ranges == keys((1, 5, 1), (1, 2, 1))
    assert claimed.claims == (CLAIMS.of(Role.RECEIVER, make_batch(1)),) * 2
    assert claimed.sender == NORTH


def test_keys_that_are_held_but_not_assigned_are_not_found() -> None:
    bench = Bench()
    bench.accept(1)
    assert bench.refuses(name(0))
    bench.assign(*keys((1, 0, 4)))
    assert bench.refuses(name(4))
    assert len(bench.held) == 4


def test_an_id_that_was_never_made_is_not_found(bench: Bench) -> None:
    assert bench.refuses(uuid.UUID(int=0))


def test_no_ids_are_no_keys(bench: Bench) -> None:
    assert bench.claim().ranges == ()
    assert Bench().claim().ranges == ()


def test_an_sae_that_is_not_named_gets_nothing(bench: Bench) -> None:
    assert bench.refuses(name(0), caller=BEN)


def test_a_wrong_master_gets_nothing(bench: Bench) -> None:
    assert bench.refuses(name(0), master=ANN)


def test_one_id_twice_is_refused_whole(bench: Bench) -> None:
    assert bench.refuses(name(0), name(0))
    assert bench.claim(name(0)).ranges == keys((1, 0, 1))


def test_one_bad_id_leaves_the_good_ones_unclaimed(bench: Bench) -> None:
    assert bench.refuses(name(0), name(9))
    assert bench.claim(name(0)).ranges == keys((1, 0, 1))


def test_what_the_machines_do_not_hold_is_refused_and_left_unclaimed(bench: Bench) -> None:
    bench.denied = {1}
    assert bench.refuses(name(0), name(1))
    bench.denied = set()
    bench.claim(name(0), name(1))


def test_a_claimed_key_is_not_claimed_again_until_it_is_given_up(bench: Bench) -> None:
    claimed = bench.claim(name(0))
    assert bench.refuses(name(0))
    bench.held.unclaim(claimed)
    bench.claim(name(0))


def test_a_key_that_its_one_slave_took_is_gone(bench: Bench) -> None:
    assert bench.held.settle(bench.claim(name(0))) == keys((1, 0, 1))
    assert bench.refuses(name(0))
    assert bench.held.count(NORTH) == 7


def test_a_key_stays_until_every_slave_took_it() -> None:
    bench = Bench()
    bench.accept(1)
    bench.assign(slaves=(BEN, BOB))
    first, second = bench.claim(name(0)), bench.claim(name(0), caller=BEN)
    assert bench.held.settle(first) == ()
    assert bench.refuses(name(0))
    assert bench.held.settle(second) == keys((1, 0, 1))
    assert bench.refuses(name(0), caller=BEN)


def test_keys_that_are_gone_are_not_found_and_leave_no_memory(bench: Bench) -> None:
    bench.held.gone(NORTH, keys((1, 0, 3), (7, 0, 1)))
    assert bench.refuses(name(0))
    assert (len(bench.held), bench.held.count(NORTH)) == (5, 5)
    bench.held.gone(NORTH, None)
    assert (len(bench.held), bench.held.count(NORTH), bench.held.senders) == (0, 0, ())
    assert bench.held.overdue(NOW + 10_000) == []
    bench.held.gone(NORTH, None)


def test_there_is_room_up_to_the_bound_of_each_peer() -> None:
    bench = Bench(room=16)
    context = make_batch(9).context
    bench.accept(1)
    assert bench.held.has_room(NORTH, context)
    bench.accept(2)
    assert not bench.held.has_room(NORTH, context)
    assert bench.held.has_room(KmeName("west"), context)
    bench.held.gone(NORTH, keys((1, 0, 8)))
    assert bench.held.has_room(NORTH, context)


def test_an_assignment_that_nobody_fetched_is_over_after_its_lifetime_and_margin(bench: Bench) -> None:
    over = NOW + 60 + limits.LIFETIME_MARGIN_SECONDS
    assert bench.held.overdue(over - 1) == []
    assert bench.held.overdue(over) == [(NORTH, keys((1, 0, 8)))]
    bench.held.gone(NORTH, keys((1, 0, 8)))
    assert bench.held.overdue(over) == []


def test_keys_of_a_batch_that_is_not_held_are_not_indexed() -> None:
    bench = Bench()
    bench.assign(*keys((3, 0, 2)))
    assert len(bench.held) == 0
    assert bench.held.overdue(NOW + 10_000) == []


def test_a_start_takes_in_what_is_left_and_who_took_what() -> None:
    bench = Bench()
    left = keys((1, 0, 2), (1, 5, 3))
    kept = [
        Kept(Role.RECEIVER, make_batch(1, peer=NORTH), 500.0, left, (), ((BEN, keys((1, 0, 1))),)),
        Kept(Role.SENDER, make_batch(2, peer=NORTH), 500.0, keys((2, 0, 8)), keys((2, 0, 8))),
    ]
    bench.held.load(kept, [assignment(slaves=(BEN, BOB))], NOW)
    assert (len(bench.held), bench.held.count(NORTH)) == (5, 5)
    assert bench.refuses(name(0), caller=BEN)
    assert bench.held.settle(bench.claim(name(0))) == keys((1, 0, 1))
    assert bench.refuses(name(3))
    assert bench.held.settle(bench.claim(name(1))) == ()


def test_what_a_slave_took_of_one_assignment_says_nothing_of_another() -> None:
    bench = Bench()
    kept = Kept(
        Role.RECEIVER,
        make_batch(1, peer=NORTH),
        500.0,
        keys((1, 0, 8)),
        (),
        ((BEN, keys((1, 0, 1))), (EVE, keys((1, 7, 1)))),
    )
    other = assignment(*keys((1, 4, 4)), slaves=(BEN,), request=b"s" * 16)
    bench.held.load([kept], [assignment(*keys((1, 0, 4)), slaves=(BEN, BOB)), other], NOW)
    assert bench.held.settle(bench.claim(name(4), caller=BEN)) == keys((1, 4, 1))
