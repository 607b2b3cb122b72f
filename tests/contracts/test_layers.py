"""The layer contracts hold, and they are able to fail: a planted import is refused and named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the package in ``tree``, wherever else skex is installed."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "src"), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and its contracts, to be broken."""
    shutil.copytree(
        ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(tree: Path, module: str, line: str) -> None:
    """Append an import to a module; packages and modules that do not exist yet are created."""
    path = tree / "src" / Path(*module.split(".")).with_suffix(".py")
    for package in reversed(path.relative_to(tree / "src").parents[:-1]):
        (tree / "src" / package).mkdir(exist_ok=True)
        (tree / "src" / package / "__init__.py").touch()
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")


def test_tree_keeps_every_contract() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken", "named"),
    [
        pytest.param(
            "skex.crypto.planted",
            "from skex.protocol import planted",
            "Imports point downwards only",
            "skex.crypto.planted -> skex.protocol.planted",
            id="crypto_imports_protocol",
        ),
        pytest.param(
            "skex.wire.planted",
            "import skex.pad.planted",
            "Imports point downwards only",
            "skex.wire.planted -> skex.pad.planted",
            id="wire_imports_pad",
        ),
        pytest.param(
            "skex.crypto.planted",
            "from skex.wire import planted",
            "Imports point downwards only",
            "skex.crypto.planted -> skex.wire.planted",
            id="crypto_imports_its_sibling",
        ),
        pytest.param(
            "skex.delivery.etsi014.planted",
            "from skex.store import planted",
            "Imports point downwards only",
            "skex.delivery.etsi014.planted -> skex.store.planted",
            id="door_imports_store",
        ),
        pytest.param(
            "skex.client.planted",
            "from skex.crypto import planted",
            "Imports point downwards only",
            "skex.client.planted -> skex.crypto.planted",
            id="client_imports_more_than_base",
        ),
        pytest.param(
            "skex.protocol.planted",
            "from skex.client import planted",
            "Only the command line may import the client",
            "skex.protocol.planted -> skex.client.planted",
            id="protocol_imports_client",
        ),
        pytest.param(
            "skex.protocol.planted",
            "import socket",
            "The core meets no clock, entropy, thread, socket, process or file",
            "skex.protocol.planted -> socket",
            id="protocol_imports_sockets",
        ),
        pytest.param(
            "skex.base.planted",
            "import threading",
            "The core meets no clock, entropy, thread, socket, process or file",
            "skex.base.planted -> threading",
            id="base_imports_threads",
        ),
    ],
)
def test_planted_bad_import_is_refused_and_named(
    copy: Path, module: str, line: str, broken: str, named: str
) -> None:
    if "planted" in line:
        target = line.removeprefix("import ").removeprefix("from ").replace(" import ", ".")
        plant(copy, target, '"""What must not be imported."""')
    plant(copy, module, line)
    result = lint_imports(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{broken} BROKEN" in result.stdout
    assert named in result.stdout


def test_package_without_a_layer_is_refused_and_named(copy: Path) -> None:
    plant(copy, "skex.misc.helpers", '"""A package that nobody gave a layer."""')
    result = lint_imports(copy)
    assert result.returncode != 0
    assert "misc" in result.stdout + result.stderr
