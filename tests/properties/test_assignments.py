"""Two KMEs, hubs that lose, repeat and keep back, and a sender that restarts, is restored, or is cloned.

Whatever happens: what is delivered at A is recorded at B for the same SAEs and still held there; a key
is recorded once; a key is delivered once, by whichever of A's lives; and what a life of A finds
offered when it starts it never delivers.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skex.base.ids import BatchId, SaeId
from skex.protocol.assign import Release, RequestStep
from skex.protocol.changes import Change, KeysAssigned, KeysDelivered, Role
from skex.protocol.keysets import KeySet
from skex.protocol.peer import RevokeKeys
from skex.wire.peer import KeyRange, RevokeReason
from tests.unit.protocol.peer_support import (
    ALICE,
    BOB,
    HUBS,
    OTHER_SLAVE,
    SLAVE,
    End,
    Letter,
    Store,
    World,
    asking,
    delivering,
    key_range,
    request_id,
)

BATCH_KEYS = 6
_ANY = st.integers(0, 1_000_000)
_MOSTLY = st.sampled_from([True, True, True, False])
_SELDOM = st.sampled_from([False, False, False, True])
_SLAVES = st.sampled_from([(SLAVE,), (OTHER_SLAVE, SLAVE)])


class Assignments(RuleBasedStateMachine):
    """Alice assigns to Bob; hypothesis plays the network, the operators and the power supply."""

    @initialize()
    def begin(self) -> None:
        self.world = World(HUBS[:3])
        self.world.make_root()
        self.world.carry_all()
        self.batches = 0
        self.requests = 0
        self.seen: list[Letter] = []
        self.backups: list[Store] = []
        self.clone: End | None = None
        self.doomed: dict[End, KeySet] = {}
        self.recorded: dict[tuple[BatchId, int], KeysAssigned] = {}
        self.delivered = KeySet()
        self.revoked = KeySet()
        self.world.on_commit = self._committed
        self.establish()

    # ── what must hold ──────────────────────────────────────────────────────────────────────────
    def _committed(self, end: End, persist: tuple[Change, ...]) -> None:
        for change in persist:
            if isinstance(change, KeysAssigned):
                self._is_recorded_once(change)
            elif isinstance(change, KeysDelivered):
                self._may_be_delivered(end, change)

    def _is_recorded_once(self, change: KeysAssigned) -> None:
        for one in change.keys:
            for index in one.indexes:
                assert (one.batch, index) not in self.recorded
                self.recorded[one.batch, index] = change

    def _may_be_delivered(self, end: End, change: KeysDelivered) -> None:
        assert not self.delivered.common(change.keys), "delivered twice"
        assert not self.doomed.get(end, KeySet()).common(change.keys), "offered before the start"
        self.delivered.add(change.keys)
        for one in change.keys:
            for index in one.indexes:
                key = (KeyRange(one.batch, index, 1),)
                if self.revoked.contains(key):
                    continue  # a revocation takes its time to arrive
                record = self.recorded[one.batch, index]
                offer, _ = end.store.offered[BOB, record.request]
                assert (record.master, record.slaves) == (change.sae, offer.slaves)
                assert self.world.bob.store.kept[Role.RECEIVER].contains(key), "not held by the receiver"

    @invariant()
    def every_recorded_key_that_is_held_may_be_taken_by_its_slaves_only(self) -> None:
        bob = self.world.bob
        for (batch, index), record in self.recorded.items():
            held = bob.store.kept[Role.RECEIVER].has(batch, index)
            for slave in (SLAVE, OTHER_SLAVE, SaeId("stranger@bob")):
                allowed = bob.machine.assignee.may_take(ALICE, batch, index, slave)
                assert allowed == (held and slave in record.slaves)

    @invariant()
    def what_a_life_of_the_sender_may_deliver_the_receiver_holds_for_at_least_as_long(self) -> None:
        bob = self.world.bob.machine.assignee
        kept = self.world.bob.store.kept[Role.RECEIVER]
        for end in self._lives():
            for request in end.machine.assigner._requests.get(BOB, {}).values():
                if not request.machine.allows(RequestStep.SOME_DELIVERED) or self.world.now >= request.until:
                    continue
                promised = KeySet(request.left.ranges())
                promised.remove(self.revoked.ranges())
                assert kept.contains(promised.ranges())
                for batch in promised.batches:
                    for index in (index for one in promised.of_batch(batch) for index in one.indexes):
                        assert self.recorded[batch, index].request == request.content.request
                if promised:
                    record = bob._senders[ALICE].records[request.content.request]
                    assert record.held_until >= request.until

    # ── A's applications ────────────────────────────────────────────────────────────────────────
    @rule()
    def establish(self) -> None:
        self.batches += 1
        self.world.establish(BATCH_KEYS, batch=self.batches, answered=self.batches % 2 == 0)

    @rule(
        pick=_ANY,
        count=st.integers(1, 4),
        slaves=_SLAVES,
        ahead=st.booleans(),
        cloned=st.booleans(),
        arrives=_MOSTLY,
    )
    def ask(
        self, *, pick: int, count: int, slaves: tuple[SaeId, ...], ahead: bool, cloned: bool, arrives: bool
    ) -> None:
        end = self._sender(cloned)
        free = KeySet(end.store.kept[Role.SENDER].ranges())
        for _, left in end.store.offered.values():
            free.remove(left.ranges())
        batches = free.batches
        if batches:
            first = free.of_batch(batches[pick % len(batches)])[0]
            self.requests += 1
            keys = (KeyRange(first.batch, first.first, min(count, first.count)),)
            for letter in end.do(asking(self.requests, keys, slaves=slaves, ahead=ahead)):
                if arrives:
                    self._carry(letter)
                    self._carry_answers()

    @rule(pick=_ANY, count=st.integers(1, 3), cloned=st.booleans(), again=st.booleans())
    def deliver(self, pick: int, count: int, cloned: bool, again: bool) -> None:
        end = self._sender(cloned)
        offers = [
            (request, offer.keys if again else left.ranges())
            for (_, request), (offer, left) in end.store.offered.items()
            if left or again
        ]
        if offers:
            request, ranges = offers[-1 - pick % min(4, len(offers))]
            keys = (KeyRange(ranges[0].batch, ranges[0].first, min(count, ranges[0].count)),)
            end.do(delivering(int.from_bytes(request, "big"), keys))

    @rule(pick=_ANY)
    def release(self, pick: int) -> None:
        if self.requests:
            self.world.alice.do(Release(BOB, request_id(1 + pick % self.requests)))

    @precondition(lambda self: self.requests > 6)
    @rule(pick=_ANY, by_bob=st.booleans(), everything=_SELDOM)
    def revoke(self, pick: int, by_bob: bool, everything: bool) -> None:
        self.requests += 1
        key = key_range(pick % BATCH_KEYS, batch=1 + pick % self.batches)
        role, end = (Role.RECEIVER, self.world.bob) if by_bob else (Role.SENDER, self.world.alice)
        for batch in range(1, self.batches + 1):
            self.revoked.add((key_range(0, BATCH_KEYS, batch=batch),) if everything else (key,))
        keys = None if everything else (key,)
        end.do(RevokeKeys(role, end.peer, request_id(self.requests), RevokeReason.UNSPECIFIED, keys))

    # ── hubs ────────────────────────────────────────────────────────────────────────────────────
    @precondition(lambda self: self.world.letters)
    @rule(pick=_ANY)
    def carry(self, pick: int) -> None:
        self._carry(self.world.letters[pick % len(self.world.letters)])

    @rule()
    def carry_everything(self) -> None:
        while self.world.letters:
            self._carry(self.world.letters[0])

    @precondition(lambda self: self.world.letters)
    @rule(pick=_ANY)
    def lose(self, pick: int) -> None:
        self.seen.append(self.world.letters.pop(pick % len(self.world.letters)))

    @precondition(lambda self: self.seen)
    @rule(pick=_ANY)
    def replay(self, pick: int) -> None:
        self._carry(self.seen[-1 - pick % min(12, len(self.seen))])

    # ── time, power, operators ──────────────────────────────────────────────────────────────────
    @rule(seconds=st.sampled_from([0.5, 1, 5, 29, 31, 61, 91]), cut_off=st.booleans())
    def wait(self, seconds: float, cut_off: bool) -> None:
        """Either nothing of what is sent meanwhile arrives, or all of it, at the end of each second."""
        if cut_off:
            self.world.pass_time(seconds, *self._lives(), self.world.bob)
            self.seen += self.world.lose_all()[-4:]
            return
        until = self.world.now + seconds
        while self.world.now < until:
            self.world.pass_time(min(1, until - self.world.now), *self._lives(), self.world.bob)
            while self.world.letters:
                self._carry(self.world.letters[0])

    @rule()
    def renew_root(self) -> None:
        self.world.make_root()

    @rule()
    def restart_receiver(self) -> None:
        self.world.restart_bob()

    @rule()
    def restart_sender(self) -> None:
        self._start_sender(self.world.alice.store)

    @rule()
    def back_up_sender(self) -> None:
        self.backups.append(self.world.alice.store.snapshot())

    @precondition(lambda self: self.backups)
    @rule(pick=_ANY)
    def restore_sender(self, pick: int) -> None:
        self._start_sender(self.backups[pick % len(self.backups)].snapshot())

    @rule()
    def clone_sender(self) -> None:
        """The disk is copied and started elsewhere, while the first Alice runs on."""
        self.clone = self.world.alice
        self._start_sender(self.world.alice.store.snapshot())

    # ── help ────────────────────────────────────────────────────────────────────────────────────
    def _sender(self, cloned: bool) -> End:
        return self.clone if cloned and self.clone is not None else self.world.alice

    def _lives(self) -> list[End]:
        return [self.world.alice] if self.clone is None else [self.world.alice, self.clone]

    def _carry_answers(self) -> None:
        for letter in [one for one in self.world.letters if one.sender is self.world.bob]:
            self._carry(letter)

    def _carry(self, letter: Letter) -> None:
        """What is for Alice reaches each of her lives."""
        self.seen.append(letter)
        for end in self._lives() if letter.receiver == ALICE else [self.world.bob]:
            self.world.carry(letter, to=end)

    def _start_sender(self, store: Store) -> None:
        offered = KeySet()
        for _, left in store.offered.values():
            offered.add(left.ranges())
        end = self.world.restart_alice(store)
        self.doomed[end] = offered
        assert not any(left for _, left in store.offered.values()), "still offered after a start"


TestAssignments = Assignments.TestCase
TestAssignments.settings = settings(stateful_step_count=60)
