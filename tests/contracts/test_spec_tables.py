"""The specification says what the code does: generated parts, diagrams and links are current.

The tables of limits, refusals, message types and frame lengths, and every worked example, stand in
generated parts; what is written by hand beside them is compared here one by one.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from skex.base import codes, limits
from skex.wire import messages, peer, preface

ROOT = Path(__file__).resolve().parents[2]
SPECIFICATION = ROOT / "docs" / "spec"
CHAPTERS = sorted(SPECIFICATION.glob("*.md"))
PART = re.compile(r"<!-- generated: ([a-z0-9-]+) -->\n(.*?)<!-- end -->\n", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([a-z]+(?:-[a-z]+)+)`")


@pytest.fixture
def specification(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool that writes the generated parts; tools are scripts, reachable only from their folder."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("specification")


def run(tool: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of the tree in its checking mode."""
    return subprocess.run(
        [sys.executable, ROOT / "tools" / tool, "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def anchors(path: Path) -> set[str]:
    """The anchors of a chapter's headings, as common renderers make them."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(chapter: str, heading: str) -> str:
    """The text from a heading to the next of any level."""
    text = (SPECIFICATION / chapter).read_text(encoding="utf-8")
    return text.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]


@pytest.mark.parametrize("tool", ["specification.py", "diagrams.py"])
def test_generated_parts_of_the_specification_are_current(tool: str) -> None:
    result = run(tool)
    assert result.returncode == 0, f"{result.stdout}{result.stderr}run: python tools/{tool}"


def test_a_changed_constant_in_the_text_is_found(specification: ModuleType) -> None:
    """The fault is a table that was edited by hand, or code that moved on without it."""
    text = (SPECIFICATION / "12-errors-and-limits.md").read_text(encoding="utf-8")
    altered = text.replace(f"| `RECORD_BYTES` | {limits.RECORD_BYTES} |", "| `RECORD_BYTES` | 65537 |")
    assert altered != text
    assert specification.regenerate(altered) == text


def test_every_generated_part_stands_in_exactly_one_chapter(specification: ModuleType) -> None:
    names = [name for path in CHAPTERS for name, _ in PART.findall(path.read_text(encoding="utf-8"))]
    assert sorted(names) == sorted(specification.PARTS)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_links_between_chapters_lead_somewhere(path: Path) -> None:
    broken = []
    text = re.sub(r"`[^`\n]*`", "", path.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        name, _, anchor = target.partition("#")
        file = SPECIFICATION / name if name else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_error_codes_named_in_the_text_exist(path: Path) -> None:
    known = {code.name for code in codes.all_codes()}
    areas = {name.split("-")[0] for name in known}
    named = {name for name in CODE.findall(path.read_text(encoding="utf-8")) if name.split("-")[0] in areas}
    assert named <= known


@pytest.mark.parametrize("number", range(1, 6))
def test_frame_tables_have_the_lengths_of_the_code(number: int) -> None:
    text = (SPECIFICATION / "03-preface.md").read_text(encoding="utf-8")
    chapter = re.split(r"^## 3\.\d+ ", text, flags=re.MULTILINE)[number + 1]
    rows = [tuple(map(int, row)) for row in re.findall(r"^\| (\d+) \| (\d+) \| ", chapter, re.MULTILINE)]
    ends = [0, *(offset + size for offset, size in rows)]
    assert [offset for offset, _ in rows] == ends[:-1]
    assert ends[-1] == preface.frame_bytes(number)
    assert f"| length | {preface.frame_bytes(number) - preface.FRAME_HEADER_BYTES} |" in chapter
    assert f"| number | {number} |" in chapter


@pytest.mark.parametrize(
    ("chapter", "kind"),
    [
        *(("06-encoding-and-messages.md", kind) for kind in messages._KINDS.values()),
        *(("08-peer-messages.md", kind) for kind in peer._KINDS.values()),
    ],
)
def test_each_message_section_starts_with_its_type(chapter: str, kind: dict[int, object]) -> None:
    for number, read in kind.items():
        owner = getattr(read, "__self__").__name__  # noqa: B009  # of a bound class method
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", owner).upper()
        assert re.match(rf"\n`\[{number}[,\]]", section(chapter, f"### {name}")), name


def test_numbers_in_the_prose_are_those_of_the_code() -> None:
    """Bounds that chapters repeat in their text, each with the sentence that it stands in."""
    expected = {
        "03-preface.md": [f"longer than {limits.FRAME_BYTES} bytes"],
        "04-pads-and-grants.md": [
            f"units of {limits.TABLE_UNIT_BYTES} bytes",
            f"at most {limits.TABLE_GRANT_UNITS_MAX}",
            f"keystream under grant key_i, {limits.DERIVED_GRANT_BYTES:,} bytes",
            f"more than {limits.DERIVED_JUMP_STEPS:,} steps",
            f"no later than {limits.DERIVED_GRANT_SECONDS} seconds",
            f"16 + wanted bytes + {limits.GRANT_TAIL_BYTES}",
            f"{limits.TABLE_GRANT_UNITS_MIN}), {limits.TABLE_GRANT_UNITS_MAX}, capacity",
            f"at most {limits.PAD_POSITION_MAX:,}",
        ],
        "05-records.md": [
            f"1 to {limits.BODY_BYTES:,}",
            f"at most {limits.RECORD_BYTES:,} bytes",
            f"16 + length + {limits.GRANT_TAIL_BYTES}",
            f"less than {limits.GRANT_EXHAUSTED_BYTES} bytes",
            f"one record: {limits.RECORD_BYTES + limits.RECORD_TAG_BYTES:,} bytes",
        ],
        "06-encoding-and-messages.md": [
            f"1 to {limits.PEER_ENVELOPE_BYTES:,} bytes",
            f"1 to {limits.REALM_FILE_BYTES:,} bytes",
            f"({limits.ANSWERABLE_REQUESTS} are RECOMMENDED)",
            f"1 to {limits.LIFETIME_SECONDS_MAX:,}",
            f"threshold) ≤ {limits.SUBSETS}",
            f"≤ {limits.BATCH_SECRET_BYTES:,}",
            f"1 to {limits.BATCH_KEYS}",
            f"{limits.KEY_BYTES_MIN} to {limits.KEY_BYTES_MAX}",
            f"1 to {limits.REALM_HUBS}",
            f"1 to {limits.NAME_CHARACTERS} characters",
        ],
        "07-establishment.md": [
            f"at most {limits.BATCH_SECRET_BYTES:,}",
            f"{limits.ESTABLISH_SECONDS} seconds after it was made",
            f"{limits.GROUP_SECONDS} seconds after the first share",
            f"{limits.CONTROL_FLOOR_BYTES:,} bytes are RECOMMENDED",
            f"floor of {limits.PEER_FLOOR_BYTES:,} bytes",
            f"{limits.RELAY_SECONDS} seconds and {limits.RELAYED_BATCHES:,} batches",
            f"at most {limits.CONFIRM_RELAYS} times",
            f"({limits.LIFETIME_MARGIN_SECONDS} seconds are RECOMMENDED)",
            f"some seconds after it accepted ({limits.LATE_SHARE_SECONDS} are",
            f"doubling up to {limits.CONFIRM_RESEND_SECONDS_MAX}",
            f"({limits.ANSWER_AGAIN_SECONDS} seconds)",
            f"({limits.ANSWERS_PER_HUB} are RECOMMENDED)",
        ],
        "08-peer-messages.md": [
            f"at most {limits.PEER_MESSAGE_BYTES:,} bytes",
            f"1 to {limits.PEER_RANGES} elements",
            f"slaves 1 to {limits.SLAVES}",
            f"1 to {limits.PURPOSE_CHARACTERS} characters",
            f"({limits.PEER_QUEUE} messages per peer",
            f"the newest {limits.REVOCATIONS_REMEMBERED} of",
        ],
        "09-assignment-and-incarnations.md": [
            f"; {limits.ASSIGN_HOLD_SECONDS} are",
            f"({limits.ASSIGN_HOLD_MARGIN_SECONDS} seconds are RECOMMENDED)",
            f"({limits.ASSIGN_SECONDS} are RECOMMENDED)",
            f"({limits.WITNESS_SECONDS} seconds are RECOMMENDED)",
        ],
        "10-realm-files-and-epochs.md": [f"at most {limits.REALM_FILE_BYTES:,} bytes"],
    }
    missing = []
    for chapter, phrases in expected.items():
        text = " ".join((SPECIFICATION / chapter).read_text(encoding="utf-8").split())
        missing += [f"{chapter}: {phrase}" for phrase in phrases if phrase not in text]
    assert missing == []
