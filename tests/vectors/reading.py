"""Reads the vectors of the specification from their text alone: nothing of skex is imported."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "spec" / "vectors"
NAMES: Final = (
    "preface.json",
    "grants.json",
    "records.json",
    "messages.json",
    "establishment.json",
    "session.json",
    "rejected.json",
)
Case: TypeAlias = dict[str, Any]
Value: TypeAlias = "int | bytes | str | list[Value] | None"


@cache
def load(name: str) -> Case:
    """One file."""
    contents: Case = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return contents


def cases(name: str, part: str = "cases") -> list[Any]:
    """The cases of one part of a file; of a part with a state of its own, with that state merged in."""
    found = load(name)[part]
    if isinstance(found, list):
        return found
    merged = []
    for case in found["cases"]:
        state = {**found["state"], **case.get("state", {})}
        merged.append({**case, "state": state})
    return merged


def named(name: str, part: str, case: str) -> Case:
    """The case of this name."""
    (found,) = (one for one in cases(name, part) if one["name"] == case)
    return dict(found)


def label(case: object) -> str:
    """The id of a case for pytest: other values keep theirs."""
    return str(case["name"]) if isinstance(case, dict) else str(case)


# ── bytes ───────────────────────────────────────────────────────────────────────────────────────
def expand(name: str, length: int) -> bytes:
    """The expansion that every file states."""
    prefix = f"{load(NAMES[0])['seed']}/{name}".encode()
    output = b""
    while len(output) < length:
        output += hashlib.sha512(prefix + (len(output) // 64).to_bytes(8, "big")).digest()
    return output[:length]


def data_of(value: Any) -> bytes:
    """Hexadecimal, an expansion, a repetition, or an array of these."""
    if isinstance(value, str):
        return bytes.fromhex(value)
    if isinstance(value, list):
        return b"".join(map(data_of, value))
    if "repeat" in value:
        return bytes.fromhex(value["repeat"]) * int(value["times"])
    return expand(value["expand"], value["bytes"])


def number(value: Any) -> int:
    """A number that may be written as decimal digits."""
    return int(value)


# ── CBOR, from RFC 8949 alone ───────────────────────────────────────────────────────────────────
_TOKEN: Final = re.compile(r"\s*(?:(h'([0-9a-f]*)')|(\"([^\"]*)\")|(\d+)|(null)|([\[\],]))")


def parse(notation: str) -> Value:
    """A value in diagnostic notation."""
    stack: list[list[Value]] = [[]]
    position = 0
    while position < len(notation):
        match = _TOKEN.match(notation, position)
        if match is None:
            raise ValueError(notation[position:])
        position = match.end()
        value: Value = None
        if match[7] == ",":
            continue
        if match[7] == "[":
            stack.append([])
            continue
        if match[7] == "]":
            value = stack.pop()
        elif match[1]:
            value = bytes.fromhex(match[2])
        elif match[3]:
            value = match[4]
        elif match[5]:
            value = int(match[5])
        stack[-1].append(value)
    ((value,),) = stack
    return value


def encode(value: Value) -> bytes:
    """The deterministic encoding."""
    match value:
        case None:
            return b"\xf6"
        case int():
            return _head(0, value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value)) + value.encode("ascii")
        case list():
            return _head(4, len(value)) + b"".join(map(encode, value))


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    size = next(size for size in (0, 1, 2, 3) if argument < 1 << 8 * 2**size)
    return bytes([major << 5 | 24 + size]) + argument.to_bytes(2**size, "big")
