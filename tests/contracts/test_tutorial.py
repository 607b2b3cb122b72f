"""What people are told to type must exist, and the units that they are given must hold."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from skex.cli import skex_command

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("tutorial.md", "backup-and-restore.md", "upgrading.md")),
]
UNITS = sorted((ROOT / "packaging" / "systemd").glob("*.service"))


def command_lines() -> list[str]:
    """Every ``skex`` command of a block or a code span, continuation lines joined."""
    found = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        blocks = re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", text)
        found += [
            match[1] for line in lines if (match := re.match(r"(?:sudo -u skex )?(skex [a-z].*)", line))
        ]
    return sorted(set(found))


@pytest.mark.parametrize("line", command_lines())
def test_documented_command_and_its_options_exist(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = skex_command
    context = click.Context(command, info_name="skex")
    while isinstance(command, click.Group):
        assert words, f"{line} is no whole command"
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    given = {word for word in words if word.startswith("-")} - {"--help"}
    assert given <= known, line


def test_tutorial_uses_the_commands_of_every_step() -> None:
    used = {" ".join(line.split()[1:3]) for line in command_lines()}
    wanted = {"realm init", "hub init", "kit create", "kme init", "kit import", "ca issue", "kme status"}
    assert wanted <= used


# ── units ───────────────────────────────────────────────────────────────────────────────────────
HARDENING = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "CapabilityBoundingSet": "",
    "StateDirectory": "skex",
    "LimitCORE": "0",
}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_runs_its_daemon_hardened(unit: Path) -> None:
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))
    kind = unit.name.removeprefix("skex-").removesuffix("@.service")
    assert settings["ExecStart"] == f"skex {kind} run --home /var/lib/skex/%i"
    assert settings["User"] == "skex"
    assert {name: settings.get(name) for name in HARDENING} == HARDENING


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path, tmp_path: Path) -> None:
    # It looks for the program, which need not be installed here.
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("ExecStart=skex ", "ExecStart=true "))
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(copy)],  # noqa: S607 - whichever is installed
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_both_daemons_have_a_unit() -> None:
    assert [unit.name for unit in UNITS] == ["skex-hub@.service", "skex-kme@.service"]
