"""Questions to a policy in the order in which daemons ask, and what other places must allow."""

from __future__ import annotations

from simulation.exchange import make_realm
from skex.policy.asking import Answer, Asking, Request, elsewhere
from skex.policy.rules import Direction
from tests.unit.policy.support import CENTRE, SITE_1, VPN, VPN_1, policy

TEXT = """
    [[hub.allow]]
    id = "hub"
    from = ["site-*"]
    to = ["centre"]
    purposes = ["traffic"]
    [[kme.allow]]
    id = "kme"
    peers = ["*"]
    [[kme.limit]]
    id = "limit"
    peers = ["*"]
    key_bytes_max = 32
    minimum_effective_threshold = 2
    [[sae.allow]]
    id = "vpn"
    local = ["vpn@*"]
    remote = ["vpn@*"]
    [[sae.limit]]
    id = "short"
    local = ["*"]
    remote = ["*"]
    lifetime_seconds_max = 60
    """
PLAIN = Request()


def rules(answer: Answer) -> list[str]:
    return [step.decision.rule for step in answer.steps]


def test_hub_is_asked_for_control_and_for_traffic() -> None:
    answer = Answer(tuple(Asking(policy(TEXT)).hub(SITE_1, CENTRE)))
    assert rules(answer) == ["default", "hub.allow.hub"]
    assert not answer.allowed
    assert answer.deciding is answer.steps[0]


def test_masters_kme_is_asked_for_saes_peer_and_hubs() -> None:
    asking = Asking(policy(TEXT), make_realm(5, 3, operators="aaabc"))
    answer = Answer(tuple(asking.master(VPN, VPN_1, PLAIN)))
    assert rules(answer) == ["sae.allow.vpn", "kme.allow.kme", "kme.allow.kme", "kme.limit.limit"]
    assert answer.deciding is not None
    assert "operator a" in answer.deciding.decision.reason
    long = Answer(tuple(asking.master(VPN, VPN_1, Request(lifetime=61))))
    assert long.steps[0].decision.rule == "sae.limit.short"


def test_slaves_kme_is_asked_for_batch_assignment_and_taking() -> None:
    asking = Asking(policy(TEXT))
    answer = Answer(tuple(asking.slave(VPN_1, VPN, PLAIN)))
    assert answer.allowed
    assert rules(answer) == ["kme.allow.kme", "kme.allow.kme", "sae.allow.vpn", "sae.allow.vpn"]
    large = Answer(tuple(asking.slave(VPN_1, VPN, Request(key_bytes=33, lifetime=61))))
    assert [step.decision.allowed for step in large.steps] == [True, False, False, True]
    assert rules(large)[1:3] == ["kme.limit.limit", "sae.limit.short"]


def test_kme_alone_makes_and_accepts_batches() -> None:
    asking = Asking(policy(TEXT), make_realm(5, 3, operators="abcde"))
    assert Answer(tuple(asking.kme(SITE_1, CENTRE, Direction.TO_PEER, PLAIN))).allowed
    assert Answer(tuple(asking.kme(CENTRE, SITE_1, Direction.FROM_PEER, PLAIN))).allowed


def test_where_nothing_was_asked_nothing_is_allowed() -> None:
    nothing = Answer(())
    assert not nothing.allowed
    assert nothing.deciding is None


def test_places_that_were_not_asked_are_named() -> None:
    assert elsewhere(SITE_1, CENTRE, {"hub", "KME site-1", "KME centre"}) == ()
    hub, kme = elsewhere(SITE_1, CENTRE, {"KME site-1"}, ", and vpn@site-1 with vpn@centre")
    assert hub.startswith("as many hubs as the threshold: site-1 to centre")
    assert kme == "the KME centre: keys from-peer site-1, and vpn@site-1 with vpn@centre"
