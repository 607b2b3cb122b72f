"""The worked examples of docs/spec/, computed with the production code from fixed inputs.

Nothing here is a test vector in its own right (docs/spec/vectors/ has those); the examples show a
reader how bytes are laid out.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Final

from skex.base import limits
from skex.base.ids import (
    BatchId,
    Coordinate,
    Direction,
    GroupId,
    HubName,
    Incarnation,
    KmeName,
    LinkId,
    RealmName,
)
from skex.base.secret import Secret
from skex.crypto import aead, gf256, kdf, mac, sharing
from skex.crypto.keystream import Keystream
from skex.crypto.tag import end_to_end_tag
from skex.protocol import establishment
from skex.wire import messages, peer
from skex.wire import preface as frames
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.codec import Value, encode
from skex.wire.context import CompactContext, Purpose
from skex.wire.realm import Hub, HubAttributes, HubStatus, Realm
from skex.wire.record import RecordHeader

LINK: Final = LinkId(bytes.fromhex("a0a1a2a3a4a5a6a7"))
LINK_KEY: Final = bytes(range(0x40))
KME_NONCE: Final = bytes(range(0x40, 0x60))
HUB_NONCE: Final = bytes(range(0x60, 0x80))
SEED: Final = bytes(range(0x80, 0xC0))
INCARNATION_A: Final = Incarnation(bytes(range(0xC0, 0xD0)))
INCARNATION_B: Final = Incarnation(bytes(range(0xD0, 0xE0)))
REALM_NAME, KME_A, KME_B = RealmName("example"), KmeName("kme-a"), KmeName("kme-b")
PARTIES: Final = frames.Parties(REALM_NAME, LINK, KME_A, HubName("hub-1"))
BATCH: Final = BatchId(INCARNATION_A, 7)
CLAIM: Final = Claim((), Randomness.SYSTEM, Enrolment.CARRIED_IN_CLEAR)
CLAIM_B: Final = Claim((), Randomness.SYSTEM_XOR_OTHER, Enrolment.CARRIED_IN_CLEAR)


def block(*entries: tuple[str, str | bytes | int]) -> str:
    """A fenced block of named values; bytes in hexadecimal, 32 to a line."""
    lines = []
    for name, value in entries:
        if isinstance(value, bytes):
            rows = textwrap.wrap(value.hex(), 64) or ["(empty)"]
            lines.append(f"{name} ({len(value)} bytes)")
            lines += [f"    {row}" for row in rows]
        else:
            lines.append(f"{name} = {value}")
    return "```text\n" + "\n".join(lines) + "\n```\n"


def realm() -> Realm:
    """Three hubs, any two of which carry a batch."""
    hubs = []
    for number, place in ((1, "CH"), (2, "NO"), (3, "SG")):
        attributes = HubAttributes(
            f"operator {number}", place, f"hosting {number}", f"admin {number}", "skex"
        )
        address = f"hub-{number}.example.net:7300"
        name, coordinate = HubName(f"hub-{number}"), Coordinate(number)
        hubs.append(Hub(name, coordinate, HubStatus.ACTIVE, address, attributes))
    return Realm(REALM_NAME, 1, 2, 1_767_225_600, 31_536_000, 604_800, tuple(hubs))


def _realm_file() -> str:
    return block(("realm file", realm().to_bytes()), ("SHA-512 of the file", realm().digest()))


# ── preface ─────────────────────────────────────────────────────────────────────────────────────
def _preface_frames() -> tuple[list[bytes], bytes]:
    """The five frames, whole, and the input of the proof of frame 2."""
    whole = [frames.unproved_bytes(frames.Hello(1, 1, LINK, KME_NONCE))]
    later: tuple[frames.Frame, ...] = (
        frames.HubNonce(1, HUB_NONCE),
        frames.KmeState(frames.Marks(0, 0, 0, 0, 0, 0), INCARNATION_A, 0),
        frames.HubState(frames.Marks(1, 0, 0, 0, 0, 0), 1, realm().digest(), frames.Stretch(0, 1), 0),
        frames.KmeGrant(frames.Stretch(0, 1)),
    )
    inputs = []
    for frame in later:
        unproved = frames.unproved_bytes(frame)
        label = kdf.preface_label(frame.NUMBER)
        inputs.append(frames.proof_input(label, 1, PARTIES, whole, unproved))
        whole.append(unproved + mac.hmac_sha512(LINK_KEY, inputs[-1]))
    return whole, inputs[0]


def _preface() -> str:
    whole, proof_input = _preface_frames()
    return block(
        ("static link key", LINK_KEY),
        ("realm, KME, hub", "example, kme-a, hub-1"),
        ("frame 1", whole[0]),
        ("input of the proof of frame 2", proof_input),
        *((f"frame {number + 2}", frame) for number, frame in enumerate(whole[1:])),
    )


# ── pads, records ───────────────────────────────────────────────────────────────────────────────
def _grant_key() -> bytes:
    return kdf.grant_key(SEED, LINK, Direction.TO_HUB, 0, KME_NONCE, HUB_NONCE)


def _grant() -> str:
    info = kdf.Label.GRANT + LINK + bytes(5) + KME_NONCE + HUB_NONCE
    return block(
        ("K_0 (the seed of direction 0)", SEED),
        ("info of the grant key of index 0", info),
        ("grant key", _grant_key()),
        ("first 48 bytes of the grant: r, then the first usable bytes", Keystream(_grant_key()).take(48)),
        ("K_1", kdf.next_chain_key(SEED)),
    )


def _record() -> str:
    body = messages.encode_message(messages.GetRealm())
    material = Keystream(_grant_key()).take(16 + 16 + len(body))
    r, s, otp = material[:16], material[16:32], material[32:]
    header = RecordHeader(Direction.TO_HUB, len(body), LINK, 0, 16).pack()
    ciphertext = bytes(left ^ right for left, right in zip(body, otp, strict=True))
    tag = mac.record_tag(r, s, header + ciphertext)
    return block(
        ("body: GET_REALM, the CBOR array [8]", body),
        ("header", header),
        ("r", r),
        ("s", s),
        ("otp", otp),
        ("ciphertext", ciphertext),
        ("tag", tag),
        ("record", header + ciphertext + tag),
    )


def _cbor() -> str:
    values: tuple[tuple[str, Value], ...] = (
        ("GRANT of positions 33 to 64 of a table pad: [1, 33, 32]", [1, 33, 32]),
        ("REFUSE of the request with ordinal 300, receiver absent: [4, 300, 3]", [4, 300, 3]),
        ("[23, 24, 255, 256, 65536]", [23, 24, 255, 256, 65536]),
        ("['kme-a', h'00ff', null, []]", ["kme-a", b"\x00\xff", None, []]),
    )
    return block(*((name, encode(value)) for name, value in values))


# ── establishment ───────────────────────────────────────────────────────────────────────────────
U: Final = bytes(range(0x01, 0x31))
V: Final = bytes(range(0x31, 0x51))
KEY: Final = bytes(range(0x51, 0x61))
SECRET: Final = U + V + KEY


def _compact() -> CompactContext:
    hubs = (Coordinate(1), Coordinate(2), Coordinate(3))
    return CompactContext(1, 2, hubs, 1, len(KEY), Purpose.TRAFFIC, 3600, None, CLAIM)


def _context() -> bytes:
    context = establishment.expand(_compact(), realm(), sender=KME_A, receiver=KME_B, batch=BATCH)
    return context.to_bytes()


def _coefficients() -> bytes:
    return bytes((7 * index + 3) % 256 for index in range(len(SECRET)))


def _gf256() -> str:
    return block(
        ("0x57 * 0x83", hex(gf256.multiply(0x57, 0x83))),
        ("1 / 0x53", hex(gf256.inverse(0x53))),
        ("Lagrange factors at 0 for coordinates 1 and 3", _factors(1, 3)),
        ("Lagrange factors at 0 for coordinates 1, 2 and 3", _factors(1, 2, 3)),
    )


def _factors(*coordinates: int) -> str:
    unit = {x: bytes(int(x == y) for y in coordinates) for x in coordinates}
    return ", ".join(f"0x{factor:02x}" for factor in sharing.interpolate(unit))


def _context_example() -> str:
    return block(
        ("compact context", encode(_compact().to_value())),
        ("expanded context", _context()),
    )


def _tag() -> str:
    context, tail = _context(), V + KEY
    p = len(context).to_bytes(8, "big") + context
    p += bytes(-len(p) % 16)
    q = tail + bytes(-len(tail) % 16)
    return block(
        ("c", U[:16]),
        ("d", U[16:32]),
        ("e", U[32:]),
        ("P", p),
        ("Q", q),
        ("N", (len(p) + len(q)) // 16),
        ("T", end_to_end_tag(U, context, tail)),
    )


def _shares() -> str:
    shares = sharing.split(SECRET, 2, (1, 2, 3), _coefficients())
    return block(
        ("S", SECRET),
        ("coefficients of x", _coefficients()),
        *((f"share of the hub at coordinate {x}", share) for x, share in enumerate(shares, 1)),
    )


def _share_message() -> str:
    tag = end_to_end_tag(U, _context(), V + KEY)
    share = sharing.split(SECRET, 2, (1, 2, 3), _coefficients())[0]
    sent = messages.Share(KME_B, BATCH.counter, _compact(), tag, share)
    delivered = messages.Shared(KME_A, BATCH, _compact(), tag, share)
    return block(
        ("SHARE, from A to the hub at coordinate 1", messages.encode_message(sent)),
        ("SHARED, from that hub to B", messages.encode_message(delivered)),
    )


def _confirm() -> str:
    context = establishment.expand(_compact(), realm(), sender=KME_A, receiver=KME_B, batch=BATCH)
    tag = end_to_end_tag(U, context.to_bytes(), V + KEY)
    confirmation = establishment.confirm(
        Secret(V), tag, context, epoch=1, incarnation=INCARNATION_B, claim=CLAIM_B
    )
    covered = kdf.Label.CONFIRM + tag + context.digest() + (1).to_bytes(4, "big") + INCARNATION_B
    return block(
        ("SHA-512 of the expanded context", context.digest()),
        ("input of the MAC", covered + encode(CLAIM_B.to_value())),
        ("MAC", confirmation.mac),
        ("CONFIRM, from B to a hub", messages.encode_message(messages.Confirm(KME_A, confirmation))),
    )


# ── peer messages, key ids ──────────────────────────────────────────────────────────────────────
def _peer() -> str:
    root, control = bytes(range(64)), BatchId(INCARNATION_A, 0)
    random = bytes(range(0xE0, 0x100))
    plaintext = peer.encode_peer_message(peer.Ok((BATCH,)))
    direction = int(peer.PeerDirection.FROM_SENDER)
    context = encode([REALM_NAME, KME_A, KME_B, control.to_bytes(), direction])
    associated = encode([control.to_bytes(), direction, random])
    key = kdf.peer_message_key(root, random, context)
    sealed = aead.seal(key, plaintext, associated)
    envelope = peer.Envelope(control, peer.PeerDirection.FROM_SENDER, random, sealed)
    return block(
        ("root", root),
        ("batch id of the control batch", control.to_bytes()),
        ("random", random),
        ("plaintext: OK for the batch of the earlier examples", plaintext),
        ("info of the message key", kdf.Label.PEER + context),
        ("message key", key),
        ("associated data", associated),
        ("sealed", sealed),
        ("envelope", envelope.to_bytes()),
    )


def _key_ids() -> str:
    group = GroupId(bytes(range(0x10, 0x20)))
    name = encode([kdf.Label.KEY_ID.decode(), REALM_NAME, KME_A, KME_B, BATCH.to_bytes(), 0])
    group_name = encode([kdf.Label.GROUP_KEY_ID.decode(), REALM_NAME, KME_A, group, 0])
    return block(
        ("name of key 0 of the batch", name),
        ("key id", str(establishment.key_id(REALM_NAME, KME_A, KME_B, BATCH, 0))),
        ("name of key 0 of the group", group_name),
        ("group key id", str(establishment.group_key_id(REALM_NAME, KME_A, group, 0))),
    )


def _bounds() -> str:
    """The numbers that the security considerations derive."""
    blocks = limits.RECORD_BYTES // 16
    return block(
        ("16-byte blocks of header and ciphertext, at most", blocks),
        ("record forgery, per attempt, at most", f"8 * {blocks} / 2^106 = 2^-{106 - 3 - 12}"),
    )


EXAMPLES: Final[dict[str, Callable[[], str]]] = {
    "example-realm": _realm_file,
    "example-preface": _preface,
    "example-grant": _grant,
    "example-record": _record,
    "example-cbor": _cbor,
    "example-gf256": _gf256,
    "example-context": _context_example,
    "example-tag": _tag,
    "example-shares": _shares,
    "example-share-message": _share_message,
    "example-confirm": _confirm,
    "example-peer": _peer,
    "example-key-ids": _key_ids,
    "example-bounds": _bounds,
}
