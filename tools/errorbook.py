"""The error book: every code of ``skex.base.codes``, with what the code itself tells of where it is seen.

``manual.py`` writes it into docs/errors.md.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from skex.base import codes
from skex.base.errors import DeliveryFault, ErrorCode, Family, Refused
from skex.cli.common import exit_code
from skex.delivery.etsi014 import answers
from skex.wire import messages

SOURCE: Final = Path(codes.__file__).resolve().parents[1]
_SECTION: Final = re.compile(r"# ── (.+?) ─")
_LINKS: Final = "links (logs, audit logs and metrics of both ends, `skex kme status`)"
_DAEMONS: Final = "starts and logs of daemons"
_COMMANDS: Final = "commands"
_AUDIT: Final = "the audit log"
_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "wire": (_LINKS,),
    "crypto": (_LINKS,),
    "pad": (_LINKS,),
    "protocol": (_LINKS,),
    "runtime": (_DAEMONS, _COMMANDS),
    "audit": (_DAEMONS, _COMMANDS),
    "policy": (_DAEMONS, _COMMANDS),
    "store": (_DAEMONS, _COMMANDS),
    "daemon": (_DAEMONS, _COMMANDS),
    "base": (_COMMANDS,),
    "cli": (_COMMANDS,),
    "enrol": (_COMMANDS, _AUDIT),
    "keys": ("answers to applications", _AUDIT),
    "delivery": ("the log and the start of the ETSI 014 door",),
}
"""Where what a package raises or reports comes to light."""


@cache
def sections() -> dict[str, str]:
    """The section of ``codes`` that each code stands in, by its name in the module."""
    text = (SOURCE / "base" / "codes.py").read_text(encoding="utf-8")
    lines = text.splitlines()
    found = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            above = [match[1] for line in lines[: statement.lineno] if (match := _SECTION.match(line))]
            if above and isinstance(getattr(codes, statement.target.id, None), ErrorCode):
                found[statement.target.id] = above[-1]
    return found


@cache
def packages() -> dict[str, tuple[str, ...]]:
    """The packages that name each code, by its name in the module."""
    found: dict[str, set[str]] = {name: set() for name in sections()}
    for path in sorted(SOURCE.rglob("*.py")):
        package = path.relative_to(SOURCE).parts[0]
        for name in re.findall(r"\bcodes\.([A-Z][A-Z0-9_]+)", path.read_text(encoding="utf-8")):
            if name in found:
                found[name].add(package)
    return {name: tuple(sorted(used)) for name, used in found.items()}


def book() -> str:
    """All codes, by the sections in which they are defined."""
    chapters: dict[str, list[str]] = {}
    for name, section in sections().items():
        chapters.setdefault(section, []).append(name)
    return "\n".join(
        f"## {section[0].upper()}{section[1:]}\n\n" + "\n".join(_entry(name) for name in names)
        for section, names in chapters.items()
    )


def _entry(name: str) -> str:
    code: ErrorCode = getattr(codes, name)
    rows = (
        ("Cause", code.sentence),
        ("Effect", code.effect),
        ("Remedy", code.hint),
        ("Exit code", f"{exit_code(code)} ({code.family.value})"),
        ("Seen in", "; ".join(_seen(name, code))),
    )
    return f"### {code.name}\n\n" + "".join(f"- **{head}:** {text}\n" for head, text in rows)


def _seen(name: str, code: ErrorCode) -> list[str]:
    used = packages()[name]
    if code.family is Family.BUG:
        return ["logs and commands, wherever it happens"]
    places = list(
        dict.fromkeys(place for package in _PLACES if package in used for place in _PLACES[package])
    )
    number = next((int(one) for one in messages.Refusal if messages.refusal_code(one) is code), None)
    if number is not None:
        places.append(f"REFUSE {number} on a link")
    if {"keys", "delivery"} & set(used):
        places.append(f"HTTP {_status(code)} to the application")
    return places


def _status(code: ErrorCode) -> int:
    """What the ETSI 014 door answers with."""
    if code.family is Family.REFUSED:
        return answers.refusal(Refused(code)).status
    if code.family is Family.DELIVERY:
        return answers.refusal(DeliveryFault(code)).status
    return answers.UNAVAILABLE


def families() -> str:
    """What a family says: whose fault, which exit code."""
    whose = {
        Family.BUG: "this process",
        Family.PEER: "the other end of a link, or something between",
        Family.STORE: "this machine's disk, store or pads",
        Family.REFUSED: "nobody's: what was asked for is not granted",
        Family.DELIVERY: "the hop to an application",
    }
    one_of = {code.family: code for code in codes.all_codes()}
    rows = "".join(
        f"| {family.value} | {whose[family]} | {exit_code(one_of[family])} |\n" for family in Family
    )
    return f"| Family | Whose fault | Exit code |\n| --- | --- | --- |\n{rows}"
