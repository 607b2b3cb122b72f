"""What a KME says of its hubs: in its status, to monitoring, and in the audit log."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from skex.audit import events
from skex.audit.fields import SYSTEM, Actor, ActorKind, Digest, Subject
from skex.base.ids import BatchId, HubName, Incarnation, KmeName
from skex.daemon import record
from skex.daemon.benching import HubConduct
from skex.protocol import bench
from skex.protocol.changes import BenchCause, BenchKept, EvidenceKept, Tally, TallyKept
from skex.protocol.evidence import Blame, Evidence
from skex.protocol.receiver import HubBlamed
from skex.store.benches import KeptEvidence
from tests.unit.protocol.bench_support import Strict
from tests.unit.protocol.realm_support import hub_name, realm_of

ONE, TWO, THREE = (hub_name(number) for number in (1, 2, 3))
NORTH = KmeName("north")
BATCH = BatchId(Incarnation(b"i" * 16), 7)
BENCHED = BenchKept(ONE, NORTH, True, 60.4, BenchCause.WRONG_SHARES, "kme.bench.strict")
OUT = BenchKept(TWO, None, True, None, BenchCause.COMMAND, "", "root", "a smell")
PROBATION = BenchKept(ONE, KmeName("east"), False, 9.0, BenchCause.MISSING_SHARES, "kme.bench.strict")
TALLIES = (
    TallyKept(ONE, NORTH, Tally(5, 1, 2, 3, 4, 2)),
    TallyKept(ONE, None, Tally(in_time=10)),
)


@pytest.fixture
def conduct() -> HubConduct:
    stored = bench.Stored(TALLIES, (BENCHED, OUT, PROBATION))
    book = bench.Bench(Strict(), stored, 100.0)
    return HubConduct(book, lambda: [ONE, TWO], lambda: realm_of(3, 2), lambda: 100.0)


def test_status_says_what_became_of_a_hubs_shares_and_how_it_is_used(conduct: HubConduct) -> None:
    one, two = conduct.status(ONE), conduct.status(TWO)
    assert one["shares"] == {"in_time": 15, "late": 1, "missing": 2, "wrong": 3, "suspected": 4}
    assert (one["blamed"], one["out"]) == (7, False)
    assert [(entry["peer"], entry["benched"], entry["seconds_left"]) for entry in one["bench"]] == [
        ("north", True, 60),
        ("east", False, 9),
    ]
    assert two["out"]
    assert two["bench"] == [
        {
            "peer": None,
            "benched": True,
            "seconds_left": None,
            "cause": "command",
            "rule": "",
            "by": "root",
            "reason": "a smell",
        }
    ]


def test_hubs_that_are_left_are_those_of_the_realm_that_nobody_took_out(conduct: HubConduct) -> None:
    assert conduct.left() == {"hubs_used": 2, "threshold": 2}
    book = bench.Bench(Strict(), bench.Stored(), 0.0)
    nothing = HubConduct(book, list, lambda: None, lambda: 0.0)
    assert nothing.left() == {"hubs_used": 0, "threshold": None}


def test_monitoring_sees_every_outcome_and_the_bench(conduct: HubConduct) -> None:
    registry = CollectorRegistry()
    registry.register(conduct)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("skex_kme_hub_shares_total", hub=ONE, outcome="in-time") == 15
    assert value("skex_kme_hub_shares_total", hub=ONE, outcome="suspected") == 4
    assert value("skex_kme_hub_shares_total", hub=TWO, outcome="wrong") == 0
    assert [value("skex_kme_hub_benched", hub=hub) for hub in (ONE, TWO)] == [1, 0]
    assert [value("skex_kme_hub_out", hub=hub) for hub in (ONE, TWO)] == [0, 1]


def test_report_names_peers_and_evidence_by_the_digest_that_the_audit_log_has(conduct: HubConduct) -> None:
    shown = Evidence(share=b"s" * 64, expected=b"e" * 64)
    what = EvidenceKept(ONE, NORTH, BATCH, Blame.WRONG_SHARE, True, shown)
    report = conduct.report(None, (KeptEvidence(what, 1_700_000_000),))
    assert [one["hub"] for one in report["hubs"]] == [ONE, TWO]
    assert [one["peer"] for one in report["hubs"][0]["peers"]] == ["north", None]
    (evidence,) = report["evidence"]
    assert evidence["digests"] == {"share": "73" * 64, "expected": "65" * 64}
    assert (evidence["blame"], evidence["certain"], evidence["at"]) == ("wrong-share", True, 1_700_000_000)
    event = record.of_kme(HubBlamed(ONE, NORTH, BATCH, Blame.WRONG_SHARE, True, shown), {})
    assert event is not None
    assert event.read_details() == {"blame": "wrong-share", "certain": True, "evidence": evidence["evidence"]}
    assert event.subjects == (Subject.hub(ONE), Subject.kme(NORTH), Subject.batch(BATCH))
    assert [one["hub"] for one in conduct.report(THREE, ())["hubs"]] == [THREE]


def test_record_of_a_benched_hub_names_cause_rule_and_peer_or_operator_and_reason() -> None:
    by_policy = record.of_kme(bench.HubBenched(BENCHED), {})
    assert by_policy is not None
    assert (by_policy.kind, by_policy.actor, by_policy.rule) == (
        events.HUB_BENCHED,
        SYSTEM,
        "kme.bench.strict",
    )
    assert by_policy.subjects == (Subject.hub(ONE), Subject.kme(NORTH))
    assert by_policy.read_details() == {"why": "wrong-shares", "note": "", "seconds": 60}
    by_command = record.of_kme(bench.HubBenched(OUT), {})
    assert by_command is not None
    assert by_command.actor == Actor(ActorKind.OPERATOR, "root")
    assert by_command.subjects == (Subject.hub(TWO),)
    assert by_command.read_details() == {"why": "command", "note": "a smell"}


@pytest.mark.parametrize("why", bench.Return)
def test_record_of_a_hub_that_is_used_again_says_why(why: bench.Return) -> None:
    event = record.of_kme(bench.HubBroughtBack(HubName("hub-1"), None, why), {})
    assert event is not None
    assert (event.kind, event.actor) == (events.HUB_BROUGHT_BACK, SYSTEM)
    assert event.read_details() == {"why": why.value}


def test_digest_of_evidence_is_none_of_the_digests_in_it() -> None:
    shown = Evidence(share=b"s" * 64)
    kept = EvidenceKept(ONE, NORTH, BATCH, Blame.WRONG_SHARE, True, shown)
    assert Digest(kept.to_bytes()).hex != "73" * 64
