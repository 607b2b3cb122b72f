"""Vectors of a whole session: two KMEs and three hubs from TCP open to an assigned key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vectors_common import (
    INCARNATION_A,
    INCARNATION_B,
    KME_A,
    KME_B,
    THREE_HUBS,
    Case,
    document,
    expand,
    jsonable,
    link_id,
    notation,
)
from vectors_links import frame_cases, link_case, record_case, setup_between
from vectors_messages import claim_fields

from simulation.transcript import Carried, HubNode, KmeNode, KmeSetup, LinkSetup, Wiring
from skex.base import limits
from skex.base.ids import Direction, HubName, Incarnation, KmeName, RequestId, SaeId
from skex.base.secret import Secret
from skex.pad.kinds import PadKind
from skex.protocol import assign, establishment, sender, traffic
from skex.protocol.changes import Batch, BatchReceived, BatchSent
from skex.protocol.envelopes import Channel
from skex.protocol.peer import Identity
from skex.wire import messages, peer
from skex.wire.claim import Enrolment, Randomness
from skex.wire.context import Purpose
from skex.wire.peer import KeyRange
from skex.wire.preface import Parties
from skex.wire.record import RecordHeader

_KMES: Final = (KME_A, KME_B)
_TABLES: Final = {(KME_A, "hub-3"): 8, (KME_B, "hub-2"): 64}
"""Links that have a table pad, with their units; all others are derived."""
_REQUEST: Final = RequestId(expand("session request id", 16))
_MASTER: Final = SaeId("web-1@kme-a")
_SLAVE: Final = SaeId("db-1@kme-b")


def _connection(kme: KmeName, hub: HubName) -> str:
    return f"{kme} {hub}"


def _links() -> dict[str, LinkSetup]:
    links = {}
    for kme in _KMES:
        for hub in THREE_HUBS.active_hubs:
            units = _TABLES.get((kme, hub.name), 0)
            name = _connection(kme, hub.name)
            parties = Parties(THREE_HUBS.name, link_id(f"session {name}"), kme, hub.name)
            kind = PadKind.TABLE if units else PadKind.DERIVED
            links[name] = setup_between(f"session {name}", parties, kind, units)
    return links


class Session:
    """The machines, and everything that happens, written down."""

    def __init__(self) -> None:
        self.links = _links()
        self.steps: list[Case] = []
        self._wiring = Wiring()
        self._frames: dict[str, list[bytes]] = {name: [] for name in self.links}
        self._ordinals: dict[tuple[str, Direction], int] = {}
        self.nonces = {
            name: (expand(f"session kme nonce {name}", 32), expand(f"session hub nonce {name}", 32))
            for name in self.links
        }
        self.hubs = {
            hub.name: HubNode(hub.name, self._wiring.carry, THREE_HUBS) for hub in THREE_HUBS.active_hubs
        }
        self.kmes = {
            KME_A: self._kme(KME_A, INCARNATION_A, Randomness.SYSTEM),
            KME_B: self._kme(KME_B, INCARNATION_B, Randomness.SYSTEM_XOR_OTHER),
        }
        for link in self.links.values():
            self.hubs[link.parties.hub].enrol(link)

    def _kme(self, name: KmeName, incarnation: Incarnation, randomness: Randomness) -> KmeNode:
        identity = Identity(THREE_HUBS.name, name, incarnation)
        setup = KmeSetup(identity, THREE_HUBS, randomness, Enrolment.CARRIED_IN_CLEAR, _randoms(name))
        links = [link for link in self.links.values() if link.parties.kme == name]
        return KmeNode(self._wiring.carry, setup, links)

    # ── what happens ────────────────────────────────────────────────────────────────────────────
    def dial(self, name: str) -> None:
        """One connection is opened."""
        link = self.links[name]
        kme, hub = self.kmes[link.parties.kme], self.hubs[link.parties.hub]
        self._wiring.join(name, kme, hub)
        self.steps.append({"do": "dial", "spec": "3", "who": kme.name, "connection": name})
        hub.accept(name, self.nonces[name][1])
        kme.dial(name, link.parties.link_id, self.nonces[name][0])
        self._run()

    def establish(self, purpose: Purpose, keys: int, key_bytes: int, lifetime: int) -> None:
        """kme-a makes a batch for kme-b."""
        node = self.kmes[KME_A]
        made = node.core.entropy_bytes(KME_B, keys, key_bytes)
        entropy = expand(f"session entropy {purpose.name}", made)
        length = made // THREE_HUBS.threshold
        self.steps.append(
            {
                "do": "establish",
                "spec": "7.1, 7.5",
                "who": KME_A,
                "receiver": KME_B,
                "purpose": int(purpose),
                "keys": keys,
                "key_bytes": key_bytes,
                "lifetime": lifetime,
                "secret": entropy[:length].hex(),
                "coefficients": [entropy[at : at + length].hex() for at in range(length, made, length)],
            }
        )
        node.do(
            sender.Establish(
                KME_B, keys, key_bytes, purpose, lifetime, None, 2, Secret(entropy), purpose.name
            )
        )
        self._run()

    def wait(self, milliseconds: int) -> None:
        """Time passes for the KMEs."""
        self.steps.append({"do": "wait", "spec": "7.5", "milliseconds": milliseconds})
        for node in self.kmes.values():
            node.now += milliseconds / 1000
            node.do(traffic.Tick())
        self._run()

    def assign_keys(self, batch: Batch, keys: int) -> None:
        """kme-a gives keys to a master, and names a slave."""
        ranges = (KeyRange(batch.batch, 0, keys),)
        self.steps.append(
            {
                "do": "assign",
                "spec": "9.1",
                "who": KME_A,
                "receiver": KME_B,
                "request_id": _REQUEST.hex(),
                "keys": jsonable([one.to_value() for one in ranges]),
                "master": _MASTER,
                "slaves": [_SLAVE],
                "purpose": "tls",
                "lifetime": 600,
            }
        )
        self._assigner(
            assign.AssignKeys(
                KME_B, _REQUEST, ranges, _MASTER, (_SLAVE,), "tls", 600, expires_at=3600.0, ahead=False
            )
        )

    def deliver(self, batch: Batch, index: int) -> None:
        """The master gets one key."""
        self.steps.append(
            {"do": "deliver", "spec": "9.2", "who": KME_A, "request_id": _REQUEST.hex(), "key": index}
        )
        self._assigner(assign.Deliver(KME_B, _REQUEST, (KeyRange(batch.batch, index, 1),)))

    def release(self) -> None:
        """What is left of the assignment is not wanted."""
        self.steps.append({"do": "release", "spec": "9.2", "who": KME_A, "request_id": _REQUEST.hex()})
        self._assigner(assign.Release(KME_B, _REQUEST))

    def _assigner(self, event: assign.AssignKeys | assign.Deliver | assign.Release) -> None:
        self.kmes[KME_A].do(event)
        self._run()

    # ── writing it down ─────────────────────────────────────────────────────────────────────────
    def _run(self) -> None:
        for carried in self._wiring.run():
            seen = self._frames[carried.connection]
            if len(seen) < 5:
                seen.append(carried.data)
                self.steps.append(self._frame(carried.connection, seen))
            else:
                self.steps.append(self._record(carried))

    def _frame(self, name: str, seen: list[bytes]) -> Case:
        link = self.links[name]
        case = frame_cases(link, link.key, 1, seen)[-1]
        case["from"] = link.parties.kme if case["from"] == "kme" else link.parties.hub
        return {"connection": name, "spec": f"3.{case['frame'] + 1}, 3.7", **case}

    def _record(self, carried: Carried) -> Case:
        link, key = self.links[carried.connection], (carried.connection, carried.direction)
        self._ordinals[key] = self._ordinals.get(key, 0) + 1
        header = RecordHeader.parse(carried.data[: limits.RECORD_HEADER_BYTES])
        if header.grant:
            raise AssertionError("the first grants were meant to last")
        who = link.parties.kme if carried.direction is Direction.TO_HUB else link.parties.hub
        taken_apart = record_case(link, carried, 1, self.nonces[carried.connection])
        opened = self._opened(carried.direction, bytes.fromhex(taken_apart["body"]))
        # r stands once for each direction, otp and ciphertext follow from the rest.
        for name in ("r", "otp", "ciphertext"):
            del taken_apart[name]
        return {
            "connection": carried.connection,
            "spec": f"5.2, {_section(taken_apart['message'], opened.get('peer_message'))}",
            "from": who,
            "ordinal": self._ordinals[key],
            **opened,
            **taken_apart,
        }

    def _opened(self, direction: Direction, body: bytes) -> Case:
        """What a peer message says."""
        message = messages.decode_message(body, direction)
        if not isinstance(message, messages.Peer | messages.Forwarded):
            return {}
        envelope = peer.Envelope.from_bytes(message.envelope)
        (root,) = (batch.keys for batch in self.kept(BatchSent, KME_A) if batch.batch == envelope.root)
        channel = Channel(THREE_HUBS.name, KME_A, KME_B, envelope.root, envelope.direction)
        return {"peer_message": notation(channel.open(root, envelope))}

    def kept(self, kind: type[BatchSent | BatchReceived], name: KmeName) -> list[Batch]:
        """The batches that a KME holds durably."""
        return [change.batch for change in self.kmes[name].changes if isinstance(change, kind)]


def _section(message: str, said: str | None) -> str:
    """Where the text has a message, or what a peer message says."""
    types = _LINK_TYPES if said is None else _PEER_TYPES
    chapter = "6.2" if said is None else "8.3"
    return f"{chapter} {types[int((said or message).strip('[]').split(',')[0])]}"


_LINK_TYPES: Final = {3: "DONE", 5: "SHARE", 6: "CONFIRM", 9: "SHARED", 10: "CONFIRMED"}
_PEER_TYPES: Final = {1: "OK", 3: "VOID_KEYS", 4: "ASSIGN", 5: "ASSIGNED", 8: "PEER_DONE"}


def _randoms(name: KmeName) -> Iterator[bytes]:
    """The random bytes of each envelope that a KME seals, in their order."""
    number = 0
    while True:
        number += 1
        yield expand(f"session envelope {number} of {name}", 32)


def play() -> Session:
    """Everything, in the order of the file."""
    session = Session()
    for name in session.links:
        session.dial(name)
    session.establish(Purpose.CONTROL, 1, 64, 172_800)
    session.establish(Purpose.TRAFFIC, 2, 32, 3600)
    session.wait(20)
    batch = session.kept(BatchSent, KME_A)[-1]
    session.assign_keys(batch, 2)
    session.deliver(batch, 0)
    session.release()
    return session


def _kme_case(session: Session, name: KmeName) -> Case:
    claim = session.kmes[name].own_claim([hub.coordinate for hub in THREE_HUBS.active_hubs])
    return {"incarnation": session.kmes[name].incarnation.hex(), "own_claim": claim_fields(claim)}


def _outcome(session: Session) -> list[Case]:
    """What both KMEs hold of each batch: the same keys, with the same claim."""
    rows = []
    pairs = zip(session.kept(BatchSent, KME_A), session.kept(BatchReceived, KME_B), strict=True)
    for ours, theirs in pairs:
        if ours.keys != theirs.keys or ours.claim != theirs.claim or ours.batch != theirs.batch:
            raise AssertionError("the two ends differ")
        length = ours.context.key_bytes
        secret = theirs.keys.expose()
        row: Case = {
            "batch_id": ours.batch.to_bytes().hex(),
            "purpose": int(ours.context.purpose),
            "keys": [secret[at : at + length].hex() for at in range(0, len(secret), length)],
            "claim": claim_fields(ours.claim),
            "class": ours.claim.claim_class(THREE_HUBS.threshold).name.lower().replace("_", "-"),
        }
        if ours.context.purpose is Purpose.TRAFFIC:
            ids = (
                establishment.key_id(THREE_HUBS.name, KME_A, KME_B, ours.batch, index)
                for index in range(ours.context.keys)
            )
            row["key_ids"] = [str(key_id) for key_id in ids]
        rows.append(row)
    return rows


def _check(session: Session) -> None:
    """The session ended as the file says: one key delivered and assigned, the other void at both ends."""
    batch = session.kept(BatchSent, KME_A)[-1].batch
    assignee = session.kmes[KME_B].core.peer_messages.assignee
    if not assignee.may_take(KME_A, batch, 0, _SLAVE) or assignee.may_take(KME_A, batch, 1, _SLAVE):
        raise AssertionError("the assignment is not what it should be")
    errors = [
        end.error for node in (*session.kmes.values(), *session.hubs.values()) for end in node.ends.values()
    ]
    if any(errors):
        raise AssertionError("a connection failed")


def build() -> Case:
    """session.json."""
    session = play()
    _check(session)
    connections = [
        {
            "name": name,
            **link_case(f"session {name}", link),
            "kme_nonce": session.nonces[name][0].hex(),
            "hub_nonce": session.nonces[name][1].hex(),
        }
        for name, link in session.links.items()
    ]
    return document(
        "A whole session: kme-a and kme-b, each connected to three hubs (n = k = 3), from TCP open to a "
        "confirmed batch, an assignment, a delivered key and a voided one. All links are new. Steps stand "
        "in one order that can happen; each frame or record arrives whole before the next step. To replay "
        "one machine, feed it what the others send, carry out its own 'do' steps, and compare what it "
        "sends on each connection. 'do' steps are decisions that the specification leaves to the machine: "
        "when to dial, what to establish and with which random bytes, how long answers to CONFIRMs wait "
        "for company (20 ms). These are free as well, and chosen here so: counters of batches start at 1; "
        "peer messages take the connected hubs in turn; the hold is 60 seconds. 'random' of each envelope "
        "stands in it. holds: what both KMEs hold durably after they established it. At the end key 0 of "
        "the second batch is delivered to the master and assigned to the slave; key 1 is void at both "
        "ends.",
        "3 to 9",
        {
            "realm": {"file": THREE_HUBS.to_bytes().hex(), "digest": THREE_HUBS.digest().hex()},
            "kmes": {name: _kme_case(session, name) for name in _KMES},
            "connections": connections,
            "steps": session.steps,
            "holds": _outcome(session),
        },
    )
