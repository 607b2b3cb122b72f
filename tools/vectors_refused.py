"""Inputs that must be refused for the state they meet: frames, records, envelopes, shares, requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from vectors_common import (
    BATCH,
    CONTROL,
    FIVE_HUBS,
    INCARNATION_A,
    INCARNATION_B,
    KME_A,
    KME_B,
    Case,
    expand,
    expanded,
    jsonable,
)
from vectors_establishment import MadeBatch, control, make, traffic
from vectors_links import grant_bytes, preface, records, setup
from vectors_messages import ASSIGN, IN_GROUP, OTHER_REQUEST, REQUEST, ROOT, TRAFFIC
from vectors_rejected import changed, refused

from simulation.transcript import LinkSetup
from skex.base import limits
from skex.base.ids import BatchId, Coordinate, Direction, Incarnation, KmeName, SaeId
from skex.base.secret import Secret
from skex.crypto import kdf, mac
from skex.pad.kinds import PadKind
from skex.protocol.envelopes import Channel
from skex.wire import messages, peer
from skex.wire import preface as frames
from skex.wire.codec import encode
from skex.wire.messages import Refusal
from skex.wire.peer import AssignRefusal, KeyRange, PeerDirection
from skex.wire.preface import Marks
from skex.wire.record import RecordHeader

_KME_C: Final = KmeName("kme-c")


def _flip(data: bytes, at: int = -1, mask: int = 1) -> bytes:
    place = at % len(data)
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


# ── frames ──────────────────────────────────────────────────────────────────────────────────────
class _Preface:
    """A preface of preface.json: its frames, and how to prove another frame in their place."""

    def __init__(self, name: str, link: LinkSetup) -> None:
        self.name = name
        self.link = link
        (case,) = (one for one in preface()["cases"] if one["name"] == name)
        self.frames = [bytes.fromhex(frame["bytes"]) for frame in case["frames"]]

    def prove(self, frame: frames.Frame, key: bytes | None = None) -> bytes:
        """``frame`` in its place of this preface, with a valid proof."""
        unproved = frames.unproved_bytes(frame)
        earlier = self.frames[: frame.NUMBER - 1]
        label = kdf.preface_label(frame.NUMBER)
        data = frames.proof_input(label, 1, self.link.parties, earlier, unproved)
        return unproved + mac.hmac_sha512(key or self.link.key, data)

    def case(self, name: str, spec: str, end: str, given: tuple[int, bytes], error: str) -> Case:
        """A case in the state after so many frames."""
        after, data = given
        state = {"file": "preface.json", "case": self.name, "end": end, "after": after}
        title = f"{end}, frame {after + 1}: {name}"
        return refused(title, spec, {"state": state, "bytes": data.hex()}, error)


_UNEXPECTED: Final = "frame-unexpected"
_BAD_LENGTH: Final = "frame-length"
_BAD_FRAME: Final = "frame-malformed"
_BAD_PROOF: Final = "proof-invalid"
_BAD_GRANT: Final = "grant-invalid"


def frame_cases() -> list[Case]:
    """Frames that end the connection."""
    new = _Preface("derived, first connection", setup("derived", PadKind.DERIVED))
    ahead = _Preface("derived, hub ahead", new.link)
    table = _Preface("table, first connection", setup("table", PadKind.TABLE, 8))
    return [
        *_at_hub_frame_1(new),
        *_at_hub_frame_3(new, ahead),
        *_at_hub_frame_5(new, ahead, table),
        *_at_kme_frame_2(new),
        *_at_kme_frame_4(new, ahead, table),
    ]


def _at_hub_frame_1(new: _Preface) -> Iterable[Case]:
    hello = new.frames[0]
    rows: list[tuple[str, bytes, str]] = [
        ("frame 3 instead of frame 1", b"\x03" + hello[1:], _UNEXPECTED),
        ("a reserved byte of the header", b"\x01\x01" + hello[2:], _UNEXPECTED),
        ("a length of 47 in the header alone", bytes.fromhex("0100002f"), _BAD_LENGTH),
        ("a length of 49 in the header alone", bytes.fromhex("01000031"), _BAD_LENGTH),
        ("a length of 65535 in the header alone", bytes.fromhex("0100ffff"), _BAD_LENGTH),
        ("another magic", hello[:4] + b"SKEX" + hello[8:], _BAD_FRAME),
        ("lowest version 0", hello[:8] + b"\x00" + hello[9:], _BAD_FRAME),
        ("lowest version above the highest", hello[:8] + b"\x02\x01" + hello[10:], _BAD_FRAME),
        ("a reserved field", hello[:10] + b"\x00\x01" + hello[12:], _BAD_FRAME),
        ("a byte behind frame 1", hello + b"\x03", _UNEXPECTED),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n", _UNEXPECTED),
    ]
    for name, data, error in rows:
        yield new.case(name, "3.1, 3.2", "hub", (0, data), error)


def _at_hub_frame_3(new: _Preface, other: _Preface) -> Iterable[Case]:
    state = new.frames[2]
    marks = Marks(0, 0, 2**53, 0, 0, 0)
    rows: list[tuple[str, str, bytes, str]] = [
        ("frame 1 again", "3.1", new.frames[0], _UNEXPECTED),
        ("frame 5 instead of frame 3", "3.1", new.frames[4], _UNEXPECTED),
        ("a length of 115", "3.1", bytes.fromhex("03000073"), _BAD_LENGTH),
        (
            "a count of 2^53",
            "3.4",
            new.prove(frames.KmeState(marks, INCARNATION_A, 0)),
            _BAD_FRAME,
        ),
        (
            "a seen_count of 2^64 - 1",
            "3.4",
            new.prove(frames.KmeState(replace(marks, count=0, seen_count=2**64 - 1), INCARNATION_A, 0)),
            _BAD_FRAME,
        ),
        ("the first bit of the proof", "3.7", _flip(state, 56, 0x80), _BAD_PROOF),
        ("the last bit of the proof", "3.7", _flip(state), _BAD_PROOF),
        ("another mark under the same proof", "3.7", _flip(state, 7), _BAD_PROOF),
        ("another incarnation under the same proof", "3.7", _flip(state, 40), _BAD_PROOF),
        ("capabilities changed under the same proof", "3.7", _flip(state, 55), _BAD_PROOF),
        ("frame 3 of another connection of the link", "3.7", other.frames[2], _BAD_PROOF),
        (
            "a proof under another key",
            "3.7",
            new.prove(
                frames.KmeState(Marks(0, 0, 0, 0, 0, 0), INCARNATION_A, 0), expand("another link key", 64)
            ),
            _BAD_PROOF,
        ),
        ("a proof cut to 32 bytes and filled with zeros", "3.7", state[:88] + bytes(32), _BAD_PROOF),
        ("a byte behind frame 3", "3.1", state + b"\x05", _UNEXPECTED),
    ]
    for name, spec, data, error in rows:
        yield new.case(name, spec, "hub", (2, data), error)
    unknown = _Preface("unknown link id", new.link)
    yield unknown.case("any frame 3 for an unknown link", "3.3", "hub", (2, state), "link-unknown")


def _at_hub_frame_5(new: _Preface, ahead: _Preface, table: _Preface) -> Iterable[Case]:
    grant = new.frames[4]
    rows: list[tuple[_Preface, str, str, bytes, str]] = [
        (new, "a grant of no positions", "3.6", _kme_grant(new, 0, 0), _BAD_FRAME),
        (new, "a grant beyond u32", "3.6", _kme_grant(new, 2**32 - 1, 1), _BAD_FRAME),
        (new, "two positions of a derived pad", "3.8", _kme_grant(new, 0, 2), _BAD_GRANT),
        (ahead, "a grant below the hub's mark", "3.8", _kme_grant(ahead, 2, 1), _BAD_GRANT),
        (table, "a grant beyond the pad's end", "3.8", _kme_grant(table, 8, 1), _BAD_GRANT),
        (table, "257 positions of a table pad", "3.8", _kme_grant(table, 0, 257), _BAD_GRANT),
        (new, "a jump of 65,537 steps", "4.5", _kme_grant(new, 65_537, 1), "pad-jump"),
        (new, "the last bit of the proof", "3.7", _flip(grant), _BAD_PROOF),
        (new, "another start under the same proof", "3.7", _flip(grant, 7), _BAD_PROOF),
        (new, "frame 3 again", "3.1", new.frames[2], _UNEXPECTED),
        (new, "a record instead of frame 5", "3.8", bytes.fromhex("01000000"), _UNEXPECTED),
    ]
    for where, name, spec, data, error in rows:
        yield where.case(name, spec, "hub", (4, data), error)


def _kme_grant(where: _Preface, start: int, count: int) -> bytes:
    return where.prove(frames.KmeGrant(frames.Stretch(start, count)))


def _at_kme_frame_2(new: _Preface) -> Iterable[Case]:
    nonce = new.frames[1]
    version_2 = frames.HubNonce(2, nonce[8:40])
    rows: list[tuple[str, str, bytes, str]] = [
        ("its own frame 1, reflected", "3.1", new.frames[0], _UNEXPECTED),
        ("a length of 99", "3.1", bytes.fromhex("02000063"), _BAD_LENGTH),
        ("version 0", "3.3", new.prove(frames.HubNonce(0, nonce[8:40])), _BAD_FRAME),
        ("a reserved byte", "3.3", nonce[:5] + b"\x01" + nonce[6:], _BAD_FRAME),
        ("a version that was not offered", "3.3", new.prove(version_2), "version-unsupported"),
        ("the version changed on the way", "3.7", _flip(nonce, 4, 3), "version-unsupported"),
        ("the last bit of the proof", "3.7", _flip(nonce), _BAD_PROOF),
        ("another nonce under the same proof", "3.7", _flip(nonce, 8), _BAD_PROOF),
        ("64 random bytes for a proof", "3.3", nonce[:40] + expand("no proof", 64), _BAD_PROOF),
        ("frame 4 in the same breath", "3.1", nonce + new.frames[3], _UNEXPECTED),
    ]
    for name, spec, data, error in rows:
        yield new.case(name, spec, "kme", (1, data), error)


def _at_kme_frame_4(new: _Preface, ahead: _Preface, table: _Preface) -> Iterable[Case]:
    state = new.frames[3]
    rows: list[tuple[_Preface, str, str, bytes, str]] = [
        (new, "frame 2 again", "3.1", new.frames[1], _UNEXPECTED),
        (new, "epoch 0", "3.5", _hub_state(new, 0, 1, epoch=0), _BAD_FRAME),
        (new, "a grant of no positions", "3.5", _hub_state(new, 0, 0), _BAD_FRAME),
        (new, "a grant beyond u32", "3.5", _hub_state(new, 2**32 - 1, 1, to_hub=0), _BAD_FRAME),
        (new, "a mark that is not the grant's end", "3.8", _hub_state(new, 0, 1, to_hub=2), _BAD_GRANT),
        (new, "two positions of a derived pad", "3.8", _hub_state(new, 0, 2), _BAD_GRANT),
        (ahead, "a grant below the KME's mark", "3.8", _hub_state(ahead, 3, 1), _BAD_GRANT),
        (table, "a grant beyond the pad's end", "3.8", _hub_state(table, 8, 1), _BAD_GRANT),
        (new, "a jump of 65,537 steps", "4.5", _hub_state(new, 65_537, 1), "pad-jump"),
        (new, "the last bit of the proof", "3.7", _flip(state), _BAD_PROOF),
        (new, "another realm digest under the same proof", "3.7", _flip(state, 40), _BAD_PROOF),
        (new, "frame 4 of another connection", "3.7", ahead.frames[3], _BAD_PROOF),
        (new, "a byte behind frame 4", "3.1", state + b"\x01", _UNEXPECTED),
    ]
    for where, name, spec, data, error in rows:
        yield where.case(name, spec, "kme", (3, data), error)


def _hub_state(
    where: _Preface, start: int, count: int, *, to_hub: int | None = None, epoch: int = FIVE_HUBS.epoch
) -> bytes:
    end = start + count if to_hub is None else to_hub
    marks = Marks(end, 0, 0, 0, 0, 0)
    stretch = frames.Stretch(start, count)
    return where.prove(frames.HubState(marks, epoch, FIVE_HUBS.digest(), stretch, 0))


# ── records ─────────────────────────────────────────────────────────────────────────────────────
class _Connection:
    """A connection of records.json, and how to seal any record on it."""

    def __init__(self, case: Case, link: LinkSetup) -> None:
        self.name: str = case["name"]
        self.link = link
        self.steps: list[Case] = case["steps"]
        self.nonces = bytes.fromhex(case["kme"]["nonce"]), bytes.fromhex(case["hub"]["nonce"])

    def after(self, who: str, ordinal: int) -> int:
        """How many steps there are up to and with a record."""
        for number, step in enumerate(self.steps, 1):
            if step.get("from") == who and step.get("ordinal") == ordinal:
                return number
        raise LookupError(f"{self.name}: {who} {ordinal}")

    def seal(
        self, direction: Direction, body: bytes, place: tuple[int, int], count: int = 1, **header: Any
    ) -> bytes:
        """A record at (grant, offset) whose tag is right, with ``header`` fields as asked."""
        grant, offset = place
        end = offset + 16 + len(body)
        pad = grant_bytes(self.link, direction, (grant, count), self.nonces, end)
        link_id = header.get("link_id", self.link.parties.link_id)
        plain = RecordHeader(direction, len(body), link_id, grant, offset).pack()
        plain = bytes(header.get("start", plain[:4])) + plain[4:]
        ciphertext = bytes(left ^ right for left, right in zip(body, pad[offset + 16 :], strict=True))
        tag = mac.record_tag(pad[:16], pad[offset : offset + 16], plain + ciphertext)
        return plain + ciphertext + tag

    def case(
        self, name: str, spec: str, where: tuple[str, int], data: bytes | list[Any], outcome: str | Case
    ) -> Case:
        """A case at an end after so many steps; ``outcome`` is an error code unless it is an object."""
        end, after = where
        state = {"file": "records.json", "case": self.name, "end": end, "after": after}
        given = {"state": state, "bytes": data.hex() if isinstance(data, bytes) else data}
        wanted = {"error": outcome} if isinstance(outcome, str) else outcome
        return {"name": f"{end}: {name}", "spec": spec, **given, "outcome": wanted}


def record_cases() -> list[Case]:
    """Records that end the connection, and one that is answered."""
    derived, table, _ = records()["cases"]
    first = _Connection(derived, setup("derived", PadKind.DERIVED))
    second = _Connection(table, setup("records table", PadKind.TABLE, 40))
    return [*_headers(first, second), *_forgeries(first), *_bodies(first), *_grants(first, second)]


_UP: Final = Direction.TO_HUB
_DOWN: Final = Direction.TO_KME
_GET_REALM: Final = messages.encode_message(messages.GetRealm())


def _headers(first: _Connection, table: _Connection) -> Iterable[Case]:
    """What the first 24 bytes give away; the hub has one record, of 18 pad bytes."""
    where, place = ("hub", first.after("kme", 1)), (0, 34)
    good = first.seal(_UP, _GET_REALM, place)
    first_record = first.seal(_UP, _GET_REALM, (0, 16))
    end = (0, limits.DERIVED_GRANT_BYTES)
    rows: list[tuple[str, bytes, str]] = [
        ("version 0", b"\x00" + good[1:24], "record-version"),
        ("version 2", b"\x02" + good[1:24], "record-version"),
        ("direction 2", good[:1] + b"\x02" + good[2:24], "record-header"),
        ("the hub's own direction", good[:1] + b"\x01" + good[2:24], "record-header"),
        ("a reserved byte", good[:2] + b"\x80" + good[3:24], "record-header"),
        ("length 0", good[:4] + bytes(4) + good[8:24], "record-length"),
        ("length 65,513", good[:4] + (65_513).to_bytes(4, "big") + good[8:24], "record-length"),
        ("length 2^32 - 1", good[:4] + b"\xff" * 4 + good[8:24], "record-length"),
        ("another link id", good[:8] + bytes(8) + good[16:24], "record-header"),
        ("a grant that was not announced", good[:16] + b"\x00\x00\x00\x01" + good[20:24], "record-position"),
        ("the first record again", first_record, "record-position"),
        ("an offset one byte low", good[:20] + (33).to_bytes(4, "big"), "record-position"),
        ("an offset one byte high", good[:20] + (35).to_bytes(4, "big"), "record-position"),
        ("an offset in r", good[:20] + bytes(4), "record-position"),
        ("an offset beyond the grant", good[:20] + end[1].to_bytes(4, "big"), "record-position"),
        ("a record one place ahead", first.seal(_UP, _GET_REALM, (0, 52)), "record-position"),
        ("the hub's own record, reflected", _sent(first, "hub", 1)[:24], "record-header"),
    ]
    for name, data, error in rows:
        yield first.case(name, "5.1, 5.3", where, data, error)
    third = first.after("kme", 4)
    yield first.case(
        "a record in the grant that was left",
        "5.5",
        ("hub", third),
        first.seal(_UP, _GET_REALM, (0, 163)),
        "record-position",
    )
    crossing = RecordHeader(_UP, 1100, table.link.parties.link_id, 0, 3070).pack()
    where = ("hub", table.after("kme", 2))
    yield table.case("a record that crosses its grant", "5.3", where, crossing, "record-length")


def _sent(connection: _Connection, who: str, ordinal: int) -> bytes:
    return bytes.fromhex(connection.steps[connection.after(who, ordinal) - 1]["bytes"])


def _forgeries(first: _Connection) -> Iterable[Case]:
    where, place = ("hub", first.after("kme", 1)), (0, 34)
    good = first.seal(_UP, _GET_REALM, place)
    swapped = first.seal(_UP, _GET_REALM, (0, 16))
    rows: list[tuple[str, bytes]] = [
        ("the last bit of the tag", _flip(good)),
        ("the first bit of the tag", _flip(good, -16, 0x80)),
        ("a bit of the ciphertext", _flip(good, 25)),
        ("a tag of zeros", good[:-16] + bytes(16)),
        ("another record's ciphertext and tag", good[:24] + swapped[24:]),
        ("the body in clear", good[:24] + _GET_REALM + good[26:]),
        ("a record of one byte less", _shorter(good)),
    ]
    for name, data in rows:
        yield first.case(name, "5.3", where, data, "record-tag")


def _shorter(record: bytes) -> bytes:
    header = record[:4] + (1).to_bytes(4, "big") + record[8:24]
    return header + record[24:25] + record[26:]


def _bodies(first: _Connection) -> Iterable[Case]:
    """Records that verify, with bodies that are not allowed."""
    hub, kme = ("hub", first.after("kme", 1)), ("kme", 5)
    done = messages.encode_message(messages.Done(1))
    rows: list[tuple[str, tuple[str, int], Direction, bytes, str]] = [
        ("a body that is no CBOR", hub, _UP, b"\xff", "body-malformed"),
        ("a body in a longer form", hub, _UP, b"\x81\x18\x08", "body-malformed"),
        ("a message of the other direction", hub, _UP, done, "body-wrong-way"),
        ("a field out of its range", hub, _UP, b"\x82\x02\x00", "body-range"),
        ("an answer to a record that was never sent", kme, _DOWN, done, "body-range"),
    ]
    for name, where, way, body, error in rows:
        place = (0, 34 if way is _UP else 16)
        yield first.case(name, "5.3, 6.1, 6.2", where, first.seal(way, body, place), error)
    unknown = first.seal(_UP, encode([14, "from a later version"]), (0, 34))
    answer = messages.encode_message(messages.Refuse(2, Refusal.UNKNOWN_TYPE))
    outcome = {"refuse": _refusal(Refusal.UNKNOWN_TYPE), "answer": answer.hex()}
    yield first.case("a message of an unknown type", "6.2", hub, unknown, outcome)


def _refusal(refusal: Refusal | AssignRefusal) -> Case:
    return {"name": refusal.name, "value": int(refusal)}


def _grants(first: _Connection, table: _Connection) -> Iterable[Case]:
    """Announcements that a sender refuses: each at the KME, directly behind the preface."""
    where = ("kme", 5)
    rows: list[tuple[_Connection, str, Sequence[tuple[int, int]], str]] = [
        (first, "a grant below its own mark", [(0, 1)], _BAD_GRANT),
        (first, "two positions of a derived pad", [(1, 2)], _BAD_GRANT),
        (first, "a jump of 65,537 steps", [(65_538, 1)], "pad-jump"),
        (table, "a grant beyond the pad's end", [(39, 2)], _BAD_GRANT),
        (table, "257 positions of a table pad", [(1, 257)], _BAD_GRANT),
        (table, "the second and third grant at once", [(1, 1), (2, 1)], _BAD_GRANT),
    ]
    for connection, name, stretches, error in rows:
        data, offset = b"", 16
        for stretch in stretches:
            body = messages.encode_message(messages.Grant(*stretch))
            data += connection.seal(_DOWN, body, (0, offset))
            offset += 16 + len(body)
        yield connection.case(name, "5.6", where, data, error)


# ── pads ────────────────────────────────────────────────────────────────────────────────────────
def pad_cases() -> list[Case]:
    """Material that an end must refuse when it is enrolled."""
    seed = expand("a seed with a hole", 64)
    unit = limits.TABLE_UNIT_BYTES
    holed = seed[:16] + bytes(16) + seed[32:]
    whole = [expanded("a table with a hole", unit), {"repeat": "00", "times": 16}]
    table = [*whole, expanded("the rest of the table", unit - 16)]
    return [
        refused(
            "a seed with an all-zero block", "2.2", {"kind": "derived", "material": holed.hex()}, "pad-hole"
        ),
        refused("a table with an all-zero block", "2.2", {"kind": "table", "material": table}, "pad-hole"),
    ]


# ── envelopes ───────────────────────────────────────────────────────────────────────────────────
_NOW: Final = Channel(FIVE_HUBS.name, KME_A, KME_B, CONTROL, PeerDirection.FROM_SENDER)


def _envelope(name: str, message: object, *, channel: Channel = _NOW, root: bytes = ROOT) -> peer.Envelope:
    plaintext = message if isinstance(message, bytes) else encode(message)  # type: ignore[arg-type]  # a value
    return channel.seal(Secret(root), expand(f"random of a refused envelope: {name}", 32), plaintext)


def envelope_cases() -> Case:
    """Envelopes that kme-b drops; it holds one root of the pair, as the receiver."""
    ok = peer.Ok((BATCH,)).to_value()
    good = _envelope("good", ok)
    others: dict[str, tuple[peer.Envelope, str]] = {
        "another root's key": (_envelope("key", ok, root=expand("another root", 64)), "peer-message-invalid"),
        "another realm in the key": (_otherwise("realm", ok, realm="other"), "peer-message-invalid"),
        "another sender in the key": (_otherwise("sender", ok, sender="kme-c"), "peer-message-invalid"),
        "another receiver in the key": (_otherwise("receiver", ok, receiver="kme-c"), "peer-message-invalid"),
        "a root that nobody knows": (replace(good, root=BatchId(INCARNATION_A, 9)), "no-common-root"),
        "the other direction": (replace(good, direction=PeerDirection.FROM_RECEIVER), "no-common-root"),
        "another random": (replace(good, random=_flip(good.random)), "peer-message-invalid"),
        "a bit of the ciphertext": (replace(good, sealed=_flip(good.sealed, 0)), "peer-message-invalid"),
        "a bit of the tag": (replace(good, sealed=_flip(good.sealed)), "peer-message-invalid"),
        "cut by one byte": (replace(good, sealed=good.sealed[:-1]), "peer-message-invalid"),
        "an unknown type inside": (_envelope("type", [99]), "request-unknown"),
        "no CBOR inside": (_envelope("inside", b"\xff"), "body-malformed"),
        "ASSIGNED from the sender": (
            _envelope("way", peer.Assigned(REQUEST, INCARNATION_B, 60, 1).to_value()),
            "body-wrong-way",
        ),
    }
    cases = [
        refused(name, "8.2, 8.3", {"from": KME_A, "envelope": envelope.to_bytes().hex()}, error)
        for name, (envelope, error) in others.items()
    ]
    data = good.to_bytes()
    raw: dict[str, tuple[str, bytes, str]] = {
        "as from another KME": (_KME_C, data, "no-common-root"),
        "a byte behind the envelope": (KME_A, data + b"\x00", "body-malformed"),
        "direction 2": (KME_A, changed(data, (1,), 2), "body-range"),
        "a random of 31 bytes": (KME_A, changed(data, (2,), bytes(31)), "body-range"),
        "nothing sealed": (KME_A, changed(data, (3,), bytes(16)), "body-range"),
        "three elements": (KME_A, encode([CONTROL.to_bytes(), 0, bytes(32)]), "body-malformed"),
    }
    cases += [
        refused(name, "8.2", {"from": who, "envelope": envelope.hex()}, error)
        for name, (who, envelope, error) in raw.items()
    ]
    root = {"sender": KME_A, "receiver": KME_B, "root_id": CONTROL.to_bytes().hex(), "root": ROOT.hex()}
    return {"state": {"me": KME_B, "realm": FIVE_HUBS.name, "roots": [root]}, "cases": cases}


def _otherwise(name: str, value: object, **parties: str) -> peer.Envelope:
    return _envelope(name, value, channel=replace(_NOW, **parties))  # type: ignore[arg-type]  # names


# ── shares at the receiver ──────────────────────────────────────────────────────────────────────
_ALL_UP: Final = tuple(hub.name for hub in FIVE_HUBS.active_hubs)


def share_cases() -> Case:
    """SHARED messages that kme-b refuses, ignores or does not use."""
    made = traffic()
    state = {"me": KME_B, "incarnation": INCARNATION_B.hex(), "realm": FIVE_HUBS.to_bytes().hex(), "floor": 2}
    return {
        "state": {**state, "allowed": True, "room": True, "brought": [], "answered": None},
        "cases": [*_refused_shares(made), *_repeated_shares(made), *_useless_shares(made)],
    }


def _shared_case(
    name: str, brought: Sequence[tuple[str, messages.Shared]], outcome: Case, **state: Any
) -> Case:
    *before, (hub, shared) = brought
    given: Case = {"state": state | ({"brought": _brought(before)} if before else {})}
    given |= {"hub": hub, "body": messages.encode_message(shared).hex()}
    return {"name": name, "spec": "7.7", **given, "outcome": outcome}


def _brought(shares: Iterable[tuple[str, messages.Shared]]) -> list[list[str]]:
    return [[hub, messages.encode_message(shared).hex()] for hub, shared in shares]


def _refused_shares(made: MadeBatch) -> Iterable[Case]:
    one = made.shared(Coordinate(1))
    in_group = make("group", IN_GROUP, BatchId(INCARNATION_A, 4))
    rows: list[tuple[str, str, messages.Shared, Refusal, Case]] = [
        ("no realm file in force", "hub-1", one, Refusal.CONTEXT_DISAGREES, {"realm": None}),
        ("an epoch before", "hub-1", _with(one, epoch=3), Refusal.CONTEXT_DISAGREES, {}),
        ("an epoch to come", "hub-1", _with(one, epoch=5), Refusal.CONTEXT_DISAGREES, {}),
        ("a revoked hub", "hub-4", one, Refusal.NOT_AUTHORISED, {}),
        ("a hub that the realm does not list", "hub-9", one, Refusal.NOT_AUTHORISED, {}),
        ("the receiver itself as sender", "hub-1", replace(one, sender=KME_B), Refusal.NOT_AUTHORISED, {}),
        ("a sender that policy does not allow", "hub-1", one, Refusal.NOT_AUTHORISED, {"allowed": False}),
        ("the realm's threshold is below the floor", "hub-1", one, Refusal.CONTEXT_DISAGREES, {"floor": 4}),
        ("another threshold", "hub-1", _with(one, threshold=2), Refusal.CONTEXT_DISAGREES, {}),
        (
            "a hub that the batch does not use",
            "hub-1",
            in_group.shared(Coordinate(2)),
            Refusal.CONTEXT_DISAGREES,
            {},
        ),
        (
            "a revoked hub among the hubs",
            "hub-1",
            _with(one, hubs=(1, 2, 4, 9)),
            Refusal.CONTEXT_DISAGREES,
            {},
        ),
        (
            "a coordinate that no hub has",
            "hub-1",
            _with(one, hubs=(1, 2, 9, 77)),
            Refusal.CONTEXT_DISAGREES,
            {},
        ),
        ("no room for the keys", "hub-1", one, Refusal.RECEIVER_FULL, {"room": False}),
    ]
    for name, hub, shared, refusal, state in rows:
        yield _shared_case(name, [(hub, shared)], {"refuse": _refusal(refusal)}, **state)


def _with(shared: messages.Shared, **fields: Any) -> messages.Shared:
    """The same share under another context."""
    if "hubs" in fields:
        fields["hubs"] = tuple(Coordinate(x) for x in fields["hubs"])
    return replace(shared, context=replace(shared.context, **fields))


def _repeated_shares(made: MadeBatch) -> Iterable[Case]:
    one, two, three, *_ = (
        (made.hub(coordinate), made.shared(coordinate)) for coordinate in made.compact.hubs
    )
    enough = [one, two, three]
    yield _shared_case(
        "a share of a batch that was accepted and answered",
        [*enough, one],
        {"refuse": _refusal(Refusal.BATCH_REPEATED)},
        answered=True,
    )
    yield _shared_case(
        "a share of a batch that A voided",
        [*enough, two],
        {"refuse": _refusal(Refusal.BATCH_REPEATED)},
        answered=False,
    )
    yield _shared_case("the same share again while others are awaited", [one, one], {"ignored": True})
    other = replace(one[1], share=_flip(one[1].share))
    outcome = {"ignored": True, "named": one[0]}
    yield _shared_case("another share of the same hub", [one, (one[0], other)], outcome)


def _useless_shares(made: MadeBatch) -> Iterable[Case]:
    """Shares that are authentic on their links and yet of no use: nothing is accepted."""
    shares = [(made.hub(coordinate), made.shared(coordinate)) for coordinate in made.compact.hubs[:3]]
    three, third = shares[2]
    nothing: Case = {"accepted": False}
    yield _shared_case("fewer than k", [shares[0], shares[1]], nothing)
    yield _shared_case(
        "an altered share among three",
        [*shares[:2], (three, replace(third, share=_flip(third.share)))],
        nothing,
    )
    yield _shared_case(
        "another T with the third share",
        [*shares[:2], (three, replace(third, tag=_flip(third.tag)))],
        nothing,
    )
    yield _shared_case(
        "another T with all shares",
        [(hub, replace(shared, tag=_flip(shared.tag))) for hub, shared in shares],
        nothing,
    )
    yield _shared_case(
        "another lifetime in the third context",
        [*shares[:2], (three, _with(third, lifetime=TRAFFIC.lifetime + 1))],
        nothing,
    )
    yield _shared_case(
        "another lifetime in all contexts",
        [(hub, _with(shared, lifetime=TRAFFIC.lifetime + 1)) for hub, shared in shares],
        nothing,
    )
    low, middle, high = made.compact.hubs[1], made.compact.hubs[3], made.compact.hubs[4]
    yield _shared_case(
        "shares exchanged between two hubs",
        [
            (made.hub(low), made.shared(middle)),
            (made.hub(middle), made.shared(low)),
            (made.hub(high), made.shared(high)),
        ],
        nothing,
    )
    yield _shared_case(
        "another batch id with all shares",
        [(hub, replace(shared, batch=BatchId(INCARNATION_A, 3))) for hub, shared in shares],
        nothing,
    )
    yield _shared_case(
        "another sender with all shares",
        [(hub, replace(shared, sender=_KME_C)) for hub, shared in shares],
        nothing,
    )
    yield _shared_case("shares that were made for another receiver", shares, nothing, me=_KME_C)


# ── confirmations at the sender ─────────────────────────────────────────────────────────────────
def confirmation_cases() -> Case:
    """CONFIRMED messages that kme-a drops, or answers with VOID; the batch stays pending throughout."""
    made, root = traffic(), control()
    good = made.confirmation()
    dropped = {"dropped": True}
    rows: list[tuple[str, KmeName, messages.Confirmation, Case]] = [
        ("a bit of the MAC", KME_B, replace(good, mac=_flip(good.mac)), dropped),
        ("another epoch", KME_B, replace(good, epoch=good.epoch + 1), dropped),
        ("another incarnation", KME_B, replace(good, incarnation=Incarnation(bytes(16))), dropped),
        (
            "a claim without its weak hub",
            KME_B,
            replace(good, claim=replace(good.claim, computational=())),
            dropped,
        ),
        ("as from another KME", _KME_C, good, dropped),
        ("the CONFIRM of another batch", KME_B, replace(good, mac=root.confirmation().mac), dropped),
        (
            "a batch that was never made",
            KME_B,
            replace(good, batch=BatchId(INCARNATION_A, 99)),
            {"answer": "VOID"},
        ),
        (
            "a batch of another start",
            KME_B,
            replace(good, batch=BatchId(Incarnation(bytes(16)), 2)),
            {"answer": "VOID"},
        ),
    ]
    cases = [
        {
            "name": name,
            "spec": "7.5, 7.8",
            "hub": "hub-1",
            "body": messages.encode_message(messages.Confirmed(who, confirmation)).hex(),
            "outcome": outcome,
        }
        for name, who, confirmation, outcome in rows
    ]
    state = {
        "me": KME_A,
        "pending": ["control", "traffic"],
        "of": "establishment.json",
        "accepted_afterwards": messages.encode_message(messages.Confirmed(KME_B, good)).hex(),
    }
    return {"state": state, "cases": cases}


# ── requests at the hub ─────────────────────────────────────────────────────────────────────────
def hub_cases() -> Case:
    """Requests that a hub refuses, with the first reason that applies."""
    made = traffic()
    share, confirm = made.share(Coordinate(1)), messages.Confirm(KME_A, made.confirmation())
    shared = [KME_A, messages.encode_message(share).hex()]
    confirmed = [KME_B, messages.encode_message(confirm).hex()]
    cost = limits.RECORD_TAG_BYTES + len(messages.encode_message(made.shared(Coordinate(1))))
    peer_message = messages.Peer(KME_B, bytes(100))
    peer_cost = limits.RECORD_TAG_BYTES + len(messages.encode_message(messages.Forwarded(KME_A, bytes(100))))
    floor, peer_floor = limits.CONTROL_FLOOR_BYTES, limits.PEER_FLOOR_BYTES
    rows: list[tuple[str, KmeName, messages.Message, Refusal, Case]] = [
        ("SHARE for oneself", KME_A, replace(share, receiver=KME_A), Refusal.NOT_AUTHORISED, {}),
        ("SHARE for a name that nobody has", KME_A, _to(share, "kme-z"), Refusal.NOT_AUTHORISED, {}),
        ("SHARE that is not allowed", KME_B, _to(share, "kme-a"), Refusal.NOT_AUTHORISED, {}),
        ("SHARE for a KME that is not connected", KME_A, _to(share, "kme-c"), Refusal.RECEIVER_ABSENT, {}),
        (
            "SHARE that is not allowed, for a KME that is not connected",
            KME_B,
            _to(share, "kme-c"),
            Refusal.NOT_AUTHORISED,
            {},
        ),
        ("SHARE, pad for one byte less", KME_A, share, Refusal.PAD_EXHAUSTED, {"pad_left": cost - 1}),
        ("SHARE, one byte into the floor", KME_A, share, Refusal.PAD_FLOOR, {"pad_left": floor + cost - 1}),
        ("SHARE, the quota is used up", KME_A, share, Refusal.QUOTA_EXCEEDED, {"quota_bytes": cost - 1}),
        ("CONFIRM of a batch that was not relayed", KME_B, confirm, Refusal.BATCH_UNKNOWN, {}),
        (
            "CONFIRM by a KME that the batch was not for",
            _KME_C,
            confirm,
            Refusal.BATCH_UNKNOWN,
            {"connected": [KME_A, KME_B, _KME_C], "before": [shared]},
        ),
        (
            "CONFIRM for the seventeenth time",
            KME_B,
            confirm,
            Refusal.BATCH_UNKNOWN,
            {"before": [shared, *[confirmed] * 16]},
        ),
        (
            "CONFIRM for a KME that went away",
            KME_B,
            confirm,
            Refusal.RECEIVER_ABSENT,
            {"before": [shared], "gone": [KME_A]},
        ),
        (
            "PEER between two that nobody allowed",
            KME_A,
            _to(peer_message, "kme-d"),
            Refusal.NOT_AUTHORISED,
            {},
        ),
        (
            "PEER to a KME that is not connected",
            KME_A,
            _to(peer_message, "kme-c"),
            Refusal.RECEIVER_ABSENT,
            {},
        ),
        (
            "PEER, one byte into its floor",
            KME_A,
            peer_message,
            Refusal.PAD_FLOOR,
            {"pad_left": peer_floor + peer_cost - 1},
        ),
        (
            "GET_REALM for the second time",
            KME_A,
            messages.GetRealm(),
            Refusal.BUSY,
            {"before": [[KME_A, messages.encode_message(messages.GetRealm()).hex()]]},
        ),
    ]
    cases = [
        {
            "name": name,
            "spec": "7.6",
            "state": state,
            "from": who,
            "body": messages.encode_message(message).hex(),
            "outcome": {"refuse": _refusal(refusal)},
        }
        for name, who, message, refusal, state in rows
    ]
    state = {
        "realm": FIVE_HUBS.to_bytes().hex(),
        "may_establish": [[KME_A, KME_B], [KME_A, _KME_C]],
        "connected": [KME_A, KME_B],
        "incarnations": {KME_A: INCARNATION_A.hex(), KME_B: INCARNATION_B.hex(), _KME_C: bytes(16).hex()},
        "pad_left": 16_777_216,
        "quota_bytes": 16_777_216,
        "floor": floor,
        "peer_floor": peer_floor,
        "before": [],
        "gone": [],
    }
    return {"state": state, "cases": cases}


def _to(message: messages.Share | messages.Peer, receiver: str) -> messages.Message:
    return replace(message, receiver=KmeName(receiver))


# ── assignments at the receiver ─────────────────────────────────────────────────────────────────
def assignment_cases() -> Case:
    """ASSIGN messages that kme-b refuses: nothing of them is recorded."""
    first = ASSIGN
    other = replace(first, request=OTHER_REQUEST)
    void_one = peer.VoidKeys(OTHER_REQUEST, INCARNATION_A, (KeyRange(BATCH, 1, 1),))
    rows: list[tuple[str, peer.Assign, AssignRefusal, Case]] = [
        (
            "another incarnation of B",
            replace(first, receiver_incarnation=Incarnation(bytes(16))),
            AssignRefusal.INCARNATION_CHANGED,
            {},
        ),
        (
            "a master of another KME",
            replace(first, master=SaeId("web-1@kme-c")),
            AssignRefusal.NOT_AUTHORISED,
            {},
        ),
        (
            "a slave of another KME",
            replace(first, slaves=(SaeId("db-1@kme-b"), SaeId("db-1@kme-c"))),
            AssignRefusal.NOT_AUTHORISED,
            {},
        ),
        ("policy does not allow it", first, AssignRefusal.NOT_AUTHORISED, {"allowed": False}),
        (
            "a key beyond the batch",
            replace(first, keys=(KeyRange(BATCH, 0, 3),)),
            AssignRefusal.KEY_NOT_HELD,
            {},
        ),
        (
            "a batch that is not held",
            replace(first, keys=(KeyRange(BatchId(INCARNATION_A, 9), 0, 1),)),
            AssignRefusal.KEY_NOT_HELD,
            {},
        ),
        ("keys that another request has", other, AssignRefusal.KEY_ASSIGNED, {"before": [first]}),
        (
            "one key that another request has",
            replace(other, keys=(KeyRange(BATCH, 1, 1),)),
            AssignRefusal.KEY_ASSIGNED,
            {"before": [first]},
        ),
        (
            "the same request with other content",
            replace(first, lifetime=601),
            AssignRefusal.KEY_ASSIGNED,
            {"before": [first]},
        ),
        (
            "the same request by another incarnation of A",
            replace(first, incarnation=Incarnation(bytes(16))),
            AssignRefusal.KEY_ASSIGNED,
            {"before": [first]},
        ),
        (
            "the same request after one of its keys was voided",
            replace(first, attempt=2),
            AssignRefusal.KEY_NOT_HELD,
            {"before": [first, void_one]},
        ),
    ]
    cases = []
    for name, message, refusal, state in rows:
        before = [peer.encode_peer_message(one).hex() for one in state.get("before", ())]
        answer = peer.NotAssigned(message.request, INCARNATION_B, refusal)
        outcome = {"not_assigned": _refusal(refusal), "answer": peer.encode_peer_message(answer).hex()}
        cases.append(
            {
                "name": name,
                "spec": "9.1",
                "state": jsonable(state | ({"before": before} if before else {})),
                "plaintext": peer.encode_peer_message(message).hex(),
                "outcome": outcome,
            }
        )
    held = [[one.to_value() for one in (KeyRange(BATCH, 0, TRAFFIC.keys),)]]
    state = {
        "me": KME_B,
        "incarnation": INCARNATION_B.hex(),
        "sender": KME_A,
        "held": jsonable(held[0]),
        "allowed": True,
        "before": [],
    }
    return {"state": state, "cases": cases}
