"""What the tree must not carry, and what its tables must have."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from skex.base import codes, limits
from skex.base.errors import ErrorCode

ROOT = Path(__file__).resolve().parents[2]
# Written so that this file does not match itself.
REGISTRY_HOST = re.compile(r"(?:py[p]i|deb\.debia[n])\.org|pythonhoste[d]\.|npmj[s]\.|crates\.i[o]")
MACHINE_PATH = re.compile(r"(?<![\w.*])/(?:wor[k]|roo[t]|home/[a-z]\w*|tmp/pla[n])/")
CONFLICT = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KE[Y]-----")
IGNORE = re.compile(
    r"# (?:noqa|type: ignore)(?!: [A-Z]+\d+(?:, [A-Z]+\d+)* (?:-| #) \w|\[[a-z, -]+\]  # \w).*"
)
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
CODES = codes.all_codes()


def tracked() -> list[Path]:
    """Every file that a commit would carry."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - any git will do
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def mentions(pattern: re.Pattern[str]) -> list[str]:
    """Where the pattern occurs in the tree's text files."""
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in pattern.finditer(text)]
    return found


@pytest.mark.parametrize("pattern", [REGISTRY_HOST, MACHINE_PATH, CONFLICT, PRIVATE_KEY], ids=str)
def test_tree_carries_no_forbidden_text(pattern: re.Pattern[str]) -> None:
    assert mentions(pattern) == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (REGISTRY_HOST, "https://" + "py" + "pi.org/simple"),
        (REGISTRY_HOST, "https://files.python" + "hosted.org/x.whl"),
        (MACHINE_PATH, "see /" + "work/main"),
        (MACHINE_PATH, "'/" + "home/alice/skex'"),
        (CONFLICT, "a\n<<<" + "<<<< HEAD\n"),
        (PRIVATE_KEY, "-----BEGIN EC PRIVATE " + "KEY-----"),
    ],
)
def test_forbidden_text_would_be_found(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirements_name_no_source_and_hash_everything(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    source = r"https?:|--(?:extra-)?index|--find-links|--trusted|^-[efir] | @ "
    assert not re.search(source, text, re.MULTILINE)
    pins = re.findall(
        r"^\S.*$", re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)), re.MULTILINE
    )
    assert pins
    for pin in pins:
        assert re.fullmatch(
            r"[a-z0-9._-]+==\S+(?: *--hash=sha256:[0-9a-f]{64})+ *", re.sub(r"\s+", " ", pin)
        ), pin


def test_every_declared_dependency_is_pinned_for_running_and_for_development() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=!~ \[;]", line)[0] for line in project["dependencies"]}
    pins = {
        path.name: dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in REQUIREMENTS
    }
    assert declared <= pins["runtime.txt"].keys()
    assert pins["runtime.txt"].items() <= pins["dev.txt"].items()


def test_every_ignored_check_is_named_and_has_its_reason_beside_it() -> None:
    found = []
    for path in tracked():
        if path.suffix == ".py" and path != Path(__file__):
            lines = path.read_text(encoding="utf-8").splitlines()
            found += [f"{path.relative_to(ROOT)}: {line.strip()}" for line in lines if IGNORE.search(line)]
    assert found == []


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("import x  # noqa", True),
        ("import x  # noqa: F401", True),
        ("import x  # noqa: F401, E402", True),
        ("import x  # noqa: F401 - to show that it can be imported", False),
        ("import x  # noqa: F401  # to show that it can be imported", False),
        ("x = 1  # type: ignore", True),
        ("x = 1  # type: ignore[assignment]", True),
        ("x = 1  # type: ignore[assignment]  # the mistake under test", False),
    ],
)
def test_ignored_check_without_a_reason_would_be_found(line: str, refused: bool) -> None:
    assert bool(IGNORE.search(line)) is refused


def test_nothing_of_the_package_is_excluded_from_coverage() -> None:
    sources = [path for path in tracked() if path.is_relative_to(ROOT / "src")]
    assert sources
    assert [path.name for path in sources if b"pragma: no" in path.read_bytes()] == []


def test_no_two_codes_share_a_name_or_a_sentence() -> None:
    assert [name for name, count in Counter(code.name for code in CODES).items() if count > 1] == []
    assert [text for text, count in Counter(code.sentence for code in CODES).items() if count > 1] == []


def test_every_code_of_the_module_is_in_the_table() -> None:
    named = [value for value in vars(codes).values() if isinstance(value, ErrorCode)]
    assert sorted(named, key=lambda code: code.name) == list(CODES)


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_code_is_kebab_case_with_a_sentence_and_a_hint(code: ErrorCode) -> None:
    assert re.fullmatch(r"[a-z]+(?:-[a-z0-9]+)*", code.name)
    assert re.fullmatch(r"[A-Z][^\n]*[^.\n]\.", code.sentence)
    assert re.fullmatch(r"[A-Z][^\n]*\.", code.hint)
    assert re.fullmatch(r"[A-Z][^\n]*\.", code.effect)


def undocumented_limits(source: str) -> list[str]:
    """Names of constants with neither a docstring nor a documented neighbour directly above or below.

    Constants that stand together, with no blank line or comment between, form a group: one docstring
    in it says what all of them are for.
    """
    groups: list[list[ast.stmt]] = []
    last_line = -1
    for node in ast.parse(source).body:
        if node.lineno != last_line + 1:
            groups.append([])
        groups[-1].append(node)
        last_line = node.end_lineno or node.lineno
    return [
        node.target.id
        for group in groups
        if not any(isinstance(node, ast.Expr) for node in group)
        for node in group
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def test_every_limit_is_documented_and_positive() -> None:
    assert undocumented_limits(Path(limits.__file__).read_text(encoding="utf-8")) == []
    values = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert values
    assert [name for name, value in values.items() if not isinstance(value, int | float) or value <= 0] == []


def test_undocumented_limit_would_be_found() -> None:
    assert undocumented_limits('A: Final = 1\n"""Why."""\n\nB: Final = 2\n') == ["B"]


def test_every_record_of_a_decision_has_its_number_title_and_status() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    numbers = [path.name[:4] for path in records]
    assert len(set(numbers)) == len(numbers)
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert re.match(rf"# {path.name[:4]}\. \S", text), path.name
        assert "Status: " in text, path.name
