from __future__ import annotations

import pytest

from skex.base.errors import StoreFault
from skex.base.ids import Direction, LinkId
from skex.enrol.links import pad_name, sweep
from tests.unit.enrol import kit_support as support
from tests.unit.enrol.kit_support import End


@pytest.mark.parametrize(
    ("direction", "name"),
    [(Direction.TO_HUB, "016c696e6b6964ff-to-hub.pad"), (Direction.TO_KME, "016c696e6b6964ff-to-kme.pad")],
)
def test_pads_are_named_by_link_and_direction(direction: Direction, name: str) -> None:
    assert pad_name(LinkId(b"\x01linkid\xff"), direction) == name


def test_sweep_erases_pads_without_a_link_and_nothing_else() -> None:
    end = End()
    kept = support.header_of(support.create(support.order(), end)).link_id
    lost = support.header_of(support.create(support.order(hub="hub-2"), end)).link_id
    del end.registry.links[lost]
    end.disk.create("notes.txt", 3).close()
    end.disk.create(f"{lost.hex()}-to-nowhere.pad", 3).close()
    swept = sweep(end.disk, end.pads(), end.registry.link_ids())
    assert swept == [pad_name(lost, way) for way in Direction]
    assert end.pads() == sorted(
        [*(pad_name(kept, way) for way in Direction), "notes.txt", f"{lost.hex()}-to-nowhere.pad"]
    )


def test_disk_that_cannot_erase_is_a_fault_of_the_store() -> None:
    end = End()
    support.create(support.order(), end)
    end.registry.links.clear()
    end.disk.fail_after(1)
    with pytest.raises(StoreFault, match="pad-io"):
        sweep(end.disk, end.pads(), set())
