"""A KME's machines together, where no simulated world comes by: links enrolled while nothing is in force."""

from __future__ import annotations

import pytest

from simulation.exchange import ALICE, BOB, NO_CLAIM, Policy, Store
from skex.base import codes
from skex.base.errors import ErrorCode, LocalBug, Refused
from skex.base.ids import BatchId, Coordinate, HubName, Incarnation, KmeName, LinkId, RealmName, RequestId
from skex.base.secret import Secret
from skex.protocol import bench, kme, rollback
from skex.protocol.changes import (
    BenchCause,
    BenchKept,
    Change,
    ControlQueued,
    EvidenceKept,
    Role,
    RollbackFound,
    TallyKept,
)
from skex.protocol.peer import Identity, Stored
from skex.protocol.realm import HeldRealm, KitCollected
from skex.protocol.sender import Establish, NotEstablished
from skex.protocol.standing import Standing
from skex.protocol.traffic import AnsweredByHub, FromHub, SendToHub, Tick
from skex.wire.context import CompactContext, Purpose
from skex.wire.messages import Refusal, Share, Shared
from skex.wire.peer import Revoke, RevokeReason, encode_peer_message
from tests.unit.protocol.bench_support import Strict
from tests.unit.protocol.realm_support import hub_name, realm_of

HUBS = range(1, 4)
_NOBODY = kme.Ports(claims=None, commits=None, admission=None, assign_policy=None)  # type: ignore[arg-type]  # nobody is asked before there is a batch


def test_links_that_were_enrolled_anew_while_the_realm_file_was_too_old_accuse_nobody() -> None:
    """Every old link was frozen by a rollback; their kits renew the realm file in the same run."""
    realm = realm_of(3, 2, max_age=1000)
    old = {hub_name(number): LinkId(bytes([number]) * 8) for number in HUBS}
    held = kme.KmeState(HeldRealm(realm.to_bytes(), 2000.0), old, frozen_by_rollback=frozenset(old))
    identity = Identity(realm.name, KmeName("site-a"), Incarnation(bytes(16)))
    core = kme.KmeCore(identity, _NOBODY, 2, held, 0.0)
    core.start(0.0)
    assert core.trust.realms(0.0) is None
    persisted: list[Change] = []
    for number in HUBS:
        name = hub_name(number)
        persisted += core.handle(rollback.LinkRenewed(name, LinkId(bytes([0x40 + number]) * 8)), 1.0).persist
        persisted += core.handle(KitCollected(name, realm.to_bytes()), 1.0).persist
    for number in HUBS:
        proved = kme.LinkProved(hub_name(number), False, realm.epoch, realm.digest())  # no rollback
        persisted += core.handle(proved, 2.0).persist
    assert core.may_deliver
    assert RollbackFound(codes.ROLLBACK_FOUND.name) not in persisted


def test_kme_whose_own_pad_contradicts_itself_delivers_nothing_until_that_is_settled() -> None:
    realm = realm_of(3, 2)
    links = {hub_name(number): LinkId(bytes([number]) * 8) for number in HUBS}
    identity = Identity(realm.name, KmeName("site-a"), Incarnation(bytes(16)))
    held = kme.KmeState(HeldRealm(realm.to_bytes(), 0.0), links)
    core = kme.KmeCore(identity, _NOBODY, 2, held, 0.0)
    core.start(0.0)

    def delivers_once_every_link_is_proved() -> bool:
        for name in links:
            core.handle(kme.LinkProved(name, False, realm.epoch, realm.digest()), 1.0)  # no rollback
        return core.may_deliver

    assert delivers_once_every_link_is_proved()
    found = core.handle(rollback.OwnContradiction(codes.PAD_MARK_CONTRADICTS), 2.0)
    assert RollbackFound(codes.PAD_MARK_CONTRADICTS.name) in found.persist
    assert not delivers_once_every_link_is_proved()
    core.handle(rollback.Settled(), 3.0)
    assert delivers_once_every_link_is_proved()


def test_no_keys_are_made_for_a_peer_that_may_still_hear_that_all_keys_are_revoked() -> None:
    """It would erase them there with the others, and this end would go on delivering them."""
    revocation = Revoke(RequestId(b"r" * 16), RevokeReason.ROLLBACK, None)
    bob, carol = KmeName("bob"), KmeName("carol")
    queued = ControlQueued(Role.SENDER, bob, revocation.request, encode_peer_message(revocation))
    state = kme.KmeState(None, {}, peer_messages=Stored(queued=(queued,)))
    identity = Identity(RealmName("realm"), KmeName("alice"), Incarnation(bytes(16)))
    core = kme.KmeCore(identity, _NOBODY, 2, state, 0.0)
    core.start(0.0)

    def answer(peer: KmeName, purpose: Purpose) -> ErrorCode:
        entropy = Secret(b"e" * 32)
        asked = Establish(
            peer=peer,
            keys=1,
            key_bytes=32,
            purpose=purpose,
            lifetime=60,
            group=None,
            threshold_floor=2,
            entropy=entropy,
            token="it",
        )
        (notice,) = core.handle(asked, 1.0).notify
        assert isinstance(notice, NotEstablished)
        assert (notice.token, notice.peer) == ("it", peer)
        with pytest.raises(LocalBug):
            entropy.expose()
        return notice.code

    assert answer(bob, Purpose.TRAFFIC) is codes.REVOCATION_PENDING
    # Roots, with which the peer is told, and other peers are refused for another reason only.
    assert answer(bob, Purpose.CONTROL) is codes.REALM_NOT_IN_FORCE
    assert answer(carol, Purpose.TRAFFIC) is codes.REALM_NOT_IN_FORCE


# ── hubs on the bench ───────────────────────────────────────────────────────────────────────────
FIVE = range(1, 6)


class Benched:
    """A KME with five hubs up, of which policy benches each at its first wrong share."""

    def __init__(self) -> None:
        policy = Policy()
        realm = realm_of(5, 2)
        links = {hub_name(number): LinkId(bytes([number]) * 8) for number in (*FIVE, 9)}
        identity = Identity(realm.name, BOB, Incarnation(bytes(16)))
        held = kme.KmeState(HeldRealm(realm.to_bytes(), 0.0), links)
        ports = kme.Ports(claims=policy, commits=Store(), admission=policy, assign_policy=None)  # type: ignore[arg-type]  # nobody is asked
        self.bench = bench.Bench(Strict(), bench.Stored(), 0.0)
        self.core = kme.KmeCore(identity, ports, 2, held, 0.0, hubs=self.bench)
        self.core.start(0.0)
        for number in FIVE:
            proved = kme.LinkProved(hub_name(number), False, realm.epoch, realm.digest())  # no rollback
            self.core.handle(proved, 0.0)

    def bring(self, share: bytes) -> kme.KmeEffects:
        """The first hub brings a share of Alice's batch."""
        hubs = tuple(Coordinate(number) for number in FIVE)
        context = CompactContext(1, 2, hubs, 1, 32, Purpose.TRAFFIC, 60, None, NO_CLAIM)
        shared = Shared(ALICE, BatchId(Incarnation(b"i" * 16), 1), context, bytes(16), share)
        return self.core.handle(FromHub(hub_name(1), 1, shared), 1.0)

    def establish(self) -> kme.KmeEffects:
        entropy = Secret(bytes(self.core.entropy_bytes(ALICE, 1, 32)))
        return self.core.handle(Establish(ALICE, 1, 32, Purpose.TRAFFIC, 60, None, 2, entropy, "it"), 1.0)


def used(effects: kme.KmeEffects) -> list[HubName]:
    sends = [send for send in effects.send if isinstance(send, SendToHub)]
    return [send.hub for send in sends if isinstance(send.message, Share)]


def test_hub_that_did_wrong_is_benched_in_the_same_step_and_back_when_a_batch_without_it_failed() -> None:
    world = Benched()
    world.bring(bytes(112))
    effects = world.bring(bytes(111) + b"x")
    kept = BenchKept(hub_name(1), ALICE, True, 3600, BenchCause.WRONG_SHARES, "kme.bench.strict")
    assert [type(change) for change in effects.persist] == [TallyKept, EvidenceKept, BenchKept]
    assert bench.HubBenched(kept) in effects.notify
    assert used(world.establish()) == [hub_name(number) for number in range(2, 6)]
    deadline = world.core.next_deadline
    assert deadline is not None
    failed = world.core.handle(Tick(), deadline)
    assert bench.HubBroughtBack(hub_name(1), ALICE, bench.Return.NEEDED) in failed.notify
    assert used(world.establish()) == [hub_name(number) for number in FIVE]


def test_batch_that_hubs_refused_alike_brings_nobody_back() -> None:
    world = Benched()
    world.bring(bytes(112))
    world.bring(bytes(111) + b"x")
    sends = [send for send in world.establish().send if isinstance(send, SendToHub)]
    told = [
        type(notice)
        for send in sends
        for notice in world.core.handle(
            AnsweredByHub(send.hub, send.token, Refusal.RECEIVER_ABSENT), 2.0
        ).notify
    ]
    assert told == [NotEstablished]
    assert world.bench.standing(hub_name(1), ALICE) is Standing.LAST


def test_operator_may_bench_any_hub_of_the_realm_or_with_a_link_and_no_other() -> None:
    world = Benched()
    for number in (1, 9):
        effects = world.core.handle(bench.BenchHub(hub_name(number), 60.0, "root"), 1.0)
        assert [type(one) for one in effects.notify] == [bench.HubBenched]
    assert used(world.establish()) == [hub_name(number) for number in range(2, 6)]
    with pytest.raises(Refused) as caught:
        world.core.handle(bench.BenchHub(hub_name(7), 60.0, "root"), 1.0)
    assert caught.value.code is codes.HUB_NOT_IN_REALM
    effects = world.core.handle(bench.BringBack(hub_name(1), "root"), 1.0)
    assert [type(one) for one in effects.notify] == [bench.HubBroughtBack]
    assert world.core.handle(Tick(), 62.0).notify[-1] == bench.HubBroughtBack(
        hub_name(9), None, bench.Return.TIME_OVER
    )
