"""The tables of constants in docs/spec/, made from the code that uses them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from skex.base import codes, limits
from skex.base.errors import Family
from skex.base.ids import Direction
from skex.crypto.kdf import Label
from skex.pad.kinds import PadKind
from skex.wire import claim, context, messages, peer, preface, realm

_SECTION: Final = re.compile(r"# ── (.+?) ─")
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


def every_limit() -> list[Limit]:
    """The limits in their order; the reason is the text that stands below each."""
    source = Path(limits.__file__).read_text(encoding="utf-8")
    body = ast.parse(source).body
    lines = source.splitlines()
    found = []
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        name = statement.target.id
        reason = _text(following)
        headings = [match[1] for line in lines[: statement.lineno] if (match := _SECTION.match(line))]
        local = "(local)" in headings[-1] or "(local)" in reason
        value = getattr(limits, name)
        found.append(Limit(name, value, _unit(name), reason.replace(" (local)", ""), local))
    return found


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
        [(f"`{code.name}`", code.sentence) for code in codes.all_codes() if code.family is family],
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
