"""A KME imports a kit: everything is checked, pads are written, and the link exists last.

A crash, a refusal or a flipped bit at any point leaves nothing but pads without a link, which are
erased at once or swept at the next try; then the same kit can be imported again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from skex.base import codes, limits
from skex.base.errors import Refused, StoreFault
from skex.base.ids import Direction, KmeName, LinkId
from skex.base.secret import Secret
from skex.enrol.chunks import KitReader, Progress, Source, unheard
from skex.enrol.collecting import Verdict
from skex.enrol.kit import BLIND_BYTES, KitHeader, PassphraseKeys, UnderPassphrase
from skex.enrol.links import NewLink, NewPads, Site
from skex.enrol.passphrase import stretch

Stretched: TypeAlias = Callable[[UnderPassphrase], Secret]
"""The stretched passphrase of a kit. Raises what asking for it, and stretching, raise."""


def from_passphrase(ask: Callable[[], Secret]) -> Stretched:
    """Ask for the passphrase and stretch it, once it is needed."""

    def stretched(protection: UnderPassphrase) -> Secret:
        passphrase = ask()
        try:
            return stretch(passphrase, protection.salt, protection.cost)
        finally:
            passphrase.wipe()

    return stretched


class Realms(Protocol):
    """The realm files of this KME: ``collecting.judge`` with what its store holds."""

    def judge(self, header: KitHeader) -> Verdict:
        """Whether the kit's realm file is acceptable. Raises ``Refused`` (realm-*)."""

    def collect(self, verdict: Verdict) -> None:
        """Make the verdict's collection durable; the link comes next."""

    def commit(self, verdict: Verdict) -> None:
        """Make the verdict's changes durable; the link exists."""


@dataclass(frozen=True, slots=True)
class ImportedKit:
    """A link that exists now. ``fingerprint`` is the kit's, 64 bytes."""

    header: KitHeader
    fingerprint: bytes
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Importer:
    """Who imports, where, and when. ``now`` is UNIX seconds.

    ``stretched`` is called only for a kit that needs a passphrase, after everything that can be refused
    without it.
    """

    kme: KmeName
    now: int
    site: Site
    realms: Realms
    stretched: Stretched

    def run(self, source: Source, *, replace: bool = False, progress: Progress = unheard) -> ImportedKit:
        """Import one kit. ``replace`` ends an enrolled link with the same hub at the same moment.

        Raises ``Refused``: kit-malformed, kit-version, kit-truncated, kit-altered, kit-other-kme,
        kit-expired, kit-passphrase, link-known, link-exists, hub-not-in-realm, realm-*; ``StoreFault``:
        kit-io, pad-io, store-*. Nothing is enrolled then.
        """
        reader = KitReader(source, progress)
        header = reader.header
        old = self._check(header, replace=replace)
        verdict = self.realms.judge(header)
        keys = self._keys(reader)
        key = reader.take(limits.LINK_KEY_BYTES, keys)
        reader.take(BLIND_BYTES, keys).wipe()
        pads = NewPads(self.site, header.link_id)
        with pads.or_none(BaseException):
            for direction in Direction:
                _make(pads, header, direction, reader.pieces(header.material_bytes(direction), keys))
            digest = reader.finish()
            self.realms.collect(verdict)
        # A fault of the store may come after it became durable: then the pads must be there.
        with pads.or_none(Refused):
            self.site.registry.add_link(NewLink.of(header, key), replacing=old)
        self.realms.commit(verdict)
        return ImportedKit(header, digest, verdict)

    def _check(self, header: KitHeader, *, replace: bool) -> LinkId | None:
        """What can be refused before the realm file is looked at; the link that is replaced."""
        if header.kme != self.kme:
            raise Refused(codes.KIT_OTHER_KME, f"it is for {header.kme}, this is {self.kme}")
        if self.now >= header.expires:
            raise Refused(codes.KIT_EXPIRED, f"{self.now - header.expires} seconds ago")
        if self.site.registry.is_known(header.link_id):
            raise Refused(codes.LINK_KNOWN)
        old = self.site.registry.enrolled_with(header.hub, header.kme)
        if old is not None and not replace:
            raise Refused(codes.LINK_EXISTS, f"{header.kme} with {header.hub}")
        return old

    def _keys(self, reader: KitReader) -> PassphraseKeys | None:
        protection = reader.header.protection
        if not isinstance(protection, UnderPassphrase):
            return None
        stretched = self.stretched(protection)
        try:
            return reader.unlock(stretched)
        finally:
            stretched.wipe()


def _make(pads: NewPads, header: KitHeader, direction: Direction, material: Iterable[bytes]) -> None:
    """Write one pad; zeros where random bytes must be are the kit's fault, not the disk's."""
    try:
        pads.make(header.kind, direction, material)
    except StoreFault as error:
        if error.code is codes.PAD_HOLE:
            raise Refused(codes.KIT_ALTERED, "its material holds zeros") from error
        raise
