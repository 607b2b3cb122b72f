"""The machines of the production code, set up as a vector says."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from simulation.transcript import HubNode, KmeNode, KmeSetup, LinkSetup, Node
from skex.base.ids import BatchId, Direction, HubName, Incarnation, KmeName, LinkId, RealmName
from skex.pad.kinds import PadKind
from skex.protocol.peer import Identity
from skex.protocol.traffic import Tick
from skex.wire import messages
from skex.wire.claim import Enrolment, Randomness
from skex.wire.messages import Message, Unknown, decode_message
from skex.wire.preface import Marks, Parties
from skex.wire.realm import Realm
from tests.vectors.reading import Case, data_of

OUTGOING: Final = {"kme": Direction.TO_HUB, "hub": Direction.TO_KME}
KINDS: Final = {"derived": PadKind.DERIVED, "table": PadKind.TABLE}


def link_of(case: Case) -> LinkSetup:
    """The enrolment material of a link."""
    parties = Parties(
        RealmName(case["realm"]),
        LinkId(data_of(case["link_id"])),
        KmeName(case["kme"]),
        HubName(case["hub"]),
    )
    material = {Direction.TO_HUB: data_of(case["to_hub"]), Direction.TO_KME: data_of(case["to_kme"])}
    return LinkSetup(parties, data_of(case["static_key"]), KINDS[case["kind"]], material)


def batch_id(text: str) -> BatchId:
    """A batch id in hexadecimal."""
    return BatchId.from_bytes(data_of(text))


def message_of(body: bytes, direction: Direction) -> Message:
    """A well-formed message."""
    message = decode_message(body, direction)
    assert not isinstance(message, Unknown)
    return message


class OneEnd:
    """One end of the connection of a case in preface.json or records.json; the other end is paper.

    ``sent`` is what it sent and nobody looked at yet.
    """

    def __init__(self, case: Case, who: str) -> None:
        self.who = who
        self.sent: deque[bytes] = deque()
        self.node = Node(who, self._carry)
        link = link_of(case["link"])
        self.link_id = link.parties.link_id
        marks = Marks(**case[who].get("before", dict.fromkeys(Marks.__slots__, 0)))
        if who == "hub" and "decoy" in case:
            self.node.decoy = data_of(case["decoy"]["key"])
            stranger = Parties(link.parties.realm, LinkId(bytes(8)), link.parties.kme, link.parties.hub)
            link = LinkSetup(stranger, link.key, link.kind, link.material)
        self.node.enrol(link, marks)
        self.node.incarnation = Incarnation(data_of(case["kme"]["incarnation"]))
        self.node.realm = (case["hub"]["epoch"], data_of(case["hub"]["realm_digest"]))
        nonce = data_of(case[who]["nonce"])
        if who == "kme":
            self.end = self.node.dial("link", self.link_id, nonce)
        else:
            self.end = self.node.accept("link", nonce)

    def _carry(self, name: str, direction: Direction, data: bytes) -> None:
        assert (name, direction) == ("link", OUTGOING[self.who])
        self.sent.append(data)

    def step(self, step: Case) -> None:
        """Let one step of the file happen at this end; what it sends must be what the file says."""
        if step.get("do") == "send":
            if step["who"] == self.who:
                self.end.send(message_of(data_of(step["body"]), OUTGOING[self.who]))
        elif step.get("do") == "wait":
            self.node.now += step["seconds"]
            self.end.handle(Tick())
        elif step["from"] == self.who:
            assert self.sent.popleft() == data_of(step["bytes"])
        else:
            self.end.receive(data_of(step["bytes"]))

    @property
    def error(self) -> str | None:
        """The code with which the connection ended here."""
        return None if self.end.error is None else self.end.error.code.name


# ── sessions ────────────────────────────────────────────────────────────────────────────────────
class OneMachine:
    """One KME or hub of session.json; everyone else is paper."""

    def __init__(self, session: Case, name: str) -> None:
        self.name = name
        self.sent: dict[str, deque[bytes]] = {}
        self.connections = {
            link["name"]: link for link in session["connections"] if name in {link["kme"], link["hub"]}
        }
        realm = Realm.from_bytes(data_of(session["realm"]["file"]))
        links = [link_of(link) for link in self.connections.values()]
        if name in session["kmes"]:
            own = session["kmes"][name]
            identity = Identity(realm.name, KmeName(name), Incarnation(data_of(own["incarnation"])))
            setup = KmeSetup(
                identity,
                realm,
                Randomness(own["own_claim"]["randomness"]),
                Enrolment(own["own_claim"]["enrolment"]),
                _randoms(session, name),
            )
            self.kme: KmeNode | None = KmeNode(self._carry, setup, links)
            self.node: Node = self.kme
        else:
            self.kme = None
            self.node = HubNode(name, self._carry, realm)
            for link in links:
                self.node.enrol(link)

    def _carry(self, name: str, direction: Direction, data: bytes) -> None:
        assert direction is (Direction.TO_KME if self.kme is None else Direction.TO_HUB)
        self.sent.setdefault(name, deque()).append(data)

    def dial(self, name: str) -> None:
        """A connection is opened, by this machine or to it."""
        link = self.connections[name]
        if self.kme is None:
            self.node.accept(name, data_of(link["hub_nonce"]))
        else:
            self.node.dial(name, LinkId(data_of(link["link_id"])), data_of(link["kme_nonce"]))

    def carried(self, step: Case) -> None:
        """A frame or record crosses one of this machine's connections."""
        name, data = step["connection"], data_of(step["bytes"])
        if step["from"] == self.name:
            assert self.sent[name].popleft() == data
        else:
            self.node.ends[name].receive(data)

    def pass_time(self, milliseconds: int) -> None:
        """A KME sees the time."""
        if self.kme is not None:
            self.kme.now += milliseconds / 1000
            self.kme.do(Tick())


def _randoms(session: Case, name: str) -> Iterator[bytes]:
    """The random part of each envelope that a KME sends, in their order."""
    for step in session["steps"]:
        if step.get("from") == name and "peer_message" in step:
            message = message_of(data_of(step["body"]), Direction.TO_HUB)
            assert isinstance(message, messages.Peer)
            # Behind the array's head, the batch id with its head, the direction, and the random's head.
            yield message.envelope[30:62]
