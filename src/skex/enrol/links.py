"""What enrolment makes of a kit at either end, and the ports through which it gets there."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from skex.base.ids import Direction, HubName, KmeName, LinkId, RealmName
from skex.base.secret import Secret
from skex.enrol.kit import KitHeader
from skex.pad.derived import ChainSealing, DerivedPad
from skex.pad.erasing import destroy
from skex.pad.files import FileSystem, translated
from skex.pad.kinds import PadKind
from skex.pad.table import Mask, TablePad
from skex.wire.claim import Enrolment

Entropy: TypeAlias = Callable[[int], bytes]
"""The port to the operating system's generator: so many fresh bytes."""

_PAD_FILE: Final = re.compile(r"([0-9a-f]{16})-to-(?:hub|kme)\.pad")


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link with everything that its end keeps of it besides the pads. ``created`` is UNIX seconds."""

    link_id: LinkId
    realm: RealmName
    hub: HubName
    kme: KmeName
    kind: PadKind
    key: Secret
    capacity_to_hub: int
    capacity_to_kme: int
    enrolment: Enrolment
    created: int

    @classmethod
    def of(cls, header: KitHeader, key: Secret) -> NewLink:
        """The link that a kit with this header and static key makes."""
        return cls(
            link_id=header.link_id,
            realm=header.parsed_realm.name,
            hub=header.hub,
            kme=header.kme,
            kind=header.kind,
            key=key,
            capacity_to_hub=header.capacity_to_hub,
            capacity_to_kme=header.capacity_to_kme,
            enrolment=header.enrolment,
            created=header.created,
        )


class Registry(Protocol):
    """The links that one end knows. Durable; the caller holds the home's lock."""

    def is_known(self, link_id: LinkId) -> bool:
        """Whether a link of this id was ever enrolled here, also if it was removed since."""

    def enrolled_with(self, hub: HubName, kme: KmeName) -> LinkId | None:
        """The enrolled link between these two."""

    def link_ids(self) -> Collection[LinkId]:
        """Every enrolled link."""

    def add_link(self, link: NewLink, *, replacing: LinkId | None) -> None:
        """Enrol the link; from now on it exists. Raises ``Refused``: link-known, link-exists."""


class PadSealing(Protocol):
    """How pads are sealed at rest."""

    def chain_sealing(self, link_id: LinkId, direction: Direction) -> ChainSealing:
        """For a derived pad's states."""

    def table_mask(self, link_id: LinkId, direction: Direction) -> Mask:
        """For a table pad's data."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a link is made: the registry of links, the directory of pads, and how these are sealed."""

    registry: Registry
    files: FileSystem
    sealing: PadSealing


def pad_name(link_id: LinkId, direction: Direction) -> str:
    """The name of a pad's file within the home's directory of pads."""
    return f"{link_id.hex()}-{direction.name.lower().replace('_', '-')}.pad"


@dataclass(slots=True)
class NewPads:
    """The pads of one new link: all of them, or after any error none."""

    site: Site
    link_id: LinkId
    _made: list[str] = field(default_factory=list)

    def make(self, kind: PadKind, direction: Direction, material: Iterable[bytes]) -> None:
        """Write one direction's pad from pieces of its material. Raises as the pads' ``create`` do."""
        name = pad_name(self.link_id, direction)
        if kind is PadKind.TABLE:
            mask = self.site.sealing.table_mask(self.link_id, direction)
            TablePad.create(self.site.files, name, self.link_id, direction, material, mask=mask)
        else:
            seed = Secret(b"".join(material))
            sealing = self.site.sealing.chain_sealing(self.link_id, direction)
            DerivedPad.create(self.site.files, name, self.link_id, direction, seed, sealing=sealing)
            seed.wipe()
        self._made.append(name)

    @contextmanager
    def or_none(self, errors: type[BaseException]) -> Iterator[None]:
        """Erase every pad that was made if what is done meanwhile ends in one of ``errors``."""
        try:
            yield
        except errors:
            for name in self._made:
                destroy(self.site.files, name)
            raise


def sweep(files: FileSystem, names: Iterable[str], enrolled: Collection[LinkId]) -> list[str]:
    """Erase pads whose link is not enrolled: what an enrolment left that a crash cut off.

    ``names`` are the files in the directory of pads; those that are no pads are left alone. Returns
    what was erased. Raises ``StoreFault`` (pad-io).
    """
    swept = []
    for name in sorted(names):
        match = _PAD_FILE.fullmatch(name)
        if match and bytes.fromhex(match[1]) not in enrolled:
            with translated():
                destroy(files, name)
            swept.append(name)
    return swept
