"""The door's page names, for each decision, a test that exists, and the literals that are sent."""

from __future__ import annotations

import re
from pathlib import Path

from skex.delivery.etsi014 import answers
from skex.delivery.etsi014.identity import IdentityField

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "etsi-014.md").read_text("utf-8")
DECISIONS = PAGE.partition("## Decisions")[2]


def test_every_decision_names_a_test_that_exists() -> None:
    rows = [line for line in DECISIONS.splitlines() if line.startswith("| ")][2:]
    places = [*(ROOT / "tests" / "api").glob("*.py"), *(ROOT / "tests" / "unit" / "delivery").rglob("*.py")]
    tests = set(
        re.findall(r"^def (test_\w+)", "\n".join(one.read_text("utf-8") for one in places), re.MULTILINE)
    )
    assert len(rows) > 25
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert set(named) <= tests, row


def test_every_literal_and_every_field_is_on_the_page() -> None:
    literals = [value for name, value in vars(answers).items() if name.endswith("_MESSAGE")]
    assert len(literals) == 6
    for text in [*literals, *(field.value for field in IdentityField)]:
        assert f"`{text}`" in PAGE
