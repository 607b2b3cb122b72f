"""The links of one daemon: which are enrolled, which connection owns each, and their pads.

Both daemons use it. All marks of a link have one writer: an older connection is ended, and every set
of it carried out, before a newer one reads them. It must not know messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import replace

from skex.base import codes, limits
from skex.base.errors import ErrorCode, PeerFault, SkexError
from skex.base.ids import Direction, HubName, KmeName, LinkId, RealmName
from skex.enrol.links import PadSealing, pad_name
from skex.pad.derived import DerivedPad
from skex.pad.files import FileSystem
from skex.pad.kinds import Pad, PadKind
from skex.pad.table import TablePad
from skex.protocol.session import LinkProfile, Owned
from skex.runtime import entropy
from skex.runtime.connections import LinkShell
from skex.store.links import EnrolledLink, StoredLink
from skex.wire.preface import Marks, Parties


def profile_of(link: EnrolledLink) -> LinkProfile:
    """What the connection machines get of an enrolled link."""
    return LinkProfile(
        parties=Parties(link.realm, link.link_id, link.kme, link.hub),
        key=link.key,
        kind=link.kind,
        to_hub_capacity=link.capacity_to_hub,
        to_kme_capacity=link.capacity_to_kme,
    )


class Links:
    """The enrolled links, the connection of each, and how their pads are opened.

    ``read_marks`` reads a link's durable marks. ``contradiction`` hears of a pad
    file that is ahead of the store: this end's own evidence of a rollback.
    """

    def __init__(
        self,
        *,
        stored: Iterable[StoredLink],
        pads: FileSystem,
        sealing: PadSealing,
        threads: Executor,
        read_marks: Callable[[LinkId], Awaitable[Marks]],
        contradiction: Callable[[LinkId, ErrorCode], None],
    ) -> None:
        self._pads = pads
        self._sealing = sealing
        self._threads = threads
        self._read_marks = read_marks
        self._contradiction = contradiction
        self._known = {one.link.link_id: one for one in stored}
        self._shells: dict[LinkId, LinkShell] = {}
        self._open: set[LinkShell] = set()
        self._claims: dict[LinkId, asyncio.Lock] = {}
        self._claiming: dict[LinkId, LinkShell] = {}

    async def take(self, stored: Iterable[StoredLink]) -> tuple[LinkId, ...]:
        """What is enrolled now, in place of what was known; returns the links that are new.

        Links that were replaced, removed or suspended meanwhile are out of use when it returns. What is
        known here to be frozen stays so: its change may still be on its way to the store.
        """
        before, self._known = self._known, {one.link.link_id: one for one in stored}
        for link_id, one in self._known.items():
            if link_id in before:
                frozen = tuple(sorted({*one.frozen, *before[link_id].frozen}))
                self._known[link_id] = replace(one, frozen=frozen)
        for link_id in before:
            if self.usable(link_id) is None:
                await self._end(link_id)
        return tuple(link_id for link_id in self._known if link_id not in before)

    async def _end(self, link_id: LinkId) -> None:
        """End a link's connection, and wait until its pads are let go."""
        async with self._claims.setdefault(link_id, asyncio.Lock()):
            shell = self._shells.get(link_id)
            if shell is not None:
                shell.close(PeerFault(codes.LINK_REPLACED))
                await shell.finished()

    def freeze(self, hub: HubName, code: ErrorCode) -> None:
        """A link may not be used until it is enrolled again: end its connection, dial it no more."""
        for link_id, stored in self._known.items():
            if stored.link.hub == hub and self._rests(link_id, code):
                shell = self._shells.get(link_id)
                if shell is not None:
                    shell.close(PeerFault(codes.LINK_FROZEN, hub))

    @property
    def by_hub(self) -> Mapping[HubName, LinkId]:
        """At a KME: the link with each hub."""
        return {one.link.hub: one.link.link_id for one in self._known.values()}

    def _rests(self, link_id: LinkId, code: ErrorCode) -> bool:
        """Note that a link is frozen; whether that is new."""
        stored = self._known.get(link_id)
        if stored is None or code.name in stored.frozen:
            return False
        self._known[link_id] = replace(stored, frozen=(*stored.frozen, code.name))
        return True

    def __iter__(self) -> Iterator[StoredLink]:
        return iter(self._known.values())

    def usable(self, link_id: LinkId) -> StoredLink | None:
        """The link, unless it is unknown, suspended or frozen."""
        stored = self._known.get(link_id)
        return None if stored is None or stored.suspended or stored.frozen else stored

    def shell(self, link_id: LinkId) -> LinkShell | None:
        """The connection that owns a link now."""
        return self._shells.get(link_id)

    async def marks(self, link_id: LinkId) -> Marks:
        """The durable marks of a link."""
        return await self._read_marks(link_id)

    def profile(self, link_id: LinkId) -> LinkProfile:
        """The link's profile; for one that may not be used, a decoy that no proof fits."""
        stored = self.usable(link_id)
        return decoy(link_id) if stored is None else profile_of(stored.link)

    def about_to_claim(self, shell: LinkShell, link_id: LinkId) -> None:
        """A connection proved itself: the newest wins, also over those that still wait for their claim."""
        earlier = self._claiming.get(link_id)
        if earlier is not None and earlier is not shell:
            earlier.close(PeerFault(codes.LINK_REPLACED))
        self._claiming[link_id] = shell

    async def claim(self, shell: LinkShell, link_id: LinkId, epoch: int, digest: bytes) -> Owned:
        """End any older connection, open the pads, return the durable marks.

        Raises ``PeerFault``: link-unknown if the link was suspended meanwhile, connection-closed if the
        connection ended; and what pads raise.
        """
        try:
            return await self._claim(shell, link_id, epoch, digest)
        finally:
            if self._claiming.get(link_id) is shell:
                del self._claiming[link_id]

    async def _claim(self, shell: LinkShell, link_id: LinkId, epoch: int, digest: bytes) -> Owned:
        async with self._claims.setdefault(link_id, asyncio.Lock()):
            self._require_wanted(shell, link_id)
            older = self._shells.get(link_id)
            if older is not None:
                older.close(PeerFault(codes.LINK_REPLACED))
                await older.finished()
            stored = self.usable(link_id)
            if stored is None:
                raise PeerFault(codes.LINK_UNKNOWN)
            marks = await self._read_marks(link_id)
            loop = asyncio.get_running_loop()
            pads = await loop.run_in_executor(self._threads, self._open_pads, stored.link, marks)
            try:
                self._require_wanted(shell, link_id)
            except PeerFault:
                _close(pads)
                raise
            self._shells[link_id] = shell
            shell.pads = pads
            self._report(link_id, pads)
        up, down = pads[Direction.TO_HUB].mark, pads[Direction.TO_KME].mark
        return Owned(replace(marks, to_hub=up, to_kme=down), epoch, digest)

    def _require_wanted(self, shell: LinkShell, link_id: LinkId) -> None:
        """While something was awaited, the connection may have ended, or the link been suspended."""
        if shell.is_over or self.usable(link_id) is None:
            raise PeerFault(codes.CONNECTION_CLOSED, "it ended before it owned its link")

    def _open_pads(self, link: EnrolledLink, marks: Marks) -> Mapping[Direction, Pad]:
        opened: dict[Direction, Pad] = {}
        try:
            for direction, mark in ((Direction.TO_HUB, marks.to_hub), (Direction.TO_KME, marks.to_kme)):
                opened[direction] = self._open_pad(link, direction, mark)
        except BaseException:
            _close(opened)
            raise
        return opened

    def _open_pad(self, link: EnrolledLink, direction: Direction, mark: int) -> Pad:
        name = pad_name(link.link_id, direction)
        if link.kind is PadKind.TABLE:
            mask = self._sealing.table_mask(link.link_id, direction)
            return TablePad.open(self._pads, name, link.link_id, direction, mark, unmask=mask)
        sealing = self._sealing.chain_sealing(link.link_id, direction)
        return DerivedPad.open(self._pads, name, link.link_id, direction, mark, sealing=sealing)

    def _report(self, link_id: LinkId, pads: Mapping[Direction, Pad]) -> None:
        if any(pad.contradiction for pad in pads.values()):
            self._contradiction(link_id, codes.PAD_MARK_CONTRADICTS)

    def opened(self, shell: LinkShell) -> None:
        """A connection begins; ``released`` when it is over."""
        self._open.add(shell)

    @property
    def open(self) -> int:
        """How many connections there are, prefaces included."""
        return len(self._open)

    def released(self, shell: LinkShell, error: SkexError) -> LinkId | None:
        """The connection is over; returns its link if that is frozen from now on.

        What freezes it in the store is an ``error`` of its own pads: it rests here, too, until it is
        enrolled again, or it would be tried over and over.
        """
        self._open.discard(shell)
        for link_id, owner in self._shells.items():
            if owner is shell:
                del self._shells[link_id]
                break
        asked_for = shell.link_id
        if asked_for is None or error.code is not codes.PAD_JUMP or not self._rests(asked_for, error.code):
            return None
        return asked_for

    async def close(self) -> None:
        """End every connection and wait until nothing of it is being carried out."""
        shells = tuple(self._open)
        for shell in shells:
            shell.close(PeerFault(codes.CONNECTION_CLOSED, "this daemon stops"))
        for shell in shells:
            await shell.settled()


def _close(pads: Mapping[Direction, Pad]) -> None:
    for pad in pads.values():
        pad.close()


def decoy(link_id: LinkId) -> LinkProfile:
    """What an unknown link id meets: it answers like any link, and nobody knows its key."""
    return LinkProfile(
        parties=Parties(RealmName("decoy"), link_id, KmeName("decoy"), HubName("decoy")),
        key=entropy.random_secret(limits.LINK_KEY_BYTES),
        kind=PadKind.DERIVED,
        to_hub_capacity=1,
        to_kme_capacity=1,
        decoy=True,
    )
