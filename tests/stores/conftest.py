"""The stores that the contract is tested with; a later store joins by a line here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.support import FileSubject, KmeSubject, SimulatedSubject


@pytest.fixture(params=["file", "first_schema", "in_memory", "simulated"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KmeSubject]:
    """Each kind of KME store, empty, with three enrolled links."""
    made: KmeSubject
    if request.param == "simulated":
        made = SimulatedSubject()
    else:
        made = FileSubject(
            None if request.param == "in_memory" else tmp_path, first_schema=request.param == "first_schema"
        )
    yield made
    made.close()


@pytest.fixture
def file_subject(tmp_path: Path) -> Iterator[FileSubject]:
    """The production store in a file."""
    made = FileSubject(tmp_path)
    yield made
    made.close()
