"""The extensions of a key request (clause 6.2): a registry by name, filled here and nowhere else.

An extension that a request calls mandatory is in the registry or the request is refused; optional
ones are ignored, which the clause allows with any normal answer. A name has its vendor's prefix, ending
in an underscore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from skex.base import codes
from skex.base.errors import DeliveryFault
from skex.delivery.etsi014.strictjson import Json
from skex.keys.api import Requirements

Extension: TypeAlias = Callable[[Requirements, Json], Requirements]
"""Adds what a value demands. Raises ``DeliveryFault`` (door-extension-unmet)."""

SUPPORTED: Final[Mapping[str, Extension]] = MappingProxyType({})
"""What this door has: none so far."""


def requirements(mandatory: Iterable[tuple[str, Json]], supported: Mapping[str, Extension]) -> Requirements:
    """What the mandatory extensions demand together.

    Raises ``DeliveryFault``: door-extension-unknown before door-extension-unmet.
    """
    named = tuple(mandatory)
    if any(name not in supported for name, _ in named):
        raise DeliveryFault(codes.DOOR_EXTENSION_UNKNOWN)
    demands = Requirements()
    for name, value in named:
        demands = supported[name](demands, value)
    return demands
