"""The OpenAPI document describes what is served: the same paths and methods, and every answer fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

import pytest
from jsonschema import Draft202012Validator

from skex.base import codes, limits
from skex.base.errors import DeliveryFault, Refused, StoreFault
from skex.delivery.etsi014.answers import refusal
from skex.delivery.etsi014.models import (
    METHODS,
    PATH_PREFIX,
    Operation,
    parse_key_ids_body,
    parse_key_request_body,
)
from tests.api.conftest import MASTER, SLAVE, Sites
from tests.support.door import Reply

DOCUMENT: dict[str, Any] = json.loads(
    files("skex.delivery.etsi014").joinpath("openapi.json").read_text("utf-8")
)
METHOD_NAMES = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


def resolved(value: Any) -> Any:
    """The document without references."""
    if isinstance(value, list):
        return [resolved(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        found: Any = DOCUMENT
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[unquote(part)]
        return resolved(found)
    return {name: resolved(one) for name, one in value.items()}


def operations() -> Iterator[tuple[str, str, Any]]:
    for path, item in resolved(DOCUMENT["paths"]).items():
        for method in METHOD_NAMES & set(item):
            yield path, method.upper(), item[method]


def validator(name: str) -> Draft202012Validator:
    schema = resolved(DOCUMENT["components"]["schemas"][name])
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_paths_and_methods_are_those_that_are_served() -> None:
    documented = {(path, method) for path, method, _ in operations()}
    names = {Operation.STATUS: "slave", Operation.ENC_KEYS: "slave", Operation.DEC_KEYS: "master"}
    served = {
        (f"{PATH_PREFIX}{{{names[operation]}_SAE_ID}}/{operation.value}", method)
        for operation, methods in METHODS.items()
        for method in methods
    }
    assert documented == served


def test_every_operation_documents_exactly_the_standards_codes() -> None:
    assert {tuple(sorted(one["responses"])) for _, _, one in operations()} == {("200", "400", "401", "503")}


def test_bounds_in_the_document_are_those_of_the_parser() -> None:
    request = resolved(DOCUMENT["components"]["schemas"]["KeyRequest"])["properties"]
    listed = request["additional_slave_SAE_IDs"]["anyOf"][0]
    assert listed["maxItems"] == limits.DOOR_LIST_ITEMS
    assert listed["items"]["maxLength"] == limits.POLICY_ALIAS_CHARACTERS
    for maximum in (request["number"]["anyOf"][0]["maximum"], request["size"]["anyOf"][0]["maximum"] - 7):
        assert parse_key_request_body(json.dumps({"number": maximum}).encode()).number == maximum
    with pytest.raises(DeliveryFault):
        parse_key_request_body(b'{"number": 1000000000}')


ID = "550e8400-e29b-41d4-a716-446655440000"
# One value for each rule of the schemas, on both sides of it.
REQUESTS: dict[str, list[object]] = {
    "KeyRequest": [
        {},
        {"number": 1, "size": 8},
        {"number": None, "size": None, "extension_mandatory": None, "additional_slave_SAE_IDs": None},
        {"number": 0},
        {"number": "1"},
        {"size": 0},
        {"size": 9},
        {"additional_slave_SAE_IDs": []},
        {"additional_slave_SAE_IDs": ["x"]},
        {"additional_slave_SAE_IDs": ["x", "x"]},
        {"additional_slave_SAE_IDs": [""]},
        {"additional_slave_SAE_IDs": ["x" * 128]},
        {"additional_slave_SAE_IDs": ["x" * 129]},
        {"additional_slave_SAE_IDs": "x"},
        {"additional_slave_SAE_IDs": [1]},
        {"extension_optional": [{"a_b": 1}]},
        {"extension_optional": [{}] * 1025},
        {"extension_mandatory": [1]},
        {"extension_optional": {}},
        {"anything": 1},
        [],
        None,
        1,
    ],
    "KeyIds": [
        {},
        {"key_IDs": []},
        {"key_IDs": None},
        {"key_IDs": [{"key_ID": ID}]},
        {"key_IDs": [{"key_ID": ID.upper(), "key_ID_extension": {}}]},
        {"key_IDs": [{"key_ID": ID.replace("-", "")}]},
        {"key_IDs": [{}]},
        {"key_IDs": [ID]},
        {"key_IDs": [{"key_ID": ID}], "key_IDs_extension": {}},
        [],
    ],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REQUESTS.items() for value in values]
)
def test_document_and_parser_accept_the_same_requests(name: str, value: object) -> None:
    parse = parse_key_request_body if name == "KeyRequest" else parse_key_ids_body
    try:
        parse(json.dumps(value).encode())
        accepted = True
    except DeliveryFault:
        accepted = False
    assert validator(name).is_valid(value) == accepted


def check(path: str, method: str, reply: Reply) -> None:
    """The answer is one that the document allows for this operation."""
    (operation,) = (one for where, how, one in operations() if (where, how) == (path, method))
    documented = operation["responses"][str(reply.status)]
    for name, header in documented["headers"].items():
        Draft202012Validator(header["schema"]).validate(reply.headers[name.lower()])
    content = documented["content"]["application/json"]["schema"]
    Draft202012Validator(content, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(reply.json)


def test_answers_are_as_documented(sites: Sites) -> None:
    status, enc = (f"{PATH_PREFIX}{{slave_SAE_ID}}/{one}" for one in ("status", "enc_keys"))
    dec = f"{PATH_PREFIX}{{master_SAE_ID}}/dec_keys"
    at = f"{PATH_PREFIX}{SLAVE}/"
    check(status, "GET", sites.a.knock(MASTER, at + "status"))
    check(status, "GET", sites.a.knock(MASTER, f"{PATH_PREFIX}nobody/status"))
    made = sites.a.post(MASTER, at + "enc_keys", {"number": 2})
    check(enc, "POST", made)
    check(enc, "GET", sites.a.knock(MASTER, at + "enc_keys?size=128"))
    check(enc, "GET", sites.a.knock(MASTER, at + "enc_keys?size=129"))
    wanted = {"key_IDs": [{"key_ID": one["key_ID"]} for one in made.json["keys"]]}
    for status_code in (200, 400):
        reply = sites.b.post(SLAVE, f"{PATH_PREFIX}{MASTER}/dec_keys", wanted)
        assert reply.status == status_code
        check(dec, "POST", reply)
    check(dec, "GET", sites.b.knock(SLAVE, f"{PATH_PREFIX}{MASTER}/dec_keys?key_ID=x"))
    for error in (Refused(codes.NOT_READY), StoreFault(codes.STORE_IO)):
        sites.keys_a.fail = error
        reply = sites.a.knock(MASTER, at + "status")
        assert reply.status == 503
        check(status, "GET", reply)


def test_every_refusal_there_is_has_a_documented_form() -> None:
    schema = validator("Error")
    for code in codes.all_codes():
        if code.family.value in {"refused", "delivery"}:
            error = (Refused if code.family.value == "refused" else DeliveryFault)(code, "what is wrong")
            answer = refusal(error)
            assert answer.status in {400, 401, 503}
            schema.validate(json.loads(answer.body))
