"""A hub's and a KME's side of enrolment in memory: a disk each, a registry each, chance by seed."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from hashlib import shake_256

from simulation.disk import Disk
from skex.base import codes
from skex.base.errors import Refused
from skex.base.ids import Coordinate, Direction, HubName, KmeName, LinkId, RealmName
from skex.base.secret import Secret
from skex.enrol.chunks import KitReader
from skex.enrol.collecting import CollectedKits, Verdict, judge
from skex.enrol.creating import KitOrder, MadeKit, create_kit
from skex.enrol.importing import ImportedKit, Importer, from_passphrase
from skex.enrol.kit import KitHeader
from skex.enrol.links import NewLink, Site
from skex.enrol.passphrase import Cost, parse_passphrase
from skex.pad.derived import ChainSealing, DerivedPad
from skex.pad.kinds import Pad, PadKind
from skex.pad.table import Mask, TablePad
from skex.protocol.changes import RealmAccepted
from skex.protocol.realm import HeldRealm
from skex.wire.realm import Hub, HubAttributes, HubStatus, Realm

KME = KmeName("site-a")
NOW = 1_800_000_000
CHEAP = Cost(memory_kib=8_192, passes=1, lanes=1)
PASSPHRASE = "correct horse battery staple"


def chance(seed: object) -> Entropy:
    return Entropy(repr(seed).encode())


class Entropy:
    """Bytes that look random and are the same in every run."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._drawn = 0

    def __call__(self, count: int) -> bytes:
        self._drawn += 1
        return shake_256(self._seed + self._drawn.to_bytes(8, "big")).digest(count)


def make_realm(hubs: int = 3, threshold: int = 2, *, name: str = "example", epoch: int = 1) -> Realm:
    return Realm(
        RealmName(name),
        epoch,
        threshold,
        NOW,
        31_536_000,
        604_800,
        tuple(
            Hub(
                HubName(f"hub-{number}"),
                Coordinate(number),
                HubStatus.ACTIVE,
                f"hub{number}.example.net:7300",
                HubAttributes(*["x"] * 5),
            )
            for number in range(1, hubs + 1)
        ),
    )


class Registry:
    """Links in memory; ``fail_on_add`` stands for a store that fails at the worst moment."""

    def __init__(self) -> None:
        self.links: dict[LinkId, NewLink] = {}
        self.known: set[LinkId] = set()
        self.fail_on_add: BaseException | None = None

    def is_known(self, link_id: LinkId) -> bool:
        return link_id in self.known

    def enrolled_with(self, hub: HubName, kme: KmeName) -> LinkId | None:
        return next((one.link_id for one in self.links.values() if (one.hub, one.kme) == (hub, kme)), None)

    def link_ids(self) -> Collection[LinkId]:
        return set(self.links)

    def add_link(self, link: NewLink, *, replacing: LinkId | None) -> None:
        if self.fail_on_add is not None:
            raise self.fail_on_add
        if link.link_id in self.known:
            raise Refused(codes.LINK_KNOWN)
        if replacing is not None:
            del self.links[replacing]
        self.links[link.link_id] = link
        self.known.add(link.link_id)


class Plain:
    """Pads that are not sealed at rest, so that tests see their bytes."""

    def chain_sealing(self, link_id: LinkId, direction: Direction) -> ChainSealing:
        return ChainSealing()

    def table_mask(self, link_id: LinkId, direction: Direction) -> Mask:
        return lambda _offset, data: data


class KitRealms:
    """What a KME's store does about realm files."""

    def __init__(self, registry: Registry, floor: int = 2) -> None:
        self.registry = registry
        self.floor = floor
        self.held: HeldRealm | None = None
        self.collected: CollectedKits | None = None

    def judge(self, header: KitHeader) -> Verdict:
        return judge(
            header.hub,
            header.link_id,
            header.realm,
            floor=self.floor,
            held=self.held,
            collected=self.collected,
            enrolled=self.registry.link_ids(),
        )

    def collect(self, verdict: Verdict) -> None:
        self.collected = verdict.collection or self.collected

    def commit(self, verdict: Verdict) -> None:
        for change in verdict.changes:
            assert isinstance(change, RealmAccepted)
            self.held = HeldRealm(change.data, 0.0)
        self.collected = verdict.collection


@dataclass
class End:
    """One home."""

    disk: Disk = field(default_factory=lambda: Disk(0))
    registry: Registry = field(default_factory=Registry)

    @property
    def site(self) -> Site:
        return Site(self.registry, self.disk, Plain())

    def open_pad(self, kind: PadKind, link_id: LinkId, direction: Direction) -> Pad:
        name = f"{link_id.hex()}-{'to-hub' if direction is Direction.TO_HUB else 'to-kme'}.pad"
        if kind is PadKind.TABLE:
            return TablePad.open(self.disk, name, link_id, direction, 0)
        return DerivedPad.open(self.disk, name, link_id, direction, 0)

    def first_bytes(self, kind: PadKind, link_id: LinkId, direction: Direction) -> bytes:
        """What the first grant of a pad begins with."""
        pad = self.open_pad(kind, link_id, direction)
        prepared = pad.prepare(0, 1, bytes(32), bytes(32))
        material = pad.finish(prepared)
        drawn = material.r + material.take(16, 1024)
        pad.close()
        return drawn

    def pads(self) -> list[str]:
        """The pad files that a running program sees."""
        return sorted(self.disk._machine.entries)


def order(
    *,
    kind: PadKind = PadKind.DERIVED,
    passphrase: str | None = None,
    units: tuple[int, int] = (40, 20),
    hub: str = "hub-1",
    kme: str = KME,
    realm: Realm | None = None,
    valid: int = 86_400,
) -> KitOrder:
    is_table = kind is PadKind.TABLE
    return KitOrder(
        realm=make_realm() if realm is None else realm,
        hub=HubName(hub),
        kme=KmeName(kme),
        kind=kind,
        created=NOW,
        valid_seconds=valid,
        units_to_hub=units[0] if is_table else 0,
        units_to_kme=units[1] if is_table else 0,
        passphrase=None if passphrase is None else parse_passphrase(passphrase),
        cost=CHEAP,
    )


def create(what: KitOrder, end: End | None = None, *, seed: object = 0, replace: bool = False) -> bytes:
    """A kit's bytes."""
    return created(what, end, seed=seed, replace=replace)[0]


def created(
    what: KitOrder, end: End | None = None, *, seed: object = 0, replace: bool = False
) -> tuple[bytes, MadeKit]:
    sink = io.BytesIO()
    made = create_kit(
        what,
        sink,
        (end or End()).site,
        chance((seed, what.hub)),
        durable=lambda: None,
        replace=replace,
    )
    return sink.getvalue(), made


def import_kit(
    data: bytes,
    end: End,
    *,
    kme: str = KME,
    now: int = NOW,
    passphrase: str = PASSPHRASE,
    realms: KitRealms | None = None,
    replace: bool = False,
) -> ImportedKit:
    importer = Importer(
        KmeName(kme),
        now,
        end.site,
        KitRealms(end.registry) if realms is None else realms,
        from_passphrase(lambda: parse_passphrase(passphrase)),
    )
    return importer.run(io.BytesIO(data), replace=replace)


def header_of(data: bytes) -> KitHeader:
    return KitReader(io.BytesIO(data)).header


def with_header(data: bytes, **changes: object) -> KitHeader:
    return replace(header_of(data), **changes)  # type: ignore[arg-type]  # whatever a test changes


def no_secret() -> Secret:
    raise AssertionError("no passphrase may be asked for")
