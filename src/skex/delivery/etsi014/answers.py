"""What a refusal looks like from outside: 400, 401 or 503, always with a JSON error (clause 6.5).

One table, because clients sort errors by the standard's literal messages, and because what an attacker
could tell apart must be one answer: an SAE that does not exist and a pair that is not allowed; a key
that never was, was delivered, expired, or is somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from skex.base import codes
from skex.base.errors import DeliveryFault, ErrorCode, Refused, SkexError
from skex.delivery.etsi014.models import render_error

OK: Final = 200
BAD_REQUEST: Final = 400
UNAUTHORISED: Final = 401
UNAVAILABLE: Final = 503

NOT_FOUND_MESSAGE: Final = "one or more keys specified are not found on KME"
SIZE_MESSAGE: Final = "size shall be a multiple of 8"
UNKNOWN_EXTENSION_MESSAGE: Final = "not all extension_mandatory parameters are supported"
UNMET_EXTENSION_MESSAGE: Final = "not all extension_mandatory request options could be met"
UNAUTHORISED_MESSAGE: Final = "the SAE is not authorised"
FAILURE_MESSAGE: Final = "error on server side"

_FIXED: Final[Mapping[ErrorCode, tuple[int, str]]] = MappingProxyType(
    {
        codes.NOT_AUTHORISED: (UNAUTHORISED, UNAUTHORISED_MESSAGE),
        codes.NAME_INVALID: (UNAUTHORISED, UNAUTHORISED_MESSAGE),
        codes.DOOR_IDENTITY: (UNAUTHORISED, UNAUTHORISED_MESSAGE),
        codes.KEY_NOT_HELD: (BAD_REQUEST, NOT_FOUND_MESSAGE),
        codes.DOOR_SIZE_BITS: (BAD_REQUEST, SIZE_MESSAGE),
        codes.DOOR_EXTENSION_UNKNOWN: (BAD_REQUEST, UNKNOWN_EXTENSION_MESSAGE),
        codes.DOOR_EXTENSION_UNMET: (BAD_REQUEST, UNMET_EXTENSION_MESSAGE),
        codes.SIZE_UNSUPPORTED: (BAD_REQUEST, "size is not between min_key_size and max_key_size"),
        codes.NUMBER_UNSUPPORTED: (BAD_REQUEST, "more keys are asked for than max_key_per_request"),
        codes.SLAVES_UNSUPPORTED: (
            BAD_REQUEST,
            "additional_slave_SAE_IDs names more SAEs than max_SAE_ID_count, or SAEs of another KME",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out. ``code`` is the refusal's for the log, ``keys`` how many keys are in the body."""

    status: int
    body: bytes
    code: ErrorCode | None = None
    keys: int = 0

    def __repr__(self) -> str:
        # The body may hold keys.
        return f"<Answer {self.status} with {self.keys} keys>"


def refusal(error: SkexError) -> Answer:
    """The one outward answer to an error of the tree."""
    fixed = _FIXED.get(error.code)
    if fixed is not None:
        return Answer(fixed[0], render_error(fixed[1]), error.code)
    if error.code is codes.DOOR_REQUEST:
        # The detail is ours, about the form of what the client itself sent.
        return Answer(BAD_REQUEST, render_error(error.detail), error.code)
    if isinstance(error, Refused | DeliveryFault):
        # The KME's own operator needs to know which; the SAE belongs to the same site.
        details = [{"code": error.code.name}]
        return Answer(UNAVAILABLE, render_error(error.code.sentence, details), error.code)
    return Answer(UNAVAILABLE, render_error(FAILURE_MESSAGE), error.code)
