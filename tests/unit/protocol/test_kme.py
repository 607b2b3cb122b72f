"""A KME's machines together, where no simulated world comes by: links enrolled while nothing is in force."""

from __future__ import annotations

import pytest

from skex.base import codes
from skex.base.errors import ErrorCode, LocalBug
from skex.base.ids import Incarnation, KmeName, LinkId, RealmName, RequestId
from skex.base.secret import Secret
from skex.protocol import kme, rollback
from skex.protocol.changes import Change, ControlQueued, Role, RollbackFound
from skex.protocol.peer import Identity, Stored
from skex.protocol.realm import HeldRealm, KitCollected
from skex.protocol.sender import Establish, NotEstablished
from skex.wire.context import Purpose
from skex.wire.peer import Revoke, RevokeReason, encode_peer_message
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
