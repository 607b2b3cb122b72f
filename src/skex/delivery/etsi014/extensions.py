"""The extensions of a key request and of a key (clauses 6.2 and 6.3), filled in here and nowhere else.

An extension that a request calls mandatory is in the registry or the request is refused; of optional ones
those that are known are met where they can be, and the others have no effect, which the clause allows with
any normal answer. A name has its vendor's prefix, ending in an underscore.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, TypeAlias

from skex.base import codes, limits
from skex.base.errors import DeliveryFault
from skex.delivery.etsi014.strictjson import Json
from skex.keys.api import DeliveredKey, Requirements
from skex.wire.claim import ClaimClass

Extension: TypeAlias = Callable[[Requirements, Json], Requirements]
"""Adds what a value demands. Raises ``DeliveryFault`` (door-extension-unmet)."""
Named: TypeAlias = Iterable[tuple[str, Json]]


# ── what a request may demand ───────────────────────────────────────────────────────────────────
def _number(value: Json, high: int) -> int:
    if type(value) is not int or not 1 <= value <= high:
        raise DeliveryFault(codes.DOOR_EXTENSION_UNMET, f"an integer from 1 to {high} is expected")
    return value


def _claim_class(demands: Requirements, value: Json) -> Requirements:
    """The weakest class that will do."""
    for one in ClaimClass:
        if value == _word(one.name):
            return replace(demands, claim_class=one)
    raise DeliveryFault(codes.DOOR_EXTENSION_UNMET, "there is no such class")


def _minimum_threshold(demands: Requirements, value: Json) -> Requirements:
    return replace(demands, minimum_threshold=_number(value, limits.REALM_HUBS))


def _minimum_effective_threshold(demands: Requirements, value: Json) -> Requirements:
    return replace(demands, minimum_effective_threshold=_number(value, limits.REALM_HUBS))


def _purpose(demands: Requirements, value: Json) -> Requirements:
    """The label that policy decides by; what a label is, the key service says."""
    if not isinstance(value, str) or not 1 <= len(value) <= limits.PURPOSE_CHARACTERS:
        raise DeliveryFault(codes.DOOR_EXTENSION_UNMET, "no label")
    return replace(demands, purpose=value)


def _lifetime(demands: Requirements, value: Json) -> Requirements:
    return replace(demands, lifetime=_number(value, limits.LIFETIME_SECONDS_MAX))


SUPPORTED: Final[Mapping[str, Extension]] = MappingProxyType(
    {
        "skex_claim_class": _claim_class,
        "skex_minimum_threshold": _minimum_threshold,
        "skex_minimum_effective_threshold": _minimum_effective_threshold,
        "skex_purpose": _purpose,
        "skex_lifetime_seconds": _lifetime,
    }
)
"""What this door has."""


def requirements(mandatory: Named, supported: Mapping[str, Extension]) -> Requirements:
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


def wishes(demands: Requirements, optional: Named, supported: Mapping[str, Extension]) -> Requirements:
    """The same with those optional extensions that are known and can be read; a mandatory one counts."""
    wanted = Requirements()
    for name, value in optional:
        try:
            wanted = supported[name](wanted, value) if name in supported else wanted
        except DeliveryFault:
            continue
    return Requirements(
        demands.purpose if demands.purpose != Requirements().purpose else wanted.purpose,
        demands.lifetime or wanted.lifetime,
        demands.minimum_threshold or wanted.minimum_threshold,
        wanted.claim_class if demands.claim_class is None else demands.claim_class,
        demands.minimum_effective_threshold or wanted.minimum_effective_threshold,
    )


def unknown(optional: Named, supported: Container[str]) -> tuple[str, ...]:
    """The names of the optional extensions that have no effect."""
    return tuple(name for name, _ in optional if name not in supported)


# ── what is said of a key ───────────────────────────────────────────────────────────────────────
def said_of(key: DeliveredKey) -> dict[str, object]:
    """What a key's secrecy rests on and how it may be used, in compact form."""
    claim, period = key.claim, key.period
    use: dict[str, object] = {"lifetime_seconds": period.lifetime, "use_seconds": period.use_seconds}
    if period.uses is not None:
        use["uses"] = period.uses
    return {
        "skex_claim": {
            "class": _word(claim.claim_class.name),
            "threshold": claim.threshold,
            "effective_threshold": claim.effective_threshold,
            "margin": claim.margin,
            "randomness": _word(claim.randomness.name),
            "enrolment": _word(claim.enrolment.name),
        },
        "skex_cryptoperiod": use,
    }


def _word(name: str) -> str:
    return name.lower().replace("_", "-")
