"""The manual says what the commands and the configuration do: its generated parts are current."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import click
import pytest

from skex.base import codes
from skex.base.errors import ErrorCode
from skex.cli import NOUNS, skex_command
from skex.cli.realm import DESCRIPTION
from skex.daemon.options import Reader

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / name for name in ("cli.md", "configuration.md", "errors.md")]


@pytest.fixture
def manual(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool that writes the generated parts; tools are scripts, reachable only from their folder."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("manual")


def test_generated_parts_of_the_manual_are_current() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "manual.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, f"{result.stdout}{result.stderr}run: python tools/manual.py"


def test_a_part_that_was_edited_by_hand_is_found(manual: ModuleType) -> None:
    text = PAGES[1].read_text(encoding="utf-8")
    altered = text.replace("| `keys.lifetime` | an integer from 1 ", "| `keys.lifetime` | an integer from 2 ")
    assert altered != text
    assert manual.regenerate(altered) == text


def test_every_generated_part_stands_in_exactly_one_page(manual: ModuleType) -> None:
    generated = importlib.import_module("generated")
    names = [name for page in PAGES for name in generated.part_names(page.read_text(encoding="utf-8"))]
    assert sorted(names) == sorted(manual.PARTS)


def test_error_book_has_every_code_once_with_all_that_it_must_say() -> None:
    text = PAGES[2].read_text(encoding="utf-8")
    entries = re.findall(r"^### ([a-z0-9-]+)\n\n((?:- .*\n)+)", text, re.MULTILINE)
    assert sorted(name for name, _ in entries) == [code.name for code in codes.all_codes()]
    for name, entry in entries:
        heads = re.findall(r"^- \*\*(.+?):\*\* \S", entry, re.MULTILINE)
        assert heads == ["Cause", "Effect", "Remedy", "Exit code", "Seen in"], name


@pytest.mark.parametrize("code", codes.all_codes(), ids=lambda code: code.name)
def test_commands_that_a_remedy_names_exist(code: ErrorCode) -> None:
    """Who is told to run a command that does not exist is worse off than before."""
    for words in re.findall(r"skex ([a-z0-9 -]+)", f"{code.hint} {code.effect}"):
        noun, *verb = words.split()
        assert noun in NOUNS, words
        command = skex_command.get_command(click.Context(skex_command), noun)
        if isinstance(command, click.Group):
            assert verb, words
            assert verb[0] in command.commands, words


def test_no_code_is_without_use(manual: ModuleType) -> None:
    """A code that nothing raises or reports belongs neither into the book nor into the specification."""
    used = manual.errorbook.packages()
    assert set(used) == {name for name in vars(codes) if isinstance(vars(codes)[name], ErrorCode)}
    assert [name for name, packages in used.items() if not packages] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_error_codes_and_links_of_the_manual_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    known = {code.name for code in codes.all_codes()}
    areas = {name.split("-")[0] for name in known}
    named = {name for name in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", text) if name.split("-")[0] in areas}
    assert named - known == set()
    targets = re.findall(r"\]\(([a-z0-9./-]+\.md)\)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_example_of_a_hubs_description_is_read() -> None:
    text = PAGES[1].read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(\[\[hub\]\].*?)```", text, re.DOTALL)
    reader = Reader(example.encode(), "hubs.toml", DESCRIPTION)
    assert reader.read().entries["hub"][0]["operator"] == "Example AG"
    reader.finish()


def test_template_in_the_manual_is_toml() -> None:
    text = PAGES[1].read_text(encoding="utf-8")
    (template,) = re.findall(r"```toml\n(# Configuration.*?)```", text, re.DOTALL)
    assert tomllib.loads(template)["name"] == "hub-1"
