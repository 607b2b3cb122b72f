"""JSON as untrusted input: UTF-8, bounded, no duplicate members, no numbers that are none.

It knows nothing of the standard that the values belong to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, NoReturn, TypeAlias, Union

from skex.base import codes, limits
from skex.base.errors import DeliveryFault

Json: TypeAlias = Union[bool, int, float, str, list["Json"], dict[str, "Json"], None]  # noqa: UP007 - a name in quotes has no |

# Strings are matched whole, so that brackets inside them do not count.
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{\]}]', re.DOTALL)


def parse(data: bytes) -> Json:
    """The value that ``data`` spells. Raises ``DeliveryFault`` (door-request), and nothing else."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DeliveryFault(codes.DOOR_REQUEST, "the body is not UTF-8") from error
    _check_depth(text)
    try:
        value: Json = json.loads(text, object_pairs_hook=_members, parse_constant=_constant)
    except ValueError as error:
        raise DeliveryFault(codes.DOOR_REQUEST, "the body is not JSON") from error
    return value


def _check_depth(text: str) -> None:
    """Refuse deep nesting before the parser recurses into it."""
    depth = 0
    for match in _TOKENS.finditer(text):
        bracket = match.group()
        if bracket in "[{":
            depth += 1
            if depth > limits.DOOR_JSON_DEPTH:
                raise DeliveryFault(codes.DOOR_REQUEST, "the body is nested too deeply")
        elif bracket in "]}":
            depth -= 1


def _members(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    # Two parsers that disagree on which of two equal names counts are an attack, not an accident.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DeliveryFault(codes.DOOR_REQUEST, "an object of the body has a member twice")
    return members


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
