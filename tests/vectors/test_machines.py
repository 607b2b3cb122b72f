"""The production code replays the specification's vectors: the same inputs give the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest

from simulation.disk import Disk
from skex.base.ids import (
    BatchId,
    Coordinate,
    Direction,
    GroupId,
    HubName,
    Incarnation,
    KmeName,
    LinkId,
    RequestId,
    SaeId,
)
from skex.base.limits import LATE_SHARE_SECONDS
from skex.base.secret import Secret
from skex.crypto import kdf
from skex.pad.derived import DerivedPad
from skex.pad.table import TablePad
from skex.protocol import assign, establishment, receiver, sender
from skex.protocol.changes import BatchReceived, BatchSent
from skex.protocol.envelopes import Channel
from skex.protocol.establishment import Realms
from skex.protocol.flow import units_for
from skex.protocol.reconstruct import reconstruct
from skex.protocol.traffic import FromHub, HubUp, SendToHub, Tick
from skex.wire import messages, peer
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.codec import Fields, decode, encode
from skex.wire.context import CompactContext, Purpose
from skex.wire.messages import encode_message
from skex.wire.peer import Envelope, KeyRange, PeerDirection, decode_peer_message, encode_peer_message
from skex.wire.realm import HubAttributes, Realm
from tests.vectors.machines import OneEnd, OneMachine, batch_id, message_of
from tests.vectors.reading import Case, cases, data_of, label, load, named

WHOLE = 43_008


# ── prefaces, grants, records ───────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("who", ["kme", "hub"])
@pytest.mark.parametrize("case", [case for case in cases("preface.json") if "after" in case], ids=label)
def test_either_end_replays_a_preface(case: Case, who: str) -> None:
    end = OneEnd(case, who)
    for frame in case["frames"]:
        end.step(frame)
    assert end.end.session is not None
    assert not end.sent
    assert asdict(end.node.marks(end.link_id)) == case["after"][who]
    noticed = end.end.rolled_back
    found = None if noticed is None else {"own": list(noticed.own), "seen": list(noticed.seen)}
    assert found == case["after"]["rolled_back"][who]


@pytest.mark.parametrize("name", ["offer of versions 2 to 3", "offer of versions 1 to 200"])
def test_the_hub_answers_an_offer_of_other_versions(name: str) -> None:
    case = named("preface.json", "cases", name)
    end = OneEnd(case, "hub")
    for frame in case["frames"]:
        end.step(frame)
    assert (end.end.session is not None) == (case["outcome"] == "established")
    assert end.error is None


@pytest.mark.parametrize("who", ["kme", "hub"])
def test_a_hub_answers_for_a_link_that_it_does_not_know_and_the_kme_ends_the_connection(who: str) -> None:
    case = named("preface.json", "cases", "unknown link id")
    end = OneEnd(case, who)
    if who == "hub":
        # The names in a stand-in's proof are nobody's business; only that there is an answer.
        end.step(case["frames"][0])
        assert [len(data) for data in end.sent] == [104]
        return
    for frame in case["frames"]:
        end.step(frame)
    assert end.error == case["outcome"]["error"]


@pytest.mark.parametrize("case", cases("grants.json")[:2], ids=label)
def test_chains_and_pads_give_the_grants_of_the_file(case: Case) -> None:
    seed, direction = data_of(case["seed"]), Direction(case["direction"])
    link_id, nonces = (
        LinkId(data_of(case["link_id"])),
        (data_of(case["kme_nonce"]), data_of(case["hub_nonce"])),
    )
    disk = Disk(0)
    DerivedPad.create(disk, "pad", link_id, direction, Secret(seed))
    pad = DerivedPad.open(disk, "pad", link_id, direction, 0)
    for grant in case["grants"]:
        assert kdf.advance(seed, grant["index"]) == data_of(grant["chain_key"])
        material = pad.finish(pad.prepare(grant["index"], 1, *nonces))
        assert material.r == data_of(grant["r"])
        assert material.take(16, 48) == data_of(grant["first_usable"])
    assert kdf.advance(seed, case["jump"]["index"]) == data_of(case["jump"]["chain_key"])


def test_table_pads_give_the_grants_of_the_file() -> None:
    case = named("grants.json", "cases", "table, to_kme")
    name, direction = LinkId(bytes(8)), Direction.TO_KME
    for grant in case["grants"]:
        disk = Disk(0)
        TablePad.create(disk, "pad", name, direction, [data_of(case["pad"])])
        pad = TablePad.open(disk, "pad", name, direction, 0)
        assert pad.capacity == case["capacity"]
        material = pad.finish(pad.prepare(grant["start"], grant["count"]))
        assert (material.size, material.r) == (grant["bytes"], data_of(grant["r"]))
        assert material.take(16, 48) == data_of(grant["first_usable"])
        material.take(64, material.remaining - 16)
        assert material.take(material.position, 16) == data_of(grant["last_16_bytes"])


def test_the_sizes_of_later_grants_are_those_of_the_file() -> None:
    for row in named("grants.json", "cases", "sizes of later table grants")["rows"]:
        assert units_for(row["wanted"], row["capacity"] - row["mark"]) == row["count"]


@pytest.mark.parametrize("who", ["kme", "hub"])
@pytest.mark.parametrize("case", cases("records.json"), ids=label)
def test_either_end_replays_a_connection(case: Case, who: str) -> None:
    end = OneEnd(case, who)
    for step in case["steps"]:
        end.step(step)
    assert end.error is None
    assert not end.sent
    assert asdict(end.node.marks(end.link_id)) == case["after"][who]


# ── encodings ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("case", cases("messages.json", "cbor"), ids=label)
def test_the_codec_reads_and_writes_every_value(case: Case) -> None:
    data = data_of(case["bytes"])
    assert encode(decode(data, len(data))) == data


@pytest.mark.parametrize("case", cases("messages.json", "link_messages"), ids=label)
def test_every_link_message_is_read_and_written_as_in_the_file(case: Case) -> None:
    message = message_of(data_of(case["body"]), Direction(case["direction"]))
    assert encode_message(message).hex() == case["body"]
    assert type(message).__name__.upper() == case["spec"].split()[1].replace("_", "")


@pytest.mark.parametrize("case", cases("messages.json", "peer_messages"), ids=label)
def test_every_peer_message_is_read_and_written_as_in_the_file(case: Case) -> None:
    message = decode_peer_message(data_of(case["plaintext"]), PeerDirection(case["direction"]))
    assert not isinstance(message, peer.UnknownPeer)
    assert encode_peer_message(message).hex() == case["plaintext"]
    assert type(message).__name__.upper() == case["spec"].split()[1].replace("_", "")


def compact_of(data: bytes) -> CompactContext:
    return CompactContext.from_fields(Fields(decode(data, WHOLE)))


@pytest.mark.parametrize("case", cases("messages.json", "contexts"), ids=label)
def test_every_context_is_read_and_expanded_as_in_the_file(case: Case) -> None:
    compact = compact_of(data_of(case["compact"]))
    assert encode(compact.to_value()).hex() == case["compact"]
    assert compact.secret_bytes == case["share_bytes"]
    if "expanded" in case:
        expanded = case["expanded"]
        realm = Realm.from_bytes(data_of(named("messages.json", "realms", expanded["realm"])["file"]))
        context = establishment.expand(
            compact,
            realm,
            sender=expanded["sender"],
            receiver=expanded["receiver"],
            batch=batch_id(expanded["batch_id"]),
        )
        assert (context.to_bytes().hex(), context.digest().hex()) == (expanded["bytes"], expanded["digest"])


def claim_of(case: Case) -> Claim:
    coordinates = tuple(Coordinate(x) for x in data_of(case["computational"]))
    return Claim(coordinates, Randomness(case["randomness"]), Enrolment(case["enrolment"]))


@pytest.mark.parametrize("case", cases("messages.json", "claims"), ids=label)
def test_every_claim_is_joined_and_classed_as_in_the_file(case: Case) -> None:
    joined = claim_of(case["sender"]).joined(claim_of(case["receiver"]))
    assert joined == claim_of(case["joined"])
    found = joined.claim_class(case["threshold"]).name.lower().replace("_", "-")
    assert (joined.margin(case["threshold"]), found) == (case["margin"], case["class"])


@pytest.mark.parametrize("case", cases("messages.json", "realms"), ids=label)
def test_every_realm_file_is_read_and_written_as_in_the_file(case: Case) -> None:
    realm = Realm.from_bytes(data_of(case["file"]))
    assert (realm.to_bytes().hex(), realm.digest().hex()) == (case["file"], case["digest"])
    assert [[hub.name, hub.coordinate] for hub in realm.active_hubs] == case["active"]


@pytest.mark.parametrize(
    "case", [*cases("messages.json", "envelopes"), *cases("establishment.json", "afterwards")], ids=label
)
def test_every_envelope_is_sealed_and_opened_as_in_the_file(case: Case) -> None:
    envelope = Envelope.from_bytes(data_of(case["envelope"]))
    channel = Channel(
        case["realm"],
        case["sender"],
        case["receiver"],
        batch_id(case["root_id"]),
        PeerDirection(case["direction"]),
    )
    root = Secret(data_of(case["root"]))
    assert channel.open(root, envelope).hex() == case["plaintext"]
    assert channel.seal(root, data_of(case["random"]), data_of(case["plaintext"])) == envelope
    decode_peer_message(data_of(case["plaintext"]), envelope.direction)


@pytest.mark.parametrize("case", cases("messages.json", "key_ids"), ids=label)
def test_every_key_id_is_that_of_the_file(case: Case) -> None:
    value: Any = decode(data_of(case["input"]), WHOLE)
    kind, realm, *rest, index = value
    if kind == "skex1 key id":
        key_id = establishment.key_id(realm, rest[0], rest[1], BatchId.from_bytes(rest[2]), index)
    else:
        key_id = establishment.group_key_id(realm, rest[0], GroupId(rest[1]), index)
    assert str(key_id) == case["key_id"]


# ── establishment ───────────────────────────────────────────────────────────────────────────────
REALM = Realm.from_bytes(data_of(load("establishment.json")["realm"]["file"]))
HUBS = tuple(hub.name for hub in REALM.active_hubs)


class Port:
    """What both machines ask: everything is allowed, claims are those of the file."""

    def __init__(self, claim: Case | None = None) -> None:
        self._claim = claim

    def own_claim(self, hubs: Sequence[Coordinate]) -> Claim:
        assert self._claim is not None
        claim = claim_of(self._claim)
        assert set(claim.computational) <= set(hubs)
        return claim

    def is_committed(self, peer_name: KmeName, batch: BatchId) -> bool:
        return False

    def may_establish(self, a: KmeName, b: KmeName, purpose: Purpose) -> bool:
        return True

    def accepts_threshold(self, a: KmeName, threshold: int) -> bool:
        return bool(a) and threshold >= 2

    def accepts_hubs(self, a: KmeName, hubs: Sequence[HubAttributes], threshold: int) -> bool:
        return bool(a) and threshold <= len(hubs)

    def has_room(self, a: KmeName, context: CompactContext) -> bool:
        return True


def new_sender(case: Case) -> sender.Sender:
    machine = sender.Sender(
        name=case["sender"],
        incarnation=Incarnation(data_of(case["batch_id"])[:16]),
        realms=Realms(REALM),
        claims=Port(case["compact_context"]["claim"]),
        commits=Port(),
        receiver_epochs={},
    )
    coordinates = data_of(case["compact_context"]["hubs"])
    for hub in REALM.active_hubs:
        if hub.coordinate in coordinates:
            machine.handle(HubUp(hub.name), 0)
    return machine


def establish(machine: sender.Sender, case: Case, token: str) -> tuple[SendToHub, ...]:
    """A makes the batch of a case, with the counter that is next."""
    compact = compact_of(data_of(case["compact"]))
    entropy = data_of(case["secret"]) + b"".join(map(data_of, case["coefficients"]))
    assert machine.entropy_bytes(case["receiver"], compact.keys, compact.key_bytes) == len(entropy)
    event = sender.Establish(
        case["receiver"],
        compact.keys,
        compact.key_bytes,
        compact.purpose,
        compact.lifetime,
        compact.group,
        2,
        Secret(entropy),
        token,
    )
    return machine.handle(event, 0).send


def made(name: str) -> tuple[sender.Sender, Case, tuple[SendToHub, ...]]:
    """A sender that made a batch of the file; batches of lower counters are made before it."""
    case = named("establishment.json", "batches", name)
    machine = new_sender(case)
    counter = int.from_bytes(data_of(case["batch_id"])[16:], "big")
    sends: tuple[SendToHub, ...] = ()
    for _ in range(counter):
        sends = establish(machine, case, name)
    return machine, case, sends


@pytest.mark.parametrize("name", ["control", "traffic", "group"])
def test_the_sender_makes_the_shares_of_the_file(name: str) -> None:
    _, case, sends = made(name)
    found = {send.hub: encode_message(send.message).hex() for send in sends}
    assert found == {share["hub"]: share["share_body"] for share in case["shares"]}


@pytest.mark.parametrize("case", cases("establishment.json", "confirming"), ids=label)
def test_the_sender_accepts_the_confirmation_of_the_file(case: Case) -> None:
    machine, batch, _ = made(case["of"])
    confirmed = message_of(data_of(case["confirmed_body"]), Direction.TO_KME)
    effects = machine.handle(FromHub(HUBS[1], 1, confirmed), 1)
    (change,) = (change for change in effects.persist if isinstance(change, BatchSent))
    assert change.batch.keys.expose() == b"".join(map(data_of, batch["keys"]))
    assert change.batch.claim == claim_of(case["joined_claim"])
    assert change.receiver_incarnation == data_of(case["incarnation"])
    answer = sender.AnswerBatch(KmeName("kme-b"), batch_id(batch["batch_id"]), ok=True)
    assert answer in effects.notify


def new_receiver(claim: Case, incarnation: str) -> receiver.Receiver:
    machine = receiver.Receiver(
        name=KmeName("kme-b"),
        incarnation=Incarnation(data_of(incarnation)),
        realms=Realms(REALM),
        claims=Port(claim),
        admission=Port(),
        batches=(),
        marks={},
    )
    for hub in HUBS:
        machine.handle(HubUp(hub), 0)
    return machine


def bring(machine: receiver.Receiver, brought: Sequence[tuple[HubName, messages.Message]]) -> list[Any]:
    """Hubs bring shares; every effect that follows, searches carried out at once."""
    effects = []
    for ordinal, (hub, message) in enumerate(brought, 1):
        pending: list[receiver.ReceiverEvent] = [FromHub(hub, ordinal, message)]
        while pending:
            effect = machine.handle(pending.pop(), 1)
            effects.append(effect)
            pending += [
                receiver.Searched(notice.number, reconstruct(notice.search))
                for notice in effect.notify
                if isinstance(notice, receiver.SearchNeeded)
            ]
    return effects


@pytest.mark.parametrize("case", cases("establishment.json", "confirming"), ids=label)
def test_the_receiver_confirms_as_in_the_file(case: Case) -> None:
    batch = named("establishment.json", "batches", case["of"])
    machine = new_receiver(case["claim"], case["incarnation"])
    brought = [
        (HubName(share["hub"]), message_of(data_of(share["shared_body"]), Direction.TO_KME))
        for share in batch["shares"][:3]
    ]
    effects = bring(machine, brought)[-1]
    (change,) = (change for change in effects.persist if isinstance(change, BatchReceived))
    assert change.batch.keys.expose() == b"".join(map(data_of, batch["keys"]))
    assert change.batch.claim == claim_of(case["joined_claim"])
    sent = {encode_message(send.message).hex() for send in effects.send}
    assert sent == {case["confirm_body"]}
    assert [send.hub for send in effects.send] == [hub for hub, _ in brought]


@pytest.mark.parametrize("case", cases("establishment.json", "rebuilding"), ids=label)
def test_the_receiver_accepts_and_names_as_in_the_file(case: Case) -> None:
    batch = named("establishment.json", "batches", case["of"])
    confirming = named("establishment.json", "confirming", f"CONFIRM of {case['of']}")
    machine = new_receiver(confirming["claim"], confirming["incarnation"])
    hubs = {share["coordinate"]: share["hub"] for share in batch["shares"]}
    plain = message_of(data_of(batch["shares"][0]["shared_body"]), Direction.TO_KME)
    assert isinstance(plain, messages.Shared)
    brought = []
    for one in case["brought"]:
        shared = messages.Shared(plain.sender, plain.batch, plain.context, plain.tag, data_of(one["share"]))
        brought.append((HubName(hubs[one["coordinate"]]), shared))
    effects = [*bring(machine, brought), machine.handle(Tick(), 1 + LATE_SHARE_SECONDS)]
    accepted = [
        change for effect in effects for change in effect.persist if isinstance(change, BatchReceived)
    ]
    assert len(accepted) == case["accepted"]
    blamed = [one for effect in effects for one in effect.notify if isinstance(one, receiver.HubBlamed)]
    wanted = case.get("named") or {"hubs": [], "certain": False}
    assert sorted(one.hub for one in blamed) == wanted["hubs"]
    assert all(one.certain == wanted["certain"] for one in blamed)


# ── the whole session ───────────────────────────────────────────────────────────────────────────
SESSION = load("session.json")


def act(machine: OneMachine, step: Case) -> None:
    """Carry out a decision that this machine takes by itself."""
    kme = machine.kme
    assert kme is not None
    peer_name = KmeName(step.get("receiver", "kme-b"))
    match step["do"]:
        case "establish":
            entropy = Secret(data_of(step["secret"]) + b"".join(map(data_of, step["coefficients"])))
            kme.do(
                sender.Establish(
                    peer_name,
                    step["keys"],
                    step["key_bytes"],
                    Purpose(step["purpose"]),
                    step["lifetime"],
                    None,
                    2,
                    entropy,
                    None,
                )
            )
        case "assign":
            keys = tuple(KeyRange(batch_id(one[0]), one[1], one[2]) for one in step["keys"])
            kme.do(
                assign.AssignKeys(
                    peer_name,
                    RequestId(data_of(step["request_id"])),
                    keys,
                    SaeId(step["master"]),
                    tuple(map(SaeId, step["slaves"])),
                    step["purpose"],
                    step["lifetime"],
                    expires_at=3600.0,
                    ahead=False,
                )
            )
        case "deliver":
            batch = batch_id(SESSION["holds"][1]["batch_id"])
            keys = (KeyRange(batch, step["key"], 1),)
            kme.do(assign.Deliver(peer_name, RequestId(data_of(step["request_id"])), keys))
        case decision:
            assert decision == "release"
            kme.do(assign.Release(peer_name, RequestId(data_of(step["request_id"]))))


def replay(name: str) -> OneMachine:
    """One machine in the whole session; every byte that it sends is compared."""
    machine = OneMachine(SESSION, name)
    for step in SESSION["steps"]:
        if step.get("do") == "dial":
            if step["connection"] in machine.connections:
                machine.dial(step["connection"])
        elif step.get("do") == "wait":
            machine.pass_time(step["milliseconds"])
        elif "do" in step:
            if step["who"] == name:
                act(machine, step)
        elif step["connection"] in machine.connections:
            machine.carried(step)
    assert not any(machine.sent.values())
    assert [end.error for end in machine.node.ends.values() if end.error] == []
    return machine


@pytest.mark.parametrize("name", ["hub-1", "hub-2", "hub-3"])
def test_a_hub_replays_its_part_of_the_session(name: str) -> None:
    replay(name)


@pytest.mark.parametrize(("name", "kind"), [("kme-a", BatchSent), ("kme-b", BatchReceived)])
def test_a_kme_replays_its_part_of_the_session_and_holds_its_keys(
    name: str, kind: type[BatchSent | BatchReceived]
) -> None:
    machine = replay(name)
    held = [change.batch for change in machine.node.changes if isinstance(change, kind)]
    assert len(held) == len(SESSION["holds"])
    for batch, wanted in zip(held, SESSION["holds"], strict=True):
        assert batch.batch == batch_id(wanted["batch_id"])
        assert batch.keys.expose() == b"".join(map(data_of, wanted["keys"]))
        assert batch.claim == claim_of(wanted["claim"])


def test_the_slave_may_take_the_assigned_key_and_not_the_voided_one() -> None:
    machine = replay("kme-b")
    assert machine.kme is not None
    assignee = machine.kme.core.peer_messages.assignee
    batch, slave = batch_id(SESSION["holds"][1]["batch_id"]), SaeId("db-1@kme-b")
    assert assignee.may_take(KmeName("kme-a"), batch, 0, slave)
    assert not assignee.may_take(KmeName("kme-a"), batch, 1, slave)


def test_the_session_shares_one_realm_digest_with_its_file() -> None:
    realm = SESSION["realm"]
    assert hashlib.sha512(data_of(realm["file"])).hexdigest() == realm["digest"]
