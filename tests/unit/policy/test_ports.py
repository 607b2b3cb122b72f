"""The machines' ports answer as the policy in force says, and another policy takes force at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from skex.base import limits
from skex.base.ids import Coordinate, HubName, Incarnation, KmeName
from skex.policy.decisions import Decision
from skex.policy.evaluate import Held, PolicySet, _Compiled
from skex.policy.ports import (
    ActivePolicy,
    HubRelayPolicy,
    KmeAdmission,
    KmeAssignPolicy,
    KmeBenchRules,
    SaePolicy,
)
from skex.policy.schema import PAIR_QUOTAS
from skex.protocol.assignee import AssignPolicy
from skex.protocol.bench import BenchRule
from skex.protocol.hub import HubRelay, Reason, RefusedRequest, RelayPolicy, Request, Stream
from skex.protocol.receiver import Admission
from skex.protocol.traffic import FromKme, KmeUp, SendToKme
from skex.wire import messages
from skex.wire.claim import Claim
from skex.wire.context import Purpose
from skex.wire.independence import UNKNOWN_HUB
from skex.wire.realm import HubAttributes
from tests.unit.policy.support import CENTRE, SITE_1, SITE_2, VPN, VPN_1, WEB_1, batch, claim, policy

ALLOW_ALL = '[[hub.allow]]\nfrom = ["*"]\nto = ["*"]\n[[kme.allow]]\npeers = ["*"]\n'
INFORMATION_THEORETIC = '[[kme.limit]]\npeers = ["*"]\nminimum_claim = "information-theoretic"\n'


class Kept:
    """What the tests say is stored."""

    def __init__(self) -> None:
        self.amount = Held(0, 0)

    def held(self, peer: KmeName) -> Held:
        return self.amount


class Links:
    """This end's claims: which links are computational."""

    def __init__(self, *computational: int) -> None:
        self._claim = claim(*computational)

    def own_claim(self, hubs: Sequence[Coordinate]) -> Claim:
        return self._claim


def admission(text: str, *, computational: tuple[int, ...] = ()) -> tuple[KmeAdmission, Kept]:
    kept = Kept()
    return KmeAdmission(ActivePolicy(policy(text)), kept, Links(*computational)), kept


def test_ports_have_the_shapes_that_the_machines_ask_for() -> None:
    active = ActivePolicy(policy(""))
    relay: RelayPolicy = HubRelayPolicy(active)
    entry: Admission = KmeAdmission(active, Kept(), Links())
    assign: AssignPolicy = KmeAssignPolicy(active)
    assert not relay.may_establish(SITE_1, CENTRE, Purpose.TRAFFIC)
    assert not entry.may_establish(SITE_1, CENTRE, Purpose.TRAFFIC)
    assert not assign.may_assign(SITE_1, VPN_1, (VPN,), "any", 1)


def test_relay_answers_follow_the_policy_that_is_put_in_force() -> None:
    active = ActivePolicy(policy(""))
    relay = HubRelayPolicy(active)
    assert not relay.may_establish(SITE_1, CENTRE, Purpose.TRAFFIC)
    active.replace(
        policy(
            ALLOW_ALL
            + '[[hub.pair_quota]]\nfrom=["*"]\nto=["*"]\nbytes_burst=1\n'
            + '[[hub.total_quota]]\nto=["*"]\nbytes_burst=2\n[hub]\ncontrol_floor_bytes = 300000'
        )
    )
    assert relay.may_establish(SITE_1, CENTRE, Purpose.TRAFFIC)
    assert relay.pair_quota(SITE_1, CENTRE, Stream.SHARES).pad_bytes.burst == 1
    assert relay.total_quota(CENTRE, Stream.SHARES).pad_bytes.burst == 2
    assert relay.floor(Stream.SHARES) == 300_000


def test_prober_of_many_names_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POLICY_DECISIONS", 8)
    active = ActivePolicy(policy(ALLOW_ALL))
    relay = HubRelayPolicy(active)
    for number in range(100):
        assert relay.may_establish(KmeName(f"site-{number}"), CENTRE, Purpose.TRAFFIC)
        assert len(active._known) <= 8


def test_equal_question_is_decided_once_until_the_policy_changes() -> None:
    asked = []

    def answer(current: PolicySet) -> int:
        asked.append(current)
        return len(asked)

    active = ActivePolicy(policy(""))
    assert [active.remembered("q", answer), active.remembered("q", answer)] == [1, 1]
    active.replace(policy(ALLOW_ALL))
    assert active.remembered("q", answer) == 2
    assert asked[1] is active.current


def test_a_flood_of_shares_has_each_rule_of_the_receiver_matched_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    matched: list[object] = []
    matching = _Compiled.matching

    def counted(self: _Compiled[Any], *question: Any) -> Any:
        matched.append(question)
        return matching(self, *question)

    entry, _ = admission(ALLOW_ALL)
    monkeypatch.setattr(_Compiled, "matching", counted)
    assert entry.has_room(SITE_1, batch(keys=1))
    once = len(matched)
    assert once > 0
    for keys in range(2, 50):
        assert entry.has_room(SITE_1, batch(keys=keys))
    assert len(matched) == once


def test_a_greedy_sender_at_the_default_quota_leaves_a_receiver_to_others() -> None:
    active = ActivePolicy(policy(ALLOW_ALL))

    class Pads:
        def remaining(self, kme: KmeName) -> int:
            del kme
            return 10**12

    relay = HubRelay(HubRelayPolicy(active), Pads(), b"realm")
    for kme in (SITE_1, SITE_2, CENTRE):
        relay.handle(KmeUp(kme, Incarnation(bytes(16))), 0.0)
    context = batch(keys=1)

    def relayed(sender: KmeName, counter: int, now: float) -> bool:
        share = messages.Share(CENTRE, counter, context, bytes(16), bytes(context.secret_bytes))
        effects = relay.handle(FromKme(sender, counter, share), now)
        return any(isinstance(send.message, messages.Shared) for send in effects.send)

    passed = 0
    for tick in range(4000):  # a thousand a second for four seconds; every hundredth time somebody else asks
        passed += relayed(SITE_1, tick, tick / 1000)
        assert tick % 100 or relayed(SITE_2, tick, tick / 1000)
    _, _, per_second, burst = PAIR_QUOTAS[Stream.SHARES]
    assert passed == burst + 4 * per_second - 1
    # Of five hubs, at half a millisecond a share: a burst is over in a second, then a quarter is taken.
    assert 5 * 0.0005 * burst < 1
    assert 5 * 0.0005 * per_second <= 0.25


def test_floor_of_the_policy_is_what_the_relay_leaves_of_a_receivers_pad() -> None:
    active = ActivePolicy(policy(ALLOW_ALL))
    ports = HubRelayPolicy(active)

    class Pads:
        def remaining(self, kme: KmeName) -> int:
            return 200_000

    relay = HubRelay(ports, Pads(), b"realm", floor=ports.floor)
    for kme in (SITE_1, CENTRE):
        relay.handle(KmeUp(kme, Incarnation(bytes(16))), 0.0)
    context = batch(keys=1)
    share = messages.Share(CENTRE, 1, context, bytes(16), bytes(context.secret_bytes))
    first = relay.handle(FromKme(SITE_1, 1, share), 0.0)
    assert SendToKme(SITE_1, messages.Done(1)) in first.send
    active.replace(policy(ALLOW_ALL + "[hub]\ncontrol_floor_bytes = 199_000"))
    assert relay.handle(FromKme(SITE_1, 2, share), 0.0).send
    active.replace(policy(ALLOW_ALL + "[hub]\ncontrol_floor_bytes = 200_000"))
    last = relay.handle(FromKme(SITE_1, 3, share), 0.0)
    assert last.send == (SendToKme(SITE_1, messages.Refuse(3, messages.Refusal.PAD_FLOOR)),)


def test_admission_takes_peers_and_threshold_from_the_policy() -> None:
    entry, _ = admission(
        '[[kme.allow]]\npeers = ["site-1"]\n[[kme.limit]]\npeers = ["*"]\nminimum_threshold = 4'
    )
    assert entry.may_establish(SITE_1, CENTRE, Purpose.CONTROL)
    assert not entry.may_establish(SITE_2, CENTRE, Purpose.CONTROL)
    assert entry.accepts_threshold(SITE_1, 4)
    assert not entry.accepts_threshold(SITE_1, 3)


def test_admission_takes_what_makes_hubs_independent_from_the_policy() -> None:
    entry, _ = admission(
        ALLOW_ALL + '[[kme.limit]]\npeers = ["site-1"]\nminimum_effective_threshold = 2'
        '\nindependence = ["hosting"]'
    )
    hubs = [HubAttributes(f"op {one}", "land", "house", f"admin {one}", "skex") for one in range(3)]
    assert not entry.accepts_hubs(SITE_1, hubs, 2)
    assert entry.accepts_hubs(SITE_2, hubs, 2)


def test_every_refusal_of_a_peer_is_told_with_its_rule() -> None:
    told: list[tuple[str, str]] = []
    active = ActivePolicy(
        policy(
            """
            [[kme.allow]]
            peers = ["site-1"]
            [[kme.limit]]
            id = "k"
            peers = ["*"]
            minimum_threshold = 3
            minimum_effective_threshold = 2
            key_bytes_max = 32
            [[sae.deny]]
            id = "web"
            local = ["vpn@*"]
            remote = ["web@*"]
            """
        )
    )

    def hear(peer: KmeName, decision: Decision) -> None:
        told.append((peer, decision.rule))

    entry = KmeAdmission(active, Kept(), Links(), hear)
    assign = KmeAssignPolicy(active, hear)
    assert not entry.may_establish(SITE_2, CENTRE, Purpose.TRAFFIC)
    assert not entry.accepts_threshold(SITE_1, 2)
    assert not entry.accepts_hubs(SITE_1, [UNKNOWN_HUB] * 3, 3)
    assert not entry.has_room(SITE_1, batch(threshold=3, key_bytes=64))
    assert not assign.may_assign(SITE_1, WEB_1, (VPN,), "any", 60)
    assert told == [
        (SITE_2, "default"),
        (SITE_1, "kme.limit.k"),
        (SITE_1, "kme.limit.k"),
        (SITE_1, "kme.limit.k"),
        (SITE_1, "sae.deny.web"),
    ]
    assert entry.may_establish(SITE_1, CENTRE, Purpose.TRAFFIC)
    assert entry.accepts_threshold(SITE_1, 3)
    assert len(told) == 5


def test_batch_that_breaks_a_limit_has_no_room() -> None:
    entry, kept = admission(
        ALLOW_ALL + '[[kme.limit]]\npeers = ["*"]\nkey_bytes_max = 32\nstored_batches_max = 1'
    )
    assert entry.has_room(SITE_1, batch())
    assert not entry.has_room(SITE_1, batch(key_bytes=33))
    kept.amount = Held(1, 320)
    assert not entry.has_room(SITE_1, batch())
    assert entry.has_room(SITE_1, batch(keys=1, key_bytes=64, purpose=Purpose.CONTROL))


def test_claim_counts_the_links_of_both_ends() -> None:
    mine, _ = admission(ALLOW_ALL + INFORMATION_THEORETIC, computational=(1,))
    assert mine.has_room(SITE_1, batch(threshold=2))
    assert mine.has_room(SITE_1, batch(threshold=2, computational=(1,)))
    decision = mine.admits(SITE_1, batch(threshold=2, computational=(2,)))
    assert decision.reason == "the claim is computational; at least information-theoretic is demanded"


def test_control_batch_needs_no_claim_because_what_it_carries_is_computational_anyway() -> None:
    entry, _ = admission(ALLOW_ALL + INFORMATION_THEORETIC, computational=(1, 2, 3))
    assert entry.has_room(SITE_1, batch(keys=1, key_bytes=64, purpose=Purpose.CONTROL))
    assert not entry.has_room(SITE_1, batch())


def test_key_service_asks_the_policy_in_force() -> None:
    active = ActivePolicy(policy(""))
    sae = SaePolicy(active)
    assert not sae.may_ask(VPN, VPN_1)
    active.replace(
        policy(
            ALLOW_ALL
            + '[[sae.allow]]\nlocal = ["vpn@centre"]\nremote = ["*"]\n[aliases]\nold = "vpn@site-1"\n'
            + '[[sae.limit]]\nlocal = ["*"]\nremote = ["*"]\nkeys_per_request_max = 2\n'
        )
    )
    assert sae.may_ask(VPN, VPN_1)
    assert sae.may_take_new(VPN, VPN_1, 2, 32, "any", slaves=1, lifetime=60)
    assert not sae.may_take_new(VPN, VPN_1, 3, 32, "any")
    assert sae.may_take_by_id(VPN, VPN_1, 2, "any")
    assert not sae.may_take_by_id(VPN, VPN_1, 3, "any")
    assert sae.bounds(VPN, VPN_1).keys_per_request_max.value == 2
    assert sae.resolve("old") == VPN_1
    assert KmeAssignPolicy(active).may_assign(SITE_1, VPN_1, (VPN,), "any", 60)


def test_what_a_hub_refused_is_explained_by_the_rule_that_decided() -> None:
    relay = HubRelayPolicy(
        ActivePolicy(
            policy(
                """
                [[hub.deny]]
                id = "out"
                from = ["site-1"]
                to = ["*"]
                purposes = ["traffic"]
                [[hub.pair_quota]]
                id = "pair"
                from = ["*"]
                to = ["*"]
                requests_burst = 1
                [[hub.total_quota]]
                id = "all"
                to = ["*"]
                stream = "peer-messages"
                bytes_burst = 1
                """
            )
        )
    )

    def why(request: Request, reason: Reason, receiver: KmeName | None = CENTRE, **purpose: Purpose) -> str:
        refused = RefusedRequest(
            request, SITE_1, receiver, messages.refusal_code(reason.refusal), reason, **purpose
        )
        decision = relay.why(refused)
        assert decision is None or not decision.allowed
        return "" if decision is None else decision.rule

    assert why(Request.SHARE, Reason.FORBIDDEN, purpose=Purpose.TRAFFIC) == "hub.deny.out"
    assert why(Request.SHARE, Reason.FORBIDDEN, purpose=Purpose.CONTROL) == "default"
    assert why(Request.CONFIRM, Reason.FORBIDDEN, purpose=Purpose.TRAFFIC) == "default"
    assert why(Request.PEER, Reason.FORBIDDEN) == "default"
    assert why(Request.SHARE, Reason.PAIR_QUOTA) == "hub.pair_quota.pair"
    assert why(Request.PEER, Reason.TOTAL_QUOTA) == "hub.total_quota.all"
    assert why(Request.SHARE, Reason.TOTAL_QUOTA) == "default"
    assert why(Request.SHARE, Reason.ABSENT) == ""
    assert why(Request.REALM, Reason.REALM_SENT, None) == ""


def test_bench_rules_follow_the_policy_in_force() -> None:
    active = ActivePolicy(policy("[groups]\n"))
    rules = KmeBenchRules(active)
    assert rules.bench_rule(HubName("h"), CENTRE) is None
    stated = '[[kme.bench]]\nid = "b"\npeers = ["*"]\nwrong_shares = 4\n'
    active.replace(policy(stated))
    assert rules.bench_rule(HubName("h"), CENTRE) == BenchRule(4, None, 3600, "kme.bench.b", "default")
    active.replace(policy(stated + "missing_in_a_row = 7\nseconds = 9\n"))
    rule = BenchRule(4, 7, 9, "kme.bench.b", "kme.bench.b")
    assert rules.bench_rule(HubName("h"), CENTRE) == rule
