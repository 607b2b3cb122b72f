"""What tests of prefaces and links share: an attacker who computes proofs by the formula, and liars."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from simulation.link_pair import PARTIES, Joined, LinkPair, Side
from skex.base.errors import ErrorCode, SkexError
from skex.base.ids import Direction
from skex.crypto.keystream import Keystream
from skex.pad.kinds import PadKind
from skex.pad.material import DerivedMaterial, GrantMaterial, TableMaterial
from skex.protocol.effects import Effects
from skex.protocol.flow import Waiting
from skex.protocol.session import Failed
from skex.wire import messages
from skex.wire import preface as frames
from skex.wire.preface import Frame, Parties

KINDS = [PadKind.DERIVED, PadKind.TABLE]
BOTH = list(Direction)


def proof(
    key: bytes,
    number: int,
    earlier: Sequence[bytes],
    unproved: bytes,
    *,
    parties: Parties = PARTIES,
    version: int = 1,
) -> bytes:
    """A frame's proof, straight from the specification's section 3.7."""
    parts = [
        b"skex1 preface %d" % number,
        bytes([version]),
        parties.realm.encode(),
        parties.link_id,
        parties.kme.encode(),
        parties.hub.encode(),
        *earlier,
        unproved,
    ]
    data = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(key, data, hashlib.sha512)


def proved(pair: LinkPair, frame: Frame, earlier: Sequence[bytes]) -> bytes:
    """The whole frame of an end that has the link's key and may lie in everything else."""
    unproved = frames.unproved_bytes(frame)
    return unproved + proof(pair.profile.key.expose(), frame.NUMBER, earlier, unproved)


def table_material(direction: Direction = Direction.TO_HUB, start: int = 0, count: int = 1) -> TableMaterial:
    data = b"".join(hashlib.sha512(b"%d %d" % (start, block)).digest() for block in range(count * 64))
    return TableMaterial(direction, start, count, bytearray(data))


def derived_material(direction: Direction = Direction.TO_HUB, start: int = 0) -> DerivedMaterial:
    return DerivedMaterial(direction, start, Keystream(hashlib.sha256(b"%d" % start).digest()))


def wiped(*materials: GrantMaterial) -> list[bool]:
    """Which of them are wiped."""
    return [material.wiped for material in materials]


def tell(side: Side, body: bytes) -> None:
    """Let an end that holds pad seal any body, as an authentic but lying peer can."""
    link = side.connection.link
    assert link is not None
    assert link._send.make_room(len(body), control=True)
    link._seal(Waiting(body))
    for record in link._out.take().send:
        side.cable.put(side.outgoing, record)


def tell_message(side: Side, message: messages.Message) -> None:
    tell(side, messages.encode_message(message))


def code_of(side: Side) -> ErrorCode | None:
    """The code with which a side failed."""
    return None if side.error is None else side.error.code


def failure_of(effects: Effects[object, object, object]) -> SkexError:
    """The error of effects that must do nothing but fail."""
    assert not effects.send
    (notice,) = effects.notify
    assert isinstance(notice, Failed)
    return notice.error


def held(side: Side) -> list[GrantMaterial]:
    """Every material that the machine of a side refers to."""
    connection = side.connection
    materials: list[GrantMaterial] = []
    if connection.link is not None:
        materials += [*connection.link._send._grants, *connection.link._receive._grants]
    preface = connection._preface
    return materials + list(getattr(preface, "_held", []))


def connected(kind: PadKind, units: int = 64) -> tuple[LinkPair, Joined]:
    """A pair after a preface, with one request answered each way, so that both links are in use."""
    pair = LinkPair(kind, units=units)
    joined = pair.connect()
    assert joined.kme.open
    assert joined.hub.open
    return pair, joined


def exchange(joined: Joined) -> None:
    """A request and its answer arrive."""
    asked, got = len(joined.hub.arrived), len(joined.kme.arrived)
    joined.kme.send(messages.GetRealm(), "request")
    joined.run()
    joined.hub.send(messages.RealmFile(b"realm"))
    joined.hub.send(messages.Done(joined.hub.arrived[-1].ordinal))
    joined.run()
    assert joined.hub.messages[asked:] == [messages.GetRealm()]
    assert joined.kme.messages[got:] == [messages.RealmFile(b"realm")]
    assert joined.kme.answered[-1].token == "request"
