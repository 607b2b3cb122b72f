"""Vectors of one link: prefaces, grants, records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from vectors_common import (
    FIVE_HUBS,
    INCARNATION_A,
    KINDS,
    KME_A,
    KME_B,
    LINK_KEY_BYTES,
    Case,
    document,
    expand,
    expanded,
    jsonable,
    link_id,
    notation,
)

from simulation.transcript import Carried, End, LinkSetup, Node, Wiring
from skex.base import limits
from skex.base.ids import Direction, HubName, LinkId
from skex.crypto import kdf, mac
from skex.crypto.keystream import Keystream
from skex.pad.kinds import PadKind
from skex.pad.material import R_BYTES
from skex.protocol.flow import units_for
from skex.protocol.traffic import Tick
from skex.wire import messages
from skex.wire import preface as frames
from skex.wire.preface import Marks, Parties
from skex.wire.record import RecordHeader

_HUB: Final = HubName("hub-1")
_FRAMES: Final = (frames.Hello, frames.HubNonce, frames.KmeState, frames.HubState, frames.KmeGrant)
NEW: Final = Marks(0, 0, 0, 0, 0, 0)
FROM: Final = {Direction.TO_HUB: "kme", Direction.TO_KME: "hub"}
MATERIAL: Final = {Direction.TO_HUB: "to_hub", Direction.TO_KME: "to_kme"}


# ── links ───────────────────────────────────────────────────────────────────────────────────────
def setup(name: str, kind: PadKind, units: int = 0) -> LinkSetup:
    """A link of kme-a with hub-1 that belongs to the vectors called ``name``."""
    return setup_between(name, Parties(FIVE_HUBS.name, link_id(name), KME_A, _HUB), kind, units)


def setup_between(name: str, parties: Parties, kind: PadKind, units: int = 0) -> LinkSetup:
    """A link between any two; ``units`` is the capacity of each direction of a table."""
    size = units * limits.TABLE_UNIT_BYTES if kind is PadKind.TABLE else kdf.CHAIN_KEY_BYTES
    material = {way: expand(_material_name(name, way), size) for way in Direction}
    return LinkSetup(parties, expand(f"static link key {name}", LINK_KEY_BYTES), kind, material)


def _material_name(name: str, direction: Direction) -> str:
    return f"material {name} {MATERIAL[direction]}"


def link_case(name: str, link: LinkSetup) -> Case:
    """What enrolment delivered, as it stands in a file."""
    parties = link.parties
    material = {
        MATERIAL[way]: data.hex()
        if link.kind is PadKind.DERIVED
        else expanded(_material_name(name, way), len(data))
        for way, data in link.material.items()
    }
    return {
        "realm": parties.realm,
        "link_id": parties.link_id.hex(),
        "kme": parties.kme,
        "hub": parties.hub,
        "static_key": link.key.hex(),
        "kind": KINDS[link.kind],
        **material,
    }


# ── the preface ─────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Pair:
    """Both ends of a link, joined by one connection that is not yet open."""

    link: LinkSetup
    wiring: Wiring
    kme: Node
    hub: Node
    nonces: tuple[bytes, bytes]

    def open(self) -> tuple[End, End]:
        """Dial; nothing is delivered yet."""
        hub = self.hub.accept("link", self.nonces[1])
        return self.kme.dial("link", self.link.parties.link_id, self.nonces[0]), hub


def pair(name: str, link: LinkSetup, kme: Marks = NEW, hub: Marks = NEW, *, known: bool = True) -> Pair:
    """Two nodes with what their stores hold; ``known``: the hub has the link."""
    wiring = Wiring()
    nodes = Node("kme", wiring.carry), Node("hub", wiring.carry)
    wiring.join("link", *nodes)
    nodes[0].enrol(link, kme)
    other = replace(link, parties=replace(link.parties, link_id=LinkId(bytes(range(8)))))
    nodes[1].enrol(link if known else other, hub)
    nodes[0].incarnation = INCARNATION_A
    nodes[1].realm = (FIVE_HUBS.epoch, FIVE_HUBS.digest())
    nodes[1].decoy = expand(f"decoy key {name}", LINK_KEY_BYTES)
    nonces = expand(f"kme nonce {name}", 32), expand(f"hub nonce {name}", 32)
    return Pair(link, wiring, *nodes, nonces)


def _frame_case(link: LinkSetup, key: bytes, version: int, earlier: Sequence[bytes], whole: bytes) -> Case:
    number = len(earlier) + 1
    frame, proof = frames.parse_frame(whole, _FRAMES[number - 1])  # type: ignore[type-var]  # one of five
    case: Case = {"frame": number, "from": "kme" if number % 2 else "hub", "fields": _fields(frame)}
    if proof:
        unproved = whole[: -len(proof)]
        data = frames.proof_input(kdf.preface_label(number), version, link.parties, earlier, unproved)
        if mac.hmac_sha512(key, data) != proof:
            raise AssertionError(f"frame {number} of {link.parties.kme}")
        case |= {"proof_input": data.hex(), "proof": proof.hex()}
    return case | {"bytes": whole.hex()}


def _fields(frame: object) -> Any:
    """The fields of a frame by name, those of its marks and grants as objects."""
    return jsonable(asdict(frame))  # type: ignore[call-overload]  # every frame is a dataclass


def frame_cases(link: LinkSetup, key: bytes, version: int, whole: Sequence[bytes]) -> list[Case]:
    """The frames of a preface with all that leads to their proofs."""
    return [_frame_case(link, key, version, whole[:place], frame) for place, frame in enumerate(whole)]


def _ends(two: Pair, kme: Marks, hub: Marks) -> Case:
    return {
        "kme": {
            "nonce": two.nonces[0].hex(),
            "incarnation": two.kme.incarnation.hex(),
            "before": asdict(kme),
        },
        "hub": {
            "nonce": two.nonces[1].hex(),
            "epoch": two.hub.realm[0],
            "realm_digest": two.hub.realm[1].hex(),
            "before": asdict(hub),
        },
    }


def _preface(name: str, about: str, spec: str, link: LinkSetup, material: str, *marks: Marks) -> Case:
    """One preface that ends well, run with both ends' machines; ``marks`` are the KME's and the hub's."""
    kme, hub = marks or (NEW, NEW)
    two = pair(name, link, kme, hub)
    ends = two.open()
    whole = [carried.data for carried in two.wiring.run()]
    lid = link.parties.link_id
    noticed = {
        side: {"own": list(end.rolled_back.own), "seen": list(end.rolled_back.seen)}
        if end.rolled_back
        else None
        for side, end in zip(("kme", "hub"), ends, strict=True)
    }
    if any(end.session is None for end in ends):
        raise AssertionError(name)
    return {
        "name": name,
        "spec": spec,
        "about": about,
        "link": link_case(material, link),
        **_ends(two, kme, hub),
        "frames": frame_cases(link, link.key, 1, whole),
        "outcome": "established",
        "after": {
            "kme": asdict(two.kme.marks(lid)),
            "hub": asdict(two.hub.marks(lid)),
            "rolled_back": noticed,
        },
    }


def _unknown_link(link: LinkSetup) -> Case:
    name = "unknown link id"
    two = pair(name, link, known=False)
    kme, _ = two.open()
    whole = [carried.data for carried in two.wiring.run()]
    if kme.error is None or len(whole) != 2:
        raise AssertionError(name)
    nobody = replace(link, parties=two.hub.look_up(link.parties.link_id).parties)
    return {
        "name": name,
        "spec": "3.3",
        "about": "The hub does not know the link. It answers all the same; here with a proof under a "
        "random key over random names, which nobody can verify. The KME ends the connection. "
        "Whatever comes as frame 3, the hub ends the connection (link-unknown; see "
        "rejected.json).",
        "link": link_case("derived unknown", link),
        **_ends(two, NEW, NEW),
        "decoy": {
            "key": two.hub.decoy.hex(),
            **{k: v for k, v in asdict(nobody.parties).items() if k != "link_id"},
        },
        "frames": frame_cases(nobody, two.hub.decoy, 1, whole),
        "outcome": {"end": "kme", "error": kme.error.code.name},
    }


def _by_hand(name: str, about: str, link: LinkSetup, offer: tuple[int, int], frame_count: int) -> Case:
    """A KME that offers other versions than this one does; the hub is the reference implementation's."""
    two = pair(name, link)
    hub = two.hub.accept("link", two.nonces[1])
    sent: list[bytes] = []
    two.hub.carry = lambda _name, _direction, data: sent.append(data)
    whole = [frames.unproved_bytes(frames.Hello(*offer, link.parties.link_id, two.nonces[0]))]
    hub.receive(whole[0])
    whole.append(sent.pop())
    if frame_count == 5:
        for frame in (frames.KmeState(NEW, INCARNATION_A, 0), frames.KmeGrant(frames.Stretch(0, 1))):
            whole.append(_proved(link, whole, frame))
            hub.receive(whole[-1])
            whole += sent
            sent.clear()
    done = hub.session is not None
    if done != (frame_count == 5) or len(whole) != frame_count:
        raise AssertionError(name)
    return {
        "name": name,
        "spec": "3.3, 13.1",
        "about": about,
        "link": link_case("derived", link),
        **_ends(two, NEW, NEW),
        "frames": frame_cases(link, link.key, 1, whole),
        "outcome": "established" if done else {"end": "kme", "error": "version-unsupported"},
    }


def _proved(link: LinkSetup, earlier: Sequence[bytes], frame: frames.KmeState | frames.KmeGrant) -> bytes:
    unproved = frames.unproved_bytes(frame)
    label = kdf.preface_label(frame.NUMBER)
    return unproved + mac.hmac_sha512(link.key, frames.proof_input(label, 1, link.parties, earlier, unproved))


def preface() -> Case:
    """preface.json."""
    derived, table = setup("derived", PadKind.DERIVED), setup("table", PadKind.TABLE, 8)
    ahead_kme, ahead_hub = Marks(4, 3, 3, 4, 3, 3), Marks(6, 3, 3, 4, 3, 3)
    rolled_kme, rolled_hub = Marks(2, 1, 1, 2, 0, 1), Marks(9, 4, 5, 9, 6, 5)
    table_kme, table_hub = Marks(3, 5, 2, 2, 4, 2), Marks(3, 4, 2, 3, 5, 2)
    cases = [
        _preface(
            "derived, first connection",
            "A new link: all marks are 0. Both ends take position 0 of each direction.",
            "3.1 to 3.9",
            derived,
            "derived",
        ),
        _preface(
            "derived, hub ahead",
            "Two earlier connections broke between frame 4 and the KME's taking: the hub took 4 and 5 of "
            "direction 0, and the KME knows of none of them. The first grant starts at 6, and nobody was "
            "rolled back. The hub's count becomes known to the KME with the first record only.",
            "3.8, 3.9",
            derived,
            "derived",
            ahead_kme,
            ahead_hub,
        ),
        _preface(
            "derived, KME rolled back",
            "The KME was restored from an older copy: the hub saw all three of its values higher. The KME "
            "notices, makes what it will do about it durable, and goes on; direction 1 starts at the mark "
            "that the hub saw, and the new count is one more than the count that the hub saw.",
            "3.8, 3.9, 9.7",
            derived,
            "derived",
            rolled_kme,
            rolled_hub,
        ),
        _preface(
            "derived, hub rolled back",
            "The same the other way round.",
            "3.8, 3.9, 9.7",
            derived,
            "derived",
            rolled_hub,
            rolled_kme,
        ),
        _preface(
            "table, first connection",
            "A new table link of 8 units in each direction.",
            "3.1 to 3.9",
            table,
            "table",
        ),
        _preface(
            "table, later connection",
            "A table link after two connections, the last of which broke before the hub had frame 5.",
            "3.8, 4.3",
            table,
            "table",
            table_kme,
            table_hub,
        ),
        _unknown_link(setup("derived unknown", PadKind.DERIVED)),
        _by_hand(
            "offer of versions 2 to 3",
            "The hub speaks version 1 only and answers with the one of its versions that is nearest to the "
            "offer. The KME, which does not speak it, ends the connection before it checks the proof.",
            derived,
            (2, 3),
            2,
        ),
        _by_hand(
            "offer of versions 1 to 200",
            "A KME of a later time that still speaks version 1. The offer is under every proof.",
            derived,
            (1, 200),
            5,
        ),
    ]
    return document(
        "Prefaces: every frame with its fields, the exact input of its proof, and the proof. 'before' and "
        "'after' are the six values that an end's store holds, as in frames 3 and 4; 'after' is what is "
        "durable when the preface is over at that end and no record was opened. rolled_back: for each end "
        "null, or its own to_hub, to_kme, count and those that the other end saw.",
        "3",
        {"cases": cases},
    )


# ── grants ──────────────────────────────────────────────────────────────────────────────────────
def grant_bytes(
    link: LinkSetup, direction: Direction, stretch: tuple[int, int], nonces: tuple[bytes, bytes], length: int
) -> bytes:
    """The first ``length`` bytes of a grant."""
    start, count = stretch
    material = link.material[direction]
    if link.kind is PadKind.TABLE:
        unit = limits.TABLE_UNIT_BYTES
        return material[start * unit : (start + count) * unit][:length]
    chain_key = kdf.advance(material, start)
    key = kdf.grant_key(chain_key, link.parties.link_id, direction, start, *nonces)
    return Keystream(key).take(length)


def _chain(link: LinkSetup, direction: Direction, nonces: tuple[bytes, bytes]) -> Case:
    seed, lid = link.material[direction], link.parties.link_id
    grants = []
    for index in range(5):
        chain_key = kdf.advance(seed, index)
        key = kdf.grant_key(chain_key, lid, direction, index, *nonces)
        head = Keystream(key).take(64)
        info = kdf.Label.GRANT + lid + bytes([direction]) + index.to_bytes(4, "big") + b"".join(nonces)
        grants.append(
            {
                "index": index,
                "chain_key": chain_key.hex(),
                "info": info.hex(),
                "grant_key": key.hex(),
                "r": head[:R_BYTES].hex(),
                "first_usable": head[R_BYTES:].hex(),
            }
        )
    whole = grant_bytes(link, direction, (0, 1), nonces, limits.DERIVED_GRANT_BYTES)
    return {
        "name": f"derived, {MATERIAL[direction]}",
        "spec": "4.5, 4.6",
        "link_id": lid.hex(),
        "direction": int(direction),
        "seed": seed.hex(),
        "kme_nonce": nonces[0].hex(),
        "hub_nonce": nonces[1].hex(),
        "grants": grants,
        "grant_0_last_16_bytes": whole[-16:].hex(),
        "jump": {"index": 1000, "chain_key": kdf.advance(seed, 1000).hex()},
    }


def _table(link: LinkSetup) -> Case:
    material = link.material[Direction.TO_KME]
    rows = []
    for start, count in ((0, 1), (3, 2), (7, 1), (0, 8)):
        data = grant_bytes(link, Direction.TO_KME, (start, count), (b"", b""), len(material))
        rows.append(
            {
                "start": start,
                "count": count,
                "first_byte_in_pad": start * limits.TABLE_UNIT_BYTES,
                "bytes": len(data),
                "r": data[:R_BYTES].hex(),
                "first_usable": data[R_BYTES:64].hex(),
                "last_16_bytes": data[-16:].hex(),
            }
        )
    return {
        "name": "table, to_kme",
        "spec": "4.1, 4.2, 4.6",
        "pad": expanded(_material_name("table", Direction.TO_KME), len(material)),
        "capacity": len(material) // limits.TABLE_UNIT_BYTES,
        "grants": rows,
    }


def _sizes() -> Case:
    rows = []
    for capacity, mark, wanted in (
        (4096, 1, 0),
        (4096, 1, 1),
        (4096, 1, 130_800),
        (4096, 1, 130_801),
        (4096, 33, 1_048_304),
        (4096, 33, 1_048_305),
        (4096, 33, 4_294_967_295),
        (4096, 4090, 1),
        (4096, 4095, 200_000),
        (4096, 4096, 1),
    ):
        count = units_for(wanted, capacity - mark)
        rows.append({"capacity": capacity, "mark": mark, "wanted": wanted, "start": mark, "count": count})
    return {
        "name": "sizes of later table grants",
        "spec": "4.7",
        "about": "What a receiver grants on a WANT of 'wanted' bytes, or unasked (0). A count of 0: the "
        "pad is used up, the answer is REFUSE, PAD_EXHAUSTED.",
        "rows": rows,
    }


def grants() -> Case:
    """grants.json."""
    derived, nonces = (
        setup("derived", PadKind.DERIVED),
        (expand("kme nonce grants", 32), expand("hub nonce grants", 32)),
    )
    cases = [
        *(_chain(derived, way, nonces) for way in Direction),
        _table(setup("table", PadKind.TABLE, 8)),
        _sizes(),
    ]
    return document(
        "Pads and grants: chains and grant keys of derived pads, positions of table pads, sizes of grants. "
        "chain_key of index i is K_i. A grant's bytes are r, then the usable bytes, the first 48 of which "
        "stand here.",
        "4",
        {"cases": cases},
    )


# ── records ─────────────────────────────────────────────────────────────────────────────────────
class RecordCase:
    """One connection from its first frame on, with everything that seals its records."""

    def __init__(self, name: str, about: str, spec: str, link: LinkSetup, material: str) -> None:
        self._two = pair(name, link)
        self._link, self._material = link, material
        self._head: Case = {"name": name, "spec": spec, "about": about, "link": link_case(material, link)}
        self._steps: list[Case] = []
        self._ordinals = dict.fromkeys(Direction, 0)
        self.ends = self._two.open()
        self._run()

    def end(self, who: str) -> End:
        """One of the two ends."""
        return self.ends[0] if who == "kme" else self.ends[1]

    def send(self, who: str, message: messages.Message) -> None:
        """An end's application sends."""
        body = messages.encode_message(message)
        self._steps.append({"do": "send", "who": who, "body": body.hex(), "message": notation(body)})
        self.end(who).send(message)
        self._run()

    def wait(self, seconds: int) -> None:
        """Time passes at both ends."""
        self._steps.append({"do": "wait", "seconds": seconds})
        for node, end in zip((self._two.kme, self._two.hub), self.ends, strict=True):
            node.now += seconds
            end.handle(Tick())
        self._run()

    def _run(self) -> None:
        for carried in self._two.wiring.run():
            frames_seen = sum("frame" in step for step in self._steps)
            if frames_seen < 5:
                self._steps.append(
                    {"from": FROM[carried.direction], "frame": frames_seen + 1, "bytes": carried.data.hex()}
                )
            else:
                self._steps.append(self._record(carried))

    def _record(self, carried: Carried) -> Case:
        self._ordinals[carried.direction] += 1
        stretch = self._count(carried)
        return {
            "from": FROM[carried.direction],
            "ordinal": self._ordinals[carried.direction],
            **record_case(self._link, carried, stretch, self._two.nonces),
        }

    def _count(self, carried: Carried) -> int:
        """How many positions the record's grant has."""
        start = RecordHeader.parse(carried.data[: limits.RECORD_HEADER_BYTES]).grant
        announced = (notation_of.split(", ") for notation_of in self._grants(carried.direction.opposite))
        return next((int(parts[2].rstrip("]")) for parts in announced if int(parts[1]) == start), 1)

    def _grants(self, direction: Direction) -> Iterator[str]:
        for step in self._steps:
            if step.get("from") == FROM[direction] and step.get("message", "").startswith("[1, "):
                yield step["message"]

    def case(self) -> Case:
        """The case, with the marks in the end."""
        if any(end.error is not None for end in self.ends):
            raise AssertionError(self._head["name"])
        lid = self._link.parties.link_id
        after = {"kme": asdict(self._two.kme.marks(lid)), "hub": asdict(self._two.hub.marks(lid))}
        return self._head | _ends(self._two, NEW, NEW) | {"steps": self._steps, "after": after}


def record_case(link: LinkSetup, carried: Carried, count: int, nonces: tuple[bytes, bytes]) -> Case:
    """A record, taken apart."""
    data = carried.data
    header = RecordHeader.parse(data[: limits.RECORD_HEADER_BYTES])
    pad = grant_bytes(link, carried.direction, (header.grant, count), nonces, header.end)
    s, otp = pad[header.offset : header.offset + 16], pad[header.offset + 16 :]
    ciphertext = data[limits.RECORD_HEADER_BYTES : -16]
    body = bytes(left ^ right for left, right in zip(ciphertext, otp, strict=True))
    return {
        "message": notation(body),
        "body": body.hex(),
        "grant": header.grant,
        "offset": header.offset,
        "r": pad[:16].hex(),
        "s": s.hex(),
        "otp": otp.hex(),
        "header": header.pack().hex(),
        "ciphertext": ciphertext.hex(),
        "tag": data[-16:].hex(),
        "bytes": data.hex(),
    }


def _peer_message(name: str, length: int) -> messages.Peer:
    return messages.Peer(KME_B, expand(f"opaque {name}", length))


def derived_records() -> RecordCase:
    """Records both ways, and a grant that gives way to the next because of its age."""
    case = RecordCase(
        "derived, a grant gives way to the next",
        "Records both ways. 600 seconds after the first messages each end announces the next grant of the "
        "direction that it receives; the other end moves to it at once, and as nothing waits it sends "
        "MOVED.",
        "4.7, 5.1 to 5.6",
        setup("derived", PadKind.DERIVED),
        "derived",
    )
    case.send("kme", messages.GetRealm())
    case.send("hub", messages.RealmFile(FIVE_HUBS.to_bytes()))
    case.send("kme", _peer_message("first", 80))
    case.send("hub", messages.Refuse(2, messages.Refusal.RECEIVER_ABSENT))
    case.wait(600)
    case.send("kme", _peer_message("second", 33))
    case.send("hub", messages.Forwarded(KME_B, expand("opaque third", 70)))
    return case


def table_records() -> RecordCase:
    """A table's first unit runs out in one direction while records wait."""
    case = RecordCase(
        "table, WANT and GRANT",
        "The first unit has no room for the third message: WANT for the bytes that wait, GRANT of 32 "
        "units, and the message goes into the later grant; what was left of the first unit is abandoned.",
        "4.7, 5.6",
        setup("records table", PadKind.TABLE, 40),
        "records table",
    )
    case.send("kme", _peer_message("a", 1500))
    case.send("kme", _peer_message("b", 1500))
    case.send("kme", _peer_message("c", 1500))
    case.send("hub", messages.Forwarded(KME_B, expand("opaque d", 20)))
    return case


def tail_records() -> RecordCase:
    """A sender that uses its unit up to the tail is granted more without asking."""
    case = RecordCase(
        "table, granted unasked",
        "One record leaves exactly the 256 bytes of the tail, in which only a GRANT may be sealed: the hub "
        "grants unasked. Then the pad's last units: 7 of 8 are left, so the grant is smaller than 32 "
        "units.",
        "5.6",
        setup("records tail", PadKind.TABLE, 8),
        "records tail",
    )
    case.send("kme", _peer_message("fill", 3797))
    case.send("kme", messages.GetRealm())
    return case


def records() -> Case:
    """records.json."""
    cases = [derived_records().case(), table_records().case(), tail_records().case()]
    return document(
        "Records: whole connections from the first frame on, every record taken apart. Steps in their "
        "order. {do: send}: the layer above that end sends a message. {do: wait}: so many seconds pass at "
        "both ends. All others are frames and records as they cross the connection; each arrives before "
        "the next step. Records that no {do: send} asked for are the link's own: GRANT, WANT, MOVED. grant "
        "and offset are the header's; r, s and otp are cut from the grant's bytes.",
        "5",
        {"cases": cases},
    )
