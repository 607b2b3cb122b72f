"""A hub makes a kit: fresh material goes into the kit and into the hub's own pads in one pass.

The order is the point: pads, then the whole kit on its medium, then the link. A crash leaves the kit
of a link that does not exist, which opens nothing, or pads without a link, which are swept. Only when
the link is there may the kit be handed over.

Beside a hub that runs, the kit is written first, by whoever makes it, and then taken in by the hub
(``importing``): the link comes last there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from skex.base import codes, limits
from skex.base.errors import LocalBug, Refused
from skex.base.ids import Direction, HubName, KmeName, LinkId
from skex.base.secret import Secret
from skex.crypto import kdf
from skex.enrol.chunks import CHUNK, KitWriter, Progress, Sink, translated, unheard
from skex.enrol.kit import BLIND_BYTES, KIT_ID_BYTES, InClear, KitHeader, UnderPassphrase
from skex.enrol.links import Entropy, NewLink, NewPads, Site
from skex.enrol.passphrase import DEFAULT_COST, SALT_BYTES, Cost, stretch
from skex.pad.kinds import PadKind
from skex.wire.realm import Realm

VALID_SECONDS: Final = 2_592_000
"""A kit is valid for 30 days unless its maker says otherwise: time enough for a visit."""


@dataclass(frozen=True, slots=True)
class KitOrder:
    """What kit is wanted. Units are of 4096 bytes, for table pads; times are UNIX seconds.

    ``passphrase`` None makes a kit in clear.
    """

    realm: Realm
    hub: HubName
    kme: KmeName
    kind: PadKind
    created: int
    valid_seconds: int = VALID_SECONDS
    units_to_hub: int = 0
    units_to_kme: int = 0
    passphrase: Secret | None = None
    cost: Cost = DEFAULT_COST


@dataclass(frozen=True, slots=True)
class MadeKit:
    """A kit that may be handed over, and its fingerprint (64 bytes)."""

    header: KitHeader
    fingerprint: bytes


def create_kit(
    order: KitOrder,
    sink: Sink,
    site: Site,
    entropy: Entropy,
    *,
    durable: Callable[[], None],
    replace: bool = False,
    progress: Progress = unheard,
) -> MadeKit:
    """Write a kit and enrol the link at the hub; ``durable`` syncs the kit before the link exists (an
    ``OSError`` of it becomes kit-io).

    ``replace`` ends an enrolled link with the same KME at the same moment. Progress counts content
    bytes. After any error nothing is enrolled, and what was written is no kit of a link.

    Raises ``Refused``: link-exists, hub-not-in-realm, kit-malformed (times); ``StoreFault``: kit-io,
    pad-io, store-*; ``LocalBug`` for units that do not fit the kind.
    """
    old = site.registry.enrolled_with(order.hub, order.kme)
    if old is not None and not replace:
        raise Refused(codes.LINK_EXISTS, f"{order.kme} with {order.hub}")
    header = _header(order, entropy, site.registry.is_known)
    writer, key = _begun(header, _stretched(order, header), sink, entropy, progress)
    pads = NewPads(site, header.link_id)
    with pads.or_none(BaseException):
        for direction in Direction:
            material = _material(header.material_bytes(direction), entropy, writer)
            pads.make(header.kind, direction, material)
        digest = writer.finish()
        with translated():
            durable()
    # A fault of the store may come after it became durable: then the pads must be there.
    with pads.or_none(Refused):
        site.registry.add_link(NewLink.of(header, key), replacing=old)
    return MadeKit(header, digest)


@dataclass(frozen=True, slots=True)
class WrittenKit:
    """A kit of a link that its hub still has to take in; ``stretched`` is its passphrase for that."""

    made: MadeKit
    stretched: Secret | None


def write_kit(
    order: KitOrder,
    sink: Sink,
    entropy: Entropy,
    *,
    durable: Callable[[], None],
    progress: Progress = unheard,
) -> WrittenKit:
    """Write a kit of fresh material, durably, and enrol nothing.

    Raises as ``create_kit`` does before there are pads; that its link id is new is the hub's to check.
    """
    header = _header(order, entropy, lambda _: False)
    stretched = _stretched(order, header)
    writer, key = _begun(header, stretched, sink, entropy, progress)
    key.wipe()
    for direction in Direction:
        for _ in _material(header.material_bytes(direction), entropy, writer):
            pass
    digest = writer.finish()
    with translated():
        durable()
    return WrittenKit(MadeKit(header, digest), stretched)


def _begun(
    header: KitHeader, stretched: Secret | None, sink: Sink, entropy: Entropy, progress: Progress
) -> tuple[KitWriter, Secret]:
    """A kit up to its material, and the static link key in it."""
    writer = KitWriter(sink, header, stretched, progress)
    key = Secret(entropy(limits.LINK_KEY_BYTES))
    writer.write(key.expose())
    writer.write(entropy(BLIND_BYTES))
    return writer, key


def _material(count: int, entropy: Entropy, writer: KitWriter) -> Iterator[bytes]:
    """Fresh bytes, each piece written to the kit before the hub's pad gets it."""
    while count:
        piece = entropy(min(count, CHUNK))
        writer.write(piece)
        yield piece
        count -= len(piece)


def _header(order: KitOrder, entropy: Entropy, is_known: Callable[[LinkId], bool]) -> KitHeader:
    is_table = order.kind is PadKind.TABLE
    units = (order.units_to_hub, order.units_to_kme)
    if any(not 1 <= count <= limits.PAD_POSITION_MAX if is_table else count for count in units):
        raise LocalBug(codes.BAD_ARGUMENT, f"{units} units of a {order.kind.name.lower()} pad")
    to_hub, to_kme = units if is_table else (limits.PAD_POSITION_MAX, limits.PAD_POSITION_MAX)
    link_id = LinkId(entropy(kdf.LINK_ID_BYTES))
    while is_known(link_id):
        link_id = LinkId(entropy(kdf.LINK_ID_BYTES))
    return KitHeader(
        kit_id=entropy(KIT_ID_BYTES),
        realm=order.realm.to_bytes(),
        hub=order.hub,
        kme=order.kme,
        link_id=link_id,
        kind=order.kind,
        capacity_to_hub=to_hub,
        capacity_to_kme=to_kme,
        created=order.created,
        expires=order.created + order.valid_seconds,
        protection=(
            InClear() if order.passphrase is None else UnderPassphrase(entropy(SALT_BYTES), order.cost)
        ),
    )


def _stretched(order: KitOrder, header: KitHeader) -> Secret | None:
    if order.passphrase is None or not isinstance(header.protection, UnderPassphrase):
        return None
    return stretch(order.passphrase, header.protection.salt, header.protection.cost)
