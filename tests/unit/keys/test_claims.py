"""What keys' claims say of the hubs, by this end's own realm files."""

from __future__ import annotations

from dataclasses import replace

from simulation.world import make_realm
from skex.base.ids import HubName, KmeName
from skex.keys.claims import Claims
from skex.protocol.changes import Role
from skex.wire.independence import Attribute
from skex.wire.realm import HubAttributes, HubStatus, Realm
from tests.unit.keys.keys_support import make_batch

REALM = make_realm()


def with_operators(operators: str, *, epoch: int = 1) -> Realm:
    """The realm with one operator for each hub, a letter each."""
    hubs = tuple(
        replace(hub, attributes=HubAttributes(operator, "land", "house", f"admin {operator}", "skex"))
        for hub, operator in zip(REALM.hubs, operators, strict=True)
    )
    return replace(REALM, epoch=epoch, hubs=hubs)


def test_a_key_rests_on_as_many_parties_as_the_realm_file_says() -> None:
    claims = Claims(lambda: (with_operators("aaabc"),))
    assert claims.of(Role.SENDER, make_batch(1)).effective_threshold == 1
    claims = Claims(lambda: (with_operators("aabcd"),))
    assert claims.of(Role.SENDER, make_batch(1)).effective_threshold == 2
    assert Claims(lambda: (REALM,)).of(Role.RECEIVER, make_batch(1)).effective_threshold == 3


def test_only_hubs_of_the_batch_count() -> None:
    claims = Claims(lambda: (with_operators("aaabc"),))
    batch = make_batch(1)
    hubs = tuple(HubName(name) for name in ("hub-1", "hub-4", "hub-5"))
    claim = claims.of(Role.SENDER, replace(batch, hubs=hubs))
    assert (claim.effective_threshold, claim.hubs) == (3, hubs)


def test_the_epoch_of_the_batch_is_asked_first_and_then_the_newest() -> None:
    old, new = with_operators("aaabc"), with_operators("abcde", epoch=2)
    assert Claims(lambda: (new, old)).of(Role.SENDER, make_batch(1)).effective_threshold == 1
    newer = replace(with_operators("aabcd"), epoch=3)
    assert Claims(lambda: (new, newer)).of(Role.SENDER, make_batch(1)).effective_threshold == 2


def test_a_revoked_hub_is_still_known() -> None:
    gone = with_operators("aabcd", epoch=2)
    hubs = (*gone.hubs[:4], replace(gone.hubs[4], status=HubStatus.REVOKED))
    claims = Claims(lambda: (replace(gone, hubs=hubs),))
    assert claims.of(Role.SENDER, make_batch(1)).effective_threshold == 2


def test_where_no_realm_file_is_in_force_nothing_is_claimed() -> None:
    assert Claims(tuple).of(Role.SENDER, make_batch(1)).effective_threshold == 1


def test_policy_says_what_counts_for_each_peer_and_role() -> None:
    asked: list[tuple[Role, KmeName]] = []

    def counted(role: Role, peer: KmeName) -> frozenset[Attribute]:
        asked.append((role, peer))
        return frozenset({Attribute.HOSTING})

    batch = make_batch(1)
    claims = Claims(lambda: (with_operators("abcde"),), counted)
    assert claims.of(Role.RECEIVER, batch).effective_threshold == 1
    assert asked == [(Role.RECEIVER, batch.peer)]
