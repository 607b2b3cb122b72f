"""The vector files themselves: what they say of themselves, their form, and that they are current."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from skex.base import codes
from tests.vectors.reading import FOLDER, NAMES, Case, load

ROOT = FOLDER.parents[2]
CHAPTERS = "".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.parent.glob("*.md")))
SECTIONS = set(re.findall(r"^#+ (\d+(?:\.\d+)?)[. ]", CHAPTERS, re.MULTILINE))
HEADINGS = set(re.findall(r"^### ([A-Z_]+)$", CHAPTERS, re.MULTILINE))


def every_case(name: str) -> Iterator[tuple[str, Case]]:
    """Each case of a file that has a name, with the part it stands in."""
    for part, found in load(name).items():
        group = found["cases"] if isinstance(found, dict) and "cases" in found else found
        if part not in {"comment", "expansion", "connections"} and isinstance(group, list):
            yield from ((part, case) for case in group if "spec" in case)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool that writes the files; tools are scripts, reachable only from their folder."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("vectors")


def test_the_folder_holds_these_files_and_nothing_else() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted([*NAMES, "README.md"])


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_what_it_is_and_how_its_random_values_were_made(name: str) -> None:
    contents = load(name)
    assert list(contents)[:4] == ["comment", "spec", "seed", "expansion"]
    assert contents["seed"] == load(NAMES[0])["seed"]
    assert (FOLDER / name).stat().st_size < 400 * 1024


@pytest.mark.parametrize("name", NAMES)
def test_every_case_names_a_section_that_exists_and_is_named_once(name: str) -> None:
    seen = set()
    for number, (part, case) in enumerate(every_case(name)):
        key = (part, case.get("name", number), case.get("direction"))
        assert key not in seen
        seen.add(key)
        sections = re.findall(r"\d+(?:\.\d+)?", case["spec"])
        assert sections
        assert set(sections) <= SECTIONS, key
        assert set(re.findall(r"[A-Z_]{2,}", case["spec"])) <= HEADINGS, key
    assert seen


@pytest.mark.parametrize("name", NAMES)
def test_hexadecimal_is_lower_case(name: str) -> None:
    long = [text for text in strings(load(name)) if re.fullmatch(r"[0-9A-Fa-f]{16,}", text)]
    assert long or name == "rejected.json"
    assert all(text == text.lower() for text in long)


def test_inputs_that_are_rejected_are_many_and_their_codes_exist() -> None:
    outcomes = [case["outcome"] for _, case in every_case("rejected.json")]
    assert len(outcomes) >= 120
    names = {code.name for code in codes.all_codes()}
    assert {one["error"] for one in outcomes if "error" in one} <= names
    assert all(outcomes)


def test_the_files_are_what_the_generator_makes_and_a_changed_one_is_found(
    generator: ModuleType, tmp_path: Path
) -> None:
    """The fault is a vector that was edited by hand, or code that moved on without it."""
    for name in NAMES:
        shutil.copy(FOLDER / name, tmp_path)
    assert generator.outdated(tmp_path) == []
    altered = json.loads((tmp_path / "grants.json").read_text(encoding="utf-8"))
    altered["cases"][0]["seed"] = "00" * 64
    (tmp_path / "grants.json").write_text(json.dumps(altered, indent=1), encoding="utf-8")
    (tmp_path / "stray.json").write_text("{}", encoding="utf-8")
    assert generator.outdated(tmp_path) == ["grants.json", "stray.json"]
