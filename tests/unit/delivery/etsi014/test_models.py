"""The standard's formats: total on whatever arrives, exact on what is right."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skex.base import codes, limits
from skex.base.errors import DeliveryFault, ErrorCode, LocalBug
from skex.base.ids import KmeName, SaeId
from skex.base.secret import Secret
from skex.delivery.etsi014 import strictjson
from skex.delivery.etsi014.models import (
    Call,
    KeyIds,
    KeyRequest,
    Operation,
    parse_key_ids_body,
    parse_key_ids_query,
    parse_key_request_body,
    parse_key_request_query,
    parse_target,
    render_error,
    render_keys,
    render_status,
)
from skex.keys.api import Cryptoperiod, DeliveredKey, KeyClaim, PairStatus
from skex.wire.claim import ClaimClass
from tests.support.memory_keys import CLAIM, PERIOD

ID = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")
Parsed = TypeVar("Parsed")
FORM_CODES = {codes.DOOR_REQUEST, codes.DOOR_SIZE_BITS}
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)
member_names = st.sampled_from(
    [
        "number",
        "size",
        "additional_slave_SAE_IDs",
        "extension_mandatory",
        "extension_optional",
        "key_IDs",
        "key_ID",
    ]
)
near_misses = st.dictionaries(member_names | st.text(max_size=5), trees, max_size=6)


def bodies() -> st.SearchStrategy[bytes]:
    """Noise, any JSON, and JSON that is nearly right."""
    return st.binary(max_size=200) | (trees | near_misses).map(lambda one: json.dumps(one).encode())


def depth(tree: Any) -> int:
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def outcome(parse: Callable[..., Parsed], *arguments: Any) -> Parsed | ErrorCode:
    """What was parsed, or the code of the refusal; anything else raised fails the test."""
    try:
        return parse(*arguments)
    except DeliveryFault as fault:
        return fault.code


# ── total ───────────────────────────────────────────────────────────────────────────────────────
@given(bodies())
def test_any_body_is_a_bounded_key_request_or_a_refusal(body: bytes) -> None:
    request = outcome(parse_key_request_body, body)
    if isinstance(request, ErrorCode):
        assert request in FORM_CODES
        return
    assert 1 <= request.number < 10**9
    assert request.key_bytes is None or 1 <= request.key_bytes < 10**9 / 8
    assert len(set(request.additional)) == len(request.additional) <= limits.DOOR_LIST_ITEMS
    assert all(name.isprintable() and name.strip() == name != "" for name in request.additional)


@given(bodies())
def test_any_body_is_a_list_of_different_ids_or_a_refusal(body: bytes) -> None:
    ids = outcome(parse_key_ids_body, body)
    if isinstance(ids, ErrorCode):
        assert ids is codes.DOOR_REQUEST
        return
    assert 1 <= len(set(ids.key_ids)) == len(ids.key_ids)


@given(
    st.sampled_from(["GET", "POST", "PUT", "HEAD", ""]),
    st.text(max_size=300)
    | st.from_regex(r"/api/v1/keys/.*/(status|enc_keys|dec_keys)(\?.*)?", fullmatch=True),
)
def test_any_request_line_is_a_call_or_a_refusal(method: str, target: str) -> None:
    call = outcome(parse_target, method, target)
    if isinstance(call, ErrorCode):
        assert call is codes.DOOR_REQUEST
        return
    assert method in {"GET", "POST"}
    assert 0 < len(call.sae) <= limits.POLICY_ALIAS_CHARACTERS
    assert len(call.query) <= limits.DOOR_QUERY_FIELDS


@given(st.sampled_from(["number", "size", "key_ID"]), st.text(max_size=100) | st.integers().map(str))
def test_any_query_is_a_request_or_a_refusal(key: str, text: str) -> None:
    query = [(key, text), (text, text)]
    request = outcome(parse_key_request_query, query)
    assert request in FORM_CODES or isinstance(request, KeyRequest)
    ids = outcome(parse_key_ids_query, query)
    assert ids is codes.DOOR_REQUEST or isinstance(ids, KeyIds)


@given(st.text(min_size=1, max_size=limits.POLICY_ALIAS_CHARACTERS))
def test_every_printable_name_comes_through_its_url_encoding(name: str) -> None:
    encoded = "".join(f"%{byte:02x}" for byte in name.encode("utf-8", "surrogatepass"))
    call = outcome(parse_target, "GET", f"/api/v1/keys/{encoded}/status")
    usable = name.isprintable() and name == name.strip()
    assert call == (Call(Operation.STATUS, name, ()) if usable else codes.DOOR_REQUEST)


# ── request lines ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("method", "target", "call"),
    [
        ("GET", "/api/v1/keys/b@s/status", Call(Operation.STATUS, "b@s", ())),
        (
            "GET",
            "/api/v1/keys/b%40s/enc_keys?number=2&size=",
            Call(Operation.ENC_KEYS, "b@s", (("number", "2"), ("size", ""))),
        ),
        ("POST", "/api/v1/keys/a%2Fb/dec_keys", Call(Operation.DEC_KEYS, "a/b", ())),
        ("POST", "HTTPS://h:1/api/v1/keys/a+b/dec_keys", Call(Operation.DEC_KEYS, "a+b", ())),
    ],
)
def test_request_line_is_read(method: str, target: str, call: Call) -> None:
    assert parse_target(method, target) == call


# ── requests ────────────────────────────────────────────────────────────────────────────────────
def test_key_request_is_read_whole() -> None:
    body = {
        "number": 3,
        "size": 384,
        "additional_slave_SAE_IDs": ["c@s", "d@s"],
        "extension_mandatory": [{"acme_a": 1}, {"acme_b": {"deep": [1]}}],
        "extension_optional": [{"acme_c": None}],
        "more": {},
    }
    assert parse_key_request_body(json.dumps(body).encode()) == KeyRequest(
        number=3,
        key_bytes=48,
        additional=("c@s", "d@s"),
        mandatory=(("acme_a", 1), ("acme_b", {"deep": [1]})),
        optional=(("acme_c", None),),
        ignored=("more",),
    )


@pytest.mark.parametrize("body", [b"", b" \r\n", b"{}", b'{"number":null,"size":null}'])
def test_empty_key_request_has_the_defaults(body: bytes) -> None:
    assert parse_key_request_body(body) == KeyRequest()


def test_query_is_read_and_unknown_fields_are_named() -> None:
    assert parse_key_request_query([("number", "2"), ("size", "128"), ("x", "1")]) == KeyRequest(
        number=2, key_bytes=16, ignored=("x",)
    )
    assert parse_key_ids_query([("key_ID", str(ID)), ("x", "1")]) == KeyIds((ID,), ("x",))


def test_ids_are_read_in_their_order_and_extensions_are_named_once() -> None:
    other = uuid.UUID(int=5)
    body = {
        "key_IDs": [
            {"key_ID": str(ID).upper(), "key_ID_extension": 1},
            {"key_ID": str(other), "key_ID_extension": 2},
        ],
        "key_IDs_extension": {},
    }
    assert parse_key_ids_body(json.dumps(body).encode()) == KeyIds(
        (ID, other), ("key_IDs_extension", "key_ID_extension")
    )


@pytest.mark.parametrize(
    "body",
    [
        {"extension_mandatory": [{"a_x": 1}, {"a_x": 2}]},
        {"extension_mandatory": {"a_x": 1}},
        {"extension_optional": ["a_x"]},
        {"extension_optional": [{}] * (limits.DOOR_LIST_ITEMS + 1)},
        {"number": 10**9},
        {"size": 8 * 10**9},
        {"number": -1},
        {"size": -8},
        {"size": 0},
        {"size": False},
        {"size": "256"},
        {"number": 1e3},
        {"additional_slave_SAE_IDs": [None]},
        {"additional_slave_SAE_IDs": ["\ud800"]},
        {"additional_slave_SAE_IDs": ["a\nb"]},
        {"additional_slave_SAE_IDs": [" a"]},
    ],
)
def test_malformed_key_request_is_refused(body: Any) -> None:
    with pytest.raises(DeliveryFault) as caught:
        parse_key_request_body(json.dumps(body).encode())
    assert caught.value.code is codes.DOOR_REQUEST


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────
@given(trees)
def test_json_is_read_as_it_was_written(tree: Any) -> None:
    assume(depth(tree) <= limits.DOOR_JSON_DEPTH)
    text = json.dumps(tree)
    assert strictjson.parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"1" * 5000,
        b"{}{}",
        b"'a'",
        b'"\\ud8',
        b"[" * (limits.DOOR_JSON_DEPTH + 1) + b"]" * (limits.DOOR_JSON_DEPTH + 1),
        b"[" * 60_000,
        b'{"":' * 10_000,
    ],
)
def test_json_that_two_parsers_could_read_differently_is_refused(data: bytes) -> None:
    with pytest.raises(DeliveryFault) as caught:
        strictjson.parse(data)
    assert caught.value.code is codes.DOOR_REQUEST


def test_depth_counts_brackets_but_not_those_in_strings() -> None:
    deepest = b"[" * limits.DOOR_JSON_DEPTH + b"]" * limits.DOOR_JSON_DEPTH
    assert isinstance(strictjson.parse(deepest), list)
    assert strictjson.parse(json.dumps('[{"\\' * 100).encode()) == '[{"\\' * 100
    assert strictjson.parse(b"[" + b"[]," * 100 + b"[]]") == [[]] * 101


# ── answers ─────────────────────────────────────────────────────────────────────────────────────
def test_keys_are_base64_and_wiped_once_rendered() -> None:
    secret = Secret(bytes(range(32)))
    rendered = json.loads(render_keys([DeliveredKey(ID, secret, CLAIM, PERIOD)]))
    assert rendered["keys"] == [{"key_ID": str(ID), "key": base64.b64encode(bytes(range(32))).decode()}]
    assert secret.wiped


def test_what_all_keys_rest_on_is_said_once_and_what_they_do_not_share_of_each() -> None:
    weaker = replace(CLAIM, claim_class=ClaimClass.INFORMATION_THEORETIC, margin=1)
    endless = replace(PERIOD, uses=None)

    def rendered(*of: tuple[KeyClaim, Cryptoperiod]) -> Any:
        return json.loads(render_keys([DeliveredKey(ID, Secret(b"k" * 16), *one) for one in of]))

    alike = rendered((CLAIM, PERIOD), (CLAIM, PERIOD))
    assert [set(one) for one in alike["keys"]] == [{"key_ID", "key"}] * 2
    assert alike["key_container_extension"]["skex_claim"]["class"] == "computational"
    mixed = rendered((CLAIM, PERIOD), (weaker, endless))
    assert "key_container_extension" not in mixed
    first, second = (one["key_extension"] for one in mixed["keys"])
    assert first["skex_claim"]["margin"] == 0
    assert second["skex_claim"] == {
        "class": "information-theoretic",
        "threshold": 3,
        "effective_threshold": 2,
        "margin": 1,
        "randomness": "system",
        "enrolment": "carried-in-clear",
    }
    assert second["skex_cryptoperiod"] == {"lifetime_seconds": 86_400, "use_seconds": 3600}


def test_keys_are_wiped_even_if_one_cannot_be_rendered() -> None:
    good, gone = Secret(b"a" * 16), Secret(b"b" * 16)
    gone.wipe()
    with pytest.raises(LocalBug):
        render_keys([DeliveredKey(ID, one, CLAIM, PERIOD) for one in (good, gone)])
    assert good.wiped


@pytest.mark.parametrize(("slaves", "additional"), [(0, 0), (1, 0), (64, 63)])
def test_status_counts_additional_slaves_only(slaves: int, additional: int) -> None:
    status = PairStatus(
        source_kme=KmeName("s"),
        target_kme=KmeName("t"),
        master=SaeId("a@s"),
        slave=SaeId("b@t"),
        key_bytes=32,
        stored=5,
        stored_max=9,
        per_request_max=7,
        key_bytes_min=16,
        key_bytes_max=64,
        slaves_max=slaves,
    )
    rendered = json.loads(render_status(status))
    assert rendered["max_SAE_ID_count"] == additional
    assert (rendered["min_key_size"], rendered["key_size"], rendered["max_key_size"]) == (128, 256, 512)


def test_error_has_details_only_where_there_are_any() -> None:
    assert render_error("m") == b'{"message":"m"}'
    assert render_error("m", [{"code": "c"}]) == b'{"message":"m","details":[{"code":"c"}]}'
