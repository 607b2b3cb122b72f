"""What the tests of pads share."""

from __future__ import annotations

import pytest

from simulation.disk import Disk
from simulation.pads import PadEnd
from skex.pad.kinds import Pad, PadKind


@pytest.fixture
def disk() -> Disk:
    return Disk(seed=1)


@pytest.fixture(params=list(PadKind), ids=lambda kind: kind.name.lower())
def end(request: pytest.FixtureRequest) -> PadEnd:
    """An enrolled pad of each kind."""
    return _enrolled(request.param)


@pytest.fixture
def pad(end: PadEnd) -> Pad:
    return end.open()


@pytest.fixture
def table() -> PadEnd:
    return _enrolled(PadKind.TABLE)


@pytest.fixture
def derived() -> PadEnd:
    return _enrolled(PadKind.DERIVED)


def _enrolled(kind: PadKind) -> PadEnd:
    end = PadEnd(kind, seed=1)
    end.create()
    return end
