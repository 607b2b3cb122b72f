"""What hypothesis makes of the wire, of kits and of backups: well-formed values, and ways to spoil bytes.

Sizes stay small on purpose; the largest values of every structure are unit tests of their own.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

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
    RequestId,
    SaeId,
)
from skex.base.secret import Secret
from skex.daemon.backup.container import ID_BYTES as BACKUP_ID_BYTES
from skex.daemon.backup.container import BackupWriter, DaemonKind, Header
from skex.daemon.backup.contents import FileEntry, FileRole, Manifest, State
from skex.daemon.master import SealedMaster
from skex.enrol.chunks import KitWriter
from skex.enrol.kit import KIT_ID_BYTES, InClear, KitHeader, Protection, UnderPassphrase
from skex.enrol.passphrase import SALT_BYTES, Cost
from skex.pad.kinds import PadKind
from skex.store.links import LinkRecord
from skex.wire import codec, messages, peer, preface
from skex.wire.claim import Claim, Enrolment, Randomness
from skex.wire.codec import OrderedT, Value
from skex.wire.context import ROOT_BYTES, CompactContext, Context, Purpose
from skex.wire.messages import Confirmation, Message
from skex.wire.peer import Envelope, KeyRange, PeerDirection, PeerMessage
from skex.wire.preface import Frame, Marks, Parties, Stretch
from skex.wire.realm import Hub, HubAttributes, HubStatus, Realm
from skex.wire.record import RecordHeader

_NAME: Final = r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?"
_PRINTABLE: Final = st.characters(min_codepoint=0x20, max_codepoint=0x7E)

u8 = st.integers(0, 2**8 - 1)
u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
_positive = st.integers(1, 2**32 - 1)


def blobs(length: int) -> SearchStrategy[bytes]:
    """Byte strings of exactly ``length`` bytes."""
    return st.binary(min_size=length, max_size=length)


# ── identifiers ─────────────────────────────────────────────────────────────────────────────────
names = st.from_regex(_NAME, fullmatch=True)
realm_names = names.map(RealmName)
hub_names = names.map(HubName)
kme_names = names.map(KmeName)
sae_ids = st.builds(lambda local, kme: SaeId(f"{local}@{kme}"), names, names)
link_ids = blobs(8).map(LinkId)
incarnations = blobs(16).map(Incarnation)
group_ids = blobs(16).map(GroupId)
request_ids = blobs(16).map(RequestId)
batch_ids = st.builds(BatchId, incarnations, u64)
coordinates = st.integers(1, 255).map(Coordinate)
directions = st.sampled_from(Direction)


def coordinate_sets(low: int, high: int) -> SearchStrategy[tuple[Coordinate, ...]]:
    """``low`` to ``high`` ascending coordinates."""
    return st.sets(coordinates, min_size=low, max_size=high).map(lambda found: tuple(sorted(found)))


# ── CBOR ────────────────────────────────────────────────────────────────────────────────────────
def _arrays(children: SearchStrategy[Value]) -> SearchStrategy[Value]:
    return st.lists(children, max_size=4)


_scalars: SearchStrategy[Value] = st.one_of(u64, st.binary(max_size=40), st.text(max_size=40), st.none())


def _depth(value: Value) -> int:
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


cbor_values: SearchStrategy[Value] = st.recursive(_scalars, _arrays, max_leaves=12).filter(
    lambda value: _depth(value) <= codec.MAX_DEPTH
)
"""Values within the CBOR profile."""


# ── claims and contexts ─────────────────────────────────────────────────────────────────────────
def claims_over(hubs: tuple[Coordinate, ...]) -> SearchStrategy[Claim]:
    """Claims that name hubs out of ``hubs`` only."""
    named = st.sets(st.sampled_from(hubs)).map(lambda found: tuple(sorted(found)))
    return st.builds(Claim, named, st.sampled_from(Randomness), st.sampled_from(Enrolment))


claims = st.builds(Claim, coordinate_sets(0, 8), st.sampled_from(Randomness), st.sampled_from(Enrolment))


def thresholds(hubs: int) -> SearchStrategy[int]:
    """Thresholds that a batch over so many hubs may have."""
    allowed = [k for k in range(2, hubs + 1) if math.comb(hubs, k) <= limits.SUBSETS]
    return st.sampled_from(allowed if hubs > 1 else [1])


@st.composite
def compact_contexts(draw: DrawFn) -> CompactContext:
    """Contexts as they travel, with at most 4 keys of at most 64 bytes."""
    hubs = draw(coordinate_sets(1, 12))
    purpose = draw(st.sampled_from(Purpose))
    control = purpose is Purpose.CONTROL
    return CompactContext(
        epoch=draw(_positive),
        threshold=draw(thresholds(len(hubs))),
        hubs=hubs,
        keys=1 if control else draw(st.integers(1, 4)),
        key_bytes=ROOT_BYTES if control else draw(st.integers(limits.KEY_BYTES_MIN, 64)),
        purpose=purpose,
        lifetime=draw(st.integers(limits.LIFETIME_SECONDS_MIN, limits.LIFETIME_SECONDS_MAX)),
        group=None if control else draw(st.none() | group_ids),
        claim=draw(claims_over(hubs)),
    )


@st.composite
def contexts(draw: DrawFn) -> Context:
    """Expanded contexts."""
    compact = draw(compact_contexts())
    count = len(compact.hubs)
    hubs = tuple(draw(st.lists(hub_names, min_size=count, max_size=count, unique=True)))
    return Context(draw(realm_names), draw(kme_names), draw(kme_names), draw(batch_ids), hubs, compact)


# ── link messages ───────────────────────────────────────────────────────────────────────────────
@st.composite
def _grants(draw: DrawFn) -> messages.Grant:
    start = draw(st.integers(0, limits.PAD_POSITION_MAX - 1))
    return messages.Grant(start, draw(st.integers(1, limits.PAD_POSITION_MAX - start)))


@st.composite
def _shares(draw: DrawFn) -> messages.Share:
    context = draw(compact_contexts())
    share = draw(blobs(context.secret_bytes))
    return messages.Share(draw(kme_names), draw(u64), context, draw(blobs(16)), share)


@st.composite
def _shared(draw: DrawFn) -> messages.Shared:
    context = draw(compact_contexts())
    share = draw(blobs(context.secret_bytes))
    return messages.Shared(draw(kme_names), draw(batch_ids), context, draw(blobs(16)), share)


confirmations = st.builds(Confirmation, batch_ids, _positive, incarnations, claims, blobs(16))
_ordinals = st.integers(1, 2**64 - 1)
_both_ways: SearchStrategy[Message] = st.one_of(
    _grants(),
    st.builds(messages.Want, _positive),
    st.just(messages.Moved()),
    st.builds(messages.Refuse, _ordinals, st.integers(1, 2**16 - 1)),
)
_MESSAGES: Final[Mapping[Direction, SearchStrategy[Message]]] = {
    Direction.TO_HUB: st.one_of(
        _both_ways,
        _shares(),
        st.builds(messages.Confirm, kme_names, confirmations),
        st.builds(messages.Peer, kme_names, st.binary(min_size=1, max_size=64)),
        st.just(messages.GetRealm()),
    ),
    Direction.TO_KME: st.one_of(
        _both_ways,
        st.builds(messages.Done, _ordinals),
        _shared(),
        st.builds(messages.Confirmed, kme_names, confirmations),
        st.builds(messages.Forwarded, kme_names, st.binary(min_size=1, max_size=64)),
        st.builds(messages.RealmFile, st.binary(min_size=1, max_size=64)),
    ),
}


def link_messages(direction: Direction) -> SearchStrategy[Message]:
    """Every message that may run in ``direction``."""
    return _MESSAGES[direction]


# ── peer messages ───────────────────────────────────────────────────────────────────────────────
def _ascending(items: SearchStrategy[OrderedT], high: int) -> SearchStrategy[tuple[OrderedT, ...]]:
    return st.sets(items, min_size=1, max_size=high).map(lambda found: tuple(sorted(found)))


@st.composite
def key_ranges(draw: DrawFn) -> tuple[KeyRange, ...]:
    """Ranges of keys as they stand in a message: ascending, with a gap between two of one batch."""
    ranges = []
    for batch in draw(_ascending(batch_ids, 3)):
        edges = draw(st.sets(st.integers(0, limits.BATCH_KEYS), min_size=2, max_size=6).map(sorted))
        ranges += [
            KeyRange(batch, first, end - first) for first, end in zip(edges[::2], edges[1::2], strict=False)
        ]
    return tuple(ranges)


_assigns = st.builds(
    peer.Assign,
    request_ids,
    key_ranges(),
    sae_ids,
    _ascending(sae_ids, 4),
    st.text(_PRINTABLE, min_size=1, max_size=limits.PURPOSE_CHARACTERS),
    st.integers(limits.LIFETIME_SECONDS_MIN, limits.LIFETIME_SECONDS_MAX),
    incarnations,
    incarnations,
    _positive,
)
_peer_both_ways: SearchStrategy[PeerMessage] = st.one_of(
    st.builds(
        peer.Revoke,
        request_ids,
        st.sampled_from(peer.RevokeReason) | st.integers(0, 65_535),
        st.none() | key_ranges(),
    ),
    st.builds(peer.PeerDone, _ascending(request_ids, 4)),
)
_PEER_MESSAGES: Final[Mapping[PeerDirection, SearchStrategy[PeerMessage]]] = {
    PeerDirection.FROM_SENDER: st.one_of(
        _peer_both_ways,
        st.builds(peer.Ok, _ascending(batch_ids, 4)),
        st.builds(peer.Void, _ascending(batch_ids, 4)),
        st.builds(peer.VoidKeys, request_ids, incarnations, key_ranges()),
        _assigns,
    ),
    PeerDirection.FROM_RECEIVER: st.one_of(
        _peer_both_ways,
        st.builds(peer.Assigned, request_ids, incarnations, _positive, _positive),
        st.builds(peer.NotAssigned, request_ids, incarnations, st.integers(1, 2**16 - 1)),
    ),
}


def peer_messages(direction: PeerDirection) -> SearchStrategy[PeerMessage]:
    """Every peer message that may run in ``direction``."""
    return _PEER_MESSAGES[direction]


envelopes = st.builds(
    Envelope, batch_ids, st.sampled_from(PeerDirection), blobs(32), st.binary(min_size=17, max_size=64)
)


# ── realm files ─────────────────────────────────────────────────────────────────────────────────
_attributes = st.text(_PRINTABLE, min_size=1, max_size=limits.REALM_ATTRIBUTE_CHARACTERS)
_hosts = st.one_of(
    st.from_regex(r"[a-z0-9](?:[a-z0-9.-]{0,30}[a-z0-9])?", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
)
addresses = st.builds(lambda host, port: f"{host}:{port}", _hosts, st.integers(1, 65_535))
hub_attributes = st.builds(HubAttributes, _attributes, _attributes, _attributes, _attributes, _attributes)


@st.composite
def realms(draw: DrawFn) -> Realm:
    """Consistent realms of up to 8 hubs."""
    points = draw(coordinate_sets(1, 8))
    count = len(points)
    named = draw(st.lists(hub_names, min_size=count, max_size=count, unique=True))
    active = draw(st.integers(min(2, count), count))
    order = draw(st.permutations(range(count)))
    status = [HubStatus.ACTIVE if order[i] < active else HubStatus.REVOKED for i in range(count)]
    hubs = tuple(
        Hub(name, point, standing, draw(addresses), draw(hub_attributes))
        for name, point, standing in zip(named, points, status, strict=True)
    )
    return Realm(
        name=draw(realm_names),
        epoch=draw(_positive),
        threshold=draw(st.integers(2, active)) if count > 1 else 1,
        issued=draw(u64),
        max_age=draw(_positive),
        overlap=draw(u32),
        hubs=hubs,
    )


# ── kits ────────────────────────────────────────────────────────────────────────────────────────
_protections: SearchStrategy[Protection] = st.one_of(
    st.builds(InClear),
    st.builds(
        UnderPassphrase,
        blobs(SALT_BYTES),
        st.builds(
            Cost,
            memory_kib=st.integers(limits.KIT_KDF_MEMORY_KIB_MIN, limits.KIT_KDF_MEMORY_KIB_MAX),
            passes=st.integers(1, limits.KIT_KDF_PASSES_MAX),
            lanes=st.integers(1, limits.KIT_KDF_LANES_MAX),
        ),
    ),
)


@st.composite
def kit_headers(draw: DrawFn, protections: SearchStrategy[Protection] = _protections) -> KitHeader:
    """Headers of kits, of pads of up to 3 positions where the pad is a table."""
    realm = draw(realms())
    kind = draw(st.sampled_from(PadKind))
    capacities = st.just(limits.PAD_POSITION_MAX) if kind is PadKind.DERIVED else st.integers(1, 3)
    created = draw(u32)
    return KitHeader(
        kit_id=draw(blobs(KIT_ID_BYTES)),
        realm=realm.to_bytes(),
        hub=draw(st.sampled_from([hub.name for hub in realm.hubs if hub.status is HubStatus.ACTIVE])),
        kme=draw(kme_names),
        link_id=draw(link_ids),
        kind=kind,
        capacity_to_hub=draw(capacities),
        capacity_to_kme=draw(capacities),
        created=created,
        expires=created + draw(st.integers(1, limits.KIT_SECONDS_MAX)),
        protection=draw(protections),
    )


@st.composite
def kits(draw: DrawFn) -> bytes:
    """Whole kits in clear."""
    header = draw(kit_headers(st.builds(InClear)))
    sink = io.BytesIO()
    writer = KitWriter(sink, header, None)
    writer.write(bytes([draw(u8)]) * header.content_bytes)
    writer.finish()
    return sink.getvalue()


# ── backups ─────────────────────────────────────────────────────────────────────────────────────
@st.composite
def link_records(draw: DrawFn) -> LinkRecord:
    """What backups keep of links."""
    times = st.integers(0, 2**63 - 1)
    codes_of = st.lists(st.sampled_from(["pad-jump", "rollback-found"]), unique=True)
    return LinkRecord(
        link_id=draw(link_ids),
        realm=draw(realm_names),
        hub=draw(hub_names),
        kme=draw(kme_names),
        kind=draw(st.sampled_from(PadKind)),
        capacity_to_hub=draw(st.integers(1, limits.PAD_POSITION_MAX)),
        capacity_to_kme=draw(st.integers(1, limits.PAD_POSITION_MAX)),
        enrolment=draw(st.sampled_from(Enrolment)),
        created=draw(times),
        suspended=draw(st.booleans()),
        removed=draw(st.none() | times),
        frozen=tuple(sorted(draw(codes_of))),
    )


_plain_paths = st.lists(
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,20}", fullmatch=True), min_size=1, max_size=4
)


@st.composite
def manifests(draw: DrawFn) -> Manifest:
    """What backups say that they hold."""
    links = draw(st.lists(link_records(), max_size=3, unique_by=lambda link: link.link_id))
    realm = draw(st.none() | realms().map(lambda one: one.to_bytes()))
    names = draw(st.lists(_plain_paths, min_size=1, max_size=4, unique_by=lambda parts: parts[0]))
    files = tuple(
        FileEntry(draw(st.sampled_from(FileRole)), "/".join(["x", *parts]), draw(st.integers(0, 2**34)))
        for parts in names
    )
    return Manifest("0.1.0", State(realm, tuple(links)), files)


@st.composite
def backup_headers(draw: DrawFn, sizes: SearchStrategy[int] | None = None) -> Header:
    """Headers of backups."""
    return Header(
        backup_id=draw(blobs(BACKUP_ID_BYTES)),
        daemon=draw(st.sampled_from(DaemonKind)),
        name=draw(kme_names),
        realm=draw(st.none() | realm_names),
        created=draw(u32),
        content_bytes=draw(st.integers(1, limits.BACKUP_BYTES) if sizes is None else sizes),
        salt=draw(blobs(16)),
        cost=Cost(draw(st.integers(8_192, 1_048_576)), draw(st.integers(1, 16)), draw(st.integers(1, 16))),
    )


@st.composite
def sealed_masters(draw: DrawFn) -> SealedMaster:
    """Master keys under a passphrase, as their files hold them; none of them opens."""
    cost = Cost(draw(st.integers(8_192, 1_048_576)), draw(st.integers(1, 16)), draw(st.integers(1, 16)))
    return SealedMaster(draw(blobs(16)), cost, draw(blobs(12)), draw(blobs(48)))


@st.composite
def backups(draw: DrawFn, stretched: Secret) -> bytes:
    """Whole backups of arbitrary content, for readers that have the stretched passphrase."""
    header = draw(backup_headers(st.integers(1, 400)))
    sink = io.BytesIO()
    writer = BackupWriter(sink, header, stretched)
    writer.write(bytes([draw(u8)]) * header.content_bytes)
    writer.finish()
    return sink.getvalue()


# ── preface and records ─────────────────────────────────────────────────────────────────────────
_counts = st.integers(0, limits.PREFACE_COUNT_MAX)
marks = st.builds(Marks, u32, u32, _counts, u32, u32, _counts)


@st.composite
def stretches(draw: DrawFn) -> Stretch:
    """Stretches of pad that end at a position."""
    start = draw(st.integers(0, limits.PAD_POSITION_MAX - 1))
    return Stretch(start, draw(st.integers(1, limits.PAD_POSITION_MAX - start)))


@st.composite
def _hellos(draw: DrawFn) -> preface.Hello:
    lowest = draw(st.integers(1, 255))
    return preface.Hello(lowest, draw(st.integers(lowest, 255)), draw(link_ids), draw(blobs(32)))


_FRAMES: Final[Mapping[int, SearchStrategy[Frame]]] = {
    1: _hellos(),
    2: st.builds(preface.HubNonce, st.integers(1, 255), blobs(32)),
    3: st.builds(preface.KmeState, marks, incarnations, u32),
    4: st.builds(preface.HubState, marks, _positive, blobs(64), stretches(), u32),
    5: st.builds(preface.KmeGrant, stretches()),
}


def frames(number: int) -> SearchStrategy[Frame]:
    """Preface frames of one number, without their proofs."""
    return _FRAMES[number]


parties = st.builds(Parties, realm_names, link_ids, kme_names, hub_names)
record_headers = st.builds(RecordHeader, directions, st.integers(1, limits.BODY_BYTES), link_ids, u32, u32)


# ── spoiled bytes ───────────────────────────────────────────────────────────────────────────────
def _flip(draw: DrawFn, data: bytearray) -> None:
    if data:
        data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))


def _truncate(draw: DrawFn, data: bytearray) -> None:
    del data[draw(st.integers(0, len(data))) :]


def _extend(draw: DrawFn, data: bytearray) -> None:
    data += draw(st.binary(min_size=1, max_size=16))


def _splice(draw: DrawFn, data: bytearray) -> None:
    """Copies a stretch of the data over another place of it, which moves whole CBOR items."""
    start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
    at = draw(st.integers(0, len(data)))
    data[at:at] = data[start:end]


def _overwrite(draw: DrawFn, data: bytearray) -> None:
    """Puts the initial byte of another CBOR item somewhere."""
    if data:
        data[draw(st.integers(0, len(data) - 1))] = draw(u8)


_SPOILERS: Final[tuple[Callable[[DrawFn, bytearray], None], ...]] = (
    _flip,
    _truncate,
    _extend,
    _splice,
    _overwrite,
)


@st.composite
def spoiled(draw: DrawFn, valid: SearchStrategy[bytes]) -> bytes:
    """Valid bytes after one to three of: bit flips, truncation, extension, splices, other item types."""
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(1, 3))):
        draw(st.sampled_from(_SPOILERS))(draw, data)
    return bytes(data)
