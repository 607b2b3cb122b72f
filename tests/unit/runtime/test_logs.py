from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from skex.base import codes
from skex.base.errors import Refused
from skex.runtime import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_records_are_json_lines_with_the_code_of_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    log = logging.getLogger("skex.test")
    log.debug("unheard")
    log.info("link up", extra={"hub": "hub-1"})
    log.error("refused", exc_info=Refused(codes.LINK_DOWN, "x"))
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["source"], first["message"], first["hub"]) == (
        "INFO",
        "skex.test",
        "link up",
        "hub-1",
    )
    assert first["time"].endswith("+0000") or first["time"][-5] in "+-"
    assert second["code"] == "link-down"
