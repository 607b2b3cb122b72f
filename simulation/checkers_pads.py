"""Pads: used once, marked before use, and gone from the medium before use.

What must be gone is computed from what was enrolled, without the code under test. Table pads of a
world are written unmasked; whatever a pad's file holds there, an erased unit is zeros.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from simulation.disk import Disk
from simulation.ledger import PadLedger
from simulation.machines import Enrolled, LinkEnd, Machine, machine_of, pad_path
from simulation.rules import Checker
from skex.base import limits
from skex.base.errors import SkexError
from skex.base.ids import Direction, LinkId
from skex.pad import derived, table
from skex.pad.kinds import PadKind
from skex.pad.layout import HEADER_BYTES, Identity
from skex.pad.material import GrantMaterial
from skex.protocol.changes import Change, MarkRaised
from skex.protocol.session import Session, TakeGrant

_UNIT = limits.TABLE_UNIT_BYTES
_BLOCK = 16
_SECTOR = 512


class SealedOnce(Checker):
    """Over every machine's whole history, restores and clones included."""

    name = "sealed-once"
    rule = "5.1: no pad byte is sealed into two records, whoever crashed, was restored or cloned"

    def __init__(self) -> None:
        self.ledger = PadLedger()

    def taken(self, end: LinkEnd, take: TakeGrant, material: GrantMaterial) -> None:
        """Equal bytes in two grants are a reuse before the first record."""
        kind = machine_of(end).links[take.link_id].kind
        self.ledger.granted(kind, take.link_id, material, take.kme_nonce + take.hub_nonce)

    def sealed(self, end: LinkEnd, session: Session, record: bytes) -> None:
        """A record counts once it is sealed."""
        del end
        self.ledger.sealed(session.profile.kind, record, session.kme_nonce + session.hub_nonce)


@dataclass(frozen=True, slots=True)
class _Medium:
    """What is durable of one file, to be read by the code that reads pads' headers."""

    disk: Disk
    path: str

    def read(self, offset: int, length: int) -> bytes:
        return self.disk.medium(self.path, offset, length)

    def write(self, offset: int, data: bytes) -> None:
        raise NotImplementedError(f"{len(data)} bytes at {offset}")

    def punch(self, offset: int, length: int) -> None:
        raise NotImplementedError(f"{length} bytes at {offset}")

    def sync(self) -> None:
        raise NotImplementedError

    def size(self) -> int:
        return len(self.disk.durable(self.path))

    def close(self) -> None:
        raise NotImplementedError


class MarkedFirst(Checker):
    """Both of an end's marks stand behind a grant, durably, when its bytes come out."""

    name = "marked-first"
    rule = "3, Grants: the store's mark and the file's own are durable before a grant is announced or used"

    def __init__(self) -> None:
        self._marks: dict[tuple[Machine, LinkId, Direction], int] = {}

    def committed(self, machine: Machine, changes: Iterable[Change]) -> None:
        """Remember the store's marks."""
        for change in changes:
            if isinstance(change, MarkRaised):
                self._marks[machine, change.link_id, change.direction] = change.mark

    def restored(self, machine: Machine) -> None:
        """What was committed before is gone."""
        self._marks = {key: mark for key, mark in self._marks.items() if key[0] is not machine}

    def taken(self, end: LinkEnd, take: TakeGrant, material: GrantMaterial) -> None:
        """Compare both marks with the grant's end."""
        machine = machine_of(end)
        behind = material.start + material.count
        where = f"{machine.name}, {take.direction.name}, grant {material.start}"
        if self._marks.get((machine, take.link_id, take.direction), 0) < behind:
            self.broken(f"{where}: taken before the store's mark was durable")
        if self._own_mark(machine, take) < behind:
            self.broken(f"{where}: taken before the file's own mark was durable")

    @staticmethod
    def _own_mark(machine: Machine, take: TakeGrant) -> int:
        link = machine.links[take.link_id]
        capacity = link.profile(machine.realm.name).capacity(take.direction)
        identity = Identity(link.kind, take.link_id, take.direction, capacity)
        read = table.own_mark if link.kind is PadKind.TABLE else derived.own_mark
        try:
            return read(_Medium(machine.disk, pad_path(take.link_id, take.direction)), identity)
        except SkexError:
            return 0


def _as_written(machine: Machine, path: str, offset: int, length: int) -> bytes:
    """A part of the medium. A byte of zeros in which exactly the bits are set that flipped is zero."""
    data = machine.disk.medium(path, offset, length)
    flipped = machine.rotten.get(path)
    if not flipped:
        return data
    healed = bytearray(data)
    for place, mask in flipped.items():
        if offset <= place < offset + length and healed[place - offset] == mask:
            healed[place - offset] = 0
    return bytes(healed)


class ErasedFirst(Checker):
    """Looks at the grant's own place when it is taken, at whole disks now and then."""

    name = "erased-first"
    rule = "5.1 and 3, Grants: a grant's material is gone from the medium before its first use"

    def __init__(self) -> None:
        self._chains: dict[tuple[LinkId, Direction], list[bytes]] = {}
        self._taken: dict[tuple[Machine, LinkId, Direction], int] = {}
        self._scanned: dict[Machine, int] = {}

    def restored(self, machine: Machine) -> None:
        """What was erased may be there again, and what was freed is not."""
        self._taken = {key: mark for key, mark in self._taken.items() if key[0] is not machine}
        self._scanned.pop(machine, None)

    def taken(self, end: LinkEnd, take: TakeGrant, material: GrantMaterial) -> None:
        """Nothing of this grant may be left where it lay."""
        machine = machine_of(end)
        link = machine.links[take.link_id]
        self._taken[machine, take.link_id, take.direction] = material.start + material.count
        path = pad_path(take.link_id, take.direction)
        where = f"{machine.name}, {take.direction.name}, grant {material.start}"
        if link.kind is PadKind.TABLE:
            place = (HEADER_BYTES + material.start * _UNIT, material.count * _UNIT)
            if any(_as_written(machine, path, *place)):
                self.broken(f"{where}: its units are still on the medium")
        elif self._chain_key(link, take.direction, material.start) in machine.disk.durable(path):
            self.broken(f"{where}: its chain key is still on the medium")

    def scan(self, machines: Iterable[Machine]) -> None:
        """Everything below what was taken: in the pads' files and in freed blocks."""
        for machine in machines:
            spent: set[bytes] = set()
            for link in machine.links.values():
                for direction in Direction:
                    mark = self._taken.get((machine, link.link_id, direction), 0)
                    self._scan_file(machine, link, direction, mark)
                    spent.update(self._spent(link, direction, mark))
            self._scan_residue(machine, spent)

    def _scan_file(self, machine: Machine, link: Enrolled, direction: Direction, mark: int) -> None:
        path = pad_path(link.link_id, direction)
        if link.kind is PadKind.TABLE:
            left = any(_as_written(machine, path, HEADER_BYTES, mark * _UNIT))
        else:
            data = machine.disk.durable(path)
            left = any(self._chain_key(link, direction, index) in data for index in range(mark))
        if left:
            self.broken(f"{machine.name}, {direction.name}: material below {mark} is on the medium")

    def _spent(self, link: Enrolled, direction: Direction, mark: int) -> Iterator[bytes]:
        """The first block of each sector of material below the mark."""
        if link.kind is PadKind.TABLE:
            data = link.material[direction]
            yield from (data[at : at + _BLOCK] for at in range(0, mark * _UNIT, _SECTOR))
        else:
            yield from (self._chain_key(link, direction, index)[:_BLOCK] for index in range(mark))

    def _scan_residue(self, machine: Machine, spent: set[bytes]) -> None:
        """Freed blocks that were freed since the last scan; sectors of table pads lie at block borders."""
        residue = machine.disk.residue
        first = min(self._scanned.get(machine, 0), len(residue))
        self._scanned[machine] = len(residue)
        for piece in residue[first:]:
            for at in range(0, len(piece), _BLOCK):
                if piece[at : at + _BLOCK] in spent:
                    self.broken(f"{machine.name}: used material lies in a freed block")

    def _chain_key(self, link: Enrolled, direction: Direction, index: int) -> bytes:
        """K_index from the seed: HKDF-Expand to one block is one HMAC."""
        chain = self._chains.setdefault((link.link_id, direction), [link.material[direction]])
        while len(chain) <= index:
            chain.append(hmac.digest(chain[-1], b"skex1 next\x01", hashlib.sha512))
        return chain[index]
