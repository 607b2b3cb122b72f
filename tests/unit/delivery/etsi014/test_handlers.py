"""What the methods mean, and what refusals look like from outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from skex.base import codes
from skex.base.errors import DeliveryFault, ErrorCode, LocalBug, PeerFault, Refused, SkexError
from skex.base.ids import SaeId
from skex.delivery.etsi014 import extensions
from skex.delivery.etsi014.answers import Answer, refusal
from skex.delivery.etsi014.extensions import Extension
from skex.delivery.etsi014.handlers import Handlers
from skex.delivery.etsi014.models import Call, KeyRequest, Operation
from skex.delivery.etsi014.strictjson import Json
from skex.keys.api import Requirements
from skex.wire.claim import ClaimClass
from tests.support.memory_keys import Exchange, MemoryKeys

A, B = SaeId("a@site-a"), SaeId("b@site-b")
ENC = Call(Operation.ENC_KEYS, B, ())


def at_least(demands: Requirements, value: Json) -> Requirements:
    """An extension as a later version may bring it: a threshold."""
    if not isinstance(value, int) or value > 5:
        raise DeliveryFault(codes.DOOR_EXTENSION_UNMET)
    return Requirements(demands.purpose, demands.lifetime, value, demands.claim_class)


SUPPORTED: dict[str, Extension] = {"skex_threshold": at_least}


@pytest.fixture
def service() -> MemoryKeys:
    return MemoryKeys("site-a", Exchange({(A, B)}))


def take(service: MemoryKeys, *mandatory: tuple[str, Json]) -> Answer:
    handlers = Handlers(service, SUPPORTED)
    return asyncio.run(handlers.answer(A, ENC, KeyRequest(mandatory=mandatory)))


def test_extension_that_is_known_is_demanded_of_the_service(service: MemoryKeys) -> None:
    assert take(service, ("skex_threshold", 3)).keys == 1
    assert service.demanded == [Requirements(minimum_threshold=3)]


@pytest.mark.parametrize(
    ("mandatory", "message"),
    [
        ([("skex_threshold", 9)], "not all extension_mandatory request options could be met"),
        ([("other_one", 1)], "not all extension_mandatory parameters are supported"),
        ([("skex_threshold", 9), ("other_one", 1)], "not all extension_mandatory parameters are supported"),
    ],
)
def test_extension_unknown_or_unmet_is_refused_literally(
    service: MemoryKeys, mandatory: list[tuple[str, Json]], message: str
) -> None:
    with pytest.raises(DeliveryFault) as caught:
        take(service, *mandatory)
    answer = refusal(caught.value)
    assert (answer.status, json.loads(answer.body)) == (400, {"message": message})
    assert service.exchange.delivered == []


# ── the extensions that there are ───────────────────────────────────────────────────────────────
def ask(service: MemoryKeys, **members: object) -> Answer:
    handlers = Handlers(service)
    body = json.dumps(members).encode()
    return asyncio.run(handlers.answer(A, ENC, handlers.parse("POST", ENC, body)))


ALL = {
    "skex_claim_class": "information-theoretic",
    "skex_minimum_threshold": 4,
    "skex_minimum_effective_threshold": 3,
    "skex_purpose": "tls",
    "skex_lifetime_seconds": 600,
}
DEMANDED = Requirements("tls", 600, 4, ClaimClass.INFORMATION_THEORETIC, 3)


@pytest.mark.parametrize("member", ["extension_mandatory", "extension_optional"])
def test_every_extension_reaches_the_service(service: MemoryKeys, member: str) -> None:
    assert ask(service, **{member: [ALL]}).keys == 1
    assert service.demanded == [DEMANDED]
    assert set(ALL) == set(extensions.SUPPORTED)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("skex_claim_class", "unbreakable"),
        ("skex_claim_class", 1),
        ("skex_minimum_threshold", 0),
        ("skex_minimum_threshold", True),
        ("skex_minimum_threshold", "3"),
        ("skex_minimum_effective_threshold", 65),
        ("skex_purpose", ""),
        ("skex_purpose", "x" * 33),
        ("skex_purpose", None),
        ("skex_lifetime_seconds", 2**40),
    ],
)
def test_a_value_that_cannot_be_read_is_unmet_if_mandatory_and_nothing_if_optional(
    service: MemoryKeys, name: str, value: object
) -> None:
    with pytest.raises(DeliveryFault) as caught:
        ask(service, extension_mandatory=[{name: value}])
    assert caught.value.code is codes.DOOR_EXTENSION_UNMET
    assert ask(service, extension_optional=[{name: value}]).keys == 1
    assert service.demanded == [Requirements()]


def test_a_mandatory_extension_counts_where_an_optional_one_says_something_else(service: MemoryKeys) -> None:
    lesser = {"skex_claim_class": "computational", "skex_minimum_threshold": 2, "skex_purpose": "vpn"}
    assert ask(service, extension_mandatory=[ALL], extension_optional=[lesser]).keys == 1
    assert service.demanded == [DEMANDED]


@pytest.mark.parametrize("code", [codes.REQUIREMENTS_UNMET, codes.NOT_AUTHORISED])
def test_what_is_optional_and_cannot_be_met_is_left_out(service: MemoryKeys, code: ErrorCode) -> None:
    original = service.take_new

    async def take_new(
        caller: SaeId, slaves: Sequence[SaeId], number: int, size: int, asked: Requirements
    ) -> object:
        if asked.minimum_threshold is not None:
            raise Refused(code)
        return await original(caller, slaves, number, size, asked)

    service.take_new = take_new  # type: ignore[assignment,method-assign]  # a service that has no such keys
    assert ask(service, extension_optional=[{"skex_minimum_threshold": 5}]).keys == 1
    assert service.demanded == [Requirements()]


@pytest.mark.parametrize(
    ("member", "expected"),
    [("extension_mandatory", codes.DOOR_EXTENSION_UNMET), ("extension_optional", codes.REQUIREMENTS_UNMET)],
)
def test_no_key_that_meets_them_is_said_in_the_standards_words_if_they_are_mandatory(
    service: MemoryKeys, member: str, expected: ErrorCode
) -> None:
    service.fail = Refused(codes.REQUIREMENTS_UNMET)
    with pytest.raises(SkexError) as caught:
        ask(service, size=256, **{member: [ALL]})
    assert caught.value.code is expected


def test_a_kme_that_cannot_for_now_is_asked_once(service: MemoryKeys) -> None:
    service.fail = Refused(codes.NOT_ENOUGH_HUBS)
    with pytest.raises(Refused) as caught:
        ask(service, size=256, extension_optional=[ALL])
    assert caught.value.code is codes.NOT_ENOUGH_HUBS


def test_default_size_is_the_services(service: MemoryKeys) -> None:
    service.key_bytes = 48
    answer = take(service)
    assert len(json.loads(answer.body)["keys"][0]["key"]) == 64


def test_master_that_is_its_own_slave_is_refused(service: MemoryKeys) -> None:
    service.aliases["me"] = A
    for operation in Operation:
        with pytest.raises(DeliveryFault, match="same SAE"):
            asyncio.run(Handlers(service).answer(A, Call(operation, "me", ()), None))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused(codes.NOT_AUTHORISED, "rule 7"), 401),
        (Refused(codes.NAME_INVALID, "x"), 401),
        (DeliveryFault(codes.DOOR_IDENTITY, "x"), 401),
        (Refused(codes.KEY_NOT_HELD, "delivered"), 400),
        (Refused(codes.SLAVES_UNSUPPORTED), 400),
        (DeliveryFault(codes.DOOR_REQUEST, "number must be an integer"), 400),
        (Refused(codes.REQUIREMENTS_UNMET), 503),
        (Refused(codes.RECEIVER_ABSENT), 503),
        (Refused(codes.STORE_EXISTS), 503),
        (DeliveryFault(codes.DOOR_TIMEOUT), 503),
        (LocalBug(codes.BAD_STATE, "internal"), 503),
        (PeerFault(codes.RECORD_TAG, "internal"), 503),
    ],
)
def test_refusal_is_one_of_the_standards_codes_and_keeps_its_reason_for_the_log(
    error: SkexError, status: int
) -> None:
    answer = refusal(error)
    assert (answer.status, answer.code) == (status, error.code)
    assert error.detail not in answer.body.decode() or error.code is codes.DOOR_REQUEST or not error.detail


def test_answer_shows_no_key_in_its_representation(service: MemoryKeys) -> None:
    answer = take(service)
    assert json.loads(answer.body)["keys"][0]["key"] not in repr(answer)
