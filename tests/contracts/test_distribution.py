"""What is shipped: the package, its marker for type checkers and its licence; no tests, no simulation."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import skex

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """A wheel, built from a copy so that building leaves nothing in the tree."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(
        ROOT,
        tree,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist"),
    )
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", *options, "--wheel-dir", tree / "dist", tree],
        capture_output=True,
        check=True,
        timeout=120,
    )
    (built,) = (tree / "dist").glob("*.whl")
    return zipfile.Path(built)


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.Path) -> None:
    assert {entry.name for entry in wheel.iterdir()} == {"skex", f"skex-{skex.__version__}.dist-info"}
    shipped = {entry.name for entry in (wheel / "skex").iterdir() if entry.is_dir()}
    assert shipped == {path.parent.name for path in (ROOT / "src" / "skex").glob("*/__init__.py")}


def test_wheel_carries_the_type_marker_and_the_licence(wheel: zipfile.Path) -> None:
    assert (wheel / "skex" / "py.typed").exists()
    licence = wheel / f"skex-{skex.__version__}.dist-info" / "licenses" / "LICENSE"
    assert licence.read_text(encoding="utf-8") == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_wheel_carries_every_migration_of_both_stores(wheel: zipfile.Path) -> None:
    folder = ROOT / "src" / "skex" / "store" / "migrations"
    scripts = sorted(folder.glob("*/*.sql"))
    assert {script.parent.name for script in scripts} == {"hub", "kme"}
    for script in scripts:
        shipped = wheel / "skex" / "store" / "migrations" / script.parent.name / script.name
        assert shipped.read_text(encoding="utf-8") == script.read_text(encoding="utf-8")
