"""The tables of constants in docs/spec/, made from the code that uses them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple, TypeVar

from skex.base import codes, limits
from skex.base.errors import ErrorCode, Family
from skex.base.ids import Direction
from skex.crypto.kdf import Label
from skex.pad.kinds import PadKind
from skex.wire import claim, context, messages, peer, preface, realm

_SECTION: Final = re.compile(r"# ── (.+?) ─")
_SPECIFIED_LIMITS: Final = frozenset(
    {
        "names",
        "preface and records (shared)",
        "grants (shared)",
        "realm (shared)",
        "establishment (shared)",
        "establishment (local)",
    }
)
"""Sections of ``limits`` that belong to the protocol: doors, stores and kits are not specified."""
_ALSO_SPECIFIED: Final = "LINK_KEY_BYTES"
"""Stands with what kits carry, and is a length on which both ends must agree."""
_SPECIFIED_CODES: Final = frozenset(
    {"base", "wire", "pad", "protocol: preface, link", "protocol: establishment"}
)
_UNITS: Final = (
    ("BYTES", "bytes"),
    ("SECONDS", "seconds"),
    ("CHARACTERS", "characters"),
    ("UNITS", "table units"),
    ("STEPS", "chain steps"),
    ("POSITION", "position"),
)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    heads = list(head)
    lines = [heads, ["---"] * len(heads), *([str(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# ── limits ──────────────────────────────────────────────────────────────────────────────────────
class Limit(NamedTuple):
    """One constant of ``limits``."""

    name: str
    value: int
    unit: str
    reason: str
    local: bool


class Constant(NamedTuple):
    """One constant of a module: its name, the section it stands in, the text below it."""

    name: str
    section: str
    text: str


def _constants(module: ModuleType) -> list[Constant]:
    """The annotated constants of a module that is divided into sections, in their order."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    body = ast.parse(source).body
    lines = source.splitlines()
    found = []
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            sections = [match[1] for line in lines[: statement.lineno] if (match := _SECTION.match(line))]
            found.append(Constant(statement.target.id, sections[-1] if sections else "", _text(following)))
    return found


def every_limit() -> list[Limit]:
    """The limits of the protocol in their order; the reason is the text that stands below each."""
    found = []
    for name, section, reason in _constants(limits):
        if section in _SPECIFIED_LIMITS or name == _ALSO_SPECIFIED:
            local = "(local)" in section or "(local)" in reason
            reason_only = reason.replace(" (local)", "")
            found.append(Limit(name, getattr(limits, name), _unit(name), reason_only, local))
    return found


def every_code() -> list[ErrorCode]:
    """The codes of the protocol, by name."""
    names = (name for name, section, _ in _constants(codes) if section in _SPECIFIED_CODES)
    return sorted((getattr(codes, name) for name in names), key=lambda code: code.name)


def _text(statement: ast.stmt | None) -> str:
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(text.split())
        case _:
            return ""


def _unit(name: str) -> str:
    return next((unit for part, unit in _UNITS if part in name), "count")


def _limits(*, local: bool) -> str:
    rows = [
        (f"`{limit.name}`", limit.value, limit.unit, limit.reason)
        for limit in every_limit()
        if limit.local is local
    ]
    return table(("Limit", "Value", "Unit", "Reason"), rows)


# ── codes on the wire ───────────────────────────────────────────────────────────────────────────
def _refusals() -> str:
    rows = []
    for refusal in messages.Refusal:
        code = messages.refusal_code(refusal)
        rows.append((int(refusal), refusal.name, f"`{code.name}`", code.sentence))
    return table(("Value", "Name", "Error code", "Meaning"), rows)


def _numbers(kind: type[IntEnum]) -> Callable[[], str]:
    return lambda: table(("Value", "Name"), [(int(member), member.name) for member in kind])


def _name(kind: type[object]) -> str:
    """A class name in the specification's spelling: ``GetRealm`` is GET_REALM."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).upper()


DirectionT = TypeVar("DirectionT", bound=IntEnum)


def _types(
    kinds: Mapping[DirectionT, Mapping[int, Callable[..., object]]],
) -> list[tuple[int, str, list[DirectionT]]]:
    """Every message type: its number, its name, and the directions that it may run in."""
    ways: dict[int, list[DirectionT]] = {}
    names = {}
    for direction, readers in kinds.items():
        for number, read in readers.items():
            ways.setdefault(number, []).append(direction)
            names[number] = _name(read.__self__)  # type: ignore[attr-defined]  # a class method's class
    return [(number, names[number], way) for number, way in sorted(ways.items())]


def _link_messages() -> str:
    ways = {Direction.TO_HUB: "KME → hub", Direction.TO_KME: "hub → KME"}
    kinds = _types(messages._KINDS)  # noqa: SLF001  # what decodes is what is documented
    rows = [
        (number, f"[{name}](#{name.lower()})", "both ways" if len(way) > 1 else ways[way[0]])
        for number, name, way in kinds
    ]
    return table(("Type", "Message", "Way"), rows)


def _peer_messages() -> str:
    kinds = _types(peer._KINDS)  # noqa: SLF001  # what decodes is what is documented
    rows = [
        (number, f"[{name}](#{name.lower()})", " and ".join(one.name for one in way))
        for number, name, way in kinds
    ]
    return table(("Type", "Message", "Direction"), rows)


_FRAMES: Final = (
    preface.Hello,
    preface.HubNonce,
    preface.KmeState,
    preface.HubState,
    preface.KmeGrant,
)


def _frames() -> str:
    rows = []
    for kind in _FRAMES:
        number, payload = kind.NUMBER, kind.LAYOUT.size
        proof = preface.PROOF_BYTES if number > 1 else 0
        rows.append(
            (
                number,
                "KME → hub" if number % 2 else "hub → KME",
                payload,
                proof,
                payload + proof,
                preface.frame_bytes(number),
            )
        )
    head = ("Frame", "Way", "Fields", "Proof", "`length` field", "Whole frame")
    return table(head, rows)


def _labels() -> str:
    uses = _enum_texts(Path(__file__).resolve().parents[1] / "src/skex/crypto/kdf.py", "Label")
    rows = [(f"`{label.decode()}`", len(label), f"`{label.hex()}`", uses[label.name]) for label in Label]
    return table(("Label", "Bytes", "Hexadecimal", "Use"), rows)


def _enum_texts(path: Path, name: str) -> dict[str, str]:
    """The text below each member of an enum in a source file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    texts = {}
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            texts[statement.targets[0].id] = _text(following)
    return texts


def _errors(family: Family) -> Callable[[], str]:
    return lambda: table(
        ("Code", "Meaning"),
        [(f"`{code.name}`", code.sentence) for code in every_code() if code.family is family],
    )


TABLES: Final[dict[str, Callable[[], str]]] = {
    "shared-limits": lambda: _limits(local=False),
    "local-limits": lambda: _limits(local=True),
    "refusals": _refusals,
    "assign-refusals": _numbers(peer.AssignRefusal),
    "revoke-reasons": _numbers(peer.RevokeReason),
    "randomness": _numbers(claim.Randomness),
    "enrolment": _numbers(claim.Enrolment),
    "purposes": _numbers(context.Purpose),
    "hub-status": _numbers(realm.HubStatus),
    "pad-kinds": _numbers(PadKind),
    "link-messages": _link_messages,
    "peer-messages": _peer_messages,
    "frames": _frames,
    "labels": _labels,
    "errors-peer": _errors(Family.PEER),
    "errors-store": _errors(Family.STORE),
    "errors-refused": _errors(Family.REFUSED),
    "errors-bug": _errors(Family.BUG),
}
