"""Random lives of a KME's store against the simulated one: both accept, or both refuse, and agree."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skex.base.errors import ErrorCode, LocalBug
from skex.base.ids import Direction, Incarnation, KmeName, SaeId
from skex.protocol import changes as c
from skex.protocol.changes import Change, Role
from skex.wire.peer import KeyRange, RevokeReason
from tests.stores.support import (
    BOB,
    CAROL,
    FIRST,
    LINKS,
    MASTER_SAE,
    OTHER_SLAVE,
    SECOND,
    SLAVE,
    FileSubject,
    SimulatedSubject,
    batch,
    batch_id,
    control_batch,
    received,
    request,
    root,
    sent,
)

KEYS = 6
COUNTERS = st.integers(1, 4)
PEERS = st.sampled_from([BOB, CAROL])
ROLES = st.sampled_from(Role)
INCARNATIONS = st.sampled_from([FIRST, SECOND])
SMALL = st.integers(0, 3)
REQUESTS = st.integers(1, 5).map(request)


@st.composite
def key_ranges(draw: st.DrawFn) -> tuple[KeyRange, ...]:
    """Keys of one or two batches, ascending and apart, sometimes beyond what there is."""
    found = []
    for counter in sorted(draw(st.sets(COUNTERS, min_size=1, max_size=2))):
        first = draw(st.integers(0, KEYS - 1))
        found.append(KeyRange(batch_id(counter), first, draw(st.integers(1, 4))))
    return tuple(found)


@st.composite
def batches(draw: st.DrawFn) -> c.Batch:
    counter, peer = draw(COUNTERS), draw(PEERS)
    if draw(st.integers(0, 7)) == 0:
        return control_batch(counter + 4, peer=peer)
    return batch(counter, peer=peer, keys=KEYS, lifetime=draw(st.integers(1, 3)) * 100)


_PROMISED = (
    key_ranges(),
    st.just(MASTER_SAE),
    st.sampled_from([(SLAVE,), (OTHER_SLAVE,), (OTHER_SLAVE, SLAVE)]),
    st.just("tls"),
    st.just(60),
)


def tombstones(sender: KmeName, incarnation: Incarnation, counter: int | None) -> c.TombstonesDropped:
    return c.TombstonesDropped(sender, incarnation, counter)


LINK_IDS = st.sampled_from(list(LINKS.values()))
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(c.MarkRaised, LINK_IDS, st.sampled_from(Direction), SMALL),
    st.builds(c.PrefaceCounted, LINK_IDS, SMALL),
    st.builds(c.PeerSeen, LINK_IDS, SMALL, SMALL, SMALL),
    st.builds(c.LinkFrozen, LINK_IDS, st.sampled_from(["pad-jump", "rollback-found"])),
    st.builds(
        lambda what, incarnation, epoch: sent(what, incarnation=incarnation, epoch=epoch),
        batches(),
        INCARNATIONS,
        SMALL,
    ),
    st.builds(lambda what, mac: received(what, mac=mac), batches(), st.sampled_from([b"m" * 16, b"n" * 16])),
    st.builds(c.BatchAnswered, PEERS, st.builds(batch_id, COUNTERS), st.booleans()),
    st.builds(c.BatchDropped, ROLES, PEERS, st.builds(batch_id, COUNTERS)),
    st.builds(tombstones, PEERS, INCARNATIONS, st.none() | st.integers(0, 2)),
    st.builds(
        lambda counter, role, was_sent, was_heard: root(
            counter, role=role, was_sent=was_sent, was_heard=was_heard
        ),
        COUNTERS,
        ROLES,
        st.booleans(),
        st.booleans(),
    ),
    st.builds(c.RootDropped, ROLES, st.just(BOB), st.builds(batch_id, COUNTERS)),
    st.builds(c.ControlQueued, ROLES, PEERS, REQUESTS, st.binary(min_size=1, max_size=3)),
    st.builds(c.ControlDone, PEERS, REQUESTS),
    st.builds(c.RevocationCarriedOut, ROLES, PEERS, REQUESTS),
    st.builds(c.KeysOffered, PEERS, REQUESTS, *_PROMISED),
    st.builds(c.KeysAssigned, PEERS, REQUESTS, INCARNATIONS, *_PROMISED),
    st.builds(c.KeysDelivered, ROLES, PEERS, key_ranges(), st.sampled_from([MASTER_SAE, SLAVE, OTHER_SLAVE])),
    st.builds(c.KeysVoided, ROLES, PEERS, key_ranges()),
    st.builds(c.AllKeysVoided, ROLES, PEERS),
    st.builds(c.KeysRevoked, ROLES, PEERS, st.none() | key_ranges(), st.sampled_from(RevokeReason)),
    st.builds(c.KeysSuspended, ROLES, PEERS, st.none() | key_ranges(), st.sampled_from(c.SuspendReason)),
    st.builds(c.KeysResumed, ROLES, PEERS, st.none() | key_ranges()),
    st.builds(lambda epoch: c.RealmAccepted(epoch, b"file %d" % epoch), st.integers(1, 3)),
    st.builds(c.RollbackFound, st.sampled_from(["rollback-found", "pad-mark-contradicts"])),
    st.just(c.RollbackSettled()),
)
BY_THE_WAY = st.lists(CHANGES, max_size=4)


class Lives(RuleBasedStateMachine):
    """One history, told to both stores."""

    directory: Path | None = None

    @initialize()
    def begin(self) -> None:
        self.real = FileSubject(self.directory)
        self.model = SimulatedSubject(clock=self.real.clock)

    @rule(sets=st.lists(BY_THE_WAY, min_size=1, max_size=3))
    def commit(self, sets: list[list[Change]]) -> None:
        outcomes: list[ErrorCode | None] = []
        for subject in (self.real, self.model):
            try:
                subject.commit(*sets)
                outcomes.append(None)
            except LocalBug as bug:
                outcomes.append(bug.code)
        assert outcomes[0] == outcomes[1]

    @rule(counter=COUNTERS, peer=PEERS, role=ROLES)
    def establish(self, counter: int, peer: KmeName, role: Role) -> None:
        """Most lives are about batches that exist."""
        what = batch(counter, peer=peer, keys=KEYS)
        self.commit([[sent(what) if role is Role.SENDER else received(what)]])

    @rule(data=st.data(), sae=st.sampled_from([SLAVE, OTHER_SLAVE]))
    def take(self, data: st.DataObject, sae: SaeId) -> None:
        """And about keys that were assigned."""
        records = self.model.state().peer_messages.assigned
        if records:
            record = data.draw(st.sampled_from(records))
            self.commit([[c.KeysDelivered(Role.RECEIVER, record.sender, record.keys, sae)]])

    @rule(seconds=st.integers(0, 500))
    def wait(self, seconds: int) -> None:
        self.real.clock.seconds += seconds

    @rule()
    @precondition(lambda self: self.directory is not None)
    def restart(self) -> None:
        self.real.reopen()

    @invariant()
    def agree(self) -> None:
        assert self.real.state() == self.model.state()
        for link_id in LINKS.values():
            assert self.real.marks(link_id) == self.model.marks(link_id)
        for peer in (BOB, CAROL):
            for counter in range(1, 9):
                name = batch_id(counter)
                assert self.real.is_committed(peer, name) == self.model.is_committed(peer, name)

    @invariant()
    def keys_that_are_left_can_be_read(self) -> None:
        for one in self.real.store.kept(0.0):
            context, peer = one.batch.context, one.batch.peer
            whole = batch(one.batch.batch.counter, peer=peer, keys=context.keys).keys.expose()
            secrets = iter(self.real.store.read_keys(one.role, peer, one.left))
            for stretch in one.left:
                for index in stretch.indexes:
                    assert next(secrets).expose() == whole[index * 32 : index * 32 + 32]

    def teardown(self) -> None:
        self.real.close()


class LivesInAFile(Lives):
    """The same, with restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())

    def teardown(self) -> None:
        super().teardown()
        if self.directory is not None:
            shutil.rmtree(self.directory)


TestLives = Lives.TestCase
TestLivesInAFile = LivesInAFile.TestCase
# A restart costs a hundred times what a commit in memory does.
TestLivesInAFile.settings = settings(max_examples=max(10, settings().max_examples // 5))
