"""Every input of rejected.json is refused by the production code, with exactly the outcome in the file."""

from __future__ import annotations

from typing import Any

import pytest

from simulation.disk import Disk
from skex.base.errors import PeerFault, Refused, SkexError, StoreFault
from skex.base.ids import Direction, HubName, Incarnation, KmeName, LinkId, SaeId
from skex.base.secret import Secret
from skex.pad.derived import DerivedPad
from skex.pad.table import TablePad
from skex.protocol import assignee, establishment, hub, link, peer, receiver, sender, traffic
from skex.protocol.changes import BatchReceived, BatchSent, Role, RootKept
from skex.protocol.establishment import Realms
from skex.protocol.quota import Quota, Rate
from skex.protocol.realm import HeldRealm, KitCollected, RealmTrust
from skex.protocol.traffic import FromHub, FromKme, HubUp, KmeDown, KmeUp
from skex.wire import messages
from skex.wire.codec import Fields, decode
from skex.wire.context import CompactContext, Purpose
from skex.wire.messages import decode_message
from skex.wire.peer import (
    Assign,
    KeyRange,
    NotAssigned,
    PeerDirection,
    VoidKeys,
    decode_peer_message,
    encode_peer_message,
)
from skex.wire.realm import Realm
from tests.vectors.machines import OneEnd, batch_id, message_of
from tests.vectors.reading import Case, cases, data_of, label, named
from tests.vectors.test_machines import REALM, Port, bring, establish, new_sender

FILE = "rejected.json"


def code_of(call: Any, *arguments: Any) -> str:
    """The code of the error that a call must end in."""
    with pytest.raises((PeerFault, Refused, StoreFault)) as caught:
        call(*arguments)
    assert isinstance(caught.value, SkexError)
    return caught.value.code.name


# ── refused for their bytes ─────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("case", cases(FILE, "encodings"), ids=label)
def test_bytes_outside_the_profile_are_refused(case: Case) -> None:
    assert code_of(decode, data_of(case["bytes"]), case["limit"]) == case["outcome"]["error"]


@pytest.mark.parametrize("case", cases(FILE, "link_messages"), ids=label)
def test_malformed_link_messages_are_refused(case: Case) -> None:
    found = code_of(decode_message, data_of(case["body"]), Direction(case["direction"]))
    assert found == case["outcome"]["error"]


@pytest.mark.parametrize("case", cases(FILE, "peer_messages"), ids=label)
def test_malformed_peer_messages_are_refused(case: Case) -> None:
    found = code_of(decode_peer_message, data_of(case["plaintext"]), PeerDirection(case["direction"]))
    assert found == case["outcome"]["error"]


@pytest.mark.parametrize("case", cases(FILE, "realm_files"), ids=label)
def test_bad_realm_files_are_refused(case: Case) -> None:
    assert code_of(Realm.from_bytes, data_of(case["file"])) == case["outcome"]["error"]


@pytest.mark.parametrize("case", cases(FILE, "realm_successions"), ids=label)
def test_realm_files_that_may_not_follow_are_refused(case: Case) -> None:
    state, data, name = case["state"], data_of(case["file"]), HubName(case["hub"])
    held = HeldRealm(data_of(state["in_force"]), 0) if "in_force" in state else None
    trust = RealmTrust(state["floor"], 0, held)
    for kit_hub, kit in state.get("kits", ()):
        trust.handle(KitCollected(HubName(kit_hub), data_of(kit)), 0)
    event = KitCollected(name, data) if case["by"] == "kit" else FromHub(name, 1, messages.RealmFile(data))
    try:
        effects = trust.handle(event, 0)
    except Refused as error:
        found = [error.code.name]
    else:
        notices: Any = effects.notify
        found = [notice.code.name for notice in notices]
        assert not effects.persist
    assert found == [case["outcome"]["error"]]


@pytest.mark.parametrize("case", cases(FILE, "contexts"), ids=label)
def test_contexts_that_disagree_with_the_realm_are_refused(case: Case) -> None:
    compact = CompactContext.from_fields(Fields(decode(data_of(case["compact"]), 1000)))
    realm = Realm.from_bytes(data_of(case["realm"]))
    with pytest.raises(Refused) as caught:
        establishment.expand(
            compact,
            realm,
            sender=case["sender"],
            receiver=case["receiver"],
            batch=batch_id(case["batch_id"]),
        )
    assert caught.value.code.name == case["outcome"]["error"]


# ── frames and records ──────────────────────────────────────────────────────────────────────────
def in_state(state: Case) -> OneEnd:
    """An end after so much of a case in another file."""
    case = named(state["file"], "cases", state["case"])
    end = OneEnd(case, state["end"])
    steps = case["frames"] if "frames" in case else case["steps"]
    for step in steps[: state["after"]]:
        if step.get("from") == end.who and "decoy" in case:
            end.sent.clear()  # a proof that nobody can verify: any will do
        else:
            end.step(step)
    assert end.error is None
    return end


@pytest.mark.parametrize("case", cases(FILE, "frames"), ids=label)
def test_bad_frames_end_the_connection(case: Case) -> None:
    end = in_state(case["state"])
    end.end.receive(data_of(case["bytes"]))
    assert end.error == case["outcome"]["error"]
    assert not end.sent


@pytest.mark.parametrize("case", cases(FILE, "records"), ids=label)
def test_bad_records_end_the_connection(case: Case) -> None:
    end = in_state(case["state"])
    heard = len(end.node.heard)
    end.end.receive(data_of(case["bytes"]))
    outcome = case["outcome"]
    assert end.error == outcome.get("error")
    assert len(end.node.heard) == heard
    assert len(end.sent) == ("answer" in outcome)


def test_a_message_of_an_unknown_type_is_answered_as_in_the_file() -> None:
    case = named(FILE, "records", "hub: a message of an unknown type")
    end, other = in_state(case["state"]), in_state({**case["state"], "end": "kme"})
    other.sent.clear()
    end.end.receive(data_of(case["bytes"]))
    answer = message_of(data_of(case["outcome"]["answer"]), Direction.TO_KME)
    assert answer == messages.Refuse(2, case["outcome"]["refuse"]["value"])
    # The KME counts this record as sent: it opens the answer under the same ordinal.
    other.end.send(messages.GetRealm(), token="unknown")
    other.end.receive(end.sent.popleft())
    assert other.node.heard == [link.Answered("unknown", answer.refusal)]


@pytest.mark.parametrize("case", cases(FILE, "pads"), ids=label)
def test_material_with_a_hole_is_refused(case: Case) -> None:
    material, link_id = data_of(case["material"]), LinkId(bytes(8))
    if case["kind"] == "derived":
        seed = Secret(material)
        found = code_of(DerivedPad.create, Disk(0), "pad", link_id, Direction.TO_HUB, seed)
    else:
        found = code_of(TablePad.create, Disk(0), "pad", link_id, Direction.TO_HUB, [material])
    assert found == case["outcome"]["error"]


# ── envelopes ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("case", cases(FILE, "envelopes"), ids=label)
def test_bad_envelopes_are_dropped_and_not_answered(case: Case) -> None:
    state = case["state"]
    roots = tuple(
        RootKept(
            Role.RECEIVER,
            KmeName(root["sender"]),
            batch_id(root["root_id"]),
            Secret(data_of(root["root"])),
            sent=True,
            received=True,
        )
        for root in state["roots"]
    )
    identity = peer.Identity(state["realm"], KmeName(state["me"]), Incarnation(bytes(16)))
    machine = peer.PeerMessages(identity, Anyone(), peer.Stored(roots=roots), 0)
    machine.handle(HubUp(HubName("hub-1")), 0)
    forwarded = messages.Forwarded(KmeName(case["from"]), data_of(case["envelope"]))
    effects = machine.handle(FromHub(HubName("hub-1"), 1, forwarded), 0)
    (dropped,) = effects.notify
    assert isinstance(dropped, peer.EnvelopeDropped)
    assert dropped.code.name == case["outcome"]["error"]
    assert not effects.persist
    assert not effects.send


class Anyone(Port):
    """A policy for assignments."""

    def __init__(self, *, allowed: bool = True) -> None:
        super().__init__()
        self._allowed = allowed

    def may_assign(
        self, a: KmeName, master: SaeId, slaves: tuple[SaeId, ...], purpose: str, lifetime: int
    ) -> bool:
        return self._allowed


# ── shares ──────────────────────────────────────────────────────────────────────────────────────
class Admission(Port):
    """B's policy in the state of a case."""

    def __init__(self, state: Case) -> None:
        super().__init__({"computational": "", "randomness": 0, "enrolment": 0})
        self._state = state

    def may_establish(self, a: KmeName, b: KmeName, purpose: Purpose) -> bool:
        return bool(self._state["allowed"])

    def accepts_threshold(self, a: KmeName, threshold: int) -> bool:
        return threshold >= int(self._state["floor"])

    def has_room(self, a: KmeName, context: CompactContext) -> bool:
        return bool(self._state["room"])


def receiver_in(state: Case) -> receiver.Receiver:
    realms = None if state["realm"] is None else Realms(Realm.from_bytes(data_of(state["realm"])))
    machine = receiver.Receiver(
        name=KmeName(state["me"]),
        incarnation=Incarnation(data_of(state["incarnation"])),
        realms=realms,
        claims=Admission(state),
        admission=Admission(state),
        batches=(),
        marks={},
    )
    for name in REALM.active_hubs:
        machine.handle(HubUp(name.name), 0)
    return machine


@pytest.mark.parametrize("case", cases(FILE, "shares"), ids=label)
def test_bad_shares_are_refused_or_of_no_use(case: Case) -> None:
    state, outcome = case["state"], case["outcome"]
    machine = receiver_in(state)
    brought = [
        (HubName(name), message_of(data_of(body), Direction.TO_KME)) for name, body in state["brought"]
    ]
    before = bring(machine, brought)
    assert not any(isinstance(send.message, messages.Refuse) for effect in before for send in effect.send)
    shared = message_of(data_of(case["body"]), Direction.TO_KME)
    assert isinstance(shared, messages.Shared)
    if state["answered"] is not None:
        machine.handle(receiver.Answered(shared.sender, shared.batch, state["answered"]), 2)
    after = bring(machine, [(HubName(case["hub"]), shared)])
    refusals = [send.message for effect in after for send in effect.send]
    wanted = [messages.Refuse(1, outcome["refuse"]["value"])] if "refuse" in outcome else []
    assert refusals == wanted
    if outcome.get("accepted") is False:
        assert not [one for effect in before + after for one in effect.persist]
    blamed = [one.hub for effect in after for one in effect.notify if isinstance(one, receiver.HubBlamed)]
    assert blamed == ([outcome["named"]] if "named" in outcome else [])
    assert not [one for effect in after for one in effect.persist if isinstance(one, BatchReceived)]


# ── confirmations ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("case", cases(FILE, "confirmations"), ids=label)
def test_bad_confirmations_are_dropped_and_the_right_one_is_still_accepted(case: Case) -> None:
    state = case["state"]
    machine = two_pending(state)
    confirmed = message_of(data_of(case["body"]), Direction.TO_KME)
    assert isinstance(confirmed, messages.Confirmed)
    effects = machine.handle(FromHub(HubName(case["hub"]), 1, confirmed), 1)
    assert not effects.persist
    (notice,) = effects.notify
    if case["outcome"] == {"dropped": True}:
        assert isinstance(notice, sender.ConfirmDropped)
        assert notice.doubt is sender.Doubt.FORGED
    else:
        batch = confirmed.confirmation.batch
        assert notice == sender.AnswerBatch(confirmed.receiver, batch, ok=case["outcome"]["answer"] != "VOID")
    right = message_of(data_of(state["accepted_afterwards"]), Direction.TO_KME)
    effects = machine.handle(FromHub(HubName("hub-2"), 1, right), 2)
    assert [type(change) for change in effects.persist] == [BatchSent]


def two_pending(state: Case) -> sender.Sender:
    """A made two batches, with the counters of the file."""
    batches = [named(state["of"], "batches", name) for name in state["pending"]]
    machine = new_sender(batches[0])
    for batch in batches:
        establish(machine, batch, batch["name"])
    return machine


# ── requests at the hub ─────────────────────────────────────────────────────────────────────────
class Operator:
    """A hub's policy and links in the state of a case."""

    def __init__(self, state: Case) -> None:
        self._state = state

    def may_establish(self, a: KmeName, b: KmeName, purpose: Purpose) -> bool:
        return [a, b] in self._state["may_establish"]

    def pair_quota(self, a: KmeName, b: KmeName, stream: hub.Stream) -> Quota:
        return Quota(Rate(1, self._state["quota_bytes"]), Rate(100, 100))

    def total_quota(self, b: KmeName, stream: hub.Stream) -> Quota:
        return self.pair_quota(b, b, stream)

    def remaining(self, kme: KmeName) -> int:
        return int(self._state["pad_left"])


@pytest.mark.parametrize("case", cases(FILE, "hub_requests"), ids=label)
def test_a_hub_refuses_with_the_first_reason_that_applies(case: Case) -> None:
    state = case["state"]
    relay = hub.HubRelay(Operator(state), Operator(state), data_of(state["realm"]))
    for name in state["connected"]:
        relay.handle(KmeUp(KmeName(name), Incarnation(data_of(state["incarnations"][name]))), 0)
    requests = [*state["before"], [case["from"], case["body"]]]
    for ordinal, (name, body) in enumerate(requests, 1):
        last = ordinal == len(requests)
        for gone in state["gone"] if last else ():
            relay.handle(KmeDown(KmeName(gone)), 0)
        message = message_of(data_of(body), Direction.TO_HUB)
        effects = relay.handle(FromKme(KmeName(name), ordinal, message), 0)
        refused = [send for send in effects.send if isinstance(send.message, messages.Refuse)]
        refusal = messages.Refuse(ordinal, case["outcome"]["refuse"]["value"])
        wanted = [traffic.SendToKme(KmeName(name), refusal)] if last else []
        assert refused == wanted
        assert len(effects.send) == 1 or not last


# ── assignments ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("case", cases(FILE, "assignments"), ids=label)
def test_an_assignment_is_refused_as_in_the_file(case: Case) -> None:
    state = case["state"]
    held = [KeyRange(batch_id(one[0]), one[1], one[2]) for one in state["held"]]
    keys = [assignee.KeysHeld(KmeName(state["sender"]), one.batch, (one,), answered=True) for one in held]
    machine = assignee.Assignee(
        KmeName(state["me"]),
        Incarnation(data_of(state["incarnation"])),
        Anyone(allowed=state["allowed"]),
        held=keys,
        assigned=(),
        now=0,
    )
    for plaintext in state["before"]:
        assert machine.handle(asked(state, plaintext), 1).persist
    effects = machine.handle(asked(state, case["plaintext"]), 2)
    assert not effects.persist
    (answer,) = (post.message for post in effects.send)
    assert isinstance(answer, NotAssigned)
    assert encode_peer_message(answer).hex() == case["outcome"]["answer"]
    assert answer.refusal == case["outcome"]["not_assigned"]["value"]


def asked(state: Case, plaintext: str) -> assignee.PeerAsked:
    message = decode_peer_message(data_of(plaintext), PeerDirection.FROM_SENDER)
    assert isinstance(message, Assign | VoidKeys)
    return assignee.PeerAsked(KmeName(state["sender"]), HubName("hub-1"), message)


# ── the file itself ─────────────────────────────────────────────────────────────────────────────
def test_names_of_refusals_are_those_of_their_values() -> None:
    parts = ("records", "shares", "hub_requests")
    outcomes = [case["outcome"] for part in parts for case in cases(FILE, part)]
    found = [outcome["refuse"] for outcome in outcomes if "refuse" in outcome]
    assert all(messages.Refusal[one["name"]] == one["value"] for one in found)
    assert {one["value"] for one in found} == set(messages.Refusal)
