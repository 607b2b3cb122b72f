"""Older images of machines' disks: taken while they run, put back later, or run as a second machine.

What a store owes after a restore is what it owed when the image was taken, so the model of the store
goes back with it. Pads and store lie on two disks: each can be put back without the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from simulation.disk import DiskImage
from simulation.memory import HubMemory, KmeMemory
from skex.base.ids import LinkId
from skex.protocol.changes import Role
from skex.wire.preface import Marks

if TYPE_CHECKING:  # machines hold what is copied here
    from simulation.machines import Machine


class Part(Enum):
    """What of an image is put back."""

    WHOLE = "store and pads"
    STORE = "the store without the pads"
    PADS = "the pads without the store"


@dataclass(frozen=True, slots=True)
class MachineImage:
    """Both disks as programs saw them, and how much the store owed then."""

    pads: DiskImage
    store: DiskImage
    log: int
    marks: dict[LinkId, Marks]
    taken_by_slaves: int
    seen: tuple[float, float]


def take(machine: Machine) -> MachineImage:
    """Copy the disks of a running machine between two of its effects."""
    memory = machine.home.memory
    return MachineImage(
        pads=machine.disk.copy(),
        store=machine.store_disk.copy(),
        log=len(memory.log),
        marks=dict(memory.links.marks),
        taken_by_slaves=taken_by_slaves(memory),
        seen=machine.clock.seen,
    )


def put_back(image: MachineImage, machine: Machine, part: Part = Part.WHOLE) -> None:
    """Put an image, or a part of it, in the place of a stopped machine's disks."""
    if part is not Part.STORE:
        machine.disk.restore(image.pads)
    if part is not Part.PADS:
        machine.store_disk.restore(image.store)
        machine.home.roll_back(image.log)
        machine.clock.look_back(image.seen)


def taken_by_slaves(memory: KmeMemory | HubMemory) -> int:
    """How many deliveries to slaves a store knows of."""
    if isinstance(memory, HubMemory):
        return 0
    return sum(1 for one in memory.delivered if one.role is Role.RECEIVER)
